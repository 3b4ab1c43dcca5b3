//! Acknowledgements: what they say of what was sent, and of the window.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_ack`); RFC 9293 section 3.10.7.4, RFC 5961 section 5.

use super::recovery::{
    Verdict, tcp_end_cwnd_reduction, tcp_fastretrans_alert, tcp_init_cwnd_reduction,
    tcp_remove_reno_sacks, tcp_set_ca_state, tcp_try_keep_open, tcp_xmit_recovery,
};
use super::rtt::{RttSamples, tcp_ack_tstamp, tcp_ack_update_rtt, tcp_rearm_rto};
use super::sack::{
    SackState, tcp_check_sack_reordering, tcp_highest_sack_seq, tcp_sacktag_write_queue,
};
use super::{AckFlags, Segment, cong_refresh, tcp_send_challenge_ack};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::{Skb, SkbFlags};
use crate::net::ipv4::inet_connection_sock::{inet_csk_clear_xmit_timer, tcp_reset_xmit_timer};
use crate::net::ipv4::tcp::{
    CaState, Chrono, IcskPending, Sacked, SeqNr, TCP_RTO_MAX, TcpSk, TcpSock, tcp_clock_ms,
};
use crate::net::ipv4::tcp_cong::{AckSample, Hystart, RateSample};
use crate::net::ipv4::tcp_ecn::{tcp_ecn_accept_cwr, tcp_ecn_rcv_ecn_echo};
use crate::net::ipv4::tcp_output::{
    cb, tcp_mtup_probe_success, tcp_schedule_loss_probe, tcp_set_skb_tso_segs, tcp_skb_mss,
    tcp_skb_pcount, tcp_slow_start_after_idle_check, tcp_sync_mss, tcp_trim_head,
    tcp_wmem_free_skb,
};
use crate::net::ipv4::tcp_rate::{tcp_rate_gen, tcp_rate_skb_delivered};
use crate::net::ipv4::tcp_recovery::{tcp_rack_advance, tcp_rack_update_reo_wnd};
use crate::net::ipv4::tcp_timer::{tcp_clamp_probe0_to_user_timeout, tcp_probe0_when};
use std::sync::Arc;
use uapi::snmp::LinuxMib;
use uapi::tcp::TCPHDR_SYN;

/// What an acknowledgement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acked {
    /// Good.
    Good,
    /// Of what was acknowledged before: the segment's data counts all the same.
    Old,
    /// So old that somebody who does not see the connection may have made it up.
    TooOld,
    /// Of what was never sent.
    Unsent,
}

/// The peer's window changes with this segment.
///
/// linux: net/ipv4/tcp_input.c:tcp_may_update_window
pub(super) fn tcp_may_update_window(tp: &TcpSock, ack: SeqNr, seq: SeqNr, window: u32) -> bool {
    ack.after(tp.snd_una)
        || seq.after(tp.snd_wl1)
        || (seq == tp.snd_wl1 && (window > tp.snd_wnd || window == 0))
}

/// linux: net/ipv4/tcp_input.c:tcp_snd_una_update
#[inline]
fn tcp_snd_una_update(tp: &mut TcpSock, ack: SeqNr) {
    tp.stats.bytes_acked += u64::from(ack - tp.snd_una);
    tp.snd_una = ack;
}

/// Takes over the peer's window (RFC 9293 section 3.10.7.4).
///
/// linux: net/ipv4/tcp_input.c:tcp_ack_update_window
fn tcp_ack_update_window(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) -> AckFlags {
    let mut flag = AckFlags::empty();
    let shift = if seg.th.syn() { 0 } else { sk.tp.rx_opt.snd_wscale };
    let window = u32::from(seg.th.window.get()) << shift;
    let (ack, seq) = (seg.cb.ack_seq, seg.cb.seq);
    if tcp_may_update_window(sk.tp, ack, seq, window) {
        flag |= AckFlags::WIN_UPDATE;
        sk.tp.snd_wl1 = seq;
        if sk.tp.snd_wnd != window {
            sk.tp.snd_wnd = window;
            if !sk.tp.write_queue.is_empty() {
                tcp_slow_start_after_idle_check(cx, sk);
            }
            if window > sk.tp.max_window {
                sk.tp.max_window = window;
                let mtu = sk.tp.pmtu_cookie;
                tcp_sync_mss(sk, mtu);
            }
        }
    }
    tcp_snd_una_update(sk.tp, ack);
    flag
}

