//! The system calls, made by a task of the machine.

use crate::backend::{Call, Done, Message, Room};
use crate::parse::script::Us;
use ::stack::fs::eventpoll::EpollEvent;
use ::stack::fs::{self, FilesStruct};
use ::stack::kernel::context::TaskCx;
use ::stack::net::socket::{self as net, MsgSend};
use sim::Task;
use sim::clock::VirtualClock;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::Sockaddr;

/// Where calls are handed in, and what came of them.
pub(super) struct Slot {
    clock: Arc<VirtualClock>,
    call: RefCell<Option<Call>>,
    waker: RefCell<Option<Waker>>,
    ended: Cell<Option<(Done, Us)>>,
    has_ended: Cell<bool>,
    files: RefCell<Option<Arc<FilesStruct>>>,
}

impl Slot {
    pub(super) fn new(clock: Arc<VirtualClock>) -> Self {
        Self {
            clock,
            call: RefCell::default(),
            waker: RefCell::default(),
            ended: Cell::default(),
            has_ended: Cell::new(false),
            files: RefCell::default(),
        }
    }

    pub(super) fn hand_in(&self, call: Call) {
        *self.call.borrow_mut() = Some(call);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    pub(super) fn take_ended(&self) -> Option<(Done, Us)> {
        self.has_ended.set(false);
        self.ended.take()
    }

    /// The files of the task; none before it has started.
    pub(super) fn files(&self) -> Option<Arc<FilesStruct>> {
        self.files.borrow().clone()
    }

    fn end(&self, done: Done) {
        self.ended.set(Some((done, (self.clock.peek().0 / 1_000) as Us)));
        self.has_ended.set(true);
    }
}

/// The task: makes the calls that are handed in, one behind the other.
pub(super) async fn caller(task: Task, slot: Rc<Slot>) {
    *slot.files.borrow_mut() = Some(task.now(|cx| Arc::clone(cx.task().files())));
    loop {
        let call = poll_fn(|cx| match slot.call.borrow_mut().take() {
            Some(call) => Poll::Ready(call),
            None => {
                *slot.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
        let done = make(&task, call).await;
        slot.end(done);
    }
}

fn number<T: Into<i64>>(result: Result<T, Errno>) -> Done {
    result.map_or_else(|errno| Done::failed(errno.0), Done::ok)
}

fn size(result: Result<usize, Errno>) -> Done {
    number(result.map(|len| len as i64))
}

fn nothing(result: Result<(), Errno>) -> Done {
    number(result.map(|()| 0))
}

fn name(result: Result<Sockaddr, Errno>) -> Done {
    match result {
        Ok(name) => Done { name: name.to_name(), ..Done::ok(0) },
        Err(errno) => Done::failed(errno.0),
    }
}

fn timeout(ms: i32) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// Makes one call.
async fn make(task: &Task, call: Call) -> Done {
    let now = |call: &dyn Fn(&mut TaskCx) -> Done| task.now(|cx| call(cx));
    match call {
        Call::Socket(family, kind, protocol) => {
            now(&|cx| number(net::sys_socket(cx, family, kind, protocol)))
        }
        Call::Bind(fd, name) => now(&|cx| nothing(net::sys_bind(cx, fd, &name))),
        Call::Connect(fd, name) => nothing(task.call(net::sys_connect(fd, &name)).await),
        Call::Listen(fd, backlog) => now(&|cx| nothing(net::sys_listen(cx, fd, backlog))),
        Call::Accept(fd, flags) => match task.call(net::sys_accept4(fd, flags)).await {
            Ok((fd, Some(peer))) => Done { name: peer.to_bytes().to_vec(), ..Done::ok(fd) },
            Ok((_, None)) => Done::failed(Errno::ECONNABORTED.0),
            Err(errno) => Done::failed(errno.0),
        },
        Call::SockName(fd) => now(&|cx| name(net::sys_getsockname(cx, fd))),
        Call::PeerName(fd) => now(&|cx| name(net::sys_getpeername(cx, fd))),
        Call::Send(fd, message, flags) => send(task, fd, &message, flags).await,
        Call::Recv(fd, room, flags) => recv(task, fd, &room, flags).await,
        Call::Read(fd, lens) => read(task, fd, &lens).await,
        Call::Write(fd, parts) => write(task, fd, &parts).await,
        Call::SetOpt(fd, level, name, value) => {
            now(&|cx| nothing(net::sys_setsockopt(cx, fd, level, name, &value)))
        }
        Call::GetOpt(fd, level, name, room) => {
            now(&|cx| match net::__sys_getsockopt(cx, fd, level, name, room) {
                Ok(data) => Done { data, ..Done::ok(0) },
                Err(errno) => Done::failed(errno.0),
            })
        }
        Call::Shutdown(fd, how) => now(&|cx| nothing(net::sys_shutdown(cx, fd, how))),
        Call::Ioctl(fd, request, mut memory) => {
            let ret = task.now(|cx| number(fs::sys_ioctl(cx, fd, request, &mut memory)));
            Done { data: memory, ..ret }
        }
        Call::Fcntl(fd, cmd, arg) => now(&|cx| number(fs::sys_fcntl(cx, fd, cmd, arg))),
        Call::Dup(fd) => now(&|cx| number(fs::sys_dup(cx, fd))),
        Call::Close(fd) => nothing(task.call(fs::sys_close_linger(fd)).await),
        Call::Poll(fds, ms) => poll(task, &fds, ms).await,
        Call::EpollCreate(flags) => now(&|cx| number(fs::sys_epoll_create1(cx, flags))),
        Call::EpollCtl(ep, op, fd, (events, data)) => {
            now(&|cx| nothing(fs::sys_epoll_ctl(cx, ep, op, fd, EpollEvent { events, data })))
        }
        Call::EpollWait(ep, max, ms) => {
            let max = usize::try_from(max).unwrap_or(0);
            match task.call(fs::sys_epoll_wait(ep, max, timeout(ms))).await {
                Ok(events) => Done {
                    ready: events.iter().map(|event| (event.events, event.data)).collect(),
                    ..Done::ok(events.len() as i64)
                },
                Err(errno) => Done::failed(errno.0),
            }
        }
        Call::Pipe(flags) => now(&|cx| match fs::sys_pipe2(cx, flags) {
            Ok(ends) => {
                Done { ready: ends.iter().map(|fd| (*fd as u32, 0)).collect(), ..Done::ok(0) }
            }
            Err(errno) => Done::failed(errno.0),
        }),
        Call::Splice(from, to, len, flags) => {
            size(task.call(fs::sys_splice((from, None), (to, None), len, flags)).await)
        }
        Call::SendFile(to, from, len) => {
            size(task.call(fs::sys_sendfile(to, from, None, len)).await)
        }
    }
}

async fn send(task: &Task, fd: i32, message: &Message, flags: i32) -> Done {
    let iov: Vec<IoSlice<'_>> = message.parts.iter().map(|part| IoSlice::new(part)).collect();
    let (name, control) = (message.name.as_deref(), &message.control[..]);
    size(task.call(net::sys_sendmsg(fd, MsgSend { iov: &iov, name, control, flags })).await)
}

async fn recv(task: &Task, fd: i32, room: &Room, flags: i32) -> Done {
    let mut parts: Vec<Vec<u8>> = room.parts.iter().map(|len| vec![0; *len]).collect();
    let mut control = vec![0; room.control];
    let mut iov: Vec<&mut [u8]> = parts.iter_mut().map(|part| &mut part[..]).collect();
    match task.call(net::sys_recvmsg(fd, &mut iov, &mut control, flags)).await {
        Ok(received) => {
            control.truncate(received.controllen as usize);
            Done {
                data: parts.concat(),
                name: received.name.sockaddr().map_or(Vec::new(), |name| name.to_bytes()),
                control,
                flags: received.flags,
                ..Done::ok(received.len as i64)
            }
        }
        Err(errno) => Done::failed(errno.0),
    }
}

async fn read(task: &Task, fd: i32, lens: &[usize]) -> Done {
    let mut parts: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
    let mut iov: Vec<&mut [u8]> = parts.iter_mut().map(|part| &mut part[..]).collect();
    let ret = match &mut iov[..] {
        [one] => size(task.call(fs::sys_read(fd, one)).await),
        several => size(task.call(fs::sys_readv(fd, several)).await),
    };
    Done { data: parts.concat(), ..ret }
}

async fn write(task: &Task, fd: i32, parts: &[Vec<u8>]) -> Done {
    if let [one] = parts {
        return size(task.call(fs::sys_write(fd, one)).await);
    }
    let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
    size(task.call(fs::sys_writev(fd, &parts)).await)
}

async fn poll(task: &Task, fds: &[(i32, i16)], ms: i32) -> Done {
    let of = |(fd, events): &(i32, i16)| fs::PollFd { fd: *fd, events: *events, revents: 0 };
    let mut all: Vec<fs::PollFd> = fds.iter().map(of).collect();
    let ret = size(task.call(fs::sys_poll(&mut all, timeout(ms))).await);
    Done { ready: all.iter().map(|fd| (fd.revents as u16 as u32, 0)).collect(), ..ret }
}
