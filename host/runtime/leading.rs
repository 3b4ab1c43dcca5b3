//! Tests of tasks that lead their CPU: nothing is lost whatever ends a lead.

use super::tests::{bound, echo, end, local};
use super::*;
use crate::block_on;
use crate::clock::monotonic_ns;
use stack::fs::exit_files;
use stack::kernel::context::HardirqCx;
use stack::kernel::irq::{Irq, IrqLine, IrqReturn};
use stack::kernel::machine::request_irq;
use stack::net::socket::{sys_recvfrom, sys_sendto, sys_setsockopt};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use uapi::socket::{SO_RCVTIMEO, SOL_SOCKET};

/// After so long something is taken for lost.
const HANG_NS: u64 = 60_000_000_000;

fn receive_timeout(cx: &mut TaskCx, fd: i32, micros: u64) {
    let timeval = [micros / 1_000_000, micros % 1_000_000].map(u64::to_ne_bytes).concat();
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_RCVTIMEO, &timeval).unwrap();
}

/// One message goes around `tasks` tasks on as many ports of one CPU; every other task gives up waiting
/// after a few hundred microseconds, and starts over.
fn ring(tasks: u16, cpus: u8, rounds: u32, busy_poll: Duration) {
    let mut runtime = Runtime::builder().cpus(cpus).busy_poll(busy_poll).boot().unwrap();
    let (timed_out, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU32::new(0)));
    let (ready, wait) = mpsc::channel();
    for n in 0..tasks {
        let (ready, timed_out, passed) =
            (ready.clone(), Arc::clone(&timed_out), Arc::clone(&passed));
        let body = move |cx: &mut TaskCx| {
            let fd = bound(cx, 4000 + n);
            if n % 2 == 1 {
                receive_timeout(cx, fd, 20 + u64::from(n) * 50);
            }
            ready.send(()).unwrap();
            let next = local(4000 + (n + 1) % tasks);
            loop {
                let mut buf = [0; 8];
                match block_on(cx, &mut sys_recvfrom(fd, &mut buf, 0)) {
                    Err(Errno::EAGAIN) => {
                        timed_out.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Err(Errno::EINTR) => return,
                    other => assert_eq!(other.unwrap().0, 4),
                }
                let count = u32::from_ne_bytes(buf[..4].try_into().unwrap());
                assert_eq!(passed.fetch_add(1, Ordering::SeqCst), count, "in order, each once");
                let data = (count + 1).to_ne_bytes();
                block_on(cx, &mut sys_sendto(fd, &data, 0, Some(&next))).unwrap();
            }
        };
        runtime.spawn("ring", CpuId((n % u16::from(cpus)) as u8), body).unwrap();
        wait.recv().unwrap();
    }
    let mut cx = runtime.task("first");
    let fd = bound(&mut cx, 3999);
    block_on(&mut cx, &mut sys_sendto(fd, &0u32.to_ne_bytes(), 0, Some(&local(4000)))).unwrap();
    let began = monotonic_ns();
    while passed.load(Ordering::SeqCst) < rounds {
        assert!(monotonic_ns() - began < HANG_NS, "stuck after {passed:?} of {rounds}");
        thread::sleep(Duration::from_millis(1));
    }
    exit_files(&mut cx);
    drop(cx);
    end(runtime);
}

#[test]
fn a_message_goes_around_tasks_of_one_cpu() {
    for tasks in [2, 3, 8] {
        ring(tasks, 1, 4_000, Duration::ZERO);
    }
}

#[test]
fn a_message_goes_around_tasks_of_two_cpus() {
    for tasks in [2, 5] {
        ring(tasks, 2, 2_000, Duration::ZERO);
    }
}

#[test]
fn a_message_goes_around_tasks_that_spin() {
    ring(3, 1, 2_000, Duration::from_micros(50));
}

/// A line whose handler counts, and panics when told to.
fn interrupt(cx: &mut TaskCx, panics: &Arc<AtomicBool>, taken: &Arc<AtomicUsize>) -> IrqLine {
    let (panics, taken) = (Arc::clone(panics), Arc::clone(taken));
    let handler = move |_: &mut HardirqCx<'_>, _: Irq| {
        taken.fetch_add(1, Ordering::SeqCst);
        assert!(!panics.load(Ordering::SeqCst), "on purpose: the handler of a test");
        IrqReturn::Handled
    };
    request_irq(cx, "test", Box::new(handler)).unwrap()
}

/// A task that waits for one datagram on port 9, and says when it got it.
fn waiter(runtime: &mut Runtime) -> mpsc::Receiver<Result<usize, Errno>> {
    let (got, wait) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let body = move |cx: &mut TaskCx| {
        let fd = bound(cx, 9);
        ready.send(()).unwrap();
        let received = block_on(cx, &mut sys_recvfrom(fd, &mut [0; 8], 0));
        got.send(received.map(|(len, _)| len)).unwrap();
    };
    runtime.spawn("waiter", CpuId(0), body).unwrap();
    is_ready.recv().unwrap();
    while !runtime.idle[0].lead.led() {
        thread::yield_now();
    }
    wait
}

