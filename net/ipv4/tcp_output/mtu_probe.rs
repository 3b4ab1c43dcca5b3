//! Probing for the MTU of the way: a segment longer than the others goes out to see whether it arrives.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_mtu_probe`), tcp_input.c (`tcp_mtup_probe_success`), tcp_timer.c
//! (`tcp_mtu_probing`); RFC 4821. Key type: [`Mtup`]. Contexts: BH, under the socket's lock.
//! Invariant: one probe is out at the most. A connection that does not probe keeps nothing of all this.

use super::{
    Burst, cb, cut, tcp_current_mss, tcp_event_new_data_sent, tcp_mtu_to_mss, tcp_set_skb_tso_segs,
    tcp_skb_join, tcp_sync_mss, tcp_transmit_skb, tcp_wmem_free_skb,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::Skb;
use crate::net::ipv4::tcp::{CaState, MAX_SKB_FRAGS, SeqNr, TcpSk, TcpSock};
use crate::net::ipv4::tcp_input::tcp_current_ssthresh;
use std::time::Duration;
use uapi::snmp::LinuxMib;

/// Headers without options: IP's and TCP's.
const HEADERS: u32 = 40;
/// The least window to probe with: what is sent in a probe's stead must be able to follow it at once.
const PROBE_CWND: u32 = 11;

/// The search for the MTU of a way.
///
/// linux: include/net/inet_connection_sock.h:icsk_mtup
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mtup {
    /// No packet longer than this will arrive.
    search_high: u32,
    /// Packets as long as this arrive.
    search_low: u32,
    /// What is out.
    probe: Option<Probe>,
    /// When the search began.
    probe_timestamp: Ktime,
}

/// A probe that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    /// Octets of its packet.
    size: u32,
    seq_start: SeqNr,
    seq_end: SeqNr,
}

impl Mtup {
    /// A search that begins now, from segments of `mss` octets up to what the peer takes.
    fn new(tp: &TcpSock, mss: u32, now: Ktime) -> Self {
        Self {
            search_high: u32::from(tp.rx_opt.mss_clamp) + HEADERS,
            search_low: tcp_mss_to_mtu(tp, mss),
            probe: None,
            probe_timestamp: now,
        }
    }

    /// The length to try next; `None`: what is left to find is not worth `threshold` octets.
    fn next_size(&self, tp: &TcpSock, threshold: u32) -> Option<u32> {
        let size = tcp_mtu_to_mss(tp, u32::midpoint(self.search_low, self.search_high));
        let interval = i64::from(self.search_high) - i64::from(self.search_low);
        let worth = size <= tcp_mtu_to_mss(tp, self.search_high) && interval >= threshold.into();
        worth.then_some(size)
    }
}

/// The length of a packet with a segment of this size.
///
/// linux: net/ipv4/tcp_output.c:tcp_mss_to_mtu
pub(super) fn tcp_mss_to_mtu(tp: &TcpSock, mss: u32) -> u32 {
    mss.saturating_add(u32::from(tp.tcp_header_len) + u32::from(tp.ext_hdr_len) + HEADERS / 2)
}

/// A connection begins: it searches from the start if `net.ipv4.tcp_mtu_probing` says so.
///
/// linux: net/ipv4/tcp_output.c:tcp_mtup_init
pub(crate) fn tcp_mtup_init(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let sysctl = &cx.t.net.sysctl.tcp;
    let (always, base) = (sysctl.mtu.mtu_probing > 1, sysctl.mtu.base_mss);
    sk.tp.mtup = always.then(|| Box::new(Mtup::new(sk.tp, base, cx.now())));
}

/// The segment size while the search goes on, where `mtu` and `mss` are what is known of the way otherwise.
///
/// linux: net/ipv4/tcp_output.c:tcp_sync_mss
pub(super) fn tcp_mtup_bound(tp: &mut TcpSock, mtu: u32, mss: u32) -> u32 {
    let Some(mtup) = tp.mtup.as_deref_mut() else { return mss };
    mtup.search_high = mtup.search_high.min(mtu);
    let low = mtup.search_low;
    mss.min(tcp_mtu_to_mss(tp, low))
}

