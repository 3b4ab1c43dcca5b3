//! Routing decisions for input and output, and their cache.
//!
//! linux: net/ipv4/route.c. Key types: [`Flow4`], [`RouteCache`]. Contexts: BH.
//! Invariants: a decision made under older tables is never used; an answer goes out only to a
//! source that passed `fib_validate_source`.
//! DIVERGES: no redirects; the cache is a CPU's own and holds decisions, as
//! Linux's did until 3.5 and its next-hop caches do since.

use crate::kernel::context::BhCx;
use crate::kernel::rcupdate::Tables;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, NetDevice};
use crate::net::core::dst::{Dst, dst_discard, dst_discard_out};
use crate::net::core::skbuff::{Skb, SkbList, kfree_skb};
use crate::net::ipv4::devinet::{inet_select_addr, ip_dev_find};
use crate::net::ipv4::fib::{FibInfo, FibLookup, FibResult, fib_lookup};
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::igmp::ip_check_mc_rcu;
use crate::net::ipv4::ip_forward::ip_forward;
use crate::net::ipv4::ip_input::ip_local_deliver;
use crate::net::ipv4::ip_options::ip_options_recompile;
use crate::net::ipv4::ip_output::{ip_mc_output, ip_output};
pub use cache::{RouteCache, RouteKey};
pub use fnhe::FnheTable;
use fnhe::rt_bind_exception;
pub(crate) use fnhe::{Fnhe, ip_rt_update_pmtu};
use std::sync::{Arc, OnceLock};
use uapi::errno::Errno;
use uapi::icmp::{ICMP_HOST_UNREACH, ICMP_NET_UNREACH, ICMP_PKT_FILTERED};
use uapi::in_::{
    INADDR_LOOPBACK, ipv4_is_lbcast, ipv4_is_local_multicast, ipv4_is_loopback, ipv4_is_multicast,
    ipv4_is_zeronet,
};
use uapi::ip::{IPPROTO_IGMP, IpHdr};
use uapi::rtnetlink::{
    RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST,
    RTN_UNICAST, RTN_UNREACHABLE,
};
use uapi::snmp::{IpMib, LinuxMib};

mod cache;
mod fnhe;

/// The largest IP packet.
///
/// linux: include/net/ip.h:IP_MAX_MTU
pub(crate) const IP_MAX_MTU: u32 = 0xffff;

/// In a flow's `tos`: only destinations on a link will do (`SO_DONTROUTE`).
///
/// linux: include/net/route.h:RTO_ONLINK
pub const RTO_ONLINK: u8 = 1;

/// A flow, by which its way is looked up.
///
/// linux: include/net/flow.h:flowi4
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow4 {
    /// Destination.
    pub daddr: u32,
    /// Source; zero: to be chosen.
    pub saddr: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// Device: the one to leave by, or the one it came in at; 0: any.
    pub oif: u16,
    /// Type of service.
    pub tos: u8,
    /// Which way.
    pub dir: FlowDir,
}

/// Which way a flow goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowDir {
    /// From here.
    #[default]
    Output,
    /// To here, or through.
    Input,
}

/// Why a received packet gets no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoute(pub DropReason);

/// Gives received packets their route, the list's from then on: from the cache, or made.
///
/// # Errors
/// The reason to drop them: a source or destination that can't be.
///
/// linux: net/ipv4/route.c:ip_route_input_noref
#[inline(always)]
pub fn ip_route_input_noref(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    key: RouteKey,
) -> Result<(), NoRoute> {
    walk!(cx, list, ip_route_input_noref);
    match cx.cpu.routes.take(key, cx.rt_genid()) {
        Some(dst) => {
            list.dst = Some(dst);
            Ok(())
        }
        None => ip_route_input_miss(cx, list, key),
    }
}

