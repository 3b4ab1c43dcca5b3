//! A task that waits leads its CPU's idle loop: it waits for interrupts, runs softirqs, and goes when
//! it has what it waited for.
//!
//! linux: kernel/cpu/idle.c (`cpu_idle_loop`): there, too, what arrives for a task that sleeps is
//! worked off by the CPU it sleeps on. Key types: `Spin`; [`sleep`] is the task's wait.
//! Contexts: the waiting task's thread, on no CPU.
//! Invariant: however it ends, by a panic too, the lead is given back and what is wanted is armed.

use super::{CpuIdle, HOT_PACKETS, timeout};
use crate::clock::monotonic_ns;
use crate::idle::words::{Bed, SleepWord};
use crate::park::Parker;
use rustix::thread::sched_getcpu;
use stack::kernel::cpu::{CpuId, Next};
use stack::kernel::machine::Machine;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Whether it pays to look again and again for a while before sleeping.
///
/// It does where the answer comes from another processor at once. Where it comes from this very
/// processor, or not soon, spinning only takes time from others: each failure doubles the number of
/// sleeps before the next try.
#[derive(Debug)]
pub(crate) struct Spin {
    /// At most so long; zero: never.
    ns: u64,
    /// Failures in a row.
    failed: AtomicU32,
    /// Sleeps to come without a try.
    skip: AtomicU32,
}

/// 2 to this power is the most sleeps without a try.
const MOST_FAILED: u32 = 10;

impl Spin {
    pub(super) fn new(most: Duration) -> Self {
        let ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Self { ns, failed: AtomicU32::new(0), skip: AtomicU32::new(0) }
    }

    /// Asked by the leader alone before it sleeps.
    fn pays(&self) -> bool {
        if self.ns == 0 {
            return false;
        }
        let skip = self.skip.load(Ordering::Relaxed);
        self.skip.store(skip.saturating_sub(1), Ordering::Relaxed);
        skip == 0
    }

    fn ended(&self, found: bool) {
        let failed =
            if found { 0 } else { (self.failed.load(Ordering::Relaxed) + 1).min(MOST_FAILED) };
        self.failed.store(failed, Ordering::Relaxed);
        self.skip.store((1 << failed) - 1, Ordering::Relaxed);
    }
}

/// Sleeps until woken or until the monotonic clock shows `deadline`, and may return for nothing:
/// leads the CPU if nobody does, else parks.
pub(crate) fn sleep(
    m: &Machine,
    cpu: CpuId,
    idle: &Arc<CpuIdle>,
    place: &mut Parker,
    deadline: Option<u64>,
) {
    idle.core.store(sched_getcpu() as u32, Ordering::Relaxed);
    if idle.lead.try_lead() {
        idle.word.rouse();
        let deadline = deadline.unwrap_or(u64::MAX);
        let leader = Leader { m, cpu, idle, deadline, next: u64::MAX, leads: true };
        if !leader.run(place.lead_at(idle)) {
            return;
        }
        // The CPU is hot, and ksoftirqd has it.
    }
    idle.follow(|| place.park(deadline));
}

struct Leader<'a> {
    m: &'a Machine,
    cpu: CpuId,
    idle: &'a CpuIdle,
    /// When its own wait is over; `u64::MAX`: never.
    deadline: u64,
    /// When the CPU's wheel wants to be run.
    next: u64,
    /// It has the lead to give back.
    leads: bool,
}

/// What a round of the CPU left.
#[derive(PartialEq)]
enum Step {
    /// The CPU has more to do.
    Busy,
    /// There is nothing to do.
    Idle,
    /// There is too much to do for a task on the side.
    Hot,
}

impl Leader<'_> {
    /// Leads until woken, or until the deadline. True: until the CPU was hot, and is ksoftirqd's now.
    fn run(mut self, word: &SleepWord) -> bool {
        let idle = self.idle;
        loop {
            let step = self.run_cpu();
            if word.take_woken() {
                return false;
            }
            if step == Step::Hot {
                self.heat();
                return true;
            }
            let until = self.deadline.min(self.next);
            let left = timeout(until);
            if left == Some(Duration::ZERO) && self.deadline <= self.next {
                return false;
            }
            let sleeps = step == Step::Idle && left != Some(Duration::ZERO);
            if !sleeps || self.look(word) || !idle.word.rest() {
                continue;
            }
            if word.lie_down(Bed::Leader) {
                let events = idle.wait(left);
                word.get_up();
                idle.word.rouse();
                if events.woken() && idle.lead.stopped() {
                    // It was ksoftirqd that was called, to end.
                    idle.waiter.wake();
                    return false;
                }
                idle.fire(events);
            } else {
                idle.word.rouse();
            }
        }
    }

    /// One round of the CPU. A panic there is the stack's, not this task's: the CPU is free again,
    /// and what was pending besides still is.
    fn run_cpu(&mut self) -> Step {
        self.idle.word.take_kick();
        let run = catch_unwind(AssertUnwindSafe(|| self.m.run_cpu(self.cpu)));
        let Ok(Next { deadline, pending, ksoftirqd, received }) = run else { return Step::Busy };
        self.next = deadline.map_or(u64::MAX, |at| at.as_nanos());
        if ksoftirqd || received >= HOT_PACKETS {
            Step::Hot
        } else if pending {
            Step::Busy
        } else {
            Step::Idle
        }
    }

    /// Looks before it sleeps: arming a source that is ready would call ksoftirqd, which lies in the set
    /// already. True if there is something to run.
    fn look(&self, word: &SleepWord) -> bool {
        if self.idle.spin.pays() { self.spin(word) } else { self.idle.fire_ready() }
    }

    /// Looks for a while, without sleeping; true if there is something to run or the task was woken.
    fn spin(&self, word: &SleepWord) -> bool {
        let idle = self.idle;
        idle.disarm_all();
        let until = monotonic_ns() + idle.spin.ns;
        let found = loop {
            if idle.fire_ready() || idle.word.kicked() || word.woken() {
                break true;
            }
            if monotonic_ns() >= until.min(self.deadline) {
                break false;
            }
            std::hint::spin_loop();
        };
        idle.spin.ended(found);
        found
    }

    /// Leaves the CPU to ksoftirqd for as long as it is hot.
    fn heat(&mut self) {
        self.leads = false;
        if self.idle.lead.heat() {
            self.idle.wake_ksoftirqd_from_lead();
        }
        // Sets the word as well: ksoftirqd has something to look at, whatever it is about to do.
        self.idle.wake();
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let idle = self.idle;
        if self.leads && idle.lead.unlead() {
            idle.wake_ksoftirqd_from_lead();
        }
        let word_left = idle.word.leave();
        idle.lead_ended();
        if word_left || idle.comes_late(self.next) {
            idle.waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests;
