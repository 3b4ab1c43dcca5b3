//! A routing decision: where a packet goes next, and the functions that take it there.
//!
//! linux: include/net/dst.h, include/net/route.h (`rtable`), net/core/dst.c.
//! Key types: [`Dst`]. Contexts: made and used in BH; shared read-only.
//! Invariant: one made under older tables is never used again ([`Dst::generation`]).

use crate::kernel::context::BhCx;
use crate::kernel::rcupdate::Tables;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, tx::Lost};
use crate::net::core::neighbour::{Kept, NeighKey, neigh_lookup};
use crate::net::core::skbuff::SkbList;
use crate::net::ipv4::route::{Fnhe, IP_MAX_MTU, RouteKey};
use std::fmt;
use std::sync::{Arc, OnceLock};
use uapi::rtnetlink::{RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST};

/// A routing decision.
///
/// linux: include/net/dst.h:dst_entry
pub struct Dst {
    /// What takes received packets on that have this route together; none is left in the list.
    pub input: fn(&mut BhCx<'_>, &mut SkbList),
    /// What takes packets towards the wire, those that have this route together.
    pub output: fn(&mut BhCx<'_>, &mut SkbList) -> Lost,
    /// The device it leaves by, or is delivered at.
    pub dev: DevId,
    /// The number of the tables it was made under; one with an exception is in no cache, and has none.
    pub generation: u64,
    /// `RTN_*`.
    pub rt_type: u8,
    /// That is, to all on a link or to a group.
    pub to_many: bool,
    /// To a group or to all, this machine among them (`RTCF_LOCAL`).
    pub local_too: bool,
    /// The next hop; zero: the destination itself is on the link.
    pub gateway: u32,
    /// The source address chosen (output), or the address to answer from (input).
    pub saddr: u32,
    /// The MTU of the way, as far as is known; at most that of an IP packet.
    ///
    /// linux: include/net/dst.h:dst_mtu
    pub mtu: u32,
    /// A router told of an MTU that is not believed: packets that are longer may be cut on the way.
    ///
    /// linux: include/net/ip.h:ip_mtu_locked
    pub mtu_locked: bool,
    /// Something is known of the way that its route does not say.
    pub(crate) exception: Option<Exception>,
    /// The device that a packet of ours by this way counts as having come in at, when it comes
    /// back over loopback; 0: loopback itself.
    ///
    /// linux: include/net/route.h:rt_iif
    pub rt_iif: u16,
    /// What it is found by.
    pub key: RouteKey,
    /// Why an input route is refused; `None` for a good one.
    pub error: Option<uapi::errno::Errno>,
    /// The next hop's neighbour, while that is not dead.
    pub(crate) neigh: OnceLock<Kept>,
}

/// Until when what is known of a way is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exception {
    /// The number of the tables that the decision was made under.
    generation: u64,
    expires: Ktime,
}

impl Dst {
    /// No table has this number: the decision is made anew for whoever looks it up.
    const UNCACHED: u64 = u64::MAX;

    /// The decision is for the packets it was made for alone.
    pub(crate) fn uncached(self) -> Self {
        Self { generation: Self::UNCACHED, ..self }
    }

    /// Goes by what is known of the way.
    pub(crate) fn bind(&mut self, fnhe: Fnhe) {
        self.mtu = self.mtu.min(fnhe.pmtu);
        self.mtu_locked = fnhe.mtu_locked;
        self.exception = Some(Exception { generation: self.generation, expires: fnhe.expires });
        self.generation = Self::UNCACHED;
    }

    /// When what is known of the way is good no more.
    pub(crate) fn exception_expires(&self) -> Option<Ktime> {
        self.exception.map(|exception| exception.expires)
    }

    /// It has an exception, and both are good.
    #[cold]
    pub(crate) fn is_good_exception(&self, cx: &mut BhCx<'_>) -> bool {
        let (genid, now) = (cx.rt_genid(), cx.now());
        self.exception.is_some_and(|known| known.generation == genid && now < known.expires)
    }

    /// The MTU of the device it leaves by, at most that of an IP packet.
    pub(crate) fn dev_mtu(&self, t: &Tables) -> u32 {
        t.net.dev(self.dev).map_or(0, |dev| dev.mtu() as u32).min(IP_MAX_MTU)
    }

    /// The next hop on the link for a packet to `daddr`.
    ///
    /// linux: include/net/route.h:rt_nexthop
    #[inline]
    pub fn rt_nexthop(&self, daddr: u32) -> u32 {
        if self.gateway != 0 { self.gateway } else { daddr }
    }

    /// To this machine.
    #[inline]
    pub fn is_local(&self) -> bool {
        self.rt_type == RTN_LOCAL
    }

    /// To all on a link.
    #[inline]
    pub fn is_broadcast(&self) -> bool {
        self.rt_type == RTN_BROADCAST
    }

    /// To a group.
    #[inline]
    pub fn is_multicast(&self) -> bool {
        self.rt_type == RTN_MULTICAST
    }
}

impl fmt::Debug for Dst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Dst({:?} type {} by {:#x} dev {})",
            self.key, self.rt_type, self.gateway, self.dev.0
        )
    }
}

/// The route of packets that have it in common.
///
/// linux: include/linux/skbuff.h:skb_dst
#[inline]
pub fn skb_dst(list: &SkbList) -> Option<&Dst> {
    list.dst.as_deref()
}

/// The same as IPv4 has it.
///
/// linux: include/linux/skbuff.h:skb_rtable
#[inline]
pub fn skb_rtable(list: &SkbList) -> Option<&Dst> {
    skb_dst(list)
}

/// Gives packets the route that their connection keeps. They have no reference of their own: the list's serves
/// all of them.
///
/// linux: net/core/dst.c:skb_dst_set_noref
#[inline]
pub fn skb_dst_set_noref(list: &mut SkbList, dst: Arc<Dst>) {
    list.dst = Some(dst);
}

/// Somebody above has proof that the way to `daddr` works: the neighbour there answers.
///
/// linux: include/net/dst.h:dst_confirm_neigh
#[cold]
pub fn dst_confirm_neigh(cx: &mut BhCx<'_>, dst: &Dst, daddr: u32) {
    let key = NeighKey { dev: dst.dev, addr: dst.rt_nexthop(daddr) };
    let now = cx.now();
    if let Some(neigh) = neigh_lookup(cx, key) {
        neigh.confirm(now);
    }
}

/// Takes received packets where their route says. Packets without a route are a bug and are dropped.
///
/// linux: include/net/dst.h:dst_input
#[inline(always)]
pub fn dst_input(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, dst_input);
    match list.dst.as_ref().map(|dst| dst.input) {
        Some(input) => input(cx, list),
        None => dst_discard(cx, list),
    }
}

/// Takes packets that are to leave where their route says.
///
/// linux: include/net/dst.h:dst_output
#[inline(always)]
pub fn dst_output(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, dst_output);
    match list.dst.as_ref().map(|dst| dst.output) {
        Some(output) => output(cx, list),
        None => dst_discard_out(cx, list),
    }
}

/// Drops packets whose route leads nowhere.
///
/// linux: net/core/dst.c:dst_discard
pub fn dst_discard(cx: &mut BhCx<'_>, list: &mut SkbList) {
    list.pass(cx, |_, _| Err(DropReason::IpOutNoRoutes));
}

/// Output of an input-only route.
pub fn dst_discard_out(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    Lost { dropped: list.pass(cx, |_, _| Err(DropReason::IpOutNoRoutes)), refused: 0 }
}
