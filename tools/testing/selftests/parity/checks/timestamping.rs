//! Times of datagrams: when they came, when they left.

use super::checks;
use crate::probe::{ANY, ETH, LO, control, int, sa};
use crate::{Outgoing, Probe};
use uapi::in_::{IP_PKTINFO, IP_RECVTOS, IP_RECVTTL};
use uapi::net_tstamp::*;
use uapi::socket::{
    MSG_ERRQUEUE, SCM_TS_OPT_ID, SO_BINDTOIFINDEX, SO_ERROR, SO_TIMESTAMP, SO_TIMESTAMP_NEW,
    SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW, SOL_IP, SOL_SOCKET,
};

checks! {
    values_of_timestamping
    times_of_receipt
    times_of_receipt_in_other_shapes
    times_of_sending
    times_of_sending_and_the_datagram
    times_of_sending_and_control_data
    times_of_sending_asked_for_by_a_message
    numbers_of_datagrams
    times_by_their_newer_numbers
    newer_and_older_numbers
}

/// The option.
pub(super) const TIMESTAMPING: (i32, i32) = (SOL_SOCKET, SO_TIMESTAMPING);

/// Asks for times; noted only if that fails.
pub(super) fn ask(p: &mut Probe<'_>, fd: i32, flags: u32) {
    p.with(fd, TIMESTAMPING, flags as i32);
    // The kernel begins to look at its clock for each packet a little later.
    (0..5).for_each(|_| p.calls.settle());
}

/// What the option takes, and what it says then.
pub(super) fn values(p: &mut Probe<'_>, fd: i32) {
    let sets = [
        ("software", SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE),
        ("hardware", SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE),
        ("unknown", 1 << 19),
        ("stream's numbers alone", SOF_TIMESTAMPING_OPT_ID_TCP),
        ("numbers", SOF_TIMESTAMPING_OPT_ID),
        ("a stream's numbers", SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_ID_TCP),
        ("statistics and the packet", SOF_TIMESTAMPING_OPT_STATS),
        ("a clock", SOF_TIMESTAMPING_BIND_PHC),
        ("both", SOF_TIMESTAMPING_OPT_TX_SWHW | SOF_TIMESTAMPING_OPT_PKTINFO),
        ("filtered", SOF_TIMESTAMPING_OPT_RX_FILTER | SOF_TIMESTAMPING_OPT_CMSG),
        ("completion", SOF_TIMESTAMPING_TX_COMPLETION),
        ("none", 0),
    ];
    for (label, flags) in sets {
        let _ = p.set(label, fd, TIMESTAMPING, flags as i32);
        p.get_bytes("now", fd, TIMESTAMPING, 16);
    }
    let both = [int(SOF_TIMESTAMPING_SOFTWARE as i32), int(0)].concat();
    let _ = p.set_bytes("with a clock's number", fd, TIMESTAMPING, &both);
    let _ = p.set_bytes("short", fd, TIMESTAMPING, &both[..3]);
    p.get("in little room", fd, TIMESTAMPING);
}

fn values_of_timestamping(p: &mut Probe<'_>) {
    let fd = p.udp();
    values(p, fd);
    p.with(fd, (SOL_SOCKET, SO_BINDTOIFINDEX), 1);
    let _ = p.set("a clock of loopback", fd, TIMESTAMPING, SOF_TIMESTAMPING_BIND_PHC as i32);
}

