//! The network device over a TAP: what the host's stack sends to the TAP arrives here, and back.
//!
//! linux: drivers/net/tun.c. Key types: [`TapPort`] (what the driver needs of a TAP; `host`
//! implements it), [`TunDevice`] (what [`tun_set_iff`] makes).
//! Contexts: `tun_interrupt` hard interrupt; `tun_poll` and `tun_net_xmit` BH.
//! No lock: receive state is the poller's, transmit state that of whoever runs the qdisc.
//! A device has one queue each way for each port, with an interrupt and a NAPI context of its own.
//! Invariants: a frame is believed only after its virtio-net header was checked against its length;
//! every frame read ends in the stack or under a [`DropReason`] and a counter.
//! DIVERGES: Linux's tun is the other end of this one: it has no interrupt and no poll. Here the
//! TAP's descriptor is the interrupt line, and NAPI reads it as a NIC's ring.

use crate::net::virtio_net::VNET_HDR_LEN;
use std::fmt;
use std::io::IoSliceMut;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use stack::kernel::context::{BhCx, HardirqCx, TaskCx};
use stack::kernel::irq::{Irq, IrqHandler, IrqLine, IrqReturn};
use stack::kernel::locking::{SpinLock, lockdep::class};
use stack::kernel::machine::{free_irq, request_irq};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::napi::NAPI_POLL_WEIGHT;
use stack::net::core::dev::{
    Carrier, DevId, LinkStats, NapiPoll, NapiStruct, NetDevice, NetDeviceOps, NetdevFeatures,
    napi_complete, napi_disable, napi_enable, napi_gro_receive, napi_schedule, register_netdevice,
    unregister_netdevice,
};
use stack::net::core::skbuff::{
    PAGE_FRAG_SIZE, RxPages, Skb, consume_skb, kfree_skb, netdev_alloc_skb,
};
use stack::net::ethernet::eth::eth_type_trans;
use stack::walk;
use uapi::errno::Errno;
use uapi::if_::{IFF_BROADCAST, IFF_MULTICAST};
use uapi::if_arp::ARPHRD_ETHER;
use uapi::if_ether::{ETH_DATA_LEN, ETH_HLEN};

mod check;
mod tx;

use check::{room_for, tun_check};
use tx::tun_net_xmit;

/// Two VLAN tags, which the MTU does not count, and one octet to tell a frame that was cut.
const READ_EXTRA: usize = 2 * 4 + 1;

/// Octets of a frame of several segments.
const MOST_SEGMENTS: usize = 64 << 10;

/// The largest MTU: with the link header a frame is no longer than 65,535 octets.
///
/// linux: drivers/net/tun.c:MAX_MTU
pub const MAX_MTU: u32 = 65_535 - ETH_HLEN as u32;

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
    /// Reads one frame behind its virtio-net header into the parts, one after the other; the length of both, or
    /// `None` when there is none. A frame too long is cut.
    ///
    /// # Errors
    /// [`TapFault::Gone`], and what else keeps it from reading.
    fn read_frame(&self, parts: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, TapFault>;

    /// Frames of several TCP segments come, and go.
    fn takes_segments(&self) -> bool {
        false
    }

    /// Frames of several UDP datagrams do.
    fn takes_datagrams(&self) -> bool {
        false
    }

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
    /// The MTU, 68 to [`MAX_MTU`].
    pub mtu: u32,
}

/// A registered device over a TAP, and the interrupts that its port raises.
#[derive(Debug)]
pub struct TunDevice {
    /// The device.
    pub dev: Arc<NetDevice>,
    /// For each port: to be raised when a wanted event is there.
    pub irqs: Vec<IrqLine>,
    /// To be raised when the host side may have gone up or down.
    pub link_irq: IrqLine,
}

/// The driver's state of a queue.
///
/// linux: drivers/net/tun.c:tun_file
struct TunFile {
    port: Arc<dyn TapPort>,
    /// Its number.
    queue_index: u16,
    /// The queue is stopped until there is room.
    tx_waiting: AtomicBool,
    /// Polls in a row that found one frame, by themselves its only writer.
    lone_polls: AtomicU32,
    /// Where the longer part of a frame of several segments, or of a large MTU, is read to.
    pages: SpinLock<RxPages, class::Ring>,
    stats: Stats,
}

/// After so many polls that found one frame the next ones read no more than that: the interrupt, unmasked,
/// comes at once if there is another. Now and then one looks again.
const LONE_POLLS: u32 = 4;
const LOOK_EVERY: u32 = 8;

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

