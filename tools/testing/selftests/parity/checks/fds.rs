//! Descriptors: fcntl(2), ioctl(2), dup(2).

use super::checks;
use crate::Probe;
use crate::probe::{LO, NET};
use uapi::fcntl::{
    F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL, O_APPEND, O_CLOEXEC, O_NONBLOCK,
};
use uapi::socket::MSG_DONTWAIT;
use uapi::sockios::{FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, SIOCOUTQ};

checks! {
    status_flags
    descriptor_flags
    duplicates_share_the_file
    duplicated_from_a_number_on
    dup2_over_an_open_descriptor
    dup2_onto_itself
    dup3_is_stricter
    bad_numbers_to_duplicate_to
    unknown_commands
    bytes_to_read
    bytes_on_their_way
    nonblocking_by_request
    unknown_requests
    write_and_writev
}

fn status_flags(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.fcntl("fresh", fd, F_GETFL, 0);
    for flags in [O_NONBLOCK, 0, O_APPEND, O_NONBLOCK | 1, 0o100, 0, O_CLOEXEC] {
        let _ = p.fcntl(&format!("set {flags:#o}"), fd, F_SETFL, flags);
        let _ = p.fcntl("read back", fd, F_GETFL, 0);
    }
}

fn descriptor_flags(p: &mut Probe<'_>) {
    let fd = p.udp();
    for flags in [1, 0, 2, 3, -1, 0] {
        let _ = p.fcntl(&format!("set {flags}"), fd, F_SETFD, flags);
        let _ = p.fcntl("read back", fd, F_GETFD, 0);
    }
    let _ = p.ioctl("close on exec", fd, FIOCLEX, 0);
    let _ = p.fcntl("read back", fd, F_GETFD, 0);
    let _ = p.ioctl("not close on exec", fd, FIONCLEX, 0);
    let _ = p.fcntl("read back", fd, F_GETFD, 0);
}

fn duplicates_share_the_file(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.fcntl("close on exec", fd, F_SETFD, 1);
    let dup = p.calls.dup(fd);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    let _ = p.fcntl("a flag of its own", dup, F_GETFD, 0);
    let _ = p.fcntl("nonblocking", dup, F_SETFL, O_NONBLOCK);
    let _ = p.fcntl("shared", fd, F_GETFL, 0);
    let _ = p.sendto("sent by one", fd, b"x", LO, 4000);
    p.recvfrom("read by the other", dup, 8, 0);
    p.names("names", dup);
    let _ = p.close("one", fd);
    let got = p.calls.read(dup, 8);
    p.got("the other lives", got);
}

fn duplicated_from_a_number_on(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (cmd, from) in [
        (F_DUPFD, 0),
        (F_DUPFD, 10),
        (F_DUPFD, 10),
        (F_DUPFD_CLOEXEC, 10),
        (F_DUPFD, -1),
        (F_DUPFD, i32::MAX),
    ] {
        let dup = p.fcntl(&format!("{cmd} from {from}"), fd, cmd, from);
        if let Ok(dup) = dup {
            let _ = p.fcntl("close on exec", dup as i32, F_GETFD, 0);
        }
    }
    let next = p.udp();
    p.note("the lowest is still the lowest", next);
}

fn dup2_over_an_open_descriptor(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let old = p.bound(NET, 4001);
    let ret = p.calls.dup2(fd, old);
    let _ = p.ret("over it", ret);
    p.names("is the other now", old);
    let third = p.udp();
    let _ = p.bind("the old one is closed", third, NET, 4001);
    let ret = p.calls.dup2(fd, 40);
    let _ = p.ret("far away", ret);
    p.names("there", 40);
    let next = p.udp();
    p.note("the next", next);
}

fn dup2_onto_itself(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.fcntl("close on exec", fd, F_SETFD, 1);
    let ret = p.calls.dup2(fd, fd);
    let _ = p.ret("itself", ret);
    let _ = p.fcntl("flag kept", fd, F_GETFD, 0);
    let ret = p.calls.dup2(77, 77);
    let _ = p.ret("not open", ret);
}

