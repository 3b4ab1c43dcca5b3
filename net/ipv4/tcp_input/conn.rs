//! Requests: a SYN at a listener, and the cookie that one may have become.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_conn_request`), net/ipv4/syncookies.c (`cookie_v4_check`). Context: BH.
//! A listener's lock is taken for a moment, to read what it says; nobody owns it.

use super::{Segment, seconds};
use crate::kernel::context::BhCx;
use crate::kernel::locking::SpinLock;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::filter::BpfProg;
use crate::net::core::secure_seq::{TcpTuple, secure_tcp_seq, secure_tcp_ts_off};
use crate::net::core::skbuff::{SkBuff, Skb, consume_skb, kfree_skb};
use crate::net::core::sock::Sock;
use crate::net::ipv4::inet_connection_sock::{
    Listener, ReqState, RequestSock, inet_csk_reqsk_queue_hash_add,
};
use crate::net::ipv4::inet_hashtables::InetTuple;
use crate::net::ipv4::ip_options::{IpOptionsRcu, ip_options_reply};
use crate::net::ipv4::route::{Flow4, ip_route_output_flow};
use crate::net::ipv4::syncookies::{
    CookieOptions, CookieSyn, cookie_init_timestamp, cookie_timestamp_decode, cookie_v4_check,
    cookie_v4_init_sequence,
};
use crate::net::ipv4::tcp::{SeqNr, TcpOptionsReceived, TcpState, tcp_clock_ms};
use crate::net::ipv4::tcp_ecn::tcp_ecn_create_request;
use crate::net::ipv4::tcp_fastopen::{Tfo, tcp_parse_fastopen_option, tcp_try_fastopen};
use crate::net::ipv4::tcp_ipv4::{
    tcp_filter, tcp_v4_send_reset, tcp_v4_send_synack, tcp_v4_send_synack_by,
};
use crate::net::ipv4::tcp_md5sig::{TcpMd5sigKey, tcp_inbound_md5_hash};
use crate::net::ipv4::tcp_minisocks::{Made, tcp_child_process, tcp_v4_syn_recv_sock};
use crate::net::ipv4::tcp_output::{
    InitialWindow, ipv4_default_advmss, tcp_mss_clamp, tcp_select_initial_window,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::ip::INET_DSCP_MASK;
use uapi::snmp::LinuxMib;
use uapi::tcp::{TCP_MSS_DEFAULT, TcpHdr};

/// Seconds after an overflow in which cookies are still good.
const COOKIE_VALID: u32 = 2 * 60;

/// What a listener says of connections to come.
#[derive(Clone, Debug)]
struct Terms {
    queue: Arc<Listener>,
    user_mss: u16,
    /// Octets of a child's buffer that can be data.
    full_space: i64,
    window_clamp: u32,
    rcvbuf_locked: bool,
    tos: u8,
    oif: u16,
    save_syn: u8,
    fastopen_no_cookie: bool,
    /// The key for this peer.
    md5_key: Option<Box<TcpMd5sigKey>>,
    filter: Option<BpfProg>,
}

/// A SYN, and whom it is for.
struct Asked<'a> {
    tuple: &'a InetTuple,
    terms: &'a Terms,
    /// Where to begin, if a connection was just over there.
    isn: Option<SeqNr>,
    syn: &'a SkBuff,
}

/// `None` when it does not listen any more.
fn terms(sk: &Arc<Sock>, peer: u32) -> Option<Terms> {
    let state = sk.state();
    let tp = state.tcp.as_deref().filter(|tp| tp.state == TcpState::Listen)?;
    Some(Terms {
        queue: tp.listener.clone()?,
        user_mss: tp.rx_opt.user_mss,
        full_space: tp.tcp_win_from_space(i64::from(state.opts.rcvbuf)),
        window_clamp: tp.window_clamp,
        rcvbuf_locked: tp.rcvbuf_locked,
        tos: state.inet.tos,
        oif: state.opts.bound_dev_if,
        save_syn: tp.save_syn,
        fastopen_no_cookie: tp.tfo(Tfo::NO_COOKIE),
        md5_key: state.tcp_md5_do_lookup(peer).cloned().map(Box::new),
        filter: state.filter().cloned(),
    })
}

