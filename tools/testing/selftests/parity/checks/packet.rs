//! Packet sockets: what they see, what they send, what can be set.

use super::attach_filter::{attach, equal, ld, ret};
use super::checks;
use crate::probe::{LO, Probe, control};
use crate::{Got, Outgoing};
use uapi::filter::{BPF_ABS, BPF_H, BPF_W, SKF_AD_OFF, SKF_AD_PKTTYPE};
use uapi::if_packet::*;
use uapi::socket::*;

checks! {
    packet_sockets_that_can_be_made
    packet_sockets_see_both_ways_on_loopback
    packet_sockets_of_one_ethertype
    packet_datagrams_begin_with_the_network_header
    packet_sockets_do_not_see_their_own
    packet_sockets_bound_and_named
    packet_sockets_bound_wrongly
    packet_sockets_bound_again
    packet_frames_sent
    packet_frames_that_can_not_be_sent
    packet_datagrams_sent
    packet_sockets_cut_and_peek
    packet_filters_see_the_link_header
    packet_statistics_are_read_once
    packet_auxdata_is_told
    packet_times_are_told
    packet_drops_are_counted_and_told
    packet_options_are_kept
    packet_options_that_there_are_not
    packet_memberships
    packet_sockets_ignore_what_leaves
    packet_sockets_at_the_socket_level
    packet_calls_that_there_are_not
    packet_sockets_poll
    packet_messages_several
}

/// The index of `lo`, and of `eth0`.
pub(super) const LO_IF: i32 = 1;
pub(super) const ETH_IF: i32 = 2;
/// For experiments: nobody else sends it.
pub(super) const OURS: u16 = 0x88b5;
const IP: u16 = 0x0800;
const ALL_P: u16 = 3;

/// A `sockaddr_ll`.
pub(super) fn sll(ifindex: i32, protocol: u16, addr: &[u8]) -> Vec<u8> {
    let mut eight = [0; 8];
    eight[..addr.len()].copy_from_slice(addr);
    let halen = addr.len() as u8;
    SockaddrLl { protocol, ifindex, halen, addr: eight, ..SockaddrLl::default() }
        .to_bytes()
        .to_vec()
}

/// A packet socket; noted only if there is none.
pub(super) fn packet(p: &mut Probe<'_>, kind: i32, protocol: u16) -> i32 {
    let fd = p.calls.socket(AF_PACKET, kind, i32::from(protocol.to_be()));
    fd.unwrap_or_else(|_| p.ret("a packet socket", fd).map_or(-1, |fd| fd)) as i32
}

/// One that is bound to `lo`.
pub(super) fn on_lo(p: &mut Probe<'_>, kind: i32, protocol: u16) -> i32 {
    let fd = packet(p, kind, 0);
    bind(p, "bound", fd, &sll(LO_IF, protocol, &[]));
    fd
}

pub(super) fn bind(p: &mut Probe<'_>, label: &str, fd: i32, name: &[u8]) {
    let ret = p.calls.bind(fd, name);
    let _ = p.ret(label, ret);
}

/// A frame to nobody in particular on loopback.
pub(super) fn frame(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &protocol.to_be_bytes(), payload].concat()
}

/// Sends to an address, and lets it arrive.
pub(super) fn send_to(p: &mut Probe<'_>, label: &str, fd: i32, data: &[u8], name: &[u8]) {
    let name = (!name.is_empty()).then_some(name);
    let ret = p.calls.sendto(fd, data, MSG_DONTWAIT, name);
    p.calls.settle();
    let _ = p.ret(label, ret);
}

/// A datagram from one socket of this host to another.
fn datagram(p: &mut Probe<'_>, data: &[u8]) {
    let to = p.bound(LO, 4000);
    let from = p.joined(4001, 4000);
    let _ = p.send("sent", from, data, 0);
    p.drop_all(&[to, from]);
}

/// What came, but for what differs from datagram to datagram: identifications and sums.
fn seen(p: &mut Probe<'_>, label: &str, fd: i32, ip_at: usize) {
    let mut got = p.calls.recvfrom(fd, 200, MSG_DONTWAIT);
    for at in [4, 5, 10, 11, 26, 27] {
        if let Some(octet) = got.data.get_mut(ip_at + at) {
            *octet = b'.';
        }
    }
    p.got(label, got);
}

