//! IPv4 socket addresses, address kinds, and the options of the IP level.

use crate::errno::Errno;
use crate::socket::AF_INET;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Octets in a `sockaddr_in`.
pub const SOCKADDR_IN_LEN: usize = 16;

/// An IPv4 socket address, both fields in host order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SockaddrIn {
    /// IPv4 address in host order.
    pub addr: u32,
    /// Port in host order.
    pub port: u16,
}

impl SockaddrIn {
    /// Address and port, both in host order.
    pub const fn new(addr: u32, port: u16) -> Self {
        SockaddrIn { addr, port }
    }

    /// The bytes of a `sockaddr_in`.
    pub const fn to_bytes(self) -> [u8; SOCKADDR_IN_LEN] {
        let f = (AF_INET as u16).to_ne_bytes();
        let p = self.port.to_be_bytes();
        let a = self.addr.to_be_bytes();
        [f[0], f[1], p[0], p[1], a[0], a[1], a[2], a[3], 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// Reads a `sockaddr_in`: EINVAL when it is short, EAFNOSUPPORT when it is of another family.
    pub fn from_bytes(b: &[u8]) -> Result<Self, Errno> {
        let b: &[u8; SOCKADDR_IN_LEN] = b.first_chunk().ok_or(Errno::EINVAL)?;
        if i32::from(u16::from_ne_bytes([b[0], b[1]])) != AF_INET {
            return Err(Errno::EAFNOSUPPORT);
        }
        Ok(SockaddrIn {
            addr: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            port: u16::from_be_bytes([b[2], b[3]]),
        })
    }
}

impl From<SocketAddrV4> for SockaddrIn {
    fn from(s: SocketAddrV4) -> Self {
        SockaddrIn { addr: (*s.ip()).into(), port: s.port() }
    }
}

impl From<SockaddrIn> for SocketAddrV4 {
    fn from(s: SockaddrIn) -> Self {
        SocketAddrV4::new(Ipv4Addr::from(s.addr), s.port)
    }
}

impl core::fmt::Display for SockaddrIn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        SocketAddrV4::from(*self).fmt(f)
    }
}

/// Octets in an `in_pktinfo`.
pub const IN_PKTINFO_LEN: usize = 12;

/// What `IP_PKTINFO` says of a packet; addresses in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InPktinfo {
    /// Interface index.
    pub ifindex: i32,
    /// Local address of the packet.
    pub spec_dst: u32,
    /// Destination address in the packet's header.
    pub addr: u32,
}

impl InPktinfo {
    /// The bytes of an `in_pktinfo`.
    pub const fn to_bytes(self) -> [u8; IN_PKTINFO_LEN] {
        let i = self.ifindex.to_ne_bytes();
        let s = self.spec_dst.to_be_bytes();
        let a = self.addr.to_be_bytes();
        [i[0], i[1], i[2], i[3], s[0], s[1], s[2], s[3], a[0], a[1], a[2], a[3]]
    }

    /// Reads an `in_pktinfo`.
    pub const fn from_bytes(b: &[u8; IN_PKTINFO_LEN]) -> Self {
        InPktinfo {
            ifindex: i32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            spec_dst: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            addr: u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
        }
    }
}

/// Octets in an `ip_mreq`.
pub const IP_MREQ_LEN: usize = 8;
/// Octets in an `ip_mreqn`.
pub const IP_MREQN_LEN: usize = 12;
/// Octets in an `ip_mreq_source`.
pub const IP_MREQ_SOURCE_LEN: usize = 12;
/// Octets in an `ip_msfilter` without sources.
pub const IP_MSFILTER_LEN: usize = 16;
/// Octets in a `group_req`.
pub const GROUP_REQ_LEN: usize = 136;
/// Octets in a `group_source_req`.
pub const GROUP_SOURCE_REQ_LEN: usize = 264;
/// Octets in a `group_filter` without sources.
pub const GROUP_FILTER_LEN: usize = 144;

/// A group and a device: an `ip_mreqn`; addresses in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IpMreqn {
    /// The group.
    pub multiaddr: u32,
    /// An address of the device.
    pub address: u32,
    /// The device's index; zero: by its address, or by the route to the group.
    pub ifindex: i32,
}