#[inline(never)]
fn ip_route_input_miss(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    key: RouteKey,
) -> Result<(), NoRoute> {
    let t = cx.t;
    let flow = key.input_flow();
    let dev = t.net.dev(DevId(flow.oif)).ok_or(NoRoute(DropReason::DevReady))?;
    list.dst = Some(Arc::new(ip_route_input_slow(cx, list, &flow, dev)?));
    Ok(())
}

/// Makes the decision for a received packet.
///
/// linux: net/ipv4/route.c:ip_route_input_slow
fn ip_route_input_slow(
    cx: &mut BhCx<'_>,
    list: &SkbList,
    key: &Flow4,
    dev: &Arc<NetDevice>,
) -> Result<Dst, NoRoute> {
    walk!(cx, list, ip_route_input_slow => u64::from(key.daddr));
    let t = cx.t;
    let in_dev = t.net.in_dev(dev.ifindex).ok_or(NoRoute(DropReason::DevReady))?;
    let (daddr, saddr) = (key.daddr, key.saddr);
    if ipv4_is_multicast(daddr) {
        // IGMP is heard of any source.
        if !ip_check_mc_rcu(cx, dev.ifindex, (daddr, saddr), list.way.protocol()) {
            return Err(NoRoute(DropReason::IpNotMember));
        }
        return ip_route_input_mc(cx, list, key, dev);
    }
    if ipv4_is_multicast(saddr) || ipv4_is_lbcast(saddr) {
        return Err(NoRoute(DropReason::IpInvalidSource));
    }
    if ipv4_is_lbcast(daddr) || (saddr == 0 && daddr == 0) {
        return input_broadcast(cx, key, dev);
    }
    if ipv4_is_zeronet(saddr) {
        return Err(NoRoute(DropReason::IpInvalidSource));
    }
    if ipv4_is_zeronet(daddr) {
        return Err(NoRoute(DropReason::IpInvalidDest));
    }
    let on_wire = !dev.is_loopback() && !in_dev.cnf.route_localnet;
    if on_wire && ipv4_is_loopback(daddr) {
        return Err(NoRoute(DropReason::IpLocalnet));
    }
    if on_wire && ipv4_is_loopback(saddr) {
        return Err(NoRoute(DropReason::IpLocalnet));
    }
    let lookup = FibLookup { daddr, oif: 0, tos: key.tos, scope: RT_SCOPE_UNIVERSE };
    let found = match fib_lookup(&t.net, &lookup) {
        Ok(found) => found,
        Err(error) => {
            let error = if in_dev.cnf.forwarding { error } else { Errno::EHOSTUNREACH };
            return Ok(input_error(cx, key, dev, error));
        }
    };
    match found.info.kind {
        RTN_BROADCAST => input_broadcast(cx, key, dev),
        RTN_LOCAL => {
            fib_validate_source(cx, saddr, daddr, dev)?;
            Ok(input_local(cx, key, dev, RTN_LOCAL))
        }
        _ if !in_dev.cnf.forwarding => Ok(input_error(cx, key, dev, Errno::EHOSTUNREACH)),
        RTN_UNICAST => {
            fib_validate_source(cx, saddr, daddr, dev)?;
            Ok(input_forward(cx, key, &found))
        }
        _ => Err(NoRoute(DropReason::IpInvalidDest)),
    }
}

fn input_broadcast(cx: &mut BhCx<'_>, key: &Flow4, dev: &Arc<NetDevice>) -> Result<Dst, NoRoute> {
    if key.saddr != 0 {
        fib_validate_source(cx, key.saddr, 0, dev)?;
    }
    Ok(input_local(cx, key, dev, RTN_BROADCAST))
}

