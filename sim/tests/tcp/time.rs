//! When TCP gives up, asks again, and forgets: on a wire from which suddenly nothing comes.

use crate::util::{A, B, Pair, addr, connected, info, listener, stream};
use sim::Impairment;
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::time::Ktime;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::ipv4::tcp::TcpState;
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_getsockopt, sys_recvfrom, sys_setsockopt, sys_shutdown,
};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::LinuxMib;
use uapi::socket::*;
use uapi::tcp::*;

const WIRE: Impairment = Impairment {
    delay: Duration::from_millis(1),
    jitter: Duration::ZERO,
    loss: 0.0,
    duplicate: 0.0,
    reorder: 0.0,
    corrupt: 0.0,
    losses: None,
    bottleneck: None,
    fates: &[],
};

/// The same when nothing arrives.
const DEAD: Impairment = Impairment { loss: 1.0, ..WIRE };

/// A pair with a connection.
struct Connected {
    pair: Pair,
    a: TaskCx,
    b: TaskCx,
    listening: i32,
    near: i32,
    far: i32,
}

impl Connected {
    fn new(seed: u64) -> Self {
        let mut pair = Pair::new(seed, WIRE);
        let (mut a, mut b) = (pair.on_a(), pair.on_b());
        let listening = listener(&mut b, B, 80, 5);
        let (near, far) = connected(&mut pair, &mut a, &mut b, listening);
        pair.world.run_for(Duration::from_secs(1));
        Self { pair, a, b, listening, near, far }
    }

    fn now(&self) -> Ktime {
        self.pair.world.clock().peek()
    }

    fn set(&mut self, level: i32, name: i32, value: i32) {
        sys_setsockopt(&mut self.a, self.near, level, name, &value.to_ne_bytes()).expect("known");
    }

    /// Runs until `done`, which is asked after every turn, at most for so many seconds; true if it was.
    fn watch(&mut self, most: u64, mut done: impl FnMut(&mut TaskCx, Ktime) -> bool) -> bool {
        let clock = Arc::clone(self.pair.world.clock());
        let (a, until) = (&mut self.a, clock.peek() + Duration::from_secs(most));
        self.pair.world.run_until_done(until, || done(a, clock.peek()))
    }

    /// The seconds until the near end has no connection any more; none when that takes longer than `most`.
    fn seconds_to_death(&mut self, most: u64) -> Option<f64> {
        let (begin, near) = (self.now(), self.near);
        let died = self.watch(most, |a, _| info(a, near).tcpi_state == TcpState::Close as u8);
        self.pair.check();
        died.then(|| (self.now() - begin).as_secs_f64())
    }

    fn error(&mut self) -> i32 {
        let bytes = sys_getsockopt(&mut self.a, self.near, SOL_SOCKET, SO_ERROR).expect("known");
        i32::from_ne_bytes(bytes.try_into().expect("four octets"))
    }

    /// When a number grows: seconds since the beginning, within `most` of them.
    fn times(&mut self, most: u64, mut number: impl FnMut(&mut TaskCx) -> u64) -> Vec<f64> {
        let (begin, mut last, mut times) = (self.now(), number(&mut self.a), Vec::new());
        self.watch(most, |a, now| {
            let new = number(a);
            if new != last {
                times.push((now - begin).as_secs_f64());
            }
            last = new;
            false
        });
        times
    }

    /// Closes all, and looks that nothing is left.
    fn end(mut self) {
        self.pair.world.set_weather(WIRE);
        for (cx, fd) in [(&mut self.a, self.near), (&mut self.b, self.far)] {
            let _may_be_closed = sys_close(cx, fd);
        }
        sys_close(&mut self.b, self.listening).expect("open");
        drop((self.a, self.b));
        let _digest = self.pair.end(Duration::from_secs(1200));
    }
}

fn about(got: f64, wanted: f64) {
    assert!((wanted - 0.02..wanted + wanted * 0.02 + 0.1).contains(&got), "{got} s, not {wanted}");
}

#[test]
fn a_retransmission_leaves_in_time_and_the_next_takes_twice_as_long() {
    let mut pair = Connected::new(1);
    pair.pair.world.set_weather(DEAD);
    let (near, rto) = (pair.near, info(&mut pair.a, pair.near).tcpi_rto);
    let rto = f64::from(rto) / 1e6;
    assert!((0.2..0.21).contains(&rto), "{rto}");
    assert_eq!(pair.pair.run(&mut pair.a, sys_write(near, b"x")), Ok(1));
    let times = pair.times(30, |a| info(a, near).tcpi_total_retrans.into());
    // The probe of the tail leaves as early as a time-out would, and the time-outs begin anew with it.
    assert_eq!(times.len(), 8, "{times:?}");
    about(times[0], rto);
    for (n, time) in times[1..].iter().enumerate() {
        about(*time, times[0] + rto * f64::from((2 << n) - 1));
    }
    pair.end();
}

