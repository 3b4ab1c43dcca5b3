//! Many connections: some dozens at a time, thousands one after the other, and as many as fit at once.

use crate::util::{B, Pair, addr, check, listener, stream};
use sim::{Impairment, Task};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::cpu::CpuId;
use stack::net::socket::{sys_accept4, sys_connect, sys_shutdown};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uapi::socket::SHUT_WR;

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
