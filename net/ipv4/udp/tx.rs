//! UDP out: address, route, packet, IP. Context: task, with one BH section a datagram.
//!
//! linux: net/ipv4/udp.c.

use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::IpSummed;
use crate::net::core::sock::{SEND_SHUTDOWN, Sock};
use crate::net::ipv4::ip_output::{IpMakeSkb, ip_make_skb, ip_send_skb};
use crate::net::ipv4::ip_sockglue::{IpcmCookie, ip_cmsg_send};
use crate::net::ipv4::route::{Flow4, ip_route_output_ports};
use crate::net::socket::{MsgSend, Wait};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_magic, csum_tcpudp_nofold};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::in_::{
    IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, SockaddrIn, ipv4_is_multicast,
};
use uapi::ip::{IPPROTO_UDP, IpHdr};
use uapi::poll::POLLOUT;
use uapi::snmp::UdpMib;
use uapi::socket::{AF_UNSPEC, MSG_MORE, MSG_OOB, MSG_PROBE};
use uapi::udp::UdpHdr;
use zerocopy::FromBytes;

/// The most a datagram carries: an IP packet less its headers.
const MAX_DATAGRAM: usize = 65_535 - size_of::<IpHdr>() - size_of::<UdpHdr>();

/// A corked datagram.
#[derive(Debug)]
pub(crate) struct Pending {
    send: Send4,
    payload: Vec<u8>,
}

/// What one datagram is sent by.
#[derive(Clone, Copy, Debug)]
struct Send4 {
    flow: Flow4,
    sport: u16,
    dport: u16,
    ttl: u8,
    df: bool,
    /// The peer is fixed: the datagram has an IP ID of the socket's own.
    connected: bool,
    broadcast: bool,
    no_check: bool,
    priority: u32,
}

/// Sends a datagram, or adds to a corked one.
///
/// # Errors
/// EMSGSIZE over 65,507 bytes or the MTU; EOPNOTSUPP for `MSG_OOB`; EDESTADDRREQ without a peer;
/// EINVAL, EAFNOSUPPORT for the address; EACCES for a broadcast without `SO_BROADCAST`; EPIPE after
/// shutdown; EAGAIN without room; those of routing; the socket's pending error.
///
/// linux: net/ipv4/udp.c:udp_sendmsg
pub(super) fn udp_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    msg: &MsgSend<'_>,
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    walk!(cx, udp_sendmsg);
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    if len > 0xffff {
        return Poll::Ready(Err(Errno::EMSGSIZE));
    }
    if msg.flags & MSG_OOB != 0 {
        return Poll::Ready(Err(Errno::EOPNOTSUPP));
    }
    let send = match prepare(cx, sk, msg) {
        Ok(Prepared::Send(send)) => send,
        Ok(Prepared::Corked(send)) => return Poll::Ready(cork(cx, sk, msg, send)),
        Err(error) => return Poll::Ready(Err(error)),
    };
    if !sk.sock_wspace() {
        return wait.for_event(cx, sk, POLLOUT as u32, msg.flags, |state| {
            state.err.is_some() || sk.sock_wspace()
        });
    }
    let sent = cx.local_bh_disable(|bh| {
        send_one(bh, sk, &send, (len, msg.flags), |to| copy_from_iter(msg.iov, to))
    });
    Poll::Ready(sent.map(|()| len))
}

enum Prepared {
    Send(Send4),
    /// A corked datagram stands, or begins with these.
    Corked(Option<Send4>),
}