#[test]
fn a_connection_without_answer_ends_after_tcp_retries2() {
    let mut pair = Connected::new(2);
    pair.pair.world.set_weather(DEAD);
    let near = pair.near;
    assert_eq!(pair.pair.run(&mut pair.a, sys_write(near, b"x")), Ok(1));
    let seconds = pair.seconds_to_death(2000).expect("it ends");
    // Fifteen time-outs from 200 ms on take 924.6 s; the first that ends behind that is the last.
    about(seconds, 924.6 + 1.0);
    assert_eq!(pair.error(), Errno::ETIMEDOUT.0);
    pair.end();
}

#[test]
fn tcp_user_timeout_ends_it_sooner() {
    let mut pair = Connected::new(3);
    pair.set(SOL_TCP, TCP_USER_TIMEOUT, 10_000);
    pair.pair.world.set_weather(DEAD);
    let near = pair.near;
    assert_eq!(pair.pair.run(&mut pair.a, sys_write(near, b"x")), Ok(1));
    let seconds = pair.seconds_to_death(100).expect("it ends");
    // From the first retransmission on.
    about(seconds, 10.2);
    assert_eq!(pair.error(), Errno::ETIMEDOUT.0);
    pair.end();
}

#[test]
fn a_syn_without_answer_goes_four_times_a_second_apart_and_then_doubles() {
    let mut pair = Pair::new(4, WIRE);
    let mut a = pair.on_a();
    pair.world.set_weather(DEAD);
    let fd = stream(&mut a);
    let begin = pair.world.clock().peek();
    assert_eq!(pair.run(&mut a, sys_connect(fd, &addr(B, 80))), Err(Errno::ETIMEDOUT));
    let seconds = (pair.world.clock().peek() - begin).as_secs_f64();
    about(seconds, 131.0);
    assert_eq!(pair.a.mib().get(LinuxMib::TCPSynRetrans), 10);
    sys_close(&mut a, fd).expect("open");
    drop(a);
    pair.world.set_weather(WIRE);
    let _digest = pair.end(Duration::from_secs(10));
}

#[test]
fn a_closed_window_is_asked_for_ever_longer_and_opens() {
    let mut pair = Connected::new(5);
    let (near, far) = (pair.near, pair.far);
    let mut written = 0;
    let data = vec![7; 1 << 20];
    // Until nothing more fits.
    while let Ok(len) = {
        let flags = MSG_DONTWAIT;
        let op = stack::net::socket::sys_sendto(near, &data, flags, None);
        pair.pair.run(&mut pair.a, op)
    } {
        written += len;
        pair.pair.world.run_for(Duration::from_millis(50));
    }
    pair.pair.world.run_for(Duration::from_secs(1));
    assert_eq!(info(&mut pair.a, near).tcpi_snd_wnd, 0, "closed");
    let times = pair.times(900, |a| a.machine().mib().get(LinuxMib::TCPWinProbe));
    pair.pair.check();
    assert!(times.len() > 12, "{times:?}");
    let gaps: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    for two in gaps.windows(2) {
        about(two[1], (two[0] * 2.0).min(120.0));
    }
    // The peer answers each: the connection does not end, and goes on when there is room.
    let mut read = 0;
    let mut room = vec![0; 1 << 20];
    while read < written {
        read += pair.pair.run(&mut pair.b, sys_read(far, &mut room)).expect("there");
    }
    pair.end();
}

#[test]
fn a_closed_window_of_a_peer_that_is_gone_ends_the_connection() {
    let mut pair = Connected::new(6);
    let near = pair.near;
    let data = vec![7; 1 << 20];
    while {
        let op = stack::net::socket::sys_sendto(near, &data, MSG_DONTWAIT, None);
        pair.pair.run(&mut pair.a, op).is_ok()
    } {
        pair.pair.world.run_for(Duration::from_millis(50));
    }
    pair.pair.world.run_for(Duration::from_secs(1));
    pair.pair.world.set_weather(DEAD);
    // Fifteen probes without an answer.
    let seconds = pair.seconds_to_death(2000).expect("it ends");
    assert!((900.0..1300.0).contains(&seconds), "{seconds}");
    assert_eq!(pair.error(), Errno::ETIMEDOUT.0);
    pair.end();
}

