//! Bitmaps: a fixed-size atomic one for pending-work flags, and processor masks.
//!
//! [`AtomicBitmap`] is written by many threads and drained by one; [`CpuMask`] is a plain value
//! that reads and prints the notations used by `/proc/irq/*/smp_affinity` and
//! `smp_affinity_list`.
//!
//! linux: `lib/bitmap.c`, `lib/bitmap-str.c`, `lib/cpumask.c`

use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// Splits a bit number into its word and the mask within that word.
const fn locate(bit: usize) -> (usize, u64) {
    (bit / 64, 1 << (bit % 64))
}

/// A bitmap of `WORDS * 64` bits that any thread may set and clear.
///
/// Setting a bit publishes the writes made before it to whoever takes the bit with
/// [`take_all`](Self::take_all).
pub struct AtomicBitmap<const WORDS: usize> {
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> AtomicBitmap<WORDS> {
    /// The number of bits held.
    pub const BITS: usize = WORDS * 64;

    /// A bitmap with no bit set.
    pub const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Sets `bit` and says whether it was set before.
    ///
    /// A bit out of range is ignored and reported as already set, so that a caller which starts
    /// work on "was clear" starts none.
    #[inline]
    pub fn set(&self, bit: usize) -> bool {
        let (word, mask) = locate(bit);
        match self.words.get(word) {
            Some(word) => word.fetch_or(mask, Ordering::AcqRel) & mask != 0,
            None => true,
        }
    }

    /// Clears `bit` and says whether it was set before (`false` when out of range).
    #[inline]
    pub fn clear(&self, bit: usize) -> bool {
        let (word, mask) = locate(bit);
        match self.words.get(word) {
            Some(word) => word.fetch_and(!mask, Ordering::AcqRel) & mask != 0,
            None => false,
        }
    }

    /// Whether `bit` is set (`false` when out of range).
    #[inline]
    pub fn test(&self, bit: usize) -> bool {
        let (word, mask) = locate(bit);
        self.words.get(word).is_some_and(|word| word.load(Ordering::Acquire) & mask != 0)
    }

    /// Whether some bit is set, by plain loads: a hint while others are writing.
    #[inline]
    pub fn any(&self) -> bool {
        any(&self.words)
    }

    /// Clears every bit, word by word as the iterator comes to it, and gives those that were set, in
    /// ascending order. One pass: what is set behind it stays for the next.
    ///
    /// Words that read zero are not written, so an idle bitmap stays shared in every cache.
    #[inline]
    pub fn take_all(&self) -> TakeAll<'_, WORDS> {
        TakeAll { words: &self.words, behind: 0, bits: 0 }
    }
}

#[inline]
fn any(words: &[AtomicU64]) -> bool {
    words.iter().fold(0, |all, word| all | word.load(Ordering::Relaxed)) != 0
}

/// The bits of an [`AtomicBitmap`], taken; see [`AtomicBitmap::take_all`]. Dropped before its end, it
/// forgets what is left of the word it was at.
pub struct TakeAll<'a, const WORDS: usize> {
    words: &'a [AtomicU64; WORDS],
    /// How many words were taken.
    behind: usize,
    /// What is left of the last of them.
    bits: u64,
}

impl<const WORDS: usize> Iterator for TakeAll<'_, WORDS> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            // Mostly one bit is set, in the first word: seeing that no other is takes one look at all.
            if self.behind != 0 && !any(self.words) {
                return None;
            }
            let word = self.words.get(self.behind)?;
            self.behind += 1;
            if word.load(Ordering::Relaxed) != 0 {
                self.bits = word.swap(0, Ordering::AcqRel);
            }
        }
        let bit = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some((self.behind - 1) * 64 + bit)
    }
}

impl<const WORDS: usize> Default for AtomicBitmap<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> fmt::Debug for AtomicBitmap<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..Self::BITS).filter(|&bit| self.test(bit))).finish()
    }
}

/// A set of up to 64 processors, by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CpuMask(u64);

/// Why a processor mask or list was refused; each names the offending part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CpuMaskError {
    /// The text, or one comma-separated part of it, is empty.
    #[error("empty part in `{0}`")]
    Empty(String),
    /// A group is not one to eight hexadecimal digits.
    #[error("`{0}` is not a group of 1 to 8 hexadecimal digits")]
    BadGroup(String),
    /// A list element is neither a number nor a range of numbers.
    #[error("`{0}` is neither a processor number nor a range")]
    BadElement(String),
    /// A range ends before it starts.
    #[error("range `{0}` ends before it starts")]
    BackwardRange(String),
    /// A processor beyond number 63 is named.
    #[error("`{0}` names a processor above 63")]
    TooBig(String),
}

