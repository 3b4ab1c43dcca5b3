//! GRO: packets of a flow merged before they climb the stack.
//!
//! linux: net/core/dev.c (`dev_gro_receive`). Context: BH, within a poll.
//! DIVERGES: nothing is held longer than the poll that brought it (Linux may hold a packet over
//! several polls of a device that stays busy).

use super::rx::netif_receive_skb;
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, consume_skb, kfree_skb};

/// What GRO keeps in a packet that it looks at.
///
/// linux: include/linux/netdevice.h:napi_gro_cb
#[derive(Clone, Copy, Debug, Default)]
pub struct NapiGroCb {
    /// Packets merged into this one, itself included.
    pub count: u16,
    /// The held packet belongs to the flow of the one that came.
    pub same_flow: bool,
    /// The one that came may not be merged or held.
    pub flush: bool,
}

/// What became of a packet in GRO.
///
/// linux: include/linux/netdevice.h:gro_result_t
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroResult {
    /// Its data went into a held packet; the headers remain.
    MergedFree,
    /// It went into a held packet whole.
    Merged,
    /// It is held until more comes or the poll ends.
    Held,
    /// It goes up by itself.
    Normal,
    /// It is to be dropped.
    Drop,
}

/// Most packets of different flows that a poll may hold.
const MAX_GRO_SKBS: usize = 8;

/// A received packet, for merging: what cannot be merged goes up at once.
///
/// linux: net/core/dev.c:napi_gro_receive
#[inline(always)]
pub fn napi_gro_receive(cx: &mut BhCx<'_>, mut skb: Skb) -> GroResult {
    cx.watch(&mut skb);
    walk!(cx, skb, napi_gro_receive);
    let result = dev_gro_receive(cx, &mut skb);
    napi_skb_finish(cx, result, skb)
}

/// Asks the protocols whether the packet continues one that is held.
///
/// linux: net/core/dev.c:dev_gro_receive
#[inline(always)]
fn dev_gro_receive(cx: &mut BhCx<'_>, skb: &mut Skb) -> GroResult {
    walk!(cx, skb, dev_gro_receive);
    if skb.protocol != uapi::if_ether::ETH_P_IP {
        return GroResult::Normal;
    }
    let result = crate::net::ipv4::af_inet::inet_gro_receive(cx, skb);
    if result == GroResult::Held && cx.cpu.softnet.gro_list.len() >= MAX_GRO_SKBS {
        return GroResult::Normal;
    }
    result
}

/// Does with the packet what GRO decided.
///
/// linux: net/core/dev.c:napi_skb_finish
#[inline(always)]
fn napi_skb_finish(cx: &mut BhCx<'_>, result: GroResult, skb: Skb) -> GroResult {
    walk!(cx, skb, napi_skb_finish => result as u64);
    match result {
        GroResult::Normal => netif_receive_skb(cx, skb),
        GroResult::Drop => kfree_skb(cx, skb, DropReason::NotSpecified),
        GroResult::MergedFree | GroResult::Merged => consume_skb(cx, skb),
        GroResult::Held => cx.cpu.softnet.gro_list.push(skb),
    }
    result
}

/// Hands up what is held, oldest first.
///
/// linux: net/core/dev.c:napi_gro_flush
#[inline]
pub fn napi_gro_flush(cx: &mut BhCx<'_>) {
    if cx.cpu.softnet.gro_list.is_empty() {
        return;
    }
    walk!(cx, napi_gro_flush);
    for skb in std::mem::take(&mut cx.cpu.softnet.gro_list) {
        netif_receive_skb(cx, skb);
    }
}
