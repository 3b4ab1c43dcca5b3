//! Ethernet.

pub mod eth;
