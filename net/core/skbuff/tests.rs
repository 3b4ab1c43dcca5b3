//! The packet's data: room, cuts, fragments, sums, clones.

use super::walk_frame::WalkFrame;
use super::{
    Depot, IpSummed, Skb, SkbFrag, SkbPool, alloc_skb, skb_add_paged, skb_clone, skb_linearize,
};
use crate::kernel::bpf::BpfSource;
use crate::kernel::testing::with_bh;
use std::sync::Arc;

fn pool() -> SkbPool {
    SkbPool::new(Arc::new(Depot::new(1 << 22)))
}

fn frag(bytes: &[u8], offset: usize, size: usize) -> SkbFrag {
    SkbFrag { offset: offset as u32, size: size as u32, ..SkbFrag::copy_of(bytes) }
}

/// What a packet's end on a CPU does before its memory goes home.
fn end(pool: &mut SkbPool, mut skb: Skb) {
    skb.clear_frags();
    pool.free(skb);
}

#[test]
fn room_in_front_and_behind() {
    let mut pool = pool();
    let mut skb = pool.alloc(200).expect("memory");
    skb.skb_reserve(64);
    assert_eq!(skb.headroom(), 64);
    skb.skb_put(4).expect("room").copy_from_slice(b"data");
    skb.skb_push(2).expect("room").copy_from_slice(b"h:");
    assert_eq!(skb.data(), b"h:data");
    assert!(skb.skb_push(63).is_none(), "one more than there is");
    assert!(skb.skb_pull(2) && !skb.skb_pull(5));
    assert_eq!((skb.data(), skb.headroom()), (&b"data"[..], 64));
    let room = skb.tailroom();
    assert!(skb.skb_put(room + 1).is_none());
    assert!(skb.skb_put(usize::MAX).is_none());
    assert!(skb.skb_put(room).is_some());
    pool.free(skb);
}

#[test]
fn fragments_are_pulled_copied_summed_and_cut_as_one() {
    let mut pool = pool();
    let whole: Vec<u8> = (0..100).collect();
    let make = |pool: &mut SkbPool| {
        let mut skb = pool.alloc(300).expect("memory");
        skb.skb_put(11).expect("room").copy_from_slice(&whole[..11]);
        skb.add_frag(frag(&whole, 11, 30));
        skb.add_frag(frag(&whole, 41, 59));
        skb
    };
    let sum = klib::checksum::csum_fold(klib::checksum::csum_partial(&whole[3..], 0));
    for cut in [0, 1, 11, 12, 41, 42, 99, 100, 200] {
        let mut skb = make(&mut pool);
        skb.pskb_trim(cut);
        let mut out = vec![0; 200];
        let copied = skb.skb_copy_bits(0, &mut out);
        assert_eq!(out[..copied], whole[..cut.min(100)], "cut to {cut}");
        end(&mut pool, skb);
    }
    for pull in [0, 5, 11, 12, 40, 41, 100] {
        let mut skb = make(&mut pool);
        assert!(skb.pskb_may_pull(pull));
        assert!(skb.headlen() >= pull);
        let mut out = vec![0; 97];
        assert_eq!(skb.skb_copy_bits(3, &mut out), 97);
        assert_eq!(out, whole[3..]);
        assert_eq!(klib::checksum::csum_fold(skb.skb_checksum(3, 0)), sum, "pulled {pull}");
        assert!(!skb.pskb_may_pull(101));
        end(&mut pool, skb);
    }
    assert_eq!(pool.live(), 0);
}

#[test]
fn a_clone_is_read_only_until_it_gets_its_own_copy() {
    let mut pool = pool();
    let mut skb = pool.alloc(100).expect("memory");
    skb.skb_reserve(32);
    skb.skb_put(4).expect("room").copy_from_slice(b"same");
    skb.reset_network_header();
    let mut clone = pool.alloc_handle().expect("memory");
    clone.share(&mut skb);
    assert_eq!((skb.data(), clone.data()), (&b"same"[..], &b"same"[..]));
    assert!(skb.data_mut().is_none() && clone.data_mut().is_none(), "neither may write");
    assert!(clone.skb_push(1).is_none() && clone.skb_put(1).is_none());
    assert!(pool.expand_head(&mut clone, 40));
    clone.data_mut().expect("its own").copy_from_slice(b"mine");
    clone.skb_push(40).expect("the head room asked for").fill(0);
    assert_eq!(skb.data(), b"same");
    assert_eq!(clone.network_bytes(), b"mine", "headers moved along");
    pool.free(skb);
    pool.free(clone);
    assert_eq!(pool.live(), 0);
}

#[test]
fn a_partial_checksum_is_filled_in_where_it_says() {
    let mut pool = pool();
    let mut skb = pool.alloc(100).expect("memory");
    skb.skb_reserve(20);
    skb.skb_put(12).expect("room").copy_from_slice(&[9, 9, 9, 9, 1, 2, 3, 4, 0, 0, 7, 7]);
    skb.ip_summed = IpSummed::Partial;
    skb.csum_start = 24;
    skb.csum_offset = 4;
    assert!(skb.skb_checksum_help());
    assert_eq!(klib::checksum::csum_fold(skb.skb_checksum(4, 0)), 0, "it verifies");
    assert_eq!(skb.ip_summed, IpSummed::None);
    for (start, offset) in [(0, 0), (30, 4), (24, 60_000), (60_000, 4)] {
        skb.csum_start = start;
        skb.csum_offset = offset;
        assert!(!skb.skb_checksum_help(), "outside the packet: {start} {offset}");
    }
    pool.free(skb);
}

