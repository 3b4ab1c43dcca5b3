//! Names of constants, as scripts write them, with Linux's values.
//!
//! TABLE

/// Constants that the C library's binding has.
macro_rules! of_libc {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as i64)),*] };
}

const LIBC: &[(&str, i64)] = of_libc! {
    AF_INET AF_INET6 AF_UNIX AF_UNSPEC PF_INET PF_INET6
    SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_NONBLOCK SOCK_CLOEXEC
    IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP IPPROTO_MPTCP
    SOL_SOCKET SOL_IP SOL_TCP SOL_UDP SOL_IPV6
    SO_ACCEPTCONN SO_ATTACH_FILTER SO_BINDTODEVICE SO_BROADCAST SO_BUSY_POLL SO_DEBUG SO_DETACH_FILTER
    SO_DOMAIN SO_DONTROUTE SO_ERROR SO_INCOMING_CPU SO_KEEPALIVE SO_LINGER SO_MARK SO_OOBINLINE
    SO_PEEK_OFF SO_PRIORITY SO_PROTOCOL SO_RCVBUF SO_RCVBUFFORCE SO_RCVLOWAT SO_RCVTIMEO SO_REUSEADDR
    SO_REUSEPORT SO_RXQ_OVFL SO_SNDBUF SO_SNDBUFFORCE SO_SNDLOWAT SO_SNDTIMEO SO_TIMESTAMP
    SO_TIMESTAMPING SO_TIMESTAMPNS SO_TYPE SO_ZEROCOPY SO_NO_CHECK SO_COOKIE SO_MEMINFO
    SCM_TIMESTAMPING SCM_TIMESTAMPNS SCM_TIMESTAMP
    IP_TOS IP_TTL IP_MTU IP_MTU_DISCOVER IP_RECVERR IP_RECVTOS IP_RECVTTL IP_PKTINFO IP_TRANSPARENT
    IP_FREEBIND IP_HDRINCL IP_OPTIONS IP_PMTUDISC_DONT IP_PMTUDISC_WANT IP_PMTUDISC_DO
    IP_PMTUDISC_PROBE IP_BIND_ADDRESS_NO_PORT IP_MINTTL IPV6_RECVERR
    TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2
    TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION TCP_MD5SIG TCP_USER_TIMEOUT
    TCP_FASTOPEN TCP_TIMESTAMP TCP_NOTSENT_LOWAT TCP_CC_INFO TCP_SAVE_SYN TCP_SAVED_SYN
    TCP_FASTOPEN_CONNECT TCP_ULP TCP_FASTOPEN_KEY TCP_FASTOPEN_NO_COOKIE TCP_ZEROCOPY_RECEIVE TCP_INQ
    TCP_CM_INQ TCP_REPAIR TCP_THIN_LINEAR_TIMEOUTS TCP_THIN_DUPACK
    UDP_CORK UDP_SEGMENT UDP_GRO
    MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_CONFIRM
    MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_FASTOPEN MSG_CMSG_CLOEXEC MSG_WAITFORONE
    SHUT_RD SHUT_WR SHUT_RDWR
    O_RDONLY O_WRONLY O_RDWR O_NONBLOCK O_CLOEXEC O_APPEND
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL FD_CLOEXEC
    POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM POLLWRBAND
    POLLRDHUP
    EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDNORM EPOLLRDBAND EPOLLWRNORM EPOLLWRBAND
    EPOLLRDHUP EPOLLONESHOT EPOLLEXCLUSIVE EPOLLWAKEUP EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD
    EPOLL_CLOEXEC
    FIONREAD FIONBIO TIOCINQ TIOCOUTQ
    SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE
    SOF_TIMESTAMPING_TX_HARDWARE SOF_TIMESTAMPING_TX_SOFTWARE SOF_TIMESTAMPING_RX_HARDWARE
    SOF_TIMESTAMPING_RX_SOFTWARE SOF_TIMESTAMPING_SOFTWARE SOF_TIMESTAMPING_RAW_HARDWARE
    SOF_TIMESTAMPING_OPT_ID SOF_TIMESTAMPING_TX_SCHED SOF_TIMESTAMPING_TX_ACK
    SOF_TIMESTAMPING_OPT_CMSG SOF_TIMESTAMPING_OPT_TSONLY
    SO_EE_ORIGIN_NONE SO_EE_ORIGIN_LOCAL SO_EE_ORIGIN_ICMP SO_EE_ORIGIN_ICMP6
};

