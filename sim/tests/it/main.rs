//! Whole machines in a world.

#[macro_use]
mod stepped;

mod bad_input;
mod calls;
mod golden;
mod gro;
mod igb;
mod ip;
mod panics;
mod routed;
mod seed;
mod testdev;
mod udp;
mod util;
