//! Transmit: packets into the ring, and their end when the device has sent them.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Contexts: sending in BH, one CPU a queue at a time (its qdisc);
//! cleaning in the queue's poll. Locks: `class::Ring`, the transmit ring's, at a batch's first packet and at its end, and
//! once a poll that finds more sent; no packet ends and no doorbell rings under it.
//! Invariants: a packet stays until its last descriptor is written back; the doorbell is rung once a batch, after what
//! it tells of was handed to the cleaner and is known to the queue's limit.
//! DIVERGES: mapping is copying into the descriptor's own buffer, so that no memory of the stack is ever the device's.
//! A context descriptor is left out when the queue has the same one already. The queue's byte limit is told a full
//! frame's worth at a time, and of the rest before the doorbell.

use super::super::e1000_regs::*;
use super::super::igb::*;
use klib::checksum::{csum_fold, csum_tcpudp_nofold};
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::tx::__netif_schedule;
use stack::net::core::dev::{NetDevice, NetdevQueue};
use stack::net::core::gso::skb_gso_headers;
use stack::net::core::skbuff::{
    GsoType, IpSummed, SkBuff, Skb, consume_skb, kfree_skb, skb_cow_head,
};
use stack::walk;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use uapi::if_ether::ETH_P_IP;
use uapi::ip::{IPPROTO_TCP, IpHdr};
use uapi::tcp::TcpHdr;
use zerocopy::FromBytes;

/// The device pads to 60 bytes what has at least 17.
const MIN_TX: usize = 17;
/// Bytes after which the queue's limit is told: a full frame. Until then it is not worth a locked instruction.
const BILL_AT: u32 = 1514;
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
    if skb.len() == 0 || (skb.len() > MAX_FRAME && skb.gso.size == 0) {
        vector.q.stats.tx_dropped.add(1);
        kfree_skb(cx, skb, DropReason::PktTooBig);
        return Ok(());
    }
    igb_xmit_frame_ring(cx, &vector.q, dev, skb)
}

/// Reserves descriptors, prepares the checksum, fills the ring.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_xmit_frame_ring
#[inline(always)]
fn igb_xmit_frame_ring(
    cx: &mut BhCx<'_>,
    q: &IgbQVector,
    dev: &Arc<NetDevice>,
    mut skb: Skb,
) -> Result<(), Skb> {
    walk!(cx, skb, igb_xmit_frame_ring);
    let offload = if skb.gso.size != 0 { igb_tso(cx, &mut skb) } else { igb_tx_csum(cx, &mut skb) };
    let Ok(offload) = offload else {
        q.stats.tx_dropped.add(1);
        kfree_skb(cx, skb, DropReason::SkbCsum);
        return Ok(());
    };
    if q.hw.is_down() {
        return drop_unsent(cx, q, skb);
    }
    // With so much room, no packet of one segment fills the ring.
    let room = q.tx_room.load(Ordering::Relaxed) as usize;
    let roomy = room >= TX_WAKE_THRESHOLD
        && (skb.gso.size == 0 || room >= descriptors_needed(&skb) + DESC_NEEDED);
    if !roomy && igb_maybe_stop_tx(q, dev, descriptors_needed(&skb)) {
        q.stats.tx_busy.add(1);
        return Err(skb);
    }
    if let Err(skb) = igb_tx_map(cx, (q, dev), skb, offload) {
        return drop_unsent(cx, q, skb);
    }
    if !roomy {
        igb_maybe_stop_tx(q, dev, DESC_NEEDED);
    }
    Ok(())
}

/// A packet's buffers, a context, and a gap of two.
fn descriptors_needed(skb: &SkBuff) -> usize {
    skb.len().max(MIN_TX).div_ceil(IGB_BUFSZ) + 3
}

/// The device goes down: a packet that nobody sends any more.
#[cold]
fn drop_unsent(cx: &mut BhCx<'_>, q: &IgbQVector, skb: Skb) -> Result<(), Skb> {
    q.stats.tx_dropped.add(1);
    kfree_skb(cx, skb, DropReason::DevReady);
    Ok(())
}

