//! The bytes of a packet's linear part, with the room around them.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{NonNull, slice_from_raw_parts_mut};
use std::sync::Arc;

/// A buffer and the window of it that holds data: `headroom | data | tailroom`.
///
/// Reading and writing the window checks nothing: `data <= tail <= size` holds after every method,
/// and nobody else can touch the three. Written only while no clone refers to the bytes.
pub(crate) struct Head {
    start: NonNull<u8>,
    size: u32,
    data: u32,
    tail: u32,
    /// Who owns the bytes when clones refer to them, too; else this head does.
    shared: Option<Arc<Buffer>>,
}

/// Bytes on cache lines of their own, zero at first: a packet's headers and its first bytes lie on as
/// few lines as they can. A box taken apart: while a real one stood by, the compiler might take it for
/// the only way to the bytes.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    size: u32,
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;

// SAFETY: the bytes are this head's own, reached through it alone, or a buffer's that nobody writes:
// both may go to another thread and be read from several.
unsafe impl Send for Head {}
// SAFETY: as above; `&Head` only reads.
unsafe impl Sync for Head {}
// SAFETY: nothing is read or written through a buffer; it only frees, once.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// # Panics
    /// At 4 GiB: no packet comes near it.
    pub(crate) fn new(size: usize) -> Self {
        let lines = vec![Line([0; LINE]); size.div_ceil(LINE)].into_boxed_slice();
        let size = u32::try_from(size).expect("a packet's head is small");
        // `into_raw` never gives null; the empty box is a dangling pointer, as in `Head::default`.
        let start = NonNull::new(Box::into_raw(lines).cast()).expect("a box is somewhere");
        Self { start, size }
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.size as usize
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = self.len().div_ceil(LINE);
        let start = self.start.as_ptr().cast::<Line>();
        // SAFETY: `new` took a box of so many lines at this address apart, and there is one `Buffer`
        // for it at a time, which is dropped once.
        drop(unsafe { Box::from_raw(slice_from_raw_parts_mut(start, lines)) });
    }
}

impl Head {
    /// A buffer with all of its room behind the (empty) data.
    pub(crate) fn new(buffer: Buffer) -> Self {
        let Buffer { start, size } = *ManuallyDrop::new(buffer);
        Self { start, size, data: 0, tail: 0, shared: None }
    }

    /// Bytes in all.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }

    /// Clones refer to the bytes: read-only.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Where the data begins.
    #[inline]
    pub(crate) fn data_offset(&self) -> usize {
        self.data as usize
    }

    /// Bytes of data.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        (self.tail - self.data) as usize
    }

    /// Bytes free behind the data.
    #[inline]
    pub(crate) fn tailroom(&self) -> usize {
        (self.size - self.tail) as usize
    }

    /// From `offset` to the data's end; `None` behind that.
    #[inline]
    pub(crate) fn linear_at(&self, offset: usize) -> Option<&[u8]> {
        let len = (self.tail as usize).checked_sub(offset)?;
        // SAFETY: `offset + len` is `tail`, which is within the buffer; all of it is initialised.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) })
    }

    /// The data.
    #[inline]
    pub(crate) fn linear(&self) -> &[u8] {
        // SAFETY: `data <= tail <= size`, and all of the buffer is initialised.
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().add(self.data as usize), self.len())
        }
    }

    /// The data, writable; `None` when clones see it.
    #[inline]
    pub(crate) fn linear_mut(&mut self) -> Option<&mut [u8]> {
        (!self.is_shared()).then(|| self.window(self.data, self.tail))
    }

    /// What lies from `from` up to `to`, which the caller keeps within the buffer.
    #[inline]
    fn window(&mut self, from: u32, to: u32) -> &mut [u8] {
        debug_assert!(from <= to && to <= self.size && !self.is_shared());
        // SAFETY: each caller passes `from <= to <= size` and has seen that the bytes are not
        // shared; `&mut self` keeps every other way to them away while the slice lives.
        unsafe {
            let start = self.start.as_ptr().add(from as usize);
            std::slice::from_raw_parts_mut(start, (to - from) as usize)
        }
    }

    /// Moves the empty data back by `len`, if there is as much room.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) {
        if len <= self.tailroom() {
            self.tail += len as u32;
            self.data += len as u32;
        }
    }

    /// Lends `len` bytes, `front` behind the buffer's start, as the data of a head that has none yet.
    #[inline]
    pub(crate) fn open(&mut self, front: usize, len: usize) -> Option<&mut [u8]> {
        debug_assert_eq!((self.data, self.tail), (0, 0), "opened twice");
        let end = front.checked_add(len)?;
        if end > self.size() || self.is_shared() {
            return None;
        }
        (self.data, self.tail) = (front as u32, end as u32);
        Some(self.window(self.data, self.tail))
    }

    /// Adds `len` bytes in front of the data.
    #[inline]
    pub(crate) fn push(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.data as usize || self.is_shared() {
            return None;
        }
        let end = self.data;
        self.data = end - len as u32;
        Some(self.window(self.data, end))
    }

    /// Takes `len` bytes off the front; false when there are fewer.
    #[inline]
    pub(crate) fn pull(&mut self, len: usize) -> bool {
        if len > self.len() {
            return false;
        }
        self.data += len as u32;
        true
    }

    /// The data begins `len` bytes earlier again, with what was pulled; false when there are fewer.
    #[inline]
    pub(crate) fn unpull(&mut self, len: usize) -> bool {
        let fits = len <= self.data as usize;
        if fits {
            self.data -= len as u32;
        }
        fits
    }

    /// Adds `len` bytes behind the data.
    #[inline]
    pub(crate) fn put(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.tailroom() || self.is_shared() {
            return None;
        }
        let start = self.tail;
        self.tail = start + len as u32;
        Some(self.window(start, self.tail))
    }

    /// Cuts the data to `len` bytes, if it is longer.
    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.tail = self.data + len.min(self.len()) as u32;
    }

    /// No data, no room in front.
    #[inline]
    pub(crate) fn clear(&mut self) {
        (self.data, self.tail) = (0, 0);
    }

    /// A second head on the same bytes; from now on neither is writable.
    pub(crate) fn share(&mut self) -> Self {
        let Self { start, size, data, tail, .. } = *self;
        let shared = self.shared.get_or_insert_with(|| Arc::new(Buffer { start, size }));
        Self { start, size, data, tail, shared: Some(Arc::clone(shared)) }
    }

    /// The buffer, if nobody else refers to it; what is left is empty.
    pub(crate) fn take_buffer(&mut self) -> Option<Buffer> {
        let mut taken = ManuallyDrop::new(std::mem::take(self));
        match taken.shared.take() {
            Some(shared) => Arc::into_inner(shared),
            None => Some(Buffer { start: taken.start, size: taken.size }),
        }
    }
}

