//! What TCP's sockets tell of themselves to who asks from outside: `ss`.
//!
//! linux: net/ipv4/inet_diag.c, net/ipv4/tcp_diag.c. Key types: [`InetDiagMsg`], [`InetDiagTimer`].
//! Contexts: task, on no CPU. Locks: a table's, then each socket's, one at a time: a row is of one moment,
//! the list is not.

use crate::kernel::time::Ktime;
use crate::net::core::sock::{MemInfo, Sock};
use crate::net::ipv4::inet_connection_sock::RequestSock;
use crate::net::ipv4::inet_hashtables::{EhashEntry, InetTuple};
use crate::net::ipv4::inet_timewait_sock::InetTimewaitSock;
use crate::net::ipv4::tcp::{IcskPending, TcpSk, TcpSock, TcpState, TimerKind, tcp_get_info};
use crate::net::net_namespace::NetView;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::inet_diag::TcpBbrInfo;
use uapi::tcp::TcpInfo;
use zerocopy::FromBytes;

/// Which timer of a socket runs, by the numbers of `idiag_timer`.
///
/// linux: net/ipv4/inet_diag.c:inet_sk_diag_fill
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum InetDiagTimer {
    /// None.
    #[default]
    Off = 0,
    /// Retransmission.
    On = 1,
    /// Keepalive, or the end of FIN_WAIT2.
    Keepalive = 2,
    /// TIME_WAIT.
    Timewait = 3,
    /// Probes of a closed window.
    Persist = 4,
}

/// A socket, a request that may become one, or what is left of one.
///
/// linux: include/uapi/linux/inet_diag.h:inet_diag_msg
#[derive(Clone, Debug)]
pub struct InetDiagMsg {
    /// Its state; of what is left of a connection, that which it is left in.
    pub state: TcpState,
    /// Addresses, ports and device.
    pub tuple: InetTuple,
    /// The timer that runs.
    pub timer: InetDiagTimer,
    /// When it expires, from now.
    pub expires: Duration,
    /// Retransmissions or probes without an answer.
    pub retrans: u8,
    /// Octets to be read; of a listener, connections to be accepted.
    pub rqueue: u32,
    /// Octets not acknowledged; of a listener, its backlog.
    pub wqueue: u32,
    /// A number no other socket of the namespace has.
    pub cookie: u64,
    /// What only a socket has.
    pub sock: Option<InetDiagSock>,
}

/// What a socket tells besides.
#[derive(Clone, Debug)]
pub struct InetDiagSock {
    /// Half-closed ways (`RCV_SHUTDOWN`, `SEND_SHUTDOWN`).
    pub shutdown: u8,
    /// Its memory.
    pub mem: MemInfo,
    /// How many instructions its filter has.
    pub filter: Option<usize>,
    /// The name of its congestion control.
    pub cong: &'static str,
    /// What BBR takes the way for, where it is at work (`INET_DIAG_BBRINFO`).
    pub bbr: Option<TcpBbrInfo>,
    /// What `TCP_INFO` tells.
    pub info: TcpInfo,
}

/// Listeners by port, then connections, requests and TIME_WAIT by their addresses: all but the first `skip`,
/// `most` at the most.
///
/// linux: net/ipv4/inet_diag.c:inet_diag_dump_icsk
pub fn tcp_diag_dump<'a>(of: impl Into<NetView<'a>>, skip: usize, most: usize) -> Vec<InetDiagMsg> {
    let of = of.into();
    let hashinfo = &of.net().tcp.hashinfo;
    let now = of.m.ktime_get();
    let listeners = hashinfo.lhash.dump().into_iter().map(EhashEntry::Sock);
    let connections = hashinfo.ehash.dump().into_iter().map(|(_, entry)| entry);
    let wanted = listeners.chain(connections).skip(skip).take(most);
    wanted.filter_map(|entry| fill(&entry, now)).collect()
}

fn fill(entry: &EhashEntry, now: Ktime) -> Option<InetDiagMsg> {
    match entry {
        EhashEntry::Sock(sk) => inet_sk_diag_fill(sk, now),
        EhashEntry::TimeWait(tw) => Some(inet_twsk_diag_fill(tw, now)),
        EhashEntry::Request(req) => Some(inet_req_diag_fill(req, now)),
    }
}

