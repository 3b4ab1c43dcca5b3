//! A TCP socket's own part.
//!
//! linux: include/linux/tcp.h (`tcp_sock`), include/net/inet_connection_sock.h
//! (`inet_connection_sock`). The fields have Linux's names. Lock: all of it lies under the socket's,
//! `class::Sock`.

use super::SeqNr;
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerHandle;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::{Sock, SockLocked, SockState};
use crate::net::ipv4::inet_connection_sock::Listener;
use crate::net::ipv4::inet_hashtables::InetBindNode;
pub use crate::net::ipv4::tcp_cong::TCP_INIT_CWND;
use crate::net::ipv4::tcp_cong::{TcpCong, TcpCongestionOps};
use bitflags::bitflags;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use uapi::tcp::TCP_MSS_DEFAULT;
pub use uapi::tcp::TcpCaState as CaState;

/// A connection's state, by Linux's numbers.
///
/// linux: include/net/tcp_states.h
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// Established.
    Established = 1,
    /// A SYN was sent.
    SynSent = 2,
    /// A SYN came, and ours is out.
    SynRecv = 3,
    /// Our FIN is out.
    FinWait1 = 4,
    /// Our FIN is acknowledged, theirs not here.
    FinWait2 = 5,
    /// Both are closed; what is still on the way dies out.
    TimeWait = 6,
    /// No connection.
    #[default]
    Close = 7,
    /// Their FIN is here.
    CloseWait = 8,
    /// Their FIN is here and ours is out.
    LastAck = 9,
    /// Waits for connections.
    Listen = 10,
    /// Both FINs are out, ours is not acknowledged.
    Closing = 11,
    /// A request that has no socket yet.
    NewSynRecv = 12,
}

impl TcpState {
    /// It is one of several.
    #[inline]
    pub fn is(self, states: &[Self]) -> bool {
        states.contains(&self)
    }

    /// The state's bit (`TCPF_*`).
    #[inline]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Data may still be sent.
    #[inline]
    pub fn may_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// The peers have each other's SYN.
    #[inline]
    pub fn synchronized(self) -> bool {
        !matches!(self, Self::Close | Self::Listen | Self::SynSent | Self::NewSynRecv)
    }

    /// Linux's name of it, as `ss` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTAB",
            Self::SynSent => "SYN-SENT",
            Self::SynRecv | Self::NewSynRecv => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Close => "UNCONN",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

bitflags! {
    /// What is known of a segment in the retransmit queue.
    ///
    /// linux: include/net/tcp.h:TCPCB_SACKED_ACKED
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Sacked: u8 {
        /// Its receipt was reported by SACK.
        const ACKED = 1;
        /// It was retransmitted, and the copy is under way.
        const RETRANS = 2;
        /// It is taken for lost.
        const LOST = 4;
        /// It was retransmitted at some time: no RTT sample.
        const EVER_RETRANS = 0x80;
        /// Any of the first three.
        const TAGBITS = 7;
    }

    /// Why an acknowledgement is due.
    ///
    /// linux: include/net/inet_connection_sock.h:inet_csk_ack_state_t
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AckPending: u8 {
        /// One is due.
        const SCHED = 1;
        /// The timer runs.
        const TIMER = 2;
        /// A pushed segment came.
        const PUSHED = 4;
        /// A second one.
        const PUSHED2 = 8;
        /// At once.
        const NOW = 16;
        /// Memory ran out.
        const NOMEM = 32;
    }

    /// When small segments wait.
    ///
    /// linux: include/net/tcp.h:TCP_NAGLE_OFF
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Nonagle: u8 {
        /// `TCP_NODELAY`.
        const OFF = 1;
        /// `TCP_CORK`.
        const CORK = 2;
        /// Once: what is there goes now.
        const PUSH = 4;
    }

    /// What the owner is to do when it gives the socket back.
    ///
    /// linux: include/linux/tcp.h:tsq_flags
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Deferred: u8 {
        /// Room below: send on.
        const TSQ = 1;
        /// The retransmit timer came.
        const WRITE_TIMER = 2;
        /// The timer for acknowledgements came.
        const DELACK_TIMER = 4;
        /// A smaller MTU was reported.
        const MTU_REDUCED = 8;
    }
}

/// What TCP keeps in a packet: of one that came, what its header says; of one in a socket's queues, what it
/// carries and what became of it.
///
/// linux: include/net/tcp.h:tcp_skb_cb
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpSkbCb {
    /// The first octet.
    pub seq: SeqNr,
    /// Behind the last one; SYN and FIN count.
    pub end_seq: SeqNr,
    /// What it acknowledges.
    pub ack_seq: SeqNr,
    /// `TCPHDR_*`.
    pub tcp_flags: u8,
    /// What is known of it.
    pub sacked: Sacked,
    /// The TOS it came with.
    pub ip_dsfield: u8,
    /// What follows is not to be joined to it (`MSG_EOR`).
    pub eor: bool,
}

/// What is noted of a segment when it is sent, for rates.
///
/// linux: include/net/tcp.h:tcp_skb_cb (`tx`)
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpSkbTx {
    /// Segments that had been delivered by then.
    pub delivered: u32,
    /// Segments that were under way.
    pub in_flight: u32,
    /// The sample's start.
    pub first_tx: Ktime,
    /// When the last of those was delivered.
    pub delivered_at: Ktime,
}

/// A range that was received out of order, or twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// The first octet.
    pub start: SeqNr,
    /// Behind the last one.
    pub end: SeqNr,
}

