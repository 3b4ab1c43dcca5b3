//! The TCP header, its options, states and socket options.

mod info;

pub use info::{
    TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN, TCPI_OPT_SACK, TCPI_OPT_SYN_DATA, TCPI_OPT_TFO_CHILD,
    TCPI_OPT_TIMESTAMPS, TCPI_OPT_USEC_TS, TCPI_OPT_WSCALE, TcpCaState, TcpInfo,
};

use zerocopy::network_endian::{U16, U32};

/// Octets in a TCP header without options.
pub const TCP_HDR_LEN: usize = 20;

view! {
    /// A TCP header without its options.
    pub struct TcpHdr[20] {
        /// Source port.
        source: U16,
        /// Destination port.
        dest: U16,
        /// Sequence number.
        seq: U32,
        /// Acknowledgement number.
        ack_seq: U32,
        /// Header length in words in the top four bits, reserved bits and AE below.
        doff_res: u8,
        /// The eight flags.
        flags: u8,
        /// Window offered.
        window: U16,
        /// Checksum.
        check: U16,
        /// Urgent pointer.
        urg_ptr: U16,
    }
}

consts! { u8:
    /// No more data from the sender.
    TCPHDR_FIN = 0x01;
    /// Synchronize sequence numbers.
    TCPHDR_SYN = 0x02;
    /// Reset the connection.
    TCPHDR_RST = 0x04;
    /// Push.
    TCPHDR_PSH = 0x08;
    /// The acknowledgement number is valid.
    TCPHDR_ACK = 0x10;
    /// The urgent pointer is valid.
    TCPHDR_URG = 0x20;
    /// Congestion experienced, echoed.
    TCPHDR_ECE = 0x40;
    /// Congestion window reduced.
    TCPHDR_CWR = 0x80;
    /// End of options.
    TCPOPT_EOL = 0;
    /// Padding of one octet.
    TCPOPT_NOP = 1;
    /// Maximum segment size.
    TCPOPT_MSS = 2;
    /// Window scale.
    TCPOPT_WINDOW = 3;
    /// Selective acknowledgement permitted.
    TCPOPT_SACK_PERM = 4;
    /// Selective acknowledgement blocks.
    TCPOPT_SACK = 5;
    /// Timestamps.
    TCPOPT_TIMESTAMP = 8;
    /// MD5 signature.
    TCPOPT_MD5SIG = 19;
    /// Authentication option.
    TCPOPT_AO = 29;
    /// Multipath TCP.
    TCPOPT_MPTCP = 30;
    /// Fast open cookie.
    TCPOPT_FASTOPEN = 34;
    /// Experimental.
    TCPOPT_EXP = 254;
    /// Octets in the maximum segment size option.
    TCPOLEN_MSS = 4;
    /// Octets in the window scale option.
    TCPOLEN_WINDOW = 3;
    /// Octets in the selective acknowledgement permitted option.
    TCPOLEN_SACK_PERM = 2;
    /// Octets in the timestamps option.
    TCPOLEN_TIMESTAMP = 10;
    /// Octets in the MD5 signature option.
    TCPOLEN_MD5SIG = 18;
    /// Octets in one selective acknowledgement block.
    TCPOLEN_SACK_PERBLOCK = 8;
    /// State: established.
    TCP_ESTABLISHED = 1;
    /// State: SYN sent.
    TCP_SYN_SENT = 2;
    /// State: SYN received.
    TCP_SYN_RECV = 3;
    /// State: FIN sent, not acknowledged.
    TCP_FIN_WAIT1 = 4;
    /// State: FIN sent and acknowledged.
    TCP_FIN_WAIT2 = 5;
    /// State: waiting for stray segments to die.
    TCP_TIME_WAIT = 6;
    /// State: closed; also an unconnected UDP socket.
    TCP_CLOSE = 7;
    /// State: FIN received.
    TCP_CLOSE_WAIT = 8;
    /// State: FIN received, own FIN sent.
    TCP_LAST_ACK = 9;
    /// State: listening.
    TCP_LISTEN = 10;
    /// State: both sides sent FIN at once.
    TCP_CLOSING = 11;
    /// State: connection request without a full socket.
    TCP_NEW_SYN_RECV = 12;
}

