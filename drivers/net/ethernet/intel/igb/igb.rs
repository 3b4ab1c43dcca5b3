//! What the driver keeps: adapter, vectors, rings.
//!
//! linux: drivers/net/ethernet/intel/igb/igb.h. Key types: [`IgbAdapter`], [`IgbQVector`], [`IgbTxRing`],
//! [`IgbPollState`] with [`IgbRxRing`], [`IgbOptions`].
//! Contexts: see each function. Locks: `class::Ring`: where sender and cleaner of a transmit ring meet (perhaps on two
//! CPUs), the hardware counters, the interrupt lines. None is held over a call upward, the end of a packet, or a
//! doorbell.
//! Invariants: the receive ring and what is to be cleaned belong to whoever took them out of their slot, and SCHED makes
//! that one; the sender's half of a transmit ring lies in its CPU's batch from the first packet to the doorbell, so that
//! a packet takes no lock; buffers are mapped when the device goes up and stay; whatever descriptors and registers say,
//! only these buffers are read.
//! DIVERGES: a vector always serves one receive and one transmit queue (Linux splits them when there are few).

use super::e1000_regs::*;
use crate::pci::{DmaRing, PciDev};
use crossbeam_utils::atomic::AtomicCell;
use stack::kernel::irq::IrqLine;
use stack::kernel::locking::{SpinLock, lockdep::class};
use stack::net::core::dev::{NapiStruct, NetDevice};
use stack::net::core::skbuff::Skb;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Descriptors of a ring when nothing else is said.
pub(super) const IGB_DEFAULT_RING: u32 = 256;
/// The fewest descriptors of a ring.
pub(super) const IGB_MIN_RING: u32 = 80;
/// The most descriptors of a ring.
pub(super) const IGB_MAX_RING: u32 = 4096;
/// Ring sizes are a multiple of this.
pub(super) const RING_MULTIPLE: u32 = 8;
/// Most pairs of queues.
pub(super) const IGB_MAX_QUEUES: usize = 8;
/// Bytes of a buffer, of either direction.
pub(super) const IGB_BUFSZ: usize = 2048;
/// The longest frame in either direction, jumbo frames with everything around them.
pub(super) const MAX_FRAME: usize = 9728;
/// Descriptors given to the device at a time, at least.
pub(super) const IGB_RX_BUFFER_WRITE: usize = 16;
/// Sent packets a poll ends.
pub(super) const IGB_DEFAULT_TX_WORK: usize = 128;
/// The largest MTU.
pub(super) const MAX_STD_JUMBO_MTU: u32 = 9216;
/// A ring's descriptors, of two words each.
pub(super) type Descriptors = DmaRing<2>;
/// A ring's buffers, one a descriptor.
pub(super) type Buffers = DmaRing<{ IGB_BUFSZ / 8 }>;
/// A full frame's buffers, its context and a gap that keeps the tail off the head.
pub(super) const DESC_NEEDED: usize = MAX_FRAME.div_ceil(IGB_BUFSZ) + 3;
/// Free descriptors at which a stopped queue goes on.
pub(super) const TX_WAKE_THRESHOLD: usize = 2 * DESC_NEEDED;

/// `rx_usecs` when nothing else is said: adaptive, conservative.
pub(super) const IGB_DEFAULT_ITR: u32 = 3;
/// EITR value for about 6,000 interrupts a second: where adaptation starts.
pub(super) const IGB_START_ITR: u32 = 648;
/// EITR value for about 4,000 interrupts a second.
pub(super) const IGB_4K_ITR: u32 = 980;
/// EITR value for about 20,000 interrupts a second.
pub(super) const IGB_20K_ITR: u32 = 196;
/// EITR value for about 70,000 interrupts a second.
pub(super) const IGB_70K_ITR: u32 = 56;

