//! Who listens: cookies, connections made by a SYN with data, and how many of them may wait.
//!
//! linux: net/ipv4/tcp_fastopen.c (`tcp_try_fastopen`), net/core/request_sock.c (`reqsk_fastopen_remove`),
//! net/ipv4/tcp_minisocks.c (`tcp_check_req`), net/ipv4/tcp_timer.c (`tcp_fastopen_synack_timer`).

use super::{TFO_SERVER_COOKIE_NOT_REQD, TFO_SERVER_ENABLE, TcpFastopenCookie, Tfo};
use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::{Cb, SkBuff, Skb, alloc_skb};
use crate::net::core::stream::sk_forced_mem_charge;
use crate::net::core::sysctl::{KeyPair, TcpSysctls};
use crate::net::ipv4::inet_connection_sock::{RequestSock, inet_csk_reset_xmit_timer};
use crate::net::ipv4::inet_hashtables::InetTuple;
use crate::net::ipv4::tcp::{
    CaState, ConnectState, IcskPending, TCP_TIMEOUT_INIT, TcpSk, TcpSkbCb,
};
use crate::net::ipv4::tcp_input::{
    __tcp_oow_rate_limited, Segment, tcp_enter_loss, tcp_fin, tcp_init_transfer, tcp_queue_rcv,
    tcp_rearm_rto, tcp_reset, tcp_try_undo_recovery,
};
use crate::net::ipv4::tcp_ipv4::{tcp_v4_send_reset, tcp_v4_send_synack_by};
use crate::net::ipv4::tcp_output::tcp_send_ack;
use crate::net::ipv4::tcp_timer::tcp_write_err;
use klib::siphash::SipKey;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::{TCPHDR_FIN, TCPHDR_SYN};

/// How long a connection counts that was reset before its handshake was over (RFC 7413 section 5.1).
const RST_HELD: Duration = Duration::from_secs(60);

/// What cookies are made under, and what they were before.
///
/// linux: include/net/tcp.h:tcp_fastopen_context
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FastopenKeys {
    pub primary: SipKey,
    pub backup: Option<SipKey>,
}

impl FastopenKeys {
    /// Of the octets that a program sets: one key or two.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = |bytes: &[u8]| {
            let (low, high) = (bytes.first_chunk()?, bytes.get(8..)?.first_chunk()?);
            Some(SipKey([u64::from_le_bytes(*low), u64::from_le_bytes(*high)]))
        };
        match bytes.len() {
            16 => Some(Self { primary: key(bytes)?, backup: None }),
            32 => Some(Self { primary: key(bytes)?, backup: Some(key(&bytes[16..])?) }),
            _ => None,
        }
    }

    /// The other way round.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let keys = std::iter::once(self.primary).chain(self.backup);
        keys.flat_map(|key| key.0).flat_map(u64::to_le_bytes).collect()
    }

    /// Of the words of `tcp_fastopen_key`.
    fn of_words((primary, backup): KeyPair) -> Self {
        let word = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let key = |[a, b, c, d]: [u32; 4]| SipKey([word(a, b), word(c, d)]);
        Self { primary: key(primary), backup: backup.map(key) }
    }
}

/// The keys of a machine's listeners that have none of their own.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_init_key_once
pub(crate) fn tcp_fastopen_keys(sysctl: &TcpSysctls, own: SipKey) -> FastopenKeys {
    let unset = FastopenKeys { primary: own, backup: None };
    sysctl.fastopen_key.map_or(unset, FastopenKeys::of_words)
}

/// Connections of a listener whose handshake is not over, though their data is here.
///
/// linux: include/net/request_sock.h:fastopen_queue
#[derive(Debug, Default)]
pub(crate) struct FastopenQueue {
    /// `TCP_FASTOPEN`: so many may be at once.
    pub max_qlen: AtomicU32,
    state: SpinLock<QueueState, class::Accept>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// So many are.
    qlen: u32,
    /// Of those, the ones that were reset: until when each counts.
    reset: VecDeque<Ktime>,
    /// `TCP_FASTOPEN_KEY`.
    keys: Option<FastopenKeys>,
}

