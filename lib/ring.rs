//! A first-in first-out queue with a hard limit.
//!
//! What a queue discipline, a backlog or a receive queue needs: adding to a full ring fails and
//! hands the value back, so nothing is dropped unseen.
//!
//! linux: `include/linux/kfifo.h`

use std::collections::VecDeque;
use std::collections::vec_deque;

/// A queue of at most [`capacity`](Self::capacity) values.
#[derive(Debug, Clone)]
pub struct FixedRing<T> {
    queue: VecDeque<T>,
    capacity: usize,
}

impl<T> FixedRing<T> {
    /// An empty ring for up to `capacity` values; memory is taken as it fills.
    pub const fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::new(), capacity }
    }

    /// An empty ring whose memory is taken at once, so that filling it never allocates.
    pub fn preallocated(capacity: usize) -> Self {
        Self { queue: VecDeque::with_capacity(capacity), capacity }
    }

    /// Adds `value` at the end, or hands it back when the ring is full.
    #[inline]
    pub fn push_back(&mut self, value: T) -> Result<(), T> {
        if self.is_full() {
            return Err(value);
        }
        self.queue.push_back(value);
        Ok(())
    }

    /// Takes the oldest value.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        self.queue.pop_front()
    }

    /// The oldest value.
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.queue.front()
    }

    /// The number of values held.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no value is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether another value would be refused.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.capacity
    }

    /// The limit.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The values from oldest to newest.
    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.queue.iter()
    }

    /// Takes all values, from oldest to newest; what the caller leaves is dropped.
    pub fn drain(&mut self) -> vec_deque::Drain<'_, T> {
        self.queue.drain(..)
    }
}

impl<'a, T> IntoIterator for &'a FixedRing<T> {
    type Item = &'a T;
    type IntoIter = vec_deque::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_when_full_and_keeps_order() {
        let mut ring = FixedRing::new(2);
        assert_eq!((ring.len(), ring.capacity(), ring.is_empty()), (0, 2, true));
        assert_eq!(ring.push_back('a'), Ok(()));
        assert_eq!(ring.push_back('b'), Ok(()));
        assert!(ring.is_full());
        assert_eq!(ring.push_back('c'), Err('c'));
        assert_eq!(ring.iter().collect::<String>(), "ab");
        assert_eq!(ring.front(), Some(&'a'));
        assert_eq!(ring.pop_front(), Some('a'));
        assert_eq!(ring.push_back('c'), Ok(()));
        assert_eq!((&ring).into_iter().collect::<String>(), "bc");
        assert_eq!(ring.drain().collect::<String>(), "bc");
        assert_eq!((ring.pop_front(), ring.len()), (None, 0));
    }

    #[test]
    fn no_room_at_all() {
        let mut ring = FixedRing::preallocated(0);
        assert_eq!(ring.push_back(1), Err(1));
    }
}
