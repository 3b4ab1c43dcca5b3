//! setsockopt(2) and getsockopt(2) of stream sockets.

use super::checks;
use super::stream_lib::{SILENT, bound, disconnect, listener, pair, tcp, tcp_now};
use crate::Probe;
use crate::probe::{LO, int};
use uapi::in_::{IP_MTU, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTOS, IP_RECVTTL, IP_TOS, IP_TTL};
use uapi::socket::{
    SHUT_WR, SO_ACCEPTCONN, SO_BROADCAST, SO_DOMAIN, SO_DONTROUTE, SO_ERROR, SO_KEEPALIVE,
    SO_LINGER, SO_MARK, SO_MAX_PACING_RATE, SO_NO_CHECK, SO_OOBINLINE, SO_PRIORITY, SO_PROTOCOL,
    SO_RCVBUF, SO_RCVLOWAT, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SO_SNDLOWAT, SO_TIMESTAMP,
    SO_TYPE, SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP,
};
use uapi::tcp::{
    TCP_CC_INFO, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_INFO, TCP_INQ, TCP_KEEPCNT,
    TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG, TCP_NODELAY, TCP_NOTSENT_LOWAT,
    TCP_QUICKACK, TCP_SAVE_SYN, TCP_SAVED_SYN, TCP_SYNCNT, TCP_THIN_DUPACK,
    TCP_THIN_LINEAR_TIMEOUTS, TCP_TIMESTAMP, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP,
};

checks! {
    stream_what_a_socket_says_of_itself
    stream_what_tcp_says_of_itself
    stream_options_only_read
    stream_values_of_nodelay
    stream_values_of_cork
    stream_values_of_maxseg
    stream_values_of_keepidle
    stream_values_of_keepintvl
    stream_values_of_keepcnt
    stream_values_of_syncnt
    stream_values_of_defer_accept
    stream_values_of_window_clamp
    stream_values_of_quickack
    stream_values_of_user_timeout
    stream_values_of_notsent_lowat
    stream_values_of_inq
    stream_values_of_save_syn
    stream_values_of_thin_streams
    stream_values_of_timestamp
    stream_lengths_of_values
    stream_room_for_answers
    stream_unknown_options
    stream_names_of_congestion_control
    stream_congestion_control_of_a_connection
    stream_information_of_congestion_control
    stream_information_of_a_fresh_socket
    stream_information_of_a_connection
    stream_information_of_traffic
    stream_information_in_little_room
    stream_keepalive
    stream_buffers_are_doubled_and_bounded
    stream_switches_of_sockets
    stream_the_greatest_pace
    stream_values_of_the_type_of_service
    stream_values_of_the_time_to_live
    stream_the_path_mtu
    stream_options_of_other_protocols
    stream_options_survive_disconnecting
    stream_options_of_a_listener
    stream_the_size_of_segments
}

const DEFAULTS: [(&str, i32); 19] = [
    ("nodelay", TCP_NODELAY),
    ("maxseg", TCP_MAXSEG),
    ("cork", TCP_CORK),
    ("keepidle", TCP_KEEPIDLE),
    ("keepintvl", TCP_KEEPINTVL),
    ("keepcnt", TCP_KEEPCNT),
    ("syncnt", TCP_SYNCNT),
    ("linger2", TCP_LINGER2),
    ("defer accept", TCP_DEFER_ACCEPT),
    ("window clamp", TCP_WINDOW_CLAMP),
    ("quickack", TCP_QUICKACK),
    ("thin timeouts", TCP_THIN_LINEAR_TIMEOUTS),
    ("thin dupack", TCP_THIN_DUPACK),
    ("user timeout", TCP_USER_TIMEOUT),
    ("notsent lowat", TCP_NOTSENT_LOWAT),
    ("save syn", TCP_SAVE_SYN),
    ("inq", TCP_INQ),
    ("saved syn", TCP_SAVED_SYN),
    ("nothing", 0),
];

