//! Intel 82576 gigabit Ethernet.
//!
//! linux: drivers/net/ethernet/intel/igb (3.10). Read from the top: [`igb_main`] (start, up and down), in it `irq`
//! (vectors and throttling), `rx` and `tx` (the packet paths), `setup` (registers), `stats`; `igb` has the types;
//! `e1000_82575`, `e1000_mac`, `e1000_nvm` and `e1000_phy` know the chip; `igb_ethtool` tells and sets.
//! Entry points: [`igb_init_module`] for a machine's builder, [`igb_probe`] for one device.

mod e1000_82575;
mod e1000_mac;
mod e1000_nvm;
mod e1000_phy;
pub mod e1000_regs;
#[allow(clippy::module_inception, reason = "the file is named as Linux's igb.h")]
mod igb;
mod igb_ethtool;
pub mod igb_main;

pub use igb::IgbOptions;
pub use igb_main::{igb_init_module, igb_probe};
