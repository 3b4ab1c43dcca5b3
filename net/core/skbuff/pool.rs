//! Packet memory: a magazine per CPU, exchanged in batches with the machine's [`Depot`].
//!
//! linux: mm/slub.c, net/core/skbuff.c (`napi_skb_cache`). Contexts: BH.
//! Invariant: nothing pooled is given back before the machine ends, so a packet costs no allocation after
//! warm-up.

use super::depot::{Depot, Store};
use super::{Buffer, Head, NET_SKB_PAD, PAGE_FRAG_SIZE, Page, PageFrag, SkBuff, Skb, UbufInfo};
use std::fmt;
use std::sync::{Arc, Weak};

/// Bytes of the larger pooled head: a full frame of 1,500 bytes with room in front.
pub const SKB_DATA_SIZE: usize = 2048;
/// Bytes of the smaller one: what most datagrams and acknowledgements need, so that a socket's
/// buffer holds as many of them as Linux's does.
pub const SKB_SMALL_DATA_SIZE: usize = 512;
/// The sizes of pooled heads, smallest first.
pub(super) const SIZES: [usize; 2] = [SKB_SMALL_DATA_SIZE, SKB_DATA_SIZE];
/// Packets exchanged between a magazine and the depot at a time.
pub(super) const BATCH: usize = 64;
/// Pages of a CPU's that wait to be filled, at the most; half of them go to the depot and come from there.
const PAGES: usize = 32;
pub(super) const HANDLE_SIZE: usize = size_of::<SkBuff>();

/// What a packet of so many octets is charged with, its headers and what is in front of them aside.
///
/// linux: include/linux/skbuff.h:SKB_TRUESIZE
pub(crate) fn skb_truesize(len: usize) -> usize {
    let size = len + NET_SKB_PAD;
    HANDLE_SIZE + SIZES.into_iter().find(|pooled| size <= *pooled).unwrap_or(size)
}

/// One CPU's magazine.
pub struct SkbPool {
    depot: Arc<Depot>,
    store: Store,
    /// The page that sockets of this CPU fill now.
    page_frag: Option<PageFrag>,
    /// Packets handed out here less packets that came home here; the sum over CPUs is what lives.
    live: i64,
}

impl SkbPool {
    /// An empty magazine of `depot`.
    pub fn new(depot: Arc<Depot>) -> Self {
        let magazine = || Vec::with_capacity(2 * BATCH);
        let pages = Vec::with_capacity(PAGES);
        let store = Store { ready: [magazine(), magazine()], bare: magazine(), pages };
        Self { depot, store, page_frag: None, live: 0 }
    }

    /// This CPU's share of the count of live packets; may be negative.
    pub fn live(&self) -> i64 {
        self.live
    }

    /// The page that payload of this CPU's sockets goes to, with room for at least a byte; `None` when
    /// memory is used up.
    ///
    /// linux: net/core/sock.c:sk_page_frag_refill
    pub(crate) fn page_frag_refill(&mut self) -> Option<&mut PageFrag> {
        if self.page_frag.as_ref().is_none_or(|frag| frag.room() == 0) {
            self.page_frag = self.new_page_frag();
        }
        self.page_frag.as_mut()
    }

    #[cold]
    fn new_page_frag(&mut self) -> Option<PageFrag> {
        if let Some(full) = self.page_frag.take() {
            // To be filled anew if all that refers to it is gone already.
            let page = Arc::clone(full.place().0);
            drop(full);
            let foreign = self.put_page(page);
            debug_assert!(foreign.is_none(), "nobody fills a foreign page");
        }
        self.new_page()
    }

    /// A page to fill, from its beginning; `None` when memory is used up.
    pub(crate) fn new_page(&mut self) -> Option<PageFrag> {
        if self.store.pages.is_empty() {
            self.depot.draw_pages(&mut self.store.pages, PAGES / 2);
        }
        if let Some(frag) = self.store.pages.pop().and_then(PageFrag::of) {
            return Some(frag);
        }
        if !self.depot.charge(PAGE_FRAG_SIZE) {
            return None;
        }
        PageFrag::of(Arc::new(Page::new(Arc::downgrade(&self.depot))))
    }