/// A segment for a listener: a SYN asks for a connection, an acknowledgement may be a cookie's, anything else
/// is nobody's (RFC 9293 section 3.10.7.2).
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_state_process (LISTEN)
pub(crate) fn tcp_rcv_listen(cx: &mut BhCx<'_>, sk: &Arc<Sock>, skb: Skb, tuple: &InetTuple) {
    tcp_rcv_listen_at(cx, sk, skb, (tuple, None));
}

/// The same; `isn`: where a connection begins whose last one was just over.
pub(crate) fn tcp_rcv_listen_at(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    mut skb: Skb,
    (tuple, isn): (&InetTuple, Option<SeqNr>),
) {
    walk!(cx, skb, tcp_rcv_state_process);
    let terms = terms(sk, tuple.raddr);
    if let Some(program) = terms.as_ref().and_then(|terms| terms.filter.as_ref())
        && let Err(reason) = tcp_filter(cx, program, &mut skb)
    {
        return kfree_skb(cx, skb, reason);
    }
    let (Some(seg), Some(terms)) = (Segment::of(&skb), terms) else {
        tcp_v4_send_reset(cx, &skb, None);
        return kfree_skb(cx, skb, DropReason::NoSocket);
    };
    if let Err(reason) = tcp_inbound_md5_hash(cx, terms.md5_key.as_deref(), &skb) {
        return kfree_skb(cx, skb, reason);
    }
    let th = &seg.th;
    if th.rst() {
        return kfree_skb(cx, skb, DropReason::TcpReset);
    }
    if th.ack() {
        return cookie_ack(cx, sk, skb, &seg, (tuple, &terms));
    }
    if !th.syn() || th.fin() {
        return kfree_skb(cx, skb, DropReason::TcpFlags);
    }
    // To a device that the listener is not bound to, a request keeps what it came by.
    let tuple = InetTuple { dev: terms.oif, ..*tuple };
    let asked = Asked { tuple: &tuple, terms: &terms, isn, syn: &skb };
    match tcp_conn_request(cx, sk, &seg, &asked) {
        Ok(()) => consume_skb(cx, skb),
        Err(reason) => {
            cx.count(LinuxMib::ListenDrops);
            kfree_skb(cx, skb, reason);
        }
    }
}

/// The queue of requests is full: cookies stand in for it, if they may.
///
/// linux: net/ipv4/tcp_input.c:tcp_syn_flood_action
fn tcp_syn_flood_action(cx: &mut BhCx<'_>, queue: &Listener) -> bool {
    let cookies = cx.t.net.sysctl.tcp.syncookies != 0;
    if cookies {
        cx.count(LinuxMib::TCPReqQFullDoCookies);
        let now = seconds(cx.now()).max(1);
        queue.last_overflow.store(now, Ordering::Relaxed);
    } else {
        cx.count(LinuxMib::TCPReqQFullDrop);
    }
    cookies
}

/// The headers of a SYN, for a listener that wants them.
///
/// linux: net/ipv4/tcp_input.c:tcp_reqsk_record_syn
fn tcp_reqsk_record_syn(asked: &Asked<'_>, seg: &Segment) -> Option<Box<[u8]>> {
    let from = match asked.terms.save_syn {
        0 => return None,
        1 => asked.syn.network_bytes(),
        _ => asked.syn.mac_bytes(),
    };
    let data = asked.syn.len - asked.syn.data_len;
    let data = (data as usize).saturating_sub(seg.th.doff());
    Some(from.get(..from.len().saturating_sub(data))?.into())
}

/// Whether a SYN is let in: `true`, if as a cookie.
///
/// # Errors
/// Why not.
fn admitted(cx: &mut BhCx<'_>, asked: &Asked<'_>) -> Result<bool, DropReason> {
    let (sysctl, queue) = (&cx.t.net.sysctl.tcp, &asked.terms.queue);
    let cookies = sysctl.syncookies;
    let most = sysctl.max_syn_backlog;
    let full = queue.reqsk_queue_is_full();
    let mut cookie = false;
    if (cookies == 2 || full) && asked.isn.is_none() {
        cookie = tcp_syn_flood_action(cx, queue);
        if !cookie {
            return Err(DropReason::TcpListenOverflow);
        }
    }
    if queue.acceptq_is_full() {
        cx.count(LinuxMib::ListenOverflows);
        return Err(DropReason::TcpListenOverflow);
    }
    let requests = queue.qlen.load(Ordering::Relaxed);
    let last_quarter = most.saturating_sub(requests) < most >> 2;
    if !cookie && asked.isn.is_none() && cookies == 0 && last_quarter {
        // It is for those that are known to be alive, and none is known.
        return Err(DropReason::TcpListenOverflow);
    }
    Ok(cookie)
}

