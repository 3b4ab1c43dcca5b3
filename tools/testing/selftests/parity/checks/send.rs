//! Sending: addresses, sizes, flags.

use super::checks;
use crate::probe::{ANY, BROADCAST, ETH, FOREIGN, GROUP, LO, NET, sa};
use crate::{Outgoing, Probe};
use uapi::in_::{IP_MTU_DISCOVER, IP_PMTUDISC_DO};
use uapi::socket::{
    AF_INET6, AF_UNIX, AF_UNSPEC, MSG_CONFIRM, MSG_DONTROUTE, MSG_DONTWAIT, MSG_EOR, MSG_ERRQUEUE,
    MSG_MORE, MSG_NOSIGNAL, MSG_OOB, MSG_PEEK, MSG_PROBE, MSG_TRUNC, MSG_WAITALL, SO_BROADCAST,
    SO_ERROR, SO_SNDBUF, SOL_IP, SOL_SOCKET, SOL_UDP,
};
use uapi::udp::UDP_CORK;

checks! {
    destinations
    names_of_destinations
    nobody_to_send_to
    a_connected_socket_sends_elsewhere
    sizes
    over_the_mtu
    flags_of_send
    parts_of_a_message
    corked_with_more
    corked_by_option
    a_corked_datagram_too_large
    refused_while_corked
    sending_from_nowhere_binds
    broadcast_needs_leave
    to_itself
    a_small_send_buffer
}

fn destinations(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4000);
    for (ip, port) in [
        (LO, 4001),
        (LO, 0),
        (ANY, 4001),
        ([127, 9, 8, 7], 4001),
        (NET, 4001),
        ([192, 0, 2, 77], 4001),
        (ETH, 4001),
        (FOREIGN, 4001),
        ([0, 1, 2, 3], 4001),
        ([240, 0, 0, 1], 4001),
        (BROADCAST, 4001),
        ([192, 0, 2, 255], 4001),
        ([127, 255, 255, 255], 4001),
    ] {
        let _ = p.sendto(&format!("to {ip:?}:{port}"), fd, b"x", ip, port);
    }
    let fd = p.bound(LO, 4002);
    for (ip, port) in
        [(NET, 4001), (ETH, 4001), ([198, 51, 100, 2], 4001), (FOREIGN, 4001), (GROUP, 4001)]
    {
        let _ = p.sendto(&format!("from loopback to {ip:?}:{port}"), fd, b"x", ip, port);
    }
}

fn names_of_destinations(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let full = sa(LO, 4001);
    let of = |family: i32| {
        let mut name = full.clone();
        name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name
    };
    let long = [&full[..], &[1; 20]].concat();
    let large = [&full[..], &[1; 200]].concat();
    for (label, name) in [
        ("nothing", &[][..]),
        ("a byte", &full[..1]),
        ("the family", &full[..2]),
        ("one less", &full[..15]),
        ("whole", &full),
        ("longer", &long),
        ("larger than any", &large),
        ("no family", &of(AF_UNSPEC)),
        ("short no family", &of(AF_UNSPEC)[..8]),
        ("a path", &of(AF_UNIX)),
        ("IPv6", &of(AF_INET6)),
        ("short IPv6", &of(AF_INET6)[..8]),
    ] {
        let ret = p.calls.sendto(fd, label.as_bytes(), MSG_DONTWAIT, Some(name));
        p.calls.settle();
        let _ = p.ret(label, ret);
    }
    for _ in 0..6 {
        p.recvfrom("arrived", receiver, 32, 0);
    }
}

fn nobody_to_send_to(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.send("send", fd, b"x", 0);
    let ret = p.calls.write(fd, b"x");
    let _ = p.ret("write", ret);
    let ret = p.calls.writev(fd, &[b"x".to_vec(), b"y".to_vec()]);
    let _ = p.ret("writev", ret);
    let _ = p.sendmsg("sendmsg", fd, &Outgoing::default(), 0);
    let ret = p.calls.sendmmsg(fd, &[Outgoing::default()], 0);
    let _ = p.ret("sendmmsg", ret);
    p.names("bound all the same?", fd);
}

fn a_connected_socket_sends_elsewhere(p: &mut Probe<'_>) {
    let other = p.bound(NET, 4001);
    let peer = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let _ = p.sendto("elsewhere", fd, b"elsewhere", NET, 4001);
    let _ = p.send("to the peer", fd, b"peer", 0);
    p.names("names", fd);
    p.recvfrom("other", other, 32, 0);
    p.recvfrom("peer", peer, 32, 0);
    let _ = p.sendto("answer from elsewhere", other, b"x", LO, 4000);
    p.recvfrom("not heard", fd, 32, 0);
}