/// Window and SACK blocks of an acknowledgement that is not just the next one.
fn unpredicted(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    seg: &Segment,
    (prior_una, sacks): (SeqNr, &mut SackState),
) -> AckFlags {
    let mut flag = AckFlags::empty();
    if seg.cb.seq != seg.cb.end_seq {
        flag |= AckFlags::DATA;
    } else {
        cx.count(LinuxMib::TCPPureAcks);
    }
    flag |= tcp_ack_update_window(cx, sk, seg);
    if seg.opts.num_sacks != 0 && sk.tp.rx_opt.sack_ok {
        tcp_sacktag_write_queue(cx, sk, &seg.opts, (seg.cb.ack_seq, prior_una), sacks);
        flag |= sacks.flag;
    }
    if tcp_ecn_rcv_ecn_echo(sk.tp, &seg.th) {
        flag |= AckFlags::ECE;
    }
    flag
}

/// Works off the acknowledgement of a segment.
///
/// linux: net/ipv4/tcp_input.c:tcp_ack
pub(crate) fn tcp_ack(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    seg: &Segment,
    mut flag: AckFlags,
) -> Acked {
    walk!(cx, tcp_ack);
    let (prior_una, ack, now) = (sk.tp.snd_una, seg.cb.ack_seq, cx.now());
    let mut sacks = SackState { now, ..SackState::default() };
    if ack.before(prior_una) {
        return old_ack(cx, sk, seg, flag);
    }
    if ack.after(sk.tp.snd_nxt) {
        return Acked::Unsent;
    }
    if ack.after(prior_una) {
        flag |= AckFlags::SND_UNA_ADVANCED;
        sk.tp.retransmits = 0;
    }
    let prior_fack = tcp_highest_sack_seq(sk.tp);
    let in_flight = sk.tp.tcp_packets_in_flight();
    let (out, before) = (sk.tp.packets_out, (sk.tp.delivered, sk.tp.cong.lost, in_flight));
    if flag.contains(AckFlags::UPDATE_TS_RECENT) {
        sk.tp.replace_ts_recent(seg.cb.seq, now);
    }
    if flag.contains(AckFlags::SND_UNA_ADVANCED) && !flag.contains(AckFlags::SLOWPATH) {
        // The window is as predicted.
        sk.tp.snd_wl1 = seg.cb.seq;
        tcp_snd_una_update(sk.tp, ack);
        flag |= AckFlags::WIN_UPDATE;
        cx.count(LinuxMib::TCPHPAcks);
    } else {
        flag |= unpredicted(cx, sk, seg, (prior_una, &mut sacks));
    }
    tcp_ecn_accept_cwr(sk.tp, seg);
    // Something arrived: what the way reported before is past.
    sk.tp.sk_err_soft = None;
    sk.tp.probes_out = 0;
    sk.tp.rcv_tstamp = now;
    if out == 0 {
        nothing_out(cx, sk, (ack, prior_una, flag), &sacks);
        return Acked::Good;
    }
    flag |= tcp_clean_rtx_queue(cx, sk, (flag, prior_una, prior_fack), &mut sacks);
    tcp_rack_update_reo_wnd(cx, sk.tp, &sacks.rate);
    tcp_process_tlp_ack(cx, sk, ack, flag);
    tcp_count_delivered(sk.tp, sacks.delivered, flag);
    let mut verdict = Verdict::new(flag, prior_una);
    if tcp_ack_is_dubious(sk.tp, flag) {
        tcp_fastretrans_alert(cx, sk, &mut verdict);
        flag = verdict.flag;
    }
    if flag.contains(AckFlags::SET_XMIT_TIMER) {
        tcp_set_xmit_timer(cx, sk);
    }
    if flag.intersects(AckFlags::FORWARD_PROGRESS) {
        confirm_neighbour(sk.tp.dst.as_ref(), now);
    }
    control(cx, sk, (ack, flag), before, &mut sacks);
    tcp_xmit_recovery(cx, sk, verdict.rexmit);
    Acked::Good
}

