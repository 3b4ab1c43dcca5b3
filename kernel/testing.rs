//! For unit tests: a machine of one CPU whose clock stands still.

use super::context::{BhCx, TaskCx};
use super::cpu::CpuId;
use super::machine::{Machine, Platform};
use super::sched::TaskStruct;
use super::time::Ktime;
use super::timer::TimerTarget;
use std::sync::Arc;

/// What a timer wakes that does nothing.
pub(crate) struct Nothing;

impl TimerTarget for Nothing {
    fn expire(self: Arc<Self>, _: &mut BhCx<'_>, _: u64) {}
}

/// Time stands still.
pub(crate) struct Still;

impl Platform for Still {
    fn ktime_get(&self) -> Ktime {
        Ktime(1)
    }
    fn ktime_get_real(&self) -> u64 {
        1
    }
    fn wake_cpu(&self, _: CpuId) {}
    fn relax(&self, _: u32) {}
}

/// Runs `test` in a BH section of such a machine, and sees that no packet leaks.
pub(crate) fn with_bh(test: impl FnOnce(&mut BhCx<'_>)) {
    with_task(|cx| cx.local_bh_disable(test));
}

/// Runs `test` as a task of such a machine, and sees that no packet leaks.
pub(crate) fn with_task(test: impl FnOnce(&mut TaskCx)) {
    let machine = Machine::builder().boot(Box::new(Still)).expect("boots");
    let mut cx = TaskCx::new(&machine, TaskStruct::new("test", CpuId(0)));
    test(&mut cx);
    drop(cx);
    assert_eq!(machine.live_skbs(), 0, "none leaks");
}
