//! The header virtio network devices put before each packet, and their features.

use zerocopy::little_endian::U16;

view! {
    /// The header of a packet.
    pub struct VirtioNetHdr[10] {
        /// `VIRTIO_NET_HDR_F_*`.
        flags: u8,
        /// `VIRTIO_NET_HDR_GSO_*`.
        gso_type: u8,
        /// Octets of headers to copy into each segment.
        hdr_len: U16,
        /// Octets of payload in each segment.
        gso_size: U16,
        /// Where the checksum starts summing.
        csum_start: U16,
        /// Where the checksum goes, counted from `csum_start`.
        csum_offset: U16,
    }
}

view! {
    /// The header of a packet that may span several buffers.
    pub struct VirtioNetHdrMrgRxbuf[12] {
        /// The common header.
        hdr: VirtioNetHdr,
        /// Number of buffers the packet spans.
        num_buffers: U16,
    }
}

consts! { u8:
    /// The checksum is yet to be computed.
    VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
    /// The checksum was verified.
    VIRTIO_NET_HDR_F_DATA_VALID = 2;
    /// The header reports coalesced segments.
    VIRTIO_NET_HDR_F_RSC_INFO = 4;
    /// The packet is a frame as it stands.
    VIRTIO_NET_HDR_GSO_NONE = 0;
    /// TCP over IPv4 to be segmented.
    VIRTIO_NET_HDR_GSO_TCPV4 = 1;
    /// UDP to be fragmented.
    VIRTIO_NET_HDR_GSO_UDP = 3;
    /// TCP over IPv6 to be segmented.
    VIRTIO_NET_HDR_GSO_TCPV6 = 4;
    /// UDP to be segmented.
    VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
    /// The TCP packet has ECN set.
    VIRTIO_NET_HDR_GSO_ECN = 0x80;
    /// Status: the link is up.
    VIRTIO_NET_S_LINK_UP = 1;
    /// Status: announcement wanted.
    VIRTIO_NET_S_ANNOUNCE = 2;
    /// Control command succeeded.
    VIRTIO_NET_OK = 0;
    /// Control command failed.
    VIRTIO_NET_ERR = 1;
    /// Control class: receive mode.
    VIRTIO_NET_CTRL_RX = 0;
    /// Control class: addresses.
    VIRTIO_NET_CTRL_MAC = 1;
    /// Control class: VLAN filter.
    VIRTIO_NET_CTRL_VLAN = 2;
    /// Control class: announcement.
    VIRTIO_NET_CTRL_ANNOUNCE = 3;
    /// Control class: queues.
    VIRTIO_NET_CTRL_MQ = 4;
    /// Command: set the number of queue pairs.
    VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
}

consts! { u32:
    /// Feature bit: device computes checksums.
    VIRTIO_NET_F_CSUM = 0;
    /// Feature bit: driver accepts partial checksums.
    VIRTIO_NET_F_GUEST_CSUM = 1;
    /// Feature bit: offloads can be changed.
    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
    /// Feature bit: device states an MTU.
    VIRTIO_NET_F_MTU = 3;
    /// Feature bit: device states an address.
    VIRTIO_NET_F_MAC = 5;
    /// Feature bit: driver accepts TCP over IPv4 unsegmented.
    VIRTIO_NET_F_GUEST_TSO4 = 7;
    /// Feature bit: driver accepts TCP over IPv6 unsegmented.
    VIRTIO_NET_F_GUEST_TSO6 = 8;
    /// Feature bit: driver accepts unsegmented TCP with ECN.
    VIRTIO_NET_F_GUEST_ECN = 9;
    /// Feature bit: driver accepts UDP unfragmented.
    VIRTIO_NET_F_GUEST_UFO = 10;
    /// Feature bit: device segments TCP over IPv4.
    VIRTIO_NET_F_HOST_TSO4 = 11;
    /// Feature bit: device segments TCP over IPv6.
    VIRTIO_NET_F_HOST_TSO6 = 12;
    /// Feature bit: device segments TCP with ECN.
    VIRTIO_NET_F_HOST_ECN = 13;
    /// Feature bit: device fragments UDP.
    VIRTIO_NET_F_HOST_UFO = 14;
    /// Feature bit: a packet may span buffers.
    VIRTIO_NET_F_MRG_RXBUF = 15;
    /// Feature bit: device states its status.
    VIRTIO_NET_F_STATUS = 16;
    /// Feature bit: there is a control queue.
    VIRTIO_NET_F_CTRL_VQ = 17;
    /// Feature bit: receive mode can be set.
    VIRTIO_NET_F_CTRL_RX = 18;
    /// Feature bit: VLANs can be filtered.
    VIRTIO_NET_F_CTRL_VLAN = 19;
    /// Feature bit: driver can announce itself.
    VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
    /// Feature bit: several queue pairs.
    VIRTIO_NET_F_MQ = 22;
    /// Feature bit: the address can be set.
    VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
    /// Feature bit: driver accepts UDP over IPv4 unsegmented.
    VIRTIO_NET_F_GUEST_USO4 = 54;
    /// Feature bit: driver accepts UDP over IPv6 unsegmented.
    VIRTIO_NET_F_GUEST_USO6 = 55;
    /// Feature bit: device segments UDP.
    VIRTIO_NET_F_HOST_USO = 56;
    /// Feature bit: device reports hashes.
    VIRTIO_NET_F_HASH_REPORT = 57;
    /// Feature bit: device spreads by hash.
    VIRTIO_NET_F_RSS = 60;
    /// Feature bit: device states speed and duplex.
    VIRTIO_NET_F_SPEED_DUPLEX = 63;
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn layout() {
        let h = VirtioNetHdrMrgRxbuf {
            hdr: VirtioNetHdr {
                flags: 1,
                gso_type: VIRTIO_NET_HDR_GSO_UDP_L4,
                hdr_len: U16::new(42),
                gso_size: U16::new(1400),
                csum_start: U16::new(34),
                csum_offset: U16::new(6),
            },
            num_buffers: U16::new(2),
        };
        assert_eq!(h.as_bytes(), [1, 5, 42, 0, 0x78, 5, 34, 0, 6, 0, 2, 0]);
    }
}
