//! The walk: which stations a packet, an interrupt or a call passed, when, where and how it ended.
//!
//! linux: kernel/trace, include/trace/events/{net,napi,skb,irq}.h.
//! Key types: [`Tracer`], [`Record`], [`events::Point`], [`drop_reason::DropReason`].
//! Contexts: recording in all; reading from tasks. Locks: `class::Trace`, a ring's.
//! Invariants: off costs one test and one branch a station, arguments are evaluated only when the
//! packet or span is watched; nothing is recorded without an id; lost records are counted.

pub mod drop_reason;
pub mod events;

use crate::kernel::bpf::{BpfProg, BpfSource};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use drop_reason::DropReason;
use events::Point;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where code runs when it leaves a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Context {
    /// A system call.
    Task,
    /// A task with bottom halves disabled.
    Bh,
    /// A softirq run on the way out of an interrupt or of a BH section.
    Softirq,
    /// A softirq run by ksoftirqd.
    Ksoftirqd,
    /// A hard interrupt.
    Hardirq,
}

impl Context {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Bh => "bh",
            Self::Softirq => "softirq",
            Self::Ksoftirqd => "ksoftirqd",
            Self::Hardirq => "hardirq",
        }
    }
}

/// Names a packet or a span within a world: the machine in the high 16 bits, a count below.
/// Zero is "not watched".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WalkId(pub u64);

impl WalkId {
    /// Not watched.
    pub const NONE: Self = Self(0);

    /// Records are wanted for it.
    #[inline(always)]
    pub const fn watched(self) -> bool {
        self.0 != 0
    }
}

/// What a record says beside its place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in nanoseconds of the machine's clock.
    pub time: Ktime,
    /// The packet or span.
    pub id: WalkId,
    /// The station-specific argument: a drop reason, the linked id, a count; zero when unused.
    pub arg: u64,
    /// The packet's length in bytes at this station (saturated), zero for a span.
    pub len: u16,
    /// The device's index, zero for none.
    pub dev: u16,
    /// The station.
    pub point: Point,
    /// The virtual CPU.
    pub cpu: u8,
    /// The context.
    pub context: Context,
}

const _: () = assert!(size_of::<Record>() == 32);

impl Record {
    /// The reason, when this record is a drop.
    pub fn drop_reason(&self) -> Option<DropReason> {
        match self.point {
            Point::kfree_skb => DropReason::ALL.get(usize::try_from(self.arg).ok()?).copied(),
            _ => None,
        }
    }

    /// The id that this record links to, when it is a link.
    pub fn link(&self) -> Option<WalkId> {
        matches!(self.point, Point::link_span | Point::link_clone | Point::link_merge)
            .then_some(WalkId(self.arg))
    }
}

/// The front of a watched packet, as an Ethernet frame: to tell which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkHead {
    /// Octets in all.
    pub len: u32,
    /// The first of them, [`WalkHead::MOST`] at the most.
    pub octets: Vec<u8>,
}

impl WalkHead {
    /// Octets that are kept.
    pub const MOST: usize = 96;

    fn of<S: BpfSource + ?Sized>(packet: &S) -> Self {
        let octet = |at| packet.octets::<1>(at).map(|[octet]| octet);
        let octets = (0..Self::MOST as i32).map_while(octet).collect();
        Self { len: packet.len(), octets }
    }
}

/// Fronts that are kept until they are taken; the oldest go.
const HEADS: usize = 4096;

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Record>,
    lost: u64,
}

/// The machine's recorder: the switch, the filter, the ids and a ring per CPU.
#[derive(Debug)]
pub struct Tracer {
    on: AtomicBool,
    next: AtomicU64,
    prefix: u64,
    capacity: usize,
    /// What of all packets is watched; none: each.
    filter: SpinLock<Option<BpfProg>, class::Trace>,
    /// Who watches asks for fronts too.
    with_heads: AtomicBool,
    heads: SpinLock<VecDeque<(WalkId, WalkHead)>, class::Trace>,
    rings: Box<[SpinLock<Ring, class::Trace>]>,
}

impl Tracer {
    /// Records a ring holds when nothing else is said: 2 MiB per CPU, allocated as used.
    pub const RING: usize = 65_536;

    /// A recorder for `cpus` CPUs, switched off; `machine` makes its ids unique within a world.
    pub fn new(machine: u16, cpus: usize, capacity: usize) -> Self {
        Self {
            on: AtomicBool::new(false),
            next: AtomicU64::new(1),
            prefix: u64::from(machine) << 48,
            capacity,
            filter: SpinLock::default(),
            with_heads: AtomicBool::new(false),
            heads: SpinLock::default(),
            rings: (0..cpus).map(|_| SpinLock::default()).collect(),
        }
    }

    /// Starts watching the packets that `filter` wants, as Ethernet frames; without one: all.
    pub fn start(&self, filter: Option<BpfProg>) {
        *self.filter.lock() = filter;
        self.on.store(true, Ordering::Release);
    }

    /// Stops watching new packets and spans; those already marked go on.
    pub fn stop(&self) {
        self.on.store(false, Ordering::Release);
    }

    /// Somebody watches.
    #[inline(always)]
    pub fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// A new id if somebody watches, else [`WalkId::NONE`].
    #[inline]
    pub fn span(&self) -> WalkId {
        if self.on() { self.fresh() } else { WalkId::NONE }
    }

    /// A new id if somebody watches and the filter wants the packet, which it is shown only then.
    #[inline]
    pub fn packet<S: BpfSource + ?Sized>(&self, packet: &S) -> WalkId {
        if self.on() { self.packet_slow(packet) } else { WalkId::NONE }
    }

