//! Connections that are not quite sockets: requests on their way to be one, TIME_WAIT behind one.
//!
//! linux: net/ipv4/tcp_minisocks.c; RFC 9293 section 3.10.7, RFC 1337, RFC 6191. Contexts: BH. Locks: a
//! request's, then that of the child it becomes; the listener's own comes last, for a moment.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{SkBuff, Skb, kfree_skb};
use crate::net::core::sock::{ChildOf, Sock};
use crate::net::ipv4::inet_connection_sock::{
    RequestSock, inet_csk_destroy_sock, inet_csk_reqsk_queue_drop, reqsk_postpone, reqsk_removed,
};
use crate::net::ipv4::inet_hashtables::{BindAttrs, BindKind, EhashEntry, InetTuple, inet_unhash};
use crate::net::ipv4::inet_timewait_sock::{InetTimewaitSock, inet_twsk_kill, inet_twsk_schedule};
use crate::net::ipv4::route::ip_route_output_flow;
use crate::net::ipv4::tcp::{
    IcskAck, SavedSyn, SeqNr, TCP_TIMEOUT_INIT, TCP_TIMEWAIT_LEN, TcpSk, TcpSock, TcpState,
    tcp_clock_ms, tcp_done, tcp_set_state,
};
use crate::net::ipv4::tcp_cong::tcp_assign_congestion_control;
use crate::net::ipv4::tcp_ecn::EcnFlags;
use crate::net::ipv4::tcp_fastopen::{TcpFastopenCookie, tcp_fastopen_init_child};
use crate::net::ipv4::tcp_input::{
    __tcp_oow_rate_limited, Segment, seconds, tcp_initialize_rcv_mss,
};
use crate::net::ipv4::tcp_ipv4::{
    flow_of, tcp_v4_do_rcv, tcp_v4_reqsk_send_ack, tcp_v4_send_reset, tcp_v4_send_synack,
    tcp_v4_send_synack_by,
};
use crate::net::ipv4::tcp_md5sig::{TCPOLEN_MD5SIG_ALIGNED, tcp_md5_key_copy};
use crate::net::ipv4::tcp_output::{ipv4_default_advmss, tcp_mss_clamp, tcp_sync_mss};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::ip::INET_DSCP_MASK;
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::TcpHdr;

/// What a connection that is over does about a segment.
///
/// linux: include/net/tcp.h:tcp_tw_status
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpTw {
    /// Nothing more.
    Success,
    /// A RST.
    Rst,
    /// An acknowledgement.
    Ack,
    /// It is a SYN of a new connection, which begins here.
    Syn(SeqNr),
}

/// How long a socket without descriptor waits for their FIN.
///
/// linux: include/net/tcp.h:tcp_fin_time
pub(crate) fn tcp_fin_time(cx: &BhCx<'_>, tp: &TcpSock) -> Duration {
    let time = match u64::try_from(tp.linger2) {
        Ok(0) | Err(_) => cx.t.net.sysctl.tcp.fin_timeout,
        Ok(seconds) => Duration::from_secs(seconds),
    };
    // As long as three and a half time-outs, so that their FIN can go again.
    let rto = u64::from(tp.rto);
    time.max(Duration::from_micros((rto << 2) - (rto >> 1)))
}

