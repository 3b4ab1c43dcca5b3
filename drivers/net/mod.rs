//! Network devices.

pub mod ethernet;
pub mod loopback;
pub mod wire;
pub mod wire_port;
