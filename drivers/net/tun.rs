//! The network device over a TAP: what the host's stack sends to the TAP arrives here, and back.
//!
//! linux: drivers/net/tun.c. Key types: [`TapPort`] (what the driver needs of a TAP; `host`
//! implements it), [`TunDevice`] (what [`tun_set_iff`] makes).
//! Contexts: `tun_interrupt` hard interrupt; `tun_poll` and `tun_net_xmit` BH.
//! No lock: receive state is the poller's, transmit state that of whoever runs the qdisc.
//! Invariants: a frame is believed only after its virtio-net header was checked against its length;
//! every frame read ends in the stack or under a [`DropReason`] and a counter.
//! DIVERGES: Linux's tun is the other end of this one: it has no interrupt and no poll. Here the
//! TAP's descriptor is the interrupt line, and NAPI reads it as a NIC's ring.

use crate::net::virtio_net::{VNET_HDR_LEN, virtio_net_hdr, virtio_net_meta};
use crate::net::wire::set_checksum_state;
use crate::net::wire_port::VnetMeta;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use stack::kernel::context::{BhCx, HardirqCx, TaskCx};
use stack::kernel::irq::{Irq, IrqHandler, IrqLine, IrqReturn};
use stack::kernel::machine::{free_irq, request_irq};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::napi::NAPI_POLL_WEIGHT;
use stack::net::core::dev::{
    Carrier, DevId, LinkStats, NapiPoll, NapiStruct, NetDevice, NetDeviceOps, NetdevFeatures,
    napi_complete, napi_disable, napi_enable, napi_gro_receive, napi_schedule, register_netdevice,
    unregister_netdevice,
};
use stack::net::core::skbuff::{IpSummed, Skb, consume_skb, kfree_skb, netdev_alloc_skb};
use stack::net::ethernet::eth::eth_type_trans;
use stack::walk;
use uapi::errno::Errno;
use uapi::if_::{IFF_BROADCAST, IFF_MULTICAST};
use uapi::if_arp::ARPHRD_ETHER;
use uapi::if_ether::{ETH_DATA_LEN, ETH_HLEN};
use uapi::virtio_net::{VirtioNetHdr, VirtioNetHdrMrgRxbuf};
use zerocopy::{FromBytes, IntoBytes};

/// Two VLAN tags, which the MTU does not count, and one octet to tell a frame that was cut.
const READ_EXTRA: usize = 2 * 4 + 1;

/// Packets the qdisc holds, as Linux's tun has it.
///
/// linux: drivers/net/tun.c:TUN_READQ_SIZE
const TUN_READQ_SIZE: u32 = 500;

/// What a TAP could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapFault {
    /// It has no room at present.
    WouldBlock,
    /// Its host side is down.
    LinkDown,
    /// It was deleted, for good.
    Gone,
    /// It refuses the frame.
    Other,
}

/// What the next interrupt is to be for, beside frames that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Nothing else.
    Frames,
    /// Room to write, too.
    FramesAndRoom,
}

/// A TAP as the driver sees it. Contexts: any.
pub trait TapPort: Send + Sync {
    /// Reads one frame behind its virtio-net header; the length of both, or `None` when there is
    /// none. A frame too long is cut to `buf`.
    ///
    /// # Errors
    /// [`TapFault::Gone`], and what else keeps it from reading.
    fn read_frame(&self, buf: &mut [u8]) -> Result<Option<usize>, TapFault>;

    /// Writes one frame: its virtio-net header, and the frame in its parts.
    ///
    /// # Errors
    /// Any [`TapFault`]; then nothing was written.
    fn write_frame(&self, hdr: &[u8], parts: &[&[u8]]) -> Result<(), TapFault>;

    /// The host side is up, asked anew.
    fn link_up(&self) -> bool;

    /// No interrupt before the next [`TapPort::irq_unmask`], except one on its way.
    fn irq_mask(&self);

    /// One interrupt, as soon as there is what is wanted; at once if there is already.
    fn irq_unmask(&self, wants: Wants);
}

