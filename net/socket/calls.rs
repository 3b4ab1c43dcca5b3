//! The system calls on sockets.
//!
//! linux: net/socket.c. Context: task.
//! DIVERGES: `recvmmsg`'s time limit ends a wait too; Linux looks at it only after each message and
//! may wait for ever with it.
//! DIVERGES: no packet sockets of the oldest kind: `SOCK_PACKET`, of `AF_PACKET` or `AF_INET`, fails with
//! ESOCKTNOSUPPORT.

use super::{
    MsgRecv, MsgSend, Received, RecvBatch, SOCKET_FILE_OPS, SendBatch, Sent, Socket, Wait,
    sockfd_lookup_light, sockfd_lookup_wait,
};
use crate::fs::{File, FileKind, fd_install};
use crate::kernel::context::TaskCx;
use crate::kernel::sched::Operation;
use crate::kernel::time::Ktime;
use crate::net::ipv4::af_inet::{Peer, inet_create};
use crate::net::packet::af_packet::packet_create;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::fcntl::O_NONBLOCK;
use uapi::in_::SockaddrIn;
use uapi::socket::{
    AF_INET, AF_MAX, AF_PACKET, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_WAITFORONE,
    SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_PACKET, Sockaddr,
};
use uapi::uio::UIO_MAXIOV;

/// Socket types end before.
const SOCK_MAX: i32 = SOCK_PACKET + 1;
/// Messages that one BH section sends: a poll's worth.
const SECTION: usize = 64;

/// A call that may sleep, made of what it does on each poll.
pub struct SockCall<F> {
    wait: Wait,
    step: F,
}

impl<T, F: FnMut(&mut TaskCx, &mut Wait) -> Poll<Result<T, Errno>>> SockCall<F> {
    pub(crate) fn new(step: F) -> Self {
        Self { wait: Wait::default(), step }
    }
}

impl<T, F: FnMut(&mut TaskCx, &mut Wait) -> Poll<Result<T, Errno>>> Operation for SockCall<F> {
    type Output = Result<T, Errno>;

    #[inline]
    fn poll(&mut self, cx: &mut TaskCx) -> Poll<Self::Output> {
        self.wait.resume(cx);
        (self.step)(cx, &mut self.wait)
    }
}

/// An address is no longer than the largest of any family.
///
/// linux: net/socket.c:move_addr_to_kernel
#[inline]
fn move_addr_to_kernel(name: &[u8]) -> Result<(), Errno> {
    const SOCKADDR_STORAGE: usize = 128;
    if name.len() > SOCKADDR_STORAGE { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Makes a socket; its descriptor.
///
/// # Errors
/// EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EINVAL for what there is not; EMFILE.
///
/// linux: net/socket.c:sys_socket
pub fn sys_socket(cx: &mut TaskCx, family: i32, kind: i32, protocol: i32) -> Result<i32, Errno> {
    cx.enter_call();
    walk!(cx, sys_socket);
    const TYPE_MASK: i32 = 0xf;
    if kind & !TYPE_MASK & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if !(0..AF_MAX).contains(&family) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind & TYPE_MASK >= SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    let (sk, ops) = match family {
        AF_INET => inet_create(cx, kind & TYPE_MASK, protocol)?,
        AF_PACKET => packet_create(cx, kind & TYPE_MASK, protocol)?,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let nonblock = if kind & SOCK_NONBLOCK != 0 { O_NONBLOCK } else { 0 };
    let file = File::new(FileKind::Socket(Socket::new(sk, ops)), &SOCKET_FILE_OPS, nonblock);
    fd_install(cx, file, kind & SOCK_CLOEXEC != 0)
}

/// Binds a socket to an address: the bytes of a `sockaddr`.
///
/// # Errors
/// EBADF, ENOTSOCK; those of the family.
///
/// linux: net/socket.c:sys_bind
pub fn sys_bind(cx: &mut TaskCx, fd: i32, name: &[u8]) -> Result<(), Errno> {
    cx.enter_call();
    walk!(cx, sys_bind);
    sockfd_lookup_light(cx, fd, |cx, _, socket| {
        move_addr_to_kernel(name)?;
        (socket.ops.bind)(cx, &socket.sk, name)
    })
}

/// Fixes a socket's peer; of a stream, waits until the connection stands.
///
/// # Errors
/// EBADF, ENOTSOCK; those of the family.
///
/// linux: net/socket.c:sys_connect
pub fn sys_connect<'a>(
    fd: i32,
    name: &'a [u8],
) -> impl Operation<Output = Result<(), Errno>> + use<'a> {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_connect);
        sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            if let Err(error) = move_addr_to_kernel(name) {
                return Poll::Ready(Err(error));
            }
            (socket.ops.connect)(cx, &socket.sk, name, wait)
        })
    })
}

