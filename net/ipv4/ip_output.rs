//! IPv4 output: header, hooks, next hop.
//!
//! linux: net/ipv4/ip_output.c. Key types: [`IpMakeSkb`]. Context: BH.
//! DIVERGES: a datagram that must not be cut, of a socket without a peer, has identification 0 (RFC 6864 lets it be
//! anything); Linux gives it the next of its destination where the socket cuts longer ones.
//! Parts: `append` (datagrams longer than the MTU are made), `fragment` (packets longer than the MTU are cut).

mod append;
mod fragment;

pub(crate) use append::ip_append_data;

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{netif_rx, tx::Lost};
use crate::net::core::dst::{
    Dst, dst_discard_out, dst_output, skb_dst, skb_dst_set_noref, skb_rtable,
};
use crate::net::core::gso::skb_network_seglen;
use crate::net::core::neighbour::{
    __neigh_create, Kept, NeighKey, Neighbour, NextHop, dst_neigh_output, neigh_lookup,
};
use crate::net::core::skbuff::{
    Cb, IpSummed, NET_DATA_ALIGN, PktType, Skb, SkbList, alloc_skb, consume_skb, kfree_skb,
    skb_add_paged, skb_clone,
};
use crate::net::ipv4::ip_options::{IpTarget, ip_options_build};
use crate::net::ipv4::route::ip_route_output_ports;
use crate::net::ipv4::tcp::TcpSk;
use crate::net::ipv4::tcp_ipv4::flow_of;
use crate::net::netfilter::{NF_HOOK_LIST, NfInetHook};
use fragment::finish_too_long;
use klib::checksum::{csum_add, csum_fold, csum_partial};
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use uapi::errno::Errno;
use uapi::if_ether::{ETH_HLEN, ETH_P_IP};
use uapi::in_::{
    IP_PMTUDISC_DO, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT,
};
use uapi::ip::{IP_DF, IPPROTO_TCP, IpHdr};
use uapi::snmp::IpMib;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Room for the link header, and for aligning the data as of a received frame.
pub(crate) const LL_RESERVED: usize = ETH_HLEN + NET_DATA_ALIGN;

/// What packets are made from: their headers, but for what differs from packet to packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct IpMakeSkb<T> {
    iph: IpHdr,
    /// The sum over it.
    sum: u32,
    transport: T,
    /// The sender sets the identification itself.
    pub own_ident: bool,
    /// The MTU of the way.
    pub mtu: u32,
}

impl<T> IpMakeSkb<T> {
    /// Packets with these headers, by a way with this MTU; the IP header begins with
    /// [`header`](Self::header).
    pub fn set(&mut self, iph: IpHdr, transport: T, mtu: u32) {
        self.sum = csum_partial(iph.as_bytes(), 0);
        (self.iph, self.transport, self.mtu) = (iph, transport, mtu);
    }

    /// An IP header without options that asks for nothing. Identification, length and checksum are
    /// filled in for each packet.
    pub fn header(saddr: u32, daddr: u32, protocol: u8) -> IpHdr {
        IpHdr {
            version_ihl: 0x45,
            protocol,
            saddr: saddr.into(),
            daddr: daddr.into(),
            ..IpHdr::default()
        }
    }
}

/// A packet's parts while it is made.
#[derive(Debug)]
pub struct Parts<'a, T> {
    /// Its IP header.
    pub iph: &'a mut IpHdr,
    /// Its transport header.
    pub transport: &'a mut T,
    /// What stands behind it: whatever was there before.
    pub payload: &'a mut [u8],
}

/// Makes a packet with room for the link header, its IP header and transport header, and `length`
/// bytes behind them that `getfrag` fills in. The data begins with the IP header. It has no route.
///
/// # Errors
/// EMSGSIZE over the MTU or 65,535 bytes; ENOBUFS without memory; those of `getfrag`.
///
/// linux: net/ipv4/ip_output.c:ip_make_skb
#[inline(always)]
pub fn ip_make_skb<T>(
    cx: &mut BhCx<'_>,
    make: &IpMakeSkb<T>,
    length: usize,
    getfrag: impl FnOnce(&mut Parts<'_, T>) -> Result<(), Errno>,
) -> Result<Skb, Errno>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    let mut skb = make_head(cx, make, (length, 0), getfrag)?;
    cx.watch(&mut skb);
    walk!(cx, skb, ip_make_skb);
    Ok(skb)
}