/// What was negotiated, and what the last segment's options said.
///
/// linux: include/linux/tcp.h:tcp_options_received
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpOptionsReceived {
    /// When `ts_recent` was, in seconds; zero: never.
    pub ts_recent_stamp: u32,
    /// The peer's timestamp to echo.
    pub ts_recent: u32,
    /// The last segment's timestamp.
    pub rcv_tsval: u32,
    /// What that echoes.
    pub rcv_tsecr: u32,
    /// It had one.
    pub saw_tstamp: bool,
    /// Timestamps were agreed on.
    pub tstamp_ok: bool,
    /// A D-SACK is to be reported.
    pub dsack: bool,
    /// Window scaling was agreed on.
    pub wscale_ok: bool,
    /// SACK was agreed on.
    pub sack_ok: bool,
    /// The peer's shift.
    pub snd_wscale: u8,
    /// Ours.
    pub rcv_wscale: u8,
    /// Blocks to report.
    pub num_sacks: u8,
    /// `TCP_MAXSEG`; zero: none.
    pub user_mss: u16,
    /// The most the peer takes.
    pub mss_clamp: u16,
}

/// Delayed acknowledgements.
///
/// linux: include/net/inet_connection_sock.h:inet_connection_sock (`icsk_ack`)
#[derive(Clone, Copy, Debug, Default)]
pub struct IcskAck {
    /// Why one is due.
    pub pending: AckPending,
    /// So many go at once before they are delayed.
    pub quick: u8,
    /// The conversation goes back and forth.
    pub pingpong: u8,
    /// Failures to make one.
    pub retry: u8,
    /// How long the next one may wait, in microseconds.
    pub ato: u32,
    /// When data came last.
    pub lrcvtime: Ktime,
    /// The length of the last segment.
    pub last_seg_size: u16,
    /// What the peer's full segments seem to be.
    pub rcv_mss: u16,
}

/// Urgent data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrgData {
    /// None.
    #[default]
    None,
    /// Announced, not here yet (`TCP_URG_NOTYET`).
    NotYet,
    /// Here, to be read by `MSG_OOB` (`TCP_URG_VALID`).
    Valid(u8),
    /// Read (`TCP_URG_READ`).
    Read,
}

/// The timers of a socket: what the token of a wheel's entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TimerKind {
    /// Retransmission, or one of its kin: [`IcskPending`].
    Write,
    /// The delayed acknowledgement.
    Delack,
    /// Keepalive, or the end of FIN_WAIT2.
    Keepalive,
}

/// How a program's `connect` stands.
///
/// linux: include/uapi/linux/net.h:socket_state
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectState {
    /// Not called, or failed.
    #[default]
    Unconnected,
    /// Under way.
    Connecting,
    /// It succeeded, or the socket was accepted.
    Connected,
    /// It was given up.
    Disconnecting,
}

/// What the write timer is armed for.
///
/// linux: include/net/inet_connection_sock.h:ICSK_TIME_RETRANS
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum IcskPending {
    /// Nothing.
    #[default]
    None = 0,
    /// Retransmission.
    Retrans = 1,
    /// Asking a peer whose window is closed.
    Probe0 = 3,
}

