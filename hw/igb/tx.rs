//! Transmitting: descriptors from head to tail, frames out of memory, completions.
//!
//! Sources: the 82576 data sheet's sections "Transmit Functionality" and "Transmit Descriptors".
//! Invariants: one round builds at most [`BATCH_FRAMES`] frames or [`BATCH_BYTES`] bytes, or looks at
//! [`ROUND_DESCS`] descriptors of a queue, whatever the descriptors say; a descriptor is fetched once.

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::net::wire_port::{FrameBatch, FrameMeta};
use drivers::pci::{DmaSpace, Iotlb};

use super::Counters;
use super::irq::Cause;
use super::offload::{Context, Insert, insert, segment};
use super::ring::Ring;
use super::state::{Ids, State};
use super::stats::{Direction, Stats};

/// Frames in a batch; a segmented frame may exceed it.
const BATCH_FRAMES: usize = 64;
/// Bytes in a batch, likewise.
const BATCH_BYTES: usize = 512 * 1024;
/// Descriptors of one queue looked at in a round.
const ROUND_DESCS: usize = 4096;
/// The longest frame before segmentation: 18 bits of payload length and the headers.
const MAX_GATHER: usize = 256 * 1024 + 1024;
/// The longest frame sent as it is, without CRC.
const MAX_FRAME: usize = 16 * 1024 - 4;
/// The shortest frame, without CRC.
const MIN_FRAME: usize = 60;
/// Ethernet header.
const MIN_HEADER: usize = 14;

/// The first descriptor of the frame that is being gathered: it speaks for all of them.
#[derive(Clone, Copy)]
struct First {
    cmd: u32,
    options: u32,
    addr: u64,
}

/// One transmit queue.
pub(super) struct TxQueue {
    pub(super) ring: Ring,
    wbal: u32,
    wbah: u32,
    contexts: [Context; 8],
    first: Option<First>,
    gathered: Vec<u8>,
    /// The frame being gathered can't be sent.
    bad: bool,
    buffers: Iotlb,
}

/// What transmitting needs of the rest of the device.
struct Cx<'a> {
    space: &'a DmaSpace,
    stats: &'a mut Stats,
    counters: &'a mut Counters,
    /// Only while tracing.
    ids: Option<&'a mut Ids>,
    out: &'a mut FrameBatch,
}

/// How a queue's round ended.
struct Round {
    /// There is more to do.
    more: bool,
    /// Descriptors were written back.
    reported: bool,
}

impl State {
    /// Queues with work whose frames nobody is putting on the wire.
    pub(super) fn tx_ready(&self) -> u32 {
        self.tx_kick & !self.tx_sending
    }

    /// One round of all queues that are ready: frames to the end of `out`, which is empty. Which queues
    /// they may be of.
    pub(super) fn transmit(
        &mut self,
        space: &DmaSpace,
        tracing: bool,
        out: &mut FrameBatch,
    ) -> u32 {
        let on = self.get(E1000_TCTL) & E1000_TCTL_EN != 0 && self.link() && self.config.master();
        if !on {
            // Descriptors stay where they are until it is on again.
            self.tx_kick = 0;
            return 0;
        }
        let queues = self.tx_ready();
        let mut todo = queues;
        while todo != 0 {
            let n = todo.trailing_zeros() as usize;
            todo &= todo - 1;
            let Some(queue) = self.tx.get_mut(n) else {
                break;
            };
            let ids = tracing.then_some(&mut self.tx_ids);
            let mut cx =
                Cx { space, stats: &mut self.stats, counters: &mut self.counters, ids, out };
            let round = queue.run(&mut cx);
            if round.reported {
                self.irq.queue_cause(Cause::Tx(n));
            }
            if !round.more {
                self.tx_kick &= !(1 << n);
            }
        }
        queues
    }
}

impl TxQueue {
    pub(super) fn new(n: usize) -> Self {
        Self {
            ring: Ring::new(n),
            wbal: 0,
            wbah: 0,
            contexts: [Context::default(); 8],
            first: None,
            gathered: Vec::new(),
            bad: false,
            buffers: Iotlb::default(),
        }
    }

