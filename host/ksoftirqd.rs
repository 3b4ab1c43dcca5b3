//! The thread of one CPU: its ksoftirqd, and its idle loop while no task leads it.
//!
//! linux: kernel/softirq.c (`run_ksoftirqd`), kernel/cpu/idle.c (`cpu_idle_loop`).
//! Contexts: one thread a CPU. Invariants: idle it makes no system call and sets no timer but the
//! wheel's own; while a task leads, what wakes this thread is passed on to it.
//! DIVERGES: Linux's idle task and ksoftirqd are two threads; what tells them apart here is what
//! the stack is asked to run.

use crate::clock::{monotonic_ns, to_timespec};
use crate::idle::{COOL_NS, CpuIdle, HOT_PACKETS, WATCH_AFTER, timeout};
use crate::wait::Events;
use rustix::io::Errno;
use rustix::thread::{CpuSet, futex, sched_setaffinity};
use stack::kernel::cpu::{CpuId, Next};
use stack::kernel::machine::Machine;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// After so many small runs in a row, with sleeps between, a hot CPU is cool.
const COOL_RUNS: u32 = 16;

/// So often it looks whether tasks still lead, while it watches.
const WATCH_NS: u64 = 2_000_000;

/// So long it leaves the CPU to a task that leads before it looks after it all the same.
const STAY_AWAY_NS: u64 = 20_000_000;

/// So many leads in that time are thick.
const THICK: u32 = 16;

/// 2 to this power is the most by which [`WATCH_AFTER`] grows where leads do not come thick.
const MOST_IN_VAIN: u32 = 10;

/// Runs the CPU until told to stop. One was counted awake for this thread.
pub(crate) fn cpu_idle_loop(m: &Machine, cpu: CpuId, idle: &CpuIdle) {
    let mut thread =
        Ksoftirqd { m, cpu, idle, small_runs: 0, calls: 0, in_vain: 0, core: u32::MAX };
    while !idle.lead.stopped() {
        match thread.run_cpu() {
            Some(deadline) if idle.word.rest() => thread.sleep(deadline),
            _ => thread.look(),
        }
    }
    // Nobody runs the CPU from here on but tasks that lead it.
    idle.word.leave();
}

struct Ksoftirqd<'a> {
    m: &'a Machine,
    cpu: CpuId,
    idle: &'a CpuIdle,
    /// Runs in a row that brought few packets.
    small_runs: u32,
    /// Wake-ups in a row that came soon after the one before.
    calls: u32,
    /// Times in a row that it watched and leads did not come thick.
    in_vain: u32,
    /// The processor this thread was bound to.
    core: u32,
}

