//! UDP.
//!
//! linux: net/ipv4/udp.c; RFC 768, RFC 1122 section 4.1. Key types: [`UdpSock`], [`UdpTable`].
//! Parts: `table` (ports and lookup), `rx` (from IP to the queue), `tx` (sending),
//! `recv` (reading), `options`. Contexts: each part says.
//! DIVERGES: a checksum that software must check is checked before the datagram is queued, not
//! when it is read: nobody is woken for a datagram that is thrown away.

mod options;
mod proc;
mod recv;
mod rx;
mod table;
mod tx;

pub use proc::udp4_seq_show;
pub(in crate::net::ipv4) use rx::ipv4_pktinfo_prepare;
pub(crate) use rx::{udp_err, udp_rcv};
pub use table::{SockCache, UdpTable};
pub(crate) use table::{UdpFlow, udp4_lib_lookup};
pub(crate) use tx::cork::udp_push_pending_frames;

use crate::net::core::sock::Proto;
use crate::net::ipv4::datagram::{ip4_datagram_connect, udp_disconnect};
use uapi::ip::IPPROTO_UDP;
use uapi::socket::{AF_INET, SOCK_DGRAM, SOL_UDP};

/// The UDP side of a socket.
///
/// linux: include/linux/udp.h:udp_sock
#[derive(Debug, Default)]
pub struct UdpSock {
    /// `UDP_CORK`.
    pub corkflag: bool,
    /// `UDP_SEGMENT`: octets of payload of the datagrams that a message is cut into; zero: it is one.
    pub gso_size: u16,
    /// It asked for `UDP_GRO` once.
    pub(crate) encap_enabled: bool,
    /// What was corked so far.
    pub(crate) pending: Option<Box<tx::cork::Pending>>,
}

/// UDP's functions.
///
/// linux: net/ipv4/udp.c:udp_prot
pub static UDP_PROT: Proto = Proto {
    name: "UDP",
    family: AF_INET,
    kind: (SOCK_DGRAM, IPPROTO_UDP),
    level: SOL_UDP,
    sendmsg: tx::udp_sendmsg,
    recvmsg: recv::udp_recvmsg,
    connect: ip4_datagram_connect,
    disconnect: udp_disconnect,
    get_port: table::udp_v4_get_port,
    unhash: table::udp_lib_unhash,
    close: tx::cork::udp_close,
    backlog_rcv: rx::udp_backlog_rcv,
    release_cb: None,
    setsockopt: options::udp_setsockopt,
    getsockopt: options::udp_getsockopt,
};
