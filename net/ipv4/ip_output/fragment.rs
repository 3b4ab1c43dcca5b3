//! Packets longer than the MTU, cut into fragments.
//!
//! linux: net/ipv4/ip_output.c (`ip_finish_output_gso`, `ip_fragment`, `ip_do_fragment`); RFC 791 section 3.2. Context: BH.
//! A packet whose frag list holds what its fragments are to carry only gets headers put in front; any other is copied.
//! Invariant: whoever was charged for the packet is for the fragments.

use super::{LL_RESERVED, ip_finish_output2};
use crate::kernel::context::{BhCx, Walker};
use crate::kernel::trace::{WalkId, drop_reason::DropReason, events::Point};
use crate::net::core::dev::{DevId, NetdevFeatures, tx::Lost};
use crate::net::core::dst::Dst;
use crate::net::core::gso::{skb_gso_segment_list, skb_network_seglen};
use crate::net::core::skbuff::{
    Cb, IpSummed, PktType, SkBuff, Skb, SkbList, alloc_skb, consume_skb, kfree_skb, skb_cow_head,
};
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::ip_options::ip_options_fragment;
use klib::checksum::ip_fast_csum;
use std::sync::Arc;
use uapi::icmp::ICMP_FRAG_NEEDED;
use uapi::ip::{IP_MF, IP_OFFSET, IpHdr, MAX_IP_HDR_LEN, MAX_IPOPTLEN};
use uapi::snmp::IpMib;
use zerocopy::FromBytes;

/// Sends packets of which at least one is longer than the MTU of their way.
///
/// linux: net/ipv4/ip_output.c:__ip_finish_output
#[cold]
#[inline(never)]
pub(super) fn finish_too_long(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    let mut lost = Lost::default();
    while let Some(skb) = list.pop_front() {
        let mtu = skb.dst.as_ref().map_or(0, |dst| ip_skb_dst_mtu(cx, &skb, dst));
        lost += if skb_network_seglen(&skb) <= mtu {
            send_alone(cx, skb)
        } else if skb.gso.size == 0 {
            ip_fragment(cx, skb, mtu)
        } else {
            ip_finish_output_gso(cx, skb, mtu)
        };
    }
    lost
}

/// What a packet is held against on its way out: what is known of the way, unless its sender wants nothing of that.
///
/// linux: include/net/ip.h:ip_skb_dst_mtu
fn ip_skb_dst_mtu(cx: &BhCx<'_>, skb: &SkBuff, dst: &Dst) -> usize {
    match skb.cb {
        Cb::Inet(parm) if parm.dev_mtu => dst.dev_mtu(cx.t) as usize,
        _ => dst.mtu as usize,
    }
}

fn send_alone(cx: &mut BhCx<'_>, skb: Skb) -> Lost {
    let mut list = cx.skb_list_of(skb);
    let lost = ip_finish_output2(cx, &mut list);
    cx.free_skb_list(list);
    lost
}

/// The segments of a packet are too long themselves: they are cut first.
///
/// linux: net/ipv4/ip_output.c:ip_finish_output_gso
fn ip_finish_output_gso(cx: &mut BhCx<'_>, skb: Skb, mtu: usize) -> Lost {
    let mut list = cx.skb_list_of(skb);
    skb_gso_segment_list(cx, &mut list, NetdevFeatures::empty());
    let mut lost = Lost { dropped: u32::from(list.is_empty()), refused: 0 };
    while let Some(segment) = list.pop_front() {
        lost += ip_fragment(cx, segment, mtu);
    }
    cx.free_skb_list(list);
    // To its sender it was one packet.
    Lost { dropped: lost.dropped.min(1), refused: lost.refused.min(1) }
}

/// Cuts a packet, or tells its sender that it must not be cut.
///
/// linux: net/ipv4/ip_output.c:ip_fragment
fn ip_fragment(cx: &mut BhCx<'_>, mut skb: Skb, mtu: usize) -> Lost {
    walk!(cx, skb, ip_fragment);
    if skb.front::<IpHdr>().is_some_and(IpHdr::df) {
        cx.count(IpMib::FragFails);
        icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_FRAG_NEEDED), mtu as u32);
        kfree_skb(cx, skb, DropReason::PktTooBig);
        return Lost { dropped: 1, refused: 0 };
    }
    match ip_do_fragment(cx, skb, mtu) {
        Ok(()) => {
            cx.count(IpMib::FragOKs);
            Lost::default()
        }
        Err(lost) => {
            cx.count(IpMib::FragFails);
            Lost { dropped: lost.dropped.min(1), refused: lost.refused.min(1) }
        }
    }
}

/// Nothing was lost but the packet itself.
const WHOLE: Lost = Lost { dropped: 1, refused: 0 };

/// The header that fragments have in common.
struct Header {
    bytes: [u8; MAX_IP_HDR_LEN],
    len: usize,
    /// The options of all but the first.
    later: [u8; MAX_IPOPTLEN],
    /// Octets that fit behind it.
    space: usize,
    /// Where the packet's own data begin in its datagram, and whether more of that follow: it can be a fragment itself.
    offset: usize,
    more: bool,
}

