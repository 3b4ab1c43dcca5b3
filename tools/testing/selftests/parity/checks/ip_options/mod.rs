//! Options of IPv4: what can be set and leaves (`sent`), what answers and readers say of those that came (`came`).

mod came;
mod sent;

use crate::probe::{ETH, FOREIGN, Ip};
use crate::wire::{PEER, icmp};
use crate::{Check, Probe, Room};
use klib::checksum::ip_fast_csum;
use uapi::in_::*;
use uapi::ip::{
    IPOPT_CIPSO, IPOPT_END, IPOPT_LSRR, IPOPT_NOOP, IPOPT_RA, IPOPT_RR, IPOPT_SEC, IPOPT_SSRR,
    IPOPT_TIMESTAMP, IPPROTO_ICMP, IPPROTO_TCP,
};
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_IP, SOL_SOCKET};

/// Every check.
pub(super) fn all() -> Vec<Check> {
    [sent::ALL, came::ALL].concat()
}

const OPTIONS: (i32, i32) = (SOL_IP, IP_OPTIONS);

/// A second hop.
const HOP: Ip = [198, 51, 100, 77];

/// An option with nothing in it but its pointer, so many octets long.
fn empty(kind: u8, len: usize, pointer: u8) -> Vec<u8> {
    let mut option = vec![0; len];
    option[..3].copy_from_slice(&[kind, len as u8, pointer]);
    option
}

/// Timestamps of a kind, so many octets of them.
fn times(len: usize, pointer: u8, kind: u8, entries: &[Ip]) -> Vec<u8> {
    let mut option = empty(IPOPT_TIMESTAMP, len, pointer);
    option[3] = kind;
    for (at, ip) in entries.iter().enumerate() {
        option[4 + 8 * at..8 + 8 * at].copy_from_slice(ip);
    }
    option
}

/// A source route at a hop, counted from nought.
fn route(kind: u8, at: usize, hops: &[Ip]) -> Vec<u8> {
    let head = [kind, (3 + 4 * hops.len()) as u8, (4 + 4 * at) as u8];
    [&head[..], &hops.concat()].concat()
}

/// Filled up to whole words.
fn padded(mut options: Vec<u8>) -> Vec<u8> {
    options.resize(options.len().next_multiple_of(4), IPOPT_END);
    options
}

/// Options, with the times in them made the same.
fn shown(options: &[u8]) -> String {
    let mut options = options.to_vec();
    let mut at = 0;
    while at + 1 < options.len() && options[at] != IPOPT_END {
        let len = if options[at] == IPOPT_NOOP { 1 } else { usize::from(options[at + 1]) };
        if len == 0 || at + len > options.len() {
            break;
        }
        if options[at] == IPOPT_TIMESTAMP && len >= 4 {
            let option = &mut options[at..at + len];
            let end = usize::from(option[2]).clamp(5, len + 1) - 1;
            let (skip, entry) = if option[3] & 15 == 0 { (0, 4) } else { (4, 8) };
            for time in option[4..end].chunks_exact_mut(entry) {
                time[skip..].copy_from_slice(b"time");
            }
        }
        at += len;
    }
    format!("{options:?}")
}

/// A packet's fields, its options, and of ICMP what it says.
fn describe(packet: &[u8]) -> String {
    let be16 = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let ihl = usize::from(packet[0] & 15) * 4;
    let payload = &packet[ihl..usize::from(be16(2)).min(packet.len())];
    let sum = if ip_fast_csum(&packet[..ihl]) == 0 { "" } else { " bad sum" };
    let field = be16(6);
    let says = match packet[9] {
        IPPROTO_ICMP if field & 0x1fff == 0 => match payload[0] {
            0 | 8 => format!("echo {} of {}", payload[0], payload.len()),
            _ => {
                let quote = &payload[8..];
                let quoted = usize::from(quote[0] & 15) * 4;
                let options = shown(quote.get(20..quoted).unwrap_or(&[]));
                format!(
                    "icmp {:?} of {} quotes {options}",
                    &payload[..8].split_at(4).1,
                    quote.len()
                ) + &format!(" type {} code {}", payload[0], payload[1])
            }
        },
        IPPROTO_TCP if field & 0x1fff == 0 => {
            let doff = usize::from(payload[12] >> 4) * 4;
            format!(
                "tcp flags {:#x} options {} data {}",
                payload[13],
                doff - 20,
                payload.len() - doff
            )
        }
        protocol => format!("protocol {protocol} of {}", payload.len()),
    };
    format!(
        "tos {} ttl {} field {field:#x} length {} {:?} to {:?} options {}{sum}: {says}",
        packet[1],
        packet[8],
        be16(2),
        &packet[12..16],
        &packet[16..20],
        shown(&packet[20..ihl])
    )
}

