//! Transmit: queue choice, qdisc, features, driver; and the softirq that goes on with what had to
//! stop.
//!
//! linux: net/core/dev.c, net/core/flow_dissector.c. Context: BH.

use super::device::{NetDevice, NetdevFeatures, NetdevQueue};
use crate::kernel::context::BhCx;
use crate::kernel::softirq::{Softirq, raise_softirq_irqoff};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{IpSummed, PktType, SkBuff, Skb, consume_skb, kfree_skb, skb_clone};
use crate::net::sched::{Qdisc, sch_generic};
use std::sync::Arc;
use uapi::errno::Errno;

/// Devices stacked on devices: deeper than this is a loop.
const XMIT_RECURSION_LIMIT: u32 = 10;

/// What became of a packet given to a device.
///
/// linux: include/linux/netdevice.h:NET_XMIT_SUCCESS
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetXmit {
    /// Sent or queued.
    Success,
    /// Dropped by the qdisc or for want of a device.
    Drop,
    /// Queued, but the sender should slow down.
    Cn,
    /// A netfilter hook dropped it.
    Refused,
}

impl NetXmit {
    /// What a sender is told: a congestion notice is success.
    ///
    /// # Errors
    /// ENOBUFS for a drop, EPERM for a hook's.
    #[inline]
    pub fn errno(self) -> Result<(), Errno> {
        // A test for the common case instead of a jump by table.
        if matches!(self, Self::Success | Self::Cn) {
            return Ok(());
        }
        Err(if self == Self::Refused { Errno::EPERM } else { Errno::ENOBUFS })
    }
}

/// Gives a packet to the device it is to leave by: through the queue's qdisc, or at once where there
/// is no queue.
///
/// linux: net/core/dev.c:dev_queue_xmit
#[inline(always)]
pub fn dev_queue_xmit(cx: &mut BhCx<'_>, mut skb: Skb, dev: &Arc<NetDevice>) -> NetXmit {
    walk!(cx, skb, dev_queue_xmit);
    debug_assert_eq!(skb.dev, Some(dev.ifindex));
    skb.reset_mac_header();
    let txq = netdev_pick_tx(cx, dev, &mut skb);
    // The route has done its work, unless it leads back here: then the receive side goes by it.
    let dst = if dev.is_loopback() { skb.dst.clone() } else { skb.dst.take() };
    if let Some(dst) = dst {
        cx.cpu.routes.give_back(dst);
    }
    if txq.qdisc.has_queue() {
        return __dev_xmit_skb(cx, skb, dev, txq);
    }
    xmit_without_queue(cx, skb, dev, txq)
}

fn xmit_without_queue(
    cx: &mut BhCx<'_>,
    skb: Skb,
    dev: &Arc<NetDevice>,
    txq: &NetdevQueue,
) -> NetXmit {
    if !dev.up() || txq.stopped() {
        kfree_skb(cx, skb, DropReason::DevReady);
        return NetXmit::Drop;
    }
    if cx.cpu.softnet.xmit_recursion >= XMIT_RECURSION_LIMIT {
        kfree_skb(cx, skb, DropReason::DevReady);
        return NetXmit::Drop;
    }
    cx.cpu.softnet.xmit_recursion += 1;
    let queue = skb.queue_mapping;
    let sent = dev_hard_start_xmit(cx, skb, dev);
    dev.ops.ndo_xmit_flush(cx, dev, queue);
    cx.cpu.softnet.xmit_recursion -= 1;
    match sent {
        Ok(()) => NetXmit::Success,
        Err(skb) => {
            // A device without a queue has nowhere to keep it.
            kfree_skb(cx, skb, DropReason::FullRing);
            NetXmit::Drop
        }
    }
}

/// Picks the transmit queue: the driver's choice, else the CPU's where each can have one, else the
/// flow's hash. Linux also remembers a socket's choice and the queue a forwarded flow came in by.
///
/// linux: net/core/flow_dissector.c:netdev_pick_tx
#[inline(always)]
fn netdev_pick_tx<'a>(
    cx: &mut BhCx<'_>,
    dev: &'a Arc<NetDevice>,
    skb: &mut Skb,
) -> &'a NetdevQueue {
    walk!(cx, skb, netdev_pick_tx);
    let queues = &dev.tx_queues;
    let queue = match queues.len() {
        1 => 0,
        many => usize::from(pick_among(cx, dev, skb, many as u16)),
    };
    skb.queue_mapping = queue as u16;
    &queues[queue]
}

fn pick_among(cx: &mut BhCx<'_>, dev: &Arc<NetDevice>, skb: &mut Skb, queues: u16) -> u16 {
    if let Some(queue) = dev.ops.ndo_select_queue(cx, skb) {
        return queue.min(queues - 1);
    }
    // XPS: one queue a CPU, while there are enough.
    let cpu = u16::from(cx.cpu.id.0);
    if usize::from(queues) >= cx.m.cpus.len() {
        return cpu % queues;
    }
    let hash = skb.skb_get_hash(cx);
    ((u64::from(hash) * u64::from(queues)) >> 32) as u16
}

