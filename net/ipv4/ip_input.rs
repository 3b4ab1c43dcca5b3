//! IPv4 input: from the link to the transport protocol.
//!
//! linux: net/ipv4/ip_input.c; RFC 791, RFC 1122 section 3.2.1. Context: BH.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, NetDevice, PacketFunc, PacketType};
use crate::net::core::dst::{Dst, dst_input};
use crate::net::core::skbuff::{
    Cb, Common, Inspect, IpSummed, PktType, SkBuff, Skb, SkbList, kfree_skb,
};
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::ip_fragment::ip_defrag;
use crate::net::ipv4::ip_options::ip_rcv_options;
use crate::net::ipv4::raw::raw_local_deliver;
use crate::net::ipv4::route::{NoRoute, RouteKey, ip_route_input_noref};
use crate::net::netfilter::{NF_HOOK_LIST, NfInetHook, nf_pass};
use klib::checksum::{csum_fold, csum_tcpudp_nofold, ip_fast_csum};
use std::sync::Arc;
use uapi::icmp::ICMP_PROT_UNREACH;
use uapi::if_ether::ETH_P_IP;
use uapi::ip::{
    INET_ECN_ECT_0, INET_ECN_ECT_1, INET_ECN_MASK, INET_ECN_NOT_ECT, IP_HDR_LEN, IpHdr,
};
use uapi::snmp::IpMib;
pub(crate) use way::IpWay;

mod way;

/// ETH_P_IP -> [`ip_rcv`].
///
/// linux: net/ipv4/af_inet.c:ip_packet_type
pub fn ip_packet_type() -> PacketType {
    PacketType { kind: ETH_P_IP, dev: None, func: PacketFunc::Protocol(ip_rcv) }
}

/// Receives IPv4 datagrams from the link layer, checks their headers (RFC 1122 section 3.2.1.2) and
/// passes them to `PRE_ROUTING`: together those that go the same way.
///
/// linux: net/ipv4/ip_input.c:ip_rcv
pub fn ip_rcv(cx: &mut BhCx<'_>, list: &mut SkbList, dev: &Arc<NetDevice>) {
    walk!(cx, list, ip_rcv);
    let mut seen = Seen { ways: Common::new(), octets: 0, routed: false };
    list.inspect(cx, &mut seen, bad_packet);
    let mib = &mut *cx.cpu.mib;
    mib.add(IpMib::InReceives.into(), list.len() as u64);
    mib.add(IpMib::InOctets.into(), seen.octets);
    if cx.t.net.nf.see_input() {
        return ip_rcv_hooked(cx, list, dev.ifindex);
    }
    match seen.ways.all() {
        Some(key) if !seen.routed => ip_rcv_alike(cx, list, IpWay::new(key, dev.ifindex)),
        _ => ip_rcv_runs(cx, list, dev.ifindex),
    }
}

/// For datagrams that are not alike, or bring routes along.
#[inline(never)]
fn ip_rcv_runs(cx: &mut BhCx<'_>, list: &mut SkbList, dev: DevId) {
    list.in_runs(cx, key_and_dst, |cx, run, (key, _)| {
        run.share_dst(cx);
        ip_rcv_alike(cx, run, IpWay::new(key, dev));
    });
}

/// Hooks see each datagram alone: what one of them does to it may be its own.
#[cold]
#[inline(never)]
fn ip_rcv_hooked(cx: &mut BhCx<'_>, list: &mut SkbList, dev: DevId) {
    list.each_alone(cx, |cx, skb| {
        count_ecn(cx, IpWay::of_skb(&skb), 1);
        let mut alone = cx.skb_list_of(skb);
        alone.look_again();
        let devs = |_: &SkbList| (Some(dev), None);
        let _dropped = NF_HOOK_LIST(cx, NfInetHook::PreRouting, &mut alone, devs);
        if !alone.is_empty() {
            ip_rcv_finish(cx, &mut alone);
        }
        cx.free_skb_list(alone);
    });
}

/// So many packets came that say this of ECN.
#[inline(always)]
fn count_ecn(cx: &mut BhCx<'_>, way: IpWay, packets: usize) {
    let mib = match way.tos() & INET_ECN_MASK {
        INET_ECN_NOT_ECT => IpMib::InNoECTPkts,
        INET_ECN_ECT_1 => IpMib::InECT1Pkts,
        INET_ECN_ECT_0 => IpMib::InECT0Pkts,
        _ => IpMib::InCEPkts,
    };
    cx.cpu.mib.add(mib.into(), packets as u64);
}

/// What [`ip_rcv`] sees of its packets.
struct Seen {
    /// What those have alike that go on.
    ways: Common<2>,
    /// As the link had them, padding and all.
    octets: u64,
    /// One brings its route along.
    routed: bool,
}

