//! The socket calls.
//!
//! linux: net/socket.c. Key types: [`Socket`], [`MsgSend`], [`MsgRecv`], [`Wait`].
//! Parts: `calls` (the system calls), `bytes` (sending without a copy), `options` (`SOL_SOCKET`), `received`.
//! Contexts: task. A call that may sleep is an `Operation`: a value that is polled; the others
//! return at once.

mod bytes;
mod calls;
mod options;
mod received;

pub use self::bytes::sys_send_bytes;
pub use calls::{
    SockCall, sys_accept4, sys_bind, sys_connect, sys_getpeername, sys_getsockname, sys_listen,
    sys_recvfrom, sys_recvmmsg, sys_recvmsg, sys_send, sys_sendmmsg, sys_sendmsg, sys_sendto,
    sys_shutdown, sys_socket,
};
pub(crate) use calls::{sock_aio_read, sock_aio_write};
pub use options::{__sys_getsockopt, sys_getsockopt, sys_getsockopt_by, sys_setsockopt};
pub use received::{MsgName, Received};

use crate::fs::pipe::{Pipe, PipeEnd};
use crate::fs::{File, FileOperations, HeldFile, fdget_wait};
use crate::kernel::context::{TaskCx, Walker};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::sched::wait::WaitKey;
use crate::kernel::time::Ktime;
use crate::kernel::trace::WalkId;
use crate::net::core::busy_poll::sk_busy_loop;
use crate::net::core::dev_ioctl::{dev_ifconf, dev_ioctl};
use crate::net::core::skbuff::{UbufInfo, net_zcopy_put_task};
use crate::net::core::sock::{Sock, SockLocked, deadline, sock_gettstamp};
use crate::net::ipv4::af_inet::ProtoOps;
use crate::net::ipv4::igmp::ip_mc_drop_socket;
use crate::net::net_namespace::{NetId, NetRef};
use ::bytes::Bytes;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::fcntl::O_NONBLOCK;
use uapi::poll::{POLLIN, POLLOUT};
use uapi::socket::MSG_DONTWAIT;
use uapi::sockios::{FIOGETOWN, SIOCGIFCONF, SIOCGPGRP, SIOCGSTAMP, SIOCGSTAMPNS};

/// A socket as a file has it.
///
/// linux: include/linux/net.h:socket
pub struct Socket {
    /// The network's side.
    pub sk: Arc<Sock>,
    /// What its calls do.
    pub ops: &'static ProtoOps,
    /// Its namespace, which is looked at in each call.
    net_id: NetId,
    /// As long as it has a descriptor its namespace stays.
    net: SpinLock<Option<NetRef>, class::Nsproxy>,
}

impl Socket {
    /// A socket that gets a descriptor.
    pub(crate) fn new(sk: Arc<Sock>, ops: &'static ProtoOps) -> Self {
        // Who makes it is in that namespace.
        let net = SpinLock::new(NetRef::maybe_get_net(&sk.net));
        Self { net_id: sk.net.id, sk, ops, net }
    }

    /// Calls `f` in the socket's namespace, which need not be the task's.
    #[inline(always)]
    fn in_its_net<R>(&self, cx: &mut TaskCx, f: impl FnOnce(&mut TaskCx) -> R) -> R {
        cx.in_net(self.net_id, f)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({:?})", self.sk)
    }
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct MsgSend<'a> {
    /// The data.
    pub iov: &'a [IoSlice<'a>],
    /// Where to: the bytes of a `sockaddr`.
    pub name: Option<&'a [u8]>,
    /// Control data.
    pub control: &'a [u8],
    /// `MSG_*`.
    pub flags: i32,
}

/// Messages of one call.
#[derive(Clone, Copy, Debug)]
pub struct SendBatch<'a> {
    msgs: &'a [MsgSend<'a>],
    flags: i32,
    /// The memory of the only message's parts, if it may be kept: one for each part.
    owned: &'a [Bytes],
}

impl<'a> SendBatch<'a> {
    /// The messages, each with its flags and the call's.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&'a MsgSend<'a>, i32)> + use<'a> {
        let flags = self.flags;
        self.msgs.iter().map(move |msg| (msg, msg.flags | flags))
    }

    /// The memory of a message's parts, where the sender gave it with its data.
    pub(crate) fn owned(&self) -> &'a [Bytes] {
        self.owned
    }
}

