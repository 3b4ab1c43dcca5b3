//! The parts of a TCP socket: states, flags, small records, and TCP's constants.
//!
//! linux: include/net/tcp_states.h, include/net/tcp.h, include/linux/tcp.h. Contexts: any; no ownership.

use super::SeqNr;
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerHandle;
pub use crate::net::ipv4::tcp_cong::TCP_INIT_CWND;
use bitflags::bitflags;
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
#[derive(Clone, Copy, Debug)]
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

impl TcpSkbCb {
    /// Of a segment of which nothing is known yet.
    pub const NONE: Self = Self {
        seq: SeqNr(0),
        end_seq: SeqNr(0),
        ack_seq: SeqNr(0),
        tcp_flags: 0,
        sacked: Sacked::empty(),
        ip_dsfield: 0,
        eor: false,
    };
}

/// What is noted of a segment when it is sent, for rates.
///
/// linux: include/net/tcp.h:tcp_skb_cb (`tx`)
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpSkbTx {
    /// Segments that had been delivered by then.
    pub delivered: u32,
    /// Of those, the marked ones, and in the lowest bit: the program had too little to send.
    pub(crate) ce_and_app: u32,
    /// How long before that the sample began, in microseconds.
    pub first_tx_us: u32,
    /// How long before that the last of those was delivered; `TOLD`: it has told what it knows.
    pub delivered_us: u32,
}

impl TcpSkbTx {
    /// It was reported before.
    pub(crate) const TOLD: u32 = u32::MAX;

    /// Marked segments that had arrived, but for the topmost bit.
    pub(crate) fn delivered_ce(self) -> u32 {
        self.ce_and_app >> 1
    }

    /// The program had too little to send.
    pub(crate) fn app_limited(self) -> bool {
        self.ce_and_app & 1 != 0
    }
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

impl TimerKind {
    /// The token of the timer for the pace, which is one of nanoseconds.
    pub(crate) const PACING: u64 = 3;
    /// That of acknowledgements that are held back, likewise.
    pub(crate) const COMPRESSED_ACK: u64 = 4;
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
    /// Sending the end of what was sent once more, before retransmission is due.
    LossProbe = 5,
    /// What was overtaken counts as lost then.
    ReoTimeout = 6,
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

/// The first retransmission time-out, in microseconds (RFC 6298 section 2).
pub const TCP_TIMEOUT_INIT: u32 = 1_000_000;
/// The longest.
pub const TCP_RTO_MAX: u32 = 120_000_000;
/// The shortest that a loss is waited for, in microseconds.
pub const TCP_TIMEOUT_MIN_US: u64 = 2_000;
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

/// Half of a segment's memory is taken to be data until segments came.
///
/// linux: include/net/tcp.h:TCP_DEFAULT_SCALING_RATIO
pub const TCP_DEFAULT_SCALING_RATIO: u8 = 128;
