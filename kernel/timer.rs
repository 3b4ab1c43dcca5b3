//! The timer wheel of a CPU, run in TIMER_SOFTIRQ.
//!
//! linux: kernel/timer.c. Key types: [`TimerBase`], [`TimerTarget`].
//! Contexts: arming and expiry in BH, on the CPU that owns the wheel. No lock.
//! Invariants: an entry is a hint: its target keeps its own deadline and generation under its own
//! lock and decides at expiry; entries of one tick expire in the order they were armed; one taken out
//! ([`TimerBase::del`], on its own CPU alone) keeps nothing of its target.

use crate::kernel::context::BhCx;
use crate::kernel::nsproxy::NetId;
use crate::kernel::time::{Ktime, TICK_NSEC};
use crate::walk;
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

/// What happens when a timer expires, and where.
pub(crate) struct Expiry {
    pub(crate) target: Arc<dyn TimerTarget>,
    pub(crate) token: u64,
    /// In which namespace.
    pub(crate) net: NetId,
}

impl Expiry {
    /// In a namespace that is gone nothing happens.
    pub(crate) fn happen(self, cx: &mut BhCx<'_>) {
        let before = cx.net().id;
        if cx.enter_net(self.net) {
            self.target.expire(cx, self.token);
            cx.enter_net(before);
        }
    }
}

impl BhCx<'_> {
    /// Files a timer for the first tick at or after `at`: it expires here, in this namespace.
    ///
    /// linux: kernel/timer.c:add_timer
    pub(crate) fn add_timer(
        &mut self,
        at: Ktime,
        target: Arc<dyn TimerTarget>,
        token: u64,
    ) -> TimerHandle {
        let net = self.net().id;
        self.cpu.timers.add(at, Expiry { target, token, net })
    }
}

/// Names an entry of one CPU's wheel, as long as it is filed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerHandle {
    index: u32,
    generation: u32,
}

struct Entry {
    expires: u64,
    token: u64,
    /// It expires in the namespace that it was filed in.
    net: NetId,
    /// `None`: the place is free.
    target: Option<Arc<dyn TimerTarget>>,
    generation: u32,
    /// The list it is in: a slot, or [`DUE`].
    list: u32,
    next: u32,
    prev: u32,
}

/// The list of what expires now.
const DUE: usize = LEVELS * SLOTS;
/// No entry.
const NIL: u32 = u32::MAX;

