//! Which context code runs in, as a type: hard interrupt, bottom half, task.
//!
//! linux: include/linux/preempt_mask.h (`in_irq`, `in_softirq`), include/linux/bottom_half.h.
//! Key types: [`HardirqCx`], [`BhCx`], [`TaskCx`], [`Walker`].
//! Invariants: whatever sleeps takes `&mut TaskCx`, and a [`BhCx`] borrows it, so sleeping with
//! bottom halves off, in a softirq, or disabling them twice does not compile:
//!
//! ```compile_fail,E0499
//! # use stack::kernel::context::TaskCx;
//! fn twice(cx: &mut TaskCx) {
//!     cx.local_bh_disable(|_bh| cx.local_bh_disable(|_again| ()));
//! }
//! ```
//! ```compile_fail,E0308
//! # use stack::kernel::context::{BhCx, TaskCx};
//! fn sleeps(_cx: &mut TaskCx) {}
//! fn softirq(cx: &mut BhCx<'_>) {
//!     sleeps(cx);
//! }
//! ```
//! ```compile_fail,E0499
//! # use stack::kernel::context::TaskCx;
//! fn sleeps(_cx: &mut TaskCx) {}
//! fn in_a_section(cx: &mut TaskCx) {
//!     cx.local_bh_disable(|_bh| sleeps(cx));
//! }
//! ```
//! ```compile_fail,E0308
//! # use stack::kernel::context::{BhCx, HardirqCx};
//! fn sends(_cx: &mut BhCx<'_>) {}
//! fn handler(cx: &mut HardirqCx<'_>) {
//!     sends(cx);
//! }
//! ```
//! ```
//! # use stack::kernel::context::TaskCx;
//! fn fine(cx: &mut TaskCx) {
//!     cx.local_bh_disable(|_bh| ());
//!     cx.local_bh_disable(|_bh| ());
//! }
//! ```

use crate::kernel::cpu::{CpuId, CpuLocal, Section};
use crate::kernel::irq::NoSuchCpu;
use crate::kernel::machine::Machine;
use crate::kernel::rcupdate::Tables;
use crate::kernel::sched::TaskStruct;
use crate::kernel::time::Ktime;
use crate::kernel::trace::{Context, Record, WalkId, events::Point};
use crate::net::core::skbuff::{SkBuff, Skb};
use crate::net::core::snmp::Mib;
use crate::net::net_namespace::{Net, NetId, NetRef};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use uapi::errno::Errno;
use uapi::snmp::UdpMib;

/// A hard interrupt: may acknowledge a device, raise a softirq, wake a CPU.
pub struct HardirqCx<'a> {
    pub(crate) m: &'a Machine,
    pub(crate) t: &'a Tables,
    pub(crate) cpu: &'a mut CpuLocal,
    pub(crate) span: WalkId,
    pub(crate) now: Ktime,
}

/// A softirq, or a task with bottom halves disabled: on a CPU, with its data, never sleeping.
///
/// Everything shared hangs off the machine or the tables, never off the CPU: copy the reference
/// out ([`BhCx::tables`]), then call on with the context.
pub struct BhCx<'a> {
    pub(crate) m: &'a Machine,
    /// Of the namespace that it works in.
    pub(crate) t: &'a Tables,
    /// Of the first.
    pub(crate) root: &'a Tables,
    pub(crate) cpu: &'a mut CpuLocal,
    pub(crate) now: Ktime,
    pub(crate) span: WalkId,
    pub(crate) context: Context,
}

/// A task in a system call: may sleep.
///
/// Long-lived: one for each application thread, async task or stepped task. What a task frees or
/// counts without being on a CPU waits here for its next entry.
pub struct TaskCx {
    m: Arc<Machine>,
    task: Arc<TaskStruct>,
    cpu: CpuId,
    /// The namespace of the present call: the task's, or its socket's.
    net: NetId,
    span: WalkId,
    /// The clock as read in this call, zero if not read.
    now: Ktime,
    owed: Owed,
    pub(crate) waker: Waker,
    pub(crate) deadline: Option<Ktime>,
    pub(crate) fds: crate::fs::FdCache,
}

