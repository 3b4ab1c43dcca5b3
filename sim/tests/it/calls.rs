//! Calls on descriptors: read and write, poll, select, epoll, dup, flags, options.

use crate::golden;
use crate::util::{A, B, Pair, addr, connect, send, udp};
use sim::Digest;
use stack::fs::eventpoll::EpollEvent;
use stack::fs::select::FdSets;
use stack::fs::{
    PollFd, exit_files, sys_close, sys_dup, sys_dup2, sys_epoll_create1, sys_epoll_ctl,
    sys_epoll_wait, sys_fcntl, sys_ioctl, sys_poll, sys_read, sys_readv, sys_select, sys_write,
    sys_writev,
};
use stack::net::socket::{
    MsgRecv, MsgSend, sys_bind, sys_getpeername, sys_getsockname, sys_getsockopt, sys_recvfrom,
    sys_recvmmsg, sys_recvmsg, sys_send, sys_sendmmsg, sys_sendmsg, sys_sendto, sys_setsockopt,
    sys_shutdown, sys_socket,
};
use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::fcntl::{F_GETFL, F_SETFL, O_NONBLOCK};
use uapi::in_::{IP_PKTINFO, IP_RECVERR, IP_RECVTOS, IP_RECVTTL, IP_TOS, IP_TTL};
use uapi::poll::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT, POLLERR,
    POLLIN, POLLNVAL, POLLOUT,
};
use uapi::socket::{
    AF_INET, AF_INET6, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_MORE, MSG_OOB, MSG_PEEK, MSG_TRUNC, SHUT_RD,
    SHUT_WR, SO_BROADCAST, SO_ERROR, SO_RCVBUF, SO_RCVTIMEO, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF,
    SO_TYPE, SOCK_DGRAM, SOCK_SEQPACKET, SOL_IP, SOL_SOCKET, SOL_UDP, cmsgs,
};
use uapi::sockios::{FIONREAD, SIOCOUTQ};

fn int(value: i32) -> [u8; 4] {
    value.to_ne_bytes()
}

/// A connected client on A, a server on B whose peer is known.
fn connected(pair: &mut Pair) -> (crate::util::Ends, i32, i32) {
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    connect(&mut ends.a, client, &addr(B, 7)).expect("connected");
    connect(&mut ends.b, server, &addr(A, 4000)).expect("connected");
    (ends, client, server)
}

fn finish(pair: Pair, mut ends: crate::util::Ends) -> Digest {
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(read_write_and_poll_walk_through_the_file);
fn read_write_and_poll_walk_through_the_file() -> Digest {
    let mut pair = Pair::new(21);
    let (mut ends, client, server) = connected(&mut pair);
    assert_eq!(pair.run(&mut ends.a, sys_write(client, b"warm")), Ok(4));
    let mut data = [0; 16];
    assert_eq!(pair.run(&mut ends.b, sys_read(server, &mut data)), Ok(4));
    pair.world.watch(None);
    assert_eq!(pair.run(&mut ends.a, sys_write(client, b"written")), Ok(7));
    let mut fds = [PollFd { fd: server, events: POLLIN, revents: 0 }];
    assert_eq!(pair.run(&mut ends.b, sys_poll(&mut fds, None)), Ok(1));
    assert_eq!(fds[0].revents, POLLIN);
    assert_eq!(pair.run(&mut ends.b, sys_read(server, &mut data)), Ok(7));
    assert_eq!(&data[..7], b"written");
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"sent", 0)), Ok(4));
    assert_eq!(pair.run(&mut ends.b, sys_read(server, &mut data)), Ok(4));
    golden::check(&pair.world, "file-calls");
    let parts: [&[u8]; 3] = [b"a", b"", b"bc"];
    assert_eq!(pair.run(&mut ends.a, sys_writev(client, &parts)), Ok(3));
    let (mut one, mut two) = ([0; 2], [0; 8]);
    let mut into: [&mut [u8]; 2] = [&mut one, &mut two];
    assert_eq!(pair.run(&mut ends.b, sys_readv(server, &mut into)), Ok(3));
    assert_eq!((one, two[0]), (*b"ab", b'c'));
    finish(pair, ends)
}

