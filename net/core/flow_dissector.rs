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

    fn flow_hash(&self, cx: &BhCx<'_>) -> u32 {
        let bytes = self.network_bytes();
        let be32 = |at: usize| {
            bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        if self.protocol != ETH_P_IP || bytes.len() < 20 {
            return u32::from(self.protocol);
        }
        let fragment = be32(4) & 0x3fff != 0;
        let ports = if !fragment && matches!(bytes[9], 6 | 17) {
            be32(usize::from(bytes[0] & 15) * 4)
        } else {
            0
        };
        let key = &cx.m.init_net.flow_key;
        key.siphash_4u32(be32(12), be32(16), ports, u32::from(bytes[9])) as u32
    }
}
