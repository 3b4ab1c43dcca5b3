//! Numbers of calls, and which are told of together.

use super::*;
use crate::kernel::context::TaskCx;
use crate::kernel::testing::with_task;
use crate::net::ipv4::udp::UDP_PROT;

const OPTMEM_MAX: u32 = 10 * NOTIFICATION as u32;

fn call(sk: &Arc<Sock>, size: usize, tail: Option<&Arc<UbufInfo>>) -> Arc<UbufInfo> {
    msg_zerocopy_realloc(sk, &mut sk.state(), (size, OPTMEM_MAX), tail).expect("there is room")
}

fn put(cx: &mut TaskCx, ubuf: Arc<UbufInfo>) {
    cx.local_bh_disable(|bh| net_zcopy_put(bh, ubuf));
}

/// The first and last calls of all that is told, and the codes.
fn told(sk: &Sock) -> Vec<(u32, u32, u8)> {
    let mut state = sk.state();
    let all = std::iter::from_fn(|| state.sock_dequeue_err(&mut Vec::new()));
    all.map(|report| (report.ee.ee_info, report.ee.ee_data, report.ee.ee_code)).collect()
}

fn ee(lo: u32, hi: u32) -> SockExtendedErr {
    let origin = SO_EE_ORIGIN_ZEROCOPY;
    SockExtendedErr { ee_origin: origin, ee_info: lo, ee_data: hi, ..SockExtendedErr::default() }
}

#[test]
fn a_report_takes_in_what_follows_it_alone() {
    for (tail, (lo, len), merged) in [
        (ee(0, 0), (1, 1), Some(1)),
        (ee(3, 7), (8, 5), Some(12)),
        (ee(3, 7), (9, 1), None),
        (ee(3, 7), (7, 1), None),
        (ee(u32::MAX - 1, u32::MAX), (0, 3), Some(2)),
        // No range is told apart from an empty one that has all numbers.
        (ee(0, u32::MAX - 2), (u32::MAX - 1, 2), None),
        (SockExtendedErr { ee_origin: 2, ..ee(0, 0) }, (1, 1), None),
    ] {
        let mut now = tail;
        assert_eq!(skb_zerocopy_notify_extend(&mut now, lo, len), merged.is_some(), "{tail:?}");
        assert_eq!((now.ee_info, now.ee_data), (tail.ee_info, merged.unwrap_or(tail.ee_data)));
    }
}

#[test]
fn calls_of_much_data_are_told_of_apart() {
    with_task(|cx| {
        let sk = Sock::new(cx, &UDP_PROT);
        let first = call(&sk, 300 << 10, None);
        let second = call(&sk, 200 << 10, Some(&first));
        assert!(Arc::ptr_eq(&first, &second));
        let third = call(&sk, 100 << 10, Some(&second));
        assert!(!Arc::ptr_eq(&second, &third));
        // Somebody else's call lies between: the numbers would not follow each other.
        let fourth = call(&sk, 1, Some(&first));
        assert!(!Arc::ptr_eq(&first, &fourth));
        third.set_copied();
        put(cx, third);
        put(cx, first);
        assert_eq!(told(&sk), [(2, 2, SO_EE_CODE_ZEROCOPY_COPIED)]);
        put(cx, second);
        put(cx, fourth);
        assert_eq!(told(&sk), [(0, 1, 0), (3, 3, 0)]);
    });
}

#[test]
fn a_call_that_took_nothing_had_no_number() {
    with_task(|cx| {
        let sk = Sock::new(cx, &UDP_PROT);
        let abort = |cx: &mut TaskCx, ubuf| {
            cx.local_bh_disable(|bh| msg_zerocopy_put_abort(bh, &mut sk.state(), ubuf));
        };
        let none = call(&sk, 5, None);
        abort(cx, none);
        assert_eq!(told(&sk), []);
        let first = call(&sk, 5, None);
        let second = call(&sk, 5, Some(&first));
        abort(cx, second);
        let third = call(&sk, 5, Some(&first));
        put(cx, first);
        put(cx, third);
        assert_eq!(told(&sk), [(0, 1, 0)]);
        assert_eq!(sk.state().rare_mut().omem_alloc, 0);
    });
}

#[test]
fn a_socket_that_is_closed_is_told_nothing_and_owes_nothing() {
    with_task(|cx| {
        let sk = Sock::new(cx, &UDP_PROT);
        let [told_of, late, lost] = [5, 6, 7].map(|size| call(&sk, size, None));
        put(cx, told_of);
        assert_eq!(sk.state().errors(), 1);
        crate::net::core::sock::sk_purge(cx, &sk);
        put(cx, late);
        assert_eq!(sk.state().errors(), 0);
        assert_eq!(sk.state().rare_mut().omem_alloc, 0);
        drop(sk);
        put(cx, lost);
    });
}
