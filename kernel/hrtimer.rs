//! Timers of nanoseconds, of a CPU, run in HRTIMER_SOFTIRQ: for what a tick is too coarse for.
//!
//! linux: kernel/hrtimer.c (`HRTIMER_MODE_ABS_PINNED_SOFT`). Key types: [`HrtimerCpuBase`], [`Hrtimer`].
//! Contexts: arming and expiry in BH, on the CPU that owns the base. No lock.
//! Invariants: as in the wheel ([`super::timer`]) an entry is a hint, and its target keeps its own
//! deadline; entries expire by time, then in the order they were armed; the caller bounds how far
//! ahead he arms, for an entry keeps its target until it expires or is cancelled.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::timer::{Expiry, TimerTarget};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Names an entry of one CPU's base, as long as it is filed there.
///
/// linux: include/linux/hrtimer.h:hrtimer
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hrtimer {
    expires: Ktime,
    sequence: u64,
}

impl Hrtimer {
    /// When it expires.
    #[inline]
    pub fn expires(self) -> Ktime {
        self.expires
    }
}

/// What a CPU has armed.
///
/// linux: include/linux/hrtimer.h:hrtimer_cpu_base
pub struct HrtimerCpuBase {
    active: BTreeMap<Hrtimer, Expiry>,
    sequence: u64,
    /// The earliest deadline; `Ktime::MAX`: none. Every run of the CPU asks.
    expires_next: Ktime,
    /// What whoever idles on this CPU was last told.
    told: Ktime,
}

impl Default for HrtimerCpuBase {
    fn default() -> Self {
        let (active, sequence) = (BTreeMap::new(), 0);
        Self { active, sequence, expires_next: Ktime::MAX, told: Ktime::ZERO }
    }
}

impl fmt::Debug for HrtimerCpuBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HrtimerCpuBase {{ next: {}, len: {} }}", self.expires_next, self.active.len())
    }
}

impl BhCx<'_> {
    /// Files a timer for `at`: it expires here, in this namespace.
    ///
    /// linux: kernel/hrtimer.c:hrtimer_start
    pub(crate) fn hrtimer_start(
        &mut self,
        at: Ktime,
        target: Arc<dyn TimerTarget>,
        token: u64,
    ) -> Hrtimer {
        let net = self.net().id;
        self.cpu.hrtimers.start(at, Expiry { target, token, net })
    }
}

impl HrtimerCpuBase {
    /// Entries.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Files an entry for `at`.
    ///
    /// linux: kernel/hrtimer.c:hrtimer_start
    pub(crate) fn start(&mut self, at: Ktime, expiry: Expiry) -> Hrtimer {
        self.sequence += 1;
        let timer = Hrtimer { expires: at, sequence: self.sequence };
        self.active.insert(timer, expiry);
        self.expires_next = self.expires_next.min(at);
        timer
    }

    /// Takes an entry out; false when it is filed no more.
    ///
    /// linux: kernel/hrtimer.c:hrtimer_try_to_cancel
    pub fn hrtimer_try_to_cancel(&mut self, timer: Hrtimer) -> bool {
        let there = self.active.remove(&timer).is_some();
        self.note_next();
        there
    }

    fn note_next(&mut self) {
        let first = self.active.first_key_value();
        self.expires_next = first.map_or(Ktime::MAX, |(timer, _)| timer.expires);
    }

    /// The earliest deadline.
    #[inline]
    pub fn next_event(&self) -> Option<Ktime> {
        (self.expires_next != Ktime::MAX).then_some(self.expires_next)
    }

    /// The same, for the one who idles on the CPU: he will come back then.
    #[inline]
    pub(crate) fn tell(&mut self) -> Option<Ktime> {
        self.told = self.expires_next;
        self.next_event()
    }

    /// Who idles on the CPU would come back too late.
    #[inline]
    pub(crate) fn sooner(&self) -> bool {
        self.expires_next < self.told
    }

    /// Something is due.
    #[inline]
    pub(crate) fn due(&self, now: Ktime) -> bool {
        self.expires_next <= now
    }

    /// The next entry that is due.
    fn take_due(&mut self, now: Ktime) -> Option<Expiry> {
        if !self.due(now) {
            return None;
        }
        let taken = self.active.pop_first();
        self.note_next();
        taken.map(|(_, entry)| entry)
    }

