//! The IPv4 side of a socket, and the tables by which connections, listeners and bound ports are found.
//!
//! linux: include/net/inet_sock.h, net/ipv4/inet_hashtables.c; RFC 6056. Parts: `ehash` (connections),
//! `bhash` (ports), `lhash` (listeners), `connect` (a connection's
//! place), `ports` (the search for its port). Contexts: BH and task. Locks:
//! `class::BindHash`, `class::Ehash`, `class::ListenHash`, each for one look or change, under a socket's.
//! Invariant: no order of a table's own reaches what anybody sees.

mod bhash;
mod connect;
mod ehash;
mod lhash;
mod ports;

pub(crate) use bhash::{Bhash, Wanted};
pub use bhash::{BindAttrs, BindKind, InetBindNode};
pub(crate) use connect::{inet_hash, inet_hash_connect, inet_put_port, inet_unhash};
pub use ehash::InetTuple;
pub(crate) use ehash::{Ehash, EhashEntry};
pub(crate) use lhash::{Lhash, ListenFlow};
pub(crate) use ports::ports_in;

use crate::net::core::sock::Sock;
use bitflags::bitflags;
use klib::siphash::SipKey;
use std::sync::Arc;
use uapi::in_::IP_PMTUDISC_WANT;

bitflags! {
    /// What a reader is told with each packet.
    ///
    /// linux: include/net/inet_sock.h:IP_CMSG_PKTINFO
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CmsgFlags: u32 {
        /// `IP_PKTINFO`.
        const PKTINFO = 1;
        /// `IP_RECVTTL`.
        const TTL = 1 << 1;
        /// `IP_RECVTOS`.
        const TOS = 1 << 2;
        /// `IP_RECVORIGDSTADDR`.
        const ORIGDSTADDR = 1 << 3;
        /// `SO_TIMESTAMP`.
        const TIMESTAMP = 1 << 4;
        /// `SO_TIMESTAMPNS`.
        const TIMESTAMPNS = 1 << 5;
        /// `SO_RXQ_OVFL`.
        const RXQ_OVFL = 1 << 6;
        /// `UDP_GRO`: datagrams come merged, with their length.
        const UDP_GRO = 1 << 12;
        /// `IP_RECVFRAGSIZE`.
        const RECVFRAGSIZE = 1 << 13;
        /// Nothing was read yet: the first reader notes that something was.
        const UNREAD = 1 << 7;
        /// The time of each packet is kept for `SIOCGSTAMP` (`SOCK_TIMESTAMP`).
        const STAMP = 1 << 8;
        /// The reader's CPU is noted, so that the flow comes there.
        const FOLLOWED = 1 << 9;
        /// `SO_TIMESTAMPING`: the time is told of packets that have one.
        const TIMESTAMPING = 1 << 10;
        /// `SO_TIMESTAMPING`: packets get one.
        const RX_STAMP = 1 << 11;
        /// A filter is attached.
        const FILTERED = 1 << 14;
        /// Times are told in control messages of the numbers `SO_…_NEW` (`SOCK_TSTAMP_NEW`).
        const TSTAMP_NEW = 1 << 15;
        /// `IP_RECVOPTS`.
        const RECVOPTS = 1 << 16;
        /// `IP_RETOPTS`.
        const RETOPTS = 1 << 17;
        /// A time is told.
        const TIMES_TOLD = Self::TIMESTAMP.bits() | Self::TIMESTAMPNS.bits() | Self::TIMESTAMPING.bits();
        /// Packets get a time when they are queued.
        const TIMED = Self::TIMESTAMP.bits() | Self::TIMESTAMPNS.bits() | Self::STAMP.bits()
            | Self::RX_STAMP.bits();
    }
}

/// The tables of TCP's sockets in a namespace.
///
/// linux: include/net/inet_hashtables.h:inet_hashinfo
#[derive(Debug)]
pub struct InetHashinfo {
    /// Connections, requests, TIME_WAIT.
    pub(crate) ehash: Ehash,
    /// Ports in use.
    pub(crate) bhash: Bhash,
    /// Listeners.
    pub(crate) lhash: Lhash,
}

impl InetHashinfo {
    pub(crate) fn new([ekey, lkey]: [SipKey; 2], random: impl FnMut() -> u32) -> Self {
        Self { ehash: Ehash::new(ekey), bhash: Bhash::new(random), lhash: Lhash::new(lkey) }
    }

    /// The sockets of connections and listeners.
    pub fn all_socks(&self) -> Vec<Arc<Sock>> {
        let connections = self.ehash.dump().into_iter().filter_map(|(_, entry)| match entry {
            EhashEntry::Sock(sk) => Some(sk),
            EhashEntry::TimeWait(_) | EhashEntry::Request(_) => None,
        });
        connections.chain(self.lhash.dump()).collect()
    }

    /// Sockets that connect, are connected or listen.
    ///
    /// linux: net/core/sock.c:sock_prot_inuse_get
    pub fn sockets(&self) -> usize {
        self.ehash.sockets() + self.lhash.dump().len()
    }

    /// The most connections, requests among them, whose search in the table begins at one place: what a segment
    /// costs there at the worst.
    pub fn longest_chain(&self) -> usize {
        self.ehash.longest_chain()
    }

    /// Nobody is in any of the tables: no connection, no request, no TIME_WAIT, no listener, no port.
    pub fn is_empty(&self) -> bool {
        self.ehash.is_empty() && self.lhash.dump().is_empty() && self.bhash.is_empty()
    }
}

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
    /// The local port that `getsockname` tells: of a connection that is over, still the last one.
    pub sport: u16,
    /// The peer's port; zero: none.
    pub dport: u16,
    /// The way to the peer is known: the last `connect` did not fail.
    pub has_dst: bool,
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
    /// What is told with each packet: `IP_PKTINFO`, `SO_TIMESTAMP` and the like.
    pub cmsg_flags: CmsgFlags,
    /// `IP_RECVERR`.
    pub recverr: bool,
    /// `IP_FREEBIND`.
    pub freebind: bool,
    /// `IP_BIND_ADDRESS_NO_PORT`.
    pub bind_address_no_port: bool,
    /// `IP_HDRINCL`: what is sent begins with its IP header.
    pub hdrincl: bool,
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
            sport: 0,
            dport: 0,
            has_dst: false,
            addr_bound: false,
            port_bound: false,
            tos: 0,
            uc_ttl: None,
            mc_ttl: 1,
            mc_loop: true,
            cmsg_flags: CmsgFlags::UNREAD,
            recverr: false,
            freebind: false,
            bind_address_no_port: false,
            hdrincl: false,
            pmtudisc: IP_PMTUDISC_WANT,
        }
    }
}
