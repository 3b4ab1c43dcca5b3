//! TCP in: segments of a connection, under its lock.
//!
//! linux: net/ipv4/tcp_input.c; RFC 9293 section 3.10.7. Key type: `Segment`. Parts: `parse` (options),
//! `challenge`, `ack`, `sack`, `recovery` (losses), `undo`, `rtt`, `data`, `window` (ours), `urg`, `state` (all states but
//! ESTABLISHED), `conn` (requests). Contexts: BH.
//! DIVERGES: data that acknowledges what was acknowledged before is not predicted, so that what it acknowledges
//! is looked at first (RFC 5961 section 5.2); Linux takes it when nothing else is unusual about it.

mod ack;
mod challenge;
mod comp_sack;
mod conn;
mod data;
mod parse;
mod prune;
mod recovery;
mod rtt;
mod sack;
mod state;
mod undo;
mod urg;
mod window;

pub(crate) use challenge::{ChallengeAcks, tcp_send_challenge_ack};
pub use comp_sack::CompSack;
pub(crate) use comp_sack::{
    tcp_comp_sack_sent, tcp_compressed_ack_kick, tcp_sack_compress_send_ack, tcp_stop_comp_sack,
};
pub(crate) use conn::{tcp_rcv_listen, tcp_rcv_listen_at};
use data::stamp_last;
pub(crate) use data::tcp_queue_rcv;
pub(crate) use parse::{TcpOptions, each_option, seconds, tcp_parse_options};
pub(crate) use recovery::{
    tcp_current_ssthresh, tcp_cwnd_reduction, tcp_enter_cwr, tcp_enter_loss, tcp_enter_recovery,
    tcp_limit_reno_sacked, tcp_mark_skb_lost, tcp_set_ca_state, tcp_skip_hint,
};
pub(crate) use rtt::{__tcp_set_rto, tcp_rearm_rto, tcp_rto_delta_us};
pub(crate) use sack::rtx_position;
pub(crate) use state::{tcp_ca_starts, tcp_init_transfer, tcp_rcv_state_process};
pub(crate) use undo::tcp_try_undo_recovery;
pub(crate) use window::{
    tcp_enter_quickack_mode, tcp_initialize_rcv_mss, tcp_rcv_space_adjust, tcp_set_window_clamp,
};

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{SkBuff, Skb, consume_skb, kfree_skb};
use crate::net::core::stream::{MemKind, sk_mem_charge};
use crate::net::ipv4::tcp::{
    AckPending, TCP_MAX_QUICKACKS, TCP_PAWS_WINDOW, TcpSk, TcpSkbCb, TcpSock, TcpState, UrgData,
    tcp_done,
};
use crate::net::ipv4::tcp_fastopen::tcp_fastopen_reset_out_of_order;
use crate::net::ipv4::tcp_md5sig::tcp_inbound_hash;
use crate::net::ipv4::tcp_minisocks::tcp_time_wait;
use crate::net::ipv4::tcp_output::{
    __tcp_select_window, cb, tcp_check_space, tcp_push_pending_frames, tcp_send_ack,
    tcp_send_delayed_ack, tcp_write_queue_purge,
};
pub(crate) use ack::tcp_cap_pacing_rate;
use ack::{Acked, tcp_ack, tcp_may_update_window};
use bitflags::bitflags;
use data::{inet_csk_schedule_ack, tcp_data_ready, tcp_data_step, tcp_dsack_set};
use rtt::tcp_rcv_rtt_measure_ts;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_PSH, TCPHDR_SYN, TcpHdr};
use urg::tcp_urg;
use window::{tcp_event_data_recv, tcp_in_quickack_mode};
use zerocopy::FromBytes;

