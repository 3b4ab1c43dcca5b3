//! Receive rings: frames in memory that the socket and its reader hand to each other.
//!
//! linux: net/packet/af_packet.c (`packet_set_ring`, `tpacket_rcv`, `packet_mmap`). Key types: [`PacketRing`],
//! [`RingFrame`]. Contexts: setting up by tasks, under `class::Rtnl`; filling in BH, under `class::Sock`; reading
//! anywhere. Locks: `class::Ring`, a frame's, for a moment.
//! Invariant: a frame is the socket's while its `tp_status` is `TP_STATUS_KERNEL`, else the reader's: whoever has it
//! writes the status last and reads it first.
//! DIVERGES: no transmit rings (ENOPROTOOPT) and no blocks of version 3 (EINVAL). A ring is no longer than the
//! machine's memory for packets: ENOMEM.

use super::rcv::{Begun, begin};
use super::recv::tp_status_of;
use super::{ADDR_LEN, PacketSock, register_prot_hook, unregister_prot_hook};
use crate::fs::File;
use crate::kernel::bpf::BpfProg;
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::NetDevice;
use crate::net::core::skbuff::{SkBuff, Skb, consume_skb, kfree_skb};
use crate::net::core::sock::Sock;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use uapi::errno::Errno;
use uapi::if_packet::{
    SOCKADDR_LL_LEN, SockaddrLl, TP_STATUS_KERNEL, TP_STATUS_LOSING, TP_STATUS_USER,
    TPACKET_ALIGNMENT, TPACKET_HDR_LEN, TPACKET_V3,
};
use uapi::socket::SOCK_RAW;

/// What blocks are multiples of.
const PAGE_SIZE: u32 = 4096;
/// Octets in front of a frame's packet at least: its header and its link address.
///
/// linux: include/uapi/linux/if_packet.h:TPACKET2_HDRLEN
const TPACKET_HDRLEN: usize = TPACKET_HDR_LEN + SOCKADDR_LL_LEN;

/// What a frame's header says of its packet.
///
/// linux: include/uapi/linux/if_packet.h:tpacket2_hdr
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TpacketHdr {
    /// `TP_STATUS_*`.
    pub tp_status: u32,
    /// Octets of the packet.
    pub tp_len: u32,
    /// Those of them that are here.
    pub tp_snaplen: u32,
    /// Where the packet begins, from the frame's start.
    pub tp_mac: u16,
    /// Where its network header does.
    pub tp_net: u16,
    /// When it came, by the wall clock: seconds.
    pub tp_sec: u32,
    /// And nanoseconds.
    pub tp_nsec: u32,
}

/// A frame's contents.
#[derive(Debug, Default)]
struct Body {
    header: TpacketHdr,
    from: SockaddrLl,
    data: Box<[u8]>,
}

struct Slot {
    tp_status: AtomicU32,
    /// Empty while the reader has it in hand.
    body: SpinLock<Option<Box<Body>>, class::Ring>,
}

/// The memory of a ring.
pub(super) struct RingBuffer {
    slots: Box<[Slot]>,
    frame_size: usize,
}

impl fmt::Debug for RingBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingBuffer({} frames of {})", self.slots.len(), self.frame_size)
    }
}

/// A socket's side of its ring.
#[derive(Debug)]
pub(super) struct RxRing {
    buffer: Arc<RingBuffer>,
    /// The frame that is filled next.
    head: usize,
}

/// A ring as its reader has it: the memory that Linux maps.
#[derive(Clone, Debug)]
pub struct PacketRing(Arc<RingBuffer>);

/// A frame in its reader's hand; dropping it gives it back to the socket.
pub struct RingFrame {
    buffer: Arc<RingBuffer>,
    at: usize,
    body: Box<Body>,
}

impl fmt::Debug for RingFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingFrame({}, {:?})", self.at, self.body.header)
    }
}

impl PacketRing {
    /// Frames.
    #[allow(clippy::len_without_is_empty, reason = "a ring has frames")]
    pub fn len(&self) -> usize {
        self.0.slots.len()
    }

