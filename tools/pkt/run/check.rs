//! A packet from the machine against what the script says of it.

use super::Runner;
use crate::parse::script::{
    Body as Spec, IcmpSpec, PacketSpec, Quoted, TcpOption, TcpSpec, TosSpec, flag,
};
use crate::wire::{self, Body, Icmp, Packet, TCP, Tcp, UDP, option_bytes, pattern, read_options};

/// A field, in the original's words.
fn field(name: &str, expected: u32, actual: u32) -> Result<(), String> {
    if expected == actual {
        return Ok(());
    }
    Err(format!(
        "live packet field {name}: expected: {expected} ({expected:#x}) vs actual: {actual} ({actual:#x})"
    ))
}

fn bit(name: &str, mask: u16, (expected, actual): (u16, u16)) -> Result<(), String> {
    field(name, u32::from(expected & mask != 0), u32::from(actual & mask != 0))
}

impl Runner<'_> {
    /// The packet with the script's numbers.
    pub(super) fn map_out(
        &mut self,
        spec: &PacketSpec,
        packet: &Packet,
        at: Option<usize>,
    ) -> Packet {
        let (Body::Tcp(tcp), Some(at)) = (&packet.body, at) else { return packet.clone() };
        let want = match &spec.body {
            Spec::Tcp(want) => want.options.as_deref().unwrap_or(&[]),
            _ => &[],
        };
        let want_ts = want.iter().find_map(|option| match option {
            TcpOption::Ts(val, _) => Some(*val),
            _ => None,
        });
        let flow = &mut self.flows[at];
        let (seq, ack) = flow.outbound(tcp.flags, tcp.seq, tcp.ack);
        let mut options = tcp.options.clone();
        if let Ok(all) = read_options(&tcp.options) {
            let map = |option: TcpOption| match option {
                TcpOption::Ts(val, ecr) => match want_ts {
                    Some(script) => TcpOption::Ts(flow.note_ts(script, val), ecr),
                    None => TcpOption::Ts(val, ecr),
                },
                TcpOption::Sack(blocks) => {
                    let edge = |edge: u32| flow.outbound_sack(tcp.flags, edge);
                    TcpOption::Sack(blocks.iter().map(|(l, r)| (edge(*l), edge(*r))).collect())
                }
                other => other,
            };
            let mapped = option_bytes(&all.into_iter().map(map).collect::<Vec<_>>());
            // What does not come out as long is shown as it is.
            if mapped.len() == options.len() {
                options = mapped;
            }
        }
        let body = Body::Tcp(Tcp { seq, ack, options, ..tcp.clone() });
        Packet { body, ..packet.clone() }
    }

    /// The packet against what the script says.
    pub(super) fn check(
        &mut self,
        spec: &PacketSpec,
        packet: &Packet,
        at: Option<usize>,
    ) -> Result<(), String> {
        check_ip(spec, packet)?;
        match (&spec.body, &packet.body) {
            (Spec::Tcp(want), Body::Tcp(have)) => {
                check_segment(want, have)?;
                self.check_options(want, have)?;
                self.check_stream(have, at)
            }
            (Spec::Udp(want), Body::Udp { ports, data, sum }) => {
                field("udp_len", u32::from(want.len) + 8, data.len() as u32 + 8)?;
                if *sum == (want.sum == wire::Sum::None) {
                    let has = if *sum { "has a checksum" } else { "has no checksum" };
                    return Err(format!("the datagram {has}, the script says otherwise (nosum)"));
                }
                if let Some((from, to)) = spec.ports {
                    field("src_port", from.into(), ports.0.into())?;
                    field("dst_port", to.into(), ports.1.into())?;
                }
                let at = at.ok_or("packet is not for expected socket")?;
                self.check_datagram(data, at)
            }
            (Spec::Icmp(want), Body::Icmp(have)) => self.check_icmp(want, have),
            (want, _) => {
                let protocol = match want {
                    Spec::Tcp(_) => "TCP",
                    Spec::Udp(_) => "UDP",
                    Spec::Icmp(_) => "ICMP",
                };
                Err(format!("live packet header layer 1: expected: {protocol} header"))
            }
        }
    }

    fn check_options(&self, want: &TcpSpec, have: &Tcp) -> Result<(), String> {
        let Some(wanted) = &want.options else { return Ok(()) };
        let mut wanted = wanted.clone();
        let there = read_options(&have.options)?;
        let ts = there.iter().find_map(|option| match option {
            TcpOption::Ts(val, ecr) => Some((*val, *ecr)),
            _ => None,
        });
        for option in &mut wanted {
            let (TcpOption::Ts(val, _), Some((live, _))) = (&mut *option, ts) else { continue };
            let ticks = live.wrapping_sub(*val).cast_signed().unsigned_abs();
            let off = i64::from(ticks) * self.config.ts_tick;
            if off > self.config.tolerance {
                return Err(format!(
                    "bad outbound TCP timestamp value {live}, expected {val}: tolerance {} usec",
                    self.config.tolerance
                ));
            }
            // Within the tolerance, or not looked at: only that it is there, and its echo.
            *val = live;
        }
        if option_bytes(&wanted) == have.options {
            return Ok(());
        }
        let different = wanted.iter().zip(&there).find(|(want, have)| want != have);
        Err(match different {
            Some((want, have)) => {
                format!("bad outbound TCP options: expected {want:?} vs actual {have:?}")
            }
            None => "bad outbound TCP options".to_owned(),
        })
    }

    /// The data of a segment is what was written there.
    fn check_stream(&self, have: &Tcp, at: Option<usize>) -> Result<(), String> {
        let Some(at) = at.filter(|_| !have.data.is_empty()) else { return Ok(()) };
        let Some(sock) = self.flows[at].sock.map(|sock| &self.socks[sock]) else {
            return Err("outbound data payload of a connection that has no descriptor".to_owned());
        };
        if sock.opaque {
            return Ok(());
        }
        let syn = u32::from(have.flags & flag::SYN != 0);
        let isn = if syn == 1 { self.flows[at].local_isn.script } else { 0 };
        let first = have.seq.wrapping_sub(isn).wrapping_add(syn).wrapping_sub(1) as usize;
        let written = sock.written.get(first..first.saturating_add(have.data.len()));
        match written {
            None => Err(format!(
                "incorrect outbound data payload: {} bytes from {first} on were never written",
                have.data.len()
            )),
            Some(written) => match written.iter().zip(&have.data).position(|(a, b)| a != b) {
                Some(place) => {
                    Err(format!("incorrect outbound data payload, from byte {place} on"))
                }
                None => Ok(()),
            },
        }
    }

    fn check_datagram(&mut self, data: &[u8], at: usize) -> Result<(), String> {
        let Some(sock) = self.flows[at].sock.map(|sock| &mut self.socks[sock]) else {
            return Ok(());
        };
        if sock.opaque {
            return Ok(());
        }
        match sock.datagrams.pop_front() {
            Some(written) if written == data => Ok(()),
            Some(written) => {
                let place = written.iter().zip(data).position(|(a, b)| a != b);
                let place = place.unwrap_or(written.len().min(data.len()));
                Err(format!("incorrect outbound data payload, from byte {place} on"))
            }
            None => Err("a datagram that nobody sent".to_owned()),
        }
    }

    fn check_icmp(&self, want: &IcmpSpec, have: &Icmp) -> Result<(), String> {
        field("icmp_type", want.kind.into(), have.kind.into())?;
        field("icmp_code", want.code.into(), have.code.into())?;
        let half = |at: usize| u16::from_be_bytes([have.rest[at], have.rest[at + 1]]);
        if matches!(want.kind, 0 | 8) {
            field("icmp_id", want.id.into(), half(0).into())?;
            field("icmp_seq", want.seq.into(), half(2).into())?;
            field("icmp_len", want.len.into(), have.data.len() as u32)?;
            if have.data.iter().enumerate().any(|(place, byte)| *byte != pattern(place)) {
                return Err("incorrect outbound data payload".to_owned());
            }
        }
        if let Some(mtu) = want.mtu {
            field("icmp_mtu", mtu.into(), half(2).into())?;
        }
        match want.quoted {
            Quoted::None => Ok(()),
            Quoted::Tcp(..) => field("icmp_echoed_protocol", TCP.into(), quoted_protocol(have)),
            Quoted::Udp(len) => {
                field("icmp_echoed_protocol", UDP.into(), quoted_protocol(have))?;
                let place = wire::IP_LEN + 4;
                let quoted = have
                    .data
                    .get(place..place + 2)
                    .map_or(0, |b| u32::from(b[0]) << 8 | u32::from(b[1]));
                field("icmp_echoed_udp_len", u32::from(len) + 8, quoted)
            }
        }
    }
}

