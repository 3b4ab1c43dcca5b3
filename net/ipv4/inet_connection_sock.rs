//! Sockets that have connections: their ports, listening and accepting, requests, timers.
//!
//! linux: net/ipv4/inet_connection_sock.c, include/net/inet_connection_sock.h, include/net/request_sock.h.
//! Key types: [`Listener`], [`RequestSock`]. Contexts: calls by tasks; requests and timers in BH. Locks:
//! `class::Request` for a request, `class::Accept` for the queue of those that wait to be accepted.
//! Invariant: a SYN never takes a listener's ownership: requests are found in the table of connections.

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::kernel::timer::{TimerHandle, TimerTarget};
use crate::net::core::sock::Sock;
use crate::net::ipv4::af_inet::INET_STREAM_OPS;
use crate::net::ipv4::inet_hashtables::{
    BindAttrs, BindKind, InetTuple, Wanted, inet_hash, inet_put_port, ports_in,
};
use crate::net::ipv4::tcp::{
    IcskPending, SeqNr, SockTimer, TCP_RTO_MAX, TCP_TIMEOUT_INIT, TcpOptionsReceived, TcpSk,
    TcpState, TimerKind, tcp_set_state,
};
use crate::net::ipv4::tcp_fastopen::{
    FastopenQueue, TFO_SERVER_ENABLE, TFO_SERVER_WO_SOCKOPT1, reqsk_fastopen_remove,
};
use crate::net::ipv4::tcp_input::tcp_stop_comp_sack;
use crate::net::ipv4::tcp_ipv4::tcp_v4_send_synack;
use crate::net::ipv4::tcp_output::{tcp_pacing_delay, tcp_stop_pacing};
use crate::net::socket::{Socket, Wait};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::poll::POLLIN;
use uapi::snmp::LinuxMib;

/// A listening socket's own: its backlog, its requests, what waits to be accepted.
///
/// linux: include/net/request_sock.h:request_sock_queue
#[derive(Debug, Default)]
pub struct Listener {
    /// `listen`'s backlog (`sk_max_ack_backlog`).
    pub max_ack_backlog: AtomicU32,
    /// Connections that wait to be accepted (`sk_ack_backlog`).
    pub ack_backlog: AtomicU32,
    /// Requests.
    pub qlen: AtomicU32,
    /// Of those, the ones whose SYN-ACK was not sent twice.
    pub young: AtomicU32,
    /// It listens no more.
    closed: AtomicBool,
    /// When a SYN last found the queue of requests full, in seconds: cookies are taken for a while after.
    pub last_overflow: AtomicU32,
    /// Connections by fast open.
    pub(crate) fastopenq: Arc<FastopenQueue>,
    accept_queue: SpinLock<VecDeque<Arc<Sock>>, class::Accept>,
}

impl Listener {
    /// No more connections may wait to be accepted.
    ///
    /// linux: include/net/sock.h:sk_acceptq_is_full
    pub fn acceptq_is_full(&self) -> bool {
        self.ack_backlog.load(Ordering::Relaxed) > self.max_ack_backlog.load(Ordering::Relaxed)
    }

    /// No more requests.
    ///
    /// linux: include/net/inet_connection_sock.h:inet_csk_reqsk_queue_is_full
    pub fn reqsk_queue_is_full(&self) -> bool {
        self.qlen.load(Ordering::Relaxed) >= self.max_ack_backlog.load(Ordering::Relaxed)
    }

    /// Something waits to be accepted.
    pub(crate) fn has_connections(&self) -> bool {
        !self.accept_queue.lock().is_empty()
    }

