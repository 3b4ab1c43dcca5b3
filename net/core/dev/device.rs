//! A network device: its state, queues and operations; registration, up and down.
//!
//! linux: net/core/dev.c, net/core/link_watch.c, include/linux/netdevice.h.
//! Contexts: configuration in tasks, under `class::Rtnl`; state words from any.

use super::features::{FeatureBits, NetdevFeatures};
use super::netns::rtnl_in_net_of;
use super::rx::flush_backlog;
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::rcupdate::{synchronize_net, update_devices, update_tables};
use crate::net::core::dev_addr_lists::DevAddrLists;
use crate::net::core::ethtool::EthtoolOps;
use crate::net::core::skbuff::{SkBuff, Skb, SkbList};
use crate::net::packet::af_packet::packet_notifier;
use crate::net::sched::{Qdisc, RootQdisc, attach_default_qdiscs, dev_set_qdisc};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use uapi::errno::Errno;
use uapi::if_::{IFF_LOOPBACK, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, IFNAMSIZ};

/// A device's index (`ifindex`), from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevId(pub u16);

/// What becomes of a device, for those that are bound to it.
///
/// linux: include/linux/netdevice.h:NETDEV_UP
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetdevEvent {
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// It goes away.
    Unregister,
}

/// The link's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A partner is there.
    On,
    /// None.
    Off,
}

/// A device's counters, as `/proc/net/dev` shows them.
///
/// linux: include/uapi/linux/if_link.h:rtnl_link_stats64
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of `ip -s link`")]
pub struct LinkStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub rx_missed: u64,
    pub multicast: u64,
    pub rx_crc_errors: u64,
    pub rx_length_errors: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What a driver does for its device.
///
/// linux: include/linux/netdevice.h:net_device_ops
pub trait NetDeviceOps: Send + Sync {
    /// Brings the device up: rings, interrupts, NAPI, queues.
    /// Context: task. Errors: whatever kept it down; nothing is left behind.
    fn ndo_open(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno>;

    /// Takes it down: on return no handler and no poll of it runs. Context: task.
    fn ndo_stop(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>);

    /// Sends a packet. Context: BH, with the queue's qdisc running here alone (unless
    /// [`NetdevFeatures::LLTX`]). `Err` gives the packet back: the ring is full, and the driver
    /// has stopped the queue or will have room at once.
    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        queue: u16,
        skb: Skb,
    ) -> Result<(), Skb>;

    /// Sends packets from the front of a list; those that stay in it were not taken. Context: as for
    /// [`ndo_start_xmit`](Self::ndo_start_xmit), which gets them one by one unless the driver has
    /// something better for a list.
    #[inline]
    fn ndo_start_xmit_list(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        txq: &NetdevQueue,
        list: &mut SkbList,
    ) {
        list.hand_out(|skb| {
            if txq.stopped() {
                return Err(skb);
            }
            let queue = skb.queue_mapping;
            self.ndo_start_xmit(cx, dev, queue, skb)
        });
    }