stepped!(several_messages_in_one_call);
fn several_messages_in_one_call() -> Digest {
    let mut pair = Pair::new(22);
    let (mut ends, client, server) = connected(&mut pair);
    let datas: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; usize::from(n)]).collect();
    let iovs: Vec<[IoSlice<'_>; 1]> = datas.iter().map(|d| [IoSlice::new(d)]).collect();
    let msg = |iov| MsgSend { iov, name: None, control: &[], flags: 0 };
    let msgs: Vec<MsgSend<'_>> = iovs.iter().map(|iov| msg(&iov[..])).collect();
    // The way must be known, or what waits for ARP counts against the send buffer.
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"", 0)), Ok(0));
    pair.world.settle();
    pair.world.watch(pcap_filter::compile("port 1").ok());
    assert_eq!(pair.run(&mut ends.a, sys_sendmmsg(client, &msgs[..3], 0)), Ok(3));
    golden::check(&pair.world, "sendmmsg");
    let mut buffers = vec![[0_u8; 128]; 4];
    let mut parts: Vec<[IoSliceMut<'_>; 1]> =
        buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
    let mut rooms: Vec<MsgRecv<'_>> =
        parts.iter_mut().map(|iov| MsgRecv::new(iov, &mut [])).collect();
    assert_eq!(pair.run(&mut ends.b, sys_recvmmsg(server, &mut rooms, 0, None)), Ok(4));
    golden::check(&pair.world, "recvmmsg");
    assert_eq!(rooms.iter().map(|room| room.received.len).collect::<Vec<_>>(), [0, 0, 1, 2]);
    assert_eq!(pair.run(&mut ends.a, sys_sendmmsg(client, &msgs[3..50], 0)), Ok(47));
    // A receive buffer of 212,992 bytes takes 92 packets of 2,296 and one more.
    for n in 3..50 {
        let mut data = [0; 128];
        let (len, _) = pair.run(&mut ends.b, sys_recvfrom(server, &mut data, 0)).expect("each");
        assert_eq!((len, data[0]), (n, n as u8));
    }
    let limit = Some(Duration::from_millis(5));
    let mut buffer = [0_u8; 8];
    let mut iov = [IoSliceMut::new(&mut buffer)];
    let mut rooms = [MsgRecv::new(&mut iov, &mut [])];
    let none = pair.run(&mut ends.b, sys_recvmmsg(server, &mut rooms, 0, limit));
    assert_eq!(none, Err(Errno::EAGAIN));
    finish(pair, ends)
}

stepped!(waiting_ends_by_time_by_signal_and_not_at_all_without);
fn waiting_ends_by_time_by_signal_and_not_at_all_without() -> Digest {
    let mut pair = Pair::new(23);
    let (mut ends, _client, server) = connected(&mut pair);
    let mut data = [0; 8];
    let nothing = pair.run(&mut ends.b, sys_recvfrom(server, &mut data, MSG_DONTWAIT));
    assert_eq!(nothing.map(|_| ()), Err(Errno::EAGAIN));
    let timeout = [50_i64 / 1000, 50_000].map(i64::to_ne_bytes).concat();
    sys_setsockopt(&mut ends.b, server, SOL_SOCKET, SO_RCVTIMEO, &timeout).expect("set");
    let before = pair.world.clock().peek();
    let late = pair.run(&mut ends.b, sys_recvfrom(server, &mut data, 0));
    assert_eq!(late.map(|_| ()), Err(Errno::EAGAIN));
    let waited = pair.world.clock().peek() - before;
    assert!((50..52).contains(&waited.as_millis()), "{waited:?}");
    ends.b.task().interrupt();
    let interrupted = pair.run(&mut ends.b, sys_recvfrom(server, &mut data, 0));
    assert_eq!(interrupted.map(|_| ()), Err(Errno::EINTR));
    sys_fcntl(&mut ends.b, server, F_SETFL, O_NONBLOCK).expect("set");
    assert_ne!(sys_fcntl(&mut ends.b, server, F_GETFL, 0).expect("read") & O_NONBLOCK, 0);
    let nothing = pair.run(&mut ends.b, sys_recvfrom(server, &mut data, 0));
    assert_eq!(nothing.map(|_| ()), Err(Errno::EAGAIN));
    let mut fds = [PollFd { fd: server, events: POLLIN, revents: 0 }];
    let limit = Some(Duration::from_millis(7));
    assert_eq!(pair.run(&mut ends.b, sys_poll(&mut fds, limit)), Ok(0));
    finish(pair, ends)
}

