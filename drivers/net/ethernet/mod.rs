//! Ethernet adapters, by vendor.

pub mod intel;
