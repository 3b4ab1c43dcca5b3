//! Pipes, files in memory, and what goes from one file to another.

use super::checks;
use super::stream_lib::{no_waiting, pair, shut};
use crate::Probe;
use crate::probe::LO;
use uapi::fcntl::{
    F_GETFD, F_GETFL, F_GETPIPE_SZ, F_SETPIPE_SZ, MFD_CLOEXEC, O_APPEND, O_CLOEXEC, O_NONBLOCK,
    SEEK_CUR, SEEK_END, SEEK_SET, SPLICE_F_MORE, SPLICE_F_NONBLOCK,
};
use uapi::poll::{EPOLL_CTL_ADD, EPOLLET, EPOLLIN, EPOLLOUT, POLLIN, POLLOUT};
use uapi::socket::{AF_INET, SHUT_WR, SOCK_DGRAM};
use uapi::sockios::FIONREAD;

checks! {
    pipe_flags
    pipe_reads_and_writes
    pipe_ends_are_one_way
    pipe_full_and_empty
    pipe_small_writes_share_a_page
    pipe_parts
    pipe_closed_on_one_side
    pipe_sizes
    pipe_polled
    pipe_epoll_edges
    pipe_is_no_socket
    memory_file
    memory_file_places
    sendfile_to_a_stream
    sendfile_with_a_place
    sendfile_that_cant_be
    sendfile_to_a_pipe_and_a_file
    sendfile_until_full
    splice_from_a_pipe_to_a_stream
    splice_from_a_stream_to_a_pipe
    splice_ends_with_the_stream
    splice_between_pipes
    splice_with_files
    splice_that_cant_be
    splice_that_would_wait
}

/// A pipe; neither end waits.
fn pipe(p: &mut Probe<'_>) -> [i32; 2] {
    p.calls.pipe2(O_NONBLOCK).unwrap_or([-1; 2])
}

/// A file in memory that holds this, and stands at its start.
fn file(p: &mut Probe<'_>, data: &[u8]) -> i32 {
    let fd = p.calls.memfd_create("check", 0).map_or(-1, |fd| fd as i32);
    let written = p.calls.write(fd, data);
    assert_eq!(written, Ok(data.len() as i64), "a small file");
    let _ = p.calls.lseek(fd, 0, SEEK_SET);
    fd
}

fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

fn read(p: &mut Probe<'_>, label: &str, fd: i32, len: usize) {
    let got = p.calls.read(fd, len);
    let _ = p.got(label, got);
}

fn write(p: &mut Probe<'_>, label: &str, fd: i32, data: &[u8]) {
    let ret = p.calls.write(fd, data);
    let _ = p.ret(label, ret);
}

fn splice(p: &mut Probe<'_>, label: &str, [from, to]: [i32; 2], len: usize, flags: u32) {
    let ret = p.calls.splice((from, None), (to, None), len, flags);
    let _ = p.ret(label, ret);
}

fn pipe_flags(p: &mut Probe<'_>) {
    for flags in [0, O_NONBLOCK, O_CLOEXEC, O_NONBLOCK | O_CLOEXEC, O_APPEND, -1] {
        match p.calls.pipe2(flags) {
            Ok(ends) => {
                for fd in ends {
                    let _ = p.fcntl("flags", fd, F_GETFL, 0);
                    let _ = p.fcntl("descriptor's", fd, F_GETFD, 0);
                }
                p.drop_all(&ends);
            }
            Err(errno) => p.note("pipe2", format!("{flags:#x} {errno}")),
        }
    }
}

fn pipe_reads_and_writes(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    write(p, "write", to, b"hello");
    read(p, "some", from, 3);
    write(p, "more", to, b" world");
    read(p, "the rest", from, 100);
    read(p, "nothing there", from, 100);
    read(p, "no room", from, 0);
    write(p, "nothing", to, b"");
    write(p, "many pages", to, &octets(10_000));
    read(p, "a part", from, 5000);
    read(p, "the other", from, 9000);
}