    /// A connection waits to be accepted from now on; false when nobody will.
    ///
    /// linux: net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_add
    pub(crate) fn reqsk_queue_add(&self, child: &Arc<Sock>) -> bool {
        let mut queue = self.accept_queue.lock();
        if self.closed.load(Ordering::Relaxed) {
            return false;
        }
        queue.push_back(Arc::clone(child));
        self.ack_backlog.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn take(&self) -> Option<Arc<Sock>> {
        let child = self.accept_queue.lock().pop_front()?;
        self.ack_backlog.fetch_sub(1, Ordering::Relaxed);
        Some(child)
    }

    /// It listens no more: what waited, to be ended.
    pub(crate) fn close(&self) -> VecDeque<Arc<Sock>> {
        let mut queue = self.accept_queue.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.ack_backlog.store(0, Ordering::Relaxed);
        std::mem::take(&mut *queue)
    }

    /// It listens no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// A connection that somebody asked for: what is to be remembered between its SYN and its ACK.
///
/// linux: include/net/request_sock.h:request_sock, include/net/tcp.h:tcp_request_sock
pub struct RequestSock {
    /// The connection.
    pub tuple: InetTuple,
    /// Who listens.
    pub listener: Arc<Sock>,
    /// His queues.
    pub queue: Arc<Listener>,
    /// Their SYN.
    pub rcv_isn: SeqNr,
    /// Ours.
    pub snt_isn: SeqNr,
    /// The segment size they take.
    pub mss: u16,
    /// What was agreed on; `ts_recent` is theirs.
    pub opt: TcpOptionsReceived,
    /// They asked for ECN and have it.
    pub ecn_ok: bool,
    /// Added to the clock of timestamps.
    pub ts_off: u32,
    /// The window we offer first.
    pub rcv_wnd: u32,
    /// And at the most.
    pub window_clamp: u32,
    /// The TOS of their SYN.
    pub syn_tos: u8,
    /// The device it came in at.
    pub iif: u16,
    /// The headers of their SYN, for a listener that wants them (`TCP_SAVE_SYN`).
    pub saved_syn: Option<Box<[u8]>>,
    /// A number no other socket of the namespace has.
    pub cookie: u64,
    /// It is in no table: its answer's sequence number remembers it.
    pub as_cookie: bool,
    /// The key that signs its segments.
    pub(crate) md5_key: Option<Box<crate::net::ipv4::tcp_md5sig::TcpMd5sigKey>>,
    /// What the listener wants of them.
    pub(crate) filter: Option<crate::net::core::filter::BpfProg>,
    /// The options of its answer: those of their SYN, echoed.
    pub(crate) ireq_opt: Option<Arc<crate::net::ipv4::ip_options::IpOptionsRcu>>,
    /// What changes.
    pub(crate) state: SpinLock<ReqState, class::Request>,
}

/// What changes of a request.
#[derive(Debug, Default)]
pub(crate) struct ReqState {
    /// SYN-ACKs that were sent again.
    pub num_retrans: u8,
    /// Times that its timer expired.
    pub num_timeout: u8,
    /// When the first SYN-ACK left.
    pub snt_synack: Ktime,
    /// When a needless segment was answered.
    pub last_oow_ack_time: Ktime,
    /// Their ACK came, but the listener waits for data (`TCP_DEFER_ACCEPT`).
    pub acked: bool,
    /// Their last timestamp.
    pub ts_recent: u32,
    /// Octets of their SYN that were taken.
    pub syn_data: u32,
    /// When its timer expires.
    pub deadline: Ktime,
    filed: Option<(u8, TimerHandle)>,
}

impl ReqState {
    /// Of a SYN with this timestamp.
    pub(crate) fn new(ts_recent: u32) -> Self {
        Self { ts_recent, ..Self::default() }
    }
}

impl fmt::Debug for RequestSock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestSock({:?})", self.tuple)
    }
}

/// Takes a port (0: any) for a socket.
///
/// # Errors
/// EADDRINUSE when the port, or every port, is taken.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_get_port
pub(crate) fn inet_csk_get_port(cx: &mut TaskCx, sk: &Arc<Sock>, port: u16) -> Result<(), Errno> {
    let (low, high) = cx.tables().net.sysctl.ip_local_port_range;
    cx.local_bh_disable(|bh| {
        let mut locked = sk.state();
        let sk = TcpSk::of(sk, &mut locked).ok_or(Errno::EOPNOTSUPP)?;
        let attrs = BindAttrs::of(sk.st, BindKind::Bound);
        let bhash = &sk.sk.net.tcp.hashinfo.bhash;
        let node = if port != 0 {
            bhash.bind(port, attrs, Wanted::Exactly)
        } else {
            // The parity that connections don't begin with, so that the two don't meet.
            let count = ports_in((low, high));
            let start = bh.cpu.rng.below(count) | 1;
            let ports = [0, 1].into_iter().flat_map(|parity| {
                (0..count).step_by(2).map(move |step| (start + step + parity) % count)
            });
            let mut ports = ports.map(|offset| low + offset as u16);
            ports.find_map(|port| bhash.bind(port, attrs, Wanted::Any))
        };
        let node = node.ok_or(Errno::EADDRINUSE)?;
        sk.sk.set_inet_num(sk.st, node.port);
        sk.tp.bind = Some(node);
        Ok(())
    })
}

