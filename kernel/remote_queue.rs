//! A bounded queue from any CPU to one: how packets reach another CPU's backlog.
//!
//! linux: net/core/dev.c (`input_pkt_queue` of `softnet_data`, its lock and its two counts). Key type:
//! [`RemoteQueue`]. Contexts: [`RemoteQueue::push`] on any CPU, in BH; the rest on the owner alone,
//! but for [`RemoteQueue::passed`] and the counts, which anybody reads. Locks: `class::Backlog`, a leaf,
//! once a batch.
//! Depends on nothing but the lock and the atomics, so that a model checker can compile this very file.
//! Invariants:
//! - What was pushed comes out in the order of the pushes, once.
//! - Whoever finds the queue empty when he pushes is told so ([`Pushed::first`]) and wakes the owner
//!   afterwards. Who finds it not empty need not: the one before him wakes, or has woken, and the owner
//!   takes all there is or comes again.
//! - A position says how many were pushed before and with it. [`RemoteQueue::passed`] holds of a
//!   position only when all those have *ended*, not when they were taken: what the owner did with them
//!   happened before.
//! - At most as many wait as the last push allowed.

use crate::kernel::locking::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::kernel::locking::{SpinLock, lockdep::class};
use std::collections::VecDeque;
use std::fmt;

/// A queue from any CPU to its owner.
pub struct RemoteQueue<T> {
    waiting: SpinLock<Waiting<T>, class::Backlog>,
    /// How many wait, for a look without the lock.
    len: AtomicUsize,
    /// How many have ended.
    ended: AtomicU64,
    /// How many found no room.
    dropped: AtomicU64,
}

struct Waiting<T> {
    items: VecDeque<T>,
    /// How many were ever pushed.
    pushed: u64,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The position behind the last that is in the queue.
    pub position: u64,
    /// The queue was empty: the owner is to be woken.
    pub first: bool,
}

impl<T> Default for RemoteQueue<T> {
    fn default() -> Self {
        Self {
            waiting: SpinLock::new(Waiting { items: VecDeque::new(), pushed: 0 }),
            len: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl<T> RemoteQueue<T> {
    /// Appends a batch, as far as no more than `limit` wait then: the rest stays in `batch`, counted as
    /// dropped.
    pub fn push(&self, batch: &mut Vec<T>, limit: usize) -> Pushed {
        let mut waiting = self.waiting.lock();
        let first = waiting.items.is_empty();
        let room = limit.saturating_sub(waiting.items.len()).min(batch.len());
        waiting.items.extend(batch.drain(..room));
        waiting.pushed += room as u64;
        self.len.store(waiting.items.len(), Ordering::Release);
        let position = waiting.pushed;
        drop(waiting);
        if !batch.is_empty() {
            self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Pushed { position, first: first && room != 0 }
    }

    /// The owner takes all that waits; `into` is empty. False when nothing waits.
    pub fn take(&self, into: &mut VecDeque<T>) -> bool {
        if self.is_empty() {
            return false;
        }
        debug_assert!(into.is_empty(), "what was taken before has ended");
        let mut waiting = self.waiting.lock();
        std::mem::swap(&mut waiting.items, into);
        self.len.store(waiting.items.len(), Ordering::Release);
        true
    }

    /// Nothing waits. The owner who reads this may rest: who pushes later finds the queue empty, and
    /// wakes.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// The owner has ended all that it took but `left`.
    pub fn end_all_but(&self, taken: u64, left: usize) {
        self.ended.store(taken - left as u64, Ordering::Release);
    }

    /// All up to this position have ended.
    pub fn passed(&self, position: u64) -> bool {
        self.ended.load(Ordering::Acquire) >= position
    }

    /// The position behind the last that was pushed.
    pub fn position(&self) -> u64 {
        self.waiting.lock().pushed
    }

    /// How many found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What waits, when nobody else can use the queue.
    pub fn get_mut(&mut self) -> &mut VecDeque<T> {
        &mut self.waiting.get_mut().items
    }
}

impl<T> fmt::Debug for RemoteQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteQueue({} wait)", self.len())
    }
}

#[cfg(test)]
mod tests;
