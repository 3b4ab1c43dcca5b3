//! Whole machines in a world.

#[macro_use]
mod stepped;
mod tcp;

mod affinity;
mod bad_input;
mod batches;
mod busy_poll;
mod calls;
mod drops;
mod files;
mod fq;
mod fragments;
mod golden;
mod gro;
mod hotplug;
mod igb;
mod ip;
mod links;
mod lone;
mod md5;
mod memory;
mod multicast;
mod neigh;
mod panics;
mod pipes;
mod queues;
mod routed;
mod rps;
mod scripted;
mod seed;
mod settings;
mod sockets;
mod steering;
mod testdev;
mod timestamping;
mod udp;
mod udp_gso;
mod until;
mod util;
mod walks;
mod walks_igb;
mod walks_tcp;
mod walks_tun;
mod zerocopy;
