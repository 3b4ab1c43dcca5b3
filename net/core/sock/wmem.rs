//! The charge of packets on their way out, and who is woken when it falls.
//!
//! linux: net/core/sock.c (`sock_wfree`). Context: BH.

use super::Sock;
use crate::kernel::context::BhCx;
use crate::kernel::softirq::{__raise_softirq_irqoff, Softirq};
use crate::net::core::skbuff::{SkBuff, Skb, SkbList};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::poll::{POLLOUT, POLLWRBAND, POLLWRNORM};

impl Sock {
    /// Room to send; if not, the next packet that leaves wakes who waits.
    ///
    /// linux: include/net/sock.h:sock_writeable
    pub fn sock_writeable(&self) -> bool {
        if self.wmem_alloc() < self.sndbuf() / 2 {
            return true;
        }
        self.nospace.store(true, Ordering::SeqCst);
        // Looked at again: a packet may have left before the flag was seen.
        self.wmem_alloc() < self.sndbuf() / 2
    }

    /// Room for one more packet in the send buffer, beside `more` bytes that are not charged yet; if
    /// not, a packet that leaves wakes who waits.
    #[inline]
    pub fn sock_wspace(&self, more: usize) -> bool {
        if self.wmem_alloc() + more < self.sndbuf() {
            return true;
        }
        self.nospace.store(true, Ordering::SeqCst);
        self.wmem_alloc() + more < self.sndbuf()
    }
}

/// Who is charged for a packet.
#[derive(Debug, Default)]
pub struct SkbOwner(pub(super) Option<Arc<Sock>>);

impl SkbOwner {
    /// The packet fell out of scope: its charge goes with it.
    #[cold]
    pub(crate) fn abandon(&mut self, truesize: u32) {
        if let Some(sk) = self.0.take() {
            sk.wmem_alloc.fetch_sub(truesize as usize, Ordering::SeqCst);
        }
    }

    /// Who.
    #[inline]
    pub(crate) fn sock(&self) -> Option<&Arc<Sock>> {
        self.0.as_ref()
    }

    /// Nobody.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Charges for a packet's segments, too: `bytes` in all.
    pub(crate) fn share(&self, segments: &mut [Skb], bytes: usize) {
        let Some(sk) = &self.0 else { return };
        sk.wmem_alloc.fetch_add(bytes, Ordering::Relaxed);
        segments.iter_mut().for_each(|skb| skb.owner = Self(Some(Arc::clone(sk))));
    }

    /// Parts of a packet become packets: each takes its part of the charge along.
    pub(crate) fn share_out<'a>(&self, parts: impl Iterator<Item = &'a mut Skb>) {
        if self.0.is_some() {
            parts.for_each(|skb| skb.owner = Self(self.0.clone()));
        }
    }

    /// The packet is gone: its charge too, and who waits for room is woken. The charge of one socket
    /// is kept for its next packet of this stay, so that a batch touches the socket's count once.
    ///
    /// linux: net/core/sock.c:sock_wfree
    #[inline]
    pub(crate) fn release(self, cx: &mut BhCx<'_>, truesize: u32) {
        let Some(sk) = self.0 else { return };
        WmemCharge { sk, bytes: truesize as usize }.keep(cx);
    }
}

/// A send-buffer charge whose packets are gone, kept by the CPU until its stay ends.
#[derive(Debug)]
pub(crate) struct WmemCharge {
    pub(super) sk: Arc<Sock>,
    pub(super) bytes: usize,
}

/// Charges kept by a CPU. They are settled where no socket's lock is held: settling takes one.
#[derive(Debug, Default)]
pub(crate) struct WmemCharges {
    /// Of the socket whose packets went last.
    last: Option<WmemCharge>,
    /// Of others.
    others: Vec<WmemCharge>,
}

impl WmemCharges {
    /// None is kept.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none() && self.others.is_empty()
    }

    #[cold]
    fn keep_other(&mut self, charge: WmemCharge) {
        match self.others.last_mut() {
            Some(kept) if Arc::ptr_eq(&kept.sk, &charge.sk) => kept.bytes += charge.bytes,
            _ => self.others.push(charge),
        }
    }
}

impl WmemCharge {
    /// Keeps a charge whose packets are gone.
    #[inline]
    fn keep(self, cx: &mut BhCx<'_>) {
        match &mut cx.cpu.wmem.last {
            kept @ None => {
                *kept = Some(self);
                cx.cpu.unsettled = true;
            }
            Some(kept) if Arc::ptr_eq(&kept.sk, &self.sk) => kept.bytes += self.bytes,
            Some(_) => cx.cpu.wmem.keep_other(self),
        }
    }