/// Lets peers connect.
///
/// # Errors
/// EBADF, ENOTSOCK; EOPNOTSUPP for a socket without connections.
///
/// linux: net/socket.c:sys_listen
pub fn sys_listen(cx: &mut TaskCx, fd: i32, backlog: i32) -> Result<(), Errno> {
    cx.enter_call();
    walk!(cx, sys_listen);
    sockfd_lookup_light(cx, fd, |cx, _, socket| (socket.ops.listen)(cx, &socket.sk, backlog))
}

/// Takes a peer that has connected; the descriptor of its socket, and the peer's address: `None` if it was reset
/// meanwhile, for which Linux has ECONNABORTED if its caller asks for the address. `flags`: `SOCK_NONBLOCK`,
/// `SOCK_CLOEXEC`.
///
/// # Errors
/// EBADF, ENOTSOCK; EINVAL for other flags; EOPNOTSUPP for a socket without connections.
///
/// linux: net/socket.c:sys_accept4
pub fn sys_accept4(
    fd: i32,
    flags: i32,
) -> impl Operation<Output = Result<(i32, Option<SockaddrIn>), Errno>> {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_accept4);
        let accepted = sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
                return Poll::Ready(Err(Errno::EINVAL));
            }
            (socket.ops.accept)(cx, &socket.sk, wait)
        });
        let socket = ready!(accepted)?;
        let nonblock = if flags & SOCK_NONBLOCK != 0 { O_NONBLOCK } else { 0 };
        let peer = (socket.ops.getname)(&socket.sk, Peer::Accepted).ok().and_then(Sockaddr::inet);
        let file = File::new(FileKind::Socket(socket), &SOCKET_FILE_OPS, nonblock);
        let fd = fd_install(cx, file, flags & SOCK_CLOEXEC != 0);
        Poll::Ready(fd.map(|fd| (fd, peer)))
    })
}

/// A socket's own address.
///
/// # Errors
/// EBADF, ENOTSOCK.
///
/// linux: net/socket.c:sys_getsockname
pub fn sys_getsockname(cx: &mut TaskCx, fd: i32) -> Result<Sockaddr, Errno> {
    cx.enter_call();
    walk!(cx, sys_getsockname);
    sockfd_lookup_light(cx, fd, |_, _, socket| (socket.ops.getname)(&socket.sk, Peer::No))
}

/// A socket's peer's address.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOTCONN.
///
/// linux: net/socket.c:sys_getpeername
pub fn sys_getpeername(cx: &mut TaskCx, fd: i32) -> Result<Sockaddr, Errno> {
    cx.enter_call();
    walk!(cx, sys_getpeername);
    sockfd_lookup_light(cx, fd, |_, _, socket| (socket.ops.getname)(&socket.sk, Peer::Yes))
}

/// Half-closes a socket.
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, ENOTCONN.
///
/// linux: net/socket.c:sys_shutdown
pub fn sys_shutdown(cx: &mut TaskCx, fd: i32, how: i32) -> Result<(), Errno> {
    cx.enter_call();
    walk!(cx, sys_shutdown);
    sockfd_lookup_light(cx, fd, |cx, _, socket| (socket.ops.shutdown)(cx, &socket.sk, how))
}

#[inline]
fn send_single(
    cx: &mut TaskCx,
    fd: i32,
    msg: MsgSend<'_>,
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
        if msg.iov.len() > UIO_MAXIOV {
            return Poll::Ready(Err(Errno::EMSGSIZE));
        }
        let sent =
            sock_sendmsg(cx, socket, &SendBatch { msgs: &[msg], flags: 0, owned: &[] }, wait);
        sent.map(|sent| sent.map(|sent| sent.bytes))
    })
}

/// Gives messages to the socket's family.
///
/// linux: net/socket.c:sock_sendmsg
#[inline]
pub(super) fn sock_sendmsg(
    cx: &mut TaskCx,
    socket: &Socket,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, sock_sendmsg);
    (socket.ops.sendmsg)(cx, &socket.sk, batch, wait)
}

/// Asks the socket's family for messages: it waits for the first and takes what more there is.
///
/// linux: net/socket.c:sock_recvmsg
#[inline]
fn sock_recvmsg(
    cx: &mut TaskCx,
    socket: &Socket,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, sock_recvmsg);
    (socket.ops.recvmsg)(cx, &socket.sk, batch, wait)
}

