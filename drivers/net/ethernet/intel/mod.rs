//! Intel's adapters.

pub mod igb;
