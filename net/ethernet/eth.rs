//! The Ethernet header: taken off on the way in, put on on the way out.
//!
//! linux: net/ethernet/eth.c. Context: BH.

use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dev::NetDevice;
use crate::net::core::skbuff::{Common, PktType, SkBuff, Skb, SkbList};
use uapi::if_ether::{ETH_HLEN, EthHdr, is_broadcast_ether_addr, is_multicast_ether_addr};
use zerocopy::{FromBytes, IntoBytes};

/// Ethertypes below this are lengths of an 802.3 frame.
const ETH_P_802_3_MIN: u16 = 0x600;
/// What an 802.3 frame counts as.
const ETH_P_802_2: u16 = 4;

/// Reads and pulls the Ethernet headers of frames: to whom each is, and what it carries. The network
/// header begins behind it. A frame shorter than the header stays whole with protocol 0, which nobody
/// handles. A frame that somebody watches is marked here. What the frames carry, if it is the same.
///
/// linux: net/ethernet/eth.c:eth_type_trans
// By itself, once the frames are all there: a header's fields read right behind the copy of its frame
// would wait for it.
#[inline(always)]
pub fn eth_type_trans(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &NetDevice) -> Option<u16> {
    let mut protocols = Common::new();
    for skb in list.iter_mut() {
        protocols.see([u64::from(type_trans(skb, dev))]);
    }
    if cx.machine().tracer.on() {
        list.visit(|skb| cx.watch(skb));
    }
    walk!(cx, list, eth_type_trans);
    protocols.all().map(|[protocol]| protocol as u16)
}

#[inline(always)]
fn type_trans(skb: &mut Skb, dev: &NetDevice) -> u16 {
    skb.dev = Some(dev.ifindex);
    skb.reset_mac_header();
    let protocol = if let Some(header) = skb.front::<EthHdr>() {
        let h_proto = header.h_proto.get();
        // The first eight bytes at once; the two behind the address are shifted out.
        let first = header.as_bytes().first_chunk::<8>();
        let first = first.map_or(0, |first| u64::from_le_bytes(*first));
        let ours = first << 16 == dev.packed_addr() << 16;
        skb.pkt_type = if ours { PktType::Host } else { not_only_ours(first) };
        let _pulled = skb.skb_pull(ETH_HLEN);
        if h_proto >= ETH_P_802_3_MIN { h_proto } else { ETH_P_802_2 }
    } else {
        0
    };
    skb.protocol = protocol;
    skb.reset_network_header();
    protocol
}

/// An address for a device that has none of its own: nobody else's, as far as chance goes.
///
/// linux: include/linux/etherdevice.h:eth_random_addr
pub fn eth_random_addr(cx: &mut TaskCx) -> [u8; 6] {
    let random = cx.local_bh_disable(|bh| bh.cpu.rng.next_u64());
    let [first, rest @ .., _, _] = random.to_le_bytes();
    let mut addr = [first & 0xfc | 0x02, 0, 0, 0, 0, 0];
    addr[1..].copy_from_slice(&rest);
    addr
}

/// To whom a frame is that is not to this device alone; `first` are its first eight bytes.
// By itself, so that the usual frame's address is not taken to pieces first.
#[inline(never)]
fn not_only_ours(first: u64) -> PktType {
    let [a, b, c, d, e, f, _, _] = first.to_le_bytes();
    let h_dest = [a, b, c, d, e, f];
    if is_broadcast_ether_addr(&h_dest) {
        PktType::Broadcast
    } else if is_multicast_ether_addr(&h_dest) {
        PktType::Multicast
    } else {
        PktType::OtherHost
    }
}

/// Puts an Ethernet header in front. False when there is no head room or the data is a clone's.
///
/// linux: net/ethernet/eth.c:eth_header
#[inline(always)]
#[must_use]
pub fn eth_header(skb: &mut SkBuff, proto: u16, source: [u8; 6], dest: [u8; 6]) -> bool {
    let Some(bytes) = skb.skb_push(ETH_HLEN) else { return false };
    let Ok((header, _)) = EthHdr::mut_from_prefix(bytes) else { return false };
    header.h_dest = dest;
    header.h_source = source;
    header.h_proto.set(proto);
    true
}