/// An acknowledgement while nothing is out: it may report a duplicate, open the window, or tell of a probe.
fn nothing_out(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (ack, prior_una, flag): (SeqNr, SeqNr, AckFlags),
    sacks: &SackState,
) {
    if flag.contains(AckFlags::DSACKING_ACK) {
        let mut verdict = Verdict { dupacks: 0, ..Verdict::new(flag, prior_una) };
        tcp_fastretrans_alert(cx, sk, &mut verdict);
        tcp_count_delivered(sk.tp, sacks.delivered, flag);
        tcp_newly_delivered(cx, sacks.delivered, flag);
    }
    tcp_ack_probe(cx, sk);
    tcp_process_tlp_ack(cx, sk, ack, flag);
}

/// The rate at which what is acknowledged arrived, and what follows for the window. `before`: segments delivered, lost
/// and under way by then.
fn control(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    acked: (SeqNr, AckFlags),
    before: (u32, u32, u32),
    sacks: &mut SackState,
) {
    let delivered = sk.tp.delivered.wrapping_sub(before.0);
    let lost = sk.tp.cong.lost.wrapping_sub(before.1);
    tcp_newly_delivered(cx, delivered, acked.1);
    sacks.rate.prior_in_flight = before.2;
    tcp_rate_gen(sk.tp, (delivered, lost), cx.now(), &mut sacks.rate);
    tcp_cong_control(cx, sk, acked, &sacks.rate);
}

/// The write timer, after something was acknowledged: for a probe of the tail, else for retransmission.
///
/// linux: net/ipv4/tcp_input.c:tcp_set_xmit_timer
fn tcp_set_xmit_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if !tcp_schedule_loss_probe(cx, sk, true) {
        tcp_rearm_rto(cx, sk);
    }
}

/// What became of the probe of the tail (RFC 8985 section 7.4): if something was lost that it replaced, the
/// window is reduced.
///
/// linux: net/ipv4/tcp_input.c:tcp_process_tlp_ack
fn tcp_process_tlp_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, ack: SeqNr, flag: AckFlags) {
    let Some(high) = sk.tp.tlp_high_seq.filter(|high| !ack.before(*high)) else { return };
    walk!(cx, tcp_process_tlp_ack);
    let progress = AckFlags::SND_UNA_ADVANCED | AckFlags::NOT_DUP | AckFlags::DATA_SACKED;
    if !sk.tp.tlp_retrans || flag.contains(AckFlags::DSACK_TLP) {
        // New data arrived, or both the copy and the original did.
        sk.tp.tlp_high_seq = None;
    } else if ack.after(high) {
        tcp_init_cwnd_reduction(cx, sk);
        tcp_set_ca_state(cx, sk, CaState::Cwr);
        tcp_end_cwnd_reduction(cx, sk);
        tcp_try_keep_open(cx, sk);
        cx.count(LinuxMib::TCPLossProbeRecovery);
    } else if !flag.intersects(progress) {
        // A plain duplicate: both arrived.
        sk.tp.tlp_high_seq = None;
    }
}

/// An acknowledgement of what is acknowledged: its blocks may still tell something.
#[cold]
fn old_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment, mut flag: AckFlags) -> Acked {
    let (prior_una, ack) = (sk.tp.snd_una, seg.cb.ack_seq);
    let acked = u32::try_from(sk.tp.stats.bytes_acked).unwrap_or(u32::MAX);
    let window = sk.tp.max_window.min(acked);
    // RFC 5961 section 5.2.
    if ack.before(prior_una - window) {
        if !flag.contains(AckFlags::NO_CHALLENGE_ACK) {
            tcp_send_challenge_ack(cx, sk);
        }
        return Acked::TooOld;
    }
    if seg.opts.num_sacks != 0 && sk.tp.rx_opt.sack_ok {
        let mut sacks = SackState { now: cx.now(), ..SackState::default() };
        tcp_sacktag_write_queue(cx, sk, &seg.opts, (ack, prior_una), &mut sacks);
        flag |= sacks.flag;
        let mut verdict = Verdict { dupacks: 0, ..Verdict::new(flag, prior_una) };
        tcp_fastretrans_alert(cx, sk, &mut verdict);
        tcp_xmit_recovery(cx, sk, verdict.rexmit);
    }
    Acked::Old
}

