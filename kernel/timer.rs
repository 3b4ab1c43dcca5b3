//! The timer wheel of a CPU, run in TIMER_SOFTIRQ.
//!
//! linux: kernel/timer.c. Key types: [`TimerBase`], [`TimerTarget`].
//! Contexts: arming and expiry in BH, on the CPU that owns the wheel. No lock.
//! Invariants: an entry is a hint: its target keeps its own deadline and generation under its own
//! lock and decides at expiry; entries of one tick expire in the order they were armed.

use crate::kernel::context::BhCx;
use crate::kernel::time::{Ktime, TICK_NSEC};
use crate::walk;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
/// The farthest an entry is filed; a later deadline is filed there and filed again when it comes.
const MAX_DELTA: u64 = (SLOTS as u64 - 1) << (BITS * (LEVELS as u32 - 1));

/// What a timer wakes.
pub trait TimerTarget: Send + Sync {
    /// The tick of `token`'s entry has come. Context: BH (TIMER_SOFTIRQ), no lock held. The target
    /// compares with its own deadline: a stale entry is dropped, an early one armed again.
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, token: u64);
}

struct Entry {
    expires: u64,
    token: u64,
    target: Arc<dyn TimerTarget>,
}

/// A hierarchical wheel of millisecond ticks: 6 levels of 64 slots, 2 years deep.
pub struct TimerBase {
    /// The next tick to expire.
    clk: u64,
    slots: Vec<Vec<Entry>>,
    occupied: [u64; LEVELS],
    /// What expires now, while it is run: what a panic interrupts goes on with the next run.
    due: VecDeque<Entry>,
    len: usize,
    /// What `next_tick` found last; `u64::MAX`: nothing. Every leave of the CPU asks.
    next: u64,
    /// The tick that whoever idles on this CPU was last told to come back at; zero: not told yet.
    told: u64,
    /// An entry earlier than that was filed since.
    sooner: bool,
}

impl fmt::Debug for TimerBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerBase {{ clk: {}, len: {} }}", self.clk, self.len)
    }
}

impl TimerBase {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Ktime) -> Self {
        Self {
            clk: now.jiffies(),
            slots: (0..LEVELS * SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; LEVELS],
            due: VecDeque::new(),
            len: 0,
            next: u64::MAX,
            told: 0,
            sooner: false,
        }
    }

    /// Moves all that is filed in another wheel here; their ticks stay.
    ///
    /// linux: kernel/timer.c:migrate_timers
    pub(crate) fn migrate_timers(&mut self, other: &mut Self) {
        let due = std::mem::take(&mut other.due);
        let filed = other.slots.iter_mut().flat_map(|slot| slot.drain(..));
        for entry in due.into_iter().chain(filed) {
            self.len += 1;
            self.sooner |= entry.expires < self.told;
            self.file(entry);
        }
        self.next = self.next_tick();
        (other.len, other.occupied, other.next) = (0, [0; LEVELS], u64::MAX);
    }

    /// Entries in the wheel.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No entry in the wheel.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Files an entry for the first tick at or after `at`.
    pub fn add(&mut self, at: Ktime, target: Arc<dyn TimerTarget>, token: u64) {
        let expires = at.0.div_ceil(TICK_NSEC).max(self.clk);
        self.len += 1;
        self.sooner |= expires < self.told;
        self.file(Entry { expires, token, target });
        self.next = self.next_tick();
    }

    fn file(&mut self, entry: Entry) {
        let expires = entry.expires.clamp(self.clk, self.clk + MAX_DELTA);
        let level = (0..LEVELS as u32)
            .find(|level| (expires >> (level * BITS)) - (self.clk >> (level * BITS)) < SLOTS as u64)
            .unwrap_or(LEVELS as u32 - 1);
        let slot = (expires >> (level * BITS)) as usize % SLOTS;
        self.occupied[level as usize] |= 1 << slot;
        self.slots[level as usize * SLOTS + slot].push(entry);
    }

    /// The earliest tick at which the wheel wants to be run, if it holds anything. May be earlier
    /// than the earliest deadline (an upper level's slot begins), never later.
    #[inline]
    pub fn next_expiry(&self) -> Option<Ktime> {
        (self.next != u64::MAX).then(|| Ktime(self.next * TICK_NSEC))
    }

    /// The same, for the one who idles on the CPU: it will come back then.
    pub(crate) fn tell(&mut self) -> Option<Ktime> {
        self.told = self.next;
        self.sooner = false;
        self.next_expiry()
    }

    /// Who idles on the CPU would come back too late.
    #[inline]
    pub(crate) fn sooner(&self) -> bool {
        self.sooner
    }

    fn next_tick(&self) -> u64 {
        if !self.due.is_empty() {
            return self.clk;
        }
        let ticks = (0..LEVELS as u32).filter_map(|level| {
            let shift = level * BITS;
            let here = self.clk >> shift;
            let turned = self.occupied[level as usize].rotate_right((here % 64) as u32);
            (turned != 0).then(|| {
                let slots = u64::from(turned.trailing_zeros());
                ((here + slots) << shift).max(self.clk)
            })
        });
        ticks.min().unwrap_or(u64::MAX)
    }

    /// The next entry that is due at `now`; `None` when there is no more.
    fn take_due(&mut self, now: u64) -> Option<Entry> {
        if self.due.is_empty() && !self.next_due(now) {
            return None;
        }
        let entry = self.due.pop_front();
        self.len -= usize::from(entry.is_some());
        entry
    }

    /// Moves the entries of the next tick at or before `now` to `due`; false when there is none.
    fn next_due(&mut self, now: u64) -> bool {
        loop {
            let tick = self.next_tick();
            if tick > now {
                break;
            }
            self.clk = tick;
            self.cascade();
            let slot = (tick % SLOTS as u64) as usize;
            if self.occupied[0] & 1 << slot != 0 {
                self.occupied[0] &= !(1 << slot);
                self.due.extend(self.slots[slot].drain(..));
                self.clk = tick + 1;
                self.next = self.clk;
                return true;
            }
        }
        self.clk = self.clk.max(now + 1);
        // Moving past slot boundaries brings upper slots to this one's front.
        self.cascade();
        self.next = self.next_tick();
        false
    }

    /// Files the entries of every upper slot that begins at or before the present tick again.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let slot = (self.clk >> (level as u32 * BITS)) as usize % SLOTS;
            if self.occupied[level] & 1 << slot != 0 {
                self.occupied[level] &= !(1 << slot);
                let entries = std::mem::take(&mut self.slots[level * SLOTS + slot]);
                for entry in entries {
                    self.file(entry);
                }
            }
        }
    }
}

