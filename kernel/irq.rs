//! Interrupts: lines that devices raise, descriptors with affinity and counts, and their handling.
//!
//! linux: kernel/irq/{manage,handle,proc}.c. Key types: [`IrqLine`], [`IrqDesc`], [`IrqHandler`].
//! Contexts: raising in any, from any thread; handlers in hard interrupt.
//! Invariants: an interrupt is handled on the CPU its affinity names when it is raised, and the
//! softirqs it raises run there; raising never runs the handler.

pub mod proc;

use crate::kernel::context::HardirqCx;
use crate::kernel::cpu::CpuId;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::machine::Machine;
use crate::walk;
use klib::bitmap::CpuMask;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Interrupt numbers a machine has; the last one is that of CPUs among themselves.
pub const NR_IRQS: usize = 256;

/// The interrupt by which a CPU tells another that it has left something there.
const CALL_FUNCTION_VECTOR: usize = NR_IRQS - 1;

/// An interrupt's number in its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Irq(pub u8);

/// What a handler says: was the interrupt its device's?
///
/// linux: include/linux/irqreturn.h:irqreturn
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqReturn {
    /// Not from this device (a shared line).
    None,
    /// Handled.
    Handled,
}

/// What runs when an interrupt arrives.
pub trait IrqHandler: Send + Sync {
    /// Acknowledges the device and schedules what is to do. Context: hard interrupt.
    fn handle(&self, cx: &mut HardirqCx<'_>, irq: Irq) -> IrqReturn;
}

impl<F: Fn(&mut HardirqCx<'_>, Irq) -> IrqReturn + Send + Sync> IrqHandler for F {
    fn handle(&self, cx: &mut HardirqCx<'_>, irq: Irq) -> IrqReturn {
        self(cx, irq)
    }
}

/// Told, in a task, on which CPU an interrupt is taken from now on.
///
/// linux: include/linux/interrupt.h:irq_affinity_notify
pub type AffinityNotify = Arc<dyn Fn(CpuId) + Send + Sync>;

/// A requested interrupt: its name as `/proc/interrupts` shows it, its handler and its affinity.
pub struct IrqDesc {
    /// Number.
    pub irq: Irq,
    /// Name (`eth0-TxRx-0`).
    pub name: String,
    pub(crate) handler: Box<dyn IrqHandler>,
    affinity: AtomicU64,
    /// Where its driver would have it; zero: anywhere.
    hint: AtomicU64,
    /// The CPUs that are up.
    online: AtomicU64,
    notify: SpinLock<Option<AffinityNotify>, class::Irq>,
    counts: Box<[AtomicU64]>,
}

impl fmt::Debug for IrqDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqDesc({} {})", self.irq.0, self.name)
    }
}

impl IrqDesc {
    pub(crate) fn new(irq: Irq, name: String, cpus: usize, handler: Box<dyn IrqHandler>) -> Self {
        let all = if cpus >= 64 { u64::MAX } else { (1 << cpus) - 1 };
        Self {
            irq,
            name,
            handler,
            affinity: AtomicU64::new(all),
            hint: AtomicU64::new(0),
            online: AtomicU64::new(all),
            notify: SpinLock::new(None),
            counts: (0..cpus).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The CPUs that may take it.
    ///
    /// linux: /proc/irq/N/smp_affinity:smp_affinity
    pub fn affinity(&self) -> CpuMask {
        CpuMask::from_bits(self.affinity.load(Ordering::Relaxed))
    }

    /// Names the CPUs that may take it; the next interrupt goes by it. A poll that is scheduled already
    /// ends where it was begun. Context: task, no lock held.
    ///
    /// # Errors
    /// The mask names no CPU of this machine (Linux: EINVAL).
    pub fn set_affinity(&self, mask: CpuMask) -> Result<(), NoSuchCpu> {
        let usable = mask.bits() & ((1_u128 << self.counts.len()) - 1) as u64;
        if usable == 0 {
            return Err(NoSuchCpu);
        }
        self.affinity.store(usable, Ordering::Relaxed);
        self.tell();
        Ok(())
    }

    /// Says where its driver would have it, for whoever balances; it moves nothing.
    ///
    /// linux: kernel/irq/manage.c:irq_update_affinity_hint
    pub fn irq_update_affinity_hint(&self, mask: CpuMask) {
        self.hint.store(mask.bits(), Ordering::Relaxed);
    }

    /// Where its driver would have it; `None`: anywhere.
    ///
    /// linux: /proc/irq/N/affinity_hint:irq_affinity_hint_proc_show
    pub fn affinity_hint(&self) -> Option<CpuMask> {
        let hint = self.hint.load(Ordering::Relaxed);
        (hint != 0).then(|| CpuMask::from_bits(hint))
    }

    /// CPUs went up or down: the next interrupt goes to one that is up and may take it, or, where none
    /// may, to any that is up; when one that may comes up again, back to that.
    ///
    /// linux: kernel/irq/cpuhotplug.c:irq_migrate_all_off_this_cpu
    pub(crate) fn migrate(&self, online: CpuMask) {
        let before = self.effective_affinity();
        self.online.store(online.bits(), Ordering::Relaxed);
        if self.effective_affinity() != before {
            self.tell();
        }
    }

    fn tell(&self) {
        let notify = self.notify.lock().clone();
        if let Some(notify) = notify {
            notify(self.effective_affinity());
        }
    }

    /// Has somebody told when the affinity is set; in place of who was told before.
    ///
    /// linux: kernel/irq/manage.c:irq_set_affinity_notifier
    pub fn irq_set_affinity_notifier(&self, notify: AffinityNotify) {
        let before = self.notify.lock().replace(notify);
        drop(before);
    }

    /// Interrupts taken, by CPU.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The CPU that takes the next one.
    ///
    /// linux: include/linux/irq.h:irq_data_get_effective_affinity_mask
    #[inline]
    pub fn effective_affinity(&self) -> CpuId {
        let (online, wanted) =
            (self.online.load(Ordering::Relaxed), self.affinity.load(Ordering::Relaxed));
        let usable = if online & wanted == 0 { online } else { online & wanted };
        CpuId(usable.trailing_zeros() as u8)
    }
}

/// An affinity mask without a CPU of the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchCpu;

impl fmt::Display for NoSuchCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mask names no CPU of this machine")
    }
}

