//! Receive: from the driver to the protocols, taps first; and the per-CPU backlog.
//!
//! linux: net/core/dev.c. Context: BH.

use super::SoftnetData;
use super::device::{DevId, NetDevice};
use super::napi::{NapiPoll, NapiStruct, napi_schedule};
use super::rps::flush_all_backlogs;
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::machine::Machine;
use crate::kernel::rcupdate::update_tables;
use crate::kernel::trace::{Context, drop_reason::DropReason, events::Point};
use crate::net::core::skbuff::{PktType, Skb, SkbList, kfree_skb, skb_clone};
use crate::net::core::sock::Sock;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use uapi::if_ether::ETH_P_ALL;

/// Sees every packet. Context: BH; takes the clone and ends it.
pub trait PacketTap: Send + Sync {
    /// A packet passes at `dev`, on its way in or (`PktType::Outgoing`) out. Records the station first, whatever
    /// it is called there.
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>);

    /// It does not see what this socket sends.
    ///
    /// linux: net/core/dev.c:skb_loop_sk
    fn skb_loop_sk(&self, _sk: &Arc<Sock>) -> bool {
        false
    }

    /// It sees nothing that leaves.
    ///
    /// linux: include/linux/netdevice.h:ignore_outgoing
    fn ignore_outgoing(&self) -> bool {
        false
    }
}