/// Sends to an address (`None`: the peer).
///
/// # Errors
/// EBADF, ENOTSOCK; those of the protocol.
///
/// linux: net/socket.c:sys_sendto
pub fn sys_sendto<'a>(
    fd: i32,
    data: &'a [u8],
    flags: i32,
    name: Option<&'a [u8]>,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_sendto);
        if let Some(Err(error)) = name.map(move_addr_to_kernel) {
            let found = sockfd_lookup_light(cx, fd, |_, _, _| Ok(()));
            return Poll::Ready(Err(found.err().unwrap_or(error)));
        }
        let iov = [IoSlice::new(data)];
        send_single(cx, fd, MsgSend { iov: &iov, name, control: &[], flags }, wait)
    })
}

/// Sends to the peer: `sendto` without an address.
///
/// # Errors
/// As [`sys_sendto`].
///
/// linux: net/socket.c:sys_send
pub fn sys_send<'a>(
    fd: i32,
    data: &'a [u8],
    flags: i32,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_send);
        walk!(cx, sys_sendto);
        let iov = [IoSlice::new(data)];
        send_single(cx, fd, MsgSend { iov: &iov, name: None, control: &[], flags }, wait)
    })
}

/// Sends a message.
///
/// # Errors
/// As [`sys_sendto`]; EINVAL for malformed control data, EMSGSIZE for more than 1,024 parts.
///
/// linux: net/socket.c:sys_sendmsg
pub fn sys_sendmsg<'a>(
    fd: i32,
    msg: MsgSend<'a>,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_sendmsg);
        send_single(cx, fd, msg, wait)
    })
}

/// Sends several messages; how many went. An error after the first is nobody's, as in Linux: it
/// ends the call and is not kept.
///
/// # Errors
/// That of the first message, if it did not go.
///
/// linux: net/socket.c:sys_sendmmsg
pub fn sys_sendmmsg<'a>(
    fd: i32,
    msgs: &'a [MsgSend<'a>],
    flags: i32,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    let mut done = 0;
    let msgs = &msgs[..msgs.len().min(UIO_MAXIOV)];
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_sendmmsg);
        sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            // In a few BH sections, so that a long call lets others have the CPU.
            while done < msgs.len() {
                let here = &msgs[done..msgs.len().min(done + SECTION)];
                match ready!(sock_sendmsg(
                    cx,
                    socket,
                    &SendBatch { msgs: here, flags, owned: &[] },
                    wait
                )) {
                    Ok(sent) => {
                        done += sent.messages;
                        if sent.stop.is_some() {
                            break;
                        }
                    }
                    Err(error) if done == 0 => return Poll::Ready(Err(error)),
                    Err(_) => break,
                }
            }
            Poll::Ready(Ok(done))
        })
    })
}

/// Receives a message and its sender's address.
///
/// # Errors
/// EBADF, ENOTSOCK; those of the protocol.
///
/// linux: net/socket.c:sys_recvfrom
pub fn sys_recvfrom(
    fd: i32,
    data: &mut [u8],
    flags: i32,
) -> impl Operation<Output = Result<(usize, Option<Sockaddr>), Errno>> + '_ {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_recvfrom);
        let mut iov = [IoSliceMut::new(data)];
        let mut msg = MsgRecv::new(&mut iov, &mut []);
        ready!(sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            let msgs = std::slice::from_mut(&mut msg);
            sock_recvmsg(cx, socket, &mut RecvBatch { msgs, flags, came: 0 }, wait)
        }))?;
        Poll::Ready(Ok((msg.received.len, msg.received.name.sockaddr())))
    })
}

/// Receives a message with its control data.
///
/// # Errors
/// As [`sys_recvfrom`].
///
/// linux: net/socket.c:sys_recvmsg
pub fn sys_recvmsg<'a>(
    fd: i32,
    iov: &'a mut [&'a mut [u8]],
    control: &'a mut [u8],
    flags: i32,
) -> impl Operation<Output = Result<Received, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_recvmsg);
        sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            recv_parts(cx, socket, (iov, control), flags, wait)
        })
    })
}

/// Receives a message into several parts.
///
/// linux: net/socket.c:___sys_recvmsg
fn recv_parts(
    cx: &mut TaskCx,
    socket: &Socket,
    (iov, control): (&mut [&mut [u8]], &mut [u8]),
    flags: i32,
    wait: &mut Wait,
) -> Poll<Result<Received, Errno>> {
    let mut parts: Vec<IoSliceMut<'_>> = iov.iter_mut().map(|part| IoSliceMut::new(part)).collect();
    let mut msg = MsgRecv::new(&mut parts, control);
    ready!(recv_rooms(cx, socket, std::slice::from_mut(&mut msg), flags, wait))?;
    Poll::Ready(Ok(msg.received))
}

