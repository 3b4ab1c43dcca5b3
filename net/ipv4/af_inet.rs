//! The IPv4 socket family: start of the protocols, and what every IPv4 socket's calls share.
//!
//! linux: net/ipv4/af_inet.c. Key types: [`ProtoOps`]. Contexts: boot; tasks.

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::machine::Machine;
use crate::kernel::softirq::{Softirq, open_softirq};
use crate::kernel::trace::events::Point;
use crate::net::core::dev::gro::{PacketOffload, dev_add_offload};
use crate::net::core::dev::rx::dev_add_pack_boot;
use crate::net::core::skbuff::{SkBuff, Skb, SkbList};
use crate::net::core::sock::{
    RCV_SHUTDOWN, SEND_SHUTDOWN, Sock, sk_recvmsg, sock_no_accept, sock_no_listen,
};
use crate::net::ipv4::arp::arp_packet_type;
use crate::net::ipv4::devinet::{devinet_ioctl, inet_addr_type};
use crate::net::ipv4::icmp::{icmp_err, icmp_rcv};
use crate::net::ipv4::igmp::{igmp_err, igmp_rcv};
use crate::net::ipv4::ip_input::ip_packet_type;
use crate::net::ipv4::ping::{is_ping, ping_init_sock};
use crate::net::ipv4::protocol::{NetProtocol, inet_add_offload, inet_add_protocol};
use crate::net::ipv4::raw::{raw_bind, raw_create};
use crate::net::ipv4::tcp::{TcpState, tcp_ioctl, tcp_poll};
use crate::net::ipv4::tcp_ipv4::{tcp_v4_err, tcp_v4_rcv};
use crate::net::ipv4::tcp_offload::TCPV4_OFFLOAD;
use crate::net::ipv4::tcp_output::tcp_tasklet_func;
use crate::net::ipv4::udp::{UDP_PROT, udp_err, udp_rcv};
use crate::net::ipv4::udp_offload::UDPV4_OFFLOAD;
use crate::net::socket::{RecvBatch, SendBatch, Sent, Socket, Wait, put_user};
use klib::checksum::csum_replace2;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::if_ether::ETH_P_IP;
use uapi::in_::SockaddrIn;
use uapi::ip::{IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP, IpHdr};
use uapi::rtnetlink::{RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST};
use uapi::socket::{
    AF_INET, AF_UNSPEC, SHUT_RD, SHUT_RDWR, SHUT_WR, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Sockaddr,
};
use uapi::sockios::{
    FIONREAD, SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFDSTADDR, SIOCGIFNETMASK, SIOCGIFPFLAGS, SIOCOUTQ,
    SIOCRTMSG,
};

mod stream;

pub(in crate::net::ipv4) use stream::tcp_sendmsg_fastopen;
use stream::{inet_accept, inet_listen, inet_stream_connect, tcp_v4_init_sock};

/// Starts IPv4: registers its transport protocols and packet types.
///
/// linux: net/ipv4/af_inet.c:inet_init
pub fn inet_init(m: &mut Machine) {
    m.boot_log(Point::inet_init);
    let protocols = [
        (IPPROTO_ICMP, NetProtocol::new(icmp_rcv, icmp_err)),
        (IPPROTO_TCP, NetProtocol::new(tcp_v4_rcv, tcp_v4_err).strict()),
        (IPPROTO_UDP, NetProtocol::new(udp_rcv, udp_err)),
        (IPPROTO_IGMP, NetProtocol::new(igmp_rcv, igmp_err)),
    ];
    for (number, handlers) in protocols {
        inet_add_protocol(m, number, handlers);
    }
    let memory = m.depot.cap();
    m.boot_tables(|t| Arc::make_mut(&mut t.net.sysctl).tcp.init_mem(memory));
    open_softirq(m, Softirq::Tasklet, tcp_tasklet_func);
    dev_add_pack_boot(m, arp_packet_type());
    dev_add_pack_boot(m, ip_packet_type());
    inet_add_offload(m, IPPROTO_TCP, TCPV4_OFFLOAD);
    inet_add_offload(m, IPPROTO_UDP, UDPV4_OFFLOAD);
    dev_add_offload(m, ip_packet_offload());
}

