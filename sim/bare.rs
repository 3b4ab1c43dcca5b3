//! A machine that no world drives: one CPU, one device, a clock that ticks by being read.
//!
//! It is what the benches measure: nothing runs but the stack, when its owner says so. Key types: [`Host`],
//! [`Device`]. Contexts: the calling thread.

use drivers::net::ethernet::intel::igb::{IgbOptions, igb_probe};
use drivers::net::loopback::loopback_init;
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::WirePort;
use drivers::pci::DmaSpace;
use hw::igb::I82576;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::{Machine, Platform};
use stack::kernel::sched::{Operation, TaskStruct};
use stack::kernel::time::Ktime;
use stack::net::core::dev::{NetDevice, NetdevFeatures, dev_open};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

/// What a device may map for DMA.
const DMA_LIMIT: usize = 64 << 20;

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A netdev directly on the wire.
    Wire,
    /// The igb driver on a model of the 82576 on the wire.
    Igb,
}

impl Device {
    /// The device of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "wire" => Some(Self::Wire),
            "igb" => Some(Self::Igb),
            _ => None,
        }
    }
}

/// A clock that costs nothing worth counting: it ticks by being read.
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

/// The address of a machine's first device.
#[must_use]
pub fn mac(id: u16) -> [u8; 6] {
    [2, 0, 0, 0, 0, id as u8 + 1]
}

/// A machine, a task on it, and the model its device stands on, if it has one.
#[derive(Debug)]
pub struct Host {
    /// The machine.
    pub machine: Arc<Machine>,
    /// Its task.
    pub task: TaskCx,
    /// What an igb stands on.
    pub model: Option<Arc<I82576>>,
}

impl Host {
    /// Booted, its device up and its neighbour known. `id` is 0 or 1: the other is the neighbour.
    ///
    /// # Panics
    /// When something can't be had that a machine alone always gets.
    pub fn new(id: u16, device: Device, port: Arc<dyn WirePort>, addrs: [Ipv4Addr; 2]) -> Self {
        let machine = Machine::builder()
            .id(id)
            .module_init(loopback_init)
            .boot(Box::new(BenchClock(AtomicU64::new(1_000_000_000))))
            .expect("boots");
        let mut cx = TaskCx::new(&machine, TaskStruct::new("bench", CpuId(0)));
        let mut model = None;
        let dev = match device {
            Device::Wire => wire_probe(&mut cx, "eth%d", mac(id), port).expect("registered"),
            Device::Igb => {
                let pdev = I82576::new(mac(id), port, DmaSpace::new(DMA_LIMIT));
                model = Some(Arc::clone(&pdev));
                igb_probe(&mut cx, pdev, IgbOptions::default()).expect("registered")
            }
        };
        bring_up(&mut cx, &dev, addrs, mac(1 - id));
        if device == Device::Wire {
            // The first machine opens before its peer is there to say that it takes open sums.
            dev.set_features(dev.features() | NetdevFeatures::HW_CSUM);
        }
        Self { machine, task: cx, model }
    }

    /// The model's time passes.
    pub fn advance(&self, now: u64) {
        if let Some(model) = &self.model {
            model.advance(now);
        }
    }
}

/// A device with an address, up, and its neighbour known.
///
/// # Panics
/// When the address is no host's, or the machine is out of memory.
pub fn bring_up(cx: &mut TaskCx, dev: &Arc<NetDevice>, addrs: [Ipv4Addr; 2], peer: [u8; 6]) {
    inet_insert_ifa(cx, dev, IfAddr::new(addrs[0], 24).expect("a host")).expect("added");
    dev_open(cx, dev).expect("opens");
    let key = NeighKey { dev: dev.ifindex, addr: addrs[1].into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(cx, key, peer, state).expect("added");
}

/// A call that does not wait: part of its caller, whose cost is measured.
///
/// # Panics
/// When it would wait.
#[inline(always)]
pub fn ready<O: Operation>(cx: &mut TaskCx, mut op: O) -> O::Output {
    match op.poll(cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}
