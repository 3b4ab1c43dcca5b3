//! Tasks on threads: calls that may sleep, driven by the thread that makes them.
//!
//! Key types: [`block_on`], [`TaskHandle`]. Contexts: any thread, one task at a time.

use crate::idle::lead::sleep;
use crate::park::Parker;
use crate::platform::HostPlatform;
use stack::kernel::context::TaskCx;
use stack::kernel::sched::{Operation, TaskStruct, poll_operation};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

thread_local! {
    /// A thread's place to sleep, lent to its present call: a call that need not sleep shall not
    /// pay for making one.
    static PLACE: Cell<Option<(Parker, Waker)>> = const { Cell::new(None) };
}

/// Makes a call that may sleep, on this thread; its result. While it waits it runs its CPU's idle loop,
/// unless another task does. The machine must be a [`Runtime`]'s: deadlines are read on the system's
/// monotonic clock.
///
/// [`Runtime`]: crate::Runtime
pub fn block_on<O: Operation>(cx: &mut TaskCx, op: &mut O) -> O::Output {
    let (mut parker, waker) = PLACE.take().unwrap_or_else(|| {
        let parker = Parker::new();
        let waker = parker.waker();
        (parker, waker)
    });
    let output = loop {
        match poll_operation(cx, &waker, op) {
            Poll::Ready(output) => break output,
            // Woken for nothing, too late or by a call long past: the next poll looks for itself.
            Poll::Pending => wait(cx, &mut parker),
        }
    };
    PLACE.set(Some((parker, waker)));
    output
}

fn wait(cx: &mut TaskCx, parker: &mut Parker) {
    cx.leave_offline_cpu();
    let deadline = cx.deadline().map(|at| at.as_nanos());
    let (m, cpu) = (cx.machine(), cx.cpu());
    match HostPlatform::idle(m, cpu) {
        Some(idle) => sleep(m, cpu, idle, parker, deadline),
        None => {
            parker.park(deadline);
        }
    }
}

/// A task that runs on a thread of its own.
pub struct TaskHandle {
    pub(crate) task: Arc<TaskStruct>,
    pub(crate) thread: JoinHandle<()>,
}

impl TaskHandle {
    /// Sends it a signal: the call it sleeps in, or the next one that would sleep, ends with EINTR.
    pub fn interrupt(&self) {
        self.task.interrupt();
    }

    /// Waits until it has ended; false if it panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}
