//! Sending on a stream.

use super::checks;
use super::stream_lib::{
    acknowledge, disconnect, end, look, no_waiting, pair, reset, shut, state, tcp,
};
use crate::probe::{LO, control, int, sa};
use crate::{Outgoing, Probe};
use uapi::socket::{
    MSG_CONFIRM, MSG_DONTROUTE, MSG_DONTWAIT, MSG_EOR, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK,
    MSG_ZEROCOPY, SHUT_RD, SHUT_WR, SO_ERROR, SO_RCVBUF, SO_SNDBUF, SO_SNDTIMEO, SOL_IP,
    SOL_SOCKET, SOL_TCP,
};
use uapi::sockios::{FIONREAD, SIOCOUTQ, SIOCOUTQNSD};
use uapi::tcp::{TCP_CORK, TCP_NODELAY, TCP_NOTSENT_LOWAT};

checks! {
    stream_small_pieces
    stream_flags_of_send
    stream_nothing_sent
    stream_parts_of_messages
    stream_several_messages_sent
    stream_too_many_parts
    stream_control_data
    stream_more_to_come
    stream_more_to_come_then_nothing
    stream_corked
    stream_corked_and_pushed
    stream_corked_and_shut
    stream_sent_until_full
    stream_full_and_waiting
    stream_room_again
    stream_all_arrives_in_order
    stream_unsent_bounds_writability
    stream_what_is_on_its_way
    stream_sent_after_shutdown
    stream_sent_to_one_who_closed
    stream_sent_to_one_who_reset
    stream_sent_to_one_who_does_not_read
    stream_a_name_is_not_asked
    stream_written_to_the_end_of_a_peer
    stream_two_ways_at_once
    stream_sending_before_connecting
    stream_sending_after_disconnecting
    stream_zero_copy_not_asked_for
}

fn queues(p: &mut Probe<'_>, fd: i32) {
    let _ = p.ioctl("on its way", fd, SIOCOUTQ, 77);
    let _ = p.ioctl("not sent", fd, SIOCOUTQNSD, 77);
}

fn stream_small_pieces(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for no_delay in [0, 1] {
        p.with(pair.client, (SOL_TCP, TCP_NODELAY), no_delay);
        for piece in [&b"a"[..], b"bc", b"def"] {
            let _ = p.send("send", pair.client, piece, 0);
        }
        p.recvfrom("receive", pair.server, 100, 0);
    }
    queues(p, pair.client);
}

fn stream_flags_of_send(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for (label, flags) in [
        ("DONTROUTE", MSG_DONTROUTE),
        ("CONFIRM", MSG_CONFIRM),
        ("EOR", MSG_EOR),
        ("NOSIGNAL", MSG_NOSIGNAL),
        ("PEEK", MSG_PEEK),
        ("a bit nobody has", 0x0000_0010),
        ("none", 0),
    ] {
        let _ = p.send(label, pair.client, b"x", flags);
    }
    p.recvfrom("receive", pair.server, 100, 0);
}

fn stream_nothing_sent(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.send("send", pair.client, b"", 0);
    let ret = p.calls.write(pair.client, b"");
    let _ = p.ret("write", ret);
    let ret = p.calls.writev(pair.client, &[]);
    let _ = p.ret("writev", ret);
    let ret = p.calls.writev(pair.client, &[Vec::new(), Vec::new()]);
    let _ = p.ret("writev", ret);
    p.calls.settle();
    p.mask("nothing comes", pair.server);
}

fn parts(all: &[&[u8]]) -> Outgoing {
    Outgoing { parts: all.iter().map(|part| part.to_vec()).collect(), ..Outgoing::default() }
}

fn stream_parts_of_messages(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for all in [&[&b"one"[..], b"two"][..], &[], &[b"", b"x", b""], &[b"0123456789"]] {
        let _ = p.sendmsg(&format!("{} parts", all.len()), pair.client, &parts(all), 0);
    }
    let ret = p.calls.writev(pair.client, &[b"a".to_vec(), Vec::new(), b"bc".to_vec()]);
    p.calls.settle();
    let _ = p.ret("writev", ret);
    let got = p.calls.readv(pair.server, &[5, 5, 100]);
    p.got("receive", got);
}

fn stream_several_messages_sent(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let all = [parts(&[b"one"]), parts(&[]), parts(&[b"two", b"three"])];
    let ret = p.calls.sendmmsg(pair.client, &all, MSG_DONTWAIT);
    p.calls.settle();
    let _ = p.ret("messages", ret);
    p.recvfrom("receive", pair.server, 100, 0);
    shut(p, "shut", pair.client, SHUT_WR);
    let ret = p.calls.sendmmsg(pair.client, &all, MSG_DONTWAIT | MSG_NOSIGNAL);
    let _ = p.ret("messages", ret);
}

