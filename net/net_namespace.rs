//! A network namespace: the tables that change with every socket and neighbour, and its secrets.
//!
//! linux: net/core/net_namespace.c, include/net/netns/ipv4.h. Key type: [`Net`].

use crate::net::core::dev::SockFlowTable;
use crate::net::core::neighbour::NeighTable;
use crate::net::ipv4::icmp::IcmpLimits;
use crate::net::ipv4::udp::UdpTable;
use klib::random::Csprng;
use klib::siphash::SipKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A network namespace. What is read for every packet and rarely changed is in the snapshot
/// ([`NetTables`](crate::net::core::dev::NetTables)) instead.
#[derive(Debug)]
pub struct Net {
    /// IPv4 neighbours.
    pub arp_tbl: Arc<NeighTable>,
    /// UDP sockets by port.
    pub udp_table: UdpTable,
    /// Where the readers of flows are.
    pub rps_sock_flow_table: SockFlowTable,
    /// ICMP's rate limits.
    pub(crate) icmp: IcmpLimits,
    /// Keys the flow hash.
    pub(crate) flow_key: SipKey,
    /// Keys the IP ID of each destination.
    pub(crate) ident_key: SipKey,
    /// IP ID counters, one for each hash of a destination.
    pub(crate) idents: Box<[AtomicU32]>,
    pub(crate) next_cookie: AtomicU64,
}

/// How many IP ID counters there are.
pub(crate) const IP_IDENTS: usize = 2048;

impl Net {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut secrets = Csprng::from_seed(seed);
        let mut key = || SipKey([secrets.next_u64(), secrets.next_u64()]);
        let (flow_key, ident_key) = (key(), key());
        Self {
            arp_tbl: NeighTable::new(),
            udp_table: UdpTable::new(key()),
            rps_sock_flow_table: SockFlowTable::default(),
            icmp: IcmpLimits::new(key()),
            flow_key,
            ident_key,
            idents: (0..IP_IDENTS).map(|_| AtomicU32::new(secrets.next_u32())).collect(),
            next_cookie: AtomicU64::new(1),
        }
    }
}
