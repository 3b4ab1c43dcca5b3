//! Steering of received packets to other CPUs, by software: by the flow's hash (RPS), or to where its
//! reader is (RFS).
//!
//! linux: net/core/dev.c (`get_rps_cpu`, `enqueue_to_backlog`), net/core/net-sysfs.c (`rps_cpus`,
//! `rps_flow_cnt`), net/core/sysctl_net_core.c (`rps_sock_flow_entries`). Key types: [`RpsTables`],
//! `RpsQueue`. Contexts: steering in BH, by who polls the queue; settings by tasks.
//! Invariants: packets go over in batches, all of a list for one CPU together, and before the list's
//! poll gives up its queue; a flow's next packet goes to another CPU, or to none, only when all that
//! were queued before it have ended where they were.
//! DIVERGES: the order of a flow is kept through every change of the maps and tables; in Linux only RFS
//! keeps it. A device without NAPI (loopback) is not steered: EOPNOTSUPP. At most 65,536 flows a table, which
//! grows and never shrinks. There is no `flow_limit` (off by default in Linux).

mod flows;

pub use flows::{RPS_FLOWS_MAX, SockFlowTable};

use super::device::{DevId, NetDevice};
use super::napi::napi_schedule;
use super::rx::__netif_receive_skb_core;
use crate::kernel::context::{BhCx, HardirqCx, TaskCx};
use crate::kernel::cpu::CpuId;
use crate::kernel::rcupdate::{synchronize_net, update_tables};
use crate::kernel::remote_queue::Pushed;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, SkbList, kfree_skb};
use flows::{FlowTable, Last, RPS_FLOWS};
use klib::bitmap::CpuMask;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use uapi::errno::Errno;

/// How received packets are steered, by device and queue.
#[derive(Clone, Debug, Default)]
pub struct RpsTables {
    /// Some queue is steered, or was: its packets may still be under way.
    ///
    /// linux: include/linux/netdevice.h:rps_needed
    pub(super) needed: bool,
    devs: Vec<Vec<Option<Arc<RpsQueue>>>>,
}

/// One receive queue's steering.
///
/// linux: include/net/netdev_rx_queue.h:netdev_rx_queue
#[derive(Clone, Debug)]
struct RpsQueue {
    /// `rps_cpus`: the CPUs that take its packets.
    map: Vec<CpuId>,
    /// `rps_flow_cnt`: flows whose readers are followed.
    flow_cnt: usize,
    flows: Arc<FlowTable>,
    /// What was in use before it grew: a bucket that was not used since goes by that.
    older: Option<Arc<FlowTable>>,
}

impl Default for RpsQueue {
    fn default() -> Self {
        Self { map: Vec::new(), flow_cnt: 0, flows: FlowTable::new(RPS_FLOWS), older: None }
    }
}

impl RpsQueue {
    /// The table in use, and what was in use before. Who still has these settings when a larger table
    /// has taken over uses that one already: there is one answer at a time.
    fn tables(&self) -> (&FlowTable, Option<&FlowTable>) {
        match self.flows.grown() {
            Some(larger) => (larger, Some(&self.flows)),
            None => (&self.flows, self.older.as_deref()),
        }
    }

    /// Makes the table larger. It never becomes smaller: two buckets whose packets are at different CPUs
    /// can't become one.
    fn grow(&mut self, size: usize) {
        if size > self.flows.len() {
            let larger = self.flows.grow(size);
            self.older = Some(std::mem::replace(&mut self.flows, larger));
        }
    }
}

impl RpsTables {
    fn queue(&self, dev: DevId, queue: u16) -> Option<&Arc<RpsQueue>> {
        self.devs.get(usize::from(dev.0))?.get(usize::from(queue))?.as_ref()
    }

