//! Settings by their Linux names and defaults.
//!
//! linux: net/core/sysctl_net_core.c, net/ipv4/sysctl_net_ipv4.c, Documentation/networking/ip-sysctl.rst.
//! Part of the read-mostly tables: a change is a new snapshot. Every setting here is read by
//! something; those of Linux that nothing here would read are left out.

pub mod names;
mod tcp;

pub use tcp::{KeyPair, MtuProbing, TcpSysctls};

use crate::kernel::context::TaskCx;
use crate::kernel::rcupdate::update_tables;
use crate::net::ipv4::devinet::Ipv4DevConf;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctls {
    /// `net.core.netdev_budget`: packets one `net_rx_action` may take.
    pub netdev_budget: u32,
    /// `net.core.netdev_max_backlog`: packets a CPU's backlog holds.
    pub netdev_max_backlog: u32,
    /// Bytes of a new socket's receive buffer.
    ///
    /// linux: net.core.rmem_default:rmem_default
    pub rmem_default: u32,
    /// The most `SO_RCVBUF` may ask for.
    ///
    /// linux: net.core.rmem_max:rmem_max
    pub rmem_max: u32,
    /// `net.core.wmem_default`: bytes of a new socket's send buffer.
    pub wmem_default: u32,
    /// `net.core.wmem_max`: the most `SO_SNDBUF` may ask for.
    pub wmem_max: u32,
    /// `net.core.optmem_max`: a message's control data is shorter.
    pub optmem_max: u32,
    /// `net.core.busy_poll`: so many microseconds `poll` and `select` poll the devices of such sockets.
    pub busy_poll: u32,
    /// `net.core.busy_read`: what new sockets have for `SO_BUSY_POLL`.
    pub busy_read: u32,
    /// `net.core.default_qdisc`: what the queues of devices to come have.
    pub default_qdisc: &'static str,
    /// `net.core.somaxconn`: the most that a listener's backlog can be.
    pub somaxconn: u32,
    /// `net.ipv4.ip_default_ttl`.
    pub ip_default_ttl: u8,
    /// `net.ipv4.ip_forward`: what [`update_sysctls`] makes of it for all devices; devices to come
    /// begin with it.
    pub ip_forward: bool,
    /// `net.ipv4.conf.all`: each device's settings hold together with these. Its `forwarding` is `ip_forward`.
    pub conf_all: Ipv4DevConf,
    /// `net.ipv4.conf.default`: what devices to come begin with.
    pub conf_default: Ipv4DevConf,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub ip_local_port_range: (u16, u16),
    /// `net.ipv4.ip_nonlocal_bind`.
    pub ip_nonlocal_bind: bool,
    /// `net.ipv4.ping_group_range`: groups that may make ping sockets, both ends included; none, if the first is the
    /// greater.
    pub ping_group_range: (u32, u32),
    /// `net.ipv4.icmp_echo_ignore_all`.
    pub icmp_echo_ignore_all: bool,
    /// `net.ipv4.icmp_echo_ignore_broadcasts`.
    pub icmp_echo_ignore_broadcasts: bool,
    /// `net.ipv4.icmp_ignore_bogus_error_responses`.
    pub icmp_ignore_bogus_error_responses: bool,
    /// `net.ipv4.icmp_ratelimit`, the time one message to a peer takes up.
    pub icmp_ratelimit: Duration,
    /// `net.ipv4.icmp_ratemask`: the types it holds for, a bit each.
    pub icmp_ratemask: u32,
    /// `net.ipv4.icmp_msgs_per_sec`: messages to all peers together.
    pub icmp_msgs_per_sec: u32,
    /// `net.ipv4.icmp_msgs_burst`.
    pub icmp_msgs_burst: u32,
    /// `net.ipv4.ip_no_pmtu_disc`: 0: the MTU of ways is discovered; 1: the least MTU is taken for what a router
    /// tells; 2: what routers tell is not heard; 3: only of protocols that check what it quotes. Other than 0, new
    /// sockets begin with `IP_PMTUDISC_DONT`.
    pub ip_no_pmtu_disc: u8,
    /// `net.ipv4.ip_forward_use_pmtu`: what is forwarded is held against what is known of the way, too.
    pub ip_forward_use_pmtu: bool,
    /// `net.ipv4.route.min_pmtu`: no router can make the MTU of a way less.
    pub min_pmtu: u32,
    /// `net.ipv4.route.mtu_expires`: how long what a router told of a way's MTU is good.
    pub mtu_expires: Duration,
    /// `net.ipv4.igmp_*`.
    pub igmp: IgmpParms,
    /// `net.ipv4.ipfrag_*`.
    pub ipfrag: IpfragParms,
    /// `net.ipv4.neigh.default.*`.
    pub neigh: NeighParms,
    /// `net.ipv4.tcp_*`.
    pub tcp: TcpSysctls,
}

/// Settings of multicast.
///
/// linux: include/net/netns/ipv4.h
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgmpParms {
    /// `igmp_link_local_mcast_reports`: routers are told of groups of the link (224.0.0.0/24), too.
    pub link_local_mcast_reports: bool,
    /// `igmp_max_memberships`: groups that a socket can belong to.
    pub max_memberships: u32,
    /// `igmp_max_msf`: sources that its filter of a group can have.
    pub max_msf: u32,
    /// `igmp_qrv`: how often a change is told of, until a querier says otherwise.
    pub qrv: u8,
}

impl Default for IgmpParms {
    fn default() -> Self {
        Self { link_local_mcast_reports: true, max_memberships: 20, max_msf: 10, qrv: 2 }
    }
}

