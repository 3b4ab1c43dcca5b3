//! Sockets: what every protocol's have in common.
//!
//! linux: net/core/sock.c, include/net/sock.h. Key types: [`Sock`], [`SockState`], [`SockGuard`],
//! [`Proto`]. Contexts: tasks own a socket by [`Sock::lock_sock`]; softirqs take its `slock` and,
//! if a task owns it, leave packets in the backlog. Locks: `class::Sock`.
//! Invariants: a packet for an owned socket waits in the backlog and comes out at
//! [`release_sock`](SockGuard); what queues hold is charged and bounded by `SO_RCVBUF`.

mod child;
mod flow;
mod guard;
mod kind;
mod meminfo;
mod owner;
mod pacing;
mod queue;
mod rare;
mod stamp;
mod state;
mod wmem;

pub(crate) use child::ChildOf;
pub use flow::{MIN_NAPI_ID, SockFlow};
pub use guard::SockGuard;
pub use meminfo::MemInfo;
use owner::{Backlog, Owner};
pub use pacing::SkPacing;
pub use queue::SkBuffHead;
pub use rare::{ErrorPacket, SockError, SockRare};
pub(crate) use stamp::sock_gettstamp;
pub use wmem::SkbOwner;
pub(crate) use wmem::{ListCharge, WmemCharges, settle_wmem};

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinGuard, SpinLock, lockdep::class};
use crate::kernel::sched::wait::WaitQueue;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::busy_poll::BUSY_POLL_BUDGET;
use crate::net::core::skbuff::{Skb, kfree_skb};
use crate::net::core::sysctl::Sysctls;
use crate::net::ipv4::inet_hashtables::InetSock;
use crate::net::ipv4::tcp::TcpSock;
use crate::net::ipv4::udp::UdpSock;
use crate::net::net_namespace::Net;
use crate::net::socket::{RecvBatch, SendBatch, Sent, Socket, Wait};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::task::Poll;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::IP_PMTUDISC_DONT;
use uapi::poll::{POLLOUT, POLLWRBAND, POLLWRNORM};

/// Half-closed for receiving.
pub const RCV_SHUTDOWN: u8 = 1;
/// Half-closed for sending.
pub const SEND_SHUTDOWN: u8 = 2;
/// The least a receive buffer can be.
///
/// linux: include/net/sock.h:SOCK_MIN_RCVBUF
pub const SOCK_MIN_RCVBUF: u32 = 2304;
/// The least a send buffer can be.
pub const SOCK_MIN_SNDBUF: u32 = 4608;

