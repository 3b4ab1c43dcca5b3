//! Whole machines in a world.

mod bad_input;
mod calls;
mod files;
mod golden;
mod igb;
mod ip;
mod neigh;
mod routed;
mod seed;
mod sockets;
mod testdev;
mod udp;
mod util;
