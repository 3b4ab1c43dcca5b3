//! A machine: CPUs, tables, clock and counters as one value. Two machines share nothing.
//!
//! linux: init/main.c:start_kernel. Key types: [`Machine`], [`Builder`], [`Platform`].
//! Contexts: building in none; the rest by the contexts it lends.

use crate::kernel::context::{HardirqCx, TaskCx};
use crate::kernel::cpu::hotplug::{CpuNotifier, Hotplug};
use crate::kernel::cpu::{Cpu, CpuId, CpuLocal};
use crate::kernel::hrtimer::hrtimer_run_softirq;
use crate::kernel::initcall::{EARLY, FS, Initcall, ModuleInit, SUBSYS};
use crate::kernel::irq::{Irq, IrqDesc, IrqHandler, IrqLine, NR_IRQS};
use crate::kernel::locking::{SpinLock, cpu_cell::CpuCell, lockdep::class};
use crate::kernel::rcupdate::{Publisher, Tables, update_tables_of};
use crate::kernel::remote_queue::RemoteQueue;
use crate::kernel::sched::TaskStruct;
use crate::kernel::softirq::{NR_SOFTIRQS, Softirq, SoftirqAction, open_softirq};
use crate::kernel::time::Ktime;
use crate::kernel::timer::run_timer_softirq;
use crate::kernel::trace::{Tracer, events::Point};
use crate::net::core::dev::NetTables;
use crate::net::core::skbuff::{Depot, SkbPool};
use crate::net::core::snmp::NetMib;
use crate::net::net_namespace::{Net, NetId};
use klib::bitmap::AtomicBitmap;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;

/// What a machine asks of the world beneath it: a clock, and a way to wake whoever sleeps for a
/// CPU. `host` implements it over the operating system, `sim` over a virtual clock.
pub trait Platform: Any + Send + Sync {
    /// Monotonic time, never zero.
    fn ktime_get(&self) -> Ktime;

    /// Wall-clock time at the same moment, as nanoseconds since 1970.
    fn ktime_get_real(&self) -> u64;

    /// Somebody left word for a CPU on which nobody is: wake one of its sleepers, if any.
    fn wake_cpu(&self, cpu: CpuId);

    /// Called in turn while waiting for a CPU that somebody else holds; `spins` counts up.
    fn relax(&self, spins: u32);

    /// The clock is a virtual one, which has to be told of what takes time. Asked once.
    fn charges(&self) -> bool {
        false
    }

    /// A CPU is entered: a virtual clock charges its cost.
    fn charge_cpu(&self) {}

    /// A NAPI was polled: a virtual clock charges its cost.
    fn charge_poll(&self) {}
}

/// A computer: virtual CPUs, the network stack on them, and nothing shared with another.
pub struct Machine {
    /// Its number in a world; makes walk ids unique there.
    pub id: u16,
    pub(crate) platform: Box<dyn Platform>,
    /// [`Platform::charges`]: a call for each entry into a CPU costs more than a look.
    charges: bool,
    pub(crate) cpus: Box<[Cpu]>,
    pub(crate) hotplug: Hotplug,
    pub(crate) cpu_notifiers: Vec<CpuNotifier>,
    pub(crate) softirq_vec: [Option<SoftirqAction>; NR_SOFTIRQS],
    /// What an interrupt from another CPU calls here.
    pub(crate) call_function: fn(&mut HardirqCx<'_>),
    pub(crate) tables: Publisher,
    pub(crate) rtnl: SpinLock<(), class::Rtnl>,
    pub(crate) tables_writer: SpinLock<(), class::Tables>,
    /// The walk's recorder.
    pub tracer: Tracer,
    pub(crate) depot: Arc<Depot>,
    /// The network namespace.
    pub(crate) init_net: Arc<Net>,
    boot: Vec<(Ktime, Point)>,
}

/// How a machine is to be built.
pub struct Builder {
    id: u16,
    cpus: u8,
    memory: usize,
    seed: [u8; 32],
    trace_ring: usize,
    initcalls: Vec<Initcall>,
    modules: Vec<ModuleInit>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            id: 0,
            cpus: 1,
            memory: 32 << 20,
            seed: [0; 32],
            trace_ring: Tracer::RING,
            initcalls: Vec::new(),
            modules: Vec::new(),
        }
    }
}

impl Builder {
    /// The machine's number in its world.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Virtual CPUs, 1 to 64.
    #[must_use]
    pub fn cpus(mut self, cpus: u8) -> Self {
        self.cpus = cpus.clamp(1, 64);
        self
    }

