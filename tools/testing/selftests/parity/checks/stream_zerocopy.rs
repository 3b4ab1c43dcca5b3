//! Sending a stream's octets without a copy: which calls have a number, and what is told of them.

use super::checks;
use super::stream_lib::{accepted, acknowledge, listener, pair, reset, tcp};
use super::zerocopy::{ZEROCOPY, told, values};
use crate::probe::{LO, int};
use crate::{Outgoing, Probe};
use uapi::socket::{MSG_ERRQUEUE, MSG_ZEROCOPY, SOL_TCP};
use uapi::tcp::TCP_NODELAY;

checks! {
    stream_values_of_zerocopy
    stream_without_a_copy
    stream_without_a_copy_not_asked_for
    stream_without_a_copy_in_parts
    stream_without_a_copy_that_fails
    stream_without_a_copy_and_a_reset
}

fn stream_values_of_zerocopy(p: &mut Probe<'_>) {
    let fd = tcp(p);
    values(p, fd);
    let pair = pair(p, 4000);
    values(p, pair.client);
    p.get("of another", pair.server, ZEROCOPY);
}

fn stream_without_a_copy(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    p.with(fd, ZEROCOPY, 1);
    let _ = p.send("first", fd, &[7; 3000], MSG_ZEROCOPY);
    acknowledge(p, pair.server);
    told(p, fd);
    for length in [1, 20_000] {
        let _ = p.send("another", fd, &vec![7; length], MSG_ZEROCOPY);
        p.recvfrom("read", pair.server, 30_000, 0);
        acknowledge(p, pair.server);
    }
    let _ = p.send("without the flag", fd, b"0123456789", 0);
    let _ = p.send("nothing", fd, b"", MSG_ZEROCOPY);
    told(p, fd);
    p.get("of the other end", pair.server, ZEROCOPY);
}

fn stream_without_a_copy_not_asked_for(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.send("sent", pair.client, b"0123456789", MSG_ZEROCOPY);
    p.recvfrom("read", pair.server, 100, 0);
    acknowledge(p, pair.server);
    told(p, pair.client);
}

fn stream_without_a_copy_in_parts(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    p.with(fd, ZEROCOPY, 1);
    p.with(fd, (SOL_TCP, TCP_NODELAY), 1);
    let parts: Vec<Vec<u8>> = (0..40).map(|at| vec![at as u8; at]).collect();
    let msg = Outgoing { parts, ..Outgoing::default() };
    let _ = p.sendmsg("forty parts", fd, &msg, MSG_ZEROCOPY);
    p.recvfrom("read", pair.server, 1000, 0);
    acknowledge(p, pair.server);
    told(p, fd);
}

fn stream_without_a_copy_that_fails(p: &mut Probe<'_>) {
    let fd = tcp(p);
    p.with(fd, ZEROCOPY, 1);
    let _ = p.send("no connection", fd, b"0123456789", MSG_ZEROCOPY);
    told(p, fd);
    let listening = listener(p, 4000);
    let _ = p.connect("connected", fd, LO, 4000);
    let server = accepted(p, listening);
    let _ = p.send("the first", fd, b"0123456789", MSG_ZEROCOPY);
    acknowledge(p, server);
    told(p, fd);
    p.forget_port(fd);
}

fn stream_without_a_copy_and_a_reset(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    p.with(fd, ZEROCOPY, 1);
    let _ = p.send("sent", fd, &[7; 100], MSG_ZEROCOPY);
    p.recvfrom("read", pair.server, 1000, 0);
    reset(p, pair.server);
    p.mask("mask", fd);
    p.recvmsg("told", fd, (8, 128), MSG_ERRQUEUE);
    let _ = p.send("an error", fd, &[7; 100], MSG_ZEROCOPY);
    let _ = p.send("over", fd, &[7; 100], MSG_ZEROCOPY);
    told(p, fd);
    let _ = p.set_bytes("still", fd, ZEROCOPY, &int(0));
}