/// IPv4's part of GRO.
fn ip_packet_offload() -> PacketOffload {
    PacketOffload { kind: ETH_P_IP, gro_receive: inet_gro_receive, gro_complete: inet_gro_complete }
}

/// Asks the transport protocols which packets continue ones that GRO holds.
///
/// linux: net/ipv4/af_inet.c:inet_gro_receive
fn inet_gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList) {
    // Who holds nothing has nothing to do with one that comes alone; for the walk it is asked all the same.
    if list.len() >= 2 || cx.t.net.inet_gro_holds || list.walk_id.watched() {
        gro_receive(cx, list);
    }
}

// By itself, so that a single packet does not pay for what several take.
#[inline(never)]
fn gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, inet_gro_receive);
    match list.common(|skb| [protocol_of(skb)]) {
        Some([protocol]) => transport_gro_receive(cx, list, protocol),
        None => list.in_runs(cx, protocol_of, transport_gro_receive),
    }
}

/// What an IP header without options carries; no protocol's number for any other.
#[inline(always)]
fn protocol_of(skb: &SkBuff) -> u64 {
    let plain = skb.front::<IpHdr>().filter(|iph| iph.version_ihl == 0x45);
    plain.map_or(u64::MAX, |iph| u64::from(iph.protocol))
}

#[inline(always)]
fn transport_gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList, protocol: u64) {
    let t = cx.t;
    let protocol = u8::try_from(protocol).ok();
    if let Some(offload) = protocol.and_then(|protocol| t.net.inet_offloads.get(protocol)) {
        (offload.gro_receive)(cx, list);
    }
}

/// The length and sum of a packet into which others were merged, then what the transport protocol
/// has to put right.
///
/// linux: net/ipv4/af_inet.c:inet_gro_complete
fn inet_gro_complete(cx: &mut BhCx<'_>, skb: &mut Skb) {
    let t = cx.t;
    let len = skb.len();
    let Some(iph) = skb.front_mut::<IpHdr>() else { return };
    let Ok(len) = u16::try_from(len) else { return };
    let check = csum_replace2(iph.check.get(), iph.tot_len.get(), len);
    iph.tot_len.set(len);
    iph.check.set(check);
    if let Some(offload) = t.net.inet_offloads.get(iph.protocol) {
        (offload.gro_complete)(cx, skb);
    }
}

/// What a socket's calls do: the table between the file and the protocol.
///
/// linux: include/linux/net.h:proto_ops
pub struct ProtoOps {
    /// `bind`.
    pub bind: fn(&mut TaskCx, &Arc<Sock>, &[u8]) -> Result<(), Errno>,
    /// `connect`.
    pub connect: InetConnectFn,
    /// `getsockname` and `getpeername`.
    pub getname: fn(&Sock, Peer) -> Result<Sockaddr, Errno>,
    /// The poll mask.
    pub poll: fn(&Arc<Sock>) -> u32,
    /// `shutdown`.
    pub shutdown: fn(&mut TaskCx, &Arc<Sock>, i32) -> Result<(), Errno>,
    /// `listen`.
    pub listen: fn(&mut TaskCx, &Arc<Sock>, i32) -> Result<(), Errno>,
    /// `accept`: a connected socket.
    pub accept: InetAcceptFn,
    /// `sendmsg`, for one message or several.
    pub sendmsg:
        fn(&mut TaskCx, &Arc<Sock>, &SendBatch<'_>, &mut Wait) -> Poll<Result<Sent, Errno>>,
    /// `recvmsg`.
    pub recvmsg: InetRecvFn,
    /// `ioctl`; `None` leaves the request to others.
    pub ioctl: InetIoctlFn,
    /// `setsockopt` at the protocol's own level.
    pub setsockopt: fn(&mut TaskCx, &Arc<Sock>, i32, &[u8]) -> Result<(), Errno>,
    /// `getsockopt` there, into room for so many octets.
    pub getsockopt: fn(&mut TaskCx, &Arc<Sock>, i32, usize) -> Result<Vec<u8>, Errno>,
    /// `mmap`.
    pub mmap: fn(&Sock) -> Result<(), Errno>,
}

type InetConnectFn = fn(&mut TaskCx, &Arc<Sock>, &[u8], &mut Wait) -> Poll<Result<(), Errno>>;

type InetIoctlFn = fn(&mut TaskCx, &Arc<Sock>, u32, &mut [u8]) -> Option<Result<i32, Errno>>;

type InetAcceptFn = fn(&mut TaskCx, &Arc<Sock>, &mut Wait) -> Poll<Result<Socket, Errno>>;
type InetRecvFn =
    fn(&mut TaskCx, &Arc<Sock>, &mut RecvBatch<'_, '_>, &mut Wait) -> Poll<Result<(), Errno>>;

/// Whose name `getname` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This end's.
    No,
    /// The other's.
    Yes,
    /// The other's, of a connection that was accepted just now: it may be over already.
    Accepted,
}

