//! The receive-side scaling hash (Toeplitz).

/// Hash of `input` under `key`; what reaches beyond the key counts as zero.
pub(super) fn toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let at = |i: usize| u64::from(key.get(i).copied().unwrap_or(0));
    let mut window = at(0) << 32 | at(1) << 24 | at(2) << 16 | at(3) << 8 | at(4);
    let mut hash = 0;
    for (i, byte) in input.iter().enumerate() {
        // 40 bits of key: one 32-bit window for each of the byte's bits.
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= (window >> (8 - bit)) as u32;
            }
        }
        window = (window << 8 | at(i + 5)) & 0xFF_FFFF_FFFF;
    }
    hash
}
