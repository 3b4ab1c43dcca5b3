//! A group that a device belongs to: who wants it, from which sources, and what routers are still to be told.
//!
//! linux: net/ipv4/igmp.c, include/linux/igmp.h (`ip_mc_list`, `ip_sf_list`); RFC 3376 sections 3.2 and 5.1.
//! Invariant: a source is in `sources` while some filter names it, in `tomb` while routers are to be told that none
//! does any more.

use std::collections::{BTreeMap, BTreeSet};
use uapi::errno::Errno;
use uapi::igmp::{
    IGMPV3_ALLOW_NEW_SOURCES, IGMPV3_BLOCK_OLD_SOURCES, IGMPV3_CHANGE_TO_EXCLUDE,
    IGMPV3_CHANGE_TO_INCLUDE, IGMPV3_MODE_IS_EXCLUDE, IGMPV3_MODE_IS_INCLUDE,
};

use crate::kernel::time::Ktime;

/// What a filter's list of sources means.
///
/// linux: include/uapi/linux/in.h:MCAST_INCLUDE
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SfMode {
    /// All but those listed.
    #[default]
    Exclude,
    /// Those listed alone.
    Include,
}

/// A source that filters of a group name.
///
/// linux: include/linux/igmp.h:ip_sf_list
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Source {
    /// When it came, among the others.
    seq: u64,
    /// Filters that name it, by mode.
    count: [u32; 2],
    /// It was wanted before the present change.
    old_in: bool,
    /// A query asks for it.
    gs_resp: bool,
    /// Reports of its change that are still to be sent.
    pub crcount: u8,
}

/// Sources by address, with the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    by_addr: BTreeMap<u32, Source>,
    next: u64,
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.by_addr.is_empty()
    }

    pub(super) fn get_mut(&mut self, addr: u32) -> Option<&mut Source> {
        self.by_addr.get_mut(&addr)
    }

    pub(super) fn remove(&mut self, addr: u32) {
        self.by_addr.remove(&addr);
    }

    fn get_or_add(&mut self, addr: u32) -> &mut Source {
        let next = &mut self.next;
        self.by_addr.entry(addr).or_insert_with(|| {
            *next += 1;
            Source { seq: *next, ..Source::default() }
        })
    }

    /// In the order in which they came.
    pub(super) fn in_order(&self) -> Vec<u32> {
        let mut all: Vec<(u64, u32)> = self.by_addr.iter().map(|(a, s)| (s.seq, *a)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, addr)| addr).collect()
    }
}

/// What a record is about that is there no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    /// The group.
    pub group: bool,
    /// The sources.
    pub sources: bool,
}

/// A group of a device.
///
/// linux: include/linux/igmp.h:ip_mc_list
#[derive(Clone, Debug, Default)]
pub(super) struct IpMcList {
    pub multiaddr: u32,
    /// When it was joined, among the device's others.
    pub seq: u64,
    /// Sockets that belong to it, and this machine itself.
    pub users: u32,
    /// What routers are told.
    pub sfmode: SfMode,
    /// Filters of each mode.
    pub sfcount: [u32; 2],
    pub sources: Sources,
    pub tomb: Sources,
    /// Reports of its change of mode that are still to be sent.
    pub crcount: u8,
    /// Its device's filters know it.
    pub loaded: bool,
    /// When its timer goes off (`tm_running`).
    pub timer: Option<Ktime>,
    /// Reports nobody asked for that are still to be sent (version 1 and 2).
    pub unsolicit_count: u8,
    /// The last report on the link was ours.
    pub reporter: bool,
    /// A query asks for some of its sources alone.
    pub gsquery: bool,
}

impl IpMcList {
    /// A group that somebody wants from now on.
    pub(super) fn new(multiaddr: u32, sfmode: SfMode) -> Self {
        let mut im = Self { multiaddr, users: 1, sfmode, ..Self::default() };
        im.sfcount[sfmode as usize] = 1;
        im
    }

    pub(super) fn excludes(&self) -> bool {
        self.sfcount[SfMode::Exclude as usize] != 0
    }

    /// May a packet of `saddr` come in? Zero: of whom it is is not known yet.
    ///
    /// linux: net/ipv4/igmp.c:ip_check_mc_rcu
    pub(super) fn lets_in(&self, saddr: u32) -> bool {
        if saddr == 0 {
            return true;
        }
        match self.sources.by_addr.get(&saddr) {
            Some(source) => {
                source.count[SfMode::Include as usize] != 0
                    || source.count[SfMode::Exclude as usize]
                        != self.sfcount[SfMode::Exclude as usize]
            }
            None => self.excludes(),
        }
    }

    fn wants(&self, source: &Source) -> bool {
        let [exclude, include] = source.count;
        match self.excludes() {
            true => self.sfcount[SfMode::Exclude as usize] == exclude && include == 0,
            false => include != 0,
        }
    }

