//! Taking a datagram from a socket's queue, or waiting for one. Context: task.
//!
//! linux: net/core/datagram.c.

use crate::kernel::context::TaskCx;
use crate::net::core::skbuff::{SkBuff, Skb};
use crate::net::core::sock::{RCV_SHUTDOWN, Sock};
use crate::net::ipv4::ip_sockglue::RecvFlags;
use crate::net::socket::Wait;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLIN};
use uapi::socket::MSG_PEEK;

/// What [`__skb_recv_datagram`] found.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A packet, and what the socket's options ask to tell of it.
    Packet(Skb, RecvFlags),
    /// It stays in the queue; it was looked at.
    Peeked,
    /// Nothing will come: shut down for receiving.
    Shutdown,
}

/// Takes the next packet of a socket; `peek` looks at it instead, under the socket's lock, when
/// `MSG_PEEK` is among `flags`, from where `SO_PEEK_OFF` says. Without a packet the call waits, as long as it may.
///
/// # Errors
/// The socket's pending error; EAGAIN when it may not wait or its time is up; EINTR.
///
/// linux: net/core/datagram.c:__skb_recv_datagram
#[inline(always)]
pub(crate) fn __skb_recv_datagram(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    flags: i32,
    wait: &mut Wait,
    peek: impl FnOnce(&SkBuff, usize, RecvFlags) -> usize,
) -> Poll<Result<Taken, Errno>> {
    walk!(cx, __skb_recv_datagram);
    {
        let mut state = sk.state();
        if let Err(error) = state.sock_error() {
            return Poll::Ready(Err(error));
        }
        let wants = RecvFlags::of(&state);
        if flags & MSG_PEEK != 0 {
            if let Some((skb, offset)) = state.to_peek() {
                let seen = peek(skb, offset, wants);
                state.sk_peek_offset_fwd(seen);
                return Poll::Ready(Ok(Taken::Peeked));
            }
        } else if let Some(skb) = state.dequeue() {
            state.sk_peek_offset_bwd(skb.len());
            return Poll::Ready(Ok(Taken::Packet(skb, wants)));
        }
        // Only who would wait is told of the end, as in Linux.
        if state.shutdown & RCV_SHUTDOWN != 0 && wait.may_wait(flags) {
            return Poll::Ready(Ok(Taken::Shutdown));
        }
    }
    walk!(cx, wait_for_more_packets);
    let woken_by = (POLLIN | POLLERR) as u32;
    wait.for_event(cx, sk, woken_by, flags, |state| {
        !state.receive_queue.is_empty()
            || state.err.is_some()
            || state.dead
            || state.shutdown & RCV_SHUTDOWN != 0
    })
    .map(|outcome: Result<usize, Errno>| outcome.map(|_| Taken::Shutdown))
}

/// Copies as much of a packet as fits, from an offset on.
///
/// linux: net/core/datagram.c:skb_copy_datagram_iovec
#[inline(always)]
pub(crate) fn copy_to_iter(skb: &SkBuff, offset: usize, iov: &mut [IoSliceMut<'_>]) -> usize {
    let mut done = 0;
    for part in iov {
        let copied = skb.skb_copy_bits(offset + done, part);
        done += copied;
        if copied < part.len() {
            break;
        }
    }
    done
}
