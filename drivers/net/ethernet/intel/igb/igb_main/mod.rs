//! The driver's start, and a device's way up and down.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Key types: `IgbAdapter`, which is both `net_device_ops` and
//! `ethtool_ops`. Parts: `setup` (registers and rings), `irq`, `rx`, `tx`, `stats`.
//! Contexts: task; the link's changes also in hard interrupt.
//! Locks: `class::Ring`, see `igb`. Invariant: what `igb_up` starts, `igb_down` has ended when it returns: no handler,
//! no poll, no sender, no DMA.
//! DIVERGES: there is no watchdog timer: the link is read when the device says that it changed, and a transmitter that
//! hangs is not reset. What is in the ring when the link goes is sent when it returns. The device is registered before
//! its vectors exist, because a NAPI context names its device.

pub(super) mod irq;
pub(super) mod rss;
mod rx;
mod setup;
pub(super) mod stats;
mod tx;

use super::e1000_82575::{
    igb_has_link, igb_init_hw_82575, igb_power_down_link, igb_power_up_link, igb_reset_hw_82575,
    validate_nvm,
};
use super::e1000_mac::{igb_rar_set, igb_read_mac_addr};
use super::e1000_phy::igb_get_phy_id;
use super::e1000_regs::*;
use super::igb::*;
use crate::pci::{E1000_DEV_ID_82576, PCI_DEVICE_ID, PCI_VENDOR_ID, PCI_VENDOR_ID_INTEL, PciDev};
use stack::kernel::context::{BhCx, TaskCx, Walker};
use stack::kernel::locking::SpinLock;
use stack::kernel::rcupdate::synchronize_net;
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::{
    Carrier, LinkStats, NetDevice, NetDeviceOps, NetdevFeatures, napi_disable, napi_enable,
    register_netdevice,
};
use stack::net::core::ethtool::EthtoolOps;
use stack::net::core::skbuff::{SkBuff, Skb};
use stack::walk;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use uapi::errno::Errno;
use uapi::if_::{IFF_BROADCAST, IFF_MULTICAST};
use uapi::if_arp::ARPHRD_ETHER;
use uapi::if_ether::is_valid_ether_addr;

/// Bytes around a payload: header, CRC, a tag.
const FRAME_OVERHEAD: u32 = 14 + 4 + 4;

/// Drives `devices`: for a machine's builder, to run at the end of boot.
///
/// # Errors
/// The errno of the first device that can't be driven; the boot fails with it.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_init_module
pub fn igb_init_module(
    devices: Vec<Arc<dyn PciDev>>,
    options: IgbOptions,
) -> impl FnOnce(&mut TaskCx) -> Result<(), Errno> + Send + 'static {
    move |cx| {
        walk!(cx, igb_init_module);
        devices.into_iter().try_for_each(|pdev| igb_probe(cx, pdev, options).map(|_| ()))
    }
}

/// Takes a device over: resets it, reads its address, makes its queues and registers it as `eth%d`.
///
/// # Errors
/// ENODEV for another device or one that is gone, EIO when its NVM or PHY is not sound, EINVAL for options out of
/// bounds.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_probe
pub fn igb_probe(
    cx: &mut TaskCx,
    pdev: Arc<dyn PciDev>,
    options: IgbOptions,
) -> Result<Arc<NetDevice>, Errno> {
    walk!(cx, igb_probe);
    if pdev.config_read16(PCI_VENDOR_ID) != PCI_VENDOR_ID_INTEL
        || pdev.config_read16(PCI_DEVICE_ID) != E1000_DEV_ID_82576
    {
        return Err(Errno::ENODEV);
    }
    check_options(&options)?;
    pdev.set_master();
    let hw = Arc::new(IgbHw::new(pdev));
    if hw.rd32(E1000_STATUS) == !0 {
        return Err(Errno::ENODEV);
    }
    igb_reset_hw_82575(&hw)?;
    validate_nvm(&hw)?;
    let addr = igb_read_mac_addr(&hw);
    if !is_valid_ether_addr(&addr) || igb_get_phy_id(&hw)? != IGP03E1000_E_PHY_ID {
        return Err(Errno::EIO);
    }
    hw.rx_itr_setting.store(itr_setting(options.itr), Ordering::Relaxed);
    let cpus = cx.machine().cpu_ids().count();
    let wanted = options.queues.map_or(cpus.min(IGB_MAX_QUEUES), usize::from);
    let queues = irq::igb_set_interrupt_capability(&hw, wanted.clamp(1, IGB_MAX_QUEUES));
    let adapter = igb_sw_init(&hw, options, queues);
    igb_reset(&adapter)?;
    // No link before somebody opens the device.
    igb_power_down_link(&hw)?;
    register(cx, &adapter, addr)
}

