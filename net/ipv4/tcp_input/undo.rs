//! Taking a reduction of the congestion window back that was for nothing.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_may_undo`); RFC 3522 (Eifel), RFC 3708 (DSACK). Context: BH.

use super::recovery::{tcp_any_retrans_done, tcp_set_ca_state, tcp_try_to_open};
use super::sack::tcp_check_sack_reordering;
use super::{AckFlags, cong_refresh};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::tcp::{CaState, Sacked, SeqNr, TcpSk, TcpSock, TcpState};
use crate::net::ipv4::tcp_ecn::tcp_ecn_withdraw_cwr;
use crate::net::ipv4::tcp_output::cb_mut;
use uapi::snmp::LinuxMib;
/// The reduction was needless: every retransmission was reported as received twice, or the acknowledgement
/// echoes a timestamp from before the first of them.
///
/// linux: net/ipv4/tcp_input.c:tcp_may_undo
fn tcp_may_undo(tp: &TcpSock) -> bool {
    tp.undo_marker.is_some() && (tp.undo_retrans == 0 || tcp_packet_delayed(tp))
}

/// What was taken for lost was late: nothing was sent again yet, or the acknowledgement echoes a timestamp from
/// before that.
///
/// linux: net/ipv4/tcp_input.c:tcp_packet_delayed
fn tcp_packet_delayed(tp: &TcpSock) -> bool {
    if tp.retrans_stamp == Ktime::ZERO {
        // Where the stamp was cleared on the way, it says nothing.
        let cleared = !tp.rx_opt.sack_ok && !tp.snd_una.before(tp.high_seq);
        return !cleared && tp.state != TcpState::SynSent;
    }
    if !tp.rx_opt.saw_tstamp || tp.rx_opt.rcv_tsecr == 0 {
        return false;
    }
    let sent = crate::net::ipv4::tcp::tcp_clock_ms(tp.retrans_stamp);
    (tp.rx_opt.rcv_tsecr.wrapping_sub(sent) as i32) < 0
}

/// linux: net/ipv4/tcp_input.c:tcp_undo_cwnd_reduction
fn tcp_undo_cwnd_reduction(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, unmark: bool) {
    walk!(cx, tcp_undo_cwnd_reduction);
    let now = cx.now();
    if unmark {
        for skb in &mut sk.tp.rtx_queue {
            cb_mut(skb).sacked -= Sacked::LOST;
        }
        sk.tp.lost_out = 0;
        sk.tp.retransmit_hint = sk.tp.snd_nxt;
    }
    let tp = &mut *sk.tp;
    if tp.prior_ssthresh != 0 {
        cong_refresh(tp, now);
        tp.cong.snd_cwnd = tp.ca_ops.undo_cwnd(&tp.cong);
        if tp.prior_ssthresh > tp.cong.snd_ssthresh {
            tp.cong.snd_ssthresh = tp.prior_ssthresh;
            tcp_ecn_withdraw_cwr(tp);
        }
    }
    tp.cong.snd_cwnd_stamp = now;
    tp.undo_marker = None;
    // Losses are looked for anew.
    tp.rack.advanced = true;
}

/// All that was out is acknowledged; true when the state is kept until something beyond is, too.
///
/// linux: net/ipv4/tcp_input.c:tcp_try_undo_recovery
pub(crate) fn tcp_try_undo_recovery(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    walk!(cx, tcp_try_undo_recovery);
    if tcp_may_undo(sk.tp) {
        let loss = sk.tp.ca_state == CaState::Loss;
        tcp_undo_cwnd_reduction(cx, sk, false);
        cx.count(if loss { LinuxMib::TCPLossUndo } else { LinuxMib::TCPFullUndo });
    } else {
        sk.tp.rack.reo_wnd_persist = sk.tp.rack.reo_wnd_persist.saturating_sub(1);
    }
    if tcp_is_non_sack_preventing_reopen(sk.tp) {
        return true;
    }
    tcp_set_ca_state(cx, sk, CaState::Open);
    sk.tp.is_sack_reneg = false;
    false
}

/// RFC 6582 section 3.2: duplicates of what was sent again must not begin another recovery.
///
/// linux: net/ipv4/tcp_input.c:tcp_is_non_sack_preventing_reopen
fn tcp_is_non_sack_preventing_reopen(tp: &mut TcpSock) -> bool {
    let prevents = tp.snd_una == tp.high_seq && !tp.rx_opt.sack_ok;
    if prevents && !tcp_any_retrans_done(tp) {
        tp.retrans_stamp = Ktime::ZERO;
    }
    prevents
}

/// linux: net/ipv4/tcp_input.c:tcp_try_undo_dsack
pub(super) fn tcp_try_undo_dsack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    if sk.tp.undo_marker.is_none() || sk.tp.undo_retrans != 0 {
        return false;
    }
    tcp_undo_cwnd_reduction(cx, sk, false);
    cx.count(LinuxMib::TCPDSACKUndo);
    true
}

/// The time-out was for nothing: as what it sent again shows, or `frto`: as was seen by what was new.
///
/// linux: net/ipv4/tcp_input.c:tcp_try_undo_loss
pub(super) fn tcp_try_undo_loss(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, frto: bool) -> bool {
    if !frto && !tcp_may_undo(sk.tp) {
        return false;
    }
    tcp_undo_cwnd_reduction(cx, sk, true);
    cx.count(LinuxMib::TCPLossUndo);
    if frto {
        cx.count(LinuxMib::TCPSpuriousRTOs);
    }
    sk.tp.retransmits = 0;
    if tcp_is_non_sack_preventing_reopen(sk.tp) {
        return true;
    }
    if frto || sk.tp.rx_opt.sack_ok {
        tcp_set_ca_state(cx, sk, CaState::Open);
        sk.tp.is_sack_reneg = false;
    }
    true
}

/// A partial acknowledgement in recovery that shows the reduction to have been needless.
///
/// linux: net/ipv4/tcp_input.c:tcp_try_undo_partial
pub(super) fn tcp_try_undo_partial(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    prior_una: SeqNr,
) -> bool {
    if sk.tp.undo_marker.is_none() || !tcp_packet_delayed(sk.tp) {
        return false;
    }
    // The hole was filled by what was late, not by its copy.
    tcp_check_sack_reordering(cx, sk, prior_una, LinuxMib::TCPTSReorder);
    // Something is still under way again: wait for it.
    if sk.tp.retrans_out != 0 {
        return true;
    }
    if !tcp_any_retrans_done(sk.tp) {
        sk.tp.retrans_stamp = Ktime::ZERO;
    }
    tcp_undo_cwnd_reduction(cx, sk, true);
    cx.count(LinuxMib::TCPPartialUndo);
    tcp_try_to_open(cx, sk, AckFlags::empty());
    false
}
