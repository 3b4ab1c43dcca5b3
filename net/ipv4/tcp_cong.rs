//! Congestion control: what algorithms see and set, the table of those that are registered, and Reno.
//!
//! linux: net/ipv4/tcp_cong.c, include/net/tcp.h. RFC 5681. Key types: [`TcpCongestionOps`] (an
//! algorithm at work in one connection), [`TcpCong`] (the part of the connection that it sees),
//! [`TcpCa`] (what is registered). Contexts: an algorithm is called under the socket's lock and neither
//! sleeps nor sends; registered at boot, chosen by tasks from the read-mostly tables.
//! Invariants: the congestion window is never 0 and never above its clamp; windows are counted in
//! segments; no arithmetic here depends on what a peer sends to stay in range.

mod registry;

pub use registry::{
    TCP_CA_NAME_MAX, TcpCa, tcp_assign_congestion_control, tcp_ca_find, tcp_cong_init,
    tcp_get_allowed_congestion_control, tcp_get_available_congestion_control,
    tcp_register_congestion_control, tcp_set_allowed_congestion_control,
    tcp_set_congestion_control, tcp_set_default_congestion_control,
};

use crate::kernel::hrtimer::Hrtimer;
use crate::kernel::time::Ktime;
use bitflags::bitflags;
use std::fmt;
use uapi::tcp::TcpCaState;

/// The congestion window that a connection begins with, in segments: RFC 6928.
///
/// linux: include/net/tcp.h:TCP_INIT_CWND
pub const TCP_INIT_CWND: u32 = 10;

/// No threshold: slow start goes on until something is lost.
///
/// linux: include/net/tcp.h:TCP_INFINITE_SSTHRESH
pub const TCP_INFINITE_SSTHRESH: u32 = 0x7fff_ffff;

/// What congestion control sees and sets of a connection. The connection keeps it current before each
/// call; algorithms set the window, its count and the threshold.
///
/// linux: include/linux/tcp.h:tcp_sock
#[derive(Clone, Debug)]
pub struct TcpCong {
    /// The congestion window, in segments.
    pub snd_cwnd: u32,
    /// Segments acknowledged since the window last grew by one.
    pub snd_cwnd_cnt: u32,
    /// The window at which slow start ends, in segments.
    pub snd_ssthresh: u32,
    /// The most that the window may be, in segments.
    pub snd_cwnd_clamp: u32,
    /// When the window was last set or found in full use.
    pub snd_cwnd_stamp: Ktime,
    /// The most segments in flight since the window was last in full use.
    pub snd_cwnd_used: u32,
    /// The window before the last reduction, in segments.
    pub prior_cwnd: u32,
    /// In the last round trip, the window was what held sending up.
    pub is_cwnd_limited: bool,
    /// The most segments in flight in the last round trip.
    pub max_packets_out: u32,
    /// The sequence number that ends the round trip of the two above.
    pub cwnd_usage_seq: u32,
    /// Octets of data in a full segment.
    pub mss_cache: u32,
    /// The smoothed round trip: eight times its microseconds.
    pub srtt_us: u32,
    /// The least round trip of the last minutes, in microseconds; `u32::MAX`: none was measured.
    pub min_rtt: u32,
    /// Segments sent and not acknowledged that are thought to be on their way.
    pub in_flight: u32,
    /// Segments that arrived, since the connection began.
    pub delivered: u32,
    /// When the last one did.
    pub delivered_mstamp: Ktime,
    /// Segments taken for lost in all.
    pub lost: u32,
    /// Delivered by then, nothing limits but the program; zero: it does not.
    pub app_limited: u32,
    /// The first sequence number not acknowledged.
    pub snd_una: u32,
    /// The next sequence number to send.
    pub snd_nxt: u32,
    /// What HyStart has found since it was last asked.
    pub hystart: Hystart,
    /// The state that the sender is in.
    pub ca_state: TcpCaState,
    /// When data was last sent.
    pub lsndtime: Ktime,
    /// Octets a second at which segments are to leave, at the most `SO_MAX_PACING_RATE`.
    pub pacing_rate: u64,
    /// What a connection keeps whose segments leave at a pace; `None`: no segment did yet.
    pub pacing: Option<Box<TcpPacing>>,
    /// The time of this call.
    pub now: Ktime,
}

