//! Packet memory: a magazine per CPU, exchanged in batches with the machine's depot, under one
//! account with a hard cap.
//!
//! linux: mm/slub.c, net/core/skbuff.c (`napi_skb_cache`). Contexts: the magazine in BH; the depot
//! from any CPU under `class::Depot`, once a batch of 64.
//! Invariant: memory drawn from the system never exceeds the cap; nothing pooled is given back
//! before the machine ends, so a packet costs no allocation after warm-up.

use super::{Head, NET_SKB_PAD, SkBuff, Skb};
use crate::kernel::locking::{SpinLock, lockdep::class};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Bytes of a pooled head: a full frame of 1,500 bytes with room in front.
pub const SKB_DATA_SIZE: usize = 2048;
/// Packets exchanged between a magazine and the depot at a time.
const BATCH: usize = 64;
const HANDLE_SIZE: usize = size_of::<SkBuff>();

/// The machine's store of packet memory and its account.
pub struct Depot {
    cap: usize,
    used: AtomicUsize,
    /// Packets that fell out of scope.
    lost: AtomicUsize,
    spare: SpinLock<Spare, class::Depot>,
}

#[derive(Default)]
#[expect(clippy::vec_box, reason = "the box is what a packet's handle owns")]
struct Spare {
    /// Packets with a head of [`SKB_DATA_SIZE`].
    ready: Vec<Box<SkBuff>>,
    /// Packets without one, for clones and large heads.
    bare: Vec<Box<SkBuff>>,
}

impl Depot {
    /// An empty depot that draws at most `cap` bytes from the system.
    pub fn new(cap: usize) -> Self {
        let (used, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { cap, used, lost, spare: SpinLock::default() }
    }

    /// Bytes drawn from the system.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Packets that fell out of scope: unwound by a panic, or by a bug.
    pub fn lost_packets(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// A packet fell out of scope: its memory goes back to the system.
    pub(super) fn lost(&self, bytes: usize) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.uncharge(bytes);
    }

    /// The hard cap.
    pub fn cap(&self) -> usize {
        self.cap
    }

    fn charge(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.cap)
            })
            .is_ok()
    }

    fn uncharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn draw<T>(
        &self,
        into: &mut Vec<T>,
        list: fn(&mut Spare) -> &mut Vec<T>,
        size: usize,
        new: impl Fn() -> T,
    ) {
        let mut spare = self.spare.lock();
        let spare = list(&mut spare);
        let take = spare.len().saturating_sub(BATCH);
        into.extend(spare.drain(take..));
        if into.is_empty() {
            for _ in 0..BATCH {
                if !self.charge(size) {
                    break;
                }
                into.push(new());
            }
        }
    }
}

impl fmt::Debug for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Depot({} of {} bytes)", self.used(), self.cap)
    }
}

/// One CPU's magazine.
#[expect(clippy::vec_box, reason = "the box is what a packet's handle owns")]
pub struct SkbPool {
    depot: Arc<Depot>,
    ready: Vec<Box<SkBuff>>,
    bare: Vec<Box<SkBuff>>,
    /// Packets handed out here less packets that came home here; the sum over CPUs is what lives.
    live: i64,
}

impl SkbPool {
    /// An empty magazine of `depot`.
    pub fn new(depot: Arc<Depot>) -> Self {
        let magazine = || Vec::with_capacity(2 * BATCH + 1);
        Self { depot, ready: magazine(), bare: magazine(), live: 0 }
    }

    /// This CPU's share of the count of live packets; may be negative.
    pub fn live(&self) -> i64 {
        self.live
    }

    /// A packet with an empty head.
    pub(super) fn alloc_handle(&mut self) -> Option<Skb> {
        if self.bare.is_empty() {
            let home = Arc::downgrade(&self.depot);
            self.depot.draw(&mut self.bare, |s| &mut s.bare, HANDLE_SIZE, || new_handle(&home));
        }
        let handle = self.bare.pop()?;
        self.live += 1;
        Some(Skb::new(handle))
    }

    /// A packet with room for `size` bytes.
    #[inline(always)]
    pub(super) fn alloc(&mut self, size: usize) -> Option<Skb> {
        if size > SKB_DATA_SIZE {
            return self.alloc_large(size);
        }
        if self.ready.is_empty() {
            let size = SKB_DATA_SIZE + HANDLE_SIZE;
            let home = Arc::downgrade(&self.depot);
            self.depot.draw(&mut self.ready, |s| &mut s.ready, size, || new_ready(&home));
        }
        let mut handle = self.ready.pop()?;
        self.live += 1;
        handle.truesize = (SKB_DATA_SIZE + HANDLE_SIZE) as u32;
        Some(Skb::new(handle))
    }

    #[cold]
    fn alloc_large(&mut self, size: usize) -> Option<Skb> {
        let mut skb = self.alloc_handle()?;
        if !self.depot.charge(size) {
            self.free(skb);
            return None;
        }
        skb.truesize = (size + HANDLE_SIZE) as u32;
        skb.head = Head::Own(vec![0; size].into());
        Some(skb)
    }

