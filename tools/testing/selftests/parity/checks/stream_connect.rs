//! connect(2) of stream sockets.

use super::checks;
use super::stream_lib::{
    SILENT, accepted, bound, disconnect, end, joined, listener, look, no_waiting, pair, reset,
    shut, state, tcp, tcp_now,
};
use crate::Probe;
use crate::probe::{ANY, BROADCAST, ETH, FOREIGN, GROUP, LO, NET, sa};
use std::collections::BTreeSet;
use uapi::socket::{
    AF_INET6, AF_UNIX, AF_UNSPEC, SHUT_RD, SHUT_WR, SO_BINDTODEVICE, SO_ERROR, SO_REUSEADDR,
    SO_SNDTIMEO, SOL_SOCKET,
};

checks! {
    stream_refused
    stream_refused_without_waiting
    stream_refused_then_accepted
    stream_connected_without_waiting
    stream_nobody_answers
    stream_waits_for_an_answer
    stream_peers_to_connect_to
    stream_names_of_peers
    stream_port_zero_as_peer
    stream_connected_to_itself
    stream_connected_to_itself_and_shut
    stream_the_same_ends_twice
    stream_connected_from_another_address
    stream_connected_to_any_address
    stream_peer_bound_but_not_listening
    stream_listener_that_went
    stream_listener_connects
    stream_disconnected_and_connected_again
    stream_disconnected_keeps_what_was_bound
    stream_disconnected_listener
    stream_disconnected_while_connecting
    stream_ports_are_chosen_apart
    stream_connecting_and_shut
    stream_connecting_and_closed
    stream_connected_through_a_device
    stream_connected_after_a_shutdown
    stream_error_waiting_when_connecting
}

fn stream_refused(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.connect("nobody listens", fd, LO, 4000);
    look(p, fd);
    let _ = p.connect("again", fd, LO, 4000);
    look(p, fd);
    let fd = bound(p, 4001);
    let _ = p.connect("bound", fd, LO, 4000);
    look(p, fd);
    let _ = p.bind("bound once more", fd, LO, 4002);
}

fn stream_refused_without_waiting(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, LO, 4000);
    p.calls.settle();
    state(p, "state", fd);
    p.mask("mask", fd);
    p.select("sets", [vec![fd], vec![fd], vec![fd]]);
    let _ = p.connect("the answer", fd, LO, 4000);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    p.mask("mask", fd);
    let _ = p.connect("on its way again", fd, LO, 4000);
    p.calls.settle();
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    p.get("error once", fd, (SOL_SOCKET, SO_ERROR));
    let _ = p.connect("after it was told", fd, LO, 4000);
    p.calls.settle();
    look(p, fd);
}

fn stream_refused_then_accepted(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.connect("nobody listens", fd, LO, 4000);
    let listener = listener(p, 4000);
    let _ = p.connect("somebody does", fd, LO, 4000);
    p.calls.settle();
    look(p, fd);
    let server = accepted(p, listener);
    p.names("server", server);
    let _ = p.send("send", fd, b"data", 0);
    p.recvfrom("receive", server, 8, 0);
}

fn stream_connected_without_waiting(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, LO, 4000);
    p.calls.settle();
    look(p, fd);
    let _ = p.connect("there", fd, LO, 4000);
    let _ = p.connect("there already", fd, LO, 4000);
    let _ = p.connect("elsewhere", fd, LO, 4001);
    p.mask("listener", listener);
    let server = accepted(p, listener);
    let _ = p.send("send", server, b"data", 0);
    p.recvfrom("receive", fd, 8, 0);
}

fn stream_nobody_answers(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, SILENT, 4000);
    look(p, fd);
    let _ = p.connect("on its way still", fd, SILENT, 4000);
    let _ = p.connect("elsewhere", fd, LO, 4000);
    let _ = p.send("send", fd, b"data", 0);
    p.recvfrom("receive", fd, 8, 0);
    let _ = p.bind("bind", fd, LO, 4001);
    let ret = p.calls.listen(fd, 1);
    let _ = p.ret("listen", ret);
    look(p, fd);
}

fn stream_waits_for_an_answer(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let limit = [0_i64, 20_000].map(i64::to_ne_bytes).concat();
    let _ = p.set_bytes("twenty milliseconds", fd, (SOL_SOCKET, SO_SNDTIMEO), &limit);
    let _ = p.connect("time is up", fd, SILENT, 4000);
    look(p, fd);
    let _ = p.connect("time is up again", fd, SILENT, 4000);
    let ret = p.calls.write(fd, b"data");
    let _ = p.ret("written while it waits", ret);
    look(p, fd);
}

fn stream_peers_to_connect_to(p: &mut Probe<'_>) {
    for ip in [
        ANY,
        LO,
        [127, 9, 8, 7],
        [127, 255, 255, 255],
        NET,
        [192, 0, 2, 255],
        ETH,
        [198, 51, 100, 255],
        BROADCAST,
        GROUP,
        FOREIGN,
    ] {
        let fd = tcp(p);
        let _ = p.connect(&format!("{ip:?}"), fd, ip, 4000);
        look(p, fd);
    }
}

