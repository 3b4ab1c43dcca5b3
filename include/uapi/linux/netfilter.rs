//! Netfilter: verdicts, hooks, families, priorities.

consts! { u32:
    /// Verdict: drop.
    NF_DROP = 0;
    /// Verdict: go on.
    NF_ACCEPT = 1;
    /// Verdict: the hook keeps the packet.
    NF_STOLEN = 2;
    /// Verdict: queue to userspace.
    NF_QUEUE = 3;
    /// Verdict: call the hook again.
    NF_REPEAT = 4;
    /// Verdict: accept without further hooks; obsolete.
    NF_STOP = 5;
    /// Greatest verdict.
    NF_MAX_VERDICT = NF_STOP;
    /// The bits that hold the verdict.
    NF_VERDICT_MASK = 0xff;
    /// Accept when nobody serves the queue.
    NF_VERDICT_FLAG_QUEUE_BYPASS = 0x8000;
    /// The bits that hold queue number or error.
    NF_VERDICT_QMASK = 0xffff_0000;
    /// Where queue number or error starts.
    NF_VERDICT_QBITS = 16;
}

consts! { u8:
    /// Hook: before routing.
    NF_INET_PRE_ROUTING = 0;
    /// Hook: before local delivery.
    NF_INET_LOCAL_IN = 1;
    /// Hook: forwarding.
    NF_INET_FORWARD = 2;
    /// Hook: sent from here, before routing is final.
    NF_INET_LOCAL_OUT = 3;
    /// Hook: before the packet leaves.
    NF_INET_POST_ROUTING = 4;
    /// Number of hooks.
    NF_INET_NUMHOOKS = 5;
    /// Hook: on arrival from a device.
    NF_INET_INGRESS = 5;
    /// Device hook: arrival.
    NF_NETDEV_INGRESS = 0;
    /// Device hook: departure.
    NF_NETDEV_EGRESS = 1;
    /// Family: any.
    NFPROTO_UNSPEC = 0;
    /// Family: IPv4 and IPv6.
    NFPROTO_INET = 1;
    /// Family: IPv4.
    NFPROTO_IPV4 = 2;
    /// Family: ARP.
    NFPROTO_ARP = 3;
    /// Family: devices.
    NFPROTO_NETDEV = 5;
    /// Family: bridges.
    NFPROTO_BRIDGE = 7;
    /// Family: IPv6.
    NFPROTO_IPV6 = 10;
}

consts! { i32:
    /// Before everything.
    NF_IP_PRI_FIRST = i32::MIN;
    /// The raw table, when placed before reassembly.
    NF_IP_PRI_RAW_BEFORE_DEFRAG = -450;
    /// Reassembly for connection tracking.
    NF_IP_PRI_CONNTRACK_DEFRAG = -400;
    /// The raw table.
    NF_IP_PRI_RAW = -300;
    /// First labelling.
    NF_IP_PRI_SELINUX_FIRST = -225;
    /// Connection tracking.
    NF_IP_PRI_CONNTRACK = -200;
    /// The mangle table.
    NF_IP_PRI_MANGLE = -150;
    /// Translation of destinations.
    NF_IP_PRI_NAT_DST = -100;
    /// The filter table.
    NF_IP_PRI_FILTER = 0;
    /// The security table.
    NF_IP_PRI_SECURITY = 50;
    /// Translation of sources.
    NF_IP_PRI_NAT_SRC = 100;
    /// Last labelling.
    NF_IP_PRI_SELINUX_LAST = 225;
    /// Helpers of connection tracking.
    NF_IP_PRI_CONNTRACK_HELPER = 300;
    /// Confirmation of connections.
    NF_IP_PRI_CONNTRACK_CONFIRM = i32::MAX;
    /// After everything.
    NF_IP_PRI_LAST = i32::MAX;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n as i64, libc::$n as i64, stringify!($n));)* } }
        same!(NF_DROP NF_ACCEPT NF_STOLEN NF_QUEUE NF_REPEAT NF_STOP NF_INET_PRE_ROUTING
            NF_INET_LOCAL_IN NF_INET_FORWARD NF_INET_LOCAL_OUT NF_INET_POST_ROUTING
            NF_INET_NUMHOOKS NF_IP_PRI_RAW NF_IP_PRI_CONNTRACK NF_IP_PRI_MANGLE
            NF_IP_PRI_FILTER NF_IP_PRI_NAT_SRC NF_IP_PRI_LAST);
    }
}
