//! Groups that sockets join, and datagrams to them on this host.

use super::checks;
use crate::Probe;
use crate::probe::{ANY, ETH, FOREIGN, Ip, LO, NET, sa};
use uapi::in_::*;
use uapi::socket::{
    AF_INET, SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_REUSEADDR, SOCK_STREAM, SOL_IP, SOL_SOCKET,
};

checks! {
    group_interface_in_every_shape
    group_interface_of_a_bound_socket
    group_options_of_every_length
    group_all_values
    group_joined_by_every_shape
    group_joined_wrongly
    group_left_wrongly
    group_left_by_another_name
    group_memberships_too_many
    group_options_of_streams
    group_heard_by_two_on_loopback
    group_heard_on_the_card
    group_heard_without_loop
    group_heard_by_who_has_not_joined
    group_heard_by_who_is_bound
    group_heard_by_who_is_bound_to_a_device
    group_heard_by_who_is_connected
    group_heard_after_the_last_has_left
    group_with_a_ttl_of_nothing
    group_told_of
    group_connected_to
    group_sources_included
    group_sources_excluded
    group_sources_wrongly
    group_sources_and_modes
    group_sources_too_many
    group_filters_set_and_read
    group_filters_wrongly
    group_requests
    group_requests_wrongly
    group_requests_of_sources
    group_request_filters
    group_request_filters_wrongly
}

/// A group of the site, and others.
pub(super) const SITE: Ip = [239, 1, 2, 3];
const OTHER: Ip = [239, 1, 2, 4];
const LINK: Ip = [224, 0, 0, 251];

pub(super) fn mreqn(group: Ip, addr: Ip, index: i32) -> Vec<u8> {
    [&group[..], &addr, &index.to_ne_bytes()].concat()
}

pub(super) fn join(p: &mut Probe<'_>, fd: i32, group: Ip, index: i32) {
    let joined = p.calls.setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &mreqn(group, ANY, index));
    if joined.is_err() {
        let _ = p.ret("joining", joined);
    }
}

fn leave(p: &mut Probe<'_>, fd: i32, group: Ip, index: i32) {
    let _ = p.set_bytes("leaving", fd, (SOL_IP, IP_DROP_MEMBERSHIP), &mreqn(group, ANY, index));
}

/// A socket that sends to groups by a device: 1 is `lo`, 2 `eth0`.
pub(super) fn sender(p: &mut Probe<'_>, index: i32) -> i32 {
    let fd = p.bound(ANY, 4000);
    let _ = p.calls.setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &mreqn(ANY, ANY, index));
    fd
}

pub(super) fn sharing(p: &mut Probe<'_>, ip: Ip, port: u16) -> i32 {
    let fd = p.udp();
    p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
    let _ = p.calls.bind(fd, &sa(ip, port));
    fd
}

pub(super) fn heard(p: &mut Probe<'_>, label: &str, fds: &[i32]) {
    for (at, fd) in fds.iter().enumerate() {
        p.recvfrom(&format!("{label} {at}"), *fd, 100, 0);
    }
}

fn group_interface_in_every_shape(p: &mut Probe<'_>) {
    let fd = p.udp();
    let values = [
        ("nothing", vec![]),
        ("three octets", vec![127, 0, 0]),
        ("an address", LO.to_vec()),
        ("the card's", ETH.to_vec()),
        ("a foreign one", FOREIGN.to_vec()),
        ("none", ANY.to_vec()),
        ("an old request", [SITE, NET].concat()),
        ("a new request", mreqn(SITE, ANY, 2)),
        ("both", mreqn(SITE, LO, 2)),
        ("no such index", mreqn(SITE, LO, 77)),
        ("a large index", mreqn(SITE, LO, 70_000)),
        ("a negative one", mreqn(SITE, LO, -1)),
        ("nothing at all", mreqn(ANY, ANY, 0)),
        ("a longer one", [mreqn(SITE, ETH, 0), vec![9; 8]].concat()),
    ];
    for (label, value) in values {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_MULTICAST_IF), &value);
        p.get_bytes("read", fd, (SOL_IP, IP_MULTICAST_IF), 4);
    }
    for len in [-1, 0, 1, 3, 8] {
        p.get_bytes(&format!("read {len}"), fd, (SOL_IP, IP_MULTICAST_IF), len);
    }
}

