//! The thread of one CPU: its ksoftirqd, and its idle loop while no task leads it.
//!
//! linux: kernel/softirq.c (`run_ksoftirqd`), kernel/cpu/idle.c (`cpu_idle_loop`).
//! Contexts: one thread a CPU. Invariants: idle it makes no system call and sets no timer but the
//! wheel's own; while a task leads, what wakes this thread is passed on to it.
//! DIVERGES: Linux's idle task and ksoftirqd are two threads; what tells them apart here is what
//! the stack is asked to run.

use crate::clock::monotonic_ns;
use crate::idle::{COOL_NS, CpuIdle, HOT_PACKETS, timeout};
use rustix::thread::{CpuSet, futex, sched_setaffinity};
use stack::kernel::cpu::{CpuId, Next};
use stack::kernel::machine::Machine;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// Runs the CPU until told to stop. One was counted awake for this thread.
pub(crate) fn cpu_idle_loop(m: &Machine, cpu: CpuId, idle: &CpuIdle) {
    let mut thread = Ksoftirqd { m, cpu, idle, received: None, core: u32::MAX };
    while !idle.lead.stopped() {
        match thread.run_cpu() {
            Some(deadline) if idle.word.rest() => thread.sleep(deadline),
            _ => idle.fire(idle.look_busy()),
        }
    }
    // Nobody runs the CPU from here on but tasks that lead it.
    idle.word.leave();
}

struct Ksoftirqd<'a> {
    m: &'a Machine,
    cpu: CpuId,
    idle: &'a CpuIdle,
    /// Packets received on this CPU when it was last run here.
    received: Option<u64>,
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
        let before = self.received.replace(received).unwrap_or(received);
        if received.wrapping_sub(before) >= HOT_PACKETS && self.idle.lead.try_heat() {
            self.follow_task();
        }
        (!pending && !ksoftirqd).then(|| deadline.map_or(u64::MAX, |at| at.as_nanos()))
    }

    /// Interrupts, timers and softirqs, then ksoftirqd's share.
    fn run_softirqs(&self) -> Next {
        let next = self.m.run_cpu(self.cpu);
        if !next.pending && !next.ksoftirqd {
            return next;
        }
        self.m.run_ksoftirqd(self.cpu)
    }

    /// Sleeps until there is something to do here, and raises the interrupts that came.
    fn sleep(&mut self, deadline: u64) {
        let idle = self.idle;
        let hot_since = idle.lead.hot().then(monotonic_ns);
        idle.sleeps_until(deadline);
        let events = idle.wait(timeout(deadline));
        idle.sleeps_no_more();
        if idle.lead.led() {
            self.pass_on(events);
        } else {
            idle.word.rouse();
            idle.fire(events);
        }
        match hot_since {
            Some(since) if monotonic_ns() - since >= COOL_NS => idle.lead.cool(),
            Some(_) => self.follow_task(),
            None => {}
        }
    }

    /// A task leads, and what woke this thread is that task's. Gives it to it, and stays out of its
    /// way until it has gone.
    fn pass_on(&self, events: crate::wait::Events) {
        let idle = self.idle;
        let woken = events.woken();
        // All rest, as far as we are concerned: an interrupt raised here calls the leader.
        idle.fire(events);
        if woken {
            idle.waiter.wake();
        }
        while let Some(led) = idle.lead.await_leader() {
            let (word, forever) = (idle.lead.word(), None);
            // Woken, changed before, or interrupted: the word says which.
            let _ = futex::wait_bitset(word, futex::Flags::PRIVATE, led, forever, NonZeroU32::MAX);
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
