//! Cutting packets into segments below the stack.
//!
//! linux: net/core/gso.c, net/core/skbuff.c (`skb_segment`), net/ipv4/tcp_offload.c, net/ipv4/udp_offload.c. A
//! packet of several segments goes down in one piece, and is cut by the device, or here, just before the driver.
//! Context: BH. Invariant: the segments are charged to whom the packet was, each with its own memory.

use crate::kernel::context::{BhCx, Walker};
use crate::kernel::trace::drop_reason::DropReason;
use crate::kernel::trace::events::Point;
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::skbuff::{
    FragCut, Gso, GsoType, IpSummed, SkBuff, Skb, SkbFlags, SkbList, alloc_skb, consume_skb,
    kfree_skb,
};
use klib::checksum::{csum_add, csum_fold, csum_partial, csum_tcpudp_nofold};
use uapi::ip::{IPPROTO_TCP, IPPROTO_UDP, IpHdr};
use uapi::tcp::{TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH, TcpHdr};
use uapi::udp::UdpHdr;
use zerocopy::{FromBytes, IntoBytes};

/// Room in front of a segment's headers: what the packet has, up to this.
const FRONT: usize = 64;

/// A packet can't be cut: there is no memory, or its headers are not what they must be.
struct CannotCut;

/// As long as this, link header included, a packet is too long for any device to cut.
///
/// linux: include/linux/netdevice.h:GSO_LEGACY_MAX_SIZE
const GSO_LEGACY_MAX_SIZE: usize = 65_536;

/// The device can't cut it.
///
/// linux: include/linux/netdevice.h:netif_needs_gso, net/core/dev.c:gso_features_check
#[inline]
fn netif_needs_gso(skb: &SkBuff, features: NetdevFeatures) -> bool {
    skb.gso.size != 0
        && (skb.len() >= GSO_LEGACY_MAX_SIZE
            || !features.contains(match skb.gso.kind {
                GsoType::Tcpv4 => NetdevFeatures::TSO,
                GsoType::UdpL4 => NetdevFeatures::GSO_UDP_L4,
            }))
}

/// Where a packet's transport header lies in its data, and where its payload does; `None` when they are not where
/// they must be.
///
/// linux: net/core/gso.c:skb_gso_transport_seglen
#[must_use]
pub fn skb_gso_headers(skb: &SkBuff) -> Option<(usize, usize)> {
    // The sum that is still to be filled in begins there, whoever made the packet.
    let transport = usize::from(skb.csum_start).checked_sub(skb.headroom())?;
    let own = match skb.gso.kind {
        GsoType::Tcpv4 => {
            let (th, _) = TcpHdr::ref_from_prefix(skb.data().get(transport..)?).ok()?;
            Some(th.doff()).filter(|own| *own >= size_of::<TcpHdr>())?
        }
        GsoType::UdpL4 => size_of::<UdpHdr>(),
    };
    (transport + own <= skb.headlen()).then_some((transport, transport + own))
}

/// Octets of the longest IP packet that this one, whose data begins with the IP header, is or is cut into.
///
/// linux: net/core/gso.c:skb_gso_validate_network_len
#[inline]
#[must_use]
pub fn skb_network_seglen(skb: &SkBuff) -> usize {
    if skb.gso.size == 0 {
        return skb.len();
    }
    skb_gso_headers(skb).map_or(skb.len(), |(_, headers)| headers + usize::from(skb.gso.size))
}

/// Cuts the packets of a list that the device can't cut; those that can't be cut here either are dropped.
///
/// linux: net/core/dev.c:validate_xmit_skb_list
#[inline]
pub(crate) fn validate_xmit_skb_list(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    features: NetdevFeatures,
) {
    if list.iter().any(|skb| netif_needs_gso(skb, features)) {
        skb_gso_segment_list(cx, list, features);
    }
}

/// The same, when there is such a packet.
#[inline(never)]
pub(crate) fn skb_gso_segment_list(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    features: NetdevFeatures,
) {
    list.replace_each(|list, mut skb| {
        if !netif_needs_gso(&skb, features) {
            return list.push(skb);
        }
        let from = list.len();
        match skb_segment(cx, &skb, Cut::of(&skb), list) {
            Ok(()) => {
                if skb.flags.intersects(SkbFlags::TX_TSTAMP) {
                    gso_tstamp(&skb, list.iter_mut().skip(from));
                }
                list.charge_segments(from, &mut skb);
                consume_skb(cx, skb);
            }
            Err(CannotCut) => {
                free_from(cx, list, from);
                kfree_skb(cx, skb, DropReason::SkbGsoSeg);
            }
        }
    });
}

/// What was cut so far is of no use to anybody.
#[cold]
fn free_from(cx: &mut BhCx<'_>, list: &mut SkbList, from: usize) {
    while list.len() > from
        && let Some(segment) = list.pop_back()
    {
        cx.free_skb(segment);
    }
}

