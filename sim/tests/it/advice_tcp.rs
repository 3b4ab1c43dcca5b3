//! What `netkeel explain` advises for the drops of TCP helps: a segment is dropped, the advice is taken, what it
//! brought arrives. Where the advice is that nothing is missing, all of it has.

use crate::lone::{LOCAL, Lone};
use crate::md5::{forged, key, with_options};
use crate::scripted::{Conn, PEER_SEQ};
use crate::tcp::listener;
use crate::testdev::frame;
use crate::util::{A, B, Pair, addr};
use sim::Digest;
use stack::fs::sys_close;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_recvfrom, sys_setsockopt, sys_shutdown, sys_socket,
};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::{
    AF_INET, MSG_DONTWAIT, SHUT_WR, SO_RCVBUF, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET,
};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN};

/// What a stream has to read.
fn read(lone: &mut Lone, fd: i32) -> Vec<u8> {
    let mut all = Vec::new();
    let mut room = [0; 4096];
    while let Ok((len @ 1.., _)) = lone.run(sys_recvfrom(fd, &mut room, MSG_DONTWAIT)) {
        all.extend_from_slice(&room[..len]);
    }
    all
}

fn rcvbuf(lone: &mut Lone, fd: i32, octets: i32) {
    let octets = octets.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVBUF, &octets).expect("a size");
}

/// The number that follows those of the machine's last segment.
fn answer(lone: &Lone) -> u32 {
    let sent = lone.dev.sent();
    let seq = sent.last().and_then(|frame| frame.get(38..42)).expect("an answer");
    u32::from_be_bytes(seq.try_into().expect("four octets")).wrapping_add(1)
}

impl Conn {
    /// The peer begins a connection from a port, and what it says arrives.
    fn begins_anew(&mut self, port: u16) {
        self.lone.dev.sent();
        let mut take = |numbers, flags, data: &[u8]| {
            self.lone.take_ip(&frame::tcp_from(port, numbers, flags, data))
        };
        assert_eq!(take((77, 0), TCPHDR_SYN, b""), []);
        let first = answer(&self.lone);
        let mut take = |numbers, flags, data: &[u8]| {
            self.lone.take_ip(&frame::tcp_from(port, numbers, flags, data))
        };
        assert_eq!(take((78, first), TCPHDR_ACK, b""), []);
        assert_eq!(take((78, first), TCPHDR_ACK, b"hello"), []);
        let (fd, _) = self.lone.run(sys_accept4(self.listener, 0)).expect("it is there");
        assert_eq!(read(&mut self.lone, fd), b"hello");
        assert_eq!(take_reset(&mut self.lone, port), []);
        sys_close(&mut self.lone.cx, fd).expect("open");
    }

    /// The end, when so many octets came.
    fn finish(mut self, came: usize) -> Digest {
        self.segment((PEER_SEQ + 1 + came as u32, 0), TCPHDR_RST, b"");
        self.lone.end()
    }
}

fn take_reset(lone: &mut Lone, port: u16) -> Vec<DropReason> {
    let reset = frame::tcp_from(port, (83, 0), TCPHDR_RST, b"");
    let mut reasons = lone.take_ip(&reset);
    // Its own end is no drop of data.
    reasons.retain(|reason| *reason != DropReason::TcpInvalid);
    reasons
}

