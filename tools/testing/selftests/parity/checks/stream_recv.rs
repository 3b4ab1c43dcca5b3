//! Receiving from a stream: parts, flags, urgent data.

use super::checks;
use super::stream_lib::{Pair, end, no_waiting, pair, reset, shut, tcp};
use crate::probe::int;
use crate::{Probe, Room};
use uapi::socket::{
    MSG_CMSG_CLOEXEC, MSG_DONTROUTE, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC,
    MSG_WAITALL, SHUT_RD, SHUT_WR, SO_OOBINLINE, SO_PEEK_OFF, SO_RCVLOWAT, SO_RCVTIMEO, SOL_SOCKET,
    SOL_TCP,
};
use uapi::sockios::{FIONREAD, SIOCATMARK};
use uapi::tcp::TCP_INQ;

checks! {
    stream_read_in_parts
    stream_writes_run_together
    stream_peeking_leaves_it
    stream_peeking_past_a_boundary
    stream_waiting_for_all_that_is_there
    stream_waiting_for_all_until_the_end
    stream_waiting_for_all_until_time_is_up
    stream_waiting_for_all_and_peeking
    stream_truncation_throws_away
    stream_truncation_of_more_than_there_is
    stream_nothing_asked_for
    stream_nothing_there
    stream_a_receive_time_out
    stream_the_end_is_told_each_time
    stream_data_before_the_end
    stream_data_before_a_reset
    stream_receiving_shut_and_more_comes
    stream_flags_of_receive
    stream_parts_to_receive_into
    stream_messages_have_no_sender
    stream_several_messages
    stream_the_least_to_receive
    stream_the_least_to_receive_waits
    stream_octets_to_read
    stream_octets_left_are_told
    stream_peek_offsets
    stream_error_queue
    stream_urgent_data
    stream_urgent_data_in_line
    stream_urgent_data_twice
    stream_urgent_data_peeked
    stream_urgent_data_read_past
    stream_urgent_data_alone
    stream_urgent_data_of_several_octets
    stream_urgent_data_and_the_end
    stream_urgent_data_taken_in_line_later
    stream_the_mark
}

/// A pair over which the server has sent so much, piece by piece.
fn with(p: &mut Probe<'_>, pieces: &[&[u8]]) -> Pair {
    let pair = pair(p, 4000);
    for piece in pieces {
        let _ = p.send("sent", pair.server, piece, 0);
    }
    pair
}

fn time_out(p: &mut Probe<'_>, fd: i32) {
    let limit = [0_i64, 20_000].map(i64::to_ne_bytes).concat();
    let _ = p.set_bytes("twenty milliseconds", fd, (SOL_SOCKET, SO_RCVTIMEO), &limit);
}

fn stream_read_in_parts(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]).client;
    for len in [3, 1, 4, 100, 1] {
        p.recvfrom(&format!("{len}"), fd, len, 0);
        let _ = p.ioctl("left", fd, FIONREAD, 77);
    }
}

fn stream_writes_run_together(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one", b"two", b"three"]).client;
    p.recvfrom("some", fd, 4, 0);
    let got = p.calls.read(fd, 100);
    p.got("the rest", got);
}

fn stream_peeking_leaves_it(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]).client;
    p.recvfrom("peek", fd, 4, MSG_PEEK);
    p.recvfrom("peek again", fd, 100, MSG_PEEK);
    let _ = p.ioctl("there", fd, FIONREAD, 77);
    p.recvfrom("taken", fd, 4, 0);
    p.recvfrom("peek at the rest", fd, 100, MSG_PEEK);
    p.recvfrom("taken", fd, 100, 0);
    p.recvfrom("peek at nothing", fd, 100, MSG_PEEK);
}

fn stream_peeking_past_a_boundary(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one", b"two", b"three"]).client;
    for len in [2, 3, 5, 8, 20] {
        p.recvfrom(&format!("peek at {len}"), fd, len, MSG_PEEK);
    }
    p.recvfrom("taken", fd, 20, 0);
}

fn stream_waiting_for_all_that_is_there(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one", b"two"]).client;
    let got = p.calls.recvfrom(fd, 6, MSG_WAITALL);
    p.got("all", got);
    p.recvfrom("but not waiting", fd, 6, MSG_WAITALL);
}

