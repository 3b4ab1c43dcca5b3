//! Options and control data of `SOL_IP`, and the error queue. Context: task.
//!
//! linux: net/ipv4/ip_sockglue.c. Key types: `IpcmCookie`, `RecvFlags`.
//! DIVERGES: `IP_MTU` tells of the way as it is now; Linux of the one that the socket took last.

mod cmsg_send;

pub(crate) use cmsg_send::{IpcmCookie, ip_cmsg_send, sock_cmsg_send};

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::rcupdate::Tables;
use crate::kernel::time::Ktime;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::{Cb, SkBuff};
use crate::net::core::sock::{ErrorPacket, Sock, SockError, SockState};
use crate::net::ipv4::devinet::inet_select_addr;
use crate::net::ipv4::fib::{FibLookup, fib_lookup};
use crate::net::ipv4::icmp::IcmpError;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::ip_options::{IpOptionsTold, ip_options_set, put_recv_options};
use crate::net::socket::{MsgName, MsgRecv, Received};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::errqueue::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_LOCAL, SockExtendedErr};
use uapi::in_::{
    IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, IP_HDRINCL, IP_MTU, IP_MTU_DISCOVER, IP_MULTICAST_ALL,
    IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_OPTIONS, IP_ORIGDSTADDR, IP_PKTINFO, IP_PMTUDISC_DONT,
    IP_PMTUDISC_OMIT, IP_RECVERR, IP_RECVFRAGSIZE, IP_RECVOPTS, IP_RECVORIGDSTADDR, IP_RECVTOS,
    IP_RECVTTL, IP_RETOPTS, IP_TOS, IP_TTL, InPktinfo, SockaddrIn,
};
use uapi::ip::{INET_ECN_MASK, IpHdr};
use uapi::net_tstamp::{SOF_TIMESTAMPING_OPT_CMSG, SOF_TIMESTAMPING_SOFTWARE, scm_timestamping};
use uapi::rtnetlink::{RT_SCOPE_LINK, RT_SCOPE_UNIVERSE};
use uapi::socket::{
    CmsgWriter, MSG_ERRQUEUE, MSG_TRUNC, SCM_TIMESTAMP, SCM_TIMESTAMPING, SCM_TIMESTAMPNS,
    SO_RXQ_OVFL, SO_TIMESTAMP_NEW, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS_NEW, SOCK_RAW, SOCK_STREAM,
    SOL_IP, SOL_SOCKET, SOL_UDP,
};
use uapi::udp::UDP_GRO;

fn int(data: &[u8]) -> Result<i32, Errno> {
    let bytes: [u8; 4] = data.get(..4).and_then(|d| d.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(bytes))
}

/// What a packet tells its reader and only its route or its socket knew, noted when it was queued;
/// zeroes where that was not asked for then.
///
/// linux: include/net/ip.h:PKTINFO_SKB_CB
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PktinfoSkbCb {
    /// The device it came in at.
    pub ifindex: u16,
    /// The address to answer from.
    pub spec_dst: u32,
    /// Packets that the socket had lost by then.
    pub dropcount: u32,
    /// Octets of the largest fragment that it was put together from; zero: it came whole.
    pub frag_max_size: u16,
}

/// What a socket's options ask to tell with a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecvFlags {
    asked: CmsgFlags,
}

impl RecvFlags {
    /// By the options of a socket.
    #[inline]
    pub(crate) fn of(state: &SockState) -> Self {
        Self { asked: state.inet.cmsg_flags }
    }

    /// Any control data is asked for.
    #[inline]
    pub(crate) fn wants_control(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// What a packet has to say to those options.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    flags: RecvFlags,
    info: PktinfoSkbCb,
    daddr: u32,
    /// `None`: not there to be read.
    dport: Option<u16>,
    ttl: u8,
    tos: u8,
    stamp: Ktime,
    /// Octets of each of the datagrams that came as this one; zero: it is one.
    gso_size: u16,
    /// Its options, if they are to be told.
    options: Option<Box<IpOptionsTold>>,
}

impl Noted {
    /// What a report's reader is told: of the packet that brought the error, but for what it
    /// quotes, or that left. A report of this machine's own has only its time.
    fn of_report(mut flags: RecvFlags, report: &SockError, tsflags: u32) -> Self {
        flags.asked.set(CmsgFlags::TIMESTAMPING, tsflags & SOF_TIMESTAMPING_SOFTWARE != 0);
        let kept = told_packet(report, tsflags);
        if kept.is_none() {
            let times = CmsgFlags::TIMES_TOLD | CmsgFlags::TSTAMP_NEW;
            flags.asked &= times;
        }
        let kept = kept.cloned().unwrap_or_default();
        let spec_dst = if report.is_icmp() { 0 } else { report.offender.unwrap_or(0) };
        // Linux looks for the ports where the quoted payload lies by now.
        let dport = report.payload.get(2..4).and_then(|port| port.try_into().ok());
        Self {
            flags,
            info: PktinfoSkbCb { ifindex: kept.ifindex, spec_dst, ..PktinfoSkbCb::default() },
            daddr: kept.daddr,
            dport: dport.map(u16::from_be_bytes),
            ttl: kept.ttl,
            tos: kept.tos,
            stamp: report.stamp,
            gso_size: 0,
            options: kept.options,
        }
    }

