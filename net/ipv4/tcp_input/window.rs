//! How much the receiver takes, and how fast it answers.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_event_data_recv`, `tcp_grow_window`, `tcp_rcv_space_adjust`).

use super::data::inet_csk_schedule_ack;
use super::rtt::tcp_rcv_rtt_measure;
use crate::kernel::context::BhCx;
use crate::net::core::skbuff::SkBuff;
use crate::net::core::stream::tcp_under_memory_pressure;
use crate::net::ipv4::tcp::{
    AckPending, TCP_ATO_MIN, TCP_INIT_CWND, TCP_MAX_QUICKACKS, TCP_MIN_MSS, TcpSk, TcpSock,
};
use crate::net::ipv4::tcp_ecn::tcp_ecn_check_ce;
use crate::net::ipv4::tcp_output::{
    cb, tcp_adjust_rcv_ssthresh, tcp_full_space, tcp_sndbuf_expand, tcp_space,
};
use uapi::tcp::{TCP_MSS_DEFAULT, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN, TCPHDR_URG};

/// The next acknowledgements go at once: as many as half of the window has segments, up to `most`.
///
/// linux: net/ipv4/tcp_input.c:tcp_incr_quickack
fn tcp_incr_quickack(tp: &mut TcpSock, most: u8) {
    let per_window = tp.rcv_wnd / (2 * u32::from(tp.ack.rcv_mss)).max(1);
    let quick = if per_window == 0 { 2 } else { per_window.min(most.into()) as u8 };
    tp.ack.quick = tp.ack.quick.max(quick);
}

/// The peer waits for acknowledgements: they go at once for a while.
///
/// linux: net/ipv4/tcp_input.c:tcp_enter_quickack_mode
pub(crate) fn tcp_enter_quickack_mode(tp: &mut TcpSock, most: u8) {
    tcp_incr_quickack(tp, most);
    tp.ack.pingpong = 0;
    tp.ack.ato = TCP_ATO_MIN;
}

/// Acknowledgements go at once now.
///
/// linux: net/ipv4/tcp_input.c:tcp_in_quickack_mode
#[inline]
pub(super) fn tcp_in_quickack_mode(tp: &TcpSock) -> bool {
    tp.ack.quick != 0 && !tp.in_pingpong_mode()
}

/// What the peer's full segments are, as far as can be seen from those that come.
///
/// linux: net/ipv4/tcp_input.c:tcp_measure_rcv_mss
pub(super) fn tcp_measure_rcv_mss(sk: &mut TcpSk<'_>, skb: &SkBuff) {
    let tp = &mut *sk.tp;
    let last = std::mem::take(&mut tp.ack.last_seg_size);
    // What was merged came in segments of this size.
    let whole = skb.len().min(usize::from(u16::MAX)) as u16;
    let len = if skb.gso.size != 0 { skb.gso.size } else { whole };
    let flags = cb(skb).tcp_flags;
    if len >= tp.ack.rcv_mss {
        if len != tp.ack.rcv_mss {
            // Of all of it, however many segments it came in.
            let ratio = ((skb.len() as u64) << 8) / u64::from(skb.truesize.max(1));
            let ratio = ratio.clamp(1, 255) as u8;
            if ratio != tp.scaling_ratio {
                tp.scaling_ratio = ratio;
                let clamp = tp.tcp_win_from_space(i64::from(sk.st.opts.rcvbuf)) as u32;
                tcp_set_window_clamp(sk, clamp);
            }
        }
        let tp = &mut *sk.tp;
        tp.ack.rcv_mss = u32::from(len).min(tp.advmss) as u16;
        if len == tp.ack.rcv_mss && flags & TCPHDR_PSH != 0 {
            tp.ack.pending |= AckPending::PUSHED;
        }
        return;
    }
    // Shorter: with its header, in which SACKs may have taken room.
    let whole = u32::from(len) + 20 + options_of_peer(tp);
    let plain = flags & (TCPHDR_FIN | TCPHDR_SYN | TCPHDR_URG | TCPHDR_PSH) == 0;
    if whole >= u32::from(TCP_MSS_DEFAULT) + 20 || (whole >= TCP_MIN_MSS + 20 && plain) {
        let size = (whole - u32::from(tp.tcp_header_len)) as u16;
        tp.ack.last_seg_size = size;
        if size == last {
            tp.ack.rcv_mss = size;
            return;
        }
    }
    if tp.ack.pending.contains(AckPending::PUSHED) {
        tp.ack.pending |= AckPending::PUSHED2;
    }
    tp.ack.pending |= AckPending::PUSHED;
}

