//! Many connections: some dozens at a time, thousands one after the other, and as many as fit at once.

use crate::util::{A, B, Pair, addr, check, connected, listener, stream};
use sim::{Impairment, Task};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::cpu::CpuId;
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::{sys_accept4, sys_bind, sys_connect, sys_getsockname, sys_shutdown};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::{SHUT_WR, Sockaddr};

/// Connections in all, and at a time.
const ALL: u32 = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
const AT_A_TIME: u32 = 48;
const PORT: u16 = 80;
/// Packet memory of either machine while they run: a few packets a connection.
const MEMORY: usize = 16 << 20;

/// Opens connections one after the other, sends an octet over each, reads one, and closes it.
async fn client(task: Task, (port, count): (u16, u32), done: Rc<Cell<u32>>) {
    for n in 0..count {
        let fd = task.now(stream);
        task.call(sys_connect(fd, &addr(B, port))).await.expect("connected");
        let sent = [n as u8];
        assert_eq!(task.call(sys_write(fd, &sent)).await, Ok(1));
        let mut got = [0; 2];
        assert_eq!(task.call(sys_read(fd, &mut got)).await, Ok(1));
        assert_eq!(got[0], !sent[0], "the answer to this one");
        // Half of them close first.
        if n % 2 == 0 {
            task.now(|cx| sys_shutdown(cx, fd, SHUT_WR)).expect("connected");
        }
        assert_eq!(task.call(sys_read(fd, &mut got)).await, Ok(0));
        task.now(|cx| sys_close(cx, fd)).expect("open");
        done.set(done.get() + 1);
    }
}

/// Serves connections one after the other.
async fn server(task: Task, listening: i32, count: u32) {
    for _ in 0..count {
        let (fd, _) = task.call(sys_accept4(listening, 0)).await.expect("accepted");
        let mut got = [0; 2];
        assert_eq!(task.call(sys_read(fd, &mut got)).await, Ok(1));
        assert_eq!(task.call(sys_write(fd, &[!got[0]])).await, Ok(1));
        if got[0] % 2 == 0 {
            assert_eq!(task.call(sys_read(fd, &mut got)).await, Ok(0));
        }
        task.now(|cx| sys_close(cx, fd)).expect("open");
    }
}

#[test]
fn thousands_of_connections_come_and_go() {
    let weather = Impairment { delay: Duration::from_millis(5), loss: 0.01, ..Default::default() };
    let mut pair = Pair::new(1, weather);
    let (a, b) = (Arc::clone(&pair.a), Arc::clone(&pair.b));
    let done = Rc::new(Cell::new(0));
    for n in 0..AT_A_TIME {
        let count = ALL / AT_A_TIME + u32::from(n < ALL % AT_A_TIME);
        // Each with a listener of its own: descriptors are a task's.
        pair.world.spawn(&b, CpuId(0), |task| async move {
            let listening = task.now(|cx| listener(cx, B, PORT + n as u16, 16));
            server(task.clone(), listening, count).await;
            task.now(|cx| sys_close(cx, listening)).expect("open");
        });
        let done = Rc::clone(&done);
        pair.world.spawn(&a, CpuId(0), |task| client(task, (PORT + n as u16, count), done));
    }
    let (mut turns, mut most) = (0_u32, [0; 2]);
    let until = pair.world.clock().peek() + Duration::from_secs(3600);
    let all = pair.world.run_until_done(until, || {
        turns += 1;
        if turns % 64 == 0 {
            check(&a);
            check(&b);
        }
        for (machine, most) in [&a, &b].into_iter().zip(&mut most) {
            *most = (*most).max(machine.packet_memory());
            assert!(*most <= MEMORY, "{most} octets of packets");
        }
        done.get() == ALL
    });
    assert!(all, "{} of {ALL}", done.get());
    println!("{ALL} connections, {most:?} octets of packets at the most");
    assert!(pair.world.run_tasks(Duration::from_secs(600)), "servers end");
    drop((a, b));
    let _digest = pair.end(Duration::from_secs(900));
}

/// Ports to connect from; in a release build all that there are by default.
const FROM: (u16, u16) = if cfg!(debug_assertions) { (40_000, 41_999) } else { (32_768, 60_999) };