    /// The place of a queue's settings, made if need be.
    fn slot(&mut self, dev: &NetDevice, queue: u16) -> &mut RpsQueue {
        let (dev, queues) = (usize::from(dev.ifindex.0), dev.tx_queues.len());
        if self.devs.len() <= dev {
            self.devs.resize(dev + 1, Vec::new());
        }
        let of = &mut self.devs[dev];
        of.resize(queues, None);
        self.needed = true;
        Arc::make_mut(of[usize::from(queue)].get_or_insert_default())
    }

    pub(super) fn forget(&mut self, dev: DevId) {
        if let Some(of) = self.devs.get_mut(usize::from(dev.0)) {
            of.clear();
        }
    }
}

/// Which CPUs take the packets of a receive queue; an empty mask: the one that polls it.
///
/// linux: /sys/class/net/DEV/queues/rx-N/rps_cpus:rps_cpus
pub fn show_rps_map(cx: &TaskCx, dev: &NetDevice, queue: u16) -> CpuMask {
    let t = cx.tables();
    let map = t.net.rps.queue(dev.ifindex, queue).map_or(&[][..], |queue| &queue.map);
    CpuMask::from_bits(map.iter().fold(0, |bits, cpu| bits | 1 << cpu.0))
}

/// Names the CPUs that take the packets of a receive queue; those that the machine does not have are
/// left out, as Linux leaves out those that are not online.
///
/// # Errors
/// ENOENT without such a queue, EOPNOTSUPP for a device that is not steered.
///
/// linux: net/core/net-sysfs.c:store_rps_map
pub fn store_rps_map(
    cx: &mut TaskCx,
    dev: &NetDevice,
    queue: u16,
    cpus: CpuMask,
) -> Result<(), Errno> {
    let many = cx.machine().cpu_ids().count();
    let map = cpus.iter().filter(|cpu| *cpu < many).map(|cpu| CpuId(cpu as u8)).collect();
    change(cx, dev, queue, |queue| queue.map = map)
}

/// How many of a queue's flows are followed to their readers.
///
/// linux: /sys/class/net/DEV/queues/rx-N/rps_flow_cnt:rps_flow_cnt
pub fn show_rps_dev_flow_table_cnt(cx: &TaskCx, dev: &NetDevice, queue: u16) -> usize {
    cx.tables().net.rps.queue(dev.ifindex, queue).map_or(0, |queue| queue.flow_cnt)
}

/// Follows so many flows of a queue to their readers, rounded up to a power of two; zero: none.
///
/// # Errors
/// As [`store_rps_map`]; EINVAL for more than [`RPS_FLOWS_MAX`].
///
/// linux: net/core/net-sysfs.c:store_rps_dev_flow_table_cnt
pub fn store_rps_dev_flow_table_cnt(
    cx: &mut TaskCx,
    dev: &NetDevice,
    queue: u16,
    flows: usize,
) -> Result<(), Errno> {
    let count = rounded(flows)?;
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    change(cx, dev, queue, |queue| {
        queue.flow_cnt = count;
        queue.grow(count);
    })?;
    // Nobody queues by the older table any more; once what it queued has ended it has nothing to say.
    flush_all_backlogs(cx);
    change(cx, dev, queue, |queue| queue.older = None)
}

/// Remembers the readers of so many flows, rounded up to a power of two; zero: of none.
///
/// # Errors
/// EINVAL for more than [`RPS_FLOWS_MAX`].
///
/// linux: net/core/sysctl_net_core.c:rps_sock_flow_sysctl
pub fn rps_sock_flow_sysctl(cx: &TaskCx, entries: usize) -> Result<(), Errno> {
    cx.machine().net().rps_sock_flow_table.resize(rounded(entries)?);
    Ok(())
}

fn rounded(count: usize) -> Result<usize, Errno> {
    match count {
        0 => Ok(0),
        1..=RPS_FLOWS_MAX => Ok(count.next_power_of_two()),
        _ => Err(Errno::EINVAL),
    }
}

