//! The world: steps machines, links and tasks in a defined order, and moves the clock when nothing
//! else is to be done.

use crate::clock::{Costs, SimPlatform, VirtualClock};
use crate::digest::{Diary, Digest};
use crate::link::{BottleneckStats, Impairment, LinkSpec, WeatherLink, join, port};
use crate::task::{Flag, Task};
use drivers::net::ethernet::intel::igb::{IgbOptions, igb_probe};
use drivers::net::loopback::loopback_init;
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::WirePort;
use drivers::pci::DmaSpace;
use hw::igb::I82576;
use hw::wire::{Carrier, WireEnd};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use stack::kernel::bpf::BpfProg;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::{CpuId, Next};
use stack::kernel::initcall::Initcall;
use stack::kernel::machine::Machine;
use stack::kernel::sched::{Operation, TaskStruct};
use stack::kernel::time::Ktime;
use stack::kernel::trace::Record;
use stack::net::core::dev::{NetDevice, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use uapi::errno::Errno;

/// How a machine of a world is made.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Virtual CPUs.
    pub cpus: u8,
    /// The cap on packet memory, in bytes.
    pub memory: usize,
    /// Protocols beside the stack's own.
    pub initcalls: Vec<Initcall>,
}

impl Default for MachineSpec {
    fn default() -> Self {
        Self { cpus: 1, memory: 32 << 20, initcalls: Vec::new() }
    }
}

/// A device model that has a clock of its own to be driven by.
pub type Advance = Box<dyn Fn(u64) -> Option<u64>>;

struct Host {
    machine: Arc<Machine>,
    next: Vec<Next>,
}

struct Running {
    task: Task,
    flag: Arc<Flag>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// Machines under one clock and one seed.
pub struct World {
    clock: Arc<VirtualClock>,
    rng: Pcg64,
    seed: u64,
    hosts: Vec<Host>,
    links: Vec<WeatherLink>,
    wires: Vec<[Arc<WireEnd>; 2]>,
    models: Vec<(Advance, Option<Ktime>)>,
    tasks: Vec<Running>,
    diary: Diary,
    abandoned: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({} machines at {})", self.hosts.len(), self.clock.peek())
    }
}

/// Bytes a device may map for DMA.
const DMA_LIMIT: usize = 64 << 20;
/// A turn of the world is this many steps at most: more is a livelock.
const MAX_STEPS: usize = 1_000_000;