stepped!(peek_and_truncation);
fn peek_and_truncation() -> Digest {
    let mut pair = Pair::new(24);
    let (mut ends, client, server) = connected(&mut pair);
    send(&mut pair, &mut ends.a, client, b"longer than asked", addr(B, 7));
    pair.world.settle();
    let mut number = [0xff; 4];
    assert_eq!(sys_ioctl(&mut ends.b, server, FIONREAD, &mut number), Ok(0));
    assert_eq!(number, int(17));
    assert_eq!(sys_ioctl(&mut ends.a, client, SIOCOUTQ, &mut number), Ok(0));
    assert_eq!(number, int(0));
    assert_eq!(sys_ioctl(&mut ends.a, client, SIOCOUTQ, &mut []), Err(Errno::EFAULT));
    let mut data = [0; 6];
    let (len, from) =
        pair.run(&mut ends.b, sys_recvfrom(server, &mut data, MSG_PEEK)).expect("there");
    assert_eq!((len, &data), (6, b"longer"));
    assert_eq!(from.and_then(uapi::socket::Sockaddr::inet).map(|from| from.port), Some(4000));
    let mut into: [&mut [u8]; 1] = [&mut data];
    let op = sys_recvmsg(server, &mut into, &mut [], MSG_TRUNC);
    let received = pair.run(&mut ends.b, op).expect("there");
    assert_eq!((received.len, received.flags), (17, MSG_TRUNC));
    finish(pair, ends)
}

stepped!(control_data_both_ways);
fn control_data_both_ways() -> Digest {
    let mut pair = Pair::new(25);
    let (mut ends, client, server) = connected(&mut pair);
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        sys_setsockopt(&mut ends.b, server, SOL_IP, name, &int(1)).expect("set");
    }
    sys_setsockopt(&mut ends.a, client, SOL_IP, IP_TTL, &int(33)).expect("set");
    sys_setsockopt(&mut ends.a, client, SOL_IP, IP_TOS, &int(0x10)).expect("set");
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"by option", 0)), Ok(9));
    let mut control = [0_u8; 64];
    let ttl = {
        let mut writer = uapi::socket::CmsgWriter::new(&mut control);
        writer.put(SOL_IP, IP_TTL, &int(44));
        writer.used()
    };
    let iov = [IoSlice::new(b"by message")];
    let msg = MsgSend { iov: &iov, name: None, control: &control[..ttl], flags: 0 };
    assert_eq!(pair.run(&mut ends.a, sys_sendmsg(client, msg)), Ok(10));
    for (wanted, len) in [(33, 9), (44, 10)] {
        let (mut data, mut told) = ([0; 32], [0; 128]);
        let mut into: [&mut [u8]; 1] = [&mut data];
        let op = sys_recvmsg(server, &mut into, &mut told, 0);
        let received = pair.run(&mut ends.b, op).expect("there");
        assert_eq!(received.len, len);
        let told: Vec<_> =
            cmsgs(&told[..received.controllen as usize]).map(|c| c.expect("whole")).collect();
        let find = |kind| told.iter().find(|c| c.type_ == kind).expect("asked for").data;
        assert_eq!(find(IP_TTL), int(wanted));
        assert_eq!(find(IP_TOS), [0x10]);
        assert_eq!(find(IP_PKTINFO)[4..8], B.octets());
        assert_eq!(find(IP_PKTINFO)[8..12], B.octets());
    }
    finish(pair, ends)
}

