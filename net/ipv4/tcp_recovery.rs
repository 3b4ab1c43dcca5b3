//! Losses found by time: RACK.
//!
//! linux: net/ipv4/tcp_recovery.c; RFC 8985. A segment is lost when one that was sent later has arrived, and a
//! round trip and a window for reordering are over. Key types: [`TcpRack`], [`TsortedSentQueue`]. Contexts: BH,
//! under the socket's lock. Invariant: the queue's entries are hints; a segment is what the retransmit queue
//! says, and an entry whose time is not the segment's is of an older transmission.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::inet_connection_sock::inet_csk_reset_xmit_timer;
use crate::net::ipv4::tcp::{
    CaState, IcskPending, Sacked, SeqNr, TCP_TIMEOUT_MIN_US, TcpSk, TcpSock,
};
use crate::net::ipv4::tcp_cong::RateSample;
use crate::net::ipv4::tcp_input::{
    AckFlags, rtx_position, tcp_cwnd_reduction, tcp_enter_recovery, tcp_mark_skb_lost,
    tcp_rearm_rto,
};
use crate::net::ipv4::tcp_output::{cb, tcp_xmit_retransmit_queue};
use std::collections::VecDeque;

/// `tcp_recovery`: the window for reordering stays as it is.
const TCP_RACK_STATIC_REO_WND: u8 = 2;
/// `tcp_recovery`: no number of duplicates makes up for the window.
const TCP_RACK_NO_DUPTHRESH: u8 = 4;
/// Recoveries without needless retransmissions until the window shrinks again.
const TCP_RACK_RECOVERY_THRESH: u8 = 16;

/// What RACK remembers (RFC 8985 section 5.2).
///
/// linux: include/linux/tcp.h:tcp_sock (`rack`)
#[derive(Clone, Copy, Debug)]
pub struct TcpRack {
    /// Of all segments that arrived, when the one left that left last.
    pub mstamp: Ktime,
    /// Behind that one.
    pub end_seq: SeqNr,
    /// Its round trip, in microseconds.
    pub rtt_us: u32,
    /// `delivered` when the window for reordering was widened last.
    pub last_delivered: u32,
    /// That window, in quarters of the least round trip.
    pub reo_wnd_steps: u8,
    /// Recoveries until it is narrow again.
    pub reo_wnd_persist: u8,
    /// A duplicate was reported that a wider window would have saved.
    pub dsack_seen: bool,
    /// There is news since losses were looked for.
    pub advanced: bool,
}

impl Default for TcpRack {
    fn default() -> Self {
        Self {
            mstamp: Ktime::ZERO,
            end_seq: SeqNr(0),
            rtt_us: 0,
            last_delivered: 0,
            reo_wnd_steps: 1,
            reo_wnd_persist: 0,
            dsack_seen: false,
            advanced: false,
        }
    }
}

/// Octets that left together, and when.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Ktime,
    seq: SeqNr,
    end_seq: SeqNr,
}

/// What becomes of an entry that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// All of it is settled.
    Settled,
    /// It is looked at again.
    Open,
    /// It, and all behind it, left too late to say anything of.
    TooNew,
}

/// Transmissions by the time they left.
///
/// linux: include/linux/tcp.h:tcp_sock (`tsorted_sent_queue`)
#[derive(Debug, Default)]
pub struct TsortedSentQueue(VecDeque<Sent>);

impl TsortedSentQueue {
    /// The most octets of an entry, so that looking at one is bounded.
    const MOST: u32 = 64 << 10;
    /// Entries at least before those are looked for that say nothing any more.
    const FEW: usize = 64;

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `end_seq` octets from `seq` on leave now.
    #[inline]
    fn push(&mut self, sent: Sent) {
        if let Some(last) = self.0.back_mut()
            && last.at == sent.at
            && last.end_seq == sent.seq
            && sent.end_seq - last.seq <= Self::MOST
        {
            last.end_seq = sent.end_seq;
        } else {
            self.0.push_back(sent);
        }
    }

    /// Looks at the entries from the oldest on; those that are settled are taken out.
    fn visit(&mut self, mut look: impl FnMut(&mut Sent) -> Look) {
        let (mut seen, mut open) = (0, 0);
        while let Some(sent) = self.0.get_mut(seen) {
            match look(sent) {
                Look::TooNew => break,
                Look::Settled => (),
                Look::Open => {
                    self.0.swap(open, seen);
                    open += 1;
                }
            }
            seen += 1;
        }
        self.0.drain(open..seen);
    }
}

