//! poll(2), select(2) and epoll(7) of streams.

use super::checks;
use super::stream_lib::{
    Pair, SILENT, acknowledge, disconnect, end, joined, listener, pair, reset, shut, tcp, tcp_now,
};
use crate::Probe;
use crate::probe::{LO, sa};
use uapi::poll::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP,
    EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, POLLERR, POLLHUP, POLLIN, POLLNVAL,
    POLLOUT, POLLPRI, POLLRDBAND, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM,
};
use uapi::socket::{
    MSG_DONTWAIT, MSG_NOSIGNAL, MSG_OOB, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SO_OOBINLINE,
    SO_RCVBUF, SO_RCVLOWAT, SO_SNDBUF, SOL_SOCKET,
};

checks! {
    stream_masks_from_beginning_to_end
    stream_masks_of_what_is_asked
    stream_masks_of_a_listener
    stream_masks_of_a_refusal
    stream_masks_of_a_half_closed_one
    stream_masks_of_urgent_data
    stream_sets_of_select
    stream_polled_together
    stream_polling_waits
    stream_levels
    stream_edges_of_data
    stream_edges_of_connecting
    stream_edges_of_refusal
    stream_edges_of_the_listener
    stream_edges_of_the_end
    stream_edges_of_a_reset
    stream_edges_of_shutting
    stream_edges_of_room
    stream_edges_of_urgent_data
    stream_edges_of_partial_reads
    stream_edges_below_the_least
    stream_edges_when_added_late
    stream_edges_when_modified
    stream_one_shots
    stream_hang_ups_are_always_told
    stream_an_interest_before_connecting
    stream_an_interest_outlives_disconnecting
    stream_exclusive_listeners
    stream_closing_ends_an_interest
    stream_ready_in_turn
    stream_silence_while_connecting
}

const ALL_EVENTS: u32 = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP;

fn stream_masks_from_beginning_to_end(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    let client = tcp(p);
    p.mask("fresh", client);
    let _ = p.connect("connect", client, LO, 4000);
    p.calls.settle();
    p.mask("connected", client);
    p.mask("listener", listener);
    let server = super::stream_lib::accepted(p, listener);
    p.mask("accepted", server);
    p.mask("listener", listener);
    let _ = p.send("send", client, b"data", 0);
    p.mask("data", server);
    p.recvfrom("receive", server, 2, 0);
    p.mask("some is left", server);
    p.recvfrom("receive", server, 8, 0);
    p.mask("nothing is left", server);
    shut(p, "the client ends", client, SHUT_WR);
    p.mask("client", client);
    p.mask("server", server);
    shut(p, "the server ends", server, SHUT_WR);
    p.mask("client", client);
    p.mask("server", server);
    p.recvfrom("the end", client, 8, 0);
    p.mask("client", client);
}

fn stream_masks_of_what_is_asked(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.send("data", server, b"data", 0);
    let _ = p.send("urgent", server, b"!", MSG_OOB);
    let all = [
        0, POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDNORM, POLLRDBAND,
        POLLWRNORM, POLLWRBAND, POLLRDHUP,
    ];
    for events in all {
        p.poll(&format!("{events:#x}"), &[(client, events)], 0);
    }
    reset(p, server);
    for events in all {
        p.poll(&format!("reset, {events:#x}"), &[(client, events)], 0);
    }
}

fn stream_masks_of_a_listener(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    p.mask("nobody", fd);
    let one = joined(p, 4000);
    p.mask("one", fd);
    joined(p, 4000);
    reset(p, one);
    for _ in 0..3 {
        let ret = p.calls.accept4(fd, 0o4000);
        let _ = p.ret("accept", ret);
        p.mask("then", fd);
        if ret.is_err() {
            break;
        }
        super::stream_lib::no_waiting(p, fd);
    }
    p.select("sets", [vec![fd], vec![fd], vec![fd]]);
}

fn stream_masks_of_a_refusal(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, LO, 4000);
    p.calls.settle();
    p.mask("refused", fd);
    p.select("sets", [vec![fd], vec![fd], vec![fd]]);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    p.mask("told", fd);
    p.recvfrom("receive", fd, 8, 0);
    let _ = p.send("send", fd, b"x", MSG_NOSIGNAL);
    p.mask("then", fd);
}

fn stream_masks_of_a_half_closed_one(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    for (label, fd, how) in [
        ("client, receiving", client, SHUT_RD),
        ("server, receiving", server, SHUT_RD),
        ("client, sending", client, SHUT_WR),
        ("server, sending", server, SHUT_WR),
    ] {
        shut(p, label, fd, how);
        p.mask("client", client);
        p.mask("server", server);
    }
}

