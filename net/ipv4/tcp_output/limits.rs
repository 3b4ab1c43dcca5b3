//! What keeps a packet in the send queue: the windows, Nagle, and the hope that more comes.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_nagle_test`, `tcp_tso_should_defer`); RFC 896, RFC 9293 section 3.7.4.
//! Context: BH, under the socket's lock.

use super::{Push, cb, tcp_skb_pcount};
use crate::kernel::context::BhCx;
use crate::net::core::skbuff::SkBuff;
use crate::net::core::sock::SkPacing;
use crate::net::ipv4::tcp::{CaState, Nonagle, TcpSk, TcpSock};
use std::time::Duration;
use uapi::tcp::TCPHDR_FIN;
/// So many segments may be sent now.
///
/// linux: net/ipv4/tcp_output.c:tcp_cwnd_test
pub(super) fn tcp_cwnd_test(tp: &TcpSock, skb: &SkBuff) -> u32 {
    // A FIN alone does no harm.
    if cb(skb).tcp_flags & TCPHDR_FIN != 0 && tcp_skb_pcount(skb) == 1 {
        return 1;
    }
    let in_flight = tp.tcp_packets_in_flight();
    let cwnd = tp.cong.snd_cwnd;
    if in_flight >= cwnd {
        return 0;
    }
    (cwnd >> 1).max(1).min(cwnd - in_flight)
}

/// The peer's window has room for it.
///
/// linux: net/ipv4/tcp_output.c:tcp_snd_wnd_test
#[inline]
pub(super) fn tcp_snd_wnd_test(tp: &TcpSock, skb: &SkBuff, mss: u32) -> bool {
    let own = cb(skb);
    let end = if skb.data_len > mss { own.seq + mss } else { own.end_seq };
    !end.after(tp.tcp_wnd_end())
}

/// A small segment sent before is not acknowledged.
///
/// linux: net/ipv4/tcp_output.c:tcp_minshall_check
pub(super) fn tcp_minshall_check(tp: &TcpSock) -> bool {
    tp.snd_sml.after(tp.snd_una) && !tp.snd_sml.after(tp.snd_nxt)
}

/// Nagle's algorithm (RFC 896) lets it go: in Minshall's form, where only small segments hold small ones up.
///
/// linux: net/ipv4/tcp_output.c:tcp_nagle_test
pub(super) fn tcp_nagle_test(tp: &TcpSock, skb: &SkBuff, mss: u32, nonagle: Nonagle) -> bool {
    let urgent = tp.snd_una != tp.snd_up;
    if nonagle.contains(Nonagle::PUSH) || urgent || cb(skb).tcp_flags & TCPHDR_FIN != 0 {
        return true;
    }
    skb.data_len >= mss || !tcp_nagle_check(tp, nonagle)
}

/// A segment that is not full waits.
///
/// linux: net/ipv4/tcp_output.c:tcp_nagle_check
pub(super) fn tcp_nagle_check(tp: &TcpSock, nonagle: Nonagle) -> bool {
    nonagle.contains(Nonagle::CORK)
        || (nonagle.is_empty() && tp.packets_out != 0 && tcp_minshall_check(tp))
}

/// The queues below hold enough of the socket: more waits until some of it has left.
///
/// linux: net/ipv4/tcp_output.c:tcp_small_queue_check
pub(super) fn tcp_small_queue_check(cx: &BhCx<'_>, sk: &TcpSk<'_>, skb: &SkBuff) -> bool {
    let rate = usize::try_from(sk.tp.cong.pacing_rate >> 10).unwrap_or(usize::MAX);
    let limit = rate.max(2 * skb.truesize as usize + 2 * 1024);
    let limit = match sk.sk.pacing_status() {
        SkPacing::None => limit.min(cx.t.net.sysctl.tcp.limit_output_bytes as usize),
        // The pace bounds it.
        _ => limit,
    };
    if sk.sk.wmem_alloc() <= limit {
        return false;
    }
    // An empty retransmit queue would leave nobody to send on.
    if sk.tp.rtx_queue.is_empty() {
        return false;
    }
    sk.sk.throttle();
    sk.sk.wmem_alloc() > limit
}

/// The most octets of a packet that holds several segments.
///
/// linux: include/linux/netdevice.h:GSO_LEGACY_MAX_SIZE
pub(crate) const GSO_MAX_SIZE: u32 = 65_536 - 320;

