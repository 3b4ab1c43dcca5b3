//! Rings of frames, of versions 1 and 2: a packet each.
//!
//! linux: net/packet/af_packet.c (`__packet_lookup_frame`), include/uapi/linux/if_packet.h. Key types:
//! [`PacketRing`], [`RingFrame`]. Contexts and locks: see the ring's own module.

use super::Packet;
use super::slots::{InHand, Slots};
use crate::net::core::skbuff::SkBuff;
use std::fmt;
use uapi::if_packet::SockaddrLl;

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

/// A socket's side of its ring.
#[derive(Debug)]
pub(in crate::net::packet::af_packet) struct FrameRing {
    slots: Slots<Body>,
    /// The frame that is filled next.
    head: usize,
}

/// A ring as its reader has it: the memory that Linux maps.
#[derive(Clone, Debug)]
pub struct PacketRing(Slots<Body>);

/// A frame in its reader's hand; dropping it gives it back to the socket.
pub struct RingFrame(InHand<Body>);

impl fmt::Debug for RingFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingFrame({}, {:?})", self.0.at, self.0.header)
    }
}

impl PacketRing {
    /// Frames.
    #[allow(clippy::len_without_is_empty, reason = "a ring has frames")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A frame's `TP_STATUS_*`; 0, as the socket's own has, where there is no such frame.
    pub fn tp_status(&self, at: usize) -> u32 {
        self.0.status(at)
    }

    /// Takes a frame in hand, if it is the reader's and nobody has it.
    pub fn take(&self, at: usize) -> Option<RingFrame> {
        self.0.take(at).map(RingFrame)
    }
}

impl RingFrame {
    /// What its header says.
    pub fn header(&self) -> &TpacketHdr {
        &self.0.header
    }

    /// Where it came in, and from whom.
    pub fn from(&self) -> &SockaddrLl {
        &self.0.from
    }

    /// The packet, as much of it as is here.
    pub fn data(&self) -> &[u8] {
        self.0.data.get(..self.0.header.tp_snaplen as usize).unwrap_or(&[])
    }
}

impl FrameRing {
    pub(super) fn new(frame_nr: u32, frame_size: usize) -> Self {
        let body = || Body { data: vec![0; frame_size].into(), ..Body::default() };
        Self { slots: Slots::new(frame_nr, body), head: 0 }
    }

    pub(super) fn map(&self) -> PacketRing {
        PacketRing(self.slots.clone())
    }

    /// Some reader has it.
    pub(super) fn is_mapped(&self) -> bool {
        self.slots.is_shared()
    }

    /// Frames.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The frame at so many places behind the head is the socket's.
    pub(super) fn is_free(&self, ahead: usize) -> bool {
        self.slots.is_free((self.head + ahead) % self.len())
    }

    /// Fills the next frame and gives it to the reader; false when he has it still.
    pub(super) fn fill(&mut self, skb: &SkBuff, packet: &Packet) -> bool {
        if !self.is_free(0) {
            return false;
        }
        let filled = self.slots.with(self.head, |body| {
            // What is behind the headers is the packet's.
            let room = body.data.len().saturating_sub(packet.mac.into());
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
        });
        if filled.is_none() {
            return false;
        }
        self.slots.give(self.head, packet.status);
        self.head = (self.head + 1) % self.len();
        true
    }
}
