//! A virtual CPU: what its holder has to itself, and what others may touch.
//!
//! linux: include/linux/percpu.h, kernel/cpu.c. Key types: [`Cpu`], [`CpuLocal`], `Stay`.
//! Contexts: all. Locks: the CPU itself, `class::Cpu`.
//! Invariants: [`CpuLocal`] is exclusive to the one inside; nobody leaves with an interrupt unseen
//! that came in during the stay; wake-ups fire after the CPU was left.

pub mod hotplug;

use crate::kernel::context::{BhCx, HardirqCx};
use crate::kernel::hrtimer::HrtimerCpuBase;
use crate::kernel::irq::{Irq, NR_IRQS, handle_irq};
use crate::kernel::locking::cpu_cell::{CpuCell, CpuHeld, Left};
use crate::kernel::machine::Machine;
use crate::kernel::rcupdate::Tables;
use crate::kernel::remote_queue::RemoteQueue;
use crate::kernel::smpboot::{SmpHotplugThread, smpboot_thread_fn};
use crate::kernel::softirq::{__do_softirq, Softirq, SoftirqState};
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerBase;
use crate::kernel::trace::{Context, WalkId};
use crate::net::core::dev::SoftnetData;
use crate::net::core::skbuff::{Skb, SkbPool};
use crate::net::core::snmp::NetMib;
use crate::net::core::sock::WmemCharges;
use crate::net::ipv4::route::RouteCache;
use crate::net::ipv4::udp::SockCache;
use crate::net::net_namespace::NetId;
use klib::bitmap::AtomicBitmap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A virtual CPU's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub u8);

/// A virtual CPU as its machine sees it: what others may touch, and the cell of the rest.
// Neighbours share no cache line, nor the pair of lines that processors fetch together.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cpu {
    pub(crate) local: CpuCellOf,
    /// Interrupts raised and not yet handled here.
    pub(crate) irqs_pending: AtomicBitmap<{ NR_IRQS / 64 }>,
    /// Packets that other CPUs leave to this one.
    pub(crate) backlog: RemoteQueue<Skb>,
}

/// The cell of a CPU's exclusive part.
pub(crate) type CpuCellOf = CpuCell<CpuLocal>;

/// What the holder of a CPU has to itself.
#[derive(Debug)]
pub struct CpuLocal {
    /// Number.
    pub(crate) id: CpuId,
    pub(crate) softirq: SoftirqState,
    pub(crate) threads: Vec<SmpHotplugThread>,
    pub(crate) timers: TimerBase,
    pub(crate) hrtimers: HrtimerCpuBase,
    pub(crate) softnet: SoftnetData,
    pub(crate) pool: SkbPool,
    /// Counters of the namespace that it works in, or did last.
    pub(crate) mib: Box<NetMib>,
    /// Whose those are.
    mib_net: NetId,
    /// Those of the others, by number; whose are in use has an empty place.
    other_mibs: Vec<Option<Box<NetMib>>>,
    pub(crate) routes: RouteCache,
    pub(crate) socks: SockCache,
    pub(crate) rng: klib::random::Csprng,
    /// Send-buffer charges whose packets are gone, kept for this stay.
    pub(crate) wmem: WmemCharges,
    /// Sockets whose packets have left and that may send on.
    pub(crate) tsq: Vec<Arc<crate::net::core::sock::Sock>>,
    /// Pages that this CPU took from TCP's account, or gave back, and the account does not know of yet.
    ///
    /// linux: include/net/sock.h:proto (`per_cpu_fw_alloc`)
    pub(crate) tcp_fw_alloc: i64,
    /// Down: tasks that enter go elsewhere ([`hotplug`]).
    offline: bool,
    /// Calls whose memory is free again, kept for this stay.
    pub(crate) zerocopied: Vec<crate::net::core::skbuff::UbufInfo>,
    /// Times of sending that are to be told, kept for this stay.
    pub(crate) tx_stamps: Vec<crate::net::core::timestamping::TxStamp>,
    /// There are some of either.
    pub(crate) to_tell: bool,
    /// The stay has something to settle at its end: one of those three, or a qdisc that it runs.
    pub(crate) unsettled: bool,
    /// Fired after the CPU is left.
    pub(crate) wakeups: Vec<Waker>,
    /// The tables as last read; lent to the context during a stay.
    tables: Option<Arc<Tables>>,
}

