//! What a socket's lock protects, and what is done under it: queues, errors, wake-ups.
//!
//! linux: net/core/sock.c, include/net/sock.h. Contexts: BH and task, under `class::Sock`.

use super::{RCV_SHUTDOWN, SEND_SHUTDOWN, SockState};
use crate::kernel::context::BhCx;
use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{Skb, SkbList};
use std::fmt;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRNORM};

/// What an error may change.
pub(super) const ERROR_EVENTS: u32 = (POLLERR | POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) as u32;

impl SockState {
    /// The pending error, which is returned once.
    ///
    /// linux: include/net/sock.h:sock_error
    #[inline]
    pub fn sock_error(&mut self) -> Result<(), Errno> {
        if self.err.is_none() { Ok(()) } else { self.err.take().map_or(Ok(()), Err) }
    }

    /// The part of a poll mask that does not depend on the send buffer.
    pub fn readable_mask(&self) -> u32 {
        let mut mask = 0;
        if self.err.is_some() || self.errors() != 0 {
            mask |= POLLERR;
        }
        if self.dead {
            // A panic under its lock killed it: there is a descriptor all the same.
            mask |= POLLERR | POLLHUP;
        }
        if self.shutdown & RCV_SHUTDOWN != 0 {
            mask |= POLLRDHUP | POLLIN | POLLRDNORM;
        }
        if self.shutdown == RCV_SHUTDOWN | SEND_SHUTDOWN {
            mask |= POLLHUP;
        }
        if !self.receive_queue.is_empty() {
            mask |= POLLIN | POLLRDNORM;
        }
        mask as u32
    }

    /// Wakes who waits for any of `events`, one exclusive waiter at the most.
    ///
    /// linux: include/linux/wait.h:wake_up_interruptible_sync_poll
    pub(crate) fn wake_up(&mut self, cx: &mut BhCx<'_>, events: u32) {
        if self.wq.wake_up(events, &mut cx.cpu.wakeups) {
            walk!(cx, ep_poll_callback => u64::from(events));
        }
    }

    /// Wakes everybody who waits for any of `events`.
    pub(crate) fn wake_up_all(&mut self, cx: &mut BhCx<'_>, events: u32) {
        if self.wq.wake_up_all(events, &mut cx.cpu.wakeups) {
            walk!(cx, ep_poll_callback => u64::from(events));
        }
    }

    /// Wakes who waits for something to read.
    ///
    /// linux: net/core/sock.c:sock_def_readable (`sk_data_ready`)
    /// linux: include/net/sock.h:sk_data_ready
    #[inline]
    pub fn sk_data_ready(&mut self, cx: &mut BhCx<'_>) {
        if !self.wq.is_empty() {
            walk!(cx, sock_def_readable);
            self.wake_up(cx, (POLLIN | POLLRDNORM) as u32);
        }
    }

    /// Sets the error and wakes everybody.
    ///
    /// linux: net/core/sock.c:sock_def_error_report
    pub fn sk_error_report(&mut self, cx: &mut BhCx<'_>, error: Option<Errno>) {
        if error.is_some() {
            self.err = error;
        }
        self.wake_up_all(cx, ERROR_EVENTS);
    }

    /// A task owns the socket.
    ///
    /// linux: include/net/sock.h:sock_owned_by_user
    #[inline]
    pub fn sock_owned_by_user(&self) -> bool {
        self.owner.owned()
    }

    /// The buffers are full: the receive queue and the backlog together.
    ///
    /// linux: include/net/sock.h:sk_rcvqueues_full
    #[inline]
    pub fn sk_rcvqueues_full(&self, limit: usize) -> bool {
        self.rmem_alloc + self.backlog_len > limit
    }

    /// Bytes in the backlog.
    #[inline]
    pub(crate) fn backlog_len(&self) -> usize {
        self.backlog_len
    }

    /// Leaves a packet to whoever owns the socket; gives it back when queue and backlog together hold more
    /// than `limit`.
    ///
    /// linux: include/net/sock.h:sk_add_backlog
    pub fn sk_add_backlog(&mut self, cx: &mut BhCx<'_>, skb: Skb, limit: usize) -> Result<(), Skb> {
        walk!(cx, skb, sk_add_backlog);
        if self.sk_rcvqueues_full(limit) {
            return Err(skb);
        }
        self.backlog_len += skb.truesize as usize;
        self.owner.backlog.skb_queue_tail(skb);
        Ok(())
    }