/// A group that the device belongs to.
///
/// linux: net/ipv4/route.c:ip_route_input_mc, ip_mc_validate_source
fn ip_route_input_mc(
    cx: &mut BhCx<'_>,
    list: &SkbList,
    key: &Flow4,
    dev: &Arc<NetDevice>,
) -> Result<Dst, NoRoute> {
    walk!(cx, list, ip_route_input_mc => u64::from(key.daddr));
    let (saddr, protocol) = (key.saddr, list.way.protocol());
    if ipv4_is_multicast(saddr) || ipv4_is_lbcast(saddr) {
        return Err(NoRoute(DropReason::IpInvalidSource));
    }
    let localnet = cx.t.net.in_dev(dev.ifindex).is_some_and(|in_dev| in_dev.cnf.route_localnet);
    if ipv4_is_loopback(saddr) && !localnet {
        return Err(NoRoute(DropReason::IpLocalnet));
    }
    if !ipv4_is_zeronet(saddr) {
        fib_validate_source(cx, saddr, 0, dev)?;
    } else if !ipv4_is_local_multicast(key.daddr) && protocol != IPPROTO_IGMP {
        return Err(NoRoute(DropReason::IpInvalidSource));
    }
    let dst = Dst { local_too: true, ..input_local(cx, key, dev, RTN_MULTICAST) };
    // IGMP comes from sources, too, that nobody wants anything else of.
    Ok(if protocol == IPPROTO_IGMP { dst.uncached() } else { dst })
}

fn decision(cx: &BhCx<'_>, key: &Flow4, dev: DevId, rt_type: u8) -> Dst {
    Dst {
        input: dst_discard,
        output: dst_discard_out,
        dev,
        generation: cx.rt_genid(),
        rt_type,
        to_many: matches!(rt_type, RTN_BROADCAST | RTN_MULTICAST),
        local_too: false,
        gateway: 0,
        saddr: key.saddr,
        mtu: cx.t.net.dev(dev).map_or(0, |dev| dev.mtu() as u32).min(IP_MAX_MTU),
        mtu_locked: false,
        exception: None,
        rt_iif: 0,
        key: key.into(),
        error: None,
        neigh: OnceLock::new(),
    }
}

fn input_local(cx: &BhCx<'_>, key: &Flow4, dev: &NetDevice, rt_type: u8) -> Dst {
    Dst { input: ip_local_deliver, ..decision(cx, key, dev.ifindex, rt_type) }
}

/// A packet that goes on is held against the MTU of the route; against what is known of the way only if the
/// administrator says so, or it must be cut here.
///
/// linux: include/net/ip.h:ip_dst_mtu_maybe_forward
fn input_forward(cx: &mut BhCx<'_>, key: &Flow4, found: &FibResult) -> Dst {
    let info = &found.info;
    let base = decision(cx, key, info.dev, RTN_UNICAST);
    let mut dst = Dst {
        input: ip_forward,
        output: ip_output,
        gateway: info.gateway,
        mtu: if info.mtu != 0 { info.mtu.min(base.mtu) } else { base.mtu },
        ..base
    };
    let (mtu, generation) = (dst.mtu, dst.generation);
    rt_bind_exception(cx, &mut dst, key.daddr);
    if !cx.t.net.sysctl.ip_forward_use_pmtu && !dst.mtu_locked {
        (dst.mtu, dst.exception, dst.generation) = (mtu, None, generation);
    }
    dst
}

fn input_error(cx: &BhCx<'_>, key: &Flow4, dev: &NetDevice, error: Errno) -> Dst {
    Dst { input: ip_error, error: Some(error), ..decision(cx, key, dev.ifindex, RTN_UNREACHABLE) }
}

/// A packet that could be ours to forward but has nowhere to go: its sender is told, if this
/// machine forwards.
///
/// linux: net/ipv4/route.c:ip_error
fn ip_error(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_error);
    list.each_alone(cx, refuse);
}

