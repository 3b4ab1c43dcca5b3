//! Golden walks of TCP: a connection from its SYN to TIME_WAIT, and what goes wrong.

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::tcp::{connected, listener};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Ends, Pair, addr, recv, send, udp};
use sim::{Digest, LinkSpec};
use stack::fs::{exit_files, sys_close, sys_read, sys_write};
use stack::kernel::sched::Operation as _;
use stack::kernel::trace::Record;
use stack::kernel::trace::events::Point;
use stack::net::socket::{sys_accept4, sys_bind, sys_connect, sys_listen, sys_send, sys_socket};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::{AF_INET, SOCK_STREAM};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_RST, TCPHDR_SYN};

/// Two machines with cards that know the way to each other.
fn warm(seed: u64) -> (Pair, Ends) {
    let mut pair = Pair::igb(seed, LinkSpec::Wire, 1);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    send(&mut pair, &mut ends.a, client, b"warm", addr(B, 7));
    let (data, from) = recv(&mut pair, &mut ends.b, server).expect("arrives");
    send(&mut pair, &mut ends.b, server, &data, from.to_bytes());
    recv(&mut pair, &mut ends.a, client).expect("comes back");
    pair.world.run_for(Duration::from_secs(1));
    (pair, ends)
}

fn finish(mut pair: Pair, mut ends: Ends) -> Digest {
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    // TIME_WAIT.
    pair.world.run_for(Duration::from_secs(70));
    pair.end()
}

/// What one machine passed.
fn of(walk: &[(u16, Record)], machine: u16) -> Vec<(u16, Record)> {
    walk.iter().filter(|(m, _)| *m == machine).copied().collect()
}

stepped!(a_connection_from_syn_to_time_wait_over_igb);
fn a_connection_from_syn_to_time_wait_over_igb() -> Digest {
    let (mut pair, mut ends) = warm(121);
    pair.world.watch(None);
    let listening = listener(&mut ends.b, 80, 5);
    let near = sys_socket(&mut ends.a, AF_INET, SOCK_STREAM, 0).expect("a socket");
    let mut accept = sys_accept4(listening, 0);
    assert!(accept.poll(&mut ends.b).is_pending());
    assert_eq!(pair.run(&mut ends.a, sys_connect(near, &addr(B, 80))), Ok(()));
    let (far, from) = pair.run(&mut ends.b, accept).expect("it is there");
    assert_eq!(from.map(|from| from.addr), Some(A.into()));
    pair.world.run_for(Duration::from_millis(10));
    let walk = pair.world.take_walk();
    golden::check_walk(&of(&walk, 0), "tcp-connect-igb");
    golden::check_walk(&of(&walk, 1), "tcp-accept-igb");

    pair.world.run_for(Duration::from_secs(1));
    pair.world.watch(None);
    assert_eq!(pair.run(&mut ends.a, sys_send(near, b"hello", 0)), Ok(5));
    let mut data = [0; 16];
    assert_eq!(pair.run(&mut ends.b, sys_read(far, &mut data)), Ok(5));
    pair.world.run_for(Duration::from_millis(10));
    let walk = pair.world.take_walk();
    golden::check_walk(&of(&walk, 0), "tcp-out-igb");
    golden::check_walk(&of(&walk, 1), "tcp-in-igb");

    pair.world.run_for(Duration::from_secs(1));
    pair.world.watch(None);
    sys_close(&mut ends.a, near).expect("open");
    pair.world.run_for(Duration::from_millis(1));
    assert_eq!(pair.run(&mut ends.b, sys_read(far, &mut data)), Ok(0));
    sys_close(&mut ends.b, far).expect("open");
    pair.world.run_for(Duration::from_millis(100));
    let walk = pair.world.take_walk();
    golden::check_walk(&of(&walk, 0), "tcp-close-igb");
    golden::check_walk(&of(&walk, 1), "tcp-closed-igb");
    finish(pair, ends)
}

stepped!(a_segment_for_an_owned_socket_takes_the_backlog);
fn a_segment_for_an_owned_socket_takes_the_backlog() -> Digest {
    let mut pair = Pair::new(122);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    sys_close(&mut b, listening).expect("open");
    let sk = pair.b.net().tcp.hashinfo.all_socks().remove(0);
    pair.world.watch(None);
    {
        b.enter_call();
        let guard = sk.lock_sock(&mut b);
        assert_eq!(pair.run(&mut a, sys_write(near, b"later")), Ok(5));
        pair.world.settle();
        assert_eq!(guard.state().receive_queue.len(), 0, "it waits in the backlog");
    }
    assert_eq!(sk.state().receive_queue.len(), 1, "release_sock brought it out");
    let mut data = [0; 16];
    assert_eq!(pair.run(&mut b, sys_read(far, &mut data)), Ok(5));
    golden::check(&pair.world, "tcp-backlog");
    drop(sk);
    exit_files(&mut a);
    exit_files(&mut b);
    drop((a, b));
    pair.world.run_for(Duration::from_secs(70));
    pair.end()
}

