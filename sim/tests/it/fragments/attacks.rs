//! Fragments and messages that nobody honest sends.

use super::pmtu::{connected, mtu, sent, too_long};
use super::{Piece, datagram, datagram_from, pattern, piece, pieces, with_socket};
use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::{addr, connect};
use sim::{Digest, MachineSpec};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::ipv4::route::FnheTable;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::snmp::{IcmpMib, IpMib};

/// Octets that fragments take up.
fn memory(lone: &Lone) -> usize {
    let text = sockstat_seq_show(&lone.machine);
    let line = text.lines().last().expect("FRAG stands last");
    line.rsplit(' ').next().and_then(|octets| octets.parse().ok()).expect("a number")
}

/// Delivers frames without watching them.
fn deliver(lone: &mut Lone, packets: impl IntoIterator<Item = Vec<u8>>) {
    lone.dev.deliver(packets.into_iter().map(|packet| frame::ether(TestDev::MAC, 0x0800, &packet)));
    lone.world.settle();
}

/// A datagram in fragments gets through.
fn still_works(lone: &mut Lone, fd: i32) {
    deliver(lone, pieces(&datagram(800), 0xabcd, 400));
    assert_eq!(lone.recv_all(fd), [pattern(800)]);
}

stepped!(attack_teardrop);
fn attack_teardrop() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(1192);
    // The second lies within the first and ends before it (1997), in all its shapes.
    for (id, (from, to)) in [(24, 28), (8, 8), (0, 0), (24, 36), (32, 40)].into_iter().enumerate() {
        let id = id as u16;
        lone.take_ip(&piece(&whole, Piece { id, from: 0, to: 36, more: true }));
        lone.take_ip(&piece(&whole, Piece { id, from, to, more: false }));
    }
    // The last one is a whole datagram of 40 octets, but for its UDP length.
    assert_eq!(lone.recv_all(fd), [[0; 0]; 0]);
    still_works(&mut lone, fd);
    lone.world.run_for(Duration::from_secs(31));
    assert_eq!(memory(&lone), 0);
    lone.end()
}

stepped!(attack_ping_of_death);
fn attack_ping_of_death() -> Digest {
    let mut lone = Lone::new();
    let echo = frame::ip(1, frame::PEER, LOCAL, &frame::icmp(8, 0, [0, 1, 0, 2], &pattern(1400)));
    // Echo requests of 65,536 octets and more, which no header can tell of: all of them comes.
    let part = |id, from: usize, len: usize, more| {
        let mut part = piece(&echo, Piece { id, from: 0, to: len, more });
        let field = (from / 8) as u16 | if more { 0x2000 } else { 0 };
        part[6..8].copy_from_slice(&field.to_be_bytes());
        super::resum(part)
    };
    for (id, last) in [(1, 16), (2, 1400)] {
        for from in (0..65_520).step_by(1400) {
            deliver(&mut lone, [part(id, from, 1400.min(65_520 - from), true)]);
        }
        deliver(&mut lone, [part(id, 65_520, last, false)]);
    }
    let mib = lone.machine.mib();
    assert_eq!((mib.get(IpMib::ReasmOKs), mib.get(IpMib::ReasmFails)), (0, 2));
    assert_eq!(lone.dev.sent().len(), 0);
    assert_eq!(memory(&lone), 0);
    // The largest that there can be is answered.
    let largest =
        frame::ip(1, frame::PEER, LOCAL, &frame::icmp(8, 0, [0, 1, 0, 2], &pattern(65_507)));
    deliver(&mut lone, pieces(&largest, 3, 1480));
    lone.world.settle();
    assert_eq!(super::joined(&lone.dev.sent()).len(), 65_515);
    lone.end()
}

