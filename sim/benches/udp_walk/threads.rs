//! What two threads of the operating system do to each other: entering a CPU that another runs flat
//! out, and two CPUs of the same machines side by side.

use crate::machines::{PAYLOAD, messages, rooms, udp_socket};
use crate::median;
use crate::processor::processor_time;
use drivers::net::loopback::loopback_init;
use drivers::net::wire::wire_probe;
use hw::wire::Wire;
use klib::bitmap::CpuMask;
use klib::checksum::ip_fast_csum;
use sim::bare::{bring_up, mac, ready};
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::{Machine, Platform};
use stack::kernel::sched::TaskStruct;
use stack::kernel::time::Ktime;
use stack::net::core::dev::{
    NapiPoll, NapiStruct, NetDevice, NetdevFeatures, napi_enable, napi_gro_receive, napi_schedule,
};
use stack::net::core::skbuff::netdev_alloc_frame;
use stack::net::ethernet::eth::eth_type_trans;
use stack::net::socket::{MsgRecv, MsgSend, sys_recvmmsg, sys_sendmmsg, sys_sendto};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use uapi::in_::SockaddrIn;
use uapi::socket::MSG_DONTWAIT;

/// Rounds of waiting that spin, and then those that only yield.
const SPINS: u32 = 200;
const YIELDS: u32 = 400;
/// Sleep of a round after that.
const NAP: Duration = Duration::from_micros(50);

/// The system's clock, and waiting as the host's platform waits. Threads share nothing by it.
struct ThreadClock(Instant);

impl Platform for ThreadClock {
    fn ktime_get(&self) -> Ktime {
        Ktime(self.ktime_get_real())
    }
    fn ktime_get_real(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64 + 1
    }
    fn wake_cpu(&self, _: CpuId) {}
    fn relax(&self, spins: u32) {
        match spins {
            0..SPINS => std::hint::spin_loop(),
            SPINS..YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}

fn boot(id: u16, cpus: u8) -> Arc<Machine> {
    let builder = Machine::builder().id(id).cpus(cpus).module_init(loopback_init);
    builder.boot(Box::new(ThreadClock(Instant::now()))).expect("boots")
}

fn task(m: &Arc<Machine>, cpu: u8) -> TaskCx {
    TaskCx::new(m, TaskStruct::new("bench", CpuId(cpu)))
}

/// Datagrams of a call, and of an endless poll.
const BATCH: usize = 32;

/// One queue of two machines, from a socket to a socket, on the CPUs of one number.
struct Lane {
    a: TaskCx,
    b: TaskCx,
    client: i32,
    server: i32,
    messages: &'static [MsgSend<'static>],
    rooms: Vec<MsgRecv<'static>>,
}

impl Lane {
    /// A wire of its own between the machines, its interrupts on these CPUs.
    fn new(a: &Arc<Machine>, b: &Arc<Machine>, cpu: u8) -> Self {
        let (mut a, mut b) = (task(a, cpu), task(b, cpu));
        let addr = |host| Ipv4Addr::new(192, 0, 2 + cpu, host);
        let (wire_a, wire_b) = Wire::pair(1024);
        for (cx, wire, id) in [(&mut a, wire_a, 0), (&mut b, wire_b, 1)] {
            let dev = wire_probe(cx, "eth%d", mac(id), Arc::new(wire)).expect("registered");
            let host = id as u8 + 1;
            bring_up(cx, &dev, [addr(host), addr(3 - host)], mac(1 - id));
            dev.set_features(dev.features() | NetdevFeatures::HW_CSUM);
            let t = cx.machine().tables();
            let irq = t.irqs.iter().flatten().find(|irq| irq.name == dev.name).expect("it has one");
            irq.set_affinity(CpuMask::from_bits(1 << cpu)).expect("a CPU");
        }
        let (client, server) = (udp_socket(&mut a, addr(1), 4000), udp_socket(&mut b, addr(2), 7));
        let messages = messages(SockaddrIn::new(addr(2).into(), 7).to_bytes());
        Self { a, b, client, server, messages, rooms: rooms() }
    }