impl FastopenQueue {
    /// The keys that the program has set.
    pub(crate) fn keys(&self) -> Option<FastopenKeys> {
        self.state.lock().keys
    }

    /// The program sets keys.
    pub(crate) fn set_keys(&self, keys: FastopenKeys) {
        self.state.lock().keys = Some(keys);
    }

    /// There is room for one more: where there is none, one that was reset long enough ago makes it.
    ///
    /// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_queue_check
    pub(super) fn check(&self, cx: &mut BhCx<'_>) -> bool {
        let most = self.max_qlen.load(Ordering::Relaxed);
        if most == 0 {
            return false;
        }
        let now = cx.now();
        let mut state = self.state.lock();
        if state.qlen < most {
            return true;
        }
        if state.reset.front().is_none_or(|until| *until > now) {
            drop(state);
            cx.count(LinuxMib::TCPFastOpenListenOverflow);
            return false;
        }
        state.reset.pop_front();
        state.qlen -= 1;
        true
    }

    fn enter(&self) {
        self.state.lock().qlen += 1;
    }

    /// One is over; one that was reset counts for a while.
    fn leave(&self, held: Option<Ktime>) {
        let mut state = self.state.lock();
        match held {
            Some(until) => state.reset.push_back(until),
            None => state.qlen = state.qlen.saturating_sub(1),
        }
    }
}

/// What a SYN with the option or with data is to get.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TryFastopen {
    /// The option of the SYN-ACK.
    pub cookie: Option<TcpFastopenCookie>,
    /// A connection at once.
    pub child: bool,
}

/// A SYN at a listener: whether it makes a connection at once, and what cookie its answer has.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_try_fastopen
pub(crate) fn tcp_try_fastopen(
    cx: &mut BhCx<'_>,
    queue: &FastopenQueue,
    (tuple, seg): (&InetTuple, &Segment),
    (asked, no_cookie): (Option<TcpFastopenCookie>, bool),
) -> TryFastopen {
    walk!(cx, tcp_try_fastopen => asked.is_some().into());
    let none = TryFastopen::default();
    if asked.is_some_and(|cookie| cookie.is_request()) {
        cx.count(LinuxMib::TCPFastOpenCookieReqd);
    }
    let sysctl = &cx.t.net.sysctl.tcp;
    let data = seg.cb.end_seq != seg.cb.seq + 1;
    if sysctl.fastopen & TFO_SERVER_ENABLE == 0 || !(data || asked.is_some()) || !queue.check(cx) {
        return none;
    }
    if no_cookie || sysctl.fastopen & TFO_SERVER_COOKIE_NOT_REQD != 0 {
        return TryFastopen { cookie: None, child: true };
    }
    let Some(asked) = asked else { return none };
    let own = cx.t.ns.tcp.fastopen.key;
    let keys = queue.keys().unwrap_or_else(|| tcp_fastopen_keys(sysctl, own));
    let made = |key: &SipKey| TcpFastopenCookie {
        exp: asked.exp,
        ..TcpFastopenCookie::generate(key, tuple.raddr, tuple.laddr)
    };
    let good = made(&keys.primary);
    if asked == good {
        return TryFastopen { cookie: None, child: true };
    }
    if keys.backup.is_some_and(|key| asked == made(&key)) {
        cx.count(LinuxMib::TCPFastOpenPassiveAltKey);
        return TryFastopen { cookie: Some(good), child: true };
    }
    if !asked.is_request() {
        cx.count(LinuxMib::TCPFastOpenPassiveFail);
    }
    TryFastopen { cookie: Some(good), child: false }
}

