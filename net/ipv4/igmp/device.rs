//! IGMP on one device: its groups, what queriers said, and the timers of reports.
//!
//! linux: net/ipv4/igmp.c, include/linux/inetdevice.h (`in_device.mr_*`); RFC 2236, RFC 3376. Key types: [`McDev`],
//! [`IgmpCx`]. Contexts: BH, under the lock of [`IgmpTable`](super::IgmpTable), which sends what a call leaves in
//! [`IgmpCx::out`] when the lock is free again.
//! Invariants: a running timer of a group stands in `timers` once; what is deferred is bounded by the groups and by
//! [`MAX_TOMBS`].

use super::group::{Changed, Filter, IpMcList, SfMode};
use super::report::Reports;
use crate::kernel::time::Ktime;
use klib::random::Csprng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::igmp::{
    IGMP_ALL_HOSTS, IGMP_HOST_LEAVE_MESSAGE, IGMP_HOST_MEMBERSHIP_REPORT,
    IGMPV2_HOST_MEMBERSHIP_REPORT,
};
use uapi::in_::ipv4_is_local_multicast;

/// linux: net/ipv4/igmp.c:IGMP_QUERY_INTERVAL
const IGMP_QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// linux: net/ipv4/igmp.c:IGMP_QUERY_RESPONSE_INTERVAL
pub(super) const IGMP_QUERY_RESPONSE_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time there is: what counts as none.
///
/// linux: net/ipv4/igmp.c:IGMP_INITIAL_REPORT_DELAY
pub(super) const IGMP_INITIAL_REPORT_DELAY: Duration = Duration::from_millis(1);
/// Every timer is set so much later.
const LATER: Duration = Duration::from_millis(2);
/// Groups that were left, of which routers are still to be told, at most: the oldest give way. Linux has no bound.
const MAX_TOMBS: usize = 1024;

/// What settings say to IGMP on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct IgmpParms {
    /// `igmp_qrv`.
    pub qrv: u8,
    /// `igmp_link_local_mcast_reports`.
    pub llm_reports: bool,
    /// `force_igmp_version`; zero: as queriers say.
    pub force_version: u8,
    /// `igmpv2_unsolicited_report_interval`.
    pub v2_interval: Duration,
    /// `igmpv3_unsolicited_report_interval`.
    pub v3_interval: Duration,
    /// The device's MTU in octets.
    pub mtu: usize,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Of version 1 or 2: its type and group.
    Plain { kind: u8, group: u32 },
    /// Of version 3: all of it but the checksum.
    V3(Vec<u8>),
}

/// What a device's filters are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilterOp {
    Add(u32),
    Del(u32),
}

/// What an event leads to, to be done without the lock.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub send: Vec<Message>,
    pub filter: Vec<FilterOp>,
}

/// What an event meets, and what it leads to.
pub(super) struct IgmpCx<'a> {
    pub now: Ktime,
    pub parms: IgmpParms,
    pub rng: &'a mut Csprng,
    pub out: Effects,
}

impl IgmpCx<'_> {
    /// Some time within `max`, from now on.
    fn within(&mut self, max: Duration) -> Ktime {
        let ms = u32::try_from(max.as_millis()).unwrap_or(u32::MAX);
        self.now + Duration::from_millis(self.rng.below(ms.max(1)).into()) + LATER
    }
}

/// The groups of a device, and its side of IGMP.
#[derive(Debug, Default)]
pub(super) struct McDev {
    groups: BTreeMap<u32, IpMcList>,
    /// Groups by when they were joined: Linux has the last one first.
    order: BTreeMap<u64, u32>,
    next: u64,
    /// Groups that were left, the last one last.
    pub(super) tombs: Vec<IpMcList>,
    /// Running timers of groups.
    timers: BTreeSet<(Ktime, u32)>,
    /// Queriers of version 1 and 2 count until then.
    pub(super) v1_seen: Ktime,
    pub(super) v2_seen: Ktime,
    /// When the answer to a general query is due.
    pub(super) gq: Option<Ktime>,
    /// When the next report of changes is.
    ifc: Option<Ktime>,
    /// Such reports that are still to be sent.
    pub(super) ifc_count: u8,
    pub(super) max_delay: Duration,
    /// The querier's robustness variable; zero: none has said.
    pub(super) qrv: u8,
    /// The querier's interval, and the time for answers.
    pub(super) qi: Duration,
    pub(super) qri: Duration,
    /// The device is up: its timers run, its filters know its groups.
    pub(super) up: bool,
}

