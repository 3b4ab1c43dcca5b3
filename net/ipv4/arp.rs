//! ARP: IPv4 to link address.
//!
//! linux: net/ipv4/arp.c; RFC 826, RFC 5227. Contexts: BH. Locks: those of the neighbour table.
//! Invariants: an entry is made only for whom this machine asks, or who asks for this machine
//! (unless `arp_accept`); a request is answered only for an address that is ours.
//! DIVERGES: no proxy ARP.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, NetDevice, PacketFunc, PacketType, dev_queue_xmit_one};
use crate::net::core::neighbour::{
    __neigh_create, NeighKey, NeighOps, NeighUpdate, Neighbour, Solicit, neigh_connected_output,
    neigh_lookup, neigh_resolve_output, neigh_update,
};
use crate::net::core::skbuff::{Cb, PktType, Skb, SkbList, alloc_skb, kfree_skb};
use crate::net::ethernet::eth::eth_header;
use crate::net::ipv4::devinet::{inet_addr_type, inet_select_addr};
use crate::net::ipv4::route::{Flow4, FlowDir, RouteKey, ip_route_input_noref};
use crate::net::net_namespace::NetView;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::if_::IFF_NOARP;
use uapi::if_arp::{
    ARPHRD_ETHER, ARPHRD_IEEE802, ARPOP_REPLY, ARPOP_REQUEST, ATF_COM, ATF_PERM, ArpIpv4,
};
use uapi::if_ether::{ETH_BROADCAST, ETH_HLEN, ETH_P_ARP, ETH_P_IP};
use uapi::in_::{ipv4_is_loopback, ipv4_is_multicast};
use uapi::neighbour::{NUD_NOARP, NUD_NONE, NUD_REACHABLE, NUD_STALE};
use uapi::rtnetlink::{RT_SCOPE_LINK, RTN_BROADCAST, RTN_LOCAL, RTN_UNICAST};
use zerocopy::IntoBytes;

/// Neighbours that are asked for.
///
/// linux: net/ipv4/arp.c:arp_generic_ops
pub static ARP_GENERIC_OPS: NeighOps = NeighOps {
    solicit: arp_solicit,
    error_report: arp_error_report,
    output: neigh_resolve_output,
    connected_output: neigh_connected_output,
};

/// Neighbours whose address follows from theirs: groups, broadcast, devices without ARP.
///
/// linux: net/ipv4/arp.c:arp_direct_ops
pub static ARP_DIRECT_OPS: NeighOps = NeighOps {
    solicit: |_, _, _| (),
    error_report: arp_error_report,
    output: neigh_connected_output,
    connected_output: neigh_connected_output,
};

/// ETH_P_ARP -> [`arp_rcv`].
///
/// linux: net/ipv4/arp.c:arp_packet_type
pub fn arp_packet_type() -> PacketType {
    PacketType { kind: ETH_P_ARP, dev: None, func: PacketFunc::Protocol(arp_rcv) }
}

/// The state, address and functions of a new neighbour.
///
/// linux: net/ipv4/arp.c:arp_constructor
pub(crate) fn arp_constructor(
    cx: &mut BhCx<'_>,
    addr: u32,
    dev: &NetDevice,
) -> (u8, [u8; 6], &'static NeighOps) {
    let kind = inet_addr_type(cx.t, addr);
    if ipv4_is_multicast(addr) {
        let [_, b, c, d] = addr.to_be_bytes();
        // RFC 1112 section 6.4: the group's low 23 bits.
        return (NUD_NOARP as u8, [0x01, 0, 0x5e, b & 0x7f, c, d], &ARP_DIRECT_OPS);
    }
    if dev.is_loopback() || dev.has_flag(IFF_NOARP) {
        return (NUD_NOARP as u8, dev.dev_addr(), &ARP_DIRECT_OPS);
    }
    if kind == RTN_BROADCAST || addr == u32::MAX {
        return (NUD_NOARP as u8, ETH_BROADCAST, &ARP_DIRECT_OPS);
    }
    (NUD_NONE as u8, [0; 6], &ARP_GENERIC_OPS)
}

/// Asks for a neighbour's address.
///
/// linux: net/ipv4/arp.c:arp_solicit
fn arp_solicit(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>, solicit: &Solicit) {
    walk!(cx, arp_solicit => u64::from(neigh.key.addr));
    let (t, target) = (cx.t, neigh.key.addr);
    let Some(dev) = t.net.dev(neigh.key.dev) else { return };
    let own = solicit.saddr.filter(|saddr| inet_addr_type(t, *saddr) == RTN_LOCAL);
    let Some(sip) = own.or_else(|| inet_select_addr(t, dev.ifindex, target, RT_SCOPE_LINK)) else {
        return;
    };
    let to = solicit.ucast.unwrap_or(ETH_BROADCAST);
    let message = ArpMessage { op: ARPOP_REQUEST, sip, tip: target, to, tha: [0; 6] };
    arp_send(cx, dev, &message);
}

