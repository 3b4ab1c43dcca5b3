//! Network devices, the per-CPU queues, and the tables that packets are dispatched by.
//!
//! linux: net/core/dev.c, include/linux/netdevice.h. Key types: [`NetDevice`], [`NetDeviceOps`],
//! [`NapiStruct`], [`SoftnetData`], [`NetTables`]. Parts: [`napi`] (polling), [`rx`] (receive),
//! [`tx`] (transmit), [`device`] (registration, up and down), [`features`] (what they do for the stack).
//! Contexts: see each function. Locks: those of qdisc and driver.
//! Invariants: a NAPI context is polled by whoever set its SCHED bit, one CPU at a time; softnet
//! data is touched by its CPU alone.

pub mod device;
pub mod features;
pub mod gro;
mod hotplug;
pub mod napi;
mod netns;
pub mod rps;
pub mod rx;
pub mod tx;
pub mod xps;

pub use device::{
    Carrier, DevId, LinkStats, NetDevice, NetDeviceOps, NetdevQueue, dev_close, dev_open,
    register_netdevice, unregister_netdevice,
};
pub use features::{Feature, NetdevFeatures, ethtool_get_features, ethtool_set_features};
pub use gro::{
    GroResult, NapiGroCb, PacketOffload, dev_add_offload, gro_sift, napi_gro_flush,
    napi_gro_receive,
};
pub use napi::{
    NapiPoll, NapiStruct, PollList, napi_complete, napi_disable, napi_enable, napi_schedule,
    net_rx_action,
};
pub(crate) use netns::default_device_exit;
pub use netns::dev_change_net_namespace;
pub use rps::{
    RpsTables, SockFlowTable, flush_all_backlogs, receive_here, rps_sock_flow_sysctl,
    show_rps_dev_flow_table_cnt, show_rps_map, store_rps_dev_flow_table_cnt, store_rps_map,
};
pub use rx::{PacketFunc, PacketTap, PacketType, PtypeBase, dev_add_pack, netif_rx};
pub use tx::{dev_queue_xmit, dev_queue_xmit_one, net_tx_action};
pub use xps::{XpsTables, netif_set_xps_queue, xps_cpus_show};

use crate::kernel::context::BhCx;
use crate::kernel::cpu::hotplug::register_cpu_notifier;
use crate::kernel::machine::Machine;
use crate::kernel::softirq::{Softirq, open_softirq};
use crate::kernel::trace::events::Point;
use crate::net::core::skbuff::{Skb, SpareLists};
use crate::net::core::sysctl::Sysctls;
use crate::net::ipv4::devinet::InDevice;
use crate::net::ipv4::fib::FibTables;
use crate::net::ipv4::protocol::{InetOffloads, InetProtos};
use crate::net::ipv4::tcp_cong::TcpCa;
use crate::net::netfilter::NfHooks;
use crate::net::sched::Qdisc;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

/// The read-mostly tables of the network.
#[derive(Clone, Debug, Default)]
pub struct NetTables {
    /// Devices by index; index 0 is never used.
    pub devs: Vec<Option<Arc<NetDevice>>>,
    /// Handlers of every packet (taps).
    pub ptype_all: Vec<PacketType>,
    /// Handlers by ethertype.
    pub ptype_base: PtypeBase,
    /// Network protocols' parts of GRO.
    pub offload_base: Vec<PacketOffload>,
    /// Transport protocols.
    pub inet_protos: InetProtos,
    /// Transport protocols' parts of GRO.
    pub inet_offloads: InetOffloads,
    /// One of them may hold packets.
    pub inet_gro_holds: bool,
    /// Congestion control algorithms.
    pub tcp_cong_list: Vec<TcpCa>,
    /// IPv4 configuration of the devices, by index.
    pub in_devs: Vec<Option<Arc<InDevice>>>,
    /// Routes.
    pub fib: FibTables,
    /// Netfilter hooks.
    pub nf: NfHooks,
    /// Steering of received packets to other CPUs.
    pub rps: RpsTables,
    /// Which transmit queues the CPUs' packets leave by.
    pub xps: XpsTables,
    /// Settings.
    pub sysctl: Arc<Sysctls>,
}

impl NetTables {
    /// Those of a new namespace of the same machine, which has so much memory for packets: the protocols that there
    /// are, and the settings of a machine that boots.
    pub(crate) fn another(&self, memory: usize) -> Self {
        let mut sysctl = Sysctls::default();
        sysctl.tcp.init_mem(memory);
        sysctl.tcp.congestion_control = self.sysctl.tcp.congestion_control;
        Self {
            ptype_base: self.ptype_base.protocols(),
            offload_base: self.offload_base.clone(),
            inet_protos: self.inet_protos.clone(),
            inet_offloads: self.inet_offloads.clone(),
            inet_gro_holds: self.inet_gro_holds,
            tcp_cong_list: self.tcp_cong_list.clone(),
            sysctl: Arc::new(sysctl),
            ..Self::default()
        }
    }

