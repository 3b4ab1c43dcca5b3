//! The UDP header and the options of UDP sockets.

use zerocopy::network_endian::U16;

/// Octets in a UDP header.
pub const UDP_HDR_LEN: usize = 8;

view! {
    /// A UDP header.
    pub struct UdpHdr[8] {
        /// Source port.
        source: U16,
        /// Destination port.
        dest: U16,
        /// Octets in the datagram, header included.
        len: U16,
        /// Checksum; zero when none was computed.
        check: U16,
    }
}

consts! { i32:
    /// Hold data back until the option is cleared.
    UDP_CORK = 1;
    /// Kind of encapsulation the socket receives.
    UDP_ENCAP = 100;
    /// Send IPv6 datagrams without a checksum.
    UDP_NO_CHECK6_TX = 101;
    /// Accept IPv6 datagrams without a checksum.
    UDP_NO_CHECK6_RX = 102;
    /// Size of the segments one send is cut into.
    UDP_SEGMENT = 103;
    /// Receive datagrams of one flow coalesced.
    UDP_GRO = 104;
    /// Encapsulation: early drafts of ESP in UDP.
    UDP_ENCAP_ESPINUDP_NON_IKE = 1;
    /// Encapsulation: ESP in UDP.
    UDP_ENCAP_ESPINUDP = 2;
    /// Encapsulation: L2TP in UDP.
    UDP_ENCAP_L2TPINUDP = 3;
    /// Encapsulation: GTP version 0.
    UDP_ENCAP_GTP0 = 4;
    /// Encapsulation: GTP version 1, user plane.
    UDP_ENCAP_GTP1U = 5;
    /// Encapsulation: RxRPC.
    UDP_ENCAP_RXRPC = 6;
}

/// Most segments one send may be cut into.
pub const UDP_MAX_SEGMENTS: usize = 1 << 7;

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn header_matches_etherparse() {
        let theirs = etherparse::UdpHeader {
            source_port: 53,
            destination_port: 40000,
            length: 20,
            checksum: 0xabcd,
        }
        .to_bytes();
        let ours = UdpHdr::read_from_bytes(&theirs).unwrap();
        assert_eq!(
            (ours.source.get(), ours.dest.get(), ours.len.get(), ours.check.get()),
            (53, 40000, 20, 0xabcd)
        );
        assert_eq!(ours.as_bytes(), theirs);
    }

    #[test]
    fn numbers_match_libc() {
        assert_eq!(UDP_CORK, libc::UDP_CORK);
        assert_eq!(UDP_ENCAP, libc::UDP_ENCAP);
        assert_eq!(UDP_SEGMENT, libc::UDP_SEGMENT);
        assert_eq!(UDP_GRO, libc::UDP_GRO);
    }
}
