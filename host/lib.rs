//! The edge to the operating system: clocks, sleeping and waking, signals, entropy, TAP devices.
//!
//! Nothing else in Netkeel calls the system. Key types: [`tap::Tap`], [`wait::Waiter`],
//! [`park::Parker`], [`signal::StopSignal`]. Contexts: any thread.
//! Invariant: every `unsafe` block of the workspace that reaches the system stands here, with the
//! reason why it is sound and a test that would notice were it not.

#![allow(unsafe_code)]

pub mod clock;
pub mod entropy;
mod ifreq;
pub mod park;
pub mod signal;
pub mod tap;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wait;
