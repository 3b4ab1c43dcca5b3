//! The IPv4 header, its options, protocols and types of service.

use zerocopy::network_endian::{U16, U32};

/// The version number in an IPv4 header.
pub const IPVERSION: u8 = 4;
/// Greatest time to live.
pub const MAXTTL: u8 = 255;
/// Time to live a host starts packets with.
pub const IPDEFTTL: u8 = 64;
/// Octets in an IPv4 header without options.
pub const IP_HDR_LEN: usize = 20;
/// Octets in the longest IPv4 header.
pub const MAX_IP_HDR_LEN: usize = 60;
/// Most octets of options.
pub const MAX_IPOPTLEN: usize = 40;
/// Least MTU an IPv4 link can have.
pub const IPV4_MIN_MTU: u32 = 68;
/// Greatest IPv4 datagram.
pub const IP_MAX_MTU: u32 = 0xfff0;

consts! { u16:
    /// The reserved top bit of `frag_off`.
    IP_CE = 0x8000;
    /// Don't fragment.
    IP_DF = 0x4000;
    /// More fragments follow.
    IP_MF = 0x2000;
    /// The fragment offset, in units of eight octets.
    IP_OFFSET = 0x1fff;
}

consts! { u8:
    /// Dummy protocol of the IPv4 socket level.
    IPPROTO_IP = 0;
    /// Internet Control Message Protocol.
    IPPROTO_ICMP = 1;
    /// Internet Group Management Protocol.
    IPPROTO_IGMP = 2;
    /// IPv4 in IP.
    IPPROTO_IPIP = 4;
    /// Transmission Control Protocol.
    IPPROTO_TCP = 6;
    /// Exterior Gateway Protocol.
    IPPROTO_EGP = 8;
    /// PUP.
    IPPROTO_PUP = 12;
    /// User Datagram Protocol.
    IPPROTO_UDP = 17;
    /// XNS IDP.
    IPPROTO_IDP = 22;
    /// ISO transport class 4.
    IPPROTO_TP = 29;
    /// Datagram Congestion Control Protocol.
    IPPROTO_DCCP = 33;
    /// IPv6 in IP.
    IPPROTO_IPV6 = 41;
    /// Resource Reservation Protocol.
    IPPROTO_RSVP = 46;
    /// Generic Routing Encapsulation.
    IPPROTO_GRE = 47;
    /// Encapsulating Security Payload.
    IPPROTO_ESP = 50;
    /// Authentication Header.
    IPPROTO_AH = 51;
    /// ICMP for IPv6.
    IPPROTO_ICMPV6 = 58;
    /// Multicast Transport Protocol.
    IPPROTO_MTP = 92;
    /// IP options in an IPsec BEET tunnel.
    IPPROTO_BEETPH = 94;
    /// Encapsulation header.
    IPPROTO_ENCAP = 98;
    /// Protocol Independent Multicast.
    IPPROTO_PIM = 103;
    /// IP payload compression.
    IPPROTO_COMP = 108;
    /// Layer 2 Tunnelling Protocol.
    IPPROTO_L2TP = 115;
    /// Stream Control Transmission Protocol.
    IPPROTO_SCTP = 132;
    /// UDP-Lite.
    IPPROTO_UDPLITE = 136;
    /// MPLS in IP.
    IPPROTO_MPLS = 137;
    /// Ethernet in IP.
    IPPROTO_ETHERNET = 143;
    /// Raw IP packets.
    IPPROTO_RAW = 255;
    /// Option bit: copied into every fragment.
    IPOPT_COPY = 0x80;
    /// Option bits: class.
    IPOPT_CLASS_MASK = 0x60;
    /// Option bits: number within the class.
    IPOPT_NUMBER_MASK = 0x1f;
    /// Option class: control.
    IPOPT_CONTROL = 0x00;
    /// Option class: debugging and measurement.
    IPOPT_MEASUREMENT = 0x40;
    /// End of options.
    IPOPT_END = 0;
    /// Padding of one octet.
    IPOPT_NOOP = 1;
    /// Security.
    IPOPT_SEC = 130;
    /// Loose source route.
    IPOPT_LSRR = 131;
    /// Timestamps.
    IPOPT_TIMESTAMP = 68;
    /// Commercial IP security option.
    IPOPT_CIPSO = 134;
    /// Record route.
    IPOPT_RR = 7;
    /// Stream identifier.
    IPOPT_SID = 136;
    /// Strict source route.
    IPOPT_SSRR = 137;
    /// Router alert.
    IPOPT_RA = 148;
    /// Offset of the kind in an option.
    IPOPT_OPTVAL = 0;
    /// Offset of the length in an option.
    IPOPT_OLEN = 1;
    /// Offset of the pointer in an option.
    IPOPT_OFFSET = 2;
    /// Least value of the pointer.
    IPOPT_MINOFF = 4;
    /// Timestamp option: timestamps alone.
    IPOPT_TS_TSONLY = 0;
    /// Timestamp option: timestamps with addresses.
    IPOPT_TS_TSANDADDR = 1;
    /// Timestamp option: only at the addresses listed.
    IPOPT_TS_PRESPEC = 3;
    /// The four type-of-service bits.
    IPTOS_TOS_MASK = 0x1e;
    /// Minimize delay.
    IPTOS_LOWDELAY = 0x10;
    /// Maximize throughput.
    IPTOS_THROUGHPUT = 0x08;
    /// Maximize reliability.
    IPTOS_RELIABILITY = 0x04;
    /// Minimize cost.
    IPTOS_MINCOST = 0x02;
    /// The three precedence bits.
    IPTOS_PREC_MASK = 0xe0;
    /// Precedence: network control.
    IPTOS_PREC_NETCONTROL = 0xe0;
    /// Precedence: internetwork control.
    IPTOS_PREC_INTERNETCONTROL = 0xc0;
    /// Precedence: critical.
    IPTOS_PREC_CRITIC_ECP = 0xa0;
    /// Precedence: flash override.
    IPTOS_PREC_FLASHOVERRIDE = 0x80;
    /// Precedence: flash.
    IPTOS_PREC_FLASH = 0x60;
    /// Precedence: immediate.
    IPTOS_PREC_IMMEDIATE = 0x40;
    /// Precedence: priority.
    IPTOS_PREC_PRIORITY = 0x20;
    /// Precedence: routine.
    IPTOS_PREC_ROUTINE = 0x00;
    /// The type-of-service bits that select a route.
    IPTOS_RT_MASK = 0x1c;
    /// The two ECN bits.
    INET_ECN_MASK = 3;
    /// ECN: not capable.
    INET_ECN_NOT_ECT = 0;
    /// ECN: capable, codepoint 1.
    INET_ECN_ECT_1 = 1;
    /// ECN: capable, codepoint 0.
    INET_ECN_ECT_0 = 2;
    /// ECN: congestion experienced.
    INET_ECN_CE = 3;
    /// The six DSCP bits.
    INET_DSCP_MASK = 0xfc;
}