/// Where it goes and by what, from the message, its control data and the socket.
fn prepare(cx: &mut TaskCx, sk: &Arc<Sock>, msg: &MsgSend<'_>) -> Result<Prepared, Errno> {
    let sysctl_ttl = cx.machine().default_ttl();
    let mut state = sk.state();
    if state.udp.pending.is_some() {
        return Ok(Prepared::Corked(None));
    }
    state.sock_error()?;
    let inet = &state.inet;
    let to = match msg.name {
        Some(name) => {
            let to = parse_name(name)?;
            if to.port == 0 {
                return Err(Errno::EINVAL);
            }
            to
        }
        None if inet.daddr != 0 || inet.dport != 0 => SockaddrIn::new(inet.daddr, inet.dport),
        None => return Err(Errno::EDESTADDRREQ),
    };
    let mut ipc = IpcmCookie { tos: inet.tos, ..IpcmCookie::default() };
    if !msg.control.is_empty() {
        ip_cmsg_send(msg.control, &mut ipc)?;
    }
    if state.shutdown & SEND_SHUTDOWN != 0 {
        return Err(Errno::EPIPE);
    }
    let many = ipv4_is_multicast(to.addr);
    let ttl = if many { Some(inet.mc_ttl) } else { inet.uc_ttl };
    let send = Send4 {
        flow: Flow4 {
            daddr: to.addr,
            saddr: if ipc.addr != 0 { ipc.addr } else { inet.saddr },
            oif: if ipc.oif != 0 { ipc.oif } else { state.opts.bound_dev_if },
            tos: ipc.tos & 0x1e,
            mark: state.opts.mark,
            any_src: inet.freebind,
        },
        sport: inet.num,
        dport: to.port,
        ttl: ipc.ttl.or(ttl).unwrap_or(sysctl_ttl),
        df: !matches!(inet.pmtudisc, IP_PMTUDISC_DONT | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT),
        connected: msg.name.is_none(),
        broadcast: state.opts.broadcast,
        no_check: state.opts.no_check_tx,
        priority: ipc.priority.unwrap_or(state.opts.priority),
    };
    if state.udp.corkflag || msg.flags & MSG_MORE != 0 {
        return Ok(Prepared::Corked(Some(send)));
    }
    Ok(Prepared::Send(send))
}

/// A destination as user space writes it; `AF_UNSPEC` passes for `AF_INET`, as in Linux.
fn parse_name(name: &[u8]) -> Result<SockaddrIn, Errno> {
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    if family == Some(AF_UNSPEC as u16) && name.len() >= 16 {
        let mut as_inet: [u8; 16] = name[..16].try_into().map_err(|_| Errno::EINVAL)?;
        as_inet[..2].copy_from_slice(&(uapi::socket::AF_INET as u16).to_ne_bytes());
        return SockaddrIn::from_bytes(&as_inet);
    }
    SockaddrIn::from_bytes(name)
}

