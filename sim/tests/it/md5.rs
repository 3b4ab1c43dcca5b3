//! Signed connections over the wire: bad links, strangers, resets, and the end.

use crate::scripted::{Conn, PEER_SEQ};
use crate::tcp::{connected, listener};
use crate::testdev::frame;
use crate::util::{A, B, Pair, addr};
use sim::{Impairment, LinkSpec};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::socket::{sys_accept4, sys_connect, sys_setsockopt, sys_shutdown, sys_socket};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::in_::SockaddrIn;
use uapi::snmp::LinuxMib;
use uapi::socket::{AF_INET, SHUT_WR, SOCK_STREAM, SOL_TCP};
use uapi::tcp::{TCP_MD5SIG, TCP_MD5SIG_LEN, TCPHDR_ACK, TCPHDR_SYN};

pub fn key(cx: &mut TaskCx, fd: i32, peer: Ipv4Addr, key: &[u8]) {
    let mut value = SockaddrIn::new(peer.into(), 0).to_bytes().to_vec();
    value.resize(130, 0);
    value.extend((key.len() as u16).to_ne_bytes());
    value.extend([0; 4]);
    value.extend(key);
    value.resize(TCP_MD5SIG_LEN, 0);
    sys_setsockopt(cx, fd, SOL_TCP, TCP_MD5SIG, &value).expect("a key");
}

/// Two ends with the same key.
fn signed(pair: &mut Pair, a: &mut TaskCx, b: &mut TaskCx) -> (i32, i32, i32) {
    let listening = listener(b, 80, 5);
    key(b, listening, A, b"secret");
    let near = sys_socket(a, AF_INET, SOCK_STREAM, 0).expect("a socket");
    key(a, near, B, b"secret");
    assert_eq!(pair.run(a, sys_connect(near, &addr(B, 80))), Ok(()));
    let (far, _) = pair.run(b, sys_accept4(listening, 0)).expect("it is there");
    (near, far, listening)
}

