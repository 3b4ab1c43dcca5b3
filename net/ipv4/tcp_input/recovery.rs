//! Losses: how they are found, and what follows for the window.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_fastretrans_alert`, `tcp_enter_loss`); RFC 5681, RFC 6582 (NewReno), RFC
//! 6937 (the reduction), RFC 5682 (time-outs for nothing). With SACK, losses are found by time: `tcp_recovery`.

use super::ack::tcp_count_delivered;
use super::sack::rtx_position;
use super::undo::{
    tcp_try_undo_dsack, tcp_try_undo_loss, tcp_try_undo_partial, tcp_try_undo_recovery,
};
use super::{AckFlags, cong_refresh};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::inet_connection_sock::inet_csk_reset_xmit_timer;
use crate::net::ipv4::tcp::{
    CaState, IcskPending, Nonagle, SackBlock, Sacked, SeqNr, TcpSk, TcpSock, TcpState,
};
use crate::net::ipv4::tcp_cong::{TCP_INFINITE_SSTHRESH, TcpCaEvent};
use crate::net::ipv4::tcp_ecn::tcp_ecn_queue_cwr;
use crate::net::ipv4::tcp_output::{
    __tcp_push_pending_frames, cb, cb_mut, tcp_current_mss, tcp_fragment_at, tcp_mtup_probe_failed,
    tcp_mtup_probing, tcp_simple_retransmit, tcp_skb_pcount, tcp_xmit_retransmit_queue,
};
use crate::net::ipv4::tcp_recovery::{tcp_rack_mark_lost, tcp_rack_skb_timeout};
use uapi::snmp::LinuxMib;

/// What is to be sent for an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rexmit {
    /// Nothing.
    #[default]
    None,
    /// What is lost.
    Lost,
    /// What was never sent.
    New,
}

/// An acknowledgement, as far as it says something of losses, and what follows from that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub flag: AckFlags,
    /// `snd_una` before it.
    pub prior_una: SeqNr,
    /// Duplicates that it stands for.
    pub dupacks: u32,
    /// What is to be sent.
    pub rexmit: Rexmit,
}

impl Verdict {
    /// Of an acknowledgement before which `prior_una` was the oldest octet out.
    pub(super) fn new(flag: AckFlags, prior_una: SeqNr) -> Self {
        // Nothing new, and it brings neither data nor a window.
        let new = AckFlags::SND_UNA_ADVANCED | AckFlags::NOT_DUP | AckFlags::DSACKING_ACK;
        let dupacks = u32::from(!flag.intersects(new));
        Self { flag, prior_una, dupacks, rexmit: Rexmit::None }
    }

    fn advanced(&self) -> bool {
        self.flag.contains(AckFlags::SND_UNA_ADVANCED)
    }
}

/// Takes the sender to another state.
///
/// linux: net/ipv4/tcp_cong.c:tcp_set_ca_state
pub(crate) fn tcp_set_ca_state(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, state: CaState) {
    let now = cx.now();
    let tp = &mut *sk.tp;
    cong_refresh(tp, now);
    tp.ca_ops.set_state(&mut tp.cong, state);
    tp.ca_state = state;
}

/// The threshold that the present window deserves.
///
/// linux: include/net/tcp.h:tcp_current_ssthresh
pub(crate) fn tcp_current_ssthresh(tp: &TcpSock) -> u32 {
    let cong = &tp.cong;
    if matches!(tp.ca_state, CaState::Cwr | CaState::Recovery) {
        return cong.snd_ssthresh;
    }
    cong.snd_ssthresh.max((cong.snd_cwnd >> 1) + (cong.snd_cwnd >> 2))
}

/// The place in the retransmit queue before which nothing is to be sent again.
pub(crate) fn tcp_skip_hint(tp: &TcpSock) -> usize {
    if tp.retransmit_hint.after(tp.snd_una) { rtx_position(tp, tp.retransmit_hint) } else { 0 }
}