/// Entries in the order in which they were filed.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// A hierarchical wheel of millisecond ticks: 6 levels of 64 slots, 2 years deep.
pub struct TimerBase {
    /// The next tick to expire.
    clk: u64,
    entries: Vec<Entry>,
    /// Free places of `entries`, linked by `next`.
    free: u32,
    /// The slots, then what expires now, while it is run: what a panic interrupts goes on with the next
    /// run.
    lists: Box<[List]>,
    occupied: [u64; LEVELS],
    len: usize,
    /// No later than the next tick at which something is filed; `u64::MAX`: nothing is. Every leave of the
    /// CPU asks.
    next: u64,
    /// It may be too early: what was filed at a tick was taken out since.
    early: bool,
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
            entries: Vec::new(),
            free: NIL,
            lists: vec![List { first: NIL, last: NIL }; DUE + 1].into_boxed_slice(),
            occupied: [0; LEVELS],
            len: 0,
            next: u64::MAX,
            early: false,
            told: 0,
            sooner: false,
        }
    }

    /// Moves all that is filed in another wheel here; their ticks stay, their handles do not.
    ///
    /// linux: kernel/timer.c:migrate_timers
    pub(crate) fn migrate_timers(&mut self, other: &mut Self) {
        for list in (DUE..=DUE).chain(0..DUE) {
            while other.lists[list].first != NIL {
                let index = other.lists[list].first;
                let Entry { expires, token, net, .. } = other.entries[index as usize];
                if let Some(target) = other.take(index) {
                    self.insert(expires, Expiry { target, token, net });
                }
            }
        }
        (other.occupied, other.next) = ([0; LEVELS], u64::MAX);
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
    pub(crate) fn add(&mut self, at: Ktime, expiry: Expiry) -> TimerHandle {
        let expires = at.0.div_ceil(TICK_NSEC).max(self.clk);
        self.insert(expires, expiry)
    }

    /// Takes an entry out; false when it is filed no more.
    ///
    /// linux: kernel/timer.c:del_timer
    pub fn del(&mut self, handle: TimerHandle) -> bool {
        let filed = self.entries.get(handle.index as usize);
        let filed = filed.filter(|e| e.generation == handle.generation && e.target.is_some());
        let Some(list) = filed.map(|entry| entry.list as usize) else { return false };
        let taken = self.take(handle.index).is_some();
        // Who idles until then finds nothing: no harm.
        self.early |= self.lists[list].first == NIL;
        taken
    }

    fn insert(&mut self, expires: u64, expiry: Expiry) -> TimerHandle {
        let Expiry { target, token, net } = expiry;
        let index = if self.free == NIL {
            let (next, prev) = (NIL, NIL);
            let (target, generation, list) = (None, 0, 0);
            self.entries.push(Entry { expires, token, net, target, generation, list, next, prev });
            (self.entries.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            index
        };
        let entry = &mut self.entries[index as usize];
        (entry.expires, entry.token, entry.net) = (expires, token, net);
        entry.target = Some(target);
        let generation = entry.generation;
        self.len += 1;
        self.sooner |= expires < self.told;
        self.next = self.file(index).min(self.next);
        TimerHandle { index, generation }
    }

    /// Takes an entry out of its list and frees its place.
    fn take(&mut self, index: u32) -> Option<Arc<dyn TimerTarget>> {
        self.unlink(index);
        let free = std::mem::replace(&mut self.free, index);
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        self.len -= 1;
        entry.target.take()
    }

    fn unlink(&mut self, index: u32) {
        let Entry { list, next, prev, .. } = self.entries[index as usize];
        match prev {
            NIL => self.lists[list as usize].first = next,
            prev => self.entries[prev as usize].next = next,
        }
        match next {
            NIL => self.lists[list as usize].last = prev,
            next => self.entries[next as usize].prev = prev,
        }
        let (level, slot) = (list as usize / SLOTS, list as usize % SLOTS);
        if self.lists[list as usize].first == NIL && level < LEVELS {
            self.occupied[level] &= !(1 << slot);
        }
    }

    fn link(&mut self, index: u32, list: usize) {
        let last = std::mem::replace(&mut self.lists[list].last, index);
        match last {
            NIL => self.lists[list].first = index,
            last => self.entries[last as usize].next = index,
        }
        let entry = &mut self.entries[index as usize];
        (entry.list, entry.prev, entry.next) = (list as u32, last, NIL);
    }

    /// Puts an entry into the slot of its tick; the tick at which that slot begins.
    fn file(&mut self, index: u32) -> u64 {
        let expires = self.entries[index as usize].expires.clamp(self.clk, self.clk + MAX_DELTA);
        // The lowest level whose slots reach so far; a turn of it can end just before.
        let near = ((expires - self.clk) | 1).ilog2() / BITS;
        let slots = (expires >> (near * BITS)) - (self.clk >> (near * BITS));
        let level = (near + u32::from(slots >= SLOTS as u64)).min(LEVELS as u32 - 1);
        let slot = (expires >> (level * BITS)) as usize % SLOTS;
        self.occupied[level as usize] |= 1 << slot;
        self.link(index, level as usize * SLOTS + slot);
        (expires >> (level * BITS) << (level * BITS)).max(self.clk)
    }

    /// The earliest tick at which the wheel wants to be run, if it holds anything. May be earlier
    /// than the earliest deadline (an upper level's slot begins, an entry was taken out), never later.
    #[inline]
    pub fn next_expiry(&self) -> Option<Ktime> {
        (self.next != u64::MAX).then(|| Ktime(self.next * TICK_NSEC))
    }

    /// The same, for the one who idles on the CPU: it will come back then.
    pub(crate) fn tell(&mut self) -> Option<Ktime> {
        if std::mem::take(&mut self.early) {
            self.next = self.next_tick();
        }
        debug_assert!(self.next <= self.next_tick(), "who idles would come back too late");
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
        if self.lists[DUE].first != NIL {
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
    fn take_due(&mut self, now: u64) -> Option<Expiry> {
        if self.lists[DUE].first == NIL && !self.next_due(now) {
            return None;
        }
        let index = self.lists[DUE].first;
        let Entry { token, net, .. } = *self.entries.get(index as usize)?;
        Some(Expiry { target: self.take(index)?, token, net })
    }

    /// Moves the entries of the next tick at or before `now` to those due; false when there is none.
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
                self.move_slot(slot);
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

    /// A slot of the lowest level is due.
    fn move_slot(&mut self, slot: usize) {
        while self.lists[slot].first != NIL {
            let index = self.lists[slot].first;
            self.unlink(index);
            self.link(index, DUE);
        }
    }

    /// Files the entries of every upper slot that begins at or before the present tick again.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let slot = (self.clk >> (level as u32 * BITS)) as usize % SLOTS;
            if self.occupied[level] & 1 << slot == 0 {
                continue;
            }
            let list = level * SLOTS + slot;
            // Those that come back to this slot, a turn later, are not looked at twice.
            let last = self.lists[list].last;
            loop {
                let index = self.lists[list].first;
                self.unlink(index);
                self.file(index);
                if index == last {
                    break;
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
    while let Some(expiry) = cx.cpu.timers.take_due(now) {
        expiry.happen(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Nothing;

    impl TimerBase {
        fn file_for(&mut self, at: Ktime, target: Arc<dyn TimerTarget>, token: u64) -> TimerHandle {
            self.add(at, Expiry { target, token, net: NetId::INIT })
        }
    }

    fn fire_all(base: &mut TimerBase, until: u64, step: u64) -> Vec<(u64, u64)> {
        let mut fired = Vec::new();
        let mut now = base.clk;
        while now <= until {
            while let Some(Expiry { token, .. }) = base.take_due(now) {
                fired.push((now, token));
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
            base.file_for(Ktime::from_millis(1_000 + delay), Arc::new(Nothing), *delay);
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
            base.file_for(Ktime::from_millis(ms), Arc::new(Nothing), ms);
        }
        let order: Vec<u64> =
            fire_all(&mut base, 400_000, 400_000).into_iter().map(|(_, ms)| ms).collect();
        assert_eq!(order, [5, 5, 70, 70_000, 300_000]);
    }

    #[test]
    fn the_next_expiry_is_never_late() {
        for delay in [0, 1, 63, 64, 100, 5_000, 262_144, 20_000_000, 1 << 37] {
            let mut base = TimerBase::new(Ktime::from_millis(12_345));
            base.file_for(Ktime::from_millis(12_345 + delay), Arc::new(Nothing), delay);
            let mut steps = 0;
            let due = loop {
                let next = base.next_expiry().expect("armed").jiffies();
                assert!(next <= 12_345 + delay, "delay {delay}: {next}");
                if let Some(due) = base.take_due(next) {
                    assert!(next >= 12_345 + delay);
                    break due;
                }
                steps += 1;
                assert!(steps < 64, "delay {delay} needs too many looks");
            };
            assert_eq!(due.token, delay);
        }
    }

    #[test]
    fn what_a_panic_leaves_of_a_tick_is_still_due() {
        let mut base = TimerBase::new(Ktime::ZERO);
        for token in 0..3 {
            base.file_for(Ktime::from_millis(7), Arc::new(Nothing), token);
        }
        let now = Ktime::from_millis(9).jiffies();
        assert_eq!(base.take_due(now).map(|due| due.token), Some(0));
        // Whoever ran it is gone; the wheel still wants to be run, at once.
        assert!(base.next_expiry().is_some_and(|at| at.jiffies() <= now));
        assert_eq!(base.len(), 2);
        assert_eq!(base.take_due(now).map(|due| due.token), Some(1));
        assert_eq!(base.take_due(now).map(|due| due.token), Some(2));
        assert!(base.take_due(now).is_none() && base.next_expiry().is_none());
    }

    #[test]
    fn what_is_filed_moves_to_another_wheel_and_fires_in_time() {
        let (mut here, mut there) = (TimerBase::new(Ktime::ZERO), TimerBase::new(Ktime::ZERO));
        for ms in [3, 3, 700, 90_000] {
            there.file_for(Ktime::from_millis(ms), Arc::new(Nothing), ms);
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
        base.file_for(Ktime(1), Arc::new(Nothing), 0);
        assert_eq!(base.next_expiry(), Some(Ktime::from_millis(1)));
    }

    #[test]
    fn what_is_taken_out_does_not_fire_and_its_place_serves_again() {
        let mut base = TimerBase::new(Ktime::ZERO);
        let target: Arc<dyn TimerTarget> = Arc::new(Nothing);
        let handles: Vec<TimerHandle> = [5, 5, 5, 700, 90_000]
            .iter()
            .enumerate()
            .map(|(n, ms)| base.file_for(Ktime::from_millis(*ms), Arc::clone(&target), n as u64))
            .collect();
        for taken in [1, 4] {
            assert!(base.del(handles[taken]) && !base.del(handles[taken]));
        }
        assert_eq!((base.len(), Arc::strong_count(&target)), (3, 4));
        let again = base.file_for(Ktime::from_millis(8), Arc::clone(&target), 9);
        assert!(!base.del(handles[4]), "the place is another's");
        assert_eq!(fire_all(&mut base, 1_000, 1), [(5, 0), (5, 2), (8, 9), (700, 3)]);
        assert!(!base.del(again) && base.is_empty() && base.next_expiry().is_none());
        assert_eq!(Arc::strong_count(&target), 1);
    }

    #[test]
    fn what_is_due_can_be_taken_out_too() {
        let mut base = TimerBase::new(Ktime::ZERO);
        let nothing = || Arc::new(Nothing) as Arc<dyn TimerTarget>;
        let handles = [0, 1, 2].map(|token| base.file_for(Ktime::from_millis(3), nothing(), token));
        assert_eq!(base.take_due(3).map(|due| due.token), Some(0));
        assert!(base.del(handles[1]));
        assert_eq!(base.take_due(3).map(|due| due.token), Some(2));
        assert!(base.take_due(3).is_none());
    }

    #[test]
    fn who_idles_is_told_of_what_is_still_filed() {
        let mut base = TimerBase::new(Ktime::ZERO);
        let nothing = || Arc::new(Nothing) as Arc<dyn TimerTarget>;
        let handles = [3, 3, 9].map(|ms| base.file_for(Ktime::from_millis(ms), nothing(), 0));
        let told = [3, 9, u64::MAX].map(|ms| (ms < u64::MAX).then(|| Ktime::from_millis(ms)));
        for (handle, told) in handles.into_iter().zip(told) {
            assert!(base.del(handle));
            assert_eq!(base.tell(), told);
        }
        base.file_for(Ktime::from_millis(20), nothing(), 0);
        assert!(base.sooner() && base.tell() == Some(Ktime::from_millis(20)));
        base.file_for(Ktime::from_millis(30), nothing(), 0);
        assert!(!base.sooner() && base.tell() == Some(Ktime::from_millis(20)));
        base.file_for(Ktime::from_millis(10), nothing(), 0);
        assert!(base.sooner() && base.tell() == Some(Ktime::from_millis(10)));
    }
}