/// What a SYN's options and the machine agree on.
fn agreed(cx: &BhCx<'_>, asked: &Asked<'_>, seg: &Segment, cookie: bool) -> TcpOptionsReceived {
    let mut opt = TcpOptionsReceived {
        mss_clamp: TCP_MSS_DEFAULT,
        user_mss: asked.terms.user_mss,
        ..TcpOptionsReceived::default()
    };
    opt.note_ts(seg.opts.ts, 0);
    opt.negotiate(&seg.opts, &cx.t.net.sysctl.tcp);
    // A SYN-ACK has no room for all three (a cookie's has no use for SACK without a timestamp).
    let crowded = asked.terms.md5_key.is_some() && opt.sack_ok && !cookie;
    opt.tstamp_ok = opt.saw_tstamp && !crowded;
    opt.ts_recent = if opt.tstamp_ok { opt.rcv_tsval } else { 0 };
    if cookie && !opt.tstamp_ok {
        // There is nowhere to remember them.
        (opt.wscale_ok, opt.sack_ok, opt.snd_wscale) = (false, false, 0);
    }
    opt
}

/// The options of a segment that opens a connection, for all that its answers have.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_save_options
fn tcp_v4_save_options(cx: &BhCx<'_>, skb: &SkBuff) -> Option<Arc<IpOptionsRcu>> {
    // One whose options can't be echoed is answered without.
    ip_options_reply(cx, skb, None).ok().flatten().map(Arc::new)
}

/// Where a packet to `daddr` goes first.
fn first_hop(opt: &Option<Arc<IpOptionsRcu>>, daddr: u32) -> u32 {
    opt.as_ref().map_or(daddr, |opt| opt.first_hop(daddr))
}

/// As its answers have them.
fn tcp_tuple(tuple: &InetTuple) -> TcpTuple {
    TcpTuple {
        saddr: tuple.laddr.into(),
        sport: tuple.lport,
        daddr: tuple.raddr.into(),
        dport: tuple.rport,
    }
}

/// The MTU of the way back.
fn way_back(cx: &mut BhCx<'_>, flow: &Flow4) -> Option<u32> {
    let dst = ip_route_output_flow(cx, flow).ok()?;
    let mtu = dst.mtu;
    cx.cpu.routes.give_back(dst);
    Some(mtu)
}

