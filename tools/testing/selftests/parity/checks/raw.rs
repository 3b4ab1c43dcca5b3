//! Raw sockets: what they get, what they send, what can be set.

use super::attach_filter::{attach, equal, ld, ret};
use super::checks;
use crate::probe::{ANY, BROADCAST, ETH, FOREIGN, GROUP, Ip, LO, NET, Probe, control, int, sa};
use crate::{Outgoing, Room};
use klib::checksum::{csum_fold, csum_partial};
use uapi::filter::{BPF_ABS, BPF_B};
use uapi::icmp::ICMP_FILTER;
use uapi::in_::*;
use uapi::socket::*;

checks! {
    raw_sockets_that_can_be_made
    raw_sockets_get_a_copy_of_echoes
    raw_sockets_get_a_copy_of_datagrams
    raw_sockets_bound_and_connected
    raw_sockets_bound_wrongly
    raw_sockets_of_a_protocol_nobody_knows
    raw_headers_filled_in
    raw_headers_that_are_none
    raw_messages_that_can_not_be_sent
    raw_filters_of_icmp
    raw_filters_of_bpf
    raw_options
    raw_control_data
    raw_errors_are_told
    raw_errors_are_queued
    raw_sockets_cut_and_peek
    raw_sockets_poll
    raw_ttl_and_tos
    raw_sockets_of_a_device
}

const ICMP: i32 = 1;
const HDRINCL: (i32, i32) = (SOL_IP, IP_HDRINCL);
/// For experiments (RFC 3692): nobody handles it.
const OURS: i32 = 253;

fn raw(p: &mut Probe<'_>, protocol: i32) -> i32 {
    let fd = p.calls.socket(AF_INET, SOCK_RAW, protocol);
    fd.unwrap_or_else(|_| p.ret("a raw socket", fd).map_or(-1, |fd| fd)) as i32
}

/// A message of ICMP with its sum.
pub(super) fn icmp(type_: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[type_, code, 0, 0][..], &rest, data].concat();
    let sum = csum_fold(csum_partial(&message, 0));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn echo(data: &[u8]) -> Vec<u8> {
    icmp(8, 0, [0, 7, 0, 1], data)
}

/// A header of IP of 20 octets, and what follows it.
fn header(protocol: u8, [saddr, daddr]: [Ip; 2], data: &[u8]) -> Vec<u8> {
    let first = [0x45, 0, 0, 0, 0, 0, 0, 0, 33, protocol, 0, 0];
    [&first[..], &saddr, &daddr, data].concat()
}

/// What came, but for what differs from datagram to datagram: identification and sum.
fn seen(p: &mut Probe<'_>, label: &str, fd: i32) {
    let mut got = p.calls.recvfrom(fd, 200, MSG_DONTWAIT | MSG_TRUNC);
    // An error quotes a header with the same.
    let quotes = got.data.get(9) == Some(&1) && got.data.get(20) == Some(&3);
    let places = if quotes { &[4, 5, 10, 11, 22, 23, 32, 33, 38, 39][..] } else { &[4, 5, 10, 11] };
    for at in places {
        if let Some(octet) = got.data.get_mut(*at) {
            *octet = b'.';
        }
    }
    p.got(label, got);
}

fn raw_sockets_that_can_be_made(p: &mut Probe<'_>) {
    for protocol in [0, 1, 2, 6, 17, 47, 253, 255, 256, 262, 263, -1] {
        let fd = p.socket(&format!("of {protocol}"), AF_INET, SOCK_RAW, protocol);
        let Ok(fd) = fd else { continue };
        let fd = fd as i32;
        p.names("its names", fd);
        for option in [SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_REUSEADDR] {
            p.get(&format!("option {option}"), fd, (SOL_SOCKET, option));
        }
        p.get("header", fd, HDRINCL);
        p.drop_all(&[fd]);
    }
}