/// A packet of the retransmit queue leaves.
///
/// linux: net/ipv4/tcp_output.c:tcp_update_skb_after_send
#[inline]
pub(crate) fn tcp_update_skb_after_send(
    tp: &mut TcpSock,
    (seq, end_seq): (SeqNr, SeqNr),
    at: Ktime,
) {
    if !tp.rx_opt.sack_ok || seq == end_seq {
        return;
    }
    tp.tsorted_sent_queue.push(Sent { at, seq, end_seq });
    if tp.tsorted_sent_queue.len() > TsortedSentQueue::FEW + 2 * tp.rtx_queue.len() {
        forget_old(tp);
    }
}

/// Entries of segments that are acknowledged, or that left again since, say nothing.
#[cold]
fn forget_old(tp: &mut TcpSock) {
    let mut queue = std::mem::take(&mut tp.tsorted_sent_queue);
    queue.0.retain(|sent| {
        let from = rtx_position(tp, sent.seq);
        let of_it = tp.rtx_queue.range(from..).take_while(|skb| cb(skb).seq.before(sent.end_seq));
        // What leaves now is not in the retransmit queue yet.
        !sent.seq.before(tp.snd_nxt) || of_it.into_iter().any(|skb| skb.tstamp() == sent.at)
    });
    tp.tsorted_sent_queue = queue;
}

/// One left after the other: later, or at the same time behind it.
///
/// linux: include/net/tcp.h:tcp_skb_sent_after
pub(crate) fn tcp_skb_sent_after(
    (at, end): (Ktime, SeqNr),
    (than, than_end): (Ktime, SeqNr),
) -> bool {
    at > than || (at == than && end.after(than_end))
}

/// How long one that left later may take to arrive first, in microseconds.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_reo_wnd
fn tcp_rack_reo_wnd(cx: &BhCx<'_>, tp: &TcpSock) -> u64 {
    if tp.stats.reord_seen == 0 {
        // Nobody has seen reordering here: no time is lost over it once losses are likely.
        let by_number = cx.t.net.sysctl.tcp.recovery & TCP_RACK_NO_DUPTHRESH == 0;
        if tp.ca_state >= CaState::Recovery || (by_number && tp.sacked_out >= tp.reordering) {
            return 0;
        }
    }
    let steps = u64::from(tp.rtt_min.0 >> 2) * u64::from(tp.rack.reo_wnd_steps);
    steps.min(u64::from(tp.cong.srtt_us >> 3))
}

/// Microseconds until a segment counts as lost that left `at`; none when it does already.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_skb_timeout
pub(crate) fn tcp_rack_skb_timeout(
    tp: &TcpSock,
    at: Ktime,
    reo_wnd: u64,
    now: Ktime,
) -> Option<u64> {
    let left = (u64::from(tp.rack.rtt_us) + reo_wnd).checked_sub(now.us_since(at))?;
    (left != 0).then_some(left)
}

/// Marks what is lost by now; the microseconds until the next may be, zero when none is in doubt.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_detect_loss
fn tcp_rack_detect_loss(cx: &mut BhCx<'_>, tp: &mut TcpSock) -> u64 {
    let (now, reo_wnd) = (cx.now(), tcp_rack_reo_wnd(cx, tp));
    detect(tp, reo_wnd, now).timeout
}

/// What looking for losses found.
#[derive(Clone, Copy, Debug, Default)]
struct Detected {
    /// Microseconds until the last of those in doubt is lost; zero: none is in doubt.
    timeout: u64,
    /// Segments that were looked at.
    looked: u32,
}

fn detect(tp: &mut TcpSock, reo_wnd: u64, now: Ktime) -> Detected {
    let mut found = Detected::default();
    let mut queue = std::mem::take(&mut tp.tsorted_sent_queue);
    queue.visit(|sent| look_at(tp, sent, (reo_wnd, now), &mut found));
    tp.tsorted_sent_queue = queue;
    found
}

fn look_at(
    tp: &mut TcpSock,
    sent: &mut Sent,
    (reo_wnd, now): (u64, Ktime),
    found: &mut Detected,
) -> Look {
    let latest = (tp.rack.mstamp, tp.rack.end_seq);
    if sent.at > latest.0 {
        return Look::TooNew;
    }
    let mut settled = true;
    let mut at = rtx_position(tp, sent.seq);
    while let Some(skb) = tp.rtx_queue.get(at) {
        let own = *cb(skb);
        if !own.seq.before(sent.end_seq) {
            break;
        }
        found.looked += 1;
        if skb.tstamp() == sent.at && !own.sacked.contains(Sacked::ACKED) {
            let waits = own.sacked & (Sacked::LOST | Sacked::RETRANS) == Sacked::LOST;
            if waits {
                settled = false;
            } else if !tcp_skb_sent_after(latest, (sent.at, own.end_seq)) {
                return Look::TooNew;
            } else if let Some(left) = tcp_rack_skb_timeout(tp, sent.at, reo_wnd, now) {
                found.timeout = left.max(found.timeout);
                settled = false;
            } else {
                tcp_mark_skb_lost(tp, at);
            }
        }
        if settled {
            sent.seq = own.end_seq;
        }
        at += 1;
    }
    if settled { Look::Settled } else { Look::Open }
}

