//! Counters of the protocols, under the names /proc/net/snmp and /proc/net/netstat print.

/// Defines a set of counters: an index type whose items print under their own names.
macro_rules! mib {
    ($(#[$meta:meta])* $name:ident { $($(#[$im:meta])* $item:ident,)* }) => {
        $(#[$meta])*
        #[repr(usize)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$im])* $item,)* }

        impl $name {
            /// Every counter, in the order it is printed.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// Number of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// The name it is printed under.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => stringify!($item),)* }
            }
        }
    };
}

mod tcp;

pub use tcp::{LinuxMib, TcpMib};

mib! {
    /// Counters of IPv4: the `Ip` line first, then the `IpExt` line.
    IpMib {
        /// Packets received.
        InReceives,
        /// Packets dropped for a bad header.
        InHdrErrors,
        /// Packets dropped for an address that is not ours.
        InAddrErrors,
        /// Packets forwarded.
        ForwDatagrams,
        /// Packets for a protocol nobody handles.
        InUnknownProtos,
        /// Good packets dropped on input.
        InDiscards,
        /// Packets handed to a protocol.
        InDelivers,
        /// Packets the protocols asked to send.
        OutRequests,
        /// Good packets dropped on output.
        OutDiscards,
        /// Packets dropped for want of a route.
        OutNoRoutes,
        /// Reassemblies that timed out.
        ReasmTimeout,
        /// Fragments handed to reassembly.
        ReasmReqds,
        /// Datagrams reassembled.
        ReasmOKs,
        /// Reassemblies that failed.
        ReasmFails,
        /// Datagrams fragmented.
        FragOKs,
        /// Datagrams that could not be fragmented.
        FragFails,
        /// Fragments created.
        FragCreates,
        /// Packets handed to the neighbour layer.
        OutTransmits,
        /// Received packets dropped for want of a route.
        InNoRoutes,
        /// Received packets shorter than their header says.
        InTruncatedPkts,
        /// Multicast packets received.
        InMcastPkts,
        /// Multicast packets sent.
        OutMcastPkts,
        /// Broadcast packets received.
        InBcastPkts,
        /// Broadcast packets sent.
        OutBcastPkts,
        /// Octets received.
        InOctets,
        /// Octets sent.
        OutOctets,
        /// Multicast octets received.
        InMcastOctets,
        /// Multicast octets sent.
        OutMcastOctets,
        /// Broadcast octets received.
        InBcastOctets,
        /// Broadcast octets sent.
        OutBcastOctets,
        /// Packets with a bad header checksum.
        InCsumErrors,
        /// Packets received that are not ECN capable.
        InNoECTPkts,
        /// Packets received with ECT(1).
        InECT1Pkts,
        /// Packets received with ECT(0).
        InECT0Pkts,
        /// Packets received with congestion experienced.
        InCEPkts,
        /// Fragments that overlapped.
        ReasmOverlaps,
    }
}

impl IpMib {
    /// Number of counters on the `Ip` line.
    pub const IP_COUNT: usize = IpMib::InNoRoutes as usize;

    /// The counters of the `Ip` line of /proc/net/snmp, after Forwarding and DefaultTTL.
    pub fn ip() -> &'static [Self] {
        &Self::ALL[..Self::IP_COUNT]
    }

    /// The counters of the `IpExt` line of /proc/net/netstat.
    pub fn ip_ext() -> &'static [Self] {
        &Self::ALL[Self::IP_COUNT..]
    }
}

mib! {
    /// Counters of ICMP.
    IcmpMib {
        /// Messages received.
        InMsgs,
        /// Messages received that were in error.
        InErrors,
        /// Messages with a bad checksum.
        InCsumErrors,
        /// "Destination unreachable" received.
        InDestUnreachs,
        /// "Time exceeded" received.
        InTimeExcds,
        /// "Parameter problem" received.
        InParmProbs,
        /// "Source quench" received.
        InSrcQuenchs,
        /// Redirects received.
        InRedirects,
        /// Echo requests received.
        InEchos,
        /// Echo replies received.
        InEchoReps,
        /// Timestamp requests received.
        InTimestamps,
        /// Timestamp replies received.
        InTimestampReps,
        /// Address mask requests received.
        InAddrMasks,
        /// Address mask replies received.
        InAddrMaskReps,
        /// Messages sent.
        OutMsgs,
        /// Messages not sent because of an error.
        OutErrors,
        /// Messages held back by the global rate limit.
        OutRateLimitGlobal,
        /// Messages held back by the rate limit of one host.
        OutRateLimitHost,
        /// "Destination unreachable" sent.
        OutDestUnreachs,
        /// "Time exceeded" sent.
        OutTimeExcds,
        /// "Parameter problem" sent.
        OutParmProbs,
        /// "Source quench" sent.
        OutSrcQuenchs,
        /// Redirects sent.
        OutRedirects,
        /// Echo requests sent.
        OutEchos,
        /// Echo replies sent.
        OutEchoReps,
        /// Timestamp requests sent.
        OutTimestamps,
        /// Timestamp replies sent.
        OutTimestampReps,
        /// Address mask requests sent.
        OutAddrMasks,
        /// Address mask replies sent.
        OutAddrMaskReps,
    }
}

mib! {
    /// Counters of UDP.
    UdpMib {
        /// Datagrams delivered.
        InDatagrams,
        /// Datagrams for a port nobody listens on.
        NoPorts,
        /// Datagrams that could not be delivered.
        InErrors,
        /// Datagrams sent.
        OutDatagrams,
        /// Datagrams dropped because the receive buffer was full.
        RcvbufErrors,
        /// Datagrams not sent for want of buffer.
        SndbufErrors,
        /// Datagrams with a bad checksum.
        InCsumErrors,
        /// Multicast datagrams nobody wanted.
        IgnoredMulti,
        /// Datagrams dropped because the protocol's memory was used up.
        MemErrors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> String {
        all.iter().map(|i| name(*i)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lines_read_as_printed() {
        assert_eq!(
            names(IpMib::ip(), IpMib::name),
            "InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards \
             InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs \
             ReasmFails FragOKs FragFails FragCreates OutTransmits"
        );
        assert_eq!(
            names(IpMib::ip_ext(), IpMib::name),
            "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts \
             InOctets OutOctets InMcastOctets OutMcastOctets InBcastOctets OutBcastOctets \
             InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps"
        );
        assert_eq!(
            names(UdpMib::ALL, UdpMib::name),
            "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors \
             IgnoredMulti MemErrors"
        );
        assert_eq!(
            names(&IcmpMib::ALL[..4], IcmpMib::name),
            "InMsgs InErrors InCsumErrors InDestUnreachs"
        );
        assert_eq!(IcmpMib::COUNT, 29);
        assert!(IpMib::ALL.iter().enumerate().all(|(i, m)| *m as usize == i));
        assert!(IcmpMib::ALL.iter().enumerate().all(|(i, m)| *m as usize == i));
    }
}
