//! listen(2) and accept(2).

use super::checks;
use super::stream_lib::{
    accepted, bound, disconnect, end, joined, listener, look, no_waiting, pair, reset, shut, state,
    tcp, tcp_now,
};
use crate::Probe;
use crate::probe::{ANY, ETH, LO, NET};
use uapi::fcntl::{F_GETFD, F_GETFL, O_NONBLOCK};
use uapi::in_::{IP_TOS, IP_TTL};
use uapi::socket::{
    SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_PRIORITY,
    SO_RCVBUF, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR, SO_SNDBUF, SOCK_CLOEXEC, SOCK_NONBLOCK,
    SOL_IP, SOL_SOCKET, SOL_TCP,
};
use uapi::tcp::{
    TCP_CONGESTION, TCP_DEFER_ACCEPT, TCP_INFO, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL,
    TCP_LINGER2, TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_SYNCNT, TCP_USER_TIMEOUT,
};

checks! {
    stream_accepted_in_order
    stream_nobody_to_accept
    stream_accepting_takes_its_time
    stream_flags_of_accept
    stream_flags_are_not_inherited
    stream_options_are_inherited
    stream_names_of_the_accepted
    stream_a_full_backlog
    stream_a_backlog_of_zero
    stream_odd_backlogs
    stream_a_backlog_made_smaller
    stream_the_backlog_is_told
    stream_listener_closed_with_some_waiting
    stream_closed_before_it_was_accepted
    stream_reset_before_it_was_accepted
    stream_data_before_it_was_accepted
    stream_shut_before_it_was_accepted
    stream_a_listener_shut_for_receiving
    stream_a_listener_shut_for_sending
    stream_a_listener_shut_both_ways
    stream_listening_without_a_port
    stream_listening_again_after_disconnecting
    stream_accepted_only_with_data
    stream_errors_of_the_listener
    stream_the_listener_is_no_peer
}

fn stream_accepted_in_order(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    for number in 0..4_u8 {
        let fd = joined(p, 4000);
        let _ = p.send("number", fd, &[b'0' + number], 0);
    }
    for _ in 0..4 {
        p.mask("listener", listener);
        let fd = accepted(p, listener);
        p.recvfrom("number", fd, 8, 0);
    }
    p.mask("listener", listener);
}

fn stream_nobody_to_accept(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    no_waiting(p, fd);
    for flags in [0, SOCK_NONBLOCK, SOCK_CLOEXEC] {
        let ret = p.calls.accept4(fd, flags);
        let _ = p.ret("nobody", ret);
    }
    look(p, fd);
}

fn stream_accepting_takes_its_time(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let limit = [0_i64, 20_000].map(i64::to_ne_bytes).concat();
    let _ = p.set_bytes("twenty milliseconds", fd, (SOL_SOCKET, SO_RCVTIMEO), &limit);
    let ret = p.calls.accept4(fd, 0);
    let _ = p.ret("time is up", ret);
    joined(p, 4000);
    let server = accepted(p, fd);
    p.get_bytes("the limit is inherited", server, (SOL_SOCKET, SO_RCVTIMEO), 16);
    let ret = p.calls.accept4(fd, 0);
    let _ = p.ret("time is up", ret);
}

fn stream_flags_of_accept(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    joined(p, 4000);
    for flags in [1, 2, 0o4, SOCK_NONBLOCK | 1, -1, SOCK_NONBLOCK | SOCK_CLOEXEC] {
        let ret = p.calls.accept4(listener, flags);
        let fd = p.ret(&format!("flags {flags:#o}"), ret);
        if let Ok(fd) = fd {
            let _ = p.fcntl("status", fd as i32, F_GETFL, 0);
            let _ = p.fcntl("descriptor", fd as i32, F_GETFD, 0);
        }
    }
}

