use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The definition, word by word.
fn naive(data: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in data.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u64::from(b));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// One's-complement zero has two forms; equal sums differ at most in that.
fn same(a: u16, b: u16) -> bool {
    a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
}

#[test]
fn rfc_1071_example() {
    let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(!csum_fold(csum_partial(&data, 0)), 0xddf2);
    assert_eq!(csum_fold(csum_partial(&[], 0)), 0xffff);
}

#[test]
fn header_checksum() {
    let mut header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];
    let check = ip_fast_csum(&header);
    assert_eq!(check, 0xb861);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    assert_eq!(ip_fast_csum(&header), 0);
}

#[test]
fn rfc_1624_example() {
    assert_eq!(csum_replace2(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn all_ones_at_every_length() {
    let data = vec![0xff; 70_001];
    for len in (0..200).chain(69_990..70_001) {
        let data = &data[..len];
        assert_eq!(!csum_fold(csum_partial(data, 0)), naive(data), "{len}");
        assert!(same(!csum_fold(csum_partial(data, u32::MAX)), naive(data)), "{len}");
    }
}

proptest! {
    #[test]
    fn agrees_with_the_definition(data in vec(any::<u8>(), 0..3000), from in 0usize..9) {
        let data = &data[from.min(data.len())..];
        prop_assert_eq!(!csum_fold(csum_partial(data, 0)), naive(data));
        prop_assert_eq!(!ip_fast_csum(data), naive(data));
        let oracle = etherparse::checksum::Sum16BitWords::new().add_slice(data);
        prop_assert_eq!(csum_fold(csum_partial(data, 0)), u16::from_be(oracle.ones_complement()));
    }

    #[test]
    fn blocks_join_at_any_offset(data in vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let (head, tail) = data.split_at(cut.min(data.len()));
        let (a, b) = (csum_partial(head, 0), csum_partial(tail, 0));
        let whole = csum_block_add(a, b, head.len());
        prop_assert_eq!(!csum_fold(whole), naive(&data));
        prop_assert!(same(csum_fold(csum_block_sub(whole, b, head.len())), csum_fold(a)));
        if head.len() % 2 == 0 {
            prop_assert_eq!(!csum_fold(csum_partial(tail, a)), naive(&data));
            prop_assert_eq!(!csum_fold(csum_add(a, b)), naive(&data));
            prop_assert!(same(csum_fold(csum_sub(whole, b)), csum_fold(a)));
        }
    }

    #[test]
    fn copy_sums_what_it_copies(src in vec(any::<u8>(), 0..9000), room in 0usize..9000, sum: u32) {
        let mut dst = vec![0; room];
        let got = csum_partial_copy(&src, &mut dst, sum);
        let len = room.min(src.len());
        prop_assert_eq!(&dst[..len], &src[..len]);
        prop_assert_eq!(csum_fold(got), csum_fold(csum_partial(&src[..len], sum)));
    }

    #[test]
    fn ip_header_agrees_with_etherparse(
        len in 0u16..65_000, ttl: u8, proto: u8, src: [u8; 4], dst: [u8; 4], id: u16,
    ) {
        let mut header = Ipv4Header::new(len, ttl, IpNumber(proto), src, dst).unwrap();
        header.identification = id;
        header.header_checksum = 0;
        let check = ip_fast_csum(&header.to_bytes());
        prop_assert_eq!(check, header.calc_header_checksum());
        header.header_checksum = check;
        prop_assert_eq!(ip_fast_csum(&header.to_bytes()), 0);

        // One router hop, one address translation: updated and recomputed checksums agree.
        let word = u16::from_be_bytes([ttl, proto]);
        let next = u16::from_be_bytes([ttl.wrapping_sub(1), proto]);
        header.time_to_live = ttl.wrapping_sub(1);
        let updated = csum_replace2(check, word, next);
        prop_assert!(same(updated, header.calc_header_checksum()));
        let (old, new) = (u32::from_be_bytes(src), !u32::from_be_bytes(src) ^ 0x5a);
        header.source = new.to_be_bytes();
        prop_assert!(same(csum_replace4(updated, old, new), header.calc_header_checksum()));
    }

    #[test]
    fn tcp_agrees_with_etherparse(
        src: [u8; 4], dst: [u8; 4], ports: (u16, u16), seq: u32, payload in vec(any::<u8>(), 0..1500),
    ) {
        let header = TcpHeader::new(ports.0, ports.1, seq, 512);
        let want = header.calc_checksum_ipv4_raw(src, dst, &payload).unwrap();
        let mut segment = header.to_bytes().to_vec();
        segment.extend_from_slice(&payload);
        let (saddr, daddr) = (u32::from_be_bytes(src), u32::from_be_bytes(dst));
        let sum = csum_partial(&segment, 0);
        let got = csum_tcpudp_magic(saddr, daddr, segment.len() as u32, 6, sum);
        prop_assert!(same(got, want));
    }

    #[test]
    fn any_values_are_accepted(a: u32, b: u32, c: u32, d: u32, check: u16, proto: u8) {
        let _ = csum_tcpudp_nofold(a, b, c, proto, d);
        let _ = csum_replace4(check, a, b);
        prop_assert_eq!(csum_fold(csum_unfold(check)), !check);
        prop_assert!(same(csum_fold(csum_sub(csum_add(a, b), b)), csum_fold(a)));
    }
}
