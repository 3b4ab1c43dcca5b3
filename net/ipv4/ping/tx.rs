//! Echo requests of ping sockets: identifier and sum are the stack's. Context: task, with one BH section a message.
//!
//! linux: net/ipv4/ping.c (`ping_v4_sendmsg`).

use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dst::{Dst, dst_confirm_neigh};
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::Sock;
use crate::net::ipv4::icmp::icmp_out_count;
use crate::net::ipv4::ip_output::{IpMakeSkb, Parts, ip_make_skb, ip_make_skb_paged};
use crate::net::ipv4::ip_sockglue::ip_local_error;
use crate::net::ipv4::raw::tx::{Plan, Stop, copy_in, plan, send_each, sock_alloc_send, transmit};
use crate::net::ipv4::route::{IP_MAX_MTU, ip_route_output_flow};
use crate::net::socket::{MsgSend, SendBatch, Sent, Wait};
use klib::checksum::{csum_fold, csum_partial};
use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::icmp::{ICMP_ECHO, ICMP_HDR_LEN, IcmpHdr};
use uapi::in_::SockaddrIn;
use uapi::ip::{IP_DF, IPPROTO_ICMP, IpHdr};
use uapi::snmp::IpMib;
use uapi::socket::{MSG_CONFIRM, MSG_OOB, MSG_PROBE};
use zerocopy::{FromBytes, IntoBytes};

/// Sends echo requests.
///
/// # Errors
/// EMSGSIZE over 65,535 octets or the MTU; EINVAL for what is no echo request, or a short address; EOPNOTSUPP for
/// `MSG_OOB`; EAFNOSUPPORT; EDESTADDRREQ without a peer; EACCES for a broadcast without
/// `SO_BROADCAST`; EPIPE after shutdown; EAGAIN; those of routing; the pending error.
///
/// linux: net/ipv4/ping.c:ping_v4_sendmsg
pub(super) fn ping_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, ping_sendmsg);
    send_each(cx, sk, batch, wait, send_one)
}

fn send_one(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    msg: &MsgSend<'_>,
    flags: i32,
) -> Result<usize, Stop> {
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    let header = ping_common_sendmsg(msg, flags, len)?;
    let to = msg.name.map(SockaddrIn::from_bytes).transpose()?;
    let plan = plan(cx, sk, to.map(|to| to.addr), (msg, flags))?;
    if plan.leads_nowhere() {
        return Err(Errno::EINVAL.into());
    }
    let dst = ip_route_output_flow(cx, &plan.flow).inspect_err(|error| {
        if *error == Errno::ENETUNREACH {
            cx.count(IpMib::OutNoRoutes);
        }
    })?;
    match make(cx, sk, &plan, (&dst, flags), (msg, header, len)) {
        Ok(Some(skb)) => transmit(cx, sk, &plan, skb, dst)?,
        Ok(None) => cx.cpu.routes.give_back(dst),
        Err(stop) => {
            cx.cpu.routes.give_back(dst);
            return Err(stop);
        }
    }
    Ok(len)
}

/// What a program may send: an echo request.
///
/// linux: net/ipv4/ping.c:ping_common_sendmsg
fn ping_common_sendmsg(msg: &MsgSend<'_>, flags: i32, len: usize) -> Result<IcmpHdr, Errno> {
    if len > 0xffff {
        return Err(Errno::EMSGSIZE);
    }
    if len < ICMP_HDR_LEN {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut header = [0; ICMP_HDR_LEN];
    copy_in(msg, 0, &mut header);
    let header = IcmpHdr::read_from_bytes(&header).map_err(|_| Errno::EINVAL)?;
    if (header.type_, header.code) == (ICMP_ECHO, 0) { Ok(header) } else { Err(Errno::EINVAL) }
}

/// Makes the datagram; `None`: there is nothing to send (`MSG_PROBE`).
fn make(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    (dst, flags): (&Arc<Dst>, i32),
    (msg, mut header, len): (&MsgSend<'_>, IcmpHdr, usize),
) -> Result<Option<Skb>, Stop> {
    if dst.is_broadcast() && !plan.broadcast {
        return Err(Errno::EACCES.into());
    }
    let daddr = if plan.flow.daddr == 0 { dst.saddr } else { plan.flow.daddr };
    if flags & MSG_CONFIRM != 0 {
        dst_confirm_neigh(cx, dst, daddr);
        if flags & MSG_PROBE != 0 && len == 0 {
            return Ok(None);
        }
    }
    sock_alloc_send(sk)?;
    let mtu = plan.rest_of(dst.mtu);
    let cut = size_of::<IpHdr>() + len > mtu as usize && plan.ignore_df;
    header.set_id(sk.inet_num());
    header.checksum.set(0);
    let iph = IpHdr {
        tos: plan.ipc.tos,
        ttl: plan.ttl,
        frag_off: if plan.df && !cut { IP_DF } else { 0 }.into(),
        ..IpMakeSkb::<IcmpHdr>::header(dst.saddr, daddr, IPPROTO_ICMP)
    };
    let mut make = IpMakeSkb::default();
    make.own_ident = plan.connected;
    make.set(iph, header, mtu);
    let mut paged = vec![0; if cut { len - ICMP_HDR_LEN } else { 0 }];
    copy_in(msg, ICMP_HDR_LEN, &mut paged);
    let fill = |parts: &mut Parts<'_, IcmpHdr>| {
        if plan.connected {
            parts.iph.id.set(sk.next_ident());
        }
        copy_in(msg, ICMP_HDR_LEN, parts.payload);
        let sum = csum_partial(parts.transport.as_bytes(), 0);
        let data = if cut { &paged[..] } else { &*parts.payload };
        parts.transport.checksum.set(csum_fold(csum_partial(data, sum)));
        Ok(())
    };
    let longest = plan.rest_of(IP_MAX_MTU) as usize;
    let made = match cut {
        _ if size_of::<IpHdr>() + len > longest => Err(Errno::EMSGSIZE),
        true => ip_make_skb_paged(cx, &make, &[IoSlice::new(&paged)], fill),
        false => ip_make_skb(cx, &make, len - ICMP_HDR_LEN, fill),
    };
    let skb = made.inspect_err(|error| {
        if *error == Errno::EMSGSIZE {
            ip_local_error(cx, sk, Errno::EMSGSIZE, (daddr, mtu));
        }
    })?;
    let skb = plan.with_options(cx, skb)?;
    icmp_out_count(cx, header.type_);
    Ok(Some(skb))
}
