//! Segment sizes, and cutting segments that are too long for them.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_fragment`, `tcp_sync_mss`, `tcp_trim_head`).

use super::options::established_header_len;
use super::tcp_mtup_bound;
use crate::kernel::context::{BhCx, Walker as _};
use crate::kernel::trace::events::Point;
use crate::net::core::skbuff::{Cb, SkBuff, Skb, SkbFlags, SkbFrag};
use crate::net::core::stream::{sk_forced_mem_charge, sk_mem_uncharge};
use crate::net::ipv4::tcp::{Sacked, SeqNr, TcpSk, TcpSkbCb, TcpSock};
use uapi::snmp::LinuxMib;
use uapi::tcp::{TCPHDR_FIN, TCPHDR_PSH};

/// The handle of a segment without a head, as memory is accounted.
pub(crate) const SEGMENT_OVERHEAD: usize = size_of::<SkBuff>();

/// What TCP keeps in a segment of a queue.
#[inline]
pub(crate) fn cb(skb: &SkBuff) -> &TcpSkbCb {
    match &skb.cb {
        Cb::Tcp(cb) => cb,
        _ => const { &TcpSkbCb::NONE },
    }
}

/// The same, to change.
#[inline]
pub(crate) fn cb_mut(skb: &mut SkBuff) -> &mut TcpSkbCb {
    if !matches!(skb.cb, Cb::Tcp(_)) {
        skb.cb = Cb::Tcp(TcpSkbCb::NONE);
    }
    match &mut skb.cb {
        Cb::Tcp(cb) => cb,
        _ => unreachable!("made so above"),
    }
}

/// Segments that a packet of a queue counts as.
///
/// linux: include/net/tcp.h:tcp_skb_pcount
#[inline]
pub(crate) fn tcp_skb_pcount(skb: &SkBuff) -> u32 {
    u32::from(skb.gso.segs)
}

/// Octets of each of a packet's segments but the last, as it was counted.
///
/// linux: include/net/tcp.h:tcp_skb_mss
#[inline]
pub(crate) fn tcp_skb_mss(skb: &SkBuff) -> u32 {
    u32::from(skb.gso.size).max(1)
}

/// Octets of the longest of a packet's segments.
///
/// linux: include/net/tcp.h:tcp_skb_seglen
pub(super) fn tcp_skb_seglen(skb: &SkBuff) -> u32 {
    if tcp_skb_pcount(skb) > 1 { tcp_skb_mss(skb) } else { skb.data_len }
}

/// Counts a packet's segments anew.
///
/// linux: net/ipv4/tcp_output.c:tcp_set_skb_tso_segs
pub(crate) fn tcp_set_skb_tso_segs(skb: &mut SkBuff, mss: u32) -> u32 {
    let segs = skb.data_len.div_ceil(mss.max(1)).max(1);
    skb.gso.size = mss as u16;
    skb.gso.segs = u16::try_from(segs).unwrap_or(u16::MAX);
    u32::from(skb.gso.segs)
}

/// So many pieces lie in the socket that somebody must be driving it there (CVE-2019-11478): of what was sent
/// no more are made.
///
/// linux: net/ipv4/tcp_output.c:tcp_fragment
pub(crate) fn too_many_pieces(cx: &mut BhCx<'_>, sk: &TcpSk<'_>) -> bool {
    let many = sk.tp.wmem_queued / 2 > sk.sk.sndbuf() + 2 * 65_536;
    if many {
        cx.count(LinuxMib::TCPWqueueTooBig);
    }
    many
}