fn stream_masks_of_urgent_data(p: &mut Probe<'_>) {
    for in_line in [0, 1] {
        p.within(&format!("in line {in_line}"));
        let Pair { client, server, .. } = pair(p, 4000 + 10 * in_line as u16);
        p.with(client, (SOL_SOCKET, SO_OOBINLINE), in_line);
        let _ = p.send("urgent", server, b"!", MSG_OOB);
        p.mask("urgent", client);
        let _ = p.send("data", server, b"data", 0);
        p.mask("data, too", client);
        p.recvfrom("receive", client, 8, 0);
        p.mask("read", client);
        p.recvfrom("out of band", client, 8, MSG_OOB);
        p.mask("taken", client);
    }
    p.within("");
}

fn stream_sets_of_select(p: &mut Probe<'_>) {
    let Pair { client, server, listener } = pair(p, 4000);
    let all = vec![client, server, listener];
    p.select("quiet", [all.clone(), all.clone(), all.clone()]);
    let _ = p.send("data", client, b"data", 0);
    joined(p, 4000);
    p.select("data and somebody", [all.clone(), all.clone(), all.clone()]);
    let _ = p.send("urgent", client, b"!", MSG_OOB);
    p.select("urgent", [all.clone(), all.clone(), all.clone()]);
    reset(p, client);
    let all = vec![server, listener];
    p.select("reset", [all.clone(), all.clone(), all]);
}

fn stream_polled_together(p: &mut Probe<'_>) {
    let Pair { client, server, listener } = pair(p, 4000);
    let _ = p.send("data", client, b"data", 0);
    let fds = [(client, POLLIN), (server, POLLIN), (listener, POLLIN), (77, POLLIN), (-1, POLLIN)];
    p.poll("all", &fds, 0);
    p.poll("to write", &fds.map(|(fd, _)| (fd, POLLOUT)), 0);
    p.poll("for nothing", &fds.map(|(fd, _)| (fd, 0)), 0);
}

fn stream_polling_waits(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    p.poll("time is up", &[(client, POLLIN)], 10);
    let _ = p.send("data", server, b"x", 0);
    p.poll("at once", &[(client, POLLIN)], 10_000);
    p.poll("nothing asked", &[(client, 0)], 10);
    reset(p, server);
    p.poll("at once", &[(client, 0)], 10_000);
}

fn epoll(p: &mut Probe<'_>) -> i32 {
    let ep = p.calls.epoll_create1(0);
    ep.unwrap_or_else(|_| p.ret("epoll", ep).unwrap_or(-1)) as i32
}

/// An epoll that watches a socket for everything, by edges; what is so at first has been told.
fn edges(p: &mut Probe<'_>, fd: i32) -> i32 {
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (ALL_EVENTS | EPOLLET, 7));
    p.wait("at first", ep);
    p.wait("told once", ep);
    ep
}

fn stream_levels(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, client, (ALL_EVENTS, 7));
    for _ in 0..2 {
        p.wait("as long as it is", ep);
    }
    let _ = p.send("data", server, b"data", 0);
    for _ in 0..2 {
        p.wait("data", ep);
    }
    p.recvfrom("receive", client, 8, 0);
    p.wait("read", ep);
    shut(p, "the end", server, SHUT_WR);
    for _ in 0..2 {
        p.wait("ended", ep);
    }
    shut(p, "done", client, SHUT_WR);
    p.wait("both", ep);
}

fn stream_edges_of_data(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = edges(p, client);
    for _ in 0..3 {
        let _ = p.send("data", server, b"data", 0);
        p.wait("each time", ep);
        p.wait("once", ep);
    }
    p.recvfrom("receive", client, 100, 0);
    p.wait("reading is no edge", ep);
    let _ = p.send("data", server, b"data", 0);
    p.wait("again", ep);
}

fn stream_edges_of_connecting(p: &mut Probe<'_>) {
    let _listener = listener(p, 4000);
    let fd = tcp_now(p);
    let ep = edges(p, fd);
    let _ = p.connect("on its way", fd, LO, 4000);
    p.calls.settle();
    p.wait("connected", ep);
    p.wait("once", ep);
}

fn stream_edges_of_refusal(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let ep = edges(p, fd);
    let _ = p.connect("on its way", fd, LO, 4000);
    p.calls.settle();
    p.wait("refused", ep);
    p.wait("once", ep);
    p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    p.wait("being told is no edge", ep);
}

