//! connect(2): peers and names.

use super::checks;
use crate::Probe;
use crate::probe::{ANY, BROADCAST, ETH, FOREIGN, GROUP, LO, NET, sa};
use uapi::socket::{AF_INET6, AF_UNIX, AF_UNSPEC, SO_BINDTODEVICE, SO_BROADCAST, SOL_SOCKET};

checks! {
    peers_to_connect_to
    connecting_again_changes_the_peer
    disconnecting_frees_what_was_not_bound
    disconnecting_keeps_what_was_bound
    short_names_of_peers
    a_bound_address_stays
    port_zero_as_peer
    a_failed_connect_keeps_the_peer
    connecting_through_a_device
    connected_to_itself
}

/// `AF_UNSPEC`: no peer.
fn unspec() -> Vec<u8> {
    let mut name = vec![0; 16];
    name[..2].copy_from_slice(&(AF_UNSPEC as u16).to_ne_bytes());
    name
}

fn peers_to_connect_to(p: &mut Probe<'_>) {
    for ip in [
        ANY,
        LO,
        [127, 9, 8, 7],
        [127, 255, 255, 255],
        NET,
        [192, 0, 2, 77],
        [192, 0, 2, 255],
        ETH,
        [198, 51, 100, 2],
        [198, 51, 100, 255],
        BROADCAST,
        FOREIGN,
        [0, 1, 2, 3],
        [240, 0, 0, 1],
    ] {
        let fd = p.udp();
        let _ = p.connect(&format!("connect {ip:?}"), fd, ip, 4000);
        p.names("names", fd);
        p.with(fd, (SOL_SOCKET, SO_BROADCAST), 1);
        let _ = p.connect("with broadcast allowed", fd, ip, 4001);
        p.names("names", fd);
        let _ = p.close("closed", fd);
    }
    let fd = p.bound(LO, 4000);
    let _ = p.connect("a group from loopback", fd, GROUP, 4000);
    p.names("names", fd);
}

fn connecting_again_changes_the_peer(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (ip, port) in [(LO, 4000), (LO, 4001), (NET, 4000), (ETH, 4000), (LO, 4000)] {
        let _ = p.connect("connect", fd, ip, port);
        p.names("names", fd);
    }
    let _ = p.bind("bind after connect", fd, LO, 4005);
}

fn disconnecting_frees_what_was_not_bound(p: &mut Probe<'_>) {
    let fd = p.udp();
    let ret = p.calls.connect(fd, &unspec());
    let _ = p.ret("nothing to free", ret);
    p.names("names", fd);
    let _ = p.connect("connect", fd, LO, 4000);
    p.names("names", fd);
    let ret = p.calls.connect(fd, &unspec());
    let _ = p.ret("freed", ret);
    p.names("names", fd);
    let _ = p.send("nobody to send to", fd, b"x", 0);
    let _ = p.bind("free to bind", fd, NET, 4009);
    p.names("names", fd);
}

fn disconnecting_keeps_what_was_bound(p: &mut Probe<'_>) {
    for (ip, port) in [(LO, 4000), (ANY, 4001), (LO, 0)] {
        let fd = p.bound(ip, port);
        let _ = p.connect("connect", fd, LO, 4500);
        p.names("names", fd);
        let ret = p.calls.connect(fd, &unspec());
        let _ = p.ret("freed", ret);
        p.names("names", fd);
        let ret = p.calls.connect(fd, &unspec());
        let _ = p.ret("twice", ret);
        p.names("names", fd);
        let _ = p.bind("bound still?", fd, LO, 4600);
        let _ = p.connect("and again", fd, NET, 4501);
        p.names("names", fd);
        p.drop_all(&[fd]);
    }
    let bound = p.udp();
    let _ = p.connect("first", bound, LO, 4000);
    let other = p.udp();
    let _ = p.sendto("sending binds", other, b"", LO, 4000);
    let _ = p.connect("connect", other, LO, 4000);
    let ret = p.calls.connect(other, &unspec());
    let _ = p.ret("freed", ret);
    p.names("names", other);
}