fn group_interface_of_a_bound_socket(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.with(fd, (SOL_SOCKET, SO_BINDTOIFINDEX), 2);
    for (label, value) in [
        ("the other", mreqn(ANY, ANY, 1)),
        ("its address", LO.to_vec()),
        ("its own", mreqn(ANY, ANY, 2)),
        ("its own address", ETH.to_vec()),
        ("none", ANY.to_vec()),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_MULTICAST_IF), &value);
    }
}

fn group_options_of_every_length(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [IP_MULTICAST_TTL, IP_MULTICAST_LOOP, IP_MULTICAST_ALL] {
        for value in [vec![], vec![1], vec![1, 0], vec![0, 0, 0], vec![1, 0, 0, 0], vec![0; 8]] {
            let _ = p.set_bytes(&format!("{name} {value:?}"), fd, (SOL_IP, name), &value);
            p.get(&format!("{name} read"), fd, (SOL_IP, name));
            p.get_bytes(&format!("{name} one octet"), fd, (SOL_IP, name), 1);
        }
    }
}

fn group_all_values(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.get("at first", fd, (SOL_IP, IP_MULTICAST_ALL));
    for value in [0, 1, 2, -1, 256] {
        let _ = p.set(&format!("{value}"), fd, (SOL_IP, IP_MULTICAST_ALL), value);
        p.get("read", fd, (SOL_IP, IP_MULTICAST_ALL));
    }
}

fn group_joined_by_every_shape(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (label, value) in [
        ("by address", [SITE, ETH].concat()),
        ("again", [SITE, ETH].concat()),
        ("again by index", mreqn(SITE, ANY, 2)),
        ("at the other", [SITE, LO].concat()),
        ("again by another address", [SITE, NET].concat()),
        ("by index", mreqn(OTHER, ANY, 2)),
        ("by both", mreqn(LINK, LO, 2)),
        ("a longer one", [mreqn(OTHER, ANY, 1), vec![7; 3]].concat()),
        ("eleven octets", mreqn(LINK, LO, 2)[..11].to_vec()),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_ADD_MEMBERSHIP), &value);
    }
    p.get_bytes("read", fd, (SOL_IP, IP_ADD_MEMBERSHIP), 12);
}

fn group_joined_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (label, value) in [
        ("nothing", vec![]),
        ("an address", SITE.to_vec()),
        ("seven octets", vec![239; 7]),
        ("no group", [LO, ETH].concat()),
        ("no address at all", [ANY, ETH].concat()),
        ("to all", [[255; 4], ETH].concat()),
        ("a foreign address", [SITE, FOREIGN].concat()),
        ("by the route", [SITE, ANY].concat()),
        ("no such index", mreqn(SITE, ANY, 77)),
        ("a negative index", mreqn(SITE, ANY, -1)),
        ("a group as address", [SITE, SITE].concat()),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_ADD_MEMBERSHIP), &value);
    }
}

fn group_left_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    join(p, fd, SITE, 2);
    for (label, value) in [
        ("nothing", vec![]),
        ("seven octets", vec![239; 7]),
        ("another", [OTHER, ETH].concat()),
        ("no group", [LO, ETH].concat()),
        ("at the other", [SITE, LO].concat()),
        ("a foreign address", [SITE, FOREIGN].concat()),
        ("by the route", [SITE, ANY].concat()),
        ("another by the route", [OTHER, ANY].concat()),
        ("no such index", mreqn(SITE, ANY, 77)),
        ("right", [SITE, ETH].concat()),
        ("twice", [SITE, ETH].concat()),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_DROP_MEMBERSHIP), &value);
    }
}

