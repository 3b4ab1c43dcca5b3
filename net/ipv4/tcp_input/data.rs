//! Data that came: in order, to be read; early, to wait; late, to be told of.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_data_queue`, `tcp_data_queue_ofo`, `tcp_prune_queue`); RFC 9293 section
//! 3.10.7.4, RFC 2018, RFC 2883. What waits out of order lies in a tree, by distance from the connection's
//! start: whatever pieces a peer sends, each costs the logarithm of those that are there (CVE-2018-5390).

use super::comp_sack::{TCP_SACK_BLOCKS_EXPECTED, tcp_sack_compress_send_ack};
use super::prune::tcp_try_rmem_schedule;
use super::window::{tcp_event_data_recv, tcp_grow_window, tcp_measure_rcv_mss, tcp_rcvbuf_grow};
use super::{Segment, tcp_enter_quickack_mode, tcp_fin};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, SkbFlags, kfree_skb};
use crate::net::core::sock::SockState;
use crate::net::core::stream::{sk_forced_mem_charge, sk_mem_uncharge};
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::tcp::{
    AckPending, ConnectState, MAX_SKB_FRAGS, SackBlock, SeqNr, TCP_MAX_QUICKACKS, TcpSk, TcpSock,
    tcp_stream_is_readable,
};
use crate::net::ipv4::tcp_ecn::tcp_ecn_check_ce;
use crate::net::ipv4::tcp_output::{cb, cb_mut};
use uapi::snmp::LinuxMib;
use uapi::tcp::TCPHDR_FIN;

/// Where a segment lies, counted from the connection's start: for one beyond `rcv_nxt`.
fn place(tp: &TcpSock, seq: SeqNr) -> u64 {
    tp.bytes_received + u64::from(seq - tp.rcv_nxt)
}

/// So much has arrived in order.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_nxt_update
#[inline]
fn tcp_rcv_nxt_update(tp: &mut TcpSock, seq: SeqNr) {
    tp.bytes_received += u64::from(seq - tp.rcv_nxt);
    tp.rcv_nxt = seq;
}

/// An acknowledgement is due.
#[inline]
pub(super) fn inet_csk_schedule_ack(tp: &mut TcpSock) {
    tp.ack.pending |= AckPending::SCHED;
}

/// A duplicate is to be reported (RFC 2883).
///
/// linux: net/ipv4/tcp_input.c:tcp_dsack_set
pub(super) fn tcp_dsack_set(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, start: SeqNr, end: SeqNr) {
    if !sk.tp.rx_opt.sack_ok || !cx.t.net.sysctl.tcp.dsack {
        return;
    }
    let old = start.before(sk.tp.rcv_nxt);
    cx.count(if old { LinuxMib::TCPDSACKOldSent } else { LinuxMib::TCPDSACKOfoSent });
    sk.tp.rx_opt.dsack = true;
    sk.tp.duplicate_sack = SackBlock { start, end };
}

/// linux: net/ipv4/tcp_input.c:tcp_dsack_extend
fn tcp_dsack_extend(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, start: SeqNr, end: SeqNr) {
    if sk.tp.rx_opt.dsack {
        tcp_sack_extend(&mut sk.tp.duplicate_sack, start, end);
    } else {
        tcp_dsack_set(cx, sk, start, end);
    }
}

/// Makes a block larger by one that touches it; false when it does not.
///
/// linux: net/ipv4/tcp_input.c:tcp_sack_extend
fn tcp_sack_extend(block: &mut SackBlock, start: SeqNr, end: SeqNr) -> bool {
    if start.after(block.end) || block.start.after(end) {
        return false;
    }
    block.start = block.start.min(start);
    block.end = block.end.max(end);
    true
}

/// Takes a segment's data: to the reader, or to wait. The segment's header is pulled already.
///
/// linux: net/ipv4/tcp_input.c:tcp_data_queue
pub(super) fn tcp_data_queue(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb) {
    walk!(cx, skb, tcp_data_queue);
    let own = cb(&skb);
    if own.seq == own.end_seq {
        return crate::net::core::skbuff::consume_skb(cx, skb);
    }
    sk.tp.rx_opt.dsack = false;
    let window = sk.tp.tcp_receive_window();
    if own.seq == sk.tp.rcv_nxt {
        if window == 0 {
            cx.count(LinuxMib::TCPZeroWindowDrop);
            return out_of_window(cx, sk, skb, DropReason::TcpZeroWindow);
        }
        return queue_and_out(cx, sk, skb);
    }
    if !own.end_seq.after(sk.tp.rcv_nxt) {
        // All of it was here: the acknowledgement was lost, or came too late.
        cx.count(LinuxMib::DelayedACKLost);
        tcp_dsack_set(cx, sk, own.seq, own.end_seq);
        return out_of_window(cx, sk, skb, DropReason::TcpOldData);
    }
    if !own.seq.before(sk.tp.rcv_nxt + window) {
        return out_of_window(cx, sk, skb, DropReason::TcpOverwindow);
    }
    if own.seq.before(sk.tp.rcv_nxt) {
        let known = sk.tp.rcv_nxt;
        tcp_dsack_set(cx, sk, own.seq, known);
        if window == 0 {
            cx.count(LinuxMib::TCPZeroWindowDrop);
            return out_of_window(cx, sk, skb, DropReason::TcpZeroWindow);
        }
        return queue_and_out(cx, sk, skb);
    }
    tcp_data_queue_ofo(cx, sk, skb);
}

