//! A machine on threads of the operating system: booted, given devices, and taken down again.
//!
//! Key types: [`Runtime`], [`RuntimeBuilder`], [`TapSpec`]. Contexts: any thread.
//! Invariant: when [`Runtime::shutdown`] returns or a `Runtime` is dropped, its tasks have ended,
//! its devices are closed and its threads joined, in this order.

use crate::entropy::{self, EntropyError};
use crate::idle::CpuIdle;
use crate::ksoftirqd::cpu_idle_loop;
use crate::platform::HostPlatform;
use crate::tap::{LinkWatch, Tap};
use crate::tap_port::{HostTap, LinkSource};
use crate::task::TaskHandle;
use drivers::net::loopback::loopback_init;
use drivers::net::tun::{TapPort, TunDevice, TunSpec, tun_detach, tun_set_iff};
use klib::bitmap::CpuMask;
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::irq::IrqLine;
use stack::kernel::machine::{Builder, Machine};
use stack::kernel::sched::TaskStruct;
use stack::net::core::dev::NetDevice;
use stack::net::net_namespace::cleanup_net;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use uapi::errno::Errno;

/// Why a machine could not be run, or a device not be added.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No secrets.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A driver of the machine did not start.
    #[error("the machine did not boot: {0}")]
    Boot(Errno),
    /// The stack refused the device.
    #[error("device {name}: {errno}")]
    Device {
        /// Its name.
        name: String,
        /// Why.
        errno: Errno,
    },
    /// A task panicked; everything was taken down all the same.
    #[error("task {0} panicked")]
    TaskPanicked(String),
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RuntimeError {
    move |source| RuntimeError::System { what, source }
}

/// How a machine is to be run.
#[derive(Default)]
pub struct RuntimeBuilder {
    cpus: u8,
    busy_poll: Duration,
    machine: Builder,
}

impl RuntimeBuilder {
    /// Virtual CPUs, 1 to 64, each with a thread of its own.
    #[must_use]
    pub fn cpus(mut self, cpus: u8) -> Self {
        self.cpus = cpus;
        self
    }

    /// So long at most a waiting task looks for packets again and again before it sleeps; zero, the
    /// default: it sleeps at once. Some 50 µs help where the peer answers from another processor
    /// within that time; where it does not, the task soon stops trying.
    ///
    /// linux: Documentation/admin-guide/sysctl/net.rst:busy_read
    #[must_use]
    pub fn busy_poll(mut self, most: Duration) -> Self {
        self.busy_poll = most;
        self
    }

    /// What else the machine is to be: memory, drivers. CPUs and seed set there are overridden.
    #[must_use]
    pub fn machine(mut self, configure: impl FnOnce(Builder) -> Builder) -> Self {
        self.machine = configure(self.machine);
        self
    }

    /// Boots the machine with its loopback device, and starts its threads.
    ///
    /// # Errors
    /// [`RuntimeError`]; then no thread is left.
    pub fn boot(self) -> Result<Runtime, RuntimeError> {
        let cpus = self.cpus.clamp(1, 64);
        let idle: Arc<[Arc<CpuIdle>]> = (0..cpus)
            .map(|_| CpuIdle::new(self.busy_poll).map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(system("a place to wait for events"))?;
        let m = self
            .machine
            .cpus(cpus)
            .seed(entropy::seed()?)
            .module_init(loopback_init)
            .boot(Box::new(HostPlatform::new(Arc::clone(&idle))))
            .map_err(RuntimeError::Boot)?;
        let mut runtime =
            Runtime { m, idle, threads: Vec::new(), tasks: Vec::new(), taps: Vec::new() };
        for cpu in runtime.m.cpu_ids() {
            let m = Arc::clone(&runtime.m);
            let idle = Arc::clone(&runtime.idle[usize::from(cpu.0)]);
            let thread = thread::Builder::new()
                .name(format!("ksoftirqd/{}", cpu.0))
                .spawn(move || {
                    wait_for_a_turn();
                    cpu_idle_loop(&m, cpu, &idle);
                })
                .map_err(system("starting a thread"))?;
            runtime.threads.push(thread);
        }
        Ok(runtime)
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuntimeBuilder({} CPUs)", self.cpus)
    }
}

/// From now on being woken does not take the processor from whoever runs on it.
///
/// A task that sends calls forth acknowledgements, within its own system call, and each would bring ksoftirqd's thread to
/// the task's processor in the middle of it, for a lock that the task has. So it comes when the task sleeps, or has
/// had its time; where the processor is idle, at once.
fn wait_for_a_turn() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads the one parameter, which outlives it; 0 is the calling thread.
    // Refused by a sandbox, it only costs time.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) };
}

