//! TCP over IPv4: segments from IP to their socket, what answers without one, ICMP errors, connecting.
//!
//! linux: net/ipv4/tcp_ipv4.c. Key types: [`InetConnectionSockAfOps`]. Parts: `reply` (segments that no
//! socket sends), `err` (ICMP). Contexts: BH; connecting by tasks. Locks: `class::Sock`, taken once for the
//! segments of a list that are one connection's.

mod err;
mod reply;

pub(crate) use err::{tcp_v4_err, tcp_v4_mtu_reduced};
pub(crate) use reply::{
    tcp_v4_reqsk_send_ack, tcp_v4_send_reset, tcp_v4_send_synack, tcp_v4_send_synack_by,
    tcp_v4_timewait_ack,
};

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::tx::Lost;
use crate::net::core::filter::{BpfProg, SkbFrom};
use crate::net::core::secure_seq::{TcpTuple, secure_tcp_seq, secure_tcp_ts_off};
use crate::net::core::skbuff::{Cb, IpSummed, PktType, Skb, SkbList, kfree_skb};
use crate::net::core::sock::{Sock, SockLocked, SockState};
use crate::net::ipv4::inet_connection_sock::{RequestSock, inet_csk_clear_xmit_timers};
use crate::net::ipv4::inet_hashtables::{
    CmsgFlags, EhashEntry, InetTuple, ListenFlow, inet_hash_connect,
};
use crate::net::ipv4::inet_timewait_sock::{InetTimewaitSock, inet_twsk_kill};
use crate::net::ipv4::ip_input::skb_checksum_validate;
use crate::net::ipv4::ip_output::ip_queue_xmit;
use crate::net::ipv4::protocol::{ports, same_ports};
use crate::net::ipv4::route::{Flow4, RTO_ONLINK, ip_route_output_flow};
use crate::net::ipv4::tcp::{SeqNr, TcpSk, TcpSkbCb, TcpState, tcp_set_state};
use crate::net::ipv4::tcp_fastopen::{
    FastopenReq, Tfo, tcp_fastopen_active_disable_ofo_check, tcp_fastopen_defer_connect,
};
use crate::net::ipv4::tcp_input::{
    Segment, tcp_rcv_established, tcp_rcv_listen, tcp_rcv_state_process,
};
use crate::net::ipv4::tcp_md5sig::{tcp_inbound_hash, tcp_inbound_md5_hash};
use crate::net::ipv4::tcp_minisocks::{
    TcpTw, tcp_check_req, tcp_child_process, tcp_timewait_state_process,
};
use crate::net::ipv4::tcp_output::{tcp_connect, tcp_purge_queues};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::ip::{INET_DSCP_MASK, IPPROTO_TCP, IpHdr};
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::{TCPHDR_FIN, TCPHDR_SYN, TcpHdr};
use zerocopy::{FromBytes, IntoBytes};

/// What TCP asks of the network protocol below it.
///
/// linux: include/net/inet_connection_sock.h:inet_connection_sock_af_ops
#[derive(Debug)]
pub struct InetConnectionSockAfOps {
    /// Sends segments. Context: BH, under the socket's lock.
    pub queue_xmit: fn(&mut BhCx<'_>, &mut TcpSk<'_>, &mut SkbList) -> Lost,
    /// Fills in a segment's checksum, or leaves that to the device.
    pub send_check: fn(&mut Skb, CsumBy, (u32, u32)),
    /// Octets of a header without options.
    pub net_header_len: u16,
}

/// Who fills in a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsumBy {
    /// The device.
    Device,
    /// We do.
    Software,
}

/// IPv4.
///
/// linux: net/ipv4/tcp_ipv4.c:ipv4_specific
pub static IPV4_SPECIFIC: InetConnectionSockAfOps = InetConnectionSockAfOps {
    queue_xmit: ip_queue_xmit,
    send_check: tcp_v4_send_check,
    net_header_len: size_of::<IpHdr>() as u16,
};

/// Fills in the checksum of a segment whose data begins with the TCP header; `addrs`: source and destination.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_send_check
fn tcp_v4_send_check(skb: &mut Skb, by: CsumBy, (saddr, daddr): (u32, u32)) {
    const CHECK: usize = std::mem::offset_of!(TcpHdr, check);
    let pseudo = csum_tcpudp_nofold(saddr, daddr, skb.len() as u32, IPPROTO_TCP, 0);
    let check = match by {
        CsumBy::Device => !csum_fold(pseudo),
        CsumBy::Software => csum_fold(skb.skb_checksum(0, pseudo)),
    };
    if by == CsumBy::Device {
        skb.ip_summed = IpSummed::Partial;
        skb.csum_start = skb.transport_header;
        skb.csum_offset = CHECK as u16;
    }
    if let Some(th) = skb.front_mut::<TcpHdr>() {
        th.check.set(check);
    }
}

