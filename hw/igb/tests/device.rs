use drivers::pci::{PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_DEVICE_ID, PCI_VENDOR_ID};

use super::*;
use crate::wire::Carrier;

fn mdic_read(dev: &dyn PciDev, phy: u32, reg: u32) -> u32 {
    dev.write32(
        E1000_MDIC,
        E1000_MDIC_OP_READ | phy << E1000_MDIC_PHY_SHIFT | reg << E1000_MDIC_REG_SHIFT,
    );
    let value = dev.read32(E1000_MDIC);
    assert_ne!(value & E1000_MDIC_READY, 0);
    value
}

fn mdic_write(dev: &dyn PciDev, reg: u32, value: u32) {
    dev.write32(
        E1000_MDIC,
        E1000_MDIC_OP_WRITE | 1 << E1000_MDIC_PHY_SHIFT | reg << E1000_MDIC_REG_SHIFT | value,
    );
}

#[test]
fn configuration_space_names_the_device_and_its_capabilities() {
    let (end, _outside) = WireEnd::open(1);
    let dev = I82576::new(MAC, Arc::new(end), DmaSpace::new(1 << 20));
    assert_eq!(
        (dev.config_read16(PCI_VENDOR_ID), dev.config_read16(PCI_DEVICE_ID)),
        (0x8086, 0x10C9)
    );
    assert_eq!(dev.find_capability(PCI_CAP_ID_MSI), Some(0x50));
    assert_eq!(dev.find_capability(PCI_CAP_ID_MSIX), Some(0x70));
    assert_eq!(dev.find_capability(PCI_CAP_ID_EXP), Some(0xA0));
    assert_eq!(usize::from(dev.config_read16(0x72) & 0x7FF) + 1, dev.msix_count());
    dev.config_write32(0x10, !0);
    assert_eq!(dev.config_read32(0x10), !(E1000_BAR0_LEN - 1), "BAR 0 sizes itself");
    dev.config_write32(0, 0);
    assert_eq!(dev.config_read16(PCI_VENDOR_ID), 0x8086);
}

#[test]
fn the_nvm_holds_the_address_and_a_valid_checksum() {
    let (d, _outside) = rig(0);
    let word = |n: u32| {
        d.dev.write32(E1000_EERD, n << E1000_NVM_RW_ADDR_SHIFT | E1000_NVM_RW_REG_START);
        let v = d.dev.read32(E1000_EERD);
        assert_ne!(v & E1000_NVM_RW_REG_DONE, 0);
        (v >> E1000_NVM_RW_REG_DATA) as u16
    };
    let mac: Vec<u8> = (0..3).flat_map(|n| word(n).to_le_bytes()).collect();
    assert_eq!(mac, MAC);
    assert_eq!((0..64).fold(0u16, |sum, n| sum.wrapping_add(word(n))), E1000_NVM_SUM);
    assert_eq!(word(0x3FFF), 0xFFFF);
    assert_eq!(d.dev.read32(E1000_RAL(0)).to_le_bytes(), MAC[..4]);
    assert_eq!(d.dev.read32(E1000_RAH(0)), E1000_RAH_AV | 0x5634);
}

#[test]
fn the_phy_answers_at_its_address_and_nowhere_else() {
    let (d, _outside) = rig(0);
    let id =
        (mdic_read(&*d.dev, 1, PHY_ID1) & 0xFFFF) << 16 | mdic_read(&*d.dev, 1, PHY_ID2) & 0xFFFF;
    assert_eq!(id & PHY_REVISION_MASK, IGP03E1000_E_PHY_ID);
    assert_ne!(mdic_read(&*d.dev, 2, PHY_ID1) & E1000_MDIC_ERROR, 0);
    mdic_write(&*d.dev, IGP01E1000_PHY_PORT_CTRL, 0xABCD);
    assert_eq!(mdic_read(&*d.dev, 1, IGP01E1000_PHY_PORT_CTRL) & 0xFFFF, 0xABCD);
    let both = MII_SR_AUTONEG_COMPLETE | MII_SR_LINK_STATUS;
    mdic_read(&*d.dev, 1, PHY_STATUS);
    assert_eq!(mdic_read(&*d.dev, 1, PHY_STATUS) & both, both);
    mdic_write(&*d.dev, PHY_CONTROL, MII_CR_POWER_DOWN);
    assert_eq!(mdic_read(&*d.dev, 1, PHY_STATUS) & both, 0);
    assert_eq!(d.dev.read32(E1000_STATUS) & E1000_STATUS_LU, 0);
}

