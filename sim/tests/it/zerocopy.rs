//! Sending without a copy: whose memory the driver sees, and when it is given back.

use crate::lone::Lone;
use crate::scripted::{Conn, MSS};
use crate::util::addr;
use bytes::Bytes;
use stack::fs::{PollFd, sys_close, sys_poll, sys_read};
use stack::kernel::sched::poll_operation;
use stack::net::socket::{
    MsgName, Received, sys_accept4, sys_bind, sys_connect, sys_listen, sys_recvmsg, sys_send,
    sys_send_bytes, sys_setsockopt, sys_socket,
};
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::errqueue::{SO_EE_CODE_ZEROCOPY_COPIED, SO_EE_ORIGIN_ZEROCOPY, SockExtendedErr};
use uapi::poll::{POLLERR, POLLIN};
use uapi::socket::{
    AF_INET, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_ZEROCOPY, SO_ZEROCOPY, SOCK_STREAM, SOL_SOCKET, cmsgs,
};

/// A program's memory, which shows whether anybody still has it.
struct Memory {
    bytes: Vec<u8>,
    alive: Arc<()>,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        let _held = &self.alive;
        &self.bytes
    }
}

/// So many octets; the handle says whether they are still in use.
fn memory(len: usize) -> (Bytes, Weak<()>) {
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    let bytes = (0..len).map(|at| at as u8).collect();
    (Bytes::from_owner(Memory { bytes, alive }), weak)
}

fn in_use(memory: &Weak<()>) -> bool {
    memory.strong_count() != 0
}

/// A connection whose program asks to be told of its memory.
fn zerocopy() -> Conn {
    let mut conn = Conn::new();
    let on = 1_i32.to_ne_bytes();
    sys_setsockopt(&mut conn.lone.cx, conn.fd, SOL_SOCKET, SO_ZEROCOPY, &on).expect("of a stream");
    conn
}

impl Conn {
    /// Sends memory that the program keeps no handle on.
    fn send(&mut self, data: Vec<Bytes>, flags: i32) -> Result<usize, Errno> {
        self.lone.run(sys_send_bytes(self.fd, &data, flags | MSG_DONTWAIT))
    }

    /// What the error queue tells: the first and the last call, and the code.
    fn told(&mut self) -> Result<(u32, u32, u8), Errno> {
        told(&mut self.lone, self.fd)
    }
}

fn told(lone: &mut Lone, fd: i32) -> Result<(u32, u32, u8), Errno> {
    let mut control = [0; 64];
    let got: Received = lone.run(sys_recvmsg(fd, &mut [], &mut control, MSG_ERRQUEUE))?;
    assert_eq!((got.len, got.name, got.flags), (0, MsgName::None, MSG_ERRQUEUE));
    let cmsg =
        cmsgs(&control[..got.controllen as usize]).next().expect("a report").expect("well-formed");
    let ee = SockExtendedErr::from_bytes(cmsg.data.first_chunk().expect("a report's length"));
    assert_eq!((ee.ee_errno, ee.ee_origin), (0, SO_EE_ORIGIN_ZEROCOPY));
    Ok((ee.ee_info, ee.ee_data, ee.ee_code))
}

#[test]
fn the_driver_sees_the_programs_memory_until_it_is_acknowledged() {
    let mut conn = zerocopy();
    let (bytes, alive) = memory(4 * MSS);
    let at = bytes.as_ptr() as usize;
    assert_eq!(conn.send(vec![bytes], MSG_ZEROCOPY), Ok(4 * MSS));
    let expected: Vec<_> = (0..4).map(|n| (at + n * MSS, MSS)).collect();
    assert_eq!(conn.pieces(), expected);
    assert!(in_use(&alive));
    assert_eq!(conn.told(), Err(Errno::EAGAIN));

    // Nothing comes back: it goes again, from the same memory.
    conn.lone.world.run_for(Duration::from_secs(2));
    let again = conn.pieces();
    assert!(!again.is_empty());
    assert!(again.iter().all(|piece| expected.contains(piece)), "{again:?}");

    conn.ack(4 * MSS - 1);
    assert!(in_use(&alive), "an octet is missing");
    assert_eq!(conn.told(), Err(Errno::EAGAIN));
    conn.ack(4 * MSS);
    assert!(!in_use(&alive));
    assert_eq!(conn.told(), Ok((0, 0, 0)));
    assert_eq!(conn.told(), Err(Errno::EAGAIN));
    conn.end();
}