/// The same with a payload in pages, to be cut below: as long as IP can tell, whatever the MTU.
///
/// # Errors
/// As [`ip_make_skb`].
///
/// linux: net/ipv4/ip_output.c:ip_make_skb
pub(crate) fn ip_make_skb_paged<T>(
    cx: &mut BhCx<'_>,
    make: &IpMakeSkb<T>,
    payload: &[IoSlice<'_>],
    getfrag: impl FnOnce(&mut Parts<'_, T>) -> Result<(), Errno>,
) -> Result<Skb, Errno>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    let length = payload.iter().map(|part| part.len()).sum();
    let mut skb = make_head(cx, make, (0, length), getfrag)?;
    if !payload.iter().all(|part| skb_add_paged(cx, &mut skb, part)) {
        kfree_skb(cx, skb, DropReason::NoMem);
        return Err(Errno::ENOBUFS);
    }
    cx.watch(&mut skb);
    walk!(cx, skb, ip_make_skb);
    Ok(skb)
}

/// The headers with so many octets of payload behind them; the second are yet to come.
#[inline(always)]
fn make_head<T>(
    cx: &mut BhCx<'_>,
    make: &IpMakeSkb<T>,
    (linear, paged): (usize, usize),
    getfrag: impl FnOnce(&mut Parts<'_, T>) -> Result<(), Errno>,
) -> Result<Skb, Errno>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    let room = size_of::<IpHdr>() + size_of::<T>() + linear;
    let total = room + paged;
    if total > 65_535 || room > make.mtu as usize {
        return Err(Errno::EMSGSIZE);
    }
    let Some(mut skb) = alloc_skb(cx, LL_RESERVED + room) else { return Err(Errno::ENOBUFS) };
    skb.network_header = LL_RESERVED as u16;
    skb.transport_header = (LL_RESERVED + size_of::<IpHdr>()) as u16;
    skb.protocol = ETH_P_IP;
    let filled = match skb.skb_open(LL_RESERVED, room).and_then(|room| parts(room, make)) {
        Some(mut parts) => {
            if !make.own_ident && !make.iph.df() {
                parts.iph.id.set(ip_select_ident(cx, &make.iph));
            }
            let filled = getfrag(&mut parts);
            ip_send_check(parts.iph, make.sum, total as u16);
            filled
        }
        None => Err(Errno::ENOBUFS),
    };
    match filled {
        Ok(()) => Ok(skb),
        Err(error) => {
            kfree_skb(cx, skb, DropReason::UcopyFault);
            Err(error)
        }
    }
}

/// Writes the headers to the front of `room`.
#[inline(always)]
fn parts<'a, T>(room: &'a mut [u8], make: &IpMakeSkb<T>) -> Option<Parts<'a, T>>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    let (header, room) = room.split_at_mut_checked(size_of::<IpHdr>())?;
    let (transport, payload) = room.split_at_mut_checked(size_of::<T>())?;
    header.copy_from_slice(make.iph.as_bytes());
    transport.copy_from_slice(make.transport.as_bytes());
    let iph = IpHdr::mut_from_bytes(header).ok()?;
    Some(Parts { iph, transport: T::mut_from_bytes(transport).ok()?, payload })
}

/// An identification that nobody can guess from those of other destinations: a counter for each
/// keyed hash of the destination.
///
/// linux: net/ipv4/route.c:__ip_select_ident
pub(crate) fn ip_select_ident(cx: &BhCx<'_>, iph: &IpHdr) -> u16 {
    let net = &cx.t.ns;
    let (daddr, saddr) = (iph.daddr.get(), iph.saddr.get());
    let hash = net.ident_key.siphash_3u32(daddr, saddr, u32::from(iph.protocol));
    let counter = &net.idents[hash as usize % net.idents.len()];
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add((hash >> 32) as u32) as u16
}

/// Sends packets made by [`ip_make_skb`] that have one route.
///
/// linux: net/ipv4/ip_output.c:ip_send_skb
#[inline(always)]
pub fn ip_send_skb(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, ip_send_skb);
    let lost = ip_local_out(cx, list);
    if lost.any() {
        count_discards(cx, lost);
    }
    lost
}

#[cold]
#[inline(never)]
fn count_discards(cx: &mut BhCx<'_>, lost: Lost) {
    cx.cpu.mib.add(IpMib::OutDiscards.into(), u64::from(lost.dropped + lost.refused));
}

