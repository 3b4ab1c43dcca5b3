//! Datagrams in fragments: what leaves is read at the other end of the link, what comes is made there.

use super::checks;
use crate::probe::{ETH, control, int, sa};
use crate::wire::{PEER, Packet, Wire, icmp, octets, tcp};
use crate::{Outgoing, Probe};
use uapi::in_::*;
use uapi::ip::{IP_DF, IPPROTO_ICMP, IPPROTO_TCP};
use uapi::socket::{
    AF_INET, MSG_MORE, SO_BROADCAST, SO_NO_CHECK, SO_PEEK_OFF, SO_SNDBUF, SOCK_DGRAM,
    SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, SOL_IP, SOL_SOCKET, SOL_UDP,
};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN};
use uapi::udp::{UDP_CORK, UDP_SEGMENT};

checks! {
    wire_datagrams_longer_than_the_mtu
    wire_fragments_of_a_connected_socket
    wire_modes_of_what_fits
    wire_modes_of_what_does_not_fit
    wire_fragments_corked
    wire_fragments_corked_by_the_option
    wire_fragments_without_checksums
    wire_fragments_by_control_data
    wire_fragments_to_all
    wire_fragments_of_segments
    wire_fragments_and_little_room
    wire_echo_longer_than_the_mtu
    wire_syn_by_mode
    wire_raw_datagrams_longer_than_the_mtu
    wire_pings_longer_than_the_mtu
    fragments_in_any_order
    fragments_that_came_before
    fragments_that_overlap
    fragments_that_contradict_the_end
    fragments_of_odd_lengths
    fragments_of_several_datagrams
    fragments_of_eight_octets
    fragments_of_a_stream
    fragments_and_ecn
    fragments_too_far
    fragments_to_a_closed_port
    fragments_of_more_than_there_can_be
    fragments_peeked_and_cut
    fragments_told_of
    fragments_not_to_be_cut
    fragments_that_stay_alone
    fragments_without_the_first_that_stay_alone
    fragments_for_who_takes_none
}

fn peer() -> Vec<u8> {
    sa(PEER, 4001)
}

fn mode(p: &mut Probe<'_>, fd: i32, mode: i32) {
    p.with(fd, (SOL_IP, IP_MTU_DISCOVER), mode);
}

const MODES: [i32; 6] = [
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_WANT,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_INTERFACE,
    IP_PMTUDISC_OMIT,
];

fn wire_datagrams_longer_than_the_mtu(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    for len in [1472, 1473, 2952, 2953, 9000, 65_507, 65_508, 65_535, 65_536] {
        let _ = p.sendto(&format!("{len}"), fd, &octets(len), PEER, 4001);
        wire.note(p, &format!("{len}"));
    }
}

fn wire_raw_datagrams_longer_than_the_mtu(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.calls.socket(AF_INET, SOCK_RAW, 200).unwrap_or(-1) as i32;
    for value in MODES {
        mode(p, fd, value);
        for len in [1480, 1481, 9001, 65_515, 65_516] {
            let label = format!("mode {value}, {len}");
            let _ = p.sendto(&label, fd, &octets(len), PEER, 0);
            wire.note(p, &label);
        }
    }
}

fn wire_pings_longer_than_the_mtu(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    p.calls.allow_ping();
    let fd = p.calls.socket(AF_INET, SOCK_DGRAM, 1).unwrap_or(-1) as i32;
    let _ = p.bind("bound", fd, ETH, 77);
    for value in MODES {
        mode(p, fd, value);
        for len in [1480, 1481, 9001, 65_515, 65_516] {
            let label = format!("mode {value}, {len}");
            let mut echo = octets(len);
            echo[..8].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 1]);
            let _ = p.sendto(&label, fd, &echo, PEER, 0);
            wire.note(p, &label);
        }
    }
}

fn wire_fragments_of_a_connected_socket(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    let _ = p.connect("the peer", fd, PEER, 4001);
    for len in [3000, 10, 5000] {
        let _ = p.send(&format!("{len}"), fd, &octets(len), 0);
        wire.note(p, &format!("{len}"));
    }
}

fn wire_modes_of_what_fits(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    for connected in [false, true] {
        let fd = p.bound(ETH, 4000);
        if connected {
            let _ = p.connect("the peer", fd, PEER, 4001);
        }
        for value in MODES {
            mode(p, fd, value);
            for len in [10, 1472] {
                let _ = p.sendto(&format!("mode {value}, {len}"), fd, &octets(len), PEER, 4001);
                wire.note(p, &format!("mode {value}, {len}"));
            }
        }
        p.drop_all(&[fd]);
    }
}

