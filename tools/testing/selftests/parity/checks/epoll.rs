//! epoll(7).

use super::checks;
use crate::Probe;
use crate::probe::LO;
use uapi::poll::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP,
    EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLRDNORM, EPOLLWAKEUP, EPOLLWRNORM,
};
use uapi::socket::{SHUT_RD, SHUT_RDWR};

checks! {
    level_triggered
    edge_triggered
    edge_triggered_for_both
    one_shot
    one_shot_and_edge
    modified_interests
    exclusive_interests
    errors_of_epoll_ctl
    errors_of_epoll_wait
    a_duplicate_keeps_the_interest
    a_duplicate_is_another_key
    a_descriptor_used_again
    more_ready_than_asked
    errors_and_hang_ups_are_always_told
    ready_in_turn
    epoll_waits_its_time
    epoll_create_flags
    an_interest_in_nothing
    several_epolls_of_one_socket
}

fn epoll(p: &mut Probe<'_>) -> i32 {
    let ep = p.calls.epoll_create1(0);
    ep.unwrap_or_else(|_| p.ret("epoll", ep).unwrap_or(-1)) as i32
}

/// An epoll and a socket that has sent itself a datagram.
fn ready(p: &mut Probe<'_>) -> (i32, i32) {
    let fd = p.bound(LO, 4000);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    (epoll(p), fd)
}

fn level_triggered(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    for _ in 0..3 {
        p.wait("as long as it is", ep);
    }
    p.recvfrom("taken", fd, 8, 0);
    p.wait("no more", ep);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    p.wait("again", ep);
}

fn edge_triggered(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN | EPOLLET, 7));
    p.wait("what is there", ep);
    p.wait("once", ep);
    let _ = p.sendto("another", fd, b"y", LO, 4000);
    p.wait("comes", ep);
    p.wait("once", ep);
    p.recvfrom("one taken", fd, 8, 0);
    p.wait("taking is no edge", ep);
    p.recvfrom("two taken", fd, 8, 0);
    let _ = p.sendto("two at once", fd, b"a", LO, 4000);
    let _ = p.sendto("two at once", fd, b"b", LO, 4000);
    p.wait("one event", ep);
    p.wait("once", ep);
    let _ = p.sendto("comes", fd, b"a", LO, 4000);
    for _ in 0..3 {
        p.recvfrom("taken", fd, 8, 0);
    }
    p.wait("gone before the look", ep);
}

fn edge_triggered_for_both(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN | EPOLLOUT | EPOLLET, 7));
    p.wait("both", ep);
    p.wait("once", ep);
    let _ = p.sendto("another", fd, b"y", LO, 4000);
    p.wait("both again", ep);
    p.recvfrom("taken", fd, 8, 0);
    p.recvfrom("taken", fd, 8, 0);
    p.wait("nothing", ep);
}

fn one_shot(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let interest = (EPOLLIN | EPOLLONESHOT, 7);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, interest);
    p.wait("once", ep);
    let _ = p.sendto("another", fd, b"y", LO, 4000);
    p.wait("not armed", ep);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, interest);
    let _ = p.ctl("armed", ep, EPOLL_CTL_MOD, fd, interest);
    p.wait("once", ep);
    p.wait("not armed", ep);
    let _ = p.connect("connected", fd, LO, 4009);
    let _ = p.send("refused", fd, b"x", 0);
    p.wait("not even an error", ep);
    let _ = p.ctl("armed for nothing", ep, EPOLL_CTL_MOD, fd, (EPOLLONESHOT, 8));
    p.wait("the error", ep);
}

fn one_shot_and_edge(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let interest = (EPOLLIN | EPOLLONESHOT | EPOLLET, 7);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, interest);
    p.wait("once", ep);
    let _ = p.ctl("armed", ep, EPOLL_CTL_MOD, fd, interest);
    p.wait("still there", ep);
    p.wait("not armed", ep);
}

fn modified_interests(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    for (events, data) in [
        (EPOLLOUT, 8),
        (0, 9),
        (EPOLLIN | EPOLLOUT, u64::MAX),
        (EPOLLPRI, 1),
        (EPOLLIN | EPOLLRDNORM | EPOLLWRNORM, 2),
        (EPOLLIN | EPOLLET, 3),
        (EPOLLIN | EPOLLET, 3),
        (EPOLLIN | EPOLLWAKEUP, 4),
    ] {
        let _ = p.ctl("modified", ep, EPOLL_CTL_MOD, fd, (events, data));
        p.wait("now", ep);
        p.wait("again", ep);
    }
}

