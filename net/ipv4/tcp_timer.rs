//! TCP's timers: retransmission, probes of a closed window, delayed acknowledgements, keepalive, FIN_WAIT2.
//!
//! linux: net/ipv4/tcp_timer.c; RFC 6298, RFC 9293 section 3.8. Contexts: BH (TIMER_SOFTIRQ). Lock:
//! `class::Sock`. Invariant: an entry of the wheel is a hint; what counts is the socket's deadline. While a
//! task owns the socket, what is due is left to it.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::net::core::sock::{SOCK_MIN_SNDBUF, Sock};
use crate::net::ipv4::inet_connection_sock::{
    inet_csk_reset_keepalive_timer, inet_csk_reset_xmit_timer, sk_file_timer, tcp_reset_xmit_timer,
};
use crate::net::ipv4::tcp::{
    AckPending, CaState, Deferred, IcskPending, SeqNr, TCP_ATO_MIN, TCP_RTO_MAX, TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN, TcpSk, TcpSock, TcpState, TimerKind, tcp_done,
};
use crate::net::ipv4::tcp_cong::TCP_INFINITE_SSTHRESH;
use crate::net::ipv4::tcp_fastopen::{
    tcp_fastopen_active_detect_blackhole, tcp_fastopen_synack_timer,
};
use crate::net::ipv4::tcp_input::{
    __tcp_set_rto, tcp_compressed_ack_kick, tcp_enter_loss, tcp_sack_compress_send_ack,
};
use crate::net::ipv4::tcp_minisocks::{tcp_fin_time, tcp_time_wait};
use crate::net::ipv4::tcp_output::{
    Burst, tcp_mtu_probing, tcp_pace_kick, tcp_retransmit_skb, tcp_send_ack, tcp_send_active_reset,
    tcp_send_loss_probe, tcp_send_probe0, tcp_write_queue_purge, tcp_write_wakeup,
};
use crate::net::ipv4::tcp_recovery::tcp_rack_reo_timeout;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::LinuxMib;

/// How soon to try again what failed for want of memory, in microseconds.
///
/// linux: include/net/tcp.h:TCP_RESOURCE_PROBE_INTERVAL
const TCP_RESOURCE_PROBE_INTERVAL: u64 = 500_000;
/// Time-outs of a thin stream that do not double.
const TCP_THIN_LINEAR_RETRIES: u8 = 6;

impl TimerTarget for Sock {
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, token: u64) {
        let kind = match token {
            TimerKind::PACING => return tcp_pace_kick(cx, &self),
            TimerKind::COMPRESSED_ACK => return tcp_compressed_ack_kick(cx, &self),
            0 => TimerKind::Write,
            1 => TimerKind::Delack,
            _ => TimerKind::Keepalive,
        };
        let now = cx.now();
        let mut locked = self.state();
        let owned = locked.sock_owned_by_user();
        let Some(mut sk) = TcpSk::of(&self, &mut locked) else { return };
        let timer = &mut sk.tp.timers[kind as usize];
        // An entry that an earlier one has replaced says nothing.
        if timer.filed.is_none_or(|(_, _, at)| at > now) {
            return;
        }
        timer.filed = None;
        if timer.deadline == Ktime::ZERO {
            return;
        }
        if timer.deadline > now {
            return sk_file_timer(cx, sk.sk, timer, kind);
        }
        if !owned {
            return run(cx, &mut sk, kind);
        }
        match kind {
            TimerKind::Write => sk.tp.deferred |= Deferred::WRITE_TIMER,
            TimerKind::Delack => {
                cx.count(LinuxMib::DelayedACKLocked);
                sk.tp.deferred |= Deferred::DELACK_TIMER;
            }
            TimerKind::Keepalive => {
                return inet_csk_reset_keepalive_timer(cx, &mut sk, Duration::from_millis(50));
            }
        }
        sk.st.release_cb_due = true;
    }
}

fn run(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, kind: TimerKind) {
    match kind {
        TimerKind::Write => tcp_write_timer_handler(cx, sk),
        TimerKind::Delack => tcp_delack_timer_handler(cx, sk),
        TimerKind::Keepalive => {
            sk.tp.timers[kind as usize].deadline = Ktime::ZERO;
            tcp_keepalive_timer(cx, sk);
        }
    }
}

