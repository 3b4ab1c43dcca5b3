//! Sending ICMP: errors about packets, and answers to requests.
//!
//! linux: net/ipv4/icmp.c. Context: BH.

use super::limits::Limited;
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::{Buffer, Head, PktType, SkBuff, Skb};
use crate::net::core::snmp::Mib;
use crate::net::ipv4::ip_options::{
    IpOptions, IpOptionsRcu, IpTarget, ip_options_reply, with_options,
};
use crate::net::ipv4::ip_output::{IpMakeSkb, ip_append_data, ip_make_skb, ip_send_skb};
use crate::net::ipv4::route::{Flow4, ip_route_output_flow};
use klib::checksum::{csum_fold, csum_partial};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::icmp::{
    ICMP_DEST_UNREACH, ICMP_ECHOREPLY, ICMP_PARAMETERPROB, ICMP_REDIRECT, ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED, ICMP_TIMESTAMPREPLY, IcmpHdr,
};
use uapi::ip::{IPPROTO_ICMP, IPTOS_PREC_INTERNETCONTROL, IpHdr};
use uapi::rtnetlink::{RTN_BROADCAST, RTN_MULTICAST};
use uapi::snmp::IcmpMib;
use zerocopy::{FromBytes, IntoBytes};

/// An error's type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpCode {
    /// Destination unreachable, by `ICMP_*_UNREACH`.
    DestUnreach(u8),
    /// Time exceeded, by `ICMP_EXC_*`.
    TimeExceeded(u8),
    /// Parameter problem.
    ParameterProb(u8),
}

impl IcmpCode {
    fn numbers(self) -> (u8, u8) {
        match self {
            Self::DestUnreach(code) => (ICMP_DEST_UNREACH, code),
            Self::TimeExceeded(code) => (ICMP_TIME_EXCEEDED, code),
            Self::ParameterProb(code) => (ICMP_PARAMETERPROB, code),
        }
    }
}

/// The most an error message is long: what every host takes (RFC 1812 section 4.3.2.3).
const ICMP_MAX: usize = 576;

/// Tells the sender of `skb` that it can't be delivered: sends nothing where RFC 1122 forbids, or
/// the rate limits are reached. `info`: the MTU, or where the problem is.
///
/// linux: net/ipv4/icmp.c:icmp_send
pub fn icmp_send(cx: &mut BhCx<'_>, skb: &mut Skb, code: IcmpCode, info: u32) {
    walk!(cx, skb, icmp_send);
    send_error(cx, skb, (code, info), None);
}

/// The same with the options of `opt` echoed, not all that `skb` has: they are malformed behind those.
///
/// linux: net/ipv4/icmp.c:__icmp_send
pub(crate) fn __icmp_send(
    cx: &mut BhCx<'_>,
    skb: &mut Skb,
    (code, info): (IcmpCode, u32),
    opt: IpOptions,
) {
    walk!(cx, skb, icmp_send);
    send_error(cx, skb, (code, info), Some(opt));
}

fn send_error(
    cx: &mut BhCx<'_>,
    skb: &mut Skb,
    (code, info): (IcmpCode, u32),
    opt: Option<IpOptions>,
) {
    let Some((iph, offset)) = answerable(skb) else { return };
    let (type_, code) = code.numbers();
    let Ok(options) = ip_options_reply(cx, skb, opt) else { return };
    let target = target(options, iph.saddr.get());
    let local = skb.dst.as_ref().is_some_and(|dst| dst.is_local());
    let flow = Flow4 {
        daddr: first_hop(&target, iph.saddr.get()),
        saddr: if local { iph.daddr.get() } else { 0 },
        tos: iph.tos & 0x1c,
        ..Flow4::default()
    };
    if !allowed(cx, skb, type_, flow.daddr) {
        return;
    }
    let Ok(dst) = ip_route_output_flow(cx, &flow) else {
        return cx.count(IcmpMib::OutErrors);
    };
    let header = IcmpHdr { type_, code, checksum: 0.into(), rest: info_bytes(type_, info) };
    let headers = size_of::<IpHdr>() + target.as_ref().map_or(0, IpTarget::len);
    let room = ICMP_MAX.min(dst.mtu as usize).saturating_sub(headers + size_of::<IcmpHdr>());
    let quote = Quote { skb, offset, len: room.min(skb_len_from(skb, offset)) };
    // RFC 1812 section 4.3.2.5: errors go out with the precedence of internet control.
    let tos = iph.tos & 0x1e | IPTOS_PREC_INTERNETCONTROL;
    icmp_push_reply(cx, (dst, target), (&flow, tos), header, &quote);
}