/// Datagram sockets.
///
/// linux: net/ipv4/af_inet.c:inet_dgram_ops
pub static INET_DGRAM_OPS: ProtoOps = ProtoOps {
    bind: inet_bind,
    connect: inet_dgram_connect,
    getname: inet_getname,
    poll: |sk| sk.datagram_poll(),
    shutdown: inet_shutdown,
    listen: sock_no_listen,
    accept: sock_no_accept,
    sendmsg: inet_sendmsg,
    recvmsg: inet_recvmsg,
    ioctl: inet_ioctl,
    setsockopt: sock_common_setsockopt,
    getsockopt: sock_common_getsockopt,
    mmap: sock_no_mmap,
};

/// Stream sockets.
///
/// linux: net/ipv4/af_inet.c:inet_stream_ops
pub static INET_STREAM_OPS: ProtoOps = ProtoOps {
    bind: inet_bind,
    connect: inet_stream_connect,
    getname: inet_getname,
    poll: tcp_poll,
    shutdown: inet_shutdown,
    listen: inet_listen,
    accept: inet_accept,
    sendmsg: inet_sendmsg,
    recvmsg: inet_recvmsg,
    ioctl: inet_ioctl,
    setsockopt: sock_common_setsockopt,
    getsockopt: sock_common_getsockopt,
    mmap: sock_no_mmap,
};

/// What the protocol does with an option of its own.
///
/// linux: net/core/sock.c:sock_common_setsockopt
fn sock_common_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    (sk.sk_prot.setsockopt)(cx, sk, name, value)
}

/// linux: net/core/sock.c:sock_common_getsockopt
fn sock_common_getsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    room: usize,
) -> Result<Vec<u8>, Errno> {
    (sk.sk_prot.getsockopt)(cx, sk, name, room)
}

/// linux: net/core/sock.c:sock_no_mmap
pub(in crate::net) fn sock_no_mmap(_: &Sock) -> Result<(), Errno> {
    Err(Errno::ENODEV)
}

/// IP protocols as sockets number them end before: the last is MPTCP, 262.
const IPPROTO_MAX: i32 = 263;