/// Runs the expired timers of this CPU.
///
/// linux: kernel/timer.c:run_timer_softirq
pub(crate) fn run_timer_softirq(cx: &mut BhCx<'_>) {
    walk!(cx, run_timer_softirq);
    let now = cx.now().jiffies();
    while let Some(entry) = cx.cpu.timers.take_due(now) {
        entry.target.expire(cx, entry.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl TimerTarget for Nothing {
        fn expire(self: Arc<Self>, _: &mut BhCx<'_>, _: u64) {}
    }

    fn fire_all(base: &mut TimerBase, until: u64, step: u64) -> Vec<(u64, u64)> {
        let mut fired = Vec::new();
        let mut now = base.clk;
        while now <= until {
            while let Some(entry) = base.take_due(now) {
                fired.push((now, entry.token));
            }
            now += step;
        }
        fired
    }

    #[test]
    fn every_entry_fires_once_at_its_tick() {
        let mut base = TimerBase::new(Ktime::from_millis(1_000));
        let mut delays: Vec<u64> = vec![0, 1, 62, 63, 64, 65, 127, 128, 4095, 4096, 4097, 9_999];
        delays.extend((0..500).map(|n| n * 37 % 20_011));
        for delay in &delays {
            base.add(Ktime::from_millis(1_000 + delay), Arc::new(Nothing), *delay);
        }
        let fired = fire_all(&mut base, 30_000, 1);
        assert_eq!(fired.len(), delays.len());
        assert!(fired.iter().all(|(now, delay)| *now == 1_000 + delay), "{fired:?}");
        assert!(base.is_empty());
    }

    #[test]
    fn a_late_run_fires_all_that_is_due_in_order() {
        let mut base = TimerBase::new(Ktime::ZERO);
        for ms in [300_000, 5, 70, 70_000, 5] {
            base.add(Ktime::from_millis(ms), Arc::new(Nothing), ms);
        }
        let order: Vec<u64> =
            fire_all(&mut base, 400_000, 400_000).into_iter().map(|(_, ms)| ms).collect();
        assert_eq!(order, [5, 5, 70, 70_000, 300_000]);
    }

    #[test]
    fn the_next_expiry_is_never_late() {
        for delay in [0, 1, 63, 64, 100, 5_000, 262_144, 20_000_000, 1 << 37] {
            let mut base = TimerBase::new(Ktime::from_millis(12_345));
            base.add(Ktime::from_millis(12_345 + delay), Arc::new(Nothing), 0);
            let mut steps = 0;
            let due = loop {
                let next = base.next_expiry().expect("armed").jiffies();
                assert!(next <= 12_345 + delay, "delay {delay}: {next}");
                if let Some(due) = base.take_due(next) {
                    break due;
                }
                steps += 1;
                assert!(steps < 64, "delay {delay} needs too many looks");
            };
            assert_eq!(due.expires, 12_345 + delay);
        }
    }

    #[test]
    fn what_a_panic_leaves_of_a_tick_is_still_due() {
        let mut base = TimerBase::new(Ktime::ZERO);
        for token in 0..3 {
            base.add(Ktime::from_millis(7), Arc::new(Nothing), token);
        }
        let now = Ktime::from_millis(9).jiffies();
        assert_eq!(base.take_due(now).map(|entry| entry.token), Some(0));
        // Whoever ran it is gone; the wheel still wants to be run, at once.
        assert!(base.next_expiry().is_some_and(|at| at.jiffies() <= now));
        assert_eq!(base.len(), 2);
        assert_eq!(base.take_due(now).map(|entry| entry.token), Some(1));
        assert_eq!(base.take_due(now).map(|entry| entry.token), Some(2));
        assert!(base.take_due(now).is_none() && base.next_expiry().is_none());
    }

    #[test]
    fn what_is_filed_moves_to_another_wheel_and_fires_in_time() {
        let (mut here, mut there) = (TimerBase::new(Ktime::ZERO), TimerBase::new(Ktime::ZERO));
        for ms in [3, 3, 700, 90_000] {
            there.add(Ktime::from_millis(ms), Arc::new(Nothing), ms);
        }
        assert!(there.take_due(3).is_some(), "one of two: the other is due");
        fire_all(&mut here, 50, 1);
        here.migrate_timers(&mut there);
        assert!(there.is_empty() && there.next_expiry().is_none() && here.len() == 3);
        assert_eq!(fire_all(&mut here, 100_000, 1), [(51, 3), (700, 700), (90_000, 90_000)]);
    }

    #[test]
    fn rounding_is_up_to_the_next_tick() {
        let mut base = TimerBase::new(Ktime::ZERO);
        base.add(Ktime(1), Arc::new(Nothing), 0);
        assert_eq!(base.next_expiry(), Some(Ktime::from_millis(1)));
    }
}
