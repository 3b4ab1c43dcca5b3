//! What every protocol stands on: packets, devices, neighbours, sockets, counters, settings.

pub(crate) mod busy_poll;
pub mod datagram;
pub mod dev;
pub mod dev_addr_lists;
pub mod dev_ioctl;
pub mod dst;
pub mod ethtool;
pub mod filter;
pub mod flow_dissector;
pub mod gso;
pub mod neighbour;
pub mod net_procfs;
pub mod secure_seq;
pub mod skbuff;
pub mod snmp;
pub mod sock;
pub mod stream;
pub mod sysctl;
pub(crate) mod timestamping;