fn stream_what_a_socket_says_of_itself(p: &mut Probe<'_>) {
    let fd = tcp(p);
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
    ] {
        p.get(label, fd, (SOL_SOCKET, name));
    }
    p.get_bytes("linger", fd, (SOL_SOCKET, SO_LINGER), 8);
}

fn stream_what_tcp_says_of_itself(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for (label, name) in DEFAULTS {
        p.get(label, fd, (SOL_TCP, name));
    }
}

fn stream_options_only_read(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for name in [TCP_INFO, TCP_CC_INFO, TCP_SAVED_SYN] {
        let _ = p.set(&format!("TCP {name}"), fd, (SOL_TCP, name), 1);
    }
    for name in [SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_ERROR, SO_ACCEPTCONN, SO_SNDLOWAT] {
        let _ = p.set(&format!("socket {name}"), fd, (SOL_SOCKET, name), 1);
    }
}

/// Sets values, on a fresh socket and on a connected one.
fn values(p: &mut Probe<'_>, option: i32, values: &[i32]) {
    let fresh = tcp(p);
    let connected = pair(p, 4000).client;
    for (label, fd) in [("fresh", fresh), ("connected", connected)] {
        p.within(label);
        for value in values {
            let _ = p.set(&format!("{value}"), fd, (SOL_TCP, option), *value);
            p.get("read back", fd, (SOL_TCP, option));
        }
    }
    p.within("");
}

const ODD: [i32; 4] = [-1, i32::MIN, i32::MAX, 0];

fn stream_values_of_nodelay(p: &mut Probe<'_>) {
    values(p, TCP_NODELAY, &[&[1, 2, 0, 256][..], &ODD].concat());
}

fn stream_values_of_cork(p: &mut Probe<'_>) {
    values(p, TCP_CORK, &[&[1, 2, 0, 256][..], &ODD].concat());
}

/// What a connected one reads back depends on the path: it is only set there.
fn stream_values_of_maxseg(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for value in [1, 47, 48, 87, 88, 536, 1460, 32_767, 32_768, 65_535, -1, i32::MAX, 0] {
        let _ = p.set(&format!("{value}"), fd, (SOL_TCP, TCP_MAXSEG), value);
        p.get("read back", fd, (SOL_TCP, TCP_MAXSEG));
    }
    let connected = pair(p, 4000).client;
    for value in [0, 1, 88, 1000, 32_768] {
        let _ = p.set(&format!("connected, {value}"), connected, (SOL_TCP, TCP_MAXSEG), value);
    }
}

fn stream_values_of_keepidle(p: &mut Probe<'_>) {
    values(p, TCP_KEEPIDLE, &[&[1, 32_767, 32_768, 100][..], &ODD].concat());
}

fn stream_values_of_keepintvl(p: &mut Probe<'_>) {
    values(p, TCP_KEEPINTVL, &[&[1, 32_767, 32_768, 100][..], &ODD].concat());
}

fn stream_values_of_keepcnt(p: &mut Probe<'_>) {
    values(p, TCP_KEEPCNT, &[&[1, 127, 128, 255, 256, 5][..], &ODD].concat());
}

fn stream_values_of_syncnt(p: &mut Probe<'_>) {
    values(p, TCP_SYNCNT, &[&[1, 127, 128, 255, 5][..], &ODD].concat());
}

/// Kept as a number of timeouts, so that it reads back larger.
fn stream_values_of_defer_accept(p: &mut Probe<'_>) {
    values(p, TCP_DEFER_ACCEPT, &[1, 2, 3, 4, 7, 8, 30, 60, 1000, -1, 0]);
}

fn stream_values_of_window_clamp(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for value in [1, 1151, 1152, 10_000, 100_000, i32::MAX, -1, 0] {
        let _ = p.set(&format!("{value}"), fd, (SOL_TCP, TCP_WINDOW_CLAMP), value);
        p.get("read back", fd, (SOL_TCP, TCP_WINDOW_CLAMP));
    }
    let connected = pair(p, 4000).client;
    for value in [0, 1000, 10_000] {
        let _ =
            p.set(&format!("connected, {value}"), connected, (SOL_TCP, TCP_WINDOW_CLAMP), value);
    }
    p.get("read back", connected, (SOL_TCP, TCP_WINDOW_CLAMP));
}

