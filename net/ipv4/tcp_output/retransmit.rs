//! Sending again.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_retransmit_skb`, `tcp_xmit_retransmit_queue`).
//! DIVERGES: a segment whose last copy still lies in a queue of this machine is not told apart (Linux waits
//! for it); the limit on what those queues hold does the same for most.

use super::{
    Burst, cb, cb_mut, count_retrans, tcp_current_mss, tcp_fragment, tcp_mtup_inconclusive,
    tcp_pacing_check, tcp_set_skb_tso_segs, tcp_skb_join, tcp_skb_pcount, tcp_skb_seglen,
    tcp_small_queue_check, tcp_transmit_skb, tcp_trim_head, tcp_tso_segs, tcp_wmem_free_skb,
    too_many_pieces,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::Skb;
use crate::net::ipv4::inet_connection_sock::tcp_reset_xmit_timer;
use crate::net::ipv4::ip_output::__sk_dst_check;
use crate::net::ipv4::tcp::{CaState, IcskPending, Sacked, TcpSk};
use crate::net::ipv4::tcp_ecn::tcp_ecn_clear_syn;
use crate::net::ipv4::tcp_input::{
    tcp_current_ssthresh, tcp_limit_reno_sacked, tcp_mark_skb_lost, tcp_set_ca_state, tcp_skip_hint,
};
use uapi::errno::Errno;
use uapi::snmp::LinuxMib;
use uapi::tcp::{TCPHDR_FIN, TCPHDR_SYN};

/// Sends a segment of the retransmit queue again: as much as fits the window, in segments of the present size.
///
/// # Errors
/// EAGAIN when the window does not have it; ENOBUFS without memory; EHOSTUNREACH without a route.
///
/// linux: net/ipv4/tcp_output.c:__tcp_retransmit_skb
pub(crate) fn __tcp_retransmit_skb(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (at, most): (usize, u32),
    burst: &mut Burst,
) -> Result<(), Errno> {
    tcp_mtup_inconclusive(sk.tp);
    let Some(skb) = sk.tp.rtx_queue.get(at) else { return Err(Errno::EINVAL) };
    let (own, una) = (*cb(skb), sk.tp.snd_una);
    if own.seq.before(una) {
        if own.end_seq.before(una) {
            return Err(Errno::EINVAL);
        }
        with_segment(sk, at, |sk, skb| tcp_trim_head(cx, sk, skb, una - own.seq));
    }
    __sk_dst_check(cx, sk)?;
    let mss = tcp_current_mss(sk);
    let seq = sk.tp.rtx_queue.get(at).map_or(una, |skb| cb(skb).seq);
    let mut room = sk.tp.tcp_wnd_end().distance(seq);
    if room <= 0 {
        // A window that was taken back: only the first segment asks for it again.
        if seq != una {
            return Err(Errno::EAGAIN);
        }
        room = mss as i32;
    }
    let mut len = mss.saturating_mul(most);
    if len > room as u32 {
        len = room as u32 - room as u32 % mss.max(1);
        if len == 0 {
            len = room as u32;
        }
    }
    fit(cx, sk, at, (len, mss))?;
    let mut sent = Err(Errno::EINVAL);
    let mut segs = 0;
    with_segment(sk, at, |sk, skb| {
        segs = tcp_skb_pcount(skb);
        let data = skb.data_len;
        tcp_ecn_clear_syn(cx, cb_mut(skb));
        sent = tcp_transmit_skb(cx, sk, skb, (burst, mss)).map_err(|_| Errno::ENOBUFS);
        cb_mut(skb).sacked |= Sacked::EVER_RETRANS;
        if cb(skb).tcp_flags & TCPHDR_SYN != 0 {
            cx.count(LinuxMib::TCPSynRetrans);
        }
        sk.tp.stats.bytes_retrans += u64::from(data);
    });
    count_retrans(cx, sk, segs);
    if sent.is_err() {
        cx.cpu.mib.add(LinuxMib::TCPRetransFail.into(), segs.into());
    }
    sent
}

/// Takes a segment out of the queue for as long as `f` needs it beside the socket.
fn with_segment(sk: &mut TcpSk<'_>, at: usize, f: impl FnOnce(&mut TcpSk<'_>, &mut Skb)) {
    // It changes places with the last one, and back: nobody looks at the queue meanwhile.
    if let Some(mut skb) = sk.tp.rtx_queue.swap_remove_back(at) {
        f(sk, &mut skb);
        let last = sk.tp.rtx_queue.len();
        sk.tp.rtx_queue.push_back(skb);
        if at < last {
            sk.tp.rtx_queue.swap(at, last);
        }
    }
}