/// What of a batch was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages.
    pub messages: usize,
    /// Bytes of the last one.
    pub bytes: usize,
    /// What the message behind them met.
    pub stop: Option<Errno>,
}

impl Sent {
    /// One more message, of `bytes`.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = bytes;
    }
}

/// Room for a message to receive, and what was received there.
///
/// linux: include/linux/socket.h:msghdr
#[derive(Debug)]
pub struct MsgRecv<'a> {
    /// For the data.
    pub iov: &'a mut [IoSliceMut<'a>],
    /// For control data.
    pub control: &'a mut [u8],
    /// Filled in by the protocol.
    pub received: Received,
}

impl<'a> MsgRecv<'a> {
    /// Room, and nothing received yet.
    #[inline]
    pub fn new(iov: &'a mut [IoSliceMut<'a>], control: &'a mut [u8]) -> Self {
        Self { iov, control, received: Received::default() }
    }
}

/// Room for one message or several, one behind the other.
#[derive(Debug)]
pub struct RecvBatch<'b, 'a> {
    /// The rooms.
    pub msgs: &'b mut [MsgRecv<'a>],
    /// `MSG_*`, for all of them.
    pub flags: i32,
    /// Filled in by the protocol: how many messages came.
    pub came: usize,
}

/// A call's wait: what it waits for, and until when. Dropped, it is off the queue.
#[derive(Debug, Default)]
pub struct Wait {
    /// `O_*` of the file.
    pub(crate) f_flags: i32,
    /// The call's own limit (`recvmmsg`), beside the socket's.
    pub(crate) until: Option<Ktime>,
    /// Octets of a stream that the call has read or written in its polls before; of `connect`, 1 if it found the
    /// connection on its way.
    pub(crate) progress: usize,
    asleep: Option<Box<Asleep>>,
}

/// What a call that had to wait keeps from poll to poll; most calls never have one.
#[derive(Debug)]
struct Asleep {
    span: WalkId,
    /// Not before it waits at a socket is there one: `None` inside is for ever.
    deadline: Option<Option<Ktime>>,
    /// When the next wait ends at the latest, and the call looks again.
    nap: Option<Ktime>,
    /// Until then it polls for its packets; `None`: it has not begun.
    busy_until: Option<Ktime>,
    /// What the call's data is to be told of by (`MSG_ZEROCOPY`).
    ubuf: Option<Arc<UbufInfo>>,
    queued: Option<Queued>,
    file: Option<HeldFile>,
}

/// A place in a queue.
#[derive(Debug)]
enum Queued {
    Sock(Arc<Sock>, WaitKey),
    Pipe(Arc<Pipe>, PipeEnd, WaitKey),
}

impl Queued {
    fn leave(self) {
        match self {
            Self::Sock(sk, key) => leave_queue(sk, key),
            Self::Pipe(pipe, end, key) => pipe.finish_wait(end, key),
        }
    }
}

impl Wait {
    /// A new poll of the call: on the first one the call begins.
    #[inline]
    pub(crate) fn resume(&mut self, cx: &mut TaskCx) {
        match &self.asleep {
            None => cx.enter_call(),
            Some(asleep) => cx.set_span(asleep.span),
        }
    }

    /// The call has slept.
    pub(crate) fn slept(&self) -> bool {
        self.asleep.is_some()
    }

    /// The file that the call slept on.
    #[inline]
    pub(crate) fn held(&self) -> Option<&Arc<File>> {
        let held = self.asleep.as_ref()?.file.as_ref();
        held.map(|held| &held.file)
    }

    /// Keeps the file while the call sleeps; false if it was closed since it was looked up.
    #[cold]
    pub(crate) fn hold(&mut self, cx: &TaskCx, file: &Arc<File>) -> bool {
        let held = HeldFile::new(cx, file);
        let kept = held.is_some();
        if let Some(asleep) = &mut self.asleep {
            asleep.file = held;
        }
        kept
    }

