//! Messages that are cut into datagrams, and datagrams that come merged.

use super::checks;
use crate::probe::{ANY, BROADCAST, ETH, GROUP, LO, control, int, sa};
use crate::{Outgoing, Probe};
use uapi::in_::{IP_PKTINFO, IP_RECVERR, IP_RECVTOS, IP_RECVTTL, IP_TTL};
use uapi::socket::{
    MSG_ERRQUEUE, MSG_MORE, MSG_PEEK, MSG_TRUNC, SHUT_WR, SO_BROADCAST, SO_NO_CHECK, SO_PEEK_OFF,
    SO_RCVBUF, SO_SNDBUF, SO_TIMESTAMP, SOL_IP, SOL_SOCKET, SOL_UDP,
};
use uapi::udp::{UDP_CORK, UDP_GRO, UDP_SEGMENT};

checks! {
    values_of_udp_segment
    values_of_udp_gro
    a_message_in_segments
    a_message_in_segments_received_whole
    segments_by_message
    segments_by_malformed_control_data
    lengths_of_segments
    too_many_segments
    segments_longer_than_the_way
    messages_of_segments_too_long
    segments_without_checksums
    segments_corked
    segments_corked_that_can_not_go
    segments_of_a_corked_message_by_its_first_part
    segments_to_nobody
    segments_of_a_socket_shut_down
    segments_to_many
    segments_in_parts
    merged_datagrams_with_little_room
    merged_datagrams_peeked
    merged_datagrams_and_other_control_data
    merged_or_not_by_the_option_when_they_came
    many_messages_in_segments
    segments_in_a_small_send_buffer
}

const SEGMENT: (i32, i32) = (SOL_UDP, UDP_SEGMENT);
const GRO: (i32, i32) = (SOL_UDP, UDP_GRO);

/// Octets that show where they come from.
fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + (at % 23) as u8).collect()
}

fn by_message(size: u16, len: usize) -> Outgoing {
    let control = control(&[(SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes())]);
    Outgoing { name: Some(sa(LO, 4001)), parts: vec![octets(len)], control }
}

/// All that waits, at most eight.
fn drain(p: &mut Probe<'_>, fd: i32) {
    for _ in 0..8 {
        if p.recvmsg("arrived", fd, (70_000, 64), 0).ret.is_err() {
            break;
        }
    }
}

fn values_of_udp_segment(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.get("at first", fd, SEGMENT);
    for value in [1, 0, 1400, 65_535, 65_536, -1, i32::MAX, i32::MIN] {
        let _ = p.set(&format!("{value}"), fd, SEGMENT, value);
        p.get("then", fd, SEGMENT);
    }
    let _ = p.set_bytes("short", fd, SEGMENT, &[5, 0, 0]);
    let _ = p.set_bytes("long", fd, SEGMENT, &[5, 0, 0, 0, 9]);
    for room in [0, 1, 3, 4, 8, -1] {
        p.get_bytes(&format!("room for {room}"), fd, SEGMENT, room);
    }
}

fn values_of_udp_gro(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.get("at first", fd, GRO);
    for value in [1, 0, 2, -1, 0] {
        let _ = p.set(&format!("{value}"), fd, GRO, value);
        p.get("then", fd, GRO);
    }
    let _ = p.set_bytes("short", fd, GRO, &[1]);
    p.get_bytes("little room", fd, GRO, 1);
}

fn a_message_in_segments(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    for len in [0, 1, 999, 1000, 1001, 2000, 3500] {
        let _ = p.send(&format!("{len}"), fd, &octets(len), 0);
        drain(p, receiver);
    }
    p.with(fd, SEGMENT, 0);
    let _ = p.send("in one again", fd, &octets(3500), 0);
    drain(p, receiver);
}

fn a_message_in_segments_received_whole(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    for len in [0, 1, 1000, 1001, 2000, 3500, 60_000] {
        let _ = p.send(&format!("{len}"), fd, &octets(len), 0);
        drain(p, receiver);
    }
    p.mask("nothing more", receiver);
}

