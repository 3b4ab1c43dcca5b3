//! Whole machines in a world.

mod calls;
mod golden;
mod seed;
mod testdev;
mod udp;
mod util;
