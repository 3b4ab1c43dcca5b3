//! Segments in all states but ESTABLISHED.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_rcv_state_process`, `tcp_rcv_synsent_state_process`); RFC 9293 section
//! 3.10.7.

use super::ack::{Acked, tcp_ack, tcp_cap_pacing_rate, tcp_update_pacing_rate};
use super::data::{inet_csk_schedule_ack, tcp_data_step};
use super::rtt::tcp_rtt_estimator;
use super::urg::tcp_urg;
use super::window::{tcp_enter_quickack_mode, tcp_init_buffer_space, tcp_initialize_rcv_mss};
use super::{
    AckFlags, Segment, cong_refresh, count_in, tcp_ack_snd_check, tcp_data_snd_check, tcp_reset,
    tcp_send_challenge_ack, tcp_validate_incoming,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, consume_skb, kfree_skb};
use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN};
use crate::net::ipv4::inet_connection_sock::{
    inet_csk_reset_keepalive_timer, inet_csk_reset_xmit_timer, sk_reset_timer,
};
use crate::net::ipv4::tcp::{
    AckPending, IcskPending, SeqNr, TCP_DELACK_MAX, TCP_INIT_CWND, TCP_MAX_QUICKACKS,
    TCP_TIMEWAIT_LEN, TcpSk, TcpSock, TcpState, TimerKind, tcp_clock_ms, tcp_done, tcp_set_state,
    tcp_shutdown,
};
use crate::net::ipv4::tcp_ecn::{tcp_ecn_rcv_syn, tcp_ecn_rcv_synack};
use crate::net::ipv4::tcp_fastopen::{
    Tfo, tcp_fastopen_check_req, tcp_rcv_fastopen_synack, tcp_rcv_synrecv_state_fastopen,
};
use crate::net::ipv4::tcp_ipv4::tcp_v4_send_reset;
use crate::net::ipv4::tcp_minisocks::{tcp_fin_time, tcp_time_wait};
use crate::net::ipv4::tcp_output::{
    cb, tcp_mtup_init, tcp_send_ack, tcp_send_synack, tcp_sync_mss,
};
use crate::net::ipv4::tcp_timer::keepalive_time_when;
use std::time::Duration;
use uapi::poll::{POLLOUT, POLLWRBAND, POLLWRNORM};
use uapi::snmp::LinuxMib;
use uapi::tcp::TCPHDR_SYN;

/// What is to become of a segment.
enum Done {
    /// Its text is to be looked at.
    Text,
    /// It has no text, and acknowledged something.
    Bare,
    /// It has done its work.
    Consume,
    /// Dropped.
    Drop(DropReason),
    /// Dropped, and its sender told by a RST.
    Reset(DropReason),
}

/// A segment of a connection in any state but ESTABLISHED and LISTEN.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_state_process
pub(crate) fn tcp_rcv_state_process(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    skb: Skb,
    seg: &Segment,
) {
    walk!(cx, skb, tcp_rcv_state_process);
    if matches!(sk.tp.state, TcpState::Close | TcpState::Listen) {
        return kfree_skb(cx, skb, DropReason::TcpClose);
    }
    count_in(sk, seg);
    sk.tp.rx_opt.note_ts(seg.opts.ts, sk.tp.tsoffset);
    if sk.tp.state == TcpState::SynSent {
        let done = tcp_rcv_synsent_state_process(cx, sk, &skb, seg);
        if matches!(done, Done::Text) {
            tcp_urg(cx, sk, &skb, seg);
            consume_skb(cx, skb);
            return tcp_data_snd_check(cx, sk);
        }
        return end(cx, sk, skb, done);
    }
    if let Some(req) = sk.tp.fastopen_rsk().cloned()
        && !tcp_fastopen_check_req(cx, sk, (&skb, &req), seg)
    {
        return kfree_skb(cx, skb, DropReason::TcpFlags);
    }
    if !tcp_validate_incoming(cx, sk, seg) {
        return kfree_skb(cx, skb, DropReason::TcpInvalid);
    }
    let done = match ack_step(cx, sk, seg) {
        Done::Text => text_allowed(cx, sk, seg),
        done => done,
    };
    if !matches!(done, Done::Text) {
        let text = !matches!(done, Done::Consume);
        if text
            && matches!(sk.tp.state, TcpState::CloseWait | TcpState::Closing | TcpState::LastAck)
        {
            // An old segment of a peer that has sent its FIN: answered.
            tcp_data_snd_check(cx, sk);
            tcp_ack_snd_check(cx, sk);
        }
        return end(cx, sk, skb, done);
    }
    tcp_urg(cx, sk, &skb, seg);
    tcp_data_step(cx, sk, skb, seg);
    if sk.tp.state != TcpState::Close {
        tcp_data_snd_check(cx, sk);
        tcp_ack_snd_check(cx, sk);
    }
}

