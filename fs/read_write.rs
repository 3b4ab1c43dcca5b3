//! Reading and writing any descriptor. Context: task.
//!
//! linux: fs/read_write.c.

use super::fdget_wait;
use crate::kernel::context::TaskCx;
use crate::kernel::sched::Operation;
use crate::net::socket::{SockCall, Wait};
use std::io::{IoSlice, IoSliceMut};
use std::task::Poll;
use uapi::errno::Errno;
use uapi::uio::UIO_MAXIOV;

fn read_on(
    cx: &mut TaskCx,
    fd: i32,
    iov: &mut [IoSliceMut<'_>],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    walk!(cx, sys_read);
    fdget_wait(cx, fd, wait, |cx, file, wait| (file.f_op.read)(cx, file, iov, wait))
}

fn write_on(
    cx: &mut TaskCx,
    fd: i32,
    iov: &[IoSlice<'_>],
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    walk!(cx, sys_write);
    fdget_wait(cx, fd, wait, |cx, file, wait| (file.f_op.write)(cx, file, iov, wait))
}

/// Reads.
///
/// # Errors
/// EBADF; those of the file.
///
/// linux: fs/read_write.c:sys_read
pub fn sys_read(fd: i32, data: &mut [u8]) -> impl Operation<Output = Result<usize, Errno>> + '_ {
    SockCall::new(move |cx, wait| read_on(cx, fd, &mut [IoSliceMut::new(data)], wait))
}

/// Writes.
///
/// # Errors
/// EBADF; those of the file.
///
/// linux: fs/read_write.c:sys_write
pub fn sys_write(fd: i32, data: &[u8]) -> impl Operation<Output = Result<usize, Errno>> + '_ {
    SockCall::new(move |cx, wait| write_on(cx, fd, &[IoSlice::new(data)], wait))
}

/// Reads into several parts.
///
/// # Errors
/// EBADF, EINVAL for more than 1,024 parts; those of the file.
///
/// linux: fs/read_write.c:sys_readv
pub fn sys_readv<'a>(
    fd: i32,
    parts: &'a mut [&'a mut [u8]],
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        if parts.len() > UIO_MAXIOV {
            return Poll::Ready(Err(Errno::EINVAL));
        }
        let mut iov: Vec<_> = parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
        read_on(cx, fd, &mut iov, wait)
    })
}

/// Writes several parts as one.
///
/// # Errors
/// EBADF, EINVAL for more than 1,024 parts; those of the file.
///
/// linux: fs/read_write.c:sys_writev
pub fn sys_writev<'a>(
    fd: i32,
    parts: &'a [&'a [u8]],
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        if parts.len() > UIO_MAXIOV {
            return Poll::Ready(Err(Errno::EINVAL));
        }
        let iov: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        if iov.iter().all(|part| part.is_empty()) {
            // Unlike `write` of nothing, which sends an empty datagram.
            let found = cx.task().files().get(fd).ok_or(Errno::EBADF);
            return Poll::Ready(found.map(|_| 0));
        }
        write_on(cx, fd, &iov, wait)
    })
}