/// What a protocol does for its sockets: its table of functions.
///
/// linux: include/net/sock.h:proto
pub struct Proto {
    /// Name, as `/proc/net/protocols` shows it.
    pub name: &'static str,
    /// `SO_DOMAIN`.
    pub family: i32,
    /// `SO_TYPE` and the IP protocol; a raw socket has its own protocol for a port ([`Sock::sk_protocol`]).
    pub kind: (i32, u8),
    /// The level of its own options.
    pub level: i32,
    /// Sends messages, in order, as many as go. Context: task.
    pub sendmsg:
        fn(&mut TaskCx, &Arc<Sock>, &SendBatch<'_>, &mut Wait) -> Poll<Result<Sent, Errno>>,
    /// Receives a message. Context: task.
    pub recvmsg: RecvMsgFn,
    /// Fixes the peer, or begins to connect. Context: task.
    pub connect: fn(&mut TaskCx, &Arc<Sock>, uapi::in_::SockaddrIn) -> Result<(), Errno>,
    /// Frees the peer. Context: task.
    pub disconnect: fn(&mut TaskCx, &Arc<Sock>) -> Result<(), Errno>,
    /// Takes a port (0: any) at the bound address. Context: task.
    pub get_port: fn(&mut TaskCx, &Arc<Sock>, u16) -> Result<(), Errno>,
    /// Leaves the lookup tables. Context: task.
    pub unhash: fn(&mut TaskCx, &Arc<Sock>),
    /// The last descriptor is closed. Context: task.
    pub close: fn(&mut TaskCx, &Arc<Sock>),
    /// A packet from the backlog. Context: BH, under the socket's state.
    pub backlog_rcv: fn(&mut BhCx<'_>, &Arc<Sock>, &mut SockLocked, Skb),
    /// The owner gives the socket back: what timers left to it. Context: BH, under the state.
    pub release_cb: Option<fn(&mut BhCx<'_>, &Arc<Sock>, &mut SockLocked)>,
    /// An option of the protocol's own level. Context: task.
    pub setsockopt: fn(&mut TaskCx, &Arc<Sock>, i32, &[u8]) -> Result<(), Errno>,
    /// Reads one.
    pub getsockopt: fn(&mut TaskCx, &Arc<Sock>, i32, usize) -> Result<Vec<u8>, Errno>,
}

type RecvMsgFn =
    fn(&mut TaskCx, &Arc<Sock>, &mut RecvBatch<'_, '_>, &mut Wait) -> Poll<Result<(), Errno>>;

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A socket as the network layer has it.
///
/// linux: include/net/sock.h:sock
pub struct Sock {
    /// A number no other socket of the machine has.
    pub cookie: u64,
    /// The namespace.
    pub net: Arc<Net>,
    /// The protocol.
    pub sk_prot: &'static Proto,
    slock: SpinLock<SockLocked, class::Sock>,
    /// Bytes that packets on their way out are charged with.
    wmem_alloc: AtomicUsize,
    sndbuf: AtomicUsize,
    /// Somebody waits for room to send.
    nospace: AtomicBool,
    /// A stream waits for its packets in the queues below.
    throttled: AtomicBool,
    /// The local port, as in the state: read without the lock.
    num: AtomicU16,
    /// A datagram is corked, or the next one will be.
    corked: AtomicBool,
    /// Who holds its packets back to its pace ([`SkPacing`]).
    pacing_status: AtomicU8,
    /// The next IP ID of a connected socket.
    inet_id: AtomicU32,
    /// `SO_MAX_PACING_RATE` in octets a second; `u64::MAX`: none.
    max_pacing_rate: AtomicU64,
    /// `SO_TIMESTAMPING`.
    pub(in crate::net::core) tsflags: AtomicU32,
    /// Where its packets come from.
    flow: SockFlow,
}

/// `SO_LINGER`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Linger {
    /// Closing waits, or resets if `seconds` is zero.
    pub on: bool,
    /// For so long; kept while it is off.
    pub seconds: i32,
}

/// Options of the socket level.
#[derive(Clone, Debug)]
pub struct SockOpts {
    /// `SO_RCVBUF`, doubled as Linux does.
    pub rcvbuf: u32,
    /// `SO_RCVTIMEO`; `None`: for ever.
    pub rcvtimeo: Option<Duration>,
    /// `SO_SNDTIMEO`.
    pub sndtimeo: Option<Duration>,
    /// `SO_RCVLOWAT`.
    pub rcvlowat: i32,
    /// `SO_REUSEADDR`.
    pub reuse: bool,
    /// `SO_REUSEPORT`.
    pub reuseport: bool,
    /// `SO_BROADCAST`.
    pub broadcast: bool,
    /// `SO_KEEPALIVE`, remembered.
    pub keepalive: bool,
    /// `SO_DONTROUTE`.
    pub localroute: bool,
    /// `SO_NO_CHECK`: send without checksum.
    pub no_check_tx: bool,
    /// `SO_BUSY_POLL`: so many microseconds a reader polls before he sleeps.
    pub ll_usec: u32,
    /// `SO_BUSY_POLL_BUDGET`: packets of such a poll.
    pub busy_poll_budget: u16,
    /// `SO_PREFER_BUSY_POLL`, remembered.
    pub prefer_busy_poll: bool,
    /// `SO_ZEROCOPY`: `MSG_ZEROCOPY` means something.
    pub zerocopy: bool,
    /// `SO_PRIORITY`.
    pub priority: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_BINDTODEVICE`; 0: any.
    pub bound_dev_if: u16,
    /// `SO_LINGER`, remembered.
    pub linger: Linger,
    /// `SO_OOBINLINE`, remembered.
    pub urginline: bool,
    /// `SO_PEEK_OFF`: where the next peek begins; negative: at the start, always.
    pub peek_off: i32,
}

impl Backlog for SkBuffHead {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// What a socket's lock protects: what every protocol's sockets have, and TCP's part.
// Side by side, not one in the other, so that TCP can have both in hand.
pub struct SockLocked {
    /// What all have.
    pub base: SockState,
    /// A TCP socket's own.
    pub(crate) tcp: Option<Box<TcpSock>>,
}

impl SockLocked {
    /// The socket is dead: who was in the middle of something will not end it.
    fn after_a_panic(&mut self) {
        self.dead = true;
        self.owner.abandon();
        self.err = Some(Errno::EIO);
    }
}

impl Deref for SockLocked {
    type Target = SockState;
    #[inline]
    fn deref(&self) -> &SockState {
        &self.base
    }
}

impl DerefMut for SockLocked {
    #[inline]
    fn deref_mut(&mut self) -> &mut SockState {
        &mut self.base
    }
}

/// What every socket's lock protects.
pub struct SockState {
    owner: Owner<SkBuffHead>,
    backlog_len: usize,
    /// Packets to read.
    pub receive_queue: SkBuffHead,
    /// Bytes the receive queue is charged with.
    pub rmem_alloc: usize,
    /// What few sockets have.
    rare: Option<Box<SockRare>>,
    /// Who waits.
    ///
    /// linux: include/net/sock.h:sk_wq
    pub wq: WaitQueue,
    /// The error the next call returns.
    pub err: Option<Errno>,
    /// Half-closed ways.
    pub shutdown: u8,
    /// Packets dropped for a full buffer (`sk_drops`).
    pub drops: u32,
    /// The last release closed it.
    pub dead: bool,
    /// The owner has something to do when it gives the socket back.
    pub(crate) release_cb_due: bool,
    /// The time of the packet read last, for `SIOCGSTAMP`; zero: it had none.
    pub(crate) stamp: Ktime,
    /// Options of the socket level.
    pub opts: SockOpts,
    /// The IPv4 side.
    pub inet: InetSock,
    /// The UDP side.
    pub udp: UdpSock,
}

impl Sock {
    /// A socket with the machine's default buffers.
    ///
    /// linux: net/core/sock.c:sk_alloc
    pub fn new(cx: &mut TaskCx, sk_prot: &'static Proto) -> Arc<Self> {
        let t = cx.tables();
        let (net, sysctl) = (Arc::clone(&t.ns), Arc::clone(&t.net.sysctl));
        let inet_id = cx.local_bh_disable(|bh| bh.cpu.rng.next_u32());
        if sysctl.busy_read != 0 {
            cx.machine().net().napi_looks.store(true, Ordering::Relaxed);
        }
        Arc::new(Self {
            cookie: cx.machine().net().next_cookie.fetch_add(1, Ordering::Relaxed),
            net,
            sk_prot,
            slock: SpinLock::new(SockLocked {
                base: SockState::new(sysctl.rmem_default).with_settings(&sysctl),
                tcp: None,
            }),
            wmem_alloc: AtomicUsize::new(0),
            sndbuf: AtomicUsize::new(sysctl.wmem_default as usize),
            nospace: AtomicBool::new(false),
            throttled: AtomicBool::new(false),
            num: AtomicU16::new(0),
            corked: AtomicBool::new(false),
            pacing_status: AtomicU8::new(SkPacing::None as u8),
            inet_id: AtomicU32::new(inet_id),
            max_pacing_rate: AtomicU64::new(u64::MAX),
            tsflags: AtomicU32::new(0),
            flow: SockFlow::default(),
        })
    }

    /// Takes the state for a moment (`bh_lock_sock`). After a panic under it the socket is dead.
    #[inline]
    pub fn state(&self) -> SpinGuard<'_, SockLocked> {
        self.slock.lock_or_repair(SockLocked::after_a_panic)
    }

    /// The same for a packet socket that is shown a packet on its way out: its sender's socket may be held, and no
    /// other is taken under this one.
    pub(crate) fn state_of_tap(&self) -> SpinGuard<'_, SockLocked> {
        self.slock.lock_or_repair_as::<class::TapSock>(SockLocked::after_a_panic)
    }

    /// The same for code that also runs while a panic elsewhere unwinds, as a call that is given up
    /// does: that panic is none of the socket's, so it leaves no mark here.
    pub(crate) fn state_in_drop(&self) -> SpinGuard<'_, SockLocked> {
        self.slock.lock()
    }

    /// Owns the socket until the guard is dropped; softirqs leave packets in the backlog meanwhile.
    ///
    /// linux: net/core/sock.c:lock_sock
    pub fn lock_sock<'a>(self: &'a Arc<Self>, cx: &'a mut TaskCx) -> SockGuard<'a> {
        walk!(cx, lock_sock);
        let mut spins = 0;
        loop {
            let mut state = self.state();
            if state.owner.own() {
                break;
            }
            drop(state);
            cx.machine().platform.relax(spins);
            spins += 1;
        }
        SockGuard { sk: self, cx }
    }

    /// The local port; zero: none.
    #[inline]
    pub fn inet_num(&self) -> u16 {
        self.num.load(Ordering::Acquire)
    }

    /// Changes the local port, under the bucket's lock.
    pub(crate) fn set_inet_num(&self, state: &mut SockState, num: u16) {
        state.inet.num = num;
        if num != 0 {
            state.inet.sport = num;
        }
        self.num.store(num, Ordering::Release);
    }

    /// The next IP ID of a connected socket. Two threads may get the same one, which a receiver
    /// can't confuse: their datagrams are not fragments of one.
    #[inline]
    pub(crate) fn next_ident(&self) -> u16 {
        self.next_idents(1)
    }

    /// The first of so many that follow one another: of a packet that is cut later.
    ///
    /// linux: include/net/ip.h:ip_select_ident_segs
    #[inline]
    pub(crate) fn next_idents(&self, segs: u16) -> u16 {
        let id = self.inet_id.load(Ordering::Relaxed);
        self.inet_id.store(id.wrapping_add(segs.into()), Ordering::Relaxed);
        id as u16
    }

    /// A datagram is corked, or the next one will be.
    #[inline]
    pub(crate) fn corked(&self) -> bool {
        self.corked.load(Ordering::Acquire)
    }

    /// Under the state's lock, or the socket's ownership.
    pub(crate) fn set_corked(&self, corked: bool) {
        self.corked.store(corked, Ordering::Release);
    }

    /// Bytes on their way out.
    #[inline]
    pub fn wmem_alloc(&self) -> usize {
        self.wmem_alloc.load(Ordering::SeqCst)
    }

    /// `SO_SNDBUF`, doubled as Linux does.
    pub fn sndbuf(&self) -> usize {
        self.sndbuf.load(Ordering::Relaxed)
    }

    /// Changes the send buffer.
    pub fn set_sndbuf(&self, bytes: u32) {
        self.sndbuf.store(bytes as usize, Ordering::Relaxed);
    }

    /// What `poll` says of a datagram socket.
    ///
    /// linux: net/core/datagram.c:datagram_poll
    pub fn datagram_poll(&self) -> u32 {
        let mut mask = self.state().readable_mask();
        if self.sock_writeable() {
            mask |= (POLLOUT | POLLWRNORM | POLLWRBAND) as u32;
        }
        mask
    }
}

impl fmt::Debug for Sock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sock({} {})", self.sk_prot.name, self.cookie)
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        let locked = self.slock.get_mut();
        let state = &locked.base;
        let streams = |tp: &TcpSock| {
            tp.rtx_queue.is_empty() && tp.write_queue.is_empty() && tp.out_of_order_queue.is_empty()
        };
        let empty = state.receive_queue.is_empty() && state.owner.backlog.is_empty();
        if !empty || !locked.tcp.as_deref().is_none_or(streams) {
            locked.forget_at_exit();
        }
    }
}

impl SockLocked {
    /// Packets went when the socket was closed; only a machine that goes away whole leaves some.
    #[cold]
    fn forget_at_exit(&mut self) {
        let state = &mut self.base;
        for skb in state.receive_queue.drain().chain(state.owner.backlog.drain()) {
            skb.forget_at_exit();
        }
        if let Some(tp) = &mut self.tcp {
            let early = std::mem::take(&mut tp.out_of_order_queue).into_values();
            for skb in tp.rtx_queue.drain(..).chain(tp.write_queue.drain(..)).chain(early) {
                skb.forget_at_exit();
            }
        }
    }
}

impl SockState {
    fn new(rcvbuf: u32) -> Self {
        Self {
            owner: Owner::default(),
            backlog_len: 0,
            receive_queue: SkBuffHead::default(),
            rmem_alloc: 0,
            rare: None,
            wq: WaitQueue::default(),
            err: None,
            shutdown: 0,
            drops: 0,
            dead: false,
            release_cb_due: false,
            stamp: Ktime::ZERO,
            opts: SockOpts::new(rcvbuf),
            inet: InetSock::default(),
            udp: UdpSock::default(),
        }
    }
}

impl SockState {
    /// Readers poll from the beginning (`net.core.busy_read`), and the MTU of ways is not discovered
    /// (`net.ipv4.ip_no_pmtu_disc`), where the settings say so.
    fn with_settings(mut self, sysctl: &Sysctls) -> Self {
        self.opts.ll_usec = sysctl.busy_read;
        if sysctl.ip_no_pmtu_disc != 0 {
            self.inet.pmtudisc = IP_PMTUDISC_DONT;
        }
        self
    }
}

impl SockOpts {
    fn new(rcvbuf: u32) -> Self {
        Self {
            rcvbuf,
            rcvtimeo: None,
            sndtimeo: None,
            rcvlowat: 1,
            reuse: false,
            reuseport: false,
            broadcast: false,
            keepalive: false,
            localroute: false,
            no_check_tx: false,
            ll_usec: 0,
            busy_poll_budget: BUSY_POLL_BUDGET,
            prefer_busy_poll: false,
            zerocopy: false,
            priority: 0,
            mark: 0,
            bound_dev_if: 0,
            linger: Linger::default(),
            urginline: false,
            peek_off: -1,
        }
    }
}

/// What the socket's protocol does to receive.
// Not inlined, so that the family's station in front is a test and a jump: with the loads behind
// its test it would have a frame, for the case that somebody watches.
#[inline(never)]
pub(crate) fn sk_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    (sk.sk_prot.recvmsg)(cx, sk, batch, wait)
}

/// `listen` where nobody can connect.
///
/// linux: net/core/sock.c:sock_no_listen
pub(crate) fn sock_no_listen(_: &mut TaskCx, _: &Arc<Sock>, _: i32) -> Result<(), Errno> {
    Err(Errno::EOPNOTSUPP)
}

/// `accept` where nobody can connect.
///
/// linux: net/core/sock.c:sock_no_accept
pub(crate) fn sock_no_accept(
    _: &mut TaskCx,
    _: &Arc<Sock>,
    _: &mut Wait,
) -> Poll<Result<Socket, Errno>> {
    Poll::Ready(Err(Errno::EOPNOTSUPP))
}

/// Ends everything a closed socket still holds.
///
/// linux: net/core/stream.c:sk_stream_kill_queues, net/core/sock.c:sk_free
pub(crate) fn sk_purge(cx: &mut TaskCx, sk: &Arc<Sock>) {
    let (mut received, mut backlog, _errors) = {
        let mut state = sk.state();
        state.dead = true;
        state.rmem_alloc = 0;
        state.backlog_len = 0;
        let received = std::mem::take(&mut state.receive_queue);
        let backlog = std::mem::take(&mut state.owner.backlog);
        (received, backlog, state.take_errors())
    };
    cx.local_bh_disable(|bh| {
        let mut state = sk.state();
        state.wake_up_all(bh, u32::MAX);
        drop(state);
        for skb in received.drain().chain(backlog.drain()) {
            kfree_skb(bh, skb, DropReason::SocketClose);
        }
    });
}

/// A panic was contained: sockets that were locked then are dead, and who waits at them hears of it
/// now rather than at the next packet.
#[cold]
pub(crate) fn report_killed(cx: &mut BhCx<'_>) {
    for t in cx.root.all() {
        let net = &t.ns;
        let streams = net.tcp.hashinfo.all_socks();
        let others = [net.raw.all_socks(), net.ping.all_socks(), net.packet.all_socks()];
        for sk in net.udp_table.dump().into_iter().chain(streams).chain(others.concat()) {
            let mut state = sk.state();
            if state.dead {
                state.sk_error_report(cx, None);
            }
        }
    }
}

/// When a call that waits `timeout` (`None`: for ever) from now must end.
pub(crate) fn deadline(cx: &mut TaskCx, timeout: Option<Duration>) -> Option<Ktime> {
    timeout.map(|timeout| cx.now() + timeout)
}