/// How a device over a TAP is made.
#[derive(Clone, Debug)]
pub struct TunSpec {
    /// Name, or a pattern with `%d`.
    pub name: String,
    /// The hardware address: not the one of the TAP's host side.
    pub addr: [u8; 6],
    /// The MTU, at most 1,500.
    pub mtu: u32,
}

/// A registered device over a TAP, and the interrupts that its port raises.
#[derive(Debug)]
pub struct TunDevice {
    /// The device.
    pub dev: Arc<NetDevice>,
    /// To be raised when a wanted event is there.
    pub irq: IrqLine,
    /// To be raised when the host side may have gone up or down.
    pub link_irq: IrqLine,
}

/// The driver's state of a device.
///
/// linux: drivers/net/tun.c:tun_struct
struct TunStruct {
    port: Arc<dyn TapPort>,
    /// The queue is stopped until there is room.
    tx_waiting: AtomicBool,
    stats: Stats,
}

/// Each group has one writer at a time: the poller, and whoever runs the qdisc.
#[derive(Default)]
struct Stats {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    rx_errors: AtomicU64,
    rx_length_errors: AtomicU64,
    rx_dropped: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_errors: AtomicU64,
    tx_dropped: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    // One writer: no locked instruction needed.
    counter.store(counter.load(Ordering::Relaxed) + count as u64, Ordering::Relaxed);
}

/// The device's operations.
struct TunNetdev {
    tun: Arc<TunStruct>,
    /// Set as soon as the device has its index.
    napi: OnceLock<Arc<NapiStruct>>,
}

struct TunPoll(Arc<TunStruct>);

struct FrameIrq {
    tun: Arc<TunStruct>,
    napi: Arc<NapiStruct>,
}

struct LinkIrq {
    tun: Arc<TunStruct>,
    napi: Arc<NapiStruct>,
    dev: DevId,
}

/// Registers a device over `port`, down and with its interrupt masked.
///
/// # Errors
/// Those of [`register_netdevice`] and [`request_irq`]; then nothing is left behind. EINVAL for an
/// MTU that is none.
///
/// linux: drivers/net/tun.c:tun_set_iff
pub fn tun_set_iff(
    cx: &mut TaskCx,
    port: Arc<dyn TapPort>,
    spec: TunSpec,
) -> Result<TunDevice, Errno> {
    if !(68..=ETH_DATA_LEN as u32).contains(&spec.mtu) {
        return Err(Errno::EINVAL);
    }
    let tun =
        Arc::new(TunStruct { port, tx_waiting: AtomicBool::new(false), stats: Stats::default() });
    let ops = Arc::new(TunNetdev { tun: Arc::clone(&tun), napi: OnceLock::new() });
    let spec = DeviceSpec {
        name: spec.name,
        addr: spec.addr,
        mtu: spec.mtu,
        flags: IFF_BROADCAST | IFF_MULTICAST,
        kind: ARPHRD_ETHER,
        features: NetdevFeatures::HW_CSUM
            | NetdevFeatures::SG
            | NetdevFeatures::RXCSUM
            | NetdevFeatures::GRO,
        tx_queues: 1,
        tx_queue_len: TUN_READQ_SIZE,
    };
    let netdev: Arc<dyn NetDeviceOps> = Arc::clone(&ops) as _;
    let dev = register_netdevice(cx, NetDevice::new(spec, netdev, None))?;
    dev.set_carrier(Carrier::Off);
    let poll = Box::new(TunPoll(Arc::clone(&tun)));
    let napi = NapiStruct::netif_napi_add(dev.ifindex, poll, NAPI_POLL_WEIGHT);
    let _first = ops.napi.set(Arc::clone(&napi));
    match tun_request_irqs(cx, &dev, &tun, &napi) {
        Ok((irq, link_irq)) => Ok(TunDevice { dev, irq, link_irq }),
        Err(error) => {
            unregister_netdevice(cx, &dev);
            Err(error)
        }
    }
}