fn group_left_by_another_name(p: &mut Probe<'_>) {
    let fd = p.udp();
    let shapes = [[SITE, ETH].concat(), mreqn(SITE, ANY, 2), mreqn(SITE, ETH, 2)];
    for joined in &shapes {
        for left in &shapes {
            let _ = p.set_bytes("join", fd, (SOL_IP, IP_ADD_MEMBERSHIP), joined);
            let _ = p.set_bytes("leave", fd, (SOL_IP, IP_DROP_MEMBERSHIP), left);
        }
    }
}

fn group_memberships_too_many(p: &mut Probe<'_>) {
    let (fd, other) = (p.udp(), p.udp());
    for n in 0..22 {
        let group = mreqn([239, 9, 9, n], ANY, 2);
        let _ = p.set_bytes(&format!("{n}"), fd, (SOL_IP, IP_ADD_MEMBERSHIP), &group);
    }
    leave(p, fd, [239, 9, 9, 4], 2);
    join(p, fd, SITE, 2);
    join(p, other, SITE, 2);
}

fn group_options_of_streams(p: &mut Probe<'_>) {
    let fd = p.calls.socket(AF_INET, SOCK_STREAM, 0).expect("a stream") as i32;
    for (name, value) in [
        (IP_MULTICAST_IF, mreqn(ANY, ANY, 2)),
        (IP_MULTICAST_TTL, vec![3, 0, 0, 0]),
        (IP_MULTICAST_LOOP, vec![0; 4]),
        (IP_MULTICAST_ALL, vec![0; 4]),
        (IP_ADD_MEMBERSHIP, mreqn(SITE, ANY, 2)),
        (IP_DROP_MEMBERSHIP, mreqn(SITE, ANY, 2)),
        (IP_ADD_SOURCE_MEMBERSHIP, [SITE, ETH, NET].concat()),
        (MCAST_JOIN_GROUP, request(2, OTHER)),
    ] {
        let _ = p.set_bytes(&format!("{name}"), fd, (SOL_IP, name), &value);
    }
}

fn group_heard_by_two_on_loopback(p: &mut Probe<'_>) {
    let fd = sender(p, 1);
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    let _ = p.sendto("nobody has joined", fd, b"0", SITE, 4001);
    heard(p, "of none", &both);
    join(p, both[0], SITE, 1);
    let _ = p.sendto("one has", fd, b"1", SITE, 4001);
    heard(p, "of one", &both);
    join(p, both[1], SITE, 1);
    let _ = p.sendto("both have", fd, b"2", SITE, 4001);
    heard(p, "of both", &both);
    let _ = p.sendto("another group", fd, b"3", OTHER, 4001);
    heard(p, "of the other", &both);
}

fn group_heard_on_the_card(p: &mut Probe<'_>) {
    let (card, lo) = (sender(p, 2), p.bound(LO, 4002));
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    join(p, both[0], SITE, 2);
    join(p, both[1], SITE, 1);
    let _ = p.sendto("by the card", card, b"1", SITE, 4001);
    heard(p, "by the card", &both);
    let _ = p.sendto("by loopback", lo, b"2", SITE, 4001);
    heard(p, "by loopback", &both);
    for group in [LINK, [224, 0, 0, 1], [224, 0, 0, 2]] {
        let _ = p.sendto("of the link", card, b"3", group, 4001);
        heard(p, "of the link", &both);
    }
}

fn group_heard_without_loop(p: &mut Probe<'_>) {
    for index in [1, 2] {
        let fd = sender(p, index);
        let to = p.bound(ANY, 4001);
        join(p, to, SITE, index);
        for value in [0, 1] {
            p.with(fd, (SOL_IP, IP_MULTICAST_LOOP), value);
            let _ = p.sendto(&format!("loop {value}"), fd, b"x", SITE, 4001);
            heard(p, &format!("loop {value}"), &[to]);
        }
        p.drop_all(&[fd, to]);
    }
}