/// The peer has proof of itself.
fn confirm_neighbour(dst: Option<&Arc<Dst>>, now: Ktime) {
    if let Some(neigh) = dst.and_then(|dst| dst.neigh.get()) {
        neigh.confirm(now);
    }
}

/// Something is unusual about it.
///
/// linux: net/ipv4/tcp_input.c:tcp_ack_is_dubious
fn tcp_ack_is_dubious(tp: &TcpSock, flag: AckFlags) -> bool {
    !flag.intersects(AckFlags::NOT_DUP)
        || flag.intersects(AckFlags::CA_ALERT)
        || tp.ca_state != CaState::Open
}

/// The window of a peer that had closed it: it is open again, or goes on being asked for.
///
/// linux: net/ipv4/tcp_input.c:tcp_ack_probe
fn tcp_ack_probe(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let Some(head) = sk.tp.tcp_send_head() else { return };
    if !cb(head).end_seq.after(sk.tp.tcp_wnd_end()) {
        sk.tp.backoff = 0;
        sk.tp.probes_tstamp = Ktime::ZERO;
        if sk.tp.pending == IcskPending::Probe0 {
            inet_csk_clear_xmit_timer(sk);
        }
    } else {
        let when = tcp_probe0_when(sk.tp, TCP_RTO_MAX);
        let when = tcp_clamp_probe0_to_user_timeout(cx, sk, when);
        tcp_reset_xmit_timer(cx, sk, IcskPending::Probe0, when);
    }
}

/// So much more has arrived; what an acknowledgement with ECE tells of was marked.
///
/// linux: net/ipv4/tcp_input.c:tcp_count_delivered
pub(super) fn tcp_count_delivered(tp: &mut TcpSock, delivered: u32, flag: AckFlags) {
    tp.delivered = tp.delivered.wrapping_add(delivered);
    if flag.contains(AckFlags::ECE) {
        tp.delivered_ce = tp.delivered_ce.wrapping_add(delivered);
    }
}

/// The same for the machine's counters.
///
/// linux: net/ipv4/tcp_input.c:tcp_newly_delivered
fn tcp_newly_delivered(cx: &mut BhCx<'_>, delivered: u32, flag: AckFlags) {
    cx.cpu.mib.add(LinuxMib::TCPDelivered.into(), delivered.into());
    if flag.contains(AckFlags::ECE) {
        cx.cpu.mib.add(LinuxMib::TCPDeliveredCE.into(), delivered.into());
    }
}

/// What taking acknowledged segments off the queue found.
#[derive(Default)]
struct Cleaned {
    flag: AckFlags,
    acked: u32,
    /// A packet was acknowledged in part.
    partly: bool,
    /// Something had been reported before.
    prior_sacked: bool,
    first: Option<Ktime>,
    last: Option<Ktime>,
    reord: Option<SeqNr>,
}