fn tun_request_irqs(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    tun: &Arc<TunStruct>,
    napi: &Arc<NapiStruct>,
) -> Result<(IrqLine, IrqLine), Errno> {
    let frames = FrameIrq { tun: Arc::clone(tun), napi: Arc::clone(napi) };
    let irq = request_irq(cx, &dev.name, Box::new(frames))?;
    let link = LinkIrq { tun: Arc::clone(tun), napi: Arc::clone(napi), dev: dev.ifindex };
    match request_irq(cx, &format!("{}-link", dev.name), Box::new(link)) {
        Ok(link_irq) => Ok((irq, link_irq)),
        Err(error) => {
            release_irq(cx, &irq);
            Err(error)
        }
    }
}

fn release_irq(cx: &mut TaskCx, line: &IrqLine) {
    if let Some(irq) = line.desc().map(|desc| desc.irq) {
        free_irq(cx, irq);
    }
}

/// Takes the device down and away; on return nothing here calls the port.
///
/// linux: drivers/net/tun.c:tun_detach
pub fn tun_detach(cx: &mut TaskCx, tun: TunDevice) {
    unregister_netdevice(cx, &tun.dev);
    release_irq(cx, &tun.irq);
    release_irq(cx, &tun.link_irq);
}

impl IrqHandler for FrameIrq {
    fn handle(&self, cx: &mut HardirqCx<'_>, _: Irq) -> IrqReturn {
        tun_interrupt(cx, self)
    }
}

/// The TAP has frames, or room: no more interrupts until the poll found it empty.
fn tun_interrupt(cx: &mut HardirqCx<'_>, irq: &FrameIrq) -> IrqReturn {
    walk!(cx, tun_interrupt);
    irq.tun.port.irq_mask();
    napi_schedule(cx, &irq.napi);
    IrqReturn::Handled
}

impl IrqHandler for LinkIrq {
    /// The host side may have gone up or down: that is our carrier.
    fn handle(&self, cx: &mut HardirqCx<'_>, _: Irq) -> IrqReturn {
        let Some(dev) = cx.tables().net.dev(self.dev) else { return IrqReturn::None };
        let up = self.tun.port.link_up();
        if up == dev.carrier() {
            return IrqReturn::None;
        }
        dev.set_carrier(if up { Carrier::On } else { Carrier::Off });
        if up {
            // Whatever waited while it was down.
            napi_schedule(cx, &self.napi);
        }
        IrqReturn::Handled
    }
}

impl NapiPoll for TunPoll {
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
        tun_poll(cx, &self.0, napi, budget)
    }
}

/// What one read brought.
enum Read {
    Frame(Skb),
    /// There was a frame, which ended here.
    Dropped,
    Empty,
    /// The TAP fails: nothing to be had of it before its link has come up anew.
    Dead,
}

/// Reads up to `budget` frames and hands them up.
fn tun_poll(cx: &mut BhCx<'_>, tun: &TunStruct, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
    walk!(cx, tun_poll);
    let t = cx.tables();
    let Some(dev) = napi.dev.and_then(|dev| t.net.dev(dev)) else {
        // On its way out of the tables; nothing wants to be told.
        let _polled_once_more_if_missed = napi_complete(cx, napi);
        return 0;
    };
    if tun.tx_waiting.load(Ordering::Relaxed) && tun.tx_waiting.swap(false, Ordering::SeqCst) {
        dev.netif_wake_subqueue(cx, 0);
    }
    let mut work = 0;
    let mut list = cx.skb_list();
    let end = loop {
        if work == budget {
            break None;
        }
        match tun_get_user(cx, tun, dev) {
            Read::Frame(skb) => list.push(skb),
            Read::Dropped => {}
            end @ (Read::Empty | Read::Dead) => break Some(end),
        }
        work += 1;
    };
    let protocol = eth_type_trans(cx, &mut list, dev);
    napi_gro_receive(cx, list, dev, protocol);
    match end {
        Some(Read::Dead) => {
            dev.set_carrier(Carrier::Off);
            // Its descriptor would report the error again and again: the interrupt stays off.
            let _polled_once_more_if_missed = napi_complete(cx, napi);
        }
        Some(_) if napi_complete(cx, napi) => tun.port.irq_unmask(tun.wants()),
        _ => {}
    }
    work
}