/// Passes `LOCAL_OUT` with packets made here, and sends them by their route.
///
/// linux: net/ipv4/ip_output.c:ip_local_out
#[inline(always)]
pub fn ip_local_out(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, ip_local_out);
    let refused = __ip_local_out(cx, list);
    refused + dst_output(cx, list)
}

/// The hook. Total length and checksum have stood in the header since it was made.
///
/// linux: net/ipv4/ip_output.c:__ip_local_out
#[inline(always)]
fn __ip_local_out(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, __ip_local_out);
    cx.cpu.mib.add(IpMib::OutRequests.into(), list.len() as u64);
    let devs = |list: &SkbList| (None, skb_dst(list).map(|dst| dst.dev));
    NF_HOOK_LIST(cx, NfInetHook::LocalOut, list, devs)
}

/// Fills in total length and checksum; `sum`: the sum over the header without the two and without
/// the identification.
// Added, not read from the header: a processor that reads wider than it has written a moment ago
// waits for the write to reach the cache.
///
/// linux: net/ipv4/ip_output.c:ip_send_check
#[inline(always)]
fn ip_send_check(iph: &mut IpHdr, sum: u32, tot_len: u16) {
    iph.tot_len.set(tot_len);
    let sum = csum_add(csum_add(sum, tot_len.into()), iph.id.get().into());
    iph.check.set(csum_fold(sum));
}

/// Passes `POST_ROUTING`.
///
/// linux: net/ipv4/ip_output.c:ip_output
pub(crate) fn ip_output(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, ip_output);
    let Some(dst) = skb_rtable(list) else { return dst_discard_out(cx, list) };
    let (outdev, mtu) = (dst.dev, dst.mtu as usize);
    let indev = list.first().and_then(|skb| skb.dev);
    let mut octets = 0;
    for skb in list.iter_mut() {
        octets += skb.len() as u64;
        skb.dev = Some(outdev);
    }
    cx.cpu.mib.add(IpMib::OutOctets.into(), octets);
    let refused = NF_HOOK_LIST(cx, NfInetHook::PostRouting, list, |_| (indev, Some(outdev)));
    refused + ip_finish_output(cx, list, mtu)
}

/// A broadcast goes out and comes back to this machine's own sockets; so does what is for a group
/// that this machine belongs to, unless its sender does not want it (`IP_MULTICAST_LOOP`).
///
/// linux: net/ipv4/ip_output.c:ip_mc_output
pub(crate) fn ip_mc_output(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, ip_mc_output);
    let t = cx.t;
    let Some(dst) = list.dst.clone() else { return dst_discard_out(cx, list) };
    let loopback = t.net.dev(dst.dev).is_some_and(|dev| dev.is_loopback());
    let local = dst.local_too && !loopback;
    let (packets, octets) = match dst.is_broadcast() {
        true => (IpMib::OutBcastPkts, IpMib::OutBcastOctets),
        false => (IpMib::OutMcastPkts, IpMib::OutMcastOctets),
    };
    let mut stays = false;
    for skb in list.iter_mut() {
        stays = local && dst.is_multicast() && skb.front::<IpHdr>().is_some_and(|iph| iph.ttl == 0);
        if !stays {
            cx.count(packets);
            cx.cpu.mib.add(octets.into(), skb.len() as u64);
        }
        if local
            && (dst.is_broadcast() || sk_mc_loop(skb))
            && let Some(mut copy) = skb_clone(cx, skb)
        {
            copy.pkt_type = PktType::Loopback;
            // Nobody filled its checksum in, and nobody will: it never leaves.
            copy.ip_summed = IpSummed::Unnecessary;
            copy.dev = Some(dst.dev);
            // It goes by this route, whose input delivers it here: looked up anew, a packet from one
            // of our own addresses would be a martian.
            copy.dst = Some(Arc::clone(&dst));
            netif_rx(cx, copy);
        }
    }
    cx.cpu.routes.give_back(dst);
    if stays {
        // With TTL 0 it is for this machine alone; so are those that go with it, which have the same.
        list.each_alone(cx, consume_skb);
        return Lost::default();
    }
    ip_output(cx, list)
}

