//! Softirqs: numbers, raising, the loop that runs them, and ksoftirqd.
//!
//! linux: kernel/softirq.c. Key types: [`Softirq`], [`SoftirqState`].
//! Contexts: raising in hard interrupt and BH; running in BH. No lock: the state is per CPU.
//! Invariants: a softirq runs on the CPU that raised it; one `__do_softirq` a CPU at a time.
//! DIVERGES: only the network softirqs that a run left behind at its limit are kept for ksoftirqd
//! (Linux 4.9 to 6.4 kept all); a tasklet-free machine has nothing else that may pile up.

use crate::kernel::context::{BhCx, HardirqCx, Walker};
use crate::kernel::machine::Machine;
use crate::kernel::smpboot::{SmpHotplugThread, smpboot_register_percpu_thread};
use crate::kernel::time::Ktime;
use crate::kernel::trace::Context;
use crate::walk;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Softirq numbers, in Linux's order: lower runs first.
///
/// linux: include/linux/interrupt.h:softirq numbers
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Softirq {
    /// High-priority tasklets.
    Hi,
    /// Expired timers.
    Timer,
    /// Transmit completions and stopped queues.
    NetTx,
    /// Receive polls.
    NetRx,
    /// Block-device completions (unused here, its place is kept).
    Block,
    /// Block-device polling (unused here).
    BlockIopoll,
    /// Tasklets.
    Tasklet,
    /// Scheduler balancing (unused here).
    Sched,
    /// Expired timers of nanoseconds.
    Hrtimer,
    /// RCU callbacks (unused here).
    Rcu,
}

/// How many softirqs there are.
pub const NR_SOFTIRQS: usize = 10;

/// `__do_softirq` starts over at most this often before it leaves the rest to ksoftirqd.
pub const MAX_SOFTIRQ_RESTART: u32 = 10;

/// `__do_softirq` starts over no later than this after it began.
pub const MAX_SOFTIRQ_TIME: Duration = Duration::from_millis(2);

/// What a softirq does.
pub type SoftirqAction = fn(&mut BhCx<'_>);

const NETWORK: u32 = 1 << Softirq::NetTx as u32 | 1 << Softirq::NetRx as u32;

/// The softirq side of one CPU.
#[derive(Debug)]
pub struct SoftirqState {
    /// One bit a softirq: raised, not yet run.
    pub(crate) pending: u32,
    /// All bits but those that a run at its limit handed to ksoftirqd, which nobody else runs.
    ours: u32,
    /// ksoftirqd was woken and has not slept since.
    pub(crate) ksoftirqd_woken: bool,
    /// Runs per softirq, as `/proc/softirqs` shows them.
    pub(crate) runs: [u64; NR_SOFTIRQS],
    /// Wake-ups of ksoftirqd.
    pub(crate) ksoftirqd_wakeups: u64,
    /// Panics contained in a softirq.
    pub(crate) panics: u64,
}

impl Default for SoftirqState {
    fn default() -> Self {
        Self {
            pending: 0,
            ours: u32::MAX,
            ksoftirqd_woken: false,
            runs: [0; NR_SOFTIRQS],
            ksoftirqd_wakeups: 0,
            panics: 0,
        }
    }
}

impl SoftirqState {
    /// What a task that leaves, or an interrupt that ends, has to run.
    #[inline]
    pub(crate) fn runnable(&self) -> u32 {
        self.pending & self.ours
    }
}

/// Registers `action` for `nr`, at boot.
///
/// linux: kernel/softirq.c:open_softirq
pub fn open_softirq(m: &mut Machine, nr: Softirq, action: SoftirqAction) {
    m.boot_log(crate::kernel::trace::events::Point::open_softirq);
    m.softirq_vec[nr as usize] = Some(action);
}

/// The pending word of this CPU.
///
/// linux: include/linux/irq_cpustat.h:local_softirq_pending
#[inline]
pub fn local_softirq_pending(cx: &BhCx<'_>) -> u32 {
    cx.cpu.softirq.pending
}

/// A context in which softirqs can be raised: it is on a CPU and counts as an interrupt, so
/// nobody needs waking.
pub trait RaiseSoftirq: Walker {
    /// The CPU's softirq state.
    fn softirq_state(&mut self) -> &mut SoftirqState;
}

impl RaiseSoftirq for BhCx<'_> {
    #[inline]
    fn softirq_state(&mut self) -> &mut SoftirqState {
        &mut self.cpu.softirq
    }
}

impl RaiseSoftirq for HardirqCx<'_> {
    #[inline]
    fn softirq_state(&mut self) -> &mut SoftirqState {
        &mut self.cpu.softirq
    }
}

/// Raises `nr` on this CPU. Both contexts that can call it end by running softirqs, so ksoftirqd
/// stays asleep.
///
/// linux: kernel/softirq.c:raise_softirq_irqoff
#[inline]
pub fn raise_softirq_irqoff(cx: &mut impl RaiseSoftirq, nr: Softirq) {
    walk!(cx, raise_softirq_irqoff => nr as u64);
    __raise_softirq_irqoff(cx, nr);
}