/// As many connections to one destination as there are ports: the even ones first, then the others.
#[test]
fn every_port_connects_to_one_destination() {
    let wire = Impairment { delay: Duration::from_micros(10), ..Impairment::default() };
    let mut pair = Pair::new(1, wire);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    update_sysctls(&mut a, |sysctl| sysctl.ip_local_port_range = FROM);
    let listening = listener(&mut b, B, PORT, 16);
    let all = u32::from(FROM.1 - FROM.0) + 1;
    let begun = std::time::Instant::now();
    let mut ends = Vec::new();
    for n in 0..all {
        let (near, far) = connected(&mut pair, &mut a, &mut b, listening);
        let port =
            sys_getsockname(&mut a, near).ok().and_then(Sockaddr::inet).expect("connected").port;
        assert!(
            (FROM.0..=FROM.1).contains(&port) && u32::from(port % 2) == n / (all / 2),
            "{port}"
        );
        ends.push((near, far));
    }
    println!("{all} connections to one destination in {:?}", begun.elapsed());
    let one_more = stream(&mut a);
    let refused = pair.run(&mut a, sys_connect(one_more, &addr(B, PORT)));
    assert_eq!(refused, Err(Errno::EADDRNOTAVAIL));
    // To another there is room.
    let other = listener(&mut b, B, PORT + 1, 16);
    assert_eq!(pair.run(&mut a, sys_connect(one_more, &addr(B, PORT + 1))), Ok(()));
    for some in ends.chunks(256) {
        some.iter().for_each(|(near, _)| sys_close(&mut a, *near).expect("open"));
        pair.world.run_for(Duration::from_millis(1));
        some.iter().for_each(|(_, far)| sys_close(&mut b, *far).expect("open"));
        pair.world.run_for(Duration::from_millis(1));
    }
    sys_close(&mut a, one_more).expect("open");
    [listening, other].into_iter().for_each(|fd| sys_close(&mut b, fd).expect("open"));
    drop((a, b));
    let _digest = pair.end(Duration::from_secs(900));
}

/// As a kernel 6.18 has it: a port that somebody bound is his alone, in TIME_WAIT too; one that connections have is
/// theirs together, whatever state they are in.
#[test]
fn a_bound_port_is_nobody_elses_until_its_time_wait_is_over() {
    let mut pair = Pair::new(1, Impairment::default());
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    update_sysctls(&mut a, |sysctl| sysctl.ip_local_port_range = (40_000, 40_000));
    let listeners = [80, 81, 82].map(|port| listener(&mut b, B, port, 16));
    let open = |pair: &mut Pair, a: &mut _, bound: bool, port| {
        let fd = stream(a);
        if bound {
            sys_bind(a, fd, &addr(A, 40_000)).expect("free");
        }
        let done = pair.run(a, sys_connect(fd, &addr(B, port)));
        if done.is_err() {
            sys_close(a, fd).expect("open");
        }
        done.map(|()| fd)
    };
    // Closes both ends, ours first: TIME_WAIT is here.
    let over = |pair: &mut Pair, a: &mut _, b: &mut _, fd, listening| {
        let (far, _) = pair.run(b, sys_accept4(listening, 0)).expect("it is there");
        for (cx, fd) in [(a, fd), (b, far)] {
            sys_close(cx, fd).expect("open");
            pair.world.run_for(Duration::from_millis(1));
        }
    };
    let refused = Err(Errno::EADDRNOTAVAIL);
    let bound = open(&mut pair, &mut a, true, 80).expect("a connection");
    assert_eq!(open(&mut pair, &mut a, false, 81), refused);
    over(&mut pair, &mut a, &mut b, bound, listeners[0]);
    assert_eq!(open(&mut pair, &mut a, false, 81), refused);
    pair.world.run_for(Duration::from_secs(61));
    let first = open(&mut pair, &mut a, false, 81).expect("it is over");
    over(&mut pair, &mut a, &mut b, first, listeners[1]);
    let second = open(&mut pair, &mut a, false, 82).expect("shared");
    over(&mut pair, &mut a, &mut b, second, listeners[2]);
    listeners.into_iter().for_each(|fd| sys_close(&mut b, fd).expect("open"));
    drop((a, b));
    let _digest = pair.end(Duration::from_secs(900));
}
