//! Rings of blocks, of version 3: packets of any length behind one another, handed over when a block is full or its
//! time is up.
//!
//! linux: net/packet/af_packet.c (`prb_open_block`, `prb_retire_current_block`, …). Key types: [`PacketBlocks`],
//! [`RingBlock`]. Contexts and locks: see the ring's own module; the timer in BH, under `class::Sock`.
//! Invariant: a block's time begins with its first packet, and there is one timer at a time.

use super::slots::{InHand, Slots};
use super::{Packet, RxRing};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::net::core::skbuff::SkBuff;
use crate::net::core::sock::Sock;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use uapi::if_packet::{
    SockaddrLl, TP_FT_REQ_FILL_RXHASH, TP_STATUS_BLK_TMO, TP_STATUS_KERNEL, TP_STATUS_LOSING,
    TP_STATUS_USER, TPACKET_BLOCK_DESC_LEN,
};

/// What lengths within a block are multiples of.
///
/// linux: net/packet/af_packet.c:V3_ALIGNMENT
const V3_ALIGNMENT: usize = 8;
/// A block's time where the socket names none.
///
/// linux: net/packet/af_packet.c:DEFAULT_PRB_RETIRE_TOV
const DEFAULT_PRB_RETIRE_TOV: Duration = Duration::from_millis(8);

/// A timer is armed so far ahead at the most, and again: that of a ring that is gone is not kept for long.
const ARMED_AHEAD: Duration = Duration::from_secs(1);

fn align(octets: usize) -> usize {
    octets.next_multiple_of(V3_ALIGNMENT)
}

/// Octets in front of a block's first packet: its description, and what its reader reserves for himself.
///
/// linux: net/packet/af_packet.c:BLK_PLUS_PRIV
pub(super) fn blk_plus_priv(sizeof_priv: usize) -> usize {
    align(TPACKET_BLOCK_DESC_LEN) + align(sizeof_priv)
}

/// What a block says of its packets.
///
/// linux: include/uapi/linux/if_packet.h:tpacket_hdr_v1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TpacketBlockDesc {
    /// `TP_STATUS_*`.
    pub block_status: u32,
    /// How many there are.
    pub num_pkts: u32,
    /// Where the first begins.
    pub offset_to_first_pkt: u32,
    /// Octets in use, those in front of it included.
    pub blk_len: u32,
    /// The block's number, counted from 1.
    pub seq_num: u64,
    /// When it was opened, by the wall clock, in nanoseconds.
    pub ts_first_pkt: u64,
    /// When its last packet came.
    pub ts_last_pkt: u64,
}

/// What is said of a packet in a block.
///
/// linux: include/uapi/linux/if_packet.h:tpacket3_hdr
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tpacket3Hdr {
    /// How far behind this header the next one is; 0: there is none.
    pub tp_next_offset: u32,
    /// When it came, by the wall clock: seconds.
    pub tp_sec: u32,
    /// And nanoseconds.
    pub tp_nsec: u32,
    /// Octets of it that are here.
    pub tp_snaplen: u32,
    /// Its octets.
    pub tp_len: u32,
    /// `TP_STATUS_*`.
    pub tp_status: u32,
    /// Where it begins, from this header.
    pub tp_mac: u16,
    /// Where its network header does.
    pub tp_net: u16,
    /// Its flow's hash, if the socket asked for that.
    pub tp_rxhash: u32,
}

/// A packet in a block that is in its reader's hand.
#[derive(Clone, Copy, Debug)]
pub struct BlockPacket<'a> {
    /// What is said of it.
    pub header: &'a Tpacket3Hdr,
    /// Where it came in, and from whom.
    pub from: &'a SockaddrLl,
    /// The packet, as much of it as is here.
    pub data: &'a [u8],
}

/// A block's contents.
#[derive(Debug, Default)]
struct Body {
    sizeof_priv: usize,
    desc: TpacketBlockDesc,
    /// Each with where it begins.
    packets: Vec<(usize, Tpacket3Hdr, SockaddrLl)>,
    data: Box<[u8]>,
}

/// A ring of blocks as its reader has it: the memory that Linux maps.
#[derive(Clone, Debug)]
pub struct PacketBlocks(Slots<Body>);

/// A block in its reader's hand; dropping it gives it back to the socket.
pub struct RingBlock(InHand<Body>);

impl fmt::Debug for RingBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingBlock({}, {:?})", self.0.at, self.0.desc)
    }
}

impl PacketBlocks {
    /// Blocks.
    #[allow(clippy::len_without_is_empty, reason = "a ring has blocks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A block's `TP_STATUS_*`; 0, as the socket's own has, where there is no such block.
    pub fn block_status(&self, at: usize) -> u32 {
        self.0.status(at)
    }

    /// Takes a block in hand, if it is the reader's and nobody has it.
    pub fn take(&self, at: usize) -> Option<RingBlock> {
        self.0.take(at).map(RingBlock)
    }
}

