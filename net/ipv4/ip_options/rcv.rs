//! Options of packets that came, and of those that go on. Context: BH.
//!
//! linux: net/ipv4/ip_input.c (`ip_rcv_options`), net/ipv4/ip_options.c (`ip_options_rcv_srr`, `ip_forward_options`).

use super::build::inet_current_timestamp;
use super::compile::word;
use super::{Fill, IpOptions, Malformed, OptFlags, Reader, compile};
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::DevId;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::{Cb, PktType, SkBuff, Skb, kfree_skb, skb_cow_head};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::devinet::{inet_addr_type, inet_select_addr};
use crate::net::ipv4::fib::{FibLookup, fib_lookup};
use crate::net::ipv4::icmp::{__icmp_send, IcmpCode, icmp_send};
use crate::net::ipv4::ip_sockglue::fib_compute_spec_dst;
use crate::net::ipv4::route::{RouteKey, ip_route_input_noref};
use klib::checksum::ip_fast_csum;
use uapi::icmp::ICMP_SR_FAILED;
use uapi::ip::{IP_HDR_LEN, IpHdr};
use uapi::rtnetlink::{RT_SCOPE_UNIVERSE, RTN_LOCAL, RTN_UNICAST};
use uapi::snmp::IpMib;

/// Where in a header its destination stands: what a strict route that is not kept to is complained of.
const DADDR_AT: u32 = 16;

/// Reads the options of a packet that has its route, fills in what they ask for and goes by its source route, if
/// hosts may route through this one. `None`: the packet has ended.
///
/// linux: net/ipv4/ip_input.c:ip_rcv_options
#[cold]
#[inline(never)]
pub(crate) fn ip_rcv_options(cx: &mut BhCx<'_>, mut skb: Skb) -> Option<Skb> {
    let headroom = skb.headroom();
    if !skb_cow_head(cx, &mut skb, headroom) {
        cx.count(IpMib::InDiscards);
        kfree_skb(cx, skb, DropReason::NoMem);
        return None;
    }
    match ip_options_compile(cx, &mut skb) {
        Ok(opt) => set(&mut skb, opt),
        Err(Malformed { at, read }) => {
            __icmp_send(cx, &mut skb, (IcmpCode::ParameterProb(0), at.into()), read);
            cx.count(IpMib::InHdrErrors);
            kfree_skb(cx, skb, DropReason::IpInHdr);
            return None;
        }
    }
    if opt_of(&skb).srr == 0 {
        return Some(skb);
    }
    let t = cx.t;
    let accepts = skb.dev.and_then(|dev| t.net.in_dev(dev)).map(|dev| dev.cnf.accept_source_route);
    if accepts == Some(false) {
        kfree_skb(cx, skb, DropReason::IpSourceRoute);
        return None;
    }
    ip_options_rcv_srr(cx, skb)
}

/// What is known of a packet's options.
fn opt_of(skb: &SkBuff) -> IpOptions {
    if let Cb::Inet(parm) = skb.cb { parm.opt } else { IpOptions::default() }
}

fn set(skb: &mut SkBuff, opt: IpOptions) {
    skb.cb = match skb.cb {
        Cb::Inet(parm) => Cb::Inet(InetSkbParm { opt, ..parm }),
        _ => Cb::Inet(InetSkbParm { opt, ..InetSkbParm::default() }),
    };
}

/// The header with its options, whose sum is another when something was written there.
fn header_mut(skb: &mut SkBuff) -> Option<&mut [u8]> {
    let ihl = skb.front::<IpHdr>()?.ihl();
    skb.data_mut()?.get_mut(..ihl)
}

/// Reads the options of a packet whose data begins with its header.
///
/// # Errors
/// Where they are malformed.
///
/// linux: net/ipv4/ip_options.c:ip_options_compile
fn ip_options_compile(cx: &mut BhCx<'_>, skb: &mut Skb) -> Result<IpOptions, Malformed> {
    walk!(cx, skb, ip_options_compile);
    let t = cx.t;
    let spec_dst = fib_compute_spec_dst(t, skb, skb.dst.as_deref());
    let now = inet_current_timestamp(cx);
    let fill = Fill { addr: spec_dst, time: now };
    let is_foreign = |addr| inet_addr_type(t, addr) == RTN_UNICAST;
    let reader = Reader { is_foreign: &is_foreign, fill: Some(fill) };
    let nothing = IpOptions::default();
    let Some(header) = header_mut(skb) else {
        return Err(Malformed { at: 0, read: nothing });
    };
    compile(header.get_mut(IP_HDR_LEN..).unwrap_or_default(), &reader)
}

