//! IPv4 input: from the link to the transport protocol.
//!
//! linux: net/ipv4/ip_input.c; RFC 791, RFC 1122 section 3.2.1. Context: BH.
//! DIVERGES: fragments are dropped, reassembly is not part of the stack yet; IP options are checked
//! but not acted on.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, NetDevice, PacketFunc, PacketType};
use crate::net::core::dst::{Dst, dst_input};
use crate::net::core::skbuff::{Cb, PktType, SkBuff, Skb, SkbList, kfree_skb};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::route::ip_route_input_noref;
use crate::net::netfilter::{NF_HOOK_LIST, NfInetHook};
use klib::checksum::ip_fast_csum;
use std::sync::Arc;
use uapi::icmp::ICMP_PROT_UNREACH;
use uapi::if_ether::ETH_P_IP;
use uapi::ip::{IP_DF, IpHdr};
use uapi::snmp::IpMib;

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
    let (mut received, mut octets, mut alike) = (0, 0, true);
    let several = list.len() > 1;
    let first = list.first().filter(|_| several).map_or(Way::default(), |skb| Way::of(skb));
    let station = |_: &mut BhCx<'_>, skb: &mut Skb| {
        if skb.pkt_type == PktType::OtherHost {
            return Err((None, DropReason::OtherHost));
        }
        received += 1;
        octets += u64::from(skb.len);
        let ihl = check_header(skb)?;
        skb.set_transport_header(ihl);
        skb.cb = Cb::Inet(InetSkbParm {
            iif: dev.ifindex.0,
            ihl: ihl as u8,
            optlen: (ihl - size_of::<IpHdr>()) as u8,
            forwarded: false,
            mc_loop: false,
        });
        alike &= !several || Way::of(skb) == first;
        Ok(())
    };
    list.sift(cx, station, |cx, skb, (mib, reason)| {
        if let Some(mib) = mib {
            cx.count(mib);
        }
        kfree_skb(cx, skb, reason);
    });
    cx.cpu.mib.add(IpMib::InReceives.into(), received);
    cx.cpu.mib.add(IpMib::InOctets.into(), octets);
    if cx.t.net.nf.see_input() {
        return list.each_alone(cx, |cx, skb| {
            let mut alone = cx.skb_list_of(skb);
            ip_rcv_alike(cx, &mut alone, dev.ifindex);
            cx.free_skb_list(alone);
        });
    }
    if !alike {
        list.in_runs(cx, Way::of, |cx, run| ip_rcv_alike(cx, run, dev.ifindex));
    } else if !list.is_empty() {
        ip_rcv_alike(cx, list, dev.ifindex);
    }
}

/// What datagrams have alike that go the same way, to the same protocol.
#[derive(Clone, Copy, Default)]
struct Way {
    addrs: u64,
    /// Version and header length, TOS, protocol, and whether it is a fragment.
    other: u64,
    /// Their route, where they have one.
    dst: u64,
}

impl Way {
    #[inline(always)]
    fn of(skb: &SkBuff) -> Self {
        let dst = skb.dst.as_ref().map_or(0, |dst| Arc::as_ptr(dst) as u64);
        let Some(iph) = skb.front::<IpHdr>() else { return Self { dst, ..Self::default() } };
        let [saddr, daddr] = [iph.saddr.get(), iph.daddr.get()].map(u64::from);
        let fragment = iph.frag_off.get() & !IP_DF;
        let kind = u32::from_le_bytes([iph.version_ihl, iph.tos, iph.protocol, 0]);
        let other = u64::from(fragment != 0) << 32 | u64::from(kind);
        Self { addrs: saddr << 32 | daddr, other, dst }
    }
}

// By all three at once: one test instead of three.
impl PartialEq for Way {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        (self.addrs ^ other.addrs) | (self.other ^ other.other) | (self.dst ^ other.dst) == 0
    }
}

/// Takes datagrams that are alike through `PRE_ROUTING`.
#[inline(always)]
fn ip_rcv_alike(cx: &mut BhCx<'_>, list: &mut SkbList, dev: DevId) {
    let _dropped_by_hooks = NF_HOOK_LIST(cx, NfInetHook::PreRouting, list, |_| (Some(dev), None));
    if !list.is_empty() {
        ip_rcv_finish(cx, list, dev);
    }
}

/// What a datagram that goes no further counts as, and why it is dropped.
type BadHeader = (Option<IpMib>, DropReason);

