//! Queueing disciplines: what waits between the stack and a device's queue.
//!
//! linux: net/sched, include/net/sch_generic.h. Key types: [`Qdisc`], [`QdiscOps`], [`RootQdisc`],
//! [`Running`].
//! Contexts: BH. Locks: `class::Qdisc`, never held over the driver.
//! Invariants: one CPU at a time runs a qdisc ([`Running`]); a packet that the driver gave back is
//! the next to go.

pub mod dql;
pub mod pfifo_fast;
pub mod sch_generic;
pub mod sch_mq;

pub use sch_generic::attach_default_qdiscs;

use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, NetDevice, NetTables, NetdevQueue, tx::NetXmit};
use crate::net::core::skbuff::{Skb, kfree_skb};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A discipline: an open set, called under the qdisc's lock.
///
/// linux: include/net/sch_generic.h:Qdisc_ops
pub trait QdiscOps: Send {
    /// Name (`pfifo_fast`).
    fn id(&self) -> &'static str;
    /// Takes a packet, or gives it back to be dropped.
    fn enqueue(&mut self, skb: Skb) -> Result<(), Skb>;
    /// The next packet to send.
    fn dequeue(&mut self) -> Option<Skb>;
    /// Packets it holds.
    fn len(&self) -> usize;
    /// It holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

const RUNNING: u32 = 1;
const MISSED: u32 = 2;
const SCHED: u32 = 4;

/// A queueing discipline on a device's queue.
///
/// linux: include/net/sch_generic.h:Qdisc
pub struct Qdisc {
    queueless: bool,
    state: AtomicU32,
    /// Packets held, the given-back one included: read without the lock.
    qlen: AtomicU32,
    inner: SpinLock<Inner, class::Qdisc>,
    attached: OnceLock<(DevId, u16)>,
    requeues: AtomicU64,
    drops: AtomicU64,
}

struct Inner {
    ops: Box<dyn QdiscOps>,
    /// The packet the driver gave back.
    gso_skb: Option<Skb>,
}

/// What `tc qdisc show dev …` names as a device's root.
///
/// linux: include/linux/netdevice.h:net_device (its `qdisc`)
#[derive(Debug)]
pub enum RootQdisc {
    /// That of the only queue.
    Queue(Arc<Qdisc>),
    /// Of several queues.
    Mq(sch_mq::Mq),
}

impl RootQdisc {
    /// Its name.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Queue(qdisc) => qdisc.id(),
            Self::Mq(_) => "mq",
        }
    }

    /// The disciplines of its classes; none: it has no classes.
    pub fn classes(&self) -> &[Arc<Qdisc>] {
        match self {
            Self::Queue(_) => &[],
            Self::Mq(mq) => mq.classes(),
        }
    }

    /// Packets held.
    pub fn qlen(&self) -> u64 {
        self.sum(|qdisc| u64::from(qdisc.qlen()))
    }

    /// Packets refused or dropped.
    pub fn drops(&self) -> u64 {
        self.sum(Qdisc::drops)
    }

    /// Times a driver gave a packet back.
    pub fn requeues(&self) -> u64 {
        self.sum(Qdisc::requeues)
    }

    fn sum(&self, of: impl Fn(&Qdisc) -> u64) -> u64 {
        match self {
            Self::Queue(qdisc) => of(qdisc),
            Self::Mq(mq) => mq.sum(of),
        }
    }
}

/// The right to run a qdisc: one CPU has it at a time. Given back by
/// `sch_generic::qdisc_run_end`; dropped by a panic it is simply free again.
#[derive(Debug)]
pub struct Running {
    qdisc: Arc<Qdisc>,
    held: bool,
}

impl Qdisc {
    /// A qdisc that queues by `ops`.
    pub fn new(ops: Box<dyn QdiscOps>) -> Arc<Self> {
        Self::make(ops, false)
    }

    /// No queue: the device takes each packet at once.
    ///
    /// linux: net/sched/sch_generic.c:noqueue_qdisc
    pub fn noqueue() -> Arc<Self> {
        Self::make(Box::new(pfifo_fast::PfifoFast::new(0)), true)
    }

    fn make(ops: Box<dyn QdiscOps>, queueless: bool) -> Arc<Self> {
        Arc::new(Self {
            queueless,
            state: AtomicU32::new(0),
            qlen: AtomicU32::new(0),
            inner: SpinLock::new(Inner { ops, gso_skb: None }),
            attached: OnceLock::new(),
            requeues: AtomicU64::new(0),
            drops: AtomicU64::new(0),
        })
    }