/// Stops the queue unless `needed` descriptors are free. Having stopped it, looks once more: the cleaner looks whether
/// it is stopped after saying how far he is, so that neither misses the other.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_maybe_stop_tx
#[cold]
fn igb_maybe_stop_tx(q: &IgbQVector, dev: &NetDevice, needed: usize) -> bool {
    let lacks_room = || {
        let unused = q.tx_unused();
        q.tx_room.store(unused as u32, Ordering::Relaxed);
        unused < needed
    };
    if !lacks_room() {
        return false;
    }
    dev.netif_stop_subqueue(q.index as u16);
    if lacks_room() {
        return true;
    }
    // Nobody waits: whoever sends here is in the middle of it.
    dev.netif_start_subqueue(q.index as u16);
    false
}

/// The sender of `q`, where the batch has it.
#[inline]
fn sender<'a>(cx: &'a mut BhCx<'_>, q: &IgbQVector) -> Option<&'a mut IgbTxSender> {
    let sender = cx.xmit_batch().as_mut()?.downcast_mut::<IgbTxSender>()?;
    (sender.q_addr == std::ptr::from_ref(q).addr()).then_some(sender)
}

/// The first packet of a batch takes the sender out of the ring.
#[inline(never)]
fn begin_batch(cx: &mut BhCx<'_>, q: &IgbQVector) {
    // Another queue's, whose batch goes on or was never ended.
    if let Some(Ok(sender)) = cx.xmit_batch().take().map(|other| other.downcast::<IgbTxSender>())
        && let Some(other) = sender.q.upgrade()
    {
        put_back(&other, sender);
    }
    let taken = q.tx.lock().as_mut().and_then(|ring| ring.sender.take());
    *cx.xmit_batch() = taken.map(|sender| sender as _);
}

/// Brings the sender home, and what it sent to where the cleaner finds it.
fn put_back(q: &IgbQVector, mut sender: Box<IgbTxSender>) {
    let mut ring = q.tx.lock();
    // One that was away while its ring went keeps what it has until it ends, here.
    if let Some(ring) = ring.as_mut().filter(|ring| ring.sender.is_none()) {
        ring.handed.append(&mut sender.packets);
        ring.sender = Some(sender);
    }
}

/// What a packet asks of the device.
#[derive(Clone, Copy, Default)]
struct TxOffload {
    /// Where its headers lie.
    context: Option<TxContext>,
    /// It is cut: octets of its headers.
    tso: Option<usize>,
}

/// The context for cutting a packet into segments. The lengths in the headers, and what depends on them, are left
/// to the device.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_tso
#[cold]
#[inline(never)]
fn igb_tso(cx: &mut BhCx<'_>, skb: &mut Skb) -> Result<TxOffload, ()> {
    let context = tx_context(skb).filter(|_| skb.gso.kind == GsoType::Tcpv4).ok_or(())?;
    if !skb_cow_head(cx, skb, 0) {
        return Err(());
    }
    let mss = u64::from(skb.gso.size);
    let network = usize::try_from(skb.network_offset()).map_err(drop)?;
    let (transport, headers) = skb_gso_headers(skb).ok_or(())?;
    let (front, rest) =
        skb.data_mut().and_then(|data| data.split_at_mut_checked(transport)).ok_or(())?;
    let (iph, _) = IpHdr::mut_from_prefix(front.get_mut(network..).ok_or(())?).map_err(drop)?;
    let (th, _) = TcpHdr::mut_from_prefix(rest).map_err(drop)?;
    iph.tot_len.set(0);
    iph.check.set(0);
    let pseudo = csum_tcpudp_nofold(iph.saddr.get(), iph.daddr.get(), 0, IPPROTO_TCP, 0);
    th.check.set(!csum_fold(pseudo));
    let own = (headers - transport) as u64;
    let segmentation = mss << E1000_ADVTXD_MSS_SHIFT | own << E1000_ADVTXD_L4LEN_SHIFT;
    let context = TxContext::new(context.get() | segmentation << CONTEXT_W3);
    Ok(TxOffload { context, tso: Some(headers) })
}