/// Settings of putting fragments together.
///
/// linux: include/net/inet_frag.h:fqdir
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpfragParms {
    /// `ipfrag_high_thresh`: octets above which no fragment is taken; zero: none ever is.
    pub high_thresh: u32,
    /// `ipfrag_low_thresh`: at most the former. Obsolete since Linux 4.17, and without effect, as there.
    pub low_thresh: u32,
    /// `ipfrag_time`: a datagram must be whole by then.
    pub timeout: Duration,
    /// `ipfrag_max_dist`: so many fragments may come from a source between two of a datagram; zero: any number.
    pub max_dist: u32,
    /// `ipfrag_secret_interval`: obsolete, and without effect, as in Linux.
    pub secret_interval: Duration,
}

impl Default for IpfragParms {
    fn default() -> Self {
        Self {
            high_thresh: 4 << 20,
            low_thresh: 3 << 20,
            timeout: Duration::from_secs(30),
            max_dist: 64,
            secret_interval: Duration::ZERO,
        }
    }
}

/// Settings of the neighbour table.
///
/// linux: include/net/neighbour.h:neigh_parms
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighParms {
    /// `base_reachable_time_ms`.
    pub base_reachable_time: Duration,
    /// `retrans_time_ms`.
    pub retrans_time: Duration,
    /// `delay_first_probe_time`.
    pub delay_probe_time: Duration,
    /// `gc_stale_time`.
    pub gc_staletime: Duration,
    /// `ucast_solicit`.
    pub ucast_probes: u8,
    /// `mcast_solicit`.
    pub mcast_probes: u8,
    /// `unres_qlen_bytes`.
    pub unres_qlen_bytes: u32,
    /// `locktime`: an entry is not changed again within it.
    pub locktime: Duration,
    /// `gc_thresh1`: entries below which nothing is collected.
    pub gc_thresh1: u32,
    /// `gc_thresh2`: entries above which old ones are collected at once.
    pub gc_thresh2: u32,
    /// `gc_thresh3`: entries at the most.
    pub gc_thresh3: u32,
}

impl Default for NeighParms {
    fn default() -> Self {
        Self {
            base_reachable_time: Duration::from_secs(30),
            retrans_time: Duration::from_secs(1),
            delay_probe_time: Duration::from_secs(5),
            gc_staletime: Duration::from_secs(60),
            ucast_probes: 3,
            mcast_probes: 3,
            unres_qlen_bytes: 212_992,
            locktime: Duration::from_secs(1),
            gc_thresh1: 128,
            gc_thresh2: 512,
            gc_thresh3: 1024,
        }
    }
}

impl Default for Sysctls {
    fn default() -> Self {
        Self {
            netdev_budget: 300,
            netdev_max_backlog: 1000,
            rmem_default: 212_992,
            rmem_max: 212_992,
            wmem_default: 212_992,
            wmem_max: 212_992,
            optmem_max: 131_072,
            busy_poll: 0,
            busy_read: 0,
            default_qdisc: "pfifo_fast",
            somaxconn: 4096,
            ip_default_ttl: 64,
            ip_forward: false,
            // Of no device, unless the administrator says so.
            conf_all: Ipv4DevConf { accept_source_route: false, ..Ipv4DevConf::default() },
            conf_default: Ipv4DevConf::default(),
            ip_local_port_range: (32_768, 60_999),
            ip_nonlocal_bind: false,
            ping_group_range: (1, 0),
            icmp_echo_ignore_all: false,
            icmp_echo_ignore_broadcasts: true,
            icmp_ignore_bogus_error_responses: true,
            icmp_ratelimit: Duration::from_secs(1),
            // Destination unreachable, source quench, time exceeded, parameter problem.
            icmp_ratemask: 1 << 3 | 1 << 4 | 1 << 11 | 1 << 12,
            icmp_msgs_per_sec: 1000,
            icmp_msgs_burst: 50,
            ip_no_pmtu_disc: 0,
            ip_forward_use_pmtu: false,
            min_pmtu: 552,
            mtu_expires: Duration::from_secs(600),
            igmp: IgmpParms::default(),
            ipfrag: IpfragParms::default(),
            neigh: NeighParms::default(),
            tcp: TcpSysctls::default(),
        }
    }
}

/// Changes settings. `ip_forward` is each device's `forwarding`, too; what changes of `conf_all` holds for each device,
/// and what changes of `conf_default` for those that have no setting of their own by that name.
///
/// linux: net/ipv4/devinet.c:inet_forward_change
pub fn update_sysctls(cx: &mut TaskCx, change: impl FnOnce(&mut Sysctls)) {
    let done = update_tables(cx, |t| {
        let before = Arc::clone(&t.net.sysctl);
        let sysctl = Arc::make_mut(&mut t.net.sysctl);
        change(sysctl);
        // One thing by two names.
        let forward = match sysctl.conf_all.forwarding != before.conf_all.forwarding {
            true => sysctl.conf_all.forwarding,
            false => sysctl.ip_forward,
        };
        let turned = forward != before.ip_forward;
        (sysctl.ip_forward, sysctl.conf_all.forwarding) = (forward, forward);
        if turned {
            sysctl.conf_default.forwarding = forward;
        }
        let (all, default) = (sysctl.conf_all, sysctl.conf_default);
        if turned || all != before.conf_all || default != before.conf_default {
            for in_dev in t.net.in_devs.iter_mut().flatten() {
                let mut own = names::defaulted(in_dev, &before.conf_default, &default);
                if turned {
                    own.forwarding = forward;
                }
                Arc::make_mut(in_dev).reckon(own, all);
            }
        }
        Ok::<(), Infallible>(())
    });
    match done {
        Ok(()) => (),
        Err(never) => match never {},
    }
}
