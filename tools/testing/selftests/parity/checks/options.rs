//! setsockopt(2) and getsockopt(2).

use super::checks;
use crate::Probe;
use crate::probe::{LO, int};
use uapi::in_::{
    IP_FREEBIND, IP_MTU, IP_MTU_DISCOVER, IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_PKTINFO,
    IP_RECVERR, IP_RECVTOS, IP_RECVTTL, IP_TOS, IP_TTL,
};
use uapi::socket::{
    SO_ACCEPTCONN, SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_BROADCAST, SO_DOMAIN, SO_DONTROUTE,
    SO_ERROR, SO_KEEPALIVE, SO_LINGER, SO_MARK, SO_NO_CHECK, SO_OOBINLINE, SO_PRIORITY,
    SO_PROTOCOL, SO_RCVBUF, SO_RCVBUFFORCE, SO_RCVLOWAT, SO_REUSEADDR, SO_REUSEPORT, SO_RXQ_OVFL,
    SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT, SO_SNDTIMEO, SO_TIMESTAMP, SO_TYPE, SOL_IP, SOL_SOCKET,
    SOL_TCP, SOL_UDP,
};

checks! {
    what_a_socket_says_of_itself
    options_that_are_only_read
    switches_of_sockets
    switches_of_ip
    buffers_are_doubled_and_bounded
    values_of_the_time_to_live
    values_of_multicast_options
    values_of_path_mtu_discovery
    unknown_options
    lengths_of_values
    lengths_of_ip_values
    room_for_answers
    room_for_ip_answers
    binding_to_a_device
    priorities_and_marks
    lingering
    the_least_to_receive
    the_path_mtu
    the_send_time_out
    binding_to_an_index
}

fn what_a_socket_says_of_itself(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (label, name) in [
        ("type", SO_TYPE),
        ("protocol", SO_PROTOCOL),
        ("domain", SO_DOMAIN),
        ("listens", SO_ACCEPTCONN),
        ("error", SO_ERROR),
        ("receive buffer", SO_RCVBUF),
        ("send buffer", SO_SNDBUF),
        ("priority", SO_PRIORITY),
        ("reuse address", SO_REUSEADDR),
        ("reuse port", SO_REUSEPORT),
        ("broadcast", SO_BROADCAST),
        ("keep alive", SO_KEEPALIVE),
        ("don't route", SO_DONTROUTE),
        ("out of band in line", SO_OOBINLINE),
        ("no checksums", SO_NO_CHECK),
        ("receive low-water", SO_RCVLOWAT),
        ("send low-water", SO_SNDLOWAT),
        ("time stamps", SO_TIMESTAMP),
        ("mark", SO_MARK),
        ("overflows", SO_RXQ_OVFL),
    ] {
        p.get(label, fd, (SOL_SOCKET, name));
    }
    for (label, name) in [
        ("tos", IP_TOS),
        ("ttl", IP_TTL),
        ("mtu discovery", IP_MTU_DISCOVER),
        ("errors", IP_RECVERR),
        ("packet info", IP_PKTINFO),
        ("ttl told", IP_RECVTTL),
        ("tos told", IP_RECVTOS),
        ("group ttl", IP_MULTICAST_TTL),
        ("group loop", IP_MULTICAST_LOOP),
        ("free bind", IP_FREEBIND),
    ] {
        p.get(label, fd, (SOL_IP, name));
    }
}

fn options_that_are_only_read(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_ERROR, SO_ACCEPTCONN, SO_SNDLOWAT] {
        let _ = p.set(&format!("option {name}"), fd, (SOL_SOCKET, name), 1);
    }
    let _ = p.set("path MTU", fd, (SOL_IP, IP_MTU), 1500);
}

fn switches_of_sockets(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [
        SO_REUSEADDR,
        SO_REUSEPORT,
        SO_BROADCAST,
        SO_KEEPALIVE,
        SO_DONTROUTE,
        SO_OOBINLINE,
        SO_NO_CHECK,
        SO_RXQ_OVFL,
        SO_TIMESTAMP,
    ] {
        for value in [1, 0, 2, -1] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            p.get("read back", fd, (SOL_SOCKET, name));
        }
    }
}

fn switches_of_ip(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVERR, IP_FREEBIND, IP_MULTICAST_LOOP] {
        for value in [1, 0, 2, 256, -1] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_IP, name), value);
            p.get("read back", fd, (SOL_IP, name));
        }
    }
}