fn times_of_receipt(p: &mut Probe<'_>) {
    let reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    for (label, flags) in [
        ("wanted and told", SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE),
        ("wanted", SOF_TIMESTAMPING_RX_SOFTWARE),
        ("of others", SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_RX_FILTER),
        ("a device's", SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE),
        ("none", 0),
    ] {
        ask(p, reader, flags);
        let _ = p.send("sent", fd, b"0123456789", 0);
        p.recvmsg(label, reader, (100, 128), 0);
    }
    ask(p, reader, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
    let _ = p.send("sent", fd, b"0123456789", 0);
    p.recvmsg("little room", reader, (100, 40), 0);
}

fn times_of_receipt_in_other_shapes(p: &mut Probe<'_>) {
    let reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    p.with(reader, (SOL_IP, IP_RECVTTL), 1);
    for option in [SO_TIMESTAMP, SO_TIMESTAMPNS] {
        p.with(reader, (SOL_SOCKET, option), 1);
        for flags in
            [0, SOF_TIMESTAMPING_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE]
        {
            ask(p, reader, flags);
            let _ = p.send("sent", fd, b"0123456789", 0);
            p.recvmsg("told", reader, (100, 256), 0);
        }
    }
}

/// What is told, and that no more is.
pub(super) fn told(p: &mut Probe<'_>, fd: i32, reports: usize) {
    p.mask("mask", fd);
    for _ in 0..reports {
        p.recvmsg("told", fd, (0, 256), MSG_ERRQUEUE);
    }
    p.mask("mask", fd);
    p.recvmsg("no more", fd, (0, 256), MSG_ERRQUEUE);
    p.get("no error", fd, (SOL_SOCKET, SO_ERROR));
}

const SENDING: u32 = SOF_TIMESTAMPING_TX_SCHED
    | SOF_TIMESTAMPING_TX_SOFTWARE
    | SOF_TIMESTAMPING_TX_ACK
    | SOF_TIMESTAMPING_SOFTWARE
    | SOF_TIMESTAMPING_OPT_TSONLY;

fn times_of_sending(p: &mut Probe<'_>) {
    let _reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    ask(p, fd, SENDING);
    let _ = p.send("sent", fd, b"0123456789", 0);
    told(p, fd, 2);
    ask(p, fd, SENDING & !SOF_TIMESTAMPING_SOFTWARE);
    let _ = p.send("sent, the time not told", fd, b"0123456789", 0);
    told(p, fd, 2);
    ask(p, fd, SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_SOFTWARE);
    let _ = p.send("sent, of a stream and a device", fd, b"0123456789", 0);
    told(p, fd, 0);
}

fn times_of_sending_and_the_datagram(p: &mut Probe<'_>) {
    let _reader = p.bound(LO, 4000);
    let fd = p.bound(LO, 4001);
    ask(p, fd, SENDING & !SOF_TIMESTAMPING_OPT_TSONLY);
    let _ = p.sendto("sent", fd, b"0123456789", LO, 4000);
    // Up to the number that IP has given it.
    for _ in 0..2 {
        p.recvmsg("its beginning", fd, (18, 256), MSG_ERRQUEUE);
    }
    told(p, fd, 0);
}

fn times_of_sending_and_control_data(p: &mut Probe<'_>) {
    let _reader = p.bound(ANY, 4000);
    let fd = p.bound(ANY, 4001);
    for option in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        p.with(fd, (SOL_IP, option), 1);
    }
    for flags in [SENDING, SENDING & !SOF_TIMESTAMPING_OPT_TSONLY] {
        for cmsg in [0, SOF_TIMESTAMPING_OPT_CMSG] {
            ask(p, fd, flags & !SOF_TIMESTAMPING_TX_SCHED | cmsg);
            let _ = p.sendto("sent", fd, b"0123456789", ETH, 4000);
            told(p, fd, 1);
        }
    }
}

/// A message with control data of the socket's level.
pub(super) fn with_control(messages: &[(i32, u32)]) -> Outgoing {
    let bytes: Vec<_> = messages.iter().map(|(kind, value)| (*kind, value.to_ne_bytes())).collect();
    let list: Vec<_> = bytes.iter().map(|(kind, data)| (SOL_SOCKET, *kind, &data[..])).collect();
    Outgoing { parts: vec![b"0123456789".to_vec()], control: control(&list), ..Outgoing::default() }
}

fn times_of_sending_asked_for_by_a_message(p: &mut Probe<'_>) {
    let _reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    let once = with_control(&[(SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SOFTWARE)]);
    let _ = p.sendmsg("nothing is told of it", fd, &once, 0);
    told(p, fd, 1);
    ask(p, fd, SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY);
    let _ = p.sendmsg("sent", fd, &once, 0);
    told(p, fd, 1);
    let _ = p.send("without", fd, b"0123456789", 0);
    told(p, fd, 0);
    ask(p, fd, SENDING);
    let _ = p.sendmsg("one of both", fd, &once, 0);
    told(p, fd, 1);
    let _ = p.sendmsg("none", fd, &with_control(&[(SO_TIMESTAMPING, 0)]), 0);
    told(p, fd, 0);
    let report = with_control(&[(SO_TIMESTAMPING, SOF_TIMESTAMPING_SOFTWARE)]);
    let _ = p.sendmsg("not of sending", fd, &report, 0);
    let short = control(&[(SOL_SOCKET, SO_TIMESTAMPING, &[2, 0])]);
    let msg = Outgoing { parts: vec![vec![7]], control: short, ..Outgoing::default() };
    let _ = p.sendmsg("short", fd, &msg, 0);
}