/// How a TAP becomes a device of the machine.
#[derive(Clone, Copy, Debug)]
pub struct TapSpec {
    /// Our hardware address: not that of the TAP's host side.
    pub addr: [u8; 6],
    /// The MTU.
    pub mtu: u32,
    /// The CPU that takes its interrupts, or those of its first queue.
    pub cpu: CpuId,
}

/// A TAP's host side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapLink {
    /// Up: we have carrier.
    Up,
    /// Down.
    Down,
    /// The TAP was deleted.
    Gone,
}

struct TapDevice {
    tun: TunDevice,
    /// One a queue.
    ports: Vec<Arc<HostTap>>,
    link: Arc<LinkSource>,
}

/// Ports that are not a device's yet: they are taken out again when this goes.
struct Ports(Vec<Arc<HostTap>>);

impl Drop for Ports {
    fn drop(&mut self) {
        self.0.iter().for_each(|port| port.unregister());
    }
}

/// A machine that runs.
pub struct Runtime {
    m: Arc<Machine>,
    idle: Arc<[Arc<CpuIdle>]>,
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<TaskHandle>,
    taps: Vec<TapDevice>,
}

impl Runtime {
    /// How to make one.
    #[must_use]
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Arc<Machine> {
        &self.m
    }

    /// A task for this thread, to make calls with; to be dropped before the runtime.
    #[must_use]
    pub fn task(&self, comm: &str) -> TaskCx {
        TaskCx::new(&self.m, TaskStruct::new(comm, CpuId(0)))
    }

    /// Runs `body` as a task on a thread of its own. At shutdown it is interrupted, and waited
    /// for: it has to end on EINTR. Its files are closed when it ends.
    ///
    /// # Errors
    /// [`RuntimeError::System`] when no thread can be had.
    pub fn spawn(
        &mut self,
        comm: &str,
        cpu: CpuId,
        body: impl FnOnce(&mut TaskCx) + Send + 'static,
    ) -> Result<(), RuntimeError> {
        let task = TaskStruct::new(comm, cpu);
        let (m, theirs) = (Arc::clone(&self.m), Arc::clone(&task));
        let thread = thread::Builder::new()
            .name(comm.to_owned())
            .spawn(move || {
                let mut cx = TaskCx::new(&m, theirs);
                body(&mut cx);
                exit_files(&mut cx);
            })
            .map_err(system("starting a thread"))?;
        self.tasks.push(TaskHandle { task, thread });
        Ok(())
    }

    /// Makes a TAP a device of the machine, by the TAP's name and still down. Its carrier follows
    /// the TAP's host side.
    ///
    /// # Errors
    /// [`RuntimeError`]; then the TAP is closed.
    pub fn add_tap(&mut self, tap: Tap, spec: TapSpec) -> Result<Arc<NetDevice>, RuntimeError> {
        self.add_tap_queues(vec![tap], spec)
    }

