//! `netkeel up` against the host's kernel and its own programs, each test in a network namespace
//! of its own.

mod addrs;
mod balance;
mod bench;
mod bulk;
mod control;
mod control_hostile;
mod cpus;
mod dump;
mod errors;
mod explain;
mod features;
mod hostile;
mod idle;
mod interop;
mod link;
mod netns;
mod output;
mod pcap;
mod pcap_ends;
mod proc_shapes;
mod scanners;
mod settings;
mod sockets;
mod streams;
mod sysctl;
mod tap_wire;
mod up;