#[test]
fn memory_nobody_asked_to_be_told_of_is_given_back_all_the_same() {
    let mut conn = zerocopy();
    let (bytes, alive) = memory(MSS);
    let at = bytes.as_ptr() as usize;
    assert_eq!(conn.send(vec![bytes], 0), Ok(MSS));
    assert_eq!(conn.pieces(), [(at, MSS)]);
    assert!(in_use(&alive));
    conn.ack(MSS);
    assert!(!in_use(&alive));
    assert_eq!(conn.told(), Err(Errno::EAGAIN));
    conn.end();
}

#[test]
fn each_part_is_given_back_with_its_last_octet() {
    let mut conn = zerocopy();
    let parts = [memory(2 * MSS), memory(10), memory(MSS)];
    let alive: Vec<_> = parts.iter().map(|(_, alive)| alive.clone()).collect();
    let len = 3 * MSS + 10;
    let parts = parts.into_iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(conn.send(parts, MSG_ZEROCOPY), Ok(len));
    let used = |alive: &[Weak<()>]| alive.iter().map(in_use).collect::<Vec<_>>();
    // Nagle keeps the last ten octets until the rest arrived.
    for (acked, left) in
        [(MSS, [true; 3]), (2 * MSS, [false, true, true]), (3 * MSS, [false, false, true])]
    {
        conn.ack(acked);
        assert_eq!(used(&alive), left, "{acked} octets");
        assert_eq!(conn.told(), Err(Errno::EAGAIN));
    }
    conn.ack(len);
    assert_eq!(used(&alive), [false; 3]);
    assert_eq!(conn.told(), Ok((0, 0, 0)));
    conn.end();
}

#[test]
fn calls_are_told_of_in_order_and_together() {
    let mut conn = zerocopy();
    for _ in 0..3 {
        assert_eq!(conn.send(vec![memory(MSS).0], MSG_ZEROCOPY), Ok(MSS));
    }
    conn.ack(3 * MSS);
    let events = POLLERR | POLLIN;
    let mut fds = [PollFd { fd: conn.fd, events, revents: 0 }];
    assert_eq!(conn.lone.run(sys_poll(&mut fds, Some(Duration::ZERO))), Ok(1));
    assert_eq!(fds[0].revents, POLLERR);
    assert_eq!(conn.told(), Ok((0, 2, 0)));
    assert_eq!(conn.lone.run(sys_poll(&mut fds, Some(Duration::ZERO))), Ok(0));
    // What is only lent is copied, and said to be.
    assert_eq!(conn.lone.run(sys_send(conn.fd, &[1; MSS], MSG_ZEROCOPY)), Ok(MSS));
    conn.ack(4 * MSS);
    assert_eq!(conn.told(), Ok((3, 3, SO_EE_CODE_ZEROCOPY_COPIED)));
    conn.end();
}

#[test]
fn what_waits_to_be_told_of_is_bounded() {
    let mut conn = zerocopy();
    conn.lone.sysctl(|settings| settings.optmem_max = 2 * 960);
    for _ in 0..2 {
        assert_eq!(conn.send(vec![memory(MSS).0], MSG_ZEROCOPY), Ok(MSS));
    }
    let (bytes, alive) = memory(MSS);
    assert_eq!(conn.send(vec![bytes], MSG_ZEROCOPY), Err(Errno::ENOBUFS));
    assert!(!in_use(&alive));
    // Without being told it goes.
    assert_eq!(conn.send(vec![memory(MSS).0], 0), Ok(MSS));
    conn.ack(3 * MSS);
    // The two are one report by now: there is room for another, and it has the next number.
    assert_eq!(conn.send(vec![memory(MSS).0], MSG_ZEROCOPY), Ok(MSS));
    assert_eq!(conn.send(vec![memory(MSS).0], MSG_ZEROCOPY), Err(Errno::ENOBUFS));
    assert_eq!(conn.told(), Ok((0, 1, 0)));
    assert_eq!(conn.send(vec![memory(MSS).0], MSG_ZEROCOPY), Ok(MSS));
    conn.ack(5 * MSS);
    assert_eq!(conn.told(), Ok((2, 3, 0)));
    conn.end();
}