fn raw_sockets_get_a_copy_of_echoes(p: &mut Probe<'_>) {
    let fd = raw(p, ICMP);
    let _ = p.sendto("an echo", fd, &echo(b"hello there"), LO, 0);
    for _ in 0..3 {
        seen(p, "seen", fd);
    }
    let _ = p.sendto("to any", fd, &echo(b"hello there"), ANY, 77);
    for _ in 0..3 {
        seen(p, "seen", fd);
    }
}

fn raw_sockets_get_a_copy_of_datagrams(p: &mut Probe<'_>) {
    let fds = [raw(p, 17), raw(p, 17), raw(p, ICMP), raw(p, 6)];
    let to = p.bound(LO, 4000);
    let from = p.joined(4001, 4000);
    let _ = p.send("sent", from, b"hello", 0);
    p.recvfrom("the reader has it", to, 99, 0);
    for fd in fds {
        seen(p, "raw", fd);
        seen(p, "raw", fd);
    }
    let _ = p.sendto("to a closed port", from, b"hello", LO, 4999);
    for fd in fds {
        seen(p, "raw", fd);
        seen(p, "raw", fd);
    }
}

fn raw_sockets_bound_and_connected(p: &mut Probe<'_>) {
    let sender = raw(p, OURS);
    for (label, local, peer) in [
        ("to any", ANY, ANY),
        ("to loopback", LO, ANY),
        ("to another address", NET, ANY),
        ("to a peer", ANY, LO),
        ("to another peer", ANY, NET),
        ("to a group", GROUP, ANY),
    ] {
        p.within(label);
        let fd = raw(p, OURS);
        let _ = p.bind("bound", fd, local, 99);
        if peer != ANY {
            let _ = p.connect("connected", fd, peer, 88);
            let _ = p.bind("bound again", fd, LO, 0);
        }
        p.names("names", fd);
        let _ = p.sendto("sent", sender, b"to loopback", LO, 0);
        let _ = p.sendto("sent", sender, b"to another", NET, 0);
        seen(p, "seen", fd);
        seen(p, "seen", fd);
        seen(p, "seen", fd);
        let unspec = p.calls.connect(fd, &[0; 16]);
        let _ = p.ret("freed", unspec);
        p.names("names", fd);
        let _ = p.sendto("sent", sender, b"once more", LO, 0);
        seen(p, "seen", fd);
        p.drop_all(&[fd]);
    }
}

fn raw_sockets_bound_wrongly(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    let _ = p.bind("a foreign address", fd, FOREIGN, 0);
    let name = sa(LO, 0);
    for len in [0, 2, 8, 15] {
        let ret = p.calls.bind(fd, &name[..len]);
        let _ = p.ret("short", ret);
    }
    let mut other = name;
    other[0] = 9;
    let ret = p.calls.bind(fd, &other);
    let _ = p.ret("another family", ret);
    p.names("names", fd);
    let _ = p.bind("broadcast", fd, BROADCAST, 0);
    p.names("names", fd);
}

fn raw_sockets_of_a_protocol_nobody_knows(p: &mut Probe<'_>) {
    let errors = raw(p, ICMP);
    let fd = raw(p, OURS);
    let _ = p.sendto("somebody listens", fd, b"hello", LO, 0);
    seen(p, "seen", fd);
    seen(p, "no error", errors);
    let other = raw(p, 254);
    let _ = p.bind("elsewhere", other, NET, 0);
    let _ = p.sendto("nobody listens", other, b"hello", LO, 0);
    seen(p, "not seen", other);
    seen(p, "an error", errors);
    seen(p, "and no other", errors);
}

