//! A packet as a walk's filter sees it: an Ethernet frame, on whichever layer it is.

use super::SkBuff;
use crate::kernel::bpf::BpfSource;
use uapi::if_ether::{ETH_ALEN, ETH_HLEN};

/// See the module. What has no link header yet has a frame's type, and zeros for addresses.
pub(super) struct WalkFrame<'a>(pub(super) &'a SkBuff);

impl WalkFrame<'_> {
    fn has_link_header(&self) -> bool {
        let SkBuff { mac_header, network_header, .. } = *self.0;
        usize::from(mac_header) + ETH_HLEN == usize::from(network_header)
    }
}

impl BpfSource for WalkFrame<'_> {
    fn len(&self) -> u32 {
        let behind = self.0.len() as isize - self.0.network_offset();
        behind.max(0) as u32 + ETH_HLEN as u32
    }

    fn octets<const N: usize>(&self, at: i32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        let from_network = at as isize - ETH_HLEN as isize;
        if from_network >= 0 || self.has_link_header() {
            return self.0.octets_at(self.0.network_offset() + from_network);
        }
        let mut header = [0; ETH_HLEN];
        header[2 * ETH_ALEN..].copy_from_slice(&self.0.protocol.to_be_bytes());
        header.get(at..)?.first_chunk().copied()
    }

    fn about(&self, what: i32, _: u32, _: u32) -> Option<u32> {
        (what == uapi::filter::SKF_AD_PKTTYPE).then_some(self.0.pkt_type as u32)
    }
}
