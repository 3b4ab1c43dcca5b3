//! Transmit: queue choice, qdisc, features, driver; and the softirq that goes on with what had to
//! stop.
//!
//! linux: net/core/dev.c, net/core/flow_dissector.c. Context: BH.

use super::device::{NetDevice, NetdevQueue};
use super::features::NetdevFeatures;
use super::xps::get_xps_queue;
use crate::kernel::context::BhCx;
use crate::kernel::softirq::{Softirq, raise_softirq_irqoff};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::gso::validate_xmit_skb_list;
use crate::net::core::skbuff::{
    IpSummed, PktType, Skb, SkbFlags, SkbList, consume_skb, kfree_skb, skb_clone, skb_cow_head,
    skb_linearize, skb_orphan_frags_rx,
};
use crate::net::core::sock::ListCharge;
use crate::net::core::timestamping::skb_list_tstamp;
use crate::net::sched::{Qdisc, sch_generic};
use std::ops::{Add, AddAssign};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::errno::Errno;
use uapi::errqueue::{SCM_TSTAMP_SCHED, SCM_TSTAMP_SND};

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

/// How many packets of a list went no further, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Dropped: the sender gets ENOBUFS.
    pub dropped: u32,
    /// Dropped by a netfilter hook: EPERM.
    pub refused: u32,
}

impl Lost {
    /// It lost some.
    #[inline]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// What became of the only packet.
    #[inline]
    pub fn of_one(self) -> NetXmit {
        match (self.refused, self.dropped) {
            (0, 0) => NetXmit::Success,
            (0, _) => NetXmit::Drop,
            _ => NetXmit::Refused,
        }
    }
}

impl From<NetXmit> for Lost {
    #[inline]
    fn from(sent: NetXmit) -> Self {
        Self {
            dropped: u32::from(sent == NetXmit::Drop),
            refused: u32::from(sent == NetXmit::Refused),
        }
    }
}

impl Add for Lost {
    type Output = Self;
    #[inline]
    fn add(self, more: Self) -> Self {
        Self { dropped: self.dropped + more.dropped, refused: self.refused + more.refused }
    }
}

impl AddAssign for Lost {
    #[inline]
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}

/// Gives packets to the device they are to leave by: through the queue's qdisc, or at once where
/// there is no queue.
///
/// linux: net/core/dev.c:dev_queue_xmit
#[inline(always)]
pub fn dev_queue_xmit(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>) -> Lost {
    walk!(cx, list, dev_queue_xmit);
    // The route has done its work, unless it leads back here: then the receive side goes by it.
    if !dev.is_loopback()
        && let Some(dst) = list.dst.take()
    {
        cx.cpu.routes.give_back(dst);
    }
    if cx.m.init_net.tx_tstamps.load(Ordering::Relaxed) {
        for skb in list.iter_mut() {
            skb.reset_mac_header();
        }
        skb_list_tstamp(cx, list, (SkbFlags::SCHED_TSTAMP, SCM_TSTAMP_SCHED));
    }
    match netdev_pick_tx(cx, dev, list) {
        Some(txq) => xmit_by_queue(cx, list, dev, txq),
        None => xmit_by_queues(cx, list, dev),
    }
}

/// A packet by itself: [`dev_queue_xmit`] for a list of one.
pub fn dev_queue_xmit_one(cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) -> NetXmit {
    let mut list = cx.skb_list_of(skb);
    let lost = dev_queue_xmit(cx, &mut list, dev);
    cx.free_skb_list(list);
    lost.of_one()
}

#[inline(always)]
fn xmit_by_queue(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    txq: &NetdevQueue,
) -> Lost {
    if txq.qdisc.has_queue() {
        return __dev_xmit_skb(cx, list, dev, txq);
    }
    xmit_without_queue(cx, list, dev, txq)
}

/// Packets for different queues: those for one together, while they stand together. None at all,
/// too: a hook may have taken every packet of a list.
#[cold]
#[inline(never)]
fn xmit_by_queues(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>) -> Lost {
    let mut lost = Lost::default();
    while let Some(queue) = list.first().map(|skb| skb.queue_mapping) {
        let together = list.iter().take_while(|skb| skb.queue_mapping == queue).count();
        let mut rest = cx.skb_list();
        list.split_to(together, &mut rest);
        lost += xmit_by_queue(cx, list, dev, &dev.tx_queues[usize::from(queue)]);
        list.append(&mut rest);
        cx.free_skb_list(rest);
    }
    lost
}

