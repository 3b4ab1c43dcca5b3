//! Options that sockets set, and what leaves with them.

use super::*;
use crate::Outgoing;
use crate::checks::checks;
use crate::probe::{ANY, LO, NET, control, sa};
use crate::wire::octets;
use uapi::socket::{
    MSG_ERRQUEUE, MSG_MORE, SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_MARK, SO_PRIORITY, SO_TIMESTAMP,
    SO_TIMESTAMPNS, SOCK_NONBLOCK, SOL_TCP, SOL_UDP,
};
use uapi::tcp::TCP_MAXSEG;
use uapi::udp::UDP_SEGMENT;

checks! {
    options_set_and_read
    options_read_into_little_room
    options_that_are_malformed
    options_of_every_kind_of_socket
    options_and_segment_sizes
    options_over_loopback
    marks_devices_and_tos_of_every_kind_of_socket
    options_of_messages_in_segments
    wire_options_of_datagrams
    wire_options_of_raw_sockets_and_pings
    wire_options_that_route
    wire_options_by_control_data
    wire_options_of_fragments
    wire_options_and_the_mtu
    wire_options_of_corked_datagrams
    wire_options_of_a_syn
}

fn options_set_and_read(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.get_bytes("new", fd, OPTIONS, 40);
    for (label, options) in good() {
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
        p.get_bytes(label, fd, OPTIONS, 60);
    }
    // What only a program that writes them does.
    for (label, options) in [
        ("route not at its first hop", route(IPOPT_LSRR, 1, &[PEER, HOP])),
        ("route without hops", empty(IPOPT_LSRR, 3, 4)),
        ("route with half a hop", empty(IPOPT_LSRR, 9, 4)),
        ("forty octets", empty(IPOPT_RR, 40, 4)),
        ("one more", vec![IPOPT_NOOP; 41]),
        ("many", vec![IPOPT_NOOP; 400]),
    ] {
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
        p.get_bytes("there", fd, OPTIONS, 60);
    }
}

fn options_read_into_little_room(p: &mut Probe<'_>) {
    let fd = p.udp();
    for room in [-1, 0, 1, 4, 40] {
        p.get_bytes(&format!("none into {room}"), fd, OPTIONS, room);
    }
    let _ = p.set_bytes("set", fd, OPTIONS, &route(IPOPT_LSRR, 0, &[PEER, HOP]));
    for room in [-1, 0, 1, 3, 4, 5, 11, 12, 13, 40] {
        p.get_bytes(&format!("into {room}"), fd, OPTIONS, room);
    }
}

fn options_that_are_malformed(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.set_bytes("good", fd, OPTIONS, &[IPOPT_RA, 4, 0, 0]);
    for (label, options) in bad() {
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
    }
    p.get_bytes("there still", fd, OPTIONS, 60);
    for kind in [7, 68, 131, 137, 148, 134, 222] {
        for len in 0..5 {
            let _ = p.set_bytes(&format!("{kind} of {len}"), fd, OPTIONS, &[kind, len, 4, 0]);
        }
    }
}

fn options_of_every_kind_of_socket(p: &mut Probe<'_>) {
    for (label, fd) in sockets(p) {
        p.within(label);
        for (label, options) in [
            ("route", empty(IPOPT_RR, 11, 4)),
            ("bad", vec![7, 2]),
            ("unknown", vec![222, 4, 9, 9]),
            ("none", vec![]),
        ] {
            let _ = p.set_bytes(label, fd, OPTIONS, &options);
            p.get_bytes("there", fd, OPTIONS, 60);
        }
        for option in [IP_RECVOPTS, IP_RETOPTS] {
            p.get(&format!("{option}"), fd, (SOL_IP, option));
            for value in [1, 0, 9] {
                let _ = p.set(&format!("{option} {value}"), fd, (SOL_IP, option), value);
                p.get(&format!("{option}"), fd, (SOL_IP, option));
            }
            let _ = p.set_bytes("an octet", fd, (SOL_IP, option), &[1]);
            let _ = p.set_bytes("nothing", fd, (SOL_IP, option), &[]);
            p.get_bytes("an octet", fd, (SOL_IP, option), 1);
        }
    }
    p.within("");
    let raw = p.calls.socket(AF_INET, SOCK_RAW, 253).unwrap_or(-1) as i32;
    p.with(raw, (SOL_IP, IP_HDRINCL), 1);
    let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 9, 253, 0, 0][..], &LO, &LO].concat();
    let _ = p.sendto("its own header", raw, &header, LO, 0);
    for options in [vec![IPOPT_RA, 4, 0, 0], vec![]] {
        let _ = p.set_bytes("options", raw, OPTIONS, &options);
        let _ = p.sendto("its own header and options", raw, &header, LO, 0);
    }
}