/// A segment is lost: it, or its copy.
///
/// linux: net/ipv4/tcp_input.c:tcp_mark_skb_lost
pub(crate) fn tcp_mark_skb_lost(tp: &mut TcpSock, at: usize) {
    let Some(skb) = tp.rtx_queue.get_mut(at) else { return };
    let (own, segs) = (*cb(skb), tcp_skb_pcount(skb));
    if own.sacked.contains(Sacked::ACKED) {
        return;
    }
    let mut sacked = own.sacked;
    if sacked.contains(Sacked::LOST) {
        if !sacked.contains(Sacked::RETRANS) {
            return;
        }
        // The copy was lost, too.
        sacked -= Sacked::RETRANS;
        tp.retrans_out = tp.retrans_out.saturating_sub(segs);
    } else {
        sacked |= Sacked::LOST;
        tp.lost_out += segs;
        tp.cong.lost = tp.cong.lost.wrapping_add(segs);
    }
    cb_mut(skb).sacked = sacked;
    if own.seq.before(tp.retransmit_hint) {
        tp.retransmit_hint = own.seq;
    }
}

/// Without SACK, the first segment is lost after so many duplicates, and at each partial acknowledgement
/// (RFC 6582).
///
/// linux: net/ipv4/tcp_recovery.c:tcp_newreno_mark_lost
fn tcp_newreno_mark_lost(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, advanced: bool) {
    let state = sk.tp.ca_state;
    let lost = (state < CaState::Recovery && sk.tp.sacked_out >= sk.tp.reordering)
        || (state == CaState::Recovery && advanced);
    let Some(head) = sk.tp.rtx_queue.front() else { return };
    if !lost || cb(head).sacked.contains(Sacked::LOST) {
        return;
    }
    let mss = sk.tp.mss_cache;
    if tcp_skb_pcount(head) > 1 && head.data_len > mss {
        let _cut = tcp_fragment_at(cx, sk, 0, (mss, mss));
    }
    tcp_mark_skb_lost(sk.tp, 0);
}

/// Without SACK, a duplicate says that some segment arrived: never more than are out.
///
/// linux: net/ipv4/tcp_input.c:tcp_add_reno_sack
fn tcp_add_reno_sack(cx: &mut BhCx<'_>, tp: &mut TcpSock, verdict: &Verdict) {
    if verdict.dupacks == 0 {
        return;
    }
    let before = tp.sacked_out;
    tp.sacked_out += verdict.dupacks;
    tcp_check_reno_reordering(cx, tp, 0);
    tcp_count_delivered(tp, tp.sacked_out.saturating_sub(before), verdict.flag);
}

/// Without SACK, no more arrived than are neither lost nor the one that is missing; true when more were counted.
///
/// linux: net/ipv4/tcp_input.c:tcp_limit_reno_sacked
pub(crate) fn tcp_limit_reno_sacked(tp: &mut TcpSock) -> bool {
    let most = tp.packets_out - tp.lost_out.max(1).min(tp.packets_out);
    let over = tp.sacked_out > most;
    tp.sacked_out = tp.sacked_out.min(most);
    over
}

/// linux: net/ipv4/tcp_input.c:tcp_check_reno_reordering
fn tcp_check_reno_reordering(cx: &mut BhCx<'_>, tp: &mut TcpSock, addend: u32) {
    if tcp_limit_reno_sacked(tp) {
        let most = cx.t.net.sysctl.tcp.max_reordering;
        tp.reordering = (tp.packets_out + addend).min(most);
        tp.stats.reord_seen = tp.stats.reord_seen.wrapping_add(1);
        cx.count(LinuxMib::TCPRenoReorder);
    }
}

/// Without SACK, so many segments were acknowledged: what was counted by duplicates among them. How many are
/// delivered anew.
///
/// linux: net/ipv4/tcp_input.c:tcp_remove_reno_sacks
pub(super) fn tcp_remove_reno_sacks(cx: &mut BhCx<'_>, tp: &mut TcpSock, acked: u32) -> u32 {
    let mut delivered = 0;
    if acked != 0 {
        delivered = acked.saturating_sub(tp.sacked_out).max(1);
        tp.sacked_out = tp.sacked_out.saturating_sub(acked - 1);
    }
    tcp_check_reno_reordering(cx, tp, acked);
    delivered
}

/// linux: net/ipv4/tcp_input.c:tcp_any_retrans_done
pub(super) fn tcp_any_retrans_done(tp: &TcpSock) -> bool {
    tp.retrans_out != 0
        || tp.rtx_queue.front().is_some_and(|skb| cb(skb).sacked.contains(Sacked::EVER_RETRANS))
}

