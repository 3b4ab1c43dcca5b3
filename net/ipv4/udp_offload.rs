//! UDP's part of GRO: datagrams of one length that follow one another climb as one packet, for a socket that asked
//! for it (`UDP_GRO`) or, where the device says so (`rx-udp-gro-forwarding`), to be sent on.
//!
//! linux: net/ipv4/udp_offload.c. Context: BH. Invariant: what comes out is what a sender with `UDP_SEGMENT` could
//! have sent: all of one length but the last, which may be shorter.
//! DIVERGES: a datagram that can't be merged ends its flow's packet, so that none overtakes it.

use crate::kernel::context::BhCx;
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::dev::gro::{GroFlow, GroHead, GroHeads, inet_gro_finish};
use crate::net::core::skbuff::{GsoType, Skb, SkbList};
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::ip_input::skb_checksum_validate;
use crate::net::ipv4::protocol::NetOffload;
use crate::net::ipv4::udp::{UdpFlow, udp4_lib_lookup};
use klib::checksum::ip_fast_csum;
use uapi::ip::{IP_DF, IPPROTO_UDP, IpHdr};
use uapi::udp::UdpHdr;
use zerocopy::{FromBytes, IntoBytes};

/// The most datagrams of a packet: many small ones would be charged with far more than they bring.
///
/// linux: net/ipv4/udp_offload.c:UDP_GRO_CNT_MAX
const UDP_GRO_CNT_MAX: u16 = 64;
const IHL: usize = size_of::<IpHdr>();
const HEADERS: usize = IHL + size_of::<UdpHdr>();

/// What UDP registers.
pub(crate) const UDPV4_OFFLOAD: NetOffload =
    NetOffload { gro_receive: udp4_gro_receive, gro_complete: |_, _| (), holds: false };

/// A datagram as it is looked at.
struct Datagram {
    flow: GroFlow,
    /// Octets of data, if it may be merged.
    len: Option<u32>,
}

/// Looks at a datagram; `None`: it is none, or a fragment.
#[inline(always)]
fn look_at(skb: &mut Skb) -> Option<Datagram> {
    let data = skb.data();
    let (iph, rest) = IpHdr::ref_from_prefix(data).ok()?;
    let (uh, _) = UdpHdr::ref_from_prefix(rest).ok()?;
    if iph.frag_off.get() & !IP_DF != 0 {
        return None;
    }
    let (total, ulen) = (usize::from(iph.tot_len.get()), usize::from(uh.len.get()));
    let flow = GroFlow {
        addrs: u64::from(iph.saddr.get()) << 32 | u64::from(iph.daddr.get()),
        ports: u32::from(uh.source.get()) << 16 | u32::from(uh.dest.get()),
    };
    // What came in one piece goes up so. Without a sum, as GSO has none; padding and lengths that differ.
    let plain = skb.gso.size == 0 && uh.check.get() != 0;
    let whole = total == skb.len() && total == IHL + ulen && total > HEADERS;
    let may = plain
        && whole
        && ip_fast_csum(iph.as_bytes()) == 0
        && skb_checksum_validate(skb, IHL, IPPROTO_UDP);
    Some(Datagram { flow, len: may.then(|| (total - HEADERS) as u32) })
}

/// Merges datagrams of a list into those before them, where somebody wants that.
///
/// linux: net/ipv4/udp_offload.c:udp4_gro_receive
fn udp4_gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, udp4_gro_receive);
    if list.len() < 2 {
        return;
    }
    let dev = list.first().and_then(|skb| skb.dev);
    let forwards = dev
        .and_then(|dev| cx.t.net.dev(dev))
        .is_some_and(|dev| dev.features().contains(NetdevFeatures::GRO_UDP_FWD));
    if forwards || cx.t.ns.udp_table.encap_needed() {
        merge(cx, list, forwards);
    }
}

/// Whether a flow's datagrams are to be merged: its socket says so, or nobody's may be.
///
/// linux: net/ipv4/udp_offload.c:udp_gro_receive
fn wanted(cx: &mut BhCx<'_>, (flow, iif): (GroFlow, u16), forwards: bool) -> bool {
    // As long as no socket asks, none is looked for.
    if !cx.t.ns.udp_table.encap_needed() {
        return forwards;
    }
    match udp4_lib_lookup(cx, UdpFlow::new(flow.addrs, flow.ports, iif)) {
        Some(sk) => sk.state().inet.cmsg_flags.contains(CmsgFlags::UDP_GRO),
        None => forwards,
    }
}

/// linux: net/ipv4/udp_offload.c:udp_gro_receive_segment
fn merge(cx: &mut BhCx<'_>, list: &mut SkbList, forwards: bool) {
    let mut heads = GroHeads::new();
    let mut asked: Option<(GroFlow, bool)> = None;
    list.replace_each(|list, mut skb| {
        let Some(Datagram { flow, len }) = look_at(&mut skb) else { return list.push(skb) };
        let slot = heads.slot_of(flow);
        if let Some(slot) = slot {
            if let (Some(head), Some(len)) = (heads.get_mut(slot), len)
                && continues(list, head, &skb, len)
            {
                let _headers_are_linear = skb.skb_pull(HEADERS);
                head.skb_gro_receive(cx, list, skb, GsoType::UdpL4);
                if len < head.size || head.segs >= UDP_GRO_CNT_MAX {
                    heads.close(slot);
                }
                return;
            }
            heads.close(slot);
        }
        if let Some(len) = len {
            let iif = skb.dev.map_or(0, |dev| dev.0);
            let wants = match asked {
                Some((last, wants)) if last == flow => wants,
                _ => wanted(cx, (flow, iif), forwards),
            };
            asked = Some((flow, wants));
            if wants {
                heads.begin(slot, GroHead::new(list.len(), flow, len, ()));
            }
        }
        list.push(skb);
    });
    list.iter_mut().filter(|skb| skb.frag_list.is_some()).for_each(udp_gro_complete);
}

/// A datagram of `len` octets continues a packet.
fn continues(list: &SkbList, head: &mut GroHead<()>, skb: &Skb, len: u32) -> bool {
    let Some(first) = list.packets.get(head.at) else { return false };
    let (Some(old), Some(new)) = (first.front::<IpHdr>(), skb.front::<IpHdr>()) else {
        return false;
    };
    len <= head.size && head.has_room(first, len) && !head.inet_gro_flush(old, new)
}

/// Makes a packet's headers those of all of it: the lengths, and a checksum to be filled in.
///
/// linux: net/ipv4/udp_offload.c:udp4_gro_complete
fn udp_gro_complete(first: &mut Skb) {
    if first.gso.kind != GsoType::UdpL4 {
        return;
    }
    let offset = std::mem::offset_of!(UdpHdr, check);
    if let Some((transport, ulen, check)) = inet_gro_finish(first, offset)
        && let Ok((uh, _)) = UdpHdr::mut_from_prefix(transport)
    {
        uh.len.set(ulen);
        uh.check.set(check);
    }
}

#[cfg(test)]
mod tests;