consts! { i32:
    /// Send small segments at once.
    TCP_NODELAY = 1;
    /// Limit the segment size.
    TCP_MAXSEG = 2;
    /// Never send partly filled segments.
    TCP_CORK = 3;
    /// Seconds of idleness before keepalives start.
    TCP_KEEPIDLE = 4;
    /// Seconds between keepalives.
    TCP_KEEPINTVL = 5;
    /// Keepalives before the connection dies.
    TCP_KEEPCNT = 6;
    /// Number of SYN retransmissions.
    TCP_SYNCNT = 7;
    /// Lifetime of an orphaned FIN-WAIT-2 socket.
    TCP_LINGER2 = 8;
    /// Wake a listener only when data arrives.
    TCP_DEFER_ACCEPT = 9;
    /// Bound of the advertised window.
    TCP_WINDOW_CLAMP = 10;
    /// Information about the connection.
    TCP_INFO = 11;
    /// Block or allow delayed acknowledgements.
    TCP_QUICKACK = 12;
    /// Congestion control algorithm.
    TCP_CONGESTION = 13;
    /// MD5 signature key.
    TCP_MD5SIG = 14;
    /// Linear timeouts for thin streams.
    TCP_THIN_LINEAR_TIMEOUTS = 16;
    /// Fast retransmit on the first duplicate for thin streams.
    TCP_THIN_DUPACK = 17;
    /// Milliseconds unacknowledged data may wait.
    TCP_USER_TIMEOUT = 18;
    /// Repair mode.
    TCP_REPAIR = 19;
    /// Queue that repair mode works on.
    TCP_REPAIR_QUEUE = 20;
    /// Sequence number of the queue in repair.
    TCP_QUEUE_SEQ = 21;
    /// Negotiated options set in repair.
    TCP_REPAIR_OPTIONS = 22;
    /// Fast open on listeners.
    TCP_FASTOPEN = 23;
    /// Timestamp clock.
    TCP_TIMESTAMP = 24;
    /// Bound of unsent data for writability.
    TCP_NOTSENT_LOWAT = 25;
    /// Information of the congestion control.
    TCP_CC_INFO = 26;
    /// Keep the SYN's headers.
    TCP_SAVE_SYN = 27;
    /// The SYN's headers kept.
    TCP_SAVED_SYN = 28;
    /// Window parameters in repair.
    TCP_REPAIR_WINDOW = 29;
    /// Fast open on connect.
    TCP_FASTOPEN_CONNECT = 30;
    /// Upper layer protocol.
    TCP_ULP = 31;
    /// MD5 signature key with extensions.
    TCP_MD5SIG_EXT = 32;
    /// Fast open key.
    TCP_FASTOPEN_KEY = 33;
    /// Fast open without a cookie.
    TCP_FASTOPEN_NO_COOKIE = 34;
    /// Receive by mapping pages.
    TCP_ZEROCOPY_RECEIVE = 35;
    /// Report the octets left to read.
    TCP_INQ = 36;
    /// Delay added to sent segments, in microseconds.
    TCP_TX_DELAY = 37;
    /// Add an authentication key.
    TCP_AO_ADD_KEY = 38;
    /// Delete an authentication key.
    TCP_AO_DEL_KEY = 39;
    /// Settings of the authentication option.
    TCP_AO_INFO = 40;
    /// List the authentication keys.
    TCP_AO_GET_KEY = 41;
    /// The authentication option's sequence numbers in repair.
    TCP_AO_REPAIR = 42;
    /// Whether the connection is one of Multipath TCP.
    TCP_IS_MPTCP = 43;
    /// Bound of the retransmission timeout, in milliseconds.
    TCP_RTO_MAX_MS = 44;
    /// Least retransmission timeout, in microseconds.
    TCP_RTO_MIN_US = 45;
    /// Bound of the delay of an acknowledgement, in microseconds.
    TCP_DELACK_MAX_US = 46;
    /// Control message: octets left to read.
    TCP_CM_INQ = TCP_INQ;
}

