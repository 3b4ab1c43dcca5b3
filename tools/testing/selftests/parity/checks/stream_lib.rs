//! What the checks of streams begin with: sockets in each state, pairs of connected ones.

use crate::Probe;
use crate::probe::{LO, int, sa};
use uapi::fcntl::{F_SETFL, O_NONBLOCK};
use uapi::socket::{
    AF_INET, AF_UNSPEC, MSG_DONTWAIT, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SO_LINGER,
    SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SOL_TCP,
};
use uapi::tcp::{TCP_INFO, TCP_QUICKACK};

/// Somebody on `eth0`'s link who never answers: whoever connects there is in SYN-SENT.
pub const SILENT: [u8; 4] = [198, 51, 100, 2];

/// The two ends of a connection over loopback, and who listened.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Who connected, from a port that the host chose.
    pub client: i32,
    /// Who was accepted.
    pub server: i32,
    /// Who listens.
    pub listener: i32,
}

/// A TCP socket; noted only if there is none.
pub fn tcp(p: &mut Probe<'_>) -> i32 {
    of_kind(p, SOCK_STREAM)
}

/// A TCP socket that does not wait; noted only if there is none.
pub fn tcp_now(p: &mut Probe<'_>) -> i32 {
    of_kind(p, SOCK_STREAM | SOCK_NONBLOCK)
}

fn of_kind(p: &mut Probe<'_>, kind: i32) -> i32 {
    let fd = p.calls.socket(AF_INET, kind, 0);
    fd.unwrap_or_else(|_| p.ret("a stream socket", fd).map_or(-1, |fd| fd)) as i32
}

/// A bound TCP socket; noted only if it fails.
pub fn bound(p: &mut Probe<'_>, port: u16) -> i32 {
    let fd = tcp(p);
    let bound = p.calls.bind(fd, &sa(LO, port));
    if bound.is_err() {
        let _ = p.ret("a bound stream socket", bound);
    }
    fd
}

/// Who listens at a port; noted only if it fails.
pub fn listener(p: &mut Probe<'_>, port: u16) -> i32 {
    let fd = bound(p, port);
    let done = p.calls.listen(fd, 8);
    if done.is_err() {
        let _ = p.ret("a listener", done);
    }
    fd
}

/// A socket that connected to a port of loopback; noted only if it fails.
pub fn joined(p: &mut Probe<'_>, port: u16) -> i32 {
    let fd = tcp(p);
    let done = p.calls.connect(fd, &sa(LO, port));
    p.calls.settle();
    if done.is_err() {
        let _ = p.ret("a connected stream socket", done);
    }
    fd
}

/// The next connection of a listener; noted only if there is none.
pub fn accepted(p: &mut Probe<'_>, listener: i32) -> i32 {
    let fd = p.calls.accept4(listener, 0);
    fd.unwrap_or_else(|_| p.ret("an accepted socket", fd).map_or(-1, |fd| fd)) as i32
}

/// Two connected sockets, over a port of loopback.
pub fn pair(p: &mut Probe<'_>, port: u16) -> Pair {
    let listener = listener(p, port);
    let client = joined(p, port);
    let server = accepted(p, listener);
    Pair { client, server, listener }
}

/// The next calls on it do not wait.
pub fn no_waiting(p: &mut Probe<'_>, fd: i32) {
    if let Err(error) = p.calls.fcntl(fd, F_SETFL, O_NONBLOCK) {
        let _ = p.ret("not to wait", Err(error));
    }
}

/// The state, as `TCP_INFO` has it.
pub fn state(p: &mut Probe<'_>, label: &str, fd: i32) {
    p.get_bytes(label, fd, (SOL_TCP, TCP_INFO), 1);
}

/// Shuts down, and lets it arrive.
pub fn shut(p: &mut Probe<'_>, label: &str, fd: i32, how: i32) {
    let _ = p.shutdown(label, fd, how);
    p.calls.settle();
}

/// Closes, and lets it arrive.
pub fn end(p: &mut Probe<'_>, label: &str, fd: i32) {
    let _ = p.close(label, fd);
    p.calls.settle();
}

/// `struct linger`.
pub fn linger(on: i32, seconds: i32) -> Vec<u8> {
    [on, seconds].map(i32::to_ne_bytes).concat()
}

/// Ends a connection with a reset; noted only if that fails.
pub fn reset(p: &mut Probe<'_>, fd: i32) {
    p.forget_port(fd);
    let set = p.calls.setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger(1, 0));
    let closed = p.calls.close(fd);
    p.calls.settle();
    if let Err(error) = set.and(closed) {
        let _ = p.ret("a reset", Err(error));
    }
}

/// connect(2) to nobody: ends the connection and forgets the peer.
pub fn disconnect(p: &mut Probe<'_>, label: &str, fd: i32) {
    let mut name = vec![0; 16];
    name[..2].copy_from_slice(&(AF_UNSPEC as u16).to_ne_bytes());
    p.forget_port(fd);
    let ret = p.calls.connect(fd, &name);
    p.calls.settle();
    let _ = p.ret(label, ret);
}

