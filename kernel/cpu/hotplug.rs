//! CPUs that go down and come up while the machine runs, without losing anything.
//!
//! linux: kernel/cpu.c (`_cpu_down`, `_cpu_up`), kernel/timer.c
//! (`migrate_timers`), kernel/irq/cpuhotplug.c. Contexts: task, on no CPU. No lock: one at a time, by a
//! flag.
//! Invariants: on return of [`cpu_down`] nothing is steered, armed or polled there, and what was queued
//! there has been worked off there, in its order; a CPU that is down still runs what reaches it late,
//! for whoever runs it goes on to look.
//! DIVERGES: a task whose CPU goes down moves when it next enters it or sleeps, not at once: until then
//! it touches nothing of a CPU. CPU 0 can go down as any other.

use super::{CpuId, Stay};
use crate::kernel::context::TaskCx;
use crate::kernel::machine::Machine;
use crate::kernel::rcupdate::synchronize_net;
use crate::kernel::sched::TaskStruct;
use crate::kernel::timer::TimerBase;
use klib::bitmap::CpuMask;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use uapi::errno::Errno;

/// Which CPUs are up.
#[derive(Debug)]
pub(crate) struct Hotplug {
    online: AtomicU64,
    /// A CPU is on its way up or down.
    busy: AtomicBool,
}

impl Hotplug {
    /// All of `cpus` are up.
    pub(crate) fn new(cpus: u8) -> Self {
        let all = if cpus >= 64 { u64::MAX } else { (1 << cpus) - 1 };
        Self { online: AtomicU64::new(all), busy: AtomicBool::new(false) }
    }
}

/// The right to change which CPUs are up.
struct Changing<'a>(&'a Hotplug);

impl<'a> Changing<'a> {
    fn begin(hotplug: &'a Hotplug) -> Result<Self, Errno> {
        if hotplug.busy.swap(true, Ordering::Acquire) {
            Err(Errno::EBUSY)
        } else {
            Ok(Self(hotplug))
        }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Machine {
    /// The CPUs that are up.
    ///
    /// linux: include/linux/cpumask.h:cpu_online_mask
    pub fn cpu_online_mask(&self) -> CpuMask {
        CpuMask::from_bits(self.hotplug.online.load(Ordering::Relaxed))
    }

    /// The machine has this CPU, and it is up.
    ///
    /// linux: include/linux/cpumask.h:cpu_online
    #[inline]
    pub fn cpu_online(&self, cpu: CpuId) -> bool {
        cpu.0 < 64 && self.hotplug.online.load(Ordering::Relaxed) & 1 << cpu.0 != 0
    }

    /// The next CPU after this one that is up.
    pub(crate) fn cpu_beside(&self, cpu: CpuId) -> CpuId {
        let online = self.hotplug.online.load(Ordering::Relaxed);
        let from_here = online.rotate_right(u32::from(cpu.0));
        CpuId(((u32::from(cpu.0) + from_here.trailing_zeros()) % 64) as u8)
    }

    fn migrate_irqs(&self) {
        let online = self.cpu_online_mask();
        for desc in self.tables().irqs.iter().flatten() {
            desc.migrate(online);
        }
    }

    fn set_offline(&self, cpu: CpuId, offline: bool) {
        let mut stay = self.enter(cpu);
        stay.local(|local| local.offline = offline);
        stay.leave();
    }
}

impl<'m> Stay<'m> {
    /// Leaves a CPU that is down for one that is up.
    #[cold]
    pub(crate) fn elsewhere(mut self, task: &TaskStruct) -> (Self, CpuId) {
        let m = self.m;
        loop {
            let cpu = m.cpu_beside(self.held.id);
            self.leave();
            self = m.enter(cpu);
            if !self.offline() {
                task.set_cpu(cpu);
                return (self, cpu);
            }
        }
    }
}

/// Rounds that a CPU gets to end what it has; it is never more than a backlog and what polls brought.
const ROUNDS: u32 = 10_000;

/// Takes a CPU down: its interrupts, polls and timers go to another, and what is queued there is worked
/// off before this returns. Context: task, on no CPU.
///
/// # Errors
/// EINVAL when there is no such CPU or it is down already; EBUSY when it is the last that is up, or
/// another is on its way up or down.
///
/// linux: kernel/cpu.c:cpu_down
pub fn cpu_down(cx: &mut TaskCx, cpu: CpuId) -> Result<(), Errno> {
    let m = Arc::clone(cx.machine());
    let _one = Changing::begin(&m.hotplug)?;
    if !m.cpu_online(cpu) {
        return Err(Errno::EINVAL);
    }
    if m.cpu_online_mask().bits().count_ones() == 1 {
        return Err(Errno::EBUSY);
    }
    m.hotplug.online.fetch_and(!(1 << cpu.0), Ordering::Relaxed);
    m.migrate_irqs();
    m.set_offline(cpu, true);
    cx.leave_offline_cpu();
    // Every section that began while it was up has ended.
    synchronize_net(cx);
    for _ in 0..ROUNDS {
        for dead in m.cpu_notifiers.iter() {
            dead(cx, cpu);
        }
        migrate_timers(&m, cpu);
        m.run_cpu(cpu);
        let next = m.run_ksoftirqd(cpu);
        if !next.pending && !next.ksoftirqd {
            break;
        }
    }
    Ok(())
}

/// Takes a CPU back into use; interrupts that name it come back.
///
/// # Errors
/// EINVAL when there is no such CPU or it is up already; EBUSY when another is on its way up or down.
///
/// linux: kernel/cpu.c:cpu_up
pub fn cpu_up(cx: &mut TaskCx, cpu: CpuId) -> Result<(), Errno> {
    let m = Arc::clone(cx.machine());
    let _one = Changing::begin(&m.hotplug)?;
    if usize::from(cpu.0) >= m.cpus.len() || m.cpu_online(cpu) {
        return Err(Errno::EINVAL);
    }
    m.set_offline(cpu, false);
    m.hotplug.online.fetch_or(1 << cpu.0, Ordering::Relaxed);
    m.migrate_irqs();
    Ok(())
}

/// Part of a subsystem that has something on each CPU: takes what it has off one that goes down. Called in a
/// task, on no CPU, perhaps several times.
pub type CpuNotifier = fn(&mut TaskCx, CpuId);

/// Has `dead` called, in a task, when a CPU goes down. At boot.
///
/// linux: kernel/cpu.c:register_cpu_notifier
pub fn register_cpu_notifier(m: &mut Machine, dead: CpuNotifier) {
    m.cpu_notifiers.push(dead);
}

/// linux: kernel/timer.c:migrate_timers
fn migrate_timers(m: &Machine, from: CpuId) {
    let mut timers = TimerBase::new(m.platform.ktime_get());
    let mut stay = m.enter(from);
    let mut hrtimers = stay.local(|local| {
        std::mem::swap(&mut local.timers, &mut timers);
        local.hrtimers.take_all()
    });
    stay.leave();
    if !timers.is_empty() || !hrtimers.is_empty() {
        let mut stay = m.enter(m.cpu_beside(from));
        stay.local(|local| {
            local.timers.migrate_timers(&mut timers);
            local.hrtimers.migrate_hrtimers(&mut hrtimers);
        });
        stay.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::Hotplug;
    use std::sync::atomic::Ordering;

    #[test]
    fn every_cpu_is_up_at_first() {
        for (cpus, all) in [(1, 1), (2, 3), (64, u64::MAX)] {
            assert_eq!(Hotplug::new(cpus).online.load(Ordering::Relaxed), all);
        }
    }
}