fn group_heard_by_who_has_not_joined(p: &mut Probe<'_>) {
    let fd = sender(p, 2);
    let all = [sharing(p, ANY, 4001), sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    join(p, all[0], SITE, 2);
    p.with(all[2], (SOL_IP, IP_MULTICAST_ALL), 0);
    let _ = p.sendto("one has joined", fd, b"1", SITE, 4001);
    heard(p, "one has joined", &all);
    join(p, all[2], OTHER, 2);
    join(p, all[2], SITE, 1);
    let _ = p.sendto("elsewhere", fd, b"2", SITE, 4001);
    heard(p, "elsewhere", &all);
    join(p, all[2], SITE, 2);
    let _ = p.sendto("here", fd, b"3", SITE, 4001);
    heard(p, "here", &all);
}

fn group_heard_by_who_is_bound(p: &mut Probe<'_>) {
    let fd = sender(p, 2);
    let all: Vec<i32> =
        [SITE, OTHER, ETH, ANY].into_iter().map(|ip| sharing(p, ip, 4001)).collect();
    join(p, all[0], SITE, 2);
    join(p, all[2], OTHER, 2);
    for group in [SITE, OTHER] {
        let _ = p.sendto("a group", fd, &group, group, 4001);
        heard(p, "a group", &all);
    }
    p.names("bound to a group", all[0]);
    let _ = p.sendto("from a group", all[0], b"x", ETH, 4000);
    heard(p, "from a group", &[fd]);
}

fn group_heard_by_who_is_bound_to_a_device(p: &mut Probe<'_>) {
    let fd = sender(p, 2);
    let all = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    let _ = p.calls.setsockopt(all[0], SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0");
    let _ = p.calls.setsockopt(all[1], SOL_SOCKET, SO_BINDTODEVICE, b"lo\0");
    join(p, all[0], SITE, 2);
    let _ = p.sendto("by the card", fd, b"x", SITE, 4001);
    heard(p, "by the card", &all);
}

fn group_heard_by_who_is_connected(p: &mut Probe<'_>) {
    let fd = sender(p, 2);
    let all = [sharing(p, ANY, 4001), sharing(p, ANY, 4001), sharing(p, SITE, 4001)];
    for (to, port) in all.iter().zip([4000, 4009, 4000]) {
        let _ = p.connect("a peer", *to, ETH, port);
        p.names("connected", *to);
        join(p, *to, SITE, 2);
    }
    let _ = p.sendto("to all of them", fd, b"x", SITE, 4001);
    heard(p, "connected", &all);
}

fn group_heard_after_the_last_has_left(p: &mut Probe<'_>) {
    let fd = sender(p, 2);
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    let third = p.udp();
    join(p, both[0], SITE, 2);
    join(p, third, SITE, 2);
    leave(p, both[0], SITE, 2);
    let _ = p.sendto("a third has", fd, b"1", SITE, 4001);
    heard(p, "a third has", &both);
    p.drop_all(&[third]);
    let _ = p.sendto("closed", fd, b"2", SITE, 4001);
    heard(p, "closed", &both);
}

fn group_with_a_ttl_of_nothing(p: &mut Probe<'_>) {
    for index in [1, 2] {
        let fd = sender(p, index);
        let to = p.bound(ANY, 4001);
        join(p, to, SITE, index);
        p.with(to, (SOL_IP, IP_RECVTTL), 1);
        for ttl in [0, 1, 255] {
            p.with(fd, (SOL_IP, IP_MULTICAST_TTL), ttl);
            let _ = p.sendto(&format!("ttl {ttl}"), fd, b"x", SITE, 4001);
            p.recvmsg(&format!("ttl {ttl}"), to, (100, 100), 0);
        }
        p.drop_all(&[fd, to]);
    }
}

fn group_told_of(p: &mut Probe<'_>) {
    for index in [1, 2] {
        let fd = sender(p, index);
        let to = p.bound(ANY, 4001);
        join(p, to, SITE, index);
        for name in [IP_PKTINFO, IP_RECVORIGDSTADDR, IP_RECVTOS] {
            p.with(to, (SOL_IP, name), 1);
        }
        let _ = p.sendto("told", fd, b"x", SITE, 4001);
        p.recvmsg("told", to, (100, 200), 0);
        p.drop_all(&[fd, to]);
    }
}

fn group_connected_to(p: &mut Probe<'_>) {
    let to = p.bound(ANY, 4001);
    join(p, to, SITE, 2);
    for value in [ANY.to_vec(), LO.to_vec(), ETH.to_vec(), mreqn(ANY, NET, 2)] {
        let fd = p.udp();
        let _ = p.set_bytes("by", fd, (SOL_IP, IP_MULTICAST_IF), &value);
        let _ = p.connect("to a group", fd, SITE, 4001);
        p.names("its names", fd);
        let _ = p.send("by the connection", fd, b"x", 0);
        heard(p, "by the connection", &[to]);
        p.drop_all(&[fd]);
    }
}

fn one(group: Ip, device: Ip, source: Ip) -> Vec<u8> {
    [group, device, source].concat()
}

fn set_source(p: &mut Probe<'_>, fd: i32, name: i32, source: Ip) {
    let label = format!("{name} of {source:?}");
    let _ = p.set_bytes(&label, fd, (SOL_IP, name), &one(SITE, LO, source));
}

/// From each of the addresses of loopback.
fn send_from_each(p: &mut Probe<'_>, to: &[i32]) {
    for ip in [LO, NET] {
        let fd = p.bound(ip, 4000);
        let _ = p.calls.setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &LO);
        let _ = p.sendto(&format!("from {ip:?}"), fd, &ip, SITE, 4001);
        heard(p, &format!("from {ip:?}"), to);
        p.drop_all(&[fd]);
    }
}

fn group_sources_included(p: &mut Probe<'_>) {
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    set_source(p, both[0], IP_ADD_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &both);
    set_source(p, both[0], IP_ADD_SOURCE_MEMBERSHIP, NET);
    set_source(p, both[0], IP_ADD_SOURCE_MEMBERSHIP, NET);
    send_from_each(p, &both);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, LO);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, FOREIGN);
    send_from_each(p, &both);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, NET);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, NET);
    send_from_each(p, &both);
}