/// The sender wants its machine's members of the group to hear it too.
///
/// linux: include/net/sock.h:sk_mc_loop
fn sk_mc_loop(skb: &Skb) -> bool {
    matches!(skb.cb, Cb::Inet(parm) if parm.mc_loop)
}

/// The last look before the link: a packet over the MTU can't go on as it is.
///
/// linux: net/ipv4/ip_output.c:ip_finish_output
#[inline(always)]
fn ip_finish_output(cx: &mut BhCx<'_>, list: &mut SkbList, mtu: usize) -> Lost {
    walk!(cx, list, ip_finish_output);
    if list.iter().any(|skb| skb_network_seglen(skb) > mtu) {
        return finish_too_long(cx, list);
    }
    ip_finish_output2(cx, list)
}

/// Finds the neighbour of the next hop and gives it the packets.
///
/// linux: net/ipv4/ip_output.c:ip_finish_output2
#[inline(always)]
fn ip_finish_output2(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, ip_finish_output2);
    walk!(cx, list, __ipv4_neigh_lookup_noref);
    // The decision is for one destination, so its next hop is always the same: it keeps the
    // neighbour, as long as that is not dead.
    let kept = list.dst.as_ref().and_then(|dst| dst.neigh.get());
    let hop = match kept.and_then(|neigh| NextHop::connected(neigh)) {
        Some(hop) => hop,
        None => match next_hop(cx, list) {
            Ok(hop) => hop,
            Err(reason) => return Lost { dropped: list.pass(cx, |_, _| Err(reason)), refused: 0 },
        },
    };
    dst_neigh_output(cx, hop, list)
}

/// By a neighbour whose entry has a say, or the next hop's, looked up or made, which the decision
/// keeps for the packets that follow.
#[cold]
#[inline(never)]
fn next_hop(cx: &mut BhCx<'_>, list: &mut SkbList) -> Result<NextHop, DropReason> {
    let (Some(dst), Some(skb)) = (&mut list.dst, list.packets.first()) else {
        return Err(DropReason::IpOutNoRoutes);
    };
    if let Some(neigh) = dst.neigh.get().filter(|neigh| !neigh.dead()) {
        return Ok(NextHop::by(neigh));
    }
    let daddr = skb.front::<IpHdr>().ok_or(DropReason::IpInHdr)?.daddr.get();
    let key = NeighKey { dev: dst.dev, addr: dst.rt_nexthop(daddr) };
    let neigh = __ipv4_neigh_lookup_noref(cx, key).ok_or(DropReason::NeighCreateFail)?;
    let hop = NextHop::by(&neigh);
    keep(dst, neigh);
    Ok(hop)
}

/// Lets the decision keep the neighbour. One that others use too and that keeps a dead one stays as it is: its
/// packets look the neighbour up each time.
fn keep(dst: &mut Arc<Dst>, neigh: Arc<Neighbour>) {
    match Arc::get_mut(dst) {
        Some(dst) => dst.neigh = OnceLock::from(Kept::new(neigh)),
        None => {
            dst.neigh.get_or_init(|| Kept::new(neigh));
        }
    }
}

/// The neighbour of a next hop, made if there is none.
///
/// linux: include/net/arp.h:__ipv4_neigh_lookup_noref
fn __ipv4_neigh_lookup_noref(cx: &mut BhCx<'_>, key: NeighKey) -> Option<Arc<Neighbour>> {
    walk!(cx, __ipv4_neigh_lookup_noref => u64::from(key.addr));
    neigh_lookup(cx, key).or_else(|| __neigh_create(cx, key))
}

/// Makes sure that a connection has its route: the one it keeps, while that is good, or another.
///
/// # Errors
/// EHOSTUNREACH without one.
///
/// linux: net/core/sock.c:__sk_dst_check, net/ipv4/af_inet.c:inet_sk_rebuild_header
#[inline]
pub(crate) fn __sk_dst_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Result<(), Errno> {
    match &sk.tp.dst {
        Some(dst) if dst.generation == cx.rt_genid() => Ok(()),
        _ => rebuild_route(cx, sk),
    }
}

