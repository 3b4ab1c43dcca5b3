//! A netdev directly on a wire: no registers, no rings, the least a driver can be.
//!
//! Key types: [`Wire`], [`wire_probe`]. Contexts: interrupt, poll and transmit as in any NAPI
//! driver. Locks: `class::Ring` around the frames being sent; the wire's own queue is a leaf.
//! Invariants: the interrupt is off while a poll is scheduled; a frame that comes between the last
//! look and turning it on is seen.

use crate::net::wire_port::{
    FrameBatch, FrameMeta, Frames, GsoType, VnetMeta, WireEvent, WirePort,
};
use stack::kernel::context::{BhCx, HardirqCx, TaskCx};
use stack::kernel::irq::{Irq, IrqLine, IrqReturn};
use stack::kernel::locking::{SpinLock, lockdep::class};
use stack::kernel::machine::{free_irq, request_irq};
use stack::kernel::trace::WalkId;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::{
    Carrier, LinkStats, NapiPoll, NapiStruct, NetDevice, NetDeviceOps, NetdevFeatures, NetdevQueue,
    napi_complete, napi_disable, napi_enable, napi_gro_receive, napi_schedule, register_netdevice,
};
use stack::net::core::ethtool::{DrvInfo, EthtoolOps, LinkSettings};
use stack::net::core::gso::{gso_of, skb_gso_headers};
use stack::net::core::skbuff::{
    GsoType as SkbGsoType, IpSummed, SkBuff, Skb, SkbList, consume_skb, kfree_skb,
    netdev_alloc_frame, skb_add_paged,
};
use stack::net::ethernet::eth::eth_type_trans;
use stack::walk;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use uapi::errno::Errno;
use uapi::if_::{IFF_BROADCAST, IFF_MULTICAST};
use uapi::if_arp::ARPHRD_ETHER;

/// Frames staged before the wire's queue is locked once for all of them.
const TX_BATCH: usize = 64;

/// The driver's state of one device.
pub struct Wire {
    adapter: Arc<Adapter>,
    dev: OnceLock<Weak<NetDevice>>,
    napi: OnceLock<Arc<NapiStruct>>,
}

/// What the device and its poll share.
struct Adapter {
    port: Arc<dyn WirePort>,
    irq: Arc<WireIrq>,
    tx: SpinLock<FrameBatch, class::Ring>,
    rx: SpinLock<FrameBatch, class::Ring>,
    stats: Stats,
}

/// The interrupt, by itself: the port's notification keeps it, and would keep the device from going if
/// that kept the port.
#[derive(Default)]
struct WireIrq {
    line: SpinLock<Option<Arc<IrqLine>>, class::Irq>,
    /// Frames may raise it.
    on: AtomicBool,
}

#[derive(Default)]
struct Stats {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    rx_dropped: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_dropped: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    // One CPU polls, one CPU runs the queue: no other writer, so no locked instruction.
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({:?})", self.dev.get().and_then(Weak::upgrade))
    }
}

