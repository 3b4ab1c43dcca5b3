//! Datagrams that are to be told of when their memory is free (`MSG_ZEROCOPY`).
//!
//! linux: net/ipv4/ip_output.c (`__ip_append_data`). Contexts: task; BH where it says so.
//! DIVERGES: a datagram is copied into its packet all the same, as in Linux by a device without scatter and gather:
//! its memory is free when the call ends, and the notification says that it was copied.

use super::cork::cork;
use super::{Msg, Run, Stop, Template, iov_length, udp_send_one};
use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::skbuff::{
    UbufInfo, msg_zerocopy_put_abort, msg_zerocopy_realloc, net_zcopy_put,
};
use crate::net::core::sock::Sock;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::socket::MSG_ZEROCOPY;
use uapi::udp::UdpHdr;

/// Sends one datagram, and tells of its memory. Context: BH.
#[cold]
pub(super) fn udp_send_zerocopy(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    template: &Template,
    run: &mut Run,
    (msg, flags): Msg<'_>,
) -> Result<usize, Stop> {
    let ubuf = numbered(cx, sk, iov_length(msg.iov))?;
    let sent = udp_send_one(cx, sk, template, run, (msg, flags & !MSG_ZEROCOPY));
    told(cx, sk, ubuf, sent.is_ok());
    sent
}

/// The same of a corked one.
#[cold]
pub(super) fn cork_zerocopy(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags): Msg<'_>,
) -> Result<usize, Errno> {
    let ubuf = cx.local_bh_disable(|bh| numbered(bh, sk, iov_length(msg.iov)))?;
    let corked = cork(cx, sk, (msg, flags & !MSG_ZEROCOPY));
    cx.local_bh_disable(|bh| told(bh, sk, ubuf, corked.is_ok()));
    corked
}

/// The call's number, if the socket's program wants to hear of it.
fn numbered(cx: &BhCx<'_>, sk: &Arc<Sock>, size: usize) -> Result<Option<Arc<UbufInfo>>, Errno> {
    let mut state = sk.state();
    if !state.opts.zerocopy {
        return Ok(None);
    }
    // An empty one has a number, too: it is a header long.
    let size = (size + size_of::<UdpHdr>(), cx.t.net.sysctl.optmem_max);
    let ubuf = msg_zerocopy_realloc(sk, &mut state, size, None)?;
    ubuf.set_copied();
    Ok(Some(ubuf))
}

fn told(cx: &mut BhCx<'_>, sk: &Sock, ubuf: Option<Arc<UbufInfo>>, sent: bool) {
    match ubuf {
        Some(ubuf) if sent => net_zcopy_put(cx, ubuf),
        Some(ubuf) => msg_zerocopy_put_abort(cx, &mut sk.state(), ubuf),
        None => (),
    }
}