impl Drop for Cpu {
    fn drop(&mut self) {
        // The machine goes away whole, and what was under way with it.
        for skb in self.backlog.get_mut().drain(..) {
            skb.forget_at_exit();
        }
    }
}

impl CpuLocal {
    pub(crate) fn new(
        id: CpuId,
        now: Ktime,
        pool: SkbPool,
        tables: Arc<Tables>,
        seed: [u8; 32],
    ) -> Self {
        Self {
            id,
            softirq: SoftirqState::default(),
            threads: Vec::new(),
            timers: TimerBase::new(now),
            hrtimers: HrtimerCpuBase::default(),
            softnet: SoftnetData::new(),
            pool,
            mib: Box::default(),
            mib_net: NetId::INIT,
            other_mibs: Vec::new(),
            routes: RouteCache::default(),
            socks: SockCache::default(),
            rng: klib::random::Csprng::from_seed(seed),
            wmem: WmemCharges::default(),
            tsq: Vec::new(),
            tcp_fw_alloc: 0,
            offline: false,
            zerocopied: Vec::new(),
            tx_stamps: Vec::new(),
            to_tell: false,
            unsettled: false,
            wakeups: Vec::new(),
            tables: Some(tables),
        }
    }

    /// What is counted from now on is another namespace's.
    #[inline(always)]
    pub(crate) fn count_for(&mut self, net: NetId) {
        if self.mib_net != net {
            self.count_for_another(net);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_for_another(&mut self, net: NetId) {
        let (before, now) = (usize::from(self.mib_net.0), usize::from(net.0));
        if self.other_mibs.len() <= before.max(now) {
            self.other_mibs.resize_with(before.max(now) + 1, || None);
        }
        let mib = self.other_mibs[now].take().unwrap_or_default();
        self.other_mibs[before] = Some(std::mem::replace(&mut self.mib, mib));
        self.mib_net = net;
    }

    /// A namespace's counters here; `None`: nothing was counted.
    pub(crate) fn mib_of(&self, net: NetId) -> Option<&NetMib> {
        if self.mib_net == net {
            return Some(&self.mib);
        }
        self.other_mibs.get(usize::from(net.0))?.as_deref()
    }

    /// A namespace is gone, and its counters with it.
    pub(crate) fn forget_mib(&mut self, net: NetId) {
        self.count_for(NetId::INIT);
        if let Some(slot) = self.other_mibs.get_mut(usize::from(net.0)) {
            *slot = None;
        }
    }
}

/// What a stay on a CPU is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) context: Context,
    pub(crate) span: WalkId,
    /// It begins in this namespace.
    pub(crate) net: NetId,
}

/// So long somebody who leaves stays out for one who waits: he may have lost his processor.
const GIVE_WAY: Duration = Duration::from_micros(60);

/// When a CPU wants to be run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// The wheel's next tick, or the next timer of nanoseconds.
    pub deadline: Option<Ktime>,
    /// Something is pending now: interrupts, softirqs, or ksoftirqd's share.
    pub pending: bool,
    /// ksoftirqd was woken and has not run since.
    pub ksoftirqd: bool,
    /// Packets received in this run.
    pub received: u64,
}

/// The stay of one runner on a CPU. [`Stay::leave`] ends it; an unwinding stay frees the CPU.
pub(crate) struct Stay<'m> {
    m: &'m Machine,
    cpu: &'m Cpu,
    held: CpuHeld<'m, CpuLocal>,
    tables: Arc<Tables>,
}