bitflags! {
    /// What an acknowledgement brought.
    ///
    /// linux: net/ipv4/tcp_input.c:FLAG_DATA
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct AckFlags: u32 {
        /// The segment has data.
        const DATA = 1;
        /// It changes the window.
        const WIN_UPDATE = 1 << 1;
        /// It acknowledges data.
        const DATA_ACKED = 1 << 2;
        /// Some of that had been sent again.
        const RETRANS_DATA_ACKED = 1 << 3;
        /// It acknowledges the SYN.
        const SYN_ACKED = 1 << 4;
        /// It reports new blocks.
        const DATA_SACKED = 1 << 5;
        /// Something sent once and before recovery was acknowledged.
        const ORIG_SACK_ACKED = 1 << 6;
        /// `snd_una` moved.
        const SND_UNA_ADVANCED = 1 << 7;
        /// It reports a duplicate.
        const DSACKING_ACK = 1 << 8;
        /// The first segment is reported and not acknowledged.
        const SACK_RENEGING = 1 << 9;
        /// The segment was not the expected one.
        const SLOWPATH = 1 << 10;
        /// Its timestamp may be taken over.
        const UPDATE_TS_RECENT = 1 << 11;
        /// No challenge, whatever it is.
        const NO_CHALLENGE_ACK = 1 << 12;
        /// The timer is to be set anew.
        const SET_XMIT_TIMER = 1 << 13;
        /// The duplicate that it reports was the probe of the tail.
        const DSACK_TLP = 1 << 14;
        /// The copy of something was lost, too.
        const LOST_RETRANS = 1 << 15;
        /// It was probably held back.
        const ACK_MAYBE_DELAYED = 1 << 16;
        /// It tells of a mark.
        const ECE = 1 << 17;
        const ACKED = Self::DATA_ACKED.bits() | Self::SYN_ACKED.bits();
        const NOT_DUP = Self::DATA.bits() | Self::WIN_UPDATE.bits() | Self::ACKED.bits();
        const CA_ALERT =
            Self::DATA_SACKED.bits() | Self::ECE.bits() | Self::DSACKING_ACK.bits();
        const FORWARD_PROGRESS = Self::ACKED.bits() | Self::DATA_SACKED.bits();
    }
}

/// A segment as it came: its header, its options, what was noted of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub th: TcpHdr,
    pub cb: TcpSkbCb,
    pub opts: TcpOptions,
    /// Segments that were merged into it, where any were.
    pub segs: u16,
}

impl Segment {
    /// Of a packet whose data begins with the header; `None` when it has none.
    pub(crate) fn of(skb: &SkBuff) -> Option<Self> {
        let (th, rest) = TcpHdr::ref_from_prefix(skb.data()).ok()?;
        Some(Self::behind(th, rest, skb))
    }

    /// Of a header and what follows it in the packet.
    // By itself, so that it is written to where it is used and not moved there.
    #[inline(always)]
    pub(crate) fn behind(th: &TcpHdr, rest: &[u8], skb: &SkBuff) -> Self {
        let len = th.doff().saturating_sub(size_of::<TcpHdr>());
        let opts = tcp_parse_options(rest.get(..len).unwrap_or(&[]), th.has(TCPHDR_SYN));
        Self { th: *th, cb: *cb(skb), opts, segs: skb.gso.segs }
    }
}

/// What congestion control sees is made current.
#[inline]
pub(crate) fn cong_refresh(tp: &mut TcpSock, now: Ktime) {
    tp.cong.in_flight = tp.tcp_packets_in_flight();
    tp.cong.delivered = tp.delivered;
    tp.cong.min_rtt = tp.rtt_min.0;
    tp.cong.snd_una = tp.snd_una.0;
    tp.cong.snd_nxt = tp.snd_nxt.0;
    tp.cong.ca_state = tp.ca_state;
    tp.cong.now = now;
}

