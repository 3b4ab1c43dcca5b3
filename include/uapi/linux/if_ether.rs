//! Ethernet framing: header, sizes, protocol numbers.

use zerocopy::network_endian::U16;

/// Octets in one Ethernet address.
pub const ETH_ALEN: usize = 6;
/// Octets in an Ethernet header.
pub const ETH_HLEN: usize = 14;
/// Least octets in a frame, without the frame check sequence.
pub const ETH_ZLEN: usize = 60;
/// Most octets of payload in a standard frame.
pub const ETH_DATA_LEN: usize = 1500;
/// Most octets in a standard frame, without the frame check sequence.
pub const ETH_FRAME_LEN: usize = 1514;
/// Octets in the frame check sequence.
pub const ETH_FCS_LEN: usize = 4;
/// Octets in the protocol field.
pub const ETH_TLEN: usize = 2;
/// Least MTU: what IPv4 requires of a link.
pub const ETH_MIN_MTU: u32 = 68;
/// Greatest MTU a device can claim.
pub const ETH_MAX_MTU: u32 = 0xffff;

consts! { u16:
    /// Ethernet loopback.
    ETH_P_LOOP = 0x0060;
    /// Xerox PUP.
    ETH_P_PUP = 0x0200;
    /// Xerox PUP address translation.
    ETH_P_PUPAT = 0x0201;
    /// Time-sensitive networking (IEEE 1722).
    ETH_P_TSN = 0x22f0;
    /// Internet Protocol version 4.
    ETH_P_IP = 0x0800;
    /// X.25.
    ETH_P_X25 = 0x0805;
    /// Address Resolution Protocol.
    ETH_P_ARP = 0x0806;
    /// G8BPQ AX.25 over Ethernet.
    ETH_P_BPQ = 0x08ff;
    /// B.A.T.M.A.N. Advanced.
    ETH_P_BATMAN = 0x4305;
    /// Transparent Ethernet bridging.
    ETH_P_TEB = 0x6558;
    /// Reverse ARP.
    ETH_P_RARP = 0x8035;
    /// AppleTalk DDP.
    ETH_P_ATALK = 0x809b;
    /// AppleTalk ARP.
    ETH_P_AARP = 0x80f3;
    /// VLAN tag (IEEE 802.1Q).
    ETH_P_8021Q = 0x8100;
    /// IPX.
    ETH_P_IPX = 0x8137;
    /// Internet Protocol version 6.
    ETH_P_IPV6 = 0x86dd;
    /// MAC control: pause frames.
    ETH_P_PAUSE = 0x8808;
    /// Slow protocols (IEEE 802.3ad).
    ETH_P_SLOW = 0x8809;
    /// MPLS unicast.
    ETH_P_MPLS_UC = 0x8847;
    /// MPLS multicast.
    ETH_P_MPLS_MC = 0x8848;
    /// PPPoE discovery.
    ETH_P_PPP_DISC = 0x8863;
    /// PPPoE session.
    ETH_P_PPP_SES = 0x8864;
    /// HPNA and WLAN link control.
    ETH_P_LINK_CTL = 0x886c;
    /// Port access entity (IEEE 802.1X).
    ETH_P_PAE = 0x888e;
    /// ATA over Ethernet.
    ETH_P_AOE = 0x88a2;
    /// Service VLAN tag (IEEE 802.1ad).
    ETH_P_8021AD = 0x88a8;
    /// IEEE local experimental number 1.
    ETH_P_802_EX1 = 0x88b5;
    /// TIPC.
    ETH_P_TIPC = 0x88ca;
    /// Link Layer Discovery Protocol.
    ETH_P_LLDP = 0x88cc;
    /// MACsec (IEEE 802.1AE).
    ETH_P_MACSEC = 0x88e5;
    /// Provider backbone bridge tag (IEEE 802.1ah).
    ETH_P_8021AH = 0x88e7;
    /// Precision Time Protocol.
    ETH_P_1588 = 0x88f7;
    /// NC-SI.
    ETH_P_NCSI = 0x88f8;
    /// Parallel Redundancy Protocol.
    ETH_P_PRP = 0x88fb;
    /// Fibre Channel over Ethernet.
    ETH_P_FCOE = 0x8906;
    /// High-availability Seamless Redundancy.
    ETH_P_HSR = 0x892f;
    /// Network Service Header.
    ETH_P_NSH = 0x894f;
    /// Ethernet configuration testing (IEEE 802.3).
    ETH_P_LOOPBACK = 0x9000;
    /// Old outer VLAN tag, first number.
    ETH_P_QINQ1 = 0x9100;
    /// Old outer VLAN tag, second number.
    ETH_P_QINQ2 = 0x9200;
    /// Old outer VLAN tag, third number.
    ETH_P_QINQ3 = 0x9300;
    /// Distributed switch tag with Ethertype.
    ETH_P_EDSA = 0xdada;
    /// Least value that is a protocol rather than a length.
    ETH_P_802_3_MIN = 0x0600;
    /// Pseudo-protocol: raw 802.3 frames.
    ETH_P_802_3 = 0x0001;
    /// Pseudo-protocol: AX.25.
    ETH_P_AX25 = 0x0002;
    /// Pseudo-protocol: every frame.
    ETH_P_ALL = 0x0003;
    /// Pseudo-protocol: 802.2 frames.
    ETH_P_802_2 = 0x0004;
    /// Pseudo-protocol: SNAP.
    ETH_P_SNAP = 0x0005;
    /// Pseudo-protocol: controller area network.
    ETH_P_CAN = 0x000c;
    /// Pseudo-protocol: distributed switch tag.
    ETH_P_DSA = 0x001b;
    /// Pseudo-protocol: multiplexed switch tag.
    ETH_P_XDSA = 0x00f8;
}