fn buffers_are_doubled_and_bounded(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [SO_RCVBUF, SO_SNDBUF] {
        for value in [0, 1, 1000, 5000, 100_000, 106_496] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            p.get("read back", fd, (SOL_SOCKET, name));
        }
        // Where the bound is, is a sysctl's business; it is the same for all of these.
        let mut bounds = Vec::new();
        for value in [1_000_000_000, i32::MAX, -1, i32::MIN] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            bounds.push(p.calls.getsockopt(fd, SOL_SOCKET, name, 4).ok());
        }
        bounds.dedup();
        p.note("one bound", bounds.len());
    }
    for (name, read) in [(SO_RCVBUFFORCE, SO_RCVBUF), (SO_SNDBUFFORCE, SO_SNDBUF)] {
        for value in [0, 1_000_000, i32::MAX, -1] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            p.get("read back", fd, (SOL_SOCKET, read));
        }
        p.get("only set", fd, (SOL_SOCKET, name));
    }
}

fn values_of_the_time_to_live(p: &mut Probe<'_>) {
    let fd = p.udp();
    for value in [1, 64, 255, 0, 256, -1, -2] {
        let _ = p.set(&format!("ttl {value}"), fd, (SOL_IP, IP_TTL), value);
        p.get("read back", fd, (SOL_IP, IP_TTL));
    }
}

fn values_of_multicast_options(p: &mut Probe<'_>) {
    let fd = p.udp();
    for value in [0, 1, 255, 256, -1, -2] {
        let _ = p.set(&format!("group ttl {value}"), fd, (SOL_IP, IP_MULTICAST_TTL), value);
        p.get("read back", fd, (SOL_IP, IP_MULTICAST_TTL));
    }
}

fn values_of_path_mtu_discovery(p: &mut Probe<'_>) {
    let fd = p.udp();
    for value in [0, 1, 2, 3, 4, 5, 6, -1] {
        let _ = p.set(&format!("discovery {value}"), fd, (SOL_IP, IP_MTU_DISCOVER), value);
        p.get("read back", fd, (SOL_IP, IP_MTU_DISCOVER));
    }
}

fn unknown_options(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (label, level, name) in [
        ("of sockets", SOL_SOCKET, 999),
        ("of sockets, negative", SOL_SOCKET, -1),
        ("of IP", SOL_IP, 999),
        ("of IP, negative", SOL_IP, -1),
        ("of UDP", SOL_UDP, 999),
        ("of TCP", SOL_TCP, 1),
        ("of IPv6", 41, 1),
        ("of raw sockets", 255, 1),
        ("of a level there is not", 999, 1),
        ("of a negative level", -1, 1),
    ] {
        let _ = p.set(&format!("set {label}"), fd, (level, name), 1);
        p.get(&format!("get {label}"), fd, (level, name));
        let _ = p.set_bytes(&format!("set {label}, no value"), fd, (level, name), &[]);
    }
}

fn lengths_of_values(p: &mut Probe<'_>) {
    let fd = p.udp();
    let long = [&int(1)[..], &[9; 12]].concat();
    for len in [0, 1, 3, 4, 5, 16] {
        let value = &long[..len];
        for name in [SO_BROADCAST, SO_RCVBUF, SO_LINGER, SO_TIMESTAMP, SO_TYPE] {
            let label = format!("option {name}, {len} bytes");
            let _ = p.set_bytes(&label, fd, (SOL_SOCKET, name), value);
        }
        let _ = p.set_bytes(&format!("cork, {len} bytes"), fd, (SOL_UDP, 1), value);
        p.get("broadcast", fd, (SOL_SOCKET, SO_BROADCAST));
    }
}

fn lengths_of_ip_values(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [IP_TTL, IP_TOS, IP_RECVTTL, IP_MULTICAST_TTL, IP_MTU_DISCOVER, 999] {
        for value in [&[][..], &[2], &[2, 9], &[2, 9, 9], &[2, 0, 0, 0], &[2, 0, 0, 0, 9]] {
            let label = format!("option {name}, {} bytes", value.len());
            let _ = p.set_bytes(&label, fd, (SOL_IP, name), value);
            p.get("read back", fd, (SOL_IP, name));
        }
    }
}

fn room_for_answers(p: &mut Probe<'_>) {
    let fd = p.udp();
    for room in [0, 1, 2, 3, 4, 5, 8, 64, -1] {
        for name in [SO_TYPE, SO_RCVBUF, SO_LINGER, SO_SNDTIMEO, SO_BINDTODEVICE, 999] {
            let label = format!("option {name}, room for {room}");
            p.get_bytes(&label, fd, (SOL_SOCKET, name), room);
        }
        p.get_bytes(&format!("cork, room for {room}"), fd, (SOL_UDP, 1), room);
    }
}

