//! ICMP errors as sockets see them.

use super::checks;
use crate::probe::{ANY, FOREIGN, LO, NET, sa};
use crate::{Outgoing, Probe, Room};
use uapi::in_::{
    IP_MTU_DISCOVER, IP_PKTINFO, IP_PMTUDISC_DO, IP_RECVERR, IP_RECVORIGDSTADDR, IP_RECVTOS,
    IP_RECVTTL, IP_TTL,
};
use uapi::poll::{POLLERR, POLLIN, POLLOUT};
use uapi::socket::{
    MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, SO_ERROR, SO_TIMESTAMP, SOL_IP, SOL_SOCKET,
};

checks! {
    refused_is_told_once_by_send
    refused_is_told_once_by_receive
    refused_is_told_once_by_option
    refused_is_told_by_each_call
    refused_in_the_poll_mask
    refused_is_not_told_to_the_unconnected
    refused_is_not_told_after_elsewhere
    a_datagram_comes_after_the_error
    the_error_queue
    the_error_queue_of_the_unconnected
    the_error_queue_in_order
    the_error_queue_with_little_room
    the_error_queue_turned_off
    an_error_of_this_host
    errors_are_not_rationed_on_loopback
    an_error_survives_connect
    errors_and_corked_data
    reports_of_this_host_leave_the_error
    reports_of_both_kinds
    what_brought_the_error
}

/// Connected to a port where nobody listens, and has sent to it.
fn refused(p: &mut Probe<'_>) -> i32 {
    let fd = p.joined(4000, 4009);
    let _ = p.send("to nobody", fd, b"lost", 0);
    fd
}

fn refused_is_told_once_by_send(p: &mut Probe<'_>) {
    let fd = refused(p);
    let _ = p.send("told", fd, b"x", 0);
    p.mask("not sent, so no new error", fd);
    let _ = p.send("goes", fd, b"x", 0);
    p.mask("a new one", fd);
    let _ = p.sendto("told to sendto elsewhere", fd, b"x", NET, 4008);
}

fn refused_is_told_once_by_receive(p: &mut Probe<'_>) {
    let fd = refused(p);
    p.recvfrom("told", fd, 8, 0);
    p.recvfrom("no more", fd, 8, 0);
    let fd = p.joined(4001, 4009);
    let _ = p.send("to nobody", fd, b"lost", 0);
    p.recvfrom("peek", fd, 8, MSG_PEEK);
    p.recvfrom("no more", fd, 8, 0);
}

fn refused_is_told_once_by_option(p: &mut Probe<'_>) {
    let fd = refused(p);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    p.get("none", fd, (SOL_SOCKET, SO_ERROR));
    p.mask("mask", fd);
    p.recvfrom("nothing", fd, 8, 0);
}

fn refused_is_told_by_each_call(p: &mut Probe<'_>) {
    let fd = refused(p);
    let got = p.calls.read(fd, 8);
    p.got("read", got);
    let _ = p.send("to nobody", fd, b"x", 0);
    let ret = p.calls.write(fd, b"x");
    let _ = p.ret("write", ret);
    let _ = p.send("to nobody", fd, b"x", 0);
    p.recvmsg("recvmsg", fd, (8, 64), 0);
    let _ = p.send("to nobody", fd, b"x", 0);
    p.recvmsg("not from the queue", fd, (8, 64), MSG_ERRQUEUE);
    let got = p
        .calls
        .recvmmsg(fd, &[Room::of(8), Room::of(8)], MSG_DONTWAIT, None)
        .map(|got| got.len() as i64);
    let _ = p.ret("recvmmsg", got);
    let _ = p.send("to nobody", fd, b"x", 0);
    let msgs = vec![Outgoing { parts: vec![b"x".to_vec()], ..Outgoing::default() }; 3];
    let ret = p.calls.sendmmsg(fd, &msgs, 0);
    p.calls.settle();
    let _ = p.ret("sendmmsg", ret);
    p.names("still connected", fd);
}

fn refused_in_the_poll_mask(p: &mut Probe<'_>) {
    let fd = refused(p);
    for events in [0, POLLIN, POLLOUT, POLLERR, 0x7fff] {
        p.poll("asked", &[(fd, events)], 0);
    }
    p.select("select", [vec![fd], vec![fd], vec![fd]]);
    let _ = p.send("taken", fd, b"x", 0);
    p.mask("none", fd);
}

fn refused_is_not_told_to_the_unconnected(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.sendto("to nobody", fd, b"x", LO, 4009);
    p.mask("mask", fd);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.sendto("again", fd, b"x", LO, 4009);
    p.recvfrom("nothing", fd, 8, 0);
}

fn refused_is_not_told_after_elsewhere(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4009);
    let _ = p.sendto("elsewhere, nobody", fd, b"x", LO, 4008);
    p.mask("another's error", fd);
    let _peer = p.bound(LO, 4009);
    let _ = p.send("somebody", fd, b"x", 0);
    p.mask("no error", fd);
}

