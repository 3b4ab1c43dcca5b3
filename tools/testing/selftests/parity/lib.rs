//! Parity: one body of checks that runs on the host kernel and on the stack; the results are
//! compared literally.
//!
//! Key types: [`Calls`] (the system calls in Linux's shapes), [`Kernel`] and [`Machine`] (who
//! answers them), [`Check`] and [`Report`]. Each check starts with fresh descriptors on a host with
//! `lo` (127.0.0.1/8, 192.0.2.1/24) and `eth0` (198.51.100.1/24; at the other end only what a check sends itself).
//! Invariant: nothing leaves the network namespace that the kernel's half runs in.

mod calls;
pub mod checks;
mod kernel;
mod machine;
mod probe;
mod report;
mod wire;

pub use calls::{Calls, Got, Outgoing, PollFd, Ret, Room, Sets};
pub use kernel::{Kernel, each_on_kernel, on_kernel};
pub use machine::{Engine, Machine};
pub use probe::Probe;
pub use report::{Check, Report, diff};
