//! A device that always has more and a task that always sends share a CPU, on real threads: neither
//! starves the other. Judged by counts, not by time.

use drivers::net::wire::wire_probe;
use host::{Runtime, block_on};
use hw::wire::{Outside, WireEnd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use stack::kernel::context::{BhCx, TaskCx};
use stack::net::core::dev::{
    NapiPoll, NapiStruct, dev_open, napi_complete, napi_enable, napi_schedule,
};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::skbuff::{consume_skb, netdev_alloc_skb};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_sendto, sys_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use uapi::in_::SockaddrIn;
use uapi::neighbour::NUD_PERMANENT;
use uapi::socket::{AF_INET, SOCK_DGRAM};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Frames that the link holds.
const LINK: usize = 256;

/// Longer than any thread is kept from a processor.
const PATIENCE: Duration = Duration::from_secs(60);

/// What polls of the endless device have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    polls: AtomicU64,
    /// Polls that began while somebody was seen to wait for the CPU.
    begun_wanted: AtomicU64,
    /// Polls that the sender's thread had to make.
    by_sender: AtomicU64,
}

impl Seen {
    fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    fn wait_for_polls(&self, more: u64) {
        let until = self.polls() + more;
        let patience = Instant::now() + PATIENCE;
        while self.polls() < until {
            assert!(Instant::now() < patience, "nobody polls the device");
            thread::yield_now();
        }
    }
}

struct Endless {
    seen: Arc<Seen>,
    sender: ThreadId,
}

impl NapiPoll for Endless {
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
        let seen = &self.seen;
        seen.begun_wanted.fetch_add(u64::from(cx.need_resched()), Ordering::Relaxed);
        let by_sender = thread::current().id() == self.sender;
        seen.by_sender.fetch_add(u64::from(by_sender), Ordering::Relaxed);
        if seen.stop.load(Ordering::Relaxed) {
            let _done_or_again = napi_complete(cx, napi);
            return 0;
        }
        let dev = napi.dev.expect("a device's");
        for _ in 0..budget {
            let skb = netdev_alloc_skb(cx, dev, 60).expect("as many are freed");
            consume_skb(cx, skb);
        }
        seen.polls.fetch_add(1, Ordering::Relaxed);
        budget
    }
}

/// A machine with one CPU, the endless device on it, and a task that sends to a link.
struct Rig {
    runtime: Runtime,
    cx: TaskCx,
    fd: i32,
    link: Outside,
    seen: Arc<Seen>,
    napi: Arc<NapiStruct>,
}

impl Rig {
    /// The calling thread is the sender's.
    fn new() -> Self {
        let runtime = Runtime::builder().cpus(1).boot().expect("boots");
        let mut cx = runtime.task("sender");
        let (end, link) = WireEnd::open(LINK);
        let dev = wire_probe(&mut cx, "eth%d", MAC, Arc::new(end)).expect("registered");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(HERE, 24).expect("a host's")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");
        let key = NeighKey { dev: dev.ifindex, addr: PEER.into() };
        neigh_add(&mut cx, key, [2, 0, 0, 0, 0, 2], NUD_PERMANENT as u8).expect("added");
        let fd = sys_socket(&mut cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        let seen = Arc::new(Seen::default());
        let poll = Endless { seen: Arc::clone(&seen), sender: thread::current().id() };
        let napi = NapiStruct::netif_napi_add(dev.ifindex, Box::new(poll), 64);
        napi_enable(&napi);
        Self { runtime, cx, fd, link, seen, napi }
    }

    /// The device begins; when this returns ksoftirqd polls it.
    fn flood(&mut self) {
        let napi = &self.napi;
        self.cx.local_bh_disable(|bh| napi_schedule(bh, napi));
        self.seen.wait_for_polls(100);
        self.seen.begun_wanted.store(0, Ordering::Relaxed);
        self.seen.by_sender.store(0, Ordering::Relaxed);
    }

    /// Sends, and takes what was sent off the link.
    fn send(&mut self, datagrams: u64) {
        let to = SockaddrIn::new(PEER.into(), 7).to_bytes();
        let mut sent = Default::default();
        for n in 0..datagrams {
            block_on(&mut self.cx, &mut sys_sendto(self.fd, &[0; 64], 0, Some(&to))).expect("sent");
            if n % (LINK as u64 / 2) == 0 {
                self.link.drain(usize::MAX, &mut sent);
                sent.clear();
            }
        }
    }

    fn end(self) {
        let Self { runtime, mut cx, seen, .. } = self;
        seen.stop.store(true, Ordering::Relaxed);
        stack::fs::exit_files(&mut cx);
        drop(cx);
        let m = Arc::clone(runtime.machine());
        runtime.shutdown().expect("no thread panicked");
        assert_eq!((m.live_skbs(), m.contained_panics()), (0, 0));
    }
}

/// Binds this thread, and those that it starts, to one processor.
fn on_one_core() {
    let all = sched_getaffinity(None).expect("asked of this thread");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).expect("it runs somewhere");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("one that it may use");
}

