//! Queueing disciplines: what waits between the stack and a device's queue.
//!
//! linux: net/sched, include/net/sch_generic.h. Key types: [`Qdisc`], [`QdiscOps`], [`RootQdisc`],
//! [`Running`].
//! Contexts: BH. Locks: `class::Qdisc`, never held over the driver.
//! Invariants: one CPU at a time runs a qdisc ([`Running`]); a packet that the driver gave back is
//! the next to go.

pub mod dql;
pub mod pfifo_fast;
pub mod sch_api;
pub mod sch_fq;
pub mod sch_generic;
pub mod sch_mq;

pub use sch_api::{QdiscError, QdiscOptions, tc_modify_qdisc};
pub use sch_generic::{QDISCS, attach_default_qdiscs, dev_set_qdisc, qdisc_lookup_ops};

use crate::kernel::context::BhCx;
use crate::kernel::cpu::CpuId;
use crate::kernel::hrtimer::Hrtimer;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{
    DevId, NetDevice, NetTables, NetdevQueue, tx::__netif_schedule, tx::NetXmit,
};
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
    /// What it is set to.
    fn options(&self) -> QdiscOptions {
        QdiscOptions::PfifoFast
    }
    /// Goes by other options of its own from now on; what it has no room for any more is given up. `None`: they are
    /// another discipline's, or it has none.
    ///
    /// linux: include/net/sch_generic.h:Qdisc_ops (its `change`)
    fn change(&mut self, _: &QdiscOptions, _: Ktime) -> Option<Vec<Skb>> {
        None
    }
    /// Takes a packet, or gives it back to be dropped.
    fn enqueue(&mut self, skb: Skb, now: Ktime) -> Result<(), Refused>;
    /// The next packet to send.
    fn dequeue(&mut self, now: Ktime) -> Option<Skb>;
    /// When there will be one, if all that it holds waits for its time.
    fn next_time(&self) -> Option<Ktime> {
        None
    }
    /// While it is empty, packets may pass by it.
    ///
    /// linux: include/net/sch_generic.h:TCQ_F_CAN_BYPASS
    fn can_bypass(&self) -> bool {
        true
    }
    /// Gives up all that it holds, and begins anew.
    fn reset(&mut self) -> Vec<Skb>;
    /// Packets it holds.
    fn len(&self) -> usize;
    /// It holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A packet that a discipline did not take, and why.
#[derive(Debug)]
pub struct Refused {
    /// The packet.
    pub skb: Skb,
    /// Why.
    pub reason: DropReason,
}

