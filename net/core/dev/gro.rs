//! GRO: packets of a flow merged before they climb the stack.
//!
//! linux: net/core/dev.c (`dev_gro_receive`, `offload_base`). Key types: [`PacketOffload`],
//! [`GroResult`]. Context: BH, within a poll.
//! Invariant: what is held leaves with the poll that brought it, merged or not.
//! DIVERGES: nothing is held longer than the poll that brought it (Linux may hold a packet over
//! several polls of a device that stays busy).

use super::device::{NetDevice, NetdevFeatures};
use super::rx::netif_receive_skb;
use crate::kernel::context::{BhCx, Walker as _};
use crate::kernel::machine::Machine;
use crate::kernel::trace::{COMPILED, drop_reason::DropReason, events::Point};
use crate::net::core::skbuff::{Cb, Skb, consume_skb, kfree_skb};
use std::fmt;
use std::sync::Arc;

/// What GRO keeps in a packet that it holds.
///
/// linux: include/linux/netdevice.h:napi_gro_cb
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NapiGroCb {
    /// Packets merged into this one, itself included.
    pub count: u16,
}

/// What a protocol says of a packet in GRO.
///
/// linux: include/linux/netdevice.h:gro_result_t
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroResult {
    /// Its data went into a held packet; what is left of it is freed.
    MergedFree,
    /// It is to be held until more comes or the poll ends.
    Held,
    /// It goes up by itself.
    Normal,
    /// It is to be dropped.
    Drop,
}

/// Looks whether a packet continues one that is held ([`BhCx::gro_list`]), and moves its data there.
/// It gives the packet back, whatever is left of it: lent, it would have to lie in memory.
pub type GroReceive = fn(&mut BhCx<'_>, Skb) -> (GroResult, Skb);
/// Puts the headers of a packet right into which others were merged.
pub type GroComplete = fn(&mut BhCx<'_>, &mut Skb);

/// A network protocol's part of GRO.
///
/// linux: include/linux/netdevice.h:packet_offload
#[derive(Clone, Copy)]
pub struct PacketOffload {
    /// The ethertype.
    pub kind: u16,
    /// The station that `gro_receive` is. It is recorded here, before the call: a function that only
    /// passes the packet on would have to save on every packet what a record leaves it without.
    pub station: Point,
    /// Merges. Context: BH.
    pub gro_receive: GroReceive,
    /// Completes. Context: BH.
    pub gro_complete: GroComplete,
}

impl fmt::Debug for PacketOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketOffload({:#06x})", self.kind)
    }
}

/// Registers a network protocol's part of GRO, at boot.
///
/// linux: net/core/dev.c:dev_add_offload
pub fn dev_add_offload(m: &mut Machine, offload: PacketOffload) {
    m.boot_tables(|t| t.net.offload_base.push(offload));
}

#[inline(always)]
fn offload_of(base: &[PacketOffload], kind: u16) -> Option<&PacketOffload> {
    match base {
        // IPv4 alone is registered so far: no loop for it.
        [only] => Some(only).filter(|only| only.kind == kind),
        many => many.iter().find(|offload| offload.kind == kind),
    }
}

/// Most packets of different flows that a poll may hold.
///
/// linux: net/core/dev.c:MAX_GRO_SKBS
pub const MAX_GRO_SKBS: usize = 8;

impl BhCx<'_> {
    /// What this CPU's poll holds, oldest first.
    pub fn gro_list(&mut self) -> &mut Vec<Skb> {
        &mut self.cpu.softnet.gro_list
    }
}

/// A packet received at `dev`, for merging: what cannot be merged goes up at once.
///
/// linux: net/core/dev.c:napi_gro_receive
#[inline(always)]
pub fn napi_gro_receive(cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) {
    walk!(cx, skb, napi_gro_receive);
    let (result, skb) = dev_gro_receive(cx, skb, dev);
    napi_skb_finish(cx, result, skb, dev);
}

/// Asks the protocols whether the packet continues one that is held.
///
/// linux: net/core/dev.c:dev_gro_receive
#[inline(always)]
fn dev_gro_receive(cx: &mut BhCx<'_>, skb: Skb, dev: &NetDevice) -> (GroResult, Skb) {
    walk!(cx, skb, dev_gro_receive);
    if !dev.features().contains(NetdevFeatures::GRO) {
        return (GroResult::Normal, skb);
    }
    let t = cx.t;
    let Some(offload) = offload_of(&t.net.offload_base, skb.protocol) else {
        return (GroResult::Normal, skb);
    };
    if COMPILED && skb.walk_id.watched() {
        cx.walk_packet(&skb, offload.station, 0);
    }
    (offload.gro_receive)(cx, skb)
}

/// Does with the packet what GRO decided.
///
/// linux: net/core/dev.c:napi_skb_finish
#[inline(always)]
fn napi_skb_finish(cx: &mut BhCx<'_>, result: GroResult, skb: Skb, dev: &Arc<NetDevice>) {
    walk!(cx, skb, napi_skb_finish);
    if result == GroResult::Normal {
        netif_receive_skb(cx, skb, dev);
    } else {
        finish_other(cx, result, skb, dev);
    }
}

#[inline(never)]
fn finish_other(cx: &mut BhCx<'_>, result: GroResult, mut skb: Skb, dev: &Arc<NetDevice>) {
    match result {
        GroResult::Normal => netif_receive_skb(cx, skb, dev),
        // A poll of many flows: the packet is none of those held, so it may go before them.
        GroResult::Held if cx.cpu.softnet.gro_list.len() >= MAX_GRO_SKBS => {
            netif_receive_skb(cx, skb, dev);
        }
        GroResult::Drop => kfree_skb(cx, skb, DropReason::NotSpecified),
        GroResult::MergedFree => consume_skb(cx, skb),
        GroResult::Held => {
            skb.cb = Cb::Gro(NapiGroCb { count: 1 });
            cx.cpu.softnet.gro_list.push(skb);
        }
    }
}

/// Hands up what is held, oldest first.
///
/// linux: net/core/dev.c:napi_gro_flush
#[inline]
pub fn napi_gro_flush(cx: &mut BhCx<'_>) {
    if !cx.cpu.softnet.gro_list.is_empty() {
        flush_held(cx);
    }
}

#[cold]
fn flush_held(cx: &mut BhCx<'_>) {
    walk!(cx, napi_gro_flush);
    let mut held = std::mem::take(&mut cx.cpu.softnet.gro_list);
    for skb in held.drain(..) {
        napi_gro_complete(cx, skb);
    }
    // Going up brings nothing new to hold: the list's memory serves the next poll.
    cx.cpu.softnet.gro_list = held;
}

/// One held packet goes up, its headers put right if others were merged into it.
///
/// linux: net/core/dev.c:napi_gro_complete
fn napi_gro_complete(cx: &mut BhCx<'_>, mut skb: Skb) {
    walk!(cx, skb, napi_gro_complete);
    let t = cx.t;
    let merged = matches!(skb.cb, Cb::Gro(NapiGroCb { count }) if count > 1);
    if merged && let Some(offload) = offload_of(&t.net.offload_base, skb.protocol) {
        (offload.gro_complete)(cx, &mut skb);
    }
    skb.cb = Cb::None;
    match skb.dev.and_then(|dev| t.net.dev(dev)) {
        Some(dev) => netif_receive_skb(cx, skb, dev),
        None => kfree_skb(cx, skb, DropReason::DevReady),
    }
}
