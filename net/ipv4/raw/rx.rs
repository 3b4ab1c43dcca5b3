//! Raw sockets in: a copy of every datagram for each that matches, and ICMP errors. Context: BH.
//!
//! linux: net/ipv4/raw.c. Locks: `class::PortHash`, then `class::Sock`, one at a time.

use super::Bucket;
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dst::Dst;
use crate::net::core::filter::SkbFrom;
use crate::net::core::skbuff::{SkBuff, Skb, SkbList, kfree_skb, skb_clone};
use crate::net::core::sock::{Sock, SockLocked, SockState};
use crate::net::ipv4::icmp::{IcmpError, icmp_err_convert};
use crate::net::ipv4::igmp::ip_mc_sf_allow;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::ip_sockglue::ip_icmp_error;
use crate::net::ipv4::udp::ipv4_pktinfo_prepare;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::icmp::{
    ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_HDR_LEN, ICMP_PARAMETERPROB, ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
};
use uapi::in_::{IP_PMTUDISC_DONT, SockaddrIn, ipv4_is_multicast};
use uapi::ip::{IPPROTO_ICMP, IpHdr};

/// The highest code of a destination unreachable.
const NR_ICMP_UNREACH: u8 = 15;

/// Addresses as a socket has them, and the device.
#[derive(Clone, Copy)]
struct Ends {
    laddr: u32,
    raddr: u32,
    dif: u16,
}

impl Ends {
    /// linux: include/net/raw.h:raw_v4_match
    fn raw_v4_match(self, state: &SockState) -> bool {
        let fits = |own: u32, theirs| own == 0 || own == theirs;
        let bound = state.opts.bound_dev_if;
        !state.dead
            && fits(state.inet.daddr, self.raddr)
            && fits(state.inet.rcv_saddr, self.laddr)
            && (bound == 0 || bound == self.dif)
    }
}

/// Sockets of a protocol, if there are any.
fn sockets_of(cx: &BhCx<'_>, protocol: u8) -> Option<Bucket> {
    let bucket = Arc::clone(&*cx.t.ns.raw.bucket(protocol.into()).lock());
    (!bucket.is_empty()).then_some(bucket)
}

/// Gives each raw socket that matches a copy of packets that go the same way, whose data begin with the IP header.
/// True when there was such a socket.
///
/// linux: net/ipv4/raw.c:raw_local_deliver
#[cold]
#[inline(never)]
pub(crate) fn raw_local_deliver(cx: &mut BhCx<'_>, list: &mut SkbList) -> bool {
    walk!(cx, list, raw_local_deliver);
    let Some(sockets) = sockets_of(cx, list.way.protocol()) else { return false };
    let addrs = list.way.addrs();
    let ends = Ends { laddr: addrs as u32, raddr: (addrs >> 32) as u32, dif: list.way.iif() };
    let protocol = list.way.protocol();
    let SkbList { packets, dst, .. } = list;
    let mut delivered = false;
    for skb in packets {
        delivered |= raw_v4_input(cx, (skb, dst.as_deref()), (&sockets, protocol), ends);
    }
    delivered
}

/// linux: net/ipv4/raw.c:raw_v4_input
fn raw_v4_input(
    cx: &mut BhCx<'_>,
    (skb, dst): (&mut Skb, Option<&Dst>),
    (sockets, protocol): (&Bucket, u8),
    ends: Ends,
) -> bool {
    walk!(cx, skb, raw_v4_input);
    let type_ = skb.transport::<u8>().copied();
    let mut delivered = false;
    for sk in sockets.iter().filter(|sk| sk.sk_protocol() == u16::from(protocol)) {
        let mut state = sk.state();
        if !ends.raw_v4_match(&state) {
            continue;
        }
        if state.rmem_alloc >= state.opts.rcvbuf as usize {
            // No copy is made of what there is no room for.
            state.drops = state.drops.wrapping_add(1);
            cx.cpu.mib.count_drop(DropReason::SocketRcvbuff);
            continue;
        }
        delivered = true;
        let unwanted = protocol == IPPROTO_ICMP && icmp_filter(&state, type_)
            || ipv4_is_multicast(ends.laddr)
                && !ip_mc_sf_allow(&state, ends.laddr, ends.raddr, ends.dif);
        drop(state);
        if !unwanted && let Some(clone) = skb_clone(cx, skb) {
            raw_rcv(cx, sk, clone, dst);
        }
    }
    delivered
}

/// The socket does not want messages of that type, or there is none to be seen.
///
/// linux: net/ipv4/raw.c:icmp_filter
fn icmp_filter(state: &SockState, type_: Option<u8>) -> bool {
    let Some(type_) = type_ else { return true };
    let filter = state.rare().map_or(0, |rare| rare.icmp_filter);
    1_u32.checked_shl(type_.into()).is_some_and(|bit| filter & bit != 0)
}

