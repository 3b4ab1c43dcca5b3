//! Routes and addresses: scopes, types, tables, protocols, flags.

consts! { u8:
    /// Scope: anywhere.
    RT_SCOPE_UNIVERSE = 0;
    /// Scope: within the site.
    RT_SCOPE_SITE = 200;
    /// Scope: on the link.
    RT_SCOPE_LINK = 253;
    /// Scope: this host.
    RT_SCOPE_HOST = 254;
    /// Scope: no destination.
    RT_SCOPE_NOWHERE = 255;
    /// Route type: unspecified.
    RTN_UNSPEC = 0;
    /// Route type: gateway or direct.
    RTN_UNICAST = 1;
    /// Route type: delivered here.
    RTN_LOCAL = 2;
    /// Route type: broadcast, delivered here and sent as broadcast.
    RTN_BROADCAST = 3;
    /// Route type: delivered here, sent as unicast.
    RTN_ANYCAST = 4;
    /// Route type: multicast.
    RTN_MULTICAST = 5;
    /// Route type: dropped silently.
    RTN_BLACKHOLE = 6;
    /// Route type: dropped, host unreachable.
    RTN_UNREACHABLE = 7;
    /// Route type: dropped, administratively prohibited.
    RTN_PROHIBIT = 8;
    /// Route type: go on to the next table.
    RTN_THROW = 9;
    /// Route type: translated; obsolete.
    RTN_NAT = 10;
    /// Route type: resolved externally; obsolete.
    RTN_XRESOLVE = 11;
    /// Greatest route type.
    RTN_MAX = 11;
    /// Origin: unspecified.
    RTPROT_UNSPEC = 0;
    /// Origin: ICMP redirect.
    RTPROT_REDIRECT = 1;
    /// Origin: the kernel.
    RTPROT_KERNEL = 2;
    /// Origin: set at boot.
    RTPROT_BOOT = 3;
    /// Origin: the administrator.
    RTPROT_STATIC = 4;
    /// Origin: GateD.
    RTPROT_GATED = 8;
    /// Origin: router advertisements.
    RTPROT_RA = 9;
    /// Origin: MRT.
    RTPROT_MRT = 10;
    /// Origin: Zebra.
    RTPROT_ZEBRA = 11;
    /// Origin: BIRD.
    RTPROT_BIRD = 12;
    /// Origin: DECnet routing.
    RTPROT_DNROUTED = 13;
    /// Origin: XORP.
    RTPROT_XORP = 14;
    /// Origin: Netsukuku.
    RTPROT_NTK = 15;
    /// Origin: DHCP.
    RTPROT_DHCP = 16;
    /// Origin: multicast routing.
    RTPROT_MROUTED = 17;
    /// Origin: Keepalived.
    RTPROT_KEEPALIVED = 18;
    /// Origin: Babel.
    RTPROT_BABEL = 42;
    /// Origin: Open/R.
    RTPROT_OPENR = 99;
    /// Origin: BGP.
    RTPROT_BGP = 186;
    /// Origin: IS-IS.
    RTPROT_ISIS = 187;
    /// Origin: OSPF.
    RTPROT_OSPF = 188;
    /// Origin: RIP.
    RTPROT_RIP = 189;
    /// Origin: EIGRP.
    RTPROT_EIGRP = 192;
}