fn stream_values_of_quickack(p: &mut Probe<'_>) {
    values(p, TCP_QUICKACK, &[0, 1, 0, 2, 3, -1, i32::MAX, i32::MIN]);
}

fn stream_values_of_user_timeout(p: &mut Probe<'_>) {
    values(p, TCP_USER_TIMEOUT, &[&[1, 1000, 60_000][..], &ODD].concat());
}

fn stream_values_of_notsent_lowat(p: &mut Probe<'_>) {
    values(p, TCP_NOTSENT_LOWAT, &[&[1, 4096, 1 << 20][..], &ODD].concat());
}

fn stream_values_of_inq(p: &mut Probe<'_>) {
    values(p, TCP_INQ, &[&[1, 2, 0][..], &ODD].concat());
}

fn stream_values_of_save_syn(p: &mut Probe<'_>) {
    values(p, TCP_SAVE_SYN, &[&[1, 2, 3, 0][..], &ODD].concat());
}

fn stream_values_of_thin_streams(p: &mut Probe<'_>) {
    values(p, TCP_THIN_LINEAR_TIMEOUTS, &[1, 2, -1, 0]);
    let fd = tcp(p);
    for value in [1, 2, -1, 0] {
        let _ = p.set(&format!("dupack {value}"), fd, (SOL_TCP, TCP_THIN_DUPACK), value);
        p.get("read back", fd, (SOL_TCP, TCP_THIN_DUPACK));
    }
}

/// Only one in repair may set its clock.
fn stream_values_of_timestamp(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.set("set", fd, (SOL_TCP, TCP_TIMESTAMP), 1);
    let got = p.calls.getsockopt(fd, SOL_TCP, TCP_TIMESTAMP, 4);
    p.note("read", got.map_or_else(|error| -i64::from(error), |value| value.len() as i64));
}

fn stream_lengths_of_values(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for name in [TCP_NODELAY, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_LINGER2, TCP_MAXSEG] {
        p.within(&format!("option {name}"));
        for len in [0, 1, 3, 4, 5, 8, 100] {
            let mut value = vec![0; len];
            value.iter_mut().take(1).for_each(|first| *first = 100);
            let _ = p.set_bytes(&format!("{len} octets"), fd, (SOL_TCP, name), &value);
        }
        p.get("read back", fd, (SOL_TCP, name));
    }
    p.within("");
}

fn stream_room_for_answers(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.set("a value", fd, (SOL_TCP, TCP_USER_TIMEOUT), 0x0102_0304);
    for len in [0, 1, 2, 3, 4, 5, 8, 100, -1, i32::MIN] {
        p.get_bytes(&format!("{len} octets"), fd, (SOL_TCP, TCP_USER_TIMEOUT), len);
    }
    for len in [0, 1, 4, 15, 16, 17, 100, -1] {
        let got = p.calls.getsockopt(fd, SOL_TCP, TCP_CONGESTION, len);
        p.note(&format!("a name, {len}"), got.map_or_else(|e| -i64::from(e), |n| n.len() as i64));
    }
}

fn stream_unknown_options(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for name in [0, 15, 99, 1000, -1, i32::MAX] {
        let _ = p.set(&format!("set {name}"), fd, (SOL_TCP, name), 1);
        p.get(&format!("get {name}"), fd, (SOL_TCP, name));
    }
    for level in [2, 3, 77, 1000, -1] {
        let _ = p.set(&format!("set level {level}"), fd, (level, 1), 1);
        p.get(&format!("get level {level}"), fd, (level, 1));
    }
}