/// What is left of a connection answers a segment.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_timewait_state_process
pub(crate) fn tcp_timewait_state_process(
    cx: &mut BhCx<'_>,
    tw: &Arc<InetTimewaitSock>,
    skb: &SkBuff,
) -> TcpTw {
    let Some(seg) = Segment::of(skb) else { return TcpTw::Success };
    let th = &seg.th;
    let (now, own) = (cx.now(), seg.cb);
    let mut state = tw.state.lock();
    let mut paws = false;
    if let Some((val, _)) = seg.opts.ts
        && state.ts_recent_stamp != 0
    {
        let age = seconds(now).wrapping_sub(state.ts_recent_stamp);
        let older = (state.ts_recent.wrapping_sub(val) as i32) > 0 && state.ts_recent != 0;
        paws = older
            && age < crate::net::ipv4::tcp::TCP_PAWS_24DAYS
            && !(th.rst() && age >= crate::net::ipv4::tcp::TCP_PAWS_MSL);
    }
    if state.substate == TcpState::FinWait2 {
        drop(state);
        return fin_wait2(cx, tw, &seg, paws);
    }
    if !paws && own.seq == state.rcv_nxt && (own.seq == own.end_seq || th.rst()) {
        if th.rst() {
            if !cx.t.net.sysctl.tcp.rfc1337 {
                drop(state);
                inet_twsk_kill(cx, tw);
                return TcpTw::Success;
            }
        } else {
            inet_twsk_schedule(cx, tw, &mut state, Duration::from_millis(TCP_TIMEWAIT_LEN));
        }
        if let Some((val, _)) = seg.opts.ts {
            state.ts_recent = val;
            state.ts_recent_stamp = seconds(now);
        }
        return TcpTw::Success;
    }
    // RFC 6191: a SYN that can't be an old one begins a new connection.
    let newer = own.seq.after(state.rcv_nxt)
        || seg.opts.ts.is_some_and(|(val, _)| (state.ts_recent.wrapping_sub(val) as i32) < 0);
    if th.syn() && !th.rst() && !th.ack() && !paws && newer {
        let isn = state.snd_nxt + 65_535 + 2;
        return TcpTw::Syn(if isn == SeqNr(0) { SeqNr(1) } else { isn });
    }
    if paws {
        cx.count(LinuxMib::PAWSEstab);
    }
    if th.rst() {
        return TcpTw::Success;
    }
    // An old duplicate, or their FIN again: whose acknowledgement was lost.
    if paws || th.ack() {
        inet_twsk_schedule(cx, tw, &mut state, Duration::from_millis(TCP_TIMEWAIT_LEN));
    }
    oow(cx, &mut state, th)
}

/// What is left of a connection still waits for their FIN.
fn fin_wait2(cx: &mut BhCx<'_>, tw: &Arc<InetTimewaitSock>, seg: &Segment, paws: bool) -> TcpTw {
    let (th, own, now) = (&seg.th, seg.cb, cx.now());
    let mut state = tw.state.lock();
    let window_end = state.rcv_nxt + state.rcv_wnd;
    let in_window = (own.seq == own.end_seq && own.seq == state.rcv_nxt)
        || (own.end_seq.after(state.rcv_nxt) && own.seq.before(window_end))
        || (own.seq == window_end && own.seq == own.end_seq);
    if paws || !in_window {
        return oow(cx, &mut state, th);
    }
    if th.rst() {
        drop(state);
        inet_twsk_kill(cx, tw);
        return TcpTw::Success;
    }
    if th.syn() && !own.seq.before(state.rcv_nxt) {
        return TcpTw::Rst;
    }
    if !th.ack() || !own.end_seq.after(state.rcv_nxt) || own.end_seq == own.seq {
        return TcpTw::Success;
    }
    // Data that nobody reads, or the FIN.
    if !th.fin() || own.end_seq != state.rcv_nxt + 1 {
        return TcpTw::Rst;
    }
    state.substate = TcpState::TimeWait;
    state.rcv_nxt = own.end_seq;
    if let Some((val, _)) = seg.opts.ts {
        state.ts_recent_stamp = seconds(now);
        state.ts_recent = val;
    }
    inet_twsk_schedule(cx, tw, &mut state, Duration::from_millis(TCP_TIMEWAIT_LEN));
    TcpTw::Ack
}

fn oow(
    cx: &mut BhCx<'_>,
    state: &mut crate::net::ipv4::inet_timewait_sock::TwState,
    th: &TcpHdr,
) -> TcpTw {
    if th.rst() {
        return TcpTw::Success;
    }
    let skipped = LinuxMib::TCPACKSkippedTimeWait;
    if __tcp_oow_rate_limited(cx, &mut state.last_oow_ack_time, skipped) {
        TcpTw::Success
    } else {
        TcpTw::Ack
    }
}

