//! Descriptor tables: how far they go, and calls that outlive their descriptor.

use crate::golden;
use crate::util::{A, B, Pair, addr, send, udp};
use sim::Digest;
use stack::fs::eventpoll::EpollEvent;
use stack::fs::select::FdSets;
use stack::fs::{
    PollFd, exit_files, sys_close, sys_dup2, sys_epoll_create, sys_epoll_create1, sys_epoll_ctl,
    sys_epoll_pwait, sys_epoll_wait, sys_fcntl, sys_ioctl, sys_poll, sys_read, sys_select,
};
use stack::kernel::context::TaskCx;
use stack::kernel::sched::{Operation, TaskStruct, poll_operation};
use stack::net::socket::{MsgRecv, sys_bind, sys_recvfrom, sys_recvmmsg, sys_socket};
use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::fcntl::{F_GETFL, F_SETFL, O_ASYNC, O_NONBLOCK};
use uapi::poll::{EPOLL_CTL_ADD, EPOLLIN, POLLIN, POLLNVAL};
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};
use uapi::sockios::FIOASYNC;

fn read(fds: &[i32]) -> FdSets {
    FdSets { read: fds.to_vec(), ..FdSets::default() }
}

stepped!(select_looks_no_further_than_the_table_goes);
fn select_looks_no_further_than_the_table_goes() -> Digest {
    let mut pair = Pair::new(60);
    let mut cx = pair.on_a();
    let fd = udp(&mut cx, A, 4000);
    let now = Some(Duration::ZERO);
    let mut select = |cx: &mut _, sets: &mut FdSets| pair.run(cx, sys_select(sets, now));
    assert_eq!(select(&mut cx, &mut read(&[63])), Err(Errno::EBADF), "the last one with room");
    let mut beyond = FdSets { read: vec![64, 1023], write: vec![fd, 64], except: vec![] };
    assert_eq!(select(&mut cx, &mut beyond), Ok(1), "only the one that is writable counts");
    let after = FdSets { read: vec![64, 1023], write: vec![fd, 64], except: vec![] };
    assert_eq!(beyond, after, "not looked at: as they were");
    // The table grows with what is opened, to the next power of two, and stays so.
    for (high, end) in [(64, 128), (128, 256), (700, 1024)] {
        assert_eq!(sys_dup2(&mut cx, fd, high), Ok(high));
        sys_close(&mut cx, high).expect("open");
        assert_eq!(select(&mut cx, &mut read(&[end - 1])), Err(Errno::EBADF));
        let mut beyond = read(&[end]);
        assert_eq!(select(&mut cx, &mut beyond), Ok(0));
        assert_eq!(beyond, read(&[end]));
    }
    let child = cx.task().files().dup_fd();
    let task = TaskStruct::with_files("child", cx.cpu(), child);
    let mut child = TaskCx::new(&pair.a, task);
    let mut select = |cx: &mut _, sets: &mut FdSets| pair.run(cx, sys_select(sets, now));
    assert_eq!(select(&mut child, &mut read(&[64])), Ok(0), "a copy has what is needed");
    exit_files(&mut child);
    exit_files(&mut cx);
    drop((child, cx));
    pair.end()
}

/// Two tasks of a process, and a socket of each in turn under one descriptor.
struct Shared {
    pair: Pair,
    sleeper: TaskCx,
    other: TaskCx,
    peer: TaskCx,
    sender: i32,
}

const FD: i32 = 0;

impl Shared {
    fn new(seed: u64) -> Self {
        let pair = Pair::new(seed);
        let mut sleeper = pair.on_a();
        let files = Arc::clone(sleeper.task().files());
        let task = TaskStruct::with_files("other", sleeper.cpu(), files);
        let other = TaskCx::new(&pair.a, task);
        let mut peer = pair.on_b();
        let sender = udp(&mut peer, B, 7);
        assert_eq!(udp(&mut sleeper, A, 4000), FD);
        Self { pair, sleeper, other, peer, sender }
    }

    /// Begins a call, which goes to sleep.
    fn begin<O: Operation>(&mut self, op: &mut O) {
        let polled = poll_operation(&mut self.sleeper, Waker::noop(), op);
        assert!(polled.is_pending(), "it sleeps");
    }

