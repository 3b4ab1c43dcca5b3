//! Packet, raw and ping sockets on whole machines: their walks, what becomes of them when a device goes, and attacks.

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::tcp::{connected, listener};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, connect, send, udp};
use klib::checksum::{csum_fold, csum_partial};
use sim::Digest;
use stack::fs::{exit_files, sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::net::core::dev::{dev_close, dev_open, unregister_netdevice};
use stack::net::core::sysctl::update_sysctls;
use stack::net::packet::af_packet::{PacketBlocks, RingMap, packet_mmap, packet_seq_show};
use stack::net::socket::{
    sys_bind, sys_getsockname, sys_getsockopt, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::icmp::{ICMP_FILTER, ICMP_HDR_LEN};
use uapi::if_packet::{
    PACKET_ADD_MEMBERSHIP, PACKET_FANOUT, PACKET_HOST, PACKET_OUTGOING, PACKET_RX_RING,
    PACKET_STATISTICS, PACKET_VERSION, SockaddrLl, TP_FT_REQ_FILL_RXHASH, TP_STATUS_BLK_TMO,
    TP_STATUS_KERNEL, TP_STATUS_LOSING, TP_STATUS_USER, TPACKET_V2, TPACKET_V3,
};
use uapi::in_::{IP_HDRINCL, IP_RECVERR};
use uapi::socket::{
    AF_INET, AF_PACKET, MSG_DONTWAIT, MSG_TRUNC, SO_ERROR, SO_RCVBUF, SOCK_DGRAM, SOCK_RAW, SOL_IP,
    SOL_PACKET, SOL_RAW, SOL_SOCKET, Sockaddr,
};

/// For experiments: nobody else sends it.
const OURS: u16 = 0x88b5;
/// The card of each machine of a pair, and a lone machine's.
const CARD: i32 = 2;

fn packet(cx: &mut TaskCx, kind: i32, protocol: u16) -> i32 {
    sys_socket(cx, AF_PACKET, kind, i32::from(protocol.to_be())).expect("a packet socket")
}

fn raw(cx: &mut TaskCx, protocol: i32) -> i32 {
    sys_socket(cx, AF_INET, SOCK_RAW, protocol).expect("a raw socket")
}

fn sll(ifindex: i32, protocol: u16) -> [u8; 20] {
    SockaddrLl { protocol, ifindex, ..SockaddrLl::default() }.to_bytes()
}

fn ether(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &protocol.to_be_bytes(), payload].concat()
}

fn echo(id: u16, data: &[u8]) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    let mut message = [&[8, 0, 0, 0, a, b, 0, 1][..], data].concat();
    let sum = csum_fold(csum_partial(&message, 0));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// What comes, and its link address.
fn take(pair: &mut Pair, cx: &mut TaskCx, fd: i32) -> (Vec<u8>, SockaddrLl) {
    let mut data = vec![0; 2048];
    let (len, from) = pair.run(cx, sys_recvfrom(fd, &mut data, 0)).expect("it comes");
    data.truncate(len);
    (data, from.and_then(Sockaddr::link).expect("a link address"))
}

/// Both machines know each other's link address.
fn acquaint(pair: &mut Pair, ends: &mut crate::util::Ends) {
    let (a, b) = (udp(&mut ends.a, A, 1), udp(&mut ends.b, B, 1));
    send(pair, &mut ends.a, a, b"x", addr(B, 1));
    pair.world.settle();
    send(pair, &mut ends.b, b, b"x", addr(A, 1));
    pair.world.run_for(Duration::from_secs(6));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
}

stepped!(a_datagram_seen_both_ways);
fn a_datagram_seen_both_ways() -> Digest {
    let mut pair = Pair::new(301);
    let mut ends = pair.ends();
    acquaint(&mut pair, &mut ends);
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    connect(&mut ends.a, client, &addr(B, 7)).expect("a route");
    let out = packet(&mut ends.a, SOCK_RAW, 3);
    let come = packet(&mut ends.b, SOCK_DGRAM, 0x0800);
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, b"hello", addr(B, 7));
    pair.world.settle();
    let (sent, to) = take(&mut pair, &mut ends.a, out);
    let (seen, from) = take(&mut pair, &mut ends.b, come);
    golden::check(&pair.world, "packet-both-ways");
    assert_eq!((sent.len(), to.pkttype, to.protocol), (14 + 33, PACKET_OUTGOING, 0x0800));
    assert_eq!(
        (&seen[..], from.pkttype),
        (&sent[14..], PACKET_HOST),
        "padding is cut off by IP alone"
    );
    assert_eq!(from.addr[..6], sent[6..12], "its source on the link");
    sys_close(&mut ends.b, server).expect("open");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_frame_from_one_packet_socket_to_a_group_of_another_machine);