/// The write timer is due, if its deadline has come.
///
/// linux: net/ipv4/tcp_timer.c:tcp_write_timer_handler
pub(crate) fn tcp_write_timer_handler(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let closed = matches!(sk.tp.state, TcpState::Close | TcpState::Listen);
    let timer = &mut sk.tp.timers[TimerKind::Write as usize];
    if closed || sk.tp.pending == IcskPending::None || timer.deadline > cx.now() {
        if timer.deadline != Ktime::ZERO && timer.filed.is_none() && !closed {
            sk_file_timer(cx, sk.sk, timer, TimerKind::Write);
        }
        return;
    }
    timer.deadline = Ktime::ZERO;
    match sk.tp.pending {
        IcskPending::ReoTimeout => tcp_rack_reo_timeout(cx, sk),
        IcskPending::LossProbe => tcp_send_loss_probe(cx, sk),
        IcskPending::Retrans => {
            sk.tp.pending = IcskPending::None;
            tcp_retransmit_timer(cx, sk);
        }
        IcskPending::Probe0 => {
            sk.tp.pending = IcskPending::None;
            tcp_probe_timer(cx, sk);
        }
        IcskPending::None => (),
    }
}

/// No acknowledgement in time: the first segment goes again, and the next time-out is twice as long.
///
/// linux: net/ipv4/tcp_timer.c:tcp_retransmit_timer
fn tcp_retransmit_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    walk!(cx, tcp_retransmit_timer);
    if let Some(req) = sk.tp.fastopen_rsk().cloned() {
        return tcp_fastopen_synack_timer(cx, sk, &req);
    }
    if sk.tp.packets_out == 0 || sk.tp.rtx_queue.is_empty() {
        return;
    }
    let opening = matches!(sk.tp.state, TcpState::SynSent | TcpState::SynRecv);
    if sk.tp.snd_wnd == 0 && !sk.tp.orphan && !opening {
        // The peer took its window back: what is under way asks for it.
        if tcp_rtx_probe0_timed_out(cx, sk) {
            return tcp_write_err(cx, sk);
        }
        tcp_enter_loss(cx, sk);
        // Whether it leaves or not, the timer tries again.
        let _sent = retransmit_first(cx, sk);
        sk.tp.dst = None;
        return reset_timer(cx, sk);
    }
    cx.count(LinuxMib::TCPTimeouts);
    if tcp_write_timeout(cx, sk) {
        return;
    }
    if sk.tp.retransmits == 0 {
        count_failure(cx, sk.tp);
    }
    tcp_enter_loss(cx, sk);
    sk.tp.tcp_update_rto_stats(cx.now());
    if retransmit_first(cx, sk) == Err(Errno::ENOBUFS) {
        return inet_csk_reset_xmit_timer(
            cx,
            sk,
            IcskPending::Retrans,
            TCP_RESOURCE_PROBE_INTERVAL,
        );
    }
    reset_timer(cx, sk);
}

fn retransmit_first(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Result<(), Errno> {
    let mut burst = Burst::new(cx);
    let sent = tcp_retransmit_skb(cx, sk, (0, 1), &mut burst);
    burst.finish(cx, sk);
    sent
}

fn count_failure(cx: &mut BhCx<'_>, tp: &TcpSock) {
    let sack = tp.rx_opt.sack_ok;
    let mib = match tp.ca_state {
        CaState::Recovery if sack => LinuxMib::TCPSackRecoveryFail,
        CaState::Recovery => LinuxMib::TCPRenoRecoveryFail,
        CaState::Loss => LinuxMib::TCPLossFailures,
        CaState::Disorder if sack => LinuxMib::TCPSackFailures,
        CaState::Disorder => LinuxMib::TCPRenoFailures,
        _ if tp.sacked_out != 0 && sack => LinuxMib::TCPSackFailures,
        _ if tp.sacked_out != 0 => LinuxMib::TCPRenoFailures,
        _ => return,
    };
    cx.count(mib);
}

/// So few packets are under way that nothing but a time-out can tell of a loss.
///
/// linux: include/net/tcp.h:tcp_stream_is_thin
fn tcp_stream_is_thin(tp: &TcpSock) -> bool {
    tp.packets_out < 4 && tp.cong.snd_ssthresh < TCP_INFINITE_SSTHRESH
}

/// The next time-out: twice as long, but for thin streams and the first SYNs.
fn reset_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let sysctl = &cx.t.net.sysctl.tcp;
    if sk.tp.state == TcpState::Established
        && (sk.tp.thin_lto || sysctl.thin_linear_timeouts)
        && tcp_stream_is_thin(sk.tp)
        && sk.tp.retransmits <= TCP_THIN_LINEAR_RETRIES
    {
        sk.tp.backoff = 0;
        sk.tp.rto = __tcp_set_rto(sk.tp).clamp(sysctl.rto_min_us, TCP_RTO_MAX);
    } else if sk.tp.state != TcpState::SynSent
        || sk.tp.stats.total_rto > u16::from(sysctl.syn_linear_timeouts)
    {
        sk.tp.backoff = sk.tp.backoff.saturating_add(1);
        sk.tp.rto = (sk.tp.rto << 1).min(TCP_RTO_MAX);
    }
    let rto = tcp_clamp_rto_to_user_timeout(cx, sk);
    inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, rto);
    if retransmits_timed_out(cx, sk, u32::from(sysctl.retries1) + 1, 0) {
        // The way may be another by now.
        sk.tp.dst = None;
    }
}

