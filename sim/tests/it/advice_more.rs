//! What `netkeel explain` advises for more drops helps: sums, protocols, groups, queues and devices. See `advice`.

use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::udp;
use frame::PEER;
use sim::{Digest, MachineSpec};
use stack::fs::{exit_files, sys_close};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{dev_close, dev_open, store_rps_map};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::sched::tc_modify_qdisc;
use stack::net::socket::{sys_setsockopt, sys_socket};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::IP_ADD_MEMBERSHIP;
use uapi::socket::{AF_INET, SO_RCVBUF, SOCK_RAW, SOL_IP, SOL_SOCKET};

const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

fn hello(to: Ipv4Addr) -> Vec<u8> {
    frame::udp((PEER, 5000), (to, 7), b"hello")
}

/// One octet changed, and the sum of the header right again if it is of the header.
fn changed(mut packet: Vec<u8>, at: usize, octet: u8) -> Vec<u8> {
    packet[at] = octet;
    if at < 20 {
        packet[10..12].fill(0);
        let sum = klib::checksum::ip_fast_csum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

stepped!(sent_otherwise_it_passes);
fn sent_otherwise_it_passes() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let right = hello(LOCAL);
    let mut spoilt = right.clone();
    spoilt[8] ^= 1;
    let ping = frame::ip(1, PEER, LOCAL, &frame::icmp(8, 0, [0; 4], b"ping"));
    let mut bad_ping = ping.clone();
    *bad_ping.last_mut().expect("data") ^= 1;
    for (packet, reason) in [
        (changed(right.clone(), 30, 7), DropReason::UdpCsum),
        (spoilt, DropReason::IpCsum),
        (changed(right.clone(), 0, 0x44), DropReason::IpInHdr),
        (changed(right.clone(), 3, 200), DropReason::PktTooSmall),
        (right[..18].to_vec(), DropReason::HdrTrunc),
        (frame::udp(([255; 4].into(), 5000), (LOCAL, 7), b"hello"), DropReason::IpInvalidSource),
        (hello([0; 4].into()), DropReason::IpInvalidDest),
    ] {
        assert_eq!(lone.take_ip(&packet), [reason]);
        assert_eq!(lone.take_ip(&right), [], "{reason}");
        assert_eq!(lone.recv_all(fd), [b"hello"], "{reason}");
    }
    lone.dev.sent();
    assert_eq!(lone.take_ip(&bad_ping), [DropReason::IcmpCsum]);
    assert_eq!(lone.take_ip(&ping), []);
    assert_eq!(lone.dev.sent().len(), 1, "answered");
    let unknown = frame::ether(TestDev::MAC, 0x1234, &right);
    assert_eq!(lone.take(unknown), [DropReason::UnhandledProto]);
    let mut arp = frame::arp(1, PEER, LOCAL, [0; 6]);
    arp[5] = 16;
    assert_eq!(lone.take(frame::ether([0xff; 6], 0x0806, &arp)), [DropReason::ArpInvalid]);
    arp[5] = 4;
    lone.dev.sent();
    assert_eq!(lone.take(frame::ether([0xff; 6], 0x0806, &arp)), []);
    assert_eq!(lone.dev.sent().len(), 1, "answered");
    lone.end()
}

stepped!(fragments_that_agree_pass);
fn fragments_that_agree_pass() -> Digest {
    let (mut lone, fd) = crate::fragments::with_socket();
    let pieces = |id| crate::fragments::pieces(&crate::fragments::datagram(1200), id, 400);
    let whole = |lone: &mut Lone, id| -> usize {
        pieces(id).iter().for_each(|piece| drop(lone.take_ip(piece)));
        lone.recv_all(fd).len()
    };
    let first = pieces(1);
    assert_eq!(lone.take_ip(&first[0]), []);
    assert_eq!(lone.take_ip(&first[0]), [DropReason::DupFrag]);
    assert_eq!(lone.take_ip(&first[1]), []);
    for piece in &first[2..] {
        assert_eq!(lone.take_ip(piece), []);
    }
    assert_eq!(lone.recv_all(fd).len(), 1, "nothing was missing");

    // One that overlaps: the datagram is given up, and another gets through.
    let pieces_of_second = pieces(2);
    assert_eq!(lone.take_ip(&pieces_of_second[0]), []);
    let mut overlap = pieces_of_second[1].clone();
    overlap[7] -= 1;
    let overlap = changed(overlap, 8, 64);
    assert!(lone.take_ip(&overlap).contains(&DropReason::IpFragment));
    assert_eq!(whole(&mut lone, 3), 1);

    // Too many of other datagrams came between its own.
    lone.set("net.ipv4.ipfrag_max_dist", "1");
    let between = |lone: &mut Lone, id: u16| {
        let all = pieces(id);
        lone.take_ip(&all[0]);
        for other in 1..4 {
            lone.take_ip(&pieces(id + 100 * other)[0]);
        }
        all[1..].iter().for_each(|piece| drop(lone.take_ip(piece)));
        lone.recv_all(fd).len()
    };
    assert_eq!(between(&mut lone, 10), 0);
    assert_ne!(lone.drops(DropReason::FragTooFar), 0);
    lone.set("net.ipv4.ipfrag_max_dist", "0");
    assert_eq!(between(&mut lone, 20), 1);
    lone.end()
}

stepped!(sockets_and_groups_that_are_there_get_it);
fn sockets_and_groups_that_are_there_get_it() -> Digest {
    let mut lone = Lone::new();
    let strange = frame::ip(200, PEER, LOCAL, b"hello");
    assert_eq!(lone.take_ip(&strange), [DropReason::IpNoProto]);
    let raw = sys_socket(&mut lone.cx, AF_INET, SOCK_RAW, 200).expect("a raw socket");
    assert_eq!(lone.take_ip(&strange), []);
    assert!(lone.recv_all(raw)[0].ends_with(b"hello"));

    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7);
    let group = frame::ether([1, 0, 0x5e, 1, 2, 3], 0x0800, &hello(GROUP));
    assert_eq!(lone.take(group.clone()), [DropReason::IpNotMember]);
    let member = [GROUP.octets(), LOCAL.octets()].concat();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_ADD_MEMBERSHIP, &member).expect("a group");
    lone.world.settle();
    assert_eq!(lone.take(group), []);
    assert_eq!(lone.recv_all(fd), [b"hello"]);

    // What was not read when its socket was closed is read before, the next time.
    assert_eq!(lone.take_ip(&hello(LOCAL)), []);
    sys_close(&mut lone.cx, fd).expect("open");
    assert_eq!(lone.drops(DropReason::SocketClose), 1);
    lone.world.take_walk();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    assert_eq!(lone.take_ip(&hello(LOCAL)), []);
    assert_eq!(lone.recv_all(fd), [b"hello"]);
    sys_close(&mut lone.cx, fd).expect("open");
    assert_eq!(lone.drops(DropReason::SocketClose), 1);
    lone.end()
}

