//! Receiving: flags, parts, truncation.

use super::checks;
use crate::probe::{LO, int};
use crate::{Probe, Room};
use uapi::socket::{
    MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL,
    SO_PEEK_OFF, SO_RCVBUF, SO_RCVTIMEO, SO_RXQ_OVFL, SO_TIMESTAMP, SO_TIMESTAMPNS, SOL_SOCKET,
};
use uapi::sockios::FIONREAD;

checks! {
    nothing_to_receive
    a_zero_length_datagram
    peeking_leaves_it
    truncation
    flags_of_receive
    parts_to_receive_into
    no_room_at_all
    a_receive_time_out
    a_full_receive_buffer
    the_sender_is_told
    time_stamps
    read_and_readv
    peek_offsets
}

/// A sender and a receiver, with some datagrams on their way.
fn with(p: &mut Probe<'_>, datagrams: &[&[u8]]) -> i32 {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    for data in datagrams {
        let _ = p.sendto("sent", fd, data, LO, 4001);
    }
    receiver
}

fn nothing_to_receive(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    p.recvfrom("bound", fd, 8, 0);
    p.recvmsg("message", fd, (8, 64), 0);
    p.recvfrom("peek", fd, 8, MSG_PEEK);
    p.recvfrom("no room", fd, 0, 0);
    p.recvmsg("error queue", fd, (8, 64), MSG_ERRQUEUE);
    let joined = p.joined(4001, 4002);
    p.recvfrom("connected", joined, 8, 0);
    let unbound = p.udp();
    p.recvfrom("unbound", unbound, 8, 0);
}

fn a_zero_length_datagram(p: &mut Probe<'_>) {
    let fd = with(p, &[b"", b"x", b""]);
    let _ = p.ioctl("next is empty", fd, FIONREAD, 9);
    p.mask("readable", fd);
    p.recvmsg("empty", fd, (8, 0), 0);
    let _ = p.ioctl("next is one", fd, FIONREAD, 9);
    p.recvmsg("one", fd, (8, 0), 0);
    p.recvmsg("empty into nothing", fd, (0, 0), 0);
    p.recvmsg("nothing", fd, (8, 0), 0);
    let _ = p.ioctl("nothing", fd, FIONREAD, 9);
}

fn peeking_leaves_it(p: &mut Probe<'_>) {
    let fd = with(p, &[b"first one", b"second"]);
    for _ in 0..2 {
        p.recvmsg("peek", fd, (32, 64), MSG_PEEK);
    }
    p.recvmsg("peek at a part", fd, (3, 64), MSG_PEEK);
    p.recvmsg("peek at its length", fd, (3, 64), MSG_PEEK | MSG_TRUNC);
    p.recvmsg("peek with no room", fd, (0, 0), MSG_PEEK);
    p.recvmsg("taken", fd, (32, 64), 0);
    p.recvmsg("peek at the next", fd, (32, 64), MSG_PEEK);
    p.recvmsg("taken", fd, (32, 64), 0);
    p.recvmsg("peek at nothing", fd, (32, 64), MSG_PEEK);
}

fn truncation(p: &mut Probe<'_>) {
    let fd = with(p, &[&b"0123456789"[..]; 6]);
    p.recvmsg("cut", fd, (4, 0), 0);
    p.recvmsg("cut, real length", fd, (4, 0), MSG_TRUNC);
    p.recvmsg("fits, real length", fd, (40, 0), MSG_TRUNC);
    p.recvmsg("fits exactly", fd, (10, 0), 0);
    p.recvfrom("by recvfrom", fd, 4, 0);
    p.recvfrom("by recvfrom, real length", fd, 4, MSG_TRUNC);
    p.recvfrom("the rest is gone", fd, 40, 0);
}

