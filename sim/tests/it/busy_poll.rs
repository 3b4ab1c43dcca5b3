//! Readers that poll their device before they sleep: the device here raises no interrupt.

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::scripted::{Conn, PEER_SEQ};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::{Digest, LinkSpec};
use stack::fs::select::FdSets;
use stack::fs::{PollFd, sys_poll, sys_read, sys_select};
use stack::net::socket::{sys_recvfrom, sys_setsockopt};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::poll::POLLIN;
use uapi::snmp::LinuxMib;
use uapi::socket::{MSG_DONTWAIT, SO_BUSY_POLL, SO_BUSY_POLL_BUDGET, SO_RCVTIMEO, SOL_SOCKET};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_RST};

const PORT: u16 = 7;

fn datagram(data: &[u8]) -> Vec<u8> {
    let (from, to) = ((frame::PEER, 9), (LOCAL, PORT));
    frame::ether(TestDev::MAC, 0x0800, &frame::udp(from, to, data))
}

/// Frames lie in the device, and it says nothing.
fn silent(lone: &Lone, frames: impl IntoIterator<Item = Vec<u8>>) {
    lone.dev.rx.lock().expect("no panic under it").extend(frames);
}

fn set(lone: &mut Lone, fd: i32, option: i32, value: i32) {
    let value = value.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, option, &value).expect("in range");
}

fn polled_packets(lone: &Lone) -> u64 {
    lone.machine.mib().get(LinuxMib::BusyPollRxPackets)
}

/// A reader whose device is known from a datagram that came by an interrupt.
fn reader(usec: i32) -> (Lone, i32) {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, PORT);
    if usec != 0 {
        set(&mut lone, fd, SO_BUSY_POLL, usec);
    }
    lone.dev.deliver([datagram(b"first")]);
    lone.world.settle();
    assert_eq!(lone.recv_all(fd), [b"first"]);
    (lone, fd)
}

fn read(lone: &mut Lone, fd: i32, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut room = [0; 100];
    lone.run(sys_recvfrom(fd, &mut room, flags)).map(|(len, _)| room[..len].to_vec())
}

stepped!(a_reader_finds_what_no_interrupt_told_of);
fn a_reader_finds_what_no_interrupt_told_of() -> Digest {
    let (mut lone, fd) = reader(50);
    silent(&lone, [datagram(b"second")]);
    lone.world.watch(None);
    assert_eq!(read(&mut lone, fd, 0), Ok(b"second".to_vec()));
    golden::check(&lone.world, "udp-busy-poll");
    assert_eq!(polled_packets(&lone), 1);
    silent(&lone, [datagram(b"third")]);
    assert_eq!(read(&mut lone, fd, MSG_DONTWAIT), Ok(b"third".to_vec()));
    assert_eq!(read(&mut lone, fd, MSG_DONTWAIT), Err(Errno::EAGAIN));
    assert_eq!(polled_packets(&lone), 2);
    lone.end()
}

#[test]
fn who_does_not_ask_for_it_does_not_poll() {
    let (mut lone, fd) = reader(0);
    silent(&lone, [datagram(b"second")]);
    assert_eq!(read(&mut lone, fd, MSG_DONTWAIT), Err(Errno::EAGAIN));
    assert_eq!(polled_packets(&lone), 0);
    lone.dev.interrupt();
    assert_eq!(read(&mut lone, fd, 0), Ok(b"second".to_vec()));
    let _digest = lone.end();
}

stepped!(a_reader_polls_for_so_long_and_then_sleeps);
fn a_reader_polls_for_so_long_and_then_sleeps() -> Digest {
    let (mut lone, fd) = reader(200);
    let half = [0_i64.to_ne_bytes(), 500_000_i64.to_ne_bytes()].concat();
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVTIMEO, &half).expect("a time");
    let (polls, began) = (lone.dev.polls.load(Ordering::Relaxed), lone.world.clock().peek());
    assert_eq!(read(&mut lone, fd, 0), Err(Errno::EAGAIN));
    let took = lone.world.clock().peek() - began;
    assert!(took >= Duration::from_millis(500), "{took:?}");
    // A look costs a call and a poll, more than half a microsecond of it together.
    let polls = lone.dev.polls.load(Ordering::Relaxed) - polls;
    assert!((10..=400).contains(&polls), "{polls} polls in 200 us");
    // It sleeps: an interrupt wakes it as any other.
    lone.dev.deliver([datagram(b"later")]);
    assert_eq!(read(&mut lone, fd, 0), Ok(b"later".to_vec()));
    lone.end()
}

#[test]
fn a_poll_takes_what_the_reader_says_and_the_softirq_the_rest() {
    let (mut lone, fd) = reader(50);
    set(&mut lone, fd, SO_BUSY_POLL_BUDGET, 2);
    silent(&lone, (0..5).map(|n| datagram(&[n])));
    assert_eq!(read(&mut lone, fd, MSG_DONTWAIT), Ok(vec![0]));
    assert_eq!(polled_packets(&lone), 2);
    assert_eq!(lone.recv_all(fd), [[1], [2], [3], [4]]);
    let _digest = lone.end();
}

