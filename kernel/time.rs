//! Time as a value: nanoseconds since the machine's clock started, and jiffies.
//!
//! linux: include/linux/ktime.h, include/linux/jiffies.h. Key type: [`Ktime`].
//! Nothing here reads a clock; readings come from [`crate::kernel::machine::Platform::ktime_get`].

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Ticks a second. Jiffies are milliseconds, so two jiffies are the 2 ms of `netdev_budget_usecs`.
pub const HZ: u64 = 1000;

/// Nanoseconds in one jiffy.
pub const TICK_NSEC: u64 = 1_000_000_000 / HZ;

/// A point in monotonic time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ktime(pub u64);

impl Ktime {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);
    /// Later than any reading.
    pub const MAX: Self = Self(u64::MAX);

    /// `s` seconds after the origin.
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000_000)
    }

    /// `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole jiffies since the origin (rounded down).
    pub const fn jiffies(self) -> u64 {
        self.0 / TICK_NSEC
    }

    /// Whole microseconds from `earlier` to `self`, zero if `earlier` is later.
    pub const fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Ktime {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Ktime {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Ktime> for Ktime {
    type Output = Duration;
    fn sub(self, earlier: Ktime) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Ktime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}