fn xmit_without_queue(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    txq: &NetdevQueue,
) -> Lost {
    let looping = cx.cpu.softnet.xmit_recursion >= XMIT_RECURSION_LIMIT;
    if !dev.up() || txq.stopped() || looping {
        return Lost { dropped: list.pass(cx, |_, _| Err(DropReason::DevReady)), refused: 0 };
    }
    cx.cpu.softnet.xmit_recursion += 1;
    let queue = list.first().map_or(0, |skb| skb.queue_mapping);
    dev_hard_start_xmit(cx, list, dev, txq);
    dev.ops.ndo_xmit_flush(cx, dev, queue);
    cx.cpu.softnet.xmit_recursion -= 1;
    // A device without a queue has nowhere to keep what it did not take.
    Lost { dropped: list.pass(cx, |_, _| Err(DropReason::FullRing)), refused: 0 }
}

/// Picks the transmit queue: the driver's choice, else a connected socket's earlier one, else one that
/// names the CPU, else the CPU's where each can have one, else by the flow's hash. `None` when it is not
/// one queue for all.
///
/// linux: net/core/flow_dissector.c:netdev_pick_tx
#[inline(always)]
fn netdev_pick_tx<'a>(
    cx: &mut BhCx<'_>,
    dev: &'a Arc<NetDevice>,
    list: &mut SkbList,
) -> Option<&'a NetdevQueue> {
    walk!(cx, list, netdev_pick_tx);
    let queues = &dev.tx_queues;
    let many = queues.len() as u16;
    let (mut picked, mut other) = (None, false);
    let SkbList { packets, charge, .. } = list;
    for skb in packets {
        debug_assert_eq!(skb.dev, Some(dev.ifindex));
        skb.reset_mac_header();
        let queue = if many == 1 { 0 } else { pick_among(cx, dev, (skb, charge), many) };
        skb.queue_mapping = queue;
        other |= *picked.get_or_insert(queue) != queue;
    }
    picked.filter(|_| !other).and_then(|queue| queues.get(usize::from(queue)))
}

#[inline(never)]
fn pick_among(
    cx: &mut BhCx<'_>,
    dev: &Arc<NetDevice>,
    (skb, charge): (&mut Skb, &ListCharge),
    queues: u16,
) -> u16 {
    if let Some(queue) = dev.ops.ndo_select_queue(cx, skb) {
        return queue.min(queues - 1);
    }
    let before = charge.sock_of(skb).and_then(|sk| sk.sk_tx_queue_get(dev.ifindex));
    if let Some(queue) = before.filter(|queue| *queue < queues) {
        return queue;
    }
    let queue = get_xps_queue(cx, dev, skb).unwrap_or_else(|| queue_of_cpu(cx, skb, queues));
    if let Some(sk) = charge.sock_of(skb) {
        sk.sk_tx_queue_set(dev.ifindex, queue);
    }
    queue
}

/// One queue a CPU, while there are enough.
fn queue_of_cpu(cx: &BhCx<'_>, skb: &mut Skb, queues: u16) -> u16 {
    let cpu = u16::from(cx.cpu.id.0);
    if usize::from(queues) >= cx.m.cpus.len() {
        return cpu % queues;
    }
    let hash = skb.skb_get_hash(cx);
    ((u64::from(hash) * u64::from(queues)) >> 32) as u16
}

/// Queues packets on the qdisc and runs it, or sends past an empty one.
///
/// linux: net/core/dev.c:__dev_xmit_skb
#[inline(always)]
fn __dev_xmit_skb(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    txq: &NetdevQueue,
) -> Lost {
    walk!(cx, list, __dev_xmit_skb);
    let qdisc = &txq.qdisc;
    if qdisc.can_bypass()
        && (sch_generic::runs(cx, qdisc) || qdisc.idle() && sch_generic::begin(cx, qdisc))
    {
        if sch_generic::sch_direct_xmit(cx, list, qdisc, (dev, txq)) {
            sch_generic::__qdisc_run(cx, qdisc);
        }
        if list.is_empty() {
            return Lost::default();
        }
        // The rest waits behind the one that the driver gave back.
    }
    enqueue(cx, list, qdisc)
}

