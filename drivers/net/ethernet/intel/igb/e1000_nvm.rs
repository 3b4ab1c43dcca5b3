//! The NVM, read word by word through EERD.
//!
//! linux: drivers/net/ethernet/intel/igb/e1000_nvm.c. Context: task, with the NVM's semaphore.

use super::e1000_regs::*;
use super::igb::IgbHw;
use uapi::errno::Errno;

/// Words that the checksum covers.
const NVM_CHECKSUM_WORDS: u32 = 64;

/// Reads a word.
///
/// # Errors
/// EIO when the device does not answer.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_nvm.c:igb_read_nvm_eerd
pub(super) fn igb_read_nvm_eerd(hw: &IgbHw, word: u32) -> Result<u16, Errno> {
    hw.wr32(E1000_EERD, word << E1000_NVM_RW_ADDR_SHIFT | E1000_NVM_RW_REG_START);
    if !hw.wait(E1000_EERD, |value| value & E1000_NVM_RW_REG_DONE != 0) {
        return Err(Errno::EIO);
    }
    Ok((hw.rd32(E1000_EERD) >> E1000_NVM_RW_REG_DATA) as u16)
}

/// The first 64 words add up to what they must.
///
/// # Errors
/// EIO when they do not.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_nvm.c:igb_validate_nvm_checksum
pub(super) fn igb_validate_nvm_checksum(hw: &IgbHw) -> Result<(), Errno> {
    let mut sum = 0u16;
    for word in 0..NVM_CHECKSUM_WORDS {
        sum = sum.wrapping_add(igb_read_nvm_eerd(hw, word)?);
    }
    if sum == E1000_NVM_SUM { Ok(()) } else { Err(Errno::EIO) }
}