pub(super) fn received(p: &mut Probe<'_>, label: &str, fd: i32) -> Got {
    p.recvfrom(label, fd, 200, MSG_TRUNC)
}

fn packet_sockets_that_can_be_made(p: &mut Probe<'_>) {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET, 4] {
        let _ = p.socket("no such type", AF_PACKET, kind, 0);
    }
    for kind in [SOCK_RAW, SOCK_DGRAM, SOCK_RAW | SOCK_NONBLOCK] {
        for protocol in [0, 0x0300, -1, 0x7fff_ffff] {
            let _ = p.socket("made", AF_PACKET, kind, protocol);
        }
    }
    let _ = p.socket("flags", AF_PACKET, SOCK_RAW | 0x1000, 0);
}

fn packet_sockets_see_both_ways_on_loopback(p: &mut Probe<'_>) {
    let fd = on_lo(p, SOCK_RAW, ALL_P);
    datagram(p, b"hello");
    for _ in 0..3 {
        seen(p, "seen", fd, 14);
    }
}

fn packet_sockets_of_one_ethertype(p: &mut Probe<'_>) {
    let [ip, arp] = [packet(p, SOCK_RAW, IP), packet(p, SOCK_RAW, 0x0806)];
    let everywhere = packet(p, SOCK_DGRAM, IP);
    let bound = on_lo(p, SOCK_RAW, IP);
    let elsewhere = packet(p, SOCK_RAW, 0);
    bind(p, "to eth0", elsewhere, &sll(ETH_IF, IP, &[]));
    datagram(p, b"hello");
    for (label, fd) in [("IP", ip), ("ARP", arp), ("bound", bound), ("elsewhere", elsewhere)] {
        seen(p, label, fd, 14);
        seen(p, label, fd, 14);
    }
    seen(p, "datagram", everywhere, 0);
    seen(p, "datagram", everywhere, 0);
}

fn packet_datagrams_begin_with_the_network_header(p: &mut Probe<'_>) {
    let fd = on_lo(p, SOCK_DGRAM, ALL_P);
    datagram(p, b"hello");
    for _ in 0..3 {
        seen(p, "seen", fd, 0);
    }
}

fn packet_sockets_do_not_see_their_own(p: &mut Probe<'_>) {
    let own = on_lo(p, SOCK_RAW, ALL_P);
    let other = on_lo(p, SOCK_RAW, ALL_P);
    send_to(p, "sent", own, &frame(OURS, b"to all"), &[]);
    for fd in [own, other] {
        for _ in 0..3 {
            received(p, "seen", fd);
        }
    }
}

fn packet_sockets_bound_and_named(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, ALL_P);
    p.names("new", fd);
    bind(p, "to lo", fd, &sll(LO_IF, 0, &[]));
    p.names("lo", fd);
    bind(p, "to IP", fd, &sll(LO_IF, IP, &[]));
    p.names("IP on lo", fd);
    bind(p, "to all", fd, &sll(0, OURS, &[]));
    p.names("all", fd);
    bind(p, "to eth0", fd, &sll(ETH_IF, OURS, &[]));
    // Its address is the host's business.
    let name = p.calls.getsockname(fd).map(|name| (name.len(), name[..12].to_vec()));
    p.note("eth0", format!("{name:?}"));
}

fn packet_sockets_bound_wrongly(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, ALL_P);
    let good = sll(LO_IF, IP, &[]);
    for len in [0, 1, 2, 12, 18, 19] {
        bind(p, "short", fd, &good[..len]);
    }
    let mut other = good.clone();
    other[0] = 2;
    bind(p, "another family", fd, &other);
    for index in [-1, 99, 70_000, i32::MAX] {
        bind(p, "no such device", fd, &sll(index, IP, &[]));
    }
    p.names("as before", fd);
    bind(p, "long", fd, &[good, vec![0; 20]].concat());
    p.names("bound", fd);
}