    /// The device with an index.
    #[inline]
    pub fn dev(&self, id: DevId) -> Option<&Arc<NetDevice>> {
        self.devs.get(usize::from(id.0))?.as_ref()
    }

    /// The device with a name.
    pub fn dev_by_name(&self, name: &str) -> Option<&Arc<NetDevice>> {
        self.devs.iter().flatten().find(|dev| dev.name == name)
    }

    /// A device is in this namespace, by its index, and is not configured.
    ///
    /// linux: net/core/dev.c:list_netdevice
    pub(super) fn list_netdevice(&mut self, dev: &Arc<NetDevice>) {
        let index = usize::from(dev.ifindex.0);
        let len = self.devs.len().max(index + 1);
        self.devs.resize(len, None);
        self.in_devs.resize(len, None);
        self.devs[index] = Some(Arc::clone(dev));
    }

    /// The IPv4 configuration of a device.
    #[inline]
    pub fn in_dev(&self, id: DevId) -> Option<&Arc<InDevice>> {
        self.in_devs.get(usize::from(id.0))?.as_ref()
    }
}

/// The network side of one CPU.
///
/// linux: include/linux/netdevice.h:softnet_data
#[derive(Debug)]
pub struct SoftnetData {
    /// NAPI contexts to poll.
    pub(crate) poll_list: PollList,
    /// Packets queued to this CPU (loopback, `netif_rx`).
    pub(crate) input_pkt_queue: VecDeque<Skb>,
    /// Packets of other CPUs' devices that this one has taken over and not ended.
    pub(crate) process_queue: VecDeque<Skb>,
    /// How many it ever took over.
    pub(crate) taken_over: u64,
    /// What steering packets to other CPUs works with.
    pub(crate) steering: rps::Steering,
    /// What comes now is not steered.
    pub(crate) receive_here: bool,
    /// Interrupts from CPUs that put packets into the backlog (tenth column).
    pub(crate) received_rps: u64,
    /// The NAPI that works them off.
    pub(crate) backlog: Arc<NapiStruct>,
    /// The one of a device that is polled now or was last, while sockets want to know.
    pub(crate) polling: Option<Arc<NapiStruct>>,
    /// GRO: packets of the present poll that may still grow.
    pub(crate) gro_list: Vec<Skb>,
    /// Lists that wait to be used, empty.
    pub(crate) lists: SpareLists,
    /// Stopped or yielded qdiscs to run again.
    pub(crate) output_queue: VecDeque<Arc<Qdisc>>,
    /// Sent packets to free.
    pub(crate) completion_queue: Vec<Skb>,
    /// Packets received here (`/proc/net/softnet_stat`, first column).
    pub(crate) processed: u64,
    /// Packets dropped because the backlog was full (second column).
    pub(crate) dropped: u64,
    /// Times `net_rx_action` ended with work left (third column).
    pub(crate) time_squeeze: u64,
    /// Allocations that found the machine's memory used up.
    pub(crate) nomem: u64,
    /// The qdisc this CPU runs, kept until its batch ends.
    pub(crate) tx_running: Option<crate::net::sched::Running>,
    /// What the driver of that qdisc's queue keeps from packet to packet.
    pub(crate) xmit_batch: Option<Box<dyn Any + Send>>,
    /// How deep transmission is nested (tunnels over loopback).
    pub(crate) xmit_recursion: u32,
}

impl SoftnetData {
    /// Empty queues.
    pub fn new() -> Self {
        Self {
            poll_list: PollList::new(),
            input_pkt_queue: VecDeque::new(),
            process_queue: VecDeque::new(),
            taken_over: 0,
            steering: rps::Steering::default(),
            receive_here: false,
            received_rps: 0,
            backlog: NapiStruct::backlog(),
            polling: None,
            gro_list: Vec::new(),
            lists: SpareLists::default(),
            output_queue: VecDeque::new(),
            completion_queue: Vec::new(),
            processed: 0,
            dropped: 0,
            time_squeeze: 0,
            nomem: 0,
            tx_running: None,
            xmit_batch: None,
            xmit_recursion: 0,
        }
    }
}

impl SoftnetData {
    /// Takes out the contexts of devices that are to be polled here; the CPU's own backlog stays.
    pub(crate) fn take_device_polls(&mut self) -> Vec<Arc<NapiStruct>> {
        let (devices, own): (Vec<_>, Vec<_>) =
            std::iter::from_fn(|| self.poll_list.pop_front()).partition(|napi| napi.dev.is_some());
        own.into_iter().for_each(|napi| self.poll_list.push_back(napi));
        devices
    }