impl Machine {
    /// Enters a CPU, waiting for whoever is inside.
    #[inline(always)]
    pub(crate) fn enter(&self, cpu: CpuId) -> Stay<'_> {
        let cpu = &self.cpus[usize::from(cpu.0)];
        let mut held = match cpu.local.try_enter() {
            Some(held) => held,
            None => self.enter_contended(cpu),
        };
        let tables = match held.tables.take() {
            Some(tables) if tables.generation == self.tables.generation() => tables,
            old => self.renew(old),
        };
        Stay { m: self, cpu, held, tables }
    }

    #[cold]
    #[inline(never)]
    fn enter_contended<'m>(&self, cpu: &'m Cpu) -> CpuHeld<'m, CpuLocal> {
        cpu.local.enter(|spins| self.platform.relax(spins))
    }

    /// The latest tables, in the place of what a CPU had.
    #[cold]
    #[inline(never)]
    fn renew(&self, old: Option<Arc<Tables>>) -> Arc<Tables> {
        drop(old);
        self.tables.load()
    }

    /// Runs a CPU once, as its idle loop does after a wake-up: pending interrupts, the timer tick,
    /// softirqs. Returns when it wants to be run again.
    pub fn run_cpu(&self, cpu: CpuId) -> Next {
        let mut stay = self.enter(cpu);
        let before = stay.held.softnet.processed;
        let now = stay.interrupts();
        stay.tick(now);
        stay.leave_with(|local| Next::of(local, before))
    }

    /// Runs all CPUs, ksoftirqd's share too, until nothing is pending on any of them; false when after so many
    /// rounds something still is. Timers that expire later are not waited for.
    pub fn run_until_idle(&self, rounds: usize) -> bool {
        for _ in 0..rounds {
            let mut pending = false;
            for cpu in self.cpu_ids() {
                let next = self.run_cpu(cpu);
                pending |= next.pending;
                if next.ksoftirqd {
                    pending |= self.run_ksoftirqd(cpu).pending;
                }
            }
            if !pending {
                return true;
            }
        }
        false
    }

    /// Runs the CPU's ksoftirqd once: one round of what it should run.
    pub fn run_ksoftirqd(&self, cpu: CpuId) -> Next {
        self.charge_cpu();
        let mut stay = self.enter(cpu);
        let before = stay.held.softnet.processed;
        stay.with_bh(Context::Ksoftirqd, true, |cx| {
            smpboot_thread_fn(cx);
        });
        stay.leave_with(|local| Next::of(local, before))
    }

    /// Word lies for a CPU on which nobody is.
    pub fn cpu_kicked(&self, cpu: CpuId) -> bool {
        self.cpus[usize::from(cpu.0)].local.kicked_idle()
    }

    /// Leaves word for a CPU and wakes whoever sleeps for it.
    pub(crate) fn kick(&self, cpu: CpuId) {
        if self.cpus[usize::from(cpu.0)].local.kick() {
            self.platform.wake_cpu(cpu);
        }
    }
}

/// Runs what is raised; the clock as last read there.
// No closure: it would be a call of its own.
#[inline(always)]
fn do_softirq(m: &Machine, cpu: &mut CpuLocal, t: &Tables, span: WalkId) -> Ktime {
    let (now, context) = (Ktime::ZERO, Context::Softirq);
    let mut cx = BhCx { m, t, root: t, cpu, now, span, context };
    cx.cpu.count_for(NetId::INIT);
    cx.refresh_now();
    __do_softirq(&mut cx);
    let now = cx.now;
    cx.end_section();
    now
}

#[inline(never)]
fn softirqs_raised<'m>(
    m: &Machine,
    mut held: CpuHeld<'m, CpuLocal>,
    t: &Tables,
    span: WalkId,
) -> CpuHeld<'m, CpuLocal> {
    do_softirq(m, &mut held, t, span);
    held
}

impl<'m> Stay<'m> {
    /// The CPU is down.
    #[inline(always)]
    pub(crate) fn offline(&self) -> bool {
        self.held.offline
    }

    /// Reads or changes the CPU's own part.
    pub(crate) fn local<R>(&mut self, f: impl FnOnce(&mut CpuLocal) -> R) -> R {
        f(&mut self.held)
    }

