//! The handle on a packet: move-only, never empty, never dropped by accident.
#![allow(unsafe_code)]

mod head;
mod page;

pub(crate) use head::{Buffer, Head};
pub(crate) use page::PageFrag;
pub use page::{PAGE_FRAG_SIZE, Page};

use super::SkBuff;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A packet's one handle. Its end is stated: hand it on, queue it, or give it to
/// [`consume_skb`](super::consume_skb) or [`kfree_skb`](super::kfree_skb). Falling out of scope is
/// a bug: it panics in debug builds; in release builds the memory is freed and counted as lost, as
/// that of a packet which a contained panic unwinds is in both.
///
/// linux: include/linux/skbuff.h:sk_buff
// Never empty: an `Option` inside would cost a branch at every field.
pub struct Skb(ManuallyDrop<Box<SkBuff>>);

impl Skb {
    pub(super) fn new(skb: Box<SkBuff>) -> Self {
        Self(ManuallyDrop::new(skb))
    }

    /// The memory, for the pool.
    #[inline]
    pub(super) fn into_memory(self) -> Box<SkBuff> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped nor used again, so the box is taken out exactly once.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    /// Frees the memory past the pool: for what is left when its machine goes away.
    pub fn forget_at_exit(self) {
        drop(self.into_memory());
    }
}

impl Deref for Skb {
    type Target = SkBuff;
    #[inline]
    fn deref(&self) -> &SkBuff {
        &self.0
    }
}

impl DerefMut for Skb {
    #[inline]
    fn deref_mut(&mut self) -> &mut SkBuff {
        &mut self.0
    }
}

impl Drop for Skb {
    // Inlined, and handing the box on by value: a reference to the handle that escapes to a function
    // would keep every packet on the way in memory instead of in a register.
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and `into_memory` prevents it, so the box is still inside.
        lost(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

#[cold]
#[inline(never)]
fn lost(mut skb: Box<SkBuff>) {
    if let Some(depot) = skb.home.upgrade() {
        let head = if skb.head.is_shared() { 0 } else { skb.head.size() };
        depot.lost(size_of::<SkBuff>() + head);
    }
    let truesize = skb.truesize;
    skb.owner.abandon(truesize);
    drop(skb);
    if cfg!(debug_assertions) && !std::thread::panicking() {
        panic!("a packet fell out of scope: its end must be stated");
    }
}

impl fmt::Debug for Skb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Skb({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// A page counts how often the packet's contents are dropped.
    fn with_witness() -> (Skb, Arc<Page>) {
        let page = Arc::new(Page::from(&[0_u8; 4][..]));
        let mut skb = Box::<SkBuff>::default();
        skb.frags.push(crate::net::core::skbuff::SkbFrag {
            page: Arc::clone(&page),
            offset: 0,
            size: 4,
        });
        (Skb::new(skb), page)
    }

    #[test]
    fn taking_the_memory_drops_nothing_twice() {
        let (skb, page) = with_witness();
        let memory = skb.into_memory();
        assert_eq!(Arc::strong_count(&page), 2);
        drop(memory);
        assert_eq!(Arc::strong_count(&page), 1);
    }

    #[test]
    fn falling_out_of_scope_frees_once_and_is_a_bug() {
        let (skb, page) = with_witness();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(skb)));
        assert_eq!(dropped.is_err(), cfg!(debug_assertions));
        assert_eq!(Arc::strong_count(&page), 1);
    }
}
