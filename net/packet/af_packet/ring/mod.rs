//! Receive rings: memory that the socket and its reader hand to each other, a frame or a block at a time.
//!
//! linux: net/packet/af_packet.c (`packet_set_ring`, `tpacket_rcv`, `packet_mmap`). Key types: [`RingMap`]; `frames`
//! has those of versions 1 and 2, `blocks` those of version 3. Contexts: setting up by tasks, under `class::Rtnl`;
//! filling in BH, under `class::Sock`; reading anywhere. Locks: `class::Ring`, a frame's or block's, for a moment.
//! Invariant: a frame or block is the socket's while its status is `TP_STATUS_KERNEL`, else the reader's: whoever
//! has it writes the status last and reads it first.
//! DIVERGES: no transmit rings (ENOPROTOOPT). A ring is no longer than the machine's memory for packets: ENOMEM. A
//! block's time begins with its first packet; Linux looks at intervals of that length whether it has one.

mod blocks;
mod frames;
mod slots;

pub use blocks::{BlockPacket, PacketBlocks, RingBlock, Tpacket3Hdr, TpacketBlockDesc};
pub use frames::{PacketRing, RingFrame, TpacketHdr};

use super::fanout::Room;
use super::rcv::{Begun, begin};
use super::recv::tp_status_of;
use super::{ADDR_LEN, PacketSock, register_prot_hook, unregister_prot_hook};
use crate::fs::File;
use crate::kernel::bpf::BpfProg;
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::NetDevice;
use crate::net::core::skbuff::{SkBuff, Skb, consume_skb, kfree_skb};
use crate::net::core::sock::Sock;
use blocks::{BlockRing, Filled, Wanted, blk_plus_priv};
use frames::FrameRing;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::if_packet::{
    SOCKADDR_LL_LEN, SockaddrLl, TP_STATUS_LOSING, TP_STATUS_USER, TPACKET_ALIGNMENT,
    TPACKET_HDR_LEN, TPACKET_V3, TPACKET3_HDR_LEN,
};
use uapi::socket::SOCK_RAW;

/// What blocks are multiples of.
const PAGE_SIZE: u32 = 4096;
/// Octets in front of a frame's packet at least: its header and its link address.
///
/// linux: include/uapi/linux/if_packet.h:TPACKET2_HDRLEN
const TPACKET_HDRLEN: usize = TPACKET_HDR_LEN + SOCKADDR_LL_LEN;

/// Octets in front of a packet in a block at least.
///
/// linux: include/uapi/linux/if_packet.h:TPACKET3_HDRLEN
const TPACKET3_HDRLEN: usize = TPACKET3_HDR_LEN + SOCKADDR_LL_LEN;

/// What is told of a packet in a ring.
struct Packet {
    /// `TP_STATUS_*`.
    status: u32,
    /// Octets before the filter cut it.
    len: u32,
    /// Where it begins, from its header.
    mac: u16,
    /// Where its network header does.
    net: u16,
    /// When it came, by the wall clock, in nanoseconds.
    now: u64,
    rxhash: u32,
    from: SockaddrLl,
}

impl Packet {
    /// Seconds and nanoseconds.
    fn time(&self) -> (u32, u32) {
        ((self.now / 1_000_000_000) as u32, (self.now % 1_000_000_000) as u32)
    }
}

/// A socket's side of its ring.
#[derive(Debug)]
pub(super) enum RxRing {
    Frames(FrameRing),
    Blocks(BlockRing),
}

/// A socket's ring, for its reader.
#[derive(Clone, Debug)]
pub enum RingMap {
    /// Of versions 1 and 2.
    Frames(PacketRing),
    /// Of version 3.
    Blocks(PacketBlocks),
}

impl RxRing {
    fn blocks(&mut self) -> Option<&mut BlockRing> {
        if let Self::Blocks(ring) = self { Some(ring) } else { None }
    }

    fn is_mapped(&self) -> bool {
        match self {
            Self::Frames(ring) => ring.is_mapped(),
            Self::Blocks(ring) => ring.is_mapped(),
        }
    }