/// A SYN: remembers what must be and answers.
///
/// # Errors
/// Why it is dropped.
///
/// linux: net/ipv4/tcp_input.c:tcp_conn_request
fn tcp_conn_request(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    seg: &Segment,
    asked: &Asked<'_>,
) -> Result<(), DropReason> {
    walk!(cx, tcp_conn_request);
    let Asked { tuple, terms, .. } = *asked;
    let cookie = admitted(cx, asked)?;
    let mut opt = agreed(cx, asked, seg, cookie);
    let ireq_opt = tcp_v4_save_options(cx, asked.syn);
    let flow = Flow4 {
        daddr: first_hop(&ireq_opt, tuple.raddr),
        saddr: tuple.laddr,
        oif: tuple.dev,
        tos: terms.tos & INET_DSCP_MASK,
        ..Flow4::default()
    };
    let mtu = way_back(cx, &flow).ok_or(DropReason::IpOutNoRoutes)?;
    let addrs = tcp_tuple(tuple);
    let (now, net) = (cx.now(), &cx.t.ns);
    let offset = opt.tstamp_ok && cx.t.net.sysctl.tcp.timestamps == 1;
    let ts_off =
        if offset { secure_tcp_ts_off(&net.tcp.ts_key, addrs.saddr, addrs.daddr) } else { 0 };
    let mut mss = opt.mss_clamp;
    let snt_isn = match asked.isn {
        _ if cookie => {
            let syn = CookieSyn { tuple: addrs.reversed(), seq: seg.cb.seq.0 };
            let (made, kept) = cookie_v4_init_sequence(&net.tcp.cookie_secret, &syn, mss, now);
            mss = kept;
            SeqNr(made)
        }
        Some(isn) => isn,
        None => SeqNr(secure_tcp_seq(&net.tcp.seq_key, &addrs, now)),
    };
    let window = tcp_openreq_init_rwin(cx, terms, mtu, &opt);
    opt.rcv_wscale = window.rcv_wscale;
    let req = RequestSock {
        tuple: *tuple,
        listener: Arc::clone(sk),
        queue: Arc::clone(&terms.queue),
        rcv_isn: seg.cb.seq,
        snt_isn,
        mss,
        opt,
        ecn_ok: tcp_ecn_create_request(cx, seg) && (opt.tstamp_ok || !cookie),
        ts_off,
        rcv_wnd: window.rcv_wnd,
        window_clamp: window.window_clamp,
        syn_tos: seg.cb.ip_dsfield,
        iif: tuple.dev,
        // Of a cookie nothing is left when it is answered.
        saved_syn: if cookie { None } else { tcp_reqsk_record_syn(asked, seg) },
        cookie: net.first().next_cookie.fetch_add(1, Ordering::Relaxed),
        as_cookie: cookie,
        md5_key: terms.md5_key.clone(),
        filter: terms.filter.clone(),
        ireq_opt,
        state: SpinLock::new(ReqState::new(opt.ts_recent)),
    };
    if cookie {
        cx.count(LinuxMib::SyncookiesSent);
        tcp_v4_send_synack_by(cx, &req, (terms.tos, terms.user_mss), None);
        return Ok(());
    }
    answer(cx, &Arc::new(req), seg, asked)
}

/// Answers a SYN: with a connection at once where fast open allows it, else with the request entered.
fn answer(
    cx: &mut BhCx<'_>,
    req: &Arc<RequestSock>,
    seg: &Segment,
    asked: &Asked<'_>,
) -> Result<(), DropReason> {
    let options = asked.syn.data().get(size_of::<TcpHdr>()..seg.th.doff()).unwrap_or(&[]);
    let wanted = (tcp_parse_fastopen_option(options), asked.terms.fastopen_no_cookie);
    let fast = tcp_try_fastopen(cx, &asked.terms.queue.fastopenq, (asked.tuple, seg), wanted);
    let cookie = fast.cookie;
    if fast.child {
        let made = Made::Syn { syn: asked.syn, seg, cookie };
        if tcp_v4_syn_recv_sock(cx, req, made).is_some() {
            req.listener.state().sk_data_ready(cx);
            return Ok(());
        }
        cx.count(LinuxMib::TCPFastOpenPassiveFail);
    }
    if !inet_csk_reqsk_queue_hash_add(cx, req) {
        return Err(DropReason::TcpListenOverflow);
    }
    tcp_v4_send_synack(cx, req, cookie);
    Ok(())
}

impl RequestSock {
    /// Our timestamp in the SYN-ACK: of a cookie, what it remembers.
    pub(crate) fn synack_ts(&self, now: crate::kernel::time::Ktime) -> u32 {
        let ms = tcp_clock_ms(now);
        let ms = if self.as_cookie {
            let options = CookieOptions {
                snd_wscale: self.opt.wscale_ok.then_some(self.opt.snd_wscale),
                sack_ok: self.opt.sack_ok,
                ecn_ok: self.ecn_ok,
            };
            cookie_init_timestamp(&options, ms)
        } else {
            ms
        };
        ms.wrapping_add(self.ts_off)
    }
}

/// The first window of a connection that is asked for.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_openreq_init_rwin
fn tcp_openreq_init_rwin(
    cx: &BhCx<'_>,
    terms: &Terms,
    mtu: u32,
    opt: &TcpOptionsReceived,
) -> InitialWindow {
    let mss = tcp_mss_clamp(terms.user_mss, ipv4_default_advmss(mtu));
    let full = terms.full_space;
    let mut clamp = terms.window_clamp;
    if terms.rcvbuf_locked && (clamp == 0 || i64::from(clamp) > full) {
        clamp = full.max(0) as u32;
    }
    let options = if opt.tstamp_ok { 12 } else { 0 };
    tcp_select_initial_window(cx, (full, mss - options), clamp, opt.wscale_ok)
}

