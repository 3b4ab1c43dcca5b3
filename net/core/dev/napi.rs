//! NAPI: who polls a device, and for how long.
//!
//! linux: net/core/dev.c, include/linux/netdevice.h.
//! Contexts: scheduling in hard interrupt and BH, polling in BH (NET_RX_SOFTIRQ).
//! Invariants: SCHED is set by one and cleared by the one who polls; an interrupt that comes while
//! SCHED is set leaves MISSED, and [`napi_complete`] then polls again instead of ending.

mod state;

use super::device::DevId;
use crate::kernel::context::{BhCx, HardirqCx};
use crate::kernel::softirq::{__raise_softirq_irqoff, RaiseSoftirq, Softirq};
use crate::kernel::time::{Ktime, TICK_NSEC};
use state::NapiState;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A run of [`net_rx_action`] polls no more once this has passed.
const POLL_TIME: Duration = Duration::from_nanos(2 * TICK_NSEC);

/// Packets a device's poll may take at a time.
pub const NAPI_POLL_WEIGHT: u32 = 64;

/// What a NAPI context polls.
pub trait NapiPoll: Send + Sync {
    /// Takes up to `budget` packets from the device and hands them up; returns how many. Fewer
    /// than `budget` means the device is empty, and [`napi_complete`] was called. Context: BH; no
    /// lock held over a call upward.
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32;

    /// The last poll panicked: put the device's side right. It is polled again.
    fn reset(&self, _cx: &mut BhCx<'_>) {}
}

/// A device's polling context.
///
/// linux: include/linux/netdevice.h:napi_struct
pub struct NapiStruct {
    /// The device; none for a CPU's backlog.
    pub dev: Option<DevId>,
    /// Packets a poll may take.
    pub weight: u32,
    state: NapiState,
    pub(crate) poll: Box<dyn NapiPoll>,
}

impl NapiStruct {
    /// A polling context of a device, disabled until [`napi_enable`].
    ///
    /// linux: net/core/dev.c:netif_napi_add
    pub fn netif_napi_add(dev: DevId, poll: Box<dyn NapiPoll>, weight: u32) -> Arc<Self> {
        Arc::new(Self { dev: Some(dev), weight, state: NapiState::disabled(), poll })
    }

    pub(super) fn backlog() -> Arc<Self> {
        Arc::new(Self {
            dev: None,
            weight: NAPI_POLL_WEIGHT,
            state: NapiState::enabled(),
            poll: Box::new(super::rx::Backlog),
        })
    }

    /// Somebody has the right to poll it.
    pub fn scheduled(&self) -> bool {
        self.state.scheduled()
    }
}

impl fmt::Debug for NapiStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NapiStruct({:?}, {:?})", self.dev, self.state)
    }
}

/// The contexts of a CPU that are to be polled, in their order.
///
/// Nearly always one or none: that one has a place of its own.
#[derive(Debug)]
pub struct PollList {
    /// The first; `None` when the list is empty.
    first: Option<Arc<NapiStruct>>,
    rest: VecDeque<Arc<NapiStruct>>,
}

impl PollList {
    pub(super) fn new() -> Self {
        Self { first: None, rest: VecDeque::with_capacity(16) }
    }

    /// Nothing is to be polled.
    #[inline]
    pub(in crate::net::core) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline]
    pub(super) fn push_back(&mut self, napi: Arc<NapiStruct>) {
        if self.first.is_none() {
            self.first = Some(napi);
        } else {
            self.push_rest(napi);
        }
    }

    #[cold]
    fn push_rest(&mut self, napi: Arc<NapiStruct>) {
        self.rest.push_back(napi);
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Arc<NapiStruct>> {
        let first = self.first.take();
        if !self.rest.is_empty() {
            self.advance();
        }
        first
    }

    #[cold]
    fn advance(&mut self) {
        self.first = self.rest.pop_front();
    }
}

/// A context that can schedule a poll on its CPU.
pub trait NapiCx: RaiseSoftirq {
    /// The CPU's list of contexts to poll.
    fn poll_list(&mut self) -> &mut PollList;
}

impl NapiCx for BhCx<'_> {
    #[inline]
    fn poll_list(&mut self) -> &mut PollList {
        &mut self.cpu.softnet.poll_list
    }
}

impl NapiCx for HardirqCx<'_> {
    #[inline]
    fn poll_list(&mut self) -> &mut PollList {
        &mut self.cpu.softnet.poll_list
    }
}

/// Schedules a poll of `napi` on this CPU, unless it is scheduled (whoever polls is told to look again) or
/// disabled.
///
/// linux: include/linux/netdevice.h:napi_schedule
/// linux: include/linux/netdevice.h:napi_schedule_prep
#[inline]
pub fn napi_schedule(cx: &mut impl NapiCx, napi: &Arc<NapiStruct>) {
    walk!(cx, napi_schedule);
    if napi.state.schedule() {
        ____napi_schedule(cx, Arc::clone(napi));
    }
}

/// Puts `napi`, whose SCHED bit the caller set, on this CPU's poll list.
///
/// linux: net/core/dev.c:____napi_schedule
pub fn ____napi_schedule(cx: &mut impl NapiCx, napi: Arc<NapiStruct>) {
    walk!(cx, ____napi_schedule);
    cx.poll_list().push_back(napi);
    __raise_softirq_irqoff(cx, Softirq::NetRx);
}

