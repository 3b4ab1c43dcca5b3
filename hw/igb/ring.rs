//! A descriptor ring: base, length, head, tail, as registers give them.

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::pci::{DmaMem, DmaSpace, Iotlb};

/// Bytes of a descriptor.
const DESC: usize = 16;

/// One ring's registers, and where it is in memory.
#[derive(Default)]
pub(super) struct Ring {
    bal: u32,
    bah: u32,
    len: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) dca: u32,
    pub(super) dctl: u32,
    /// The ring's own memory; buffers have another, so that neither displaces the other.
    tlb: Iotlb,
}

impl Ring {
    /// The ring of queue `n` after reset: queue 0 is enabled.
    pub(super) fn new(n: usize) -> Self {
        let dctl = if n == 0 { E1000_RXDCTL_QUEUE_ENABLE } else { 0 };
        Self { dctl, ..Self::default() }
    }

    /// Reads one of the registers that both directions have.
    pub(super) fn read(&self, reg: u32) -> u32 {
        match reg {
            E1000_Q_BAL => self.bal,
            E1000_Q_BAH => self.bah,
            E1000_Q_LEN => self.len,
            E1000_Q_HEAD => self.head,
            E1000_Q_TAIL => self.tail,
            E1000_Q_DCA => self.dca,
            E1000_Q_DCTL => self.dctl,
            _ => 0,
        }
    }

    /// Writes one of the registers that both directions have.
    pub(super) fn write(&mut self, reg: u32, value: u32) {
        match reg {
            // Rings start on 128 bytes and are a multiple of that long.
            E1000_Q_BAL => self.bal = value & !0x7F,
            E1000_Q_BAH => self.bah = value,
            E1000_Q_LEN => self.len = value & 0x000F_FF80,
            E1000_Q_HEAD => self.head = value & 0xFFFF,
            E1000_Q_TAIL => self.tail = value & 0xFFFF,
            E1000_Q_DCA => self.dca = value,
            // The flush bit clears itself.
            E1000_Q_DCTL => self.dctl = value & !0x0400_0000,
            _ => {}
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.dctl & E1000_RXDCTL_QUEUE_ENABLE != 0
    }

    /// Number of descriptors.
    pub(super) fn count(&self) -> u32 {
        self.len / DESC as u32
    }

    /// Whether head and tail lie in the ring.
    pub(super) fn sane(&self) -> bool {
        self.head < self.count() && self.tail < self.count()
    }

    /// How many descriptors the device owns.
    pub(super) fn available(&self) -> u32 {
        if !self.sane() {
            return 0;
        }
        if self.tail >= self.head {
            self.tail - self.head
        } else {
            self.count() - self.head + self.tail
        }
    }

    /// The head's descriptor, and its offset; `None` outside DMA memory.
    #[inline]
    pub(super) fn desc(&mut self, space: &DmaSpace) -> Option<(&DmaMem, usize)> {
        let base = u64::from(self.bah) << 32 | u64::from(self.bal);
        let at = base.checked_add(u64::from(self.head) * DESC as u64)?;
        self.tlb.get(space, at, DESC)
    }

    /// Moves the head on.
    #[inline]
    pub(super) fn step(&mut self) {
        self.head = if self.head + 1 >= self.count() { 0 } else { self.head + 1 };
    }
}
