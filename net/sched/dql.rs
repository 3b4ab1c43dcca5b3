//! Byte queue limits: how many bytes a driver's ring may hold, found by watching it run empty.
//!
//! linux: lib/dynamic_queue_limits.c, include/linux/netdevice.h (`netdev_tx_sent_queue`).
//! Contexts: BH; sending and completing may be on two CPUs.
//! Invariant: what was completed never exceeds what was queued.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The limit may not fall below two frames, nor rise above what a qdisc's worth of frames needs.
const MIN_LIMIT: u32 = 2 * 1514;
const MAX_LIMIT: u32 = 1 << 20;
/// Completions that leave slack before the limit shrinks.
const HOLD: u32 = 64;

/// The limit and what is in flight, in bytes.
#[derive(Debug)]
pub struct Dql {
    in_flight: AtomicU32,
    limit: AtomicU32,
    /// The limit held back a sender since the last completion.
    limited: AtomicBool,
    lowest_slack: AtomicU32,
    completions: AtomicU32,
}

impl Default for Dql {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(16 * 1514),
            limited: AtomicBool::new(false),
            lowest_slack: AtomicU32::new(u32::MAX),
            completions: AtomicU32::new(0),
        }
    }
}

impl Dql {
    /// `bytes` were given to the device.
    ///
    /// linux: include/linux/netdevice.h:netdev_tx_sent_queue
    #[inline]
    pub fn sent(&self, bytes: u32) {
        let now = self.in_flight.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if now >= self.limit.load(Ordering::Relaxed) {
            self.limited.store(true, Ordering::Relaxed);
        }
    }

    /// The device may take no more.
    #[inline]
    pub fn full(&self) -> bool {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        in_flight != 0 && in_flight >= self.limit.load(Ordering::Relaxed)
    }

    /// `bytes` were sent by the device. True when the limit had closed the queue and it is open
    /// now: wake it.
    ///
    /// linux: include/linux/netdevice.h:netdev_tx_completed_queue
    #[must_use = "true: the queue is to be woken"]
    pub fn completed(&self, bytes: u32) -> bool {
        if bytes == 0 {
            return false;
        }
        let limit = self.limit.load(Ordering::Relaxed);
        // What was in flight at the subtraction itself: a sender that filled the limit a moment
        // before it is seen, and woken.
        let before = self.in_flight.fetch_sub(bytes, Ordering::AcqRel);
        self.adjust(before - bytes, bytes);
        before >= limit && !self.full()
    }

    /// A device that ran empty while senders were held back had too low a limit; one that always
    /// keeps bytes in hand has too high a one.
    fn adjust(&self, left: u32, completed: u32) {
        let limit = self.limit.load(Ordering::Relaxed);
        if left == 0 && self.limited.swap(false, Ordering::Relaxed) {
            self.lowest_slack.store(u32::MAX, Ordering::Relaxed);
            self.completions.store(0, Ordering::Relaxed);
            self.limit.store(limit.saturating_add(completed).min(MAX_LIMIT), Ordering::Relaxed);
            return;
        }
        let slack = self.lowest_slack.fetch_min(left, Ordering::Relaxed).min(left);
        if self.completions.fetch_add(1, Ordering::Relaxed) + 1 >= HOLD {
            self.completions.store(0, Ordering::Relaxed);
            self.lowest_slack.store(u32::MAX, Ordering::Relaxed);
            self.limit.store(limit.saturating_sub(slack).max(MIN_LIMIT), Ordering::Relaxed);
        }
    }

    /// Nothing is in flight: the rings were emptied.
    pub fn reset(&self) {
        self.in_flight.store(0, Ordering::Relaxed);
        self.limited.store(false, Ordering::Relaxed);
    }

    /// Bytes that may be in flight.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starved_device_gets_more() {
        let dql = Dql::default();
        let before = dql.limit();
        dql.sent(before);
        assert!(dql.full());
        assert!(dql.completed(before), "the queue is to be woken");
        assert!(dql.limit() > before);
    }

    #[test]
    fn a_device_with_bytes_in_hand_gets_less_but_never_too_little() {
        let dql = Dql::default();
        dql.sent(10_000);
        for _ in 0..10_000 {
            dql.sent(100);
            let _ = dql.completed(100);
        }
        assert_eq!(dql.limit(), MIN_LIMIT);
    }

    #[test]
    fn an_empty_device_is_never_full() {
        let dql = Dql::default();
        assert!(!dql.full());
        dql.sent(MAX_LIMIT);
        dql.reset();
        assert!(!dql.full());
    }
}