/// Cuts a segment behind `len` octets: it keeps those, what is returned has the rest. `None`, and nothing
/// changed, when there is no memory.
///
/// linux: net/ipv4/tcp_output.c:tcp_fragment
pub(crate) fn tcp_fragment(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    skb: &mut Skb,
    (len, mss): (u32, u32),
) -> Option<Skb> {
    if len == 0 || len >= skb.data_len {
        return None;
    }
    let mut rest = cx.cpu.pool.alloc_handle()?;
    rest.truesize = SEGMENT_OVERHEAD as u32;
    split_frags(skb, &mut rest, len);
    let was = *cb(skb);
    let tail = TcpSkbCb { seq: was.seq + len, ..was };
    rest.cb = Cb::Tcp(tail);
    let head = cb_mut(skb);
    head.end_seq = tail.seq;
    head.tcp_flags &= !(TCPHDR_FIN | TCPHDR_PSH);
    head.eor = false;
    rest.set_tstamp(skb.tstamp());
    rest.tcp_tx = skb.tcp_tx;
    if skb.flags.intersects(SkbFlags::TX_TSTAMP) {
        tcp_fragment_tstamp(skb, &mut rest);
    }
    tcp_set_skb_tso_segs(skb, mss);
    tcp_set_skb_tso_segs(&mut rest, mss);
    sk.tp.wmem_queued += SEGMENT_OVERHEAD;
    sk_forced_mem_charge(cx, sk, SEGMENT_OVERHEAD);
    if skb.walk_id.watched() {
        rest.walk_id = cx.m.tracer.fresh();
        cx.walk_packet(&rest, Point::link_clone, skb.walk_id.0);
    }
    Some(rest)
}

/// Of two parts of a segment the one is to be told of that has the octet.
///
/// linux: net/ipv4/tcp_output.c:tcp_fragment_tstamp
#[cold]
fn tcp_fragment_tstamp(skb: &mut SkBuff, rest: &mut SkBuff) {
    if !SeqNr(skb.csum).before(cb(rest).seq) {
        rest.flags |= skb.flags & SkbFlags::TX_TSTAMP;
        rest.csum = skb.csum;
        skb.flags.remove(SkbFlags::TX_TSTAMP);
    }
}

/// Leaves what lies behind `len` octets of a packet at the head of the send queue; false without memory.
pub(super) fn cut(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    skb: &mut Skb,
    (len, mss): (u32, u32),
) -> bool {
    if skb.data_len <= len {
        return true;
    }
    match tcp_fragment(cx, sk, skb, (len, mss)) {
        Some(rest) => sk.tp.write_queue.push_front(rest),
        None => return false,
    }
    true
}

/// Moves what lies behind `len` octets to `rest`.
fn split_frags(skb: &mut Skb, rest: &mut Skb, len: u32) {
    let (mut left, mut at) = (len, 0);
    while at < skb.frags.len() && left >= skb.frags[at].size {
        left -= skb.frags[at].size;
        at += 1;
    }
    let mut moved = skb.frags.split_off(at);
    if left != 0
        && let Some(first) = moved.first_mut()
    {
        let kept = SkbFrag { size: left, ..first.clone() };
        first.offset += left;
        first.size -= left;
        skb.frags.push(kept);
    }
    let behind = skb.data_len - len;
    rest.frags = moved;
    (rest.len, rest.data_len) = (behind, behind);
    rest.truesize += behind;
    skb.truesize -= behind;
    (skb.len, skb.data_len) = (len, len);
}

/// Moves what follows a segment to its end. What is left of `next` is the handle.
pub(super) fn tcp_skb_join(skb: &mut SkBuff, next: &mut SkBuff) {
    let (moved, other) = (next.data_len, *cb(next));
    skb.frags.append(&mut next.frags);
    (skb.len, skb.data_len) = (skb.len + moved, skb.data_len + moved);
    skb.truesize += moved;
    (next.len, next.data_len) = (0, 0);
    next.truesize -= moved;
    let own = cb_mut(skb);
    own.end_seq = other.end_seq;
    own.tcp_flags |= other.tcp_flags;
    own.sacked |= other.sacked & Sacked::EVER_RETRANS;
    own.eor = other.eor;
    // One octet is told of, the last of both.
    if next.flags.intersects(SkbFlags::TX_TSTAMP) {
        skb.flags |= next.flags & SkbFlags::TX_TSTAMP;
        skb.csum = next.csum;
    }
}

