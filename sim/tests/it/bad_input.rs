//! What must not get through: each frame ends for its reason, is counted, and leaves nothing.

use crate::testdev::{TestDev, frame};
use crate::util::udp;
use rand::{Rng, RngExt, SeedableRng};
use sim::{Digest, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::ipv4::devinet::update_devconf;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::snmp::{IcmpMib, IpMib, UdpMib};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = frame::PEER;

struct Victim {
    world: World,
    machine: Arc<Machine>,
    cx: TaskCx,
    dev: Arc<TestDev>,
}

impl Victim {
    fn new() -> Self {
        let mut world = World::recorded(99);
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = TestDev::add(&mut cx, LOCAL, 100);
        let key = NeighKey { dev: dev.dev().ifindex, addr: PEER.into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(&mut cx, key, frame::PEER_MAC, state).expect("room");
        udp(&mut cx, LOCAL, 7);
        Self { world, machine, cx, dev }
    }

    /// Delivers one frame; why it was dropped, and what was sent because of it.
    fn take(&mut self, bytes: Vec<u8>) -> (Vec<DropReason>, usize) {
        self.world.watch(None);
        self.dev.deliver([bytes]);
        self.world.settle();
        let walk = self.world.take_walk();
        let reasons = walk.iter().filter_map(|(_, record)| record.drop_reason()).collect();
        (reasons, self.dev.sent().len())
    }

    fn finish(mut self) -> Digest {
        assert_eq!(self.machine.contained_panics(), 0);
        exit_files(&mut self.cx);
        drop(self.cx);
        self.world.run_for(Duration::from_secs(60));
        self.world.end()
    }
}

fn ip(payload: &[u8]) -> Vec<u8> {
    frame::ether(TestDev::MAC, 0x0800, payload)
}

fn good() -> Vec<u8> {
    frame::udp((PEER, 5000), (LOCAL, 7), b"payload")
}

/// The packet with bytes changed and its IP checksum right again.
fn patched(mut packet: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, byte) in changes {
        packet[*at] = *byte;
    }
    let ihl = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    packet[10..12].copy_from_slice(&[0; 2]);
    let check = klib::checksum::ip_fast_csum(&packet[..ihl]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet
}

stepped!(malformed_ip_ends_for_its_reason);
fn malformed_ip_ends_for_its_reason() -> Digest {
    let mut victim = Victim::new();
    let mut spoiled = good();
    spoiled[10] ^= 1;
    let long = patched(good(), &[(2, 0xff)]);
    let table: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("no IP header", ip(&good()[..10]), DropReason::HdrTrunc),
        ("nothing behind Ethernet", ip(&[]), DropReason::HdrTrunc),
        ("version 6", ip(&patched(good(), &[(0, 0x65)])), DropReason::IpInHdr),
        ("a header of 16 bytes", ip(&patched(good(), &[(0, 0x44)])), DropReason::IpInHdr),
        (
            "a header longer than the packet",
            ip(&good()[..24]
                .iter()
                .enumerate()
                .map(|(at, b)| if at == 0 { 0x4f } else { *b })
                .collect::<Vec<_>>()),
            DropReason::HdrTrunc,
        ),
        ("a wrong header checksum", ip(&spoiled), DropReason::IpCsum),
        ("longer than it is", ip(&long), DropReason::PktTooSmall),
        ("shorter than its header", ip(&patched(good(), &[(2, 0), (3, 10)])), DropReason::IpInHdr),
        (
            "a first fragment of nothing",
            ip(&patched(good(), &[(2, 0), (3, 20), (6, 0x20)])),
            DropReason::IpFragment,
        ),
        (
            "a later fragment of nothing",
            ip(&patched(good(), &[(2, 0), (3, 20), (7, 5)])),
            DropReason::IpFragment,
        ),
        ("an unknown protocol", ip(&patched(good(), &[(9, 200)])), DropReason::IpNoProto),
        (
            "an unknown ethertype",
            frame::ether(TestDev::MAC, 0x1234, &[0; 50]),
            DropReason::UnhandledProto,
        ),
        ("an 802.3 length", frame::ether(TestDev::MAC, 40, &[0; 50]), DropReason::UnhandledProto),
        (
            "another host's MAC",
            frame::ether([2, 0, 0, 0, 7, 7], 0x0800, &good()),
            DropReason::OtherHost,
        ),
    ];
    for (what, bytes, reason) in table {
        let (reasons, _) = victim.take(bytes);
        assert_eq!(reasons, [reason], "{what}");
    }
    let (reasons, _) = victim.take(vec![1, 2, 3]);
    assert_eq!(reasons.len(), 1, "shorter than an Ethernet header");
    let (reasons, _) = victim.take(Vec::new());
    assert_eq!(reasons.len(), 1, "an empty frame");
    let mib = victim.machine.mib();
    assert_eq!(mib.get(IpMib::InCsumErrors), 1);
    assert_eq!(mib.get(IpMib::InTruncatedPkts), 1);
    assert_eq!(mib.get(IpMib::InUnknownProtos), 1);
    assert_eq!(mib.get(IpMib::InHdrErrors), 6);
    victim.finish()
}

stepped!(options_that_never_end_are_no_loop);
fn options_that_never_end_are_no_loop() -> Digest {
    let mut victim = Victim::new();
    let with_options = |options: [u8; 4]| {
        let mut packet = good();
        packet.splice(20..20, options);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        ip(&patched(packet, &[(0, 0x46)]))
    };
    for bad in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
        assert_eq!(victim.take(with_options(bad)), (vec![DropReason::IpInHdr], 1), "{bad:?}");
    }
    for routed in [[131, 3, 4, 0], [137, 3, 4, 0]] {
        let refused = (vec![DropReason::IpSourceRoute], 0);
        assert_eq!(victim.take(with_options(routed)), refused, "{routed:?}");
    }
    for fine in [[0, 9, 9, 9], [1, 1, 1, 0], [7, 3, 4, 0], [148, 4, 0, 0]] {
        assert_eq!(victim.take(with_options(fine)).0, [], "{fine:?}");
    }
    victim.finish()
}