stepped!(errors_are_queued_for_who_asks);
fn errors_are_queued_for_who_asks() -> Digest {
    let mut pair = Pair::new(26);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    sys_setsockopt(&mut ends.a, client, SOL_IP, IP_RECVERR, &int(1)).expect("set");
    // Not connected: without IP_RECVERR it would hear nothing.
    send(&mut pair, &mut ends.a, client, b"lost", addr(B, 9));
    pair.world.settle();
    let mut fds = [PollFd { fd: client, events: 0, revents: 0 }];
    assert_eq!(pair.run(&mut ends.a, sys_poll(&mut fds, None)), Ok(1));
    assert_eq!(fds[0].revents, POLLERR);
    let (mut data, mut told) = ([0; 32], [0; 128]);
    let mut into: [&mut [u8]; 1] = [&mut data];
    let op = sys_recvmsg(client, &mut into, &mut told, MSG_ERRQUEUE);
    let received = pair.run(&mut ends.a, op).expect("a report");
    assert_eq!((received.len, received.flags), (4, MSG_ERRQUEUE));
    assert_eq!(received.name.sockaddr().map(|to| to.to_bytes()), Some(addr(B, 9).to_vec()));
    let told = cmsgs(&told[..received.controllen as usize]).next().expect("one").expect("whole");
    let ee: [u8; 16] = told.data[..16].try_into().expect("sixteen");
    let ee = uapi::errqueue::SockExtendedErr::from_bytes(&ee);
    assert_eq!((ee.ee_errno, ee.ee_type, ee.ee_code), (Errno::ECONNREFUSED.0 as u32, 3, 3));
    assert_eq!(&told.data[20..24], B.octets());
    assert_eq!(data[..4], *b"lost");
    finish(pair, ends)
}

stepped!(epoll_levels_edges_and_one_shots);
fn epoll_levels_edges_and_one_shots() -> Digest {
    let mut pair = Pair::new(27);
    let (mut ends, client, server) = connected(&mut pair);
    let ep = sys_epoll_create1(&mut ends.b, 0).expect("made");
    let event = |events| EpollEvent { events, data: 99 };
    let cx = &mut ends.b;
    sys_epoll_ctl(cx, ep, EPOLL_CTL_ADD, server, event(EPOLLIN)).expect("added");
    let again = sys_epoll_ctl(cx, ep, EPOLL_CTL_ADD, server, event(EPOLLIN));
    assert_eq!(again, Err(Errno::EEXIST));
    assert_eq!(sys_epoll_ctl(cx, ep, EPOLL_CTL_ADD, ep, event(EPOLLIN)), Err(Errno::EINVAL));
    assert_eq!(sys_epoll_ctl(cx, ep, EPOLL_CTL_ADD, 77, event(EPOLLIN)), Err(Errno::EBADF));
    let soon = Some(Duration::from_millis(1));
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, soon)), Ok(vec![]));
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"one", 0)), Ok(3));
    let there = vec![event(EPOLLIN)];
    // Level: ready as long as there is something to read.
    for _ in 0..2 {
        assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, None)), Ok(there.clone()));
    }
    // Edge: once for what is there now, once for each that comes.
    let edge = event(EPOLLIN | EPOLLET);
    sys_epoll_ctl(&mut ends.b, ep, EPOLL_CTL_MOD, server, edge).expect("changed");
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, None)), Ok(there.clone()));
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, soon)), Ok(vec![]));
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"two", 0)), Ok(3));
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, None)), Ok(there.clone()));
    // One shot: once, until it is armed again.
    let once = event(EPOLLIN | EPOLLONESHOT);
    sys_epoll_ctl(&mut ends.b, ep, EPOLL_CTL_MOD, server, once).expect("changed");
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, None)), Ok(there.clone()));
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"three", 0)), Ok(5));
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, soon)), Ok(vec![]));
    let writable = event(EPOLLOUT);
    sys_epoll_ctl(&mut ends.b, ep, EPOLL_CTL_MOD, server, writable).expect("changed");
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, None)), Ok(vec![writable]));
    sys_epoll_ctl(&mut ends.b, ep, EPOLL_CTL_DEL, server, event(0)).expect("removed");
    let gone = sys_epoll_ctl(&mut ends.b, ep, EPOLL_CTL_DEL, server, event(0));
    assert_eq!(gone, Err(Errno::ENOENT));
    // A closed descriptor leaves by itself.
    sys_epoll_ctl(&mut ends.b, ep, EPOLL_CTL_ADD, server, event(EPOLLIN)).expect("added");
    sys_close(&mut ends.b, server).expect("open");
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 8, soon)), Ok(vec![]));
    assert_eq!(pair.run(&mut ends.b, sys_epoll_wait(ep, 0, soon)), Err(Errno::EINVAL));
    finish(pair, ends)
}

