//! TCP's part of GRO: segments that follow one another climb as one packet.
//!
//! linux: net/ipv4/tcp_offload.c. Context: BH. Invariants: a flow's segments stay in their order, and what comes
//! out is what a sender with a larger segment size could have sent; a segment whose headers differ from those
//! before it in anything but what must differ begins anew.
//! DIVERGES: segments are merged within one poll's list, and the packet stands where its first one stood: nothing
//! is held beside it.

use crate::kernel::context::BhCx;
use crate::net::core::dev::gro::{GroResult, MAX_GRO_SKBS};
use crate::net::core::skbuff::{Gso, GsoType, IpSummed, Skb, SkbList};
use crate::net::ipv4::ip_input::skb_checksum_validate;
use crate::net::ipv4::protocol::NetOffload;
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold, ip_fast_csum};
use uapi::ip::{IPPROTO_TCP, IpHdr};
use uapi::tcp::{
    TCPHDR_ACK, TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN, TCPHDR_URG, TcpHdr,
};
use zerocopy::{FromBytes, IntoBytes};

/// The most octets of a packet, headers included.
///
/// linux: include/linux/netdevice.h:GRO_LEGACY_MAX_SIZE
const GRO_MAX_SIZE: u32 = 65_536;
const IHL: usize = size_of::<IpHdr>();

/// What TCP registers.
pub(crate) const TCPV4_OFFLOAD: NetOffload =
    NetOffload { gro_receive: tcp4_gro_receive, gro_complete: |_, _| () };

/// A packet that more may be merged into.
#[derive(Clone, Copy)]
struct Open {
    /// Its place in the list.
    at: usize,
    flow: Flow,
    /// What the next segment must begin with.
    next: u32,
    /// Octets of a full segment: the first one's.
    mss: u32,
    segs: u16,
    /// All have the same identification.
    fixed_id: bool,
}

/// What segments have alike that are merged: addresses and ports, and all of the headers that does not change from
/// one to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    addrs: u64,
    ports: u32,
}

/// A segment as it is looked at.
struct Segment {
    flow: Flow,
    seq: u32,
    /// Octets of data.
    len: u32,
    flags: u8,
    /// Octets of the TCP header.
    thlen: usize,
}

/// Looks at a segment; `None`: it is none that is merged, or a bad one, which others tell.
#[inline(always)]
fn look_at(skb: &mut Skb) -> Option<Segment> {
    // What came in one piece goes up so.
    if skb.gso.size != 0 {
        return None;
    }
    let data = skb.data();
    let (iph, rest) = IpHdr::ref_from_prefix(data).ok()?;
    let (th, _) = TcpHdr::ref_from_prefix(rest).ok()?;
    let (total, thlen) = (usize::from(iph.tot_len.get()), th.doff());
    let headers = IHL + thlen;
    // Fragments, padding, options of IP: as they are.
    let plain = iph.frag_off.get() & !uapi::ip::IP_DF == 0 && total == skb.len();
    let whole = thlen >= size_of::<TcpHdr>() && headers <= data.len();
    if !plain || !whole || ip_fast_csum(&data[..IHL]) != 0 {
        return None;
    }
    let segment = Segment {
        flow: Flow {
            addrs: u64::from(iph.saddr.get()) << 32 | u64::from(iph.daddr.get()),
            ports: u32::from(th.source.get()) << 16 | u32::from(th.dest.get()),
        },
        seq: th.seq.get(),
        len: (total - headers) as u32,
        flags: th.flags,
        thlen,
    };
    skb_checksum_validate(skb, IHL, IPPROTO_TCP).then_some(segment)
}

/// Merges segments of a list into those before them.
///
/// linux: net/ipv4/tcp_offload.c:tcp4_gro_receive
fn tcp4_gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, tcp4_gro_receive);
    if list.len() > 1 {
        merge(cx, list);
    }
}

fn merge(cx: &mut BhCx<'_>, list: &mut SkbList) {
    let mut open: [Option<Open>; MAX_GRO_SKBS] = [None; MAX_GRO_SKBS];
    let mut next = 0;
    list.replace_each(|list, mut skb| {
        let seen = look_at(&mut skb);
        let slot = seen.as_ref().and_then(|seen| {
            open.iter().position(|open| open.is_some_and(|open| open.flow == seen.flow))
        });
        if let (Some(seen), Some(slot)) = (&seen, slot) {
            if let Some(head) = &mut open[slot]
                && continues(list, head, &skb, seen)
            {
                skb_gro_receive(cx, list, head, (skb, seen));
                if ends(head, seen) {
                    open[slot] = None;
                }
                return;
            }
            open[slot] = None;
        }
        if let Some(seen) = seen.filter(may_begin) {
            let slot = slot.or_else(|| open.iter().position(Option::is_none)).unwrap_or(next);
            next = (slot + 1) % MAX_GRO_SKBS;
            let Segment { flow, seq, len, .. } = seen;
            let at = list.len();
            let next = seq.wrapping_add(len);
            open[slot] = Some(Open { at, flow, next, mss: len, segs: 1, fixed_id: false });
        }
        list.push(skb);
    });
    list.iter_mut().filter(|skb| skb.frag_list.is_some()).for_each(tcp_gro_complete);
}

