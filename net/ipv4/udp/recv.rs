//! UDP to the reader: a datagram copied out, with what the reader asked to know. Context: task.
//!
//! linux: net/ipv4/udp.c.

use crate::kernel::context::TaskCx;
use crate::net::core::datagram::{__skb_recv_datagram, Taken, copy_to_iter};
use crate::net::core::skbuff::{SkBuff, consume_skb_task};
use crate::net::core::sock::Sock;
use crate::net::ipv4::ip_sockglue::{RecvFlags, ip_cmsg_recv, ip_recv_error};
use crate::net::socket::{MsgRecv, Received, Wait};
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::ip::IpHdr;
use uapi::snmp::UdpMib;
use uapi::socket::{MSG_ERRQUEUE, MSG_TRUNC};
use uapi::udp::UdpHdr;

/// Receives a datagram: its data, its sender, and the control data asked for.
///
/// # Errors
/// EAGAIN when there is none and the call may not wait, or its time is up; EINTR; the socket's
/// pending error.
///
/// linux: net/ipv4/udp.c:udp_recvmsg
pub(super) fn udp_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    msg: &mut MsgRecv<'_>,
    wait: &mut Wait,
) -> Poll<Result<Received, Errno>> {
    walk!(cx, udp_recvmsg);
    if msg.flags & MSG_ERRQUEUE != 0 {
        return Poll::Ready(ip_recv_error(sk, msg));
    }
    let mut peeked = None;
    let taken = __skb_recv_datagram(cx, sk, msg.flags, wait, |skb, flags| {
        peeked = Some(copy_out(skb, msg, flags));
    });
    match taken {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(Taken::Shutdown)) => Poll::Ready(Ok(Received::default())),
        Poll::Ready(Ok(Taken::Peeked)) => Poll::Ready(Ok(finish(cx, msg, peeked))),
        Poll::Ready(Ok(Taken::Packet(skb, flags))) => {
            walk!(cx, skb, skb_copy_datagram_iovec);
            let received = copy_out(&skb, msg, flags);
            cx.count(UdpMib::InDatagrams);
            consume_skb_task(cx, skb);
            Poll::Ready(Ok(finish(cx, msg, Some(received))))
        }
    }
}

/// The device's own address, where the reader asked for it, needs the tables: known only now.
fn finish(
    cx: &mut TaskCx,
    msg: &mut MsgRecv<'_>,
    received: Option<(Received, RecvFlags)>,
) -> Received {
    let Some((mut received, flags)) = received else { return Received::default() };
    if flags.wants_control() {
        received.controllen = ip_cmsg_recv(cx, msg, &flags, &mut received.flags);
    }
    received
}

/// Copies data and addresses out.
#[inline]
fn copy_out(skb: &SkBuff, msg: &mut MsgRecv<'_>, mut flags: RecvFlags) -> (Received, RecvFlags) {
    let len = skb.len();
    let copied = copy_to_iter(skb, msg.iov);
    let mut received = Received { len: copied, ..Received::default() };
    if copied < len {
        received.flags |= MSG_TRUNC;
    }
    if msg.flags & MSG_TRUNC != 0 {
        received.len = len;
    }
    let (Some(iph), Some(udph)) = (skb.network::<IpHdr>(), skb.transport::<UdpHdr>()) else {
        return (received, flags);
    };
    received.name = Some(SockaddrIn::new(iph.saddr.get(), udph.source.get()));
    if flags.wants_control() {
        flags.note(skb, iph, udph.dest.get());
    }
    (received, flags)
}
