//! Network device drivers and the bus they see.
//!
//! Drivers meet a device only through [`pci::PciDev`], and a link only through
//! [`net::wire_port::WirePort`]; which implementation is behind them they do not know.

pub mod net;
pub mod pci;
