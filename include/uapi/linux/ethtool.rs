//! Ethtool: speeds, duplex, ports, flow types, hash fields.

/// Speed: unknown.
pub const SPEED_UNKNOWN: i32 = -1;

consts! { u32:
    /// Speed: 10 Mb/s.
    SPEED_10 = 10;
    /// Speed: 100 Mb/s.
    SPEED_100 = 100;
    /// Speed: 1 Gb/s.
    SPEED_1000 = 1000;
    /// Speed: 2.5 Gb/s.
    SPEED_2500 = 2500;
    /// Speed: 5 Gb/s.
    SPEED_5000 = 5000;
    /// Speed: 10 Gb/s.
    SPEED_10000 = 10_000;
    /// Speed: 14 Gb/s.
    SPEED_14000 = 14_000;
    /// Speed: 20 Gb/s.
    SPEED_20000 = 20_000;
    /// Speed: 25 Gb/s.
    SPEED_25000 = 25_000;
    /// Speed: 40 Gb/s.
    SPEED_40000 = 40_000;
    /// Speed: 50 Gb/s.
    SPEED_50000 = 50_000;
    /// Speed: 56 Gb/s.
    SPEED_56000 = 56_000;
    /// Speed: 100 Gb/s.
    SPEED_100000 = 100_000;
    /// Speed: 200 Gb/s.
    SPEED_200000 = 200_000;
    /// Speed: 400 Gb/s.
    SPEED_400000 = 400_000;
    /// Speed: 800 Gb/s.
    SPEED_800000 = 800_000;
    /// Flow type: TCP over IPv4.
    TCP_V4_FLOW = 0x01;
    /// Flow type: UDP over IPv4.
    UDP_V4_FLOW = 0x02;
    /// Flow type: SCTP over IPv4.
    SCTP_V4_FLOW = 0x03;
    /// Flow type: IPsec over IPv4.
    AH_ESP_V4_FLOW = 0x04;
    /// Flow type: TCP over IPv6.
    TCP_V6_FLOW = 0x05;
    /// Flow type: UDP over IPv6.
    UDP_V6_FLOW = 0x06;
    /// Flow type: SCTP over IPv6.
    SCTP_V6_FLOW = 0x07;
    /// Flow type: IPsec over IPv6.
    AH_ESP_V6_FLOW = 0x08;
    /// Flow type: authentication header over IPv4.
    AH_V4_FLOW = 0x09;
    /// Flow type: ESP over IPv4.
    ESP_V4_FLOW = 0x0a;
    /// Flow type: authentication header over IPv6.
    AH_V6_FLOW = 0x0b;
    /// Flow type: ESP over IPv6.
    ESP_V6_FLOW = 0x0c;
    /// Flow type: any IPv4 protocol, stated by number.
    IPV4_USER_FLOW = 0x0d;
    /// Flow type: any IPv6 protocol, stated by number.
    IPV6_USER_FLOW = 0x0e;
    /// Flow type: IPv4.
    IPV4_FLOW = 0x10;
    /// Flow type: IPv6.
    IPV6_FLOW = 0x11;
    /// Flow type: Ethernet.
    ETHER_FLOW = 0x12;
    /// Flow type flag: extension fields are valid.
    FLOW_EXT = 0x8000_0000;
    /// Flow type flag: the destination address is valid.
    FLOW_MAC_EXT = 0x4000_0000;
    /// Flow type flag: spread by the named hash context.
    FLOW_RSS = 0x2000_0000;
    /// Hash field: destination hardware address.
    RXH_L2DA = 1 << 1;
    /// Hash field: VLAN.
    RXH_VLAN = 1 << 2;
    /// Hash field: protocol.
    RXH_L3_PROTO = 1 << 3;
    /// Hash field: source address.
    RXH_IP_SRC = 1 << 4;
    /// Hash field: destination address.
    RXH_IP_DST = 1 << 5;
    /// Hash field: first two octets of the transport header (source port).
    RXH_L4_B_0_1 = 1 << 6;
    /// Hash field: next two octets of the transport header (destination port).
    RXH_L4_B_2_3 = 1 << 7;
    /// Drop the flow.
    RXH_DISCARD = 1 << 31;
    /// Wake on link change.
    WAKE_PHY = 1 << 0;
    /// Wake on unicast.
    WAKE_UCAST = 1 << 1;
    /// Wake on multicast.
    WAKE_MCAST = 1 << 2;
    /// Wake on broadcast.
    WAKE_BCAST = 1 << 3;
    /// Wake on ARP.
    WAKE_ARP = 1 << 4;
    /// Wake on a magic packet.
    WAKE_MAGIC = 1 << 5;
    /// Request: driver information.
    ETHTOOL_GDRVINFO = 0x03;
    /// Request: whether there is a link.
    ETHTOOL_GLINK = 0x0a;
    /// Request: read interrupt coalescing.
    ETHTOOL_GCOALESCE = 0x0e;
    /// Request: set interrupt coalescing.
    ETHTOOL_SCOALESCE = 0x0f;
    /// Request: read ring sizes.
    ETHTOOL_GRINGPARAM = 0x10;
    /// Request: set ring sizes.
    ETHTOOL_SRINGPARAM = 0x11;
    /// Request: test received sums, or do not.
    ETHTOOL_SRXCSUM = 0x15;
    /// Request: fill in sums of what is sent, or do not.
    ETHTOOL_STXCSUM = 0x17;
    /// Request: names in a set.
    ETHTOOL_GSTRINGS = 0x1b;
    /// Request: counters of the driver.
    ETHTOOL_GSTATS = 0x1d;
    /// Request: whether TCP's segments are cut by the device.
    ETHTOOL_GTSO = 0x1e;
    /// Request: let the device cut TCP's segments, or not.
    ETHTOOL_STSO = 0x1f;
    /// Request: cut segments late, or not.
    ETHTOOL_SGSO = 0x24;
    /// Request: merge what is received, or do not.
    ETHTOOL_SGRO = 0x2c;
    /// Request: read the number of channels.
    ETHTOOL_GCHANNELS = 0x3c;
    /// Request: set the number of channels.
    ETHTOOL_SCHANNELS = 0x3d;
    /// Request: read link settings.
    ETHTOOL_GLINKSETTINGS = 0x4c;
    /// Request: set link settings.
    ETHTOOL_SLINKSETTINGS = 0x4d;
    /// Octets of one name in a set.
    ETH_GSTRING_LEN = 32;
}

consts! { u8:
    /// Half duplex.
    DUPLEX_HALF = 0;
    /// Full duplex.
    DUPLEX_FULL = 1;
    /// Unknown duplex.
    DUPLEX_UNKNOWN = 0xff;
    /// Port: twisted pair.
    PORT_TP = 0x00;
    /// Port: attachment unit.
    PORT_AUI = 0x01;
    /// Port: media independent.
    PORT_MII = 0x02;
    /// Port: fibre.
    PORT_FIBRE = 0x03;
    /// Port: coaxial.
    PORT_BNC = 0x04;
    /// Port: direct attach.
    PORT_DA = 0x05;
    /// Port: none.
    PORT_NONE = 0xef;
    /// Port: other.
    PORT_OTHER = 0xff;
    /// Negotiation off.
    AUTONEG_DISABLE = 0;
    /// Negotiation on.
    AUTONEG_ENABLE = 1;
    /// Hash function: Toeplitz.
    ETH_RSS_HASH_TOP = 1 << 0;
    /// Hash function: exclusive or.
    ETH_RSS_HASH_XOR = 1 << 1;
    /// Hash function: CRC-32.
    ETH_RSS_HASH_CRC32 = 1 << 2;
}