/// Receives messages into these rooms, as many as are there but at least one. How many came.
fn recv_rooms(
    cx: &mut TaskCx,
    socket: &Socket,
    rooms: &mut [MsgRecv<'_>],
    flags: i32,
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    let fit = rooms.iter().take_while(|room| room.iov.len() <= UIO_MAXIOV).count();
    if fit == 0 {
        return Poll::Ready(Err(Errno::EMSGSIZE));
    }
    let cloexec = flags & MSG_CMSG_CLOEXEC;
    let mut batch = RecvBatch { msgs: &mut rooms[..fit], flags: flags & !cloexec, came: 0 };
    ready!(sock_recvmsg(cx, socket, &mut batch, wait))?;
    // Linux gives the flag back, whether or not a descriptor came.
    if cloexec != 0 {
        batch.msgs[..batch.came].iter_mut().for_each(|msg| msg.received.flags |= cloexec);
    }
    Poll::Ready(Ok(batch.came))
}

/// Receives several messages, each into its own room, and says in the room what came; how many did.
/// Waits for all of them, for the first with `MSG_WAITFORONE`, and no longer than `timeout`. An error
/// after the first message is left for the next call.
///
/// # Errors
/// As [`sys_recvmsg`], if not even one came.
///
/// linux: net/socket.c:sys_recvmmsg
pub fn sys_recvmmsg<'r, 'a>(
    fd: i32,
    rooms: &'r mut [MsgRecv<'a>],
    flags: i32,
    timeout: Option<Duration>,
) -> impl Operation<Output = Result<usize, Errno>> + use<'r, 'a> {
    let mut done = 0;
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_recvmmsg);
        let until = timeout.map(|timeout| {
            let until = cx.now() + timeout;
            *wait.until.get_or_insert(until)
        });
        sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            recv_several(cx, socket, (rooms, &mut done), (flags, until), wait)
        })
    })
}

fn recv_several(
    cx: &mut TaskCx,
    socket: &Socket,
    (rooms, done): (&mut [MsgRecv<'_>], &mut usize),
    (flags, until): (i32, Option<Ktime>),
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    if *done == 0 && flags & MSG_ERRQUEUE == 0 {
        // Even a call for no message meets the pending error.
        socket.sk.state().sock_error()?;
    }
    // The time is looked at behind each message.
    let at_once = if until.is_some() { 1 } else { usize::MAX };
    while *done < rooms.len() {
        let one = flags & MSG_WAITFORONE != 0 && *done != 0;
        let flags = flags & !MSG_WAITFORONE | if one { MSG_DONTWAIT } else { 0 };
        let (_, rooms) = rooms.split_at_mut(*done);
        let most = rooms.len().min(at_once);
        match ready!(recv_rooms(cx, socket, &mut rooms[..most], flags, wait)) {
            Ok(came) => *done += came,
            Err(error) if *done == 0 => return Poll::Ready(Err(error)),
            Err(error) => {
                if error != Errno::EAGAIN {
                    socket.sk.state().err = Some(error);
                }
                break;
            }
        }
        if until.is_some_and(|until| cx.machine().ktime_get() >= until) {
            break;
        }
    }
    Poll::Ready(Ok(std::mem::take(done)))
}

/// `read` on a socket.
///
/// linux: net/socket.c:sock_aio_read
pub(crate) fn sock_aio_read(
    cx: &mut TaskCx,
    file: &Arc<File>,
    iov: &mut [IoSliceMut<'_>],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    walk!(cx, sock_aio_read);
    let Some(socket) = file.socket() else { return Poll::Ready(Err(Errno::ENOTSOCK)) };
    // As System V has it: a read of nothing takes nothing from the queue.
    if iov.iter().all(|part| part.is_empty()) {
        return Poll::Ready(Ok(0));
    }
    // Shorter lifetimes for the parts than the caller's.
    let mut parts: Vec<IoSliceMut<'_>> = iov.iter_mut().map(|part| IoSliceMut::new(part)).collect();
    let mut msg = MsgRecv::new(&mut parts, &mut []);
    let mut batch = RecvBatch { msgs: std::slice::from_mut(&mut msg), flags: 0, came: 0 };
    ready!(socket.in_its_net(cx, |cx| (socket.ops.recvmsg)(cx, &socket.sk, &mut batch, wait)))?;
    Poll::Ready(Ok(msg.received.len))
}

/// `write` on a socket.
///
/// linux: net/socket.c:sock_aio_write
pub(crate) fn sock_aio_write(
    cx: &mut TaskCx,
    file: &Arc<File>,
    iov: &[IoSlice<'_>],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    walk!(cx, sock_aio_write);
    let Some(socket) = file.socket() else { return Poll::Ready(Err(Errno::ENOTSOCK)) };
    let msg = MsgSend { iov, name: None, control: &[], flags: 0 };
    let batch = SendBatch { msgs: &[msg], flags: 0, owned: &[] };
    let sent = ready!(socket.in_its_net(cx, |cx| sock_sendmsg(cx, socket, &batch, wait)));
    Poll::Ready(sent.map(|sent| sent.bytes))
}
