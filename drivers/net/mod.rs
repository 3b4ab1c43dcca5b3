//! Network devices.

pub mod ethernet;
pub mod wire_port;