fn change(
    cx: &mut TaskCx,
    dev: &NetDevice,
    queue: u16,
    change: impl FnOnce(&mut RpsQueue),
) -> Result<(), Errno> {
    if usize::from(queue) >= dev.tx_queues.len() {
        return Err(Errno::ENOENT);
    }
    if dev.is_loopback() {
        return Err(Errno::EOPNOTSUPP);
    }
    update_tables(cx, |t| {
        change(t.net.rps.slot(dev, queue));
        Ok(())
    })
}

/// Waits until all that was steered to another CPU before this has ended there. What comes meanwhile is
/// not waited for. Context: task, on no CPU.
///
/// linux: net/core/dev.c:flush_all_backlogs
pub fn flush_all_backlogs(cx: &mut TaskCx) {
    synchronize_net(cx);
    let m = Arc::clone(cx.machine());
    for cpu in m.cpu_ids() {
        let backlog = &m.cpus[usize::from(cpu.0)].backlog;
        let position = backlog.position();
        // Each turn works off what one poll may take; bounded, for what a panic took away never ends.
        for _ in 0..10_000 {
            if backlog.passed(position) {
                break;
            }
            m.run_cpu(cpu);
            m.run_ksoftirqd(cpu);
            m.platform.wake_cpu(cpu);
        }
    }
}

/// What steering keeps on a CPU from list to list, empty between them.
#[derive(Debug, Default)]
pub(crate) struct Steering {
    /// Packets on their way, by CPU.
    batches: Vec<Vec<Skb>>,
    /// Behind which position each CPU's backlog has them.
    positions: Vec<u64>,
    /// The hashes of a list's packets, and their CPUs.
    touched: Vec<(u32, Option<CpuId>)>,
}

