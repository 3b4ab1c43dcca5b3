//! A socket, as the control socket tells of it.

use serde::{Deserialize, Serialize};

/// A socket; memory in bytes, port 0 is any.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the columns of `ss`")]
pub struct Socket {
    pub netid: String,
    pub state: String,
    pub recv_q: usize,
    pub send_q: usize,
    pub local_addr: String,
    pub local_port: u16,
    pub peer_addr: String,
    pub peer_port: u16,
    /// A number no other socket has.
    pub sk: u64,
    /// Ways that are closed: 1 for receiving, 2 for sending; `None`: it is no socket yet, or no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<u8>,
    /// `None`: none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// `None`: it is no socket yet, or no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skmem: Option<SkMem>,
    /// How many instructions its filter has; `None`: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf: Option<usize>,
    /// The name of the congestion control; of TCP, when it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cong: Option<String>,
    /// What BBR takes the way for; where it is at work, when it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bbr: Option<Bbr>,
    /// What `TCP_INFO` tells; of TCP, when it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_info: Option<TcpInfo>,
}

/// What `ss -m` shows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the letters of `ss -m`")]
pub struct SkMem {
    pub r: usize,
    pub rb: usize,
    pub t: usize,
    pub tb: usize,
    pub f: usize,
    pub w: usize,
    pub bl: usize,
    pub d: u32,
}

/// What `ss -i` shows of BBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bbr {
    /// Octets a second.
    pub bw: u64,
    /// The least round trip in microseconds; `u32::MAX`: none was measured.
    pub min_rtt: u32,
    /// The pace, in 1/256 of the bandwidth.
    pub pacing_gain: u32,
    /// The window, in 1/256 of what the way holds.
    pub cwnd_gain: u32,
}

impl From<uapi::inet_diag::TcpBbrInfo> for Bbr {
    fn from(info: uapi::inet_diag::TcpBbrInfo) -> Self {
        Self {
            bw: info.bw(),
            min_rtt: info.bbr_min_rtt,
            pacing_gain: info.bbr_pacing_gain,
            cwnd_gain: info.bbr_cwnd_gain,
        }
    }
}

/// A timer that runs, as `ss -o` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// `on` (retransmission), `keepalive`, `timewait` or `persist`.
    pub name: String,
    /// Milliseconds until it expires.
    pub expires: u64,
    /// Retransmissions or probes without an answer.
    pub retrans: u8,
}

/// Which fields of `TCP_INFO` are told, under their names without `tcpi_`.
macro_rules! tcp_info {
    ($($kernel:ident $field:ident: $type:ty),* $(,)?) => {
        /// What `TCP_INFO` tells. Times are microseconds but those since something was sent or came, which
        /// are milliseconds; rates are octets a second.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "the fields of Linux's `struct tcp_info`")]
        pub struct TcpInfo {
            $(pub $field: $type,)*
        }

        impl From<uapi::tcp::TcpInfo> for TcpInfo {
            fn from(info: uapi::tcp::TcpInfo) -> Self {
                Self { $($field: info.$kernel,)* }
            }
        }
    };
}

tcp_info! {
    tcpi_ca_state ca_state: u8,
    tcpi_retransmits retransmits: u8,
    tcpi_probes probes: u8,
    tcpi_backoff backoff: u8,
    tcpi_options options: u8,
    tcpi_wscale wscale: u8,
    tcpi_flags flags: u8,
    tcpi_rto rto: u32,
    tcpi_ato ato: u32,
    tcpi_snd_mss snd_mss: u32,
    tcpi_rcv_mss rcv_mss: u32,
    tcpi_unacked unacked: u32,
    tcpi_sacked sacked: u32,
    tcpi_lost lost: u32,
    tcpi_retrans retrans: u32,
    tcpi_last_data_sent last_data_sent: u32,
    tcpi_last_data_recv last_data_recv: u32,
    tcpi_last_ack_recv last_ack_recv: u32,
    tcpi_pmtu pmtu: u32,
    tcpi_rcv_ssthresh rcv_ssthresh: u32,
    tcpi_rtt rtt: u32,
    tcpi_rttvar rttvar: u32,
    tcpi_snd_ssthresh snd_ssthresh: u32,
    tcpi_snd_cwnd snd_cwnd: u32,
    tcpi_advmss advmss: u32,
    tcpi_reordering reordering: u32,
    tcpi_rcv_rtt rcv_rtt: u32,
    tcpi_rcv_space rcv_space: u32,
    tcpi_total_retrans total_retrans: u32,
    tcpi_pacing_rate pacing_rate: u64,
    tcpi_max_pacing_rate max_pacing_rate: u64,
    tcpi_bytes_acked bytes_acked: u64,
    tcpi_bytes_received bytes_received: u64,
    tcpi_segs_out segs_out: u32,
    tcpi_segs_in segs_in: u32,
    tcpi_notsent_bytes notsent_bytes: u32,
    tcpi_min_rtt min_rtt: u32,
    tcpi_data_segs_in data_segs_in: u32,
    tcpi_data_segs_out data_segs_out: u32,
    tcpi_delivery_rate delivery_rate: u64,
    tcpi_busy_time busy_time: u64,
    tcpi_rwnd_limited rwnd_limited: u64,
    tcpi_sndbuf_limited sndbuf_limited: u64,
    tcpi_delivered delivered: u32,
    tcpi_delivered_ce delivered_ce: u32,
    tcpi_bytes_sent bytes_sent: u64,
    tcpi_bytes_retrans bytes_retrans: u64,
    tcpi_dsack_dups dsack_dups: u32,
    tcpi_reord_seen reord_seen: u32,
    tcpi_rcv_ooopack rcv_ooopack: u32,
    tcpi_snd_wnd snd_wnd: u32,
    tcpi_rcv_wnd rcv_wnd: u32,
    tcpi_total_rto total_rto: u16,
    tcpi_total_rto_recoveries total_rto_recoveries: u16,
    tcpi_total_rto_time total_rto_time: u32,
}