fn raw_headers_filled_in(p: &mut Probe<'_>) {
    let reader = raw(p, OURS);
    let fd = raw(p, 255);
    p.recvfrom("it is for sending", fd, 99, 0);
    for (label, saddr) in [("a source", NET), ("none", ANY), ("a foreign one", FOREIGN)] {
        let _ = p.sendto(label, fd, &header(OURS as u8, [saddr, LO], b"hello"), LO, 0);
        seen(p, "seen", reader);
    }
    let mut known = header(OURS as u8, [LO, LO], b"known");
    known[4..6].copy_from_slice(&[1, 2]);
    known[2..4].copy_from_slice(&[9, 9]);
    let _ = p.sendto("identification, length, sum", fd, &known, LO, 0);
    p.recvfrom("seen whole", reader, 99, 0);
    let own = raw(p, OURS);
    let _ = p.set("with its own", own, HDRINCL, 1);
    p.get("with its own", own, HDRINCL);
    let _ = p.sendto("sent", own, &header(OURS as u8, [ANY, NET], b"other"), LO, 0);
    seen(p, "by the way of the call, to the header's", reader);
    let mut options = header(OURS as u8, [LO, LO], b"");
    options[0] = 0x46;
    options.extend_from_slice(&[1, 1, 1, 0]);
    options.extend_from_slice(b"behind options");
    let _ = p.sendto("options", own, &options, LO, 0);
    seen(p, "seen", reader);
}

fn raw_headers_that_are_none(p: &mut Probe<'_>) {
    let reader = raw(p, OURS);
    let fd = raw(p, 255);
    let whole = header(OURS as u8, [LO, LO], b"x");
    for len in [0, 1, 19] {
        let _ = p.sendto("short", fd, &whole[..len], LO, 0);
    }
    for first in [0x46, 0x4f, 0x44, 0x40, 0x35, 0x65] {
        let mut bad = whole.clone();
        bad[0] = first;
        let _ = p.sendto(&format!("begins with {first:#x}"), fd, &bad, LO, 0);
        seen(p, "nothing", reader);
    }
    let _ = p.sendto("no payload", fd, &whole[..20], LO, 0);
    seen(p, "seen", reader);
}

fn raw_messages_that_can_not_be_sent(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    let _ = p.send("to nobody", fd, b"x", 0);
    let _ = p.sendto("too long", fd, &vec![0; 65_536], LO, 0);
    let _ = p.sendto("to a broadcast", fd, b"x", [198, 51, 100, 255], 0);
    let _ = p.sendto("without a route", fd, b"x", FOREIGN, 0);
    let _ = p.set("with a header", fd, HDRINCL, 1);
    let long = header(OURS as u8, [ETH, [198, 51, 100, 7]], &[0; 1481]);
    let _ = p.sendto("over the MTU", fd, &long, [198, 51, 100, 7], 0);
    let name = sa(LO, 0);
    for len in [1, 8, 15] {
        let ret = p.calls.sendto(fd, b"x", 0, Some(&name[..len]));
        let _ = p.ret("a short name", ret);
    }
    for family in [0, 9] {
        let mut other = name.clone();
        other[0] = family;
        let ret = p.calls.sendto(fd, &header(OURS as u8, [LO, LO], b""), 0, Some(&other));
        let _ = p.ret("another family", ret);
    }
    let ret = p.calls.sendto(fd, b"x", MSG_OOB, Some(&name));
    let _ = p.ret("out of band", ret);
    let ping = raw(p, ICMP);
    for len in [0, 1, 2, 8] {
        let _ = p.sendto("ICMP cut off", ping, &echo(b"")[..len], LO, 0);
    }
    for protocol in [OURS, ICMP] {
        let fd = raw(p, protocol);
        let _ = p.shutdown("shut down", fd, SHUT_WR);
        let _ = p.connect("connected", fd, LO, 0);
        let _ = p.shutdown("shut down", fd, SHUT_WR);
        let _ = p.send("after shutdown", fd, &echo(b"x"), 0);
    }
}