/// The connection goes over into what waits for stray segments, and the socket ends.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_time_wait
pub(crate) fn tcp_time_wait(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    substate: TcpState,
    timeout: Duration,
) {
    walk!(cx, tcp_time_wait);
    let net = &cx.t.ns.tcp;
    let count = net.memory.tw_count.load(Ordering::Relaxed);
    if sk.tp.hashed && count < cx.t.net.sysctl.tcp.max_tw_buckets {
        let rto = Duration::from_micros(u64::from(sk.tp.rto) * 7 / 2);
        let tw = InetTimewaitSock::of(sk, substate);
        let timeout = match substate {
            TcpState::TimeWait => Duration::from_millis(TCP_TIMEWAIT_LEN),
            _ => timeout.max(rto),
        };
        net.memory.tw_count.fetch_add(1, Ordering::Relaxed);
        inet_twsk_schedule(cx, &tw, &mut tw.state.lock(), timeout);
        let tuple = InetTuple::of(sk.st);
        if net.hashinfo.ehash.replace_sock(&tuple, sk.sk, &tw) {
            sk.tp.hashed = false;
        } else {
            debug_assert!(false, "a hashed socket is in the table");
        }
    } else {
        // Sooner closed than remembered for ever.
        cx.count(LinuxMib::TCPTimeWaitOverflow);
    }
    tcp_done(cx, sk);
}

/// A segment for a request: the one that ends its handshake makes a socket of it, which is returned with the
/// segment; others are worked off here.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_check_req
pub(crate) fn tcp_check_req(
    cx: &mut BhCx<'_>,
    req: &Arc<RequestSock>,
    skb: Skb,
) -> Option<(Arc<Sock>, Skb)> {
    walk!(cx, skb, tcp_check_req);
    let Some(seg) = Segment::of(&skb) else {
        kfree_skb(cx, skb, DropReason::HdrTrunc);
        return None;
    };
    let th = &seg.th;
    let own = seg.cb;
    let ts = seg.opts.ts.filter(|_| req.opt.tstamp_ok);
    let ts_recent = req.state.lock().ts_recent;
    let paws =
        ts.is_some_and(|(val, _)| (ts_recent.wrapping_sub(val) as i32) > 0) && ts_recent != 0;
    if own.seq == req.rcv_isn && th.syn() && !th.ack() && !th.rst() && !paws {
        // Their SYN again: the answer was lost, or is on its way.
        if !reqsk_limited(cx, req) {
            tcp_v4_send_synack(cx, req, None);
            cx.count(TcpMib::RetransSegs);
            cx.count(LinuxMib::TCPSynRetrans);
            reqsk_postpone(cx, req);
        }
        kfree_skb(cx, skb, DropReason::TcpFlags);
        return None;
    }
    // RFC 9293 section 3.10.7.4, first for SYN-RECEIVED: an unacceptable acknowledgement is reset.
    if th.ack() && !th.rst() && own.ack_seq != req.snt_isn + 1 {
        tcp_v4_send_reset(cx, &skb, None);
        kfree_skb(cx, skb, DropReason::TcpInvalidAckSequence);
        return None;
    }
    let first = req.rcv_isn + 1;
    if paws || !in_window(req, &seg) {
        if !th.rst() && !reqsk_limited(cx, req) {
            tcp_v4_reqsk_send_ack(cx, req, &skb);
        }
        if paws {
            cx.count(LinuxMib::PAWSEstab);
        }
        kfree_skb(cx, skb, DropReason::TcpInvalid);
        return None;
    }
    if let Some((val, _)) = ts
        && !own.seq.after(first)
    {
        req.state.lock().ts_recent = val;
    }
    if th.rst() || (th.syn() && own.seq != req.rcv_isn) {
        embryonic_reset(cx, req, skb);
        return None;
    }
    if !th.ack() || deferred(cx, req, &seg) {
        kfree_skb(cx, skb, DropReason::TcpFlags);
        return None;
    }
    match tcp_v4_syn_recv_sock(cx, req, Made::Handshake) {
        Some(child) => Some((child, skb)),
        None => {
            listen_overflow(cx, req, &skb);
            kfree_skb(cx, skb, DropReason::TcpListenOverflow);
            None
        }
    }
}

/// Needless segments for this request are answered no more for now.
fn reqsk_limited(cx: &mut BhCx<'_>, req: &RequestSock) -> bool {
    let mut state = req.state.lock();
    let skipped = LinuxMib::TCPACKSkippedSynRecv;
    __tcp_oow_rate_limited(cx, &mut state.last_oow_ack_time, skipped)
}

