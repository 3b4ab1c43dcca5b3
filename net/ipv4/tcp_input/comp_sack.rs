//! Selective acknowledgements that are held back: what comes out of order in a rush is reported once in a while.
//!
//! linux: net/ipv4/tcp_input.c (`__tcp_ack_snd_check`, `tcp_sack_compress_send_ack`), net/ipv4/tcp_timer.c
//! (`tcp_compressed_ack_kick`). Key type: [`CompSack`]. The first three duplicates go at once, for the peer's sake;
//! then one stands for up to `tcp_comp_sack_nr`, no later than a twentieth of a round trip or
//! `tcp_comp_sack_delay_ns`. More than two blocks are not kept waiting. Contexts: BH, under the socket's lock.

use crate::kernel::context::BhCx;
use crate::kernel::hrtimer::Hrtimer;
use crate::kernel::timer::TimerTarget;
use crate::net::core::sock::Sock;
use crate::net::ipv4::tcp::{Deferred, SeqNr, TcpSk, TcpSock, TimerKind};
use crate::net::ipv4::tcp_output::tcp_send_ack;
use std::sync::Arc;
use std::time::Duration;
use uapi::snmp::LinuxMib;

/// Duplicates that go at once.
///
/// linux: include/net/tcp.h:TCP_FASTRETRANS_THRESH
const TCP_FASTRETRANS_THRESH: u8 = 3;

/// So many blocks are usual; more are reported at once.
///
/// linux: net/ipv4/tcp_input.c:TCP_SACK_BLOCKS_EXPECTED
pub(super) const TCP_SACK_BLOCKS_EXPECTED: usize = 2;

/// What is held back.
///
/// linux: include/linux/tcp.h:tcp_sock (`compressed_ack`)
#[derive(Clone, Copy, Debug, Default)]
pub struct CompSack {
    /// Acknowledgements held back.
    compressed_ack: u8,
    /// Duplicates that went at once.
    dup_ack_counter: u8,
    /// What they acknowledged.
    rcv_nxt: SeqNr,
    /// The timer: on which CPU, and which entry there.
    timer: Option<(u8, Hrtimer)>,
}

/// Holds an acknowledgement of something out of order back; false when it is to go now.
pub(super) fn tcp_compress_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let sysctl = &cx.t.net.sysctl.tcp;
    if !sk.tp.rx_opt.sack_ok || sysctl.comp_sack_nr == 0 {
        return false;
    }
    let next = sk.tp.rcv_nxt;
    let comp = sk.tp.comp_sack.get_or_insert_default();
    if comp.compressed_ack >= sysctl.comp_sack_nr {
        return false;
    }
    if comp.rcv_nxt != next {
        (comp.rcv_nxt, comp.dup_ack_counter) = (next, 0);
    }
    if comp.dup_ack_counter < TCP_FASTRETRANS_THRESH {
        comp.dup_ack_counter += 1;
        return false;
    }
    comp.compressed_ack += 1;
    if comp.timer.is_none() {
        let mut rtt = sk.tp.rcv_rtt_est.rtt_us;
        let srtt = sk.tp.cong.srtt_us;
        if srtt != 0 && srtt < rtt {
            rtt = srtt;
        }
        // Both are eight times the round trip.
        let delay = Duration::from_nanos(u64::from(rtt) * (1000 / 8) / 20);
        // A timer that may be late by so much is, unless another one comes before.
        let at = cx.now() + delay.min(sysctl.comp_sack_delay) + sysctl.comp_sack_slack;
        let target: Arc<dyn TimerTarget> = Arc::clone(sk.sk) as Arc<dyn TimerTarget>;
        let timer = cx.hrtimer_start(at, target, TimerKind::COMPRESSED_ACK);
        comp.timer = Some((cx.cpu.id.0, timer));
    }
    true
}

/// Sends what was held back; false when nothing was.
///
/// linux: net/ipv4/tcp_input.c:tcp_sack_compress_send_ack
pub(crate) fn tcp_sack_compress_send_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let Some(comp) = sk.tp.comp_sack.as_deref_mut().filter(|comp| comp.compressed_ack != 0) else {
        return false;
    };
    // One is not spared.
    comp.compressed_ack -= 1;
    tcp_send_ack(cx, sk);
    true
}

/// An acknowledgement leaves: it stands for those that were held back.
///
/// linux: net/ipv4/tcp_output.c:tcp_event_ack_sent
pub(crate) fn tcp_comp_sack_sent(cx: &mut BhCx<'_>, tp: &mut TcpSock) {
    let Some(comp) = tp.comp_sack.as_deref_mut() else { return };
    let spared = std::mem::take(&mut comp.compressed_ack);
    if spared != 0 {
        cx.cpu.mib.add(LinuxMib::TCPAckCompressed.into(), spared.into());
    }
    tcp_stop_comp_sack(cx, tp);
}

/// Takes the timer off this CPU. One that is on another finds nothing to do.
pub(crate) fn tcp_stop_comp_sack(cx: &mut BhCx<'_>, tp: &mut TcpSock) {
    if let Some(comp) = tp.comp_sack.as_deref_mut()
        && let Some((_, timer)) = comp.timer.filter(|(cpu, _)| *cpu == cx.cpu.id.0)
    {
        cx.cpu.hrtimers.hrtimer_try_to_cancel(timer);
        comp.timer = None;
    }
}

/// It was held back long enough.
///
/// linux: net/ipv4/tcp_timer.c:tcp_compressed_ack_kick
pub(crate) fn tcp_compressed_ack_kick(cx: &mut BhCx<'_>, sk: &Arc<Sock>) {
    let now = cx.now();
    let mut locked = sk.state();
    let owned = locked.sock_owned_by_user();
    let Some(mut sk) = TcpSk::of(sk, &mut locked) else { return };
    let Some(comp) = sk.tp.comp_sack.as_deref_mut() else { return };
    // An entry that an earlier one has replaced says nothing.
    if comp.timer.is_none_or(|(_, timer)| timer.expires() > now) {
        return;
    }
    comp.timer = None;
    if !owned {
        tcp_sack_compress_send_ack(cx, &mut sk);
    } else if comp.compressed_ack != 0 {
        sk.tp.deferred |= Deferred::DELACK_TIMER;
        sk.st.release_cb_due = true;
    }
}