fn wire_modes_of_what_does_not_fit(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    for value in MODES {
        mode(p, fd, value);
        for len in [1473, 65_507, 65_508] {
            let label = format!("mode {value}, {len}");
            let _ = p.sendto(&label, fd, &octets(len), PEER, 4001);
            wire.take(p, &label);
            p.recvmsg(&label, fd, (100, 256), uapi::socket::MSG_ERRQUEUE);
        }
    }
}

fn wire_fragments_corked(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    let _ = p.connect("the peer", fd, PEER, 4001);
    for lens in
        [[1000, 400, 72], [1000, 400, 73], [1, 3000, 1], [4000, 0, 4000], [60_000, 5_000, 507]]
    {
        for (at, len) in lens.into_iter().enumerate() {
            let flags = if at < 2 { MSG_MORE } else { 0 };
            let _ = p.send(&format!("{len}"), fd, &octets(len), flags);
        }
        wire.note(p, &format!("{lens:?}"));
    }
    let _ = p.send("much", fd, &octets(60_000), MSG_MORE);
    let _ = p.send("too much", fd, &octets(5_508), 0);
    let _ = p.send("the end", fd, b"x", 0);
    wire.note(p, "the end");
}

fn wire_fragments_corked_by_the_option(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    for value in [IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_OMIT] {
        mode(p, fd, value);
        p.with(fd, (SOL_UDP, UDP_CORK), 1);
        for len in [1000, 472, 1, 2000] {
            let _ = p.sendto(&format!("mode {value}, {len}"), fd, &octets(len), PEER, 4001);
        }
        wire.note(p, "still corked");
        let _ = p.set("uncorked", fd, (SOL_UDP, UDP_CORK), 0);
        wire.note(p, &format!("mode {value}"));
    }
}

fn wire_fragments_without_checksums(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    p.with(fd, (SOL_SOCKET, SO_NO_CHECK), 1);
    for len in [100, 2000] {
        let _ = p.sendto(&format!("{len}"), fd, &octets(len), PEER, 4001);
        wire.note(p, &format!("{len}"));
    }
}

fn wire_fragments_by_control_data(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    for (tos, ttl) in [(0x10, 9), (0x02, 255), (0xb8, 1)] {
        let both = [(SOL_IP, IP_TOS, &int(tos)[..]), (SOL_IP, IP_TTL, &int(ttl)[..])];
        let parts = vec![octets(1700), octets(0), octets(1301)];
        let msg = Outgoing { name: Some(peer()), parts, control: control(&both) };
        let _ = p.sendmsg(&format!("{tos} {ttl}"), fd, &msg, 0);
        wire.note(p, &format!("{tos} {ttl}"));
    }
}

fn wire_fragments_to_all(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    p.with(fd, (SOL_SOCKET, SO_BROADCAST), 1);
    let own = p.bound([0; 4], 4001);
    let _ = p.sendto("to all", fd, &octets(3000), [198, 51, 100, 255], 4001);
    wire.note(p, "to all");
    p.recvfrom("our own", own, 4000, 0);
}

fn wire_fragments_of_segments(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    let _ = p.connect("the peer", fd, PEER, 4001);
    for (size, len) in [(1472, 1472), (1473, 1473), (1473, 3000), (2000, 1400), (2000, 1500)] {
        p.with(fd, (SOL_UDP, UDP_SEGMENT), size);
        let _ = p.send(&format!("{len} by {size}"), fd, &octets(len), 0);
        wire.take(p, &format!("{len} by {size}"));
    }
}

fn wire_fragments_and_little_room(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    p.with(fd, (SOL_SOCKET, SO_SNDBUF), 1);
    for len in [1000, 2000, 40_000, 65_507, 2000] {
        let _ = p.sendto(&format!("{len}"), fd, &octets(len), PEER, 4001);
        wire.take(p, &format!("{len}"));
    }
    p.with(fd, (SOL_SOCKET, SO_SNDBUF), 200_000);
    let _ = p.sendto("more room", fd, &octets(65_507), PEER, 4001);
    wire.take(p, "more room");
}

fn wire_echo_longer_than_the_mtu(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    for (id, len) in [(1, 1472), (2, 1473), (3, 5000), (4, 65_507)] {
        let echo = Packet::of(IPPROTO_ICMP, id, icmp(8, 0, [0, 7, 0, 9], &octets(len)));
        wire.send(p, &echo.parts(1480));
        wire.note(p, &format!("{len}"));
    }
}