impl RingBlock {
    /// What it says of its packets.
    pub fn desc(&self) -> &TpacketBlockDesc {
        &self.0.desc
    }

    /// Its packets, as they came.
    pub fn packets(&self) -> impl Iterator<Item = BlockPacket<'_>> {
        self.0.packets.iter().map(|(at, header, from)| {
            let begin = at + usize::from(header.tp_mac);
            let data = self.0.data.get(begin..begin + header.tp_snaplen as usize);
            BlockPacket { header, from, data: data.unwrap_or(&[]) }
        })
    }

    /// What the reader reserved for himself (`tp_sizeof_priv`): it stays as he leaves it.
    pub fn private(&mut self) -> &mut [u8] {
        let (begin, len) = (align(TPACKET_BLOCK_DESC_LEN), self.0.sizeof_priv);
        &mut self.0.data[begin..begin + len]
    }
}

/// What a socket wants of its blocks, beside their size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Milliseconds that a packet waits in a block at the most.
    pub(super) retire_blk_tov: u32,
    pub(super) sizeof_priv: u32,
    pub(super) feature_req_word: u32,
}

/// A socket's side of its ring.
///
/// linux: net/packet/internal.h:tpacket_kbdq_core
#[derive(Debug)]
pub(in crate::net::packet::af_packet) struct BlockRing {
    slots: Slots<Body>,
    blk_size: usize,
    /// Where a block's first packet begins.
    first: usize,
    retire_blk_tov: Duration,
    pub(super) fill_rxhash: bool,
    kactive_blk_num: usize,
    /// The next block was the reader's when it was wanted.
    frozen: bool,
    freeze_q_cnt: u32,
    nxt_seq_num: u64,
    nxt_offset: usize,
    num_pkts: u32,
    /// When the open block's time is up: from its first packet on.
    due: Option<Ktime>,
    timer: Option<Arc<RetireTimer>>,
    armed: bool,
}

/// What a ring's timer wakes.
#[derive(Debug)]
struct RetireTimer(Weak<Sock>);

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There is no room: the reader has all blocks.
    No,
    /// It is in the open block.
    Yes,
    /// And the block before is the reader's now.
    AndOneIsFull,
}

impl BlockRing {
    pub(super) fn new(block_nr: u32, blk_size: usize, wanted: Wanted) -> Self {
        let sizeof_priv = wanted.sizeof_priv as usize;
        let data = || vec![0; blk_size].into();
        let body = || Body { sizeof_priv, data: data(), ..Body::default() };
        let tov = match wanted.retire_blk_tov {
            0 => DEFAULT_PRB_RETIRE_TOV,
            millis => Duration::from_millis(millis.into()),
        };
        let mut ring = Self {
            slots: Slots::new(block_nr, body),
            blk_size,
            first: blk_plus_priv(sizeof_priv),
            retire_blk_tov: tov,
            fill_rxhash: wanted.feature_req_word & TP_FT_REQ_FILL_RXHASH != 0,
            kactive_blk_num: 0,
            frozen: false,
            freeze_q_cnt: 0,
            nxt_seq_num: 1,
            nxt_offset: 0,
            num_pkts: 0,
            due: None,
            timer: None,
            armed: false,
        };
        ring.prb_open_block(0);
        ring
    }

    pub(super) fn map(&self) -> PacketBlocks {
        PacketBlocks(self.slots.clone())
    }

    /// Some reader has it.
    pub(super) fn is_mapped(&self) -> bool {
        self.slots.is_shared()
    }

    /// Blocks.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The block at so many places behind the open one is the socket's.
    pub(super) fn is_free(&self, ahead: usize) -> bool {
        self.slots.is_free((self.kactive_blk_num + ahead) % self.len())
    }

    /// How often the reader had all blocks, since it was asked last.
    pub(super) fn take_freezes(&mut self) -> u32 {
        std::mem::take(&mut self.freeze_q_cnt)
    }

    /// linux: net/packet/af_packet.c:prb_open_block
    fn prb_open_block(&mut self, now: u64) {
        self.frozen = false;
        (self.num_pkts, self.due) = (0, None);
        self.nxt_offset = self.first;
        let (seq_num, offset) = (self.nxt_seq_num, self.nxt_offset as u32);
        self.nxt_seq_num += 1;
        self.slots.with(self.kactive_blk_num, |body| {
            body.packets.clear();
            body.desc = TpacketBlockDesc {
                block_status: TP_STATUS_KERNEL,
                num_pkts: 0,
                offset_to_first_pkt: offset,
                blk_len: offset,
                seq_num,
                ts_first_pkt: now,
                ts_last_pkt: now,
            };
        });
    }

    /// The open block is the reader's.
    ///
    /// linux: net/packet/af_packet.c:prb_close_block
    fn prb_close_block(&mut self, status: u32) {
        let status = status | TP_STATUS_USER;
        self.slots.with(self.kactive_blk_num, |body| {
            body.desc.block_status = status;
            if let Some((_, last, _)) = body.packets.last_mut() {
                last.tp_next_offset = 0;
            }
        });
        self.slots.give(self.kactive_blk_num, status);
        self.kactive_blk_num = (self.kactive_blk_num + 1) % self.len();
        self.due = None;
    }

