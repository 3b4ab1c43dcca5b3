//! TCP out: what of the send queue may go now, and when.
//!
//! linux: net/ipv4/tcp_output.c; RFC 9293 section 3.8, RFC 5681. Parts: `transmit` (a segment's way to IP),
//! `options`, `window` (ours), `limits` (what keeps a packet), `fragment` (sizes), `mtu_probe` (of the way), `retransmit`, `probe` (of the tail), `connect` (SYN, FIN, RST), `ack`
//! (acknowledgements and probes). Contexts: BH, under the socket's lock.

mod ack;
mod connect;
mod fragment;
mod limits;
mod mtu_probe;
mod options;
mod pacing;
mod probe;
mod retransmit;
mod transmit;
mod window;

pub(crate) use ack::{tcp_send_ack, tcp_send_delayed_ack, tcp_send_probe0, tcp_write_wakeup};
pub(crate) use connect::{tcp_connect, tcp_send_active_reset, tcp_send_fin, tcp_send_synack};
pub(crate) use fragment::{
    SEGMENT_OVERHEAD, cb, cb_mut, path_mtu, tcp_current_mss, tcp_fragment, tcp_set_skb_tso_segs,
    tcp_skb_mss, tcp_skb_pcount, tcp_sync_mss, tcp_trim_head, too_many_pieces,
};
pub(crate) use mtu_probe::{
    Mtup, tcp_mtu_probing, tcp_mtup_init, tcp_mtup_probe_failed, tcp_mtup_probe_success,
    tcp_mtup_probing,
};
pub(crate) use options::{TcpOutOptions, ipv4_default_advmss, tcp_mss_clamp, tcp_synack_options};
pub(crate) use pacing::{tcp_pace_kick, tcp_pacing_delay, tcp_stop_pacing};
pub(crate) use probe::{tcp_schedule_loss_probe, tcp_send_loss_probe};
pub(crate) use retransmit::{
    tcp_fragment_at, tcp_non_congestion_loss_retransmit, tcp_retransmit_skb, tcp_simple_retransmit,
    tcp_xmit_retransmit_queue,
};
pub(crate) use transmit::{Burst, tcp_transmit_skb, watch_segment};
pub(crate) use window::{
    __tcp_select_window, InitialWindow, tcp_adjust_rcv_ssthresh, tcp_full_space,
    tcp_select_initial_window, tcp_space,
};

use fragment::{cut, tcp_mtu_to_mss, tcp_skb_join, tcp_skb_seglen};
pub(crate) use limits::GSO_MAX_SIZE;
use limits::{
    Limit, Turn, kept_by, tcp_cwnd_test, tcp_mss_split_point, tcp_small_queue_check,
    tcp_snd_wnd_test, tcp_tso_segs,
};
use mtu_probe::{tcp_mtu_probe, tcp_mtup_bound, tcp_mtup_inconclusive};
use pacing::{tcp_pace, tcp_pacing_check};
use retransmit::__tcp_retransmit_skb;

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{SkBuff, Skb, consume_skb, kfree_skb};
use crate::net::core::sock::{Sock, SockLocked};
use crate::net::core::stream::{sk_mem_uncharge, sk_stream_write_space};
use crate::net::ipv4::tcp::{
    CaState, Deferred, IcskPending, Nonagle, SeqNr, TcpSk, TcpSock, TcpState,
};
use crate::net::ipv4::tcp_cong::TcpCaEvent;
use crate::net::ipv4::tcp_input::{cong_refresh, tcp_rearm_rto};
use crate::net::ipv4::tcp_ipv4::tcp_v4_mtu_reduced;
use crate::net::ipv4::tcp_timer::{
    tcp_check_probe_timer, tcp_delack_timer_handler, tcp_write_timer_handler,
};
use crate::net::net_namespace::NetId;
use std::sync::Arc;
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::TCPHDR_FIN;

/// What a call of [`tcp_write_xmit`] is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// All that may go.
    All,
    /// One segment.
    One,
    /// One, though the congestion window be full: a probe of the tail.
    Probe,
}

