//! A TCP socket's own part.
//!
//! linux: include/linux/tcp.h (`tcp_sock`), include/net/inet_connection_sock.h
//! (`inet_connection_sock`). The fields have Linux's names. Lock: all of it lies under the socket's,
//! `class::Sock`.

use super::types::*;
use super::{SeqNr, tcp_clock_ms};
use crate::kernel::time::Ktime;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::Skb;
use crate::net::ipv4::inet_connection_sock::Listener;
use crate::net::ipv4::inet_hashtables::InetBindNode;
use crate::net::ipv4::tcp_cong::{TcpCong, TcpCongestionOps};
use crate::net::ipv4::tcp_ecn::EcnFlags;
use crate::net::ipv4::tcp_fastopen::TcpFastopen;
use crate::net::ipv4::tcp_input::CompSack;
use crate::net::ipv4::tcp_output::Mtup;
use crate::net::ipv4::tcp_recovery::{TcpRack, TsortedSentQueue};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use uapi::tcp::TCP_MSS_DEFAULT;

/// A TCP socket's own part.
///
/// linux: include/linux/tcp.h:tcp_sock
#[derive(Default)]
pub struct TcpSock {
    // What nearly every segment looks at.
    /// The state (`sk_state`).
    pub state: TcpState,
    /// The sender's view of the network (`icsk_ca_state`).
    pub ca_state: CaState,
    /// It has keys for signatures (`TCP_MD5SIG`): without, nobody looks for any.
    pub md5: bool,
    /// Octets of a header with the options of every segment.
    pub tcp_header_len: u8,
    /// The next octet to come.
    pub rcv_nxt: SeqNr,
    /// The next octet to be read.
    pub copied_seq: SeqNr,
    /// `rcv_nxt` when the last acknowledgement left.
    pub rcv_wup: SeqNr,
    /// The next octet to be sent.
    pub snd_nxt: SeqNr,
    /// The oldest octet that is not acknowledged.
    pub snd_una: SeqNr,
    /// The end of the last small segment sent.
    pub snd_sml: SeqNr,
    /// The segment that the send window was last taken from.
    pub snd_wl1: SeqNr,
    /// The peer's window.
    pub snd_wnd: u32,
    /// The largest the peer has ever offered.
    pub max_window: u32,
    /// Octets of IP options in front of every segment (`icsk_ext_hdr_len`).
    pub ext_hdr_len: u8,
    /// The segment size in use, without options.
    pub mss_cache: u32,
    /// The least that the peer or the way can make us use (`tcp_min_snd_mss`).
    pub min_snd_mss: u16,
    /// The segment size that we told the peer.
    pub advmss: u32,
    /// The window we have offered.
    pub rcv_wnd: u32,
    /// The most we may offer.
    pub window_clamp: u32,
    /// The most we offer for now: it grows with use.
    pub rcv_ssthresh: u32,
    /// Behind the last octet written.
    pub write_seq: SeqNr,
    /// The end of what was pushed last.
    pub pushed_seq: SeqNr,
    /// The urgent pointer to send.
    pub snd_up: SeqNr,
    /// Options.
    pub rx_opt: TcpOptionsReceived,
    /// Delayed acknowledgements.
    pub ack: IcskAck,
    /// When small segments wait.
    pub nonagle: Nonagle,
    /// Marks of routers.
    pub ecn_flags: EcnFlags,
    /// What the owner is left to do.
    pub deferred: Deferred,

    // Queues.
    /// Written, not sent.
    pub write_queue: VecDeque<Skb>,
    /// Sent, not acknowledged, by sequence number.
    pub rtx_queue: VecDeque<Skb>,
    /// Received out of order, by distance from the connection's start.
    pub out_of_order_queue: BTreeMap<u64, Skb>,
    /// What lies in `rtx_queue`, by the time that it left.
    pub tsorted_sent_queue: TsortedSentQueue,
    /// Octets that the send queues are charged with (`sk_wmem_queued`).
    pub wmem_queued: usize,
    /// Memory taken from TCP's account and not used yet (`sk_forward_alloc`).
    pub forward_alloc: i32,