    /// Calls `f` with the bottom-half context of this stay. `fresh`: read the clock now.
    #[inline]
    pub(crate) fn with_bh<R>(
        &mut self,
        context: Context,
        fresh: bool,
        f: impl FnOnce(&mut BhCx<'_>) -> R,
    ) -> R {
        let section = Section { context, span: self.m.tracer.span(), net: NetId::INIT };
        self.with_bh_span(section, |cx| {
            if fresh {
                cx.refresh_now();
            }
            f(cx)
        })
    }

    /// The same, within a span that goes on.
    #[inline]
    pub(crate) fn with_bh_span<R>(
        &mut self,
        section: Section,
        f: impl FnOnce(&mut BhCx<'_>) -> R,
    ) -> R {
        let (m, now, root) = (self.m, Ktime::ZERO, &*self.tables);
        let Section { context, span, net } = section;
        let t = if net == NetId::INIT { root } else { root.of(net).unwrap_or(root) };
        let mut cx = BhCx { m, t, root, cpu: &mut self.held, now, span, context };
        cx.cpu.count_for(t.ns.id);
        let result = f(&mut cx);
        cx.end_section();
        result
    }

    /// Handles the pending interrupts, and on the way out what they raised: the time, if that read it.
    #[inline(always)]
    pub(crate) fn interrupts(&mut self) -> Option<Ktime> {
        // Whoever is here has taken the kick already: on entering, or where leaving failed.
        let m = self.m;
        let mut taken = self.cpu.irqs_pending.take_all();
        let mut irq = taken.next()?;
        m.charge_cpu();
        let span = m.tracer.span();
        let mut cx = HardirqCx { m, t: &self.tables, cpu: &mut self.held, span, now: Ktime::ZERO };
        loop {
            handle_irq(&mut cx, Irq(irq as u8));
            let Some(next) = taken.next() else { break };
            irq = next;
            cx.now = Ktime::ZERO;
        }
        self.irq_exit(span)
    }

    /// The timer interrupt, when the wheel's tick has come: at `now`, or at present. One that comes
    /// while what was raised runs is in the time told to the one who idles, and so not late.
    fn tick(&mut self, now: Option<Ktime>) {
        let next = earlier(self.held.timers.next_expiry(), self.held.hrtimers.next_event());
        if let Some(at) = next {
            let now = now.unwrap_or_else(|| self.m.platform.ktime_get());
            if at <= now {
                self.timer_interrupt(now);
            }
        }
    }

    #[cold]
    fn timer_interrupt(&mut self, now: Ktime) {
        if self.held.timers.next_expiry().is_some_and(|at| at <= now) {
            self.held.softirq.pending |= 1 << Softirq::Timer as u32;
        }
        if self.held.hrtimers.due(now) {
            self.held.softirq.pending |= 1 << Softirq::Hrtimer as u32;
        }
        let span = self.m.tracer.span();
        self.irq_exit(span);
    }

    /// Runs what is raised and not ksoftirqd's: the clock as last read there, if something was.
    #[inline(always)]
    fn irq_exit(&mut self, span: WalkId) -> Option<Ktime> {
        if self.held.softirq.runnable() == 0 {
            return None;
        }
        Some(do_softirq(self.m, &mut self.held, &self.tables, span))
    }

    /// The same for a task: mostly nothing is raised.
    // By value and in parts: what is lent to a call would have to lie in memory for each stay.
    #[inline(always)]
    pub(crate) fn softirqs(self, span: WalkId) -> Self {
        let Self { m, cpu, mut held, tables } = self;
        if held.softirq.runnable() != 0 {
            held = softirqs_raised(m, held, &tables, span);
        }
        Self { m, cpu, held, tables }
    }

    /// Leaves, handling what came in during the stay, then fires the wake-ups. Wakes the CPU's
    /// idle runner if it has to come sooner than it knows: an earlier timer, work for ksoftirqd.
    #[inline]
    pub(crate) fn leave(self) {
        let (m, cpu) = (self.m, self.held.id);
        if self.leave_with(|local| {
            local.timers.sooner() | local.hrtimers.sooner() | local.softirq.ksoftirqd_woken
        }) {
            m.platform.wake_cpu(cpu);
        }
    }

    /// Leaves with what `last` reads at the end.
    #[inline(always)]
    fn leave_with<R>(self, last: impl Fn(&mut CpuLocal) -> R) -> R {
        let Self { m, cpu, mut held, tables } = self;
        if !held.wakeups.is_empty() {
            return Self { m, cpu, held, tables }.leave_waking(last);
        }
        let result = last(&mut held);
        // None is there: entering took them. To forget what is not there spares each stay a look.
        std::mem::forget(held.tables.replace(tables));
        match held.leave() {
            Ok(()) => result,
            Err(left) => match Self::leave_noticed(m, cpu, left, Wakeups::default()) {
                Ok(()) => result,
                Err(stay) => stay.leave_waking(last),
            },
        }
    }

    /// Leaves with wake-ups to fire: behind the CPU, so that who wakes finds it free.
    #[inline(never)]
    fn leave_waking<R>(self, last: impl Fn(&mut CpuLocal) -> R) -> R {
        let mut stay = self;
        loop {
            let Self { m, cpu, mut held, tables } = stay;
            let result = last(&mut held);
            let wakeups = Wakeups::take(&mut held.wakeups);
            held.tables = Some(tables);
            match held.leave() {
                Ok(()) => {
                    wakeups.fire();
                    return result;
                }
                Err(left) => match Self::leave_noticed(m, cpu, left, wakeups) {
                    Ok(()) => return result,
                    Err(again) => stay = again,
                },
            }
        }
    }

    /// Leaving was noticed from outside. A kick: its interrupts are handled, and the stay goes on, to
    /// be left once more. Somebody waits: the wake-ups are fired, and he gets in before we return.
    #[cold]
    fn leave_noticed(
        m: &'m Machine,
        cpu: &'m Cpu,
        left: Left<'m, CpuLocal>,
        wakeups: Wakeups,
    ) -> Result<(), Self> {
        match left {
            Left::Kicked(mut held) => {
                wakeups.put_back(&mut held.wakeups);
                let tables = held.tables.take().unwrap_or_else(|| m.tables.load());
                let mut stay = Self { m, cpu, held, tables };
                stay.interrupts();
                Err(stay)
            }
            Left::Wanted => {
                wakeups.fire();
                let until = m.platform.ktime_get() + GIVE_WAY;
                cpu.local.give_way(|spins| {
                    m.platform.relax(spins);
                    m.platform.ktime_get() < until
                });
                Ok(())
            }
        }
    }
}

/// Wake-ups taken out of a CPU, to be fired behind it. One alone, as nearly always, leaves the list there
/// its memory.
#[derive(Default)]
struct Wakeups {
    before: Vec<Waker>,
    last: Option<Waker>,
}

impl Wakeups {
    fn take(list: &mut Vec<Waker>) -> Self {
        let last = list.pop();
        let before = if list.is_empty() { Vec::new() } else { std::mem::take(list) };
        Self { before, last }
    }

    #[inline]
    fn put_back(self, list: &mut Vec<Waker>) {
        if let Some(last) = self.last {
            list.extend(self.before);
            list.push(last);
        }
    }

    #[inline]
    fn fire(self) {
        if let Some(last) = self.last {
            self.before.into_iter().for_each(Waker::wake);
            last.wake();
        }
    }
}

/// The earlier of two times, if there is one.
#[inline]
fn earlier(one: Option<Ktime>, other: Option<Ktime>) -> Option<Ktime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Next {
    /// After a run before which `before` packets had been received.
    fn of(local: &mut CpuLocal, before: u64) -> Self {
        Self {
            deadline: earlier(local.timers.tell(), local.hrtimers.tell()),
            pending: local.softirq.runnable() != 0,
            ksoftirqd: local.softirq.ksoftirqd_woken,
            received: local.softnet.processed.wrapping_sub(before),
        }
    }
}
