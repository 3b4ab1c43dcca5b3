//! The three words by which those who run a CPU, who wait for it, and who wake them agree.
//!
//! Key types: [`IdleWord`], [`Lead`], [`SleepWord`]. Contexts: any thread. No system call here: each
//! step says what its caller is to call, so that a model checker can run these very lines.
//! Invariants:
//! - word left for a CPU ([`IdleWord::kick`]) is seen by somebody awake before he rests, or the
//!   caller is told to end somebody's sleep;
//! - a wake-up of a task ([`SleepWord::wake`]) keeps it from sleeping, or ends its sleep;
//! - one task at a time leads, and none while ksoftirqd has the CPU for itself.

use stack::kernel::locking::atomic::{AtomicU32, Ordering};

/// Word was left for the CPU and nobody has looked since.
const KICKED: u32 = 1;
/// One who is awake: he runs the CPU, or will look at the word before he rests.
const AWAKE: u32 = 2;

/// Who is awake for a CPU, and whether there is word for them.
#[derive(Debug)]
pub(crate) struct IdleWord(AtomicU32);

impl IdleWord {
    /// One is awake.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    /// Word was left. True: nobody is awake and nobody was called yet; call somebody.
    pub(crate) fn kick(&self) -> bool {
        self.0.fetch_or(KICKED, Ordering::SeqCst) == 0
    }

    /// Whoever is awake is about to run the CPU: he will see all that was left so far.
    pub(crate) fn take_kick(&self) {
        self.0.fetch_and(!KICKED, Ordering::SeqCst);
    }

    /// There is word.
    pub(crate) fn kicked(&self) -> bool {
        self.0.load(Ordering::SeqCst) & KICKED != 0
    }

    /// One more is awake.
    pub(crate) fn rouse(&self) {
        self.0.fetch_add(AWAKE, Ordering::SeqCst);
    }

    /// One who was awake is no longer; false, and nothing changed, when there is word to look at.
    pub(crate) fn rest(&self) -> bool {
        let mut seen = self.0.load(Ordering::SeqCst);
        while seen & KICKED == 0 {
            let rest = seen - AWAKE;
            match self.0.compare_exchange(seen, rest, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// The same for one who leaves, word or not. True: he was the last, and there is word; call
    /// somebody.
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(AWAKE, Ordering::SeqCst) == AWAKE | KICKED
    }

    /// Nobody is awake.
    pub(crate) fn all_rest(&self) -> bool {
        self.0.load(Ordering::SeqCst) < AWAKE
    }
}

/// Nobody leads: ksoftirqd runs what it is woken for.
const FREE: u32 = 0;
/// A task leads: ksoftirqd leaves what wakes it to that task.
const LED: u32 = 1;
/// There is much to do: ksoftirqd has the CPU, and tasks park.
const HOT: u32 = 2;
/// ksoftirqd waits for the leader to go.
const WAITS: u32 = 4;
/// ksoftirqd is to end.
const STOP: u32 = 8;

/// Who has a CPU's idle loop: nobody yet, a task, or ksoftirqd alone.
#[derive(Debug)]
pub(crate) struct Lead(AtomicU32);

impl Lead {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// The word, to wait on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// A task takes the lead, if nobody has it.
    pub(crate) fn try_lead(&self) -> bool {
        self.0.compare_exchange(FREE, LED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The leader goes. True: ksoftirqd waits for that; wake it.
    #[must_use]
    pub(crate) fn unlead(&self) -> bool {
        self.0.fetch_and(!(LED | WAITS), Ordering::SeqCst) & WAITS != 0
    }

    /// The leader leaves the CPU to ksoftirqd. True: it waits for that; wake it.
    #[must_use]
    pub(crate) fn heat(&self) -> bool {
        // LED, HOT, and whether ksoftirqd waits, in one step: 1 becomes 2.
        self.0.fetch_add(HOT - LED, Ordering::SeqCst) & WAITS != 0
    }

    /// ksoftirqd takes the CPU for itself, if no task leads.
    pub(crate) fn try_heat(&self) -> bool {
        self.0.compare_exchange(FREE, HOT, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// ksoftirqd lets tasks lead again.
    pub(crate) fn cool(&self) {
        self.0.fetch_and(!(HOT | WAITS), Ordering::SeqCst);
    }

    pub(crate) fn hot(&self) -> bool {
        self.0.load(Ordering::SeqCst) & HOT != 0
    }

    pub(crate) fn led(&self) -> bool {
        self.0.load(Ordering::SeqCst) & LED != 0
    }

    /// ksoftirqd will wait for the leader to go: what the word says then. `None`: nobody leads, or
    /// the end has come.
    pub(crate) fn await_leader(&self) -> Option<u32> {
        let (led, waits) = (LED, LED | WAITS);
        match self.0.compare_exchange(led, waits, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Some(waits),
            Err(now) if now == waits => Some(waits),
            Err(_) => None,
        }
    }

    /// Ends ksoftirqd, also where it waits for a leader: wake whoever waits on the word.
    pub(crate) fn stop(&self) {
        self.0.fetch_or(STOP, Ordering::SeqCst);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst) & STOP != 0
    }
}

/// Running, or on its way to sleep: it will look.
const RUNNING: u32 = 0;
/// Woken, and has not looked since.
const WOKEN: u32 = 1;
/// Sleeps on this word.
const PARKED: u32 = 2;
/// Leads a CPU and sleeps in its set of descriptors.
const ASLEEP: u32 = 3;

/// How a task sleeps, and whether it was woken.
#[derive(Debug)]
pub(crate) struct SleepWord(AtomicU32);

/// What ends a sleep that a wake-up met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Nothing: it does not sleep.
    Nobody,
    /// Whoever waits on the word.
    Parked,
    /// The sleeper in the CPU's set of descriptors.
    Leader,
}

/// Where a task goes to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bed {
    /// On its word.
    Parked,
    /// In the set of descriptors of the CPU it leads.
    Leader,
}

impl SleepWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(RUNNING))
    }