    /// The hard cap on packet memory, in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// The secret from which every random choice follows: fresh entropy for a machine that meets
    /// others, a fixed one for a reproducible run.
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = seed;
        self
    }

    /// Records the walk keeps per CPU.
    #[must_use]
    pub fn trace_ring(mut self, records: usize) -> Self {
        self.trace_ring = records;
        self
    }

    /// Adds boot code of a protocol that is not the stack's own; it runs after the stack's.
    #[must_use]
    pub fn fs_initcall(mut self, call: Initcall) -> Self {
        self.initcalls.push(call);
        self
    }

    /// Adds a driver, started at the end of boot.
    ///
    /// linux: include/linux/init.h:module_init
    #[must_use]
    pub fn module_init(
        mut self,
        init: impl FnOnce(&mut TaskCx) -> Result<(), Errno> + Send + 'static,
    ) -> Self {
        self.modules.push(Box::new(init));
        self
    }

    /// Boots: early, subsystem and fs initcalls, then the modules.
    ///
    /// # Errors
    /// The errno of the module that failed to start.
    pub fn boot(self, platform: Box<dyn Platform>) -> Result<Arc<Machine>, Errno> {
        let mut m = Machine::unbooted(&self, platform);
        open_softirq(&mut m, Softirq::Timer, run_timer_softirq);
        open_softirq(&mut m, Softirq::Hrtimer, hrtimer_run_softirq);
        for call in EARLY.iter().chain(SUBSYS).chain(FS).chain(&self.initcalls) {
            call(&mut m);
        }
        let m = Arc::new(m);
        let mut cx = TaskCx::new(&m, TaskStruct::new("init", CpuId(0)));
        for module in self.modules {
            module(&mut cx)?;
        }
        Ok(m)
    }
}

impl Machine {
    /// What a machine is built from.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn unbooted(builder: &Builder, platform: Box<dyn Platform>) -> Self {
        let now = platform.ktime_get();
        let depot = Arc::new(Depot::new(builder.memory));
        let mut secrets = klib::random::Csprng::from_seed(builder.seed);
        let mut seed = || std::array::from_fn(|_| secrets.next_u32() as u8);
        let init_net = Arc::new(Net::new(NetId::INIT, 0, seed()));
        let tables = Publisher::new(Tables::new(Arc::clone(&init_net), NetTables::default()));
        let local = |cpu, seed| {
            let pool = SkbPool::new(Arc::clone(&depot));
            CpuLocal::new(CpuId(cpu), now, pool, tables.load(), seed)
        };
        let cpus = (0..builder.cpus)
            .map(|cpu| Cpu {
                local: CpuCell::new(local(cpu, seed())),
                irqs_pending: AtomicBitmap::new(),
                backlog: RemoteQueue::default(),
            })
            .collect();
        Self {
            id: builder.id,
            charges: platform.charges(),
            platform,
            cpus,
            hotplug: Hotplug::new(builder.cpus),
            cpu_notifiers: Vec::new(),
            softirq_vec: [None; NR_SOFTIRQS],
            call_function: |_| (),
            tracer: Tracer::new(builder.id + 1, usize::from(builder.cpus), builder.trace_ring),
            tables,
            rtnl: SpinLock::new(()),
            tables_writer: SpinLock::new(()),
            depot,
            init_net,
            boot: Vec::new(),
        }
    }

    /// Changes the tables while the machine boots and nobody reads them.
    pub(crate) fn boot_tables(&mut self, change: impl FnOnce(&mut Tables)) {
        let changed: Result<(), std::convert::Infallible> = self.tables.update(NetId::INIT, |t| {
            change(t);
            Ok(())
        });
        let Ok(()) = changed;
    }

    /// `net.ipv4.ip_default_ttl`.
    pub(crate) fn default_ttl(&self) -> u8 {
        self.tables.load().net.sysctl.ip_default_ttl
    }

    /// Records a stage of the boot.
    pub(crate) fn boot_log(&mut self, point: Point) {
        let now = self.platform.ktime_get();
        self.boot.push((now, point));
    }

    /// The stages of the boot, in their order.
    pub fn boot_stages(&self) -> &[(Ktime, Point)] {
        &self.boot
    }

    /// The virtual CPUs' numbers.
    pub fn cpu_ids(&self) -> impl Iterator<Item = CpuId> + use<> {
        (0..self.cpus.len() as u8).map(CpuId)
    }

    /// What the machine stands on: whoever made it finds its own again.
    pub fn platform(&self) -> &dyn Platform {
        &*self.platform
    }

    /// A CPU is entered.
    #[inline(always)]
    pub(crate) fn charge_cpu(&self) {
        if self.charges {
            self.platform.charge_cpu();
        }
    }

    /// A NAPI was polled.
    #[inline(always)]
    pub(crate) fn charge_poll(&self) {
        if self.charges {
            self.platform.charge_poll();
        }
    }

    /// Monotonic time.
    pub fn ktime_get(&self) -> Ktime {
        self.platform.ktime_get()
    }

    /// Wall-clock time in nanoseconds since 1970.
    pub fn ktime_get_real(&self) -> u64 {
        self.platform.ktime_get_real()
    }

    /// The first network namespace.
    pub fn net(&self) -> &Arc<Net> {
        &self.init_net
    }

    /// The latest read-mostly tables of the first namespace; for tasks that look, not for the packet path.
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load()
    }

    /// The same of any namespace; `None` where there is not one of that number.
    pub fn tables_of(&self, net: NetId) -> Option<Arc<Tables>> {
        let root = self.tables.load();
        match net.0.checked_sub(1) {
            None => Some(root),
            Some(other) => root.others.get(usize::from(other)).cloned().flatten(),
        }
    }

    /// Reads something of each CPU in turn, entering it.
    pub(crate) fn for_each_cpu<R>(&self, mut f: impl FnMut(&mut CpuLocal) -> R) -> Vec<R> {
        self.cpu_ids()
            .map(|cpu| {
                let mut stay = self.enter(cpu);
                let result = stay.local(&mut f);
                stay.leave();
                result
            })
            .collect()
    }

    /// The counters of the first namespace, of all CPUs, added up. Context: task, on no CPU.
    pub fn mib(&self) -> NetMib {
        self.mib_of(NetId::INIT)
    }

    /// The same of any namespace.
    pub fn mib_of(&self, net: NetId) -> NetMib {
        let mut sum = NetMib::default();
        for mib in self.for_each_cpu(|local| local.mib_of(net).cloned()).into_iter().flatten() {
            sum.add_all(&mib);
        }
        sum
    }

    /// Panics that were contained in softirqs.
    pub fn contained_panics(&self) -> u64 {
        self.for_each_cpu(|local| local.softirq.panics).into_iter().sum()
    }

    /// Per CPU: wake-ups of ksoftirqd.
    pub fn ksoftirqd_wakeups(&self) -> Vec<u64> {
        self.for_each_cpu(|local| local.softirq.ksoftirqd_wakeups)
    }

    /// Per CPU: runs of each softirq, by number, as `/proc/softirqs` shows them.
    pub fn softirq_runs(&self) -> Vec<[u64; NR_SOFTIRQS]> {
        self.for_each_cpu(|local| local.softirq.runs)
    }

    /// Timers filed on the CPUs: in their wheels, and those of nanoseconds.
    pub fn timers(&self) -> usize {
        let each = |local: &mut CpuLocal| local.timers.len() + local.hrtimers.len();
        self.for_each_cpu(each).into_iter().sum()
    }

    /// Per CPU: names of its threads.
    pub fn threads(&self) -> Vec<Vec<String>> {
        self.for_each_cpu(|local| {
            local.threads.iter().map(|t| format!("{}/{}", t.comm, local.id.0)).collect()
        })
    }

    /// How long until `at`, from now.
    pub fn until(&self, at: Ktime) -> Duration {
        at - self.ktime_get()
    }
}

