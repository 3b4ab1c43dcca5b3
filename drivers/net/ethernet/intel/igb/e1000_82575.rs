//! The chip: reset, start, link, and the semaphore shared with firmware and the other port.
//!
//! linux: drivers/net/ethernet/intel/igb/e1000_82575.c. Context: task.
//! DIVERGES: waits are counted in register reads, not microseconds: the driver has no clock of its own.

use super::e1000_mac::{
    igb_disable_pcie_master, igb_get_auto_rd_done, igb_init_rx_addrs, igb_update_mc_addr_list,
};
use super::e1000_nvm::igb_validate_nvm_checksum;
use super::e1000_phy::{
    igb_copper_link_autoneg, igb_power_down_phy_copper, igb_power_up_phy_copper,
};
use super::e1000_regs::*;
use super::igb::IgbHw;
use uapi::errno::Errno;

/// Takes the semaphore between drivers and firmware.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_82575.c:igb_get_hw_semaphore
fn igb_get_hw_semaphore(hw: &IgbHw) -> Result<(), Errno> {
    // Reading takes the first bit if it was free.
    if !hw.wait(E1000_SWSM, |swsm| swsm & E1000_SWSM_SMBI == 0) {
        return Err(Errno::EBUSY);
    }
    for _ in 0..2000 {
        let swsm = hw.rd32(E1000_SWSM);
        hw.wr32(E1000_SWSM, swsm | E1000_SWSM_SWESMBI);
        if hw.rd32(E1000_SWSM) & E1000_SWSM_SWESMBI != 0 {
            return Ok(());
        }
    }
    igb_put_hw_semaphore(hw);
    Err(Errno::EBUSY)
}

/// linux: drivers/net/ethernet/intel/igb/e1000_mac.c:igb_put_hw_semaphore
fn igb_put_hw_semaphore(hw: &IgbHw) {
    let swsm = hw.rd32(E1000_SWSM);
    hw.wr32(E1000_SWSM, swsm & !(E1000_SWSM_SMBI | E1000_SWSM_SWESMBI));
}

/// Runs `f` while `resource` (NVM or PHY) belongs to this driver.
///
/// # Errors
/// EBUSY when it never becomes free; those of `f`.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_82575.c:igb_acquire_swfw_sync_82575
pub(super) fn with_swfw_sync<R>(
    hw: &IgbHw,
    resource: u32,
    f: impl FnOnce(&IgbHw) -> Result<R, Errno>,
) -> Result<R, Errno> {
    let mut taken = false;
    for _ in 0..200 {
        igb_get_hw_semaphore(hw)?;
        let sync = hw.rd32(E1000_SW_FW_SYNC);
        // The firmware's bit is 16 above the software's.
        taken = sync & (resource | resource << 16) == 0;
        if taken {
            hw.wr32(E1000_SW_FW_SYNC, sync | resource);
        }
        igb_put_hw_semaphore(hw);
        if taken {
            break;
        }
    }
    if !taken {
        return Err(Errno::EBUSY);
    }
    let result = f(hw);
    if igb_get_hw_semaphore(hw).is_ok() {
        let sync = hw.rd32(E1000_SW_FW_SYNC);
        hw.wr32(E1000_SW_FW_SYNC, sync & !resource);
        igb_put_hw_semaphore(hw);
    }
    result
}

/// Resets the device; its own address is loaded from the NVM again.
///
/// # Errors
/// EIO when it does not come back.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_82575.c:igb_reset_hw_82575
pub(super) fn igb_reset_hw_82575(hw: &IgbHw) -> Result<(), Errno> {
    // What is still under way is lost with the reset.
    let _quiet = igb_disable_pcie_master(hw);
    hw.wr32(E1000_IMC, !0);
    hw.wr32(E1000_RCTL, 0);
    hw.wr32(E1000_TCTL, E1000_TCTL_PSP);
    hw.wrfl();
    let ctrl = hw.rd32(E1000_CTRL);
    hw.wr32(E1000_CTRL, ctrl | E1000_CTRL_RST);
    let back = hw.wait(E1000_CTRL, |ctrl| ctrl & E1000_CTRL_RST == 0)
        && hw.wait(E1000_STATUS, |status| status & E1000_STATUS_PF_RST_DONE != 0)
        && igb_get_auto_rd_done(hw);
    hw.wr32(E1000_IMC, !0);
    hw.wr32(E1000_EIMC, !0);
    let _cleared = hw.rd32(E1000_ICR);
    if back { Ok(()) } else { Err(Errno::EIO) }
}

/// Starts the device after a reset: addresses, multicast table, link.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_82575.c:igb_init_hw_82575
pub(super) fn igb_init_hw_82575(hw: &IgbHw) -> Result<(), Errno> {
    igb_init_rx_addrs(hw);
    igb_update_mc_addr_list(hw, &[]);
    igb_setup_copper_link_82575(hw)
}

/// Lets the link come up and negotiates it.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_82575.c:igb_setup_copper_link_82575
fn igb_setup_copper_link_82575(hw: &IgbHw) -> Result<(), Errno> {
    let ctrl = hw.rd32(E1000_CTRL) & !(E1000_CTRL_FRCSPD | E1000_CTRL_FRCDPX);
    hw.wr32(E1000_CTRL, ctrl | E1000_CTRL_SLU);
    with_swfw_sync(hw, E1000_SWFW_PHY0_SM, igb_copper_link_autoneg)
}

/// Powers the link up or down.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_power_up_link
pub(super) fn igb_power_up_link(hw: &IgbHw) -> Result<(), Errno> {
    with_swfw_sync(hw, E1000_SWFW_PHY0_SM, igb_power_up_phy_copper)
}

/// Powers the link down.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_power_down_link
pub(super) fn igb_power_down_link(hw: &IgbHw) -> Result<(), Errno> {
    with_swfw_sync(hw, E1000_SWFW_PHY0_SM, igb_power_down_phy_copper)
}

/// The NVM is sound.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_82575.c:igb_acquire_nvm_82575
pub(super) fn validate_nvm(hw: &IgbHw) -> Result<(), Errno> {
    with_swfw_sync(hw, E1000_SWFW_EEP_SM, igb_validate_nvm_checksum)
}

/// The link is up. One register read: fit for an interrupt. A device that has gone has no link.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_has_link
pub(super) fn igb_has_link(hw: &IgbHw) -> bool {
    let status = hw.rd32(E1000_STATUS);
    status != !0 && status & E1000_STATUS_LU != 0
}
