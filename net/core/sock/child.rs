//! Sockets that a listener brings forth.
//!
//! linux: net/core/sock.c (`sk_clone_lock`). Context: BH.

use super::{Proto, SkPacing, Sock, SockFlow, SockLocked, SockOpts, SockState};
use crate::kernel::context::BhCx;
use crate::kernel::locking::SpinLock;
use crate::net::core::filter::BpfProg;
use crate::net::ipv4::inet_hashtables::{InetSock, InetTuple};
use crate::net::ipv4::tcp::TcpSock;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// What a connection has from its listener.
#[derive(Clone, Debug)]
pub(crate) struct ChildOf {
    prot: &'static Proto,
    opts: SockOpts,
    inet: InetSock,
    sndbuf: usize,
    pacing: (SkPacing, u64),
    tsflags: u32,
    filter: Option<BpfProg>,
    filter_locked: bool,
}

impl ChildOf {
    /// Of this listener, under its lock.
    pub(crate) fn of(sk: &Sock, state: &SockState) -> Self {
        let (opts, inet) = (state.opts.clone(), state.inet.clone());
        let pacing = (sk.pacing_status(), sk.max_pacing_rate());
        let tsflags = sk.tsflags();
        Self {
            prot: sk.sk_prot,
            opts,
            inet,
            sndbuf: sk.sndbuf(),
            pacing,
            tsflags,
            filter: state.filter().cloned(),
            filter_locked: state.filter_locked(),
        }
    }
}

impl Sock {
    /// A socket for a connection that a listener accepts.
    ///
    /// linux: net/core/sock.c:sk_clone_lock
    pub(crate) fn child(
        cx: &mut BhCx<'_>,
        from: ChildOf,
        tuple: &InetTuple,
        tcp: Box<TcpSock>,
    ) -> Arc<Self> {
        let net = Arc::clone(&cx.t.ns);
        net.tcp.memory.sockets.fetch_add(1, Ordering::Relaxed);
        let mut base = SockState::new(from.opts.rcvbuf);
        base.opts = SockOpts { priority: 0, ..from.opts };
        base.inet = InetSock {
            saddr: tuple.laddr,
            rcv_saddr: tuple.laddr,
            daddr: tuple.raddr,
            num: tuple.lport,
            sport: tuple.lport,
            dport: tuple.rport,
            has_dst: true,
            addr_bound: true,
            port_bound: false,
            ..from.inet
        };
        base.inherit_filter(from.filter, from.filter_locked);
        let inet_id = cx.cpu.rng.next_u32();
        Arc::new(Self {
            cookie: net.first().next_cookie.fetch_add(1, Ordering::Relaxed),
            net,
            sk_prot: from.prot,
            slock: SpinLock::new(SockLocked { base, tcp: Some(tcp) }),
            wmem_alloc: AtomicUsize::new(0),
            sndbuf: AtomicUsize::new(from.sndbuf),
            nospace: AtomicBool::new(false),
            throttled: AtomicBool::new(false),
            num: AtomicU16::new(tuple.lport),
            corked: AtomicBool::new(false),
            pacing_status: AtomicU8::new(from.pacing.0 as u8),
            inet_id: AtomicU32::new(inet_id),
            max_pacing_rate: AtomicU64::new(from.pacing.1),
            tsflags: AtomicU32::new(from.tsflags),
            flow: SockFlow::default(),
        })
    }
}
