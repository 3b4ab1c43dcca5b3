//! The cell behind a CPU's state word: whoever sets `HELD` has the contents to itself.
//!
//! Contexts: all. Key type: [`CpuCell`]. Invariants: one holder; leaving fails while a kick is
//! set, so an interrupt that arrives during a stay is seen by the one who stays; a holder who
//! leaves while somebody waits is told so, and gives way.
#![allow(unsafe_code)]

use super::atomic::{AtomicU32, Ordering};
use super::lockdep::{Held, class};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Somebody is inside.
const HELD: u32 = 1;
/// Somebody outside left word (an interrupt, a remote packet) that the holder must look at.
const KICK: u32 = 2;
/// Somebody waits to enter. Entering takes it away; who still waits says it again.
const WANT: u32 = 4;

/// Exclusive contents under one state word: one locked instruction to enter, one to leave.
pub struct CpuCell<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the contents are reached only through `CpuHeld`, of which at most one exists at a time
// (HELD is set by a compare-and-swap with Acquire and cleared by one with Release), so sharing the
// cell only ever moves exclusive access between threads: `T: Send` is what that needs.
unsafe impl<T: Send> Sync for CpuCell<T> {}

/// The stay of one holder.
pub struct CpuHeld<'a, T> {
    cell: &'a CpuCell<T>,
    _held: Held,
}

/// How leaving can end otherwise than unnoticed.
pub enum Left<'a, T> {
    /// Not left: a kick came in and is taken. Look at what is pending, then leave again.
    Kicked(CpuHeld<'a, T>),
    /// Left, and somebody waits to enter: [`CpuCell::give_way`] before entering again.
    Wanted,
}

impl<T> CpuCell<T> {
    /// An empty cell around `value`.
    pub fn new(value: T) -> Self {
        Self { state: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// The contents, when nobody else can be inside.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Enters if nobody is inside. Whoever enters has seen the kick and owns what is pending.
    #[inline]
    pub fn try_enter(&self) -> Option<CpuHeld<'_, T>> {
        let held = Held::acquire::<class::Cpu>();
        let mut seen = self.state.load(Ordering::Relaxed);
        // A kick may come between the look and the exchange; nothing else changes a free word.
        while seen & HELD == 0 {
            let entered =
                self.state.compare_exchange(seen, HELD, Ordering::Acquire, Ordering::Relaxed);
            match entered {
                Ok(_) => return Some(CpuHeld { cell: self, _held: held }),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Enters, calling `relax` with a growing count while somebody else is inside.
    ///
    /// The wait is announced ([`CpuCell::wanted`]), so that a runner ends its batch.
    #[inline]
    pub fn enter(&self, relax: impl FnMut(u32)) -> CpuHeld<'_, T> {
        match self.try_enter() {
            Some(held) => held,
            None => self.enter_contended(relax),
        }
    }

    #[cold]
    #[inline(never)]
    fn enter_contended(&self, mut relax: impl FnMut(u32)) -> CpuHeld<'_, T> {
        let mut spins = 0;
        loop {
            if self.state.load(Ordering::Relaxed) & WANT == 0 {
                self.state.fetch_or(WANT, Ordering::Relaxed);
            }
            if let Some(held) = self.try_enter() {
                return held;
            }
            relax(spins);
            spins = spins.saturating_add(1);
        }
    }

    /// Somebody waits to enter.
    #[inline]
    pub fn wanted(&self) -> bool {
        self.state.load(Ordering::Relaxed) & WANT != 0
    }

    /// Stays out until one of those who wait is in, as long as `relax`, called with a growing count,
    /// says so. A holder who came back at once would take the CPU again before they see it free.
    pub fn give_way(&self, mut relax: impl FnMut(u32) -> bool) {
        let mut spins = 0;
        while self.state.load(Ordering::Relaxed) & (HELD | WANT) == WANT && relax(spins) {
            spins += 1;
        }
    }

    /// Leaves word for the holder, or for the next one. True when nobody was inside and no word
    /// lay there yet: then somebody must be woken to look.
    #[inline]
    pub fn kick(&self) -> bool {
        self.state.fetch_or(KICK, Ordering::AcqRel) & (HELD | KICK) == 0
    }

    /// Word lies here and nobody is inside.
    pub fn kicked_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) & (HELD | KICK) == KICK
    }
}