impl McDev {
    /// The groups, the last one that was joined first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &IpMcList> {
        self.order.values().rev().filter_map(|group| self.groups.get(group))
    }

    pub(super) fn members(&self) -> Vec<u32> {
        self.order.values().rev().copied().collect()
    }

    pub(super) fn get(&self, group: u32) -> Option<&IpMcList> {
        self.groups.get(&group)
    }

    pub(super) fn get_mut(&mut self, group: u32) -> Option<&mut IpMcList> {
        self.groups.get_mut(&group)
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Routers are told of it: not of the group of all hosts, and of the link's own only if that is asked for.
    pub(super) fn reported(group: u32, parms: &IgmpParms) -> bool {
        group != IGMP_ALL_HOSTS && (parms.llm_reports || !ipv4_is_local_multicast(group))
    }

    /// linux: net/ipv4/igmp.c:IGMP_V1_SEEN
    pub(super) fn v1(&self, cx: &IgmpCx<'_>) -> bool {
        cx.parms.force_version == 1 || cx.now < self.v1_seen
    }

    /// linux: net/ipv4/igmp.c:IGMP_V2_SEEN
    pub(super) fn v2(&self, cx: &IgmpCx<'_>) -> bool {
        cx.parms.force_version == 2 || cx.now < self.v2_seen
    }

    pub(super) fn robustness(&self, cx: &IgmpCx<'_>) -> u8 {
        if self.qrv != 0 { self.qrv } else { cx.parms.qrv }
    }

    /// linux: net/ipv4/igmp.c:unsolicited_report_interval
    fn unsolicited_report_interval(&self, cx: &IgmpCx<'_>) -> Duration {
        if self.v1(cx) || self.v2(cx) { cx.parms.v2_interval } else { cx.parms.v3_interval }
    }

    /// One more belongs to a group.
    ///
    /// linux: net/ipv4/igmp.c:ip_mc_inc_group
    pub(super) fn ip_mc_inc_group(&mut self, cx: &mut IgmpCx<'_>, group: u32, sfmode: SfMode) {
        if let Some(im) = self.groups.get_mut(&group) {
            im.users += 1;
            let none = Filter { sfmode, sources: &[], delta: false };
            // It is there: nothing fails.
            let _found = self.ip_mc_add_src(cx, group, none);
            return;
        }
        self.next += 1;
        let mut im = IpMcList { seq: self.next, ..IpMcList::new(group, sfmode) };
        self.igmpv3_del_delrec(cx, &mut im);
        self.order.insert(self.next, group);
        self.groups.insert(group, im);
        self.igmp_group_added(cx, group);
    }

    /// One less does.
    ///
    /// linux: net/ipv4/igmp.c:__ip_mc_dec_group
    pub(super) fn ip_mc_dec_group(&mut self, cx: &mut IgmpCx<'_>, group: u32) {
        let Some(im) = self.groups.get_mut(&group) else { return };
        im.users -= 1;
        if im.users == 0 {
            self.igmp_group_dropped(cx, group);
            if let Some(im) = self.groups.remove(&group) {
                self.order.remove(&im.seq);
            }
        }
    }

    /// # Errors
    /// ESRCH for a group that the device does not belong to.
    pub(super) fn ip_mc_add_src(
        &mut self,
        cx: &mut IgmpCx<'_>,
        group: u32,
        filter: Filter<'_>,
    ) -> Result<(), Errno> {
        let qrv = self.robustness(cx);
        let im = self.groups.get_mut(&group).ok_or(Errno::ESRCH)?;
        let changed = im.ip_mc_add_src(filter, qrv);
        self.tell(cx, changed);
        Ok(())
    }

    /// # Errors
    /// As [`IpMcList::ip_mc_del_src`]; ESRCH.
    pub(super) fn ip_mc_del_src(
        &mut self,
        cx: &mut IgmpCx<'_>,
        group: u32,
        filter: Filter<'_>,
    ) -> Result<(), Errno> {
        let (qrv, tell) = (self.robustness(cx), !self.v1(cx) && !self.v2(cx));
        let im = self.groups.get_mut(&group).ok_or(Errno::ESRCH)?;
        let changed = im.ip_mc_del_src(filter, qrv, tell)?;
        self.tell(cx, changed);
        Ok(())
    }

    fn tell(&mut self, cx: &mut IgmpCx<'_>, changed: Changed) {
        if changed != Changed::Nothing {
            self.igmp_ifc_event(cx);
        }
    }

    /// Groups or filters have changed: routers are told, so many times.
    ///
    /// linux: net/ipv4/igmp.c:igmp_ifc_event
    fn igmp_ifc_event(&mut self, cx: &mut IgmpCx<'_>) {
        if self.v1(cx) || self.v2(cx) || !self.up {
            return;
        }
        self.ifc_count = self.robustness(cx);
        self.ifc = Some(cx.within(IGMP_INITIAL_REPORT_DELAY));
    }

    /// The device belongs to a group from now on.
    ///
    /// linux: net/ipv4/igmp.c:igmp_group_added
    fn igmp_group_added(&mut self, cx: &mut IgmpCx<'_>, group: u32) {
        let (old, qrv) = (self.v1(cx) || self.v2(cx), self.robustness(cx));
        let Some(im) = self.groups.get_mut(&group) else { return };
        if !std::mem::replace(&mut im.loaded, true) {
            cx.out.filter.push(FilterOp::Add(group));
        }
        if !Self::reported(group, &cx.parms) {
            return;
        }
        im.unsolicit_count = cx.parms.qrv;
        if old {
            self.igmp_start_timer(cx, group, IGMP_INITIAL_REPORT_DELAY);
            return;
        }
        // RFC 3376 section 5.1: who begins to include some sources has changed no mode.
        if im.sfmode == SfMode::Exclude {
            im.crcount = qrv;
        }
        self.igmp_ifc_event(cx);
    }

    /// It belongs to a group no more.
    ///
    /// linux: net/ipv4/igmp.c:igmp_group_dropped
    fn igmp_group_dropped(&mut self, cx: &mut IgmpCx<'_>, group: u32) {
        let Some(im) = self.groups.get_mut(&group) else { return };
        if std::mem::take(&mut im.loaded) {
            cx.out.filter.push(FilterOp::Del(group));
        }
        let reporter = im.reporter;
        self.igmp_stop_timer(group);
        if !Self::reported(group, &cx.parms) || self.v1(cx) {
            return;
        }
        if self.v2(cx) {
            if reporter {
                cx.out.send.push(Message::Plain { kind: IGMP_HOST_LEAVE_MESSAGE, group });
            }
            return;
        }
        self.igmpv3_add_delrec(cx, group);
        self.igmp_ifc_event(cx);
    }

    /// Keeps what routers are to be told of a group that is left.
    ///
    /// linux: net/ipv4/igmp.c:igmpv3_add_delrec
    fn igmpv3_add_delrec(&mut self, cx: &IgmpCx<'_>, group: u32) {
        let qrv = self.robustness(cx);
        let Some(im) = self.groups.get_mut(&group) else { return };
        let mut gone = IpMcList { crcount: qrv, ..IpMcList::default() };
        (gone.multiaddr, gone.sfmode) = (group, im.sfmode);
        if im.sfmode == SfMode::Include {
            (gone.tomb, gone.sources) =
                (std::mem::take(&mut im.tomb), std::mem::take(&mut im.sources));
            gone.tell_sources(qrv);
        }
        if self.tombs.len() == MAX_TOMBS {
            self.tombs.remove(0);
        }
        self.tombs.push(gone);
    }

    /// The group is joined again before all was told.
    ///
    /// linux: net/ipv4/igmp.c:igmpv3_del_delrec
    fn igmpv3_del_delrec(&mut self, cx: &IgmpCx<'_>, im: &mut IpMcList) {
        let qrv = self.robustness(cx);
        let Some(at) = self.tombs.iter().rposition(|gone| gone.multiaddr == im.multiaddr) else {
            return;
        };
        let gone = self.tombs.remove(at);
        if im.sfmode == SfMode::Include {
            (im.tomb, im.sources) = (gone.tomb, gone.sources);
            im.tell_sources(qrv);
        } else {
            im.crcount = qrv;
        }
    }

    /// linux: net/ipv4/igmp.c:igmp_start_timer
    fn igmp_start_timer(&mut self, cx: &mut IgmpCx<'_>, group: u32, max_delay: Duration) {
        let at = cx.within(max_delay);
        let Some(im) = self.groups.get_mut(&group) else { return };
        if let Some(before) = im.timer.replace(at) {
            self.timers.remove(&(before, group));
        }
        self.timers.insert((at, group));
    }

    /// Nothing is to be reported of the group any more, by us.
    ///
    /// linux: net/ipv4/igmp.c:igmp_stop_timer
    pub(super) fn igmp_stop_timer(&mut self, group: u32) {
        let Some(im) = self.groups.get_mut(&group) else { return };
        if let Some(before) = im.timer.take() {
            self.timers.remove(&(before, group));
        }
        (im.reporter, im.unsolicit_count) = (false, 0);
    }

    /// A querier wants to hear of the group by then.
    ///
    /// linux: net/ipv4/igmp.c:igmp_mod_timer
    pub(super) fn igmp_mod_timer(&mut self, cx: &mut IgmpCx<'_>, group: u32, max_delay: Duration) {
        let Some(im) = self.groups.get_mut(&group) else { return };
        im.unsolicit_count = 0;
        if im.timer.is_some_and(|at| at < cx.now + max_delay) {
            return;
        }
        self.igmp_start_timer(cx, group, max_delay);
    }

    /// A general query is answered by then, or earlier if that is due already.
    ///
    /// linux: net/ipv4/igmp.c:igmp_gq_start_timer
    pub(super) fn igmp_gq_start_timer(&mut self, cx: &mut IgmpCx<'_>) {
        let at = cx.within(self.max_delay);
        self.gq = Some(self.gq.map_or(at, |before| before.min(at)));
    }

    /// No report of changes is to come, and nothing is told of what was left: a querier of an older version would
    /// not understand.
    pub(super) fn forget_changes(&mut self) {
        (self.ifc, self.ifc_count) = (None, 0);
        self.tombs.clear();
        for im in self.groups.values_mut() {
            im.tomb = super::group::Sources::default();
        }
    }

    /// When the next of its timers goes off.
    pub(super) fn next_timer(&self) -> Option<Ktime> {
        let first = self.timers.first().map(|(at, _)| *at);
        [first, self.gq, self.ifc].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn run_timers(&mut self, cx: &mut IgmpCx<'_>) {
        while let Some(&(at, group)) = self.timers.first()
            && at <= cx.now
        {
            self.timers.pop_first();
            self.igmp_timer_expire(cx, group);
        }
        if self.gq.is_some_and(|at| at <= cx.now) {
            self.gq = None;
            self.igmpv3_send_report(cx, None);
        }
        if self.ifc.is_some_and(|at| at <= cx.now) {
            self.igmp_ifc_timer_expire(cx);
        }
    }

    /// linux: net/ipv4/igmp.c:igmp_timer_expire
    fn igmp_timer_expire(&mut self, cx: &mut IgmpCx<'_>, group: u32) {
        let interval = self.unsolicited_report_interval(cx);
        let (v1, v2) = (self.v1(cx), self.v2(cx));
        let Some(im) = self.groups.get_mut(&group) else { return };
        im.timer = None;
        im.unsolicit_count = im.unsolicit_count.saturating_sub(1);
        im.reporter = true;
        if im.unsolicit_count != 0 {
            self.igmp_start_timer(cx, group, interval);
        }
        match (v1, v2) {
            (true, _) => self.report(cx, IGMP_HOST_MEMBERSHIP_REPORT, group),
            (_, true) => self.report(cx, IGMPV2_HOST_MEMBERSHIP_REPORT, group),
            _ => self.igmpv3_send_report(cx, Some(group)),
        }
    }

    fn report(&self, cx: &mut IgmpCx<'_>, kind: u8, group: u32) {
        if Self::reported(group, &cx.parms) {
            cx.out.send.push(Message::Plain { kind, group });
        }
    }

    /// linux: net/ipv4/igmp.c:igmp_ifc_timer_expire
    fn igmp_ifc_timer_expire(&mut self, cx: &mut IgmpCx<'_>) {
        self.ifc = None;
        self.igmpv3_send_cr(cx);
        // Once more than is counted: the last finds nothing to say, as a rule.
        if self.ifc_count != 0 {
            self.ifc_count -= 1;
            let interval = self.unsolicited_report_interval(cx);
            self.ifc = Some(cx.within(interval));
        }
    }

    /// Tells of a group as it is now, or of all.
    ///
    /// linux: net/ipv4/igmp.c:igmpv3_send_report
    fn igmpv3_send_report(&mut self, cx: &mut IgmpCx<'_>, only: Option<u32>) {
        let mut reports = Reports::new(&cx.parms);
        let groups = only.map_or_else(|| self.members(), |group| vec![group]);
        for group in groups {
            if let Some(im) = self.groups.get_mut(&group) {
                reports.add_present(im);
            }
        }
        cx.out.send.extend(reports.finish().into_iter().map(Message::V3));
    }

    /// Tells of what has changed: of groups that were left, then of those there are.
    ///
    /// linux: net/ipv4/igmp.c:igmpv3_send_cr
    fn igmpv3_send_cr(&mut self, cx: &mut IgmpCx<'_>) {
        let mut reports = Reports::new(&cx.parms);
        for gone in self.tombs.iter_mut().rev() {
            reports.add_left(gone);
        }
        self.tombs
            .retain(|gone| gone.crcount != 0 || !gone.tomb.is_empty() || !gone.sources.is_empty());
        for group in self.members() {
            if let Some(im) = self.groups.get_mut(&group) {
                reports.add_changes(im);
            }
        }
        cx.out.send.extend(reports.finish().into_iter().map(Message::V3));
    }

    /// The device comes up: what queriers said of it is over, and its groups are reported.
    ///
    /// linux: net/ipv4/igmp.c:ip_mc_up
    pub(super) fn ip_mc_up(&mut self, cx: &mut IgmpCx<'_>) {
        self.up = true;
        (self.qrv, self.qi, self.qri) =
            (cx.parms.qrv, IGMP_QUERY_INTERVAL, IGMP_QUERY_RESPONSE_INTERVAL);
        self.ip_mc_inc_group(cx, IGMP_ALL_HOSTS, SfMode::Exclude);
        for group in self.members() {
            if let Some(mut im) = self.groups.remove(&group) {
                self.igmpv3_del_delrec(cx, &mut im);
                self.groups.insert(group, im);
            }
            self.igmp_group_added(cx, group);
        }
    }

    /// The device goes down: its groups stay, nothing is told of them.
    ///
    /// linux: net/ipv4/igmp.c:ip_mc_down
    pub(super) fn ip_mc_down(&mut self, cx: &mut IgmpCx<'_>) {
        for group in self.members() {
            self.igmp_group_dropped(cx, group);
        }
        self.ip_mc_dec_group(cx, IGMP_ALL_HOSTS);
        (self.ifc, self.ifc_count, self.gq) = (None, 0, None);
        self.up = false;
        // The way out is closed by now.
        cx.out.send.clear();
    }
}

/// The querier's interval when it says none.
pub(super) fn query_interval(seconds: u64) -> Duration {
    if seconds == 0 { IGMP_QUERY_INTERVAL } else { Duration::from_secs(seconds) }
}
