//! Every call on a stream socket in every state.

use super::checks;
use super::stream_lib::{disconnect, end, in_each_state, look, shut, state};
use crate::probe::{LO, NET, sa};
use crate::{Outgoing, Probe, Room};
use uapi::socket::{
    MSG_DONTWAIT, MSG_NOSIGNAL, MSG_OOB, MSG_PEEK, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ACCEPTCONN,
    SO_ERROR, SO_RCVBUF, SOL_SOCKET, SOL_TCP,
};
use uapi::sockios::{FIONREAD, SIOCATMARK, SIOCOUTQ, SIOCOUTQNSD};
use uapi::tcp::{TCP_CORK, TCP_MAXSEG, TCP_NODELAY};

checks! {
    stream_looks_in_each_state
    stream_bind_in_each_state
    stream_connect_in_each_state
    stream_connect_twice_in_each_state
    stream_listen_in_each_state
    stream_accept_in_each_state
    stream_send_in_each_state
    stream_send_to_a_name_in_each_state
    stream_send_out_of_band_in_each_state
    stream_send_nothing_in_each_state
    stream_sendmsg_in_each_state
    stream_write_in_each_state
    stream_receive_in_each_state
    stream_receive_nothing_in_each_state
    stream_peek_in_each_state
    stream_receive_out_of_band_in_each_state
    stream_recvmsg_in_each_state
    stream_read_in_each_state
    stream_receive_twice_in_each_state
    stream_shut_for_receiving_in_each_state
    stream_shut_for_sending_in_each_state
    stream_shut_both_ways_in_each_state
    stream_bad_shutdowns_in_each_state
    stream_disconnect_in_each_state
    stream_listens_is_told_in_each_state
    stream_queues_in_each_state
    stream_marks_in_each_state
    stream_segment_size_in_each_state
    stream_switches_in_each_state
    stream_buffers_in_each_state
    stream_select_in_each_state
    stream_duplicate_in_each_state
    stream_used_again_in_each_state
}

fn stream_looks_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        look(p, fd);
        p.get("error once more", fd, (SOL_SOCKET, SO_ERROR));
        p.mask("mask then", fd);
    });
}

fn stream_bind_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let (fd, port) = (case.fd, case.port);
        let _ = p.bind("bind", fd, LO, port + 1);
        p.names("names", fd);
    });
}

fn stream_connect_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let (fd, port) = (case.fd, case.port);
        // Nobody listens there.
        let _ = p.connect("connect", fd, LO, port + 1);
        p.calls.settle();
        look(p, fd);
    });
}

fn stream_connect_twice_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let (fd, port) = (case.fd, case.port);
        let other = super::stream_lib::listener(p, port + 1);
        for _ in 0..3 {
            let _ = p.connect("connect", fd, LO, port + 1);
            p.calls.settle();
        }
        state(p, "state", fd);
        p.names("names", fd);
        p.mask("listener", other);
    });
}

fn stream_listen_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let ret = p.calls.listen(fd, 3);
        let _ = p.ret("call", ret);
        look(p, fd);
    });
}

fn stream_accept_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let ret = p.calls.accept4(fd, 0);
        let _ = p.ret("call", ret);
        let ret = p.calls.accept4(fd, 1);
        let _ = p.ret("with a bad flag", ret);
    });
}

fn stream_send_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let _ = p.send("send", fd, b"data", MSG_NOSIGNAL);
        let _ = p.send("again", fd, b"data", MSG_NOSIGNAL);
        look(p, fd);
    });
}

fn stream_send_to_a_name_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let (fd, port) = (case.fd, case.port);
        let to = sa(NET, port + 1);
        let ret = p.calls.sendto(fd, b"data", MSG_DONTWAIT | MSG_NOSIGNAL, Some(&to));
        p.calls.settle();
        let _ = p.ret("call", ret);
        let ret = p.calls.sendto(fd, b"data", MSG_DONTWAIT | MSG_NOSIGNAL, Some(&to[..7]));
        let _ = p.ret("a short name", ret);
        p.names("names", fd);
    });
}

fn stream_send_out_of_band_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let _ = p.send("send", fd, b"u", MSG_OOB | MSG_NOSIGNAL);
    });
}

fn stream_send_nothing_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let _ = p.send("send", fd, b"", MSG_NOSIGNAL);
        let ret = p.calls.write(fd, b"");
        let _ = p.ret("written", ret);
        let ret = p.calls.writev(fd, &[]);
        let _ = p.ret("no parts", ret);
    });
}

fn stream_sendmsg_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let msg = Outgoing { parts: vec![b"one".to_vec(), b"two".to_vec()], ..Outgoing::default() };
        let _ = p.sendmsg("message", fd, &msg, MSG_NOSIGNAL);
    });
}

fn stream_write_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let ret = p.calls.write(fd, b"data");
        p.calls.settle();
        let _ = p.ret("call", ret);
        let ret = p.calls.writev(fd, &[b"one".to_vec(), b"two".to_vec()]);
        p.calls.settle();
        let _ = p.ret("in parts", ret);
    });
}