/// The peer has kept its window closed for two of the longest time-outs and said nothing.
fn tcp_rtx_probe0_timed_out(cx: &mut BhCx<'_>, sk: &TcpSk<'_>) -> bool {
    let now = cx.now();
    let timeout = 2 * u64::from(TCP_RTO_MAX);
    let silent = now.us_since(sk.tp.rcv_tstamp);
    let user = u64::from(sk.tp.user_timeout) * 1000;
    let sent = sk.tp.rtx_queue.front().map_or(now, |skb| skb.tstamp());
    let since = if sk.tp.retrans_stamp == Ktime::ZERO { sent } else { sk.tp.retrans_stamp };
    let trying = now.us_since(since);
    if user != 0 {
        return silent > user && trying >= user;
    }
    silent > timeout && trying > timeout
}

/// The longest that `boundary` time-outs take, in milliseconds.
///
/// linux: net/ipv4/tcp_timer.c:tcp_model_timeout
fn tcp_model_timeout(boundary: u32, base_us: u32) -> u64 {
    let (base, most) = (u64::from(base_us), u64::from(TCP_RTO_MAX));
    let doubling = (most / base.max(1)).checked_ilog2().unwrap_or(0);
    let micros = if boundary <= doubling {
        ((2 << boundary) - 1) * base
    } else {
        ((2 << doubling) - 1) * base + u64::from(boundary - doubling) * most
    };
    micros / 1000
}

/// The connection has tried for as long as `boundary` time-outs take, or `timeout` milliseconds.
///
/// linux: net/ipv4/tcp_timer.c:retransmits_timed_out
fn retransmits_timed_out(cx: &mut BhCx<'_>, sk: &TcpSk<'_>, boundary: u32, timeout: u32) -> bool {
    if sk.tp.retransmits == 0 {
        return false;
    }
    let opening = matches!(sk.tp.state, TcpState::SynSent | TcpState::SynRecv);
    let base = if opening { TCP_TIMEOUT_INIT } else { cx.t.net.sysctl.tcp.rto_min_us };
    let limit = if timeout != 0 { u64::from(timeout) } else { tcp_model_timeout(boundary, base) };
    (cx.now() - sk.tp.retrans_stamp).as_millis() >= u128::from(limit)
}

/// A connection that has tried long enough ends; true then.
///
/// linux: net/ipv4/tcp_timer.c:tcp_write_timeout
fn tcp_write_timeout(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let sysctl = &cx.t.net.sysctl.tcp;
    let mut expired = false;
    let retry_until;
    if matches!(sk.tp.state, TcpState::SynSent | TcpState::SynRecv) {
        if sk.tp.retransmits != 0 {
            sk.tp.dst = None;
        }
        retry_until = if sk.tp.syn_retries != 0 { sk.tp.syn_retries } else { sysctl.syn_retries };
        let linear = if sk.tp.state == TcpState::SynSent { sysctl.syn_linear_timeouts } else { 0 };
        expired = sk.tp.retransmits >= retry_until.saturating_add(linear);
    } else {
        if retransmits_timed_out(cx, sk, sysctl.retries1.into(), 0) {
            tcp_mtu_probing(cx, sk);
            sk.tp.dst = None;
        }
        let mut tries = sysctl.retries2;
        if sk.tp.orphan {
            let alive = sk.tp.rto < TCP_RTO_MAX;
            tries = tcp_orphan_retries(cx, sk.tp, alive);
            let reset = alive || !retransmits_timed_out(cx, sk, tries.into(), 0);
            if tcp_out_of_resources(cx, sk, reset) {
                return true;
            }
        }
        retry_until = tries;
    }
    if !expired {
        expired = retransmits_timed_out(cx, sk, retry_until.into(), sk.tp.user_timeout);
    }
    tcp_fastopen_active_detect_blackhole(cx, sk, expired);
    if expired {
        tcp_write_err(cx, sk);
    }
    expired
}