impl Default for TcpCong {
    fn default() -> Self {
        Self {
            snd_cwnd: TCP_INIT_CWND,
            snd_cwnd_cnt: 0,
            snd_ssthresh: TCP_INFINITE_SSTHRESH,
            snd_cwnd_clamp: u32::MAX,
            snd_cwnd_stamp: Ktime::ZERO,
            snd_cwnd_used: 0,
            prior_cwnd: 0,
            is_cwnd_limited: false,
            max_packets_out: 0,
            cwnd_usage_seq: 0,
            mss_cache: uapi::tcp::TCP_MSS_DEFAULT.into(),
            srtt_us: 0,
            min_rtt: u32::MAX,
            in_flight: 0,
            delivered: 0,
            delivered_mstamp: Ktime::ZERO,
            lost: 0,
            app_limited: u32::MAX,
            snd_una: 0,
            snd_nxt: 0,
            hystart: Hystart::empty(),
            ca_state: TcpCaState::Open,
            lsndtime: Ktime::ZERO,
            pacing_rate: u64::MAX,
            pacing: None,
            now: Ktime::ZERO,
        }
    }
}

bitflags! {
    /// What told slow start that the way is full.
    ///
    /// linux: net/ipv4/tcp_cubic.c:HYSTART_ACK_TRAIN
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Hystart: u8 {
        /// Acknowledgements that follow each other closely for as long as half a round trip.
        const ACK_TRAIN = 1;
        /// Round trips that become longer.
        const DELAY = 2;
    }
}

/// What a connection keeps whose segments leave at a pace.
///
/// linux: include/linux/tcp.h:tcp_sock
#[derive(Clone, Debug, Default)]
pub struct TcpPacing {
    /// When the next segment may leave.
    pub tcp_wstamp: Ktime,
    /// The timer for that: on which CPU, and which entry there.
    pub(crate) pacing_timer: Option<(u8, Hrtimer)>,
}

impl TcpCong {
    /// When the next segment may leave: now, unless the pace says later.
    ///
    /// linux: include/linux/tcp.h:tcp_sock (`tcp_wstamp_ns`)
    #[inline]
    pub fn tcp_wstamp(&self, now: Ktime) -> Ktime {
        self.pacing.as_ref().map_or(now, |pacing| pacing.tcp_wstamp.max(now))
    }
}

/// What happens to a connection that its congestion control may want to know.
///
/// linux: include/net/tcp.h:tcp_ca_event
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TcpCaEvent {
    /// First data after nothing was in flight. `lsndtime` is still that of the data before.
    TxStart,
    /// The window was set back after idleness.
    CwndRestart,
    /// A reduction without loss has ended.
    CompleteCwr,
    /// A timeout.
    Loss,
    /// A segment came that no router marked.
    EcnNoCe,
    /// A segment came that a router marked.
    EcnIsCe,
}

/// What an acknowledgement covers.
///
/// linux: include/net/tcp.h:ack_sample
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckSample {
    /// Segments acknowledged.
    pub pkts_acked: u32,
    /// Microseconds from sending to acknowledgement; `None` where that can't be told.
    pub rtt_us: Option<u32>,
    /// Segments in flight before it.
    pub in_flight: u32,
}