/// An acknowledgement at a listener: of a cookie, or of nothing.
///
/// linux: net/ipv4/syncookies.c:cookie_v4_check
fn cookie_ack(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    skb: Skb,
    seg: &Segment,
    (tuple, terms): (&InetTuple, &Terms),
) {
    if !seg.th.syn()
        && let Some(req) = cookie_request(cx, sk, (seg, &skb), (tuple, terms))
    {
        cx.count(LinuxMib::SyncookiesRecv);
        match tcp_v4_syn_recv_sock(cx, &req, Made::Cookie) {
            Some(child) => return tcp_child_process(cx, &req, &child, skb),
            None => {
                cx.count(LinuxMib::ListenDrops);
                return kfree_skb(cx, skb, DropReason::TcpListenOverflow);
            }
        }
    }
    tcp_v4_send_reset(cx, &skb, None);
    kfree_skb(cx, skb, DropReason::TcpFlags);
}

/// The request that a cookie remembers.
fn cookie_request(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    (seg, skb): (&Segment, &SkBuff),
    (tuple, terms): (&InetTuple, &Terms),
) -> Option<Arc<RequestSock>> {
    let sysctl = &cx.t.net.sysctl.tcp;
    if sysctl.syncookies == 0 {
        return None;
    }
    let now = cx.now();
    let last = terms.queue.last_overflow.load(Ordering::Relaxed);
    if sysctl.syncookies != 2 && (last == 0 || seconds(now).wrapping_sub(last) > COOKIE_VALID) {
        // None was given out lately.
        return None;
    }
    let net = &cx.t.ns;
    let (cookie, seq) = (seg.cb.ack_seq - 1, seg.cb.seq - 1);
    let addrs = tcp_tuple(tuple).reversed();
    let syn = CookieSyn { tuple: addrs, seq: seq.0 };
    let Some(mss) = cookie_v4_check(&net.tcp.cookie_secret, &syn, cookie.0, now) else {
        cx.count(LinuxMib::SyncookiesFailed);
        return None;
    };
    let offset = seg.opts.ts.is_some() && sysctl.timestamps == 1;
    let ts_off =
        if offset { secure_tcp_ts_off(&net.tcp.ts_key, addrs.daddr, addrs.saddr) } else { 0 };
    let tsecr = seg.opts.ts.map(|(_, ecr)| ecr.wrapping_sub(ts_off));
    let options = cookie_timestamp_decode(tsecr, sysctl)?;
    let ireq_opt = tcp_v4_save_options(cx, skb);
    let mut opt = TcpOptionsReceived {
        tstamp_ok: seg.opts.ts.is_some(),
        ts_recent: seg.opts.ts.map_or(0, |(val, _)| val),
        wscale_ok: options.snd_wscale.is_some(),
        snd_wscale: options.snd_wscale.unwrap_or(0),
        sack_ok: options.sack_ok,
        mss_clamp: mss,
        user_mss: terms.user_mss,
        ..TcpOptionsReceived::default()
    };
    let daddr = first_hop(&ireq_opt, tuple.raddr);
    let flow = Flow4 { daddr, saddr: tuple.laddr, ..Flow4::default() };
    let mtu = way_back(cx, &flow)?;
    let window = tcp_openreq_init_rwin(cx, terms, mtu, &opt);
    opt.rcv_wscale = window.rcv_wscale;
    Some(Arc::new(RequestSock {
        tuple: InetTuple { dev: terms.oif, ..*tuple },
        listener: Arc::clone(sk),
        queue: Arc::clone(&terms.queue),
        rcv_isn: seq,
        snt_isn: cookie,
        mss,
        opt,
        ecn_ok: options.ecn_ok,
        ts_off,
        rcv_wnd: window.rcv_wnd,
        window_clamp: window.window_clamp,
        syn_tos: seg.cb.ip_dsfield,
        iif: tuple.dev,
        saved_syn: None,
        cookie: net.first().next_cookie.fetch_add(1, Ordering::Relaxed),
        as_cookie: true,
        md5_key: terms.md5_key.clone(),
        filter: terms.filter.clone(),
        ireq_opt,
        state: SpinLock::new(ReqState::new(opt.ts_recent)),
    }))
}