fn wire_syn_by_mode(p: &mut Probe<'_>) {
    let _wire = Wire::open(p);
    for value in MODES {
        let fd = p.socket("a stream", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0).unwrap_or(-1) as i32;
        mode(p, fd, value);
        let _ = p.connect("the peer", fd, PEER, 80);
        let frames = p.calls.wire_take();
        let flags: Vec<u8> = frames.iter().map(|frame| frame[14 + 6]).collect();
        p.note(&format!("mode {value}"), format!("{flags:?}"));
        let _ = p.close("closed", fd);
    }
}

/// A bound socket, and what comes for it.
fn begin(p: &mut Probe<'_>) -> (Wire, i32) {
    (Wire::open(p), p.bound(ETH, 4000))
}

/// What there is to read.
fn drain(p: &mut Probe<'_>, fd: i32) {
    for _ in 0..8 {
        if p.recvmsg("arrived", fd, (70_000, 128), 0).ret.is_err() {
            break;
        }
    }
}

fn fragments_in_any_order(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [0, 2, 1, 3]];
    for (id, order) in orders.into_iter().enumerate() {
        let parts = Packet::udp(4000, id as u16 + 1, 1200).parts(400);
        for at in order {
            wire.send(p, &[parts[at].clone()]);
        }
        drain(p, fd);
    }
}

fn fragments_that_came_before(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    // In order, out of order, a part of one, a part of two that followed one another, a part of two that did not.
    let cases: [&[(usize, usize)]; 6] = [
        &[(0, 400), (0, 400), (400, 800), (800, 1208)],
        &[(400, 800), (0, 400), (400, 800), (800, 1208)],
        &[(0, 400), (80, 160), (400, 800), (800, 1208)],
        &[(0, 400), (400, 800), (392, 800), (800, 1208)],
        &[(400, 800), (0, 400), (392, 800), (800, 1208)],
        &[(800, 1208), (800, 1208), (400, 800), (0, 400), (0, 400)],
    ];
    for (id, case) in cases.into_iter().enumerate() {
        let whole = Packet::udp(4000, id as u16 + 1, 1200);
        for (from, to) in case {
            wire.send(p, &[whole.part(*from, *to, *to != 1208)]);
        }
        p.note("case", id);
        drain(p, fd);
    }
}

fn fragments_that_overlap(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    let overlaps = [(392, 808), (0, 1000), (8, 800), (400, 808), (392, 800), (0, 408), (800, 1208)];
    for (id, (from, to)) in overlaps.into_iter().enumerate() {
        let whole = Packet::udp(4000, id as u16 + 1, 1200);
        wire.send(p, &[whole.part(0, 400, true), whole.part(800, 1208, false)]);
        wire.send(p, &[whole.part(from, to, true), whole.part(400, 800, true)]);
        p.note("case", id);
        drain(p, fd);
        // Whether it had to begin anew.
        wire.send(p, &[whole.part(800, 1208, false), whole.part(0, 400, true)]);
        drain(p, fd);
    }
}

fn fragments_that_contradict_the_end(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    let cases: [&[(usize, usize, bool)]; 5] = [
        &[(400, 800, false), (800, 1208, false), (0, 400, true), (400, 800, true)],
        &[(400, 800, false), (800, 1208, true), (0, 400, true), (400, 800, true)],
        &[(400, 800, true), (8, 392, false), (0, 400, true), (800, 1208, false)],
        &[(0, 400, true), (400, 400, true), (400, 800, true), (800, 1208, false)],
        &[(800, 1208, false), (400, 808, false), (0, 400, true), (400, 800, true)],
    ];
    for (id, case) in cases.into_iter().enumerate() {
        let whole = Packet::udp(4000, id as u16 + 1, 1200);
        for (from, to, more) in case {
            wire.send(p, &[whole.part(*from, *to, *more)]);
        }
        p.note("case", id);
        drain(p, fd);
    }
}

fn fragments_of_odd_lengths(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    for (id, odd) in [401, 404, 407].into_iter().enumerate() {
        let whole = Packet::udp(4000, id as u16 + 1, 1200);
        wire.send(p, &[whole.part(0, odd, true), whole.part(400, 1208, false)]);
        drain(p, fd);
    }
    let whole = Packet::udp(4000, 9, 1200);
    wire.send(p, &[whole.part(0, 7, true), whole.part(0, 400, true), whole.part(400, 1208, false)]);
    drain(p, fd);
    // A last one of one octet.
    wire.send(p, &Packet::udp(4000, 10, 1193).parts(1200));
    drain(p, fd);
}