fn stream_names_of_congestion_control(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let option = (SOL_TCP, TCP_CONGESTION);
    for name in [
        &b"reno"[..],
        b"reno\0",
        b"reno\0and more",
        b"cubic",
        b"Reno",
        b"ren",
        b"none at all",
        b"a name that is longer than any can be",
        b"",
        b"\0",
        b"reno  ",
    ] {
        let label = String::from_utf8_lossy(name).replace('\0', "~");
        let _ = p.set_bytes(&format!("{label:?}"), fd, option, name);
        p.get_bytes("now", fd, option, 16);
    }
}

fn stream_congestion_control_of_a_connection(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for name in [&b"cubic"[..], b"none", b"reno", b"cubic"] {
        let label = String::from_utf8_lossy(name).into_owned();
        let _ = p.set_bytes(&label, pair.client, (SOL_TCP, TCP_CONGESTION), name);
        p.get_bytes("now", pair.client, (SOL_TCP, TCP_CONGESTION), 16);
        let _ = p.send("send", pair.client, b"data", 0);
        p.recvfrom("receive", pair.server, 8, 0);
    }
}

/// Reno and CUBIC have nothing to tell.
fn stream_information_of_congestion_control(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for name in [&b"reno"[..], b"cubic"] {
        let _ = p.set_bytes("name", fd, (SOL_TCP, TCP_CONGESTION), name);
        for len in [0, 4, 100, -1] {
            p.get_bytes(&format!("{len} octets"), fd, (SOL_TCP, TCP_CC_INFO), len);
        }
    }
}

/// Fields of `struct tcp_info` that neither time nor memory decides: their octets.
const INFO: [(&str, usize, usize); 13] = [
    ("state", 0, 1),
    ("congestion state", 1, 1),
    ("retransmits", 2, 1),
    ("probes", 3, 1),
    ("backoff", 4, 1),
    ("unacked", 24, 4),
    ("sacked", 28, 4),
    ("lost", 32, 4),
    ("retrans", 36, 4),
    ("reordering", 88, 4),
    ("total retrans", 100, 4),
    ("bytes received", 128, 8),
    ("not sent", 144, 4),
];

fn info(p: &mut Probe<'_>, fd: i32, fields: &[(&str, usize, usize)]) {
    let all = p.calls.getsockopt(fd, SOL_TCP, TCP_INFO, 248).unwrap_or_default();
    for (label, offset, len) in fields {
        let mut number = [0; 8];
        match all.get(*offset..offset + len) {
            Some(octets) => number[..*len].copy_from_slice(octets),
            None => p.note(label, "missing"),
        }
        p.note(label, u64::from_ne_bytes(number));
    }
}

fn stream_information_of_a_fresh_socket(p: &mut Probe<'_>) {
    let fd = tcp(p);
    info(p, fd, &INFO);
    info(p, fd, &[("options", 5, 1), ("window", 80, 4), ("threshold", 76, 4), ("timeout", 8, 4)]);
    let fd = bound(p, 4000);
    info(p, fd, &INFO);
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, SILENT, 4000);
    info(p, fd, &INFO);
}

fn stream_information_of_a_connection(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for (label, fd) in [("client", pair.client), ("server", pair.server)] {
        p.within(label);
        info(p, fd, &INFO);
        info(
            p,
            fd,
            &[
                ("options", 5, 1),
                ("scales", 6, 1),
                ("threshold", 76, 4),
                ("window", 80, 4),
                ("path MTU", 60, 4),
                ("advertised size", 84, 4),
                ("bytes acked", 120, 8),
                ("segments out", 136, 4),
                ("segments in", 140, 4),
                ("data segments in", 152, 4),
                ("data segments out", 156, 4),
                ("bytes sent", 200, 8),
                ("bytes sent again", 208, 8),
                ("duplicates", 216, 4),
                ("reorderings", 220, 4),
                ("out of order", 224, 4),
                ("timeouts", 240, 2),
            ],
        );
    }
    p.within("");
}

