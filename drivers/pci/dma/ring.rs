//! Equal slots in DMA memory: a ring of descriptors, or of buffers.
//!
//! Key type: [`DmaRing`]. Contexts: any. Locks: none.
//! Invariant: what an access needs to hold (the slot lies inside, its words are aligned) was checked for every slot when
//! the ring was made; an access compares its slot with their number and that is all.

use super::{DmaBuf, OutOfRange, copy};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// `count` slots of `WORDS` 64-bit words, one behind the other, by which a driver and a device share descriptors or
/// buffers. Words are little-endian.
///
/// An access to a slot that there is not reads zeros, or does nothing.
#[derive(Clone)]
pub struct DmaRing<const WORDS: usize> {
    buf: DmaBuf,
    count: usize,
}

impl<const WORDS: usize> DmaRing<WORDS> {
    /// Bytes of a slot.
    pub const SIZE: usize = {
        assert!(WORDS >= 2, "a slot has two words at least");
        8 * WORDS
    };

    /// The first `count` slots of `buf`.
    ///
    /// # Errors
    /// The memory is too short, or not aligned to words.
    pub fn new(buf: DmaBuf, count: usize) -> Result<Self, OutOfRange> {
        let len = count.checked_mul(Self::SIZE).ok_or(OutOfRange)?;
        let first = buf.at(0, len).ok_or(OutOfRange)?;
        if !first.cast::<AtomicU64>().is_aligned() {
            return Err(OutOfRange);
        }
        Ok(Self { buf, count })
    }

    /// The memory.
    #[must_use]
    pub fn buf(&self) -> &DmaBuf {
        &self.buf
    }

    /// How many slots there are.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The slot behind `slot`: the first behind the last.
    #[inline]
    #[must_use]
    pub fn after(&self, slot: usize) -> usize {
        let next = slot + 1;
        if next == self.count { 0 } else { next }
    }

    /// The slot `n` slots behind `slot`, `n` being no more than there are.
    #[inline]
    #[must_use]
    pub fn ahead(&self, slot: usize, n: usize) -> usize {
        let next = slot + n;
        if next >= self.count { next - self.count } else { next }
    }

    /// The bus address of a slot.
    #[inline]
    #[must_use]
    pub fn bus_addr(&self, slot: usize) -> u64 {
        self.buf.bus_addr() + (slot * Self::SIZE) as u64
    }

    /// All slots.
    #[inline]
    fn slots(&self) -> &[[AtomicU64; WORDS]] {
        let first = self.buf.mem.ptr.cast::<[AtomicU64; WORDS]>();
        // SAFETY: `new` found `count` slots inside the memory, which lives as long as `self`, and the first aligned;
        // the others are, being whole words apart. Everyone else reaches them by atomics or `copy` only.
        unsafe { NonNull::slice_from_raw_parts(first, self.count).as_ref() }
    }

    /// Writes a slot's first two words.
    #[inline]
    pub fn write_pair(&self, slot: usize, low: u64, high: u64) {
        if let Some(words) = self.slots().get(slot) {
            words[0].store(low.to_le(), Ordering::Relaxed);
            words[1].store(high.to_le(), Ordering::Relaxed);
        }
    }

    /// Reads a slot's first two words: the second with acquire, then the first, which is as new at least.
    #[inline]
    #[must_use]
    pub fn read_pair_acquire(&self, slot: usize) -> (u64, u64) {
        let Some(words) = self.slots().get(slot) else { return (0, 0) };
        let high = u64::from_le(words[1].load(Ordering::Acquire));
        (u64::from_le(words[0].load(Ordering::Relaxed)), high)
    }

    /// Reads a slot's second word with acquire: how its owner learns that it is his.
    #[inline]
    #[must_use]
    pub fn read_high_acquire(&self, slot: usize) -> u64 {
        self.slots().get(slot).map_or(0, |words| u64::from_le(words[1].load(Ordering::Acquire)))
    }

    /// Copies out of a slot.
    ///
    /// # Errors
    /// There is no such slot, or it is shorter; nothing was copied.
    #[inline]
    pub fn read_bytes(&self, slot: usize, out: &mut [u8]) -> Result<(), OutOfRange> {
        if slot >= self.count || out.len() > Self::SIZE {
            return Err(OutOfRange);
        }
        let from = &self.slots()[slot];
        // SAFETY: a slot's SIZE bytes are valid and hold `out.len()`; `out` is exclusively ours, so they do not overlap:
        // no reference but to atomics may point into DMA memory.
        unsafe { copy(from.as_ptr().cast(), out.as_mut_ptr(), out.len()) }
        Ok(())
    }

    /// Copies into a slot.
    ///
    /// # Errors
    /// There is no such slot, or it is shorter; nothing was copied.
    #[inline]
    pub fn write_bytes(&self, slot: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        if slot >= self.count || bytes.len() > Self::SIZE {
            return Err(OutOfRange);
        }
        let to = &self.slots()[slot];
        // SAFETY: a slot's SIZE bytes are valid and hold `bytes.len()`, and what is behind a reference to atomics may
        // be written; `bytes` does not point into DMA memory, so they do not overlap.
        unsafe { copy(bytes.as_ptr(), to.as_ptr().cast_mut().cast(), bytes.len()) }
        Ok(())
    }
}

impl<const WORDS: usize> fmt::Debug for DmaRing<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaRing").field("buf", &self.buf).field("count", &self.count).finish()
    }
}

#[cfg(test)]
mod tests;