/// A segment lies in the window that the SYN-ACK offered.
fn in_window(req: &RequestSock, seg: &Segment) -> bool {
    let (own, first) = (seg.cb, req.rcv_isn + 1);
    let window_end = first + req.rcv_wnd;
    if own.seq == own.end_seq {
        own.seq.between(first, window_end)
    } else {
        own.end_seq.after(first) && own.seq.before(window_end)
    }
}

/// Theirs to end; a SYN within the window is an error (RFC 9293), told by a RST.
fn embryonic_reset(cx: &mut BhCx<'_>, req: &Arc<RequestSock>, skb: Skb) {
    cx.count(TcpMib::AttemptFails);
    let rst = skb.front::<TcpHdr>().is_some_and(TcpHdr::rst);
    if !rst {
        tcp_v4_send_reset(cx, &skb, None);
    }
    if inet_csk_reqsk_queue_drop(cx, req) {
        cx.count(LinuxMib::EmbryonicRsts);
    }
    kfree_skb(cx, skb, DropReason::TcpReset);
}

/// The listener waits for data (`TCP_DEFER_ACCEPT`), and this segment has none.
fn deferred(cx: &mut BhCx<'_>, req: &RequestSock, seg: &Segment) -> bool {
    let defer = req.listener.state().tcp.as_ref().map_or(0, |tp| tp.defer_accept);
    let mut state = req.state.lock();
    let bare = seg.cb.end_seq == req.rcv_isn + 1;
    if state.num_timeout < defer && bare {
        state.acked = true;
        cx.count(LinuxMib::TCPDeferAcceptDrop);
        return true;
    }
    false
}

/// Nobody can accept: the request waits for another try, or is reset (`tcp_abort_on_overflow`).
fn listen_overflow(cx: &mut BhCx<'_>, req: &Arc<RequestSock>, skb: &SkBuff) {
    if !cx.t.net.sysctl.tcp.abort_on_overflow {
        req.state.lock().acked = true;
        return;
    }
    cx.count(TcpMib::AttemptFails);
    tcp_v4_send_reset(cx, skb, None);
    if inet_csk_reqsk_queue_drop(cx, req) {
        cx.count(LinuxMib::EmbryonicRsts);
    }
}

/// What makes a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made<'a> {
    /// The end of a handshake, in place of its request.
    Handshake,
    /// The same, and the request is a cookie.
    Cookie,
    /// A SYN, by fast open: its answer has the option.
    Syn { syn: &'a SkBuff, seg: &'a Segment, cookie: Option<TcpFastopenCookie> },
}