    /// The word, to wait on, and what it says while its owner is parked.
    pub(crate) fn parked(&self) -> (&AtomicU32, u32) {
        (&self.0, PARKED)
    }

    /// Wakes the owner. What was done before is seen by it afterwards.
    #[must_use]
    pub(crate) fn wake(&self) -> Call {
        match self.0.swap(WOKEN, Ordering::SeqCst) {
            PARKED => Call::Parked,
            ASLEEP => Call::Leader,
            _ => Call::Nobody,
        }
    }

    /// The owner is about to sleep there: false when it was woken since it last looked.
    pub(crate) fn lie_down(&self, bed: Bed) -> bool {
        let asleep = match bed {
            Bed::Parked => PARKED,
            Bed::Leader => ASLEEP,
        };
        self.0.compare_exchange(RUNNING, asleep, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The owner no longer sleeps, woken or not; a wake-up stays to be looked at.
    pub(crate) fn get_up(&self) {
        let mut seen = self.0.load(Ordering::SeqCst);
        while seen != WOKEN && seen != RUNNING {
            match self.0.compare_exchange(seen, RUNNING, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// The owner was woken.
    pub(crate) fn woken(&self) -> bool {
        self.0.load(Ordering::SeqCst) == WOKEN
    }

    /// The owner looks: true, once, if it was woken.
    pub(crate) fn take_woken(&self) -> bool {
        self.0.compare_exchange(WOKEN, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_for_a_cpu_calls_one_sleeper_once() {
        let word = IdleWord::new();
        assert!(!word.kick(), "one is awake and will look");
        assert!(!word.rest(), "there is word");
        word.take_kick();
        assert!(word.rest());
        assert!(word.all_rest() && word.kick() && !word.kick());
        word.rouse();
        word.take_kick();
        word.rouse();
        assert!(word.rest() && !word.kick(), "another is still awake");
        assert!(word.leave(), "the last to go must call somebody");
    }

    #[test]
    fn one_leads_and_ksoftirqd_is_told_when_it_goes() {
        let lead = Lead::new();
        assert_eq!(lead.await_leader(), None);
        assert!(lead.try_lead() && !lead.try_lead() && !lead.try_heat());
        assert!(!lead.unlead(), "nobody waited");
        assert!(lead.try_lead());
        assert!(lead.await_leader().is_some() && lead.await_leader().is_some());
        assert!(lead.heat());
        assert!(lead.hot() && !lead.led() && !lead.try_lead());
        lead.cool();
        assert!(lead.try_heat() && !lead.try_lead());
        lead.cool();
        assert!(lead.try_lead());
        lead.stop();
        assert_eq!(lead.await_leader(), None);
        assert!(lead.stopped());
    }

    #[test]
    fn a_wake_up_says_where_the_sleeper_lies() {
        let word = SleepWord::new();
        assert_eq!(word.wake(), Call::Nobody);
        assert!(!word.lie_down(Bed::Parked), "woken before");
        assert!(word.take_woken() && !word.take_woken());
        assert!(word.lie_down(Bed::Leader));
        assert_eq!(word.wake(), Call::Leader);
        word.get_up();
        assert!(word.woken() && word.take_woken());
        assert!(word.lie_down(Bed::Parked));
        word.get_up();
        assert!(!word.woken());
        assert!(word.lie_down(Bed::Parked));
        assert_eq!(word.wake(), Call::Parked);
        assert_eq!(word.wake(), Call::Nobody);
    }
}
