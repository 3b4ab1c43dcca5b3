//! Memory that a driver and a device share, and the only ways to touch it.
//!
//! Key types: [`DmaMem`], a window of shared memory with accessors; [`DmaBuf`], the same with its bus address;
//! [`DmaRing`], the same as equal slots.
//! Contexts: any. Locks: none.
//! Invariants: nobody ever holds a Rust reference into the memory: it is read and written by value, through atomics or
//! through a copy whose every byte is a relaxed access, so that a device (or a model of one on another thread) may
//! write at any moment. Every access is checked against the window; one outside it reads 0 or does nothing, and a byte
//! copy says [`OutOfRange`]. This module is the only one of the crate that may use `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Why DMA memory could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaError {
    /// Length 0, or an alignment that is no power of two or beyond 2 MiB.
    Invalid,
    /// No memory, or the space's limit is reached.
    NoMemory,
    /// The host refused to map it.
    Host,
}

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "DMA memory of length 0 or with an impossible alignment",
            Self::NoMemory => "no DMA memory left",
            Self::Host => "the host refused to map DMA memory",
        })
    }
}

impl std::error::Error for DmaError {}

/// A copy reached outside the window; nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access outside DMA memory")
    }
}

impl std::error::Error for OutOfRange {}

/// Memory from the allocator, given back on drop.
struct Heap {
    ptr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the allocation has no thread affinity and `Heap` only frees it, by `&mut`.
unsafe impl Send for Heap {}
// SAFETY: `&Heap` gives no access at all.
unsafe impl Sync for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: `ptr` came from `alloc_zeroed(layout)` in `DmaMem::alloc` and is freed only here.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

/// A window of shared memory. Cloning shares it; it lives as long as any clone.
#[derive(Clone)]
pub struct DmaMem {
    ptr: NonNull<u8>,
    len: usize,
    keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the memory is reached only by atomic accesses and `copy`, which tolerate any other thread's accesses of the
// same kind; `keep`, itself Send and Sync, owns it.
unsafe impl Send for DmaMem {}
// SAFETY: as above: all methods take `&self` and are safe to race.
unsafe impl Sync for DmaMem {}

impl DmaMem {
    /// Zeroed memory of this process.
    pub fn alloc(len: usize, align: usize) -> Result<Self, DmaError> {
        if len == 0 || !align.is_power_of_two() || align > 2 << 20 {
            return Err(DmaError::Invalid);
        }
        // Whole cache lines: two buffers never share one, and scalars are always aligned.
        let layout = Layout::from_size_align(len, align.max(64))
            .map_err(|_| DmaError::Invalid)?
            .pad_to_align();
        // SAFETY: the layout's size is not 0: `len` is not.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(DmaError::NoMemory)?;
        Ok(Self { ptr, len, keep: Arc::new(Heap { ptr, layout }) })
    }

    /// Memory that somebody else mapped: a shared file, hugepages pinned for an IOMMU.
    ///
    /// # Safety
    /// `ptr` must be valid for reads and writes of `len` bytes until `keep` is dropped, and while any [`DmaMem`] made
    /// from it lives no Rust reference may point into it: all access goes through these methods, or comes from outside
    /// the process.
    pub unsafe fn from_raw_parts(
        ptr: NonNull<u8>,
        len: usize,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { ptr, len, keep }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the window has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part `[offset, offset + len)`.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Option<Self> {
        let ptr = self.at(offset, len)?;
        Some(Self { ptr, len, keep: Arc::clone(&self.keep) })
    }

    /// The address of `len` bytes at `offset`, if they are inside.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        if len > self.len || offset > self.len - len {
            return None;
        }
        // SAFETY: `offset <= self.len`, so the result is inside the allocation or one past its end.
        Some(unsafe { self.ptr.add(offset) })
    }

    #[inline]
    fn cell32(&self, offset: usize) -> Option<&AtomicU32> {
        let ptr = self.at(offset, 4)?.cast::<AtomicU32>();
        if !ptr.is_aligned() {
            return None;
        }
        // SAFETY: four bytes inside the memory, which lives as long as `self`, aligned as just checked; everyone else
        // reaches them by atomics or `copy` only.
        Some(unsafe { ptr.as_ref() })
    }