    /// Takes all that is filed, for another CPU. Numbers go on here, so that no old handle is good for a new
    /// entry.
    pub(crate) fn take_all(&mut self) -> Self {
        let sequence = self.sequence;
        std::mem::replace(self, Self { sequence, ..Self::default() })
    }

    /// Moves all that is filed in another base here; their handles are good no more.
    ///
    /// linux: kernel/hrtimer.c:migrate_hrtimers
    pub(crate) fn migrate_hrtimers(&mut self, other: &mut Self) {
        while let Some((timer, expiry)) = other.active.pop_first() {
            self.start(timer.expires, expiry);
        }
        other.note_next();
    }
}

/// Runs the expired timers of this CPU: those that are due at the softirq's time, and no others, so that
/// one that arms itself again at once does not keep the CPU.
///
/// linux: kernel/hrtimer.c:hrtimer_run_softirq
pub(crate) fn hrtimer_run_softirq(cx: &mut BhCx<'_>) {
    let (now, last) = (cx.now(), cx.cpu.hrtimers.sequence);
    while let Some((timer, _)) = cx.cpu.hrtimers.active.first_key_value() {
        if timer.sequence > last {
            break;
        }
        let Some(expiry) = cx.cpu.hrtimers.take_due(now) else { break };
        expiry.happen(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nsproxy::NetId;
    use crate::kernel::testing::Nothing;

    fn start(base: &mut HrtimerCpuBase, at: u64, token: u64) -> Hrtimer {
        base.start(Ktime(at), Expiry { target: Arc::new(Nothing), token, net: NetId::INIT })
    }

    fn due(base: &mut HrtimerCpuBase, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| base.take_due(Ktime(now)).map(|expiry| expiry.token)).collect()
    }

    #[test]
    fn entries_expire_by_time_then_in_the_order_they_were_armed() {
        let mut base = HrtimerCpuBase::default();
        for (at, token) in [(500, 1), (7, 2), (500, 3), (8, 4), (1_000_001, 5)] {
            start(&mut base, at, token);
        }
        assert_eq!(base.next_event(), Some(Ktime(7)));
        assert_eq!(due(&mut base, 6), []);
        assert_eq!(due(&mut base, 499), [2, 4]);
        assert_eq!(base.next_event(), Some(Ktime(500)));
        assert_eq!(due(&mut base, 2_000_000), [1, 3, 5]);
        assert!(base.is_empty() && base.next_event().is_none());
    }

    #[test]
    fn a_cancelled_one_is_gone_and_is_cancelled_once() {
        let mut base = HrtimerCpuBase::default();
        let (first, second) = (start(&mut base, 10, 1), start(&mut base, 10, 2));
        assert!(base.hrtimer_try_to_cancel(first) && !base.hrtimer_try_to_cancel(first));
        assert_eq!((base.len(), base.next_event()), (1, Some(Ktime(10))));
        assert_eq!(due(&mut base, 10), [2]);
        assert!(!base.hrtimer_try_to_cancel(second));
    }

    #[test]
    fn who_idles_hears_of_an_earlier_one() {
        let mut base = HrtimerCpuBase::default();
        assert_eq!(base.tell(), None);
        start(&mut base, 100, 1);
        assert!(base.sooner());
        assert_eq!(base.tell(), Some(Ktime(100)));
        assert!(!base.sooner());
        start(&mut base, 200, 2);
        assert!(!base.sooner());
        start(&mut base, 99, 3);
        assert!(base.sooner());
    }

    #[test]
    fn a_cpu_that_goes_down_leaves_its_entries_to_another() {
        let (mut here, mut there) = (HrtimerCpuBase::default(), HrtimerCpuBase::default());
        start(&mut here, 20, 1);
        for (at, token) in [(30, 2), (10, 3)] {
            start(&mut there, at, token);
        }
        here.migrate_hrtimers(&mut there);
        assert!(there.is_empty() && there.next_event().is_none());
        assert_eq!(here.next_event(), Some(Ktime(10)));
        assert_eq!(due(&mut here, 100), [3, 1, 2]);
    }
}