#[cold]
fn rebuild_route(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Result<(), Errno> {
    if sk.tp.dst.as_ref().is_some_and(|dst| dst.is_good_exception(cx)) {
        return Ok(());
    }
    sk.tp.dst = None;
    match ip_route_output_ports(cx, &flow_of(sk)) {
        Ok(dst) => {
            sk.tp.dst = Some(dst);
            Ok(())
        }
        Err(_) => {
            cx.count(IpMib::OutNoRoutes);
            Err(Errno::EHOSTUNREACH)
        }
    }
}

/// A socket's packets that the way takes must not be cut on it.
///
/// linux: include/net/ip.h:ip_dont_fragment
#[inline]
pub(crate) fn ip_dont_fragment(pmtudisc: i32, dst: &Dst) -> bool {
    pmtudisc == IP_PMTUDISC_DO || pmtudisc == IP_PMTUDISC_WANT && !dst.mtu_locked
}

/// A socket goes by what is known of the way's MTU; if not, by that of the device.
///
/// linux: include/net/ip.h:ip_sk_use_pmtu
#[inline]
pub(crate) fn ip_sk_use_pmtu(pmtudisc: i32) -> bool {
    pmtudisc < IP_PMTUDISC_PROBE
}

/// A socket's datagrams may be longer than the MTU: they are cut here.
///
/// linux: include/net/ip.h:ip_sk_ignore_df
#[inline]
pub(crate) fn ip_sk_ignore_df(pmtudisc: i32) -> bool {
    pmtudisc < IP_PMTUDISC_DO || pmtudisc == IP_PMTUDISC_OMIT
}

/// A socket lets routers tell of the way's MTU.
///
/// linux: include/net/ip.h:ip_sk_accept_pmtu
#[inline]
pub(crate) fn ip_sk_accept_pmtu(pmtudisc: i32) -> bool {
    !matches!(pmtudisc, IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT)
}

/// Sends a connection's segments by the route it keeps: their data begin with the TCP header, in front of which
/// IP's is written.
///
/// linux: net/ipv4/ip_output.c:ip_queue_xmit
pub(crate) fn ip_queue_xmit(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, ip_queue_xmit);
    if __sk_dst_check(cx, sk).is_err() {
        return Lost { dropped: list.pass(cx, |_, _| Err(DropReason::IpOutNoRoutes)), refused: 0 };
    }
    let Some(dst) = sk.tp.dst.clone() else { return dst_discard_out(cx, list) };
    let (inet, opts) = (&sk.st.inet, &sk.st.opts);
    let df = ip_dont_fragment(inet.pmtudisc, &dst);
    let target = sk.st.ip_target();
    let hop = target.as_ref().map_or(inet.daddr, IpTarget::first_hop);
    let header = IpHdr {
        tos: inet.tos,
        ttl: inet.uc_ttl.unwrap_or(cx.t.net.sysctl.ip_default_ttl),
        frag_off: if df { IP_DF } else { 0 }.into(),
        ..IpMakeSkb::<()>::header(inet.saddr, hop, IPPROTO_TCP)
    };
    let sum = csum_partial(header.as_bytes(), 0);
    let (priority, mark) = (opts.priority, opts.mark);
    for skb in list.iter_mut() {
        let total = size_of::<IpHdr>() + skb.len();
        let id = sk.sk.next_idents(skb.gso.segs.max(1));
        if let Some(front) = skb.skb_push(size_of::<IpHdr>())
            && let Ok(iph) = IpHdr::mut_from_bytes(front)
        {
            *iph = header;
            iph.id.set(id);
            // One that devices cut is longer than the field tells.
            ip_send_check(iph, sum, u16::try_from(total).unwrap_or(0));
        }
        skb.reset_network_header();
        skb.protocol = ETH_P_IP;
        (skb.priority, skb.mark) = (priority, mark);
    }
    skb_dst_set_noref(list, dst);
    match target {
        None => ip_local_out(cx, list),
        Some(target) => out_with_options(cx, list, &target),
    }
}

/// Gives packets options and sends them; those end for which there is no memory, and all for whose strict source route
/// a router would be needed.
#[cold]
#[inline(never)]
fn out_with_options(cx: &mut BhCx<'_>, list: &mut SkbList, target: &IpTarget) -> Lost {
    let by_router = list.dst.as_ref().is_some_and(|dst| dst.gateway != 0);
    let dropped = list.pass(cx, |cx, skb| match target.is_strictroute() && by_router {
        true => Err(DropReason::IpOutNoRoutes),
        false => ip_options_build(cx, skb, target).map_err(|_| DropReason::NoMem),
    });
    let lost = Lost { dropped, refused: 0 };
    if list.is_empty() { lost } else { lost + ip_local_out(cx, list) }
}