/// Checks version, lengths and checksum, and cuts what the link padded. The header's length.
#[inline(always)]
fn check_header(skb: &mut Skb) -> Result<usize, BadHeader> {
    const FIXED: usize = size_of::<IpHdr>();
    const TRUNCATED: BadHeader = (Some(IpMib::InHdrErrors), DropReason::HdrTrunc);
    const MALFORMED: BadHeader = (Some(IpMib::InHdrErrors), DropReason::IpInHdr);
    const BAD_SUM: BadHeader = (Some(IpMib::InCsumErrors), DropReason::IpCsum);
    if !skb.pskb_may_pull(FIXED) {
        return Err(TRUNCATED);
    }
    // One look at the bytes for a header without options.
    let Some(fixed) = skb.data().first_chunk::<FIXED>() else { return Err(TRUNCATED) };
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
        let header = &skb.data()[..ihl];
        if ip_fast_csum(header) != 0 {
            return Err(BAD_SUM);
        }
        if !options_well_formed(&header[FIXED..]) {
            return Err(MALFORMED);
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

/// Finds the way of received packets that have it in common, and takes them there.
///
/// linux: net/ipv4/ip_input.c:ip_rcv_finish
#[inline(always)]
fn ip_rcv_finish(cx: &mut BhCx<'_>, list: &mut SkbList, dev: DevId) {
    walk!(cx, list, ip_rcv_finish);
    // What comes back over loopback has its way already.
    list.share_dst(cx);
    if list.dst.is_none() {
        match find_way(cx, list, dev) {
            Ok(dst) => list.dst = Some(dst),
            Err(reason) => {
                list.pass(cx, |_, _| Err(reason));
                return;
            }
        }
    }
    if let Some(dst) = list.dst.as_ref().filter(|dst| dst.is_broadcast() || dst.is_multicast()) {
        let broadcast = dst.is_broadcast();
        let mib = if broadcast { IpMib::InBcastPkts } else { IpMib::InMcastPkts };
        cx.cpu.mib.add(mib.into(), list.len() as u64);
    }
    dst_input(cx, list);
}

#[inline(always)]
fn find_way(cx: &mut BhCx<'_>, list: &SkbList, dev: DevId) -> Result<Arc<Dst>, DropReason> {
    let iph = list.first().and_then(|skb| skb.front::<IpHdr>()).ok_or(DropReason::IpInHdr)?;
    let addrs = (iph.daddr.get(), iph.saddr.get());
    ip_route_input_noref(cx, list, addrs, iph.tos & 0x1c, dev).map_err(|no_route| no_route.0)
}

/// Takes packets for this machine to `LOCAL_IN`.
///
/// linux: net/ipv4/ip_input.c:ip_local_deliver
pub(crate) fn ip_local_deliver(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_local_deliver);
    let iph = list.first().and_then(|skb| skb.front::<IpHdr>());
    if iph.is_none_or(|iph| iph.mf() || iph.offset() != 0) {
        return ip_defrag(cx, list);
    }
    let devs = |list: &SkbList| (list.first().and_then(|skb| skb.dev), None);
    let _dropped_by_hooks = NF_HOOK_LIST(cx, NfInetHook::LocalIn, list, devs);
    if !list.is_empty() {
        ip_local_deliver_finish(cx, list);
    }
}

/// Fragments end here, until there is reassembly.
#[cold]
fn ip_defrag(cx: &mut BhCx<'_>, list: &mut SkbList) {
    cx.cpu.mib.add(IpMib::ReasmReqds.into(), list.len() as u64);
    cx.cpu.mib.add(IpMib::ReasmFails.into(), list.len() as u64);
    list.pass(cx, |_, _| Err(DropReason::IpFragment));
}

/// Gives packets to their transport protocol; their sender is told if there is none.
///
/// linux: net/ipv4/ip_input.c:ip_local_deliver_finish
#[inline(always)]
fn ip_local_deliver_finish(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, ip_local_deliver_finish);
    let iph = list.first().and_then(|skb| skb.front::<IpHdr>());
    let t = cx.t;
    let Some(proto) = iph.and_then(|iph| t.net.inet_protos.get(iph.protocol)) else {
        return list.each_alone(cx, ip_unknown_proto);
    };
    cx.cpu.mib.add(IpMib::InDelivers.into(), list.len() as u64);
    (proto.handler)(cx, list);
}

#[cold]
fn ip_unknown_proto(cx: &mut BhCx<'_>, mut skb: Skb) {
    cx.count(IpMib::InUnknownProtos);
    icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_PROT_UNREACH), 0);
    kfree_skb(cx, skb, DropReason::IpNoProto);
}
