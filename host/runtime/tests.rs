use super::*;
use crate::block_on;
use drivers::net::tun::{TapFault, Wants};
use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SO_RCVTIMEO, SOCK_DGRAM, SOL_SOCKET};

use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};

pub(super) fn bound(cx: &mut TaskCx, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).unwrap();
    sys_bind(cx, fd, &SockaddrIn::new(0, port).to_bytes()).unwrap();
    fd
}

pub(super) fn local(port: u16) -> [u8; 16] {
    SockaddrIn::new(Ipv4Addr::LOCALHOST.into(), port).to_bytes()
}

/// Answers every datagram until interrupted.
pub(super) fn echo(cx: &mut TaskCx, port: u16, ready: &mpsc::Sender<()>) {
    let fd = bound(cx, port);
    ready.send(()).unwrap();
    let mut buf = [0; 2048];
    loop {
        let received = block_on(cx, &mut sys_recvfrom(fd, &mut buf, 0));
        let (len, from) = match received {
            Err(Errno::EINTR) => return,
            other => other.unwrap(),
        };
        let to = from.unwrap().to_bytes();
        block_on(cx, &mut sys_sendto(fd, &buf[..len], 0, Some(&to))).unwrap();
    }
}

#[test]
fn two_tasks_on_threads_talk_over_loopback() {
    let mut runtime = Runtime::builder().boot().unwrap();
    let (ready, wait) = mpsc::channel();
    runtime.spawn("echo", CpuId(0), move |cx| echo(cx, 7, &ready)).unwrap();
    wait.recv().unwrap();
    let mut cx = runtime.task("client");
    let fd = bound(&mut cx, 4000);
    for round in 0..2000u32 {
        let data = round.to_be_bytes();
        block_on(&mut cx, &mut sys_sendto(fd, &data, 0, Some(&local(7)))).unwrap();
        let mut buf = [0; 64];
        let (len, from) = block_on(&mut cx, &mut sys_recvfrom(fd, &mut buf, 0)).unwrap();
        assert_eq!((&buf[..len], from.unwrap().inet().unwrap().port), (&data[..], 7));
    }
    exit_files(&mut cx);
    drop(cx);
    end(runtime);
}

/// Takes the runtime down; no packet may be left.
pub(super) fn end(runtime: Runtime) {
    let m = Arc::clone(runtime.machine());
    runtime.shutdown().unwrap();
    assert_eq!(m.live_skbs(), 0);
}

#[test]
fn tasks_on_several_cpus_talk_too() {
    let mut runtime = Runtime::builder().cpus(3).boot().unwrap();
    let (ready, wait) = mpsc::channel();
    for cpu in 0..3 {
        let ready = ready.clone();
        let port = 7 + u16::from(cpu);
        runtime.spawn("echo", CpuId(cpu), move |cx| echo(cx, port, &ready)).unwrap();
        wait.recv().unwrap();
    }
    let done = Arc::new(AtomicUsize::new(0));
    for cpu in 0..3u8 {
        let done = Arc::clone(&done);
        let body = move |cx: &mut TaskCx| {
            let fd = bound(cx, 4000 + u16::from(cpu));
            for round in 0..500u16 {
                let to = local(7 + (round + u16::from(cpu)) % 3);
                block_on(cx, &mut sys_sendto(fd, b"x", 0, Some(&to))).unwrap();
                block_on(cx, &mut sys_recvfrom(fd, &mut [0; 8], 0)).unwrap();
            }
            done.fetch_add(1, Ordering::SeqCst);
        };
        runtime.spawn("client", CpuId(cpu), body).unwrap();
    }
    // Those that never end are the first three; one that panics ends as well.
    while !runtime.tasks.iter().skip(3).all(|task| task.thread.is_finished()) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(done.load(Ordering::SeqCst), 3);
    end(runtime);
}

#[test]
fn a_time_out_is_not_early() {
    let runtime = Runtime::builder().boot().unwrap();
    let mut cx = runtime.task("test");
    let fd = bound(&mut cx, 4000);
    // Three milliseconds, as a timeval.
    let mut timeval = 0i64.to_ne_bytes().to_vec();
    timeval.extend(3000i64.to_ne_bytes());
    sys_setsockopt(&mut cx, fd, SOL_SOCKET, SO_RCVTIMEO, &timeval).unwrap();
    for _ in 0..5 {
        let before = crate::clock::monotonic_ns();
        let received = block_on(&mut cx, &mut sys_recvfrom(fd, &mut [0; 8], 0));
        assert_eq!(received, Err(Errno::EAGAIN));
        assert!(crate::clock::monotonic_ns() - before >= 3_000_000);
    }
    exit_files(&mut cx);
    drop(cx);
    end(runtime);
}

