//! Socket families, types, options, message flags, and control messages.

use crate::errno::Errno;
use crate::if_packet::{SLL_ADDR, SockaddrLl};
use crate::in_::SockaddrIn;

consts! { i32:
    /// No family.
    AF_UNSPEC = 0;
    /// Sockets within the host.
    AF_UNIX = 1;
    /// IPv4.
    AF_INET = 2;
    /// AX.25.
    AF_AX25 = 3;
    /// IPv6.
    AF_INET6 = 10;
    /// Netlink.
    AF_NETLINK = 16;
    /// Packets of a device.
    AF_PACKET = 17;
    /// Controller area network.
    AF_CAN = 29;
    /// Sockets between virtual machines.
    AF_VSOCK = 40;
    /// XDP sockets.
    AF_XDP = 44;
    /// Number of families.
    AF_MAX = 46;
    /// Stream.
    SOCK_STREAM = 1;
    /// Datagrams.
    SOCK_DGRAM = 2;
    /// Raw packets of a protocol.
    SOCK_RAW = 3;
    /// Reliable datagrams.
    SOCK_RDM = 4;
    /// Reliable datagrams in order.
    SOCK_SEQPACKET = 5;
    /// DCCP.
    SOCK_DCCP = 6;
    /// Obsolete way to get packets of a device.
    SOCK_PACKET = 10;
    /// The bits that hold the type.
    SOCK_TYPE_MASK = 0xf;
    /// Make the socket nonblocking.
    SOCK_NONBLOCK = 0o4000;
    /// Close the socket on exec.
    SOCK_CLOEXEC = 0o2000000;
    /// Level of the socket itself.
    SOL_SOCKET = 1;
    /// Level of IPv4.
    SOL_IP = 0;
    /// Level of ICMP.
    SOL_ICMP = 1;
    /// Level of TCP.
    SOL_TCP = 6;
    /// Level of UDP.
    SOL_UDP = 17;
    /// Level of IPv6.
    SOL_IPV6 = 41;
    /// Level of ICMP for IPv6.
    SOL_ICMPV6 = 58;
    /// Level of UDP-Lite.
    SOL_UDPLITE = 136;
    /// Level of raw sockets.
    SOL_RAW = 255;
    /// Level of packet sockets.
    SOL_PACKET = 263;
    /// Level of netlink.
    SOL_NETLINK = 270;
    /// Bound of a listener's backlog.
    SOMAXCONN = 4096;
    /// Record debugging information.
    SO_DEBUG = 1;
    /// Share the local address.
    SO_REUSEADDR = 2;
    /// Type of the socket.
    SO_TYPE = 3;
    /// Pending error, cleared by reading.
    SO_ERROR = 4;
    /// Send only to hosts on the link.
    SO_DONTROUTE = 5;
    /// Allow sending to broadcast addresses.
    SO_BROADCAST = 6;
    /// Size of the send buffer.
    SO_SNDBUF = 7;
    /// Size of the receive buffer.
    SO_RCVBUF = 8;
    /// Send keepalives.
    SO_KEEPALIVE = 9;
    /// Keep urgent data in line.
    SO_OOBINLINE = 10;
    /// Send UDP without checksums.
    SO_NO_CHECK = 11;
    /// Priority of packets sent.
    SO_PRIORITY = 12;
    /// Linger on close.
    SO_LINGER = 13;
    /// Obsolete, ignored.
    SO_BSDCOMPAT = 14;
    /// Share the local port, spreading the load.
    SO_REUSEPORT = 15;
    /// Receive credentials.
    SO_PASSCRED = 16;
    /// Credentials of the peer.
    SO_PEERCRED = 17;
    /// Octets that make the socket readable.
    SO_RCVLOWAT = 18;
    /// Octets that make the socket writable.
    SO_SNDLOWAT = 19;
    /// Receive timeout.
    SO_RCVTIMEO = 20;
    /// Send timeout.
    SO_SNDTIMEO = 21;
    /// Bind to a device by name.
    SO_BINDTODEVICE = 25;
    /// Attach a classic filter.
    SO_ATTACH_FILTER = 26;
    /// Detach the filter.
    SO_DETACH_FILTER = 27;
    /// Name of the peer.
    SO_PEERNAME = 28;
    /// Receive timestamps in microseconds.
    SO_TIMESTAMP = 29;
    /// Whether the socket listens.
    SO_ACCEPTCONN = 30;
    /// Security context of the peer.
    SO_PEERSEC = 31;
    /// Size of the send buffer, beyond the bound.
    SO_SNDBUFFORCE = 32;
    /// Size of the receive buffer, beyond the bound.
    SO_RCVBUFFORCE = 33;
    /// Receive security contexts.
    SO_PASSSEC = 34;
    /// Receive timestamps in nanoseconds.
    SO_TIMESTAMPNS = 35;
    /// Mark of packets sent.
    SO_MARK = 36;
    /// Timestamping of packets sent and received.
    SO_TIMESTAMPING = 37;
    /// Protocol of the socket.
    SO_PROTOCOL = 38;
    /// Family of the socket.
    SO_DOMAIN = 39;
    /// Receive the number of packets dropped.
    SO_RXQ_OVFL = 40;
    /// Receive the acknowledgement status of a wireless frame.
    SO_WIFI_STATUS = 41;
    /// Offset that peeking starts at.
    SO_PEEK_OFF = 42;
    /// The caller supplies the frame check sequence.
    SO_NOFCS = 43;
    /// Forbid changes of the filter.
    SO_LOCK_FILTER = 44;
    /// Report queued errors as exceptional conditions.
    SO_SELECT_ERR_QUEUE = 45;
    /// Microseconds of busy polling.
    SO_BUSY_POLL = 46;
    /// Bound of the sending rate.
    SO_MAX_PACING_RATE = 47;
    /// Which filter extensions there are.
    SO_BPF_EXTENSIONS = 48;
    /// CPU that received the packets.
    SO_INCOMING_CPU = 49;
    /// Attach an extended filter.
    SO_ATTACH_BPF = 50;
    /// Attach a classic program that picks the socket.
    SO_ATTACH_REUSEPORT_CBPF = 51;
    /// Attach an extended program that picks the socket.
    SO_ATTACH_REUSEPORT_EBPF = 52;
    /// Advice on the connection.
    SO_CNX_ADVICE = 53;
    /// Memory in use.
    SO_MEMINFO = 55;
    /// NAPI instance that received the packets.
    SO_INCOMING_NAPI_ID = 56;
    /// Unique number of the socket.
    SO_COOKIE = 57;
    /// Groups of the peer.
    SO_PEERGROUPS = 59;
    /// Allow sending without a copy.
    SO_ZEROCOPY = 60;
    /// Packets carry their time of departure.
    SO_TXTIME = 61;
    /// Bind to a device by index.
    SO_BINDTOIFINDEX = 62;
    /// As `SO_TIMESTAMP`, 64-bit times everywhere.
    SO_TIMESTAMP_NEW = 63;
    /// As `SO_TIMESTAMPNS`, 64-bit times everywhere.
    SO_TIMESTAMPNS_NEW = 64;
    /// As `SO_TIMESTAMPING`, 64-bit times everywhere.
    SO_TIMESTAMPING_NEW = 65;
    /// As `SO_RCVTIMEO`, 64-bit times everywhere.
    SO_RCVTIMEO_NEW = 66;
    /// As `SO_SNDTIMEO`, 64-bit times everywhere.
    SO_SNDTIMEO_NEW = 67;
    /// Detach the program that picks the socket.
    SO_DETACH_REUSEPORT_BPF = 68;
    /// Prefer busy polling to interrupts.
    SO_PREFER_BUSY_POLL = 69;
    /// Packets handled by one busy poll.
    SO_BUSY_POLL_BUDGET = 70;
    /// Unique number of the network namespace.
    SO_NETNS_COOKIE = 71;
    /// Forbid automatic sizing of the buffers.
    SO_BUF_LOCK = 72;
    /// Memory reserved for the socket.
    SO_RESERVE_MEM = 73;
    /// Choose another path when retransmitting.
    SO_TXREHASH = 74;
    /// Receive a packet's mark.
    SO_RCVMARK = 75;
    /// Receive a process descriptor.
    SO_PASSPIDFD = 76;
    /// Process descriptor of the peer.
    SO_PEERPIDFD = 77;
    /// Receive device memory linearly.
    SO_DEVMEM_LINEAR = 78;
    /// Receive device memory in its buffers.
    SO_DEVMEM_DMABUF = 79;
    /// Give device memory back.
    SO_DEVMEM_DONTNEED = 80;
    /// Receive a packet's priority.
    SO_RCVPRIORITY = 82;
    /// Receive descriptors.
    SO_PASSRIGHTS = 83;
    /// Tell the octets left to read with each message.
    SO_INQ = 84;
    /// Urgent data.
    MSG_OOB = 0x1;
    /// Leave the data in the queue.
    MSG_PEEK = 0x2;
    /// Send only to hosts on the link.
    MSG_DONTROUTE = 0x4;
    /// Control data did not fit.
    MSG_CTRUNC = 0x8;
    /// Send nothing, only probe the path.
    MSG_PROBE = 0x10;
    /// Data did not fit; asked for, report the real length.
    MSG_TRUNC = 0x20;
    /// Do not block.
    MSG_DONTWAIT = 0x40;
    /// End of a record.
    MSG_EOR = 0x80;
    /// Wait for all that was asked for.
    MSG_WAITALL = 0x100;
    /// Finish.
    MSG_FIN = 0x200;
    /// Synchronize.
    MSG_SYN = 0x400;
    /// The peer is known to be reachable.
    MSG_CONFIRM = 0x800;
    /// Reset.
    MSG_RST = 0x1000;
    /// Receive from the error queue.
    MSG_ERRQUEUE = 0x2000;
    /// Raise no SIGPIPE.
    MSG_NOSIGNAL = 0x4000;
    /// More data follows.
    MSG_MORE = 0x8000;
    /// Do not block after the first message.
    MSG_WAITFORONE = 0x10000;
    /// More messages follow.
    MSG_BATCH = 0x40000;
    /// Receive device memory.
    MSG_SOCK_DEVMEM = 0x0200_0000;
    /// Send without a copy.
    MSG_ZEROCOPY = 0x0400_0000;
    /// Take the data's memory along instead of a copy; never of a program's own.
    MSG_SPLICE_PAGES = 0x0800_0000;
    /// Send data with the SYN.
    MSG_FASTOPEN = 0x2000_0000;
    /// Close received descriptors on exec.
    MSG_CMSG_CLOEXEC = 0x4000_0000;
    /// Shut down receiving.
    SHUT_RD = 0;
    /// Shut down sending.
    SHUT_WR = 1;
    /// Shut down both.
    SHUT_RDWR = 2;
    /// Control message: descriptors.
    SCM_RIGHTS = 1;
    /// Control message: credentials.
    SCM_CREDENTIALS = 2;
    /// Control message: security context.
    SCM_SECURITY = 3;
    /// Control message: timestamp in microseconds.
    SCM_TIMESTAMP = SO_TIMESTAMP;
    /// Control message: timestamp in nanoseconds.
    SCM_TIMESTAMPNS = SO_TIMESTAMPNS;
    /// Control message: timestamps of the packet.
    SCM_TIMESTAMPING = SO_TIMESTAMPING;
    /// Control message: wireless acknowledgement status.
    SCM_WIFI_STATUS = SO_WIFI_STATUS;
    /// Control message: statistics with a timestamp.
    SCM_TIMESTAMPING_OPT_STATS = 54;
    /// Control message: device and length with a timestamp.
    SCM_TIMESTAMPING_PKTINFO = 58;
    /// Control message: time of departure.
    SCM_TXTIME = SO_TXTIME;
    /// Control message: the number of a datagram that is to be told of.
    SCM_TS_OPT_ID = 81;
    /// Control message: octets left to read.
    SCM_INQ = SO_INQ;
}