fn room_for_ip_answers(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.with(fd, (SOL_IP, IP_TTL), 200);
    for room in [0, 1, 2, 3, 4, 5, 8, 64, -1] {
        for name in [IP_TTL, IP_RECVTTL, IP_MTU, 999] {
            p.get_bytes(&format!("option {name}, room for {room}"), fd, (SOL_IP, name), room);
        }
    }
    let _ = p.connect("connected", fd, LO, 4001);
    for room in [1, 2, 4] {
        p.get_bytes(&format!("path MTU, room for {room}"), fd, (SOL_IP, IP_MTU), room);
    }
}

fn binding_to_a_device(p: &mut Probe<'_>) {
    let option = (SOL_SOCKET, SO_BINDTODEVICE);
    let fd = p.udp();
    p.get_bytes("none", fd, option, 16);
    for name in [
        &b"lo"[..],
        b"lo\0",
        b"lo\0rubbish",
        b"eth0",
        b"none0",
        b"a name that is too long",
        b"123456789012345",
        b"1234567890123456",
        b"\0",
        b"",
    ] {
        let label = format!("{:?}", String::from_utf8_lossy(name));
        let _ = p.set_bytes(&label, fd, option, name);
        p.get_bytes("read back", fd, option, 16);
    }
    let _ = p.set_bytes("eth0", fd, option, b"eth0");
    for room in [0, 1, 4, 5, 15, 16, 17] {
        p.get_bytes(&format!("room for {room}"), fd, option, room);
    }
}

fn priorities_and_marks(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in [SO_PRIORITY, SO_MARK] {
        for value in [0, 6, 7, 1000, -1] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            p.get("read back", fd, (SOL_SOCKET, name));
        }
    }
}

fn lingering(p: &mut Probe<'_>) {
    let fd = p.udp();
    let option = (SOL_SOCKET, SO_LINGER);
    p.get_bytes("none", fd, option, 8);
    for (on, secs) in [(1, 5), (1, 0), (0, 7), (2, 100_000)] {
        let value = [int(on), int(secs)].concat();
        let _ = p.set_bytes(&format!("{on} and {secs}"), fd, option, &value);
        p.get_bytes("read back", fd, option, 8);
    }
    let _ = p.set("half", fd, option, 1);
}

fn the_least_to_receive(p: &mut Probe<'_>) {
    let fd = p.udp();
    for value in [5, 0, -1, i32::MAX, i32::MIN] {
        let _ = p.set(&format!("low-water {value}"), fd, (SOL_SOCKET, SO_RCVLOWAT), value);
        p.get("read back", fd, (SOL_SOCKET, SO_RCVLOWAT));
    }
    let receiver = p.bound(LO, 4001);
    p.with(receiver, (SOL_SOCKET, SO_RCVLOWAT), 100);
    let _ = p.sendto("less than that", fd, b"x", LO, 4001);
    p.mask("datagrams don't mind", receiver);
    p.recvfrom("arrived", receiver, 8, 0);
}

fn the_path_mtu(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.get("no peer", fd, (SOL_IP, IP_MTU));
    for ip in [LO, [192, 0, 2, 77], [198, 51, 100, 1], [198, 51, 100, 2]] {
        let _ = p.connect(&format!("{ip:?}"), fd, ip, 4001);
        p.get("path MTU", fd, (SOL_IP, IP_MTU));
    }
    let ret = p.calls.connect(fd, &[0; 16]);
    let _ = p.ret("no peer", ret);
    p.get("path MTU", fd, (SOL_IP, IP_MTU));
}

fn the_send_time_out(p: &mut Probe<'_>) {
    let fd = p.udp();
    let option = (SOL_SOCKET, SO_SNDTIMEO);
    for (secs, micros) in [(1_i64, 0_i64), (0, 20_000), (0, 2_000_000), (-1, 5), (0, 0)] {
        let value = [secs, micros].map(i64::to_ne_bytes).concat();
        let _ = p.set_bytes(&format!("{secs} s {micros} µs"), fd, option, &value);
        p.get_bytes("read back", fd, option, 16);
    }
}

fn binding_to_an_index(p: &mut Probe<'_>) {
    let fd = p.udp();
    for index in [1, 2, 77, -1, 0] {
        let _ = p.set(&format!("index {index}"), fd, (SOL_SOCKET, SO_BINDTOIFINDEX), index);
        p.get("read back", fd, (SOL_SOCKET, SO_BINDTOIFINDEX));
        p.get_bytes("by name", fd, (SOL_SOCKET, SO_BINDTODEVICE), 16);
    }
}
