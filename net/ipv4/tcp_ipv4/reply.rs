//! Segments that no socket sends: resets, acknowledgements of what is over, SYN-ACKs. Context: BH.
//!
//! linux: net/ipv4/tcp_ipv4.c, net/ipv4/ip_output.c (`ip_send_unicast_reply`, `ip_build_and_send_pkt`).

use super::{header_sum, lookup_listener};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::dst::Dst;
use crate::net::core::skbuff::SkBuff;
use crate::net::ipv4::inet_connection_sock::RequestSock;
use crate::net::ipv4::inet_hashtables::InetTuple;
use crate::net::ipv4::inet_timewait_sock::InetTimewaitSock;
use crate::net::ipv4::ip_options::{IpOptionsRcu, IpTarget, ip_options_reply, with_options};
use crate::net::ipv4::ip_output::{IpMakeSkb, ip_make_skb, ip_send_skb};
use crate::net::ipv4::route::{Flow4, ip_route_output_flow};
use crate::net::ipv4::tcp::{SeqNr, TcpSk, tcp_clock_ms};
use crate::net::ipv4::tcp_fastopen::TcpFastopenCookie;
use crate::net::ipv4::tcp_md5sig::{TcpMd5sigKey, key_of_stranger};
use crate::net::ipv4::tcp_output::{TcpOutOptions, tcp_synack_options};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::ip::{INET_DSCP_MASK, INET_ECN_MASK, IP_DF, IPPROTO_TCP, IpHdr};
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_ECE, TCPHDR_RST, TCPHDR_SYN, TcpHdr};

/// A segment that no socket sends.
#[derive(Clone, Debug, Default)]
struct Reply {
    flow: Flow4,
    tos: u8,
    sport: u16,
    dport: u16,
    seq: SeqNr,
    ack: SeqNr,
    flags: u8,
    window: u16,
    /// Options of the packet.
    opt: Option<Arc<IpOptionsRcu>>,
}

impl Reply {
    /// The flow of the packet, which goes to the first hop of its options.
    fn way(&self) -> Flow4 {
        let daddr = self.opt.as_ref().map_or(self.flow.daddr, |opt| opt.first_hop(self.flow.daddr));
        Flow4 { daddr, ..self.flow }
    }
}

/// Sends a segment by a way that was found for it.
fn send(
    cx: &mut BhCx<'_>,
    reply: &Reply,
    dst: Arc<Dst>,
    (options, key): (&TcpOutOptions, Option<&TcpMd5sigKey>),
) -> Result<(), Errno> {
    let mut bytes = [0_u8; 40];
    let len = options.write(&mut bytes).len();
    let flow = &reply.flow;
    let mut th = TcpHdr {
        source: reply.sport.into(),
        dest: reply.dport.into(),
        seq: reply.seq.0.into(),
        ack_seq: reply.ack.0.into(),
        doff_res: (((size_of::<TcpHdr>() + len) / 4) << 4) as u8,
        flags: reply.flags,
        window: reply.window.into(),
        check: 0.into(),
        urg_ptr: 0.into(),
    };
    if let Some(key) = key {
        let whole = size_of::<TcpHdr>() + len;
        let signature = key.sign((flow.saddr, flow.daddr), &th, whole, std::iter::empty());
        bytes[4..20].copy_from_slice(&signature);
    }
    let options = &bytes[..len];
    th.check.set(header_sum(&th, options, (flow.saddr, flow.daddr)));
    let iph = IpHdr {
        tos: reply.tos,
        ttl: cx.t.net.sysctl.ip_default_ttl,
        frag_off: IP_DF.into(),
        ..IpMakeSkb::<TcpHdr>::header(flow.saddr, reply.way().daddr, IPPROTO_TCP)
    };
    let mut make = IpMakeSkb::default();
    let own = reply.opt.as_ref().map_or(0, |opt| opt.len() as u32);
    make.set(iph, th, dst.mtu.saturating_sub(own));
    let made = ip_make_skb(cx, &make, options.len(), |parts| {
        parts.payload.copy_from_slice(options);
        Ok(())
    });
    let target = reply.opt.clone().map(|opt| IpTarget { opt, daddr: flow.daddr });
    let mut skb = match made.and_then(|skb| with_options(cx, skb, target.as_ref())) {
        Ok(skb) => skb,
        Err(error) => {
            cx.cpu.routes.give_back(dst);
            return Err(error);
        }
    };
    skb.mark = flow.mark;
    skb.dst = Some(dst);
    let mut list = cx.skb_list_of(skb);
    let lost = ip_send_skb(cx, &mut list);
    cx.free_skb_list(list);
    cx.count(TcpMib::OutSegs);
    lost.of_one().errno()
}

