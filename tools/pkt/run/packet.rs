//! Packets of a script: those to the machine are built and handed to it, those from it are waited for.

use super::flow::{Flow, Isn};
use super::time::Due;
use super::{Runner, Subject, Went, Wrong, secs};
use crate::backend::{Call, Sent};
use crate::parse::script::{
    Body as Spec, Dir, IcmpSpec, PacketSpec, Quoted, Sum, TcpOption, TcpSpec, TosSpec, UdpSpec,
    flag,
};
use crate::show;
use crate::wire::{self, Body, Icmp, Packet, TCP, Tcp, UDP, pattern};
use std::net::Ipv4Addr;

/// The first port of the other end.
pub(super) const FIRST_PORT: u16 = 40_001;
/// Time to live of packets to the machine.
const TTL: u8 = 255;

impl Runner<'_> {
    pub(super) fn inbound(&mut self, spec: &PacketSpec) -> Went<()> {
        let about = |what: String| Wrong::from(format!("error handling packet: {what}"));
        let (packet, sum) = match &spec.body {
            Spec::Tcp(tcp) => (self.segment_in(spec, tcp).map_err(about)?, tcp.sum),
            Spec::Udp(udp) => (self.datagram_in(spec, *udp).map_err(about)?, udp.sum),
            Spec::Icmp(icmp) => (self.icmp_in(spec, icmp).map_err(about)?, icmp.sum),
        };
        self.ip_id = self.ip_id.wrapping_add(1);
        self.note(&show::spec(spec));
        self.backend.inject(&packet.bytes(self.ip_id, sum))?;
        Ok(())
    }

    fn addressed(&self, spec: &PacketSpec, from: Ipv4Addr, to: Ipv4Addr, body: Body) -> Packet {
        let tos = match spec.ip.tos {
            TosSpec::Tos(bits) | TosSpec::Ecn(bits) => bits,
            TosSpec::Any | TosSpec::Ect01 => 0,
        };
        Packet { tos, ttl: spec.ip.ttl.unwrap_or(TTL), src: from, dst: to, body }
    }

    fn segment_in(&mut self, spec: &PacketSpec, tcp: &TcpSpec) -> Result<Packet, String> {
        let at = self.flow_in(spec, tcp)?;
        let scaled = self.config.ts_ecr_scaled;
        let flow = &mut self.flows[at];
        if tcp.flags & flag::URG != 0 {
            flow.urgent = true;
        }
        // A SYN for a connection that has one changes nothing of how its numbers count.
        if tcp.flags & flag::SYN != 0 && !flow.remote_known {
            flow.remote_known = true;
            flow.remote_isn = Isn { script: tcp.seq, live: tcp.seq };
        }
        let (seq, ack) = flow.inbound(tcp.flags, tcp.seq, tcp.ack);
        let mut options = Vec::new();
        for option in tcp.options.as_deref().unwrap_or(&[]) {
            options.push(match option {
                TcpOption::Ts(val, ecr) if tcp.flags & flag::ACK != 0 => {
                    TcpOption::Ts(*val, flow.live_ecr(*ecr, scaled)?)
                }
                TcpOption::Sack(blocks) => {
                    let edge = |edge: u32| flow.inbound_sack(tcp.flags, edge);
                    TcpOption::Sack(blocks.iter().map(|(l, r)| (edge(*l), edge(*r))).collect())
                }
                other => other.clone(),
            });
        }
        // Data behind a SYN counts from the number after it.
        let first = seq
            .wrapping_sub(flow.remote_isn.live)
            .wrapping_add(u32::from(tcp.flags & flag::SYN != 0));
        let data = (0..tcp.len).map(|i| pattern(first.wrapping_add(i).wrapping_sub(1) as usize));
        let body = Tcp {
            ports: (flow.remote.1, flow.local.1),
            seq,
            ack,
            flags: tcp.flags,
            reserved: 0,
            win: tcp.win.unwrap_or(0),
            urg: tcp.urg,
            options: wire::option_bytes(&options),
            data: data.collect(),
        };
        let (from, to) = (flow.remote.0, flow.local.0);
        Ok(self.addressed(spec, from, to, Body::Tcp(body)))
    }

    /// The flow of a segment to the machine; a new one where somebody listens or nobody is.
    fn flow_in(&mut self, spec: &PacketSpec, tcp: &TcpSpec) -> Result<usize, String> {
        let (local, remote) = (self.config.local, self.config.remote);
        if let Some((from, to)) = spec.ports {
            let same = |flow: &Flow| flow.named && (flow.remote.1, flow.local.1) == (from, to);
            if let Some(at) = self.flows.iter().position(same) {
                self.subject = Subject::Flow(at);
                return Ok(at);
            }
            let mut flow = Flow::new(TCP, (local, to), (remote, from));
            (flow.named, flow.to_accept) = (true, true);
            return Ok(self.add_flow(flow));
        }
        let listens = match self.subject {
            Subject::None => Some(self.config.bind_port),
            Subject::Sock(at) => {
                let sock = &self.socks[at];
                // A closed port answers, too.
                let bound = sock.bound.unwrap_or(self.config.bind_port);
                (sock.listening || sock.flow.is_none()).then_some(bound)
            }
            Subject::Flow(_) => None,
        };
        if let Some(port) = listens {
            let mut flow = Flow::new(TCP, (local, port), (remote, self.next_port));
            self.next_port = self.next_port.wrapping_add(1).max(FIRST_PORT);
            flow.to_accept = true;
            return Ok(self.add_flow(flow));
        }
        let at = self.current(TCP)?;
        self.learn_local_port(at)?;
        if tcp.flags & flag::RST == 0 && self.flows[at].local.1 == 0 {
            return Err("no port of the machine is known: nothing went out yet".to_owned());
        }
        Ok(at)
    }

    fn add_flow(&mut self, flow: Flow) -> usize {
        self.flows.push(flow);
        self.subject = Subject::Flow(self.flows.len() - 1);
        self.flows.len() - 1
    }

    /// The flow that packets without ports belong to.
    pub(super) fn current(&self, protocol: u8) -> Result<usize, String> {
        let at = match self.subject {
            Subject::Flow(at) => Some(at),
            Subject::Sock(at) => self.socks[at].flow,
            Subject::None => None,
        };
        at.filter(|at| self.flows[*at].protocol == protocol)
            .ok_or_else(|| "no matching socket for script packet".to_owned())
    }

    /// Asks a socket for its port, where nothing that it sent told it.
    pub(super) fn learn_local_port(&mut self, at: usize) -> Result<(), String> {
        let sock = self.flows[at].sock;
        if self.flows[at].local.1 != 0 || self.pending.is_some() {
            return Ok(());
        }
        let Some(fd) = self.fds.values().find(|fd| Some(fd.sock) == sock) else { return Ok(()) };
        let done = self.quick(Call::SockName(fd.live)).map_err(|wrong| wrong.what)?;
        if let [_, _, high, low, ..] = done.name[..] {
            self.flows[at].local.1 = u16::from_be_bytes([high, low]);
        }
        Ok(())
    }

    fn datagram_in(&mut self, spec: &PacketSpec, udp: UdpSpec) -> Result<Packet, String> {
        let (local, remote) = (self.config.local, self.config.remote);
        let data = (0..usize::from(udp.len)).map(pattern).collect();
        let (from, to) = match spec.ports {
            Some((from, to)) => ((remote, from), (local, to)),
            None => match self.current(UDP) {
                Ok(at) => {
                    self.learn_local_port(at)?;
                    (self.flows[at].remote, (local, self.flows[at].local.1))
                }
                // Nobody is there: the machine says so.
                Err(_) if self.subject == Subject::None => {
                    ((remote, self.config.connect_port), (local, self.config.bind_port))
                }
                Err(error) => return Err(error),
            },
        };
        let body = Body::Udp { ports: (from.1, to.1), data, sum: udp.sum != Sum::None };
        Ok(self.addressed(spec, from.0, to.0, body))
    }

    fn icmp_in(&mut self, spec: &PacketSpec, icmp: &IcmpSpec) -> Result<Packet, String> {
        let mut rest = [0; 4];
        if matches!(icmp.kind, 0 | 8) {
            rest[..2].copy_from_slice(&icmp.id.to_be_bytes());
            rest[2..].copy_from_slice(&icmp.seq.to_be_bytes());
        } else if let Some(mtu) = icmp.mtu {
            rest[2..].copy_from_slice(&mtu.to_be_bytes());
        }
        let data = match icmp.quoted {
            Quoted::None => (0..usize::from(icmp.len)).map(pattern).collect(),
            Quoted::Tcp(seq, len) => self.quote(TCP, seq, len)?,
            Quoted::Udp(len) => self.quote(UDP, 0, len.into())?,
        };
        let body = Body::Icmp(Icmp { kind: icmp.kind, code: icmp.code, rest, data });
        Ok(self.addressed(spec, self.config.remote, self.config.local, body))
    }

    /// What an ICMP error quotes: a packet that the machine sent.
    fn quote(&mut self, protocol: u8, seq: u32, len: u32) -> Result<Vec<u8>, String> {
        let at = self.current(protocol)?;
        self.learn_local_port(at)?;
        let flow = &self.flows[at];
        let ports = (flow.local.1, flow.remote.1);
        let body = if protocol == TCP {
            let seq = seq.wrapping_add(flow.local_isn.live);
            Body::Tcp(Tcp { ports, seq, ..Tcp::default() })
        } else {
            Body::Udp { ports, data: Vec::new(), sum: true }
        };
        let packet = Packet { tos: 0, ttl: 64, src: flow.local.0, dst: flow.remote.0, body };
        Ok(wire::quote(&packet, len as usize))
    }

    /// Waits for a packet from the machine and looks at it.
    pub(super) fn outbound(&mut self, spec: &PacketSpec, due: &Due) -> Went<()> {
        debug_assert_eq!(spec.dir, Dir::Out);
        let script = format!("script packet: {:9.6} {}", secs(due.begin), show::spec(spec));
        let wrong = |what: String, actual: Option<(i64, String)>, timing: bool| {
            let actual = actual
                .map(|(at, line)| format!("\nactual packet: {:9.6} {line}", secs(at)))
                .unwrap_or_default();
            Wrong { what: format!("error handling packet: {what}\n{script}{actual}"), timing }
        };
        let (sent, mut packet) = match self.next_sent(due) {
            Ok(next) => next,
            Err(went) => return Err(wrong(went.what, None, went.timing)),
        };
        let at = sent.at - self.start;
        let at_flow = match self.flow_out(spec, &packet) {
            Ok(at_flow) => at_flow,
            Err(what) => return Err(wrong(what, Some((at, show::packet(&packet))), false)),
        };
        if let Err(what) = self.aggregate(spec, &mut packet, due) {
            return Err(wrong(what, Some((at, show::packet(&packet))), false));
        }
        let mapped = self.map_out(spec, &packet, at_flow);
        self.note_at(at, &format!("> {}", show::packet(&mapped)));
        let line = || Some((at, show::packet(&mapped)));
        self.check(spec, &mapped, at_flow).map_err(|what| wrong(what, line(), false))?;
        self.in_time(due, at, "outbound packet").map_err(|went| wrong(went.what, line(), true))
    }

    /// The next packet that the machine sends, read.
    fn next_sent(&mut self, due: &Due) -> Went<(Sent, Packet)> {
        let until = self.start + self.patience(due);
        // What goes out may wait for what a sleeping call does, and the other way round.
        let Some(sent) = self.backend.next_packet(until)? else {
            let what = format!(
                "timing error: expected outbound packet at {:.6} sec but none came until {:.6} sec",
                secs(due.begin),
                secs(until - self.start)
            );
            return Err(Wrong { what, timing: true });
        };
        let packet = self.read_sent(&sent)?;
        Ok((sent, packet))
    }

    fn read_sent(&mut self, sent: &Sent) -> Result<Packet, String> {
        let at = sent.at - self.start;
        self.report.sent.push((at, sent.bytes.clone()));
        wire::read(&sent.bytes, sent.csum)
    }

    /// Takes more segments until they are as long as the script's one.
    fn aggregate(
        &mut self,
        spec: &PacketSpec,
        first: &mut Packet,
        due: &Due,
    ) -> Result<(), String> {
        let (Spec::Tcp(want), Body::Tcp(have)) = (&spec.body, &mut first.body) else {
            return Ok(());
        };
        if self.config.strict_segments || have.data.is_empty() {
            return Ok(());
        }
        while have.data.len() < want.len as usize {
            let until = self.start + self.patience(due);
            let Some(sent) = self.backend.next_packet(until)? else { return Ok(()) };
            let next = self.read_sent(&sent)?;
            let more = match next.body {
                Body::Tcp(more) if (next.src, next.dst) == (first.src, first.dst) => more,
                _ => return Err(format!("{} is no part of the segment", show::packet(&next))),
            };
            let end = have.seq.wrapping_add(have.data.len() as u32);
            let last = flag::FIN | flag::PSH | flag::CWR;
            let alike = more.ports == have.ports
                && more.seq == end
                && more.flags | last == have.flags | last
                && !more.data.is_empty()
                && more.ack == have.ack;
            if !alike {
                return Err(format!(
                    "live packet payload: expected {} bytes vs actual {} bytes, behind them {}",
                    want.len,
                    have.data.len(),
                    show::packet(&Packet { body: Body::Tcp(more), ..next })
                ));
            }
            have.flags |= more.flags & last;
            have.data.extend(more.data);
        }
        Ok(())
    }

    /// The flow of a packet from the machine.
    fn flow_out(&mut self, spec: &PacketSpec, packet: &Packet) -> Result<Option<usize>, String> {
        let (protocol, ports) = match &packet.body {
            Body::Tcp(tcp) => (TCP, tcp.ports),
            Body::Udp { ports, .. } => (UDP, *ports),
            _ => return Ok(None),
        };
        let (src, dst) = ((packet.src, ports.0), (packet.dst, ports.1));
        if protocol == UDP {
            return Ok(self.udp_flow_out(src, dst));
        }
        let found = match spec.ports {
            Some(_) => self.flows.iter().position(|flow| flow.named && flow.sends(src, dst)),
            None => self.current(TCP).ok().filter(|at| self.flows[*at].sends(src, dst)),
        };
        // A connection that is being opened takes the ports that the script names.
        let found = found.or_else(|| {
            let opening = |flow: &Flow| !flow.to_accept && !flow.opened && flow.sends(src, dst);
            self.flows.iter().rposition(opening)
        });
        let found = found.or_else(|| self.opened_again(packet, src, dst));
        let Some(at) = found else {
            return Err("packet is not for expected socket".to_owned());
        };
        let flow = &mut self.flows[at];
        flow.local.1 = src.1;
        flow.named |= spec.ports.is_some();
        if spec.ports.is_some() {
            self.subject = Subject::Flow(at);
        }
        self.note_isn(at, spec, packet);
        Ok(Some(at))
    }

    /// A socket that had a connection opens another: its SYN comes from another port.
    fn opened_again(
        &mut self,
        packet: &Packet,
        src: (Ipv4Addr, u16),
        dst: (Ipv4Addr, u16),
    ) -> Option<usize> {
        let Body::Tcp(tcp) = &packet.body else { return None };
        if tcp.flags & (flag::SYN | flag::ACK) != flag::SYN {
            return None;
        }
        let before = self.current(TCP).ok().filter(|at| self.flows[*at].remote == dst)?;
        let sock = self.flows[before].sock?;
        let mut flow = Flow::new(TCP, src, dst);
        flow.sock = Some(sock);
        let at = self.add_flow(flow);
        self.socks[sock].flow = Some(at);
        (self.socks[sock].written, self.socks[sock].read) = (Vec::new(), 0);
        Some(at)
    }

    /// The machine's first sequence number shows in its first SYN.
    fn note_isn(&mut self, at: usize, spec: &PacketSpec, packet: &Packet) {
        let (Spec::Tcp(want), Body::Tcp(have)) = (&spec.body, &packet.body) else { return };
        let flow = &mut self.flows[at];
        if !flow.opened && have.flags & flag::SYN != 0 && want.flags & flag::SYN != 0 {
            flow.opened = true;
            flow.local_isn = Isn { script: want.seq, live: have.seq };
        }
    }

    fn udp_flow_out(&mut self, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Option<usize> {
        let at =
            self.flows.iter().rposition(|flow| flow.protocol == UDP && flow.sends(src, dst))?;
        self.flows[at].local.1 = src.1;
        Some(at)
    }

    /// Nothing has left that nobody expected.
    pub(super) fn nothing_left(&mut self) -> Went<()> {
        let until = self.backend.now();
        self.backend.wait_until(until)?;
        while let Some(sent) = self.backend.next_packet(until)? {
            let at = sent.at - self.start;
            if self.config.allow_extra.is_some() {
                self.report.sent.push((at, sent.bytes));
                continue;
            }
            let line = match wire::read(&sent.bytes, sent.csum) {
                Ok(packet) => match self.map_any(&packet) {
                    Some(mapped) => show::packet(&mapped),
                    None => show::packet(&packet),
                },
                Err(error) => error,
            };
            let what = format!(
                "error handling packet: a packet that nobody expects at the end of the script \
                 (--allow_extra=REASON passes it by)\nactual packet: {:9.6} {line}",
                secs(at)
            );
            return Err(what.into());
        }
        Ok(())
    }

    /// A packet with the script's numbers, whatever flow it is of.
    fn map_any(&self, packet: &Packet) -> Option<Packet> {
        let Body::Tcp(tcp) = &packet.body else { return None };
        let (src, dst) = ((packet.src, tcp.ports.0), (packet.dst, tcp.ports.1));
        let flow = self.flows.iter().find(|flow| flow.protocol == TCP && flow.sends(src, dst))?;
        let (seq, ack) = flow.outbound(tcp.flags, tcp.seq, tcp.ack);
        let body = Body::Tcp(Tcp { seq, ack, ..tcp.clone() });
        Some(Packet { body, ..packet.clone() })
    }
}