/// Takes off the retransmit queue what is acknowledged, and learns from it.
///
/// linux: net/ipv4/tcp_input.c:tcp_clean_rtx_queue
fn tcp_clean_rtx_queue(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (flag, prior_una, prior_fack): (AckFlags, SeqNr, SeqNr),
    sacks: &mut SackState,
) -> AckFlags {
    let (now, in_flight) = (cx.now(), sk.tp.tcp_packets_in_flight());
    let mut cleaned = Cleaned { prior_sacked: sk.tp.sacked_out != 0, ..Cleaned::default() };
    take_acked(cx, sk, prior_una, &mut cleaned, sacks);
    let mut flag = flag | cleaned.flag;
    if sk.tp.rtx_queue.is_empty() {
        sk.tp.tsorted_sent_queue.clear();
        sk.chrono_stop(cx, Chrono::Busy);
    }
    if sk.tp.snd_up.between(prior_una, sk.tp.snd_una) {
        sk.tp.snd_up = sk.tp.snd_una;
    }
    let head = sk.tp.rtx_queue.front().map(|skb| (cb(skb).sacked, skb.tstamp()));
    if head.is_some_and(|(sacked, _)| sacked.contains(Sacked::ACKED)) {
        flag |= AckFlags::SACK_RENEGING;
    }
    let since = |at: Ktime| now.us_since(at);
    let mut samples = RttSamples::default();
    if !flag.contains(AckFlags::RETRANS_DATA_ACKED) {
        samples.seq = cleaned.first.map(since);
        samples.ca = cleaned.last.map(since);
        if samples.ca.is_some() && tcp_ack_maybe_delayed(sk.tp, (flag, prior_una), &cleaned, sacks)
        {
            flag |= AckFlags::ACK_MAYBE_DELAYED;
        }
    }
    if let Some(first) = sacks.first_sackt {
        samples.sack = Some(since(first));
        samples.ca = sacks.last_sackt.map(since);
    }
    sacks.rate.is_ack_delayed = flag.contains(AckFlags::ACK_MAYBE_DELAYED);
    let rtt_updated = tcp_ack_update_rtt(cx, sk, flag, &mut samples);
    sacks.rate.rtt_us = samples.ca.map(|us| u32::try_from(us).unwrap_or(u32::MAX));
    if flag.intersects(AckFlags::ACKED) {
        flag |= AckFlags::SET_XMIT_TIMER;
        tcp_mtup_probe_success(cx, sk);
        if !sk.tp.rx_opt.sack_ok {
            sacks.delivered += tcp_remove_reno_sacks(cx, sk.tp, cleaned.acked);
            // Without reports nobody knows which of them it was that arrived.
            if flag.contains(AckFlags::RETRANS_DATA_ACKED) {
                flag.remove(AckFlags::ORIG_SACK_ACKED);
            }
        } else if let Some(reord) = cleaned.reord
            && reord.before(prior_fack)
        {
            // A hole was filled by what was never sent twice.
            tcp_check_sack_reordering(cx, sk, reord, LinuxMib::TCPSACKReorder);
        }
    } else if let Some((_, sent)) = head
        && rtt_updated
        && samples.sack.is_some_and(|sack| sack > since(sent))
    {
        flag |= AckFlags::SET_XMIT_TIMER;
    }
    cong_refresh(sk.tp, now);
    let sample = AckSample { pkts_acked: cleaned.acked, rtt_us: sacks.rate.rtt_us, in_flight };
    let tp = &mut *sk.tp;
    tp.ca_ops.pkts_acked(&mut tp.cong, &sample);
    if !tp.cong.hystart.is_empty() {
        count_hystart(cx, tp);
    }
    flag
}

/// Slow start has found the way full.
#[cold]
fn count_hystart(cx: &mut BhCx<'_>, tp: &mut TcpSock) {
    let found = std::mem::take(&mut tp.cong.hystart);
    let counters = [
        (Hystart::ACK_TRAIN, LinuxMib::TCPHystartTrainDetect, LinuxMib::TCPHystartTrainCwnd),
        (Hystart::DELAY, LinuxMib::TCPHystartDelayDetect, LinuxMib::TCPHystartDelayCwnd),
    ];
    for (_, times, cwnd) in counters.into_iter().filter(|(what, ..)| found.contains(*what)) {
        cx.count(times);
        cx.cpu.mib.add(cwnd.into(), tp.cong.snd_cwnd.into());
    }
}