#[test]
fn reset_restores_registers_and_keeps_throttle_and_packet_buffers() {
    let (mut d, outside) = rig(1);
    inject(&outside, &plain(MAC, 64, 1));
    d.dev.write32(E1000_EITR(3), 400);
    d.dev.write32(E1000_RXPBS, 32);
    d.dev.write32(E1000_MRQC, 2);
    d.dev.write32(E1000_RAL(0), 0);
    d.dev.write32(E1000_IMS, E1000_ICR_LSC);
    d.dev.write32(E1000_CTRL, E1000_CTRL_RST);
    assert_eq!(d.dev.read32(E1000_CTRL) & E1000_CTRL_RST, 0);
    assert_ne!(d.dev.read32(E1000_STATUS) & E1000_STATUS_PF_RST_DONE, 0);
    assert_eq!((d.dev.read32(E1000_EITR(3)), d.dev.read32(E1000_RXPBS)), (400, 32));
    assert_eq!((d.dev.read32(E1000_MRQC), d.dev.read32(E1000_IMS)), (0, 0));
    assert_eq!(d.dev.read32(E1000_RAL(0)).to_le_bytes(), MAC[..4]);
    assert_eq!(
        (d.dev.read32(E1000_RDT(0)), d.dev.read32(E1000_RDLEN(0)), d.dev.read32(E1000_GPRC)),
        (0, 0, 0)
    );
    assert_eq!(d.take(0).len(), 1, "memory is not touched by reset");
    inject(&outside, &plain(MAC, 64, 1));
    assert!(d.take(0).is_empty());
}

#[test]
fn queues_answer_at_both_their_addresses() {
    let (d, _outside) = rig(0);
    d.dev.write32(0xC040, 0x1234_5680);
    assert_eq!(d.dev.read32(E1000_RDBAL(1)), 0x1234_5680);
    d.dev.write32(E1000_TDLEN(3), 0x1FF);
    assert_eq!(d.dev.read32(0xE0C8), 0x180, "lengths are multiples of 128");
    d.dev.write32(E1000_RDBAL(15), 0x80);
    assert_eq!(d.dev.read32(0xC3C0), 0x80);
    assert_eq!(d.dev.read32(E1000_BAR0_LEN), !0);
}

#[test]
fn the_link_follows_the_cable_and_interrupts() {
    let (d, outside) = rig(1);
    let (counts, lines) = Lines::new(2);
    d.dev.enable_msix(&lines).unwrap();
    d.dev.write32(E1000_GPIE, E1000_GPIE_MSIX_MODE | E1000_GPIE_EIAME | E1000_GPIE_NSICR);
    d.dev.write32(E1000_IVAR_MISC, (E1000_IVAR_VALID | 1) << 8);
    d.dev.write32(E1000_EIAC, 2);
    d.dev.write32(E1000_EIMS, 2);
    d.dev.read32(E1000_ICR);
    d.dev.write32(E1000_IMS, E1000_ICR_LSC);
    assert_ne!(d.dev.read32(E1000_STATUS) & E1000_STATUS_LU, 0);
    outside.set_carrier(Carrier::Down);
    assert_eq!(d.dev.read32(E1000_STATUS) & E1000_STATUS_LU, 0);
    assert_eq!((counts.taken(0), counts.taken(1)), (0, 1));
    assert_eq!(d.dev.read32(E1000_ICR), E1000_ICR_LSC | E1000_ICR_INT_ASSERTED);
    outside.set_carrier(Carrier::Up);
    assert_eq!(counts.taken(1), 1);
    assert_eq!(mdic_read(&*d.dev, 1, PHY_STATUS) & MII_SR_LINK_STATUS, 0, "a lost link shows once");
    assert_ne!(mdic_read(&*d.dev, 1, PHY_STATUS) & MII_SR_LINK_STATUS, 0);
    mdic_write(&*d.dev, PHY_CONTROL, MII_CR_AUTO_NEG_EN | MII_CR_RESTART_AUTO_NEG);
    assert_eq!(counts.taken(1), 1, "restarting autonegotiation bounces the link");
}

#[test]
fn the_semaphore_is_taken_by_reading() {
    let (d, _outside) = rig(0);
    assert_eq!(d.dev.read32(E1000_SWSM) & E1000_SWSM_SMBI, 0);
    assert_eq!(d.dev.read32(E1000_SWSM) & E1000_SWSM_SMBI, 1);
    d.dev.write32(E1000_SWSM, E1000_SWSM_SWESMBI);
    assert_eq!(d.dev.read32(E1000_SWSM), E1000_SWSM_SWESMBI);
}

#[test]
fn statistics_clear_when_read() {
    let (mut d, outside) = rig(1);
    inject(&outside, &plain([0xFF; 6], 60, 0));
    inject(&outside, &plain(MAC, 300, 0));
    d.send(0, &plain(MAC_B, 100, 0), 0);
    let r = |reg| d.dev.read32(reg);
    assert_eq!((r(E1000_GPRC), r(E1000_BPRC), r(E1000_PRC64), r(E1000_PRC511)), (2, 1, 1, 1));
    assert_eq!((r(E1000_GPTC), r(E1000_PTC127)), (1, 1));
    assert_eq!((r(E1000_GORCL), r(E1000_GORCL), r(E1000_GORCH), r(E1000_GORCL)), (368, 368, 0, 0));
    assert_eq!(r(E1000_GPRC), 0);
}

#[test]
fn without_bus_mastering_no_memory_is_touched() {
    let (mut d, outside) = rig(1);
    d.dev.clear_master();
    d.send(0, &plain(MAC_B, 60, 1), 0);
    inject(&outside, &plain(MAC, 60, 1));
    assert!(!d.tx_done(0, 0) && sent(&outside).is_empty() && d.take(0).is_empty());
    d.dev.set_master();
    assert!(d.tx_done(0, 0));
    assert_eq!(sent(&outside).len(), 1);
}
