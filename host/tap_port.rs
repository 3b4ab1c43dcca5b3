//! A TAP as the driver's port: its descriptor is the interrupt line.
//!
//! Key types: `HostTap`, `LinkSource`. Contexts: any thread.
//! Invariant: the descriptor is armed one-shot, and only for a driver that asked: while its CPU
//! has other work nothing is armed at all, so a busy TAP costs no system call but reads and writes.

use crate::idle::{CpuIdle, IrqSource, token};
use crate::tap::{LinkWatch, Tap, is_gone, is_link_down};
use crate::wait::{Interest, Trigger};
use drivers::net::tun::{TapFault, TapPort, Wants};
use stack::kernel::irq::IrqLine;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A TAP whose events are interrupts of one CPU.
pub(crate) struct HostTap {
    pub(crate) tap: Tap,
    idle: Arc<CpuIdle>,
    slot: usize,
    /// Taken out when the TAP is: the line leads to the driver, which holds this.
    line: Mutex<Option<IrqLine>>,
    /// The next interrupt may be for room to write, too.
    room: AtomicBool,
    /// Arming reads `room` and calls the system; two at once could leave the older wish standing.
    arming: Mutex<()>,
}

impl HostTap {
    /// Makes `tap` a source of the CPU's interrupts, silent until the driver unmasks it.
    pub(crate) fn register(tap: Tap, idle: &Arc<CpuIdle>) -> io::Result<Arc<Self>> {
        let port = idle.add_source(|slot| Self {
            tap,
            idle: Arc::clone(idle),
            slot,
            line: Mutex::new(None),
            room: AtomicBool::new(false),
            arming: Mutex::new(()),
        })?;
        match idle.waiter.add(&port.tap, token(port.slot), Trigger::OneShot) {
            Ok(()) => Ok(port),
            Err(e) => {
                idle.remove_source(port.slot);
                Err(e)
            }
        }
    }

    /// From now on events raise this line.
    pub(crate) fn connect(&self, line: IrqLine) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    fn interest(&self) -> Interest {
        match self.room.load(Ordering::SeqCst) {
            true => Interest::ReadOrWrite,
            false => Interest::Read,
        }
    }

    /// Takes the descriptor out of the CPU's set.
    pub(crate) fn unregister(&self) {
        // Fails only for one that is out already.
        let _ = self.idle.waiter.remove(&self.tap);
        self.idle.remove_source(self.slot);
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(line);
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
        let _one = self.arming.lock().unwrap_or_else(PoisonError::into_inner);
        let interest = self.interest();
        // Fails only when unregistered meanwhile: then nobody listens.
        let _ = self.idle.waiter.rearm_for(&self.tap, token(self.slot), interest);
    }

    fn disarm(&self) {
        let _one = self.arming.lock().unwrap_or_else(PoisonError::into_inner);
        // As above.
        let _ = self.idle.waiter.disarm(&self.tap, token(self.slot));
    }

    fn ready(&self) -> bool {
        crate::wait::is_ready(&self.tap, self.interest())
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
    fn read_frame(&self, buf: &mut [u8]) -> Result<Option<usize>, TapFault> {
        self.tap.read_frame(buf).map_err(|e| fault(&e))
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
        self.idle.forget_arm(self.slot);
    }

    fn irq_unmask(&self, wants: Wants) {
        if wants == Wants::FramesAndRoom {
            self.room.store(true, Ordering::SeqCst);
        }
        if self.idle.request_arm(self.slot) {
            self.idle.arm_now(self.slot);
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
