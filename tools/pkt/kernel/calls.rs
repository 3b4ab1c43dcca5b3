//! The system calls, as the C library makes them, on a thread of their own: a script goes on while
//! one sleeps.

use super::now_us;
use crate::backend::{Call, Done, Message, Room};
use crate::parse::script::Us;
use libc::{c_int, c_void, iovec, msghdr, sockaddr, socklen_t};
use std::io::Error;
use std::mem::zeroed;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread that makes the calls.
pub(super) struct Caller {
    calls: Option<Sender<Call>>,
    done: Receiver<(Done, Us)>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// A call that ended while it was being started.
    ended: Option<(Done, Us)>,
}

#[derive(Default)]
struct Shared {
    tid: AtomicI32,
    /// It is in a call, or about to be.
    calling: AtomicBool,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.shared.tid.load(Ordering::Relaxed))
    }
}

/// Sends from the caller's own memory.
const MSG_ZEROCOPY: i32 = 0x400_0000;

/// The signal that ends a sleeping call; its handler does nothing.
fn wake_signal() -> c_int {
    libc::SIGRTMIN() + 3
}

/// No signal ends a call of the calling thread but that one: the end of a program that something else
/// here has started would, where the call has a time limit.
fn undisturbed() {
    // SAFETY: the set is written, then read, during the calls; only this thread's mask changes.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigdelset(&raw mut set, wake_signal());
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, null_mut());
    }
}

extern "C" fn nothing(_signal: c_int) {}

