//! UDP in: from IP to a socket's queue, and ICMP errors to a socket. Context: BH.
//!
//! linux: net/ipv4/udp.c. Locks: `class::Sock`, for one look at the socket and its queue.

use super::table::{__udp4_lib_lookup_skb, UdpFlow, udp4_lib_lookup};
use crate::kernel::context::BhCx;
use crate::kernel::locking::SpinGuard;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::busy_poll::sk_mark_napi;
use crate::net::core::dst::Dst;
use crate::net::core::filter::SkbFrom;
use crate::net::core::gso::udp_rcv_segment;
use crate::net::core::skbuff::{Cb, Skb, SkbList, kfree_skb, skb_clone};
use crate::net::core::sock::{Sock, SockLocked, SockState};
use crate::net::ipv4::icmp::{IcmpCode, IcmpError, icmp_err_convert, icmp_send};
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::ip_input::skb_checksum_validate;
use crate::net::ipv4::ip_output::ip_sk_accept_pmtu;
use crate::net::ipv4::ip_sockglue::{PktinfoSkbCb, fib_compute_spec_dst, ip_icmp_error};
use crate::net::ipv4::protocol::{ports, same_ports};
use crate::net::ipv4::route::{Flow4, RTO_ONLINK, ip_rt_update_pmtu};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::icmp::{
    ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_PARAMETERPROB, ICMP_PORT_UNREACH, ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
};
use uapi::in_::{IP_PMTUDISC_DONT, SockaddrIn};
use uapi::ip::{INET_DSCP_MASK, IPPROTO_UDP};
use uapi::snmp::{IcmpMib, UdpMib};
use uapi::udp::UdpHdr;
use zerocopy::FromBytes;

/// Receives UDP datagrams for this machine: checks them, finds their socket and queues them there;
/// where nobody listens, the sender is told.
///
/// linux: net/ipv4/udp.c:udp_rcv
#[doc(alias = "__udp4_lib_rcv")]
pub(crate) fn udp_rcv(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, udp_rcv);
    let same = same_ports(cx, list, check, bad_datagram);
    match same {
        Some(ports) => udp_rcv_flow(cx, list, ports),
        None => list.in_runs(cx, ports, udp_rcv_flow),
    }
}

#[cold]
fn bad_datagram(cx: &mut BhCx<'_>, skb: Skb, reason: DropReason) {
    if reason == DropReason::UdpCsum {
        cx.count(UdpMib::InCsumErrors);
    }
    cx.count(UdpMib::InErrors);
    kfree_skb(cx, skb, reason);
}

/// Datagrams of one flow: their socket is looked for once.
#[inline(always)]
fn udp_rcv_flow(cx: &mut BhCx<'_>, list: &mut SkbList, ports: u32) {
    let iif = inet_iif(list.way.iif(), list.dst.as_deref());
    let flow = UdpFlow::new(list.way.addrs(), ports, iif);
    if list.dst.as_ref().is_some_and(|dst| dst.to_many) {
        return deliver_to_many(cx, list, flow);
    }
    match __udp4_lib_lookup_skb(cx, list, flow) {
        Some(sk) => udp_queue_rcv_skb(cx, &sk, list),
        None => no_socket(cx, list),
    }
}

#[cold]
#[inline(never)]
fn deliver_to_many(cx: &mut BhCx<'_>, list: &mut SkbList, flow: UdpFlow) {
    list.each_alone(cx, |cx, skb| __udp4_lib_mcast_deliver(cx, skb, &flow));
}

#[cold]
#[inline(never)]
fn no_socket(cx: &mut BhCx<'_>, list: &mut SkbList) {
    list.each_alone(cx, |cx, mut skb| {
        cx.count(UdpMib::NoPorts);
        // The error quotes the datagram from its IP header on, which still lies in front.
        icmp_send(cx, &mut skb, IcmpCode::DestUnreach(ICMP_PORT_UNREACH), 0);
        kfree_skb(cx, skb, DropReason::NoSocket);
    });
}