stepped!(martians_are_refused);
fn martians_are_refused() -> Digest {
    let mut victim = Victim::new();
    let from_to = |from: [u8; 4], to: [u8; 4]| {
        ip(&frame::udp((from.into(), 5000), (to.into(), 7), b"martian"))
    };
    let local = LOCAL.octets();
    let table = [
        ("from 127/8", from_to([127, 0, 0, 1], local), DropReason::IpLocalnet),
        ("to 127/8", from_to(PEER.octets(), [127, 0, 0, 1]), DropReason::IpLocalnet),
        ("from ourselves", from_to(local, local), DropReason::IpLocalSource),
        ("from a group", from_to([224, 0, 0, 5], local), DropReason::IpInvalidSource),
        ("from the broadcast", from_to([255; 4], local), DropReason::IpInvalidSource),
        (
            "from the subnet's broadcast",
            from_to([192, 0, 2, 255], local),
            DropReason::IpInvalidSource,
        ),
        ("from nobody", from_to([0; 4], local), DropReason::IpInvalidSource),
        ("to nobody", from_to(PEER.octets(), [0; 4]), DropReason::IpInvalidDest),
        ("to somebody else", from_to(PEER.octets(), [203, 0, 113, 9]), DropReason::IpInAddrErrors),
        (
            "to a group that nobody joined",
            from_to(PEER.octets(), [224, 1, 2, 3]),
            DropReason::IpNotMember,
        ),
    ];
    for (what, bytes, reason) in table {
        let (reasons, sent) = victim.take(bytes);
        assert_eq!((reasons.as_slice(), sent), (&[reason][..], 0), "{what}");
    }
    let dev = victim.dev.dev().ifindex;
    update_devconf(&mut victim.cx, dev, |cnf| cnf.rp_filter = 1).expect("there");
    let spoofed = from_to([203, 0, 113, 9], local);
    assert_eq!(victim.take(spoofed.clone()).0, [DropReason::IpRpFilter]);
    update_devconf(&mut victim.cx, dev, |cnf| cnf.rp_filter = 0).expect("there");
    assert_eq!(victim.take(spoofed).0, [], "without rp_filter it passes");
    victim.finish()
}