impl Inspect for Seen {
    type Bad = BadPacket;

    #[inline(always)]
    fn look_at(&mut self, skb: &mut Skb) -> Result<(), BadPacket> {
        if skb.pkt_type == PktType::OtherHost {
            return Err((None, DropReason::OtherHost));
        }
        self.octets += u64::from(skb.len);
        let way = check_header(skb)?;
        skb.set_transport_header(way.ihl());
        skb.cb = Cb::None;
        self.ways.see(way.key());
        self.routed |= skb.dst.is_some();
        Ok(())
    }
}

/// One that goes no further was received all the same, if it was to this machine.
#[cold]
fn bad_packet(cx: &mut BhCx<'_>, skb: Skb, (mib, reason): BadPacket) {
    if let Some(mib) = mib {
        cx.count(IpMib::InReceives);
        cx.count(mib);
    }
    kfree_skb(cx, skb, reason);
}

/// What the header says, and which route the packet brings along: over loopback the one it was sent by.
fn key_and_dst(skb: &SkBuff) -> ([u64; 2], Option<*const Dst>) {
    (IpWay::of_skb(skb).key(), skb.dst.as_ref().map(Arc::as_ptr))
}

/// Takes datagrams that are alike through `PRE_ROUTING`, where nobody hooks in.
#[inline(always)]
fn ip_rcv_alike(cx: &mut BhCx<'_>, list: &mut SkbList, way: IpWay) {
    list.way = way;
    count_ecn(cx, way, list.len());
    nf_pass(cx, NfInetHook::PreRouting, list);
    ip_rcv_finish(cx, list);
}

/// What a datagram that goes no further counts as, if it is to this machine, and why it is dropped.
type BadPacket = (Option<IpMib>, DropReason);

/// Checks version, lengths and checksum, and cuts what the link padded.
#[inline(always)]
fn check_header(skb: &mut Skb) -> Result<IpWay, BadPacket> {
    const FIXED: usize = size_of::<IpHdr>();
    const TRUNCATED: BadPacket = (Some(IpMib::InHdrErrors), DropReason::HdrTrunc);
    const MALFORMED: BadPacket = (Some(IpMib::InHdrErrors), DropReason::IpInHdr);
    const BAD_SUM: BadPacket = (Some(IpMib::InCsumErrors), DropReason::IpCsum);
    if !skb.pskb_may_pull(FIXED) {
        return Err(TRUNCATED);
    }
    // One look at the bytes for a header without options.
    let Some(fixed) = skb.data().first_chunk::<FIXED>() else { return Err(TRUNCATED) };
    let way = IpWay::of(fixed);
    let len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let ihl = if fixed[0] == 0x45 {
        if ip_fast_csum(fixed) != 0 {
            return Err(BAD_SUM);
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
        if ip_fast_csum(&skb.data()[..ihl]) != 0 {
            return Err(BAD_SUM);
        }
        ihl
    };
    if skb.len() < len {
        return Err((Some(IpMib::InTruncatedPkts), DropReason::PktTooSmall));
    }
    if len < ihl {
        return Err(MALFORMED);
    }
    skb.pskb_trim(len);
    Ok(way)
}

/// The checksum of a packet's transport header, which begins `ihl` bytes behind its data, is right: whoever
/// looked, or it is looked at now.
///
/// linux: include/linux/skbuff.h:skb_checksum_validate
#[inline(always)]
pub(crate) fn skb_checksum_validate(skb: &mut Skb, ihl: usize, protocol: u8) -> bool {
    matches!(skb.ip_summed, IpSummed::Unnecessary | IpSummed::Partial) || sum_ok(skb, ihl, protocol)
}

#[inline(never)]
fn sum_ok(skb: &mut Skb, ihl: usize, protocol: u8) -> bool {
    let Some(iph) = skb.network::<IpHdr>() else { return false };
    let (saddr, daddr) = (iph.saddr.get(), iph.daddr.get());
    let pseudo = csum_tcpudp_nofold(saddr, daddr, (skb.len() - ihl) as u32, protocol, 0);
    let good = csum_fold(skb.skb_checksum(ihl, pseudo)) == 0;
    if good {
        skb.ip_summed = IpSummed::Unnecessary;
    }
    good
}

/// Finds the way of received packets that have it in common, and takes them there.
///
/// linux: net/ipv4/ip_input.c:ip_rcv_finish
#[inline(always)]
fn ip_rcv_finish(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_rcv_finish);
    // What comes back over loopback has its way already.
    if list.dst.is_none() {
        let key = RouteKey::input(list.way);
        if let Err(NoRoute(reason)) = ip_route_input_noref(cx, list, key) {
            list.pass(cx, |_, _| Err(reason));
            return;
        }
    }
    if list.way.ihl() != IP_HDR_LEN {
        return finish_with_options(cx, list);
    }
    finish_input(cx, list);
}

