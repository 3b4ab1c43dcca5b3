//! Options of IPv4: their walk, on the way through a router, and what hostile ones do.

use crate::golden;
use crate::ip::{FAR, FAR_LOCAL, Router};
use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::udp;
use frame::PEER;
use klib::checksum::ip_fast_csum;
use sim::{Digest, MachineSpec};
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{sys_sendto, sys_setsockopt, sys_socket};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::in_::IP_OPTIONS;
use uapi::ip::{IPOPT_LSRR, IPOPT_RA, IPOPT_RR, IPOPT_SSRR, IPOPT_TIMESTAMP};
use uapi::snmp::{IcmpMib, IpMib};
use uapi::socket::{AF_INET, SOCK_DGRAM, SOL_IP};

/// The packet with options behind its header.
pub fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], options, &packet[20..]].concat();
    let total = packet.len() as u16;
    packet[0] = 0x45 + (options.len() / 4) as u8;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[10..12].fill(0);
    let check = ip_fast_csum(&packet[..20 + options.len()]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet
}

/// A source route that points to its hop `at`.
pub fn route(kind: u8, at: usize, hops: &[Ipv4Addr]) -> Vec<u8> {
    let mut option = vec![kind, (3 + 4 * hops.len()) as u8, (4 + 4 * at) as u8];
    hops.iter().for_each(|hop| option.extend(hop.octets()));
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

fn ping() -> Vec<u8> {
    frame::ip(1, PEER, LOCAL, &frame::icmp(8, 0, [0; 4], b"ping"))
}

fn ether(packet: &[u8]) -> Vec<u8> {
    frame::ether(TestDev::MAC, 0x0800, packet)
}

/// The options of a frame, and its sum is right.
fn options_of(frame: &[u8]) -> Vec<u8> {
    let ihl = usize::from(frame[14] & 15) * 4;
    assert_eq!(ip_fast_csum(&frame[14..14 + ihl]), 0);
    frame[34..14 + ihl].to_vec()
}

stepped!(a_ping_records_its_route);
/// To this machine itself: what it sends, what it answers and what it is told pass by.
fn a_ping_records_its_route() -> Digest {
    let mut lone = Lone::new();
    lone.sysctl(|sysctl| sysctl.ping_group_range = (0, u32::MAX >> 1));
    let fd = sys_socket(&mut lone.cx, AF_INET, SOCK_DGRAM, 1).expect("a ping socket");
    let room = [&[IPOPT_RR, 19, 4][..], &[0; 16]].concat();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_OPTIONS, &room).expect("an option");
    lone.world.watch(None);
    let echo = frame::icmp(8, 0, [0, 0, 0, 1], b"ping");
    let to = crate::util::addr(LOCAL, 0);
    assert_eq!(lone.run(sys_sendto(fd, &echo, 0, Some(&to))), Ok(echo.len()));
    lone.world.settle();
    let walk = lone.world.take_walk();
    golden::check_walk(&walk, "ping-record-route");
    let times = |point| walk.iter().filter(|(_, record)| record.point == point).count();
    assert_eq!(times(Point::ip_options_build), 2, "the request and its answer");
    assert_eq!(times(Point::ip_options_compile), 2);
    assert_eq!(times(Point::ip_options_echo), 1);
    assert_eq!(lone.recv_all(fd).len(), 1);
    lone.end()
}

stepped!(a_router_is_a_hop_of_a_source_route);
fn a_router_is_a_hop_of_a_source_route() -> Digest {
    let mut router = Router::new();
    update_sysctls(&mut router.cx, |sysctl| sysctl.conf_all.accept_source_route = true);
    let packet = frame::udp((PEER, 5000), (LOCAL, 7), b"by way of");
    router.world.watch(None);
    router.forward(&with_options(&packet, &route(IPOPT_LSRR, 0, &[FAR])));
    golden::check(&router.world, "forward-source-route");
    let sent = router.far.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][30..34], FAR.octets(), "it is for its next hop now");
    assert_eq!(options_of(&sent[0]), route(IPOPT_LSRR, 1, &[FAR_LOCAL]), "and stands in the list");
    // A strict route goes on over a link, and over no router.
    let far_away = Ipv4Addr::new(203, 0, 113, 9);
    let info = FibInfo { gateway: FAR.into(), dev: router.far.dev().ifindex, ..FibInfo::default() };
    fib_new_route(&mut router.cx, u32::from(far_away), 32, info).expect("a route");
    router.forward(&with_options(&packet, &route(IPOPT_SSRR, 0, &[FAR])));
    assert_eq!(router.far.sent().len(), 1);
    router.forward(&with_options(&packet, &route(IPOPT_SSRR, 0, &[far_away])));
    assert_eq!(router.far.sent().len(), 0);
    let told = router.near.sent();
    assert_eq!(told.len(), 1);
    // Its own options are those of the answer, which was routed by nobody.
    assert_eq!((told[0][34], told[0][35]), (3, 5), "source route failed");
    let drops = router.machine.mib().drops(DropReason::IpSourceRoute);
    assert_eq!(drops, 1);
    drop(router.cx);
    router.world.end()
}