fn send_to_waiter(runtime: &Runtime) {
    let mut cx = runtime.task("sender");
    let fd = bound(&mut cx, 4000);
    block_on(&mut cx, &mut sys_sendto(fd, b"x", 0, Some(&local(9)))).unwrap();
    exit_files(&mut cx);
}

#[test]
fn a_handler_that_panics_under_a_leader_harms_neither_the_task_nor_the_cpu() {
    let mut runtime = Runtime::builder().boot().unwrap();
    let (panics, taken) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let line = interrupt(&mut runtime.task("init"), &panics, &taken);
    let wait = waiter(&mut runtime);
    for n in 1..=3 {
        line.raise();
        let began = monotonic_ns();
        while taken.load(Ordering::SeqCst) < n {
            assert!(monotonic_ns() - began < HANG_NS, "nobody takes interrupt {n}");
            thread::yield_now();
        }
    }
    assert!(wait.try_recv().is_err(), "still waiting");
    panics.store(false, Ordering::SeqCst);
    send_to_waiter(&runtime);
    assert_eq!(wait.recv_timeout(Duration::from_secs(60)).unwrap(), Ok(1));
    end(runtime);
}

#[test]
fn a_leader_is_interrupted_by_its_signal() {
    let mut runtime = Runtime::builder().boot().unwrap();
    let wait = waiter(&mut runtime);
    runtime.tasks[0].interrupt();
    assert_eq!(wait.recv_timeout(Duration::from_secs(60)).unwrap(), Err(Errno::EINTR));
    assert!(!runtime.idle[0].lead.led());
    end(runtime);
}

/// The host's own signals are not the task's: its thread's sleep ends with EINTR, and it sleeps on.
#[test]
fn a_signal_of_the_host_does_not_end_a_lead() {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut runtime = Runtime::builder().boot().unwrap();
    // SAFETY: a handler that does nothing may run anywhere; zero is a valid sigaction otherwise.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
    }
    let wait = waiter(&mut runtime);
    use std::os::unix::thread::JoinHandleExt;
    for _ in 0..100 {
        let thread = runtime.tasks[0].thread.as_pthread_t();
        // SAFETY: the thread has not been joined, so its handle is valid.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR2) }, 0);
        thread::yield_now();
    }
    assert!(wait.try_recv().is_err(), "still waiting");
    send_to_waiter(&runtime);
    assert_eq!(wait.recv_timeout(Duration::from_secs(60)).unwrap(), Ok(1));
    end(runtime);
}

#[test]
fn an_interrupt_is_taken_while_a_leader_sleeps_and_after_it_went() {
    let mut runtime = Runtime::builder().boot().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let line = interrupt(&mut runtime.task("init"), &Arc::default(), &taken);
    let await_count = |n| {
        let began = monotonic_ns();
        while taken.load(Ordering::SeqCst) < n {
            assert!(monotonic_ns() - began < HANG_NS, "nobody takes interrupt {n}");
            thread::yield_now();
        }
    };
    let wait = waiter(&mut runtime);
    for n in 1..=500 {
        line.raise();
        await_count(n);
    }
    send_to_waiter(&runtime);
    wait.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    for n in 501..=1000 {
        line.raise();
        await_count(n);
    }
    end(runtime);
}

/// A leader that is kept from its work, here by a handler of a signal that does not come back for a
/// while, does not keep the CPU from its own.
#[test]
fn the_cpu_is_served_while_its_leader_is_stuck_in_a_signal() {
    static STUCK: AtomicBool = AtomicBool::new(false);
    extern "C" fn stuck(_: libc::c_int) {
        STUCK.store(true, Ordering::SeqCst);
        while STUCK.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    }
    let mut runtime = Runtime::builder().boot().unwrap();
    // SAFETY: the handler touches an atomic alone; zero is a valid sigaction otherwise.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = stuck as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let taken = Arc::new(AtomicUsize::new(0));
    let line = interrupt(&mut runtime.task("init"), &Arc::default(), &taken);
    let wait = waiter(&mut runtime);
    // Awake it would have taken it on itself to look, and nobody be called.
    while !runtime.idle[0].word.all_rest() {
        thread::yield_now();
    }
    use std::os::unix::thread::JoinHandleExt;
    let thread = runtime.tasks[0].thread.as_pthread_t();
    // SAFETY: the thread has not been joined, so its handle is valid.
    assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
    let began = monotonic_ns();
    while !STUCK.load(Ordering::SeqCst) {
        assert!(monotonic_ns() - began < HANG_NS, "no signal");
        thread::yield_now();
    }
    for n in 1..=20 {
        line.raise();
        while taken.load(Ordering::SeqCst) < n {
            assert!(monotonic_ns() - began < HANG_NS, "nobody takes interrupt {n}");
            thread::yield_now();
        }
    }
    assert!(runtime.idle[0].lead.led(), "it still has the lead");
    STUCK.store(false, Ordering::SeqCst);
    send_to_waiter(&runtime);
    assert_eq!(wait.recv_timeout(Duration::from_secs(60)).unwrap(), Ok(1));
    end(runtime);
}