/// The poll found the device empty: hands up what GRO holds and gives up the right to poll.
/// False when an interrupt came meanwhile: the context stays scheduled, and the driver leaves its
/// interrupt off.
///
/// linux: net/core/dev.c:napi_complete
#[must_use = "false: the context is polled again, leave the interrupt off"]
pub fn napi_complete(cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>) -> bool {
    walk!(cx, napi_complete);
    super::gro::napi_gro_flush(cx);
    let completed = napi.state.complete();
    if !completed {
        schedule_again(cx, napi);
    }
    completed
}

/// An interrupt came during the poll, which is not over therefore.
#[cold]
fn schedule_again(cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>) {
    ____napi_schedule(cx, Arc::clone(napi));
}

/// Lets a new or disabled context be scheduled.
///
/// linux: net/core/dev.c:napi_enable
pub fn napi_enable(napi: &NapiStruct) {
    napi.state.enable();
}

/// Keeps a context from being scheduled and waits until nobody polls it.
/// Context: task, on no CPU (the poller needs it).
///
/// linux: net/core/dev.c:napi_disable
pub fn napi_disable(cx: &mut crate::kernel::context::TaskCx, napi: &NapiStruct) {
    napi.state.disable();
    let m = Arc::clone(cx.machine());
    // Each turn lets every CPU finish its polls; a poll ends SCHED when it sees DISABLE. Bounded:
    // a poller that never completes is a driver's bug, and SCHED is then taken from it.
    for _ in 0..10_000 {
        if napi.state.take() {
            return;
        }
        for cpu in m.cpu_ids() {
            m.run_cpu(cpu);
            m.run_ksoftirqd(cpu);
            // What these two say of the next time to run is the idle loop's to hear.
            m.platform.wake_cpu(cpu);
        }
    }
}

/// Polls the contexts of this CPU's list until it is empty, `netdev_budget` packets were taken, or
/// two jiffies have passed; what is left then waits for the next run and the squeeze is counted.
///
/// linux: net/core/dev.c:net_rx_action
pub fn net_rx_action(cx: &mut BhCx<'_>) {
    walk!(cx, net_rx_action);
    let began = cx.now();
    let mut taken: u32 = 0;
    while let Some(napi) = cx.cpu.softnet.poll_list.pop_front() {
        let weight = napi.weight;
        taken = napi_poll(cx, napi, weight).saturating_add(taken);
        cx.m.charge_poll();
        if cx.cpu.softnet.poll_list.is_empty() {
            return;
        }
        if !may_poll_on(cx, began, taken) {
            return __raise_softirq_irqoff(cx, Softirq::NetRx);
        }
    }
}

/// There is more to poll: whether this run, which has taken `taken` packets, does it or leaves it to the next.
#[cold]
fn may_poll_on(cx: &mut BhCx<'_>, began: Ktime, taken: u32) -> bool {
    if cx.need_resched() {
        return false;
    }
    let squeezed = cx.refresh_now() >= began + POLL_TIME || taken >= cx.t.net.sysctl.netdev_budget;
    cx.cpu.softnet.time_squeeze += u64::from(squeezed);
    !squeezed
}

/// A poll panicked: its device's side is put right, and it is polled again. It counts as a full poll,
/// so that a device whose every poll panics leaves the CPU to others.
#[cold]
fn contain_poll_panic(cx: &mut BhCx<'_>, napi: Arc<NapiStruct>) -> u32 {
    crate::kernel::softirq::contain_panic(cx);
    napi.poll.reset(cx);
    let weight = napi.weight;
    cx.cpu.softnet.poll_list.push_back(napi);
    weight
}

/// Sockets that poll want to know who brings their packets, or there are other namespaces, and the device may be in
/// one of those.
#[cold]
#[inline(never)]
fn napi_poll_looking(cx: &mut BhCx<'_>, napi: Arc<NapiStruct>, weight: u32) -> u32 {
    cx.cpu.softnet.polling = napi.dev.is_some().then(|| Arc::clone(&napi));
    let net = napi.dev.map_or(cx.net().id, |dev| cx.root.net_of(dev));
    // A device is in no namespace that is gone.
    cx.in_net(net, |cx| __napi_poll(cx, napi, weight)).unwrap_or(0)
}

/// Takes the right to poll, if nobody has it: who has is not asked to look again.
pub(crate) fn napi_take(napi: &NapiStruct) -> bool {
    !napi.scheduled() && napi.state.schedule()
}

/// Polls one context; it goes to the list's end when it used up what it may take.
///
/// linux: net/core/dev.c:napi_poll
#[inline(always)]
pub(crate) fn napi_poll(cx: &mut BhCx<'_>, napi: Arc<NapiStruct>, weight: u32) -> u32 {
    if cx.m.init_net.napi_looks.load(Ordering::Relaxed) {
        return napi_poll_looking(cx, napi, weight);
    }
    __napi_poll(cx, napi, weight)
}

/// linux: net/core/dev.c:__napi_poll
#[inline(always)]
fn __napi_poll(cx: &mut BhCx<'_>, napi: Arc<NapiStruct>, weight: u32) -> u32 {
    let polled = catch_unwind(AssertUnwindSafe(|| napi.poll.poll(cx, &napi, weight)));
    let Ok(work) = polled else { return contain_poll_panic(cx, napi) };
    if work >= weight {
        // A poll that took less has ended with `napi_complete`, which does it.
        super::gro::napi_gro_flush(cx);
        if !napi.state.stop_if_disabled() {
            cx.cpu.softnet.poll_list.push_back(napi);
        }
    }
    work
}
