//! From file to file without a copy in the program: `splice`, `sendfile`.
//!
//! linux: fs/splice.c, fs/read_write.c (`do_sendfile`). Contexts: task. No lock is held while a call sleeps.
//! Invariant: what was taken out of a pipe and not sent is put back at its front.
//! DIVERGES: octets are copied, not pages moved; while a call sleeps with a part of a pipe in hand, another reader
//! of that pipe gets what comes behind it.

use super::memfd::MemFile;
use super::pipe::{PAGE_SIZE, PIPE_DEF_BUFFERS, Pipe, PipeEnd};
use super::{File, FileKind, HeldFile};
use crate::kernel::context::TaskCx;
use crate::kernel::sched::Operation;
use crate::net::socket::{SockCall, Socket, Wait, sock_read_some, sock_write_some};
use std::sync::Arc;
use std::task::{Poll, ready};
use uapi::errno::Errno;
use uapi::fcntl::{
    O_APPEND, O_NONBLOCK, SPLICE_F_GIFT, SPLICE_F_MORE, SPLICE_F_MOVE, SPLICE_F_NONBLOCK,
};
use uapi::socket::MSG_MORE;

/// Octets in hand at a time: a pipe's worth.
const CHUNK: usize = PIPE_DEF_BUFFERS * PAGE_SIZE;
/// The most that a call moves.
///
/// linux: include/linux/fs.h:MAX_RW_COUNT
const MAX_RW_COUNT: usize = i32::MAX as usize & !(PAGE_SIZE - 1);

/// The files of a call that may sleep; what it has moved, and what it has in hand.
#[derive(Default)]
struct Transfer {
    files: Option<(HeldFile, HeldFile)>,
    moved: usize,
    hand: Vec<u8>,
}

impl Transfer {
    /// Both files, kept until the call ends, whatever their descriptors are meanwhile.
    fn files(&mut self, cx: &TaskCx, fd_in: i32, fd_out: i32) -> Result<[Arc<File>; 2], Errno> {
        if self.files.is_none() {
            let hold = |fd| {
                let file = cx.task().files().get(fd).ok_or(Errno::EBADF)?;
                HeldFile::new(cx, &file).ok_or(Errno::EBADF)
            };
            self.files = Some((hold(fd_in)?, hold(fd_out)?));
        }
        let (input, output) = self.files.as_ref().ok_or(Errno::EBADF)?;
        Ok([Arc::clone(&input.file), Arc::clone(&output.file)])
    }

    /// How the call ends when it can't go on: with what it has moved, if that is anything.
    fn end(&self, error: Errno) -> Poll<Result<usize, Errno>> {
        Poll::Ready(if self.moved == 0 { Err(error) } else { Ok(self.moved) })
    }
}