impl World {
    /// An empty world. Every chance in it follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            clock: VirtualClock::new(Costs::default()),
            rng: Pcg64::seed_from_u64(seed),
            seed,
            hosts: Vec::new(),
            links: Vec::new(),
            wires: Vec::new(),
            models: Vec::new(),
            tasks: Vec::new(),
            diary: Diary::default(),
            abandoned: false,
        }
    }

    /// The same, with every machine watched from its start for the [`Digest`].
    pub fn recorded(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.diary = Diary::of_everything();
        world
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    /// Adds a machine with a loopback device, booted.
    ///
    /// # Panics
    /// When it does not boot, which only a module's failure can cause.
    pub fn machine(&mut self, spec: &MachineSpec) -> Arc<Machine> {
        let id = self.hosts.len() as u16;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..10].copy_from_slice(&id.to_le_bytes());
        let builder = Machine::builder();
        let builder = spec.initcalls.iter().fold(builder, |b, call| b.fs_initcall(*call));
        let machine = builder
            .id(id)
            .cpus(spec.cpus)
            .memory(spec.memory)
            .seed(seed)
            .module_init(loopback_init)
            .boot(Box::new(SimPlatform(Arc::clone(&self.clock))))
            .expect("the only module is loopback, on a machine without devices");
        if self.diary.is_of_everything() {
            machine.tracer.start(None);
        }
        let next = vec![Next::default(); usize::from(spec.cpus)];
        self.hosts.push(Host { machine: Arc::clone(&machine), next });
        machine
    }

    /// Makes a link; its two ends, for devices.
    pub fn link(&mut self, spec: LinkSpec) -> [Arc<dyn WirePort>; 2] {
        let (ends, weather) = join(spec);
        let ports = [port(&ends[0]), port(&ends[1])];
        self.wires.push(ends);
        self.links.extend(weather);
        ports
    }

    /// Joins two machines by a wire device each; the devices, up, with these addresses.
    ///
    /// # Errors
    /// Those of the devices and addresses.
    pub fn wire(
        &mut self,
        spec: LinkSpec,
        ends: [(&Arc<Machine>, Ipv4Addr); 2],
    ) -> Result<[Arc<NetDevice>; 2], Errno> {
        let ports = self.link(spec);
        let number = self.wires.len() as u8;
        let probe = |side: usize| {
            let (machine, addr) = ends[side];
            let mut cx = self.task_cx(machine, CpuId(0));
            let mac = [0x02, 0, 0, 0, number, side as u8 + 1];
            let dev = wire_probe(&mut cx, "eth%d", mac, Arc::clone(&ports[side]))?;
            inet_insert_ifa(&mut cx, &dev, IfAddr::new(addr, 24)?)?;
            dev_open(&mut cx, &dev)?;
            Ok(dev)
        };
        let devs = [probe(0)?, probe(1)?];
        // Features follow the peer, which was not there when the first came up.
        for dev in &devs {
            if ports[0].peer_accepts_vnet() {
                dev.set_features(dev.features() | stack::net::core::dev::NetdevFeatures::HW_CSUM);
            }
        }
        Ok(devs)
    }

    /// Joins two machines by an igb device each, on models of the 82576; the devices, up, with these
    /// addresses.
    ///
    /// # Errors
    /// Those of the devices and addresses.
    pub fn igb(
        &mut self,
        spec: LinkSpec,
        options: IgbOptions,
        ends: [(&Arc<Machine>, Ipv4Addr); 2],
    ) -> Result<[Arc<NetDevice>; 2], Errno> {
        let ports = self.link(spec);
        let number = self.wires.len() as u8;
        let mut devs = Vec::new();
        for (side, port) in ports.into_iter().enumerate() {
            let (machine, addr) = ends[side];
            let mut cx = self.task_cx(machine, CpuId(0));
            let mac = [0x02, 0, 0, 0, number, side as u8 + 1];
            let model = I82576::new(mac, port, DmaSpace::new(DMA_LIMIT));
            let clock = Arc::downgrade(&model);
            self.model(Box::new(move |now| clock.upgrade()?.advance(now)));
            let dev = igb_probe(&mut cx, model, options)?;
            inet_insert_ifa(&mut cx, &dev, IfAddr::new(addr, 24)?)?;
            dev_open(&mut cx, &dev)?;
            devs.push(dev);
        }
        // The link comes up by an interrupt once both ends are.
        self.settle();
        devs.try_into().map_err(|_| Errno::ENODEV)
    }

    /// Pulls or plugs every link's cable.
    pub fn set_carrier(&mut self, up: bool) {
        for link in &self.links {
            link.set_carrier(up);
        }
        for ends in &self.wires {
            for end in ends {
                end.set_carrier(if up { Carrier::Up } else { Carrier::Down });
            }
        }
    }

    /// Changes the weather of every link that has any; what is on the way arrives as it was to.
    pub fn set_weather(&mut self, weather: Impairment) {
        for link in &mut self.links {
            link.set_weather(weather);
        }
    }

    /// What the bottleneck of the first link that has weather did to what came from its first (0) or second (1)
    /// end, since this was last asked.
    ///
    /// # Panics
    /// When no link has weather, or there is no such end.
    pub fn take_bottleneck_stats(&mut self, side: usize) -> BottleneckStats {
        self.links.first_mut().expect("a link with weather").take_bottleneck_stats(side)
    }

    /// Adds a device model with a clock: `advance(now)` gives the time at which it wants the next
    /// call.
    pub fn model(&mut self, advance: Advance) {
        self.models.push((advance, None));
    }

    /// A context for calls made directly, on `cpu` of a machine.
    pub fn task_cx(&self, machine: &Arc<Machine>, cpu: CpuId) -> TaskCx {
        TaskCx::new(machine, TaskStruct::new("test", cpu))
    }

    /// Starts a task on `cpu` of a machine.
    pub fn spawn<F: Future<Output = ()> + 'static>(
        &mut self,
        machine: &Arc<Machine>,
        cpu: CpuId,
        code: impl FnOnce(Task) -> F,
    ) {
        let task = Task::new(self.task_cx(machine, cpu));
        let future = Box::pin(code(task.clone()));
        self.tasks.push(Running { task, flag: Flag::raised(), future });
    }

    /// Tasks that have not ended.
    pub fn running_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// One turn: tasks that are awake, links, device models, then every CPU in order. True if
    /// anything was done that may have given others something to do.
    pub fn step(&mut self) -> bool {
        let mut busy = self.step_tasks();
        let now = self.clock.peek();
        for link in &mut self.links {
            busy |= link.step(now, &mut self.rng);
        }
        for (advance, next) in &mut self.models {
            *next = advance(now.0).map(Ktime);
        }
        for host in &mut self.hosts {
            for cpu in host.machine.cpu_ids() {
                let slot = &mut host.next[usize::from(cpu.0)];
                busy |= host.machine.cpu_kicked(cpu);
                *slot = host.machine.run_cpu(cpu);
                if slot.ksoftirqd {
                    busy = true;
                    *slot = host.machine.run_ksoftirqd(cpu);
                }
                busy |= slot.pending || slot.ksoftirqd;
            }
        }
        if self.diary.takes_all() {
            self.diary.note_all(self.machines());
        }
        busy | self.next_has_to_do()
    }

    /// What just ran woke a task, kicked a CPU whose turn was over, or put frames on a link: their turn is
    /// the next step's, and no time passes before it.
    fn next_has_to_do(&self) -> bool {
        let kicked = |host: &Host| host.machine.cpu_ids().any(|cpu| host.machine.cpu_kicked(cpu));
        self.tasks.iter().any(|running| running.flag.is_raised())
            || self.links.iter().any(WeatherLink::has_frames)
            || self.hosts.iter().any(kicked)
    }

    fn step_tasks(&mut self) -> bool {
        let mut busy = false;
        let now = self.clock.peek();
        let mut at = 0;
        while at < self.tasks.len() {
            let running = &mut self.tasks[at];
            let due = running.task.deadline.get().is_some_and(|deadline| deadline <= now);
            if running.flag.take() || due {
                busy = true;
                running.task.deadline.set(None);
                let waker = Waker::from(Arc::clone(&running.flag));
                let mut context = Context::from_waker(&waker);
                if running.future.as_mut().poll(&mut context).is_ready() {
                    self.tasks.remove(at);
                    continue;
                }
            }
            at += 1;
        }
        busy
    }

    /// The next time at which anything happens by itself.
    fn next_event(&self) -> Option<Ktime> {
        let cpus = self.hosts.iter().flat_map(|host| &host.next).filter_map(|next| next.deadline);
        let links = self.links.iter().filter_map(WeatherLink::next);
        let models = self.models.iter().filter_map(|(_, next)| *next);
        let tasks = self.tasks.iter().filter_map(|running| running.task.deadline.get());
        cpus.chain(links).chain(models).chain(tasks).min()
    }

    /// Runs until nothing is to be done now; the clock moves only by what running costs.
    ///
    /// # Panics
    /// When that never comes about.
    pub fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest at {}", self.clock.peek());
    }

    /// Runs until virtual time `until`.
    pub fn run_until(&mut self, until: Ktime) {
        loop {
            self.settle();
            match self.next_event() {
                Some(at) if at <= until => self.clock.advance_to(at),
                _ => break,
            }
        }
        self.clock.advance_to(until);
        self.settle();
    }

    /// Runs until `done` says so, at most until virtual time `until`; true if it did. It is asked
    /// after every turn, so time has not moved on since what it waits for happened.
    pub fn run_until_done(&mut self, until: Ktime, mut done: impl FnMut() -> bool) -> bool {
        loop {
            for turn in 0.. {
                assert!(
                    turn < MAX_STEPS,
                    "the world does not come to rest at {}",
                    self.clock.peek()
                );
                let busy = self.step();
                if done() {
                    return true;
                }
                if !busy {
                    break;
                }
            }
            match self.next_event() {
                Some(at) if at <= until => self.clock.advance_to(at),
                _ => break,
            }
        }
        self.clock.advance_to(until);
        false
    }

    /// Runs for a while of virtual time.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.clock.peek() + time);
    }

    /// Runs until every task has ended, at most for `limit` of virtual time. True if they did.
    pub fn run_tasks(&mut self, limit: Duration) -> bool {
        let until = self.clock.peek() + limit;
        loop {
            self.settle();
            if self.tasks.is_empty() {
                return true;
            }
            match self.next_event() {
                Some(at) if at <= until => self.clock.advance_to(at),
                _ => return false,
            }
        }
    }

    /// Polls a call until it is ready, running the world between, at most for `limit` of virtual
    /// time; `None` if it is not ready then.
    pub fn block_on<O: Operation>(
        &mut self,
        cx: &mut TaskCx,
        op: &mut O,
        limit: Duration,
    ) -> Option<O::Output> {
        let until = self.clock.peek() + limit;
        let flag = Flag::raised();
        let waker = Waker::from(Arc::clone(&flag));
        loop {
            let now = self.clock.peek();
            if flag.take() || cx.deadline().is_some_and(|at| at <= now) {
                let polled = stack::kernel::sched::poll_operation(cx, &waker, op);
                if let std::task::Poll::Ready(output) = polled {
                    return Some(output);
                }
                continue;
            }
            if self.step() || flag.is_raised() {
                continue;
            }
            let next = [self.next_event(), cx.deadline()].into_iter().flatten().min();
            match next {
                Some(at) if at <= until => self.clock.advance_to(at),
                _ => return None,
            }
        }
    }

    /// Watches what `filter` matches, on every machine.
    pub fn watch(&self, filter: Option<BpfProg>) {
        // What a recorded world saw before it was asked is not of the walk that is asked for.
        if self.diary.begin_watch() {
            self.diary.note_all(self.machines());
        }
        for machine in self.machines() {
            machine.tracer.start(filter.clone());
        }
    }

    /// Takes every machine's records: `(machine, record)` by time.
    ///
    /// # Panics
    /// When records were lost: a world's rings are large enough for what a test watches.
    pub fn take_walk(&self) -> Vec<(u16, Record)> {
        let mut all = Vec::new();
        for machine in self.machines() {
            let (records, lost) = machine.tracer.take();
            assert_eq!(lost, 0, "records were lost: watch less or take them more often");
            all.extend(records.into_iter().map(|record| (machine.id, record)));
        }
        all.sort_by_key(|(_, record)| record.time);
        self.diary.note(&all);
        all
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.hosts.iter().map(|host| &*host.machine)
    }

    /// Packets alive on all machines.
    pub fn live_skbs(&self) -> i64 {
        self.machines().map(Machine::live_skbs).sum()
    }

    /// Ends a world at rest: runs what is to be done now; no packet may be left.
    ///
    /// # Panics
    /// When one is.
    pub fn end(mut self) -> Digest {
        self.settle();
        assert_eq!(self.live_skbs(), 0, "packets left");
        self.digest()
    }

    /// Ends a world whose machines go away with packets under way.
    pub fn abandon(mut self) -> Digest {
        self.abandoned = true;
        self.digest()
    }

    fn digest(&self) -> Digest {
        self.diary.note_all(self.machines());
        self.diary.close(self.clock.peek(), self.machines())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.abandoned && !std::thread::panicking() {
            // What a task holds ends with it.
            self.tasks.clear();
            assert_eq!(self.live_skbs(), 0, "packets left at the end of a world");
        }
    }
}
