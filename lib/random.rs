//! A fast, unpredictable random number generator, seeded by its owner.
//!
//! Each processor owns one and draws from it without locks; the same seed gives the same numbers,
//! which is what makes simulations repeatable. Twenty rounds of ChaCha, as in Linux.
//!
//! linux: `drivers/char/random.c`

use core::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// A ChaCha20 generator.
pub struct Csprng(ChaCha20Rng);

impl Csprng {
    /// A generator whose whole output is determined by `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// A number from the whole range of `u32`.
    ///
    /// linux: `drivers/char/random.c:get_random_u32`
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number from the whole range of `u64`.
    ///
    /// linux: `drivers/char/random.c:get_random_u64`
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, each equally likely; 0 when `n` is 0.
    ///
    /// linux: `include/linux/random.h:get_random_u32_below`
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        // A draw times `n` is a fixed-point number whose integer part is the answer. Of the 2^32
        // draws, 2^32 mod n are too many: those with the smallest fraction parts are redrawn.
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            let fraction = product as u32;
            if fraction >= n || n == 0 || fraction >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }
}

impl fmt::Debug for Csprng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csprng").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chacha20_key_stream() {
        // RFC 7539, appendix A.1, test vector 1: zero key, block 0.
        let mut rng = Csprng::from_seed([0; 32]);
        assert_eq!(rng.next_u32().to_le_bytes(), [0x76, 0xb8, 0xe0, 0xad]);
        assert_eq!(rng.next_u32().to_le_bytes(), [0xa0, 0xf1, 0x3d, 0x90]);
    }

    #[test]
    fn same_seed_same_numbers() {
        let (mut a, mut b) = (Csprng::from_seed([7; 32]), Csprng::from_seed([7; 32]));
        let mut c = Csprng::from_seed([8; 32]);
        let first: Vec<_> = (0..100).map(|_| a.next_u64()).collect();
        assert!(first.iter().all(|&n| n == b.next_u64()));
        assert!(first.iter().any(|&n| n != c.next_u64()));
    }

    #[test]
    fn below_is_in_range_and_even() {
        let mut rng = Csprng::from_seed([1; 32]);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
        assert!((0..100).all(|_| rng.below(u32::MAX) < u32::MAX));
        let mut seen = [0u32; 6];
        for _ in 0..60_000 {
            seen[rng.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
        // Three quarters of the range: a plain modulo would favour the low third two to one.
        let n = 3 << 30;
        let low = (0..30_000).filter(|_| rng.below(n) < n / 3).count();
        assert!((9_500..10_500).contains(&low), "{low}");
    }

    #[test]
    fn debug_hides_the_state_and_it_may_move_between_threads() {
        fn is_send<T: Send>(_: &T) {}
        let rng = Csprng::from_seed([0xab; 32]);
        is_send(&rng);
        assert_eq!(format!("{rng:?}"), "Csprng { .. }");
    }
}