/// Whom an answer goes to by which options.
fn target(options: Option<IpOptionsRcu>, daddr: u32) -> Option<IpTarget> {
    options.map(|opt| IpTarget { opt: Arc::new(opt), daddr })
}

fn first_hop(target: &Option<IpTarget>, daddr: u32) -> u32 {
    target.as_ref().map_or(daddr, IpTarget::first_hop)
}

fn info_bytes(type_: u8, info: u32) -> [u8; 4] {
    match type_ {
        ICMP_PARAMETERPROB => [info as u8, 0, 0, 0],
        // RFC 1191: the MTU in the low half.
        _ => (info & 0xffff).to_be_bytes(),
    }
}

/// The header of a packet that may be answered with an error, and where it begins in the head.
fn answerable(skb: &SkBuff) -> Option<(IpHdr, usize)> {
    let dst = skb.dst.as_ref()?;
    let iph = *skb.network::<IpHdr>()?;
    let to_many = matches!(dst.rt_type, RTN_BROADCAST | RTN_MULTICAST);
    if skb.pkt_type != PktType::Host || to_many || iph.offset() != 0 {
        return None;
    }
    let saddr = iph.saddr.get();
    if saddr == 0 || uapi::in_::ipv4_is_multicast(saddr) || uapi::in_::ipv4_is_lbcast(saddr) {
        return None;
    }
    let is_error = iph.protocol == IPPROTO_ICMP && {
        let inner = skb.network_bytes().get(iph.ihl()..)?;
        // Cut off or not a query: never answered.
        inner.first().is_none_or(|type_| {
            matches!(
                *type_,
                ICMP_DEST_UNREACH
                    | ICMP_SOURCE_QUENCH
                    | ICMP_REDIRECT
                    | ICMP_TIME_EXCEEDED
                    | ICMP_PARAMETERPROB
            ) || *type_ > super::NR_ICMP_TYPES
        })
    };
    (!is_error).then_some((iph, usize::from(skb.network_header)))
}

/// Bytes from an offset of the head to the packet's end.
fn skb_len_from(skb: &SkBuff, offset: usize) -> usize {
    (skb.len() + skb.headroom()).saturating_sub(offset)
}

/// The rates allow an answer to `skb`.
fn allowed(cx: &mut BhCx<'_>, skb: &SkBuff, type_: u8, daddr: u32) -> bool {
    let t = cx.t;
    // What stays on this machine is not limited.
    if skb.dev.and_then(|dev| t.net.dev(dev)).is_some_and(|dev| dev.is_loopback()) {
        return true;
    }
    match t.ns.icmp.allow(cx, type_, daddr) {
        Ok(()) => true,
        Err(limited) => {
            cx.count(match limited {
                Limited::Global => IcmpMib::OutRateLimitGlobal,
                Limited::Host => IcmpMib::OutRateLimitHost,
            });
            cx.cpu.mib.count_drop(DropReason::RateLimited);
            false
        }
    }
}

/// A piece of a packet to send back.
struct Quote<'a> {
    skb: &'a SkBuff,
    /// From the head's start.
    offset: usize,
    len: usize,
}

impl Quote<'_> {
    /// Copies what lies `at` octets behind its beginning.
    fn copy(&self, at: usize, to: &mut [u8]) {
        let (data, from) = (self.skb.headroom(), self.offset + at);
        if from >= data {
            self.skb.skb_copy_bits(from - data, to);
            return;
        }
        // Headers that were pulled lie in front of the data.
        let in_front = (data - from).min(to.len());
        let (head, tail) = to.split_at_mut(in_front);
        if let Some(bytes) = self.skb.head.linear_at(from) {
            head.copy_from_slice(&bytes[..in_front]);
        }
        self.skb.skb_copy_bits(0, tail);
    }
}

