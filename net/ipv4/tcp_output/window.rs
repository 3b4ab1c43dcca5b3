//! The window we offer.
//!
//! linux: net/ipv4/tcp_output.c (`__tcp_select_window`); RFC 9293 section 3.8.6.2.2, RFC 7323 section 2.

use crate::kernel::context::BhCx;
use crate::net::core::stream::tcp_under_memory_pressure;
use crate::net::ipv4::tcp::{AckPending, TCP_MAX_WSCALE, TcpSk, TcpSock};
use uapi::snmp::LinuxMib;

/// What a connection offers first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InitialWindow {
    /// Octets.
    pub rcv_wnd: u32,
    /// At the most.
    pub window_clamp: u32,
    /// The shift.
    pub rcv_wscale: u8,
}

/// Chooses the first window for a buffer that has `space` octets for data; `clamp`: the most, zero for none.
///
/// linux: net/ipv4/tcp_output.c:tcp_select_initial_window
pub(crate) fn tcp_select_initial_window(
    cx: &BhCx<'_>,
    (space, mss): (i64, u32),
    clamp: u32,
    wscale_ok: bool,
) -> InitialWindow {
    let most = if clamp == 0 { 0xffff << TCP_MAX_WSCALE } else { clamp };
    let mut space = (space.clamp(0, i64::from(u32::MAX)) as u32).min(most);
    if space > mss && mss != 0 {
        space -= space % mss;
    }
    let rcv_wnd = space;
    let mut rcv_wscale = 0;
    if wscale_ok {
        let sysctl = &cx.t.net.sysctl;
        let could = space.max(sysctl.tcp.rmem[2]).max(sysctl.rmem_max).min(most);
        let bits = could.checked_ilog2().unwrap_or(0);
        rcv_wscale = bits.saturating_sub(15).min(u32::from(TCP_MAX_WSCALE)) as u8;
    }
    InitialWindow { rcv_wnd, window_clamp: most.min(0xffff << rcv_wscale), rcv_wscale }
}

/// What of the receive buffer could be data if nothing lay in it.
///
/// linux: include/net/tcp.h:tcp_full_space
#[inline]
pub(crate) fn tcp_full_space(sk: &TcpSk<'_>) -> i64 {
    sk.tp.tcp_win_from_space(i64::from(sk.st.opts.rcvbuf))
}

/// What of the receive buffer is free for data.
///
/// linux: include/net/tcp.h:tcp_space
#[inline]
pub(crate) fn tcp_space(sk: &TcpSk<'_>) -> i64 {
    let used = (sk.st.backlog_len() + sk.st.rmem_alloc) as i64;
    sk.tp.tcp_win_from_space(i64::from(sk.st.opts.rcvbuf) - used)
}

/// The window that fits what is free, without giving away small ones.
///
/// linux: net/ipv4/tcp_output.c:__tcp_select_window
pub(crate) fn __tcp_select_window(cx: &BhCx<'_>, sk: &mut TcpSk<'_>) -> u32 {
    let allowed = tcp_full_space(sk);
    let mut free = tcp_space(sk);
    let full = allowed.min(i64::from(sk.tp.window_clamp));
    let mss = i64::from(sk.tp.ack.rcv_mss).min(full);
    if mss <= 0 {
        return 0;
    }
    let wscale = sk.tp.rx_opt.rcv_wscale;
    if may_shrink(cx, sk.tp) {
        return shrinking_window(cx, sk.tp, free, (full, allowed));
    }
    if free < full >> 1 {
        sk.tp.ack.quick = 0;
        if tcp_under_memory_pressure(cx) {
            tcp_adjust_rcv_ssthresh(sk.tp);
        }
        free &= !((1 << wscale) - 1);
        // RFC 1122 section 4.2.3.3: no silly windows.
        if free < allowed >> 4 || free < mss {
            return 0;
        }
    }
    free = free.min(i64::from(sk.tp.rcv_ssthresh));
    if wscale != 0 {
        let unit = 1_i64 << wscale;
        return ((free + unit - 1) & !(unit - 1)) as u32;
    }
    let window = i64::from(sk.tp.rcv_wnd);
    if window <= free - mss || window > free {
        return (free - free % mss) as u32;
    }
    if mss == full && free > window + (full >> 1) { free as u32 } else { window as u32 }
}

/// What was offered may be taken back: it is asked for (`tcp_shrink_window`), and the peer scales windows.
fn may_shrink(cx: &BhCx<'_>, tp: &TcpSock) -> bool {
    cx.t.net.sysctl.tcp.shrink_window && tp.rx_opt.rcv_wscale != 0
}

/// The same when the window may shrink: whole units of what is free, and nothing of what is not.
///
/// linux: net/ipv4/tcp_output.c:__tcp_select_window (shrink_window_allowed)
fn shrinking_window(
    cx: &BhCx<'_>,
    tp: &mut TcpSock,
    free: i64,
    (full, allowed): (i64, i64),
) -> u32 {
    let unit = 1_i64 << tp.rx_opt.rcv_wscale;
    let free = free & !(unit - 1);
    if free < full >> 1 {
        tp.ack.quick = 0;
        if tcp_under_memory_pressure(cx) {
            tcp_adjust_rcv_ssthresh(tp);
        }
        let mss = i64::from(tp.ack.rcv_mss).min(full);
        if free < allowed >> 4 || free < mss || free < unit {
            return 0;
        }
    }
    let most = i64::from(tp.rcv_ssthresh);
    if free > most { ((most + unit - 1) & !(unit - 1)) as u32 } else { free as u32 }
}

/// Under pressure the window grows no further.
///
/// linux: include/net/tcp.h:tcp_adjust_rcv_ssthresh
pub(crate) fn tcp_adjust_rcv_ssthresh(tp: &mut TcpSock) {
    tp.rcv_ssthresh = tp.rcv_ssthresh.min(4 * tp.advmss);
}

/// The window to write into a segment that leaves: never less than was offered before, unless `tcp_shrink_window`
/// says that it may be.
///
/// linux: net/ipv4/tcp_output.c:tcp_select_window
pub(super) fn tcp_select_window(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> u16 {
    if sk.tp.ack.pending.contains(AckPending::NOMEM) {
        sk.tp.ack.pending.remove(AckPending::NOMEM);
        sk.tp.rcv_wnd = 0;
        sk.tp.rcv_wup = sk.tp.rcv_nxt;
        return 0;
    }
    let before = sk.tp.rcv_wnd;
    let current = sk.tp.tcp_receive_window();
    let mut window = __tcp_select_window(cx, sk);
    let wscale = sk.tp.rx_opt.rcv_wscale;
    if window < current && !may_shrink(cx, sk.tp) {
        if window == 0 {
            cx.count(LinuxMib::TCPWantZeroWindowAdv);
        }
        let unit = 1_u32 << wscale;
        window = current.saturating_add(unit - 1) & !(unit - 1);
    }
    sk.tp.rcv_wnd = window;
    sk.tp.rcv_wup = sk.tp.rcv_nxt;
    let told = (window >> wscale).min(0xffff) as u16;
    match (before, told) {
        (0, 1..) => cx.count(LinuxMib::TCPFromZeroWindowAdv),
        (1.., 0) => cx.count(LinuxMib::TCPToZeroWindowAdv),
        _ => (),
    }
    told
}