/// How a device is to be driven: the module's parameters.
#[derive(Clone, Copy, Debug)]
pub struct IgbOptions {
    /// Pairs of queues; `None`: one a CPU, at most eight.
    pub queues: Option<u8>,
    /// Descriptors of a receive ring: 80 to 4,096.
    pub rx_ring: u32,
    /// Descriptors of a transmit ring: 80 to 4,096.
    pub tx_ring: u32,
    /// Interrupt throttling as ethtool's `rx-usecs`: 0 off, 1 adaptive, 3 adaptive and conservative, else microseconds.
    pub itr: u32,
    /// The RSS key to begin with; who knows it can aim flows at a queue.
    pub rss_key: [u8; E1000_RSSRK_BYTES],
    /// Packets each transmit queue's qdisc holds, at least one.
    pub tx_queue_len: u32,
}

impl Default for IgbOptions {
    fn default() -> Self {
        Self {
            queues: None,
            rx_ring: IGB_DEFAULT_RING,
            tx_ring: IGB_DEFAULT_RING,
            itr: IGB_DEFAULT_ITR,
            rss_key: klib::toeplitz::MICROSOFT_KEY,
            tx_queue_len: 1000,
        }
    }
}

/// How interrupts come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum IrqMode {
    /// A vector for each pair of queues and one for the rest.
    Msix,
    /// One message.
    Msi,
    /// The pin.
    Intx,
}

/// The device's registers and what every part of the driver asks about it.
pub(super) struct IgbHw {
    pub(super) pdev: Arc<dyn PciDev>,
    /// No traffic and no interrupts (`__IGB_DOWN`).
    pub(super) down: AtomicBool,
    mode: AtomicU8,
    /// `rx_usecs` as set: up to 3 a mode, else an EITR value.
    pub(super) rx_itr_setting: AtomicU32,
    /// Vectors in use, one bit each.
    pub(super) eims_enable_mask: AtomicU32,
}

impl IgbHw {
    pub(super) fn new(pdev: Arc<dyn PciDev>) -> Self {
        Self {
            pdev,
            down: AtomicBool::new(true),
            mode: AtomicU8::new(IrqMode::Intx as u8),
            rx_itr_setting: AtomicU32::new(0),
            eims_enable_mask: AtomicU32::new(0),
        }
    }

    /// Reads a register.
    #[inline]
    pub(super) fn rd32(&self, reg: u32) -> u32 {
        self.pdev.read32(reg)
    }

    /// Writes a register.
    #[inline]
    pub(super) fn wr32(&self, reg: u32, value: u32) {
        self.pdev.write32(reg, value);
    }

    /// Earlier writes have reached the device.
    pub(super) fn wrfl(&self) {
        let _ = self.rd32(E1000_STATUS);
    }

    /// Reads until `done` says so; false when it never does. Bounded: a device that lies holds nobody up.
    pub(super) fn wait(&self, reg: u32, done: impl Fn(u32) -> bool) -> bool {
        (0..20_000).any(|_| done(self.rd32(reg)))
    }

    pub(super) fn mode(&self) -> IrqMode {
        match self.mode.load(Ordering::Relaxed) {
            0 => IrqMode::Msix,
            1 => IrqMode::Msi,
            _ => IrqMode::Intx,
        }
    }

    pub(super) fn set_mode(&self, mode: IrqMode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }
}

/// A counter with one writer at a time: no locked instruction.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a vector counts; written by its poll, but for the last two.
#[derive(Debug, Default)]
pub(super) struct QueueStats {
    pub(super) rx_packets: Counter,
    pub(super) rx_bytes: Counter,
    /// Frames that found no memory.
    pub(super) rx_drops: Counter,
    pub(super) rx_csum_err: Counter,
    /// Frames that the device marked bad or described wrongly.
    pub(super) rx_errors: Counter,
    pub(super) rx_length_errors: Counter,
    pub(super) tx_packets: Counter,
    pub(super) tx_bytes: Counter,
    pub(super) tx_restart: Counter,
    /// Packets that could not be sent; written by the sender.
    pub(super) tx_dropped: Counter,
    /// Packets given back for want of descriptors; written by the sender.
    pub(super) tx_busy: Counter,
}

/// What traffic wants: answers at once, or few interrupts.
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:latency_range
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Latency {
    #[default]
    Lowest,
    Low,
    Bulk,
}

