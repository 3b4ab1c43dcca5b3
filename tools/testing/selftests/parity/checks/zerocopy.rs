//! Sending datagrams without a copy: which calls have a number, and what is told of them.

use super::checks;
use crate::probe::{LO, control, sa};
use crate::{Outgoing, Probe};
use uapi::socket::{
    MSG_ERRQUEUE, MSG_MORE, MSG_ZEROCOPY, SO_ERROR, SO_MARK, SO_ZEROCOPY, SOL_SOCKET,
};

checks! {
    values_of_zerocopy
    datagrams_without_a_copy
    datagrams_without_a_copy_that_fail
    corked_datagrams_without_a_copy
}

/// The option.
pub(super) const ZEROCOPY: (i32, i32) = (SOL_SOCKET, SO_ZEROCOPY);

/// What it takes.
pub(super) fn values(p: &mut Probe<'_>, fd: i32) {
    p.get("none", fd, ZEROCOPY);
    for value in [1, 0, 2, -1, 1] {
        let _ = p.set(&format!("set {value}"), fd, ZEROCOPY, value);
        p.get("now", fd, ZEROCOPY);
    }
    let _ = p.set_bytes("short", fd, ZEROCOPY, &[1, 0]);
    p.get("still", fd, ZEROCOPY);
}

fn values_of_zerocopy(p: &mut Probe<'_>) {
    let fd = p.udp();
    values(p, fd);
}

/// What is told, and that no more is.
pub(super) fn told(p: &mut Probe<'_>, fd: i32) {
    p.mask("mask", fd);
    p.recvmsg("told", fd, (8, 128), MSG_ERRQUEUE);
    p.mask("mask", fd);
    p.recvmsg("no more", fd, (8, 128), MSG_ERRQUEUE);
    p.get("no error", fd, (SOL_SOCKET, SO_ERROR));
}

fn datagrams_without_a_copy(p: &mut Probe<'_>) {
    let _reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    let _ = p.send("not asked for", fd, b"0123456789", MSG_ZEROCOPY);
    told(p, fd);
    p.with(fd, ZEROCOPY, 1);
    let _ = p.send("first", fd, b"0123456789", MSG_ZEROCOPY);
    told(p, fd);
    let _ = p.send("second", fd, &[7; 1400], MSG_ZEROCOPY);
    let _ = p.send("without the flag", fd, b"0123456789", 0);
    let _ = p.send("nothing", fd, b"", MSG_ZEROCOPY);
    let _ = p.send("third", fd, b"0123456789", MSG_ZEROCOPY);
    p.recvmsg("little room", fd, (8, 20), MSG_ERRQUEUE);
    told(p, fd);
    let parts = vec![b"abc".to_vec(), vec![], b"def".to_vec()];
    let msg = Outgoing { parts, name: Some(sa(LO, 4000)), ..Outgoing::default() };
    let _ = p.sendmsg("in parts", fd, &msg, MSG_ZEROCOPY);
    told(p, fd);
}

fn datagrams_without_a_copy_that_fail(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.with(fd, ZEROCOPY, 1);
    let _ = p.send("to nobody", fd, b"0123456789", MSG_ZEROCOPY);
    told(p, fd);
    let _reader = p.bound(LO, 4000);
    let _ = p.connect("to somebody", fd, LO, 4000);
    let _ = p.send("too long", fd, &[7; 65_508], MSG_ZEROCOPY);
    let bad = control(&[(SOL_SOCKET, SO_MARK, &[1])]);
    let msg = Outgoing { parts: vec![b"abc".to_vec()], control: bad, ..Outgoing::default() };
    let _ = p.sendmsg("bad control data", fd, &msg, MSG_ZEROCOPY);
    told(p, fd);
    let _ = p.send("the first", fd, b"0123456789", MSG_ZEROCOPY);
    told(p, fd);
}

fn corked_datagrams_without_a_copy(p: &mut Probe<'_>) {
    let reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    p.with(fd, ZEROCOPY, 1);
    let _ = p.send("more", fd, b"01234", MSG_ZEROCOPY | MSG_MORE);
    let _ = p.send("and more", fd, b"56789", MSG_ZEROCOPY | MSG_MORE);
    let _ = p.send("sent", fd, b"abc", MSG_ZEROCOPY);
    p.recvfrom("one datagram", reader, 100, 0);
    told(p, fd);
}