stepped!(malformed_udp_ends_for_its_reason);
fn malformed_udp_ends_for_its_reason() -> Digest {
    let mut victim = Victim::new();
    let udp_with = |changes: &[(usize, u8)]| {
        let mut packet = good();
        for (at, byte) in changes {
            packet[20 + at] = *byte;
        }
        ip(&packet)
    };
    assert_eq!(victim.take(udp_with(&[(6, 0xde), (7, 0xad)])).0, [DropReason::UdpCsum]);
    assert_eq!(victim.take(udp_with(&[(4, 0), (5, 7)])).0, [DropReason::PktTooSmall]);
    assert_eq!(victim.take(udp_with(&[(4, 9), (5, 0)])).0, [DropReason::PktTooSmall]);
    let cut = frame::ip(17, PEER, LOCAL, &[0; 5]);
    assert_eq!(victim.take(ip(&cut)).0, [DropReason::HdrTrunc]);
    assert_eq!(victim.take(udp_with(&[(6, 0), (7, 0)])).0, [], "no checksum is allowed");
    let mib = victim.machine.mib();
    assert_eq!(mib.get(UdpMib::InErrors), 4);
    assert_eq!(mib.get(UdpMib::InCsumErrors), 1);
    victim.finish()
}

stepped!(bad_icmp_is_dropped_and_never_answered);
fn bad_icmp_is_dropped_and_never_answered() -> Digest {
    let mut victim = Victim::new();
    let icmp = |kind, code, data: &[u8]| frame::icmp(kind, code, [0; 4], data);
    let to_us = |message: &[u8]| ip(&frame::ip(1, PEER, LOCAL, message));
    let mut spoiled = icmp(8, 0, b"ping");
    spoiled[2] ^= 1;
    let quote = |bytes: &[u8]| to_us(&icmp(3, 3, bytes));
    let table = [
        ("a wrong checksum", to_us(&spoiled), DropReason::IcmpCsum),
        ("four bytes", to_us(&[0xff, 0xff, 0, 0]), DropReason::HdrTrunc),
        ("an unknown type", to_us(&icmp(99, 0, &[])), DropReason::IcmpIgnored),
        ("an answer nobody waits for", to_us(&icmp(0, 0, b"pong")), DropReason::NoSocket),
        ("a redirect", to_us(&icmp(5, 1, &good())), DropReason::IcmpIgnored),
        ("an error quoting nothing", quote(&[]), DropReason::HdrTrunc),
        ("an error quoting half a header", quote(&good()[..15]), DropReason::HdrTrunc),
        ("an error quoting IPv6", quote(&[0x60; 40]), DropReason::IcmpIgnored),
        ("an error quoting no ports", quote(&good()[..24]), DropReason::HdrTrunc),
        ("an error with an impossible code", to_us(&icmp(3, 99, &good())), DropReason::IcmpIgnored),
    ];
    for (what, bytes, reason) in table {
        let (reasons, sent) = victim.take(bytes);
        assert_eq!((reasons.as_slice(), sent), (&[reason][..], 0), "{what}");
    }
    // An error about a datagram that no socket sent is counted, and that is all.
    let stranger = frame::udp((LOCAL, 999), (PEER, 5), b"");
    let before = victim.machine.mib().get(IcmpMib::InErrors);
    assert_eq!(victim.take(quote(&stranger)), (vec![], 0));
    assert_eq!(victim.machine.mib().get(IcmpMib::InErrors), before + 1);
    // RFC 1122 section 3.2.2: no error about an error, a broadcast, a group or a later fragment.
    let error_to_closed = frame::ip(200, PEER, LOCAL, &[0; 8]);
    assert_eq!(victim.take(ip(&error_to_closed)).1, 1, "a protocol that nobody has is told");
    let to_many = frame::udp((PEER, 5000), ([192, 0, 2, 255].into(), 99), b"");
    assert_eq!(victim.take(frame::ether([0xff; 6], 0x0800, &to_many)).1, 0);
    victim.finish()
}

