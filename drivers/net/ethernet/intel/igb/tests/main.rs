//! The driver on the device model: two machines, a wire between them, one virtual clock.

/// Makes a test of a function that ends in its machines' digest: it is run twice, and both runs must
/// have passed the same stations at the same times, with the same counters at the end.
macro_rules! stepped {
    ($name:ident) => {
        mod $name {
            #[test]
            fn twice() {
                let [first, second] = [super::$name(), super::$name()];
                assert_eq!(first, second, "the same run gave another walk");
            }
        }
    };
}

mod batch;
mod bus;
mod hostile;
mod interrupts;
mod link;
mod queues;
mod rss;
mod traffic;

use bus::Bus;
use drivers::net::ethernet::intel::igb::{IgbOptions, igb_init_module};
use drivers::pci::{DmaSpace, PciDev};
use hw::igb::I82576;
use hw::wire::{Wire, WireEnd};
use stack::fs::exit_files;
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::{Machine, Platform};
use stack::kernel::sched::{Operation, TaskStruct};
use stack::kernel::time::Ktime;
use stack::net::core::dev::{
    NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack, dev_close, dev_open,
};
use stack::net::core::skbuff::{IpSummed, PktType, Skb, consume_skb};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_socket};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A clock that tests move, and a note of the CPUs that somebody should run.
#[derive(Default)]
struct World {
    now: AtomicU64,
    woken: AtomicU64,
}

struct TestPlatform(Arc<World>);

impl Platform for TestPlatform {
    fn ktime_get(&self) -> Ktime {
        Ktime(self.0.now.load(Ordering::SeqCst))
    }
    fn ktime_get_real(&self) -> u64 {
        1_700_000_000_000_000_000 + self.0.now.load(Ordering::SeqCst)
    }
    fn wake_cpu(&self, _cpu: CpuId) {
        self.0.woken.store(1, Ordering::SeqCst);
    }
    fn relax(&self, _spins: u32) {
        std::thread::yield_now();
    }
}

/// How a host is made.
#[derive(Clone, Copy)]
struct Setup {
    cpus: u8,
    options: IgbOptions,
    refuse_msix: bool,
    refuse_msi: bool,
}

/// One CPU, no throttling.
const ONE: fn() -> Setup = || Setup {
    cpus: 1,
    options: IgbOptions { itr: 0, ..IgbOptions::default() },
    refuse_msix: false,
    refuse_msi: false,
};

fn cpus(cpus: u8) -> Setup {
    Setup { cpus, ..ONE() }
}

/// A machine with one NIC, up, with an address.
struct Host {
    m: Arc<Machine>,
    cx: TaskCx,
    dev: Arc<NetDevice>,
    nic: Arc<I82576>,
    bus: Arc<Bus>,
}

impl Host {
    fn new(world: &Arc<World>, id: u16, wire: WireEnd, setup: Setup) -> Self {
        let mac = [0x52, 0x54, 0, 0x12, 0x34, id as u8];
        let nic = I82576::new(mac, Arc::new(wire), DmaSpace::new(64 << 20));
        let bus = Bus::new(Arc::clone(&nic), setup.refuse_msix, setup.refuse_msi);
        let init = igb_init_module(vec![Arc::clone(&bus) as Arc<dyn PciDev>], setup.options);
        let platform = Box::new(TestPlatform(Arc::clone(world)));
        let m = Machine::builder()
            .id(id)
            .cpus(setup.cpus)
            .seed([id as u8; 32])
            .module_init(init)
            .boot(platform)
            .expect("the machine boots");
        m.tracer.start(None);
        let cx = TaskCx::new(&m, TaskStruct::new("test", CpuId(0)));
        let dev = m.tables().net.dev_by_name("eth0").cloned().expect("registered");
        Self { m, cx, dev, nic, bus }
    }

    fn up(&mut self, addr: Ipv4Addr) {
        let ifa = IfAddr::new(addr, 24).expect("a host's");
        inet_insert_ifa(&mut self.cx, &self.dev, ifa).expect("new");
        dev_open(&mut self.cx, &self.dev).expect("opens");
    }

    fn task(&self, cpu: u8) -> TaskCx {
        TaskCx::new(&self.m, TaskStruct::new("task", CpuId(cpu)))
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = self.dev.ethtool.as_ref().expect("has ethtool").get_ethtool_stats();
        stats.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn tap(&mut self) -> Arc<Tap> {
        let tap = Arc::new(Tap::default());
        let func = PacketFunc::Tap(Arc::clone(&tap) as Arc<dyn PacketTap>);
        dev_add_pack(&mut self.cx, PacketType { kind: uapi::if_ether::ETH_P_ALL, dev: None, func });
        tap
    }

    /// Runs every CPU once; whether any has more to do.
    fn run(&self) -> bool {
        let mut more = false;
        for cpu in self.m.cpu_ids() {
            let next = self.m.run_cpu(cpu);
            more |= next.pending;
            if next.ksoftirqd {
                self.m.run_ksoftirqd(cpu);
                more = true;
            }
        }
        more
    }

    /// Runs this host alone until it is quiet.
    fn run_out(&self) {
        assert!((0..1000).any(|_| !self.run()), "never quiet");
    }

    /// What it recorded and counted.
    fn digest(&self, into: &mut DefaultHasher) {
        let (records, lost) = self.m.tracer.take();
        for r in &records {
            let what = (r.time.0, r.id.0, r.arg, r.len, r.dev);
            (what, r.point as u16, r.cpu, r.context as u8).hash(into);
        }
        (lost, self.m.softirq_runs(), self.m.mib().nonzero()).hash(into);
    }

    /// Closes everything; nothing may be left.
    fn end(&mut self) {
        exit_files(&mut self.cx);
        dev_close(&mut self.cx, &self.dev);
        self.run_out();
        self.cx.flush();
        assert_eq!(self.m.live_skbs(), 0, "{:?}", self.m);
        assert_eq!(self.m.contained_panics(), 0);
    }
}

/// What a tap saw come in.
#[derive(Clone, Copy, Debug)]
struct Seen {
    src: u32,
    proto: u8,
    cpu: u8,
    queue: u16,
    ip_summed: IpSummed,
    hash: u32,
}

/// Notes IPv4 packets that come in.
#[derive(Default)]
struct Tap(Mutex<Vec<Seen>>);

impl Tap {
    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl PacketTap for Tap {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _dev: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        let data = skb.data();
        if skb.pkt_type != PktType::Outgoing && skb.protocol == 0x0800 && data.len() >= 20 {
            self.0.lock().unwrap().push(Seen {
                src: u32::from_be_bytes([data[12], data[13], data[14], data[15]]),
                proto: data[9],
                cpu: cx.cpu_id().0,
                queue: skb.queue_mapping,
                ip_summed: skb.ip_summed,
                hash: skb.hash,
            });
        }
        consume_skb(cx, skb);
    }
}

/// Two hosts on a wire.
struct Pair {
    world: Arc<World>,
    wire: WireEnd,
    a: Host,
    b: Host,
}

impl Pair {
    /// Both up and quiet, with each other's address known.
    fn new(a: Setup, b: Setup) -> Self {
        let mut pair = Self::cold(a, b);
        pair.a.up(A);
        pair.b.up(B);
        pair.settle();
        pair
    }