impl std::error::Error for NoSuchCpu {}

/// The device's end of an interrupt: raising it marks it pending at the CPU its affinity names.
///
/// Cheap to clone; safe to raise from any context and any thread. Raising never runs the handler.
#[derive(Clone)]
pub struct IrqLine(Line);

#[derive(Clone)]
enum Line {
    Machine(Weak<Machine>, Arc<IrqDesc>),
    Function(Arc<dyn Fn() + Send + Sync>),
}

impl IrqLine {
    pub(crate) fn new(m: Weak<Machine>, desc: Arc<IrqDesc>) -> Self {
        Self(Line::Machine(m, desc))
    }

    /// A line that calls `raise`: what device models are tested with.
    pub fn from_fn(raise: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Line::Function(Arc::new(raise)))
    }

    /// Signals the interrupt once (an edge). A line whose machine is gone does nothing.
    pub fn raise(&self) {
        match &self.0 {
            Line::Function(raise) => raise(),
            Line::Machine(m, desc) => {
                if let Some(m) = m.upgrade() {
                    let cpu = desc.effective_affinity();
                    if let Some(remote) = m.cpus.get(usize::from(cpu.0)) {
                        remote.irqs_pending.set(usize::from(desc.irq.0));
                        m.kick(cpu);
                    }
                }
            }
        }
    }

    /// The descriptor, when the line belongs to a machine.
    pub fn desc(&self) -> Option<&Arc<IrqDesc>> {
        match &self.0 {
            Line::Machine(_, desc) => Some(desc),
            Line::Function(_) => None,
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Line::Machine(_, desc) => write!(f, "IrqLine({})", desc.name),
            Line::Function(_) => f.write_str("IrqLine"),
        }
    }
}

/// Handles one pending interrupt on this CPU.
///
/// linux: kernel/irq/handle.c:handle_irq_event
pub(crate) fn handle_irq(cx: &mut HardirqCx<'_>, irq: Irq) {
    let t = cx.t;
    let Some(desc) = t.irqs.get(usize::from(irq.0)).and_then(Option::as_ref) else {
        return no_device(cx, irq);
    };
    walk!(cx, irq_enter => u64::from(irq.0));
    if let Some(count) = desc.counts.get(usize::from(cx.cpu.id.0)) {
        // This CPU alone writes its count.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    desc.handler.handle(cx, irq);
    walk!(cx, irq_exit => u64::from(irq.0));
}

/// Another CPU's interrupt, or one whose device is gone.
#[cold]
fn no_device(cx: &mut HardirqCx<'_>, irq: Irq) {
    if usize::from(irq.0) == CALL_FUNCTION_VECTOR {
        (cx.m.call_function)(cx);
    }
}

impl Machine {
    /// Interrupts another CPU, which then calls the function that was registered at boot. Whoever
    /// called before it took the interrupt is served by the same call.
    ///
    /// linux: kernel/smp.c:smp_call_function_single_async
    pub(crate) fn smp_call_function_single_async(&self, cpu: CpuId) {
        if let Some(remote) = self.cpus.get(usize::from(cpu.0))
            && !remote.irqs_pending.set(CALL_FUNCTION_VECTOR)
        {
            self.kick(cpu);
        }
    }
}
