//! Whole machines in a world.

#[macro_use]
mod stepped;

mod bad_input;
mod calls;
mod golden;
mod igb;
mod ip;
mod routed;
mod seed;
mod testdev;
mod udp;
mod util;
