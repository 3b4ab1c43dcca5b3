//! IP's headers.

use super::{Octets, Printer};
use klib::checksum::ip_fast_csum;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use uapi::ip::*;

/// A packet of IP: its ends and what it carries.
pub(super) struct Carried<'a> {
    pub(super) ends: [IpAddr; 2],
    pub(super) proto: u8,
    pub(super) data: Octets<'a>,
    /// Octets of the data in all.
    pub(super) len: usize,
}

/// A protocol by its name, where it has one.
fn proto_name(proto: u8) -> Option<&'static str> {
    Some(match proto {
        IPPROTO_ICMP => "ICMP",
        IPPROTO_IGMP => "IGMP",
        IPPROTO_IPIP => "IPIP",
        IPPROTO_TCP => "TCP",
        IPPROTO_UDP => "UDP",
        IPPROTO_IPV6 => "IPv6",
        IPPROTO_GRE => "GRE",
        IPPROTO_ESP => "ESP",
        IPPROTO_AH => "AH",
        IPPROTO_ICMPV6 => "ICMPv6",
        IPPROTO_PIM => "PIM",
        IPPROTO_SCTP => "SCTP",
        _ => return None,
    })
}

impl Printer {
    pub(super) fn ip(&mut self, out: &mut String, ip: Octets<'_>, len: usize) {
        if self.ip_or_cut(out, ip, len).is_none() {
            out.push_str("[|ip]");
        }
    }

    fn ip_or_cut(&mut self, out: &mut String, ip: Octets<'_>, len: usize) -> Option<()> {
        let first = ip.u8(0)?;
        let (version, header) = (first >> 4, usize::from(first & 0x0f) * 4);
        if version != 4 {
            let _ = write!(out, "bad version {version}");
            return Some(());
        }
        let (src, dst) = (ip.ip(12)?, ip.ip(16)?);
        if header < 20 {
            let _ = write!(out, "bad-hlen {header}");
            return Some(());
        }
        let total = usize::from(ip.u16(2)?);
        // A length of zero is that of a packet yet to be cut.
        let total = if total == 0 { len } else { total };
        if total < header {
            let _ = write!(out, "bad-len {total}");
            return Some(());
        }
        let (offset, proto) = (ip.u16(6)?, ip.u8(9)?);
        if self.style.verbose {
            verbose(out, ip, (header, total))?;
        }
        let ends = [src, dst].map(IpAddr::V4);
        let carried = Carried { ends, proto, data: ip.to(total).from(header), len: total - header };
        if offset & 0x1fff == 0 {
            self.carried(out, &carried);
        } else {
            let _ = write!(out, "{src} > {dst}: ip-proto-{proto}");
        }
        Some(())
    }

    pub(super) fn ip6(&mut self, out: &mut String, ip: Octets<'_>, _: usize) {
        let address = |at| ip.array::<16>(at).map(Ipv6Addr::from);
        let header = (ip.u16(4), ip.u8(6), address(8), address(24));
        let (Some(len), Some(proto), Some(src), Some(dst)) = header else {
            out.push_str("[|ip6]");
            return;
        };
        let ends = [src, dst].map(IpAddr::V6);
        let len = usize::from(len);
        self.carried(out, &Carried { ends, proto, data: ip.from(40).to(len), len });
    }

    fn carried(&mut self, out: &mut String, carried: &Carried<'_>) {
        let [src, dst] = carried.ends;
        let cut = match carried.proto {
            IPPROTO_TCP => self.tcp(out, carried).is_none().then_some("tcp"),
            IPPROTO_UDP => super::messages::udp(out, carried).is_none().then_some("udp"),
            IPPROTO_ICMP => {
                let _ = write!(out, "{src} > {dst}: ");
                super::messages::icmp(out, carried).is_none().then_some("icmp")
            }
            IPPROTO_IGMP => {
                let _ = write!(out, "{src} > {dst}: ");
                super::messages::igmp(out, carried).is_none().then_some("igmp")
            }
            proto => {
                let name = proto_name(proto).map_or(format!("ip-proto-{proto}"), str::to_owned);
                let _ = write!(out, "{src} > {dst}: {name} {}", carried.len);
                None
            }
        };
        if let Some(what) = cut {
            let _ = write!(out, "[|{what}]");
        }
    }
}

fn verbose(out: &mut String, ip: Octets<'_>, (header, total): (usize, usize)) -> Option<()> {
    let (tos, id, offset, ttl, proto) = (ip.u8(1)?, ip.u16(4)?, ip.u16(6)?, ip.u8(8)?, ip.u8(9)?);
    let _ = write!(out, "(tos 0x{tos:x}");
    out.push_str(match tos & 3 {
        1 => ",ECT(1)",
        2 => ",ECT(0)",
        3 => ",CE",
        _ => "",
    });
    let flags = match offset >> 13 {
        0 => "none",
        1 => "+",
        2 => "DF",
        3 => "+, DF",
        _ => "rsvd",
    };
    let name = proto_name(proto).unwrap_or("unknown");
    let _ = write!(
        out,
        ", ttl {ttl}, id {id}, offset {}, flags [{flags}], proto {name} ({proto}), length {total}",
        (offset & 0x1fff) * 8
    );
    if header > 20 {
        let _ = write!(out, ", options ({} octets)", header - 20);
    }
    // A sum over a header with its sum is zero.
    if ip.0.get(..header).is_some_and(|header| ip_fast_csum(header) != 0) {
        let _ = write!(out, ", bad cksum {:x}!", ip.u16(10)?);
    }
    out.push_str(")\n    ");
    Some(())
}