/// Octets in a control message's header on a 64-bit host.
pub const CMSG_HDR_LEN: usize = 16;

/// `len` rounded up to the alignment of control messages.
pub const fn cmsg_align(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// What a control message with `len` octets of data states as its length.
pub const fn cmsg_len(len: usize) -> usize {
    CMSG_HDR_LEN + len
}

/// What a control message with `len` octets of data takes up, padding included.
pub const fn cmsg_space(len: usize) -> usize {
    CMSG_HDR_LEN + cmsg_align(len)
}

/// One control message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cmsg<'a> {
    /// Protocol level it belongs to.
    pub level: i32,
    /// Type within the level.
    pub type_: i32,
    /// Its data.
    pub data: &'a [u8],
}

/// Walks the control messages in a buffer; made by [`cmsgs`].
#[derive(Clone, Debug)]
pub struct Cmsgs<'a> {
    rest: &'a [u8],
}

/// The control messages in `buf`. A header whose length is impossible yields EINVAL and ends
/// the walk; a tail too short for a header ends it silently.
pub const fn cmsgs(buf: &[u8]) -> Cmsgs<'_> {
    Cmsgs { rest: buf }
}

impl<'a> Iterator for Cmsgs<'a> {
    type Item = Result<Cmsg<'a>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        let buf = core::mem::take(&mut self.rest);
        let (len, tail) = buf.split_first_chunk::<8>()?;
        let (level, tail) = tail.split_first_chunk::<4>()?;
        let (type_, _) = tail.split_first_chunk::<4>()?;
        let len = u64::from_ne_bytes(*len);
        if len < CMSG_HDR_LEN as u64 || len > buf.len() as u64 {
            return Some(Err(Errno::EINVAL));
        }
        let len = len as usize;
        self.rest = buf.get(cmsg_align(len)..).unwrap_or(&[]);
        Some(Ok(Cmsg {
            level: i32::from_ne_bytes(*level),
            type_: i32::from_ne_bytes(*type_),
            data: &buf[CMSG_HDR_LEN..len],
        }))
    }
}

