//! A CPU at rest: who sleeps for it, where, and what ends that.
//!
//! linux: kernel/cpu/idle.c. Key type: [`CpuIdle`]. Parts: `words` (the protocol), `lead` (a waiting
//! task runs the loop), [`crate::ksoftirqd`] (the CPU's own thread does). Contexts: any thread.
//! Locks: a CPU's list of sources, a leaf held for a look-up.
//!
//! A CPU has one set of descriptors, in which its ksoftirqd sleeps, and beside it at most one task,
//! the leader, which would otherwise sleep elsewhere and be called from here: that saves each packet
//! the way from one thread to another. A leader that has what it waited for goes without a call:
//! ksoftirqd is there already, and takes what comes. When a run brings many packets the CPU is hot, and
//! ksoftirqd has it for itself: tasks then read what it queues, many a wake-up.
//!
//! Invariants: no wake-up and no wish to be armed is lost ([`IdleWord`], [`CpuIdle::request_arm`]);
//! idle, nobody makes a system call or sets a timer but the wheel's own.

pub(crate) mod lead;
pub(crate) mod words;

use crate::clock::monotonic_ns;
use crate::wait::{Events, Token, Waiter};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use words::{IdleWord, Lead};

/// Sources of interrupts a CPU can have: bits of a word.
const MAX_SOURCES: usize = 64;

/// A run that received so many packets makes the CPU hot.
pub(crate) const HOT_PACKETS: u64 = 16;

/// So long a hot CPU's thread has slept when it finds it cool.
pub(crate) const COOL_NS: u64 = 200_000;

/// After so many leads, or so many calls of ksoftirqd each soon after the one before, it watches.
pub(crate) const WATCH_AFTER: u32 = 32;

/// A descriptor whose events are interrupts of a CPU.
pub(crate) trait IrqSource: Send + Sync {
    /// It was reported: raise the interrupt. Context: who is awake for the CPU, on no CPU.
    fn fire(&self);
    /// Let it be reported once more; asked for by [`CpuIdle::request_arm`]. Context: any thread.
    fn arm(&self);
    /// Takes the last [`arm`](Self::arm) back. Context: any thread.
    fn disarm(&self) {}
    /// It would be reported now. Asked by a leader that spins, of a source that wants to be armed.
    fn ready(&self) -> bool {
        false
    }
}

/// Whether a leader that goes may leave the interrupts off.
///
/// Where tasks come back to lead within a moment, an interrupt between two leads only calls ksoftirqd,
/// on the very processor of the task, for what the task would find a little later. So while leads come
/// thick ksoftirqd looks every two milliseconds whether they still do, and who leaves arms nothing; the first
/// look that finds but a few ends it, and everything is armed. What arrives when a task does something
/// else all of a sudden may wait for two of them.
///
/// linux: Documentation/networking/napi.rst:irq-suspend-timeout
#[derive(Debug, Default)]
struct Watch {
    wanted: AtomicBool,
    on: AtomicBool,
}

/// Where those sleep who run one CPU, and what wakes them.
pub(crate) struct CpuIdle {
    pub(crate) word: IdleWord,
    pub(crate) lead: Lead,
    /// The descriptors.
    pub(crate) waiter: Waiter,
    /// Sources to be armed before the last one rests, a bit each. Beside the CPU, not inside it:
    /// whoever runs the CPU may ask, and who rests looks.
    to_arm: AtomicU64,
    /// Sources that were armed and not reported since. A hint: who spins takes those back.
    armed: AtomicU64,
    sources: Mutex<Vec<Option<Arc<dyn IrqSource>>>>,
    /// How often somebody waited: the system calls while idle.
    #[cfg(test)]
    waits: AtomicU64,
    /// When ksoftirqd comes back by itself; `u64::MAX`: not at all, or not known.
    until: AtomicU64,
    /// Leads that have ended; wraps.
    leads: AtomicU32,
    /// Tasks that wait and do not lead.
    followers: AtomicU32,
    watch: Watch,
    /// The processor that a task of this CPU last went to sleep on.
    pub(crate) core: AtomicU32,
    pub(crate) spin: lead::Spin,
}