fn stream_edges_of_the_listener(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let ep = edges(p, fd);
    for _ in 0..2 {
        joined(p, 4000);
        p.wait("each caller", ep);
        p.wait("once", ep);
    }
    super::stream_lib::accepted(p, fd);
    p.wait("one is left, no edge", ep);
    let _ = p.ctl("modify", ep, EPOLL_CTL_MOD, fd, (ALL_EVENTS | EPOLLET, 8));
    p.wait("told anew", ep);
}

fn stream_edges_of_the_end(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = edges(p, client);
    shut(p, "the end", server, SHUT_WR);
    p.wait("ended", ep);
    p.wait("once", ep);
    p.recvfrom("receive", client, 8, 0);
    p.wait("reading is no edge", ep);
    end(p, "closed", server);
    p.wait("nothing to see", ep);
}

fn stream_edges_of_a_reset(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = edges(p, client);
    reset(p, server);
    p.wait("reset", ep);
    p.wait("once", ep);
    p.recvfrom("receive", client, 8, 0);
    p.wait("being told is no edge", ep);
}

fn stream_edges_of_shutting(p: &mut Probe<'_>) {
    for how in [SHUT_RD, SHUT_WR, SHUT_RDWR] {
        p.within(&format!("shut {how}"));
        let Pair { client, server, .. } = pair(p, 4000 + 10 * how as u16);
        let ep = edges(p, client);
        shut(p, "shut", client, how);
        acknowledge(p, server);
        p.wait("shut", ep);
        p.wait("once", ep);
        end(p, "epoll", ep);
    }
    p.within("");
}

fn stream_edges_of_room(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    p.with(client, (SOL_SOCKET, SO_SNDBUF), 20_000);
    p.with(server, (SOL_SOCKET, SO_RCVBUF), 20_000);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, client, (EPOLLOUT | EPOLLET, 7));
    p.wait("room", ep);
    let (mut sent, mut refused) = (0, 0);
    while refused < 2 && sent < 10_000 {
        sent += 1;
        if p.calls.sendto(client, &[0; 10_000], MSG_DONTWAIT, None).is_err() {
            refused += 1;
            let _tick = p.calls.poll(&mut [], 60);
        }
        p.calls.settle();
    }
    // Who filled it in several goes may have been told in between.
    let _told = p.calls.epoll_wait(ep, 8, 0);
    p.wait("full", ep);
    for _ in 0..50 {
        while matches!(p.calls.recvfrom(server, 100_000, MSG_DONTWAIT).ret, Ok(some) if some > 0) {}
        let _tick = p.calls.poll(&mut [], 20);
    }
    p.wait("room again", ep);
    p.wait("once", ep);
}

fn stream_edges_of_urgent_data(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = edges(p, client);
    let _ = p.send("urgent", server, b"!", MSG_OOB);
    p.wait("urgent", ep);
    p.wait("once", ep);
    let _ = p.send("data", server, b"data", 0);
    p.wait("data, and it is there still", ep);
    p.recvfrom("receive", client, 8, 0);
    p.wait("reading is no edge", ep);
}

fn stream_edges_of_partial_reads(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = edges(p, client);
    let _ = p.send("data", server, b"0123456789", 0);
    p.wait("data", ep);
    p.recvfrom("some", client, 3, 0);
    p.wait("some is left, no edge", ep);
    let _ = p.send("more", server, b"ab", 0);
    p.wait("more", ep);
    p.recvfrom("all", client, 100, 0);
    p.wait("nothing", ep);
}

fn stream_edges_below_the_least(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    p.with(client, (SOL_SOCKET, SO_RCVLOWAT), 4);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, client, (EPOLLIN | EPOLLET, 7));
    for _ in 0..4 {
        let _ = p.send("two", server, b"xx", 0);
        p.wait("enough?", ep);
    }
    p.recvfrom("receive", client, 5, 0);
    let _ = p.send("two", server, b"xx", 0);
    p.wait("enough?", ep);
}

fn stream_edges_when_added_late(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.send("data", server, b"data", 0);
    shut(p, "the end", server, SHUT_WR);
    let ep = edges(p, client);
    reset(p, server);
    p.wait("already at its end", ep);
}

fn stream_edges_when_modified(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = edges(p, client);
    let _ = p.send("data", server, b"data", 0);
    p.wait("data", ep);
    for events in [EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP] {
        let _ = p.ctl("modify", ep, EPOLL_CTL_MOD, client, (events | EPOLLET, 8));
        p.wait("told anew", ep);
        p.wait("once", ep);
    }
}

