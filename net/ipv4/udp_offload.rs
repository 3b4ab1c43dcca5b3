//! UDP's part of GRO.
//!
//! linux: net/ipv4/udp_offload.c. Context: BH.

use crate::kernel::context::BhCx;
use crate::net::core::dev::GroResult;
use crate::net::core::skbuff::Skb;

/// Datagrams are merged only for a socket that asked for it (`UDP_GRO`), and none can here yet:
/// each goes up by itself.
///
/// linux: net/ipv4/udp_offload.c:udp4_gro_receive
#[inline]
pub(crate) fn udp4_gro_receive(cx: &mut BhCx<'_>, skb: &mut Skb) -> GroResult {
    walk!(cx, skb, udp4_gro_receive);
    GroResult::Normal
}
