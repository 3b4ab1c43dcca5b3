//! Whole machines in a world.

mod golden;
mod seed;
mod testdev;
mod udp;
mod util;