fn group_sources_excluded(p: &mut Probe<'_>) {
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    join(p, both[0], SITE, 1);
    set_source(p, both[0], IP_BLOCK_SOURCE, LO);
    set_source(p, both[0], IP_BLOCK_SOURCE, LO);
    send_from_each(p, &both);
    join(p, both[1], SITE, 1);
    send_from_each(p, &both);
    set_source(p, both[1], IP_BLOCK_SOURCE, LO);
    send_from_each(p, &both);
    set_source(p, both[0], IP_UNBLOCK_SOURCE, NET);
    set_source(p, both[0], IP_UNBLOCK_SOURCE, LO);
    send_from_each(p, &both);
    leave(p, both[0], SITE, 1);
    leave(p, both[1], SITE, 1);
    send_from_each(p, &both);
}

fn group_sources_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in
        [IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE, IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP]
    {
        for (label, value) in [
            ("short", vec![239; 11]),
            ("long", vec![239; 13]),
            ("no group", one(ETH, LO, NET)),
            ("no device", one(OTHER, FOREIGN, NET)),
            ("by the route", one(OTHER, ANY, NET)),
            ("not joined", one(OTHER, LO, NET)),
            ("from nobody", one(OTHER, LO, ANY)),
        ] {
            let _ = p.set_bytes(&format!("{name} {label}"), fd, (SOL_IP, name), &value);
        }
    }
}

fn group_sources_and_modes(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    join(p, fd, SITE, 1);
    set_source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
    set_source(p, fd, IP_BLOCK_SOURCE, NET);
    set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
    set_source(p, fd, IP_UNBLOCK_SOURCE, NET);
    set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
    set_source(p, fd, IP_UNBLOCK_SOURCE, LO);
    set_source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
}

fn group_sources_too_many(p: &mut Probe<'_>) {
    let fd = p.udp();
    for n in 1..13 {
        set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, [192, 0, 2, n]);
    }
    set_source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, [192, 0, 2, 3]);
    set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, [192, 0, 2, 99]);
    let many: Vec<Ip> = (0..11).map(|n| [192, 0, 2, n]).collect();
    for count in [10, 11] {
        let filter = filter(SITE, MCAST_INCLUDE, &many[..count]);
        let _ = p.set_bytes(&format!("{count} at once"), fd, (SOL_IP, IP_MSFILTER), &filter);
    }
}