fn stream_waiting_for_all_until_the_end(p: &mut Probe<'_>) {
    let pair = with(p, &[b"one", b"two"]);
    shut(p, "the end", pair.server, SHUT_WR);
    let got = p.calls.recvfrom(pair.client, 100, MSG_WAITALL);
    p.got("what there is", got);
    let got = p.calls.recvfrom(pair.client, 100, MSG_WAITALL);
    p.got("nothing more", got);
}

fn stream_waiting_for_all_until_time_is_up(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one"]).client;
    time_out(p, fd);
    let got = p.calls.recvfrom(fd, 100, MSG_WAITALL);
    p.got("what there is", got);
    let got = p.calls.recvfrom(fd, 100, MSG_WAITALL);
    p.got("nothing", got);
}

fn stream_waiting_for_all_and_peeking(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one", b"two"]).client;
    time_out(p, fd);
    for len in [3, 6, 9] {
        let got = p.calls.recvfrom(fd, len, MSG_WAITALL | MSG_PEEK);
        p.got(&format!("peek at {len}"), got);
    }
    p.recvfrom("taken", fd, 20, 0);
}

fn stream_truncation_throws_away(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]).client;
    let got = p.calls.recvfrom(fd, 4, MSG_TRUNC | MSG_DONTWAIT);
    let _ = p.ret("thrown away", got.ret);
    p.recvfrom("what follows", fd, 3, 0);
    let got = p.calls.recvfrom(fd, 2, MSG_TRUNC | MSG_PEEK | MSG_DONTWAIT);
    let _ = p.ret("peeked at", got.ret);
    p.recvfrom("the rest", fd, 20, 0);
}

fn stream_truncation_of_more_than_there_is(p: &mut Probe<'_>) {
    let fd = with(p, &[b"one", b"two"]).client;
    let got = p.calls.recvfrom(fd, 100, MSG_TRUNC | MSG_DONTWAIT);
    let _ = p.ret("thrown away", got.ret);
    let got = p.calls.recvfrom(fd, 100, MSG_TRUNC | MSG_DONTWAIT);
    let _ = p.ret("nothing", got.ret);
}

fn stream_nothing_asked_for(p: &mut Probe<'_>) {
    let fd = with(p, &[b"data"]).client;
    p.recvfrom("no octet", fd, 0, 0);
    let got = p.calls.read(fd, 0);
    p.got("read", got);
    let got = p.calls.readv(fd, &[]);
    p.got("no parts", got);
    let got = p.calls.readv(fd, &[0, 0]);
    p.got("empty parts", got);
    p.recvfrom("all", fd, 8, 0);
    p.recvfrom("no octet, nothing there", fd, 0, 0);
}

fn stream_nothing_there(p: &mut Probe<'_>) {
    let fd = pair(p, 4000).client;
    p.recvfrom("receive", fd, 8, 0);
    p.recvfrom("peek", fd, 8, MSG_PEEK);
    p.recvmsg("message", fd, (8, 64), 0);
    no_waiting(p, fd);
    let got = p.calls.read(fd, 8);
    p.got("read", got);
    let got = p.calls.recvfrom(fd, 8, MSG_WAITALL);
    p.got("all", got);
}

fn stream_a_receive_time_out(p: &mut Probe<'_>) {
    let fd = pair(p, 4000).client;
    time_out(p, fd);
    let got = p.calls.recvfrom(fd, 8, 0);
    p.got("waited", got);
    let got = p.calls.read(fd, 8);
    p.got("waited", got);
    let got = p.calls.recvfrom(fd, 8, MSG_PEEK);
    p.got("waited", got);
}

fn stream_the_end_is_told_each_time(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    shut(p, "the end", pair.server, SHUT_WR);
    for _ in 0..2 {
        let got = p.calls.recvfrom(pair.client, 8, 0);
        p.got("receive", got);
        let got = p.calls.recvfrom(pair.client, 8, MSG_PEEK);
        p.got("peek", got);
        let got = p.calls.read(pair.client, 8);
        p.got("read", got);
        let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    }
}

fn stream_data_before_the_end(p: &mut Probe<'_>) {
    let pair = with(p, &[b"data"]);
    end(p, "the end", pair.server);
    p.mask("mask", pair.client);
    let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    p.recvfrom("some", pair.client, 2, 0);
    p.mask("mask", pair.client);
    p.recvfrom("the rest", pair.client, 8, 0);
    p.mask("mask", pair.client);
    p.recvfrom("the end", pair.client, 8, 0);
}