stepped!(arp_that_is_nothing_to_us_teaches_nothing);
fn arp_that_is_nothing_to_us_teaches_nothing() -> Digest {
    let mut victim = Victim::new();
    let table_len = |victim: &Victim| victim.machine.net().arp_tbl.len();
    let before = table_len(&victim);
    let stranger = Ipv4Addr::new(192, 0, 2, 77);
    let arp = |bytes: Vec<u8>| frame::ether([0xff; 6], 0x0806, &bytes);
    let request = |sip, tip| frame::arp(1, sip, tip, [0; 6]);
    let changed = |at: usize, byte| {
        let mut bytes = request(stranger, LOCAL);
        bytes[at] = byte;
        arp(bytes)
    };
    let table = [
        ("cut off", arp(request(stranger, LOCAL)[..20].to_vec()), DropReason::HdrTrunc),
        ("another hardware", changed(1, 9), DropReason::ArpInvalid),
        ("another protocol", changed(2, 9), DropReason::ArpInvalid),
        ("long addresses", changed(4, 8), DropReason::ArpInvalid),
        ("an unknown operation", changed(7, 9), DropReason::ArpInvalid),
        ("for another host", arp(request(stranger, PEER)), DropReason::ArpIgnore),
        (
            "an answer nobody asked for",
            arp(frame::arp(2, stranger, LOCAL, TestDev::MAC)),
            DropReason::ArpIgnore,
        ),
        ("gratuitous", arp(request(stranger, stranger)), DropReason::ArpIgnore),
        (
            "a probe for another's address",
            arp(request(Ipv4Addr::UNSPECIFIED, PEER)),
            DropReason::ArpIgnore,
        ),
    ];
    for (what, bytes, reason) in table {
        let (reasons, sent) = victim.take(bytes);
        assert_eq!((reasons.as_slice(), sent), (&[reason][..], 0), "{what}");
        assert_eq!(table_len(&victim), before, "{what}");
    }
    // RFC 5227: a probe for our address is answered, and teaches nothing.
    let probe = arp(request(Ipv4Addr::UNSPECIFIED, LOCAL));
    assert_eq!(victim.take(probe), (vec![], 1));
    assert_eq!(table_len(&victim), before);
    assert_eq!(victim.take(arp(request(stranger, LOCAL))), (vec![], 1));
    assert_eq!(table_len(&victim), before + 1, "who asks for us is remembered");
    victim.finish()
}

stepped!(attack_arp_cache_exhaustion);
fn attack_arp_cache_exhaustion() -> Digest {
    let mut victim = Victim::new();
    for n in 0..3000_u32 {
        let asker = Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 0, 2, 0)) & 0xffff_0000 | n);
        let bytes = frame::arp(1, asker, LOCAL, [0; 6]);
        victim.dev.deliver([frame::ether([0xff; 6], 0x0806, &bytes)]);
        victim.world.settle();
        victim.dev.sent();
    }
    let table = &victim.machine.net().arp_tbl;
    assert!(table.len() <= 1024, "gc_thresh3 holds: {}", table.len());
    victim.finish()
}

stepped!(attack_icmp_flood_is_rate_limited);
fn attack_icmp_flood_is_rate_limited() -> Digest {
    let mut victim = Victim::new();
    let mut answers = 0;
    for _ in 0..1000 {
        let closed = frame::udp((PEER, 5000), (LOCAL, 99), b"");
        answers += victim.take(ip(&closed)).1;
    }
    // A burst of six to a peer, then one a second; all of it took a few milliseconds.
    assert!((5..=7).contains(&answers), "{answers} answers");
    let mib = victim.machine.mib();
    let held_back = mib.get(IcmpMib::OutRateLimitHost) + mib.get(IcmpMib::OutRateLimitGlobal);
    assert_eq!(held_back, 1000 - answers as u64);
    assert_eq!(mib.drops(DropReason::RateLimited), held_back);
    victim.finish()
}