    /// Has contexts polled here that were scheduled on another CPU.
    pub(crate) fn append_polls(&mut self, polls: Vec<Arc<NapiStruct>>) {
        polls.into_iter().for_each(|napi| self.poll_list.push_back(napi));
    }
}

impl Default for SoftnetData {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SoftnetData {
    fn drop(&mut self) {
        // The machine goes away whole, and what was under way with it.
        let received = self.input_pkt_queue.drain(..).chain(self.process_queue.drain(..));
        let queued = received.chain(self.completion_queue.drain(..));
        for skb in queued.chain(self.gro_list.drain(..)) {
            skb.forget_at_exit();
        }
    }
}

impl BhCx<'_> {
    /// What a driver keeps on this CPU from a queue's first `ndo_start_xmit` to its
    /// `ndo_xmit_flush`, so that it need not take its lock for each packet of a batch. Whoever finds
    /// another's gives that back first: a queue without a qdisc sends in the middle of a batch.
    #[inline]
    pub fn xmit_batch(&mut self) -> &mut Option<Box<dyn Any + Send>> {
        &mut self.cpu.softnet.xmit_batch
    }
}

/// One CPU's line of `/proc/net/softnet_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftnetStat {
    /// Packets received.
    pub processed: u64,
    /// Dropped for a full backlog.
    pub dropped: u64,
    /// Runs of `net_rx_action` that ended with work left.
    pub time_squeeze: u64,
    /// Interrupts from CPUs that left packets here.
    pub received_rps: u64,
}

impl Machine {
    /// `/proc/net/softnet_stat`, a line per CPU.
    pub fn softnet_stat(&self) -> Vec<SoftnetStat> {
        self.for_each_cpu(|local| SoftnetStat {
            processed: local.softnet.processed,
            dropped: local.softnet.dropped + self.cpus[usize::from(local.id.0)].backlog.dropped(),
            time_squeeze: local.softnet.time_squeeze,
            received_rps: local.softnet.received_rps,
        })
    }

    /// Packets that were allocated and not freed. Zero on a machine at rest.
    pub fn live_skbs(&self) -> i64 {
        let live: i64 = self.for_each_cpu(|local| local.pool.live()).into_iter().sum();
        live - self.depot.lost_packets() as i64
    }

    /// Bytes of packet memory drawn from the system; never above the cap.
    pub fn packet_memory(&self) -> usize {
        self.depot.used()
    }
}

/// Sets up the network's softirqs; the per-CPU data stands since the CPUs were made.
///
/// linux: net/core/dev.c:net_dev_init
pub fn net_dev_init(m: &mut Machine) {
    m.boot_log(Point::net_dev_init);
    m.call_function = rps::rps_trigger_softirq;
    open_softirq(m, Softirq::NetTx, net_tx_action);
    open_softirq(m, Softirq::NetRx, net_rx_action);
    register_cpu_notifier(m, hotplug::dev_cpu_callback);
}

/// A stay in BH context ends: what was kept for the packets that might follow is settled.
#[inline(always)]
pub(crate) fn end_section(cx: &mut BhCx<'_>) {
    if cx.cpu.unsettled {
        settle(cx);
    }
}

#[inline(never)]
fn settle(cx: &mut BhCx<'_>) {
    cx.cpu.unsettled = false;
    crate::net::sched::sch_generic::end_batch(cx);
    if !cx.cpu.wmem.is_empty() {
        crate::net::core::sock::settle_wmem(cx);
    }
    if std::mem::take(&mut cx.cpu.to_tell) {
        crate::net::core::skbuff::settle_zerocopy(cx);
        crate::net::core::timestamping::settle_tx_stamps(cx);
    }
}

/// After a panic in a softirq: what GRO held is dropped, who waits at the socket that was locked is
/// told. What the panic unwound was freed on the way.
#[cold]
pub(crate) fn contain_panic(cx: &mut BhCx<'_>) {
    use crate::kernel::trace::drop_reason::DropReason;
    use crate::net::core::skbuff::kfree_skb;
    // The first namespace there always is.
    cx.enter_net(crate::net::net_namespace::NetId::INIT);
    cx.cpu.softnet.xmit_recursion = 0;
    crate::net::sched::sch_generic::end_batch(cx);
    for skb in std::mem::take(&mut cx.cpu.softnet.gro_list) {
        kfree_skb(cx, skb, DropReason::Panicked);
    }
    crate::net::core::sock::report_killed(cx);
    if !cx.cpu.softnet.poll_list.is_empty() {
        crate::kernel::softirq::__raise_softirq_irqoff(cx, Softirq::NetRx);
    }
}