/// Sends a probe, if one is due: how many segments left. `None`: one is, and the windows must take it first, so
/// that nothing else may go.
///
/// linux: net/ipv4/tcp_output.c:tcp_mtu_probe
#[inline]
pub(super) fn tcp_mtu_probe(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    burst: &mut Burst,
) -> Option<u32> {
    match sk.tp.mtup.as_deref() {
        Some(mtup) if mtup.probe.is_none() => try_probe(cx, sk, burst),
        _ => Some(0),
    }
}

fn try_probe(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, burst: &mut Burst) -> Option<u32> {
    let opt = &sk.tp.rx_opt;
    // With reports of what came out of order, headers have no fixed length.
    if sk.tp.ca_state != CaState::Open
        || sk.tp.cong.snd_cwnd < PROBE_CWND
        || opt.num_sacks != 0
        || opt.dsack
    {
        return Some(0);
    }
    let mss = tcp_current_mss(sk);
    let threshold = cx.t.net.sysctl.tcp.mtu.probe_threshold;
    let Some(size) = sk.tp.mtup.as_deref().and_then(|mtup| mtup.next_size(sk.tp, threshold)) else {
        tcp_mtu_check_reprobe(cx, sk, mss);
        return Some(0);
    };
    match room(sk.tp, size) {
        Room::Never => return Some(0),
        Room::Later => return None,
        Room::Now => (),
    }
    if !tcp_can_coalesce_send_queue_head(sk.tp, size) {
        return Some(0);
    }
    let Some(mut skb) = take(cx, sk, (size, mss)) else { return Some(0) };
    // Where it can't leave, its data goes in segments of the usual length.
    if tcp_transmit_skb(cx, sk, &mut skb, (burst, size)).is_err() {
        sk.tp.write_queue.push_front(skb);
        return Some(0);
    }
    let (size, own) = (tcp_mss_to_mtu(sk.tp, skb.data_len), *cb(&skb));
    // It weighs as two.
    sk.tp.cong.snd_cwnd -= 1;
    tcp_event_new_data_sent(cx, sk, skb);
    if let Some(mtup) = sk.tp.mtup.as_deref_mut() {
        mtup.probe = Some(Probe { size, seq_start: own.seq, seq_end: own.end_seq });
    }
    Some(1)
}

/// When there is room for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Now,
    /// When something that is out is acknowledged.
    Later,
    /// Too little is written, or the window is too small, to tell the loss of it from others'.
    Never,
}

/// Whether a probe has room, and behind it as many segments as it takes to find it lost.
fn room(tp: &TcpSock, size: u32) -> Room {
    let behind = tp.reordering.saturating_add(1).saturating_mul(tp.mss_cache);
    let needed = size.saturating_add(behind);
    let in_flight = tp.tcp_packets_in_flight();
    if tp.write_seq - tp.snd_nxt < needed || tp.snd_wnd < needed {
        Room::Never
    } else if (tp.snd_nxt + needed).after(tp.tcp_wnd_end()) {
        Room::Later
    } else if in_flight + 2 <= tp.cong.snd_cwnd {
        Room::Now
    } else if in_flight == 0 {
        Room::Never
    } else {
        Room::Later
    }
}

/// The first `len` octets of the send queue may go as one segment.
///
/// linux: net/ipv4/tcp_output.c:tcp_can_coalesce_send_queue_head
fn tcp_can_coalesce_send_queue_head(tp: &TcpSock, len: u32) -> bool {
    let (mut left, mut frags) = (len, 0);
    for skb in &tp.write_queue {
        for frag in &skb.frags {
            if left != 0 {
                left = left.saturating_sub(frag.size);
                frags += 1;
            }
        }
        if left == 0 {
            return frags <= MAX_SKB_FRAGS;
        }
        if cb(skb).eor {
            return false;
        }
    }
    false
}

/// Takes the first `size` octets off the send queue, as one segment. `None` without memory: they stay there.
fn take(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, (size, mss): (u32, u32)) -> Option<Skb> {
    let mut skb = sk.tp.write_queue.pop_front()?;
    let mut fits = cut(cx, sk, &mut skb, (size, mss));
    while fits && skb.data_len < size {
        let Some(mut next) = sk.tp.write_queue.pop_front() else { break };
        fits = cut(cx, sk, &mut next, (size - skb.data_len, mss));
        if fits {
            tcp_skb_join(&mut skb, &mut next);
            tcp_wmem_free_skb(cx, sk, next);
        } else {
            sk.tp.write_queue.push_front(next);
        }
    }
    if !fits {
        sk.tp.write_queue.push_front(skb);
        return None;
    }
    tcp_set_skb_tso_segs(&mut skb, size);
    Some(skb)
}

