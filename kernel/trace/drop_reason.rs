//! Why a packet ended before a socket or the wire.
//!
//! linux: include/net/dropreason-core.h (6.x). The names are Linux's without `SKB_DROP_REASON_`.

use std::fmt;

macro_rules! drop_reasons {
    ($($name:ident $linux:literal $text:literal;)*) => {
        /// A reason to drop a packet; [`DropReason::explain`] says what it means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $text] $name,)* }

        impl DropReason {
            /// Every reason, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason of that name.
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.name() == name)
            }

            /// Linux's name, without the prefix.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $linux,)* }
            }

            /// One sentence on the cause.
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    NotSpecified "NOT_SPECIFIED" "No reason was given.";
    NoSocket "NO_SOCKET" "No socket is bound to the destination.";
    SocketClose "SOCKET_CLOSE" "The socket was closed with the packet still queued.";
    SocketRcvbuff "SOCKET_RCVBUFF" "The socket's receive buffer is full.";
    SocketBacklog "SOCKET_BACKLOG" "The backlog of a socket in use is full.";
    SocketFilter "SOCKET_FILTER" "The socket's filter (SO_ATTACH_FILTER) wants nothing of it.";
    PktTooSmall "PKT_TOO_SMALL" "Shorter than its header says or needs.";
    TcpCsum "TCP_CSUM" "The TCP checksum is wrong.";
    TcpFlags "TCP_FLAGS" "The TCP flags fit nothing the connection's state expects.";
    TcpMd5NotFound "TCP_MD5NOTFOUND" "No signature, where the peer's key asks for one.";
    TcpMd5Unexpected "TCP_MD5UNEXPECTED" "A signature, where no key is known for the peer.";
    TcpMd5Failure "TCP_MD5FAILURE" "The signature is not that of the peer's key.";
    TcpAuthHdr "TCP_AUTH_HDR" "More than one signature.";
    TcpZeroWindow "TCP_ZEROWINDOW" "Data for a receive window that is closed.";
    TcpOldData "TCP_OLD_DATA" "All of the data was received before.";
    TcpOverwindow "TCP_OVERWINDOW" "Data beyond the receive window.";
    TcpOfoMerge "TCP_OFOMERGE" "The data waits already, out of order.";
    TcpOfoDrop "TCP_OFO_DROP" "What waited out of order was received in order meanwhile.";
    TcpOfoQueuePrune "TCP_OFO_QUEUE_PRUNE" "What waited out of order gave way: the receive buffer is full.";
    TcpInvalid "TCP_INVALID_SEQUENCE" "Its timestamp, sequence number or SYN is not acceptable, or it was a reset.";
    TcpReset "TCP_RESET" "A reset that ends nothing more.";
    TcpClose "TCP_CLOSE" "The connection is closed.";
    TcpOldAck "TCP_OLD_ACK" "It acknowledges what was acknowledged before.";
    TcpTooOldAck "TCP_TOO_OLD_ACK" "It acknowledges what is older than the largest window.";
    TcpAckUnsentData "TCP_ACK_UNSENT_DATA" "It acknowledges what was never sent.";
    TcpInvalidAckSequence "TCP_INVALID_ACK_SEQUENCE" "It acknowledges another number than the handshake expects.";
    TcpAbortOnData "TCP_ABORT_ON_DATA" "Data for a program that has closed its socket: the connection was reset.";
    TcpTimewait "TCP_TIMEWAIT" "The connection is over (TIME_WAIT); the segment was answered.";
    TcpListenOverflow "TCP_LISTEN_OVERFLOW" "The listener's queue is full (the backlog of listen, somaxconn, tcp_max_syn_backlog).";
    ProtoMem "PROTO_MEM" "TCP's memory is used up (tcp_mem), or the socket's receive buffer.";
    UdpCsum "UDP_CSUM" "The UDP checksum is wrong.";
    NetfilterDrop "NETFILTER_DROP" "A netfilter hook dropped it.";
    OtherHost "OTHERHOST" "The frame is addressed to another host's MAC.";
    IpCsum "IP_CSUM" "The IP header checksum is wrong.";
    IpInHdr "IP_INHDR" "The IP header is malformed.";
    IpRpFilter "IP_RPFILTER" "rp_filter: the way back to the source is not this device.";
    UnicastInL2Multicast "UNICAST_IN_L2_MULTICAST" "An IP unicast in a link-layer multicast or broadcast.";
    IpNoProto "IP_NOPROTO" "No handler for the IP protocol.";
    IpOutNoRoutes "IP_OUTNOROUTES" "No route to the destination.";
    IpInNoRoutes "IP_INNOROUTES" "No route for the incoming packet.";
    IpInAddrErrors "IP_INADDRERRORS" "Not for this host, which does not forward.";
    IpLocalSource "IP_LOCAL_SOURCE" "The source is one of this host's own addresses.";
    IpInvalidSource "IP_INVALID_SOURCE" "The source address can't be a source.";
    IpLocalnet "IP_LOCALNET" "A loopback address came from or goes to the wire.";
    IpSourceRoute "IP_SOURCE_ROUTE" "Its sender routes it through this host, which accepts no source routes (accept_source_route), or the route leads nowhere.";
    IpInvalidDest "IP_INVALID_DEST" "The destination address can't be a destination.";
    IpNotMember "IP_NOT_MEMBER" "Nobody on this host has joined the group at the device, or nobody wants its source.";
    IpFragment "IP_FRAGMENT" "A fragment that fits no datagram: it overlaps another, is empty, contradicts the end or the ECN of others.";
    FragMem "FRAG_MEM" "Fragments take up all the memory they may (ipfrag_high_thresh).";
    FragReasmTimeout "FRAG_REASM_TIMEOUT" "The other fragments did not come in time (ipfrag_time).";
    FragTooFar "FRAG_TOO_FAR" "Too many fragments of other datagrams came from its source since (ipfrag_max_dist).";
    DupFrag "DUP_FRAG" "The fragment came before.";
    TtlExpired "TTL_EXPIRED" "The time to live ran out on the way.";
    NeighCreateFail "NEIGH_CREATEFAIL" "The neighbour table is full (gc_thresh3).";
    NeighFailed "NEIGH_FAILED" "The neighbour did not answer.";
    NeighQueueFull "NEIGH_QUEUEFULL" "Too many packets wait for the neighbour's answer (unres_qlen_bytes).";
    NeighDead "NEIGH_DEAD" "The neighbour entry was removed.";
    QdiscDrop "QDISC_DROP" "The queueing discipline refused it.";
    FqBandLimit "FQ_BAND_LIMIT" "The discipline fq holds too many packets of its priority.";
    FqFlowLimit "FQ_FLOW_LIMIT" "The discipline fq holds too many packets of its flow.";
    FqHorizonLimit "FQ_HORIZON_LIMIT" "The discipline fq is to hold it for too long.";
    QdiscReset "QDISC_RESET" "The queue was emptied as the device went down.";
    CpuBacklog "CPU_BACKLOG" "The CPU's backlog is full (netdev_max_backlog).";
    UnhandledProto "UNHANDLED_PROTO" "No packet handler for the ethertype.";
    SkbCsum "SKB_CSUM" "The checksum could not be computed.";
    SkbGsoSeg "SKB_GSO_SEG" "Segmentation failed.";
    UcopyFault "SKB_UCOPY_FAULT" "Copying between user and packet failed.";
    DevHdr "DEV_HDR" "The link-layer header could not be built.";
    DevReady "DEV_READY" "The device is not up.";
    FullRing "FULL_RING" "The device's ring is full.";
    NoMem "NOMEM" "Out of packet memory.";
    HdrTrunc "HDR_TRUNC" "The frame ends inside a header.";
    IcmpCsum "ICMP_CSUM" "The ICMP checksum is wrong.";
    IgmpCsum "IGMP_CSUM" "The IGMP checksum is wrong.";
    IgmpIgnored "IGMP_IGNORED" "The IGMP message is malformed.";
    PktTooBig "PKT_TOO_BIG" "Longer than the MTU with fragmentation forbidden or absent.";
    ArpInvalid "ARP_INVALID" "The ARP message is malformed or not for this link.";
    ArpIgnore "ARP_IGNORE" "The ARP message asks for another host or must be ignored.";
    IcmpIgnored "ICMP_IGNORED" "The ICMP message is unknown, unsolicited or quotes nonsense.";
    EchoIgnored "ICMP_ECHO_IGNORE" "icmp_echo_ignore_all or _broadcasts is set.";
    RateLimited "RATELIMIT" "An answer was due but its rate limit is reached.";
    Panicked "PANIC" "A panic in the code that held it was contained.";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