impl Caller {
    /// Starts the thread, in the calling thread's namespace.
    pub(super) fn start() -> Result<Self, String> {
        // SAFETY: all zeroes is a valid action: no flags, so a call is not begun again.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(c_int) as *const () as usize;
        // SAFETY: the action is read during the call, its handler touches nothing.
        if unsafe { libc::sigaction(wake_signal(), &raw const action, null_mut()) } < 0 {
            return Err(format!("sigaction: {}", Error::last_os_error()));
        }
        let (calls, requests) = channel::<Call>();
        let (results, done) = channel();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let code = move || {
            undisturbed();
            // SAFETY: no pointers.
            theirs.tid.store(unsafe { libc::gettid() }, Ordering::SeqCst);
            // What is sent without a copy is read until its packets have gone.
            let mut kept = Vec::new();
            for call in requests {
                theirs.calling.store(true, Ordering::SeqCst);
                let result = match call {
                    Call::Send(fd, message, flags) => {
                        let result = send(fd, &message, flags);
                        if flags & MSG_ZEROCOPY != 0 {
                            kept.push(message);
                        }
                        result
                    }
                    other => make(other),
                };
                let at = now_us();
                theirs.calling.store(false, Ordering::SeqCst);
                if results.send((result, at)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(code);
        let thread = thread.map_err(|error| format!("a thread for the calls: {error}"))?;
        Ok(Self { calls: Some(calls), done, shared, thread: Some(thread), ended: None })
    }

    /// Hands a call to the thread; it has ended or sleeps when this returns.
    pub(super) fn begin(&mut self, call: Call) -> Result<(), String> {
        let gone = || "the thread that makes the calls is gone".to_owned();
        self.shared.calling.store(true, Ordering::SeqCst);
        self.calls.as_ref().ok_or_else(gone)?.send(call).map_err(|_| gone())?;
        // A thread that got the call a moment ago still shows as sleeping: it must do so for a while.
        let mut asleep = 0;
        while asleep < 3 {
            match self.done.recv_timeout(Duration::from_micros(100)) {
                Ok(ended) => {
                    self.ended = Some(ended);
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) => {
                    asleep = if self.sleeps() { asleep + 1 } else { 0 }
                }
            }
        }
        Ok(())
    }

    fn sleeps(&self) -> bool {
        let tid = self.shared.tid.load(Ordering::SeqCst);
        let stat =
            std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
        // The state stands behind the name, which may have parentheses in it.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']))
    }

    /// The call's end; waits for it until `until`.
    pub(super) fn finish(&mut self, until: Us) -> Result<Option<(Done, Us)>, String> {
        if let Some(ended) = self.ended.take() {
            return Ok(Some(ended));
        }
        let left = Duration::from_micros((until - now_us()).max(0) as u64);
        match self.done.recv_timeout(left) {
            Ok(ended) => Ok(Some(ended)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err("the thread that makes the calls is gone".to_owned())
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.calls.take());
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            let tid = self.shared.tid.load(Ordering::SeqCst);
            if self.shared.calling.load(Ordering::SeqCst) && tid != 0 {
                // SAFETY: no pointers; the thread is this process's and has not been joined.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, wake_signal()) };
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        // A panic there was reported already.
        let _ = thread.join();
    }
}

fn done(ret: impl Into<i64>) -> Done {
    let ret = ret.into();
    if ret < 0 {
        return Done::failed(Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Done::ok(ret)
}

fn iovecs(parts: &[Vec<u8>]) -> Vec<iovec> {
    let of = |part: &Vec<u8>| iovec { iov_base: part.as_ptr() as *mut c_void, iov_len: part.len() };
    parts.iter().map(of).collect()
}

/// The same, to be written to.
fn iovecs_mut(parts: &mut [Vec<u8>]) -> Vec<iovec> {
    let of = |part: &mut Vec<u8>| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
    parts.iter_mut().map(of).collect()
}

/// Makes one call.
fn make(call: Call) -> Done {
    // SAFETY: of all of these: no pointers but to values that outlive the call, read for the lengths
    // given beside them.
    unsafe {
        match call {
            Call::Socket(family, kind, protocol) => done(libc::socket(family, kind, protocol)),
            Call::Bind(fd, name) => {
                done(libc::bind(fd, name.as_ptr().cast(), name.len() as socklen_t))
            }
            Call::Connect(fd, name) => {
                done(libc::connect(fd, name.as_ptr().cast(), name.len() as socklen_t))
            }
            Call::Listen(fd, backlog) => done(libc::listen(fd, backlog)),
            Call::Accept(fd, flags) => {
                named(|name, len| i64::from(libc::accept4(fd, name, len, flags)))
            }
            Call::SockName(fd) => named(|name, len| i64::from(libc::getsockname(fd, name, len))),
            Call::PeerName(fd) => named(|name, len| i64::from(libc::getpeername(fd, name, len))),
            Call::Recv(fd, room, flags) => recv(fd, &room, flags),
            Call::Read(fd, lens) => read(fd, &lens),
            Call::Write(fd, parts) => {
                let iov = iovecs(&parts);
                done(libc::writev(fd, iov.as_ptr(), iov.len() as c_int) as i64)
            }
            Call::SetOpt(fd, level, name, value) => {
                let len = value.len() as socklen_t;
                done(libc::setsockopt(fd, level, name, value.as_ptr().cast(), len))
            }
            Call::GetOpt(fd, level, name, room) => getsockopt(fd, (level, name), room),
            Call::Shutdown(fd, how) => done(libc::shutdown(fd, how)),
            Call::Fcntl(fd, cmd, arg) => done(libc::fcntl(fd, cmd, arg)),
            Call::Dup(fd) => done(libc::dup(fd)),
            Call::Close(fd) => done(libc::close(fd)),
            Call::EpollCreate(flags) => done(libc::epoll_create1(flags)),
            Call::Splice(from, to, len, flags) => {
                done(libc::splice(from, null_mut(), to, null_mut(), len, flags) as i64)
            }
            Call::SendFile(to, from, len) => done(libc::sendfile(to, from, null_mut(), len) as i64),
            other => make_other(other),
        }
    }
}

/// Calls with more memory around them.
fn make_other(call: Call) -> Done {
    match call {
        Call::Ioctl(fd, request, memory) => {
            let mut place = memory;
            place.resize(place.len().max(256), 0);
            // SAFETY: more room than any request that scripts can name writes.
            let mut result = done(unsafe { libc::ioctl(fd, request.into(), place.as_mut_ptr()) });
            result.data = place;
            result
        }
        Call::Poll(fds, timeout) => {
            let of =
                |(fd, events): &(i32, i16)| libc::pollfd { fd: *fd, events: *events, revents: 0 };
            let mut all: Vec<libc::pollfd> = fds.iter().map(of).collect();
            // SAFETY: as many as told, alive during the call.
            let mut result =
                done(unsafe { libc::poll(all.as_mut_ptr(), all.len() as u64, timeout) });
            result.ready = all.iter().map(|fd| (fd.revents as u16 as u32, 0)).collect();
            result
        }
        Call::EpollCtl(ep, op, fd, (events, data)) => {
            let mut event = libc::epoll_event { events, u64: data };
            // SAFETY: the event is alive during the call.
            done(unsafe { libc::epoll_ctl(ep, op, fd, &raw mut event) })
        }
        Call::EpollWait(ep, max, timeout) => {
            let room = max.clamp(1, 1024);
            let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; room as usize];
            let max = max.min(room);
            // SAFETY: room for `max` events, alive during the call.
            let mut result =
                done(unsafe { libc::epoll_wait(ep, events.as_mut_ptr(), max, timeout) });
            let there = events.iter().take(result.ret.max(0) as usize);
            result.ready = there.map(|event| (event.events, event.u64)).collect();
            result
        }
        Call::Pipe(flags) => {
            let mut fds = [0; 2];
            // SAFETY: room for two descriptors.
            let mut result = done(unsafe { libc::pipe2(fds.as_mut_ptr(), flags) });
            result.ready = fds.iter().map(|fd| (*fd as u32, 0)).collect();
            result
        }
        // The others are made above.
        _ => Done::failed(libc::ENOSYS),
    }
}

/// A call that may write an address.
fn named(call: impl FnOnce(*mut sockaddr, *mut socklen_t) -> i64) -> Done {
    let mut name = vec![0_u8; 128];
    let mut len = name.len() as socklen_t;
    let mut result = done(call(name.as_mut_ptr().cast(), &raw mut len));
    if result.ret >= 0 {
        name.truncate(len as usize);
        result.name = name;
    }
    result
}

fn send(fd: i32, message: &Message, flags: i32) -> Done {
    let mut iov = iovecs(&message.parts);
    // SAFETY: all zeroes is a valid header of nothing.
    let mut header: msghdr = unsafe { zeroed() };
    if let Some(name) = &message.name {
        header.msg_name = name.as_ptr() as *mut c_void;
        header.msg_namelen = name.len() as socklen_t;
    }
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len();
    if !message.control.is_empty() {
        header.msg_control = message.control.as_ptr() as *mut c_void;
        header.msg_controllen = message.control.len();
    }
    // SAFETY: the header's pointers lead into `message` and `iov`, which outlive the call.
    done(unsafe { libc::sendmsg(fd, &raw const header, flags) } as i64)
}

fn recv(fd: i32, room: &Room, flags: i32) -> Done {
    let mut parts: Vec<Vec<u8>> = room.parts.iter().map(|len| vec![0; *len]).collect();
    let mut iov = iovecs_mut(&mut parts);
    let mut name = vec![0_u8; 128];
    let mut control = vec![0_u8; room.control];
    // SAFETY: all zeroes is a valid header of nothing.
    let mut header: msghdr = unsafe { zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = name.len() as socklen_t;
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len();
    header.msg_control =
        if control.is_empty() { without_provenance_mut(0) } else { control.as_mut_ptr().cast() };
    header.msg_controllen = control.len();
    // SAFETY: the header's pointers lead into the buffers above, which outlive the call.
    let mut result = done(unsafe { libc::recvmsg(fd, &raw mut header, flags) } as i64);
    if result.ret >= 0 {
        result.data = parts.concat();
        name.truncate(header.msg_namelen as usize);
        control.truncate(header.msg_controllen);
        (result.name, result.control, result.flags) = (name, control, header.msg_flags);
    }
    result
}

fn read(fd: i32, lens: &[usize]) -> Done {
    let mut parts: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
    let iov = iovecs_mut(&mut parts);
    // SAFETY: the parts are as long as told and outlive the call.
    let mut result = done(unsafe { libc::readv(fd, iov.as_ptr(), iov.len() as c_int) } as i64);
    result.data = parts.concat();
    result
}

/// Reads an option, on whatever thread: descriptors are the process's.
pub(super) fn getsockopt(fd: i32, (level, name): (i32, i32), room: i32) -> Done {
    let mut value = vec![0_u8; room.max(0) as usize];
    let mut len = room as socklen_t;
    // SAFETY: room for `len` bytes; a negative length is refused before anything is written.
    let mut result =
        done(unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) });
    if result.ret >= 0 {
        value.truncate(len as usize);
        result.data = value;
    }
    result
}
