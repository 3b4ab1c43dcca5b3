//! The end of a connection: closing, shutting down, disconnecting; and states.
//!
//! linux: net/ipv4/tcp.c (`tcp_close`, `tcp_shutdown`, `tcp_disconnect`, `tcp_set_state`); RFC 9293 section
//! 3.6, RFC 2525 section 2.17.

use super::{
    IcskAck, SeqNr, TCP_TIMEOUT_INIT, TCP_TIMEWAIT_LEN, TcpOptionsReceived, TcpSk, TcpState,
    TcpStats, UrgData,
};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::kfree_skb;
use crate::net::core::sock::{Linger, RCV_SHUTDOWN, SEND_SHUTDOWN, Sock, SockGuard};
use crate::net::core::stream::sk_mem_uncharge;
use crate::net::ipv4::inet_connection_sock::{
    inet_csk_clear_xmit_timers, inet_csk_destroy_sock, inet_csk_reqsk_queue_drop,
    inet_csk_reset_keepalive_timer,
};
use crate::net::ipv4::inet_hashtables::{EhashEntry, inet_put_port, inet_unhash};
use crate::net::ipv4::inet_timewait_sock::inet_twsk_deschedule_put;
use crate::net::ipv4::tcp::{CaState, TCP_INIT_CWND};
use crate::net::ipv4::tcp_cong::TCP_INFINITE_SSTHRESH;
use crate::net::ipv4::tcp_fastopen::{Tfo, reqsk_fastopen_remove};
use crate::net::ipv4::tcp_minisocks::{tcp_fin_time, tcp_time_wait};
use crate::net::ipv4::tcp_output::{
    tcp_end_received, tcp_send_active_reset, tcp_send_fin, tcp_write_queue_purge,
};
use crate::net::ipv4::tcp_timer::tcp_check_oom;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::{LinuxMib, TcpMib};

/// Takes a socket to another state: counted, and out of the tables when it is closed.
///
/// linux: net/ipv4/tcp.c:tcp_set_state
pub(crate) fn tcp_set_state(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, state: TcpState) {
    let before = sk.tp.state;
    if state == TcpState::Established && before != state {
        cx.count(TcpMib::CurrEstab);
    }
    if state == TcpState::Close {
        if matches!(before, TcpState::CloseWait | TcpState::Established) {
            cx.count(TcpMib::EstabResets);
        }
        inet_unhash(sk);
        if !sk.st.inet.port_bound {
            inet_put_port(sk);
        }
    }
    let stands = |state| matches!(state, TcpState::Established | TcpState::CloseWait);
    if stands(before) && !stands(state) {
        cx.uncount(TcpMib::CurrEstab);
    }
    sk.tp.state = state;
}

/// The connection is over: nothing is sent or received any more. What was received can be read.
///
/// linux: net/ipv4/tcp.c:tcp_done
pub(crate) fn tcp_done(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if matches!(sk.tp.state, TcpState::SynSent | TcpState::SynRecv) {
        cx.count(TcpMib::AttemptFails);
    }
    tcp_set_state(cx, sk, TcpState::Close);
    inet_csk_clear_xmit_timers(cx, sk);
    reqsk_fastopen_remove(sk, None);
    sk.tp.tfo_clear(Tfo::WRITE_PENDING | Tfo::DEFER_CONNECT);
    sk.st.shutdown = RCV_SHUTDOWN | SEND_SHUTDOWN;
    if sk.tp.orphan {
        inet_csk_destroy_sock(cx, sk);
    } else {
        sk.st.wake_up_all(cx, u32::MAX);
    }
}

/// The state that closing leads to, and whether a FIN goes.
///
/// linux: net/ipv4/tcp.c:tcp_close_state
fn tcp_close_state(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    use TcpState::{
        Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, NewSynRecv,
        SynRecv, SynSent, TimeWait,
    };
    let (next, fin) = match sk.tp.state {
        Established | SynRecv => (FinWait1, true),
        CloseWait => (LastAck, true),
        SynSent | TimeWait | Close | Listen | NewSynRecv => (Close, false),
        same @ (FinWait1 | FinWait2 | LastAck | Closing) => (same, false),
    };
    tcp_set_state(cx, sk, next);
    fin
}

/// Nothing more will be sent: the FIN goes behind what was written.
///
/// linux: net/ipv4/tcp.c:tcp_shutdown
pub(crate) fn tcp_shutdown(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let open =
        matches!(sk.tp.state, TcpState::Established | TcpState::SynSent | TcpState::CloseWait);
    if open && tcp_close_state(cx, sk) {
        tcp_send_fin(cx, sk);
    }
}

/// A RST is due when a connection in this state is given up.
///
/// linux: net/ipv4/tcp.c:tcp_need_reset
fn tcp_need_reset(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::Established
            | TcpState::CloseWait
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::SynRecv
    )
}