/// What a task freed and counted off any CPU, due at its next entry.
#[derive(Default)]
struct Owed {
    freed: Vec<Skb>,
    /// Something was freed or counted.
    due: bool,
    /// Empty: memory for packets that a call reads together.
    received: Vec<Skb>,
    /// Something was counted.
    counted: bool,
    udp: [u64; UdpMib::COUNT],
}

/// What leaves records of the walk.
pub trait Walker {
    /// The span this context belongs to.
    fn span(&self) -> WalkId;
    /// Records a packet at a station; use [`walk!`](crate::walk).
    fn walk_packet(&self, skb: &SkBuff, point: Point, arg: u64);
    /// Records the span at a station; use [`walk!`](crate::walk).
    fn walk_span(&self, point: Point, arg: u64);
}

/// Where a record is left: who leaves it, in which context.
struct Place<'a> {
    m: &'a Machine,
    cpu: CpuId,
    context: Context,
}

impl Place<'_> {
    fn packet(&self, skb: &SkBuff, point: Point, arg: u64) {
        self.m.tracer.record(Record {
            time: self.m.platform.ktime_get(),
            id: skb.walk_id,
            arg,
            len: u16::try_from(skb.len()).unwrap_or(u16::MAX),
            dev: skb.dev.map_or(0, |dev| dev.0),
            point,
            cpu: self.cpu.0,
            context: self.context,
        });
    }

    fn span(&self, id: WalkId, point: Point, arg: u64) {
        let time = self.m.platform.ktime_get();
        let (cpu, context) = (self.cpu.0, self.context);
        self.m.tracer.record(Record { time, id, arg, len: 0, dev: 0, point, cpu, context });
    }
}

/// Makes a context leave records.
///
/// The recorders can't unwind: the packet path would otherwise keep every packet it holds in memory
/// around each station, for a drop that never comes. That is what the ABI is for; nothing foreign
/// calls them, and what they call neither panics nor waits. They take the context itself: a station
/// keeps no place on its stack, and can end in a jump to the next.
macro_rules! walker {
    ($cx:ty, $packet:ident, $at_span:ident, |$this:ident| $place:expr) => {
        #[cold]
        #[inline(never)]
        #[allow(improper_ctypes_definitions, reason = "called from here alone")]
        extern "C" fn $packet($this: &$cx, skb: &SkBuff, point: Point, arg: u64) {
            $place.packet(skb, point, arg);
        }

        #[cold]
        #[inline(never)]
        #[allow(improper_ctypes_definitions, reason = "called from here alone")]
        extern "C" fn $at_span($this: &$cx, point: Point, arg: u64) {
            $place.span($this.span, point, arg);
        }

        impl Walker for $cx {
            #[inline(always)]
            fn span(&self) -> WalkId {
                self.span
            }
            #[inline(always)]
            fn walk_packet(&self, skb: &SkBuff, point: Point, arg: u64) {
                $packet(self, skb, point, arg);
            }
            #[inline(always)]
            fn walk_span(&self, point: Point, arg: u64) {
                $at_span(self, point, arg);
            }
        }
    };
}

walker!(HardirqCx<'_>, hardirq_packet, hardirq_span, |cx| {
    Place { m: cx.m, cpu: cx.cpu.id, context: Context::Hardirq }
});
walker!(BhCx<'_>, bh_packet, bh_span, |cx| {
    Place { m: cx.m, cpu: cx.cpu.id, context: cx.context }
});
walker!(TaskCx, task_packet, task_span, |cx| {
    Place { m: &cx.m, cpu: cx.cpu, context: Context::Task }
});