#[test]
fn a_streams_reader_polls_too() {
    let mut conn = Conn::new();
    let fd = conn.fd;
    set(&mut conn.lone, fd, SO_BUSY_POLL, 50);
    let segment = |conn: &Conn, at: u32, data: &[u8]| {
        let segment = frame::tcp((PEER_SEQ + 1 + at, conn.first), TCPHDR_ACK, data);
        frame::ether(TestDev::MAC, 0x0800, &segment)
    };
    let first = segment(&conn, 0, b"told");
    conn.lone.dev.deliver([first]);
    let mut room = [0; 100];
    assert_eq!(conn.lone.run(sys_read(fd, &mut room)), Ok(4));
    silent(&conn.lone, [segment(&conn, 4, b"found")]);
    assert_eq!(conn.lone.run(sys_read(fd, &mut room)), Ok(5));
    assert_eq!(&room[..5], b"found");
    assert_eq!(polled_packets(&conn.lone), 1);
    conn.lone.take_ip(&frame::tcp((PEER_SEQ + 10, 0), TCPHDR_RST, &[]));
    conn.end();
}

#[test]
fn new_sockets_poll_by_the_machines_setting() {
    let mut lone = Lone::new();
    lone.sysctl(|settings| settings.busy_read = 50);
    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, PORT);
    lone.dev.deliver([datagram(b"first")]);
    lone.world.settle();
    assert_eq!(lone.recv_all(fd), [b"first"]);
    silent(&lone, [datagram(b"second")]);
    assert_eq!(read(&mut lone, fd, 0), Ok(b"second".to_vec()));
    let _digest = lone.end();
}

/// Who waits for a descriptor polls by the machine's setting, for sockets that poll.
#[test]
fn poll_and_select_look_at_the_devices_of_their_sockets() {
    let (mut lone, fd) = reader(50);
    let look = |lone: &mut Lone, timeout| {
        let mut fds = [PollFd { fd, events: POLLIN, revents: 0 }];
        lone.run(sys_poll(&mut fds, timeout))
    };
    silent(&lone, [datagram(b"second")]);
    assert_eq!(look(&mut lone, Some(Duration::ZERO)), Ok(0), "it is not set");
    lone.sysctl(|settings| settings.busy_poll = 100);
    assert_eq!(look(&mut lone, Some(Duration::ZERO)), Ok(1));
    assert_eq!(read(&mut lone, fd, MSG_DONTWAIT), Ok(b"second".to_vec()));

    silent(&lone, [datagram(b"third")]);
    let mut sets = FdSets { read: vec![fd], ..FdSets::default() };
    assert_eq!(lone.run(sys_select(&mut sets, None)), Ok(1));
    assert_eq!(read(&mut lone, fd, MSG_DONTWAIT), Ok(b"third".to_vec()));
    assert_eq!(polled_packets(&lone), 2);

    // In vain it ends, and the time is that of the call.
    let (polls, began) = (lone.dev.polls.load(Ordering::Relaxed), lone.world.clock().peek());
    assert_eq!(look(&mut lone, Some(Duration::from_millis(20))), Ok(0));
    assert!(lone.world.clock().peek() - began >= Duration::from_millis(20));
    let polls = lone.dev.polls.load(Ordering::Relaxed) - polls;
    assert!((5..=200).contains(&polls), "{polls} polls in 100 us");
    let _digest = lone.end();
}

/// Both ends poll for each datagram that goes back and forth, by cards that raise interrupts as well.
fn back_and_forth(usec: i32) -> (Digest, u64) {
    let mut pair = Pair::igb(3, LinkSpec::Wire, 1);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let (near, far) = (udp(&mut a, A, 7), udp(&mut b, B, 7));
    for (cx, fd) in [(&mut a, near), (&mut b, far)] {
        sys_setsockopt(cx, fd, SOL_SOCKET, SO_BUSY_POLL, &usec.to_ne_bytes()).expect("in range");
    }
    for n in 0..50_u8 {
        send(&mut pair, &mut a, near, &[n; 100], addr(B, 7));
        assert_eq!(recv(&mut pair, &mut b, far).expect("it comes").0, [n; 100]);
        send(&mut pair, &mut b, far, &[n; 200], addr(A, 7));
        assert_eq!(recv(&mut pair, &mut a, near).expect("it comes").0, [n; 200]);
    }
    let polled = [&pair.a, &pair.b].map(|m| m.mib().get(LinuxMib::BusyPollRxPackets));
    drop((a, b));
    (pair.end(), polled.iter().sum())
}

stepped!(cards_are_polled_and_lose_nothing);
fn cards_are_polled_and_lose_nothing() -> Digest {
    let (digest, polled) = back_and_forth(100);
    assert!(polled != 0, "nothing came by a reader's poll");
    assert_eq!(back_and_forth(0).1, 0);
    digest
}