/// Octets of the options that every segment of the peer has.
fn options_of_peer(tp: &TcpSock) -> u32 {
    u32::from(tp.tcp_header_len).saturating_sub(20)
}

/// Bounds the window to come.
///
/// linux: include/net/tcp.h:tcp_set_window_clamp
pub(crate) fn tcp_set_window_clamp(sk: &mut TcpSk<'_>, clamp: u32) {
    let tp = &mut *sk.tp;
    tp.window_clamp = clamp;
    tp.rcv_ssthresh = tp.rcv_ssthresh.min(clamp);
}

/// What the peer's segments are taken to be at first.
///
/// linux: net/ipv4/tcp_input.c:tcp_initialize_rcv_mss
pub(crate) fn tcp_initialize_rcv_mss(tp: &mut TcpSock) {
    let hint = tp.advmss.min(tp.mss_cache).min(tp.rcv_wnd / 2);
    tp.ack.rcv_mss = hint.min(u32::from(TCP_MSS_DEFAULT)).max(TCP_MIN_MSS) as u16;
}

/// Data came in order: an acknowledgement is due, sooner or later by the peer's pace; and the window grows if
/// segments use their memory well.
///
/// linux: net/ipv4/tcp_input.c:tcp_event_data_recv
#[inline(always)]
pub(super) fn tcp_event_data_recv(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &SkBuff) {
    let now = cx.now();
    inet_csk_schedule_ack(sk.tp);
    tcp_measure_rcv_mss(sk, skb);
    tcp_rcv_rtt_measure(sk.tp, now);
    let tp = &mut *sk.tp;
    if tp.ack.ato == 0 {
        // The first: answer at once for a while, the peer may be in slow start.
        tcp_incr_quickack(tp, TCP_MAX_QUICKACKS);
        tp.ack.ato = TCP_ATO_MIN;
    } else {
        let gap = now.us_since(tp.ack.lrcvtime).min(u32::MAX.into()) as u32;
        if gap <= TCP_ATO_MIN / 2 {
            tp.ack.ato = (tp.ack.ato >> 1) + TCP_ATO_MIN / 2;
        } else if gap < tp.ack.ato {
            tp.ack.ato = ((tp.ack.ato >> 1) + gap).min(tp.rto);
        } else if gap > tp.rto {
            tcp_incr_quickack(tp, TCP_MAX_QUICKACKS);
        }
    }
    tp.ack.lrcvtime = now;
    tcp_ecn_check_ce(cx, tp, cb(skb).ip_dsfield);
    if skb.len() >= 128 {
        tcp_grow_window(cx, sk, skb);
    }
}

/// The window grows by a segment or two, if its memory allows.
///
/// linux: net/ipv4/tcp_input.c:tcp_grow_window
pub(super) fn tcp_grow_window(cx: &BhCx<'_>, sk: &mut TcpSk<'_>, skb: &SkBuff) {
    let room = i64::from(sk.tp.window_clamp).min(tcp_space(sk)) - i64::from(sk.tp.rcv_ssthresh);
    if room <= 0 {
        return;
    }
    if tcp_under_memory_pressure(cx) {
        return tcp_adjust_rcv_ssthresh(sk.tp);
    }
    let len = skb.len() as i64;
    let grown = if sk.tp.tcp_win_from_space(skb.truesize.into()) <= len {
        2 * i64::from(sk.tp.advmss)
    } else {
        __tcp_grow_window(cx, sk.tp, skb)
    };
    if grown != 0 {
        sk.tp.ack.quick |= 1;
        let more = grown.max(2 * len).min(room);
        sk.tp.rcv_ssthresh += more as u32;
    }
}