stepped!(who_disagrees_begins_anew);
fn who_disagrees_begins_anew() -> Digest {
    let mut conn = Conn::new();
    let (at, first) = (PEER_SEQ + 1, conn.first);
    let sent = |conn: &mut Conn, numbers, flags| conn.segment(numbers, flags, b"hello");
    assert_eq!(sent(&mut conn, (at + (1 << 20), first), TCPHDR_ACK), [DropReason::TcpInvalid]);
    conn.begins_anew(5001);
    assert_eq!(sent(&mut conn, (at, first + 100), TCPHDR_ACK), [DropReason::TcpAckUnsentData]);
    conn.begins_anew(5002);
    let old = first.wrapping_sub(1 << 20);
    assert_eq!(sent(&mut conn, (at, old), TCPHDR_ACK), [DropReason::TcpTooOldAck]);
    conn.begins_anew(5003);
    assert_eq!(conn.data(0, b"right again"), [], "it was never ended");
    let fd = conn.fd;
    assert_eq!(read(&mut conn.lone, fd), b"right again");

    // On their way to be connections.
    let lone = &mut conn.lone;
    let both = frame::tcp_from(5004, (7, 0), TCPHDR_SYN | TCPHDR_FIN, b"");
    assert_eq!(lone.take_ip(&both), [DropReason::TcpFlags]);
    conn.begins_anew(5004);
    let lone = &mut conn.lone;
    lone.take_ip(&frame::tcp_from(5005, (7, 0), TCPHDR_SYN, b""));
    let wrong = frame::tcp_from(5005, (8, 3), TCPHDR_ACK, b"");
    assert_eq!(lone.take_ip(&wrong), [DropReason::TcpInvalidAckSequence]);
    conn.begins_anew(5006);
    // Nothing was there, and nothing is missing.
    let none = frame::tcp_from(5007, (7, 0), TCPHDR_RST, b"");
    assert_eq!(conn.lone.take_ip(&none), [DropReason::TcpReset]);
    conn.begins_anew(5007);
    conn.finish(11)
}

stepped!(what_came_before_is_not_missing);
fn what_came_before_is_not_missing() -> Digest {
    let mut conn = Conn::new();
    assert_eq!(conn.data(0, b"abc"), []);
    assert_eq!(conn.data(0, b"abc"), [DropReason::TcpOldData]);
    assert_eq!(conn.data(6, b"ghi"), [], "it waits");
    assert_eq!(conn.data(6, b"gh"), [DropReason::TcpOfoMerge]);
    assert_eq!(conn.data(3, b"defghi"), [DropReason::TcpOfoDrop], "what waited");
    let fd = conn.fd;
    assert_eq!(read(&mut conn.lone, fd), b"abcdefghi");
    conn.finish(9)
}

/// Data comes until it is refused, and why it is.
fn fill(conn: &mut Conn, at: &mut u32) -> Vec<DropReason> {
    loop {
        let reasons = conn.data(*at, &[b'.'; 500]);
        if !reasons.is_empty() {
            return reasons;
        }
        *at += 500;
    }
}

/// The socket's buffer is small: data goes on coming until it is refused.
fn overfilled(rmem: i32) -> (Conn, u32, DropReason) {
    let mut conn = Conn::with(|lone, listener| rcvbuf(lone, listener, rmem));
    for piece in 0..1000 {
        if let Some(reason) = conn.data(piece * 500, &[b'.'; 500]).pop() {
            return (conn, piece * 500, reason);
        }
    }
    panic!("a buffer without end");
}

stepped!(who_reads_opens_the_window);
fn who_reads_opens_the_window() -> Digest {
    let (mut conn, full, reason) = overfilled(8000);
    assert_eq!(reason, DropReason::TcpZeroWindow);
    let fd = conn.fd;
    assert_eq!(read(&mut conn.lone, fd).len(), full as usize);
    assert_eq!(conn.data(full, b"hello"), []);
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    conn.finish(full as usize + 5)
}

stepped!(a_larger_buffer_has_a_larger_window);
fn a_larger_buffer_has_a_larger_window() -> Digest {
    let mut conn = Conn::with(|lone, listener| rcvbuf(lone, listener, 4000));
    conn.lone.dev.sent();
    assert_eq!(conn.data(0, b"."), []);
    let ack = conn.lone.dev.sent().pop().expect("an acknowledgement");
    let end = 1 + u32::from(u16::from_be_bytes([ack[48], ack[49]]));
    assert_eq!(conn.data(end, b"hello"), [DropReason::TcpOverwindow]);
    conn.lone.set("net.core.rmem_max", "100000");
    let fd = conn.fd;
    rcvbuf(&mut conn.lone, fd, 100_000);
    // The sender is told so by what answers the next data; none of it is read here.
    for at in (1..end).step_by(500) {
        let len = (end - at).min(500) as usize;
        assert_eq!(conn.data(at, &vec![b'.'; len]), []);
    }
    assert_eq!(conn.data(end, b"hello"), []);
    assert!(read(&mut conn.lone, fd).ends_with(b".hello"));
    conn.finish(end as usize + 5)
}