/// Sends what the windows, Nagle and the queues below allow. True when nothing is under way and something
/// waits all the same: somebody has to ask the peer.
///
/// linux: net/ipv4/tcp_output.c:tcp_write_xmit
pub(crate) fn tcp_write_xmit(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    mss: u32,
    nonagle: Nonagle,
    push: Push,
) -> bool {
    walk!(cx, tcp_write_xmit);
    let mut burst = Burst::new(cx);
    let probed = if push == Push::All { tcp_mtu_probe(cx, sk, &mut burst) } else { Some(0) };
    let Some(mut sent) = probed else {
        burst.finish(cx, sk);
        return false;
    };
    let max_segs = tcp_tso_segs(cx, sk, mss);
    let (mut cwnd_limited, mut rwnd_limited) = (false, false);
    while let Some(mut skb) = paced(cx, sk) {
        let segs = tcp_set_skb_tso_segs(&mut skb, mss);
        let quota = tcp_cwnd_test(sk.tp, &skb).max(u32::from(push == Push::Probe));
        let last = sk.tp.write_queue.is_empty();
        let turn = Turn { mss, max_segs, nonagle, push, quota, last };
        let kept = kept_by(cx, sk.tp, &skb, &turn);
        cwnd_limited |= kept == Some(Limit::Cwnd);
        rwnd_limited |= kept == Some(Limit::Rwnd);
        if kept.is_some() || tcp_small_queue_check(cx, sk, &skb) {
            sk.tp.write_queue.push_front(skb);
            break;
        }
        let limit = if segs > 1 && sk.tp.snd_una == sk.tp.snd_up {
            let most = (mss, quota.min(max_segs));
            tcp_mss_split_point(sk.tp, &skb, most, (last, nonagle))
        } else {
            mss
        };
        if !cut(cx, sk, &mut skb, (limit, mss))
            || tcp_transmit_skb(cx, sk, &mut skb, (&mut burst, mss)).is_err()
        {
            sk.tp.write_queue.push_front(skb);
            break;
        }
        sent += tcp_skb_pcount(&skb);
        tcp_minshall_update(sk.tp, mss, &skb);
        tcp_event_new_data_sent(cx, sk, skb);
        if burst.full() {
            burst.send(cx, sk);
        }
        if push != Push::All {
            break;
        }
    }
    burst.finish(cx, sk);
    chrono_limits(cx, sk, rwnd_limited);
    let full = sk.tp.tcp_packets_in_flight() >= sk.tp.cong.snd_cwnd;
    if sent != 0 || cwnd_limited {
        tcp_cwnd_validate(cx, sk, cwnd_limited || full);
    }
    if sent == 0 {
        return sk.tp.packets_out == 0 && !sk.tp.write_queue.is_empty();
    }
    if matches!(sk.tp.ca_state, CaState::Cwr | CaState::Recovery) {
        sk.tp.prr_out += sent;
    }
    if push != Push::Probe {
        tcp_schedule_loss_probe(cx, sk, false);
    }
    false
}