fn pipe_ends_are_one_way(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    read(p, "read from the end to write", to, 10);
    write(p, "write to the end to read", from, b"x");
    read(p, "read nothing there", to, 0);
    write(p, "write nothing there", from, b"");
}

fn pipe_full_and_empty(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    write(p, "more than it holds", to, &octets(70_000));
    write(p, "full", to, b"x");
    read(p, "less than a page", from, 4095);
    write(p, "no page is free", to, b"x");
    read(p, "the last octet of it", from, 1);
    write(p, "a page is", to, &octets(4097));
    write(p, "full again", to, b"x");
    let _ = p.ioctl("there", from, FIONREAD, 0);
}

fn pipe_small_writes_share_a_page(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    for _ in 0..16 {
        write(p, "most of a page", to, &octets(3000));
    }
    write(p, "what a page has left", to, &octets(1096));
    write(p, "one more", to, b"x");
    let _ = p.ioctl("there", from, FIONREAD, 0);
    read(p, "read", from, 10);
}

fn pipe_parts(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    let ret = p.calls.writev(to, &[b"ab".to_vec(), Vec::new(), b"cde".to_vec()]);
    let _ = p.ret("writev", ret);
    let got = p.calls.readv(from, &[1, 0, 3, 7]);
    let _ = p.got("readv", got);
    let got = p.calls.readv(from, &[4, 4]);
    let _ = p.got("readv of nothing", got);
    let ret = p.calls.writev(to, &[Vec::new(), Vec::new()]);
    let _ = p.ret("writev of nothing", ret);
}

fn pipe_closed_on_one_side(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    write(p, "write", to, b"rest");
    let _ = p.close("the end to write", to);
    p.mask("with a rest", from);
    read(p, "the rest", from, 10);
    read(p, "the end", from, 10);
    p.mask("at the end", from);
    let [from, to] = pipe(p);
    let _ = p.close("the end to read", from);
    write(p, "nobody reads", to, b"x");
    write(p, "nothing for nobody", to, b"");
    p.mask("nobody reads", to);
}

fn pipe_sizes(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    let _ = p.fcntl("at first", from, F_GETPIPE_SZ, 0);
    for size in [0, 1, 4096, 4097, 100_000, 1 << 20, -1] {
        let _ = p.fcntl("set", to, F_SETPIPE_SZ, size);
        let _ = p.fcntl("get", from, F_GETPIPE_SZ, 0);
    }
    write(p, "three pages", to, &octets(3 * 4096));
    let _ = p.fcntl("too few", to, F_SETPIPE_SZ, 8192);
    let _ = p.fcntl("enough", to, F_SETPIPE_SZ, 16_384);
    write(p, "one is left", to, &octets(8192));
    let fd = file(p, b"");
    let _ = p.fcntl("of a file", fd, F_GETPIPE_SZ, 0);
}

fn pipe_polled(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    p.mask("empty, to read", from);
    p.mask("empty, to write", to);
    write(p, "write", to, &octets(65_536));
    p.mask("full, to read", from);
    p.mask("full, to write", to);
    read(p, "read", from, 100);
    p.mask("no page is free", to);
    read(p, "read", from, 3996);
    p.mask("one is", to);
    p.poll("both", &[(from, POLLIN), (to, POLLOUT)], 0);
}

fn pipe_epoll_edges(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    let ep = p.calls.epoll_create1(0).map_or(-1, |fd| fd as i32);
    let _ = p.ctl("read end", ep, EPOLL_CTL_ADD, from, (EPOLLIN | EPOLLET, 1));
    let _ = p.ctl("write end", ep, EPOLL_CTL_ADD, to, (EPOLLOUT | EPOLLET, 2));
    p.wait("at first", ep);
    write(p, "write", to, b"a");
    p.wait("something came", ep);
    p.wait("no edge", ep);
    write(p, "more", to, b"b");
    p.wait("more came", ep);
    read(p, "one", from, 1);
    p.wait("read", ep);
    let _ = p.close("write end", to);
    p.wait("closed", ep);
    let fd = file(p, b"x");
    let _ = p.ctl("a file", ep, EPOLL_CTL_ADD, fd, (EPOLLIN, 3));
    p.poll("a file", &[(fd, POLLIN | POLLOUT)], 0);
}