#[test]
fn what_is_lost_and_turned_goes_again_signed() {
    for seed in 0..4 {
        let weather = Impairment {
            delay: Duration::from_millis(5),
            loss: 0.05,
            reorder: 0.05,
            duplicate: 0.02,
            corrupt: 0.02,
            ..Impairment::default()
        };
        let mut pair = Pair::with(seed, LinkSpec::Impaired(weather), 1);
        let (mut a, mut b) = (pair.on_a(), pair.on_b());
        let (near, far, listening) = signed(&mut pair, &mut a, &mut b);
        let data: Vec<u8> = (0..60_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
        assert_eq!(pair.run(&mut a, sys_write(near, &data)), Ok(data.len()));
        let mut came: Vec<u8> = Vec::new();
        while came.len() < data.len() {
            let mut room = [0; 8192];
            let len = pair.run(&mut b, sys_read(far, &mut room)).expect("data");
            assert_ne!(len, 0);
            came.extend(&room[..len]);
        }
        assert!(came == data, "seed {seed}");
        let failed = |mib| pair.a.mib().get(mib) + pair.b.mib().get(mib);
        for mib in [LinuxMib::TCPMD5NotFound, LinuxMib::TCPMD5Unexpected, LinuxMib::TCPMD5Failure] {
            assert_eq!(failed(mib), 0, "{mib:?}: all is signed, what a checksum does not see too");
        }
        // Each end closes, the one that did first waits in TIME_WAIT: its answers are signed.
        sys_close(&mut a, near).expect("open");
        sys_close(&mut b, far).expect("open");
        sys_close(&mut b, listening).expect("open");
        pair.world.run_for(Duration::from_secs(1000));
        let dropped = pair.a.mib().drops(DropReason::TcpMd5NotFound)
            + pair.b.mib().drops(DropReason::TcpMd5NotFound);
        assert_eq!(dropped, 0, "seed {seed}");
        drop((a, b));
        let _digest = pair.end();
    }
}

#[test]
fn without_keys_nothing_is_signed() {
    let mut pair = Pair::new(1);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    key(&mut b, listening, Ipv4Addr::new(192, 0, 2, 77), b"of another");
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    assert_eq!(pair.run(&mut a, sys_write(near, b"hello")), Ok(5));
    let mut room = [0; 8];
    assert_eq!(pair.run(&mut b, sys_read(far, &mut room)), Ok(5));
    sys_close(&mut a, near).expect("open");
    for fd in [far, listening] {
        sys_close(&mut b, fd).expect("open");
    }
    pair.world.run_for(Duration::from_secs(100));
    drop((a, b));
    let _digest = pair.end();
}

/// A segment with options in front of its data.
pub fn with_options(conn: &Conn, (seq, flags): (u32, u8), options: &[u8], data: &[u8]) -> Vec<u8> {
    use klib::checksum::{csum_partial, csum_tcpudp_magic};
    let ack = if flags & TCPHDR_ACK != 0 { conn.first } else { 0 };
    let plain = frame::tcp((seq, ack), flags, &[]);
    let mut tcp = plain[20..].to_vec();
    tcp[12] = (((20 + options.len()) / 4) << 4) as u8;
    tcp[16..18].fill(0);
    tcp.extend_from_slice(options);
    tcp.extend_from_slice(data);
    let (from, to) = (frame::PEER, crate::lone::LOCAL);
    let sum = csum_partial(&tcp, 0);
    let check = csum_tcpudp_magic(from.into(), to.into(), tcp.len() as u32, 6, sum);
    tcp[16..18].copy_from_slice(&check.to_be_bytes());
    frame::ip(6, from, to, &tcp)
}

/// The option with a signature that is nobody's.
pub fn forged() -> Vec<u8> {
    [&[1, 1, 19, 18][..], &[7; 16]].concat()
}

#[test]
fn strangers_are_dropped_with_their_reasons() {
    let mut conn = Conn::new();
    let at = PEER_SEQ + 1;
    let signed = with_options(&conn, (at, TCPHDR_ACK), &forged(), b"x");
    assert_eq!(conn.lone.take_ip(&signed), [DropReason::TcpMd5Unexpected]);
    let twice = [forged(), forged()].concat();
    let twice = with_options(&conn, (at, TCPHDR_ACK), &twice, b"x");
    assert_eq!(conn.lone.take_ip(&twice), [DropReason::TcpAuthHdr]);

    let fd = conn.fd;
    key(&mut conn.lone.cx, fd, frame::PEER, b"secret");
    assert_eq!(conn.lone.take_ip(&signed), [DropReason::TcpMd5Failure]);
    let plain = with_options(&conn, (at, TCPHDR_ACK), &[], b"x");
    assert_eq!(conn.lone.take_ip(&plain), [DropReason::TcpMd5NotFound]);
    // An option of that kind that is no signature is none.
    let short = with_options(&conn, (at, TCPHDR_ACK), &[19, 4, 7, 7], b"x");
    assert_eq!(conn.lone.take_ip(&short), [DropReason::TcpMd5NotFound]);
    let mib = |mib| conn.lone.machine.mib().get(mib);
    assert_eq!(mib(LinuxMib::TCPMD5Unexpected), 1);
    assert_eq!(mib(LinuxMib::TCPMD5Failure), 1);
    assert_eq!(mib(LinuxMib::TCPMD5NotFound), 2);

    // Nor may a stranger end it, or be told that nobody is there.
    sys_shutdown(&mut conn.lone.cx, fd, SHUT_WR).expect("connected");
    conn.lone.world.settle();
    let sent = conn.lone.dev.sent().pop().expect("a FIN");
    assert_eq!(sent[14 + 40..][..4], [1, 1, 19, 18], "what leaves is signed");
    conn.reset();
    assert_eq!(conn.lone.drops(DropReason::TcpMd5NotFound), 3);
    let nowhere = with_options(&conn, (5, TCPHDR_SYN), &forged(), &[]);
    let nowhere = [&nowhere[..22], &[0, 81], &nowhere[24..]].concat();
    let _dropped = conn.lone.take_ip(&nowhere);
    assert_eq!(conn.lone.dev.sent().len(), 0, "no answer to a forged signature");
    key(&mut conn.lone.cx, fd, frame::PEER, b"");
    conn.end();
}
