//! Pipes.
//!
//! linux: fs/pipe.c, include/linux/pipe_fs_i.h. Key types: [`Pipe`], [`PipeEnd`]. Contexts: task. Lock:
//! `class::Pipe`.
//! Invariants: no more buffers than the pipe has, each of a page at the most; who waits to read is woken
//! when something comes or the last writer goes, who waits to write when a buffer is free or the last reader
//! goes.
//! DIVERGES: a write to a pipe that nobody reads is EPIPE, but nobody is signalled (`SIGPIPE`). Packets
//! (`O_DIRECT`) and names (FIFOs) there are not.

use super::{File, FileKind, FileOperations, fd_install};
use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::sched::wait::{WaitCallback, WaitKey, WaitQueue};
use crate::net::socket::{Wait, put_user};
use std::collections::VecDeque;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Poll, Waker};
use uapi::errno::Errno;
use uapi::fcntl::{O_CLOEXEC, O_NONBLOCK};
use uapi::poll::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM};
use uapi::sockios::FIONREAD;

/// A buffer's size: a page.
pub(super) const PAGE_SIZE: usize = 4096;
/// Buffers of a new pipe.
///
/// linux: include/linux/pipe_fs_i.h:PIPE_DEF_BUFFERS
pub(super) const PIPE_DEF_BUFFERS: usize = 16;
/// The most that a pipe may be made to hold, in octets.
///
/// linux: fs/pipe.c:pipe_max_size
const PIPE_MAX_SIZE: usize = 1 << 20;

/// What wakes a reader, and what a writer.
const READ: u32 = (POLLIN | POLLRDNORM) as u32;
const WRITE: u32 = (POLLOUT | POLLWRNORM) as u32;

/// One end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeEnd {
    /// To read from.
    Read,
    /// To write to.
    Write,
}

/// A pipe.
///
/// linux: include/linux/pipe_fs_i.h:pipe_inode_info
pub struct Pipe {
    state: SpinLock<PipeState, class::Pipe>,
}

/// A page, or a part of one.
#[derive(Debug)]
struct PipeBuffer {
    data: Vec<u8>,
    /// What of it was read already.
    start: usize,
    /// What is written next may go behind it (`PIPE_BUF_FLAG_CAN_MERGE`).
    can_merge: bool,
}

struct PipeState {
    bufs: VecDeque<PipeBuffer>,
    max_usage: usize,
    readers: u32,
    writers: u32,
    /// Somebody has polled it.
    poll_usage: bool,
    rd_wait: WaitQueue,
    wr_wait: WaitQueue,
}

impl PipeState {
    fn wq(&mut self, end: PipeEnd) -> &mut WaitQueue {
        match end {
            PipeEnd::Read => &mut self.rd_wait,
            PipeEnd::Write => &mut self.wr_wait,
        }
    }

    fn full(&self) -> bool {
        self.bufs.len() >= self.max_usage
    }

    /// Something can be done at this end, be it to learn that the other one is closed.
    fn ready(&self, end: PipeEnd) -> bool {
        match end {
            PipeEnd::Read => !self.bufs.is_empty() || self.writers == 0,
            PipeEnd::Write => !self.full() || self.readers == 0,
        }
    }

    /// Takes octets out, as many as fit.
    fn take(&mut self, into: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(buf) = self.bufs.front_mut() {
            let len = (buf.data.len() - buf.start).min(into.len() - done);
            into[done..done + len].copy_from_slice(&buf.data[buf.start..buf.start + len]);
            (buf.start, done) = (buf.start + len, done + len);
            if buf.start == buf.data.len() {
                self.bufs.pop_front();
            }
            if done == into.len() {
                break;
            }
        }
        done
    }

    /// Puts octets in, as many as fit: what does not fill a page goes behind what is there, if it fits whole.
    fn put(&mut self, mut data: &[u8]) -> usize {
        let all = data.len();
        let odd = all % PAGE_SIZE;
        if let Some(last) = self.bufs.back_mut()
            && odd != 0
            && last.can_merge
            && last.data.len() + odd <= PAGE_SIZE
        {
            last.data.extend_from_slice(&data[..odd]);
            data = &data[odd..];
        }
        while !data.is_empty() && !self.full() {
            let (page, rest) = data.split_at(data.len().min(PAGE_SIZE));
            self.bufs.push_back(PipeBuffer { data: page.to_vec(), start: 0, can_merge: true });
            data = rest;
        }
        all - data.len()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipe")
    }
}