/// Sets the bit of `nr` in this CPU's pending word.
///
/// linux: kernel/softirq.c:__raise_softirq_irqoff
#[inline]
pub fn __raise_softirq_irqoff(cx: &mut impl RaiseSoftirq, nr: Softirq) {
    walk!(cx, __raise_softirq_irqoff => nr as u64);
    cx.softirq_state().pending |= 1 << nr as u32;
}

/// Runs what is pending, lowest number first, and starts over while more comes: at most
/// [`MAX_SOFTIRQ_RESTART`] rounds, [`MAX_SOFTIRQ_TIME`], and only while nobody waits for the CPU.
/// What is left then is ksoftirqd's.
///
/// linux: kernel/softirq.c:__do_softirq
// Part of the interrupt's way out, which one packet alone pays for whole.
#[inline(always)]
pub fn __do_softirq(cx: &mut BhCx<'_>) {
    walk!(cx, __do_softirq => u64::from(cx.cpu.softirq.runnable()));
    // Who comes here has just read the clock.
    let began = cx.now;
    let mut rounds = MAX_SOFTIRQ_RESTART;
    loop {
        let pending = cx.cpu.softirq.runnable();
        cx.cpu.softirq.pending &= !pending;
        run_actions(cx, pending);
        if cx.cpu.softirq.runnable() == 0 {
            // What was kept for the batch is settled, which may raise something: a stream that waited
            // for its packets to leave goes on.
            cx.end_section();
            if cx.cpu.softirq.runnable() == 0 {
                return;
            }
        }
        rounds -= 1;
        if rounds == 0 || !time_is_left(cx, began) {
            return wakeup_softirqd(cx);
        }
    }
}

/// A run that began then may start over, and nobody waits for the CPU.
#[cold]
fn time_is_left(cx: &mut BhCx<'_>, began: Ktime) -> bool {
    cx.refresh_now() < began + MAX_SOFTIRQ_TIME && !cx.need_resched()
}

#[inline(always)]
fn run_actions(cx: &mut BhCx<'_>, mut pending: u32) {
    while pending != 0 {
        let nr = pending.trailing_zeros() as usize;
        pending &= pending - 1;
        cx.cpu.softirq.runs[nr] += 1;
        let Some(action) = cx.m.softirq_vec[nr] else { continue };
        if catch_unwind(AssertUnwindSafe(|| action(cx))).is_err() {
            contain_panic(cx);
        }
    }
}

/// A softirq panicked: what it held on this CPU is put right and service goes on.
#[cold]
pub(crate) fn contain_panic(cx: &mut BhCx<'_>) {
    cx.cpu.softirq.panics += 1;
    crate::net::core::dev::contain_panic(cx);
}

/// Leaves what is pending to ksoftirqd and marks it runnable; who drives the CPU wakes the thread.
///
/// linux: kernel/softirq.c:wakeup_softirqd
pub fn wakeup_softirqd(cx: &mut BhCx<'_>) {
    walk!(cx, wakeup_softirqd);
    let state = &mut cx.cpu.softirq;
    state.ours &= !(state.pending & NETWORK);
    if !state.ksoftirqd_woken {
        state.ksoftirqd_woken = true;
        state.ksoftirqd_wakeups += 1;
    }
}

/// There is work for ksoftirqd on this CPU.
///
/// linux: kernel/softirq.c:ksoftirqd_should_run
pub fn ksoftirqd_should_run(cx: &BhCx<'_>) -> bool {
    walk!(cx, ksoftirqd_should_run);
    // Once it was woken it runs, or it would count as awake for ever: an interrupt may have done its work.
    local_softirq_pending(cx) != 0 || cx.cpu.softirq.ksoftirqd_woken
}

/// The body of ksoftirqd: one run of what is pending, its own share included.
///
/// linux: kernel/softirq.c:run_ksoftirqd
pub fn run_ksoftirqd(cx: &mut BhCx<'_>) {
    cx.context = Context::Ksoftirqd;
    walk!(cx, run_ksoftirqd);
    cx.cpu.softirq.ours = u32::MAX;
    cx.cpu.softirq.ksoftirqd_woken = false;
    if local_softirq_pending(cx) != 0 {
        __do_softirq(cx);
    }
}

/// Starts one ksoftirqd a CPU, at boot.
///
/// linux: kernel/softirq.c:spawn_ksoftirqd
pub fn spawn_ksoftirqd(m: &mut Machine) {
    m.boot_log(crate::kernel::trace::events::Point::spawn_ksoftirqd);
    smpboot_register_percpu_thread(
        m,
        SmpHotplugThread {
            comm: "ksoftirqd",
            thread_should_run: ksoftirqd_should_run,
            thread_fn: run_ksoftirqd,
        },
    );
}