/// Moves octets between a pipe and another file. `off_in` and `off_out` are places in files that have them: those
/// are read and written instead of where the file stands, and moved.
///
/// # Errors
/// EBADF; EINVAL for flags there are not, two files neither of which is a pipe, one pipe twice, or a place in a file
/// that has none; ESPIPE for a place in a pipe; EAGAIN, EPIPE, EINTR; those of the socket.
///
/// linux: fs/splice.c:sys_splice
pub fn sys_splice<'a>(
    (fd_in, mut off_in): (i32, Option<&'a mut i64>),
    (fd_out, mut off_out): (i32, Option<&'a mut i64>),
    len: usize,
    flags: u32,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    let mut transfer = Transfer::default();
    SockCall::new(move |cx, wait| {
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        if flags & !(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT) != 0 {
            return Poll::Ready(Err(Errno::EINVAL));
        }
        let [input, output] = transfer.files(cx, fd_in, fd_out)?;
        let step = Step { len: len.min(MAX_RW_COUNT), flags };
        let places = (off_in.as_deref_mut(), off_out.as_deref_mut());
        do_splice(cx, [&input, &output], places, step, (&mut transfer, wait))
    })
}

/// What a call is to move, and how.
#[derive(Clone, Copy)]
struct Step {
    len: usize,
    flags: u32,
}

impl Step {
    /// What a wait at a pipe goes by.
    fn pipe_flags(self, more: bool) -> i32 {
        let nonblock = more || self.flags & SPLICE_F_NONBLOCK != 0;
        if nonblock { uapi::socket::MSG_DONTWAIT } else { 0 }
    }
}

type Places<'p> = (Option<&'p mut i64>, Option<&'p mut i64>);

/// linux: fs/splice.c:do_splice
fn do_splice(
    cx: &mut TaskCx,
    [input, output]: [&Arc<File>; 2],
    (off_in, off_out): Places<'_>,
    step: Step,
    (transfer, wait): (&mut Transfer, &mut Wait),
) -> Poll<Result<usize, Errno>> {
    let nonblock = (input.f_flags() | output.f_flags()) & O_NONBLOCK != 0;
    match (&input.kind, &output.kind) {
        (FileKind::Pipe(_, PipeEnd::Write), _) | (_, FileKind::Pipe(_, PipeEnd::Read)) => {
            Poll::Ready(Err(Errno::EBADF))
        }
        (FileKind::Pipe(..), _) if off_in.is_some() => Poll::Ready(Err(Errno::ESPIPE)),
        (_, FileKind::Pipe(..)) if off_out.is_some() => Poll::Ready(Err(Errno::ESPIPE)),
        (FileKind::Pipe(from, _), FileKind::Pipe(to, _)) => {
            if Arc::ptr_eq(from, to) {
                return Poll::Ready(Err(Errno::EINVAL));
            }
            splice_pipe_to_pipe(cx, [from, to], step, nonblock, wait)
        }
        (FileKind::Pipe(from, _), FileKind::Socket(socket)) => {
            if off_out.is_some() {
                return Poll::Ready(Err(Errno::EINVAL));
            }
            wait.f_flags = output.f_flags();
            splice_to_socket(cx, from, socket, step, (transfer, wait))
        }
        (FileKind::Socket(socket), FileKind::Pipe(to, _)) => {
            if off_in.is_some() {
                return Poll::Ready(Err(Errno::EINVAL));
            }
            let nonblock = output.f_flags() & O_NONBLOCK != 0;
            wait.f_flags = input.f_flags();
            splice_from_socket(cx, (socket, to), step, nonblock, (transfer, wait))
        }
        (FileKind::Mem(from), FileKind::Pipe(to, _)) => {
            ready!(wait_for_space(cx, to, step.pipe_flags(nonblock), wait))?;
            Poll::Ready(at_place(from, off_in, |pos| {
                mem_to_pipe(cx, (from, pos), to, step.len, wait)
            }))
        }
        (FileKind::Pipe(from, _), FileKind::Mem(to)) => {
            if output.f_flags() & O_APPEND != 0 {
                return Poll::Ready(Err(Errno::EINVAL));
            }
            let mut data = vec![0; step.len.min(CHUNK)];
            let Some(taken) = from.take(cx, &mut data, wait) else {
                return wait.for_pipe(cx, from, PipeEnd::Read, step.pipe_flags(false));
            };
            Poll::Ready(at_place(to, off_out, |pos| {
                let written = to.write_at(&data[..taken], pos);
                from.put_back(cx, &data[written.unwrap_or(0)..taken]);
                written
            }))
        }
        _ => Poll::Ready(Err(Errno::EINVAL)),
    }
}

/// Does something at a place: the one that is named, or where the file stands; then that lies behind what was done.
fn at_place(
    mem: &MemFile,
    off: Option<&mut i64>,
    f: impl FnOnce(u64) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let Some(off) = off else {
        let pos = mem.pos();
        let done = f(pos)?;
        mem.set_pos(pos + done as u64);
        return Ok(done);
    };
    let pos = u64::try_from(*off).map_err(|_| Errno::EINVAL)?;
    let done = f(pos)?;
    *off += done as i64;
    Ok(done)
}

fn mem_to_pipe(
    cx: &mut TaskCx,
    (from, pos): (&MemFile, u64),
    to: &Pipe,
    len: usize,
    wait: &Wait,
) -> Result<usize, Errno> {
    let mut data = vec![0; len.min(to.space()?)];
    let read = from.read_at(&mut data, pos);
    Ok(to.put(cx, &data[..read], wait)?.unwrap_or(0))
}

/// Waits until a pipe has a free buffer.
///
/// linux: fs/splice.c:wait_for_space
fn wait_for_space(
    cx: &mut TaskCx,
    pipe: &Arc<Pipe>,
    flags: i32,
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    match pipe.space() {
        Ok(0) => wait.for_pipe(cx, pipe, PipeEnd::Write, flags),
        space => Poll::Ready(space),
    }
}

/// linux: fs/splice.c:splice_pipe_to_pipe
fn splice_pipe_to_pipe(
    cx: &mut TaskCx,
    [from, to]: [&Arc<Pipe>; 2],
    step: Step,
    nonblock: bool,
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    let flags = step.pipe_flags(nonblock);
    let space = ready!(wait_for_space(cx, to, flags, wait))?;
    let mut data = vec![0; step.len.min(space)];
    let Some(taken) = from.take(cx, &mut data, wait) else {
        return wait.for_pipe(cx, from, PipeEnd::Read, flags);
    };
    let put = if taken == 0 { Ok(Some(0)) } else { to.put(cx, &data[..taken], wait) };
    // Another writer may have been faster.
    let done = put.map_or(0, |put| put.unwrap_or(0));
    from.put_back(cx, &data[done..taken]);
    Poll::Ready(put.map(|_| done))
}

/// Sends what is in a pipe, chunk by chunk: with `MSG_MORE` while the pipe has more.
///
/// linux: fs/splice.c:splice_to_socket
fn splice_to_socket(
    cx: &mut TaskCx,
    pipe: &Arc<Pipe>,
    socket: &Socket,
    step: Step,
    (transfer, wait): (&mut Transfer, &mut Wait),
) -> Poll<Result<usize, Errno>> {
    while transfer.moved < step.len {
        if transfer.hand.is_empty() {
            let mut data = vec![0; (step.len - transfer.moved).min(CHUNK)];
            match pipe.take(cx, &mut data, wait) {
                Some(0) => break,
                Some(taken) => data.truncate(taken),
                None if transfer.moved != 0 => break,
                None => return wait.for_pipe(cx, pipe, PipeEnd::Read, step.pipe_flags(false)),
            }
            transfer.hand = data;
        }
        let rest = step.len - transfer.moved - transfer.hand.len();
        let more = step.flags & SPLICE_F_MORE != 0 || rest != 0 && pipe.occupancy() != 0;
        let flags = if more { MSG_MORE } else { 0 };
        let sent = ready!(sock_write_some(cx, socket, &transfer.hand, flags, wait));
        let hand = std::mem::take(&mut transfer.hand);
        pipe.put_back(cx, &hand[sent.unwrap_or(0)..]);
        match sent {
            Ok(0) => break,
            Ok(sent) => transfer.moved += sent,
            Err(error) => return transfer.end(error),
        }
    }
    Poll::Ready(Ok(transfer.moved))
}

/// Receives into a pipe, as much as has room there.
///
/// linux: net/ipv4/tcp.c:tcp_splice_read, fs/splice.c:do_splice_read
fn splice_from_socket(
    cx: &mut TaskCx,
    (socket, pipe): (&Socket, &Arc<Pipe>),
    step: Step,
    nonblock: bool,
    (transfer, wait): (&mut Transfer, &mut Wait),
) -> Poll<Result<usize, Errno>> {
    if transfer.hand.is_empty() {
        let space = ready!(wait_for_space(cx, pipe, step.pipe_flags(nonblock), wait))?;
        transfer.hand = vec![0; step.len.min(space)];
    }
    let came = ready!(sock_read_some(cx, socket, &mut transfer.hand, wait))?;
    let data = std::mem::take(&mut transfer.hand);
    let mut put = 0;
    while put < came {
        // Another writer may have been faster: what has come must not be lost, so it goes beyond the bound.
        match pipe.put(cx, &data[put..came], wait)? {
            Some(len) => put += len,
            None => pipe.put_beyond(cx, &data[std::mem::replace(&mut put, came)..came]),
        }
    }
    Poll::Ready(Ok(came))
}

/// Sends from a file, from where it stands or from a place, which is moved; then the file is not.
///
/// # Errors
/// EBADF; EINVAL for a file that has no places, or one to write to that appends; ESPIPE for a place in such a file;
/// EAGAIN, EPIPE, EINTR; those of the socket.
///
/// linux: fs/read_write.c:sys_sendfile64
pub fn sys_sendfile<'a>(
    fd_out: i32,
    fd_in: i32,
    mut offset: Option<&'a mut i64>,
    count: usize,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    let mut transfer = Transfer::default();
    let mut start = None;
    SockCall::new(move |cx, wait| {
        let [input, output] = transfer.files(cx, fd_in, fd_out)?;
        let FileKind::Mem(from) = &input.kind else {
            let place = offset.is_some();
            return Poll::Ready(Err(if place { Errno::ESPIPE } else { Errno::EINVAL }));
        };
        let begin = match (start, offset.as_deref()) {
            (Some(begin), _) => begin,
            (None, Some(off)) => u64::try_from(*off).map_err(|_| Errno::EINVAL)?,
            (None, None) => from.pos(),
        };
        start = Some(begin);
        let count = count.min(MAX_RW_COUNT);
        let ended = ready!(do_sendfile(cx, (from, begin), &output, count, (&mut transfer, wait)));
        let pos = begin + transfer.moved as u64;
        match offset.as_deref_mut() {
            Some(off) => *off = pos as i64,
            None => from.set_pos(pos),
        }
        Poll::Ready(ended)
    })
}