/// It acknowledges one segment that was not full, and nothing else arrived since that left: the peer may have
/// waited for another.
fn tcp_ack_maybe_delayed(
    tp: &TcpSock,
    (flag, prior_una): (AckFlags, SeqNr),
    cleaned: &Cleaned,
    sacks: &SackState,
) -> bool {
    cleaned.acked == 1
        && !cleaned.partly
        && !cleaned.prior_sacked
        && tp.snd_una - prior_una < tp.mss_cache
        && sacks.rate.prior_delivered.wrapping_add(1) == tp.delivered.wrapping_add(sacks.delivered)
        && !flag.intersects(AckFlags::CA_ALERT | AckFlags::SYN_ACKED)
}

fn take_acked(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    prior_una: SeqNr,
    cleaned: &mut Cleaned,
    sacks: &mut SackState,
) {
    let una = sk.tp.snd_una;
    while let Some(skb) = sk.tp.rtx_queue.front() {
        let (own, segs, sent) = (*cb(skb), tcp_skb_pcount(skb), skb.tstamp());
        let whole = !own.end_seq.after(una);
        if !whole && (segs <= 1 || !una.after(own.seq)) {
            break;
        }
        let Some(mut skb) = sk.tp.rtx_queue.pop_front() else { break };
        let acked = if whole { segs } else { tcp_tso_acked(cx, sk, &mut skb, segs) };
        account(sk.tp, &own, (acked, sent), cleaned, sacks);
        tcp_rate_skb_delivered(
            sk.tp,
            (own.end_seq, own.sacked),
            (&mut skb.tcp_tx, sent),
            &mut sacks.rate,
        );
        if skb.flags.contains(SkbFlags::ACK_TSTAMP) {
            tcp_ack_tstamp(cx, sk, &skb, prior_una);
        }
        if !whole {
            cleaned.partly = true;
            sk.tp.rtx_queue.push_front(skb);
            break;
        }
        tcp_wmem_free_skb(cx, sk, skb);
    }
}

/// The front of a packet of several segments is acknowledged: how many of them.
///
/// linux: net/ipv4/tcp_input.c:tcp_tso_acked
fn tcp_tso_acked(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &mut Skb, segs: u32) -> u32 {
    let cut = sk.tp.snd_una - cb(skb).seq;
    tcp_trim_head(cx, sk, skb, cut);
    let mss = tcp_skb_mss(skb);
    segs.saturating_sub(tcp_set_skb_tso_segs(skb, mss))
}

/// Segments are acknowledged: what was known of them counts no more.
fn account(
    tp: &mut TcpSock,
    own: &crate::net::ipv4::tcp::TcpSkbCb,
    (acked, sent): (u32, Ktime),
    cleaned: &mut Cleaned,
    sacks: &mut SackState,
) {
    let sacked = own.sacked;
    if sacked.intersects(Sacked::RETRANS | Sacked::EVER_RETRANS) {
        if sacked.contains(Sacked::RETRANS) {
            tp.retrans_out = tp.retrans_out.saturating_sub(acked);
        }
        cleaned.flag |= AckFlags::RETRANS_DATA_ACKED;
    } else if !sacked.contains(Sacked::ACKED) {
        cleaned.last = Some(sent);
        cleaned.first.get_or_insert(sent);
        if cleaned.reord.is_none_or(|reord| own.seq.before(reord)) {
            cleaned.reord = Some(own.seq);
        }
        if !own.end_seq.after(tp.high_seq) {
            cleaned.flag |= AckFlags::ORIG_SACK_ACKED;
        }
    }
    if sacked.contains(Sacked::ACKED) {
        tp.sacked_out = tp.sacked_out.saturating_sub(acked);
    } else if tp.rx_opt.sack_ok {
        sacks.delivered += acked;
        if !tcp_skb_spurious_retrans(tp, sacked, sent) {
            tcp_rack_advance(tp, sacked, own.end_seq, (sent, sacks.now));
        }
    }
    if sacked.contains(Sacked::LOST) {
        tp.lost_out = tp.lost_out.saturating_sub(acked);
    }
    tp.packets_out = tp.packets_out.saturating_sub(acked);
    cleaned.acked += acked;
    if own.tcp_flags & TCPHDR_SYN != 0 {
        cleaned.flag |= AckFlags::SYN_ACKED;
        tp.retrans_stamp = Ktime::ZERO;
    } else {
        cleaned.flag |= AckFlags::DATA_ACKED;
    }
}

