//! Everything that steers packets, changed every millisecond for a minute of traffic: what is lost is
//! counted, and no flow is ever out of order.

use crate::util::{A, B, addr, connect, udp};
use drivers::net::ethernet::intel::igb::IgbOptions;
use klib::bitmap::CpuMask;
use klib::random::Csprng;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::cpu::hotplug::{cpu_down, cpu_up};
use stack::kernel::irq::IrqDesc;
use stack::kernel::machine::Machine;
use stack::kernel::sched::{Operation, TaskStruct};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{
    NetDevice, rps_sock_flow_sysctl, store_rps_dev_flow_table_cnt, store_rps_map,
};
use stack::net::core::ethtool::{RxfhFields, RxfhIndir, ethtool_set_rxfh, ethtool_set_rxfh_fields};
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use uapi::socket::MSG_DONTWAIT;

const FLOWS: usize = 64;
const QUEUES: u16 = 4;
/// What is changed and run, a turn each.
const TURNS: usize = 60_000;

struct Steered {
    world: World,
    a: Arc<Machine>,
    b: Arc<Machine>,
    dev: Arc<NetDevice>,
    vectors: Vec<Arc<IrqDesc>>,
    chance: Csprng,
    sender: TaskCx,
    /// A task on each CPU of the receiver, with the same files.
    readers: Vec<TaskCx>,
    /// Each flow's socket on both sides, what it sends next, and what is to be read next.
    flows: Vec<(i32, i32)>,
    sent: [u32; FLOWS],
    read: [u32; FLOWS],
    /// Numbers that were passed over.
    lost: u64,
    /// CPUs that went down.
    downs: u64,
}

impl Steered {
    fn new(seed: u64) -> Self {
        let mut world = World::recorded(seed);
        let a = world.machine(&MachineSpec::default());
        let b = world.machine(&MachineSpec { cpus: 2, ..MachineSpec::default() });
        let queues = Some(QUEUES as u8);
        let options = IgbOptions { queues, itr: 0, rx_ring: 80, ..IgbOptions::default() };
        let [_, dev] = world.igb(LinkSpec::Wire, options, [(&a, A), (&b, B)]).expect("two cards");
        let mut sender = world.task_cx(&a, CpuId(0));
        let mut first = world.task_cx(&b, CpuId(0));
        update_sysctls(&mut first, |sysctl| sysctl.netdev_max_backlog = 40);
        ethtool_set_rxfh_fields(&mut first, &dev, RxfhFields { udp4_ports: true })
            .expect("igb can");
        let pair = |flow: u16| (udp(&mut sender, A, 5000 + flow), udp(&mut first, B, 6000 + flow));
        let flows: Vec<_> = (0..FLOWS as u16).map(pair).collect();
        for (flow, (from, to)) in flows.iter().enumerate() {
            connect(&mut sender, *from, &addr(B, 6000 + flow as u16)).expect("a route");
            connect(&mut first, *to, &addr(A, 5000 + flow as u16)).expect("a route");
        }
        let files = Arc::clone(first.task().files());
        let second = TaskCx::new(&b, TaskStruct::with_files("reader", CpuId(1), files));
        let irqs = b.tables().irqs.clone();
        let vectors = irqs.into_iter().flatten().filter(|irq| irq.name.contains("TxRx")).collect();
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        let chance = Csprng::from_seed(secret);
        let readers = vec![first, second];
        let (sent, read) = ([0; FLOWS], [0; FLOWS]);
        let mut this = Self {
            world,
            a,
            b,
            dev,
            vectors,
            chance,
            sender,
            readers,
            flows,
            sent,
            read,
            lost: 0,
            downs: 0,
        };
        // The sender does nothing new.
        this.a.tracer.stop();
        // Both know each other, and every queue of the sender has its way.
        this.send(0);
        this.world.run_for(Duration::from_secs(1));
        this.read_all();
        this
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance.below(bound as u32) as usize
    }

    fn send(&mut self, flow: usize) {
        let data = self.sent[flow].to_le_bytes();
        self.sender.enter_call();
        let sent = sys_sendto(self.flows[flow].0, &data, MSG_DONTWAIT, None).poll(&mut self.sender);
        assert_eq!(sent, Poll::Ready(Ok(4)), "the sender has room");
        self.sent[flow] += 1;
    }

    /// Several packets of a few flows; they lie in the receiver's rings then.
    fn send_some(&mut self) {
        let most = if self.below(8) == 0 { 90 } else { 16 };
        for _ in 0..self.below(most) {
            let flow = self.below(FLOWS);
            for _ in 0..=self.below(2) {
                self.send(flow);
            }
        }
        self.a.run_cpu(CpuId(0));
    }

    fn run(&mut self, cpu: usize) {
        let cpu = CpuId(cpu as u8);
        let next = self.b.run_cpu(cpu);
        if next.ksoftirqd {
            self.b.run_ksoftirqd(cpu);
        }
    }

    /// Reads what there is of a flow, on a CPU.
    fn read(&mut self, flow: usize, cpu: usize) {
        let cx = &mut self.readers[cpu];
        let mut data = [0; 8];
        loop {
            cx.enter_call();
            let got = sys_recvfrom(self.flows[flow].1, &mut data, MSG_DONTWAIT).poll(cx);
            let Poll::Ready(Ok((4, _))) = got else { return };
            let number = u32::from_le_bytes(data[..4].try_into().expect("four"));
            let next = self.read[flow];
            assert!(number >= next, "flow {flow}: {number} comes after {next}");
            self.lost += u64::from(number - next);
            self.read[flow] = number + 1;
        }
    }

