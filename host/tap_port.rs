//! A TAP as the driver's port: its descriptor is the interrupt line.
//!
//! Key types: `HostTap`, `LinkSource`. Contexts: any thread.
//! Invariant: the descriptor is armed one-shot, and only for a driver that asked: while its CPU
//! has other work nothing is armed at all, so a busy TAP costs no system call but reads and writes.

use crate::idle::{CpuIdle, IrqSource, token};
use crate::tap::{LinkWatch, Tap, is_gone, is_link_down};
use crate::wait::{Interest, Trigger, is_ready};
use drivers::net::tun::{TapFault, TapPort, Wants};
use stack::kernel::irq::IrqLine;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use uapi::if_tun::{TUN_F_TSO4, TUN_F_USO4};

/// A queue of a TAP whose events are interrupts of one CPU, which may change.
pub(crate) struct HostTap {
    pub(crate) tap: Tap,
    /// Every CPU's place to wait, and this source's slot there.
    idle: Arc<[Arc<CpuIdle>]>,
    slots: OnceLock<Vec<usize>>,
    /// In whose set the descriptor is.
    cpu: AtomicUsize,
    /// Taken out when the TAP is: the line leads to the driver, which holds this.
    line: Mutex<Option<IrqLine>>,
    /// The next interrupt may be for room to write, too.
    room: AtomicBool,
    /// Arming reads `room` and calls the system; two at once could leave the older wish standing. Who
    /// moves the descriptor holds it, too.
    arming: Mutex<()>,
}

impl HostTap {
    /// Makes `tap` a source of a CPU's interrupts, silent until the driver unmasks it.
    pub(crate) fn register(
        tap: Tap,
        idle: &Arc<[Arc<CpuIdle>]>,
        cpu: usize,
    ) -> io::Result<Arc<Self>> {
        let port = Arc::new(Self {
            tap,
            idle: Arc::clone(idle),
            slots: OnceLock::new(),
            cpu: AtomicUsize::new(cpu),
            line: Mutex::new(None),
            room: AtomicBool::new(false),
            arming: Mutex::new(()),
        });
        let mut slots = Vec::new();
        let mut added = Ok(());
        for idle in idle.iter() {
            match idle.add_shared_source(Arc::clone(&port) as _) {
                Ok(slot) => slots.push(slot),
                Err(e) => {
                    added = Err(e);
                    break;
                }
            }
        }
        let _first = port.slots.set(slots);
        let (place, slot) = port.place();
        match added.and_then(|()| place.waiter.add(&port.tap, token(slot), Trigger::OneShot)) {
            Ok(()) => Ok(port),
            Err(e) => {
                port.forget_sources();
                Err(e)
            }
        }
    }

    /// Where the descriptor is at present, and its slot there.
    fn place(&self) -> (&CpuIdle, usize) {
        let cpu = self.cpu.load(Ordering::SeqCst);
        let slot = self.slots.get().and_then(|slots| slots.get(cpu)).copied().unwrap_or(0);
        (&self.idle[cpu], slot)
    }

    fn interest(&self) -> Interest {
        match self.room.load(Ordering::SeqCst) {
            true => Interest::ReadOrWrite,
            false => Interest::Read,
        }
    }

    fn arming(&self) -> MutexGuard<'_, ()> {
        self.arming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on events raise this line, and the descriptor follows the CPU that takes it.
    pub(crate) fn connect(self: &Arc<Self>, line: IrqLine) {
        if let Some(desc) = line.desc() {
            let port = Arc::downgrade(self);
            desc.irq_set_affinity_notifier(Arc::new(move |cpu| {
                if let Some(port) = port.upgrade() {
                    port.move_to(usize::from(cpu.0));
                }
            }));
        }
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    /// Takes the descriptor to another CPU's set, armed: whether it was does not show, and one event
    /// more costs an empty poll.
    fn move_to(&self, cpu: usize) {
        let moved = {
            let _one = self.arming();
            let (from, _) = self.place();
            if cpu >= self.idle.len() || cpu == self.cpu.load(Ordering::SeqCst) {
                return;
            }
            // Fails only for one that was taken out meanwhile: then it stays out.
            if from.waiter.remove(&self.tap).is_err() {
                return;
            }
            self.cpu.store(cpu, Ordering::SeqCst);
            let (to, slot) = self.place();
            to.arm_now(slot);
            to.waiter.add(&self.tap, token(slot), Trigger::OneShot).is_ok()
        };
        if moved {
            self.arm();
        }
    }

    /// Takes the descriptor out of its CPU's set.
    pub(crate) fn unregister(&self) {
        {
            let _one = self.arming();
            // Fails only for one that is out already.
            let _ = self.place().0.waiter.remove(&self.tap);
        }
        self.forget_sources();
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(line);
    }

    fn forget_sources(&self) {
        for (idle, slot) in self.idle.iter().zip(self.slots.get().into_iter().flatten()) {
            idle.remove_source(*slot);
        }
    }
}

impl IrqSource for HostTap {
    fn fire(&self) {
        self.room.store(false, Ordering::SeqCst);
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(line) = line {
            line.raise();
        }
    }

