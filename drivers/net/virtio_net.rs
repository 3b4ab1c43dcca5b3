//! The virtio-net header before a frame of a TAP, and what it says.
//!
//! linux: include/linux/virtio_net.h. Context: any.
//! Invariant: what is left to do to a frame lies within it, in both directions.

use crate::net::wire_port::{GsoType, VnetMeta};
use stack::kernel::trace::drop_reason::DropReason;
use uapi::udp::{UDP_MAX_SEGMENTS, UdpHdr};
use uapi::virtio_net::{
    VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr, VirtioNetHdrMrgRxbuf,
};
use zerocopy::FromZeros;

/// Octets of virtio-net header before each frame.
pub const VNET_HDR_LEN: usize = size_of::<VirtioNetHdrMrgRxbuf>();

/// The header of a frame of `len` octets; `None` when its checksum lies outside it.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_from_skb
#[must_use]
pub fn virtio_net_hdr(vnet: &VnetMeta, len: usize) -> Option<VirtioNetHdrMrgRxbuf> {
    let mut hdr = VirtioNetHdrMrgRxbuf::new_zeroed();
    hdr.hdr.gso_type = match vnet.gso_type {
        GsoType::None => VIRTIO_NET_HDR_GSO_NONE,
        GsoType::Tcpv4 => VIRTIO_NET_HDR_GSO_TCPV4,
        GsoType::Tcpv6 => VIRTIO_NET_HDR_GSO_TCPV6,
        GsoType::UdpL4 => VIRTIO_NET_HDR_GSO_UDP_L4,
    };
    hdr.hdr.gso_size.set(vnet.gso_size);
    hdr.hdr.hdr_len.set(vnet.hdr_len);
    if let Some(start) = vnet.csum_start {
        if !lies_within(start, vnet.csum_offset, len) {
            return None;
        }
        hdr.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        hdr.hdr.csum_start.set(start);
        hdr.hdr.csum_offset.set(vnet.csum_offset);
    } else if vnet.data_valid {
        hdr.hdr.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    }
    Some(hdr)
}

/// What the header of a frame of `len` octets says of it; `None`: nothing.
///
/// # Errors
/// Why the frame is to be dropped: several segments of what we never said that we take, or that can't be cut; a
/// checksum outside it.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_to_skb
pub fn virtio_net_meta(hdr: &VirtioNetHdr, len: usize) -> Result<Option<VnetMeta>, DropReason> {
    let gso_type = match hdr.gso_type & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_NONE => GsoType::None,
        VIRTIO_NET_HDR_GSO_TCPV4 => GsoType::Tcpv4,
        VIRTIO_NET_HDR_GSO_UDP_L4 => GsoType::UdpL4,
        _ => return Err(DropReason::SkbGsoSeg),
    };
    let (gso_size, hdr_len) = (hdr.gso_size.get(), hdr.hdr_len.get());
    let whole = gso_type == GsoType::None;
    // What is cut gets its checksums then: it must say where.
    if !whole && (gso_size == 0 || hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM == 0) {
        return Err(DropReason::SkbGsoSeg);
    }
    if hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
        let (start, csum_offset) = (hdr.csum_start.get(), hdr.csum_offset.get());
        if !lies_within(start, csum_offset, len) {
            return Err(DropReason::SkbCsum);
        }
        let meta = VnetMeta { csum_start: Some(start), csum_offset, ..VnetMeta::default() };
        return match gso_type {
            GsoType::None => Ok(Some(meta)),
            GsoType::UdpL4 => Ok(Some(datagrams(meta, gso_size, len)?)),
            _ => Ok(Some(VnetMeta { gso_type, gso_size, hdr_len, ..meta })),
        };
    }
    let data_valid = hdr.flags & VIRTIO_NET_HDR_F_DATA_VALID != 0;
    Ok(data_valid.then(|| VnetMeta { data_valid, ..VnetMeta::default() }))
}

/// A frame of datagrams: their header is where the sum begins, and they are no more than a sender can make of a
/// message.
fn datagrams(meta: VnetMeta, gso_size: u16, len: usize) -> Result<VnetMeta, DropReason> {
    let hdr_len = meta.csum_start.unwrap_or(0).checked_add(size_of::<UdpHdr>() as u16);
    let hdr_len = hdr_len.ok_or(DropReason::SkbGsoSeg)?;
    let payload = len.saturating_sub(hdr_len.into());
    if usize::from(meta.csum_offset) != std::mem::offset_of!(UdpHdr, check)
        || payload > usize::from(gso_size) * UDP_MAX_SEGMENTS
    {
        return Err(DropReason::SkbGsoSeg);
    }
    Ok(VnetMeta { gso_type: GsoType::UdpL4, gso_size, hdr_len, ..meta })
}

/// A checksum's field lies in the frame.
fn lies_within(start: u16, offset: u16, len: usize) -> bool {
    usize::from(start) + usize::from(offset) + 2 <= len
}