/// Answers a segment, by the way back to where it came from.
fn answer(cx: &mut BhCx<'_>, reply: &Reply, ts: Option<(u32, u32)>, key: Option<&TcpMd5sigKey>) {
    if let Ok(dst) = ip_route_output_flow(cx, &reply.way()) {
        let options = TcpOutOptions { md5: key.is_some(), ts, ..TcpOutOptions::default() };
        // Nobody is there to be told that it did not leave.
        let _sent = send(cx, reply, dst, (&options, key));
    }
}

/// Who a segment that is answered came to.
fn tuple_of(reply: &Reply) -> InetTuple {
    InetTuple {
        laddr: reply.flow.saddr,
        raddr: reply.flow.daddr,
        lport: reply.sport,
        rport: reply.dport,
        dev: 0,
    }
}

/// What answers a segment: its addresses and ports turned round, its options echoed.
fn turned(cx: &BhCx<'_>, skb: &SkBuff) -> Option<(Reply, TcpHdr)> {
    let (iph, th) = (skb.network::<IpHdr>()?, skb.transport::<TcpHdr>()?);
    let flow = Flow4 { daddr: iph.saddr.get(), saddr: iph.daddr.get(), ..Flow4::default() };
    let opt = ip_options_reply(cx, skb, None).ok()?.map(Arc::new);
    let (sport, dport) = (th.dest.get(), th.source.get());
    let reply = Reply { flow, sport, dport, opt, ..Reply::default() };
    Some((reply, *th))
}

/// Resets the connection that a segment belongs to, in no window's name: RFC 9293 section 3.5.2. `sk`: the
/// socket that can't take it, if there is one.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_send_reset
#[cold]
pub(crate) fn tcp_v4_send_reset(cx: &mut BhCx<'_>, skb: &SkBuff, sk: Option<&TcpSk<'_>>) {
    walk!(cx, skb, tcp_v4_send_reset);
    let Some((mut reply, th)) = turned(cx, skb) else { return };
    // Never a reset for a reset.
    if th.rst() {
        return;
    }
    if th.ack() {
        reply.seq = SeqNr(th.ack_seq.get());
        reply.flags = TCPHDR_RST;
    } else {
        let payload = (skb.len() as u32)
            .saturating_sub(skb.transport_offset().max(0) as u32 + th.doff() as u32);
        let end = th.seq.get().wrapping_add(payload);
        let end = end.wrapping_add(u32::from(th.syn())).wrapping_add(u32::from(th.fin()));
        reply.ack = SeqNr(end);
        reply.flags = TCPHDR_RST | TCPHDR_ACK;
    }
    let key = match sk {
        Some(sk) => sk.st.tcp_md5_do_lookup(reply.flow.daddr).cloned(),
        None => match key_of_stranger(skb, || lookup_listener(cx, &tuple_of(&reply))) {
            Ok(key) => key,
            // Who signs with no key of ours is not told that nobody is here.
            Err(_) => return,
        },
    };
    if let Some(sk) = sk {
        reply.flow.mark = sk.st.opts.mark;
        reply.flow.oif = sk.st.opts.bound_dev_if;
    }
    reply.tos = skb.network::<IpHdr>().map_or(0, |iph| iph.tos & !INET_ECN_MASK);
    cx.count(TcpMib::OutRsts);
    answer(cx, &reply, None, key.as_ref());
}

/// Acknowledges what a connection that is over got last.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_timewait_ack
pub(crate) fn tcp_v4_timewait_ack(cx: &mut BhCx<'_>, tw: &InetTimewaitSock, skb: &SkBuff) {
    let Some((reply, _)) = turned(cx, skb) else { return };
    let now = cx.now();
    let state = tw.state.lock();
    let reply = Reply {
        seq: state.snd_nxt,
        ack: state.rcv_nxt,
        flags: TCPHDR_ACK,
        window: u16::try_from(state.rcv_wnd >> tw.rcv_wscale).unwrap_or(u16::MAX),
        tos: tw.tos & !INET_ECN_MASK,
        flow: Flow4 { mark: tw.mark, oif: tw.tuple.dev, ..reply.flow },
        ..reply
    };
    let own = tcp_clock_ms(now).wrapping_add(tw.ts_offset);
    let ts = (state.ts_recent_stamp != 0).then_some((own, state.ts_recent));
    drop(state);
    answer(cx, &reply, ts, tw.md5_key.as_deref());
}

