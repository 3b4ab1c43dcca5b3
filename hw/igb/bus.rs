//! The model as a PCI function.

use std::sync::atomic::Ordering;

use drivers::pci::{DmaBuf, DmaError, IrqError, PciDev};
use stack::kernel::irq::IrqLine;

use super::irq::Mode;
use super::{I82576, MSIX_VECTORS};

impl I82576 {
    /// Switches to an interrupt mode; the one in force must be off or the same.
    fn connect(&self, mode: Mode, lines: &[IrqLine]) -> Result<(), IrqError> {
        let mut st = self.lock();
        if st.irq.mode != Mode::Off && st.irq.mode != mode {
            return Err(IrqError::Busy);
        }
        st.irq.connect(mode, lines);
        st.config.set_irq_enable(mode);
        // A cause that waited for a way out takes it now.
        self.settle(st);
        Ok(())
    }

    fn disconnect(&self, mode: Mode) {
        let mut st = self.lock();
        if st.irq.mode == mode {
            st.irq.connect(Mode::Off, &[]);
            st.config.set_irq_enable(Mode::Off);
        }
    }
}

impl PciDev for I82576 {
    fn config_read32(&self, offset: u16) -> u32 {
        self.lock().config.read(offset)
    }

    fn config_write32(&self, offset: u16, value: u32) {
        let mut st = self.lock();
        st.config_write(offset, value);
        self.settle(st);
    }

    fn read32(&self, offset: u32) -> u32 {
        self.lock().read(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        let mut st = self.lock();
        st.write(offset, value);
        self.settle(st);
    }

    fn dma_alloc_coherent(&self, len: usize, align: usize) -> Result<DmaBuf, DmaError> {
        self.space.alloc(len, align)
    }

    fn msix_count(&self) -> usize {
        MSIX_VECTORS
    }

    fn enable_msix(&self, lines: &[IrqLine]) -> Result<(), IrqError> {
        if lines.is_empty() || lines.len() > MSIX_VECTORS {
            return Err(IrqError::Vectors { available: MSIX_VECTORS });
        }
        self.connect(Mode::Msix, lines)
    }

    fn disable_msix(&self) {
        self.disconnect(Mode::Msix);
    }

    fn enable_msi(&self, line: IrqLine) -> Result<(), IrqError> {
        self.connect(Mode::Msi, &[line])
    }

    fn disable_msi(&self) {
        self.disconnect(Mode::Msi);
    }

    fn request_intx(&self, line: IrqLine) -> Result<(), IrqError> {
        self.connect(Mode::Intx, &[line])
    }

    fn free_intx(&self) {
        self.disconnect(Mode::Intx);
    }

    fn trace_tx(&self, bus_addr: u64, packet_id: u64) {
        if packet_id != 0 {
            self.tracing.store(true, Ordering::Relaxed);
            self.lock().tx_ids.insert(bus_addr, packet_id);
        }
    }

    fn trace_rx(&self, bus_addr: u64) -> u64 {
        if !self.tracing.load(Ordering::Relaxed) {
            return 0;
        }
        self.lock().rx_ids.take(bus_addr)
    }
}
