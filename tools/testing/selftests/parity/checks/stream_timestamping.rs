//! Times of a stream's octets: when they came, left and were acknowledged.

use super::checks;
use super::stream_lib::{acknowledge, listener, pair, tcp};
use super::timestamping::{STEPS, TIMESTAMPING, all_of_times, ask, told, values, with_control};
use crate::Probe;
use uapi::net_tstamp::*;
use uapi::socket::{
    MSG_ERRQUEUE, MSG_PEEK, SCM_TS_OPT_ID, SO_TIMESTAMP, SO_TIMESTAMPING, SO_TIMESTAMPING_NEW,
    SO_TIMESTAMPNS, SOL_SOCKET, SOL_TCP,
};
use uapi::tcp::TCP_INQ;

checks! {
    stream_values_of_timestamping
    stream_numbers_need_a_connection
    stream_times_of_receipt
    stream_times_of_receipt_in_other_shapes
    stream_times_of_sending
    stream_times_of_several_calls
    stream_times_count_from_what_is_written_next
    stream_times_asked_for_by_a_message
    stream_times_and_the_data
    stream_newer_and_older_numbers
    stream_times_asked_for_by_newer_numbers
}

const SENDING: u32 = SOF_TIMESTAMPING_TX_SCHED
    | SOF_TIMESTAMPING_TX_SOFTWARE
    | SOF_TIMESTAMPING_TX_ACK
    | SOF_TIMESTAMPING_SOFTWARE
    | SOF_TIMESTAMPING_OPT_TSONLY
    | SOF_TIMESTAMPING_OPT_ID;

fn stream_values_of_timestamping(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    values(p, pair.client);
}

fn stream_numbers_need_a_connection(p: &mut Probe<'_>) {
    let fd = tcp(p);
    values(p, fd);
    let listening = listener(p, 4000);
    let numbers = SOF_TIMESTAMPING_OPT_ID as i32;
    let _ = p.set("of a listener", listening, TIMESTAMPING, numbers);
    ask(p, listening, SOF_TIMESTAMPING_SOFTWARE);
    let child = super::stream_lib::joined(p, 4000);
    let accepted = super::stream_lib::accepted(p, listening);
    p.get_bytes("inherited", accepted, TIMESTAMPING, 16);
    p.get_bytes("not by the other", child, TIMESTAMPING, 16);
}

fn stream_times_of_receipt(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    for (label, flags) in [
        ("wanted and told", SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE),
        ("wanted", SOF_TIMESTAMPING_RX_SOFTWARE),
        ("of others", SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_RX_FILTER),
        ("none", 0),
    ] {
        ask(p, fd, flags);
        let _ = p.send("sent", pair.server, b"0123456789", 0);
        p.recvmsg("peeked", fd, (4, 128), MSG_PEEK);
        p.recvmsg("a part", fd, (4, 128), 0);
        p.recvmsg(label, fd, (100, 128), 0);
    }
    ask(p, fd, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
    p.with(fd, (SOL_TCP, TCP_INQ), 1);
    let _ = p.send("sent", pair.server, b"0123456789", 0);
    p.recvmsg("what is left, too", fd, (4, 128), 0);
    p.recvmsg("little room", fd, (4, 40), 0);
}

fn stream_times_of_receipt_in_other_shapes(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    for option in [SO_TIMESTAMP, SO_TIMESTAMPNS] {
        p.with(fd, (SOL_SOCKET, option), 1);
        for flags in [0, SOF_TIMESTAMPING_SOFTWARE] {
            ask(p, fd, flags);
            let _ = p.send("sent", pair.server, b"0123456789", 0);
            p.recvmsg("told", fd, (100, 256), 0);
        }
    }
}

fn stream_times_of_sending(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    ask(p, fd, SENDING);
    let _ = p.send("sent", fd, &[7; 3000], 0);
    acknowledge(p, pair.server);
    told(p, fd, 3);
    ask(p, fd, SENDING & !SOF_TIMESTAMPING_OPT_ID);
    let _ = p.send("no numbers", fd, &[7; 3000], 0);
    acknowledge(p, pair.server);
    told(p, fd, 3);
    ask(p, fd, 0);
    let _ = p.send("no times", fd, &[7; 3000], 0);
    acknowledge(p, pair.server);
    told(p, fd, 0);
}

fn stream_times_of_several_calls(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    ask(p, fd, SENDING & !(SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE));
    for length in [1, 1000, 30_000] {
        let _ = p.send("sent", fd, &vec![7; length], 0);
        p.recvfrom("read", pair.server, 40_000, 0);
        acknowledge(p, pair.server);
        told(p, fd, 1);
    }
}

fn stream_times_count_from_what_is_written_next(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    let _ = p.send("before", fd, &[7; 100], 0);
    acknowledge(p, pair.server);
    let flags = SENDING & !(SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE);
    ask(p, fd, flags | SOF_TIMESTAMPING_OPT_ID_TCP);
    let _ = p.send("sent", fd, &[7; 100], 0);
    acknowledge(p, pair.server);
    told(p, fd, 1);
}

fn stream_times_asked_for_by_a_message(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    let flags = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY;
    ask(p, fd, flags | SOF_TIMESTAMPING_OPT_ID);
    let once = with_control(&[(SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_ACK)]);
    let _ = p.sendmsg("sent", fd, &once, 0);
    acknowledge(p, pair.server);
    told(p, fd, 1);
    let _ = p.send("without", fd, b"0123456789", 0);
    acknowledge(p, pair.server);
    told(p, fd, 0);
    let _ = p.sendmsg("a number", fd, &with_control(&[(SCM_TS_OPT_ID, 7)]), 0);
    let report = with_control(&[(SO_TIMESTAMPING, SOF_TIMESTAMPING_OPT_ID)]);
    let _ = p.sendmsg("not of sending", fd, &report, 0);
}

fn stream_times_and_the_data(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    ask(p, fd, SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE);
    let _ = p.send("sent", fd, b"0123456789", 0);
    acknowledge(p, pair.server);
    p.recvmsg("a part", fd, (4, 256), MSG_ERRQUEUE);
    told(p, fd, 0);
}

fn stream_newer_and_older_numbers(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    for (label, option, value) in STEPS {
        let _ = p.set(label, fd, (SOL_SOCKET, option), value as i32);
        (0..5).for_each(|_| p.calls.settle());
        all_of_times(p, fd);
        let _ = p.send("sent", pair.server, b"0123456789", 0);
        p.recvmsg("told", fd, (100, 256), 0);
    }
}

fn stream_times_asked_for_by_newer_numbers(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    let flags = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY;
    p.with(fd, (SOL_SOCKET, SO_TIMESTAMPING_NEW), (flags | SOF_TIMESTAMPING_OPT_ID) as i32);
    (0..5).for_each(|_| p.calls.settle());
    let once = with_control(&[(SO_TIMESTAMPING_NEW, SOF_TIMESTAMPING_TX_ACK)]);
    let _ = p.sendmsg("sent", fd, &once, 0);
    acknowledge(p, pair.server);
    told(p, fd, 1);
    let report = with_control(&[(SO_TIMESTAMPING_NEW, SOF_TIMESTAMPING_OPT_ID)]);
    let _ = p.sendmsg("not of sending", fd, &report, 0);
}