/// How many segments a packet may hold: what a millisecond of the connection's pace has, more where the way is
/// short, two at least.
///
/// linux: net/ipv4/tcp_output.c:tcp_tso_segs
pub(super) fn tcp_tso_segs(cx: &BhCx<'_>, sk: &TcpSk<'_>, mss: u32) -> u32 {
    let tp = &*sk.tp;
    // Each segment has a signature of its own.
    if sk.tp.md5 {
        return 1;
    }
    let mut bytes = tp.cong.pacing_rate >> 10;
    let shift = tp.rtt_min.0 >> 9;
    if shift < 32 {
        bytes = bytes.saturating_add(u64::from(GSO_MAX_SIZE) >> shift);
    }
    let least = cx.t.net.sysctl.tcp.min_tso_segs;
    let least = tp.ca_ops.min_tso_segs(&tp.cong).unwrap_or(least.into());
    let segs = bytes.min(GSO_MAX_SIZE.into()) as u32 / mss.max(1);
    segs.max(least)
}

/// How much of a packet may go: whole segments, as the windows allow, and the rest if Nagle lets it.
///
/// linux: net/ipv4/tcp_output.c:tcp_mss_split_point
pub(super) fn tcp_mss_split_point(
    tp: &TcpSock,
    skb: &SkBuff,
    (mss, segs): (u32, u32),
    (last, nonagle): (bool, Nonagle),
) -> u32 {
    let window = tp.tcp_wnd_end() - cb(skb).seq;
    let most = mss.saturating_mul(segs);
    if most <= window && !last {
        return most;
    }
    let needed = skb.data_len.min(window);
    if most <= needed {
        return most;
    }
    let partial = needed % mss;
    if partial != 0 && tcp_nagle_check(tp, nonagle) { needed - partial } else { needed }
}

/// A packet of several segments may wait for the window to take all of it: the acknowledgement that opens it
/// comes soon. What keeps it, if it does.
///
/// linux: net/ipv4/tcp_output.c:tcp_tso_should_defer
pub(super) fn tcp_tso_should_defer(
    cx: &mut BhCx<'_>,
    tp: &TcpSock,
    skb: &SkBuff,
    (segs, last): (u32, bool),
) -> Option<Limit> {
    let now = cx.now();
    if tp.ca_state >= CaState::Recovery || now - tp.cong.lsndtime > Duration::from_millis(1) {
        return None;
    }
    let in_flight = tp.tcp_packets_in_flight();
    let send_win = tp.tcp_wnd_end() - cb(skb).seq;
    let cong_win = tp.cong.snd_cwnd.saturating_sub(in_flight).saturating_mul(tp.mss_cache);
    let limit = send_win.min(cong_win);
    if limit >= segs.saturating_mul(tp.mss_cache) || (!last && limit >= skb.data_len) {
        return None;
    }
    let divisor = u32::from(cx.t.net.sysctl.tcp.tso_win_divisor);
    let window = tp.snd_wnd.min(tp.cong.snd_cwnd.saturating_mul(tp.mss_cache));
    if let Some(chunk) = window.checked_div(divisor) {
        if limit >= chunk {
            return None;
        }
    } else if limit > 3 * tp.mss_cache {
        return None;
    }
    let head = tp.rtx_queue.front()?;
    // The next acknowledgement comes too late.
    if now.us_since(head.tstamp()) < u64::from(tp.cong.srtt_us >> 4) {
        return None;
    }
    if cong_win < send_win {
        if cong_win <= skb.data_len {
            return Some(Limit::Cwnd);
        }
    } else if send_win <= skb.data_len {
        return Some(Limit::Rwnd);
    }
    let own = cb(skb);
    (own.tcp_flags & TCPHDR_FIN == 0 && !own.eor).then_some(Limit::Program)
}

/// What keeps a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The congestion window.
    Cwnd,
    /// The peer's.
    Rwnd,
    /// There may be more soon.
    Program,
}

/// What a packet at the head of the send queue is measured by.
pub(super) struct Turn {
    pub mss: u32,
    pub max_segs: u32,
    pub nonagle: Nonagle,
    pub push: Push,
    /// Segments that the congestion window has room for.
    pub quota: u32,
    /// It is the last one.
    pub last: bool,
}

/// What keeps a packet, if anything does.
#[inline]
pub(super) fn kept_by(cx: &mut BhCx<'_>, tp: &TcpSock, skb: &SkBuff, turn: &Turn) -> Option<Limit> {
    if turn.quota == 0 {
        Some(Limit::Cwnd)
    } else if !tcp_snd_wnd_test(tp, skb, turn.mss) {
        Some(Limit::Rwnd)
    } else if tcp_skb_pcount(skb) == 1 {
        let nagle = if turn.last { turn.nonagle } else { Nonagle::PUSH };
        (!tcp_nagle_test(tp, skb, turn.mss, nagle)).then_some(Limit::Program)
    } else if turn.push == Push::All {
        tcp_tso_should_defer(cx, tp, skb, (turn.max_segs, turn.last))
    } else {
        None
    }
}
