//! IPv4 input: from the link to the transport protocol.
//!
//! linux: net/ipv4/ip_input.c; RFC 791, RFC 1122 section 3.2.1. Context: BH.
//! DIVERGES: fragments are dropped, reassembly is not part of the stack yet; IP options are checked
//! but not acted on.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, NetDevice, PacketFunc, PacketType};
use crate::net::core::dst::dst_input;
use crate::net::core::skbuff::{Cb, PktType, SkBuff, Skb, kfree_skb};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::route::ip_route_input_noref;
use crate::net::netfilter::{NF_HOOK, NfInetHook};
use klib::checksum::ip_fast_csum;
use std::sync::Arc;
use uapi::icmp::ICMP_PROT_UNREACH;
use uapi::if_ether::ETH_P_IP;
use uapi::ip::IpHdr;
use uapi::snmp::IpMib;

/// ETH_P_IP -> [`ip_rcv`].
///
/// linux: net/ipv4/af_inet.c:ip_packet_type
pub fn ip_packet_type() -> PacketType {
    PacketType { kind: ETH_P_IP, dev: None, func: PacketFunc::Protocol(ip_rcv) }
}

/// Receives an IPv4 datagram from the link layer, checks its header (RFC 1122 section 3.2.1.2) and
/// passes it to `PRE_ROUTING`.
///
/// linux: net/ipv4/ip_input.c:ip_rcv
pub fn ip_rcv(cx: &mut BhCx<'_>, mut skb: Skb, dev: &Arc<NetDevice>) {
    walk!(cx, skb, ip_rcv);
    if skb.pkt_type == PktType::OtherHost {
        return kfree_skb(cx, skb, DropReason::OtherHost);
    }
    cx.count(IpMib::InReceives);
    let octets = skb.len() as u64;
    cx.cpu.mib.add(IpMib::InOctets.into(), octets);
    match check_header(&mut skb) {
        Ok(ihl) => {
            skb.set_transport_header(ihl);
            skb.cb = Cb::Inet(InetSkbParm {
                iif: dev.ifindex.0,
                ihl: ihl as u8,
                optlen: (ihl - size_of::<IpHdr>()) as u8,
                forwarded: false,
                mc_loop: false,
            });
            let devs = |skb: &SkBuff| (skb.dev, None);
            let _ended_by_a_hook = NF_HOOK(cx, NfInetHook::PreRouting, skb, devs, |cx, skb| {
                ip_rcv_finish(cx, skb, dev.ifindex);
            });
        }
        Err((mib, reason)) => {
            cx.count(mib);
            kfree_skb(cx, skb, reason);
        }
    }
}

/// Checks version, lengths and checksum, and cuts what the link padded. The header's length.
#[inline(always)]
fn check_header(skb: &mut Skb) -> Result<usize, (IpMib, DropReason)> {
    const FIXED: usize = size_of::<IpHdr>();
    const TRUNCATED: (IpMib, DropReason) = (IpMib::InHdrErrors, DropReason::HdrTrunc);
    const MALFORMED: (IpMib, DropReason) = (IpMib::InHdrErrors, DropReason::IpInHdr);
    if !skb.pskb_may_pull(FIXED) {
        return Err(TRUNCATED);
    }
    // One look at the bytes for a header without options.
    let Some(fixed) = skb.data().first_chunk::<FIXED>() else { return Err(TRUNCATED) };
    let len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let ihl = if fixed[0] == 0x45 {
        if ip_fast_csum(fixed) != 0 {
            return Err((IpMib::InCsumErrors, DropReason::IpCsum));
        }
        FIXED
    } else {
        let (version, ihl) = (fixed[0] >> 4, usize::from(fixed[0] & 15) * 4);
        if version != 4 || ihl < FIXED {
            return Err(MALFORMED);
        }
        if !skb.pskb_may_pull(ihl) {
            return Err(TRUNCATED);
        }
        let header = &skb.data()[..ihl];
        if ip_fast_csum(header) != 0 {
            return Err((IpMib::InCsumErrors, DropReason::IpCsum));
        }
        if !options_well_formed(&header[FIXED..]) {
            return Err(MALFORMED);
        }
        ihl
    };
    if skb.len() < len {
        return Err((IpMib::InTruncatedPkts, DropReason::PktTooSmall));
    }
    if len < ihl {
        return Err(MALFORMED);
    }
    skb.pskb_trim(len);
    Ok(ihl)
}

