//! The IPv4 side of a socket, and the choice of ports.
//!
//! linux: include/net/inet_sock.h, net/ipv4/inet_hashtables.c; RFC 6056.

use uapi::in_::IP_PMTUDISC_WANT;

/// The IPv4 side of a socket.
///
/// linux: include/net/inet_sock.h:inet_sock
#[derive(Clone, Debug)]
pub struct InetSock {
    /// The address it was bound to or got by connecting; zero: any. What `getsockname` says.
    pub saddr: u32,
    /// The address it receives at; zero: any.
    pub rcv_saddr: u32,
    /// The peer; zero: none.
    pub daddr: u32,
    /// The local port; zero: none.
    pub num: u16,
    /// The peer's port; zero: none.
    pub dport: u16,
    /// The address was bound, not got by connecting.
    pub addr_bound: bool,
    /// The port was bound by hand.
    pub port_bound: bool,
    /// `IP_TOS`.
    pub tos: u8,
    /// `IP_TTL`; `None`: the machine's default.
    pub uc_ttl: Option<u8>,
    /// `IP_MULTICAST_TTL`.
    pub mc_ttl: u8,
    /// `IP_MULTICAST_LOOP`.
    pub mc_loop: bool,
    /// `IP_PKTINFO`.
    pub recv_pktinfo: bool,
    /// `IP_RECVTTL`.
    pub recv_ttl: bool,
    /// `IP_RECVTOS`.
    pub recv_tos: bool,
    /// `IP_RECVORIGDSTADDR`.
    pub recv_origdst: bool,
    /// `IP_RECVERR`.
    pub recverr: bool,
    /// `IP_FREEBIND`.
    pub freebind: bool,
    /// `IP_BIND_ADDRESS_NO_PORT`.
    pub bind_address_no_port: bool,
    /// `IP_MTU_DISCOVER`.
    pub pmtudisc: i32,
}

impl Default for InetSock {
    fn default() -> Self {
        Self {
            saddr: 0,
            rcv_saddr: 0,
            daddr: 0,
            num: 0,
            dport: 0,
            addr_bound: false,
            port_bound: false,
            tos: 0,
            uc_ttl: None,
            mc_ttl: 1,
            mc_loop: true,
            recv_pktinfo: false,
            recv_ttl: false,
            recv_tos: false,
            recv_origdst: false,
            recverr: false,
            freebind: false,
            bind_address_no_port: false,
            pmtudisc: IP_PMTUDISC_WANT,
        }
    }
}