    fn read_all(&mut self) {
        (0..FLOWS).for_each(|flow| self.read(flow, 0));
    }

    fn mask(&mut self) -> CpuMask {
        CpuMask::from_bits(self.below(4) as u64)
    }

    /// Changes something that steers.
    fn change(&mut self) {
        let queue = self.below(usize::from(QUEUES)) as u16;
        match self.below(9) {
            0 | 1 => {
                let mask = CpuMask::from_bits(1 << self.below(2));
                self.vectors[usize::from(queue)].set_affinity(mask).expect("a CPU");
            }
            2..=4 => {
                let mask = self.mask();
                store_rps_map(&mut self.readers[0], &self.dev, queue, mask).expect("a queue");
            }
            5 => {
                let entries = self.below(3) * 256;
                rps_sock_flow_sysctl(&self.readers[0], entries).expect("so many");
            }
            6 => {
                let flows = self.below(3) * 512;
                let cx = &mut self.readers[0];
                store_rps_dev_flow_table_cnt(cx, &self.dev, queue, flows).expect("so many");
            }
            7 => {
                // Down, if it is not the last that is up; else up again.
                let cpu = CpuId(self.below(2) as u8);
                let cx = &mut self.readers[0];
                let changed =
                    if self.b.cpu_online(cpu) { cpu_down(cx, cpu) } else { cpu_up(cx, cpu) };
                self.downs += u64::from(changed.is_ok() && !self.b.cpu_online(cpu));
            }
            _ => {
                let indir = match self.below(4) {
                    0 => RxfhIndir::Default,
                    1 => RxfhIndir::Equal(1 + self.below(4) as u32),
                    2 => RxfhIndir::Weights((0..4).map(|_| 1 + self.below(30) as u32).collect()),
                    _ => RxfhIndir::Table((0..128).map(|_| self.below(4) as u32).collect()),
                };
                let key =
                    (self.below(4) == 0).then(|| (0..40).map(|_| self.below(256) as u8).collect());
                ethtool_set_rxfh(&mut self.readers[0], &self.dev, indir, key).expect("queues");
            }
        }
    }

    /// A millisecond: one change, at any point between what is sent, run and read.
    fn turn(&mut self) {
        let change_at = self.below(5);
        for step in 0..5 {
            if step == change_at {
                self.change();
                continue;
            }
            match self.below(64) {
                0 => self.send_some(),
                1..=22 => self.run(0),
                23..=43 => self.run(1),
                _ => {
                    let (flow, cpu) = (self.below(FLOWS), self.below(2));
                    self.read(flow, cpu);
                }
            }
        }
        let next = self.world.clock().peek() + Duration::from_millis(1);
        self.world.clock().advance_to(next);
    }

    /// The rest is handled; what was lost is what was counted.
    fn end(mut self) -> Digest {
        self.world.run_for(Duration::from_secs(1));
        self.read_all();
        let unread: u64 = self.sent.iter().zip(self.read).map(|(s, r)| u64::from(s - r)).sum();
        let stats = self.dev.ethtool.as_ref().expect("igb has it").get_ethtool_stats();
        let named = |(name, _): &&(String, u64)| {
            name.starts_with("rx_queue") && name.ends_with("drops") || name == "rx_missed_errors"
        };
        let ring: u64 = stats.iter().filter(named).map(|(_, count)| count).sum();
        let mib = self.b.mib();
        let [backlog, socket] =
            [DropReason::CpuBacklog, DropReason::SocketRcvbuff].map(|reason| mib.drops(reason));
        assert_eq!(self.lost + unread, ring + backlog + socket, "{ring} {backlog} {socket}");
        assert!(ring > 0 && backlog > 0, "both were full now and then: {ring} {backlog}");
        let stat = self.b.softnet_stat();
        assert!(stat.iter().all(|cpu| cpu.received_rps > 100), "both were interrupted: {stat:?}");
        assert_eq!(self.b.contained_panics(), 0);
        assert!(self.downs > 1000, "{} CPUs went down", self.downs);
        let Self { mut world, mut sender, mut readers, .. } = self;
        exit_files(&mut sender);
        exit_files(&mut readers[0]);
        drop((sender, readers));
        world.run_for(Duration::from_secs(1));
        world.end()
    }
}

fn a_minute(seed: u64) -> Digest {
    let mut steered = Steered::new(seed);
    for turn in 0..TURNS {
        steered.turn();
        if turn % 256 == 255 {
            steered.world.step();
        }
    }
    steered.end()
}

stepped!(a_minute_of_changes_reorders_nothing_1);
fn a_minute_of_changes_reorders_nothing_1() -> Digest {
    a_minute(1)
}

stepped!(a_minute_of_changes_reorders_nothing_2);
fn a_minute_of_changes_reorders_nothing_2() -> Digest {
    a_minute(2)
}

stepped!(a_minute_of_changes_reorders_nothing_3);
fn a_minute_of_changes_reorders_nothing_3() -> Digest {
    a_minute(3)
}