    /// A packet that referred to a page is gone: the last one brings the page home. One that is not ours comes
    /// back.
    #[inline]
    pub(super) fn put_page(&mut self, page: Arc<Page>) -> Option<Arc<Page>> {
        // One that is looked at by somebody else at this moment goes when he does.
        if Arc::strong_count(&page) == 1 && page.is_of(&self.depot) {
            if self.store.pages.len() == PAGES {
                self.depot.spill_pages(&mut self.store.pages, PAGES / 2);
            }
            self.store.pages.push(page);
            return None;
        }
        page.is_foreign().then_some(page)
    }

    /// A page that is a copy of `bytes`, of which `ubuf` hears when it is gone; `None` when memory is used up.
    #[cold]
    pub(super) fn copied_page(
        &mut self,
        bytes: &[u8],
        ubuf: Option<Arc<UbufInfo>>,
    ) -> Option<Arc<Page>> {
        if !self.depot.charge(bytes.len()) {
            return None;
        }
        Some(Arc::new(Page::copied(bytes, ubuf, Arc::downgrade(&self.depot))))
    }

    /// A packet with an empty head.
    pub(crate) fn alloc_handle(&mut self) -> Option<Skb> {
        if self.store.bare.is_empty() {
            let home = Arc::downgrade(&self.depot);
            let new = || new_handle(&home);
            self.depot.draw(&mut self.store.bare, |s| &mut s.bare, HANDLE_SIZE, new);
        }
        let handle = self.store.bare.pop()?;
        self.live += 1;
        Some(Skb::new(handle))
    }

    /// A packet with room for `size` bytes.
    #[inline(always)]
    pub(crate) fn alloc(&mut self, size: usize) -> Option<Skb> {
        let (list, room) = if size <= SKB_SMALL_DATA_SIZE {
            (&mut self.store.ready[0], SKB_SMALL_DATA_SIZE)
        } else if size <= SKB_DATA_SIZE {
            (&mut self.store.ready[1], SKB_DATA_SIZE)
        } else {
            return self.alloc_large(size);
        };
        let Some(mut handle) = list.pop() else { return self.alloc_drawn(size) };
        self.live += 1;
        debug_assert_eq!(handle.head.size(), room, "the magazine keeps packets by their size");
        handle.truesize = (room + HANDLE_SIZE) as u32;
        Some(Skb::new(handle))
    }

    /// From an empty magazine: a batch is drawn first.
    #[cold]
    fn alloc_drawn(&mut self, size: usize) -> Option<Skb> {
        let class = SIZES.iter().position(|room| size <= *room)?;
        self.draw_ready(class);
        let mut handle = self.store.ready[class].pop()?;
        self.live += 1;
        handle.truesize = (handle.head.size() + HANDLE_SIZE) as u32;
        Some(Skb::new(handle))
    }

    fn draw_ready(&mut self, class: usize) {
        let home = Arc::downgrade(&self.depot);
        let new = || new_ready(&home, SIZES[class]);
        let size = SIZES[class] + HANDLE_SIZE;
        self.depot.draw(&mut self.store.ready[class], |s| &mut s.ready[class], size, new);
    }

    #[cold]
    fn alloc_large(&mut self, size: usize) -> Option<Skb> {
        let mut skb = self.alloc_handle()?;
        if !self.depot.charge(size) {
            self.free(skb);
            return None;
        }
        skb.truesize = (size + HANDLE_SIZE) as u32;
        skb.head = Head::new(Buffer::new(size));
        Some(skb)
    }

    /// Takes a packet's memory home. What else it had was given back before.
    #[inline(always)]
    pub(crate) fn free(&mut self, skb: Skb) {
        debug_assert!(!skb.has_more_than_bytes(), "the end of a packet gives its parts back");
        self.live -= 1;
        let mut memory = skb.into_memory();
        memory.reset();
        if memory.head.is_shared() {
            return self.free_odd(memory);
        }
        let list = match memory.head.size() {
            SKB_SMALL_DATA_SIZE => &mut self.store.ready[0],
            SKB_DATA_SIZE => &mut self.store.ready[1],
            _ => return self.free_odd(memory),
        };
        // One look at the length serves both: a list that is full spills, one that is not need not grow.
        if list.len() == list.capacity() {
            return self.free_odd(memory);
        }
        list.push(memory);
    }

