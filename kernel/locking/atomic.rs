//! The atomics that what is shared between CPUs is made of, in one place.
//!
//! The files that import from here and from nowhere else what threads meet at are also compiled with
//! a model checker's atomics in this module's place (`tools/loom`): so what is proved there is what
//! runs here. Such a file may not want a constant constructor, which a model's atomics lack.

pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
