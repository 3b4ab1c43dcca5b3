//! Whole machines in a world.

mod udp;
mod util;
