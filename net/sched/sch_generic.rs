//! Running a qdisc: from its queue to the driver, within a quota.
//!
//! linux: net/sched/sch_generic.c. Context: BH, with [`Running`].

use super::pfifo_fast::PfifoFast;
use super::sch_fq::Fq;
use super::sch_mq::Mq;
use super::{Qdisc, QdiscOps, QdiscOptions, RootQdisc, Running};
use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dev::device::DeviceSpec;
use crate::net::core::dev::tx::{__netif_schedule, dev_hard_start_xmit};
use crate::net::core::dev::{NetDevice, NetdevQueue};
use crate::net::core::skbuff::{Skb, SkbList};
use std::sync::Arc;
use uapi::errno::Errno;

/// Packets one run may send before it yields to NET_TX_SOFTIRQ.
///
/// linux: net/core/dev.c:weight_p
pub const WEIGHT_P: u32 = 64;

/// The disciplines a new device gets: none without queue length, else `pfifo_fast` on each queue;
/// several queues have `mq` for their root.
///
/// linux: net/sched/sch_generic.c:attach_default_qdiscs
pub fn attach_default_qdiscs(spec: &DeviceSpec) -> (Vec<Arc<Qdisc>>, RootQdisc) {
    let of_a_queue = |_| match spec.tx_queue_len {
        0 => Qdisc::noqueue(),
        limit => Qdisc::new(Box::new(PfifoFast::new(limit))),
    };
    let queues: Vec<_> = (0..spec.tx_queues.max(1)).map(of_a_queue).collect();
    let root = match queues.as_slice() {
        [only] => RootQdisc::Queue(Arc::clone(only)),
        // Each queue alike takes what comes at once: there is nothing to be a class of.
        [first, ..] if spec.tx_queue_len == 0 => RootQdisc::Queue(Arc::clone(first)),
        several => RootQdisc::Mq(Mq::new(several.to_vec())),
    };
    (queues, root)
}

/// The names of the disciplines that a device's queues can have.
pub const QDISCS: [&str; 2] = ["pfifo_fast", "fq"];

/// The name of a discipline, if there is one.
///
/// linux: net/sched/sch_api.c:qdisc_lookup_ops
pub fn qdisc_lookup_ops(name: &str) -> Option<&'static str> {
    QDISCS.into_iter().find(|known| *known == name)
}

/// Gives each queue of a device this discipline as it is when nothing is set; what its present ones hold is dropped.
/// Context: task.
///
/// # Errors
/// ENOENT: there is none of that name; EOPNOTSUPP: the device has no queues.
///
/// linux: net/sched/sch_api.c:qdisc_graft
pub fn dev_set_qdisc(cx: &mut TaskCx, dev: &NetDevice, name: &str) -> Result<(), Errno> {
    let options = QdiscOptions::named(name).ok_or(Errno::ENOENT)?;
    if dev.tx_queue_len == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    cx.local_bh_disable(|bh| {
        for queue in &dev.tx_queues {
            queue.qdisc().graft(bh, qdisc_create(&options, dev.tx_queue_len));
        }
    });
    Ok(())
}

/// A discipline with these options; `limit`: packets of one that goes by the device's length of queue.
///
/// linux: net/sched/sch_api.c:qdisc_create
pub(super) fn qdisc_create(options: &QdiscOptions, limit: u32) -> Box<dyn QdiscOps> {
    match options {
        QdiscOptions::Fq(params) => Box::new(Fq::with(*params)),
        QdiscOptions::PfifoFast => Box::new(PfifoFast::new(limit)),
    }
}

/// Runs a qdisc, unless somebody else does.
///
/// linux: include/net/pkt_sched.h:qdisc_run
pub fn qdisc_run(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) {
    if runs(cx, qdisc) || begin(cx, qdisc) {
        __qdisc_run(cx, qdisc);
    }
}

/// This CPU runs the qdisc, since earlier in its batch: packets that follow find it so, and the
/// driver rings its doorbell once for all of them (`netdev_xmit_more`).
#[inline(always)]
pub(crate) fn runs(cx: &BhCx<'_>, qdisc: &Arc<Qdisc>) -> bool {
    cx.cpu.softnet.tx_running.as_ref().is_some_and(|running| Arc::ptr_eq(running.qdisc(), qdisc))
}

/// Takes the right to run a qdisc, until the CPU's batch ends; false when somebody else has it.
#[inline(never)]
pub(crate) fn begin(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) -> bool {
    end_batch(cx);
    cx.cpu.unsettled = true;
    cx.cpu.softnet.tx_running = qdisc.run_begin();
    cx.cpu.softnet.tx_running.is_some()
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
pub(crate) fn __qdisc_run(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) {
    walk!(cx, __qdisc_run);
    let mut quota = WEIGHT_P;
    while qdisc_restart(cx, qdisc) {
        quota -= 1;
        if quota == 0 || cx.need_resched() {
            return __netif_schedule(cx, qdisc);
        }
    }
}

/// Sends one packet; true while more may go.
///
/// linux: net/sched/sch_generic.c:qdisc_restart
fn qdisc_restart(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) -> bool {
    walk!(cx, qdisc_restart);
    let t = cx.t;
    let Some((dev, txq)) = qdisc.place(&t.net) else { return false };
    let Some(skb) = dequeue_skb(cx, qdisc, txq) else { return false };
    let mut list = cx.skb_list_of(skb);
    let more = sch_direct_xmit(cx, &mut list, qdisc, (dev, txq));
    cx.free_skb_list(list);
    more
}

/// The next packet, if the driver has room: the one it gave back first.
///
/// linux: net/sched/sch_generic.c:dequeue_skb
fn dequeue_skb(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>, txq: &NetdevQueue) -> Option<Skb> {
    walk!(cx, dequeue_skb);
    if txq.stopped() { None } else { qdisc.dequeue(cx) }
}

/// Gives packets to the driver; a full driver gives one back, which goes first next time, and leaves
/// those behind it in the list. True while more may go. The caller runs the qdisc ([`begin`]).
///
/// linux: net/sched/sch_generic.c:sch_direct_xmit
#[inline(always)]
pub(crate) fn sch_direct_xmit(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    qdisc: &Arc<Qdisc>,
    (dev, txq): (&Arc<NetDevice>, &NetdevQueue),
) -> bool {
    walk!(cx, list, sch_direct_xmit);
    debug_assert!(runs(cx, qdisc));
    if !txq.stopped() {
        dev_hard_start_xmit(cx, list, dev, txq);
    }
    match list.is_empty() {
        true => qdisc.qlen() != 0 && !txq.stopped(),
        false => {
            if let Some(skb) = list.pop_front() {
                dev_requeue_skb(cx, skb, qdisc);
            }
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
