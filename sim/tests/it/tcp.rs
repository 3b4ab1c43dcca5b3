//! TCP between two machines.

use crate::golden;
use crate::util::{A, B, Pair, addr};
use drivers::net::ethernet::intel::igb::IgbOptions;
use sim::{LinkSpec, MachineSpec, World};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::sched::poll_operation;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{NetDevice, NetdevFeatures};
use stack::net::ipv4::tcp::{TcpState, tcp4_seq_show};
use stack::net::ipv4::tcp_diag::{InetDiagTimer, tcp_diag_dump};
use stack::net::net_namespace::cleanup_net;
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_listen, sys_send, sys_setsockopt, sys_shutdown,
    sys_socket,
};
use std::net::Ipv4Addr;
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::LinuxMib;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SHUT_WR, SO_RCVBUF, SOCK_STREAM, SOL_SOCKET, SOL_TCP};
use uapi::tcp::TCP_MAXSEG;

/// A listener on the second machine.
pub fn listener(cx: &mut TaskCx, port: u16, backlog: i32) -> i32 {
    listener_at(cx, B, port, backlog)
}

/// A listener at an address.
pub fn listener_at(cx: &mut TaskCx, at: Ipv4Addr, port: u16, backlog: i32) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
    sys_bind(cx, fd, &addr(at, port)).expect("a free port");
    sys_listen(cx, fd, backlog).expect("it listens");
    fd
}

/// A connection from the first machine to the second one's listener: both ends.
pub fn connected(
    pair: &mut Pair,
    a: &mut TaskCx,
    b: &mut TaskCx,
    listener: i32,
    port: u16,
) -> (i32, i32) {
    let fd = sys_socket(a, AF_INET, SOCK_STREAM, 0).expect("a socket");
    assert_eq!(pair.run(a, sys_connect(fd, &addr(B, port))), Ok(()));
    let (accepted, _) = pair.run(b, sys_accept4(listener, 0)).expect("it is there");
    (fd, accepted)
}

#[test]
fn octets_go_both_ways_and_both_ends_close() {
    let mut pair = Pair::new(1);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    assert_eq!(pair.run(&mut a, sys_write(near, b"hello")), Ok(5));
    let mut buffer = [0; 100];
    assert_eq!(pair.run(&mut b, sys_read(far, &mut buffer)), Ok(5));
    assert_eq!(&buffer[..5], b"hello");
    assert_eq!(pair.run(&mut b, sys_write(far, b"good bye")), Ok(8));
    assert_eq!(pair.run(&mut a, sys_read(near, &mut buffer)), Ok(8));
    assert_eq!(&buffer[..8], b"good bye");
    sys_close(&mut a, near).expect("open");
    pair.world.settle();
    assert_eq!(pair.run(&mut b, sys_read(far, &mut buffer)), Ok(0));
    sys_close(&mut b, far).expect("open");
    sys_close(&mut b, listening).expect("open");
    pair.world.run_for(Duration::from_secs(70));
    drop((a, b));
    let _digest = pair.end();
}

#[test]
fn nobody_listens() {
    let mut pair = Pair::new(2);
    let mut a = pair.on_a();
    let fd = sys_socket(&mut a, AF_INET, SOCK_STREAM, 0).expect("a socket");
    assert_eq!(pair.run(&mut a, sys_connect(fd, &addr(B, 81))), Err(Errno::ECONNREFUSED));
    sys_close(&mut a, fd).expect("open");
    drop(a);
    let _digest = pair.end();
}

/// Somebody tries a port where nobody listens; the two know each other's link address then.
fn refused(pair: &mut Pair, a: &mut TaskCx) {
    let fd = sys_socket(a, AF_INET, SOCK_STREAM, 0).expect("a socket");
    assert_eq!(pair.run(a, sys_connect(fd, &addr(B, 81))), Err(Errno::ECONNREFUSED));
    sys_close(a, fd).expect("open");
    pair.world.settle();
}

