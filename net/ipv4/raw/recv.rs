//! Raw sockets to the reader: a datagram from its IP header on. Context: task.
//!
//! linux: net/ipv4/raw.c (`raw_recvmsg`).

use crate::kernel::context::TaskCx;
use crate::net::core::datagram::{__skb_recv_datagram, copy_to_iter};
use crate::net::core::skbuff::{SkBuff, consume_skb_task};
use crate::net::core::sock::Sock;
use crate::net::ipv4::ip_sockglue::{Noted, RecvFlags, ip_cmsg_recv, ip_recv_error};
use crate::net::socket::{MsgName, MsgRecv, RecvBatch, Wait};
use std::sync::Arc;
use std::task::{Poll, ready};
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::ip::IpHdr;
use uapi::socket::{MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC};

/// Receives a datagram, its sender and what was asked to be told of it.
///
/// # Errors
/// EOPNOTSUPP for `MSG_OOB`; EAGAIN, EINTR; the pending error.
///
/// linux: net/ipv4/raw.c:raw_recvmsg
pub(in crate::net::ipv4) fn raw_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, raw_recvmsg);
    let flags = batch.flags;
    let [msg, ..] = &mut *batch.msgs else {
        batch.came = 0;
        return Poll::Ready(Ok(()));
    };
    batch.came = 1;
    if flags & MSG_OOB != 0 {
        return Poll::Ready(Err(Errno::EOPNOTSUPP));
    }
    if flags & MSG_ERRQUEUE != 0 {
        msg.received = ip_recv_error(cx, sk, msg)?;
        return Poll::Ready(Ok(()));
    }
    let taken = __skb_recv_datagram(cx, sk, flags, wait, |state| {
        let wants = RecvFlags::of(state);
        if flags & MSG_PEEK != 0 {
            let noted = read_out(state.receive_queue.skb_peek()?, (msg, flags), wants);
            return Some((None, noted));
        }
        let skb = state.dequeue()?;
        let noted = read_out(&skb, (msg, flags), wants);
        Some((Some(skb), noted))
    });
    let Some((skb, noted)) = ready!(taken)? else { return Poll::Ready(Ok(())) };
    if let Some(noted) = noted {
        noted.sock_recv_cmsgs(sk);
        let mut told = msg.received.flags;
        msg.received.controllen = ip_cmsg_recv(cx, msg, &noted, &mut told) as u32;
        msg.received.flags = told;
    }
    if let Some(skb) = skb {
        walk!(cx, skb, skb_copy_datagram_iovec);
        consume_skb_task(cx, skb);
    }
    Poll::Ready(Ok(()))
}

/// Copies data and sender out, and notes what the reader asked to know.
fn read_out(
    skb: &SkBuff,
    (msg, flags): (&mut MsgRecv<'_>, i32),
    wants: RecvFlags,
) -> Option<Noted> {
    let copied = copy_to_iter(skb, 0, msg.iov);
    msg.received.len = copied;
    if copied < skb.len() {
        msg.received.flags |= MSG_TRUNC;
        if flags & MSG_TRUNC != 0 {
            msg.received.len = skb.len();
        }
    }
    msg.received.name = MsgName::In(SockaddrIn::new(skb.hash, 0));
    let iph = skb.network::<IpHdr>()?;
    wants.wants_control().then(|| {
        // Where it was sent to has a port, if what lies there is one.
        let port =
            skb.transport::<[u8; 4]>().map_or(0, |ports| u16::from_be_bytes([ports[2], ports[3]]));
        Noted::new(wants, skb, iph, port)
    })
}
