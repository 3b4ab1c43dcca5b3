//! A lone machine, random calls, and a peer that sends whatever hurts: nothing panics, nothing leaks, and every
//! socket is as it must be after each step.

use crate::util::{addr, check, info, nothing_left, seeds};
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use klib::checksum::{csum_partial, csum_tcpudp_magic, ip_fast_csum};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;
use sim::{LinkSpec, MachineSpec, World};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::{Operation, poll_operation};
use stack::net::core::dev::dev_open;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::snmp::NetMib;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_getsockopt, sys_listen, sys_recvfrom, sys_sendto,
    sys_setsockopt, sys_shutdown, sys_socket,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::socket::*;
use uapi::tcp::*;

pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
pub const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 8, 8];
/// Steps of a run.
const STEPS: u32 = 250;
/// Ports that the machine binds, and those of the peer.
const PORTS: [u16; 3] = [80, 81, 4000];
const PEER_PORTS: [u16; 4] = [80, 9000, 9001, 9002];

/// What the peer knows of a connection, from what the machine sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// The machine's port and the peer's.
    pub ports: (u16, u16),
    /// Behind the last octet that the machine sent.
    pub end: u32,
    /// What it acknowledges.
    pub ack: u32,
    pub window: u16,
    pub flags: u8,
    /// Its last timestamp, if it sends any.
    pub ts: Option<u32>,
    /// Octets that came last.
    pub len: u32,
}

pub struct Abuse {
    pub world: World,
    pub machine: Arc<Machine>,
    pub cx: TaskCx,
    /// The peer's end of the wire.
    pub port: Arc<dyn WirePort>,
    rng: Pcg64,
    pub fds: Vec<i32>,
    pub flows: Vec<Flow>,
    data: Vec<u8>,
    /// Of so many segments one is what no peer should send.
    manners: u32,
    /// States that its sockets were in, by their bits.
    states: u32,
}

