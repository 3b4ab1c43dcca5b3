//! Device models behind registers and descriptor memory, the wire between them, and capture files.
//!
//! A driver meets a model only through `drivers::pci::PciDev`; a model meets its link only through
//! `drivers::net::wire_port::WirePort`. Models have no clock and no thread: register accesses, wire notifications and
//! `advance` drive them.

pub mod capture;
pub mod igb;
pub mod wire;
