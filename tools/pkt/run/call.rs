//! System calls of a script: made with live descriptors, their results compared.

use super::args::{self, int, int32, kind, len, option_value, sockaddr};
use super::flow::{Flow, Sock};
use super::message::{self, Header};
use super::time::Due;
use super::{Fd, Pending, Runner, Subject, Went};
use crate::backend::{Call, Done, Message, Room};
use crate::parse::Pos;
use crate::parse::script::{CallSpec, Expr};
use crate::wire::{TCP, UDP, pattern};
use std::collections::VecDeque;
use uapi::errno::Errno;

type Read<T> = Result<T, String>;

/// Bytes of a stream that a script writes at most.
const STREAM: usize = 256 << 20;

/// The number of an errno's name.
pub(super) fn errno_number(name: &str) -> Read<i32> {
    let name = if name == "EWOULDBLOCK" { "EAGAIN" } else { name };
    let found = Errno::ALL.iter().find(|errno| errno.symbol() == Some(name));
    found.map(|errno| errno.0).ok_or_else(|| format!("unknown errno: '{name}'"))
}

impl Runner<'_> {
    /// Makes a call, or begins one that sleeps.
    pub(super) fn call(&mut self, spec: &CallSpec, pos: Pos, due: &Due) -> Went<()> {
        let about = |what: String| format!("error in {} call: {what}", spec.name);
        let call = self.prepare(spec).map_err(about)?;
        self.note(&format!("{}()", spec.name));
        let Some(end) = spec.end else {
            let done = self.quick(call.clone())?;
            return self.complete(spec, &call, &done);
        };
        // Reckoned from the same time as its beginning.
        let end = Due::once(due.end_of(end), due.begin);
        self.backend.start(call.clone())?;
        self.pending = Some(Pending { spec: spec.clone(), call, pos, due: end });
        Ok(())
    }

    /// The live descriptor of a script's one.
    fn fd(&self, expr: &Expr) -> Read<i32> {
        let script = int32(expr)?;
        // A descriptor that the script never got is as bad live as it is there.
        Ok(self.fds.get(&script).map_or(-1, |fd| fd.live))
    }

    fn sock_of(&self, live: i32) -> Option<usize> {
        self.fds.values().find(|fd| fd.live == live).map(|fd| fd.sock)
    }

    fn prepare(&mut self, spec: &CallSpec) -> Read<Call> {
        let args = &spec.args[..];
        if let Some(call) = self.prepare_message(spec)? {
            return Ok(call);
        }
        Ok(match (spec.name.as_str(), args) {
            ("socket", [family, kind, protocol]) => {
                let family = if *family == Expr::Any { libc::AF_INET } else { int32(family)? };
                Call::Socket(family, int32(kind)?, int32(protocol)?)
            }
            ("bind", [fd, name, _]) => {
                let any = || args::addr(std::net::Ipv4Addr::UNSPECIFIED, self.config.bind_port);
                Call::Bind(self.fd(fd)?, sockaddr(name)?.unwrap_or_else(any))
            }
            ("connect", [fd, name, _]) => {
                let name = sockaddr(name)?.unwrap_or_else(|| self.remote());
                let live = self.fd(fd)?;
                if let Some(sock) = self.sock_of(live) {
                    self.flow_to(sock, &name);
                }
                Call::Connect(live, name)
            }
            ("listen", [fd, backlog]) => Call::Listen(self.fd(fd)?, int32(backlog)?),
            ("accept", [fd, _, _]) => Call::Accept(self.fd(fd)?, 0),
            ("accept4", [fd, _, _, flags]) => Call::Accept(self.fd(fd)?, int32(flags)?),
            ("getsockname", [fd, _, _]) => Call::SockName(self.fd(fd)?),
            ("getpeername", [fd, _, _]) => Call::PeerName(self.fd(fd)?),
            ("setsockopt", [fd, level, name, value, room]) => {
                let value = option_value(value, Some(len(room)?))?;
                Call::SetOpt(self.fd(fd)?, int32(level)?, int32(name)?, value)
            }
            ("getsockopt", [fd, level, name, value, room]) => {
                let room = match room {
                    Expr::Any => option_value(value, None)?.len().max(256) as i32,
                    room => int32(room)?,
                };
                Call::GetOpt(self.fd(fd)?, int32(level)?, int32(name)?, room)
            }
            ("shutdown", [fd, how]) => Call::Shutdown(self.fd(fd)?, int32(how)?),
            ("fcntl", [fd, cmd]) => Call::Fcntl(self.fd(fd)?, int32(cmd)?, 0),
            ("fcntl", [fd, cmd, arg]) => Call::Fcntl(self.fd(fd)?, int32(cmd)?, int32(arg)?),
            ("ioctl", [fd, request, value]) => {
                let request = int(request)? as u32;
                Call::Ioctl(self.fd(fd)?, request, option_value(value, Some(4))?)
            }
            ("dup", [fd]) => Call::Dup(self.fd(fd)?),
            ("close", [fd]) => Call::Close(self.fd(fd)?),
            _ => return self.prepare_files(spec),
        })
    }

    /// Where `...` leads.
    fn remote(&self) -> Vec<u8> {
        args::addr(self.config.remote, self.config.connect_port)
    }

    /// Calls on several descriptors, or on other files.
    fn prepare_files(&mut self, spec: &CallSpec) -> Read<Call> {
        Ok(match (spec.name.as_str(), &spec.args[..]) {
            ("poll", [Expr::List(fds), _, timeout]) => {
                let one = |fd: &Expr| -> Read<(i32, i16)> {
                    let field =
                        |name| fd.field(name).ok_or_else(|| format!("a pollfd without {name}"));
                    Ok((self.fd(field("fd")?)?, int(field("events")?)? as i16))
                };
                Call::Poll(fds.iter().map(one).collect::<Read<_>>()?, int32(timeout)?)
            }
            ("epoll_create", [size]) if int32(size)? > 0 => Call::EpollCreate(0),
            ("epoll_create1", [flags]) => Call::EpollCreate(int32(flags)?),
            ("epoll_ctl", [ep, op, fd, event]) => {
                let event = match event {
                    Expr::Struct(_) => epoll_event(event)?,
                    _ => (0, 0),
                };
                Call::EpollCtl(self.fd(ep)?, int32(op)?, self.fd(fd)?, event)
            }
            ("epoll_wait", [ep, _, most, timeout]) => {
                Call::EpollWait(self.fd(ep)?, int32(most)?, int32(timeout)?)
            }
            ("pipe", [_]) => Call::Pipe(0),
            ("pipe2", [_, flags]) => Call::Pipe(int32(flags)?),
            ("splice", [from, _, to, _, bytes, flags]) => {
                let (from, to) = (self.fd(from)?, self.fd(to)?);
                self.opaque(to);
                Call::Splice(from, to, len(bytes)?, int32(flags)? as u32)
            }
            ("sendfile", [to, from, _, bytes]) => {
                let to = self.fd(to)?;
                self.opaque(to);
                Call::SendFile(to, self.fd(from)?, len(bytes)?)
            }
            (name, args) => {
                return Err(format!(
                    "Unknown system call: '{name}' with {} arguments (Documentation/pkt.md lists them)",
                    args.len()
                ));
            }
        })
    }

    /// What goes out of a socket comes from elsewhere.
    fn opaque(&mut self, live: i32) {
        if let Some(sock) = self.sock_of(live) {
            self.socks[sock].opaque = true;
        }
    }

    /// Calls that carry data.
    fn prepare_message(&mut self, spec: &CallSpec) -> Read<Option<Call>> {
        let args = &spec.args[..];
        Ok(Some(match (spec.name.as_str(), args) {
            ("read" | "readv", [fd, into, more]) => {
                let lens =
                    if spec.name == "readv" { message::iov(into)? } else { vec![len(more)?] };
                Call::Read(self.fd(fd)?, lens)
            }
            ("recv", [fd, _, room, flags]) | ("recvfrom", [fd, _, room, flags, ..]) => {
                let room = Room { parts: vec![len(room)?], control: 0 };
                Call::Recv(self.fd(fd)?, room, int32(flags)?)
            }
            ("recvmsg", [fd, header, flags]) => {
                Call::Recv(self.fd(fd)?, message::header(header)?.room(), int32(flags)?)
            }
            ("write", [fd, data, bytes]) => {
                let parts = self.data(fd, data, &[len(bytes)?], 0)?;
                Call::Write(self.fd(fd)?, parts)
            }
            ("writev", [fd, parts, _]) => {
                let parts = self.data(fd, &Expr::Any, &message::iov(parts)?, 0)?;
                Call::Write(self.fd(fd)?, parts)
            }
            ("send", [fd, data, bytes, flags]) => {
                let parts = self.data(fd, data, &[len(bytes)?], int32(flags)?)?;
                Call::Send(self.fd(fd)?, Message { parts, ..Message::default() }, int32(flags)?)
            }
            ("sendto", [fd, data, bytes, flags, name, _]) => {
                let name = match name {
                    Expr::Word(word) if word == "NULL" => None,
                    Expr::Int(0) => None,
                    name => Some(sockaddr(name)?.unwrap_or_else(|| self.remote())),
                };
                self.send_to(self.fd(fd)?, name.as_deref(), int32(flags)?);
                let parts = self.data(fd, data, &[len(bytes)?], int32(flags)?)?;
                Call::Send(self.fd(fd)?, Message { parts, name, control: vec![] }, int32(flags)?)
            }
            ("sendmsg", [fd, header, flags]) => {
                let header: Header = message::header(header)?;
                let live = self.fd(fd)?;
                self.send_to(live, header.name.as_deref(), int32(flags)?);
                let parts = self.data(fd, &Expr::Any, &header.parts, int32(flags)?)?;
                let control = header.control_bytes()?;
                Call::Send(live, Message { parts, name: header.name, control }, int32(flags)?)
            }
            _ => return Ok(None),
        }))
    }

    /// The data of a call that sends, in parts of these lengths; remembered, to be found in packets.
    fn data(&mut self, fd: &Expr, given: &Expr, lens: &[usize], flags: i32) -> Read<Vec<Vec<u8>>> {
        let live = self.fd(fd)?;
        let total: usize = lens.iter().sum();
        if total > args::MOST as usize {
            return Err(format!("{total} bytes are more than one call takes here"));
        }
        let sock = self.sock_of(live);
        let datagrams = sock.is_some_and(|sock| self.socks[sock].protocol != TCP);
        let begin = sock.map_or(0, |sock| self.socks[sock].written.len());
        let bytes: Vec<u8> = match given {
            Expr::Str(text) => {
                text.iter().copied().chain(std::iter::repeat(0)).take(total).collect()
            }
            _ => (begin..begin + total).map(pattern).collect(),
        };
        if let Some(sock) = sock {
            let sock = &mut self.socks[sock];
            if sock.written.len() + total > STREAM {
                return Err(format!("a script writes at most {STREAM} bytes to a socket"));
            }
            sock.written.extend(&bytes);
            let held = sock.corked || flags & libc::MSG_MORE != 0;
            if datagrams && !held {
                let whole = std::mem::take(&mut sock.written);
                sock.datagrams.push_back(whole);
            }
        }
        let mut rest = &bytes[..];
        let mut part = |len: &usize| {
            let (part, behind) = rest.split_at(*len);
            rest = behind;
            part.to_vec()
        };
        Ok(lens.iter().map(&mut part).collect())
    }

    /// Data goes to an address: a flow begins, if there is none.
    fn send_to(&mut self, live: i32, name: Option<&[u8]>, flags: i32) {
        let (Some(sock), Some(name)) = (self.sock_of(live), name) else { return };
        let protocol = self.socks[sock].protocol;
        if protocol == UDP || flags & libc::MSG_FASTOPEN != 0 {
            self.flow_to(sock, name);
        }
    }

    /// The flow from a socket to an address, made if there is none.
    fn flow_to(&mut self, at: usize, name: &[u8]) {
        let Ok(name) = uapi::in_::SockaddrIn::from_bytes(name) else { return };
        let remote = (std::net::Ipv4Addr::from(name.addr), name.port);
        let sock = &self.socks[at];
        let local = sock.flow.map_or(0, |flow| self.flows[flow].local.1);
        let local = sock.bound.unwrap_or(local);
        // A stream's one flow goes on until another SYN leaves.
        let same = |flow: &Flow| flow.sock == Some(at) && flow.remote == remote;
        let flow = self.flows.iter().rposition(same).unwrap_or_else(|| {
            let mut flow = Flow::new(sock.protocol, (self.config.local, local), remote);
            flow.sock = Some(at);
            self.flows.push(flow);
            self.flows.len() - 1
        });
        self.socks[at].flow = Some(flow);
        self.subject = Subject::Flow(flow);
    }

    /// A call has ended: its result is compared, and what it changed remembered.
    pub(super) fn complete(&mut self, spec: &CallSpec, call: &Call, done: &Done) -> Went<()> {
        let about = |what: String| format!("runtime error in {} call: {what}", spec.name);
        let fd = self.check_ret(spec, call, done).map_err(about)?;
        self.remember(spec, call, done).map_err(about)?;
        if let Some(script) = fd {
            self.new_fd(script, call, done);
        }
        self.check_output(spec, call, done).map_err(about)?;
        Ok(())
    }

    /// Compares the result; the script's descriptor, if the call made one.
    fn check_ret(&self, spec: &CallSpec, call: &Call, done: &Done) -> Read<Option<i32>> {
        let actual = || match done.errno {
            0 => format!("got {}", done.ret),
            errno => format!("got -1 with errno {errno} ({})", Errno(errno).text()),
        };
        if let Some(name) = &spec.errno {
            let errno = errno_number(name)?;
            if done.errno != errno {
                let text = Errno(errno).text();
                return Err(format!("Expected -1 with errno {errno} ({text}) but {}", actual()));
            }
            return Ok(None);
        }
        if spec.ret == Expr::Any {
            return Ok(None);
        }
        let expected = int(&spec.ret)?;
        let makes = matches!(
            call,
            Call::Socket(..) | Call::Accept(..) | Call::Dup(_) | Call::EpollCreate(_)
        ) || matches!(call, Call::Fcntl(_, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC, _));
        if makes && expected >= 0 {
            if done.errno != 0 {
                return Err(format!("Expected result {expected} but {}", actual()));
            }
            let script = int32(&spec.ret)?;
            if self.fds.contains_key(&script) {
                return Err(format!("the script has a descriptor {script} already"));
            }
            return Ok(Some(script));
        }
        if done.ret != expected || (done.errno != 0 && expected != -1) {
            return Err(format!("Expected result {expected} but {}", actual()));
        }
        Ok(None)
    }

    fn new_fd(&mut self, script: i32, call: &Call, done: &Done) {
        let live = done.ret as i32;
        let sock = match call {
            Call::Socket(_, kind, protocol) => {
                let kind = kind & 0xf;
                let protocol = match (kind, *protocol) {
                    (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => TCP,
                    (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => UDP,
                    _ => 0,
                };
                self.socks.push(Sock { protocol, ..Sock::default() });
                self.subject = Subject::Sock(self.socks.len() - 1);
                self.socks.len() - 1
            }
            Call::Accept(..) => self.accepted(live, done),
            Call::Dup(of) | Call::Fcntl(of, ..) => self.sock_of(*of).unwrap_or(0),
            _ => {
                self.socks.push(Sock::default());
                self.socks.len() - 1
            }
        };
        self.fds.insert(script, Fd { live, sock });
    }

    /// The socket of a connection that was accepted: found by its peer's port.
    fn accepted(&mut self, live: i32, done: &Done) -> usize {
        let name = match &done.name[..] {
            [] => self.quick(Call::PeerName(live)).map(|done| done.name).unwrap_or_default(),
            name => name.to_vec(),
        };
        let port = name.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
        let waits = |flow: &Flow| flow.to_accept && flow.protocol == TCP;
        let of_port = self.flows.iter().position(|flow| waits(flow) && Some(flow.remote.1) == port);
        let flow = of_port.or_else(|| self.flows.iter().position(waits));
        self.socks.push(Sock { protocol: TCP, flow, ..Sock::default() });
        let sock = self.socks.len() - 1;
        if let Some(flow) = flow {
            (self.flows[flow].to_accept, self.flows[flow].sock) = (false, Some(sock));
            self.subject = Subject::Flow(flow);
        }
        sock
    }

    /// What a call changed.
    fn remember(&mut self, spec: &CallSpec, call: &Call, done: &Done) -> Read<()> {
        let good = done.errno == 0;
        match call {
            Call::Bind(fd, name) if good => {
                let Some(at) = self.sock_of(*fd) else { return Ok(()) };
                let port = name.get(2..4).map_or(0, |p| u16::from_be_bytes([p[0], p[1]]));
                if port != 0 {
                    self.socks[at].bound = Some(port);
                }
                if self.socks[at].protocol == UDP {
                    let remote = self.remote();
                    self.flow_to(at, &remote);
                }
            }
            // A datagram may come while a call sleeps: too late to ask for the port.
            Call::Connect(fd, _) if good => {
                let udp = |at: &usize| self.socks[*at].protocol == UDP;
                let flow = self.sock_of(*fd).filter(udp).and_then(|at| self.socks[at].flow);
                return flow.map_or(Ok(()), |flow| self.learn_local_port(flow));
            }
            Call::Listen(fd, _) if good => {
                if let Some(at) = self.sock_of(*fd) {
                    self.socks[at].listening = true;
                    self.subject = Subject::Sock(at);
                }
            }
            Call::SetOpt(fd, level, name, value) if good => {
                let on = value.iter().any(|byte| *byte != 0);
                if let Some(at) = self.sock_of(*fd) {
                    self.option_set(at, (*level, *name), on);
                }
            }
            Call::Send(fd, message, _) => {
                let len = message.parts.iter().map(Vec::len).sum();
                self.sent(*fd, len, done);
            }
            Call::Write(fd, parts) => self.sent(*fd, parts.iter().map(Vec::len).sum(), done),
            Call::Close(_) if good => {
                let script = int32(&spec.args[0])?;
                self.fds.remove(&script);
            }
            Call::Pipe(_) if good => {
                let Some(Expr::List(fds)) = spec.args.first() else {
                    return Err("pipe wants its descriptors: pipe([4, 5])".to_owned());
                };
                for (script, (live, _)) in fds.iter().zip(&done.ready) {
                    self.socks.push(Sock::default());
                    let fd = Fd { live: *live as i32, sock: self.socks.len() - 1 };
                    self.fds.insert(int32(script)?, fd);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn option_set(&mut self, at: usize, option: (i32, i32), on: bool) {
        let sock = &mut self.socks[at];
        match option {
            (libc::SOL_UDP, libc::UDP_CORK) => {
                sock.corked = on;
                if !on && !sock.written.is_empty() {
                    let whole = std::mem::take(&mut sock.written);
                    sock.datagrams.push_back(whole);
                }
            }
            (libc::SOL_SOCKET, libc::SO_PEEK_OFF) => sock.opaque = true,
            _ => {}
        }
    }

    /// What was not taken of the data that a call gave was not written.
    fn sent(&mut self, fd: i32, given: usize, done: &Done) {
        let Some(sock) = self.sock_of(fd).map(|at| &mut self.socks[at]) else { return };
        let taken = if done.errno == 0 { done.ret.max(0) as usize } else { 0 };
        if sock.protocol == TCP {
            let left = sock.written.len().saturating_sub(given.saturating_sub(taken));
            sock.written.truncate(left);
        } else if done.errno != 0 {
            sock.written.clear();
            // The datagram of this call was the last; those before it are on their way.
            let _failed = VecDeque::pop_back(&mut sock.datagrams);
        }
    }
}

/// `{events=EPOLLIN, fd=4}`: events, and what is given back with them.
pub(super) fn epoll_event(event: &Expr) -> Read<(u32, u64)> {
    let Expr::Struct(fields) = event else {
        return Err(format!("expected an event {{events=…, fd=…}}, found {}", kind(event)));
    };
    let (mut events, mut data) = (0, 0);
    for (name, _, value) in fields {
        match name.as_str() {
            "events" => events = int(value)? as u32,
            "fd" | "ptr" | "u32" | "u64" => data = int(value)? as u64,
            other => return Err(format!("`{other}` is no field of an event")),
        }
    }
    Ok((events, data))
}