fn filter(group: Ip, mode: i32, sources: &[Ip]) -> Vec<u8> {
    let head = [&group[..], &LO, &mode.to_ne_bytes(), &(sources.len() as u32).to_ne_bytes()];
    [head.concat(), sources.concat()].concat()
}

fn read_filter(p: &mut Probe<'_>, fd: i32, label: &str, name: i32, asked: &[u8]) {
    let got = p.calls.getsockopt_by(fd, SOL_IP, name, asked);
    p.note(label, format!("{got:?}"));
}

fn group_filters_set_and_read(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    join(p, fd, SITE, 1);
    let room = filter(SITE, 0, &[ANY; 4]);
    read_filter(p, fd, "at first", IP_MSFILTER, &room);
    for (mode, sources) in [
        (MCAST_INCLUDE, &[LO, FOREIGN][..]),
        (MCAST_INCLUDE, &[NET][..]),
        (MCAST_EXCLUDE, &[NET, ETH, FOREIGN][..]),
        (MCAST_EXCLUDE, &[][..]),
        (MCAST_INCLUDE, &[LO, LO][..]),
        (MCAST_INCLUDE, &[][..]),
        (MCAST_EXCLUDE, &[][..]),
    ] {
        let label = format!("{mode} {sources:?}");
        let _ = p.set_bytes(&label, fd, (SOL_IP, IP_MSFILTER), &filter(SITE, mode, sources));
        read_filter(p, fd, &label, IP_MSFILTER, &room);
        read_filter(p, fd, "one", IP_MSFILTER, &filter(SITE, 0, &[ANY]));
        read_filter(p, fd, "none", IP_MSFILTER, &filter(SITE, 0, &[]));
        send_from_each(p, &[fd]);
    }
}

fn group_filters_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    join(p, fd, SITE, 1);
    for (label, value) in [
        ("short", vec![239; 15]),
        ("not all there", filter(SITE, MCAST_INCLUDE, &[LO, NET])[..20].to_vec()),
        ("no group", filter(LO, MCAST_INCLUDE, &[LO])),
        ("no mode", filter(SITE, 2, &[LO])),
        ("not joined", filter(OTHER, MCAST_INCLUDE, &[LO])),
        ("not joined, nobody", filter(OTHER, MCAST_INCLUDE, &[])),
        ("too many", [&filter(SITE, 1, &[])[..12], &[0xff; 4]].concat()),
        ("longer", [filter(SITE, MCAST_EXCLUDE, &[LO]), vec![0; 9]].concat()),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_MSFILTER), &value);
        read_filter(p, fd, label, IP_MSFILTER, &value);
    }
}

fn storage(ip: Ip) -> Vec<u8> {
    let mut storage = sa(ip, 0);
    storage.resize(128, 0);
    storage
}

fn request(index: u32, group: Ip) -> Vec<u8> {
    [&index.to_ne_bytes()[..], &[0; 4], &storage(group)].concat()
}

fn source_request(index: u32, group: Ip, source: Ip) -> Vec<u8> {
    [request(index, group), storage(source)].concat()
}

fn group_filter(index: u32, group: Ip, mode: i32, sources: &[Ip]) -> Vec<u8> {
    let count = (sources.len() as u32).to_ne_bytes();
    let head = [&request(index, group)[..], &mode.to_ne_bytes(), &count].concat();
    let sources: Vec<u8> = sources.iter().flat_map(|ip| storage(*ip)).collect();
    [head, sources].concat()
}

