//! Ping sockets: ICMP echoes without privilege. The identifier of an echo is the socket's port.
//!
//! linux: net/ipv4/ping.c. Key type: [`PingTable`]. Parts: `tx` (sending), `rx` (answers and errors). Contexts: each
//! part says. Locks: `class::PortHash`, the table's, for one look; then `class::Sock`.
//! Invariant: a socket is in the table while it has an identifier.

mod rx;
mod tx;

pub(crate) use rx::{ping_err, ping_rcv};

use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::sock::{Proto, Sock, SockState, sk_purge};
use crate::net::ipv4::datagram::{ip4_datagram_connect, udp_disconnect};
use crate::net::ipv4::raw::recv::raw_recvmsg;
use crate::net::ipv4::raw::rx::raw_backlog_rcv;
use crate::net::net_namespace::NetView;
use crate::net::socket::{RecvBatch, Wait};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::ip::IPPROTO_ICMP;
use uapi::socket::{AF_INET, MSG_TRUNC, SOCK_DGRAM};
use uapi::tcp::{TCP_CLOSE, TCP_ESTABLISHED};

/// The group of every task here.
const GID: u32 = 0;

/// The ping sockets of a namespace, by identifier.
///
/// linux: net/ipv4/ping.c:ping_table
#[derive(Debug, Default)]
pub struct PingTable(SpinLock<Idents, class::PortHash>);

#[derive(Debug, Default)]
struct Idents {
    /// Sockets that have it, in the order in which they took it.
    socks: BTreeMap<u16, Vec<Arc<Sock>>>,
    /// The identifier that was chosen last.
    rover: u16,
}

impl Idents {
    fn enter(&mut self, ident: u16, sk: &Arc<Sock>) {
        self.socks.entry(ident).or_default().push(Arc::clone(sk));
    }
}

impl PingTable {
    /// All of them, by identifier.
    pub fn all_socks(&self) -> Vec<Arc<Sock>> {
        self.0.lock().socks.values().flatten().map(Arc::clone).collect()
    }

    /// The first that has an identifier and is what is looked for.
    fn find(&self, ident: u16, is: impl Fn(&SockState) -> bool) -> Option<Arc<Sock>> {
        let idents = self.0.lock();
        idents.socks.get(&ident)?.iter().find(|sk| is(&sk.state())).cloned()
    }

    fn remove(&self, ident: u16, sk: &Arc<Sock>) {
        let mut idents = self.0.lock();
        if let Some(socks) = idents.socks.get_mut(&ident) {
            socks.retain(|other| !Arc::ptr_eq(other, sk));
            if socks.is_empty() {
                idents.socks.remove(&ident);
            }
        }
    }
}

/// The functions of ping sockets.
///
/// linux: net/ipv4/ping.c:ping_prot
pub static PING_PROT: Proto = Proto {
    name: "PING",
    family: AF_INET,
    kind: (SOCK_DGRAM, IPPROTO_ICMP),
    // They have no options of their own.
    level: -1,
    sendmsg: tx::ping_sendmsg,
    recvmsg: ping_recvmsg,
    connect: ip4_datagram_connect,
    disconnect: udp_disconnect,
    get_port: ping_get_port,
    unhash: ping_unhash,
    close: ping_close,
    backlog_rcv: raw_backlog_rcv,
    release_cb: None,
    setsockopt: |_, _, _, _| Err(Errno::ENOPROTOOPT),
    getsockopt: |_, _, _, _| Err(Errno::EOPNOTSUPP),
};

/// Receives an echo reply from its ICMP header on, as a raw socket does; its whole length is not told.
///
/// linux: net/ipv4/ping.c:ping_recvmsg
fn ping_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    batch.flags &= !MSG_TRUNC;
    raw_recvmsg(cx, sk, batch, wait)
}

/// It is a ping socket.
pub(crate) fn is_ping(sk: &Sock) -> bool {
    sk.sk_prot.level == PING_PROT.level
}