/// Takes what an acknowledgement says of losses to the sender's state.
///
/// linux: net/ipv4/tcp_input.c:tcp_fastretrans_alert
pub(super) fn tcp_fastretrans_alert(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, verdict: &mut Verdict) {
    walk!(cx, tcp_fastretrans_alert => sk.tp.ca_state as u64);
    if sk.tp.packets_out == 0 {
        sk.tp.sacked_out = 0;
    }
    if verdict.flag.contains(AckFlags::ECE) {
        // Whatever else it was, that was no mistake: it is not taken back.
        sk.tp.prior_ssthresh = 0;
    }
    if tcp_check_sack_reneging(cx, sk, &mut verdict.flag) {
        return;
    }
    if sk.tp.ca_state == CaState::Open {
        if sk.tp.retrans_out == 0 {
            sk.tp.retrans_stamp = Ktime::ZERO;
        }
    } else if !sk.tp.snd_una.before(sk.tp.high_seq) && high_seq_acked(cx, sk) {
        return;
    }
    let goes_on = match sk.tp.ca_state {
        CaState::Recovery => goes_on_recovering(cx, sk, verdict),
        state => {
            if state == CaState::Loss {
                tcp_process_loss(cx, sk, verdict);
                sk.tp.loss_may_be_over(cx.now());
                tcp_identify_packet_loss(cx, sk, verdict);
                let lost_again = verdict.flag.contains(AckFlags::LOST_RETRANS);
                if sk.tp.ca_state != CaState::Open && !lost_again {
                    return;
                }
                // It is over, or copies are lost: what follows is as in the open state.
            }
            begins_to_recover(cx, sk, verdict)
        }
    };
    if goes_on {
        verdict.rexmit = Rexmit::Lost;
    }
}

/// An acknowledgement outside of recovery; false when nothing is to be sent again for it.
fn begins_to_recover(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, verdict: &mut Verdict) -> bool {
    if !sk.tp.rx_opt.sack_ok {
        if verdict.advanced() {
            sk.tp.sacked_out = 0;
        }
        tcp_add_reno_sack(cx, sk.tp, verdict);
    }
    if sk.tp.ca_state <= CaState::Disorder {
        tcp_try_undo_dsack(cx, sk);
    }
    tcp_identify_packet_loss(cx, sk, verdict);
    if !tcp_time_to_recover(sk.tp) {
        tcp_try_to_open(cx, sk, verdict.flag);
        return false;
    }
    if sk.tp.ca_state <= CaState::Disorder && tcp_mtup_probe_failed(cx, sk) {
        tcp_simple_retransmit(cx, sk);
        return false;
    }
    tcp_enter_recovery(cx, sk, verdict.flag);
    true
}

/// An acknowledgement in the recovery state; false when nothing is to be sent again for it.
fn goes_on_recovering(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, verdict: &mut Verdict) -> bool {
    if !verdict.advanced() {
        if !sk.tp.rx_opt.sack_ok {
            tcp_add_reno_sack(cx, sk.tp, verdict);
        }
    } else if tcp_try_undo_partial(cx, sk, verdict.prior_una) {
        return false;
    }
    if tcp_try_undo_dsack(cx, sk) {
        tcp_try_to_open(cx, sk, verdict.flag);
    }
    tcp_identify_packet_loss(cx, sk, verdict);
    if sk.tp.ca_state != CaState::Recovery {
        // It was for nothing; but something else may be lost.
        if !tcp_time_to_recover(sk.tp) {
            return false;
        }
        tcp_enter_recovery(cx, sk, verdict.flag);
    }
    true
}

/// linux: net/ipv4/tcp_input.c:tcp_identify_packet_loss
fn tcp_identify_packet_loss(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, verdict: &mut Verdict) {
    if sk.tp.rtx_queue.is_empty() {
        return;
    }
    if !sk.tp.rx_opt.sack_ok {
        return tcp_newreno_mark_lost(cx, sk, verdict.advanced());
    }
    let before = sk.tp.retrans_out;
    if tcp_rack_mark_lost(cx, sk) {
        verdict.flag.remove(AckFlags::SET_XMIT_TIMER);
    }
    if before > sk.tp.retrans_out {
        verdict.flag |= AckFlags::LOST_RETRANS;
    }
}

/// All that was out when the present state began is acknowledged; true when nothing else is to be done.
fn high_seq_acked(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    match sk.tp.ca_state {
        CaState::Cwr if sk.tp.snd_una != sk.tp.high_seq => {
            tcp_end_cwnd_reduction(cx, sk);
            tcp_set_ca_state(cx, sk, CaState::Open);
            false
        }
        CaState::Recovery => {
            if !sk.tp.rx_opt.sack_ok {
                sk.tp.sacked_out = 0;
            }
            if tcp_try_undo_recovery(cx, sk) {
                return true;
            }
            tcp_end_cwnd_reduction(cx, sk);
            false
        }
        _ => false,
    }
}

