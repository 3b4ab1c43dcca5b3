//! A bus that refuses, holds back, remembers and lies as tests want it.

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::pci::{DmaBuf, DmaError, IrqError, PciDev};
use hw::igb::I82576;
use stack::kernel::irq::IrqLine;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub struct Bus {
    nic: Arc<I82576>,
    pub refuse_msix: AtomicBool,
    pub refuse_msi: AtomicBool,
    /// Doorbells of transmit queues wait.
    hold: AtomicBool,
    held: Mutex<Vec<(u32, u32)>>,
    /// The lines in force.
    pub lines: Mutex<Vec<IrqLine>>,
    /// Every DMA buffer made.
    pub memory: Mutex<Vec<DmaBuf>>,
    /// Not zero: register reads give rubbish that follows from it.
    pub lies: AtomicU64,
}

/// The next of a sequence that looks random.
pub fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

impl Bus {
    pub fn new(nic: Arc<I82576>, refuse_msix: bool, refuse_msi: bool) -> Arc<Self> {
        Arc::new(Self {
            nic,
            refuse_msix: AtomicBool::new(refuse_msix),
            refuse_msi: AtomicBool::new(refuse_msi),
            hold: AtomicBool::new(false),
            held: Mutex::default(),
            lines: Mutex::default(),
            memory: Mutex::default(),
            lies: AtomicU64::new(0),
        })
    }

    pub fn hold_doorbells(&self) {
        self.hold.store(true, Ordering::SeqCst);
    }

    pub fn release_doorbells(&self) {
        self.hold.store(false, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        for (reg, value) in held {
            self.nic.write32(reg, value);
        }
    }

    pub fn line(&self, n: usize) -> IrqLine {
        self.lines.lock().unwrap()[n].clone()
    }

    /// Doorbells that waited are lost.
    pub fn drop_doorbells(&self) {
        self.held.lock().unwrap().clear();
        self.hold.store(false, Ordering::SeqCst);
    }

    fn keep(&self, lines: &[IrqLine], enabled: Result<(), IrqError>) -> Result<(), IrqError> {
        if enabled.is_ok() {
            *self.lines.lock().unwrap() = lines.to_vec();
        }
        enabled
    }
}

impl PciDev for Bus {
    fn config_read32(&self, offset: u16) -> u32 {
        self.nic.config_read32(offset)
    }
    fn config_write32(&self, offset: u16, value: u32) {
        self.nic.config_write32(offset, value);
    }
    fn read32(&self, offset: u32) -> u32 {
        let mut lies = self.lies.load(Ordering::SeqCst);
        if lies != 0 {
            let lie = next_random(&mut lies);
            self.lies.store(lies, Ordering::SeqCst);
            return lie as u32;
        }
        self.nic.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        let doorbell = (0..8).any(|q| offset == E1000_TDT(q));
        if doorbell && self.hold.load(Ordering::SeqCst) {
            self.held.lock().unwrap().push((offset, value));
        } else {
            self.nic.write32(offset, value);
        }
    }
    fn dma_alloc_coherent(&self, len: usize, align: usize) -> Result<DmaBuf, DmaError> {
        let buf = self.nic.dma_alloc_coherent(len, align)?;
        self.memory.lock().unwrap().push(buf.clone());
        Ok(buf)
    }
    fn msix_count(&self) -> usize {
        self.nic.msix_count()
    }
    fn enable_msix(&self, lines: &[IrqLine]) -> Result<(), IrqError> {
        if self.refuse_msix.load(Ordering::SeqCst) {
            return Err(IrqError::Host);
        }
        self.keep(lines, self.nic.enable_msix(lines))
    }
    fn disable_msix(&self) {
        self.lines.lock().unwrap().clear();
        self.nic.disable_msix();
    }
    fn enable_msi(&self, line: IrqLine) -> Result<(), IrqError> {
        if self.refuse_msi.load(Ordering::SeqCst) {
            return Err(IrqError::Unsupported);
        }
        self.keep(std::slice::from_ref(&line), self.nic.enable_msi(line.clone()))
    }
    fn disable_msi(&self) {
        self.lines.lock().unwrap().clear();
        self.nic.disable_msi();
    }
    fn request_intx(&self, line: IrqLine) -> Result<(), IrqError> {
        self.keep(std::slice::from_ref(&line), self.nic.request_intx(line.clone()))
    }
    fn free_intx(&self) {
        self.lines.lock().unwrap().clear();
        self.nic.free_intx();
    }
    fn trace_tx(&self, bus_addr: u64, packet_id: u64) {
        self.nic.trace_tx(bus_addr, packet_id);
    }
    fn trace_rx(&self, bus_addr: u64) -> u64 {
        self.nic.trace_rx(bus_addr)
    }
}