/// From the listener's socket to the end of both sides.
#[test]
fn a_connections_walk() {
    let mut pair = Pair::new(3);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    refused(&mut pair, &mut a);
    pair.world.watch(pcap_filter::compile("tcp").ok());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    assert_eq!(pair.run(&mut a, sys_write(near, b"hello")), Ok(5));
    let mut buffer = [0; 100];
    assert_eq!(pair.run(&mut b, sys_read(far, &mut buffer)), Ok(5));
    sys_close(&mut a, near).expect("open");
    pair.world.settle();
    assert_eq!(pair.run(&mut b, sys_read(far, &mut buffer)), Ok(0));
    sys_close(&mut b, far).expect("open");
    pair.world.settle();
    golden::check(&pair.world, "tcp-connection");
    sys_close(&mut b, listening).expect("open");
    drop((a, b));
    let _digest = pair.end();
}

/// What is written at once goes down in one piece, is cut for the device, and is merged again where it arrives.
#[test]
fn the_walk_of_several_segments() {
    let mut pair = Pair::new(5);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    pair.world.watch(pcap_filter::compile("tcp").ok());
    assert_eq!(pair.run(&mut a, sys_write(near, &[7; 4000])), Ok(4000));
    let mut buffer = [0; 5000];
    assert_eq!(pair.run(&mut b, sys_read(far, &mut buffer)), Ok(4000));
    pair.world.settle();
    golden::check(&pair.world, "tcp-segments");
    sys_close(&mut a, near).expect("open");
    sys_close(&mut b, far).expect("open");
    sys_close(&mut b, listening).expect("open");
    pair.world.settle();
    drop((a, b));
    let _digest = pair.end();
}