/// The first segment is reported to have arrived, and yet is not acknowledged: the peer has thrown it away
/// (RFC 2018 section 8). A little later all that was reported counts as lost.
///
/// linux: net/ipv4/tcp_input.c:tcp_check_sack_reneging
fn tcp_check_sack_reneging(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, flag: &mut AckFlags) -> bool {
    if !flag.contains(AckFlags::SACK_RENEGING | AckFlags::SND_UNA_ADVANCED) {
        return false;
    }
    let delay = u64::from(sk.tp.cong.srtt_us >> 4).max(10_000);
    inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, delay);
    flag.remove(AckFlags::SET_XMIT_TIMER);
    true
}

/// Something is lost.
///
/// linux: net/ipv4/tcp_input.c:tcp_time_to_recover
fn tcp_time_to_recover(tp: &TcpSock) -> bool {
    tp.lost_out != 0
}

/// linux: net/ipv4/tcp_input.c:tcp_init_undo
fn tcp_init_undo(tp: &mut TcpSock) {
    tp.undo_marker = Some(tp.snd_una);
    tp.undo_retrans = if tp.retrans_out != 0 { tp.retrans_out as i32 } else { -1 };
}

/// The window goes down to the threshold, spread over a round trip.
///
/// linux: net/ipv4/tcp_input.c:tcp_init_cwnd_reduction
pub(super) fn tcp_init_cwnd_reduction(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    let tp = &mut *sk.tp;
    tp.high_seq = tp.snd_nxt;
    tp.tlp_high_seq = None;
    tp.cong.snd_cwnd_cnt = 0;
    tp.cong.prior_cwnd = tp.cong.snd_cwnd;
    (tp.prr_delivered, tp.prr_out) = (0, 0);
    cong_refresh(tp, now);
    tp.cong.snd_ssthresh = tp.ca_ops.ssthresh(&tp.cong);
    tcp_ecn_queue_cwr(tp);
}

/// So many segments may be out while the window is reduced.
///
/// linux: net/ipv4/tcp_input.c:tcp_cwnd_reduction
pub(crate) fn tcp_cwnd_reduction(tp: &mut TcpSock, delivered: u32, lost: u32, flag: AckFlags) {
    let in_flight = tp.tcp_packets_in_flight();
    let (ssthresh, prior) = (tp.cong.snd_ssthresh, tp.cong.prior_cwnd);
    if delivered == 0 || prior == 0 {
        return;
    }
    tp.prr_delivered = tp.prr_delivered.saturating_add(delivered);
    let more = if in_flight > ssthresh {
        let share = u64::from(ssthresh) * u64::from(tp.prr_delivered) + u64::from(prior) - 1;
        ((share / u64::from(prior)) as u32).saturating_sub(tp.prr_out)
    } else {
        let mut more = tp.prr_delivered.saturating_sub(tp.prr_out).max(delivered);
        if flag.contains(AckFlags::SND_UNA_ADVANCED) && lost == 0 {
            more += 1;
        }
        more.min(ssthresh - in_flight)
    };
    // Entering recovery sends at least the segment that is lost.
    let more = more.max(u32::from(tp.prr_out == 0));
    tp.cong.snd_cwnd = in_flight + more;
}

/// linux: net/ipv4/tcp_input.c:tcp_end_cwnd_reduction
pub(super) fn tcp_end_cwnd_reduction(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.ca_ops.has_cong_control() {
        return;
    }
    let now = cx.now();
    let tp = &mut *sk.tp;
    if tp.cong.snd_ssthresh < TCP_INFINITE_SSTHRESH
        && (tp.ca_state == CaState::Cwr || tp.undo_marker.is_some())
    {
        tp.cong.snd_cwnd = tp.cong.snd_ssthresh;
        tp.cong.snd_cwnd_stamp = now;
    }
    cong_refresh(tp, now);
    tp.ca_ops.cwnd_event(&mut tp.cong, TcpCaEvent::CompleteCwr);
    walk!(cx, tcp_end_cwnd_reduction => u64::from(sk.tp.cong.snd_cwnd));
}

