//! UDP out: address, route, packet, IP. Context: task, with one BH section a datagram.
//!
//! linux: net/ipv4/udp.c.
//! DIVERGES: the messages of one `sendmmsg` go in one BH section, so an error that the first of them
//! brings back over loopback is met by the next call, not by the next message.

use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::{Cb, IpSummed, Skb};
use crate::net::core::sock::{SEND_SHUTDOWN, Sock};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::ip_output::{IpMakeSkb, ip_make_skb, ip_send_skb};
use crate::net::ipv4::ip_sockglue::{IpcmCookie, ip_cmsg_send, ip_local_error};
use crate::net::ipv4::route::{Flow4, RTO_ONLINK, ip_route_output_ports};
use crate::net::socket::{MsgSend, SendBatch, Sent, Wait};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold};
use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::in_::{
    IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, SockaddrIn, ipv4_is_multicast,
};
use uapi::ip::{INET_DSCP_MASK, IPPROTO_UDP, IpHdr};
use uapi::poll::POLLOUT;
use uapi::snmp::UdpMib;
use uapi::socket::{AF_UNSPEC, MSG_DONTROUTE, MSG_MORE, MSG_OOB, MSG_PROBE};
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
    /// As the header says it.
    tos: u8,
    sport: u16,
    dport: u16,
    ttl: u8,
    df: bool,
    /// The peer is fixed: the datagram has an IP ID of the socket's own.
    connected: bool,
    broadcast: bool,
    no_check: bool,
    mc_loop: bool,
    priority: u32,
}

/// What a socket's datagrams have in common, read under its lock once a batch.
#[derive(Clone, Copy, Debug)]
struct Template {
    send: Send4,
    uc_ttl: u8,
    mc_ttl: u8,
    /// Shut down for sending, or an error is pending: looked at again when room is asked for.
    stopped: bool,
    recverr: bool,
}

/// Why a batch ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Error(Errno),
    /// The send buffer is full.
    NoRoom,
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

/// Sends datagrams, all of them in one BH section; corked ones one by one. What was sent; an error
/// only of the first.
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
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, udp_sendmsg);
    if sk.corked() || batch.iter().any(|msg| msg.flags & MSG_MORE != 0) {
        return Poll::Ready(udp_send_corked(cx, sk, batch));
    }
    let (sent, stop) = cx.local_bh_disable(|bh| udp_send_batch(bh, sk, batch));
    match stop {
        Some(Stop::Error(error)) if sent.messages == 0 => Poll::Ready(Err(error)),
        Some(Stop::NoRoom) if sent.messages == 0 => {
            let flags = batch.iter().next().map_or(0, |msg| msg.flags);
            wait.for_event(cx, sk, POLLOUT as u32, flags, |state| {
                state.err.is_some() || sk.sock_wspace()
            })
        }
        _ => Poll::Ready(Ok(sent)),
    }
}

#[inline(always)]
fn udp_send_batch(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
) -> (Sent, Option<Stop>) {
    let mut sent = Sent::default();
    let template = template(cx, sk);
    let mut send = template.send;
    for msg in batch.iter() {
        match udp_send_one(cx, sk, &template, &msg, &mut send) {
            Ok(len) => sent.add(len),
            Err(stop) => return (sent, Some(stop)),
        }
        // What control data asked for was for that message alone.
        if !msg.control.is_empty() {
            send = template.send;
        }
    }
    (sent, None)
}

