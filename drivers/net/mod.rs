//! Network devices.

pub mod ethernet;
pub mod loopback;
pub mod tun;
pub mod veth;
pub mod virtio_net;
pub mod wire;
pub mod wire_port;