fn segments_by_message(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    p.with(receiver, (SOL_IP, IP_RECVTTL), 1);
    let fd = p.bound(LO, 4000);
    for size in [0, 1, 600, 2000, 65_535] {
        let _ = p.sendmsg(&format!("{size}"), fd, &by_message(size, 1500), 0);
        drain(p, receiver);
    }
    p.with(fd, SEGMENT, 500);
    for size in [0, 700] {
        let _ = p.sendmsg(&format!("{size} for 500"), fd, &by_message(size, 1500), 0);
        drain(p, receiver);
    }
    let ttl = (SOL_IP, IP_TTL, &int(9)[..]);
    let both = [(SOL_UDP, UDP_SEGMENT, &700u16.to_ne_bytes()[..]), ttl];
    for (label, control) in [
        ("with a ttl", control(&both)),
        ("behind it", control(&[both[1], both[0]])),
        ("the ttl alone", control(&[ttl])),
        ("twice", control(&[both[0], (SOL_UDP, UDP_SEGMENT, &900u16.to_ne_bytes())])),
    ] {
        let msg = Outgoing { control, ..by_message(0, 1500) };
        let _ = p.sendmsg(label, fd, &msg, 0);
        drain(p, receiver);
    }
}

fn segments_by_malformed_control_data(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let good = control(&[(SOL_UDP, UDP_SEGMENT, &700u16.to_ne_bytes())]);
    for (label, control) in [
        ("four octets", control(&[(SOL_UDP, UDP_SEGMENT, &int(700))])),
        ("one", control(&[(SOL_UDP, UDP_SEGMENT, &[7])])),
        ("none", control(&[(SOL_UDP, UDP_SEGMENT, &[])])),
        ("another option", control(&[(SOL_UDP, UDP_GRO, &int(1))])),
        ("no padding", good[..18].to_vec()),
        ("a bad one behind", [&good[..], &[0xff; 16]].concat()),
        ("a bad one of IP's behind", [&good[..], &control(&[(SOL_IP, 99, &int(1))])].concat()),
        ("a bad one of IP's before", [&control(&[(SOL_IP, 99, &int(1))]), &good[..]].concat()),
        ("nobody's behind", [&good[..], &control(&[(99, 1, &int(1))])].concat()),
    ] {
        let _ = p.sendmsg(label, fd, &Outgoing { control, ..by_message(0, 1500) }, 0);
        drain(p, receiver);
    }
}

fn lengths_of_segments(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    for (size, len) in [(1, 5), (7, 20), (1472, 1472), (1472, 1473), (20_000, 65_507)] {
        p.with(fd, SEGMENT, size);
        let _ = p.send(&format!("{len} by {size}"), fd, &octets(len), 0);
        drain(p, receiver);
    }
}

fn too_many_segments(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.joined(4000, 4001);
    for (size, len) in [(10, 640), (10, 641), (10, 1280), (10, 1281), (1, 128), (1, 129)] {
        p.with(fd, SEGMENT, size);
        let _ = p.send(&format!("{len} by {size}"), fd, &octets(len), 0);
        drain(p, receiver);
    }
}

fn segments_longer_than_the_way(p: &mut Probe<'_>) {
    let fd = p.bound(ETH, 4000);
    let far = [198, 51, 100, 2];
    for (size, len) in [(1472, 3000), (1473, 3000), (1473, 1472), (1473, 1473), (3000, 100)] {
        p.with(fd, SEGMENT, size);
        let _ = p.sendto(&format!("{len} by {size}"), fd, &octets(len), far, 4001);
    }
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    p.with(fd, SEGMENT, 1473);
    let _ = p.sendto("reported", fd, &octets(3000), far, 4001);
    p.recvmsg("the report", fd, (8, 128), MSG_ERRQUEUE);
    // Both are wrong: the length counts first, the number behind it.
    p.with(fd, SEGMENT, 1);
    let _ = p.sendto("too many", fd, &octets(3000), far, 4001);
    p.with(fd, SEGMENT, 2000);
    p.with(fd, (SOL_SOCKET, SO_NO_CHECK), 1);
    let _ = p.sendto("too long and unsummed", fd, &octets(3000), far, 4001);
}