fn packet_sockets_bound_again(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, 0);
    datagram(p, b"nobody looks");
    received(p, "nothing", fd);
    bind(p, "to a device, and no ethertype", fd, &sll(LO_IF, 0, &[]));
    datagram(p, b"nobody looks");
    received(p, "nothing", fd);
    bind(p, "to an ethertype", fd, &sll(0, IP, &[]));
    datagram(p, b"once");
    seen(p, "once", fd, 14);
    seen(p, "once", fd, 14);
    bind(p, "the same", fd, &sll(0, IP, &[]));
    bind(p, "to all", fd, &sll(LO_IF, ALL_P, &[]));
    datagram(p, b"twice");
    for _ in 0..3 {
        seen(p, "twice", fd, 14);
    }
}

fn packet_frames_sent(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = packet(p, SOCK_RAW, 0);
    send_to(p, "without a name", fd, &frame(OURS, b"x"), &[]);
    send_to(p, "to lo", fd, &frame(OURS, b"with a name"), &sll(LO_IF, OURS, &[]));
    send_to(p, "with a lie", fd, &frame(OURS, b"with a lie"), &sll(LO_IF, IP, &[]));
    bind(p, "bound", fd, &sll(LO_IF, 0, &[]));
    send_to(p, "bound", fd, &frame(OURS, b"bound"), &[]);
    send_to(p, "no payload", fd, &frame(OURS, b""), &[]);
    for _ in 0..5 {
        received(p, "seen", reader);
    }
}

fn packet_frames_that_can_not_be_sent(p: &mut Probe<'_>) {
    let fd = on_lo(p, SOCK_RAW, OURS);
    for len in [0, 1, 13] {
        send_to(p, "short", fd, &vec![0; len], &[]);
    }
    let good = sll(LO_IF, OURS, &[0; 6]);
    for len in [1, 12, 18, 19] {
        send_to(p, "a short name", fd, &frame(OURS, b"x"), &good[..len]);
    }
    let mut long = good.clone();
    long[11] = 9;
    send_to(p, "a name that says it is longer", fd, &frame(OURS, b"x"), &long);
    let mut other = good;
    other[0] = 2;
    send_to(p, "another family", fd, &frame(OURS, b"x"), &other);
    for index in [0, -1, 99] {
        send_to(p, "no such device", fd, &frame(OURS, b"x"), &sll(index, OURS, &[]));
    }
    for len in [1500 - 1, 1500, 1501, 1504, 1505] {
        send_to(p, "long", fd, &frame(OURS, &vec![7; len]), &sll(ETH_IF, OURS, &[]));
        send_to(p, "tagged", fd, &frame(0x8100, &vec![7; len]), &sll(ETH_IF, OURS, &[]));
    }
    let msg = Outgoing {
        parts: vec![frame(OURS, b"x")],
        control: control(&[(SOL_SOCKET, 999, &[0; 4])]),
        ..Outgoing::default()
    };
    let _ = p.sendmsg("control data", fd, &msg, 0);
}

fn packet_datagrams_sent(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let all = on_lo(p, SOCK_RAW, ALL_P);
    let fd = packet(p, SOCK_DGRAM, 0);
    send_to(p, "without a name", fd, b"x", &[]);
    send_to(p, "to lo", fd, b"with an address", &sll(LO_IF, OURS, &[2, 0, 0, 0, 0, 9]));
    send_to(p, "to lo", fd, b"without one", &sll(LO_IF, OURS, &[]));
    send_to(p, "a length", fd, b"802.3", &sll(LO_IF, 4, &[2, 0, 0, 0, 0, 9]));
    send_to(p, "nothing", fd, b"", &sll(LO_IF, OURS, &[]));
    send_to(p, "long", fd, &[0; 1501], &sll(ETH_IF, OURS, &[2, 0, 0, 0, 0, 9]));
    bind(p, "bound", fd, &sll(LO_IF, OURS, &[]));
    send_to(p, "bound", fd, b"bound", &[]);
    for _ in 0..5 {
        received(p, "seen", reader);
    }
    for _ in 0..10 {
        received(p, "all", all);
    }
    bind(p, "to eth0", fd, &sll(ETH_IF, OURS, &[]));
    send_to(p, "to nobody on eth0", fd, b"bound", &[]);
}

