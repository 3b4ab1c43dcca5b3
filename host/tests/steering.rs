//! Everything that steers packets, changed every millisecond on real threads: what is lost is counted,
//! and no flow is ever out of order.

mod util;

use host::{Runtime, block_on};
use hw::wire::Wire;
use klib::bitmap::CpuMask;
use klib::random::Csprng;
use stack::fs::{FilesStruct, exit_files};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::TaskStruct;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{
    NetDevice, rps_sock_flow_sysctl, store_rps_dev_flow_table_cnt, store_rps_map,
};
use stack::net::core::ethtool::{RxfhFields, RxfhIndir, ethtool_set_rxfh, ethtool_set_rxfh_fields};
use stack::net::socket::{sys_bind, sys_connect, sys_recvfrom, sys_sendto, sys_socket};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};
use util::{runtime, sockaddr};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FLOWS: usize = 64;
const QUEUES: u16 = 4;
const TIME: Duration = Duration::from_secs(10);
const CHANGE: Duration = Duration::from_millis(1);

/// A socket for each flow, bound here and connected there.
fn sockets(cx: &mut TaskCx, here: (Ipv4Addr, u16), there: (Ipv4Addr, u16)) -> Vec<i32> {
    let socket = |flow: u16| {
        let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        sys_bind(cx, fd, &sockaddr(here.0, here.1 + flow)).expect("free");
        block_on(cx, &mut sys_connect(fd, &sockaddr(there.0, there.1 + flow))).expect("a route");
        fd
    };
    (0..FLOWS as u16).map(socket).collect()
}

/// What the threads share.
struct Shared {
    stop: AtomicBool,
    /// What is to be read next of each flow; whoever reads a flow holds it.
    next: Vec<Mutex<u32>>,
    sent: Vec<AtomicU32>,
    lost: AtomicU64,
}

impl Shared {
    fn read(&self, cx: &mut TaskCx, fds: &[i32], flow: usize) {
        let mut next = self.next[flow].lock().expect("no reader panics");
        let mut data = [0; 8];
        loop {
            let got = block_on(cx, &mut sys_recvfrom(fds[flow], &mut data, MSG_DONTWAIT));
            let Ok((4, _)) = got else { return };
            let number = u32::from_le_bytes(data[..4].try_into().expect("four"));
            assert!(number >= *next, "flow {flow}: {number} comes after {next}");
            self.lost.fetch_add(u64::from(number - *next), Ordering::Relaxed);
            *next = number + 1;
        }
    }

    /// Numbers that were sent and will not be read.
    fn missing(&self) -> u64 {
        let unread = |(sent, next): (&AtomicU32, &Mutex<u32>)| {
            u64::from(sent.load(Ordering::Relaxed) - *next.lock().expect("no reader panics"))
        };
        let unread: u64 = self.sent.iter().zip(&self.next).map(unread).sum();
        unread + self.lost.load(Ordering::Relaxed)
    }