/// The socket that a SYN has made begins: it may send, and waits for the end of the handshake. Under its lock.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_create_child
pub(crate) fn tcp_fastopen_init_child(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    req: &Arc<RequestSock>,
    (syn, seg): (&SkBuff, &Segment),
) {
    walk!(cx, tcp_fastopen_create_child);
    req.queue.fastopenq.enter();
    let tfo = sk.tp.tfo_mut();
    tfo.rsk = Some(Arc::clone(req));
    tfo.flags |= Tfo::CHILD;
    // A SYN's window is never scaled.
    sk.tp.snd_wnd = seg.th.window.get().into();
    sk.tp.max_window = sk.tp.snd_wnd;
    inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, TCP_TIMEOUT_INIT.into());
    tcp_init_transfer(cx, sk);
    // The SYN is counted already.
    sk.tp.stats.data_segs_in = u32::from(seg.cb.end_seq != seg.cb.seq + 1);
    tcp_fastopen_add_skb(cx, sk, syn, seg);
    sk.tp.rcv_wup = sk.tp.rcv_nxt;
    req.state.lock().syn_data = sk.tp.rcv_nxt - (seg.cb.seq + 1);
    cx.count(LinuxMib::TCPFastOpenPassive);
}

/// Queues the data of a SYN or SYN-ACK, copied: the segment itself goes on. Without memory it is as if it had not
/// come.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_add_skb
pub(crate) fn tcp_fastopen_add_skb(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    syn: &SkBuff,
    seg: &Segment,
) {
    if seg.cb.end_seq == sk.tp.rcv_nxt {
        return;
    }
    let Some(skb) = data_of(cx, syn, seg) else { return };
    sk_forced_mem_charge(cx, sk, skb.truesize as usize);
    tcp_queue_rcv(cx, sk, skb);
    sk.tp.tfo_mut().flags |= Tfo::SYN_DATA_ACKED;
    if seg.cb.tcp_flags & TCPHDR_FIN != 0 {
        tcp_fin(cx, sk);
    }
}

/// What follows the header of a SYN.
fn data_of(cx: &mut BhCx<'_>, syn: &SkBuff, seg: &Segment) -> Option<Skb> {
    let len = syn.len().checked_sub(seg.th.doff())?;
    let mut skb = alloc_skb(cx, len)?;
    if let Some(to) = skb.skb_put(len) {
        syn.skb_copy_bits(seg.th.doff(), to);
    }
    let tcp_flags = seg.cb.tcp_flags & !TCPHDR_SYN;
    skb.cb = Cb::Tcp(TcpSkbCb { seq: seg.cb.seq + 1, tcp_flags, ..seg.cb });
    Some(skb)
}

/// The handshake of a connection is over, or the connection. One that the program has and that was reset before
/// goes on to count (RFC 7413 section 5.1): who forges addresses has no more of them for it.
///
/// linux: net/core/request_sock.c:reqsk_fastopen_remove
pub(crate) fn reqsk_fastopen_remove(sk: &mut TcpSk<'_>, reset: Option<Ktime>) {
    let Some(req) = sk.tp.fastopen.as_mut().and_then(|tfo| tfo.rsk.take()) else { return };
    let accepted = sk.tp.connect == ConnectState::Connected;
    let held = reset.filter(|_| accepted && !req.queue.is_closed());
    req.queue.fastopenq.leave(held.map(|now| now + RST_HELD));
}