stepped!(what_gave_way_is_sent_again_to_a_larger_buffer);
fn what_gave_way_is_sent_again_to_a_larger_buffer() -> Digest {
    let mut conn = Conn::with(|lone, listener| rcvbuf(lone, listener, 8000));
    // Single octets, each in a packet of its own, and the later ones first: who is nearer has the room.
    let places: Vec<u32> = (1..200).rev().map(|at| 2 * at).collect();
    let pruned = |conn: &Conn| conn.lone.drops(DropReason::TcpOfoQueuePrune);
    for at in &places {
        conn.data(*at, b"o");
        if pruned(&conn) != 0 {
            break;
        }
    }
    let before = pruned(&conn);
    assert_ne!(before, 0, "the buffer is without end");
    conn.lone.set("net.core.rmem_max", "1000000");
    let fd = conn.fd;
    rcvbuf(&mut conn.lone, fd, 1_000_000);
    for at in &places {
        conn.data(*at, b"o");
    }
    assert_eq!(pruned(&conn), before);
    for at in std::iter::once(0).chain(places.iter().copied()) {
        conn.data(at, b"oe");
    }
    let all = read(&mut conn.lone, fd);
    assert!(all == b"oe".repeat(200), "{} octets", all.len());
    conn.finish(400)
}

stepped!(advice_about_memory_helps);
fn advice_about_memory_helps() -> Digest {
    // A buffer that was made smaller than the window which was told before.
    let mut conn = Conn::new();
    let fd = conn.fd;
    rcvbuf(&mut conn.lone, fd, 1);
    let mut at = 0;
    let refused = fill(&mut conn, &mut at);
    assert_eq!(refused, [DropReason::ProtoMem]);
    assert_eq!(read(&mut conn.lone, fd).len(), at as usize);
    assert_eq!(conn.data(at, b"hello"), []);
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    at += 5;

    // The memory of all.
    rcvbuf(&mut conn.lone, fd, 100_000);
    conn.lone.set("net.ipv4.tcp_mem", "1 1 1");
    let refused = fill(&mut conn, &mut at);
    assert_eq!(refused, [DropReason::ProtoMem]);
    conn.lone.set("net.ipv4.tcp_mem", "1000 1000 1000");
    // Its sender was told of a closed window: what it sends to ask for more is answered, then it sends again.
    assert_eq!(conn.data(at, b"hello"), [DropReason::TcpZeroWindow]);
    assert_eq!(conn.data(at, b"hello"), []);
    assert!(read(&mut conn.lone, fd).ends_with(b".hello"));
    conn.finish(at as usize + 5)
}

stepped!(who_shuts_down_half_of_it_gets_the_rest);
fn who_shuts_down_half_of_it_gets_the_rest() -> Digest {
    let mut conn = Conn::new();
    let fd = conn.fd;
    sys_close(&mut conn.lone.cx, fd).expect("open");
    conn.lone.world.settle();
    // With it goes what the machine had sent and kept: its own end.
    let aborted = [DropReason::SocketClose, DropReason::TcpAbortOnData];
    assert_eq!(conn.data(0, b"hello"), aborted);
    // Another connection, of which only the sending half is shut down.
    let segment = |conn: &mut Conn, numbers, flags, data: &[u8]| {
        conn.lone.take_ip(&frame::tcp_from(5001, numbers, flags, data))
    };
    assert_eq!(segment(&mut conn, (77, 0), TCPHDR_SYN, b""), []);
    let first = answer(&conn.lone);
    assert_eq!(segment(&mut conn, (78, first), TCPHDR_ACK, b""), []);
    let (fd, _) = conn.lone.run(sys_accept4(conn.listener, 0)).expect("it is there");
    sys_shutdown(&mut conn.lone.cx, fd, SHUT_WR).expect("connected");
    conn.lone.world.settle();
    assert_eq!(segment(&mut conn, (78, first), TCPHDR_ACK, b"hello"), []);
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    segment(&mut conn, (83, 0), TCPHDR_RST, b"");
    conn.lone.end()
}