#[test]
fn a_task_asleep_is_interrupted_and_joined() {
    let mut runtime = Runtime::builder().boot().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let (ready, wait) = mpsc::channel();
    let flag = Arc::clone(&ended);
    let body = move |cx: &mut TaskCx| {
        echo(cx, 7, &ready);
        flag.store(true, Ordering::SeqCst);
    };
    runtime.spawn("echo", CpuId(0), body).unwrap();
    wait.recv().unwrap();
    let m = Arc::clone(runtime.machine());
    drop(runtime);
    assert!(ended.load(Ordering::SeqCst));
    assert_eq!(Arc::strong_count(&m), 1, "no thread has it any more");
    assert_eq!(m.live_skbs(), 0);
}

#[test]
fn an_idle_machine_makes_no_system_call() {
    let runtime = Runtime::builder().cpus(2).boot().unwrap();
    let waits = || runtime.idle.iter().map(|idle| idle.waits()).collect::<Vec<_>>();
    // Until both have gone to sleep, and what woke them at boot is worked off.
    while waits().contains(&0) {
        thread::yield_now();
    }
    let mut before = waits();
    let quiet = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(50));
        let last = std::mem::replace(&mut before, waits());
        last == before
    });
    assert!(quiet, "{before:?}");
}

#[test]
fn a_task_that_panics_is_named() {
    let mut runtime = Runtime::builder().boot().unwrap();
    runtime.spawn("bad", CpuId(0), |_| panic!("on purpose")).unwrap();
    let error = runtime.shutdown().unwrap_err();
    assert_eq!(error.to_string(), "task bad panicked");
}

/// A TAP that has no frames and counts what is written.
#[derive(Default)]
struct Sink(AtomicUsize);

impl TapPort for Sink {
    fn read_frame(&self, _: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, TapFault> {
        Ok(None)
    }
    fn write_frame(&self, _: &[u8], _: &[&[u8]]) -> Result<(), TapFault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn link_up(&self) -> bool {
        true
    }
    fn irq_mask(&self) {}
    fn irq_unmask(&self, _: Wants) {}
}

/// The second ARP request is a timer's, and a task armed it while the CPU's thread was asleep
/// without a deadline.
#[test]
fn a_timer_that_a_task_arms_wakes_the_sleeping_cpu() {
    let runtime = Runtime::builder().boot().unwrap();
    let mut cx = runtime.task("test");
    let sink = Arc::new(Sink::default());
    let spec = TunSpec { name: "nk0".to_owned(), addr: [2, 0, 0, 0, 0, 2], mtu: 1500 };
    let tun = tun_set_iff(&mut cx, vec![Arc::clone(&sink) as _], spec).unwrap();
    dev_open(&mut cx, &tun.dev).unwrap();
    let us = IfAddr::new(Ipv4Addr::new(192, 0, 2, 2), 24).unwrap();
    inet_insert_ifa(&mut cx, &tun.dev, us).unwrap();
    let fd = bound(&mut cx, 4000);
    // Long enough for the thread to fall asleep; the test holds if it does not.
    thread::sleep(Duration::from_millis(20));
    let before = crate::clock::monotonic_ns();
    let peer = SockaddrIn::new(Ipv4Addr::new(192, 0, 2, 1).into(), 9).to_bytes();
    block_on(&mut cx, &mut sys_sendto(fd, b"who are you?", 0, Some(&peer))).unwrap();
    while sink.0.load(Ordering::SeqCst) < 2 {
        assert!(crate::clock::monotonic_ns() - before < 30_000_000_000, "the timer is lost");
        thread::sleep(Duration::from_millis(5));
    }
    exit_files(&mut cx);
    tun_detach(&mut cx, tun);
    drop(cx);
    end(runtime);
}

/// The scheduling policies of this process's threads of that name.
fn policies(name: &str) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        // The 41st field; the third is the first behind the name.
        head.ends_with(&format!("({name}")).then(|| rest.split(' ').nth(38).map(str::to_owned))?
    });
    stats.collect()
}

#[test]
fn ksoftirqd_does_not_take_a_tasks_processor() {
    let runtime = Runtime::builder().boot().unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    let batch = libc::SCHED_BATCH.to_string();
    // Other tests' threads bear the name, too, and each has just begun at some time.
    while !policies("ksoftirqd/0").contains(&batch) {
        assert!(std::time::Instant::now() < until, "{:?}", policies("ksoftirqd/0"));
        std::thread::yield_now();
    }
    assert_eq!(policies("no such thread"), [""; 0]);
    end(runtime);
}
