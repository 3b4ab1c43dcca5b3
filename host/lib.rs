//! The edge to the operating system: clocks, sleeping and waking, signals, entropy, TAP devices,
//! and the threads on which a machine runs.
//!
//! Nothing else in Netkeel calls the system. Key types: [`Runtime`] (a machine on threads),
//! [`block_on`] (a call that may sleep, on this thread), [`tap::Tap`], [`tap_wire::TapWire`],
//! [`private_socket::PrivateListener`], [`wait::Waiter`], [`park::Parker`],
//! [`signal::StopSignal`]. Contexts: any thread.
//! Invariant: every `unsafe` block of the workspace that reaches the system stands here, with the
//! reason why it is sound and a test that would notice were it not.

#![allow(unsafe_code)]

pub mod batch;
pub mod clock;
pub mod entropy;
mod idle;
mod ifreq;
mod ksoftirqd;
pub mod netns;
pub mod packet;
pub mod park;
pub mod platform;
pub mod private_socket;
pub mod runtime;
pub mod signal;
pub mod socket;
pub mod tap;
mod tap_port;
pub mod tap_wire;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wait;

pub use runtime::{Runtime, RuntimeBuilder, RuntimeError, TapLink, TapSpec};
pub use task::{TaskHandle, block_on};
