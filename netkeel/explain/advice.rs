//! What decides about each reason to drop, and what would let the packet pass.

use stack::kernel::trace::drop_reason::DropReason;

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A setting; `DEV` in its name is the packet's device.
    Sysctl(&'static str),
    /// The way to the packet's destination.
    RouteTo,
    /// The way back to its source.
    RouteFrom,
    /// The neighbours on the packet's device.
    Neigh,
    /// Sockets that have the packet's destination port.
    Sockets,
    /// The packet's device.
    Link,
    /// Addresses of ours.
    Addrs,
    /// Counters of these names, in the files of statistics.
    Counters(&'static str, &'static [&'static str]),
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Advice {
    /// The state that decided.
    pub looks: &'static [Look],
    /// What would let the packet pass.
    pub change: &'static str,
}

const fn advice(looks: &'static [Look], change: &'static str) -> Advice {
    Advice { looks, change }
}

const SENDER: &str = "nothing here: the sender must send it otherwise";
const RCVBUF: &[Look] = &[Sockets, Sysctl("net.core.rmem_max"), Sysctl("net.core.rmem_default")];
const TCP_STATE: &[Look] = &[Sockets];

use DropReason::*;
use Look::*;

/// Of every reason.
const ADVICE: &[(&[DropReason], Advice)] = &[
    (&[NotSpecified], advice(&[], "its walk shows where it ended: read that station's checks")),
    (
        &[NoSocket],
        advice(&[Sockets], "bind a socket to its destination port, or send to one that is bound"),
    ),
    (&[SocketClose], advice(&[Sockets], "read before closing, or keep the socket open")),
    (
        &[SocketRcvbuff],
        advice(
            RCVBUF,
            "read faster, or give the socket a larger SO_RCVBUF, up to net.core.rmem_max",
        ),
    ),
    (
        &[SocketBacklog],
        advice(
            RCVBUF,
            "leave the socket's calls sooner, or give it a larger SO_RCVBUF, up to net.core.rmem_max",
        ),
    ),
    (
        &[SocketFilter],
        advice(
            &[Sockets],
            "detach the socket's filter (SO_DETACH_FILTER), or let it want the packet",
        ),
    ),
    (&[PktTooSmall], advice(&[], SENDER)),
    (
        &[TcpCsum, UdpCsum, IcmpCsum, IpCsum],
        advice(
            &[Link],
            "look for who changes it on the way, or for a device that leaves sums to the next: netkeel features DEV rx off",
        ),
    ),
    (
        &[TcpFlags, TcpInvalid, TcpOldAck, TcpTooOldAck, TcpAckUnsentData, TcpInvalidAckSequence],
        advice(
            TCP_STATE,
            "nothing while the connection goes on: the segment was old or forged; if it stands still, begin a new one: the two ends no longer agree",
        ),
    ),
    (
        &[TcpMd5NotFound, TcpMd5Unexpected, TcpMd5Failure, TcpAuthHdr],
        advice(TCP_STATE, "set the same key at both ends (TCP_MD5SIG), or at neither"),
    ),
    (&[TcpZeroWindow], advice(RCVBUF, "read from the socket: its window opens again")),
    (
        &[TcpOldData, TcpOfoMerge, TcpOfoDrop],
        advice(&[], "nothing is missing: what it brought had arrived before"),
    ),
    (
        &[TcpOverwindow],
        advice(RCVBUF, "give the socket a larger SO_RCVBUF, or let the sender keep to the window"),
    ),
    (
        &[TcpOfoQueuePrune],
        advice(RCVBUF, "give the socket a larger SO_RCVBUF; the sender sends it again"),
    ),
    (&[TcpReset], advice(TCP_STATE, "nothing: there was no connection left for it to end")),
    (&[TcpClose], advice(TCP_STATE, "begin a new connection: this one is closed")),
    (
        &[TcpAbortOnData],
        advice(TCP_STATE, "read to the end before closing, or shut down only the sending half"),
    ),
    (
        &[TcpTimewait],
        advice(
            &[Sockets, Sysctl("net.ipv4.tcp_fin_timeout")],
            "begin a new connection, from another port or with a higher number, or wait until TIME_WAIT is over",
        ),
    ),
    (
        &[TcpListenOverflow],
        advice(
            &[
                Sockets,
                Sysctl("net.core.somaxconn"),
                Sysctl("net.ipv4.tcp_max_syn_backlog"),
                Sysctl("net.ipv4.tcp_syncookies"),
            ],
            "accept faster, or listen with a larger backlog, up to net.core.somaxconn",
        ),
    ),
    (
        &[ProtoMem],
        advice(
            &[
                Sockets,
                Sysctl("net.core.rmem_max"),
                Sysctl("net.ipv4.tcp_rmem"),
                Sysctl("net.ipv4.tcp_mem"),
                Counters("sockstat", &["TCP:"]),
            ],
            "read from the socket or give it a larger SO_RCVBUF; if TCP's memory is used up, raise net.ipv4.tcp_mem or read what waits in other sockets",
        ),
    ),
    (
        &[NetfilterDrop],
        advice(&[Counters("hooks", &[])], "take the hook away, or let it accept the packet"),
    ),
    (
        &[OtherHost],
        advice(
            &[Link],
            "send to this device's link address; the sender's neighbour entry is another's",
        ),
    ),
    (&[IpInHdr, HdrTrunc], advice(&[], SENDER)),
    (
        &[IpRpFilter],
        advice(
            &[
                Sysctl("net.ipv4.conf.DEV.rp_filter"),
                Sysctl("net.ipv4.conf.all.rp_filter"),
                RouteFrom,
            ],
            "add a route to its source by this device, or set rp_filter to 2 (any device) or 0 (no check)",
        ),
    ),
    (&[UnicastInL2Multicast], advice(&[Addrs], "send it to the link address of its destination")),
    (
        &[IpNoProto],
        advice(&[], "open a raw socket of its protocol, or send a protocol that is known here"),
    ),
    (
        &[IpOutNoRoutes],
        advice(
            &[RouteTo, RouteFrom],
            "add a route to its destination, or back to its source if it asks for a connection: netkeel route add A/P via GW",
        ),
    ),
    (
        &[IpInNoRoutes],
        advice(&[RouteTo], "add a route to its destination: netkeel route add A/P via GW"),
    ),
    (
        &[IpInAddrErrors],
        advice(
            &[Addrs, Sysctl("net.ipv4.conf.DEV.forwarding")],
            "add its destination to the machine's addresses, or let the machine forward (forwarding = 1)",
        ),
    ),
    (
        &[IpLocalSource],
        advice(
            &[
                Addrs,
                Sysctl("net.ipv4.conf.DEV.accept_local"),
                Sysctl("net.ipv4.conf.all.accept_local"),
            ],
            "take the address from one of the two, or set accept_local to 1",
        ),
    ),
    (&[IpInvalidSource], advice(&[Addrs], "send it from an address of one host")),
    (
        &[IpLocalnet],
        advice(
            &[
                Sysctl("net.ipv4.conf.DEV.route_localnet"),
                Sysctl("net.ipv4.conf.all.route_localnet"),
            ],
            "set route_localnet to 1, or do not use 127.0.0.0/8 on a wire",
        ),
    ),
    (
        &[IpSourceRoute],
        advice(
            &[
                Sysctl("net.ipv4.conf.DEV.accept_source_route"),
                Sysctl("net.ipv4.conf.all.accept_source_route"),
                RouteTo,
            ],
            "send it without a source route, or set accept_source_route to 1, of all and of the device, and see that there is a way to each hop",
        ),
    ),
    (
        &[IpInvalidDest],
        advice(&[Addrs], "send it to an address of a host or of a group that was joined"),
    ),
    (
        &[IpNotMember],
        advice(
            &[Addrs],
            "join the group at the device where it comes in (IP_ADD_MEMBERSHIP), and its source if a filter names sources",
        ),
    ),
    (
        &[IgmpCsum, IgmpIgnored],
        advice(&[], "repair the querier: it sends messages that RFC 3376 does not know"),
    ),
    (
        &[IpFragment],
        advice(
            &[Sysctl("net.ipv4.ipfrag_time")],
            "send the datagram anew: its fragments contradict each other",
        ),
    ),
    (
        &[FragMem],
        advice(
            &[Sysctl("net.ipv4.ipfrag_high_thresh"), Counters("sockstat", &["FRAG:"])],
            "raise net.ipv4.ipfrag_high_thresh, or send datagrams in one piece",
        ),
    ),
    (
        &[FragReasmTimeout],
        advice(
            &[Sysctl("net.ipv4.ipfrag_time"), Counters("sockstat", &["FRAG:"])],
            "look for who loses the other fragments on the way, or raise net.ipv4.ipfrag_time",
        ),
    ),
    (
        &[FragTooFar],
        advice(
            &[Sysctl("net.ipv4.ipfrag_max_dist")],
            "raise net.ipv4.ipfrag_max_dist, or set it to 0 (no bound)",
        ),
    ),
    (&[DupFrag], advice(&[], "nothing is missing: the fragment had arrived before")),
    (
        &[TtlExpired],
        advice(&[RouteTo], "send it with a higher time to live; if it goes round, mend the routes"),
    ),
    (
        &[NeighCreateFail],
        advice(
            &[Neigh, Sysctl("net.ipv4.neigh.default.gc_thresh3")],
            "raise net.ipv4.neigh.default.gc_thresh3, or flush neighbours: netkeel neigh flush",
        ),
    ),
    (
        &[NeighFailed],
        advice(
            &[Neigh],
            "see that the neighbour is up and on this link, or enter it: netkeel neigh add A lladdr M",
        ),
    ),
    (
        &[NeighQueueFull],
        advice(
            &[Neigh, Sysctl("net.ipv4.neigh.DEV.unres_qlen_bytes")],
            "raise unres_qlen_bytes, send slower until the neighbour has answered, or enter it: netkeel neigh add A lladdr M",
        ),
    ),
    (&[NeighDead], advice(&[Neigh, Link], "send again: the entry was removed while it waited")),
    (&[QdiscDrop], advice(&[Link], "send slower, or give the device a longer queue")),
    (
        &[FqBandLimit, FqFlowLimit],
        advice(
            &[Link],
            "send slower, or raise the discipline's limit: --qdisc 'fq limit N flow_limit N'",
        ),
    ),
    (
        &[FqHorizonLimit],
        advice(
            &[Link],
            "send it with a nearer time, or raise the discipline's horizon: --qdisc 'fq horizon T'",
        ),
    ),
    (&[QdiscReset], advice(&[Link], "bring the device up: netkeel link set DEV up; send again")),
    (
        &[CpuBacklog],
        advice(
            &[Sysctl("net.core.netdev_max_backlog"), Counters("softnet_stat", &[])],
            "raise net.core.netdev_max_backlog, or spread packets over more CPUs: netkeel queue set",
        ),
    ),
    (&[UnhandledProto], advice(&[], "send a protocol that is known here: ARP or IPv4")),
    (
        &[SkbCsum, SkbGsoSeg, UcopyFault],
        advice(&[Link], "switch that work of the device's off: netkeel features DEV"),
    ),
    (&[DevHdr], advice(&[Link, Neigh], "see that the destination's neighbour has a link address")),
    (
        &[DevReady],
        advice(
            &[Link],
            "bring the device up: netkeel link set DEV up; if it is up it has no queue, and its ring is full: send slower",
        ),
    ),
    (&[FullRing], advice(&[Link], "send slower, or give the device a queue")),
    (
        &[NoMem],
        advice(&[], "give the machine more memory for packets, or read what waits in its sockets"),
    ),
    (
        &[PktTooBig],
        advice(
            &[Link, RouteTo],
            "send smaller packets, allow them to be cut (IP_MTU_DISCOVER), or raise the MTU: netkeel link set DEV mtu N",
        ),
    ),
    (&[ArpInvalid], advice(&[], SENDER)),
    (
        &[ArpIgnore],
        advice(
            &[
                Addrs,
                Sysctl("net.ipv4.conf.DEV.arp_ignore"),
                Sysctl("net.ipv4.conf.all.arp_ignore"),
            ],
            "add the address that is asked for to this device",
        ),
    ),
    (
        &[IcmpIgnored],
        advice(&[], "nothing: it asks for nothing, or quotes a packet that was never sent"),
    ),
    (
        &[EchoIgnored],
        advice(
            &[
                Sysctl("net.ipv4.icmp_echo_ignore_all"),
                Sysctl("net.ipv4.icmp_echo_ignore_broadcasts"),
            ],
            "set net.ipv4.icmp_echo_ignore_all and icmp_echo_ignore_broadcasts to 0",
        ),
    ),
    (
        &[RateLimited],
        advice(
            &[Sysctl("net.ipv4.icmp_ratelimit"), Sysctl("net.ipv4.icmp_msgs_per_sec")],
            "ask slower, or raise the limits",
        ),
    ),
    (&[Panicked], advice(&[], "report it: the walk shows where; other packets are not touched")),
];

/// What there is to say of a reason.
pub fn of(reason: DropReason) -> Advice {
    const NONE: Advice = advice(&[], "its walk shows where it ended");
    ADVICE.iter().find(|(reasons, _)| reasons.contains(&reason)).map_or(NONE, |(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_advice() {
        for reason in DropReason::ALL {
            let rows = ADVICE.iter().filter(|(reasons, _)| reasons.contains(reason)).count();
            assert_eq!(rows, 1, "{reason}");
            let Advice { change, .. } = of(*reason);
            assert!(change.len() > 10 && !change.ends_with('.'), "{reason}: {change}");
            assert!(reason.explain().ends_with('.'), "{reason}");
        }
    }
}