/// linux: fs/read_write.c:do_sendfile, fs/splice.c:splice_direct_to_actor
fn do_sendfile(
    cx: &mut TaskCx,
    (from, begin): (&MemFile, u64),
    output: &File,
    count: usize,
    (transfer, wait): (&mut Transfer, &mut Wait),
) -> Poll<Result<usize, Errno>> {
    wait.f_flags = output.f_flags();
    if output.f_flags() & O_APPEND != 0 {
        return Poll::Ready(Err(Errno::EINVAL));
    }
    while transfer.moved < count {
        let pos = begin + transfer.moved as u64;
        if transfer.hand.is_empty() {
            let mut data = vec![0; (count - transfer.moved).min(CHUNK)];
            let read = from.read_at(&mut data, pos);
            data.truncate(read);
            transfer.hand = data;
        }
        if transfer.hand.is_empty() {
            break;
        }
        let sent = match &output.kind {
            FileKind::Socket(socket) => {
                let len = transfer.hand.len();
                // At the end of the file the last segment goes at once (`tcp_splice_eof`).
                let on = from.read_at(&mut [0], pos + len as u64) != 0;
                let more = transfer.moved + len < count && on;
                let flags = if more { MSG_MORE } else { 0 };
                ready!(sock_write_some(cx, socket, &transfer.hand, flags, wait))
            }
            FileKind::Pipe(to, PipeEnd::Write) => match to.put(cx, &transfer.hand, wait) {
                Ok(Some(put)) => Ok(put),
                Ok(None) if transfer.moved != 0 => break,
                Ok(None) => return wait.for_pipe(cx, to, PipeEnd::Write, 0),
                Err(error) => Err(error),
            },
            FileKind::Mem(to) => at_place(to, None, |pos| to.write_at(&transfer.hand, pos)),
            FileKind::Pipe(_, PipeEnd::Read) => Err(Errno::EBADF),
            FileKind::Epoll(_) => Err(Errno::EINVAL),
        };
        transfer.hand.clear();
        match sent {
            Ok(0) => break,
            Ok(sent) => transfer.moved += sent,
            Err(error) => return transfer.end(error),
        }
    }
    Poll::Ready(Ok(transfer.moved))
}