fn exclusive_interests(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN | EPOLLEXCLUSIVE, 7));
    p.wait("ready", ep);
    let _ = p.ctl("not to be changed", ep, EPOLL_CTL_MOD, fd, (EPOLLIN, 7));
    let _ = p.ctl("not so either", ep, EPOLL_CTL_MOD, fd, (EPOLLIN | EPOLLEXCLUSIVE, 7));
    let _ = p.ctl("removed", ep, EPOLL_CTL_DEL, fd, (0, 0));
    for (label, events) in [
        ("one shot", EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT),
        ("urgent", EPOLLPRI | EPOLLEXCLUSIVE),
        ("hang-up of the peer", EPOLLRDHUP | EPOLLEXCLUSIVE),
        ("edge", EPOLLIN | EPOLLOUT | EPOLLET | EPOLLEXCLUSIVE),
        ("error and hang-up", EPOLLERR | EPOLLHUP | EPOLLEXCLUSIVE),
        ("wake-up", EPOLLIN | EPOLLWAKEUP | EPOLLEXCLUSIVE),
        ("nothing else", EPOLLEXCLUSIVE),
    ] {
        let _ = p.ctl(label, ep, EPOLL_CTL_ADD, fd, (events, 1));
        p.wait("now", ep);
        let _ = p.ctl("removed", ep, EPOLL_CTL_DEL, fd, (0, 0));
    }
    let _ = p.ctl("added plainly", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    let changed = (EPOLLIN | EPOLLEXCLUSIVE, 7);
    let _ = p.ctl("not made exclusive", ep, EPOLL_CTL_MOD, fd, changed);
    let other = epoll(p);
    let _ = p.ctl("no epoll exclusively", ep, EPOLL_CTL_ADD, other, changed);
}

fn errors_of_epoll_ctl(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let interest = (EPOLLIN, 7);
    let _ = p.ctl("delete what is not there", ep, EPOLL_CTL_DEL, fd, interest);
    let _ = p.ctl("modify what is not there", ep, EPOLL_CTL_MOD, fd, interest);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, interest);
    let _ = p.ctl("twice", ep, EPOLL_CTL_ADD, fd, interest);
    let _ = p.ctl("itself", ep, EPOLL_CTL_ADD, ep, interest);
    let _ = p.ctl("not open", ep, EPOLL_CTL_ADD, 77, interest);
    let _ = p.ctl("negative", ep, EPOLL_CTL_ADD, -1, interest);
    let _ = p.ctl("no epoll", fd, EPOLL_CTL_ADD, fd, interest);
    let other = p.udp();
    let _ = p.ctl("a socket as epoll", other, EPOLL_CTL_ADD, fd, interest);
    let _ = p.ctl("epoll not open", 77, EPOLL_CTL_ADD, fd, interest);
    let _ = p.ctl("neither open", 77, EPOLL_CTL_ADD, 78, interest);
    for op in [0, 4, -1] {
        let _ = p.ctl(&format!("operation {op}"), ep, op, fd, interest);
        let _ = p.ctl(&format!("operation {op}, not there"), ep, op, other, interest);
        let _ = p.ctl(&format!("operation {op}, not open"), ep, op, 77, interest);
    }
    let _ = p.ctl("delete", ep, EPOLL_CTL_DEL, fd, interest);
    let _ = p.ctl("twice", ep, EPOLL_CTL_DEL, fd, interest);
}

fn errors_of_epoll_wait(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    p.wait_for("no event", ep, 0, 0);
    p.wait_for("negative", ep, -1, 0);
    p.wait_for("a socket", fd, 8, 0);
    p.wait_for("not open", 77, 8, 0);
    p.wait_for("a socket, no event", fd, 0, 0);
    p.wait_for("empty", ep, 8, 0);
}

fn a_duplicate_keeps_the_interest(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    let dup = p.calls.dup(fd);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    let _ = p.close("the original", fd);
    p.wait("still told", ep);
    let _ = p.ctl("but not by that number", ep, EPOLL_CTL_DEL, fd, (0, 0));
    let _ = p.ctl("nor by this", ep, EPOLL_CTL_DEL, dup, (0, 0));
    p.wait("still told", ep);
    let _ = p.close("the duplicate", dup);
    p.wait("gone", ep);
}

fn a_duplicate_is_another_key(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let dup = p.calls.dup(fd);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    let _ = p.ctl("add the duplicate", ep, EPOLL_CTL_ADD, dup, (EPOLLIN | EPOLLOUT, 8));
    p.wait("both", ep);
    let _ = p.ctl("delete one", ep, EPOLL_CTL_DEL, fd, (0, 0));
    p.wait("the other", ep);
    let ret = p.calls.dup2(dup, fd);
    let _ = p.ret("the same file again", ret);
    let _ = p.ctl("add again", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 9));
    p.wait("both", ep);
}