    /// Takes a packet's memory home.
    #[inline(always)]
    pub(super) fn free(&mut self, skb: Skb) {
        self.live -= 1;
        let mut memory = skb.into_memory();
        memory.reset();
        match &memory.head {
            Head::Own(bytes) if bytes.len() == SKB_DATA_SIZE => self.ready.push(memory),
            _ => self.free_odd(memory),
        }
        if self.ready.len() > 2 * BATCH {
            self.spill();
        }
    }

    /// A packet without a head of the pooled size of its own.
    #[cold]
    fn free_odd(&mut self, mut memory: Box<SkBuff>) {
        let bytes = match std::mem::take(&mut memory.head) {
            Head::Own(bytes) => Some(bytes),
            // The last clone brings the head home.
            Head::Shared(bytes) => Arc::try_unwrap(bytes).ok(),
        };
        match bytes {
            Some(bytes) if bytes.len() == SKB_DATA_SIZE => {
                memory.head = Head::Own(bytes);
                self.ready.push(memory);
            }
            Some(bytes) => {
                self.depot.uncharge(bytes.len());
                self.bare.push(memory);
            }
            None => self.bare.push(memory),
        }
        if self.bare.len() > 2 * BATCH {
            self.spill();
        }
    }

    #[cold]
    fn spill(&mut self) {
        let mut spare = self.depot.spare.lock();
        let ready = self.ready.len().min(BATCH);
        spare.ready.extend(self.ready.drain(ready..));
        let bare = self.bare.len().min(BATCH);
        spare.bare.extend(self.bare.drain(bare..));
    }

    /// Gives `skb` a head of its own with at least `headroom` bytes in front.
    pub(super) fn expand_head(&mut self, skb: &mut Skb, headroom: usize) -> bool {
        let front = headroom.max(NET_SKB_PAD);
        let linear = skb.headlen();
        // The headers in front of the data move along: the link header of a clone stays readable.
        let kept = skb.headroom().min(front);
        let Some(mut fresh) = self.alloc(front + linear + 64) else { return false };
        let from = skb.data as usize - kept;
        let Head::Own(head) = &mut fresh.head else {
            self.free(fresh);
            return false;
        };
        let moved = &skb.head_bytes()[from..skb.tail as usize];
        head[front - kept..front + linear].copy_from_slice(moved);
        let truesize = fresh.truesize;
        // The old head goes home with the handle that brought the new one.
        std::mem::swap(&mut skb.head, &mut fresh.head);
        self.free(fresh);
        let shift = front as i64 - i64::from(skb.data);
        skb.shift_headers(shift);
        skb.data = front as u32;
        skb.tail = (front + linear) as u32;
        skb.truesize = skb.truesize.max(truesize);
        true
    }
}

fn new_handle(home: &Weak<Depot>) -> Box<SkBuff> {
    Box::new(SkBuff { home: Weak::clone(home), ..SkBuff::default() })
}

fn new_ready(home: &Weak<Depot>) -> Box<SkBuff> {
    let mut handle = new_handle(home);
    handle.head = Head::Own(vec![0; SKB_DATA_SIZE].into());
    handle
}

impl fmt::Debug for SkbPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SkbPool({} ready, {} bare)", self.ready.len(), self.bare.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_is_hard_and_freed_memory_serves_again() {
        let depot = Arc::new(Depot::new(BATCH * (SKB_DATA_SIZE + HANDLE_SIZE)));
        let mut pool = SkbPool::new(Arc::clone(&depot));
        let mut all: Vec<Skb> = std::iter::from_fn(|| pool.alloc(100)).collect();
        assert_eq!(all.len(), BATCH);
        assert!(depot.used() <= depot.cap());
        pool.free(all.pop().expect("one of many"));
        all.push(pool.alloc(100).expect("what was freed"));
        for skb in all {
            pool.free(skb);
        }
        assert_eq!(pool.live(), 0);
        assert!(pool.alloc(100_000).is_none(), "over the cap");
        assert_eq!(pool.live(), 0);
    }

    #[test]
    fn a_large_head_is_charged_and_uncharged() {
        let depot = Arc::new(Depot::new(1 << 20));
        let mut pool = SkbPool::new(Arc::clone(&depot));
        let before = {
            // Draws the handles that large packets take.
            let skb = pool.alloc_handle().expect("fits");
            pool.free(skb);
            depot.used()
        };
        let skb = pool.alloc(70_000).expect("fits");
        assert_eq!(depot.used(), before + 70_000);
        pool.free(skb);
        assert_eq!(depot.used(), before);
    }

    #[test]
    fn magazines_exchange_through_the_depot() {
        let depot = Arc::new(Depot::new(1 << 20));
        let (mut tx, mut rx) = (SkbPool::new(Arc::clone(&depot)), SkbPool::new(Arc::clone(&depot)));
        for _ in 0..100 {
            for _ in 0..BATCH {
                let skb = tx.alloc(64).expect("memory goes round");
                rx.free(skb);
            }
        }
        assert_eq!(tx.live() + rx.live(), 0);
        assert!(depot.used() <= 4 * BATCH * (SKB_DATA_SIZE + HANDLE_SIZE), "{depot:?}");
    }
}
