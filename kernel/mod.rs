//! CPUs, softirqs, interrupts, time, tasks, locks and the walk.
//!
//! Nothing here uses `net` but [`cpu`], [`rcupdate`] and [`nsproxy`], which must name what per-CPU data, the
//! read-mostly tables and tasks hold.

pub mod bpf;
pub mod context;
pub mod cpu;
pub mod hrtimer;
pub mod initcall;
pub mod irq;
pub mod locking;
pub mod machine;
pub mod nsproxy;
pub mod rcupdate;
pub mod remote_queue;
pub mod sched;
pub mod smpboot;
pub mod softirq;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod timer;
#[macro_use]
pub mod trace;