fn stream_too_many_parts(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let many = vec![b"x".to_vec(); 1025];
    let ret = p.calls.writev(pair.client, &many);
    let _ = p.ret("writev", ret);
    let msg = Outgoing { parts: many.clone(), ..Outgoing::default() };
    let _ = p.sendmsg("sendmsg", pair.client, &msg, 0);
    let msg = Outgoing { parts: many[..1024].to_vec(), ..Outgoing::default() };
    let _ = p.sendmsg("as many as there may be", pair.client, &msg, 0);
    p.recvfrom("receive", pair.server, 2000, 0);
}

fn stream_control_data(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for (label, control) in [
        ("of IP", control(&[(SOL_IP, 2, &int(9))])),
        ("of sockets, unknown", control(&[(SOL_SOCKET, 999, &int(9))])),
        ("of TCP", control(&[(SOL_TCP, 1, &int(9))])),
        ("too short", vec![1; 8]),
        ("a length too small", control(&[(SOL_SOCKET, 1, &[])])[..12].to_vec()),
        ("a length of nothing", vec![0; 16]),
    ] {
        let msg = Outgoing { parts: vec![b"x".to_vec()], control, ..Outgoing::default() };
        let _ = p.sendmsg(label, pair.client, &msg, 0);
    }
    p.recvfrom("receive", pair.server, 100, 0);
}

fn stream_more_to_come(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.send("more", pair.client, b"one ", MSG_MORE);
    queues(p, pair.client);
    p.recvfrom("nothing yet", pair.server, 100, 0);
    let _ = p.send("more", pair.client, b"two ", MSG_MORE);
    p.recvfrom("nothing yet", pair.server, 100, 0);
    let _ = p.send("no more", pair.client, b"three", 0);
    p.recvfrom("all", pair.server, 100, 0);
    queues(p, pair.client);
}

fn stream_more_to_come_then_nothing(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.send("more", pair.client, b"one ", MSG_MORE);
    let _ = p.set("no delay pushes", pair.client, (SOL_TCP, TCP_NODELAY), 1);
    p.calls.settle();
    p.recvfrom("all", pair.server, 100, 0);
    let _ = p.send("more", pair.client, b"two", MSG_MORE);
    shut(p, "the end pushes", pair.client, SHUT_WR);
    p.recvfrom("all", pair.server, 100, 0);
    p.recvfrom("the end", pair.server, 100, 0);
}

fn stream_corked(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.set("cork", pair.client, (SOL_TCP, TCP_CORK), 1);
    for piece in [&b"one "[..], b"two "] {
        let _ = p.send("send", pair.client, piece, 0);
        queues(p, pair.client);
        p.recvfrom("nothing yet", pair.server, 100, 0);
    }
    let _ = p.set("uncork", pair.client, (SOL_TCP, TCP_CORK), 0);
    p.calls.settle();
    p.recvfrom("all", pair.server, 100, 0);
    queues(p, pair.client);
}

fn stream_corked_and_pushed(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.set("cork", pair.client, (SOL_TCP, TCP_CORK), 1);
    let _ = p.send("send", pair.client, b"one", 0);
    let _ = p.set("no delay", pair.client, (SOL_TCP, TCP_NODELAY), 1);
    p.calls.settle();
    p.recvfrom("pushed once", pair.server, 100, 0);
    let _ = p.send("send", pair.client, b"two", 0);
    p.recvfrom("corked still", pair.server, 100, 0);
    p.get("cork", pair.client, (SOL_TCP, TCP_CORK));
    p.get("no delay", pair.client, (SOL_TCP, TCP_NODELAY));
    let _ = p.set("uncork", pair.client, (SOL_TCP, TCP_CORK), 0);
    p.calls.settle();
    p.recvfrom("all", pair.server, 100, 0);
}

fn stream_corked_and_shut(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.set("cork", pair.client, (SOL_TCP, TCP_CORK), 1);
    let _ = p.send("send", pair.client, b"one", 0);
    shut(p, "shut", pair.client, SHUT_WR);
    p.recvfrom("all", pair.server, 100, 0);
    p.recvfrom("the end", pair.server, 100, 0);
}

/// Sends until the queues are full and stay so; how much fits is the host's business.
fn fill(p: &mut Probe<'_>, fd: i32) -> usize {
    let piece = vec![7; 10_000];
    let mut sent = 0;
    let mut refused = 0;
    // What is acknowledged late makes room again.
    while refused < 2 && sent < 100_000_000 {
        match p.calls.sendto(fd, &piece, MSG_DONTWAIT, None) {
            Ok(some) => {
                sent += some as usize;
                refused = 0;
                p.calls.settle();
            }
            Err(_) => {
                refused += 1;
                let _tick = p.calls.poll(&mut [], 60);
            }
        }
    }
    sent
}