    /// Keeps what the socket notes of a packet that is read.
    pub(crate) fn sock_recv_cmsgs(&self, sk: &Sock) {
        sk.state().sock_recv_cmsgs(self.flags.asked, self.stamp);
    }

    /// Reads the packet.
    pub(crate) fn new(flags: RecvFlags, skb: &SkBuff, iph: &IpHdr, dport: u16) -> Self {
        let info = if let Cb::Pktinfo(info) = skb.cb { info } else { PktinfoSkbCb::default() };
        let (daddr, ttl, tos) = (iph.daddr.get(), iph.ttl, iph.tos);
        let (stamp, gso_size) = (skb.tstamp(), skb.gso.size);
        let options = IpOptionsTold::of(flags.asked, skb);
        Self { flags, info, daddr, dport: Some(dport), ttl, tos, stamp, gso_size, options }
    }
}

/// Writes the control data of a received message; its length. Truncation goes into `flags`.
///
/// linux: net/ipv4/ip_sockglue.c:ip_cmsg_recv
pub(crate) fn ip_cmsg_recv(
    cx: &mut TaskCx,
    msg: &mut MsgRecv<'_>,
    noted: &Noted,
    flags: &mut i32,
) -> usize {
    let mut writer = CmsgWriter::new(msg.control);
    let cut = put_noted(cx, &mut writer, noted);
    *flags |= writer.flags() | cut;
    writer.used()
}

/// Writes the time of a packet, by the wall clock, in the shapes that are asked for.
///
/// linux: net/socket.c:__sock_recv_timestamp, net/ipv4/tcp.c:tcp_recv_timestamp
pub(crate) fn put_times(writer: &mut CmsgWriter<'_>, asked: CmsgFlags, Ktime(real): Ktime) {
    let seconds = ((real / 1_000_000_000) as i64).to_ne_bytes();
    // The shapes are the same: both have 64 bits.
    let [timestamp, timestampns, timestamping] = match asked.contains(CmsgFlags::TSTAMP_NEW) {
        false => [SCM_TIMESTAMP, SCM_TIMESTAMPNS, SCM_TIMESTAMPING],
        true => [SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW, SO_TIMESTAMPING_NEW],
    };
    if asked.contains(CmsgFlags::TIMESTAMPNS) {
        let stamp = [seconds, ((real % 1_000_000_000) as i64).to_ne_bytes()].concat();
        writer.put(SOL_SOCKET, timestampns, &stamp);
    } else if asked.contains(CmsgFlags::TIMESTAMP) {
        let stamp = [seconds, ((real / 1_000 % 1_000_000) as i64).to_ne_bytes()].concat();
        writer.put(SOL_SOCKET, timestamp, &stamp);
    }
    if asked.contains(CmsgFlags::TIMESTAMPING) {
        writer.put(SOL_SOCKET, timestamping, &scm_timestamping(real));
    }
}

/// `MSG_CTRUNC` when something could not be told.
fn put_noted(cx: &mut TaskCx, writer: &mut CmsgWriter<'_>, noted: &Noted) -> i32 {
    let asked = noted.flags.asked;
    if noted.stamp != Ktime::ZERO {
        put_times(writer, asked, noted.stamp);
    } else {
        // It came before anybody asked.
        let now = Ktime(cx.machine().ktime_get_real());
        put_times(writer, asked & !CmsgFlags::TIMESTAMPING, now);
    }
    if asked.contains(CmsgFlags::RXQ_OVFL) && noted.info.dropcount != 0 {
        writer.put(SOL_SOCKET, SO_RXQ_OVFL, &noted.info.dropcount.to_ne_bytes());
    }
    if asked.contains(CmsgFlags::UDP_GRO) && noted.gso_size != 0 {
        writer.put(SOL_UDP, UDP_GRO, &i32::from(noted.gso_size).to_ne_bytes());
    }
    if asked.contains(CmsgFlags::PKTINFO) {
        let info = InPktinfo {
            ifindex: i32::from(noted.info.ifindex),
            spec_dst: noted.info.spec_dst,
            addr: noted.daddr,
        };
        writer.put(SOL_IP, IP_PKTINFO, &info.to_bytes());
    }
    if asked.contains(CmsgFlags::TTL) {
        writer.put(SOL_IP, IP_TTL, &i32::from(noted.ttl).to_ne_bytes());
    }
    if asked.contains(CmsgFlags::TOS) {
        writer.put(SOL_IP, IP_TOS, &[noted.tos]);
    }
    let mut cut = 0;
    if let Some(options) = &noted.options {
        cut = put_recv_options(&cx.tables(), writer, (asked, options));
    }
    if asked.contains(CmsgFlags::ORIGDSTADDR)
        && let Some(dport) = noted.dport
    {
        let to = SockaddrIn::new(noted.daddr, dport).to_bytes();
        writer.put(SOL_IP, IP_ORIGDSTADDR, &to);
    }
    if asked.contains(CmsgFlags::RECVFRAGSIZE) && noted.info.frag_max_size != 0 {
        let size = i32::from(noted.info.frag_max_size).to_ne_bytes();
        writer.put(SOL_IP, IP_RECVFRAGSIZE, &size);
    }
    cut
}

/// The address to answer a packet from: its destination if that is ours alone, else the one that
/// the way back suggests.
///
/// linux: net/ipv4/fib_frontend.c:fib_compute_spec_dst
pub(crate) fn fib_compute_spec_dst(t: &Tables, skb: &SkBuff, dst: Option<&Dst>) -> u32 {
    let (Some(dst), Some(iph)) = (dst, skb.network::<IpHdr>()) else { return 0 };
    if dst.is_local() {
        return iph.daddr.get();
    }
    let (saddr, dev) = (iph.saddr.get(), skb.dev.unwrap_or(dst.dev));
    if saddr == 0 {
        return inet_select_addr(t, dev, 0, RT_SCOPE_LINK).unwrap_or(0);
    }
    let back = FibLookup { daddr: saddr, oif: 0, tos: 0, scope: RT_SCOPE_UNIVERSE };
    match fib_lookup(&t.net, &back) {
        Ok(found) if found.info.prefsrc != 0 => found.info.prefsrc,
        Ok(found) => {
            let near = if found.info.gateway != 0 { found.info.gateway } else { saddr };
            inet_select_addr(t, found.info.dev, near, found.info.scope).unwrap_or(0)
        }
        Err(_) => inet_select_addr(t, dev, saddr, RT_SCOPE_UNIVERSE).unwrap_or(0),
    }
}

/// Queues an error that this machine found itself, for who asked for errors.
///
/// linux: net/ipv4/ip_sockglue.c:ip_local_error
pub(crate) fn ip_local_error(
    cx: &mut BhCx<'_>,
    sk: &Sock,
    errno: Errno,
    (daddr, info): (u32, u32),
) {
    let mut state = sk.state();
    if !state.inet.recverr {
        return;
    }
    let ee = SockExtendedErr {
        ee_errno: errno.0 as u32,
        ee_origin: SO_EE_ORIGIN_LOCAL,
        ee_info: info,
        ..SockExtendedErr::default()
    };
    let to = SockaddrIn::new(daddr, state.inet.dport);
    state.sock_queue_err(SockError { to, ..SockError::of_this_machine(ee) });
    state.sk_error_report(cx, None);
}

/// The packet that a report's reader is told of: of one that left if he asked for it.
///
/// linux: net/ipv4/ip_sockglue.c:ipv4_datagram_support_cmsg
fn told_packet(report: &SockError, tsflags: u32) -> Option<&ErrorPacket> {
    let left = report.is_tx_stamp() && tsflags & SOF_TIMESTAMPING_OPT_CMSG != 0;
    report.packet.as_ref().filter(|packet| report.is_icmp() || left && packet.ifindex != 0)
}

/// Reads the error queue: the payload of the packet in question, where it went, what was asked to
/// be told of the packet that brought the error, and the error.
///
/// # Errors
/// EAGAIN when the queue is empty.
///
/// linux: net/ipv4/ip_sockglue.c:ip_recv_error
pub(crate) fn ip_recv_error(
    cx: &mut TaskCx,
    sk: &Sock,
    msg: &mut MsgRecv<'_>,
) -> Result<Received, Errno> {
    let mut wakeups = Vec::new();
    let mut state = sk.state();
    let report = state.sock_dequeue_err(&mut wakeups).ok_or(Errno::EAGAIN)?;
    let flags = RecvFlags::of(&state);
    drop(state);
    for waker in wakeups {
        waker.wake();
    }
    let mut done = 0;
    for part in msg.iov.iter_mut() {
        let here = part.len().min(report.payload.len() - done);
        part[..here].copy_from_slice(&report.payload[done..done + here]);
        done += here;
    }
    let name = if report.has_address() { MsgName::In(report.to) } else { MsgName::None };
    let mut received = Received { len: done, name, flags: MSG_ERRQUEUE, ..Received::default() };
    if done < report.payload.len() {
        received.flags |= MSG_TRUNC;
    }
    let tsflags = sk.tsflags();
    let told = report.is_icmp() || told_packet(&report, tsflags).is_some();
    let offender = match report.offender {
        Some(addr) if told => SockaddrIn::new(addr, 0).to_bytes(),
        _ => [0; 16],
    };
    let mut writer = CmsgWriter::new(msg.control);
    if flags.wants_control() || tsflags != 0 {
        received.flags |= put_noted(cx, &mut writer, &Noted::of_report(flags, &report, tsflags));
    }
    let control = [&report.ee.to_bytes()[..], &offender[..]].concat();
    writer.put(SOL_IP, IP_RECVERR, &control);
    received.flags |= writer.flags();
    received.controllen = writer.used() as u32;
    Ok(received)
}

/// Sets an option of `SOL_IP`.
///
/// # Errors
/// EINVAL for a value out of range or too short; ENOPROTOOPT for an option there is not.
///
/// linux: net/ipv4/ip_sockglue.c:ip_setsockopt
pub(crate) fn ip_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    if name == IP_OPTIONS {
        return ip_options_set(cx, sk, value);
    }
    // Linux takes a single byte for these, and nothing for zero.
    let val = match value.len() {
        0 if matches!(name, IP_TTL | IP_MULTICAST_TTL | IP_MULTICAST_LOOP) => {
            return Err(Errno::EINVAL);
        }
        0 => 0,
        1..4 => i32::from(value[0]),
        _ => int(value)?,
    };
    let on = val != 0;
    let mut state = sk.state();
    let stream = state.tcp.is_some();
    let inet = &mut state.inet;
    match name {
        IP_TOS => {
            // The ECN bits of a stream are TCP's own.
            let ecn = if stream { INET_ECN_MASK } else { 0 };
            let tos = (val as u8 & !ecn) | (inet.tos & ecn);
            if tos != inet.tos {
                inet.tos = tos;
                state.opts.priority = rt_tos2priority(tos);
            }
        }
        IP_TTL => match val {
            -1 => inet.uc_ttl = None,
            1..=255 => inet.uc_ttl = Some(val as u8),
            _ => return Err(Errno::EINVAL),
        },
        IP_MULTICAST_TTL if sk.sk_prot.kind.0 == SOCK_STREAM => return Err(Errno::EINVAL),
        IP_MULTICAST_TTL => match val {
            -1 => inet.mc_ttl = 1,
            0..=255 => inet.mc_ttl = val as u8,
            _ => return Err(Errno::EINVAL),
        },
        IP_MULTICAST_LOOP => inet.mc_loop = on,
        IP_RECVFRAGSIZE if stream => return Err(Errno::EINVAL),
        _ if let Some(flag) = told_by(name) => inet.cmsg_flags.set(flag, on),
        IP_FREEBIND => inet.freebind = on,
        IP_HDRINCL if sk.sk_type() == SOCK_RAW => inet.hdrincl = on,
        IP_BIND_ADDRESS_NO_PORT => inet.bind_address_no_port = on,
        IP_RECVERR => {
            inet.recverr = on;
            if !on {
                state.skb_errqueue_purge();
            }
        }
        IP_MTU_DISCOVER => {
            if !(IP_PMTUDISC_DONT..=IP_PMTUDISC_OMIT).contains(&val) {
                return Err(Errno::EINVAL);
            }
            inet.pmtudisc = val;
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// What an option asks to be told with each packet.
fn told_by(name: i32) -> Option<CmsgFlags> {
    Some(match name {
        IP_PKTINFO => CmsgFlags::PKTINFO,
        IP_RECVTTL => CmsgFlags::TTL,
        IP_RECVTOS => CmsgFlags::TOS,
        IP_RECVOPTS => CmsgFlags::RECVOPTS,
        IP_RETOPTS => CmsgFlags::RETOPTS,
        IP_RECVORIGDSTADDR => CmsgFlags::ORIGDSTADDR,
        IP_RECVFRAGSIZE => CmsgFlags::RECVFRAGSIZE,
        _ => return None,
    })
}

/// The priority that a type of service stands for.
///
/// linux: net/ipv4/route.c:rt_tos2priority
fn rt_tos2priority(tos: u8) -> u32 {
    use uapi::pkt_sched::{
        TC_PRIO_BESTEFFORT, TC_PRIO_BULK, TC_PRIO_INTERACTIVE, TC_PRIO_INTERACTIVE_BULK,
    };
    // By the bits "low delay" and "high throughput" of RFC 1349.
    match tos >> 3 & 3 {
        0 => TC_PRIO_BESTEFFORT,
        1 => TC_PRIO_BULK,
        2 => TC_PRIO_INTERACTIVE,
        _ => TC_PRIO_INTERACTIVE_BULK,
    }
}

/// Reads an option of `SOL_IP`.
///
/// # Errors
/// ENOPROTOOPT for an option there is not; ENOTCONN for `IP_MTU` without a peer.
///
/// linux: net/ipv4/ip_sockglue.c:ip_getsockopt
pub(crate) fn ip_getsockopt(cx: &mut TaskCx, sk: &Arc<Sock>, name: i32) -> Result<i32, Errno> {
    if name == IP_MTU {
        return path_mtu(cx, sk);
    }
    let ttl = cx.machine().default_ttl();
    let state = sk.state();
    let inet = &state.inet;
    Ok(match name {
        IP_TOS => i32::from(inet.tos),
        IP_TTL => i32::from(inet.uc_ttl.unwrap_or(ttl)),
        IP_MULTICAST_TTL => i32::from(inet.mc_ttl),
        IP_MULTICAST_LOOP => i32::from(inet.mc_loop),
        IP_MULTICAST_ALL => i32::from(!state.rare().is_some_and(|rare| rare.mc.few)),
        _ if let Some(flag) = told_by(name) => i32::from(inet.cmsg_flags.contains(flag)),
        IP_FREEBIND => i32::from(inet.freebind),
        IP_HDRINCL => i32::from(inet.hdrincl),
        IP_BIND_ADDRESS_NO_PORT => i32::from(inet.bind_address_no_port),
        IP_RECVERR => i32::from(inet.recverr),
        IP_MTU_DISCOVER => inet.pmtudisc,
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

fn path_mtu(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<i32, Errno> {
    let flow = {
        let state = sk.state();
        if !state.inet.has_dst {
            return Err(Errno::ENOTCONN);
        }
        crate::net::ipv4::route::Flow4 {
            daddr: state.inet.daddr,
            saddr: state.inet.saddr,
            oif: state.opts.bound_dev_if,
            ..Default::default()
        }
    };
    cx.local_bh_disable(|bh| {
        let dst = crate::net::ipv4::route::ip_route_output_flow(bh, &flow)?;
        let mtu = dst.mtu as i32;
        bh.cpu.routes.give_back(dst);
        Ok(mtu)
    })
}

/// Puts an ICMP error into a socket's error queue: what it says, and of the packet it quotes what the socket's
/// program had sent.
///
/// linux: net/ipv4/ip_sockglue.c:ip_icmp_error
pub(crate) fn ip_icmp_error(
    cx: &BhCx<'_>,
    state: &mut SockState,
    error: &IcmpError<'_>,
    (errno, to): (Errno, SockaddrIn),
    payload: &[u8],
) {
    let ee = SockExtendedErr {
        ee_errno: errno.0 as u32,
        ee_origin: SO_EE_ORIGIN_ICMP,
        ee_type: error.type_,
        ee_code: error.code,
        ee_info: error.info,
        ..SockExtendedErr::default()
    };
    let packet = error.skb.network::<IpHdr>().map(|iph| ErrorPacket {
        ifindex: error.skb.dev.map_or(0, |dev| dev.0),
        daddr: iph.daddr.get(),
        ttl: iph.ttl,
        tos: iph.tos,
        options: IpOptionsTold::of(state.inet.cmsg_flags, error.skb),
    });
    let (payload, offender) = (payload.to_vec(), Some(error.offender));
    let mut report = SockError { payload, to, offender, packet, ..SockError::of_this_machine(ee) };
    if state.inet.cmsg_flags.intersects(CmsgFlags::TIMED) {
        report.stamp = Ktime(cx.m.ktime_get_real());
    }
    state.sock_queue_err(report);
}
