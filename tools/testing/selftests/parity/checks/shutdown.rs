//! shutdown(2), and what calls do afterwards.

use super::checks;
use crate::probe::{LO, NET};
use crate::{Probe, Room};
use uapi::socket::{MSG_DONTWAIT, MSG_PEEK, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SOL_SOCKET};

checks! {
    shutdown_needs_a_peer
    shut_down_for_receiving
    shut_down_for_sending
    shut_down_both_ways
    one_way_after_the_other
    bad_ways_to_shut_down
    shut_down_then_connected
    a_shut_down_socket_still_hears
}

/// What every call says now.
fn look(p: &mut Probe<'_>, fd: i32) {
    p.mask("mask", fd);
    p.recvfrom("receive", fd, 8, 0);
    p.recvmsg("receive a message", fd, (8, 64), 0);
    let got = p.calls.recvfrom(fd, 8, MSG_DONTWAIT | MSG_PEEK);
    p.got("peek", got);
    let _ = p.send("send", fd, b"x", 0);
    let _ = p.sendto("send elsewhere", fd, b"x", NET, 4007);
    let ret = p.calls.write(fd, b"x");
    p.calls.settle();
    let _ = p.ret("write", ret);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    p.names("names", fd);
}

fn pair(p: &mut Probe<'_>) -> (i32, i32) {
    (p.joined(4000, 4001), p.joined(4001, 4000))
}

fn shutdown_needs_a_peer(p: &mut Probe<'_>) {
    for how in [SHUT_RD, SHUT_WR, SHUT_RDWR] {
        let fd = p.udp();
        let _ = p.shutdown(&format!("unbound, {how}"), fd, how);
        p.mask("mask", fd);
        let got = p.calls.recvfrom(fd, 8, MSG_DONTWAIT);
        p.got("receive", got);
        let _ = p.sendto("send", fd, b"x", LO, 4009);
        let fd = p.bound(LO, 4000);
        let _ = p.shutdown(&format!("bound, {how}"), fd, how);
        p.mask("mask", fd);
        let _ = p.sendto("send", fd, b"x", LO, 4009);
        let _ = p.close("closed", fd);
    }
}

fn shut_down_for_receiving(p: &mut Probe<'_>) {
    let (fd, peer) = pair(p);
    let _ = p.send("on its way", peer, b"before", 0);
    let _ = p.shutdown("shut", fd, SHUT_RD);
    look(p, fd);
    let _ = p.send("afterwards", peer, b"after", 0);
    p.mask("peer", peer);
    look(p, fd);
}

fn shut_down_for_sending(p: &mut Probe<'_>) {
    let (fd, peer) = pair(p);
    let _ = p.send("on its way", peer, b"before", 0);
    let _ = p.shutdown("shut", fd, SHUT_WR);
    look(p, fd);
    let _ = p.send("afterwards", peer, b"after", 0);
    look(p, fd);
    p.recvfrom("the peer hears nothing", peer, 8, 0);
    p.mask("peer", peer);
}

fn shut_down_both_ways(p: &mut Probe<'_>) {
    let (fd, peer) = pair(p);
    let _ = p.shutdown("shut", fd, SHUT_RDWR);
    look(p, fd);
    let _ = p.shutdown("twice", fd, SHUT_RDWR);
    let _ = p.send("afterwards", peer, b"after", 0);
    look(p, fd);
    p.mask("peer", peer);
}

fn one_way_after_the_other(p: &mut Probe<'_>) {
    let (fd, _peer) = pair(p);
    for how in [SHUT_WR, SHUT_WR, SHUT_RD, SHUT_RD, SHUT_WR] {
        let _ = p.shutdown(&format!("shut {how}"), fd, how);
        p.mask("mask", fd);
    }
}

fn bad_ways_to_shut_down(p: &mut Probe<'_>) {
    let (fd, _peer) = pair(p);
    for how in [3, -1, 99, i32::MAX, i32::MIN] {
        let _ = p.shutdown(&format!("shut {how}"), fd, how);
    }
    p.mask("mask", fd);
    let unbound = p.udp();
    let _ = p.shutdown("unbound", unbound, 3);
}

fn shut_down_then_connected(p: &mut Probe<'_>) {
    let (fd, peer) = pair(p);
    let _ = p.shutdown("shut", fd, SHUT_RDWR);
    let _ = p.connect("connected again", fd, LO, 4001);
    p.mask("mask", fd);
    let _ = p.send("send", fd, b"x", 0);
    let ret = p.calls.connect(fd, &[0; 16]);
    let _ = p.ret("no peer", ret);
    p.mask("mask", fd);
    let _ = p.sendto("send", fd, b"x", LO, 4001);
    p.recvfrom("peer", peer, 8, 0);
    let _ = p.shutdown("without a peer", fd, SHUT_RD);
}

fn a_shut_down_socket_still_hears(p: &mut Probe<'_>) {
    let (fd, peer) = pair(p);
    let _ = p.shutdown("shut", fd, SHUT_RD);
    for data in [&b"one"[..], b"two"] {
        let _ = p.send("sent", peer, data, 0);
    }
    p.recvfrom("heard", fd, 8, 0);
    p.recvfrom("heard", fd, 8, 0);
    p.recvfrom("the end", fd, 8, 0);
    let got = p.calls.recvfrom(fd, 8, 0);
    p.got("the end, waiting", got);
    let got =
        p.calls.recvmmsg(fd, &[Room::of(8), Room::of(8)], 0, None).map(|got| got.len() as i64);
    let _ = p.ret("several ends", got);
}
