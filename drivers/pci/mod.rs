//! The bus as a driver sees it: configuration space, one window of registers, DMA memory, interrupts.
//!
//! linux: include/linux/pci.h, include/linux/dma-mapping.h (3.10), as far as a network driver needs them.
//! Key types: [`PciDev`], the device behind its bus; [`DmaBuf`], memory that driver and device share;
//! [`DmaSpace`], what an IOMMU is: bus addresses to memory, for devices that live in this process.
//! Contexts: every method may be called from any context; none sleeps, except where an implementation talks to another
//! process. Locks: an implementation's own; it raises an [`IrqLine`] with none of them held, and never runs a handler.
//! Invariants: what a driver stored into DMA memory before [`PciDev::write32`] is seen by the device when it acts on
//! that write; a [`PciDev::read32`] completes only after all earlier writes have reached the device.

pub mod dma;
pub mod iommu;

use std::fmt;

use stack::kernel::irq::IrqLine;

pub use dma::{DmaBuf, DmaError, DmaMem, DmaRing, OutOfRange};
pub use iommu::{DmaSpace, Iotlb};

/// Configuration space: vendor identifier.
pub const PCI_VENDOR_ID: u16 = 0x00;
/// Configuration space: device identifier.
pub const PCI_DEVICE_ID: u16 = 0x02;
/// Configuration space: command.
pub const PCI_COMMAND: u16 = 0x04;
/// Configuration space: status.
pub const PCI_STATUS: u16 = 0x06;
/// Configuration space: first capability.
pub const PCI_CAPABILITY_LIST: u16 = 0x34;
/// Command: the device answers in memory space.
pub const PCI_COMMAND_MEMORY: u16 = 0x0002;
/// Command: the device may master the bus, that is, do DMA and send messages.
pub const PCI_COMMAND_MASTER: u16 = 0x0004;
/// Command: INTx is switched off.
pub const PCI_COMMAND_INTX_DISABLE: u16 = 0x0400;
/// Status: there is a capability list.
pub const PCI_STATUS_CAP_LIST: u16 = 0x0010;
/// Capability: power management.
pub const PCI_CAP_ID_PM: u8 = 0x01;
/// Capability: message signalled interrupts.
pub const PCI_CAP_ID_MSI: u8 = 0x05;
/// Capability: PCI Express.
pub const PCI_CAP_ID_EXP: u8 = 0x10;
/// Capability: MSI-X.
pub const PCI_CAP_ID_MSIX: u8 = 0x11;
/// Intel's vendor identifier.
pub const PCI_VENDOR_ID_INTEL: u16 = 0x8086;
/// The 82576, copper.
pub const E1000_DEV_ID_82576: u16 = 0x10C9;

/// Why an interrupt could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqError {
    /// The device has no such capability.
    Unsupported,
    /// More vectors were asked for than the device has, or none.
    Vectors {
        /// How many it has.
        available: usize,
    },
    /// Another kind of interrupt is enabled; disable that first.
    Busy,
    /// The host refused.
    Host,
}

impl fmt::Display for IrqError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("the device has no such interrupt capability"),
            Self::Vectors { available } => {
                write!(f, "the device has {available} interrupt vectors")
            }
            Self::Busy => f.write_str("another kind of interrupt is enabled"),
            Self::Host => f.write_str("the host refused the interrupt"),
        }
    }
}

impl std::error::Error for IrqError {}

/// A PCI function, as its driver sees it.
///
/// A device that has gone (unplugged, its process ended) reads as all ones and ignores writes.
pub trait PciDev: Send + Sync {
    /// Reads 32 bits of configuration space; `offset` is rounded down to four.
    fn config_read32(&self, offset: u16) -> u32;

    /// Writes 32 bits of configuration space; `offset` is rounded down to four.
    fn config_write32(&self, offset: u16, value: u32);

    /// Reads a register of BAR 0.
    fn read32(&self, offset: u32) -> u32;

    /// Writes a register of BAR 0. Earlier stores to DMA memory are seen by the device first.
    fn write32(&self, offset: u32, value: u32);