fn stream_flags_are_not_inherited(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    no_waiting(p, listener);
    joined(p, 4000);
    let fd = accepted(p, listener);
    let _ = p.fcntl("status", fd, F_GETFL, 0);
    let _ = p.fcntl("descriptor", fd, F_GETFD, 0);
    let _ = p.fcntl("listener", listener, F_GETFL, O_NONBLOCK);
}

fn stream_options_are_inherited(p: &mut Probe<'_>) {
    const OPTIONS: [(i32, i32, i32); 15] = [
        (SOL_SOCKET, SO_KEEPALIVE, 1),
        (SOL_SOCKET, SO_OOBINLINE, 1),
        (SOL_SOCKET, SO_REUSEADDR, 1),
        (SOL_SOCKET, SO_RCVLOWAT, 3),
        (SOL_SOCKET, SO_PRIORITY, 3),
        (SOL_IP, IP_TTL, 77),
        (SOL_IP, IP_TOS, 0x10),
        (SOL_TCP, TCP_NODELAY, 1),
        (SOL_TCP, TCP_KEEPIDLE, 100),
        (SOL_TCP, TCP_KEEPINTVL, 10),
        (SOL_TCP, TCP_KEEPCNT, 4),
        (SOL_TCP, TCP_SYNCNT, 3),
        (SOL_TCP, TCP_USER_TIMEOUT, 5000),
        (SOL_TCP, TCP_LINGER2, 20),
        (SOL_TCP, TCP_NOTSENT_LOWAT, 9000),
    ];
    let listener = listener(p, 4000);
    // One before they are set, and accepted after.
    joined(p, 4000);
    for (level, name, value) in OPTIONS {
        let _ = p.set(&format!("{level}/{name}"), listener, (level, name), value);
    }
    let _ =
        p.set_bytes("linger", listener, (SOL_SOCKET, SO_LINGER), &super::stream_lib::linger(1, 5));
    let _ = p.set_bytes("congestion", listener, (SOL_TCP, TCP_CONGESTION), b"reno");
    // What these are before anybody sets them, the host's tuning decides.
    let buffers = [(SOL_SOCKET, SO_RCVBUF, 20_000), (SOL_SOCKET, SO_SNDBUF, 30_000)];
    for (level, name, value) in buffers {
        p.with(listener, (level, name), value);
    }
    joined(p, 4000);
    for age in ["before", "after"] {
        p.within(age);
        let fd = accepted(p, listener);
        for (level, name, _) in buffers.iter().filter(|_| age == "after") {
            p.get(&format!("{level}/{name}"), fd, (*level, *name));
        }
        for (level, name, _) in OPTIONS {
            p.get(&format!("{level}/{name}"), fd, (level, name));
        }
        p.get_bytes("linger", fd, (SOL_SOCKET, SO_LINGER), 8);
        // Closing must not wait for those who do not read.
        let _ =
            p.set_bytes("no linger", fd, (SOL_SOCKET, SO_LINGER), &super::stream_lib::linger(0, 0));
    }
    p.within("");
}

fn stream_names_of_the_accepted(p: &mut Probe<'_>) {
    let listener = tcp(p);
    let _ = p.bind("any", listener, ANY, 4000);
    let ret = p.calls.listen(listener, 8);
    let _ = p.ret("listen", ret);
    for ip in [LO, [127, 3, 2, 1], NET, ETH] {
        p.within(&format!("{ip:?}"));
        let fd = tcp(p);
        let _ = p.connect("connect", fd, ip, 4000);
        p.calls.settle();
        p.names("client", fd);
        let server = accepted(p, listener);
        p.names("server", server);
    }
    p.within("");
    p.names("listener", listener);
}

/// One more than the backlog fits; of the others nothing is heard.
fn fill(p: &mut Probe<'_>, backlog: i32, clients: usize) {
    let listener = bound(p, 4000);
    let ret = p.calls.listen(listener, backlog);
    let _ = p.ret("listen", ret);
    let fds: Vec<i32> = (0..clients)
        .map(|_| {
            let fd = tcp_now(p);
            let _ = p.connect("on its way", fd, LO, 4000);
            p.calls.settle();
            fd
        })
        .collect();
    for fd in &fds {
        state(p, "state", *fd);
        p.mask("mask", *fd);
    }
    no_waiting(p, listener);
    for _ in 0..clients {
        let ret = p.calls.accept4(listener, 0);
        let _ = p.ret("accept", ret);
    }
}

