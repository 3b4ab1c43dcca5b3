//! The packet: a buffer with head room, offsets of its headers, its owner, route and history.
//!
//! linux: net/core/skbuff.c, include/linux/skbuff.h. Key types: [`SkBuff`], [`Skb`], [`SkbPool`].
//! Contexts: allocation in BH; reading and writing by whoever owns the handle. No lock.
//! Invariants: a packet has one owner and its end is stated ([`consume_skb`], [`kfree_skb`]); the
//! data of a clone can't be written.

mod data;
mod depot;
mod list;
mod memory;
mod pool;
mod rx_pages;
#[cfg(test)]
mod tests;
mod walk_frame;
mod zerocopy;

pub use depot::Depot;
pub use list::SkbList;
pub(crate) use list::{Common, Inspect, SpareLists};
pub(crate) use memory::{Buffer, Head, PageFrag};
pub use memory::{PAGE_FRAG_SIZE, Page, Skb};
pub(crate) use pool::skb_truesize;
pub use pool::{SKB_DATA_SIZE, SkbPool};
pub use rx_pages::RxPages;
pub use zerocopy::skb_orphan_frags_rx;
pub(crate) use zerocopy::{
    UbufInfo, msg_zerocopy_put_abort, msg_zerocopy_realloc, net_zcopy_put, net_zcopy_put_task,
    settle_zerocopy, skb_zcopy,
};

use crate::kernel::context::{BhCx, TaskCx, Walker};
use crate::kernel::time::Ktime;
use crate::kernel::trace::{WalkId, drop_reason::DropReason, events::Point};
use crate::net::core::dev::DevId;
use crate::net::core::dst::Dst;
use crate::net::core::sock::SkbOwner;
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::ip_sockglue::PktinfoSkbCb;
use bitflags::bitflags;
use std::sync::{Arc, Weak};

/// Room that every receive buffer leaves in front, for the headers of whoever forwards it.
pub const NET_SKB_PAD: usize = 64;

/// What goes in front of a frame besides, so that the data of a UDP datagram begins on a cache line:
/// behind 14 bytes of Ethernet, 20 of IP and 8 of UDP.
pub(crate) const NET_DATA_ALIGN: usize = 64 - 42;

/// What is known of the checksum.
///
/// linux: include/linux/skbuff.h:CHECKSUM_NONE
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum IpSummed {
    /// Nothing: software checks (in), or it is complete in the packet (out).
    #[default]
    None,
    /// The device checked it.
    Unnecessary,
    /// `csum` is the sum over the packet from the network payload on.
    Complete,
    /// To be filled in from `csum_start`, stored at `csum_offset` (out); or a local packet whose
    /// sum nobody computed (in).
    Partial,
}

/// To whom the frame was addressed.
///
/// linux: include/uapi/linux/if_packet.h:PACKET_HOST
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PktType {
    /// To us.
    #[default]
    Host,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
    /// To somebody else; seen because the device is promiscuous.
    OtherHost,
    /// From us.
    Outgoing,
    /// A multicast of ours, looped back.
    Loopback,
}

bitflags! {
    /// Marks of a packet.
    ///
    /// linux: include/linux/skbuff.h:SKBTX_SW_TSTAMP, include/net/tcp.h:tcp_skb_cb (`txstamp_ack`)
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SkbFlags: u8 {
        /// It has a time.
        const STAMPED = 1;
        /// Its sender is told when the driver gets it.
        const SW_TSTAMP = 2;
        /// Its sender is told when it comes to the queueing discipline.
        const SCHED_TSTAMP = 4;
        /// In a stream's queue: its sender is told when it is acknowledged.
        const ACK_TSTAMP = 8;
        /// Any of the last three.
        const TX_TSTAMP = 14;
    }
}

/// What each layer keeps in the packet while it has it (`cb[48]`).
#[derive(Clone, Copy, Debug, Default)]
pub enum Cb {
    /// Nothing.
    #[default]
    None,
    /// IP's.
    Inet(InetSkbParm),
    /// What a socket's reader is to be told.
    Pktinfo(PktinfoSkbCb),
    /// TCP's.
    Tcp(crate::net::ipv4::tcp::TcpSkbCb),
    /// A packet socket's.
    Packet(crate::net::packet::af_packet::PacketSkbCb),
    /// GRO's.
    Gro(crate::net::core::dev::NapiGroCb),
    /// An ARP request's or a neighbour queue's: nothing beside the packet.
    Neigh,
}

/// Segmentation still to be done below the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gso {
    /// Payload bytes of a segment; zero: a plain packet.
    pub size: u16,
    /// Segments.
    pub segs: u16,
    /// Of what.
    pub kind: GsoType,
}