/// The segment is the next one, and changes nothing but what is acknowledged or received.
#[inline]
fn predicted(sk: &TcpSk<'_>, seg: &Segment) -> bool {
    let tp = &*sk.tp;
    seg.th.flags & !TCPHDR_PSH == TCPHDR_ACK
        && seg.th.doff() == usize::from(tp.tcp_header_len)
        && u32::from(seg.th.window.get()) << tp.rx_opt.snd_wscale == tp.snd_wnd
        && seg.cb.seq == tp.rcv_nxt
        && seg.cb.ack_seq.between(tp.snd_una, tp.snd_nxt)
        && seg.opts.ts.is_some() == tp.rx_opt.tstamp_ok
        && tp.out_of_order_queue.is_empty()
        && tp.rcv_wnd != 0
        && tp.urg_data == UrgData::None
        && sk.st.rmem_alloc < sk.st.opts.rcvbuf as usize
        && seg.opts.ts.is_none_or(|(val, _)| val.wrapping_sub(tp.rx_opt.ts_recent) as i32 >= 0)
}

/// A segment of a connection that stands.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_established
#[inline]
pub(crate) fn tcp_rcv_established(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: Skb, seg: &Segment) {
    walk!(cx, skb, tcp_rcv_established);
    if sk.tp.md5
        && let Err(reason) = tcp_inbound_hash(cx, sk.st, &skb)
    {
        return kfree_skb(cx, skb, reason);
    }
    count_in(sk, seg);
    sk.tp.rx_opt.note_ts(seg.opts.ts, sk.tp.tsoffset);
    if predicted(sk, seg) {
        let now = cx.now();
        // What the last acknowledgement asked for: its timestamp is the one to echo.
        if sk.tp.rx_opt.tstamp_ok && sk.tp.rcv_nxt == sk.tp.rcv_wup {
            sk.tp.store_ts_recent(now);
        }
        if seg.cb.seq == seg.cb.end_seq {
            tcp_ack(cx, sk, seg, AckFlags::empty());
            consume_skb(cx, skb);
            return tcp_data_snd_check(cx, sk);
        }
        if sk_mem_charge(cx, sk, skb.truesize as usize, MemKind::Recv) {
            return fast_data(cx, sk, skb, seg);
        }
    } else if seg.opts.md5
        && !sk.tp.md5
        && let Err(reason) = tcp_inbound_hash(cx, sk.st, &skb)
    {
        // With a signature none is as predicted: the header is longer.
        return kfree_skb(cx, skb, reason);
    } else if !tcp_validate_incoming(cx, sk, seg) {
        return kfree_skb(cx, skb, DropReason::TcpInvalid);
    }
    let flags = AckFlags::SLOWPATH | AckFlags::UPDATE_TS_RECENT;
    match tcp_ack(cx, sk, seg, flags) {
        Acked::Good | Acked::Old => (),
        Acked::TooOld => return kfree_skb(cx, skb, DropReason::TcpTooOldAck),
        Acked::Unsent => {
            inet_csk_schedule_ack(sk.tp);
            tcp_send_challenge_ack(cx, sk);
            return kfree_skb(cx, skb, DropReason::TcpAckUnsentData);
        }
    }
    let now = cx.now();
    tcp_rcv_rtt_measure_ts(sk.tp, &seg.cb, now);
    tcp_urg(cx, sk, &skb, seg);
    tcp_data_step(cx, sk, skb, seg);
    if sk.tp.state != TcpState::Close {
        tcp_data_snd_check(cx, sk);
        tcp_ack_snd_check(cx, sk);
    }
}

#[inline]
fn count_in(sk: &mut TcpSk<'_>, seg: &Segment) {
    let stats = &mut sk.tp.stats;
    let segs = u32::from(seg.segs.max(1));
    stats.segs_in = stats.segs_in.wrapping_add(segs);
    let flags = u32::from(seg.th.syn()) + u32::from(seg.th.fin());
    if seg.cb.seq + flags != seg.cb.end_seq {
        stats.data_segs_in = stats.data_segs_in.wrapping_add(segs);
    }
}

