//! Memory for what comes: what is packed closer, and what goes, when there is too little. Context: BH, under the
//! socket's lock.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_prune_queue`, `tcp_collapse`).

use super::data::tcp_try_coalesce;
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, alloc_skb, kfree_skb, skb_add_paged};
use crate::net::core::stream::{
    MemKind, sk_forced_mem_charge, sk_mem_charge, sk_mem_uncharge, sk_memory_allocated,
    tcp_under_memory_pressure,
};
use crate::net::ipv4::tcp::TcpSk;
use crate::net::ipv4::tcp_output::{cb, cb_mut, tcp_adjust_rcv_ssthresh};
use uapi::snmp::LinuxMib;

/// Room for a segment: within the buffer, and in TCP's account, after throwing away what can be. It is
/// charged then.
///
/// linux: net/ipv4/tcp_input.c:tcp_try_rmem_schedule
pub(super) fn tcp_try_rmem_schedule(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, size: usize) -> bool {
    if sk.st.rmem_alloc <= sk.st.opts.rcvbuf as usize && sk_mem_charge(cx, sk, size, MemKind::Recv)
    {
        return true;
    }
    if !tcp_prune_queue(cx, sk) {
        return false;
    }
    loop {
        if sk_mem_charge(cx, sk, size, MemKind::Recv) {
            return true;
        }
        if !tcp_prune_ofo_queue(cx, sk) {
            return false;
        }
    }
}

/// The buffer is full: it grows if it may; what it holds is packed closer; what is out of order goes. False
/// when it is full all the same.
///
/// linux: net/ipv4/tcp_input.c:tcp_prune_queue
#[cold]
fn tcp_prune_queue(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    cx.count(LinuxMib::PruneCalled);
    if sk.st.rmem_alloc >= sk.st.opts.rcvbuf as usize {
        tcp_clamp_window(cx, sk);
    } else if tcp_under_memory_pressure(cx) {
        tcp_adjust_rcv_ssthresh(sk.tp);
    }
    let full = |sk: &TcpSk<'_>| sk.st.rmem_alloc > sk.st.opts.rcvbuf as usize;
    if !full(sk) {
        return true;
    }
    tcp_collapse(cx, sk);
    if !full(sk) {
        return true;
    }
    tcp_prune_ofo_queue(cx, sk);
    if !full(sk) {
        return true;
    }
    cx.count(LinuxMib::RcvPruned);
    false
}

/// linux: net/ipv4/tcp_input.c:tcp_clamp_window
fn tcp_clamp_window(cx: &BhCx<'_>, sk: &mut TcpSk<'_>) {
    sk.tp.ack.quick = 0;
    let sysctl = &cx.t.net.sysctl.tcp;
    let roomy = sk_memory_allocated(cx) < i64::from(sysctl.mem[0]);
    if sk.st.opts.rcvbuf < sysctl.rmem[2]
        && !sk.tp.rcvbuf_locked
        && !tcp_under_memory_pressure(cx)
        && roomy
    {
        sk.st.opts.rcvbuf = (sk.st.rmem_alloc as u32).min(sysctl.rmem[2]).max(sk.st.opts.rcvbuf);
    }
    if sk.st.rmem_alloc > sk.st.opts.rcvbuf as usize {
        sk.tp.rcv_ssthresh = sk.tp.window_clamp.min(2 * sk.tp.advmss);
    }
}

/// Throws away what waits out of order, the latest first, an eighth of the buffer at a time: the peer sends it
/// again, and does not learn by which piece this machine could be driven.
///
/// linux: net/ipv4/tcp_input.c:tcp_prune_ofo_queue
fn tcp_prune_ofo_queue(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    if sk.tp.out_of_order_queue.is_empty() {
        return false;
    }
    let goal = (sk.st.opts.rcvbuf >> 3) as usize;
    let mut freed = 0;
    while let Some((_, skb)) = sk.tp.out_of_order_queue.pop_last() {
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        kfree_skb(cx, skb, DropReason::TcpOfoQueuePrune);
        freed += size;
        if freed >= goal
            && sk.st.rmem_alloc <= sk.st.opts.rcvbuf as usize
            && !tcp_under_memory_pressure(cx)
        {
            break;
        }
    }
    cx.count(LinuxMib::OfoPruned);
    // What was reported is here no more: nothing is reported until something comes (RFC 2018 section 8).
    sk.tp.rx_opt.num_sacks = 0;
    true
}

/// Packs what is to be read closer: segments whose buffers are mostly empty are copied into full ones. Each
/// octet is moved once a call, and what is packed already stays.
///
/// linux: net/ipv4/tcp_input.c:tcp_collapse
fn tcp_collapse(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    const ROOM: usize = 1900;
    let mut queue = std::mem::take(&mut sk.st.receive_queue);
    let mut packed: Option<Skb> = None;
    for mut skb in queue.drain() {
        let roomy = skb.truesize as usize > 2 * skb.len() + 512;
        let fits = packed
            .as_ref()
            .is_some_and(|last| cb(last).end_seq == cb(&skb).seq && skb.len() <= last.tailroom());
        if roomy && !fits && skb.len() > ROOM {
            // What was merged of small segments: its octets alone, in pages.
            copy_into_pages(cx, sk, &mut skb);
        } else if roomy && !fits && skb.tailroom() < ROOM / 2 {
            // A buffer of its own for it and those that follow.
            if let Some(mut fresh) = alloc_skb(cx, ROOM)
                && fresh.skb_put(0).is_some()
            {
                fresh.cb = skb.cb;
                cb_mut(&mut fresh).end_seq = cb(&skb).seq;
                cb_mut(&mut fresh).tcp_flags = 0;
                sk.st.rmem_alloc += fresh.truesize as usize;
                sk_forced_mem_charge(cx, sk, fresh.truesize as usize);
                if let Some(before) = packed.replace(fresh) {
                    sk.st.receive_queue.skb_queue_tail(before);
                }
            }
        }
        let size = skb.truesize as usize;
        match packed.as_mut().and_then(|last| tcp_try_coalesce(last, &mut skb)) {
            Some(grown) => {
                let size = size - grown;
                sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
                sk_mem_uncharge(cx, sk, size);
                walk!(cx, skb, consume_skb);
                cx.free_skb(skb);
                cx.count(LinuxMib::TCPRcvCollapsed);
            }
            None => {
                if let Some(before) = packed.replace(skb) {
                    sk.st.receive_queue.skb_queue_tail(before);
                }
            }
        }
    }
    if let Some(last) = packed {
        sk.st.receive_queue.skb_queue_tail(last);
    }
}

/// Puts a copy of a segment into its place, whose data lies in pages. Without memory it stays as it is.
fn copy_into_pages(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &mut Skb) {
    let Some(mut fresh) = alloc_skb(cx, 0) else { return };
    if !skb.parts().all(|part| skb_add_paged(cx, &mut fresh, part)) {
        return cx.free_skb(fresh);
    }
    fresh.cb = skb.cb;
    let old = std::mem::replace(skb, fresh);
    sk.st.rmem_alloc += skb.truesize as usize;
    sk_forced_mem_charge(cx, sk, skb.truesize as usize);
    sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(old.truesize as usize);
    sk_mem_uncharge(cx, sk, old.truesize as usize);
    cx.count(LinuxMib::TCPRcvCollapsed);
    walk!(cx, old, consume_skb);
    cx.free_skb(old);
}