fn dup3_is_stricter(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (new, flags) in [(fd, 0), (fd, O_CLOEXEC), (20, O_CLOEXEC), (21, O_NONBLOCK), (22, 1)] {
        let ret = p.calls.dup3(fd, new, flags);
        let ret = p.ret(&format!("flags {flags:#o}"), ret);
        if let Ok(new) = ret {
            let _ = p.fcntl("close on exec", new as i32, F_GETFD, 0);
        }
    }
    let ret = p.calls.dup3(77, 77, 0);
    let _ = p.ret("not open, itself", ret);
    let ret = p.calls.dup3(77, 23, 1);
    let _ = p.ret("not open, bad flags", ret);
}

fn bad_numbers_to_duplicate_to(p: &mut Probe<'_>) {
    let fd = p.udp();
    for new in [-1, i32::MAX, i32::MIN] {
        let ret = p.calls.dup2(fd, new);
        let _ = p.ret(&format!("dup2 to {new}"), ret);
        let ret = p.calls.dup2(77, new);
        let _ = p.ret(&format!("dup2 of nothing to {new}"), ret);
        let ret = p.calls.dup3(fd, new, 0);
        let _ = p.ret(&format!("dup3 to {new}"), ret);
    }
}

fn unknown_commands(p: &mut Probe<'_>) {
    let fd = p.udp();
    for cmd in [999, -1, 1032] {
        let _ = p.fcntl(&format!("command {cmd}"), fd, cmd, 0);
    }
}

fn bytes_to_read(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.ioctl("none", fd, FIONREAD, 77);
    for data in [&b"12345"[..], b"123"] {
        let _ = p.sendto("to itself", fd, data, LO, 4000);
        let _ = p.ioctl("of the first", fd, FIONREAD, 77);
    }
    p.recvfrom("taken", fd, 8, 0);
    let _ = p.ioctl("of the second", fd, FIONREAD, 77);
    let unbound = p.udp();
    let _ = p.ioctl("unbound", unbound, FIONREAD, 77);
}

fn bytes_on_their_way(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.ioctl("none", fd, SIOCOUTQ, 77);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    let _ = p.ioctl("arrived at once", fd, SIOCOUTQ, 77);
}

fn nonblocking_by_request(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    for on in [1, 0, 2, 0, -1] {
        let _ = p.ioctl(&format!("set {on}"), fd, FIONBIO, on);
        let _ = p.fcntl("read back", fd, F_GETFL, 0);
    }
    let got = p.calls.recvfrom(fd, 8, 0);
    p.got("does not wait", got);
    let _ = p.fcntl("cleared", fd, F_SETFL, 0);
    let got = p.calls.recvfrom(fd, 8, MSG_DONTWAIT);
    p.got("does not wait", got);
}

fn unknown_requests(p: &mut Probe<'_>) {
    let fd = p.udp();
    for request in [0x1234_5678, 0x5401, 0, 0x8905, 0x894b, u32::MAX] {
        let _ = p.ioctl(&format!("request {request:#x}"), fd, request, 0);
    }
}

fn write_and_writev(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.connect("to itself", fd, LO, 4000);
    for data in [&b"one"[..], b""] {
        let ret = p.calls.write(fd, data);
        p.calls.settle();
        let _ = p.ret("write", ret);
        p.recvfrom("arrived", fd, 16, 0);
    }
    let two = [b"two ".to_vec(), Vec::new(), b"parts".to_vec()];
    for parts in [&two[..], &[], &[Vec::new()]] {
        let ret = p.calls.writev(fd, parts);
        p.calls.settle();
        let _ = p.ret("writev", ret);
        p.recvfrom("arrived", fd, 16, 0);
    }
    let ret = p.calls.writev(fd, &vec![b"x".to_vec(); 1025]);
    let _ = p.ret("too many parts", ret);
    let ret = p.calls.writev(fd, &vec![b"x".to_vec(); 1024]);
    p.calls.settle();
    let _ = p.ret("many parts", ret);
    p.recvfrom("arrived", fd, 2000, 0);
    let ret = p.calls.write(fd, &[1; 65_508]);
    let _ = p.ret("too large", ret);
}
