//! Locks with a class and a rank, and the cell behind a CPU's state word.
//!
//! linux: kernel/locking (3.10: kernel/spinlock.c, kernel/lockdep.c).
//! Key types: [`SpinLock`], [`lockdep::LockClass`], [`cpu_cell::CpuCell`].
//! Invariant: no lock is held over an upward call, a wake-up or I/O.

pub mod atomic;
pub mod cpu_cell;
pub mod lockdep;
mod raw;

use lock_api::{Mutex, MutexGuard};
use lockdep::{Held, LockClass};
use raw::RawSpinLock;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A lock of class `C`: short critical sections, taken in ascending rank (checked in debug builds).
///
/// After a panic under it the lock is free again, and [`SpinLock::lock`] goes on with the value as it
/// stands: for data that is valid at every step. [`SpinLock::lock_or_repair`] is for the rest, and all
/// of a lock's users take it that way: a panic under it leaves its mark for the next one. Whoever ends while some
/// other panic unwinds would leave one, too: there, and for what is valid at every step alone, `lock` is right.
///
/// ```
/// use stack::kernel::locking::{SpinLock, lockdep::class};
/// let counter: SpinLock<u32, class::Neigh> = SpinLock::new(0);
/// *counter.lock() += 1;
/// assert_eq!(*counter.lock(), 1);
/// ```
// Not `std`'s mutex: that looks for panics at every lock and unlock, a dozen instructions a pair on
// the packet path for what only `lock_or_repair` wants to know, and unlocks by a locked instruction.
pub struct SpinLock<T, C: LockClass> {
    inner: Mutex<RawSpinLock, T>,
    poisoned: AtomicBool,
    class: std::marker::PhantomData<fn() -> C>,
}

/// Permission to use what a [`SpinLock`] protects; dropping it unlocks.
pub struct SpinGuard<'a, T> {
    inner: MutexGuard<'a, RawSpinLock, T>,
    /// Where a panic leaves its mark.
    poisoned: Option<&'a AtomicBool>,
    _held: Held,
}

impl<T, C: LockClass> SpinLock<T, C> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        let poisoned = AtomicBool::new(false);
        Self { inner: Mutex::new(value), poisoned, class: std::marker::PhantomData }
    }

    /// Takes the lock, waiting for its holder.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let held = Held::acquire::<C>();
        SpinGuard { inner: self.inner.lock(), poisoned: None, _held: held }
    }

    /// Takes the lock; after a panic under it, clears the mark and lets `repair` mend the value.
    #[inline]
    pub fn lock_or_repair(&self, repair: impl FnOnce(&mut T)) -> SpinGuard<'_, T> {
        self.lock_or_repair_as::<C>(repair)
    }

    /// The same where another lock of its class may be held, of which it is known that none is taken under this one:
    /// it ranks as `D` then.
    ///
    /// linux: include/linux/spinlock.h:spin_lock_nested
    #[inline]
    pub fn lock_or_repair_as<D: LockClass>(&self, repair: impl FnOnce(&mut T)) -> SpinGuard<'_, T> {
        let held = Held::acquire::<D>();
        let mut inner = self.inner.lock();
        // Written and read by holders alone.
        if self.poisoned.load(Ordering::Relaxed) {
            repair(&mut inner);
            self.poisoned.store(false, Ordering::Relaxed);
        }
        SpinGuard { inner, poisoned: Some(&self.poisoned), _held: held }
    }

    /// The value, when nobody else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T, C: LockClass> fmt::Debug for SpinLock<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpinLock({})", C::NAME)
    }
}

impl<T: Default, C: LockClass> Default for SpinLock<T, C> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(poisoned) = self.poisoned
            && std::thread::panicking()
        {
            poisoned.store(true, Ordering::Relaxed);
        }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::{SpinLock, lockdep::class};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_under_a_lock_is_repaired_once_by_the_next_holder() {
        let lock: SpinLock<u32, class::Sock> = SpinLock::new(1);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut held = lock.lock_or_repair(|_| unreachable!("nothing is broken yet"));
            *held = 2;
            panic!("half done");
        }));
        assert!(caught.is_err());
        assert_eq!(*lock.lock_or_repair(|value| *value = 7), 7);
        assert_eq!(*lock.lock_or_repair(|_| unreachable!("mended already")), 7);
    }

    #[test]
    fn a_plain_lock_is_free_after_a_panic() {
        let lock: SpinLock<u32, class::Neigh> = SpinLock::new(1);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            *lock.lock() = 2;
            let _held = lock.lock();
            panic!("with the lock held");
        }));
        assert!(caught.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