/// Queues a copy for a socket.
///
/// linux: net/ipv4/raw.c:raw_rcv
fn raw_rcv(cx: &mut BhCx<'_>, sk: &Arc<Sock>, skb: Skb, dst: Option<&Dst>) {
    walk!(cx, skb, raw_rcv);
    queue_rcv_skb(cx, sk, skb, dst);
}

/// Queues a packet whose data begins where the reader's is to, if the socket's filter wants it and there is room.
///
/// linux: net/core/sock.c:sock_queue_rcv_skb
pub(in crate::net::ipv4) fn queue_rcv_skb(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    mut skb: Skb,
    dst: Option<&Dst>,
) {
    // The sender: a filter may cut the header off, and nobody asks for the flow any more.
    skb.hash = skb.network::<IpHdr>().map_or(0, |iph| iph.saddr.get());
    let program = sk.state().filter().cloned();
    let wanted = program
        .map_or(Ok(()), |program| program.sk_filter_trim_cap(cx, &mut skb, (SkbFrom::Data, 1)));
    if let Err(reason) = wanted {
        return kfree_skb(cx, skb, reason);
    }
    let mut state = sk.state();
    if state.dead {
        drop(state);
        return kfree_skb(cx, skb, DropReason::SocketClose);
    }
    if state.inet.cmsg_flags.intersects(CmsgFlags::TIMED) {
        skb.set_tstamp(Ktime(cx.m.ktime_get_real()));
    }
    ipv4_pktinfo_prepare(cx, &state, &mut skb, dst);
    let mut list = cx.skb_list_of(skb);
    state.sock_queue_rcv_skb(cx, &mut list);
    if !list.is_empty() {
        state.drops = state.drops.wrapping_add(1);
    }
    drop(state);
    list.pass(cx, |_, _| Err(DropReason::SocketRcvbuff));
    cx.free_skb_list(list);
}

/// No task owns a raw socket, so nothing is left to its backlog.
pub(in crate::net::ipv4) fn raw_backlog_rcv(
    cx: &mut BhCx<'_>,
    _: &Arc<Sock>,
    _: &mut SockLocked,
    skb: Skb,
) {
    kfree_skb(cx, skb, DropReason::NotSpecified);
}

/// An ICMP error quotes a datagram: raw sockets of its protocol that may have sent it hear of it.
///
/// linux: net/ipv4/raw.c:raw_icmp_error
pub(crate) fn raw_icmp_error(cx: &mut BhCx<'_>, error: &IcmpError<'_>) {
    if !cx.t.ns.raw.any() {
        return;
    }
    let protocol = error.iph.protocol;
    let Some(sockets) = sockets_of(cx, protocol) else { return };
    // It was sent: its source is the socket's own end.
    let ends = Ends { laddr: error.iph.saddr.get(), raddr: error.iph.daddr.get(), dif: error.iif };
    for sk in sockets.iter().filter(|sk| sk.sk_protocol() == u16::from(protocol)) {
        let mut state = sk.state();
        if ends.raw_v4_match(&state) {
            raw_err(cx, &mut state, error);
        }
    }
}

/// Tells a socket that is connected, or asked for errors.
///
/// linux: net/ipv4/raw.c:raw_err
fn raw_err(cx: &mut BhCx<'_>, state: &mut SockState, error: &IcmpError<'_>) {
    walk!(cx, error.skb, raw_err);
    let recverr = state.inet.recverr;
    let connected = state.inet.daddr != 0;
    if !recverr && !connected {
        return;
    }
    let Some((errno, hard)) = errno_of(error, state.inet.pmtudisc) else { return };
    if recverr {
        let whole = state.inet.hdrincl;
        let payload = if whole { quoted(error.skb) } else { error.transport };
        let to = SockaddrIn::new(error.iph.daddr.get(), 0);
        ip_icmp_error(cx, state, error, (errno, to), payload);
    }
    if recverr || hard {
        state.sk_error_report(cx, Some(errno));
    }
}

/// What an error quotes, from its IP header on.
fn quoted(skb: &SkBuff) -> &[u8] {
    skb.data().get(ICMP_HDR_LEN..).unwrap_or(&[])
}

/// What an error is to a socket, and whether it is final.
fn errno_of(error: &IcmpError<'_>, pmtudisc: i32) -> Option<(Errno, bool)> {
    Some(match (error.type_, error.code) {
        (ICMP_SOURCE_QUENCH | ICMP_REDIRECT, _) => return None,
        (ICMP_PARAMETERPROB, _) => (Errno::EPROTO, true),
        (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED) => (Errno::EMSGSIZE, pmtudisc != IP_PMTUDISC_DONT),
        (ICMP_DEST_UNREACH, code) if code <= NR_ICMP_UNREACH => icmp_err_convert(code),
        _ => (Errno::EHOSTUNREACH, false),
    })
}
