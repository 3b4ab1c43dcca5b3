//! A model of the Intel 82576: what its driver sees through the bus, nothing inside.
//!
//! Sources: the Intel 82576 data sheet's chapters "Initialization", "Interrupts", "Receive Functionality", "Transmit
//! Functionality", "Programming Interface" and "PCIe Programming Interface".
//! Key types: [`I82576`]. It implements `PciDev`; it stands on a `WirePort` and a `DmaSpace`.
//! Contexts: any. It has no thread and no clock: register writes, wire notifications and [`I82576::advance`] drive it,
//! each to completion before it returns.
//! Locks: `fifo` (the receive packet buffer), then `state` (everything else), then the end's queue or the DMA space's
//! map, both leaves. No lock is held while the wire transmits or an `IrqLine` is raised. A doorbell takes `state` twice:
//! to build the batch, and to give its memory back. One thread at a time puts a queue's frames on the wire: the queues
//! of a batch that is on its way are marked, and who rings for one then leaves it to whoever is on the way.
//! Invariants: frames of a queue reach the wire in their order, whoever rings; whatever registers, descriptors and frames contain, the model does not panic, does a bounded amount of
//! work, and touches only what its `DmaSpace` maps; a descriptor's bytes are read once.
//!
//! Left out: SR-IOV and VMDq pools, header split, flow control, time stamps, SCTP CRC, wake-up, manageability, LLI,
//! direct cache access, ETQF/FTQF/SYN filters, the TCP timer. Their registers are plain storage. A frame's CRC is not
//! modelled: it is counted in octets, never stored, whatever `RCTL.SECRC` says. The link has no speed: only `EITR` and
//! what a `WirePort` does take time. `STATUS`, `CTRL_EXT` and others answer for port 0 of a copper adapter. There is
//! no BAR 3: the lines of `enable_msix` stand for the table that the capability names, and vectors are masked, pending
//! and cleared by `EIMS`, `EICR`, `EIAC` and `EIAM` alone, as igb does it.

mod bus;
mod checksum;
mod config;
mod filter;
mod irq;
mod offload;
mod parse;
mod phy;
mod regs;
mod ring;
mod rss;
mod rx;
mod state;
mod stats;
mod tx;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drivers::net::wire_port::{FrameBatch, WireEvent, WirePort};
use drivers::pci::DmaSpace;

use irq::Fired;
use state::State;

/// MSI-X vectors of the function.
pub const MSIX_VECTORS: usize = 10;
/// Rounds of one call to `receive`: what is left then belongs to whoever sent it, and notifies after.
const RX_ROUNDS: usize = 64;
/// Frames taken off the wire in one round.
const RX_BATCH: usize = 256;

/// The device.
pub struct I82576 {
    wire: Arc<dyn WirePort>,
    space: Arc<DmaSpace>,
    state: Mutex<State>,
    /// Frames that are off the wire and wait for descriptors. Taken before `state`.
    fifo: Mutex<FrameBatch>,
    /// Whether anybody has given packets a name: what tracing costs while it is not used.
    tracing: AtomicBool,
}

/// What happened inside the model, for tests and reports: no register says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that the link did not take.
    pub tx_refused: u64,
    /// Frames dropped because their descriptors or context made no sense.
    pub tx_bad: u64,
    /// Doorbells that found the ring unusable: outside DMA memory, or head or tail outside the ring.
    pub ring_faults: u64,
    /// Frames that passed no filter.
    pub rx_filtered: u64,
    /// Frames for a queue that is not enabled or too short for them, or while receiving was off.
    pub rx_disabled: u64,
    /// Interrupts that were raised.
    pub irqs: u64,
}

