//! The machine's store of packet memory, and the account that bounds it.
//!
//! linux: mm/slub.c. Key type: [`Depot`]. Contexts: any CPU, under `class::Depot`, once a batch of 64; the
//! account from anywhere.
//! Invariant: memory drawn from the system never exceeds the cap.

use super::pool::{BATCH, HANDLE_SIZE, SIZES};
use super::{PAGE_FRAG_SIZE, Page, SkBuff};
use crate::kernel::locking::atomic::{AtomicUsize, Ordering};
use crate::kernel::locking::{SpinLock, lockdep::class};
use std::fmt;
use std::sync::Arc;

/// Packets at rest.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "the box is what a packet's handle owns")]
pub(super) struct Store {
    /// With a head, by its size in [`SIZES`].
    pub(super) ready: [Vec<Box<SkBuff>>; SIZES.len()],
    /// Without one, for clones and odd heads.
    pub(super) bare: Vec<Box<SkBuff>>,
    /// Pages of payload that nobody refers to.
    pub(super) pages: Vec<Arc<Page>>,
}

/// The machine's store of packet memory and its account.
pub struct Depot {
    cap: usize,
    used: AtomicUsize,
    /// Packets that fell out of scope.
    lost: AtomicUsize,
    spare: SpinLock<Store, class::Depot>,
}

#[expect(clippy::vec_box, reason = "the box is what a packet's handle owns")]
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

    /// Draws `bytes` from the system, giving spare packets back to it if the cap is reached.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        self.try_charge(bytes) || (self.reclaim(bytes) && self.try_charge(bytes))
    }

    fn try_charge(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.cap)
            })
            .is_ok()
    }

    pub(super) fn uncharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives spare packets back to the system until `bytes` are free of them; false when there are
    /// not so many.
    #[cold]
    fn reclaim(&self, bytes: usize) -> bool {
        let mut freed = 0;
        let mut spare = self.spare.lock();
        let Store { ready, bare, pages } = &mut *spare;
        let mut freed_pages = 0;
        // A page that goes takes itself off the account.
        while freed_pages < bytes && pages.pop().is_some() {
            freed_pages += PAGE_FRAG_SIZE;
        }
        let bytes = bytes.saturating_sub(freed_pages);
        let [small, large] = ready;
        let lists = [(large, SIZES[1]), (small, SIZES[0]), (bare, 0)];
        for (list, head) in lists {
            let size = head + HANDLE_SIZE;
            while freed < bytes && list.pop().is_some() {
                freed += size;
            }
        }
        self.uncharge(freed);
        freed >= bytes
    }

    /// Fills `into` from the spare packets that `list` names, or with new ones of `size` bytes.
    #[cold]
    pub(super) fn draw(
        &self,
        into: &mut Vec<Box<SkBuff>>,
        list: impl Fn(&mut Store) -> &mut Vec<Box<SkBuff>>,
        size: usize,
        new: impl Fn() -> Box<SkBuff>,
    ) {
        {
            let mut spare = self.spare.lock();
            let spare = list(&mut spare);
            let take = spare.len().saturating_sub(BATCH);
            into.extend(spare.drain(take..));
        }
        while into.len() < BATCH && self.charge(size) {
            into.push(new());
        }
    }

    /// Fills `into` from the spare pages, as far as there are some.
    #[cold]
    pub(super) fn draw_pages(&self, into: &mut Vec<Arc<Page>>, most: usize) {
        let mut spare = self.spare.lock();
        let keep = spare.pages.len().saturating_sub(most);
        into.extend(spare.pages.drain(keep..));
    }

    /// Takes what a magazine has over `keep` pages.
    #[cold]
    pub(super) fn spill_pages(&self, from: &mut Vec<Arc<Page>>, keep: usize) {
        self.spare.lock().pages.extend(from.drain(keep..));
    }

    /// Takes what a magazine has over a batch.
    pub(super) fn spill(&self, store: &mut Store) {
        let mut spare = self.spare.lock();
        let Store { ready, bare, .. } = store;
        let lists = ready.iter_mut().chain([bare]);
        let spares = {
            let Store { ready, bare, .. } = &mut *spare;
            ready.iter_mut().chain([bare])
        };
        for (list, spare) in lists.zip(spares) {
            if list.len() > BATCH {
                spare.extend(list.drain(BATCH..));
            }
        }
    }
}

impl fmt::Debug for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Depot({} of {} bytes)", self.used(), self.cap)
    }
}