/// A timer: its deadline, and the entry that stands for it in a wheel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SockTimer {
    /// `Ktime::ZERO`: not armed.
    pub deadline: Ktime,
    /// Whose wheel, which entry, for when: at the deadline or before.
    pub(crate) filed: Option<(u8, TimerHandle, Ktime)>,
}

/// Auto-tuning of the receive buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct RcvqSpace {
    /// Octets that were read within the last round trip.
    pub space: u32,
    /// Where the present one began.
    pub seq: SeqNr,
    /// When.
    pub time: Ktime,
}

/// The receiver's estimate of the round trip.
#[derive(Clone, Copy, Debug, Default)]
pub struct RcvRttEst {
    /// Eight times the estimate, in microseconds.
    pub rtt_us: u32,
    /// The window's end when the present measurement began.
    pub seq: SeqNr,
    /// When.
    pub time: Ktime,
}

/// A TCP socket's own part.
///
/// linux: include/linux/tcp.h:tcp_sock
pub struct TcpSock {
    // What nearly every segment looks at.
    /// The state (`sk_state`).
    pub state: TcpState,
    /// The sender's view of the network (`icsk_ca_state`).
    pub ca_state: CaState,
    /// Octets of a header with the options of every segment.
    pub tcp_header_len: u16,
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
    /// The segment size in use, without options.
    pub mss_cache: u32,
    /// The least that the peer or the way can make us use (`tcp_min_snd_mss`).
    pub min_snd_mss: u32,
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
    /// What the owner is left to do.
    pub deferred: Deferred,

    // Queues.
    /// Written, not sent.
    pub write_queue: VecDeque<Skb>,
    /// Sent, not acknowledged, by sequence number.
    pub rtx_queue: VecDeque<Skb>,
    /// Received out of order, by distance from the connection's start.
    pub out_of_order_queue: BTreeMap<u64, Skb>,
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
    /// When the last one was.
    pub delivered_mstamp: Ktime,
    /// The start of the present rate sample.
    pub first_tx_mstamp: Ktime,
    /// Segments taken for lost in all.
    pub lost: u32,
    /// Delivered by then, nothing limits but the program; zero: it does not.
    pub app_limited: u32,
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
    /// Eight times the mean, in microseconds.
    pub srtt_us: u32,
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
    /// When data left last.
    pub lsndtime: Ktime,
    /// When the last needless segment was answered.
    pub last_oow_ack_time: Ktime,

    // Receiving.
    /// Urgent data.
    pub urg_data: UrgData,
    /// Where it lies.
    pub urg_seq: SeqNr,
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
    /// An error that the way reported and that may pass.
    pub sk_err_soft: Option<uapi::errno::Errno>,
    /// Added to the clock of timestamps.
    pub tsoffset: u32,

    // Options of the program.
    /// `TCP_KEEPIDLE` in seconds; zero: the machine's.
    pub keepalive_time: u32,
    /// `TCP_KEEPINTVL`.
    pub keepalive_intvl: u32,
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
    pub linger2: i32,
    /// `TCP_USER_TIMEOUT` in milliseconds; zero: none.
    pub user_timeout: u32,
    /// `TCP_NOTSENT_LOWAT`, or the machine's.
    pub notsent_lowat: u32,
    /// As the program set it; zero: the machine's.
    pub notsent_lowat_option: u32,
    /// `connect` was called, and how it stands.
    pub connect: ConnectState,
    /// Their FIN is here (`SOCK_DONE`).
    pub done: bool,
    /// `SO_MAX_PACING_RATE`, and what is measured, in octets a second.
    pub pacing_rate: u64,
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
    /// Times that it was recovered from.
    pub total_rto_recoveries: u16,
    /// The last delivery rate: segments, in microseconds.
    pub rate: (u32, u32),
    /// That was the program's own pace.
    pub rate_app_limited: bool,
}