/// Cuts the packets of a list that came for a socket that takes datagrams one by one: their data is payload,
/// before and after. How many datagrams were lost, since they can't be cut.
///
/// linux: include/net/udp.h:udp_rcv_segment
pub(crate) fn udp_rcv_segment(cx: &mut BhCx<'_>, list: &mut SkbList) -> u32 {
    let mut lost = 0;
    list.replace_each(|list, mut skb| {
        if skb.len() <= usize::from(skb.gso.size) {
            skb.gso = Gso::default();
        }
        if skb.gso.size == 0 || skb.gso.kind != GsoType::UdpL4 {
            return list.push(skb);
        }
        let from = list.len();
        let cut = Cut::of_received(&skb);
        let headers = cut.as_ref().map_or(0, |cut| cut.header.len());
        match skb_segment(cx, &skb, cut, list) {
            Ok(()) => {
                for segment in list.iter_mut().skip(from) {
                    let _headers_are_linear = segment.skb_pull(headers);
                }
                consume_skb(cx, skb);
            }
            Err(CannotCut) => {
                free_from(cx, list, from);
                lost += u32::from(skb.gso.segs);
                kfree_skb(cx, skb, DropReason::SkbGsoSeg);
            }
        }
    });
    lost
}

/// The one of a packet's segments is to be told of that the packet is: a stream's with the octet, else the first.
///
/// linux: net/ipv4/tcp_offload.c:tcp_gso_tstamp
#[cold]
fn gso_tstamp<'a>(skb: &SkBuff, mut segments: impl Iterator<Item = &'a mut Skb>) {
    let headers = skb_gso_headers(skb).map_or(0, |(transport, _)| transport);
    let first = match skb.data().get(headers..).map(TcpHdr::ref_from_prefix) {
        Some(Ok((th, _))) if skb.gso.kind == GsoType::Tcpv4 => th.seq.get(),
        _ => skb.csum,
    };
    let before = skb.csum.wrapping_sub(first) / u32::from(skb.gso.size.max(1));
    if let Some(segment) = segments.nth(before as usize) {
        segment.flags |= skb.flags & SkbFlags::TX_TSTAMP;
        segment.csum = skb.csum;
    }
}

/// What the segments of a packet have in common.
struct Cut<'a> {
    skb: &'a SkBuff,
    /// All headers.
    header: &'a [u8],
    /// Where the network header lies in them.
    network: usize,
    /// Where the transport header does.
    transport: usize,
    /// Where the payload begins in the packet's data.
    from: usize,
    /// The sum over the network header but for what differs: length, identification, the sum itself.
    ip_sum: u32,
    /// The first one's identification.
    id: u16,
    /// The sum over the pseudo-header but for the length.
    pseudo: u32,
}

impl<'a> Cut<'a> {
    /// Of a packet that leaves: its data begins with its first header.
    fn of(skb: &'a SkBuff) -> Option<Self> {
        let network = usize::try_from(skb.network_offset()).ok()?;
        let (transport, headers) = skb_gso_headers(skb).filter(|_| skb.gso.size != 0)?;
        Self::with(skb, skb.data().get(..headers)?, (network, transport), headers)
    }

    /// Of one that has arrived: its data is the payload, its headers lie in front.
    fn of_received(skb: &'a SkBuff) -> Option<Self> {
        let transport = usize::from(skb.transport_header.checked_sub(skb.network_header)?);
        let headers = usize::try_from(-skb.network_offset()).ok()?;
        Self::with(skb, skb.network_bytes().get(..headers)?, (0, transport), 0)
    }

    fn with(
        skb: &'a SkBuff,
        header: &'a [u8],
        (network, transport): (usize, usize),
        from: usize,
    ) -> Option<Self> {
        let proto = match skb.gso.kind {
            GsoType::Tcpv4 => IPPROTO_TCP,
            GsoType::UdpL4 => IPPROTO_UDP,
        };
        let (iph, options) = IpHdr::ref_from_prefix(header.get(network..transport)?).ok()?;
        let id = iph.id.get();
        let fixed = IpHdr { tot_len: 0.into(), id: 0.into(), check: 0.into(), ..*iph };
        Some(Self {
            skb,
            header,
            network,
            transport,
            from,
            ip_sum: csum_partial(options, csum_partial(fixed.as_bytes(), 0)),
            id,
            pseudo: csum_tcpudp_nofold(iph.saddr.get(), iph.daddr.get(), 0, proto, 0),
        })
    }

    /// All of the payload is in pages, which the segments share.
    fn paged(&self) -> bool {
        self.skb.headlen() == self.from && self.skb.frag_list.is_none()
    }

