//! Deterministic worlds: machines, links and tasks under one virtual clock and one seed.
//!
//! Key types: [`World`], [`link::LinkSpec`], [`task::Task`], [`Digest`]; without a
//! world, for measuring: [`bare::Host`], [`stream::Pair`], [`flood::Flooded`]. Everything runs on the calling thread;
//! events are ordered by `(time, sequence)`, machines and CPUs run in the order they were made, so
//! the same seed gives the same walk.

pub mod bare;
pub mod clock;
pub mod digest;
pub mod flood;
pub mod link;
pub mod stream;
pub mod task;
pub mod world;

pub use digest::Digest;
pub use link::{Bottleneck, BottleneckStats, Fate, Impairment, LinkSpec, Losses};
pub use task::Task;
pub use world::{MachineSpec, World};
