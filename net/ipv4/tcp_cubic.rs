//! CUBIC: after a loss the window returns to what it was by a cubic function of time, stays there for
//! a while and then goes beyond, at least as fast as Reno would.
//!
//! linux: net/ipv4/tcp_cubic.c. RFC 9438. Key type: [`Bictcp`]. Contexts: under the socket's lock. Time
//! is counted in jiffies of a millisecond, windows in segments, both in integers.
//! Slow start ends before something is lost where acknowledgements tell that the way is full: HyStart, of
//! the paper by Ha and Rhee (not RFC 9406's HyStart++).
//! Delayed acknowledgements need no estimate: growth counts the segments that are acknowledged.
//! DIVERGES: the cube root is exact; Linux's, by a table and one step of Newton's, is up to a
//! hundredth off.

use crate::kernel::time::{HZ, TICK_NSEC};
use crate::net::ipv4::tcp_cong::{
    AckSample, Hystart, TcpCa, TcpCaEvent, TcpCong, TcpCongestionOps, tcp_cong_avoid_ai,
    tcp_in_slow_start, tcp_is_cwnd_limited, tcp_slow_start,
};
use crate::net::ipv4::tcp_output::GSO_MAX_SIZE;
use uapi::tcp::TcpCaState;

/// What fractions of windows are counted in.
const BICTCP_BETA_SCALE: u64 = 1024;
/// What is left of the window after a loss: 717/1024, RFC 9438's 0.7.
const BETA: u64 = 717;
/// Time is counted in units of 2^-10 s.
const BICTCP_HZ: u32 = 10;
/// The constant C in units of 1/1024: 0.04 times ten, RFC 9438's 0.4.
const BIC_SCALE: u64 = 41;
const CUBE_RTT_SCALE: u64 = BIC_SCALE * 10;
/// The third power of time that makes up for a window one smaller: 1/C in units of 2^-30 s³.
const CUBE_FACTOR: u64 = (1 << (10 + 3 * BICTCP_HZ)) / CUBE_RTT_SCALE;
/// Eight times the acknowledged windows in which Reno with this BETA would grow by one segment: RFC
/// 9438's alpha of 3 × (1 - BETA) / (1 + BETA), inverted.
const BETA_SCALE: u64 = 8 * (BICTCP_BETA_SCALE + BETA) / 3 / (BICTCP_BETA_SCALE - BETA);

/// HyStart waits for a window of so many segments.
const HYSTART_LOW_WINDOW: u32 = 16;
/// Acknowledgements no farther apart than this follow each other closely, in microseconds.
const HYSTART_ACK_DELTA_US: u32 = 2_000;
/// So many round trips tell how long one is.
const HYSTART_MIN_SAMPLES: u8 = 8;
/// So much longer than the least it must be at least, and need be at most, in microseconds.
const HYSTART_DELAY_THRESH: (u32, u32) = (4_000, 16_000);

/// Registers under this.
///
/// linux: net/ipv4/tcp_cubic.c:cubictcp
pub const CUBICTCP: TcpCa =
    TcpCa { name: "cubic", make: || Box::<Bictcp>::default(), restricted: false };

/// What CUBIC remembers of a connection.
///
/// linux: net/ipv4/tcp_cubic.c:bictcp
#[derive(Clone, Debug, Default)]
pub struct Bictcp {
    /// Segments acknowledged for each that the window grows by.
    cnt: u32,
    /// The window before the last loss, or less where others are to have room; 0: nothing was lost.
    last_max_cwnd: u32,
    /// The window at the last update.
    last_cwnd: u32,
    /// The jiffy of the last update.
    last_time: u64,
    /// Where the cubic function is flat.
    bic_origin_point: u32,
    /// The time from the begin of the epoch until then, in units of 2^-10 s.
    bic_k: u32,
    /// The least round trip seen, in microseconds; 0: none yet.
    delay_min: u32,
    /// The jiffy at which the cubic function began; `None`: with the next update.
    epoch_start: Option<u64>,
    /// Segments acknowledged since Reno's window last grew.
    ack_cnt: u32,
    /// The window that Reno would have.
    tcp_cwnd: u32,
    /// HyStart's round: it has its answer.
    found: bool,
    /// Round trips seen in it.
    sample_cnt: u8,
    /// The microsecond at which it began.
    round_start: u32,
    /// The sequence number that ends it.
    end_seq: u32,
    /// The microsecond of the last acknowledgement that closely followed another.
    last_ack: u32,
    /// The least round trip in it.
    curr_rtt: u32,
}

/// The integer part of a cube root.
///
/// linux: net/ipv4/tcp_cubic.c:cubic_root
fn cubic_root(a: u64) -> u32 {
    // From the highest bit down: a bit stays if the cube stays within `a`.
    (0..22).rev().fold(0_u64, |root, bit| {
        let next = root | 1 << bit;
        if u128::from(next).pow(3) <= u128::from(a) { next } else { root }
    }) as u32
}

