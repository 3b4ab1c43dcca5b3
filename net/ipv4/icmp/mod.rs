//! ICMP: echo, errors in both directions, timestamps.
//!
//! linux: net/ipv4/icmp.c; RFC 792, RFC 1122 section 3.2.2. Key types: [`IcmpCode`], [`IcmpError`].
//! Parts: `send` (errors and answers), `limits` (rates). Context: BH.
//! Invariant: nothing is sent in answer to an ICMP error, a group, a broadcast or a later fragment
//! (RFC 1122 section 3.2.2).

mod limits;
mod send;

pub(crate) use limits::IcmpLimits;
pub(crate) use send::__icmp_send;
pub(crate) use send::icmp_out_count;
pub use send::{IcmpCode, icmp_send};

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{IpSummed, SkBuff, Skb, SkbList, consume_skb, kfree_skb};
use crate::net::core::snmp::Mib;
use crate::net::ipv4::devinet::inet_addr_type;
use crate::net::ipv4::ip_options::inet_current_timestamp;
use crate::net::ipv4::ping::{ping_err, ping_rcv};
use crate::net::ipv4::raw::raw_icmp_error;
use crate::net::ipv4::route::{Flow4, ip_rt_update_pmtu};
use klib::checksum::csum_fold;
use send::icmp_reply;
use uapi::errno::Errno;
use uapi::icmp::{
    ICMP_ADDRESS, ICMP_ADDRESSREPLY, ICMP_DEST_UNREACH, ICMP_ECHO, ICMP_ECHOREPLY,
    ICMP_EXC_FRAGTIME, ICMP_FRAG_NEEDED, ICMP_PARAMETERPROB, ICMP_REDIRECT, ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED, ICMP_TIMESTAMP, ICMP_TIMESTAMPREPLY, IcmpHdr,
};
use uapi::ip::IpHdr;
use uapi::rtnetlink::RTN_BROADCAST;
use uapi::snmp::IcmpMib;
use zerocopy::FromBytes;

/// The highest type there is.
const NR_ICMP_TYPES: u8 = 18;
/// The highest code of a destination unreachable.
const NR_ICMP_UNREACH: u8 = 15;

/// An ICMP error that quotes a packet of a transport protocol.
#[derive(Debug)]
pub struct IcmpError<'a> {
    /// The type.
    pub type_: u8,
    /// The code.
    pub code: u8,
    /// The next hop's MTU, or where the parameter problem is.
    pub info: u32,
    /// Who says so.
    pub offender: u32,
    /// The IP header it quotes: a packet that this machine sent.
    pub iph: IpHdr,
    /// What it quotes of the transport header, at least 8 bytes.
    pub transport: &'a [u8],
    /// The error as it arrived, from its ICMP header on.
    pub skb: &'a SkBuff,
    /// The device it came in at.
    pub iif: u16,
}

/// Counts and drops.
fn error(cx: &mut BhCx<'_>, skb: Skb, reason: DropReason) {
    cx.count(IcmpMib::InErrors);
    kfree_skb(cx, skb, reason);
}

/// Receives ICMP messages for this machine: checks each and goes by its type.
///
/// linux: net/ipv4/icmp.c:icmp_rcv
pub(crate) fn icmp_rcv(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, icmp_rcv);
    list.each_alone(cx, icmp_message);
}

fn icmp_message(cx: &mut BhCx<'_>, mut skb: Skb) {
    cx.count(IcmpMib::InMsgs);
    if !skb.pull_to_transport(0) {
        return error(cx, skb, DropReason::HdrTrunc);
    }
    let summed = matches!(skb.ip_summed, IpSummed::Unnecessary | IpSummed::Partial);
    if !summed && csum_fold(skb.skb_checksum(0, 0)) != 0 {
        cx.count(IcmpMib::InCsumErrors);
        return error(cx, skb, DropReason::IcmpCsum);
    }
    if !skb.pskb_may_pull(size_of::<IcmpHdr>()) {
        return error(cx, skb, DropReason::HdrTrunc);
    }
    let Some(&IcmpHdr { type_, .. }) = skb.front::<IcmpHdr>() else {
        return error(cx, skb, DropReason::HdrTrunc);
    };
    cx.count(Mib::IcmpMsgIn(type_));
    if type_ > NR_ICMP_TYPES {
        return error(cx, skb, DropReason::IcmpIgnored);
    }
    let to_many = skb.dst.as_ref().is_some_and(|dst| dst.is_broadcast() || dst.is_multicast());
    let sysctl = &cx.t.net.sysctl;
    if to_many {
        // RFC 1122 section 3.2.2.6: an echo to many may be ignored.
        let asks = matches!(type_, ICMP_ECHO | ICMP_TIMESTAMP);
        if asks && sysctl.icmp_echo_ignore_broadcasts {
            return kfree_skb(cx, skb, DropReason::EchoIgnored);
        }
        if !asks && !matches!(type_, ICMP_ADDRESS | ICMP_ADDRESSREPLY) {
            return error(cx, skb, DropReason::IcmpIgnored);
        }
    }
    if let Some(mib) = in_counter(type_) {
        cx.count(mib);
    }
    match type_ {
        ICMP_ECHO => icmp_echo(cx, skb),
        ICMP_TIMESTAMP => icmp_timestamp(cx, skb),
        ICMP_DEST_UNREACH | ICMP_SOURCE_QUENCH | ICMP_TIME_EXCEEDED | ICMP_PARAMETERPROB => {
            icmp_unreach(cx, skb);
        }
        ICMP_ECHOREPLY => ping_rcv(cx, skb),
        // Other answers that nobody asked for, and redirects, which are not followed.
        _ => kfree_skb(cx, skb, DropReason::IcmpIgnored),
    }
}