/// A segment that can't be taken is answered at once.
fn out_of_window(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb, reason: DropReason) {
    tcp_enter_quickack_mode(sk.tp, TCP_MAX_QUICKACKS);
    inet_csk_schedule_ack(sk.tp);
    kfree_skb(cx, skb, reason);
}

/// Queues a segment that continues what is here, and what it makes continuous.
fn queue_and_out(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb) {
    if !tcp_try_rmem_schedule(cx, sk, skb.truesize as usize) {
        inet_csk_schedule_ack(sk.tp);
        sk.tp.ack.pending |= AckPending::NOMEM | AckPending::NOW;
        sk.st.sk_data_ready(cx);
        if !sk.st.receive_queue.is_empty() && skb.len() != 0 {
            cx.count(LinuxMib::TCPRcvQDrop);
            return kfree_skb(cx, skb, DropReason::ProtoMem);
        }
        sk_forced_mem_charge(cx, sk, skb.truesize as usize);
    }
    let (own, len) = (*cb(&skb), skb.len());
    if len != 0 {
        tcp_event_data_recv(cx, sk, &skb);
    }
    tcp_queue_rcv(cx, sk, skb);
    stamp_last(cx, sk.st);
    if own.tcp_flags & TCPHDR_FIN != 0 {
        tcp_fin(cx, sk);
    }
    if !sk.tp.out_of_order_queue.is_empty() {
        tcp_ofo_queue(cx, sk);
        // RFC 5681 section 4.2: a hole was filled.
        if sk.tp.out_of_order_queue.is_empty() {
            sk.tp.ack.pending |= AckPending::NOW;
        }
    }
    if sk.tp.rx_opt.num_sacks != 0 {
        tcp_sack_remove(sk.tp);
    }
    if len != 0 && !sk.tp.orphan {
        tcp_data_ready(cx, sk);
    }
}

/// Wakes who reads, if there is as much as he wants.
///
/// linux: net/ipv4/tcp_input.c:tcp_data_ready
#[inline]
pub(super) fn tcp_data_ready(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if tcp_stream_is_readable(sk.st, sk.tp, sk.st.opts.rcvlowat) {
        sk.st.sk_data_ready(cx);
    }
}

/// Puts a segment behind what is to be read, its data in the last one's buffer where that has room. It is
/// charged to the account already.
///
/// linux: net/ipv4/tcp_input.c:tcp_queue_rcv
#[inline(always)]
pub(crate) fn tcp_queue_rcv(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb) {
    walk!(cx, skb, tcp_queue_rcv);
    let end = cb(&skb).end_seq;
    tcp_rcv_nxt_update(sk.tp, end);
    let mut skb = skb;
    let size = skb.truesize as usize;
    if let Some(tail) = sk.st.receive_queue.skb_peek_tail_mut()
        && let Some(grown) = tcp_try_coalesce(tail, &mut skb)
    {
        sk.st.rmem_alloc += grown;
        sk_mem_uncharge(cx, sk, size - grown);
        cx.count(LinuxMib::TCPRcvCoalesce);
        walk!(cx, skb, consume_skb);
        return cx.free_skb(skb);
    }
    sk.st.rmem_alloc += size;
    skb.dev = None;
    sk.st.receive_queue.skb_queue_tail(skb);
}

/// Joins a segment's data to another's, which it continues: copied where there is room for it, or by taking over
/// its pages. By so much the other one's `truesize` has grown; `None`: they stay two.
///
/// linux: net/ipv4/tcp_input.c:tcp_try_coalesce
#[inline]
pub(super) fn tcp_try_coalesce(to: &mut Skb, from: &mut Skb) -> Option<usize> {
    // A full segment that came in one piece is not even looked at.
    if from.data_len == 0 && from.len() > to.tailroom() {
        return None;
    }
    coalesce(to, from)
}