    /// Takes the memory of several packets home at once, if all of them are plain: nothing but a
    /// head of their own, all of one pooled size. False, and nothing taken, if one is not.
    pub(super) fn free_plain(&mut self, freed: &mut Vec<Skb>) -> bool {
        let size = freed.first().map_or(0, |skb| skb.head.size());
        let Some(class) = SIZES.iter().position(|pooled| *pooled == size) else { return false };
        let plain = freed.iter_mut().all(|skb| {
            let plain = skb.is_plain(size);
            if plain {
                skb.reset();
            }
            plain
        });
        let list = &self.store.ready[class];
        if !plain || freed.len() > BATCH {
            return false;
        }
        if list.len() + freed.len() > list.capacity() {
            self.spill();
        }
        self.live -= freed.len() as i64;
        self.store.ready[class].extend(freed.drain(..).map(Skb::into_memory));
        true
    }

    /// A packet without a head of a pooled size of its own, or for a list that is full.
    #[cold]
    fn free_odd(&mut self, mut memory: Box<SkBuff>) {
        // First, so that no list outgrows its memory.
        let full = |list: &Vec<_>| list.len() >= 2 * BATCH;
        if self.store.ready.iter().any(full) || full(&self.store.bare) {
            self.spill();
        }
        // The last clone brings the head home.
        let buffer = memory.head.take_buffer();
        let class = buffer.as_ref().and_then(|b| SIZES.iter().position(|size| *size == b.len()));
        match (buffer, class) {
            (Some(buffer), Some(class)) => {
                memory.head = Head::new(buffer);
                self.store.ready[class].push(memory);
            }
            (buffer, _) => {
                self.depot.uncharge(buffer.map_or(0, |buffer| buffer.len()));
                self.store.bare.push(memory);
            }
        }
    }

    /// Gives what is over a batch to the depot.
    #[cold]
    fn spill(&mut self) {
        self.depot.spill(&mut self.store);
    }

    /// Gives `skb` a head of its own with at least `headroom` bytes in front.
    pub(super) fn expand_head(&mut self, skb: &mut Skb, headroom: usize) -> bool {
        let front = headroom.max(NET_SKB_PAD);
        let linear = skb.headlen();
        // The headers in front of the data move along: the link header of a clone stays readable.
        let kept = skb.headroom().min(front);
        let Some(mut fresh) = self.alloc(front + linear + 64) else { return false };
        fresh.head.reserve(front - kept);
        let from = skb.headroom() - kept;
        let (Some(old), Some(room)) = (skb.head.linear_at(from), fresh.head.put(kept + linear))
        else {
            self.free(fresh);
            return false;
        };
        room.copy_from_slice(old);
        let in_front = fresh.head.pull(kept);
        debug_assert!(in_front, "as much as was put there");
        let shift = front as i64 - skb.headroom() as i64;
        // The old head goes home with the handle that brought the new one.
        std::mem::swap(&mut skb.head, &mut fresh.head);
        self.free(fresh);
        skb.shift_headers(shift);
        // What it is charged with stays: somebody may have been charged for it.
        true
    }

    /// Gives `skb` a head of its own with a copy of all of its data, which its fragments have besides.
    pub(super) fn copy_into_head(&mut self, skb: &mut Skb) -> bool {
        let (front, len) = (skb.headroom(), skb.len());
        let Some(mut fresh) = self.alloc(front + len) else { return false };
        let Some(room) = fresh.head.put(front + len) else {
            self.free(fresh);
            return false;
        };
        let (before, data) = room.split_at_mut(front);
        if let Some(old) = skb.head.linear_at(0).and_then(|old| old.get(..front)) {
            before.copy_from_slice(old);
        }
        skb.skb_copy_bits(0, data);
        let in_front = fresh.head.pull(front);
        debug_assert!(in_front, "as much as was put there");
        std::mem::swap(&mut skb.head, &mut fresh.head);
        self.free(fresh);
        true
    }
}

