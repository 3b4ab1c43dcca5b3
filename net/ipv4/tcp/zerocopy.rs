//! Sending without a copy: segments refer to the sender's memory, and he hears when they no longer do.
//!
//! linux: net/ipv4/tcp.c (`tcp_sendmsg_locked`), net/core/skbuff.c (`skb_zerocopy_iter_stream`). Key type:
//! [`Zerocopy`]. Contexts: task; BH under the socket's lock where it says so. Invariant: a segment has data of at
//! most one notification, beside data that was copied.

use super::sendmsg::{charge_data, grow_tail};
use super::{TcpSk, TcpSock};
use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::skbuff::{
    Page, SkBuff, SkbFrag, UbufInfo, msg_zerocopy_put_abort, msg_zerocopy_realloc, net_zcopy_put,
    skb_zcopy,
};
use crate::net::core::sock::Sock;
use crate::net::core::stream::sk_mem_uncharge;
use crate::net::socket::{MsgSend, Wait};
use bytes::Bytes;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::socket::MSG_ZEROCOPY;

/// Whose memory segments refer to, and by what he hears of it.
pub(super) struct Zerocopy<'a> {
    /// The memory of the message's parts; none: it is only lent, and copied.
    owned: &'a [Bytes],
    /// `None`: nobody asked.
    pub(super) ubuf: Option<Arc<UbufInfo>>,
}

/// The call's number, if the socket's program wants to hear of it.
fn numbered(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    msg: &MsgSend<'_>,
) -> Result<Option<Arc<UbufInfo>>, Errno> {
    let size: usize = msg.iov.iter().map(|part| part.len()).sum();
    let numbered = sk.lock_sock(cx).in_bh(|cx, sk| {
        if size == 0 || !sk.st.opts.zerocopy {
            return Ok(None);
        }
        let tail = sk.tp.write_queue.back().and_then(|tail| skb_zcopy(tail));
        let size = (size, cx.t.net.sysctl.optmem_max);
        msg_zerocopy_realloc(sk.sk, sk.st, size, tail).map(Some)
    });
    numbered.unwrap_or(Ok(None))
}

impl<'a> Zerocopy<'a> {
    /// A message is to be sent, or sent on: `None`, with a copy.
    #[cold]
    pub(super) fn begin(
        cx: &mut TaskCx,
        sk: &Arc<Sock>,
        (msg, flags, owned): (&MsgSend<'_>, i32, &'a [Bytes]),
        wait: &mut Wait,
    ) -> Result<Option<Self>, Errno> {
        let ubuf = match wait.take_ubuf() {
            None if wait.progress == 0 && flags & MSG_ZEROCOPY != 0 => numbered(cx, sk, msg)?,
            kept => kept,
        };
        let refers = ubuf.is_some() || !owned.is_empty();
        Ok(refers.then_some(Self { owned, ubuf }))
    }

    /// What became of it: all of a message has one number, and none if nothing of it was taken.
    #[cold]
    pub(super) fn end(
        self,
        cx: &mut TaskCx,
        sk: &Sock,
        sent: &Poll<Result<usize, Errno>>,
        wait: &mut Wait,
    ) {
        let Some(ubuf) = self.ubuf else { return };
        match sent {
            Poll::Pending => wait.keep_ubuf(ubuf),
            Poll::Ready(Ok(1..)) => cx.local_bh_disable(|bh| net_zcopy_put(bh, ubuf)),
            Poll::Ready(_) => {
                cx.local_bh_disable(|bh| msg_zerocopy_put_abort(bh, &mut sk.state(), ubuf));
            }
        }
    }

    /// Data of this message can be added to a segment.
    pub(super) fn may_join(&self, tail: &SkBuff) -> bool {
        let (Some(ubuf), Some(theirs)) = (&self.ubuf, skb_zcopy(tail)) else { return true };
        Arc::ptr_eq(ubuf, theirs)
    }

    /// Lets the last segment refer to up to `len` octets of the message, from an offset on; to how many. Those of
    /// one part make a piece of their own.
    ///
    /// linux: net/core/skbuff.c:skb_zerocopy_iter_stream
    pub(super) fn refer(
        &self,
        cx: &mut BhCx<'_>,
        sk: &mut TcpSk<'_>,
        (iov, from): (&[IoSlice<'_>], usize),
        len: usize,
    ) -> usize {
        let Some((at, offset)) = part_at(iov, from) else { return 0 };
        let len = len.min(iov[at].len() - offset);
        if !charge_data(cx, sk, len) {
            return 0;
        }
        let page = match self.owned.get(at) {
            Some(bytes) => {
                let here = bytes.slice(offset..offset + len);
                Some(Arc::new(Page::foreign(here, self.ubuf.clone())))
            }
            None => cx.copied_page(&iov[at][offset..offset + len], self.ubuf.as_ref()),
        };
        let Some(page) = page else {
            sk_mem_uncharge(cx, sk, len);
            return 0;
        };
        push_piece(sk.tp, SkbFrag { page, offset: 0, size: len as u32 });
        len
    }
}

fn push_piece(tp: &mut TcpSock, piece: SkbFrag) {
    let size = piece.size;
    if let Some(tail) = tp.write_queue.back_mut() {
        tail.frags.push(piece);
    }
    grow_tail(tp, size);
}

/// The part of a message that has the octet at an offset, and where in it.
fn part_at(iov: &[IoSlice<'_>], mut from: usize) -> Option<(usize, usize)> {
    for (at, part) in iov.iter().enumerate() {
        if from < part.len() {
            return Some((at, from));
        }
        from -= part.len();
    }
    None
}
