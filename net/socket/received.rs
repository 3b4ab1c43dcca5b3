//! What a call received, beside the data. Contexts: task.
//!
//! linux: include/linux/socket.h (`msghdr`). Key types: [`Received`], [`MsgName`].

use uapi::if_packet::SockaddrLl;
use uapi::in_::SockaddrIn;
use uapi::socket::Sockaddr;

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes copied; with `MSG_TRUNC` asked for, bytes of the message.
    pub len: usize,
    /// Who sent it.
    pub name: MsgName,
    /// `MSG_TRUNC`, `MSG_CTRUNC`, `MSG_ERRQUEUE`.
    pub flags: i32,
    /// Bytes of control data.
    pub controllen: u32,
}

/// Who sent a message, in as little room as there is for it: what was received is 32 octets, which every call clears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MsgName {
    /// Nobody in particular.
    #[default]
    None,
    /// An address of IPv4.
    In(SockaddrIn),
    /// An address on a link, of six octets.
    Ll {
        /// The ethertype.
        protocol: u16,
        /// The device.
        ifindex: u16,
        /// `ARPHRD_*`.
        hatype: u16,
        /// `PACKET_*`.
        pkttype: u8,
        /// The address.
        addr: [u8; 6],
    },
}

const _: () = assert!(size_of::<Received>() == 32);

impl MsgName {
    /// As a `sockaddr`.
    pub fn sockaddr(&self) -> Option<Sockaddr> {
        match *self {
            Self::None => None,
            Self::In(name) => Some(Sockaddr::In(name)),
            Self::Ll { protocol, ifindex, hatype, pkttype, addr: [a, b, c, d, e, f] } => {
                let (ifindex, halen, addr) = (ifindex.into(), 6, [a, b, c, d, e, f, 0, 0]);
                Some(Sockaddr::Ll(SockaddrLl { protocol, ifindex, hatype, pkttype, halen, addr }))
            }
        }
    }
}