/// What the socket says.
#[inline(always)]
fn template(cx: &BhCx<'_>, sk: &Arc<Sock>) -> Template {
    let default_ttl = cx.t.net.sysctl.ip_default_ttl;
    let state = sk.state();
    let (inet, opts) = (&state.inet, &state.opts);
    let send = Send4 {
        flow: Flow4 {
            daddr: inet.daddr,
            saddr: inet.saddr,
            oif: opts.bound_dev_if,
            tos: inet.tos & INET_DSCP_MASK | if opts.localroute { RTO_ONLINK } else { 0 },
            mark: opts.mark,
            any_src: false,
        },
        tos: inet.tos,
        sport: inet.num,
        dport: inet.dport,
        ttl: default_ttl,
        df: !matches!(inet.pmtudisc, IP_PMTUDISC_DONT | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT),
        connected: false,
        broadcast: opts.broadcast,
        no_check: opts.no_check_tx,
        mc_loop: inet.mc_loop,
        priority: opts.priority,
    };
    Template {
        send,
        uc_ttl: inet.uc_ttl.unwrap_or(default_ttl),
        mc_ttl: inet.mc_ttl,
        stopped: state.shutdown & SEND_SHUTDOWN != 0 || state.err.is_some(),
        recverr: inet.recverr,
    }
}

/// Where one message goes and by what: the socket's template, its own address and control data.
#[inline(always)]
fn prepare(template: &Template, msg: &MsgSend<'_>, send: &mut Send4) -> Result<usize, Errno> {
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    if len > 0xffff {
        return Err(Errno::EMSGSIZE);
    }
    if msg.flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let peer = &template.send;
    match msg.name {
        Some(name) => {
            let to = parse_name(name)?;
            if to.port == 0 {
                return Err(Errno::EINVAL);
            }
            (send.flow.daddr, send.dport, send.connected) = (to.addr, to.port, false);
        }
        None if peer.flow.daddr == 0 && peer.dport == 0 => return Err(Errno::EDESTADDRREQ),
        None => {
            (send.flow.daddr, send.dport, send.connected) = (peer.flow.daddr, peer.dport, true);
        }
    }
    send.flow.tos = peer.flow.tos;
    let many = ipv4_is_multicast(send.flow.daddr);
    send.ttl = if many { template.mc_ttl } else { template.uc_ttl };
    if !msg.control.is_empty() {
        let mut ipc = IpcmCookie { tos: send.tos, ..IpcmCookie::default() };
        ip_cmsg_send(msg.control, &mut ipc)?;
        send.tos = ipc.tos;
        send.flow.tos = ipc.tos & INET_DSCP_MASK | send.flow.tos & RTO_ONLINK;
        send.ttl = ipc.ttl.unwrap_or(send.ttl);
        send.priority = ipc.priority.unwrap_or(send.priority);
        if ipc.addr != 0 {
            send.flow.saddr = ipc.addr;
        }
        if ipc.oif != 0 {
            send.flow.oif = ipc.oif;
        }
    }
    if msg.flags & MSG_DONTROUTE != 0 {
        send.flow.tos |= RTO_ONLINK;
    }
    Ok(len)
}

#[inline(always)]
fn udp_send_one(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    template: &Template,
    msg: &MsgSend<'_>,
    send: &mut Send4,
) -> Result<usize, Stop> {
    let len = prepare(template, msg, send)?;
    if msg.flags & MSG_PROBE != 0 {
        let dst = ip_route_output_ports(cx, &send.flow)?;
        cx.cpu.routes.give_back(dst);
        return Ok(len);
    }
    let dst = route_datagram(cx, sk, send, len)?;
    if let Err(stop) = sock_alloc_send(sk, template) {
        cx.cpu.routes.give_back(dst);
        return Err(stop);
    }
    let sent = send_datagram(cx, sk, dst, send, len, |to| copy_from_iter(msg.iov, to));
    // RFC 768 knows no report of a drop on this machine; only who asked for errors hears of it.
    match sent {
        Err(Errno::ENOBUFS) if !template.recverr => Ok(len),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(len),
    }
}

/// Asks for room in the send buffer. Only here, behind all that can be wrong with the message, does
/// the sender meet the pending error and the shutdown.
///
/// linux: net/core/sock.c:sock_alloc_send_pskb
#[inline(always)]
fn sock_alloc_send(sk: &Arc<Sock>, template: &Template) -> Result<(), Stop> {
    if template.stopped {
        let mut state = sk.state();
        state.sock_error()?;
        if state.shutdown & SEND_SHUTDOWN != 0 {
            return Err(Errno::EPIPE.into());
        }
    }
    if sk.sock_wspace() { Ok(()) } else { Err(Stop::NoRoom) }
}