/// The options of a packet that does not leave are read once more, for the answer; false: they are malformed.
///
/// linux: net/ipv4/route.c:ipv4_send_dest_unreach
pub(crate) fn ip_options_recompile(cx: &mut BhCx<'_>, skb: &mut Skb) -> bool {
    match skb.front::<IpHdr>() {
        Some(iph) if skb.network_offset() == 0 && iph.ihl() > IP_HDR_LEN => {
            skb_cow_head(cx, skb, 0) && ip_options_compile(cx, skb).is_ok()
        }
        _ => true,
    }
}

/// Goes by the source route of a packet that has come to one of its hops: the packet is for the next one that is not
/// this machine, and gets its route. `None`: the packet has ended.
///
/// linux: net/ipv4/ip_options.c:ip_options_rcv_srr
fn ip_options_rcv_srr(cx: &mut BhCx<'_>, mut skb: Skb) -> Option<Skb> {
    walk!(cx, skb, ip_options_rcv_srr);
    let mut opt = opt_of(&skb);
    let strict = opt.flags.contains(OptFlags::STRICTROUTE);
    let rt_type = skb.dst.as_ref().map(|dst| dst.rt_type);
    match rt_type {
        _ if skb.pkt_type != PktType::Host => return refuse(cx, skb, None),
        // It is not at one of its hops yet, which a strict route forbids.
        Some(RTN_UNICAST) if strict => return refuse(cx, skb, Some(DADDR_AT)),
        Some(RTN_UNICAST) => return Some(skb),
        Some(RTN_LOCAL) => (),
        _ => return refuse(cx, skb, None),
    }
    let option = usize::from(opt.srr);
    let octet = |skb: &Skb, at: usize| skb.data().get(option + at).copied().map_or(0, usize::from);
    let (mut at, len) = (octet(&skb, 2), octet(&skb, 1));
    while at <= len {
        if at + 3 > len {
            return refuse(cx, skb, Some(u32::from(opt.srr) + 2));
        }
        let nexthop = skb.data().get(option + at - 1..).map_or(0, word);
        let found;
        (skb, found) = route_to(cx, skb, nexthop)?;
        opt.flags |= OptFlags::CHANGED;
        if found != RTN_LOCAL {
            opt.flags |= OptFlags::SRR_IS_HIT;
            opt.hop = (option + at - 1) as u8;
            break;
        }
        // This machine is the next hop, too.
        at += 4;
    }
    set(&mut skb, opt);
    Some(skb)
}

/// Ends a packet by its source route; its sender is told where the problem is.
fn refuse(cx: &mut BhCx<'_>, mut skb: Skb, at: Option<u32>) -> Option<Skb> {
    if let Some(at) = at {
        icmp_send(cx, &mut skb, IcmpCode::ParameterProb(0), at);
    }
    kfree_skb(cx, skb, DropReason::IpSourceRoute);
    None
}

/// Gives a packet the route to its next hop; the packet and what kind of route that is. It is for the hop from now on
/// if that is this machine; if not, from when it is sent on. `None`: there is no way, and the packet has ended.
fn route_to(cx: &mut BhCx<'_>, mut skb: Skb, nexthop: u32) -> Option<(Skb, u8)> {
    let daddr = set_daddr(&mut skb, nexthop);
    if let Some(old) = skb.dst.take() {
        cx.cpu.routes.give_back(old);
    }
    let mut list = cx.skb_list_of(skb);
    list.look_again();
    let key = RouteKey::input(list.way);
    let found = ip_route_input_noref(cx, &mut list, key);
    let rt_type = list.dst.as_ref().map_or(0, |dst| dst.rt_type);
    let skb = list.pop_front();
    cx.free_skb_list(list);
    let mut skb = skb?;
    if found.is_err() || !matches!(rt_type, RTN_UNICAST | RTN_LOCAL) {
        return refuse(cx, skb, None).map(|skb| (skb, rt_type));
    }
    if rt_type != RTN_LOCAL {
        set_daddr(&mut skb, daddr);
    }
    Some((skb, rt_type))
}