#[inline(always)]
fn finish_input(cx: &mut BhCx<'_>, list: &mut SkbList) {
    if let Some(dst) = list.dst.as_ref().filter(|dst| dst.to_many) {
        let broadcast = dst.is_broadcast();
        count_to_many(cx, broadcast, list);
    }
    dst_input(cx, list);
}

/// What options ask for may be another thing for each packet, and their source route another way.
#[cold]
#[inline(never)]
fn finish_with_options(cx: &mut BhCx<'_>, list: &mut SkbList) {
    list.each_alone(cx, |cx, skb| {
        if let Some(skb) = ip_rcv_options(cx, skb) {
            let mut alone = cx.skb_list_of(skb);
            alone.look_again();
            finish_input(cx, &mut alone);
            cx.free_skb_list(alone);
        }
    });
}

#[cold]
#[inline(never)]
fn count_to_many(cx: &mut BhCx<'_>, broadcast: bool, list: &SkbList) {
    let (packets, octets) = match broadcast {
        true => (IpMib::InBcastPkts, IpMib::InBcastOctets),
        false => (IpMib::InMcastPkts, IpMib::InMcastOctets),
    };
    let all = list.iter().map(|skb| skb.len() as u64).sum();
    cx.cpu.mib.add(packets.into(), list.len() as u64);
    cx.cpu.mib.add(octets.into(), all);
}

/// Takes packets for this machine to `LOCAL_IN`.
///
/// linux: net/ipv4/ip_input.c:ip_local_deliver
pub(crate) fn ip_local_deliver(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_local_deliver);
    if list.way.is_fragment() {
        return deliver_fragments(cx, list);
    }
    ip_local_deliver_whole(cx, list);
}

/// Fragments go on as the datagram that they are, once all are there.
#[cold]
#[inline(never)]
fn deliver_fragments(cx: &mut BhCx<'_>, list: &mut SkbList) {
    list.each_alone(cx, |cx, skb| {
        if let Some(whole) = ip_defrag(cx, skb) {
            let mut alone = cx.skb_list_of(whole);
            alone.look_again();
            ip_local_deliver_whole(cx, &mut alone);
            cx.free_skb_list(alone);
        }
    });
}

#[inline(always)]
fn ip_local_deliver_whole(cx: &mut BhCx<'_>, list: &mut SkbList) {
    if cx.t.net.nf.see(NfInetHook::LocalIn) {
        return ip_local_deliver_hooked(cx, list);
    }
    nf_pass(cx, NfInetHook::LocalIn, list);
    ip_local_deliver_finish(cx, list);
}

#[cold]
#[inline(never)]
fn ip_local_deliver_hooked(cx: &mut BhCx<'_>, list: &mut SkbList) {
    let devs = |list: &SkbList| (list.first().and_then(|skb| skb.dev), None);
    let _dropped = NF_HOOK_LIST(cx, NfInetHook::LocalIn, list, devs);
    if !list.is_empty() {
        ip_local_deliver_finish(cx, list);
    }
}

/// Gives packets to their transport protocol; their sender is told if there is none.
///
/// linux: net/ipv4/ip_input.c:ip_local_deliver_finish
#[inline(always)]
fn ip_local_deliver_finish(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_local_deliver_finish);
    let raw = cx.t.ns.raw.any() && raw_local_deliver(cx, list);
    let t = cx.t;
    let Some(proto) = t.net.inet_protos.get(list.way.protocol()) else {
        return if raw { ip_raw_only(cx, list) } else { ip_unknown_proto(cx, list) };
    };
    cx.cpu.mib.add(IpMib::InDelivers.into(), list.len() as u64);
    (proto.handler)(cx, list);
}

/// Raw sockets have what there is to have of them.
#[cold]
#[inline(never)]
fn ip_raw_only(cx: &mut BhCx<'_>, list: &mut SkbList) {
    cx.cpu.mib.add(IpMib::InDelivers.into(), list.len() as u64);
    list.consume(cx);
}

#[cold]
#[inline(never)]
fn ip_unknown_proto(cx: &mut BhCx<'_>, list: &mut SkbList) {
    list.each_alone(cx, |cx, mut skb| {
        cx.count(IpMib::InUnknownProtos);
        icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_PROT_UNREACH), 0);
        kfree_skb(cx, skb, DropReason::IpNoProto);
    });
}