/// The first retransmission time-out, in microseconds (RFC 6298 section 2).
pub const TCP_TIMEOUT_INIT: u32 = 1_000_000;
/// The longest.
pub const TCP_RTO_MAX: u32 = 120_000_000;
/// The shortest a delayed acknowledgement waits.
pub const TCP_ATO_MIN: u32 = 40_000;
/// The longest.
pub const TCP_DELACK_MAX: u32 = 200_000;
/// The time in TIME_WAIT, in milliseconds.
pub const TCP_TIMEWAIT_LEN: u64 = 60_000;
/// The largest window that needs no scaling.
pub const MAX_TCP_WINDOW: u32 = 32_767;
/// The least segment size that a peer is taken at.
pub const TCP_MIN_MSS: u32 = 88;
/// The largest shift of a window (RFC 7323 section 2.3).
pub const TCP_MAX_WSCALE: u8 = 14;
/// Seconds after which a peer's timestamp is too old to reject by (RFC 7323 section 5.5).
pub const TCP_PAWS_24DAYS: u32 = 60 * 60 * 24 * 24;
/// Seconds that duplicates live (`TCP_PAWS_MSL`).
pub const TCP_PAWS_MSL: u32 = 60;
/// How far back a timestamp may lie.
pub const TCP_PAWS_WINDOW: i32 = 1;
/// Acknowledgements that go at once at most.
pub const TCP_MAX_QUICKACKS: u8 = 16;
/// Exchanges until a conversation counts as going back and forth.
pub const TCP_PINGPONG_THRESH: u8 = 1;

impl TcpSock {
    /// A closed socket's.
    ///
    /// linux: net/ipv4/tcp.c:tcp_init_sock
    pub(crate) fn new(ca_ops: Box<dyn TcpCongestionOps>, reordering: u32) -> Self {
        Self {
            state: TcpState::Close,
            ca_state: CaState::Open,
            tcp_header_len: 20,
            rcv_nxt: SeqNr(0),
            copied_seq: SeqNr(0),
            rcv_wup: SeqNr(0),
            snd_nxt: SeqNr(0),
            snd_una: SeqNr(0),
            snd_sml: SeqNr(0),
            snd_wl1: SeqNr(0),
            snd_wnd: 0,
            max_window: 0,
            mss_cache: u32::from(TCP_MSS_DEFAULT),
            min_snd_mss: 48,
            advmss: u32::from(TCP_MSS_DEFAULT),
            rcv_wnd: 0,
            window_clamp: 0,
            rcv_ssthresh: 0,
            write_seq: SeqNr(0),
            pushed_seq: SeqNr(0),
            snd_up: SeqNr(0),
            rx_opt: TcpOptionsReceived::default(),
            ack: IcskAck::default(),
            nonagle: Nonagle::empty(),
            deferred: Deferred::empty(),
            write_queue: VecDeque::new(),
            rtx_queue: VecDeque::new(),
            out_of_order_queue: BTreeMap::new(),
            wmem_queued: 0,
            forward_alloc: 0,
            packets_out: 0,
            sacked_out: 0,
            lost_out: 0,
            retrans_out: 0,
            reordering,
            high_seq: SeqNr(0),
            retransmit_hint: SeqNr(0),
            prior_ssthresh: 0,
            undo_marker: None,
            undo_retrans: 0,
            retrans_stamp: Ktime::ZERO,
            prr_delivered: 0,
            prr_out: 0,
            delivered: 0,
            delivered_mstamp: Ktime::ZERO,
            first_tx_mstamp: Ktime::ZERO,
            lost: 0,
            app_limited: u32::MAX,
            cong: TcpCong::default(),
            ca_ops,
            highest_sack: SeqNr(0),
            recv_sack_cache: [SackBlock::default(); 4],
            selective_acks: [SackBlock::default(); 4],
            duplicate_sack: SackBlock::default(),
            srtt_us: 0,
            mdev_us: TCP_TIMEOUT_INIT,
            mdev_max_us: 0,
            rttvar_us: 0,
            rtt_seq: SeqNr(0),
            rtt_min: (u32::MAX, Ktime::ZERO),
            rto: TCP_TIMEOUT_INIT,
            backoff: 0,
            retransmits: 0,
            probes_out: 0,
            probes_tstamp: Ktime::ZERO,
            pending: IcskPending::None,
            timers: [SockTimer::default(); 3],
            synack_sent: Ktime::ZERO,
            rcv_tstamp: Ktime::ZERO,
            lsndtime: Ktime::ZERO,
            last_oow_ack_time: Ktime::ZERO,
            urg_data: UrgData::None,
            urg_seq: SeqNr(0),
            bytes_received: 0,
            rcvq_space: RcvqSpace::default(),
            rcv_rtt_est: RcvRttEst::default(),
            rcv_rtt_last_tsecr: 0,
            scaling_ratio: TCP_DEFAULT_SCALING_RATIO,
            dst: None,
            pmtu: 0,
            pmtu_cookie: 0,
            sk_err_soft: None,
            tsoffset: 0,
            keepalive_time: 0,
            keepalive_intvl: 0,
            keepalive_probes: 0,
            syn_retries: 0,
            defer_accept: 0,
            recvmsg_inq: false,
            rcvbuf_locked: false,
            sndbuf_locked: false,
            linger2: 0,
            user_timeout: 0,
            notsent_lowat: u32::MAX,
            notsent_lowat_option: 0,
            connect: ConnectState::Unconnected,
            done: false,
            pacing_rate: u64::MAX,
            listener: None,
            bind: None,
            hashed: false,
            orphan: false,
            nospace: false,
            stats: Box::default(),
        }
    }
}

