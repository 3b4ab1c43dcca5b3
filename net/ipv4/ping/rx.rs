//! Echo replies to the socket that asked, and ICMP errors about what it sent. Context: BH.
//!
//! linux: net/ipv4/ping.c. Locks: `class::PortHash`, then `class::Sock`, one at a time.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, kfree_skb};
use crate::net::core::sock::Sock;
use crate::net::ipv4::icmp::{IcmpError, icmp_err_convert};
use crate::net::ipv4::ip_sockglue::ip_icmp_error;
use crate::net::ipv4::raw::rx::queue_rcv_skb;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::icmp::{
    ICMP_DEST_UNREACH, ICMP_ECHO, ICMP_FRAG_NEEDED, ICMP_PARAMETERPROB, ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH, IcmpHdr,
};
use uapi::in_::{IP_PMTUDISC_DONT, SockaddrIn};
use uapi::ip::IpHdr;
use zerocopy::FromBytes;

/// The socket of an identifier that receives at this address and device.
///
/// linux: net/ipv4/ping.c:ping_lookup
fn ping_lookup(cx: &BhCx<'_>, ident: u16, daddr: u32, dif: u16) -> Option<Arc<Sock>> {
    cx.t.ns.ping.find(ident, |state| {
        let (own, bound) = (state.inet.rcv_saddr, state.opts.bound_dev_if);
        (own == 0 || own == daddr) && (bound == 0 || bound == dif)
    })
}

/// Takes an echo reply, whose data begins with the ICMP header, to the socket that asked.
///
/// linux: net/ipv4/ping.c:ping_rcv
pub(crate) fn ping_rcv(cx: &mut BhCx<'_>, mut skb: Skb) {
    walk!(cx, skb, ping_rcv);
    let dif = skb.dev.map_or(0, |dev| dev.0);
    let found = match (skb.front::<IcmpHdr>(), skb.network::<IpHdr>()) {
        (Some(header), Some(iph)) => ping_lookup(cx, header.id(), iph.daddr.get(), dif),
        _ => None,
    };
    let Some(sk) = found else { return kfree_skb(cx, skb, DropReason::NoSocket) };
    let dst = skb.dst.take();
    queue_rcv_skb(cx, &sk, skb, dst.as_deref());
    if let Some(dst) = dst {
        cx.cpu.routes.give_back(dst);
    }
}

/// An ICMP error quotes an echo: its socket hears of it, if it is connected and the error final, or if it asked for
/// errors.
///
/// linux: net/ipv4/ping.c:ping_err
pub(crate) fn ping_err(cx: &mut BhCx<'_>, error: &IcmpError<'_>) {
    walk!(cx, error.skb, ping_err);
    let Ok((header, _)) = IcmpHdr::read_from_prefix(error.transport) else { return };
    if (header.type_, header.code) != (ICMP_ECHO, 0) {
        return;
    }
    let daddr = error.skb.network::<IpHdr>().map_or(0, |iph| iph.daddr.get());
    let Some(sk) = ping_lookup(cx, header.id(), daddr, error.iif) else { return };
    let mut state = sk.state();
    let Some((errno, hard)) = errno_of(error, state.inet.pmtudisc) else { return };
    if state.inet.recverr {
        let to = SockaddrIn::new(error.iph.daddr.get(), 0);
        ip_icmp_error(cx, &mut state, error, (errno, to), error.transport);
    } else if !hard || state.inet.daddr == 0 {
        return;
    }
    state.sk_error_report(cx, Some(errno));
}

/// What an error is to a socket, and whether it is final.
fn errno_of(error: &IcmpError<'_>, pmtudisc: i32) -> Option<(Errno, bool)> {
    Some(match (error.type_, error.code) {
        // No errors, but ping wants to see them.
        (ICMP_SOURCE_QUENCH | ICMP_REDIRECT, _) => (Errno::EREMOTEIO, false),
        (ICMP_PARAMETERPROB, _) => (Errno::EPROTO, true),
        (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED) if pmtudisc == IP_PMTUDISC_DONT => return None,
        (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED) => (Errno::EMSGSIZE, true),
        (ICMP_DEST_UNREACH, code) => icmp_err_convert(code),
        _ => (Errno::EHOSTUNREACH, false),
    })
}