impl Pipe {
    /// A pipe with both ends open.
    ///
    /// linux: fs/pipe.c:alloc_pipe_info
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: SpinLock::new(PipeState {
                bufs: VecDeque::new(),
                max_usage: PIPE_DEF_BUFFERS,
                readers: 1,
                writers: 1,
                poll_usage: false,
                rd_wait: WaitQueue::default(),
                wr_wait: WaitQueue::default(),
            }),
        })
    }

    /// Changes the state, then wakes one who waits at each of these ends.
    fn change<R>(&self, cx: &mut TaskCx, f: impl FnOnce(&mut PipeState) -> (R, [bool; 2])) -> R {
        cx.local_bh_disable(|bh| {
            let mut state = self.state.lock();
            let (result, [readers, writers]) = f(&mut state);
            if readers {
                state.rd_wait.wake_up(READ, &mut bh.cpu.wakeups);
            }
            if writers {
                state.wr_wait.wake_up(WRITE, &mut bh.cpu.wakeups);
            }
            result
        })
    }

    /// Takes octets out, as many as fit; a writer that waits is woken when a buffer became free. `None`:
    /// nothing is there, but something may come.
    pub(super) fn take(&self, cx: &mut TaskCx, into: &mut [u8], wait: &Wait) -> Option<usize> {
        self.change(cx, |state| {
            let was_full = state.full();
            let taken = state.take(into);
            let nothing = taken == 0 && !into.is_empty() && state.writers != 0;
            // Readers are woken one at a time: who was woken wakes the next for what he leaves.
            let next = wait.slept() && taken != 0 && !state.bufs.is_empty();
            ((!nothing).then_some(taken), [next, was_full && !state.full()])
        })
    }

    /// Puts octets in, as many as fit; a reader that waits is woken when there was nothing before. `None`: there
    /// is no room now.
    ///
    /// # Errors
    /// EPIPE: nobody reads.
    pub(super) fn put(
        &self,
        cx: &mut TaskCx,
        data: &[u8],
        wait: &Wait,
    ) -> Result<Option<usize>, Errno> {
        self.change(cx, |state| {
            if state.readers == 0 {
                return (Err(Errno::EPIPE), [false; 2]);
            }
            let was_empty = state.bufs.is_empty();
            let put = state.put(data);
            // Who polls is told of every write: an edge is one, whether or not something was there.
            let wake = put != 0 && (was_empty || state.poll_usage);
            let next = wait.slept() && put != 0 && !state.full();
            (Ok((put != 0).then_some(put)), [wake, next])
        })
    }

    /// Puts octets in, whether or not there is room.
    pub(super) fn put_beyond(&self, cx: &mut TaskCx, data: &[u8]) {
        self.change(cx, |state| {
            for page in data.chunks(PAGE_SIZE) {
                let buf = PipeBuffer { data: page.to_vec(), start: 0, can_merge: false };
                state.bufs.push_back(buf);
            }
            ((), [!data.is_empty(), false])
        });
    }

    /// Puts back what was taken and not used: it is the next to be read.
    pub(super) fn put_back(&self, cx: &mut TaskCx, data: &[u8]) {
        self.change(cx, |state| {
            for page in data.rchunks(PAGE_SIZE) {
                let buf = PipeBuffer { data: page.to_vec(), start: 0, can_merge: false };
                state.bufs.push_front(buf);
            }
            ((), [!data.is_empty(), false])
        });
    }

    /// Octets that are there.
    pub(super) fn occupancy(&self) -> usize {
        self.state.lock().bufs.iter().map(|buf| buf.data.len() - buf.start).sum()
    }

    /// Octets that have room in free buffers. EPIPE: nobody reads.
    pub(super) fn space(&self) -> Result<usize, Errno> {
        let state = self.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        Ok(state.max_usage.saturating_sub(state.bufs.len()) * PAGE_SIZE)
    }

    /// Queues a task at an end, unless something can be done there.
    pub(crate) fn prepare_to_wait(
        &self,
        end: PipeEnd,
        key: &mut Option<WaitKey>,
        waker: &Waker,
    ) -> bool {
        let mut state = self.state.lock();
        if state.ready(end) {
            return false;
        }
        let events = if end == PipeEnd::Read { READ } else { WRITE };
        state.wq(end).prepare_to_wait(key, events, waker);
        true
    }

    /// Leaves the queue; a wake-up that came meanwhile is the next one's.
    pub(crate) fn finish_wait(&self, end: PipeEnd, key: WaitKey) {
        let mut wakeups = Vec::new();
        {
            let mut state = self.state.lock();
            if !state.wq(end).finish_wait(key) && state.ready(end) {
                state.wq(end).wake_up(u32::MAX, &mut wakeups);
            }
        }
        for waker in wakeups {
            waker.wake();
        }
    }

    pub(super) fn add_wait(&self, end: PipeEnd, events: u32, waker: &Waker) -> WaitKey {
        self.state.lock().wq(end).add_wait(events, waker)
    }

    pub(super) fn add_callback(
        &self,
        end: PipeEnd,
        callback: Arc<dyn WaitCallback>,
        exclusive: bool,
    ) -> WaitKey {
        self.state.lock().wq(end).add_callback(u32::MAX, callback, exclusive)
    }

    /// Reads or changes how many octets it has room for; how many it has then.
    ///
    /// linux: fs/pipe.c:pipe_fcntl
    pub(super) fn fcntl(&self, cx: &mut TaskCx, size: Option<i32>) -> Result<i32, Errno> {
        let Some(size) = size else { return Ok((self.state.lock().max_usage * PAGE_SIZE) as i32) };
        let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
        if size > PIPE_MAX_SIZE {
            return Err(Errno::EPERM);
        }
        let size = size.max(PAGE_SIZE).next_power_of_two();
        self.change(cx, |state| {
            if state.bufs.len() > size / PAGE_SIZE {
                return (Err(Errno::EBUSY), [false; 2]);
            }
            let was_full = state.full();
            state.max_usage = size / PAGE_SIZE;
            (Ok(size as i32), [false, was_full && !state.full()])
        })
    }
}

