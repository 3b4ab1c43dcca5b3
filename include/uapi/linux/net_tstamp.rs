//! Time stamps of packets, as `SO_TIMESTAMPING` asks for them.

consts! { u32:
    /// When the device sent it.
    SOF_TIMESTAMPING_TX_HARDWARE = 1;
    /// When it was given to the driver.
    SOF_TIMESTAMPING_TX_SOFTWARE = 1 << 1;
    /// When the device received it.
    SOF_TIMESTAMPING_RX_HARDWARE = 1 << 2;
    /// When it reached the stack.
    SOF_TIMESTAMPING_RX_SOFTWARE = 1 << 3;
    /// Tell the software's times.
    SOF_TIMESTAMPING_SOFTWARE = 1 << 4;
    /// Without meaning any more.
    SOF_TIMESTAMPING_SYS_HARDWARE = 1 << 5;
    /// Tell the device's times.
    SOF_TIMESTAMPING_RAW_HARDWARE = 1 << 6;
    /// Tell which packet, or which octet, a time is of.
    SOF_TIMESTAMPING_OPT_ID = 1 << 7;
    /// When it came to the queueing discipline.
    SOF_TIMESTAMPING_TX_SCHED = 1 << 8;
    /// When all of it was acknowledged.
    SOF_TIMESTAMPING_TX_ACK = 1 << 9;
    /// Tell with a time of sending what the socket is told of packets that come.
    SOF_TIMESTAMPING_OPT_CMSG = 1 << 10;
    /// Tell the time alone, not the packet.
    SOF_TIMESTAMPING_OPT_TSONLY = 1 << 11;
    /// Tell what TCP knows of the connection, too.
    SOF_TIMESTAMPING_OPT_STATS = 1 << 12;
    /// Tell the device with a hardware's time.
    SOF_TIMESTAMPING_OPT_PKTINFO = 1 << 13;
    /// Tell both times of sending, the software's and the device's.
    SOF_TIMESTAMPING_OPT_TX_SWHW = 1 << 14;
    /// Take the times of one of the device's clocks.
    SOF_TIMESTAMPING_BIND_PHC = 1 << 15;
    /// Count a stream's octets from the next one written.
    SOF_TIMESTAMPING_OPT_ID_TCP = 1 << 16;
    /// Tell no times of receipt that this socket did not ask for.
    SOF_TIMESTAMPING_OPT_RX_FILTER = 1 << 17;
    /// When the device reported its end.
    SOF_TIMESTAMPING_TX_COMPLETION = 1 << 18;
    /// All flags.
    SOF_TIMESTAMPING_MASK = (1 << 19) - 1;
    /// Those that ask for times of sending: a message can have its own.
    SOF_TIMESTAMPING_TX_RECORD_MASK = SOF_TIMESTAMPING_TX_HARDWARE
        | SOF_TIMESTAMPING_TX_SOFTWARE
        | SOF_TIMESTAMPING_TX_SCHED
        | SOF_TIMESTAMPING_TX_ACK
        | SOF_TIMESTAMPING_TX_COMPLETION;
}

/// Octets of a `scm_timestamping`: three times.
pub const SCM_TIMESTAMPING_LEN: usize = 48;

/// The bytes of a `scm_timestamping` with a software's time, in nanoseconds.
pub fn scm_timestamping(software_ns: u64) -> [u8; SCM_TIMESTAMPING_LEN] {
    let mut bytes = [0; SCM_TIMESTAMPING_LEN];
    bytes[..8].copy_from_slice(&(software_ns / 1_000_000_000).to_ne_bytes());
    bytes[8..16].copy_from_slice(&(software_ns % 1_000_000_000).to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n);)* } }
        same!(SOF_TIMESTAMPING_TX_HARDWARE SOF_TIMESTAMPING_TX_SOFTWARE
            SOF_TIMESTAMPING_RX_HARDWARE SOF_TIMESTAMPING_RX_SOFTWARE SOF_TIMESTAMPING_SOFTWARE
            SOF_TIMESTAMPING_SYS_HARDWARE SOF_TIMESTAMPING_RAW_HARDWARE SOF_TIMESTAMPING_OPT_ID
            SOF_TIMESTAMPING_TX_SCHED SOF_TIMESTAMPING_TX_ACK SOF_TIMESTAMPING_OPT_CMSG
            SOF_TIMESTAMPING_OPT_TSONLY SOF_TIMESTAMPING_OPT_STATS SOF_TIMESTAMPING_OPT_PKTINFO
            SOF_TIMESTAMPING_OPT_TX_SWHW);
    }

    #[test]
    fn a_time_in_its_parts() {
        let bytes = scm_timestamping(3_000_000_007);
        assert_eq!(bytes[..8], 3_u64.to_ne_bytes());
        assert_eq!(bytes[8..16], 7_u64.to_ne_bytes());
        assert_eq!(bytes[16..], [0; 32]);
    }
}