/// Receives segments for this machine: checks them, finds their connection and gives them to it, now or by
/// the backlog.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_rcv
pub(crate) fn tcp_v4_rcv(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, tcp_v4_rcv);
    if list.dst.as_ref().is_some_and(|dst| dst.to_many) {
        list.pass(cx, |_, _| Err(DropReason::NotSpecified));
        return;
    }
    let same = same_ports(cx, list, check, bad_segment);
    cx.cpu.mib.add(TcpMib::InSegs.into(), list.len() as u64);
    match same {
        Some(ports) => tcp_v4_rcv_flow(cx, list, ports),
        None => list.in_runs(cx, ports, tcp_v4_rcv_flow),
    }
}

#[cold]
fn bad_segment(cx: &mut BhCx<'_>, skb: Skb, reason: DropReason) {
    cx.count(TcpMib::InSegs);
    if reason == DropReason::TcpCsum {
        cx.count(TcpMib::InCsumErrors);
    }
    cx.count(TcpMib::InErrs);
    kfree_skb(cx, skb, reason);
}

/// Checks lengths and checksum, pulls the IP header, and notes what the header says. The ports, the source's
/// in the upper half.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_fill_cb
#[inline(always)]
fn check(skb: &mut Skb, ihl: usize) -> Result<u32, DropReason> {
    const FIXED: usize = size_of::<TcpHdr>();
    if skb.pkt_type != PktType::Host {
        return Err(DropReason::OtherHost);
    }
    if !skb.pskb_may_pull(ihl + FIXED) {
        return Err(DropReason::HdrTrunc);
    }
    let tos = skb.data()[1];
    let Some(th) = skb
        .data()
        .get(ihl..ihl + FIXED)
        .and_then(|bytes| zerocopy::FromBytes::read_from_bytes(bytes).ok())
    else {
        return Err(DropReason::HdrTrunc);
    };
    let th: TcpHdr = th;
    let doff = th.doff();
    if doff < FIXED || !skb.pskb_may_pull(ihl + doff) {
        return Err(DropReason::PktTooSmall);
    }
    if !skb_checksum_validate(skb, ihl, IPPROTO_TCP) {
        return Err(DropReason::TcpCsum);
    }
    let payload = (skb.len() - ihl - doff) as u32;
    let seq = SeqNr(th.seq.get());
    let flags = u32::from(th.has(TCPHDR_SYN)) + u32::from(th.has(TCPHDR_FIN));
    skb.cb = Cb::Tcp(TcpSkbCb {
        seq,
        end_seq: seq + payload + flags,
        ack_seq: SeqNr(th.ack_seq.get()),
        tcp_flags: th.flags,
        ip_dsfield: tos,
        ..TcpSkbCb::NONE
    });
    if !skb.skb_pull(ihl) {
        return Err(DropReason::HdrTrunc);
    }
    Ok(u32::from(th.source.get()) << 16 | u32::from(th.dest.get()))
}

/// Segments of one flow.
#[inline(always)]
fn tcp_v4_rcv_flow(cx: &mut BhCx<'_>, list: &mut SkbList, ports: u32) {
    let addrs = list.way.addrs();
    let tuple = InetTuple {
        laddr: addrs as u32,
        raddr: (addrs >> 32) as u32,
        lport: ports as u16,
        rport: (ports >> 16) as u16,
        dev: list.way.iif(),
    };
    while !list.is_empty() {
        match cx.t.ns.tcp.hashinfo.ehash.lookup(&tuple) {
            Some(EhashEntry::Sock(sk)) => tcp_v4_rcv_sock(cx, &sk, list),
            Some(EhashEntry::TimeWait(tw)) => {
                let Some(skb) = list.pop_front() else { return };
                tcp_v4_rcv_timewait(cx, &tw, skb, &tuple);
            }
            Some(EhashEntry::Request(req)) => {
                let Some(skb) = list.pop_front() else { return };
                tcp_v4_rcv_request(cx, &req, skb);
            }
            None => {
                let Some(skb) = list.pop_front() else { return };
                tcp_v4_rcv_listen(cx, skb, &tuple);
            }
        }
    }
}