fn group_requests(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    let _ = p.set_bytes("join", fd, (SOL_IP, MCAST_JOIN_GROUP), &request(1, SITE));
    let _ = p.set_bytes("again", fd, (SOL_IP, MCAST_JOIN_GROUP), &request(1, SITE));
    send_from_each(p, &[fd]);
    let _ = p.set_bytes("other way", fd, (SOL_IP, IP_ADD_MEMBERSHIP), &mreqn(SITE, LO, 0));
    let _ = p.set_bytes("leave", fd, (SOL_IP, MCAST_LEAVE_GROUP), &request(1, SITE));
    let _ = p.set_bytes("again", fd, (SOL_IP, MCAST_LEAVE_GROUP), &request(1, SITE));
    send_from_each(p, &[fd]);
}

fn group_requests_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    let mut v6 = request(1, SITE);
    v6[8] = 10;
    for name in [MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP] {
        for (label, value) in [
            ("short", request(1, SITE)[..135].to_vec()),
            ("another family", v6.clone()),
            ("no group", request(1, LO)),
            ("no device", request(77, SITE)),
            ("by the route", request(0, SITE)),
        ] {
            let _ = p.set_bytes(&format!("{name} {label}"), fd, (SOL_IP, name), &value);
        }
    }
}

fn group_requests_of_sources(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    for (name, source) in [
        (MCAST_BLOCK_SOURCE, LO),
        (MCAST_LEAVE_SOURCE_GROUP, LO),
        (MCAST_JOIN_SOURCE_GROUP, LO),
        (MCAST_JOIN_SOURCE_GROUP, LO),
        (MCAST_JOIN_SOURCE_GROUP, NET),
        (MCAST_UNBLOCK_SOURCE, LO),
        (MCAST_LEAVE_SOURCE_GROUP, LO),
        (MCAST_LEAVE_SOURCE_GROUP, NET),
        (MCAST_LEAVE_SOURCE_GROUP, NET),
    ] {
        let label = format!("{name} {source:?}");
        let value = source_request(1, SITE, source);
        let _ = p.set_bytes(&label, fd, (SOL_IP, name), &value);
        send_from_each(p, &[fd]);
    }
    let mut v6 = source_request(1, SITE, LO);
    v6[136] = 10;
    let _ = p.set_bytes("another family", fd, (SOL_IP, MCAST_JOIN_SOURCE_GROUP), &v6);
    let _ = p.set_bytes("short", fd, (SOL_IP, MCAST_JOIN_SOURCE_GROUP), &v6[..263]);
}

fn group_request_filters(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    join(p, fd, SITE, 1);
    let room = group_filter(1, SITE, 0, &[ANY; 3]);
    for (mode, sources) in [
        (MCAST_INCLUDE, &[LO, FOREIGN][..]),
        (MCAST_EXCLUDE, &[NET][..]),
        (MCAST_EXCLUDE, &[][..]),
        (MCAST_INCLUDE, &[][..]),
    ] {
        let (label, value) = (format!("{mode} {sources:?}"), group_filter(1, SITE, mode, sources));
        let _ = p.set_bytes(&label, fd, (SOL_IP, MCAST_MSFILTER), &value);
        read_filter(p, fd, &label, MCAST_MSFILTER, &room);
        read_filter(p, fd, "one", MCAST_MSFILTER, &group_filter(1, SITE, 0, &[ANY]));
        read_filter(p, fd, "the other way", IP_MSFILTER, &filter(SITE, 0, &[ANY; 3]));
        send_from_each(p, &[fd]);
    }
}

fn group_request_filters_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    join(p, fd, SITE, 1);
    let right = group_filter(1, SITE, MCAST_INCLUDE, &[LO, NET]);
    let changed = |at: usize, octet: u8| {
        let mut value = right.clone();
        value[at] = octet;
        value
    };
    for (label, value) in [
        ("short", right[..143].to_vec()),
        ("not all there", right[..300].to_vec()),
        ("another family", changed(8, 10)),
        ("a source of another family", changed(144, 10)),
        ("no group", changed(12, 10)),
        ("no mode", changed(136, 7)),
        ("too many", changed(140, 11)),
        ("far too many", changed(143, 1)),
        ("no device", changed(0, 77)),
        ("another device", changed(0, 2)),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, MCAST_MSFILTER), &value);
        read_filter(p, fd, label, MCAST_MSFILTER, &value);
    }
}