/// Has what `receive` receives go up on this CPU, whatever the maps say: for a driver that empties its
/// queues in an order of its own, with no poll running and no backlog filled.
pub fn receive_here<R>(cx: &mut BhCx<'_>, receive: impl FnOnce(&mut BhCx<'_>) -> R) -> R {
    cx.cpu.softnet.receive_here = true;
    let received = catch_unwind(AssertUnwindSafe(|| receive(cx)));
    cx.cpu.softnet.receive_here = false;
    received.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Packets of one list, which a queue's poll has brought: those that other CPUs are to take go there,
/// the rest goes up here. None is left.
///
/// linux: net/core/dev.c:netif_receive_skb_list_internal
#[cold]
#[inline(never)]
pub(super) fn receive_steered(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    dev: &Arc<NetDevice>,
    protocol: u16,
) {
    let t = cx.t;
    // Of one poll, so of one queue.
    let recorded = list.first().map_or(0, |skb| skb.queue_mapping);
    if !cx.cpu.softnet.receive_here
        && let Some(queue) = t.net.rps.queue(dev.ifindex, recorded.saturating_sub(1))
    {
        let mut steering = std::mem::take(&mut cx.cpu.softnet.steering);
        steering.steer(cx, list, queue);
        cx.cpu.softnet.steering = steering;
    }
    if !list.is_empty() {
        __netif_receive_skb_core(cx, list, dev, protocol);
    }
}

impl Steering {
    /// Takes those packets out of a list that go to a backlog, and puts them there.
    fn steer(&mut self, cx: &mut BhCx<'_>, list: &mut SkbList, queue: &RpsQueue) {
        let cpus = cx.m.cpus.len();
        self.batches.resize_with(cpus, Vec::new);
        self.positions.resize(cpus, 0);
        let mut here = cx.skb_list();
        let (flows, older) = queue.tables();
        list.each_alone(cx, |cx, mut skb| {
            let hash = skb.skb_get_hash(cx);
            let last = flows.last(hash).or_else(|| older?.last(hash));
            let cpu = get_rps_cpu(cx, queue, (&skb, hash), last);
            // Also of one that goes up here: its flow's reader may move while this list is looked at,
            // and the next packet would overtake it.
            flows.set(hash, cpu.map_or(Last::HERE, Last::under_way));
            self.touched.push((hash, cpu));
            match cpu {
                Some(cpu) => self.batches[usize::from(cpu.0)].push(skb),
                None => here.push(skb),
            }
        });
        let mut ipis = 0;
        for (cpu, batch) in self.batches.iter_mut().enumerate() {
            if !batch.is_empty() {
                let cpu = CpuId(cpu as u8);
                let pushed = hand_over(cx, cpu, batch);
                self.positions[usize::from(cpu.0)] = pushed.position;
                ipis |= u64::from(pushed.first) << cpu.0;
            }
        }
        for (hash, cpu) in self.touched.drain(..) {
            match cpu {
                Some(cpu) => {
                    let position = self.positions[usize::from(cpu.0)];
                    flows.set(hash, Last { cpu, position });
                }
                None => flows.clear(hash),
            }
        }
        net_rps_action_and_irq_enable(cx, ipis);
        list.append(&mut here);
        cx.free_skb_list(here);
    }
}

/// The CPU in whose backlog a packet goes; `None`: it goes up here. Where its flow's reader is, if that
/// is followed, else by the hash; but where its flow's packets still are, as long as they are there.
///
/// linux: net/core/dev.c:get_rps_cpu
fn get_rps_cpu(
    cx: &BhCx<'_>,
    queue: &RpsQueue,
    (skb, hash): (&Skb, u32),
    last: Option<Last>,
) -> Option<CpuId> {
    walk!(cx, skb, get_rps_cpu);
    if last == Some(Last::HERE) {
        return None;
    }
    if let Some(last) = last
        && !cx.m.cpus[usize::from(last.cpu.0)].backlog.passed(last.position)
    {
        return Some(last.cpu);
    }
    let reader = if queue.flow_cnt == 0 {
        None
    } else {
        let of = cx.m.init_net.rps_sock_flow_table.reader(hash);
        of.filter(|cpu| cx.m.cpu_online(*cpu))
    };
    reader.or_else(|| {
        let index = (u64::from(hash) * queue.map.len() as u64) >> 32;
        queue.map.get(index as usize).copied().filter(|cpu| cx.m.cpu_online(*cpu))
    })
}

/// Puts a batch into a CPU's backlog; what finds no room there is dropped.
fn hand_over(cx: &mut BhCx<'_>, cpu: CpuId, batch: &mut Vec<Skb>) -> Pushed {
    for skb in batch.iter() {
        walk!(cx, skb, enqueue_to_backlog => u64::from(cpu.0));
    }
    let m = cx.m;
    let limit = cx.t.net.sysctl.netdev_max_backlog as usize + 1;
    let pushed = m.cpus[usize::from(cpu.0)].backlog.push(batch, limit);
    for skb in batch.drain(..) {
        kfree_skb(cx, skb, DropReason::CpuBacklog);
    }
    pushed
}

/// Tells the CPUs whose backlogs were empty.
///
/// linux: net/core/dev.c:net_rps_action_and_irq_enable
fn net_rps_action_and_irq_enable(cx: &mut BhCx<'_>, mut ipis: u64) {
    if ipis == 0 {
        return;
    }
    walk!(cx, net_rps_action_and_irq_enable => ipis);
    while ipis != 0 {
        let cpu = CpuId(ipis.trailing_zeros() as u8);
        ipis &= ipis - 1;
        if cpu == cx.cpu.id {
            let backlog = Arc::clone(&cx.cpu.softnet.backlog);
            napi_schedule(cx, &backlog);
        } else {
            cx.m.smp_call_function_single_async(cpu);
        }
    }
}

/// Another CPU has put packets into this one's backlog.
///
/// linux: net/core/dev.c:rps_trigger_softirq
pub(super) fn rps_trigger_softirq(cx: &mut HardirqCx<'_>) {
    walk!(cx, rps_trigger_softirq);
    cx.cpu.softnet.received_rps += 1;
    let backlog = Arc::clone(&cx.cpu.softnet.backlog);
    napi_schedule(cx, &backlog);
}