fn flags_of_receive(p: &mut Probe<'_>) {
    let fd = with(p, &[&b"x"[..]; 6]);
    for (label, flags) in [
        ("OOB", MSG_OOB),
        ("WAITALL", MSG_WAITALL),
        ("CMSG_CLOEXEC", MSG_CMSG_CLOEXEC),
        ("ERRQUEUE", MSG_ERRQUEUE),
        ("ERRQUEUE and PEEK", MSG_ERRQUEUE | MSG_PEEK),
        ("a bit nobody has", 0x0008_0000),
        ("none", 0),
        ("DONTROUTE", 4),
        ("none", 0),
        ("none", 0),
    ] {
        p.recvmsg(label, fd, (8, 64), flags);
    }
}

fn parts_to_receive_into(p: &mut Probe<'_>) {
    let fd = with(p, &[&b"0123456789"[..]; 6]);
    for parts in [&[3, 3, 10][..], &[3, 0, 3], &[0, 20], &[10], &[], &[1; 1025], &[1; 1024]] {
        let room = Room { parts: parts.to_vec(), control: 0 };
        let got = p.calls.recvmsg(fd, &room, MSG_DONTWAIT);
        p.got(&format!("{} parts", parts.len()), got);
    }
}

fn no_room_at_all(p: &mut Probe<'_>) {
    let fd = with(p, &[&b"0123456789"[..]; 4]);
    p.recvfrom("no byte", fd, 0, 0);
    p.recvfrom("no byte, real length", fd, 0, MSG_TRUNC);
    let got = p.calls.read(fd, 0);
    p.got("read nothing", got);
    let got = p.calls.readv(fd, &[]);
    p.got("readv nothing", got);
    let got = p.calls.readv(fd, &[0, 0]);
    p.got("readv two empty parts", got);
    p.recvfrom("left", fd, 16, 0);
    p.recvfrom("left", fd, 16, 0);
    p.recvfrom("left", fd, 16, 0);
}

fn timeval(secs: i64, micros: i64) -> Vec<u8> {
    [secs, micros].map(i64::to_ne_bytes).concat()
}

fn a_receive_time_out(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let option = (SOL_SOCKET, SO_RCVTIMEO);
    p.get_bytes("none", fd, option, 16);
    for (label, secs, micros) in [
        // Whole ticks of any kernel.
        ("twenty milliseconds", 0, 20_000),
        ("a second and a half", 1, 500_000),
        ("too many microseconds", 0, 1_000_000),
        ("negative microseconds", 0, -1),
        ("negative", -5, 0),
        ("very long", i64::MAX / 2, 0),
        ("none", 0, 0),
    ] {
        let _ = p.set_bytes(label, fd, option, &timeval(secs, micros));
        p.get_bytes("read back", fd, option, 16);
    }
    let _ = p.set_bytes("short", fd, option, &timeval(1, 0)[..8]);
    p.get_bytes("into short room", fd, option, 8);
    let _ = p.set_bytes("twenty milliseconds", fd, option, &timeval(0, 20_000));
    let got = p.calls.recvfrom(fd, 8, 0);
    p.got("waited", got);
    let got = p.calls.read(fd, 8);
    p.got("read waited", got);
    let got = p.calls.recvfrom(fd, 8, MSG_WAITALL);
    p.got("waited for all", got);
    let _ = p.set_bytes("negative", fd, option, &timeval(-5, 0));
    let got = p.calls.recvfrom(fd, 8, 0);
    p.got("not waited", got);
}