/// A new ping socket.
///
/// # Errors
/// EACCES while the tasks' group, which is 0, is not in `ping_group_range`.
///
/// linux: net/ipv4/ping.c:ping_init_sock
pub(crate) fn ping_init_sock(cx: &mut TaskCx) -> Result<Arc<Sock>, Errno> {
    let (low, high) = cx.tables().net.sysctl.ping_group_range;
    if !(low..=high).contains(&GID) {
        return Err(Errno::EACCES);
    }
    let sk = Sock::new(cx, &PING_PROT);
    // So they are born (`INET_PROTOSW_REUSE`): two may have one identifier.
    sk.state().opts.reuse = true;
    Ok(sk)
}

/// Takes an identifier: the one asked for, or the next that is free.
///
/// # Errors
/// EADDRINUSE.
///
/// linux: net/ipv4/ping.c:ping_get_port
fn ping_get_port(_: &mut TaskCx, sk: &Arc<Sock>, ident: u16) -> Result<(), Errno> {
    let reuse = sk.state().opts.reuse;
    let mut idents = sk.net.ping.0.lock();
    // Another thread that sends first was faster.
    if sk.inet_num() != 0 {
        return if ident == 0 { Ok(()) } else { Err(Errno::EINVAL) };
    }
    let ident = if ident == 0 {
        let mut next = (1..=u16::MAX).map(|step| idents.rover.wrapping_add(step));
        let free = next.find(|ident| *ident != 0 && !idents.socks.contains_key(ident));
        let free = free.ok_or(Errno::EADDRINUSE)?;
        idents.rover = free;
        free
    } else {
        let there = idents.socks.get(&ident).map_or(&[][..], |socks| socks);
        if there.iter().any(|other| !reuse || !other.state().opts.reuse) {
            return Err(Errno::EADDRINUSE);
        }
        ident
    };
    sk.set_inet_num(&mut sk.state(), ident);
    idents.enter(ident, sk);
    Ok(())
}

/// linux: net/ipv4/ping.c:ping_unhash
fn ping_unhash(_: &mut TaskCx, sk: &Arc<Sock>) {
    let ident = sk.inet_num();
    if ident == 0 {
        return;
    }
    sk.net.ping.remove(ident, sk);
    let mut state = sk.state();
    sk.set_inet_num(&mut state, 0);
    state.inet.sport = 0;
}

/// linux: net/ipv4/ping.c:ping_close
fn ping_close(cx: &mut TaskCx, sk: &Arc<Sock>) {
    ping_unhash(cx, sk);
    sk_purge(cx, sk);
}

/// The text of `/proc/net/icmp`: a line for each ping socket that has an identifier. The inode is the socket's cookie,
/// the pointer is not told.
///
/// linux: net/ipv4/ping.c:ping_v4_seq_show
pub fn ping_v4_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                   timeout inode ref pointer drops";
    let mut text = format!("{heading:<127}\n");
    // As Linux prints them: the bytes of the network as a number of the host.
    let addr = |addr: u32| u32::from_ne_bytes(addr.to_be_bytes());
    for sk in of.net().ping.all_socks() {
        let wmem = sk.wmem_alloc();
        let state = sk.state();
        let inet = &state.inet;
        let st = if inet.daddr != 0 { TCP_ESTABLISHED } else { TCP_CLOSE };
        let line = format!(
            "{:5}: {:08X}:{:04X} {:08X}:{:04X} {st:02X} {wmem:08X}:{:08X} 00:00000000 00000000 \
             {:5} {:8} {} 2 {:016x} {}",
            inet.num % 64,
            addr(inet.rcv_saddr),
            inet.num,
            addr(inet.daddr),
            inet.dport,
            state.rmem_alloc,
            0,
            0,
            sk.cookie,
            0,
            state.drops
        );
        let _ = writeln!(text, "{line:<127}");
    }
    text
}