/// Segments of a connection that has a socket: they are worked off here, or by whoever owns it.
#[inline]
fn tcp_v4_rcv_sock(cx: &mut BhCx<'_>, sk: &Arc<Sock>, list: &mut SkbList) {
    let mut locked = sk.state();
    if locked.inet.cmsg_flags.contains(CmsgFlags::FILTERED) {
        tcp_filter_list(cx, &locked, list);
    }
    if locked.sock_owned_by_user() || locked.dead {
        return not_now(cx, sk, &mut locked, list);
    }
    sk.mark_flow(cx, &mut locked, list);
    list.hand_over(|skb| {
        // The one before it may have ended the connection: then this one is looked up again.
        if locked.tcp.as_ref().is_some_and(|tp| !tp.hashed) {
            return Err(skb);
        }
        tcp_v4_do_rcv(cx, sk, &mut locked, skb);
        Ok(())
    });
}

/// What a connection's filter wants nothing of ends here.
#[cold]
#[inline(never)]
fn tcp_filter_list(cx: &mut BhCx<'_>, state: &SockState, list: &mut SkbList) {
    if let Some(program) = state.filter() {
        list.pass(cx, |cx, skb| tcp_filter(cx, program, skb));
    }
}

/// A segment keeps its header whole; its end moves to where its data now ends.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_filter
pub(crate) fn tcp_filter(
    cx: &mut BhCx<'_>,
    program: &BpfProg,
    skb: &mut Skb,
) -> Result<(), DropReason> {
    let Some(doff) = skb.front::<TcpHdr>().map(TcpHdr::doff) else {
        return Err(DropReason::HdrTrunc);
    };
    let before = skb.len();
    program.sk_filter_trim_cap(cx, skb, (SkbFrom::Data, doff))?;
    let cut = (before - skb.len()) as u32;
    if let Cb::Tcp(cb) = &mut skb.cb {
        cb.end_seq -= cut;
    }
    Ok(())
}

/// For a socket that a task owns, or that a panic has killed.
#[cold]
#[inline(never)]
fn not_now(cx: &mut BhCx<'_>, sk: &Arc<Sock>, locked: &mut SockLocked, list: &mut SkbList) {
    if locked.dead {
        list.pass(cx, |_, _| Err(DropReason::SocketClose));
        return;
    }
    // What the owner has to read may lie here, and what he sent is acknowledged by it, beside. The buffer counts
    // twice: small segments within the window may need more than it has, until he packs them closer.
    let limit = 2 * locked.opts.rcvbuf as usize + sk.sndbuf() / 2 + (64 << 10);
    list.hand_over(|skb| locked.sk_add_backlog(cx, skb, limit));
    if !list.is_empty() {
        cx.cpu.mib.add(LinuxMib::TCPBacklogDrop.into(), list.len() as u64);
        list.pass(cx, |_, _| Err(DropReason::SocketBacklog));
    }
}

/// A segment of a connection, under its lock.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_do_rcv
pub(crate) fn tcp_v4_do_rcv(cx: &mut BhCx<'_>, sk: &Arc<Sock>, locked: &mut SockLocked, skb: Skb) {
    walk!(cx, skb, tcp_v4_do_rcv);
    let Some(mut sk) = TcpSk::of(sk, locked) else {
        return kfree_skb(cx, skb, DropReason::NotSpecified);
    };
    let Ok((th, rest)) = TcpHdr::ref_from_prefix(skb.data()) else {
        return kfree_skb(cx, skb, DropReason::HdrTrunc);
    };
    let seg = Segment::behind(th, rest, &skb);
    if sk.tp.state == TcpState::Established {
        return tcp_rcv_established(cx, &mut sk, skb, &seg);
    }
    if sk.tp.md5 | seg.opts.md5
        && let Err(reason) = tcp_inbound_hash(cx, sk.st, &skb)
    {
        return kfree_skb(cx, skb, reason);
    }
    tcp_rcv_state_process(cx, &mut sk, skb, &seg);
}

/// A segment for nobody that has it: a listener's, or to be reset.
fn tcp_v4_rcv_listen(cx: &mut BhCx<'_>, skb: Skb, tuple: &InetTuple) {
    match lookup_listener(cx, tuple) {
        Some(listener) => {
            walk!(cx, skb, tcp_v4_do_rcv);
            tcp_rcv_listen(cx, &listener, skb, tuple);
        }
        None => no_tcp_socket(cx, skb),
    }
}

