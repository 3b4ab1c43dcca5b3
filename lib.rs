//! Linux's network stack: `kernel/`, `fs/` and `net/` as modules of one crate, named and laid out
//! as in Linux 3.10, behaving on the wire and at the socket as a current Linux does.
//!
//! Begin with [`kernel::machine::Machine`], then follow a packet: [`net::core::dev::net_rx_action`]
//! on its way in, [`net::socket::sys_sendto`] on its way out.

#[macro_use]
pub mod kernel;
pub mod fs;
pub mod net;
