//! Calls on descriptors: close, dup, flags, requests. Context: task.
//!
//! linux: fs/fcntl.c, fs/open.c, fs/ioctl.c.
//! DIVERGES: nobody is signalled (`SIGIO`), so `F_SETFL` leaves `O_ASYNC` out, `FIOASYNC` is ENOTTY
//! and `F_SETOWN` EINVAL, as for a file of Linux that can't do it.

use super::pipe::PipeEnd;
use super::{File, FileKind, fput};
use crate::kernel::context::TaskCx;
use crate::kernel::sched::Operation;
use crate::net::core::stream::sk_stream_wait_close;
use crate::net::socket::SockCall;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::fcntl::{
    F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_GETPIPE_SZ, F_SETFD, F_SETFL, F_SETPIPE_SZ,
    FD_CLOEXEC, O_APPEND, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY,
};
use uapi::sockios::{FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX};

/// Closes a descriptor; the last one of a file releases it.
///
/// # Errors
/// EBADF.
///
/// linux: fs/open.c:sys_close
pub fn sys_close(cx: &mut TaskCx, fd: i32) -> Result<(), Errno> {
    cx.enter_call();
    let file = cx.task().files().take(fd).ok_or(Errno::EBADF)?;
    fput(cx, &file);
    Ok(())
}

/// Closes a descriptor as [`sys_close`] does, and waits as `SO_LINGER` says: a stream's last descriptor, until the
/// peer has acknowledged the FIN or the time is up. What is left then goes on without the caller.
///
/// # Errors
/// EBADF.
///
/// linux: net/core/stream.c:sk_stream_wait_close
pub fn sys_close_linger(fd: i32) -> impl Operation<Output = Result<(), Errno>> {
    let mut lingers = None;
    SockCall::new(move |cx, wait| {
        if lingers.is_none() {
            let file = lookup(cx, fd)?;
            sys_close(cx, fd)?;
            match file.socket() {
                Some(socket) => lingers = Some(Arc::clone(&socket.sk)),
                None => return Poll::Ready(Ok(())),
            }
        }
        match &lingers {
            Some(sk) => sk_stream_wait_close(cx, sk, wait).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    })
}

fn lookup(cx: &mut TaskCx, fd: i32) -> Result<Arc<File>, Errno> {
    cx.enter_call();
    cx.task().files().get(fd).ok_or(Errno::EBADF)
}

/// Another descriptor for the same file, the lowest free one.
///
/// # Errors
/// EBADF, EMFILE.
///
/// linux: fs/fcntl.c:sys_dup
pub fn sys_dup(cx: &mut TaskCx, fd: i32) -> Result<i32, Errno> {
    let file = lookup(cx, fd)?;
    cx.task().files().alloc(file, 0, false)
}

/// Makes `new` a descriptor of the same file; what `new` was is closed first.
///
/// # Errors
/// EBADF.
///
/// linux: fs/file.c:sys_dup2
pub fn sys_dup2(cx: &mut TaskCx, fd: i32, new: i32) -> Result<i32, Errno> {
    if fd == new {
        return lookup(cx, fd).map(|_| new);
    }
    sys_dup3(cx, fd, new, 0)
}

/// As [`sys_dup2`], onto another descriptor only; `flags`: zero or `O_CLOEXEC`.
///
/// # Errors
/// EBADF; EINVAL for other flags or the same descriptor.
///
/// linux: fs/file.c:sys_dup3
pub fn sys_dup3(cx: &mut TaskCx, fd: i32, new: i32, flags: i32) -> Result<i32, Errno> {
    cx.enter_call();
    if flags & !O_CLOEXEC != 0 || fd == new {
        return Err(Errno::EINVAL);
    }
    let at = usize::try_from(new).ok().filter(|at| *at < super::NR_OPEN).ok_or(Errno::EBADF)?;
    let files = Arc::clone(cx.task().files());
    if let Some(old) = files.replace(fd, at, flags & O_CLOEXEC != 0)? {
        fput(cx, &old);
    }
    Ok(new)
}

/// Reads and changes the flags of a descriptor and its file.
///
/// # Errors
/// EBADF, EMFILE; EINVAL for a command there is not.
///
/// linux: fs/fcntl.c:sys_fcntl
pub fn sys_fcntl(cx: &mut TaskCx, fd: i32, cmd: i32, arg: i32) -> Result<i32, Errno> {
    let file = lookup(cx, fd)?;
    let files = Arc::clone(cx.task().files());
    match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let from = usize::try_from(arg).ok().filter(|from| *from < super::NR_OPEN);
            files.alloc(file, from.ok_or(Errno::EINVAL)?, cmd == F_DUPFD_CLOEXEC)
        }
        F_GETFD => {
            let table = files.table.lock();
            let descriptor = table.fds.get(fd as usize).and_then(Option::as_ref);
            let cloexec = descriptor.ok_or(Errno::EBADF)?.cloexec;
            Ok(if cloexec { FD_CLOEXEC } else { 0 })
        }
        F_SETFD => {
            let mut table = files.table.lock();
            let descriptor = table.fds.get_mut(fd as usize).and_then(Option::as_mut);
            descriptor.ok_or(Errno::EBADF)?.cloexec = arg & FD_CLOEXEC != 0;
            Ok(0)
        }
        F_GETFL => {
            let mode = match &file.kind {
                FileKind::Pipe(_, PipeEnd::Read) => O_RDONLY,
                FileKind::Pipe(_, PipeEnd::Write) => O_WRONLY,
                _ => O_RDWR,
            };
            Ok(mode | file.flags.load(Ordering::Relaxed))
        }
        F_SETFL => {
            let settable = O_NONBLOCK | O_APPEND;
            let kept = file.flags.load(Ordering::Relaxed) & !settable;
            file.flags.store(kept | arg & settable, Ordering::Relaxed);
            Ok(0)
        }
        F_SETPIPE_SZ | F_GETPIPE_SZ => match &file.kind {
            FileKind::Pipe(pipe, _) => pipe.fcntl(cx, (cmd == F_SETPIPE_SZ).then_some(arg)),
            _ => Err(Errno::EBADF),
        },
        _ => Err(Errno::EINVAL),
    }
}