/// A destination as user space writes it; `AF_UNSPEC` passes for `AF_INET`, as in Linux.
#[inline(always)]
fn parse_name(name: &[u8]) -> Result<SockaddrIn, Errno> {
    const INET: [u8; 2] = (uapi::socket::AF_INET as u16).to_ne_bytes();
    match name.first_chunk::<16>() {
        Some(full) if full[..2] == INET => Ok(SockaddrIn {
            addr: u32::from_be_bytes([full[4], full[5], full[6], full[7]]),
            port: u16::from_be_bytes([full[2], full[3]]),
        }),
        _ => parse_odd_name(name),
    }
}

fn parse_odd_name(name: &[u8]) -> Result<SockaddrIn, Errno> {
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    if family == Some(AF_UNSPEC as u16) && name.len() >= 16 {
        let mut as_inet: [u8; 16] = name[..16].try_into().map_err(|_| Errno::EINVAL)?;
        as_inet[..2].copy_from_slice(&(uapi::socket::AF_INET as u16).to_ne_bytes());
        return SockaddrIn::from_bytes(&as_inet);
    }
    SockaddrIn::from_bytes(name)
}

/// Copies user data into the packet: exactly as much as there is.
#[inline(always)]
fn copy_from_iter(iov: &[IoSlice<'_>], mut to: &mut [u8]) -> Result<(), Errno> {
    for part in iov {
        let (here, rest) = to.split_at_mut(part.len().min(to.len()));
        here.copy_from_slice(&part[..here.len()]);
        to = rest;
    }
    Ok(())
}

/// Finds the way of a datagram of `len` bytes; it must be allowed and wide enough.
#[inline(always)]
fn route_datagram(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    send: &Send4,
    len: usize,
) -> Result<Arc<Dst>, Errno> {
    let dst = ip_route_output_ports(cx, &send.flow)?;
    let error = if dst.is_broadcast() && !send.broadcast {
        Errno::EACCES
    } else if size_of::<IpHdr>() + size_of::<UdpHdr>() + len > dst.mtu as usize {
        ip_local_error(cx, sk, Errno::EMSGSIZE, (dst_addr(send, &dst), dst.mtu));
        Errno::EMSGSIZE
    } else {
        return Ok(dst);
    };
    cx.cpu.routes.give_back(dst);
    Err(error)
}

#[inline(always)]
fn send_datagram(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    dst: Arc<Dst>,
    send: &Send4,
    len: usize,
    getfrag: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let t = cx.t;
    let offload = t.net.dev(dst.dev).is_some_and(|dev| {
        dev.features().intersects(NetdevFeatures::IP_CSUM | NetdevFeatures::HW_CSUM)
    });
    let make = IpMakeSkb {
        saddr: dst.saddr,
        daddr: dst_addr(send, &dst),
        protocol: IPPROTO_UDP,
        tos: send.tos,
        ttl: send.ttl,
        df: send.df,
        ident: send.connected.then(|| sk.next_ident()),
        transhdrlen: size_of::<UdpHdr>(),
        length: len,
    };
    let mut skb = ip_make_skb(cx, dst, &make, |transport, payload| {
        if let Ok(udph) = UdpHdr::mut_from_bytes(transport) {
            udph.source.set(send.sport);
            udph.dest.set(send.dport);
            udph.len.set((size_of::<UdpHdr>() + len) as u16);
        }
        getfrag(payload)?;
        let check = match (send.no_check, offload) {
            (true, _) => 0,
            // The device adds the sum over the rest to that of the pseudo header.
            (false, true) => !csum_fold(pseudo(&make, len)),
            (false, false) => udp_csum(&make, transport, payload),
        };
        transport[6..8].copy_from_slice(&check.to_be_bytes());
        Ok(())
    })?;
    if offload && !send.no_check {
        skb.ip_summed = IpSummed::Partial;
        skb.csum_start = skb.transport_header;
        skb.csum_offset = 6;
    }
    skb.priority = send.priority;
    skb.mark = send.flow.mark;
    if ipv4_is_multicast(make.daddr) {
        skb.cb = Cb::Inet(InetSkbParm { mc_loop: send.mc_loop, ..InetSkbParm::default() });
    }
    sk.skb_set_owner_w(cx, &mut skb);
    let sent = udp_send_skb(cx, skb);
    match sent {
        Ok(()) => cx.count(UdpMib::OutDatagrams),
        Err(_) => cx.count(UdpMib::SndbufErrors),
    }
    sent
}

/// To nobody in particular means to this machine.
#[inline(always)]
fn dst_addr(send: &Send4, dst: &Dst) -> u32 {
    if send.flow.daddr == 0 { dst.saddr } else { send.flow.daddr }
}

/// The sum over the pseudo header.
#[inline(always)]
fn pseudo(make: &IpMakeSkb, len: usize) -> u32 {
    let len = (size_of::<UdpHdr>() + len) as u32;
    csum_tcpudp_nofold(make.saddr, make.daddr, len, IPPROTO_UDP, 0)
}

/// The checksum of a datagram whose device can't fill it in.
///
/// linux: include/net/udp.h:udp_csum
fn udp_csum(make: &IpMakeSkb, header: &[u8], payload: &[u8]) -> u16 {
    let sum = csum_partial(header, pseudo(make, payload.len()));
    // RFC 768: zero says "no checksum", so a computed zero goes out as all ones.
    match csum_fold(csum_partial(payload, sum)) {
        0 => 0xffff,
        check => check,
    }
}

/// Sends a datagram that is complete but for what the device fills in.
///
/// linux: net/ipv4/udp.c:udp_send_skb
#[inline(always)]
fn udp_send_skb(cx: &mut BhCx<'_>, skb: Skb) -> Result<(), Errno> {
    walk!(cx, skb, udp_send_skb);
    ip_send_skb(cx, skb)
}

/// Corked datagrams, one message after the other.
fn udp_send_corked(cx: &mut TaskCx, sk: &Arc<Sock>, batch: &SendBatch<'_>) -> Result<Sent, Errno> {
    let mut sent = Sent::default();
    for msg in batch.iter() {
        match cork(cx, sk, &msg) {
            Ok(len) => sent.add(len),
            Err(error) if sent.messages == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}

/// Adds to a corked datagram, or begins one; sends it when the cork is out.
fn cork(cx: &mut TaskCx, sk: &Arc<Sock>, msg: &MsgSend<'_>) -> Result<usize, Errno> {
    let mut guard = sk.lock_sock(cx);
    let begun = guard.state().udp.pending.is_some();
    let (sk, cx) = guard.parts();
    let template = cx.local_bh_disable(|bh| template(bh, sk));
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    let mut send = template.send;
    if !begun {
        prepare(&template, msg, &mut send)?;
        // The way is found again when it is sent: it may be another by then.
        cx.local_bh_disable(|bh| {
            let dst = route_datagram(bh, sk, &send, len)?;
            bh.cpu.routes.give_back(dst);
            Ok::<(), Errno>(())
        })?;
        // What is corked is charged when it goes.
        if let Err(Stop::Error(error)) = sock_alloc_send(sk, &template) {
            return Err(error);
        }
    }
    {
        let mut state = sk.state();
        if !begun {
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
            sk.set_corked(true);
            return Ok(len);
        }
    }
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

/// Throws away what is corked.
///
/// linux: net/ipv4/udp.c:udp_flush_pending_frames
pub(crate) fn udp_flush_pending_frames(sk: &Sock) {
    sk.state().udp.pending = None;
}

fn push_pending(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    let pending = {
        let mut state = sk.state();
        sk.set_corked(state.udp.corkflag);
        state.udp.pending.take()
    };
    let Some(Pending { send, payload }) = pending else { return Ok(()) };
    cx.local_bh_disable(|bh| {
        let dst = route_datagram(bh, sk, &send, payload.len())?;
        send_datagram(bh, sk, dst, &send, payload.len(), |to| {
            to.copy_from_slice(&payload);
            Ok(())
        })
    })
}