#[test]
fn a_reset_gives_memory_back_and_tells_of_it() {
    let mut conn = zerocopy();
    let (bytes, alive) = memory(3 * MSS);
    assert_eq!(conn.send(vec![bytes], MSG_ZEROCOPY), Ok(3 * MSS));
    conn.reset();
    assert!(!in_use(&alive));
    assert_eq!(conn.told(), Ok((0, 0, 0)));
    conn.end();
}

#[test]
fn a_closed_socket_keeps_memory_while_it_sends_and_tells_nobody() {
    let mut conn = zerocopy();
    let (bytes, alive) = memory(3 * MSS);
    assert_eq!(conn.send(vec![bytes], MSG_ZEROCOPY), Ok(3 * MSS));
    sys_close(&mut conn.lone.cx, conn.fd).expect("open");
    conn.lone.world.settle();
    assert!(in_use(&alive), "it is still to be sent again");
    conn.ack(3 * MSS);
    assert!(!in_use(&alive));
    conn.end();
}

#[test]
fn a_call_that_is_given_up_is_told_of_for_what_went() {
    let mut conn = zerocopy();
    let (bytes, alive) = memory(8 << 20);
    let data = vec![bytes];
    let mut call = Box::new(sys_send_bytes(conn.fd, &data, MSG_ZEROCOPY));
    assert!(poll_operation(&mut conn.lone.cx, Waker::noop(), &mut *call).is_pending());
    assert_eq!(conn.told(), Err(Errno::EAGAIN));
    drop(call);
    drop(data);
    assert!(in_use(&alive), "part of it is under way");
    conn.reset();
    assert!(!in_use(&alive));
    assert_eq!(conn.told(), Ok((0, 0, 0)));
    conn.end();
}

#[test]
fn over_loopback_memory_does_not_wait_for_the_reader() {
    let mut lone = Lone::new();
    let lo = Ipv4Addr::LOCALHOST;
    let listener = sys_socket(&mut lone.cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
    sys_bind(&mut lone.cx, listener, &addr(lo, 80)).expect("a free port");
    sys_listen(&mut lone.cx, listener, 5).expect("it listens");
    let near = sys_socket(&mut lone.cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
    let on = 1_i32.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, near, SOL_SOCKET, SO_ZEROCOPY, &on).expect("of a stream");
    assert_eq!(lone.run(sys_connect(near, &addr(lo, 80))), Ok(()));
    let (far, _) = lone.run(sys_accept4(listener, 0)).expect("it is there");
    let (bytes, alive) = memory(40_000);
    let data = vec![bytes];
    assert_eq!(lone.run(sys_send_bytes(near, &data, MSG_ZEROCOPY)), Ok(40_000));
    drop(data);
    // The last acknowledgement may be a delayed one.
    lone.world.run_for(Duration::from_secs(1));
    assert!(!in_use(&alive), "nobody has read it yet");
    assert_eq!(told(&mut lone, near), Ok((0, 0, SO_EE_CODE_ZEROCOPY_COPIED)));
    let mut read = vec![0; 50_000];
    assert_eq!(lone.run(sys_read(far, &mut read)), Ok(40_000));
    assert!(read[..40_000].iter().enumerate().all(|(at, octet)| *octet == at as u8));
    for fd in [far, near, listener] {
        sys_close(&mut lone.cx, fd).expect("open");
    }
    lone.world.run_for(Duration::from_secs(70));
    let _digest = lone.end();
}
