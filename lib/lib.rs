//! Checksums, hashes, rings, bitmaps and tries: what the rest of the stack builds on.
//!
//! The counterpart of Linux's `lib/` directory. Nothing here knows about packets, devices or
//! sockets; everything is safe Rust without I/O.
#![forbid(unsafe_code)]

pub mod bitmap;
pub mod checksum;
pub mod lc_trie;
pub mod random;
pub mod ring;
pub mod siphash;
pub mod toeplitz;
pub mod win_minmax;
