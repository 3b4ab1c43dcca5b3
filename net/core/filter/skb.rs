//! A packet as a program sees it: its octets from where its socket's begin, and what is known beside them.

use crate::kernel::bpf::BpfSource;
use crate::kernel::context::BhCx;
use crate::kernel::rcupdate::Tables;
use crate::net::core::skbuff::SkBuff;
use klib::random::Csprng;
use std::cell::RefCell;
use uapi::filter::*;
use uapi::if_ether::ETH_P_IP;
use uapi::ip::{IP_OFFSET, IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP};

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
    t: &'a Tables,
    rng: RefCell<&'a mut Csprng>,
}

impl<'a> SkbSource<'a> {
    /// The packet from there on.
    pub fn new(cx: &'a mut BhCx<'_>, skb: &'a SkBuff, from: SkbFrom) -> Self {
        let start = match from {
            SkbFrom::Data => 0,
            SkbFrom::Mac => skb.mac_offset(),
            SkbFrom::Transport => skb.transport_offset(),
        };
        let (cpu, t) = (cx.cpu.id.0, cx.t);
        Self { skb, start, cpu, t, rng: RefCell::new(&mut cx.cpu.rng) }
    }
}

impl SkbSource<'_> {
    /// Where it begins, from the data.
    pub(super) fn start(&self) -> isize {
        self.start
    }

    /// Where the payload begins, from the data: behind the headers that are known.
    ///
    /// linux: net/core/flow_dissector.c:__skb_get_poff
    fn skb_get_poff(&self) -> Option<isize> {
        let (skb, net) = (self.skb, self.skb.network_offset());
        if skb.protocol != ETH_P_IP {
            return Some(net);
        }
        let ihl = isize::from(skb.octets_at::<1>(net)?[0] & 0x0f) * 4;
        let at = net + ihl;
        let later = u16::from_be_bytes(skb.octets_at(net + 6)?) & IP_OFFSET != 0;
        let header = match skb.octets_at::<1>(net + 9)?[0] {
            _ if later => 0,
            IPPROTO_TCP => isize::from((skb.octets_at::<1>(at + 12)?[0] >> 4).max(5)) * 4,
            IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_IGMP => 8,
            _ => 0,
        };
        Some(at + header)
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
            SKF_AD_HATYPE => self.t.net.dev(skb.dev?)?.kind.into(),
            SKF_AD_MARK => skb.mark,
            SKF_AD_QUEUE => skb.queue_mapping.into(),
            SKF_AD_RXHASH => skb.hash,
            SKF_AD_CPU => self.cpu.into(),
            SKF_AD_ALU_XOR_X => a ^ x,
            // Tags stay in the frame here.
            SKF_AD_VLAN_TAG | SKF_AD_VLAN_TAG_PRESENT | SKF_AD_VLAN_TPID => 0,
            SKF_AD_PAY_OFFSET => (self.skb_get_poff()? - self.start).max(0) as u32,
            SKF_AD_RANDOM => self.rng.borrow_mut().next_u32(),
            // Netlink's attributes: in none of our packets.
            _ => 0,
        })
    }
}