    #[inline]
    fn cell64(&self, offset: usize) -> Option<&AtomicU64> {
        let ptr = self.at(offset, 8)?.cast::<AtomicU64>();
        if !ptr.is_aligned() {
            return None;
        }
        // SAFETY: as in `cell32`, with eight bytes.
        Some(unsafe { ptr.as_ref() })
    }

    /// Reads 32 bits, little-endian. Outside the window or unaligned: 0.
    #[inline]
    #[must_use]
    pub fn read32(&self, offset: usize) -> u32 {
        self.cell32(offset).map_or(0, |c| u32::from_le(c.load(Ordering::Relaxed)))
    }

    /// Reads 64 bits, little-endian. Outside the window or unaligned: 0.
    #[inline]
    #[must_use]
    pub fn read64(&self, offset: usize) -> u64 {
        self.cell64(offset).map_or(0, |c| u64::from_le(c.load(Ordering::Relaxed)))
    }

    /// Writes 32 bits, little-endian. Outside the window or unaligned: nothing.
    #[inline]
    pub fn write32(&self, offset: usize, value: u32) {
        if let Some(c) = self.cell32(offset) {
            c.store(value.to_le(), Ordering::Relaxed);
        }
    }

    /// Writes 64 bits, little-endian. Outside the window or unaligned: nothing.
    #[inline]
    pub fn write64(&self, offset: usize, value: u64) {
        if let Some(c) = self.cell64(offset) {
            c.store(value.to_le(), Ordering::Relaxed);
        }
    }

    /// Reads 32 bits, and what the writer stored before its release is seen after: how a descriptor's owner learns
    /// that it is his.
    #[inline]
    #[must_use]
    pub fn read32_acquire(&self, offset: usize) -> u32 {
        self.cell32(offset).map_or(0, |c| u32::from_le(c.load(Ordering::Acquire)))
    }

    /// Writes 32 bits after everything stored before: how a descriptor is given away.
    #[inline]
    pub fn write32_release(&self, offset: usize, value: u32) {
        if let Some(c) = self.cell32(offset) {
            c.store(value.to_le(), Ordering::Release);
        }
    }

    /// Reads 64 bits with acquire: status and length of a receive descriptor in one access.
    #[inline]
    #[must_use]
    pub fn read64_acquire(&self, offset: usize) -> u64 {
        self.cell64(offset).map_or(0, |c| u64::from_le(c.load(Ordering::Acquire)))
    }

    /// Writes 64 bits with release.
    #[inline]
    pub fn write64_release(&self, offset: usize, value: u64) {
        if let Some(c) = self.cell64(offset) {
            c.store(value.to_le(), Ordering::Release);
        }
    }

    /// Copies out of the window.
    #[inline]
    pub fn read_bytes(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.at(offset, out.len()).ok_or(OutOfRange)?;
        // SAFETY: `from` is valid for `out.len()` bytes as checked; `out` is exclusively ours, so they do not overlap:
        // no reference may point into DMA memory.
        unsafe { copy(from.as_ptr(), out.as_mut_ptr(), out.len()) }
        Ok(())
    }

    /// Copies into the window.
    #[inline]
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        let to = self.at(offset, bytes.len()).ok_or(OutOfRange)?;
        // SAFETY: `to` is valid for `bytes.len()` bytes as checked; a reference may not point into DMA memory, so
        // they do not overlap.
        unsafe { copy(bytes.as_ptr(), to.as_ptr(), bytes.len()) }
        Ok(())
    }
}