impl Ksoftirqd<'_> {
    /// One round. When to come back, `u64::MAX` for never; `None` if there is more to do.
    fn run_cpu(&mut self) -> Option<u64> {
        self.idle.word.take_kick();
        // A softirq's panic is contained in the stack, an interrupt handler's ends here; unwound, the
        // CPU is free again, and what was pending besides is still pending.
        let run = catch_unwind(AssertUnwindSafe(|| self.run_softirqs()));
        let Ok(Next { deadline, pending, ksoftirqd, received }) = run else { return None };
        if received < HOT_PACKETS {
            self.small_runs += 1;
        } else {
            self.small_runs = 0;
            if self.idle.lead.try_heat() {
                self.idle.watch_no_more();
                self.follow_task();
            }
        }
        (!pending && !ksoftirqd).then(|| deadline.map_or(u64::MAX, |at| at.as_nanos()))
    }

    /// Interrupts, timers and softirqs, then ksoftirqd's share.
    fn run_softirqs(&self) -> Next {
        let next = self.m.run_cpu(self.cpu);
        if !next.pending && !next.ksoftirqd {
            return next;
        }
        let rest = self.m.run_ksoftirqd(self.cpu);
        Next { received: next.received + rest.received, ..rest }
    }

    /// Does not sleep, but hears of its descriptors: where no leader does.
    fn look(&self) {
        let idle = self.idle;
        if idle.lead.led() {
            return;
        }
        let events = idle.look_busy();
        self.pass_on(&events);
        idle.fire(events);
    }

    /// A wake-up that this thread has taken may be meant for a task that leads: then it is given again.
    fn pass_on(&self, events: &Events) {
        if events.woken() && self.idle.lead.led() {
            self.idle.waiter.wake();
        }
    }

    /// Sleeps until there is something to do here, and raises the interrupts that came.
    fn sleep(&mut self, deadline: u64) {
        let idle = self.idle;
        let hot = idle.lead.hot();
        let since = monotonic_ns();
        idle.sleeps_until(deadline);
        let events = self.wait(deadline);
        idle.sleeps_no_more();
        let slept = monotonic_ns() - since;
        if idle.lead.led() {
            return self.stay_away(events);
        }
        if hot && (slept >= COOL_NS || self.small_runs >= COOL_RUNS) {
            idle.lead.cool();
        } else if hot {
            self.follow_task();
        } else if slept < WATCH_NS && !events.is_empty() {
            self.called_often();
        } else {
            self.calls = 0;
        }
        idle.word.rouse();
        idle.fire(events);
    }

    /// Called again within a moment, for little. Perhaps a task is about to ask for just this, and would
    /// do it cheaper itself: then it is worth watching whether one does.
    fn called_often(&mut self) {
        self.calls += 1;
        if self.calls >= WATCH_AFTER << self.in_vain {
            self.calls = 0;
            self.idle.watch_from_now_on();
        }
    }

    /// Waits for something to do, or for the deadline. While it watches it looks every now and then
    /// whether leads still come thick.
    fn wait(&mut self, deadline: u64) -> Events {
        let idle = self.idle;
        let mut thin = true;
        while idle.watches() {
            let (tick, before) = (monotonic_ns() + WATCH_NS, idle.leads());
            if idle.lead.led() {
                // A leader who sleeps, and left it to us, who were awake, to arm what he waits for.
                idle.arm_requested_at_rest();
            }
            let events = idle.look(timeout(deadline.min(tick)));
            if !events.is_empty() || deadline <= tick {
                return events;
            }
            if idle.leads().wrapping_sub(before) >= THICK {
                thin = false;
            } else {
                self.in_vain = if thin { (self.in_vain + 1).min(MOST_IN_VAIN) } else { 0 };
                idle.watch_no_more();
            }
        }
        loop {
            let events = idle.wait(timeout(deadline));
            // A signal, or a debugger that attaches, is nobody's word: there is nothing to do for it.
            if !events.is_empty() || (deadline != u64::MAX && monotonic_ns() >= deadline) {
                return events;
            }
        }
    }

    /// A task leads, and what woke this thread is that task's. Gives it to it, and stays out of its
    /// way until it has gone; for a while only, for a handler of a signal may keep it from its work.
    fn stay_away(&self, events: Events) {
        let idle = self.idle;
        self.pass_on(&events);
        // All rest, as far as we are concerned: an interrupt raised here calls the leader.
        idle.fire(events);
        let until = to_timespec(monotonic_ns() + STAY_AWAY_NS);
        while let Some(led) = idle.lead.await_leader() {
            let word = idle.lead.word();
            let flags = futex::Flags::PRIVATE;
            let waited = futex::wait_bitset(word, flags, led, Some(&until), NonZeroU32::MAX);
            if waited == Err(Errno::TIMEDOUT) {
                break;
            }
            // Woken, changed before, or interrupted: the word says which.
        }
        idle.word.rouse();
    }

    /// Goes where the CPU's tasks run: from another processor each of their wake-ups would take longer
    /// than the work itself.
    fn follow_task(&mut self) {
        let core = self.idle.core.load(Ordering::Relaxed);
        if core == u32::MAX || std::mem::replace(&mut self.core, core) == core {
            return;
        }
        let mut here = CpuSet::new();
        here.set(core as usize);
        // Refused where the process may not run there any more: then this thread stays where it is.
        let _ = sched_setaffinity(None, &here);
    }
}