fn a_frame_from_one_packet_socket_to_a_group_of_another_machine() -> Digest {
    let mut pair = Pair::new(302);
    let mut ends = pair.ends();
    let sender = packet(&mut ends.a, SOCK_RAW, 0);
    let member = packet(&mut ends.b, SOCK_RAW, OURS);
    let group = 7_i32.to_ne_bytes();
    sys_setsockopt(&mut ends.b, member, SOL_PACKET, PACKET_FANOUT, &group).expect("a group");
    pair.world.watch(None);
    let data = ether(OURS, &[b'.'; 46]);
    let name = sll(CARD, 0);
    assert_eq!(pair.run(&mut ends.a, sys_sendto(sender, &data, 0, Some(&name))), Ok(60));
    pair.world.settle();
    let (seen, _) = take(&mut pair, &mut ends.b, member);
    golden::check(&pair.world, "packet-fanout");
    assert_eq!(seen, data);
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

fn ring_of_four(cx: &mut TaskCx, fd: i32) {
    let req: Vec<u8> = [4096_u32, 2, 2048, 4].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let version = TPACKET_V2.to_ne_bytes();
    sys_setsockopt(cx, fd, SOL_PACKET, PACKET_VERSION, &version).expect("known");
    sys_setsockopt(cx, fd, SOL_PACKET, PACKET_RX_RING, &req).expect("it fits");
}

stepped!(frames_go_from_hand_to_hand_in_a_ring);
fn frames_go_from_hand_to_hand_in_a_ring() -> Digest {
    let mut lone = Lone::new();
    let fd = packet(&mut lone.cx, SOCK_RAW, OURS);
    assert_eq!(packet_mmap(&mut lone.cx, fd).err(), Some(Errno::EINVAL), "there is no ring");
    ring_of_four(&mut lone.cx, fd);
    let Ok(RingMap::Frames(ring)) = packet_mmap(&mut lone.cx, fd) else {
        panic!("a ring of frames")
    };
    assert_eq!((ring.len(), ring.tp_status(0), ring.tp_status(9)), (4, TP_STATUS_KERNEL, 0));
    assert!(ring.take(0).is_none(), "it is the socket's");
    lone.world.watch(None);
    lone.dev.deliver([ether(OURS, b"the first")]);
    lone.world.settle();
    golden::check(&lone.world, "packet-ring");
    {
        let frame = ring.take(0).expect("it is the reader's");
        assert!(ring.take(0).is_none(), "one has it");
        assert_eq!(frame.data(), ether(OURS, b"the first"));
        let header = frame.header();
        assert_eq!((header.tp_len, header.tp_snaplen), (23, 23));
        // Behind header and address, 16 octets at the least for the link's, at an alignment.
        assert_eq!((header.tp_mac, header.tp_net), (66, 80));
        assert_eq!(frame.from().addr[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(ring.tp_status(0) & TP_STATUS_USER, TP_STATUS_USER, "still in hand");
    }
    assert_eq!(ring.tp_status(0), TP_STATUS_KERNEL, "given back");
    lone.dev.deliver((0..6).map(|nth| ether(OURS, &[nth; 3000][..1400])));
    lone.world.settle();
    let first: Vec<u8> = (0..4).map(|at| ring.take(at).expect("all are full").data()[14]).collect();
    assert_eq!(first, [3, 0, 1, 2], "it went round");
    lone.dev.deliver([ether(OURS, b"behind a loss")]);
    lone.world.settle();
    assert_ne!(ring.tp_status(1) & TP_STATUS_LOSING, 0);
    let none = [0; 16];
    let taken = sys_setsockopt(&mut lone.cx, fd, SOL_PACKET, PACKET_RX_RING, &none);
    assert_eq!(taken, Err(Errno::EBUSY), "somebody has it");
    sys_close(&mut lone.cx, fd).expect("open");
    assert!(ring.take(1).is_some(), "what came can be read after that");
    lone.end()
}

/// Two blocks of 4,096 octets, whose packets wait `tov` milliseconds at the most.
fn ring_of_blocks(cx: &mut TaskCx, fd: i32, tov: u32) -> PacketBlocks {
    let words = [4096, 2, 2048, 4, tov, 10, TP_FT_REQ_FILL_RXHASH];
    let req: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let version = TPACKET_V3.to_ne_bytes();
    sys_setsockopt(cx, fd, SOL_PACKET, PACKET_VERSION, &version).expect("known");
    let short = sys_setsockopt(cx, fd, SOL_PACKET, PACKET_RX_RING, &req[..16]);
    assert_eq!(short, Err(Errno::EINVAL), "this version's request is longer");
    sys_setsockopt(cx, fd, SOL_PACKET, PACKET_RX_RING, &req).expect("it fits");
    match packet_mmap(cx, fd) {
        Ok(RingMap::Blocks(ring)) => ring,
        other => panic!("a ring of blocks, not {other:?}"),
    }
}

stepped!(packets_stand_in_a_block_until_it_is_full_or_its_time_is_up);
fn packets_stand_in_a_block_until_it_is_full_or_its_time_is_up() -> Digest {
    let mut lone = Lone::new();
    let fd = packet(&mut lone.cx, SOCK_RAW, OURS);
    let ring = ring_of_blocks(&mut lone.cx, fd, 50);
    assert_eq!((ring.len(), ring.block_status(0)), (2, TP_STATUS_KERNEL));
    lone.world.watch(None);
    lone.dev.deliver([ether(OURS, b"the first"), ether(OURS, b"and another")]);
    lone.world.run_for(Duration::from_millis(40));
    assert_eq!(ring.block_status(0), TP_STATUS_KERNEL, "it waits for more");
    assert!(ring.take(0).is_none());
    lone.world.run_for(Duration::from_millis(20));
    golden::check(&lone.world, "packet-blocks");
    assert_eq!(ring.block_status(0), TP_STATUS_USER | TP_STATUS_BLK_TMO);
    {
        let mut block = ring.take(0).expect("it is the reader's");
        assert!(ring.take(0).is_none(), "one has it");
        let desc = *block.desc();
        // Behind the description and ten octets of the reader's own, at multiples of eight.
        assert_eq!((desc.num_pkts, desc.seq_num, desc.offset_to_first_pkt), (2, 1, 64));
        // Headers of 68 octets and 16 for the link's, at a multiple of sixteen; a packet of 23, one of 25.
        assert_eq!(desc.blk_len, 64 + 112 + 112);
        assert!(desc.ts_last_pkt >= desc.ts_first_pkt);
        let packets: Vec<_> = block.packets().collect();
        assert_eq!(packets[0].data, ether(OURS, b"the first"));
        assert_eq!(packets[1].data, ether(OURS, b"and another"));
        assert_eq!((packets[0].header.tp_mac, packets[0].header.tp_net), (82, 96));
        assert_eq!((packets[0].header.tp_next_offset, packets[1].header.tp_next_offset), (112, 0));
        assert_eq!(packets[0].from.addr[..6], [2, 0, 0, 0, 0, 9]);
        block.private().copy_from_slice(b"my own ten");
    }
    // A block takes two of these, and a third does not fit.
    let long = |nth: u8| ether(OURS, &[nth; 1500]);
    lone.dev.deliver((0..3).map(long));
    lone.world.settle();
    assert_eq!(ring.block_status(1), TP_STATUS_USER, "full, before its time");
    assert_eq!(ring.block_status(0), TP_STATUS_KERNEL, "given back, and open");
    let full = ring.take(1).expect("it is the reader's");
    assert_eq!(full.packets().map(|packet| packet.data[14]).collect::<Vec<_>>(), [0, 1]);
    lone.dev.deliver((3..6).map(long));
    lone.world.settle();
    assert_eq!(ring.block_status(0), TP_STATUS_USER, "full, and the other one is in hand");
    let stats = |lone: &mut Lone| {
        let stats = sys_getsockopt(&mut lone.cx, fd, SOL_PACKET, PACKET_STATISTICS).expect("known");
        stats.chunks(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(stats(&mut lone), [8, 2, 1], "two found no room; it was frozen once");
    drop(full);
    lone.dev.deliver([long(6)]);
    lone.world.run_for(Duration::from_millis(60));
    let last = ring.take(1).expect("open again when the reader gave it back");
    assert_eq!((last.desc().seq_num, last.desc().num_pkts), (4, 1));
    drop(last);
    let mut first = ring.take(0).expect("as it was");
    assert_eq!(first.private(), b"my own ten", "nobody writes there");
    sys_close(&mut lone.cx, fd).expect("open");
    drop((first, ring));
    lone.world.run_for(Duration::from_secs(2));
    lone.end()
}

stepped!(an_echo_answered_to_a_raw_socket);
fn an_echo_answered_to_a_raw_socket() -> Digest {
    let mut pair = Pair::new(303);
    let mut ends = pair.ends();
    acquaint(&mut pair, &mut ends);
    let fd = raw(&mut ends.a, 1);
    pair.world.watch(None);
    let sent = pair.run(&mut ends.a, sys_sendto(fd, &echo(5, b"hello"), 0, Some(&addr(B, 0))));
    assert_eq!(sent, Ok(13));
    let mut data = [0; 64];
    let (len, from) = pair.run(&mut ends.a, sys_recvfrom(fd, &mut data, 0)).expect("answered");
    golden::check(&pair.world, "raw-echo");
    assert_eq!((len, data[20], &data[28..33]), (33, 0, &b"hello"[..]));
    assert_eq!(from.and_then(Sockaddr::inet).map(|from| from.addr), Some(B.into()));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_header_of_ones_own_and_the_error_that_it_brings);
fn a_header_of_ones_own_and_the_error_that_it_brings() -> Digest {
    let mut pair = Pair::new(304);
    let mut ends = pair.ends();
    acquaint(&mut pair, &mut ends);
    let fd = raw(&mut ends.a, 253);
    let one = 1_i32.to_ne_bytes();
    for name in [IP_HDRINCL, IP_RECVERR] {
        sys_setsockopt(&mut ends.a, fd, SOL_IP, name, &one).expect("known");
    }
    pair.world.watch(None);
    let first = [0x45, 0, 0, 0, 0, 0, 0, 0, 9, 253, 0, 0, 0, 0, 0, 0];
    let data = [&first[..], &B.octets(), b"nobody knows that protocol"].concat();
    assert_eq!(pair.run(&mut ends.a, sys_sendto(fd, &data, 0, Some(&addr(B, 0)))), Ok(data.len()));
    pair.world.settle();
    golden::check(&pair.world, "raw-error");
    let told = sys_getsockopt(&mut ends.a, fd, SOL_SOCKET, SO_ERROR).expect("known");
    assert_eq!(told, Errno::ENOPROTOOPT.0.to_ne_bytes());
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

fn ping(cx: &mut TaskCx) -> i32 {
    update_sysctls(cx, |sysctl| sysctl.ping_group_range = (0, 0));
    sys_socket(cx, AF_INET, SOCK_DGRAM, 1).expect("a ping socket")
}

stepped!(a_ping_and_its_answer);
fn a_ping_and_its_answer() -> Digest {
    let mut pair = Pair::new(305);
    let mut ends = pair.ends();
    acquaint(&mut pair, &mut ends);
    let fd = ping(&mut ends.a);
    pair.world.watch(None);
    let sent = pair.run(&mut ends.a, sys_sendto(fd, &echo(9, b"hello"), 0, Some(&addr(B, 0))));
    assert_eq!(sent, Ok(13));
    let mut data = [0; 64];
    let (len, _) = pair.run(&mut ends.a, sys_recvfrom(fd, &mut data, 0)).expect("answered");
    golden::check(&pair.world, "ping");
    let own = sys_getsockname(&mut ends.a, fd).ok().and_then(Sockaddr::inet).expect("bound").port;
    assert_eq!((len, &data[4..6]), (13, &own.to_be_bytes()[..]), "the identifier is its port");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_ping_to_nobody_is_told_so);
fn a_ping_to_nobody_is_told_so() -> Digest {
    let mut pair = Pair::new(306);
    let mut ends = pair.ends();
    let fd = ping(&mut ends.a);
    sys_setsockopt(&mut ends.a, fd, SOL_IP, IP_RECVERR, &1_i32.to_ne_bytes()).expect("known");
    let nobody = addr(Ipv4Addr::new(192, 0, 2, 77), 0);
    pair.world.watch(None);
    assert_eq!(pair.run(&mut ends.a, sys_sendto(fd, &echo(9, b"x"), 0, Some(&nobody))), Ok(9));
    pair.world.run_for(Duration::from_secs(5));
    golden::check(&pair.world, "ping-error");
    let told = pair.run(&mut ends.a, sys_recvfrom(fd, &mut [0; 9], MSG_DONTWAIT));
    assert_eq!(told.map(|_| ()), Err(Errno::EHOSTUNREACH));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_device_that_goes_is_told_to_those_bound_to_it);
fn a_device_that_goes_is_told_to_those_bound_to_it() -> Digest {
    let mut lone = Lone::new();
    lone.world.watch(None);
    let dev = lone.dev.dev();
    let index = i32::from(dev.ifindex.0);
    let fd = packet(&mut lone.cx, SOCK_RAW, 0);
    let all = packet(&mut lone.cx, SOCK_RAW, OURS);
    sys_bind(&mut lone.cx, fd, &sll(index, OURS)).expect("there");
    let promiscuous = [&index.to_ne_bytes()[..], &1_u16.to_ne_bytes(), &[0; 10]].concat();
    let join = |cx: &mut TaskCx, fd| {
        sys_setsockopt(cx, fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous).expect("there");
    };
    join(&mut lone.cx, fd);
    join(&mut lone.cx, all);
    assert!(dev.promiscuous());
    dev_close(&mut lone.cx, &dev);
    let told = |lone: &mut Lone, fd| lone.run(sys_recvfrom(fd, &mut [0; 99], MSG_DONTWAIT)).err();
    assert_eq!(told(&mut lone, fd), Some(Errno::ENETDOWN));
    assert_eq!(told(&mut lone, all), Some(Errno::EAGAIN), "it is bound to none");
    let sent = lone.run(sys_sendto(fd, &ether(OURS, b"x"), 0, None));
    assert_eq!(sent, Err(Errno::ENETDOWN));
    dev_open(&mut lone.cx, &dev).expect("up again");
    lone.dev.deliver([ether(OURS, b"it sees again")]);
    lone.world.settle();
    assert_eq!(lone.recv_all(fd).len(), 1);
    sys_close(&mut lone.cx, all).expect("open");
    assert!(dev.promiscuous(), "one still wants it");
    unregister_netdevice(&mut lone.cx, &dev);
    assert!(!dev.promiscuous(), "undone");
    assert_eq!(told(&mut lone, fd), Some(Errno::ENETDOWN));
    let name = sys_getsockname(&mut lone.cx, fd).ok().and_then(Sockaddr::link).expect("a name");
    assert_eq!((name.ifindex, name.halen), (-1, 0));
    assert_eq!(lone.run(sys_sendto(fd, &ether(OURS, b"x"), 0, None)), Err(Errno::ENXIO));
    let shown = packet_seq_show(&lone.machine);
    assert!(shown.contains(" 3      3    88b5   -1    0 "), "{shown}");
    lone.end()
}

stepped!(closing_undoes_what_a_socket_wanted_of_a_device);
fn closing_undoes_what_a_socket_wanted_of_a_device() -> Digest {
    let mut lone = Lone::new();
    lone.world.watch(None);
    let dev = lone.dev.dev();
    let fd = packet(&mut lone.cx, SOCK_RAW, 0);
    // Of all hosts (224.0.0.1) the device is a member itself.
    let own = dev.mc_list();
    for (kind, addr) in [(0_u16, &[1, 0, 0x5e, 0, 0, 9][..]), (1, &[]), (2, &[]), (3, &[2; 6])] {
        let mut mreq = [&i32::from(dev.ifindex.0).to_ne_bytes()[..], &kind.to_ne_bytes()].concat();
        mreq.extend_from_slice(&(addr.len() as u16).to_ne_bytes());
        mreq.extend_from_slice(addr);
        mreq.resize(16, 0);
        let add = PACKET_ADD_MEMBERSHIP;
        sys_setsockopt(&mut lone.cx, fd, SOL_PACKET, add, &mreq).expect("there");
    }
    assert!(dev.promiscuous() && dev.all_multicast());
    assert_eq!((dev.mc_list().len(), dev.uc_list()), (own.len() + 1, vec![[2; 6]]));
    sys_close(&mut lone.cx, fd).expect("open");
    assert!(!dev.promiscuous() && !dev.all_multicast());
    assert_eq!((dev.mc_list(), dev.uc_list().len()), (own, 0));
    lone.end()
}

stepped!(attack_a_packet_socket_that_nobody_reads);
fn attack_a_packet_socket_that_nobody_reads() -> Digest {
    let mut lone = Lone::new();
    let fd = packet(&mut lone.cx, SOCK_RAW, 3);
    let small = 4096_i32.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVBUF, &small).expect("known");
    let reader = udp(&mut lone.cx, LOCAL, 7);
    let before = lone.machine.live_skbs();
    for round in 0..100 {
        lone.dev.deliver((0..20).map(|_| ether(OURS, &[7; 500])));
        lone.world.settle();
        let held = lone.machine.live_skbs() - before;
        assert!(held <= 16, "round {round}: {held} packets held");
    }
    let told = sys_getsockopt(&mut lone.cx, fd, SOL_PACKET, PACKET_STATISTICS).expect("known");
    let word = |at: usize| u32::from_ne_bytes([told[at], told[at + 1], told[at + 2], told[at + 3]]);
    assert_eq!(word(0), 2000, "all are counted");
    assert!(word(4) > 1900, "{} were lost", word(4));
    let datagram = frame::udp((frame::PEER, 5000), (LOCAL, 7), b"others go on");
    lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &datagram)]);
    lone.world.settle();
    assert_eq!(lone.recv_all(reader).len(), 1);
    lone.world.watch(None);
    lone.dev.deliver([ether(OURS, b"recorded")]);
    lone.world.settle();
    lone.end()
}

stepped!(attack_a_thousand_raw_sockets_and_a_flood_of_echoes);
fn attack_a_thousand_raw_sockets_and_a_flood_of_echoes() -> Digest {
    const SOCKETS: usize = 1000;
    let mut lone = Lone::new();
    let small = 0_i32.to_ne_bytes();
    let fds: Vec<i32> = (0..SOCKETS)
        .map(|_| {
            let fd = raw(&mut lone.cx, 1);
            sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVBUF, &small).expect("known");
            fd
        })
        .collect();
    let request = frame::ip(1, frame::PEER, LOCAL, &echo(1, &[3; 200]));
    let one = frame::ether(TestDev::MAC, 0x0800, &request);
    let before = lone.machine.live_skbs();
    for _ in 0..20 {
        lone.dev.deliver((0..10).map(|_| one.clone()));
        lone.world.settle();
        let held = lone.machine.live_skbs() - before;
        assert!(held <= 8 * SOCKETS as i64, "{held} packets held");
    }
    // The limit is the machine's, and each socket's: none has it all.
    assert!(lone.machine.packet_memory() <= 32 << 20);
    let some = lone.run(sys_recvfrom(fds[0], &mut [0; 99], MSG_DONTWAIT | MSG_TRUNC));
    assert_eq!(some.map(|(len, _)| len), Ok(20 + ICMP_HDR_LEN + 200));
    for fd in &fds {
        sys_close(&mut lone.cx, *fd).expect("open");
    }
    lone.dev.tx.lock().expect("free").clear();
    lone.world.watch(None);
    lone.dev.deliver([one]);
    lone.world.settle();
    assert_eq!(lone.dev.tx.lock().expect("free").len(), 1, "echoes are answered as before");
    lone.end()
}

stepped!(attack_frames_shorter_than_their_headers);
fn attack_frames_shorter_than_their_headers() -> Digest {
    let mut lone = Lone::new();
    lone.world.watch(None);
    let index = i32::from(lone.dev.dev().ifindex.0);
    let [frames, datagrams] = [SOCK_RAW, SOCK_DGRAM].map(|kind| packet(&mut lone.cx, kind, 3));
    let whole = raw(&mut lone.cx, 255);
    let icmp = raw(&mut lone.cx, 1);
    sys_setsockopt(&mut lone.cx, icmp, SOL_RAW, ICMP_FILTER, &[0; 4]).expect("known");
    let ping = ping(&mut lone.cx);
    let (link, to) = (sll(index, 0x0800), addr(frame::PEER, 0));
    for len in 0..64 {
        for octet in [0x00, 0x45, 0x4f, 0xff] {
            let data = vec![octet; len];
            let sent = lone.run(sys_sendto(frames, &data, 0, Some(&link)));
            assert_eq!(sent.is_ok(), len >= 14, "{len}");
            lone.run(sys_sendto(datagrams, &data, 0, Some(&link))).expect("as IP, whatever it is");
            for fd in [whole, icmp, ping] {
                let _whatever_it_says = lone.run(sys_sendto(fd, &data, 0, Some(&to)));
            }
            // What was sent comes back in: by the card, as if a peer had said it.
            let frames: Vec<Vec<u8>> = std::mem::take(&mut lone.dev.tx.lock().expect("free"));
            lone.dev.deliver(frames);
            lone.world.settle();
        }
        let _taken = (lone.world.take_walk(), lone.recv_all(frames), lone.recv_all(icmp));
    }
    lone.world.watch(None);
    lone.run(sys_sendto(frames, &ether(OURS, b"x"), 0, Some(&link))).expect("goes on");
    lone.end()
}

#[test]
fn attack_a_ring_larger_than_the_machine() {
    let pair = Pair::new(308);
    let mut cx = pair.on_a();
    let fd = packet(&mut cx, SOCK_RAW, 0);
    for (blocks, frames) in [(1_u32 << 20, 1_u32 << 21), (u32::MAX, u32::MAX), (1 << 31, 0)] {
        let req: Vec<u8> =
            [4096_u32, blocks, 2048, frames].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let made = sys_setsockopt(&mut cx, fd, SOL_PACKET, PACKET_RX_RING, &req);
        assert!(matches!(made, Err(Errno::ENOMEM | Errno::EINVAL)), "{made:?}");
    }
    exit_files(&mut cx);
}

#[test]
fn what_a_socket_is_hooked_to_is_gone_with_it() {
    let pair = Pair::new(307);
    let mut cx = pair.on_a();
    let hooks = || pair.a.tables().net.ptype_all.len();
    let before = hooks();
    let fds: Vec<i32> = (0..3).map(|_| packet(&mut cx, SOCK_RAW, 3)).collect();
    assert_eq!(hooks(), before + 3);
    for fd in &fds[..2] {
        let group = 9_i32.to_ne_bytes();
        sys_setsockopt(&mut cx, *fd, SOL_PACKET, PACKET_FANOUT, &group).expect("a group");
    }
    assert_eq!(hooks(), before + 2, "two are one hook");
    let sockets: Vec<_> = pair.a.net().packet.all_socks();
    assert_eq!(sockets.len(), 3);
    exit_files(&mut cx);
    assert_eq!(hooks(), before);
    assert!(pair.a.net().packet.all_socks().is_empty());
    assert!(sockets.iter().all(|sk| Arc::strong_count(sk) == 1), "nobody else has them");
}

/// TCP hands its packets to the taps while it holds its own socket; what looks at them then must want no lock of it,
/// nor of a socket of its kind.
#[test]
fn a_connection_that_taps_and_a_group_of_them_look_at() {
    let mut pair = Pair::new(311);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let [taps, _] = [&mut a, &mut b].map(|cx| {
        let [alone, member] = [(); 2].map(|()| packet(cx, SOCK_RAW, 3));
        let group = 7_i32.to_ne_bytes();
        sys_setsockopt(cx, member, SOL_PACKET, PACKET_FANOUT, &group).expect("a group");
        [alone, member]
    });
    let listening = listener(&mut b, 80, 5);
    let (near, far) = connected(&mut pair, &mut a, &mut b, listening, 80);
    assert_eq!(pair.run(&mut a, sys_write(near, b"hello")), Ok(5));
    let mut buffer = [0; 100];
    assert_eq!(pair.run(&mut b, sys_read(far, &mut buffer)), Ok(5));
    for fd in taps {
        let said = sys_getsockopt(&mut a, fd, SOL_PACKET, PACKET_STATISTICS).expect("known");
        let seen = u32::from_ne_bytes(said[..4].try_into().expect("four octets"));
        assert!(seen >= 5, "ARP, the handshake and what was sent, not {seen}");
    }
    exit_files(&mut a);
    exit_files(&mut b);
    pair.world.run_for(Duration::from_secs(130));
    drop((a, b));
    let _digest = pair.end();
}
