//! Receive: frames out of the ring into packets.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Contexts: the poll, BH; filling and emptying the ring also in
//! tasks, with the device down. No lock: the ring is on loan.
//! Invariants: status and length of a descriptor are read once, together, after which its data are; a length beyond the
//! buffer is an error, never an access; a poll looks at no more descriptors than its budget.
//! DIVERGES: a frame is copied out of its buffers, which stay mapped (Linux hands pages up). One that finds no memory is
//! dropped (Linux leaves it in the ring). The budget is of descriptors, whatever is in them (Linux counts good frames).

use super::super::e1000_regs::*;
use super::super::igb::*;
use stack::kernel::context::{BhCx, TaskCx, Walker};
use stack::kernel::trace::{WalkId, drop_reason::DropReason};
use stack::net::core::dev::{NetDevice, NetdevFeatures, napi_gro_receive};
use stack::net::core::skbuff::{IpSummed, Skb, kfree_skb, netdev_alloc_frame, netdev_alloc_skb};
use stack::net::ethernet::eth::eth_type_trans;
use stack::walk;
use std::sync::Arc;

/// A descriptor that the device wrote back.
#[derive(Clone, Copy)]
struct RxDesc {
    /// The flow's hash and of what kind it is.
    hash: u64,
    /// Status and errors, and above them the length.
    word: u64,
}

impl RxDesc {
    /// Status and errors.
    #[inline]
    fn status(self) -> u32 {
        self.word as u32
    }

    #[inline]
    fn is(self, bits: u32) -> bool {
        self.status() & bits != 0
    }

    /// Bytes in its buffer, as the device says.
    #[inline]
    fn len(self) -> usize {
        (self.word >> 32) as usize & 0xFFFF
    }
}

/// Hands received frames up, of up to `budget` descriptors; how many there were. Those of longer frames and of bad ones
/// count each: they are work too.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq
// Part of the poll, which is not to pay for being called from elsewhere, too.
#[inline(always)]
pub(super) fn igb_clean_rx_irq(
    cx: &mut BhCx<'_>,
    (q, dev): (&IgbQVector, &Arc<NetDevice>),
    state: &mut IgbPollState,
    budget: u32,
) -> u32 {
    walk!(cx, igb_clean_rx_irq => u64::from(q.index));
    let IgbPollState { rx, rx_itr, .. } = state;
    let mut list = cx.skb_list();
    let (mut bytes, mut left) = (0, budget);
    while left != 0
        && let Some(desc) = next_done(rx)
    {
        left -= 1;
        if let Some(mut skb) = igb_fetch_rx_buffer(cx, (q, dev), rx, desc) {
            bytes += skb.len() as u32;
            igb_process_skb_fields(q, dev.features(), desc, &mut skb);
            list.push(skb);
        }
        if rx.unused >= IGB_RX_BUFFER_WRITE {
            igb_alloc_rx_buffers(cx, q, rx);
        }
    }
    let packets = list.len() as u32;
    let protocol = eth_type_trans(cx, &mut list, dev);
    napi_gro_receive(cx, list, dev, protocol);
    if rx.unused != 0 {
        igb_alloc_rx_buffers(cx, q, rx);
    }
    q.stats.rx_packets.add(u64::from(packets));
    q.stats.rx_bytes.add(u64::from(bytes));
    rx_itr.total_packets += packets;
    rx_itr.total_bytes += bytes;
    budget - left
}

/// The next descriptor, if the device has written it back. One acquiring read of status and length.
#[inline]
fn next_done(rx: &IgbRxRing) -> Option<RxDesc> {
    let (hash, word) = rx.desc.read_pair_acquire(rx.next_to_clean);
    let desc = RxDesc { hash, word };
    desc.is(E1000_RXD_STAT_DD).then_some(desc)
}

/// Takes a descriptor off the ring and its bytes with it; the packet when this was its last.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_fetch_rx_buffer
#[inline(always)]
fn igb_fetch_rx_buffer(
    cx: &mut BhCx<'_>,
    (q, dev): (&IgbQVector, &Arc<NetDevice>),
    rx: &mut IgbRxRing,
    desc: RxDesc,
) -> Option<Skb> {
    let index = rx.next_to_clean;
    rx.next_to_clean = rx.desc.after(index);
    rx.unused += 1;
    // As it goes back: with its own buffer, whose bytes are there until the device is told, and not done.
    rx.desc.write_pair(index, rx.data.bus_addr(index), 0);
    let good =
        desc.status() & (E1000_RXD_STAT_EOP | E1000_RXDEXT_STATERR_RXE) == E1000_RXD_STAT_EOP;
    if !good || desc.len() > IGB_BUFSZ || rx.begun {
        return fetch_part(cx, (q, dev), (rx, index), desc);
    }
    // The usual case: the whole frame, in one buffer.
    let mut copied = false;
    let copy = |to: &mut [u8]| copied = rx.data.read_bytes(index, to).is_ok();
    let Some(mut skb) = netdev_alloc_frame(cx, desc.len(), copy) else {
        q.stats.rx_drops.add(1);
        return None;
    };
    if cx.machine().tracer.on() {
        watch(cx, (q, dev), (rx, index), &mut skb);
    }
    if !copied {
        q.stats.rx_length_errors.add(1);
        kfree_skb(cx, skb, DropReason::NotSpecified);
        return None;
    }
    Some(skb)
}

/// A descriptor that is not a good frame by itself: part of a longer one, or of one to be dropped.
#[cold]
#[inline(never)]
fn fetch_part(
    cx: &mut BhCx<'_>,
    (q, dev): (&IgbQVector, &Arc<NetDevice>),
    (rx, index): (&mut IgbRxRing, usize),
    desc: RxDesc,
) -> Option<Skb> {
    let whole = add_part(cx, (q, dev), (rx, index), desc);
    rx.begun = rx.skipping || rx.skb.is_some();
    whole
}