stepped!(queriers_that_are_right_are_answered);
fn queriers_that_are_right_are_answered() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7);
    let member = [GROUP.octets(), LOCAL.octets()].concat();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_ADD_MEMBERSHIP, &member).expect("a group");
    lone.world.run_for(Duration::from_secs(30));
    lone.dev.sent();
    let query = |len: usize, spoilt: u8| {
        // Of version 3, within a second, about all groups.
        let mut message = frame::icmp(0x11, 10, [0; 4], &[2, 125, 0, 0]);
        message.truncate(len);
        message[2..4].fill(0);
        let sum = klib::checksum::csum_fold(klib::checksum::csum_partial(&message, 0));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message[1] ^= spoilt;
        let all = Ipv4Addr::new(224, 0, 0, 1);
        frame::ether([1, 0, 0x5e, 0, 0, 1], 0x0800, &frame::ip(2, PEER, all, &message))
    };
    let mut asked = |frame| {
        let reasons = lone.take(frame);
        lone.world.run_for(Duration::from_secs(2));
        (reasons, lone.dev.sent().len())
    };
    assert_eq!(asked(query(12, 1)), (vec![DropReason::IgmpCsum], 0));
    assert_eq!(asked(query(10, 0)), (vec![DropReason::IgmpIgnored], 0));
    assert_eq!(asked(query(12, 0)), (vec![], 1), "it reports its groups");
    lone.end()
}

