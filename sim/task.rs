//! Tasks of a world: application code as async functions whose calls are the stack's operations.

use stack::kernel::context::TaskCx;
use stack::kernel::sched::{Operation, poll_operation};
use stack::kernel::time::Ktime;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake};

/// A task's handle in its own code: makes system calls and waits for them.
#[derive(Clone)]
pub struct Task {
    pub(crate) cx: Rc<RefCell<TaskCx>>,
    pub(crate) deadline: Rc<Cell<Option<Ktime>>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({:?})", self.cx)
    }
}

impl Task {
    pub(crate) fn new(cx: TaskCx) -> Self {
        Self { cx: Rc::new(RefCell::new(cx)), deadline: Rc::default() }
    }

    /// Makes a call that may sleep; other tasks and machines run meanwhile.
    pub async fn call<O: Operation>(&self, mut op: O) -> O::Output {
        std::future::poll_fn(|future| {
            let mut cx = self.cx.borrow_mut();
            let polled = poll_operation(&mut cx, future.waker(), &mut op);
            self.deadline.set(if polled.is_pending() { cx.deadline() } else { None });
            polled
        })
        .await
    }

    /// Makes a call that does not sleep.
    pub fn now<R>(&self, call: impl FnOnce(&mut TaskCx) -> R) -> R {
        call(&mut self.cx.borrow_mut())
    }

    /// Sleeps until a point in virtual time.
    pub async fn sleep_until(&self, at: Ktime) {
        std::future::poll_fn(|_| {
            if self.cx.borrow().machine().ktime_get() >= at {
                self.deadline.set(None);
                return Poll::Ready(());
            }
            self.deadline.set(Some(at));
            Poll::Pending
        })
        .await;
    }
}

/// Marks a task to be polled.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
