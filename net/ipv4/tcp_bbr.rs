//! BBR: the pace follows from the bandwidth and the least round trip that the way shows, not from losses.
//!
//! linux: net/ipv4/tcp_bbr.c (version 1); Cardwell, Cheng and others, ACM Queue 14(5), 2016. Key type: [`Bbr`].
//! Parts: `model` (what the way is thought to be, and the mode), `lt_bw` (policers); here what follows for pace and
//! window. Contexts: under the socket's lock. Bandwidths are in segments a microsecond, times 2^24; gains in 1/256;
//! windows in segments.
//! Modes: STARTUP doubles the pace every round trip until the bandwidth grows no more; DRAIN lets go what that has
//! queued; PROBE_BW keeps to the bandwidth, a round trip in eight faster and the next slower; PROBE_RTT, when no
//! round trip was as short as the least for ten seconds, all but empties the way for a moment to see how short it is.
//! DIVERGES: where in its cycle PROBE_BW begins follows from the connection's sequence numbers, which an outsider
//! can't know, in place of a generator of the machine's; times are nanoseconds in place of ticks.

mod lt_bw;
mod model;

use crate::kernel::time::Ktime;
use crate::net::ipv4::tcp_cong::{
    RateSample, TCP_INFINITE_SSTHRESH, TCP_INIT_CWND, TcpCa, TcpCaEvent, TcpCong, TcpCongestionOps,
};
use crate::net::ipv4::tcp_output::GSO_MAX_SIZE;
use klib::win_minmax::Minmax;
use lt_bw::LtBw;
use std::time::Duration;
use uapi::inet_diag::TcpBbrInfo;
use uapi::tcp::TcpCaState;
use zerocopy::IntoBytes;

/// Fractions of a segment a microsecond.
const BW_SCALE: u32 = 24;
const BW_UNIT: u64 = 1 << BW_SCALE;
/// Fractions of gains.
const BBR_SCALE: u32 = 8;
const BBR_UNIT: u32 = 1 << BBR_SCALE;
/// The pace is so much below the bandwidth, so that queues become shorter.
const PACING_MARGIN_PERCENT: u64 = 1;
/// 2 / ln 2: the least gain by which a pace doubles every round trip.
const HIGH_GAIN: u32 = BBR_UNIT * 2885 / 1000 + 1;
/// Drains in a round trip what that has queued.
const DRAIN_GAIN: u32 = BBR_UNIT * 1000 / 2885;
/// The window is twice what the way holds: acknowledgements may be held back.
const CWND_GAIN: u32 = BBR_UNIT * 2;
/// Phases of the cycle in which the bandwidth is probed, each a round trip.
const CYCLE_LEN: u8 = 8;
/// Faster, then slower by as much, then as fast as the way.
const PACING_GAIN: [u32; CYCLE_LEN as usize] = {
    let mut gains = [BBR_UNIT; CYCLE_LEN as usize];
    (gains[0], gains[1]) = (BBR_UNIT * 5 / 4, BBR_UNIT * 3 / 4);
    gains
};
/// A cycle begins with any phase but the slow one.
const CYCLE_RAND: u32 = 7;
/// So many segments keep the way alive however short it is.
const CWND_MIN_TARGET: u32 = 4;
/// Below this pace, in octets a second, packets are single segments.
const MIN_TSO_RATE: u64 = 1_200_000 / 8;
/// What came at once beyond the bandwidth is made room for, up to so many microseconds of it.
const EXTRA_ACKED_MAX_US: u64 = 100_000;
/// The round trip that is taken for the first, in microseconds, where none is known.
const NOMINAL_RTT_US: u32 = 1000;

/// Registers under this.
///
/// linux: net/ipv4/tcp_bbr.c:tcp_bbr_cong_ops
pub const TCP_BBR: TcpCa = TcpCa { name: "bbr", make: || Box::<Bbr>::default(), restricted: false };

/// What it does.
///
/// linux: net/ipv4/tcp_bbr.c:bbr_mode
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Looks for the bandwidth.
    #[default]
    Startup,
    /// Lets go what that has queued.
    Drain,
    /// Keeps to the bandwidth and probes for more.
    ProbeBw,
    /// Looks for the least round trip.
    ProbeRtt,
}