fn pipe_is_no_socket(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    let _ = p.send("send", to, b"x", 0);
    p.recvfrom("recv", from, 10, 0);
    let _ = p.bind("bind", from, LO, 4000);
    let ret = p.calls.lseek(from, 0, SEEK_SET);
    let _ = p.ret("seek", ret);
    let ret = p.calls.ftruncate(to, 0);
    let _ = p.ret("truncate", ret);
    let got = p.calls.pread(from, 10, 0);
    let _ = p.got("pread", got);
    let ret = p.calls.pwrite(to, b"x", 0);
    let _ = p.ret("pwrite", ret);
}

fn memory_file(p: &mut Probe<'_>) {
    for (name, flags) in [("a", 0), ("", MFD_CLOEXEC)] {
        let fd = p.calls.memfd_create(name, flags);
        let fd = fd.map_or(-1, |fd| fd as i32);
        let _ = p.fcntl("descriptor's", fd, F_GETFD, 0);
        let _ = p.close("close", fd);
    }
    for len in [249, 250] {
        let made = p.calls.memfd_create(&"n".repeat(len), 0);
        let _ = p.ret("a long name", made.map(|_| 0));
    }
    let fd = file(p, b"0123456789");
    read(p, "read", fd, 4);
    read(p, "on", fd, 100);
    read(p, "the end", fd, 100);
    write(p, "behind", fd, b"ab");
    let ret = p.calls.lseek(fd, 8, SEEK_SET);
    let _ = p.ret("back", ret);
    read(p, "both", fd, 100);
}

fn memory_file_places(p: &mut Probe<'_>) {
    let fd = file(p, b"0123456789");
    for (offset, whence) in [
        (3, SEEK_SET),
        (2, SEEK_CUR),
        (-1, SEEK_CUR),
        (-3, SEEK_END),
        (5, SEEK_END),
        (-1, SEEK_SET),
        (0, 9),
    ] {
        let ret = p.calls.lseek(fd, offset, whence);
        let _ = p.ret("seek", ret);
    }
    write(p, "beyond the end", fd, b"x");
    let got = p.calls.pread(fd, 100, 8);
    let _ = p.got("with zeros between", got);
    let got = p.calls.pread(fd, 100, -1);
    let _ = p.got("before the start", got);
    let ret = p.calls.pwrite(fd, b"AB", 1);
    let _ = p.ret("pwrite", ret);
    for length in [5, -1, 7] {
        let ret = p.calls.ftruncate(fd, length);
        let _ = p.ret("truncate", ret);
    }
    let got = p.calls.pread(fd, 100, 0);
    let _ = p.got("all", got);
}

fn sendfile_to_a_stream(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = file(p, &octets(1000));
    for count in [10, 0, 100, 5000, 10] {
        let ret = p.calls.sendfile(pair.client, (fd, None), count);
        let _ = p.ret("sendfile", ret);
        let ret = p.calls.lseek(fd, 0, SEEK_CUR);
        let _ = p.ret("stands at", ret);
    }
    p.calls.settle();
    p.recvfrom("receive", pair.server, 2000, 0);
}

fn sendfile_with_a_place(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let fd = file(p, &octets(1000));
    for begin in [0, 990, 1000, 5000, -1] {
        let mut place = begin;
        let ret = p.calls.sendfile(pair.client, (fd, Some(&mut place)), 20);
        let _ = p.ret("sendfile", ret);
        p.note("place", place);
        let ret = p.calls.lseek(fd, 0, SEEK_CUR);
        let _ = p.ret("stands at", ret);
    }
    p.calls.settle();
    p.recvfrom("receive", pair.server, 2000, 0);
}