fn options_and_segment_sizes(p: &mut Probe<'_>) {
    let listener = p.calls.socket(AF_INET, SOCK_STREAM, 0).unwrap_or(-1) as i32;
    let _ = p.bind("bound", listener, LO, 4000);
    let ret = p.calls.listen(listener, 5);
    let _ = p.ret("listens", ret);
    let maxseg = (SOL_TCP, TCP_MAXSEG);
    for options in [vec![], empty(IPOPT_RR, 11, 4), empty(IPOPT_RR, 39, 4)] {
        p.within(&format!("{} octets", options.len()));
        let fd = p.calls.socket(AF_INET, SOCK_STREAM, 0).unwrap_or(-1) as i32;
        p.get("before", fd, maxseg);
        let _ = p.set_bytes("set", fd, OPTIONS, &options);
        p.get("set", fd, maxseg);
        let _ = p.connect("connected", fd, LO, 4000);
        p.get("connected", fd, maxseg);
        let child = p.calls.accept4(listener, SOCK_NONBLOCK).unwrap_or(-1) as i32;
        p.get("the other end", child, maxseg);
        let got = p.calls.getsockopt(child, SOL_IP, IP_OPTIONS, 40);
        p.note("its options", got.map_or_else(|error| error.to_string(), |got| shown(&got)));
        let _ = p.set_bytes("other options", fd, OPTIONS, &[IPOPT_NOOP; 8]);
        p.get("then", fd, maxseg);
        let _ = p.set_bytes("none", fd, OPTIONS, &[]);
        p.get("then", fd, maxseg);
        let _ = p.set_bytes("set again", fd, OPTIONS, &options);
        for (from, to) in [(fd, child), (child, fd)] {
            let _ = p.send("much", from, &octets(50_000), 0);
            let got = p.calls.recvfrom(to, 60_000, MSG_DONTWAIT);
            p.note("came", format!("{:?} {}", got.ret, got.data == octets(50_000)));
        }
        p.drop_all(&[fd, child]);
    }
}

fn marks_devices_and_tos_of_every_kind_of_socket(p: &mut Probe<'_>) {
    for (label, fd) in sockets(p) {
        p.within(label);
        for value in [0, 0x10, 0x1c, 0xb8, 0xff, 0x100, -1, 3] {
            let _ = p.set(&format!("tos {value}"), fd, (SOL_IP, IP_TOS), value);
            p.get("tos", fd, (SOL_IP, IP_TOS));
            p.get("priority", fd, (SOL_SOCKET, SO_PRIORITY));
        }
        for value in [7, -1, 0] {
            let _ = p.set(&format!("mark {value}"), fd, (SOL_SOCKET, SO_MARK), value);
            p.get("mark", fd, (SOL_SOCKET, SO_MARK));
        }
        for name in [&b"lo\0"[..], b"eth0", b"nothing", b"", b"eth0\0and more than that"] {
            let _ = p.set_bytes("device", fd, (SOL_SOCKET, SO_BINDTODEVICE), name);
            p.get_bytes("its name", fd, (SOL_SOCKET, SO_BINDTODEVICE), 16);
            p.get("its number", fd, (SOL_SOCKET, SO_BINDTOIFINDEX));
        }
        for option in [IP_RECVTOS, IP_RECVTTL, IP_PKTINFO, IP_RECVORIGDSTADDR, IP_RECVFRAGSIZE] {
            let _ = p.set(&format!("{option}"), fd, (SOL_IP, option), 1);
            p.get(&format!("{option}"), fd, (SOL_IP, option));
        }
        for stamp in [SO_TIMESTAMP, SO_TIMESTAMPNS] {
            let _ = p.set(&format!("{stamp}"), fd, (SOL_SOCKET, stamp), 1);
            p.get("micro", fd, (SOL_SOCKET, SO_TIMESTAMP));
            p.get("nano", fd, (SOL_SOCKET, SO_TIMESTAMPNS));
        }
    }
}