/// A pipe: the descriptors to read and to write.
///
/// # Errors
/// EINVAL for flags other than `O_NONBLOCK` and `O_CLOEXEC`; EMFILE.
///
/// linux: fs/pipe.c:sys_pipe2
pub fn sys_pipe2(cx: &mut TaskCx, flags: i32) -> Result<[i32; 2], Errno> {
    cx.enter_call();
    if flags & !(O_NONBLOCK | O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let (pipe, cloexec) = (Pipe::new(), flags & O_CLOEXEC != 0);
    let file =
        |end| File::new(FileKind::Pipe(Arc::clone(&pipe), end), &PIPEFIFO_FOPS, flags & O_NONBLOCK);
    let read = fd_install(cx, file(PipeEnd::Read), cloexec)?;
    match fd_install(cx, file(PipeEnd::Write), cloexec) {
        Ok(write) => Ok([read, write]),
        Err(error) => {
            // It was opened a moment ago.
            let _closed = super::sys_close(cx, read);
            Err(error)
        }
    }
}

/// [`sys_pipe2`] without flags.
///
/// # Errors
/// EMFILE.
///
/// linux: fs/pipe.c:sys_pipe
pub fn sys_pipe(cx: &mut TaskCx) -> Result<[i32; 2], Errno> {
    sys_pipe2(cx, 0)
}

/// linux: fs/pipe.c:pipefifo_fops
static PIPEFIFO_FOPS: FileOperations = FileOperations {
    read: pipe_read,
    write: pipe_write,
    mmap: |_| Err(Errno::ENODEV),
    poll: pipe_poll,
    ioctl: pipe_ioctl,
    release: pipe_release,
};

/// The pipe of this end of it.
///
/// # Errors
/// EBADF: the other end, or no pipe.
fn pipe_of(file: &File, end: PipeEnd) -> Result<&Arc<Pipe>, Errno> {
    match &file.kind {
        FileKind::Pipe(pipe, of) if *of == end => Ok(pipe),
        _ => Err(Errno::EBADF),
    }
}

/// linux: fs/pipe.c:pipe_read
fn pipe_read(
    cx: &mut TaskCx,
    file: &Arc<File>,
    iov: &mut [IoSliceMut<'_>],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    let pipe = pipe_of(file, PipeEnd::Read)?;
    if iov.iter().all(|part| part.is_empty()) {
        return Poll::Ready(Ok(0));
    }
    let mut done = 0;
    for part in iov.iter_mut().filter(|part| !part.is_empty()) {
        match pipe.take(cx, part, wait) {
            Some(taken) => {
                done += taken;
                if taken < part.len() {
                    return Poll::Ready(Ok(done));
                }
            }
            None if done != 0 => break,
            None => return wait.for_pipe(cx, pipe, PipeEnd::Read, 0),
        }
    }
    Poll::Ready(Ok(done))
}

/// linux: fs/pipe.c:pipe_write
fn pipe_write(
    cx: &mut TaskCx,
    file: &Arc<File>,
    iov: &[IoSlice<'_>],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    let pipe = pipe_of(file, PipeEnd::Write)?;
    let joined: Vec<u8>;
    let all: &[u8] = match iov {
        [only] => only,
        parts => {
            joined = parts.iter().flat_map(|part| part.iter().copied()).collect();
            &joined
        }
    };
    // What a call that slept wrote before counts, whatever becomes of the rest.
    let ended = |wait: &mut Wait, error| match std::mem::take(&mut wait.progress) {
        0 => Poll::Ready(Err(error)),
        written => Poll::Ready(Ok(written)),
    };
    while wait.progress < all.len() {
        match pipe.put(cx, &all[wait.progress..], wait) {
            Ok(Some(put)) => wait.progress += put,
            Ok(None) => match wait.for_pipe::<usize>(cx, pipe, PipeEnd::Write, 0) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => (),
                Poll::Ready(Err(error)) => return ended(wait, error),
            },
            Err(error) => return ended(wait, error),
        }
    }
    Poll::Ready(Ok(std::mem::take(&mut wait.progress)))
}

/// linux: fs/pipe.c:pipe_poll
fn pipe_poll(_: &mut TaskCx, file: &File) -> u32 {
    let FileKind::Pipe(pipe, end) = &file.kind else { return 0 };
    let mut state = pipe.state.lock();
    state.poll_usage = true;
    let mut mask = 0;
    match end {
        PipeEnd::Read => {
            if !state.bufs.is_empty() {
                mask |= READ;
            }
            if state.writers == 0 {
                mask |= POLLHUP as u32;
            }
        }
        PipeEnd::Write => {
            if !state.full() {
                mask |= WRITE;
            }
            if state.readers == 0 {
                mask |= POLLERR as u32;
            }
        }
    }
    mask
}

/// linux: fs/pipe.c:pipe_ioctl
fn pipe_ioctl(_: &mut TaskCx, file: &File, request: u32, arg: &mut [u8]) -> Result<i32, Errno> {
    match &file.kind {
        FileKind::Pipe(pipe, _) if request == FIONREAD => {
            put_user(arg, &(pipe.occupancy() as i32).to_ne_bytes())
        }
        _ => Err(Errno::ENOTTY),
    }
}

/// linux: fs/pipe.c:pipe_release
fn pipe_release(cx: &mut TaskCx, file: &File) {
    let FileKind::Pipe(pipe, end) = &file.kind else { return };
    cx.local_bh_disable(|bh| {
        let mut state = pipe.state.lock();
        let open = match end {
            PipeEnd::Read => &mut state.readers,
            PipeEnd::Write => &mut state.writers,
        };
        *open = open.saturating_sub(1);
        if *open == 0 {
            let events = READ | WRITE | (POLLERR | POLLHUP) as u32;
            state.rd_wait.wake_up_all(events, &mut bh.cpu.wakeups);
            state.wr_wait.wake_up_all(events, &mut bh.cpu.wakeups);
        }
        if state.readers == 0 && state.writers == 0 {
            state.bufs.clear();
        }
    });
}