/// A socket begins to listen, or changes its backlog. Context: BH, under its ownership.
///
/// # Errors
/// EADDRINUSE: another listens at its port; those of `inet_csk_get_port` are the caller's.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_listen_start
pub(crate) fn inet_csk_listen_start(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    backlog: u32,
) -> Result<(), Errno> {
    let attrs = BindAttrs::of(sk.st, BindKind::Listen);
    let node = sk.tp.bind.as_ref().ok_or(Errno::EADDRINUSE)?;
    if !sk.sk.net.tcp.hashinfo.bhash.may_listen(node, attrs) {
        return Err(Errno::EADDRINUSE);
    }
    let fastopenq = sk.tp.fastopenq();
    let without = TFO_SERVER_ENABLE | TFO_SERVER_WO_SOCKOPT1;
    if cx.t.net.sysctl.tcp.fastopen & without == without
        && fastopenq.max_qlen.load(Ordering::Relaxed) == 0
    {
        fastopenq.max_qlen.store(backlog, Ordering::Relaxed);
    }
    let listener = Listener { fastopenq, ..Listener::default() };
    listener.max_ack_backlog.store(backlog, Ordering::Relaxed);
    sk.tp.listener = Some(Arc::new(listener));
    tcp_set_state(cx, sk, TcpState::Listen);
    sk.tp.dst = None;
    inet_hash(sk);
    Ok(())
}

/// Takes a connection from a listener, or waits for one.
///
/// # Errors
/// EINVAL for a socket that does not listen; EAGAIN when the call may not wait or its time is up;
/// EINTR.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_accept
pub(crate) fn inet_csk_accept(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    wait: &mut Wait,
) -> Poll<Result<Socket, Errno>> {
    walk!(cx, inet_csk_accept);
    let taken = {
        let guard = sk.lock_sock(cx);
        let state = guard.state();
        let tp = state.tcp.as_deref().filter(|tp| tp.state == TcpState::Listen);
        let listener = tp.and_then(|tp| tp.listener.clone());
        drop(state);
        listener.map(|listener| listener.take())
    };
    match taken {
        None => Poll::Ready(Err(Errno::EINVAL)),
        Some(Some(child)) => Poll::Ready(Ok(Socket::new(child, &INET_STREAM_OPS))),
        Some(None) => inet_csk_wait_for_connect(cx, sk, wait),
    }
}

/// linux: net/ipv4/inet_connection_sock.c:inet_csk_wait_for_connect
#[cold]
fn inet_csk_wait_for_connect(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    wait: &mut Wait,
) -> Poll<Result<Socket, Errno>> {
    let waited = wait.for_event(cx, sk, POLLIN as u32, 0, |state| {
        let tp = state.tcp.as_deref();
        let listener = tp.and_then(|tp| tp.listener.as_ref());
        listener.is_none_or(|listener| listener.has_connections())
    });
    match ready!(waited) {
        Ok(socket) => Poll::Ready(Ok(socket)),
        Err(error) => {
            let listens = sk.state().tcp.as_ref().is_some_and(|tp| tp.state == TcpState::Listen);
            Poll::Ready(Err(if listens { error } else { Errno::EINVAL }))
        }
    }
}

/// Enters a request and arms its timer; false when the connection has somebody already.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_hash_add
pub(crate) fn inet_csk_reqsk_queue_hash_add(cx: &mut BhCx<'_>, req: &Arc<RequestSock>) -> bool {
    use crate::net::ipv4::inet_hashtables::EhashEntry;
    let entry = || EhashEntry::Request(Arc::clone(req));
    let hash = &cx.t.ns.tcp.hashinfo.ehash;
    if hash.insert(&req.tuple, entry, |_| false).is_err() {
        return false;
    }
    let at = cx.now() + Duration::from_micros(u64::from(TCP_TIMEOUT_INIT));
    reqsk_arm(cx, req, &mut req.state.lock(), at);
    req.queue.qlen.fetch_add(1, Ordering::Relaxed);
    req.queue.young.fetch_add(1, Ordering::Relaxed);
    true
}

fn reqsk_arm(cx: &mut BhCx<'_>, req: &Arc<RequestSock>, state: &mut ReqState, at: Ktime) {
    state.deadline = at;
    if state.filed.is_none() {
        let target: Arc<dyn TimerTarget> = Arc::clone(req) as Arc<dyn TimerTarget>;
        state.filed = Some((cx.cpu.id.0, cx.add_timer(at, target, 0)));
    }
}

