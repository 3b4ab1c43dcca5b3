//! SipHash-2-4: a keyed hash for tables and cookies that a peer must not be able to steer.
//!
//! The numbered forms hash their words as if they stood in memory in little-endian order, so each
//! equals [`SipKey::siphash`] over those bytes.
//!
//! linux: `lib/siphash.c`

use core::fmt;

use siphasher::sip::SipHasher24;

/// A secret key for [`siphash`](Self::siphash).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SipKey(pub [u64; 2]);

impl SipKey {
    /// Hashes bytes.
    ///
    /// linux: `lib/siphash.c:__siphash_unaligned`
    #[inline]
    pub fn siphash(&self, data: &[u8]) -> u64 {
        SipHasher24::new_with_keys(self.0[0], self.0[1]).hash(data)
    }

    /// Hashes the little-endian bytes of `words`.
    #[inline]
    fn words<const N: usize>(&self, words: [u32; N]) -> u64 {
        let bytes = words.map(u32::to_le_bytes);
        self.siphash(bytes.as_flattened())
    }

    /// Hashes one word.
    ///
    /// linux: `lib/siphash.c:siphash_1u32`
    #[inline]
    pub fn siphash_1u32(&self, a: u32) -> u64 {
        self.words([a])
    }

    /// Hashes two words.
    ///
    /// linux: `include/linux/siphash.h:siphash_2u32`
    #[inline]
    pub fn siphash_2u32(&self, a: u32, b: u32) -> u64 {
        self.words([a, b])
    }

    /// Hashes three words.
    ///
    /// linux: `lib/siphash.c:siphash_3u32`
    #[inline]
    pub fn siphash_3u32(&self, a: u32, b: u32, c: u32) -> u64 {
        self.words([a, b, c])
    }

    /// Hashes four words.
    ///
    /// linux: `include/linux/siphash.h:siphash_4u32`
    #[inline]
    pub fn siphash_4u32(&self, a: u32, b: u32, c: u32, d: u32) -> u64 {
        self.words([a, b, c, d])
    }
}

impl fmt::Debug for SipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the SipHash paper: bytes 0 to 15.
    const PAPER: SipKey = SipKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

    #[test]
    fn vector_of_the_paper() {
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(PAPER.siphash(&input), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn numbered_forms_hash_little_endian_bytes() {
        let bytes: Vec<u8> = (0..16).collect();
        let (a, b, c, d) = (0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c);
        assert_eq!(PAPER.siphash_1u32(a), PAPER.siphash(&bytes[..4]));
        assert_eq!(PAPER.siphash_2u32(a, b), PAPER.siphash(&bytes[..8]));
        assert_eq!(PAPER.siphash_3u32(a, b, c), PAPER.siphash(&bytes[..12]));
        assert_eq!(PAPER.siphash_4u32(a, b, c, d), PAPER.siphash(&bytes));
    }

    #[test]
    fn the_key_matters_and_is_not_printed() {
        assert_ne!(PAPER.siphash_1u32(1), SipKey([0, 0]).siphash_1u32(1));
        assert_eq!(format!("{PAPER:?}"), "SipKey { .. }");
    }
}