stepped!(attack_fragment_smack);
fn attack_fragment_smack() -> Digest {
    let spec = MachineSpec::default();
    let mut lone = Lone::with(spec, 1000);
    let fd = crate::util::udp(&mut lone.cx, LOCAL, 7);
    let high = 4 << 20;
    let mut most = 0;
    // 100,000 first fragments of datagrams that never end, from many sources.
    for n in 0..1000_u32 {
        let burst = (0..100_u32).map(|m| {
            let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + n % 50);
            let whole = datagram_from(from, 100);
            piece(&whole, Piece { id: (n / 50 * 100 + m) as u16, from: 0, to: 64, more: true })
        });
        deliver(&mut lone, burst);
        most = most.max(memory(&lone));
    }
    assert!(most > high / 2 && most < high + 4096, "{most}");
    assert!(lone.drops(DropReason::FragMem) > 50_000);
    let text = sockstat_seq_show(&lone.machine);
    let queues = text.lines().last().and_then(|line| line.split(' ').nth(2)).expect("a count");
    assert!(queues.parse::<usize>().expect("a number") < 10_000, "{queues}");
    // What is whole gets through all the while; fragments do when the time of those is up.
    deliver(&mut lone, [datagram(900)]);
    assert_eq!(lone.recv_all(fd), [pattern(900)]);
    lone.world.run_for(Duration::from_secs(31));
    assert_eq!(memory(&lone), 0);
    still_works(&mut lone, fd);
    lone.end()
}

stepped!(attack_many_small_fragments_of_one_datagram);
fn attack_many_small_fragments_of_one_datagram() -> Digest {
    let (mut lone, fd) = with_socket();
    // Every second of eight octets, backwards: as many runs as there can be, and then all the others.
    let whole = datagram(20_000);
    let all = pieces(&whole, 1, 8);
    for half in [1, 0] {
        let some: Vec<_> = all.iter().skip(half).step_by(2).rev().cloned().collect();
        for burst in some.chunks(100) {
            deliver(&mut lone, burst.iter().cloned());
        }
    }
    let mut data = vec![0; 30_000];
    let call = stack::net::socket::sys_recvfrom(fd, &mut data, uapi::socket::MSG_DONTWAIT);
    let received = lone.run(call).map(|(len, _)| len);
    // Its buffer takes no datagram of 2,501 packets: so it is in Linux.
    let dropped = lone.drops(DropReason::SocketRcvbuff);
    assert!(received == Ok(20_000) || dropped == 1, "{received:?}");
    assert_eq!(lone.machine.mib().get(IpMib::ReasmOKs), 1);
    assert_eq!(memory(&lone), 0);
    still_works(&mut lone, fd);
    lone.end()
}

stepped!(attack_overlapping_fragments);
fn attack_overlapping_fragments() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(1192);
    let mut evil = whole.clone();
    evil[28..].fill(0xee);
    // Somebody's octets in place of others', in front, behind and between: no datagram has both.
    for (id, (from, to)) in
        [(0, 800), (392, 800), (400, 808), (0, 408), (8, 800)].into_iter().enumerate()
    {
        let id = id as u16;
        let more = to < 1200;
        lone.take_ip(&piece(&whole, Piece { id, from: 0, to: 400, more: true }));
        lone.take_ip(&piece(&whole, Piece { id, from: 800, to: 1200, more: false }));
        lone.take_ip(&piece(&evil, Piece { id, from, to, more }));
        lone.take_ip(&piece(&whole, Piece { id, from: 400, to: 800, more: true }));
    }
    assert_eq!(lone.recv_all(fd), [[0; 0]; 0]);
    assert_eq!(lone.machine.mib().get(IpMib::ReasmFails), 5);
    lone.world.run_for(Duration::from_secs(31));
    still_works(&mut lone, fd);
    lone.end()
}