fn packet_sockets_cut_and_peek(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = on_lo(p, SOCK_RAW, 0);
    for text in ["the first", "the second", "the third"] {
        send_to(p, "sent", fd, &frame(OURS, text.as_bytes()), &[]);
    }
    p.recvfrom("peeked", reader, 200, MSG_PEEK);
    p.recvfrom("peeked, cut", reader, 16, MSG_PEEK | MSG_TRUNC);
    p.recvfrom("cut", reader, 16, 0);
    p.recvfrom("cut and told", reader, 16, MSG_TRUNC);
    p.recvfrom("into nothing", reader, 0, 0);
    for flags in [MSG_OOB, MSG_WAITALL, MSG_ERRQUEUE, MSG_CMSG_CLOEXEC] {
        p.recvfrom("flags", reader, 100, flags);
    }
}

fn packet_filters_see_the_link_header(p: &mut Probe<'_>) {
    let by_type = equal(&[ld(BPF_H | BPF_ABS, 12)], OURS.into());
    let outgoing = equal(&[ld(BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE)], 4);
    let by_data = equal(&[ld(BPF_W | BPF_ABS, 0)], u32::from_be_bytes(*b"good"));
    for (kind, program) in [
        (SOCK_RAW, by_type.clone()),
        (SOCK_DGRAM, by_type),
        (SOCK_RAW, outgoing.clone()),
        (SOCK_DGRAM, outgoing),
        (SOCK_RAW, by_data.clone()),
        (SOCK_DGRAM, by_data),
        (SOCK_RAW, vec![ret(16)]),
        (SOCK_DGRAM, vec![ret(3)]),
    ] {
        let reader = on_lo(p, kind, ALL_P);
        attach(p, reader, &program);
        let fd = on_lo(p, SOCK_RAW, 0);
        send_to(p, "sent", fd, &frame(OURS, b"good one"), &[]);
        for _ in 0..3 {
            p.recvfrom("seen", reader, 100, MSG_TRUNC);
        }
        p.get_bytes("counted", reader, (SOL_PACKET, PACKET_STATISTICS), 8);
        p.drop_all(&[reader, fd]);
    }
}

fn packet_statistics_are_read_once(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = on_lo(p, SOCK_RAW, 0);
    p.get_bytes("none", reader, (SOL_PACKET, PACKET_STATISTICS), 8);
    for _ in 0..3 {
        send_to(p, "sent", fd, &frame(OURS, b"x"), &[]);
    }
    p.get_bytes("into little room", reader, (SOL_PACKET, PACKET_STATISTICS), 4);
    p.get_bytes("once", reader, (SOL_PACKET, PACKET_STATISTICS), 64);
    send_to(p, "sent", fd, &frame(OURS, b"x"), &[]);
    p.get_bytes("three", reader, (SOL_PACKET, PACKET_STATISTICS), 8);
    p.get_bytes("again", reader, (SOL_PACKET, PACKET_STATISTICS), -1);
}

fn packet_auxdata_is_told(p: &mut Probe<'_>) {
    for kind in [SOCK_RAW, SOCK_DGRAM] {
        let reader = on_lo(p, kind, ALL_P);
        p.with(reader, (SOL_PACKET, PACKET_AUXDATA), 1);
        p.get("auxdata", reader, (SOL_PACKET, PACKET_AUXDATA));
        let fd = on_lo(p, SOCK_RAW, 0);
        send_to(p, "sent", fd, &frame(OURS, b"some data"), &[]);
        for _ in 0..3 {
            p.recvmsg("told", reader, (100, 100), MSG_DONTWAIT);
        }
        send_to(p, "sent", fd, &frame(OURS, b"some data"), &[]);
        p.recvmsg("cut", reader, (4, 24), MSG_DONTWAIT);
        p.recvmsg("no room", reader, (4, 0), MSG_DONTWAIT);
        p.drop_all(&[reader, fd]);
    }
}

fn packet_times_are_told(p: &mut Probe<'_>) {
    for option in [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW] {
        let reader = packet(p, SOCK_RAW, OURS);
        p.with(reader, (SOL_SOCKET, option), 1);
        p.with(reader, (SOL_PACKET, PACKET_AUXDATA), 1);
        let fd = on_lo(p, SOCK_RAW, 0);
        send_to(p, "sent", fd, &frame(OURS, b"x"), &[]);
        p.recvmsg("told", reader, (100, 100), MSG_DONTWAIT);
        p.drop_all(&[reader, fd]);
    }
}

