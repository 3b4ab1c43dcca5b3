//! Transmit: packets into the ring, and their end when the device has sent them.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Contexts: sending in BH, one CPU a queue at a time (its qdisc);
//! cleaning in the queue's poll. Locks: `class::Ring`, the transmit ring's, once a packet and once a poll; no packet
//! ends and no doorbell rings under it.
//! Invariants: a packet stays until its last descriptor is written back; the doorbell is rung once a batch.
//! DIVERGES: mapping is copying into the descriptor's own buffer, so that no memory of the stack is ever the device's.
//! A context descriptor is left out when the queue has the same one already.

use super::super::e1000_regs::*;
use super::super::igb::*;
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::NetDevice;
use stack::net::core::dev::tx::__netif_schedule;
use stack::net::core::skbuff::{IpSummed, SkBuff, Skb, consume_skb, kfree_skb, skb_cow_head};
use stack::walk;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::if_ether::ETH_P_IP;

/// The device pads to 60 bytes what has at least 17.
const MIN_TX: usize = 17;
/// Where TCP and UDP have their checksums.
const TCP_CHECK: u16 = 16;
const UDP_CHECK: u16 = 6;

/// Sends a packet by the ring of its queue. `Err` gives it back: the ring is full.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_xmit_frame
pub(super) fn igb_xmit_frame(
    cx: &mut BhCx<'_>,
    adapter: &IgbAdapter,
    (dev, queue): (&Arc<NetDevice>, u16),
    skb: Skb,
) -> Result<(), Skb> {
    walk!(cx, skb, igb_xmit_frame);
    let vectors = adapter.vectors();
    // A queue that is not served any more, after falling back to one interrupt.
    let Some(vector) = vectors.get(usize::from(queue)) else {
        kfree_skb(cx, skb, DropReason::DevReady);
        return Ok(());
    };
    if skb.len() == 0 || skb.len() > MAX_FRAME {
        vector.q.stats.tx_dropped.add(1);
        kfree_skb(cx, skb, DropReason::PktTooBig);
        return Ok(());
    }
    igb_xmit_frame_ring(cx, &vector.q, dev, skb)
}

/// Reserves descriptors, prepares the checksum, fills the ring.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_xmit_frame_ring
fn igb_xmit_frame_ring(
    cx: &mut BhCx<'_>,
    q: &IgbQVector,
    dev: &Arc<NetDevice>,
    mut skb: Skb,
) -> Result<(), Skb> {
    walk!(cx, skb, igb_xmit_frame_ring);
    let Ok(context) = igb_tx_csum(cx, &mut skb) else {
        q.stats.tx_dropped.add(1);
        kfree_skb(cx, skb, DropReason::SkbCsum);
        return Ok(());
    };
    let mut guard = q.tx.lock();
    let Some(ring) = guard.as_mut().filter(|_| !q.hw.is_down()) else {
        drop(guard);
        q.stats.tx_dropped.add(1);
        kfree_skb(cx, skb, DropReason::DevReady);
        return Ok(());
    };
    // Its buffers, a context, and a gap of two.
    let needed = skb.len().max(MIN_TX).div_ceil(IGB_BUFSZ) + 3;
    if igb_maybe_stop_tx(ring, (dev, q.index), needed) {
        q.stats.tx_busy.add(1);
        return Err(skb);
    }
    let bytes = igb_tx_map(cx, (q, ring), skb, context);
    if let Some(txq) = dev.tx_queues.get(q.index as usize) {
        txq.bql.sent(bytes);
    }
    igb_maybe_stop_tx(ring, (dev, q.index), DESC_NEEDED);
    q.tx_tail.store(ring.next_to_use as u32, Ordering::Relaxed);
    Ok(())
}

/// Stops the queue when fewer than `needed` descriptors are free. The cleaner takes the ring's lock before it looks
/// whether the queue is stopped, and the sender holds it here: neither misses the other.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_maybe_stop_tx
fn igb_maybe_stop_tx(ring: &IgbTxRing, (dev, queue): (&NetDevice, u32), needed: usize) -> bool {
    let full = ring.unused() < needed;
    if full {
        dev.netif_stop_subqueue(queue as u16);
    }
    full
}