/// linux: net/ipv4/tcp_cubic.c:bictcp_clock_us
fn bictcp_clock_us(tp: &TcpCong) -> u32 {
    (tp.now.as_nanos() / 1000) as u32
}

/// What a packet of many segments may be held up by on its way to the wire, in microseconds: four of the
/// longest at the pace, a millisecond at the most.
///
/// linux: net/ipv4/tcp_cubic.c:hystart_ack_delay
fn hystart_ack_delay(tp: &TcpCong) -> u32 {
    (u64::from(GSO_MAX_SIZE) * 4 * 1_000_000).checked_div(tp.pacing_rate).unwrap_or(0).min(1000)
        as u32
}

impl Bictcp {
    /// linux: net/ipv4/tcp_cubic.c:bictcp_reset
    fn bictcp_reset(&mut self) {
        let Self { sample_cnt, round_start, end_seq, last_ack, curr_rtt, .. } = *self;
        *self = Self { sample_cnt, round_start, end_seq, last_ack, curr_rtt, ..Self::default() };
    }

    /// A round trip of slow start begins.
    ///
    /// linux: net/ipv4/tcp_cubic.c:bictcp_hystart_reset
    fn bictcp_hystart_reset(&mut self, tp: &TcpCong) {
        let now = bictcp_clock_us(tp);
        (self.round_start, self.last_ack, self.end_seq) = (now, now, tp.snd_nxt);
        (self.curr_rtt, self.sample_cnt) = (u32::MAX, 0);
    }

    /// Looks whether the way is full.
    ///
    /// linux: net/ipv4/tcp_cubic.c:hystart_update
    fn hystart_update(&mut self, tp: &mut TcpCong, delay: u32) {
        if (tp.snd_una.wrapping_sub(self.end_seq) as i32) > 0 {
            self.bictcp_hystart_reset(tp);
        }
        if tp.snd_cwnd < HYSTART_LOW_WINDOW {
            return;
        }
        if self.ack_train(tp) {
            tp.hystart |= Hystart::ACK_TRAIN;
        }
        if self.longer_delay(delay) {
            tp.hystart |= Hystart::DELAY;
        }
        if !tp.hystart.is_empty() {
            self.found = true;
            tp.snd_ssthresh = tp.snd_cwnd;
        }
    }

    /// The acknowledgements of this round trip have followed each other for so long that the way has no room
    /// between them.
    fn ack_train(&mut self, tp: &TcpCong) -> bool {
        let now = bictcp_clock_us(tp);
        if now.wrapping_sub(self.last_ack) > HYSTART_ACK_DELTA_US {
            return false;
        }
        self.last_ack = now;
        let mut threshold = self.delay_min.saturating_add(hystart_ack_delay(tp));
        // Segments that leave at a pace come back spread over half a round trip anyway.
        if tp.pacing.is_none() {
            threshold >>= 1;
        }
        now.wrapping_sub(self.round_start) > threshold
    }

    /// The least of this round trip's delays is longer than the least of all.
    fn longer_delay(&mut self, delay: u32) -> bool {
        self.curr_rtt = self.curr_rtt.min(delay);
        if self.sample_cnt < HYSTART_MIN_SAMPLES {
            self.sample_cnt += 1;
            return false;
        }
        let (least, most) = HYSTART_DELAY_THRESH;
        let threshold = (self.delay_min >> 3).clamp(least, most);
        self.curr_rtt > self.delay_min.saturating_add(threshold)
    }

    /// An epoch begins: where the function is flat, and when.
    fn begin_epoch(&mut self, now: u64, cwnd: u32, acked: u32) {
        self.epoch_start = Some(now);
        self.ack_cnt = acked;
        self.tcp_cwnd = cwnd;
        let below = self.last_max_cwnd.saturating_sub(cwnd);
        self.bic_k = cubic_root(CUBE_FACTOR * u64::from(below));
        self.bic_origin_point = self.last_max_cwnd.max(cwnd);
    }

    /// The window that the cubic function has a round trip from now.
    ///
    /// RFC 9438 section 4.2: W(t) = C × (t - K)³ + W_max.
    fn bic_target(&self, elapsed: u64) -> u32 {
        let delay = u64::from(self.delay_min).div_ceil(TICK_NSEC / 1000);
        let t = (u128::from(elapsed + delay) << BICTCP_HZ) / u128::from(HZ);
        // Beyond 2^30 units, which are 12 days, the window has long been at its bound.
        let t = t.min(1 << 30) as u64;
        let k = u64::from(self.bic_k);
        let cube = u128::from(t.abs_diff(k)).pow(3) * u128::from(CUBE_RTT_SCALE);
        let delta = u32::try_from(cube >> (10 + 3 * BICTCP_HZ)).unwrap_or(u32::MAX);
        if t < k {
            self.bic_origin_point.saturating_sub(delta)
        } else {
            self.bic_origin_point.saturating_add(delta)
        }
    }