impl CpuMask {
    /// The mask whose bit *n* stands for processor *n*.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The mask as a number.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether no processor is in the mask.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether processor `cpu` is in the mask.
    pub const fn contains(self, cpu: usize) -> bool {
        cpu < 64 && self.0 >> cpu & 1 != 0
    }

    /// The lowest processor of the mask.
    pub const fn first(self) -> Option<usize> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as usize) }
    }

    /// The processors of the mask in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |&cpu| self.contains(cpu))
    }

    /// Reads a list such as `0-2,5`.
    ///
    /// The empty text is the empty mask, as it is in `smp_affinity_list`.
    ///
    /// linux: `lib/bitmap-str.c:bitmap_parselist`
    pub fn parse_list(text: &str) -> Result<Self, CpuMaskError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(0));
        }
        let mut bits = 0;
        for part in text.split(',') {
            let part = part.trim();
            if part.is_empty() {
                return Err(CpuMaskError::Empty(text.to_owned()));
            }
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (list_number(low, part)?, list_number(high, part)?);
            if low > high {
                return Err(CpuMaskError::BackwardRange(part.to_owned()));
            }
            bits |= (u64::MAX >> (63 - (high - low))) << low;
        }
        Ok(Self(bits))
    }

    /// Prints the mask with all digits that so many processors need, in groups of 32 bits.
    ///
    /// linux: `lib/vsprintf.c:bitmap_string`
    pub fn to_mask(self, cpus: usize) -> String {
        let digits = |bits: usize| bits.div_ceil(4);
        if cpus <= 32 {
            return format!("{:0width$x}", self.0, width = digits(cpus));
        }
        format!("{:0width$x},{:08x}", self.0 >> 32, self.0 as u32, width = digits(cpus - 32))
    }

    /// Prints the mask as a list such as `0-2,5`; the empty mask is the empty text.
    pub fn to_list(self) -> String {
        let mut out = String::new();
        let mut rest = self.0;
        while rest != 0 {
            let low = rest.trailing_zeros();
            let run = (rest >> low).trailing_ones();
            let high = low + run - 1;
            if !out.is_empty() {
                out.push(',');
            }
            out += &low.to_string();
            if high > low {
                out.push('-');
                out += &high.to_string();
            }
            rest &= u64::MAX.checked_shl(high + 1).unwrap_or(0);
        }
        out
    }
}

/// Reads one bound of the list element `part`.
fn list_number(text: &str, part: &str) -> Result<u32, CpuMaskError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CpuMaskError::BadElement(part.to_owned()));
    }
    match text.parse() {
        Ok(cpu) if cpu < 64 => Ok(cpu),
        _ => Err(CpuMaskError::TooBig(part.to_owned())),
    }
}

impl FromStr for CpuMask {
    type Err = CpuMaskError;

    /// Reads hexadecimal groups of 32 bits, the most significant first: `f`, `ff,ffffffff`.
    ///
    /// linux: `lib/bitmap-str.c:bitmap_parse`
    fn from_str(text: &str) -> Result<Self, CpuMaskError> {
        let text = text.trim();
        let mut bits: u64 = 0;
        for group in text.split(',') {
            if group.is_empty() {
                return Err(CpuMaskError::Empty(text.to_owned()));
            }
            if !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(CpuMaskError::BadGroup(group.to_owned()));
            }
            if group.len() > 8 {
                return Err(CpuMaskError::TooBig(group.to_owned()));
            }
            let value = u32::from_str_radix(group, 16)
                .map_err(|_| CpuMaskError::BadGroup(group.to_owned()))?;
            if bits >> 32 != 0 {
                return Err(CpuMaskError::TooBig(text.to_owned()));
            }
            bits = bits << 32 | u64::from(value);
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for CpuMask {
    /// Prints groups of 32 bits; a mask that fits one group is printed as one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.0 >> 32, self.0 & 0xffff_ffff);
        if high == 0 { write!(f, "{low:x}") } else { write!(f, "{high:x},{low:08x}") }
    }
}

impl fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuMask({self})")
    }
}

#[cfg(test)]
#[path = "bitmap/tests.rs"]
mod tests;
