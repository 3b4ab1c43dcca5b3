//! Forwarding: a packet through this machine.
//!
//! linux: net/ipv4/ip_forward.c; RFC 1812 section 5. Context: BH.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dst::dst_output;
use crate::net::core::gso::skb_network_seglen;
use crate::net::core::skbuff::{PktType, SkBuff, Skb, SkbList, kfree_skb, skb_cow_head};
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::ip_options::{ip_forward_options, is_strictroute, sr_failed};
use crate::net::netfilter::{NF_HOOK, NfInetHook};
use klib::checksum::csum_replace2;
use uapi::icmp::{ICMP_EXC_TTL, ICMP_FRAG_NEEDED};
use uapi::ip::IpHdr;
use uapi::snmp::IpMib;

/// Takes one from the time to live and sends the packets on; the sender of one that is too old or
/// too big, and must not be cut, is told.
///
/// linux: net/ipv4/ip_forward.c:ip_forward
pub(crate) fn ip_forward(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_forward);
    list.each_alone(cx, forward);
}

fn forward(cx: &mut BhCx<'_>, mut skb: Skb) {
    let (Some(iph), Some(dst)) = (skb.front::<IpHdr>(), skb.dst.as_ref()) else {
        return kfree_skb(cx, skb, DropReason::IpInHdr);
    };
    let (ttl, df, out, mtu) = (iph.ttl, iph.df(), dst.dev, dst.mtu as usize);
    let by_gateway = dst.gateway != 0;
    if skb.pkt_type != PktType::Host {
        return kfree_skb(cx, skb, DropReason::UnicastInL2Multicast);
    }
    if ttl <= 1 {
        cx.count(IpMib::InHdrErrors);
        icmp_send(cx, &mut skb, IcmpCode::TimeExceeded(ICMP_EXC_TTL), 0);
        return kfree_skb(cx, skb, DropReason::TtlExpired);
    }
    if by_gateway && is_strictroute(&skb) {
        return sr_failed(cx, skb);
    }
    // What may be cut is, on its way out.
    if df && skb_network_seglen(&skb) > mtu {
        cx.count(IpMib::FragFails);
        icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_FRAG_NEEDED), mtu as u32);
        return kfree_skb(cx, skb, DropReason::PktTooBig);
    }
    if !skb_cow_head(cx, &mut skb, 16) {
        return kfree_skb(cx, skb, DropReason::NoMem);
    }
    let Some(iph) = skb.front_mut::<IpHdr>() else {
        return kfree_skb(cx, skb, DropReason::IpInHdr);
    };
    let old = u16::from_be_bytes([iph.ttl, iph.protocol]);
    iph.ttl -= 1;
    let new = u16::from_be_bytes([iph.ttl, iph.protocol]);
    let check = csum_replace2(iph.check.get(), old, new);
    iph.check.set(check);
    let devs = |skb: &SkBuff| (skb.dev, Some(out));
    let _ended_by_a_hook = NF_HOOK(cx, NfInetHook::Forward, skb, devs, ip_forward_finish);
}

/// linux: net/ipv4/ip_forward.c:ip_forward_finish
fn ip_forward_finish(cx: &mut BhCx<'_>, mut skb: Skb) {
    walk!(cx, skb, ip_forward_finish);
    cx.count(IpMib::ForwDatagrams);
    if skb.front::<IpHdr>().is_some_and(|iph| iph.ihl() != size_of::<IpHdr>()) {
        ip_forward_options(cx, &mut skb);
    }
    let mut list = cx.skb_list_of(skb);
    dst_output(cx, &mut list);
    cx.free_skb_list(list);
}