fn sizes(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let data: Vec<u8> = (0..70_000_u32).map(|n| n as u8).collect();
    for len in [0, 1, 8, 1472, 1473, 9000, 65_506, 65_507, 65_508, 65_515, 65_535, 65_536, 70_000] {
        let _ = p.sendto(&format!("{len} bytes"), fd, &data[..len], LO, 4001);
        p.recvfrom("arrived", receiver, 70_000, 0);
    }
}

fn over_the_mtu(p: &mut Probe<'_>) {
    let fd = p.bound(ETH, 4000);
    p.with(fd, (SOL_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DO);
    let data = vec![7; 2000];
    for len in [1472, 1473, 2000] {
        let _ = p.sendto(&format!("{len} bytes"), fd, &data[..len], [198, 51, 100, 2], 4001);
    }
    let _ = p.connect("connect", fd, [198, 51, 100, 2], 4001);
    p.get("path MTU", fd, (SOL_IP, uapi::in_::IP_MTU));
    let _ = p.send("too large", fd, &data, 0);
}

fn flags_of_send(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    for (label, flags) in [
        ("none", 0),
        ("OOB", MSG_OOB),
        ("PEEK", MSG_PEEK),
        ("DONTROUTE", MSG_DONTROUTE),
        ("PROBE", MSG_PROBE),
        ("TRUNC", MSG_TRUNC),
        ("EOR", MSG_EOR),
        ("WAITALL", MSG_WAITALL),
        ("CONFIRM", MSG_CONFIRM),
        ("CONFIRM and PROBE", MSG_CONFIRM | MSG_PROBE),
        ("ERRQUEUE", MSG_ERRQUEUE),
        ("NOSIGNAL", MSG_NOSIGNAL),
        ("a bit nobody has", 0x0008_0000),
    ] {
        let _ = p.send(label, fd, label.as_bytes(), flags);
        p.recvfrom("arrived", receiver, 64, 0);
    }
}

fn parts_of_a_message(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let name = Some(sa(LO, 4001));
    let of = |parts: &[&[u8]]| Outgoing {
        name: name.clone(),
        parts: parts.iter().map(|part| part.to_vec()).collect(),
        control: Vec::new(),
    };
    for (label, msg) in [
        ("no part", of(&[])),
        ("an empty part", of(&[b""])),
        ("two", of(&[b"one", b"two"])),
        ("an empty one between", of(&[b"a", b"", b"b"])),
        ("many", Outgoing { parts: vec![b"m".to_vec(); 1024], ..of(&[]) }),
        ("too many", Outgoing { parts: vec![b"m".to_vec(); 1025], ..of(&[]) }),
    ] {
        let _ = p.sendmsg(label, fd, &msg, 0);
        p.recvfrom("arrived", receiver, 2000, 0);
    }
}

fn corked_with_more(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let _ = p.send("begun", fd, b"one ", MSG_MORE);
    p.recvfrom("nothing yet", receiver, 64, 0);
    let _ = p.send("goes on", fd, b"two ", MSG_MORE);
    let _ = p.send("ends", fd, b"three", 0);
    p.recvfrom("whole", receiver, 64, 0);
    let _ = p.send("again", fd, b"four", 0);
    p.recvfrom("alone", receiver, 64, 0);
    let _ = p.send("begun", fd, b"lost?", MSG_MORE);
    let _ = p.close("closed", fd);
    p.calls.settle();
    p.recvfrom("after close", receiver, 64, 0);
}

fn corked_by_option(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let elsewhere = p.bound(LO, 4002);
    let fd = p.bound(LO, 4000);
    let cork = (SOL_UDP, UDP_CORK);
    p.get("cork", fd, cork);
    let _ = p.set("cork", fd, cork, 1);
    p.get("cork", fd, cork);
    let _ = p.sendto("begun", fd, b"one ", LO, 4001);
    let _ = p.sendto("another destination", fd, b"two ", LO, 4002);
    let _ = p.sendto("a bad destination", fd, b"three ", LO, 0);
    p.recvfrom("nothing yet", receiver, 64, 0);
    let _ = p.set("uncork", fd, cork, 0);
    p.calls.settle();
    p.recvfrom("whole", receiver, 64, 0);
    p.recvfrom("elsewhere", elsewhere, 64, 0);
    let _ = p.set("cork", fd, cork, 7);
    p.get("cork", fd, cork);
    let _ = p.sendto("an empty one", fd, b"", LO, 4001);
    let _ = p.set("uncork", fd, cork, 0);
    p.calls.settle();
    p.recvfrom("empty", receiver, 64, 0);
    let _ = p.set("uncork, nothing there", fd, cork, 0);
    p.recvfrom("nothing", receiver, 64, 0);
}

fn a_corked_datagram_too_large(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let large = vec![1; 40_000];
    let _ = p.send("begun", fd, &large, MSG_MORE);
    let _ = p.send("too large together", fd, &large, MSG_MORE);
    let _ = p.send("afterwards", fd, b"small", 0);
    let got = p.calls.recvfrom(receiver, 70_000, MSG_DONTWAIT);
    let _ = p.ret("arrived", got.ret);
}

fn refused_while_corked(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let _ = p.send("begun", fd, b"one ", MSG_MORE);
    let _ = p.send("out of band", fd, b"x", MSG_MORE | MSG_OOB);
    let _ = p.send("larger than any", fd, &vec![1; 65_536], MSG_OOB);
    let _ = p.send("the end", fd, b"two", 0);
    p.recvfrom("nothing lost", receiver, 64, 0);
    let cork = (SOL_UDP, UDP_CORK);
    let mtu = (SOL_IP, uapi::in_::IP_MTU_DISCOVER);
    let far = p.bound(ETH, 4002);
    let _ = p.set("cork", far, cork, 1);
    let _ = p.sendto("corked", far, &[1; 1000], [198, 51, 100, 2], 4001);
    p.with(far, mtu, uapi::in_::IP_PMTUDISC_DO);
    let _ = p.send("more", far, &[1; 1000], 0);
    let _ = p.set("uncork", far, cork, 0);
    p.get("no error", far, (SOL_SOCKET, SO_ERROR));
}

fn sending_from_nowhere_binds(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.udp();
    let _ = p.sendto("unbound", fd, b"x", LO, 4001);
    p.names("names", fd);
    p.recvfrom("arrived", receiver, 8, 0);
    let other = p.udp();
    let _ = p.sendto("no route", other, b"x", FOREIGN, 4001);
    p.names("names", other);
    let third = p.udp();
    let _ = p.sendto("a bad port", third, b"x", LO, 0);
    p.names("names", third);
    let fourth = p.udp();
    let got = p.calls.recvfrom(fourth, 8, MSG_DONTWAIT);
    p.got("receiving", got);
    p.names("does not bind", fourth);
}

fn broadcast_needs_leave(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4000);
    let all: [[u8; 4]; 3] = [[198, 51, 100, 255], BROADCAST, [192, 0, 2, 255]];
    for allowed in [0, 1, 0] {
        let _ = p.set("allowed", fd, (SOL_SOCKET, SO_BROADCAST), allowed);
        for ip in all {
            let _ = p.sendto(&format!("to {ip:?}"), fd, b"x", ip, 4001);
        }
    }
    let _ = p.connect("connect, not allowed", fd, all[0], 4001);
    for flags in [MSG_PROBE, MSG_CONFIRM, MSG_PROBE | MSG_CONFIRM] {
        let name = sa(all[0], 4001);
        let ret = p.calls.sendto(fd, b"x", flags | MSG_DONTWAIT, Some(&name));
        let _ = p.ret("confirmed, not allowed", ret);
    }
}

fn to_itself(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4000);
    for ip in [ANY, LO, NET, ETH, [127, 3, 3, 3]] {
        let _ = p.sendto(&format!("to {ip:?}"), fd, b"x", ip, 4000);
        p.recvfrom("arrived", fd, 8, 0);
    }
    let fd = p.bound(NET, 4001);
    for ip in [ANY, LO, NET] {
        let _ = p.sendto(&format!("from its address to {ip:?}"), fd, b"x", ip, 4001);
        p.recvfrom("arrived", fd, 8, 0);
    }
}

fn a_small_send_buffer(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    p.with(fd, (SOL_SOCKET, SO_SNDBUF), 1);
    p.get("least", fd, (SOL_SOCKET, SO_SNDBUF));
    p.mask("writable", fd);
    // Loopback takes the packet's charge off before send returns.
    for _ in 0..4 {
        let _ = p.send("small", fd, &[1; 100], 0);
    }
    for _ in 0..4 {
        p.recvfrom("arrived", receiver, 200, 0);
    }
}