fn end(cx: &mut BhCx<'_>, sk: &TcpSk<'_>, skb: Skb, done: Done) {
    match done {
        Done::Text | Done::Bare | Done::Consume => consume_skb(cx, skb),
        Done::Drop(reason) => kfree_skb(cx, skb, reason),
        Done::Reset(reason) => {
            tcp_v4_send_reset(cx, &skb, Some(sk));
            kfree_skb(cx, skb, reason);
        }
    }
}

/// RFC 9293 section 3.10.7.4, step 5: what the acknowledgement means to the state.
fn ack_step(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) -> Done {
    let fast = sk.tp.fastopen_rsk().is_some();
    let syn_end = match sk.tp.rtx_queue.front().map(|skb| cb(skb)) {
        // Both sides opened at once; data of fast open may be behind it.
        Some(own) if own.tcp_flags & TCPHDR_SYN != 0 => own.end_seq,
        _ => sk.tp.snd_una,
    };
    if sk.tp.state == TcpState::SynRecv && seg.cb.ack_seq.before(syn_end) {
        // Our SYN it must acknowledge: anything else is of another connection.
        return Done::Reset(DropReason::TcpInvalidAckSequence);
    }
    let flags = AckFlags::SLOWPATH | AckFlags::UPDATE_TS_RECENT | AckFlags::NO_CHALLENGE_ACK;
    let opening = sk.tp.state == TcpState::SynRecv;
    match tcp_ack(cx, sk, seg, flags) {
        Acked::Good => (),
        Acked::Old if opening => return Done::Reset(DropReason::TcpOldAck),
        Acked::TooOld if opening => return Done::Reset(DropReason::TcpTooOldAck),
        Acked::Unsent if opening => return Done::Reset(DropReason::TcpAckUnsentData),
        Acked::Old => (),
        Acked::TooOld => {
            tcp_send_challenge_ack(cx, sk);
            return Done::Drop(DropReason::TcpTooOldAck);
        }
        Acked::Unsent => {
            tcp_send_challenge_ack(cx, sk);
            return Done::Drop(DropReason::TcpAckUnsentData);
        }
    }
    match sk.tp.state {
        TcpState::SynRecv => established(cx, sk, seg),
        TcpState::FinWait1 => {
            if fast {
                tcp_rcv_synrecv_state_fastopen(cx, sk);
            }
            return fin_acked(cx, sk, seg);
        }
        TcpState::Closing if sk.tp.snd_una == sk.tp.write_seq => {
            tcp_time_wait(cx, sk, TcpState::TimeWait, Duration::ZERO);
            return Done::Consume;
        }
        TcpState::LastAck if sk.tp.snd_una == sk.tp.write_seq => {
            tcp_done(cx, sk);
            return Done::Consume;
        }
        _ => (),
    }
    Done::Text
}