/// The context for a checksum that the device is to fill in. What it cannot do is done here; `Err`: not even that.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_csum
#[inline]
fn igb_tx_csum(cx: &mut BhCx<'_>, skb: &mut Skb) -> Result<TxOffload, ()> {
    walk!(cx, skb, igb_tx_csum);
    if skb.ip_summed != IpSummed::Partial {
        return Ok(TxOffload::default());
    }
    match tx_context(skb) {
        context @ Some(_) => Ok(TxOffload { context, tso: None }),
        None if skb_cow_head(cx, skb, 0) && skb.skb_checksum_help() => Ok(TxOffload::default()),
        None => Err(()),
    }
}

/// Where the words of a context descriptor lie in what is kept of it: lengths, segmentation, command.
const CONTEXT_W3: u32 = 16;
const CONTEXT_W2: u32 = 48;

/// The descriptor of a context.
fn context_descriptor(context: TxContext) -> (u64, u64) {
    let kept = context.get();
    let (w0, w3) = (kept & 0xffff, kept >> CONTEXT_W3 & u64::from(u32::MAX));
    let w2 = E1000_ADVTXD_DTYP_CTXT | E1000_ADVTXD_DCMD_DEXT | (kept >> CONTEXT_W2) as u32;
    (w0, w3 << 32 | u64::from(w2))
}

/// The context descriptor; `None` when the packet is of no kind that the device knows.
#[inline]
fn tx_context(skb: &SkBuff) -> Option<TxContext> {
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
    let command = E1000_ADVTXD_TUCMD_IPV4 | l4;
    TxContext::new(u64::from(command) << CONTEXT_W2 | u64::from(lengths))
}

impl IgbTxSender {
    /// Copies a frame into the buffers from descriptor `first` on, with zeros behind it up to `len`.
    #[inline(never)]
    fn copy_frame(&self, first: usize, skb: &SkBuff, len: usize) {
        let mut at = 0;
        let padding = &[0; MIN_TX][..len - skb.len()];
        for mut part in skb.parts().chain(std::iter::once(padding)) {
            while !part.is_empty() {
                let index = (first + at / IGB_BUFSZ) % self.data.count();
                let (now, rest) = part.split_at(part.len().min(IGB_BUFSZ - at % IGB_BUFSZ));
                // The index is in the ring and the piece ends in its buffer.
                let at_byte = index * IGB_BUFSZ + at % IGB_BUFSZ;
                let _ = self.data.buf().write_bytes(at_byte, now);
                at += now.len();
                part = rest;
            }
        }
    }

    /// Writes the data descriptors of a frame of `len` bytes from `first` on; the last of them.
    #[inline(never)]
    fn describe_all(&self, first: usize, len: usize, words: (u32, u32)) -> usize {
        let (mut left, mut index) = (len, first);
        loop {
            let size = left.min(IGB_BUFSZ);
            left -= size;
            self.describe(index, size, words, left == 0);
            if left == 0 {
                return index;
            }
            index = self.desc.after(index);
        }
    }

    /// Writes a data descriptor: `size` bytes of a packet of which the words tell command and options, and whether
    /// they are the last.
    #[inline(always)]
    fn describe(&self, index: usize, size: usize, (command, options): (u32, u32), last: bool) {
        let end = if last { E1000_ADVTXD_DCMD_EOP | E1000_ADVTXD_DCMD_RS } else { 0 };
        let high = u64::from(options) << 32 | u64::from(command | end | size as u32);
        self.desc.write_pair(index, self.data.bus_addr(index), high);
    }
}

