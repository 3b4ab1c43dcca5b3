//! Locks with a class and a rank, and the cell behind a CPU's state word.
//!
//! linux: kernel/locking (3.10: kernel/spinlock.c, kernel/lockdep.c).
//! Key types: [`SpinLock`], [`lockdep::LockClass`], [`cpu_cell::CpuCell`].
//! Invariant: no lock is held over an upward call, a wake-up or I/O.

pub mod cpu_cell;
pub mod lockdep;

use lockdep::{Held, LockClass};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock of class `C`: short critical sections, taken in ascending rank (checked in debug builds).
///
/// A panic while the lock is held poisons it; [`SpinLock::lock`] goes on with the value as it
/// stands, for callers whose data is valid at every step. [`SpinLock::lock_or_repair`] is for the
/// others.
///
/// ```
/// use stack::kernel::locking::{SpinLock, lockdep::class};
/// let counter: SpinLock<u32, class::Neigh> = SpinLock::new(0);
/// *counter.lock() += 1;
/// assert_eq!(*counter.lock(), 1);
/// ```
pub struct SpinLock<T, C: LockClass> {
    inner: Mutex<T>,
    class: std::marker::PhantomData<fn() -> C>,
}

/// Permission to use what a [`SpinLock`] protects; dropping it unlocks.
pub struct SpinGuard<'a, T> {
    inner: MutexGuard<'a, T>,
    _held: Held,
}

impl<T, C: LockClass> SpinLock<T, C> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { inner: Mutex::new(value), class: std::marker::PhantomData }
    }

    /// Takes the lock, waiting for its holder.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let held = Held::acquire::<C>();
        SpinGuard { inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner), _held: held }
    }

    /// Takes the lock; after a panic under it, clears the poison and lets `repair` mend the value.
    #[inline]
    pub fn lock_or_repair(&self, repair: impl FnOnce(&mut T)) -> SpinGuard<'_, T> {
        let held = Held::acquire::<C>();
        let inner = self.inner.lock().unwrap_or_else(|poisoned| {
            let mut guard = poisoned.into_inner();
            repair(&mut guard);
            self.inner.clear_poison();
            guard
        });
        SpinGuard { inner, _held: held }
    }

    /// The value, when nobody else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
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

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