fn messages_of_segments_too_long(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1400);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    for len in [65_507, 65_508, 65_535, 65_536] {
        let _ = p.send(&format!("{len}"), fd, &octets(len), 0);
        drain(p, receiver);
        p.recvmsg("a report", fd, (8, 128), MSG_ERRQUEUE);
    }
}

fn segments_without_checksums(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    p.with(fd, (SOL_SOCKET, SO_NO_CHECK), 1);
    p.with(fd, SEGMENT, 1000);
    for len in [100, 1000, 1001] {
        let _ = p.send(&format!("{len}"), fd, &octets(len), 0);
        drain(p, receiver);
    }
}

fn segments_corked(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    let _ = p.send("first", fd, &octets(700), MSG_MORE);
    drain(p, receiver);
    let _ = p.send("second", fd, &octets(1800), 0);
    drain(p, receiver);
    p.with(fd, (SOL_UDP, UDP_CORK), 1);
    let _ = p.send("corked", fd, &octets(1500), 0);
    let _ = p.send("more", fd, &octets(900), 0);
    p.with(fd, (SOL_UDP, UDP_CORK), 0);
    p.calls.settle();
    drain(p, receiver);
    let _ = p.send("short", fd, &octets(10), MSG_MORE);
    let _ = p.send("still short", fd, &octets(20), 0);
    drain(p, receiver);
}

fn segments_corked_that_can_not_go(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 10);
    let _ = p.send("first", fd, &octets(1000), MSG_MORE);
    let _ = p.send("too many", fd, &octets(1000), 0);
    drain(p, receiver);
    let _ = p.send("afresh", fd, &octets(15), 0);
    drain(p, receiver);
    p.with(fd, (SOL_UDP, UDP_CORK), 1);
    let _ = p.send("corked", fd, &octets(1281), 0);
    let _ = p.set("uncorked", fd, (SOL_UDP, UDP_CORK), 0);
    p.calls.settle();
    drain(p, receiver);
    p.with(fd, SEGMENT, 1400);
    let _ = p.send("much", fd, &octets(60_000), MSG_MORE);
    let _ = p.send("too much", fd, &octets(6000), MSG_MORE);
    let _ = p.send("the rest", fd, &octets(60), 0);
    drain(p, receiver);
}

fn segments_of_a_corked_message_by_its_first_part(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.bound(LO, 4000);
    let _ = p.sendmsg("by 500", fd, &by_message(500, 600), MSG_MORE);
    let _ = p.sendmsg("by 900", fd, &by_message(900, 600), 0);
    drain(p, receiver);
    let plain = Outgoing { control: Vec::new(), ..by_message(0, 600) };
    let _ = p.sendmsg("in one", fd, &plain, MSG_MORE);
    let _ = p.sendmsg("by 500", fd, &by_message(500, 600), 0);
    drain(p, receiver);
    let _ = p.sendmsg("in one", fd, &plain, MSG_MORE);
    p.with(fd, SEGMENT, 100);
    let _ = p.sendmsg("the option is set", fd, &plain, 0);
    drain(p, receiver);
}

fn segments_to_nobody(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    let _ = p.send("sent", fd, &octets(3500), 0);
    let _ = p.send("refused", fd, &octets(3500), 0);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    let _ = p.send("sent", fd, &octets(3500), 0);
    p.recvmsg("the report", fd, (2000, 128), MSG_ERRQUEUE);
    p.recvmsg("one of them", fd, (2000, 128), MSG_ERRQUEUE);
}

fn segments_of_a_socket_shut_down(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1);
    let _ = p.shutdown("shut", fd, SHUT_WR);
    let _ = p.send("too many", fd, &octets(3500), 0);
    let _ = p.send("too long", fd, &octets(65_508), 0);
}