/// What can be seen without changing anything, then the error, which reading takes away.
pub fn look(p: &mut Probe<'_>, fd: i32) {
    state(p, "state", fd);
    p.mask("mask", fd);
    p.names("names", fd);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
}

/// Reads the end of what a peer sent and acknowledges it now, not in a while: the peer's state does not
/// depend on time.
pub fn acknowledge(p: &mut Probe<'_>, fd: i32) {
    let _the_end = p.calls.recvfrom(fd, 1, MSG_DONTWAIT);
    let _not_of_a_connection = p.calls.setsockopt(fd, SOL_TCP, TCP_QUICKACK, &int(1));
    p.calls.settle();
}

/// A socket in some state.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The socket. It does not wait.
    pub fd: i32,
    /// Who is at the other end, where there is one.
    pub peer: Option<i32>,
    /// A port of the check's own; it is in use if `fd` has a number of a port at all. The next one is
    /// free.
    pub port: u16,
}

impl Case {
    /// The peer acknowledges what came.
    pub fn acknowledged(&self, p: &mut Probe<'_>) {
        if let Some(peer) = self.peer {
            acknowledge(p, peer);
        }
    }
}

/// Makes a socket in some state, and its peer, with the port given and the one after at its disposal.
type Make = fn(&mut Probe<'_>, u16) -> (i32, Option<i32>);

/// The states that calls are tried in.
const STATES: &[(&str, Make)] = &[
    ("fresh", |p, _| (tcp(p), None)),
    ("bound", |p, port| (bound(p, port), None)),
    ("listening", |p, port| (listener(p, port), None)),
    ("with one to accept", |p, port| {
        let fd = listener(p, port);
        joined(p, port);
        (fd, None)
    }),
    ("connecting", |p, port| {
        let fd = tcp_now(p);
        let _in_progress = p.calls.connect(fd, &sa(SILENT, port));
        (fd, None)
    }),
    ("connected", |p, port| {
        let pair = pair(p, port);
        (pair.client, Some(pair.server))
    }),
    ("accepted", |p, port| {
        let pair = pair(p, port);
        (pair.server, Some(pair.client))
    }),
    ("with data to read", |p, port| {
        let pair = pair(p, port);
        let _sent = p.calls.write(pair.server, b"0123456789");
        p.calls.settle();
        (pair.client, Some(pair.server))
    }),
    ("the peer shut", |p, port| {
        let pair = pair(p, port);
        let _shut = p.calls.shutdown(pair.server, SHUT_WR);
        p.calls.settle();
        (pair.client, Some(pair.server))
    }),
    ("shut for sending", |p, port| shut_down(p, port, SHUT_WR)),
    ("shut for receiving", |p, port| shut_down(p, port, SHUT_RD)),
    ("shut both ways", |p, port| shut_down(p, port, SHUT_RDWR)),
    ("both shut", |p, port| {
        let pair = pair(p, port);
        for fd in [pair.client, pair.server] {
            let _shut = p.calls.shutdown(fd, SHUT_WR);
            p.calls.settle();
        }
        (pair.client, Some(pair.server))
    }),
    ("reset", |p, port| {
        let pair = pair(p, port);
        reset(p, pair.server);
        (pair.client, None)
    }),
    ("reset and told", |p, port| {
        let pair = pair(p, port);
        reset(p, pair.server);
        let _told = p.calls.getsockopt(pair.client, SOL_SOCKET, SO_ERROR, 4);
        (pair.client, None)
    }),
    ("refused", |p, port| {
        let fd = tcp(p);
        let _refused = p.calls.connect(fd, &sa(LO, port));
        (fd, None)
    }),
    ("disconnected", |p, port| {
        let pair = pair(p, port);
        let _done = p.calls.connect(pair.client, &[0; 16]);
        p.calls.settle();
        (pair.client, Some(pair.server))
    }),
    ("connected to itself", |p, port| {
        let fd = bound(p, port);
        let _done = p.calls.connect(fd, &sa(LO, port));
        p.calls.settle();
        (fd, None)
    }),
];

fn shut_down(p: &mut Probe<'_>, port: u16, how: i32) -> (i32, Option<i32>) {
    let pair = pair(p, port);
    let _shut = p.calls.shutdown(pair.client, how);
    p.calls.settle();
    acknowledge(p, pair.server);
    (pair.client, Some(pair.server))
}

/// Tries something in each state, on a socket of its own and with two ports of its own.
pub fn in_each_state(p: &mut Probe<'_>, mut tried: impl FnMut(&mut Probe<'_>, Case)) {
    for (number, (label, make)) in STATES.iter().enumerate() {
        let port = 4000 + 2 * number as u16;
        let (fd, peer) = make(p, port);
        no_waiting(p, fd);
        p.within(label);
        tried(p, Case { fd, peer, port });
        p.within("");
    }
}