/// Checks length and checksum, cuts what is behind the datagram, and pulls the headers. The ports,
/// the source's in the upper half.
#[inline(always)]
fn check(skb: &mut Skb, ihl: usize) -> Result<u32, DropReason> {
    const UDP_HLEN: usize = size_of::<UdpHdr>();
    // The whole header in one look.
    let udph = u64::from_be_bytes(skb.header_at(ihl).ok_or(DropReason::HdrTrunc)?);
    let (ulen, sum) = ((udph >> 16) as u16, udph as u16);
    let end = ihl + usize::from(ulen);
    if usize::from(ulen) < UDP_HLEN || end > skb.len() {
        return Err(DropReason::PktTooSmall);
    }
    skb.pskb_trim(end);
    if sum != 0 && !udp4_csum_ok(skb, ihl) {
        return Err(DropReason::UdpCsum);
    }
    if skb.skb_pull(ihl + UDP_HLEN) { Ok((udph >> 32) as u32) } else { Err(DropReason::HdrTrunc) }
}

/// Where a packet counts as having come in that came in at `iif`: what this machine sends to an address
/// of a device, at that device.
///
/// linux: include/net/route.h:inet_iif
#[inline]
fn inet_iif(iif: u16, dst: Option<&Dst>) -> u16 {
    match dst {
        Some(dst) if dst.rt_iif != 0 => dst.rt_iif,
        _ => iif,
    }
}

/// linux: net/ipv4/udp.c:udp4_csum_init
#[inline(always)]
fn udp4_csum_ok(skb: &mut Skb, ihl: usize) -> bool {
    skb_checksum_validate(skb, ihl, IPPROTO_UDP)
}

/// A datagram to many: each socket that takes it gets its own clone.
///
/// linux: net/ipv4/udp.c:__udp4_lib_mcast_deliver
fn __udp4_lib_mcast_deliver(cx: &mut BhCx<'_>, mut skb: Skb, flow: &UdpFlow) {
    walk!(cx, skb, __udp4_lib_mcast_deliver);
    let mut takers = cx.t.ns.udp_table.all_matching(flow);
    let Some(last) = takers.pop() else {
        cx.count(UdpMib::IgnoredMulti);
        return kfree_skb(cx, skb, DropReason::NoSocket);
    };
    for sk in takers {
        match skb_clone(cx, &mut skb) {
            Some(clone) => udp_queue_rcv_alone(cx, &sk, clone),
            None => {
                sk.state().drops += 1;
                cx.count(UdpMib::RcvbufErrors);
                cx.count(UdpMib::InErrors);
            }
        }
    }
    udp_queue_rcv_alone(cx, &last, skb);
}

fn udp_queue_rcv_alone(cx: &mut BhCx<'_>, sk: &Arc<Sock>, skb: Skb) {
    let mut list = cx.skb_list_of(skb);
    udp_queue_rcv_skb(cx, sk, &mut list);
    cx.free_skb_list(list);
}

/// Queues datagrams on their socket, or leaves them in the backlog while a task owns the socket.
///
/// linux: net/ipv4/udp.c:udp_queue_rcv_skb
#[inline(always)]
fn udp_queue_rcv_skb(cx: &mut BhCx<'_>, sk: &Arc<Sock>, list: &mut SkbList) {
    walk!(cx, list, udp_queue_rcv_skb);
    let merged = match &list.packets[..] {
        [one] => one.gso.size != 0,
        many => many.iter().any(|skb| skb.gso.size != 0),
    };
    if merged {
        udp_unexpected_gso(cx, sk, list);
    }
    let mut state = sk.state();
    if state.dead | state.sock_owned_by_user() {
        return not_now(cx, state, list);
    }
    if state.inet.daddr != 0 {
        sk.mark_flow(cx, &mut state, list);
    } else if state.opts.ll_usec != 0 {
        sk_mark_napi(cx, &mut state);
    }
    // Nothing is in the backlog of a socket that nobody owns: the queue alone can be full.
    __udp_queue_rcv_skb(cx, &mut state, list);
    if !list.is_empty() {
        udp_drop(cx, state, list, DropReason::SocketRcvbuff);
    }
}

