//! Addresses and the bus side, as all of the family have them.
//!
//! linux: drivers/net/ethernet/intel/igb/e1000_mac.c. Context: task.

use super::e1000_regs::*;
use super::igb::IgbHw;

/// Words of the multicast table.
const MTA_WORDS: usize = 128;

/// The address that the device loaded from its NVM.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_read_mac_addr
pub(super) fn igb_read_mac_addr(hw: &IgbHw) -> [u8; 6] {
    let [a, b, c, d] = hw.rd32(E1000_RAL(0)).to_le_bytes();
    let [e, f, ..] = hw.rd32(E1000_RAH(0)).to_le_bytes();
    [a, b, c, d, e, f]
}

/// Sets receive address `index`.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_rar_set
pub(super) fn igb_rar_set(hw: &IgbHw, addr: [u8; 6], index: u32) {
    let [a, b, c, d, e, f] = addr;
    hw.wr32(E1000_RAL(index), u32::from_le_bytes([a, b, c, d]));
    hw.wrfl();
    hw.wr32(E1000_RAH(index), u32::from(u16::from_le_bytes([e, f])) | E1000_RAH_AV);
    hw.wrfl();
}

/// Clears all receive addresses but the first.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_init_rx_addrs
pub(super) fn igb_init_rx_addrs(hw: &IgbHw) {
    for index in 1..E1000_RAR_ENTRIES as u32 {
        hw.wr32(E1000_RAH(index), 0);
        hw.wr32(E1000_RAL(index), 0);
    }
    hw.wrfl();
}

/// Which bit of the multicast table an address has, with `RCTL.MO` 0: its bits 36 to 47.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_hash_mc_addr
pub(super) fn igb_hash_mc_addr(addr: [u8; 6]) -> u32 {
    u32::from(u16::from_le_bytes([addr[4], addr[5]])) >> 4
}

/// Fills the multicast table with exactly these groups.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_update_mc_addr_list
pub(super) fn igb_update_mc_addr_list(hw: &IgbHw, groups: &[[u8; 6]]) {
    let mut table = [0u32; MTA_WORDS];
    for group in groups {
        let bit = igb_hash_mc_addr(*group);
        table[bit as usize >> 5 & (MTA_WORDS - 1)] |= 1 << (bit & 31);
    }
    for (word, value) in table.iter().enumerate().rev() {
        hw.wr32(E1000_MTA_N(word as u32), *value);
    }
    hw.wrfl();
}

/// Stops new bus master requests; false when some are still under way.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_disable_pcie_master
pub(super) fn igb_disable_pcie_master(hw: &IgbHw) -> bool {
    let ctrl = hw.rd32(E1000_CTRL);
    hw.wr32(E1000_CTRL, ctrl | E1000_CTRL_GIO_MASTER_DISABLE);
    hw.wait(E1000_STATUS, |status| status & E1000_STATUS_GIO_MASTER_ENABLE == 0)
}

/// The NVM's contents have been loaded after a reset.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_get_auto_rd_done
pub(super) fn igb_get_auto_rd_done(hw: &IgbHw) -> bool {
    hw.wait(E1000_EECD, |eecd| eecd & E1000_EECD_AUTO_RD != 0)
}

#[cfg(test)]
mod tests {
    use super::igb_hash_mc_addr;

    /// The data sheet's example: offset 0 takes bits 47:36 of the address.
    #[test]
    fn the_hash_takes_the_last_twelve_bits() {
        assert_eq!(igb_hash_mc_addr([0x01, 0xAA, 0x00, 0x12, 0x34, 0x56]), 0x563);
        assert_eq!(igb_hash_mc_addr([0x01, 0x00, 0x5E, 0, 0, 1]), 0x010);
    }
}