    // Sending: counts of segments.
    /// Sent and not acknowledged.
    pub packets_out: u32,
    /// Of those, reported by SACK (or counted by duplicates).
    pub sacked_out: u32,
    /// Of those, taken for lost.
    pub lost_out: u32,
    /// Of those, retransmitted.
    pub retrans_out: u32,
    /// So many may overtake one before it counts as lost.
    pub reordering: u32,
    /// What was sent when recovery began.
    pub high_seq: SeqNr,
    /// Losses by time.
    pub rack: TcpRack,
    /// `snd_nxt` when the tail was probed and nobody has told yet what became of it.
    pub tlp_high_seq: Option<SeqNr>,
    /// The probe was a copy.
    pub tlp_retrans: bool,
    /// A time-out may have been for nothing: the next acknowledgements tell (F-RTO).
    pub frto: bool,
    /// Nothing before it is to be sent again, in the retransmit queue.
    pub retransmit_hint: SeqNr,
    /// `snd_ssthresh` before it was reduced; zero: nothing to undo.
    pub prior_ssthresh: u32,
    /// `snd_una` when the window was reduced; `None`: nothing to undo.
    pub undo_marker: Option<SeqNr>,
    /// Retransmitted segments that may turn out to have been needless; negative: unknown.
    pub undo_retrans: i32,
    /// When the first retransmission of the present trouble left; zero: none.
    pub retrans_stamp: Ktime,
    /// Segments delivered in this recovery.
    pub prr_delivered: u32,
    /// Segments sent in it.
    pub prr_out: u32,
    /// Segments delivered in all.
    pub delivered: u32,
    /// Of those, the ones that arrived marked.
    pub delivered_ce: u32,
    /// The peer took back what it had reported (`is_sack_reneg`), until that is recovered from.
    pub is_sack_reneg: bool,
    /// The start of the present rate sample.
    pub first_tx_mstamp: Ktime,
    /// The window and what moves it.
    pub cong: TcpCong,
    /// The algorithm.
    pub ca_ops: Box<dyn TcpCongestionOps>,
    /// Behind the highest segment that SACK has reported, while one is.
    pub highest_sack: SeqNr,
    /// SACK blocks seen last, to pass over what is known.
    pub recv_sack_cache: [SackBlock; 4],
    /// Where the first block missing in `rcv_nxt`'s reports lies.
    pub selective_acks: [SackBlock; 4],
    /// What came twice.
    pub duplicate_sack: SackBlock,

    // The round trip.
    /// Four times the mean deviation.
    pub mdev_us: u32,
    /// The greatest deviation in this round trip.
    pub mdev_max_us: u32,
    /// The deviation that the timer goes by.
    pub rttvar_us: u32,
    /// The end of the present round trip.
    pub rtt_seq: SeqNr,
    /// The least round trip of the last minutes, and when it was.
    pub rtt_min: (u32, Ktime),
    /// The retransmission time-out, in microseconds.
    pub rto: u32,
    /// Doubled so often.
    pub backoff: u8,
    /// Expired so often without an answer.
    pub retransmits: u8,
    /// Probes of a closed window, or keepalives, without an answer.
    pub probes_out: u8,
    /// When the first of those probes left; zero: none.
    pub probes_tstamp: Ktime,
    /// What the write timer is for.
    pub pending: IcskPending,
    /// The timers.
    pub timers: [SockTimer; 3],
    /// When the SYN-ACK of a request left that became this; zero: there was none, or it went again.
    pub synack_sent: Ktime,
    /// When a segment came last that acknowledged.
    pub rcv_tstamp: Ktime,
    /// When the last needless segment was answered.
    pub last_oow_ack_time: Ktime,

    // Receiving.
    /// Urgent data.
    pub urg_data: UrgData,
    /// Where it lies.
    pub urg_seq: SeqNr,
    /// Acknowledgements that are held back; `None`: none ever was, nor came anything out of order.
    pub comp_sack: Option<Box<CompSack>>,
    /// Octets received in order.
    pub bytes_received: u64,
    /// Auto-tuning.
    pub rcvq_space: RcvqSpace,
    /// The receiver's round trip.
    pub rcv_rtt_est: RcvRttEst,
    /// The timestamp that it was last measured by.
    pub rcv_rtt_last_tsecr: u32,
    /// Window octets for a segment's memory, in 1/256 (`scaling_ratio`).
    pub scaling_ratio: u8,

    // The way.
    /// The route, while it is good.
    pub dst: Option<Arc<Dst>>,
    /// The MTU that ICMP reported; zero: none.
    pub pmtu: u32,
    /// The MTU that `mss_cache` was made for.
    pub pmtu_cookie: u32,
    /// The search for a better one; `None`: none is made.
    pub(crate) mtup: Option<Box<Mtup>>,
    /// An error that the way reported and that may pass.
    pub sk_err_soft: Option<uapi::errno::Errno>,
    /// Added to the clock of timestamps.
    pub tsoffset: u32,

