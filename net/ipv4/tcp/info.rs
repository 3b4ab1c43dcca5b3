//! What a connection tells of itself: `TCP_INFO`.
//!
//! linux: net/ipv4/tcp.c (`tcp_get_info`). Lock: the socket's.

use super::{TcpSk, TcpState};
use crate::kernel::time::Ktime;
use crate::net::ipv4::tcp_ecn::EcnFlags;
use crate::net::ipv4::tcp_fastopen::Tfo;
use crate::net::ipv4::tcp_rate::tcp_compute_delivery_rate;
use std::sync::atomic::Ordering;
use uapi::tcp::{
    TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN, TCPI_OPT_SACK, TCPI_OPT_SYN_DATA, TCPI_OPT_TFO_CHILD,
    TCPI_OPT_TIMESTAMPS, TCPI_OPT_WSCALE, TcpInfo,
};

/// Everything that `TCP_INFO` has.
///
/// linux: net/ipv4/tcp.c:tcp_get_info
pub fn tcp_get_info(sk: &TcpSk<'_>, now: Ktime) -> TcpInfo {
    let tp = &*sk.tp;
    let mut info = TcpInfo { tcpi_state: tp.state as u8, ..TcpInfo::default() };
    info.tcpi_pacing_rate = tp.cong.pacing_rate;
    info.tcpi_max_pacing_rate = sk.sk.max_pacing_rate();
    info.tcpi_reordering = tp.reordering;
    info.tcpi_snd_cwnd = tp.cong.snd_cwnd;
    if let Some(listener) = tp.listener.as_ref().filter(|_| tp.state == TcpState::Listen) {
        info.tcpi_unacked = listener.ack_backlog.load(Ordering::Relaxed);
        info.tcpi_sacked = listener.max_ack_backlog.load(Ordering::Relaxed);
        return info;
    }
    let since = |at: Ktime| (now - at).as_millis().min(u128::from(u32::MAX)) as u32;
    info.tcpi_flags = u8::from(tp.stats.rate_app_limited);
    info.tcpi_ca_state = tp.ca_state as u8;
    info.tcpi_retransmits = tp.retransmits;
    info.tcpi_probes = tp.probes_out;
    info.tcpi_backoff = tp.backoff;
    let opt = &tp.rx_opt;
    if opt.tstamp_ok {
        info.tcpi_options |= TCPI_OPT_TIMESTAMPS;
    }
    if opt.sack_ok {
        info.tcpi_options |= TCPI_OPT_SACK;
    }
    if opt.wscale_ok {
        info.tcpi_options |= TCPI_OPT_WSCALE;
        info.set_wscale(opt.snd_wscale, opt.rcv_wscale);
    }
    if let Some(tfo) = &tp.fastopen {
        if tfo.flags.contains(Tfo::SYN_DATA_ACKED) {
            info.tcpi_options |= TCPI_OPT_SYN_DATA;
        }
        if tfo.flags.contains(Tfo::CHILD) {
            info.tcpi_options |= TCPI_OPT_TFO_CHILD;
        }
        info.tcpi_flags |= (tfo.client_fail as u8) << 1;
    }
    if tp.ecn_flags.contains(EcnFlags::OK) {
        info.tcpi_options |= TCPI_OPT_ECN;
    }
    if tp.ecn_flags.contains(EcnFlags::SEEN) {
        info.tcpi_options |= TCPI_OPT_ECN_SEEN;
    }
    info.tcpi_rto = tp.rto;
    info.tcpi_ato = tp.ack.ato;
    info.tcpi_snd_mss = tp.mss_cache;
    info.tcpi_rcv_mss = tp.ack.rcv_mss.into();
    info.tcpi_unacked = tp.packets_out;
    info.tcpi_sacked = tp.sacked_out;
    info.tcpi_lost = tp.lost_out;
    info.tcpi_retrans = tp.retrans_out;
    info.tcpi_last_data_sent = since(tp.cong.lsndtime);
    info.tcpi_last_data_recv = since(tp.ack.lrcvtime);
    info.tcpi_last_ack_recv = since(tp.rcv_tstamp);
    info.tcpi_pmtu = tp.pmtu_cookie;
    info.tcpi_rcv_ssthresh = tp.rcv_ssthresh;
    info.tcpi_rtt = tp.cong.srtt_us >> 3;
    info.tcpi_rttvar = tp.mdev_us >> 2;
    info.tcpi_snd_ssthresh = tp.cong.snd_ssthresh;
    info.tcpi_advmss = tp.advmss;
    info.tcpi_rcv_rtt = tp.rcv_rtt_est.rtt_us >> 3;
    info.tcpi_rcv_space = tp.rcvq_space.space;
    counters(sk, now, &mut info);
    info
}

fn counters(sk: &TcpSk<'_>, now: Ktime, info: &mut TcpInfo) {
    let (tp, stats) = (&*sk.tp, &*sk.tp.stats);
    info.tcpi_total_retrans = stats.total_retrans;
    info.tcpi_bytes_acked = stats.bytes_acked;
    info.tcpi_bytes_received = tp.bytes_received;
    info.tcpi_segs_out = stats.segs_out;
    info.tcpi_segs_in = stats.segs_in;
    info.tcpi_notsent_bytes = tp.write_seq.distance(tp.snd_nxt).max(0) as u32;
    info.tcpi_min_rtt = tp.rtt_min.0;
    info.tcpi_data_segs_in = stats.data_segs_in;
    info.tcpi_data_segs_out = stats.data_segs_out;
    let [busy, rwnd, sndbuf] = chrono(stats, now);
    info.tcpi_busy_time = (busy + rwnd + sndbuf) / 1000;
    info.tcpi_rwnd_limited = rwnd / 1000;
    info.tcpi_sndbuf_limited = sndbuf / 1000;
    info.tcpi_delivered = tp.delivered;
    info.tcpi_delivered_ce = tp.delivered_ce;
    info.tcpi_delivery_rate = tcp_compute_delivery_rate(tp);
    info.tcpi_bytes_sent = stats.bytes_sent;
    info.tcpi_bytes_retrans = stats.bytes_retrans;
    info.tcpi_dsack_dups = stats.dsack_dups;
    info.tcpi_reord_seen = stats.reord_seen;
    info.tcpi_rcv_ooopack = stats.rcv_ooopack;
    info.tcpi_snd_wnd = tp.snd_wnd;
    info.tcpi_rcv_wnd = tp.tcp_receive_window();
    info.tcpi_total_rto = stats.total_rto;
    info.tcpi_total_rto_recoveries = stats.total_rto_recoveries;
    info.tcpi_total_rto_time = stats.rto_time(now);
}

/// Times with something to send, in nanoseconds, with the one that runs.
fn chrono(stats: &super::TcpStats, now: Ktime) -> [u64; 3] {
    let mut times = stats.chrono;
    if let Some(slot) = times.get_mut(usize::from(stats.chrono_type).wrapping_sub(1)) {
        *slot += (now - stats.chrono_start).as_nanos() as u64;
    }
    times
}