/// The driver's state of a device, and its operations.
///
/// linux: drivers/net/tun.c:tun_struct
struct TunStruct {
    files: Vec<Arc<TunFile>>,
    /// One a queue, set as soon as the device has its index.
    napis: OnceLock<Vec<Arc<NapiStruct>>>,
}

struct TunPoll(Arc<TunFile>);

struct FrameIrq {
    tun: Arc<TunFile>,
    napi: Arc<NapiStruct>,
}

struct LinkIrq {
    tun: Arc<TunStruct>,
    dev: DevId,
}

/// The most queues a device has.
///
/// linux: drivers/net/tun.c:MAX_TAP_QUEUES
pub const MAX_TAP_QUEUES: usize = 256;

/// Registers a device over `ports`, a queue each way for each, down and with its interrupts masked.
///
/// # Errors
/// Those of [`register_netdevice`] and [`request_irq`]; then nothing is left behind. EINVAL for an
/// MTU that is none, without a port, and for more than [`MAX_TAP_QUEUES`].
///
/// linux: drivers/net/tun.c:tun_set_iff
pub fn tun_set_iff(
    cx: &mut TaskCx,
    ports: Vec<Arc<dyn TapPort>>,
    spec: TunSpec,
) -> Result<TunDevice, Errno> {
    let queues = 1..=MAX_TAP_QUEUES;
    if !(68..=MAX_MTU).contains(&spec.mtu) || !queues.contains(&ports.len()) {
        return Err(Errno::EINVAL);
    }
    let mut features =
        NetdevFeatures::HW_CSUM | NetdevFeatures::SG | NetdevFeatures::RXCSUM | NetdevFeatures::GRO;
    if ports.iter().all(|port| port.takes_segments()) {
        features |= NetdevFeatures::TSO;
    }
    if ports.iter().all(|port| port.takes_datagrams()) {
        features |= NetdevFeatures::GSO_UDP_L4;
    }
    let spec = DeviceSpec {
        name: spec.name,
        addr: spec.addr,
        mtu: spec.mtu,
        flags: IFF_BROADCAST | IFF_MULTICAST,
        kind: ARPHRD_ETHER,
        features,
        hw_features: features - NetdevFeatures::RXCSUM,
        tx_queues: ports.len() as u16,
        tx_queue_len: TUN_READQ_SIZE,
    };
    let file = |(queue, port): (usize, Arc<dyn TapPort>)| {
        let (tx_waiting, stats) = (AtomicBool::new(false), Stats::default());
        let lone_polls = AtomicU32::new(0);
        let pages = SpinLock::default();
        let queue_index = queue as u16;
        Arc::new(TunFile { port, queue_index, tx_waiting, lone_polls, pages, stats })
    };
    let files = ports.into_iter().enumerate().map(file).collect();
    let tun = Arc::new(TunStruct { files, napis: OnceLock::new() });
    let netdev: Arc<dyn NetDeviceOps> = Arc::clone(&tun) as _;
    let dev = register_netdevice(cx, NetDevice::new(spec, netdev, None))?;
    dev.set_carrier(Carrier::Off);
    let napi = |file: &Arc<TunFile>| {
        let poll = Box::new(TunPoll(Arc::clone(file)));
        NapiStruct::netif_napi_add(dev.ifindex, poll, NAPI_POLL_WEIGHT)
    };
    let _first = tun.napis.set(tun.files.iter().map(napi).collect());
    let mut lines = Vec::new();
    let requested = tun_request_irqs(cx, &dev, &tun, &mut lines);
    match (requested, lines.pop()) {
        (Ok(()), Some(link_irq)) => Ok(TunDevice { dev, irqs: lines, link_irq }),
        (requested, last) => {
            lines.into_iter().chain(last).for_each(|line| release_irq(cx, &line));
            unregister_netdevice(cx, &dev);
            Err(requested.err().unwrap_or(Errno::EINVAL))
        }
    }
}

/// The queues' lines, and the link's behind them.
fn tun_request_irqs(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    tun: &Arc<TunStruct>,
    lines: &mut Vec<IrqLine>,
) -> Result<(), Errno> {
    for (file, napi) in tun.files.iter().zip(tun.napis()) {
        let name = match &tun.files[..] {
            [_] => dev.name.clone(),
            _ => format!("{}-{}", dev.name, file.queue_index),
        };
        let frames = FrameIrq { tun: Arc::clone(file), napi: Arc::clone(napi) };
        lines.push(request_irq(cx, &name, Box::new(frames))?);
    }
    let link = LinkIrq { tun: Arc::clone(tun), dev: dev.ifindex };
    lines.push(request_irq(cx, &format!("{}-link", dev.name), Box::new(link))?);
    Ok(())
}