impl Abuse {
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let machine = world.machine(&MachineSpec::default());
        let [near, port] = world.link(LinkSpec::Wire);
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = wire_probe(&mut cx, "eth%d", MAC, near).expect("a free port");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(LOCAL, 24).expect("a host")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");
        let key = NeighKey { dev: dev.ifindex, addr: PEER.into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(&mut cx, key, PEER_MAC, state).expect("room for one");
        let rng = Pcg64::seed_from_u64(seed ^ 0x7c9);
        let (fds, flows, data) = (Vec::new(), Vec::new(), vec![0x5a; 70_000]);
        let manners = [2, 5, 20][seed as usize % 3];
        Self { world, machine, cx, port, rng, fds, flows, data, manners, states: 0 }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(0..limit)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    /// One in so many times.
    fn rarely(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    fn step(&mut self) {
        match self.below(10) {
            0..=3 => self.random_call(),
            4..=8 => self.random_segment(),
            _ => {
                let ms = self.pick(&[1, 1, 5, 50, 200, 1_000, 5_000, 60_000]);
                self.world.run_for(Duration::from_millis(ms));
            }
        }
        self.world.settle();
        self.listen_to();
        check(&self.machine);
        for fd in &self.fds {
            self.states |= 1 << info(&mut self.cx, *fd).tcpi_state;
            #[cfg(debug_assertions)]
            stack::net::ipv4::tcp::tcp_check_fd(&mut self.cx, *fd);
        }
    }

    /// Reads what the machine sent.
    pub fn listen_to(&mut self) {
        let mut batch = FrameBatch::new();
        while self.port.receive(64, &mut batch) != 0 {
            for (frame, _) in batch.iter() {
                let Some(flow) = parse(frame) else { continue };
                if flow.flags & TCPHDR_RST != 0 {
                    self.flows.retain(|known| known.ports != flow.ports);
                } else {
                    let known = self.flows.iter().position(|known| known.ports == flow.ports);
                    match known {
                        Some(at) => self.flows[at] = flow,
                        None if self.flows.len() < 32 => self.flows.push(flow),
                        None => {}
                    }
                }
            }
            batch.clear();
        }
    }

    // ---- Calls.

    /// Makes a call that may not wait; what it says does not matter.
    pub fn call<O: Operation>(&mut self, mut op: O) -> Option<O::Output> {
        match poll_operation(&mut self.cx, Waker::noop(), &mut op) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn random_call(&mut self) {
        if self.fds.is_empty() || (self.fds.len() < 6 && self.rarely(4)) {
            let kind = SOCK_STREAM | SOCK_NONBLOCK;
            let fd = sys_socket(&mut self.cx, AF_INET, kind, 0).expect("room");
            self.fds.push(fd);
            return self.begin(fd);
        }
        let fds = self.fds.clone();
        let fd = self.pick(&fds);
        let (data, mut room) = (std::mem::take(&mut self.data), vec![0; 40_000]);
        let len = self.pick(&[0, 1, 1, 100, 536, 1448, 2000, 10_000, 70_000]);
        let flags = self.pick(&[0, 0, 0, 0, MSG_MORE, MSG_OOB, MSG_EOR]) | MSG_DONTWAIT;
        let get = self.pick(&[0, 0, 0, MSG_PEEK, MSG_OOB, MSG_WAITALL, MSG_TRUNC]) | MSG_DONTWAIT;
        match self.below(14) {
            0..=2 => drop(self.call(sys_sendto(fd, &data[..len], flags, None))),
            3 => drop(self.call(sys_write(fd, &data[..len]))),
            4..=5 => drop(self.call(sys_recvfrom(fd, &mut room[..len.min(40_000)], get))),
            6 => drop(self.call(sys_read(fd, &mut room))),
            7..=8 => {
                if let Some(Ok((new, _))) = self.call(sys_accept4(fd, SOCK_NONBLOCK)) {
                    self.fds.push(new);
                }
            }
            9 => {
                let how = self.pick(&[SHUT_RD, SHUT_WR, SHUT_RDWR]);
                let _any = sys_shutdown(&mut self.cx, fd, how);
            }
            10 => self.begin(fd),
            11..=12 => self.random_option(fd),
            _ => {
                self.fds.retain(|open| *open != fd);
                sys_close(&mut self.cx, fd).expect("open");
            }
        }
        self.data = data;
    }

    /// Binds, listens, connects, or gives a connection up.
    fn begin(&mut self, fd: i32) {
        let (port, peer) = (self.pick(&PORTS), self.pick(&PEER_PORTS));
        match self.below(7) {
            0..=2 => {
                let _any = sys_setsockopt(
                    &mut self.cx,
                    fd,
                    SOL_SOCKET,
                    SO_REUSEADDR,
                    &1_i32.to_ne_bytes(),
                );
                let _any = sys_bind(&mut self.cx, fd, &addr(LOCAL, port));
                let backlog = self.pick(&[0, 1, 5]);
                let _any = sys_listen(&mut self.cx, fd, backlog);
            }
            3..=5 => drop(self.call(sys_connect(fd, &addr(PEER, peer)))),
            _ => drop(self.call(sys_connect(fd, &[0; 16]))),
        }
    }

    fn random_option(&mut self, fd: i32) {
        let own = [
            TCP_NODELAY,
            TCP_CORK,
            TCP_MAXSEG,
            TCP_KEEPIDLE,
            TCP_KEEPINTVL,
            TCP_KEEPCNT,
            TCP_SYNCNT,
            TCP_LINGER2,
            TCP_DEFER_ACCEPT,
            TCP_WINDOW_CLAMP,
            TCP_QUICKACK,
            TCP_USER_TIMEOUT,
            TCP_NOTSENT_LOWAT,
            TCP_INFO,
        ];
        let general = [
            SO_KEEPALIVE,
            SO_OOBINLINE,
            SO_RCVBUF,
            SO_SNDBUF,
            SO_RCVLOWAT,
            SO_PEEK_OFF,
            SO_MAX_PACING_RATE,
        ];
        let value: i32 = self.pick(&[0, 1, 2, 5, 90, 536, 2048, 5_000, 100_000, -1]);
        let (level, name) = match self.below(3) {
            0..=1 => (SOL_TCP, self.pick(&own)),
            _ => (SOL_SOCKET, self.pick(&general)),
        };
        let _any = sys_setsockopt(&mut self.cx, fd, level, name, &value.to_ne_bytes());
        drop(sys_getsockopt(&mut self.cx, fd, level, name));
        if self.rarely(4) {
            let name = self.pick(&[&b"bbr"[..], b"cubic", b"reno"]);
            let _any = sys_setsockopt(&mut self.cx, fd, SOL_TCP, TCP_CONGESTION, name);
        }
        if self.rarely(4) {
            let seconds = self.pick(&[0_i32, 0, 1, 100]);
            let linger = [1_i32.to_ne_bytes(), seconds.to_ne_bytes()].concat();
            let _any = sys_setsockopt(&mut self.cx, fd, SOL_SOCKET, SO_LINGER, &linger);
        }
    }

    // ---- Segments.

    fn random_segment(&mut self) {
        if self.flows.is_empty() || self.rarely(6) {
            return self.syn();
        }
        let flows = self.flows.clone();
        let flow = self.pick(&flows);
        loop {
            let segment = match self.below(self.manners) {
                0 => self.bad(flow),
                1 => self.good(flow),
                _ => self.odd(flow),
            };
            self.send(segment);
            if self.rarely(2) {
                break;
            }
        }
    }

    fn syn(&mut self) {
        let ports = (self.pick(&PORTS), self.pick(&PEER_PORTS[1..]));
        let seq = self.rng.next_u32();
        let timed = self.rarely(2).then_some(0);
        let options = self.options(timed, &[]);
        let flags = self.pick(&[TCPHDR_SYN, TCPHDR_SYN, TCPHDR_SYN, TCPHDR_SYN | TCPHDR_FIN]);
        self.send(Segment { ports, seq, flags, window: 65_535, options, ..Segment::default() });
    }

    /// What a peer would answer.
    fn good(&mut self, flow: Flow) -> Segment {
        let syn = flow.flags & TCPHDR_SYN != 0;
        let mut segment = Segment {
            ports: flow.ports,
            seq: flow.ack,
            ack: flow.end,
            flags: TCPHDR_ACK,
            window: self.pick(&[65_535, 65_535, 8_000, 100, 0]),
            ..Segment::default()
        };
        if syn && flow.flags & TCPHDR_ACK == 0 {
            segment.seq = self.rng.next_u32();
            segment.flags |= TCPHDR_SYN;
        } else if !syn {
            segment.len = self.pick(&[0, 0, 0, 1, 100, 1448, 1448]);
            segment.flags |= self.pick(&[0, 0, 0, 0, TCPHDR_PSH, TCPHDR_FIN]);
        }
        let timed = flow.ts.or(segment.flags.eq(&TCPHDR_SYN).then_some(0));
        segment.options = self.options(timed, &[]);
        segment
    }

    /// What a peer answers at the end of a way that loses, doubles and overtakes: data at whole segments, some
    /// of what was sent acknowledged, and blocks of the rest.
    fn odd(&mut self, flow: Flow) -> Segment {
        let mut segment = self.good(flow);
        if flow.flags & TCPHDR_SYN != 0 {
            return segment;
        }
        let mss = 1448;
        let places = [0, 0, 0, mss, 2 * mss, 3 * mss, 8 * mss, 0_u32.wrapping_sub(mss)];
        segment.seq = segment.seq.wrapping_add(self.pick(&places));
        segment.window = self.pick(&[65_535, 65_535, 65_535, 8_000, 100, 0]);
        let back = self.below(12) * mss;
        segment.ack = flow.end.wrapping_sub(back);
        let mut blocks = Vec::new();
        for _ in 0..self.below(4) {
            let start = segment.ack.wrapping_add((1 + self.below(10)) * mss);
            blocks.extend([start, start.wrapping_add((1 + self.below(3)) * mss)]);
        }
        segment.options = self.options(flow.ts, &blocks);
        segment
    }

    /// What no peer should.
    fn bad(&mut self, flow: Flow) -> Segment {
        let all = TCPHDR_FIN | TCPHDR_SYN | TCPHDR_RST | TCPHDR_PSH | TCPHDR_ACK | TCPHDR_URG;
        let flags = match self.below(8) {
            0 => self.rng.next_u32() as u8,
            1 => self.rng.next_u32() as u8 & all,
            2 => TCPHDR_RST,
            3 => TCPHDR_ACK | TCPHDR_FIN,
            4 => TCPHDR_ACK | TCPHDR_URG,
            _ => TCPHDR_ACK,
        };
        let window = u32::from(flow.window) << 7;
        let seq = self.near(flow.ack, &[window, 64_240, 1448]);
        let ack = self.near(flow.end, &[flow.len, flow.len / 2, 1448, 65_535]);
        let blocks: Vec<u32> =
            (0..self.below(5)).map(|_| self.near(flow.end, &[1448, 5000])).collect();
        let timed = if self.rarely(5) { Some(self.rng.next_u32()) } else { flow.ts };
        Segment {
            ports: flow.ports,
            seq,
            ack,
            flags,
            window: self.pick(&[0, 0, 1, 500, 1448, 65_535]),
            urgent: self.pick(&[0, 0, 1, 2, 100, 1448, 65_535]),
            len: self.pick(&[0, 0, 1, 2, 100, 536, 1400, 1448]),
            options: self.options(timed, &blocks),
            spoilt: self.rarely(30),
        }
    }

    /// A number near another, or near one that lies so far from it.
    fn near(&mut self, base: u32, far: &[u32]) -> u32 {
        let step = self.pick(&[0, 0, 0, 1, u32::MAX, 2, 100, 1448, 2896, 0_u32.wrapping_sub(1448)]);
        match self.below(6) {
            0..=2 => base.wrapping_add(step),
            3 => base.wrapping_add(self.pick(far)).wrapping_add(step),
            4 => base.wrapping_sub(self.pick(far)).wrapping_add(step),
            _ if self.rarely(4) => self.rng.next_u32(),
            _ => base,
        }
    }

    fn options(&mut self, ts: Option<u32>, blocks: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let plain = self.manners > 2 && !self.rarely(4);
        if !plain && self.rarely(2) {
            let mss = self.pick(&[0_u16, 1, 48, 88, 536, 1460, 65_535]);
            bytes.extend([TCPOPT_MSS, 4]);
            bytes.extend(mss.to_be_bytes());
        }
        if plain && ts == Some(0) || self.rarely(2) {
            bytes.extend([TCPOPT_SACK_PERM, 2, TCPOPT_WINDOW, 3, self.below(20) as u8]);
        }
        if ts.is_some() || (!plain && self.rarely(2)) {
            // The peer's clock stands, goes, and jumps.
            let now = self.world.clock().peek().0 / 1_000_000;
            let jump = if plain { 0 } else { self.pick(&[0, 0, 1, 1000, u32::MAX, 1 << 31]) };
            let val = (now as u32).wrapping_add(jump);
            bytes.extend([TCPOPT_TIMESTAMP, 10]);
            bytes.extend(val.to_be_bytes());
            bytes.extend(ts.unwrap_or(0).to_be_bytes());
        }
        if !blocks.is_empty() {
            bytes.extend([TCPOPT_SACK, 2 + 4 * blocks.len() as u8]);
            blocks.iter().for_each(|edge| bytes.extend(edge.to_be_bytes()));
        }
        if !plain && self.rarely(8) {
            let junk = self.below(8);
            bytes.extend((0..junk).map(|_| self.rng.next_u32() as u8));
        }
        bytes.truncate(40);
        bytes.resize(bytes.len().next_multiple_of(4), TCPOPT_NOP);
        bytes
    }

    pub fn send(&mut self, segment: Segment) {
        let frame = segment.frame(PEER, &self.data);
        let mut batch = FrameBatch::new();
        batch.push(&frame, FrameMeta::default());
        self.port.transmit(&mut batch);
        if self.rarely(2) {
            self.world.settle();
        }
    }

    /// The end: the states its sockets were in, and the machine's counters.
    pub fn end(mut self) -> (u32, NetMib) {
        for fd in std::mem::take(&mut self.fds) {
            sys_close(&mut self.cx, fd).expect("open");
        }
        for _ in 0..60 {
            // Nobody answers, nobody takes the frames away.
            self.world.run_for(Duration::from_secs(60));
            self.listen_to();
            check(&self.machine);
        }
        nothing_left(&self.machine);
        drop(self.cx);
        let seen = (self.states, self.machine.mib());
        let _digest = self.world.end();
        seen
    }
}

/// A segment to the machine.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub len: usize,
    pub options: Vec<u8>,
    /// Its length of header or checksum is wrong.
    pub spoilt: bool,
}

impl Segment {
    pub fn frame(&self, from: Ipv4Addr, data: &[u8]) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.ports.1.to_be_bytes());
        tcp.extend(self.ports.0.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let words = (20 + self.options.len()) / 4;
        let doff = if self.spoilt { self.seq as u8 & 15 } else { words as u8 };
        tcp.extend([doff << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&self.options);
        tcp.extend(&data[..self.len]);
        let sum = csum_partial(&tcp, 0);
        let check = csum_tcpudp_magic(from.into(), LOCAL.into(), tcp.len() as u32, 6, sum);
        tcp[16..18].copy_from_slice(&check.to_be_bytes());
        let mut ip = [0_u8; 20];
        (ip[0], ip[8], ip[9]) = (0x45, 64, 6);
        ip[2..4].copy_from_slice(&(20 + tcp.len() as u16).to_be_bytes());
        ip[12..16].copy_from_slice(&from.octets());
        ip[16..20].copy_from_slice(&LOCAL.octets());
        let check = ip_fast_csum(&ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        [&MAC[..], &PEER_MAC, &[8, 0], &ip, &tcp].concat()
    }
}

/// What a frame of the machine says of a connection.
pub fn parse(frame: &[u8]) -> Option<Flow> {
    if frame.get(12..14)? != [8, 0] || *frame.get(23)? != 6 {
        return None;
    }
    let tcp = frame.get(34..)?;
    let two = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let four = |at: usize| Some(u32::from(two(at)?) << 16 | u32::from(two(at + 2)?));
    let (doff, flags) = (usize::from(tcp.get(12)? >> 4) * 4, *tcp.get(13)?);
    let len = tcp.len().checked_sub(doff)? as u32;
    let numbers = len + u32::from(flags & TCPHDR_SYN != 0) + u32::from(flags & TCPHDR_FIN != 0);
    let options = tcp.get(20..doff)?;
    let at = options.windows(2).position(|pair| pair == [TCPOPT_TIMESTAMP, 10]);
    let ts = at.and_then(|at| four(20 + at + 2));
    Some(Flow {
        ports: (two(0)?, two(2)?),
        end: four(4)?.wrapping_add(numbers),
        ack: four(8)?,
        window: two(14)?,
        flags,
        ts,
        len,
    })
}

#[test]
fn a_hostile_peer_and_a_careless_program() {
    let default = if cfg!(debug_assertions) { 200 } else { 1000 };
    let (mut states, mut counts) = (0, std::collections::BTreeMap::new());
    for seed in 0..seeds(default) {
        let mut abuse = Abuse::new(seed);
        for step in 0..STEPS {
            // Which seed it was is what a failure has to tell.
            let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| abuse.step()));
            if let Err(panic) = stepped {
                println!("seed {seed}, step {step}");
                std::panic::resume_unwind(panic);
            }
        }
        let (seen, mib) = abuse.end();
        states |= seen;
        for (_, name, count) in mib.nonzero() {
            *counts.entry(name).or_insert(0) += count;
        }
    }
    // Fewer come to everything only by luck.
    if seeds(default) >= 1000 {
        // Every state, and what only a connection can come to that stands and has troubles.
        assert_eq!(states, 0b1111_1011_1110, "states that no socket was in");
        for name in [
            "TCPHPHits",
            "TCPOFOQueue",
            "TCPOFOMerge",
            "TCPRcvCoalesce",
            "PruneCalled",
            "TCPSackRecovery",
            "TCPFastRetrans",
            "TCPSlowStartRetrans",
            "TCPSACKReorder",
            "TCPDSACKRecv",
            "TCPWinProbe",
            "SyncookiesRecv",
            "PassiveOpens",
            "TCPAbortOnTimeout",
            "TW",
        ] {
            assert_ne!(counts.get(name), None, "{name} never: {counts:#?}");
        }
    }
}

/// A segment with all flags made a socket of a request and was then refused; an acknowledgement of nothing,
/// behind it, established a connection whose SYN was not acknowledged.
#[test]
fn an_acknowledgement_of_nothing_establishes_no_connection() {
    let mut abuse = Abuse::new(0);
    let listening = crate::util::listener(&mut abuse.cx, LOCAL, 80, 5);
    abuse.fds.push(listening);
    let syn = Segment {
        ports: (80, 9001),
        seq: 1000,
        flags: TCPHDR_SYN,
        window: 65_535,
        ..Segment::default()
    };
    abuse.send(syn.clone());
    abuse.world.settle();
    abuse.listen_to();
    let answer = abuse.flows[0];
    assert_eq!((answer.flags, answer.ack), (TCPHDR_SYN | TCPHDR_ACK, 1001));
    let all = Segment { ack: answer.end, flags: TCPHDR_SYN | TCPHDR_ACK, len: 1, ..syn };
    let nothing =
        Segment { seq: 1001, ack: answer.end - 1, flags: TCPHDR_ACK, len: 0, ..all.clone() };
    for segment in [all, nothing] {
        abuse.send(segment);
        abuse.world.settle();
        check(&abuse.machine);
    }
    let reset = Segment {
        seq: 1001,
        ack: answer.end,
        flags: TCPHDR_ACK,
        window: 65_535,
        ..Segment::default()
    };
    abuse.send(Segment { ports: (80, 9001), ..reset });
    abuse.world.settle();
    let (accepted, _) =
        abuse.call(sys_accept4(listening, SOCK_NONBLOCK)).expect("at once").expect("there");
    abuse.fds.push(accepted);
    assert_eq!(info(&mut abuse.cx, accepted).tcpi_state, TCP_ESTABLISHED);
    abuse.end();
}