/// Requests an interrupt: a free number, its descriptor in the tables, and the line for the device.
///
/// # Errors
/// ENOSPC when every number is taken.
///
/// linux: kernel/irq/manage.c:request_irq
pub fn request_irq(
    cx: &mut TaskCx,
    name: &str,
    handler: Box<dyn IrqHandler>,
) -> Result<IrqLine, Errno> {
    let m = Arc::clone(cx.machine());
    let cpus = m.cpus.len();
    let desc = update_tables_of(cx, NetId::INIT, |t| {
        let free = t.irqs.iter().position(Option::is_none).unwrap_or(t.irqs.len());
        if free >= NR_IRQS - 1 {
            return Err(Errno::ENOSPC);
        }
        let desc = Arc::new(IrqDesc::new(Irq(free as u8), name.to_owned(), cpus, handler));
        if free == t.irqs.len() {
            t.irqs.push(None);
        }
        t.irqs[free] = Some(Arc::clone(&desc));
        Ok(desc)
    })?;
    desc.migrate(m.cpu_online_mask());
    Ok(IrqLine::new(Arc::downgrade(&m), desc))
}

/// Gives an interrupt back; on return its handler runs no more.
///
/// linux: kernel/irq/manage.c:free_irq
pub fn free_irq(cx: &mut TaskCx, irq: Irq) {
    let freed: Result<(), std::convert::Infallible> = update_tables_of(cx, NetId::INIT, |t| {
        if let Some(slot) = t.irqs.get_mut(usize::from(irq.0)) {
            *slot = None;
        }
        Ok(())
    });
    let Ok(()) = freed;
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({}, {} CPUs)", self.id, self.cpus.len())
    }
}