/// Constants that it does not have, and names that only scripts know.
const OTHER: &[(&str, i64)] = &[
    ("EPOLLET", 1 << 31),
    ("INADDR_ANY", 0),
    ("MSG_ZEROCOPY", 0x400_0000),
    ("NULL", 0),
    ("SIOCINQ", 0x541b),
    ("SIOCOUTQ", 0x5411),
    ("SIOCOUTQNSD", 0x894b),
    ("SIOCATMARK", 0x8905),
    ("SO_EE_ORIGIN_TXSTATUS", 4),
    ("SO_EE_ORIGIN_TIMESTAMPING", 4),
    ("SO_EE_ORIGIN_ZEROCOPY", 5),
    ("SO_EE_ORIGIN_TXTIME", 6),
    ("SO_EE_CODE_ZEROCOPY_COPIED", 1),
    ("SO_MAX_PACING_RATE", 47),
    ("SO_TXTIME", 61),
    ("SOF_TIMESTAMPING_OPT_STATS", 1 << 12),
    ("SOF_TIMESTAMPING_OPT_PKTINFO", 1 << 13),
    ("SOF_TIMESTAMPING_OPT_TX_SWHW", 1 << 14),
    ("SOF_TIMESTAMPING_BIND_PHC", 1 << 15),
    ("SOF_TIMESTAMPING_OPT_ID_TCP", 1 << 16),
    ("SOF_TIMESTAMPING_SYS_HARDWARE", 1 << 5),
    ("SCM_TSTAMP_SND", 0),
    ("SCM_TSTAMP_SCHED", 1),
    ("SCM_TSTAMP_ACK", 2),
    ("TCP_REPAIR_WINDOW", 29),
    ("TCP_TX_DELAY", 37),
    ("TCP_RTO_MAX_MS", 44),
    // The family's own, which scripts for both families leave open.
    ("CMSG_LEVEL_IP", libc::SOL_IP as i64),
    ("CMSG_TYPE_RECVERR", libc::IP_RECVERR as i64),
];

/// States of a connection and of its congestion control, for `%{ }%`.
pub(crate) const STATES: &[(&str, i64)] = &[
    ("TCP_ESTABLISHED", 1),
    ("TCP_SYN_SENT", 2),
    ("TCP_SYN_RECV", 3),
    ("TCP_FIN_WAIT1", 4),
    ("TCP_FIN_WAIT2", 5),
    ("TCP_TIME_WAIT", 6),
    ("TCP_CLOSE", 7),
    ("TCP_CLOSE_WAIT", 8),
    ("TCP_LAST_ACK", 9),
    ("TCP_LISTEN", 10),
    ("TCP_CLOSING", 11),
    ("TCP_NEW_SYN_RECV", 12),
    ("TCP_CA_Open", 0),
    ("TCP_CA_Disorder", 1),
    ("TCP_CA_CWR", 2),
    ("TCP_CA_Recovery", 3),
    ("TCP_CA_Loss", 4),
    ("TCPI_OPT_TIMESTAMPS", 1),
    ("TCPI_OPT_SACK", 2),
    ("TCPI_OPT_WSCALE", 4),
    ("TCPI_OPT_ECN", 8),
    ("TCPI_OPT_ECN_SEEN", 16),
    ("TCPI_OPT_SYN_DATA", 32),
];

/// Places of `SO_MEMINFO`'s numbers, in order.
pub(crate) const SK_MEMINFO: &[&str] = &[
    "SK_MEMINFO_RMEM_ALLOC",
    "SK_MEMINFO_RCVBUF",
    "SK_MEMINFO_WMEM_ALLOC",
    "SK_MEMINFO_SNDBUF",
    "SK_MEMINFO_FWD_ALLOC",
    "SK_MEMINFO_WMEM_QUEUED",
    "SK_MEMINFO_OPTMEM",
    "SK_MEMINFO_BACKLOG",
    "SK_MEMINFO_DROPS",
];

