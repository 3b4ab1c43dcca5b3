//! The rate at which the way delivers.
//!
//! linux: net/ipv4/tcp_rate.c. Each segment notes when it leaves what was delivered by then; when it is
//! delivered itself, what was delivered since, over the longer of the times that sending and arriving took, is a
//! sample. Context: BH, under the socket's lock.

use crate::kernel::time::Ktime;
use crate::net::core::skbuff::SkBuff;
use crate::net::ipv4::tcp::{Sacked, SeqNr, TcpSk, TcpSkbTx, TcpSock};
use crate::net::ipv4::tcp_cong::RateSample;
use crate::net::ipv4::tcp_output::SEGMENT_OVERHEAD;
use crate::net::ipv4::tcp_recovery::tcp_skb_sent_after;

/// Notes how things stand as a segment leaves, or leaves again.
///
/// linux: net/ipv4/tcp_rate.c:tcp_rate_skb_sent
#[inline]
pub(crate) fn tcp_rate_skb_sent(tp: &mut TcpSock, skb: &mut SkBuff, now: Ktime) {
    if tp.packets_out == 0 {
        // What arrives from here on was sent from here on.
        (tp.first_tx_mstamp, tp.cong.delivered_mstamp) = (now, now);
    }
    skb.tcp_tx = TcpSkbTx {
        first_tx_us: micros(now, tp.first_tx_mstamp),
        delivered_us: micros(now, tp.cong.delivered_mstamp),
        delivered: tp.delivered,
        ce_and_app: tp.delivered_ce << 1 | u32::from(tp.cong.app_limited != 0),
    };
}

/// A segment that left `sent` is delivered: of all those of an acknowledgement, the sample is of the one that
/// left last.
///
/// linux: net/ipv4/tcp_rate.c:tcp_rate_skb_delivered
pub(crate) fn tcp_rate_skb_delivered(
    tp: &mut TcpSock,
    (end_seq, sacked): (SeqNr, Sacked),
    (tx, sent): (&mut TcpSkbTx, Ktime),
    rs: &mut RateSample,
) {
    if tx.delivered_us == TcpSkbTx::TOLD {
        return;
    }
    let last = (tp.first_tx_mstamp, SeqNr(rs.last_end_seq));
    if rs.prior_mstamp == Ktime::ZERO || tcp_skb_sent_after((sent, end_seq), last) {
        rs.prior_delivered = tx.delivered;
        rs.prior_delivered_ce = tx.delivered_ce();
        rs.prior_mstamp = Ktime(sent.0.saturating_sub(u64::from(tx.delivered_us) * 1000));
        rs.is_app_limited = tx.app_limited();
        rs.is_retrans = sacked.intersects(Sacked::RETRANS | Sacked::EVER_RETRANS);
        rs.last_end_seq = end_seq.0;
        tp.first_tx_mstamp = sent;
        rs.interval_us = tx.first_tx_us;
    }
    // Once it was reported, being acknowledged tells nothing more.
    if sacked.contains(Sacked::ACKED) {
        tx.delivered_us = TcpSkbTx::TOLD;
    }
}

fn micros(now: Ktime, then: Ktime) -> u32 {
    now.us_since(then).min(u64::from(TcpSkbTx::TOLD) - 1) as u32
}

/// Completes the sample of an acknowledgement that delivered `delivered` segments and showed `lost` to be lost.
///
/// linux: net/ipv4/tcp_rate.c:tcp_rate_gen
pub(crate) fn tcp_rate_gen(
    tp: &mut TcpSock,
    (delivered, lost): (u32, u32),
    now: Ktime,
    rs: &mut RateSample,
) {
    if tp.cong.app_limited != 0 && (tp.cong.app_limited.wrapping_sub(tp.delivered) as i32) < 0 {
        tp.cong.app_limited = 0;
    }
    if delivered != 0 {
        tp.cong.delivered_mstamp = now;
    }
    (rs.acked_sacked, rs.losses) = (delivered, lost);
    // After the peer took back what it had reported, nothing is known of when things arrived.
    if rs.prior_mstamp == Ktime::ZERO || tp.is_sack_reneg {
        rs.delivered = None;
        return;
    }
    let got = tp.delivered.wrapping_sub(rs.prior_delivered);
    rs.delivered_ce = tp.delivered_ce.wrapping_sub(rs.prior_delivered_ce) & (u32::MAX >> 1);
    rs.snd_interval_us = rs.interval_us;
    rs.rcv_interval_us = micros(now, rs.prior_mstamp);
    rs.interval_us = rs.snd_interval_us.max(rs.rcv_interval_us);
    // Less than a round trip: what is acknowledged is not the copy that was measured by.
    if rs.interval_us < tp.rtt_min.0 {
        rs.delivered = None;
        return;
    }
    rs.delivered = Some(got);
    let (before, in_us) = tp.stats.rate;
    if !rs.is_app_limited
        || u64::from(got) * u64::from(in_us) >= u64::from(before) * u64::from(rs.interval_us)
    {
        tp.stats.rate = (got, rs.interval_us);
        tp.stats.rate_app_limited = rs.is_app_limited;
    }
}

/// The program has less to send than the way takes: samples until that is past say nothing of the way.
///
/// linux: net/ipv4/tcp_rate.c:tcp_rate_check_app_limited
pub(crate) fn tcp_rate_check_app_limited(sk: &mut TcpSk<'_>) {
    let below = sk.sk.wmem_alloc();
    let tp = &mut *sk.tp;
    if tp.write_seq - tp.snd_nxt < tp.mss_cache
        && below < SEGMENT_OVERHEAD
        && tp.tcp_packets_in_flight() < tp.cong.snd_cwnd
        && tp.lost_out <= tp.retrans_out
    {
        tp.cong.app_limited = tp.delivered.wrapping_add(tp.tcp_packets_in_flight()).max(1);
    }
}

/// Octets a second, of the best sample of late.
///
/// linux: net/ipv4/tcp.c:tcp_compute_delivery_rate
pub(crate) fn tcp_compute_delivery_rate(tp: &TcpSock) -> u64 {
    match tp.stats.rate {
        (0, _) | (_, 0) => 0,
        (segs, us) => u64::from(segs) * u64::from(tp.mss_cache) * 1_000_000 / u64::from(us),
    }
}

#[cfg(test)]
mod tests;