fn stream_names_of_peers(p: &mut Probe<'_>) {
    let _listener = listener(p, 4000);
    let named = |family: i32| {
        let mut name = sa(LO, 4000);
        name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name
    };
    for (label, name) in [
        ("nothing", Vec::new()),
        ("one octet", vec![2]),
        ("a family", sa(LO, 4000)[..2].to_vec()),
        ("no address", sa(LO, 4000)[..7].to_vec()),
        ("an address", sa(LO, 4000)[..8].to_vec()),
        ("one octet less", sa(LO, 4000)[..15].to_vec()),
        ("IPv6", named(AF_INET6)),
        ("UNIX", named(AF_UNIX)),
        ("none", named(AF_UNSPEC)),
        ("a short none", named(AF_UNSPEC)[..2].to_vec()),
        ("no such family", named(77)),
        ("longer", [sa(LO, 4000), vec![0; 16]].concat()),
        ("much too long", [sa(LO, 4000), vec![0; 200]].concat()),
        ("itself", sa(LO, 4000)),
    ] {
        let fd = tcp(p);
        let ret = p.calls.connect(fd, &name);
        p.calls.settle();
        let _ = p.ret(label, ret);
        p.names("names", fd);
    }
}

fn stream_port_zero_as_peer(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.connect("port zero", fd, LO, 0);
    look(p, fd);
}

fn stream_connected_to_itself(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    let _ = p.connect("to itself", fd, LO, 4000);
    look(p, fd);
    let _ = p.send("send", fd, b"echo", 0);
    p.mask("mask", fd);
    p.recvfrom("receive", fd, 8, 0);
    let _ = p.connect("again", fd, LO, 4000);
    let other = tcp(p);
    let _ = p.connect("nobody else gets there", other, LO, 4000);
    disconnect(p, "disconnect", fd);
    look(p, fd);
}

fn stream_connected_to_itself_and_shut(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    let _ = p.connect("to itself", fd, LO, 4000);
    let _ = p.send("send", fd, b"echo", 0);
    shut(p, "shut", fd, SHUT_WR);
    look(p, fd);
    p.recvfrom("what was sent", fd, 8, 0);
    p.recvfrom("the end", fd, 8, 0);
    let _ = p.send("send", fd, b"x", 0);
}

fn stream_the_same_ends_twice(p: &mut Probe<'_>) {
    let _listener = listener(p, 4000);
    let [one, two] = [tcp(p), tcp(p)];
    for fd in [one, two] {
        p.with(fd, (SOL_SOCKET, SO_REUSEADDR), 1);
        let _ = p.bind("bind", fd, LO, 4001);
    }
    let _ = p.connect("one", one, LO, 4000);
    let _ = p.connect("the other", two, LO, 4000);
    look(p, two);
    let _other_listener = super::stream_lib::listener(p, 4002);
    let _ = p.connect("the other elsewhere", two, LO, 4002);
    look(p, two);
}

fn stream_connected_from_another_address(p: &mut Probe<'_>) {
    let listener = tcp(p);
    let _ = p.bind("any", listener, ANY, 4000);
    let ret = p.calls.listen(listener, 8);
    let _ = p.ret("listen", ret);
    for (from, to) in [(LO, NET), (NET, LO), (ETH, LO), (LO, ETH), ([127, 5, 5, 5], LO)] {
        p.within(&format!("{from:?} to {to:?}"));
        let fd = tcp(p);
        let _ = p.bind("bind", fd, from, 0);
        let _ = p.connect("connect", fd, to, 4000);
        p.calls.settle();
        p.names("client", fd);
        let server = accepted(p, listener);
        p.names("server", server);
        let _ = p.send("send", fd, b"data", 0);
        p.recvfrom("receive", server, 8, 0);
    }
    p.within("");
}

/// Any address as a peer is this host.
fn stream_connected_to_any_address(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    let fd = tcp(p);
    let _ = p.connect("any", fd, ANY, 4000);
    p.calls.settle();
    p.names("client", fd);
    let server = accepted(p, listener);
    p.names("server", server);
}

fn stream_peer_bound_but_not_listening(p: &mut Probe<'_>) {
    let peer = bound(p, 4000);
    let fd = tcp(p);
    let _ = p.connect("bound", fd, LO, 4000);
    let ret = p.calls.listen(peer, 1);
    let _ = p.ret("listen", ret);
    let _ = p.connect("listening", fd, LO, 4000);
    look(p, fd);
}

fn stream_listener_that_went(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    end(p, "listener", pair.listener);
    let fd = tcp(p);
    let _ = p.connect("refused", fd, LO, 4000);
    // Those accepted stay.
    let _ = p.send("send", pair.client, b"data", 0);
    p.recvfrom("receive", pair.server, 8, 0);
}

