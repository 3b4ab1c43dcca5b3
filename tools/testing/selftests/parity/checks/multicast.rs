//! Groups that sockets join, and datagrams to them on this host.

use super::checks;
use super::multicast_sources::request;
use crate::Probe;
use crate::probe::{ANY, ETH, FOREIGN, Ip, LO, NET, sa};
use uapi::in_::*;
use uapi::socket::{
    AF_INET, SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_REUSEADDR, SOCK_RAW, SOCK_STREAM, SOL_IP,
    SOL_SOCKET,
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
    group_heard_by_raw_sockets
    group_with_a_ttl_of_nothing
    group_told_of
    group_connected_to
}

/// Datagrams to groups, with their IP headers: by who joined and by who takes all that comes for others' sake.
fn group_heard_by_raw_sockets(p: &mut Probe<'_>) {
    let member = p.calls.socket(AF_INET, SOCK_RAW, 17).unwrap_or(-1) as i32;
    let all = p.calls.socket(AF_INET, SOCK_RAW, 17).unwrap_or(-1) as i32;
    let few = p.calls.socket(AF_INET, SOCK_RAW, 17).unwrap_or(-1) as i32;
    p.with(few, (SOL_IP, IP_MULTICAST_ALL), 0);
    let from = sender(p, 1);
    let hear = |p: &mut Probe<'_>, label: &str| {
        for group in [SITE, OTHER] {
            let _ = p.sendto(label, from, b"hello", group, 4001);
        }
        for (who, fd) in [("member", member), ("all", all), ("few", few)] {
            for _ in 0..2 {
                let got = p.calls.recvfrom(fd, 100, uapi::socket::MSG_DONTWAIT);
                // The identification is by chance.
                p.note(
                    &format!("{label}, {who}"),
                    format!("{:?} {:?}", got.ret, got.data.get(16..)),
                );
            }
        }
    };
    hear(p, "before");
    join(p, member, SITE, 1);
    hear(p, "joined");
    leave(p, member, SITE, 1);
    hear(p, "left");
}

/// A group of the site, and others.
pub(super) const SITE: Ip = [239, 1, 2, 3];
pub(super) const OTHER: Ip = [239, 1, 2, 4];
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

pub(super) fn leave(p: &mut Probe<'_>, fd: i32, group: Ip, index: i32) {
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