/// Reads until there is nothing, and lets what waits come.
fn drain(p: &mut Probe<'_>, fd: i32) -> usize {
    let mut read = 0;
    loop {
        let got = p.calls.recvfrom(fd, 100_000, MSG_DONTWAIT);
        match got.ret {
            Ok(some) if some > 0 => read += some as usize,
            _ => return read,
        }
        p.calls.settle();
    }
}

/// Buffers that nobody tunes.
fn small(p: &mut Probe<'_>, [sender, receiver]: [i32; 2]) {
    p.with(sender, (SOL_SOCKET, SO_SNDBUF), 20_000);
    p.with(receiver, (SOL_SOCKET, SO_RCVBUF), 20_000);
}

fn stream_sent_until_full(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    small(p, [pair.client, pair.server]);
    p.mask("mask", pair.client);
    let sent = fill(p, pair.client);
    p.note("some fits", (10_000..10_000_000).contains(&sent));
    p.mask("mask", pair.client);
    let _ = p.send("full", pair.client, b"x", 0);
    let ret = p.calls.sendto(pair.client, &[0; 100], MSG_DONTWAIT, None);
    let _ = p.ret("full", ret);
    no_waiting(p, pair.client);
    let ret = p.calls.write(pair.client, b"x");
    let _ = p.ret("full", ret);
    p.select("sets", [vec![], vec![pair.client], vec![]]);
    p.get("no error", pair.client, (SOL_SOCKET, SO_ERROR));
}

fn stream_full_and_waiting(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    small(p, [pair.client, pair.server]);
    let sent = fill(p, pair.client);
    p.note("some fits", sent > 0);
    let limit = [0_i64, 20_000].map(i64::to_ne_bytes).concat();
    let _ = p.set_bytes("twenty milliseconds", pair.client, (SOL_SOCKET, SO_SNDTIMEO), &limit);
    let ret = p.calls.sendto(pair.client, b"x", 0, None);
    let _ = p.ret("time is up", ret);
    let ret = p.calls.write(pair.client, b"x");
    let _ = p.ret("time is up", ret);
}

fn stream_room_again(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    small(p, [pair.client, pair.server]);
    let sent = fill(p, pair.client);
    p.mask("full", pair.client);
    let mut read = 0;
    // A window that was closed may be opened by a probe of the sender only.
    for _ in 0..100 {
        read += drain(p, pair.server);
        if read == sent {
            break;
        }
        let _tick = p.calls.poll(&mut [], 20);
    }
    p.note("all came", read == sent);
    let _tick = p.calls.poll(&mut [], 100);
    p.mask("room", pair.client);
    let _ = p.send("send", pair.client, b"x", 0);
    p.recvfrom("receive", pair.server, 8, 0);
}

fn stream_all_arrives_in_order(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let data: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (mut sent, mut read) = (0, Vec::new());
    for _ in 0..2000 {
        let piece = &data[sent..(sent + 7001).min(data.len())];
        sent += p.calls.sendto(pair.client, piece, MSG_DONTWAIT, None).unwrap_or(0) as usize;
        p.calls.settle();
        let got = p.calls.recvfrom(pair.server, 9000, MSG_DONTWAIT);
        read.extend(got.data);
        if read.len() == data.len() {
            break;
        }
        if sent == data.len() && got.ret.is_err() {
            let _tick = p.calls.poll(&mut [], 20);
        }
    }
    p.note("all came", read.len());
    p.note("as it was sent", read == data);
}

fn stream_unsent_bounds_writability(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    small(p, [pair.client, pair.server]);
    let _ = p.set("a little", pair.client, (SOL_TCP, TCP_NOTSENT_LOWAT), 1000);
    p.mask("writable", pair.client);
    let _ = p.set("cork", pair.client, (SOL_TCP, TCP_CORK), 1);
    let _ = p.send("send", pair.client, &[1; 400], 0);
    p.mask("a little is unsent", pair.client);
    let _ = p.send("send", pair.client, &[1; 500], 0);
    p.mask("nearly", pair.client);
    let _ = p.send("send", pair.client, &[1; 200], 0);
    p.mask("too much is unsent", pair.client);
    queues(p, pair.client);
    let _ = p.set("uncork", pair.client, (SOL_TCP, TCP_CORK), 0);
    p.calls.settle();
    p.mask("sent", pair.client);
    let _ = p.ioctl("to read", pair.server, FIONREAD, 77);
}