impl Default for Head {
    #[inline]
    fn default() -> Self {
        Self { start: NonNull::dangling(), size: 0, data: 0, tail: 0, shared: None }
    }
}

impl Drop for Head {
    #[inline]
    fn drop(&mut self) {
        if self.shared.is_none() && self.size != 0 {
            drop(Buffer { start: self.start, size: self.size });
        }
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.is_shared() { ", shared" } else { "" };
        write!(f, "Head({}..{} of {}{shared})", self.data, self.tail, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, Head};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// What the window must hold, by a type that checks everything.
    struct Model {
        front: usize,
        data: VecDeque<u8>,
        back: usize,
    }

    proptest! {
        /// Each step on the head and on the model; the same answers, the same bytes. A window that
        /// left the buffer would read what the model does not have, or bring the allocator down.
        #[test]
        fn the_window_never_leaves_the_buffer(
            size in 0_usize..64,
            steps in prop::collection::vec((0_u8..6, 0_usize..80), 0..60),
        ) {
            let mut head = Head::new(Buffer::new(size));
            let mut model = Model { front: 0, data: VecDeque::new(), back: size };
            for (index, (what, len)) in steps.into_iter().enumerate() {
                let mark = index as u8 | 0x80;
                match what {
                    0 => {
                        let fits = len <= model.front;
                        let got = head.push(len);
                        prop_assert_eq!(got.is_some(), fits);
                        if let Some(bytes) = got {
                            bytes.fill(mark);
                            model.front -= len;
                            (0..len).for_each(|_| model.data.push_front(mark));
                        }
                    }
                    1 => {
                        let fits = len <= model.back;
                        let got = head.put(len);
                        prop_assert_eq!(got.is_some(), fits);
                        if let Some(bytes) = got {
                            bytes.fill(mark);
                            model.back -= len;
                            (0..len).for_each(|_| model.data.push_back(mark));
                        }
                    }
                    2 => {
                        let fits = len <= model.data.len();
                        prop_assert_eq!(head.pull(len), fits);
                        if fits {
                            model.front += len;
                            model.data.drain(..len);
                        }
                    }
                    5 => {
                        // Pulled and taken back, by as much as both allow, is as before.
                        let fits = len <= model.data.len();
                        prop_assert_eq!(head.pull(len), fits);
                        prop_assert!(!head.unpull(model.front + len + 1));
                        if fits {
                            prop_assert!(head.unpull(len));
                        }
                    }
                    3 => {
                        head.truncate(len);
                        model.back += model.data.len().saturating_sub(len);
                        model.data.truncate(len);
                    }
                    _ if model.data.is_empty() => {
                        head.reserve(len);
                        if len <= model.back {
                            model.front += len;
                            model.back -= len;
                        }
                    }
                    _ => {
                        let clone = head.share();
                        prop_assert!(head.push(0).is_none() && head.put(0).is_none());
                        prop_assert!(head.linear_mut().is_none());
                        prop_assert_eq!(clone.linear(), head.linear());
                        drop(clone);
                        let (from, len) = (head.data_offset(), head.len());
                        head = Head::new(head.take_buffer().expect("the clone is gone"));
                        head.reserve(from);
                        prop_assert!(head.put(len).is_some());
                    }
                }
                prop_assert_eq!(head.data_offset(), model.front);
                prop_assert_eq!(head.tailroom(), model.back);
                prop_assert!(head.linear().iter().eq(&model.data));
                prop_assert_eq!(head.linear_at(model.front), Some(head.linear()));
                prop_assert!(head.linear_at(model.front + model.data.len() + 1).is_none());
            }
        }
    }

    #[test]
    fn the_last_of_the_sharing_heads_has_the_buffer() {
        let mut head = Head::new(Buffer::new(8));
        head.put(8).expect("all of it").fill(7);
        let mut second = head.share();
        let third = second.share();
        assert_eq!(second.linear(), [7; 8]);
        assert!(head.take_buffer().is_none(), "two others read it");
        assert_eq!(head.size(), 0);
        drop(third);
        let mut alone = Head::new(second.take_buffer().expect("the others are gone"));
        assert_eq!(alone.put(8).as_deref(), Some(&[7; 8][..]));
    }

    #[test]
    fn an_empty_head_owns_nothing() {
        let mut head = Head::default();
        assert!(head.put(1).is_none() && head.push(1).is_none() && !head.pull(1));
        assert_eq!(head.linear(), &[0_u8; 0]);
        assert_eq!(head.take_buffer().map(|buffer| buffer.len()), Some(0));
        drop(head.share());
    }
}