/// Registers a device on `port`; `name` may contain `%d`.
///
/// # Errors
/// Those of registration; EBUSY if the port has a device.
pub fn wire_probe(
    cx: &mut TaskCx,
    name: &str,
    addr: [u8; 6],
    port: Arc<dyn WirePort>,
) -> Result<Arc<NetDevice>, Errno> {
    let adapter = Arc::new(Adapter {
        port: Arc::clone(&port),
        irq: Arc::default(),
        tx: SpinLock::new(FrameBatch::new()),
        rx: SpinLock::new(FrameBatch::new()),
        stats: Stats::default(),
    });
    let poll = Box::new(Poll(Arc::clone(&adapter)));
    let driver = Arc::new(Wire { adapter, dev: OnceLock::new(), napi: OnceLock::new() });
    let spec = DeviceSpec {
        name: name.to_owned(),
        addr,
        mtu: 1500,
        flags: IFF_BROADCAST | IFF_MULTICAST,
        kind: ARPHRD_ETHER,
        features: NetdevFeatures::RXCSUM | NetdevFeatures::GRO | NetdevFeatures::SG,
        hw_features: NetdevFeatures::SG,
        tx_queues: 1,
        tx_queue_len: 1000,
    };
    let ops = Arc::clone(&driver) as Arc<dyn NetDeviceOps>;
    let ethtool = Arc::clone(&driver) as Arc<dyn EthtoolOps>;
    let dev = register_netdevice(cx, NetDevice::new(spec, ops, Some(ethtool)))?;
    let napi = NapiStruct::netif_napi_add(dev.ifindex, poll, 64);
    let _first = driver.napi.set(napi);
    let _first = driver.dev.set(Arc::downgrade(&dev));
    port.accept_vnet();
    let (irq, notified) = (Arc::clone(&driver.adapter.irq), Arc::downgrade(&driver));
    let notify = move |event| match event {
        WireEvent::Frames => irq.raise(),
        WireEvent::Carrier => {
            if let Some(driver) = notified.upgrade() {
                driver.set_carrier();
            }
        }
    };
    port.set_notify(Box::new(notify)).map_err(|_| Errno::EBUSY)?;
    driver.set_carrier();
    Ok(dev)
}

impl Wire {
    fn set_carrier(&self) {
        if let Some(dev) = self.dev.get().and_then(Weak::upgrade) {
            dev.set_carrier(if self.adapter.port.carrier() { Carrier::On } else { Carrier::Off });
        }
    }
}

impl WireIrq {
    /// Raises the interrupt, if it is on; it is off then.
    fn raise(&self) {
        if self.on.swap(false, Ordering::SeqCst) {
            let line = self.line.lock().clone();
            if let Some(line) = line {
                line.raise();
            }
        }
    }
}

impl Adapter {
    /// Puts what is staged on the wire. The frames are taken out of their lock first: giving them
    /// to the wire raises the peer's interrupt.
    fn send_staged(&self) {
        let mut batch = std::mem::take(&mut *self.tx.lock());
        if !batch.is_empty() {
            let (offered, bytes) = (batch.len(), batch.bytes());
            add(&self.stats.tx_packets, offered as u64);
            add(&self.stats.tx_bytes, bytes as u64);
            let taken = if self.port.carrier() { self.port.transmit(&mut batch) } else { 0 };
            add(&self.stats.tx_dropped, (offered - taken) as u64);
            batch.clear();
        }
        *self.tx.lock() = batch;
    }

    fn send_if_full(&self, staged: usize) {
        if staged >= TX_BATCH {
            self.send_staged();
        }
    }

    /// Makes packets of the frames and hands them up.
    fn receive(&self, cx: &mut BhCx<'_>, dev: &Arc<NetDevice>, batch: &FrameBatch) {
        let mut list = cx.skb_list();
        for (frame, meta) in batch.iter() {
            // The payload of several segments lies in pages.
            let linear = match &meta.vnet {
                Some(vnet) if vnet.gso_size != 0 => usize::from(vnet.hdr_len).min(frame.len()),
                _ => frame.len(),
            };
            let (linear, paged) = frame.split_at(linear);
            let copy = |room: &mut [u8]| room.copy_from_slice(linear);
            let Some(mut skb) = netdev_alloc_frame(cx, linear.len(), copy) else {
                add(&self.stats.rx_dropped, 1);
                continue;
            };
            skb.walk_id = WalkId(meta.packet_id);
            if !paged.is_empty() && !skb_add_paged(cx, &mut skb, paged) {
                add(&self.stats.rx_dropped, 1);
                kfree_skb(cx, skb, DropReason::NoMem);
                continue;
            }
            if let Some(vnet) = &meta.vnet {
                set_vnet(&mut skb, vnet);
            }
            list.push(skb);
        }
        if list.walk_id.watched() {
            list.visit(|skb| {
                skb.dev = Some(dev.ifindex);
                cx.link_span(skb);
            });
        }
        let protocol = eth_type_trans(cx, &mut list, dev);
        napi_gro_receive(cx, list, dev, protocol);
    }
}