impl IpMreqn {
    /// Reads an `ip_mreqn`, an `ip_mreq`, or an address of a device alone, by the length there is; `None` of less.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let addr = |at: usize| Some(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?));
        if b.len() < IP_MREQ_LEN {
            return Some(IpMreqn { address: addr(0)?, ..IpMreqn::default() });
        }
        let index = b.get(8..IP_MREQN_LEN).and_then(|index| index.try_into().ok());
        let ifindex = index.map_or(0, i32::from_ne_bytes);
        Some(IpMreqn { multiaddr: addr(0)?, address: addr(4)?, ifindex })
    }

    /// The bytes of an `ip_mreqn`.
    pub const fn to_bytes(self) -> [u8; IP_MREQN_LEN] {
        let m = self.multiaddr.to_be_bytes();
        let a = self.address.to_be_bytes();
        let i = self.ifindex.to_ne_bytes();
        [m[0], m[1], m[2], m[3], a[0], a[1], a[2], a[3], i[0], i[1], i[2], i[3]]
    }
}

consts! { u32:
    /// Any local address.
    INADDR_ANY = 0;
    /// Limited broadcast.
    INADDR_BROADCAST = 0xffff_ffff;
    /// What an address that cannot be parsed reads as.
    INADDR_NONE = 0xffff_ffff;
    /// Source of ICMP errors when there is no address (RFC 7600).
    INADDR_DUMMY = 0xc000_0008;
    /// 127.0.0.1.
    INADDR_LOOPBACK = 0x7f00_0001;
    /// 224.0.0.0.
    INADDR_UNSPEC_GROUP = 0xe000_0000;
    /// 224.0.0.1.
    INADDR_ALLHOSTS_GROUP = 0xe000_0001;
    /// 224.0.0.2.
    INADDR_ALLRTRS_GROUP = 0xe000_0002;
    /// 224.0.0.106.
    INADDR_ALLSNOOPERS_GROUP = 0xe000_006a;
    /// 224.0.0.255.
    INADDR_MAX_LOCAL_GROUP = 0xe000_00ff;
}

consts! { i32:
    /// Type of service of packets sent.
    IP_TOS = 1;
    /// Time to live of packets sent.
    IP_TTL = 2;
    /// The caller supplies the IP header.
    IP_HDRINCL = 3;
    /// Options of packets sent.
    IP_OPTIONS = 4;
    /// Receive forwarded packets with the router alert option.
    IP_ROUTER_ALERT = 5;
    /// Receive a packet's options.
    IP_RECVOPTS = 6;
    /// Receive a packet's options, ready to reply with.
    IP_RETOPTS = 7;
    /// Interface and addresses of a packet.
    IP_PKTINFO = 8;
    /// Options of the latest packet of a stream.
    IP_PKTOPTIONS = 9;
    /// Path MTU discovery, `IP_PMTUDISC_*`.
    IP_MTU_DISCOVER = 10;
    /// Queue errors with their packets.
    IP_RECVERR = 11;
    /// Receive a packet's time to live.
    IP_RECVTTL = 12;
    /// Receive a packet's type of service.
    IP_RECVTOS = 13;
    /// Path MTU of a connected socket.
    IP_MTU = 14;
    /// Allow binding to an address that is not here.
    IP_FREEBIND = 15;
    /// IPsec policy.
    IP_IPSEC_POLICY = 16;
    /// Transform policy.
    IP_XFRM_POLICY = 17;
    /// Receive security contexts.
    IP_PASSSEC = 18;
    /// Transparent proxying.
    IP_TRANSPARENT = 19;
    /// Original destination of a redirected packet.
    IP_ORIGDSTADDR = 20;
    /// Receive the original destination of a redirected packet.
    IP_RECVORIGDSTADDR = 20;
    /// Least time to live accepted.
    IP_MINTTL = 21;
    /// Do not reassemble packets sent with a header.
    IP_NODEFRAG = 22;
    /// Receive a packet's checksum.
    IP_CHECKSUM = 23;
    /// Choose the port on connect rather than on bind.
    IP_BIND_ADDRESS_NO_PORT = 24;
    /// Receive the size of the largest fragment.
    IP_RECVFRAGSIZE = 25;
    /// Report ICMP extensions with errors.
    IP_RECVERR_RFC4884 = 26;
    /// Interface of multicast packets sent.
    IP_MULTICAST_IF = 32;
    /// Time to live of multicast packets sent.
    IP_MULTICAST_TTL = 33;
    /// Loop multicast packets sent back.
    IP_MULTICAST_LOOP = 34;
    /// Join a group.
    IP_ADD_MEMBERSHIP = 35;
    /// Leave a group.
    IP_DROP_MEMBERSHIP = 36;
    /// Accept a source of a group again.
    IP_UNBLOCK_SOURCE = 37;
    /// Refuse a source of a group.
    IP_BLOCK_SOURCE = 38;
    /// Join a group for one source.
    IP_ADD_SOURCE_MEMBERSHIP = 39;
    /// Leave a group for one source.
    IP_DROP_SOURCE_MEMBERSHIP = 40;
    /// Source filter of a group.
    IP_MSFILTER = 41;
    /// Join a group of any family.
    MCAST_JOIN_GROUP = 42;
    /// Refuse a source of a group of any family.
    MCAST_BLOCK_SOURCE = 43;
    /// Accept a source of a group of any family again.
    MCAST_UNBLOCK_SOURCE = 44;
    /// Leave a group of any family.
    MCAST_LEAVE_GROUP = 45;
    /// Join a group of any family for one source.
    MCAST_JOIN_SOURCE_GROUP = 46;
    /// Leave a group of any family for one source.
    MCAST_LEAVE_SOURCE_GROUP = 47;
    /// Source filter of a group of any family.
    MCAST_MSFILTER = 48;
    /// Receive every group joined on the host.
    IP_MULTICAST_ALL = 49;
    /// Interface of unicast packets sent.
    IP_UNICAST_IF = 50;
    /// Range of ports chosen for the socket.
    IP_LOCAL_PORT_RANGE = 51;
    /// Protocol of the socket.
    IP_PROTOCOL = 52;
    /// Never set don't fragment.
    IP_PMTUDISC_DONT = 0;
    /// Discover the path MTU, fragment when a packet exceeds it.
    IP_PMTUDISC_WANT = 1;
    /// Always set don't fragment.
    IP_PMTUDISC_DO = 2;
    /// Set don't fragment, ignore the path MTU.
    IP_PMTUDISC_PROBE = 3;
    /// Use the interface MTU, never set don't fragment.
    IP_PMTUDISC_INTERFACE = 4;
    /// As `IP_PMTUDISC_INTERFACE`, but fragment.
    IP_PMTUDISC_OMIT = 5;
    /// Filter: all sources but those listed.
    MCAST_EXCLUDE = 0;
    /// Filter: only the sources listed.
    MCAST_INCLUDE = 1;
}