fn stream_data_before_a_reset(p: &mut Probe<'_>) {
    let pair = with(p, &[b"data"]);
    reset(p, pair.server);
    p.mask("mask", pair.client);
    let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    p.recvfrom("some", pair.client, 2, 0);
    p.recvfrom("the rest", pair.client, 8, 0);
    p.recvfrom("the error", pair.client, 8, 0);
    p.recvfrom("the end", pair.client, 8, 0);
    p.mask("mask", pair.client);
}

fn stream_receiving_shut_and_more_comes(p: &mut Probe<'_>) {
    let pair = with(p, &[b"before"]);
    shut(p, "shut", pair.client, SHUT_RD);
    p.recvfrom("what was there", pair.client, 8, 0);
    p.recvfrom("the end", pair.client, 8, 0);
    let _ = p.send("more", pair.server, b"after", 0);
    p.mask("mask", pair.client);
    let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    p.recvfrom("it is there", pair.client, 8, 0);
    p.recvfrom("the end", pair.client, 8, 0);
    p.mask("the peer", pair.server);
}

fn stream_flags_of_receive(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]).client;
    for (label, flags) in [
        ("OOB", MSG_OOB),
        ("CMSG_CLOEXEC", MSG_CMSG_CLOEXEC),
        ("a bit nobody has", 0x0008_0000),
        ("DONTROUTE", MSG_DONTROUTE),
        ("WAITALL", MSG_WAITALL),
        ("none", 0),
    ] {
        p.recvmsg(label, fd, (1, 64), flags);
    }
}

fn stream_parts_to_receive_into(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789", b"abcdefghij"]).client;
    for parts in [&[1, 2][..], &[0, 3, 0, 2], &[], &[1; 1025], &[4, 1]] {
        let room = Room { parts: parts.to_vec(), control: 0 };
        let got = p.calls.recvmsg(fd, &room, MSG_DONTWAIT);
        p.got(&format!("{} parts", parts.len()), got);
    }
    let got = p.calls.readv(fd, &[2, 2, 100]);
    p.got("readv", got);
    let got = p.calls.readv(fd, &[1; 1025]);
    p.got("readv of too many", got);
}

fn stream_messages_have_no_sender(p: &mut Probe<'_>) {
    let fd = with(p, &[b"data", b"more"]).client;
    let got = p.calls.recvfrom(fd, 4, MSG_DONTWAIT);
    p.note("octets of a name", got.name.len());
    let got = p.calls.recvmsg(fd, &Room { parts: vec![8], control: 64 }, MSG_DONTWAIT);
    p.note("octets of a name", got.name.len());
    p.got("message", got);
}

fn stream_several_messages(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]).client;
    let rooms = [Room::of(4), Room::of(4), Room::of(4), Room::of(4)];
    match p.calls.recvmmsg(fd, &rooms, MSG_DONTWAIT, None) {
        Ok(all) => all.into_iter().for_each(|got| drop(p.got("message", got))),
        Err(error) => drop(p.ret("messages", Err(error))),
    }
    let none = p.calls.recvmmsg(fd, &rooms, MSG_DONTWAIT, None);
    let _ = p.ret("nothing", none.map(|all| all.len() as i64));
}

fn stream_the_least_to_receive(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    for value in [5, 0, 1, -1, i32::MAX, 5] {
        let _ = p.set(&format!("least {value}"), fd, (SOL_SOCKET, SO_RCVLOWAT), value);
        // The most is half of the buffer, which the host tunes.
        if value != i32::MAX && value != -1 {
            p.get("read back", fd, (SOL_SOCKET, SO_RCVLOWAT));
        }
    }
    for piece in [&b"123"[..], b"4", b"5", b"6"] {
        let _ = p.send("sent", pair.server, piece, 0);
        p.mask("mask", fd);
    }
    p.recvfrom("taken", fd, 3, 0);
    p.mask("mask", fd);
    let _ = p.ioctl("to read", fd, FIONREAD, 77);
    p.recvfrom("less, without waiting", fd, 8, 0);
    let _ = p.send("sent", pair.server, b"x", 0);
    shut(p, "the end", pair.server, SHUT_WR);
    p.mask("mask", fd);
    p.recvfrom("what is there", fd, 8, 0);
}

fn stream_the_least_to_receive_waits(p: &mut Probe<'_>) {
    let pair = with(p, &[b"123"]);
    p.with(pair.client, (SOL_SOCKET, SO_RCVLOWAT), 5);
    time_out(p, pair.client);
    let got = p.calls.recvfrom(pair.client, 100, 0);
    p.got("less, after a while", got);
    let _ = p.send("sent", pair.server, b"1234567", 0);
    let got = p.calls.recvfrom(pair.client, 100, 0);
    p.got("enough", got);
    let _ = p.send("sent", pair.server, b"123", 0);
    let got = p.calls.recvfrom(pair.client, 2, 0);
    p.got("all that was asked for", got);
}