    /// What the call's data is to be told of by, from the poll before.
    pub(crate) fn take_ubuf(&mut self) -> Option<Arc<UbufInfo>> {
        self.asleep.as_mut()?.ubuf.take()
    }

    /// Keeps that until the next poll; a call that sleeps has room for it.
    pub(crate) fn keep_ubuf(&mut self, ubuf: Arc<UbufInfo>) {
        match &mut self.asleep {
            Some(asleep) => asleep.ubuf = Some(ubuf),
            None => net_zcopy_put_task(ubuf),
        }
    }

    /// Neither the file nor the call says that it must not.
    pub(crate) fn may_wait(&self, flags: i32) -> bool {
        self.f_flags & O_NONBLOCK == 0 && flags & MSG_DONTWAIT == 0
    }

    /// The next wait lasts no longer than that.
    pub(crate) fn nap(&mut self, cx: &mut TaskCx, most: Duration) {
        let asleep = self.asleep.get_or_insert_with(|| Asleep::new(cx));
        asleep.nap = Some(cx.now() + most);
    }

    /// Waits until `ready`, woken by any of `events` on `sk`. Pending: the caller is polled again
    /// when it may be; it looks for itself.
    ///
    /// # Errors
    /// EAGAIN when the call may not wait or its time is up; EINTR for a signal.
    pub(crate) fn for_event<T>(
        &mut self,
        cx: &mut TaskCx,
        sk: &Arc<Sock>,
        events: u32,
        flags: i32,
        ready: impl FnOnce(&mut SockLocked) -> bool,
    ) -> Poll<Result<T, Errno>> {
        let reads =
            events & POLLIN as u32 != 0 && sk.net.first().napi_looks.load(Ordering::Relaxed);
        if !self.may_wait(flags) {
            if reads && sk_busy_loop(cx, sk, None) && ready(&mut sk.state()) {
                cx.waker.wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Err(Errno::EAGAIN));
        }
        let asleep = self.asleep.get_or_insert_with(|| Asleep::new(cx));
        let own = *asleep.deadline.get_or_insert_with(|| {
            let state = sk.state();
            let sends = events & POLLOUT as u32 != 0;
            let timeout = if sends { state.opts.sndtimeo } else { state.opts.rcvtimeo };
            drop(state);
            deadline(cx, timeout)
        });
        let until = [own, self.until].into_iter().flatten().min();
        if until.is_some_and(|at| cx.now() >= at) {
            return Poll::Ready(Err(Errno::EAGAIN));
        }
        if cx.task().take_signal() {
            return Poll::Ready(Err(Errno::EINTR));
        }
        if reads {
            let _look_again = sk_busy_loop(cx, sk, Some(&mut asleep.busy_until));
        }
        let mut state = sk.state();
        if ready(&mut state) {
            // It came between the look and now: look again at once.
            drop(state);
            cx.waker.wake_by_ref();
            return Poll::Pending;
        }
        let mut key = match asleep.queued.take() {
            Some(Queued::Sock(_, key)) => Some(key),
            Some(elsewhere) => {
                drop(state);
                elsewhere.leave();
                state = sk.state();
                None
            }
            None => None,
        };
        state.wq.prepare_to_wait(&mut key, events, &cx.waker);
        drop(state);
        asleep.queued = key.map(|key| Queued::Sock(Arc::clone(sk), key));
        if let Some(at) = [until, asleep.nap.take()].into_iter().flatten().min() {
            cx.schedule_timeout(at);
        }
        Poll::Pending
    }

    /// Waits until something can be done at an end of a pipe; the caller looks for itself.
    ///
    /// # Errors
    /// EAGAIN when the call may not wait; EINTR for a signal.
    pub(crate) fn for_pipe<T>(
        &mut self,
        cx: &mut TaskCx,
        pipe: &Arc<Pipe>,
        end: PipeEnd,
        flags: i32,
    ) -> Poll<Result<T, Errno>> {
        if !self.may_wait(flags) {
            return Poll::Ready(Err(Errno::EAGAIN));
        }
        let asleep = self.asleep.get_or_insert_with(|| Asleep::new(cx));
        if cx.task().take_signal() {
            return Poll::Ready(Err(Errno::EINTR));
        }
        let mut key = match asleep.queued.take() {
            Some(Queued::Pipe(at, side, key)) if Arc::ptr_eq(&at, pipe) && side == end => Some(key),
            Some(elsewhere) => {
                elsewhere.leave();
                None
            }
            None => None,
        };
        let queued = pipe.prepare_to_wait(end, &mut key, &cx.waker);
        asleep.queued = key.map(|key| Queued::Pipe(Arc::clone(pipe), end, key));
        if !queued {
            // It came between the look and now: look again at once.
            cx.waker.wake_by_ref();
        }
        Poll::Pending
    }
}