/// It left again, and what is acknowledged is the one that left first.
///
/// linux: net/ipv4/tcp_input.c:tcp_skb_spurious_retrans
fn tcp_skb_spurious_retrans(tp: &TcpSock, sacked: Sacked, sent: Ktime) -> bool {
    sacked.intersects(Sacked::RETRANS | Sacked::EVER_RETRANS)
        && tp.rx_opt.saw_tstamp
        && tp.rx_opt.rcv_tsecr != 0
        && (tp.rx_opt.rcv_tsecr.wrapping_sub(tcp_clock_ms(sent)) as i32) < 0
}

/// The window grows or shrinks with what was delivered and lost.
///
/// linux: net/ipv4/tcp_input.c:tcp_cong_control
fn tcp_cong_control(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (ack, flag): (SeqNr, AckFlags),
    rs: &RateSample,
) {
    let now = cx.now();
    cong_refresh(sk.tp, now);
    if sk.tp.ca_ops.has_cong_control() {
        let tp = &mut *sk.tp;
        let before = tp.ca_ops.mode();
        tp.ca_ops.cong_control(&mut tp.cong, rs);
        let mode = tp.ca_ops.mode();
        if mode != before {
            walk!(cx, bbr_main => mode.into());
        }
        return tcp_cap_pacing_rate(sk);
    }
    let (delivered, lost) = (rs.acked_sacked, rs.losses);
    if matches!(sk.tp.ca_state, CaState::Cwr | CaState::Recovery) {
        super::recovery::tcp_cwnd_reduction(sk.tp, delivered, lost, flag);
        walk!(cx, tcp_cwnd_reduction => u64::from(sk.tp.cong.snd_cwnd));
    } else if tcp_may_raise_cwnd(cx, sk.tp, flag) {
        let tp = &mut *sk.tp;
        tp.ca_ops.cong_avoid(&mut tp.cong, ack.0, delivered);
        tp.cong.snd_cwnd_stamp = now;
    }
    tcp_update_pacing_rate(cx, sk);
}

/// linux: net/ipv4/tcp_input.c:tcp_may_raise_cwnd
fn tcp_may_raise_cwnd(cx: &BhCx<'_>, tp: &TcpSock, flag: AckFlags) -> bool {
    // Where segments often overtake each other, what arrives counts in whatever order.
    let any = tp.reordering > cx.t.net.sysctl.tcp.reordering;
    flag.intersects(if any { AckFlags::FORWARD_PROGRESS } else { AckFlags::DATA_ACKED })
}

/// The pace that the window makes.
///
/// linux: net/ipv4/tcp_input.c:tcp_update_pacing_rate
pub(super) fn tcp_update_pacing_rate(cx: &BhCx<'_>, sk: &mut TcpSk<'_>) {
    let sysctl = &cx.t.net.sysctl.tcp;
    let (tp, cong) = (&*sk.tp, &sk.tp.cong);
    let slow_start = cong.snd_cwnd < cong.snd_ssthresh / 2;
    let percent = if slow_start { sysctl.pacing_ss_ratio } else { sysctl.pacing_ca_ratio };
    let window = u64::from(tp.mss_cache) * u64::from(cong.snd_cwnd.max(tp.packets_out));
    let rate = window.saturating_mul(80_000).saturating_mul(percent.into());
    sk.tp.cong.pacing_rate = if cong.srtt_us != 0 { rate / u64::from(cong.srtt_us) } else { rate };
    tcp_cap_pacing_rate(sk);
}

/// No pace is above what the program allows (`SO_MAX_PACING_RATE`).
#[inline]
pub(crate) fn tcp_cap_pacing_rate(sk: &mut TcpSk<'_>) {
    sk.tp.cong.pacing_rate = sk.tp.cong.pacing_rate.min(sk.sk.max_pacing_rate());
}