/// Half of a segment's memory is taken to be data until segments came.
///
/// linux: include/net/tcp.h:TCP_DEFAULT_SCALING_RATIO
pub const TCP_DEFAULT_SCALING_RATIO: u8 = 128;

/// A TCP socket under its lock: the socket, what all sockets have, and TCP's own.
///
/// linux: include/net/sock.h:sock, include/linux/tcp.h:tcp_sk
pub struct TcpSk<'a> {
    /// The socket.
    pub sk: &'a Arc<Sock>,
    /// What all sockets have.
    pub st: &'a mut SockState,
    /// TCP's own.
    pub tp: &'a mut TcpSock,
}

impl<'a> TcpSk<'a> {
    /// Of a locked socket; `None` when it is no TCP socket.
    #[inline(always)]
    pub(crate) fn of(sk: &'a Arc<Sock>, locked: &'a mut SockLocked) -> Option<Self> {
        let tp = locked.tcp.as_deref_mut()?;
        Some(Self { sk, st: &mut locked.base, tp })
    }

    /// The state.
    #[inline]
    pub fn state(&self) -> TcpState {
        self.tp.state
    }

    /// No descriptor refers to it (`SOCK_DEAD`).
    #[inline]
    pub fn orphaned(&self) -> bool {
        self.tp.orphan
    }

    /// What is written and not sent leaves room for more (`TCP_NOTSENT_LOWAT`).
    ///
    /// linux: net/ipv4/tcp.c:tcp_stream_memory_free
    #[inline]
    pub fn notsent_room(&self) -> bool {
        let unsent = self.tp.write_seq - self.tp.snd_nxt;
        unsent < self.tp.notsent_lowat
    }
}

impl std::fmt::Debug for TcpSk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TcpSk({:?} {:?})", self.sk, self.tp.state)
    }
}

impl TcpSock {
    /// Segments under way, as far as is known.
    ///
    /// linux: include/net/tcp.h:tcp_packets_in_flight
    #[inline]
    pub fn tcp_packets_in_flight(&self) -> u32 {
        (self.packets_out + self.retrans_out).saturating_sub(self.tcp_left_out())
    }

    /// Segments that have left the network: received or lost.
    ///
    /// linux: include/net/tcp.h:tcp_left_out
    #[inline]
    pub fn tcp_left_out(&self) -> u32 {
        self.sacked_out + self.lost_out
    }

    /// The end of what the peer takes.
    ///
    /// linux: include/net/tcp.h:tcp_wnd_end
    #[inline]
    pub fn tcp_wnd_end(&self) -> SeqNr {
        self.snd_una + self.snd_wnd
    }

    /// Octets of our window that are left.
    ///
    /// linux: include/net/tcp.h:tcp_receive_window
    #[inline]
    pub fn tcp_receive_window(&self) -> u32 {
        let left = (self.rcv_wup + self.rcv_wnd).distance(self.rcv_nxt);
        left.max(0) as u32
    }

    /// The timer's milliseconds, as timestamps count them.
    ///
    /// linux: include/net/tcp.h:tcp_time_stamp_ts
    #[inline]
    pub fn tcp_time_stamp(&self, now: Ktime) -> u32 {
        tcp_clock_ms(now).wrapping_add(self.tsoffset)
    }