/// Copies user data into the packet: exactly as much as there is.
fn copy_from_iter(iov: &[IoSlice<'_>], mut to: &mut [u8]) -> Result<(), Errno> {
    for part in iov {
        let (here, rest) = to.split_at_mut(part.len().min(to.len()));
        here.copy_from_slice(&part[..here.len()]);
        to = rest;
    }
    Ok(())
}

fn send_one(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    send: &Send4,
    (len, flags): (usize, i32),
    getfrag: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let dst = ip_route_output_ports(cx, &send.flow)?;
    if dst.is_broadcast() && !send.broadcast {
        cx.cpu.routes.give_back(dst);
        return Err(Errno::EACCES);
    }
    if flags & MSG_PROBE != 0 {
        cx.cpu.routes.give_back(dst);
        return Ok(());
    }
    let make = IpMakeSkb {
        saddr: dst.saddr,
        daddr: dst_addr(send, &dst),
        protocol: IPPROTO_UDP,
        tos: send.flow.tos,
        ttl: send.ttl,
        df: send.df,
        ident: send.connected.then(|| sk.inet_id.fetch_add(1, Ordering::Relaxed) as u16),
        transhdrlen: size_of::<UdpHdr>(),
        length: len,
    };
    let mut skb = ip_make_skb(cx, dst, &make, getfrag)?;
    skb.priority = send.priority;
    skb.mark = send.flow.mark;
    sk.skb_set_owner_w(&mut skb);
    let sent = udp_send_skb(cx, skb, &make, send);
    match sent {
        Ok(()) => cx.count(UdpMib::OutDatagrams),
        Err(_) => cx.count(UdpMib::SndbufErrors),
    }
    // RFC 768 knows no report of a drop on this machine; only who asked for errors hears of it.
    if sent == Err(Errno::ENOBUFS) && !sk.state().inet.recverr { Ok(()) } else { sent }
}

/// To nobody in particular means to this machine.
fn dst_addr(send: &Send4, dst: &Dst) -> u32 {
    if send.flow.daddr == 0 { dst.saddr } else { send.flow.daddr }
}

/// Fills in the header and its checksum, or leaves that to the device, and sends.
///
/// linux: net/ipv4/udp.c:udp_send_skb
#[inline]
fn udp_send_skb(
    cx: &mut BhCx<'_>,
    mut skb: crate::net::core::skbuff::Skb,
    make: &IpMakeSkb,
    send: &Send4,
) -> Result<(), Errno> {
    walk!(cx, skb, udp_send_skb);
    let t = cx.t;
    let len = (size_of::<UdpHdr>() + make.length) as u16;
    let offload = skb.dst.as_ref().and_then(|dst| t.net.dev(dst.dev)).is_some_and(|dev| {
        dev.features().intersects(NetdevFeatures::IP_CSUM | NetdevFeatures::HW_CSUM)
    });
    let header = skb.transport_header;
    let Some(data) = skb.data_mut().and_then(|data| data.get_mut(size_of::<IpHdr>()..)) else {
        cx.free_skb(skb);
        return Err(Errno::ENOBUFS);
    };
    if let Ok((udph, _)) = UdpHdr::mut_from_prefix(data) {
        udph.source.set(send.sport);
        udph.dest.set(send.dport);
        udph.len.set(len);
        udph.check.set(0);
    }
    if !send.no_check {
        let (check, summed) = if offload {
            // The device adds the sum over the rest to that of the pseudo header.
            let pseudo = csum_tcpudp_nofold(make.saddr, make.daddr, u32::from(len), IPPROTO_UDP, 0);
            (!csum_fold(pseudo), IpSummed::Partial)
        } else {
            let sum = csum_partial(data, 0);
            let magic = csum_tcpudp_magic(make.saddr, make.daddr, u32::from(len), IPPROTO_UDP, sum);
            // RFC 768: zero says "no checksum", so a computed zero goes out as all ones.
            (if magic == 0 { 0xffff } else { magic }, IpSummed::None)
        };
        data[6..8].copy_from_slice(&check.to_be_bytes());
        skb.ip_summed = summed;
        skb.csum_start = header;
        skb.csum_offset = 6;
    }
    ip_send_skb(cx, skb)
}

/// Adds to a corked datagram, or begins one; sends it when the cork is out.
fn cork(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    msg: &MsgSend<'_>,
    begin: Option<Send4>,
) -> Result<usize, Errno> {
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    let mut guard = sk.lock_sock(cx);
    {
        let mut state = guard.state();
        if let Some(send) = begin {
            state.udp.pending = Some(Pending { send, payload: Vec::new() });
        }
        let Some(pending) = &mut state.udp.pending else { return Err(Errno::EINVAL) };
        if pending.payload.len() + len > MAX_DATAGRAM {
            // Linux throws the whole corked datagram away.
            state.udp.pending = None;
            return Err(Errno::EMSGSIZE);
        }
        for part in msg.iov {
            pending.payload.extend_from_slice(part);
        }
        if state.udp.corkflag || msg.flags & MSG_MORE != 0 {
            return Ok(len);
        }
    }
    let (sk, cx) = guard.parts();
    push_pending(cx, sk).map(|()| len)
}

/// Sends what is corked.
///
/// linux: net/ipv4/udp.c:udp_push_pending_frames
pub(crate) fn udp_push_pending_frames(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    let mut guard = sk.lock_sock(cx);
    let (sk, cx) = guard.parts();
    push_pending(cx, sk)
}

fn push_pending(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    let Some(Pending { send, payload }) = sk.state().udp.pending.take() else { return Ok(()) };
    cx.local_bh_disable(|bh| {
        send_one(bh, sk, &send, (payload.len(), 0), |to| {
            to.copy_from_slice(&payload);
            Ok(())
        })
    })
}