    /// More packets may follow `ndo_start_xmit`; now none does: ring the doorbell. Context: BH.
    fn ndo_xmit_flush(&self, _cx: &mut BhCx<'_>, _dev: &Arc<NetDevice>, _queue: u16) {}

    /// Picks the queue; `None` leaves it to the stack. Context: BH.
    fn ndo_select_queue(&self, _cx: &mut BhCx<'_>, _skb: &SkBuff) -> Option<u16> {
        None
    }

    /// Flags or address lists have changed: program the filters. Context: task.
    fn ndo_set_rx_mode(&self, _cx: &mut TaskCx, _dev: &NetDevice) {}

    /// Programs the address. Context: task. The default keeps it in the device alone.
    fn ndo_set_mac_address(&self, _cx: &mut TaskCx, _addr: [u8; 6]) -> Result<(), Errno> {
        Ok(())
    }

    /// Accepts or refuses an MTU. Context: task.
    fn ndo_change_mtu(&self, _cx: &mut TaskCx, mtu: u32) -> Result<(), Errno> {
        if (68..=1500).contains(&mtu) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The counters. Context: any.
    fn ndo_get_stats64(&self) -> LinkStats;

    /// Takes a device that is nobody's hardware out of the machine, and what belongs to it; false for another, which
    /// stays. Context: task, `rtnl` not taken.
    ///
    /// linux: include/net/rtnetlink.h:rtnl_link_ops (`dellink`)
    fn dellink(&self, _cx: &mut TaskCx, _dev: &Arc<NetDevice>) -> bool {
        false
    }
}

/// A transmit queue of a device.
///
/// linux: include/linux/netdevice.h:netdev_queue
#[derive(Debug)]
pub struct NetdevQueue {
    pub(crate) qdisc: Arc<Qdisc>,
    /// The driver has no room (`__QUEUE_STATE_DRV_XOFF`).
    stopped: AtomicBool,
    /// Byte queue limits.
    pub bql: crate::net::sched::dql::Dql,
}

/// How a device is made; see [`NetDevice::new`].
#[derive(Debug, Clone)]
pub struct DeviceSpec {
    /// Name, or a pattern with `%d` for the lowest free number.
    pub name: String,
    /// The hardware address.
    pub addr: [u8; 6],
    /// The MTU.
    pub mtu: u32,
    /// `IFF_*` flags that the device always has.
    pub flags: u32,
    /// `ARPHRD_*`.
    pub kind: u16,
    /// Features that are on.
    pub features: NetdevFeatures,
    /// Those of them, and others, that can be switched.
    pub hw_features: NetdevFeatures,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Packets a queue holds (`txqueuelen`); zero: the device has no queue.
    pub tx_queue_len: u32,
}

/// A network device.
///
/// linux: include/linux/netdevice.h:net_device
pub struct NetDevice {
    /// Index; set when it is registered.
    pub ifindex: DevId,
    /// Name.
    pub name: String,
    /// `ARPHRD_*`.
    pub kind: u16,
    flags: AtomicU32,
    mtu: AtomicU32,
    addr: AtomicU64,
    features: FeatureBits,
    carrier: AtomicBool,
    promiscuity: AtomicU32,
    allmulti: AtomicU32,
    /// Addresses it receives at besides its own.
    pub(in crate::net::core) addrs: SpinLock<DevAddrLists, class::AddrList>,
    /// Packets a queue holds.
    pub tx_queue_len: u32,
    /// Transmit queues.
    pub tx_queues: Box<[NetdevQueue]>,
    root: RootQdisc,
    /// The driver.
    pub ops: Arc<dyn NetDeviceOps>,
    /// The driver's ethtool side.
    pub ethtool: Option<Arc<dyn EthtoolOps>>,
}

impl NetDevice {
    /// A device that is not registered yet.
    pub fn new(
        spec: DeviceSpec,
        ops: Arc<dyn NetDeviceOps>,
        ethtool: Option<Arc<dyn EthtoolOps>>,
    ) -> Self {
        let (qdiscs, root) = attach_default_qdiscs(&spec);
        let tx_queues = qdiscs
            .into_iter()
            .map(|qdisc| NetdevQueue {
                qdisc,
                stopped: AtomicBool::new(false),
                bql: crate::net::sched::dql::Dql::default(),
            })
            .collect();
        Self {
            ifindex: DevId(0),
            name: spec.name,
            kind: spec.kind,
            flags: AtomicU32::new(spec.flags),
            mtu: AtomicU32::new(spec.mtu),
            addr: AtomicU64::new(pack(spec.addr)),
            features: FeatureBits::new(spec.features, spec.hw_features),
            carrier: AtomicBool::new(true),
            promiscuity: AtomicU32::new(0),
            allmulti: AtomicU32::new(0),
            addrs: SpinLock::default(),
            tx_queue_len: spec.tx_queue_len,
            tx_queues,
            root,
            ops,
            ethtool,
        }
    }

    /// The root of its queueing disciplines.
    ///
    /// linux: include/net/sch_generic.h:qdisc_root
    pub fn root_qdisc(&self) -> &RootQdisc {
        &self.root
    }

    /// The hardware address.
    #[inline]
    pub fn dev_addr(&self) -> [u8; 6] {
        unpack(self.addr.load(Ordering::Relaxed))
    }

    /// The hardware address as the low six bytes of a little-endian number.
    #[inline]
    pub(crate) fn packed_addr(&self) -> u64 {
        self.addr.load(Ordering::Relaxed)
    }

    /// The MTU in bytes.
    #[inline]
    pub fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed) as usize
    }