const ENTRIES: u64 = 1_000;

fn a_sender_gets_in() {
    let mut rig = Rig::new();
    rig.flood();
    for _ in 0..ENTRIES {
        // The other one is at it again.
        rig.seen.wait_for_polls(1);
        rig.cx.local_bh_disable(|_| ());
    }
    let begun = rig.seen.begun_wanted.load(Ordering::Relaxed);
    let by_sender = rig.seen.by_sender.load(Ordering::Relaxed);
    println!("{begun} polls begun while wanted, {by_sender} by the sender, {ENTRIES} entries");
    // One poll each: of a runner who came back, when the waiting thread lost its processor.
    assert!(begun <= ENTRIES, "{begun} polls began while the sender waited, of {ENTRIES} entries");
    assert!(by_sender <= ENTRIES, "the sender had to make {by_sender} polls of the device");
    rig.end();
}

/// Datagrams, and how many at most pass before the device is polled once, on average.
const DATAGRAMS: u64 = 20_000;
const SENDS_A_POLL: u64 = 100;

fn a_device_gets_in() {
    let mut rig = Rig::new();
    rig.flood();
    let before = rig.seen.polls();
    rig.send(DATAGRAMS);
    let polls = rig.seen.polls() - before;
    println!("{polls} polls beside {DATAGRAMS} datagrams");
    assert!(polls >= DATAGRAMS / SENDS_A_POLL, "{polls} polls beside {DATAGRAMS} datagrams");
    rig.end();
}

/// So long the task that enters without a pause stays each time: who waits so long naps meanwhile.
const STAY: Duration = Duration::from_micros(300);
/// How often the other one wants in.
const WAITS: u64 = 41;

/// A task enters its CPU time and again without a pause, and another one wants in as well. Whoever leaves
/// sees that, and stays out until the other is in. Now and then one of the two has lost its processor
/// meanwhile, so it is the median that counts.
#[test]
fn who_enters_without_a_pause_lets_others_in() {
    let runtime = Runtime::builder().cpus(1).boot().expect("boots");
    let (stop, stays) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut passed = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut cx = runtime.task("greedy");
            while !stop.load(Ordering::Relaxed) {
                // Long inside and hardly outside: the other one would have to be very lucky.
                cx.local_bh_disable(|_| {
                    let since = Instant::now();
                    while since.elapsed() < STAY {}
                });
                stays.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut cx = runtime.task("modest");
        for _ in 0..WAITS {
            let before = stays.load(Ordering::Relaxed);
            while stays.load(Ordering::Relaxed) < before + 3 {
                std::hint::spin_loop();
            }
            let wanted = stays.load(Ordering::Relaxed);
            passed.push(cx.local_bh_disable(|_| stays.load(Ordering::Relaxed)) - wanted);
        }
        stop.store(true, Ordering::Relaxed);
    });
    passed.sort_unstable();
    let median = passed[passed.len() / 2];
    println!(
        "{median} stays of the other while one waited, as a rule, {:?} at most",
        passed.last()
    );
    // A few, for a nap may be longer than anybody stays out. Where nobody does it is a hundred.
    assert!(median <= 20, "{median} stays of the other while one waited");
    runtime.shutdown().expect("no thread panicked");
}

#[test]
fn a_flooding_device_starves_no_sender() {
    a_sender_gets_in();
}

#[test]
fn a_flooding_sender_starves_no_device() {
    a_device_gets_in();
}

#[test]
fn a_flooding_device_starves_no_sender_on_its_core() {
    on_one_core();
    a_sender_gets_in();
}

#[test]
fn a_flooding_sender_starves_no_device_on_its_core() {
    on_one_core();
    a_device_gets_in();
}
