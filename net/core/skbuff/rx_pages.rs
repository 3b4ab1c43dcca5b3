//! Pages that a driver has its device write into before anybody knows how much will come.
//!
//! linux: net/core/page_pool.c, include/linux/skbuff.h (`skb_add_rx_frag`). Key type: [`RxPages`]. Context: BH, the
//! poller. Invariant: what was given to a packet is never written again.

use super::{PageFrag, Skb, SkbFrag};
use crate::kernel::context::BhCx;
use std::sync::Arc;

/// A driver's pages, the first of them perhaps begun.
#[derive(Debug, Default)]
pub struct RxPages {
    frags: Vec<PageFrag>,
}

impl RxPages {
    /// Makes room for at least `len` octets in all; false when the machine's memory is used up.
    #[inline]
    #[must_use]
    pub fn refill(&mut self, cx: &mut BhCx<'_>, len: usize) -> bool {
        let mut room: usize = self.frags.iter().map(PageFrag::room).sum();
        while room < len {
            let Some(frag) = cx.cpu.pool.new_page() else { return false };
            room += frag.room();
            self.frags.push(frag);
        }
        true
    }

    /// The room, page by page.
    pub fn rooms(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.frags.iter_mut().map(PageFrag::room_mut)
    }

    /// The first `len` octets of the room have been written: they go behind the packet's data.
    pub fn add_to(&mut self, skb: &mut Skb, mut len: usize) {
        self.frags.retain_mut(|frag| {
            if len == 0 {
                return true;
            }
            let (page, offset) = (Arc::clone(frag.place().0), frag.place().1);
            let size = frag.written(len);
            len -= size as usize;
            skb.add_frag(SkbFrag { page, offset, size });
            frag.room() != 0
        });
        debug_assert_eq!(len, 0, "no more than there was room for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::with_bh;
    use crate::net::core::skbuff::{PAGE_FRAG_SIZE, alloc_skb, consume_skb};

    /// A packet of what a device wrote into the room: this octet so often.
    fn received(cx: &mut BhCx<'_>, pages: &mut RxPages, octet: u8, len: usize) -> Skb {
        assert!(pages.refill(cx, 64 << 10));
        let mut left = len;
        for room in pages.rooms() {
            let here = left.min(room.len());
            room[..here].fill(octet);
            left -= here;
        }
        let mut skb = alloc_skb(cx, 64).expect("memory");
        pages.add_to(&mut skb, len);
        skb
    }

    #[test]
    fn packets_have_what_was_written_and_no_page_twice() {
        with_bh(|cx| {
            let mut pages = RxPages::default();
            let lens = [63_000, 1, PAGE_FRAG_SIZE, 64 << 10, 0];
            let mut all = Vec::new();
            for (octet, len) in (1..).zip(lens) {
                all.push(received(cx, &mut pages, octet, len));
            }
            for (octet, (skb, len)) in (1..).zip(all.into_iter().zip(lens)) {
                let mut have = vec![0; len + 1];
                assert_eq!((skb.len(), skb.skb_copy_bits(0, &mut have)), (len, len));
                assert!(have[..len].iter().all(|byte| *byte == octet));
                consume_skb(cx, skb);
            }
        });
    }

    #[test]
    fn pages_of_packets_that_are_gone_serve_again() {
        with_bh(|cx| {
            let mut pages = RxPages::default();
            for octet in 0..10 {
                let skb = received(cx, &mut pages, octet, 60_000);
                consume_skb(cx, skb);
            }
            let used = cx.m.depot.used();
            for octet in 0..100 {
                let skb = received(cx, &mut pages, octet, 60_000);
                consume_skb(cx, skb);
            }
            assert_eq!(cx.m.depot.used(), used);
        });
    }
}
