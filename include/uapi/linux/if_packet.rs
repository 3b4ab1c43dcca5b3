//! Packet sockets: addresses, packet types, options, fanout modes, headers of rings.

use crate::errno::Errno;
use crate::socket::AF_PACKET;

/// Octets in a `sockaddr_ll`.
pub const SOCKADDR_LL_LEN: usize = 20;
/// Octets of it in front of the link address.
pub const SLL_ADDR: usize = 12;

/// A link-layer socket address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SockaddrLl {
    /// The ethertype, in host order.
    pub protocol: u16,
    /// The device's index; 0: any.
    pub ifindex: i32,
    /// `ARPHRD_*`.
    pub hatype: u16,
    /// `PACKET_*`: to whom the packet was.
    pub pkttype: u8,
    /// Octets of the address.
    pub halen: u8,
    /// The address.
    pub addr: [u8; 8],
}

impl SockaddrLl {
    /// The bytes of a `sockaddr_ll`.
    pub fn to_bytes(&self) -> [u8; SOCKADDR_LL_LEN] {
        let mut bytes = [0; SOCKADDR_LL_LEN];
        bytes[..2].copy_from_slice(&(AF_PACKET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.protocol.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.ifindex.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.hatype.to_ne_bytes());
        (bytes[10], bytes[11]) = (self.pkttype, self.halen);
        bytes[SLL_ADDR..].copy_from_slice(&self.addr);
        bytes
    }

    /// Reads a `sockaddr_ll` of whatever family.
    ///
    /// # Errors
    /// EINVAL when it is short.
    pub fn from_bytes_any(b: &[u8]) -> Result<Self, Errno> {
        let b: &[u8; SOCKADDR_LL_LEN] = b.first_chunk().ok_or(Errno::EINVAL)?;
        let [_, _, p0, p1, i0, i1, i2, i3, h0, h1, pkttype, halen, addr @ ..] = *b;
        Ok(Self {
            protocol: u16::from_be_bytes([p0, p1]),
            ifindex: i32::from_ne_bytes([i0, i1, i2, i3]),
            hatype: u16::from_ne_bytes([h0, h1]),
            pkttype,
            halen,
            addr,
        })
    }

    /// Reads a `sockaddr_ll`.
    ///
    /// # Errors
    /// EINVAL when it is short or of another family.
    pub fn from_bytes(b: &[u8]) -> Result<Self, Errno> {
        match b.first_chunk() {
            Some(family) if i32::from(u16::from_ne_bytes(*family)) == AF_PACKET => {
                Self::from_bytes_any(b)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Octets of a `packet_mreq`.
pub const PACKET_MREQ_LEN: usize = 16;
/// Octets of a `tpacket_hdr`, padding behind it included; of a `tpacket2_hdr` too.
pub const TPACKET_HDR_LEN: usize = 32;
/// Octets of a `tpacket3_hdr`.
pub const TPACKET3_HDR_LEN: usize = 48;
/// Octets of a `tpacket_block_desc`.
pub const TPACKET_BLOCK_DESC_LEN: usize = 48;
/// Headers in a ring's frames begin at multiples of it.
pub const TPACKET_ALIGNMENT: usize = 16;
/// Members a fanout group has at the most, whoever makes it; without a wish it is 256.
pub const PACKET_FANOUT_MAX: u32 = 1 << 16;

consts! { u8:
    /// The packet is for this host.
    PACKET_HOST = 0;
    /// The packet is broadcast.
    PACKET_BROADCAST = 1;
    /// The packet is multicast.
    PACKET_MULTICAST = 2;
    /// The packet is for another host.
    PACKET_OTHERHOST = 3;
    /// The packet was sent from here.
    PACKET_OUTGOING = 4;
    /// The packet was looped back.
    PACKET_LOOPBACK = 5;
    /// The packet goes to userspace.
    PACKET_USER = 6;
    /// The packet goes to the kernel.
    PACKET_KERNEL = 7;
}

consts! { i32:
    /// Listen to further addresses.
    PACKET_ADD_MEMBERSHIP = 1;
    /// Stop listening to further addresses.
    PACKET_DROP_MEMBERSHIP = 2;
    /// Unused.
    PACKET_RECV_OUTPUT = 3;
    /// Set up a receive ring.
    PACKET_RX_RING = 5;
    /// Packets seen and dropped.
    PACKET_STATISTICS = 6;
    /// Copy packets longer than this.
    PACKET_COPY_THRESH = 7;
    /// Receive auxiliary data.
    PACKET_AUXDATA = 8;
    /// Report the original device.
    PACKET_ORIGDEV = 9;
    /// Version of the ring's headers.
    PACKET_VERSION = 10;
    /// Length of the ring's headers.
    PACKET_HDRLEN = 11;
    /// Headroom in the ring's frames.
    PACKET_RESERVE = 12;
    /// Set up a transmit ring.
    PACKET_TX_RING = 13;
    /// Drop malformed frames of the transmit ring.
    PACKET_LOSS = 14;
    /// A virtio header precedes each packet.
    PACKET_VNET_HDR = 15;
    /// Timestamp transmissions.
    PACKET_TX_TIMESTAMP = 16;
    /// Which timestamps the ring carries.
    PACKET_TIMESTAMP = 17;
    /// Spread packets over sockets.
    PACKET_FANOUT = 18;
    /// The transmit ring states offsets.
    PACKET_TX_HAS_OFF = 19;
    /// Send past the scheduler.
    PACKET_QDISC_BYPASS = 20;
    /// Statistics of rollover.
    PACKET_ROLLOVER_STATS = 21;
    /// Program that spreads packets.
    PACKET_FANOUT_DATA = 22;
    /// Receive no packets sent from here.
    PACKET_IGNORE_OUTGOING = 23;
    /// Size of the virtio header.
    PACKET_VNET_HDR_SZ = 24;
    /// Spread by hash of the flow.
    PACKET_FANOUT_HASH = 0;
    /// Spread in turn.
    PACKET_FANOUT_LB = 1;
    /// Spread by CPU.
    PACKET_FANOUT_CPU = 2;
    /// Fill one socket, then the next.
    PACKET_FANOUT_ROLLOVER = 3;
    /// Spread at random.
    PACKET_FANOUT_RND = 4;
    /// Spread by receive queue.
    PACKET_FANOUT_QM = 5;
    /// Spread by a classic program.
    PACKET_FANOUT_CBPF = 6;
    /// Spread by an extended program.
    PACKET_FANOUT_EBPF = 7;
    /// Go to the next socket when one is full.
    PACKET_FANOUT_FLAG_ROLLOVER = 0x1000;
    /// Choose an unused group.
    PACKET_FANOUT_FLAG_UNIQUEID = 0x2000;
    /// The group sees nothing that is sent from here.
    PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x4000;
    /// Reassemble before spreading.
    PACKET_FANOUT_FLAG_DEFRAG = 0x8000;
    /// Membership: one multicast address.
    PACKET_MR_MULTICAST = 0;
    /// Membership: every frame.
    PACKET_MR_PROMISC = 1;
    /// Membership: every multicast frame.
    PACKET_MR_ALLMULTI = 2;
    /// Membership: one further unicast address.
    PACKET_MR_UNICAST = 3;
    /// Ring headers of version 1.
    TPACKET_V1 = 0;
    /// Ring headers of version 2.
    TPACKET_V2 = 1;
    /// Ring headers of version 3.
    TPACKET_V3 = 2;
}

consts! { u32:
    /// A block's packets are to have their flow's hash.
    TP_FT_REQ_FILL_RXHASH = 0x1;
    /// The frame belongs to the kernel.
    TP_STATUS_KERNEL = 0;
    /// The frame belongs to userspace.
    TP_STATUS_USER = 1 << 0;
    /// The packet was cut and queued whole.
    TP_STATUS_COPY = 1 << 1;
    /// Packets were dropped.
    TP_STATUS_LOSING = 1 << 2;
    /// The checksum is yet to be computed.
    TP_STATUS_CSUMNOTREADY = 1 << 3;
    /// The VLAN tag is valid.
    TP_STATUS_VLAN_VALID = 1 << 4;
    /// The block was closed by a timeout.
    TP_STATUS_BLK_TMO = 1 << 5;
    /// The VLAN protocol is valid.
    TP_STATUS_VLAN_TPID_VALID = 1 << 6;
    /// The checksum was verified.
    TP_STATUS_CSUM_VALID = 1 << 7;
    /// The packet is segmented TCP.
    TP_STATUS_GSO_TCP = 1 << 8;
    /// Transmit: the frame is free.
    TP_STATUS_AVAILABLE = 0;
    /// Transmit: the frame is to be sent.
    TP_STATUS_SEND_REQUEST = 1 << 0;
    /// Transmit: the frame is being sent.
    TP_STATUS_SENDING = 1 << 1;
    /// Transmit: the frame is malformed.
    TP_STATUS_WRONG_FORMAT = 1 << 2;
    /// The timestamp was taken in software.
    TP_STATUS_TS_SOFTWARE = 1 << 29;
    /// The timestamp was taken by the device.
    TP_STATUS_TS_RAW_HARDWARE = 1 << 31;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_libc_has_them() {
        let here = SockaddrLl {
            protocol: 0x0806,
            ifindex: 7,
            hatype: 1,
            pkttype: PACKET_OTHERHOST,
            halen: 6,
            addr: [2, 0, 0, 0, 0, 9, 0, 0],
        };
        let bytes = here.to_bytes();
        assert_eq!(bytes.len(), size_of::<libc::sockaddr_ll>());
        assert_eq!(core::mem::offset_of!(libc::sockaddr_ll, sll_addr), SLL_ADDR);
        assert_eq!(bytes, [17, 0, 8, 6, 7, 0, 0, 0, 1, 0, 3, 6, 2, 0, 0, 0, 0, 9, 0, 0]);
        assert_eq!(SockaddrLl::from_bytes(&bytes), Ok(here));
        assert_eq!(SockaddrLl::from_bytes(&bytes[..19]), Err(Errno::EINVAL));
        assert_eq!(SockaddrLl::from_bytes(&[0; 20]), Err(Errno::EINVAL), "another family");
        assert_eq!(SockaddrLl::from_bytes(&[]), Err(Errno::EINVAL));
        assert_eq!(size_of::<libc::packet_mreq>(), PACKET_MREQ_LEN);
        assert_eq!(size_of::<libc::tpacket_hdr>(), TPACKET_HDR_LEN);
        assert_eq!(size_of::<libc::tpacket2_hdr>(), TPACKET_HDR_LEN);
        assert_eq!(size_of::<libc::tpacket3_hdr>(), TPACKET3_HDR_LEN);
        assert_eq!(size_of::<libc::tpacket_block_desc>(), TPACKET_BLOCK_DESC_LEN);
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n as i64, libc::$n as i64, stringify!($n));)* } }
        same!(PACKET_HOST PACKET_BROADCAST PACKET_MULTICAST PACKET_OTHERHOST PACKET_OUTGOING
            PACKET_ADD_MEMBERSHIP PACKET_RX_RING PACKET_STATISTICS PACKET_VERSION PACKET_TX_RING
            PACKET_FANOUT PACKET_QDISC_BYPASS PACKET_MR_PROMISC);
    }
}