    pub(super) fn read(&self, reg: u32) -> u32 {
        match reg {
            E1000_Q_WBAL => self.wbal,
            E1000_Q_WBAH => self.wbah,
            reg => self.ring.read(reg),
        }
    }

    pub(super) fn write(&mut self, reg: u32, value: u32) {
        match reg {
            E1000_Q_WBAL => self.wbal = value,
            E1000_Q_WBAH => self.wbah = value,
            E1000_Q_DCTL => {
                self.ring.write(reg, value);
                if !self.ring.enabled() {
                    // A frame begun is forgotten with the queue.
                    self.forget();
                }
            }
            reg => self.ring.write(reg, value),
        }
    }

    fn forget(&mut self) {
        self.first = None;
        self.gathered.clear();
        self.bad = false;
    }

    fn run(&mut self, cx: &mut Cx<'_>) -> Round {
        let mut round = Round { more: false, reported: false };
        if !self.ring.enabled() {
            return round;
        }
        if !self.ring.sane() {
            let unset = self.ring.read(E1000_Q_LEN) == 0;
            cx.counters.ring_faults += u64::from(!unset);
            return round;
        }
        for _ in 0..ROUND_DESCS {
            if self.ring.head == self.ring.tail {
                self.write_back_head(cx.space, round.reported);
                return round;
            }
            if cx.out.len() >= BATCH_FRAMES || cx.out.bytes() >= BATCH_BYTES {
                break;
            }
            let Some((mem, at)) = self.ring.desc(cx.space) else {
                cx.counters.ring_faults += 1;
                return round;
            };
            let (lo, hi) = (mem.read64(at), mem.read64(at + 8));
            self.descriptor(cx, lo, hi);
            if hi as u32 & E1000_ADVTXD_DCMD_RS != 0 {
                round.reported = true;
                if self.wbal & E1000_TX_HEAD_WB_ENABLE == 0
                    && let Some((mem, at)) = self.ring.desc(cx.space)
                {
                    mem.write32_release(at + 12, E1000_TXD_STAT_DD);
                }
            }
            self.ring.step();
        }
        self.write_back_head(cx.space, round.reported);
        round.more = true;
        round
    }

    /// Tells the head through memory, when that was asked for.
    fn write_back_head(&mut self, space: &DmaSpace, reported: bool) {
        if reported && self.wbal & E1000_TX_HEAD_WB_ENABLE != 0 {
            let to = u64::from(self.wbah) << 32 | u64::from(self.wbal & !3);
            if let Some((mem, at)) = self.buffers.get(space, to, 4) {
                mem.write32_release(at, self.ring.head);
            }
        }
    }

    fn descriptor(&mut self, cx: &mut Cx<'_>, lo: u64, hi: u64) {
        let (cmd, options) = (hi as u32, (hi >> 32) as u32);
        let advanced = cmd & E1000_ADVTXD_DCMD_DEXT != 0;
        match cmd & E1000_ADVTXD_DTYP_MASK {
            E1000_ADVTXD_DTYP_CTXT if advanced => {
                let index = options >> E1000_ADVTXD_IDX_SHIFT & 7;
                self.contexts[index as usize] = Context::new(lo, hi);
            }
            E1000_ADVTXD_DTYP_DATA if advanced => self.data(cx, First { cmd, options, addr: lo }),
            // A legacy descriptor has length, end and report bits at the same places, and no options.
            _ if !advanced => {
                let cmd = cmd & !(E1000_ADVTXD_DCMD_TSE | E1000_ADVTXD_DCMD_VLE);
                self.data(cx, First { cmd, options: 0, addr: lo });
            }
            _ => self.bad = true,
        }
    }

