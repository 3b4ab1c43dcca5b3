//! CPUs, softirqs, interrupts, time, tasks and the walk.
pub mod irq;