    /// Queues packets for reading and wakes a reader; those that come when the receive buffer is
    /// full (`rmem_default`, `rmem_max` and `SO_RCVBUF` decide) stay in the list.
    ///
    /// linux: net/core/sock.c:sock_queue_rcv_skb
    #[inline(always)]
    pub fn sock_queue_rcv_skb(&mut self, cx: &mut BhCx<'_>, list: &mut SkbList) {
        walk!(cx, list, sock_queue_rcv_skb);
        // The route leads here, it has done its work.
        if let Some(dst) = list.dst.take() {
            cx.cpu.routes.give_back(dst);
        }
        // One that comes while there is room fits, however long it is.
        if let [only] = &mut list.packets[..]
            && self.rmem_alloc <= self.opts.rcvbuf as usize
        {
            self.rmem_alloc += only.truesize as usize;
            only.dev = None;
            list.move_last(self.receive_queue.tail());
            self.sk_data_ready(cx);
        } else {
            self.queue_several(cx, list);
        }
    }

    #[inline(never)]
    fn queue_several(&mut self, cx: &mut BhCx<'_>, list: &mut SkbList) {
        let (mut before_last, mut charged) = (0, self.rmem_alloc);
        let mut dev = None;
        for skb in list.iter_mut() {
            (before_last, charged) = (charged, charged + skb.truesize as usize);
            dev = skb.dev.take();
        }
        if before_last > self.opts.rcvbuf as usize {
            return self.queue_what_fits(cx, list, dev);
        }
        self.rmem_alloc = charged;
        list.move_to(list.len(), self.receive_queue.tail());
        self.sk_data_ready(cx);
    }

    #[cold]
    fn queue_what_fits(&mut self, cx: &mut BhCx<'_>, list: &mut SkbList, dev: Option<DevId>) {
        let mut fit = 0;
        for skb in list.iter_mut() {
            if self.rmem_alloc > self.opts.rcvbuf as usize {
                skb.dev = dev;
            } else {
                self.rmem_alloc += skb.truesize as usize;
                fit += 1;
            }
        }
        if fit != 0 {
            list.move_to(fit, self.receive_queue.tail());
            self.sk_data_ready(cx);
        }
    }

    /// The packet that a peek sees, and from where on.
    pub(crate) fn to_peek(&self) -> Option<(&Skb, usize)> {
        let Ok(mut offset) = usize::try_from(self.opts.peek_off) else {
            return self.receive_queue.skb_peek().map(|skb| (skb, 0));
        };
        for skb in self.receive_queue.iter() {
            // An empty datagram is seen when nothing is to be passed over.
            if offset < skb.len() || offset == 0 {
                return Some((skb, offset));
            }
            offset -= skb.len();
        }
        None
    }

    /// A peek moves on.
    ///
    /// linux: net/core/sock.c:sk_peek_offset_fwd
    pub(crate) fn sk_peek_offset_fwd(&mut self, bytes: usize) {
        if self.opts.peek_off >= 0 {
            self.opts.peek_off = self.opts.peek_off.saturating_add(bytes as i32);
        }
    }

    /// What was read is no longer in front of the next peek.
    ///
    /// linux: include/net/sock.h:sk_peek_offset_bwd
    #[inline]
    pub(crate) fn sk_peek_offset_bwd(&mut self, bytes: usize) {
        if self.opts.peek_off > 0 {
            self.opts.peek_off = (self.opts.peek_off - bytes as i32).max(0);
        }
    }

    /// Takes the next packet to read.
    #[inline]
    pub fn dequeue(&mut self) -> Option<Skb> {
        let skb = self.receive_queue.skb_dequeue()?;
        self.rmem_alloc -= skb.truesize as usize;
        Some(skb)
    }

    /// Takes up to `most` packets that are to be read, the oldest first.
    pub(crate) fn dequeue_several(&mut self, most: usize, to: &mut Vec<Skb>) {
        self.receive_queue.take_first(most, to);
        for skb in to.iter() {
            self.rmem_alloc -= skb.truesize as usize;
            self.sk_peek_offset_bwd(skb.len());
        }
    }
}

impl fmt::Debug for SockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SockState({} to read, owned {})", self.receive_queue.len(), self.owner.owned())
    }
}
