//! Names that stand for numbers.

use super::ast::{Carriers, Proto};
use uapi::if_ether::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ETH_P_RARP};
use uapi::ip::*;

/// The layer that a word of the language names.
pub(super) fn proto(word: &str) -> Option<Proto> {
    use Carriers::*;
    Some(match word {
        "ether" | "link" => Proto::Ether,
        "ip" => Proto::Ip,
        "ip6" => Proto::Ip6,
        "arp" => Proto::Link(ETH_P_ARP),
        "rarp" => Proto::Link(ETH_P_RARP),
        "tcp" => Proto::Transport(IPPROTO_TCP, Both),
        "udp" => Proto::Transport(IPPROTO_UDP, Both),
        "sctp" => Proto::Transport(IPPROTO_SCTP, Both),
        "icmp" => Proto::Transport(IPPROTO_ICMP, Only4),
        "icmp6" => Proto::Transport(IPPROTO_ICMPV6, Only6),
        "igmp" => Proto::Transport(IPPROTO_IGMP, Only4),
        "igrp" => Proto::Transport(9, Only4),
        "pim" => Proto::Transport(IPPROTO_PIM, Both),
        "vrrp" | "carp" => Proto::Transport(112, Only4),
        "ah" => Proto::Transport(IPPROTO_AH, Both),
        "esp" => Proto::Transport(IPPROTO_ESP, Both),
        _ => return None,
    })
}

/// The link type of a name behind `ether proto`.
pub(super) fn link_type(word: &str) -> Option<u16> {
    Some(match word {
        "ip" => ETH_P_IP,
        "ip6" => ETH_P_IPV6,
        "arp" => ETH_P_ARP,
        "rarp" => ETH_P_RARP,
        _ => return None,
    })
}

/// The number of a name behind `ip proto`.
pub(super) fn ip_proto(word: &str) -> Option<u8> {
    match (proto(word), word) {
        (Some(Proto::Transport(number, _)), _) => Some(number),
        (_, "ipip") => Some(IPPROTO_IPIP),
        (_, "gre") => Some(IPPROTO_GRE),
        _ => None,
    }
}

/// Ports by the names that IANA gave them, those in wide use.
const SERVICES: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("imap2", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("isakmp", 500),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("radius", 1812),
    ("nfs", 2049),
    ("mysql", 3306),
    ("ipsec-nat-t", 4500),
    ("postgresql", 5432),
    ("redis", 6379),
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("chargen", 19),
];

/// A service's port.
pub(super) fn service(word: &str) -> Option<u16> {
    SERVICES.iter().find(|(name, _)| *name == word).map(|&(_, port)| port)
}

/// Offsets, types and flags that arithmetic may name.
pub(super) fn number(word: &str) -> Option<u32> {
    Some(match word {
        "icmptype" | "icmp6type" => 0,
        "icmpcode" | "icmp6code" => 1,
        "tcpflags" => 13,
        "tcp-fin" => 0x01,
        "tcp-syn" => 0x02,
        "tcp-rst" => 0x04,
        "tcp-push" => 0x08,
        "tcp-ack" => 0x10,
        "tcp-urg" => 0x20,
        "tcp-ece" => 0x40,
        "tcp-cwr" => 0x80,
        "icmp-echoreply" => 0,
        "icmp-unreach" => 3,
        "icmp-sourcequench" => 4,
        "icmp-redirect" => 5,
        "icmp-echo" => 8,
        "icmp-routeradvert" => 9,
        "icmp-routersolicit" => 10,
        "icmp-timxceed" => 11,
        "icmp-paramprob" => 12,
        "icmp-tstamp" => 13,
        "icmp-tstampreply" => 14,
        "icmp-ireq" => 15,
        "icmp-ireqreply" => 16,
        "icmp-maskreq" => 17,
        "icmp-maskreply" => 18,
        "icmp6-destinationunreach" => 1,
        "icmp6-packettoobig" => 2,
        "icmp6-timeexceeded" => 3,
        "icmp6-parameterproblem" => 4,
        "icmp6-echo" => 128,
        "icmp6-echoreply" => 129,
        "icmp6-routersolicit" => 133,
        "icmp6-routeradvert" => 134,
        "icmp6-neighborsolicit" => 135,
        "icmp6-neighboradvert" => 136,
        "icmp6-redirect" => 137,
        _ => return None,
    })
}