impl fmt::Debug for DmaMem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaMem").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Copies `len` bytes, each read and written by what counts as a relaxed access.
///
/// The compiler's own `memcpy` would be a data race where the other side writes at the same time. The instructions are
/// written out instead: the compiler can assume nothing about them, and the vector moves run at `memcpy`'s speed.
///
/// # Safety
/// `from` and `to` are valid for `len` bytes and do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    if len < 16 {
        // SAFETY: passed on from the caller.
        return unsafe { copy_small(from, to, len) };
    }
    // SAFETY: all loads are within [from, from + len), all stores within [to, to + len). More than 64 bytes: 64 at a time
    // while more than 64 are left, then the last 64 of the whole (len > 64). 32 to 64: the first and the last 32. 16 to
    // 31: the first and the last 16. What is stored twice is stored by us alone. SSE2 is part of the architecture. The
    // flags are clobbered, as asm! assumes by default.
    unsafe {
        std::arch::asm!(
            "cmp {n}, 64",
            "jbe 3f",
            "2:",
            "movups {a}, [{s}]",
            "movups {b}, [{s} + 16]",
            "movups {c}, [{s} + 32]",
            "movups {e}, [{s} + 48]",
            "movups [{d}], {a}",
            "movups [{d} + 16], {b}",
            "movups [{d} + 32], {c}",
            "movups [{d} + 48], {e}",
            "add {s}, 64",
            "add {d}, 64",
            "sub {n}, 64",
            "cmp {n}, 64",
            "ja 2b",
            "movups {a}, [{s} + {n} - 64]",
            "movups {b}, [{s} + {n} - 48]",
            "movups {c}, [{s} + {n} - 32]",
            "movups {e}, [{s} + {n} - 16]",
            "movups [{d} + {n} - 64], {a}",
            "movups [{d} + {n} - 48], {b}",
            "movups [{d} + {n} - 32], {c}",
            "movups [{d} + {n} - 16], {e}",
            "jmp 5f",
            "3:",
            "movups {a}, [{s}]",
            "movups {e}, [{s} + {n} - 16]",
            "cmp {n}, 32",
            "jb 4f",
            "movups {b}, [{s} + 16]",
            "movups {c}, [{s} + {n} - 32]",
            "movups [{d} + 16], {b}",
            "movups [{d} + {n} - 32], {c}",
            "4:",
            "movups [{d}], {a}",
            "movups [{d} + {n} - 16], {e}",
            "5:",
            s = inout(reg) from => _,
            d = inout(reg) to => _,
            n = inout(reg) len => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            e = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Copies `len` bytes, each read and written by what counts as a relaxed access.
///
/// # Safety
/// `from` and `to` are valid for `len` bytes and do not overlap.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: passed on from the caller.
    unsafe { copy_small(from, to, len) }
}

/// Copies byte by byte.
///
/// # Safety
/// As for `copy`.
#[inline]
unsafe fn copy_small(from: *const u8, to: *mut u8, len: usize) {
    use std::sync::atomic::AtomicU8;
    for i in 0..len {
        // SAFETY: `i < len`; a byte is always aligned. The side that is not shared memory may be accessed atomically
        // too: `from` is only loaded, and `to` is ours to write.
        unsafe {
            let byte = AtomicU8::from_ptr(from.add(i).cast_mut()).load(Ordering::Relaxed);
            AtomicU8::from_ptr(to.add(i)).store(byte, Ordering::Relaxed);
        }
    }
}

/// Runs when the last handle of a mapping goes.
struct Mapping {
    unmap: Box<dyn Fn() + Send + Sync>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        (self.unmap)();
    }
}

/// DMA memory with its bus address: what a driver puts into descriptors. Accessors by [`DmaMem`].
///
/// Cloning and [`DmaBuf::slice`] share the memory; it is unmapped when the last handle goes.
#[derive(Clone)]
pub struct DmaBuf {
    mem: DmaMem,
    bus: u64,
    mapping: Arc<Mapping>,
}

impl DmaBuf {
    /// Joins memory with the bus address a device reaches it at; `unmap` runs when the last handle goes.
    pub fn new(mem: DmaMem, bus: u64, unmap: impl Fn() + Send + Sync + 'static) -> Self {
        Self { mem, bus, mapping: Arc::new(Mapping { unmap: Box::new(unmap) }) }
    }

    /// The bus address of the first byte.
    #[inline]
    #[must_use]
    pub fn bus_addr(&self) -> u64 {
        self.bus
    }

    /// A handle to the part `[offset, offset + len)`.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Option<Self> {
        let mem = self.mem.slice(offset, len)?;
        let bus = self.bus.checked_add(offset as u64)?;
        Some(Self { mem, bus, mapping: Arc::clone(&self.mapping) })
    }
}

impl Deref for DmaBuf {
    type Target = DmaMem;

    #[inline]
    fn deref(&self) -> &DmaMem {
        &self.mem
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaBuf")
            .field("bus", &format_args!("{:#x}", self.bus))
            .field("len", &self.mem.len)
            .finish_non_exhaustive()
    }
}

mod ring;
#[cfg(test)]
mod tests;

pub use ring::DmaRing;
