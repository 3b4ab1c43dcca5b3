//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A *partial sum* is a `u32` whose value modulo `0xffff` is the one's-complement sum of the
//! big-endian 16-bit words seen so far; several `u32` values stand for the same sum, so compare
//! sums only after [`csum_fold`]. Every `u16` taken or returned here is in host order such that
//! `to_be_bytes()` gives the bytes on the wire. A trailing odd byte counts as the high half of a
//! word whose low half is zero, and whatever follows is summed from a new word on: use
//! [`csum_block_add`] to join blocks at an odd offset.
//!
//! linux: `lib/checksum.c`, `include/net/checksum.h`

/// Sums `data` as words in the machine's own byte order, folded to 16 bits.
///
/// One's-complement sums do not depend on byte order except that the result is swapped, so the
/// swap happens once, at the end.
#[inline]
fn native_sum(data: &[u8]) -> u16 {
    let mut lanes = [0u64; 4];
    let (blocks, rest) = data.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            let word = u64::from_ne_bytes(*word);
            // Two 32-bit halves cannot overflow a lane before 2^31 blocks.
            *lane = lane.wrapping_add((word & 0xffff_ffff) + (word >> 32));
        }
    }
    let mut sum = lanes.iter().fold(0u64, |sum, &lane| end_around_add(sum, lane));
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum = end_around_add(sum, u32::from_ne_bytes(*word).into());
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum = end_around_add(sum, u32::from_ne_bytes(last).into());
    }
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = ((sum >> 32) + (sum & 0xffff_ffff)) as u32;
    fold(sum)
}

/// One's-complement addition of 64-bit numbers.
#[inline]
const fn end_around_add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// Folds a partial sum to 16 bits without complementing it; non-zero stays non-zero.
#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// Adds the words of `data` to the partial sum `sum`.
///
/// linux: `lib/checksum.c:csum_partial`
#[inline]
#[must_use]
pub fn csum_partial(data: &[u8], sum: u32) -> u32 {
    csum_add(sum, u16::from_be(native_sum(data)).into())
}

/// Copies `src` to the front of `dst` and adds the bytes copied to the partial sum `sum`.
///
/// When the lengths differ, the shorter one says how much is copied.
///
/// linux: `include/net/checksum.h:csum_partial_copy_nocheck`
#[must_use]
pub fn csum_partial_copy(src: &[u8], dst: &mut [u8], mut sum: u32) -> u32 {
    // Blocks that stay in the first-level cache between the copy and the sum; their even length
    // keeps the words aligned to the start of the data.
    for (src, dst) in src.chunks(4096).zip(dst.chunks_mut(4096)) {
        let len = src.len().min(dst.len());
        let (src, dst) = (&src[..len], &mut dst[..len]);
        dst.copy_from_slice(src);
        sum = csum_partial(dst, sum);
    }
    sum
}

/// The checksum of an IP header: the value to store in its (zeroed) checksum field, or 0 when a
/// header with a correct checksum is verified.
///
/// linux: `lib/checksum.c:ip_fast_csum`
#[inline]
#[must_use]
pub fn ip_fast_csum(header: &[u8]) -> u16 {
    // Nearly every header has no options.
    match header.try_into() {
        Ok(plain) => csum_20(plain),
        Err(_) => !u16::from_be(native_sum(header)),
    }
}

/// The checksum of the 20 bytes that an IP header without options has.
#[inline(always)]
fn csum_20(header: &[u8; 20]) -> u16 {
    let (words, _) = header.as_chunks::<4>();
    let (halves, _) = header.as_chunks::<8>();
    let [first, second] = [halves[0], halves[1]].map(u64::from_ne_bytes);
    let last = u32::from_ne_bytes(words[4]).into();
    let sum = end_around_add(end_around_add(first, second), last);
    // A number and its halves exchanged: the upper half of their sum is the sum of the halves, with
    // the carry out of the lower half brought around.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    let sum = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
    !u16::from_be(sum)
}

/// Finishes a partial sum: the complement of its 16-bit fold, as stored in a packet.
///
/// linux: `include/asm-generic/checksum.h:csum_fold`
#[inline]
#[must_use]
pub const fn csum_fold(sum: u32) -> u16 {
    !fold(sum)
}

/// Takes a 16-bit sum as a partial sum.
///
/// linux: `include/net/checksum.h:csum_unfold`
#[inline]
#[must_use]
pub const fn csum_unfold(sum: u16) -> u32 {
    sum as u32
}

/// Adds two partial sums.
///
/// linux: `include/net/checksum.h:csum_add`
#[inline]
#[must_use]
pub const fn csum_add(sum: u32, addend: u32) -> u32 {
    let (sum, carry) = sum.overflowing_add(addend);
    sum + carry as u32
}

/// Subtracts the partial sum `addend` from `sum`.
///
/// linux: `include/net/checksum.h:csum_sub`
#[inline]
#[must_use]
pub const fn csum_sub(sum: u32, addend: u32) -> u32 {
    csum_add(sum, !addend)
}

/// The sum of a block as it counts at byte `offset` of the whole.
///
/// linux: `include/net/checksum.h:csum_shift`
#[inline]
#[must_use]
pub const fn csum_shift(sum: u32, offset: usize) -> u32 {
    if offset % 2 == 1 { sum.rotate_right(8) } else { sum }
}

/// Adds the sum `sum2` of a block that starts at byte `offset` of the data summed in `sum`.
///
/// linux: `include/net/checksum.h:csum_block_add`
#[inline]
#[must_use]
pub const fn csum_block_add(sum: u32, sum2: u32, offset: usize) -> u32 {
    csum_add(sum, csum_shift(sum2, offset))
}

/// Takes the sum `sum2` of the block at byte `offset` out of `sum`.
///
/// linux: `include/net/checksum.h:csum_block_sub`
#[inline]
#[must_use]
pub const fn csum_block_sub(sum: u32, sum2: u32, offset: usize) -> u32 {
    csum_block_add(sum, !sum2, offset)
}

/// Adds the pseudo header of TCP or UDP over IPv4; addresses are in host order.
///
/// linux: `lib/checksum.c:csum_tcpudp_nofold`
#[inline]
#[must_use]
pub const fn csum_tcpudp_nofold(saddr: u32, daddr: u32, len: u32, proto: u8, sum: u32) -> u32 {
    let total = saddr as u64 + daddr as u64 + len as u64 + proto as u64 + sum as u64;
    csum_add(total as u32, (total >> 32) as u32)
}

/// The finished TCP or UDP checksum, from the partial sum of header and payload.
///
/// linux: `include/asm-generic/checksum.h:csum_tcpudp_magic`
#[inline]
#[must_use]
pub const fn csum_tcpudp_magic(saddr: u32, daddr: u32, len: u32, proto: u8, sum: u32) -> u16 {
    csum_fold(csum_tcpudp_nofold(saddr, daddr, len, proto, sum))
}

/// The stored checksum `check` after a 16-bit field changed from `old` to `new`.
///
/// linux: `include/net/checksum.h:csum_replace2`
#[inline]
#[must_use]
pub const fn csum_replace2(check: u16, old: u16, new: u16) -> u16 {
    csum_fold(!check as u32 + !old as u32 + new as u32)
}

/// The stored checksum `check` after an aligned 32-bit field changed from `old` to `new`.
///
/// linux: `include/net/checksum.h:csum_replace4`
#[inline]
#[must_use]
pub const fn csum_replace4(check: u16, old: u32, new: u32) -> u16 {
    csum_fold(csum_add(csum_sub(!check as u32, old), new))
}

#[cfg(test)]
#[path = "checksum/tests.rs"]
mod tests;