fn stream_what_is_on_its_way(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    queues(p, pair.client);
    let _ = p.send("send", pair.client, b"data", 0);
    queues(p, pair.client);
    p.recvfrom("receive", pair.server, 8, 0);
    queues(p, pair.client);
    shut(p, "shut", pair.client, SHUT_WR);
    acknowledge(p, pair.server);
    queues(p, pair.client);
}

fn stream_sent_after_shutdown(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    shut(p, "shut", pair.client, SHUT_WR);
    for _ in 0..2 {
        let _ = p.send("send", pair.client, b"x", MSG_NOSIGNAL);
        let _ = p.send("nothing", pair.client, b"", MSG_NOSIGNAL);
    }
    let ret = p.calls.writev(pair.client, &[b"x".to_vec()]);
    let _ = p.ret("writev", ret);
    p.get("error", pair.client, (SOL_SOCKET, SO_ERROR));
    let _ = p.send("the other way", pair.server, b"data", 0);
    p.recvfrom("receive", pair.client, 8, 0);
}

fn stream_sent_to_one_who_closed(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    end(p, "close", pair.server);
    look(p, pair.client);
    let _ = p.send("the first arrives", pair.client, b"x", MSG_NOSIGNAL);
    state(p, "state", pair.client);
    p.mask("mask", pair.client);
    let _ = p.send("the error", pair.client, b"x", MSG_NOSIGNAL);
    let _ = p.send("the end", pair.client, b"x", MSG_NOSIGNAL);
    p.recvfrom("receive", pair.client, 8, 0);
    look(p, pair.client);
}

fn stream_sent_to_one_who_reset(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    reset(p, pair.server);
    let _ = p.send("the error", pair.client, b"x", MSG_NOSIGNAL);
    let _ = p.send("the end", pair.client, b"x", MSG_NOSIGNAL);
    p.recvfrom("receive", pair.client, 8, 0);
    look(p, pair.client);
}

fn stream_sent_to_one_who_does_not_read(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    shut(p, "no reading", pair.server, SHUT_RD);
    let _ = p.send("send", pair.client, b"x", 0);
    let _ = p.send("send", pair.client, b"y", 0);
    look(p, pair.client);
    p.recvfrom("it can be read", pair.server, 8, 0);
}

fn stream_a_name_is_not_asked(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for (label, name) in [
        ("elsewhere", sa(LO, 4001)),
        ("nobody's", sa([203, 0, 113, 9], 1)),
        ("short", vec![2, 0, 0]),
        ("of no family", vec![0xff; 16]),
    ] {
        let ret = p.calls.sendto(pair.client, b"x", MSG_DONTWAIT, Some(&name));
        p.calls.settle();
        let _ = p.ret(label, ret);
    }
    let ret = p.calls.sendto(pair.client, b"x", MSG_DONTWAIT, Some(&[1; 200]));
    let _ = p.ret("much too long", ret);
    p.recvfrom("receive", pair.server, 8, 0);
}

fn stream_written_to_the_end_of_a_peer(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    shut(p, "the peer is done", pair.server, SHUT_WR);
    let _ = p.send("send", pair.client, b"one", 0);
    p.recvfrom("the peer reads", pair.server, 8, 0);
    let _ = p.send("send", pair.client, b"two", 0);
    p.recvfrom("the peer reads", pair.server, 8, 0);
    look(p, pair.client);
}

fn stream_two_ways_at_once(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for number in 0..4_u8 {
        let _ = p.send("send", pair.client, &[b'a' + number; 3], 0);
        let _ = p.send("send", pair.server, &[b'A' + number; 2], 0);
    }
    p.recvfrom("server", pair.server, 100, 0);
    p.recvfrom("client", pair.client, 100, 0);
}

fn stream_sending_before_connecting(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.send("send", fd, b"x", MSG_NOSIGNAL);
    let _ = p.sendto("send to a name", fd, b"x", LO, 4000);
    let _ = p.sendmsg("message", fd, &parts(&[b"x"]), MSG_NOSIGNAL);
    look(p, fd);
}

fn stream_sending_after_disconnecting(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.send("more", pair.client, b"never sent", MSG_MORE);
    disconnect(p, "disconnect", pair.client);
    let _ = p.send("send", pair.client, b"x", MSG_NOSIGNAL);
    let _ = p.send("send", pair.client, b"x", MSG_NOSIGNAL);
    p.recvfrom("the peer", pair.server, 100, 0);
    look(p, pair.server);
}

fn stream_zero_copy_not_asked_for(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let _ = p.send("send", pair.client, b"data", MSG_ZEROCOPY);
    p.recvfrom("receive", pair.server, 100, 0);
    p.recvmsg("nothing is told", pair.client, (8, 64), 0x2000);
}
