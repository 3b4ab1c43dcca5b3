//! A running `netkeel up` in the namespace of the test.

use host::tap::TapError;
use host::testing::{Need, NetNs, in_fresh_netns, need};
use netkeel::up::{UpArgs, UpError, serve};
use std::io::{self, PipeWriter, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const OUR_MAC: [u8; 6] = [2, b'K', 192, 0, 2, 2];

/// Where a machine is asked: each namespace has a folder of its own there.
pub const CONTROL: &str = "/run/nk0.sock";

/// After so long it is taken for hung, rather than waited for without end.
pub const HANG: Duration = Duration::from_secs(60);

/// What was printed so far.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub fn wait_for(&self, text: &str) {
        let start = Instant::now();
        while !self.text().contains(text) {
            assert!(start.elapsed() < HANG, "no {text:?} in: {}", self.text());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn args(more: impl FnOnce(&mut UpArgs)) -> UpArgs {
    let mut args = UpArgs {
        tap: "nk0".to_owned(),
        addr: "192.0.2.2/24".to_owned(),
        control: Some(CONTROL.into()),
        ..UpArgs::default()
    };
    more(&mut args);
    args
}

pub struct Up {
    stop: PipeWriter,
    thread: JoinHandle<Result<(), UpError>>,
    pub out: Output,
}

impl Up {
    /// Starts it, and waits until it is there. To be called on the namespace's own thread.
    pub fn start(args: UpArgs) -> Self {
        Self::try_start(args).unwrap()
    }

    /// The same; an error is what it ended with at once.
    pub fn try_start(args: UpArgs) -> Result<Self, UpError> {
        let (end, stop) = io::pipe().unwrap();
        let out = Output::default();
        let mut theirs = out.clone();
        let thread = thread::spawn(move || serve(&args, &mut theirs, &end));
        let start = Instant::now();
        while !out.text().contains("Ctrl-C") {
            if thread.is_finished() {
                thread.join().unwrap()?;
                panic!("ended without being stopped: {}", out.text());
            }
            assert!(start.elapsed() < HANG);
            thread::sleep(Duration::from_millis(2));
        }
        Ok(Self { stop, thread, out })
    }

    /// Starts it on a TAP just given back: a program that another test starts at this moment has a copy of the descriptor
    /// from its fork to its exec.
    pub fn start_anew(args: &UpArgs) -> Self {
        let start = Instant::now();
        loop {
            match Self::try_start(args.clone()) {
                Err(UpError::Tap(TapError::Busy { .. })) if start.elapsed() < HANG => {
                    thread::yield_now();
                }
                started => return started.unwrap(),
            }
        }
    }

    /// Joins it with the host, by the very commands it prints.
    pub fn join(&self, ns: &NetNs) {
        let text = self.out.text();
        for command in text.lines().filter_map(|line| line.strip_prefix("  sudo ip ")) {
            ns.ip(command);
        }
        self.out.wait_for("nk0: link up");
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it; all that it printed. No packet may be left.
    pub fn stop(self) -> Result<String, UpError> {
        drop(self.stop);
        let ended = self.thread.join().unwrap();
        let text = self.out.text();
        assert!(!text.contains("skbuff_head_cache"), "packets left: {text}");
        ended.map(|()| text)
    }
}

/// A fresh namespace in which `netkeel up` runs with all services, joined; then its output.
pub fn with_up(f: impl FnOnce(&NetNs, &Up) + Send) -> Option<String> {
    with_up_of(|_| (), f)
}

/// The same with more arguments.
pub fn with_up_of(
    more: impl FnOnce(&mut UpArgs) + Send,
    f: impl FnOnce(&NetNs, &Up) + Send,
) -> Option<String> {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return None;
    }
    Some(in_fresh_netns(|ns| {
        let up = Up::start(args(|args| {
            args.echo = true;
            more(args);
        }));
        up.join(ns);
        f(ns, &up);
        up.stop().unwrap()
    }))
}

/// The value of a counter in the output; zero if it is not there.
pub fn counter(output: &str, name: &str) -> u64 {
    let mut words = output.split_whitespace();
    match words.find(|word| *word == name) {
        Some(_) => words.next().unwrap().trim_end_matches(',').parse().unwrap(),
        None => 0,
    }
}

/// A socket of the host that talks to this port of ours.
pub fn socket_to(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((HOST, 0)).unwrap();
    socket.connect((US, port)).unwrap();
    socket.set_read_timeout(Some(HANG)).unwrap();
    socket
}

/// What a program printed, which must have succeeded.
pub fn tool(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}{errors}");
    text
}