/// What a packet of several segments is cut into.
///
/// linux: include/linux/skbuff.h:SKB_GSO_TCPV4
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GsoType {
    /// TCP segments over IPv4.
    #[default]
    Tcpv4,
    /// UDP datagrams over IPv4, all of one length but the last.
    UdpL4,
}

/// A fragment of a packet's data: a piece of a shared page.
#[derive(Clone, Debug)]
pub struct SkbFrag {
    /// The page.
    pub page: Arc<Page>,
    /// Where the piece begins.
    pub offset: u32,
    /// Its length.
    pub size: u32,
}

/// Where the next piece of a packet's fragments begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FragCut {
    frag: usize,
    offset: u32,
}

impl FragCut {
    /// Lets `to` refer to the next `len` octets.
    #[inline]
    pub(crate) fn take(&mut self, from: &SkBuff, len: u32, to: &mut SkBuff) {
        let mut left = len;
        while left != 0
            && let Some(frag) = from.frags.get(self.frag)
        {
            let size = (frag.size - self.offset).min(left);
            let page = Arc::clone(&frag.page);
            to.frags.push(SkbFrag { page, offset: frag.offset + self.offset, size });
            left -= size;
            self.offset += size;
            if self.offset == frag.size {
                (self.frag, self.offset) = (self.frag + 1, 0);
            }
        }
        to.len += len;
        to.data_len += len;
        to.truesize += len;
    }
}

impl SkbFrag {
    /// A piece that is all of `bytes`, copied.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self { page: Arc::new(Page::from(bytes)), offset: 0, size: bytes.len() as u32 }
    }

    /// The bytes; none of a piece that its page does not have.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.page.get(self.offset, self.size).unwrap_or(&[])
    }
}

/// A packet.
///
/// linux: include/linux/skbuff.h:sk_buff
// In this order, on cache lines of its own: a batch's packets fill a good part of the first-level
// cache. A plain packet's way from one end to the other touches two lines and leaves the third alone.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SkBuff {
    pub(crate) head: Head,
    /// The packet's id in the walk.
    pub walk_id: WalkId,
    /// Bytes in all.
    pub(crate) len: u32,
    /// Bytes that are not linear: those in `frags`.
    pub(crate) data_len: u32,
    pub(crate) mac_header: u16,
    pub(crate) network_header: u16,
    pub(crate) transport_header: u16,
    /// The ethertype.
    pub protocol: u16,
    /// The device it came in at, or is to leave by.
    pub dev: Option<DevId>,
    /// To whom it was addressed.
    pub pkt_type: PktType,
    /// What is known of the checksum.
    pub ip_summed: IpSummed,
    /// The hash covers the ports, or is the machine's own (`l4_hash`, `sw_hash`): it stays.
    pub l4_hash: bool,
    /// What it is to be told of, and whether `tstamp` says something.
    pub(crate) flags: SkbFlags,

    /// Who is charged for it.
    pub(crate) owner: SkbOwner,
    /// Its route.
    pub(crate) dst: Option<Arc<Dst>>,
    /// The layer's own data.
    pub cb: Cb,
    /// Bytes this packet is charged with.
    pub truesize: u32,
    /// The flow's hash, zero if unknown.
    pub hash: u32,
    /// Queueing priority (`SO_PRIORITY`).
    pub priority: u32,
    /// The mark (`SO_MARK`).
    pub mark: u32,
    /// The queue of the device, plus one when it was recorded on receipt; zero: none.
    pub queue_mapping: u16,
    /// `Partial`: where summing starts, from the head's start.
    pub csum_start: u16,
    /// `Partial`: where the result goes, from `csum_start`.
    pub csum_offset: u16,
    /// Segmentation still to be done.
    pub gso: Gso,

    /// Received, `Complete`: the sum. Sent, and to be told of: which packet or octet it is (`tskey`). Else without
    /// meaning.
    pub csum: u32,
    /// When it was received; without meaning unless `flags` say so.
    tstamp: Ktime,
    /// Where the memory belongs, should a panic unwind the packet.
    pub(super) home: Weak<Depot>,
    /// Empty unless `data_len` is not 0.
    pub(crate) frags: Vec<SkbFrag>,
    /// Packets whose data follows: merged into this one. They have neither owner nor route.
    pub(crate) frag_list: Option<Box<SkbList>>,
    /// In TCP's send queues: how things stood when it was sent.
    pub(crate) tcp_tx: crate::net::ipv4::tcp::TcpSkbTx,
}

const _: () = assert!(std::mem::offset_of!(SkBuff, owner) == 64);
const _: () = assert!(std::mem::offset_of!(SkBuff, csum) <= 128 && size_of::<SkBuff>() == 192);

