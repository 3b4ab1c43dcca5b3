//! Sending memory that the stack may keep: no octet of it is copied on the way to the device.
//!
//! linux: net/socket.c, io_uring/net.c (`io_send_zc`), where the pages of a program are kept likewise. Context:
//! task.

use super::calls::sock_sendmsg;
use super::{MsgSend, SendBatch, SockCall, sockfd_lookup_wait};
use crate::kernel::sched::Operation;
use bytes::Bytes;
use std::io::IoSlice;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::socket::MSG_SPLICE_PAGES;
use uapi::uio::UIO_MAXIOV;

/// Sends parts to the peer, one behind the other, as `sendmsg` does; how many octets went. On a stream the
/// segments refer to this memory until the peer has acknowledged it: then it is given back, and with `MSG_ZEROCOPY` on
/// a socket with `SO_ZEROCOPY` the error queue tells of it. A datagram has a copy.
///
/// # Errors
/// As [`sys_sendmsg`](super::sys_sendmsg); with `MSG_ZEROCOPY` ENOBUFS, when too much waits to be told of.
pub fn sys_send_bytes<'a>(
    fd: i32,
    data: &'a [Bytes],
    flags: i32,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    SockCall::new(move |cx, wait| {
        walk!(cx, sys_sendmsg);
        sockfd_lookup_wait(cx, fd, wait, |cx, socket, wait| {
            if data.len() > UIO_MAXIOV {
                return Poll::Ready(Err(Errno::EMSGSIZE));
            }
            let iov: Vec<IoSlice<'_>> = data.iter().map(|part| IoSlice::new(part)).collect();
            let msg = MsgSend { iov: &iov, name: None, control: &[], flags };
            let batch = SendBatch { msgs: &[msg], flags: MSG_SPLICE_PAGES, owned: data };
            sock_sendmsg(cx, socket, &batch, wait).map(|sent| sent.map(|sent| sent.bytes))
        })
    })
}