/// Several datagrams come as one packet: they are cut for a socket that did not ask for that.
///
/// linux: net/ipv4/udp.c:udp_unexpected_gso
#[cold]
#[inline(never)]
fn udp_unexpected_gso(cx: &mut BhCx<'_>, sk: &Arc<Sock>, list: &mut SkbList) {
    if sk.state().inet.cmsg_flags.contains(CmsgFlags::UDP_GRO) {
        return;
    }
    let lost = udp_rcv_segment(cx, list);
    sk.state().drops += lost;
    cx.cpu.mib.add(UdpMib::InErrors.into(), u64::from(lost));
}

/// For a socket that is closed, or that a task owns.
#[cold]
#[inline(never)]
fn not_now(cx: &mut BhCx<'_>, mut state: SpinGuard<'_, SockLocked>, list: &mut SkbList) {
    if state.dead {
        return udp_drop(cx, state, list, DropReason::SocketClose);
    }
    let limit = state.opts.rcvbuf as usize;
    list.hand_out(|skb| state.sk_add_backlog(cx, skb, limit));
    if !list.is_empty() {
        udp_drop(cx, state, list, DropReason::SocketBacklog);
    }
}

/// Drops what a socket does not take.
#[cold]
#[inline(never)]
fn udp_drop(
    cx: &mut BhCx<'_>,
    mut state: SpinGuard<'_, SockLocked>,
    list: &mut SkbList,
    reason: DropReason,
) {
    let dropped = list.len() as u32;
    state.drops += dropped;
    drop(state);
    if matches!(reason, DropReason::SocketRcvbuff | DropReason::SocketBacklog) {
        cx.cpu.mib.add(UdpMib::RcvbufErrors.into(), u64::from(dropped));
    }
    cx.cpu.mib.add(UdpMib::InErrors.into(), u64::from(dropped));
    list.pass(cx, |_, _| Err(reason));
}

/// A datagram from the backlog of a socket that its task gives back.
pub(super) fn udp_backlog_rcv(cx: &mut BhCx<'_>, _: &Arc<Sock>, state: &mut SockLocked, skb: Skb) {
    let mut list = cx.skb_list_of(skb);
    __udp_queue_rcv_skb(cx, state, &mut list);
    let dropped = list.pass(cx, |_, _| Err(DropReason::SocketRcvbuff));
    state.drops += dropped;
    cx.cpu.mib.add(UdpMib::RcvbufErrors.into(), u64::from(dropped));
    cx.cpu.mib.add(UdpMib::InErrors.into(), u64::from(dropped));
    cx.free_skb_list(list);
}

/// Charges the receive buffer and queues. What the buffer has no room for stays in the list.
///
/// linux: net/ipv4/udp.c:__udp_queue_rcv_skb
#[inline(always)]
fn __udp_queue_rcv_skb(cx: &mut BhCx<'_>, state: &mut SockState, list: &mut SkbList) {
    walk!(cx, list, __udp_queue_rcv_skb);
    if !state.inet.cmsg_flags.is_empty() {
        prepare_control(cx, state, list);
    }
    state.sock_queue_rcv_skb(cx, list);
}

/// What the reader asks to be told beside the data; and what his filter keeps from him.
#[cold]
fn prepare_control(cx: &mut BhCx<'_>, state: &mut SockState, list: &mut SkbList) {
    if let Some(program) = state.filter() {
        let cap = (SkbFrom::Transport, size_of::<UdpHdr>());
        let lost = list.pass(cx, |cx, skb| program.sk_filter_trim_cap(cx, skb, cap));
        state.drops += lost;
        cx.cpu.mib.add(UdpMib::InErrors.into(), u64::from(lost));
    }
    let timed = state.inet.cmsg_flags.intersects(CmsgFlags::TIMED);
    let SkbList { packets, dst, .. } = list;
    for skb in packets {
        if timed {
            skb.set_tstamp(crate::kernel::time::Ktime(cx.m.ktime_get_real()));
        }
        ipv4_pktinfo_prepare(cx, state, skb, dst.as_deref());
    }
}

