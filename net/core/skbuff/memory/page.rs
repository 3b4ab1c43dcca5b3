//! Pages of payload: written once, from front to back, by one writer, and read by any number of packets; or
//! a program's own memory, which it has promised not to write.
#![allow(unsafe_code)]

use crate::net::core::skbuff::{Depot, UbufInfo};
use bytes::Bytes;
use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::{NonNull, slice_from_raw_parts_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// Bytes of a page that sockets fill: what Linux takes for one, eight of the machine's (order 3).
///
/// linux: net/core/sock.c:SKB_FRAG_PAGE_ORDER
pub const PAGE_FRAG_SIZE: usize = 32 << 10;

/// A page that packets share. What was written is never written again, so a packet that refers to it can be
/// read by a device while the writer goes on behind.
// A box taken apart, or the start of `foreign`'s bytes: reading asks neither which.
pub struct Page {
    start: NonNull<UnsafeCell<u8>>,
    size: u32,
    /// Bytes from the front that are written and stay as they are.
    filled: AtomicU32,
    /// The account it is charged to.
    home: Weak<Depot>,
    /// Whose bytes they are, when they are not the page's own.
    foreign: Option<Box<Foreign>>,
}

/// Memory of a program's in a page's place, and who is to hear when it is free again.
struct Foreign {
    /// Keeps the bytes where they are.
    _bytes: Bytes,
    ubuf: Option<Arc<UbufInfo>>,
    /// The account of a copy, and its bytes.
    charged: Option<(Weak<Depot>, usize)>,
}

// SAFETY: the bytes are the page's own or held by its `Bytes`, both of which may go to another thread.
unsafe impl Send for Page {}
// SAFETY: bytes below `filled` are only read, those from there on are reached through the one
// `PageFrag` of the page alone, which moves `filled` with Release behind what it has written.
unsafe impl Sync for Page {}

impl Page {
    /// An empty page whose memory is charged already.
    pub(in crate::net::core::skbuff) fn new(home: Weak<Depot>) -> Self {
        Self::of((0..PAGE_FRAG_SIZE).map(|_| UnsafeCell::new(0)).collect(), 0, home)
    }

    /// A page on these bytes, the first `filled` of them written.
    fn of(bytes: Box<[UnsafeCell<u8>]>, filled: u32, home: Weak<Depot>) -> Self {
        let size = u32::try_from(bytes.len()).expect("a page is small");
        // `into_raw` never gives null; the empty box dangles, as it must.
        let start = NonNull::new(Box::into_raw(bytes).cast()).expect("a box is somewhere");
        Self { start, size, filled: AtomicU32::new(filled), home, foreign: None }
    }

    /// A page that is full: memory of somebody else's, held until nothing refers to the page. `ubuf` hears of
    /// that. No more than 4 GiB of it.
    pub(crate) fn foreign(bytes: Bytes, ubuf: Option<Arc<UbufInfo>>) -> Self {
        Self::held(Foreign { _bytes: bytes, ubuf, charged: None })
    }

    /// The same of a copy, whose memory is charged already.
    pub(in crate::net::core::skbuff) fn copied(
        bytes: &[u8],
        ubuf: Option<Arc<UbufInfo>>,
        home: Weak<Depot>,
    ) -> Self {
        let charged = Some((home, bytes.len()));
        Self::held(Foreign { _bytes: Bytes::copy_from_slice(bytes), ubuf, charged })
    }

    fn held(foreign: Foreign) -> Self {
        let bytes = &foreign._bytes;
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // Bytes stay where they are while a `Bytes` refers to them, and nobody writes them meanwhile; nor does
        // the page, which has no room.
        let start = NonNull::from(&bytes[..]).cast();
        let filled = AtomicU32::new(size);
        Self { start, size, filled, home: Weak::new(), foreign: Some(Box::new(foreign)) }
    }

    /// Bytes of a range, if all of it is written.
    #[inline]
    pub fn get(&self, offset: u32, size: u32) -> Option<&[u8]> {
        let end = offset.checked_add(size)?;
        if end > self.filled.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `offset + size <= filled <= self.size`; nobody writes there any more, and the
        // Acquire above sees what was written before `filled` moved. `UnsafeCell<u8>` is a `u8` in memory.
        Some(unsafe {
            std::slice::from_raw_parts(
                self.start.as_ptr().cast::<u8>().add(offset as usize),
                size as usize,
            )
        })
    }

    /// It is charged to this account, and of the size to be filled anew.
    #[inline]
    pub(in crate::net::core::skbuff) fn is_of(&self, depot: &Arc<Depot>) -> bool {
        std::ptr::eq(self.home.as_ptr(), Arc::as_ptr(depot))
    }

    /// Its bytes are a program's, or a copy that stands for them.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// Who is to hear when nothing refers to its bytes any more.
    pub(crate) fn ubuf(&self) -> Option<&Arc<UbufInfo>> {
        self.foreign.as_ref()?.ubuf.as_ref()
    }

    /// The same, of a page that goes.
    pub(crate) fn take_ubuf(&mut self) -> Option<Arc<UbufInfo>> {
        self.foreign.as_mut()?.ubuf.take()
    }

    /// Nothing refers to it any more: it can be filled anew.
    fn clear(&mut self) {
        *self.filled.get_mut() = 0;
    }
}

impl From<&[u8]> for Page {
    /// A page that is full: these bytes. Charged to nobody.
    fn from(bytes: &[u8]) -> Self {
        let filled = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self::of(bytes.iter().map(|byte| UnsafeCell::new(*byte)).collect(), filled, Weak::new())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(depot) = self.home.upgrade() {
            depot.uncharge(self.size as usize);
        }
        let Some(foreign) = &self.foreign else {
            let bytes = slice_from_raw_parts_mut(self.start.as_ptr(), self.size as usize);
            // SAFETY: `of` took a box of so many bytes at this address apart, and it is put together once.
            return drop(unsafe { Box::from_raw(bytes) });
        };
        if let Some((home, size)) = &foreign.charged
            && let Some(depot) = home.upgrade()
        {
            depot.uncharge(*size);
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_foreign() { ", foreign" } else { "" };
        write!(f, "Page({} of {}{whose})", self.filled.load(Ordering::Relaxed), self.size)
    }
}

/// The writer of a page.
///
/// linux: include/linux/mm_types_task.h:page_frag
#[derive(Debug)]
pub(crate) struct PageFrag {
    page: Arc<Page>,
}

impl PageFrag {
    /// Begins to fill a page, if nobody refers to it and its bytes are its own.
    pub(in crate::net::core::skbuff) fn of(mut page: Arc<Page>) -> Option<Self> {
        if page.is_foreign() {
            return None;
        }
        Arc::get_mut(&mut page)?.clear();
        Some(Self { page })
    }

    /// Bytes that are free.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        (self.page.size - self.page.filled.load(Ordering::Relaxed)) as usize
    }

    /// The page, and where the next byte goes.
    #[inline]
    pub(crate) fn place(&self) -> (&Arc<Page>, u32) {
        (&self.page, self.page.filled.load(Ordering::Relaxed))
    }

    /// What is free, to be written from its beginning; [`PageFrag::written`] says how much was.
    #[inline]
    pub(crate) fn room_mut(&mut self) -> &mut [u8] {
        let from = self.page.filled.load(Ordering::Relaxed) as usize;
        // SAFETY: the range lies within the page and from `filled` on, where nobody reads, and no
        // other `PageFrag` writes: `of` makes one only for a page without other references, and no
        // copy of it can be made; `&mut self` keeps a second range away. All of it is initialised, and
        // the page's own.
        unsafe {
            let start = self.page.start.as_ptr().cast::<u8>().add(from);
            std::slice::from_raw_parts_mut(start, self.page.size as usize - from)
        }
    }

    /// The next `len` bytes are filled in and stay as they are; fewer if there is less room. How many.
    #[inline]
    pub(crate) fn written(&mut self, len: usize) -> u32 {
        let from = self.page.filled.load(Ordering::Relaxed);
        let len = len.min(self.room()) as u32;
        self.page.filled.store(from + len, Ordering::Release);
        len
    }

    /// Lends the next `len` bytes to be filled in by `fill`, less if there is less room; how many.
    #[inline]
    pub(crate) fn append(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> u32 {
        let room = self.room_mut();
        let len = len.min(room.len());
        fill(&mut room[..len]);
        self.written(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> PageFrag {
        PageFrag::of(Arc::new(Page::new(Weak::new()))).expect("nobody else has it")
    }

    #[test]
    fn what_is_not_written_cannot_be_read() {
        let mut frag = page();
        let (page, at) = (Arc::clone(frag.place().0), frag.place().1);
        assert_eq!((at, page.get(0, 1)), (0, None));
        assert_eq!(frag.append(3, |room| room.copy_from_slice(b"abc")), 3);
        assert_eq!(page.get(1, 2), Some(&b"bc"[..]));
        assert!(page.get(1, 3).is_none() && page.get(u32::MAX, 2).is_none());
        assert_eq!(page.get(3, 0), Some(&b""[..]));
    }

    #[test]
    fn a_reader_keeps_what_it_has_while_the_writer_goes_on() {
        let mut frag = page();
        frag.append(4, |room| room.copy_from_slice(b"once"));
        let page = Arc::clone(frag.place().0);
        let read = page.get(0, 4).expect("written");
        std::thread::scope(|scope| {
            scope.spawn(|| assert!((0..1000).all(|_| read == b"once")));
            while frag.append(100, |room| room.fill(1)) != 0 {}
        });
        assert_eq!((frag.room(), read), (0, &b"once"[..]));
    }

    #[test]
    fn a_page_that_somebody_refers_to_is_not_filled_anew() {
        let mut frag = page();
        frag.append(4, |room| room.fill(7));
        let page = Arc::clone(frag.place().0);
        drop(frag);
        let other = Arc::clone(&page);
        assert!(PageFrag::of(page).is_none());
        let again = PageFrag::of(other).expect("the last one");
        assert_eq!((again.room(), again.place().1), (PAGE_FRAG_SIZE, 0));
    }

    #[test]
    fn foreign_bytes_stay_where_they_are_and_are_given_back() {
        let owner = Arc::new(());
        struct Owned(Vec<u8>, #[expect(dead_code, reason = "it counts")] Arc<()>);
        impl AsRef<[u8]> for Owned {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let bytes = Bytes::from_owner(Owned(b"theirs".to_vec(), Arc::clone(&owner)));
        let at = bytes.as_ptr();
        let page = Arc::new(Page::foreign(bytes, None));
        let read = page.get(0, 6).expect("all of it");
        assert_eq!((read, read.as_ptr()), (&b"theirs"[..], at));
        assert!(page.get(0, 7).is_none());
        assert!(PageFrag::of(Arc::clone(&page)).is_none(), "nobody fills it");
        assert_eq!(Arc::strong_count(&owner), 2);
        drop(page);
        assert_eq!(Arc::strong_count(&owner), 1);
        let empty = Page::foreign(Bytes::new(), None);
        assert_eq!((empty.get(0, 0), empty.get(0, 1)), (Some(&b""[..]), None));
    }
}