    // Options of the program.
    /// `TCP_KEEPIDLE` in seconds; zero: the machine's.
    pub keepalive_time: u16,
    /// `TCP_KEEPINTVL`.
    pub keepalive_intvl: u16,
    /// `TCP_KEEPCNT`.
    pub keepalive_probes: u8,
    /// `TCP_SYNCNT`; zero: the machine's.
    pub syn_retries: u8,
    /// `TCP_DEFER_ACCEPT`, in SYN-ACKs.
    pub defer_accept: u8,
    /// `TCP_INQ`.
    pub recvmsg_inq: bool,
    /// `SO_RCVBUF` was set: no auto-tuning.
    pub rcvbuf_locked: bool,
    /// `SO_SNDBUF` was.
    pub sndbuf_locked: bool,
    /// `TCP_LINGER2` in seconds; zero: the machine's; negative: none.
    pub linger2: i16,
    /// `TCP_USER_TIMEOUT` in milliseconds; zero: none.
    pub user_timeout: u32,
    /// `TCP_NOTSENT_LOWAT`, or the machine's.
    pub notsent_lowat: u32,
    /// As the program set it; zero: the machine's.
    pub notsent_lowat_option: u32,
    /// The program has chosen the algorithm, for connections that it accepts too (`icsk_ca_setsockopt`).
    pub ca_setsockopt: bool,
    /// `TCP_THIN_LINEAR_TIMEOUTS`.
    pub thin_lto: bool,
    /// `TCP_SAVE_SYN`: connections keep their SYN's headers; with 2, the link layer's too.
    pub save_syn: u8,
    /// The headers of the SYN that made it, until somebody reads them.
    pub saved_syn: Option<Box<SavedSyn>>,
    /// Fast open, for who has to do with it.
    pub fastopen: Option<Box<TcpFastopen>>,
    /// `connect` was called, and how it stands.
    pub connect: ConnectState,
    /// Their FIN is here (`SOCK_DONE`).
    pub done: bool,
    /// `accept`, while it listens.
    pub listener: Option<Arc<Listener>>,
    /// Its place among bound sockets.
    pub bind: Option<Arc<InetBindNode>>,
    /// It is in the table of connections.
    pub hashed: bool,
    /// It has no descriptor, and counts as such.
    pub orphan: bool,
    /// Somebody waits for room in the send buffer (`SOCK_NOSPACE`).
    pub nospace: bool,

    // What is only told.
    /// Counters for `TCP_INFO`.
    pub stats: Box<TcpStats>,
}

/// The headers of a SYN. Few connections have them, so that there they take a word and not two.
///
/// linux: include/net/request_sock.h:saved_syn
#[derive(Clone, Debug)]
pub struct SavedSyn(pub Box<[u8]>);

/// Counters that a program can ask for (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpStats {
    /// Octets acknowledged.
    pub bytes_acked: u64,
    /// Octets sent, retransmissions too.
    pub bytes_sent: u64,
    /// Octets retransmitted.
    pub bytes_retrans: u64,
    /// Segments that came.
    pub segs_in: u32,
    /// Those with data.
    pub data_segs_in: u32,
    /// Segments that left.
    pub segs_out: u32,
    /// Those with data.
    pub data_segs_out: u32,
    /// Segments retransmitted.
    pub total_retrans: u32,
    /// D-SACKs that came.
    pub dsack_dups: u32,
    /// Times that reordering was seen.
    pub reord_seen: u32,
    /// Segments that came out of order.
    pub rcv_ooopack: u32,
    /// Time with something to send, in nanoseconds: busy, held by the peer's window, by the buffer.
    pub chrono: [u64; 3],
    /// Which of the three runs, from 1; zero: none.
    pub chrono_type: u8,
    /// Since when.
    pub chrono_start: Ktime,
    /// Times that the timer expired.
    pub total_rto: u16,
    /// Times that this began a recovery: several in a row are one.
    pub total_rto_recoveries: u16,
    /// When the present recovery began, in milliseconds of the clock; zero: none.
    pub rto_stamp: u32,
    /// Milliseconds in those that are over.
    pub total_rto_time: u32,
    /// The last delivery rate: segments, in microseconds.
    pub rate: (u32, u32),
    /// That was the program's own pace.
    pub rate_app_limited: bool,
}

