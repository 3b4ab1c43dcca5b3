//! What `/proc/net/tcp` shows.
//!
//! linux: net/ipv4/tcp_ipv4.c. Contexts: task, on no CPU. Locks: a table's, then each socket's, one at a
//! time.

use super::{TcpSk, TcpSock, TcpState};
use crate::kernel::time::Ktime;
use crate::net::core::sock::Sock;
use crate::net::ipv4::inet_connection_sock::RequestSock;
use crate::net::ipv4::inet_hashtables::{EhashEntry, InetTuple};
use crate::net::ipv4::inet_timewait_sock::InetTimewaitSock;
use crate::net::ipv4::tcp_cong::TCP_INFINITE_SSTHRESH;
use crate::net::ipv4::tcp_diag::{InetDiagTimer, queues_of, timer_of, until};
use crate::net::net_namespace::NetView;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A line is as long, without its end.
///
/// linux: net/ipv4/tcp_ipv4.c:TMPSZ
const TMPSZ: usize = 149;

/// What is left of a connection is referred to by its table, its timer, and who has it in hand.
const TW_REFCNT: u32 = 3;

/// The text of `/proc/net/tcp`: listeners by port, then connections, requests and TIME_WAIT by their
/// addresses. The inode is the socket's cookie, the pointer is not told.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp4_seq_show
pub fn tcp4_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let hashinfo = &of.net().tcp.hashinfo;
    let now = of.m.ktime_get();
    let mut text = padded(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
    );
    let listeners = hashinfo.lhash.dump().into_iter().map(EhashEntry::Sock);
    let connections = hashinfo.ehash.dump().into_iter().map(|(_, entry)| entry);
    let lines = listeners.chain(connections).filter_map(|entry| match entry {
        EhashEntry::Sock(sk) => get_tcp4_sock(&sk, now),
        EhashEntry::TimeWait(tw) => Some(get_timewait4_sock(&tw, now)),
        EhashEntry::Request(req) => Some(get_openreq4(&req, now)),
    });
    for (sl, line) in lines.enumerate() {
        text += &padded(&format!("{sl:4}: {line}"));
    }
    text
}

/// Addresses, ports and state.
fn ends(tuple: &InetTuple, state: TcpState) -> String {
    // As Linux prints them: the bytes of the network as a number of the host.
    let addr = |addr: u32| u32::from_ne_bytes(addr.to_be_bytes());
    let InetTuple { laddr, raddr, lport, rport, .. } = *tuple;
    format!("{:08X}:{lport:04X} {:08X}:{rport:04X} {:02X}", addr(laddr), addr(raddr), state as u8)
}

/// Hundredths of a second, which is what user space counts in.
///
/// linux: kernel/time/time.c:jiffies_delta_to_clock_t
fn clock_t(left: Duration) -> u128 {
    left.as_millis() / 10
}

/// `None`: it is no TCP socket.
///
/// linux: net/ipv4/tcp_ipv4.c:get_tcp4_sock
fn get_tcp4_sock(sk: &Arc<Sock>, now: Ktime) -> Option<String> {
    let cookie = sk.cookie;
    let mut locked = sk.state();
    let sk = TcpSk::of(sk, &mut locked)?;
    let tp = &*sk.tp;
    let (timer, left, _) = timer_of(tp, now);
    let (rx_queue, tx_queue) = match (queues_of(tp), tp.state) {
        // Of a listener the backlog is not told here.
        ((rx_queue, _), TcpState::Listen) => (rx_queue, 0),
        (queues, _) => queues,
    };
    let quick = u32::from(tp.ack.quick) << 1 | u32::from(tp.in_pingpong_mode());
    let ssthresh = match tp.state {
        // Connections by fast open that may wait.
        TcpState::Listen => tp
            .listener
            .as_ref()
            .map_or(0, |listener| listener.fastopenq.max_qlen.load(Ordering::Relaxed).into()),
        _ if tp.cong.snd_ssthresh >= TCP_INFINITE_SSTHRESH => -1,
        _ => i64::from(tp.cong.snd_ssthresh),
    };
    Some(format!(
        "{} {tx_queue:08X}:{rx_queue:08X} {:02X}:{:08X} {:08X} {:5} {:8} {cookie} {} {:016x} {} {} {quick} \
         {} {ssthresh}",
        ends(&InetTuple::of(sk.st), tp.state),
        timer as u8,
        clock_t(left),
        tp.retransmits,
        0,
        tp.probes_out,
        refcnt(tp),
        0,
        tp.rto / 10_000,
        tp.ack.ato / 10_000,
        tp.cong.snd_cwnd,
    ))
}

/// Who refers to the socket, as Linux counts: its descriptor or the queue it waits in, and each timer that
/// runs.
fn refcnt(tp: &TcpSock) -> usize {
    let timers = tp.timers.iter().filter(|timer| timer.deadline != Ktime::ZERO).count();
    1 + timers
}

/// linux: net/ipv4/tcp_ipv4.c:get_openreq4
fn get_openreq4(req: &RequestSock, now: Ktime) -> String {
    let state = req.state.lock();
    format!(
        "{} {:08X}:{:08X} {:02X}:{:08X} {:08X} {:5} {:8} {} {} {:016x}",
        ends(&req.tuple, TcpState::SynRecv),
        0,
        0,
        InetDiagTimer::On as u8,
        clock_t(until(state.deadline, now)),
        state.num_timeout,
        0,
        0,
        0,
        0,
        0
    )
}

/// linux: net/ipv4/tcp_ipv4.c:get_timewait4_sock
fn get_timewait4_sock(tw: &InetTimewaitSock, now: Ktime) -> String {
    let state = tw.state.lock();
    format!(
        "{} {:08X}:{:08X} {:02X}:{:08X} {:08X} {:5} {:8} {} {TW_REFCNT} {:016x}",
        ends(&tw.tuple, state.substate),
        0,
        0,
        InetDiagTimer::Timewait as u8,
        clock_t(until(state.deadline, now)),
        0,
        0,
        0,
        0,
        0
    )
}

/// A line as long as Linux makes all of this file.
fn padded(line: &str) -> String {
    format!("{line:<TMPSZ$}\n")
}