fn add_part(
    cx: &mut BhCx<'_>,
    (q, dev): (&IgbQVector, &Arc<NetDevice>),
    (rx, index): (&mut IgbRxRing, usize),
    desc: RxDesc,
) -> Option<Skb> {
    let last = desc.is(E1000_RXD_STAT_EOP);
    if rx.skipping {
        rx.skipping = !last;
        return None;
    }
    if desc.len() > IGB_BUFSZ || last && desc.is(E1000_RXDEXT_STATERR_RXE) {
        q.stats.rx_errors.add(1);
        return igb_abandon(cx, rx, last);
    }
    let begun = rx.skb.take();
    let room = if last { desc.len() } else { MAX_FRAME };
    let Some(mut skb) = begun.or_else(|| new_frame(cx, (q, dev), (rx, index), room)) else {
        q.stats.rx_drops.add(1);
        return igb_abandon(cx, rx, last);
    };
    if !take_bytes((rx, index), desc.len(), &mut skb) {
        q.stats.rx_length_errors.add(1);
        rx.skb = Some(skb);
        return igb_abandon(cx, rx, last);
    }
    if last {
        return Some(skb);
    }
    rx.skb = Some(skb);
    None
}

/// Copies `len` bytes of a descriptor's buffer behind what the packet has; false when there is no room.
fn take_bytes((rx, index): (&IgbRxRing, usize), len: usize, skb: &mut Skb) -> bool {
    skb.skb_put(len).is_some_and(|to| rx.data.read_bytes(index, to).is_ok())
}

/// Drops what there is of a frame, and what comes of it until its end.
fn igb_abandon(cx: &mut BhCx<'_>, rx: &mut IgbRxRing, last: bool) -> Option<Skb> {
    rx.skipping = !last;
    if let Some(skb) = rx.skb.take() {
        kfree_skb(cx, skb, DropReason::NotSpecified);
    }
    None
}

/// A packet for a frame in parts, of up to `room` bytes.
fn new_frame(
    cx: &mut BhCx<'_>,
    (q, dev): (&IgbQVector, &Arc<NetDevice>),
    (rx, index): (&IgbRxRing, usize),
    room: usize,
) -> Option<Skb> {
    let mut skb = netdev_alloc_skb(cx, dev.ifindex, room)?;
    if cx.machine().tracer.on() {
        watch(cx, (q, dev), (rx, index), &mut skb);
    }
    Some(skb)
}

/// Gives a packet the id that the walk knows its frame by.
#[cold]
fn watch(
    cx: &BhCx<'_>,
    (q, dev): (&IgbQVector, &NetDevice),
    (rx, index): (&IgbRxRing, usize),
    skb: &mut Skb,
) {
    skb.dev = Some(dev.ifindex);
    skb.walk_id = WalkId(q.hw.pdev.trace_rx(rx.data.bus_addr(index)));
    cx.link_span(skb);
}

/// What the device says of the frame: hash, checksum; and its queue.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_process_skb_fields
#[inline(always)]
fn igb_process_skb_fields(q: &IgbQVector, features: NetdevFeatures, desc: RxDesc, skb: &mut Skb) {
    if features.contains(NetdevFeatures::RXHASH) {
        igb_rx_hash(desc.hash, skb);
    }
    if features.contains(NetdevFeatures::RXCSUM) {
        igb_rx_checksum(q, desc, skb);
    }
    skb.queue_mapping = q.index as u16 + 1;
}

/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_rx_hash
#[inline]
fn igb_rx_hash(word: u64, skb: &mut Skb) {
    const L3: u32 = 1 << E1000_RXDADV_RSSTYPE_IPV4 | 1 << E1000_RXDADV_RSSTYPE_IPV6;
    let kind = word as u32 & E1000_RXDADV_RSSTYPE_MASK;
    if kind != 0 {
        skb.hash = (word >> 32) as u32;
        skb.l4_hash = L3 >> kind & 1 == 0;
    }
}

/// Believes the device when it has checked the transport's checksum and found nothing wrong.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_rx_checksum
#[inline]
fn igb_rx_checksum(q: &IgbQVector, desc: RxDesc, skb: &mut Skb) {
    if desc.is(E1000_RXD_STAT_IXSM) {
        return;
    }
    if desc.is(E1000_RXDEXT_STATERR_L4E | E1000_RXDEXT_STATERR_IPE) {
        // The stack looks itself, and counts.
        q.stats.rx_csum_err.add(1);
    } else if desc.is(E1000_RXD_STAT_TCPCS | E1000_RXD_STAT_UDPCS) {
        skb.ip_summed = IpSummed::Unnecessary;
    }
}

/// Gives the device every descriptor that is free and tells it once.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers
#[inline]
pub(super) fn igb_alloc_rx_buffers(cx: &impl Walker, q: &IgbQVector, rx: &mut IgbRxRing) {
    walk!(cx, igb_alloc_rx_buffers => rx.unused as u64);
    rx.next_to_use = rx.desc.ahead(rx.next_to_use, rx.unused);
    rx.unused = 0;
    q.hw.wr32(q.rdt, rx.next_to_use as u32);
}

/// Ends what a stopped ring still holds.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_ring
pub(super) fn igb_clean_rx_ring(cx: &mut TaskCx, q: &IgbQVector) {
    let mut taken = q.take_poll();
    let Some(state) = taken.get() else { return };
    state.rx.skipping = false;
    state.rx.begun = false;
    state.rx.start_over();
    if let Some(skb) = state.rx.skb.take() {
        cx.local_bh_disable(|bh| kfree_skb(bh, skb, DropReason::NotSpecified));
    }
}