/// An acknowledgement has brought news: marks what is lost by it. True when the timer waits for the rest.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_mark_lost
pub(crate) fn tcp_rack_mark_lost(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    if !std::mem::take(&mut sk.tp.rack.advanced) {
        return false;
    }
    let before = sk.tp.lost_out;
    let timeout = tcp_rack_detect_loss(cx, sk.tp);
    let lost = sk.tp.lost_out.saturating_sub(before);
    if timeout != 0 || lost != 0 {
        walk!(cx, tcp_rack_mark_lost => timeout << 32 | u64::from(lost));
    }
    if timeout != 0 {
        let timeout = (timeout + TCP_TIMEOUT_MIN_US).min(sk.tp.rto.into());
        inet_csk_reset_xmit_timer(cx, sk, IcskPending::ReoTimeout, timeout);
    }
    timeout != 0
}

/// A segment has arrived that left at `at`.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_advance
pub(crate) fn tcp_rack_advance(
    tp: &mut TcpSock,
    sacked: Sacked,
    end_seq: SeqNr,
    (at, now): (Ktime, Ktime),
) {
    let rtt_us = u32::try_from(now.us_since(at)).unwrap_or(u32::MAX);
    // So fast that it can only have been the one that left first.
    if rtt_us < tp.rtt_min.0 && sacked.intersects(Sacked::RETRANS | Sacked::EVER_RETRANS) {
        return;
    }
    tp.rack.advanced = true;
    tp.rack.rtt_us = rtt_us;
    if tcp_skb_sent_after((at, end_seq), (tp.rack.mstamp, tp.rack.end_seq)) {
        (tp.rack.mstamp, tp.rack.end_seq) = (at, end_seq);
    }
}

/// What was in doubt is lost by now.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_reo_timeout
pub(crate) fn tcp_rack_reo_timeout(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    walk!(cx, tcp_rack_reo_timeout);
    let (in_flight, lost) = (sk.tp.tcp_packets_in_flight(), sk.tp.cong.lost);
    let timeout = tcp_rack_detect_loss(cx, sk.tp);
    debug_assert!(timeout == 0 || sk.tp.packets_out != 0);
    if in_flight != sk.tp.tcp_packets_in_flight() {
        if sk.tp.ca_state != CaState::Recovery {
            tcp_enter_recovery(cx, sk, AckFlags::empty());
            if !sk.tp.ca_ops.has_cong_control() {
                let lost = sk.tp.cong.lost.wrapping_sub(lost);
                tcp_cwnd_reduction(sk.tp, 1, lost, AckFlags::empty());
            }
        }
        tcp_xmit_retransmit_queue(cx, sk);
    }
    if sk.tp.pending != IcskPending::Retrans {
        tcp_rearm_rto(cx, sk);
    }
}

/// Widens the window for reordering once a round trip while needless retransmissions are reported.
///
/// linux: net/ipv4/tcp_recovery.c:tcp_rack_update_reo_wnd
pub(crate) fn tcp_rack_update_reo_wnd(cx: &BhCx<'_>, tp: &mut TcpSock, rs: &RateSample) {
    let fixed = cx.t.net.sysctl.tcp.recovery & TCP_RACK_STATIC_REO_WND != 0;
    if fixed || rs.prior_mstamp == Ktime::ZERO {
        return;
    }
    if (rs.prior_delivered.wrapping_sub(tp.rack.last_delivered) as i32) < 0 {
        tp.rack.dsack_seen = false;
    }
    if std::mem::take(&mut tp.rack.dsack_seen) {
        tp.rack.reo_wnd_steps = tp.rack.reo_wnd_steps.saturating_add(1);
        tp.rack.last_delivered = tp.delivered;
        tp.rack.reo_wnd_persist = TCP_RACK_RECOVERY_THRESH;
        walk!(cx, tcp_rack_update_reo_wnd => tp.rack.reo_wnd_steps.into());
    } else if tp.rack.reo_wnd_persist == 0 {
        tp.rack.reo_wnd_steps = 1;
    }
}

#[cfg(test)]
mod tests;