/// Takes a packet from this CPU's magazine: `size` bytes of room, all of it behind the data.
/// `None` when the machine's memory is used up.
///
/// linux: net/core/skbuff.c:__alloc_skb
#[inline(always)]
pub fn alloc_skb(cx: &mut BhCx<'_>, size: usize) -> Option<Skb> {
    let skb = cx.cpu.pool.alloc(size);
    if skb.is_none() {
        cx.cpu.softnet.nomem += 1;
    }
    skb
}

/// Takes a packet for a received frame of `len` bytes: head room for forwarding and for aligning
/// the data.
///
/// linux: net/core/skbuff.c:__netdev_alloc_skb
#[inline(always)]
pub fn netdev_alloc_skb(cx: &mut BhCx<'_>, dev: DevId, len: usize) -> Option<Skb> {
    let mut skb = alloc_skb(cx, NET_SKB_PAD + NET_DATA_ALIGN + len)?;
    skb.skb_reserve(NET_SKB_PAD + NET_DATA_ALIGN);
    skb.dev = Some(dev);
    Some(skb)
}

/// The same for a frame of just `len` bytes, which `fill` writes. Its device is noted when its header is
/// read ([`eth_type_trans`](crate::net::ethernet::eth::eth_type_trans)).
#[inline(always)]
pub fn netdev_alloc_frame(
    cx: &mut BhCx<'_>,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Option<Skb> {
    let mut skb = alloc_skb(cx, NET_SKB_PAD + NET_DATA_ALIGN + len)?;
    match skb.skb_open(NET_SKB_PAD + NET_DATA_ALIGN, len) {
        Some(room) => fill(room),
        None => debug_assert!(false, "there is as much room as was asked for"),
    }
    Some(skb)
}

/// Appends bytes to a packet in pages of this CPU; false, with some of them appended, when the machine's memory
/// is used up.
///
/// linux: net/core/skbuff.c:skb_add_data_nocache
#[must_use]
pub fn skb_add_paged(cx: &mut BhCx<'_>, skb: &mut Skb, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(frag) = cx.cpu.pool.page_frag_refill() else { return false };
        let (page, offset) = (Arc::clone(frag.place().0), frag.place().1);
        let size = frag.append(bytes.len(), |room| room.copy_from_slice(&bytes[..room.len()]));
        skb.add_frag(SkbFrag { page, offset, size });
        bytes = &bytes[size as usize..];
    }
    true
}

/// Ends a packet that did its work.
///
/// linux: net/core/skbuff.c:consume_skb
#[inline(always)]
pub fn consume_skb(cx: &mut BhCx<'_>, skb: Skb) {
    crate::walk!(cx, skb, consume_skb);
    cx.free_skb(skb);
}

/// Ends a packet that did not: counted and recorded under `reason`.
///
/// linux: net/core/skbuff.c:kfree_skb
#[cold]
pub fn kfree_skb(cx: &mut BhCx<'_>, skb: Skb, reason: DropReason) {
    crate::walk!(cx, skb, kfree_skb => reason as u64);
    cx.cpu.mib.count_drop(reason);
    cx.free_skb(skb);
}

/// A second handle on the same data; its walk links to the first's.
/// `None` when the machine's memory is used up.
///
/// linux: net/core/skbuff.c:skb_clone
pub fn skb_clone(cx: &mut BhCx<'_>, skb: &mut Skb) -> Option<Skb> {
    let mut clone = cx.cpu.pool.alloc_handle()?;
    clone.share(skb);
    if let Some(merged) = &mut skb.frag_list
        && !clone_merged(cx, merged, &mut clone)
    {
        cx.free_skb(clone);
        return None;
    }
    if skb.walk_id.watched() {
        clone.walk_id = cx.m.tracer.fresh();
        crate::walk!(cx, clone, link_clone => skb.walk_id.0);
        crate::walk!(cx, skb, skb_clone => clone.walk_id.0);
    }
    Some(clone)
}

/// The same of the packets merged into one; false without memory.
#[cold]
fn clone_merged(cx: &mut BhCx<'_>, merged: &mut SkbList, clone: &mut Skb) -> bool {
    let mut list = cx.skb_list();
    for skb in &mut merged.packets {
        match cx.cpu.pool.alloc_handle() {
            Some(mut copy) => {
                copy.share(skb);
                list.push(copy);
            }
            None => break,
        }
    }
    let whole = list.len() == merged.len();
    clone.frag_list = Some(list);
    whole
}

/// Makes the headers writable with at least `headroom` bytes in front: a clone gets its own copy.
/// False when memory is used up; the packet is as before.
///
/// linux: include/linux/skbuff.h:skb_cow_head
#[must_use]
pub fn skb_cow_head(cx: &mut BhCx<'_>, skb: &mut Skb, headroom: usize) -> bool {
    if skb.headroom() >= headroom && !skb.head.is_shared() {
        return true;
    }
    cx.cpu.pool.expand_head(skb, headroom)
}