/// The way may be a wider one by now: after `net.ipv4.tcp_probe_interval` the search begins anew.
///
/// linux: net/ipv4/tcp_output.c:tcp_mtu_check_reprobe
fn tcp_mtu_check_reprobe(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, mss: u32) {
    let interval = Duration::from_secs(cx.t.net.sysctl.tcp.mtu.probe_interval.into());
    let (now, fresh) = (cx.now(), Mtup::new(sk.tp, mss, cx.now()));
    if let Some(mtup) = sk.tp.mtup.as_deref_mut()
        && now - mtup.probe_timestamp >= interval
    {
        *mtup = fresh;
    }
}

/// A probe is out, and it has arrived: segments are as long from now on. The window stays the same in octets.
///
/// linux: net/ipv4/tcp_input.c:tcp_mtup_probe_success
pub(crate) fn tcp_mtup_probe_success(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let tp = &mut *sk.tp;
    let was = tcp_mss_to_mtu(tp, tp.mss_cache);
    let Some(mtup) = tp.mtup.as_deref_mut() else { return };
    let Some(probe) = mtup.probe.filter(|probe| !probe.seq_end.after(tp.snd_una)) else { return };
    (mtup.search_low, mtup.probe) = (probe.size, None);
    let cwnd = u64::from(tp.cong.snd_cwnd) * u64::from(was) / u64::from(probe.size.max(1));
    tp.cong.snd_cwnd = u32::try_from(cwnd).unwrap_or(u32::MAX).max(1);
    tp.cong.snd_cwnd_cnt = 0;
    tp.cong.snd_cwnd_stamp = cx.now();
    tp.cong.snd_ssthresh = tcp_current_ssthresh(tp);
    let mtu = tp.pmtu_cookie;
    tcp_sync_mss(sk, mtu);
    cx.count(LinuxMib::TCPMTUPSuccess);
}

/// Something is lost: true when it is a probe that is out, which is too long for the way then, and no sign of
/// congestion.
///
/// linux: net/ipv4/tcp_input.c:tcp_mtup_probe_failed
pub(crate) fn tcp_mtup_probe_failed(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let tp = &mut *sk.tp;
    let Some(mtup) = tp.mtup.as_deref_mut() else { return false };
    let Some(probe) = mtup.probe.filter(|probe| probe.seq_start == tp.snd_una) else {
        return false;
    };
    (mtup.search_high, mtup.probe) = (probe.size - 1, None);
    // What it took when it left.
    tp.cong.snd_cwnd += 1;
    cx.count(LinuxMib::TCPMTUPFail);
    true
}

/// A probe is out.
pub(crate) fn tcp_mtup_probing(tp: &TcpSock) -> bool {
    tp.mtup.as_deref().is_some_and(|mtup| mtup.probe.is_some())
}

/// Something goes again while a probe is out: what becomes of it tells nothing.
pub(super) fn tcp_mtup_inconclusive(tp: &mut TcpSock) {
    if let Some(mtup) = tp.mtup.as_deref_mut() {
        mtup.probe = None;
    }
}

/// Nothing gets through any more: the way may swallow long packets without a word (RFC 4821 section 7.7), so
/// shorter ones are tried.
///
/// linux: net/ipv4/tcp_timer.c:tcp_mtu_probing
pub(crate) fn tcp_mtu_probing(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let sysctl = &cx.t.net.sysctl.tcp;
    if sysctl.mtu.mtu_probing == 0 {
        return;
    }
    let tp = &mut *sk.tp;
    match tp.mtup.as_deref().map(|mtup| mtup.search_low) {
        None => tp.mtup = Some(Box::new(Mtup::new(tp, sysctl.mtu.base_mss, cx.now()))),
        Some(low) => {
            let half = (tcp_mtu_to_mss(tp, low) >> 1).min(sysctl.mtu.base_mss);
            let low =
                tcp_mss_to_mtu(tp, half.max(sysctl.mtu.mtu_probe_floor).max(tp.min_snd_mss.into()));
            if let Some(mtup) = tp.mtup.as_deref_mut() {
                mtup.search_low = low;
            }
        }
    }
    let mtu = sk.tp.pmtu_cookie;
    tcp_sync_mss(sk, mtu);
}

#[cfg(test)]
mod tests;