    /// Zeroed memory that the device can reach, aligned to `align` (a power of two) for both sides.
    ///
    /// It is unmapped and freed when the last handle goes.
    ///
    /// linux: include/linux/dma-mapping.h:dma_alloc_coherent (3.10)
    fn dma_alloc_coherent(&self, len: usize, align: usize) -> Result<DmaBuf, DmaError>;

    /// How many MSI-X vectors the device has.
    fn msix_count(&self) -> usize;

    /// Enables MSI-X: vector *n* raises `lines[n]`. Replaces an earlier set of lines.
    ///
    /// linux: drivers/pci/msi.c:pci_enable_msix (3.10)
    fn enable_msix(&self, lines: &[IrqLine]) -> Result<(), IrqError>;

    /// Disables MSI-X; no line is raised by calls that begin after this returns.
    fn disable_msix(&self);

    /// Enables MSI with one message.
    fn enable_msi(&self, line: IrqLine) -> Result<(), IrqError>;

    /// Disables MSI.
    fn disable_msi(&self);

    /// Connects the INTx pin. The line is raised when the pin becomes asserted.
    fn request_intx(&self, line: IrqLine) -> Result<(), IrqError>;

    /// Disconnects the INTx pin.
    fn free_intx(&self);

    /// Reads 16 bits of configuration space; `offset` is rounded down to two.
    fn config_read16(&self, offset: u16) -> u16 {
        (self.config_read32(offset) >> (8 * (offset & 2))) as u16
    }

    /// Reads a byte of configuration space.
    fn config_read8(&self, offset: u16) -> u8 {
        (self.config_read32(offset) >> (8 * (offset & 3))) as u8
    }

    /// Writes 16 bits of configuration space; `offset` is rounded down to two.
    ///
    /// The default reads and writes the whole word: registers where writing ones clears must not share it.
    fn config_write16(&self, offset: u16, value: u16) {
        let shift = 8 * (offset & 2);
        let old = self.config_read32(offset) & !(0xFFFF << shift);
        // The status half of the command word clears by ones: writing it back would clear it.
        let old = if offset & !3 == PCI_COMMAND & !3 && shift == 0 { 0 } else { old };
        self.config_write32(offset, old | u32::from(value) << shift);
    }

    /// Writes a byte of configuration space.
    fn config_write8(&self, offset: u16, value: u8) {
        let shift = 8 * (offset & 1);
        let old = self.config_read16(offset) & !(0xFF << shift);
        self.config_write16(offset, old | u16::from(value) << shift);
    }

    /// Lets the device master the bus and answer in memory space.
    ///
    /// linux: drivers/pci/pci.c:pci_set_master (3.10)
    fn set_master(&self) {
        let command = self.config_read16(PCI_COMMAND);
        self.config_write16(PCI_COMMAND, command | PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    }

    /// Forbids the device DMA and messages.
    ///
    /// linux: drivers/pci/pci.c:pci_clear_master (3.10)
    fn clear_master(&self) {
        let command = self.config_read16(PCI_COMMAND);
        self.config_write16(PCI_COMMAND, command & !PCI_COMMAND_MASTER);
    }

    /// Where the capability `id` is in configuration space.
    ///
    /// linux: drivers/pci/pci.c:pci_find_capability (3.10)
    fn find_capability(&self, id: u8) -> Option<u16> {
        if self.config_read16(PCI_STATUS) & PCI_STATUS_CAP_LIST == 0 {
            return None;
        }
        let mut at = u16::from(self.config_read8(PCI_CAPABILITY_LIST)) & !3;
        // 48 capabilities are all that fit; a longer list is a loop.
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            let head = self.config_read16(at);
            if head as u8 == id {
                return Some(at);
            }
            at = (head >> 8) & !3;
        }
        None
    }

    /// Says that the transmit buffer at `bus_addr` holds packet `packet_id`, for the walk. No hardware knows of it.
    fn trace_tx(&self, bus_addr: u64, packet_id: u64) {
        let _ = (bus_addr, packet_id);
    }

    /// Which packet the device put into the receive buffer at `bus_addr`; 0 when unknown. Asking forgets.
    fn trace_rx(&self, bus_addr: u64) -> u64 {
        let _ = bus_addr;
        0
    }
}

#[cfg(test)]
mod tests;
