//! The two clocks a machine reads.

use rustix::time::{ClockId, Timespec, clock_gettime};

const NSEC_PER_SEC: u64 = 1_000_000_000;

/// Nanoseconds of a clock that never goes backwards. Never 0: timers use that for "not armed".
#[must_use]
#[inline]
pub fn monotonic_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic)).max(1)
}

/// Wall-clock nanoseconds since 1970; a clock set to before that reads 0.
#[must_use]
#[inline]
pub fn realtime_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Realtime))
}

fn to_ns(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(NSEC_PER_SEC).saturating_add(time.tv_nsec as u64)
}

/// The moment `ns` of the monotonic clock, as the system wants it told.
pub(crate) fn to_timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NSEC_PER_SEC) as i64, tv_nsec: (ns % NSEC_PER_SEC) as _ }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn monotonic_time_does_not_go_back() {
        let mut last = monotonic_ns();
        assert!(last > 0);
        for _ in 0..1000 {
            let now = monotonic_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn realtime_lies_between_two_readings_of_std() {
        let std_ns = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let (before, ours, after) = (std_ns(), realtime_ns(), std_ns());
        assert!(before <= ours && ours <= after, "{before} {ours} {after}");
    }

    #[test]
    fn times_before_1970_and_beyond_u64_are_clamped() {
        assert_eq!(to_ns(Timespec { tv_sec: -5, tv_nsec: 7 }), 7);
        assert_eq!(to_ns(Timespec { tv_sec: i64::MAX, tv_nsec: 7 }), u64::MAX);
        let t = to_timespec(3_000_000_004);
        assert_eq!((t.tv_sec, t.tv_nsec), (3, 4));
    }
}