/// The next data, in order: to the reader. Its memory is charged.
#[inline]
fn fast_data(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, mut skb: Skb, seg: &Segment) {
    let now = cx.now();
    cx.count(LinuxMib::TCPHPHits);
    tcp_rcv_rtt_measure_ts(sk.tp, &seg.cb, now);
    if !skb.skb_pull(seg.th.doff()) {
        return kfree_skb(cx, skb, DropReason::HdrTrunc);
    }
    tcp_event_data_recv(cx, sk, &skb);
    tcp_queue_rcv(cx, sk, skb);
    stamp_last(cx, sk.st);
    let acked = seg.cb.ack_seq != sk.tp.snd_una;
    if acked {
        tcp_ack(cx, sk, seg, AckFlags::DATA);
        tcp_data_snd_check(cx, sk);
    } else {
        sk.tp.snd_wl1 = seg.cb.seq;
    }
    if !acked || sk.tp.ack.pending.contains(AckPending::SCHED) {
        __tcp_ack_snd_check(cx, sk, false);
    }
    if !sk.tp.orphan {
        tcp_data_ready(cx, sk);
    }
}

/// Sends what an acknowledgement has made room for.
///
/// linux: net/ipv4/tcp_input.c:tcp_data_snd_check
#[inline]
fn tcp_data_snd_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    tcp_push_pending_frames(cx, sk);
    tcp_check_space(cx, sk);
}

/// Acknowledges, now or later.
///
/// linux: net/ipv4/tcp_input.c:__tcp_ack_snd_check
fn __tcp_ack_snd_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, early: bool) {
    let tp = &mut *sk.tp;
    let unacked = tp.rcv_nxt - tp.rcv_wup;
    let mut now = tcp_in_quickack_mode(tp) || tp.ack.pending.contains(AckPending::NOW);
    if !now && unacked > u32::from(tp.ack.rcv_mss) {
        // RFC 9293 section 3.8.6.3: every second full segment, unless the reader is about to.
        let unread = tp.rcv_nxt - tp.copied_seq;
        let starved = unread < sk.st.opts.rcvlowat as u32;
        now = starved || __tcp_select_window(cx, sk) >= sk.tp.rcv_wnd;
    }
    if now {
        return tcp_send_ack(cx, sk);
    }
    if !early || sk.tp.out_of_order_queue.is_empty() {
        return tcp_send_delayed_ack(cx, sk);
    }
    // RFC 5681 section 4.2: what comes out of order is answered at once, until there is much of it.
    if !comp_sack::tcp_compress_ack(cx, sk) {
        tcp_send_ack(cx, sk);
    }
}

/// linux: net/ipv4/tcp_input.c:tcp_ack_snd_check
fn tcp_ack_snd_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.ack.pending.contains(AckPending::SCHED) {
        __tcp_ack_snd_check(cx, sk, true);
    }
}

/// The segment's octets lie in the window (RFC 9293 section 3.4). Those of the last acknowledgement count, so
/// that one that was lost is answered.
///
/// linux: net/ipv4/tcp_input.c:tcp_sequence
fn tcp_sequence(tp: &TcpSock, seg: &TcpSkbCb) -> bool {
    !seg.end_seq.before(tp.rcv_wup) && !seg.seq.after(tp.rcv_nxt + tp.tcp_receive_window())
}

/// A RST right behind their FIN ends what is over anyway.
///
/// linux: net/ipv4/tcp_input.c:tcp_reset_check
fn tcp_reset_check(tp: &TcpSock, seg: &TcpSkbCb) -> bool {
    seg.seq == tp.rcv_nxt - 1
        && matches!(tp.state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing)
}