fn fragments_of_several_datagrams(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    let other = p.bound(ETH, 4002);
    let all: Vec<Vec<Packet>> = [(4000, 1, 900), (4000, 2, 901), (4002, 3, 902), (4000, 4, 903)]
        .map(|(port, id, len)| Packet::udp(port, id, len).parts(304))
        .into();
    for at in 0..3 {
        all.iter().for_each(|parts| wire.send(p, &[parts[at].clone()]));
    }
    drain(p, fd);
    drain(p, other);
    // The same identification from somebody else, and of another protocol.
    let mine = Packet::udp(4000, 5, 900);
    let theirs = Packet { from: [198, 51, 100, 8], ..mine.clone() };
    let echo = Packet { protocol: IPPROTO_ICMP, ..mine.clone() };
    for (from, to) in [(0, 304), (304, 608), (608, 908)] {
        for packet in [&mine, &theirs, &echo] {
            wire.send(p, &[packet.part(from, to, to != 908)]);
        }
    }
    drain(p, fd);
}

fn fragments_of_eight_octets(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    for (id, len) in [(1, 0), (2, 1), (3, 100), (4, 400)] {
        wire.send(p, &Packet::udp(4000, id, len).parts(8));
        drain(p, fd);
    }
}

fn fragments_of_a_stream(p: &mut Probe<'_>) {
    let wire = Wire::open(p);
    let listener = p.socket("a listener", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0).unwrap_or(-1);
    let _ = p.bind("bound", listener as i32, ETH, 4000);
    let listened = p.calls.listen(listener as i32, 1);
    let _ = p.ret("listening", listened);
    let segment =
        |id, numbers, flags, data: &[u8]| Packet::of(IPPROTO_TCP, id, tcp(numbers, flags, data));
    // The SYN's header in three.
    wire.send(p, &segment(1, (1000, 0), TCPHDR_SYN, &[]).parts(8));
    let answers = p.calls.wire_take();
    p.note("answers", answers.len());
    let seq = answers.first().and_then(|frame| frame.get(38..42)?.try_into().ok());
    let ack = u32::from_be_bytes(seq.unwrap_or_default()).wrapping_add(1);
    wire.send(p, &[segment(2, (1001, ack), TCPHDR_ACK, &[])]);
    let accepted = p.calls.accept4(listener as i32, SOCK_NONBLOCK);
    let fd = p.ret("accepted", accepted).unwrap_or(-1) as i32;
    let data = octets(3000);
    for (id, size) in [(10, 8), (11, 400), (12, 1000)] {
        let from = (id as usize - 10) * 1000;
        let numbers = (1001 + from as u32, ack);
        let mut parts =
            segment(id, numbers, TCPHDR_ACK | TCPHDR_PSH, &data[from..from + 1000]).parts(size);
        parts.reverse();
        wire.send(p, &parts);
        p.recvfrom(&format!("by {size}"), fd, 4000, 0);
    }
    let answers = p.calls.wire_take();
    let last = answers.last().and_then(|frame| frame.get(42..46)).map(<[u8]>::to_vec);
    // By the last segment, whose numbers follow from the peer's.
    p.note("acknowledged", format!("{last:?}"));
    wire.send(p, &[segment(20, (4001, ack), TCPHDR_RST, &[])]);
    p.recvfrom("reset", fd, 10, 0);
}

fn fragments_and_ecn(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    p.with(fd, (SOL_IP, IP_RECVTOS), 1);
    let mut id = 0;
    for first in 0..4 {
        for second in 0..4 {
            id += 1;
            let mut parts = Packet::udp(4000, id, 700).parts(400);
            parts[0].tos = 0x40 | first;
            parts[1].tos = 0x80 | second;
            wire.send(p, &parts);
            p.note("ecn", format!("{first} {second}"));
            drain(p, fd);
        }
    }
}

fn fragments_too_far(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    p.calls.sysctl("net.ipv4.ipfrag_max_dist", "4");
    let mut other = 1000;
    for between in [2, 3, 4, 5, 6] {
        let parts = Packet::udp(4000, between, 700).parts(400);
        wire.send(p, &parts[..1]);
        for _ in 0..between {
            other += 1;
            wire.send(p, &Packet::udp(4000, other, 700).parts(400)[..1]);
        }
        wire.send(p, &parts[1..]);
        p.note("between", between);
        drain(p, fd);
    }
    p.calls.sysctl("net.ipv4.ipfrag_time", "1");
}

fn fragments_to_a_closed_port(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    for (id, len) in [(1, 300), (2, 1200)] {
        wire.send(p, &Packet::udp(4009, id, len).parts(200));
        wire.note(p, &format!("{len}"));
    }
}

