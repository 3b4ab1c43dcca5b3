//! Rings in memory, and the registers that make the device use them.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Context: task, with the device down.
//! Invariant: each descriptor has its own buffer for as long as the ring lives.

use super::super::e1000_mac::{igb_rar_set, igb_update_mc_addr_list};
use super::super::e1000_regs::*;
use super::super::igb::*;
use super::rss::igb_setup_mrqc;
use super::rx::igb_alloc_rx_buffers;
use crate::pci::{DmaBuf, DmaError};
use stack::kernel::context::{TaskCx, Walker};
use stack::net::core::dev::NetDevice;
use stack::walk;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::errno::Errno;
use uapi::if_::{IFF_ALLMULTI, IFF_PROMISC};

/// RXDCTL: prefetch, host and write-back thresholds; the last one by message and by pin.
const RX_THRESHOLDS: u32 = 8 | 8 << 8;
/// TXDCTL: likewise.
const TX_THRESHOLDS: u32 = 8 | 1 << 8;

fn errno(error: DmaError) -> Errno {
    match error {
        DmaError::Invalid => Errno::EINVAL,
        DmaError::NoMemory | DmaError::Host => Errno::ENOMEM,
    }
}

/// A ring's descriptors and buffers.
fn ring_memory(hw: &IgbHw, count: usize) -> Result<(Descriptors, Buffers), Errno> {
    let memory = |len| hw.pdev.dma_alloc_coherent(count * len, 4096).map_err(errno);
    let desc = Descriptors::new(memory(Descriptors::SIZE)?, count);
    let data = Buffers::new(memory(Buffers::SIZE)?, count);
    // Shorter than asked for: not a bus to trust.
    desc.and_then(|desc| Ok((desc, data?))).map_err(|_| Errno::EIO)
}

/// Makes the transmit rings.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_setup_all_tx_resources
pub(super) fn igb_setup_all_tx_resources(cx: &TaskCx, adapter: &IgbAdapter) -> Result<(), Errno> {
    walk!(cx, igb_setup_all_tx_resources);
    let count = adapter.tx_ring_count.load(Ordering::Relaxed);
    for vector in adapter.vectors() {
        let (desc, data) = ring_memory(&adapter.hw, count as usize)?;
        let sender = IgbTxSender {
            q: Arc::downgrade(&vector.q),
            q_addr: Arc::as_ptr(&vector.q).addr(),
            desc: desc.clone(),
            data,
            context: None,
            packets: TxPackets::new(count as usize),
        };
        let handed = TxPackets::new(count as usize);
        let ring = IgbTxRing { desc, sender: Some(Box::new(sender)), handed };
        vector.q.tx_count.store(count, Ordering::Relaxed);
        *vector.q.tx.lock() = Some(ring);
    }
    Ok(())
}

/// Makes the receive rings, and what polls work with; the transmit rings stand.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_setup_all_rx_resources
pub(super) fn igb_setup_all_rx_resources(cx: &TaskCx, adapter: &IgbAdapter) -> Result<(), Errno> {
    walk!(cx, igb_setup_all_rx_resources);
    let count = adapter.rx_ring_count.load(Ordering::Relaxed) as usize;
    for vector in adapter.vectors() {
        let (desc, data) = ring_memory(&adapter.hw, count)?;
        let rx = IgbRxRing {
            unused: igb_desc_unused(desc.count(), 0, 0),
            desc,
            data,
            next_to_use: 0,
            next_to_clean: 0,
            skb: None,
            skipping: false,
            begun: false,
        };
        let tx_desc = vector.q.tx.lock().as_ref().map(|ring| ring.desc.clone());
        let tx_desc = tx_desc.ok_or(Errno::EINVAL)?;
        let packets = TxPackets::new(tx_desc.count());
        let tx = IgbTxCleaner { desc: tx_desc, packets, seen: 0 };
        let state = IgbPollState {
            rx,
            tx,
            rx_itr: IgbRingContainer::default(),
            tx_itr: IgbRingContainer::default(),
            itr_wanted: 0,
        };
        vector.q.poll.store(Some(Box::new(state)));
    }
    Ok(())
}

/// Frees all rings; the device must have been reset.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_free_all_rx_resources
pub(super) fn igb_free_all_resources(adapter: &IgbAdapter) {
    for vector in adapter.q_vectors.get().into_iter().flatten() {
        let tx = vector.q.tx.lock().take();
        let poll = vector.q.poll.take();
        drop((tx, poll));
    }
}

/// Writes everything that a reset device needs to know, but for interrupts.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_configure
pub(super) fn igb_configure(cx: &impl Walker, adapter: &IgbAdapter, dev: &NetDevice) {
    walk!(cx, igb_configure);
    let hw = &*adapter.hw;
    // The firmware leaves the device to a driver that is loaded.
    hw.wr32(E1000_CTRL_EXT, hw.rd32(E1000_CTRL_EXT) | E1000_CTRL_EXT_DRV_LOAD);
    igb_rar_set(hw, dev.dev_addr(), 0);
    igb_set_rx_mode(hw, dev);
    igb_setup_tctl(hw);
    igb_setup_mrqc(adapter);
    igb_setup_rctl(adapter);
    for vector in adapter.vectors() {
        igb_configure_tx_ring(&vector.q);
        igb_configure_rx_ring(cx, &vector.q, adapter);
        reset_itr(&vector.q);
    }
}

