//! The round trip, as sender and as receiver.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_rtt_estimator`, `tcp_rcv_rtt_update`); RFC 6298.

use super::AckFlags;
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::Skb;
use crate::net::core::timestamping::__skb_tstamp_tx;
use crate::net::ipv4::inet_connection_sock::{inet_csk_clear_xmit_timer, tcp_reset_xmit_timer};
use crate::net::ipv4::tcp::{
    IcskPending, SeqNr, TCP_RTO_MAX, TcpSk, TcpSkbCb, TcpSock, tcp_clock_ms,
};
use std::sync::Arc;
use uapi::errqueue::SCM_TSTAMP_ACK;

/// What an acknowledgement says of the round trip, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RttSamples {
    /// From the oldest segment that it acknowledges.
    pub seq: Option<u64>,
    /// From the oldest that it reports by SACK.
    pub sack: Option<u64>,
    /// From the latest of those: what congestion control goes by.
    pub ca: Option<u64>,
}

/// Takes a measurement into the mean and the deviation (RFC 6298 section 2, with a deviation that falls no
/// faster than once a round trip).
///
/// linux: net/ipv4/tcp_input.c:tcp_rtt_estimator
pub(crate) fn tcp_rtt_estimator(tp: &mut TcpSock, measured_us: u64, rto_min_us: u32) {
    let measured = measured_us.min(u64::from(TCP_RTO_MAX)) as i64;
    let (mut srtt, mut mdev) = (i64::from(tp.cong.srtt_us), i64::from(tp.mdev_us));
    if srtt == 0 {
        srtt = measured << 3;
        mdev = measured << 1;
        tp.rttvar_us = (mdev as u32).max(rto_min_us);
        tp.mdev_max_us = tp.rttvar_us;
        tp.rtt_seq = tp.snd_nxt;
    } else {
        let error = measured - (srtt >> 3);
        srtt += error;
        let mut change = error.abs() - (mdev >> 2);
        // A round trip that is shorter than the mean is no reason to expect longer ones.
        if error < 0 && change > 0 {
            change >>= 3;
        }
        mdev += change;
        tp.mdev_max_us = tp.mdev_max_us.max(mdev as u32);
        tp.rttvar_us = tp.rttvar_us.max(tp.mdev_max_us);
        if tp.snd_una.after(tp.rtt_seq) {
            if tp.mdev_max_us < tp.rttvar_us {
                tp.rttvar_us -= (tp.rttvar_us - tp.mdev_max_us) >> 2;
            }
            tp.rtt_seq = tp.snd_nxt;
            tp.mdev_max_us = rto_min_us;
        }
    }
    tp.cong.srtt_us = (srtt as u32).max(1);
    tp.mdev_us = mdev as u32;
}

/// The time-out that follows.
///
/// linux: include/net/tcp.h:__tcp_set_rto
pub(crate) fn __tcp_set_rto(tp: &TcpSock) -> u32 {
    (tp.cong.srtt_us >> 3).saturating_add(tp.rttvar_us).min(TCP_RTO_MAX)
}

/// The least round trip of the last `tcp_min_rtt_wlen` seconds.
///
/// linux: net/ipv4/tcp_input.c:tcp_update_rtt_min
fn tcp_update_rtt_min(cx: &mut BhCx<'_>, tp: &mut TcpSock, rtt_us: u64) {
    let now = cx.now();
    let window = u64::from(cx.t.net.sysctl.tcp.min_rtt_wlen) * 1_000_000;
    let rtt = u32::try_from(rtt_us).unwrap_or(u32::MAX).max(1);
    let (least, at) = tp.rtt_min;
    if rtt <= least || now.us_since(at) > window {
        tp.rtt_min = (rtt, now);
    }
}

/// The round trip that an echoed timestamp shows, if it can be one.
///
/// linux: net/ipv4/tcp_input.c:tcp_rtt_tsopt_us
fn tcp_rtt_tsopt_us(tp: &TcpSock, now: Ktime) -> Option<u64> {
    let ms = tcp_clock_ms(now).wrapping_sub(tp.rx_opt.rcv_tsecr) as i32;
    // A clock of milliseconds shows at least one.
    (0..=i32::MAX / 1000).contains(&ms).then(|| u64::from(ms.max(1) as u32) * 1000)
}

