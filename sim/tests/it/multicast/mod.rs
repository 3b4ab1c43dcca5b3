//! Groups: who hears what, what routers are told, and what a card lets through.

mod attacks;

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use crate::util::{A, B, Pair, addr, send, udp};
use klib::checksum::{csum_fold, csum_partial};
use sim::{Digest, LinkSpec};
use stack::fs::{exit_files, sys_close};
use stack::kernel::context::TaskCx;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{dev_close, dev_open, unregister_netdevice};
use stack::net::ipv4::igmp::{igmp_mc_seq_show, igmp_mcf_seq_show};
use stack::net::ipv4::proc::netstat_seq_show;
use stack::net::socket::{sys_bind, sys_setsockopt, sys_socket};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::igmp::IGMP_HOST_MEMBERSHIP_QUERY;
use uapi::in_::{IP_ADD_MEMBERSHIP, IP_BLOCK_SOURCE, IP_DROP_MEMBERSHIP, IP_MULTICAST_IF, IpMreqn};
use uapi::ip::IPPROTO_IGMP;
use uapi::snmp::IpMib;
use uapi::socket::{AF_INET, SO_REUSEADDR, SOCK_DGRAM, SOL_IP, SOL_SOCKET};

/// A group of the site.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

fn mreqn(group: Ipv4Addr, ifindex: u16) -> [u8; 12] {
    let ifindex = ifindex.into();
    IpMreqn { multiaddr: group.into(), address: 0, ifindex }.to_bytes()
}

fn join(cx: &mut TaskCx, fd: i32, group: Ipv4Addr, ifindex: u16) {
    let value = mreqn(group, ifindex);
    sys_setsockopt(cx, fd, SOL_IP, IP_ADD_MEMBERSHIP, &value).expect("joined");
}

fn leave(cx: &mut TaskCx, fd: i32, group: Ipv4Addr, ifindex: u16) {
    let value = mreqn(group, ifindex);
    sys_setsockopt(cx, fd, SOL_IP, IP_DROP_MEMBERSHIP, &value).expect("left");
}

/// A socket that shares its port with others.
fn sharing(cx: &mut TaskCx, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    let on = 1_i32.to_ne_bytes();
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_REUSEADDR, &on).expect("known");
    sys_bind(cx, fd, &addr(Ipv4Addr::UNSPECIFIED, port)).expect("shared");
    fd
}

/// The Ethernet address of a group.
fn mac(group: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = group.octets();
    [1, 0, 0x5e, b & 0x7f, c, d]
}

/// An IP packet to a group, in its frame.
fn to_group(protocol: u8, group: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    frame::ether(mac(group), 0x0800, &frame::ip(protocol, frame::PEER, group, payload))
}

fn datagram(group: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    let packet = frame::udp((frame::PEER, 5000), (group, 7), data);
    frame::ether(mac(group), 0x0800, &packet)
}

/// An IGMP message: its type, code and what is behind the sum.
fn igmp(kind: u8, code: u8, tail: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], tail].concat();
    let sum = csum_fold(csum_partial(&message, 0));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A query of version 3 to all hosts.
fn query(code: u8, group: Ipv4Addr, tail: [u8; 2]) -> Vec<u8> {
    let rest = [&group.octets()[..], &tail, &[0, 0]].concat();
    to_group(IPPROTO_IGMP, ALL_HOSTS, &igmp(IGMP_HOST_MEMBERSHIP_QUERY, code, &rest))
}

/// IGMP messages that have left, without IP's header.
fn told(lone: &Lone) -> Vec<Vec<u8>> {
    let frames = lone.dev.sent().into_iter();
    frames.filter(|frame| frame.get(23) == Some(&IPPROTO_IGMP)).map(|f| f[38..].to_vec()).collect()
}

fn ifindex(lone: &Lone) -> u16 {
    lone.dev.dev().ifindex.0
}

