//! Netkeel: Linux's network stack as a library and a program.

pub mod ask;
pub mod bench;
pub mod cli;
pub mod control;
pub mod dump;
pub mod explain;
pub mod pkt;
pub mod replay;
pub mod scenario;
pub mod sysctl_conf;
pub mod up;
pub mod walk;