#[inline(never)]
fn coalesce(to: &mut Skb, from: &mut Skb) -> Option<usize> {
    let (own, other) = (cb(to), *cb(from));
    if own.end_seq != other.seq || own.tcp_flags & TCPHDR_FIN != 0 {
        return None;
    }
    let grown = skb_try_coalesce(to, from)?;
    let merged = cb_mut(to);
    merged.end_seq = other.end_seq;
    merged.tcp_flags |= other.tcp_flags;
    if from.flags.contains(SkbFlags::STAMPED) {
        to.set_tstamp(from.tstamp());
    }
    Some(grown)
}

/// The reader wants to know when data came: that which was queued last came now.
///
/// linux: include/net/tcp.h:tcp_skb_cb (`has_rxtstamp`)
// Behind it all, where no packet has to be kept in a register.
#[inline]
pub(super) fn stamp_last(cx: &BhCx<'_>, st: &mut SockState) {
    if st.inet.cmsg_flags.intersects(CmsgFlags::TIMED) {
        stamp(cx, st.receive_queue.skb_peek_tail_mut());
    }
}

#[cold]
#[inline(never)]
fn stamp(cx: &BhCx<'_>, skb: Option<&mut Skb>) {
    if let Some(skb) = skb {
        skb.set_tstamp(Ktime(cx.m.ktime_get_real()));
    }
}

/// linux: net/core/skbuff.c:skb_try_coalesce
fn skb_try_coalesce(to: &mut Skb, from: &mut Skb) -> Option<usize> {
    let len = from.len();
    if len == 0 {
        return Some(0);
    }
    if len <= to.tailroom() {
        from.skb_copy_bits(0, to.skb_put(len)?);
        return Some(0);
    }
    let paged = from.data_len as usize == len;
    if !paged || to.frag_list.is_some() || to.frags.len() + from.frags.len() > MAX_SKB_FRAGS {
        return None;
    }
    let moved = from.data_len;
    to.frags.append(&mut from.frags);
    (to.len, to.data_len) = (to.len + moved, to.data_len + moved);
    (from.len, from.data_len) = (0, 0);
    to.truesize += moved;
    from.truesize = from.truesize.saturating_sub(moved);
    Some(moved as usize)
}

/// What waited out of order and is in order now.
///
/// linux: net/ipv4/tcp_input.c:tcp_ofo_queue
fn tcp_ofo_queue(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    // What is told of is what came just now and was there; not where those that waited cover each other, which was
    // told of when they came.
    let mut dsack_high = sk.tp.rcv_nxt;
    while let Some(first) = sk.tp.out_of_order_queue.first_entry() {
        let own = *cb(first.get());
        if own.seq.after(sk.tp.rcv_nxt) {
            break;
        }
        let skb = first.remove();
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        if own.seq.before(dsack_high) {
            let known = dsack_high;
            dsack_high = dsack_high.min(own.end_seq);
            tcp_dsack_extend(cx, sk, own.seq, known);
        }
        if !own.end_seq.after(sk.tp.rcv_nxt) {
            sk_mem_uncharge(cx, sk, size);
            kfree_skb(cx, skb, DropReason::TcpOfoDrop);
            continue;
        }
        tcp_queue_rcv(cx, sk, skb);
        if own.tcp_flags & TCPHDR_FIN != 0 {
            tcp_fin(cx, sk);
            // What lay beyond the end is gone with it.
            break;
        }
    }
}