/// The last descriptor is closed. What was written is still sent, and their FIN waited for, by a socket that
/// nobody has; data that nobody read is answered by a RST.
///
/// linux: net/ipv4/tcp.c:tcp_close
pub(crate) fn tcp_close(cx: &mut TaskCx, sk: &Arc<Sock>) {
    walk!(cx, tcp_close);
    let mut guard = sk.lock_sock(cx);
    let waiting = guard.in_bh(|cx, sk| {
        sk.st.shutdown = RCV_SHUTDOWN | SEND_SHUTDOWN;
        if sk.tp.state == TcpState::Listen {
            return inet_csk_listen_stop(cx, sk);
        }
        let unread = drop_received(cx, sk);
        if sk.tp.state != TcpState::Close {
            begin_to_close(cx, sk, unread);
        }
        Vec::new()
    });
    // Others' locks are taken behind this one's.
    drop(guard);
    inet_children_forget(cx, waiting.unwrap_or_default());
    let mut guard = sk.lock_sock(cx);
    guard.process_backlog();
    guard.in_bh(adjudge_to_death);
}

/// What was received and not read goes; true if there was any.
fn drop_received(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let mut unread = false;
    let mut queue = std::mem::take(&mut sk.st.receive_queue);
    for skb in queue.drain() {
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        unread |= tcp_end_received(cx, skb, sk.tp.copied_seq);
    }
    unread
}

/// What came too early goes.
fn drop_early(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let early = std::mem::take(&mut sk.tp.out_of_order_queue);
    for skb in early.into_values() {
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        kfree_skb(cx, skb, DropReason::SocketClose);
    }
}

fn begin_to_close(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, unread: bool) {
    if unread {
        // RFC 2525 section 2.17: the peer shall know that it was for nothing.
        cx.count(LinuxMib::TCPAbortOnClose);
        tcp_set_state(cx, sk, TcpState::Close);
        tcp_send_active_reset(cx, sk);
    } else if sk.st.opts.linger == (Linger { on: true, seconds: 0 }) {
        __tcp_disconnect(cx, sk);
        cx.count(LinuxMib::TCPAbortOnData);
    } else if tcp_close_state(cx, sk) {
        tcp_send_fin(cx, sk);
    }
}

/// Nobody has the socket any more: it goes on by itself, or ends.
fn adjudge_to_death(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.st.dead {
        return;
    }
    sk.tp.orphan = true;
    sk.sk.net.tcp.memory.orphans.fetch_add(1, Ordering::Relaxed);
    if sk.tp.state == TcpState::FinWait2 {
        if sk.tp.linger2 < 0 {
            tcp_set_state(cx, sk, TcpState::Close);
            tcp_send_active_reset(cx, sk);
            cx.count(LinuxMib::TCPAbortOnLinger);
        } else {
            let wait = tcp_fin_time(cx, sk.tp);
            let in_timewait = Duration::from_millis(TCP_TIMEWAIT_LEN);
            if wait > in_timewait {
                inet_csk_reset_keepalive_timer(cx, sk, wait - in_timewait);
            } else {
                // Its socket ends there.
                return tcp_time_wait(cx, sk, TcpState::FinWait2, wait);
            }
        }
    }
    if sk.tp.state != TcpState::Close && tcp_check_oom(cx, sk, 0) {
        tcp_set_state(cx, sk, TcpState::Close);
        tcp_send_active_reset(cx, sk);
        cx.count(LinuxMib::TCPAbortOnMemory);
    }
    if sk.tp.state == TcpState::Close {
        inet_csk_destroy_sock(cx, sk);
    }
}