    /// Notes which sources' state the change that follows begins from.
    ///
    /// linux: net/ipv4/igmp.c:sf_markstate
    fn sf_markstate(&mut self) {
        let was: Vec<(u32, bool)> =
            self.sources.by_addr.iter().map(|(addr, s)| (*addr, self.wants(s))).collect();
        for (addr, old_in) in was {
            if let Some(source) = self.sources.get_mut(addr) {
                source.old_in = old_in;
            }
        }
    }

    /// Each source whose state has changed is to be told of so many times; true if there is one.
    ///
    /// linux: net/ipv4/igmp.c:sf_setstate
    fn sf_setstate(&mut self, qrv: u8) -> bool {
        let mut changed = false;
        let now: Vec<(u32, bool)> =
            self.sources.by_addr.iter().map(|(addr, s)| (*addr, self.wants(s))).collect();
        for (addr, new_in) in now {
            let Some(source) = self.sources.get_mut(addr) else { continue };
            if new_in && !source.old_in {
                source.crcount = qrv;
                self.tomb.remove(addr);
                changed = true;
            } else if !new_in && source.old_in {
                source.crcount = 0;
                self.tomb.get_or_add(addr).crcount = qrv;
                changed = true;
            }
        }
        changed
    }

    /// The mode that routers are told changes, so many times; what is told of sources goes with it.
    fn mode_change(&mut self, sfmode: SfMode, qrv: u8) {
        self.sfmode = sfmode;
        self.crcount = qrv;
        self.sources.by_addr.values_mut().for_each(|source| source.crcount = 0);
    }

    /// A filter is added (`delta`: one that is there gets more sources); what is to be told of it.
    ///
    /// linux: net/ipv4/igmp.c:ip_mc_add_src
    pub(super) fn ip_mc_add_src(&mut self, filter: Filter<'_>, qrv: u8) -> Changed {
        let was_exclude = self.sfmode == SfMode::Exclude;
        self.sf_markstate();
        if !filter.delta {
            self.sfcount[filter.sfmode as usize] += 1;
        }
        for addr in filter.sources {
            self.sources.get_or_add(*addr).count[filter.sfmode as usize] += 1;
        }
        if was_exclude != self.excludes() {
            // Without any filter the mode stays, for reports.
            let mode = match (self.excludes(), self.sfcount[SfMode::Include as usize]) {
                (true, _) => SfMode::Exclude,
                (false, 0) => self.sfmode,
                (false, _) => SfMode::Include,
            };
            self.mode_change(mode, qrv);
            Changed::Mode
        } else if self.sf_setstate(qrv) {
            Changed::Sources
        } else {
            Changed::Nothing
        }
    }

    /// A filter goes, or some of its sources; `tell`: routers that know of sources are told.
    ///
    /// # Errors
    /// EINVAL, ESRCH for a filter or source that is not there.
    ///
    /// linux: net/ipv4/igmp.c:ip_mc_del_src
    pub(super) fn ip_mc_del_src(
        &mut self,
        filter: Filter<'_>,
        qrv: u8,
        tell: bool,
    ) -> Result<Changed, Errno> {
        self.sf_markstate();
        if !filter.delta {
            let count = &mut self.sfcount[filter.sfmode as usize];
            *count = count.checked_sub(1).ok_or(Errno::EINVAL)?;
        }
        let (mut told, mut done) = (false, Ok(()));
        for addr in filter.sources {
            match self.ip_mc_del1_src(filter.sfmode, *addr, (qrv, tell)) {
                Ok(changed) => told |= changed,
                Err(error) => done = done.and(Err(error)),
            }
        }
        let changed = if self.sfmode == SfMode::Exclude
            && !self.excludes()
            && self.sfcount[SfMode::Include as usize] != 0
        {
            self.mode_change(SfMode::Include, qrv);
            Changed::Mode
        } else if self.sf_setstate(qrv) || told {
            Changed::Sources
        } else {
            Changed::Nothing
        };
        done.map(|()| changed)
    }

    /// linux: net/ipv4/igmp.c:ip_mc_del1_src
    fn ip_mc_del1_src(
        &mut self,
        sfmode: SfMode,
        addr: u32,
        (qrv, tell): (u8, bool),
    ) -> Result<bool, Errno> {
        let source = self.sources.get_mut(addr).ok_or(Errno::ESRCH)?;
        let count = &mut source.count[sfmode as usize];
        *count = count.checked_sub(1).ok_or(Errno::ESRCH)?;
        if source.count != [0, 0] {
            return Ok(false);
        }
        let tell = tell && source.old_in;
        self.sources.remove(addr);
        if tell {
            self.tomb.get_or_add(addr).crcount = qrv;
        }
        Ok(tell)
    }