impl Header {
    fn of(cx: &BhCx<'_>, skb: &SkBuff, mtu: usize) -> Option<Self> {
        let iph = skb.front::<IpHdr>()?;
        let len = iph.ihl();
        let (offset, more) = (iph.offset(), iph.mf());
        let mut bytes = [0; MAX_IP_HDR_LEN];
        bytes.get_mut(..len)?.copy_from_slice(skb.data().get(..len)?);
        // So much as the offset can tell apart.
        let space = mtu.checked_sub(len).filter(|space| *space >= 8)?;
        let mut later = [0; MAX_IPOPTLEN];
        if len > size_of::<IpHdr>() {
            let options = later.get_mut(..len - size_of::<IpHdr>())?;
            options.copy_from_slice(&bytes[size_of::<IpHdr>()..len]);
            ip_options_fragment(cx, skb, options);
        }
        Some(Self { bytes, len, later, space, offset, more })
    }

    /// Writes it in front of a fragment's data, `at` octets behind the packet's own, and makes the next one's of it.
    fn put(&mut self, front: &mut [u8], (at, len): (usize, usize), last: bool) -> Option<()> {
        let header = self.bytes.get_mut(..self.len)?;
        let (iph, _) = IpHdr::mut_from_prefix(header).ok()?;
        let more = if last && !self.more { 0 } else { IP_MF };
        iph.frag_off.set(((self.offset + at) / 8) as u16 & IP_OFFSET | more);
        iph.tot_len.set(u16::try_from(self.len + len).ok()?);
        iph.check.set(0);
        let check = ip_fast_csum(header);
        IpHdr::mut_from_prefix(header).ok()?.0.check.set(check);
        front.copy_from_slice(header);
        if at == 0 {
            let options = &mut header[size_of::<IpHdr>()..];
            options.copy_from_slice(self.later.get(..options.len())?);
        }
        Some(())
    }
}

/// Fragments on their way out, a list at a time.
struct Fragments {
    list: Box<SkbList>,
    dst: Arc<Dst>,
    lost: Lost,
}

impl Fragments {
    fn push(&mut self, cx: &mut BhCx<'_>, skb: Skb) {
        self.list.push(skb);
        if self.list.len() == SkbList::MAX {
            self.send(cx);
        }
    }

    fn send(&mut self, cx: &mut BhCx<'_>) {
        if self.list.is_empty() {
            return;
        }
        let count = self.list.len() as u64;
        self.list.dst = Some(Arc::clone(&self.dst));
        let lost = ip_finish_output2(cx, &mut self.list);
        self.lost += lost;
        let sent = count.saturating_sub(u64::from(lost.dropped + lost.refused));
        cx.cpu.mib.add(IpMib::FragCreates.into(), sent);
        if let Some(dst) = self.list.dst.take() {
            cx.cpu.routes.give_back(dst);
        }
    }

    /// The last ones go; what was lost of all.
    fn end(mut self, cx: &mut BhCx<'_>) -> Result<(), Lost> {
        self.send(cx);
        cx.free_skb_list(self.list);
        cx.cpu.routes.give_back(self.dst);
        if self.lost.any() { Err(self.lost) } else { Ok(()) }
    }
}

/// Cuts a packet into fragments and sends them, as long as none is lost.
///
/// linux: net/ipv4/ip_output.c:ip_do_fragment
fn ip_do_fragment(cx: &mut BhCx<'_>, mut skb: Skb, mtu: usize) -> Result<(), Lost> {
    // No device sums what it gets in pieces.
    let summed = skb.ip_summed != IpSummed::Partial
        || skb_cow_head(cx, &mut skb, 0) && skb.skb_checksum_help();
    let (Some(mut header), Some(dst), true) = (Header::of(cx, &skb, mtu), skb.dst.take(), summed)
    else {
        kfree_skb(cx, skb, DropReason::PktTooBig);
        return Err(WHOLE);
    };
    let mut out = Fragments { list: cx.skb_list(), dst, lost: Lost::default() };
    let cut = match skb.frag_list.take() {
        Some(frags) if fits_as_it_is(&skb, &frags, &header) => {
            send_frag_list(cx, (skb, frags), &mut header, &mut out)
        }
        frags => {
            skb.frag_list = frags;
            send_copies(cx, skb, &mut header, &mut out)
        }
    };
    let sent = out.end(cx);
    if cut.is_none() { Err(WHOLE) } else { sent }
}

/// What lies in the packet and in its frag list are its fragments' data, with room in front for headers, and nobody
/// else has them.
fn fits_as_it_is(skb: &SkBuff, frags: &SkbList, header: &Header) -> bool {
    let listed: usize = frags.iter().map(|frag| frag.len()).sum();
    let first = skb.len() - listed - header.len;
    let fits = |len: usize, last: bool| len <= header.space && (last || len.is_multiple_of(8));
    header.offset == 0
        && !header.more
        && fits(first, false)
        && !skb.head.is_shared()
        && frags.iter().enumerate().all(|(at, frag)| {
            fits(frag.len(), at + 1 == frags.len())
                && frag.headroom() >= header.len + LL_RESERVED
                && !frag.head.is_shared()
        })
}

