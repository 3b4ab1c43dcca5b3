//! Reports of version 3: records of groups, in as many messages as the MTU asks for.
//!
//! linux: net/ipv4/igmp.c; RFC 3376 sections 4.2 and 5. Key type: [`Reports`].
//! Invariant: no message is longer than the MTU allows, and each tells how much it holds.

use super::device::{IgmpParms, McDev};
use super::group::{Deleted, IpMcList, SfMode};
use uapi::igmp::{
    IGMPV3_ALLOW_NEW_SOURCES, IGMPV3_BLOCK_OLD_SOURCES, IGMPV3_CHANGE_TO_EXCLUDE,
    IGMPV3_CHANGE_TO_INCLUDE, IGMPV3_HOST_MEMBERSHIP_REPORT, IGMPV3_MODE_IS_EXCLUDE,
    IGMPV3_MODE_IS_INCLUDE, Igmpv3Grec, Igmpv3Report,
};
use uapi::ip::{IPV4_MIN_MTU, IpHdr};
use zerocopy::IntoBytes;

/// Octets of an IP header with the router alert option.
pub(super) const IP_HLEN: usize = size_of::<IpHdr>() + 4;
const REPORT: usize = size_of::<Igmpv3Report>();
const GREC: usize = size_of::<Igmpv3Grec>();
const ADDR: usize = 4;

const GROUP: Deleted = Deleted { group: true, sources: false };
const SOURCES: Deleted = Deleted { group: false, sources: true };
const BOTH: Deleted = Deleted { group: true, sources: true };
const NONE: Deleted = Deleted { group: false, sources: false };

/// A message that is being made, and those that are full.
pub(super) struct Reports<'a> {
    parms: &'a IgmpParms,
    full: Vec<Vec<u8>>,
    /// Empty: none was begun.
    now: Vec<u8>,
    records: u16,
    /// Where the last record begins, and the sources it has.
    last: (usize, u16),
}

impl<'a> Reports<'a> {
    /// None yet.
    pub(super) fn new(parms: &'a IgmpParms) -> Self {
        Self { parms, full: Vec::new(), now: Vec::new(), records: 0, last: (0, 0) }
    }

    /// Octets that the message has room for.
    fn room(&self) -> usize {
        (self.parms.mtu - IP_HLEN).saturating_sub(self.now.len().max(REPORT))
    }

    /// The message is full.
    ///
    /// linux: net/ipv4/igmp.c:igmpv3_sendpack
    fn flush(&mut self) {
        if !self.now.is_empty() {
            let full = std::mem::take(&mut self.now);
            self.full.push(full);
        }
        self.records = 0;
    }

    /// linux: net/ipv4/igmp.c:add_grhead
    fn add_grhead(&mut self, group: u32, kind: u8) {
        if self.now.is_empty() {
            let head =
                Igmpv3Report { type_: IGMPV3_HOST_MEMBERSHIP_REPORT, ..Igmpv3Report::default() };
            self.now.extend_from_slice(head.as_bytes());
        }
        self.last = (self.now.len(), 0);
        let record =
            Igmpv3Grec { grec_type: kind, grec_mca: group.into(), ..Igmpv3Grec::default() };
        self.now.extend_from_slice(record.as_bytes());
        self.records += 1;
        self.now[6..8].copy_from_slice(&self.records.to_be_bytes());
    }

    fn add_source(&mut self, addr: u32) {
        self.now.extend_from_slice(&addr.to_be_bytes());
        self.last.1 += 1;
        let at = self.last.0 + 2;
        self.now[at..at + 2].copy_from_slice(&self.last.1.to_be_bytes());
    }

    /// What a group is: the answer to a query.
    pub(super) fn add_present(&mut self, im: &mut IpMcList) {
        let kind = if im.excludes() { IGMPV3_MODE_IS_EXCLUDE } else { IGMPV3_MODE_IS_INCLUDE };
        self.add_grec(im, kind, NONE);
    }