/// A segment beyond a hole waits.
///
/// linux: net/ipv4/tcp_input.c:tcp_data_queue_ofo
fn tcp_data_queue_ofo(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, mut skb: Skb) {
    walk!(cx, skb, tcp_data_queue_ofo);
    if sk.st.inet.cmsg_flags.intersects(CmsgFlags::TIMED) {
        stamp(cx, Some(&mut skb));
    }
    let size = skb.truesize as usize;
    tcp_ecn_check_ce(cx, sk.tp, cb(&skb).ip_dsfield);
    if !tcp_try_rmem_schedule(cx, sk, size) {
        cx.count(LinuxMib::TCPOFODrop);
        sk.st.sk_data_ready(cx);
        return kfree_skb(cx, skb, DropReason::ProtoMem);
    }
    tcp_measure_rcv_mss(sk, &skb);
    inet_csk_schedule_ack(sk.tp);
    sk.tp.stats.rcv_ooopack = sk.tp.stats.rcv_ooopack.wrapping_add(1);
    cx.count(LinuxMib::TCPOFOQueue);
    let own = cb(&skb);
    let at = place(sk.tp, own.seq);
    let end_at = at + u64::from(own.end_seq - own.seq);
    // In front of it: one that begins no later.
    if let Some((before_at, before)) = sk.tp.out_of_order_queue.range(..=at).next_back() {
        let (before_at, before_end) = (*before_at, cb(before).end_seq);
        if !own.end_seq.after(before_end) {
            cx.count(LinuxMib::TCPOFOMerge);
            tcp_dsack_set(cx, sk, own.seq, own.end_seq);
            if sk.tp.rx_opt.sack_ok {
                // RFC 2883 section 4: the block that holds it comes first among the others.
                let (start, end) = (own.seq, own.end_seq);
                tcp_sack_new_ofo_skb(cx, sk, start, end);
            }
            sk_mem_uncharge(cx, sk, size);
            return kfree_skb(cx, skb, DropReason::TcpOfoMerge);
        }
        if own.seq.before(before_end) {
            tcp_dsack_set(cx, sk, own.seq, before_end);
        }
        if before_at == at {
            forget_early(cx, sk, at);
        }
    }
    // Behind it: those that it covers go.
    while let Some((next_at, next)) = sk.tp.out_of_order_queue.range(at + 1..end_at).next() {
        let (next_at, next) = (*next_at, cb(next));
        if next.end_seq.after(own.end_seq) {
            tcp_dsack_extend(cx, sk, next.seq, own.end_seq);
            break;
        }
        cx.count(LinuxMib::TCPOFOMerge);
        tcp_dsack_extend(cx, sk, next.seq, next.end_seq);
        forget_early(cx, sk, next_at);
    }
    if sk.tp.rx_opt.sack_ok {
        tcp_sack_new_ofo_skb(cx, sk, own.seq, own.end_seq);
        // Without SACK the window stays, so that what is sent counts as a duplicate acknowledgement.
        tcp_grow_window(cx, sk, &skb);
    }
    sk.st.rmem_alloc += size;
    skb.dev = None;
    sk.tp.out_of_order_queue.insert(at, skb);
    // Not for one that nobody has accepted yet, or that nobody has any more.
    if !sk.tp.orphan && sk.tp.connect != ConnectState::Unconnected {
        let read = sk.tp.rcvq_space.space;
        tcp_rcvbuf_grow(cx, sk, read);
    }
}

/// One that waits is covered by another.
fn forget_early(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, at: u64) {
    if let Some(skb) = sk.tp.out_of_order_queue.remove(&at) {
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        kfree_skb(cx, skb, DropReason::TcpOfoMerge);
    }
}

/// What waits is reported by blocks, the latest first.
///
/// linux: net/ipv4/tcp_input.c:tcp_sack_new_ofo_skb
fn tcp_sack_new_ofo_skb(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, start: SeqNr, end: SeqNr) {
    let mut count = usize::from(sk.tp.rx_opt.num_sacks);
    let blocks = &mut sk.tp.selective_acks;
    let known = (0..count).find(|at| tcp_sack_extend(&mut blocks[*at], start, end));
    if known.unwrap_or(count) >= TCP_SACK_BLOCKS_EXPECTED {
        // What the last ones say is about to be pushed out.
        tcp_sack_compress_send_ack(cx, sk);
    }
    let tp = &mut *sk.tp;
    let blocks = &mut tp.selective_acks;
    if let Some(at) = known {
        blocks[..=at].rotate_right(1);
        // It may touch another one now.
        let first = blocks[0];
        let mut other = 1;
        while other < count {
            let SackBlock { start, end } = blocks[other];
            if tcp_sack_extend(&mut blocks[0], start, end) {
                blocks.copy_within(other + 1..count, other);
                count -= 1;
                // What grew may reach those passed over.
                if blocks[0] != first {
                    other = 1;
                    continue;
                }
            } else {
                other += 1;
            }
        }
        tp.rx_opt.num_sacks = count as u8;
        return;
    }
    count = (count + 1).min(blocks.len());
    blocks[..count].rotate_right(1);
    blocks[0] = SackBlock { start, end };
    tp.rx_opt.num_sacks = count as u8;
}

/// Blocks that are in order now are reported no more.
///
/// linux: net/ipv4/tcp_input.c:tcp_sack_remove
pub(super) fn tcp_sack_remove(tp: &mut TcpSock) {
    if tp.out_of_order_queue.is_empty() {
        tp.rx_opt.num_sacks = 0;
        return;
    }
    let (count, next) = (usize::from(tp.rx_opt.num_sacks), tp.rcv_nxt);
    let mut kept = 0;
    for at in 0..count {
        let block = tp.selective_acks[at];
        if next.before(block.start) {
            tp.selective_acks[kept] = block;
            kept += 1;
        }
    }
    tp.rx_opt.num_sacks = kept as u8;
}

/// What a segment says of urgent data, and its data, go where they belong. Its header is pulled here.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_established (step 7)
pub(super) fn tcp_data_step(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, mut skb: Skb, seg: &Segment) {
    if !skb.skb_pull(seg.th.doff()) {
        return kfree_skb(cx, skb, DropReason::HdrTrunc);
    }
    tcp_data_queue(cx, sk, skb);
}