    /// Opens the next block; false: the reader has it, and all is lost until he gives it back.
    ///
    /// linux: net/packet/af_packet.c:prb_dispatch_next_block
    fn prb_dispatch_next_block(&mut self, now: u64) -> bool {
        if !self.is_free(0) {
            self.frozen = true;
            self.freeze_q_cnt = self.freeze_q_cnt.wrapping_add(1);
            return false;
        }
        self.prb_open_block(now);
        true
    }

    /// Puts a packet behind the last one, in the next block if this one is full.
    ///
    /// linux: net/packet/af_packet.c:__packet_lookup_frame_in_block
    pub(super) fn fill(&mut self, skb: &SkBuff, packet: &Packet, losing: bool) -> Filled {
        if self.frozen {
            if !self.is_free(0) {
                return Filled::No;
            }
            self.prb_open_block(packet.now);
        }
        let most = (self.blk_size - self.first).saturating_sub(packet.mac.into());
        let snaplen = skb.len().min(most);
        let len = align(snaplen + usize::from(packet.mac));
        let mut filled = Filled::Yes;
        if self.nxt_offset + len >= self.blk_size {
            self.prb_close_block(if losing { TP_STATUS_LOSING } else { 0 });
            filled = Filled::AndOneIsFull;
            if !self.prb_dispatch_next_block(packet.now) {
                return Filled::No;
            }
        }
        self.prb_fill_curr_block(skb, packet, (snaplen, len));
        filled
    }

    /// linux: net/packet/af_packet.c:prb_fill_curr_block
    fn prb_fill_curr_block(
        &mut self,
        skb: &SkBuff,
        packet: &Packet,
        (snaplen, len): (usize, usize),
    ) {
        let at = self.nxt_offset;
        let (tp_sec, tp_nsec) = packet.time();
        let header = Tpacket3Hdr {
            tp_next_offset: len as u32,
            tp_sec,
            tp_nsec,
            tp_snaplen: snaplen as u32,
            tp_len: packet.len,
            tp_status: packet.status,
            tp_mac: packet.mac,
            tp_net: packet.net,
            tp_rxhash: if self.fill_rxhash { packet.rxhash } else { 0 },
        };
        self.slots.with(self.kactive_blk_num, |body| {
            let begin = at + usize::from(packet.mac);
            if let Some(room) = body.data.get_mut(begin..begin + snaplen) {
                skb.skb_copy_bits(0, room);
            }
            body.packets.push((at, header, packet.from));
            body.desc.num_pkts += 1;
            body.desc.blk_len += len as u32;
            body.desc.ts_last_pkt = packet.now;
        });
        self.nxt_offset += len;
        self.num_pkts += 1;
    }

    /// A packet that came now does not wait for ever: the timer that is to be armed, and for when.
    pub(super) fn start_timer(
        &mut self,
        sk: &Arc<Sock>,
        now: Ktime,
    ) -> Option<(Ktime, Arc<dyn TimerTarget>)> {
        if self.num_pkts == 0 || self.frozen {
            return None;
        }
        let due = *self.due.get_or_insert(now + self.retire_blk_tov);
        if std::mem::replace(&mut self.armed, true) {
            return None;
        }
        let timer = self.timer.get_or_insert_with(|| Arc::new(RetireTimer(Arc::downgrade(sk))));
        Some((due.min(now + ARMED_AHEAD), Arc::clone(timer) as Arc<dyn TimerTarget>))
    }

    /// The timer has expired: hands the open block over, if its time is up. True if it did.
    ///
    /// linux: net/packet/af_packet.c:prb_retire_rx_blk_timer_expired
    fn expired(&mut self, now: Ktime, wall: u64, losing: bool) -> bool {
        self.armed = false;
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.prb_close_block(TP_STATUS_BLK_TMO | if losing { TP_STATUS_LOSING } else { 0 });
        self.prb_dispatch_next_block(wall);
        true
    }
}

impl TimerTarget for RetireTimer {
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, token: u64) {
        walk!(cx, prb_retire_rx_blk_timer_expired);
        let Some(sk) = self.0.upgrade() else { return };
        let (now, wall) = (cx.now(), cx.m.ktime_get_real());
        let mut state = sk.state_of_tap();
        let Some(po) = state.packet() else { return };
        let losing = po.tp_drops != 0;
        let Some(ring) = po.rx_ring.as_mut().and_then(RxRing::blocks) else { return };
        // Of a ring that was taken away, and not of this one.
        if ring.timer.as_ref().is_none_or(|own| !Arc::ptr_eq(own, &self)) {
            return;
        }
        let handed = ring.expired(now, wall, losing);
        let again = ring.start_timer(&sk, now);
        if handed {
            state.sk_data_ready(cx);
        }
        drop(state);
        if let Some((at, timer)) = again {
            cx.add_timer(at, timer, token);
        }
    }
}