/// Makes a segment of the queue `len` octets long at the most; one that is shorter takes in what follows.
fn fit(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    at: usize,
    (len, mss): (u32, u32),
) -> Result<(), Errno> {
    let Some(skb) = sk.tp.rtx_queue.get(at) else { return Err(Errno::EINVAL) };
    if skb.data_len > len {
        return tcp_fragment_at(cx, sk, at, (len, mss)).ok_or(Errno::ENOBUFS);
    }
    let before = tcp_skb_pcount(skb);
    let short = skb.data_len < mss;
    if let Some(skb) = sk.tp.rtx_queue.get_mut(at) {
        let now = tcp_set_skb_tso_segs(skb, mss);
        change_pcount(sk, at, (before, now));
    }
    if short && cx.t.net.sysctl.tcp.retrans_collapse {
        tcp_retrans_try_collapse(cx, sk, at, mss);
    }
    Ok(())
}

/// Cuts a segment of the retransmit queue in two. The first and the last are cut whatever there is: what must
/// go again, and what is probed with, must be able to go.
pub(crate) fn tcp_fragment_at(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    at: usize,
    (len, mss): (u32, u32),
) -> Option<()> {
    let before = tcp_skb_pcount(sk.tp.rtx_queue.get(at)?);
    if at != 0 && at + 1 != sk.tp.rtx_queue.len() && too_many_pieces(cx, sk) {
        return None;
    }
    let mut rest = None;
    with_segment(sk, at, |sk, skb| rest = tcp_fragment(cx, sk, skb, (len, mss)));
    let rest = rest?;
    let after = tcp_skb_pcount(sk.tp.rtx_queue.get(at)?) + tcp_skb_pcount(&rest);
    sk.tp.rtx_queue.insert(at + 1, rest);
    change_pcount(sk, at, (before, after));
    Some(())
}

/// A packet of the queue counts as other than before.
fn change_pcount(sk: &mut TcpSk<'_>, at: usize, (before, after): (u32, u32)) {
    if before > after {
        adjust_pcount(sk, at, before - after);
    } else {
        grow_pcount(sk, at, after - before);
    }
}

/// A segment of the queue counts as fewer from now on.
///
/// linux: net/ipv4/tcp_output.c:tcp_adjust_pcount
fn adjust_pcount(sk: &mut TcpSk<'_>, at: usize, fewer: u32) {
    if fewer == 0 {
        return;
    }
    let Some(sacked) = sk.tp.rtx_queue.get(at).map(|skb| cb(skb).sacked) else { return };
    let tp = &mut *sk.tp;
    tp.packets_out = tp.packets_out.saturating_sub(fewer);
    // Without SACK nobody knows which arrived: those counted are not to be more than there are.
    if sacked.contains(Sacked::ACKED) || !tp.rx_opt.sack_ok {
        tp.sacked_out = tp.sacked_out.saturating_sub(fewer);
    }
    if sacked.contains(Sacked::RETRANS) {
        tp.retrans_out = tp.retrans_out.saturating_sub(fewer);
    }
    if sacked.contains(Sacked::LOST) {
        tp.lost_out = tp.lost_out.saturating_sub(fewer);
    }
}

fn grow_pcount(sk: &mut TcpSk<'_>, at: usize, more: u32) {
    let Some(sacked) = sk.tp.rtx_queue.get(at).map(|skb| cb(skb).sacked) else { return };
    let tp = &mut *sk.tp;
    tp.packets_out += more;
    if sacked.contains(Sacked::ACKED) {
        tp.sacked_out += more;
    }
    if sacked.contains(Sacked::RETRANS) {
        tp.retrans_out += more;
    }
    if sacked.contains(Sacked::LOST) {
        tp.lost_out += more;
    }
}

/// Joins what follows to a short segment that goes again, as far as it fits.
///
/// linux: net/ipv4/tcp_output.c:tcp_retrans_try_collapse
fn tcp_retrans_try_collapse(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, at: usize, mss: u32) {
    while let (Some(first), Some(next)) = (sk.tp.rtx_queue.get(at), sk.tp.rtx_queue.get(at + 1)) {
        let (own, other) = (cb(first), cb(next));
        let fits = first.data_len + next.data_len <= mss
            && (own.tcp_flags | other.tcp_flags) & TCPHDR_SYN == 0
            && own.tcp_flags & TCPHDR_FIN == 0
            && !own.eor
            && !other.sacked.intersects(Sacked::ACKED)
            && next.data_len != 0
            && tcp_skb_pcount(first) == 1
            && tcp_skb_pcount(next) == 1
            && !other.end_seq.after(sk.tp.tcp_wnd_end());
        if !fits {
            return;
        }
        tcp_collapse_retrans(cx, sk, at);
    }
}

/// linux: net/ipv4/tcp_output.c:tcp_collapse_retrans
fn tcp_collapse_retrans(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, at: usize) {
    adjust_pcount(sk, at + 1, 1);
    let Some(mut next) = sk.tp.rtx_queue.remove(at + 1) else { return };
    if let Some(skb) = sk.tp.rtx_queue.get_mut(at) {
        tcp_skb_join(skb, &mut next);
    }
    tcp_wmem_free_skb(cx, sk, next);
}