fn raw_filters_of_icmp(p: &mut Probe<'_>) {
    let fd = raw(p, ICMP);
    let filter = (SOL_RAW, ICMP_FILTER);
    p.get("new", fd, filter);
    let _ = p.set("no echo requests", fd, filter, 1 << 8);
    p.get("kept", fd, filter);
    let _ = p.sendto("an echo", fd, &echo(b"hello"), LO, 0);
    seen(p, "the answer", fd);
    seen(p, "nothing more", fd);
    let _ = p.set("only what is unknown", fd, filter, -1);
    let _ = p.sendto("an echo", fd, &echo(b"hello"), LO, 0);
    seen(p, "nothing", fd);
    let _ = p.sendto("type 40", fd, &icmp(40, 0, [0; 4], b"x"), LO, 0);
    seen(p, "seen", fd);
    for len in [0, 1, 3, 9] {
        let _ = p.set_bytes("length", fd, filter, &vec![0; len]);
        p.get("kept", fd, filter);
    }
    p.get_bytes("into little room", fd, filter, 2);
    p.get_bytes("into more room", fd, filter, 9);
    p.get_bytes("negative", fd, filter, -1);
    let other = raw(p, OURS);
    let _ = p.set("of another protocol", other, filter, 1);
    p.get("of another protocol", other, filter);
    let _ = p.set("no such option", fd, (SOL_RAW, 9), 1);
    p.get("no such option", fd, (SOL_RAW, 9));
    let udp = p.udp();
    let _ = p.set("of a datagram socket", udp, filter, 1);
    p.get("of a datagram socket", udp, filter);
}

fn raw_filters_of_bpf(p: &mut Probe<'_>) {
    let by_protocol = equal(&[ld(BPF_B | BPF_ABS, 9)], OURS as u32);
    let by_data = equal(&[ld(BPF_B | BPF_ABS, 20)], b'h'.into());
    for program in [by_protocol, by_data, vec![ret(23)], vec![ret(1)], vec![ret(0)]] {
        let fd = raw(p, OURS);
        attach(p, fd, &program);
        let _ = p.sendto("sent", fd, b"hello", LO, 0);
        let _ = p.sendto("sent", fd, b"other", LO, 0);
        seen(p, "seen", fd);
        seen(p, "seen", fd);
        p.drop_all(&[fd]);
    }
}

fn raw_options(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    for value in [1, 0, 5] {
        let _ = p.set("header", fd, HDRINCL, value);
        p.get("header", fd, HDRINCL);
    }
    for option in [SO_PEEK_OFF, SO_BROADCAST, SO_REUSEADDR, SO_REUSEPORT, SO_ZEROCOPY] {
        let _ = p.set(&format!("option {option}"), fd, (SOL_SOCKET, option), 1);
    }
    let udp = p.udp();
    let _ = p.set("of a datagram socket", udp, HDRINCL, 1);
    p.get("of a datagram socket", udp, HDRINCL);
    for level in [SOL_TCP, SOL_UDP, 999, OURS] {
        let _ = p.set("no such level", fd, (level, 1), 1);
        p.get("no such level", fd, (level, 1));
    }
}

fn raw_control_data(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    for option in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        p.with(fd, (SOL_IP, option), 1);
    }
    p.with(fd, (SOL_SOCKET, SO_TIMESTAMP), 1);
    for told in [
        vec![(SOL_IP, IP_TTL, int(9))],
        vec![(SOL_IP, IP_TOS, int(0x10))],
        vec![(SOL_IP, IP_PKTINFO, [&[0; 4][..], &NET, &[0; 4]].concat())],
        vec![(SOL_IP, 99, int(1))],
        vec![(SOL_SOCKET, SO_PRIORITY, int(1)), (999, 1, int(1))],
    ] {
        let told: Vec<_> =
            told.iter().map(|(level, kind, data)| (*level, *kind, &data[..])).collect();
        let msg =
            Outgoing { name: Some(sa(LO, 0)), parts: vec![b"x".to_vec()], control: control(&told) };
        let _ = p.sendmsg("sent", fd, &msg, 0);
        let mut got = p.calls.recvmsg(fd, &Room { parts: vec![99], control: 200 }, MSG_DONTWAIT);
        for at in [4, 5, 10, 11] {
            if let Some(octet) = got.data.get_mut(at) {
                *octet = b'.';
            }
        }
        p.got("came", got);
    }
}

/// A raw socket whose protocol nobody knows at the address that it sends to.
fn refused(p: &mut Probe<'_>) -> i32 {
    let fd = raw(p, OURS);
    let _ = p.bind("at another address", fd, NET, 0);
    fd
}