/// `None`: it is no TCP socket.
///
/// linux: net/ipv4/inet_diag.c:inet_sk_diag_fill
fn inet_sk_diag_fill(sk: &Arc<Sock>, now: Ktime) -> Option<InetDiagMsg> {
    let (mem, filter) = (sk.sk_get_meminfo(), sk.filter_len());
    let mut locked = sk.state();
    let sk = TcpSk::of(sk, &mut locked)?;
    let (timer, expires, retrans) = timer_of(sk.tp, now);
    let (rqueue, wqueue) = queues_of(sk.tp);
    Some(InetDiagMsg {
        state: sk.tp.state,
        tuple: InetTuple::of(sk.st),
        timer,
        expires,
        retrans,
        rqueue,
        wqueue,
        cookie: sk.sk.cookie,
        sock: Some(InetDiagSock {
            shutdown: sk.st.shutdown,
            mem,
            filter,
            cong: sk.tp.ca_ops.name(),
            bbr: TcpBbrInfo::read_from_bytes(&sk.tp.ca_ops.get_info(&sk.tp.cong)).ok(),
            info: tcp_get_info(&sk, now),
        }),
    })
}

/// The timer that runs, when it expires, and what has had no answer so far.
pub(crate) fn timer_of(tp: &TcpSock, now: Ktime) -> (InetDiagTimer, Duration, u8) {
    let left = |kind: TimerKind| until(tp.timers[kind as usize].deadline, now);
    match tp.pending {
        IcskPending::Retrans | IcskPending::LossProbe | IcskPending::ReoTimeout => {
            (InetDiagTimer::On, left(TimerKind::Write), tp.retransmits)
        }
        IcskPending::Probe0 => (InetDiagTimer::Persist, left(TimerKind::Write), tp.probes_out),
        IcskPending::None if tp.timers[TimerKind::Keepalive as usize].deadline != Ktime::ZERO => {
            (InetDiagTimer::Keepalive, left(TimerKind::Keepalive), tp.probes_out)
        }
        IcskPending::None => (InetDiagTimer::Off, Duration::ZERO, 0),
    }
}

/// What waits to be read, and what was not acknowledged.
///
/// linux: net/ipv4/tcp_diag.c:tcp_diag_get_info
pub(crate) fn queues_of(tp: &TcpSock) -> (u32, u32) {
    match tp.listener.as_ref().filter(|_| tp.state == TcpState::Listen) {
        Some(listener) => (
            listener.ack_backlog.load(Ordering::Relaxed),
            listener.max_ack_backlog.load(Ordering::Relaxed),
        ),
        None => (tp.rcv_nxt.distance(tp.copied_seq).max(0) as u32, tp.write_seq - tp.snd_una),
    }
}

/// From now to a deadline; nothing if it is over.
pub(crate) fn until(deadline: Ktime, now: Ktime) -> Duration {
    if deadline > now { deadline - now } else { Duration::ZERO }
}

/// linux: net/ipv4/inet_diag.c:inet_twsk_diag_fill
fn inet_twsk_diag_fill(tw: &InetTimewaitSock, now: Ktime) -> InetDiagMsg {
    let state = tw.state.lock();
    InetDiagMsg {
        state: state.substate,
        tuple: tw.tuple,
        timer: InetDiagTimer::Timewait,
        expires: until(state.deadline, now),
        retrans: 0,
        rqueue: 0,
        wqueue: 0,
        cookie: tw.cookie,
        sock: None,
    }
}

/// linux: net/ipv4/inet_diag.c:inet_req_diag_fill
fn inet_req_diag_fill(req: &RequestSock, now: Ktime) -> InetDiagMsg {
    let state = req.state.lock();
    InetDiagMsg {
        state: TcpState::SynRecv,
        tuple: req.tuple,
        timer: InetDiagTimer::On,
        expires: until(state.deadline, now),
        retrans: state.num_retrans,
        rqueue: 0,
        wqueue: 0,
        cookie: req.cookie,
        sock: None,
    }
}