/// Writes a packet's descriptors. `Err` gives it back: the ring has gone.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map
#[inline(always)]
fn igb_tx_map(
    cx: &mut BhCx<'_>,
    (q, dev): (&IgbQVector, &NetDevice),
    skb: Skb,
    offload: TxOffload,
) -> Result<(), Skb> {
    walk!(cx, skb, igb_tx_map);
    let sender = match self::sender(cx, q) {
        Some(sender) => sender,
        None => {
            begin_batch(cx, q);
            match self::sender(cx, q) {
                Some(sender) => sender,
                None => return Err(skb),
            }
        }
    };
    let mut first = q.tx_tail.load(Ordering::Relaxed) as usize;
    let (mut options, mut used) = (0, 1);
    if let Some(wanted) = offload.context {
        options = E1000_TXD_POPTS_TXSM;
        if sender.context != offload.context {
            let (low, high) = context_descriptor(wanted);
            sender.desc.write_pair(first, low, high);
            sender.context = offload.context;
            first = sender.desc.after(first);
            used = 2;
        }
    }
    if skb.walk_id.watched() {
        q.hw.pdev.trace_tx(sender.data.bus_addr(first), skb.walk_id.0);
    }
    let mut command = E1000_ADVTXD_DTYP_DATA | E1000_ADVTXD_DCMD_DEXT | E1000_ADVTXD_DCMD_IFCS;
    let mut bytes = skb.len();
    if let Some(headers) = offload.tso {
        command |= E1000_ADVTXD_DCMD_TSE;
        options |= E1000_TXD_POPTS_IXSM;
        options |= ((bytes - headers) as u32) << E1000_ADVTXD_PAYLEN_SHIFT;
        // What passes the link: each segment has the headers.
        bytes += usize::from(skb.gso.segs.saturating_sub(1)) * headers;
    } else {
        bytes = bytes.max(MIN_TX);
        options |= (bytes as u32) << E1000_ADVTXD_PAYLEN_SHIFT;
    }
    let words = (command, options);
    let len = skb.len();
    let last = if len == skb.headlen() && (MIN_TX..=IGB_BUFSZ).contains(&len) {
        // The usual case: one piece, one buffer, which it fits.
        let _ = sender.data.write_bytes(first, skb.data());
        sender.describe(first, len, words, true);
        first
    } else {
        let len = len.max(MIN_TX);
        used += len.div_ceil(IGB_BUFSZ) as u32 - 1;
        sender.copy_frame(first, &skb, len);
        sender.describe_all(first, len, words)
    };
    q.tx_tail.store(sender.desc.after(last) as u32, Ordering::Relaxed);
    q.tx_room.store(q.tx_room.load(Ordering::Relaxed).saturating_sub(used), Ordering::Relaxed);
    let bytecount = bytes as u32;
    let buffer = IgbTxBuffer { skb, next_to_watch: last as u32, bytecount };
    sender.packets.push(buffer);
    let unbilled = q.tx_unbilled.load(Ordering::Relaxed) + bytecount;
    q.tx_unbilled.store(unbilled, Ordering::Relaxed);
    if unbilled >= BILL_AT {
        bill(q, dev);
    }
    Ok(())
}

/// Tells the queue's limit of the bytes that were put into the ring.
fn bill(q: &IgbQVector, dev: &NetDevice) {
    let bytes = q.tx_unbilled.load(Ordering::Relaxed);
    q.tx_unbilled.store(0, Ordering::Relaxed);
    if let Some(txq) = dev.tx_queues.get(q.index as usize) {
        txq.bql.sent(bytes);
    }
}