/// A measurement of the rate that data arrives at. Times are microseconds.
///
/// linux: include/net/tcp.h:rate_sample
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSample {
    /// When the measurement began.
    pub prior_mstamp: Ktime,
    /// `delivered` at its begin.
    pub prior_delivered: u32,
    /// Segments that had arrived marked at its begin, but for the topmost bit.
    pub prior_delivered_ce: u32,
    /// Segments that arrived in it; `None`: no measurement.
    pub delivered: Option<u32>,
    /// Of them, those that were marked.
    pub delivered_ce: u32,
    /// Its length: the longer of the two below.
    pub interval_us: u32,
    /// How long sending took.
    pub snd_interval_us: u32,
    /// How long arriving took.
    pub rcv_interval_us: u32,
    /// The round trip of the segment acknowledged last, if that can be told.
    pub rtt_us: Option<u32>,
    /// Segments found lost by this acknowledgement.
    pub losses: u32,
    /// Segments that it acknowledges, selectively or not.
    pub acked_sacked: u32,
    /// Segments in flight before it.
    pub prior_in_flight: u32,
    /// The sequence number behind the segment acknowledged last.
    pub last_end_seq: u32,
    /// The program had too little to send.
    pub is_app_limited: bool,
    /// The segment had been sent again.
    pub is_retrans: bool,
    /// The acknowledgement was probably delayed.
    pub is_ack_delayed: bool,
}

/// An algorithm at work in one connection. What it remembers of it lives in the object and ends with it.
///
/// linux: include/net/tcp.h:tcp_congestion_ops
pub trait TcpCongestionOps: Send + fmt::Debug {
    /// Its name, as `TCP_CONGESTION` has it.
    fn name(&self) -> &'static str;

    /// The connection begins to use it: established, or another one before.
    fn init(&mut self, _tp: &mut TcpCong) {}

    /// The threshold after a loss, in segments, at least 2.
    fn ssthresh(&mut self, tp: &TcpCong) -> u32;

    /// Grows the window after an acknowledgement of everything before `ack` that newly acknowledges
    /// `acked` segments.
    fn cong_avoid(&mut self, tp: &mut TcpCong, ack: u32, acked: u32);

    /// The connection is about to enter a state.
    fn set_state(&mut self, _tp: &mut TcpCong, _state: TcpCaState) {}

    /// Something has happened.
    fn cwnd_event(&mut self, _tp: &mut TcpCong, _event: TcpCaEvent) {}

    /// The window for a reduction that turns out to have been needless, in segments.
    fn undo_cwnd(&mut self, tp: &TcpCong) -> u32 {
        tcp_reno_undo_cwnd(tp)
    }

    /// An acknowledgement has come, before the window is grown.
    fn pkts_acked(&mut self, _tp: &mut TcpCong, _sample: &AckSample) {}

    /// It sets window and pace itself, by [`TcpCongestionOps::cong_control`], in place of `cong_avoid` and of the
    /// reductions of recovery.
    fn has_cong_control(&self) -> bool {
        false
    }

    /// Sets window and pace after an acknowledgement.
    fn cong_control(&mut self, _tp: &mut TcpCong, _rs: &RateSample) {}

    /// Which of its states it is in, by a number of its own: the walk tells when that changes.
    fn mode(&self) -> u8 {
        0
    }

    /// Its segments are to leave at `pacing_rate`.
    fn needs_pacing(&self) -> bool {
        false
    }

    /// Windows that a send buffer should hold.
    fn sndbuf_expand(&self, _tp: &TcpCong) -> u32 {
        2
    }

    /// Segments in a large one at least; `None`: as the setting `tcp_min_tso_segs` has it.
    fn min_tso_segs(&self, _tp: &TcpCong) -> Option<u32> {
        None
    }

    /// What `TCP_CC_INFO` gives.
    fn get_info(&self, _tp: &TcpCong) -> Vec<u8> {
        Vec::new()
    }
}

/// Below the threshold, the window doubles every round trip.
///
/// linux: include/net/tcp.h:tcp_in_slow_start
#[inline]
pub const fn tcp_in_slow_start(tp: &TcpCong) -> bool {
    tp.snd_cwnd < tp.snd_ssthresh
}

