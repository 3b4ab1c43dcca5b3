//! An idle machine does nothing at all: `strace` sees no system call of it.

use crate::up::{CONTROL, tool};
use host::testing::{Need, NetNs, in_fresh_netns, need};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// So long nothing may happen, behind
const IDLE: &str = "11";

/// the seconds in which the threads get over being stopped and traced: their sleep ends with EINTR, and
/// they look why.
const SETTLING: f64 = 1.0;

/// The machine on a TAP that is up and silent, in a process of its own.
fn program(ns: &NetNs, more: &[&str]) -> Child {
    ns.ip("tuntap add dev nk0 mode tap");
    // Or the host would look for routers and neighbours on it.
    fs::write("/proc/sys/net/ipv6/conf/nk0/disable_ipv6", "1").expect("own settings");
    ns.ip("addr add 192.0.2.1/24 dev nk0");
    ns.ip("link set nk0 up");
    let mut child = Command::new(env!("CARGO_BIN_EXE_netkeel"))
        .args(["up", "--tap", "nk0", "--addr", "192.0.2.2/24", "--cpus", "2"])
        .args(["--control", CONTROL])
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stdout.as_mut().expect("piped"));
    let mut lines = out.lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line.starts_with("Ctrl-C stops")), "it did not start");
    child
}

/// How often each thread of a process has gone to sleep by itself, or was interrupted.
fn switches(pid: u32) -> BTreeMap<String, Vec<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let status = fs::read_to_string(path.join("status")).expect("a thread");
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        (path.display().to_string(), counts.map(str::to_owned).collect())
    };
    threads.map(of).collect()
}

/// Whatever begins with the device, an announcement and who asks about it, is over.
fn wait_until_quiet(pid: u32) {
    let start = Instant::now();
    let mut last = switches(pid);
    loop {
        thread::sleep(Duration::from_secs(2));
        let now = switches(pid);
        if now == last {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never quiet: {last:#?} {now:#?}");
        last = now;
    }
}

/// What `strace` saw: a line a call, or two, with thread and time.
fn calls(pid: u32) -> String {
    let pid = pid.to_string();
    let output = Command::new("timeout")
        .args(["--signal=INT", IDLE, "strace", "-f", "-ttt", "-qq", "-o", "/run/calls", "-p", &pid])
        .output()
        .expect("strace");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("attach:"), "{said}");
    fs::read_to_string("/run/calls").expect("its output")
}

fn is_silent(more: &[&str]) {
    let tools = ["ip", "strace", "timeout"].iter().all(|tool| need(Need::Tool(tool)));
    if !(tools && need(Need::Root) && need(Need::DevNetTun)) {
        return;
    }
    in_fresh_netns(|ns| {
        let mut child = program(ns, more);
        wait_until_quiet(child.id());
        let threads = switches(child.id()).len();
        let calls = calls(child.id());
        let pid = child.id().to_string();
        tool(&["kill", "-INT", &pid]);
        assert!(child.wait().expect("ours").success());
        let traced: BTreeSet<&str> =
            calls.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(traced.len(), threads, "each sleeps in a call: {calls}");
        let time = |line: &str| line.split_whitespace().nth(1).expect("a time").parse::<f64>();
        let first = calls.lines().next().map(|line| time(line).expect("seconds")).expect("a line");
        let late = calls.lines().filter(|line| time(line).expect("seconds") > first + SETTLING);
        assert_eq!(late.collect::<Vec<_>>(), Vec::<&str>::new(), "nothing else: {calls}");
    });
}

#[test]
fn two_cpus_with_waiting_tasks_make_no_system_call_in_ten_seconds() {
    is_silent(&["--echo"]);
}

#[test]
fn two_cpus_without_tasks_make_no_system_call_in_ten_seconds() {
    is_silent(&[]);
}
