use std::sync::Mutex;

use super::*;

/// A device that is nothing but its configuration space; writing ones to status clears them.
struct ConfigOnly(Mutex<[u32; 64]>);

impl PciDev for ConfigOnly {
    fn config_read32(&self, offset: u16) -> u32 {
        self.0.lock().unwrap().get(usize::from(offset / 4)).copied().unwrap_or(!0)
    }
    fn config_write32(&self, offset: u16, value: u32) {
        let mut words = self.0.lock().unwrap();
        let word = &mut words[usize::from(offset / 4)];
        *word =
            if offset / 4 == 1 { (*word & !value & 0xFFFF_0000) | value & 0xFFFF } else { value };
    }
    fn read32(&self, _: u32) -> u32 {
        !0
    }
    fn write32(&self, _: u32, _: u32) {}
    fn dma_alloc_coherent(&self, _: usize, _: usize) -> Result<DmaBuf, DmaError> {
        Err(DmaError::Host)
    }
    fn msix_count(&self) -> usize {
        0
    }
    fn enable_msix(&self, _: &[IrqLine]) -> Result<(), IrqError> {
        Err(IrqError::Unsupported)
    }
    fn disable_msix(&self) {}
    fn enable_msi(&self, _: IrqLine) -> Result<(), IrqError> {
        Err(IrqError::Unsupported)
    }
    fn disable_msi(&self) {}
    fn request_intx(&self, _: IrqLine) -> Result<(), IrqError> {
        Err(IrqError::Unsupported)
    }
    fn free_intx(&self) {}
}

fn device(words: &[(usize, u32)]) -> ConfigOnly {
    let mut all = [0; 64];
    for &(at, word) in words {
        all[at] = word;
    }
    ConfigOnly(Mutex::new(all))
}

#[test]
fn narrow_accesses_touch_their_bytes() {
    let dev = device(&[(0x3C / 4, 0x4433_2211)]);
    assert_eq!((dev.config_read8(0x3D), dev.config_read16(0x3E)), (0x22, 0x4433));
    dev.config_write8(0x3D, 0xAA);
    dev.config_write16(0x3E, 0xBBCC);
    assert_eq!(dev.config_read32(0x3C), 0xBBCC_AA11);
}

#[test]
fn bus_mastering_is_switched_without_clearing_status() {
    let dev = device(&[(1, 0xF010_0000)]);
    dev.set_master();
    assert_eq!(dev.config_read32(4), 0xF010_0006);
    dev.clear_master();
    assert_eq!(dev.config_read32(4), 0xF010_0002);
}

#[test]
fn a_capability_list_that_loops_ends() {
    let dev = device(&[(1, 0x0010_0000), (13, 0x40), (16, 0x5001), (20, 0x4005)]);
    assert_eq!(dev.find_capability(PCI_CAP_ID_MSI), Some(0x50));
    assert_eq!(dev.find_capability(PCI_CAP_ID_MSIX), None);
    assert_eq!(device(&[]).find_capability(PCI_CAP_ID_PM), None);
}
