//! poll(2) and select(2).

use super::checks;
use crate::Probe;
use crate::probe::LO;
use uapi::poll::{
    POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDBAND, POLLRDHUP, POLLRDNORM,
    POLLWRBAND, POLLWRNORM,
};
use uapi::socket::SHUT_RD;

checks! {
    masks_of_each_state
    what_is_asked_decides
    bad_descriptors_in_poll
    the_same_descriptor_twice
    poll_waits_its_time
    select_by_sets
    select_of_bad_descriptors
    select_of_nothing
    poll_of_an_epoll
}

fn masks_of_each_state(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.mask("fresh", fd);
    let _ = p.bind("bind", fd, LO, 4000);
    p.mask("bound", fd);
    let peer = p.bound(LO, 4001);
    let _ = p.connect("connect", fd, LO, 4001);
    p.mask("connected", fd);
    let _ = p.sendto("sent", peer, b"", LO, 4000);
    p.mask("readable", fd);
    p.recvfrom("read", fd, 8, 0);
    p.mask("read", fd);
    let _ = p.close("peer", peer);
    let _ = p.send("to nobody", fd, b"x", 0);
    p.mask("refused", fd);
    let _ = p.shutdown("shut", fd, SHUT_RD);
    p.mask("refused and shut", fd);
    p.recvfrom("the error", fd, 8, 0);
    p.mask("shut", fd);
}

fn what_is_asked_decides(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    for events in [
        0,
        POLLIN,
        POLLPRI,
        POLLOUT,
        POLLERR,
        POLLHUP,
        POLLNVAL,
        POLLRDNORM,
        POLLRDBAND,
        POLLWRNORM,
        POLLWRBAND,
        POLLRDHUP,
        POLLIN | POLLOUT,
        -1,
    ] {
        p.poll(&format!("asked {events:#x}"), &[(fd, events)], 0);
    }
}

fn bad_descriptors_in_poll(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    p.poll("nothing", &[], 0);
    p.poll("negative ones", &[(-1, POLLIN), (-77, 0x7fff)], 0);
    p.poll("one not open", &[(77, POLLIN)], 0);
    p.poll("not open, nothing asked", &[(77, 0)], 0);
    p.poll("among others", &[(fd, POLLOUT), (77, POLLIN), (-1, POLLIN), (fd, POLLIN)], 1000);
    let _ = p.close("closed", fd);
    p.poll("closed", &[(fd, POLLIN)], 0);
}

fn the_same_descriptor_twice(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    p.poll("twice", &[(fd, POLLIN), (fd, POLLOUT), (fd, POLLPRI)], 0);
}

fn poll_waits_its_time(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    p.poll("time is up", &[(fd, POLLIN)], 5);
    p.poll("no descriptor", &[], 5);
    p.poll("writable at once", &[(fd, POLLIN | POLLOUT)], 10_000);
}

fn select_by_sets(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let other = p.bound(LO, 4001);
    p.select("writable", [vec![fd, other], vec![fd, other], vec![fd, other]]);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    p.select("one readable", [vec![fd, other], vec![], vec![]]);
    p.select("both asked", [vec![fd], vec![fd], vec![fd]]);
    p.select("writable only", [vec![], vec![other], vec![]]);
    p.select("exceptions", [vec![], vec![], vec![fd, other]]);
    p.select("not readable", [vec![other], vec![], vec![]]);
    let _ = p.connect("connect to nobody", other, LO, 4009);
    let _ = p.send("lost", other, b"x", 0);
    p.select("an error", [vec![other], vec![other], vec![other]]);
}

fn select_of_bad_descriptors(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    // Below 64: any table has room for it. How far the host's goes beyond is not known.
    p.select("not open", [vec![50], vec![], vec![]]);
    p.select("beside one that is", [vec![], vec![fd], vec![50]]);
    let _ = p.close("closed", fd);
    p.select("closed", [vec![], vec![fd], vec![]]);
    let fd = p.bound(LO, 4000);
    // Now the table has room for 128 at least.
    let high = p.calls.dup2(fd, 100);
    let _ = p.ret("a higher one", high);
    p.select("not open", [vec![77], vec![], vec![]]);
    p.select("beside one that is", [vec![], vec![fd, 100], vec![127]]);
    let _ = p.close("closed", 100);
    p.select("closed", [vec![], vec![100], vec![]]);
    p.select("as far as before", [vec![127], vec![], vec![]]);
}

fn select_of_nothing(p: &mut Probe<'_>) {
    p.select("nothing", [vec![], vec![], vec![]]);
    let mut sets = [vec![], vec![], vec![]];
    let ret = p.calls.select(&mut sets, 5);
    let _ = p.ret("waits its time", ret);
}

fn poll_of_an_epoll(p: &mut Probe<'_>) {
    let ep = p.calls.epoll_create1(0);
    let ep = p.ret("epoll", ep).unwrap_or(-1) as i32;
    p.mask("empty", ep);
    let fd = p.bound(LO, 4000);
    let _ = p.ctl("added", ep, 1, fd, (1, 5));
    p.mask("nothing ready", ep);
    let _ = p.sendto("to itself", fd, b"x", LO, 4000);
    p.mask("ready", ep);
    p.select("ready", [vec![ep], vec![ep], vec![ep]]);
    p.recvfrom("taken", fd, 8, 0);
    p.mask("no more", ep);
}