    fn arm(&self) {
        let _one = self.arming();
        let (place, slot) = self.place();
        // Fails only when unregistered meanwhile: then nobody listens.
        let _ = place.waiter.rearm_for(&self.tap, token(slot), self.interest());
    }

    fn disarm(&self) {
        let _one = self.arming();
        let (place, slot) = self.place();
        // As above.
        let _ = place.waiter.disarm(&self.tap, token(slot));
    }

    fn ready(&self) -> bool {
        is_ready(&self.tap, self.interest())
    }
}

fn fault(error: &io::Error) -> TapFault {
    match error {
        e if e.kind() == io::ErrorKind::WouldBlock => TapFault::WouldBlock,
        e if is_link_down(e) => TapFault::LinkDown,
        e if is_gone(e) => TapFault::Gone,
        _ => TapFault::Other,
    }
}

/// Parts of a frame, its header among them, that are written without asking for memory.
const FEW_PARTS: usize = 9;

impl TapPort for HostTap {
    fn read_frame(&self, parts: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, TapFault> {
        let read = match parts {
            // What comes most often is cheaper without a list of buffers.
            [one] => self.tap.read_frame(one),
            parts => self.tap.read_frame_parts(parts),
        };
        read.map_err(|e| fault(&e))
    }

    fn takes_segments(&self) -> bool {
        self.tap.offloads() & TUN_F_TSO4 != 0
    }

    fn takes_datagrams(&self) -> bool {
        self.tap.offloads() & TUN_F_USO4 != 0
    }

    fn write_frame(&self, hdr: &[u8], parts: &[&[u8]]) -> Result<(), TapFault> {
        let written = if parts.len() < FEW_PARTS {
            let mut few = [IoSlice::new(&[]); FEW_PARTS];
            few[0] = IoSlice::new(hdr);
            for (slot, part) in few[1..].iter_mut().zip(parts) {
                *slot = IoSlice::new(part);
            }
            self.tap.write_frame(&few[..=parts.len()])
        } else {
            let all: Vec<IoSlice<'_>> =
                std::iter::once(hdr).chain(parts.iter().copied()).map(IoSlice::new).collect();
            self.tap.write_frame(&all)
        };
        written.map_err(|e| fault(&e))
    }

    fn link_up(&self) -> bool {
        self.tap.link_up().unwrap_or(false)
    }

    fn irq_mask(&self) {
        // Reported once it is silent by itself; what is left is a wish not yet followed.
        let (place, slot) = self.place();
        place.forget_arm(slot);
    }

    fn irq_unmask(&self, wants: Wants) {
        if wants == Wants::FramesAndRoom {
            self.room.store(true, Ordering::SeqCst);
        }
        let (place, slot) = self.place();
        if place.request_arm(slot) {
            place.arm_now(slot);
            self.arm();
        }
    }
}

/// Changes of devices in the namespace: each may be the TAP's link.
pub(crate) struct LinkSource {
    watch: LinkWatch,
    line: IrqLine,
    idle: Arc<CpuIdle>,
    slot: usize,
}

impl LinkSource {
    pub(crate) fn register(
        watch: LinkWatch,
        line: IrqLine,
        idle: &Arc<CpuIdle>,
    ) -> io::Result<Arc<Self>> {
        let source = idle.add_source(|slot| Self { watch, line, idle: Arc::clone(idle), slot })?;
        match idle.waiter.add(&source.watch, token(source.slot), Trigger::Level) {
            Ok(()) => {
                // It may have changed between the device's opening and now.
                source.line.raise();
                Ok(source)
            }
            Err(e) => {
                idle.remove_source(source.slot);
                Err(e)
            }
        }
    }

    pub(crate) fn unregister(&self) {
        let _ = self.idle.waiter.remove(&self.watch);
        self.idle.remove_source(self.slot);
    }
}

impl IrqSource for LinkSource {
    fn fire(&self) {
        if self.watch.drain() {
            self.line.raise();
        }
    }

    fn arm(&self) {}
}
