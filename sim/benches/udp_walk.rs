//! What a 64-byte UDP datagram costs through every station, two machines on a wire in memory.
//!
//! `cargo bench -p netkeel-sim --bench udp_walk` prints the rate beside smoltcp's in the same run
//! and checks that no packet allocates. `-- count N` runs N batches and nothing else, for counting
//! instructions: `cargo xtask bench` runs that under callgrind, one phase at a time.

use drivers::net::loopback::loopback_net_init;
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::WirePort;
use hw::wire::Wire;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::{Machine, Platform};
use stack::kernel::sched::{Operation, TaskStruct};
use stack::kernel::time::Ktime;
use stack::net::core::dev::{NetdevFeatures, dev_open};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{MsgSend, sys_bind, sys_recvfrom, sys_sendmmsg, sys_socket};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the caller promises to `System`.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as the caller promises to `System`.
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A clock that costs nothing worth counting.
struct BenchClock(AtomicU64);

impl Platform for BenchClock {
    fn ktime_get(&self) -> Ktime {
        let now = self.0.load(Ordering::Relaxed) + 1;
        self.0.store(now, Ordering::Relaxed);
        Ktime(now)
    }
    fn ktime_get_real(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn wake_cpu(&self, _: CpuId) {}
    fn relax(&self, _: u32) {}
}

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn machine(id: u16, port: Arc<dyn WirePort>, addrs: [Ipv4Addr; 2]) -> (Arc<Machine>, TaskCx) {
    let m = Machine::builder()
        .id(id)
        .module_init(loopback_net_init)
        .boot(Box::new(BenchClock(AtomicU64::new(1_000_000_000))))
        .expect("boots");
    let mut cx = TaskCx::new(&m, TaskStruct::new("bench", CpuId(0)));
    let mac = |id: u16| [2, 0, 0, 0, 0, id as u8 + 1];
    let dev = wire_probe(&mut cx, "eth0", mac(id), port).expect("registered");
    inet_insert_ifa(&mut cx, &dev, IfAddr::new(addrs[0], 24).expect("a host")).expect("added");
    dev_open(&mut cx, &dev).expect("opens");
    dev.set_features(dev.features() | NetdevFeatures::HW_CSUM);
    let key = NeighKey { dev: dev.ifindex, addr: addrs[1].into() };
    neigh_add(&mut cx, key, mac(1 - id), uapi::neighbour::NUD_PERMANENT as u8).expect("added");
    (m, cx)
}

fn ready<O: Operation>(cx: &mut TaskCx, mut op: O) -> O::Output {
    match op.poll(cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

struct Bench {
    b: Arc<Machine>,
    on_a: TaskCx,
    on_b: TaskCx,
    client: i32,
    server: i32,
    to: [u8; 16],
}

impl Bench {
    fn new() -> Self {
        let (wire_a, wire_b) = Wire::pair(1024);
        let (_a, mut on_a) = machine(0, Arc::new(wire_a), [A, B]);
        let (b, mut on_b) = machine(1, Arc::new(wire_b), [B, A]);
        let client = sys_socket(&mut on_a, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        sys_bind(&mut on_a, client, &SockaddrIn::new(A.into(), 4000).to_bytes()).expect("bound");
        let server = sys_socket(&mut on_b, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        let to = SockaddrIn::new(B.into(), 7).to_bytes();
        sys_bind(&mut on_b, server, &to).expect("bound");
        Self { b, on_a, on_b, client, server, to }
    }

    #[inline(never)]
    fn phase_send(&mut self, batch: usize) {
        let data = [0x55_u8; 64];
        let iov = [IoSlice::new(&data)];
        let msg = MsgSend { iov: &iov, name: Some(&self.to), control: &[], flags: 0 };
        let msgs = [msg; 64];
        let sent = ready(&mut self.on_a, sys_sendmmsg(self.client, &msgs[..batch], 0));
        assert_eq!(sent, Ok(batch));
    }

    #[inline(never)]
    fn phase_softirq(&mut self) {
        black_box(self.b.run_cpu(CpuId(0)));
    }

    #[inline(never)]
    fn phase_recv(&mut self, batch: usize) {
        let mut data = [0_u8; 2048];
        for _ in 0..batch {
            let op = sys_recvfrom(self.server, &mut data, MSG_DONTWAIT);
            let (len, _) = ready(&mut self.on_b, op).expect("a datagram for each sent");
            assert_eq!(len, 64);
        }
    }

    fn round(&mut self, batch: usize) {
        self.phase_send(batch);
        self.phase_softirq();
        self.phase_recv(batch);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: usize| {
        args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default)
    };
    let mut bench = Bench::new();
    if let Some(at) = args.iter().position(|arg| arg == "count") {
        let (rounds, batch) = (number(at + 1, 1000), number(at + 2, 32));
        for _ in 0..rounds {
            bench.round(batch);
        }
        return;
    }
    for batch in [64, 32, 1] {
        for _ in 0..2_000 {
            bench.round(batch);
        }
        let rounds = 1_000_000 / batch;
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        for _ in 0..rounds {
            bench.round(batch);
        }
        let ns = start.elapsed().as_nanos() as f64 / (rounds * batch) as f64;
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        println!(
            "batch {batch:2}: {ns:6.1} ns a datagram, {:.2} Mpps, {allocations} allocations",
            1e3 / ns
        );
    }
}
