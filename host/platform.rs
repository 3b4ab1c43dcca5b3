//! What a machine asks of the world beneath it, answered by the operating system.
//!
//! Key types: [`HostPlatform`], `CpuIdle` (where a CPU's thread sleeps). Contexts: any thread.
//! Locks: a CPU's list of sources, a leaf held for a look-up.
//! Invariant: no wake-up is lost. A CPU's thread and all who wake it share one word, changed by
//! read-modify-write alone, so the changes have one order:
//! - the thread says RUNNING *before* it runs the CPU, and goes from RUNNING to ASLEEP after;
//! - whoever left word for the CPU says WOKEN *after* that, and writes the eventfd if he found
//!   ASLEEP.
//!
//! A WOKEN before RUNNING: the run that follows sees the word left. Between RUNNING and ASLEEP:
//! the step to ASLEEP fails and the CPU is run again. After ASLEEP: the eventfd ends the wait, or
//! keeps it from beginning. There is no fourth place. An eventfd written for a thread that woke by
//! itself costs one more run, no more.

use crate::clock::{monotonic_ns, realtime_ns};
use crate::wait::{Token, Waiter};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Platform;
use stack::kernel::time::Ktime;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const RUNNING: u32 = 0;
const ASLEEP: u32 = 1;
const WOKEN: u32 = 2;

/// Sources of interrupts a CPU can have: bits of a word.
const MAX_SOURCES: usize = 64;

/// A descriptor whose events are interrupts of a CPU.
pub(crate) trait IrqSource: Send + Sync {
    /// It was reported: raise the interrupt. Context: the CPU's thread, on no CPU.
    fn fire(&self);
    /// Let it be reported once more; asked for by [`CpuIdle::request_arm`]. Context: any thread.
    fn arm(&self);
}

/// Where the thread of one CPU sleeps, and what wakes it.
pub(crate) struct CpuIdle {
    word: AtomicU32,
    stop: AtomicBool,
    /// How often the thread waited: its system calls while idle.
    waits: AtomicU64,
    /// Sources to be armed before the thread sleeps, a bit each. Beside the CPU, not inside it:
    /// whoever runs the CPU may ask, and who sleeps looks.
    to_arm: AtomicU64,
    sources: Mutex<Vec<Option<Arc<dyn IrqSource>>>>,
    /// The descriptors.
    pub(crate) waiter: Waiter,
}

