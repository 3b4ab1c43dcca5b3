//! What the stack's files find in the place of the processor and the operating system.

/// Atomics.
pub mod atomic {
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

/// The order of locks is checked where the locks are.
pub mod lockdep {
    /// A lock that is held.
    #[derive(Debug)]
    pub struct Held;

    impl Held {
        pub fn acquire<C>() -> Self {
            Self
        }
    }

    pub mod class {
        pub struct Backlog;
        pub struct Cpu;
        pub struct Depot;
    }
}

/// A lock of a class.
pub struct SpinLock<T, C> {
    inner: loom::sync::Mutex<T>,
    class: std::marker::PhantomData<fn() -> C>,
}

impl<T, C> SpinLock<T, C> {
    pub fn new(value: T) -> Self {
        Self { inner: loom::sync::Mutex::new(value), class: std::marker::PhantomData }
    }

    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.inner.lock().unwrap()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap()
    }
}

impl<T: Default, C> Default for SpinLock<T, C> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Time stands still; a wait with a time-out is over after a while.
pub mod clock {
    pub fn monotonic_ns() -> u64 {
        1
    }

    pub struct Timespec;

    pub(crate) fn to_timespec(_: u64) -> Timespec {
        Timespec
    }
}

/// The set of descriptors: one event descriptor, edge-triggered, and sources that are reported once.
///
/// Of several who wait, whoever comes first has an event: the kernel's preference for the last is not
/// to be needed.
pub mod wait {
    use loom::sync::{Condvar, Mutex};
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Token(pub u64);

    #[derive(Debug)]
    pub struct Waiter {
        set: Mutex<Set>,
        ready: Condvar,
    }

    #[derive(Debug, Default)]
    struct Set {
        woken: bool,
        /// A source is readable, and is to be reported, a bit each.
        readable: u64,
        armed: u64,
    }

    impl Set {
        fn take(&mut self) -> Events {
            let ready = self.readable & self.armed;
            self.armed &= !ready;
            Events { woken: std::mem::take(&mut self.woken), ready }
        }
    }

    impl Waiter {
        pub fn new() -> std::io::Result<Self> {
            Ok(Self { set: Mutex::new(Set::default()), ready: Condvar::new() })
        }

        pub fn wake(&self) {
            self.set.lock().unwrap().woken = true;
            self.ready.notify_one();
        }

        pub fn wait(&self, timeout: Option<Duration>) -> std::io::Result<Events> {
            let mut set = self.set.lock().unwrap();
            loop {
                let events = set.take();
                if !events.is_empty() || timeout == Some(Duration::ZERO) {
                    return Ok(events);
                }
                if timeout.is_some() {
                    // As long as others take for a step, or for many.
                    drop(set);
                    loom::thread::yield_now();
                    return Ok(self.set.lock().unwrap().take());
                }
                set = self.ready.wait(set).unwrap();
            }
        }

        pub fn arm(&self, slot: usize) {
            let mut set = self.set.lock().unwrap();
            set.armed |= 1 << slot;
            if set.readable & 1 << slot != 0 {
                self.ready.notify_one();
            }
        }

        /// The source has something to read from now on; or no more.
        pub fn readable(&self, slot: usize, readable: bool) {
            let mut set = self.set.lock().unwrap();
            if !readable {
                set.readable &= !(1 << slot);
                return;
            }
            set.readable |= 1 << slot;
            if set.armed & 1 << slot != 0 {
                self.ready.notify_one();
            }
        }
    }

    #[derive(Debug)]
    pub struct Events {
        woken: bool,
        ready: u64,
    }

    impl Events {
        pub fn woken(&self) -> bool {
            self.woken
        }

        pub fn is_empty(&self) -> bool {
            !self.woken && self.ready == 0
        }
    }

    impl Iterator for Events {
        type Item = Token;

        fn next(&mut self) -> Option<Token> {
            let slot = self.ready.trailing_zeros();
            self.ready &= self.ready.wrapping_sub(1);
            (slot < 64).then(|| Token(u64::from(slot)))
        }
    }
}

/// The calls to the system.
pub mod rustix {
    pub mod io {
        #[derive(Debug, PartialEq, Eq)]
        pub struct Errno(u8);

        impl Errno {
            pub const AGAIN: Self = Self(0);
            pub const INTR: Self = Self(1);
            pub const TIMEDOUT: Self = Self(2);
        }

        impl std::fmt::Display for Errno {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    }

    pub mod thread {
        pub struct CpuSet;

        impl CpuSet {
            pub fn new() -> Self {
                Self
            }
            pub fn set(&mut self, _: usize) {}
        }

        pub fn sched_setaffinity(_: Option<()>, _: &CpuSet) -> Result<(), ()> {
            Ok(())
        }

        pub fn sched_getcpu() -> usize {
            0
        }

        /// One queue for all words: who is woken for another's looks at his own and waits again.
        pub mod futex {
            use crate::shims::rustix::io::Errno;
            use loom::sync::atomic::{AtomicU32, Ordering};
            use loom::sync::{Condvar, Mutex};
            use std::num::NonZeroU32;

            pub struct Flags;

            impl Flags {
                pub const PRIVATE: Self = Self;
            }

            loom::lazy_static! {
                static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
            }

            pub fn wait_bitset(
                word: &AtomicU32,
                _: Flags,
                expected: u32,
                _: Option<&crate::shims::clock::Timespec>,
                _: NonZeroU32,
            ) -> Result<(), Errno> {
                let held = QUEUE.0.lock().unwrap();
                if word.load(Ordering::SeqCst) != expected {
                    return Err(Errno::AGAIN);
                }
                drop(QUEUE.1.wait(held).unwrap());
                Ok(())
            }

            pub fn wake(_: &AtomicU32, _: Flags, _: u32) -> Result<usize, Errno> {
                let _held = QUEUE.0.lock().unwrap();
                QUEUE.1.notify_all();
                Ok(1)
            }
        }
    }
}