fn packet_drops_are_counted_and_told(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    p.with(reader, (SOL_SOCKET, SO_RCVBUF), 0);
    p.with(reader, (SOL_SOCKET, SO_RXQ_OVFL), 1);
    let fd = on_lo(p, SOCK_RAW, 0);
    for _ in 0..50 {
        let _ = p.calls.sendto(fd, &frame(OURS, &[9; 1000]), 0, None);
    }
    p.calls.settle();
    let all = p.calls.getsockopt(reader, SOL_PACKET, PACKET_STATISTICS, 8).unwrap_or_default();
    let word =
        |at: usize| all.get(at..at + 4).map_or(0, |w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]]));
    p.note("seen and lost", word(0));
    p.note("some were lost", word(4) > 0 && word(4) < 50);
    while p.calls.recvfrom(reader, 10, MSG_DONTWAIT).ret.is_ok() {}
    send_to(p, "sent", fd, &frame(OURS, b"x"), &[]);
    let got = p.calls.recvmsg(reader, &crate::Room { parts: vec![99], control: 99 }, MSG_DONTWAIT);
    p.note("told", got.control.len());
}

fn packet_options_are_kept(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, 0);
    for option in [
        PACKET_AUXDATA,
        PACKET_ORIGDEV,
        PACKET_LOSS,
        PACKET_TIMESTAMP,
        PACKET_COPY_THRESH,
        PACKET_VERSION,
        PACKET_RESERVE,
        PACKET_IGNORE_OUTGOING,
        PACKET_QDISC_BYPASS,
    ] {
        p.within(&format!("option {option}"));
        p.get("new", fd, (SOL_PACKET, option));
        for value in [1, 2, 0, -1, 3] {
            let _ = p.set("set", fd, (SOL_PACKET, option), value);
            p.get("kept", fd, (SOL_PACKET, option));
        }
        for len in [0, 3, 5, 8] {
            let _ = p.set_bytes("length", fd, (SOL_PACKET, option), &vec![0; len]);
        }
        p.get_bytes("into little room", fd, (SOL_PACKET, option), 2);
        p.get_bytes("into more room", fd, (SOL_PACKET, option), 9);
    }
}

fn packet_options_that_there_are_not(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, 0);
    for option in [0, 4, 99, PACKET_RECV_OUTPUT, -1] {
        let _ = p.set("no such option", fd, (SOL_PACKET, option), 1);
        p.get("no such option", fd, (SOL_PACKET, option));
    }
    for level in [SOL_IP, SOL_UDP, SOL_TCP, SOL_RAW, 999] {
        let _ = p.set("no such level", fd, (level, 1), 1);
        p.get("no such level", fd, (level, 1));
    }
    p.get("statistics of going over", fd, (SOL_PACKET, PACKET_ROLLOVER_STATS));
    let udp = p.udp();
    let _ = p.set("of a datagram socket", udp, (SOL_PACKET, PACKET_AUXDATA), 1);
    p.get("of a datagram socket", udp, (SOL_PACKET, PACKET_AUXDATA));
}

/// A `packet_mreq`.
fn mreq(ifindex: i32, kind: u16, alen: u16, addr: &[u8]) -> Vec<u8> {
    let mut all = [&ifindex.to_ne_bytes()[..], &kind.to_ne_bytes(), &alen.to_ne_bytes()].concat();
    all.extend_from_slice(addr);
    all.resize(all.len().max(16), 0);
    all
}

fn packet_memberships(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, 0);
    let add = (SOL_PACKET, PACKET_ADD_MEMBERSHIP);
    let drop = (SOL_PACKET, PACKET_DROP_MEMBERSHIP);
    let group = [1, 0, 0x5e, 0, 0, 9];
    for (label, value) in [
        ("promiscuous", mreq(ETH_IF, 1, 0, &[])),
        ("all groups", mreq(ETH_IF, 2, 0, &[])),
        ("a group", mreq(ETH_IF, 0, 6, &group)),
        ("an address", mreq(ETH_IF, 3, 6, &[2, 0, 0, 0, 0, 7])),
        ("a short address", mreq(ETH_IF, 0, 5, &group)),
        ("a long address", mreq(ETH_IF, 0, 7, &[1; 7])),
        ("a longer address", mreq(ETH_IF, 1, 9, &[1; 9])),
        ("no such kind", mreq(ETH_IF, 9, 0, &[])),
        ("no such device", mreq(99, 1, 0, &[])),
        ("less than it says", mreq(ETH_IF, 1, 20, &[])),
        ("short", vec![0; 15]),
    ] {
        p.within(label);
        let _ = p.set_bytes("dropped early", fd, drop, &value);
        let _ = p.set_bytes("added", fd, add, &value);
        let _ = p.set_bytes("added twice", fd, add, &value);
        for _ in 0..3 {
            let _ = p.set_bytes("dropped", fd, drop, &value);
        }
    }
}

