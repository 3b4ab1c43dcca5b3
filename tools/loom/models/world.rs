//! A machine of one CPU as the idle loop sees it: an interrupt whose handler brings what a task waits for.

use crate::idle::CpuIdle;
use crate::kernel::locking::cpu_cell::{CpuCell, Left};
use loom_shims::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::task::Waker;

/// A packet, as the depot knows it: memory.
pub(crate) struct SkBuff;

/// A page of payload; here none is ever made.
#[derive(Debug)]
pub(crate) struct Page;

pub(crate) const PAGE_FRAG_SIZE: usize = 32 << 10;

pub(crate) const SIZES: [usize; 2] = [1, 2];
pub(crate) const BATCH: usize = 2;
pub(crate) const HANDLE_SIZE: usize = 0;

#[derive(Clone, Copy, Debug)]
pub struct CpuId(pub u8);

#[derive(Clone, Copy, Debug)]
pub struct Ktime(u64);

impl Ktime {
    pub fn as_nanos(self) -> u64 {
        self.0
    }
}

/// As the stack's of the same name.
pub struct Next {
    pub deadline: Option<Ktime>,
    pub pending: bool,
    pub ksoftirqd: bool,
    pub received: u64,
}

pub(crate) struct Machine {
    cell: CpuCell<()>,
    /// Interrupts raised and not taken.
    raised: AtomicU32,
    /// Interrupts taken.
    pub(crate) taken: AtomicU32,
    /// Who is woken by the handler.
    pub(crate) waker: Option<Waker>,
    pub(crate) idle: Arc<CpuIdle>,
}

impl Machine {
    pub(crate) fn new(idle: Arc<CpuIdle>, waker: Option<Waker>) -> Self {
        let (raised, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { cell: CpuCell::new(()), raised, taken, waker, idle }
    }

    /// The device raises the interrupt, from any thread.
    pub(crate) fn raise(&self) {
        self.raised.fetch_add(1, Ordering::SeqCst);
        if self.cell.kick() {
            self.idle.wake();
        }
    }

    /// A task enters the CPU and leaves it, as a system call does.
    pub(crate) fn pass(&self) {
        self.stay(|| false);
    }

    pub(crate) fn run_cpu(&self, _: CpuId) -> Next {
        self.stay(|| self.interrupts());
        Next { deadline: None, pending: false, ksoftirqd: false, received: 0 }
    }

    pub(crate) fn run_ksoftirqd(&self, cpu: CpuId) -> Next {
        self.run_cpu(cpu)
    }

    fn interrupts(&self) -> bool {
        let raised = self.raised.swap(0, Ordering::SeqCst);
        self.taken.fetch_add(raised, Ordering::SeqCst);
        raised != 0
    }

    fn stay(&self, first: impl Fn() -> bool) {
        let mut held = self.cell.enter(|_| loom::thread::yield_now());
        let mut wake = first();
        loop {
            match held.leave() {
                Ok(()) => break,
                Err(Left::Wanted) => break,
                Err(Left::Kicked(still)) => {
                    held = still;
                    wake |= self.interrupts();
                }
            }
        }
        if wake && let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