stepped!(a_datagram_to_a_group_is_read_by_each_who_joined);
fn a_datagram_to_a_group_is_read_by_each_who_joined() -> Digest {
    let mut lone = Lone::new();
    let dev = ifindex(&lone);
    let both = [sharing(&mut lone.cx, 7), sharing(&mut lone.cx, 7)];
    assert_eq!(lone.take(datagram(GROUP, b"nobody")), [DropReason::IpNotMember]);
    for fd in both {
        join(&mut lone.cx, fd, GROUP, dev);
    }
    lone.world.run_for(Duration::from_secs(5));
    lone.world.take_walk();
    lone.world.watch(None);
    lone.dev.deliver([datagram(GROUP, b"to two")]);
    lone.world.settle();
    golden::check(&lone.world, "multicast-in");
    for fd in both {
        assert_eq!(lone.recv_all(fd), [b"to two"]);
    }
    assert_eq!(lone.machine.mib().get(IpMib::InMcastPkts), 1);
    leave(&mut lone.cx, both[0], GROUP, dev);
    assert_eq!(lone.take(datagram(GROUP, b"one left")), []);
    // Who has left takes what others have joined (IP_MULTICAST_ALL).
    for fd in both {
        assert_eq!(lone.recv_all(fd), [b"one left"]);
    }
    sys_close(&mut lone.cx, both[1]).expect("open");
    assert_eq!(lone.take(datagram(GROUP, b"closed")), [DropReason::IpNotMember]);
    assert!(netstat_seq_show(&lone.machine).contains("InMcastPkts"));
    lone.end()
}

stepped!(a_datagram_to_a_group_comes_back_to_members_here);
fn a_datagram_to_a_group_comes_back_to_members_here() -> Digest {
    let mut lone = Lone::new();
    let dev = ifindex(&lone);
    let (fd, to) = (udp(&mut lone.cx, LOCAL, 4000), sharing(&mut lone.cx, 7));
    join(&mut lone.cx, to, GROUP, dev);
    lone.world.run_for(Duration::from_secs(5));
    lone.dev.sent();
    lone.world.watch(None);
    assert_eq!(lone.send(fd, b"all", (GROUP, 7)), Ok(3));
    lone.world.settle();
    golden::check(&lone.world, "multicast-out");
    assert_eq!(lone.recv_all(to), [b"all"]);
    let sent = lone.dev.sent();
    assert_eq!((sent.len(), &sent[0][..6]), (1, &mac(GROUP)[..]), "and no question before it");
    lone.end()
}

stepped!(a_query_is_answered_by_a_report);
fn a_query_is_answered_by_a_report() -> Digest {
    let mut lone = Lone::new();
    let (dev, fd) = (ifindex(&lone), udp(&mut lone.cx, LOCAL, 7));
    join(&mut lone.cx, fd, GROUP, dev);
    lone.world.run_for(Duration::from_secs(5));
    let change = [0x22, 0, 0xe8, 0xf9, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3];
    assert_eq!(told(&lone), [change, change], "as often as igmp_qrv says");
    lone.world.watch(None);
    lone.dev.deliver([query(10, Ipv4Addr::UNSPECIFIED, [2, 125])]);
    lone.world.run_for(Duration::from_secs(2));
    golden::check(&lone.world, "igmp-query");
    let is = [0x22, 0, 0xea, 0xf9, 0, 0, 0, 1, 2, 0, 0, 0, 239, 1, 2, 3];
    assert_eq!(told(&lone), [is]);
    lone.end()
}

stepped!(what_is_joined_outlives_the_device_being_down);
fn what_is_joined_outlives_the_device_being_down() -> Digest {
    let mut lone = Lone::new();
    let (device, fd) = (lone.dev.dev(), udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7));
    join(&mut lone.cx, fd, GROUP, device.ifindex.0);
    lone.world.run_for(Duration::from_secs(5));
    told(&lone);
    dev_close(&mut lone.cx, &device);
    lone.world.run_for(Duration::from_secs(5));
    assert_eq!(told(&lone), [[0; 0]; 0], "nothing is told while it is down");
    assert!(device.mc_list().is_empty(), "its filters know no group");
    dev_open(&mut lone.cx, &device).expect("opens");
    assert_eq!(device.mc_list(), [mac(ALL_HOSTS), mac(GROUP)]);
    lone.world.run_for(Duration::from_secs(5));
    assert_eq!(told(&lone).len(), 2, "told again");
    assert_eq!(lone.take(datagram(GROUP, b"x")), []);
    assert_eq!(lone.recv_all(fd), [b"x"]);
    lone.end()
}