/// The window is what holds sending up, so that it may grow. In slow start half of it in use is
/// enough: a program that writes as fast as it may has less than all of it in flight.
///
/// linux: include/net/tcp.h:tcp_is_cwnd_limited
pub const fn tcp_is_cwnd_limited(tp: &TcpCong) -> bool {
    tp.is_cwnd_limited
        || (tcp_in_slow_start(tp) && tp.snd_cwnd < tp.max_packets_out.saturating_mul(2))
}

/// Grows the window by a segment for each acknowledged one, up to the threshold; the rest of `acked` is
/// returned.
///
/// linux: net/ipv4/tcp_cong.c:tcp_slow_start
#[must_use]
pub fn tcp_slow_start(tp: &mut TcpCong, acked: u32) -> u32 {
    let cwnd = tp.snd_cwnd.saturating_add(acked).min(tp.snd_ssthresh.max(tp.snd_cwnd));
    let rest = acked - (cwnd - tp.snd_cwnd);
    tp.snd_cwnd = cwnd.min(tp.snd_cwnd_clamp);
    rest
}

/// Grows the window by a segment for each `w` acknowledged ones: additive increase.
///
/// linux: net/ipv4/tcp_cong.c:tcp_cong_avoid_ai
pub fn tcp_cong_avoid_ai(tp: &mut TcpCong, w: u32, acked: u32) {
    let w = w.max(1);
    // What was counted towards a larger `w` is one segment of a smaller.
    if tp.snd_cwnd_cnt >= w {
        tp.snd_cwnd_cnt = 0;
        tp.snd_cwnd = tp.snd_cwnd.saturating_add(1);
    }
    tp.snd_cwnd_cnt = tp.snd_cwnd_cnt.saturating_add(acked);
    if tp.snd_cwnd_cnt >= w {
        let delta = tp.snd_cwnd_cnt / w;
        tp.snd_cwnd_cnt -= delta * w;
        tp.snd_cwnd = tp.snd_cwnd.saturating_add(delta);
    }
    tp.snd_cwnd = tp.snd_cwnd.min(tp.snd_cwnd_clamp);
}

/// Slow start, then a segment a round trip.
///
/// linux: net/ipv4/tcp_cong.c:tcp_reno_cong_avoid
pub fn tcp_reno_cong_avoid(tp: &mut TcpCong, _ack: u32, mut acked: u32) {
    if !tcp_is_cwnd_limited(tp) {
        return;
    }
    if tcp_in_slow_start(tp) {
        acked = tcp_slow_start(tp, acked);
        if acked == 0 {
            return;
        }
    }
    tcp_cong_avoid_ai(tp, tp.snd_cwnd, acked);
}

/// Half of the window.
///
/// linux: net/ipv4/tcp_cong.c:tcp_reno_ssthresh
pub fn tcp_reno_ssthresh(tp: &TcpCong) -> u32 {
    (tp.snd_cwnd >> 1).max(2)
}

/// What the window was before it was reduced.
///
/// linux: net/ipv4/tcp_cong.c:tcp_reno_undo_cwnd
pub fn tcp_reno_undo_cwnd(tp: &TcpCong) -> u32 {
    tp.snd_cwnd.max(tp.prior_cwnd)
}

/// RFC 5681, as Reno had it.
///
/// linux: net/ipv4/tcp_cong.c:tcp_reno
#[derive(Debug, Default)]
pub struct TcpReno;

/// The fallback, as Linux's: it needs nothing.
impl Default for Box<dyn TcpCongestionOps> {
    fn default() -> Self {
        Box::new(TcpReno)
    }
}

impl TcpCongestionOps for TcpReno {
    fn name(&self) -> &'static str {
        "reno"
    }

    fn ssthresh(&mut self, tp: &TcpCong) -> u32 {
        tcp_reno_ssthresh(tp)
    }

    fn cong_avoid(&mut self, tp: &mut TcpCong, ack: u32, acked: u32) {
        tcp_reno_cong_avoid(tp, ack, acked);
    }
}

#[cfg(test)]
mod tests;
