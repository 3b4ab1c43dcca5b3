//! The small services on TCP: each a task that serves all its connections by epoll, none of which waits for
//! another.
//!
//! Key types: [`Service`], `Conn`. Contexts: a task each. Invariants: at most [`MOST`] connections a service: for
//! one more, that which was idle longest makes room. A service has one buffer, of [`BUFFER`] octets. A connection
//! keeps what it read and could not send yet: nothing while it is idle, at most that buffer's content, and it reads
//! no more before that is sent. So the connections of the echo service keep 64 MiB if not one of their clients reads;
//! those of the others keep nothing. What came is answered in full before our side closes, however early theirs did.

use super::super::UpError;
use super::{CHARS, LINE, bound, pattern};
use host::{Runtime, block_on};
use stack::fs::eventpoll::EpollEvent;
use stack::fs::{sys_close, sys_epoll_create1, sys_epoll_ctl, sys_epoll_wait, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::socket::{sys_accept4, sys_bind, sys_listen, sys_setsockopt, sys_socket};
use std::collections::BTreeMap;
use std::sync::mpsc;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::poll::{EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT};
use uapi::socket::{AF_INET, SO_REUSEADDR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET};

/// Connections of a service at a time.
const MOST: usize = 1024;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Octets read or written at a time.
const BUFFER: usize = 64 << 10;
/// Octets of lines before the first comes again.
const PERIOD: usize = ((LINE + 2) * CHARS) as usize;
/// Reads and writes of a connection before it is the next one's turn.
const TURN: usize = 4;
/// Events taken at a time, and connections accepted.
const EVENTS: usize = 64;
/// What the listener's events are known by; connections count from one.
const LISTENER: u64 = 0;

/// What a service does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Sends it back (RFC 862).
    Echo,
    /// Throws it away (RFC 863).
    Discard,
    /// Throws it away, and sends lines without end (RFC 864).
    Chargen,
}

impl Service {
    /// The buffer of all its connections.
    fn buffer(self) -> Vec<u8> {
        if self != Self::Chargen {
            return vec![0; BUFFER];
        }
        // A buffer of lines from any place on.
        let mut lines = vec![0; PERIOD + BUFFER];
        pattern(&mut lines, 0);
        lines
    }
}

/// Starts a service on a CPU; on return its port listens.
pub(super) fn spawn(
    runtime: &mut Runtime,
    (name, port): (&'static str, u16),
    cpu: CpuId,
    service: Service,
) -> Result<(), UpError> {
    let (ready, listens) = mpsc::channel();
    runtime.spawn(name, cpu, move |cx| {
        let server = Server::listen(cx, port, service);
        // The receiver waits below for exactly this.
        let _ = ready.send(server.as_ref().map(|_| ()).map_err(|errno| *errno));
        drop(ready);
        if let Ok(mut server) = server {
            // It ends when the machine does.
            while server.turn(cx).is_ok() {}
        }
    })?;
    bound(&listens, "TCP", (name, port))
}

/// A connection.
struct Conn {
    fd: i32,
    /// What was read and is still to be sent.
    unsent: Vec<u8>,
    /// Where in the lines it is.
    at: usize,
    /// What is waited for.
    wanted: u32,
    /// The service's turn in which something last happened.
    active: u64,
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// When one of these events is there.
    Wait(u32),
    /// Not at all.
    Close,
}

struct Server {
    service: Service,
    /// Where everything is read to; chargen's lines.
    buf: Vec<u8>,
    listener: i32,
    epoll: i32,
    conns: BTreeMap<u64, Conn>,
    /// The last connection's number.
    last: u64,
    turn: u64,
}

impl Server {
    fn listen(cx: &mut TaskCx, port: u16, service: Service) -> Result<Self, Errno> {
        let listener = sys_socket(cx, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)?;
        // Connections of an earlier run may still die out.
        sys_setsockopt(cx, listener, SOL_SOCKET, SO_REUSEADDR, &1i32.to_ne_bytes())?;
        sys_bind(cx, listener, &SockaddrIn::new(0, port).to_bytes())?;
        sys_listen(cx, listener, BACKLOG)?;
        let epoll = sys_epoll_create1(cx, 0)?;
        let event = EpollEvent { events: EPOLLIN, data: LISTENER };
        sys_epoll_ctl(cx, epoll, EPOLL_CTL_ADD, listener, event)?;
        let (conns, buf) = (BTreeMap::new(), service.buffer());
        Ok(Self { service, buf, listener, epoll, conns, last: LISTENER, turn: 0 })
    }

    /// Waits, and does what can be done then.
    ///
    /// # Errors
    /// EINTR: the machine ends.
    fn turn(&mut self, cx: &mut TaskCx) -> Result<(), Errno> {
        let events = block_on(cx, &mut sys_epoll_wait(self.epoll, EVENTS, None))?;
        self.turn += 1;
        for event in events {
            match event.data {
                LISTENER => self.accept(cx),
                number => self.serve(cx, number),
            }
        }
        Ok(())
    }

    /// Takes who waits: so many at a time, for those that are there want their turn.
    fn accept(&mut self, cx: &mut TaskCx) {
        for _ in 0..EVENTS {
            // Whoever is gone already, or can't be had for want of memory, is not served.
            let Ok((fd, _)) = block_on(cx, &mut sys_accept4(self.listener, SOCK_NONBLOCK)) else {
                return;
            };
            self.admit(cx, fd);
        }
    }

    fn admit(&mut self, cx: &mut TaskCx, fd: i32) {
        if self.conns.len() == MOST {
            self.make_room(cx);
        }
        self.last += 1;
        let wanted = EPOLLIN | if self.service == Service::Chargen { EPOLLOUT } else { 0 };
        let event = EpollEvent { events: wanted, data: self.last };
        let added = sys_epoll_ctl(cx, self.epoll, EPOLL_CTL_ADD, fd, event);
        let conn = Conn { fd, unsent: Vec::new(), at: 0, wanted, active: self.turn };
        self.conns.insert(self.last, conn);
        if added.is_err() {
            self.close(cx, self.last);
        }
    }

    /// Ends the connection that was idle longest.
    fn make_room(&mut self, cx: &mut TaskCx) {
        let idlest = self.conns.iter().min_by_key(|(number, conn)| (conn.active, **number));
        if let Some(number) = idlest.map(|(number, _)| *number) {
            self.close(cx, number);
        }
    }

    fn close(&mut self, cx: &mut TaskCx, number: u64) {
        if let Some(conn) = self.conns.remove(&number) {
            // It was open; there is nothing to be done about an error.
            let _closed = sys_close(cx, conn.fd);
        }
    }

    /// Goes on with a connection, if it is still there.
    fn serve(&mut self, cx: &mut TaskCx, number: u64) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        conn.active = self.turn;
        let next = match self.service {
            Service::Echo => conn.echo(cx, &mut self.buf),
            Service::Discard => conn.discard(cx, &mut self.buf),
            Service::Chargen => conn.chargen(cx, &self.buf),
        };
        let Next::Wait(wanted) = next else { return self.close(cx, number) };
        if wanted != std::mem::replace(&mut conn.wanted, wanted) {
            let event = EpollEvent { events: wanted, data: number };
            if sys_epoll_ctl(cx, self.epoll, EPOLL_CTL_MOD, conn.fd, event).is_err() {
                self.close(cx, number);
            }
        }
    }
}