/// Sends octets of a file's by a socket: how many went.
pub(crate) fn sock_write_some(
    cx: &mut TaskCx,
    socket: &Socket,
    data: &[u8],
    flags: i32,
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    let msg = MsgSend { iov: &[IoSlice::new(data)], name: None, control: &[], flags };
    let batch = SendBatch { msgs: &[msg], flags: 0, owned: &[] };
    let sent = socket.in_its_net(cx, |cx| (socket.ops.sendmsg)(cx, &socket.sk, &batch, wait));
    Poll::Ready(Ok(ready!(sent)?.bytes))
}

/// Receives octets for a file: how many came.
pub(crate) fn sock_read_some(
    cx: &mut TaskCx,
    socket: &Socket,
    data: &mut [u8],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    let mut iov = [IoSliceMut::new(data)];
    let mut msg = MsgRecv::new(&mut iov, &mut []);
    let mut batch = RecvBatch { msgs: std::slice::from_mut(&mut msg), flags: 0, came: 0 };
    ready!(socket.in_its_net(cx, |cx| (socket.ops.recvmsg)(cx, &socket.sk, &mut batch, wait)))?;
    Poll::Ready(Ok(msg.received.len))
}

impl Asleep {
    fn new(cx: &TaskCx) -> Box<Self> {
        let busy_until = None;
        Box::new(Self {
            span: cx.span(),
            deadline: None,
            busy_until,
            nap: None,
            ubuf: None,
            queued: None,
            file: None,
        })
    }
}

impl Drop for Asleep {
    #[cold]
    fn drop(&mut self) {
        if let Some(queued) = self.queued.take() {
            queued.leave();
        }
        if let Some(ubuf) = self.ubuf.take() {
            net_zcopy_put_task(ubuf);
        }
    }
}

fn leave_queue(sk: Arc<Sock>, key: WaitKey) {
    let mut wakeups = Vec::new();
    {
        let mut state = sk.state_in_drop();
        // Woken but ending some other way: the wake-up is somebody else's now.
        if !state.wq.finish_wait(key) && !state.receive_queue.is_empty() {
            let readable = state.readable_mask();
            state.wq.wake_up(readable, &mut wakeups);
        }
    }
    for waker in wakeups {
        waker.wake();
    }
}

/// The operations of a socket's file.
///
/// linux: net/socket.c:socket_file_ops
pub static SOCKET_FILE_OPS: FileOperations = FileOperations {
    read: sock_aio_read,
    write: sock_aio_write,
    poll: sock_poll,
    mmap: sock_mmap,
    ioctl: sock_ioctl,
    release: sock_close,
};

/// What is ready on a socket: `POLL*` bits.
///
/// linux: net/socket.c:sock_poll
fn sock_poll(cx: &mut TaskCx, file: &File) -> u32 {
    walk!(cx, sock_poll);
    let Some(socket) = file.socket() else { return 0 };
    socket.sk.sock_rps_record_flow(cx);
    (socket.ops.poll)(&socket.sk)
}

/// Maps a socket into memory, as its family has it.
///
/// linux: net/socket.c:sock_mmap
fn sock_mmap(file: &File) -> Result<(), Errno> {
    let socket = file.socket().ok_or(Errno::ENOTSOCK)?;
    (socket.ops.mmap)(&socket.sk)
}

/// Writes an answer to where user space wants it.
///
/// # Errors
/// EFAULT when that is less memory.
///
/// linux: include/linux/uaccess.h:put_user
pub(crate) fn put_user(arg: &mut [u8], bytes: &[u8]) -> Result<i32, Errno> {
    let place = arg.get_mut(..bytes.len()).ok_or(Errno::EFAULT)?;
    place.copy_from_slice(bytes);
    Ok(0)
}