/// Every option has a length that stays inside the header and moves on; no source routes, which
/// hosts do not accept (`accept_source_route` is off).
///
/// linux: net/ipv4/ip_options.c:ip_options_compile
fn options_well_formed(mut options: &[u8]) -> bool {
    use uapi::ip::{IPOPT_END, IPOPT_LSRR, IPOPT_NOOP, IPOPT_SSRR};
    while let [kind, rest @ ..] = options {
        options = match *kind {
            IPOPT_END => return true,
            IPOPT_NOOP => rest,
            IPOPT_LSRR | IPOPT_SSRR => return false,
            _ => match rest.first().map(|len| usize::from(*len)) {
                Some(len) if len >= 2 && len <= options.len() => &options[len..],
                _ => return false,
            },
        };
    }
    true
}

/// Finds the way of a received packet and takes it there.
///
/// linux: net/ipv4/ip_input.c:ip_rcv_finish
#[inline(always)]
fn ip_rcv_finish(cx: &mut BhCx<'_>, mut skb: Skb, dev: DevId) {
    walk!(cx, skb, ip_rcv_finish);
    let Some(iph) = skb.front::<IpHdr>() else {
        return kfree_skb(cx, skb, DropReason::IpInHdr);
    };
    let (daddr, saddr, tos) = (iph.daddr.get(), iph.saddr.get(), iph.tos);
    let dst = match skb.dst.take() {
        // What comes back over loopback has its way already.
        Some(dst) => dst,
        None => match ip_route_input_noref(cx, &skb, (daddr, saddr), tos & 0x1c, dev) {
            Ok(dst) => dst,
            Err(no_route) => return kfree_skb(cx, skb, no_route.0),
        },
    };
    if dst.is_broadcast() {
        cx.count(IpMib::InBcastPkts);
    } else if dst.is_multicast() {
        cx.count(IpMib::InMcastPkts);
    }
    skb.dst = Some(dst);
    dst_input(cx, skb);
}

/// Takes a packet for this machine to `LOCAL_IN`.
///
/// linux: net/ipv4/ip_input.c:ip_local_deliver
pub(crate) fn ip_local_deliver(cx: &mut BhCx<'_>, skb: Skb) {
    walk!(cx, skb, ip_local_deliver);
    let Some(iph) = skb.front::<IpHdr>() else {
        return kfree_skb(cx, skb, DropReason::IpInHdr);
    };
    if iph.mf() || iph.offset() != 0 {
        cx.count(IpMib::ReasmReqds);
        cx.count(IpMib::ReasmFails);
        return kfree_skb(cx, skb, DropReason::IpFragment);
    }
    let devs = |skb: &SkBuff| (skb.dev, None);
    let _ended_by_a_hook = NF_HOOK(cx, NfInetHook::LocalIn, skb, devs, ip_local_deliver_finish);
}

/// Gives a packet to its transport protocol; its sender is told if there is none.
///
/// linux: net/ipv4/ip_input.c:ip_local_deliver_finish
#[inline(always)]
fn ip_local_deliver_finish(cx: &mut BhCx<'_>, mut skb: Skb) {
    walk!(cx, skb, ip_local_deliver_finish);
    let Some(iph) = skb.front::<IpHdr>() else {
        return kfree_skb(cx, skb, DropReason::IpInHdr);
    };
    let (ihl, protocol) = (iph.ihl(), iph.protocol);
    let t = cx.t;
    match t.net.inet_protos.get(protocol) {
        Some(proto) if skb.skb_pull(ihl) => {
            cx.count(IpMib::InDelivers);
            (proto.handler)(cx, skb);
        }
        _ => {
            cx.count(IpMib::InUnknownProtos);
            icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_PROT_UNREACH), 0);
            kfree_skb(cx, skb, DropReason::IpNoProto);
        }
    }
}