/// Answers a request: to its sender, from the address it was sent to (one of ours, if that was a
/// broadcast). `data`: what stands behind the header; nothing: the request's own data.
///
/// linux: net/ipv4/icmp.c:icmp_reply
pub(super) fn icmp_reply(cx: &mut BhCx<'_>, skb: &mut Skb, header: IcmpHdr, data: &[u8]) {
    walk!(cx, skb, icmp_reply);
    let (Some(&iph), Some(dst)) = (skb.network::<IpHdr>(), &skb.dst) else { return };
    let saddr = if dst.is_local() { iph.daddr.get() } else { 0 };
    let Ok(options) = ip_options_reply(cx, skb, None) else { return };
    let target = target(options, iph.saddr.get());
    let daddr = first_hop(&target, iph.saddr.get());
    let flow = Flow4 { daddr, saddr, tos: iph.tos & 0x1c, ..Flow4::default() };
    if !allowed(cx, skb, header.type_, flow.daddr) {
        return;
    }
    let Ok(dst) = ip_route_output_flow(cx, &flow) else {
        return cx.count(IcmpMib::OutErrors);
    };
    if data.is_empty() {
        let offset = skb.headroom() + size_of::<IcmpHdr>();
        let quote = Quote { skb, offset, len: skb.len() - size_of::<IcmpHdr>() };
        icmp_push_reply(cx, (dst, target), (&flow, iph.tos), header, &quote);
    } else {
        let mut own = SkBuff::default();
        own.head = Head::new(Buffer::new(data.len()));
        match own.skb_put(data.len()) {
            Some(room) => room.copy_from_slice(data),
            None => return cx.count(IcmpMib::OutErrors),
        }
        let quote = Quote { skb: &own, offset: 0, len: data.len() };
        icmp_push_reply(cx, (dst, target), (&flow, iph.tos), header, &quote);
    }
}

/// Makes the message and sends it.
///
/// linux: net/ipv4/icmp.c:icmp_push_reply
fn icmp_push_reply(
    cx: &mut BhCx<'_>,
    (dst, target): (Arc<Dst>, Option<IpTarget>),
    (flow, tos): (&Flow4, u8),
    header: IcmpHdr,
    quote: &Quote<'_>,
) {
    let ttl = cx.t.net.sysctl.ip_default_ttl;
    let iph =
        IpHdr { tos, ttl, ..IpMakeSkb::<IcmpHdr>::header(dst.saddr, flow.daddr, IPPROTO_ICMP) };
    let mut make = IpMakeSkb::default();
    let mtu = target.as_ref().map_or(dst.mtu, |target| target.rest_of(dst.mtu));
    make.set(iph, IcmpHdr { checksum: 0.into(), ..header }, mtu);
    let made = match size_of::<IpHdr>() + size_of::<IcmpHdr>() + quote.len <= mtu as usize {
        true => ip_make_skb(cx, &make, quote.len, |parts| {
            quote.copy(0, parts.payload);
            let sum = csum_partial(parts.transport.as_bytes(), 0);
            parts.transport.checksum.set(csum_fold(csum_partial(parts.payload, sum)));
            Ok(())
        }),
        false => make_long(cx, &make, quote),
    };
    let Ok(mut skb) = made.and_then(|skb| with_options(cx, skb, target.as_ref())) else {
        cx.cpu.routes.give_back(dst);
        return cx.count(IcmpMib::OutErrors);
    };
    walk!(cx, skb, icmp_push_reply);
    icmp_out_count(cx, header.type_);
    skb.dst = Some(dst);
    let mut list = cx.skb_list_of(skb);
    let _dropped_on_the_way_is_counted_there = ip_send_skb(cx, &mut list);
    cx.free_skb_list(list);
}

/// A message longer than the MTU: it is cut on its way out.
#[cold]
fn make_long(
    cx: &mut BhCx<'_>,
    make: &IpMakeSkb<IcmpHdr>,
    quote: &Quote<'_>,
) -> Result<Skb, Errno> {
    let mut skb = ip_append_data(cx, make, (quote.len, None), &mut |at, to| {
        quote.copy(at, to);
        Ok(())
    })?;
    let sum = csum_fold(skb.skb_checksum(size_of::<IpHdr>(), 0));
    let behind = skb.data_mut().and_then(|data| data.get_mut(size_of::<IpHdr>()..));
    if let Some((icmph, _)) = behind.and_then(|icmp| IcmpHdr::mut_from_prefix(icmp).ok()) {
        icmph.checksum.set(sum);
    }
    Ok(skb)
}

/// linux: net/ipv4/icmp.c:icmp_out_count
pub(crate) fn icmp_out_count(cx: &mut BhCx<'_>, type_: u8) {
    cx.count(IcmpMib::OutMsgs);
    cx.count(Mib::IcmpMsgOut(type_));
    let mib = match type_ {
        ICMP_ECHOREPLY => IcmpMib::OutEchoReps,
        ICMP_DEST_UNREACH => IcmpMib::OutDestUnreachs,
        ICMP_TIME_EXCEEDED => IcmpMib::OutTimeExcds,
        ICMP_PARAMETERPROB => IcmpMib::OutParmProbs,
        ICMP_TIMESTAMPREPLY => IcmpMib::OutTimestampReps,
        _ => return,
    };
    cx.count(mib);
}

const _: () = assert!(size_of::<IcmpHdr>() == 8);