/// The context for a checksum that the device is to fill in. What it cannot do is done here; `Err`: not even that.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_csum
fn igb_tx_csum(cx: &mut BhCx<'_>, skb: &mut Skb) -> Result<Option<(u64, u64)>, ()> {
    walk!(cx, skb, igb_tx_csum);
    if skb.ip_summed != IpSummed::Partial {
        return Ok(None);
    }
    match tx_context(skb) {
        Some(context) => Ok(Some(context)),
        None if skb_cow_head(cx, skb, 0) && skb.skb_checksum_help() => Ok(None),
        None => Err(()),
    }
}

/// The context descriptor's words; `None` when the packet is of no kind that the device knows.
fn tx_context(skb: &SkBuff) -> Option<(u64, u64)> {
    let l4 = match skb.csum_offset {
        TCP_CHECK => E1000_ADVTXD_TUCMD_L4T_TCP,
        UDP_CHECK => E1000_ADVTXD_TUCMD_L4T_UDP,
        _ => return None,
    };
    if skb.protocol != ETH_P_IP {
        return None;
    }
    let mac_len = u32::try_from(skb.network_offset()).ok()?;
    let l4_at = u32::from(skb.csum_start).checked_sub(skb.headroom() as u32)?;
    let ip_len = l4_at.checked_sub(mac_len)?;
    if !(14..=127).contains(&mac_len) || !(20..=E1000_ADVTXD_IPLEN_MASK).contains(&ip_len) {
        return None;
    }
    let lengths = mac_len << E1000_ADVTXD_MACLEN_SHIFT | ip_len;
    let command = E1000_ADVTXD_DTYP_CTXT | E1000_ADVTXD_DCMD_DEXT | E1000_ADVTXD_TUCMD_IPV4 | l4;
    Some((u64::from(lengths), u64::from(command)))
}

impl IgbTxRing {
    /// Writes the next descriptor; its index.
    fn put(&mut self, low: u64, high: u64) -> usize {
        let index = self.next_to_use;
        self.desc.write64(index * DESC, low);
        self.desc.write64(index * DESC + 8, high);
        self.next_to_use = if index + 1 == self.buffers.len() { 0 } else { index + 1 };
        index
    }

    /// Copies a frame into the buffers from descriptor `first` on, with zeros behind it up to `len`.
    fn copy_frame(&self, first: usize, skb: &SkBuff, len: usize) {
        let mut at = 0;
        let padding = &[0; MIN_TX][..len - skb.len()];
        for mut part in skb.parts().chain(std::iter::once(padding)) {
            while !part.is_empty() {
                let index = (first + at / IGB_BUFSZ) % self.buffers.len();
                let (now, rest) = part.split_at(part.len().min(IGB_BUFSZ - at % IGB_BUFSZ));
                // The index is in the ring and the piece ends in its buffer.
                let _ = self.data.write_bytes(index * IGB_BUFSZ + at % IGB_BUFSZ, now);
                at += now.len();
                part = rest;
            }
        }
    }

    /// Takes sent packets off the ring, at most [`IGB_DEFAULT_TX_WORK`].
    fn reap(&mut self, sent: &mut VecDeque<Skb>) -> Reaped {
        let mut reaped = Reaped::default();
        while reaped.packets < IGB_DEFAULT_TX_WORK && self.next_to_clean != self.next_to_use {
            let buffer = &mut self.buffers[self.next_to_clean];
            let status = self.desc.read32_acquire(buffer.next_to_watch * DESC + 12);
            if status & E1000_TXD_STAT_DD == 0 {
                break;
            }
            sent.extend(buffer.skb.take());
            reaped.packets += 1;
            reaped.bytes += buffer.bytecount;
            let next = buffer.next_to_watch + 1;
            self.next_to_clean = if next == self.buffers.len() { 0 } else { next };
        }
        reaped.unused = self.unused();
        reaped
    }
}

/// What a look at a ring found sent.
#[derive(Default)]
struct Reaped {
    packets: usize,
    bytes: u32,
    unused: usize,
}