stepped!(a_route_leads_there);
fn a_route_leads_there() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    assert_eq!(lone.send(fd, b"x", (FAR, 9)), Err(Errno::ENETUNREACH));
    let dev = lone.dev.dev().ifindex;
    let info = FibInfo { gateway: PEER.into(), dev, ..FibInfo::default() };
    fib_new_route(&mut lone.cx, u32::from(FAR) & !0xff, 24, info).expect("a route");
    assert_eq!(lone.send(fd, b"x", (FAR, 9)), Ok(1));
    assert_eq!(lone.dev.sent().len(), 1);
    lone.end()
}

stepped!(a_router_sends_on_what_is_for_it);
fn a_router_sends_on_what_is_for_it() -> Digest {
    let mut lone = Lone::new();
    let far = TestDev::add(&mut lone.cx, Ipv4Addr::new(198, 51, 100, 1), 100);
    let dev = far.dev();
    lone.set("net.ipv4.ip_forward", "1");
    let key = NeighKey { dev: dev.ifindex, addr: FAR.into() };
    let permanent = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(&mut lone.cx, key, [2, 0, 0, 0, 7, 7], permanent).expect("room");
    let everybody = frame::ether([0xff; 6], 0x0800, &hello(FAR));
    assert_eq!(lone.take(everybody), [DropReason::UnicastInL2Multicast]);
    assert_eq!(lone.take_ip(&hello(FAR)), []);
    assert_eq!(far.sent().len(), 1);
    lone.end()
}

stepped!(a_device_that_is_up_sends);
fn a_device_that_is_up_sends() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 3);
    let dev = lone.dev.dev();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    dev.netif_stop_subqueue(0);
    lone.send(fd, b"x", (PEER, 9)).expect("it waits");
    // One waits for its neighbour, too.
    lone.send(fd, b"x", (Ipv4Addr::new(192, 0, 2, 20), 9)).expect("it waits");
    dev_close(&mut lone.cx, &dev);
    assert_ne!(lone.drops(DropReason::QdiscReset), 0);
    assert_eq!(lone.drops(DropReason::NeighDead), 1);
    dev_open(&mut lone.cx, &dev).expect("opens");
    lone.cx.local_bh_disable(|bh| dev.netif_wake_subqueue(bh, 0));
    let key = NeighKey { dev: dev.ifindex, addr: PEER.into() };
    let permanent = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(&mut lone.cx, key, frame::PEER_MAC, permanent).expect("room");
    lone.world.settle();
    lone.dev.sent();
    lone.send(fd, b"x", (PEER, 9)).expect("sent");
    lone.send(fd, b"x", (Ipv4Addr::new(192, 0, 2, 20), 9)).expect("it waits");
    assert_eq!(lone.dev.sent().len(), 2, "and a question");
    lone.end()
}

stepped!(a_longer_backlog_holds_more);
fn a_longer_backlog_holds_more() -> Digest {
    let mut lone = Lone::with(MachineSpec { cpus: 2, ..MachineSpec::default() }, 100);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.set("net.core.netdev_max_backlog", "2");
    let burst = |lone: &mut Lone| {
        let frame = frame::ether(TestDev::MAC, 0x0800, &hello(LOCAL));
        lone.dev.deliver(std::iter::repeat_n(frame, 60));
        lone.world.settle();
        lone.recv_all(fd).len()
    };
    let one = klib::bitmap::CpuMask::from_bits(2);
    let dev = lone.dev.dev();
    store_rps_map(&mut lone.cx, &dev, 0, one).expect("a queue");
    let some = burst(&mut lone);
    let drops = lone.drops(DropReason::CpuBacklog);
    assert!(some < 60 && drops != 0, "{some} came");
    lone.set("net.core.netdev_max_backlog", "1000");
    assert_eq!(burst(&mut lone), 60);
    assert_eq!(lone.drops(DropReason::CpuBacklog), drops);
    lone.end()
}