    fn round(&mut self) {
        let sent = ready(&mut self.a, sys_sendmmsg(self.client, &self.messages[..BATCH], 0));
        assert_eq!(sent, Ok(BATCH));
        let cpu = self.b.cpu();
        self.b.machine().run_cpu(cpu);
        let rooms = &mut self.rooms[..BATCH];
        let came = ready(&mut self.b, sys_recvmmsg(self.server, rooms, MSG_DONTWAIT, None));
        assert_eq!(came, Ok(BATCH), "a datagram for each sent");
        debug_assert!(rooms.iter().all(|room| room.received.len == PAYLOAD), "whole");
    }
}

/// Datagrams a second of lanes that run at the same time, each on a thread that has a processor.
fn together(lanes: &mut [&mut Lane], rounds: usize) -> f64 {
    let start = Barrier::new(lanes.len());
    let run = |lane: &mut Lane| {
        start.wait();
        let began = processor_time();
        (0..rounds).for_each(|_| lane.round());
        (rounds * BATCH) as f64 / (processor_time() - began)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(|| run(lane))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

const LANE_ROUNDS: usize = 30_000;
const LANE_RUNS: usize = 5;

/// Two queues on two CPUs beside one, and beside two pairs of machines that share nothing at all: what
/// the processors give at most.
pub fn cpus(tsv: bool) {
    let (a, b) = (boot(0, 2), boot(1, 2));
    let (mut first, mut second) = (Lane::new(&a, &b, 0), Lane::new(&a, &b, 1));
    let mut apart = [2, 4].map(|id| Lane::new(&boot(id, 1), &boot(id + 1, 1), 0));
    let [left, right] = &mut apart;
    let mut rates = [(); 3].map(|()| Vec::new());
    for run in 0..=LANE_RUNS {
        let these = [
            together(&mut [&mut first], LANE_ROUNDS),
            together(&mut [&mut first, &mut second], LANE_ROUNDS),
            together(&mut [&mut *left, &mut *right], LANE_ROUNDS),
        ];
        // The first warms up.
        if run > 0 {
            rates.iter_mut().zip(these).for_each(|(all, rate)| all.push(rate));
        }
    }
    let [one, two, apart] = rates.map(median);
    print("cpus/one/mpps", one / 1e6, "", tsv);
    print("cpus/two/mpps", two / 1e6, "", tsv);
    print("cpus/apart/mpps", apart / 1e6, "", tsv);
    print("cpus/two-to-one", two / one, ">=1.8", tsv);
    print("cpus/two-to-apart", two / apart, "", tsv);
}

fn print(name: &str, value: f64, budget: &str, tsv: bool) {
    if tsv {
        println!("{name}\t{value:.2}\t{budget}");
    } else {
        println!("{:40} {value:9.2}  {budget}", name.replace('/', " "));
    }
}

/// A device that always has more.
struct Endless {
    dev: Arc<NetDevice>,
    frame: Vec<u8>,
    polls: Arc<AtomicU64>,
}

impl NapiPoll for Endless {
    fn poll(&self, cx: &mut BhCx<'_>, _: &Arc<NapiStruct>, budget: u32) -> u32 {
        let mut list = cx.skb_list();
        for _ in 0..budget {
            let copy = |to: &mut [u8]| to.copy_from_slice(&self.frame);
            if let Some(skb) = netdev_alloc_frame(cx, self.frame.len(), copy) {
                list.push(skb);
            }
        }
        let protocol = eth_type_trans(cx, &mut list, &self.dev);
        napi_gro_receive(cx, list, &self.dev, protocol);
        self.polls.fetch_add(1, Ordering::Relaxed);
        budget
    }
}

/// A UDP datagram without a checksum of its own, to port 7.
fn frame(to: [u8; 6], [here, peer]: [Ipv4Addr; 2]) -> Vec<u8> {
    let mut ip = [0_u8; 20];
    (ip[0], ip[3], ip[8], ip[9]) = (0x45, 20 + 8 + PAYLOAD as u8, 64, 17);
    ip[12..16].copy_from_slice(&peer.octets());
    ip[16..].copy_from_slice(&here.octets());
    let check = ip_fast_csum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    let udp = [0x0F, 0xA0, 0, 7, 0, 8 + PAYLOAD as u8, 0, 0];
    [&to[..], &mac(1), &[8, 0], &ip, &udp, &[0x55; PAYLOAD]].concat()
}

const ENTRIES: usize = 20_000;

/// So long it takes to enter a CPU that another thread runs flat out: frames go up to a socket that
/// nobody reads.
pub fn enter(tsv: bool) {
    let m = boot(0, 1);
    let mut cx = task(&m, 0);
    let addrs = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    let (wire, _peer) = Wire::pair(1);
    let dev = wire_probe(&mut cx, "eth%d", mac(0), Arc::new(wire)).expect("registered");
    bring_up(&mut cx, &dev, addrs, mac(1));
    let fd = udp_socket(&mut cx, addrs[0], 7);
    let polls = Arc::new(AtomicU64::new(0));
    let endless = Endless { frame: frame(mac(0), addrs), polls: Arc::clone(&polls), dev };
    let napi = NapiStruct::netif_napi_add(endless.dev.ifindex, Box::new(endless), 64);
    napi_enable(&napi);
    cx.local_bh_disable(|bh| napi_schedule(bh, &napi));
    let stop = AtomicBool::new(false);
    let mut took = Vec::with_capacity(ENTRIES);
    let mut share = 0.0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                m.run_cpu(CpuId(0));
                m.run_ksoftirqd(CpuId(0));
            }
        });
        while took.len() < ENTRIES {
            // The other one is at it again.
            let before = polls.load(Ordering::Relaxed);
            while polls.load(Ordering::Relaxed) == before {
                std::hint::spin_loop();
            }
            let wanted = Instant::now();
            let inside = cx.local_bh_disable(|_| wanted.elapsed());
            took.push(inside.as_nanos() as f64 / 1e3);
        }
        share = napi_share(&mut cx, &polls, fd, addrs[1]);
        stop.store(true, Ordering::Relaxed);
    });
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took[took.len() * share / 1000];
    print("enter/contended/p50-us", at(500), "", tsv);
    print("enter/contended/p99-us", at(990), "<=10", tsv);
    print("enter/contended/p99.9-us", at(999), "", tsv);
    print("enter/polls-beside-a-sender", share, ">=0.2", tsv);
}

/// So long polls are counted.
const COUNTED: Duration = Duration::from_millis(200);

/// The rate at which an endless device is polled while this thread sends as fast as it can, to its rate
/// alone; the median of five.
fn napi_share(cx: &mut TaskCx, polls: &AtomicU64, fd: i32, to: Ipv4Addr) -> f64 {
    let to = SockaddrIn::new(to.into(), 9).to_bytes();
    let mut rate = |sends: bool| {
        let (began, before) = (Instant::now(), polls.load(Ordering::Relaxed));
        while began.elapsed() < COUNTED {
            if sends {
                // Nobody takes it off the wire: mostly it is dropped at the queue.
                let _full_or_sent =
                    ready(cx, sys_sendto(fd, &[0; PAYLOAD], MSG_DONTWAIT, Some(&to)));
            } else {
                std::hint::spin_loop();
            }
        }
        (polls.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
    };
    median((0..5).map(|_| rate(true) / rate(false)).collect())
}