fn refuse(cx: &mut BhCx<'_>, mut skb: Skb) {
    let error = skb.dst.as_ref().and_then(|dst| dst.error);
    let t = cx.t;
    let forwards =
        skb.dev.and_then(|dev| t.net.in_dev(dev)).is_some_and(|in_dev| in_dev.cnf.forwarding);
    let (mib, code, reason) = match error {
        Some(Errno::EHOSTUNREACH) => {
            (IpMib::InAddrErrors, ICMP_HOST_UNREACH, DropReason::IpInAddrErrors)
        }
        Some(Errno::EACCES) => (IpMib::InNoRoutes, ICMP_PKT_FILTERED, DropReason::IpInNoRoutes),
        _ => (IpMib::InNoRoutes, ICMP_NET_UNREACH, DropReason::IpInNoRoutes),
    };
    cx.count(mib);
    if forwards {
        icmp_send(cx, &mut skb, IcmpCode::DestUnreach(code), 0);
    }
    kfree_skb(cx, skb, reason);
}

/// May a packet from `src` come in at `dev`? Not from our own addresses, and with `rp_filter` only
/// from where the way back leads.
///
/// # Errors
/// The reason to drop it.
///
/// linux: net/ipv4/fib_frontend.c:fib_validate_source
fn fib_validate_source(
    cx: &mut BhCx<'_>,
    src: u32,
    _dst: u32,
    dev: &Arc<NetDevice>,
) -> Result<(), NoRoute> {
    let t = cx.t;
    let cnf = t.net.in_dev(dev.ifindex).map(|in_dev| in_dev.cnf).unwrap_or_default();
    // What this machine sends to itself comes back over loopback.
    if dev.is_loopback() {
        return Ok(());
    }
    let lookup = FibLookup { daddr: src, oif: 0, tos: 0, scope: RT_SCOPE_UNIVERSE };
    let back = fib_lookup(&t.net, &lookup);
    match back {
        Ok(found) if found.info.kind == RTN_LOCAL && !cnf.accept_local => {
            Err(NoRoute(DropReason::IpLocalSource))
        }
        Ok(found) if found.info.kind == RTN_BROADCAST => Err(NoRoute(DropReason::IpInvalidSource)),
        _ if cnf.rp_filter == 0 => Ok(()),
        Ok(found) if found.info.dev == dev.ifindex => Ok(()),
        Ok(_) if cnf.rp_filter == 2 => Ok(()),
        _ => {
            cx.count(LinuxMib::IPReversePathFilter);
            Err(NoRoute(DropReason::IpRpFilter))
        }
    }
}

/// Looks up the way of a flow of a socket.
///
/// # Errors
/// As `__ip_route_output_key`.
///
/// linux: include/net/route.h:ip_route_output_ports
#[inline(always)]
pub fn ip_route_output_ports(cx: &mut BhCx<'_>, flow: &Flow4) -> Result<Arc<Dst>, Errno> {
    walk!(cx, ip_route_output_ports => u64::from(flow.daddr));
    ip_route_output_flow(cx, flow)
}

/// Looks up the way of a flow.
///
/// # Errors
/// As `__ip_route_output_key`.
///
/// linux: net/ipv4/route.c:ip_route_output_flow
#[inline(always)]
pub fn ip_route_output_flow(cx: &mut BhCx<'_>, flow: &Flow4) -> Result<Arc<Dst>, Errno> {
    walk!(cx, ip_route_output_flow => u64::from(flow.daddr));
    match cx.cpu.routes.take(flow.into(), cx.rt_genid()) {
        Some(dst) => Ok(dst),
        None => __ip_route_output_key(cx, flow).map(Arc::new),
    }
}

