//! Interrupt causes, masks, vectors and throttling.
//!
//! Source: the 82576 data sheet's chapter "Interrupts". Causes reach `EICR` through `IVAR` (queues) and `IVAR_MISC`
//! (what `ICR` and `IMS` let through). A vector's message is sent when its bit in `EICR & EIMS` becomes set, not while
//! it stays set; auto-clear (`EIAC`) and auto-mask (`EIAM`) let it fall at once, so that the next cause sends again.
//! With one vector (MSI, INTx, or MSI-X without `GPIE.Multiple_MSIX`) the same holds for `ICR & IMS` as a whole.
//! Invariant: a message that its `EITR` holds back is never lost; the cause stays in `EICR` until it is sent.

use std::sync::Arc;

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use stack::kernel::irq::IrqLine;

/// How interrupts leave the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Off,
    Intx,
    Msi,
    Msix,
}

/// Which queue a cause belongs to.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    Rx(usize),
    Tx(usize),
}

/// Lines to be raised once no lock is held.
#[derive(Default)]
pub(super) struct Fired {
    vectors: u32,
    lines: Option<Arc<[IrqLine]>>,
}

impl Fired {
    pub(super) fn merge(&mut self, other: Self) {
        if other.vectors != 0 {
            self.vectors |= other.vectors;
            self.lines = other.lines;
        }
    }

    pub(super) fn raise(self) {
        let Some(lines) = self.lines else { return };
        for (n, line) in lines.iter().enumerate().take(32) {
            if self.vectors & (1 << n) != 0 {
                line.raise();
            }
        }
    }
}

/// The interrupt unit.
pub(super) struct Irq {
    pub(super) mode: Mode,
    lines: Arc<[IrqLine]>,
    icr: u32,
    ims: u32,
    pub(super) iam: u32,
    eicr: u32,
    eims: u32,
    pub(super) eiac: u32,
    pub(super) eiam: u32,
    pub(super) gpie: u32,
    pub(super) ivar: [u32; 8],
    pub(super) ivar_misc: u32,
    pub(super) eitr: [u32; E1000_EITR_COUNT],
    /// When each vector last sent.
    last: [Option<u64>; E1000_EITR_COUNT],
    /// Vectors whose message has been sent for the level that still stands.
    sent: u32,
    /// Vectors that wait for their interval.
    held: u32,
}