fn new_handle(home: &Weak<Depot>) -> Box<SkBuff> {
    Box::new(SkBuff { home: Weak::clone(home), ..SkBuff::default() })
}

fn new_ready(home: &Weak<Depot>, size: usize) -> Box<SkBuff> {
    let mut handle = new_handle(home);
    handle.head = Head::new(Buffer::new(size));
    handle
}

impl fmt::Debug for SkbPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready: usize = self.store.ready.iter().map(Vec::len).sum();
        write!(f, "SkbPool({ready} ready, {} bare)", self.store.bare.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_is_hard_and_freed_memory_serves_again() {
        let depot = Arc::new(Depot::new(BATCH * (SKB_DATA_SIZE + HANDLE_SIZE)));
        let mut pool = SkbPool::new(Arc::clone(&depot));
        let mut all: Vec<Skb> = std::iter::from_fn(|| pool.alloc(1500)).collect();
        assert_eq!(all.len(), BATCH);
        assert!(depot.used() <= depot.cap());
        pool.free(all.pop().expect("one of many"));
        all.push(pool.alloc(1500).expect("what was freed"));
        for skb in all {
            pool.free(skb);
        }
        assert_eq!(pool.live(), 0);
        assert!(pool.alloc(1_000_000).is_none(), "over the cap");
        assert_eq!(pool.live(), 0);
    }

    #[test]
    fn packets_of_another_size_give_way_when_the_cap_is_reached() {
        let depot = Arc::new(Depot::new(400 * (SKB_SMALL_DATA_SIZE + HANDLE_SIZE)));
        let mut pool = SkbPool::new(Arc::clone(&depot));
        let small: Vec<Skb> = std::iter::from_fn(|| pool.alloc(100)).collect();
        assert!(pool.alloc(1500).is_none(), "all of it is in use");
        for skb in small {
            pool.free(skb);
        }
        let large: Vec<Skb> = std::iter::from_fn(|| pool.alloc(1500)).collect();
        assert!(large.len() > 60, "{} large ones", large.len());
        assert!(depot.used() <= depot.cap());
        for skb in large {
            pool.free(skb);
        }
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
    fn pages_serve_again_however_many_they_are_and_give_way_to_packets() {
        let depot = Arc::new(Depot::new(200 * PAGE_FRAG_SIZE));
        let mut pool = SkbPool::new(Arc::clone(&depot));
        let fill = |pool: &mut SkbPool| -> Vec<Arc<Page>> {
            let page = |_| {
                let frag = pool.page_frag_refill().expect("memory");
                let page = Arc::clone(frag.place().0);
                assert_eq!(frag.append(PAGE_FRAG_SIZE, |_| ()) as usize, PAGE_FRAG_SIZE);
                page
            };
            (0..100).map(page).collect()
        };
        let first = fill(&mut pool);
        let used = depot.used();
        let mut known: Vec<_> = first.iter().map(Arc::as_ptr).collect();
        first.into_iter().for_each(|page| assert!(pool.put_page(page).is_none()));
        assert_eq!(depot.used(), used, "none is given back");
        let second = fill(&mut pool);
        assert!(depot.used() <= used + PAGE_FRAG_SIZE, "the same pages, but for one at work");
        known.sort();
        let anew = second.iter().filter(|page| known.binary_search(&Arc::as_ptr(page)).is_err());
        assert!(anew.count() <= 1);
        second.into_iter().for_each(|page| assert!(pool.put_page(page).is_none()));
        let packets: Vec<Skb> = std::iter::from_fn(|| pool.alloc(SKB_DATA_SIZE)).collect();
        let most = (200 - PAGES - 2) * PAGE_FRAG_SIZE / (SKB_DATA_SIZE + HANDLE_SIZE);
        assert!(packets.len() >= most - BATCH, "{} of {most}", packets.len());
        assert!(depot.used() <= depot.cap());
        packets.into_iter().for_each(|skb| pool.free(skb));
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