    /// What is still to be told of a group that was left.
    pub(super) fn add_left(&mut self, gone: &mut IpMcList) {
        if gone.sfmode == SfMode::Include {
            self.add_grec(gone, IGMPV3_BLOCK_OLD_SOURCES, GROUP);
            self.add_grec(gone, IGMPV3_BLOCK_OLD_SOURCES, BOTH);
        }
        if gone.crcount != 0 {
            if gone.sfmode == SfMode::Exclude {
                self.add_grec(gone, IGMPV3_CHANGE_TO_INCLUDE, GROUP);
            }
            gone.crcount -= 1;
            if gone.crcount == 0 {
                gone.clear_zeros();
            }
        }
    }

    /// What has changed of a group.
    pub(super) fn add_changes(&mut self, im: &mut IpMcList) {
        let (here, gone) = match im.excludes() {
            true => (IGMPV3_BLOCK_OLD_SOURCES, IGMPV3_ALLOW_NEW_SOURCES),
            false => (IGMPV3_ALLOW_NEW_SOURCES, IGMPV3_BLOCK_OLD_SOURCES),
        };
        self.add_grec(im, here, NONE);
        self.add_grec(im, gone, SOURCES);
        if im.crcount != 0 {
            let kind = match im.sfmode {
                SfMode::Exclude => IGMPV3_CHANGE_TO_EXCLUDE,
                SfMode::Include => IGMPV3_CHANGE_TO_INCLUDE,
            };
            self.add_grec(im, kind, NONE);
            im.crcount -= 1;
        }
    }

    /// Adds a record of a type, in several if its sources fill more than a message; those of what is excluded, which
    /// can't be told in parts, are cut off.
    ///
    /// linux: net/ipv4/igmp.c:add_grec
    fn add_grec(&mut self, im: &mut IpMcList, kind: u8, deleted: Deleted) {
        if !McDev::reported(im.multiaddr, self.parms) || self.parms.mtu < IPV4_MIN_MTU as usize {
            return;
        }
        let answers = matches!(kind, IGMPV3_MODE_IS_INCLUDE | IGMPV3_MODE_IS_EXCLUDE);
        let changes = matches!(kind, IGMPV3_ALLOW_NEW_SOURCES | IGMPV3_BLOCK_OLD_SOURCES);
        let truncate = matches!(kind, IGMPV3_MODE_IS_EXCLUDE | IGMPV3_CHANGE_TO_EXCLUDE);
        let sources = im.sources_in(kind, deleted);
        let whole = GREC + ADDR * sources.len();
        if truncate && self.records != 0 && self.room() < whole && !im.sources.is_empty() {
            self.flush();
        }
        // RFC 3376 section 5.1: with a change of mode no changes of sources are told.
        let mode_changes = match deleted.group {
            true => im.sfmode == SfMode::Exclude,
            false => im.crcount != 0,
        };
        let (mut first, mut told) = (true, false);
        for addr in sources {
            if !(changes && mode_changes) {
                if answers {
                    im.answered(addr, deleted);
                }
                if self.room() < ADDR + if first { GREC } else { 0 } {
                    if truncate && !first {
                        break;
                    }
                    self.flush();
                    first = true;
                }
                if std::mem::take(&mut first) {
                    self.add_grhead(im.multiaddr, kind);
                }
                self.add_source(addr);
                told = true;
            }
            if changes {
                count_down(im, addr, deleted);
            }
        }
        if !told && !changes && (im.crcount != 0 || answers) {
            if self.room() < GREC {
                self.flush();
            }
            self.add_grhead(im.multiaddr, kind);
        }
        if answers {
            im.gsquery = false;
        }
    }

    /// The messages, each to be summed and sent.
    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        self.flush();
        self.full
    }
}

/// A source's change was told once more.
fn count_down(im: &mut IpMcList, addr: u32, deleted: Deleted) {
    let list = im.list_mut(deleted);
    let Some(source) = list.get_mut(addr) else { return };
    if source.crcount == 0 {
        return;
    }
    source.crcount -= 1;
    if source.crcount == 0 && deleted != NONE {
        list.remove(addr);
    }
}