    fn go_on<O: Operation>(&mut self, op: &mut O) -> O::Output {
        match poll_operation(&mut self.sleeper, Waker::noop(), op) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it sleeps still"),
        }
    }

    /// Closes the descriptor and gives its number to a socket on another port, which gets
    /// something to read at once; then so does the first one.
    fn replace(&mut self) {
        sys_close(&mut self.other, FD).expect("open");
        self.take_number();
    }

    fn take_number(&mut self) {
        assert_eq!(udp(&mut self.other, A, 5000), FD, "the same number");
        for (data, port) in [(&b"new"[..], 5000), (b"old", 4000)] {
            send(&mut self.pair, &mut self.peer, self.sender, data, addr(A, port));
        }
        self.pair.world.settle();
    }

    /// Whether the first socket has its port yet.
    fn is_held(&mut self) -> bool {
        let fd = sys_socket(&mut self.other, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        let bound = sys_bind(&mut self.other, fd, &addr(A, 4000));
        sys_close(&mut self.other, fd).expect("open");
        bound == Err(Errno::EADDRINUSE)
    }

    fn finish(mut self) -> Digest {
        let mut data = [0; 8];
        let read = sys_recvfrom(FD, &mut data, MSG_DONTWAIT);
        assert!(self.pair.run(&mut self.other, read).is_ok(), "the new one kept what it got");
        self.take_back()
    }

    /// The end, whatever is in the sockets.
    fn take_back(mut self) -> Digest {
        exit_files(&mut self.other);
        exit_files(&mut self.peer);
        let Self { pair, sleeper, other, peer, .. } = self;
        drop((sleeper, other, peer));
        pair.end()
    }
}

stepped!(a_sleeping_call_goes_on_with_its_own_socket);
fn a_sleeping_call_goes_on_with_its_own_socket() -> Digest {
    let mut shared = Shared::new(61);
    let mut data = [0; 8];
    let mut op = sys_recvfrom(FD, &mut data, 0);
    shared.begin(&mut op);
    shared.replace();
    assert!(shared.is_held(), "closing does not end the call");
    let (len, _) = shared.go_on(&mut op).expect("what came for the socket it was called on");
    drop(op);
    assert_eq!(&data[..len], b"old");
    assert!(!shared.is_held(), "released by the call's end");
    shared.finish()
}

stepped!(so_do_read_and_recvmmsg);
fn so_do_read_and_recvmmsg() -> Digest {
    let mut shared = Shared::new(62);
    let mut data = [0; 8];
    let mut op = sys_read(FD, &mut data);
    shared.begin(&mut op);
    shared.replace();
    assert_eq!(shared.go_on(&mut op), Ok(3));
    drop(op);
    assert_eq!(&data[..3], b"old");
    let read = shared.finish();

    let mut shared = Shared::new(63);
    let mut buffers = [[0; 8]; 2];
    let mut parts = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
    let mut rooms = parts.each_mut().map(|iov| MsgRecv::new(iov, &mut []));
    let mut op = sys_recvmmsg(FD, &mut rooms, 0, None);
    shared.begin(&mut op);
    shared.replace();
    let polled = poll_operation(&mut shared.sleeper, Waker::noop(), &mut op);
    assert!(polled.is_pending(), "one came, it waits for the other");
    send(&mut shared.pair, &mut shared.peer, shared.sender, b"2nd", addr(A, 4000));
    shared.pair.world.settle();
    assert_eq!(shared.go_on(&mut op), Ok(2));
    drop(op);
    assert_eq!(buffers.map(|buffer| [buffer[0], buffer[1], buffer[2]]), [*b"old", *b"2nd"]);
    [read, shared.finish()].into_iter().collect()
}

stepped!(a_call_given_up_releases_its_file);
fn a_call_given_up_releases_its_file() -> Digest {
    let mut shared = Shared::new(64);
    let mut data = [0; 8];
    let mut op = sys_recvfrom(FD, &mut data, 0);
    shared.begin(&mut op);
    shared.replace();
    assert!(shared.is_held());
    drop(op);
    assert!(!shared.is_held());
    shared.finish()
}

