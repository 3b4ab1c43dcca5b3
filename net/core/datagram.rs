//! Taking a datagram from a socket's queue, or waiting for one. Context: task.
//!
//! linux: net/core/datagram.c.

use crate::kernel::context::TaskCx;
use crate::net::core::skbuff::SkBuff;
use crate::net::core::sock::{RCV_SHUTDOWN, Sock, SockLocked};
use crate::net::socket::Wait;
use std::convert::Infallible;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLIN};

/// Takes from a socket what `take` finds in its queue, under its lock. Without a packet the call
/// waits, as long as it may; `None`: nothing will come, it is shut down for receiving.
///
/// # Errors
/// The socket's pending error; EAGAIN when it may not wait or its time is up; EINTR.
///
/// linux: net/core/datagram.c:__skb_recv_datagram
#[inline(always)]
pub(crate) fn __skb_recv_datagram<R>(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    flags: i32,
    wait: &mut Wait,
    take: impl FnOnce(&mut SockLocked) -> Option<R>,
) -> Poll<Result<Option<R>, Errno>> {
    walk!(cx, __skb_recv_datagram);
    {
        let mut state = sk.state();
        if let Err(error) = state.sock_error() {
            return Poll::Ready(Err(error));
        }
        if let Some(taken) = take(&mut state) {
            // Here and not at the end: what follows then knows on this way that it has a packet.
            drop(state);
            return Poll::Ready(Ok(Some(taken)));
        }
        // Only who would wait is told of the end, as in Linux.
        if state.shutdown & RCV_SHUTDOWN != 0 && wait.may_wait(flags) {
            return Poll::Ready(Ok(None));
        }
    }
    wait_for_more_packets(cx, sk, flags, wait).map(Err)
}

/// Ready with the reason why there is no packet.
///
/// linux: net/core/datagram.c:wait_for_more_packets
#[cold]
fn wait_for_more_packets(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    flags: i32,
    wait: &mut Wait,
) -> Poll<Errno> {
    walk!(cx, wait_for_more_packets);
    sk.sock_rps_record_flow(cx);
    // A panic under its lock killed it: nothing more will come.
    if sk.state().dead {
        return Poll::Ready(Errno::EIO);
    }
    let woken_by = (POLLIN | POLLERR) as u32;
    let waited = wait.for_event(cx, sk, woken_by, flags, |state| {
        !state.receive_queue.is_empty()
            || state.err.is_some()
            || state.dead
            || state.shutdown & RCV_SHUTDOWN != 0
    });
    waited.map(|ended: Result<Infallible, Errno>| match ended {
        Err(error) => error,
    })
}

/// Copies as much of a packet as fits, from an offset on.
///
/// linux: net/core/datagram.c:skb_copy_datagram_iovec
#[inline(always)]
pub(crate) fn copy_to_iter(skb: &SkBuff, offset: usize, iov: &mut [IoSliceMut<'_>]) -> usize {
    match iov {
        [part] => skb.skb_copy_bits(offset, part),
        parts => copy_to_parts(skb, offset, parts),
    }
}

#[cold]
fn copy_to_parts(skb: &SkBuff, offset: usize, parts: &mut [IoSliceMut<'_>]) -> usize {
    let mut done = 0;
    for part in parts {
        let copied = skb.skb_copy_bits(offset + done, part);
        done += copied;
        if copied < part.len() {
            break;
        }
    }
    done
}

/// Copies `len` octets of a packet, from an offset on, to where the parts have `skip` octets already.
pub(crate) fn copy_to_iter_at(
    skb: &SkBuff,
    mut offset: usize,
    iov: &mut [IoSliceMut<'_>],
    mut skip: usize,
    mut len: usize,
) {
    for part in iov {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let room = &mut part[skip..];
        let take = room.len().min(len);
        skb.skb_copy_bits(offset, &mut room[..take]);
        (offset, len, skip) = (offset + take, len - take, 0);
        if len == 0 {
            break;
        }
    }
}