fn stream_receive_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.recvfrom("receive", fd, 8, 0);
        look(p, fd);
    });
}

fn stream_receive_nothing_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.recvfrom("receive", fd, 0, 0);
        p.recvfrom("peek", fd, 0, MSG_PEEK);
        let got = p.calls.read(fd, 0);
        p.got("read", got);
    });
}

fn stream_peek_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.recvfrom("receive", fd, 4, MSG_PEEK);
        p.recvfrom("again", fd, 32, MSG_PEEK);
    });
}

fn stream_receive_out_of_band_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.recvfrom("receive", fd, 8, MSG_OOB);
        p.recvfrom("peek", fd, 8, MSG_OOB | MSG_PEEK);
    });
}

fn stream_recvmsg_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.recvmsg("message", fd, (8, 64), 0);
        let several = p.calls.recvmmsg(fd, &[Room::of(1), Room::of(1)], MSG_DONTWAIT, None);
        let _ = p.ret("several", several.map(|all| all.len() as i64));
    });
}

fn stream_read_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let got = p.calls.read(fd, 4);
        p.got("read", got);
        let got = p.calls.readv(fd, &[2, 8]);
        p.got("into parts", got);
    });
}

/// An error is told once, the end each time.
fn stream_receive_twice_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        for _ in 0..3 {
            p.recvfrom("receive", fd, 32, 0);
        }
        let _ = p.send("then send", fd, b"x", MSG_NOSIGNAL);
    });
}

fn shut_in_each_state(p: &mut Probe<'_>, how: i32) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        shut(p, "shut", fd, how);
        case.acknowledged(p);
        state(p, "state", fd);
        p.mask("mask", fd);
        p.recvfrom("receive", fd, 8, 0);
        let _ = p.send("send", fd, b"x", MSG_NOSIGNAL);
        shut(p, "again", fd, how);
        p.names("names", fd);
        p.get("error", fd, (SOL_SOCKET, SO_ERROR));
    });
}

fn stream_shut_for_receiving_in_each_state(p: &mut Probe<'_>) {
    shut_in_each_state(p, SHUT_RD);
}

fn stream_shut_for_sending_in_each_state(p: &mut Probe<'_>) {
    shut_in_each_state(p, SHUT_WR);
}

fn stream_shut_both_ways_in_each_state(p: &mut Probe<'_>) {
    shut_in_each_state(p, SHUT_RDWR);
}

fn stream_bad_shutdowns_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        for how in [3, -1, i32::MAX] {
            let _ = p.shutdown(&format!("shut {how}"), fd, how);
        }
        state(p, "state", fd);
    });
}

fn stream_disconnect_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let (fd, port) = (case.fd, case.port);
        disconnect(p, "disconnect", fd);
        look(p, fd);
        disconnect(p, "again", fd);
        let _ = p.bind("bind", fd, LO, port + 1);
    });
}

fn stream_listens_is_told_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.get("listens", fd, (SOL_SOCKET, SO_ACCEPTCONN));
    });
}

fn stream_queues_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        for (label, request) in
            [("to read", FIONREAD), ("on its way", SIOCOUTQ), ("not sent", SIOCOUTQNSD)]
        {
            let _ = p.ioctl(label, fd, request, 77);
        }
    });
}

fn stream_marks_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let _ = p.ioctl("at the mark", fd, SIOCATMARK, 77);
    });
}

fn stream_segment_size_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        // What a connected one says depends on the path.
        let _ = p.set("size", fd, (SOL_TCP, TCP_MAXSEG), 1000);
        let _ = p.set("too small", fd, (SOL_TCP, TCP_MAXSEG), 10);
    });
}

fn stream_switches_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        for option in [TCP_NODELAY, TCP_CORK] {
            for value in [1, 0] {
                let _ = p.set(&format!("{option} to {value}"), fd, (SOL_TCP, option), value);
                p.get("read back", fd, (SOL_TCP, option));
            }
        }
    });
}

fn stream_buffers_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let _ = p.set("buffer", fd, (SOL_SOCKET, SO_RCVBUF), 50_000);
        p.get("read back", fd, (SOL_SOCKET, SO_RCVBUF));
    });
}

fn stream_select_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        p.select("sets", [vec![fd], vec![fd], vec![fd]]);
    });
}

/// Closing one of two descriptors changes nothing.
fn stream_duplicate_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let fd = case.fd;
        let dup = p.calls.dup(fd);
        let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
        end(p, "the original", fd);
        look(p, dup);
    });
}

/// The number and the port of a closed socket are free, where nothing of its connection is left.
fn stream_used_again_in_each_state(p: &mut Probe<'_>) {
    in_each_state(p, |p, case| {
        let (fd, port) = (case.fd, case.port);
        end(p, "close", fd);
        let fd = super::stream_lib::tcp(p);
        let _ = p.bind("its port", fd, LO, port);
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
    });
}
