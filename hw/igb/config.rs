//! Configuration space: identity, BARs and capabilities.
//!
//! Source: the 82576 data sheet's chapter "PCIe Programming Interface". Capabilities: power management 0x40, MSI 0x50,
//! MSI-X 0x70 (table and pending bits in BAR 3), PCI Express 0xA0.

use drivers::pci::{
    E1000_DEV_ID_82576, PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_CAP_ID_PM,
    PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_MASTER, PCI_STATUS_CAP_LIST, PCI_VENDOR_ID_INTEL,
};

use super::MSIX_VECTORS;
use super::irq::Mode;

const MSI_CONTROL: usize = 0x50 / 4;
const MSIX_CONTROL: usize = 0x70 / 4;
const EXP_DEVICE_CONTROL: usize = 0xA8 / 4;
/// PCI Express device control: function level reset, clears itself.
const FLR: u32 = 1 << 15;

/// The function's configuration space.
pub(super) struct Config([u32; 64]);

/// What a write to configuration space asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigEvent {
    None,
    /// Bus mastering may have changed.
    Command,
    /// Function level reset.
    Reset,
}

impl Config {
    pub(super) fn new() -> Self {
        let mut w = [0; 64];
        let capability =
            |id: u8, next: u32, control: u32| u32::from(id) | next << 8 | control << 16;
        w[0x00] = u32::from(E1000_DEV_ID_82576) << 16 | u32::from(PCI_VENDOR_ID_INTEL);
        w[0x01] = u32::from(PCI_STATUS_CAP_LIST) << 16;
        // Ethernet controller, revision 1.
        w[0x02] = 0x0200_0001;
        w[0x0B] = 0xA03C << 16 | u32::from(PCI_VENDOR_ID_INTEL);
        w[0x0D] = 0x40;
        // Interrupt pin A.
        w[0x0F] = 0x0100;
        w[0x40 / 4] = capability(PCI_CAP_ID_PM, 0x50, 3);
        // One message, 64-bit address, maskable.
        w[MSI_CONTROL] = capability(PCI_CAP_ID_MSI, 0x70, 0x0180);
        w[MSIX_CONTROL] = capability(PCI_CAP_ID_MSIX, 0xA0, MSIX_VECTORS as u32 - 1);
        w[0x74 / 4] = 3;
        w[0x78 / 4] = 0x2000 | 3;
        // Endpoint; function level reset can be asked for.
        w[0xA0 / 4] = capability(PCI_CAP_ID_EXP, 0, 2);
        w[0xA4 / 4] = 1 << 28;
        Self(w)
    }

    pub(super) fn read(&self, offset: u16) -> u32 {
        self.0.get(usize::from(offset / 4)).copied().unwrap_or(0)
    }

    pub(super) fn write(&mut self, offset: u16, value: u32) -> ConfigEvent {
        let at = usize::from(offset / 4);
        let Some(writable) = writable(at) else {
            return ConfigEvent::None;
        };
        if at == EXP_DEVICE_CONTROL && value & FLR != 0 {
            *self = Self::new();
            return ConfigEvent::Reset;
        }
        self.0[at] = self.0[at] & !writable | value & writable;
        if at == 1 { ConfigEvent::Command } else { ConfigEvent::None }
    }

    pub(super) fn master(&self) -> bool {
        self.0[1] & u32::from(PCI_COMMAND_MASTER) != 0
    }

    pub(super) fn intx_disabled(&self) -> bool {
        self.0[1] & u32::from(PCI_COMMAND_INTX_DISABLE) != 0
    }

    /// Sets the enable bits of MSI and MSI-X to the mode, as the bus does when it sets up interrupts.
    pub(super) fn set_irq_enable(&mut self, mode: Mode) {
        let (msi, msix) = (mode == Mode::Msi, mode == Mode::Msix);
        self.0[MSI_CONTROL] = self.0[MSI_CONTROL] & !(1 << 16) | u32::from(msi) << 16;
        self.0[MSIX_CONTROL] = self.0[MSIX_CONTROL] & !(1 << 31) | u32::from(msix) << 31;
    }
}

/// Bits of a word that can be written; `None` when there are none.
fn writable(at: usize) -> Option<u32> {
    Some(match at {
        1 => 0x0547,
        3 => 0xFF,
        // BAR 0: 128 KiB; BAR 1: 128 KiB of flash, absent; BAR 3: 16 KiB.
        4 => !(128 * 1024 - 1),
        7 => !(16 * 1024 - 1),
        0x0F => 0xFF,
        0x11 => 0x8103,
        0x15 => !3,
        0x16 | 0x18 => !0,
        0x17 => 0xFFFF,
        EXP_DEVICE_CONTROL => 0xFFFF,
        _ => return None,
    })
}