fn raw_errors_are_told(p: &mut Probe<'_>) {
    let fd = refused(p);
    let _ = p.sendto("not connected", fd, b"x", LO, 0);
    p.get("no error", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.connect("connected", fd, LO, 0);
    let _ = p.send("sent", fd, b"x", 0);
    p.mask("an error", fd);
    p.recvfrom("told", fd, 99, 0);
    let _ = p.send("sent", fd, b"x", 0);
    let _ = p.send("told the next sender", fd, b"x", 0);
    p.get("told", fd, (SOL_SOCKET, SO_ERROR));
}

fn raw_errors_are_queued(p: &mut Probe<'_>) {
    for hdrincl in [0, 1] {
        let fd = refused(p);
        p.with(fd, HDRINCL, hdrincl);
        p.with(fd, (SOL_IP, IP_RECVERR), 1);
        let data =
            if hdrincl == 0 { b"some data".to_vec() } else { header(253, [NET, LO], b"some data") };
        let _ = p.sendto("sent", fd, &data, LO, 0);
        p.mask("an error", fd);
        p.recvfrom("told", fd, 99, 0);
        let got = p.calls.recvmsg(
            fd,
            &Room { parts: vec![99], control: 200 },
            MSG_ERRQUEUE | MSG_DONTWAIT,
        );
        p.note("octets", got.data.len());
        p.got("report", crate::Got { data: Vec::new(), ..got });
        p.recvmsg("no more", fd, (99, 200), MSG_ERRQUEUE);
        p.drop_all(&[fd]);
    }
}

fn raw_sockets_cut_and_peek(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    for text in [&b"first"[..], b"second", b"third"] {
        let _ = p.sendto("sent", fd, text, LO, 0);
    }
    let cut = |p: &mut Probe<'_>, label: &str, len, flags| {
        let got = p.calls.recvfrom(fd, len, flags | MSG_DONTWAIT);
        p.note(label, format!("{:?} {:#x} {:?}", got.ret, got.flags, got.name));
    };
    cut(p, "peeked", 99, MSG_PEEK);
    cut(p, "peeked, cut", 9, MSG_PEEK | MSG_TRUNC);
    cut(p, "cut", 9, 0);
    cut(p, "cut and told", 9, MSG_TRUNC);
    cut(p, "into nothing", 0, 0);
    cut(p, "out of band", 9, MSG_OOB);
    cut(p, "nothing", 9, 0);
}

fn raw_sockets_poll(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    p.mask("idle", fd);
    let _ = p.sendto("sent", fd, b"x", LO, 0);
    p.mask("readable", fd);
    let _ = p.ioctl("octets", fd, uapi::sockios::FIONREAD, 0);
    let _ = p.ioctl("to send", fd, uapi::sockios::SIOCOUTQ, 0);
    seen(p, "read", fd);
    p.mask("idle", fd);
    let ret = p.calls.listen(fd, 1);
    let _ = p.ret("listen", ret);
}

fn raw_ttl_and_tos(p: &mut Probe<'_>) {
    let fd = raw(p, OURS);
    p.with(fd, (SOL_IP, IP_TTL), 5);
    p.with(fd, (SOL_IP, IP_TOS), 0x1c);
    let _ = p.sendto("sent", fd, b"x", LO, 0);
    seen(p, "seen", fd);
    for discover in [IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO] {
        p.with(fd, (SOL_IP, IP_MTU_DISCOVER), discover);
        let _ = p.sendto("sent", fd, b"x", LO, 0);
        seen(p, "seen", fd);
    }
    let _ = p.sendto("to all hosts", fd, b"x", GROUP, 0);
}

fn raw_sockets_of_a_device(p: &mut Probe<'_>) {
    let sender = raw(p, OURS);
    for name in [&b"lo\0"[..], b"eth0\0", b"nothing\0"] {
        let fd = raw(p, OURS);
        let _ = p.set_bytes("bound", fd, (SOL_SOCKET, SO_BINDTODEVICE), name);
        let _ = p.sendto("sent", sender, b"x", LO, 0);
        seen(p, "seen", fd);
        p.drop_all(&[fd]);
    }
}