fn stream_octets_to_read(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    for piece in [&b""[..], b"1", b"234", b"5"] {
        let _ = p.send("sent", pair.server, piece, 0);
        let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    }
    p.recvfrom("some", pair.client, 2, 0);
    let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    shut(p, "the end", pair.server, SHUT_WR);
    let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
    p.recvfrom("the rest", pair.client, 20, 0);
    let _ = p.ioctl("to read", pair.client, FIONREAD, 77);
}

fn stream_octets_left_are_told(p: &mut Probe<'_>) {
    let pair = with(p, &[b"0123456789"]);
    p.get("not told", pair.client, (SOL_TCP, TCP_INQ));
    for value in [2, -1, 1] {
        let _ = p.set(&format!("tell {value}"), pair.client, (SOL_TCP, TCP_INQ), value);
        p.get("read back", pair.client, (SOL_TCP, TCP_INQ));
    }
    p.recvmsg("four", pair.client, (4, 64), 0);
    p.recvmsg("no room to tell", pair.client, (1, 0), 0);
    p.recvmsg("peek", pair.client, (2, 64), MSG_PEEK);
    p.recvmsg("the rest", pair.client, (20, 64), 0);
    p.recvmsg("nothing", pair.client, (20, 64), 0);
    shut(p, "the end", pair.server, SHUT_WR);
    p.recvmsg("the end", pair.client, (20, 64), 0);
}

fn stream_peek_offsets(p: &mut Probe<'_>) {
    let fd = with(p, &[b"0123456789"]).client;
    p.get("none", fd, (SOL_SOCKET, SO_PEEK_OFF));
    let _ = p.set("two", fd, (SOL_SOCKET, SO_PEEK_OFF), 2);
    p.recvfrom("peek", fd, 3, MSG_PEEK);
    p.get("moved on", fd, (SOL_SOCKET, SO_PEEK_OFF));
    p.recvfrom("peek", fd, 3, MSG_PEEK);
    p.recvfrom("taken", fd, 4, 0);
    p.get("moved back", fd, (SOL_SOCKET, SO_PEEK_OFF));
    p.recvfrom("peek", fd, 3, MSG_PEEK);
    let _ = p.set("off", fd, (SOL_SOCKET, SO_PEEK_OFF), -1);
    p.recvfrom("peek", fd, 3, MSG_PEEK);
}

fn stream_error_queue(p: &mut Probe<'_>) {
    let pair = with(p, &[b"data"]);
    p.recvmsg("empty", pair.client, (8, 64), MSG_ERRQUEUE);
    let fd = tcp(p);
    p.recvmsg("fresh", fd, (8, 64), MSG_ERRQUEUE);
    reset(p, pair.server);
    p.recvmsg("an error is not there", pair.client, (8, 64), MSG_ERRQUEUE);
    p.recvmsg("nor taken", pair.client, (8, 64), 0);
    p.recvmsg("it is here", pair.client, (8, 64), 0);
}

fn mark(p: &mut Probe<'_>, fd: i32) {
    let _ = p.ioctl("at the mark", fd, SIOCATMARK, 77);
}

fn urgent(p: &mut Probe<'_>, fd: i32, data: &[u8]) {
    let _ = p.send("urgent", fd, data, MSG_OOB);
}

fn stream_urgent_data(p: &mut Probe<'_>) {
    let pair = with(p, &[b"before"]);
    let fd = pair.client;
    urgent(p, pair.server, b"!");
    let _ = p.send("sent", pair.server, b"after", 0);
    p.mask("mask", fd);
    p.select("sets", [vec![fd], vec![fd], vec![fd]]);
    let _ = p.ioctl("to read", fd, FIONREAD, 77);
    mark(p, fd);
    p.recvfrom("up to the mark", fd, 100, 0);
    mark(p, fd);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    p.mask("mask", fd);
    p.recvfrom("once only", fd, 8, MSG_OOB);
    let _ = p.ioctl("to read", fd, FIONREAD, 77);
    p.recvfrom("behind it", fd, 100, 0);
    mark(p, fd);
    p.mask("mask", fd);
}