view! {
    /// An IPv4 header without its options.
    pub struct IpHdr[20] {
        /// Version in the top four bits, header length in words below.
        version_ihl: u8,
        /// Type of service: DSCP and ECN.
        tos: u8,
        /// Octets in the datagram, header included.
        tot_len: U16,
        /// Identification of the datagram's fragments.
        id: U16,
        /// Flags in the top three bits, fragment offset below.
        frag_off: U16,
        /// Time to live.
        ttl: u8,
        /// Protocol of the payload.
        protocol: u8,
        /// Checksum of the header.
        check: U16,
        /// Source address.
        saddr: U32,
        /// Destination address.
        daddr: U32,
    }
}

impl IpHdr {
    /// The IP version.
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Octets in the header, options included.
    pub const fn ihl(&self) -> usize {
        (self.version_ihl & 15) as usize * 4
    }

    /// Sets version 4 and a header of `octets`, which must be a multiple of four up to 60.
    pub const fn set_ihl(&mut self, octets: usize) {
        debug_assert!(octets.is_multiple_of(4) && octets >= 20 && octets <= MAX_IP_HDR_LEN);
        self.version_ihl = IPVERSION << 4 | (octets / 4) as u8;
    }

    /// Whether fragmenting is forbidden.
    pub fn df(&self) -> bool {
        self.frag_off.get() & IP_DF != 0
    }

    /// Whether more fragments follow.
    pub fn mf(&self) -> bool {
        self.frag_off.get() & IP_MF != 0
    }

    /// Where this fragment starts in the datagram's payload, in octets.
    pub fn offset(&self) -> usize {
        usize::from(self.frag_off.get() & IP_OFFSET) * 8
    }

    /// Whether the packet is a fragment of a datagram rather than all of it.
    pub fn is_fragment(&self) -> bool {
        self.frag_off.get() & (IP_MF | IP_OFFSET) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn header_matches_etherparse() {
        let mut theirs = etherparse::Ipv4Header::new(
            480,
            63,
            etherparse::IpNumber::UDP,
            [10, 0, 0, 1],
            [192, 0, 2, 9],
        )
        .unwrap();
        theirs.identification = 0x1234;
        theirs.dont_fragment = false;
        theirs.more_fragments = true;
        theirs.fragment_offset = etherparse::IpFragOffset::try_new(185).unwrap();
        theirs.header_checksum = theirs.calc_header_checksum();
        let bytes = theirs.to_bytes();
        let ours = IpHdr::read_from_bytes(&bytes).unwrap();
        assert_eq!((ours.version(), ours.ihl()), (4, 20));
        assert_eq!(ours.tot_len.get(), 500);
        assert_eq!(ours.id.get(), 0x1234);
        assert!(!ours.df() && ours.mf() && ours.is_fragment());
        assert_eq!(ours.offset(), 1480);
        assert_eq!((ours.ttl, ours.protocol), (63, IPPROTO_UDP));
        assert_eq!(ours.check.get(), theirs.header_checksum);
        assert_eq!(ours.saddr.get(), 0x0a00_0001);
        assert_eq!(ours.daddr.get(), 0xc000_0209);
        assert_eq!(ours.as_bytes(), &bytes[..]);
    }

    #[test]
    fn header_length_is_set_in_words() {
        let mut h = IpHdr::default();
        h.set_ihl(60);
        assert_eq!(h.version_ihl, 0x4f);
        assert_eq!(h.ihl(), 60);
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!(i64::from($n), libc::$n as i64, stringify!($n));)* } }
        same!(IPPROTO_IP IPPROTO_ICMP IPPROTO_IGMP IPPROTO_IPIP IPPROTO_TCP IPPROTO_UDP
            IPPROTO_GRE IPPROTO_ESP IPPROTO_AH IPPROTO_SCTP IPPROTO_UDPLITE IPPROTO_RAW
            IPTOS_LOWDELAY IPTOS_THROUGHPUT IPTOS_RELIABILITY IPTOS_MINCOST
            IPDEFTTL IPOPT_COPY IPOPT_CLASS_MASK IPOPT_NUMBER_MASK IPOPT_END IPOPT_NOOP IPOPT_SEC
            IPOPT_LSRR IPOPT_TIMESTAMP IPOPT_RR IPOPT_SID IPOPT_SSRR IPOPT_RA IPOPT_MINOFF);
    }
}