/// The interrupt handler: schedules the poll.
fn interrupt(cx: &mut HardirqCx<'_>, napi: &Arc<NapiStruct>) -> IrqReturn {
    walk!(cx, wire_interrupt);
    napi_schedule(cx, napi);
    IrqReturn::Handled
}

/// Copies a packet behind the frames that are staged.
#[inline(always)]
fn stage(tx: &mut Frames, skb: &SkBuff) {
    let meta = FrameMeta { packet_id: skb.walk_id.0, vnet: vnet_of(skb) };
    let len = skb.len();
    tx.push_with(len, meta, |room| skb.skb_copy_bits(0, room) == len);
}

/// What a packet's receiver has to do to it, or the device that it leaves by.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_from_skb
pub(crate) fn vnet_of(skb: &SkBuff) -> Option<VnetMeta> {
    if skb.ip_summed != IpSummed::Partial {
        return None;
    }
    let csum_start = skb.csum_start_offset();
    let mut meta = VnetMeta { csum_start, csum_offset: skb.csum_offset, ..VnetMeta::default() };
    if skb.gso.size != 0 {
        meta.gso_type = match skb.gso.kind {
            SkbGsoType::Tcpv4 => GsoType::Tcpv4,
            SkbGsoType::UdpL4 => GsoType::UdpL4,
        };
        meta.gso_size = skb.gso.size;
        meta.hdr_len = skb_gso_headers(skb).map_or(skb.headlen(), |(_, headers)| headers) as u16;
    }
    Some(meta)
}

/// Notes what is left to be done to a packet that came: its checksum, its segments.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_to_skb
pub(crate) fn set_vnet(skb: &mut Skb, vnet: &VnetMeta) {
    set_checksum_state(skb, vnet);
    let kind = match vnet.gso_type {
        GsoType::Tcpv4 => SkbGsoType::Tcpv4,
        GsoType::UdpL4 => SkbGsoType::UdpL4,
        GsoType::None | GsoType::Tcpv6 => return,
    };
    let payload = skb.len().saturating_sub(usize::from(vnet.hdr_len));
    skb.gso = gso_of(kind, payload, vnet.gso_size);
}

/// What the sender's side says of a frame's checksum. A sum still to be filled in stays so: a
/// socket takes it as good, for nothing was on a cable, and a router hands the duty on.
pub(crate) fn set_checksum_state(skb: &mut Skb, vnet: &VnetMeta) {
    let at = vnet.csum_start.map(|start| skb.headroom() + usize::from(start));
    let field = usize::from(vnet.csum_offset) + 2;
    match at.map(u16::try_from) {
        Some(Ok(at)) if usize::from(at) - skb.headroom() + field <= skb.len() => {
            skb.ip_summed = IpSummed::Partial;
            (skb.csum_start, skb.csum_offset) = (at, vnet.csum_offset);
        }
        None if vnet.data_valid => skb.ip_summed = IpSummed::Unnecessary,
        // No such place: the sum is checked as any other.
        _ => {}
    }
}

struct Poll(Arc<Adapter>);

impl NapiPoll for Poll {
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
        walk!(cx, wire_poll);
        let t = cx.tables();
        let dev = napi.dev.and_then(|dev| t.net.dev(dev));
        let (driver, Some(dev)) = (&self.0, dev) else {
            let _gone = napi_complete(cx, napi);
            return 0;
        };
        // The poller is alone with the batch: it is taken out, so that no lock is held upward.
        let mut batch = std::mem::take(&mut *driver.rx.lock());
        let taken = driver.port.receive(budget as usize, &mut batch) as u32;
        add(&driver.stats.rx_packets, batch.len() as u64);
        add(&driver.stats.rx_bytes, batch.bytes() as u64);
        driver.receive(cx, dev, &batch);
        batch.clear();
        *driver.rx.lock() = batch;
        if taken < budget && napi_complete(cx, napi) {
            driver.irq.on.store(true, Ordering::SeqCst);
            // A frame that came before the interrupt was on raised nothing.
            if driver.port.pending() != 0 && driver.irq.on.swap(false, Ordering::SeqCst) {
                napi_schedule(cx, napi);
            }
        }
        taken
    }
}