/// Makes the socket of a connection whose handshake has ended, or need not end for data to flow, and puts it where the listener's program takes it. `None`: the listener can't take it, or somebody else did.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_syn_recv_sock
pub(crate) fn tcp_v4_syn_recv_sock(
    cx: &mut BhCx<'_>,
    req: &Arc<RequestSock>,
    made: Made<'_>,
) -> Option<Arc<Sock>> {
    walk!(cx, tcp_v4_syn_recv_sock);
    if req.queue.acceptq_is_full() {
        cx.count(LinuxMib::ListenOverflows);
        return None;
    }
    let child = tcp_create_openreq_child(cx, req)?;
    let mut locked = child.state();
    let mut sk = TcpSk::of(&child, &mut locked)?;
    if let Some(key) = &req.md5_key
        && !tcp_md5_key_copy(cx, &mut sk, key)
    {
        inet_csk_destroy_sock(cx, &mut sk);
        return None;
    }
    if cx.t.net.sysctl.tcp.reflect_tos {
        sk.st.inet.tos = req.syn_tos & INET_DSCP_MASK;
    }
    take_options(&mut sk, req);
    let flow = flow_of(&sk);
    sk.tp.dst = ip_route_output_flow(cx, &flow).ok();
    let mtu = sk.tp.dst.as_ref().map_or(0, |dst| dst.mtu);
    if mtu == 0 {
        inet_csk_destroy_sock(cx, &mut sk);
        return None;
    }
    tcp_sync_mss(&mut sk, mtu);
    sk.tp.advmss = tcp_mss_clamp(sk.tp.rx_opt.user_mss, ipv4_default_advmss(mtu));
    tcp_initialize_rcv_mss(sk.tp);
    let net = &cx.t.ns.tcp;
    let attrs = BindAttrs { rcv_saddr: req.tuple.laddr, ..BindAttrs::of(sk.st, BindKind::Bound) };
    sk.tp.bind = Some(net.hashinfo.bhash.inherit(req.tuple.lport, attrs));
    let tuple = InetTuple::of(sk.st);
    let hashed = matches!(made, Made::Handshake);
    let entered = if hashed {
        net.hashinfo.ehash.replace_request(&tuple, req, &child)
    } else {
        let entry = || EhashEntry::Sock(Arc::clone(&child));
        net.hashinfo.ehash.insert(&tuple, entry, |_| false).is_ok()
    };
    if !entered {
        inet_csk_destroy_sock(cx, &mut sk);
        return None;
    }
    sk.tp.hashed = true;
    if hashed {
        reqsk_removed(cx, req);
    }
    if let Made::Syn { syn, seg, cookie } = made {
        tcp_fastopen_init_child(cx, &mut sk, req, (syn, seg));
        let by = (sk.st.inet.tos, sk.tp.rx_opt.user_mss);
        tcp_v4_send_synack_by(cx, req, by, cookie);
        sk.tp.synack_sent = cx.now();
    }
    if !req.queue.reqsk_queue_add(&child) {
        // The listener was closed a moment ago.
        inet_unhash(&mut sk);
        tcp_set_state(cx, &mut sk, TcpState::Close);
        inet_csk_destroy_sock(cx, &mut sk);
        return None;
    }
    cx.count(TcpMib::PassiveOpens);
    drop(locked);
    Some(child)
}

/// A connection goes on with the options that its SYN was answered with.
fn take_options(sk: &mut TcpSk<'_>, req: &RequestSock) {
    if let Some(opt) = &req.ireq_opt {
        sk.tp.ext_hdr_len = opt.opt.optlen;
        sk.st.rare_mut().inet_opt = Some(Arc::clone(opt));
    }
}

/// The socket that a request becomes: what it inherits from its listener, and what the handshake agreed on.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_create_openreq_child
fn tcp_create_openreq_child(cx: &mut BhCx<'_>, req: &Arc<RequestSock>) -> Option<Arc<Sock>> {
    let now = cx.now();
    let (inherited, options) = {
        let state = req.listener.state();
        let tp = state.tcp.as_deref().filter(|tp| tp.state == TcpState::Listen)?;
        (ChildOf::of(&req.listener, &state), Options::of(tp))
    };
    let mut tp =
        TcpSock::new(tcp_assign_congestion_control(&cx.t.net), cx.t.net.sysctl.tcp.reordering);
    options.give(&mut tp);
    if let Some(ca) = options.congestion
        && let Ok(ca) = crate::net::ipv4::tcp_cong::tcp_set_congestion_control(&cx.t.net, ca)
    {
        (tp.ca_ops, tp.ca_setsockopt) = (ca, true);
    }
    let (seq, ack) = (req.rcv_isn + 1, req.snt_isn + 1);
    tp.state = TcpState::SynRecv;
    (tp.rcv_nxt, tp.rcv_wup, tp.copied_seq) = (seq, seq, seq);
    (tp.snd_una, tp.snd_nxt, tp.snd_sml, tp.snd_up) = (ack, ack, ack, ack);
    (tp.write_seq, tp.pushed_seq) = (ack, ack);
    tp.snd_wl1 = seq - 1;
    (tp.rto, tp.ack) = (TCP_TIMEOUT_INIT, IcskAck { lrcvtime: now, ..IcskAck::default() });
    tp.cong.lsndtime = now;
    tp.rx_opt = req.opt;
    tp.rx_opt.user_mss = options.user_mss;
    {
        let state = req.state.lock();
        tp.rx_opt.ts_recent = state.ts_recent;
        tp.stats.total_retrans = state.num_retrans.into();
        // The SYN.
        tp.stats.segs_in = 1;
        tp.synack_sent = if state.num_retrans == 0 { state.snt_synack } else { Ktime::ZERO };
        if state.num_timeout != 0 {
            tp.undo_marker = Some(ack);
            (tp.stats.total_rto, tp.stats.total_rto_recoveries) = (state.num_timeout.into(), 1);
            let began = tcp_clock_ms(state.snt_synack);
            tp.stats.total_rto_time = tcp_clock_ms(now).wrapping_sub(began);
        }
    }
    tp.rx_opt.ts_recent_stamp = seconds(now);
    tp.rx_opt.mss_clamp = req.mss;
    tp.min_snd_mss = cx.t.net.sysctl.tcp.min_snd_mss.min(0xffff) as u16;
    tp.tcp_header_len = if req.opt.tstamp_ok { 32 } else { 20 };
    if req.md5_key.is_some() {
        tp.tcp_header_len += TCPOLEN_MD5SIG_ALIGNED as u8;
    }
    if req.ecn_ok {
        tp.ecn_flags = EcnFlags::OK;
    }
    tp.tsoffset = req.ts_off;
    tp.saved_syn = req.saved_syn.clone().map(|headers| Box::new(SavedSyn(headers)));
    (tp.window_clamp, tp.rcv_ssthresh, tp.rcv_wnd) = (req.window_clamp, req.rcv_wnd, req.rcv_wnd);
    tp.max_window = 0;
    Some(Sock::child(cx, inherited, &req.tuple, Box::new(tp)))
}

