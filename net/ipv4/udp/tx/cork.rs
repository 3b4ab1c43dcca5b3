//! Corked datagrams: several messages become one (`MSG_MORE`, `UDP_CORK`).
//!
//! linux: net/ipv4/udp.c. Contexts: task; a BH section to find the way and to send. The socket is
//! locked for the whole of a call.

use super::ubuf::cork_zerocopy;
use super::{
    Msg, Plan, Run, Send4, Stop, check_way, iov_length, make_odd, prepare, sock_alloc_send,
    sock_kmalloc, template,
};
use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dst::{Dst, dst_confirm_neigh};
use crate::net::core::sock::{Sock, sk_purge};
use crate::net::ipv4::ip_options::IpTarget;
use crate::net::ipv4::route::ip_route_output_ports;
use crate::net::socket::{SendBatch, Sent};
use std::io::IoSlice;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::ip::IpHdr;
use uapi::socket::{MSG_CONFIRM, MSG_MORE, MSG_OOB, MSG_ZEROCOPY};
use uapi::udp::UdpHdr;

/// The most a datagram carries: an IP packet less its headers.
const MAX_DATAGRAM: usize = 65_535 - size_of::<IpHdr>() - size_of::<UdpHdr>();

/// The last descriptor is closed: what was corked goes with it.
///
/// linux: net/ipv4/udp.c:udp_lib_close
pub(in crate::net::ipv4::udp) fn udp_close(cx: &mut TaskCx, sk: &Arc<Sock>) {
    udp_flush_pending_frames(sk);
    if std::mem::take(&mut sk.state().udp.encap_enabled) {
        sk.net.udp_table.udp_encap_disable();
    }
    (sk.sk_prot.unhash)(cx, sk);
    sk_purge(cx, sk);
}

/// A corked datagram.
#[derive(Debug)]
pub(crate) struct Pending {
    send: Send4,
    target: Option<IpTarget>,
    payload: Vec<u8>,
}

/// Corked datagrams, one message after the other.
pub(super) fn udp_send_corked(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
) -> Result<Sent, Errno> {
    let mut sent = Sent::default();
    for msg in batch.iter() {
        let zerocopy = msg.1 & MSG_ZEROCOPY != 0;
        match if zerocopy { cork_zerocopy(cx, sk, msg) } else { cork(cx, sk, msg) } {
            Ok(len) => sent.add(len),
            Err(error) if sent.messages == 0 => return Err(error),
            Err(error) => return Ok(Sent { stop: Some(error), ..sent }),
        }
    }
    Ok(sent)
}

/// Adds to a corked datagram, or begins one; sends it when the cork is out.
pub(super) fn cork(cx: &mut TaskCx, sk: &Arc<Sock>, (msg, flags): Msg<'_>) -> Result<usize, Errno> {
    let len = iov_length(msg.iov);
    if len > 0xffff {
        return Err(Errno::EMSGSIZE);
    }
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !msg.control.is_empty() {
        cx.local_bh_disable(|bh| sock_kmalloc(bh, msg.control.len()))?;
    }
    let mut guard = sk.lock_sock(cx);
    let begun = guard.state().udp.pending.take();
    let (sk, cx) = guard.parts();
    let template = cx.local_bh_disable(|bh| template(bh, sk));
    let begins = begun.is_none();
    let mut pending = match begun {
        Some(begun) => begun,
        None => {
            let mut send = template.send;
            let target =
                cx.local_bh_disable(|bh| prepare(bh.t, &mut send, (sk, &template), (msg, flags)))?;
            Box::new(Pending { send, target, payload: Vec::new() })
        }
    };
    // Of all that the socket says this is looked at anew each time, as in Linux.
    pending.send.pmtudisc = template.send.pmtudisc;
    // What can't be added takes what was corked before with it, as in Linux.
    let whole = pending.payload.len() + len;
    let options = pending.target.as_ref().map_or(0, IpTarget::len);
    if whole + options > MAX_DATAGRAM {
        return Err(Errno::EMSGSIZE);
    }
    // The way is found again when it is sent: it may be another by then.
    cx.local_bh_disable(|bh| {
        let (plan, dst) = route_datagram(bh, sk, (pending.send, pending.target.clone()), whole)?;
        if flags & MSG_CONFIRM != 0 {
            dst_confirm_neigh(bh, &dst, plan.daddr);
        }
        bh.cpu.routes.give_back(dst);
        Ok::<(), Errno>(())
    })?;
    // What is corked is charged when it goes.
    if begins && let Err(Stop::Error(error)) = sock_alloc_send(sk, &template) {
        return Err(error);
    }
    for part in msg.iov {
        pending.payload.extend_from_slice(part);
    }
    let held = {
        let mut state = sk.state();
        state.udp.pending = Some(pending);
        state.udp.corkflag || flags & MSG_MORE != 0
    };
    if held {
        sk.set_corked(true);
        return Ok(len);
    }
    push_pending(cx, sk).map(|()| len)
}

/// Sends what is corked.
///
/// linux: net/ipv4/udp.c:udp_push_pending_frames
pub(crate) fn udp_push_pending_frames(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    let mut guard = sk.lock_sock(cx);
    let (sk, cx) = guard.parts();
    push_pending(cx, sk)
}

/// Throws away what is corked.
///
/// linux: net/ipv4/udp.c:udp_flush_pending_frames
pub(crate) fn udp_flush_pending_frames(sk: &Sock) {
    sk.state().udp.pending = None;
}

fn push_pending(cx: &mut TaskCx, sk: &Arc<Sock>) -> Result<(), Errno> {
    let pending = {
        let mut state = sk.state();
        sk.set_corked(state.udp.corkflag);
        state.udp.pending.take()
    };
    let Some(pending) = pending else { return Ok(()) };
    let Pending { mut send, target, payload } = *pending;
    cx.local_bh_disable(|bh| {
        let template = template(bh, sk);
        send.pmtudisc = template.send.pmtudisc;
        let (plan, dst) = route_datagram(bh, sk, (send, target), payload.len())?;
        let mut run = Run::new(bh, &template);
        run.list.dst = Some(dst);
        let made = make_odd(bh, sk, &plan, &[IoSlice::new(&payload)]);
        let sent = match made {
            Ok(skb) => run.push(bh, sk, skb).and_then(|()| run.send(bh, sk)),
            Err(Errno::ENOBUFS) if !template.recverr => Ok(()),
            Err(error) => Err(error),
        };
        bh.free_skb_list(run.list);
        sent
    })
}

/// Finds the way of a datagram of `len` bytes; it must be allowed and wide enough.
fn route_datagram(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    (send, target): (Send4, Option<IpTarget>),
    len: usize,
) -> Result<(Plan, Arc<Dst>), Errno> {
    let dst = ip_route_output_ports(cx, &send.flow)?;
    let mut plan = Plan { target, ..Plan::new(send) };
    plan.by(cx, &dst);
    match check_way(cx, sk, &plan, len) {
        Ok(()) => Ok((plan, dst)),
        Err(error) => {
            cx.cpu.routes.give_back(dst);
            Err(error)
        }
    }
}