/// The batch is over: tells the device what was put into the ring, if anything was. No lock is held: the device may send
/// at once, and its partner interrupt.
pub(super) fn ring_doorbell(cx: &mut BhCx<'_>, q: &IgbQVector, dev: &NetDevice) {
    if sender(cx, q).is_some()
        && let Some(Ok(sender)) = cx.xmit_batch().take().map(|batch| batch.downcast())
    {
        put_back(q, sender);
    }
    let tail = q.tx_tail.load(Ordering::Relaxed);
    if q.tx_rung.load(Ordering::Relaxed) != tail {
        bill(q, dev);
        q.tx_rung.store(tail, Ordering::Release);
        q.hw.wr32(q.tdt, tail);
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
    let Some(txq) = dev.tx_queues.get(q.index as usize) else { return true };
    let rung = q.tx_rung.load(Ordering::Acquire);
    let nothing_out = state.tx.seen == rung && state.tx.packets.is_empty();
    let all_seen = nothing_out || end_sent(cx, (q, txq), state, rung);
    if txq.stopped() && dev.carrier() && q.tx_unused() >= TX_WAKE_THRESHOLD && !q.hw.is_down() {
        q.stats.tx_restart.add(1);
        dev.netif_wake_subqueue(cx, q.index as u16);
    }
    if txq.qdisc().qlen() != 0 && !txq.stopped() {
        __netif_schedule(cx, txq.qdisc());
    }
    all_seen
}

/// Takes over what was handed over, up to `rung`, and ends what of all was sent; false when there may be more.
#[inline(never)]
fn end_sent(
    cx: &mut BhCx<'_>,
    (q, txq): (&IgbQVector, &NetdevQueue),
    state: &mut IgbPollState,
    rung: u32,
) -> bool {
    let IgbPollState { tx, tx_itr, .. } = state;
    if tx.seen != rung {
        tx.seen = rung;
        if let Some(ring) = q.tx.lock().as_mut() {
            tx.packets.append(&mut ring.handed);
        }
    }
    let (mut packets, mut bytes) = (0, 0);
    while packets < IGB_DEFAULT_TX_WORK
        && let Some(buffer) = tx.next_sent()
    {
        packets += 1;
        bytes += buffer.bytecount;
        let behind = tx.desc.after(buffer.next_to_watch as usize);
        q.tx_clean.store(behind as u32, Ordering::Relaxed);
        consume_skb(cx, buffer.skb);
    }
    if packets != 0 {
        q.stats.tx_packets.add(packets as u64);
        q.stats.tx_bytes.add(u64::from(bytes));
        tx_itr.total_packets += packets as u32;
        tx_itr.total_bytes += bytes;
        // Whether this opened the queue is seen by the caller, together with what else may have.
        let _opened = txq.bql.completed(bytes);
        // How far we are comes before the look whether the queue is stopped; see `igb_maybe_stop_tx`.
        fence(Ordering::SeqCst);
    }
    packets < IGB_DEFAULT_TX_WORK
}

impl IgbTxCleaner {
    /// The first packet, when the device has sent it.
    #[inline]
    fn next_sent(&mut self) -> Option<IgbTxBuffer> {
        let desc = &self.desc;
        self.packets.pop_if(|first| {
            let status = (desc.read_high_acquire(first.next_to_watch as usize) >> 32) as u32;
            status & E1000_TXD_STAT_DD != 0
        })
    }
}

/// Ends what a stopped ring still holds: it is not sent any more.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_ring
pub(super) fn igb_clean_tx_ring(cx: &mut TaskCx, q: &IgbQVector, dev: &NetDevice) {
    let mut unsent = Vec::new();
    if let Some(state) = q.take_poll().get() {
        unsent.extend(state.tx.packets.drain());
        state.tx.seen = 0;
    }
    if let Some(ring) = q.tx.lock().as_mut() {
        unsent.extend(ring.handed.drain());
        if let Some(sender) = &mut ring.sender {
            sender.context = None;
        }
    }
    q.tx_start_over();
    cx.local_bh_disable(|bh| {
        for buffer in unsent {
            kfree_skb(bh, buffer.skb, DropReason::DevReady);
        }
    });
    if let Some(txq) = dev.tx_queues.get(q.index as usize) {
        txq.bql.reset();
    }
}