stepped!(more_than_a_window_goes_out_in_full_packets);
fn more_than_a_window_goes_out_in_full_packets() -> Digest {
    let mut pair = Pair::new(123);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    pair.world.watch(None);
    assert_eq!(pair.run(&mut a, sys_write(near, &[7; 40_000])), Ok(40_000));
    pair.world.settle();
    let walk = pair.world.take_walk();
    golden::assert_order(&walk, &[Point::skb_entail, Point::tcp_push_one, Point::tcp_write_xmit]);
    let sent = |walk: &[(u16, Record)]| {
        let sent = of(walk, 0).into_iter().map(|(_, record)| record);
        sent.filter(|record| record.point == Point::tcp_transmit_skb).count()
    };
    let way = |point: Point| {
        let (tcp, rest) =
            (point.name().starts_with("tcp_"), [Point::skb_entail, Point::sk_stream_alloc_skb]);
        tcp || rest.contains(&point)
    };
    let first: Vec<_> = of(&walk, 0).into_iter().filter(|(_, r)| way(r.point)).take(40).collect();
    golden::check_walk(&first, "tcp-out-large");
    assert!(sent(&walk) < 20, "{} packets for 28 segments", sent(&walk));
    let mut data = vec![0; 40_000];
    let mut there = 0;
    while there < data.len() {
        there += pair.run(&mut b, sys_read(far, &mut data[there..])).expect("more comes");
    }
    assert!(data.iter().all(|octet| *octet == 7));
    exit_files(&mut a);
    exit_files(&mut b);
    drop((a, b));
    pair.world.run_for(Duration::from_secs(70));
    pair.end()
}

/// A machine whose peer is the test, with a connection: what their next segment's numbers are.
struct Handmade {
    lone: Lone,
    fd: i32,
    seq: u32,
    ack: u32,
}

impl Handmade {
    fn new() -> Self {
        let mut lone = Lone::new();
        let listening = sys_socket(&mut lone.cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
        sys_bind(&mut lone.cx, listening, &addr(LOCAL, 80)).expect("a free port");
        sys_listen(&mut lone.cx, listening, 5).expect("it listens");
        let syn = frame::tcp((1000, 0), TCPHDR_SYN, &[]);
        lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &syn)]);
        lone.world.settle();
        let sent = lone.dev.sent();
        let synack = sent.iter().rev().find(|frame| frame[12..14] == [8, 0]).expect("a SYN-ACK");
        let isn = u32::from_be_bytes(synack[38..42].try_into().expect("four"));
        let (seq, ack) = (1001, isn.wrapping_add(1));
        let done = frame::tcp((seq, ack), TCPHDR_ACK, &[]);
        lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &done)]);
        let (fd, _) = lone.run(sys_accept4(listening, 0)).expect("it is there");
        sys_close(&mut lone.cx, listening).expect("open");
        Self { lone, fd, seq, ack }
    }

    fn deliver(&mut self, flags: u8, data: &[u8]) {
        let segment = frame::tcp((self.seq, self.ack), flags, data);
        self.lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &segment)]);
        self.lone.world.settle();
    }

    fn end(self) -> Digest {
        self.lone.end()
    }
}

stepped!(what_is_lost_goes_again);
fn what_is_lost_goes_again() -> Digest {
    let mut made = Handmade::new();
    assert_eq!(made.lone.run(sys_write(made.fd, b"lost")), Ok(4));
    made.lone.world.settle();
    made.lone.world.watch(None);
    made.lone.world.run_for(Duration::from_millis(500));
    made.ack = made.ack.wrapping_add(4);
    made.deliver(TCPHDR_ACK, &[]);
    golden::check(&made.lone.world, "tcp-retransmission");
    made.deliver(TCPHDR_RST, &[]);
    made.end()
}

stepped!(a_reset_and_an_unreachable_way);
fn a_reset_and_an_unreachable_way() -> Digest {
    let mut made = Handmade::new();
    assert_eq!(made.lone.run(sys_write(made.fd, b"far")), Ok(3));
    made.lone.world.settle();
    let sent = made.lone.dev.sent().pop().expect("the segment");
    made.lone.world.watch(None);
    let report = frame::icmp(3, 1, [0; 4], &sent[14..42]);
    let report = frame::ip(1, frame::PEER, LOCAL, &report);
    made.lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &report)]);
    made.lone.world.settle();
    made.deliver(TCPHDR_RST, &[]);
    assert_eq!(made.lone.run(sys_write(made.fd, b"gone")), Err(Errno::ECONNRESET));
    // Nobody is there now.
    made.deliver(TCPHDR_ACK, b"late");
    golden::check(&made.lone.world, "tcp-reset");
    made.end()
}