    /// A record of this type has the source.
    ///
    /// linux: net/ipv4/igmp.c:is_in
    pub(super) fn is_in(&self, source: &Source, kind: u8, deleted: Deleted) -> bool {
        let [exclude, include] = source.count;
        let by_all = self.sfcount[SfMode::Exclude as usize] == exclude;
        match kind {
            IGMPV3_MODE_IS_INCLUDE | IGMPV3_MODE_IS_EXCLUDE => {
                if deleted != Deleted::default() || self.gsquery && !source.gs_resp {
                    return false;
                }
                match (self.sfmode, include) {
                    (SfMode::Include, _) => true,
                    (SfMode::Exclude, 0) => by_all,
                    (SfMode::Exclude, _) => kind == IGMPV3_MODE_IS_INCLUDE,
                }
            }
            IGMPV3_CHANGE_TO_INCLUDE => deleted == Deleted::default() && include != 0,
            IGMPV3_CHANGE_TO_EXCLUDE => {
                deleted == Deleted::default() && self.excludes() && include == 0 && by_all
            }
            IGMPV3_ALLOW_NEW_SOURCES => {
                let includes = self.sfmode == SfMode::Include;
                !deleted.group && source.crcount != 0 && includes != deleted.sources
            }
            IGMPV3_BLOCK_OLD_SOURCES if self.sfmode == SfMode::Include => {
                deleted.group || source.crcount != 0 && deleted.sources
            }
            IGMPV3_BLOCK_OLD_SOURCES => source.crcount != 0 && deleted == Deleted::default(),
            _ => false,
        }
    }

    /// The sources that a record of this type has, in order.
    pub(super) fn sources_in(&mut self, kind: u8, deleted: Deleted) -> Vec<u32> {
        let list = if deleted.sources { &self.tomb } else { &self.sources };
        let has = |addr: &u32| {
            list.by_addr.get(addr).is_some_and(|source| self.is_in(source, kind, deleted))
        };
        list.in_order().into_iter().filter(has).collect()
    }

    /// The list that a record is made from.
    pub(super) fn list_mut(&mut self, deleted: Deleted) -> &mut Sources {
        if deleted.sources { &mut self.tomb } else { &mut self.sources }
    }

    /// A query asks for some sources; false if none of them is any of ours.
    ///
    /// linux: net/ipv4/igmp.c:igmp_marksources
    pub(super) fn igmp_marksources(&mut self, asked: &[u32]) -> bool {
        if self.sfmode == SfMode::Exclude {
            return self.igmp_xmarksources(asked);
        }
        let mut hit = false;
        for addr in asked {
            if let Some(source) = self.sources.get_mut(*addr) {
                source.gs_resp = true;
                hit = true;
            }
        }
        self.gsquery = hit;
        hit
    }

    /// linux: net/ipv4/igmp.c:igmp_xmarksources
    fn igmp_xmarksources(&mut self, asked: &[u32]) -> bool {
        self.gsquery = false;
        let refused =
            |addr: &&u32| self.sources.by_addr.get(addr).is_some_and(|source| self.wants(source));
        // One that is asked for twice is one all the same, and the query then one of more than are excluded.
        let distinct: BTreeSet<u32> = asked.iter().filter(refused).copied().collect();
        distinct.len() != asked.len()
    }

    /// What a source says when the answer to a query is made: it was asked for no more.
    pub(super) fn answered(&mut self, addr: u32, deleted: Deleted) {
        if let Some(source) = self.list_mut(deleted).get_mut(addr) {
            source.gs_resp = false;
        }
    }

    /// Sources, each with the filters that include and exclude it, in order.
    pub(super) fn mcfilter(&self) -> Vec<(u32, u32, u32)> {
        let counts = |addr: u32| {
            let [exclude, include] = self.sources.by_addr.get(&addr).map_or([0; 2], |s| s.count);
            (addr, include, exclude)
        };
        self.sources.in_order().into_iter().map(counts).collect()
    }

    /// Every source is to be told of so many times.
    pub(super) fn tell_sources(&mut self, qrv: u8) {
        self.sources.by_addr.values_mut().for_each(|source| source.crcount = qrv);
    }

    /// Sources of which nothing more is to be told go.
    ///
    /// linux: net/ipv4/igmp.c:igmpv3_clear_zeros
    pub(super) fn clear_zeros(&mut self) {
        self.tomb.by_addr.retain(|_, source| source.crcount != 0);
        self.sources.by_addr.retain(|_, source| source.crcount != 0);
    }
}

/// A filter of a socket, or what of it changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter<'a> {
    pub sfmode: SfMode,
    pub sources: &'a [u32],
    /// Sources of a filter that is there and stays.
    pub delta: bool,
}

/// What of a group is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Nothing,
    Sources,
    Mode,
}