/// The SYN-ACK went again: the timer counts from now.
///
/// linux: include/net/request_sock.h:tcp_reqsk_timeout
pub(crate) fn reqsk_postpone(cx: &mut BhCx<'_>, req: &Arc<RequestSock>) {
    let now = cx.now();
    let mut state = req.state.lock();
    let timeout = u64::from(TCP_TIMEOUT_INIT) << state.num_timeout.min(16);
    let at = now + Duration::from_micros(timeout.min(u64::from(TCP_RTO_MAX)));
    reqsk_arm(cx, req, &mut state, at);
}

/// Takes a request out for good; false when somebody else did.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_drop
pub(crate) fn inet_csk_reqsk_queue_drop(cx: &mut BhCx<'_>, req: &Arc<RequestSock>) -> bool {
    let there = cx.t.ns.tcp.hashinfo.ehash.remove_request(req);
    if there {
        reqsk_removed(cx, req);
    }
    there
}

/// A request is in the table no more: its timer goes, and its place in the listener's queue.
///
/// linux: include/net/inet_connection_sock.h:inet_csk_reqsk_queue_removed
pub(crate) fn reqsk_removed(cx: &mut BhCx<'_>, req: &RequestSock) {
    let (filed, young) = {
        let mut state = req.state.lock();
        (state.filed.take(), state.num_timeout == 0)
    };
    if let Some((cpu, handle)) = filed
        && cpu == cx.cpu.id.0
    {
        cx.cpu.timers.del(handle);
    }
    if young {
        req.queue.young.fetch_sub(1, Ordering::Relaxed);
    }
    req.queue.qlen.fetch_sub(1, Ordering::Relaxed);
}

impl TimerTarget for RequestSock {
    /// The SYN-ACK is sent again, or nobody answers.
    ///
    /// linux: net/ipv4/inet_connection_sock.c:reqsk_timer_handler
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, _: u64) {
        let now = cx.now();
        {
            let mut state = self.state.lock();
            state.filed = None;
            if state.deadline > now {
                let at = state.deadline;
                return reqsk_arm(cx, &self, &mut state, at);
            }
        }
        if self.queue.is_closed() {
            inet_csk_reqsk_queue_drop(cx, &self);
            return;
        }
        let (syn_retries, defer) = {
            let state = self.listener.state();
            state.tcp.as_ref().map_or((0, 0), |tp| (tp.syn_retries, tp.defer_accept))
        };
        let sysctl = &cx.t.net.sysctl.tcp;
        let most = if syn_retries != 0 { syn_retries } else { sysctl.synack_retries };
        let most = self.fewer_when_crowded(most);
        let mut state = self.state.lock();
        let (expire, resend) = syn_ack_recalc(&state, most, defer);
        if expire {
            drop(state);
            if inet_csk_reqsk_queue_drop(cx, &self) {
                cx.count(LinuxMib::TCPTimeouts);
            }
            return;
        }
        if state.num_timeout == 0 {
            self.queue.young.fetch_sub(1, Ordering::Relaxed);
        }
        state.num_timeout = state.num_timeout.saturating_add(1);
        let timeout = u64::from(TCP_TIMEOUT_INIT) << state.num_timeout.min(16);
        let at = now + Duration::from_micros(timeout.min(u64::from(TCP_RTO_MAX)));
        reqsk_arm(cx, &self, &mut state, at);
        if resend {
            state.num_retrans = state.num_retrans.saturating_add(1);
            drop(state);
            cx.count(LinuxMib::TCPSynRetrans);
            cx.count(uapi::snmp::TcpMib::RetransSegs);
            tcp_v4_send_synack(cx, &self, None);
        }
    }
}

impl RequestSock {
    /// When the queue is half full of requests that nobody answers, each gets fewer tries.
    fn fewer_when_crowded(&self, most: u8) -> u8 {
        let qlen = self.queue.qlen.load(Ordering::Relaxed);
        let most_requests = self.queue.max_ack_backlog.load(Ordering::Relaxed).max(8);
        if qlen << 1 <= most_requests {
            return most;
        }
        let (mut tries, mut young) = (most, self.queue.young.load(Ordering::Relaxed) << 1);
        while tries > 2 && qlen >= young {
            tries -= 1;
            young <<= 1;
        }
        tries
    }
}

/// Whether a request has had its tries, and whether the SYN-ACK goes again now.
///
/// linux: net/ipv4/inet_connection_sock.c:syn_ack_recalc
fn syn_ack_recalc(state: &ReqState, most: u8, defer_accept: u8) -> (bool, bool) {
    if defer_accept == 0 {
        return (state.num_timeout >= most, true);
    }
    let expire = state.num_timeout >= most && (!state.acked || state.num_timeout >= defer_accept);
    // One that was acknowledged is asked for data only towards the end.
    (expire, !state.acked || state.num_timeout >= defer_accept.saturating_sub(1))
}