/// Notes what has left.
fn note(p: &mut Probe<'_>, label: &str) -> Vec<Vec<u8>> {
    let frames = p.calls.wire_take();
    p.note(label, format!("{} packets", frames.len()));
    for (at, frame) in frames.iter().enumerate() {
        p.note(&format!("{label} {at}"), describe(&frame[14..]));
    }
    frames
}

/// A frame from one address to another.
fn frame([from, to]: [Ip; 2], options: &[u8], (protocol, payload): (u8, &[u8])) -> Vec<u8> {
    frame_at([from, to], options, (protocol, payload), 0)
}

/// The same with flags and offset.
fn frame_at(
    [from, to]: [Ip; 2],
    options: &[u8],
    (protocol, payload): (u8, &[u8]),
    field: u16,
) -> Vec<u8> {
    let total = (20 + options.len() + payload.len()) as u16;
    let mut packet = vec![0x45 + (options.len() / 4) as u8, 0x10];
    packet.extend([total, 7, field].map(u16::to_be_bytes).concat());
    packet.extend([61, protocol, 0, 0]);
    packet.extend([&from[..], &to, options].concat());
    let check = ip_fast_csum(&packet);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend_from_slice(payload);
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0][..], &packet].concat()
}

/// Nothing that is told is held back.
fn open(p: &mut Probe<'_>) {
    p.calls.wire_open();
    p.calls.sysctl("net.ipv4.icmp_ratelimit", "0");
    p.calls.sysctl("net.ipv4.icmp_msgs_per_sec", "100000");
    p.calls.sysctl("net.ipv4.icmp_msgs_burst", "10000");
}

/// An echo request of the peer's with options, and what answers.
fn echo(p: &mut Probe<'_>, label: &str, options: Vec<u8>) {
    let ping = icmp(8, 0, [0, 7, 0, 1], b"ping");
    let frame = frame([PEER, ETH], &padded(options), (IPPROTO_ICMP, &ping));
    p.calls.wire_send(&frame);
    note(p, label);
}

/// Options that a program may set, and a name for each.
fn good() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("record route", empty(IPOPT_RR, 39, 4)),
        ("of one", empty(IPOPT_RR, 7, 4)),
        ("of none", empty(IPOPT_RR, 3, 4)),
        ("of one that is full", empty(IPOPT_RR, 7, 8)),
        ("times", times(40, 5, 0, &[])),
        ("times of one", times(8, 5, 0, &[])),
        ("times with addresses", times(36, 5, 1, &[])),
        ("times of those listed", times(20, 5, 3, &[PEER, ETH])),
        ("times of ours, listed", times(20, 5, 3, &[ETH, PEER])),
        ("times that are full", times(8, 9, 0, &[])),
        ("times of no kind", times(12, 5, 2, &[])),
        ("loose route", route(IPOPT_LSRR, 0, &[PEER, HOP])),
        ("loose route of one", route(IPOPT_LSRR, 0, &[PEER])),
        ("strict route", route(IPOPT_SSRR, 0, &[PEER, HOP, FOREIGN])),
        ("alert", vec![IPOPT_RA, 4, 0, 0]),
        ("alert of a kind", vec![IPOPT_RA, 4, 0, 9]),
        ("security", vec![IPOPT_SEC, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("unknown", vec![222, 5, 1, 2, 3]),
        ("nothing", vec![IPOPT_NOOP]),
        ("nothing, thrice", vec![IPOPT_NOOP; 3]),
        ("the end", vec![IPOPT_END]),
        ("more behind the end", vec![IPOPT_NOOP, IPOPT_END, 7, 9, 1]),
        ("two", [empty(IPOPT_RR, 11, 4), times(8, 5, 0, &[]), vec![IPOPT_NOOP]].concat()),
        ("three", [vec![IPOPT_NOOP, IPOPT_RA, 4, 0, 0], empty(IPOPT_RR, 7, 4)].concat()),
        ("none", vec![]),
    ]
}

