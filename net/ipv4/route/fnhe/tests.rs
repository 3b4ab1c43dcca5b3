//! The table of exceptions: what is in it, and how much.

use super::{FNHE_HASH_SIZE, FNHE_RECLAIM_DEPTH, Fnhe, FnheTable, Via};
use crate::kernel::time::Ktime;
use crate::net::core::dev::DevId;
use klib::siphash::SipKey;

fn at(seconds: u64) -> Ktime {
    Ktime::from_millis(1000 * seconds)
}

fn via(daddr: u32) -> Via {
    Via { dev: DevId(2), gateway: 9, daddr }
}

fn mtu(pmtu: u32) -> Fnhe {
    Fnhe { pmtu, mtu_locked: false, expires: at(600) }
}

#[test]
fn an_exception_is_of_one_destination_by_one_next_hop_and_ends() {
    let table = FnheTable::new(SipKey([1, 2]));
    assert_eq!(table.find_exception(via(1), at(0)), None);
    let before = table.genid();
    table.update_or_create_fnhe(via(1), mtu(1000), (at(0), 1));
    assert_ne!(table.genid(), before, "routes are looked up anew");
    assert_eq!(table.find_exception(via(1), at(599)), Some(mtu(1000)));
    assert_eq!(table.find_exception(via(2), at(1)), None);
    assert_eq!(table.find_exception(Via { gateway: 8, ..via(1) }, at(1)), None);
    assert_eq!(table.find_exception(Via { dev: DevId(3), ..via(1) }, at(1)), None);
    table.update_or_create_fnhe(via(1), mtu(800), (at(1), 1));
    assert_eq!((table.find_exception(via(1), at(2)), table.len()), (Some(mtu(800)), 1));
    assert_eq!(table.find_exception(via(1), at(600)), None, "its time is up");
    assert!(table.is_empty());
    table.update_or_create_fnhe(via(1), mtu(900), (at(0), 1));
    table.update_or_create_fnhe(Via { gateway: 8, ..via(1) }, mtu(700), (at(0), 1));
    table.flush(DevId(2), 9);
    assert_eq!((table.find_exception(via(1), at(1)), table.len()), (None, 1));
}

#[test]
fn the_table_is_bounded_and_the_oldest_of_a_chain_go() {
    let table = FnheTable::new(SipKey([3, 4]));
    let many = 20 * FNHE_HASH_SIZE as u32;
    for daddr in 0..many {
        let luck = daddr % FNHE_RECLAIM_DEPTH + 1;
        table.update_or_create_fnhe(via(daddr), mtu(1000), (at(u64::from(daddr)), luck));
    }
    let kept: Vec<u32> =
        (0..many).filter(|daddr| table.find_exception(via(*daddr), at(1)).is_some()).collect();
    assert_eq!(kept.len(), table.len());
    assert!(table.len() <= FnheTable::MAX, "{}", table.len());
    assert!(table.len() >= FNHE_HASH_SIZE * FNHE_RECLAIM_DEPTH as usize / 2);
    let last = many - 1;
    assert!(kept.contains(&last), "the newest is there");
    assert!(!kept.contains(&0), "the oldest is not");
}

#[test]
fn a_devices_new_mtu_bounds_what_is_known_by_it() {
    let table = FnheTable::new(SipKey([5, 6]));
    let locked = Fnhe { mtu_locked: true, ..mtu(552) };
    for (daddr, fnhe) in [(1, mtu(1400)), (2, mtu(1000)), (3, locked)] {
        table.update_or_create_fnhe(via(daddr), fnhe, (at(0), 1));
    }
    let known = || [1, 2, 3].map(|daddr| table.find_exception(via(daddr), at(1)));
    table.fib_nhc_update_mtu(DevId(9), 100, 1500);
    assert_eq!(known(), [Some(mtu(1400)), Some(mtu(1000)), Some(locked)], "another device");
    table.fib_nhc_update_mtu(DevId(2), 1200, 1500);
    assert_eq!(known(), [Some(mtu(1200)), Some(mtu(1000)), Some(locked)]);
    table.fib_nhc_update_mtu(DevId(2), 1500, 1200);
    assert_eq!(known(), [Some(mtu(1500)), Some(mtu(1000)), Some(locked)], "as wide as before");
    table.fib_nhc_update_mtu(DevId(2), 500, 1500);
    assert_eq!(known(), [Some(mtu(500)), Some(mtu(500)), Some(mtu(500))], "locked no more");
}
