//! What a machine asks of the world beneath it, answered by the operating system.
//!
//! Key type: [`HostPlatform`]. Contexts: any thread.

use crate::clock::{monotonic_ns, realtime_ns};
use crate::idle::CpuIdle;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::{Machine, Platform};
use stack::kernel::time::Ktime;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// The operating system beneath a machine: its clocks, and a thread for each CPU.
#[derive(Debug)]
pub struct HostPlatform {
    cpus: Arc<[Arc<CpuIdle>]>,
}

impl HostPlatform {
    pub(crate) fn new(cpus: Arc<[Arc<CpuIdle>]>) -> Self {
        Self { cpus }
    }

    /// Where those sleep who run this CPU, if the machine runs on threads.
    pub(crate) fn idle(m: &Machine, cpu: CpuId) -> Option<&Arc<CpuIdle>> {
        let platform: &dyn Any = m.platform();
        platform.downcast_ref::<Self>()?.cpus.get(usize::from(cpu.0))
    }
}

/// Turns spent spinning on a CPU that somebody else holds: about as long as a poll takes.
const SPINS: u32 = 200;
/// Up to this turn the processor is offered to others.
const YIELDS: u32 = 400;
/// A nap after all of those: the holder does not even run.
const NAP: Duration = Duration::from_micros(50);

impl Platform for HostPlatform {
    #[inline]
    fn ktime_get(&self) -> Ktime {
        Ktime(monotonic_ns())
    }

    fn ktime_get_real(&self) -> u64 {
        realtime_ns()
    }

    fn wake_cpu(&self, cpu: CpuId) {
        if let Some(idle) = self.cpus.get(usize::from(cpu.0)) {
            idle.wake();
        }
    }

    fn relax(&self, spins: u32) {
        match spins {
            0..SPINS => std::hint::spin_loop(),
            SPINS..YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}