fn a_datagram_comes_after_the_error(p: &mut Probe<'_>) {
    let fd = refused(p);
    let peer = p.bound(LO, 4009);
    let _ = p.sendto("now there is one", peer, b"late", LO, 4000);
    p.mask("both", fd);
    p.recvfrom("error first", fd, 8, 0);
    p.recvfrom("then data", fd, 8, 0);
}

fn the_error_queue(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4009);
    let _ = p.set("ask for errors", fd, (SOL_IP, IP_RECVERR), 1);
    p.get("asked", fd, (SOL_IP, IP_RECVERR));
    let _ = p.send("to nobody", fd, b"what was lost", 0);
    p.mask("mask", fd);
    p.recvmsg("report", fd, (64, 128), MSG_ERRQUEUE);
    p.mask("the error", fd);
    p.get("is gone", fd, (SOL_SOCKET, SO_ERROR));
    p.recvmsg("no more", fd, (64, 128), MSG_ERRQUEUE);
    let _ = p.send("to nobody", fd, b"again", 0);
    p.recvfrom("the error by recv", fd, 8, 0);
    p.mask("the report stays", fd);
    p.recvmsg("report", fd, (64, 128), MSG_ERRQUEUE);
    p.mask("all gone", fd);
}

fn the_error_queue_of_the_unconnected(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    for (ip, port) in [(LO, 4009), (NET, 4008), ([127, 4, 4, 4], 4007)] {
        let _ = p.sendto("to nobody", fd, b"lost", ip, port);
        p.mask("mask", fd);
        p.recvmsg("report", fd, (64, 128), MSG_ERRQUEUE);
    }
    let _ = p.sendto("to nobody", fd, b"lost", LO, 4009);
    let _ = p.sendto("told", fd, b"lost", LO, 4009);
    p.recvmsg("report", fd, (64, 128), MSG_ERRQUEUE);
    p.recvmsg("one only", fd, (64, 128), MSG_ERRQUEUE);
}

fn the_error_queue_in_order(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    for port in [4007, 4008, 4009] {
        let ret = p.calls.sendto(fd, format!("to {port}").as_bytes(), 0, Some(&sa(LO, port)));
        let _ = p.ret("first, or told", ret);
        p.calls.settle();
        p.get("clear", fd, (SOL_SOCKET, SO_ERROR));
    }
    p.recvmsg("peek", fd, (64, 128), MSG_ERRQUEUE | MSG_PEEK);
    p.recvmsg("one", fd, (64, 128), MSG_ERRQUEUE);
    p.mask("more", fd);
    p.get("the next one's error", fd, (SOL_SOCKET, SO_ERROR));
    p.recvmsg("two", fd, (64, 128), MSG_ERRQUEUE);
    p.recvmsg("three", fd, (64, 128), MSG_ERRQUEUE);
    p.mask("none", fd);
    p.get("none", fd, (SOL_SOCKET, SO_ERROR));
}

fn the_error_queue_with_little_room(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4009);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    for (len, room, flags) in [
        (3, 128, 0),
        (3, 128, MSG_TRUNC),
        (0, 128, 0),
        (64, 0, 0),
        (64, 16, 0),
        (64, 24, 0),
        (64, 47, 0),
        (64, 48, 0),
    ] {
        let _ = p.send("to nobody", fd, b"what was lost", 0);
        p.recvmsg(&format!("{len} and {room}"), fd, (len, room), MSG_ERRQUEUE | flags);
    }
    let _ = p.send("to nobody", fd, b"what was lost", 0);
    p.recvfrom("by recvfrom", fd, 64, MSG_ERRQUEUE);
}

fn the_error_queue_turned_off(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4009);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    let _ = p.send("to nobody", fd, b"lost", 0);
    let _ = p.set("off", fd, (SOL_IP, IP_RECVERR), 0);
    p.mask("mask", fd);
    p.recvmsg("nothing", fd, (64, 128), MSG_ERRQUEUE);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
}

fn an_error_of_this_host(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    let _ = p.sendto("no route", fd, b"x", FOREIGN, 4001);
    p.mask("nothing queued", fd);
    p.with(fd, (SOL_IP, uapi::in_::IP_MTU_DISCOVER), uapi::in_::IP_PMTUDISC_DO);
    let _ = p.sendto("too large", fd, &[1; 2000], [198, 51, 100, 2], 4001);
    p.mask("queued", fd);
    p.recvmsg("report", fd, (64, 128), MSG_ERRQUEUE);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.sendto("larger than any", fd, &[1; 65_508], LO, 4001);
    p.recvmsg("report", fd, (64, 128), MSG_ERRQUEUE);
    p.with(fd, (SOL_IP, IP_TTL), 1);
    let _ = p.sendto("a short way is long enough", fd, b"x", LO, 4001);
    p.recvmsg("refused", fd, (64, 128), MSG_ERRQUEUE);
}