/// How many datagrams fit differs: a packet's overhead is not the same. That there is a limit, and
/// that what was lost is told, is.
fn a_full_receive_buffer(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    p.with(receiver, (SOL_SOCKET, SO_RCVBUF), 4096);
    p.get("buffer", receiver, (SOL_SOCKET, SO_RCVBUF));
    let _ = p.set("tell of losses", receiver, (SOL_SOCKET, SO_RXQ_OVFL), 1);
    p.get("tells", receiver, (SOL_SOCKET, SO_RXQ_OVFL));
    let sent = (0..100).filter(|_| p.calls.sendto(fd, &[1; 500], MSG_DONTWAIT, None).is_ok());
    let sent = sent.count();
    p.calls.settle();
    p.note("sender sees nothing of it", sent);
    let room = Room { parts: vec![600], control: 64 };
    let mut received = 0;
    let mut last = Vec::new();
    loop {
        let got = p.calls.recvmsg(receiver, &room, MSG_DONTWAIT);
        if got.ret.is_err() {
            break;
        }
        received += 1;
        last = got.control;
    }
    p.note("some arrive", (1..100).contains(&received));
    // The first of these were queued before anything was lost.
    p.note("no loss told with what came before", last.is_empty());
    let _ = p.send("one more", fd, b"x", 0);
    let got = p.calls.recvmsg(receiver, &room, MSG_DONTWAIT);
    let told = got.control.get(16..20).map(|count| count == int(100 - received));
    p.note("losses told", format!("{told:?} in {}", got.control.len()));
    let got = p.calls.recvmsg(receiver, &room, MSG_DONTWAIT);
    p.got("drained", got);
}

fn the_sender_is_told(p: &mut Probe<'_>) {
    let receiver = p.bound([0; 4], 4001);
    for ip in [LO, [127, 5, 5, 5], [192, 0, 2, 1], [198, 51, 100, 1]] {
        let fd = p.bound(ip, 4000);
        let _ = p.sendto("sent", fd, b"x", LO, 4001);
        p.recvfrom("told", receiver, 8, 0);
        p.names("names", fd);
    }
}

fn time_stamps(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    for (label, option, value) in [
        ("microseconds", SO_TIMESTAMP, 1),
        ("nanoseconds", SO_TIMESTAMPNS, 1),
        ("microseconds again", SO_TIMESTAMP, 1),
        ("nanoseconds off", SO_TIMESTAMPNS, 0),
        ("nanoseconds", SO_TIMESTAMPNS, 1),
        ("microseconds off", SO_TIMESTAMP, 0),
    ] {
        let _ = p.set(label, receiver, (SOL_SOCKET, option), value);
        p.get("microseconds", receiver, (SOL_SOCKET, SO_TIMESTAMP));
        p.get("nanoseconds", receiver, (SOL_SOCKET, SO_TIMESTAMPNS));
        let _ = p.send("sent", fd, b"x", 0);
        p.recvmsg("told", receiver, (8, 64), 0);
    }
}

fn read_and_readv(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one", b"two parts", b"cut off here", b""]);
    let got = p.calls.read(fd, 16);
    p.got("read", got);
    let got = p.calls.readv(fd, &[4, 16]);
    p.got("readv", got);
    let got = p.calls.read(fd, 3);
    p.got("cut", got);
    let got = p.calls.read(fd, 16);
    p.got("empty", got);
    let got = p.calls.readv(fd, &[1; 1025]);
    p.got("too many parts", got);
    let _ = p.fcntl("nonblocking", fd, 4, 0o4000);
    let got = p.calls.read(fd, 16);
    p.got("nothing", got);
    let got = p.calls.readv(fd, &[4]);
    p.got("nothing", got);
}

fn peek_offsets(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]);
    let _ = p.set("negative is off", fd, (SOL_SOCKET, SO_PEEK_OFF), -1);
    p.get("off", fd, (SOL_SOCKET, SO_PEEK_OFF));
    p.recvfrom("peek", fd, 4, MSG_PEEK);
    let _ = p.set("too negative", fd, (SOL_SOCKET, SO_PEEK_OFF), -2);
    let _ = p.set("at four", fd, (SOL_SOCKET, SO_PEEK_OFF), 4);
    p.get("at four", fd, (SOL_SOCKET, SO_PEEK_OFF));
    p.recvfrom("peek", fd, 4, MSG_PEEK);
    p.get("moved on", fd, (SOL_SOCKET, SO_PEEK_OFF));
    p.recvfrom("peek", fd, 4, MSG_PEEK);
    p.recvfrom("taken", fd, 16, 0);
    p.get("moved back", fd, (SOL_SOCKET, SO_PEEK_OFF));
}