/// Queues a packet on the qdisc and runs it, or sends past an empty one.
///
/// linux: net/core/dev.c:__dev_xmit_skb
#[inline(always)]
fn __dev_xmit_skb(cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>, txq: &NetdevQueue) -> NetXmit {
    walk!(cx, skb, __dev_xmit_skb);
    let qdisc = &txq.qdisc;
    if qdisc.qlen() == 0
        && (sch_generic::runs(cx, qdisc) || qdisc.idle() && sch_generic::begin(cx, qdisc))
    {
        if sch_generic::sch_direct_xmit(cx, skb, qdisc, (dev, txq)) {
            sch_generic::__qdisc_run(cx, qdisc);
        }
        return NetXmit::Success;
    }
    let queued = qdisc.enqueue(cx, skb);
    sch_generic::qdisc_run(cx, qdisc);
    queued
}

/// Puts a qdisc on this CPU's output queue, unless it is on one already.
///
/// linux: net/core/dev.c:__netif_schedule
pub fn __netif_schedule(cx: &mut BhCx<'_>, qdisc: &Arc<Qdisc>) {
    walk!(cx, __netif_schedule);
    if qdisc.mark_scheduled() {
        __netif_reschedule(cx, Arc::clone(qdisc));
    }
}

/// Appends a qdisc to the output queue and raises NET_TX_SOFTIRQ.
///
/// linux: net/core/dev.c:__netif_reschedule
fn __netif_reschedule(cx: &mut BhCx<'_>, qdisc: Arc<Qdisc>) {
    walk!(cx, __netif_reschedule);
    cx.cpu.softnet.output_queue.push_back(qdisc);
    raise_softirq_irqoff(cx, Softirq::NetTx);
}

/// Frees sent packets and runs the qdiscs of the output queue.
///
/// linux: net/core/dev.c:net_tx_action
pub fn net_tx_action(cx: &mut BhCx<'_>) {
    walk!(cx, net_tx_action);
    for skb in std::mem::take(&mut cx.cpu.softnet.completion_queue) {
        consume_skb(cx, skb);
    }
    // Only those that are there now: one that yields again waits for the next run.
    for _ in 0..cx.cpu.softnet.output_queue.len() {
        let Some(qdisc) = cx.cpu.softnet.output_queue.pop_front() else { break };
        qdisc.clear_scheduled();
        sch_generic::qdisc_run(cx, &qdisc);
    }
}

/// Frees a packet that was sent, from a context that must not do it itself: by NET_TX_SOFTIRQ.
///
/// linux: net/core/dev.c:dev_kfree_skb_irq
pub fn dev_kfree_skb_irq(cx: &mut BhCx<'_>, skb: Skb) {
    walk!(cx, skb, dev_kfree_skb_irq);
    cx.cpu.softnet.completion_queue.push(skb);
    raise_softirq_irqoff(cx, Softirq::NetTx);
}

/// Gives a packet to the driver: taps first, then what the device can't do is done in software.
/// `Err` gives the packet back, the ring is full.
///
/// linux: net/core/dev.c:dev_hard_start_xmit
#[inline(always)]
pub fn dev_hard_start_xmit(
    cx: &mut BhCx<'_>,
    mut skb: Skb,
    dev: &Arc<NetDevice>,
) -> Result<(), Skb> {
    walk!(cx, skb, dev_hard_start_xmit);
    let features = netif_skb_features(cx, &skb, dev);
    if skb.ip_summed == IpSummed::Partial
        && !features.intersects(NetdevFeatures::IP_CSUM | NetdevFeatures::HW_CSUM)
        && !(crate::net::core::skbuff::skb_cow_head(cx, &mut skb, 0) && skb.skb_checksum_help())
    {
        kfree_skb(cx, skb, DropReason::SkbCsum);
        return Ok(());
    }
    if !cx.t.net.ptype_all.is_empty() {
        dev_queue_xmit_nit(cx, &mut skb, dev);
    }
    let queue = skb.queue_mapping;
    dev.ops.ndo_start_xmit(cx, dev, queue, skb)
}

/// Which offloads this packet may use.
///
/// linux: net/core/dev.c:netif_skb_features
#[inline(always)]
fn netif_skb_features(cx: &mut BhCx<'_>, skb: &SkBuff, dev: &NetDevice) -> NetdevFeatures {
    walk!(cx, skb, netif_skb_features);
    dev.features()
}

/// Shows a packet that leaves to the taps.
///
/// linux: net/core/dev.c:dev_queue_xmit_nit
#[cold]
fn dev_queue_xmit_nit(cx: &mut BhCx<'_>, skb: &mut Skb, dev: &Arc<NetDevice>) {
    walk!(cx, skb, dev_queue_xmit_nit);
    let t = cx.t;
    for tap in &t.net.ptype_all {
        if tap.dev.is_some_and(|only| only != dev.ifindex) {
            continue;
        }
        let super::rx::PacketFunc::Tap(func) = &tap.func else { continue };
        let Some(mut clone) = skb_clone(cx, skb) else { continue };
        clone.pkt_type = PktType::Outgoing;
        super::rx::show(cx, &**func, clone, dev);
    }
}