stepped!(a_connection_that_is_over_is_begun_anew);
fn a_connection_that_is_over_is_begun_anew() -> Digest {
    let mut conn = Conn::new();
    let (fd, at, first) = (conn.fd, PEER_SEQ + 1, conn.first);
    sys_close(&mut conn.lone.cx, fd).expect("open");
    conn.lone.world.settle();
    let fin = conn.segment((at, first + 1), TCPHDR_ACK | TCPHDR_FIN, b"");
    assert_eq!(fin, [], "nobody reads the end; nothing is missing");
    let late = |conn: &mut Conn| conn.segment((at + 1, first + 1), TCPHDR_ACK, b"hello");
    assert_eq!(late(&mut conn), [DropReason::TcpTimewait]);
    conn.begins_anew(5001);
    // From the same port its number must be higher.
    let syn = conn.segment((at + 100, 0), TCPHDR_SYN, b"");
    assert_eq!(syn, []);
    let first = answer(&conn.lone);
    assert_eq!(conn.segment((at + 101, first), TCPHDR_ACK, b"hello"), []);
    let (fd, _) = conn.lone.run(sys_accept4(conn.listener, 0)).expect("it is there");
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    conn.segment((at + 106, 0), TCPHDR_RST, b"");
    conn.lone.end()
}

stepped!(who_accepts_makes_room_for_others);
fn who_accepts_makes_room_for_others() -> Digest {
    let mut conn = Conn::with(|lone, _| lone.set("net.core.somaxconn", "1"));
    let listener = conn.listener;
    let connect = |conn: &mut Conn, port| {
        conn.lone.dev.sent();
        let syn = conn.lone.take_ip(&frame::tcp_from(port, (77, 0), TCPHDR_SYN, b""));
        if syn.is_empty() {
            let first = answer(&conn.lone);
            conn.lone.take_ip(&frame::tcp_from(port, (78, first), TCPHDR_ACK, b""));
        }
        syn
    };
    assert_eq!(connect(&mut conn, 6001), []);
    assert_eq!(connect(&mut conn, 6002), []);
    assert_eq!(connect(&mut conn, 6003), [DropReason::TcpListenOverflow]);
    let (fd, _) = conn.lone.run(sys_accept4(listener, 0)).expect("it is there");
    assert_eq!(connect(&mut conn, 6003), []);
    // Or it listens with a larger backlog.
    assert_eq!(connect(&mut conn, 6004), [DropReason::TcpListenOverflow]);
    conn.lone.set("net.core.somaxconn", "100");
    stack::net::socket::sys_listen(&mut conn.lone.cx, listener, 100).expect("it listens");
    assert_eq!(connect(&mut conn, 6004), []);
    for port in 6001..6005 {
        conn.lone.take_ip(&frame::tcp_from(port, (78, 0), TCPHDR_RST, b""));
    }
    sys_close(&mut conn.lone.cx, fd).expect("open");
    conn.finish(0)
}

stepped!(sums_that_are_right_pass);
fn sums_that_are_right_pass() -> Digest {
    let mut conn = Conn::new();
    let (fd, right) = (conn.fd, frame::tcp((PEER_SEQ + 1, conn.first), TCPHDR_ACK, b"hello"));
    let mut changed = right.clone();
    *changed.last_mut().expect("data") ^= 1;
    assert_eq!(conn.lone.take_ip(&changed), [DropReason::TcpCsum]);
    assert_eq!(conn.lone.take_ip(&right), []);
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    conn.finish(5)
}

stepped!(the_same_key_at_both_ends_or_at_neither);
fn the_same_key_at_both_ends_or_at_neither() -> Digest {
    let mut pair = Pair::new(9);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, 80, 5);
    let drops = |pair: &Pair, reason| pair.b.mib().drops(reason) != 0;
    let attempt = |pair: &mut Pair, a: &mut _, own: &[u8]| {
        let fd = sys_socket(a, AF_INET, SOCK_STREAM, 0).expect("a socket");
        if !own.is_empty() {
            key(a, fd, B, own);
        }
        let limit = Duration::from_secs(10);
        let connected = pair.world.block_on(a, &mut sys_connect(fd, &addr(B, 80)), limit);
        (fd, connected == Some(Ok(())))
    };
    // One end has a key, and the other none or another.
    let (first, connected) = attempt(&mut pair, &mut a, b"secret");
    assert!(!connected && drops(&pair, DropReason::TcpMd5Unexpected));
    key(&mut b, listening, A, b"other");
    let (second, connected) = attempt(&mut pair, &mut a, b"secret");
    assert!(!connected && drops(&pair, DropReason::TcpMd5Failure));
    let (third, connected) = attempt(&mut pair, &mut a, b"");
    assert!(!connected && drops(&pair, DropReason::TcpMd5NotFound));
    key(&mut b, listening, A, b"secret");
    let (fourth, connected) = attempt(&mut pair, &mut a, b"secret");
    assert!(connected, "the same key at both");
    key(&mut b, listening, A, b"");
    let (fifth, connected) = attempt(&mut pair, &mut a, b"");
    assert!(connected, "at neither");
    for fd in [first, second, third, fourth, fifth] {
        sys_close(&mut a, fd).expect("open");
    }
    sys_close(&mut b, listening).expect("open");
    pair.world.run_for(Duration::from_secs(300));
    drop((a, b));
    pair.end()
}