/// Brings all of a packet's data into one piece. False when memory is used up; the packet is as before.
///
/// linux: include/linux/skbuff.h:skb_linearize
#[must_use]
pub fn skb_linearize(cx: &mut BhCx<'_>, skb: &mut Skb) -> bool {
    if skb.data_len == 0 {
        return true;
    }
    let copied = cx.cpu.pool.copy_into_head(skb);
    if copied {
        cx.free_frags(skb);
    }
    copied
}

impl SkBuff {
    /// When it was received, or is to leave; zero: unknown.
    #[inline]
    pub fn tstamp(&self) -> Ktime {
        if self.flags.contains(SkbFlags::STAMPED) { self.tstamp } else { Ktime(0) }
    }

    /// Notes when it was received, or is to leave.
    pub fn set_tstamp(&mut self, at: Ktime) {
        self.flags |= SkbFlags::STAMPED;
        self.tstamp = at;
    }

    /// It goes to another namespace: what was said of it in this one says nothing there.
    ///
    /// linux: net/core/skbuff.c:skb_scrub_packet
    pub fn skb_scrub_packet(&mut self) {
        self.clear_tstamp();
        (self.mark, self.priority) = (0, 0);
        self.queue_mapping = 0;
        self.pkt_type = PktType::Host;
    }

    /// Its time says nothing any more.
    ///
    /// linux: include/linux/skbuff.h:skb_clear_tstamp
    #[inline]
    pub fn clear_tstamp(&mut self) {
        self.flags.remove(SkbFlags::STAMPED);
    }

    /// For a station that the packet passes, if it is watched: the packet itself.
    #[inline(always)]
    pub fn each_watched(&self, record: impl Fn(&Self)) {
        record(self);
    }

    /// Takes the packet off its owner's charge: it is on its way to somebody else.
    ///
    /// linux: include/linux/skbuff.h:skb_orphan
    pub fn skb_orphan(&mut self, cx: &mut BhCx<'_>) {
        if !self.owner.is_none() {
            let truesize = self.truesize;
            std::mem::take(&mut self.owner).release(cx, truesize);
        }
    }
}

impl BhCx<'_> {
    /// Gives a packet's memory, charge and route back; nothing is recorded.
    #[inline(always)]
    pub(crate) fn free_skb(&mut self, mut skb: Skb) {
        if !skb.owner.is_none() {
            let owner = std::mem::take(&mut skb.owner);
            owner.release(self, skb.truesize);
        }
        if skb.has_more_than_bytes() {
            self.free_parts(&mut skb);
        }
        self.cpu.pool.free(skb);
    }

    /// Gives back several packets, most often plain ones that a task has read.
    pub(crate) fn free_skbs(&mut self, freed: &mut Vec<Skb>) {
        if !self.cpu.pool.free_plain(freed) {
            for skb in freed.drain(..) {
                self.free_skb(skb);
            }
        }
    }

    /// What few packets still have at their end.
    #[inline(never)]
    fn free_parts(&mut self, skb: &mut Skb) {
        if let Some(dst) = skb.dst.take() {
            self.cpu.routes.give_back(dst);
        }
        if skb.data_len != 0 {
            self.free_frags(skb);
        }
    }

    /// Gives back what is not linear of a packet; its length stays.
    fn free_frags(&mut self, skb: &mut Skb) {
        while let Some(frag) = skb.frags.pop() {
            self.put_page(frag.page);
        }
        if let Some(mut merged) = skb.frag_list.take() {
            self.free_skbs(&mut merged.packets);
            self.free_skb_list(merged);
        }
        skb.data_len = 0;
    }

    /// Marks a packet that enters here, if somebody watches its flow, and records where.
    #[inline]
    pub fn watch(&mut self, skb: &mut SkBuff) {
        if self.m.tracer.on() && !skb.walk_id.watched() {
            self.watch_slow(skb);
        }
    }

    #[cold]
    fn watch_slow(&mut self, skb: &mut SkBuff) {
        skb.walk_id = self.m.tracer.packet(&walk_frame::WalkFrame(skb));
        self.link_span(skb);
    }

    /// Ties a watched packet to the span it is handled in.
    pub fn link_span(&self, skb: &SkBuff) {
        if skb.walk_id.watched() && self.span.watched() {
            self.walk_packet(skb, Point::link_span, self.span.0);
        }
    }
}

/// Ends a packet on the task's side, off any CPU.
pub(crate) fn consume_skb_task(cx: &mut TaskCx, skb: Skb) {
    crate::walk!(cx, skb, consume_skb);
    cx.free(skb);
}