impl<'a> HardirqCx<'a> {
    /// The machine.
    pub fn machine(&self) -> &'a Machine {
        self.m
    }

    /// The read-mostly tables, for as long as the interrupt lasts.
    pub fn tables(&self) -> &'a Tables {
        self.t
    }

    /// The clock, read at most once an interrupt.
    pub fn now(&mut self) -> Ktime {
        if self.now == Ktime::ZERO {
            self.now = self.m.platform.ktime_get();
        }
        self.now
    }
}

impl<'a> BhCx<'a> {
    /// Settles what was kept for the packets that might follow; it may raise a softirq.
    #[inline(always)]
    pub(crate) fn end_section(&mut self) {
        crate::net::core::dev::end_section(self);
    }

    /// The machine.
    #[inline]
    pub fn machine(&self) -> &'a Machine {
        self.m
    }

    /// The read-mostly tables: borrowing them is `rcu_read_lock`.
    #[inline]
    pub fn tables(&self) -> &'a Tables {
        self.t
    }

    /// The namespace.
    #[inline]
    pub fn net(&self) -> &'a Arc<Net> {
        &self.t.ns
    }

    /// Works in another namespace from now on; false when it is gone. What was kept for packets of this one is
    /// settled.
    #[inline]
    pub(crate) fn enter_net(&mut self, net: NetId) -> bool {
        self.t.ns.id == net || self.change_net(net)
    }

    #[cold]
    #[inline(never)]
    fn change_net(&mut self, net: NetId) -> bool {
        let Some(t) = self.root.of(net) else { return false };
        self.end_section();
        self.t = t;
        self.cpu.count_for(net);
        true
    }

    /// Calls `f` in another namespace; `None` when it is gone.
    pub(crate) fn in_net<R>(&mut self, net: NetId, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let before = self.t.ns.id;
        self.enter_net(net).then(|| {
            let result = f(self);
            self.enter_net(before);
            result
        })
    }

    /// The CPU's number (`smp_processor_id`).
    #[inline]
    pub fn cpu_id(&self) -> CpuId {
        self.cpu.id
    }

    /// The time of this batch: read at the start of a softirq, on first use by a task.
    #[inline]
    pub fn now(&mut self) -> Ktime {
        if self.now == Ktime::ZERO { self.refresh_now() } else { self.now }
    }

    /// Reads the clock anew, for a limit that must hold or for the next poll.
    pub fn refresh_now(&mut self) -> Ktime {
        self.now = self.m.platform.ktime_get();
        self.now
    }

    /// Somebody waits for this CPU: end the batch after the current poll.
    ///
    /// linux: include/linux/sched.h:need_resched
    #[inline]
    pub fn need_resched(&self) -> bool {
        self.m.cpus[usize::from(self.cpu.id.0)].local.wanted()
    }

    /// Adds to a counter of this CPU.
    #[inline]
    pub fn count(&mut self, mib: impl Into<Mib>) {
        self.cpu.mib.add(mib.into(), 1);
    }

    /// Takes one from a gauge.
    #[inline]
    pub fn uncount(&mut self, mib: impl Into<Mib>) {
        self.cpu.mib.dec(mib.into());
    }

    /// The context's kind, for records.
    pub fn context(&self) -> Context {
        self.context
    }
}

impl TaskCx {
    /// A task's context on `m`. One thread drives one at a time.
    pub fn new(m: &Arc<Machine>, task: Arc<TaskStruct>) -> Self {
        let (cpu, net) = (task.cpu(), task.nsproxy.net());
        Self {
            m: Arc::clone(m),
            task,
            cpu,
            net,
            span: WalkId::NONE,
            now: Ktime::ZERO,
            owed: Owed::default(),
            waker: Waker::noop().clone(),
            deadline: None,
            fds: crate::fs::FdCache::default(),
        }
    }