/// Looks at timestamp, sequence number, RST and SYN (RFC 9293 section 3.10.7.4, RFC 5961); false when the
/// segment goes no further: what was to be answered is.
///
/// linux: net/ipv4/tcp_input.c:tcp_validate_incoming
fn tcp_validate_incoming(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) -> bool {
    let th = &seg.th;
    if !th.ack() && !th.rst() && !th.syn() {
        return false;
    }
    let now = cx.now();
    // A reset counts even with an old timestamp.
    if sk.tp.rx_opt.tstamp_ok
        && sk.tp.rx_opt.saw_tstamp
        && tcp_paws_discard(sk.tp, seg, now)
        && !th.rst()
    {
        if th.syn() {
            return syn_challenge(cx, sk);
        }
        cx.count(LinuxMib::PAWSEstab);
        if !tcp_oow_rate_limited(cx, sk.tp, seg, LinuxMib::TCPACKSkippedPAWS) {
            tcp_send_dupack(cx, sk, seg);
        }
        return false;
    }
    if !tcp_sequence(sk.tp, &seg.cb) {
        if !th.rst() {
            if th.syn() {
                return syn_challenge(cx, sk);
            }
            if !tcp_oow_rate_limited(cx, sk.tp, seg, LinuxMib::TCPACKSkippedSeq) {
                tcp_send_dupack(cx, sk, seg);
            }
        } else if tcp_reset_check(sk.tp, &seg.cb) {
            tcp_reset(cx, sk);
        }
        return false;
    }
    if th.rst() {
        // RFC 5961 section 3.2: only where it must stand, or behind what is known to have come.
        let blocks = &sk.tp.selective_acks[..usize::from(sk.tp.rx_opt.num_sacks)];
        let last = blocks.iter().map(|block| block.end).reduce(|a, b| a.max(b));
        let exact = seg.cb.seq == sk.tp.rcv_nxt || last == Some(seg.cb.seq);
        if exact || tcp_reset_check(sk.tp, &seg.cb) {
            tcp_reset(cx, sk);
        } else {
            tcp_fastopen_reset_out_of_order(cx, sk);
            tcp_send_challenge_ack(cx, sk);
        }
        return false;
    }
    if th.syn() {
        // RFC 5961 section 4.2, but for the SYN-ACK of those that opened at once.
        let crossed = sk.tp.state == TcpState::SynRecv
            && th.ack()
            && seg.cb.seq + 1 == seg.cb.end_seq
            && seg.cb.seq + 1 == sk.tp.rcv_nxt
            && seg.cb.ack_seq == sk.tp.snd_nxt;
        if !crossed {
            return syn_challenge(cx, sk);
        }
    }
    true
}

fn syn_challenge(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    if sk.tp.state == TcpState::Established {
        cx.count(TcpMib::InErrs);
    }
    cx.count(LinuxMib::TCPSYNChallenge);
    tcp_send_challenge_ack(cx, sk);
    false
}

/// The segment's timestamp is older than the last one's, and it is not one that merely was overtaken.
///
/// linux: net/ipv4/tcp_input.c:tcp_paws_discard
fn tcp_paws_discard(tp: &TcpSock, seg: &Segment, now: Ktime) -> bool {
    if tp.rx_opt.paws_check(TCP_PAWS_WINDOW, now) {
        return false;
    }
    let cb = &seg.cb;
    let window = u32::from(seg.th.window.get()) << tp.rx_opt.snd_wscale;
    let overtaken = seg.th.ack()
        && cb.seq == cb.end_seq
        && cb.seq == tp.rcv_nxt
        && cb.ack_seq == tp.snd_una
        && !tcp_may_update_window(tp, cb.ack_seq, cb.seq, window)
        && i64::from(tp.rx_opt.ts_recent.wrapping_sub(tp.rx_opt.rcv_tsval) as i32)
            <= i64::from(tp.rto / 1000).max(1);
    !overtaken
}

