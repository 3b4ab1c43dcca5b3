//! UDP's part of GRO.
//!
//! linux: net/ipv4/udp_offload.c. Context: BH.

use crate::kernel::context::BhCx;
use crate::net::core::skbuff::{Skb, SkbList};
use crate::net::ipv4::protocol::NetOffload;

/// What UDP registers.
pub(crate) const UDPV4_OFFLOAD: NetOffload =
    NetOffload { gro_receive: udp4_gro_receive, gro_complete: udp4_gro_complete };

/// Datagrams are merged only for a socket that asked for it (`UDP_GRO`), and none can here yet:
/// all go up.
///
/// linux: net/ipv4/udp_offload.c:udp4_gro_receive
fn udp4_gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, udp4_gro_receive);
}

/// Nothing is merged, so nothing is to be put right.
///
/// linux: net/ipv4/udp_offload.c:udp4_gro_complete
fn udp4_gro_complete(_cx: &mut BhCx<'_>, _skb: &mut Skb) {}