impl I82576 {
    /// A device with the given address, plugged into `wire`, reaching memory through `space`. It is in reset state.
    ///
    /// The device takes the wire end's notification; an end that has one already gives a device that receives only
    /// when [`I82576::poll_wire`] is called.
    #[must_use]
    pub fn new(mac: [u8; 6], wire: Arc<dyn WirePort>, space: Arc<DmaSpace>) -> Arc<Self> {
        let state = State::new(mac, wire.carrier());
        let device = Arc::new(Self {
            wire,
            space,
            state: Mutex::new(state),
            fifo: Mutex::new(FrameBatch::new()),
            tracing: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&device);
        let notify = move |event| {
            if let Some(device) = weak.upgrade() {
                device.wire_event(event);
            }
        };
        // An end that is taken already is served by `poll_wire`.
        let _ = device.wire.set_notify(Box::new(notify));
        // It may have changed before anyone was told.
        device.wire_event(WireEvent::Carrier);
        device
    }

    /// Moves the device's clock to `now_ns` and sends interrupts that were held back until then. Returns when the
    /// next one falls due. The clock never goes back.
    pub fn advance(&self, now_ns: u64) -> Option<u64> {
        let mut st = self.lock();
        st.now = st.now.max(now_ns);
        let fired = st.fire();
        let next = st.irq.deadline(st.now);
        drop(st);
        fired.raise();
        next
    }

    /// Looks at the wire: carrier and waiting frames. What a notification does.
    pub fn poll_wire(&self) {
        self.wire_event(WireEvent::Carrier);
        self.receive();
    }

    /// What happened inside.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// The memory that the device reaches.
    #[must_use]
    pub fn space(&self) -> &Arc<DmaSpace> {
        &self.space
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wire_event(&self, event: WireEvent) {
        match event {
            WireEvent::Frames => self.receive(),
            WireEvent::Carrier => {
                let carrier = self.wire.carrier();
                let mut st = self.lock();
                st.carrier = carrier;
                st.link_update();
                self.settle(st);
            }
        }
    }

    /// Does what a change of state asks for, and lets go of the state: transmit, raise, receive.
    fn settle<'a>(&'a self, mut st: MutexGuard<'a, State>) {
        let mut fired = Fired::default();
        let mut receive = false;
        loop {
            let mut batch = st.spare.pop().unwrap_or_default();
            let mut queues = 0;
            if st.tx_ready() != 0 {
                let tracing = self.tracing.load(Ordering::Relaxed);
                queues = st.transmit(&self.space, tracing, &mut batch);
            }
            fired.merge(st.fire());
            receive |= std::mem::take(&mut st.rx_kick);
            let loopback = st.loopback();
            if !batch.is_empty() {
                // Whoever rings for one of these queues meanwhile leaves it to us: a batch of his own
                // could reach the wire before this one.
                st.tx_sending |= queues;
                drop(st);
                let refused = self.send(&mut batch, loopback);
                receive |= loopback;
                batch.clear();
                st = self.lock();
                st.tx_sending &= !queues;
                st.counters.tx_refused += refused as u64;
            }
            st.spare.push(batch);
            if st.tx_ready() == 0 {
                break;
            }
        }
        drop(st);
        fired.raise();
        if receive {
            self.receive();
        }
    }

    /// Puts a batch on the link; returns how many frames it did not take.
    fn send(&self, batch: &mut FrameBatch, loopback: bool) -> usize {
        if loopback {
            let mut fifo = self.fifo.lock().unwrap_or_else(PoisonError::into_inner);
            batch.move_to(&mut fifo, usize::MAX);
            return 0;
        }
        let offered = batch.len();
        offered - self.wire.transmit(batch).min(offered)
    }

    /// Takes frames off the wire and into memory, as far as there are descriptors.
    fn receive(&self) {
        let mut fired = Fired::default();
        {
            let mut fifo = self.fifo.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..RX_ROUNDS {
                let got = self.wire.receive(RX_BATCH, &mut fifo);
                if fifo.is_empty() {
                    break;
                }
                if !self.tracing.load(Ordering::Relaxed) && fifo.is_traced() {
                    self.tracing.store(true, Ordering::Relaxed);
                }
                let mut st = self.lock();
                st.receive(&self.space, self.tracing.load(Ordering::Relaxed), &mut fifo);
                fired.merge(st.fire());
                if got == 0 {
                    break;
                }
            }
        }
        fired.raise();
    }
}

impl fmt::Debug for I82576 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I82576").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