    #[cold]
    fn packet_slow<S: BpfSource + ?Sized>(&self, packet: &S) -> WalkId {
        let filter = self.filter.lock().clone();
        if filter.is_some_and(|program| program.bpf_prog_run(packet) == 0) {
            return WalkId::NONE;
        }
        let id = self.fresh();
        if self.with_heads.load(Ordering::Relaxed) {
            let head = WalkHead::of(packet);
            let mut heads = self.heads.lock();
            if heads.len() == HEADS {
                heads.pop_front();
            }
            heads.push_back((id, head));
        }
        id
    }

    /// From now on the fronts of packets are kept, or no more.
    pub fn keep_heads(&self, on: bool) {
        self.with_heads.store(on, Ordering::Relaxed);
        self.heads.lock().clear();
    }

    /// Takes the fronts of the packets that were marked since the last time.
    pub fn take_heads(&self) -> VecDeque<(WalkId, WalkHead)> {
        std::mem::take(&mut *self.heads.lock())
    }

    /// A new id.
    #[cold]
    pub fn fresh(&self) -> WalkId {
        WalkId(self.prefix | self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Appends to the ring of the record's CPU; the oldest goes, counted, when it is full.
    #[cold]
    pub fn record(&self, record: Record) {
        let Some(ring) = self.rings.get(usize::from(record.cpu)) else { return };
        let mut ring = ring.lock();
        if ring.records.len() >= self.capacity {
            ring.records.pop_front();
            ring.lost += 1;
        }
        ring.records.push_back(record);
    }

    /// Takes all records, ordered by `(time, cpu, sequence)`, and the number lost since the last
    /// time.
    pub fn take(&self) -> (Vec<Record>, u64) {
        let mut all = Vec::new();
        let mut lost = 0;
        for ring in &self.rings {
            let mut ring = ring.lock();
            lost += std::mem::take(&mut ring.lost);
            all.extend(ring.records.drain(..));
        }
        // Stable: records of one CPU at one time keep their sequence.
        all.sort_by_key(|record| (record.time, record.cpu));
        (all, lost)
    }
}

/// Stations are built in. Not with `default-features = false`; and because every crate of the
/// workspace asks for the default, `--cfg netkeel_no_walk` takes them out of all at once, which is
/// how a bench finds out what they cost.
pub const COMPILED: bool = cfg!(feature = "walk") && !cfg!(netkeel_no_walk);

/// Leaves a record at a station.
///
/// `walk!(cx, skb, ip_rcv)` records on the packet, or on each of a list
/// ([`SkbList`](crate::net::core::skbuff::SkbList)); `walk!(cx, net_rx_action)` on the span the
/// context belongs to; a last `=> value` adds the argument, evaluated only when watched.
#[macro_export]
macro_rules! walk {
    ($cx:expr, $skb:expr, $point:ident) => { $crate::walk!($cx, $skb, $point => 0) };
    ($cx:expr, $skb:expr, $point:ident => $arg:expr) => {
        if $crate::kernel::trace::COMPILED && $skb.walk_id.watched() {
            #[allow(unused_imports)]
            use $crate::kernel::context::Walker as _;
            $skb.each_watched(|skb| {
                $cx.walk_packet(skb, $crate::kernel::trace::events::Point::$point, $arg);
            });
        }
    };
    ($cx:expr, $point:ident) => { $crate::walk!($cx, $point => 0) };
    ($cx:expr, $point:ident => $arg:expr) => {
        {
            #[allow(unused_imports)]
            use $crate::kernel::context::Walker as _;
            if $crate::kernel::trace::COMPILED && $cx.span().watched() {
                $cx.walk_span($crate::kernel::trace::events::Point::$point, $arg);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use uapi::filter::*;

    fn record(time: u64, cpu: u8, arg: u64) -> Record {
        Record {
            time: Ktime(time),
            id: WalkId(1),
            arg,
            len: 0,
            dev: 0,
            point: Point::ip_rcv,
            cpu,
            context: Context::Softirq,
        }
    }

    #[test]
    fn off_gives_no_ids() {
        let tracer = Tracer::new(1, 1, 8);
        assert!(!tracer.span().watched());
        assert!(!tracer.packet(&[0_u8; 60][..]).watched());
    }

    #[test]
    fn the_filter_decides_who_is_watched() {
        let tracer = Tracer::new(1, 1, 8);
        // Frames whose first octet is 7.
        let load = SockFilter::stmt(BPF_LD | BPF_B | BPF_ABS, 0);
        let jump = SockFilter::jump(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1);
        let ends = [1, 0].map(|len| SockFilter::stmt(BPF_RET | BPF_K, len));
        tracer.start(Some(BpfProg::checked(&[load, jump, ends[0], ends[1]])));
        assert!(tracer.packet(&[7][..]).watched());
        assert!(!tracer.packet(&[8][..]).watched());
        assert!(!tracer.packet(&[][..]).watched());
    }

    #[test]
    fn records_come_in_order_and_losses_are_counted() {
        let tracer = Tracer::new(1, 2, 2);
        for (time, cpu, arg) in [(5, 1, 0), (1, 0, 1), (5, 0, 2), (5, 0, 3)] {
            tracer.record(record(time, cpu, arg));
        }
        let (records, lost) = tracer.take();
        assert_eq!(records.iter().map(|r| r.arg).collect::<Vec<_>>(), [2, 3, 0]);
        assert_eq!(lost, 1);
        assert_eq!(tracer.take(), (Vec::new(), 0));
    }
}