/// The neighbour does not answer: who sent the packet is told that the host can't be reached.
///
/// linux: net/ipv4/arp.c:arp_error_report
fn arp_error_report(cx: &mut BhCx<'_>, _neigh: &Arc<Neighbour>, skb: Skb) {
    crate::net::ipv4::route::ipv4_link_failure(cx, skb);
}

struct ArpMessage {
    op: u16,
    sip: u32,
    tip: u32,
    /// The frame's destination.
    to: [u8; 6],
    tha: [u8; 6],
}

/// Makes a message and sends it.
///
/// linux: net/ipv4/arp.c:arp_send
fn arp_send(cx: &mut BhCx<'_>, dev: &Arc<NetDevice>, message: &ArpMessage) {
    if dev.has_flag(IFF_NOARP) {
        return;
    }
    let Some(mut skb) = arp_create(cx, dev, message) else { return };
    cx.watch(&mut skb);
    walk!(cx, skb, arp_send => u64::from(message.op));
    walk!(cx, skb, arp_xmit);
    dev_queue_xmit_one(cx, skb, dev);
}

/// linux: net/ipv4/arp.c:arp_create
fn arp_create(cx: &mut BhCx<'_>, dev: &NetDevice, message: &ArpMessage) -> Option<Skb> {
    let mut skb = alloc_skb(cx, ETH_HLEN + 2 + size_of::<ArpIpv4>())?;
    skb.skb_reserve(ETH_HLEN + 2);
    skb.reset_network_header();
    skb.dev = Some(dev.ifindex);
    skb.protocol = ETH_P_ARP;
    skb.cb = Cb::Neigh;
    let arp = ArpIpv4 {
        ar_hrd: ARPHRD_ETHER.into(),
        ar_pro: ETH_P_IP.into(),
        ar_hln: 6,
        ar_pln: 4,
        ar_op: message.op.into(),
        ar_sha: dev.dev_addr(),
        ar_sip: message.sip.into(),
        ar_tha: message.tha,
        ar_tip: message.tip.into(),
    };
    let put = skb.skb_put(size_of::<ArpIpv4>()).map(|room| room.copy_from_slice(arp.as_bytes()));
    if put.is_none() || !eth_header(&mut skb, ETH_P_ARP, dev.dev_addr(), message.to) {
        kfree_skb(cx, skb, DropReason::DevHdr);
        return None;
    }
    Some(skb)
}

/// Receives an ARP message: learns from it and answers it.
///
/// linux: net/ipv4/arp.c:arp_rcv
pub fn arp_rcv(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>) {
    walk!(cx, list, arp_rcv);
    list.each_alone(cx, |cx, skb| arp_packet(cx, skb, dev));
}

fn arp_packet(cx: &mut BhCx<'_>, mut skb: Skb, dev: &Arc<NetDevice>) {
    if dev.has_flag(IFF_NOARP) || matches!(skb.pkt_type, PktType::OtherHost | PktType::Loopback) {
        return kfree_skb(cx, skb, DropReason::OtherHost);
    }
    if !skb.pskb_may_pull(size_of::<ArpIpv4>()) {
        return kfree_skb(cx, skb, DropReason::HdrTrunc);
    }
    let Some(&arp) = skb.front::<ArpIpv4>() else {
        return kfree_skb(cx, skb, DropReason::HdrTrunc);
    };
    let solicited = arp.ar_op.get() == ARPOP_REPLY && skb.pkt_type == PktType::Host;
    let mut alone = cx.skb_list_of(skb);
    match arp_process(cx, &mut alone, dev, (&arp, solicited)) {
        Ok(()) => alone.consume(cx),
        Err(reason) => {
            alone.pass(cx, |_, _| Err(reason));
        }
    }
    cx.free_skb_list(alone);
}

