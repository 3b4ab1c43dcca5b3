//! UDP's datagrams, ICMP's and IGMP's messages. None: the end is cut off.

use super::Octets;
use super::ip::Carried;
use std::fmt::Write;
use std::net::Ipv4Addr;
use uapi::ip::{IPPROTO_TCP, IPPROTO_UDP};

pub(super) fn udp(out: &mut String, carried: &Carried<'_>) -> Option<()> {
    let udp = carried.data;
    let [src, dst] = carried.ends;
    let (Some(sport), Some(dport)) = (udp.u16(0), udp.u16(2)) else {
        let _ = write!(out, "{src} > {dst}: ");
        return None;
    };
    let _ = write!(out, "{src}.{sport} > {dst}.{dport}: ");
    if carried.len < 8 {
        let _ = write!(out, "truncated-udp {}", carried.len);
        return Some(());
    }
    let len = usize::from(udp.u16(4)?);
    if len < 8 {
        let _ = write!(out, "truncated-udplength {len}");
        return Some(());
    }
    udp.u16(6)?;
    let _ = write!(out, "UDP, length {}", len - 8);
    Some(())
}

pub(super) fn icmp(out: &mut String, carried: &Carried<'_>) -> Option<()> {
    let icmp = carried.data;
    let (kind, code) = (icmp.u8(0)?, icmp.u8(1)?);
    out.push_str("ICMP ");
    let _ = match kind {
        0 | 8 => {
            let what = if kind == 8 { "request" } else { "reply" };
            write!(out, "echo {what}, id {}, seq {}", icmp.u16(4)?, icmp.u16(6)?)
        }
        3 => unreachable(out, icmp, code),
        4 => write!(out, "source quench"),
        5 => {
            let (gateway, dst) = (icmp.ip(4)?, icmp.ip(8 + 16)?);
            match code {
                0 => write!(out, "redirect {dst} to net {gateway}"),
                1 => write!(out, "redirect {dst} to host {gateway}"),
                2 => write!(out, "redirect-tos {dst} to net {gateway}"),
                3 => write!(out, "redirect-tos {dst} to host {gateway}"),
                _ => write!(out, "redirect-#{code} {dst} to net {gateway}"),
            }
        }
        11 => match code {
            0 => write!(out, "time exceeded in-transit"),
            1 => write!(out, "ip reassembly time exceeded"),
            _ => write!(out, "time exceeded-#{code}"),
        },
        12 if code == 0 => write!(out, "parameter problem - octet {}", icmp.u8(4)?),
        12 => write!(out, "parameter problem - code {code}"),
        13 => write!(out, "time stamp query id {} seq {}", icmp.u16(4)?, icmp.u16(6)?),
        kind => write!(out, "type-#{kind}"),
    };
    let _ = write!(out, ", length {}", carried.len);
    Some(())
}

/// The destination of the packet that is quoted, and what of it could not be reached.
fn unreachable(out: &mut String, icmp: Octets<'_>, code: u8) -> std::fmt::Result {
    let quoted = icmp.from(8);
    let dst = quoted.ip(16).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let proto = quoted.u8(9).unwrap_or(0);
    let header = usize::from(quoted.u8(0).unwrap_or(0) & 0x0f) * 4;
    match code {
        0 => write!(out, "net {dst} unreachable"),
        1 => write!(out, "host {dst} unreachable"),
        2 => write!(out, "{dst} protocol {proto} unreachable"),
        3 => match (proto, quoted.u16(header + 2)) {
            (IPPROTO_TCP, Some(port)) => write!(out, "{dst} tcp port {port} unreachable"),
            (IPPROTO_UDP, Some(port)) => write!(out, "{dst} udp port {port} unreachable"),
            (proto, port) => {
                write!(out, "{dst} protocol {proto} port {} unreachable", port.unwrap_or(0))
            }
        },
        4 => match icmp.u16(6).unwrap_or(0) {
            0 => write!(out, "{dst} unreachable - need to frag"),
            mtu => write!(out, "{dst} unreachable - need to frag (mtu {mtu})"),
        },
        5 => write!(out, "{dst} unreachable - source route failed"),
        6 => write!(out, "net {dst} unreachable - unknown"),
        7 => write!(out, "host {dst} unreachable - unknown"),
        8 => write!(out, "{dst} unreachable - source host isolated"),
        9 => write!(out, "net {dst} unreachable - admin prohibited"),
        10 => write!(out, "host {dst} unreachable - admin prohibited"),
        11 => write!(out, "net {dst} unreachable - tos prohibited"),
        12 => write!(out, "host {dst} unreachable - tos prohibited"),
        13 => write!(out, "host {dst} unreachable - admin prohibited filter"),
        code => write!(out, "{dst} unreachable - #{code}"),
    }
}

pub(super) fn igmp(out: &mut String, carried: &Carried<'_>) -> Option<()> {
    let igmp = carried.data;
    let (kind, code, group) = (igmp.u8(0)?, igmp.u8(1)?, igmp.ip(4));
    out.push_str("igmp ");
    let _ = match kind {
        0x11 if carried.len >= 12 => {
            out.push_str("query v3");
            let tenths = igmpv3_code(code);
            let _ = match tenths {
                100 => Ok(()),
                600.. => write!(out, " [max resp time {}m]", tenths / 600),
                _ => write!(out, " [max resp time {}.{}s]", tenths / 10, tenths % 10),
            };
            query(out, igmp)
        }
        0x11 => {
            let version = if code == 0 { 1 } else { 2 };
            let _ = write!(out, "query v{version}");
            if !matches!(code, 0 | 100) {
                let _ = write!(out, " [max resp time {code}]");
            }
            match group? {
                Ipv4Addr::UNSPECIFIED => Ok(()),
                group => write!(out, " [gaddr {group}]"),
            }
        }
        0x12 => write!(out, "v1 report {}", group?),
        0x16 => write!(out, "v2 report {}", group?),
        0x17 => write!(out, "leave {}", group?),
        0x22 => records(out, igmp),
        kind => write!(out, "igmp-{kind}"),
    };
    Some(())
}

/// Tenths of a second: from 128 up with an exponent (RFC 3376 §4.1.1).
fn igmpv3_code(code: u8) -> u32 {
    match code {
        0..128 => code.into(),
        _ => u32::from(code & 0x0f | 0x10) << ((code >> 4 & 7) + 3),
    }
}

fn query(out: &mut String, igmp: Octets<'_>) -> std::fmt::Result {
    match igmp.ip(4) {
        None | Some(Ipv4Addr::UNSPECIFIED) => Ok(()),
        Some(group) => {
            let sources = igmp.u16(10).unwrap_or(0);
            match sources {
                0 => write!(out, " [gaddr {group}]"),
                _ => write!(out, " [gaddr {group}, {sources} source(s)]"),
            }
        }
    }
}

fn records(out: &mut String, igmp: Octets<'_>) -> std::fmt::Result {
    let count = igmp.u16(6).unwrap_or(0);
    write!(out, "v3 report, {count} group record(s)")
}
