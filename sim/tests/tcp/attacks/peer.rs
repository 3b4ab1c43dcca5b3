//! A machine that is attacked, and whoever attacks it.

use crate::hostile::{Abuse, Flow, LOCAL, MAC, PEER, PEER_MAC, Segment, parse};
use crate::util::{addr, check, info, listener};
use drivers::net::wire_port::{FrameBatch, FrameMeta};
use klib::checksum::{csum_fold, csum_partial, ip_fast_csum};
use stack::net::core::dev::DevId;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::sysctl::{Sysctls, update_sysctls};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{
    sys_accept4, sys_connect, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket,
};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::icmp::ICMP_DEST_UNREACH;
use uapi::snmp::LinuxMib;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_NONBLOCK, SOCK_STREAM};
use uapi::tcp::*;

/// The port that it listens at.
pub const PORT: u16 = 80;
/// Options of a SYN that offers 1460 octets, SACK and a window scale of 7.
pub const OPTIONS: [u8; 12] = [2, 4, 5, 180, 4, 2, 1, 1, 3, 3, 7, 1];

/// A segment of the machine.
#[derive(Clone, Debug)]
pub struct Said {
    pub flow: Flow,
    /// All of it, from its TCP header on.
    pub tcp: Vec<u8>,
}

impl Said {
    pub fn is_reset(&self) -> bool {
        self.flow.flags & TCPHDR_RST != 0
    }

    pub fn is_syn_ack(&self) -> bool {
        self.flow.flags & (TCPHDR_SYN | TCPHDR_ACK) == TCPHDR_SYN | TCPHDR_ACK
    }

    /// Its sequence number.
    pub fn seq(&self) -> u32 {
        u32::from_be_bytes(self.tcp[4..8].try_into().expect("four"))
    }
}

/// A connection of the machine, as its peer knows it.
#[derive(Clone, Copy, Debug)]
pub struct Conn {
    pub fd: i32,
    pub ports: (u16, u16),
    /// What the peer sends next.
    pub seq: u32,
    /// The first octet of the machine.
    pub first: u32,
    /// The peer's timestamp, and the machine's, if they have any.
    pub ts: Option<(u32, u32)>,
}

impl Conn {
    /// What the peer would send next: an acknowledgement of the machine's first `acked` octets.
    pub fn ack(&self, acked: u32) -> Segment {
        Segment {
            ports: self.ports,
            seq: self.seq,
            ack: self.first.wrapping_add(acked),
            flags: TCPHDR_ACK,
            window: 65_535,
            options: self.ts.map_or_else(Vec::new, timestamps),
            ..Segment::default()
        }
    }

    /// Data of the peer, so far from what comes next.
    pub fn data(&self, at: u32, len: usize) -> Segment {
        Segment { seq: self.seq.wrapping_add(at), len, ..self.ack(0) }
    }
}

/// The option, padded.
pub fn timestamps((val, ecr): (u32, u32)) -> Vec<u8> {
    [&[1, 1, TCPOPT_TIMESTAMP, 10][..], &val.to_be_bytes(), &ecr.to_be_bytes()].concat()
}

/// A lone machine with a listener.
pub struct Victim {
    pub abuse: Abuse,
    pub listening: i32,
    /// Octets to send.
    data: Vec<u8>,
}

impl Victim {
    pub fn new() -> Self {
        Self::with_seed(1)
    }

    pub fn with_seed(seed: u64) -> Self {
        let mut abuse = Abuse::new(seed);
        let listening = listener(&mut abuse.cx, LOCAL, PORT, 128);
        abuse.fds.push(listening);
        Self { abuse, listening, data: vec![0x5a; 4096] }
    }

    pub fn set(&mut self, change: impl FnOnce(&mut Sysctls)) {
        update_sysctls(&mut self.abuse.cx, change);
    }

