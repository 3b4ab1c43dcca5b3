//! Keys that are told alike while they go by.

/// Keys seen one after the other: the bits that any of them has and those that all have. They are the
/// same just when all are alike, so that none need be kept to compare the next with.
pub(crate) struct Common<const WORDS: usize> {
    any: [u64; WORDS],
    all: [u64; WORDS],
}

impl<const WORDS: usize> Common<WORDS> {
    /// None was seen.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { any: [0; WORDS], all: [!0; WORDS] }
    }

    /// Sees one.
    #[inline(always)]
    pub(crate) fn see(&mut self, key: [u64; WORDS]) {
        for (word, bits) in key.into_iter().enumerate() {
            self.any[word] |= bits;
            self.all[word] &= bits;
        }
    }

    /// The key that all were; `None` when they differ, or there were none.
    #[inline(always)]
    pub(crate) fn all(&self) -> Option<[u64; WORDS]> {
        let differ = self.any.iter().zip(&self.all).fold(0, |bits, (any, all)| bits | (any ^ all));
        (differ == 0).then_some(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::Common;

    #[test]
    fn keys_are_alike_only_when_every_bit_is() {
        let alike = |keys: &[[u64; 2]]| {
            let mut common = Common::new();
            keys.iter().for_each(|key| common.see(*key));
            common.all()
        };
        assert_eq!(alike(&[]), None, "nothing is alike in no packet");
        assert_eq!(alike(&[[0, !0]]), Some([0, !0]));
        assert_eq!(alike(&[[5, 7]; 3]), Some([5, 7]));
        for word in 0..2 {
            for bit in 0..64 {
                let mut other = [5, 7];
                other[word] ^= 1 << bit;
                for keys in [[[5, 7], [5, 7], other], [other, [5, 7], [5, 7]]] {
                    assert_eq!(alike(&keys), None, "bit {bit} of word {word}");
                }
            }
        }
    }
}
