//! UDP to the reader: a datagram copied out, with what the reader asked to know. Context: task.
//!
//! linux: net/ipv4/udp.c.

use crate::kernel::context::TaskCx;
use crate::net::core::datagram::{__skb_recv_datagram, copy_to_iter};
use crate::net::core::skbuff::{SkBuff, SkbList, consume_skb_task};
use crate::net::core::sock::Sock;
use crate::net::ipv4::ip_sockglue::{Noted, RecvFlags, ip_cmsg_recv, ip_recv_error};
use crate::net::socket::{MsgName, MsgRecv, RecvBatch, Wait};
use std::sync::Arc;
use std::task::{Poll, ready};
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::ip::IpHdr;
use uapi::snmp::UdpMib;
use uapi::socket::{MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC};
use uapi::udp::UdpHdr;

/// Receives datagrams: their data, their sender, and the control data asked for. Waits for the first;
/// what more there is and there is room for is taken with it.
///
/// # Errors
/// EAGAIN when there is none and the call may not wait, or its time is up; EINTR; the socket's
/// pending error.
///
/// linux: net/ipv4/udp.c:udp_recvmsg
#[inline(always)]
pub(super) fn udp_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, udp_recvmsg);
    let flags = batch.flags;
    batch.came = 1;
    let [msg] = &mut *batch.msgs else { return recv_several(cx, sk, batch, wait) };
    if flags & (MSG_ERRQUEUE | MSG_PEEK) != 0 {
        return udp_recv_special(cx, sk, (msg, flags), wait);
    }
    let taken = __skb_recv_datagram(cx, sk, flags, wait, |state| {
        let skb = state.dequeue()?;
        state.sk_peek_offset_bwd(skb.len());
        Some((skb, RecvFlags::of(state)))
    });
    let (skb, wants) = match ready!(taken) {
        Err(error) => return Poll::Ready(Err(error)),
        Ok(None) => return Poll::Ready(Ok(())),
        Ok(Some(taken)) => taken,
    };
    read_out(cx, sk, &skb, (msg, flags, wants));
    consume_skb_task(cx, skb);
    Poll::Ready(Ok(()))
}

/// Takes what there is under one lock, and reads it out.
#[inline(never)]
fn recv_several(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    let RecvBatch { msgs, flags, came: done } = batch;
    let ([msg, ..], flags) = (&mut **msgs, *flags) else {
        *done = 0;
        return Poll::Ready(Ok(()));
    };
    if flags & (MSG_ERRQUEUE | MSG_PEEK) != 0 {
        return udp_recv_special(cx, sk, (msg, flags), wait);
    }
    let mut came = cx.received();
    // No more than that, so that others get the socket's lock.
    let most = msgs.len().min(SkbList::MAX);
    let taken = __skb_recv_datagram(cx, sk, flags, wait, |state| {
        state.dequeue_several(most, &mut came);
        (!came.is_empty()).then(|| RecvFlags::of(state))
    });
    if let Poll::Ready(Ok(Some(wants))) = taken {
        for (skb, msg) in came.iter().zip(msgs.iter_mut()) {
            read_out(cx, sk, skb, (msg, flags, wants));
        }
        *done = came.len();
    }
    cx.free_received(came);
    // None: shut down for receiving, a message of no bytes from nobody.
    taken.map_ok(|_| ())
}

/// Copies out all that the reader wants of a datagram.
#[inline(always)]
fn read_out(
    cx: &mut TaskCx,
    sk: &Sock,
    skb: &SkBuff,
    (msg, flags, wants): (&mut MsgRecv<'_>, i32, RecvFlags),
) {
    walk!(cx, skb, skb_copy_datagram_iovec);
    copy_out(skb, 0, (msg, flags));
    if wants.wants_control() {
        tell(cx, sk, msg, note(skb, wants));
    }
    cx.count(UdpMib::InDatagrams);
}

/// Reads what the next datagram is not: the error queue, or the datagram that stays.
#[cold]
fn udp_recv_special(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags): (&mut MsgRecv<'_>, i32),
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    if flags & MSG_ERRQUEUE == 0 {
        return udp_peekmsg(cx, sk, (msg, flags), wait);
    }
    msg.received = ip_recv_error(cx, sk, msg)?;
    Poll::Ready(Ok(()))
}

/// Looks at a datagram that stays in the queue (`MSG_PEEK`), from where `SO_PEEK_OFF` says.
fn udp_peekmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags): (&mut MsgRecv<'_>, i32),
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    let peeked = __skb_recv_datagram(cx, sk, flags, wait, |state| {
        let wants = RecvFlags::of(state);
        let (skb, offset) = state.to_peek()?;
        let copied = copy_out(skb, offset, (msg, flags));
        let noted = note(skb, wants);
        state.sk_peek_offset_fwd(copied);
        Some(noted)
    });
    tell(cx, sk, msg, ready!(peeked)?.flatten());
    Poll::Ready(Ok(()))
}

/// Writes the control data.
#[cold]
fn tell(cx: &mut TaskCx, sk: &Sock, msg: &mut MsgRecv<'_>, noted: Option<Noted>) {
    sk.sock_rps_record_flow(cx);
    if let Some(noted) = noted {
        noted.sock_recv_cmsgs(sk);
        let mut flags = msg.received.flags;
        msg.received.controllen = ip_cmsg_recv(cx, msg, &noted, &mut flags) as u32;
        msg.received.flags = flags;
    }
}

/// What the reader asked to know, before the packet is gone.
#[inline(always)]
fn note(skb: &SkBuff, flags: RecvFlags) -> Option<Noted> {
    if !flags.wants_control() {
        return None;
    }
    let (iph, udph) = (skb.network::<IpHdr>()?, skb.transport::<UdpHdr>()?);
    Some(Noted::new(flags, skb, iph, udph.dest.get()))
}

/// Copies data, from an offset on, and sender out; the bytes copied.
#[inline(always)]
fn copy_out(skb: &SkBuff, offset: usize, (msg, flags): (&mut MsgRecv<'_>, i32)) -> usize {
    let copied = copy_to_iter(skb, offset, msg.iov);
    msg.received.len = copied;
    if copied < skb.len() {
        if offset + copied < skb.len() {
            msg.received.flags |= MSG_TRUNC;
        }
        if flags & MSG_TRUNC != 0 {
            msg.received.len = skb.len();
        }
    }
    if let Some(iph) = skb.network::<IpHdr>()
        && let Some(udph) = skb.transport::<UdpHdr>()
    {
        msg.received.name = MsgName::In(SockaddrIn::new(iph.saddr.get(), udph.source.get()));
    }
    copied
}