/// What handles packets of a type.
#[derive(Clone)]
pub enum PacketFunc {
    /// A protocol. It gets packets that came in one behind the other and leaves none.
    Protocol(fn(&mut BhCx<'_>, &mut SkbList, &Arc<NetDevice>)),
    /// A tap.
    Tap(Arc<dyn PacketTap>),
}

/// A registered handler of packets.
///
/// linux: include/linux/netdevice.h:packet_type
#[derive(Clone)]
pub struct PacketType {
    /// The ethertype, or `ETH_P_ALL`.
    pub kind: u16,
    /// Only at this device.
    pub dev: Option<DevId>,
    /// The handler.
    pub func: PacketFunc,
}

impl fmt::Debug for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketType({:#06x}, {:?})", self.kind, self.dev)
    }
}

impl PacketType {
    fn wants(&self, dev: &NetDevice) -> bool {
        self.dev.is_none_or(|only| only == dev.ifindex)
    }

    #[inline(always)]
    fn deliver(&self, cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>) {
        match &self.func {
            PacketFunc::Protocol(receive) => receive(cx, list, dev),
            PacketFunc::Tap(tap) => list.each_alone(cx, |cx, skb| tap.packet_rcv(cx, skb, dev)),
        }
    }

    /// The same for one packet that leaves its list.
    #[cold]
    fn deliver_skb(&self, cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) {
        let mut list = cx.skb_list_of(skb);
        self.deliver(cx, &mut list, dev);
        cx.free_skb_list(list);
    }
}

/// Puts a handler among others: those of all devices first, and the latest in front.
fn insert(kinds: &mut Vec<PacketType>, kind: PacketType) {
    let of_all = kinds.iter().take_while(|other| other.dev.is_none()).count();
    let place = if kind.dev.is_none() { 0 } else { of_all };
    kinds.insert(place, kind);
}

/// Handlers by ethertype, hashed by its low bits: a bucket has one as a rule.
///
/// linux: net/core/dev.c:ptype_base
#[derive(Clone, Debug, Default)]
pub struct PtypeBase([Vec<PacketType>; PTYPE_HASH_SIZE]);

/// linux: include/linux/netdevice.h:PTYPE_HASH_SIZE
const PTYPE_HASH_SIZE: usize = 16;

impl PtypeBase {
    fn add(&mut self, kind: PacketType) {
        insert(&mut self.0[usize::from(kind.kind) % PTYPE_HASH_SIZE], kind);
    }

    /// Those of protocols alone, of all devices.
    pub(super) fn protocols(&self) -> Self {
        let mut protocols = self.clone();
        let protocol = |kind: &PacketType| matches!(kind.func, PacketFunc::Protocol(_));
        protocols.0.iter_mut().for_each(|bucket| bucket.retain(protocol));
        protocols
    }

    #[inline]
    fn bucket(&self, kind: u16) -> &[PacketType] {
        &self.0[usize::from(kind) % PTYPE_HASH_SIZE]
    }
}

/// Registers a handler at boot.
pub(crate) fn dev_add_pack_boot(m: &mut Machine, kind: PacketType) {
    m.boot_log(Point::dev_add_pack);
    m.boot_tables(|t| t.net.ptype_base.add(kind));
}

/// Registers a handler: a tap (`ETH_P_ALL`) in `ptype_all`, a protocol in `ptype_base`. On return
/// every packet is seen.
///
/// linux: net/core/dev.c:dev_add_pack
pub fn dev_add_pack(cx: &mut TaskCx, kind: PacketType) {
    let added: Result<(), std::convert::Infallible> = update_tables(cx, |t| {
        if kind.kind == ETH_P_ALL {
            insert(&mut t.net.ptype_all, kind);
        } else {
            t.net.ptype_base.add(kind);
        }
        Ok(())
    });
    let Ok(()) = added;
}

/// Takes a tap out; on return it sees no more packets.
///
/// linux: net/core/dev.c:dev_remove_pack
pub fn dev_remove_pack(cx: &mut TaskCx, tap: &Arc<dyn PacketTap>) {
    let removed: Result<(), std::convert::Infallible> = update_tables(cx, |t| {
        let other = |kind: &PacketType| match &kind.func {
            PacketFunc::Tap(this) => !Arc::ptr_eq(this, tap),
            PacketFunc::Protocol(_) => true,
        };
        t.net.ptype_all.retain(other);
        t.net.ptype_base.0.iter_mut().for_each(|bucket| bucket.retain(other));
        Ok(())
    });
    let Ok(()) = removed;
}

/// Packets of one `protocol` enter the stack from their device, their data beginning with the network header
/// ([`eth_type_trans`](crate::net::ethernet::eth::eth_type_trans)); none is left in the list, which is
/// used up.
///
/// linux: net/core/dev.c:netif_receive_skb
#[inline(always)]
pub(crate) fn netif_receive_skb(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    protocol: u16,
) {
    walk!(cx, list, netif_receive_skb);
    if cx.t.net.rps.needed {
        return super::rps::receive_steered(cx, list, dev, protocol);
    }
    __netif_receive_skb_core(cx, list, dev, protocol);
}

/// Taps first, then the protocol; the last handler gets the packets themselves, others clones.
///
/// linux: net/core/dev.c:__netif_receive_skb_core
#[inline(always)]
pub(super) fn __netif_receive_skb_core(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    protocol: u16,
) {
    walk!(cx, list, __netif_receive_skb_core);
    let t = cx.t;
    cx.cpu.softnet.processed += list.len() as u64;
    if !t.net.ptype_all.is_empty() {
        show_taps(cx, list, dev);
    }
    match t.net.ptype_base.bucket(protocol) {
        [only] if only.kind == protocol && only.dev.is_none() => only.deliver(cx, list, dev),
        bucket => deliver_among(cx, list, dev, bucket),
    }
}

#[cold]
fn show_taps(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>) {
    let t = cx.t;
    for skb in list.iter_mut() {
        for tap in t.net.ptype_all.iter().filter(|tap| tap.wants(dev)) {
            let Some(clone) = skb_clone(cx, skb) else { continue };
            tap.deliver_skb(cx, clone, dev);
        }
    }
}

/// To those of several handlers that want them, if any does.
#[inline(never)]
fn deliver_among(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    bucket: &[PacketType],
) {
    list.each_alone(cx, |cx, mut skb| {
        let mut found: Option<&PacketType> = None;
        for kind in bucket {
            if kind.kind == skb.protocol
                && kind.wants(dev)
                && let Some(earlier) = found.replace(kind)
                && let Some(clone) = skb_clone(cx, &mut skb)
            {
                earlier.deliver_skb(cx, clone, dev);
            }
        }
        match found {
            Some(kind) => kind.deliver_skb(cx, skb, dev),
            None if skb.pkt_type == PktType::OtherHost => {
                kfree_skb(cx, skb, DropReason::OtherHost);
            }
            None => kfree_skb(cx, skb, DropReason::UnhandledProto),
        }
    });
}

/// Queues a packet to this CPU's backlog, for a device without NAPI. False when the backlog is
/// full: then the packet was dropped.
///
/// linux: net/core/dev.c:netif_rx
pub fn netif_rx(cx: &mut BhCx<'_>, skb: Skb) -> bool {
    walk!(cx, skb, netif_rx);
    enqueue_to_backlog(cx, skb)
}

/// linux: net/core/dev.c:enqueue_to_backlog
fn enqueue_to_backlog(cx: &mut BhCx<'_>, skb: Skb) -> bool {
    walk!(cx, skb, enqueue_to_backlog);
    let queue = &mut cx.cpu.softnet.input_pkt_queue;
    if queue.len() > cx.t.net.sysctl.netdev_max_backlog as usize {
        cx.cpu.softnet.dropped += 1;
        kfree_skb(cx, skb, DropReason::CpuBacklog);
        return false;
    }
    let first = queue.is_empty();
    queue.push_back(skb);
    if first {
        let backlog = Arc::clone(&cx.cpu.softnet.backlog);
        napi_schedule(cx, &backlog);
    }
    true
}

/// The backlog's poll.
pub(super) struct Backlog;

impl NapiPoll for Backlog {
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
        process_backlog(cx, napi, budget)
    }

    /// What the panic took away has ended, too.
    fn reset(&self, cx: &mut BhCx<'_>) {
        tell_ended(cx);
    }
}

/// Works off this CPU's backlog: what other CPUs left to it, and what was queued here; while there is
/// both, half and half.
///
/// linux: net/core/dev.c:process_backlog
fn process_backlog(cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
    walk!(cx, process_backlog);
    let mut work = 0;
    while work < budget {
        let left = budget - work;
        let looped = !cx.cpu.softnet.input_pkt_queue.is_empty();
        let steered = process_steered(cx, if looped { left.div_ceil(2) } else { left });
        let done = steered + process_looped(cx, left - steered);
        if done == 0 {
            // Only this CPU queues its own; another that queues now interrupts afterwards.
            let _polled_again_if_missed = super::napi::napi_complete(cx, napi);
            break;
        }
        work += done;
    }
    work
}

/// Up to `budget` packets that other CPUs left to this one; how many there were.
fn process_steered(cx: &mut BhCx<'_>, budget: u32) -> u32 {
    let mut work = 0;
    while work < budget {
        let softnet = &mut cx.cpu.softnet;
        if softnet.process_queue.is_empty() {
            let backlog = &cx.m.cpus[usize::from(cx.cpu.id.0)].backlog;
            if !backlog.take(&mut softnet.process_queue) {
                break;
            }
            softnet.taken_over += softnet.process_queue.len() as u64;
        }
        work += process_run(cx, budget - work, |softnet| &mut softnet.process_queue);
        tell_ended(cx);
    }
    work
}

/// What this CPU took over has ended, but for what waits.
fn tell_ended(cx: &mut BhCx<'_>) {
    let softnet = &cx.cpu.softnet;
    let backlog = &cx.m.cpus[usize::from(cx.cpu.id.0)].backlog;
    backlog.end_all_but(softnet.taken_over, softnet.process_queue.len());
}

/// Up to `budget` packets that were queued on this CPU; how many there were.
fn process_looped(cx: &mut BhCx<'_>, budget: u32) -> u32 {
    let mut work = 0;
    while work < budget && !cx.cpu.softnet.input_pkt_queue.is_empty() {
        work += process_run(cx, budget - work, |softnet| &mut softnet.input_pkt_queue);
    }
    work
}

/// Up go, from a queue that is not empty, those that came in at one device, of one protocol, one behind
/// the other; at most `most`. How many they were.
fn process_run(
    cx: &mut BhCx<'_>,
    most: u32,
    of: impl Fn(&mut SoftnetData) -> &mut VecDeque<Skb>,
) -> u32 {
    let mut list = cx.skb_list();
    let queue = of(&mut cx.cpu.softnet);
    let Some((dev, protocol)) = queue.front().map(|skb| (skb.dev, skb.protocol)) else {
        cx.free_skb_list(list);
        return 0;
    };
    let same = |skb: &mut Skb| (skb.dev, skb.protocol) == (dev, protocol);
    while (list.len() as u32) < most
        && let Some(skb) = queue.pop_front_if(same)
    {
        list.push(skb);
    }
    let taken = list.len() as u32;
    match dev {
        // There is one namespace as a rule.
        Some(dev) if !cx.root.dev_nets.is_empty() => {
            let net = cx.root.net_of(dev);
            cx.in_net(net, |cx| process_list(cx, &mut list, Some(dev), protocol));
        }
        dev => process_list(cx, &mut list, dev, protocol),
    }
    cx.free_skb_list(list);
    taken
}

/// Packets go up that came in at a device, which may be gone.
#[inline(always)]
fn process_list(cx: &mut BhCx<'_>, list: &mut SkbList, dev: Option<DevId>, protocol: u16) {
    let t = cx.t;
    match dev.and_then(|dev| t.net.dev(dev)) {
        Some(dev) => __netif_receive_skb_core(cx, list, dev, protocol),
        None => {
            list.pass(cx, |_, _| Err(DropReason::DevReady));
        }
    }
}

/// What came in at a device that has gone is received nowhere: another device may have its index one day, in another
/// namespace. Context: task, on no CPU.
///
/// linux: net/core/dev.c:flush_backlog
pub(super) fn flush_backlog(cx: &mut TaskCx, dev: DevId) {
    flush_all_backlogs(cx);
    let m = Arc::clone(cx.machine());
    for cpu in m.cpu_ids() {
        let mut stay = m.enter(cpu);
        stay.with_bh(Context::Bh, false, |bh| {
            for skb in std::mem::take(&mut bh.cpu.softnet.input_pkt_queue) {
                if skb.dev == Some(dev) {
                    kfree_skb(bh, skb, DropReason::DevReady);
                } else {
                    bh.cpu.softnet.input_pkt_queue.push_back(skb);
                }
            }
        });
        stay.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::with_task;
    use crate::net::core::skbuff::{alloc_skb, consume_skb};

    #[test]
    fn what_waits_from_a_device_that_has_gone_is_dropped_and_nothing_else() {
        with_task(|cx| {
            let [gone, stays] = [DevId(7), DevId(8)];
            cx.local_bh_disable(|bh| {
                for dev in [gone, stays, gone] {
                    let mut skb = alloc_skb(bh, 64).expect("room");
                    skb.dev = Some(dev);
                    bh.cpu.softnet.input_pkt_queue.push_back(skb);
                }
            });
            flush_backlog(cx, gone);
            cx.local_bh_disable(|bh| {
                let left = std::mem::take(&mut bh.cpu.softnet.input_pkt_queue);
                assert_eq!(left.iter().map(|skb| skb.dev).collect::<Vec<_>>(), [Some(stays)]);
                left.into_iter().for_each(|skb| consume_skb(bh, skb));
            });
        });
    }
}