#[test]
fn cutting_forgets_a_sum_over_what_was_cut() {
    let mut pool = pool();
    let mut skb = pool.alloc(100).expect("memory");
    skb.skb_put(10).expect("room").fill(1);
    skb.ip_summed = IpSummed::Complete;
    skb.pskb_trim(10);
    assert_eq!(skb.ip_summed, IpSummed::Complete);
    skb.pskb_trim(9);
    assert_eq!(skb.ip_summed, IpSummed::None);
    pool.free(skb);
}

#[test]
fn what_a_walk_filter_sees_of_a_frame() {
    let mut pool = pool();
    let mut skb = pool.alloc(100).expect("memory");
    let mut ip = [0_u8; 28];
    (ip[0], ip[9]) = (0x45, 17);
    ip[12..16].copy_from_slice(&[10, 0, 0, 1]);
    ip[20..24].copy_from_slice(&[0, 7, 0, 9]);
    skb.skb_put(28).expect("room").copy_from_slice(&ip);
    skb.protocol = uapi::if_ether::ETH_P_IP;
    let type_at = |skb: &Skb, at| WalkFrame(skb).octets::<2>(at);
    assert_eq!(type_at(&skb, 12), Some([8, 0]), "no link header yet: its type");
    assert_eq!(WalkFrame(&skb).octets::<4>(26), Some([10, 0, 0, 1]));
    assert_eq!((type_at(&skb, 34), WalkFrame(&skb).len()), (Some([0, 7]), 42));
    assert_eq!((type_at(&skb, 41), type_at(&skb, -1)), (None, None), "not all there");
    assert!(skb.skb_pull(20));
    assert_eq!(WalkFrame(&skb).octets::<4>(26), Some([10, 0, 0, 1]), "pulled");
    skb.pskb_trim(3);
    assert_eq!(type_at(&skb, 36), None, "cut off");
    pool.free(skb);
}

/// A freed packet comes back as new: nothing of its past is left.
#[test]
fn a_packet_from_the_magazine_is_as_new() {
    let mut pool = pool();
    let first = pool.alloc(10).expect("memory");
    let as_new = format!("{:?}", *first).replace(char::is_numeric, "");
    let mut used = first;
    used.skb_reserve(7);
    used.skb_put(3).expect("room").fill(0);
    (used.protocol, used.queue_mapping, used.hash, used.mark) = (1, 2, 3, 4);
    (used.priority, used.csum, used.csum_start, used.csum_offset) = (5, 6, 7, 8);
    used.ip_summed = IpSummed::Partial;
    used.pkt_type = super::PktType::Outgoing;
    used.dev = Some(crate::net::core::dev::DevId(9));
    used.walk_id = crate::kernel::trace::WalkId(10);
    used.set_tstamp(crate::kernel::time::Ktime(11));
    used.cb = super::Cb::Neigh;
    used.gso.size = 12;
    used.reset_mac_header();
    used.reset_network_header();
    used.reset_transport_header();
    used.add_frag(frag(&[0; 4], 0, 4));
    end(&mut pool, used);
    let again = pool.alloc(10).expect("memory");
    assert_eq!(format!("{:?}", *again).replace(char::is_numeric, ""), as_new);
    assert!(!again.walk_id.watched() && again.hash == 0 && again.mark == 0);
    assert_eq!((again.len(), again.headroom(), again.csum_start), (0, 0, 0));
    assert_eq!(again.tstamp(), crate::kernel::time::Ktime(0));
    pool.free(again);
}

#[test]
fn a_packet_in_parts_becomes_one_piece_with_its_headers_in_front() {
    with_bh(|bh| {
        let mut skb = alloc_skb(bh, 100).expect("memory");
        skb.skb_reserve(40);
        skb.reset_mac_header();
        skb.skb_put(20).expect("room").copy_from_slice(&[1; 20]);
        assert!(skb.skb_pull(14));
        skb.reset_network_header();
        assert!(skb_add_paged(bh, &mut skb, &[2; 3000]));
        let mut merged = alloc_skb(bh, 100).expect("memory");
        merged.skb_put(10).expect("room").copy_from_slice(&[3; 10]);
        assert!(skb_add_paged(bh, &mut merged, &[4; 500]));
        (skb.len, skb.data_len) = (skb.len + 510, skb.data_len + 510);
        skb.frag_list.get_or_insert_with(|| bh.skb_list()).push(merged);
        let expected = [&[1; 6][..], &[2; 3000], &[3; 10], &[4; 500]].concat();
        let mut clone = skb_clone(bh, &mut skb).expect("memory");
        for skb in [&mut skb, &mut clone] {
            assert!(skb_linearize(bh, skb));
            assert_eq!((skb.data(), skb.len(), skb.data_len), (&expected[..], 3516, 0));
            assert_eq!(skb.mac::<[u8; 14]>(), Some(&[1; 14]), "what was pulled is still in front");
            assert_eq!(skb.network_offset(), 0);
            assert!(skb_linearize(bh, skb), "nothing to do");
        }
        bh.free_skb(skb);
        bh.free_skb(clone);
    });
}

#[test]
fn behind_data_that_a_clone_refers_to_there_is_no_room() {
    with_bh(|bh| {
        let mut skb = alloc_skb(bh, 200).expect("memory");
        skb.skb_put(50).expect("room").fill(1);
        assert!(skb.tailroom() >= 150);
        let mut clone = skb_clone(bh, &mut skb).expect("memory");
        for skb in [&mut skb, &mut clone] {
            assert_eq!(skb.tailroom(), 0);
            assert!(skb.skb_put(1).is_none());
        }
        bh.free_skb(skb);
        bh.free_skb(clone);
    });
}
