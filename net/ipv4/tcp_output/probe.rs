//! Probing the tail: TLP.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_schedule_loss_probe`); RFC 8985 section 7. When nothing comes for two round
//! trips, something more is sent, or the end once more, so that the answer tells of losses before the time-out
//! does. Context: BH, under the socket's lock.

use super::{
    __tcp_retransmit_skb, Burst, Push, tcp_current_mss, tcp_fragment_at, tcp_skb_pcount,
    tcp_snd_wnd_test, tcp_write_xmit,
};
use crate::kernel::context::BhCx;
use crate::net::ipv4::inet_connection_sock::tcp_reset_xmit_timer;
use crate::net::ipv4::tcp::{
    CaState, IcskPending, Nonagle, TCP_TIMEOUT_INIT, TCP_TIMEOUT_MIN_US, TcpSk,
};
use crate::net::ipv4::tcp_input::{tcp_rearm_rto, tcp_rto_delta_us};
use uapi::snmp::LinuxMib;

/// Sets the write timer for a probe, where one may be sent; false where not. `advancing`: the time-out begins
/// anew.
///
/// linux: net/ipv4/tcp_output.c:tcp_schedule_loss_probe
pub(crate) fn tcp_schedule_loss_probe(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    advancing: bool,
) -> bool {
    let sysctl = &cx.t.net.sysctl.tcp;
    let tp = &*sk.tp;
    if !matches!(sysctl.early_retrans, 3 | 4)
        || tp.packets_out == 0
        || tp.fastopen_rsk().is_some()
        || !tp.rx_opt.sack_ok
        || !matches!(tp.ca_state, CaState::Open | CaState::Cwr)
    {
        return false;
    }
    let mut timeout = u64::from(TCP_TIMEOUT_INIT);
    if tp.cong.srtt_us != 0 {
        // One alone may have its acknowledgement delayed.
        let more = if tp.packets_out == 1 { sysctl.rto_min_us.into() } else { TCP_TIMEOUT_MIN_US };
        timeout = u64::from(tp.cong.srtt_us >> 2) + more;
    }
    let rto = if advancing { Some(u64::from(tp.rto)) } else { tcp_rto_delta_us(tp, cx.now()) };
    let timeout = rto.map_or(timeout, |rto| timeout.min(rto));
    tcp_reset_xmit_timer(cx, sk, IcskPending::LossProbe, timeout);
    true
}

/// Sends what was never sent, if the peer takes it, or the last segment again.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_loss_probe
pub(crate) fn tcp_send_loss_probe(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    // One at a time.
    walk!(cx, tcp_send_loss_probe);
    if sk.tp.tlp_high_seq.is_none() && probe(cx, sk) {
        sk.tp.tlp_high_seq = Some(sk.tp.snd_nxt);
        cx.count(LinuxMib::TCPLossProbes);
        // The time-out begins anew with it.
        sk.tp.pending = IcskPending::None;
    }
    tcp_rearm_rto(cx, sk);
}

/// Sends a probe; false when none could leave.
fn probe(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    sk.tp.tlp_retrans = false;
    let mss = tcp_current_mss(sk);
    if sk.tp.tcp_send_head().is_some_and(|skb| tcp_snd_wnd_test(sk.tp, skb, mss)) {
        let before = sk.tp.packets_out;
        tcp_write_xmit(cx, sk, mss, Nonagle::OFF, Push::Probe);
        return sk.tp.packets_out > before;
    }
    let Some(mut at) = sk.tp.rtx_queue.len().checked_sub(1) else { return false };
    let Some(skb) = sk.tp.rtx_queue.back() else { return false };
    let front = (tcp_skb_pcount(skb) - 1) * mss;
    if front != 0 && skb.data_len > front {
        if tcp_fragment_at(cx, sk, at, (front, mss)).is_none() {
            return false;
        }
        at += 1;
    }
    let mut burst = Burst::new(cx);
    let sent = __tcp_retransmit_skb(cx, sk, (at, 1), &mut burst).is_ok();
    burst.finish(cx, sk);
    sk.tp.tlp_retrans = sent;
    sent
}
