//! The same connections between two programs of the host's kernel, in real time.
//!
//! Two namespaces with a TAP each. A relay reads the frames of one and writes them to the other, later, and loses the
//! same ones as the simulated link. All seeds of a cell go at the same time, each with a port, a bottleneck and losses
//! of its own, as far as the relay can keep up with them.

use super::{Cell, Outcome, Outcomes, SEEDS, TIME, bottleneck, cells};
use host::clock::monotonic_ns;
use host::netns::{NetNs, in_own_netns};
use host::socket::{congestion_control, tcp_info};
use host::tap::{Tap, TapOptions, VNET_HDR_LEN};
use host::wait::{Token, Trigger, Waiter};
use rustix::thread::gettid;
use sim::Losses;
use sim::link::Queue;
use stack::kernel::time::Ktime;
use std::collections::BTreeMap;
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FIRST_PORT: u16 = 5000;

/// A TAP in the calling thread's namespace, which knows the other one.
fn tap(ns: &NetNs, name: &str, addr: Ipv4Addr) -> Tap {
    // No offloads: each segment is a frame.
    let tap = Tap::open(name, TapOptions::default()).expect("a TAP");
    ns.ip(&format!("addr add {addr}/24 dev {name}")).expect("an address");
    ns.ip(&format!("link set {name} up")).expect("up");
    // What one connection learned does not help the next.
    std::fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1").expect("a setting");
    tap
}

fn introduce(ns: &NetNs, dev: &str, addr: Ipv4Addr, mac: [u8; 6]) {
    let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
    ns.ip(&format!("neigh replace {addr} lladdr {mac} dev {dev} nud permanent")).expect("known");
}

/// All cells.
pub(super) fn record() -> Outcomes {
    let (to_far, from_near) = channel();
    let (to_near, from_far) = channel();
    thread::scope(|scope| {
        scope.spawn(|| in_own_netns(move |ns| far(ns, &to_near, &from_near)).expect("a namespace"));
        in_own_netns(move |ns| near(ns, &to_far, &from_far)).expect("a namespace")
    })
}

/// What the near side tells the far one: its link address, then the ports at which it wants listeners, each time.
enum Word {
    Mac([u8; 6]),
    Listen(Range<u16>),
}

/// The receivers.
fn far(ns: &NetNs, to_near: &Sender<Option<Tap>>, from_near: &Receiver<Word>) {
    let tap = tap(ns, "nkfar", B);
    let Ok(Word::Mac(mac)) = from_near.recv() else { return };
    introduce(ns, "nkfar", A, mac);
    to_near.send(Some(tap)).expect("somebody waits");
    while let Ok(Word::Listen(ports)) = from_near.recv() {
        for port in ports {
            let listener = TcpListener::bind((B, port)).expect("a free port");
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("it comes");
                drop(listener);
                let mut data = vec![0; 64 << 10];
                while stream.read(&mut data).is_ok_and(|len| len != 0) {}
            });
        }
        to_near.send(None).expect("somebody waits");
    }
}

/// The senders and the relay.
fn near(ns: &NetNs, to_far: &Sender<Word>, from_far: &Receiver<Option<Tap>>) -> Outcomes {
    let ours = tap(ns, "nknear", A);
    to_far.send(Word::Mac(ours.mac().expect("it has one"))).expect("somebody waits");
    let Ok(Some(theirs)) = from_far.recv() else { panic!("the far side has no TAP") };
    introduce(ns, "nknear", B, theirs.mac().expect("it has one"));
    let taps = [ours, theirs];
    let mut outcomes = Outcomes::new();
    // New ones each time: what those before still have to send must not be counted with what comes now.
    let mut port = FIRST_PORT;
    for cell in cells() {
        // What the relay can carry without being late.
        let at_once = if cell.loss <= 10 && cell.round_trip <= 10 { 5 } else { 10 };
        for first in (0..SEEDS).step_by(at_once as usize) {
            let ports = port..port + at_once as u16;
            port = ports.end;
            to_far.send(Word::Listen(ports.clone())).expect("somebody waits");
            from_far.recv().expect("they listen");
            let stop = Arc::new(AtomicBool::new(false));
            thread::scope(|scope| {
                let relay = Relay::new(&taps, cell, first, ports.clone());
                let flag = Arc::clone(&stop);
                let relay = scope.spawn(move || relay.run(&flag));
                let flows: Vec<ScopedJoinHandle<'_, Outcome>> =
                    (0..).zip(ports).map(|(n, port)| scope.spawn(move || send(n, port))).collect();
                for (seed, flow) in (first..).zip(flows) {
                    let outcome = flow.join().expect("it sends");
                    outcomes.insert((cell, seed), outcome);
                }
                // The ends of the connections still go through.
                thread::sleep(cell.delay() * 4);
                stop.store(true, Ordering::SeqCst);
                let late = relay.join().expect("it relays");
                println!("{cell:?} from {first}: frames at most {late:?} late");
            });
        }
    }
    outcomes
}

