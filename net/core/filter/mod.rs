//! Socket filters: programs in classic BPF that say how much of a packet a socket gets.
//!
//! linux: net/core/filter.c. Key types: [`BpfProg`] (a checked program), [`SkbSource`] (a packet as it sees it).
//! Contexts: attaching by tasks; runs in BH. Invariants: a program that [`bpf_check_classic`] has passed ends: it has
//! an end on each way, and no jump goes back.

mod check;
mod skb;
mod sock;

pub use crate::kernel::bpf::{BpfProg, BpfSource};
pub use check::bpf_check_classic;
pub use skb::{SkbFrom, SkbSource};

#[cfg(test)]
mod tests;