fn check_options(options: &IgbOptions) -> Result<(), Errno> {
    let ring =
        |n: u32| (IGB_MIN_RING..=IGB_MAX_RING).contains(&n) && n.is_multiple_of(RING_MULTIPLE);
    let queues = options.queues.is_none_or(|n| (1..=IGB_MAX_QUEUES as u8).contains(&n));
    // Without a qdisc nobody would see to it that one CPU at a time sends by a queue.
    let queued = options.tx_queue_len != 0;
    if ring(options.rx_ring) && ring(options.tx_ring) && queues && queued && itr_valid(options.itr)
    {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// The throttle settings that there are: modes 0, 1 and 3, or 10 to 10,000 microseconds.
pub(super) fn itr_valid(usecs: u32) -> bool {
    matches!(usecs, 0 | 1 | 3 | 10..=10_000)
}

/// `rx-usecs` as the driver keeps it: a mode, or an EITR value.
pub(super) fn itr_setting(usecs: u32) -> u32 {
    if usecs <= 3 { usecs } else { usecs << E1000_EITR_INTERVAL_SHIFT }
}

/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_sw_init
fn igb_sw_init(hw: &Arc<IgbHw>, options: IgbOptions, queues: usize) -> Arc<IgbAdapter> {
    Arc::new_cyclic(|this| IgbAdapter {
        hw: Arc::clone(hw),
        options,
        netdev: OnceLock::new(),
        q_vectors: OnceLock::new(),
        this: this.clone(),
        max_queues: queues,
        num_queues: AtomicUsize::new(queues),
        rx_ring_count: AtomicU32::new(options.rx_ring),
        tx_ring_count: AtomicU32::new(options.tx_ring),
        max_frame_size: AtomicU32::new(1500 + FRAME_OVERHEAD),
        rss: SpinLock::new(rss::IgbRss::new(options.rss_key)),
        lines: SpinLock::new(Vec::new()),
        hw_stats: SpinLock::new(stats::HwStats::default()),
    })
}

fn register(
    cx: &mut TaskCx,
    adapter: &Arc<IgbAdapter>,
    addr: [u8; 6],
) -> Result<Arc<NetDevice>, Errno> {
    let features = NetdevFeatures::SG
        | NetdevFeatures::IP_CSUM
        | NetdevFeatures::TSO
        | NetdevFeatures::RXCSUM
        | NetdevFeatures::RXHASH;
    let spec = DeviceSpec {
        name: "eth%d".to_owned(),
        addr,
        mtu: 1500,
        flags: IFF_BROADCAST | IFF_MULTICAST,
        kind: ARPHRD_ETHER,
        features: features | NetdevFeatures::GRO,
        hw_features: features,
        tx_queues: adapter.max_queues as u16,
        tx_queue_len: adapter.options.tx_queue_len,
    };
    let ops = Arc::clone(adapter) as Arc<dyn NetDeviceOps>;
    let ethtool = Arc::clone(adapter) as Arc<dyn EthtoolOps>;
    let dev = NetDevice::new(spec, ops, Some(ethtool));
    dev.set_carrier(Carrier::Off);
    let dev = register_netdevice(cx, dev)?;
    let vectors = (0..adapter.max_queues as u32)
        .map(|index| irq::igb_alloc_q_vector(cx, &adapter.hw, index, dev.ifindex))
        .collect();
    // Both are set here only, and the adapter is new.
    let _ = adapter.q_vectors.set(vectors);
    let _ = adapter.netdev.set(Arc::downgrade(&dev));
    Ok(dev)
}

/// Brings the device up: rings, interrupts, NAPI, link.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_open
fn igb_open(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &NetDevice) -> Result<(), Errno> {
    walk!(cx, igb_open);
    __igb_open(cx, adapter, dev)
}

/// The same for whoever opens the device again. Nothing is left behind on failure.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:__igb_open
fn __igb_open(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &NetDevice) -> Result<(), Errno> {
    walk!(cx, __igb_open);
    dev.set_carrier(Carrier::Off);
    let opened = open_steps(cx, adapter, dev);
    if opened.is_err() {
        igb_free_irq(cx, adapter);
        setup::igb_free_all_resources(adapter);
        // It is being given up: what it answers changes nothing.
        let _ = igb_reset(adapter);
        let _ = igb_power_down_link(&adapter.hw);
    }
    opened
}

fn open_steps(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &NetDevice) -> Result<(), Errno> {
    // Whoever had the device last, and however it was left: it starts from reset.
    igb_reset(adapter)?;
    make_rings(cx, adapter)?;
    igb_power_up_link(&adapter.hw)?;
    setup::igb_configure(cx, adapter, dev);
    irq::igb_request_irq(cx, adapter, dev)?;
    start(cx, adapter, dev);
    Ok(())
}

/// From configured to running: NAPI, interrupts, link.
fn start(cx: &TaskCx, adapter: &IgbAdapter, dev: &NetDevice) {
    adapter.hw.down.store(false, Ordering::Release);
    for vector in adapter.vectors() {
        napi_enable(&vector.napi);
        dev.netif_stop_subqueue(vector.q.index as u16);
    }
    let _cleared = adapter.hw.rd32(E1000_ICR);
    irq::igb_irq_enable(&adapter.hw);
    igb_watchdog_task(cx, adapter, dev);
    if dev.carrier() {
        // Nobody waits yet, and senders need not wait for the first poll.
        for vector in adapter.vectors() {
            dev.netif_start_subqueue(vector.q.index as u16);
        }
    }
}

/// Takes the device down and gives everything back.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_close
fn igb_close(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &NetDevice) {
    walk!(cx, igb_close);
    igb_down(cx, adapter, dev);
    igb_free_irq(cx, adapter);
    setup::igb_free_all_resources(adapter);
    // A PHY that does not answer stays powered: nothing else depends on it.
    let _ = igb_power_down_link(&adapter.hw);
}

/// Starts a device that `igb_down` stopped; its interrupts are still requested.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_up
pub(super) fn igb_up(cx: &TaskCx, adapter: &IgbAdapter, dev: &NetDevice) {
    walk!(cx, igb_up);
    setup::igb_configure(cx, adapter, dev);
    irq::igb_configure_msix(adapter);
    start(cx, adapter, dev);
}

/// Gives the rings other sizes; a device that is up is taken down and up. Without memory for them the old ones stay.
pub(super) fn igb_change_rings(
    cx: &mut TaskCx,
    adapter: &IgbAdapter,
    rx: u32,
    tx: u32,
) -> Result<(), Errno> {
    let dev = adapter.netdev().filter(|_| !adapter.hw.is_down());
    if let Some(dev) = &dev {
        igb_down(cx, adapter, dev);
    }
    let old_rx = adapter.rx_ring_count.swap(rx, Ordering::Relaxed);
    let old_tx = adapter.tx_ring_count.swap(tx, Ordering::Relaxed);
    let Some(dev) = dev else { return Ok(()) };
    setup::igb_free_all_resources(adapter);
    let made = make_rings(cx, adapter);
    if made.is_err() {
        adapter.rx_ring_count.store(old_rx, Ordering::Relaxed);
        adapter.tx_ring_count.store(old_tx, Ordering::Relaxed);
        setup::igb_free_all_resources(adapter);
        // What was there before fits again.
        make_rings(cx, adapter)?;
    }
    igb_up(cx, adapter, &dev);
    made
}

fn make_rings(cx: &TaskCx, adapter: &IgbAdapter) -> Result<(), Errno> {
    setup::igb_setup_all_tx_resources(cx, adapter)?;
    setup::igb_setup_all_rx_resources(cx, adapter)
}

/// Stops the device: no frame goes in or out, nobody polls, and what the rings held has ended.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_down
pub(super) fn igb_down(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &NetDevice) {
    walk!(cx, igb_down);
    let hw = &adapter.hw;
    hw.down.store(true, Ordering::Release);
    hw.wr32(E1000_RCTL, hw.rd32(E1000_RCTL) & !E1000_RCTL_EN);
    for vector in adapter.vectors() {
        dev.netif_stop_subqueue(vector.q.index as u16);
    }
    // Senders that saw an open queue have left when this returns.
    synchronize_net(cx);
    hw.wr32(E1000_TCTL, hw.rd32(E1000_TCTL) & !E1000_TCTL_EN);
    irq::igb_irq_disable(hw);
    for vector in adapter.vectors() {
        napi_disable(cx, &vector.napi);
    }
    dev.set_carrier(Carrier::Off);
    stats::igb_update_stats(adapter);
    // A device that does not come back from its reset fails at the next start.
    let _ = igb_reset(adapter);
    for vector in adapter.vectors() {
        tx::igb_clean_tx_ring(cx, &vector.q, dev);
        rx::igb_clean_rx_ring(cx, &vector.q);
    }
}

/// Resets the device and starts its link; queues and filters are to be configured anew.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_reset
fn igb_reset(adapter: &IgbAdapter) -> Result<(), Errno> {
    igb_reset_hw_82575(&adapter.hw)?;
    igb_init_hw_82575(&adapter.hw)
}

/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_free_irq
fn igb_free_irq(cx: &mut TaskCx, adapter: &IgbAdapter) {
    irq::disconnect(&adapter.hw);
    let lines = std::mem::take(&mut *adapter.lines.lock());
    irq::free_lines(cx, &lines);
}

/// Follows the link: the carrier, and the transmit queues with it.
///
/// Stopped queues are opened by their own vectors' polls, on their own CPUs: a software interrupt on each sees to that.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_watchdog_task
pub(super) fn igb_watchdog_task(cx: &impl Walker, adapter: &IgbAdapter, dev: &NetDevice) {
    walk!(cx, igb_watchdog_task);
    let link = igb_has_link(&adapter.hw);
    if link == dev.carrier() {
        return;
    }
    if link {
        dev.set_carrier(Carrier::On);
        irq::raise_queue_interrupts(adapter);
    } else {
        dev.set_carrier(Carrier::Off);
        for vector in adapter.vectors() {
            dev.netif_stop_subqueue(vector.q.index as u16);
        }
    }
}

/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_netdev_ops
impl NetDeviceOps for IgbAdapter {
    fn ndo_open(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno> {
        igb_open(cx, self, dev)
    }

    fn ndo_stop(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>) {
        igb_close(cx, self, dev);
    }

    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        queue: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        tx::igb_xmit_frame(cx, self, (dev, queue), skb)
    }

    fn ndo_xmit_flush(&self, cx: &mut BhCx<'_>, dev: &Arc<NetDevice>, queue: u16) {
        if let Some(vector) = self.vectors().get(usize::from(queue)) {
            tx::ring_doorbell(cx, &vector.q, dev);
        }
    }

    /// The device's queues are fixed when it is registered; after falling back to one interrupt only the first is
    /// served.
    fn ndo_select_queue(&self, _cx: &mut BhCx<'_>, _skb: &SkBuff) -> Option<u16> {
        (self.num_queues.load(Ordering::Relaxed) == 1).then_some(0)
    }

    fn ndo_set_rx_mode(&self, _cx: &mut TaskCx, dev: &NetDevice) {
        setup::igb_set_rx_mode(&self.hw, dev);
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_set_mac
    fn ndo_set_mac_address(&self, _cx: &mut TaskCx, addr: [u8; 6]) -> Result<(), Errno> {
        igb_rar_set(&self.hw, addr, 0);
        Ok(())
    }

    /// The buffers fit any MTU, so that traffic goes on.
    ///
    /// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_change_mtu
    fn ndo_change_mtu(&self, _cx: &mut TaskCx, mtu: u32) -> Result<(), Errno> {
        if !(68..=MAX_STD_JUMBO_MTU).contains(&mtu) {
            return Err(Errno::EINVAL);
        }
        // Frames of the standard length are always received.
        let longest = mtu.max(1500) + FRAME_OVERHEAD;
        self.max_frame_size.store(longest, Ordering::Relaxed);
        self.hw.wr32(E1000_RLPML, longest);
        Ok(())
    }

    fn ndo_get_stats64(&self) -> LinkStats {
        stats::igb_get_stats64(self)
    }
}
