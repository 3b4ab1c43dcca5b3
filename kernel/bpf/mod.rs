//! Programs in classic BPF, and their runs.
//!
//! linux: kernel/bpf/. Key types: [`BpfProg`], [`BpfSource`] (what a program looks at). Contexts: any; a program is
//! a value, and a run touches nothing but its packet. Invariant: every program here was checked, so it ends
//! (`net::core::filter::bpf_check_classic` makes them).

mod core;

pub use self::core::{BpfProg, BpfSource};
