//! ICMP for IPv4: header, types, codes.

use zerocopy::network_endian::U16;

/// Octets in an ICMP header.
pub const ICMP_HDR_LEN: usize = 8;

view! {
    /// An ICMP header: the four common octets and the four that depend on the type.
    pub struct IcmpHdr[8] {
        /// Type of message.
        type_: u8,
        /// Code within the type.
        code: u8,
        /// Checksum of the whole message.
        checksum: U16,
        /// The octets whose meaning depends on the type.
        rest: [u8; 4],
    }
}

impl IcmpHdr {
    /// Identifier of an echo or timestamp message.
    pub const fn id(&self) -> u16 {
        u16::from_be_bytes([self.rest[0], self.rest[1]])
    }

    /// Sets the identifier of an echo or timestamp message.
    pub const fn set_id(&mut self, id: u16) {
        let b = id.to_be_bytes();
        self.rest[0] = b[0];
        self.rest[1] = b[1];
    }

    /// Sequence number of an echo or timestamp message.
    pub const fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.rest[2], self.rest[3]])
    }

    /// Sets the sequence number of an echo or timestamp message.
    pub const fn set_sequence(&mut self, sequence: u16) {
        let b = sequence.to_be_bytes();
        self.rest[2] = b[0];
        self.rest[3] = b[1];
    }

    /// Next-hop MTU in a "fragmentation needed" message.
    pub const fn mtu(&self) -> u16 {
        self.sequence()
    }

    /// Sets the next-hop MTU of a "fragmentation needed" message.
    pub const fn set_mtu(&mut self, mtu: u16) {
        self.set_sequence(mtu);
    }

    /// Gateway address in a redirect, in host order.
    pub const fn gateway(&self) -> u32 {
        u32::from_be_bytes(self.rest)
    }

    /// Sets the gateway address of a redirect, in host order.
    pub const fn set_gateway(&mut self, gateway: u32) {
        self.rest = gateway.to_be_bytes();
    }

    /// Octet that a "parameter problem" message points at.
    pub const fn pointer(&self) -> u8 {
        self.rest[0]
    }

    /// Words of original datagram before an extension structure (RFC 4884).
    pub const fn ext_length(&self) -> u8 {
        self.rest[1]
    }
}

consts! { u8:
    /// Echo reply.
    ICMP_ECHOREPLY = 0;
    /// Destination unreachable.
    ICMP_DEST_UNREACH = 3;
    /// Source quench.
    ICMP_SOURCE_QUENCH = 4;
    /// Redirect.
    ICMP_REDIRECT = 5;
    /// Echo request.
    ICMP_ECHO = 8;
    /// Router advertisement.
    ICMP_ROUTER_ADVERT = 9;
    /// Router solicitation.
    ICMP_ROUTER_SOLICIT = 10;
    /// Time exceeded.
    ICMP_TIME_EXCEEDED = 11;
    /// Parameter problem.
    ICMP_PARAMETERPROB = 12;
    /// Timestamp request.
    ICMP_TIMESTAMP = 13;
    /// Timestamp reply.
    ICMP_TIMESTAMPREPLY = 14;
    /// Information request.
    ICMP_INFO_REQUEST = 15;
    /// Information reply.
    ICMP_INFO_REPLY = 16;
    /// Address mask request.
    ICMP_ADDRESS = 17;
    /// Address mask reply.
    ICMP_ADDRESSREPLY = 18;
    /// Greatest type the stack handles.
    NR_ICMP_TYPES = 18;
    /// Extended echo request (RFC 8335).
    ICMP_EXT_ECHO = 42;
    /// Extended echo reply (RFC 8335).
    ICMP_EXT_ECHOREPLY = 43;
    /// Unreachable: network.
    ICMP_NET_UNREACH = 0;
    /// Unreachable: host.
    ICMP_HOST_UNREACH = 1;
    /// Unreachable: protocol.
    ICMP_PROT_UNREACH = 2;
    /// Unreachable: port.
    ICMP_PORT_UNREACH = 3;
    /// Unreachable: fragmentation needed but forbidden.
    ICMP_FRAG_NEEDED = 4;
    /// Unreachable: source route failed.
    ICMP_SR_FAILED = 5;
    /// Unreachable: network unknown.
    ICMP_NET_UNKNOWN = 6;
    /// Unreachable: host unknown.
    ICMP_HOST_UNKNOWN = 7;
    /// Unreachable: source host isolated.
    ICMP_HOST_ISOLATED = 8;
    /// Unreachable: network administratively prohibited.
    ICMP_NET_ANO = 9;
    /// Unreachable: host administratively prohibited.
    ICMP_HOST_ANO = 10;
    /// Unreachable: network for this type of service.
    ICMP_NET_UNR_TOS = 11;
    /// Unreachable: host for this type of service.
    ICMP_HOST_UNR_TOS = 12;
    /// Unreachable: packet filtered.
    ICMP_PKT_FILTERED = 13;
    /// Unreachable: precedence violation.
    ICMP_PREC_VIOLATION = 14;
    /// Unreachable: precedence cut off.
    ICMP_PREC_CUTOFF = 15;
    /// Greatest code of "destination unreachable".
    NR_ICMP_UNREACH = 15;
    /// Redirect for the network.
    ICMP_REDIR_NET = 0;
    /// Redirect for the host.
    ICMP_REDIR_HOST = 1;
    /// Redirect for the network and type of service.
    ICMP_REDIR_NETTOS = 2;
    /// Redirect for the host and type of service.
    ICMP_REDIR_HOSTTOS = 3;
    /// Time exceeded: time to live ran out.
    ICMP_EXC_TTL = 0;
    /// Time exceeded: fragments missing.
    ICMP_EXC_FRAGTIME = 1;
}

consts! { i32:
    /// Socket option: mask of types a raw socket does not receive.
    ICMP_FILTER = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, icmpv4};
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn echo_matches_etherparse() {
        let theirs = Icmpv4Header::with_checksum(
            Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 0x1234, seq: 7 }),
            b"payload",
        );
        let bytes = theirs.to_bytes();
        let mut ours = IcmpHdr::read_from_bytes(&bytes).unwrap();
        assert_eq!((ours.type_, ours.code), (ICMP_ECHO, 0));
        assert_eq!((ours.id(), ours.sequence()), (0x1234, 7));
        assert_eq!(ours.checksum.get(), theirs.checksum);
        assert_eq!(ours.as_bytes(), &bytes[..]);
        ours.set_id(9);
        ours.set_sequence(0x0a0b);
        assert_eq!(ours.rest, [0, 9, 10, 11]);
    }

    #[test]
    fn errors_match_etherparse() {
        let bytes = Icmpv4Header::new(Icmpv4Type::DestinationUnreachable(
            icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
        ))
        .to_bytes();
        let ours = IcmpHdr::read_from_bytes(&bytes).unwrap();
        assert_eq!((ours.type_, ours.code), (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED));
        assert_eq!(ours.mtu(), 1400);
        let bytes = Icmpv4Header::new(Icmpv4Type::Redirect(icmpv4::RedirectHeader {
            code: icmpv4::RedirectCode::RedirectForHost,
            gateway_internet_address: [192, 0, 2, 1],
        }))
        .to_bytes();
        let ours = IcmpHdr::read_from_bytes(&bytes).unwrap();
        assert_eq!((ours.type_, ours.code), (ICMP_REDIRECT, ICMP_REDIR_HOST));
        assert_eq!(ours.gateway(), 0xc000_0201);
    }
}
