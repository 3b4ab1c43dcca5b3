//! GRO: packets of a flow merged before they climb the stack.
//!
//! linux: net/core/dev.c (`dev_gro_receive`, `offload_base`). Key types: [`PacketOffload`],
//! [`GroResult`]. Context: BH, within a poll.
//! Invariant: what is held leaves with the poll that brought it, merged or not.
//! DIVERGES: nothing is held longer than the poll that brought it (Linux may hold a packet over
//! several polls of a device that stays busy).

mod heads;

pub(crate) use heads::{GroFlow, GroHead, GroHeads, inet_gro_finish};

use super::device::NetDevice;
use super::features::NetdevFeatures;
use super::rx::netif_receive_skb;
use crate::kernel::context::BhCx;
use crate::kernel::machine::Machine;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Cb, Skb, SkbList, consume_skb, kfree_skb};
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

/// What a protocol says of a packet in GRO, with Linux's numbers: so the walk records it.
///
/// linux: include/linux/netdevice.h:gro_result_t
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GroResult {
    /// Its data went into a held packet; what is left of it is freed (`GRO_MERGED_FREE`).
    MergedFree = 1,
    /// It is to be held until more comes or the poll ends (`GRO_HELD`).
    Held = 2,
    /// It goes up by itself (`GRO_NORMAL`).
    Normal = 3,
    /// It is to be dropped (`GRO_DROP`).
    Drop = 4,
}

/// Looks at the packets of a list, which are of one protocol: those that it merges into held ones
/// ([`BhCx::gro_list`]) or wants held leave it ([`gro_sift`]).
pub type GroReceive = fn(&mut BhCx<'_>, &mut SkbList);
/// Puts the headers of a packet right into which others were merged.
pub type GroComplete = fn(&mut BhCx<'_>, &mut Skb);

/// A network protocol's part of GRO.
///
/// linux: include/linux/netdevice.h:packet_offload
#[derive(Clone, Copy)]
pub struct PacketOffload {
    /// The ethertype.
    pub kind: u16,
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

/// Packets received at `dev`, for merging: what cannot be merged goes up at once, together where it
/// is of one protocol: of `protocol`, if all are.
///
/// linux: net/core/dev.c:napi_gro_receive
#[inline(always)]
pub fn napi_gro_receive(
    cx: &mut BhCx<'_>,
    mut list: Box<SkbList>,
    dev: &Arc<NetDevice>,
    protocol: Option<u16>,
) {
    walk!(cx, list, napi_gro_receive);
    match protocol {
        Some(protocol) => receive_alike(cx, &mut list, dev, protocol),
        None => list.in_runs(
            cx,
            |skb| skb.protocol,
            |cx, run, protocol| receive_alike(cx, run, dev, protocol),
        ),
    }
    cx.free_skb_list(list);
}

#[inline(always)]
fn receive_alike(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>, protocol: u16) {
    dev_gro_receive(cx, list, dev, protocol);
    napi_skb_finish(cx, list, dev, protocol);
}

/// Asks the protocol which packets continue ones that are held.
///
/// linux: net/core/dev.c:dev_gro_receive
#[inline(always)]
fn dev_gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &NetDevice, protocol: u16) {
    walk!(cx, list, dev_gro_receive);
    let t = cx.t;
    if dev.features().contains(NetdevFeatures::GRO)
        && let Some(offload) = offload_of(&t.net.offload_base, protocol)
    {
        (offload.gro_receive)(cx, list);
    }
}

/// What GRO left goes up.
///
/// linux: net/core/dev.c:napi_skb_finish
#[inline(always)]
fn napi_skb_finish(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>, protocol: u16) {
    walk!(cx, list, napi_skb_finish => GroResult::Normal as u64);
    if !list.is_empty() {
        netif_receive_skb(cx, list, dev, protocol);
    }
}

/// For a protocol that merges: asks `receive` of each packet, and does with it what that says.
pub fn gro_sift(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    mut receive: impl FnMut(&mut BhCx<'_>, &mut Skb) -> GroResult,
) {
    let station = |cx: &mut BhCx<'_>, skb: &mut Skb| match receive(cx, skb) {
        GroResult::Normal => Ok(()),
        // A poll of many flows: the packet is none of those held, so it may go before them.
        GroResult::Held if cx.cpu.softnet.gro_list.len() >= MAX_GRO_SKBS => Ok(()),
        other => Err(other),
    };
    list.sift(cx, station, finish_other);
}

fn finish_other(cx: &mut BhCx<'_>, mut skb: Skb, result: GroResult) {
    walk!(cx, skb, napi_skb_finish => result as u64);
    match result {
        GroResult::Drop => kfree_skb(cx, skb, DropReason::NotSpecified),
        GroResult::MergedFree => consume_skb(cx, skb),
        GroResult::Held | GroResult::Normal => {
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
    let Some(dev) = skb.dev.and_then(|dev| t.net.dev(dev)) else {
        return kfree_skb(cx, skb, DropReason::DevReady);
    };
    let protocol = skb.protocol;
    let mut list = cx.skb_list_of(skb);
    netif_receive_skb(cx, &mut list, dev, protocol);
    cx.free_skb_list(list);
}