/// Options that nobody may send.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a kind alone", vec![IPOPT_NOOP, IPOPT_NOOP, IPOPT_NOOP, IPOPT_RR]),
        ("no length", vec![IPOPT_RR, 0, 4, 0]),
        ("length of one", vec![222, 1, 4, 0]),
        ("longer than all", vec![IPOPT_RR, 9, 4, 0, 0, 0, 0, 0]),
        ("route too short", vec![IPOPT_RR, 2, 4, 0]),
        ("pointer too low", empty(IPOPT_RR, 7, 3)),
        ("pointer between", empty(IPOPT_RR, 7, 5)),
        ("two records", [empty(IPOPT_RR, 7, 4), empty(IPOPT_RR, 7, 4)].concat()),
        ("times too short", vec![IPOPT_TIMESTAMP, 3, 5, 0]),
        ("times, pointer too low", times(8, 4, 0, &[])),
        ("times, pointer between", times(8, 6, 0, &[])),
        ("times, half an entry", times(8, 5, 1, &[])),
        ("times, half an entry of a list", times(8, 5, 3, &[])),
        ("times, sixteenth overflow", times(4, 5, 0xf0, &[])),
        ("times twice", [times(8, 5, 0, &[]), times(8, 5, 0, &[])].concat()),
        ("source route too short", vec![IPOPT_LSRR, 2, 4, 0]),
        (
            "source route, pointer too low",
            route(IPOPT_LSRR, 0, &[PEER]).into_iter().map(|o| if o == 4 { 3 } else { o }).collect(),
        ),
        (
            "two source routes",
            [route(IPOPT_LSRR, 0, &[PEER]), route(IPOPT_SSRR, 0, &[PEER])].concat(),
        ),
        ("alert too short", vec![IPOPT_RA, 3, 0, 0]),
        ("label", vec![IPOPT_CIPSO, 12, 0, 0, 0, 1, 1, 6, 0, 1, 0, 0]),
        ("label of nobody", vec![IPOPT_CIPSO, 8, 0, 0, 0, 0, 1, 2]),
        ("label too short", vec![IPOPT_CIPSO, 6, 0, 0, 0, 1]),
        ("good, then bad", [empty(IPOPT_RR, 11, 4), vec![IPOPT_RA, 2]].concat()),
        (
            "good, then good, then bad",
            [times(12, 5, 1, &[]), empty(IPOPT_RR, 7, 4), vec![68, 2]].concat(),
        ),
    ]
}

fn tell(p: &mut Probe<'_>, fd: i32) {
    p.with(fd, (SOL_IP, IP_RECVOPTS), 1);
    p.with(fd, (SOL_IP, IP_RETOPTS), 1);
}

/// What is told of one datagram, with its times made the same.
fn told(p: &mut Probe<'_>, label: &str, fd: i32, room: usize) {
    let got = p.calls.recvmsg(fd, &Room { parts: vec![200], control: room }, MSG_DONTWAIT);
    let mut text = format!("{:?} flags {:#x} control {}", got.ret, got.flags, got.control.len());
    for cmsg in uapi::socket::cmsgs(&got.control) {
        let Ok(cmsg) = cmsg else { break };
        let is_options = cmsg.level == SOL_IP && [IP_RECVOPTS, IP_RETOPTS].contains(&cmsg.type_);
        let data = match (cmsg.level, is_options) {
            (SOL_SOCKET, _) => format!("(time) of {}", cmsg.data.len()),
            (_, true) => shown(cmsg.data),
            _ => format!("{:?}", cmsg.data),
        };
        text += &format!(" [{}/{} {data}]", cmsg.level, cmsg.type_);
    }
    p.note(label, text);
}

/// Some that are copied into each fragment, and some that are not.
fn mixed() -> Vec<u8> {
    [
        empty(IPOPT_RR, 11, 4),
        vec![IPOPT_NOOP],
        vec![IPOPT_SEC, 5, 1, 2, 3],
        times(12, 5, 1, &[]),
        vec![IPOPT_RA, 4, 0, 0],
    ]
    .concat()
}

/// One of each kind.
fn sockets(p: &mut Probe<'_>) -> [(&'static str, i32); 4] {
    p.calls.allow_ping();
    let mut one = |kind, protocol| p.calls.socket(AF_INET, kind, protocol).unwrap_or(-1) as i32;
    [
        ("datagrams", one(SOCK_DGRAM, 0)),
        ("raw", one(SOCK_RAW, 253)),
        ("ping", one(SOCK_DGRAM, 1)),
        ("stream", one(SOCK_STREAM, 0)),
    ]
}