    /// The features that are on.
    #[inline]
    pub fn features(&self) -> NetdevFeatures {
        self.features.active()
    }

    /// Switches features as a driver does, whatever depends on them; running flows follow at their next packet.
    pub fn set_features(&self, features: NetdevFeatures) {
        self.features.set_active(features);
    }

    /// What is asked of its features, and what can be.
    pub(super) fn feature_bits(&self) -> &FeatureBits {
        &self.features
    }

    /// The flags as user space sees them (`dev_get_flags`).
    pub fn flags(&self) -> u32 {
        let flags = self.flags.load(Ordering::Relaxed);
        match (flags & IFF_UP != 0, self.carrier()) {
            (true, true) => flags | IFF_RUNNING | IFF_LOWER_UP,
            (false, true) => flags | IFF_LOWER_UP,
            (_, false) => flags,
        }
    }

    /// Administratively up.
    #[inline]
    pub fn up(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & IFF_UP != 0
    }

    /// The loopback device.
    #[inline]
    pub fn is_loopback(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & IFF_LOOPBACK != 0
    }

    pub(crate) fn has_flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// The link has a partner (`netif_carrier_ok`).
    #[inline]
    pub fn carrier(&self) -> bool {
        self.carrier.load(Ordering::Relaxed)
    }

    /// Reports the link's state. Context: any.
    ///
    /// linux: net/sched/sch_generic.c:netif_carrier_on
    pub fn set_carrier(&self, carrier: Carrier) {
        self.carrier.store(carrier == Carrier::On, Ordering::Relaxed);
    }

    /// Up and linked: packets may be sent.
    #[inline]
    pub fn running(&self) -> bool {
        self.up() && self.carrier()
    }

    /// The driver has no room on `queue`.
    ///
    /// linux: include/linux/netdevice.h:netif_stop_subqueue
    pub fn netif_stop_subqueue(&self, queue: u16) {
        if let Some(queue) = self.tx_queues.get(usize::from(queue)) {
            queue.stopped.store(true, Ordering::SeqCst);
        }
    }

    /// Opens `queue` for a driver that starts up; nobody waits yet.
    pub fn netif_start_subqueue(&self, queue: u16) {
        if let Some(queue) = self.tx_queues.get(usize::from(queue)) {
            queue.stopped.store(false, Ordering::SeqCst);
        }
    }

    /// The driver has room again: what waits in the qdisc is sent by NET_TX_SOFTIRQ.
    ///
    /// linux: net/core/dev.c:netif_wake_subqueue
    pub fn netif_wake_subqueue(&self, cx: &mut BhCx<'_>, queue: u16) {
        let Some(queue) = self.tx_queues.get(usize::from(queue)) else { return };
        if queue.stopped.load(Ordering::SeqCst) && queue.stopped.swap(false, Ordering::SeqCst) {
            super::tx::__netif_schedule(cx, &queue.qdisc);
        }
    }

    /// Promiscuous by request of somebody.
    pub fn promiscuous(&self) -> bool {
        self.promiscuity.load(Ordering::Relaxed) != 0
    }

    /// It takes frames to every group, by request of somebody.
    pub fn all_multicast(&self) -> bool {
        self.allmulti.load(Ordering::Relaxed) != 0
    }
}

impl NetdevQueue {
    /// The driver or the byte limit holds it.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.bql.full()
    }

    /// The qdisc that feeds it.
    pub fn qdisc(&self) -> &Arc<Qdisc> {
        &self.qdisc
    }
}

impl fmt::Debug for NetDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} flags {:#x}", self.ifindex.0, self.name, self.flags())
    }
}