stepped!(poll_and_select_see_what_is_there);
fn poll_and_select_see_what_is_there() -> Digest {
    let mut pair = Pair::new(28);
    let (mut ends, client, server) = connected(&mut pair);
    let mut fds = [
        PollFd { fd: server, events: POLLIN | POLLOUT, revents: 0 },
        PollFd { fd: -1, events: POLLIN, revents: 9 },
        PollFd { fd: 55, events: POLLIN, revents: 0 },
    ];
    assert_eq!(pair.run(&mut ends.b, sys_poll(&mut fds, Some(Duration::ZERO))), Ok(2));
    let seen: Vec<i16> = fds.iter().map(|fd| fd.revents).collect();
    assert_eq!(seen, [POLLOUT, 0, POLLNVAL]);
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"x", 0)), Ok(1));
    pair.world.settle();
    let mut sets = FdSets { read: vec![server], write: vec![server], except: vec![server] };
    assert_eq!(pair.run(&mut ends.b, sys_select(&mut sets, None)), Ok(2));
    assert_eq!(sets, FdSets { read: vec![server], write: vec![server], except: vec![] });
    let mut bad = FdSets { read: vec![55], ..FdSets::default() };
    assert_eq!(pair.run(&mut ends.b, sys_select(&mut bad, None)), Err(Errno::EBADF));
    sys_shutdown(&mut ends.b, server, SHUT_RD).expect("connected");
    let mut data = [0; 8];
    assert_eq!(pair.run(&mut ends.b, sys_read(server, &mut data)), Ok(1), "what came before");
    assert_eq!(pair.run(&mut ends.b, sys_read(server, &mut data)), Ok(0), "then the end");
    sys_shutdown(&mut ends.a, client, SHUT_WR).expect("connected");
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"x", 0)), Err(Errno::EPIPE));
    finish(pair, ends)
}

stepped!(descriptors_are_duplicated_and_the_last_one_closes);
fn descriptors_are_duplicated_and_the_last_one_closes() -> Digest {
    let mut pair = Pair::new(29);
    let (mut ends, client, _server) = connected(&mut pair);
    let cx = &mut ends.a;
    let twin = sys_dup(cx, client).expect("a free descriptor");
    assert_eq!(sys_dup2(cx, client, 40), Ok(40));
    sys_close(cx, client).expect("open");
    assert_eq!(sys_close(cx, client), Err(Errno::EBADF));
    assert_eq!(
        sys_getsockname(cx, twin).map(|name| name.inet().map(|name| name.port)),
        Ok(Some(4000))
    );
    assert_eq!(sys_dup(cx, twin), Ok(client), "the lowest free one");
    let busy = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    assert_eq!(sys_bind(cx, busy, &addr(A, 4000)), Err(Errno::EADDRINUSE));
    for fd in [client, twin, 40] {
        sys_close(cx, fd).expect("open");
    }
    sys_bind(cx, busy, &addr(A, 4000)).expect("the port is free with the last descriptor");
    finish(pair, ends)
}