/// More may follow it.
fn may_begin(seen: &Segment) -> bool {
    const STOP: u8 = TCPHDR_URG | TCPHDR_PSH | TCPHDR_RST | TCPHDR_SYN | TCPHDR_FIN;
    seen.len != 0 && seen.flags & STOP == 0
}

/// Nothing more is merged behind it: it is short, or the sender says so.
fn ends(head: &Open, seen: &Segment) -> bool {
    seen.len < head.mss || seen.flags & (TCPHDR_PSH | TCPHDR_FIN | TCPHDR_URG) != 0
}

/// A segment continues a packet: its headers are the first one's but for what must differ.
///
/// linux: net/ipv4/tcp_offload.c:tcp_gro_receive
#[inline(always)]
fn continues(list: &SkbList, head: &mut Open, skb: &Skb, seen: &Segment) -> bool {
    let Some(first) = list.packets.get(head.at) else { return false };
    if seen.seq != head.next || seen.len == 0 || seen.len > head.mss || head.segs == u16::MAX {
        return false;
    }
    if first.len + seen.len >= GRO_MAX_SIZE {
        return false;
    }
    let (Some(old), Some(new)) = (front(first), front(skb)) else { return false };
    // TOS, DF, TTL and protocol of IP; of TCP the acknowledgement, the window, the length, and flags but for the
    // last one's.
    const LAST: u8 = TCPHDR_FIN | TCPHDR_PSH;
    let ids = new.0.id.get().wrapping_sub(old.0.id.get());
    // The second one shows whether they count; those that may be fragmented must.
    if head.segs == 1 && ids == 0 && new.0.df() {
        head.fixed_id = true;
    }
    if ids != if head.fixed_id { 0 } else { head.segs } {
        return false;
    }
    let flags = old.1.flags ^ new.1.flags;
    old.0.tos == new.0.tos
        && old.0.frag_off == new.0.frag_off
        && old.0.ttl == new.0.ttl
        && old.1.ack_seq == new.1.ack_seq
        && old.1.window == new.1.window
        && old.1.doff_res == new.1.doff_res
        && flags & !LAST == 0
        && new.1.flags & TCPHDR_CWR == 0
        && old.1.flags & TCPHDR_ACK != 0
        && old.2.get(..seen.thlen - size_of::<TcpHdr>())
            == new.2.get(..seen.thlen - size_of::<TcpHdr>())
}

#[inline(always)]
fn front(skb: &Skb) -> Option<(&IpHdr, &TcpHdr, &[u8])> {
    let (iph, rest) = IpHdr::ref_from_prefix(skb.data()).ok()?;
    let (th, options) = TcpHdr::ref_from_prefix(rest).ok()?;
    Some((iph, th, options))
}

/// A segment's data goes behind a packet's.
///
/// linux: net/core/gro.c:skb_gro_receive_list
#[inline(always)]
fn skb_gro_receive(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    head: &mut Open,
    (mut skb, seen): (Skb, &Segment),
) {
    walk!(cx, skb, napi_skb_finish => GroResult::MergedFree as u64);
    let Some(first) = list.packets.get_mut(head.at) else { return cx.free_skb(skb) };
    walk!(cx, skb, link_merge => first.walk_id.0);
    let _headers_are_linear = skb.skb_pull(IHL + seen.thlen);
    head.next = head.next.wrapping_add(seen.len);
    head.segs += 1;
    first.len += seen.len;
    first.data_len += seen.len;
    first.truesize += skb.truesize;
    first.gso = Gso { size: head.mss as u16, segs: head.segs, kind: GsoType::Tcpv4 };
    let merged = first.frag_list.get_or_insert_with(|| cx.skb_list());
    merged.push(skb);
    let last = seen.flags & (TCPHDR_FIN | TCPHDR_PSH);
    if last != 0
        && let Some((_, rest)) = first.data_mut().and_then(|data| data.split_at_mut_checked(IHL))
        && let Ok((th, _)) = TcpHdr::mut_from_prefix(rest)
    {
        th.flags |= last;
    }
}

/// Makes a packet's headers those of all of it: the length, and a checksum to be filled in.
///
/// linux: net/ipv4/tcp_offload.c:tcp4_gro_complete
fn tcp_gro_complete(first: &mut Skb) {
    let len = first.len;
    first.csum_start = first.headroom() as u16 + IHL as u16;
    first.csum_offset = std::mem::offset_of!(TcpHdr, check) as u16;
    first.ip_summed = IpSummed::Partial;
    let Some((iph, rest)) = first.data_mut().and_then(|data| IpHdr::mut_from_prefix(data).ok())
    else {
        return;
    };
    iph.tot_len.set(len as u16);
    iph.check.set(0);
    iph.check.set(csum_fold(csum_partial(iph.as_bytes(), 0)));
    let (saddr, daddr) = (iph.saddr.get(), iph.daddr.get());
    let Ok((th, _)) = TcpHdr::mut_from_prefix(rest) else { return };
    let pseudo = csum_tcpudp_nofold(saddr, daddr, len - IHL as u32, IPPROTO_TCP, 0);
    th.check.set(!csum_fold(pseudo));
}

#[cfg(test)]
mod tests;