stepped!(who_could_not_be_reached_is_told_with_options);
/// The neighbour does not answer: the packet's options are read once more for the answer.
fn who_could_not_be_reached_is_told_with_options() -> Digest {
    let mut router = Router::new();
    let packet = frame::udp((PEER, 5000), (Ipv4Addr::new(198, 51, 100, 77), 7), b"to nobody");
    let room = [&[IPOPT_RR, 15, 4][..], &[0; 13]].concat();
    router.forward(&with_options(&packet, &room));
    router.world.run_for(Duration::from_secs(5));
    let told = router.near.sent();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0][14 + 36], told[0][15 + 36]), (3, 1), "host unreachable");
    let stops = [FAR_LOCAL, LOCAL, LOCAL].map(|stop| stop.octets()).concat();
    assert_eq!(options_of(&told[0]), [&[IPOPT_RR, 15, 16][..], &stops, &[0]].concat());
    drop(router.cx);
    router.world.end()
}

stepped!(packets_with_options_keep_their_place);
/// What comes in one list is not all alike.
fn packets_with_options_keep_their_place() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let plain = |data: &[u8]| frame::udp((PEER, 5000), (LOCAL, 7), data);
    let record = [IPOPT_RR, 7, 4, 0, 0, 0, 0, 0];
    lone.dev.together.store(true, std::sync::atomic::Ordering::Relaxed);
    let frames = [
        ether(&plain(b"1")),
        ether(&with_options(&plain(b"2"), &record)),
        ether(&with_options(&plain(b"3"), &record)),
        ether(&with_options(&plain(b"4"), &[IPOPT_RA, 3, 0, 0])),
        ether(&plain(b"5")),
    ];
    lone.dev.deliver(frames);
    lone.world.settle();
    assert_eq!(lone.recv_all(fd), [b"1", b"2", b"3", b"5"]);
    let mib = lone.machine.mib();
    assert_eq!((mib.get(IpMib::InReceives), mib.get(IpMib::InHdrErrors)), (5, 1));
    assert_eq!(mib.get(IcmpMib::OutParmProbs), 1);
    assert_eq!(lone.drops(DropReason::IpInHdr), 1);
    lone.end()
}

stepped!(segments_with_options_are_not_merged);
fn segments_with_options_are_not_merged() -> Digest {
    let mut lone = Lone::new();
    lone.dev.together.store(true, std::sync::atomic::Ordering::Relaxed);
    // Nobody listens: each that comes by itself is reset by itself.
    let mut resets = |options: &[u8]| {
        let segment = |seq| {
            let mut packet = frame::tcp((seq, 1), 0x10, &[7; 100]);
            // What must not be cut needs no identification of its own.
            packet[6] = 0x40;
            with_options(&packet, options)
        };
        lone.dev.deliver([segment(1), segment(101), segment(201)].map(|packet| ether(&packet)));
        lone.world.settle();
        lone.dev.sent().len()
    };
    assert_eq!(resets(&[]), 1, "merged into one");
    assert_eq!(resets(&[1; 4]), 3);
    assert_eq!(resets(&[IPOPT_RR, 7, 4, 0, 0, 0, 0, 0]), 3);
    lone.end()
}

/// Answers to a packet: their types and codes.
fn answers(lone: &mut Lone, packet: &[u8]) -> Vec<(u8, u8)> {
    lone.dev.deliver([ether(packet)]);
    lone.world.settle();
    let sent = lone.dev.sent();
    sent.iter()
        .map(|frame| {
            assert!(frame.len() <= 14 + packet.len() + 28 + 40, "no more than it quotes");
            let ihl = usize::from(frame[14] & 15) * 4;
            assert_eq!(ip_fast_csum(&frame[14..14 + ihl]), 0);
            (frame[14 + ihl], frame[15 + ihl])
        })
        .collect()
}

