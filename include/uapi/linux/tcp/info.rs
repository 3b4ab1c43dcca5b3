//! `struct tcp_info`: what `TCP_INFO` tells of a connection.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How the sender stands with congestion.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum TcpCaState {
    /// Nothing unusual has been seen lately.
    #[default]
    Open = 0,
    /// Duplicate acknowledgements or selective ones: perhaps a loss, perhaps another order.
    Disorder = 1,
    /// The window is being reduced without a loss: congestion was marked, or the host's own queue
    /// dropped.
    Cwr = 2,
    /// Fast recovery: what was lost is sent again.
    Recovery = 3,
    /// Recovery after a timeout.
    Loss = 4,
}

consts! { u8:
    /// Both ends send timestamps.
    TCPI_OPT_TIMESTAMPS = 1;
    /// Both ends understand selective acknowledgements.
    TCPI_OPT_SACK = 2;
    /// Both ends scale their windows.
    TCPI_OPT_WSCALE = 4;
    /// Both ends understand congestion marks.
    TCPI_OPT_ECN = 8;
    /// A segment that could be marked has come.
    TCPI_OPT_ECN_SEEN = 16;
    /// Data that the SYN carried was acknowledged.
    TCPI_OPT_SYN_DATA = 32;
    /// Timestamps count microseconds.
    TCPI_OPT_USEC_TS = 64;
    /// The connection came by fast open.
    TCPI_OPT_TFO_CHILD = 128;
}

