//! Groups of packet sockets.

use super::attach_filter::{ld, ret, st};
use super::checks;
use super::packet::{ETH_IF, LO_IF, OURS, bind, frame, on_lo, packet, send_to, sll};
use crate::Probe;
use uapi::filter::{BPF_A, BPF_ABS, BPF_B, BPF_RET, SockFilter};
use uapi::if_packet::*;
use uapi::socket::{MSG_DONTWAIT, SO_LOCK_FILTER, SO_RCVBUF, SOCK_RAW, SOL_PACKET, SOL_SOCKET};
use zerocopy::IntoBytes;

checks! {
    fanout_groups_that_can_be_made
    fanout_members_must_be_alike
    fanout_goes_round
    fanout_by_a_program
    fanout_by_a_hash_keeps_to_one
    fanout_goes_over_when_one_is_full
    fanout_members_leave
    fanout_groups_do_not_see_their_own
    fanout_groups_have_a_size
}

const FANOUT: (i32, i32) = (SOL_PACKET, PACKET_FANOUT);
const DATA: (i32, i32) = (SOL_PACKET, PACKET_FANOUT_DATA);

fn join(p: &mut Probe<'_>, label: &str, fd: i32, id: i32, type_flags: i32) {
    let _ = p.set(label, fd, FANOUT, id | type_flags << 16);
}

/// Members of a group of that kind.
fn group<const N: usize>(p: &mut Probe<'_>, kind: i32) -> [i32; N] {
    std::array::from_fn(|_| {
        let fd = packet(p, SOCK_RAW, OURS);
        join(p, "joined", fd, 7, kind);
        fd
    })
}

/// The first octets of what each has.
fn who_has(p: &mut Probe<'_>, fds: &[i32]) {
    for (nth, fd) in fds.iter().enumerate() {
        let mut has = String::new();
        loop {
            let got = p.calls.recvfrom(*fd, 100, MSG_DONTWAIT);
            if got.ret.is_err() {
                break;
            }
            has.push(char::from(*got.data.get(14).unwrap_or(&b'?')));
        }
        p.note(&format!("member {nth}"), format!("{has:?}"));
    }
}

fn send(p: &mut Probe<'_>, fd: i32, letters: &str) {
    for letter in letters.bytes() {
        let _ = p.calls.sendto(fd, &frame(OURS, &[letter]), MSG_DONTWAIT, None);
        p.calls.settle();
    }
}

fn fanout_groups_that_can_be_made(p: &mut Probe<'_>) {
    for kind in [0, 1, 2, 3, 4, 5, 6, 8, 200, 0x1000, 0x1003, 0x2000, 0x4000] {
        p.within(&format!("kind {kind:#x}"));
        let fd = packet(p, SOCK_RAW, OURS);
        p.get("none", fd, FANOUT);
        join(p, "joined", fd, if kind == 0x2000 { 0 } else { 9 }, kind);
        if kind == PACKET_FANOUT_FLAG_UNIQUEID {
            // Which number it is depends on what was made before.
            let told = p.calls.getsockopt(fd, SOL_PACKET, PACKET_FANOUT, 4);
            p.note("told", format!("{:?}", told.map(|told| told[2..].to_vec())));
        } else {
            p.get("told", fd, FANOUT);
        }
        join(p, "again", fd, 9, kind);
        bind(p, "bound", fd, &sll(LO_IF, OURS, &[]));
        p.get_bytes("going over", fd, (SOL_PACKET, PACKET_ROLLOVER_STATS), 24);
        p.drop_all(&[fd]);
    }
    p.within("");
    let fd = packet(p, SOCK_RAW, 0);
    join(p, "no ethertype", fd, 9, 0);
    let fd = packet(p, SOCK_RAW, OURS);
    join(p, "a number and a wish for another", fd, 9, PACKET_FANOUT_FLAG_UNIQUEID);
    for len in [0, 3, 5, 7, 9] {
        let _ = p.set_bytes("length", fd, FANOUT, &vec![0; len]);
    }
    let down = packet(p, SOCK_RAW, 0);
    bind(p, "to eth0", down, &sll(ETH_IF, OURS, &[]));
    join(p, "of a device", down, 9, 0);
}

fn fanout_members_must_be_alike(p: &mut Probe<'_>) {
    let first = packet(p, SOCK_RAW, OURS);
    join(p, "the first", first, 7, PACKET_FANOUT_LB);
    for (label, protocol, dev, kind) in [
        ("alike", OURS, 0, PACKET_FANOUT_LB),
        ("another kind", OURS, 0, PACKET_FANOUT_HASH),
        ("other flags", OURS, 0, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER),
        ("another ethertype", 0x88b6, 0, PACKET_FANOUT_LB),
        ("another device", OURS, LO_IF, PACKET_FANOUT_LB),
    ] {
        let fd = packet(p, SOCK_RAW, 0);
        bind(p, "bound", fd, &sll(dev, protocol, &[]));
        join(p, label, fd, 7, kind);
    }
}

