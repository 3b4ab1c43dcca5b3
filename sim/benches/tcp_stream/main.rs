//! What a stream costs by segment of 1,448 octets, and a connection from SYN to TIME_WAIT, between two machines on
//! a wire in memory.
//!
//! `cargo bench -p netkeel-sim --bench tcp_stream` prints both beside smoltcp's stream in the same run. The other
//! commands are for an instrument, which counts in the functions `phase_…`.

#[path = "../host.rs"]
mod host;
mod smoltcp_pair;

use drivers::net::wire_port::WirePort;
use host::{Device, Host, ready};
use hw::wire::Wire;
use smoltcp_pair::SmoltcpPair;
use stack::fs::sys_close;
use stack::kernel::cpu::CpuId;
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_listen, sys_recvfrom, sys_sendto, sys_socket,
};
use std::hint::black_box;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_NONBLOCK, SOCK_STREAM};

const HELP: &str = "\
What a stream costs by segment of 1,448 octets, and a connection.

Usage:
  tcp_stream rate                 megabytes a second beside smoltcp's, connections a second
  tcp_stream count DEVICE ROUNDS  that many writes of 44 segments, for an instrument
  tcp_stream connections ROUNDS   that many connections, for an instrument

DEVICE: wire or igb.
";

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Octets of a full segment with timestamps.
pub const SEGMENT: usize = 1448;
/// Octets of a write.
pub const WRITE: usize = 44 * SEGMENT;
const RUNS: usize = 5;
const BYTES: usize = 256 << 20;
const CONNECTIONS: usize = 50_000;
/// Fewer: each of the host's keeps a port for a minute.
const HOST_CONNECTIONS: usize = 5_000;

/// Two machines and what is between them.
struct Pair {
    a: Host,
    b: Host,
    listener: i32,
    buffer: Vec<u8>,
    /// The models' clock.
    now: u64,
}

impl Pair {
    fn new(device: Device) -> Self {
        let (wire_a, wire_b) = Wire::pair(1024);
        let (wire_a, wire_b): (Arc<dyn WirePort>, Arc<dyn WirePort>) =
            (Arc::new(wire_a), Arc::new(wire_b));
        let a = Host::new(0, device, wire_a, [A, B]);
        let mut b = Host::new(1, device, wire_b, [B, A]);
        let cx = &mut b.task;
        let listener = sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
        sys_bind(cx, listener, &SockaddrIn::new(B.into(), 80).to_bytes()).expect("a free port");
        sys_listen(cx, listener, 128).expect("it listens");
        let mut pair = Self { a, b, listener, buffer: vec![0x55; WRITE], now: 0 };
        // The link of a NIC comes up by interrupts.
        (0..16).for_each(|_| pair.run());
        pair
    }

    /// Interrupt throttling is over: what comes next is told at once.
    fn time_passes(&mut self) {
        self.now += 1_000_000;
        self.a.advance(self.now);
        self.b.advance(self.now);
    }

    fn run(&mut self) {
        self.time_passes();
        black_box(self.b.machine.run_cpu(CpuId(0)));
        black_box(self.a.machine.run_cpu(CpuId(0)));
    }

    fn connected(&mut self) -> (i32, i32) {
        let near = sys_socket(&mut self.a.task, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
            .expect("a socket");
        let to = SockaddrIn::new(B.into(), 80).to_bytes();
        assert_eq!(ready(&mut self.a.task, sys_connect(near, &to)), Err(Errno::EINPROGRESS));
        self.run();
        self.run();
        let (far, _) = ready(&mut self.b.task, sys_accept4(self.listener, SOCK_NONBLOCK))
            .expect("it is there");
        (near, far)
    }

    /// The sender's call; how much it took.
    #[inline(never)]
    fn phase_send(&mut self, fd: i32) -> usize {
        match ready(&mut self.a.task, sys_sendto(fd, &self.buffer, MSG_DONTWAIT, None)) {
            Ok(sent) => sent,
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                0
            }
        }
    }

    /// The receiver's softirq, with its acknowledgements.
    #[inline(never)]
    fn phase_softirq(&self) {
        // Unlike the other phase, so that the two stay two functions.
        black_box((self.b.machine.run_cpu(CpuId(0)), "softirq"));
    }

    /// The receiver's call; how much it got.
    #[inline(never)]
    fn phase_recv(&mut self, fd: i32) -> usize {
        match ready(&mut self.b.task, sys_recvfrom(fd, &mut self.buffer, MSG_DONTWAIT)) {
            Ok((got, _)) => got,
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                0
            }
        }
    }

    /// The sender's softirq: acknowledgements, and what they let go.
    #[inline(never)]
    fn phase_acked(&self) {
        black_box(self.a.machine.run_cpu(CpuId(0)));
    }

    /// One write, all the way.
    fn round(&mut self, (near, far): (i32, i32)) {
        let sent = self.phase_send(near);
        let mut got = 0;
        while got < sent {
            self.time_passes();
            self.phase_softirq();
            loop {
                let more = self.phase_recv(far);
                got += more;
                if more < WRITE {
                    break;
                }
            }
            self.time_passes();
            self.phase_acked();
        }
    }

    /// A connection: opened, accepted, closed by the client and then by the server.
    fn connection(&mut self) {
        let (near, far) = self.connected();
        sys_close(&mut self.a.task, near).expect("open");
        self.run();
        sys_close(&mut self.b.task, far).expect("open");
        self.run();
    }
}

/// The same through the host's kernel, over its loopback.
fn host_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = listener.local_addr().expect("bound");
    for _ in 0..HOST_CONNECTIONS {
        let near = TcpStream::connect(to).expect("it listens");
        let (far, _) = listener.accept().expect("it is there");
        drop(near);
        drop(far);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rate() {
    let mut pair = Pair::new(Device::Wire);
    let ends = pair.connected();
    let mut other = SmoltcpPair::new();
    let rounds = BYTES / WRITE;
    (0..rounds / 10).for_each(|_| pair.round(ends));
    (0..rounds / 10).for_each(|_| other.round());
    let timed = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    let (mut ours, mut smoltcp) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(timed(&mut || (0..rounds).for_each(|_| pair.round(ends))));
        smoltcp.push(timed(&mut || (0..rounds).for_each(|_| other.round())));
    }
    let rate = |times| (rounds * WRITE) as f64 / median(times) / 1e6;
    let (ours, smoltcp) = (rate(ours), rate(smoltcp));
    println!(
        "stream       {ours:8.0} MB/s  smoltcp {smoltcp:8.0} MB/s  ratio {:.2}",
        ours / smoltcp
    );
    let mut pair = Pair::new(Device::Wire);
    (0..CONNECTIONS / 10).for_each(|_| pair.connection());
    let time = timed(&mut || (0..CONNECTIONS).for_each(|_| pair.connection()));
    let ours = CONNECTIONS as f64 / time;
    let host = HOST_CONNECTIONS as f64 / timed(&mut host_connections);
    println!("connections  {ours:8.0} /s    host    {host:8.0} /s    ratio {:.2}", ours / host);
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["rate"] => rate(),
        ["count", device, rounds] if Device::named(device).is_some() => {
            let mut pair = Pair::new(Device::named(device).unwrap_or(Device::Wire));
            let ends = pair.connected();
            let rounds = rounds.parse::<usize>().unwrap_or(0);
            (0..rounds).for_each(|_| pair.round(ends));
        }
        ["connections", rounds] => {
            let mut pair = Pair::new(Device::Wire);
            let rounds = rounds.parse::<usize>().unwrap_or(0);
            (0..rounds).for_each(|_| pair.connection());
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
