//! Netkeel's concurrent parts, run in every order that two or three threads can take.
//!
//! The files are the stack's own: `build.rs` gives them loom's atomics in the place of the processor's, and
//! what they ask of the operating system (`shims`). Each variant of them is a module: [`good`] as they are,
//! the others with one mistake, which the models have to catch. The models stand in `models/`; what runs
//! them, in `tests/`.

#![allow(unsafe_code)]
#![allow(missing_docs, dead_code, unused, clippy::all, reason = "the stack's files, checked there")]

mod shims;

include!(concat!(env!("OUT_DIR"), "/variants.rs"));