impl CpuIdle {
    /// A CPU for which one is awake. `busy_poll`: so long a leader spins before it sleeps, at most.
    pub(crate) fn new(busy_poll: Duration) -> io::Result<Self> {
        Ok(Self {
            word: IdleWord::new(),
            lead: Lead::new(),
            waiter: Waiter::new()?,
            to_arm: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            sources: Mutex::default(),
            #[cfg(test)]
            waits: AtomicU64::new(0),
            until: AtomicU64::new(u64::MAX),
            leads: AtomicU32::new(0),
            followers: AtomicU32::new(0),
            watch: Watch::default(),
            core: AtomicU32::new(u32::MAX),
            spin: lead::Spin::new(busy_poll),
        })
    }

    /// Word was left for the CPU: somebody looks, soon. Calls the system only if all rest.
    pub(crate) fn wake(&self) {
        if self.word.kick() {
            self.waiter.wake();
        }
    }

    /// ksoftirqd is to end.
    pub(crate) fn stop(&self) {
        self.lead.stop();
        self.wake_ksoftirqd_from_lead();
        self.word.kick();
        self.waiter.wake();
    }

    /// ksoftirqd waits for the leader to go, and it goes.
    pub(crate) fn wake_ksoftirqd_from_lead(&self) {
        use rustix::thread::futex;
        // The word lives in this CPU, and a wake can't fail on a valid word.
        let _ = futex::wake(self.lead.word(), futex::Flags::PRIVATE, 1);
    }