fn short_names_of_peers(p: &mut Probe<'_>) {
    let full = sa(LO, 4000);
    let of = |family: i32| {
        let mut name = full.clone();
        name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name
    };
    let long = [&full[..], &[1; 20]].concat();
    for (label, name) in [
        ("nothing", &[][..]),
        ("a byte", &full[..1]),
        ("the family", &full[..2]),
        ("one less", &full[..15]),
        ("longer", &long),
        ("a path", &of(AF_UNIX)),
        ("IPv6", &of(AF_INET6)),
        ("short IPv6", &of(AF_INET6)[..4]),
        ("short no family", &unspec()[..2]),
        ("no family", &unspec()),
    ] {
        let fd = p.udp();
        let ret = p.calls.connect(fd, name);
        let _ = p.ret(label, ret);
        p.names("names", fd);
    }
}

fn a_bound_address_stays(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.connect("to another of ours", fd, NET, 4001);
    p.names("names", fd);
    let fd = p.bound(NET, 4000);
    let _ = p.connect("to loopback", fd, LO, 4001);
    p.names("names", fd);
    let fd = p.bound(LO, 4002);
    let _ = p.connect("from loopback to the link", fd, [198, 51, 100, 2], 4001);
    p.names("names", fd);
    let fd = p.bound(ANY, 4003);
    let _ = p.connect("from any to the link", fd, [198, 51, 100, 2], 4001);
    p.names("names", fd);
    let fd = p.bound([127, 1, 1, 1], 4004);
    let _ = p.connect("within loopback", fd, [127, 2, 2, 2], 4001);
    p.names("names", fd);
    let fd = p.bound(GROUP, 4005);
    let _ = p.connect("from a group", fd, LO, 4001);
    p.names("names", fd);
}

fn port_zero_as_peer(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.connect("connect", fd, LO, 0);
    p.names("names", fd);
    let _ = p.send("send", fd, b"x", 0);
    let _ = p.sendto("sendto", fd, b"x", LO, 0);
    let _ = p.shutdown("shutdown", fd, 1);
}

fn a_failed_connect_keeps_the_peer(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4000);
    let _ = p.connect("connect", fd, LO, 4001);
    let _ = p.connect("no route", fd, FOREIGN, 4002);
    p.names("names", fd);
    let _ = p.connect("not allowed", fd, BROADCAST, 4002);
    p.names("names", fd);
    let ret = p.calls.connect(fd, &sa(LO, 4002)[..10]);
    let _ = p.ret("short", ret);
    p.names("names", fd);
    let other = p.udp();
    let _ = p.connect("no route, unbound", other, FOREIGN, 4002);
    p.names("has a port", other);
}

fn connecting_through_a_device(p: &mut Probe<'_>) {
    for (device, ip) in [
        ("lo", LO),
        ("lo", ETH),
        ("lo", [198, 51, 100, 2]),
        ("lo", FOREIGN),
        ("eth0", LO),
        ("eth0", NET),
        ("eth0", ETH),
        ("eth0", [198, 51, 100, 2]),
        ("eth0", FOREIGN),
        ("eth0", ANY),
    ] {
        let fd = p.udp();
        let option = (SOL_SOCKET, SO_BINDTODEVICE);
        let _ = p.set_bytes(&format!("by {device} to {ip:?}"), fd, option, device.as_bytes());
        let _ = p.connect("connect", fd, ip, 4000);
        p.names("names", fd);
    }
}

fn connected_to_itself(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.connect("to itself", fd, LO, 4000);
    let _ = p.send("said", fd, b"echo", 0);
    p.recvfrom("heard", fd, 16, 0);
    let fd = p.bound(ANY, 4001);
    let _ = p.connect("to any, itself", fd, ANY, 4001);
    p.names("names", fd);
    let _ = p.send("said", fd, b"echo", 0);
    p.recvfrom("heard", fd, 16, 0);
}
