//! Linux's network stack: `kernel/`, `fs/` and `net/` as modules of one crate.
pub mod kernel;