/// A router has marked a packet, or a queue of this machine is full: the window is reduced.
///
/// linux: net/ipv4/tcp_input.c:tcp_enter_cwr
pub(crate) fn tcp_enter_cwr(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    sk.tp.prior_ssthresh = 0;
    if sk.tp.ca_state < CaState::Cwr {
        sk.tp.undo_marker = None;
        tcp_init_cwnd_reduction(cx, sk);
        tcp_set_ca_state(cx, sk, CaState::Cwr);
    }
}

/// linux: net/ipv4/tcp_input.c:tcp_try_to_open
pub(super) fn tcp_try_to_open(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, flag: AckFlags) {
    if !tcp_any_retrans_done(sk.tp) {
        sk.tp.retrans_stamp = Ktime::ZERO;
    }
    if flag.contains(AckFlags::ECE) {
        tcp_enter_cwr(cx, sk);
    }
    if sk.tp.ca_state != CaState::Cwr {
        tcp_try_keep_open(cx, sk);
    }
}

/// linux: net/ipv4/tcp_input.c:tcp_try_keep_open
pub(super) fn tcp_try_keep_open(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let disorder = sk.tp.tcp_left_out() != 0 || tcp_any_retrans_done(sk.tp);
    let state = if disorder { CaState::Disorder } else { CaState::Open };
    if sk.tp.ca_state != state {
        tcp_set_ca_state(cx, sk, state);
        sk.tp.high_seq = sk.tp.snd_nxt;
    }
}

/// Fast recovery begins, for an acknowledgement that brought `flag`.
///
/// linux: net/ipv4/tcp_input.c:tcp_enter_recovery
pub(crate) fn tcp_enter_recovery(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, flag: AckFlags) {
    walk!(cx, tcp_enter_recovery);
    let sack = sk.tp.rx_opt.sack_ok;
    cx.count(if sack { LinuxMib::TCPSackRecovery } else { LinuxMib::TCPRenoRecovery });
    if sk.tp.undo_marker.is_none() && sk.tp.retrans_out == 0 {
        sk.tp.retrans_stamp = Ktime::ZERO;
    }
    sk.tp.prior_ssthresh = 0;
    tcp_init_undo(sk.tp);
    if !matches!(sk.tp.ca_state, CaState::Cwr | CaState::Recovery) {
        if !flag.contains(AckFlags::ECE) {
            sk.tp.prior_ssthresh = tcp_current_ssthresh(sk.tp);
        }
        tcp_init_cwnd_reduction(cx, sk);
    }
    tcp_set_ca_state(cx, sk, CaState::Recovery);
}

/// Acknowledgements after a time-out.
///
/// linux: net/ipv4/tcp_input.c:tcp_process_loss
fn tcp_process_loss(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, verdict: &mut Verdict) {
    let recovered = !sk.tp.snd_una.before(sk.tp.high_seq);
    if verdict.advanced() && tcp_try_undo_loss(cx, sk, false) {
        return;
    }
    if sk.tp.frto && frto_step(cx, sk, verdict, recovered) {
        return;
    }
    if recovered {
        tcp_try_undo_recovery(cx, sk);
        return;
    }
    if !sk.tp.rx_opt.sack_ok {
        if sk.tp.snd_nxt.after(sk.tp.high_seq) && verdict.dupacks != 0 {
            tcp_add_reno_sack(cx, sk.tp, verdict);
        } else if verdict.advanced() {
            sk.tp.sacked_out = 0;
        }
    }
    verdict.rexmit = Rexmit::Lost;
}

/// Tells whether the time-out was for nothing (RFC 5682 section 3.1); true when nothing else is to be done.
fn frto_step(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    verdict: &mut Verdict,
    recovered: bool,
) -> bool {
    // Step 3b: something arrived that was sent once, before the time-out.
    if verdict.flag.contains(AckFlags::ORIG_SACK_ACKED) && tcp_try_undo_loss(cx, sk, true) {
        return true;
    }
    if sk.tp.snd_nxt.after(sk.tp.high_seq) {
        // Step 3a: what is new arrives, what was old does not.
        if verdict.flag.contains(AckFlags::DATA_SACKED) || verdict.dupacks != 0 {
            sk.tp.frto = false;
        }
    } else if verdict.advanced() && !recovered {
        sk.tp.high_seq = sk.tp.snd_nxt;
        // Step 2b: new segments tell, if there are any and the peer takes them.
        if !sk.tp.write_queue.is_empty() && sk.tp.tcp_wnd_end().after(sk.tp.snd_nxt) {
            verdict.rexmit = Rexmit::New;
            return true;
        }
        sk.tp.frto = false;
    }
    false
}