#[test]
fn an_idle_connection_is_asked_and_ends_when_nobody_answers() {
    let mut pair = Connected::new(7);
    pair.set(SOL_TCP, TCP_KEEPIDLE, 60);
    pair.set(SOL_TCP, TCP_KEEPINTVL, 10);
    pair.set(SOL_TCP, TCP_KEEPCNT, 5);
    pair.set(SOL_SOCKET, SO_KEEPALIVE, 1);
    // A peer that answers keeps it.
    assert_eq!(pair.seconds_to_death(1000), None);
    let asked = pair.pair.a.mib().get(LinuxMib::TCPKeepAlive);
    assert!((15..=17).contains(&asked), "{asked}");
    // A fresh answer, then none.
    let (near, far) = (pair.near, pair.far);
    assert_eq!(pair.pair.run(&mut pair.a, sys_write(near, b"x")), Ok(1));
    assert_eq!(pair.pair.run(&mut pair.b, sys_read(far, &mut [0; 8])), Ok(1));
    pair.pair.world.run_for(Duration::from_millis(300));
    pair.pair.world.set_weather(DEAD);
    let seconds = pair.seconds_to_death(1000).expect("it ends");
    about(seconds, 60.0 + 50.0 - 0.3);
    assert_eq!(pair.error(), Errno::ETIMEDOUT.0);
    pair.end();
}

#[test]
fn keepalive_begins_after_two_hours() {
    let mut pair = Connected::new(8);
    pair.set(SOL_SOCKET, SO_KEEPALIVE, 1);
    pair.pair.world.set_weather(DEAD);
    let begin = pair.now();
    pair.pair.world.run_for(Duration::from_secs(7200 + 9 * 75 - 3));
    assert_eq!(info(&mut pair.a, pair.near).tcpi_state, TcpState::Established as u8);
    let seconds = pair.seconds_to_death(10).expect("it ends");
    let all = (pair.now() - begin).as_secs_f64();
    assert!(seconds < 5.0, "{seconds}");
    about(all, 7200.0 + 675.0);
    pair.end();
}

/// Sockets and TIME_WAIT on a machine.
fn stat(machine: &Machine) -> String {
    let stat = sockstat_seq_show(machine);
    let (counts, _pages) =
        stat.lines().next().and_then(|tcp| tcp.split_once(" mem")).expect("TCP's line");
    counts.to_owned()
}

#[test]
fn time_wait_lasts_a_minute() {
    let mut pair = Connected::new(9);
    let (near, far) = (pair.near, pair.far);
    sys_close(&mut pair.a, near).expect("open");
    pair.pair.world.run_for(Duration::from_millis(10));
    sys_close(&mut pair.b, far).expect("open");
    pair.pair.world.run_for(Duration::from_millis(10));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 1 alloc 0");
    assert_eq!(stat(&pair.pair.b), "TCP: inuse 1 orphan 0 tw 0 alloc 1", "the listener");
    pair.pair.world.run_for(Duration::from_millis(59_900));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 1 alloc 0");
    pair.pair.world.run_for(Duration::from_millis(600));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 0 alloc 0");
    pair.end();
}

#[test]
fn an_orphan_waits_a_minute_for_their_fin() {
    let mut pair = Connected::new(10);
    let near = pair.near;
    sys_close(&mut pair.a, near).expect("open");
    pair.pair.world.run_for(Duration::from_millis(500));
    // It holds no socket: fin_timeout is as long as TIME_WAIT.
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 1 alloc 0");
    pair.pair.world.run_for(Duration::from_secs(59));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 1 alloc 0");
    pair.pair.world.run_for(Duration::from_millis(1_500));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 0 alloc 0");
    pair.end();
}

#[test]
fn who_still_has_a_socket_waits_for_ever_for_their_fin() {
    let mut pair = Connected::new(11);
    let near = pair.near;
    sys_shutdown(&mut pair.a, near, SHUT_WR).expect("connected");
    assert_eq!(pair.seconds_to_death(4000), None);
    assert_eq!(info(&mut pair.a, near).tcpi_state, TcpState::FinWait2 as u8);
    pair.end();
}

#[test]
fn a_closed_connection_tries_eight_times_and_is_forgotten() {
    let mut pair = Connected::new(12);
    let near = pair.near;
    pair.pair.world.set_weather(DEAD);
    sys_close(&mut pair.a, near).expect("open");
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 1 orphan 1 tw 0 alloc 1");
    // Eight time-outs from 200 ms on, and the one under way: 102.2 s.
    pair.pair.world.run_for(Duration::from_secs(100));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 1 orphan 1 tw 0 alloc 1");
    pair.pair.world.run_for(Duration::from_secs(5));
    assert_eq!(stat(&pair.pair.a), "TCP: inuse 0 orphan 0 tw 0 alloc 0");
    pair.end();
}

