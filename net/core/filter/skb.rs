//! A packet as a program sees it: its octets from where its socket's begin, and what is known beside them.

use crate::kernel::bpf::BpfSource;
use crate::kernel::context::BhCx;
use crate::net::core::dev::NetDevice;
use crate::net::core::skbuff::SkBuff;
use std::cell::Cell;
use uapi::filter::*;
use uapi::if_arp::{ARPHRD_ETHER, ARPHRD_LOOPBACK};

/// Where a socket's packet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkbFrom {
    /// At its data.
    Data,
    /// At the link header.
    Mac,
    /// At the transport header.
    Transport,
}

/// See the module. Context: BH.
pub struct SkbSource<'a> {
    skb: &'a SkBuff,
    /// Where it begins, from the data.
    start: isize,
    cpu: u8,
    dev: Option<&'a NetDevice>,
    random: Cell<u32>,
}

impl<'a> SkbSource<'a> {
    /// The packet from there on.
    pub fn new<'c: 'a>(cx: &mut BhCx<'c>, skb: &'a SkBuff, from: SkbFrom) -> Self {
        let start = match from {
            SkbFrom::Data => 0,
            SkbFrom::Mac => skb.mac_offset(),
            SkbFrom::Transport => skb.transport_offset(),
        };
        let t = cx.t;
        let dev = skb.dev.and_then(|dev| t.net.dev(dev)).map(|dev| &**dev);
        Self { skb, start, cpu: cx.cpu.id.0, dev, random: Cell::new(cx.cpu.rng.next_u32()) }
    }
}

impl SkbSource<'_> {
    /// Where it begins, from the data.
    pub(super) fn start(&self) -> isize {
        self.start
    }
}

impl BpfSource for SkbSource<'_> {
    fn len(&self) -> u32 {
        (self.skb.len() as isize - self.start).max(0) as u32
    }

    fn octets<const N: usize>(&self, at: i32) -> Option<[u8; N]> {
        let (start, at) = match at {
            0.. => (self.start, at),
            SKF_NET_OFF..0 => (self.skb.network_offset(), at - SKF_NET_OFF),
            SKF_LL_OFF..SKF_NET_OFF => (self.skb.mac_offset(), at - SKF_LL_OFF),
            _ => return None,
        };
        self.skb.octets_at(start + at as isize)
    }

    fn about(&self, what: i32, a: u32, x: u32) -> Option<u32> {
        let skb = self.skb;
        Some(match what {
            SKF_AD_PROTOCOL => skb.protocol.into(),
            SKF_AD_PKTTYPE => skb.pkt_type as u32,
            SKF_AD_IFINDEX => skb.dev?.0.into(),
            SKF_AD_HATYPE => {
                let kind = if self.dev?.is_loopback() { ARPHRD_LOOPBACK } else { ARPHRD_ETHER };
                kind.into()
            }
            SKF_AD_MARK => skb.mark,
            SKF_AD_QUEUE => skb.queue_mapping.into(),
            SKF_AD_RXHASH => skb.hash,
            SKF_AD_CPU => self.cpu.into(),
            SKF_AD_ALU_XOR_X => a ^ x,
            // Tags stay in the frame here.
            SKF_AD_VLAN_TAG | SKF_AD_VLAN_TAG_PRESENT | SKF_AD_VLAN_TPID => 0,
            SKF_AD_PAY_OFFSET => (skb.transport_offset() - self.start).max(0) as u32,
            SKF_AD_RANDOM => {
                // One run's words follow each other; the first comes from the CPU's generator.
                let next =
                    self.random.get().wrapping_mul(0x9e37_79b1).rotate_left(13) ^ 0x85eb_ca6b;
                self.random.replace(next)
            }
            // Netlink's attributes: in none of our packets.
            _ => 0,
        })
    }
}