impl CpuIdle {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            word: AtomicU32::new(RUNNING),
            stop: AtomicBool::new(false),
            waits: AtomicU64::new(0),
            to_arm: AtomicU64::new(0),
            sources: Mutex::default(),
            waiter: Waiter::new()?,
        })
    }

    /// Word was left for the CPU: its thread looks, soon. Calls the system only if it sleeps.
    pub(crate) fn wake(&self) {
        if self.word.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            self.waiter.wake();
        }
    }

    /// The thread is about to run the CPU, and will see all that was left so far.
    pub(crate) fn awake(&self) {
        self.word.swap(RUNNING, Ordering::SeqCst);
    }

    /// The thread is to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Waits for interrupts and wake-ups, `timeout` at most, and raises what came. Returns at once
    /// if woken since [`CpuIdle::awake`]; also then the descriptors are looked at, or a CPU that
    /// never rests would never hear of them.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        let rest = timeout != Some(Duration::ZERO)
            && self
                .word
                .compare_exchange(RUNNING, ASLEEP, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        self.arm_requested();
        let timeout = if rest { timeout } else { Some(Duration::ZERO) };
        // This thread alone writes it.
        self.waits.store(self.waits() + 1, Ordering::Relaxed);
        let events = self.waiter.wait(timeout).expect("a valid set can be waited on");
        if rest {
            // Awake from here on: the interrupts raised below need no eventfd for ourselves.
            self.awake();
        }
        for token in events {
            if let Some(source) = self.source(token.0 as usize) {
                source.fire();
            }
        }
    }

    /// Asks that the source be armed: now if the thread sleeps (then by the caller), else before
    /// it does. True: the caller is to arm it.
    pub(crate) fn request_arm(&self, slot: usize) -> bool {
        let bit = 1 << slot;
        // This writes the bit, then reads the word; the sleeper writes the word, then reads the
        // bit. In the one order of these four at least one of us sees the other.
        self.to_arm.fetch_or(bit, Ordering::SeqCst);
        self.word.load(Ordering::SeqCst) == ASLEEP
            && self.to_arm.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Takes the request back, if nobody has followed it yet.
    pub(crate) fn forget_arm(&self, slot: usize) {
        self.to_arm.fetch_and(!(1 << slot), Ordering::SeqCst);
    }

    fn arm_requested(&self) {
        let mut bits = self.to_arm.swap(0, Ordering::SeqCst);
        while bits != 0 {
            let slot = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if let Some(source) = self.source(slot) {
                source.arm();
            }
        }
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Option<Arc<dyn IrqSource>>>> {
        // Nothing under this lock can leave the list half changed.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, slot: usize) -> Option<Arc<dyn IrqSource>> {
        self.sources().get(slot)?.clone()
    }

    /// Registers what `make` makes of its slot.
    ///
    /// # Errors
    /// When the CPU has as many as it can.
    pub(crate) fn add_source<S: IrqSource + 'static>(
        &self,
        make: impl FnOnce(usize) -> S,
    ) -> io::Result<Arc<S>> {
        let mut sources = self.sources();
        let slot = sources.iter().position(Option::is_none).unwrap_or(sources.len());
        if slot >= MAX_SOURCES {
            return Err(io::Error::other("too many devices on one CPU"));
        }
        if slot == sources.len() {
            sources.push(None);
        }
        let source = Arc::new(make(slot));
        sources[slot] = Some(Arc::clone(&source) as _);
        Ok(source)
    }

    /// Registers a source that other CPUs may have, too; its slot here.
    ///
    /// # Errors
    /// When the CPU has as many as it can.
    pub(crate) fn add_shared_source(&self, source: Arc<dyn IrqSource>) -> io::Result<usize> {
        let mut slot = 0;
        let holder = self.add_source(|here| {
            slot = here;
            Shared(source)
        });
        holder.map(|_| slot)
    }

    pub(crate) fn remove_source(&self, slot: usize) {
        if let Some(source) = self.sources().get_mut(slot) {
            *source = None;
        }
        self.forget_arm(slot);
    }
}

/// One CPU's share of a source.
struct Shared(Arc<dyn IrqSource>);

impl IrqSource for Shared {
    fn fire(&self) {
        self.0.fire();
    }

    fn arm(&self) {
        self.0.arm();
    }
}

/// A source's token in its CPU's waiter.
pub(crate) fn token(slot: usize) -> Token {
    Token(slot as u64)
}

impl fmt::Debug for CpuIdle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuIdle(word {:?})", self.word)
    }
}

/// The operating system beneath a machine: its clocks, and a thread for each CPU.
#[derive(Debug)]
pub struct HostPlatform {
    cpus: Arc<[Arc<CpuIdle>]>,
}

impl HostPlatform {
    pub(crate) fn new(cpus: Arc<[Arc<CpuIdle>]>) -> Self {
        Self { cpus }
    }
}

/// Turns spent spinning on a CPU that somebody else holds: about as long as a poll takes.
const SPINS: u32 = 200;
/// Up to this turn the processor is offered to others.
const YIELDS: u32 = 400;
/// A nap after all of those: the holder does not even run.
const NAP: Duration = Duration::from_micros(50);

impl Platform for HostPlatform {
    #[inline]
    fn ktime_get(&self) -> Ktime {
        Ktime(monotonic_ns())
    }

    fn ktime_get_real(&self) -> u64 {
        realtime_ns()
    }

    fn wake_cpu(&self, cpu: CpuId) {
        if let Some(idle) = self.cpus.get(usize::from(cpu.0)) {
            idle.wake();
        }
    }

    fn relax(&self, spins: u32) {
        match spins {
            0..SPINS => std::hint::spin_loop(),
            SPINS..YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}

#[cfg(test)]
mod tests;
