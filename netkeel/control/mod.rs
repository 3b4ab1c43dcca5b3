//! The control socket: how a running machine is asked and changed.
//!
//! Documentation/control.md describes the protocol. Parts: [`wire`] (the messages), `server` (the
//! connections, on the event loop of `netkeel up`), `ops` (what is done for a request), [`client`]
//! (the end of the commands), `watch` (walks as they end), `dump` (frames as they pass).
//! Contexts: the server's thread is the one of `netkeel up`; what a request does to the machine may
//! wait for a CPU there, and the traffic has threads of its own.
//! Invariants: a client that sends rubbish, too much or nothing, or does not read, costs the others
//! nothing but a bounded turn; memory is bounded by [`MAX_CLIENTS`], [`MAX_LINE`], [`MAX_OUTPUT`].

pub mod client;
pub(crate) mod dump;
pub(crate) mod ops;
pub(crate) mod server;
pub(crate) mod watch;
pub mod wire;

/// The version of the protocol.
pub const VERSION: u64 = 1;
/// Connections at the same time.
pub const MAX_CLIENTS: usize = 32;
/// Octets of a request, its newline included.
pub const MAX_LINE: usize = 64 << 10;
/// Octets that wait for one client at most.
pub const MAX_OUTPUT: usize = 1 << 20;