fn quoted_protocol(icmp: &Icmp) -> u32 {
    icmp.data.get(9).copied().unwrap_or(0).into()
}

fn check_ip(spec: &PacketSpec, packet: &Packet) -> Result<(), String> {
    let ecn = packet.tos & 3;
    match spec.ip.tos {
        TosSpec::Any => {}
        TosSpec::Tos(tos) => field("tos", tos.into(), packet.tos.into())?,
        TosSpec::Ecn(want) => field("ip_ecn", want.into(), ecn.into())?,
        TosSpec::Ect01 if ecn == 1 || ecn == 2 => {}
        TosSpec::Ect01 => {
            return Err(format!(
                "live packet field ip_ecn: expected: 0x1 or 0x2 vs actual: {ecn:#x}"
            ));
        }
    }
    spec.ip.ttl.map_or(Ok(()), |ttl| field("ttl", ttl.into(), packet.ttl.into()))
}

fn check_segment(want: &TcpSpec, have: &Tcp) -> Result<(), String> {
    if let Some(options) = &want.options {
        let words = 5 + option_bytes(options).len() / 4;
        field("tcp_data_offset", words as u32, 5 + have.options.len() as u32 / 4)?;
    }
    let flags = (want.flags, have.flags);
    for (name, mask) in [
        ("tcp_fin", flag::FIN),
        ("tcp_syn", flag::SYN),
        ("tcp_rst", flag::RST),
        ("tcp_psh", flag::PSH),
        ("tcp_ack", flag::ACK),
        ("tcp_urg", flag::URG),
        ("tcp_ece", flag::ECE),
        ("tcp_cwr", flag::CWR),
        ("tcp_ae", flag::AE),
    ] {
        bit(name, mask, flags)?;
    }
    field("tcp_reserved_bits", 0, have.reserved.into())?;
    field("tcp_seq", want.seq, have.seq)?;
    field("tcp_ack_seq", want.ack, have.ack)?;
    if let Some(win) = want.win {
        field("tcp_window", win.into(), have.win.into())?;
    }
    field("tcp_urg_ptr", want.urg.into(), have.urg.into())?;
    let lens = (want.len, have.data.len());
    if lens.0 as usize != lens.1 {
        return Err(format!(
            "live packet payload: expected {} bytes vs actual {} bytes",
            lens.0, lens.1
        ));
    }
    Ok(())
}