/// Answers a request. `arg` is the memory that the request's argument points at: a number, a
/// structure; what a pointer in that structure points at lies behind it.
///
/// # Errors
/// EBADF; EFAULT for too little memory; ENOTTY for a request there is not; those of the file.
///
/// linux: fs/ioctl.c:sys_ioctl
pub fn sys_ioctl(cx: &mut TaskCx, fd: i32, request: u32, arg: &mut [u8]) -> Result<i32, Errno> {
    if matches!(request, FIOCLEX | FIONCLEX) {
        let cloexec = if request == FIOCLEX { FD_CLOEXEC } else { 0 };
        return sys_fcntl(cx, fd, F_SETFD, cloexec);
    }
    let file = lookup(cx, fd)?;
    let on = || {
        let number = arg.first_chunk::<4>().ok_or(Errno::EFAULT)?;
        Ok::<bool, Errno>(i32::from_ne_bytes(*number) != 0)
    };
    match request {
        FIONBIO => {
            let nonblock = if on()? { O_NONBLOCK } else { 0 };
            let kept = file.flags.load(Ordering::Relaxed) & !O_NONBLOCK;
            file.flags.store(kept | nonblock, Ordering::Relaxed);
            Ok(0)
        }
        FIOASYNC => {
            if on()? {
                return Err(Errno::ENOTTY);
            }
            Ok(0)
        }
        _ => (file.f_op.ioctl)(cx, &file, request, arg),
    }
}

/// Maps a file into memory. None can be: there is no memory of a program here.
///
/// # Errors
/// EBADF; ENODEV for a file that can't be mapped.
///
/// linux: mm/mmap.c:sys_mmap_pgoff
pub fn sys_mmap(cx: &mut TaskCx, fd: i32) -> Result<(), Errno> {
    cx.enter_call();
    let file = cx.task().files().get(fd).ok_or(Errno::EBADF)?;
    (file.f_op.mmap)(&file)
}