fn stream_a_full_backlog(p: &mut Probe<'_>) {
    fill(p, 2, 5);
}

fn stream_a_backlog_of_zero(p: &mut Probe<'_>) {
    fill(p, 0, 3);
}

fn stream_odd_backlogs(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    for backlog in [-1, i32::MIN, i32::MAX, 0, 1] {
        let ret = p.calls.listen(fd, backlog);
        let _ = p.ret(&format!("listen {backlog}"), ret);
        info(p, "the most", fd, 28);
    }
    let udp = p.udp();
    let ret = p.calls.listen(udp, 1);
    let _ = p.ret("of datagrams", ret);
    let ret = p.calls.accept4(udp, 0);
    let _ = p.ret("of datagrams", ret);
    let ret = p.calls.listen(77, 1);
    let _ = p.ret("not open", ret);
}

/// A number in `TCP_INFO`.
fn info(p: &mut Probe<'_>, label: &str, fd: i32, offset: usize) {
    let got = p.calls.getsockopt(fd, SOL_TCP, TCP_INFO, 104);
    let number = got.ok().and_then(|all| <[u8; 4]>::try_from(all.get(offset..offset + 4)?).ok());
    p.note(label, format!("{:?}", number.map(u32::from_ne_bytes)));
}

fn stream_a_backlog_made_smaller(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    for (backlog, clients) in [(5, 3), (1, 1), (4, 1)] {
        let ret = p.calls.listen(fd, backlog);
        let _ = p.ret("listen", ret);
        for _ in 0..clients {
            let client = tcp_now(p);
            let _ = p.connect("on its way", client, LO, 4000);
            p.calls.settle();
            state(p, "state", client);
        }
    }
}

fn stream_the_backlog_is_told(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    let ret = p.calls.listen(fd, 7);
    let _ = p.ret("listen", ret);
    for _ in 0..4 {
        info(p, "waiting", fd, 24);
        info(p, "the most", fd, 28);
        joined(p, 4000);
    }
    accepted(p, fd);
    info(p, "one less", fd, 24);
}

fn stream_listener_closed_with_some_waiting(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let clients = [joined(p, 4000), joined(p, 4000)];
    let _ = p.send("sent", clients[1], b"data", 0);
    end(p, "close", fd);
    for client in clients {
        look(p, client);
        p.recvfrom("receive", client, 8, 0);
        let _ = p.send("send", client, b"x", 0);
    }
    let fd = bound(p, 4000);
    p.names("bound again", fd);
}

fn stream_closed_before_it_was_accepted(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let client = joined(p, 4000);
    let _ = p.send("sent", client, b"data", 0);
    end(p, "client", client);
    p.mask("listener", fd);
    let server = accepted(p, fd);
    look(p, server);
    p.recvfrom("receive", server, 8, 0);
    p.recvfrom("the end", server, 8, 0);
}

fn stream_reset_before_it_was_accepted(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let client = joined(p, 4000);
    let _ = p.send("sent", client, b"data", 0);
    reset(p, client);
    p.mask("listener", fd);
    let server = accepted(p, fd);
    p.names("names", server);
    p.recvfrom("receive", server, 8, 0);
    p.recvfrom("receive", server, 8, 0);
    look(p, server);
}

fn stream_data_before_it_was_accepted(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let client = joined(p, 4000);
    let _ = p.send("sent", client, b"one ", 0);
    let _ = p.send("sent", client, b"two", 0);
    let server = accepted(p, fd);
    p.mask("readable", server);
    p.recvfrom("receive", server, 16, 0);
    let _ = p.send("answer", server, b"three", 0);
    p.recvfrom("receive", client, 16, 0);
}