fn stream_information_of_traffic(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for _ in 0..3 {
        let _ = p.send("send", pair.client, b"0123456789", 0);
        p.recvfrom("receive", pair.server, 20, 0);
    }
    for (label, fd) in [("client", pair.client), ("server", pair.server)] {
        p.within(label);
        info(p, fd, &INFO);
        let traffic = [
            ("bytes acked", 120, 8),
            ("data segments in", 152, 4),
            ("data segments out", 156, 4),
            ("delivered", 192, 4),
            ("bytes sent", 200, 8),
            ("bytes sent again", 208, 8),
        ];
        info(p, fd, &traffic);
    }
    p.within("");
    let _ = p.set("cork", pair.client, (SOL_TCP, TCP_CORK), 1);
    let _ = p.send("send", pair.client, b"not yet", 0);
    info(p, pair.client, &[("not sent", 144, 4), ("unacked", 24, 4)]);
    disconnect(p, "disconnect", pair.client);
    info(p, pair.client, &[("state", 0, 1), ("unacked", 24, 4), ("bytes received", 128, 8)]);
}

fn stream_information_in_little_room(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for len in [0, 1, 2, 5, 104, 232, 248, -1] {
        let got = p.calls.getsockopt(fd, SOL_TCP, TCP_INFO, len);
        p.note(&format!("{len} octets"), got.map_or_else(|e| -i64::from(e), |n| n.len() as i64));
    }
}

fn stream_keepalive(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for (label, fd) in [("client", pair.client), ("listener", pair.listener)] {
        p.within(label);
        for value in [1, 2, -1, 0] {
            let _ = p.set(&format!("{value}"), fd, (SOL_SOCKET, SO_KEEPALIVE), value);
            p.get("read back", fd, (SOL_SOCKET, SO_KEEPALIVE));
        }
    }
    p.within("");
    let _ = p.send("send", pair.client, b"data", 0);
    p.recvfrom("receive", pair.server, 8, 0);
}

fn stream_buffers_are_doubled_and_bounded(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for name in [SO_RCVBUF, SO_SNDBUF] {
        for value in [0, 1, 1000, 5000, 100_000, 106_496] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            p.get("read back", fd, (SOL_SOCKET, name));
        }
    }
}

fn stream_switches_of_sockets(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for name in [
        SO_REUSEADDR,
        SO_REUSEPORT,
        SO_BROADCAST,
        SO_DONTROUTE,
        SO_OOBINLINE,
        SO_NO_CHECK,
        SO_TIMESTAMP,
    ] {
        for value in [1, 0, 2, -1] {
            let _ = p.set(&format!("option {name} to {value}"), fd, (SOL_SOCKET, name), value);
            p.get("read back", fd, (SOL_SOCKET, name));
        }
    }
}

/// A rate of 4 octets, all ones for none, or of 8; read as wide as there is room for.
fn stream_the_greatest_pace(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let option = (SOL_SOCKET, SO_MAX_PACING_RATE);
    let read = |p: &mut Probe<'_>| {
        for room in [0, 3, 4, 7, 8, 9] {
            p.get_bytes(&format!("{room} octets"), fd, option, room);
        }
    };
    read(p);
    for rate in [1_000_000_u64, 0, u64::from(u32::MAX), 0x1_2345_6789, u64::MAX] {
        for len in [3, 4, 7, 8] {
            let _ =
                p.set_bytes(&format!("{rate} as {len}"), fd, option, &rate.to_ne_bytes()[..len]);
            read(p);
        }
    }
}

/// The two bits of ECN are TCP's own.
fn stream_values_of_the_type_of_service(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for value in [0x10, 0xff, 3, 1, 0xfc, 0x100, -1, 0] {
        let _ = p.set(&format!("{value:#x}"), fd, (SOL_IP, IP_TOS), value);
        p.get("read back", fd, (SOL_IP, IP_TOS));
        p.get("priority", fd, (SOL_SOCKET, SO_PRIORITY));
    }
}

