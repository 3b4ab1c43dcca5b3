//! Acknowledgements that go alone, and probes.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_send_ack`, `tcp_send_delayed_ack`, `tcp_write_wakeup`).

use super::connect::tcp_acceptable_seq;
use super::transmit::{NoMemory, transmit_bare};
use super::{
    Burst, cb, cb_mut, tcp_current_mss, tcp_event_new_data_sent, tcp_fragment,
    tcp_set_skb_tso_segs, tcp_transmit_skb,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::inet_connection_sock::{sk_reset_timer, tcp_reset_xmit_timer};
use crate::net::ipv4::tcp::{
    AckPending, IcskPending, TCP_ATO_MIN, TCP_DELACK_MAX, TCP_RTO_MAX, TcpSk, TcpState, TimerKind,
};
use crate::net::ipv4::tcp_timer::{tcp_clamp_probe0_to_user_timeout, tcp_probe0_when};
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::tcp::{TCPHDR_ACK, TCPHDR_PSH};

/// Acknowledges now.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_ack
pub(crate) fn tcp_send_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    walk!(cx, tcp_send_ack);
    if sk.tp.state == TcpState::Close {
        return;
    }
    let seq = tcp_acceptable_seq(sk.tp);
    if transmit_bare(cx, sk, (seq, TCPHDR_ACK)).is_err() {
        // When there is memory again, at the latest then.
        let delay =
            (u64::from(TCP_DELACK_MAX) << sk.tp.ack.retry.min(8)).min(u64::from(TCP_RTO_MAX));
        sk.tp.ack.retry = sk.tp.ack.retry.saturating_add(1);
        sk.tp.ack.ato = TCP_ATO_MIN;
        sk.tp.ack.pending |= AckPending::SCHED | AckPending::TIMER;
        let at = cx.now() + Duration::from_micros(delay);
        sk_reset_timer(cx, sk, TimerKind::Delack, at);
    }
}

/// An acknowledgement is due, and may wait a little for data to go with.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_delayed_ack
pub(crate) fn tcp_send_delayed_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let ack = &sk.tp.ack;
    let mut ato = ack.ato;
    if ato > TCP_ATO_MIN {
        let back_and_forth = sk.tp.in_pingpong_mode() || ack.pending.contains(AckPending::PUSHED);
        let mut most = if back_and_forth { TCP_DELACK_MAX } else { 500_000 };
        if sk.tp.cong.srtt_us != 0 {
            most = most.min((sk.tp.cong.srtt_us >> 3).max(TCP_ATO_MIN));
        }
        ato = ato.min(most);
    }
    ato = ato.min(TCP_DELACK_MAX);
    let now = cx.now();
    let mut at = now + Duration::from_micros(ato.into());
    if ack.pending.contains(AckPending::TIMER) {
        let armed = sk.tp.timers[TimerKind::Delack as usize].deadline;
        // It is about to come anyway.
        if armed <= now + Duration::from_micros(u64::from(ato >> 2)) {
            return tcp_send_ack(cx, sk);
        }
        at = at.min(armed);
    }
    sk.tp.ack.pending |= AckPending::SCHED | AckPending::TIMER;
    sk_reset_timer(cx, sk, TimerKind::Delack, at);
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// An octet that was acknowledged long ago: the peer answers with its window.
    Old,
    /// Where the urgent data is.
    Urgent,
}

/// Sends a segment without data that the peer has to answer.
///
/// linux: net/ipv4/tcp_output.c:tcp_xmit_probe_skb
pub(crate) fn tcp_xmit_probe_skb(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    probe: Probe,
    mib: LinuxMib,
) -> Result<(), NoMemory> {
    let seq = sk.tp.snd_una - u32::from(probe == Probe::Old);
    cx.count(mib);
    transmit_bare(cx, sk, (seq, TCPHDR_ACK))
}

/// Sends what the window has room for, or a probe where it has none.
///
/// linux: net/ipv4/tcp_output.c:tcp_write_wakeup
pub(crate) fn tcp_write_wakeup(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    mib: LinuxMib,
) -> Result<(), NoMemory> {
    if sk.tp.state == TcpState::Close {
        return Err(NoMemory);
    }
    let (end, una) = (sk.tp.tcp_wnd_end(), sk.tp.snd_una);
    let fits = sk.tp.write_queue.front().is_some_and(|skb| cb(skb).seq.before(end));
    if !fits {
        if sk.tp.snd_up.between(una + 1, una + 0xffff) {
            tcp_xmit_probe_skb(cx, sk, Probe::Urgent, mib)?;
        }
        return tcp_xmit_probe_skb(cx, sk, Probe::Old, mib);
    }
    let mss = tcp_current_mss(sk);
    let Some(mut skb) = sk.tp.write_queue.pop_front() else { return Err(NoMemory) };
    let room = end - cb(&skb).seq;
    sk.tp.pushed_seq = sk.tp.pushed_seq.max(cb(&skb).end_seq);
    let len = room.min(mss);
    if len < skb.data_len {
        match tcp_fragment(cx, sk, &mut skb, (len, mss)) {
            Some(rest) => sk.tp.write_queue.push_front(rest),
            None => {
                sk.tp.write_queue.push_front(skb);
                return Err(NoMemory);
            }
        }
    }
    tcp_set_skb_tso_segs(&mut skb, mss);
    cb_mut(&mut skb).tcp_flags |= TCPHDR_PSH;
    let mut burst = Burst::new(cx);
    let sent = tcp_transmit_skb(cx, sk, &mut skb, (&mut burst, mss));
    if sent.is_ok() {
        tcp_event_new_data_sent(cx, sk, skb);
    } else {
        sk.tp.write_queue.push_front(skb);
    }
    burst.finish(cx, sk);
    sent
}

/// Asks a peer whose window is closed, and sets when to ask again.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_probe0
pub(crate) fn tcp_send_probe0(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let sent = tcp_write_wakeup(cx, sk, LinuxMib::TCPWinProbe);
    if sk.tp.packets_out != 0 || sk.tp.write_queue.is_empty() {
        (sk.tp.probes_out, sk.tp.backoff) = (0, 0);
        sk.tp.probes_tstamp = Ktime::ZERO;
        return;
    }
    sk.tp.probes_out = sk.tp.probes_out.saturating_add(1);
    let timeout = if sent.is_ok() {
        if sk.tp.backoff < cx.t.net.sysctl.tcp.retries2 {
            sk.tp.backoff += 1;
        }
        tcp_probe0_when(sk.tp, TCP_RTO_MAX)
    } else {
        // For want of memory, not of an answer.
        500_000
    };
    let timeout = tcp_clamp_probe0_to_user_timeout(cx, sk, timeout);
    tcp_reset_xmit_timer(cx, sk, IcskPending::Probe0, timeout);
}