/// Reads one frame into a packet and checks it.
///
/// linux: drivers/net/tun.c:tun_get_user
fn tun_get_user(cx: &mut BhCx<'_>, tun: &TunStruct, dev: &Arc<NetDevice>) -> Read {
    let most = VNET_HDR_LEN + ETH_HLEN + dev.mtu() + READ_EXTRA;
    let Some(mut skb) = netdev_alloc_skb(cx, dev.ifindex, most) else {
        return tun_discard(tun);
    };
    let read = match skb.skb_put(most) {
        Some(room) => tun.port.read_frame(room),
        None => Err(TapFault::Other),
    };
    let len = match read {
        Ok(Some(len)) => len,
        Ok(None) | Err(TapFault::WouldBlock) => return unused(cx, skb, Read::Empty),
        Err(TapFault::Gone | TapFault::LinkDown | TapFault::Other) => {
            return unused(cx, skb, Read::Dead);
        }
    };
    skb.pskb_trim(len);
    if let Err(reason) = tun_check(&mut skb, len, most) {
        add(&tun.stats.rx_errors, 1);
        if matches!(reason, DropReason::HdrTrunc | DropReason::PktTooBig) {
            add(&tun.stats.rx_length_errors, 1);
        }
        kfree_skb(cx, skb, reason);
        return Read::Dropped;
    }
    add(&tun.stats.rx_packets, 1);
    add(&tun.stats.rx_bytes, skb.len());
    Read::Frame(skb)
}

/// Nothing was read into `skb`.
fn unused(cx: &mut BhCx<'_>, skb: Skb, read: Read) -> Read {
    consume_skb(cx, skb);
    read
}

/// Without memory for a packet, the frame is read away: else its interrupt would never end.
#[cold]
fn tun_discard(tun: &TunStruct) -> Read {
    match tun.port.read_frame(&mut [0; VNET_HDR_LEN + ETH_HLEN]) {
        Ok(Some(_)) => {
            add(&tun.stats.rx_dropped, 1);
            Read::Dropped
        }
        Ok(None) | Err(TapFault::WouldBlock) => Read::Empty,
        Err(_) => Read::Dead,
    }
}

/// Checks what was read against its virtio-net header, takes that off, and notes what it says of
/// the checksum.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_to_skb
fn tun_check(skb: &mut Skb, len: usize, most: usize) -> Result<(), DropReason> {
    if len < VNET_HDR_LEN + ETH_HLEN {
        return Err(DropReason::HdrTrunc);
    }
    if len >= most {
        return Err(DropReason::PktTooBig);
    }
    let (hdr, _) = VirtioNetHdr::read_from_prefix(skb.data()).map_err(|_| DropReason::HdrTrunc)?;
    if !skb.skb_pull(VNET_HDR_LEN) {
        return Err(DropReason::HdrTrunc);
    }
    if let Some(vnet) = virtio_net_meta(&hdr, skb.len())? {
        set_checksum_state(skb, &vnet);
    }
    Ok(())
}

impl TunStruct {
    fn wants(&self) -> Wants {
        match self.tx_waiting.load(Ordering::SeqCst) {
            true => Wants::FramesAndRoom,
            false => Wants::Frames,
        }
    }
}

/// What the host has to know of a packet that leaves; `None` when its checksum lies outside it.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_from_skb
fn tun_header(skb: &Skb) -> Option<VirtioNetHdrMrgRxbuf> {
    let vnet = match skb.ip_summed {
        IpSummed::Partial => VnetMeta {
            csum_start: Some(skb.csum_start_offset()?),
            csum_offset: skb.csum_offset,
            ..VnetMeta::default()
        },
        IpSummed::Unnecessary => VnetMeta { data_valid: true, ..VnetMeta::default() },
        IpSummed::None | IpSummed::Complete => VnetMeta::default(),
    };
    virtio_net_hdr(&vnet, skb.len())
}

/// Parts a packet has without asking for memory: its head and a few pages.
const FEW_PARTS: usize = 8;

