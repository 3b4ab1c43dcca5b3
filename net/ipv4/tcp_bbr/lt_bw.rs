//! Policers: a way that takes more for a while and then throws away what is above its rate.
//!
//! linux: net/ipv4/tcp_bbr.c (`bbr_lt_bw_sampling`). Over stretches of some round trips that begin and end with a
//! loss the bandwidth is measured; two such stretches in a row with many losses and the same bandwidth show a
//! policer, and the pace is its rate for a while.

use super::*;

/// A stretch has so many round trips at least, and four times as many at the most.
const LT_INTVL_MIN_RTTS: u8 = 4;
/// In 1/256 of what was delivered, so much is lost at least.
const LT_LOSS_THRESH: u64 = 50;
/// Two stretches are alike when they differ by an eighth at the most …
const LT_BW_RATIO: u64 = BBR_UNIT as u64 / 8;
/// … or by so many octets a second.
const LT_BW_DIFF: u64 = 4000 / 8;
/// The rate found is kept to for so many round trips.
const LT_BW_MAX_RTTS: u8 = 48;

/// What is known of a policer.
#[derive(Clone, Debug, Default)]
pub(super) struct LtBw {
    is_sampling: bool,
    use_bw: bool,
    /// Round trips of the stretch, or with the rate found.
    rtt_cnt: u8,
    /// The bandwidth of the last stretch; zero: there was none.
    bw: u32,
    /// When the stretch began, and what had been delivered and lost by then.
    last_stamp: Ktime,
    last_delivered: u32,
    last_lost: u32,
}

impl LtBw {
    /// The rate of a policer, if one was found.
    pub(super) fn used(&self) -> Option<u32> {
        self.use_bw.then_some(self.bw)
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_reset_lt_bw_sampling_interval
    fn reset_interval(&mut self, tp: &TcpCong) {
        self.last_stamp = tp.delivered_mstamp;
        (self.last_delivered, self.last_lost) = (tp.delivered, tp.lost);
        self.rtt_cnt = 0;
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_reset_lt_bw_sampling
    pub(super) fn bbr_reset_lt_bw_sampling(&mut self, tp: &TcpCong) {
        *self = Self::default();
        self.reset_interval(tp);
    }

    /// A stretch of this bandwidth is over; true when it is like the one before.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_lt_bw_interval_done
    fn interval_done(&mut self, tp: &TcpCong, bw: u32) -> bool {
        if self.bw != 0 {
            let diff = bw.abs_diff(self.bw);
            let ratio = u64::from(diff) * u64::from(BBR_UNIT) <= LT_BW_RATIO * u64::from(self.bw);
            if ratio || bbr_rate_bytes_per_sec(tp, diff, BBR_UNIT) <= LT_BW_DIFF {
                self.bw = ((u64::from(bw) + u64::from(self.bw)) / 2) as u32;
                (self.use_bw, self.rtt_cnt) = (true, 0);
                return true;
            }
        }
        self.bw = bw;
        self.reset_interval(tp);
        false
    }

    /// The bandwidth of the stretch until now, if it was long enough and enough was lost.
    fn of_interval(&mut self, tp: &TcpCong) -> Option<u32> {
        let lost = u64::from(tp.lost.wrapping_sub(self.last_lost));
        let delivered = u64::from(tp.delivered.wrapping_sub(self.last_delivered));
        if delivered == 0 || lost << BBR_SCALE < LT_LOSS_THRESH * delivered {
            return None;
        }
        let millis = tp.delivered_mstamp.us_since(self.last_stamp) / 1000;
        if millis == 0 {
            return None;
        }
        if millis >= u64::from(u32::MAX) / 1000 {
            self.bbr_reset_lt_bw_sampling(tp);
            return None;
        }
        u32::try_from(delivered * BW_UNIT / (millis * 1000)).ok()
    }
}

impl Bbr {
    /// linux: net/ipv4/tcp_bbr.c:bbr_lt_bw_sampling
    pub(super) fn bbr_lt_bw_sampling(&mut self, tp: &TcpCong, rs: &RateSample) {
        if self.lt.use_bw {
            if self.mode == Mode::ProbeBw && self.round_start {
                self.lt.rtt_cnt += 1;
                if self.lt.rtt_cnt >= LT_BW_MAX_RTTS {
                    self.lt.bbr_reset_lt_bw_sampling(tp);
                    self.bbr_reset_probe_bw_mode(tp);
                }
            }
            return;
        }
        // From the first loss on: before it the policer let pass more.
        if !self.lt.is_sampling {
            if rs.losses == 0 {
                return;
            }
            self.lt.reset_interval(tp);
            self.lt.is_sampling = true;
        }
        if rs.is_app_limited {
            return self.lt.bbr_reset_lt_bw_sampling(tp);
        }
        self.lt.rtt_cnt += u8::from(self.round_start);
        if self.lt.rtt_cnt < LT_INTVL_MIN_RTTS {
            return;
        }
        if self.lt.rtt_cnt > 4 * LT_INTVL_MIN_RTTS {
            return self.lt.bbr_reset_lt_bw_sampling(tp);
        }
        // To a loss, too.
        if rs.losses != 0
            && let Some(bw) = self.lt.of_interval(tp)
            && self.lt.interval_done(tp, bw)
        {
            self.pacing_gain = BBR_UNIT;
        }
    }
}