fn reset_itr(q: &IgbQVector) {
    let setting = q.hw.rx_itr_setting.load(Ordering::Relaxed);
    let itr = if matches!(setting, 1..=3) { IGB_START_ITR } else { setting };
    q.itr_val.store(itr, Ordering::Relaxed);
    q.set_itr.store(true, Ordering::Relaxed);
}

/// Transmitting is on; short frames are padded.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_setup_tctl
fn igb_setup_tctl(hw: &IgbHw) {
    // Queue 0 is enabled after a reset: until it is configured it must not be.
    hw.wr32(E1000_TXDCTL(0), 0);
    hw.wr32(E1000_TCTL, hw.rd32(E1000_TCTL) | E1000_TCTL_PSP | E1000_TCTL_EN);
}

/// Receiving is on: broadcast, no CRC in memory, frames up to the MTU's length.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_setup_rctl
fn igb_setup_rctl(adapter: &IgbAdapter) {
    let hw = &*adapter.hw;
    let kept = hw.rd32(E1000_RCTL) & (E1000_RCTL_UPE | E1000_RCTL_MPE);
    hw.wr32(E1000_RXDCTL(0), 0);
    hw.wr32(E1000_RLPML, adapter.max_frame_size.load(Ordering::Relaxed));
    let rctl = E1000_RCTL_EN | E1000_RCTL_BAM | E1000_RCTL_SECRC | E1000_RCTL_LPE;
    hw.wr32(E1000_RCTL, kept | rctl);
}

fn write_base(hw: &IgbHw, registers: [u32; 3], ring: &DmaBuf) {
    let [bal, bah, len] = registers;
    hw.wr32(len, ring.len() as u32);
    hw.wr32(bal, ring.bus_addr() as u32);
    hw.wr32(bah, (ring.bus_addr() >> 32) as u32);
}

fn write_back_threshold(hw: &IgbHw, by_pin: u32) -> u32 {
    (if hw.mode() == IrqMode::Msix { 1 } else { by_pin }) << 16
}

/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_configure_tx_ring
fn igb_configure_tx_ring(q: &IgbQVector) {
    let (hw, n) = (&*q.hw, q.index);
    let desc = q.tx.lock().as_ref().map(|ring| ring.desc.clone());
    let Some(desc) = desc else { return };
    q.tx_start_over();
    hw.wr32(E1000_TXDCTL(n), 0);
    hw.wrfl();
    write_base(hw, [E1000_TDBAL(n), E1000_TDBAH(n), E1000_TDLEN(n)], desc.buf());
    hw.wr32(E1000_TDH(n), 0);
    hw.wr32(E1000_TDT(n), 0);
    let dctl = TX_THRESHOLDS | write_back_threshold(hw, 16) | E1000_TXDCTL_QUEUE_ENABLE;
    hw.wr32(E1000_TXDCTL(n), dctl);
}

/// Gives the ring to the device, with all buffers that it may have.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_configure_rx_ring
fn igb_configure_rx_ring(cx: &impl Walker, q: &IgbQVector, adapter: &IgbAdapter) {
    let (hw, n) = (&*q.hw, q.index);
    let mut taken = q.take_poll();
    let Some(state) = taken.get() else { return };
    state.rx.start_over();
    hw.wr32(E1000_RXDCTL(n), 0);
    write_base(hw, [E1000_RDBAL(n), E1000_RDBAH(n), E1000_RDLEN(n)], state.rx.desc.buf());
    hw.wr32(E1000_RDH(n), 0);
    hw.wr32(E1000_RDT(n), 0);
    // With several queues a full one must not hold up the others.
    let drop_en = if adapter.vectors().len() > 1 { E1000_SRRCTL_DROP_EN } else { 0 };
    let kib = (IGB_BUFSZ / 1024) as u32;
    hw.wr32(E1000_SRRCTL(n), E1000_SRRCTL_DESCTYPE_ADV_ONEBUF | kib | drop_en);
    let rx = &mut state.rx;
    (0..rx.desc.count()).for_each(|slot| rx.desc.write_pair(slot, rx.data.bus_addr(slot), 0));
    let dctl = RX_THRESHOLDS | write_back_threshold(hw, 4) | E1000_RXDCTL_QUEUE_ENABLE;
    hw.wr32(E1000_RXDCTL(n), dctl);
    igb_alloc_rx_buffers(cx, q, rx);
}

/// Programs the filters: everything, all groups, or the groups there are.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_set_rx_mode
pub(super) fn igb_set_rx_mode(hw: &IgbHw, dev: &NetDevice) {
    let flags = dev.flags();
    let filter = if dev.promiscuous() || flags & IFF_PROMISC != 0 {
        E1000_RCTL_UPE | E1000_RCTL_MPE
    } else {
        // Further addresses of the device's own have no filter each: it takes all.
        let unicast = if dev.uc_list().is_empty() { 0 } else { E1000_RCTL_UPE };
        let all = dev.all_multicast() || flags & IFF_ALLMULTI != 0;
        unicast | if all { E1000_RCTL_MPE } else { 0 }
    };
    igb_update_mc_addr_list(hw, &dev.mc_list());
    let rctl = hw.rd32(E1000_RCTL) & !(E1000_RCTL_UPE | E1000_RCTL_MPE);
    hw.wr32(E1000_RCTL, rctl | filter);
}