/// A needless segment was answered lately: this one is not, so that two who disagree don't answer each other
/// for ever. Data is answered always.
///
/// linux: net/ipv4/tcp_input.c:tcp_oow_rate_limited
fn tcp_oow_rate_limited(cx: &mut BhCx<'_>, tp: &mut TcpSock, seg: &Segment, mib: LinuxMib) -> bool {
    if seg.cb.seq != seg.cb.end_seq && !seg.th.syn() {
        return false;
    }
    __tcp_oow_rate_limited(cx, &mut tp.last_oow_ack_time, mib)
}

/// linux: net/ipv4/tcp_input.c:__tcp_oow_rate_limited
pub(crate) fn __tcp_oow_rate_limited(cx: &mut BhCx<'_>, last: &mut Ktime, mib: LinuxMib) -> bool {
    let now = cx.now();
    if *last != Ktime::ZERO && now - *last < cx.t.net.sysctl.tcp.invalid_ratelimit {
        cx.count(mib);
        return true;
    }
    *last = now;
    false
}

/// Answers a segment that is out of the window: what is expected.
///
/// linux: net/ipv4/tcp_input.c:tcp_send_dupack
fn tcp_send_dupack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) {
    if seg.cb.end_seq != seg.cb.seq && seg.cb.seq.before(sk.tp.rcv_nxt) {
        cx.count(LinuxMib::DelayedACKLost);
        tcp_enter_quickack_mode(sk.tp, TCP_MAX_QUICKACKS);
        let end = seg.cb.end_seq.min(sk.tp.rcv_nxt);
        tcp_dsack_set(cx, sk, seg.cb.seq, end);
    }
    tcp_send_ack(cx, sk);
}

/// The peer has ended the connection.
///
/// linux: net/ipv4/tcp_input.c:tcp_reset
pub(crate) fn tcp_reset(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    walk!(cx, tcp_reset);
    let error = match sk.tp.state {
        TcpState::SynSent => Errno::ECONNREFUSED,
        TcpState::CloseWait => Errno::EPIPE,
        TcpState::Close => return,
        _ => Errno::ECONNRESET,
    };
    sk.st.err = Some(error);
    tcp_write_queue_purge(cx, sk);
    tcp_done(cx, sk);
    if !sk.tp.orphan {
        sk.st.sk_error_report(cx, Some(error));
    }
}

/// The peer has nothing more to send.
///
/// linux: net/ipv4/tcp_input.c:tcp_fin
pub(crate) fn tcp_fin(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN};
    use uapi::poll::{POLLHUP, POLLIN, POLLRDHUP, POLLRDNORM};
    inet_csk_schedule_ack(sk.tp);
    sk.st.shutdown |= RCV_SHUTDOWN;
    sk.tp.done = true;
    match sk.tp.state {
        TcpState::SynRecv | TcpState::Established => {
            crate::net::ipv4::tcp::tcp_set_state(cx, sk, TcpState::CloseWait);
            sk.tp.enter_pingpong_mode();
        }
        TcpState::FinWait1 => {
            tcp_send_ack(cx, sk);
            crate::net::ipv4::tcp::tcp_set_state(cx, sk, TcpState::Closing);
        }
        TcpState::FinWait2 => {
            tcp_send_ack(cx, sk);
            tcp_time_wait(cx, sk, TcpState::TimeWait, Duration::ZERO);
        }
        _ => (),
    }
    // Nothing can follow.
    let early = std::mem::take(&mut sk.tp.out_of_order_queue);
    for skb in early.into_values() {
        let size = skb.truesize as usize;
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        crate::net::core::stream::sk_mem_uncharge(cx, sk, size);
        kfree_skb(cx, skb, DropReason::TcpOfoDrop);
    }
    sk.tp.rx_opt.num_sacks = 0;
    sk.tp.rx_opt.dsack = false;
    if !sk.tp.orphan {
        let closed = sk.st.shutdown == RCV_SHUTDOWN | SEND_SHUTDOWN;
        let hup = if closed { POLLHUP } else { 0 };
        sk.st.wake_up_all(cx, (POLLIN | POLLRDNORM | POLLRDHUP | hup) as u32);
    }
}