fn errors_are_not_rationed_on_loopback(p: &mut Probe<'_>) {
    for ip in [LO, NET] {
        let fd = p.bound(ip, 4000);
        p.with(fd, (SOL_IP, IP_RECVERR), 1);
        let mut told = 0;
        for _ in 0..30 {
            let _first = p.calls.sendto(fd, b"x", MSG_DONTWAIT, Some(&sa(ip, 4009)));
            p.calls.settle();
            let room = crate::Room { parts: vec![8], control: 128 };
            told += i32::from(p.calls.recvmsg(fd, &room, MSG_ERRQUEUE).ret.is_ok());
        }
        p.note(&format!("told of {ip:?}"), told);
    }
}

fn an_error_survives_connect(p: &mut Probe<'_>) {
    let fd = refused(p);
    let _ = p.connect("another peer", fd, LO, 4008);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.send("to nobody", fd, b"x", 0);
    let ret = p.calls.connect(fd, &[0; 16]);
    let _ = p.ret("no peer", ret);
    p.mask("mask", fd);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
}

fn errors_and_corked_data(p: &mut Probe<'_>) {
    let fd = refused(p);
    let _ = p.send("told when corking", fd, b"a", uapi::socket::MSG_MORE);
    let _ = p.send("begun", fd, b"b", uapi::socket::MSG_MORE);
    let _ = p.send("sent", fd, b"c", 0);
    p.mask("refused", fd);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
}

/// Asks for errors, and may not be cut.
fn told_of_errors(p: &mut Probe<'_>) -> i32 {
    let fd = p.bound(ANY, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    p.with(fd, (SOL_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DO);
    fd
}

const NEAR: [u8; 4] = [198, 51, 100, 2];

fn reports_of_this_host_leave_the_error(p: &mut Probe<'_>) {
    let fd = told_of_errors(p);
    for _ in 0..2 {
        let _ = p.sendto("too large", fd, &[1; 2000], NEAR, 4001);
    }
    p.recvmsg("the first", fd, (64, 128), MSG_ERRQUEUE);
    p.get("no error of the second", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.sendto("nor for the next one", fd, b"x", LO, 4009);
    p.recvmsg("the second", fd, (64, 128), MSG_ERRQUEUE);
    p.get("the refusal's", fd, (SOL_SOCKET, SO_ERROR));
}

fn reports_of_both_kinds(p: &mut Probe<'_>) {
    let fd = told_of_errors(p);
    let _ = p.sendto("refused", fd, b"one", LO, 4009);
    p.get("clear", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.sendto("too large", fd, &[1; 2000], NEAR, 4001);
    let _ = p.sendto("refused", fd, b"two", LO, 4009);
    p.recvmsg("of ICMP, before one of ours", fd, (64, 128), MSG_ERRQUEUE);
    p.get("cleared", fd, (SOL_SOCKET, SO_ERROR));
    p.recvmsg("of ours, before one of ICMP", fd, (64, 128), MSG_ERRQUEUE);
    p.get("the next one's", fd, (SOL_SOCKET, SO_ERROR));
    p.recvmsg("the last", fd, (64, 128), MSG_ERRQUEUE);
    p.get("none", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.sendto("refused", fd, b"three", LO, 4009);
    let _ = p.set("off", fd, (SOL_IP, IP_RECVERR), 0);
    p.get("the error stays", fd, (SOL_SOCKET, SO_ERROR));
}

fn what_brought_the_error(p: &mut Probe<'_>) {
    let fd = told_of_errors(p);
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR] {
        p.with(fd, (SOL_IP, name), 1);
    }
    for (data, to) in [(&b"what was lost"[..], LO), (b"abc", NET), (b"", [127, 4, 4, 4])] {
        let _ = p.sendto("to nobody", fd, data, to, 4009);
        p.recvmsg("told", fd, (64, 256), MSG_ERRQUEUE);
    }
    let _ = p.sendto("too large", fd, &[1; 2000], NEAR, 4001);
    p.recvmsg("nothing brought it", fd, (64, 256), MSG_ERRQUEUE);
    p.with(fd, (SOL_SOCKET, SO_TIMESTAMP), 1);
    let _ = p.sendto("to nobody", fd, b"lost", LO, 4009);
    p.recvmsg("with its time", fd, (64, 256), MSG_ERRQUEUE);
    let _ = p.sendto("to nobody", fd, b"lost", LO, 4009);
    p.recvmsg("with little room", fd, (64, 100), MSG_ERRQUEUE);
    let _ = p.sendto("too large", fd, &[1; 2000], NEAR, 4001);
    p.recvmsg("with its time", fd, (64, 256), MSG_ERRQUEUE);
}