    fn settle(self, cx: &mut BhCx<'_>) {
        let sk = self.sk;
        let left = sk.wmem_alloc.fetch_sub(self.bytes, Ordering::SeqCst) - self.bytes;
        if sk.nospace.load(Ordering::SeqCst) && left <= sk.sndbuf() / 2 {
            sk.nospace.store(false, Ordering::SeqCst);
            let events = (POLLOUT | POLLWRNORM | POLLWRBAND) as u32;
            sk.state().wake_up(cx, events);
        }
        // A stream that waits for the queues below goes on by a tasklet.
        if sk.throttled.load(Ordering::SeqCst) {
            sk.throttled.store(false, Ordering::SeqCst);
            cx.cpu.tsq.push(sk);
            __raise_softirq_irqoff(cx, Softirq::Tasklet);
        }
    }
}

/// The send-buffer charge of a list's packets: one for all of them.
#[derive(Debug, Default)]
pub(crate) struct ListCharge(Option<WmemCharge>);

impl ListCharge {
    /// Somebody is charged.
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// A packet of `before` bytes has become segments of `bytes` in all.
    pub(crate) fn grow(&mut self, bytes: usize, before: usize) {
        if let Some(charge) = &mut self.0 {
            let more = bytes.saturating_sub(before);
            charge.sk.wmem_alloc.fetch_add(more, Ordering::Relaxed);
            charge.bytes += more;
        }
    }

    /// Whose a packet of the list is.
    pub(crate) fn sock_of<'a>(&'a self, skb: &'a SkBuff) -> Option<&'a Arc<Sock>> {
        skb.owner.0.as_ref().or_else(|| self.0.as_ref().map(|charge| &charge.sk))
    }

    /// A packet leaves the list: its part of the charge becomes its own.
    #[inline]
    pub(crate) fn endow(&mut self, skb: &mut SkBuff) {
        if let Some(charge) = &mut self.0
            && skb.owner.is_none()
        {
            let bytes = skb.truesize as usize;
            debug_assert!(bytes <= charge.bytes, "the list is charged for each packet");
            charge.bytes = charge.bytes.saturating_sub(bytes);
            skb.owner = SkbOwner(Some(Arc::clone(&charge.sk)));
        }
    }

    /// The list is used up.
    #[inline]
    pub(crate) fn release(&mut self, cx: &mut BhCx<'_>) {
        if let Some(charge) = self.0.take() {
            charge.keep(cx);
        }
    }
}

impl Drop for ListCharge {
    /// Full only when a panic unwinds the list: the charge goes with it.
    fn drop(&mut self) {
        if let Some(charge) = self.0.take() {
            charge.sk.wmem_alloc.fetch_sub(charge.bytes, Ordering::SeqCst);
        }
    }
}

impl Sock {
    /// Its packets in the queues below are many enough: it is told when some have left.
    ///
    /// linux: include/linux/tcp.h:TSQF_THROTTLED
    pub(crate) fn throttle(&self) {
        self.throttled.store(true, Ordering::SeqCst);
    }

    /// Charges a list's packets that are on their way out: `bytes` in all.
    ///
    /// linux: net/core/sock.c:skb_set_owner_w
    #[inline]
    pub(crate) fn skb_set_owner_w(
        self: &Arc<Self>,
        cx: &mut BhCx<'_>,
        list: &mut SkbList,
        bytes: usize,
    ) {
        list.charge = ListCharge(Some(match cx.cpu.wmem.last.take() {
            // Charged already, in part or more, by packets of this stay that are gone.
            Some(kept) if Arc::ptr_eq(&kept.sk, self) => {
                if kept.bytes < bytes {
                    self.wmem_alloc.fetch_add(bytes - kept.bytes, Ordering::Relaxed);
                    WmemCharge { bytes, ..kept }
                } else {
                    kept
                }
            }
            kept => {
                if let Some(kept) = kept {
                    cx.cpu.wmem.keep_other(kept);
                }
                self.wmem_alloc.fetch_add(bytes, Ordering::Relaxed);
                WmemCharge { sk: Arc::clone(self), bytes }
            }
        }));
    }
}

/// The stay ends: the kept charge is given back.
#[cold]
pub(crate) fn settle_wmem(cx: &mut BhCx<'_>) {
    if !cx.cpu.wmem.others.is_empty() {
        let mut others = std::mem::take(&mut cx.cpu.wmem.others);
        for charge in others.drain(..) {
            charge.settle(cx);
        }
        // Settling keeps nothing: the list's memory serves the next stay.
        cx.cpu.wmem.others = others;
    }
    if let Some(last) = cx.cpu.wmem.last.take() {
        last.settle(cx);
    }
}