    /// Windows for memory: what of `space` octets of buffer can be data.
    ///
    /// linux: include/net/tcp.h:tcp_win_from_space
    #[inline]
    pub fn tcp_win_from_space(&self, space: i64) -> i64 {
        space * i64::from(self.scaling_ratio) >> 8
    }

    /// The other way round.
    ///
    /// linux: include/net/tcp.h:tcp_space_from_win
    #[inline]
    pub fn tcp_space_from_win(&self, win: u32) -> u32 {
        let space = (u64::from(win) << 8) / u64::from(self.scaling_ratio.max(1));
        u32::try_from(space).unwrap_or(u32::MAX)
    }

    /// The first segment that was not sent yet.
    ///
    /// linux: include/net/tcp.h:tcp_send_head
    #[inline]
    pub fn tcp_send_head(&self) -> Option<&Skb> {
        self.write_queue.front()
    }

    /// The last segment of the send queue.
    ///
    /// linux: include/net/tcp.h:tcp_write_queue_tail
    #[inline]
    pub fn tcp_write_queue_tail(&mut self) -> Option<&mut Skb> {
        self.write_queue.back_mut()
    }

    /// Puts a segment at the end of the send queue.
    ///
    /// linux: include/net/tcp.h:tcp_add_write_queue_tail
    #[inline]
    pub fn tcp_add_write_queue_tail(&mut self, skb: Skb) {
        self.write_queue.push_back(skb);
    }

    /// Nothing was sent that is not acknowledged, nor is to be sent.
    ///
    /// linux: include/net/tcp.h:tcp_rtx_and_write_queues_empty
    #[inline]
    pub fn tcp_queues_empty(&self) -> bool {
        self.rtx_queue.is_empty() && self.write_queue.is_empty()
    }

    /// Acknowledgements may wait for data to go with.
    ///
    /// linux: include/net/inet_connection_sock.h:inet_csk_in_pingpong_mode
    #[inline]
    pub fn in_pingpong_mode(&self) -> bool {
        self.ack.pingpong >= TCP_PINGPONG_THRESH
    }

    /// linux: include/net/inet_connection_sock.h:inet_csk_enter_pingpong_mode
    #[inline]
    pub fn enter_pingpong_mode(&mut self) {
        self.ack.pingpong = TCP_PINGPONG_THRESH;
    }
}

/// Milliseconds of the clock.
#[inline]
pub fn tcp_clock_ms(now: Ktime) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

/// Microseconds of the clock.
#[inline]
pub fn tcp_clock_us(now: Ktime) -> u64 {
    now.as_nanos() / 1_000
}

/// What the time with something to send is spent on.
///
/// linux: include/linux/tcp.h:tcp_chrono
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Chrono {
    /// Something is to be sent.
    Busy = 1,
    /// The peer's window is closed.
    RwndLimited = 2,
    /// The send buffer is full.
    SndbufLimited = 3,
}

impl TcpSk<'_> {
    /// Begins to count for a reason, if it weighs more than the present one.
    ///
    /// linux: net/ipv4/tcp_output.c:tcp_chrono_start
    pub(crate) fn chrono_start(&mut self, cx: &mut BhCx<'_>, why: Chrono) {
        if why as u8 > self.tp.stats.chrono_type {
            self.chrono_set(cx, why as u8);
        }
    }

    /// A reason is no more: the next lighter one counts, if it holds.
    ///
    /// linux: net/ipv4/tcp_output.c:tcp_chrono_stop
    pub(crate) fn chrono_stop(&mut self, cx: &mut BhCx<'_>, why: Chrono) {
        if self.tp.tcp_queues_empty() {
            self.chrono_set(cx, 0);
        } else if why as u8 == self.tp.stats.chrono_type {
            self.chrono_set(cx, Chrono::Busy as u8);
        }
    }

    fn chrono_set(&mut self, cx: &mut BhCx<'_>, new: u8) {
        let now = cx.now();
        let stats = &mut self.tp.stats;
        if let Some(slot) = stats.chrono.get_mut(usize::from(stats.chrono_type).wrapping_sub(1)) {
            *slot += (now - stats.chrono_start).as_nanos() as u64;
        }
        (stats.chrono_type, stats.chrono_start) = (new, now);
    }
}