stepped!(attack_options_of_every_length);
/// Every kind with the first lengths, every length of the kinds that mean something: nothing panics, and each is
/// answered as the RFC says or not at all.
fn attack_options_of_every_length() -> Digest {
    let mut lone = Lone::new();
    lone.sysctl(|sysctl| {
        sysctl.icmp_ratelimit = Duration::ZERO;
        (sysctl.icmp_msgs_per_sec, sysctl.icmp_msgs_burst) = (1_000_000, 1_000_000);
        sysctl.conf_all.accept_source_route = true;
    });
    let known = [7, 68, 130, 131, 134, 136, 137, 148];
    let all = (0..=255_u8).flat_map(|kind| (0..6).map(move |len| (kind, len)));
    let long = known
        .into_iter()
        .flat_map(|kind| (6..=44).chain([127, 128, 255]).map(move |len| (kind, len)));
    for (kind, len) in all.chain(long) {
        for rest in [&[][..], &[4, 0], &[0xff; 6], &[5, 0xf0, 1, 1, 1, 1]] {
            let mut options = [&[kind, len][..], rest].concat();
            options.resize(options.len().next_multiple_of(4), 0);
            let bad_length = kind > 1 && (len < 2 || usize::from(len) > options.len());
            let got = answers(&mut lone, &with_options(&ping(), &options));
            let fits = match got[..] {
                // What looks like its length is the next one's kind.
                [(0 | 12, 0)] if kind <= 1 => true,
                [(12, 0)] => true,
                [(0, 0)] | [] => !bad_length,
                _ => false,
            };
            assert!(fits, "{options:?}: {got:?}");
        }
        // A kind without a length, at the end.
        let got = answers(&mut lone, &with_options(&ping(), &[1, 1, 1, kind]));
        assert_eq!(got, [if kind > 1 { (12, 0) } else { (0, 0) }], "{kind}");
    }
    assert_eq!(lone.machine.contained_panics(), 0);
    lone.end()
}

stepped!(attack_source_routes_past_a_host);
/// A host that does not forward is no way around a filter, even if it accepts source routes.
fn attack_source_routes_past_a_host() -> Digest {
    let mut lone = Lone::new();
    let inner = TestDev::add(&mut lone.cx, FAR_LOCAL, 100);
    let packet = frame::udp((PEER, 5000), (LOCAL, 7), b"into the net");
    for accepts in [false, true] {
        lone.sysctl(|sysctl| sysctl.conf_all.accept_source_route = accepts);
        for kind in [IPOPT_LSRR, IPOPT_SSRR] {
            for hops in [&[FAR][..], &[FAR, FAR], &[LOCAL, FAR], &[FAR_LOCAL, FAR]] {
                let routed = with_options(&packet, &route(kind, 0, hops));
                assert_eq!(lone.take_ip(&routed), [DropReason::IpSourceRoute], "{kind} {hops:?}");
            }
        }
    }
    assert_eq!(inner.sent().len(), 0);
    lone.end()
}

stepped!(attack_malformed_options_are_answered_at_a_rate);
fn attack_malformed_options_are_answered_at_a_rate() -> Digest {
    let mut lone = Lone::new();
    let bad = with_options(&ping(), &[IPOPT_TIMESTAMP, 4, 4, 0]);
    let all: usize = (0..500).map(|_| answers(&mut lone, &bad).len()).sum();
    // A burst of six to a peer, then one a second; all of it took a few milliseconds.
    assert!((5..=7).contains(&all), "{all} answers");
    assert_eq!(lone.machine.mib().get(IpMib::InHdrErrors), 500);
    lone.end()
}

stepped!(options_leave_less_room_in_a_packet);
fn options_leave_less_room_in_a_packet() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 100);
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    let room = [&[IPOPT_RR, 39, 4][..], &[0; 36]].concat();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_OPTIONS, &room).expect("an option");
    for len in [0, 1, 100, 1431, 1432] {
        assert_eq!(lone.send(fd, &vec![7; len], (PEER, 9)), Ok(len));
        let sent = lone.dev.sent();
        let whole = len + 8 + 60 <= 1500;
        assert_eq!(sent.len(), if whole { 1 } else { 2 }, "{len}");
        let [a, b, c, d] = LOCAL.octets();
        assert_eq!(options_of(&sent[0])[..7], [IPOPT_RR, 39, 8, a, b, c, d]);
    }
    lone.end()
}