    fn data(&mut self, cx: &mut Cx<'_>, d: First) {
        let len = (d.cmd & E1000_ADVTXD_DTALEN_MASK) as usize;
        let end = d.cmd & E1000_ADVTXD_DCMD_EOP != 0;
        let whole = end && self.first.is_none() && !self.bad;
        if whole && d.cmd & (E1000_ADVTXD_DCMD_TSE | E1000_ADVTXD_DCMD_VLE) == 0 {
            return self.send_in_place(cx, d, len);
        }
        self.first.get_or_insert(d);
        if !self.bad {
            self.bad = !self.gather(cx.space, d.addr, len);
        }
        if end {
            self.send_gathered(cx);
            self.forget();
        }
    }

    /// The usual case: the frame is in one buffer and goes into the batch with one copy.
    fn send_in_place(&mut self, cx: &mut Cx<'_>, d: First, len: usize) {
        let context = self.context(&d);
        let ok = (MIN_HEADER..=MAX_FRAME).contains(&len)
            && self.buffers.get(cx.space, d.addr, len).is_some_and(|(mem, at)| {
                let meta = cx.meta(&d);
                cx.out.push_with(len.max(MIN_FRAME), meta, |to| {
                    let (frame, pad) = to.split_at_mut(len);
                    pad.fill(0);
                    mem.read_bytes(at, frame).is_ok() && insert(frame, &context, wanted(&d))
                })
            });
        cx.count(usize::from(ok));
    }

    /// Appends a buffer to the frame; false when it can't be.
    fn gather(&mut self, space: &DmaSpace, addr: u64, len: usize) -> bool {
        let start = self.gathered.len();
        if start + len > MAX_GATHER {
            return false;
        }
        let Some((mem, at)) = self.buffers.get(space, addr, len) else {
            return false;
        };
        self.gathered.resize(start + len, 0);
        mem.read_bytes(at, &mut self.gathered[start..]).is_ok()
    }

    fn context(&self, d: &First) -> Context {
        self.contexts[(d.options >> E1000_ADVTXD_IDX_SHIFT & 7) as usize]
    }

    fn send_gathered(&mut self, cx: &mut Cx<'_>) {
        let Some(first) = self.first.filter(|_| !self.bad && self.gathered.len() >= MIN_HEADER)
        else {
            return cx.count(0);
        };
        let mut context = self.context(&first);
        if first.cmd & E1000_ADVTXD_DCMD_VLE != 0 {
            let [hi, lo] = context.vlan.to_be_bytes();
            self.gathered.splice(12..12, [0x81, 0x00, hi, lo]);
            context.tagged();
        }
        let meta = cx.meta(&first);
        let frame = &mut self.gathered[..];
        if first.cmd & E1000_ADVTXD_DCMD_TSE != 0 {
            let sent = segment(frame, &context, wanted(&first), meta, cx.out).unwrap_or(0);
            cx.count(sent);
            if sent != 0 {
                cx.stats.inc(E1000_TSCTC);
            }
            return;
        }
        let ok = frame.len() <= MAX_FRAME
            && insert(frame, &context, wanted(&first))
            && cx.out.push_with(frame.len().max(MIN_FRAME), meta, |to| {
                let (whole, pad) = to.split_at_mut(frame.len());
                whole.copy_from_slice(frame);
                pad.fill(0);
                true
            });
        cx.count(usize::from(ok));
    }
}

/// Checksums that a descriptor asks for.
fn wanted(d: &First) -> Insert {
    Insert { ip: d.options & E1000_TXD_POPTS_IXSM != 0, l4: d.options & E1000_TXD_POPTS_TXSM != 0 }
}

impl Cx<'_> {
    /// What travels beside the frame.
    fn meta(&mut self, d: &First) -> FrameMeta {
        let packet_id = self.ids.as_mut().map_or(0, |ids| ids.take(d.addr));
        FrameMeta { packet_id, vnet: None }
    }

    /// Counts the last `n` frames of the batch as sent; none means that a frame was dropped.
    fn count(&mut self, n: usize) {
        if n == 0 {
            self.counters.tx_bad += 1;
        }
        for i in self.out.len().saturating_sub(n)..self.out.len() {
            if let Some((frame, _)) = self.out.get(i) {
                self.stats.good_frame(Direction::Sent, frame);
            }
        }
    }
}
