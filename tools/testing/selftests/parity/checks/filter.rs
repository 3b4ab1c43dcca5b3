//! Which socket gets a datagram.

use super::checks;
use crate::Probe;
use crate::probe::{ANY, ETH, Ip, LO, NET};
use uapi::socket::{SO_BINDTODEVICE, SO_BROADCAST, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET};

checks! {
    a_connected_socket_hears_its_peer_only
    connecting_keeps_what_is_queued
    the_closest_socket_wins
    a_connected_socket_wins_over_the_wildcard
    among_equals_the_last_bound_wins
    a_device_narrows_what_is_heard
    a_broadcast_reaches_all
    a_reuseport_group_gets_each_once
    disconnected_it_hears_all_again
    an_address_counts_more_than_a_device
    connected_sockets_of_a_group
}

fn hear(p: &mut Probe<'_>, label: &str, fds: &[i32]) {
    for (number, fd) in fds.iter().enumerate() {
        loop {
            let got = p.recvfrom(&format!("{label}: socket {number}"), *fd, 32, 0);
            if got.ret.is_err() {
                break;
            }
        }
    }
}

fn a_connected_socket_hears_its_peer_only(p: &mut Probe<'_>) {
    let peer = p.bound(LO, 4000);
    let other = p.bound(LO, 4001);
    let elsewhere = p.bound(NET, 4000);
    let fd = p.joined(4002, 4000);
    let _ = p.sendto("peer", peer, b"peer", LO, 4002);
    let _ = p.sendto("another port", other, b"port", LO, 4002);
    let _ = p.sendto("another address", elsewhere, b"address", LO, 4002);
    hear(p, "heard", &[fd]);
    p.mask("the refused one", other);
}

fn connecting_keeps_what_is_queued(p: &mut Probe<'_>) {
    let one = p.bound(LO, 4000);
    let two = p.bound(LO, 4001);
    let fd = p.bound(LO, 4002);
    let _ = p.sendto("one", one, b"one", LO, 4002);
    let _ = p.connect("connect to two", fd, LO, 4001);
    let _ = p.sendto("two", two, b"two", LO, 4002);
    let _ = p.sendto("one again", one, b"late", LO, 4002);
    hear(p, "heard", &[fd]);
}

fn the_closest_socket_wins(p: &mut Probe<'_>) {
    let any = p.udp();
    let own = p.udp();
    let other = p.udp();
    for fd in [any, own, other] {
        p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
    }
    let _ = p.bind("any", any, ANY, 4000);
    let _ = p.bind("own", own, LO, 4000);
    let _ = p.bind("other", other, [127, 0, 0, 2], 4000);
    let from = p.bound(LO, 4001);
    for ip in [LO, [127, 0, 0, 2], [127, 0, 0, 3], NET, ETH, ANY] {
        let _ = p.sendto(&format!("to {ip:?}"), from, format!("{ip:?}").as_bytes(), ip, 4000);
    }
    hear(p, "heard", &[any, own, other]);
}

fn a_connected_socket_wins_over_the_wildcard(p: &mut Probe<'_>) {
    let fds = [p.udp(), p.udp(), p.udp()];
    for fd in fds {
        p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
    }
    let _ = p.bind("connected", fds[0], LO, 4000);
    let _ = p.connect("to 4001", fds[0], LO, 4001);
    let _ = p.bind("bound", fds[1], LO, 4000);
    let _ = p.bind("any", fds[2], ANY, 4000);
    let peer = p.bound(LO, 4001);
    let stranger = p.bound(LO, 4002);
    let _ = p.sendto("peer", peer, b"peer", LO, 4000);
    let _ = p.sendto("stranger", stranger, b"stranger", LO, 4000);
    let _ = p.sendto("stranger elsewhere", stranger, b"elsewhere", NET, 4000);
    hear(p, "heard", &fds);
}

fn among_equals_the_last_bound_wins(p: &mut Probe<'_>) {
    for ip in [LO, ANY] {
        let fds = [p.udp(), p.udp(), p.udp()];
        for fd in fds {
            p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
            let _ = p.bind("bind", fd, ip, 4000);
        }
        let from = p.udp();
        let _ = p.sendto("sent", from, b"first", LO, 4000);
        let _ = p.sendto("sent", from, b"second", LO, 4000);
        hear(p, "heard", &fds);
        let _ = p.close("the last", fds[2]);
        let _ = p.sendto("sent", from, b"third", LO, 4000);
        hear(p, "heard", &fds[..2]);
        p.drop_all(&fds);
    }
}