fn sendfile_that_cant_be(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let [from, to] = pipe(p);
    let fd = file(p, b"0123");
    let tries = [
        ("from a socket", pair.client, pair.server),
        ("from a pipe", pair.client, from),
        ("from nothing", pair.client, 700),
        ("to nothing", 700, fd),
        ("to the end to read", from, fd),
    ];
    for (label, out, input) in tries {
        let ret = p.calls.sendfile(out, (input, None), 10);
        let _ = p.ret(label, ret);
        let mut place = 0;
        let ret = p.calls.sendfile(out, (input, Some(&mut place)), 10);
        let _ = p.ret(label, ret);
    }
    let lone = p.calls.socket(AF_INET, SOCK_DGRAM, 0).map_or(-1, |fd| fd as i32);
    let ret = p.calls.sendfile(lone, (fd, None), 10);
    let _ = p.ret("to a socket without a peer", ret);
    let _ = to;
}

fn sendfile_to_a_pipe_and_a_file(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    let fd = file(p, &octets(1000));
    let ret = p.calls.sendfile(to, (fd, None), 600);
    let _ = p.ret("to a pipe", ret);
    read(p, "read", from, 2000);
    let other = file(p, b"");
    let ret = p.calls.sendfile(other, (fd, None), 600);
    let _ = p.ret("to a file", ret);
    let got = p.calls.pread(other, 2000, 0);
    let _ = p.got("there", got);
}

/// What goes at once depends on buffers; that all of it arrives does not.
fn sendfile_until_full(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    no_waiting(p, pair.client);
    no_waiting(p, pair.server);
    let data = octets(3 << 20);
    let fd = file(p, &data);
    let (mut sent, mut got, mut full) = (0, Vec::new(), false);
    while got.len() < data.len() {
        match p.calls.sendfile(pair.client, (fd, None), data.len()) {
            Ok(len) => sent += len,
            Err(_) => full = true,
        }
        p.calls.settle();
        let came = p.calls.read(pair.server, 1 << 20);
        got.extend(came.data);
    }
    p.note("all", format!("{sent} {} {full}", got == data));
}

fn splice_from_a_pipe_to_a_stream(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let [from, to] = pipe(p);
    write(p, "write", to, &octets(10_000));
    splice(p, "some", [from, pair.client], 100, 0);
    splice(p, "nothing", [from, pair.client], 0, 0);
    splice(p, "the rest", [from, pair.client], 1 << 20, 0);
    p.calls.settle();
    let got = p.calls.read(pair.server, 20_000);
    let _ = p.got("receive", got);
    write(p, "write", to, b"more");
    splice(p, "with more to come", [from, pair.client], 10, SPLICE_F_MORE);
    let _ = p.close("end to write", to);
    splice(p, "nobody writes", [from, pair.client], 10, 0);
    let _ = p.send("what came", pair.client, b"!", 0);
    p.calls.settle();
    p.recvfrom("receive", pair.server, 100, 0);
}

fn splice_from_a_stream_to_a_pipe(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let [from, to] = pipe(p);
    let _ = p.send("send", pair.client, &octets(1000), 0);
    p.calls.settle();
    splice(p, "some", [pair.server, to], 100, 0);
    splice(p, "the rest", [pair.server, to], 5000, 0);
    read(p, "read", from, 5000);
    no_waiting(p, pair.server);
    splice(p, "nothing there", [pair.server, to], 100, 0);
    splice(p, "nothing", [pair.server, to], 0, 0);
}

fn splice_ends_with_the_stream(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let [from, to] = pipe(p);
    let _ = p.send("send", pair.client, b"last", 0);
    shut(p, "no more", pair.client, SHUT_WR);
    splice(p, "last", [pair.server, to], 100, 0);
    splice(p, "the end", [pair.server, to], 100, 0);
    splice(p, "to the peer that shut", [from, pair.client], 100, 0);
    read(p, "read", from, 100);
    let _ = p.close("end to read", from);
    splice(p, "nobody reads", [pair.server, to], 100, 0);
}