fn stream_urgent_data_in_line(p: &mut Probe<'_>) {
    let pair = with(p, &[b"before"]);
    let fd = pair.client;
    let _ = p.set("in line", fd, (SOL_SOCKET, SO_OOBINLINE), 1);
    urgent(p, pair.server, b"!");
    let _ = p.send("sent", pair.server, b"after", 0);
    p.mask("mask", fd);
    let _ = p.ioctl("to read", fd, FIONREAD, 77);
    p.recvfrom("not out of band", fd, 8, MSG_OOB);
    p.recvfrom("up to the mark", fd, 100, 0);
    mark(p, fd);
    p.mask("mask", fd);
    p.recvfrom("from there on", fd, 100, 0);
    mark(p, fd);
    p.mask("mask", fd);
}

fn stream_urgent_data_twice(p: &mut Probe<'_>) {
    let pair = with(p, &[b"one"]);
    let fd = pair.client;
    urgent(p, pair.server, b"1");
    let _ = p.send("sent", pair.server, b"two", 0);
    urgent(p, pair.server, b"2");
    let _ = p.send("sent", pair.server, b"three", 0);
    p.recvfrom("the later", fd, 8, MSG_OOB);
    for _ in 0..3 {
        mark(p, fd);
        let _ = p.ioctl("to read", fd, FIONREAD, 77);
        p.recvfrom("receive", fd, 100, 0);
    }
}

fn stream_urgent_data_peeked(p: &mut Probe<'_>) {
    let pair = with(p, &[b"before"]);
    let fd = pair.client;
    urgent(p, pair.server, b"!");
    p.recvfrom("peek", fd, 8, MSG_OOB | MSG_PEEK);
    p.recvfrom("peek again", fd, 8, MSG_OOB | MSG_PEEK);
    p.recvfrom("no room", fd, 0, MSG_OOB);
    p.recvmsg("message", fd, (8, 64), MSG_OOB);
    p.recvfrom("once only", fd, 8, MSG_OOB | MSG_PEEK);
    p.recvfrom("peek at the rest", fd, 100, MSG_PEEK);
}

fn stream_urgent_data_read_past(p: &mut Probe<'_>) {
    let pair = with(p, &[b"before"]);
    let fd = pair.client;
    urgent(p, pair.server, b"!");
    let _ = p.send("sent", pair.server, b"after", 0);
    p.recvfrom("some", fd, 3, 0);
    p.recvfrom("up to the mark", fd, 100, 0);
    p.recvfrom("past it", fd, 100, 0);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    p.mask("mask", fd);
}

fn stream_urgent_data_alone(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    p.recvfrom("none yet", fd, 8, MSG_OOB);
    urgent(p, pair.server, b"!");
    p.mask("mask", fd);
    let _ = p.ioctl("to read", fd, FIONREAD, 77);
    mark(p, fd);
    p.recvfrom("nothing else", fd, 8, 0);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    p.mask("mask", fd);
}

/// The last octet is the urgent one.
fn stream_urgent_data_of_several_octets(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    urgent(p, pair.server, b"abc");
    p.recvfrom("receive", fd, 8, 0);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    urgent(p, pair.server, b"");
    p.mask("nothing is not urgent", fd);
}

fn stream_urgent_data_and_the_end(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    urgent(p, pair.server, b"!");
    shut(p, "the end", pair.server, SHUT_WR);
    p.mask("mask", fd);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    p.recvfrom("the end", fd, 8, 0);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    p.mask("mask", fd);
}

fn stream_urgent_data_taken_in_line_later(p: &mut Probe<'_>) {
    let pair = with(p, &[b"before"]);
    let fd = pair.client;
    urgent(p, pair.server, b"!");
    let _ = p.send("sent", pair.server, b"after", 0);
    let _ = p.set("in line", fd, (SOL_SOCKET, SO_OOBINLINE), 1);
    p.recvfrom("out of band", fd, 8, MSG_OOB);
    p.recvfrom("up to the mark", fd, 100, 0);
    p.recvfrom("from there on", fd, 100, 0);
    let got = p.calls.getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, 4);
    p.note("in line", got == Ok(int(1)));
}

fn stream_the_mark(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = pair.client;
    mark(p, fd);
    let _ = p.send("sent", pair.server, b"ab", 0);
    mark(p, fd);
    urgent(p, pair.server, b"!");
    for _ in 0..3 {
        mark(p, fd);
        p.recvfrom("one octet", fd, 1, 0);
    }
    mark(p, fd);
}