fn by_device(p: &mut Probe<'_>, name: &str, ip: Ip) -> i32 {
    let fd = p.udp();
    let _ = p.set_bytes(name, fd, (SOL_SOCKET, SO_BINDTODEVICE), name.as_bytes());
    let _ = p.bind("bind", fd, ip, 4000);
    fd
}

fn a_device_narrows_what_is_heard(p: &mut Probe<'_>) {
    let lo = by_device(p, "lo", ANY);
    let eth = by_device(p, "eth0", ANY);
    let from = p.bound(ANY, 4001);
    for ip in [LO, NET, ETH] {
        let _ = p.sendto(&format!("to {ip:?}"), from, format!("{ip:?}").as_bytes(), ip, 4000);
    }
    hear(p, "heard", &[lo, eth]);
}

fn a_broadcast_reaches_all(p: &mut Probe<'_>) {
    let fds = [p.udp(), p.udp(), p.udp()];
    for (fd, ip) in fds.into_iter().zip([ANY, [198, 51, 100, 255], ETH]) {
        p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
        let _ = p.bind("bind", fd, ip, 4000);
    }
    let from = p.bound(ANY, 4001);
    let to = [198, 51, 100, 255];
    let _ = p.sendto("not allowed", from, b"no", to, 4000);
    p.with(from, (SOL_SOCKET, SO_BROADCAST), 1);
    let _ = p.sendto("allowed", from, b"to many", to, 4000);
    hear(p, "heard", &fds);
    let _ = p.sendto("on loopback", from, b"on loopback", [192, 0, 2, 255], 4000);
    let _ = p.sendto("in loopback's net", from, b"in its net", [127, 255, 255, 255], 4000);
    hear(p, "heard", &fds);
}

fn a_reuseport_group_gets_each_once(p: &mut Probe<'_>) {
    let fds = [p.udp(), p.udp(), p.udp()];
    for fd in fds {
        p.with(fd, (SOL_SOCKET, SO_REUSEPORT), 1);
        let _ = p.bind("bind", fd, LO, 4000);
    }
    let from = p.bound(LO, 4001);
    for _ in 0..6 {
        let _ = p.sendto("sent", from, b"x", LO, 4000);
    }
    let mut heard = Vec::new();
    for fd in fds {
        let mut count = 0;
        while p.calls.recvfrom(fd, 8, 0x40).ret.is_ok() {
            count += 1;
        }
        heard.push(count);
    }
    // Which socket a flow belongs to is chance; that it stays there is not.
    heard.sort_unstable();
    p.note("heard", format!("{heard:?}"));
}

fn disconnected_it_hears_all_again(p: &mut Probe<'_>) {
    let one = p.bound(LO, 4000);
    let two = p.bound(LO, 4001);
    let fd = p.joined(4002, 4000);
    let ret = p.calls.connect(fd, &[0; 16]);
    let _ = p.ret("freed", ret);
    let _ = p.sendto("one", one, b"one", LO, 4002);
    let _ = p.sendto("two", two, b"two", LO, 4002);
    hear(p, "heard", &[fd]);
}

fn an_address_counts_more_than_a_device(p: &mut Probe<'_>) {
    for exact_first in [true, false] {
        let (exact, device) = (p.udp(), p.udp());
        for fd in [exact, device] {
            p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
        }
        let name = (SOL_SOCKET, SO_BINDTODEVICE);
        let _ = p.set_bytes("lo", device, name, b"lo");
        let order =
            if exact_first { [(exact, LO), (device, ANY)] } else { [(device, ANY), (exact, LO)] };
        for (fd, ip) in order {
            let _ = p.bind("bind", fd, ip, 4000);
        }
        let from = p.bound(LO, 4001);
        let _ = p.sendto("to the address", from, b"exact", LO, 4000);
        let _ = p.sendto("to another", from, b"other", [127, 0, 0, 2], 4000);
        hear(p, "heard", &[exact, device]);
        // Even a peer and a device together count less than the address.
        let _ = p.connect("connect", device, LO, 4001);
        let _ = p.sendto("to the address", from, b"exact", LO, 4000);
        hear(p, "heard", &[exact, device]);
        p.drop_all(&[exact, device, from]);
    }
}

fn connected_sockets_of_a_group(p: &mut Probe<'_>) {
    let mut fds = Vec::new();
    for _ in 0..3 {
        let fd = p.udp();
        p.with(fd, (SOL_SOCKET, SO_REUSEPORT), 1);
        let _ = p.bind("bind", fd, LO, 4000);
        let _ = p.connect("connect", fd, LO, 4001);
        fds.push(fd);
    }
    let from = p.bound(LO, 4001);
    for _ in 0..4 {
        let _ = p.sendto("sent", from, b"x", LO, 4000);
    }
    hear(p, "heard", &fds);
}
