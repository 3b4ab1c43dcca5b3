//! What a frame is, as far as a report names it.

use std::fmt;
use std::net::Ipv4Addr;
use uapi::icmp::IcmpHdr;
use uapi::if_arp::{ARPHRD_ETHER, ARPOP_REPLY, ARPOP_REQUEST, ArpIpv4};
use uapi::if_ether::{ETH_P_ARP, ETH_P_IP, EthHdr};
use uapi::ip::{IPPROTO_ICMP, IPPROTO_UDP, IpHdr};
use uapi::udp::UdpHdr;
use zerocopy::FromBytes;

/// ETH_P_IPV6: nothing here looks into it.
const ETH_P_IPV6: u16 = 0x86dd;

/// A frame's ends, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) to: [u8; 6],
    pub(super) from: [u8; 6],
    pub(super) kind: Kind,
    /// Source and destination, by IP or ARP.
    pub(super) addrs: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Source and destination of a whole UDP header.
    pub(super) ports: Option<(u16, u16)>,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ArpRequest,
    ArpReply,
    /// Of another operation or hardware.
    Arp,
    Udp,
    /// By type and code.
    Icmp(u8, u8),
    /// A piece of a longer one, not the first.
    Fragment,
    /// Of another protocol.
    Ipv4(u8),
    Ipv6,
    /// By ethertype.
    Other(u16),
    /// Too short for what it says it is.
    Short,
}

impl Frame {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let none = Self { to: [0; 6], from: [0; 6], kind: Kind::Short, addrs: None, ports: None };
        let Ok((eth, packet)) = EthHdr::read_from_prefix(bytes) else { return none };
        let ends = Self { to: eth.h_dest, from: eth.h_source, ..none };
        match eth.h_proto.get() {
            ETH_P_ARP => ends.arp(packet),
            ETH_P_IP => ends.ipv4(packet),
            ETH_P_IPV6 => Self { kind: Kind::Ipv6, ..ends },
            other => Self { kind: Kind::Other(other), ..ends },
        }
    }

    fn arp(self, packet: &[u8]) -> Self {
        let Ok((arp, _)) = ArpIpv4::read_from_prefix(packet) else { return self };
        let kind = match arp.ar_op.get() {
            _ if arp.ar_hrd.get() != ARPHRD_ETHER || arp.ar_pro.get() != ETH_P_IP => Kind::Arp,
            ARPOP_REQUEST => Kind::ArpRequest,
            ARPOP_REPLY => Kind::ArpReply,
            _ => Kind::Arp,
        };
        Self { kind, addrs: Some((arp.ar_sip.get().into(), arp.ar_tip.get().into())), ..self }
    }

    fn ipv4(self, packet: &[u8]) -> Self {
        let Ok((iph, _)) = IpHdr::read_from_prefix(packet) else { return self };
        let this = Self { addrs: Some((iph.saddr.get().into(), iph.daddr.get().into())), ..self };
        let payload = packet.get(iph.ihl()..).unwrap_or(&[]);
        match iph.protocol {
            _ if iph.offset() != 0 => Self { kind: Kind::Fragment, ..this },
            IPPROTO_UDP => {
                let udph = UdpHdr::read_from_prefix(payload).ok();
                let ports = udph.map(|(udph, _)| (udph.source.get(), udph.dest.get()));
                Self { kind: Kind::Udp, ports, ..this }
            }
            IPPROTO_ICMP => match IcmpHdr::read_from_prefix(payload) {
                Ok((icmp, _)) => Self { kind: Kind::Icmp(icmp.type_, icmp.code), ..this },
                Err(_) => this,
            },
            protocol => Self { kind: Kind::Ipv4(protocol), ..this },
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ArpRequest => f.write_str("ARP request"),
            Self::ArpReply => f.write_str("ARP reply"),
            Self::Arp => f.write_str("ARP"),
            Self::Udp => f.write_str("UDP"),
            Self::Icmp(type_, code) => match (type_, code) {
                (0, _) => f.write_str("ICMP echo reply"),
                (3, 0) => f.write_str("ICMP network unreachable"),
                (3, 1) => f.write_str("ICMP host unreachable"),
                (3, 2) => f.write_str("ICMP protocol unreachable"),
                (3, 3) => f.write_str("ICMP port unreachable"),
                (3, 4) => f.write_str("ICMP fragmentation needed"),
                (8, _) => f.write_str("ICMP echo request"),
                (11, _) => f.write_str("ICMP time exceeded"),
                (13, _) => f.write_str("ICMP timestamp request"),
                (14, _) => f.write_str("ICMP timestamp reply"),
                _ => write!(f, "ICMP type {type_} code {code}"),
            },
            Self::Fragment => f.write_str("IPv4 fragment"),
            Self::Ipv4(6) => f.write_str("TCP"),
            Self::Ipv4(2) => f.write_str("IGMP"),
            Self::Ipv4(protocol) => write!(f, "IPv4 protocol {protocol}"),
            Self::Ipv6 => f.write_str("IPv6"),
            Self::Other(kind) => write!(f, "ethertype {kind:#06x}"),
            Self::Short => f.write_str("cut short"),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match (self.addrs, self.ports) {
            (Some((from, to)), Some((source, dest))) => write!(f, " {from}:{source} > {to}:{dest}"),
            (Some((from, to)), None) => write!(f, " {from} > {to}"),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Kind};
    use etherparse::PacketBuilder;

    fn told(bytes: &[u8]) -> String {
        Frame::of(bytes).to_string()
    }

    #[test]
    fn frames_are_told_by_what_they_carry() {
        let eth = || PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ip = || eth().ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        let mut udp = Vec::new();
        ip().udp(5000, 7).write(&mut udp, b"data").unwrap();
        assert_eq!(told(&udp), "UDP 192.0.2.1:5000 > 192.0.2.2:7");
        assert_eq!((Frame::of(&udp).from, Frame::of(&udp).to), ([1; 6], [2; 6]));
        let mut echo = Vec::new();
        ip().icmpv4_echo_request(1, 2).write(&mut echo, b"").unwrap();
        assert_eq!(told(&echo), "ICMP echo request 192.0.2.1 > 192.0.2.2");
        let mut tcp = Vec::new();
        ip().tcp(1, 2, 3, 4).write(&mut tcp, b"").unwrap();
        assert_eq!(told(&tcp), "TCP 192.0.2.1 > 192.0.2.2");
        tcp[20] = 0;
        tcp[21] = 9;
        assert_eq!(Frame::of(&tcp).kind, Kind::Fragment);
        assert_eq!(told(&[&[0; 12][..], &[0x86, 0xdd]].concat()), "IPv6");
        assert_eq!(told(&[&[0; 12][..], &[0x88, 0xcc]].concat()), "ethertype 0x88cc");
    }

    #[test]
    fn every_beginning_of_a_frame_is_told() {
        let mut udp = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([1; 4], [2; 4], 64);
        builder.udp(5000, 7).write(&mut udp, b"data").unwrap();
        for len in 0..udp.len() {
            let frame = Frame::of(&udp[..len]);
            assert_eq!(frame.kind == Kind::Short, len < 34, "{len}");
            assert_eq!(frame.ports.is_some(), len >= 42, "{len}");
        }
        let lengths = (0..16).map(|ihl| [&udp[..14], &[0x40 | ihl], &udp[15..]].concat());
        lengths.for_each(|frame| assert_eq!(Frame::of(&frame).kind, Kind::Udp));
    }
}