/// Changes the destination in the header; what it was.
fn set_daddr(skb: &mut Skb, daddr: u32) -> u32 {
    skb.front_mut::<IpHdr>().map_or(0, |iph| {
        let before = iph.daddr.get();
        iph.daddr.set(daddr);
        before
    })
}

/// A packet keeps to a strict source route.
#[inline]
pub(crate) fn is_strictroute(skb: &SkBuff) -> bool {
    matches!(skb.cb, Cb::Inet(parm) if parm.opt.flags.contains(OptFlags::STRICTROUTE))
}

/// The next hop of a strict route is not on a link of this machine.
///
/// linux: net/ipv4/ip_forward.c:ip_forward (`sr_failed`)
#[cold]
pub(crate) fn sr_failed(cx: &mut BhCx<'_>, mut skb: Skb) {
    icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_SR_FAILED), 0);
    kfree_skb(cx, skb, DropReason::IpSourceRoute);
}

/// Fills in the options of a packet that is sent on: in place of the address that it came to that by which it leaves.
///
/// linux: net/ipv4/ip_options.c:ip_forward_options
#[cold]
#[inline(never)]
pub(crate) fn ip_forward_options(cx: &mut BhCx<'_>, skb: &mut Skb) {
    walk!(cx, skb, ip_forward_options);
    let opt = opt_of(skb);
    if opt.optlen == 0 {
        return;
    }
    let own = ip_rt_get_source(cx, skb);
    let Some(header) = header_mut(skb) else { return };
    let mut changed = opt.flags.contains(OptFlags::CHANGED);
    if opt.flags.contains(OptFlags::RR_NEEDADDR) {
        changed |= write(header, before_pointer(header, (opt.rr, 4)), own);
    }
    if opt.flags.contains(OptFlags::SRR_IS_HIT) {
        let (option, hop) = (usize::from(opt.srr), usize::from(opt.hop));
        // It is for its next hop from now on, in whose place in the list this host stands.
        if hop + 4 <= header.len() {
            header.copy_within(hop..hop + 4, DADDR_AT as usize);
        }
        let own = ip_rt_get_source(cx, skb);
        let Some(header) = header_mut(skb) else { return };
        if write(header, Some(hop), own) {
            changed = true;
            header[option + 2] = (hop - option + 5) as u8;
        }
        if opt.flags.contains(OptFlags::TS_NEEDADDR) {
            changed |= write(header, before_pointer(header, (opt.ts, 8)), own);
        }
    }
    let Some(header) = header_mut(skb) else { return };
    if changed {
        header[10..12].fill(0);
        let check = ip_fast_csum(header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
    }
    set(skb, IpOptions { flags: opt.flags - OptFlags::CHANGED, ..opt });
}

/// So many octets before what an option points to.
fn before_pointer(header: &[u8], (option, before): (u8, usize)) -> Option<usize> {
    let pointer = usize::from(*header.get(usize::from(option) + 2)?);
    (usize::from(option) + pointer).checked_sub(1 + before)
}

fn write(header: &mut [u8], at: Option<usize>, addr: u32) -> bool {
    match at.and_then(|at| header.get_mut(at..at + 4)) {
        Some(room) => room.copy_from_slice(&addr.to_be_bytes()),
        None => return false,
    }
    true
}

/// The address of this machine on the way that a packet is sent on by.
///
/// linux: net/ipv4/route.c:ip_rt_get_source
fn ip_rt_get_source(cx: &BhCx<'_>, skb: &SkBuff) -> u32 {
    let (Some(dst), Some(iph)) = (skb.dst.as_deref(), skb.front::<IpHdr>()) else { return 0 };
    let (t, oif, daddr) = (cx.t, dst.dev.0, iph.daddr.get());
    let way = FibLookup { daddr, oif, tos: iph.tos & 0x1c, scope: RT_SCOPE_UNIVERSE };
    let select = |dev: DevId, near, scope| inet_select_addr(t, dev, near, scope).unwrap_or(0);
    match fib_lookup(&t.net, &way) {
        Ok(found) if found.info.prefsrc != 0 => found.info.prefsrc,
        Ok(found) => select(found.info.dev, found.info.gateway, found.info.scope),
        Err(_) => select(dst.dev, Dst::rt_nexthop(dst, daddr), RT_SCOPE_UNIVERSE),
    }
}
