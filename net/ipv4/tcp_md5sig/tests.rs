//! Which key serves whom, and what it signs.

use super::*;
use crate::kernel::testing::with_task;
use crate::net::ipv4::tcp::TCP_PROT;

fn key(addr: [u8; 4], prefixlen: u8, key: &[u8]) -> TcpMd5sigKey {
    TcpMd5sigKey { addr: u32::from_be_bytes(addr), prefixlen, key: key.into() }
}

/// By another implementation, from the octets of RFC 2385 section 2.0.
#[test]
fn a_signature_is_of_what_the_rfc_says() {
    let th = TcpHdr {
        source: 1000.into(),
        dest: 179.into(),
        seq: 0x0102_0304.into(),
        ack_seq: 0x0506_0708.into(),
        doff_res: 10 << 4,
        flags: 0x18,
        window: 500.into(),
        // Neither this nor the options are signed.
        check: 0xabcd.into(),
        urg_ptr: 0.into(),
    };
    let addrs = (u32::from_be_bytes([192, 0, 2, 1]), u32::from_be_bytes([192, 0, 2, 2]));
    let parts = [&b"hello "[..], &b"world"[..]];
    let signature = key([0; 4], 0, b"secret").sign(addrs, &th, 40 + 11, parts.into_iter());
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "5346848cf72d2368807c1a91841ed585");
}

#[test]
fn the_key_of_the_smallest_network_serves() {
    with_task(|cx| {
        let sk = Sock::new(cx, &TCP_PROT);
        let mut state = sk.state();
        let all = [
            key([10, 0, 0, 0], 8, b"all"),
            key([10, 1, 0, 0], 16, b"some"),
            key([10, 1, 2, 3], 32, b"one"),
        ];
        for key in &all {
            state.tcp_md5_do_add(key.clone(), 10_000).expect("there is room");
        }
        for (peer, expected) in [
            ([10, 1, 2, 3], Some(2)),
            ([10, 1, 2, 4], Some(1)),
            ([10, 2, 0, 1], Some(0)),
            ([11, 0, 0, 1], None),
        ] {
            let found = state.tcp_md5_do_lookup(u32::from_be_bytes(peer));
            assert_eq!(found, expected.map(|at: usize| &all[at]), "{peer:?}");
        }
        let any = key([1, 2, 3, 4], 0, b"any");
        state.tcp_md5_do_add(any.clone(), 10_000).expect("there is room");
        assert_eq!(state.tcp_md5_do_lookup(u32::MAX), Some(&any));
        assert!(!format!("{any:?}").contains("any"), "a key is not shown");
    });
}

#[test]
fn keys_are_bounded_and_one_for_a_network() {
    with_task(|cx| {
        let sk = Sock::new(cx, &TCP_PROT);
        let mut state = sk.state();
        let most = 3 * KEY_SIZE as u32;
        let add = |state: &mut SockState, last: u8, octets: &[u8]| {
            state.tcp_md5_do_add(key([10, 0, 0, last], 32, octets), most)
        };
        assert_eq!(add(&mut state, 1, b"a"), Ok(()));
        assert_eq!(add(&mut state, 2, b"b"), Ok(()));
        assert_eq!(add(&mut state, 3, b"c"), Err(Errno::ENOMEM));
        assert_eq!(add(&mut state, 2, b"d"), Ok(()));
        let second = u32::from_be_bytes([10, 0, 0, 2]);
        assert_eq!(state.tcp_md5_do_lookup(second), Some(&key([10, 0, 0, 2], 32, b"d")));
        assert_eq!(state.tcp_md5_do_del(second, 24), Err(Errno::ENOENT));
        assert_eq!(state.tcp_md5_do_del(second, 32), Ok(()));
        assert_eq!(state.tcp_md5_do_lookup(second), None);
        assert_eq!(add(&mut state, 3, b"c"), Ok(()));
    });
}