/// Takes octets off a segment's front that were acknowledged.
///
/// linux: net/ipv4/tcp_output.c:tcp_trim_head
pub(crate) fn tcp_trim_head(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &mut Skb, len: u32) {
    let mut left = len.min(skb.data_len);
    let cut = left;
    let mut gone = 0;
    for frag in &mut skb.frags {
        if left < frag.size {
            frag.offset += left;
            frag.size -= left;
            break;
        }
        left -= frag.size;
        gone += 1;
    }
    for frag in skb.frags.drain(..gone) {
        cx.put_page(frag.page);
    }
    skb.len -= cut;
    skb.data_len -= cut;
    skb.truesize -= cut;
    cb_mut(skb).seq += cut;
    sk.tp.wmem_queued -= cut as usize;
    sk_mem_uncharge(cx, sk, cut as usize);
}

/// The segment size of packets of this length, without options.
///
/// linux: net/ipv4/tcp_output.c:tcp_mtu_to_mss
pub(super) fn tcp_mtu_to_mss(tp: &TcpSock, mtu: u32) -> u32 {
    let mss = mtu.saturating_sub(40).min(u32::from(tp.rx_opt.mss_clamp));
    let mss = mss.saturating_sub(tp.ext_hdr_len.into());
    let options = u32::from(tp.tcp_header_len).saturating_sub(20);
    // Floored before the options are taken off, as CVE-2019-11479 asks.
    mss.max(tp.min_snd_mss.into()).saturating_sub(options).max(8)
}

/// The MTU of the way, as far as is known.
pub(crate) fn path_mtu(tp: &TcpSock) -> u32 {
    let mtu = tp.dst.as_ref().map_or(tp.pmtu_cookie, |dst| dst.mtu);
    if tp.pmtu != 0 { mtu.min(tp.pmtu) } else { mtu }
}

/// Takes over an MTU of the way.
///
/// linux: net/ipv4/tcp_output.c:tcp_sync_mss
pub(crate) fn tcp_sync_mss(sk: &mut TcpSk<'_>, mtu: u32) -> u32 {
    let mss = tcp_mtu_to_mss(sk.tp, mtu);
    let mss = tcp_bound_to_half_wnd(sk.tp, mss);
    let mss = tcp_mtup_bound(sk.tp, mtu, mss);
    sk.tp.pmtu_cookie = mtu;
    sk.tp.mss_cache = mss;
    sk.tp.cong.mss_cache = mss;
    mss
}

/// A segment is no longer than half of the largest window that the peer ever offered.
///
/// linux: include/net/tcp.h:tcp_bound_to_half_wnd
fn tcp_bound_to_half_wnd(tp: &TcpSock, size: u32) -> u32 {
    let cutoff = if tp.max_window > 536 { tp.max_window >> 1 } else { tp.max_window };
    if cutoff != 0 && size > cutoff {
        cutoff.max(68 - u32::from(tp.tcp_header_len).min(60))
    } else {
        size
    }
}

/// The segment size of now, with the options that are due.
///
/// linux: net/ipv4/tcp_output.c:tcp_current_mss
#[inline]
pub(crate) fn tcp_current_mss(sk: &mut TcpSk<'_>) -> u32 {
    let mtu = path_mtu(sk.tp);
    let mut mss = sk.tp.mss_cache;
    if mtu != sk.tp.pmtu_cookie && sk.tp.dst.is_some() {
        mss = tcp_sync_mss(sk, mtu);
    }
    let header = established_header_len(sk);
    if header != u16::from(sk.tp.tcp_header_len) {
        let more = i64::from(header) - i64::from(sk.tp.tcp_header_len);
        mss = (i64::from(mss) - more).max(8) as u32;
    }
    mss
}