view! {
    /// An Ethernet header.
    pub struct EthHdr[14] {
        /// Destination address.
        h_dest: [u8; 6],
        /// Source address.
        h_source: [u8; 6],
        /// Protocol number, or length below `ETH_P_802_3_MIN`.
        h_proto: U16,
    }
}

/// The address all stations listen to.
pub const ETH_BROADCAST: [u8; 6] = [0xff; 6];

/// Whether every octet is zero.
pub const fn is_zero_ether_addr(a: &[u8; 6]) -> bool {
    matches!(a, [0, 0, 0, 0, 0, 0])
}

/// Whether the group bit is set (broadcast included).
pub const fn is_multicast_ether_addr(a: &[u8; 6]) -> bool {
    a[0] & 1 != 0
}

/// Whether the address is all ones.
pub const fn is_broadcast_ether_addr(a: &[u8; 6]) -> bool {
    matches!(a, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
}

/// Whether the group bit is clear.
pub const fn is_unicast_ether_addr(a: &[u8; 6]) -> bool {
    !is_multicast_ether_addr(a)
}

/// Whether the address was assigned locally rather than by a vendor.
pub const fn is_local_ether_addr(a: &[u8; 6]) -> bool {
    a[0] & 2 != 0
}

/// Whether a station can bear the address: neither zero nor multicast.
pub const fn is_valid_ether_addr(a: &[u8; 6]) -> bool {
    !is_multicast_ether_addr(a) && !is_zero_ether_addr(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn header_matches_etherparse() {
        let theirs = etherparse::Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [0xff; 6],
            ether_type: etherparse::EtherType::IPV4,
        }
        .to_bytes();
        let ours = EthHdr::read_from_bytes(&theirs).unwrap();
        assert_eq!(ours.h_source, [2, 0, 0, 0, 0, 1]);
        assert_eq!(ours.h_dest, ETH_BROADCAST);
        assert_eq!(ours.h_proto.get(), ETH_P_IP);
        assert_eq!(ours.as_bytes(), theirs);
    }

    #[test]
    fn numbers_match_libc() {
        assert_eq!(i32::from(ETH_P_IP), libc::ETH_P_IP);
        assert_eq!(i32::from(ETH_P_ARP), libc::ETH_P_ARP);
        assert_eq!(i32::from(ETH_P_ALL), libc::ETH_P_ALL);
        assert_eq!(i32::from(ETH_P_8021Q), libc::ETH_P_8021Q);
        assert_eq!(i32::from(ETH_P_802_3_MIN), 0x600);
    }

    #[test]
    fn address_kinds() {
        assert!(is_zero_ether_addr(&[0; 6]));
        assert!(!is_valid_ether_addr(&[0; 6]));
        assert!(is_broadcast_ether_addr(&[0xff; 6]) && is_multicast_ether_addr(&[0xff; 6]));
        assert!(!is_broadcast_ether_addr(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]));
        assert!(is_multicast_ether_addr(&[1, 0, 0x5e, 0, 0, 1]));
        assert!(is_valid_ether_addr(&[2, 0, 0, 0, 0, 1]));
        assert!(is_local_ether_addr(&[2, 0, 0, 0, 0, 1]));
        assert!(is_unicast_ether_addr(&[2, 0, 0, 0, 0, 1]));
    }
}