/// Makes the decision for a flow that is to be sent.
///
/// # Errors
/// ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL by the routes; EINVAL for a source or destination that
/// can't be; ENETUNREACH for a source that is not ours; ENODEV, ENETUNREACH for a device that is not
/// there or not up.
///
/// linux: net/ipv4/route.c:__ip_route_output_key
fn __ip_route_output_key(cx: &mut BhCx<'_>, flow: &Flow4) -> Result<Dst, Errno> {
    walk!(cx, __ip_route_output_key => u64::from(flow.daddr));
    let t = cx.t;
    let mut way = *flow;
    if let Some(dst) = check_source(t, &mut way, flow)? {
        return mkroute_output(cx, flow, dst);
    }
    if way.oif != 0
        && let Some(dst) = check_device(t, &mut way)?
    {
        return mkroute_output(cx, flow, dst);
    }
    if way.daddr == 0 {
        way.daddr = if way.saddr != 0 { way.saddr } else { INADDR_LOOPBACK };
        return mkroute_output(cx, flow, Way::local(t, way.daddr, way.saddr)?);
    }
    let onlink = way.tos & RTO_ONLINK != 0;
    let scope = if onlink { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    let lookup = FibLookup { daddr: way.daddr, oif: way.oif, tos: way.tos & !RTO_ONLINK, scope };
    let found = match fib_lookup(&t.net, &lookup) {
        Ok(found) => found,
        // A device without a route to the destination: taken to be on its link.
        Err(_) if way.oif != 0 => {
            let dev = DevId(way.oif);
            let saddr = match way.saddr {
                0 => inet_select_addr(t, dev, 0, RT_SCOPE_LINK).unwrap_or(0),
                saddr => saddr,
            };
            let info = FibInfo { dev, ..FibInfo::default() };
            return mkroute_output(cx, flow, Way { daddr: way.daddr, saddr, info, iif: way.oif });
        }
        Err(error) => return Err(error),
    };
    if found.info.kind == RTN_LOCAL {
        let saddr = match (way.saddr, found.info.prefsrc) {
            (0, 0) => way.daddr,
            (0, prefsrc) => prefsrc,
            (saddr, _) => saddr,
        };
        // It goes by loopback, but comes back as if by the device that has the address.
        let local = Way { iif: found.info.dev.0, ..Way::local(t, way.daddr, saddr)? };
        return mkroute_output(cx, flow, local);
    }
    let saddr = match (way.saddr, found.info.prefsrc) {
        (0, 0) => {
            let near = if found.info.gateway != 0 { found.info.gateway } else { way.daddr };
            inet_select_addr(t, found.info.dev, near, found.info.scope).unwrap_or(0)
        }
        (0, prefsrc) => prefsrc,
        (saddr, _) => saddr,
    };
    mkroute_output(cx, flow, Way { daddr: way.daddr, saddr, info: found.info, iif: flow.oif })
}

/// A way found, from which the decision is made.
struct Way {
    daddr: u32,
    saddr: u32,
    info: FibInfo,
    /// See [`Dst::rt_iif`].
    iif: u16,
}

impl Way {
    fn local(t: &Tables, daddr: u32, saddr: u32) -> Result<Self, Errno> {
        let lo = t.net.devs.iter().flatten().find(|dev| dev.is_loopback());
        let dev = lo.ok_or(Errno::ENETUNREACH)?.ifindex;
        let saddr = if saddr == 0 { daddr } else { saddr };
        let info = FibInfo { kind: RTN_LOCAL, scope: RT_SCOPE_HOST, dev, ..FibInfo::default() };
        Ok(Self { daddr, saddr, info, iif: 0 })
    }
}

/// A given source must be one of ours; a group or broadcast goes out by its device.
fn check_source(t: &Tables, way: &mut Flow4, flow: &Flow4) -> Result<Option<Way>, Errno> {
    let saddr = flow.saddr;
    if saddr == 0 {
        return Ok(None);
    }
    if ipv4_is_multicast(saddr) || ipv4_is_lbcast(saddr) || ipv4_is_zeronet(saddr) {
        return Err(Errno::EINVAL);
    }
    if way.oif == 0 && (ipv4_is_multicast(way.daddr) || ipv4_is_lbcast(way.daddr)) {
        let dev = ip_dev_find(t, saddr).ok_or(Errno::ENETUNREACH)?;
        way.oif = dev.0;
        let info = FibInfo { dev, ..FibInfo::default() };
        return Ok(Some(Way { daddr: way.daddr, saddr, info, iif: 0 }));
    }
    if ip_dev_find(t, saddr).is_none() {
        return Err(Errno::ENETUNREACH);
    }
    Ok(None)
}

/// A given device must be up; to the link's groups and broadcast it is all that counts.
fn check_device(t: &Tables, way: &mut Flow4) -> Result<Option<Way>, Errno> {
    let id = DevId(way.oif);
    let dev = t.net.dev(id).ok_or(Errno::ENODEV)?;
    if !dev.up() || t.net.in_dev(id).is_none() {
        return Err(Errno::ENETUNREACH);
    }
    if ipv4_is_local_multicast(way.daddr) || ipv4_is_lbcast(way.daddr) {
        if way.saddr == 0 {
            way.saddr = inet_select_addr(t, id, 0, RT_SCOPE_LINK).unwrap_or(0);
        }
        let info = FibInfo { dev: id, ..FibInfo::default() };
        return Ok(Some(Way { daddr: way.daddr, saddr: way.saddr, info, iif: way.oif }));
    }
    if way.saddr == 0 {
        if ipv4_is_multicast(way.daddr) {
            way.saddr = inet_select_addr(t, id, 0, RT_SCOPE_UNIVERSE).unwrap_or(0);
        } else if way.daddr == 0 {
            way.saddr = inet_select_addr(t, id, 0, RT_SCOPE_HOST).unwrap_or(0);
        }
    }
    Ok(None)
}

/// linux: net/ipv4/route.c:__mkroute_output
fn mkroute_output(cx: &mut BhCx<'_>, flow: &Flow4, way: Way) -> Result<Dst, Errno> {
    let t = cx.t;
    let dev = t.net.dev(way.info.dev).ok_or(Errno::ENETUNREACH)?;
    let localnet = t.net.in_dev(dev.ifindex).is_some_and(|in_dev| in_dev.cnf.route_localnet);
    if ipv4_is_loopback(way.saddr) && !dev.is_loopback() && !localnet {
        return Err(Errno::EINVAL);
    }
    let rt_type = if ipv4_is_lbcast(way.daddr) {
        RTN_BROADCAST
    } else if ipv4_is_multicast(way.daddr) {
        RTN_MULTICAST
    } else if ipv4_is_zeronet(way.daddr) {
        return Err(Errno::EINVAL);
    } else if dev.is_loopback() && way.info.kind == RTN_UNICAST {
        // Whatever leaves by loopback comes back to this machine.
        RTN_LOCAL
    } else {
        way.info.kind
    };
    let base = decision(cx, flow, dev.ifindex, rt_type);
    let mtu = if way.info.mtu != 0 { way.info.mtu.min(base.mtu) } else { base.mtu };
    let to_many = base.to_many;
    let local_too = match rt_type {
        RTN_MULTICAST => ip_check_mc_rcu(cx, dev.ifindex, (way.daddr, way.saddr), 0),
        _ => to_many,
    };
    let mut dst = Dst {
        output: if to_many { ip_mc_output } else { ip_output },
        input: if rt_type == RTN_LOCAL || local_too { ip_local_deliver } else { dst_discard },
        local_too,
        gateway: if to_many { 0 } else { way.info.gateway },
        saddr: way.saddr,
        mtu,
        rt_iif: way.iif,
        ..base
    };
    rt_bind_exception(cx, &mut dst, way.daddr);
    Ok(dst)
}

/// The next hop can't be reached: the sender hears of it.
///
/// linux: net/ipv4/route.c:ipv4_link_failure
pub(crate) fn ipv4_link_failure(cx: &mut BhCx<'_>, mut skb: Skb) {
    let ip = skb.network::<IpHdr>().is_some() && skb.protocol == uapi::if_ether::ETH_P_IP;
    if ip && ip_options_recompile(cx, &mut skb) {
        icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_HOST_UNREACH), 0);
    }
    kfree_skb(cx, skb, DropReason::NeighFailed);
}