/// The first packet of the send queue, unless the pace holds it back.
fn paced(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Option<Skb> {
    if tcp_pacing_check(cx, sk) { None } else { sk.tp.write_queue.pop_front() }
}

/// What the time with something to send is spent on.
fn chrono_limits(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, rwnd_limited: bool) {
    use crate::net::ipv4::tcp::Chrono;
    if rwnd_limited {
        sk.chrono_start(cx, Chrono::RwndLimited);
    } else {
        sk.chrono_stop(cx, Chrono::RwndLimited);
    }
}

/// linux: net/ipv4/tcp_output.c:tcp_minshall_update
fn tcp_minshall_update(tp: &mut TcpSock, mss: u32, skb: &SkBuff) {
    if skb.data_len < tcp_skb_pcount(skb) * mss {
        tp.snd_sml = cb(skb).end_seq;
    }
}

/// A segment was sent for the first time: it waits for its acknowledgement now.
///
/// linux: net/ipv4/tcp_output.c:tcp_event_new_data_sent
fn tcp_event_new_data_sent(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb) {
    let before = sk.tp.packets_out;
    let segs = tcp_skb_pcount(&skb);
    sk.tp.snd_nxt = cb(&skb).end_seq;
    sk.tp.packets_out += segs;
    sk.tp.rtx_queue.push_back(skb);
    if before == 0 || sk.tp.pending == IcskPending::LossProbe {
        tcp_rearm_rto(cx, sk);
    }
    cx.cpu.mib.add(LinuxMib::TCPOrigDataSent.into(), segs.into());
}

/// The window grows only while it is used.
///
/// linux: net/ipv4/tcp_output.c:tcp_cwnd_validate
fn tcp_cwnd_validate(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, limited: bool) {
    let now = cx.now();
    let tp = &mut *sk.tp;
    let end = SeqNr(tp.cong.cwnd_usage_seq);
    if !tp.snd_una.before(end)
        || limited
        || (!tp.cong.is_cwnd_limited && tp.packets_out > tp.cong.max_packets_out)
    {
        tp.cong.is_cwnd_limited = limited;
        tp.cong.max_packets_out = tp.packets_out;
        tp.cong.cwnd_usage_seq = tp.snd_nxt.0;
    }
    cong_refresh(tp, now);
    if crate::net::ipv4::tcp_cong::tcp_is_cwnd_limited(&tp.cong) {
        tp.cong.snd_cwnd_used = 0;
        tp.cong.snd_cwnd_stamp = now;
        return;
    }
    tp.cong.snd_cwnd_used = tp.cong.snd_cwnd_used.max(tp.packets_out);
    let idle = now.us_since(tp.cong.snd_cwnd_stamp) >= u64::from(tp.rto);
    let restarts = cx.t.net.sysctl.tcp.slow_start_after_idle && !tp.ca_ops.has_cong_control();
    if restarts && idle {
        tcp_cwnd_application_limited(tp, now);
    }
    if tp.write_queue.is_empty() && tp.nospace && tp.state.may_send() {
        sk.chrono_start(cx, crate::net::ipv4::tcp::Chrono::SndbufLimited);
    }
}

/// The program has not used the window for a while: half of what it did not use goes (RFC 2861).
///
/// linux: net/ipv4/tcp_output.c:tcp_cwnd_application_limited
fn tcp_cwnd_application_limited(tp: &mut TcpSock, now: crate::kernel::time::Ktime) {
    if tp.ca_state == CaState::Open && !tp.nospace {
        let used = tp.cong.snd_cwnd_used.max(crate::net::ipv4::tcp::TCP_INIT_CWND);
        if used < tp.cong.snd_cwnd {
            tp.cong.snd_ssthresh = crate::net::ipv4::tcp_input::tcp_current_ssthresh(tp);
            tp.cong.snd_cwnd = (tp.cong.snd_cwnd + used) >> 1;
        }
        tp.cong.snd_cwnd_used = 0;
    }
    tp.cong.snd_cwnd_stamp = now;
}

/// After a pause longer than the time-out the window begins anew, halved for each time-out (RFC 5681 section
/// 4.1).
///
/// linux: net/ipv4/tcp_output.c:tcp_cwnd_restart
pub(crate) fn tcp_slow_start_after_idle_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    let tp = &mut *sk.tp;
    let idle = now.us_since(tp.cong.lsndtime);
    let on = cx.t.net.sysctl.tcp.slow_start_after_idle && tp.packets_out == 0;
    if !on || tp.cong.lsndtime == crate::kernel::time::Ktime::ZERO || idle <= u64::from(tp.rto) {
        return;
    }
    if tp.ca_ops.has_cong_control() {
        return;
    }
    let restart = crate::net::ipv4::tcp::TCP_INIT_CWND.min(tp.cong.snd_cwnd);
    let (mut cwnd, mut left) = (tp.cong.snd_cwnd, idle - u64::from(tp.rto));
    cong_refresh(tp, now);
    tp.ca_ops.cwnd_event(&mut tp.cong, TcpCaEvent::CwndRestart);
    tp.cong.snd_ssthresh = crate::net::ipv4::tcp_input::tcp_current_ssthresh(tp);
    loop {
        if cwnd <= restart {
            break;
        }
        cwnd >>= 1;
        if left < u64::from(tp.rto) {
            break;
        }
        left -= u64::from(tp.rto);
    }
    tp.cong.snd_cwnd = cwnd.max(restart);
    tp.cong.snd_cwnd_stamp = now;
    tp.cong.snd_cwnd_used = 0;
}

