//! What can be set of the discipline, as `tc qdisc replace dev … root fq …` does.

use crate::net::sched::sch_api::{QdiscError, Words, told_rate, told_time};
use std::fmt;
use std::time::Duration;

/// Octets of a full frame (`psched_mtu`).
const PSCHED_MTU: u32 = 1514;
/// A quantum's most octets.
const MOST_QUANTUM: u64 = 1 << 20;
/// Times are told the kernel in 32 bits of microseconds.
const MOST_TIME: Duration = Duration::from_micros(u32::MAX as u64);
/// And the timer's slack in as many of nanoseconds.
const MOST_SLACK: Duration = Duration::from_nanos(u32::MAX as u64);

/// What becomes of a packet whose time is beyond the horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// It is dropped.
    #[default]
    Drop,
    /// It leaves at the horizon.
    Cap,
}

/// What can be set.
///
/// linux: net/sched/sch_fq.c:fq_sched_data (its parameters), include/uapi/linux/pkt_sched.h (`TCA_FQ_*`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FqParams {
    /// `limit`: packets of a band.
    pub limit: u32,
    /// `flow_limit`: packets of a flow.
    pub flow_limit: u32,
    /// `orphan_mask`: what of the hash of a packet without a socket tells flows apart.
    pub orphan_mask: u32,
    /// `pacing`, or `nopacing`: flows have rates.
    pub pacing: bool,
    /// `quantum`: octets of a turn; not 0.
    pub quantum: u32,
    /// `initial_quantum`: octets of a new flow's first turn.
    pub initial_quantum: u32,
    /// `maxrate`: octets a second of a flow at the most; `None`: as its socket says.
    pub max_rate: Option<u32>,
    /// `low_rate_threshold`: octets a second up to which each packet waits for the next.
    pub low_rate_threshold: u32,
    /// `refill_delay`: a flow that was silent for so long has a whole turn again.
    pub flow_refill_delay: Duration,
    /// `ce_threshold`: what leaves so much later than it should is marked; `None`: nothing is.
    pub ce_threshold: Option<Duration>,
    /// `timer_slack`: the timer may be so late. Ours is never on purpose.
    pub timer_slack: Duration,
    /// `horizon`: a packet's time is no farther ahead.
    pub horizon: Duration,
    /// `horizon_drop`, or `horizon_cap`: else.
    pub beyond: Beyond,
}

impl Default for FqParams {
    /// linux: net/sched/sch_fq.c:fq_init
    fn default() -> Self {
        Self {
            limit: 10_000,
            flow_limit: 100,
            orphan_mask: 1024 - 1,
            pacing: true,
            quantum: 2 * PSCHED_MTU,
            initial_quantum: 10 * PSCHED_MTU,
            max_rate: None,
            low_rate_threshold: 550_000 / 8,
            flow_refill_delay: Duration::from_millis(40),
            ce_threshold: None,
            timer_slack: Duration::from_micros(10),
            horizon: Duration::from_secs(10),
            beyond: Beyond::Drop,
        }
    }
}

impl FqParams {
    /// These, but for what the words say.
    ///
    /// # Errors
    /// Which of them says nothing, or what can't be.
    ///
    /// linux: net/sched/sch_fq.c:fq_change
    pub(in crate::net::sched) fn changed(
        mut self,
        mut words: Words<'_>,
    ) -> Result<Self, QdiscError> {
        const ANY: std::ops::RangeInclusive<u64> = 0..=u32::MAX as u64;
        while let Some(option) = words.next_option() {
            match option {
                "limit" => self.limit = words.number(ANY)?,
                "flow_limit" => self.flow_limit = words.number(ANY)?,
                "orphan_mask" => self.orphan_mask = words.number(ANY)?,
                "pacing" => self.pacing = true,
                "nopacing" => self.pacing = false,
                "quantum" => self.quantum = words.number(1..=MOST_QUANTUM)?,
                "initial_quantum" => self.initial_quantum = words.number(0..=i32::MAX as u64)?,
                // The greatest that can be told is none.
                "maxrate" => self.max_rate = Some(words.rate()?).filter(|rate| *rate != u32::MAX),
                "low_rate_threshold" => self.low_rate_threshold = words.rate()?,
                "refill_delay" => self.flow_refill_delay = words.time(MOST_TIME)?,
                "ce_threshold" => {
                    self.ce_threshold = Some(words.time(MOST_TIME)?).filter(|at| *at != MOST_TIME);
                }
                "timer_slack" => self.timer_slack = words.time_ns(MOST_SLACK)?,
                "horizon" => self.horizon = words.time(MOST_TIME)?,
                "horizon_drop" => self.beyond = Beyond::Drop,
                "horizon_cap" => self.beyond = Beyond::Cap,
                _ => return Err(words.unknown(OPTIONS)),
            }
        }
        Ok(self)
    }

    /// Octets a second that a flow may have whose socket allows `own`; `u64::MAX`: any.
    pub(super) fn rate(&self, own: u64) -> u64 {
        self.max_rate.map_or(own, |most| own.min(most.into()))
    }
}

/// All options, for who writes another.
const OPTIONS: &str = "limit, flow_limit, orphan_mask, pacing, nopacing, quantum, initial_quantum, maxrate, \
    low_rate_threshold, refill_delay, ce_threshold, timer_slack, horizon, horizon_drop, horizon_cap";

impl fmt::Display for FqParams {
    /// As `tc qdisc show` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, flow_limit, orphan_mask, quantum, initial_quantum, .. } = self;
        write!(f, "limit {limit}p flow_limit {flow_limit}p orphan_mask {orphan_mask} ")?;
        if !self.pacing {
            f.write_str("nopacing ")?;
        }
        write!(f, "quantum {quantum}b initial_quantum {initial_quantum}b ")?;
        if let Some(rate) = self.max_rate {
            write!(f, "maxrate {} ", told_rate(rate))?;
        }
        let threshold = told_rate(self.low_rate_threshold);
        let refill = told_time(self.flow_refill_delay);
        write!(f, "low_rate_threshold {threshold} refill_delay {refill} ")?;
        if let Some(threshold) = self.ce_threshold {
            write!(f, "ce_threshold {} ", told_time(threshold))?;
        }
        let (slack, horizon) = (told_time(self.timer_slack), told_time(self.horizon));
        let beyond = if self.beyond == Beyond::Drop { "horizon_drop" } else { "horizon_cap" };
        write!(f, "timer_slack {slack} horizon {horizon} {beyond}")
    }
}