stepped!(memory_that_is_read_is_there_again);
fn memory_that_is_read_is_there_again() -> Digest {
    let mut lone = Lone::with(MachineSpec { memory: 256 << 10, ..MachineSpec::default() }, 100);
    let fds: Vec<i32> = (7..11).map(|port| udp(&mut lone.cx, LOCAL, port)).collect();
    let to = |port| frame::udp((PEER, 5000), (LOCAL, port), &[0; 1400]);
    let lost = |lone: &Lone| lone.dev.no_memory.load(std::sync::atomic::Ordering::Relaxed);
    for round in 0..400 {
        lone.take_ip(&to(7 + round % 4));
    }
    let before = lost(&lone);
    assert_ne!(before, 0, "memory without end");
    let read: usize = fds.iter().map(|fd| lone.recv_all(*fd).len()).sum();
    assert_ne!(read, 0);
    assert_eq!(lone.take_ip(&to(7)), []);
    assert_eq!((lone.recv_all(fds[0]).len(), lost(&lone)), (1, before));
    exit_files(&mut lone.cx);
    lone.end()
}

stepped!(a_ring_with_room_takes_it);
fn a_ring_with_room_takes_it() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 0);
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    lone.dev.dev().netif_stop_subqueue(0);
    lone.send(fd, b"x", (PEER, 9)).expect("a drop is not its error");
    assert_eq!(lone.drops(DropReason::DevReady), 1);
    let dev = lone.dev.dev();
    lone.cx.local_bh_disable(|bh| dev.netif_wake_subqueue(bh, 0));
    lone.send(fd, b"x", (PEER, 9)).expect("sent");
    assert_eq!((lone.dev.sent().len(), lone.drops(DropReason::DevReady)), (1, 1));
    lone.end()
}

stepped!(a_larger_buffer_has_a_longer_backlog);
fn a_larger_buffer_has_a_longer_backlog() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let size = |lone: &mut Lone, octets: i32| {
        let octets = octets.to_ne_bytes();
        sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVBUF, &octets).expect("a size");
    };
    let sk = lone.machine.net().udp_table.dump().remove(0);
    // Its owner is in a call all the time.
    let burst = |lone: &mut Lone| {
        let packet = frame::udp((PEER, 5000), (LOCAL, 7), &[b'.'; 600]);
        let guard = sk.lock_sock(&mut lone.cx);
        for _ in 0..5 {
            lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &packet)]);
            lone.world.settle();
        }
        drop(guard);
        lone.recv_all(fd).len()
    };
    size(&mut lone, 2304);
    let some = burst(&mut lone);
    let drops = lone.drops(DropReason::SocketBacklog);
    assert!(some < 5 && drops != 0, "{some} came");
    // It leaves its calls sooner.
    for _ in 0..5 {
        assert_eq!(lone.take_ip(&hello(LOCAL)), []);
        assert_eq!(lone.recv_all(fd).len(), 1);
    }
    size(&mut lone, 100_000);
    assert_eq!(burst(&mut lone), 5);
    assert_eq!(lone.drops(DropReason::SocketBacklog), drops);
    drop(sk);
    lone.end()
}

stepped!(limits_of_fq_that_are_raised_hold_more);
fn limits_of_fq_that_are_raised_hold_more() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 1000);
    let dev = lone.dev.dev();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    let sends = |lone: &mut Lone, limits: &str| {
        tc_modify_qdisc(&mut lone.cx, &dev, &format!("fq {limits}")).expect("good");
        dev.netif_stop_subqueue(0);
        for _ in 0..20 {
            lone.send(fd, b"x", (PEER, 9)).expect("a drop is not its error");
        }
        lone.cx.local_bh_disable(|bh| dev.netif_wake_subqueue(bh, 0));
        lone.world.run_for(Duration::from_secs(1));
        lone.dev.sent().len()
    };
    for (low, high, reason) in [
        ("limit 1000 flow_limit 5", "limit 1000 flow_limit 100", DropReason::FqFlowLimit),
        ("limit 5 flow_limit 100", "limit 1000 flow_limit 100", DropReason::FqBandLimit),
    ] {
        let some = sends(&mut lone, low);
        let drops = lone.drops(reason);
        assert!(some < 20 && drops != 0, "{reason}: {some} left");
        assert_eq!(sends(&mut lone, high), 20, "{reason}");
        assert_eq!(lone.drops(reason), drops);
    }
    lone.end()
}