stepped!(who_opens_at_the_same_time_begins_anew);
fn who_opens_at_the_same_time_begins_anew() -> Digest {
    let mut lone = Lone::new();
    let open = |lone: &mut Lone| {
        let fd = sys_socket(&mut lone.cx, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        let fd = fd.expect("a socket");
        sys_bind(&mut lone.cx, fd, &addr(LOCAL, 80)).expect("a free port");
        let begun = lone.run(sys_connect(fd, &addr(frame::PEER, 5000)));
        assert_eq!(begun, Err(Errno::EINPROGRESS));
        let first = answer(lone);
        assert_eq!(lone.take_ip(&frame::tcp((77, 0), TCPHDR_SYN, b"")), []);
        (fd, first)
    };
    let (fd, first) = open(&mut lone);
    let beyond = frame::tcp((78, first + 100), TCPHDR_ACK, b"hello");
    assert_eq!(lone.take_ip(&beyond), [DropReason::TcpAckUnsentData]);
    let before = frame::tcp((78, first - 1), TCPHDR_ACK, b"hello");
    assert_eq!(lone.take_ip(&before), [DropReason::TcpInvalidAckSequence]);
    lone.take_ip(&frame::tcp((78, 0), TCPHDR_RST, b""));
    sys_close(&mut lone.cx, fd).expect("open");
    lone.world.settle();
    lone.dev.sent();
    let (fd, first) = open(&mut lone);
    assert_eq!(lone.take_ip(&frame::tcp((78, first), TCPHDR_ACK, b"hello")), []);
    assert_eq!(read(&mut lone, fd), b"hello");
    lone.take_ip(&frame::tcp((83, 0), TCPHDR_RST, b""));
    lone.end()
}

stepped!(one_signature_or_none_passes);
fn one_signature_or_none_passes() -> Digest {
    let mut conn = Conn::new();
    let twice = [forged(), forged()].concat();
    let twice = with_options(&conn, (PEER_SEQ + 1, TCPHDR_ACK), &twice, b"hello");
    assert_eq!(conn.lone.take_ip(&twice), [DropReason::TcpAuthHdr]);
    assert_eq!(conn.data(0, b"hello"), []);
    let fd = conn.fd;
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    conn.finish(5)
}

stepped!(a_way_back_lets_a_stranger_connect);
fn a_way_back_lets_a_stranger_connect() -> Digest {
    let mut conn = Conn::new();
    let stranger = Ipv4Addr::new(203, 0, 113, 9);
    let syn = frame::tcp_of((stranger, 5000), (77, 0), TCPHDR_SYN, b"");
    assert_eq!(conn.lone.take_ip(&syn), [DropReason::IpOutNoRoutes]);
    let dev = conn.lone.dev.dev().ifindex;
    let info = FibInfo { gateway: frame::PEER.into(), dev, ..FibInfo::default() };
    fib_new_route(&mut conn.lone.cx, u32::from(stranger), 32, info).expect("a route");
    conn.lone.dev.sent();
    assert_eq!(conn.lone.take_ip(&syn), []);
    let first = answer(&conn.lone);
    let data = frame::tcp_of((stranger, 5000), (78, first), TCPHDR_ACK, b"hello");
    assert_eq!(conn.lone.take_ip(&data), []);
    let (fd, _) = conn.lone.run(sys_accept4(conn.listener, 0)).expect("it is there");
    assert_eq!(read(&mut conn.lone, fd), b"hello");
    conn.lone.take_ip(&frame::tcp_of((stranger, 5000), (83, 0), TCPHDR_RST, b""));
    conn.finish(0)
}