impl<'a, T> CpuHeld<'a, T> {
    /// Leaves, unless a kick came in; then the stay goes on with the kick taken.
    ///
    /// # Errors
    /// [`Left`]: what there is to do before, or after.
    #[inline]
    pub fn leave(self) -> Result<(), Left<'a, T>> {
        match self.cell.state.compare_exchange(HELD, 0, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                self.left();
                Ok(())
            }
            Err(state) => Err(self.leave_noticed(state)),
        }
    }

    #[cold]
    fn leave_noticed(self, mut state: u32) -> Left<'a, T> {
        loop {
            if state & KICK != 0 {
                self.cell.state.fetch_and(!KICK, Ordering::Acquire);
                return Left::Kicked(self);
            }
            let left = state & !HELD;
            match self.cell.state.compare_exchange(
                state,
                left,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.left();
                    return Left::Wanted;
                }
                Err(now) => state = now,
            }
        }
    }

    /// The word is free already: dropping must not free it for somebody else.
    #[inline]
    fn left(self) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so `_held` is read out once and dropped here.
        drop(unsafe { std::ptr::read(&this._held) });
    }
}

impl<T> Deref for CpuHeld<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a `CpuHeld` exists only while HELD is set by its own entry, and there is one;
        // the borrow of `self` keeps `deref_mut` away.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for CpuHeld<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for CpuHeld<'_, T> {
    /// Leaves for good, keeping a kick for the next one: only an unwinding stay ends here.
    fn drop(&mut self) {
        self.cell.state.fetch_and(!HELD, Ordering::Release);
    }
}

impl<T> fmt::Debug for CpuCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuCell({:#x})", self.state.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuCell, Left};
    use std::sync::Arc;

    /// Would lose counts, and fail under any sanitizer, if two threads were ever inside.
    #[test]
    fn one_holder_at_a_time() {
        let cell = Arc::new(CpuCell::new(0_u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let cell = Arc::clone(&cell);
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        let mut held = cell.enter(|_| std::thread::yield_now());
                        let before = *held;
                        std::hint::black_box(&mut *held);
                        *held = before + 1;
                        assert!(!matches!(held.leave(), Err(Left::Kicked(_))));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }
        assert_eq!(*cell.enter(|_| ()), 80_000);
    }

    #[test]
    fn a_kick_during_the_stay_keeps_the_holder_in() {
        let cell = CpuCell::new(());
        let held = cell.enter(|_| ());
        assert!(!cell.kick(), "somebody is inside: nobody needs waking");
        let Err(Left::Kicked(held)) = held.leave() else { panic!("the kick holds it in") };
        assert!(held.leave().is_ok());
        assert!(cell.kick(), "nobody inside: somebody must be woken");
        assert!(!cell.kick(), "word already lies there");
        assert!(cell.kicked_idle());
        assert!(cell.enter(|_| ()).leave().is_ok(), "entering takes the kick");
    }

    /// One thread comes back as soon as it has left; the other gets in all the same, and is waited for.
    #[test]
    fn who_leaves_gives_way_to_who_waits() {
        let cell = Arc::new(CpuCell::new(0_u32));
        let theirs = Arc::clone(&cell);
        // Inside before there is a waiter, who would otherwise be done before he has to wait.
        let mut first = Some(cell.enter(|_| std::thread::yield_now()));
        let waiter = std::thread::spawn(move || {
            for _ in 0..100 {
                let mut held = theirs.enter(|_| std::thread::yield_now());
                *held += 1;
                assert!(!matches!(held.leave(), Err(Left::Kicked(_))));
            }
        });
        let mut gave_way = 0;
        while !waiter.is_finished() {
            let held = first.take().unwrap_or_else(|| cell.enter(|_| std::thread::yield_now()));
            while !cell.wanted() && !waiter.is_finished() {
                std::thread::yield_now();
            }
            let before = *held;
            if let Err(Left::Wanted) = held.leave() {
                cell.give_way(|_| {
                    std::thread::yield_now();
                    true
                });
                let held = cell.enter(|_| std::thread::yield_now());
                assert!(*held > before, "the one who waited was let in");
                assert!(!matches!(held.leave(), Err(Left::Kicked(_))));
                gave_way += 1;
            }
        }
        waiter.join().expect("no panic");
        assert!(gave_way > 0);
    }

    #[test]
    fn an_unwinding_stay_frees_the_cpu() {
        let cell = CpuCell::new(());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = cell.enter(|_| ());
            panic!("inside");
        }));
        assert!(caught.is_err());
        assert!(cell.try_enter().is_some());
    }
}