fn a_descriptor_used_again(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    let dup = p.calls.dup(fd);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    let _ = p.close("the original", fd);
    let other = p.bound(LO, 4001);
    p.note("the number is used again", other == fd);
    let _ = p.ctl("another file, another key", ep, EPOLL_CTL_ADD, other, (EPOLLOUT, 8));
    p.wait("both", ep);
    let _ = p.ctl("the new one goes", ep, EPOLL_CTL_DEL, other, (0, 0));
    p.wait("the old one is told", ep);
    let _ = p.close("the duplicate", dup);
    p.wait("nothing", ep);
}

fn more_ready_than_asked(p: &mut Probe<'_>) {
    let ep = epoll(p);
    for number in 0..5 {
        let fd = p.bound(LO, 4000 + number);
        let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLOUT, number.into()));
    }
    for _ in 0..6 {
        p.wait_for("two at a time", ep, 2, 0);
    }
    p.wait("all", ep);
}

fn errors_and_hang_ups_are_always_told(p: &mut Probe<'_>) {
    let ep = epoll(p);
    let fd = p.joined(4000, 4009);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (0, 7));
    p.wait("nothing", ep);
    let _ = p.send("refused", fd, b"x", 0);
    p.wait("error", ep);
    p.recvfrom("taken", fd, 8, 0);
    p.wait("nothing", ep);
    let _ = p.shutdown("shut", fd, SHUT_RD);
    p.wait("half shut", ep);
    let _ = p.ctl("ask", ep, EPOLL_CTL_MOD, fd, (EPOLLRDHUP | EPOLLIN, 7));
    p.wait("half shut", ep);
    let _ = p.shutdown("shut", fd, SHUT_RDWR);
    let _ = p.ctl("ask for nothing", ep, EPOLL_CTL_MOD, fd, (0, 7));
    p.wait("shut", ep);
}

fn ready_in_turn(p: &mut Probe<'_>) {
    let ep = epoll(p);
    let fds = [0, 1, 2].map(|number| p.bound(LO, 4000 + number));
    for (number, fd) in fds.iter().enumerate() {
        let _ = p.ctl("add", ep, EPOLL_CTL_ADD, *fd, (EPOLLIN | EPOLLET, number as u64));
    }
    for number in [2, 0, 1] {
        let _ = p.sendto("sent", fds[0], b"x", LO, 4000 + number);
    }
    p.wait("in order of arrival", ep);
    for number in [1, 2, 1] {
        let _ = p.sendto("sent", fds[0], b"x", LO, 4000 + number);
    }
    p.wait("in order of arrival", ep);
}

fn epoll_waits_its_time(p: &mut Probe<'_>) {
    let ep = epoll(p);
    p.wait_for("time is up, empty", ep, 8, 5);
    let fd = p.bound(LO, 4000);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 7));
    p.wait_for("time is up", ep, 8, 5);
    let _ = p.ctl("writable", ep, EPOLL_CTL_MOD, fd, (EPOLLOUT, 7));
    p.wait_for("at once", ep, 8, 10_000);
}

fn epoll_create_flags(p: &mut Probe<'_>) {
    for size in [-1, 0, 1, i32::MAX] {
        let ret = p.calls.epoll_create(size);
        let _ = p.ret(&format!("size {size}"), ret);
    }
    for flags in [0, 0o2000000, 1, 0o4000, -1] {
        let fd = p.calls.epoll_create1(flags);
        let fd = p.ret(&format!("flags {flags:#o}"), fd);
        if let Ok(fd) = fd {
            let _ = p.fcntl("close on exec", fd as i32, 1, 0);
        }
    }
}

fn an_interest_in_nothing(p: &mut Probe<'_>) {
    let (ep, fd) = ready(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (0, 7));
    p.wait("nothing", ep);
    let _ = p.ctl("edge only", ep, EPOLL_CTL_MOD, fd, (EPOLLET, 7));
    p.wait("nothing", ep);
    let _ = p.ctl("one shot only", ep, EPOLL_CTL_MOD, fd, (EPOLLONESHOT, 7));
    p.wait("nothing", ep);
    let _ = p.ctl("now something", ep, EPOLL_CTL_MOD, fd, (EPOLLIN, 7));
    p.wait("told", ep);
}

fn several_epolls_of_one_socket(p: &mut Probe<'_>) {
    let (one, fd) = ready(p);
    let two = epoll(p);
    let _ = p.ctl("level", one, EPOLL_CTL_ADD, fd, (EPOLLIN, 1));
    let _ = p.ctl("edge", two, EPOLL_CTL_ADD, fd, (EPOLLIN | EPOLLET, 2));
    p.wait("one", one);
    p.wait("two", two);
    p.wait("one", one);
    p.wait("two", two);
    let _ = p.sendto("another", fd, b"x", LO, 4000);
    p.wait("two", two);
    let _ = p.close("one", one);
    p.wait("two", two);
    let _ = p.close("socket", fd);
    p.wait("two", two);
}
