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
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a pooled head: a full frame of 1,500 bytes with room in front.
pub const SKB_DATA_SIZE: usize = 2048;
/// Packets exchanged between a magazine and the depot at a time.
const BATCH: usize = 64;
const HANDLE_SIZE: usize = size_of::<SkBuff>();

/// The machine's store of packet memory and its account.
pub struct Depot {
    cap: usize,
    used: AtomicUsize,
    spare: SpinLock<Spare, class::Depot>,
}

#[derive(Default)]
#[expect(clippy::vec_box, reason = "the box is what a packet's handle owns")]
struct Spare {
    handles: Vec<Box<SkBuff>>,
    heads: Vec<Box<[u8]>>,
}

impl Depot {
    /// An empty depot that draws at most `cap` bytes from the system.
    pub fn new(cap: usize) -> Self {
        Self { cap, used: AtomicUsize::new(0), spare: SpinLock::default() }
    }

    /// Bytes drawn from the system.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
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
        new: fn() -> T,
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
    handles: Vec<Box<SkBuff>>,
    heads: Vec<Box<[u8]>>,
    /// Packets handed out here less packets that came home here; the sum over CPUs is what lives.
    live: i64,
}

impl SkbPool {
    /// An empty magazine of `depot`.
    pub fn new(depot: Arc<Depot>) -> Self {
        Self {
            depot,
            handles: Vec::with_capacity(2 * BATCH),
            heads: Vec::with_capacity(2 * BATCH),
            live: 0,
        }
    }

    /// This CPU's share of the count of live packets; may be negative.
    pub fn live(&self) -> i64 {
        self.live
    }

    /// A packet with an empty head.
    pub(super) fn alloc_handle(&mut self) -> Option<Skb> {
        if self.handles.is_empty() {
            self.depot.draw(&mut self.handles, |s| &mut s.handles, HANDLE_SIZE, Box::default);
        }
        let handle = self.handles.pop()?;
        self.live += 1;
        Some(Skb::new(handle))
    }

    fn alloc_head(&mut self, size: usize) -> Option<Box<[u8]>> {
        if size > SKB_DATA_SIZE {
            return self.depot.charge(size).then(|| vec![0; size].into());
        }
        if self.heads.is_empty() {
            self.depot.draw(&mut self.heads, |s| &mut s.heads, SKB_DATA_SIZE, new_head);
        }
        self.heads.pop()
    }

    /// A packet with room for `size` bytes.
    #[inline]
    pub(super) fn alloc(&mut self, size: usize) -> Option<Skb> {
        let mut skb = self.alloc_handle()?;
        let Some(head) = self.alloc_head(size) else {
            self.free(skb);
            return None;
        };
        skb.truesize = (head.len() + HANDLE_SIZE) as u32;
        skb.head = Head::Own(head);
        Some(skb)
    }

    /// Takes a packet's memory home.
    #[inline]
    pub(super) fn free(&mut self, skb: Skb) {
        self.live -= 1;
        let mut memory = skb.into_memory();
        let head = std::mem::take(&mut memory.head);
        *memory = SkBuff::default();
        self.handles.push(memory);
        self.free_head(head);
        if self.handles.len() >= 2 * BATCH || self.heads.len() >= 2 * BATCH {
            self.spill();
        }
    }

    fn free_head(&mut self, head: Head) {
        let bytes = match head {
            Head::Own(bytes) => bytes,
            Head::Shared(bytes) => match Arc::try_unwrap(bytes) {
                Ok(bytes) => bytes,
                Err(_still_shared) => return,
            },
        };
        match bytes.len() {
            0 => (),
            SKB_DATA_SIZE => self.heads.push(bytes),
            large => self.depot.uncharge(large),
        }
    }

    #[cold]
    fn spill(&mut self) {
        let mut spare = self.depot.spare.lock();
        let handles = self.handles.len().min(BATCH);
        spare.handles.extend(self.handles.drain(handles..));
        let heads = self.heads.len().min(BATCH);
        spare.heads.extend(self.heads.drain(heads..));
    }

    /// Gives `skb` a head of its own with at least `headroom` bytes in front.
    pub(super) fn expand_head(&mut self, skb: &mut Skb, headroom: usize) -> bool {
        let front = headroom.max(NET_SKB_PAD);
        let linear = skb.headlen();
        // The headers in front of the data move along: the link header of a clone stays readable.
        let kept = skb.headroom().min(front);
        let Some(mut head) = self.alloc_head(front + linear + 64) else { return false };
        let from = skb.data as usize - kept;
        head[front - kept..front + linear]
            .copy_from_slice(&skb.head_bytes()[from..skb.tail as usize]);
        let shift = front as i64 - i64::from(skb.data);
        skb.shift_headers(shift);
        skb.data = front as u32;
        skb.tail = (front + linear) as u32;
        skb.truesize = skb.truesize.max((head.len() + HANDLE_SIZE) as u32);
        let old = std::mem::replace(&mut skb.head, Head::Own(head));
        self.free_head(old);
        true
    }
}

fn new_head() -> Box<[u8]> {
    vec![0; SKB_DATA_SIZE].into()
}

impl fmt::Debug for SkbPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SkbPool({} handles, {} heads)", self.handles.len(), self.heads.len())
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
            let skb = pool.alloc(10).expect("fits");
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
