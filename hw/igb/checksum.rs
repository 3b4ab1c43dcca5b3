//! The Internet checksum (RFC 1071), for the model's offloads.

/// One's complement sum of 16-bit big-endian words, folded to 16 bits. An odd last byte counts as a high byte.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    // Summing in the machine's byte order and swapping once gives the same result (RFC 1071, 2(B)).
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 =
        words.by_ref().map(|w| u64::from(u32::from_ne_bytes([w[0], w[1], w[2], w[3]]))).sum();
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    total += u64::from(u32::from_ne_bytes(last));
    while total >> 16 != 0 {
        total = (total & 0xFFFF) + (total >> 16);
    }
    u32::from(u16::from_be(total as u16))
}

/// Folds a sum of folded sums to 16 bits.
pub(super) fn fold(mut total: u32) -> u16 {
    while total >> 16 != 0 {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u16
}
