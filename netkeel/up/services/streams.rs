//! The small services on TCP: each a task that serves all its connections by epoll, none of which waits for
//! another.
//!
//! Key types: [`Service`], `Conn`. Contexts: a task each. Invariants: at most [`MOST`] connections a service,
//! with one buffer each: for one more, that which was idle longest makes room. What came is answered in full
//! before our side closes, however early theirs did.

use super::super::UpError;
use super::{bound, pattern};
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
const MOST: usize = 64;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// A connection's buffer.
const BUFFER: usize = 64 << 10;
/// Reads and writes of a connection before it is the next one's turn.
const TURN: usize = 4;
/// Events taken at a time.
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
    buf: Box<[u8]>,
    /// What of the buffer is still to be sent.
    unsent: std::ops::Range<usize>,
    /// Octets of lines made so far.
    made: u64,
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
        Ok(Self { service, listener, epoll, conns: BTreeMap::new(), last: LISTENER, turn: 0 })
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

    fn accept(&mut self, cx: &mut TaskCx) {
        // Whoever is gone already, or can't be had for want of memory, is not served.
        let Ok((fd, _)) = block_on(cx, &mut sys_accept4(self.listener, SOCK_NONBLOCK)) else {
            return;
        };
        if self.conns.len() == MOST {
            self.make_room(cx);
        }
        self.last += 1;
        let wanted = EPOLLIN | if self.service == Service::Chargen { EPOLLOUT } else { 0 };
        let event = EpollEvent { events: wanted, data: self.last };
        let added = sys_epoll_ctl(cx, self.epoll, EPOLL_CTL_ADD, fd, event);
        let buf = vec![0; BUFFER].into_boxed_slice();
        let conn = Conn { fd, buf, unsent: 0..0, made: 0, wanted, active: self.turn };
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
            Service::Echo => conn.echo(cx),
            Service::Discard => conn.discard(cx),
            Service::Chargen => conn.chargen(cx),
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
    fn echo(&mut self, cx: &mut TaskCx) -> Next {
        for _ in 0..TURN {
            if self.unsent.is_empty() {
                match block_on(cx, &mut sys_read(self.fd, &mut self.buf)) {
                    // All before it was sent back.
                    Ok(0) => return Next::Close,
                    Ok(len) => self.unsent = 0..len,
                    Err(Errno::EAGAIN) => return Next::Wait(EPOLLIN),
                    Err(_) => return Next::Close,
                }
            }
            if let Some(next) = self.send(cx) {
                return next;
            }
        }
        // What is there is told again.
        Next::Wait(if self.unsent.is_empty() { EPOLLIN } else { EPOLLOUT })
    }

    fn discard(&mut self, cx: &mut TaskCx) -> Next {
        for _ in 0..TURN {
            match block_on(cx, &mut sys_read(self.fd, &mut self.buf)) {
                Ok(0) => return Next::Close,
                Ok(_) => (),
                Err(Errno::EAGAIN) => break,
                Err(_) => return Next::Close,
            }
        }
        Next::Wait(EPOLLIN)
    }

    fn chargen(&mut self, cx: &mut TaskCx) -> Next {
        // What comes goes first: unread at the end, it would turn the end into a reset.
        let mut thrown_away = [0; 4096];
        match block_on(cx, &mut sys_read(self.fd, &mut thrown_away)) {
            Ok(1..) | Err(Errno::EAGAIN) => (),
            Ok(0) | Err(_) => return Next::Close,
        }
        for _ in 0..TURN {
            if self.unsent.is_empty() {
                pattern(&mut self.buf, self.made);
                self.made += self.buf.len() as u64;
                self.unsent = 0..self.buf.len();
            }
            match self.send(cx) {
                Some(Next::Close) => return Next::Close,
                Some(Next::Wait(_)) => break,
                None => (),
            }
        }
        Next::Wait(EPOLLIN | EPOLLOUT)
    }

    /// Sends of the buffer what goes; how it goes on, where it can't at once.
    fn send(&mut self, cx: &mut TaskCx) -> Option<Next> {
        match block_on(cx, &mut sys_write(self.fd, &self.buf[self.unsent.clone()])) {
            Ok(sent) => {
                self.unsent.start += sent;
                None
            }
            Err(Errno::EAGAIN) => Some(Next::Wait(EPOLLOUT)),
            Err(_) => Some(Next::Close),
        }
    }
}