/// Writes a packet's descriptors; the packet stays with the first of them. Its bytes in the ring.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map
fn igb_tx_map(
    cx: &BhCx<'_>,
    (q, ring): (&IgbQVector, &mut IgbTxRing),
    skb: Skb,
    context: Option<(u64, u64)>,
) -> u32 {
    walk!(cx, skb, igb_tx_map);
    let first = ring.next_to_use;
    let mut options = 0;
    if let Some((low, high)) = context {
        options = E1000_TXD_POPTS_TXSM;
        if ring.context != context {
            ring.put(low, high);
            ring.context = context;
        }
    }
    let len = skb.len().max(MIN_TX);
    ring.copy_frame(ring.next_to_use, &skb, len);
    if skb.walk_id.watched() {
        let buffer = ring.data.bus_addr() + (ring.next_to_use * IGB_BUFSZ) as u64;
        q.hw.pdev.trace_tx(buffer, skb.walk_id.0);
    }
    let options = options | (len as u32) << E1000_ADVTXD_PAYLEN_SHIFT;
    let command = E1000_ADVTXD_DTYP_DATA | E1000_ADVTXD_DCMD_DEXT | E1000_ADVTXD_DCMD_IFCS;
    let (mut left, mut last) = (len, first);
    while left != 0 {
        let size = left.min(IGB_BUFSZ);
        left -= size;
        let end = if left == 0 { E1000_ADVTXD_DCMD_EOP | E1000_ADVTXD_DCMD_RS } else { 0 };
        let buffer = ring.data.bus_addr() + (ring.next_to_use * IGB_BUFSZ) as u64;
        last = ring.put(buffer, u64::from(options) << 32 | u64::from(command | end | size as u32));
    }
    let bytecount = len as u32;
    ring.buffers[first] = IgbTxBuffer { skb: Some(skb), next_to_watch: last, bytecount };
    bytecount
}

/// Tells the device what was put into the ring, if anything was. No lock is held: the device may send at once, and its
/// partner interrupt.
pub(super) fn ring_doorbell(q: &IgbQVector) {
    let tail = q.tx_tail.load(Ordering::Relaxed);
    if q.tx_rung.load(Ordering::Relaxed) != tail {
        q.tx_rung.store(tail, Ordering::Relaxed);
        q.hw.wr32(E1000_TDT(q.index), tail);
    }
}

/// Ends the packets that were sent and opens the queue when there is room again; false when there may be more.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq
pub(super) fn igb_clean_tx_irq(
    cx: &mut BhCx<'_>,
    q: &IgbQVector,
    dev: &Arc<NetDevice>,
    state: &mut IgbPollState,
) -> bool {
    walk!(cx, igb_clean_tx_irq => u64::from(q.index));
    let reaped = match q.tx.lock().as_mut() {
        Some(ring) => ring.reap(&mut state.sent),
        None => return true,
    };
    while let Some(skb) = state.sent.pop_front() {
        consume_skb(cx, skb);
    }
    q.stats.tx_packets.add(reaped.packets as u64);
    q.stats.tx_bytes.add(u64::from(reaped.bytes));
    state.itr.tx_packets += reaped.packets as u32;
    state.itr.tx_bytes += reaped.bytes;
    let Some(txq) = dev.tx_queues.get(q.index as usize) else { return true };
    // Whether this opened the queue is seen below, together with what else may have.
    let _opened = txq.bql.completed(reaped.bytes);
    if dev.carrier() && reaped.unused >= TX_WAKE_THRESHOLD && !q.hw.is_down() {
        if txq.stopped() {
            q.stats.tx_restart.add(1);
        }
        dev.netif_wake_subqueue(cx, q.index as u16);
    }
    if txq.qdisc().qlen() != 0 && !txq.stopped() {
        __netif_schedule(cx, txq.qdisc());
    }
    reaped.packets < IGB_DEFAULT_TX_WORK
}

/// Ends what a stopped ring still holds: it is not sent any more.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_ring
pub(super) fn igb_clean_tx_ring(cx: &mut TaskCx, q: &IgbQVector, dev: &NetDevice) {
    let unsent: Vec<Skb> = match q.tx.lock().as_mut() {
        Some(ring) => {
            ring.next_to_use = 0;
            ring.next_to_clean = 0;
            ring.context = None;
            ring.buffers.iter_mut().filter_map(|buffer| buffer.skb.take()).collect()
        }
        None => return,
    };
    q.tx_tail.store(0, Ordering::Relaxed);
    q.tx_rung.store(0, Ordering::Relaxed);
    cx.local_bh_disable(|bh| {
        for skb in unsent {
            kfree_skb(bh, skb, DropReason::DevReady);
        }
    });
    if let Some(txq) = dev.tx_queues.get(q.index as usize) {
        txq.bql.reset();
    }
}