/// The fast path: headers in front of what is there. `None`, and the rest is gone, when a header has no room.
///
/// linux: net/ipv4/ip_output.c:ip_fraglist_init, ip_fraglist_prepare
fn send_frag_list(
    cx: &mut BhCx<'_>,
    (mut skb, mut frags): (Skb, Box<SkbList>),
    header: &mut Header,
    out: &mut Fragments,
) -> Option<()> {
    for frag in frags.iter() {
        skb.len -= frag.len;
        skb.data_len -= frag.len;
        skb.truesize -= frag.truesize;
    }
    skb.owner.share_out(frags.iter_mut());
    let meta = Metadata::of(&skb);
    let (mut at, count) = (skb.len() - header.len, frags.len());
    let front = skb.data_mut().and_then(|data| data.get_mut(..header.len));
    let mut put = front.and_then(|front| header.put(front, (0, at), count == 0));
    out.push(cx, skb);
    let mut number = 0;
    frags.each_alone(cx, |cx, mut frag| {
        (number, at) = (number + 1, at + frag.len());
        let own = (at - frag.len(), frag.len());
        let front = frag.skb_push(header.len);
        put = put.and(front.and_then(|front| header.put(front, own, number == count)));
        if put.is_none() || out.lost.any() {
            return kfree_skb(cx, frag, DropReason::NotSpecified);
        }
        meta.copy_to(cx, &mut frag);
        out.push(cx, frag);
    });
    cx.free_skb_list(frags);
    put
}

/// The slow path: each fragment is a copy. `None` when there is no memory for one.
///
/// linux: net/ipv4/ip_output.c:ip_frag_next
fn send_copies(
    cx: &mut BhCx<'_>,
    skb: Skb,
    header: &mut Header,
    out: &mut Fragments,
) -> Option<()> {
    let meta = Metadata::of(&skb);
    let total = skb.len().saturating_sub(header.len);
    let mut at = 0;
    while at < total && !out.lost.any() {
        let left = total - at;
        let len = if left > header.space { header.space & !7 } else { left };
        let Some(mut frag) = copy(cx, &skb, header, (at, len)) else {
            kfree_skb(cx, skb, DropReason::NoMem);
            return None;
        };
        let truesize = frag.truesize as usize;
        skb.owner.share(std::slice::from_mut(&mut frag), truesize);
        meta.copy_to(cx, &mut frag);
        out.push(cx, frag);
        at += len;
    }
    consume_skb(cx, skb);
    Some(())
}

/// A fragment with `len` octets of the packet's data from `at` on.
fn copy(
    cx: &mut BhCx<'_>,
    skb: &SkBuff,
    header: &mut Header,
    (at, len): (usize, usize),
) -> Option<Skb> {
    let mut frag = alloc_skb(cx, LL_RESERVED + header.len + len)?;
    let last = header.len + at + len == skb.len();
    let own = header.len;
    let filled = frag.skb_open(LL_RESERVED, own + len).and_then(|room| {
        let (front, data) = room.split_at_mut(own);
        skb.skb_copy_bits(own + at, data);
        header.put(front, (at, len), last)
    });
    if filled.is_none() {
        cx.free_skb(frag);
        return None;
    }
    Some(frag)
}

/// What a fragment has of its packet beside its data.
#[derive(Clone, Copy)]
struct Metadata {
    protocol: u16,
    dev: Option<DevId>,
    pkt_type: PktType,
    priority: u32,
    mark: u32,
    hash: (u32, bool),
    queue_mapping: u16,
    walk_id: WalkId,
}

impl Metadata {
    fn of(skb: &SkBuff) -> Self {
        Self {
            protocol: skb.protocol,
            dev: skb.dev,
            pkt_type: skb.pkt_type,
            priority: skb.priority,
            mark: skb.mark,
            hash: (skb.hash, skb.l4_hash),
            queue_mapping: skb.queue_mapping,
            walk_id: skb.walk_id,
        }
    }

    /// linux: net/ipv4/ip_output.c:ip_copy_metadata
    fn copy_to(self, cx: &mut BhCx<'_>, frag: &mut Skb) {
        (frag.protocol, frag.dev, frag.pkt_type) = (self.protocol, self.dev, self.pkt_type);
        (frag.priority, frag.mark) = (self.priority, self.mark);
        (frag.hash, frag.l4_hash) = self.hash;
        frag.queue_mapping = self.queue_mapping;
        frag.reset_network_header();
        if self.walk_id.watched() {
            frag.walk_id = cx.m.tracer.fresh();
            cx.walk_packet(frag, Point::link_clone, self.walk_id.0);
        }
    }
}