stepped!(errors_as_in_linux);
fn errors_as_in_linux() -> Digest {
    let mut pair = Pair::new(30);
    let mut ends = pair.ends();
    let cx = &mut ends.a;
    assert_eq!(sys_socket(cx, AF_INET6, SOCK_DGRAM, 0), Err(Errno::EAFNOSUPPORT));
    assert_eq!(sys_socket(cx, AF_INET, SOCK_DGRAM, 99), Err(Errno::EPROTONOSUPPORT));
    assert_eq!(sys_socket(cx, AF_INET, SOCK_SEQPACKET, 0), Err(Errno::ESOCKTNOSUPPORT));
    assert_eq!(sys_socket(cx, AF_INET, SOCK_DGRAM | 1 << 20, 0), Err(Errno::EINVAL));
    assert_eq!(sys_bind(cx, 9, &addr(A, 1)), Err(Errno::EBADF));
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    let ep = sys_epoll_create1(cx, 0).expect("made");
    assert_eq!(sys_bind(cx, ep, &addr(A, 1)), Err(Errno::ENOTSOCK));
    assert_eq!(sys_bind(cx, fd, &addr(A, 1)[..8]), Err(Errno::EINVAL));
    assert_eq!(sys_bind(cx, fd, &addr([203, 0, 113, 1].into(), 1)), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(sys_getpeername(cx, fd), Err(Errno::ENOTCONN));
    assert_eq!(sys_shutdown(cx, fd, SHUT_RD), Err(Errno::ENOTCONN));
    assert_eq!(sys_shutdown(cx, fd, 9), Err(Errno::EINVAL));
    assert_eq!(sys_setsockopt(cx, fd, SOL_SOCKET, 9999, &int(1)), Err(Errno::ENOPROTOOPT));
    assert_eq!(sys_setsockopt(cx, fd, SOL_IP, 9999, &int(1)), Err(Errno::ENOPROTOOPT));
    assert_eq!(sys_setsockopt(cx, fd, SOL_UDP, 9999, &int(1)), Err(Errno::ENOPROTOOPT));
    assert_eq!(sys_setsockopt(cx, fd, 999, 1, &int(1)), Err(Errno::ENOPROTOOPT));
    assert_eq!(sys_setsockopt(cx, fd, SOL_SOCKET, SO_RCVBUF, &[1]), Err(Errno::EINVAL));
    assert_eq!(sys_setsockopt(cx, fd, SOL_IP, IP_TTL, &int(256)), Err(Errno::EINVAL));
    assert_eq!(sys_getsockopt(cx, fd, SOL_SOCKET, SO_TYPE), Ok(int(SOCK_DGRAM).to_vec()));
    assert_eq!(sys_getsockopt(cx, fd, SOL_SOCKET, SO_ERROR), Ok(int(0).to_vec()));
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_SNDBUF, &int(10_000)).expect("set");
    assert_eq!(sys_getsockopt(cx, fd, SOL_SOCKET, SO_SNDBUF), Ok(int(20_000).to_vec()));
    let to = |ip: [u8; 4], port| addr(ip.into(), port);
    let mut try_send = |data: &[u8], flags, name: Option<[u8; 16]>| {
        let name = name.as_ref().map(|name| &name[..]);
        pair.run(&mut ends.a, sys_sendto(fd, data, flags, name))
    };
    assert_eq!(try_send(b"x", 0, None), Err(Errno::EDESTADDRREQ));
    assert_eq!(try_send(b"x", MSG_OOB, Some(addr(B, 7))), Err(Errno::EOPNOTSUPP));
    assert_eq!(try_send(b"x", 0, Some(addr(B, 0))), Err(Errno::EINVAL));
    assert_eq!(try_send(b"x", 0, Some(to([203, 0, 113, 1], 7))), Err(Errno::ENETUNREACH));
    assert_eq!(try_send(b"x", 0, Some(to([192, 0, 2, 255], 7))), Err(Errno::EACCES));
    assert_eq!(try_send(b"x", 0, Some(to([255; 4], 7))), Err(Errno::ENETUNREACH));
    assert_eq!(try_send(&[0; 65_508], 0, Some(addr(B, 7))), Err(Errno::EMSGSIZE));
    assert_eq!(try_send(&[0; 1_473], 0, Some(addr(B, 7))), Ok(1_473));
    assert_eq!(try_send(&[0; 1_472], 0, Some(addr(B, 7))), Ok(1_472));
    finish(pair, ends)
}

stepped!(broadcast_reaches_everybody_with_leave);
fn broadcast_reaches_everybody_with_leave() -> Digest {
    let mut pair = Pair::new(31);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    sys_setsockopt(&mut ends.a, client, SOL_SOCKET, SO_BROADCAST, &int(1)).expect("set");
    let own = udp(&mut ends.a, [0; 4].into(), 7);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let fd = sys_socket(&mut ends.b, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        sys_setsockopt(&mut ends.b, fd, SOL_SOCKET, SO_REUSEADDR, &int(1)).expect("set");
        sys_bind(&mut ends.b, fd, &addr([0; 4].into(), 7)).expect("shared");
        servers.push(fd);
    }
    send(&mut pair, &mut ends.a, client, b"all", addr([192, 0, 2, 255].into(), 7));
    pair.world.settle();
    for fd in servers {
        let (data, _) = crate::util::recv(&mut pair, &mut ends.b, fd).expect("a copy each");
        assert_eq!(data, b"all");
    }
    let (data, _) =
        crate::util::recv(&mut pair, &mut ends.a, own).expect("the sender's machine too");
    assert_eq!(data, b"all");
    finish(pair, ends)
}