#[test]
fn a_request_is_answered_six_times() {
    let mut pair = Pair::new(13, WIRE);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = listener(&mut b, B, 80, 5);
    let fd = stream(&mut a);
    sys_bind(&mut a, fd, &addr(A, 4000)).expect("free");
    let flags = SOCK_NONBLOCK;
    assert_eq!(stack::fs::sys_fcntl(&mut a, fd, uapi::fcntl::F_SETFL, flags), Ok(0));
    assert_eq!(pair.run(&mut a, sys_connect(fd, &addr(B, 80))), Err(Errno::EINPROGRESS));
    // The SYN arrives, the answer does not.
    pair.world.run_for(Duration::from_micros(1500));
    pair.world.set_weather(DEAD);
    let retrans = |pair: &Pair| pair.b.mib().get(LinuxMib::TCPSynRetrans);
    for (after, wanted) in [(900, 0), (200, 1), (2000, 2), (4000, 3), (8000, 4), (16_000, 5)] {
        pair.world.run_for(Duration::from_millis(after));
        assert_eq!(retrans(&pair), wanted);
    }
    pair.world.run_for(Duration::from_secs(40));
    assert_eq!(retrans(&pair), 5, "tcp_synack_retries");
    let mut op = sys_accept4(listening, SOCK_NONBLOCK);
    assert!(pair.world.block_on(&mut b, &mut op, Duration::from_millis(1)).is_none());
    drop(op);
    sys_close(&mut a, fd).expect("open");
    sys_close(&mut b, listening).expect("open");
    drop((a, b));
    pair.world.set_weather(WIRE);
    let _digest = pair.end(Duration::from_secs(200));
}

#[test]
fn the_last_data_of_a_dead_connection_can_be_read() {
    let mut pair = Connected::new(14);
    let (near, far) = (pair.near, pair.far);
    assert_eq!(pair.pair.run(&mut pair.b, sys_write(far, b"last")), Ok(4));
    pair.pair.world.run_for(Duration::from_millis(100));
    pair.pair.world.set_weather(DEAD);
    assert_eq!(pair.pair.run(&mut pair.a, sys_write(near, b"x")), Ok(1));
    assert!(pair.seconds_to_death(2000).is_some());
    let mut room = [0; 16];
    assert_eq!(pair.pair.run(&mut pair.a, sys_read(near, &mut room)), Ok(4));
    let again = pair.pair.run(&mut pair.a, sys_recvfrom(near, &mut room, 0));
    assert_eq!(again.map(|(len, _)| len), Err(Errno::ETIMEDOUT));
    assert_eq!(pair.pair.run(&mut pair.a, sys_read(near, &mut room)), Ok(0));
    pair.end();
}

/// The buffer has room, and TCP as a whole no memory: who writes sleeps, looks now and then, and goes on when others
/// have given some back.
#[test]
fn who_finds_no_memory_sleeps_until_there_is_some() {
    let mut pair = Pair::new(17, WIRE);
    let before = pair.a.tables().net.sysctl.tcp.mem;
    update_sysctls(&mut pair.on_a(), |sysctl| sysctl.tcp.mem = [2, 3, 4]);
    let (a, b) = (pair.a.clone(), pair.b.clone());
    let (written, arrived) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (count, gate) = (Rc::clone(&arrived), Rc::new(Cell::new(false)));
    let open = Rc::clone(&gate);
    pair.world.spawn(&b, CpuId(0), |task| async move {
        let listening = task.now(|cx| listener(cx, B, 80, 1));
        let (fd, _) = task.call(sys_accept4(listening, 0)).await.expect("accepted");
        task.now(|cx| sys_close(cx, listening)).expect("open");
        // The window closes, and what was sent stays in the other's queue.
        while !open.get() {
            let next = task.now(|cx| cx.machine().ktime_get()) + Duration::from_millis(100);
            task.sleep_until(next).await;
        }
        let mut data = vec![0; 64 << 10];
        loop {
            match task.call(sys_read(fd, &mut data)).await.expect("read") {
                0 => break,
                len => count.set(count.get() + len),
            }
        }
        task.now(|cx| sys_close(cx, fd)).expect("open");
    });
    let done = Rc::clone(&written);
    pair.world.spawn(&a, CpuId(0), |task| async move {
        let fd = task.now(stream);
        task.call(sys_connect(fd, &addr(B, 80))).await.expect("connected");
        let data = vec![7; 1 << 20];
        done.set(task.call(sys_write(fd, &data)).await.expect("written"));
        task.now(|cx| sys_close(cx, fd)).expect("open");
    });
    // A task that never slept would keep the world from coming to rest.
    pair.world.run_for(Duration::from_secs(20));
    assert_eq!(written.get(), 0, "there is no memory for all of it");
    gate.set(true);
    update_sysctls(&mut pair.on_a(), |sysctl| sysctl.tcp.mem = before);
    assert!(pair.world.run_tasks(Duration::from_secs(60)));
    assert_eq!((written.get(), arrived.get()), (1 << 20, 1 << 20));
    let _digest = pair.end(Duration::from_secs(120));
}
