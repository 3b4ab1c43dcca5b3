//! Rings of frames, of versions 1 and 2: a packet each.
//!
//! linux: net/packet/af_packet.c (`__packet_lookup_frame`), include/uapi/linux/if_packet.h. Key types:
//! [`PacketRing`], [`RingFrame`]. Contexts and locks: see the ring's own module.

use super::Packet;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::skbuff::SkBuff;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use uapi::if_packet::{SockaddrLl, TP_STATUS_KERNEL, TP_STATUS_USER};

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
pub(in crate::net::packet::af_packet) struct FrameRing {
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

impl FrameRing {
    pub(super) fn new(frame_nr: u32, frame_size: usize) -> Self {
        let slot = || Slot {
            tp_status: AtomicU32::new(TP_STATUS_KERNEL),
            body: SpinLock::new(Some(Box::new(Body {
                data: vec![0; frame_size].into(),
                ..Body::default()
            }))),
        };
        let slots = (0..frame_nr).map(|_| slot()).collect();
        Self { buffer: Arc::new(RingBuffer { slots, frame_size }), head: 0 }
    }

    pub(super) fn map(&self) -> PacketRing {
        PacketRing(Arc::clone(&self.buffer))
    }

    /// Some reader has it.
    pub(super) fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.buffer) > 1
    }

    /// Frames.
    pub(super) fn len(&self) -> usize {
        self.buffer.slots.len()
    }

    /// The frame at so many places behind the head is the socket's.
    pub(super) fn is_free(&self, ahead: usize) -> bool {
        let slots = &self.buffer.slots;
        let slot = &slots[(self.head + ahead) % slots.len()];
        slot.tp_status.load(Ordering::Acquire) == TP_STATUS_KERNEL
    }

    /// Fills the next frame and gives it to the reader; false when he has it still.
    pub(super) fn fill(&mut self, skb: &SkBuff, packet: &Packet) -> bool {
        let slot = &self.buffer.slots[self.head];
        if slot.tp_status.load(Ordering::Acquire) != TP_STATUS_KERNEL {
            return false;
        }
        {
            let mut body = slot.body.lock();
            let Some(body) = body.as_deref_mut() else { return false };
            // What is behind the headers is the packet's.
            let room = self.buffer.frame_size.saturating_sub(packet.mac.into());
            let room = room.min(body.data.len());
            let tp_snaplen = skb.skb_copy_bits(0, &mut body.data[..room]) as u32;
            let (tp_sec, tp_nsec) = packet.time();
            body.from = packet.from;
            body.header = TpacketHdr {
                tp_status: packet.status,
                tp_len: packet.len,
                tp_snaplen,
                tp_mac: packet.mac,
                tp_net: packet.net,
                tp_sec,
                tp_nsec,
            };
        }
        slot.tp_status.store(packet.status, Ordering::Release);
        self.head = (self.head + 1) % self.buffer.slots.len();
        true
    }
}