fn stream_values_of_the_time_to_live(p: &mut Probe<'_>) {
    let fd = tcp(p);
    for value in [1, 255, 256, 0, -1, 64] {
        let _ = p.set(&format!("{value}"), fd, (SOL_IP, IP_TTL), value);
        p.get("read back", fd, (SOL_IP, IP_TTL));
    }
    for name in [IP_RECVTOS, IP_RECVTTL, IP_RECVERR] {
        let _ = p.set(&format!("option {name}"), fd, (SOL_IP, name), 1);
        p.get("read back", fd, (SOL_IP, name));
    }
}

fn stream_the_path_mtu(p: &mut Probe<'_>) {
    let fd = tcp(p);
    p.get("no path", fd, (SOL_IP, IP_MTU));
    p.get("discovery", fd, (SOL_IP, IP_MTU_DISCOVER));
    let pair = pair(p, 4000);
    p.get("client", pair.client, (SOL_IP, IP_MTU));
    p.get("server", pair.server, (SOL_IP, IP_MTU));
    p.get("listener", pair.listener, (SOL_IP, IP_MTU));
}

fn stream_options_of_other_protocols(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.set("UDP's on a stream", fd, (SOL_UDP, 1), 1);
    p.get("UDP's on a stream", fd, (SOL_UDP, 1));
    let udp = p.udp();
    let _ = p.set("TCP's on datagrams", udp, (SOL_TCP, TCP_NODELAY), 1);
    p.get("TCP's on datagrams", udp, (SOL_TCP, TCP_NODELAY));
}

fn stream_options_survive_disconnecting(p: &mut Probe<'_>) {
    let client = pair(p, 4000).client;
    let options = [
        (SOL_TCP, TCP_NODELAY, 1),
        (SOL_TCP, TCP_CORK, 1),
        (SOL_TCP, TCP_KEEPIDLE, 99),
        (SOL_TCP, TCP_KEEPCNT, 3),
        (SOL_TCP, TCP_USER_TIMEOUT, 777),
        (SOL_TCP, TCP_LINGER2, 9),
        (SOL_TCP, TCP_NOTSENT_LOWAT, 999),
        (SOL_SOCKET, SO_KEEPALIVE, 1),
        (SOL_SOCKET, SO_OOBINLINE, 1),
        (SOL_IP, IP_TTL, 9),
    ];
    for (level, name, value) in options {
        let _ = p.set(&format!("{level}/{name}"), client, (level, name), value);
    }
    disconnect(p, "disconnect", client);
    for (level, name, _) in options {
        p.get(&format!("{level}/{name}"), client, (level, name));
    }
    p.get("error", client, (SOL_SOCKET, SO_ERROR));
    let _ = p.connect("again", client, LO, 4000);
    for (level, name, _) in options {
        p.get(&format!("{level}/{name}"), client, (level, name));
    }
}

fn stream_options_of_a_listener(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    for (label, name) in DEFAULTS {
        p.get(label, fd, (SOL_TCP, name));
    }
    let got = p.calls.setsockopt(fd, SOL_TCP, TCP_NODELAY, &int(1));
    let _ = p.ret("no delay", got);
    let ret = p.calls.shutdown(fd, SHUT_WR);
    let _ = p.ret("shut", ret);
}

fn stream_the_size_of_segments(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    for size in [88, 536, 1000, 1460] {
        p.within(&format!("{size} octets"));
        let fd = tcp(p);
        p.with(fd, (SOL_TCP, TCP_MAXSEG), size);
        let _ = p.connect("connect", fd, LO, 4000);
        p.calls.settle();
        let server = super::stream_lib::accepted(p, listener);
        // Timestamps take twelve of them.
        p.get("client", fd, (SOL_TCP, TCP_MAXSEG));
        p.get("server", server, (SOL_TCP, TCP_MAXSEG));
        let _ = p.send("send", server, &[7; 3000], 0);
        // However many the kernel joins to one on its way: reading lets the rest come.
        let first = p.calls.recvfrom(fd, 4000, 0x140).data.len();
        p.calls.settle();
        let second = p.calls.recvfrom(fd, 4000, 0x140).data.len();
        p.note("received", first + second);
    }
    p.within("");
}
