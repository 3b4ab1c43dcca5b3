//! Attacks on TCP by name: the packets are sent, and the answer, the counters and the memory looked at.

mod blind;
mod fastopen;
mod flood;
mod hash;
mod icmp;
mod memory;
mod numbers;
pub mod peer;
mod sacks;
mod slow;