fn lookup_listener(cx: &BhCx<'_>, tuple: &InetTuple) -> Option<Arc<Sock>> {
    let flow = ListenFlow {
        saddr: tuple.raddr,
        daddr: tuple.laddr,
        sport: tuple.rport,
        dport: tuple.lport,
        dif: tuple.dev,
    };
    cx.t.ns.tcp.hashinfo.lhash.lookup(&flow, cx.cpu.id)
}

#[cold]
fn no_tcp_socket(cx: &mut BhCx<'_>, skb: Skb) {
    tcp_v4_send_reset(cx, &skb, None);
    kfree_skb(cx, skb, DropReason::NoSocket);
}

/// A segment of a connection that is only asked for yet.
fn tcp_v4_rcv_request(cx: &mut BhCx<'_>, req: &Arc<RequestSock>, mut skb: Skb) {
    if let Some(program) = &req.filter
        && let Err(reason) = tcp_filter(cx, program, &mut skb)
    {
        return kfree_skb(cx, skb, reason);
    }
    if let Err(reason) = tcp_inbound_md5_hash(cx, req.md5_key.as_deref(), &skb) {
        return kfree_skb(cx, skb, reason);
    }
    if let Some((child, skb)) = tcp_check_req(cx, req, skb) {
        tcp_child_process(cx, req, &child, skb);
    }
}

/// A segment of a connection that is over.
fn tcp_v4_rcv_timewait(cx: &mut BhCx<'_>, tw: &Arc<InetTimewaitSock>, skb: Skb, tuple: &InetTuple) {
    match tcp_timewait_state_process(cx, tw, &skb) {
        TcpTw::Syn(isn) => {
            if let Some(listener) = lookup_listener(cx, tuple) {
                inet_twsk_kill(cx, tw);
                let isn = Some(isn);
                walk!(cx, skb, tcp_v4_do_rcv);
                return crate::net::ipv4::tcp_input::tcp_rcv_listen_at(
                    cx,
                    &listener,
                    skb,
                    (tuple, isn),
                );
            }
            tcp_v4_timewait_ack(cx, tw, &skb);
            kfree_skb(cx, skb, DropReason::TcpTimewait);
        }
        TcpTw::Ack => {
            tcp_v4_timewait_ack(cx, tw, &skb);
            kfree_skb(cx, skb, DropReason::TcpTimewait);
        }
        TcpTw::Rst => {
            tcp_v4_send_reset(cx, &skb, None);
            inet_twsk_kill(cx, tw);
            kfree_skb(cx, skb, DropReason::TcpTimewait);
        }
        TcpTw::Success => crate::net::core::skbuff::consume_skb(cx, skb),
    }
}

/// The way of a socket's segments.
pub(crate) fn flow_of(sk: &TcpSk<'_>) -> Flow4 {
    let (inet, opts) = (&sk.st.inet, &sk.st.opts);
    Flow4 {
        daddr: sk.st.first_hop(inet.daddr),
        saddr: inet.saddr,
        oif: opts.bound_dev_if,
        tos: inet.tos & INET_DSCP_MASK | if opts.localroute { RTO_ONLINK } else { 0 },
        mark: opts.mark,
        ..Flow4::default()
    }
}

/// Where packets go first whose end is `daddr`: a source route needs one.
fn first_hop(sk: &TcpSk<'_>, daddr: u32) -> Result<u32, Errno> {
    match sk.st.inet_opt() {
        Some(opt) if opt.opt.srr != 0 && daddr == 0 => Err(Errno::EINVAL),
        Some(opt) => Ok(opt.first_hop(daddr)),
        None => Ok(daddr),
    }
}

/// Begins to connect: an address and a port of our own, a place in the tables, a SYN. Context: task, which
/// owns the socket.
///
/// # Errors
/// ENETUNREACH for a group or broadcast; EADDRNOTAVAIL without a free port; those of routing.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_connect
pub(crate) fn tcp_v4_connect(cx: &mut TaskCx, sk: &Arc<Sock>, to: SockaddrIn) -> Result<(), Errno> {
    tcp_v4_connect_with(cx, sk, to, None)
}

/// The same, with data for the SYN (`MSG_FASTOPEN`).
pub(crate) fn tcp_v4_connect_with(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    to: SockaddrIn,
    req: Option<&mut FastopenReq<'_>>,
) -> Result<(), Errno> {
    walk!(cx, tcp_v4_connect);
    cx.local_bh_disable(|bh| {
        let mut locked = sk.state();
        let mut sk = TcpSk::of(sk, &mut locked).ok_or(Errno::EOPNOTSUPP)?;
        begin_to_connect(bh, &mut sk, to, req)
    })
}

