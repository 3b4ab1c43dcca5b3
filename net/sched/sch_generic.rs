//! Running a qdisc: from its queue to the driver, within a quota.
//!
//! linux: net/sched/sch_generic.c. Context: BH, with [`Running`].

use super::{Qdisc, Running};
use crate::kernel::context::BhCx;
use crate::net::core::dev::tx::{__netif_schedule, dev_hard_start_xmit};
use crate::net::core::skbuff::{Skb, kfree_skb};
use std::sync::Arc;

/// Packets one run may send before it yields to NET_TX_SOFTIRQ.
///
/// linux: net/core/dev.c:weight_p
pub const WEIGHT_P: u32 = 64;

/// Runs a qdisc, unless somebody does.
///
/// linux: include/net/pkt_sched.h:qdisc_run
pub fn qdisc_run(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) {
    let Some(running) = begin(cx, qdisc) else { return };
    __qdisc_run(cx, &running);
    hold(cx, running);
}

/// The right to run a qdisc: this CPU's from earlier in its batch, or a new one.
#[inline(always)]
pub(crate) fn begin(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) -> Option<Running> {
    match cx.cpu.softnet.tx_running.take() {
        Some(running) if Arc::ptr_eq(running.qdisc(), qdisc) => return Some(running),
        Some(other) => qdisc_run_end(cx, other),
        None => (),
    }
    qdisc.run_begin()
}

/// Keeps the right until the batch ends, so that packets that follow find it here and the driver
/// rings its doorbell once for all of them (`netdev_xmit_more`).
#[inline(always)]
pub(crate) fn hold(cx: &mut BhCx<'_>, running: Running) {
    if let Some(other) = cx.cpu.softnet.tx_running.replace(running) {
        qdisc_run_end(cx, other);
    }
}

/// The CPU's batch is over: the doorbell of what it sent.
#[inline]
pub(crate) fn end_batch(cx: &mut BhCx<'_>) {
    while let Some(running) = cx.cpu.softnet.tx_running.take() {
        qdisc_run_end(cx, running);
    }
}

/// Ends a run: the driver's doorbell, and another run if somebody queued meanwhile.
///
/// linux: include/net/sch_generic.h:qdisc_run_end
fn qdisc_run_end(cx: &mut BhCx<'_>, running: Running) {
    let t = cx.t;
    if let Some((dev, queue)) = running.qdisc().attached.get()
        && let Some(dev) = t.net.dev(*dev)
    {
        dev.ops.ndo_xmit_flush(cx, dev, *queue);
    }
    if let Some(qdisc) = running.end() {
        __netif_schedule(cx, &qdisc);
    }
}

/// Sends from the queue until it is empty, the driver is full, [`WEIGHT_P`] packets went, or
/// somebody waits for the CPU: then the rest is NET_TX_SOFTIRQ's.
///
/// linux: net/sched/sch_generic.c:__qdisc_run
pub(crate) fn __qdisc_run(cx: &mut BhCx<'_>, running: &Running) {
    walk!(cx, __qdisc_run);
    let mut quota = WEIGHT_P;
    while qdisc_restart(cx, running) {
        quota -= 1;
        if quota == 0 || cx.need_resched() {
            return __netif_schedule(cx, running.qdisc());
        }
    }
}

/// Sends one packet; true while more may go.
///
/// linux: net/sched/sch_generic.c:qdisc_restart
fn qdisc_restart(cx: &mut BhCx<'_>, running: &Running) -> bool {
    walk!(cx, qdisc_restart);
    match dequeue_skb(cx, running) {
        Some(skb) => sch_direct_xmit(cx, skb, running),
        None => false,
    }
}

/// The next packet, if the driver has room: the one it gave back first.
///
/// linux: net/sched/sch_generic.c:dequeue_skb
fn dequeue_skb(cx: &mut BhCx<'_>, running: &Running) -> Option<Skb> {
    walk!(cx, dequeue_skb);
    let qdisc = running.qdisc();
    let (dev, queue) = qdisc.attached.get()?;
    let dev = cx.t.net.dev(*dev)?;
    if dev.tx_queues.get(usize::from(*queue))?.stopped() {
        return None;
    }
    qdisc.dequeue()
}

/// Gives a packet to the driver; a full driver gives it back and it goes first next time. True
/// while more may go.
///
/// linux: net/sched/sch_generic.c:sch_direct_xmit
#[inline(always)]
pub(crate) fn sch_direct_xmit(cx: &mut BhCx<'_>, skb: Skb, running: &Running) -> bool {
    walk!(cx, skb, sch_direct_xmit);
    let t = cx.t;
    let qdisc = running.qdisc();
    let place = qdisc.attached.get().and_then(|(dev, queue)| Some((t.net.dev(*dev)?, *queue)));
    let Some((dev, queue)) = place else {
        kfree_skb(cx, skb, crate::kernel::trace::drop_reason::DropReason::DevReady);
        return false;
    };
    let txq = &dev.tx_queues[usize::from(queue)];
    let sent = if txq.stopped() { Err(skb) } else { dev_hard_start_xmit(cx, skb, dev, queue) };
    match sent {
        Ok(()) => qdisc.qlen() != 0 && !txq.stopped(),
        Err(skb) => {
            dev_requeue_skb(cx, skb, qdisc);
            false
        }
    }
}

/// Keeps a packet that the driver gave back, and tries again by NET_TX_SOFTIRQ.
///
/// linux: net/sched/sch_generic.c:dev_requeue_skb
fn dev_requeue_skb(cx: &mut BhCx<'_>, skb: Skb, qdisc: &Arc<Qdisc>) {
    walk!(cx, skb, dev_requeue_skb);
    qdisc.requeue(skb);
    __netif_schedule(cx, qdisc);
}