/// Our SYN is acknowledged, theirs was here before.
fn established(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) {
    let now = cx.now();
    sk.tp.delivered = sk.tp.delivered.wrapping_add(1);
    tcp_synack_rtt_meas(cx, sk, now);
    if sk.tp.fastopen_rsk().is_some() {
        tcp_rcv_synrecv_state_fastopen(cx, sk);
    } else {
        sk.tp.retrans_stamp = Ktime::ZERO;
        tcp_init_transfer(cx, sk);
        sk.tp.copied_seq = sk.tp.rcv_nxt;
    }
    tcp_set_state(cx, sk, TcpState::Established);
    sk.st.wake_up_all(cx, (POLLOUT | POLLWRNORM | POLLWRBAND) as u32);
    let tp = &mut *sk.tp;
    tp.snd_una = seg.cb.ack_seq;
    tp.snd_wnd = u32::from(seg.th.window.get()) << tp.rx_opt.snd_wscale;
    tp.snd_wl1 = seg.cb.seq;
    if tp.rx_opt.tstamp_ok {
        tp.advmss -= 12;
    }
    tp.cong.lsndtime = now;
    tcp_initialize_rcv_mss(tp);
    if !tp.ca_ops.has_cong_control() {
        tcp_update_pacing_rate(cx, sk);
    }
    if sk.st.shutdown & SEND_SHUTDOWN != 0 {
        tcp_shutdown(cx, sk);
    }
}

/// The first round trip: from the SYN-ACK to its acknowledgement.
///
/// linux: net/ipv4/tcp_input.c:tcp_synack_rtt_meas
fn tcp_synack_rtt_meas(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, now: Ktime) {
    if sk.tp.cong.srtt_us != 0 || sk.tp.synack_sent == Ktime::ZERO {
        return;
    }
    let rtt = now.us_since(sk.tp.synack_sent);
    tcp_rtt_estimator(sk.tp, rtt.max(1), cx.t.net.sysctl.tcp.rto_min_us);
    sk.tp.rto = super::rtt::__tcp_set_rto(sk.tp);
    sk.tp.rtt_min = (rtt.max(1).min(u32::MAX.into()) as u32, now);
}

/// A connection begins to carry data.
///
/// linux: net/ipv4/tcp_input.c:tcp_init_transfer
pub(crate) fn tcp_init_transfer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    tcp_mtup_init(cx, sk);
    let now = cx.now();
    let tp = &mut *sk.tp;
    // RFC 5681 section 3.1: a SYN that had to go again leaves a window of one.
    let lost = tp.stats.total_retrans > 1 && tp.undo_marker.is_some();
    tp.cong.snd_cwnd = if lost { 1 } else { TCP_INIT_CWND };
    tp.cong.snd_cwnd_stamp = now;
    cong_refresh(tp, now);
    tp.ca_ops.init(&mut tp.cong);
    tcp_ca_starts(sk);
    tcp_init_buffer_space(cx, sk);
}

/// An algorithm has begun to work: whether segments leave at its pace.
pub(crate) fn tcp_ca_starts(sk: &mut TcpSk<'_>) {
    if sk.tp.ca_ops.needs_pacing() {
        sk.sk.need_pacing();
    }
    tcp_cap_pacing_rate(sk);
}

/// In FIN_WAIT1: our FIN may be acknowledged.
fn fin_acked(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) -> Done {
    if sk.tp.snd_una != sk.tp.write_seq {
        return Done::Text;
    }
    tcp_set_state(cx, sk, TcpState::FinWait2);
    sk.st.shutdown |= SEND_SHUTDOWN;
    sk.st.wake_up_all(cx, u32::MAX);
    if !sk.tp.orphan {
        return Done::Text;
    }
    let fin = u32::from(seg.th.fin());
    let more = seg.cb.end_seq != seg.cb.seq && (seg.cb.end_seq - fin).after(sk.tp.rcv_nxt);
    if sk.tp.linger2 < 0 || more {
        // Nobody will read it.
        tcp_done(cx, sk);
        cx.count(LinuxMib::TCPAbortOnData);
        return Done::Reset(DropReason::TcpAbortOnData);
    }
    let wait = tcp_fin_time(cx, sk.tp);
    let in_timewait = Duration::from_millis(TCP_TIMEWAIT_LEN);
    if wait > in_timewait {
        inet_csk_reset_keepalive_timer(cx, sk, wait - in_timewait);
    } else if seg.th.fin() || sk.st.sock_owned_by_user() {
        // Their FIN is in this very segment, or in one that waits: it must not be lost.
        inet_csk_reset_keepalive_timer(cx, sk, wait);
    } else {
        tcp_time_wait(cx, sk, TcpState::FinWait2, wait);
        return Done::Consume;
    }
    Done::Text
}