fn segments_to_many(p: &mut Probe<'_>) {
    for (ip, gro) in [(BROADCAST, 0), (BROADCAST, 1), (GROUP, 0), (GROUP, 1)] {
        let receiver = p.bound(ANY, 4001);
        p.with(receiver, GRO, gro);
        let fd = p.bound(ETH, 4000);
        p.with(fd, (SOL_SOCKET, SO_BROADCAST), 1);
        p.with(fd, SEGMENT, 1000);
        let _ = p.sendto(&format!("to {ip:?}"), fd, &octets(2500), ip, 4001);
        drain(p, receiver);
        p.drop_all(&[receiver, fd]);
    }
}

fn segments_in_parts(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    p.with(fd, SEGMENT, 1000);
    let parts = vec![octets(1), octets(1500), Vec::new(), octets(800), octets(7)];
    let msg = Outgoing { name: Some(sa(LO, 4001)), parts, control: Vec::new() };
    let _ = p.sendmsg("sent", fd, &msg, 0);
    drain(p, receiver);
}

fn merged_datagrams_with_little_room(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    for (len, room, flags) in [
        (2500, 64, 0),
        (2499, 64, 0),
        (1000, 64, 0),
        (0, 64, 0),
        (10, 64, MSG_TRUNC),
        (2500, 0, 0),
        (2500, 15, 0),
        (2500, 16, 0),
        (2500, 19, 0),
        (2500, 20, 0),
        (2500, 24, 0),
    ] {
        let _ = p.send("sent", fd, &octets(2500), 0);
        p.recvmsg(&format!("{len} and {room}"), receiver, (len, room), flags);
    }
    let _ = p.send("sent", fd, &octets(2500), 0);
    p.recvfrom("without control data", receiver, 1500, 0);
    p.recvfrom("the rest is gone", receiver, 1500, 0);
}

fn merged_datagrams_peeked(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    let _ = p.send("sent", fd, &octets(2500), 0);
    p.recvmsg("a look", receiver, (1500, 64), MSG_PEEK);
    p.with(receiver, (SOL_SOCKET, SO_PEEK_OFF), 0);
    p.recvmsg("a look", receiver, (1500, 64), MSG_PEEK);
    p.recvmsg("and on", receiver, (1500, 64), MSG_PEEK);
    p.recvmsg("all of it", receiver, (3000, 64), 0);
}

fn merged_datagrams_and_other_control_data(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    for option in [(SOL_IP, IP_PKTINFO), (SOL_IP, IP_RECVTTL), (SOL_IP, IP_RECVTOS)] {
        p.with(receiver, option, 1);
    }
    p.with(receiver, (SOL_SOCKET, SO_TIMESTAMP), 1);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    for len in [2500, 700] {
        let _ = p.send("sent", fd, &octets(len), 0);
        p.recvmsg("told", receiver, (3000, 256), 0);
    }
    p.with(receiver, GRO, 0);
    let _ = p.send("sent", fd, &octets(2500), 0);
    for _ in 0..4 {
        p.recvmsg("each is told of", receiver, (3000, 256), 0);
    }
}

fn merged_or_not_by_the_option_when_they_came(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    p.with(fd, SEGMENT, 1000);
    for (before, after) in [(0, 1), (1, 0)] {
        p.with(receiver, GRO, before);
        let _ = p.send("sent", fd, &octets(2500), 0);
        p.with(receiver, GRO, after);
        drain(p, receiver);
    }
}

fn many_messages_in_segments(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, GRO, 1);
    let fd = p.bound(LO, 4000);
    let messages = [
        by_message(1000, 2500),
        by_message(0, 700),
        by_message(300, 600),
        by_message(1, 500),
        by_message(300, 600),
    ];
    let sent = p.calls.sendmmsg(fd, &messages, uapi::socket::MSG_DONTWAIT);
    p.calls.settle();
    p.note("sent", format!("{sent:?}"));
    drain(p, receiver);
}

fn segments_in_a_small_send_buffer(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, (SOL_SOCKET, SO_RCVBUF), 200_000);
    let fd = p.joined(4000, 4001);
    p.with(fd, (SOL_SOCKET, SO_SNDBUF), 4608);
    p.with(fd, SEGMENT, 1000);
    for _ in 0..3 {
        let _ = p.send("sent", fd, &octets(7500), 0);
        drain(p, receiver);
    }
}
