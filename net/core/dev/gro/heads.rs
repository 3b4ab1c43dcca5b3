//! Merging within a list: the packets that more may go into, one a flow.
//!
//! linux: net/core/gro.c. Key types: [`GroHead`], [`GroHeads`]. Context: BH, within a poll.
//! Invariant: a packet stands where its first segment stood, so that a flow's packets stay in their order.

use super::{GroResult, MAX_GRO_SKBS};
use crate::kernel::context::BhCx;
use crate::net::core::skbuff::{Gso, GsoType, IpSummed, Skb, SkbList};
use klib::checksum::{csum_fold, csum_tcpudp_nofold, ip_fast_csum};
use uapi::ip::IpHdr;
use zerocopy::{FromBytes, IntoBytes};

/// The most octets of a packet, headers included.
///
/// linux: include/linux/netdevice.h:GRO_LEGACY_MAX_SIZE
const GRO_MAX_SIZE: u32 = 65_536;

/// Whose a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroFlow {
    /// Source address in the upper half, destination in the lower.
    pub addrs: u64,
    /// The same of the ports.
    pub ports: u32,
}

/// A packet that more may be merged into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroHead<T> {
    /// Its place in the list.
    pub at: usize,
    pub flow: GroFlow,
    /// Octets of a full segment: the first one's.
    pub size: u32,
    /// Segments that it has.
    pub segs: u16,
    /// All have the same identification.
    fixed_id: bool,
    /// What the protocol keeps.
    pub own: T,
}

impl<T> GroHead<T> {
    /// A packet by itself.
    pub(crate) fn new(at: usize, flow: GroFlow, size: u32, own: T) -> Self {
        Self { at, flow, size, segs: 1, fixed_id: false, own }
    }

    /// Its IP header, `old`, and that of what may follow don't say the same of type of service, fragments, time
    /// to live; or the identification does not go on.
    ///
    /// linux: include/net/gro.h:inet_gro_flush
    #[inline(always)]
    pub(crate) fn inet_gro_flush(&mut self, old: &IpHdr, new: &IpHdr) -> bool {
        if old.tos != new.tos || old.frag_off != new.frag_off || old.ttl != new.ttl {
            return true;
        }
        let ids = new.id.get().wrapping_sub(old.id.get());
        // The second one shows whether they count; those that may be fragmented must.
        if self.segs == 1 && ids == 0 && new.df() {
            self.fixed_id = true;
        }
        ids != if self.fixed_id { 0 } else { self.segs }
    }

    /// A packet has room for so many octets more.
    pub(crate) fn has_room(&self, first: &Skb, len: u32) -> bool {
        self.segs != u16::MAX && first.len + len < GRO_MAX_SIZE
    }

    /// A segment's data, which is all that is left of it, goes behind the packet's.
    ///
    /// linux: net/core/gro.c:skb_gro_receive_list
    #[inline(always)]
    pub(crate) fn skb_gro_receive(
        &mut self,
        cx: &mut BhCx<'_>,
        list: &mut SkbList,
        skb: Skb,
        kind: GsoType,
    ) {
        walk!(cx, skb, napi_skb_finish => GroResult::MergedFree as u64);
        let Some(first) = list.packets.get_mut(self.at) else { return cx.free_skb(skb) };
        walk!(cx, skb, link_merge => first.walk_id.0);
        self.segs += 1;
        first.len += skb.len;
        first.data_len += skb.len;
        first.truesize += skb.truesize;
        first.gso = Gso { size: self.size as u16, segs: self.segs, kind };
        first.frag_list.get_or_insert_with(|| cx.skb_list()).push(skb);
    }
}

/// Makes the IP header, 20 octets, that of all of a packet into which others were merged, whose transport checksum is
/// to be filled in at `csum_offset` in its header: the transport header, its length with the data, and what the checksum
/// field has until then.
///
/// linux: net/ipv4/af_inet.c:inet_gro_complete
pub(crate) fn inet_gro_finish(
    first: &mut Skb,
    csum_offset: usize,
) -> Option<(&mut [u8], u16, u16)> {
    const IHL: usize = size_of::<IpHdr>();
    let len = first.len;
    first.csum_start = first.headroom() as u16 + IHL as u16;
    first.csum_offset = csum_offset as u16;
    first.ip_summed = IpSummed::Partial;
    let (iph, transport) = IpHdr::mut_from_prefix(first.data_mut()?).ok()?;
    iph.tot_len.set(len as u16);
    iph.check.set(0);
    iph.check.set(ip_fast_csum(iph.as_bytes()));
    let (addrs, ulen) = ((iph.saddr.get(), iph.daddr.get()), len - IHL as u32);
    let pseudo = csum_tcpudp_nofold(addrs.0, addrs.1, ulen, iph.protocol, 0);
    Some((transport, ulen as u16, !csum_fold(pseudo)))
}

/// Those of a list; of too many flows, one gives its place up.
pub(crate) struct GroHeads<T> {
    open: [Option<GroHead<T>>; MAX_GRO_SKBS],
    next: usize,
}

impl<T> GroHeads<T> {
    /// None.
    pub(crate) fn new() -> Self {
        Self { open: [const { None }; MAX_GRO_SKBS], next: 0 }
    }

    /// The flow's place, if it has one.
    #[inline(always)]
    pub(crate) fn slot_of(&self, flow: GroFlow) -> Option<usize> {
        self.open.iter().position(|open| open.as_ref().is_some_and(|open| open.flow == flow))
    }

    /// The packet in a place.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut GroHead<T>> {
        self.open.get_mut(slot)?.as_mut()
    }

    /// Nothing more goes into the packet in a place.
    pub(crate) fn close(&mut self, slot: usize) {
        self.open[slot] = None;
    }

    /// More may go into this one: in the place of its flow, a free one, or another's.
    pub(crate) fn begin(&mut self, slot: Option<usize>, head: GroHead<T>) {
        let slot = slot.or_else(|| self.open.iter().position(Option::is_none)).unwrap_or(self.next);
        self.next = (slot + 1) % MAX_GRO_SKBS;
        self.open[slot] = Some(head);
    }
}