    fn cold(a: Setup, b: Setup) -> Self {
        let world = Arc::new(World { now: AtomicU64::new(1_000_000), ..World::default() });
        let (end_a, end_b) = Wire::pair(4096);
        let wire = end_a.clone();
        let a = Host::new(&world, 1, end_a, a);
        let b = Host::new(&world, 2, end_b, b);
        Self { world, wire, a, b }
    }

    /// Runs both until nothing is left to do; the clock moves to where held interrupts are due.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.world.woken.store(0, Ordering::SeqCst);
            let busy = self.a.run() | self.b.run();
            if busy || self.world.woken.load(Ordering::SeqCst) != 0 {
                continue;
            }
            let now = self.world.now.load(Ordering::SeqCst);
            let due = [&self.a, &self.b].iter().filter_map(|host| host.nic.advance(now)).min();
            match due {
                Some(due) => self.world.now.store(due.max(now + 1), Ordering::SeqCst),
                None if self.world.woken.load(Ordering::SeqCst) == 0 => return,
                None => (),
            }
        }
        panic!("never quiet");
    }

    /// A datagram each way, so that both know the other.
    fn acquaint(&mut self) {
        let (a, b) = (bound(&mut self.a.cx, 9), bound(&mut self.b.cx, 9));
        send(&mut self.a.cx, a, (B, 9), b"?").expect("sent");
        self.settle();
        send(&mut self.b.cx, b, (A, 9), b"!").expect("sent");
        self.settle();
        assert_eq!(recv(&mut self.b.cx, b).map(|(data, _)| data), Some(b"?".to_vec()));
        assert_eq!(recv(&mut self.a.cx, a).map(|(data, _)| data), Some(b"!".to_vec()));
    }

    /// A datagram from a new socket to a new socket, both on `port`.
    fn one_more(&mut self, port: u16) {
        let (a, b) = (bound(&mut self.a.cx, port), bound(&mut self.b.cx, port));
        send(&mut self.a.cx, a, (B, port), b"again").expect("sent");
        self.settle();
        assert_eq!(recv_all(&mut self.b.cx, b), [b"again"]);
    }

    /// Closes both; the digest of what they did.
    fn end(mut self) -> u64 {
        self.settle();
        self.a.end();
        self.b.end();
        self.settle();
        assert_eq!(self.a.nic.space().faults() + self.b.nic.space().faults(), 0, "stray DMA");
        self.digest()
    }

    /// What both recorded and counted, in one number.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.a.digest(&mut hasher);
        self.b.digest(&mut hasher);
        self.world.now.load(Ordering::SeqCst).hash(&mut hasher);
        hasher.finish()
    }
}

fn bound(cx: &mut TaskCx, port: u16) -> i32 {
    bound_at(cx, Ipv4Addr::UNSPECIFIED, port)
}

fn bound_at(cx: &mut TaskCx, addr: Ipv4Addr, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_bind(cx, fd, &SockaddrIn::new(u32::from(addr), port).to_bytes()).expect("bound");
    fd
}

fn send(cx: &mut TaskCx, fd: i32, to: (Ipv4Addr, u16), data: &[u8]) -> Result<usize, Errno> {
    cx.enter_call();
    let name = SockaddrIn::new(u32::from(to.0), to.1).to_bytes();
    match sys_sendto(fd, data, MSG_DONTWAIT, Some(&name)).poll(cx) {
        Poll::Ready(sent) => sent,
        Poll::Pending => Err(Errno::EAGAIN),
    }
}

fn recv(cx: &mut TaskCx, fd: i32) -> Option<(Vec<u8>, SockaddrIn)> {
    cx.enter_call();
    let mut data = vec![0; 10_000];
    let received = match sys_recvfrom(fd, &mut data, MSG_DONTWAIT).poll(cx) {
        Poll::Ready(received) => received.ok()?,
        Poll::Pending => return None,
    };
    data.truncate(received.0);
    Some((data, received.1.and_then(uapi::socket::Sockaddr::inet).expect("datagrams have senders")))
}

/// Everything that waits at a socket.
fn recv_all(cx: &mut TaskCx, fd: i32) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| recv(cx, fd).map(|(data, _)| data)).collect()
}