stepped!(a_reuseport_group_shares_flows_and_keeps_each_on_one_socket);
fn a_reuseport_group_shares_flows_and_keeps_each_on_one_socket() -> Digest {
    let mut pair = Pair::new(32);
    let mut ends = pair.ends();
    let mut servers = Vec::new();
    for _ in 0..4 {
        let fd = sys_socket(&mut ends.b, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        sys_setsockopt(&mut ends.b, fd, SOL_SOCKET, SO_REUSEPORT, &int(1)).expect("set");
        sys_bind(&mut ends.b, fd, &addr(B, 7)).expect("shared");
        servers.push(fd);
    }
    for port in 5000..5040 {
        let client = udp(&mut ends.a, A, port);
        for _ in 0..2 {
            send(&mut pair, &mut ends.a, client, &port.to_be_bytes(), addr(B, 7));
        }
        sys_close(&mut ends.a, client).expect("open");
        pair.world.settle();
    }
    let mut shares = Vec::new();
    for fd in servers {
        let mut ports = Vec::new();
        loop {
            let mut data = [0; 2];
            match pair.run(&mut ends.b, sys_recvfrom(fd, &mut data, MSG_DONTWAIT)) {
                Ok(_) => ports.push(u16::from_be_bytes(data)),
                Err(error) => break assert_eq!(error, Errno::EAGAIN),
            }
        }
        assert!(ports.chunks(2).all(|two| two[0] == two[1]), "a flow is split: {ports:?}");
        shares.push(ports.len());
    }
    assert_eq!(shares.iter().sum::<usize>(), 80);
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    finish(pair, ends)
}

stepped!(corked_pieces_go_out_as_one_datagram);
fn corked_pieces_go_out_as_one_datagram() -> Digest {
    let mut pair = Pair::new(33);
    let (mut ends, client, server) = connected(&mut pair);
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"one ", MSG_MORE)), Ok(4));
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"two ", MSG_MORE)), Ok(4));
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"three", 0)), Ok(5));
    let (data, _) = crate::util::recv(&mut pair, &mut ends.b, server).expect("one");
    assert_eq!(data, b"one two three");
    let cork = uapi::udp::UDP_CORK;
    sys_setsockopt(&mut ends.a, client, SOL_UDP, cork, &int(1)).expect("set");
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"held ", 0)), Ok(5));
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"back", 0)), Ok(4));
    sys_setsockopt(&mut ends.a, client, SOL_UDP, cork, &int(0)).expect("set");
    let (data, _) = crate::util::recv(&mut pair, &mut ends.b, server).expect("one");
    assert_eq!(data, b"held back");
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"free", 0)), Ok(4));
    assert_eq!(crate::util::recv(&mut pair, &mut ends.b, server).expect("one").0, b"free");
    finish(pair, ends)
}

stepped!(every_host_hears_all_hosts_and_the_sender_as_it_asks);
fn every_host_hears_all_hosts_and_the_sender_as_it_asks() -> Digest {
    let mut pair = Pair::new(34);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let own = udp(&mut ends.a, [0; 4].into(), 7);
    let other = udp(&mut ends.b, [0; 4].into(), 7);
    let all_hosts = [224, 0, 0, 1].into();
    let hears = |pair: &mut Pair, ends: &mut crate::util::Ends| {
        send(pair, &mut ends.a, client, b"all", addr(all_hosts, 7));
        pair.world.settle();
        let mut data = [0; 8];
        let here = pair.run(&mut ends.a, sys_recvfrom(own, &mut data, MSG_DONTWAIT)).is_ok();
        let there = pair.run(&mut ends.b, sys_recvfrom(other, &mut data, MSG_DONTWAIT)).is_ok();
        (here, there)
    };
    assert_eq!(hears(&mut pair, &mut ends), (true, true));
    let loops = uapi::in_::IP_MULTICAST_LOOP;
    sys_setsockopt(&mut ends.a, client, SOL_IP, loops, &int(0)).expect("set");
    assert_eq!(hears(&mut pair, &mut ends), (false, true));
    finish(pair, ends)
}