consts! { u32:
    /// No table.
    RT_TABLE_UNSPEC = 0;
    /// Stands for a table whose number exceeds an octet.
    RT_TABLE_COMPAT = 252;
    /// The default table.
    RT_TABLE_DEFAULT = 253;
    /// The main table.
    RT_TABLE_MAIN = 254;
    /// The table of local and broadcast addresses.
    RT_TABLE_LOCAL = 255;
    /// Greatest table.
    RT_TABLE_MAX = 0xffff_ffff;
    /// The address is secondary.
    IFA_F_SECONDARY = 0x01;
    /// The address is temporary; the same bit as secondary.
    IFA_F_TEMPORARY = 0x01;
    /// No duplicate detection.
    IFA_F_NODAD = 0x02;
    /// In use during duplicate detection.
    IFA_F_OPTIMISTIC = 0x04;
    /// Duplicate detection failed.
    IFA_F_DADFAILED = 0x08;
    /// A mobile node's home address.
    IFA_F_HOMEADDRESS = 0x10;
    /// Deprecated.
    IFA_F_DEPRECATED = 0x20;
    /// Duplicate detection is going on.
    IFA_F_TENTATIVE = 0x40;
    /// Permanent.
    IFA_F_PERMANENT = 0x80;
    /// The kernel makes temporary addresses from it.
    IFA_F_MANAGETEMPADDR = 0x100;
    /// No route to the prefix.
    IFA_F_NOPREFIXROUTE = 0x200;
    /// Join the group of a multicast address.
    IFA_F_MCAUTOJOIN = 0x400;
    /// Made by a stable, opaque method.
    IFA_F_STABLE_PRIVACY = 0x800;
    /// Notify of changes.
    RTM_F_NOTIFY = 0x100;
    /// The route is a clone.
    RTM_F_CLONED = 0x200;
    /// Multipath equalizer; unused.
    RTM_F_EQUALIZE = 0x400;
    /// Prefix addresses.
    RTM_F_PREFIX = 0x800;
    /// Report the table looked up.
    RTM_F_LOOKUP_TABLE = 0x1000;
    /// Report the matching entry.
    RTM_F_FIB_MATCH = 0x2000;
    /// The route is offloaded.
    RTM_F_OFFLOAD = 0x4000;
    /// The route traps packets.
    RTM_F_TRAP = 0x8000;
    /// The route could not be offloaded.
    RTM_F_OFFLOAD_FAILED = 0x2000_0000;
    /// The next hop is dead.
    RTNH_F_DEAD = 1;
    /// Look the gateway up recursively.
    RTNH_F_PERVASIVE = 2;
    /// The gateway is on the link whatever the addresses say.
    RTNH_F_ONLINK = 4;
    /// The next hop is offloaded.
    RTNH_F_OFFLOAD = 8;
    /// The next hop's device has no carrier.
    RTNH_F_LINKDOWN = 16;
    /// The multicast entry is unresolved.
    RTNH_F_UNRESOLVED = 32;
    /// The next hop traps packets.
    RTNH_F_TRAP = 64;
    /// Metric: which metrics are fixed.
    RTAX_LOCK = 1;
    /// Metric: MTU.
    RTAX_MTU = 2;
    /// Metric: bound of the window.
    RTAX_WINDOW = 3;
    /// Metric: round trip time.
    RTAX_RTT = 4;
    /// Metric: variance of the round trip time.
    RTAX_RTTVAR = 5;
    /// Metric: slow start threshold.
    RTAX_SSTHRESH = 6;
    /// Metric: bound of the congestion window.
    RTAX_CWND = 7;
    /// Metric: segment size advertised.
    RTAX_ADVMSS = 8;
    /// Metric: reordering.
    RTAX_REORDERING = 9;
    /// Metric: time to live.
    RTAX_HOPLIMIT = 10;
    /// Metric: initial congestion window.
    RTAX_INITCWND = 11;
    /// Metric: features.
    RTAX_FEATURES = 12;
    /// Metric: least retransmission timeout.
    RTAX_RTO_MIN = 13;
    /// Metric: initial receive window.
    RTAX_INITRWND = 14;
    /// Metric: quick acknowledgements.
    RTAX_QUICKACK = 15;
    /// Metric: congestion control.
    RTAX_CC_ALGO = 16;
    /// Metric: fast open without a cookie.
    RTAX_FASTOPEN_NO_COOKIE = 17;
    /// Greatest metric.
    RTAX_MAX = 17;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n as i64, libc::$n as i64, stringify!($n));)* } }
        same!(RT_SCOPE_UNIVERSE RT_SCOPE_SITE RT_SCOPE_LINK RT_SCOPE_HOST RT_SCOPE_NOWHERE
            RTN_UNICAST RTN_LOCAL RTN_BROADCAST RTN_BLACKHOLE RTN_UNREACHABLE RTN_PROHIBIT
            RTN_THROW RT_TABLE_DEFAULT RT_TABLE_MAIN RT_TABLE_LOCAL RTPROT_KERNEL RTPROT_BOOT
            RTPROT_STATIC IFA_F_SECONDARY IFA_F_PERMANENT RTM_F_CLONED);
    }
}