/// RFC 9293 section 3.10.7.4, steps 6 and 7: whether the segment's text counts.
fn text_allowed(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) -> Done {
    match sk.tp.state {
        TcpState::CloseWait | TcpState::Closing | TcpState::LastAck
            if !seg.cb.seq.before(sk.tp.rcv_nxt) =>
        {
            // Nothing can follow their FIN but acknowledgements.
            let bare = seg.cb.seq == seg.cb.end_seq;
            if bare { Done::Bare } else { Done::Drop(DropReason::TcpInvalid) }
        }
        TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::Closing
        | TcpState::LastAck
            if sk.st.shutdown & RCV_SHUTDOWN != 0 =>
        {
            let fin = u32::from(seg.th.fin());
            let more = seg.cb.end_seq != seg.cb.seq && (seg.cb.end_seq - fin).after(sk.tp.rcv_nxt);
            if more {
                // RFC 9293 section 3.6.1: data for a program that wants none.
                cx.count(LinuxMib::TCPAbortOnData);
                tcp_reset(cx, sk);
                return Done::Reset(DropReason::TcpAbortOnData);
            }
            Done::Text
        }
        TcpState::Close => Done::Consume,
        _ => Done::Text,
    }
}

/// A segment for one who has sent a SYN (RFC 9293 section 3.10.7.3).
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process
fn tcp_rcv_synsent_state_process(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    skb: &Skb,
    seg: &Segment,
) -> Done {
    let (th, now) = (&seg.th, cx.now());
    let saved = sk.tp.rx_opt;
    let undone = |sk: &mut TcpSk<'_>, done: Done| {
        sk.tp.rx_opt.mss_clamp = saved.mss_clamp;
        (sk.tp.rx_opt.tstamp_ok, sk.tp.rx_opt.sack_ok, sk.tp.rx_opt.wscale_ok) =
            (false, false, false);
        (sk.tp.rx_opt.snd_wscale, sk.tp.rx_opt.num_sacks) = (0, 0);
        done
    };
    sk.tp.rx_opt.negotiate(&seg.opts, &cx.t.net.sysctl.tcp);
    if th.ack() {
        if !seg.cb.ack_seq.after(sk.tp.snd_una) || seg.cb.ack_seq.after(sk.tp.snd_nxt) {
            if sk.tp.retransmits == 0 {
                // The other end remembers another connection: when it has forgotten, soon.
                inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, 2_000);
            }
            return undone(sk, Done::Reset(DropReason::TcpInvalidAckSequence));
        }
        let opt = &sk.tp.rx_opt;
        if opt.saw_tstamp && opt.rcv_tsecr != 0 {
            let (first, last) = (tcp_clock_ms(sk.tp.retrans_stamp), tcp_clock_ms(now));
            if !SeqNr(opt.rcv_tsecr).between(SeqNr(first), SeqNr(last)) {
                cx.count(LinuxMib::PAWSActive);
                return undone(sk, Done::Reset(DropReason::TcpInvalidAckSequence));
            }
        }
        if th.rst() {
            tcp_reset(cx, sk);
            return Done::Consume;
        }
        if !th.syn() {
            return undone(sk, Done::Drop(DropReason::TcpFlags));
        }
        return syn_acked(cx, sk, skb, seg);
    }
    if th.rst() {
        return undone(sk, Done::Drop(DropReason::TcpReset));
    }
    let opt = &sk.tp.rx_opt;
    if opt.ts_recent_stamp != 0 && opt.saw_tstamp && opt.paws_reject(false, now) {
        return undone(sk, Done::Drop(DropReason::TcpInvalid));
    }
    if !th.syn() {
        return undone(sk, Done::Drop(DropReason::TcpFlags));
    }
    // Both sides opened at once.
    tcp_set_state(cx, sk, TcpState::SynRecv);
    take_syn(sk, seg, now);
    let tp = &mut *sk.tp;
    tp.snd_wnd = th.window.get().into();
    tp.snd_wl1 = seg.cb.seq;
    tp.max_window = tp.snd_wnd;
    tcp_ecn_rcv_syn(tp, th);
    tcp_mtup_init(cx, sk);
    let mtu = sk.tp.pmtu_cookie;
    tcp_sync_mss(sk, mtu);
    tcp_initialize_rcv_mss(sk.tp);
    tcp_send_synack(cx, sk);
    Done::Consume
}

