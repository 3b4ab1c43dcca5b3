//! A flow's hash from its headers.
//!
//! linux: net/core/flow_dissector.c. Context: BH.

use crate::kernel::context::BhCx;
use crate::net::core::skbuff::SkBuff;
use uapi::if_ether::ETH_P_IP;

impl SkBuff {
    /// The flow's hash: the device's if it covers the ports, else one of addresses, protocol and ports
    /// under the machine's key. Never zero.
    ///
    /// linux: net/core/flow_dissector.c:__skb_get_rxhash
    #[inline]
    pub fn skb_get_hash(&mut self, cx: &BhCx<'_>) -> u32 {
        if self.hash == 0 || !self.l4_hash {
            self.hash = self.flow_hash(cx).max(1);
            self.l4_hash = true;
        }
        self.hash
    }

    /// The flow's hash, the same in both directions, under the machine's key.
    ///
    /// linux: net/core/flow_dissector.c:__skb_get_hash_symmetric
    pub(crate) fn skb_get_hash_symmetric(&self, cx: &BhCx<'_>) -> u32 {
        let Some((addrs, ports, protocol)) = self.flow_keys() else { return self.protocol.into() };
        let (low, high) = (addrs[0].min(addrs[1]), addrs[0].max(addrs[1]));
        // The ports turn round with the addresses; between two of one host by themselves.
        let turned = addrs[0] > addrs[1] || addrs[0] == addrs[1] && ports >> 16 > ports & 0xffff;
        let ports = if turned { ports.rotate_left(16) } else { ports };
        cx.m.init_net.flow_key.siphash_4u32(low, high, ports, protocol) as u32
    }

    fn flow_hash(&self, cx: &BhCx<'_>) -> u32 {
        let Some(([saddr, daddr], ports, protocol)) = self.flow_keys() else {
            return self.protocol.into();
        };
        cx.m.init_net.flow_key.siphash_4u32(saddr, daddr, ports, protocol) as u32
    }

    /// Source and destination address, both ports with the source's in the upper half, and the protocol, of an IPv4
    /// packet.
    fn flow_keys(&self) -> Option<([u32; 2], u32, u32)> {
        let bytes = self.network_bytes();
        let be32 = |at: usize| {
            bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        if self.protocol != ETH_P_IP || bytes.len() < 20 {
            return None;
        }
        let fragment = be32(4) & 0x3fff != 0;
        let ports = if !fragment && matches!(bytes[9], 6 | 17) {
            be32(usize::from(bytes[0] & 15) * 4)
        } else {
            0
        };
        Some(([be32(12), be32(16)], ports, bytes[9].into()))
    }
}