/// Notes what the reader asks to know and the packet's route tells, before that is gone.
///
/// linux: net/ipv4/ip_sockglue.c:ipv4_pktinfo_prepare
pub(in crate::net::ipv4) fn ipv4_pktinfo_prepare(
    cx: &BhCx<'_>,
    state: &SockState,
    skb: &mut Skb,
    dst: Option<&Dst>,
) {
    let mut info = PktinfoSkbCb::default();
    let asked = state.inet.cmsg_flags;
    if asked.contains(CmsgFlags::PKTINFO) {
        info.ifindex = inet_iif(skb.dev.map_or(0, |dev| dev.0), dst);
        info.spec_dst = fib_compute_spec_dst(cx.t, skb, dst);
    }
    if asked.contains(CmsgFlags::RXQ_OVFL) {
        info.dropcount = state.drops;
    }
    if let Cb::Inet(parm) = skb.cb {
        info.frag_max_size = parm.frag_max_size;
    }
    skb.cb = Cb::Pktinfo(info);
}

/// An ICMP error quotes a datagram that a socket sent: the socket hears of it, if it is connected
/// and the error final, or if it asked for errors (`IP_RECVERR`).
///
/// linux: net/ipv4/udp.c:udp_err
pub(crate) fn udp_err(cx: &mut BhCx<'_>, error: &IcmpError<'_>) {
    walk!(cx, error.skb, udp_err);
    let Ok((udph, _)) = UdpHdr::read_from_prefix(error.transport) else {
        return cx.count(IcmpMib::InErrors);
    };
    let dest = udph.dest.get();
    let (saddr, daddr) = (error.iph.saddr.get(), error.iph.daddr.get());
    // The quote went out: its destination is the one a datagram to the socket comes from.
    let addrs = u64::from(daddr) << 32 | u64::from(saddr);
    let ports = u32::from(dest) << 16 | u32::from(udph.source.get());
    let flow = UdpFlow::new(addrs, ports, error.iif);
    let Some(sk) = udp4_lib_lookup(cx, flow) else {
        return cx.count(IcmpMib::InErrors);
    };
    report(cx, &sk, error, SockaddrIn::new(daddr, dest));
}

/// A router tells of the MTU of a socket's way.
///
/// linux: net/ipv4/route.c:ipv4_sk_update_pmtu
#[cold]
fn ipv4_sk_update_pmtu(cx: &mut BhCx<'_>, sk: &Sock, error: &IcmpError<'_>) {
    let flow = {
        let state = sk.state();
        if !ip_sk_accept_pmtu(state.inet.pmtudisc) {
            return;
        }
        let onlink = if state.opts.localroute { RTO_ONLINK } else { 0 };
        Flow4 {
            daddr: error.iph.daddr.get(),
            saddr: error.iph.saddr.get(),
            oif: state.opts.bound_dev_if,
            tos: state.inet.tos & INET_DSCP_MASK | onlink,
            mark: state.opts.mark,
            ..Flow4::default()
        }
    };
    ip_rt_update_pmtu(cx, &flow, error.info);
}

fn report(cx: &mut BhCx<'_>, sk: &Sock, error: &IcmpError<'_>, to: SockaddrIn) {
    if error.type_ == ICMP_DEST_UNREACH && error.code == ICMP_FRAG_NEEDED {
        ipv4_sk_update_pmtu(cx, sk, error);
    }
    let mut state = sk.state();
    let Some((errno, fatal)) = errno_of(error, state.inet.pmtudisc) else { return };
    if state.inet.recverr {
        let payload = error.transport.get(size_of::<UdpHdr>()..).unwrap_or(&[]);
        ip_icmp_error(cx, &mut state, error, (errno, to), payload);
    } else if !fatal || state.inet.daddr == 0 {
        return;
    }
    state.sk_error_report(cx, Some(errno));
}

/// What an error is to a socket, and whether it is final.
fn errno_of(error: &IcmpError<'_>, pmtudisc: i32) -> Option<(Errno, bool)> {
    match error.type_ {
        ICMP_SOURCE_QUENCH => None,
        ICMP_PARAMETERPROB => Some((Errno::EPROTO, true)),
        ICMP_DEST_UNREACH if error.code == ICMP_FRAG_NEEDED => {
            (pmtudisc != IP_PMTUDISC_DONT).then_some((Errno::EMSGSIZE, true))
        }
        ICMP_DEST_UNREACH => Some(icmp_err_convert(error.code)),
        ICMP_TIME_EXCEEDED => Some((Errno::EHOSTUNREACH, false)),
        _ => Some((Errno::EHOSTUNREACH, false)),
    }
}
