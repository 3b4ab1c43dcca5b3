//! Tasks, sleeping as a resumable operation, and signals.
//!
//! linux: include/linux/sched.h, kernel/sched/core.c. Key types: [`TaskStruct`], [`Operation`].
//! A sleeping call is a value that is polled: a thread parks between polls, an async task hands in
//! its waker, the stepper runs the world. None nests another's loop.

pub mod wait;

use crate::fs::FilesStruct;
use crate::kernel::context::TaskCx;
use crate::kernel::cpu::CpuId;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::nsproxy::Nsproxy;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Poll, Waker};

/// A task with its files.
///
/// linux: include/linux/sched.h:task_struct
pub struct TaskStruct {
    /// Name, for messages.
    pub comm: String,
    files: Arc<FilesStruct>,
    cpu: AtomicU8,
    pub(crate) nsproxy: Nsproxy,
    signal: AtomicBool,
    sleeper: SpinLock<Option<Waker>, class::WaitQueue>,
}

impl TaskStruct {
    /// A task with an empty file table, whose calls enter `cpu`.
    pub fn new(comm: &str, cpu: CpuId) -> Arc<Self> {
        Self::with_files(comm, cpu, Arc::default())
    }

    /// A task that shares the file table `files`, as a thread of the same process does.
    pub fn with_files(comm: &str, cpu: CpuId, files: Arc<FilesStruct>) -> Arc<Self> {
        Arc::new(Self {
            comm: comm.to_owned(),
            files,
            cpu: AtomicU8::new(cpu.0),
            nsproxy: Nsproxy::default(),
            signal: AtomicBool::new(false),
            sleeper: SpinLock::new(None),
        })
    }

    /// The file table.
    pub fn files(&self) -> &Arc<FilesStruct> {
        &self.files
    }

    /// The CPU it belongs to.
    pub fn cpu(&self) -> CpuId {
        CpuId(self.cpu.load(Ordering::Relaxed))
    }

    pub(crate) fn set_cpu(&self, cpu: CpuId) {
        self.cpu.store(cpu.0, Ordering::Relaxed);
    }

    /// A signal arrives: the call it sleeps in, or the next one that would sleep, ends with EINTR.
    pub fn interrupt(&self) {
        self.signal.store(true, Ordering::SeqCst);
        let sleeper = self.sleeper.lock().take();
        if let Some(waker) = sleeper {
            waker.wake();
        }
    }

    /// A signal waits (`signal_pending`).
    pub(crate) fn signal_pending(&self) -> bool {
        self.signal.load(Ordering::SeqCst)
    }

    /// Takes the waiting signal, if any.
    pub(crate) fn take_signal(&self) -> bool {
        self.signal_pending() && self.signal.swap(false, Ordering::SeqCst)
    }

    fn sleeps(&self, waker: &Waker) {
        *self.sleeper.lock() = Some(waker.clone());
    }
}

impl fmt::Debug for TaskStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.comm)
    }
}

/// A call that may sleep, as a value: polled until it is ready.
///
/// Pending means: it is on the wait queues it needs with the context's waker, and
/// [`TaskCx::deadline`] says when it wants to be polled again at the latest. Dropping a pending
/// operation takes it off the queues.
pub trait Operation {
    /// What the call returns.
    type Output;

    /// Goes on with the call. Context: task, on no CPU.
    fn poll(&mut self, cx: &mut TaskCx) -> Poll<Self::Output>;
}

/// Polls `op` as its driver must: prepares the context, and makes a signal wake the sleeper.
pub fn poll_operation<O: Operation>(cx: &mut TaskCx, waker: &Waker, op: &mut O) -> Poll<O::Output> {
    cx.prepare_poll(waker);
    let mut polled = op.poll(cx);
    if polled.is_pending() {
        let task = Arc::clone(cx.task());
        task.sleeps(waker);
        if task.signal_pending() {
            // It came between the look and the sleep.
            polled = op.poll(cx);
        }
        if polled.is_pending() {
            cx.flush();
        }
    }
    polled
}
