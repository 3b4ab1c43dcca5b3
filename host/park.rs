//! A thread that sleeps until a [`Waker`] wakes it.
//!
//! Key type: [`Parker`]. Contexts: the thread that parks; wakers anywhere.
//! Invariant: a wake-up given while nobody is parked is kept for the next [`Parker::park`];
//! several count as one. A waker calls the system only when somebody is parked.

use crate::clock::to_timespec;
use rustix::io::Errno;
use rustix::thread::futex;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};

const EMPTY: u32 = 0;
const WOKEN: u32 = 1;
const PARKED: u32 = 2;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Somebody woke the thread.
    Woken,
    /// The deadline has come.
    TimedOut,
}

/// A place for one thread at a time to sleep.
#[derive(Debug, Default)]
pub struct Parker {
    word: Arc<Word>,
}

#[derive(Debug, Default)]
struct Word(AtomicU32);

impl Wake for Word {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: what was done before the wake-up is seen by the thread woken.
        if self.0.swap(WOKEN, Ordering::Release) == PARKED {
            // The word lives as long as this Arc, and a wake can't fail on a valid word.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }
}

impl Parker {
    /// A parker nobody has woken yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What wakes the thread parked here; good for any thread, as often as wanted.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.word))
    }

    /// Sleeps until woken, or until the monotonic clock ([`crate::clock::monotonic_ns`]) shows
    /// `deadline`. Signals do not end the sleep.
    pub fn park(&mut self, deadline: Option<u64>) -> Parked {
        let word = &self.word.0;
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        if word.compare_exchange(EMPTY, PARKED, relaxed, relaxed).is_err() {
            // Woken before: `&mut self` keeps any other thread from being parked here.
            word.swap(EMPTY, acquire);
            return Parked::Woken;
        }
        let until = deadline.map(to_timespec);
        loop {
            let slept = futex::wait_bitset(
                word,
                futex::Flags::PRIVATE,
                PARKED,
                until.as_ref(),
                NonZeroU32::MAX,
            );
            match slept {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {
                    if word.compare_exchange(WOKEN, EMPTY, acquire, relaxed).is_ok() {
                        return Parked::Woken;
                    }
                }
                Err(Errno::TIMEDOUT) => {
                    // The wake-up may have come after the time-out.
                    return match word.swap(EMPTY, acquire) {
                        WOKEN => Parked::Woken,
                        _ => Parked::TimedOut,
                    };
                }
                Err(e) => panic!("futex refuses a valid word and a valid time: {e}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_ns;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    #[test]
    fn a_wake_up_before_the_sleep_is_kept_and_counts_once() {
        let mut parker = Parker::new();
        parker.waker().wake_by_ref();
        parker.waker().wake();
        assert_eq!(parker.park(None), Parked::Woken);
        assert_eq!(parker.park(Some(monotonic_ns())), Parked::TimedOut);
    }

    #[test]
    fn a_deadline_is_not_early() {
        let mut parker = Parker::new();
        for wait in [0, 300_000, 3_000_000] {
            let deadline = monotonic_ns() + wait;
            assert_eq!(parker.park(Some(deadline)), Parked::TimedOut);
            assert!(monotonic_ns() >= deadline);
        }
        assert_eq!(parker.park(Some(1)), Parked::TimedOut, "long past");
    }

    #[test]
    fn another_thread_wakes_and_is_seen() {
        let mut parker = Parker::new();
        let turn = Arc::new(AtomicU64::new(0));
        let (mut theirs, our_waker) = (Parker::new(), parker.waker());
        let their_waker = theirs.waker();
        let shared = Arc::clone(&turn);
        let other = thread::spawn(move || {
            for n in 0..2000 {
                while shared.load(Ordering::Relaxed) != 2 * n + 1 {
                    theirs.park(None);
                }
                shared.store(2 * n + 2, Ordering::Relaxed);
                our_waker.wake_by_ref();
            }
        });
        for n in 0..2000 {
            turn.store(2 * n + 1, Ordering::Relaxed);
            their_waker.wake_by_ref();
            while turn.load(Ordering::Relaxed) != 2 * n + 2 {
                parker.park(None);
            }
        }
        other.join().unwrap();
    }

    #[test]
    fn a_waker_outlives_its_parker() {
        let waker = Parker::new().waker();
        waker.wake();
    }
}
