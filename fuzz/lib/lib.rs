//! What a fuzzer does with an input: a function per target, the same for libFuzzer and for the test that replays what
//! it found.
//!
//! Key types: [`TARGETS`]; [`Input`], octets as questions are answered from; [`Lab`], a machine and its peer's end of
//! the wire. Contexts: the calling thread. Invariants: a target is a function of its input alone; whatever that is, it
//! ends, and it panics only where the stack is wrong.

mod calls;
mod cbpf;
mod filter_expr;
mod fragments;
mod frame;
mod frame_in;
mod igmp_icmp_in;
mod input;
mod lab;
mod options;
mod pcapng_in;
mod peer;

pub use calls::calls;
pub use cbpf::cbpf;
pub use filter_expr::filter_expr;
pub use fragments::fragments;
pub use frame_in::frame_in;
pub use igmp_icmp_in::igmp_icmp_in;
pub use input::Input;
pub use lab::Lab;
pub use pcapng_in::pcapng_in;

/// A target: what is done with an input.
pub type Target = fn(&[u8]);

/// Each by its name, which is that of its file for cargo-fuzz, and of its folder of inputs.
pub const TARGETS: &[(&str, Target)] = &[
    ("frame_in", frame_in),
    ("fragments", fragments),
    ("igmp_icmp_in", igmp_icmp_in),
    ("calls", calls),
    ("cbpf", cbpf),
    ("filter_expr", filter_expr),
    ("pcapng_in", pcapng_in),
];

/// Steps of an input at most: a longer one says nothing new.
const STEPS: usize = 200;