    fn map(&self) -> RingMap {
        match self {
            Self::Frames(ring) => RingMap::Frames(ring.map()),
            Self::Blocks(ring) => RingMap::Blocks(ring.map()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Frames(ring) => ring.len(),
            Self::Blocks(ring) => ring.len(),
        }
    }

    /// The frame or block at so many places behind the one that is filled next is the socket's.
    fn is_free(&self, ahead: usize) -> bool {
        match self {
            Self::Frames(ring) => ring.is_free(ahead),
            Self::Blocks(ring) => ring.is_free(ahead),
        }
    }

    /// How much room there is: a quarter of the ring, one frame or block, none.
    ///
    /// linux: net/packet/af_packet.c:__tpacket_has_room, __tpacket_v3_has_room
    pub(super) fn room(&self) -> Room {
        match (self.is_free(self.len() / 4), self.is_free(0)) {
            (true, _) => Room::Normal,
            (false, true) => Room::Low,
            (false, false) => Room::None,
        }
    }

    /// The frame or block that was filled last is still the reader's.
    ///
    /// linux: net/packet/af_packet.c:packet_previous_rx_frame
    pub(super) fn readable(&self) -> bool {
        !self.is_free(self.len() - 1)
    }

    /// How often the reader had all blocks, since it was asked last; `None`: it has none.
    pub(super) fn take_freezes(&mut self) -> Option<u32> {
        self.blocks().map(BlockRing::take_freezes)
    }
}

/// A `tpacket_req`, or `tpacket_req3`.
#[derive(Clone, Copy)]
struct TpacketReq {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
    /// Of version 3.
    blocks: Option<Wanted>,
}

impl TpacketReq {
    fn from_bytes(value: &[u8], version: i32) -> Result<Self, Errno> {
        let mut words = value
            .chunks_exact(4)
            .map(|word| word.try_into().map(u32::from_ne_bytes).map_err(|_| Errno::EINVAL));
        let mut word = || words.next().ok_or(Errno::EINVAL)?;
        let (block_size, block_nr, frame_size, frame_nr) = (word()?, word()?, word()?, word()?);
        let blocks = if version == TPACKET_V3 {
            let (retire_blk_tov, sizeof_priv, feature_req_word) = (word()?, word()?, word()?);
            Some(Wanted { retire_blk_tov, sizeof_priv, feature_req_word })
        } else {
            None
        };
        Ok(Self { block_size, block_nr, frame_size, frame_nr, blocks })
    }