    /// Waits made so far by all who slept in the set.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Waits for a descriptor, a wake-up or the end of `timeout`. The caller rests.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Events {
        self.arm_requested_at_rest();
        self.look(timeout)
    }

    /// What is to be reported at once, for one who does not come to rest: he would else never hear of
    /// his descriptors.
    pub(crate) fn look_busy(&self) -> Events {
        self.arm_requested();
        self.look(Some(Duration::ZERO))
    }

    /// Waits as [`wait`](Self::wait), without arming anything.
    pub(crate) fn look(&self, timeout: Option<Duration>) -> Events {
        #[cfg(test)]
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waiter.wait(timeout).expect("a valid set can be waited on")
    }

    /// Raises the interrupts of what was reported.
    pub(crate) fn fire(&self, events: Events) {
        for token in events {
            let slot = token.0 as usize;
            if let Some(source) = self.source(slot) {
                self.armed.fetch_and(!(1 << slot), Ordering::Relaxed);
                source.fire();
            }
        }
    }

    /// A leader has gone: arms what is wanted, unless ksoftirqd watches and nobody else waits for what may
    /// come.
    fn lead_ended(&self) {
        let leads = self.leads.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if self.watch.on.load(Ordering::SeqCst) && self.followers.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.arm_requested_at_rest();
        if leads.is_multiple_of(WATCH_AFTER) {
            self.watch_from_now_on();
            self.waiter.wake();
        }
    }

    /// A task waits and does not lead, as long as `wait` takes.
    fn follow<R>(&self, wait: impl FnOnce() -> R) -> R {
        self.followers.fetch_add(1, Ordering::SeqCst);
        let waited = wait();
        self.followers.fetch_sub(1, Ordering::SeqCst);
        waited
    }

    /// ksoftirqd is to watch.
    pub(crate) fn watch_from_now_on(&self) {
        self.watch.wanted.store(true, Ordering::Relaxed);
    }

    /// Leads that have ended; wraps.
    pub(crate) fn leads(&self) -> u32 {
        self.leads.load(Ordering::Relaxed)
    }

    /// Whether ksoftirqd watches from now on: it was asked to, or does.
    pub(crate) fn watches(&self) -> bool {
        if self.watch.wanted.swap(false, Ordering::Relaxed) {
            self.watch.on.store(true, Ordering::SeqCst);
        }
        self.watch.on.load(Ordering::Relaxed)
    }

    /// ksoftirqd watches no longer. Whoever rests next arms what is wanted: who left without arming
    /// made his wish before he saw that it watched.
    pub(crate) fn watch_no_more(&self) {
        self.watch.on.store(false, Ordering::SeqCst);
    }

    /// ksoftirqd is about to sleep until then.
    pub(crate) fn sleeps_until(&self, deadline: u64) {
        self.until.store(deadline, Ordering::SeqCst);
    }

    /// ksoftirqd is awake: whoever learns of a deadline must not think that it sleeps until then.
    pub(crate) fn sleeps_no_more(&self) {
        self.until.store(u64::MAX, Ordering::SeqCst);
    }

    /// Nobody but ksoftirqd would come for `deadline`, and it would come too late.
    pub(crate) fn comes_late(&self, deadline: u64) -> bool {
        deadline < self.until.load(Ordering::SeqCst)
    }

    /// Asks that the source be armed: now if all rest (then by the caller), else before the last
    /// one does. True: the caller is to arm it, by [`CpuIdle::arm_now`].
    pub(crate) fn request_arm(&self, slot: usize) -> bool {
        let bit = 1 << slot;
        // This writes the bit, then reads the word; who goes to rest writes the word, then reads the
        // bit. In the one order of these four at least one of us sees the other.
        self.to_arm.fetch_or(bit, Ordering::SeqCst);
        self.word.all_rest() && self.to_arm.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Notes that the caller arms the source now.
    pub(crate) fn arm_now(&self, slot: usize) {
        self.armed.fetch_or(1 << slot, Ordering::Relaxed);
    }

    /// Takes the request back, if nobody has followed it yet.
    pub(crate) fn forget_arm(&self, slot: usize) {
        self.to_arm.fetch_and(!(1 << slot), Ordering::SeqCst);
    }

    /// Follows the requests if all rest; whoever has gone to rest, or leaves, calls it. Where another
    /// is still awake, he will.
    pub(crate) fn arm_requested_at_rest(&self) {
        if self.word.all_rest() {
            self.arm_requested();
        }
    }

    fn arm_requested(&self) {
        // A read-modify-write, also where nothing is wanted: it is what orders us with who asks.
        for slot in bits(self.to_arm.swap(0, Ordering::SeqCst)) {
            if let Some(source) = self.source(slot) {
                self.arm_now(slot);
                source.arm();
            }
        }
    }

    /// Turns what is armed into requests: for a leader that looks at the sources itself, so that no
    /// other sleeper is called for what it will see anyhow.
    fn disarm_all(&self) {
        for slot in bits(self.armed.swap(0, Ordering::Relaxed)) {
            if let Some(source) = self.source(slot) {
                source.disarm();
                self.to_arm.fetch_or(1 << slot, Ordering::SeqCst);
            }
        }
    }

    /// Raises the interrupt of every source that wants to be armed and would be reported at once;
    /// true if there was one.
    fn fire_ready(&self) -> bool {
        let mut fired = false;
        for slot in bits(self.to_arm.load(Ordering::SeqCst)) {
            if let Some(source) = self.source(slot)
                && source.ready()
            {
                self.forget_arm(slot);
                source.fire();
                fired = true;
            }
        }
        fired
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
        self.armed.fetch_and(!(1 << slot), Ordering::Relaxed);
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

    fn disarm(&self) {
        self.0.disarm();
    }

    fn ready(&self) -> bool {
        self.0.ready()
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// How long from now until `deadline`; `None` for `u64::MAX`, which never comes.
pub(crate) fn timeout(deadline: u64) -> Option<Duration> {
    (deadline != u64::MAX).then(|| Duration::from_nanos(deadline.saturating_sub(monotonic_ns())))
}

/// A source's token in its CPU's waiter.
pub(crate) fn token(slot: usize) -> Token {
    Token(slot as u64)
}

impl fmt::Debug for CpuIdle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuIdle({:?}, {:?})", self.word, self.lead)
    }
}

#[cfg(test)]
mod tests;