/// The card cuts what it gets whole, and what is switched off is done before it: both at once, on a connection that
/// stands.
#[test]
fn a_card_cuts_segments_until_that_is_switched_off() {
    let mut world = World::recorded(6);
    let (a, b) = (world.machine(&MachineSpec::default()), world.machine(&MachineSpec::default()));
    let options = IgbOptions::default();
    let [dev, _] = world.igb(LinkSpec::Wire, options, [(&a, A), (&b, B)]).expect("two cards");
    let mut pair = Pair { world, a, b };
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    let cut = |dev: &NetDevice| -> u64 {
        let stats = dev.ethtool.as_ref().expect("it has ethtool").get_ethtool_stats();
        stats.iter().find(|(name, _)| name == "tx_tcp_seg_good").expect("counted").1
    };
    let all = dev.features();
    let mut counts = Vec::new();
    for features in
        [all, all - NetdevFeatures::TSO, all - NetdevFeatures::TSO - NetdevFeatures::IP_CSUM, all]
    {
        dev.set_features(features);
        let before = cut(&dev);
        let data: Vec<u8> =
            (0..200_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let mut got = Vec::new();
        let mut sent = 0;
        let mut buffer = vec![0; 65_536];
        while got.len() < data.len() {
            if sent < data.len() {
                sent += pair
                    .run(&mut a, sys_write(near, &data[sent..(sent + 50_000).min(data.len())]))
                    .expect("written");
            }
            let read = pair.run(&mut b, sys_read(far, &mut buffer)).expect("arrives");
            got.extend_from_slice(&buffer[..read]);
        }
        assert!(got == data, "{features:?}");
        counts.push(cut(&dev) - before);
    }
    assert!(counts[0] != 0 && counts[1..3] == [0, 0] && counts[3] != 0, "{counts:?}");
    sys_close(&mut a, near).expect("open");
    sys_close(&mut b, far).expect("open");
    sys_close(&mut b, listening).expect("open");
    // What was sent is cleaned, and TIME_WAIT over.
    pair.world.run_for(Duration::from_secs(70));
    drop((a, b, dev));
    let _digest = pair.end();
}

#[test]
fn a_refusals_walk() {
    let mut pair = Pair::new(4);
    let mut a = pair.on_a();
    refused(&mut pair, &mut a);
    pair.world.watch(pcap_filter::compile("tcp").ok());
    refused(&mut pair, &mut a);
    golden::check(&pair.world, "tcp-refused");
    drop(a);
    let _digest = pair.end();
}

/// Portions are what is told of the sockets behind those that were told before.
#[test]
fn sockets_are_told_in_portions_and_orphans_end_with_the_machine() {
    let mut pair = Pair::new(5);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    let states = |skip, most| {
        let told = tcp_diag_dump(&pair.b, skip, most);
        told.iter().map(|msg| msg.state).collect::<Vec<_>>()
    };
    assert_eq!(states(0, 10), [TcpState::Listen, TcpState::Established]);
    assert_eq!(states(0, 1), [TcpState::Listen]);
    assert_eq!(states(1, 10), [TcpState::Established]);
    assert_eq!(states(2, 10), []);
    // Data that nobody acknowledges, and nobody's any more.
    pair.world.settle();
    let mut write = sys_write(far, b"hello");
    assert!(poll_operation(&mut b, Waker::noop(), &mut write).is_ready());
    sys_close(&mut b, far).expect("open");
    let told = &tcp_diag_dump(&pair.b, 1, 1)[0];
    assert_eq!((told.state, told.timer, told.wqueue), (TcpState::FinWait1, InetDiagTimer::On, 6));
    assert_eq!(tcp4_seq_show(&pair.b).lines().count(), 3);
    cleanup_net(&mut b);
    assert_eq!(tcp4_seq_show(&pair.b).lines().count(), 2, "the listener has a descriptor");
    sys_close(&mut b, listening).expect("open");
    sys_close(&mut a, near).expect("open");
    pair.world.run_for(Duration::from_secs(200));
    drop((a, b));
    let _digest = pair.end();
}

#[test]
fn acknowledgements_behind_a_fin_are_no_drops() {
    let mut pair = Pair::new(3);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    sys_shutdown(&mut a, near, SHUT_WR).expect("connected");
    pair.world.settle();
    assert_eq!(pair.run(&mut b, sys_write(far, b"the last word")), Ok(13));
    let mut buffer = [0; 100];
    assert_eq!(pair.run(&mut a, sys_read(near, &mut buffer)), Ok(13));
    pair.world.run_for(Duration::from_secs(1));
    let drops = |reason: &DropReason| pair.b.mib().drops(*reason);
    assert_eq!(drops(&DropReason::TcpInvalid), 0);
    for (cx, fd) in [(&mut a, near), (&mut b, far)] {
        sys_close(cx, fd).expect("open");
    }
    sys_close(&mut b, listening).expect("open");
    pair.world.run_for(Duration::from_secs(70));
    drop((a, b));
    let _digest = pair.end();
}

/// A buffer of merged small segments is mostly empty space: it is packed closer while its first packet is half read.
#[test]
fn what_is_packed_closer_is_read_on_from_the_middle() {
    let mut pair = Pair::new(7);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let small = |value: i32| value.to_ne_bytes();
    sys_setsockopt(&mut b, listening, SOL_SOCKET, SO_RCVBUF, &small(30_000)).expect("set");
    sys_setsockopt(&mut b, listening, SOL_TCP, TCP_MAXSEG, &small(200)).expect("set");
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    let data: Vec<u8> =
        (0..300_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let mut buffer = [0; 700];
    while got.len() < data.len() {
        if sent < data.len() {
            let mut write = sys_send(near, &data[sent..], MSG_DONTWAIT);
            if let Poll::Ready(Ok(wrote)) = poll_operation(&mut a, Waker::noop(), &mut write) {
                sent += wrote;
            }
        }
        pair.world.run_for(Duration::from_millis(50));
        let read = pair.run(&mut b, sys_read(far, &mut buffer)).expect("connected");
        got.extend_from_slice(&buffer[..read]);
    }
    assert!(got == data);
    assert_ne!(pair.b.mib().get(LinuxMib::PruneCalled), 0, "the buffer was full");
    assert_ne!(pair.b.mib().get(LinuxMib::TCPRcvCollapsed), 0, "and packed");
    for (cx, fd) in [(&mut a, near), (&mut b, far)] {
        sys_close(cx, fd).expect("open");
    }
    sys_close(&mut b, listening).expect("open");
    pair.world.run_for(Duration::from_secs(70));
    drop((a, b));
    let _digest = pair.end();
}
