//! The atomics that the stack's lock-free parts use, from one place: a model checker that compiles
//! such a part puts its own here.

pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