/// Sends a segment again and counts it as under way.
///
/// # Errors
/// As [`__tcp_retransmit_skb`].
///
/// linux: net/ipv4/tcp_output.c:tcp_retransmit_skb
pub(crate) fn tcp_retransmit_skb(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (at, most): (usize, u32),
    burst: &mut Burst,
) -> Result<(), Errno> {
    if let Some(skb) = sk.tp.rtx_queue.get(at) {
        walk!(cx, skb, tcp_retransmit_skb);
    }
    let sent = __tcp_retransmit_skb(cx, sk, (at, most), burst);
    let now = cx.now();
    let Some(skb) = sk.tp.rtx_queue.get_mut(at) else { return sent };
    let segs = tcp_skb_pcount(skb);
    if sent.is_ok() {
        let again = cb(skb).sacked.contains(Sacked::RETRANS);
        cb_mut(skb).sacked |= Sacked::RETRANS;
        if !again {
            sk.tp.retrans_out += segs;
        }
    }
    if sk.tp.retrans_stamp == Ktime::ZERO {
        sk.tp.retrans_stamp = now;
    }
    sk.tp.undo_retrans = sk.tp.undo_retrans.max(0) + segs as i32;
    sent
}

/// Sends again what is taken for lost, as the window allows.
///
/// linux: net/ipv4/tcp_output.c:tcp_xmit_retransmit_queue
pub(crate) fn tcp_xmit_retransmit_queue(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.packets_out == 0 {
        return;
    }
    walk!(cx, tcp_xmit_retransmit_queue => sk.tp.lost_out.into());
    let mut burst = Burst::new(cx);
    let (mut hole, mut rearm) = (false, false);
    let max_segs = tcp_tso_segs(cx, sk, sk.tp.mss_cache);
    let mut at = tcp_skip_hint(sk.tp);
    while !tcp_pacing_check(cx, sk)
        && let Some(skb) = sk.tp.rtx_queue.get(at)
    {
        let own = cb(skb);
        if !hole {
            sk.tp.retransmit_hint = own.seq;
        }
        let room = sk.tp.cong.snd_cwnd.saturating_sub(sk.tp.tcp_packets_in_flight());
        if room == 0 || sk.tp.retrans_out >= sk.tp.lost_out {
            break;
        }
        if !own.sacked.contains(Sacked::LOST) {
            hole |= !own.sacked.intersects(Sacked::RETRANS | Sacked::ACKED);
            at += 1;
            continue;
        }
        if own.sacked.intersects(Sacked::ACKED | Sacked::RETRANS) {
            at += 1;
            continue;
        }
        let most = (at, room.min(max_segs));
        if tcp_small_queue_check(cx, sk, skb)
            || tcp_retransmit_skb(cx, sk, most, &mut burst).is_err()
        {
            break;
        }
        let segs = sk.tp.rtx_queue.get(at).map_or(1, |skb| tcp_skb_pcount(skb));
        cx.count(if sk.tp.ca_state == CaState::Loss {
            LinuxMib::TCPSlowStartRetrans
        } else {
            LinuxMib::TCPFastRetrans
        });
        if matches!(sk.tp.ca_state, CaState::Cwr | CaState::Recovery) {
            sk.tp.prr_out += segs;
        }
        rearm |= at == 0;
        at += 1;
        if burst.full() {
            burst.send(cx, sk);
        }
    }
    burst.finish(cx, sk);
    if rearm {
        let rto = sk.tp.rto.into();
        tcp_reset_xmit_timer(cx, sk, IcskPending::Retrans, rto);
    }
}

/// The way takes only smaller packets: those under way that are too large are lost, and the window is not to
/// blame.
///
/// linux: net/ipv4/tcp_input.c:tcp_simple_retransmit
pub(crate) fn tcp_simple_retransmit(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let mss = tcp_current_mss(sk);
    for at in 0..sk.tp.rtx_queue.len() {
        if tcp_skb_seglen(&sk.tp.rtx_queue[at]) > mss {
            tcp_mark_skb_lost(sk.tp, at);
        }
    }
    if sk.tp.lost_out == 0 {
        return;
    }
    if !sk.tp.rx_opt.sack_ok {
        tcp_limit_reno_sacked(sk.tp);
    }
    tcp_non_congestion_loss_retransmit(cx, sk);
}

/// What is lost goes again, and no congestion is to blame.
///
/// linux: net/ipv4/tcp_input.c:tcp_non_congestion_loss_retransmit
pub(crate) fn tcp_non_congestion_loss_retransmit(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.ca_state != CaState::Loss {
        sk.tp.high_seq = sk.tp.snd_nxt;
        sk.tp.cong.snd_ssthresh = tcp_current_ssthresh(sk.tp);
        sk.tp.prior_ssthresh = 0;
        sk.tp.undo_marker = None;
        tcp_set_ca_state(cx, sk, CaState::Loss);
    }
    tcp_xmit_retransmit_queue(cx, sk);
}