    /// Its name.
    pub fn id(&self) -> &'static str {
        if self.queueless { "noqueue" } else { self.inner.lock().ops.id() }
    }

    pub(crate) fn attach(&self, dev: DevId, queue: u16) {
        let _first = self.attached.set((dev, queue));
    }

    /// It queues.
    #[inline]
    pub(crate) fn has_queue(&self) -> bool {
        !self.queueless
    }

    /// The device and its queue that this one feeds, while the device is registered.
    pub(crate) fn place<'a>(
        &self,
        net: &'a NetTables,
    ) -> Option<(&'a Arc<NetDevice>, &'a NetdevQueue)> {
        let (dev, queue) = self.attached.get()?;
        let dev = net.dev(*dev)?;
        Some((dev, dev.tx_queues.get(usize::from(*queue))?))
    }

    /// Packets it holds.
    #[inline]
    pub fn qlen(&self) -> u32 {
        self.qlen.load(Ordering::Acquire)
    }

    /// Times a driver gave a packet back.
    pub fn requeues(&self) -> u64 {
        self.requeues.load(Ordering::Relaxed)
    }

    /// Packets it refused or dropped.
    pub fn drops(&self) -> u64 {
        self.drops.load(Ordering::Relaxed)
    }

    /// linux: include/net/sch_generic.h:qdisc_run_begin
    #[inline]
    pub(crate) fn run_begin(self: &Arc<Self>) -> Option<Running> {
        let before = self.state.fetch_or(RUNNING, Ordering::AcqRel);
        if before & RUNNING == 0 {
            return Some(Running { qdisc: Arc::clone(self), held: true });
        }
        // The one who runs it looks once more before it ends; if it ended between the two
        // instructions, the right is free and ours.
        let before = self.state.fetch_or(RUNNING | MISSED, Ordering::AcqRel);
        (before & RUNNING == 0).then(|| Running { qdisc: Arc::clone(self), held: true })
    }

    /// Nobody runs it.
    #[inline]
    pub(crate) fn idle(&self) -> bool {
        self.state.load(Ordering::Relaxed) & RUNNING == 0
    }

    /// Queues a packet, or drops it when the discipline refuses.
    pub(crate) fn enqueue(&self, cx: &mut BhCx<'_>, skb: Skb) -> NetXmit {
        crate::walk!(cx, skb, pfifo_fast_enqueue);
        let refused = {
            let mut inner = self.inner.lock();
            let refused = inner.ops.enqueue(skb).err();
            self.publish_len(&inner);
            refused
        };
        let Some(skb) = refused else { return NetXmit::Success };
        self.drops.fetch_add(1, Ordering::Relaxed);
        kfree_skb(cx, skb, DropReason::QdiscDrop);
        NetXmit::Drop
    }

    fn dequeue(&self) -> Option<Skb> {
        let mut inner = self.inner.lock();
        let skb = inner.gso_skb.take().or_else(|| inner.ops.dequeue());
        self.publish_len(&inner);
        skb
    }

    fn requeue(&self, skb: Skb) {
        let mut inner = self.inner.lock();
        debug_assert!(inner.gso_skb.is_none(), "one runner, one packet given back");
        inner.gso_skb = Some(skb);
        self.publish_len(&inner);
        self.requeues.fetch_add(1, Ordering::Relaxed);
    }

    fn publish_len(&self, inner: &Inner) {
        let len = inner.ops.len() + usize::from(inner.gso_skb.is_some());
        self.qlen.store(len as u32, Ordering::Release);
    }

    /// Drops what it holds: the device goes down.
    ///
    /// linux: net/sched/sch_generic.c:qdisc_reset
    pub(crate) fn reset(&self, cx: &mut BhCx<'_>) {
        while let Some(skb) = self.dequeue() {
            kfree_skb(cx, skb, DropReason::QdiscReset);
        }
    }

    /// It goes on an output queue now; false when it is on one.
    pub(crate) fn mark_scheduled(&self) -> bool {
        self.state.fetch_or(SCHED, Ordering::AcqRel) & SCHED == 0
    }

    pub(crate) fn clear_scheduled(&self) {
        self.state.fetch_and(!SCHED, Ordering::AcqRel);
    }
}

impl Running {
    /// The qdisc.
    #[inline]
    pub(crate) fn qdisc(&self) -> &Arc<Qdisc> {
        &self.qdisc
    }

    /// Gives the right back; the qdisc, when somebody queued meanwhile and found it taken.
    fn end(mut self) -> Option<Arc<Qdisc>> {
        let missed = self.give_back() & MISSED != 0;
        self.held = false;
        missed.then(|| Arc::clone(&self.qdisc))
    }

    fn give_back(&self) -> u32 {
        self.qdisc.state.fetch_and(!(RUNNING | MISSED), Ordering::AcqRel)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.held {
            self.give_back();
        }
    }
}

impl fmt::Debug for Qdisc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Qdisc({:?}, {} packets)", self.attached.get(), self.qlen())
    }
}

impl Drop for Qdisc {
    fn drop(&mut self) {
        // Only a machine that goes away whole leaves packets here.
        let inner = self.inner.get_mut();
        while let Some(skb) = inner.gso_skb.take().or_else(|| inner.ops.dequeue()) {
            skb.forget_at_exit();
        }
    }
}
