//! The network stack. In this file `::core` is Rust's core library.

pub mod core;
pub mod ethernet;
pub mod ipv4;
pub mod net_namespace;
pub mod netfilter;
pub mod packet;
pub mod sched;
pub mod socket;