fn options_of_messages_in_segments(p: &mut Probe<'_>) {
    let to = p.bound(LO, 4000);
    tell(p, to);
    let fd = p.bound(LO, 4001);
    p.with(fd, (SOL_UDP, UDP_SEGMENT), 100);
    for options in [vec![], empty(IPOPT_RR, 11, 4), empty(IPOPT_RR, 39, 4)] {
        let _ = p.set_bytes("options", fd, OPTIONS, &options);
        for len in [100, 250] {
            let _ = p.sendto(&format!("{len}"), fd, &octets(len), LO, 4000);
            for _ in 0..3 {
                told(p, "came", to, 300);
            }
        }
    }
    p.with(fd, (SOL_UDP, UDP_SEGMENT), 65_000);
    let _ = p.sendto("as long as can be", fd, &octets(65_450), LO, 4000);
    let _ = p.sendto("too long with options", fd, &octets(65_480), LO, 4000);
}

fn options_over_loopback(p: &mut Probe<'_>) {
    let to = p.bound(LO, 4000);
    tell(p, to);
    let other = p.bound(NET, 4000);
    tell(p, other);
    for (label, options) in good() {
        if label.contains("rout") && !label.contains("record") && !label.contains("alert") {
            continue;
        }
        let fd = p.bound(ANY, 4001);
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
        let _ = p.sendto(label, fd, b"hello", LO, 4000);
        told(p, label, to, 300);
        let _ = p.sendto(label, fd, b"hello", NET, 4000);
        told(p, label, other, 300);
        p.drop_all(&[fd]);
    }
}

fn wire_options_of_datagrams(p: &mut Probe<'_>) {
    open(p);
    for (label, options) in good() {
        let fd = p.bound(ETH, 4000);
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
        let _ = p.sendto(label, fd, b"hello", PEER, 4001);
        note(p, label);
        let _ = p.connect("connected", fd, PEER, 4001);
        let _ = p.send(label, fd, b"hello", 0);
        note(p, label);
        p.drop_all(&[fd]);
    }
}

fn wire_options_of_raw_sockets_and_pings(p: &mut Probe<'_>) {
    open(p);
    for (kind, fd) in &sockets(p)[1..3] {
        p.within(kind);
        let mut data = octets(20);
        data[..8].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 1]);
        for (label, options) in good() {
            let _ = p.set_bytes(label, *fd, OPTIONS, &options);
            let _ = p.sendto(label, *fd, &data, PEER, 0);
            note(p, label);
        }
    }
}

fn wire_options_that_route(p: &mut Probe<'_>) {
    open(p);
    for (kind, fd) in &sockets(p)[..3] {
        p.within(kind);
        let mut data = octets(20);
        data[..8].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 1]);
        for (label, options, to) in [
            ("by the peer", route(IPOPT_LSRR, 0, &[PEER]), FOREIGN),
            ("by the peer and another", route(IPOPT_LSRR, 0, &[PEER, HOP]), FOREIGN),
            ("by the peer, strictly", route(IPOPT_SSRR, 0, &[PEER, HOP]), FOREIGN),
            ("without a way", route(IPOPT_LSRR, 0, &[FOREIGN]), PEER),
            ("strictly without a way", route(IPOPT_SSRR, 0, &[FOREIGN]), PEER),
            ("to nobody", route(IPOPT_LSRR, 0, &[PEER]), ANY),
        ] {
            let _ = p.set_bytes(label, *fd, OPTIONS, &options);
            let _ = p.sendto(label, *fd, &data, to, 4001);
            note(p, label);
        }
    }
    p.within("stream");
    for (label, options, to) in [
        ("by the peer", route(IPOPT_LSRR, 0, &[PEER]), FOREIGN),
        ("by the peer, strictly", route(IPOPT_SSRR, 0, &[PEER, HOP]), FOREIGN),
        ("without a way", route(IPOPT_LSRR, 0, &[FOREIGN]), PEER),
        ("to nobody", route(IPOPT_LSRR, 0, &[PEER]), ANY),
    ] {
        let fd = p.calls.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0).unwrap_or(-1) as i32;
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
        let _ = p.connect(label, fd, to, 4001);
        note(p, label);
        p.names("names", fd);
        p.drop_all(&[fd]);
    }
}

