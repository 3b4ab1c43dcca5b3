//! sendmmsg(2) and recvmmsg(2).

use super::checks;
use crate::probe::{LO, sa};
use crate::{Got, Outgoing, Probe};
use uapi::in_::IP_TTL;
use uapi::socket::{
    MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_WAITFORONE, SOL_IP,
};

checks! {
    several_sent_and_received
    sending_stops_at_the_first_error
    none_to_send_or_receive
    fewer_than_asked
    waiting_for_one
    a_time_limit
    an_error_among_several
    each_truncated_by_itself
    flags_of_several
    each_to_its_own_destination
}

fn message(data: &[u8], port: Option<u16>) -> Outgoing {
    let name = port.map(|port| sa(LO, port));
    Outgoing { name, parts: vec![data.to_vec()], control: Vec::new() }
}

fn receive(p: &mut Probe<'_>, label: &str, fd: i32, lens: &[usize], flags: i32, ms: Option<u64>) {
    let got: Result<Vec<Got>, i32> = p.calls.recvmmsg(fd, lens, flags, ms);
    let count = got.as_ref().map(|got| got.len() as i64).map_err(|error| *error);
    let _ = p.ret(label, count);
    for one in got.unwrap_or_default() {
        p.got("one", one);
    }
}

fn send(p: &mut Probe<'_>, label: &str, fd: i32, msgs: &[Outgoing], flags: i32) {
    let ret = p.calls.sendmmsg(fd, msgs, flags | MSG_DONTWAIT);
    p.calls.settle();
    let _ = p.ret(label, ret);
}

fn several_sent_and_received(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let msgs = [message(b"one", None), message(b"", None), message(b"three", None)];
    send(p, "three", fd, &msgs, 0);
    receive(p, "three", receiver, &[16; 3], MSG_DONTWAIT, None);
    send(p, "three", fd, &msgs, 0);
    receive(p, "two of them", receiver, &[16; 2], MSG_DONTWAIT, None);
    receive(p, "the rest", receiver, &[16; 8], MSG_DONTWAIT, None);
}

fn sending_stops_at_the_first_error(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let good = message(b"good", Some(4001));
    let bad = message(b"bad", Some(0));
    send(p, "in the middle", fd, &[good.clone(), bad.clone(), good.clone()], 0);
    receive(p, "what went", receiver, &[16; 4], MSG_DONTWAIT, None);
    send(p, "at once", fd, &[bad.clone(), good.clone()], 0);
    receive(p, "what went", receiver, &[16; 4], MSG_DONTWAIT, None);
    send(p, "nobody to send to", fd, &[message(b"x", None), good.clone()], 0);
    let large = message(&[1; 65_508], Some(4001));
    send(p, "too large", fd, &[good.clone(), good.clone(), large], 0);
    receive(p, "what went", receiver, &[16; 4], MSG_DONTWAIT, None);
    let mut with = good.clone();
    with.control = crate::probe::control(&[(SOL_IP, IP_TTL, &[9])]);
    send(p, "bad control data", fd, &[good, with], 0);
    p.mask("no error is kept", fd);
}

fn none_to_send_or_receive(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4001);
    send(p, "none", fd, &[], 0);
    receive(p, "none", fd, &[], MSG_DONTWAIT, None);
    receive(p, "nothing there", fd, &[16; 2], MSG_DONTWAIT, None);
    let unbound = p.udp();
    send(p, "none", unbound, &[], 0);
    p.names("not bound by it", unbound);
}

fn fewer_than_asked(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    send(p, "two", fd, &[message(b"a", None), message(b"b", None)], 0);
    receive(p, "of five", receiver, &[16; 5], MSG_DONTWAIT, None);
    let _ = p.fcntl("nonblocking", receiver, 4, 0o4000);
    send(p, "two", fd, &[message(b"a", None), message(b"b", None)], 0);
    receive(p, "of five", receiver, &[16; 5], 0, None);
}

fn waiting_for_one(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    send(p, "two", fd, &[message(b"a", None), message(b"b", None)], 0);
    receive(p, "at least one", receiver, &[16; 5], MSG_WAITFORONE, None);
    receive(p, "none", receiver, &[16; 5], MSG_WAITFORONE | MSG_DONTWAIT, None);
}

fn a_time_limit(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    send(p, "two", fd, &[message(b"a", None), message(b"b", None)], 0);
    receive(p, "all there in time", receiver, &[16; 2], 0, Some(50));
    send(p, "two", fd, &[message(b"a", None), message(b"b", None)], 0);
    receive(p, "no time: one", receiver, &[16; 2], 0, Some(0));
    receive(p, "no time: one", receiver, &[16; 2], 0, Some(0));
}

fn an_error_among_several(p: &mut Probe<'_>) {
    let fd = p.joined(4000, 4009);
    // One: whether the next message of a call meets the error differs, as `udp/tx.rs` says.
    send(p, "to nobody", fd, &[message(b"a", None)], 0);
    p.mask("refused", fd);
    receive(p, "told", fd, &[16; 2], MSG_DONTWAIT, None);
    receive(p, "no more", fd, &[16; 2], MSG_DONTWAIT, None);
    let peer = p.bound(LO, 4009);
    let _ = p.sendto("to it", peer, b"data", LO, 4000);
    receive(p, "data", fd, &[16; 2], MSG_DONTWAIT, None);
}

fn each_truncated_by_itself(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let msgs = [message(b"0123456789", None), message(b"01", None), message(b"0123456789", None)];
    send(p, "three", fd, &msgs, 0);
    receive(p, "cut", receiver, &[4, 4, 4], MSG_DONTWAIT, None);
    send(p, "three", fd, &msgs, 0);
    receive(p, "real lengths", receiver, &[4, 4, 4], MSG_DONTWAIT | MSG_TRUNC, None);
}

fn flags_of_several(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    send(p, "two", fd, &[message(b"a", None), message(b"b", None)], 0);
    receive(p, "peek: the same twice", receiver, &[16; 2], MSG_DONTWAIT | MSG_PEEK, None);
    receive(p, "error queue", receiver, &[16; 2], MSG_DONTWAIT | MSG_ERRQUEUE, None);
    receive(p, "wait for all", receiver, &[16; 2], MSG_DONTWAIT | MSG_WAITALL, None);
    send(p, "more", fd, &[message(b"a", None), message(b"b", None)], 0x8000);
    let _ = p.send("and the end", fd, b"c", 0);
    receive(p, "one datagram", receiver, &[16; 2], MSG_DONTWAIT, None);
    send(p, "out of band", fd, &[message(b"a", None)], 1);
}

fn each_to_its_own_destination(p: &mut Probe<'_>) {
    let all = [4001, 4002, 4003].map(|port| p.bound(LO, port));
    let fd = p.bound(LO, 4000);
    let msgs = [4003, 4001, 4002].map(|port| message(format!("{port}").as_bytes(), Some(port)));
    send(p, "three", fd, &msgs, 0);
    for receiver in all {
        p.recvfrom("arrived", receiver, 16, 0);
    }
}
