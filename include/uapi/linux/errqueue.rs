//! Errors queued on a socket, as `MSG_ERRQUEUE` reports them.

/// Octets in a `sock_extended_err`.
pub const SOCK_EXTENDED_ERR_LEN: usize = 16;

/// What went wrong and who said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SockExtendedErr {
    /// Error number, positive.
    pub ee_errno: u32,
    /// Where the error comes from, `SO_EE_ORIGIN_*`.
    pub ee_origin: u8,
    /// ICMP type, or zero.
    pub ee_type: u8,
    /// ICMP code, or a code of the origin.
    pub ee_code: u8,
    /// Padding.
    pub ee_pad: u8,
    /// Further information, such as a path MTU.
    pub ee_info: u32,
    /// Further data.
    pub ee_data: u32,
}

impl SockExtendedErr {
    /// The bytes of a `sock_extended_err`.
    pub const fn to_bytes(self) -> [u8; SOCK_EXTENDED_ERR_LEN] {
        let e = self.ee_errno.to_ne_bytes();
        let i = self.ee_info.to_ne_bytes();
        let d = self.ee_data.to_ne_bytes();
        [
            e[0],
            e[1],
            e[2],
            e[3],
            self.ee_origin,
            self.ee_type,
            self.ee_code,
            self.ee_pad,
            i[0],
            i[1],
            i[2],
            i[3],
            d[0],
            d[1],
            d[2],
            d[3],
        ]
    }

    /// Reads a `sock_extended_err`.
    pub const fn from_bytes(b: &[u8; SOCK_EXTENDED_ERR_LEN]) -> Self {
        SockExtendedErr {
            ee_errno: u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            ee_origin: b[4],
            ee_type: b[5],
            ee_code: b[6],
            ee_pad: b[7],
            ee_info: u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            ee_data: u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        }
    }
}

consts! { u8:
    /// No origin.
    SO_EE_ORIGIN_NONE = 0;
    /// This host.
    SO_EE_ORIGIN_LOCAL = 1;
    /// An ICMP message.
    SO_EE_ORIGIN_ICMP = 2;
    /// An ICMP for IPv6 message.
    SO_EE_ORIGIN_ICMP6 = 3;
    /// The status of a transmission.
    SO_EE_ORIGIN_TXSTATUS = 4;
    /// A transmit timestamp; the same number as TXSTATUS.
    SO_EE_ORIGIN_TIMESTAMPING = 4;
    /// The end of a send without copy.
    SO_EE_ORIGIN_ZEROCOPY = 5;
    /// A packet that missed its time of departure.
    SO_EE_ORIGIN_TXTIME = 6;
    /// The data was copied after all.
    SO_EE_CODE_ZEROCOPY_COPIED = 1;
    /// The time of departure makes no sense.
    SO_EE_CODE_TXTIME_INVALID_PARAM = 1;
    /// The time of departure had passed.
    SO_EE_CODE_TXTIME_MISSED = 2;
    /// The ICMP extension is malformed.
    SO_EE_RFC4884_FLAG_INVALID = 1;
}

consts! { u32:
    /// Timestamp: the driver has the packet.
    SCM_TSTAMP_SND = 0;
    /// Timestamp: the packet entered the scheduler.
    SCM_TSTAMP_SCHED = 1;
    /// Timestamp: the peer acknowledged the data.
    SCM_TSTAMP_ACK = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let e = SockExtendedErr {
            ee_errno: 111,
            ee_origin: SO_EE_ORIGIN_ICMP,
            ee_type: 3,
            ee_code: 3,
            ee_info: 1400,
            ..Default::default()
        };
        assert_eq!(e.to_bytes(), [111, 0, 0, 0, 2, 3, 3, 0, 0x78, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!(SockExtendedErr::from_bytes(&e.to_bytes()), e);
        assert_eq!(SOCK_EXTENDED_ERR_LEN, size_of::<libc::sock_extended_err>());
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n);)* } }
        same!(SO_EE_ORIGIN_NONE SO_EE_ORIGIN_LOCAL SO_EE_ORIGIN_ICMP SO_EE_ORIGIN_TXSTATUS);
    }
}