/// What one interrupt's worth of traffic in one direction was like, for [`IgbQVector::itr_val`].
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:igb_ring_container
#[derive(Debug, Default)]
pub(super) struct IgbRingContainer {
    pub(super) total_packets: u32,
    pub(super) total_bytes: u32,
    /// What the direction asked for when it last had traffic.
    pub(super) itr: Latency,
}

/// A vector with its pair of queues.
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:igb_q_vector
pub(super) struct IgbQVector {
    pub(super) hw: Arc<IgbHw>,
    /// The number of its queues.
    pub(super) index: u32,
    /// Their doorbells.
    pub(super) rdt: u32,
    pub(super) tdt: u32,
    /// Its bit in EIMS.
    pub(super) eims_value: AtomicU32,
    /// Its EITR.
    pub(super) itr_register: AtomicU32,
    pub(super) itr_val: AtomicU32,
    /// `itr_val` is to be written at the next interrupt.
    pub(super) set_itr: AtomicBool,
    /// `None` while the device is down.
    pub(super) tx: SpinLock<Option<IgbTxRing>, class::Ring>,
    /// Descriptors of the transmit ring.
    pub(super) tx_count: AtomicU32,
    /// Where the sender is; only he writes it.
    pub(super) tx_tail: AtomicU32,
    /// Where the device has been told he is. Written after what is before it was handed to the cleaner.
    pub(super) tx_rung: AtomicU32,
    /// Descriptors that the sender knows to be free; only he writes it.
    pub(super) tx_room: AtomicU32,
    /// Bytes in the ring that the queue's limit does not know of yet; only the sender writes it.
    pub(super) tx_unbilled: AtomicU32,
    /// Where the cleaner is; only he writes it.
    pub(super) tx_clean: AtomicU32,
    /// `None` while the device is down, and while it is polled.
    pub(super) poll: AtomicCell<Option<Box<IgbPollState>>>,
    pub(super) stats: QueueStats,
}

impl IgbQVector {
    pub(super) fn new(hw: &Arc<IgbHw>, index: u32) -> Self {
        Self {
            hw: Arc::clone(hw),
            index,
            rdt: E1000_RDT(index),
            tdt: E1000_TDT(index),
            eims_value: AtomicU32::new(0),
            itr_register: AtomicU32::new(E1000_EITR(0)),
            itr_val: AtomicU32::new(0),
            set_itr: AtomicBool::new(false),
            tx: SpinLock::new(None),
            tx_count: AtomicU32::new(0),
            tx_tail: AtomicU32::new(0),
            tx_rung: AtomicU32::new(0),
            tx_room: AtomicU32::new(0),
            tx_unbilled: AtomicU32::new(0),
            tx_clean: AtomicU32::new(0),
            poll: AtomicCell::new(None),
            stats: QueueStats::default(),
        }
    }

    /// Free descriptors of the transmit ring.
    ///
    /// Sequentially consistent: a sender who stopped his queue, and a cleaner about to look whether it is stopped, must
    /// not miss each other.
    pub(super) fn tx_unused(&self) -> usize {
        let count = self.tx_count.load(Ordering::Relaxed) as usize;
        let (tail, clean) =
            (self.tx_tail.load(Ordering::Relaxed), self.tx_clean.load(Ordering::SeqCst));
        igb_desc_unused(count, tail as usize, clean as usize)
    }

    /// Everybody is at the transmit ring's first descriptor, and it is empty.
    pub(super) fn tx_start_over(&self) {
        for place in [&self.tx_tail, &self.tx_rung, &self.tx_clean, &self.tx_unbilled] {
            place.store(0, Ordering::Relaxed);
        }
        self.tx_room.store(0, Ordering::Relaxed);
    }

    /// Takes the poll's state out of its slot for as long as the result lives.
    pub(super) fn take_poll(&self) -> TakenPoll<'_> {
        TakenPoll { q: self, state: self.poll.take() }
    }
}

/// The poll's state, on loan: it goes back when this goes, a panic included.
pub(super) struct TakenPoll<'a> {
    q: &'a IgbQVector,
    state: Option<Box<IgbPollState>>,
}

