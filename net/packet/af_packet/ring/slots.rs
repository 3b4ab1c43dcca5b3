//! What a socket and its reader hand to each other: places with a status each, and in them frames or blocks.
//!
//! Key types: [`Slots`], [`InHand`]. Contexts: any. Lock: `class::Ring`, a place's, for a moment.
//! Invariant: a place is the socket's while its status is `TP_STATUS_KERNEL`, else the reader's: whoever has it writes
//! the status last and reads it first.

use crate::kernel::locking::{SpinLock, lockdep::class};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use uapi::if_packet::{TP_STATUS_KERNEL, TP_STATUS_USER};

struct Slot<B> {
    status: AtomicU32,
    /// Empty while the reader has it in hand.
    body: SpinLock<Option<Box<B>>, class::Ring>,
}

/// The places of a ring, shared by the socket and its reader.
pub(super) struct Slots<B>(Arc<[Slot<B>]>);

impl<B> Clone for Slots<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for Slots<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({})", self.len())
    }
}

impl<B> Slots<B> {
    /// So many places, all of them the socket's.
    pub(super) fn new(count: u32, body: impl Fn() -> B) -> Self {
        let slot = |_| Slot {
            status: AtomicU32::new(TP_STATUS_KERNEL),
            body: SpinLock::new(Some(Box::new(body()))),
        };
        Self((0..count).map(slot).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Somebody beside the socket has them.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// A place's `TP_STATUS_*`; `TP_STATUS_KERNEL` where there is no such place.
    pub(super) fn status(&self, at: usize) -> u32 {
        self.0.get(at).map_or(TP_STATUS_KERNEL, |slot| slot.status.load(Ordering::Acquire))
    }

    /// The place is the socket's.
    pub(super) fn is_free(&self, at: usize) -> bool {
        self.status(at) == TP_STATUS_KERNEL
    }

    /// The socket's side: works on what is in a place of its own.
    pub(super) fn with<R>(&self, at: usize, f: impl FnOnce(&mut B) -> R) -> Option<R> {
        self.0.get(at)?.body.lock().as_deref_mut().map(f)
    }

    /// The socket gives a place to the reader.
    pub(super) fn give(&self, at: usize, status: u32) {
        self.0[at].status.store(status, Ordering::Release);
    }

    /// The reader's side: takes a place in hand, if it is his and nobody has it.
    pub(super) fn take(&self, at: usize) -> Option<InHand<B>> {
        if self.status(at) & TP_STATUS_USER == 0 {
            return None;
        }
        let body = self.0.get(at)?.body.lock().take()?;
        Some(InHand { slots: self.clone(), at, body: Some(body) })
    }
}

/// What is in a place, in the reader's hand; dropping it gives it back to the socket.
pub(super) struct InHand<B> {
    slots: Slots<B>,
    pub(super) at: usize,
    /// There is one until it is dropped.
    body: Option<Box<B>>,
}

impl<B> Deref for InHand<B> {
    type Target = B;
    fn deref(&self) -> &B {
        self.body.as_deref().expect("in hand")
    }
}

impl<B> DerefMut for InHand<B> {
    fn deref_mut(&mut self) -> &mut B {
        self.body.as_deref_mut().expect("in hand")
    }
}

impl<B> Drop for InHand<B> {
    fn drop(&mut self) {
        let slot = &self.slots.0[self.at];
        *slot.body.lock() = self.body.take();
        slot.status.store(TP_STATUS_KERNEL, Ordering::Release);
    }
}