fn splice_between_pipes(p: &mut Probe<'_>) {
    let ([from, to], [other_from, other_to]) = (pipe(p), pipe(p));
    splice(p, "empty", [from, other_to], 10, 0);
    write(p, "write", to, b"0123456789");
    splice(p, "some", [from, other_to], 4, 0);
    splice(p, "more than there is", [from, other_to], 100, 0);
    read(p, "read", other_from, 100);
    write(p, "write", to, b"x");
    splice(p, "to itself", [from, to], 10, 0);
    let _ = p.close("end to read", other_from);
    splice(p, "nobody reads", [from, other_to], 10, 0);
    read(p, "still there", from, 10);
    let _ = p.close("end to write", to);
    splice(p, "nobody writes", [from, other_to], 10, 0);
}

fn splice_with_files(p: &mut Probe<'_>) {
    let [from, to] = pipe(p);
    let fd = file(p, b"0123456789");
    splice(p, "from a file", [fd, to], 4, 0);
    let mut place = 8;
    let ret = p.calls.splice((fd, Some(&mut place)), (to, None), 10, 0);
    let _ = p.ret("from its place", ret);
    p.note("place", place);
    let ret = p.calls.lseek(fd, 0, SEEK_CUR);
    let _ = p.ret("stands at", ret);
    read(p, "read", from, 100);
    write(p, "write", to, b"abcdef");
    splice(p, "to a file", [from, fd], 2, 0);
    let mut place = 0;
    let ret = p.calls.splice((from, None), (fd, Some(&mut place)), 3, 0);
    let _ = p.ret("to its place", ret);
    p.note("place", place);
    let got = p.calls.pread(fd, 100, 0);
    let _ = p.got("there", got);
    read(p, "left", from, 100);
}

fn splice_that_cant_be(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let [from, to] = pipe(p);
    write(p, "write", to, b"x");
    let fd = file(p, b"0123");
    splice(p, "no pipe", [pair.server, pair.client], 10, 0);
    splice(p, "files", [fd, pair.client], 10, 0);
    splice(p, "flags", [from, pair.client], 10, 0x40);
    splice(p, "wrong end in", [to, pair.client], 10, 0);
    splice(p, "wrong end out", [fd, from], 10, 0);
    splice(p, "nothing", [700, to], 10, 0);
    splice(p, "to nothing", [from, 700], 10, 0);
    splice(p, "nothing of nothing", [700, to], 0, 0);
    let mut place = 0;
    let ret = p.calls.splice((from, Some(&mut place)), (pair.client, None), 10, 0);
    let _ = p.ret("a place in a pipe", ret);
    let ret = p.calls.splice((fd, None), (to, Some(&mut place)), 10, 0);
    let _ = p.ret("a place in a pipe", ret);
    let ret = p.calls.splice((from, None), (pair.client, Some(&mut place)), 10, 0);
    let _ = p.ret("a place in a socket", ret);
    let ret = p.calls.splice((pair.server, Some(&mut place)), (to, None), 10, 0);
    let _ = p.ret("a place in a socket", ret);
}

fn splice_that_would_wait(p: &mut Probe<'_>) {
    let pair = pair(p, 4000);
    let ends = p.calls.pipe2(0);
    let [from, to] = ends.unwrap_or([-1; 2]);
    splice(p, "empty", [from, pair.client], 10, SPLICE_F_NONBLOCK);
    write(p, "fill", to, &octets(65_536));
    let _ = p.send("send", pair.client, b"x", 0);
    p.calls.settle();
    splice(p, "full", [pair.server, to], 10, SPLICE_F_NONBLOCK);
    read(p, "read", from, 4096);
    splice(p, "room", [pair.server, to], 10, SPLICE_F_NONBLOCK);
}
