//! The PHY, through MDIC.
//!
//! linux: drivers/net/ethernet/intel/igb/e1000_phy.c. Context: task, with the PHY's semaphore.

use super::e1000_regs::*;
use super::igb::IgbHw;
use uapi::errno::Errno;

/// The internal PHY's address.
const PHY_ADDRESS: u32 = 1;

fn mdic(hw: &IgbHw, command: u32) -> Result<u32, Errno> {
    hw.wr32(E1000_MDIC, command | PHY_ADDRESS << E1000_MDIC_PHY_SHIFT);
    if !hw.wait(E1000_MDIC, |value| value & E1000_MDIC_READY != 0) {
        return Err(Errno::EIO);
    }
    match hw.rd32(E1000_MDIC) {
        value if value & E1000_MDIC_ERROR != 0 => Err(Errno::EIO),
        value => Ok(value),
    }
}

/// Reads a register of the PHY.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_phy.c:igb_read_phy_reg_mdic
pub(super) fn igb_read_phy_reg_mdic(hw: &IgbHw, reg: u32) -> Result<u16, Errno> {
    let value = mdic(hw, reg << E1000_MDIC_REG_SHIFT | E1000_MDIC_OP_READ)?;
    Ok((value & E1000_MDIC_DATA_MASK) as u16)
}

/// Writes a register of the PHY.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_phy.c:igb_write_phy_reg_mdic
pub(super) fn igb_write_phy_reg_mdic(hw: &IgbHw, reg: u32, value: u16) -> Result<(), Errno> {
    let command = u32::from(value) | reg << E1000_MDIC_REG_SHIFT | E1000_MDIC_OP_WRITE;
    mdic(hw, command).map(|_| ())
}

/// The PHY's identifier without its revision.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_phy.c:igb_get_phy_id
pub(super) fn igb_get_phy_id(hw: &IgbHw) -> Result<u32, Errno> {
    let high = u32::from(igb_read_phy_reg_mdic(hw, PHY_ID1)?);
    let low = u32::from(igb_read_phy_reg_mdic(hw, PHY_ID2)?);
    Ok((high << 16 | low) & PHY_REVISION_MASK)
}

fn change_control(hw: &IgbHw, clear: u32, set: u32) -> Result<(), Errno> {
    let value = u32::from(igb_read_phy_reg_mdic(hw, PHY_CONTROL)?);
    igb_write_phy_reg_mdic(hw, PHY_CONTROL, (value & !clear | set) as u16)
}

/// Powers the PHY up; the link follows.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_phy.c:igb_power_up_phy_copper
pub(super) fn igb_power_up_phy_copper(hw: &IgbHw) -> Result<(), Errno> {
    change_control(hw, MII_CR_POWER_DOWN, 0)
}

/// Powers the PHY down: the partner sees the link go.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_phy.c:igb_power_down_phy_copper
pub(super) fn igb_power_down_phy_copper(hw: &IgbHw) -> Result<(), Errno> {
    change_control(hw, 0, MII_CR_POWER_DOWN)
}

/// Agrees on speed and duplex with the partner, from the start: whatever the PHY was set to before is gone.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_phy.c:igb_copper_link_autoneg
pub(super) fn igb_copper_link_autoneg(hw: &IgbHw) -> Result<(), Errno> {
    let control = MII_CR_FULL_DUPLEX | MII_CR_SPEED_1000;
    let restart = MII_CR_AUTO_NEG_EN | MII_CR_RESTART_AUTO_NEG;
    igb_write_phy_reg_mdic(hw, PHY_CONTROL, (control | restart) as u16)
}
