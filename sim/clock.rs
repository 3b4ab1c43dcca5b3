//! The virtual clock: time that passes only when the world says so, and a little for each thing
//! that is done.

use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Platform;
use stack::kernel::time::Ktime;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What running costs in virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Nanoseconds for each call that enters a CPU.
    pub call_ns: u64,
    /// Nanoseconds for each poll of a NAPI.
    pub poll_ns: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { call_ns: 300, poll_ns: 500 }
    }
}

/// A clock shared by the machines of a world. A reading costs a nanosecond: two events never have
/// the same time, so what is recorded has an order.
#[derive(Debug)]
pub struct VirtualClock {
    now: AtomicU64,
    call_ns: AtomicU64,
    poll_ns: AtomicU64,
}

/// Where virtual time begins: one second, so that nothing is at time zero.
const EPOCH: u64 = 1_000_000_000;
/// Wall-clock time at the beginning: 2026-01-01.
pub const REAL_EPOCH: u64 = 1_767_225_600_000_000_000;

impl VirtualClock {
    /// A clock at its beginning.
    pub fn new(costs: Costs) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU64::new(EPOCH),
            call_ns: AtomicU64::new(costs.call_ns),
            poll_ns: AtomicU64::new(costs.poll_ns),
        })
    }

    /// The time, without spending any.
    pub fn peek(&self) -> Ktime {
        Ktime(self.now.load(Ordering::Relaxed))
    }

    /// Moves to `at`, if that is later.
    pub fn advance_to(&self, at: Ktime) {
        self.now.fetch_max(at.0, Ordering::Relaxed);
    }

    /// Changes what running costs.
    pub fn set_costs(&self, costs: Costs) {
        self.call_ns.store(costs.call_ns, Ordering::Relaxed);
        self.poll_ns.store(costs.poll_ns, Ordering::Relaxed);
    }

    fn spend(&self, ns: u64) -> u64 {
        self.now.fetch_add(ns, Ordering::Relaxed) + ns
    }
}

/// A machine's view of the clock.
#[derive(Debug)]
pub(crate) struct SimPlatform(pub Arc<VirtualClock>);

impl Platform for SimPlatform {
    fn ktime_get(&self) -> Ktime {
        Ktime(self.0.spend(1))
    }

    fn ktime_get_real(&self) -> u64 {
        REAL_EPOCH + self.0.peek().0
    }

    /// The stepper looks at every CPU; nobody sleeps.
    fn wake_cpu(&self, _cpu: CpuId) {}

    /// One thread: whoever waits here waits for itself.
    fn relax(&self, spins: u32) {
        assert!(
            spins < 1_000,
            "a stepped machine waits for a CPU or socket that its own caller holds"
        );
    }

    fn charges(&self) -> bool {
        true
    }

    fn charge_cpu(&self) {
        self.0.spend(self.0.call_ns.load(Ordering::Relaxed));
    }

    fn charge_poll(&self) {
        self.0.spend(self.0.poll_ns.load(Ordering::Relaxed));
    }
}
