//! socket(2) and calls on what is no socket.

use super::checks;
use crate::probe::{LO, NET, sa};
use crate::{Probe, Room};
use uapi::fcntl::{F_GETFD, F_GETFL};
use uapi::socket::{
    AF_INET, AF_UNSPEC, SHUT_RDWR, SO_TYPE, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET,
};

checks! {
    what_socket_makes
    flags_of_a_new_socket
    a_bad_descriptor_everywhere
    no_socket_everywhere
    a_datagram_socket_does_not_listen
    the_lowest_free_descriptor
    everything_ends_with_the_last_close
}

fn what_socket_makes(p: &mut Probe<'_>) {
    for (label, family, kind, protocol) in [
        ("udp", AF_INET, SOCK_DGRAM, 17),
        ("datagrams by default", AF_INET, SOCK_DGRAM, 0),
        ("datagrams over TCP", AF_INET, SOCK_DGRAM, 6),
        ("datagrams over nothing known", AF_INET, SOCK_DGRAM, 200),
        ("a protocol too large", AF_INET, SOCK_DGRAM, 300),
        ("a negative protocol", AF_INET, SOCK_DGRAM, -1),
        ("no type", AF_INET, 0, 0),
        ("a type in the gap", AF_INET, 7, 0),
        ("a type too large", AF_INET, 11, 0),
        ("type fifteen", AF_INET, 15, 0),
        ("unknown flags", AF_INET, SOCK_DGRAM | 0x100, 0),
        ("no family", AF_UNSPEC, SOCK_DGRAM, 0),
        ("a family there never was", 46, SOCK_DGRAM, 0),
        ("a family too large", 200, SOCK_DGRAM, 0),
        ("a negative family", -1, SOCK_DGRAM, 0),
        ("no family and a bad type", 200, 99, 0),
        ("reliably delivered", AF_INET, 4, 0),
        ("in sequence", AF_INET, 5, 0),
    ] {
        let _ = p.socket(label, family, kind, protocol);
    }
}

fn flags_of_a_new_socket(p: &mut Probe<'_>) {
    for kind in [0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC] {
        let fd = p.socket("made", AF_INET, SOCK_DGRAM | kind, 0).unwrap_or(-1) as i32;
        let _ = p.fcntl("status flags", fd, F_GETFL, 0);
        let _ = p.fcntl("descriptor flags", fd, F_GETFD, 0);
        p.get("type without flags", fd, (SOL_SOCKET, SO_TYPE));
    }
    let fd = p.socket("made", AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0).unwrap_or(-1) as i32;
    let got = p.calls.recvfrom(fd, 8, 0);
    p.got("does not wait", got);
}

fn every_call(p: &mut Probe<'_>, fd: i32) {
    let _ = p.bind("bind", fd, LO, 4000);
    let _ = p.connect("connect", fd, LO, 4000);
    p.names("names", fd);
    let _ = p.sendto("sendto", fd, b"x", LO, 9);
    let _ = p.send("send", fd, b"x", 0);
    p.recvfrom("recvfrom", fd, 8, 0);
    p.recvmsg("recvmsg", fd, (8, 64), 0);
    let done =
        p.calls.recvmmsg(fd, &[Room::of(8), Room::of(8)], 0x40, None).map(|got| got.len() as i64);
    let _ = p.ret("recvmmsg", done);
    let _ = p.set("setsockopt", fd, (SOL_SOCKET, 2), 1);
    p.get("getsockopt", fd, (SOL_SOCKET, 3));
    let _ = p.shutdown("shutdown", fd, SHUT_RDWR);
    let _ = p.shutdown("a bad shutdown", fd, 9);
    let ret = p.calls.listen(fd, 5);
    let _ = p.ret("listen", ret);
    let ret = p.calls.accept4(fd, 0);
    let _ = p.ret("accept", ret);
    let got = p.calls.read(fd, 8);
    let _ = p.ret("read", got.ret);
    let ret = p.calls.write(fd, b"x");
    let _ = p.ret("write", ret);
    let got = p.calls.readv(fd, &[4]);
    let _ = p.ret("readv", got.ret);
    let ret = p.calls.writev(fd, &[b"x".to_vec()]);
    let _ = p.ret("writev", ret);
}

fn a_bad_descriptor_everywhere(p: &mut Probe<'_>) {
    for fd in [77, -1, i32::MAX] {
        every_call(p, fd);
        let _ = p.fcntl("fcntl", fd, F_GETFL, 0);
        let _ = p.ioctl("ioctl", fd, 0x541b, 0);
        let ret = p.calls.dup(fd);
        let _ = p.ret("dup", ret);
        let ret = p.calls.dup2(fd, 9);
        let _ = p.ret("dup2", ret);
        let _ = p.close("close", fd);
    }
    let fd = p.udp();
    let _ = p.close("closed", fd);
    let _ = p.close("twice", fd);
    let _ = p.bind("and bound", fd, LO, 4000);
}

fn no_socket_everywhere(p: &mut Probe<'_>) {
    let ep = p.calls.epoll_create1(0);
    let ep = p.ret("epoll", ep).unwrap_or(-1) as i32;
    every_call(p, ep);
    let _ = p.fcntl("status flags", ep, F_GETFL, 0);
    let _ = p.ioctl("ioctl", ep, 0x541b, 0);
}

fn a_datagram_socket_does_not_listen(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    for backlog in [0, 5, -1] {
        let ret = p.calls.listen(fd, backlog);
        let _ = p.ret("listen", ret);
    }
    for flags in [0, SOCK_NONBLOCK, 1] {
        let ret = p.calls.accept4(fd, flags);
        let _ = p.ret("accept", ret);
    }
    p.get("accepts", fd, (SOL_SOCKET, 30));
}

fn the_lowest_free_descriptor(p: &mut Probe<'_>) {
    let all: Vec<i32> = (0..5).map(|_| p.udp()).collect();
    p.note("in order", format!("{all:?}"));
    let _ = p.close("the second", all[1]);
    let _ = p.close("the fourth", all[3]);
    let again: Vec<i32> = (0..3).map(|_| p.udp()).collect();
    p.note("filled up", format!("{again:?}"));
}

fn everything_ends_with_the_last_close(p: &mut Probe<'_>) {
    let fd = p.bound(NET, 4000);
    let other = p.calls.dup(fd);
    let other = p.ret("dup", other).unwrap_or(-1) as i32;
    let _ = p.close("one", fd);
    let second = p.udp();
    let _ = p.bind("still taken", second, NET, 4000);
    let ret = p.calls.bind(other, &sa(NET, 4000));
    let _ = p.ret("the other is bound", ret);
    let _ = p.close("two", other);
    let _ = p.bind("free", second, NET, 4000);
}