impl TakenPoll<'_> {
    /// The state; `None` while the device is down.
    pub(super) fn get(&mut self) -> Option<&mut IgbPollState> {
        self.state.as_deref_mut()
    }
}

impl Drop for TakenPoll<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        // Only one at a time has what was in it.
        if let Some(other) = self.q.poll.swap(Some(state)) {
            forget(other);
        }
    }
}

#[cold]
#[inline(never)]
fn forget(state: Box<IgbPollState>) {
    drop(state);
}

/// What a poll works with.
pub(super) struct IgbPollState {
    pub(super) rx: IgbRxRing,
    pub(super) tx: IgbTxCleaner,
    pub(super) rx_itr: IgbRingContainer,
    pub(super) tx_itr: IgbRingContainer,
    /// The interval that the two last asked for.
    pub(super) itr_wanted: u32,
}

impl Drop for IgbPollState {
    fn drop(&mut self) {
        // Only a machine that goes away whole leaves packets here.
        if let Some(skb) = self.rx.skb.take() {
            skb.forget_at_exit();
        }
    }
}

/// A receive ring.
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:igb_ring
pub(super) struct IgbRxRing {
    pub(super) desc: Descriptors,
    pub(super) data: Buffers,
    pub(super) next_to_use: usize,
    pub(super) next_to_clean: usize,
    /// Descriptors that may be given to the device: between the two, less the one that keeps full and empty apart.
    pub(super) unused: usize,
    /// The frame whose end has not come yet.
    pub(super) skb: Option<Skb>,
    /// Its beginning was dropped: the rest goes too.
    pub(super) skipping: bool,
    /// One of the two.
    pub(super) begun: bool,
}

impl IgbRxRing {
    /// The device has no descriptor.
    pub(super) fn start_over(&mut self) {
        (self.next_to_use, self.next_to_clean) = (0, 0);
        self.unused = igb_desc_unused(self.desc.count(), 0, 0);
    }
}

/// Descriptors between the driver's two ends of a ring, less the one that keeps full and empty apart.
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:igb_desc_unused
#[inline]
pub(super) fn igb_desc_unused(count: usize, next_to_use: usize, next_to_clean: usize) -> usize {
    let wrap = if next_to_clean > next_to_use { 0 } else { count };
    // A ring that there is not yet has none.
    (wrap + next_to_clean).saturating_sub(next_to_use + 1)
}

/// A packet in the transmit ring.
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:igb_tx_buffer
pub(super) struct IgbTxBuffer {
    pub(super) skb: Skb,
    /// The packet's last descriptor, whose write-back says that it is sent.
    pub(super) next_to_watch: u32,
    pub(super) bytecount: u32,
}

/// Packets in the order in which they were sent: put in at one end, taken out at the other, and made room for when all
/// are out. Its memory is that of a full ring from the start.
pub(super) struct TxPackets {
    list: Vec<Option<IgbTxBuffer>>,
    /// The first that is still in.
    next: usize,
}

impl TxPackets {
    pub(super) fn new(count: usize) -> Self {
        Self { list: Vec::with_capacity(count), next: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, buffer: IgbTxBuffer) {
        self.list.push(Some(buffer));
    }

    /// None is in.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.list.len()
    }

    /// Takes the first one out, if `wanted`.
    #[inline]
    pub(super) fn pop_if(
        &mut self,
        wanted: impl FnOnce(&IgbTxBuffer) -> bool,
    ) -> Option<IgbTxBuffer> {
        let slot = self.list.get_mut(self.next)?;
        if !wanted(slot.as_ref()?) {
            return None;
        }
        self.next += 1;
        slot.take()
    }