// ---- Timers of a connection.

/// Sets a timer of the socket.
///
/// linux: net/core/sock.c:sk_reset_timer
#[inline]
pub(crate) fn sk_reset_timer(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, kind: TimerKind, at: Ktime) {
    let timer = &mut sk.tp.timers[kind as usize];
    timer.deadline = at;
    // One that is filed for earlier is looked at again when that comes.
    if timer.filed.is_none_or(|(_, _, filed)| filed > at) {
        file_anew(cx, sk, kind);
    }
}

#[inline(never)]
fn file_anew(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, kind: TimerKind) {
    let timer = &mut sk.tp.timers[kind as usize];
    if let Some((on, handle, _)) = timer.filed
        && on == cx.cpu.id.0
    {
        cx.cpu.timers.del(handle);
    }
    sk_file_timer(cx, sk.sk, timer, kind);
}

pub(crate) fn sk_file_timer(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    timer: &mut SockTimer,
    kind: TimerKind,
) {
    let target: Arc<dyn TimerTarget> = Arc::clone(sk) as Arc<dyn TimerTarget>;
    let handle = cx.add_timer(timer.deadline, target, kind as u64);
    timer.filed = Some((cx.cpu.id.0, handle, timer.deadline));
}

/// Stops a timer.
///
/// linux: net/core/sock.c:sk_stop_timer
#[inline]
pub(crate) fn sk_stop_timer(sk: &mut TcpSk<'_>, kind: TimerKind) {
    sk.tp.timers[kind as usize].deadline = Ktime::ZERO;
}

/// Stops all timers and takes them out of this CPU's wheel.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_clear_xmit_timers
pub(crate) fn inet_csk_clear_xmit_timers(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    sk.tp.pending = IcskPending::None;
    sk.tp.ack.pending = Default::default();
    tcp_stop_pacing(cx, sk.tp);
    tcp_stop_comp_sack(cx, sk.tp);
    for timer in &mut sk.tp.timers {
        timer.deadline = Ktime::ZERO;
        if let Some((cpu, handle, _)) = timer.filed.take()
            && cpu == cx.cpu.id.0
        {
            cx.cpu.timers.del(handle);
        }
    }
}

/// Sets the write timer: what for, and in how many microseconds.
///
/// linux: include/net/inet_connection_sock.h:inet_csk_reset_xmit_timer
pub(crate) fn inet_csk_reset_xmit_timer(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    what: IcskPending,
    micros: u64,
) {
    let at = cx.now() + Duration::from_micros(micros.min(u64::from(TCP_RTO_MAX)));
    sk.tp.pending = what;
    sk_reset_timer(cx, sk, TimerKind::Write, at);
}

/// The same, longer by what the pace holds the next segment back for.
///
/// linux: include/net/tcp.h:tcp_reset_xmit_timer
pub(crate) fn tcp_reset_xmit_timer(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    what: IcskPending,
    micros: u64,
) {
    let delay = tcp_pacing_delay(sk.tp, cx.now());
    inet_csk_reset_xmit_timer(cx, sk, what, micros.saturating_add(delay));
}

/// Stops the write timer.
///
/// linux: include/net/inet_connection_sock.h:inet_csk_clear_xmit_timer
pub(crate) fn inet_csk_clear_xmit_timer(sk: &mut TcpSk<'_>) {
    sk.tp.pending = IcskPending::None;
    sk_stop_timer(sk, TimerKind::Write);
}

/// Sets the keepalive timer.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_reset_keepalive_timer
pub(crate) fn inet_csk_reset_keepalive_timer(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    after: Duration,
) {
    let at = cx.now() + after;
    sk_reset_timer(cx, sk, TimerKind::Keepalive, at);
}

/// A socket without connection and without descriptor ends: its port, its queues, its counts.
///
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_destroy_sock
pub(crate) fn inet_csk_destroy_sock(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    reqsk_fastopen_remove(sk, None);
    crate::net::ipv4::tcp_ipv4::tcp_v4_destroy_sock(cx, sk);
    inet_put_port(sk);
    if std::mem::take(&mut sk.tp.orphan) {
        sk.sk.net.tcp.memory.orphans.fetch_sub(1, Ordering::Relaxed);
    }
    sk.st.dead = true;
    // A close that lingers.
    sk.st.wake_up_all(cx, u32::MAX);
}
