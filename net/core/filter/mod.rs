//! Socket filters: programs in classic BPF that say how much of a packet a socket gets.
//!
//! linux: net/core/filter.c. Key types: [`BpfProg`] (a checked program), [`BpfSource`] (what it looks at).
//! Contexts: any; a program is a value, and a run touches nothing but its packet. Invariants: a program that
//! [`bpf_check_classic`] has passed ends: it has an end on each way, and no jump goes back.

mod check;
mod run;
mod skb;
mod sock;

pub use check::bpf_check_classic;
pub use run::BpfSource;
pub use skb::{SkbFrom, SkbSource};

use std::sync::Arc;
use uapi::filter::SockFilter;

/// A checked program. A copy is the same program.
///
/// linux: include/linux/filter.h:bpf_prog
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfProg(Arc<[SockFilter]>);

impl BpfProg {
    /// Its instructions.
    pub fn instructions(&self) -> &[SockFilter] {
        &self.0
    }

    /// How many octets of the packet are wanted, from its front; 0: none, it is not.
    ///
    /// linux: kernel/bpf/core.c:___bpf_prog_run
    pub fn bpf_prog_run<S: BpfSource + ?Sized>(&self, packet: &S) -> u32 {
        run::run(&self.0, packet)
    }
}

#[cfg(test)]
mod tests;
