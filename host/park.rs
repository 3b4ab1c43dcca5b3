//! A thread that sleeps until a [`Waker`] wakes it.
//!
//! Key type: [`Parker`]. Contexts: the thread that parks; wakers anywhere.
//! Invariant: a wake-up given while nobody is parked is kept for the next [`Parker::park`];
//! several count as one. A waker calls the system only when somebody sleeps.

use crate::clock::to_timespec;
use crate::idle::CpuIdle;
use crate::idle::words::{Bed, Call, SleepWord};
use rustix::io::Errno;
use rustix::thread::futex;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Somebody woke the thread.
    Woken,
    /// The deadline has come.
    TimedOut,
}

/// A place for one thread at a time to sleep.
#[derive(Debug)]
pub struct Parker {
    sleeper: Arc<Sleeper>,
    /// The address of what `Sleeper::leads` names: compared, never followed.
    leads: usize,
}

/// What a thread's wakers share with it.
#[derive(Debug)]
struct Sleeper {
    word: SleepWord,
    /// Where it sleeps when it leads. Not kept alive: a thread outlives the machines it was in.
    leads: Mutex<Weak<CpuIdle>>,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.word.wake() {
            Call::Nobody => {}
            // The word lives as long as this Arc, and a wake can't fail on a valid word.
            Call::Parked => {
                let _ = futex::wake(self.word.parked().0, futex::Flags::PRIVATE, 1);
            }
            Call::Leader => {
                let leads = self.leads.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                if let Some(idle) = leads {
                    idle.waiter.wake();
                }
            }
        }
    }
}

impl Default for Parker {
    fn default() -> Self {
        let sleeper = Sleeper { word: SleepWord::new(), leads: Mutex::default() };
        Self { sleeper: Arc::new(sleeper), leads: 0 }
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
        Waker::from(Arc::clone(&self.sleeper))
    }

    /// The word, for the thread that leads this CPU: its wakers end its sleep there.
    pub(crate) fn lead_at(&mut self, idle: &Arc<CpuIdle>) -> &SleepWord {
        // The weak reference keeps the address from being given to another.
        let addr = Arc::as_ptr(idle).addr();
        if std::mem::replace(&mut self.leads, addr) != addr {
            *self.sleeper.leads.lock().unwrap_or_else(PoisonError::into_inner) =
                Arc::downgrade(idle);
        }
        &self.sleeper.word
    }

    /// Sleeps until woken, or until the monotonic clock ([`crate::clock::monotonic_ns`]) shows
    /// `deadline`. Signals do not end the sleep.
    pub fn park(&mut self, deadline: Option<u64>) -> Parked {
        let word = &self.sleeper.word;
        if !word.lie_down(Bed::Parked) {
            // Woken before: `&mut self` keeps any other thread from being parked here.
            word.take_woken();
            return Parked::Woken;
        }
        let until = deadline.map(to_timespec);
        let (futex, parked) = word.parked();
        loop {
            let slept = futex::wait_bitset(
                futex,
                futex::Flags::PRIVATE,
                parked,
                until.as_ref(),
                NonZeroU32::MAX,
            );
            match slept {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {
                    if word.take_woken() {
                        return Parked::Woken;
                    }
                }
                Err(Errno::TIMEDOUT) => {
                    word.get_up();
                    // The wake-up may have come after the time-out.
                    return if word.take_woken() { Parked::Woken } else { Parked::TimedOut };
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
    use std::sync::atomic::{AtomicU64, Ordering};
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