    /// The machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.m
    }

    /// The task (`current`).
    pub fn task(&self) -> &Arc<TaskStruct> {
        &self.task
    }

    /// The namespace of the present call.
    #[inline]
    pub fn net_id(&self) -> NetId {
        self.net
    }

    /// The namespace itself; the first where it is gone.
    pub fn net(&self) -> Arc<Net> {
        Arc::clone(&self.tables().ns)
    }

    /// The latest read-mostly tables of the present call's namespace, or of the first where it is gone; for tasks
    /// that look, not for the packet path.
    pub fn tables(&self) -> Arc<Tables> {
        self.m.tables_of(self.net).unwrap_or_else(|| self.m.tables())
    }

    /// Calls `f` in another namespace, which stays meanwhile.
    ///
    /// # Errors
    /// ESRCH when there is none of that number.
    pub fn with_net<R>(&mut self, net: NetId, f: impl FnOnce(&mut Self) -> R) -> Result<R, Errno> {
        let t = self.m.tables_of(net).ok_or(Errno::ESRCH)?;
        let _stays = NetRef::maybe_get_net(&t.ns).ok_or(Errno::ESRCH)?;
        Ok(self.in_net(net, f))
    }

    /// The same of a namespace that stays without: that of a socket.
    // What is done there stands in one place: a call's fast way would be twice as long, and inlined no more.
    #[inline(always)]
    pub(crate) fn in_net<R>(&mut self, net: NetId, f: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.net;
        let another = before != net;
        if another {
            self.enter_net(net);
        }
        let result = f(self);
        if another {
            self.enter_net(before);
        }
        result
    }

    /// What was counted so far is the namespace's that it was counted in.
    #[cold]
    #[inline(never)]
    fn enter_net(&mut self, net: NetId) {
        self.flush();
        self.net = net;
    }

    /// From now on the task's calls are in another namespace.
    pub(crate) fn change_net(&mut self, net: NetRef) {
        if self.net != net.id {
            self.enter_net(net.id);
        }
        self.task.nsproxy.switch(net);
    }

    /// The CPU whose section this task's calls enter.
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// Moves the task to another CPU: its next call enters that one.
    ///
    /// # Errors
    /// [`NoSuchCpu`] when the machine has no such CPU, or it is down (Linux: EINVAL).
    ///
    /// linux: kernel/sched/core.c:sched_setaffinity
    pub fn set_cpu(&mut self, cpu: CpuId) -> Result<(), NoSuchCpu> {
        if !self.m.cpu_online(cpu) {
            return Err(NoSuchCpu);
        }
        self.flush();
        self.cpu = cpu;
        self.task.set_cpu(cpu);
        Ok(())
    }

    /// Where the CPU of a task that is about to sleep has gone down, the task goes elsewhere.
    pub fn leave_offline_cpu(&mut self) {
        if !self.m.cpu_online(self.cpu) {
            self.cpu = self.m.cpu_beside(self.cpu);
            self.task.set_cpu(self.cpu);
        }
    }

    /// Begins a system call: a new span, and the clock is not read yet.
    #[inline]
    pub fn enter_call(&mut self) {
        self.span = self.m.tracer.span();
        self.now = Ktime::ZERO;
        self.deadline = None;
    }

    /// Goes on in the span of a call that slept.
    pub(crate) fn set_span(&mut self, span: WalkId) {
        self.span = span;
    }

    /// The time of this call, read on first use; read anew after a sleep.
    pub fn now(&mut self) -> Ktime {
        if self.now == Ktime::ZERO {
            self.now = self.m.platform.ktime_get();
        }
        self.now
    }

    /// Enters the task's CPU with bottom halves disabled, runs `f` there, runs the softirqs that
    /// were raised on the way out (`local_bh_enable`), and leaves.
    ///
    /// linux: kernel/softirq.c:local_bh_disable
    #[inline]
    pub fn local_bh_disable<R>(&mut self, f: impl FnOnce(&mut BhCx<'_>) -> R) -> R {
        let m: &Machine = &self.m;
        m.charge_cpu();
        let mut stay = m.enter(self.cpu);
        if stay.offline() {
            (stay, self.cpu) = stay.elsewhere(&self.task);
        }
        let (owed, now) = (&mut self.owed, self.now);
        let section = Section { context: Context::Bh, span: self.span, net: self.net };
        let result = stay.with_bh_span(section, |cx| {
            cx.now = now;
            if owed.any() {
                owed.settle(cx);
            }
            f(cx)
        });
        stay.softirqs(self.span).leave();
        result
    }

    /// Enters the CPU only to hand over what was freed and counted outside; before a sleep and at
    /// the end.
    #[cold]
    pub fn flush(&mut self) {
        if self.owed.any() {
            self.local_bh_disable(|_| ());
        }
    }

    /// Room for packets that a call reads together, lent until [`free_received`](Self::free_received).
    #[inline]
    pub(crate) fn received(&mut self) -> Vec<Skb> {
        std::mem::take(&mut self.owed.received)
    }

    /// Frees packets that were read together, as [`consume_skb_task`] does one, and takes the room
    /// back.
    ///
    /// [`consume_skb_task`]: crate::net::core::skbuff::consume_skb_task
    #[inline]
    pub(crate) fn free_received(&mut self, mut read: Vec<Skb>) {
        if self.m.tracer.on() {
            for skb in &read {
                crate::walk!(self, skb, consume_skb);
            }
        }
        if self.owed.freed.len() + read.len() > Owed::PACKETS {
            self.flush();
        }
        self.owed.due = true;
        self.owed.freed.append(&mut read);
        self.owed.received = read;
        if self.owed.freed.len() >= Owed::TOGETHER {
            self.flush();
        }
    }

    /// Frees a packet without being on a CPU; its memory goes home at the next entry.
    #[inline]
    pub(crate) fn free(&mut self, skb: Skb) {
        self.owed.due = true;
        self.owed.freed.push(skb);
        if self.owed.freed.len() >= Owed::PACKETS {
            self.flush();
        }
    }

    /// Adds to a counter without being on a CPU: UDP alone counts there.
    #[inline]
    pub(crate) fn count(&mut self, mib: UdpMib) {
        (self.owed.due, self.owed.counted) = (true, true);
        self.owed.udp[mib as usize] += 1;
    }

    /// This operation ends no later than `at`: who drives it polls it again then.
    pub(crate) fn schedule_timeout(&mut self, at: Ktime) {
        self.deadline = Some(self.deadline.map_or(at, |before| before.min(at)));
    }

    /// The earliest time at which the pending operation wants to be polled again.
    pub fn deadline(&self) -> Option<Ktime> {
        self.deadline
    }

    /// Prepares a poll: wake-ups go to `waker`, deadlines are collected anew, the clock is read
    /// again on first use.
    pub fn prepare_poll(&mut self, waker: &Waker) {
        if !self.waker.will_wake(waker) {
            self.waker.clone_from(waker);
        }
        self.deadline = None;
        self.now = Ktime::ZERO;
    }
}

impl Owed {
    /// Packets that wait at most: what magazine and depot exchange at a time.
    const PACKETS: usize = 64;
    /// Packets that wait at most where they come many at a time: fewer, for those that wait are out
    /// of the processor's cache when they come back.
    const TOGETHER: usize = 32;

    #[inline]
    fn any(&self) -> bool {
        self.due
    }

    #[inline(never)]
    fn settle(&mut self, cx: &mut BhCx<'_>) {
        self.due = false;
        cx.free_skbs(&mut self.freed);
        if std::mem::take(&mut self.counted) {
            for (mib, count) in UdpMib::ALL.iter().zip(&mut self.udp) {
                cx.cpu.mib.add((*mib).into(), std::mem::take(count));
            }
        }
    }
}

impl Drop for TaskCx {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.flush();
        }
        for skb in self.owed.freed.drain(..) {
            skb.forget_at_exit();
        }
    }
}

impl fmt::Debug for TaskCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskCx({:?} on CPU {})", self.task, self.cpu.0)
    }
}