fn packet_sockets_ignore_what_leaves(p: &mut Probe<'_>) {
    let reader = on_lo(p, SOCK_RAW, ALL_P);
    p.with(reader, (SOL_PACKET, PACKET_IGNORE_OUTGOING), 1);
    let fd = on_lo(p, SOCK_RAW, 0);
    send_to(p, "sent", fd, &frame(OURS, b"x"), &[]);
    received(p, "came", reader);
    received(p, "nothing more", reader);
    p.with(reader, (SOL_PACKET, PACKET_IGNORE_OUTGOING), 0);
    send_to(p, "sent", fd, &frame(OURS, b"y"), &[]);
    for _ in 0..3 {
        received(p, "both", reader);
    }
}

fn packet_sockets_at_the_socket_level(p: &mut Probe<'_>) {
    for kind in [SOCK_RAW, SOCK_DGRAM] {
        let fd = packet(p, kind, ALL_P);
        for option in [SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_ERROR, SO_RCVLOWAT] {
            p.get(&format!("option {option}"), fd, (SOL_SOCKET, option));
        }
        for option in [SO_PEEK_OFF, SO_BROADCAST, SO_REUSEADDR, SO_REUSEPORT, SO_ZEROCOPY] {
            let _ = p.set(&format!("option {option}"), fd, (SOL_SOCKET, option), 1);
        }
        let _ = p.set_bytes("a device", fd, (SOL_SOCKET, SO_BINDTODEVICE), b"lo\0");
    }
}

fn packet_calls_that_there_are_not(p: &mut Probe<'_>) {
    let fd = packet(p, SOCK_RAW, ALL_P);
    let to = sll(LO_IF, IP, &[]);
    let ret = p.calls.connect(fd, &to);
    let _ = p.ret("connect", ret);
    let ret = p.calls.listen(fd, 1);
    let _ = p.ret("listen", ret);
    let ret = p.calls.accept4(fd, 0);
    let _ = p.ret("accept", ret);
    let _ = p.shutdown("shutdown", fd, SHUT_RDWR);
    let peer = p.calls.getpeername(fd);
    p.note("getpeername", format!("{peer:?}"));
    let _ = p.ioctl("queued", fd, uapi::sockios::FIONREAD, 0);
    let _ = p.ioctl("to send", fd, uapi::sockios::SIOCOUTQ, 0);
    p.ioctl_bytes("index", fd, uapi::sockios::SIOCGIFINDEX, &[&b"eth0"[..], &[0; 36]].concat());
}

fn packet_sockets_poll(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = on_lo(p, SOCK_RAW, 0);
    p.mask("idle", reader);
    send_to(p, "sent", fd, &frame(OURS, b"x"), &[]);
    p.mask("readable", reader);
    let _ = p.ioctl("octets", reader, uapi::sockios::FIONREAD, 0);
    received(p, "read", reader);
    p.mask("idle", reader);
    received(p, "nothing", reader);
}

fn packet_messages_several(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = on_lo(p, SOCK_RAW, 0);
    let msg = |text: &[u8]| Outgoing { parts: vec![frame(OURS, text)], ..Outgoing::default() };
    let short = Outgoing { parts: vec![vec![0; 3]], ..Outgoing::default() };
    let ret = p.calls.sendmmsg(fd, &[msg(b"one"), msg(b"two"), short, msg(b"three")], 0);
    p.calls.settle();
    let _ = p.ret("sent", ret);
    let rooms = vec![crate::Room::of(50); 4];
    let got = p.calls.recvmmsg(reader, &rooms, MSG_DONTWAIT, None);
    for one in got.unwrap_or_default() {
        p.got("came", one);
    }
}