fn in_counter(type_: u8) -> Option<IcmpMib> {
    Some(match type_ {
        ICMP_ECHOREPLY => IcmpMib::InEchoReps,
        ICMP_DEST_UNREACH => IcmpMib::InDestUnreachs,
        ICMP_SOURCE_QUENCH => IcmpMib::InSrcQuenchs,
        ICMP_REDIRECT => IcmpMib::InRedirects,
        ICMP_ECHO => IcmpMib::InEchos,
        ICMP_TIME_EXCEEDED => IcmpMib::InTimeExcds,
        ICMP_PARAMETERPROB => IcmpMib::InParmProbs,
        ICMP_TIMESTAMP => IcmpMib::InTimestamps,
        ICMP_TIMESTAMPREPLY => IcmpMib::InTimestampReps,
        ICMP_ADDRESS => IcmpMib::InAddrMasks,
        ICMP_ADDRESSREPLY => IcmpMib::InAddrMaskReps,
        _ => return None,
    })
}

/// Answers an echo request with its own data.
///
/// linux: net/ipv4/icmp.c:icmp_echo
fn icmp_echo(cx: &mut BhCx<'_>, mut skb: Skb) {
    walk!(cx, skb, icmp_echo);
    if cx.t.net.sysctl.icmp_echo_ignore_all {
        return kfree_skb(cx, skb, DropReason::EchoIgnored);
    }
    let Some(&request) = skb.front::<IcmpHdr>() else {
        return error(cx, skb, DropReason::HdrTrunc);
    };
    let answer = IcmpHdr { type_: ICMP_ECHOREPLY, ..request };
    icmp_reply(cx, &mut skb, answer, &[]);
    consume_skb(cx, skb);
}

/// Answers with the time of receipt and of sending, in milliseconds since midnight UT.
///
/// linux: net/ipv4/icmp.c:icmp_timestamp
fn icmp_timestamp(cx: &mut BhCx<'_>, mut skb: Skb) {
    const TIMES: usize = 12;
    // RFC 792: three times of four bytes behind the header.
    if !skb.pskb_may_pull(size_of::<IcmpHdr>() + TIMES) {
        return error(cx, skb, DropReason::HdrTrunc);
    }
    let Some((&request, rest)) = skb
        .data()
        .split_at_checked(size_of::<IcmpHdr>())
        .and_then(|(header, rest)| Some((IcmpHdr::ref_from_bytes(header).ok()?, rest)))
    else {
        return error(cx, skb, DropReason::HdrTrunc);
    };
    let mut times = [0_u8; TIMES];
    times[..4].copy_from_slice(&rest[..4]);
    let ms = inet_current_timestamp(cx);
    times[4..8].copy_from_slice(&ms.to_be_bytes());
    times[8..].copy_from_slice(&ms.to_be_bytes());
    let answer = IcmpHdr { type_: ICMP_TIMESTAMPREPLY, code: 0, ..request };
    icmp_reply(cx, &mut skb, answer, &times);
    consume_skb(cx, skb);
}