const RUNNING: u32 = 1;
const MISSED: u32 = 2;
const SCHED: u32 = 4;
/// No packet passes by it.
const NO_BYPASS: u32 = 8;

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
    /// The timer for what waits for its time, and the CPU it is on.
    watchdog: Option<(CpuId, Hrtimer)>,
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
            state: AtomicU32::new(if ops.can_bypass() { 0 } else { NO_BYPASS }),
            qlen: AtomicU32::new(0),
            inner: SpinLock::new(Inner { ops, gso_skb: None, watchdog: None }),
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

    /// Whose it is.
    pub(crate) fn dev(&self) -> Option<DevId> {
        self.attached.get().map(|(dev, _)| *dev)
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

    /// It is empty, and packets may pass by it then.
    #[inline]
    pub(crate) fn can_bypass(&self) -> bool {
        self.qlen() == 0 && self.state.load(Ordering::Relaxed) & NO_BYPASS == 0
    }

    /// Queues a packet, or drops it when the discipline refuses.
    pub(crate) fn enqueue(&self, cx: &mut BhCx<'_>, mut skb: Skb) -> NetXmit {
        if self.state.load(Ordering::Relaxed) & NO_BYPASS == 0 {
            crate::walk!(cx, skb, pfifo_fast_enqueue);
        } else {
            crate::walk!(cx, skb, fq_enqueue);
            if skb.owner.is_none() {
                // By what it is sorted.
                skb.skb_get_hash(cx);
            }
        }
        let now = cx.now();
        let refused = {
            let mut inner = self.inner.lock();
            let refused = inner.ops.enqueue(skb, now).err();
            self.publish_len(&inner);
            refused
        };
        let Some(Refused { skb, reason }) = refused else { return NetXmit::Success };
        self.drops.fetch_add(1, Ordering::Relaxed);
        kfree_skb(cx, skb, reason);
        NetXmit::Drop
    }

    /// The next packet; the timer is set where all wait for their time.
    fn dequeue(self: &Arc<Self>, cx: &mut BhCx<'_>) -> Option<Skb> {
        let now = cx.now();
        let mut inner = self.inner.lock();
        let skb = inner.gso_skb.take().or_else(|| inner.ops.dequeue(now));
        self.publish_len(&inner);
        if skb.is_none()
            && let Some(at) = inner.ops.next_time()
        {
            self.qdisc_watchdog_schedule(cx, &mut inner, at);
        }
        skb
    }

    /// Runs the qdisc again at `at`.
    ///
    /// linux: net/sched/sch_api.c:qdisc_watchdog_schedule_range_ns
    fn qdisc_watchdog_schedule(self: &Arc<Self>, cx: &mut BhCx<'_>, inner: &mut Inner, at: Ktime) {
        if let Some((cpu, timer)) = inner.watchdog {
            if timer.expires() == at {
                return;
            }
            if cpu == cx.cpu.id {
                cx.cpu.hrtimers.hrtimer_try_to_cancel(timer);
            }
        }
        let timer = cx.hrtimer_start(at, Arc::clone(self) as Arc<dyn TimerTarget>, 0);
        inner.watchdog = Some((cx.cpu.id, timer));
    }

    /// What it is set to.
    pub fn options(&self) -> QdiscOptions {
        self.inner.lock().ops.options()
    }

    /// Goes by these options: its own are changed, another discipline takes its place.
    ///
    /// linux: net/sched/sch_api.c:qdisc_change
    pub(crate) fn change_or_graft(&self, cx: &mut BhCx<'_>, options: &QdiscOptions, limit: u32) {
        let now = cx.now();
        let given_up = {
            let mut inner = self.inner.lock();
            let given_up = inner.ops.change(options, now);
            self.publish_len(&inner);
            given_up
        };
        let Some(given_up) = given_up else {
            return self.graft(cx, sch_generic::qdisc_create(options, limit));
        };
        self.drops.fetch_add(given_up.len() as u64, Ordering::Relaxed);
        for skb in given_up {
            kfree_skb(cx, skb, DropReason::QdiscDrop);
        }
    }

    /// Another discipline from now on; what the present one holds is dropped.
    ///
    /// linux: net/sched/sch_api.c:qdisc_graft
    pub(crate) fn graft(&self, cx: &mut BhCx<'_>, ops: Box<dyn QdiscOps>) {
        let bypass = ops.can_bypass();
        let mut old = std::mem::replace(&mut self.inner.lock().ops, ops);
        if bypass {
            self.state.fetch_and(!NO_BYPASS, Ordering::AcqRel);
        } else {
            self.state.fetch_or(NO_BYPASS, Ordering::AcqRel);
        }
        self.publish_len(&self.inner.lock());
        for skb in old.reset() {
            kfree_skb(cx, skb, DropReason::QdiscReset);
        }
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
        let (back, held, watchdog) = {
            let mut inner = self.inner.lock();
            let all = (inner.gso_skb.take(), inner.ops.reset(), inner.watchdog.take());
            self.publish_len(&inner);
            all
        };
        if let Some((cpu, timer)) = watchdog
            && cpu == cx.cpu.id
        {
            cx.cpu.hrtimers.hrtimer_try_to_cancel(timer);
        }
        for skb in back.into_iter().chain(held) {
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

impl TimerTarget for Qdisc {
    /// The time of what waits has come.
    ///
    /// linux: net/sched/sch_api.c:qdisc_watchdog
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, _: u64) {
        self.inner.lock().watchdog = None;
        __netif_schedule(cx, &self);
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
        for skb in inner.gso_skb.take().into_iter().chain(inner.ops.reset()) {
            skb.forget_at_exit();
        }
    }
}
