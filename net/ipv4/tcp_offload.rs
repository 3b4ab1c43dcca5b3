//! TCP's part of GRO: segments that follow one another climb as one packet.
//!
//! linux: net/ipv4/tcp_offload.c. Context: BH. Invariants: a flow's segments stay in their order, and what comes
//! out is what a sender with a larger segment size could have sent; a segment whose headers differ from those
//! before it in anything but what must differ begins anew.
//! DIVERGES: segments are merged within one poll's list, and the packet stands where its first one stood: nothing
//! is held beside it.

use crate::kernel::context::BhCx;
use crate::net::core::dev::gro::{GroFlow, GroHead, GroHeads, inet_gro_finish};
use crate::net::core::skbuff::{GsoType, Skb, SkbList};
use crate::net::ipv4::ip_input::skb_checksum_validate;
use crate::net::ipv4::protocol::NetOffload;
use klib::checksum::ip_fast_csum;
use uapi::ip::{IPPROTO_TCP, IpHdr};
use uapi::tcp::{
    TCPHDR_ACK, TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN, TCPHDR_URG, TcpHdr,
};
use zerocopy::FromBytes;

const IHL: usize = size_of::<IpHdr>();

/// What TCP registers.
pub(crate) const TCPV4_OFFLOAD: NetOffload =
    NetOffload { gro_receive: tcp4_gro_receive, gro_complete: |_, _| (), holds: false };

/// A packet that more may be merged into, and the sequence number that the next segment must begin with.
type Open = GroHead<u32>;

/// A segment as it is looked at.
struct Segment {
    flow: GroFlow,
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
        flow: GroFlow {
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
    let mut heads = GroHeads::new();
    list.replace_each(|list, mut skb| {
        let seen = look_at(&mut skb);
        let slot = seen.as_ref().and_then(|seen| heads.slot_of(seen.flow));
        if let (Some(seen), Some(slot)) = (&seen, slot) {
            if let Some(head) = heads.get_mut(slot)
                && continues(list, head, &skb, seen)
            {
                append(cx, list, head, (skb, seen));
                if ends(head, seen) {
                    heads.close(slot);
                }
                return;
            }
            heads.close(slot);
        }
        if let Some(Segment { flow, seq, len, .. }) = seen.filter(may_begin) {
            let head = GroHead::new(list.len(), flow, len, seq.wrapping_add(len));
            heads.begin(slot, head);
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
    seen.len < head.size || seen.flags & (TCPHDR_PSH | TCPHDR_FIN | TCPHDR_URG) != 0
}

/// A segment continues a packet: its headers are the first one's but for what must differ.
///
/// linux: net/ipv4/tcp_offload.c:tcp_gro_receive
#[inline(always)]
fn continues(list: &SkbList, head: &mut Open, skb: &Skb, seen: &Segment) -> bool {
    let Some(first) = list.packets.get(head.at) else { return false };
    if seen.seq != head.own || seen.len == 0 || seen.len > head.size {
        return false;
    }
    if !head.has_room(first, seen.len) {
        return false;
    }
    let (Some(old), Some(new)) = (front(first), front(skb)) else { return false };
    if head.inet_gro_flush(old.0, new.0) {
        return false;
    }
    // Of TCP the acknowledgement, the window, the length, and flags but for the last one's.
    const LAST: u8 = TCPHDR_FIN | TCPHDR_PSH;
    let flags = old.1.flags ^ new.1.flags;
    old.1.ack_seq == new.1.ack_seq
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
#[inline(always)]
fn append(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    head: &mut Open,
    (mut skb, seen): (Skb, &Segment),
) {
    let _headers_are_linear = skb.skb_pull(IHL + seen.thlen);
    head.own = head.own.wrapping_add(seen.len);
    head.skb_gro_receive(cx, list, skb, GsoType::Tcpv4);
    let last = seen.flags & (TCPHDR_FIN | TCPHDR_PSH);
    if last != 0
        && let Some(first) = list.packets.get_mut(head.at)
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
    let offset = std::mem::offset_of!(TcpHdr, check);
    if let Some((transport, _, check)) = inet_gro_finish(first, offset)
        && let Ok((th, _)) = TcpHdr::mut_from_prefix(transport)
    {
        th.check.set(check);
    }
}

#[cfg(test)]
mod tests;