stepped!(attack_fragment_too_far);
fn attack_fragment_too_far() -> Digest {
    let (mut lone, fd) = with_socket();
    let (old, new) = (datagram(800), frame::udp((frame::PEER, 5000), (LOCAL, 7), &[7; 800]));
    // A source so fast that identifications come round: halves of two datagrams never become one.
    deliver(&mut lone, [pieces(&old, 1, 408)[0].clone()]);
    for id in 100..200 {
        deliver(&mut lone, [pieces(&old, id, 408)[0].clone()]);
    }
    deliver(&mut lone, [pieces(&new, 1, 408)[1].clone()]);
    assert_eq!(lone.drops(DropReason::FragTooFar), 1);
    assert_eq!(lone.recv_all(fd), [[0; 0]; 0]);
    // Another source's fragments do not count.
    let other = datagram_from(Ipv4Addr::new(192, 0, 2, 8), 800);
    deliver(&mut lone, [pieces(&other, 1, 408)[0].clone()]);
    for id in 200..300 {
        deliver(&mut lone, [pieces(&old, id, 408)[0].clone()]);
    }
    deliver(&mut lone, [pieces(&other, 1, 408)[1].clone()]);
    assert_eq!(lone.recv_all(fd), [pattern(800)]);
    lone.world.run_for(Duration::from_secs(31));
    lone.end()
}

stepped!(attack_forged_frag_needed);
fn attack_forged_frag_needed() -> Digest {
    let (mut lone, fd) = connected();
    let frames = sent(&mut lone, fd, 1472).expect("fits");
    let errors = lone.machine.mib().get(IcmpMib::InErrors);
    // Of ports that no socket has; of another peer than the socket's; of a protocol that nobody speaks.
    for (at, octet) in [(34, 0xff), (35, 8), (37, 10), (33, 8), (23, 99)] {
        let mut forged = frames[0].clone();
        forged[at] = octet;
        too_long(&mut lone, &forged, 600);
        assert_eq!(mtu(&mut lone, fd), 1500, "octet {at}");
    }
    assert_eq!(lone.machine.mib().get(IcmpMib::InErrors) - errors, 4);
    // Cut off before the ports.
    let icmp = frame::icmp(3, 4, [0, 0, 2, 88], &frames[0][14..36]);
    lone.take_ip(&frame::ip(1, frame::PEER, LOCAL, &icmp));
    assert_eq!(mtu(&mut lone, fd), 1500);
    // Who sees the traffic is believed, but not everything.
    for told in [0, 1, 67, 551] {
        too_long(&mut lone, &frames[0], told);
        assert_eq!(mtu(&mut lone, fd), 552, "told {told}");
    }
    too_long(&mut lone, &frames[0], u16::MAX);
    assert_eq!(mtu(&mut lone, fd), 552);
    lone.end()
}

stepped!(attack_pmtu_exception_flood);
fn attack_pmtu_exception_flood() -> Digest {
    let (mut lone, fd) = connected();
    let via = stack::net::ipv4::fib::FibInfo {
        gateway: frame::PEER.into(),
        ..stack::net::ipv4::fib::FibInfo::default()
    };
    stack::net::ipv4::fib::fib_new_route(&mut lone.cx, 0, 0, via).expect("a default route");
    // What quotes an answer to an echo request is of no socket: anybody can make it up.
    for n in 0..400_u32 {
        let forged = (0..100).map(|m| {
            let to = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + n * 100 + m);
            let quote = frame::ip(1, LOCAL, to, &frame::icmp(0, 0, [0; 4], &[]));
            frame::ip(1, frame::PEER, LOCAL, &frame::icmp(3, 4, [0, 0, 4, 0], &quote))
        });
        deliver(&mut lone, forged);
    }
    let known = lone.machine.net().fnhe.len();
    assert!(known <= FnheTable::MAX && known > FnheTable::MAX / 4, "{known}");
    // A real one still finds a place.
    let frames = sent(&mut lone, fd, 1472).expect("fits");
    too_long(&mut lone, &frames[0], 1000);
    assert_eq!(mtu(&mut lone, fd), 1000);
    connect(&mut lone.cx, fd, &addr(frame::PEER, 9)).expect("a way");
    lone.end()
}