/// One connection, as long as it may send.
fn send(number: u32, port: u16) -> Outcome {
    // Not all in slow start at the same time.
    thread::sleep(Duration::from_millis(200) * number);
    let until = Instant::now() + TIME;
    let mut stream = TcpStream::connect((B, port)).expect("connected");
    congestion_control(&stream, "cubic").expect("root may");
    let data = vec![7; 32 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_write_timeout(Some(left)).expect("not zero");
        // Its end is the end of the time.
        let _ = stream.write(&data);
    }
    let info = tcp_info(&stream).expect("a connection");
    Outcome {
        acked: info.tcpi_bytes_acked,
        again: info.tcpi_bytes_retrans,
        timeouts: u64::from(info.tcpi_total_rto),
    }
}

/// One connection's way.
struct Flow {
    losses: Losses,
    before: u64,
    queues: [Queue; 2],
}

struct Relay<'a> {
    taps: &'a [Tap; 2],
    delay: Duration,
    /// By the listener's port, from this one on.
    first_port: u16,
    flows: Vec<Flow>,
    on_the_way: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    taken: u64,
    late: u64,
}

impl<'a> Relay<'a> {
    fn new(taps: &'a [Tap; 2], cell: Cell, first: u64, ports: Range<u16>) -> Self {
        let flow = |seed| Flow { losses: cell.losses(seed), before: 0, queues: Default::default() };
        Self {
            taps,
            delay: cell.delay(),
            first_port: ports.start,
            flows: (first..).zip(ports).map(|(seed, _)| flow(seed)).collect(),
            on_the_way: BTreeMap::new(),
            taken: 0,
            late: 0,
        }
    }

    /// Until it is to stop; how late a frame went on at most.
    fn run(mut self, stop: &AtomicBool) -> Duration {
        // Before everybody else's threads. Where it is refused, what is late shows.
        let _ = Command::new("chrt").args(["-f", "-p", "10", &gettid().to_string()]).status();
        let waiter = Waiter::new().expect("a place to wait");
        for (side, tap) in self.taps.iter().enumerate() {
            waiter.add(tap, Token(side as u64), Trigger::Level).expect("a descriptor");
        }
        let mut buf = vec![0; 4096];
        while !stop.load(Ordering::SeqCst) {
            for side in 0..2 {
                while let Ok(Some(len)) = self.taps[side].read_frame(&mut buf) {
                    self.take(side, &mut buf[..len]);
                }
            }
            self.give();
            let next = self.on_the_way.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let left = Duration::from_nanos(next.saturating_sub(monotonic_ns()));
            // Now and then it looks whether it is to stop.
            let _events = waiter.wait(Some(left.min(Duration::from_millis(50)))).expect("waited");
        }
        Duration::from_nanos(self.late)
    }

    fn take(&mut self, side: usize, buf: &mut [u8]) {
        let Some(frame) = buf.get_mut(VNET_HDR_LEN..) else { return };
        // TCP over IPv4 without options, the listener's port: what else the host says of itself is not for the peer.
        let at = 14 + 20 + if side == 0 { 2 } else { 0 };
        let is_tcp = frame.get(12..15) == Some(&[8, 0, 0x45]) && frame.get(23) == Some(&6);
        let Some(&[high, low]) = frame.get(at..at + 2).filter(|_| is_tcp) else { return };
        let number = u16::from_be_bytes([high, low]).wrapping_sub(self.first_port);
        let Some(flow) = self.flows.get_mut(usize::from(number)) else { return };
        let now = monotonic_ns();
        let Some(sent) = flow.queues[side].take(frame, Ktime(now), &bottleneck()) else { return };
        if side == 0 && flow.losses.lose(frame.len(), &mut flow.before) {
            return;
        }
        self.taken += 1;
        let at = sent.as_nanos() + self.delay.as_nanos() as u64;
        self.on_the_way.insert((at, self.taken), (1 - side, buf.to_vec()));
    }

    fn give(&mut self) {
        let now = monotonic_ns();
        while let Some(entry) = self.on_the_way.first_entry() {
            let at = entry.key().0;
            if at > now {
                break;
            }
            self.late = self.late.max(now - at);
            let (to, frame) = entry.remove();
            self.taps[to].write_frame(&[IoSlice::new(&frame)]).expect("the TAP is up");
        }
    }
}
