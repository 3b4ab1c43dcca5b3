//! ARP: packets, hardware types, operations, entry flags.

use zerocopy::network_endian::{U16, U32};

view! {
    /// The fixed part of an ARP packet.
    pub struct ArpHdr[8] {
        /// Hardware type.
        ar_hrd: U16,
        /// Protocol number.
        ar_pro: U16,
        /// Octets in a hardware address.
        ar_hln: u8,
        /// Octets in a protocol address.
        ar_pln: u8,
        /// Operation.
        ar_op: U16,
    }
}

view! {
    /// An ARP packet for IPv4 over Ethernet.
    pub struct ArpIpv4[28] {
        /// Hardware type.
        ar_hrd: U16,
        /// Protocol number.
        ar_pro: U16,
        /// Octets in a hardware address.
        ar_hln: u8,
        /// Octets in a protocol address.
        ar_pln: u8,
        /// Operation.
        ar_op: U16,
        /// Sender's hardware address.
        ar_sha: [u8; 6],
        /// Sender's IPv4 address.
        ar_sip: U32,
        /// Target's hardware address.
        ar_tha: [u8; 6],
        /// Target's IPv4 address.
        ar_tip: U32,
    }
}

/// Octets in an ARP packet for IPv4 over Ethernet.
pub const ARP_IPV4_LEN: usize = 28;

consts! { u16:
    /// NET/ROM.
    ARPHRD_NETROM = 0;
    /// Ethernet.
    ARPHRD_ETHER = 1;
    /// Experimental Ethernet.
    ARPHRD_EETHER = 2;
    /// AX.25 level 2.
    ARPHRD_AX25 = 3;
    /// ProNET token ring.
    ARPHRD_PRONET = 4;
    /// Chaosnet.
    ARPHRD_CHAOS = 5;
    /// IEEE 802.2 Ethernet, token ring, token bus.
    ARPHRD_IEEE802 = 6;
    /// ARCnet.
    ARPHRD_ARCNET = 7;
    /// AppleTalk.
    ARPHRD_APPLETLK = 8;
    /// Frame relay.
    ARPHRD_DLCI = 15;
    /// ATM.
    ARPHRD_ATM = 19;
    /// Metricom STRIP.
    ARPHRD_METRICOM = 23;
    /// IP over IEEE 1394.
    ARPHRD_IEEE1394 = 24;
    /// EUI-64.
    ARPHRD_EUI64 = 27;
    /// InfiniBand.
    ARPHRD_INFINIBAND = 32;
    /// SLIP.
    ARPHRD_SLIP = 256;
    /// Controller area network.
    ARPHRD_CAN = 280;
    /// PPP.
    ARPHRD_PPP = 512;
    /// Raw IP without a link header.
    ARPHRD_RAWIP = 519;
    /// IP in IP tunnel.
    ARPHRD_TUNNEL = 768;
    /// IPv6 in IPv6 tunnel.
    ARPHRD_TUNNEL6 = 769;
    /// Loopback device.
    ARPHRD_LOOPBACK = 772;
    /// FDDI.
    ARPHRD_FDDI = 774;
    /// IPv6 in IPv4 tunnel.
    ARPHRD_SIT = 776;
    /// GRE over IPv4.
    ARPHRD_IPGRE = 778;
    /// IEEE 802.11.
    ARPHRD_IEEE80211 = 801;
    /// Netlink monitor.
    ARPHRD_NETLINK = 824;
    /// GRE over IPv6.
    ARPHRD_IP6GRE = 823;
    /// Nothing is known of the hardware.
    ARPHRD_VOID = 0xffff;
    /// The device has no link header.
    ARPHRD_NONE = 0xfffe;
    /// ARP request.
    ARPOP_REQUEST = 1;
    /// ARP reply.
    ARPOP_REPLY = 2;
    /// Reverse ARP request.
    ARPOP_RREQUEST = 3;
    /// Reverse ARP reply.
    ARPOP_RREPLY = 4;
    /// Inverse ARP request.
    #[allow(non_upper_case_globals)]
    ARPOP_InREQUEST = 8;
    /// Inverse ARP reply.
    #[allow(non_upper_case_globals)]
    ARPOP_InREPLY = 9;
    /// Negative ARP reply.
    ARPOP_NAK = 10;
}

consts! { i32:
    /// The entry is complete.
    ATF_COM = 0x02;
    /// The entry is permanent.
    ATF_PERM = 0x04;
    /// The entry is published: answered by proxy.
    ATF_PUBL = 0x08;
    /// The peer asked for trailers.
    ATF_USETRAILERS = 0x10;
    /// The entry has a netmask (proxy only).
    ATF_NETMASK = 0x20;
    /// Do not answer for this address.
    ATF_DONTPUB = 0x40;
}

impl ArpIpv4 {
    /// A packet for IPv4 over Ethernet; addresses in host order.
    pub const fn new(op: u16, sha: [u8; 6], sip: u32, tha: [u8; 6], tip: u32) -> Self {
        ArpIpv4 {
            ar_hrd: U16::new(ARPHRD_ETHER),
            ar_pro: U16::new(crate::if_ether::ETH_P_IP),
            ar_hln: 6,
            ar_pln: 4,
            ar_op: U16::new(op),
            ar_sha: sha,
            ar_sip: U32::new(sip),
            ar_tha: tha,
            ar_tip: U32::new(tip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn packet_layout() {
        let p = ArpIpv4::new(ARPOP_REQUEST, [2; 6], 0x0a00_0001, [3; 6], 0x0a00_0002);
        assert_eq!(
            p.as_bytes(),
            [0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2, 10, 0, 0, 1, 3, 3, 3, 3, 3, 3, 10, 0, 0, 2]
        );
        assert_eq!(p.as_bytes().len(), ARP_IPV4_LEN);
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n);)* } }
        same!(ARPHRD_ETHER ARPHRD_LOOPBACK ARPHRD_NONE ARPHRD_VOID ARPHRD_TUNNEL ARPHRD_PPP
            ARPOP_REQUEST ARPOP_REPLY ARPOP_RREQUEST ARPOP_NAK);
        assert_eq!(ATF_COM, libc::ATF_COM);
        assert_eq!(ATF_PUBL, libc::ATF_PUBL);
    }
}