/// Takes an error to the protocol whose packet it quotes.
///
/// linux: net/ipv4/icmp.c:icmp_unreach
fn icmp_unreach(cx: &mut BhCx<'_>, mut skb: Skb) {
    walk!(cx, skb, icmp_unreach);
    const HEADERS: usize = size_of::<IcmpHdr>() + size_of::<IpHdr>();
    if !skb.pskb_may_pull(HEADERS) {
        return error(cx, skb, DropReason::HdrTrunc);
    }
    let Some((icmph, iph)) = headers(&skb) else {
        return error(cx, skb, DropReason::HdrTrunc);
    };
    if iph.ihl() < size_of::<IpHdr>() || iph.version() != 4 {
        return error(cx, skb, DropReason::IcmpIgnored);
    }
    let no_pmtu_disc = cx.t.net.sysctl.ip_no_pmtu_disc;
    let info = match icmph.type_ {
        // Fragments that did not all arrive: nothing that a sender could do about.
        ICMP_TIME_EXCEEDED if icmph.code == ICMP_EXC_FRAGTIME => return consume_skb(cx, skb),
        ICMP_DEST_UNREACH if icmph.code > NR_ICMP_UNREACH => {
            return error(cx, skb, DropReason::IcmpIgnored);
        }
        ICMP_DEST_UNREACH if icmph.code == ICMP_FRAG_NEEDED => match no_pmtu_disc {
            2 => return consume_skb(cx, skb),
            3 if !icmp_tag_validation(cx, iph.protocol) => return consume_skb(cx, skb),
            0 | 3 => u32::from(icmph.mtu()),
            // The least is taken for it.
            _ => 0,
        },
        ICMP_PARAMETERPROB => u32::from(icmph.rest[0]),
        _ => 0,
    };
    // RFC 1122 section 3.2.2.1 is silent, but such an error quotes a broadcast that no host
    // should have answered.
    if !cx.t.net.sysctl.icmp_ignore_bogus_error_responses
        && inet_addr_type(cx.t, iph.daddr.get()) == RTN_BROADCAST
    {
        return error(cx, skb, DropReason::IcmpIgnored);
    }
    icmp_socket_deliver(cx, skb, icmph, iph, info);
}

/// The protocol holds what an error quotes against what it has under way.
///
/// linux: net/ipv4/icmp.c:icmp_tag_validation
fn icmp_tag_validation(cx: &BhCx<'_>, protocol: u8) -> bool {
    cx.t.net.inet_protos.get(protocol).is_some_and(|proto| proto.icmp_strict_tag_validation)
}

fn headers(skb: &SkBuff) -> Option<(IcmpHdr, IpHdr)> {
    let (icmph, rest) = IcmpHdr::read_from_prefix(skb.data()).ok()?;
    let (iph, _) = IpHdr::read_from_prefix(rest).ok()?;
    Some((icmph, iph))
}

/// linux: net/ipv4/icmp.c:icmp_socket_deliver
fn icmp_socket_deliver(cx: &mut BhCx<'_>, mut skb: Skb, icmph: IcmpHdr, iph: IpHdr, info: u32) {
    let transport = size_of::<IcmpHdr>() + iph.ihl();
    // RFC 792: the header and 8 bytes, which hold the ports.
    if !skb.pskb_may_pull(transport + 8) {
        return error(cx, skb, DropReason::HdrTrunc);
    }
    let offender = skb.network::<IpHdr>().map_or(0, |outer| outer.saddr.get());
    let error = IcmpError {
        type_: icmph.type_,
        code: icmph.code,
        info,
        offender,
        iph,
        transport: &skb.data()[transport..],
        skb: &skb,
        iif: skb.dev.map_or(0, |dev| dev.0),
    };
    raw_icmp_error(cx, &error);
    let t = cx.t;
    match t.net.inet_protos.get(iph.protocol) {
        Some(proto) => (proto.err_handler)(cx, &error),
        None => return kfree_skb(cx, skb, DropReason::IcmpIgnored),
    }
    consume_skb(cx, skb);
}

/// An ICMP error that quotes an ICMP message: our answers to echo requests tell of the way's MTU; what a ping socket
/// sent is told to it.
///
/// linux: net/ipv4/icmp.c:icmp_err
pub(crate) fn icmp_err(cx: &mut BhCx<'_>, error: &IcmpError<'_>) {
    let answer = error.transport.first() == Some(&ICMP_ECHOREPLY);
    if !answer {
        return ping_err(cx, error);
    }
    if error.type_ == ICMP_DEST_UNREACH && error.code == ICMP_FRAG_NEEDED {
        let (daddr, saddr) = (error.iph.daddr.get(), error.iph.saddr.get());
        let flow = Flow4 { daddr, saddr, ..Flow4::default() };
        ip_rt_update_pmtu(cx, &flow, error.info);
    }
}

/// The errno of each code of a destination unreachable, and whether it is final
/// (RFC 1122 section 3.2.2.1).
///
/// linux: net/ipv4/icmp.c:icmp_err_convert
pub(crate) fn icmp_err_convert(code: u8) -> (Errno, bool) {
    match code {
        0 => (Errno::ENETUNREACH, false),
        1 => (Errno::EHOSTUNREACH, false),
        2 => (Errno::ENOPROTOOPT, true),
        3 => (Errno::ECONNREFUSED, true),
        4 => (Errno::EMSGSIZE, false),
        5 => (Errno::EOPNOTSUPP, false),
        6 => (Errno::ENETUNREACH, true),
        7 => (Errno::EHOSTDOWN, true),
        8 => (Errno::ENONET, true),
        9 => (Errno::ENETUNREACH, true),
        10 => (Errno::EHOSTUNREACH, true),
        11 => (Errno::ENETUNREACH, false),
        12 => (Errno::EHOSTUNREACH, false),
        _ => (Errno::EHOSTUNREACH, true),
    }
}