fn begin_to_connect(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    to: SockaddrIn,
    req: Option<&mut FastopenReq<'_>>,
) -> Result<(), Errno> {
    let flow = Flow4 { daddr: first_hop(sk, to.addr)?, ..flow_of(sk) };
    let dst = ip_route_output_flow(cx, &flow).inspect_err(|error| {
        if *error == Errno::ENETUNREACH {
            cx.count(uapi::snmp::IpMib::OutNoRoutes);
        }
    })?;
    if dst.to_many {
        cx.cpu.routes.give_back(dst);
        return Err(Errno::ENETUNREACH);
    }
    // To nobody in particular means to this machine.
    let daddr = if to.addr == 0 { dst.saddr } else { to.addr };
    let inet = &mut sk.st.inet;
    if inet.saddr == 0 {
        inet.saddr = dst.saddr;
    }
    let saddr = inet.saddr;
    inet.rcv_saddr = saddr;
    if let Some(node) = &sk.tp.bind {
        let attrs =
            crate::net::ipv4::inet_hashtables::BindAttrs { rcv_saddr: saddr, ..node.attrs() };
        node.set(attrs);
    }
    if sk.tp.rx_opt.ts_recent_stamp != 0 && inet.daddr != daddr {
        // What the last peer said is none of this one's.
        sk.tp.rx_opt.ts_recent = 0;
        sk.tp.rx_opt.ts_recent_stamp = 0;
        sk.tp.write_seq = SeqNr(0);
    }
    (inet.daddr, inet.dport, inet.has_dst) = (daddr, to.port, true);
    sk.tp.ext_hdr_len = sk.st.inet_opt().map_or(0, |opt| opt.opt.optlen);
    sk.tp.rx_opt.mss_clamp = uapi::tcp::TCP_MSS_DEFAULT;
    sk.tp.dst = Some(dst);
    tcp_set_state(cx, sk, TcpState::SynSent);
    let connected = inet_hash_connect(cx, sk).and_then(|()| {
        let tuple = TcpTuple {
            saddr: saddr.into(),
            sport: sk.st.inet.num,
            daddr: daddr.into(),
            dport: to.port,
        };
        let now = cx.now();
        let secrets = &cx.t.ns.tcp;
        if sk.tp.write_seq == SeqNr(0) {
            sk.tp.write_seq = SeqNr(secure_tcp_seq(&secrets.seq_key, &tuple, now));
        }
        sk.tp.tsoffset = if cx.t.net.sysctl.tcp.timestamps == 1 {
            secure_tcp_ts_off(&secrets.ts_key, tuple.saddr, tuple.daddr)
        } else {
            0
        };
        if tcp_fastopen_defer_connect(cx, sk) {
            return Ok(());
        }
        let mut asks = FastopenReq::default();
        let connects = sk.tp.tfo(Tfo::CONNECT);
        tcp_connect(cx, sk, req.or(connects.then_some(&mut asks)))
    });
    if connected.is_err() {
        connect_failed(cx, sk);
    }
    connected
}

/// Nothing left: the socket is as before. The port is kept if it was bound.
pub(crate) fn connect_failed(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    tcp_set_state(cx, sk, TcpState::Close);
    if !sk.st.inet.addr_bound {
        (sk.st.inet.saddr, sk.st.inet.rcv_saddr) = (0, 0);
    }
    sk.tp.dst = None;
    sk.st.inet.dport = 0;
}

/// A socket's end: timers, queues, memory.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_destroy_sock
pub(crate) fn tcp_v4_destroy_sock(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    inet_csk_clear_xmit_timers(cx, sk);
    tcp_fastopen_active_disable_ofo_check(cx, sk);
    tcp_purge_queues(cx, sk);
    sk.tp.dst = None;
    debug_assert_eq!(sk.tp.forward_alloc, 0, "what its queues held is given back");
    sk.sk.net.tcp.memory.sockets.fetch_sub(1, Ordering::Relaxed);
}

/// The checksum of a header with its options that no packet has yet.
pub(super) fn header_sum(th: &TcpHdr, options: &[u8], (saddr, daddr): (u32, u32)) -> u16 {
    let len = (size_of::<TcpHdr>() + options.len()) as u32;
    let pseudo = csum_tcpudp_nofold(saddr, daddr, len, IPPROTO_TCP, 0);
    csum_fold(csum_partial(options, csum_partial(th.as_bytes(), pseudo)))
}