stepped!(attack_receive_flood_is_bounded_by_the_socket);
fn attack_receive_flood_is_bounded_by_the_socket() -> Digest {
    let mut victim = Victim::new();
    for _ in 0..2000 {
        victim.dev.deliver([ip(&good())]);
        victim.world.settle();
    }
    let sk = victim.machine.net().udp_table.dump().remove(0);
    let held = sk.state().rmem_alloc;
    assert!(held <= 212_992 + 4096, "{held} bytes");
    assert!(victim.machine.mib().get(UdpMib::RcvbufErrors) > 1500);
    drop(sk);
    victim.finish()
}

stepped!(attack_unresolved_neighbour_queue_is_bounded);
fn attack_unresolved_neighbour_queue_is_bounded() -> Digest {
    let mut victim = Victim::new();
    let fd = udp(&mut victim.cx, LOCAL, 4000);
    let to = crate::util::addr(Ipv4Addr::new(192, 0, 2, 200), 9);
    // One socket's send buffer would stop it earlier: so many sockets.
    let mut fds = vec![fd];
    for port in 4001..4005 {
        fds.push(udp(&mut victim.cx, LOCAL, port));
    }
    for _ in 0..60 {
        for fd in &fds {
            let mut op = stack::net::socket::sys_sendto(*fd, b"x", 0, Some(&to));
            let sent = victim.world.block_on(&mut victim.cx, &mut op, Duration::from_millis(1));
            assert_eq!(sent, Some(Ok(1)));
        }
    }
    let queued = victim.machine.live_skbs();
    let sockets = victim.machine.net().udp_table.dump();
    let bytes: usize = sockets.iter().map(|sk| sk.wmem_alloc()).sum();
    drop(sockets);
    assert!(queued > 80 && bytes <= 212_992, "unres_qlen_bytes holds: {queued}, {bytes} bytes");
    let dropped = victim.machine.mib().drops(DropReason::NeighQueueFull);
    assert_eq!(dropped as i64, 300 - queued);
    victim.finish()
}

stepped!(no_frame_panics_or_leaks);
/// Valid frames with bytes changed, cut and added by chance, and chance alone.
fn no_frame_panics_or_leaks() -> Digest {
    let mut victim = Victim::new();
    let mut rng = rand_pcg::Pcg64::seed_from_u64(2026);
    let seeds = [
        ip(&good()),
        ip(&frame::ip(1, PEER, LOCAL, &frame::icmp(8, 0, [0; 4], b"ping"))),
        ip(&frame::ip(
            1,
            PEER,
            LOCAL,
            &frame::icmp(3, 3, [0; 4], &frame::udp((LOCAL, 7), (PEER, 5), b"")),
        )),
        ip(&frame::ip(1, PEER, LOCAL, &frame::icmp(13, 0, [0; 4], &[0; 12]))),
        frame::ether([0xff; 6], 0x0806, &frame::arp(1, PEER, LOCAL, [0; 6])),
        frame::ether([0xff; 6], 0x0800, &frame::udp((PEER, 1), ([255; 4].into(), 7), b"all")),
    ];
    for round in 0..30_000 {
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        match rng.random_range(0..10) {
            0 => bytes.truncate(rng.random_range(0..=bytes.len())),
            1 => bytes.extend((0..rng.random_range(0..1500)).map(|n| n as u8)),
            2 => rng.fill_bytes(&mut bytes),
            _ => {
                for _ in 0..rng.random_range(1..4) {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] = rng.random_range(0..=255) as u8;
                }
                // Half of them with a right IP checksum, so that they get further.
                if rng.random_bool(0.5) && bytes.len() >= 34 {
                    let fixed = patched(bytes[14..].to_vec(), &[]);
                    bytes.truncate(14);
                    bytes.extend(fixed);
                }
            }
        }
        victim.dev.deliver([bytes]);
        victim.world.settle();
        if round % 1000 == 0 {
            victim.dev.sent();
            assert_eq!(victim.machine.contained_panics(), 0, "round {round}");
        }
    }
    victim.finish()
}