#[cold]
#[inline(never)]
fn enqueue(cx: &mut BhCx<'_>, list: &mut SkbList, qdisc: &Arc<Qdisc>) -> Lost {
    let mut lost = Lost::default();
    list.hand_out(|skb| {
        lost += qdisc.enqueue(cx, skb).into();
        Ok(())
    });
    sch_generic::qdisc_run(cx, qdisc);
    lost
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
        match qdisc.dev() {
            // There is one namespace as a rule.
            Some(dev) if !cx.root.dev_nets.is_empty() => {
                let net = cx.root.net_of(dev);
                cx.in_net(net, |cx| sch_generic::qdisc_run(cx, &qdisc));
            }
            _ => sch_generic::qdisc_run(cx, &qdisc),
        }
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

/// Gives packets to the driver: what the device can't do is done in software first, and taps see
/// them. Those that stay in the list the driver did not take.
///
/// linux: net/core/dev.c:dev_hard_start_xmit
#[inline(always)]
pub fn dev_hard_start_xmit(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    txq: &NetdevQueue,
) {
    walk!(cx, list, dev_hard_start_xmit);
    let features = netif_skb_features(cx, list, dev);
    validate_xmit_skb_list(cx, list, features);
    if !features.contains(NetdevFeatures::SG) {
        skb_linearize_list(cx, list);
    }
    if !features.intersects(NetdevFeatures::IP_CSUM | NetdevFeatures::HW_CSUM) {
        list.pass(cx, |cx, skb| {
            let done = skb.ip_summed != IpSummed::Partial
                || (skb_cow_head(cx, skb, 0) && skb.skb_checksum_help());
            if done { Ok(()) } else { Err(DropReason::SkbCsum) }
        });
    }
    if !cx.t.net.ptype_all.is_empty() {
        let SkbList { packets, charge, .. } = list;
        for skb in packets {
            dev_queue_xmit_nit(cx, skb, charge, dev);
        }
    }
    if cx.m.init_net.tx_tstamps.load(Ordering::Relaxed) {
        skb_list_tstamp(cx, list, (SkbFlags::SW_TSTAMP, SCM_TSTAMP_SND));
    }
    dev.ops.ndo_start_xmit_list(cx, dev, txq, list);
}

/// For a device that sends no fragments: each packet becomes one piece.
///
/// linux: include/linux/skbuff.h:skb_needs_linearize
#[cold]
#[inline(never)]
fn skb_linearize_list(cx: &mut BhCx<'_>, list: &mut SkbList) {
    list.pass(cx, |cx, skb| if skb_linearize(cx, skb) { Ok(()) } else { Err(DropReason::NoMem) });
}

/// Which offloads these packets may use.
///
/// linux: net/core/dev.c:netif_skb_features
#[inline(always)]
fn netif_skb_features(cx: &mut BhCx<'_>, list: &SkbList, dev: &NetDevice) -> NetdevFeatures {
    walk!(cx, list, netif_skb_features);
    dev.features()
}

/// Shows a packet that leaves to the taps.
///
/// linux: net/core/dev.c:dev_queue_xmit_nit
#[cold]
fn dev_queue_xmit_nit(cx: &mut BhCx<'_>, skb: &mut Skb, charge: &ListCharge, dev: &Arc<NetDevice>) {
    walk!(cx, skb, dev_queue_xmit_nit);
    let t = cx.t;
    for tap in &t.net.ptype_all {
        if tap.dev.is_some_and(|only| only != dev.ifindex) {
            continue;
        }
        let super::rx::PacketFunc::Tap(func) = &tap.func else { continue };
        let own = charge.sock_of(skb).is_some_and(|sk| func.skb_loop_sk(sk));
        if own || func.ignore_outgoing() {
            continue;
        }
        let Some(mut clone) = skb_clone(cx, skb) else { continue };
        // Whoever keeps it must not keep what its sender waits to have back.
        if !skb_orphan_frags_rx(cx, &mut clone) {
            kfree_skb(cx, clone, DropReason::NoMem);
            continue;
        }
        clone.pkt_type = PktType::Outgoing;
        func.packet_rcv(cx, clone, dev);
    }
}