/// A segment for a connection whose handshake is not over; true when it may end it.
///
/// linux: net/ipv4/tcp_minisocks.c:tcp_check_req
pub(crate) fn tcp_fastopen_check_req(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (skb, req): (&SkBuff, &Arc<RequestSock>),
    seg: &Segment,
) -> bool {
    let (th, own) = (&seg.th, seg.cb);
    let ts = seg.opts.ts.filter(|_| req.opt.tstamp_ok);
    let (ts_recent, syn_data) = {
        let state = req.state.lock();
        (state.ts_recent, state.syn_data)
    };
    let paws =
        ts.is_some_and(|(val, _)| (ts_recent.wrapping_sub(val) as i32) > 0) && ts_recent != 0;
    if own.seq == req.rcv_isn && th.syn() && !th.ack() && !th.rst() && !paws {
        // Their SYN again.
        if !limited(cx, req) {
            tcp_rtx_synack(cx, sk, req);
        }
        return false;
    }
    let first = req.rcv_isn + 1 + syn_data;
    let end = first + req.rcv_wnd;
    let inside = if own.seq == own.end_seq {
        own.seq.between(first, end)
    } else {
        own.end_seq.after(first) && own.seq.before(end)
    };
    if paws || !inside {
        if !th.rst() && !limited(cx, req) {
            tcp_send_ack(cx, sk);
        }
        if paws {
            cx.count(LinuxMib::PAWSEstab);
        }
        return false;
    }
    if let Some((val, _)) = ts
        && !own.seq.after(first)
    {
        req.state.lock().ts_recent = val;
    }
    if th.rst() {
        cx.count(TcpMib::AttemptFails);
        reqsk_fastopen_remove(sk, Some(cx.now()));
        tcp_reset(cx, sk);
        return false;
    }
    if th.syn() && own.seq != req.rcv_isn {
        cx.count(TcpMib::AttemptFails);
        tcp_v4_send_reset(cx, skb, Some(sk));
        return false;
    }
    th.ack()
}

fn limited(cx: &mut BhCx<'_>, req: &RequestSock) -> bool {
    let mut last = req.state.lock().last_oow_ack_time;
    let limited = __tcp_oow_rate_limited(cx, &mut last, LinuxMib::TCPACKSkippedSynRecv);
    req.state.lock().last_oow_ack_time = last;
    limited
}

/// The SYN-ACK goes again.
///
/// linux: net/ipv4/tcp_output.c:tcp_rtx_synack
fn tcp_rtx_synack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, req: &Arc<RequestSock>) {
    let by = (sk.st.inet.tos, sk.tp.rx_opt.user_mss);
    tcp_v4_send_synack_by(cx, req, by, None);
    // Which of them is acknowledged can't be told.
    sk.tp.synack_sent = Ktime::ZERO;
    cx.count(TcpMib::RetransSegs);
    cx.count(LinuxMib::TCPSynRetrans);
    sk.tp.stats.total_retrans = sk.tp.stats.total_retrans.wrapping_add(1);
}

/// The handshake is not over in time: the SYN-ACK goes again, and nothing else before it is.
///
/// linux: net/ipv4/tcp_timer.c:tcp_fastopen_synack_timer
pub(crate) fn tcp_fastopen_synack_timer(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    req: &Arc<RequestSock>,
) {
    cx.count(LinuxMib::TCPTimeouts);
    let own = sk.tp.syn_retries;
    let most = if own != 0 { own } else { cx.t.net.sysctl.tcp.synack_retries.saturating_add(1) };
    let before = req.state.lock().num_timeout;
    if before >= most {
        return tcp_write_err(cx, sk);
    }
    if sk.tp.retransmits == 1 {
        tcp_enter_loss(cx, sk);
    }
    tcp_rtx_synack(cx, sk, req);
    req.state.lock().num_timeout = before + 1;
    sk.tp.tcp_update_rto_stats(cx.now());
    if sk.tp.retrans_stamp == Ktime::ZERO {
        sk.tp.retrans_stamp = cx.now();
    }
    let timeout = u64::from(TCP_TIMEOUT_INIT) << (before + 1).min(16);
    inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, timeout);
}

/// The handshake is over: data that left meanwhile has the timer now.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_synrecv_state_fastopen
pub(crate) fn tcp_rcv_synrecv_state_fastopen(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if sk.tp.ca_state == CaState::Loss && sk.tp.packets_out == 0 {
        tcp_try_undo_recovery(cx, sk);
    }
    sk.tp.stats.tcp_update_rto_time(cx.now());
    sk.tp.retransmits = 0;
    sk.tp.retrans_stamp = Ktime::ZERO;
    reqsk_fastopen_remove(sk, None);
    tcp_rearm_rto(cx, sk);
}
