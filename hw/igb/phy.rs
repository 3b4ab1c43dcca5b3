//! The PHY behind MDIC, and the NVM behind EERD.
//!
//! Source: the 82576 data sheet's sections "PHY Registers" and "NVM Map".

use drivers::net::ethernet::intel::igb::e1000_regs::*;

/// The address of the internal PHY.
const PHY_ADDRESS: u32 = 1;
/// Words of the NVM that are modelled; those beyond read as erased.
const NVM_WORDS: usize = 64;

/// The internal copper PHY. Autonegotiation takes no time.
pub(super) struct Phy {
    regs: [u16; 32],
    /// The link was lost since the status register was last read.
    latched: bool,
}

/// What a write to the PHY asks of the rest of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhyEvent {
    None,
    /// The link may have come or gone.
    Link,
    /// Autonegotiation was restarted: the link bounced.
    Restarted,
}

impl Phy {
    pub(super) fn new() -> Self {
        let mut regs = [0; 32];
        regs[PHY_CONTROL as usize] =
            (MII_CR_AUTO_NEG_EN | MII_CR_FULL_DUPLEX | MII_CR_SPEED_1000) as u16;
        regs[PHY_ID1 as usize] = (IGP03E1000_E_PHY_ID >> 16) as u16;
        regs[PHY_ID2 as usize] = IGP03E1000_E_PHY_ID as u16 | 1;
        // 10 and 100 Mb/s in both duplexes, IEEE 802.3.
        regs[PHY_AUTONEG_ADV as usize] = 0x01E1;
        // 1000 Mb/s full duplex.
        regs[PHY_1000T_CTRL as usize] = 0x0200;
        regs[PHY_EXT_STATUS as usize] = 0x3000;
        Self { regs, latched: false }
    }

    fn control(&self) -> u32 {
        u32::from(self.regs[PHY_CONTROL as usize])
    }

    pub(super) fn powered(&self) -> bool {
        self.control() & MII_CR_POWER_DOWN == 0
    }

    pub(super) fn loopback(&self) -> bool {
        self.control() & MII_CR_LOOPBACK != 0
    }

    /// The link is lost: the status says so once, even if it is back by then.
    pub(super) fn link_lost(&mut self) {
        self.latched = true;
    }

    fn read(&mut self, reg: u32, link: bool) -> u16 {
        let up = |bits: u32| if link { bits as u16 } else { 0 };
        match reg {
            PHY_STATUS => {
                let seen = link && !std::mem::take(&mut self.latched);
                // All 10 and 100 Mb/s abilities, extended status and register set.
                0x7949
                    | up(MII_SR_AUTONEG_COMPLETE)
                    | if seen { MII_SR_LINK_STATUS as u16 } else { 0 }
                    | MII_SR_AUTONEG_CAPS as u16
            }
            PHY_LP_ABILITY => up(0x45E1),
            PHY_AUTONEG_EXP => up(0x0001),
            // Link partner does 1000 Mb/s full duplex; both receivers are fine.
            PHY_1000T_STATUS => up(0x3800),
            IGP01E1000_PHY_PORT_STATUS => up(IGP01E1000_PSSR_SPEED_1000MBPS
                | IGP01E1000_PSSR_FULL_DUPLEX
                | IGP01E1000_PSSR_LINK_UP),
            reg => self.regs.get(reg as usize).copied().unwrap_or(0),
        }
    }

    fn write(&mut self, reg: u32, value: u16) -> PhyEvent {
        match reg {
            PHY_STATUS | PHY_ID1 | PHY_ID2 | PHY_LP_ABILITY | PHY_AUTONEG_EXP
            | PHY_1000T_STATUS => PhyEvent::None,
            PHY_CONTROL => {
                let bits = u32::from(value);
                if bits & MII_CR_RESET != 0 {
                    *self = Self::new();
                    return PhyEvent::Restarted;
                }
                self.regs[0] = value & !(MII_CR_RESTART_AUTO_NEG as u16);
                let restart = bits & MII_CR_RESTART_AUTO_NEG != 0 && bits & MII_CR_AUTO_NEG_EN != 0;
                if restart { PhyEvent::Restarted } else { PhyEvent::Link }
            }
            reg => {
                if let Some(r) = self.regs.get_mut(reg as usize) {
                    *r = value;
                }
                PhyEvent::None
            }
        }
    }

    /// Carries out an MDIC command; returns the register's new value.
    pub(super) fn mdic(&mut self, command: u32, link: bool) -> (u32, PhyEvent) {
        let reg = (command & E1000_MDIC_REG_MASK) >> E1000_MDIC_REG_SHIFT;
        let kept = command & !(E1000_MDIC_READY | E1000_MDIC_ERROR);
        if (command & E1000_MDIC_PHY_MASK) >> E1000_MDIC_PHY_SHIFT != PHY_ADDRESS {
            return (kept | E1000_MDIC_READY | E1000_MDIC_ERROR, PhyEvent::None);
        }
        match command & E1000_MDIC_OP_MASK {
            E1000_MDIC_OP_READ => {
                let data = u32::from(self.read(reg, link));
                (kept & !E1000_MDIC_DATA_MASK | data | E1000_MDIC_READY, PhyEvent::None)
            }
            E1000_MDIC_OP_WRITE => {
                let event = self.write(reg, (command & E1000_MDIC_DATA_MASK) as u16);
                (kept | E1000_MDIC_READY, event)
            }
            _ => (kept | E1000_MDIC_READY | E1000_MDIC_ERROR, PhyEvent::None),
        }
    }
}

/// The NVM's words: address first, checksum last.
pub(super) fn nvm_image(mac: [u8; 6]) -> [u16; NVM_WORDS] {
    let mut words = [0u16; NVM_WORDS];
    for (word, pair) in words.iter_mut().zip(mac.chunks_exact(2)) {
        *word = u16::from_le_bytes([pair[0], pair[1]]);
    }
    words[0x0B] = 0xA03C;
    words[0x0C] = drivers::pci::PCI_VENDOR_ID_INTEL;
    words[0x0D] = drivers::pci::E1000_DEV_ID_82576;
    words[0x0E] = drivers::pci::PCI_VENDOR_ID_INTEL;
    let sum = words.iter().fold(0u16, |sum, w| sum.wrapping_add(*w));
    words[NVM_WORDS - 1] = E1000_NVM_SUM.wrapping_sub(sum);
    words
}

/// Carries out a write to EERD; returns the register's new value.
pub(super) fn eerd(nvm: &[u16; NVM_WORDS], value: u32) -> u32 {
    if value & E1000_NVM_RW_REG_START == 0 {
        return value & !E1000_NVM_RW_REG_DONE;
    }
    let address = value >> E1000_NVM_RW_ADDR_SHIFT & E1000_NVM_RW_ADDR_MASK;
    let word = nvm.get(address as usize).copied().unwrap_or(0xFFFF);
    u32::from(word) << E1000_NVM_RW_REG_DATA
        | address << E1000_NVM_RW_ADDR_SHIFT
        | E1000_NVM_RW_REG_DONE
}