fn fanout_goes_round(p: &mut Probe<'_>) {
    let members: [i32; 3] = group(p, PACKET_FANOUT_LB);
    let fd = on_lo(p, SOCK_RAW, 0);
    send(p, fd, "abcdefgh");
    who_has(p, &members);
}

fn fanout_by_a_program(p: &mut Probe<'_>) {
    let members: [i32; 3] = group(p, PACKET_FANOUT_CBPF);
    let fd = on_lo(p, SOCK_RAW, 0);
    send(p, fd, "xyz");
    who_has(p, &members);
    let by_letter = [ld(BPF_B | BPF_ABS, 0), st(BPF_RET | BPF_A, 0)];
    let _ = p.set_bytes("by letter", members[1], DATA, by_letter.as_bytes());
    send(p, fd, "abcdefgh");
    who_has(p, &members);
    let _ = p.set_bytes("always the second", members[0], DATA, [ret(4)].as_bytes());
    send(p, fd, "abc");
    who_has(p, &members);
    let none: [SockFilter; 0] = [];
    let _ = p.set_bytes("none", members[0], DATA, none.as_bytes());
    let _ = p.set_bytes("bad", members[0], DATA, [ld(BPF_B | BPF_ABS, 0)].as_bytes());
    let _ = p.set("locked", members[2], (SOL_SOCKET, SO_LOCK_FILTER), 1);
    let _ = p.set_bytes("by who is locked", members[2], DATA, [ret(0)].as_bytes());
    let alone = packet(p, SOCK_RAW, OURS);
    let _ = p.set_bytes("in no group", alone, DATA, [ret(0)].as_bytes());
    join(p, "joined", alone, 8, PACKET_FANOUT_LB);
    let _ = p.set_bytes("of a group without", alone, DATA, [ret(0)].as_bytes());
}

fn fanout_by_a_hash_keeps_to_one(p: &mut Probe<'_>) {
    let members: [i32; 4] = group(p, PACKET_FANOUT_HASH);
    let fd = on_lo(p, SOCK_RAW, 0);
    for _ in 0..10 {
        send_to(p, "sent", fd, &frame(OURS, b"one flow"), &[]);
    }
    let mut has = members
        .map(|fd| (0..20).filter(|_| p.calls.recvfrom(fd, 9, MSG_DONTWAIT).ret.is_ok()).count());
    has.sort_unstable();
    p.note("each has", format!("{has:?}"));
}

fn fanout_goes_over_when_one_is_full(p: &mut Probe<'_>) {
    let members: [i32; 2] = group(p, PACKET_FANOUT_ROLLOVER);
    p.with(members[0], (SOL_SOCKET, SO_RCVBUF), 0);
    let fd = on_lo(p, SOCK_RAW, 0);
    for _ in 0..20 {
        let _ = p.calls.sendto(fd, &frame(OURS, &[b'x'; 600]), MSG_DONTWAIT, None);
        p.calls.settle();
    }
    let mut all = 0;
    for (nth, fd) in members.iter().enumerate() {
        let has = (0..40).filter(|_| p.calls.recvfrom(*fd, 9, MSG_DONTWAIT).ret.is_ok()).count();
        p.note(&format!("member {nth} has some"), has > 0);
        all += has;
    }
    p.note("nothing is lost", all);
}

fn fanout_members_leave(p: &mut Probe<'_>) {
    let members: [i32; 3] = group(p, PACKET_FANOUT_LB);
    let fd = on_lo(p, SOCK_RAW, 0);
    send(p, fd, "abc");
    who_has(p, &members);
    p.drop_all(&members[..1]);
    send(p, fd, "abcdef");
    who_has(p, &members[1..]);
    p.drop_all(&members[1..]);
    let again = packet(p, SOCK_RAW, OURS);
    join(p, "the number is free again", again, 7, PACKET_FANOUT_HASH);
}

fn fanout_groups_do_not_see_their_own(p: &mut Probe<'_>) {
    let members: [i32; 2] = std::array::from_fn(|_| {
        let fd = on_lo(p, SOCK_RAW, 3);
        join(p, "joined", fd, 7, PACKET_FANOUT_LB);
        fd
    });
    send(p, members[0], "ab");
    who_has(p, &members);
    let other = on_lo(p, SOCK_RAW, 0);
    send(p, other, "cd");
    who_has(p, &members);
}

fn fanout_groups_have_a_size(p: &mut Probe<'_>) {
    let args = |id: u16, kind: u16, most: u32| {
        [&id.to_ne_bytes()[..], &kind.to_ne_bytes(), &most.to_ne_bytes()].concat()
    };
    for most in [2, 0, 3, 1 << 16, (1 << 16) + 1] {
        let fd = packet(p, SOCK_RAW, OURS);
        let _ = p.set_bytes(&format!("of {most}"), fd, FANOUT, &args(7, 1, most));
    }
    let fd = packet(p, SOCK_RAW, OURS);
    let _ = p.set_bytes("full", fd, FANOUT, &args(7, 1, 2));
}