fn stream_one_shots(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, client, (EPOLLIN | EPOLLONESHOT, 7));
    p.wait("nothing", ep);
    let _ = p.send("data", server, b"data", 0);
    p.wait("once", ep);
    reset(p, server);
    p.wait("not even a reset", ep);
    let _ = p.ctl("armed again", ep, EPOLL_CTL_MOD, client, (EPOLLIN | EPOLLONESHOT, 7));
    p.wait("once", ep);
    p.wait("no more", ep);
}

fn stream_hang_ups_are_always_told(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = epoll(p);
    let _ = p.ctl("for nothing", ep, EPOLL_CTL_ADD, client, (0, 7));
    shut(p, "the end", server, SHUT_WR);
    p.wait("half", ep);
    shut(p, "done", client, SHUT_WR);
    p.wait("both", ep);
    let other = pair_at(p, 4010);
    let _ = p.ctl("for nothing", ep, EPOLL_CTL_ADD, other.client, (0, 8));
    reset(p, other.server);
    p.wait("a reset", ep);
    p.get("error", other.client, (SOL_SOCKET, SO_ERROR));
    p.wait("told", ep);
}

fn pair_at(p: &mut Probe<'_>, port: u16) -> Pair {
    p.within(&format!("port {port}"));
    let pair = pair(p, port);
    p.within("");
    pair
}

fn stream_an_interest_before_connecting(p: &mut Probe<'_>) {
    let _listener = listener(p, 4000);
    let fd = tcp_now(p);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN | EPOLLOUT, 7));
    p.wait("fresh", ep);
    let _ = p.bind("bind", fd, LO, 4001);
    p.wait("bound", ep);
    let _ = p.connect("on its way", fd, LO, 4000);
    p.calls.settle();
    p.wait("connected", ep);
}

fn stream_an_interest_outlives_disconnecting(p: &mut Probe<'_>) {
    let Pair { client, .. } = pair(p, 4000);
    let ep = edges(p, client);
    disconnect(p, "disconnect", client);
    p.wait("disconnected", ep);
    p.wait("once", ep);
    let ret = p.calls.connect(client, &sa(LO, 4000));
    p.calls.settle();
    let _ = p.ret("connect", ret);
    p.wait("connected", ep);
}

fn stream_exclusive_listeners(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let epolls = [epoll(p), epoll(p)];
    for ep in epolls {
        let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (EPOLLIN | EPOLLEXCLUSIVE, 7));
    }
    joined(p, 4000);
    // Nobody waits when the caller comes, so that both look.
    for ep in epolls {
        p.wait("somebody", ep);
    }
    super::stream_lib::accepted(p, fd);
    for ep in epolls {
        p.wait("nobody", ep);
    }
}

fn stream_closing_ends_an_interest(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, client, (ALL_EVENTS, 7));
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, server, (ALL_EVENTS, 8));
    p.wait("both", ep);
    end(p, "close", client);
    p.wait("one", ep);
    let _ = p.ctl("gone", ep, EPOLL_CTL_DEL, client, (0, 0));
    let _ = p.ctl("delete", ep, EPOLL_CTL_DEL, server, (0, 0));
    p.wait("nothing", ep);
}

fn stream_ready_in_turn(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    let clients = [0, 1, 2].map(|_| joined(p, 4000));
    let servers = [0, 1, 2].map(|_| super::stream_lib::accepted(p, listener));
    let ep = epoll(p);
    for (number, server) in servers.iter().enumerate() {
        let _ = p.ctl("add", ep, EPOLL_CTL_ADD, *server, (EPOLLIN | EPOLLET, number as u64));
    }
    for number in [2, 0, 1] {
        let _ = p.send("sent", clients[number], b"x", 0);
    }
    p.wait("in order of arrival", ep);
    for number in [1, 2, 1] {
        let _ = p.send("sent", clients[number], b"x", 0);
    }
    p.wait("in order of arrival", ep);
    reset(p, clients[0]);
    end(p, "close", clients[2]);
    p.wait("in order of their ends", ep);
}

fn stream_silence_while_connecting(p: &mut Probe<'_>) {
    let fd = tcp_now(p);
    let _ = p.connect("on its way", fd, SILENT, 4000);
    p.poll("nothing", &[(fd, 0x7fff)], 10);
    let ep = epoll(p);
    let _ = p.ctl("add", ep, EPOLL_CTL_ADD, fd, (ALL_EVENTS, 7));
    p.wait("nothing", ep);
    disconnect(p, "given up", fd);
    p.wait("an end", ep);
}
