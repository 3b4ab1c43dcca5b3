//! What the headers of datagrams say that go the same way.
//!
//! Read once, where a header is checked, and kept with the list: neither routing nor delivery opens
//! a header again, and datagrams are told alike by two words.

use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{SkBuff, Skb, SkbList};
use uapi::ip::{IP_MF, IP_OFFSET, IpHdr};

/// What datagrams have alike that go the same way, to the same protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IpWay {
    /// Source and destination, as they stand there.
    addrs: u64,
    /// From the lowest byte: version and header length, TOS, protocol; two bytes of the device they came
    /// in at; in the highest two what makes a fragment.
    other: u64,
}

impl IpWay {
    /// What a header says that has been checked.
    #[inline(always)]
    pub(super) fn of(header: &[u8; size_of::<IpHdr>()]) -> Self {
        const KEPT: u64 = {
            let [c, d] = (IP_MF | IP_OFFSET).to_be_bytes();
            u64::from_le_bytes([!0, !0, 0, 0, 0, 0, c, d])
        };
        let [first @ .., _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        Self {
            addrs: u64::from_ne_bytes([s0, s1, s2, s3, d0, d1, d2, d3]),
            other: u64::from_le_bytes(first) & KEPT | u64::from(protocol) << 16,
        }
    }

    /// The datagram's own, from its header.
    pub(super) fn of_skb(skb: &SkBuff) -> Self {
        skb.data().first_chunk().map_or(Self::default(), Self::of)
    }

    /// What a header says.
    #[inline(always)]
    pub(super) fn key(self) -> [u64; 2] {
        [self.addrs, self.other]
    }

    /// What headers say that came in at `dev`.
    #[inline(always)]
    pub(super) fn new([addrs, other]: [u64; 2], dev: DevId) -> Self {
        Self { addrs, other: other | u64::from(dev.0) << 24 }
    }

    /// The device they came in at.
    #[inline(always)]
    pub(crate) fn iif(self) -> u16 {
        (self.other >> 24) as u16
    }

    /// Source and destination address, the source in the upper half.
    #[inline(always)]
    pub(crate) fn addrs(self) -> u64 {
        u64::from_be(self.addrs)
    }

    /// Bytes of the header.
    #[inline(always)]
    pub(crate) fn ihl(self) -> usize {
        (self.other & 15) as usize * 4
    }

    /// Type of service.
    #[inline(always)]
    pub(crate) fn tos(self) -> u8 {
        (self.other >> 8) as u8
    }

    /// What they carry.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u8 {
        (self.other >> 16) as u8
    }

    /// They are pieces of longer ones.
    #[inline(always)]
    pub(super) fn is_fragment(self) -> bool {
        self.other >> 48 != 0
    }
}

impl SkbList {
    /// What the headers say now: somebody had the packets who may change them.
    #[cold]
    pub(crate) fn look_again(&mut self) {
        let now = |skb: &Skb| IpWay::new(IpWay::of_skb(skb).key(), skb.dev.unwrap_or(DevId(0)));
        self.way = self.first().map_or(IpWay::default(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::IpWay;
    use crate::net::core::dev::DevId;
    use uapi::ip::{IP_DF, IP_MF, IP_OFFSET, IPPROTO_UDP, IpHdr};
    use zerocopy::IntoBytes;

    fn way(change: impl FnOnce(&mut IpHdr)) -> IpWay {
        let mut header = IpHdr { tos: 0x2e, ttl: 64, protocol: IPPROTO_UDP, ..IpHdr::default() };
        header.set_ihl(24);
        header.tot_len.set(500);
        header.saddr.set(0xc000_0201);
        header.daddr.set(0xc000_0202);
        change(&mut header);
        IpWay::of(header.as_bytes().first_chunk().expect("twenty bytes"))
    }

    #[test]
    fn it_tells_what_the_header_tells() {
        let plain = IpWay::new(way(|_| ()).key(), DevId(0xfedc));
        assert_eq!(plain.addrs(), 0xc000_0201_c000_0202);
        assert_eq!((plain.ihl(), plain.tos(), plain.protocol()), (24, 0x2e, IPPROTO_UDP));
        assert_eq!(plain.iif(), 0xfedc);
        assert!(!plain.is_fragment());
        assert!(way(|header| header.frag_off.set(IP_MF)).is_fragment());
        for bit in 0..13 {
            let fragment = way(|header| header.frag_off.set(1 << bit));
            assert!(fragment.is_fragment(), "offset bit {bit}");
            assert_eq!((fragment.tos(), fragment.protocol(), fragment.ihl()), (0x2e, 17, 24));
        }
    }

    #[test]
    fn what_is_each_datagrams_own_makes_no_other_way() {
        let same = way(|_| ());
        assert_eq!(way(|header| header.frag_off.set(IP_DF)), same);
        assert_eq!(way(|header| header.frag_off.set(0x8000)), same, "the reserved bit");
        assert_eq!(way(|header| header.id.set(0xffff)), same);
        assert_eq!(way(|header| header.tot_len.set(0xffff)), same);
        assert_eq!(way(|header| header.ttl = 1), same);
        assert_eq!(way(|header| header.check.set(0xffff)), same);
        assert_ne!(way(|header| header.frag_off.set(IP_OFFSET)), same);
        assert_ne!(way(|header| header.tos ^= 1), same);
        assert_ne!(way(|header| header.protocol ^= 1), same);
        assert_ne!(way(|header| header.saddr.set(1)), same);
        assert_ne!(way(|header| header.daddr.set(1)), same);
        assert_ne!(way(|header| header.set_ihl(20)), same);
    }
}