    /// A frame's `TP_STATUS_*`; 0, as the socket's own has, where there is no such frame.
    pub fn tp_status(&self, at: usize) -> u32 {
        self.0.slots.get(at).map_or(TP_STATUS_KERNEL, |slot| slot.tp_status.load(Ordering::Acquire))
    }

    /// Takes a frame in hand, if it is the reader's and nobody has it.
    pub fn take(&self, at: usize) -> Option<RingFrame> {
        if self.tp_status(at) & TP_STATUS_USER == 0 {
            return None;
        }
        let body = self.0.slots.get(at)?.body.lock().take()?;
        Some(RingFrame { buffer: Arc::clone(&self.0), at, body })
    }
}

impl RingFrame {
    /// What its header says.
    pub fn header(&self) -> &TpacketHdr {
        &self.body.header
    }

    /// Where it came in, and from whom.
    pub fn from(&self) -> &SockaddrLl {
        &self.body.from
    }

    /// The packet, as much of it as is here.
    pub fn data(&self) -> &[u8] {
        self.body.data.get(..self.body.header.tp_snaplen as usize).unwrap_or(&[])
    }
}

impl Drop for RingFrame {
    fn drop(&mut self) {
        let slot = &self.buffer.slots[self.at];
        *slot.body.lock() = Some(std::mem::take(&mut self.body));
        slot.tp_status.store(TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl RxRing {
    /// The frame at so many places behind the head is the socket's.
    fn is_free(&self, ahead: usize) -> bool {
        let slots = &self.buffer.slots;
        let slot = &slots[(self.head + ahead) % slots.len()];
        slot.tp_status.load(Ordering::Acquire) == TP_STATUS_KERNEL
    }

    /// How much room there is: a quarter of the ring, one frame, none.
    ///
    /// linux: net/packet/af_packet.c:__tpacket_has_room
    pub(super) fn room(&self) -> super::fanout::Room {
        use super::fanout::Room;
        match (self.is_free(self.buffer.slots.len() / 4), self.is_free(0)) {
            (true, _) => Room::Normal,
            (false, true) => Room::Low,
            (false, false) => Room::None,
        }
    }

    /// The frame filled last is still the reader's.
    ///
    /// linux: net/packet/af_packet.c:packet_previous_rx_frame
    pub(super) fn readable(&self) -> bool {
        !self.is_free(self.buffer.slots.len() - 1)
    }
}

/// A `tpacket_req`.
#[derive(Clone, Copy)]
struct TpacketReq {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
}

impl TpacketReq {
    fn from_bytes(value: &[u8]) -> Result<Self, Errno> {
        let value: &[u8; 16] = value.first_chunk().ok_or(Errno::EINVAL)?;
        let word = |at: usize| {
            u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])
        };
        let (block_size, block_nr, frame_size, frame_nr) = (word(0), word(4), word(8), word(12));
        Ok(Self { block_size, block_nr, frame_size, frame_nr })
    }

    /// The ring it asks for; `None`: the one there is goes.
    fn ring(&self, reserve: u32, most: usize) -> Result<Option<RxRing>, Errno> {
        if self.block_nr == 0 {
            return if self.frame_nr == 0 { Ok(None) } else { Err(Errno::EINVAL) };
        }
        let least = (TPACKET_HDRLEN as u32).saturating_add(reserve);
        let sound = (1..=i32::MAX as u32).contains(&self.block_size)
            && self.block_size.is_multiple_of(PAGE_SIZE)
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
        let frame_size = self.frame_size as usize;
        let slot = || Slot {
            tp_status: AtomicU32::new(TP_STATUS_KERNEL),
            body: SpinLock::new(Some(Box::new(Body {
                data: vec![0; frame_size].into(),
                ..Body::default()
            }))),
        };
        let slots = (0..self.frame_nr).map(|_| slot()).collect();
        let buffer = Arc::new(RingBuffer { slots, frame_size });
        Ok(Some(RxRing { buffer, head: 0 }))
    }
}

/// Gives a socket a ring, or takes it away (`PACKET_RX_RING`).
///
/// # Errors
/// EINVAL for sizes that do not fit each other, and for version 3; EBUSY with a ring, or while somebody has it; ENOMEM.
///
/// linux: net/packet/af_packet.c:packet_set_ring
pub(super) fn packet_set_ring(cx: &mut TaskCx, sk: &Arc<Sock>, value: &[u8]) -> Result<(), Errno> {
    let req = TpacketReq::from_bytes(value)?;
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    let reserve = {
        let mut state = sk.state();
        let po = state.packet().ok_or(Errno::EBADF)?;
        if po.tp_version == TPACKET_V3 {
            return Err(Errno::EINVAL);
        }
        let held = |ring: &RxRing| req.block_nr != 0 || Arc::strong_count(&ring.buffer) > 1;
        if po.rx_ring.as_ref().is_some_and(held) {
            return Err(Errno::EBUSY);
        }
        po.tp_reserve
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
pub fn packet_mmap(cx: &mut TaskCx, fd: i32) -> Result<PacketRing, Errno> {
    cx.enter_call();
    let file = cx.task().files().get(fd).ok_or(Errno::EBADF)?;
    let socket = File::socket(&file).ok_or(Errno::ENOTSOCK)?;
    let mut state = socket.sk.state();
    let ring = state.packet().and_then(|po| po.rx_ring.as_ref()).ok_or(Errno::EINVAL)?;
    Ok(PacketRing(Arc::clone(&ring.buffer)))
}

/// Where a packet begins in its frame, and where its network header does.
fn offsets(sk: &Sock, po: &PacketSock, skb: &SkBuff) -> (usize, usize) {
    let align = |octets: usize| octets.next_multiple_of(TPACKET_ALIGNMENT);
    let reserve = po.tp_reserve as usize;
    if sk.sk_type() != SOCK_RAW {
        let both = align(TPACKET_HDRLEN) + 16 + reserve;
        return (both, both);
    }
    let maclen = skb.network_offset().max(0) as usize;
    let net = align(TPACKET_HDRLEN + maclen.max(16)) + reserve;
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
    let Some(Begun { skb, origlen, addr }) = begin(cx, sk, skb, program) else { return };
    let now = cx.m.ktime_get_real();
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
    let filled = state.packet().is_some_and(|po| {
        let (mac, net) = offsets(sk, po, &skb);
        let header = TpacketHdr {
            tp_status: TP_STATUS_USER
                | tp_status_of(&skb)
                | if po.tp_drops != 0 { TP_STATUS_LOSING } else { 0 },
            tp_len: origlen as u32,
            tp_snaplen: 0,
            tp_mac: mac as u16,
            tp_net: net as u16,
            tp_sec: (now / 1_000_000_000) as u32,
            tp_nsec: (now % 1_000_000_000) as u32,
        };
        let filled = net <= usize::from(u16::MAX) && po.fill(&skb, header, from);
        if filled {
            po.tp_packets = po.tp_packets.wrapping_add(1);
        } else {
            po.tp_drops = po.tp_drops.wrapping_add(1);
        }
        filled
    });
    if !filled {
        state.drops = state.drops.wrapping_add(1);
    }
    state.sk_data_ready(cx);
    drop(state);
    if filled { consume_skb(cx, skb) } else { kfree_skb(cx, skb, DropReason::SocketRcvbuff) }
}

impl PacketSock {
    /// Fills the next frame and gives it to the reader; false when he has it still.
    fn fill(&mut self, skb: &SkBuff, mut header: TpacketHdr, from: SockaddrLl) -> bool {
        let Some(ring) = &mut self.rx_ring else { return false };
        let slot = &ring.buffer.slots[ring.head];
        if slot.tp_status.load(Ordering::Acquire) != TP_STATUS_KERNEL {
            return false;
        }
        {
            let mut body = slot.body.lock();
            let Some(body) = body.as_deref_mut() else { return false };
            // What is behind the headers is the packet's.
            let room = ring.buffer.frame_size.saturating_sub(header.tp_mac.into());
            let room = room.min(body.data.len());
            header.tp_snaplen = skb.skb_copy_bits(0, &mut body.data[..room]) as u32;
            (body.header, body.from) = (header, from);
        }
        slot.tp_status.store(header.tp_status, Ordering::Release);
        ring.head = (ring.head + 1) % ring.buffer.slots.len();
        true
    }
}
