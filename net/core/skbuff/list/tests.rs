//! Lists: what stations turn away, what drivers give back, what is not alike.

use super::SkbList;
use crate::kernel::context::BhCx;
use crate::kernel::testing::with_bh;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::DevId;
use crate::net::core::dst::{Dst, dst_discard, dst_discard_out};
use crate::net::core::skbuff::{alloc_skb, consume_skb};
use crate::net::ipv4::route::Flow4;
use std::sync::{Arc, OnceLock};
use uapi::rtnetlink::RTN_UNREACHABLE;

/// Runs `test` with a list of packets marked 0, 1, … and sees that none leaks.
fn with_list(count: u32, test: impl FnOnce(&mut BhCx<'_>, &mut SkbList)) {
    with_bh(|bh| {
        let mut list = bh.skb_list();
        for mark in 0..count {
            let mut skb = alloc_skb(bh, 64).expect("fits");
            skb.mark = mark;
            list.push(skb);
        }
        test(bh, &mut list);
        list.consume(bh);
        bh.free_skb_list(list);
    });
}

fn marks(list: &SkbList) -> Vec<u32> {
    list.iter().map(|skb| skb.mark).collect()
}

#[test]
fn a_station_turns_packets_away_and_the_others_stay_in_order() {
    with_list(6, |bh, list| {
        let odd = |skb: &super::Skb| skb.mark % 2 == 1;
        let ended = list.pass(bh, |_, skb| if odd(skb) { Err(DropReason::NoMem) } else { Ok(()) });
        assert_eq!((ended, marks(list)), (3, vec![0, 2, 4]));
        let mut turned = Vec::new();
        list.sift(
            bh,
            |_, skb| if skb.mark == 0 { Err("first") } else { Ok(()) },
            |bh, skb, why| {
                turned.push((skb.mark, why));
                consume_skb(bh, skb);
            },
        );
        assert_eq!((turned, marks(list)), (vec![(0, "first")], vec![2, 4]));
    });
}

#[test]
fn what_is_given_back_stays_with_those_behind_it() {
    with_list(5, |bh, list| {
        let mut taken = Vec::new();
        list.hand_out(|skb| {
            if skb.mark == 2 {
                return Err(skb);
            }
            taken.push(skb.mark);
            consume_skb(bh, skb);
            Ok(())
        });
        assert_eq!((taken, marks(list)), (vec![0, 1], vec![2, 3, 4]));
        assert_eq!(list.pop_front().map(|skb| (skb.mark, consume_skb(bh, skb)).0), Some(2));
        let mut behind = bh.skb_list();
        list.split_to(1, &mut behind);
        assert_eq!((marks(list), marks(&behind)), (vec![3], vec![4]));
        list.append(&mut behind);
        bh.free_skb_list(behind);
        let mut arrived = Vec::new();
        list.move_to(1, &mut arrived);
        assert_eq!((marks(list), arrived.len()), (vec![4], 1));
        arrived.into_iter().for_each(|skb| consume_skb(bh, skb));
    });
}

fn nowhere() -> Arc<Dst> {
    Arc::new(Dst {
        input: dst_discard,
        output: dst_discard_out,
        dev: DevId(1),
        generation: 0,
        mtu_locked: false,
        exception: None,
        rt_type: RTN_UNREACHABLE,
        to_many: false,
        local_too: false,
        gateway: 0,
        saddr: 0,
        mtu: 1500,
        rt_iif: 0,
        key: (&Flow4::default()).into(),
        error: None,
        neigh: OnceLock::new(),
    })
}

/// Who is handed a packet on its way has its route too; who is handed one that has arrived, no longer.
#[test]
fn a_packet_that_has_arrived_comes_without_its_route() {
    with_list(4, |bh, list| {
        list.dst = Some(nowhere());
        let mut routed = Vec::new();
        list.hand_over(|skb| {
            if skb.mark == 2 {
                return Err(skb);
            }
            routed.push((skb.mark, skb.dst.is_some()));
            consume_skb(bh, skb);
            Ok(())
        });
        list.hand_out(|skb| {
            if skb.mark == 3 {
                return Err(skb);
            }
            routed.push((skb.mark, skb.dst.is_some()));
            consume_skb(bh, skb);
            Ok(())
        });
        assert_eq!(routed, [(0, false), (1, false), (2, true)]);
        assert_eq!(marks(list), [3]);
    });
}

#[test]
fn packets_that_are_not_alike_go_in_runs_and_what_is_left_keeps_its_order() {
    with_list(7, |bh, list| {
        let half = |skb: &super::SkBuff| skb.mark / 3;
        assert_eq!(list.common(|skb| [u64::from(half(skb))]), None);
        assert_eq!(list.common(|_| [7]), Some([7]));
        let mut seen = Vec::new();
        list.in_runs(bh, half, |bh, run, key| {
            seen.push(marks(run));
            assert!(run.iter().all(|skb| half(skb) == key));
            run.pass(bh, |_, skb| if skb.mark == 4 { Err(DropReason::NoMem) } else { Ok(()) });
        });
        assert_eq!(seen, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(marks(list), [0, 1, 2, 3, 5, 6]);
    });
    with_list(1, |_, list| assert_eq!(list.common(|_| [3]), Some([3])));
    with_list(0, |_, list| assert_eq!(list.common(|_| [3]), None));
}

/// A bug of who had the list: it is said while the stack is developed, and is nobody else's otherwise.
#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the end of each packet is stated"))]
fn what_a_list_still_holds_ends_with_it() {
    with_list(1, |bh, list| {
        let mut other = bh.skb_list();
        list.split_to(0, &mut other);
        bh.free_skb_list(other);
        assert!(bh.skb_list().is_empty(), "the next one's list is as new");
    });
}
