//! Threads that exist once a CPU.
//!
//! linux: kernel/smpboot.c. Key type: [`SmpHotplugThread`].
//! The description is the stack's; the thread itself is whoever drives the CPU: the stepper, or an
//! operating-system thread of `host`.

use crate::kernel::context::BhCx;
use crate::kernel::machine::Machine;

/// A thread that every CPU gets.
///
/// linux: include/linux/smpboot.h:smp_hotplug_thread
#[derive(Clone, Copy, Debug)]
pub struct SmpHotplugThread {
    /// Name; the CPU's number is appended (`ksoftirqd/0`).
    pub comm: &'static str,
    /// There is work.
    pub thread_should_run: fn(&BhCx<'_>) -> bool,
    /// Does one round of it.
    pub thread_fn: fn(&mut BhCx<'_>),
}

/// Registers a per-CPU thread: every CPU of the machine gets one.
///
/// linux: kernel/smpboot.c:smpboot_register_percpu_thread
pub fn smpboot_register_percpu_thread(m: &mut Machine, thread: SmpHotplugThread) {
    m.boot_log(crate::kernel::trace::events::Point::smpboot_register_percpu_thread);
    for cpu in m.cpus.iter_mut() {
        cpu.local.get_mut().threads.push(thread);
    }
}

/// One turn of the CPU's threads: each that should run does one round. True if any ran.
///
/// linux: kernel/smpboot.c:smpboot_thread_fn
pub fn smpboot_thread_fn(cx: &mut BhCx<'_>) -> bool {
    let mut ran = false;
    for at in 0..cx.cpu.threads.len() {
        let thread = cx.cpu.threads[at];
        if (thread.thread_should_run)(cx) {
            (thread.thread_fn)(cx);
            ran = true;
        }
    }
    ran
}