    /// Another host on the link, whose address is known.
    pub fn neighbour(&mut self, ip: Ipv4Addr) {
        let dev = DevId(2); // Behind loopback.
        let key = NeighKey { dev, addr: ip.into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(&mut self.abuse.cx, key, PEER_MAC, state).expect("room for one");
    }

    /// Everybody who is not on the link is behind the peer.
    pub fn route_back(&mut self) {
        let via = FibInfo { gateway: PEER.into(), ..FibInfo::default() };
        fib_new_route(&mut self.abuse.cx, 0, 0, via).expect("the peer is on the link");
    }

    pub fn count(&self, mib: LinuxMib) -> i128 {
        self.abuse.machine.mib().get(mib).into()
    }

    /// Lets time pass; what the machine said by itself.
    pub fn wait(&mut self, time: Duration) -> Vec<Said> {
        self.abuse.world.run_for(time);
        self.hear()
    }

    /// What the machine said.
    pub fn hear(&mut self) -> Vec<Said> {
        let (mut said, mut batch) = (Vec::new(), FrameBatch::new());
        while self.abuse.port.receive(64, &mut batch) != 0 {
            for (frame, _) in batch.iter() {
                let Some(flow) = parse(frame) else { continue };
                said.push(Said { flow, tcp: frame[34..].to_vec() });
            }
            batch.clear();
        }
        said
    }

    /// Sends frames as they are, and hears the answers.
    pub fn frames(&mut self, frames: &[Vec<u8>]) -> Vec<Said> {
        let mut said = Vec::new();
        for some in frames.chunks(64) {
            let mut batch = FrameBatch::new();
            for frame in some {
                batch.push(frame, FrameMeta::default());
            }
            self.abuse.port.transmit(&mut batch);
            self.abuse.world.settle();
            said.extend(self.hear());
        }
        check(&self.abuse.machine);
        said
    }

    /// The peer sends a segment; the answers.
    pub fn tell(&mut self, segment: &Segment) -> Vec<Said> {
        self.tell_from(PEER, segment)
    }

    pub fn tell_from(&mut self, from: Ipv4Addr, segment: &Segment) -> Vec<Said> {
        let frame = segment.frame(from, &self.data);
        self.frames(&[frame])
    }

    /// Many at once.
    pub fn tell_all(&mut self, segments: &[Segment]) -> Vec<Said> {
        let frames: Vec<_> = segments.iter().map(|one| one.frame(PEER, &self.data)).collect();
        self.frames(&frames)
    }

    /// A host that ICMP names sends an error about a segment of the machine.
    pub fn icmp_error(&mut self, code: u8, info: u16, quoted: ((u16, u16), u32)) -> Vec<Said> {
        let ((sport, dport), seq) = quoted;
        let mut inner = ip(6, (LOCAL, PEER), 20 + 20);
        inner.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
        inner.extend(seq.to_be_bytes());
        let mut icmp = vec![ICMP_DEST_UNREACH, code, 0, 0, 0, 0];
        icmp.extend(info.to_be_bytes());
        icmp.extend(inner);
        let sum = csum_fold(csum_partial(&icmp, 0));
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let head = ip(1, (PEER, LOCAL), 20 + icmp.len());
        self.frames(&[[&MAC[..], &PEER_MAC, &[8, 0], &head, &icmp].concat()])
    }

    /// A SYN from this port of the peer.
    pub fn syn(port: u16, options: &[u8]) -> Segment {
        Segment {
            ports: (PORT, port),
            seq: 1000,
            flags: TCPHDR_SYN,
            window: 65_535,
            options: options.to_vec(),
            ..Segment::default()
        }
    }

    /// A connection from this port of the peer, accepted.
    pub fn connect(&mut self, port: u16) -> Conn {
        self.connect_with(port, &OPTIONS)
    }

    pub fn connect_with(&mut self, port: u16, options: &[u8]) -> Conn {
        let said = self.tell(&Self::syn(port, options));
        let [answer] = &said[..] else { panic!("a SYN-ACK, not {said:?}") };
        assert!(answer.is_syn_ack(), "{answer:?}");
        let val = options.windows(2).position(|two| two == [TCPOPT_TIMESTAMP, 10]);
        let val = val.map(|at| {
            let val = options[at + 2..at + 6].try_into().expect("four");
            (u32::from_be_bytes(val), answer.flow.ts.expect("agreed"))
        });
        let first = answer.flow.end;
        let mut conn = Conn { fd: -1, ports: (PORT, port), seq: 1001, first, ts: val };
        self.tell(&conn.ack(0));
        conn.fd = self.accept().expect("it is there");
        conn
    }

    pub fn accept(&mut self) -> Option<i32> {
        let (fd, _) = self.abuse.call(sys_accept4(self.listening, SOCK_NONBLOCK))?.ok()?;
        self.abuse.fds.push(fd);
        Some(fd)
    }

    /// Begins to connect to a port of a host; the SYN.
    pub fn begin_to(&mut self, ip: Ipv4Addr, port: u16) -> (i32, Said) {
        let fd = sys_socket(&mut self.abuse.cx, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        let fd = fd.expect("room");
        self.abuse.fds.push(fd);
        let begun = self.abuse.call(sys_connect(fd, &addr(ip, port)));
        assert_eq!(begun, Some(Err(Errno::EINPROGRESS)));
        self.abuse.world.settle();
        let syn = self.hear().pop().expect("a SYN");
        (fd, syn)
    }

    /// The program writes; the segments that follow.
    pub fn write(&mut self, conn: &Conn, data: &[u8]) -> (usize, Vec<Said>) {
        let wrote = self.abuse.call(sys_sendto(conn.fd, data, MSG_DONTWAIT, None));
        self.abuse.world.settle();
        (wrote.expect("at once").unwrap_or(0), self.hear())
    }

    /// Reads what there is.
    pub fn read(&mut self, conn: &Conn, room: &mut [u8]) -> Result<usize, Errno> {
        let read = self.abuse.call(sys_recvfrom(conn.fd, room, MSG_DONTWAIT)).expect("at once");
        self.abuse.world.settle();
        read.map(|(len, _)| len)
    }

    pub fn option(&mut self, conn: &Conn, (level, name): (i32, i32), value: i32) {
        sys_setsockopt(&mut self.abuse.cx, conn.fd, level, name, &value.to_ne_bytes())
            .expect("known");
    }

    pub fn close(&mut self, conn: &Conn) -> Vec<Said> {
        self.abuse.fds.retain(|fd| *fd != conn.fd);
        stack::fs::sys_close(&mut self.abuse.cx, conn.fd).expect("open");
        self.abuse.world.settle();
        self.hear()
    }

    pub fn info(&mut self, conn: &Conn) -> TcpInfo {
        info(&mut self.abuse.cx, conn.fd)
    }

    pub fn is_established(&mut self, conn: &Conn) -> bool {
        self.info(conn).tcpi_state == TCP_ESTABLISHED
    }

    /// Octets of packets that the machine holds.
    pub fn memory(&self) -> usize {
        self.abuse.machine.packet_memory()
    }

    pub fn end(self) {
        let _seen = self.abuse.end();
    }
}

/// An IP header, for so many octets in all.
fn ip(protocol: u8, (from, to): (Ipv4Addr, Ipv4Addr), len: usize) -> Vec<u8> {
    let mut ip = [0_u8; 20];
    (ip[0], ip[8], ip[9]) = (0x45, 64, protocol);
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let check = ip_fast_csum(&ip);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    ip.to_vec()
}
