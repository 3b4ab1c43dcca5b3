//! Packets as lines, as tcpdump writes them.

use crate::parse::script::{self, Dir, PacketSpec, Quoted, TcpOption, TosSpec, UdpSpec};
use crate::parse::{FLAGS, icmp_name};
use crate::wire::{Body, IP_LEN, Packet, Tcp, read_options};
use std::fmt::Write;

/// A packet on one line.
pub fn packet(packet: &Packet) -> String {
    let body = match &packet.body {
        Body::Tcp(tcp) => segment(tcp),
        Body::Udp { data, sum, .. } => {
            format!("udp ({}){}", data.len(), if *sum { "" } else { " nosum" })
        }
        Body::Icmp(icmp) => {
            let mut line = format!("icmp {}", icmp_name(icmp.kind, icmp.code));
            match icmp.kind {
                0 | 8 => {
                    let [a, b, c, d] = icmp.rest;
                    let (id, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    let _ = write!(line, " id {id} seq {seq} ({})", icmp.data.len());
                }
                3 if icmp.code == 4 => {
                    let mtu = u16::from_be_bytes([icmp.rest[2], icmp.rest[3]]);
                    let _ = write!(line, " mtu {mtu}");
                }
                _ => {}
            }
            if icmp.data.len() >= IP_LEN + 8 && icmp.kind != 0 && icmp.kind != 8 {
                let protocol = icmp.data[9];
                let _ = write!(line, " [quotes protocol {protocol}]");
            }
            line
        }
        Body::Other(protocol, bytes) => format!("protocol {protocol} ({})", bytes.len()),
    };
    let ports = match &packet.body {
        Body::Tcp(Tcp { ports, .. }) | Body::Udp { ports, .. } => Some(*ports),
        _ => None,
    };
    let end =
        |addr, port: Option<u16>| port.map_or(format!("{addr}"), |port| format!("{addr}:{port}"));
    let (from, to) = (end(packet.src, ports.map(|p| p.0)), end(packet.dst, ports.map(|p| p.1)));
    let tos = if packet.tos == 0 { String::new() } else { format!(" (tos {:#x})", packet.tos) };
    format!("{from} > {to}:{tos} {body}")
}

fn flags(bits: u16) -> String {
    let letters: String =
        FLAGS.iter().filter(|(_, bit)| bits & bit != 0).map(|(letter, _)| *letter).collect();
    // The acknowledgement is written last.
    match (letters.contains('.'), letters.replace('.', "")) {
        (true, rest) => rest + ".",
        (false, rest) if rest.is_empty() => "-".to_owned(),
        (false, rest) => rest,
    }
}

fn options(all: &[TcpOption]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let one = |option: &TcpOption| match option {
        TcpOption::Eol => "eol".to_owned(),
        TcpOption::Nop => "nop".to_owned(),
        TcpOption::Mss(mss) => format!("mss {mss}"),
        TcpOption::Wscale(shift) => format!("wscale {shift}"),
        TcpOption::SackOk => "sackOK".to_owned(),
        TcpOption::Sack(blocks) => blocks
            .iter()
            .fold("sack".to_owned(), |line, (left, right)| format!("{line} {left}:{right}")),
        TcpOption::Ts(val, ecr) => format!("TS val {val} ecr {ecr}"),
        TcpOption::FastOpen(cookie) => format!("FO {}", hex(cookie)).trim_end().to_owned(),
        TcpOption::FastOpenExp(cookie) => format!("FOEXP {}", hex(cookie)).trim_end().to_owned(),
        TcpOption::Md5(digest) => format!("md5 {}", hex(digest)),
        TcpOption::Other(kind, data) => format!("unknown {kind} {}", hex(data)),
    };
    let all: Vec<String> = all.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!(" <{}>", all.join(",")) }
}

fn segment(tcp: &Tcp) -> String {
    let (seq, len) = (tcp.seq, tcp.data.len() as u32);
    let mut line = format!("{} {seq}:{}({len})", flags(tcp.flags), seq.wrapping_add(len));
    if tcp.flags & script::flag::ACK != 0 {
        let _ = write!(line, " ack {}", tcp.ack);
    }
    let _ = write!(line, " win {}", tcp.win);
    if tcp.flags & script::flag::URG != 0 {
        let _ = write!(line, " urg {}", tcp.urg);
    }
    match read_options(&tcp.options) {
        Ok(all) => line += &options(&all),
        Err(error) => {
            let _ = write!(line, " <{error}>");
        }
    }
    line
}

/// A packet of a script on one line, as the script has it.
pub fn spec(packet: &PacketSpec) -> String {
    let ip = match packet.ip.tos {
        TosSpec::Any => "",
        TosSpec::Tos(tos) => &format!("(tos {tos:#x}) "),
        TosSpec::Ecn(ecn) => ["[noecn] ", "[ect1] ", "[ect0] ", "[ce] "][usize::from(ecn & 3)],
        TosSpec::Ect01 => "[ect01] ",
    };
    let ttl = packet.ip.ttl.map_or(String::new(), |ttl| format!("[ttl {ttl}] "));
    let ports = packet.ports.map_or(String::new(), |(from, to)| format!("{from} > {to} "));
    let way = if packet.dir == Dir::In { "<" } else { ">" };
    format!("{way} {ip}{ttl}{ports}{}", body(&packet.body))
}

fn body(body: &script::Body) -> String {
    match body {
        script::Body::Tcp(tcp) => {
            let mut line = format!(
                "{} {}:{}({})",
                flags(tcp.flags),
                tcp.seq,
                tcp.seq.wrapping_add(tcp.len),
                tcp.len
            );
            if tcp.flags & script::flag::ACK != 0 {
                let _ = write!(line, " ack {}", tcp.ack);
            }
            if let Some(win) = tcp.win {
                let _ = write!(line, " win {win}");
            }
            if tcp.flags & script::flag::URG != 0 {
                let _ = write!(line, " urg {}", tcp.urg);
            }
            line + &tcp.options.as_ref().map_or(" <...>".to_owned(), |all| options(all))
        }
        script::Body::Udp(UdpSpec { len, .. }) => format!("udp ({len})"),
        script::Body::Icmp(icmp) => {
            let mut line = format!("icmp {}", icmp_name(icmp.kind, icmp.code));
            if let Some(mtu) = icmp.mtu {
                let _ = write!(line, " mtu {mtu}");
            }
            if matches!(icmp.kind, 0 | 8) {
                let _ = write!(line, " id {} seq {} ({})", icmp.id, icmp.seq, icmp.len);
            }
            match icmp.quoted {
                Quoted::None => {}
                Quoted::Tcp(seq, len) => {
                    let _ = write!(line, " [{seq}:{}({len})]", seq.wrapping_add(len));
                }
                Quoted::Udp(len) => {
                    let _ = write!(line, " [udp ({len})]");
                }
            }
            line
        }
    }
}
