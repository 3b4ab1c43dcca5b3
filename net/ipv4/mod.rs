//! IPv4: input, output, routing, ARP, ICMP, UDP, TCP and their sockets.

pub mod af_inet;
pub mod arp;
pub mod datagram;
pub mod devinet;
pub mod fib;
pub mod icmp;
pub mod igmp;
pub mod inet_connection_sock;
pub mod inet_ecn;
pub mod inet_fragment;
pub mod inet_hashtables;
pub mod inet_timewait_sock;
pub mod ip_forward;
pub mod ip_fragment;
pub mod ip_input;
pub mod ip_options;
pub mod ip_output;
pub mod ip_sockglue;
pub mod ping;
pub mod proc;
pub mod protocol;
pub mod raw;
pub mod route;
pub mod syncookies;
pub mod tcp;
pub mod tcp_bbr;
pub mod tcp_cong;
pub mod tcp_cubic;
pub mod tcp_diag;
pub mod tcp_ecn;
pub mod tcp_fastopen;
pub mod tcp_input;
pub mod tcp_ipv4;
pub(crate) mod tcp_md5sig;
pub mod tcp_minisocks;
pub mod tcp_offload;
pub mod tcp_output;
pub mod tcp_rate;
pub mod tcp_recovery;
pub mod tcp_timer;
pub mod udp;
pub mod udp_offload;

/// What IP keeps in a packet.
///
/// linux: include/net/ip.h:inet_skb_parm
#[derive(Clone, Copy, Debug, Default)]
pub struct InetSkbParm {
    /// To a group: this machine's own members get a copy (`IP_MULTICAST_LOOP`).
    pub mc_loop: bool,
    /// Its sender goes by the MTU of the device, whatever is known of the way (`IP_PMTUDISC_PROBE` and up).
    pub dev_mtu: bool,
    /// It was put together: octets of the largest of its fragments, header included. Zero: it came whole.
    pub frag_max_size: u16,
    /// Its options, if they are still to be looked at.
    pub opt: ip_options::IpOptions,
}
