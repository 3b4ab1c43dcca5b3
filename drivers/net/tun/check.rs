//! What the host says of a frame is checked before it is believed. Context: BH.
//!
//! linux: drivers/net/tun.c, include/linux/virtio_net.h.

use super::{READ_EXTRA, TunFile};
use crate::net::virtio_net::{VNET_HDR_LEN, virtio_net_meta};
use crate::net::wire::set_vnet;
use crate::net::wire_port::GsoType;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::skbuff::Skb;
use uapi::if_ether::ETH_HLEN;
use uapi::virtio_net::VirtioNetHdr;
use zerocopy::FromBytes;

/// Octets that the longest single frame and its virtio-net header need, and one.
pub(super) fn room_for(mtu: usize) -> usize {
    VNET_HDR_LEN + ETH_HLEN + mtu + READ_EXTRA
}

/// Checks what was read against its virtio-net header, takes that off, and notes what it says of
/// the checksum and of segments. There was room for `room` octets; a frame by itself has less.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_to_skb
pub(super) fn tun_check(
    tun: &TunFile,
    skb: &mut Skb,
    len: usize,
    (mtu, room): (usize, usize),
) -> Result<(), DropReason> {
    if len < VNET_HDR_LEN + ETH_HLEN {
        return Err(DropReason::HdrTrunc);
    }
    // It may have been cut.
    if len >= room {
        return Err(DropReason::PktTooBig);
    }
    let (hdr, _) = VirtioNetHdr::read_from_prefix(skb.data()).map_err(|_| DropReason::HdrTrunc)?;
    if !skb.skb_pull(VNET_HDR_LEN) {
        return Err(DropReason::HdrTrunc);
    }
    let vnet = virtio_net_meta(&hdr, skb.len())?;
    let asked = match vnet.map_or(GsoType::None, |vnet| vnet.gso_type) {
        GsoType::None if len >= room_for(mtu) => return Err(DropReason::PktTooBig),
        GsoType::None => true,
        GsoType::Tcpv4 | GsoType::Tcpv6 => tun.port.takes_segments(),
        GsoType::UdpL4 => tun.port.takes_datagrams(),
    };
    if !asked {
        return Err(DropReason::SkbGsoSeg);
    }
    if let Some(vnet) = &vnet {
        set_vnet(skb, vnet);
    }
    Ok(())
}