/// Segments that waste memory let it grow less, and only up to where the largest buffer could hold it.
///
/// linux: net/ipv4/tcp_input.c:__tcp_grow_window
fn __tcp_grow_window(cx: &BhCx<'_>, tp: &TcpSock, skb: &SkBuff) -> i64 {
    let mut truesize = tp.tcp_win_from_space(skb.truesize.into()) >> 1;
    let mut window = tp.tcp_win_from_space(cx.t.net.sysctl.tcp.rmem[2].into()) >> 1;
    while i64::from(tp.rcv_ssthresh) <= window {
        if truesize <= skb.len() as i64 {
            return 2 * i64::from(tp.ack.rcv_mss);
        }
        truesize >>= 1;
        window >>= 1;
        if truesize == 0 {
            break;
        }
    }
    0
}

/// A connection begins: its buffers and windows.
///
/// linux: net/ipv4/tcp_input.c:tcp_init_buffer_space
pub(crate) fn tcp_init_buffer_space(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    if !sk.tp.sndbuf_locked {
        tcp_sndbuf_expand(cx, sk);
    }
    let app_win = u32::from(cx.t.net.sysctl.tcp.app_win);
    let most = tcp_full_space(sk).max(0) as u32;
    let tp = &mut *sk.tp;
    tp.rcvq_space.time = now;
    tp.rcvq_space.seq = tp.copied_seq;
    if tp.window_clamp >= most {
        tp.window_clamp = most;
        if app_win != 0 && app_win < 32 && most > 4 * tp.advmss {
            tp.window_clamp = (most - (most >> app_win)).max(4 * tp.advmss);
        }
    }
    if app_win != 0 && tp.window_clamp > 2 * tp.advmss && tp.window_clamp + tp.advmss > most {
        tp.window_clamp = (2 * tp.advmss).max(most.saturating_sub(tp.advmss));
    }
    tp.rcv_ssthresh = tp.rcv_ssthresh.min(tp.window_clamp);
    tp.cong.snd_cwnd_stamp = now;
    tp.rcvq_space.space = tp.rcv_ssthresh.min(tp.rcv_wnd).min(TCP_INIT_CWND * tp.advmss);
}

/// The program has read: within a round trip so much that the buffer should be larger (dynamic right-sizing).
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_space_adjust
pub(crate) fn tcp_rcv_space_adjust(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    let tp = &mut *sk.tp;
    let passed = now.us_since(tp.rcvq_space.time);
    let rtt = tp.rcv_rtt_est.rtt_us;
    if rtt == 0 || passed < u64::from(rtt >> 3) {
        return;
    }
    let copied = tp.copied_seq - tp.rcvq_space.seq;
    if copied > tp.rcvq_space.space {
        tcp_rcvbuf_grow(cx, sk, copied);
    }
    sk.tp.rcvq_space.seq = sk.tp.copied_seq;
    sk.tp.rcvq_space.time = now;
}

/// The buffer is to hold what a sender sends of whom so much was read within a round trip, and what waits for a gap
/// to be filled.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcvbuf_grow
pub(super) fn tcp_rcvbuf_grow(cx: &BhCx<'_>, sk: &mut TcpSk<'_>, read: u32) {
    let tp = &mut *sk.tp;
    let before = std::mem::replace(&mut tp.rcvq_space.space, read);
    let sysctl = &cx.t.net.sysctl.tcp;
    if !sysctl.moderate_rcvbuf || tp.rcvbuf_locked {
        return;
    }
    // Twice what was read, for the next round trip may bring twice as much, and once more what it grew.
    let mut window = (u64::from(read) << 1) + 16 * u64::from(tp.advmss);
    let grown = window * u64::from(read.saturating_sub(before));
    window += (grown / u64::from(before.max(1))) << 1;
    if let Some((_, last)) = tp.out_of_order_queue.last_key_value() {
        window += u64::from(cb(last).end_seq - tp.rcv_nxt);
    }
    let window = u32::try_from(window).unwrap_or(u32::MAX);
    let wanted = tp.tcp_space_from_win(window).min(sysctl.rmem[2]);
    if wanted > sk.st.opts.rcvbuf {
        sk.st.opts.rcvbuf = wanted;
        tp.window_clamp = tp.tcp_win_from_space(wanted.into()) as u32;
    }
}