/// Segment size assumed when the peer states none.
pub const TCP_MSS_DEFAULT: u16 = 536;

impl TcpHdr {
    /// Octets in the header, options included.
    pub const fn doff(&self) -> usize {
        (self.doff_res >> 4) as usize * 4
    }

    /// Whether every flag in `mask` is set.
    pub const fn has(&self, mask: u8) -> bool {
        self.flags & mask == mask
    }

    /// Whether FIN is set.
    pub const fn fin(&self) -> bool {
        self.has(TCPHDR_FIN)
    }

    /// Whether SYN is set.
    pub const fn syn(&self) -> bool {
        self.has(TCPHDR_SYN)
    }

    /// Whether RST is set.
    pub const fn rst(&self) -> bool {
        self.has(TCPHDR_RST)
    }

    /// Whether PSH is set.
    pub const fn psh(&self) -> bool {
        self.has(TCPHDR_PSH)
    }

    /// Whether ACK is set.
    pub const fn ack(&self) -> bool {
        self.has(TCPHDR_ACK)
    }

    /// Whether URG is set.
    pub const fn urg(&self) -> bool {
        self.has(TCPHDR_URG)
    }

    /// Whether ECE is set.
    pub const fn ece(&self) -> bool {
        self.has(TCPHDR_ECE)
    }

    /// Whether CWR is set.
    pub const fn cwr(&self) -> bool {
        self.has(TCPHDR_CWR)
    }
}

/// Octets of a `tcp_md5sig`.
pub const TCP_MD5SIG_LEN: usize = 216;
/// Octets of a key for signatures, at the most.
pub const TCP_MD5SIG_MAXKEYLEN: usize = 80;
/// The key is for a network (`TCP_MD5SIG_EXT`).
pub const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;
/// The key is for a device (`TCP_MD5SIG_EXT`).
pub const TCP_MD5SIG_FLAG_IFINDEX: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn header_matches_etherparse() {
        let mut theirs = etherparse::TcpHeader::new(1000, 80, 0x0102_0304, 512);
        theirs.acknowledgment_number = 77;
        theirs.syn = true;
        theirs.ack = true;
        theirs.checksum = 0xbeef;
        let bytes = theirs.to_bytes();
        let ours = TcpHdr::read_from_bytes(&bytes).unwrap();
        assert_eq!((ours.source.get(), ours.dest.get()), (1000, 80));
        assert_eq!((ours.seq.get(), ours.ack_seq.get()), (0x0102_0304, 77));
        assert_eq!((ours.window.get(), ours.check.get()), (512, 0xbeef));
        assert_eq!(ours.doff(), 20);
        assert!(ours.syn() && ours.ack() && ours.has(TCPHDR_SYN | TCPHDR_ACK));
        assert!(!(ours.fin() || ours.rst() || ours.psh() || ours.urg()));
        assert!(!(ours.ece() || ours.cwr()));
        assert_eq!(ours.as_bytes(), &bytes[..]);
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n);)* } }
        same!(TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT
            TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION
            TCP_MD5SIG TCP_THIN_LINEAR_TIMEOUTS TCP_THIN_DUPACK TCP_USER_TIMEOUT TCP_REPAIR
            TCP_REPAIR_QUEUE TCP_QUEUE_SEQ TCP_REPAIR_OPTIONS TCP_FASTOPEN TCP_TIMESTAMP
            TCP_NOTSENT_LOWAT TCP_CC_INFO TCP_SAVE_SYN TCP_SAVED_SYN TCP_REPAIR_WINDOW
            TCP_FASTOPEN_CONNECT TCP_ULP TCP_MD5SIG_EXT TCP_FASTOPEN_KEY TCP_FASTOPEN_NO_COOKIE
            TCP_ZEROCOPY_RECEIVE TCP_INQ TCP_CM_INQ);
    }
}