impl Irq {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Off,
            lines: Arc::new([]),
            icr: 0,
            ims: 0,
            iam: 0,
            eicr: 0,
            eims: 0,
            eiac: 0,
            eiam: 0,
            gpie: 0,
            ivar: [0; 8],
            ivar_misc: 0,
            eitr: [0; E1000_EITR_COUNT],
            last: [None; E1000_EITR_COUNT],
            sent: 0,
            held: 0,
        }
    }

    /// Device reset: all but the bus's side and the throttle intervals.
    pub(super) fn reset(&mut self) {
        let old = std::mem::replace(self, Self::new());
        (self.mode, self.lines, self.eitr) = (old.mode, old.lines, old.eitr);
    }

    /// Connects lines.
    pub(super) fn connect(&mut self, mode: Mode, lines: &[IrqLine]) {
        self.mode = mode;
        self.lines = lines.into();
        self.sent = 0;
    }

    fn multi(&self) -> bool {
        self.mode == Mode::Msix && self.gpie & E1000_GPIE_MSIX_MODE != 0
    }

    /// A queue's descriptors were written back.
    pub(super) fn queue_cause(&mut self, cause: Cause) {
        let (queue, column, icr) = match cause {
            Cause::Rx(q) => (q, 0, E1000_ICR_RXT0),
            Cause::Tx(q) => (q, 8, E1000_ICR_TXDW),
        };
        let shift = column + if queue & 8 != 0 { 16 } else { 0 };
        self.allocate(self.ivar[queue & 7] >> shift);
        if !self.multi() {
            self.icr |= icr;
        }
    }

    /// Sets the `EICR` bit that an `IVAR` entry names.
    fn allocate(&mut self, entry: u32) {
        if entry & E1000_IVAR_VALID != 0 {
            let valid = if self.multi() { E1000_EICR_VECTORS } else { E1000_EICR_QUEUES };
            self.eicr |= (1 << (entry & E1000_IVAR_VECTOR_MASK)) & valid;
        }
    }

    /// Causes in `ICR`: link change and the like.
    pub(super) fn other_cause(&mut self, causes: u32) {
        self.icr |= causes & !E1000_ICR_INT_ASSERTED;
        if causes & self.ims != 0 {
            self.allocate_other();
        }
    }

    fn allocate_other(&mut self) {
        if self.multi() {
            self.allocate(self.ivar_misc >> 8);
        } else {
            self.eicr |= E1000_EICR_OTHER;
        }
    }

    fn asserted(&self) -> bool {
        self.icr & self.ims != 0
    }

    /// Reads `ICR`, with what reading does to it.
    pub(super) fn read_icr(&mut self) -> u32 {
        let asserted = self.asserted();
        let value = self.icr | if asserted { E1000_ICR_INT_ASSERTED } else { 0 };
        if asserted {
            self.ims &= !self.iam;
        }
        if asserted || self.ims == 0 || self.gpie & E1000_GPIE_NSICR != 0 {
            self.icr = 0;
        }
        self.fall();
        value
    }

    /// `ICR` without side effects: what reading `ICS` gives.
    pub(super) fn icr(&self) -> u32 {
        self.icr
    }

    pub(super) fn write_icr(&mut self, value: u32) {
        if self.asserted() {
            self.ims &= !self.iam;
        }
        self.icr &= !value;
        self.fall();
    }

    pub(super) fn ims(&self) -> u32 {
        self.ims
    }

    pub(super) fn set_ims(&mut self, value: u32) {
        let new = value & !self.ims;
        self.ims |= value;
        if self.icr & new != 0 {
            self.allocate_other();
        }
    }

    pub(super) fn clear_ims(&mut self, value: u32) {
        self.ims &= !value;
        self.fall();
    }

    /// Reads `EICR`, which clears it.
    pub(super) fn read_eicr(&mut self) -> u32 {
        let value = self.eicr;
        self.write_eicr(!0);
        value
    }

    /// `EICR` without side effects: what reading `EICS` gives.
    pub(super) fn eicr(&self) -> u32 {
        self.eicr
    }

    pub(super) fn write_eicr(&mut self, value: u32) {
        if !self.multi() {
            self.eims &= !self.eiam;
        }
        self.eicr &= !value;
        self.fall();
    }

    pub(super) fn set_eicr(&mut self, value: u32) {
        self.eicr |= value & (E1000_EICR_VECTORS | 0xC000_0000);
    }

    pub(super) fn eims(&self) -> u32 {
        self.eims
    }

    pub(super) fn set_eims(&mut self, value: u32) {
        self.eims |= value;
    }

    pub(super) fn clear_eims(&mut self, value: u32) {
        self.eims &= !value;
        self.fall();
    }

    /// Vectors whose cause is present and unmasked.
    fn level(&self) -> u32 {
        if self.multi() {
            self.eicr & self.eims & E1000_EICR_VECTORS
        } else {
            u32::from(self.asserted() || self.eicr & self.eims & !E1000_EICR_OTHER != 0)
        }
    }

    /// Forgets messages whose level has fallen.
    fn fall(&mut self) {
        let level = self.level();
        self.sent &= level;
        self.held &= level;
    }

    /// Interval of a vector in nanoseconds.
    fn interval(&self, vector: usize) -> u64 {
        u64::from(self.eitr[vector] >> E1000_EITR_INTERVAL_SHIFT & E1000_EITR_INTERVAL_MASK) * 1000
    }

    /// When a vector may send.
    fn due(&self, vector: usize) -> u64 {
        self.last[vector].map_or(0, |last| last.saturating_add(self.interval(vector)))
    }

    /// Sends what may be sent at `now`.
    pub(super) fn evaluate(&mut self, now: u64) -> Fired {
        let level = self.level();
        let mut rising = level & !self.sent;
        if rising == 0 || self.mode == Mode::Off {
            self.held = 0;
            return Fired::default();
        }
        self.held = 0;
        let mut vectors = 0;
        while rising != 0 {
            let v = rising.trailing_zeros() as usize;
            rising &= rising - 1;
            if self.due(v) > now {
                self.held |= 1 << v;
                continue;
            }
            // A vector at rest has no interval to count from until it sends.
            self.last[v] = (self.interval(v) != 0).then_some(now);
            vectors |= 1 << v;
        }
        self.sent |= vectors;
        if self.multi() {
            self.eicr &= !(vectors & self.eiac);
            if self.gpie & E1000_GPIE_EIAME != 0 {
                self.eims &= !(vectors & self.eiam);
            }
        }
        self.sent &= self.level();
        if vectors == 0 {
            return Fired::default();
        }
        Fired { vectors, lines: Some(Arc::clone(&self.lines)) }
    }

    /// When the first message that is held back falls due.
    pub(super) fn deadline(&self, now: u64) -> Option<u64> {
        (0..E1000_EITR_COUNT)
            .filter(|v| self.held & (1 << v) != 0)
            .map(|v| self.due(v).max(now))
            .min()
    }
}

impl Fired {
    /// Number of messages.
    pub(super) fn count(&self) -> u32 {
        self.vectors.count_ones()
    }
}