/// Their SYN counts: what it offers is agreed on.
fn take_syn(sk: &mut TcpSk<'_>, seg: &Segment, now: Ktime) {
    let tp = &mut *sk.tp;
    if tp.rx_opt.saw_tstamp {
        tp.rx_opt.tstamp_ok = true;
        tp.tcp_header_len = 32;
        tp.advmss = tp.advmss.saturating_sub(12);
        tp.store_ts_recent(now);
    } else {
        tp.rx_opt.tstamp_ok = false;
        tp.tcp_header_len = 20;
    }
    if !tp.rx_opt.wscale_ok {
        (tp.rx_opt.snd_wscale, tp.rx_opt.rcv_wscale) = (0, 0);
        tp.window_clamp = tp.window_clamp.min(65_535);
    }
    tp.rcv_nxt = seg.cb.seq + 1;
    (tp.rcv_wup, tp.copied_seq) = (tp.rcv_nxt, tp.rcv_nxt);
}

/// The SYN-ACK answers the first SYN: those after it were needless, and nothing was lost.
///
/// linux: net/ipv4/tcp_input.c:tcp_try_undo_spurious_syn
fn tcp_try_undo_spurious_syn(tp: &mut TcpSock) {
    let first = tcp_clock_ms(tp.retrans_stamp);
    if tp.retrans_stamp != Ktime::ZERO && tp.rx_opt.saw_tstamp && tp.rx_opt.rcv_tsecr == first {
        tp.undo_marker = None;
    }
}

/// A SYN-ACK: the connection stands.
fn syn_acked(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &Skb, seg: &Segment) -> Done {
    let now = cx.now();
    tcp_ecn_rcv_synack(sk.tp, &seg.th);
    sk.tp.snd_wl1 = seg.cb.seq;
    tcp_try_undo_spurious_syn(sk.tp);
    tcp_ack(cx, sk, seg, AckFlags::SLOWPATH);
    take_syn(sk, seg, now);
    // A SYN's window is never scaled.
    sk.tp.snd_wnd = seg.th.window.get().into();
    tcp_mtup_init(cx, sk);
    let mtu = sk.tp.pmtu_cookie;
    tcp_sync_mss(sk, mtu);
    tcp_initialize_rcv_mss(sk.tp);
    tcp_finish_connect(cx, sk);
    let failed =
        sk.tp.tfo(Tfo::SYN_FASTOPEN | Tfo::SYN_DATA) && tcp_rcv_fastopen_synack(cx, sk, skb, seg);
    sk.st.wake_up_all(cx, (POLLOUT | POLLWRNORM | POLLWRBAND) as u32);
    if failed {
        return Done::Text;
    }
    let pending = sk.tp.tfo(Tfo::WRITE_PENDING);
    sk.tp.tfo_clear(Tfo::WRITE_PENDING);
    if pending
        || sk.tp.defer_accept != 0
        || sk.tp.in_pingpong_mode()
        || !sk.tp.write_queue.is_empty()
    {
        // Data will take the acknowledgement along.
        inet_csk_schedule_ack(sk.tp);
        tcp_enter_quickack_mode(sk.tp, TCP_MAX_QUICKACKS);
        sk.tp.ack.pending |= AckPending::TIMER;
        let at = now + Duration::from_micros(TCP_DELACK_MAX.into());
        sk_reset_timer(cx, sk, TimerKind::Delack, at);
        return Done::Consume;
    }
    tcp_send_ack(cx, sk);
    Done::Text
}

/// linux: net/ipv4/tcp_input.c:tcp_finish_connect
fn tcp_finish_connect(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    tcp_set_state(cx, sk, TcpState::Established);
    sk.tp.ack.lrcvtime = now;
    tcp_init_transfer(cx, sk);
    sk.tp.cong.lsndtime = now;
    if sk.st.opts.keepalive {
        let after = keepalive_time_when(cx, sk.tp);
        inet_csk_reset_keepalive_timer(cx, sk, after);
    }
}