/// Acknowledges what a request got: a segment that can't be the end of its handshake.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_reqsk_send_ack
pub(crate) fn tcp_v4_reqsk_send_ack(cx: &mut BhCx<'_>, req: &RequestSock, skb: &SkBuff) {
    let Some((reply, _)) = turned(cx, skb) else { return };
    let now = cx.now();
    let ts_recent = req.state.lock().ts_recent;
    let reply = Reply {
        seq: req.snt_isn + 1,
        ack: req.rcv_isn + 1,
        flags: TCPHDR_ACK,
        window: (req.rcv_wnd >> req.opt.rcv_wscale).min(0xffff) as u16,
        ..reply
    };
    let own = tcp_clock_ms(now).wrapping_add(req.ts_off);
    let ts = req.opt.tstamp_ok.then_some((own, ts_recent));
    answer(cx, &reply, ts, req.md5_key.as_deref());
}

/// The way to whoever asked for a connection.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_route_req
pub(crate) fn inet_csk_route_req(
    cx: &mut BhCx<'_>,
    req: &RequestSock,
    tos: u8,
) -> Result<(Arc<Dst>, Flow4), Errno> {
    let flow = Flow4 {
        daddr: req.ireq_opt.as_ref().map_or(req.tuple.raddr, |opt| opt.first_hop(req.tuple.raddr)),
        saddr: req.tuple.laddr,
        oif: req.tuple.dev,
        tos: tos & INET_DSCP_MASK,
        ..Flow4::default()
    };
    let dst = ip_route_output_flow(cx, &flow)?;
    let strict = req.ireq_opt.as_ref().is_some_and(|opt| opt.is_strictroute());
    if strict && dst.gateway != 0 {
        cx.cpu.routes.give_back(dst);
        return Err(Errno::EHOSTUNREACH);
    }
    Ok((dst, Flow4 { daddr: req.tuple.raddr, ..flow }))
}

/// Answers a SYN; `cookie`: for fast open.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_send_synack, net/ipv4/tcp_output.c:tcp_make_synack
pub(crate) fn tcp_v4_send_synack(
    cx: &mut BhCx<'_>,
    req: &RequestSock,
    cookie: Option<TcpFastopenCookie>,
) {
    let by = {
        let locked = req.listener.state();
        let user_mss = locked.tcp.as_ref().map_or(0, |tp| tp.rx_opt.user_mss);
        (locked.inet.tos, user_mss)
    };
    tcp_v4_send_synack_by(cx, req, by, cookie);
}

/// The same, for a socket whose TOS and `TCP_MAXSEG` are known: the listener's lock is not taken.
pub(crate) fn tcp_v4_send_synack_by(
    cx: &mut BhCx<'_>,
    req: &RequestSock,
    (tos, user_mss): (u8, u16),
    cookie: Option<TcpFastopenCookie>,
) {
    let now = cx.now();
    let (ts_recent, syn_data) = {
        let mut state = req.state.lock();
        if state.snt_synack == Ktime::ZERO {
            state.snt_synack = now;
        }
        (state.ts_recent, state.syn_data)
    };
    let Ok((dst, flow)) = inet_csk_route_req(cx, req, tos) else {
        return cx.count(uapi::snmp::IpMib::OutNoRoutes);
    };
    let tos = match cx.t.net.sysctl.tcp.reflect_tos {
        true => req.syn_tos & INET_DSCP_MASK | tos & !INET_DSCP_MASK,
        false => tos,
    };
    let own = req.synack_ts(now);
    let mut options = tcp_synack_options(req, (dst.mtu, user_mss), (own, ts_recent));
    options.fastopen = cookie.filter(|cookie| options.len() + cookie.option_len() <= 40);
    let reply = Reply {
        flow,
        tos,
        sport: req.tuple.lport,
        dport: req.tuple.rport,
        seq: req.snt_isn,
        ack: req.rcv_isn + 1 + syn_data,
        flags: TCPHDR_SYN | TCPHDR_ACK | if req.ecn_ok { TCPHDR_ECE } else { 0 },
        // A SYN's window is never scaled.
        window: req.rcv_wnd.min(0xffff) as u16,
        opt: req.ireq_opt.clone(),
    };
    if send(cx, &reply, dst, (&options, req.md5_key.as_deref())).is_err() {
        cx.count(LinuxMib::TCPRetransFail);
    }
}