// In the order of the bytes in memory, so that unpacking is a plain store.
fn pack([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

#[inline(always)]
fn unpack(addr: u64) -> [u8; 6] {
    let [addr @ .., _, _] = addr.to_le_bytes();
    addr
}

/// The name can be a device's: it fits `ifreq`, and is one word in a file.
///
/// linux: net/core/dev.c:dev_valid_name
fn dev_valid_name(name: &str) -> bool {
    (1..IFNAMSIZ).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_ascii_whitespace())
}

/// Registers a device in the task's namespace: gives it an index and resolves `%d` in its name.
///
/// # Errors
/// EINVAL for a name that no device can have, EEXIST for one that is taken, ENFILE when there are no more indices; ESRCH when the namespace is gone.
///
/// linux: net/core/dev.c:register_netdevice
pub fn register_netdevice(cx: &mut TaskCx, mut dev: NetDevice) -> Result<Arc<NetDevice>, Errno> {
    if !dev_valid_name(&dev.name) {
        return Err(Errno::EINVAL);
    }
    let net = cx.net_id();
    let dev = update_devices(cx, |root| {
        // One series of numbers for all namespaces: a packet between two of them is of one device.
        let index = root.all().map(|t| t.net.devs.len()).max().unwrap_or(0).max(1);
        let t = root.of_mut(net).ok_or(Errno::ESRCH)?;
        let devs = &mut t.net.devs;
        if dev.name.contains("%d") {
            dev.name = (0..)
                .map(|number: u32| dev.name.replacen("%d", &number.to_string(), 1))
                .find(|name| !devs.iter().flatten().any(|other| other.name == *name))
                .ok_or(Errno::ENFILE)?;
        }
        if devs.iter().flatten().any(|other| other.name == dev.name) {
            return Err(Errno::EEXIST);
        }
        dev.ifindex = DevId(u16::try_from(index).map_err(|_| Errno::ENFILE)?);
        for (queue, txq) in dev.tx_queues.iter().enumerate() {
            txq.qdisc.attach(dev.ifindex, queue as u16);
        }
        let dev = Arc::new(dev);
        t.net.list_netdevice(&dev);
        Ok(dev)
    })?;
    let qdisc = cx.tables().net.sysctl.default_qdisc;
    if dev.tx_queue_len != 0 && dev.tx_queues[0].qdisc.id() != qdisc {
        dev_set_qdisc(cx, &dev, qdisc)?;
    }
    Ok(dev)
}

/// Takes a device down and out of the tables; on return no CPU refers to it by the tables.
///
/// linux: net/core/dev.c:unregister_netdevice
pub fn unregister_netdevice(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    rtnl_in_net_of(cx, dev, |cx| unlist_netdevice(cx, dev));
}

/// A device leaves its namespace, down, and all that is known there of it goes. Context: task, with `rtnl` taken.
///
/// linux: net/core/dev.c:unlist_netdevice
pub(super) fn unlist_netdevice(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    __dev_close(cx, dev);
    packet_notifier(cx, dev, NetdevEvent::Unregister);
    let (id, net) = (dev.ifindex, cx.net_id());
    let removed: Result<(), std::convert::Infallible> = update_devices(cx, |root| {
        let Some(t) = root.of_mut(net) else { return Ok(()) };
        if let Some(slot) = t.net.devs.get_mut(usize::from(id.0)) {
            *slot = None;
        }
        if let Some(slot) = t.net.in_devs.get_mut(usize::from(id.0)) {
            *slot = None;
        }
        t.net.rps.forget(id);
        t.net.xps.forget(id);
        t.net.fib.flush(|info| info.dev == id);
        Ok(())
    });
    let Ok(()) = removed;
    flush_backlog(cx, id);
    crate::net::ipv4::igmp::ip_mc_destroy_dev(cx, id);
}

/// Brings a device up.
///
/// # Errors
/// Those of the driver's `ndo_open`.
///
/// linux: net/core/dev.c:dev_open
pub fn dev_open(cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno> {
    walk!(cx, dev_open => u64::from(dev.ifindex.0));
    rtnl_in_net_of(cx, dev, |cx| {
        if dev.up() {
            return Ok(());
        }
        dev.ops.ndo_open(cx, dev)?;
        dev.flags.fetch_or(IFF_UP, Ordering::SeqCst);
        dev.ops.ndo_set_rx_mode(cx, dev);
        crate::net::ipv4::devinet::inetdev_up(cx, dev);
        packet_notifier(cx, dev, NetdevEvent::Up);
        Ok(())
    })
}

/// Takes a device down: what waits in its queues is dropped.
///
/// linux: net/core/dev.c:dev_close
pub fn dev_close(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    walk!(cx, dev_close => u64::from(dev.ifindex.0));
    rtnl_in_net_of(cx, dev, |cx| __dev_close(cx, dev));
}

/// linux: net/core/dev.c:__dev_close
fn __dev_close(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    if !dev.up() {
        return;
    }
    dev.flags.fetch_and(!IFF_UP, Ordering::SeqCst);
    crate::net::ipv4::devinet::inetdev_down(cx, dev);
    packet_notifier(cx, dev, NetdevEvent::Down);
    synchronize_net(cx);
    dev.ops.ndo_stop(cx, dev);
    cx.local_bh_disable(|bh| {
        for queue in &dev.tx_queues {
            queue.qdisc.reset(bh);
            queue.bql.reset();
        }
        crate::net::core::neighbour::neigh_ifdown(bh, dev.ifindex);
    });
}

/// Changes the MTU.
///
/// # Errors
/// EINVAL by the driver's bounds.
///
/// linux: net/core/dev.c:dev_set_mtu
pub fn dev_set_mtu(cx: &mut TaskCx, dev: &Arc<NetDevice>, mtu: u32) -> Result<(), Errno> {
    rtnl_in_net_of(cx, dev, |cx| {
        dev.ops.ndo_change_mtu(cx, mtu)?;
        let before = dev.mtu.swap(mtu, Ordering::Relaxed);
        cx.net().fnhe.fib_nhc_update_mtu(dev.ifindex, mtu, before);
        invalidate_routes(cx);
        Ok(())
    })
}

/// Changes the hardware address.
///
/// # Errors
/// EADDRNOTAVAIL for a group or zero address; those of the driver.
///
/// linux: net/core/dev.c:dev_set_mac_address
pub fn dev_set_mac_address(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    addr: [u8; 6],
) -> Result<(), Errno> {
    if !uapi::if_ether::is_valid_ether_addr(&addr) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    dev.ops.ndo_set_mac_address(cx, addr)?;
    dev.addr.store(pack(addr), Ordering::Relaxed);
    Ok(())
}

/// Adds to or takes from the count of those who want every frame.
///
/// linux: net/core/dev.c:dev_set_promiscuity
pub fn dev_set_promiscuity(cx: &mut TaskCx, dev: &Arc<NetDevice>, inc: i32) {
    let _ = dev.promiscuity.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
        Some(count.saturating_add_signed(inc))
    });
    __dev_set_rx_mode(cx, dev);
}

/// Adds to or takes from the count of those who want the frames to every group.
///
/// linux: net/core/dev.c:dev_set_allmulti
pub fn dev_set_allmulti(cx: &mut TaskCx, dev: &Arc<NetDevice>, inc: i32) {
    let _ = dev.allmulti.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
        Some(count.saturating_add_signed(inc))
    });
    __dev_set_rx_mode(cx, dev);
}

/// The driver of a device that is up programs its filters.
///
/// linux: net/core/dev.c:__dev_set_rx_mode
pub(in crate::net::core) fn __dev_set_rx_mode(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    if dev.up() {
        dev.ops.ndo_set_rx_mode(cx, dev);
    }
}

/// Makes every cached route stale: publishes the tables unchanged, under a new number.
fn invalidate_routes(cx: &mut TaskCx) {
    let published: Result<(), std::convert::Infallible> = update_tables(cx, |_| Ok(()));
    let Ok(()) = published;
}