    /// The same for the queues of one TAP ([`Tap::open_queues`]): each has an interrupt of its own, the
    /// first on the CPU that `spec` names, the others on those behind it in turn. A queue's descriptor
    /// is watched by the CPU that takes its interrupt and follows the interrupt's affinity.
    ///
    /// # Errors
    /// [`RuntimeError`]; then the TAP is closed. EINVAL without a queue.
    pub fn add_tap_queues(
        &mut self,
        taps: Vec<Tap>,
        spec: TapSpec,
    ) -> Result<Arc<NetDevice>, RuntimeError> {
        let name = taps.first().map_or_else(String::new, |tap| tap.name().to_owned());
        let device = |errno| RuntimeError::Device { name: name.clone(), errno };
        let first = usize::from(spec.cpu.0);
        let idle = self.idle.get(first).ok_or(device(Errno::EINVAL))?;
        let watch = LinkWatch::new().map_err(system("watching the link (a netlink socket)"))?;
        let mut ports = Ports(Vec::new());
        for (queue, tap) in taps.into_iter().enumerate() {
            let cpu = (first + queue) % self.idle.len();
            let port = HostTap::register(tap, &self.idle, cpu);
            ports.0.push(port.map_err(system("watching the TAP"))?);
        }
        let mut cx = self.task("init");
        let tun_spec = TunSpec { name: name.clone(), addr: spec.addr, mtu: spec.mtu };
        let shared = ports.0.iter().map(|port| Arc::clone(port) as Arc<dyn TapPort>).collect();
        let tun = tun_set_iff(&mut cx, shared, tun_spec).map_err(device)?;
        let here = |line: &IrqLine, cpu: usize| {
            if let Some(desc) = line.desc() {
                let here = CpuMask::from_bits(1 << (cpu % self.idle.len()));
                desc.set_affinity(here).expect("the CPU exists: its thread was found");
            }
        };
        here(&tun.link_irq, first);
        for (queue, (line, port)) in tun.irqs.iter().zip(&ports.0).enumerate() {
            here(line, first + queue);
            port.connect(line.clone());
        }
        match LinkSource::register(watch, tun.link_irq.clone(), idle) {
            Ok(link) => {
                let dev = Arc::clone(&tun.dev);
                let ports = std::mem::take(&mut ports.0);
                self.taps.push(TapDevice { tun, ports, link });
                Ok(dev)
            }
            Err(e) => {
                // The descriptors go first: then no interrupt of theirs comes.
                drop(ports);
                tun_detach(&mut cx, tun);
                Err(system("watching the link")(e))
            }
        }
    }

    /// The host side of the TAP of this name, asked now; the device's carrier follows it a moment
    /// later. `None` when no TAP of this machine has the name.
    #[must_use]
    pub fn tap_link(&self, name: &str) -> Option<TapLink> {
        let mut ports = self.taps.iter().filter_map(|device| device.ports.first());
        let found = ports.find(|port| port.tap.name() == name)?;
        Some(match found.tap.link_up() {
            Ok(true) => TapLink::Up,
            Ok(false) => TapLink::Down,
            Err(_) => TapLink::Gone,
        })
    }

    /// Ends the tasks, closes the devices, stops the threads.
    ///
    /// # Errors
    /// [`RuntimeError::TaskPanicked`]; everything is down all the same.
    pub fn shutdown(mut self) -> Result<(), RuntimeError> {
        match self.take_down() {
            None => Ok(()),
            Some(comm) => Err(RuntimeError::TaskPanicked(comm)),
        }
    }

    /// The first task that panicked.
    fn take_down(&mut self) -> Option<String> {
        for task in &self.tasks {
            task.interrupt();
        }
        let mut panicked = None;
        for task in self.tasks.drain(..) {
            let comm = task.task.comm.clone();
            if !task.join() {
                panicked.get_or_insert(comm);
            }
        }
        let mut cx = self.task("exit");
        cleanup_net(&mut cx);
        for TapDevice { tun, ports, link } in self.taps.drain(..) {
            link.unregister();
            tun_detach(&mut cx, tun);
            drop(Ports(ports));
        }
        drop(cx);
        for idle in self.idle.iter() {
            idle.stop();
        }
        for thread in self.threads.drain(..) {
            // Its loop catches every panic; one that got through has been reported already.
            let _ = thread.join();
        }
        // What lies in the CPUs' queues is worked off here: nobody else will. Not for ever, should two sockets
        // answer each other.
        const ROUNDS: usize = 64;
        let _idle = self.m.run_until_idle(ROUNDS);
        panicked
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime({:?}, {} TAPs)", self.m, self.taps.len())
    }
}

#[cfg(test)]
mod leading;
#[cfg(test)]
mod tests;