fn tun_write(port: &dyn TapPort, hdr: &[u8], skb: &Skb) -> Result<(), TapFault> {
    let mut few: [&[u8]; FEW_PARTS] = [&[]; FEW_PARTS];
    let mut parts = skb.parts();
    let mut count = 0;
    for (slot, part) in few.iter_mut().zip(&mut parts) {
        *slot = part;
        count += 1;
    }
    match parts.next() {
        None => port.write_frame(hdr, &few[..count]),
        Some(next) => {
            let all: Vec<&[u8]> = few.into_iter().chain([next]).chain(parts).collect();
            port.write_frame(hdr, &all)
        }
    }
}

/// Gives a packet to the host. A TAP without room stops the queue, and the packet goes back to it.
///
/// linux: drivers/net/tun.c:tun_net_xmit
fn tun_net_xmit(cx: &mut BhCx<'_>, tun: &TunStruct, dev: &NetDevice, skb: Skb) -> Result<(), Skb> {
    walk!(cx, skb, tun_net_xmit);
    let Some(hdr) = tun_header(&skb) else {
        add(&tun.stats.tx_errors, 1);
        kfree_skb(cx, skb, DropReason::SkbCsum);
        return Ok(());
    };
    let reason = match tun_write(&*tun.port, hdr.as_bytes(), &skb) {
        Ok(()) => {
            add(&tun.stats.tx_packets, 1);
            add(&tun.stats.tx_bytes, skb.len());
            consume_skb(cx, skb);
            return Ok(());
        }
        Err(TapFault::WouldBlock) => {
            // In this order: the interrupt must find the queue stopped and the flag set.
            dev.netif_stop_subqueue(0);
            tun.tx_waiting.store(true, Ordering::SeqCst);
            tun.port.irq_unmask(Wants::FramesAndRoom);
            return Err(skb);
        }
        Err(fault @ (TapFault::LinkDown | TapFault::Gone)) => {
            add(&tun.stats.tx_dropped, 1);
            dev.set_carrier(Carrier::Off);
            // It may have come up since, and its interrupt have passed before we said it is down.
            if fault == TapFault::LinkDown && tun.port.link_up() {
                dev.set_carrier(Carrier::On);
            }
            DropReason::DevReady
        }
        Err(TapFault::Other) => {
            add(&tun.stats.tx_errors, 1);
            DropReason::DevHdr
        }
    };
    kfree_skb(cx, skb, reason);
    Ok(())
}

impl NetDeviceOps for TunNetdev {
    /// linux: drivers/net/tun.c:tun_net_open
    fn ndo_open(&self, _cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno> {
        let napi = self.napi.get().ok_or(Errno::ENODEV)?;
        napi_enable(napi);
        dev.netif_start_subqueue(0);
        dev.set_carrier(if self.tun.port.link_up() { Carrier::On } else { Carrier::Off });
        self.tun.port.irq_unmask(Wants::Frames);
        Ok(())
    }

    /// linux: drivers/net/tun.c:tun_net_close
    fn ndo_stop(&self, cx: &mut TaskCx, _dev: &Arc<NetDevice>) {
        if let Some(napi) = self.napi.get() {
            napi_disable(cx, napi);
        }
        self.tun.port.irq_mask();
        self.tun.tx_waiting.store(false, Ordering::SeqCst);
    }

    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        _queue: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        tun_net_xmit(cx, &self.tun, dev, skb)
    }

    /// linux: drivers/net/tun.c:tun_net_get_stats64
    fn ndo_get_stats64(&self) -> LinkStats {
        let stats = &self.tun.stats;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStats {
            rx_packets: read(&stats.rx_packets),
            rx_bytes: read(&stats.rx_bytes),
            rx_errors: read(&stats.rx_errors),
            rx_length_errors: read(&stats.rx_length_errors),
            rx_dropped: read(&stats.rx_dropped),
            tx_packets: read(&stats.tx_packets),
            tx_bytes: read(&stats.tx_bytes),
            tx_errors: read(&stats.tx_errors),
            tx_dropped: read(&stats.tx_dropped),
            ..LinkStats::default()
        }
    }
}

impl fmt::Debug for TunStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunStruct(waits for room: {:?})", self.tx_waiting)
    }
}

#[cfg(test)]
mod tests;
