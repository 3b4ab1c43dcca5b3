//! Ping sockets.

use super::checks;
use super::raw::icmp;
use crate::probe::{ANY, BROADCAST, FOREIGN, GROUP, Ip, LO, NET, Probe, sa};
use uapi::socket::*;

checks! {
    ping_sockets_are_for_a_group
    ping_echoes_come_back
    ping_sockets_bound
    ping_messages_that_can_not_be_sent
    ping_sockets_at_their_levels
}

const ICMP: i32 = 1;

/// A ping socket: the group range must allow it, which a fresh namespace does not.
fn ping(p: &mut Probe<'_>) -> i32 {
    p.calls.allow_ping();
    let fd = p.calls.socket(AF_INET, SOCK_DGRAM, ICMP);
    fd.unwrap_or_else(|_| p.ret("a ping socket", fd).map_or(-1, |fd| fd)) as i32
}

fn echo(id: u8, data: &[u8]) -> Vec<u8> {
    icmp(8, 0, [0, id, 0, 9], data)
}

/// One that is bound, so that its identifier is known.
fn bound(p: &mut Probe<'_>, ip: Ip, ident: u16) -> i32 {
    let fd = ping(p);
    let _ = p.bind("bound", fd, ip, ident);
    fd
}

fn ping_sockets_are_for_a_group(p: &mut Probe<'_>) {
    p.calls.forbid_ping();
    let _ = p.socket("forbidden", AF_INET, SOCK_DGRAM, ICMP);
    p.calls.allow_ping();
    let _ = p.socket("allowed", AF_INET, SOCK_DGRAM, ICMP);
    p.calls.forbid_ping();
}

fn ping_echoes_come_back(p: &mut Probe<'_>) {
    let fd = bound(p, ANY, 1234);
    let _ = p.sendto("asked", fd, &echo(77, b"hello there"), LO, 0);
    p.recvfrom("answered", fd, 99, 0);
    let _ = p.sendto("asked", fd, &echo(77, b"hello there"), NET, 0);
    p.recvfrom("peeked", fd, 99, MSG_PEEK);
    p.recvfrom("cut", fd, 9, MSG_TRUNC);
    p.recvfrom("no more", fd, 9, 0);
    let _ = p.connect("connected", fd, LO, 7);
    p.names("names", fd);
    let _ = p.send("asked", fd, &echo(1, b""), 0);
    p.mask("readable", fd);
    p.recvfrom("answered", fd, 99, 0);
    let other = bound(p, NET, 1235);
    let _ = p.sendto("from another address", other, &echo(1, b"x"), LO, 0);
    p.recvfrom("answered", other, 99, 0);
    p.recvfrom("not here", fd, 99, 0);
}

fn ping_sockets_bound(p: &mut Probe<'_>) {
    let fd = bound(p, LO, 1234);
    p.names("names", fd);
    let _ = p.bind("again", fd, LO, 1235);
    let other = bound(p, NET, 1234);
    for (label, ip) in [("foreign", FOREIGN), ("group", GROUP), ("broadcast", BROADCAST)] {
        let _ = p.bind(label, other, ip, 99);
    }
    let name = sa(LO, 9);
    for len in [0, 2, 15] {
        let ret = p.calls.bind(other, &name[..len]);
        let _ = p.ret("short", ret);
    }
    p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
    let third = ping(p);
    p.with(third, (SOL_SOCKET, SO_REUSEADDR), 1);
    let _ = p.bind("shared", third, NET, 1234);
    let ret = p.calls.connect(fd, &[0; 16]);
    let _ = p.ret("freed", ret);
    p.names("names", fd);
}

fn ping_messages_that_can_not_be_sent(p: &mut Probe<'_>) {
    let fd = bound(p, ANY, 1234);
    let _ = p.send("to nobody", fd, &echo(1, b""), 0);
    for len in [0, 1, 7] {
        let _ = p.sendto("short", fd, &echo(1, b"")[..len], LO, 0);
    }
    let _ = p.sendto("long", fd, &vec![8; 65_536], LO, 0);
    for (type_, code) in [(0, 0), (8, 1), (13, 0), (3, 3)] {
        let message = icmp(type_, code, [0; 4], b"");
        let _ = p.sendto(&format!("type {type_}, code {code}"), fd, &message, LO, 0);
    }
    let name = sa(LO, 0);
    let ret = p.calls.sendto(fd, &echo(1, b""), 0, Some(&name[..15]));
    let _ = p.ret("a short name", ret);
    for family in [0, 9] {
        let mut other = name.clone();
        other[0] = family;
        let ret = p.calls.sendto(fd, &echo(1, b""), 0, Some(&other));
        let _ = p.ret("another family", ret);
    }
    let ret = p.calls.sendto(fd, &echo(1, b""), MSG_OOB, Some(&name));
    let _ = p.ret("out of band", ret);
    let _ = p.sendto("a broadcast", fd, &echo(1, b""), [198, 51, 100, 255], 0);
    let _ = p.sendto("no route", fd, &echo(1, b""), FOREIGN, 0);
}

fn ping_sockets_at_their_levels(p: &mut Probe<'_>) {
    let fd = ping(p);
    for option in [SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_REUSEADDR] {
        p.get(&format!("option {option}"), fd, (SOL_SOCKET, option));
    }
    for level in [SOL_RAW, SOL_UDP, SOL_TCP, -1] {
        let _ = p.set("no such level", fd, (level, 1), 1);
        p.get("no such level", fd, (level, 1));
    }
    let _ = p.set("peeking", fd, (SOL_SOCKET, SO_PEEK_OFF), 1);
    let _ = p.set("time to live", fd, (SOL_IP, uapi::in_::IP_TTL), 9);
    p.get("time to live", fd, (SOL_IP, uapi::in_::IP_TTL));
}