/// 127.0.0.0/8.
pub const fn ipv4_is_loopback(a: u32) -> bool {
    a >> 24 == 127
}

/// 224.0.0.0/4.
pub const fn ipv4_is_multicast(a: u32) -> bool {
    a >> 28 == 14
}

/// 224.0.0.0/24: groups that are never forwarded.
pub const fn ipv4_is_local_multicast(a: u32) -> bool {
    a >> 8 == 0x00e0_0000
}

/// 255.255.255.255.
pub const fn ipv4_is_lbcast(a: u32) -> bool {
    a == INADDR_BROADCAST
}

/// 224.0.0.1.
pub const fn ipv4_is_all_multicast(a: u32) -> bool {
    a == INADDR_ALLHOSTS_GROUP
}

/// 0.0.0.0; the rest of 0.0.0.0/8 counts as unicast.
pub const fn ipv4_is_zeronet(a: u32) -> bool {
    a == 0
}

/// 10.0.0.0/8.
pub const fn ipv4_is_private_10(a: u32) -> bool {
    a >> 24 == 10
}

/// 172.16.0.0/12.
pub const fn ipv4_is_private_172(a: u32) -> bool {
    a >> 20 == 0xac1
}

/// 192.168.0.0/16.
pub const fn ipv4_is_private_192(a: u32) -> bool {
    a >> 16 == 0xc0a8
}