/// Sends what may go now; where nothing is under way and the window is closed, the timer will ask.
///
/// linux: net/ipv4/tcp_output.c:__tcp_push_pending_frames
pub(crate) fn __tcp_push_pending_frames(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    mss: u32,
    nonagle: Nonagle,
) {
    walk!(cx, __tcp_push_pending_frames);
    if sk.tp.state == TcpState::Close {
        return;
    }
    if tcp_write_xmit(cx, sk, mss, nonagle, Push::All) {
        tcp_check_probe_timer(cx, sk);
    }
}

/// Sends the one segment at the head: it is full, and what follows it is still being written.
///
/// linux: net/ipv4/tcp_output.c:tcp_push_one
pub(crate) fn tcp_push_one(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, mss: u32) {
    walk!(cx, tcp_push_one);
    tcp_write_xmit(cx, sk, mss, Nonagle::PUSH, Push::One);
}

/// Sends what waits, if anything does.
///
/// linux: include/net/tcp.h:tcp_push_pending_frames
#[inline]
pub(crate) fn tcp_push_pending_frames(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if !sk.tp.write_queue.is_empty() {
        let mss = tcp_current_mss(sk);
        let nonagle = sk.tp.nonagle;
        __tcp_push_pending_frames(cx, sk, mss, nonagle);
    }
}

/// Frees a segment of the send queues.
///
/// linux: include/net/tcp.h:tcp_wmem_free_skb
pub(crate) fn tcp_wmem_free_skb(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb) {
    let size = skb.truesize as usize;
    sk.tp.wmem_queued = sk.tp.wmem_queued.saturating_sub(size);
    sk_mem_uncharge(cx, sk, size);
    walk!(cx, skb, consume_skb);
    cx.free_skb(skb);
}

/// Empties the send queues: nobody wants what is in them any more.
///
/// linux: net/ipv4/tcp.c:tcp_write_queue_purge
pub(crate) fn tcp_write_queue_purge(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let written = std::mem::take(&mut sk.tp.write_queue);
    let sent = std::mem::take(&mut sk.tp.rtx_queue);
    sk.tp.tsorted_sent_queue = Default::default();
    for skb in sent.into_iter().chain(written) {
        let size = skb.truesize as usize;
        sk.tp.wmem_queued = sk.tp.wmem_queued.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        kfree_skb(cx, skb, DropReason::SocketClose);
    }
    let tp = &mut *sk.tp;
    (tp.packets_out, tp.sacked_out, tp.lost_out, tp.retrans_out) = (0, 0, 0, 0);
    tp.backoff = 0;
}

/// Empties all queues.
pub(crate) fn tcp_purge_queues(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    tcp_write_queue_purge(cx, sk);
    let early = std::mem::take(&mut sk.tp.out_of_order_queue);
    let mut received = std::mem::take(&mut sk.st.receive_queue);
    for skb in received.drain().chain(early.into_values()) {
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        tcp_end_received(cx, skb, sk.tp.copied_seq);
    }
}

/// A packet that a socket received ends with it; true if its program had still to read of it, which is a drop. A FIN
/// behind all that was read is none.
pub(crate) fn tcp_end_received(cx: &mut BhCx<'_>, skb: Skb, copied_seq: SeqNr) -> bool {
    let own = cb(&skb);
    let fin = u32::from(own.tcp_flags & TCPHDR_FIN != 0);
    let unread = (own.end_seq - fin).after(copied_seq);
    if unread {
        kfree_skb(cx, skb, DropReason::SocketClose);
    } else {
        consume_skb(cx, skb);
    }
    unread
}

/// The owner gives the socket back: what timers and the queues below left to it.
///
/// linux: net/ipv4/tcp_output.c:tcp_release_cb
pub(crate) fn tcp_release_cb(cx: &mut BhCx<'_>, sk: &Arc<Sock>, locked: &mut SockLocked) {
    let Some(mut sk) = TcpSk::of(sk, locked) else { return };
    let deferred = std::mem::take(&mut sk.tp.deferred);
    if deferred.contains(Deferred::TSQ) {
        tcp_tsq_write(cx, &mut sk);
    }
    if deferred.contains(Deferred::WRITE_TIMER) {
        tcp_write_timer_handler(cx, &mut sk);
    }
    if deferred.contains(Deferred::DELACK_TIMER) {
        tcp_delack_timer_handler(cx, &mut sk);
    }
    if deferred.contains(Deferred::MTU_REDUCED) {
        tcp_v4_mtu_reduced(cx, &mut sk);
    }
}