/// What BBR remembers of a connection.
///
/// linux: net/ipv4/tcp_bbr.c:bbr
#[derive(Clone, Debug, Default)]
pub struct Bbr {
    /// The least round trip of the last ten seconds, in microseconds; `u32::MAX`: none was measured.
    min_rtt_us: u32,
    /// When it was.
    min_rtt_stamp: Ktime,
    /// When PROBE_RTT may end; `None`: the way is not empty yet.
    probe_rtt_done_stamp: Option<Ktime>,
    /// A round trip has passed since then.
    probe_rtt_round_done: bool,
    /// The bandwidth of the last round trips.
    bw: Minmax,
    /// Round trips, counted by what was delivered.
    rtt_cnt: u32,
    /// `delivered` at the end of the present one.
    next_rtt_delivered: u32,
    /// When the phase of the cycle began.
    cycle_mstamp: Ktime,
    cycle_idx: u8,
    mode: Mode,
    /// The state at the acknowledgement before.
    prev_ca_state: TcpCaState,
    /// As many segments leave as arrive: the first round trip of a recovery.
    packet_conservation: bool,
    /// This acknowledgement begins a round trip.
    round_start: bool,
    /// Sending has begun again after a pause.
    idle_restart: bool,
    /// A round trip was measured: the first pace is of this way.
    has_seen_rtt: bool,
    /// STARTUP has found the bandwidth.
    full_bw_reached: bool,
    /// Round trips without much growth.
    full_bw_cnt: u8,
    /// The bandwidth that growth is measured against.
    full_bw: u32,
    /// Policers.
    lt: LtBw,
    pacing_gain: u32,
    cwnd_gain: u32,
    /// The window before recovery or PROBE_RTT.
    prior_cwnd: u32,
    /// When the present count of acknowledged segments began.
    ack_epoch_mstamp: Ktime,
    /// Segments of it.
    ack_epoch_acked: u32,
    /// What came beyond the bandwidth, in this window of round trips and the one before.
    extra_acked: [u32; 2],
    extra_acked_win_rtts: u8,
    extra_acked_win_idx: u8,
    /// Chance, which begins with the connection's sequence numbers.
    chance: u32,
}

