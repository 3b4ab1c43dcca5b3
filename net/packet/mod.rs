//! Packet sockets.

pub mod af_packet;
