//! A network namespace: the tables that change with every socket and neighbour, and its secrets.
//!
//! linux: net/core/net_namespace.c, include/net/netns/ipv4.h. Key type: [`Net`].

use crate::kernel::context::TaskCx;
use crate::net::core::dev::SockFlowTable;
use crate::net::core::neighbour::NeighTable;
use crate::net::core::stream::TcpMemory;
use crate::net::ipv4::icmp::IcmpLimits;
use crate::net::ipv4::igmp::IgmpTable;
use crate::net::ipv4::inet_hashtables::InetHashinfo;
use crate::net::ipv4::ip_fragment::{IpFrags, ipv4_frags_exit};
use crate::net::ipv4::ping::PingTable;
use crate::net::ipv4::raw::RawHashinfo;
use crate::net::ipv4::route::FnheTable;
use crate::net::ipv4::syncookies::SyncookieSecret;
use crate::net::ipv4::tcp::tcp_sk_exit;
use crate::net::ipv4::tcp_fastopen::FastopenNet;
use crate::net::ipv4::tcp_input::ChallengeAcks;
use crate::net::ipv4::udp::UdpTable;
use crate::net::packet::af_packet::NetnsPacket;
use klib::random::Csprng;
use klib::siphash::SipKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// A network namespace. What is read for every packet and rarely changed is in the snapshot
/// ([`NetTables`](crate::net::core::dev::NetTables)) instead.
#[derive(Debug)]
pub struct Net {
    /// IPv4 neighbours.
    pub arp_tbl: Arc<NeighTable>,
    /// Packet sockets.
    pub packet: NetnsPacket,
    /// Ping sockets.
    pub ping: PingTable,
    /// Raw IPv4 sockets.
    pub raw: RawHashinfo,
    /// UDP sockets by port.
    pub udp_table: UdpTable,
    /// TCP's tables, secrets and account.
    pub tcp: TcpNet,
    /// Where the readers of flows are.
    pub rps_sock_flow_table: SockFlowTable,
    /// Datagrams that are put together.
    pub(crate) frags: Arc<IpFrags>,
    /// Groups that devices belong to.
    pub igmp: Arc<IgmpTable>,
    /// What is known of the MTU of ways.
    pub fnhe: FnheTable,
    /// ICMP's rate limits.
    pub(crate) icmp: IcmpLimits,
    /// Keys the flow hash.
    pub(crate) flow_key: SipKey,
    /// Keys the IP ID of each destination.
    pub(crate) ident_key: SipKey,
    /// IP ID counters, one for each hash of a destination.
    pub(crate) idents: Box<[AtomicU32]>,
    pub(crate) next_cookie: AtomicU64,
    /// Some socket polls for its packets: until then nobody notes who brings them.
    pub(crate) busy_polls: AtomicBool,
    /// Some packet was to be told of when it leaves: until then nobody looks.
    pub(crate) tx_tstamps: AtomicBool,
}

/// TCP's part of a namespace.
///
/// linux: include/net/netns/ipv4.h
#[derive(Debug)]
pub struct TcpNet {
    /// Connections, ports, listeners.
    pub hashinfo: InetHashinfo,
    /// Memory, and counts of sockets.
    pub memory: TcpMemory,
    /// Keys first sequence numbers.
    pub(crate) seq_key: SipKey,
    /// Keys the offsets of timestamps.
    pub(crate) ts_key: SipKey,
    /// Keys the choice of ports.
    pub(crate) port_key: SipKey,
    /// Keys cookies.
    pub(crate) cookie_secret: SyncookieSecret,
    /// Cookies of fast open.
    pub(crate) fastopen: FastopenNet,
    /// Challenge acknowledgements of this second.
    pub(crate) challenges: ChallengeAcks,
}

/// How many IP ID counters there are.
pub(crate) const IP_IDENTS: usize = 2048;

impl Net {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut secrets = Csprng::from_seed(seed);
        let mut key = || SipKey([secrets.next_u64(), secrets.next_u64()]);
        let (flow_key, ident_key) = (key(), key());
        let (udp_key, icmp_key) = (key(), key());
        let idents = (0..IP_IDENTS).map(|_| AtomicU32::new(secrets.next_u32())).collect();
        let tcp_seed = std::array::from_fn(|_| secrets.next_u32() as u8);
        let fastopen_key = SipKey([secrets.next_u64(), secrets.next_u64()]);
        let mut key = || SipKey([secrets.next_u64(), secrets.next_u64()]);
        let (frag_key, fnhe_key) = (key(), key());
        Self {
            arp_tbl: NeighTable::new(),
            packet: NetnsPacket::default(),
            ping: PingTable::default(),
            raw: RawHashinfo::default(),
            udp_table: UdpTable::new(udp_key),
            tcp: TcpNet::new(tcp_seed, fastopen_key),
            rps_sock_flow_table: SockFlowTable::default(),
            frags: IpFrags::new(frag_key),
            igmp: Arc::default(),
            fnhe: FnheTable::new(fnhe_key),
            icmp: IcmpLimits::new(icmp_key),
            flow_key,
            ident_key,
            idents,
            next_cookie: AtomicU64::new(1),
            busy_polls: AtomicBool::new(false),
            tx_tstamps: AtomicBool::new(false),
        }
    }
}

impl TcpNet {
    fn new(seed: [u8; 32], fastopen_key: SipKey) -> Self {
        let mut secrets = Csprng::from_seed(seed);
        let mut number = || secrets.next_u64();
        let mut key = || SipKey([number(), number()]);
        let keys = [key(), key(), key(), key(), key(), key(), key()];
        Self {
            // What can be seen from outside follows the keys, and is none of their octets.
            hashinfo: InetHashinfo::new([keys[0], keys[1]], || secrets.next_u32()),
            memory: TcpMemory::default(),
            seq_key: keys[2],
            ts_key: keys[3],
            port_key: keys[4],
            cookie_secret: SyncookieSecret([keys[5], keys[6]]),
            fastopen: FastopenNet::new(fastopen_key),
            challenges: ChallengeAcks::default(),
        }
    }
}

/// The namespace ends: connections that go on without a descriptor do, too, and fragments that wait for others.
///
/// linux: net/core/net_namespace.c:cleanup_net
pub fn cleanup_net(cx: &mut TaskCx) {
    tcp_sk_exit(cx);
    cx.local_bh_disable(ipv4_frags_exit);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports that peers see are chosen by these counters: they begin with numbers that are no key's.
    #[test]
    fn counters_that_show_outside_hold_no_part_of_a_key() {
        let seed = [7; 32];
        let (net, mut keys) = (TcpNet::new(seed, SipKey([0; 2])), Csprng::from_seed(seed));
        let of_keys: Vec<u32> = (0..28).map(|_| keys.next_u32()).collect();
        assert!(of_keys.contains(&(net.seq_key.0[0] as u32)), "these are the keys");
        for n in 0..256 {
            let counter = net.hashinfo.bhash.perturb(n).next();
            assert!(!of_keys.contains(&counter), "counter {n}");
        }
    }
}
