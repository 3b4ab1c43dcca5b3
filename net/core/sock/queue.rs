//! A queue of packets, first in, first out. Lies under its owner's lock.
//!
//! linux: include/linux/skbuff.h. Key type: [`SkBuffHead`].

use crate::net::core::skbuff::Skb;
use std::fmt;

/// Packets in their order.
///
/// linux: include/linux/skbuff.h:sk_buff_head
// Two stacks: what comes goes onto one, what goes is taken from the other, and when that is empty
// they change places, turned round. Either end is a push or a pop at the end of an array; a ring
// would have to see at each whether it wraps.
#[derive(Default)]
pub struct SkBuffHead {
    /// The oldest packets, the very oldest last.
    first: Vec<Skb>,
    /// Those that came since, the latest last.
    rest: Vec<Skb>,
}

impl SkBuffHead {
    /// No packet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// Packets.
    ///
    /// linux: include/linux/skbuff.h:skb_queue_len
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// The packets from the oldest on.
    pub fn iter(&self) -> impl Iterator<Item = &Skb> {
        self.first.iter().rev().chain(&self.rest)
    }

    /// The oldest packet, which stays.
    ///
    /// linux: include/linux/skbuff.h:skb_peek
    #[inline]
    pub fn skb_peek(&self) -> Option<&Skb> {
        self.peek_at(0)
    }

    /// The packet behind so many others, which stays.
    #[inline]
    pub(crate) fn peek_at(&self, place: usize) -> Option<&Skb> {
        match self.first.len().checked_sub(place + 1) {
            Some(at) => self.first.get(at),
            None => self.rest.get(place - self.first.len()),
        }
    }

    /// The latest packet, which stays.
    ///
    /// linux: include/linux/skbuff.h:skb_peek_tail
    #[inline]
    pub(crate) fn skb_peek_tail_mut(&mut self) -> Option<&mut Skb> {
        match self.rest.last_mut() {
            Some(last) => Some(last),
            None => self.first.first_mut(),
        }
    }

    /// Puts a packet behind all others.
    ///
    /// linux: include/linux/skbuff.h:__skb_queue_tail
    #[inline]
    pub fn skb_queue_tail(&mut self, skb: Skb) {
        self.rest.push(skb);
    }

    /// Where packets go that come after all others.
    #[inline]
    pub(crate) fn tail(&mut self) -> &mut Vec<Skb> {
        &mut self.rest
    }

    /// Takes the oldest packet.
    ///
    /// linux: include/linux/skbuff.h:__skb_dequeue
    #[inline]
    pub fn skb_dequeue(&mut self) -> Option<Skb> {
        match self.first.pop() {
            None if self.rest.len() > 1 => {
                self.turn();
                self.first.pop()
            }
            // One alone is the oldest and the latest.
            None => self.rest.pop(),
            oldest => oldest,
        }
    }

    /// Moves the oldest packets, up to `most`, behind those that `to` has.
    pub(crate) fn take_first(&mut self, most: usize, to: &mut Vec<Skb>) {
        let older = self.first.len().min(most);
        to.extend(self.first.drain(self.first.len() - older..).rev());
        let newer = self.rest.len().min(most - older);
        if newer == self.rest.len() {
            to.append(&mut self.rest);
        } else {
            to.extend(self.rest.drain(..newer));
        }
    }

    #[cold]
    fn turn(&mut self) {
        std::mem::swap(&mut self.first, &mut self.rest);
        self.first.reverse();
    }

    /// Takes packets, the oldest first, until none is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Skb> {
        std::iter::from_fn(|| self.skb_dequeue())
    }
}

impl fmt::Debug for SkBuffHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SkBuffHead({} packets)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::with_bh;
    use crate::net::core::skbuff::{alloc_skb, consume_skb};

    #[test]
    fn packets_come_out_in_their_order_however_they_are_looked_at() {
        with_bh(|bh| {
            let mut queue = SkBuffHead::default();
            assert!(queue.skb_dequeue().is_none() && queue.skb_peek().is_none());
            let mut put = |queue: &mut SkBuffHead, mark| {
                let mut skb = alloc_skb(bh, 64).expect("fits");
                skb.mark = mark;
                queue.skb_queue_tail(skb);
            };
            (0..3).for_each(|mark| put(&mut queue, mark));
            let first = queue.skb_dequeue().expect("three are there");
            put(&mut queue, 3);
            assert_eq!((first.mark, queue.len(), queue.is_empty()), (0, 3, false));
            assert_eq!(queue.iter().map(|skb| skb.mark).collect::<Vec<_>>(), [1, 2, 3]);
            assert_eq!(queue.skb_peek().map(|skb| skb.mark), Some(1));
            consume_skb(bh, first);
            let mut marks = Vec::new();
            for skb in queue.drain() {
                marks.push(skb.mark);
                consume_skb(bh, skb);
            }
            assert_eq!((marks, queue.is_empty()), (vec![1, 2, 3], true));
        });
    }
}