/// Options of TCP's own that a child has from its listener.
#[derive(Clone, Copy, Debug)]
struct Options {
    user_mss: u16,
    nonagle: crate::net::ipv4::tcp::Nonagle,
    keepalive: (u16, u16, u8),
    linger2: i16,
    user_timeout: u32,
    notsent_lowat: (u32, u32),
    thin_lto: bool,
    locked: (bool, bool),
    recvmsg_inq: bool,
    congestion: Option<&'static str>,
    syn_retries: u8,
    quick: u8,
}

impl Options {
    fn of(tp: &TcpSock) -> Self {
        Self {
            user_mss: tp.rx_opt.user_mss,
            nonagle: tp.nonagle,
            keepalive: (tp.keepalive_time, tp.keepalive_intvl, tp.keepalive_probes),
            linger2: tp.linger2,
            user_timeout: tp.user_timeout,
            notsent_lowat: (tp.notsent_lowat, tp.notsent_lowat_option),
            thin_lto: tp.thin_lto,
            locked: (tp.rcvbuf_locked, tp.sndbuf_locked),
            recvmsg_inq: tp.recvmsg_inq,
            congestion: tp.ca_setsockopt.then(|| tp.ca_ops.name()),
            syn_retries: tp.syn_retries,
            quick: tp.ack.pingpong,
        }
    }

    fn give(&self, tp: &mut TcpSock) {
        tp.nonagle = self.nonagle;
        (tp.keepalive_time, tp.keepalive_intvl, tp.keepalive_probes) = self.keepalive;
        (tp.linger2, tp.user_timeout) = (self.linger2, self.user_timeout);
        (tp.notsent_lowat, tp.notsent_lowat_option) = self.notsent_lowat;
        tp.thin_lto = self.thin_lto;
        (tp.rcvbuf_locked, tp.sndbuf_locked) = self.locked;
        tp.recvmsg_inq = self.recvmsg_inq;
        tp.syn_retries = self.syn_retries;
        tp.ack.pingpong = self.quick;
    }
}

/// Gives a new socket the segment that made it, and tells the listener's program.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_child_process
pub(crate) fn tcp_child_process(cx: &mut BhCx<'_>, req: &RequestSock, child: &Arc<Sock>, skb: Skb) {
    walk!(cx, skb, tcp_child_process);
    {
        let mut locked = child.state();
        if locked.sock_owned_by_user() {
            // Accepted already: its owner works it off.
            let limit = locked.opts.rcvbuf as usize;
            if let Err(skb) = locked.sk_add_backlog(cx, skb, limit) {
                kfree_skb(cx, skb, DropReason::SocketBacklog);
            }
        } else {
            tcp_v4_do_rcv(cx, child, &mut locked, skb);
        }
    }
    req.listener.state().sk_data_ready(cx);
}