    /// Decides how fast the window grows.
    ///
    /// linux: net/ipv4/tcp_cubic.c:bictcp_update
    fn bictcp_update(&mut self, now: u64, cwnd: u32, acked: u32) {
        self.ack_cnt = self.ack_cnt.saturating_add(acked);
        let since = now.saturating_sub(self.last_time);
        if self.last_cwnd == cwnd && since <= HZ / 32 {
            return;
        }
        // The function is asked once a jiffy, Reno's window each time.
        if self.epoch_start.is_none() || since != 0 {
            self.last_cwnd = cwnd;
            self.last_time = now;
            if self.epoch_start.is_none() {
                self.begin_epoch(now, cwnd, acked);
            }
            let elapsed = now.saturating_sub(self.epoch_start.unwrap_or(now));
            let target = self.bic_target(elapsed);
            self.cnt = if target > cwnd {
                cwnd / (target - cwnd)
            } else {
                // At or above the function: all but standing still.
                cwnd.saturating_mul(100)
            };
            // Without a loss so far there is nothing to be careful about: 5 % a round trip at least.
            if self.last_max_cwnd == 0 {
                self.cnt = self.cnt.min(20);
            }
        }
        self.tcp_friendliness(cwnd);
        // A segment for two acknowledged ones at the most.
        self.cnt = self.cnt.max(2);
    }

    /// Grows at least as fast as Reno would. RFC 9438 section 4.3.
    fn tcp_friendliness(&mut self, cwnd: u32) {
        let delta = u32::try_from((u64::from(cwnd) * BETA_SCALE) >> 3).unwrap_or(u32::MAX).max(1);
        if self.ack_cnt > delta {
            // What is left over is at least one, as with one subtraction after the other.
            let grown = (self.ack_cnt - 1) / delta;
            self.ack_cnt -= grown * delta;
            self.tcp_cwnd = self.tcp_cwnd.saturating_add(grown);
        }
        if self.tcp_cwnd > cwnd {
            self.cnt = self.cnt.min(cwnd / (self.tcp_cwnd - cwnd));
        }
    }
}

impl TcpCongestionOps for Bictcp {
    fn name(&self) -> &'static str {
        "cubic"
    }

    /// linux: net/ipv4/tcp_cubic.c:cubictcp_init
    fn init(&mut self, tp: &mut TcpCong) {
        self.bictcp_reset();
        self.bictcp_hystart_reset(tp);
    }

    /// linux: net/ipv4/tcp_cubic.c:cubictcp_recalc_ssthresh
    fn ssthresh(&mut self, tp: &TcpCong) -> u32 {
        self.epoch_start = None;
        let cwnd = u64::from(tp.snd_cwnd);
        // Lost before the old maximum was reached: there is less room, so leave some (fast convergence).
        self.last_max_cwnd = if tp.snd_cwnd < self.last_max_cwnd {
            (cwnd * (BICTCP_BETA_SCALE + BETA) / (2 * BICTCP_BETA_SCALE)) as u32
        } else {
            tp.snd_cwnd
        };
        ((cwnd * BETA / BICTCP_BETA_SCALE) as u32).max(2)
    }

    /// linux: net/ipv4/tcp_cubic.c:cubictcp_cong_avoid
    fn cong_avoid(&mut self, tp: &mut TcpCong, _ack: u32, mut acked: u32) {
        if !tcp_is_cwnd_limited(tp) {
            return;
        }
        if tcp_in_slow_start(tp) {
            acked = tcp_slow_start(tp, acked);
            if acked == 0 {
                return;
            }
        }
        self.bictcp_update(tp.now.jiffies(), tp.snd_cwnd, acked);
        tcp_cong_avoid_ai(tp, self.cnt, acked);
    }

    /// linux: net/ipv4/tcp_cubic.c:cubictcp_state
    fn set_state(&mut self, _tp: &mut TcpCong, state: TcpCaState) {
        if state == TcpCaState::Loss {
            self.bictcp_reset();
        }
    }

    /// Idleness is not time in which the window may grow: the epoch moves with it.
    ///
    /// linux: net/ipv4/tcp_cubic.c:cubictcp_cwnd_event
    fn cwnd_event(&mut self, tp: &mut TcpCong, event: TcpCaEvent) {
        if event == TcpCaEvent::TxStart
            && let Some(epoch) = self.epoch_start
        {
            let now = tp.now.jiffies();
            let idle = now.saturating_sub(tp.lsndtime.jiffies());
            self.epoch_start = Some((epoch + idle).min(now));
        }
    }

    /// linux: net/ipv4/tcp_cubic.c:cubictcp_acked
    fn pkts_acked(&mut self, tp: &mut TcpCong, sample: &AckSample) {
        let Some(rtt_us) = sample.rtt_us else { return };
        // Right after recovery the queues are not what they will be.
        let now = tp.now.jiffies();
        if self.epoch_start.is_some_and(|epoch| now.saturating_sub(epoch) < HZ) {
            return;
        }
        let delay = rtt_us.max(1);
        if self.delay_min == 0 || self.delay_min > delay {
            self.delay_min = delay;
        }
        if !self.found && tcp_in_slow_start(tp) {
            self.hystart_update(tp, delay);
        }
    }
}

#[cfg(test)]
mod tests;