impl TcpStats {
    /// Of a new connection: until something is measured, the pace counts as the program's own.
    pub(crate) fn new() -> Self {
        Self { rate_app_limited: true, ..Self::default() }
    }

    /// A recovery from a time-out is over, if there is one.
    ///
    /// linux: net/ipv4/tcp_input.c:tcp_update_rto_time
    pub(crate) fn tcp_update_rto_time(&mut self, now: Ktime) {
        self.total_rto_time = self.rto_time(now);
        self.rto_stamp = 0;
    }

    /// Milliseconds in recoveries from time-outs, the present one's too.
    pub(super) fn rto_time(&self, now: Ktime) -> u32 {
        match self.rto_stamp {
            0 => self.total_rto_time,
            began => self.total_rto_time.wrapping_add(tcp_clock_ms(now).wrapping_sub(began)),
        }
    }
}

impl TcpSock {
    /// The timer has expired; the first time since something was acknowledged begins a recovery.
    ///
    /// linux: net/ipv4/tcp_timer.c:tcp_update_rto_stats
    pub(crate) fn tcp_update_rto_stats(&mut self, now: Ktime) {
        if self.retransmits == 0 {
            let recoveries = &mut self.stats.total_rto_recoveries;
            *recoveries = recoveries.saturating_add(1);
            self.stats.rto_stamp = tcp_clock_ms(now);
        }
        self.retransmits = self.retransmits.saturating_add(1);
        self.stats.total_rto = self.stats.total_rto.saturating_add(1);
    }

    /// An acknowledgement came while a time-out was recovered from: that may be over.
    pub(crate) fn loss_may_be_over(&mut self, now: Ktime) {
        if self.ca_state != CaState::Loss {
            self.stats.tcp_update_rto_time(now);
        }
    }

    /// A closed socket's.
    ///
    /// linux: net/ipv4/tcp.c:tcp_init_sock
    pub(crate) fn new(ca_ops: Box<dyn TcpCongestionOps>, reordering: u32) -> Self {
        Self {
            tcp_header_len: 20,
            mss_cache: u32::from(TCP_MSS_DEFAULT),
            min_snd_mss: 48,
            advmss: u32::from(TCP_MSS_DEFAULT),
            reordering,
            ca_ops,
            mdev_us: TCP_TIMEOUT_INIT,
            rtt_min: (u32::MAX, Ktime::ZERO),
            rto: TCP_TIMEOUT_INIT,
            scaling_ratio: TCP_DEFAULT_SCALING_RATIO,
            notsent_lowat: u32::MAX,
            stats: Box::new(TcpStats::new()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Ktime {
        Ktime(ms * 1_000_000)
    }

    #[test]
    fn time_outs_in_a_row_are_one_recovery_and_times_add_up() {
        let mut tp = TcpSock { ca_state: CaState::Loss, ..TcpSock::default() };
        let told = |tp: &TcpSock, now| {
            let stats = &tp.stats;
            (stats.total_rto, stats.total_rto_recoveries, stats.rto_time(at(now)))
        };
        assert_eq!(told(&tp, 50), (0, 0, 0));
        tp.tcp_update_rto_stats(at(100));
        tp.tcp_update_rto_stats(at(300));
        tp.loss_may_be_over(at(350));
        assert_eq!(told(&tp, 400), (2, 1, 300), "it goes on");
        tp.ca_state = CaState::Open;
        tp.loss_may_be_over(at(500));
        assert_eq!(told(&tp, 10_000), (2, 1, 400), "it was over at 500");
        tp.loss_may_be_over(at(10_000));
        (tp.retransmits, tp.ca_state) = (0, CaState::Loss);
        tp.tcp_update_rto_stats(at(20_000));
        tp.stats.tcp_update_rto_time(at(20_007));
        assert_eq!(told(&tp, 30_000), (3, 2, 407));
    }

    #[test]
    fn counts_of_time_outs_stay_at_their_most() {
        let mut tp = TcpSock::default();
        (tp.stats.total_rto, tp.stats.total_rto_recoveries) = (u16::MAX, u16::MAX);
        tp.tcp_update_rto_stats(at(1));
        assert_eq!((tp.stats.total_rto, tp.stats.total_rto_recoveries), (u16::MAX, u16::MAX));
        // The clock of milliseconds goes round within 50 days.
        let mut stats = TcpStats { rto_stamp: u32::MAX - 9, ..TcpStats::default() };
        stats.tcp_update_rto_time(at((1 << 32) + 10));
        assert_eq!((stats.total_rto_time, stats.rto_stamp), (20, 0));
    }
}