/// Answers a request: the socket's own, then the family's, then a device's.
///
/// # Errors
/// ENOTTY for a request there is not; EFAULT.
///
/// linux: net/socket.c:sock_ioctl
fn sock_ioctl(cx: &mut TaskCx, file: &File, request: u32, arg: &mut [u8]) -> Result<i32, Errno> {
    /// Where requests on sockets lie (`SOCK_IOC_TYPE`).
    const SOCKET_REQUESTS: u32 = 0x89;
    let socket = file.socket().ok_or(Errno::ENOTSOCK)?;
    socket.in_its_net(cx, |cx| match request {
        SIOCGSTAMP => sock_gettstamp(cx, &socket.sk, 1_000, arg),
        SIOCGSTAMPNS => sock_gettstamp(cx, &socket.sk, 1, arg),
        SIOCGIFCONF => dev_ifconf(cx, arg),
        // Nobody is: signals are not sent here.
        FIOGETOWN | SIOCGPGRP => put_user(arg, &0_i32.to_ne_bytes()),
        _ => match (socket.ops.ioctl)(cx, &socket.sk, request, arg) {
            Some(answer) => answer,
            None if request >> 8 & 0xff != SOCKET_REQUESTS => Err(Errno::ENOTTY),
            None => dev_ioctl(cx, request, arg),
        },
    })
}

/// The last descriptor is closed: the socket leaves the tables and what it holds is freed.
///
/// linux: net/socket.c:sock_close
fn sock_close(cx: &mut TaskCx, file: &File) {
    walk!(cx, sock_close);
    let Some(socket) = file.socket() else { return };
    socket.in_its_net(cx, |cx| {
        // Programs forget to leave groups.
        ip_mc_drop_socket(cx, &socket.sk);
        (socket.sk.sk_prot.close)(cx, &socket.sk);
    });
    let _may_go = socket.net.lock().take();
}

/// What a socket call returns: it may fail.
// A lookup that wrapped its caller's result in one of its own would have every call taken apart
// twice.
trait Fails {
    fn fails(error: Errno) -> Self;
}

impl<T> Fails for Result<T, Errno> {
    #[inline]
    fn fails(error: Errno) -> Self {
        Err(error)
    }
}

impl<T> Fails for Poll<Result<T, Errno>> {
    #[inline]
    fn fails(error: Errno) -> Self {
        Poll::Ready(Err(error))
    }
}

/// Finds the socket of a descriptor, lends it to `f`, and takes it back: no count is touched.
/// Fails with EBADF or ENOTSOCK.
///
/// linux: net/socket.c:sockfd_lookup_light
#[inline]
fn sockfd_lookup_light<R: Fails>(
    cx: &mut TaskCx,
    fd: i32,
    f: impl FnOnce(&mut TaskCx, &Arc<File>, &Socket) -> R,
) -> R {
    walk!(cx, sockfd_lookup_light => fd as u64);
    let Some(file) = crate::fs::fdget(cx, fd) else { return R::fails(Errno::EBADF) };
    let result = match file.socket() {
        Some(socket) => socket.in_its_net(cx, |cx| f(cx, &file, socket)),
        None => R::fails(Errno::ENOTSOCK),
    };
    crate::fs::fdput(cx, fd, file);
    result
}

/// The same for a call that may sleep: it keeps the file until it ends.
#[inline]
fn sockfd_lookup_wait<T>(
    cx: &mut TaskCx,
    fd: i32,
    wait: &mut Wait,
    f: impl FnOnce(&mut TaskCx, &Socket, &mut Wait) -> Poll<Result<T, Errno>>,
) -> Poll<Result<T, Errno>> {
    walk!(cx, sockfd_lookup_light => fd as u64);
    fdget_wait(cx, fd, wait, |cx, file, wait| match file.socket() {
        Some(socket) => socket.in_its_net(cx, |cx| f(cx, socket, wait)),
        None => Poll::Ready(Err(Errno::ENOTSOCK)),
    })
}