fn stream_shut_before_it_was_accepted(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let client = joined(p, 4000);
    shut(p, "shut", client, SHUT_WR);
    let server = accepted(p, fd);
    look(p, server);
    let _ = p.send("answer", server, b"data", 0);
    p.recvfrom("receive", client, 16, 0);
}

fn shut_listener(p: &mut Probe<'_>, how: i32) {
    let fd = listener(p, 4000);
    no_waiting(p, fd);
    let client = joined(p, 4000);
    shut(p, "shut", fd, how);
    look(p, fd);
    look(p, client);
    let ret = p.calls.accept4(fd, 0);
    let _ = p.ret("accept", ret);
    let other = tcp(p);
    let _ = p.connect("somebody else", other, LO, 4000);
    let ret = p.calls.listen(fd, 2);
    let _ = p.ret("listen", ret);
    look(p, fd);
    let _ = p.connect("somebody else", other, LO, 4000);
    p.calls.settle();
    state(p, "client", other);
}

fn stream_a_listener_shut_for_receiving(p: &mut Probe<'_>) {
    shut_listener(p, SHUT_RD);
}

fn stream_a_listener_shut_for_sending(p: &mut Probe<'_>) {
    shut_listener(p, SHUT_WR);
}

fn stream_a_listener_shut_both_ways(p: &mut Probe<'_>) {
    shut_listener(p, SHUT_RDWR);
}

fn stream_listening_without_a_port(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let ret = p.calls.listen(fd, 2);
    let _ = p.ret("listen", ret);
    look(p, fd);
    let name = p.calls.getsockname(fd).unwrap_or_default();
    let port = name.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let client = tcp(p);
    let _ = p.connect("connect", client, LO, port);
    p.calls.settle();
    let server = accepted(p, fd);
    p.names("server", server);
}

fn stream_listening_again_after_disconnecting(p: &mut Probe<'_>) {
    let first = pair(p, 4000);
    disconnect(p, "disconnect", first.client);
    let ret = p.calls.listen(first.client, 1);
    let _ = p.ret("listen", ret);
    state(p, "state", first.client);
    p.get("error", first.client, (SOL_SOCKET, SO_ERROR));
}

fn stream_accepted_only_with_data(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    no_waiting(p, fd);
    p.get("not deferred", fd, (SOL_TCP, TCP_DEFER_ACCEPT));
    let _ = p.set("defer", fd, (SOL_TCP, TCP_DEFER_ACCEPT), 30);
    let client = joined(p, 4000);
    state(p, "client", client);
    p.mask("nobody yet", fd);
    let ret = p.calls.accept4(fd, 0);
    let _ = p.ret("accept", ret);
    let _ = p.send("data", client, b"data", 0);
    p.mask("somebody", fd);
    let server = accepted(p, fd);
    p.recvfrom("receive", server, 8, 0);
    let _ = p.set("off", fd, (SOL_TCP, TCP_DEFER_ACCEPT), 0);
    joined(p, 4000);
    accepted(p, fd);
}

fn stream_errors_of_the_listener(p: &mut Probe<'_>) {
    let fd = listener(p, 4000);
    let client = joined(p, 4000);
    reset(p, client);
    p.get("no error of its own", fd, (SOL_SOCKET, SO_ERROR));
    let server = accepted(p, fd);
    p.get("the accepted one has it", server, (SOL_SOCKET, SO_ERROR));
}

fn stream_the_listener_is_no_peer(p: &mut Probe<'_>) {
    let first = pair(p, 4000);
    p.names("listener", first.listener);
    let _ = p.send("send", first.listener, b"x", 0);
    p.recvfrom("receive", first.listener, 8, 0);
    let got = p.calls.read(first.listener, 8);
    p.got("read", got);
    let ret = p.calls.write(first.listener, b"x");
    let _ = p.ret("write", ret);
}
