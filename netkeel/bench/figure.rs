//! Counting, timing, and what many runs say together.
//!
//! Key types: [`Sample`] (of a run), [`Spread`] (of several), [`Host`] (where). Contexts: the measured end's thread.

use super::BenchError;
use host::clock::monotonic_ns;
use std::fs;
use std::time::Duration;

/// Between looks at the clock.
const LOOKS: u64 = 64;
/// The same for calls that move more.
const FLOW_LOOKS: u32 = 8;
/// Datagrams and round trips before those that count.
const WARM_UP: u32 = 200;
/// When nothing comes in so long, something is wrong.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// What a run of a row measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Datagrams a second, or nanoseconds of the median round trip.
    pub(super) value: f64,
    /// Nanoseconds within which 99 of 100 round trips were over.
    pub(super) p99: f64,
}

impl Sample {
    /// Of one who is not there.
    pub(super) const NONE: Self = Self { value: f64::NAN, p99: f64::NAN };

    pub(super) fn rate(count: u64, time: Duration) -> Self {
        Self { value: count as f64 / time.as_secs_f64(), p99: 0.0 }
    }

    pub(super) fn trips(mut ns: Vec<u64>) -> Self {
        ns.sort_unstable();
        let at = |part: f64| ns[((ns.len() - 1) as f64 * part) as usize] as f64;
        Self { value: at(0.5), p99: at(0.99) }
    }
}

/// A figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of at least one.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |n: usize| sorted.get(n).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(sorted.len() / 2), most: at(sorted.len().max(1) - 1) }
    }
}

/// The machine that all this holds for.
pub(super) struct Host {
    pub(super) kernel: String,
    pub(super) congestion_control: String,
    pub(super) governor: String,
    pub(super) processors: usize,
}

impl Host {
    pub(super) fn read() -> Self {
        let file = |path: &str| {
            fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
        };
        Self {
            kernel: file("/proc/sys/kernel/osrelease"),
            congestion_control: file("/proc/sys/net/ipv4/tcp_congestion_control"),
            governor: file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            processors: host::netns::processors().len(),
        }
    }
}

/// How long one who waits does so, before it is taken for silence.
pub(super) struct Patience {
    spins: bool,
    looks: u32,
    until: Option<u64>,
}

impl Patience {
    pub(super) fn new(spins: bool) -> Self {
        Self { spins, looks: 0, until: None }
    }

    /// There was nothing once more: whether that is enough. Who does not spin has waited for it; who does
    /// looks at the clock now and then only, for that costs as much as looking for a datagram.
    pub(super) fn ended(&mut self) -> bool {
        self.looks += 1;
        if !self.spins || !self.looks.is_multiple_of(1024) {
            return !self.spins;
        }
        let now = monotonic_ns();
        now > *self.until.get_or_insert(now + SILENCE.as_nanos() as u64)
    }
}

/// How often `once` can be done in a second, counted for `time` after some that do not count.
pub(super) fn count(
    time: Duration,
    mut once: impl FnMut() -> Result<(), BenchError>,
) -> Result<Sample, BenchError> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let began = monotonic_ns();
    let mut done = 0;
    loop {
        for _ in 0..LOOKS {
            once()?;
        }
        done += LOOKS;
        let passed = Duration::from_nanos(monotonic_ns() - began);
        if passed >= time {
            return Ok(Sample::rate(done, passed));
        }
    }
}

/// How many octets a second `once`, which tells how many it moved, moves; counted for `time` after a quarter of it
/// that does not count.
pub(super) fn flow(
    time: Duration,
    mut once: impl FnMut() -> Result<usize, BenchError>,
) -> Result<Sample, BenchError> {
    let mut during = |time: Duration| {
        let (began, mut moved) = (monotonic_ns(), 0);
        loop {
            for _ in 0..FLOW_LOOKS {
                moved += once()? as u64;
            }
            let passed = Duration::from_nanos(monotonic_ns() - began);
            if passed >= time {
                return Ok(Sample::rate(moved, passed));
            }
        }
    };
    during(time / 4)?;
    during(time)
}

/// How long each `once` takes.
pub(super) fn round_trips(
    trips: u32,
    mut once: impl FnMut() -> Result<(), BenchError>,
) -> Result<Sample, BenchError> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let mut ns = Vec::with_capacity(trips as usize);
    for _ in 0..trips {
        let began = monotonic_ns();
        once()?;
        ns.push(monotonic_ns() - began);
    }
    Ok(Sample::trips(ns))
}
