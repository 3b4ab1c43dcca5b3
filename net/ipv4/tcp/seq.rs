//! Sequence numbers, which wrap.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// A sequence number: compared as RFC 9293 section 3.4 says, modulo 2³².
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SeqNr(pub u32);

impl SeqNr {
    /// Comes before `other`.
    ///
    /// linux: include/net/tcp.h:before
    #[inline(always)]
    pub fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Comes behind `other`.
    ///
    /// linux: include/net/tcp.h:after
    #[inline(always)]
    pub fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Lies from `first` to `last`, both included.
    ///
    /// linux: include/net/tcp.h:between
    #[inline]
    pub fn between(self, first: Self, last: Self) -> bool {
        last.0.wrapping_sub(first.0) >= self.0.wrapping_sub(first.0)
    }

    /// The later of two.
    #[inline]
    pub fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two.
    #[inline]
    pub fn min(self, other: Self) -> Self {
        if self.after(other) { other } else { self }
    }

    /// How far it lies behind `other`; negative: in front.
    #[inline]
    pub fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

impl Add<u32> for SeqNr {
    type Output = Self;
    #[inline(always)]
    fn add(self, octets: u32) -> Self {
        Self(self.0.wrapping_add(octets))
    }
}

impl AddAssign<u32> for SeqNr {
    #[inline(always)]
    fn add_assign(&mut self, octets: u32) {
        *self = *self + octets;
    }
}

impl Sub<u32> for SeqNr {
    type Output = Self;
    #[inline(always)]
    fn sub(self, octets: u32) -> Self {
        Self(self.0.wrapping_sub(octets))
    }
}

impl SubAssign<u32> for SeqNr {
    #[inline]
    fn sub_assign(&mut self, octets: u32) {
        *self = *self - octets;
    }
}

impl Sub for SeqNr {
    type Output = u32;
    /// Octets from `earlier` to here, modulo 2³².
    #[inline(always)]
    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl fmt::Debug for SeqNr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap() {
        let last = SeqNr(u32::MAX);
        assert!(last.before(last + 1) && (last + 1).after(last) && !last.after(last));
        assert_eq!((last + 2, last + 5 - last, (last + 3).distance(last)), (SeqNr(1), 5, 3));
        assert_eq!(last.distance(last + 3), -3);
        assert_eq!((last.max(SeqNr(4)), last.min(SeqNr(4))), (SeqNr(4), last));
        assert!(SeqNr(1).between(last, SeqNr(1)) && !SeqNr(2).between(last, SeqNr(1)));
    }
}