/// Tries for a connection that nobody has open.
///
/// linux: net/ipv4/tcp_timer.c:tcp_orphan_retries
fn tcp_orphan_retries(cx: &BhCx<'_>, tp: &TcpSock, alive: bool) -> u8 {
    let retries = cx.t.net.sysctl.tcp.orphan_retries;
    if tp.sk_err_soft.is_some() && !alive {
        return 0;
    }
    if retries == 0 && alive { 8 } else { retries }
}

/// Too many connections that nobody has open, or too little memory: this one ends. True then.
///
/// linux: net/ipv4/tcp_timer.c:tcp_out_of_resources
pub(crate) fn tcp_out_of_resources(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, reset: bool) -> bool {
    let silent = cx.now().us_since(sk.tp.cong.lsndtime);
    let mut shift = u32::from(silent > 2 * u64::from(TCP_RTO_MAX) || !reset);
    shift += u32::from(sk.tp.sk_err_soft.is_some());
    if !tcp_check_oom(cx, sk, shift) {
        return false;
    }
    let lately = silent <= TCP_TIMEWAIT_LEN * 1000;
    if reset || lately || (sk.tp.snd_wnd == 0 && sk.tp.packets_out == 0) {
        tcp_send_active_reset(cx, sk);
    }
    tcp_done(cx, sk);
    cx.count(LinuxMib::TCPAbortOnMemory);
    true
}

/// linux: net/ipv4/tcp.c:tcp_check_oom
pub(crate) fn tcp_check_oom(cx: &BhCx<'_>, sk: &TcpSk<'_>, shift: u32) -> bool {
    let net = &cx.t.ns.tcp;
    let orphans = u64::from(net.memory.orphans.load(Ordering::Relaxed)) << shift;
    let sysctl = &cx.t.net.sysctl.tcp;
    orphans > u64::from(sysctl.max_orphans)
        || (sk.tp.wmem_queued > SOCK_MIN_SNDBUF as usize
            && crate::net::core::stream::sk_memory_allocated(cx) > i64::from(sysctl.mem[2]))
}

/// The connection ends because nobody answers.
///
/// linux: net/ipv4/tcp_timer.c:tcp_write_err
pub(crate) fn tcp_write_err(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let error = sk.tp.sk_err_soft.unwrap_or(Errno::ETIMEDOUT);
    sk.st.sk_error_report(cx, Some(error));
    tcp_write_queue_purge(cx, sk);
    tcp_done(cx, sk);
    cx.count(LinuxMib::TCPAbortOnTimeout);
}

/// The time until what `TCP_USER_TIMEOUT` allows is over, if the time-out is longer.
///
/// linux: net/ipv4/tcp_timer.c:tcp_clamp_rto_to_user_timeout
fn tcp_clamp_rto_to_user_timeout(cx: &mut BhCx<'_>, sk: &TcpSk<'_>) -> u64 {
    let rto = u64::from(sk.tp.rto);
    if sk.tp.user_timeout == 0 {
        return rto;
    }
    let elapsed = cx.now().us_since(sk.tp.retrans_stamp);
    let left = (u64::from(sk.tp.user_timeout) * 1000).saturating_sub(elapsed);
    // It is over: look again at once.
    rto.min(left.max(1000))
}

/// The same for probes.
///
/// linux: net/ipv4/tcp_timer.c:tcp_clamp_probe0_to_user_timeout
pub(crate) fn tcp_clamp_probe0_to_user_timeout(
    cx: &mut BhCx<'_>,
    sk: &TcpSk<'_>,
    when: u64,
) -> u64 {
    if sk.tp.user_timeout == 0 || sk.tp.probes_tstamp == Ktime::ZERO {
        return when;
    }
    let elapsed = cx.now().us_since(sk.tp.probes_tstamp);
    let left = (u64::from(sk.tp.user_timeout) * 1000).saturating_sub(elapsed);
    when.min(left.max(u64::from(TCP_ATO_MIN) / 20))
}