/// Takes over what an acknowledgement shows; false when that is nothing.
///
/// linux: net/ipv4/tcp_input.c:tcp_ack_update_rtt
pub(super) fn tcp_ack_update_rtt(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    flag: AckFlags,
    samples: &mut RttSamples,
) -> bool {
    let now = cx.now();
    let mut seq = samples.seq.or(samples.sack);
    let echoed = sk.tp.rx_opt.saw_tstamp && sk.tp.rx_opt.rcv_tsecr != 0;
    if seq.is_none() && echoed && flag.intersects(AckFlags::ACKED) {
        seq = tcp_rtt_tsopt_us(sk.tp, now);
        samples.ca = seq;
    }
    let Some(seq) = seq else { return false };
    // An acknowledgement that was held back says nothing of the least there is.
    let held_back = flag.contains(AckFlags::ACK_MAYBE_DELAYED);
    if let Some(ca) = samples.ca.filter(|ca| !held_back || *ca <= sk.tp.rtt_min.0.into()) {
        tcp_update_rtt_min(cx, sk.tp, ca);
    }
    tcp_rtt_estimator(sk.tp, seq, cx.t.net.sysctl.tcp.rto_min_us);
    sk.tp.rto = __tcp_set_rto(sk.tp);
    sk.tp.backoff = 0;
    true
}

/// Sets the retransmission timer for what is under way, or stops it.
///
/// linux: net/ipv4/tcp_input.c:tcp_rearm_rto
pub(crate) fn tcp_rearm_rto(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.fastopen_rsk().is_some() {
        // It is the SYN-ACK's until that is acknowledged.
        return;
    }
    if sk.tp.packets_out == 0 {
        return inet_csk_clear_xmit_timer(sk);
    }
    let mut rto = sk.tp.rto.into();
    // What came before it has taken some of its time.
    if matches!(sk.tp.pending, IcskPending::ReoTimeout | IcskPending::LossProbe) {
        rto = tcp_rto_delta_us(sk.tp, cx.now()).unwrap_or(1);
    }
    tcp_reset_xmit_timer(cx, sk, IcskPending::Retrans, rto);
}

/// Microseconds until the oldest segment out is to go again; `None` when it should have, or there is none.
///
/// linux: include/net/tcp.h:tcp_rto_delta_us
pub(crate) fn tcp_rto_delta_us(tp: &TcpSock, now: Ktime) -> Option<u64> {
    let sent = tp.rtx_queue.front()?.tstamp();
    u64::from(tp.rto).checked_sub(now.us_since(sent)).filter(|left| *left != 0)
}

/// linux: net/ipv4/tcp_input.c:tcp_rcv_rtt_update
fn tcp_rcv_rtt_update(tp: &mut TcpSock, sample_us: u64, by_window: bool) {
    let sample = u32::try_from(sample_us).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
    let old = tp.rcv_rtt_est.rtt_us;
    tp.rcv_rtt_est.rtt_us = match (old, by_window) {
        (0, _) => sample << 3,
        // What a window takes to arrive is more than a round trip where the program is slow.
        (old, true) => old.min(sample << 3),
        (old, false) => (i64::from(old) + i64::from(sample) - i64::from(old >> 3)).max(1) as u32,
    };
}

/// Measures a round trip by the time that a window takes to arrive.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_rtt_measure
pub(super) fn tcp_rcv_rtt_measure(tp: &mut TcpSock, now: Ktime) {
    if tp.rcv_rtt_est.time != Ktime::ZERO {
        if tp.rcv_nxt.before(tp.rcv_rtt_est.seq) {
            return;
        }
        let passed = now.us_since(tp.rcv_rtt_est.time).max(1);
        tcp_rcv_rtt_update(tp, passed, true);
    }
    tp.rcv_rtt_est.seq = tp.rcv_nxt + tp.rcv_wnd;
    tp.rcv_rtt_est.time = now;
}

/// The same by a timestamp that comes back with data.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_rtt_measure_ts
#[inline]
pub(super) fn tcp_rcv_rtt_measure_ts(tp: &mut TcpSock, cb: &TcpSkbCb, now: Ktime) {
    if !tp.rx_opt.saw_tstamp || tp.rx_opt.rcv_tsecr == tp.rcv_rtt_last_tsecr {
        return;
    }
    tp.rcv_rtt_last_tsecr = tp.rx_opt.rcv_tsecr;
    if cb.end_seq - cb.seq >= u32::from(tp.ack.rcv_mss)
        && let Some(sample) = tcp_rtt_tsopt_us(tp, now)
    {
        tcp_rcv_rtt_update(tp, sample, false);
    }
}

/// The octet that a packet is to be told of by has been acknowledged now.
///
/// linux: net/ipv4/tcp_input.c:tcp_ack_tstamp
#[cold]
pub(super) fn tcp_ack_tstamp(cx: &mut BhCx<'_>, sk: &TcpSk<'_>, skb: &Skb, prior_una: SeqNr) {
    let octet = SeqNr(skb.csum);
    if !octet.before(prior_una) && octet.before(sk.tp.snd_una) {
        __skb_tstamp_tx(cx, skb, Arc::clone(sk.sk), SCM_TSTAMP_ACK);
    }
}