impl Conn {
    fn echo(&mut self, cx: &mut TaskCx, buf: &mut [u8]) -> Next {
        if !self.unsent.is_empty() {
            let Ok(sent) = send(cx, self.fd, &self.unsent) else { return Next::Close };
            if sent < self.unsent.len() {
                self.unsent.drain(..sent);
                return Next::Wait(EPOLLOUT);
            }
            self.unsent = Vec::new();
        }
        for _ in 0..TURN {
            let len = match block_on(cx, &mut sys_read(self.fd, buf)) {
                // All before it was sent back.
                Ok(0) => return Next::Close,
                Ok(len) => len,
                Err(Errno::EAGAIN) => break,
                Err(_) => return Next::Close,
            };
            let Ok(sent) = send(cx, self.fd, &buf[..len]) else { return Next::Close };
            if sent < len {
                self.unsent = buf[sent..len].to_vec();
                return Next::Wait(EPOLLOUT);
            }
        }
        // What is there is told again.
        Next::Wait(EPOLLIN)
    }

    fn discard(&mut self, cx: &mut TaskCx, buf: &mut [u8]) -> Next {
        for _ in 0..TURN {
            match block_on(cx, &mut sys_read(self.fd, buf)) {
                Ok(0) => return Next::Close,
                Ok(_) => (),
                Err(Errno::EAGAIN) => break,
                Err(_) => return Next::Close,
            }
        }
        Next::Wait(EPOLLIN)
    }

    fn chargen(&mut self, cx: &mut TaskCx, lines: &[u8]) -> Next {
        // What comes goes first: unread at the end, it would turn the end into a reset.
        let mut thrown_away = [0; 4096];
        match block_on(cx, &mut sys_read(self.fd, &mut thrown_away)) {
            Ok(1..) | Err(Errno::EAGAIN) => (),
            Ok(0) | Err(_) => return Next::Close,
        }
        for _ in 0..TURN {
            let part = &lines[self.at..][..BUFFER];
            let Ok(sent) = send(cx, self.fd, part) else { return Next::Close };
            self.at = (self.at + sent) % PERIOD;
            if sent < part.len() {
                break;
            }
        }
        Next::Wait(EPOLLIN | EPOLLOUT)
    }
}

/// Sends what goes at once: how much. An error ends the connection.
fn send(cx: &mut TaskCx, fd: i32, data: &[u8]) -> Result<usize, Errno> {
    match block_on(cx, &mut sys_write(fd, data)) {
        Err(Errno::EAGAIN) => Ok(0),
        sent => sent,
    }
}