    /// The ring it asks for; `None`: the one there is goes.
    fn ring(&self, reserve: u32, most: usize) -> Result<Option<RxRing>, Errno> {
        if self.block_nr == 0 {
            return if self.frame_nr == 0 { Ok(None) } else { Err(Errno::EINVAL) };
        }
        let headers = if self.blocks.is_some() { TPACKET3_HDRLEN } else { TPACKET_HDRLEN };
        let least = (headers as u32).saturating_add(reserve);
        let in_front = self.blocks.map_or(0, |wanted| blk_plus_priv(wanted.sizeof_priv as usize));
        let sound = (1..=i32::MAX as u32).contains(&self.block_size)
            && self.block_size.is_multiple_of(PAGE_SIZE)
            && (self.blocks.is_none()
                || self.block_size as usize >= in_front.saturating_add(least as usize))
            && self.frame_size >= least
            && self.frame_size.is_multiple_of(TPACKET_ALIGNMENT as u32);
        if !sound {
            return Err(Errno::EINVAL);
        }
        let frames = (self.block_size / self.frame_size).checked_mul(self.block_nr);
        if frames.is_none_or(|frames| frames == 0 || frames != self.frame_nr) {
            return Err(Errno::EINVAL);
        }
        if u64::from(self.block_size) * u64::from(self.block_nr) > most as u64 {
            return Err(Errno::ENOMEM);
        }
        Ok(Some(match self.blocks {
            None => RxRing::Frames(FrameRing::new(self.frame_nr, self.frame_size as usize)),
            Some(wanted) => {
                RxRing::Blocks(BlockRing::new(self.block_nr, self.block_size as usize, wanted))
            }
        }))
    }
}

/// Gives a socket a ring, or takes it away (`PACKET_RX_RING`).
///
/// # Errors
/// EINVAL for sizes that do not fit each other; EBUSY with a ring, or while somebody has it; ENOMEM.
///
/// linux: net/packet/af_packet.c:packet_set_ring
pub(super) fn packet_set_ring(cx: &mut TaskCx, sk: &Arc<Sock>, value: &[u8]) -> Result<(), Errno> {
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    let (req, reserve) = {
        let mut state = sk.state();
        let po = state.packet().ok_or(Errno::EBADF)?;
        let req = TpacketReq::from_bytes(value, po.tp_version)?;
        let held = |ring: &RxRing| req.block_nr != 0 || ring.is_mapped();
        if po.rx_ring.as_ref().is_some_and(held) {
            return Err(Errno::EBUSY);
        }
        (req, po.tp_reserve)
    };
    let ring = req.ring(reserve, m.depot.cap())?;
    let running = unregister_prot_hook(cx, sk);
    let (old, mut queued) = {
        let mut state = sk.state();
        state.rmem_alloc = 0;
        let queued = std::mem::take(&mut state.receive_queue);
        let po = state.packet().ok_or(Errno::EBADF)?;
        (std::mem::replace(&mut po.rx_ring, ring), queued)
    };
    drop(old);
    cx.local_bh_disable(|bh| {
        for skb in queued.drain() {
            kfree_skb(bh, skb, DropReason::SocketClose);
        }
    });
    if running {
        register_prot_hook(cx, sk);
    }
    Ok(())
}

/// A socket's receive ring, for its reader.
///
/// # Errors
/// EBADF, ENOTSOCK; EINVAL for a socket without one.
///
/// linux: net/packet/af_packet.c:packet_mmap
pub fn packet_mmap(cx: &mut TaskCx, fd: i32) -> Result<RingMap, Errno> {
    cx.enter_call();
    let file = cx.task().files().get(fd).ok_or(Errno::EBADF)?;
    let socket = File::socket(&file).ok_or(Errno::ENOTSOCK)?;
    let mut state = socket.sk.state();
    let ring = state.packet().and_then(|po| po.rx_ring.as_ref()).ok_or(Errno::EINVAL)?;
    Ok(ring.map())
}

/// Where a packet begins in its frame, and where its network header does.
fn offsets(sk: &Sock, po: &PacketSock, skb: &SkBuff) -> (usize, usize) {
    let align = |octets: usize| octets.next_multiple_of(TPACKET_ALIGNMENT);
    let reserve = po.tp_reserve as usize;
    let headers = if po.tp_version == TPACKET_V3 { TPACKET3_HDRLEN } else { TPACKET_HDRLEN };
    if sk.sk_type() != SOCK_RAW {
        let both = align(headers) + 16 + reserve;
        return (both, both);
    }
    let maclen = skb.network_offset().max(0) as usize;
    let net = align(headers + maclen.max(16)) + reserve;
    (net - maclen, net)
}

/// Copies a packet to the next frame of its socket's ring; counts it where that is still the reader's.
///
/// linux: net/packet/af_packet.c:tpacket_rcv
pub(super) fn tpacket_rcv(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    (skb, program): (Skb, Option<&BpfProg>),
    dev: &Arc<NetDevice>,
) {
    walk!(cx, skb, tpacket_rcv);
    let Some(Begun { mut skb, origlen, addr }) = begin(cx, sk, skb, program) else { return };
    let mut from = SockaddrLl {
        protocol: skb.protocol,
        ifindex: dev.ifindex.0.into(),
        hatype: dev.kind,
        pkttype: skb.pkt_type as u8,
        halen: ADDR_LEN as u8,
        ..SockaddrLl::default()
    };
    from.addr[..ADDR_LEN].copy_from_slice(&addr);
    let mut state = sk.state_of_tap();
    let filled = state.packet().map_or(Filled::No, |po| {
        let (mac, net) = offsets(sk, po, &skb);
        let hashed = matches!(&po.rx_ring, Some(RxRing::Blocks(ring)) if ring.fill_rxhash);
        let rxhash = if hashed { skb.skb_get_hash(cx) } else { 0 };
        let now = cx.m.ktime_get_real();
        let (status, len) = (TP_STATUS_USER | tp_status_of(&skb), origlen as u32);
        let packet = u16::try_from(mac).and_then(|mac| {
            Ok(Packet { status, len, mac, net: net.try_into()?, now, rxhash, from })
        });
        po.fill(&skb, packet.ok())
    });
    let mut timer = None;
    if filled == Filled::No {
        state.drops = state.drops.wrapping_add(1);
    } else {
        let ring = state.packet().and_then(|po| po.rx_ring.as_mut()).and_then(RxRing::blocks);
        timer = ring.and_then(|ring| ring.start_timer(sk, cx.now()));
    }
    if filled != Filled::Yes {
        state.sk_data_ready(cx);
    }
    drop(state);
    if let Some((at, timer)) = timer {
        cx.add_timer(at, timer, 0);
    }
    if filled == Filled::No {
        kfree_skb(cx, skb, DropReason::SocketRcvbuff);
    } else {
        consume_skb(cx, skb);
    }
}

impl PacketSock {
    /// Puts a packet into the ring, if it can be described there, and counts it.
    fn fill(&mut self, skb: &SkBuff, packet: Option<Packet>) -> Filled {
        let losing = self.tp_drops != 0;
        let filled = match (&mut self.rx_ring, packet) {
            (Some(RxRing::Frames(ring)), Some(mut packet)) => {
                packet.status |= if losing { TP_STATUS_LOSING } else { 0 };
                // Each frame is the reader's at once.
                if ring.fill(skb, &packet) { Filled::AndOneIsFull } else { Filled::No }
            }
            (Some(RxRing::Blocks(ring)), Some(packet)) => ring.fill(skb, &packet, losing),
            _ => Filled::No,
        };
        let count = if filled == Filled::No { &mut self.tp_drops } else { &mut self.tp_packets };
        *count = count.wrapping_add(1);
        filled
    }
}