/// A listener listens no more: the connections that nobody accepted, to be ended.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_listen_stop
fn inet_csk_listen_stop(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Vec<Arc<Sock>> {
    let listener = sk.tp.listener.clone();
    tcp_set_state(cx, sk, TcpState::Close);
    sk.tp.listener = None;
    listener.map_or_else(Vec::new, |listener| listener.close().into())
}

/// A connection that nobody accepted.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_child_forget
fn inet_child_forget(cx: &mut TaskCx, child: &Arc<Sock>) {
    let mut guard = child.lock_sock(cx);
    guard.in_bh(|cx, sk| {
        __tcp_disconnect(cx, sk);
        inet_csk_destroy_sock(cx, sk);
    });
}

/// Ends a connection at once, so that the socket can be used for another: `connect` with `AF_UNSPEC`.
///
/// # Errors
/// None: it is ended whatever state it was in.
///
/// linux: net/ipv4/tcp.c:tcp_disconnect
pub(crate) fn tcp_disconnect(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    let waiting = tcp_disconnect_owned(&mut sk.lock_sock(cx));
    inet_children_forget(cx, waiting);
    Ok(())
}

/// The same for who owns the socket: connections that nobody accepted are his to end, behind it.
pub(crate) fn tcp_disconnect_owned(guard: &mut SockGuard<'_>) -> Vec<Arc<Sock>> {
    let waiting = guard.in_bh(|cx, sk| {
        let listens = sk.tp.state == TcpState::Listen;
        let waiting = if listens { inet_csk_listen_stop(cx, sk) } else { Vec::new() };
        __tcp_disconnect(cx, sk);
        waiting
    });
    waiting.unwrap_or_default()
}

/// Ends connections that nobody accepted.
pub(crate) fn inet_children_forget(cx: &mut TaskCx, children: Vec<Arc<Sock>>) {
    for child in children {
        inet_child_forget(cx, &child);
    }
}

/// The same, for who has the socket's lock.
pub(super) fn __tcp_disconnect(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let before = sk.tp.state;
    let unsent =
        sk.tp.snd_nxt != sk.tp.write_seq && matches!(before, TcpState::Closing | TcpState::LastAck);
    if before != TcpState::Close {
        tcp_set_state(cx, sk, TcpState::Close);
    }
    if tcp_need_reset(before) || unsent {
        tcp_send_active_reset(cx, sk);
        sk.st.err = Some(Errno::ECONNRESET);
    } else if before == TcpState::SynSent {
        sk.st.err = Some(Errno::ECONNRESET);
    }
    inet_csk_clear_xmit_timers(cx, sk);
    drop_received(cx, sk);
    tcp_write_queue_purge(cx, sk);
    drop_early(cx, sk);
    let inet = &mut sk.st.inet;
    inet.dport = 0;
    if !inet.addr_bound {
        (inet.saddr, inet.rcv_saddr) = (0, 0);
    }
    sk.st.shutdown = 0;
    reqsk_fastopen_remove(sk, None);
    as_new(sk);
    sk.st.sk_error_report(cx, None);
}

/// What a connection leaves in its socket is forgotten.
fn as_new(sk: &mut TcpSk<'_>) {
    let tp = &mut *sk.tp;
    let seq = tp.write_seq + tp.max_window + 2;
    tp.write_seq = if seq == SeqNr(0) { SeqNr(1) } else { seq };
    (tp.copied_seq, tp.rcv_wup) = (tp.rcv_nxt, tp.rcv_nxt);
    (tp.urg_data, tp.done) = (UrgData::None, false);
    (tp.cong.srtt_us, tp.mdev_us, tp.rttvar_us, tp.mdev_max_us) = (0, TCP_TIMEOUT_INIT, 0, 0);
    (tp.rcv_rtt_last_tsecr, tp.rcv_rtt_est) = (0, Default::default());
    (tp.backoff, tp.probes_out, tp.retransmits, tp.rto) = (0, 0, 0, TCP_TIMEOUT_INIT);
    (tp.probes_tstamp, tp.retrans_stamp) = (Ktime::ZERO, Ktime::ZERO);
    tp.cong.snd_ssthresh = TCP_INFINITE_SSTHRESH;
    (tp.cong.snd_cwnd, tp.cong.snd_cwnd_cnt) = (TCP_INIT_CWND, 0);
    tp.cong.is_cwnd_limited = false;
    (tp.cong.max_packets_out, tp.cong.cwnd_usage_seq) = (0, 0);
    (tp.ca_state, tp.undo_marker, tp.undo_retrans) = (CaState::Open, None, -1);
    (tp.ack, tp.window_clamp) = (IcskAck::default(), 0);
    tp.rx_opt = TcpOptionsReceived { user_mss: tp.rx_opt.user_mss, ..Default::default() };
    (tp.dst, tp.pmtu, tp.sk_err_soft) = (None, 0, None);
    (tp.bytes_received, tp.delivered, tp.delivered_ce, tp.cong.lost) = (0, 0, 0, 0);
    tp.ecn_flags = Default::default();
    (tp.recv_sack_cache, tp.duplicate_sack) = Default::default();
    tp.cong.app_limited = u32::MAX;
    *tp.stats = TcpStats::new();
    tp.tfo_forget();
}

/// The machine is about to end: so do the connections that go on without a descriptor, and requests. Nobody is told.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_sk_exit
pub(crate) fn tcp_sk_exit(cx: &mut TaskCx) {
    let net = cx.net();
    for (_, entry) in net.tcp.hashinfo.ehash.dump() {
        cx.local_bh_disable(|bh| match entry {
            EhashEntry::Sock(sk) => {
                let mut locked = sk.state();
                if let Some(mut sk) = TcpSk::of(&sk, &mut locked)
                    && sk.tp.orphan
                {
                    tcp_write_queue_purge(bh, &mut sk);
                    drop_received(bh, &mut sk);
                    drop_early(bh, &mut sk);
                    tcp_done(bh, &mut sk);
                }
            }
            EhashEntry::Request(req) => drop(inet_csk_reqsk_queue_drop(bh, &req)),
            EhashEntry::TimeWait(tw) => inet_twsk_deschedule_put(bh, &tw),
        });
    }
}

/// Takes a socket out of the tables.
pub(super) fn tcp_unhash(cx: &mut TaskCx, sk: &Arc<Sock>) {
    cx.local_bh_disable(|_| {
        let mut locked = sk.state();
        if let Some(mut sk) = TcpSk::of(sk, &mut locked) {
            inet_unhash(&mut sk);
            inet_put_port(&mut sk);
        }
    });
}
