//! A tap at every device of a machine, that keeps what passes.
//!
//! Key types: [`Frame`], [`Capture`]. Contexts: BH, by `ptype_all`. Locks: the list's own, a leaf,
//! held while one frame is appended.

use stack::kernel::context::BhCx;
use stack::kernel::time::Ktime;
use stack::kernel::trace::WalkId;
use stack::net::core::dev::{DevId, NetDevice, PacketTap};
use stack::net::core::skbuff::{IpSummed, PktType, Skb, consume_skb};
use std::sync::{Arc, Mutex, PoisonError};
use uapi::if_ether::EthHdr;
use zerocopy::IntoBytes;

/// A frame as it passed a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When the tap saw it.
    pub time: Ktime,
    /// The machine, an index into the scene's hosts.
    pub machine: u16,
    /// The device.
    pub dev: DevId,
    /// It left the machine; else it came in.
    pub outgoing: bool,
    /// The tap's clone of the packet in the walk; the clone's link leads to the packet.
    pub packet: WalkId,
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// The tap.
#[derive(Debug, Default)]
pub(super) struct Capture(Mutex<Vec<Frame>>);

impl Capture {
    /// Takes what was kept, in its order.
    pub(super) fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PacketTap for Capture {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        let outgoing = skb.pkt_type == PktType::Outgoing;
        let mut bytes = Vec::with_capacity(skb.len() + size_of::<EthHdr>());
        // What comes in has its Ethernet header pulled already; what leaves still begins with it.
        if !outgoing && let Some(header) = skb.mac::<EthHdr>() {
            bytes.extend_from_slice(header.as_bytes());
        }
        for part in skb.parts() {
            bytes.extend_from_slice(part);
        }
        // What a card is to fill in is filled in here, as a cable would carry it; coming in, the
        // place counts from behind the Ethernet header.
        if let (IpSummed::Partial, Some(start)) = (skb.ip_summed, skb.csum_start_offset()) {
            let start = usize::from(start) + bytes.len() - skb.len();
            let offset = usize::from(skb.csum_offset);
            let _outside = hw::capture::fill_checksum(&mut bytes, start, offset);
        }
        let time = cx.machine().ktime_get();
        let machine = cx.machine().id;
        let frame = Frame { time, machine, dev: dev.ifindex, outgoing, packet: skb.walk_id, bytes };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
        consume_skb(cx, skb);
    }
}
