//! The charge of packets on their way out, and who is woken when it falls.
//!
//! linux: net/core/sock.c (`sock_wfree`). Context: BH.

use super::Sock;
use crate::kernel::context::BhCx;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::poll::{POLLOUT, POLLWRBAND, POLLWRNORM};

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

    /// Nobody.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The packet is gone: its charge too, and who waits for room is woken. The charge of one socket
    /// is kept for its next packet of this stay, so that a batch touches the socket's count once.
    ///
    /// linux: net/core/sock.c:sock_wfree
    #[inline]
    pub(crate) fn release(self, cx: &mut BhCx<'_>, truesize: u32) {
        let Some(sk) = self.0 else { return };
        let bytes = truesize as usize;
        match &mut cx.cpu.wmem {
            kept @ None => *kept = Some(WmemCharge { sk, bytes }),
            Some(kept) if Arc::ptr_eq(&kept.sk, &sk) => kept.bytes += bytes,
            Some(_) => WmemCharge { sk, bytes }.settle(cx),
        }
    }
}

/// A send-buffer charge whose packets are gone, kept by the CPU until its stay ends.
#[derive(Debug)]
pub(crate) struct WmemCharge {
    pub(super) sk: Arc<Sock>,
    pub(super) bytes: usize,
}

impl WmemCharge {
    pub(super) fn settle(self, cx: &mut BhCx<'_>) {
        let sk = self.sk;
        let left = sk.wmem_alloc.fetch_sub(self.bytes, Ordering::SeqCst) - self.bytes;
        if sk.nospace.load(Ordering::SeqCst) && left <= sk.sndbuf() / 2 {
            sk.nospace.store(false, Ordering::SeqCst);
            let events = (POLLOUT | POLLWRNORM | POLLWRBAND) as u32;
            sk.state().wake_up(cx, events);
        }
    }
}

/// The stay ends: the kept charge is given back.
#[cold]
pub(crate) fn settle_wmem(cx: &mut BhCx<'_>) {
    if let Some(kept) = cx.cpu.wmem.take() {
        kept.settle(cx);
    }
}
