//! Where fragments have a place.

use super::{FragConflict, InetFragQueue};
use crate::kernel::context::BhCx;
use crate::kernel::testing::with_bh;
use crate::net::core::skbuff::{alloc_skb, consume_skb};

/// Puts the octets from `from` to `to` in; they tell where they stand.
fn put(
    cx: &mut BhCx<'_>,
    q: &mut InetFragQueue,
    (from, to): (u32, u32),
) -> Result<(), FragConflict> {
    let mut skb = alloc_skb(cx, 600).expect("memory");
    let room = skb.skb_put((to - from) as usize).expect("room");
    room.iter_mut().zip(from..).for_each(|(octet, at)| *octet = (at / 8) as u8);
    q.inet_frag_queue_insert(skb, from, to).map_err(|(skb, conflict)| {
        consume_skb(cx, skb);
        conflict
    })
}

/// All octets, in their order.
fn octets(cx: &mut BhCx<'_>, q: &mut InetFragQueue) -> Vec<u8> {
    let mut all = Vec::new();
    for skb in q.take() {
        all.extend_from_slice(skb.data());
        consume_skb(cx, skb);
    }
    all
}

#[test]
fn in_whatever_order_they_come_the_datagram_is_the_same() {
    with_bh(|cx| {
        let ranges = [(0, 8), (8, 32), (32, 40), (40, 43)];
        let mut orders = vec![Vec::new()];
        for _ in 0..ranges.len() {
            orders = orders
                .iter()
                .flat_map(|order: &Vec<usize>| {
                    let left = (0..ranges.len()).filter(|at| !order.contains(at));
                    left.map(|at| [&order[..], &[at]].concat()).collect::<Vec<_>>()
                })
                .collect();
        }
        assert_eq!(orders.len(), 24);
        let whole: Vec<u8> = (0..43_u32).map(|at| (at / 8) as u8).collect();
        for order in orders {
            let mut q = InetFragQueue::default();
            (q.last_in, q.len) = (true, 43);
            for (count, at) in order.iter().enumerate() {
                assert!(!q.is_whole(), "{count} of four");
                assert_eq!(put(cx, &mut q, ranges[*at]), Ok(()));
                q.first_in |= ranges[*at].0 == 0;
            }
            assert!(q.is_whole(), "{order:?}");
            assert!(q.truesize > 4 * 600);
            assert_eq!(octets(cx, &mut q), whole, "{order:?}");
            assert!(q.is_empty() && q.truesize == 0);
        }
    });
}

#[test]
fn a_copy_is_told_from_an_overlap() {
    use FragConflict::{Dup, Overlap};
    with_bh(|cx| {
        let mut q = InetFragQueue::default();
        assert_eq!(put(cx, &mut q, (80, 120)), Ok(()));
        assert_eq!(put(cx, &mut q, (120, 160)), Ok(()), "right behind: one run");
        assert_eq!(put(cx, &mut q, (200, 240)), Ok(()), "a gap");
        assert_eq!(put(cx, &mut q, (16, 24)), Ok(()), "in front of all");
        let cases = [
            ((80, 120), Dup),
            ((80, 160), Dup),
            ((88, 152), Dup),
            ((16, 24), Dup),
            ((200, 240), Dup),
            ((232, 240), Dup),
            ((8, 24), Overlap),
            ((16, 32), Overlap),
            ((0, 400), Overlap),
            ((72, 88), Overlap),
            ((152, 168), Overlap),
            ((160, 208), Overlap),
            ((232, 248), Overlap),
            ((192, 240), Overlap),
        ];
        for (range, conflict) in cases {
            assert_eq!(put(cx, &mut q, range), Err(conflict), "{range:?}");
        }
        let meat = q.meat;
        assert_eq!(meat, 40 + 40 + 40 + 8, "none of them counted");
        assert_eq!(put(cx, &mut q, (24, 80)), Ok(()), "the gap between two");
        assert_eq!(put(cx, &mut q, (160, 200)), Ok(()), "and another");
        assert_eq!(put(cx, &mut q, (240, 248)), Ok(()), "behind all");
        let gone = q.reinit();
        assert_eq!(gone.len(), 7);
        gone.into_iter().for_each(|skb| consume_skb(cx, skb));
        assert_eq!((q.meat, q.len, q.first_in, q.last_in), (0, 0, false, false));
    });
}