fn numbers_of_datagrams(p: &mut Probe<'_>) {
    let _reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    let flags = SENDING & !SOF_TIMESTAMPING_TX_SCHED;
    let chosen = with_control(&[(SCM_TS_OPT_ID, 77)]);
    let _ = p.sendmsg("numbers are not told", fd, &chosen, 0);
    ask(p, fd, flags | SOF_TIMESTAMPING_OPT_ID);
    for _ in 0..3 {
        let _ = p.send("sent", fd, b"0123456789", 0);
    }
    told(p, fd, 3);
    let _ = p.sendmsg("its own", fd, &chosen, 0);
    told(p, fd, 1);
    let _ = p.sendmsg("not counted", fd, &with_control(&[(SO_TIMESTAMPING, 0)]), 0);
    let _ = p.send("the next", fd, b"0123456789", 0);
    told(p, fd, 1);
    ask(p, fd, flags | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_TX_SCHED);
    let _ = p.send("counted on", fd, b"0123456789", 0);
    told(p, fd, 2);
    ask(p, fd, flags);
    let _ = p.send("without", fd, b"0123456789", 0);
    told(p, fd, 1);
    ask(p, fd, flags | SOF_TIMESTAMPING_OPT_ID);
    let msg = Outgoing { name: Some(sa(LO, 4000)), parts: vec![vec![]], ..Outgoing::default() };
    let _ = p.sendmsg("from zero", fd, &msg, 0);
    told(p, fd, 1);
}

/// The options of times by both their numbers, and what the socket says of each.
pub(super) fn all_of_times(p: &mut Probe<'_>, fd: i32) {
    for (label, option) in [
        ("microseconds", SO_TIMESTAMP),
        ("microseconds, new", SO_TIMESTAMP_NEW),
        ("nanoseconds", SO_TIMESTAMPNS),
        ("nanoseconds, new", SO_TIMESTAMPNS_NEW),
    ] {
        p.get(label, fd, (SOL_SOCKET, option));
    }
    p.get_bytes("times", fd, TIMESTAMPING, 16);
    p.get_bytes("times, new", fd, (SOL_SOCKET, SO_TIMESTAMPING_NEW), 16);
}

/// Each step of an option's number and its value.
pub(super) const STEPS: [(&str, i32, u32); 14] = [
    ("microseconds, new", SO_TIMESTAMP_NEW, 1),
    ("nanoseconds, new", SO_TIMESTAMPNS_NEW, 1),
    ("nanoseconds", SO_TIMESTAMPNS, 1),
    ("microseconds, new, off", SO_TIMESTAMP_NEW, 0),
    ("times, new", SO_TIMESTAMPING_NEW, SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE),
    ("microseconds", SO_TIMESTAMP, 1),
    ("microseconds, off", SO_TIMESTAMP, 0),
    ("nanoseconds, new", SO_TIMESTAMPNS_NEW, 1),
    ("times", SO_TIMESTAMPING, SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE),
    ("unknown times, new", SO_TIMESTAMPING_NEW, 1 << 19),
    ("no times, new", SO_TIMESTAMPING_NEW, 0),
    ("nanoseconds, off", SO_TIMESTAMPNS, 0),
    ("times, new", SO_TIMESTAMPING_NEW, SOF_TIMESTAMPING_SOFTWARE),
    ("microseconds, new", SO_TIMESTAMP_NEW, 1),
];

fn newer_and_older_numbers(p: &mut Probe<'_>) {
    let reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    for (label, option, value) in STEPS {
        let _ = p.set(label, reader, (SOL_SOCKET, option), value as i32);
        // As in `ask`.
        (0..5).for_each(|_| p.calls.settle());
        all_of_times(p, reader);
        let _ = p.send("sent", fd, b"0123456789", 0);
        p.recvmsg("told", reader, (100, 256), 0);
    }
}

fn times_by_their_newer_numbers(p: &mut Probe<'_>) {
    let _reader = p.bound(LO, 4000);
    let fd = p.joined(4001, 4000);
    let new = (SOL_SOCKET, SO_TIMESTAMPING_NEW);
    let both = [int(SOF_TIMESTAMPING_SOFTWARE as i32), int(0)].concat();
    let _ = p.set_bytes("with a clock's number", fd, new, &both);
    let _ = p.set_bytes("short", fd, new, &both[..3]);
    p.get("in little room", fd, new);
    p.with(fd, new, SENDING as i32);
    (0..5).for_each(|_| p.calls.settle());
    let _ = p.send("sent", fd, b"0123456789", 0);
    told(p, fd, 2);
    p.with(fd, new, (SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY) as i32);
    let once = with_control(&[(SO_TIMESTAMPING_NEW, SOF_TIMESTAMPING_TX_SOFTWARE)]);
    let _ = p.sendmsg("by a message", fd, &once, 0);
    told(p, fd, 1);
    let report = with_control(&[(SO_TIMESTAMPING_NEW, SOF_TIMESTAMPING_SOFTWARE)]);
    let _ = p.sendmsg("not of sending", fd, &report, 0);
    let of_microseconds = with_control(&[(SO_TIMESTAMP_NEW, 1)]);
    let _ = p.sendmsg("no such control data", fd, &of_microseconds, 0);
}