stepped!(a_device_that_is_gone_takes_its_groups_along);
fn a_device_that_is_gone_takes_its_groups_along() -> Digest {
    let mut lone = Lone::new();
    let (device, fd) = (lone.dev.dev(), udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7));
    join(&mut lone.cx, fd, GROUP, device.ifindex.0);
    unregister_netdevice(&mut lone.cx, &device);
    assert!(!igmp_mc_seq_show(&lone.machine).contains("030201EF"));
    // The socket's own membership is left without a device.
    sys_close(&mut lone.cx, fd).expect("open");
    lone.end()
}

stepped!(the_files_show_groups_and_sources);
fn the_files_show_groups_and_sources() -> Digest {
    let mut lone = Lone::new();
    let (dev, fd) = (ifindex(&lone), udp(&mut lone.cx, LOCAL, 7));
    join(&mut lone.cx, fd, GROUP, dev);
    let source = [GROUP.octets(), LOCAL.octets(), [203, 0, 113, 5]].concat();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_BLOCK_SOURCE, &source).expect("blocked");
    lone.world.run_for(Duration::from_secs(5));
    let name = &lone.dev.dev().name;
    let igmp = igmp_mc_seq_show(&lone.machine);
    let expected = format!(
        "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
         1\tlo        :     1      V3\n\
         \t\t\t\t010000E0     1 0:00000000\t\t0\n\
         2\t{name:<10}:     2      V3\n\
         \t\t\t\t030201EF     1 0:00000000\t\t0\n\
         \t\t\t\t010000E0     1 0:00000000\t\t0\n"
    );
    assert_eq!(igmp, expected);
    let expected = format!(
        "Idx Device        MCA        SRC    INC    EXC\n  \
         2 {name:>6} 0xef010203 0xcb007105      0      1\n"
    );
    assert_eq!(igmp_mcf_seq_show(&lone.machine), expected);
    lone.end()
}

stepped!(a_card_lets_through_what_was_joined_alone);
fn a_card_lets_through_what_was_joined_alone() -> Digest {
    let mut pair = Pair::igb(77, LinkSpec::Wire, 1);
    let mut ends = pair.ends();
    let dev = pair.b.tables().net.dev_by_name("eth0").expect("a card").ifindex.0;
    let from = udp(&mut ends.a, A, 4000);
    let by = mreqn(Ipv4Addr::UNSPECIFIED, dev);
    sys_setsockopt(&mut ends.a, from, SOL_IP, IP_MULTICAST_IF, &by).expect("the card");
    let to = udp(&mut ends.b, Ipv4Addr::UNSPECIFIED, 7);
    send(&mut pair, &mut ends.a, from, b"warm", addr(B, 9));
    pair.world.run_for(Duration::from_millis(5));
    // The second has the same twelve bits, so that the card can't tell them apart, and IP does.
    let alike = Ipv4Addr::new(239, 7, 2, 3);
    let each = |pair: &mut Pair, ends: &mut crate::util::Ends| {
        [GROUP, alike, Ipv4Addr::new(239, 1, 0x22, 3), ALL_HOSTS].map(|group| {
            let before = pair.b.mib().get(IpMib::InReceives);
            send(pair, &mut ends.a, from, b"x", addr(group, 7));
            // The card holds its interrupt back for a while.
            pair.world.run_for(Duration::from_millis(5));
            pair.b.mib().get(IpMib::InReceives) - before
        })
    };
    assert_eq!(each(&mut pair, &mut ends), [0, 0, 0, 1], "before");
    join(&mut ends.b, to, GROUP, dev);
    assert_eq!(each(&mut pair, &mut ends), [1, 1, 0, 1], "joined");
    assert_eq!(pair.b.mib().drops(DropReason::IpNotMember), 1);
    leave(&mut ends.b, to, GROUP, dev);
    assert_eq!(each(&mut pair, &mut ends), [0, 0, 0, 1], "left");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.world.run_for(Duration::from_secs(5));
    pair.end()
}