/// When to ask a closed window again, in microseconds.
///
/// linux: include/net/tcp.h:tcp_probe0_when
pub(crate) fn tcp_probe0_when(tp: &TcpSock, most: u32) -> u64 {
    let base = u64::from(tp.rto.max(200_000));
    // What was doubled already is in the time-out.
    let backoff =
        u32::from(tp.backoff).min((u64::from(TCP_RTO_MAX) / base).checked_ilog2().unwrap_or(0) + 1);
    (base << backoff).min(most.into())
}

/// Something waits, nothing is under way: the window must be asked for.
///
/// linux: include/net/tcp.h:tcp_check_probe_timer
pub(crate) fn tcp_check_probe_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.packets_out == 0 && sk.tp.pending == IcskPending::None {
        let base = u64::from(sk.tp.rto.max(200_000));
        let when = tcp_clamp_probe0_to_user_timeout(cx, sk, base);
        tcp_reset_xmit_timer(cx, sk, IcskPending::Probe0, when);
    }
}

/// The window is still closed: ask, or give up.
///
/// linux: net/ipv4/tcp_timer.c:tcp_probe_timer
fn tcp_probe_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.packets_out != 0 || sk.tp.write_queue.is_empty() {
        sk.tp.probes_out = 0;
        sk.tp.probes_tstamp = Ktime::ZERO;
        return;
    }
    let now = cx.now();
    if sk.tp.probes_tstamp == Ktime::ZERO {
        sk.tp.probes_tstamp = now;
    } else if sk.tp.user_timeout != 0
        && (now - sk.tp.probes_tstamp).as_millis() >= u128::from(sk.tp.user_timeout)
    {
        return tcp_write_err(cx, sk);
    }
    let mut most = cx.t.net.sysctl.tcp.retries2;
    if sk.tp.orphan {
        let alive = tcp_probe0_when(sk.tp, TCP_RTO_MAX) < u64::from(TCP_RTO_MAX);
        most = tcp_orphan_retries(cx, sk.tp, alive);
        if !alive && sk.tp.backoff >= most {
            return tcp_write_err(cx, sk);
        }
        if tcp_out_of_resources(cx, sk, true) {
            return;
        }
    }
    if sk.tp.probes_out >= most {
        tcp_write_err(cx, sk);
    } else {
        tcp_send_probe0(cx, sk);
    }
}

/// An acknowledgement has waited long enough.
///
/// linux: net/ipv4/tcp_timer.c:tcp_delack_timer_handler
pub(crate) fn tcp_delack_timer_handler(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let closed = matches!(sk.tp.state, TcpState::Close | TcpState::Listen);
    if closed || tcp_sack_compress_send_ack(cx, sk) {
        return;
    }
    if !sk.tp.ack.pending.contains(AckPending::TIMER) {
        return;
    }
    let timer = &mut sk.tp.timers[TimerKind::Delack as usize];
    if timer.deadline > cx.now() {
        if timer.filed.is_none() {
            sk_file_timer(cx, sk.sk, timer, TimerKind::Delack);
        }
        return;
    }
    timer.deadline = Ktime::ZERO;
    sk.tp.ack.pending.remove(AckPending::TIMER);
    if !sk.tp.ack.pending.contains(AckPending::SCHED) {
        return;
    }
    if sk.tp.in_pingpong_mode() {
        // No answer of the program to go with: the conversation is none.
        sk.tp.ack.pingpong = 0;
        sk.tp.ack.ato = TCP_ATO_MIN;
    } else {
        sk.tp.ack.ato = (sk.tp.ack.ato << 1).min(sk.tp.rto);
    }
    tcp_send_ack(cx, sk);
    cx.count(LinuxMib::DelayedACKs);
}

/// The idleness after which the peer is asked.
///
/// linux: include/net/tcp.h:keepalive_time_when
pub(crate) fn keepalive_time_when(cx: &BhCx<'_>, tp: &TcpSock) -> Duration {
    match tp.keepalive_time {
        0 => cx.t.net.sysctl.tcp.keepalive_time,
        secs => Duration::from_secs(secs.into()),
    }
}

