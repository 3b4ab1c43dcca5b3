//! From a packet socket's queue to its reader. Context: task.
//!
//! linux: net/packet/af_packet.c (`packet_recvmsg`).

use super::PacketSkbCb;
use crate::kernel::context::TaskCx;
use crate::kernel::time::Ktime;
use crate::net::core::datagram::{__skb_recv_datagram, copy_to_iter};
use crate::net::core::skbuff::{Cb, GsoType, IpSummed, PktType, SkBuff, consume_skb_task};
use crate::net::core::sock::{Sock, SockState};
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::ip_sockglue::{ip_recv_error, put_times};
use crate::net::socket::{MsgName, MsgRecv, RecvBatch, Wait};
use std::sync::Arc;
use std::task::{Poll, ready};
use uapi::errno::Errno;
use uapi::if_packet::{
    PACKET_AUXDATA, TP_STATUS_CSUM_VALID, TP_STATUS_CSUMNOTREADY, TP_STATUS_GSO_TCP, TP_STATUS_USER,
};
use uapi::socket::{
    CmsgWriter, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, SO_RXQ_OVFL, SOL_PACKET,
    SOL_SOCKET,
};

/// What a socket's options ask to be told with a packet.
#[derive(Clone, Copy)]
struct Asked {
    flags: CmsgFlags,
    auxdata: bool,
}

impl Asked {
    fn of(state: &mut SockState) -> Self {
        let auxdata = state.packet().is_some_and(|po| po.auxdata);
        Self { flags: state.inet.cmsg_flags, auxdata }
    }
}

/// What a packet tells beside its data.
#[derive(Clone, Copy)]
struct Noted {
    asked: Asked,
    stamp: Ktime,
    dropcount: u32,
    aux: [u8; 20],
}

/// Receives a packet: its data, whence it is, and what was asked to be told of it.
///
/// # Errors
/// EINVAL for flags that there are not; EAGAIN, EINTR; the pending error.
///
/// linux: net/packet/af_packet.c:packet_recvmsg
pub(super) fn packet_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, packet_recvmsg);
    const KNOWN: i32 = MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE;
    let flags = batch.flags;
    let [msg, ..] = &mut *batch.msgs else {
        batch.came = 0;
        return Poll::Ready(Ok(()));
    };
    batch.came = 1;
    if flags & !KNOWN != 0 {
        return Poll::Ready(Err(Errno::EINVAL));
    }
    if flags & MSG_ERRQUEUE != 0 {
        msg.received = ip_recv_error(cx, sk, msg)?;
        return Poll::Ready(Ok(()));
    }
    let peek = flags & MSG_PEEK != 0;
    let taken = __skb_recv_datagram(cx, sk, flags, wait, |state| {
        let asked = Asked::of(state);
        if peek {
            let skb = state.receive_queue.skb_peek()?;
            return Some((None, read_out(skb, (msg, flags), asked)));
        }
        let skb = state.dequeue()?;
        let noted = read_out(&skb, (msg, flags), asked);
        Some((Some(skb), noted))
    });
    let Some((skb, noted)) = ready!(taken)? else { return Poll::Ready(Ok(())) };
    sk.state().sock_recv_cmsgs(noted.asked.flags, noted.stamp);
    tell(cx, msg, &noted);
    if let Some(skb) = skb {
        walk!(cx, skb, skb_copy_datagram_iovec);
        consume_skb_task(cx, skb);
    }
    Poll::Ready(Ok(()))
}

/// Copies data and name out, and notes the rest.
fn read_out(skb: &SkBuff, (msg, flags): (&mut MsgRecv<'_>, i32), asked: Asked) -> Noted {
    let copied = copy_to_iter(skb, 0, msg.iov);
    msg.received.len = copied;
    if copied < skb.len() {
        msg.received.flags |= MSG_TRUNC;
        if flags & MSG_TRUNC != 0 {
            msg.received.len = skb.len();
        }
    }
    let cb = if let Cb::Packet(cb) = skb.cb { cb } else { PacketSkbCb::default() };
    msg.received.name = MsgName::Ll {
        protocol: skb.protocol,
        ifindex: cb.ifindex.get(),
        hatype: cb.hatype.get(),
        pkttype: skb.pkt_type as u8,
        addr: cb.addr,
    };
    let (stamp, dropcount) = (skb.tstamp(), skb.priority);
    Noted { asked, stamp, dropcount, aux: auxdata(skb, &cb) }
}

/// What is known of a packet beside its octets: `TP_STATUS_*`.
pub(super) fn tp_status_of(skb: &SkBuff) -> u32 {
    let mut status = 0;
    if skb.ip_summed == IpSummed::Partial {
        status |= TP_STATUS_CSUMNOTREADY;
    } else if skb.pkt_type != PktType::Outgoing && skb.ip_summed == IpSummed::Unnecessary {
        status |= TP_STATUS_CSUM_VALID;
    }
    if skb.gso.size != 0 && skb.gso.kind == GsoType::Tcpv4 {
        status |= TP_STATUS_GSO_TCP;
    }
    status
}

/// A `tpacket_auxdata`.
///
/// linux: include/uapi/linux/if_packet.h:tpacket_auxdata
fn auxdata(skb: &SkBuff, cb: &PacketSkbCb) -> [u8; 20] {
    let mut aux = [0; 20];
    let words = [TP_STATUS_USER | tp_status_of(skb), cb.origlen.get(), skb.len() as u32];
    for (place, word) in aux.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    // Where the link header is, and the network header; tags stay in the frame here.
    aux[14..16].copy_from_slice(&(skb.network_offset().max(0) as u16).to_ne_bytes());
    aux
}

/// Writes the control data.
fn tell(cx: &mut TaskCx, msg: &mut MsgRecv<'_>, noted: &Noted) {
    let asked = noted.asked;
    let mut writer = CmsgWriter::new(msg.control);
    if noted.stamp != Ktime::ZERO {
        put_times(&mut writer, asked.flags, noted.stamp);
    } else if asked.flags.intersects(CmsgFlags::TIMES_TOLD) {
        // It came before anybody asked.
        let now = Ktime(cx.machine().ktime_get_real());
        put_times(&mut writer, asked.flags & !CmsgFlags::TIMESTAMPING, now);
    }
    if asked.flags.contains(CmsgFlags::RXQ_OVFL) && noted.dropcount != 0 {
        writer.put(SOL_SOCKET, SO_RXQ_OVFL, &noted.dropcount.to_ne_bytes());
    }
    if asked.auxdata {
        writer.put(SOL_PACKET, PACKET_AUXDATA, &noted.aux);
    }
    msg.received.flags |= writer.flags();
    msg.received.controllen = writer.used() as u32;
}
