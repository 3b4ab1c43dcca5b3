//! The word of a [`SpinLock`](super::SpinLock): one locked instruction to take it, a plain store to
//! give it back.
//!
//! linux: include/linux/spinlock_types.h (`arch_spinlock_t`). Contexts: all.
//! A mutex that can put its waiters to sleep needs a second locked instruction, at unlock, to find out
//! whether one sleeps: 8 ns of a packet's 120 for each lock on its path. Sections under these locks
//! are short and never sleep, so a waiter looks again, and lets others run when that takes long:
//! the holder may have lost its processor.
#![allow(unsafe_code)]

use lock_api::{GuardNoSend, RawMutex};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looks, each twice as long as the one before, until waiting means yielding.
const LOOKS: u32 = 6;

/// Held or free.
pub(super) struct RawSpinLock(AtomicBool);

// SAFETY: `lock` and `try_lock` succeed only by changing the word from free to held in one exchange
// with Acquire, and only `unlock`, which the holder alone may call, stores free, with Release: so
// there is one holder, and it sees what the holder before it wrote.
unsafe impl RawMutex for RawSpinLock {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = GuardNoSend;

    #[inline(always)]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_contended();
        }
    }

    #[inline(always)]
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    #[inline(always)]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl RawSpinLock {
    #[cold]
    fn lock_contended(&self) {
        let mut looks = 0;
        loop {
            // Reading alone leaves the holder its cache line.
            while self.0.load(Ordering::Relaxed) {
                if looks < LOOKS {
                    (0..1 << looks).for_each(|_| spin_loop());
                    looks += 1;
                } else {
                    std::thread::yield_now();
                }
            }
            if self.try_lock() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RawSpinLock;
    use lock_api::Mutex;
    use std::sync::Arc;

    /// Would lose counts, and fail under any sanitizer, if two threads were ever inside.
    #[test]
    fn one_holder_at_a_time() {
        let lock: Arc<Mutex<RawSpinLock, u64>> = Arc::default();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        let mut held = lock.lock();
                        let before = *held;
                        std::hint::black_box(&mut *held);
                        *held = before + 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    fn a_held_lock_cannot_be_taken() {
        let lock: Mutex<RawSpinLock, ()> = Mutex::default();
        let held = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(held);
        assert!(lock.try_lock().is_some());
    }

    /// A holder that loses its processor holds up who waits, and nothing breaks.
    #[test]
    fn waiting_for_long_ends_with_the_lock() {
        let lock: Arc<Mutex<RawSpinLock, bool>> = Arc::default();
        let held = lock.lock();
        let waiter = {
            let lock = Arc::clone(&lock);
            std::thread::spawn(move || *lock.lock())
        };
        (0..1000).for_each(|_| std::thread::yield_now());
        let mut held = held;
        *held = true;
        drop(held);
        assert!(waiter.join().expect("no panic"), "it saw what the holder wrote");
    }
}