/// 169.254.0.0/16.
pub const fn ipv4_is_linklocal_169(a: u32) -> bool {
    a >> 16 == 0xa9fe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(s: &str) -> u32 {
        s.parse::<Ipv4Addr>().unwrap().into()
    }

    #[test]
    fn sockaddr_round_trip() {
        let s = SockaddrIn::from("192.0.2.1:80".parse::<SocketAddrV4>().unwrap());
        assert_eq!(s, SockaddrIn::new(0xc000_0201, 80));
        let b = s.to_bytes();
        assert_eq!(b[..8], [2, 0, 0, 80, 192, 0, 2, 1]);
        assert_eq!(SockaddrIn::from_bytes(&b), Ok(s));
        assert_eq!(SockaddrIn::from_bytes(&b[..15]), Err(Errno::EINVAL));
        assert_eq!(SockaddrIn::from_bytes(&[0; 16]), Err(Errno::EAFNOSUPPORT));
        assert_eq!(s.to_string(), "192.0.2.1:80");
        assert_eq!(b.len(), size_of::<libc::sockaddr_in>());
    }

    #[test]
    fn pktinfo_round_trip() {
        let p = InPktinfo { ifindex: 3, spec_dst: a("10.0.0.1"), addr: a("224.0.0.5") };
        assert_eq!(p.to_bytes(), [3, 0, 0, 0, 10, 0, 0, 1, 224, 0, 0, 5]);
        assert_eq!(InPktinfo::from_bytes(&p.to_bytes()), p);
        assert_eq!(IN_PKTINFO_LEN, size_of::<libc::in_pktinfo>());
    }

    #[test]
    fn a_group_and_a_device_come_in_three_lengths() {
        let whole = IpMreqn { multiaddr: a("239.1.2.3"), address: a("192.0.2.1"), ifindex: 7 };
        let bytes = whole.to_bytes();
        assert_eq!(IpMreqn::from_bytes(&bytes), Some(whole));
        assert_eq!(IpMreqn::from_bytes(&bytes[..11]), Some(IpMreqn { ifindex: 0, ..whole }));
        let alone = IpMreqn { address: a("239.1.2.3"), ..IpMreqn::default() };
        assert_eq!(
            IpMreqn::from_bytes(&bytes[..4]),
            Some(alone),
            "of a device, whatever it looks like"
        );
        assert_eq!(IpMreqn::from_bytes(&bytes[..3]), None);
        assert_eq!(IP_MREQN_LEN, size_of::<libc::ip_mreqn>());
        assert_eq!(IP_MREQ_LEN, size_of::<libc::ip_mreq>());
        assert_eq!(IP_MREQ_SOURCE_LEN, size_of::<libc::ip_mreq_source>());
    }

    #[test]
    fn address_kinds() {
        assert!(ipv4_is_loopback(a("127.9.9.9")) && !ipv4_is_loopback(a("128.0.0.1")));
        assert!(ipv4_is_multicast(a("224.0.0.0")) && ipv4_is_multicast(a("239.255.255.255")));
        assert!(!ipv4_is_multicast(a("240.0.0.0")));
        assert!(ipv4_is_local_multicast(a("224.0.0.255")));
        assert!(!ipv4_is_local_multicast(a("224.0.1.0")));
        assert!(ipv4_is_lbcast(a("255.255.255.255")) && !ipv4_is_lbcast(a("255.255.255.254")));
        assert!(ipv4_is_zeronet(0) && !ipv4_is_zeronet(a("0.1.2.3")));
        assert!(ipv4_is_linklocal_169(a("169.254.1.1")));
        assert!(ipv4_is_private_172(a("172.31.0.1")) && !ipv4_is_private_172(a("172.32.0.1")));
        assert!(ipv4_is_private_10(a("10.1.1.1")) && ipv4_is_private_192(a("192.168.0.1")));
        assert!(ipv4_is_all_multicast(a("224.0.0.1")));
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n, stringify!($n));)* } }
        same!(INADDR_ANY INADDR_BROADCAST INADDR_LOOPBACK
            IP_TOS IP_TTL IP_HDRINCL IP_OPTIONS IP_RECVOPTS IP_PKTINFO IP_MTU_DISCOVER IP_RECVERR
            IP_RECVTTL IP_RECVTOS IP_MTU IP_FREEBIND IP_TRANSPARENT IP_ORIGDSTADDR IP_MINTTL
            IP_NODEFRAG IP_CHECKSUM IP_BIND_ADDRESS_NO_PORT IP_RECVFRAGSIZE IP_MULTICAST_IF
            IP_MULTICAST_TTL IP_MULTICAST_LOOP IP_ADD_MEMBERSHIP IP_MULTICAST_ALL IP_UNICAST_IF
            IP_PMTUDISC_DONT IP_PMTUDISC_WANT IP_PMTUDISC_DO IP_PMTUDISC_PROBE
            IP_PMTUDISC_INTERFACE IP_PMTUDISC_OMIT);
    }
}