    /// A packet with a copy of the headers, and of `len` octets of payload from `at` on where that is not shared.
    fn head(&self, cx: &mut BhCx<'_>, at: usize, len: usize) -> Option<Skb> {
        let skb = self.skb;
        let front = skb.headroom().min(FRONT);
        let paged = self.paged();
        let linear = self.header.len() + if paged { 0 } else { len };
        let mut segment = alloc_skb(cx, front + linear)?;
        let Some(room) = segment.skb_open(front, linear) else {
            cx.free_skb(segment);
            return None;
        };
        let (headers, payload) = room.split_at_mut(self.header.len());
        headers.copy_from_slice(self.header);
        if !paged {
            skb.skb_copy_bits(self.from + at, payload);
        }
        segment.mac_header = front as u16;
        segment.network_header = (front + self.network) as u16;
        segment.transport_header = (front + self.transport) as u16;
        (segment.protocol, segment.dev, segment.pkt_type) = (skb.protocol, skb.dev, skb.pkt_type);
        (segment.priority, segment.mark) = (skb.priority, skb.mark);
        (segment.hash, segment.l4_hash) = (skb.hash, skb.l4_hash);
        segment.queue_mapping = skb.queue_mapping;
        Some(segment)
    }

    /// Makes the headers those of segment `number`, whose payload begins at `at`; the checksum is left to the
    /// device.
    fn fit(&self, segment: &mut Skb, (at, number): (usize, u16), last: bool) -> Option<()> {
        let (ip_len, len) = (segment.len() - self.network, segment.len() - self.transport);
        segment.csum_start = segment.transport_header;
        segment.ip_summed = IpSummed::Partial;
        let (front, transport) = segment.data_mut()?.split_at_mut_checked(self.transport)?;
        let (iph, _) = IpHdr::mut_from_prefix(front.get_mut(self.network..)?).ok()?;
        let id = self.id.wrapping_add(number);
        iph.tot_len.set(ip_len as u16);
        iph.id.set(id);
        iph.check.set(csum_fold(csum_add(csum_add(self.ip_sum, ip_len as u32), id.into())));
        let pseudo = !csum_fold(csum_add(self.pseudo, len as u32));
        let offset = match self.skb.gso.kind {
            GsoType::Tcpv4 => tcp_header(transport, (at, pseudo), last)?,
            GsoType::UdpL4 => {
                let (uh, _) = UdpHdr::mut_from_prefix(transport).ok()?;
                uh.len.set(len as u16);
                uh.check.set(pseudo);
                std::mem::offset_of!(UdpHdr, check)
            }
        };
        segment.csum_offset = offset as u16;
        Some(())
    }
}

/// Appends a packet's segments to a list.
///
/// linux: net/core/skbuff.c:skb_segment
fn skb_segment(
    cx: &mut BhCx<'_>,
    skb: &SkBuff,
    cut: Option<Cut<'_>>,
    list: &mut SkbList,
) -> Result<(), CannotCut> {
    walk!(cx, skb, skb_gso_segment);
    let cut = cut.ok_or(CannotCut)?;
    let (mut at, mut frag) = (0, FragCut::default());
    let total = skb.len() - cut.from;
    let paged = cut.paged();
    let mut number = 0;
    while at < total {
        let len = usize::from(skb.gso.size).min(total - at);
        let mut segment = cut.head(cx, at, len).ok_or(CannotCut)?;
        if paged {
            frag.take(skb, len as u32, &mut segment);
        }
        let fitted = cut.fit(&mut segment, (at, number), at + len == total);
        if skb.walk_id.watched() {
            segment.walk_id = cx.m.tracer.fresh();
            cx.walk_packet(&segment, Point::link_clone, skb.walk_id.0);
        }
        list.push(segment);
        fitted.ok_or(CannotCut)?;
        (at, number) = (at + len, number + 1);
    }
    Ok(())
}

/// A segment's own part of the TCP header; where the checksum lies in it.
///
/// linux: net/ipv4/tcp_offload.c:tcp_gso_segment
fn tcp_header(header: &mut [u8], (at, pseudo): (usize, u16), last: bool) -> Option<usize> {
    let (th, _) = TcpHdr::mut_from_prefix(header).ok()?;
    th.seq.set(th.seq.get().wrapping_add(at as u32));
    if !last {
        th.flags &= !(TCPHDR_FIN | TCPHDR_PSH);
    }
    if at != 0 {
        // The peer is told once that the window was reduced.
        th.flags &= !TCPHDR_CWR;
    }
    th.check.set(pseudo);
    Some(std::mem::offset_of!(TcpHdr, check))
}

/// A packet of so many octets in segments of `size`.
#[must_use]
pub fn gso_of(kind: GsoType, len: usize, size: u16) -> Gso {
    let segs = len.div_ceil(usize::from(size).max(1));
    Gso { size, segs: u16::try_from(segs).unwrap_or(u16::MAX), kind }
}