/// A wait that is over by time has given the lead back: the next to wait takes it.
#[test]
fn leads_that_end_by_time_follow_each_other() {
    let mut runtime = Runtime::builder().boot().unwrap();
    let (ready, wait) = mpsc::channel();
    runtime.spawn("echo", CpuId(0), move |cx| echo(cx, 7, &ready)).unwrap();
    wait.recv().unwrap();
    let mut cx = runtime.task("test");
    let fd = bound(&mut cx, 4000);
    for n in 0..200 {
        receive_timeout(&mut cx, fd, 50 + n % 7 * 100);
        let received = block_on(&mut cx, &mut sys_recvfrom(fd, &mut [0; 8], 0));
        assert_eq!(received, Err(Errno::EAGAIN));
    }
    receive_timeout(&mut cx, fd, 60_000_000);
    block_on(&mut cx, &mut sys_sendto(fd, b"x", 0, Some(&local(7)))).unwrap();
    assert_eq!(block_on(&mut cx, &mut sys_recvfrom(fd, &mut [0; 8], 0)).unwrap().0, 1);
    exit_files(&mut cx);
    drop(cx);
    end(runtime);
}

/// Many threads of the application, each with many sockets: all send and all get what is theirs.
#[test]
fn eight_threads_with_a_thousand_sockets_each() {
    const THREADS: u16 = 8;
    const SOCKETS: u16 = 1000;
    let runtime = Runtime::builder().cpus(2).boot().unwrap();
    let m = runtime.machine();
    thread::scope(|scope| {
        for n in 0..THREADS {
            scope.spawn(move || {
                let mut cx = TaskCx::new(m, TaskStruct::new("app", CpuId((n % 2) as u8)));
                let first = 1024 + n * SOCKETS;
                let fds: Vec<i32> = (0..SOCKETS).map(|s| bound(&mut cx, first + s)).collect();
                for round in 0..3u16 {
                    for (s, fd) in (0..SOCKETS).zip(&fds) {
                        // To another of the same thread: who it is for is in the data.
                        let to = (s * 7 + round * 13 + 1) % SOCKETS;
                        let data = [round, to].map(u16::to_ne_bytes).concat();
                        block_on(&mut cx, &mut sys_sendto(*fd, &data, 0, Some(&local(first + to))))
                            .unwrap();
                    }
                    // 7 and 1,000 have no common divisor: each socket gets one.
                    for (s, fd) in (0..SOCKETS).zip(&fds) {
                        let mut buf = [0; 8];
                        let (len, _) =
                            block_on(&mut cx, &mut sys_recvfrom(*fd, &mut buf, 0)).unwrap();
                        assert_eq!(buf[..len], [round, s].map(u16::to_ne_bytes).concat());
                    }
                }
                exit_files(&mut cx);
            });
        }
    });
    end(runtime);
}

/// A thousand machines one after the other, in a process of their own, whose threads, descriptors and
/// memory are counted.
#[test]
fn a_thousand_machines_leave_no_thread_no_descriptor_and_no_memory() {
    const ALONE: &str = "NETKEEL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return count_what_machines_leave(1000);
    }
    let name = thread::current().name().expect("the test's").to_owned();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

/// A machine, an exchange with a task that led meanwhile, and its end.
fn a_machine_comes_and_goes() {
    let mut runtime = Runtime::builder().cpus(2).boot().unwrap();
    let wait = waiter(&mut runtime);
    send_to_waiter(&runtime);
    assert_eq!(wait.recv_timeout(Duration::from_secs(60)).unwrap(), Ok(1));
}

fn count_what_machines_leave(machines: usize) {
    let entries = |of: &str| std::fs::read_dir(format!("/proc/self/{of}")).unwrap().count();
    let kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    // What the allocator keeps for itself it has after these.
    (0..50).for_each(|_| a_machine_comes_and_goes());
    let (threads, descriptors, memory) = (entries("task"), entries("fd"), kib());
    (0..machines).for_each(|_| a_machine_comes_and_goes());
    assert_eq!(entries("fd"), descriptors);
    let began = monotonic_ns();
    // A thread is joined a moment before the kernel has forgotten it.
    while entries("task") != threads {
        assert!(monotonic_ns() - began < HANG_NS, "{} threads of {threads}", entries("task"));
        thread::yield_now();
    }
    // Far less than a machine takes: a buffer leaked by each would show.
    let grown = kib().saturating_sub(memory);
    assert!(grown < machines * 4, "{grown} KiB more than the {memory} before {machines} machines");
}