fn wire_options_by_control_data(p: &mut Probe<'_>) {
    open(p);
    for (kind, fd) in &sockets(p)[..3] {
        p.within(kind);
        let mut data = octets(20);
        data[..8].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 1]);
        let _ = p.set_bytes("the socket's", *fd, OPTIONS, &[IPOPT_RA, 4, 0, 0]);
        for (label, options) in [
            ("its own", empty(IPOPT_RR, 11, 4)),
            ("none", vec![]),
            ("bad", vec![IPOPT_RR, 2, 4, 0]),
            ("forty-four", vec![IPOPT_NOOP; 44]),
            ("a bad one behind forty", [vec![IPOPT_NOOP; 40], vec![7, 0, 0, 0]].concat()),
        ] {
            let control = control(&[(SOL_IP, IP_RETOPTS, &options)]);
            let msg = Outgoing { name: Some(sa(PEER, 4001)), parts: vec![data.clone()], control };
            let _ = p.sendmsg(label, *fd, &msg, 0);
            note(p, label);
        }
        let control = control(&[(SOL_IP, IP_OPTIONS, &[1, 1, 1, 1])]);
        let msg = Outgoing { name: Some(sa(PEER, 4001)), parts: vec![data.clone()], control };
        let _ = p.sendmsg("by another number", *fd, &msg, 0);
        let _ = p.sendto("the socket's again", *fd, &data, PEER, 4001);
        note(p, "the socket's again");
    }
}

fn wire_options_of_fragments(p: &mut Probe<'_>) {
    open(p);
    for (kind, fd) in &sockets(p)[..3] {
        p.within(kind);
        p.with(*fd, (SOL_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DONT);
        let _ = p.set_bytes("set", *fd, OPTIONS, &mixed());
        for len in [1400, 1500, 3000, 9000] {
            let mut data = octets(len);
            data[..8].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 1]);
            let _ = p.sendto(&format!("{len}"), *fd, &data, PEER, 4001);
            note(p, &format!("{len}"));
        }
    }
}

fn wire_options_and_the_mtu(p: &mut Probe<'_>) {
    open(p);
    for (kind, fd) in &sockets(p)[..3] {
        p.with(*fd, (SOL_IP, IP_RECVERR), 1);
        let _ = p.set_bytes("set", *fd, OPTIONS, &empty(IPOPT_RR, 11, 4));
        for mode in [IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE] {
            p.within(&format!("{kind}, mode {mode}"));
            p.with(*fd, (SOL_IP, IP_MTU_DISCOVER), mode);
            for len in [1460, 1461, 1468, 1469, 1472, 1480, 65_495, 65_496, 65_503, 65_504, 65_507]
            {
                let mut data = octets(len);
                data[..8].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 1]);
                let _ = p.sendto(&format!("{len}"), *fd, &data, PEER, 4001);
                let frames = p.calls.wire_take();
                p.note("packets", frames.len());
                if let Some(frame) = frames.first() {
                    p.note("first", describe(&frame[14..]));
                }
                let room = Room { parts: vec![8], control: 256 };
                let got = p.calls.recvmsg(*fd, &room, MSG_ERRQUEUE | MSG_DONTWAIT);
                p.note("error", format!("{:?} {:?}", got.ret.is_ok(), got.control));
            }
        }
    }
}

fn wire_options_of_corked_datagrams(p: &mut Probe<'_>) {
    open(p);
    let fd = p.bound(ETH, 4000);
    let _ = p.connect("the peer", fd, PEER, 4001);
    let _ = p.set_bytes("options", fd, OPTIONS, &empty(IPOPT_RR, 11, 4));
    let _ = p.send("first", fd, b"first", MSG_MORE);
    let _ = p.set_bytes("others", fd, OPTIONS, &[IPOPT_RA, 4, 0, 0]);
    let _ = p.send("second", fd, b"second", 0);
    note(p, "as when it began");
    let _ = p.send("next", fd, b"next", 0);
    note(p, "next");
    for len in [1000, 1464, 3000] {
        let _ = p.send("long", fd, &octets(len), MSG_MORE);
        let _ = p.send("more", fd, b"more", 0);
        note(p, &format!("{len}"));
    }
}

fn wire_options_of_a_syn(p: &mut Probe<'_>) {
    open(p);
    for (label, options) in good() {
        if label.contains("loose") || label.contains("strict") {
            continue;
        }
        let fd = p.calls.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0).unwrap_or(-1) as i32;
        let _ = p.set_bytes(label, fd, OPTIONS, &options);
        let _ = p.connect(label, fd, PEER, 80);
        note(p, label);
        p.drop_all(&[fd]);
    }
}