/// `max_bw × gain` and the like: octets a second of a bandwidth, less the margin.
///
/// linux: net/ipv4/tcp_bbr.c:bbr_rate_bytes_per_sec
fn bbr_rate_bytes_per_sec(tp: &TcpCong, bw: u32, gain: u32) -> u64 {
    let scaled = (u128::from(bw) * u128::from(tp.mss_cache) * u128::from(gain)) >> BBR_SCALE;
    let rate = (scaled * u128::from(1_000_000 / 100 * (100 - PACING_MARGIN_PERCENT))) >> BW_SCALE;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl Bbr {
    /// The bandwidth that the pace goes by.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_bw
    fn bbr_bw(&self) -> u32 {
        self.lt.used().unwrap_or_else(|| self.bw.minmax_get())
    }

    /// The first pace: what doubles the first window every round trip.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_init_pacing_rate_from_rtt
    fn bbr_init_pacing_rate_from_rtt(&mut self, tp: &mut TcpCong) {
        let mut rtt_us = NOMINAL_RTT_US;
        if tp.srtt_us != 0 {
            rtt_us = (tp.srtt_us >> 3).max(1);
            self.has_seen_rtt = true;
        }
        let bw = u64::from(tp.snd_cwnd) * BW_UNIT / u64::from(rtt_us);
        let bw = u32::try_from(bw).unwrap_or(u32::MAX);
        tp.pacing_rate = bbr_rate_bytes_per_sec(tp, bw, HIGH_GAIN);
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_set_pacing_rate
    fn bbr_set_pacing_rate(&mut self, tp: &mut TcpCong, bw: u32, gain: u32) {
        let rate = bbr_rate_bytes_per_sec(tp, bw, gain);
        if !self.has_seen_rtt && tp.srtt_us != 0 {
            self.bbr_init_pacing_rate_from_rtt(tp);
        }
        // Until the bandwidth is known the pace never falls.
        if self.full_bw_reached || rate > tp.pacing_rate {
            tp.pacing_rate = rate;
        }
    }

    /// Segments of a packet at the pace.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_tso_segs_goal
    fn bbr_tso_segs_goal(tp: &TcpCong) -> u32 {
        let bytes = (tp.pacing_rate >> 10).min(u64::from(GSO_MAX_SIZE) - 1) as u32;
        (bytes / tp.mss_cache.max(1)).max(bbr_min_tso_segs(tp)).min(0x7f)
    }

    /// Remembers the window, to come back to it.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_save_cwnd
    fn bbr_save_cwnd(&mut self, tp: &TcpCong) {
        let good = self.prev_ca_state < TcpCaState::Recovery && self.mode != Mode::ProbeRtt;
        self.prior_cwnd = if good { tp.snd_cwnd } else { self.prior_cwnd.max(tp.snd_cwnd) };
    }

    /// Segments that the way holds, times a gain, rounded up.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_bdp
    fn bbr_bdp(&self, bw: u32, gain: u32) -> u32 {
        if self.min_rtt_us == u32::MAX {
            return TCP_INIT_CWND;
        }
        let held = (u128::from(bw) * u128::from(self.min_rtt_us) * u128::from(gain)) >> BBR_SCALE;
        u32::try_from(held.div_ceil(u128::from(BW_UNIT))).unwrap_or(u32::MAX)
    }

    /// The same with what both ends hold in whole packets.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_quantization_budget
    fn bbr_quantization_budget(&self, tp: &TcpCong, cwnd: u32) -> u32 {
        // One in the queue of the device, one in the device, one at the receiver.
        let cwnd = cwnd.saturating_add(3 * Self::bbr_tso_segs_goal(tp));
        // An even number: fewer acknowledgements are held back.
        let cwnd = cwnd.saturating_add(1) & !1;
        // So that probing reaches beyond however little the way holds.
        let probes = self.mode == Mode::ProbeBw && self.cycle_idx == 0;
        cwnd.saturating_add(if probes { 2 } else { 0 })
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_inflight
    fn bbr_inflight(&self, tp: &TcpCong, bw: u32, gain: u32) -> u32 {
        self.bbr_quantization_budget(tp, self.bbr_bdp(bw, gain))
    }

    /// Segments that will be on the way when the next one leaves, which the pace may have put off.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_packets_in_net_at_edt
    fn bbr_packets_in_net_at_edt(&self, tp: &TcpCong, in_flight: u32) -> u32 {
        let interval_us = tp.tcp_wstamp(tp.now).us_since(tp.now);
        let delivered = (u128::from(self.bbr_bw()) * u128::from(interval_us)) >> BW_SCALE;
        let more = if self.pacing_gain > BBR_UNIT { Self::bbr_tso_segs_goal(tp) } else { 0 };
        let at_edt = in_flight.saturating_add(more);
        at_edt.saturating_sub(u32::try_from(delivered).unwrap_or(u32::MAX))
    }

    /// Room for what comes acknowledged at once.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_ack_aggregation_cwnd
    fn bbr_ack_aggregation_cwnd(&self) -> u32 {
        if !self.full_bw_reached {
            return 0;
        }
        let most = u64::from(self.bbr_bw()) * EXTRA_ACKED_MAX_US / BW_UNIT;
        let [one, other] = self.extra_acked;
        u64::from(one.max(other)).min(most) as u32
    }

    /// The window in recovery, and behind it; true when no more is to be done to it.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_set_cwnd_to_recover_or_restore
    fn recover_or_restore(&mut self, tp: &TcpCong, rs: &RateSample, cwnd: &mut u32) -> bool {
        let (before, state) = (self.prev_ca_state, tp.ca_state);
        let acked = rs.acked_sacked;
        if rs.losses != 0 {
            *cwnd = cwnd.saturating_sub(rs.losses).max(1);
        }
        if state == TcpCaState::Recovery && before != TcpCaState::Recovery {
            // For a round trip, what arrives makes room for as much.
            self.packet_conservation = true;
            self.next_rtt_delivered = tp.delivered;
            *cwnd = tp.in_flight.saturating_add(acked);
        } else if before >= TcpCaState::Recovery && state < TcpCaState::Recovery {
            *cwnd = (*cwnd).max(self.prior_cwnd);
            self.packet_conservation = false;
        }
        self.prev_ca_state = state;
        if self.packet_conservation {
            *cwnd = (*cwnd).max(tp.in_flight.saturating_add(acked));
        }
        self.packet_conservation
    }

    /// Takes the window towards what the way holds.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_set_cwnd
    fn bbr_set_cwnd(&mut self, tp: &mut TcpCong, rs: &RateSample, bw: u32) {
        let (mut cwnd, acked) = (tp.snd_cwnd, rs.acked_sacked);
        if acked != 0 && !self.recover_or_restore(tp, rs, &mut cwnd) {
            let target = self.bbr_bdp(bw, self.cwnd_gain);
            let target = target.saturating_add(self.bbr_ack_aggregation_cwnd());
            let target = self.bbr_quantization_budget(tp, target);
            if self.full_bw_reached {
                cwnd = cwnd.saturating_add(acked).min(target);
            } else if cwnd < target || tp.delivered < TCP_INIT_CWND {
                cwnd = cwnd.saturating_add(acked);
            }
            cwnd = cwnd.max(CWND_MIN_TARGET);
        }
        tp.snd_cwnd = cwnd.min(tp.snd_cwnd_clamp);
        if self.mode == Mode::ProbeRtt {
            tp.snd_cwnd = tp.snd_cwnd.min(CWND_MIN_TARGET);
        }
    }

    /// A number below `n`.
    fn below(&mut self, n: u32) -> u32 {
        // Marsaglia's xorshift: it never leads to zero, from which nothing follows.
        let mut x = self.chance.max(1);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.chance = x;
        ((u64::from(x) * u64::from(n)) >> 32) as u32
    }
}

/// linux: net/ipv4/tcp_bbr.c:bbr_min_tso_segs
fn bbr_min_tso_segs(tp: &TcpCong) -> u32 {
    if tp.pacing_rate < MIN_TSO_RATE { 1 } else { 2 }
}

impl TcpCongestionOps for Bbr {
    fn name(&self) -> &'static str {
        "bbr"
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_init
    fn init(&mut self, tp: &mut TcpCong) {
        *self = Self {
            min_rtt_us: tp.min_rtt,
            min_rtt_stamp: tp.now,
            ack_epoch_mstamp: tp.now,
            chance: tp.snd_nxt,
            // Until the next acknowledgement they are as they were.
            pacing_gain: self.pacing_gain,
            cwnd_gain: self.cwnd_gain,
            ..Self::default()
        };
        tp.snd_ssthresh = TCP_INFINITE_SSTHRESH;
        self.bbr_init_pacing_rate_from_rtt(tp);
        self.lt.bbr_reset_lt_bw_sampling(tp);
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_ssthresh
    fn ssthresh(&mut self, tp: &TcpCong) -> u32 {
        self.bbr_save_cwnd(tp);
        tp.snd_ssthresh
    }

    /// Never called: [`TcpCongestionOps::cong_control`] sets the window.
    fn cong_avoid(&mut self, _tp: &mut TcpCong, _ack: u32, _acked: u32) {}

    /// A time-out ends the round trip, and what was found before it.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_set_state
    fn set_state(&mut self, tp: &mut TcpCong, state: TcpCaState) {
        if state == TcpCaState::Loss {
            self.prev_ca_state = TcpCaState::Loss;
            self.full_bw = 0;
            self.round_start = true;
            self.bbr_lt_bw_sampling(tp, &RateSample { losses: 1, ..RateSample::default() });
        }
    }

    /// After a pause in which the program had nothing to send the pace is the way's, not faster.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_cwnd_event
    fn cwnd_event(&mut self, tp: &mut TcpCong, event: TcpCaEvent) {
        if event != TcpCaEvent::TxStart || tp.app_limited == 0 {
            return;
        }
        self.idle_restart = true;
        (self.ack_epoch_mstamp, self.ack_epoch_acked) = (tp.now, 0);
        match self.mode {
            Mode::ProbeBw => self.bbr_set_pacing_rate(tp, self.bbr_bw(), BBR_UNIT),
            Mode::ProbeRtt => self.bbr_check_probe_rtt_done(tp),
            Mode::Startup | Mode::Drain => (),
        }
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_undo_cwnd
    fn undo_cwnd(&mut self, tp: &TcpCong) -> u32 {
        (self.full_bw, self.full_bw_cnt) = (0, 0);
        self.lt.bbr_reset_lt_bw_sampling(tp);
        tp.snd_cwnd
    }

    fn has_cong_control(&self) -> bool {
        true
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_main
    fn cong_control(&mut self, tp: &mut TcpCong, rs: &RateSample) {
        self.bbr_update_model(tp, rs);
        let bw = self.bbr_bw();
        self.bbr_set_pacing_rate(tp, bw, self.pacing_gain);
        self.bbr_set_cwnd(tp, rs, bw);
    }

    fn mode(&self) -> u8 {
        self.mode as u8
    }

    fn needs_pacing(&self) -> bool {
        true
    }

    /// The window may double in recovery, too.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_sndbuf_expand
    fn sndbuf_expand(&self, _tp: &TcpCong) -> u32 {
        3
    }

    fn min_tso_segs(&self, tp: &TcpCong) -> Option<u32> {
        Some(bbr_min_tso_segs(tp))
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_get_info
    fn get_info(&self, tp: &TcpCong) -> Vec<u8> {
        let bw = u128::from(self.bbr_bw()) * u128::from(tp.mss_cache) * 1_000_000;
        let bw = (bw >> BW_SCALE) as u64;
        let info = TcpBbrInfo {
            bbr_bw_lo: bw as u32,
            bbr_bw_hi: (bw >> 32) as u32,
            bbr_min_rtt: self.min_rtt_us,
            bbr_pacing_gain: self.pacing_gain,
            bbr_cwnd_gain: self.cwnd_gain,
        };
        info.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests;