impl NetDeviceOps for Wire {
    fn ndo_open(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno> {
        let (Some(napi), adapter) = (self.napi.get(), &self.adapter) else {
            return Err(Errno::ENODEV);
        };
        let scheduled = Arc::clone(napi);
        let handler = move |cx: &mut HardirqCx<'_>, _irq: Irq| interrupt(cx, &scheduled);
        let line = request_irq(cx, &dev.name, Box::new(handler))?;
        *adapter.irq.line.lock() = Some(Arc::new(line));
        if adapter.port.peer_accepts_vnet() {
            dev.set_features(dev.features() | NetdevFeatures::HW_CSUM);
        }
        napi_enable(napi);
        dev.netif_start_subqueue(0);
        self.adapter.irq.on.store(true, Ordering::SeqCst);
        if self.adapter.port.pending() != 0 {
            self.adapter.irq.raise();
        }
        Ok(())
    }

    fn ndo_stop(&self, cx: &mut TaskCx, _dev: &Arc<NetDevice>) {
        self.adapter.irq.on.store(false, Ordering::SeqCst);
        let line = self.adapter.irq.line.lock().take();
        if let Some(irq) = line.as_ref().and_then(|line| line.desc()).map(|desc| desc.irq) {
            free_irq(cx, irq);
        }
        if let Some(napi) = self.napi.get() {
            napi_disable(cx, napi);
        }
    }

    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        _dev: &Arc<NetDevice>,
        _queue: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        walk!(cx, skb, wire_start_xmit);
        let staged = {
            let mut tx = self.adapter.tx.lock();
            let frames = tx.frames();
            stage(frames, &skb);
            frames.len()
        };
        consume_skb(cx, skb);
        self.adapter.send_if_full(staged);
        Ok(())
    }

    fn ndo_start_xmit_list(
        &self,
        cx: &mut BhCx<'_>,
        _dev: &Arc<NetDevice>,
        _txq: &NetdevQueue,
        list: &mut SkbList,
    ) {
        walk!(cx, list, wire_start_xmit);
        let staged = {
            let mut tx = self.adapter.tx.lock();
            let frames = tx.frames();
            list.iter().for_each(|skb| stage(frames, skb));
            frames.len()
        };
        list.consume(cx);
        self.adapter.send_if_full(staged);
    }

    fn ndo_xmit_flush(&self, _cx: &mut BhCx<'_>, _dev: &Arc<NetDevice>, _queue: u16) {
        self.adapter.send_staged();
    }

    fn ndo_get_stats64(&self) -> LinkStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStats {
            rx_packets: read(&self.adapter.stats.rx_packets),
            rx_bytes: read(&self.adapter.stats.rx_bytes),
            rx_dropped: read(&self.adapter.stats.rx_dropped),
            tx_packets: read(&self.adapter.stats.tx_packets),
            tx_bytes: read(&self.adapter.stats.tx_bytes),
            tx_dropped: read(&self.adapter.stats.tx_dropped),
            ..LinkStats::default()
        }
    }
}

impl EthtoolOps for Wire {
    fn get_drvinfo(&self) -> DrvInfo {
        DrvInfo { driver: "wire".to_owned(), ..DrvInfo::default() }
    }

    fn get_link_settings(&self) -> LinkSettings {
        LinkSettings { speed: None, full_duplex: true, autoneg: false }
    }
}