fn stream_listener_connects(p: &mut Probe<'_>) {
    let _peer = listener(p, 4001);
    let fd = listener(p, 4000);
    let _ = p.connect("to somebody", fd, LO, 4001);
    let _ = p.connect("to itself", fd, LO, 4000);
    look(p, fd);
    let client = joined(p, 4000);
    state(p, "client", client);
    p.mask("it listens", fd);
}

fn stream_disconnected_and_connected_again(p: &mut Probe<'_>) {
    let first = pair(p, 4000);
    let _ = p.send("unread", first.server, b"old", 0);
    disconnect(p, "disconnect", first.client);
    look(p, first.client);
    look(p, first.server);
    let _ = p.connect("again", first.client, LO, 4000);
    p.calls.settle();
    look(p, first.client);
    let server = accepted(p, first.listener);
    let _ = p.send("send", server, b"new", 0);
    p.recvfrom("only the new", first.client, 8, 0);
}

fn stream_disconnected_keeps_what_was_bound(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    for ip in [LO, ANY] {
        p.within(&format!("{ip:?}"));
        let fd = tcp(p);
        let _ = p.bind("bind", fd, ip, 4001);
        let _ = p.connect("connect", fd, LO, 4000);
        p.calls.settle();
        p.names("names", fd);
        disconnect(p, "disconnect", fd);
        p.names("names", fd);
        let server = accepted(p, listener);
        end(p, "server", server);
        end(p, "client", fd);
    }
    p.within("");
}

fn stream_disconnected_listener(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let client = joined(p, 4000);
    disconnect(p, "disconnect", fd);
    look(p, fd);
    look(p, client);
    let other = tcp(p);
    let _ = p.connect("nobody listens", other, LO, 4000);
    let ret = p.calls.listen(fd, 1);
    let _ = p.ret("listen again", ret);
    look(p, fd);
    let _ = p.connect("somebody listens", other, LO, 4000);
}

fn stream_disconnected_while_connecting(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, SILENT, 4000);
    disconnect(p, "disconnect", fd);
    look(p, fd);
    let _listener = listener(p, 4001);
    let _ = p.connect("somewhere", fd, LO, 4001);
    p.calls.settle();
    look(p, fd);
}

fn stream_ports_are_chosen_apart(p: &mut Probe<'_>) {
    let _listener = listener(p, 4000);
    let mut ports = BTreeSet::new();
    for _ in 0..8 {
        let fd = joined(p, 4000);
        ports.extend(p.calls.getsockname(fd).ok().map(|name| name[2..4].to_vec()));
    }
    p.note("ports", ports.len());
}

fn stream_connecting_and_shut(p: &mut Probe<'_>) {
    for how in [SHUT_RD, SHUT_WR] {
        p.within(&format!("shut {how}"));
        let fd = tcp_now(p);
        let _ = p.connect("on its way", fd, SILENT, 4000);
        shut(p, "shut", fd, how);
        look(p, fd);
        p.recvfrom("receive", fd, 8, 0);
        let _ = p.connect("again", fd, SILENT, 4000);
        look(p, fd);
    }
    p.within("");
}

/// The port is free at once.
fn stream_connecting_and_closed(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let _ = p.bind("bind", fd, ETH, 4001);
    let _ = p.connect("on its way", fd, SILENT, 4000);
    end(p, "close", fd);
    let fd = tcp(p);
    let _ = p.bind("bind", fd, ETH, 4001);
}

fn stream_connected_through_a_device(p: &mut Probe<'_>) {
    let _listener = listener(p, 4000);
    let fd = tcp_now(p);
    let _ = p.set_bytes("lo", fd, (SOL_SOCKET, SO_BINDTODEVICE), b"lo\0");
    let _ = p.connect("over it", fd, LO, 4000);
    p.calls.settle();
    look(p, fd);
    let fd = tcp_now(p);
    let _ = p.set_bytes("lo", fd, (SOL_SOCKET, SO_BINDTODEVICE), b"lo\0");
    let _ = p.connect("not that way", fd, SILENT, 4000);
    look(p, fd);
}

fn stream_connected_after_a_shutdown(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    for how in [SHUT_RD, SHUT_WR] {
        p.within(&format!("shut {how}"));
        let fd = tcp(p);
        shut(p, "before", fd, how);
        let _ = p.connect("connect", fd, LO, 4000);
        p.calls.settle();
        look(p, fd);
        let server = accepted(p, listener);
        let _ = p.send("send", fd, b"x", 0);
        p.recvfrom("receive", server, 8, 0);
    }
    p.within("");
}

fn stream_error_waiting_when_connecting(p: &mut Probe<'_>) {
    let first = pair(p, 4000);
    reset(p, first.server);
    no_waiting(p, first.client);
    let _ = p.connect("with an error to tell", first.client, LO, 4000);
    look(p, first.client);
    let _ = p.connect("without", first.client, LO, 4000);
    disconnect(p, "disconnect", first.client);
    let _ = p.connect("afresh", first.client, LO, 4000);
    p.calls.settle();
    look(p, first.client);
}