    /// Appends all of `other`, of which nothing was taken out; it is empty then.
    pub(super) fn append(&mut self, other: &mut Self) {
        // What was taken out left its place.
        self.list.drain(..self.next);
        self.next = 0;
        if self.list.is_empty() {
            std::mem::swap(&mut self.list, &mut other.list);
        } else {
            self.list.append(&mut other.list);
        }
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = IgbTxBuffer> {
        self.next = 0;
        self.list.drain(..).flatten()
    }
}

impl Drop for TxPackets {
    fn drop(&mut self) {
        // Only a machine that goes away whole leaves packets here.
        for buffer in self.drain() {
            buffer.skb.forget_at_exit();
        }
    }
}

/// A transmit ring: where sender and cleaner meet.
pub(super) struct IgbTxRing {
    pub(super) desc: Descriptors,
    /// Home between batches; away during one.
    pub(super) sender: Option<Box<IgbTxSender>>,
    /// Sent, and not seen by the cleaner yet.
    pub(super) handed: TxPackets,
}

/// What a context descriptor says: the headers' lengths, from bit 16 on how it is cut, from bit 48 on which
/// protocols they are.
pub(super) type TxContext = NonZeroU64;

/// The half of a transmit ring that fills it.
pub(super) struct IgbTxSender {
    /// Whose it is.
    pub(super) q: Weak<IgbQVector>,
    /// Where that is, to compare. As `q` stands, the address is nobody else's.
    pub(super) q_addr: usize,
    pub(super) desc: Descriptors,
    pub(super) data: Buffers,
    /// The context that the queue has: an equal one need not be sent again.
    pub(super) context: Option<TxContext>,
    /// Packets of this batch.
    pub(super) packets: TxPackets,
}

/// The half of a transmit ring that empties it.
pub(super) struct IgbTxCleaner {
    pub(super) desc: Descriptors,
    pub(super) packets: TxPackets,
    /// How far the packets were handed over when it last looked.
    pub(super) seen: u32,
}

/// A vector as interrupt handlers see it.
pub(super) struct IgbVector {
    pub(super) q: Arc<IgbQVector>,
    pub(super) napi: Arc<NapiStruct>,
}

/// A device with its driver.
///
/// linux: drivers/net/ethernet/intel/igb/igb.h:igb_adapter
pub(super) struct IgbAdapter {
    pub(super) hw: Arc<IgbHw>,
    pub(super) options: IgbOptions,
    /// Set when the device is registered; what follows too.
    pub(super) netdev: OnceLock<Weak<NetDevice>>,
    pub(super) q_vectors: OnceLock<Vec<Arc<IgbVector>>>,
    /// Handed to interrupt handlers: they keep nothing alive.
    pub(super) this: Weak<Self>,
    /// Pairs of queues there are, and those in use: fewer after falling back to one interrupt.
    pub(super) max_queues: usize,
    pub(super) num_queues: AtomicUsize,
    pub(super) rx_ring_count: AtomicU32,
    pub(super) tx_ring_count: AtomicU32,
    /// The longest frame received, with CRC and tag.
    pub(super) max_frame_size: AtomicU32,
    /// How received flows are spread; changed under `rtnl_lock`.
    pub(super) rss: SpinLock<super::igb_main::rss::IgbRss, class::Ring>,
    pub(super) lines: SpinLock<Vec<IrqLine>, class::Ring>,
    pub(super) hw_stats: SpinLock<super::igb_main::stats::HwStats, class::Ring>,
}

impl IgbAdapter {
    /// The vectors in use.
    pub(super) fn vectors(&self) -> &[Arc<IgbVector>] {
        let all = self.q_vectors.get().map_or(&[][..], Vec::as_slice);
        &all[..self.num_queues.load(Ordering::Relaxed).min(all.len())]
    }

    /// The registered device.
    pub(super) fn netdev(&self) -> Option<Arc<NetDevice>> {
        self.netdev.get().and_then(Weak::upgrade)
    }
}

impl Drop for IgbAdapter {
    /// The machine is gone: the device must not write to memory that is about to be freed, nor interrupt anybody.
    fn drop(&mut self) {
        self.hw.down.store(true, Ordering::Release);
        super::igb_main::irq::igb_irq_disable(&self.hw);
        self.hw.wr32(E1000_RCTL, 0);
        self.hw.wr32(E1000_TCTL, 0);
        super::igb_main::irq::disconnect(&self.hw);
        self.hw.pdev.clear_master();
    }
}
