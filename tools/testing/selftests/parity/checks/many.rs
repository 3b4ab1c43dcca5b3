//! sendmmsg(2) and recvmmsg(2).

use super::checks;
use crate::probe::{LO, sa};
use crate::{Got, Outgoing, Probe, Room};
use uapi::in_::{
    IP_MTU_DISCOVER, IP_PKTINFO, IP_PMTUDISC_DO, IP_RECVERR, IP_RECVTOS, IP_RECVTTL, IP_TTL,
};
use uapi::socket::{
    MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_WAITFORONE,
    SO_ERROR, SOL_IP, SOL_SOCKET,
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
    control_data_of_each
    scattered_each_by_its_own_room
    reports_of_several_errors
    bad_ones_to_receive_from
    an_error_in_the_middle_is_met_once
}

fn message(data: &[u8], port: Option<u16>) -> Outgoing {
    let name = port.map(|port| sa(LO, port));
    Outgoing { name, parts: vec![data.to_vec()], control: Vec::new() }
}

fn receive(p: &mut Probe<'_>, label: &str, fd: i32, lens: &[usize], flags: i32, ms: Option<u64>) {
    let rooms: Vec<Room> = lens.iter().map(|len| Room::of(*len)).collect();
    receive_into(p, label, fd, &rooms, flags, ms);
}

fn receive_into(
    p: &mut Probe<'_>,
    label: &str,
    fd: i32,
    rooms: &[Room],
    flags: i32,
    ms: Option<u64>,
) {
    let got: Result<Vec<Got>, i32> = p.calls.recvmmsg(fd, rooms, flags, ms);
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

fn room(parts: &[usize], control: usize) -> Room {
    Room { parts: parts.to_vec(), control }
}

fn control_data_of_each(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        p.with(receiver, (SOL_IP, name), 1);
    }
    let fd = p.joined(4000, 4001);
    let mut with = message(b"by message", None);
    with.control = crate::probe::control(&[(SOL_IP, IP_TTL, &crate::probe::int(9))]);
    let msgs = [message(b"plain", None), with, message(b"a", None), message(b"b", None)];
    send(p, "four", fd, &msgs, 0);
    let rooms = [room(&[16], 256), room(&[16], 256), room(&[16], 0), room(&[16], 40)];
    receive_into(p, "with room, without, with little", receiver, &rooms, MSG_DONTWAIT, None);
    send(p, "two", fd, &msgs[..2], 0);
    let rooms = [room(&[16], 256), room(&[16], 256)];
    let flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    receive_into(p, "close on exec", receiver, &rooms, flags, None);
}

fn scattered_each_by_its_own_room(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.joined(4000, 4001);
    let msgs: Vec<Outgoing> = (0..4).map(|_| message(b"0123456789", None)).collect();
    send(p, "four", fd, &msgs, 0);
    let rooms = [room(&[3, 3, 16], 0), room(&[], 0), room(&[0, 4, 0, 2], 0), room(&[16], 0)];
    receive_into(p, "in parts", receiver, &rooms, MSG_DONTWAIT, None);
    send(p, "two", fd, &msgs[..2], 0);
    let rooms = [room(&[16], 0), room(&[1; 1025], 0)];
    receive_into(p, "too many parts", receiver, &rooms, MSG_DONTWAIT, None);
    p.get("the error is kept", receiver, (SOL_SOCKET, SO_ERROR));
    receive_into(p, "the second", receiver, &rooms[..1], MSG_DONTWAIT, None);
    receive_into(p, "too many at once", receiver, &rooms[1..], MSG_DONTWAIT, None);
}

fn reports_of_several_errors(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    for data in [&b"one"[..], b"two"] {
        let _ = p.sendto("to nobody", fd, data, LO, 4009);
        p.get("its error", fd, (SOL_SOCKET, SO_ERROR));
    }
    let rooms = [room(&[16], 256), room(&[16], 256), room(&[16], 256)];
    let flags = MSG_DONTWAIT | MSG_ERRQUEUE;
    receive_into(p, "both reports", fd, &rooms, flags, None);
    receive_into(p, "no more", fd, &rooms, flags, None);
}

fn bad_ones_to_receive_from(p: &mut Probe<'_>) {
    receive(p, "none of a closed one", 50, &[], MSG_DONTWAIT, None);
    receive(p, "of a closed one", 50, &[16], MSG_DONTWAIT, None);
    send(p, "none to a closed one", 50, &[], 0);
    let ep = p.calls.epoll_create1(0);
    let ep = p.ret("epoll", ep).unwrap_or(-1) as i32;
    receive(p, "none of an epoll", ep, &[], MSG_DONTWAIT, None);
    let fd = p.joined(4000, 4009);
    let _ = p.send("to nobody", fd, b"x", 0);
    receive(p, "none, with an error", fd, &[], MSG_DONTWAIT, None);
    receive(p, "none", fd, &[], MSG_DONTWAIT, None);
    let large = Room { parts: vec![1; 1025], control: 0 };
    let got = p.calls.recvmsg(50, &large, MSG_DONTWAIT);
    let _ = p.got("too many parts of a closed one", got);
    let parts = Outgoing { parts: vec![vec![1]; 1025], ..Outgoing::default() };
    let _ = p.sendmsg("too many parts to a closed one", 50, &parts, 0);
}

fn an_error_in_the_middle_is_met_once(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    let good = message(b"good", Some(4001));
    p.with(fd, (SOL_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DO);
    let far = Outgoing { name: Some(sa([198, 51, 100, 2], 4001)), ..message(&[0; 2000], None) };
    send(p, "too large for the way", fd, &[good.clone(), far.clone(), good.clone()], 0);
    receive(p, "what went", receiver, &[16; 4], MSG_DONTWAIT, None);
    let rooms = [room(&[16], 256), room(&[16], 256), room(&[16], 256)];
    receive_into(p, "one report", fd, &rooms, MSG_DONTWAIT | MSG_ERRQUEUE, None);
    p.get("no error is left", fd, (SOL_SOCKET, SO_ERROR));
}
