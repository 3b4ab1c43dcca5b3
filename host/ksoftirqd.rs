//! The thread of one CPU: its idle loop, and its ksoftirqd.
//!
//! linux: kernel/softirq.c (`run_ksoftirqd`), kernel/cpu/idle.c (`cpu_idle_loop`).
//! Contexts: one thread a CPU. Invariants: idle it makes no system call and sets no timer but the
//! wheel's own; whoever waits for the CPU gets it between two rounds.
//! DIVERGES: Linux's idle task and ksoftirqd are two threads; what tells them apart here is what
//! the stack is asked to run.

use crate::clock::monotonic_ns;
use crate::platform::CpuIdle;
use stack::kernel::cpu::{CpuId, Next};
use stack::kernel::machine::Machine;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// So long the thread stays away from a CPU that somebody waits for.
const HAND_OVER_NS: u64 = 60_000;

/// Runs the CPU until told to stop.
pub(crate) fn cpu_idle_loop(m: &Machine, cpu: CpuId, idle: &CpuIdle) {
    loop {
        idle.awake();
        if idle.stopped() {
            return;
        }
        // A softirq's panic is contained in the stack, an interrupt handler's ends here; unwound,
        // the CPU is free again, and what was pending besides is still pending.
        let next = catch_unwind(AssertUnwindSafe(|| run(m, cpu)));
        idle.sleep(match next {
            Ok(Next { pending: false, ksoftirqd: false, deadline }) => {
                deadline.map(|at| m.until(at))
            }
            Ok(_) | Err(_) => Some(Duration::ZERO),
        });
    }
}

/// One round: interrupts, timers and softirqs, then ksoftirqd's share.
fn run(m: &Machine, cpu: CpuId) -> Next {
    let next = m.run_cpu(cpu);
    if !next.pending && !next.ksoftirqd {
        return next;
    }
    hand_over(m, cpu);
    m.run_ksoftirqd(cpu)
}

/// Lets those in who wait for the CPU. Without that they would starve: we would take it again
/// before they see it free.
fn hand_over(m: &Machine, cpu: CpuId) {
    if !m.cpu_wanted(cpu) {
        return;
    }
    let until = monotonic_ns() + HAND_OVER_NS;
    while m.cpu_wanted(cpu) && monotonic_ns() < until {
        std::thread::yield_now();
    }
}