impl core::iter::FusedIterator for Cmsgs<'_> {}

/// Appends control messages to a caller's buffer, noting when they do not fit.
#[derive(Debug)]
pub struct CmsgWriter<'a> {
    buf: &'a mut [u8],
    used: usize,
    truncated: bool,
}

impl<'a> CmsgWriter<'a> {
    /// Writes from the start of `buf`.
    pub fn new(buf: &'a mut [u8]) -> Self {
        CmsgWriter { buf, used: 0, truncated: false }
    }

    /// Appends one message. Data that does not fit is cut; without room for a header nothing is
    /// written. Either is noted as truncation.
    pub fn put(&mut self, level: i32, type_: i32, data: &[u8]) {
        let room = &mut self.buf[self.used..];
        if room.len() < CMSG_HDR_LEN {
            self.truncated = true;
            return;
        }
        let mut len = cmsg_len(data.len());
        if len > room.len() {
            self.truncated = true;
            len = room.len();
        }
        room[..8].copy_from_slice(&(len as u64).to_ne_bytes());
        room[8..12].copy_from_slice(&level.to_ne_bytes());
        room[12..16].copy_from_slice(&type_.to_ne_bytes());
        room[CMSG_HDR_LEN..len].copy_from_slice(&data[..len - CMSG_HDR_LEN]);
        self.used += cmsg_space(data.len()).min(room.len());
    }