/// linux: net/ipv4/arp.c:arp_process
fn arp_process(
    cx: &mut BhCx<'_>,
    packet: &mut SkbList,
    dev: &Arc<NetDevice>,
    (arp, solicited): (&ArpIpv4, bool),
) -> Result<(), DropReason> {
    walk!(cx, packet, arp_process => u64::from(arp.ar_op.get()));
    let t = cx.t;
    let in_dev = t.net.in_dev(dev.ifindex).ok_or(DropReason::ArpIgnore)?;
    let hardware = arp.ar_hrd.get();
    let op = arp.ar_op.get();
    let (sip, tip) = (arp.ar_sip.get(), arp.ar_tip.get());
    let well_formed = matches!(hardware, ARPHRD_ETHER | ARPHRD_IEEE802)
        && arp.ar_pro.get() == ETH_P_IP
        && (arp.ar_hln, arp.ar_pln) == (6, 4)
        && matches!(op, ARPOP_REQUEST | ARPOP_REPLY)
        && !ipv4_is_multicast(tip)
        && (!ipv4_is_loopback(tip) || in_dev.cnf.route_localnet);
    if !well_formed {
        return Err(DropReason::ArpInvalid);
    }
    let answer =
        ArpMessage { op: ARPOP_REPLY, sip: tip, tip: sip, to: arp.ar_sha, tha: arp.ar_sha };
    // RFC 5227: a probe for one of our addresses, from one who has none yet.
    if sip == 0 {
        if op == ARPOP_REQUEST
            && inet_addr_type(t, tip) == RTN_LOCAL
            && !in_dev.arp_ignore(sip, tip)
        {
            arp_send(cx, dev, &answer);
            return Ok(());
        }
        return Err(DropReason::ArpIgnore);
    }
    let key = NeighKey { dev: dev.ifindex, addr: sip };
    if op == ARPOP_REQUEST && wanted_here(cx, packet, (tip, sip), dev.ifindex) {
        if in_dev.arp_ignore(sip, tip) {
            return Err(DropReason::ArpIgnore);
        }
        // Who asks for us will talk to us: remembered, but not confirmed.
        if let Some(neigh) = neigh_lookup(cx, key).or_else(|| __neigh_create(cx, key)) {
            let how = NeighUpdate { override_addr: true, admin: false };
            neigh_update(cx, &neigh, Some(arp.ar_sha), NUD_STALE as u8, how);
        }
        arp_send(cx, dev, &answer);
        return Ok(());
    }
    learn(cx, key, arp, solicited)
}

/// The request is for an address of this machine.
fn wanted_here(
    cx: &mut BhCx<'_>,
    packet: &mut SkbList,
    (daddr, saddr): (u32, u32),
    dev: DevId,
) -> bool {
    let flow = Flow4 { daddr, saddr, oif: dev.0, dir: FlowDir::Input, ..Flow4::default() };
    ip_route_input_noref(cx, packet, RouteKey::from(&flow)).is_ok()
        && packet.dst.as_ref().is_some_and(|dst| dst.is_local() && dst.error.is_none())
}

/// Updates what is known of the sender; makes a new entry only where `arp_accept` says so.
fn learn(
    cx: &mut BhCx<'_>,
    key: NeighKey,
    arp: &ArpIpv4,
    solicited: bool,
) -> Result<(), DropReason> {
    let t = cx.t;
    let (op, sip, tip) = (arp.ar_op.get(), arp.ar_sip.get(), arp.ar_tip.get());
    let unicast = inet_addr_type(t, sip) == RTN_UNICAST;
    // A gratuitous reply names its sender's link address twice.
    let gratuitous = unicast && sip == tip && (op == ARPOP_REQUEST || arp.ar_tha == arp.ar_sha);
    let accept = t.net.in_dev(key.dev).is_some_and(|in_dev| in_dev.cnf.arp_accept)
        && (gratuitous || op == ARPOP_REPLY && unicast);
    let known = neigh_lookup(cx, key);
    let neigh = match known {
        Some(neigh) => neigh,
        None if accept => __neigh_create(cx, key).ok_or(DropReason::NeighCreateFail)?,
        None => return Err(DropReason::ArpIgnore),
    };
    let now = cx.now();
    let override_addr = gratuitous || neigh.settled(now, t.net.sysctl.neigh.locktime);
    let state = if solicited { NUD_REACHABLE } else { NUD_STALE } as u8;
    let how = NeighUpdate { override_addr, admin: false };
    neigh_update(cx, &neigh, Some(arp.ar_sha), state, how);
    Ok(())
}

/// Tells the link that `addr` is ours.
///
/// linux: net/ipv4/arp.c:arp_send (as inetdev_send_gratuitous_arp uses it)
pub(crate) fn arp_announce(cx: &mut BhCx<'_>, dev: &Arc<NetDevice>, addr: u32) {
    let message =
        ArpMessage { op: ARPOP_REQUEST, sip: addr, tip: addr, to: ETH_BROADCAST, tha: [0; 6] };
    arp_send(cx, dev, &message);
}

/// The text of `/proc/net/arp`: every neighbour but those that need no address.
///
/// linux: net/ipv4/arp.c:arp_seq_show
pub fn arp_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text =
        "IP address       HW type     Flags       HW address            Mask     Device\n"
            .to_owned();
    let t = &of.t;
    for entry in of.net().arp_tbl.dump().iter().filter(|entry| entry.state != "NOARP") {
        let Some(dev) = t.net.dev(entry.key.dev) else { continue };
        let flags = match (entry.state, entry.lladdr) {
            ("PERMANENT", _) => ATF_COM | ATF_PERM,
            (_, Some(_)) => ATF_COM,
            (_, None) => 0,
        };
        let octets = entry.lladdr.unwrap_or_default().map(|octet| format!("{octet:02x}"));
        text += &format!(
            "{:<16} 0x{:<10x}0x{flags:<10x}{:<17}     *        {}\n",
            Ipv4Addr::from(entry.key.addr).to_string(),
            dev.kind,
            octets.join(":"),
            dev.name
        );
    }
    text
}