fn fragments_of_more_than_there_can_be(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let long = Packet::of(IPPROTO_ICMP, 1, icmp(8, 0, [0, 7, 0, 9], &octets(66_000)));
    for (id, end) in [(1, 65_516), (2, 65_528), (3, 65_536)] {
        let long = Packet { id, ..long.clone() };
        for from in (0..65_512).step_by(1448) {
            let to = 65_512.min(from + 1448);
            wire.send(p, &[long.part(from, to, true)]);
        }
        wire.send(p, &[long.part(65_512, end, false)]);
        wire.take(p, &format!("{end}"));
    }
}

fn fragments_peeked_and_cut(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    p.with(fd, (SOL_SOCKET, SO_PEEK_OFF), 0);
    wire.send(p, &Packet::udp(4000, 1, 3000).parts(1000));
    for len in [10, 985, 10, 1500] {
        p.recvfrom(&format!("{len} peeked"), fd, len, uapi::socket::MSG_PEEK);
    }
    p.recvmsg("cut", fd, (2500, 0), uapi::socket::MSG_TRUNC);
    drain(p, fd);
}

fn fragments_told_of(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    let size = (SOL_IP, IP_RECVFRAGSIZE);
    p.get("at first", fd, size);
    for value in [1, 0, 5, -1] {
        let _ = p.set(&format!("{value}"), fd, size, value);
        p.get("then", fd, size);
    }
    for (id, by) in [(1, 400), (2, 8), (3, 1200), (4, 1480), (5, 1208)] {
        wire.send(p, &Packet::udp(4000, id, 1200).parts(by));
        drain(p, fd);
    }
    p.with(fd, (SOL_IP, IP_PKTINFO), 1);
    p.with(fd, (SOL_IP, IP_RECVTTL), 1);
    wire.send(p, &Packet::udp(4000, 6, 1200).parts(400));
    drain(p, fd);
    let stream = p.socket("a stream", AF_INET, SOCK_STREAM, 0).unwrap_or(-1) as i32;
    let _ = p.set("of a stream", stream, size, 1);
    p.get("of a stream", stream, size);
}

fn fragments_not_to_be_cut(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    p.with(fd, (SOL_IP, IP_RECVFRAGSIZE), 1);
    for (id, marked) in [(1, [0, 1]), (2, [0, 9]), (3, [1, 9]), (4, [9, 9])] {
        let mut parts = Packet::udp(4000, id, 1200).parts(800);
        parts.iter_mut().enumerate().filter(|(at, _)| marked.contains(at)).for_each(|(_, part)| {
            part.field |= IP_DF;
        });
        wire.send(p, &parts);
        drain(p, fd);
    }
}

/// Lets time pass.
fn pause(p: &mut Probe<'_>, ms: u64) {
    let _none_is_ready = p.calls.poll(&mut [], ms);
}

fn fragments_that_stay_alone(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    p.calls.sysctl("net.ipv4.ipfrag_time", "1");
    let parts = Packet::udp(4000, 7, 1200).parts(400);
    wire.send(p, &[parts[0].clone(), parts[3].clone()]);
    pause(p, 500);
    wire.note(p, "not yet");
    pause(p, 1200);
    wire.note(p, "its time is up");
    wire.send(p, &parts[1..3]);
    drain(p, fd);
    wire.send(p, &[parts[0].clone(), parts[3].clone()]);
    drain(p, fd);
}

fn fragments_without_the_first_that_stay_alone(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    p.calls.sysctl("net.ipv4.ipfrag_time", "1");
    let parts = Packet::udp(4000, 7, 1200).parts(400);
    wire.send(p, &parts[1..]);
    pause(p, 1700);
    wire.note(p, "nobody is told");
    wire.send(p, &parts[..1]);
    drain(p, fd);
    pause(p, 1700);
    wire.note(p, "now somebody is");
}

fn fragments_for_who_takes_none(p: &mut Probe<'_>) {
    let (wire, fd) = begin(p);
    p.calls.sysctl("net.ipv4.ipfrag_low_thresh", "0");
    p.calls.sysctl("net.ipv4.ipfrag_high_thresh", "0");
    wire.send(p, &Packet::udp(4000, 1, 1200).parts(400));
    drain(p, fd);
    wire.send(p, &[Packet::udp(4000, 2, 1200)]);
    drain(p, fd);
    p.calls.sysctl("net.ipv4.ipfrag_high_thresh", "4194304");
    wire.send(p, &Packet::udp(4000, 3, 1200).parts(400));
    drain(p, fd);
}