    /// Octets written, padding included.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Whether something did not fit.
    pub const fn truncated(&self) -> bool {
        self.truncated
    }

    /// The flags to report with the message: `MSG_CTRUNC` or none.
    pub const fn flags(&self) -> i32 {
        if self.truncated { MSG_CTRUNC } else { 0 }
    }
}

/// A socket's address, of whichever family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sockaddr {
    /// Of `AF_INET`.
    In(SockaddrIn),
    /// Of `AF_PACKET`.
    Ll(SockaddrLl),
}

impl Sockaddr {
    /// The bytes of the structure.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::In(addr) => addr.to_bytes().to_vec(),
            Self::Ll(addr) => addr.to_bytes().to_vec(),
        }
    }

    /// Those that `getsockname` tells: of a link address as many as it has.
    pub fn to_name(&self) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        if let Self::Ll(addr) = self {
            bytes.truncate(SLL_ADDR + usize::from(addr.halen));
        }
        bytes
    }

    /// An IPv4 address; `None` for another family's.
    pub const fn inet(self) -> Option<SockaddrIn> {
        match self {
            Self::In(addr) => Some(addr),
            Self::Ll(_) => None,
        }
    }

    /// A link address; `None` for another family's.
    pub const fn link(self) -> Option<SockaddrLl> {
        match self {
            Self::In(_) => None,
            Self::Ll(addr) => Some(addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_match_libc() {
        for n in 0..40u32 {
            // SAFETY: these only compute with the number given.
            #[allow(unsafe_code)]
            let (len, space) = unsafe { (libc::CMSG_LEN(n), libc::CMSG_SPACE(n)) };
            assert_eq!(cmsg_len(n as usize), len as usize);
            assert_eq!(cmsg_space(n as usize), space as usize);
        }
    }

    #[test]
    fn written_messages_read_back() {
        let mut buf = [0u8; 64];
        let mut w = CmsgWriter::new(&mut buf);
        w.put(SOL_IP, 2, &7i32.to_ne_bytes());
        w.put(SOL_SOCKET, SCM_TIMESTAMPNS, &[1; 16]);
        assert_eq!((w.used(), w.flags()), (56, 0));
        w.put(SOL_IP, 8, &[9; 12]);
        assert!(w.truncated());
        assert_eq!((w.used(), w.flags()), (56, MSG_CTRUNC));
        let got: Vec<_> = cmsgs(&buf[..56]).map(Result::unwrap).collect();
        assert_eq!(got[0], Cmsg { level: SOL_IP, type_: 2, data: &[7, 0, 0, 0] });
        assert_eq!(got[1].data, [1; 16]);
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn data_is_cut_to_the_room() {
        let mut buf = [0u8; 20];
        let mut w = CmsgWriter::new(&mut buf);
        w.put(SOL_IP, 8, &[9; 12]);
        assert_eq!((w.used(), w.flags()), (20, MSG_CTRUNC));
        assert_eq!(cmsgs(&buf).next().unwrap().unwrap().data, [9; 4]);
    }

    #[test]
    fn unpadded_last_message_is_accepted() {
        let mut buf = [0u8; 20];
        let mut w = CmsgWriter::new(&mut buf);
        w.put(SOL_IP, 1, &[1, 2, 3, 4]);
        assert_eq!((w.used(), w.flags()), (20, 0));
        assert_eq!(cmsgs(&buf).count(), 1);
    }

    #[test]
    fn malformed_lengths_end_the_walk() {
        for bad in [0u64, 15, 33, u64::MAX] {
            let mut buf = [0u8; 32];
            buf[..8].copy_from_slice(&bad.to_ne_bytes());
            let got: Vec<_> = cmsgs(&buf).collect();
            assert_eq!(got, [Err(Errno::EINVAL)]);
        }
        assert_eq!(cmsgs(&[0; 15]).count(), 0);
    }

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n, stringify!($n));)* } }
        same!(AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK AF_XDP
            SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET SOCK_NONBLOCK SOCK_CLOEXEC
            SOL_SOCKET SOL_IP SOL_TCP SOL_UDP SOL_PACKET SOL_NETLINK SOMAXCONN
            SO_REUSEADDR SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF
            SO_KEEPALIVE SO_OOBINLINE SO_NO_CHECK SO_PRIORITY SO_LINGER SO_REUSEPORT SO_RCVLOWAT
            SO_SNDLOWAT SO_RCVTIMEO SO_SNDTIMEO SO_BINDTODEVICE SO_TIMESTAMP SO_ACCEPTCONN
            SO_SNDBUFFORCE SO_RCVBUFFORCE SO_TIMESTAMPNS SO_MARK SO_TIMESTAMPING SO_PROTOCOL
            SO_DOMAIN SO_RXQ_OVFL SO_PEEK_OFF SO_SELECT_ERR_QUEUE SO_BUSY_POLL SO_INCOMING_CPU
            SO_COOKIE SO_ZEROCOPY SO_TXTIME SO_BINDTOIFINDEX SO_PREFER_BUSY_POLL
            SO_BUSY_POLL_BUDGET SO_PEERNAME SO_PEERSEC SO_PASSSEC SO_LOCK_FILTER SO_MEMINFO
            SO_INCOMING_NAPI_ID SO_MAX_PACING_RATE SO_BPF_EXTENSIONS SO_PEERGROUPS SO_NOFCS
            MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL
            MSG_CONFIRM MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE MSG_ZEROCOPY
            MSG_FASTOPEN MSG_CMSG_CLOEXEC SHUT_RD SHUT_WR SHUT_RDWR SCM_RIGHTS SCM_CREDENTIALS
            SCM_TIMESTAMP SCM_TIMESTAMPNS SCM_TIMESTAMPING SCM_TXTIME);
    }
}