/// How long the peer has been silent.
///
/// linux: include/net/tcp.h:keepalive_time_elapsed
pub(crate) fn keepalive_time_elapsed(now: Ktime, tp: &TcpSock) -> Duration {
    (now - tp.ack.lrcvtime).min(now - tp.rcv_tstamp)
}

/// A connection is idle, or closed and waits for the peer's FIN.
///
/// linux: net/ipv4/tcp_timer.c:tcp_keepalive_timer
fn tcp_keepalive_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.state == TcpState::FinWait2 && sk.tp.orphan {
        if sk.tp.linger2 >= 0 {
            let left =
                tcp_fin_time(cx, sk.tp).saturating_sub(Duration::from_millis(TCP_TIMEWAIT_LEN));
            if !left.is_zero() {
                return tcp_time_wait(cx, sk, TcpState::FinWait2, left);
            }
        }
        tcp_send_active_reset(cx, sk);
        return tcp_done(cx, sk);
    }
    let dead = matches!(sk.tp.state, TcpState::Close | TcpState::SynSent | TcpState::Listen);
    if !sk.st.opts.keepalive || dead {
        return;
    }
    let wanted = keepalive_time_when(cx, sk.tp);
    let mut next = wanted;
    if sk.tp.packets_out == 0 && sk.tp.write_queue.is_empty() {
        let elapsed = keepalive_time_elapsed(cx.now(), sk.tp);
        if elapsed >= wanted {
            match keepalive_probe(cx, sk, elapsed) {
                Some(after) => next = after,
                None => return,
            }
        } else {
            next = wanted - elapsed;
        }
    }
    inet_csk_reset_keepalive_timer(cx, sk, next);
}

/// Asks an idle peer; when to look again, or nothing when it is given up.
fn keepalive_probe(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, elapsed: Duration) -> Option<Duration> {
    let sysctl = &cx.t.net.sysctl.tcp;
    let most =
        if sk.tp.keepalive_probes != 0 { sk.tp.keepalive_probes } else { sysctl.keepalive_probes };
    let user = sk.tp.user_timeout;
    let over = if user != 0 {
        elapsed.as_millis() >= u128::from(user) && sk.tp.probes_out > 0
    } else {
        sk.tp.probes_out >= most
    };
    if over {
        tcp_send_active_reset(cx, sk);
        tcp_write_err(cx, sk);
        return None;
    }
    if tcp_write_wakeup(cx, sk, LinuxMib::TCPKeepAlive).is_err() {
        return Some(Duration::from_micros(TCP_RESOURCE_PROBE_INTERVAL));
    }
    sk.tp.probes_out = sk.tp.probes_out.saturating_add(1);
    Some(match sk.tp.keepalive_intvl {
        0 => sysctl.keepalive_intvl,
        secs => Duration::from_secs(secs.into()),
    })
}

/// `SO_KEEPALIVE` was changed.
///
/// linux: net/ipv4/tcp_timer.c:tcp_set_keepalive
pub(crate) fn tcp_set_keepalive(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, on: bool) {
    if matches!(sk.tp.state, TcpState::Close | TcpState::Listen) {
        return;
    }
    let was = sk.st.opts.keepalive;
    if on && !was {
        let after = keepalive_time_when(cx, sk.tp);
        inet_csk_reset_keepalive_timer(cx, sk, after);
    } else if !on {
        sk.tp.timers[TimerKind::Keepalive as usize].deadline = Ktime::ZERO;
    }
}

/// The network says that the way is broken, not that it is full: one doubling of the time-out is taken back
/// (RFC 6069).
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_ld_RTO_revert
pub(crate) fn tcp_ld_rto_revert(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seq: SeqNr) {
    if sk.st.sock_owned_by_user()
        || seq != sk.tp.snd_una
        || sk.tp.retransmits == 0
        || sk.tp.backoff == 0
    {
        return;
    }
    let Some(first) = sk.tp.rtx_queue.front() else { return };
    let sent = first.tstamp();
    sk.tp.backoff -= 1;
    let base = if sk.tp.cong.srtt_us != 0 { __tcp_set_rto(sk.tp) } else { TCP_TIMEOUT_INIT };
    sk.tp.rto = (u64::from(base) << sk.tp.backoff).min(TCP_RTO_MAX.into()) as u32;
    let passed = cx.now().us_since(sent);
    match u64::from(sk.tp.rto).checked_sub(passed).filter(|left| *left != 0) {
        Some(left) => inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, left),
        None => tcp_retransmit_timer(cx, sk),
    }
}