/// Room below: sends on.
///
/// linux: net/ipv4/tcp_output.c:tcp_tsq_write
fn tcp_tsq_write(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    use TcpState::{CloseWait, Closing, Established, FinWait1, LastAck};
    if !sk.tp.state.is(&[Established, FinWait1, Closing, CloseWait, LastAck]) {
        return;
    }
    if sk.tp.lost_out > sk.tp.retrans_out && sk.tp.cong.snd_cwnd > sk.tp.tcp_packets_in_flight() {
        tcp_xmit_retransmit_queue(cx, sk);
    }
    let (mss, nonagle) = (tcp_current_mss(sk), sk.tp.nonagle);
    tcp_write_xmit(cx, sk, mss, nonagle, Push::All);
}

/// Sockets whose packets have left send on.
///
/// linux: net/ipv4/tcp_output.c:tcp_tasklet_func
pub(crate) fn tcp_tasklet_func(cx: &mut BhCx<'_>) {
    for sk in std::mem::take(&mut cx.cpu.tsq) {
        if !cx.enter_net(sk.net.id) {
            continue;
        }
        let mut locked = sk.state();
        let owned = locked.sock_owned_by_user();
        let Some(mut tsk) = TcpSk::of(&sk, &mut locked) else { continue };
        if owned {
            tsk.tp.deferred |= Deferred::TSQ;
            tsk.st.release_cb_due = true;
        } else {
            tcp_tsq_write(cx, &mut tsk);
        }
    }
    cx.enter_net(NetId::INIT);
}

/// The send buffer has room again: who waits is woken, and the buffer may grow.
///
/// linux: net/ipv4/tcp_input.c:tcp_check_space
pub(crate) fn tcp_check_space(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.nospace {
        tcp_new_space(cx, sk);
        if !sk.tp.nospace {
            sk.chrono_stop(cx, crate::net::ipv4::tcp::Chrono::SndbufLimited);
        }
    }
}

/// linux: net/ipv4/tcp_input.c:tcp_new_space
fn tcp_new_space(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if tcp_should_expand_sndbuf(cx, sk) {
        tcp_sndbuf_expand(cx, sk);
        sk.tp.cong.snd_cwnd_stamp = cx.now();
    }
    sk_stream_write_space(cx, sk);
}

/// linux: net/ipv4/tcp_input.c:tcp_should_expand_sndbuf
fn tcp_should_expand_sndbuf(cx: &BhCx<'_>, sk: &TcpSk<'_>) -> bool {
    !sk.tp.sndbuf_locked
        && !crate::net::core::stream::tcp_under_memory_pressure(cx)
        && crate::net::core::stream::sk_memory_allocated(cx) < i64::from(cx.t.net.sysctl.tcp.mem[0])
        && sk.tp.tcp_packets_in_flight() < sk.tp.cong.snd_cwnd
}

/// The buffer holds twice what the window needs, by its memory.
///
/// linux: net/ipv4/tcp_input.c:tcp_sndbuf_expand
pub(crate) fn tcp_sndbuf_expand(cx: &BhCx<'_>, sk: &TcpSk<'_>) {
    let tp = &*sk.tp;
    let mss = tp.mss_cache.max(u32::from(tp.rx_opt.mss_clamp)) + 60 + 100;
    let per_segment = (mss as usize).next_power_of_two() + SEGMENT_OVERHEAD;
    let segments =
        crate::net::ipv4::tcp::TCP_INIT_CWND.max(tp.cong.snd_cwnd).max(tp.reordering + 1);
    let factor = tp.ca_ops.sndbuf_expand(&tp.cong) as usize;
    let wanted = factor * segments as usize * per_segment;
    if sk.sk.sndbuf() < wanted {
        let most = cx.t.net.sysctl.tcp.wmem[2] as usize;
        sk.sk.set_sndbuf(wanted.min(most) as u32);
    }
}

/// Retransmitted segments are counted in two places.
pub(crate) fn count_retrans(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, segs: u32) {
    cx.cpu.mib.add(TcpMib::RetransSegs.into(), segs.into());
    sk.tp.stats.total_retrans = sk.tp.stats.total_retrans.wrapping_add(segs);
}