    fn send(&self, cx: &mut TaskCx, fds: &[i32], chance: &mut Csprng) {
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..chance.below(60) {
                let flow = chance.below(FLOWS as u32) as usize;
                let data = self.sent[flow].load(Ordering::Relaxed).to_le_bytes();
                if block_on(cx, &mut sys_sendto(fds[flow], &data, 0, None)).is_ok() {
                    self.sent[flow].fetch_add(1, Ordering::Relaxed);
                }
            }
            // Others want the processor, too.
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// The others stop when this goes, by a panic too.
struct Stop<'a>(&'a Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Changes something that steers.
fn change(cx: &mut TaskCx, dev: &NetDevice, chance: &mut Csprng) {
    let queue = chance.below(u32::from(QUEUES)) as u16;
    match chance.below(8) {
        0 | 1 => {
            let tables = cx.machine().tables();
            let name = format!("eth0-TxRx-{queue}");
            let desc = tables.irqs.iter().flatten().find(|irq| irq.name == name).expect("a vector");
            desc.irq_affinity_proc_write(["1", "2"][chance.below(2) as usize]).expect("a CPU");
        }
        2..=4 => {
            let mask = CpuMask::from_bits(u64::from(chance.below(4)));
            store_rps_map(cx, dev, queue, mask).expect("a queue");
        }
        5 => rps_sock_flow_sysctl(cx, chance.below(3) as usize * 256).expect("so many"),
        6 => {
            let flows = chance.below(3) as usize * 512;
            store_rps_dev_flow_table_cnt(cx, dev, queue, flows).expect("so many");
        }
        _ => {
            let table = (0..128).map(|_| chance.below(u32::from(QUEUES))).collect();
            let key =
                (chance.below(4) == 0).then(|| (0..40).map(|_| chance.below(256) as u8).collect());
            ethtool_set_rxfh(cx, dev, RxfhIndir::Table(table), key).expect("queues");
        }
    }
}

fn task_with(m: &Arc<Machine>, cpu: u8, files: &Arc<FilesStruct>) -> TaskCx {
    TaskCx::new(m, TaskStruct::with_files("reader", CpuId(cpu), Arc::clone(files)))
}

fn counted(m: &Machine, dev: &NetDevice) -> u64 {
    let stats = dev.ethtool.as_ref().expect("igb has it").get_ethtool_stats();
    let lost_here = |(name, _): &&(String, u64)| {
        name.starts_with("rx_queue") && name.ends_with("drops") || name == "rx_missed_errors"
    };
    let mib = m.mib();
    let reasons = [DropReason::CpuBacklog, DropReason::SocketRcvbuff, DropReason::SocketBacklog];
    stats.iter().filter(lost_here).map(|(_, count)| count).sum::<u64>()
        + reasons.map(|reason| mib.drops(reason)).iter().sum::<u64>()
}

#[test]
fn ten_seconds_of_changes_reorder_nothing() {
    let (a_end, b_end) = Wire::pair(4096);
    let (a, _) = runtime(Runtime::builder(), 1, A, a_end);
    let (b, dev) = runtime(Runtime::builder().cpus(2), QUEUES as u8, B, b_end);
    let (mut sender, mut first) = (a.task("sender"), b.task("first"));
    let fields = RxfhFields { udp4_ports: true };
    ethtool_set_rxfh_fields(&mut first, &dev, fields).expect("igb can");
    let out = sockets(&mut sender, (A, 5000), (B, 6000));
    let fds = sockets(&mut first, (B, 6000), (A, 5000));
    // Until they know each other's address, the neighbour's queue is what bounds.
    let mut data = [0; 8];
    block_on(&mut sender, &mut sys_sendto(out[0], &[0; 4], 0, None)).expect("sent");
    block_on(&mut first, &mut sys_recvfrom(fds[0], &mut data, 0)).expect("arrives");
    let shared = Shared {
        stop: AtomicBool::new(false),
        next: (0..FLOWS).map(|_| Mutex::new(0)).collect(),
        sent: (0..FLOWS).map(|_| AtomicU32::new(0)).collect(),
        lost: AtomicU64::new(0),
    };
    let files = Arc::clone(first.task().files());
    let mut changes = 0;
    thread::scope(|scope| {
        let (shared, fds, out) = (&shared, &fds, &out);
        for cpu in 0..2 {
            let mut cx = task_with(b.machine(), cpu, &files);
            scope.spawn(move || {
                let mut chance = Csprng::from_seed([cpu; 32]);
                while !shared.stop.load(Ordering::Relaxed) {
                    (0..FLOWS).for_each(|_| {
                        shared.read(&mut cx, fds, chance.below(FLOWS as u32) as usize);
                    });
                    thread::sleep(Duration::from_micros(100));
                }
            });
        }
        scope.spawn(|| shared.send(&mut sender, out, &mut Csprng::from_seed([7; 32])));
        let mut chance = Csprng::from_seed([9; 32]);
        let _stop = Stop(shared);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            change(&mut first, &dev, &mut chance);
            changes += 1;
            thread::sleep(CHANGE);
        }
    });
    // What is under way arrives; then all that is missing was counted.
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        (0..FLOWS).for_each(|flow| shared.read(&mut first, &fds, flow));
        let (missing, counted) = (shared.missing(), counted(b.machine(), &dev));
        if missing == counted {
            break;
        }
        assert!(Instant::now() < patience, "{missing} are missing, {counted} were counted");
        thread::sleep(Duration::from_millis(1));
    }
    let sent: u32 = shared.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
    let stat = b.machine().softnet_stat();
    assert!(stat.iter().all(|cpu| cpu.received_rps > 100), "{changes} changes, {sent}: {stat:?}");
    exit_files(&mut sender);
    exit_files(&mut first);
    drop((sender, first, files));
    for runtime in [a, b] {
        let m = Arc::clone(runtime.machine());
        runtime.shutdown().expect("nothing panicked");
        assert_eq!((m.live_skbs(), m.contained_panics()), (0, 0));
    }
}