fn release_irq(cx: &mut TaskCx, line: &IrqLine) {
    if let Some(irq) = line.desc().map(|desc| desc.irq) {
        free_irq(cx, irq);
    }
}

/// Takes the device down and away; on return nothing here calls the ports.
///
/// linux: drivers/net/tun.c:tun_detach
pub fn tun_detach(cx: &mut TaskCx, tun: TunDevice) {
    unregister_netdevice(cx, &tun.dev);
    tun.irqs.iter().chain([&tun.link_irq]).for_each(|line| release_irq(cx, line));
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
        let Some(port) = self.tun.files.first().map(|file| &file.port) else {
            return IrqReturn::None;
        };
        let up = port.link_up();
        if up == dev.carrier() {
            return IrqReturn::None;
        }
        dev.set_carrier(if up { Carrier::On } else { Carrier::Off });
        if up {
            // Whatever waited while it was down.
            self.tun.napis().iter().for_each(|napi| napi_schedule(cx, napi));
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
fn tun_poll(cx: &mut BhCx<'_>, tun: &TunFile, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
    walk!(cx, tun_poll);
    let t = cx.tables();
    let Some(dev) = napi.dev.and_then(|dev| t.net.dev(dev)) else {
        // On its way out of the tables; nothing wants to be told.
        let _polled_once_more_if_missed = napi_complete(cx, napi);
        return 0;
    };
    if tun.tx_waiting.load(Ordering::Relaxed) && tun.tx_waiting.swap(false, Ordering::SeqCst) {
        dev.netif_wake_subqueue(cx, tun.queue_index);
    }
    let lone = tun.lone_polls.load(Ordering::Relaxed);
    let takes_one = lone >= LONE_POLLS && !lone.is_multiple_of(LOOK_EVERY);
    let mut work = 0;
    // The poller is alone with it: it is taken out, so that no lock is held meanwhile.
    let mut pages = std::mem::take(&mut *tun.pages.lock());
    let mut list = cx.skb_list();
    let end = loop {
        if work == budget {
            break None;
        }
        if work == 1 && takes_one {
            break Some(Read::Empty);
        }
        match tun_get_user(cx, tun, dev, &mut pages) {
            Read::Frame(skb) => list.push(skb),
            Read::Dropped => {}
            end @ (Read::Empty | Read::Dead) => break Some(end),
        }
        work += 1;
    };
    *tun.pages.lock() = pages;
    let lone = if work == 1 { lone.wrapping_add(1) } else { 0 };
    tun.lone_polls.store(lone, Ordering::Relaxed);
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
fn tun_get_user(
    cx: &mut BhCx<'_>,
    tun: &TunFile,
    dev: &Arc<NetDevice>,
    pages: &mut RxPages,
) -> Read {
    let most = room_for(dev.mtu().min(ETH_DATA_LEN));
    let more = tun.more_than_linear(dev.mtu());
    let Some(mut skb) = netdev_alloc_skb(cx, dev.ifindex, most) else {
        return tun_discard(tun);
    };
    if !pages.refill(cx, more) {
        consume_skb(cx, skb);
        return tun_discard(tun);
    }
    let read = match skb.skb_put(most) {
        Some(room) => tun_read(&*tun.port, room, pages),
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
    if len > most {
        pages.add_to(&mut skb, (len - most).min(more));
    }
    if let Err(reason) = tun_check(tun, &mut skb, len, (dev.mtu(), most + more)) {
        add(&tun.stats.rx_errors, 1);
        if matches!(reason, DropReason::HdrTrunc | DropReason::PktTooBig) {
            add(&tun.stats.rx_length_errors, 1);
        }
        kfree_skb(cx, skb, reason);
        return Read::Dropped;
    }
    add(&tun.stats.rx_packets, 1);
    add(&tun.stats.rx_bytes, skb.len());
    // linux: include/linux/skbuff.h:skb_record_rx_queue
    skb.queue_mapping = tun.queue_index + 1;
    Read::Frame(skb)
}

/// Parts of a frame of several segments: its head, and the pages that [`MOST_SEGMENTS`] may take.
const READ_PARTS: usize = 2 + MOST_SEGMENTS.div_ceil(PAGE_FRAG_SIZE);

/// Reads a frame into the head, and what has no room there into the pages.
fn tun_read(
    port: &dyn TapPort,
    head: &mut [u8],
    pages: &mut RxPages,
) -> Result<Option<usize>, TapFault> {
    let mut parts: [IoSliceMut<'_>; READ_PARTS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    parts[0] = IoSliceMut::new(head);
    let mut count = 1;
    for (part, room) in parts[1..].iter_mut().zip(pages.rooms()) {
        *part = IoSliceMut::new(room);
        count += 1;
    }
    port.read_frame(&mut parts[..count])
}

/// Nothing was read into `skb`.
fn unused(cx: &mut BhCx<'_>, skb: Skb, read: Read) -> Read {
    consume_skb(cx, skb);
    read
}

/// Without memory for a packet, the frame is read away: else its interrupt would never end.
#[cold]
fn tun_discard(tun: &TunFile) -> Read {
    match tun.port.read_frame(&mut [IoSliceMut::new(&mut [0; VNET_HDR_LEN + ETH_HLEN])]) {
        Ok(Some(_)) => {
            add(&tun.stats.rx_dropped, 1);
            Read::Dropped
        }
        Ok(None) | Err(TapFault::WouldBlock) => Read::Empty,
        Err(_) => Read::Dead,
    }
}

impl TunStruct {
    fn napis(&self) -> &[Arc<NapiStruct>] {
        self.napis.get().map_or(&[], Vec::as_slice)
    }
}

impl TunFile {
    /// Octets that a frame may have beside those that a packet's linear part has room for.
    fn more_than_linear(&self, mtu: usize) -> usize {
        match self.port.takes_segments() || self.port.takes_datagrams() {
            true => MOST_SEGMENTS,
            false => mtu.saturating_sub(ETH_DATA_LEN),
        }
    }

    fn wants(&self) -> Wants {
        match self.tx_waiting.load(Ordering::SeqCst) {
            true => Wants::FramesAndRoom,
            false => Wants::Frames,
        }
    }
}

impl NetDeviceOps for TunStruct {
    /// linux: drivers/net/tun.c:tun_net_open
    fn ndo_open(&self, _cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno> {
        let first = self.files.first().ok_or(Errno::ENODEV)?;
        for (file, napi) in self.files.iter().zip(self.napis()) {
            napi_enable(napi);
            dev.netif_start_subqueue(file.queue_index);
        }
        dev.set_carrier(if first.port.link_up() { Carrier::On } else { Carrier::Off });
        self.files.iter().for_each(|file| file.port.irq_unmask(Wants::Frames));
        Ok(())
    }

    /// linux: drivers/net/tun.c:tun_net_close
    fn ndo_stop(&self, cx: &mut TaskCx, _dev: &Arc<NetDevice>) {
        self.napis().iter().for_each(|napi| napi_disable(cx, napi));
        for file in &self.files {
            file.port.irq_mask();
            file.tx_waiting.store(false, Ordering::SeqCst);
        }
    }

    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        queue: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        match self.files.get(usize::from(queue)) {
            Some(file) => tun_net_xmit(cx, file, dev, skb),
            // The device has as many queues as there are ports.
            None => Err(skb),
        }
    }

    fn ndo_change_mtu(&self, _cx: &mut TaskCx, mtu: u32) -> Result<(), Errno> {
        if (68..=MAX_MTU).contains(&mtu) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// linux: drivers/net/tun.c:tun_net_get_stats64
    fn ndo_get_stats64(&self) -> LinkStats {
        let sum = |of: fn(&Stats) -> &AtomicU64| {
            self.files.iter().map(|file| of(&file.stats).load(Ordering::Relaxed)).sum()
        };
        LinkStats {
            rx_packets: sum(|stats| &stats.rx_packets),
            rx_bytes: sum(|stats| &stats.rx_bytes),
            rx_errors: sum(|stats| &stats.rx_errors),
            rx_length_errors: sum(|stats| &stats.rx_length_errors),
            rx_dropped: sum(|stats| &stats.rx_dropped),
            tx_packets: sum(|stats| &stats.tx_packets),
            tx_bytes: sum(|stats| &stats.tx_bytes),
            tx_errors: sum(|stats| &stats.tx_errors),
            tx_dropped: sum(|stats| &stats.tx_dropped),
            ..LinkStats::default()
        }
    }
}

impl fmt::Debug for TunStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunStruct({} queues)", self.files.len())
    }
}

#[cfg(test)]
mod tests;