/// A new IPv4 socket.
///
/// # Errors
/// EINVAL for a protocol out of range; ESOCKTNOSUPPORT and EPROTONOSUPPORT for what there is not.
///
/// linux: net/ipv4/af_inet.c:inet_create
pub fn inet_create(
    cx: &mut TaskCx,
    kind: i32,
    protocol: i32,
) -> Result<(Arc<Sock>, &'static ProtoOps), Errno> {
    if !(0..IPPROTO_MAX).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    match (kind, protocol) {
        (SOCK_STREAM, p) if p == 0 || p == i32::from(IPPROTO_TCP) => {
            Ok((tcp_v4_init_sock(cx), &INET_STREAM_OPS))
        }
        (SOCK_STREAM, _) => Err(Errno::EPROTONOSUPPORT),
        (SOCK_DGRAM, 0) => Ok((Sock::new(cx, &UDP_PROT), &INET_DGRAM_OPS)),
        (SOCK_DGRAM, p) if p == i32::from(IPPROTO_UDP) => {
            Ok((Sock::new(cx, &UDP_PROT), &INET_DGRAM_OPS))
        }
        (SOCK_DGRAM, p) if p == i32::from(IPPROTO_ICMP) => {
            Ok((ping_init_sock(cx)?, &INET_DGRAM_OPS))
        }
        (SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        // A raw socket of no protocol would see none.
        (SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
        // What calls on one do is as for datagrams (`inet_sockraw_ops`).
        (SOCK_RAW, p) => Ok((raw_create(cx, p as u16), &INET_DGRAM_OPS)),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Binds to an address and a port.
///
/// # Errors
/// EINVAL for a short address or a socket that has a port; EAFNOSUPPORT; EADDRNOTAVAIL for an
/// address that is not ours; EADDRINUSE.
///
/// linux: net/ipv4/af_inet.c:inet_bind
fn inet_bind(cx: &mut TaskCx, sk: &Arc<Sock>, name: &[u8]) -> Result<(), Errno> {
    walk!(cx, inet_bind);
    if sk.sk_type() == SOCK_RAW {
        return raw_bind(cx, sk, name);
    }
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    // Linux lets AF_UNSPEC pass with INADDR_ANY, for old programs.
    let unspec_any = family == Some(AF_UNSPEC as u16) && name.get(4..8) == Some(&[0; 4]);
    let addr = if unspec_any && name.len() >= 16 {
        SockaddrIn::new(0, u16::from_be_bytes([name[2], name[3]]))
    } else {
        SockaddrIn::from_bytes(name)?
    };
    let t = cx.tables();
    let kind = inet_addr_type(&t, addr.addr);
    let free = sk.state().inet.freebind || t.net.sysctl.ip_nonlocal_bind;
    if !free && addr.addr != 0 && !matches!(kind, RTN_LOCAL | RTN_MULTICAST | RTN_BROADCAST) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let many = matches!(kind, RTN_MULTICAST | RTN_BROADCAST);
    if many && addr.addr != 0 && is_ping(sk) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    {
        let mut state = sk.state();
        if state.inet.num != 0 {
            return Err(Errno::EINVAL);
        }
        state.inet.rcv_saddr = addr.addr;
        // A group or broadcast is no address to send from.
        state.inet.saddr = if many { 0 } else { addr.addr };
    }
    let no_port = addr.port == 0 && sk.state().inet.bind_address_no_port;
    if !no_port && let Err(error) = (sk.sk_prot.get_port)(cx, sk, addr.port) {
        let mut state = sk.state();
        state.inet.saddr = 0;
        state.inet.rcv_saddr = 0;
        return Err(error);
    }
    let mut state = sk.state();
    state.inet.addr_bound = addr.addr != 0;
    state.inet.port_bound = addr.port != 0;
    Ok(())
}

/// Takes any port, if the socket has none.
///
/// linux: net/ipv4/af_inet.c:inet_autobind
#[inline]
fn inet_autobind(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    if sk.inet_num() != 0 {
        return Ok(());
    }
    (sk.sk_prot.get_port)(cx, sk, 0).map_err(|_| Errno::EAGAIN)
}

/// Fixes the peer of a datagram socket; `AF_UNSPEC` frees it.
///
/// linux: net/ipv4/af_inet.c:inet_dgram_connect
fn inet_dgram_connect(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: &[u8],
    _: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, inet_dgram_connect);
    Poll::Ready(dgram_connect(cx, sk, name))
}

fn dgram_connect(cx: &mut TaskCx, sk: &Arc<Sock>, name: &[u8]) -> Result<(), Errno> {
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    match family {
        None => return Err(Errno::EINVAL),
        Some(family) if family == AF_UNSPEC as u16 => return (sk.sk_prot.disconnect)(cx, sk),
        Some(_) => (),
    }
    // Takes a port even if the address turns out to be bad.
    inet_autobind(cx, sk)?;
    let to = SockaddrIn::from_bytes(name)?;
    (sk.sk_prot.connect)(cx, sk, to)
}

/// linux: net/ipv4/af_inet.c:inet_getname
fn inet_getname(sk: &Sock, peer: Peer) -> Result<Sockaddr, Errno> {
    let state = sk.state();
    let inet = &state.inet;
    // A stream's peer is told while there is a connection, or one begins.
    let unconnected = state.tcp.as_ref().is_some_and(|tp| {
        matches!(tp.state, TcpState::Close | TcpState::SynSent) && peer == Peer::Yes
    });
    match peer {
        Peer::Yes | Peer::Accepted if inet.dport == 0 || unconnected => Err(Errno::ENOTCONN),
        Peer::Yes | Peer::Accepted => Ok(Sockaddr::In(SockaddrIn::new(inet.daddr, inet.dport))),
        Peer::No => {
            let addr = if inet.rcv_saddr != 0 { inet.rcv_saddr } else { inet.saddr };
            Ok(Sockaddr::In(SockaddrIn::new(addr, inet.sport)))
        }
    }
}

/// Half-closes: readers and pollers see it at once. A datagram socket must have a peer, but is
/// shut down all the same, as in Linux.
///
/// linux: net/ipv4/af_inet.c:inet_shutdown
fn inet_shutdown(cx: &mut TaskCx, sk: &Arc<Sock>, how: i32) -> Result<(), Errno> {
    let ways = match how {
        SHUT_RD => RCV_SHUTDOWN,
        SHUT_WR => SEND_SHUTDOWN,
        SHUT_RDWR => RCV_SHUTDOWN | SEND_SHUTDOWN,
        _ => return Err(Errno::EINVAL),
    };
    if sk.sk_prot.kind.0 == SOCK_STREAM {
        return stream::shutdown(cx, sk, ways);
    }
    cx.local_bh_disable(|bh| {
        let mut state = sk.state();
        let connected = state.inet.daddr != 0 || state.inet.dport != 0;
        state.shutdown |= ways;
        state.wake_up_all(bh, u32::MAX);
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    })
}

/// `FIONREAD`: bytes of the next datagram; `SIOCOUTQ`: bytes on their way out; and the addresses of
/// devices.
///
/// linux: net/ipv4/af_inet.c:inet_ioctl
pub(in crate::net) fn inet_ioctl(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    request: u32,
    arg: &mut [u8],
) -> Option<Result<i32, Errno>> {
    if sk.sk_prot.kind.0 == SOCK_STREAM
        && let Some(answer) = tcp_ioctl(cx, sk, request, arg)
    {
        return Some(answer);
    }
    Some(match request {
        FIONREAD => {
            let next = sk.state().receive_queue.skb_peek().map_or(0, |skb| skb.len());
            put_user(arg, &(next as i32).to_ne_bytes())
        }
        SIOCOUTQ => put_user(arg, &(sk.wmem_alloc() as i32).to_ne_bytes()),
        SIOCRTMSG => Err(Errno::EINVAL),
        SIOCGIFADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK | SIOCGIFDSTADDR | SIOCGIFPFLAGS => {
            devinet_ioctl(cx, request, arg)
        }
        _ => return None,
    })
}

/// Sends, after taking a port if the socket has none.
///
/// linux: net/ipv4/af_inet.c:inet_sendmsg
#[inline(always)]
fn inet_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, inet_sendmsg);
    // A stream gets its port when it connects.
    if sk.sk_prot.kind.0 != SOCK_STREAM
        && let Err(error) = inet_autobind(cx, sk)
    {
        return Poll::Ready(Err(error));
    }
    (sk.sk_prot.sendmsg)(cx, sk, batch, wait)
}

/// Receives.
///
/// linux: net/ipv4/af_inet.c:inet_recvmsg
#[inline(always)]
fn inet_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, inet_recvmsg);
    sk_recvmsg(cx, sk, batch, wait)
}

/// The family's number, for those who ask a socket.
pub const FAMILY: i32 = AF_INET;
