//! Which received frames pass: addresses, VLAN, length.
//!
//! Source: the 82576 data sheet's section "Packet Filtering".

use drivers::net::ethernet::intel::igb::e1000_regs::*;

use super::state::State;

/// What the filters say of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes by an exact match or promiscuity.
    Pass,
    /// It passes by the multicast hash only.
    Inexact,
    /// It is for others.
    Drop,
    /// It is longer than allowed.
    Oversized,
}

/// Longest frame without `RCTL.LPE`, with CRC and without tag.
const MAX_STANDARD: usize = 1518;

impl State {
    /// Judges a frame; `tag` is its VLAN tag.
    pub(super) fn filter(&self, frame: &[u8], tag: Option<u16>) -> Verdict {
        let rctl = self.get(E1000_RCTL);
        let limit = if rctl & E1000_RCTL_LPE != 0 {
            self.get(E1000_RLPML) as usize
        } else {
            MAX_STANDARD + if tag.is_some() { 4 } else { 0 }
        };
        if frame.len() + 4 > limit {
            return Verdict::Oversized;
        }
        if let Some(tag) = tag.filter(|_| rctl & E1000_RCTL_VFE != 0) {
            let vid = u32::from(tag) & 0xFFF;
            if self.get(E1000_VFTA_N(vid >> 5)) & (1 << (vid & 31)) == 0 {
                return Verdict::Drop;
            }
        }
        match frame.first_chunk::<6>() {
            Some(dst) => self.filter_address(rctl, dst),
            None => Verdict::Drop,
        }
    }

    fn filter_address(&self, rctl: u32, dst: &[u8; 6]) -> Verdict {
        let promiscuous = if dst[0] & 1 != 0 { E1000_RCTL_MPE } else { E1000_RCTL_UPE };
        if rctl & promiscuous != 0 || self.is_own(dst) {
            return Verdict::Pass;
        }
        if *dst == [0xFF; 6] {
            return if rctl & E1000_RCTL_BAM != 0 { Verdict::Pass } else { Verdict::Drop };
        }
        if dst[0] & 1 != 0 && self.in_multicast_table(rctl, dst) {
            return Verdict::Inexact;
        }
        Verdict::Drop
    }

    /// Whether one of the receive addresses is `dst`.
    fn is_own(&self, dst: &[u8; 6]) -> bool {
        let low = u32::from_le_bytes([dst[0], dst[1], dst[2], dst[3]]);
        let high = u32::from(u16::from_le_bytes([dst[4], dst[5]])) | E1000_RAH_AV;
        (0..E1000_RAR_ENTRIES as u32).any(|n| {
            self.get(E1000_RAL(n)) == low
                && self.get(E1000_RAH(n)) & (E1000_RAH_AV | 0xFFFF) == high
        })
    }

    /// Twelve bits of the address, chosen by `RCTL.MO`, name a bit of the table.
    fn in_multicast_table(&self, rctl: u32, dst: &[u8; 6]) -> bool {
        let last = u32::from(u16::from_le_bytes([dst[4], dst[5]]));
        let shift = match rctl >> E1000_RCTL_MO_SHIFT & 3 {
            0 => 4,
            1 => 3,
            2 => 2,
            _ => 0,
        };
        let hash = last >> shift & 0xFFF;
        self.get(E1000_MTA_N(hash >> 5)) & (1 << (hash & 31)) != 0
    }
}