/// The value of a name.
pub fn value(name: &str) -> Option<i64> {
    let find =
        |table: &[(&str, i64)]| table.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
    find(LIBC).or_else(|| find(OTHER))
}

/// Fields of `struct tcp_info`: name, offset, bytes.
pub(crate) const TCP_INFO: &[(&str, usize, usize)] = &[
    ("tcpi_state", 0, 1),
    ("tcpi_ca_state", 1, 1),
    ("tcpi_retransmits", 2, 1),
    ("tcpi_probes", 3, 1),
    ("tcpi_backoff", 4, 1),
    ("tcpi_options", 5, 1),
    ("tcpi_rto", 8, 4),
    ("tcpi_ato", 12, 4),
    ("tcpi_snd_mss", 16, 4),
    ("tcpi_rcv_mss", 20, 4),
    ("tcpi_unacked", 24, 4),
    ("tcpi_sacked", 28, 4),
    ("tcpi_lost", 32, 4),
    ("tcpi_retrans", 36, 4),
    ("tcpi_fackets", 40, 4),
    ("tcpi_last_data_sent", 44, 4),
    ("tcpi_last_ack_sent", 48, 4),
    ("tcpi_last_data_recv", 52, 4),
    ("tcpi_last_ack_recv", 56, 4),
    ("tcpi_pmtu", 60, 4),
    ("tcpi_rcv_ssthresh", 64, 4),
    ("tcpi_rtt", 68, 4),
    ("tcpi_rttvar", 72, 4),
    ("tcpi_snd_ssthresh", 76, 4),
    ("tcpi_snd_cwnd", 80, 4),
    ("tcpi_advmss", 84, 4),
    ("tcpi_reordering", 88, 4),
    ("tcpi_rcv_rtt", 92, 4),
    ("tcpi_rcv_space", 96, 4),
    ("tcpi_total_retrans", 100, 4),
    ("tcpi_pacing_rate", 104, 8),
    ("tcpi_max_pacing_rate", 112, 8),
    ("tcpi_bytes_acked", 120, 8),
    ("tcpi_bytes_received", 128, 8),
    ("tcpi_segs_out", 136, 4),
    ("tcpi_segs_in", 140, 4),
    ("tcpi_notsent_bytes", 144, 4),
    ("tcpi_min_rtt", 148, 4),
    ("tcpi_data_segs_in", 152, 4),
    ("tcpi_data_segs_out", 156, 4),
    ("tcpi_delivery_rate", 160, 8),
    ("tcpi_busy_time", 168, 8),
    ("tcpi_rwnd_limited", 176, 8),
    ("tcpi_sndbuf_limited", 184, 8),
    ("tcpi_delivered", 192, 4),
    ("tcpi_delivered_ce", 196, 4),
    ("tcpi_bytes_sent", 200, 8),
    ("tcpi_bytes_retrans", 208, 8),
    ("tcpi_dsack_dups", 216, 4),
    ("tcpi_reord_seen", 220, 4),
    ("tcpi_rcv_ooopack", 224, 4),
    ("tcpi_snd_wnd", 228, 4),
    ("tcpi_rcv_wnd", 232, 4),
    ("tcpi_rehash", 236, 4),
    ("tcpi_total_rto", 240, 2),
    ("tcpi_total_rto_recoveries", 242, 2),
    ("tcpi_total_rto_time", 244, 4),
];

/// A field of `struct tcp_info`; `None`: the machine's structure ends before it.
pub(crate) fn tcp_info(bytes: &[u8], (offset, len): (usize, usize)) -> Option<i128> {
    let field = bytes.get(offset..offset + len)?;
    let mut whole = [0; 8];
    whole[..len].copy_from_slice(field);
    Some(u64::from_le_bytes(whole).into())
}