stepped!(poll_keeps_what_it_waits_for_and_looks_its_number_up_anew);
fn poll_keeps_what_it_waits_for_and_looks_its_number_up_anew() -> Digest {
    let mut shared = Shared::new(65);
    let mut fds = [PollFd { fd: FD, events: POLLIN, revents: 0 }];
    let mut op = sys_poll(&mut fds, None);
    shared.begin(&mut op);
    sys_close(&mut shared.other, FD).expect("open");
    assert!(shared.is_held());
    assert_eq!(shared.go_on(&mut op), Ok(1));
    drop(op);
    assert_eq!(fds[0].revents, POLLNVAL);
    assert!(!shared.is_held());
    shared.take_number();
    shared.finish()
}

stepped!(a_wait_outlives_its_epoll_descriptor);
fn a_wait_outlives_its_epoll_descriptor() -> Digest {
    let mut shared = Shared::new(66);
    let ep = sys_epoll_create1(&mut shared.other, 0).expect("made");
    let event = EpollEvent { events: EPOLLIN, data: 9 };
    sys_epoll_ctl(&mut shared.other, ep, EPOLL_CTL_ADD, FD, event).expect("added");
    let mut op = sys_epoll_wait(ep, 8, None);
    shared.begin(&mut op);
    sys_close(&mut shared.other, ep).expect("open");
    send(&mut shared.pair, &mut shared.peer, shared.sender, b"new", addr(A, 4000));
    shared.pair.world.settle();
    assert_eq!(shared.go_on(&mut op), Ok(vec![event]));
    drop(op);
    shared.finish()
}

stepped!(epoll_and_select_walk);
fn epoll_and_select_walk() -> Digest {
    let mut shared = Shared::new(67);
    let ep = sys_epoll_create(&mut shared.other, 1).expect("made");
    let event = EpollEvent { events: EPOLLIN, data: 9 };
    sys_epoll_ctl(&mut shared.other, ep, EPOLL_CTL_ADD, FD, event).expect("added");
    // The way is known, so that the walk is the datagram's alone.
    send(&mut shared.pair, &mut shared.peer, shared.sender, b"first", addr(A, 4000));
    shared.pair.world.settle();
    let mut data = [0; 8];
    let first = sys_recvfrom(FD, &mut data, 0);
    assert!(shared.pair.run(&mut shared.other, first).is_ok());
    shared.pair.world.watch(None);
    let mut op = sys_epoll_wait(ep, 8, None);
    shared.begin(&mut op);
    send(&mut shared.pair, &mut shared.peer, shared.sender, b"new", addr(A, 4000));
    shared.pair.world.settle();
    assert_eq!(shared.go_on(&mut op), Ok(vec![event]));
    drop(op);
    let mut sets = read(&[FD, ep]);
    assert_eq!(shared.pair.run(&mut shared.other, sys_select(&mut sets, None)), Ok(2));
    golden::check(&shared.pair.world, "epoll-select");
    shared.finish()
}

stepped!(a_blocked_signal_does_not_end_a_wait);
fn a_blocked_signal_does_not_end_a_wait() -> Digest {
    let mut shared = Shared::new(68);
    let ep = sys_epoll_create1(&mut shared.other, 0).expect("made");
    let soon = Some(Duration::from_millis(5));
    shared.sleeper.task().interrupt();
    let blocked = sys_epoll_pwait(ep, 8, soon, true);
    assert_eq!(shared.pair.run(&mut shared.sleeper, blocked), Ok(vec![]), "its time was up");
    let wait = sys_epoll_pwait(ep, 8, soon, false);
    assert_eq!(shared.pair.run(&mut shared.sleeper, wait), Err(Errno::EINTR), "it was kept");
    shared.take_back()
}

stepped!(flags_that_would_do_nothing_are_not_set);
fn flags_that_would_do_nothing_are_not_set() -> Digest {
    let mut shared = Shared::new(69);
    let cx = &mut shared.other;
    sys_fcntl(cx, FD, F_SETFL, O_ASYNC | O_NONBLOCK).expect("set");
    let flags = sys_fcntl(cx, FD, F_GETFL, 0).expect("read");
    assert_eq!(flags & (O_ASYNC | O_NONBLOCK), O_NONBLOCK);
    let mut number = 1_i32.to_ne_bytes();
    assert_eq!(sys_ioctl(cx, FD, FIOASYNC, &mut number), Err(Errno::ENOTTY));
    shared.take_back()
}