/// Sends what an acknowledgement asks for.
///
/// linux: net/ipv4/tcp_input.c:tcp_xmit_recovery
pub(super) fn tcp_xmit_recovery(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, rexmit: Rexmit) {
    if rexmit == Rexmit::None || sk.tp.state == TcpState::SynSent {
        return;
    }
    if rexmit == Rexmit::New {
        let mss = tcp_current_mss(sk);
        __tcp_push_pending_frames(cx, sk, mss, Nonagle::OFF);
        if sk.tp.snd_nxt.after(sk.tp.high_seq) {
            return;
        }
        sk.tp.frto = false;
    }
    tcp_xmit_retransmit_queue(cx, sk);
}

/// The retransmission timer expired: all that is out and not reported counts as lost, and the window is one.
///
/// linux: net/ipv4/tcp_input.c:tcp_enter_loss
pub(crate) fn tcp_enter_loss(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    let state = sk.tp.ca_state;
    tcp_timeout_mark_lost(cx, sk);
    if state <= CaState::Disorder
        || !sk.tp.high_seq.after(sk.tp.snd_una)
        || (state == CaState::Loss && sk.tp.retransmits == 0)
    {
        sk.tp.prior_ssthresh = tcp_current_ssthresh(sk.tp);
        let tp = &mut *sk.tp;
        tp.cong.prior_cwnd = tp.cong.snd_cwnd;
        cong_refresh(tp, now);
        tp.cong.snd_ssthresh = tp.ca_ops.ssthresh(&tp.cong);
        tp.ca_ops.cwnd_event(&mut tp.cong, TcpCaEvent::Loss);
        tcp_init_undo(tp);
    }
    sk.tp.cong.snd_cwnd = sk.tp.tcp_packets_in_flight() + 1;
    sk.tp.cong.snd_cwnd_cnt = 0;
    sk.tp.cong.snd_cwnd_stamp = now;
    let usual = cx.t.net.sysctl.tcp.reordering;
    if state <= CaState::Disorder && sk.tp.sacked_out >= usual {
        sk.tp.reordering = sk.tp.reordering.min(usual);
    }
    tcp_set_ca_state(cx, sk, CaState::Loss);
    sk.tp.high_seq = sk.tp.snd_nxt;
    sk.tp.tlp_high_seq = None;
    tcp_ecn_queue_cwr(sk.tp);
    // RFC 5682 section 3.1, step 1: not where a recovery was under way that has not been retried yet.
    let fresh = state < CaState::Recovery || sk.tp.retransmits != 0;
    sk.tp.frto = cx.t.net.sysctl.tcp.frto != 0 && fresh && !tcp_mtup_probing(sk.tp);
}

/// linux: net/ipv4/tcp_input.c:tcp_timeout_mark_lost
fn tcp_timeout_mark_lost(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let reneging =
        sk.tp.rtx_queue.front().is_some_and(|skb| cb(skb).sacked.contains(Sacked::ACKED));
    if reneging {
        cx.count(LinuxMib::TCPSACKReneging);
        for skb in &mut sk.tp.rtx_queue {
            let segs = tcp_skb_pcount(skb);
            let own = cb_mut(skb);
            if own.sacked.contains(Sacked::ACKED) {
                own.sacked -= Sacked::ACKED;
                sk.tp.sacked_out = sk.tp.sacked_out.saturating_sub(segs);
            }
        }
        // What it said before counts for nothing.
        sk.tp.recv_sack_cache = [SackBlock::default(); 4];
        sk.tp.is_sack_reneg = true;
    } else if !sk.tp.rx_opt.sack_ok {
        sk.tp.sacked_out = 0;
    }
    let now = cx.now();
    for at in 0..sk.tp.rtx_queue.len() {
        let sent = sk.tp.rtx_queue[at].tstamp();
        // Sent a moment ago: nothing is known of it.
        if !reneging && at != 0 && tcp_rack_skb_timeout(sk.tp, sent, 0, now).is_some() {
            continue;
        }
        tcp_mark_skb_lost(sk.tp, at);
    }
    sk.tp.retransmit_hint = sk.tp.snd_una;
}