/// A connection's state and counters, as Linux 6.18 lays them out; a reader with less room gets the
/// first part. Times are microseconds unless a field says otherwise.
#[repr(C)]
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq, Eq, Default,
)]
pub struct TcpInfo {
    /// `TCP_ESTABLISHED` and so on.
    pub tcpi_state: u8,
    /// A [`TcpCaState`].
    pub tcpi_ca_state: u8,
    /// Timeouts in a row.
    pub tcpi_retransmits: u8,
    /// Window or keepalive probes without an answer.
    pub tcpi_probes: u8,
    /// How often the timeout was doubled.
    pub tcpi_backoff: u8,
    /// `TCPI_OPT_*`.
    pub tcpi_options: u8,
    /// The peer's window scale in the low four bits, ours in the high four.
    pub tcpi_wscale: u8,
    /// Bit 0: the delivery rate was bounded by the program; bits 1 and 2: why fast open failed.
    pub tcpi_flags: u8,
    /// The retransmission timeout.
    pub tcpi_rto: u32,
    /// The delay of an acknowledgement.
    pub tcpi_ato: u32,
    /// Octets in a segment sent.
    pub tcpi_snd_mss: u32,
    /// Octets in a segment received, estimated.
    pub tcpi_rcv_mss: u32,
    /// Segments sent and not acknowledged; of a listener, connections to accept.
    pub tcpi_unacked: u32,
    /// Segments acknowledged selectively; of a listener, its backlog.
    pub tcpi_sacked: u32,
    /// Segments thought lost.
    pub tcpi_lost: u32,
    /// Segments sent again and not acknowledged.
    pub tcpi_retrans: u32,
    /// Unused.
    pub tcpi_fackets: u32,
    /// Milliseconds since data was sent.
    pub tcpi_last_data_sent: u32,
    /// Unused.
    pub tcpi_last_ack_sent: u32,
    /// Milliseconds since data came.
    pub tcpi_last_data_recv: u32,
    /// Milliseconds since an acknowledgement came.
    pub tcpi_last_ack_recv: u32,
    /// The path's MTU.
    pub tcpi_pmtu: u32,
    /// Bound of the window offered, in octets.
    pub tcpi_rcv_ssthresh: u32,
    /// The smoothed round trip.
    pub tcpi_rtt: u32,
    /// Its mean deviation.
    pub tcpi_rttvar: u32,
    /// Where slow start ends, in segments.
    pub tcpi_snd_ssthresh: u32,
    /// The congestion window, in segments.
    pub tcpi_snd_cwnd: u32,
    /// The segment size offered to the peer.
    pub tcpi_advmss: u32,
    /// How far segments are reordered.
    pub tcpi_reordering: u32,
    /// The round trip as the receiver sees it.
    pub tcpi_rcv_rtt: u32,
    /// Octets that the program took in a round trip.
    pub tcpi_rcv_space: u32,
    /// Segments ever sent again.
    pub tcpi_total_retrans: u32,
    /// Octets a second that are sent at the most.
    pub tcpi_pacing_rate: u64,
    /// The most that it may become.
    pub tcpi_max_pacing_rate: u64,
    /// Octets acknowledged by the peer.
    pub tcpi_bytes_acked: u64,
    /// Octets received in order.
    pub tcpi_bytes_received: u64,
    /// Segments sent.
    pub tcpi_segs_out: u32,
    /// Segments received.
    pub tcpi_segs_in: u32,
    /// Octets written and not sent.
    pub tcpi_notsent_bytes: u32,
    /// The least round trip seen.
    pub tcpi_min_rtt: u32,
    /// Segments with data received.
    pub tcpi_data_segs_in: u32,
    /// Segments with data sent.
    pub tcpi_data_segs_out: u32,
    /// Octets a second that arrived, as measured last.
    pub tcpi_delivery_rate: u64,
    /// Time with data to send.
    pub tcpi_busy_time: u64,
    /// Of it, time held up by the peer's window.
    pub tcpi_rwnd_limited: u64,
    /// Of it, time held up by the send buffer.
    pub tcpi_sndbuf_limited: u64,
    /// Segments that arrived.
    pub tcpi_delivered: u32,
    /// Of them, those marked by congestion.
    pub tcpi_delivered_ce: u32,
    /// Octets sent, those sent again among them.
    pub tcpi_bytes_sent: u64,
    /// Octets sent again.
    pub tcpi_bytes_retrans: u64,
    /// Duplicates that the peer told of.
    pub tcpi_dsack_dups: u32,
    /// How often another order was seen.
    pub tcpi_reord_seen: u32,
    /// Segments received out of order.
    pub tcpi_rcv_ooopack: u32,
    /// The peer's window, in octets.
    pub tcpi_snd_wnd: u32,
    /// The window offered, in octets.
    pub tcpi_rcv_wnd: u32,
    /// How often another path was tried.
    pub tcpi_rehash: u32,
    /// Timeouts.
    pub tcpi_total_rto: u16,
    /// Recoveries after timeouts that came to an end.
    pub tcpi_total_rto_recoveries: u16,
    /// Milliseconds spent in recoveries after timeouts.
    pub tcpi_total_rto_time: u32,
    /// Segments received with a congestion mark.
    pub tcpi_received_ce: u32,
    /// Octets that arrived marked ECT(1), as the peer counts.
    pub tcpi_delivered_e1_bytes: u32,
    /// Octets that arrived marked ECT(0), as the peer counts.
    pub tcpi_delivered_e0_bytes: u32,
    /// Octets that arrived with a congestion mark, as the peer counts.
    pub tcpi_delivered_ce_bytes: u32,
    /// Octets received marked ECT(1).
    pub tcpi_received_e1_bytes: u32,
    /// Octets received marked ECT(0).
    pub tcpi_received_e0_bytes: u32,
    /// Octets received with a congestion mark.
    pub tcpi_received_ce_bytes: u32,
    /// Why accurate ECN was given up.
    pub tcpi_accecn_fail_mode: u16,
    /// Whether its option was seen.
    pub tcpi_accecn_opt_seen: u16,
}

const _: () = assert!(size_of::<TcpInfo>() == 280);

impl TcpInfo {
    /// Sets both window scales, each 0 to 14.
    pub const fn set_wscale(&mut self, snd: u8, rcv: u8) {
        self.tcpi_wscale = (snd & 0xf) | rcv << 4;
    }

    /// The peer's window scale.
    pub const fn snd_wscale(&self) -> u8 {
        self.tcpi_wscale & 0xf
    }

    /// Our window scale.
    pub const fn rcv_wscale(&self) -> u8 {
        self.tcpi_wscale >> 4
    }
}

#[cfg(test)]
mod tests;
