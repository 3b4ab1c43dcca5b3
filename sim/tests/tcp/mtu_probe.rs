//! Probing for the MTU of a way that swallows longer packets without a word (RFC 4821).

use crate::attacks::peer::{Conn, OPTIONS, Said, Victim};
use crate::hostile::{PEER, Segment};
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::tcp::*;

const RTT: Duration = Duration::from_millis(20);
const PORT: u16 = 9001;
/// Octets that the program writes at once.
const CHUNK: usize = 20_001;

/// The octet at a place of the stream.
fn octet(at: usize) -> u8 {
    (at % 251) as u8
}

/// A connection over such a way. The peer answers each segment that arrives, with SACK.
struct Way {
    victim: Victim,
    conn: Conn,
    /// No longer packet arrives.
    mtu: usize,
    /// Octets written.
    written: usize,
    /// Which of them have arrived.
    arrived: Vec<bool>,
    /// On the way to the peer.
    sent: Vec<Said>,
    /// So many of them are acknowledged.
    acked: usize,
    /// Octets of the latest segment with data.
    latest: u32,
}

impl Way {
    fn new(victim: Victim, conn: Conn, mtu: usize) -> Self {
        let (arrived, sent) = (Vec::new(), Vec::new());
        Self { victim, conn, mtu, written: 0, arrived, sent, acked: 0, latest: 0 }
    }

    /// The machine connects.
    fn open(mtu: usize) -> Self {
        let mut victim = Victim::new();
        victim.set(|sysctls| sysctls.tcp.mtu.mtu_probing = 2);
        let (fd, syn) = victim.begin_to(PEER, PORT);
        let (ports, first) = (syn.flow.ports, syn.flow.end);
        let conn = Conn { fd, ports, seq: 1001, first, ts: None };
        let flags = TCPHDR_SYN | TCPHDR_ACK;
        let options = OPTIONS.to_vec();
        victim.tell(&Segment { seq: 1000, flags, options, ..conn.ack(0) });
        Self::new(victim, conn, mtu)
    }

    /// The peer connects.
    fn accept(probing: u8, mtu: usize) -> Self {
        let mut victim = Victim::new();
        victim.set(|sysctls| sysctls.tcp.mtu.mtu_probing = probing);
        let conn = victim.connect(PORT);
        Self::new(victim, conn, mtu)
    }

    /// The program writes what the buffer takes, `most` octets at the most.
    fn write(&mut self, most: usize) {
        let end = self.written + most;
        while self.written < end {
            let len = CHUNK.min(end - self.written);
            let data: Vec<_> = (self.written..self.written + len).map(octet).collect();
            let (wrote, said) = self.victim.write(&self.conn, &data);
            self.written += wrote;
            self.sent.extend(said);
            if wrote < len {
                break;
            }
        }
        self.arrived.resize(self.written, false);
    }

    /// A segment arrives; the answer.
    fn arrive(&mut self, said: &Said) -> Option<Segment> {
        let len = said.flow.len as usize;
        let at = said.seq().wrapping_sub(self.conn.first) as usize;
        if len == 0 {
            return None;
        }
        self.latest = said.flow.len;
        // Its IP header has 20 octets.
        if 20 + said.tcp.len() > self.mtu {
            return None;
        }
        let data = &said.tcp[said.tcp.len() - len..];
        assert!(data.iter().enumerate().all(|(n, byte)| *byte == octet(at + n)), "at {at}");
        self.arrived[at..at + len].fill(true);
        let count = |from: usize, is: bool| {
            self.arrived[from..].iter().take_while(|arrived| **arrived == is).count()
        };
        let acked = self.acked + count(self.acked, true);
        let mut answer = self.conn.ack(acked as u32);
        if at > acked {
            let start = at - self.arrived[..at].iter().rev().take_while(|one| **one).count();
            let end = at + count(at, true);
            answer.options = vec![TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK, 10];
            for edge in [start, end] {
                let edge = self.conn.first.wrapping_add(edge as u32);
                answer.options.extend(edge.to_be_bytes());
            }
        }
        self.acked = acked;
        Some(answer)
    }

    /// One after another, what was sent arrives, and the answers do.
    fn round(&mut self, time: Duration) {
        let sent = std::mem::take(&mut self.sent);
        self.sent = self.victim.wait(time);
        for said in sent {
            if let Some(answer) = self.arrive(&said) {
                let answers = self.victim.tell(&answer);
                self.sent.extend(answers);
            }
        }
    }

    /// The program always has something to send, for so many round trips.
    fn stream(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.write(2 * CHUNK);
            self.round(RTT);
        }
    }

    /// All that was written has arrived within this time.
    fn finish(&mut self, most: Duration) -> bool {
        let step = 5 * RTT;
        for _ in 0..most.as_millis() / step.as_millis() {
            self.round(step);
        }
        !self.arrived.contains(&false)
    }

    fn mss(&mut self) -> usize {
        self.victim.info(&self.conn).tcpi_snd_mss as usize
    }

    /// Probes that arrived, and that did not.
    fn probes(&self) -> (i128, i128) {
        let count = |mib| self.victim.count(mib);
        (count(LinuxMib::TCPMTUPSuccess), count(LinuxMib::TCPMTUPFail))
    }
}

#[test]
fn a_connection_finds_how_long_its_packets_may_be() {
    for mtu in [1500, 1400, 1281, 1100] {
        let mut way = Way::open(mtu);
        assert_eq!(way.mss(), 1024, "what it begins with");
        way.stream(40);
        let (mss, probes) = (way.mss(), way.probes());
        assert!((mtu - 40 - 8..=mtu - 40).contains(&mss), "{mss} on a way of {mtu}");
        assert!(probes.0 > 0 && probes.0 + probes.1 <= 6, "{mtu}: {probes:?}");
        assert_eq!(probes.1 == 0, mtu == 1500, "{mtu}: {probes:?}");
        // A probe that is lost is no sign of congestion.
        assert_eq!(way.victim.count(LinuxMib::TCPTimeouts), 0, "{mtu}");
        assert_eq!(way.victim.count(LinuxMib::TCPSackRecovery), 0, "{mtu}");
        assert_eq!(way.victim.info(&way.conn).tcpi_snd_ssthresh, i32::MAX as u32, "{mtu}");
        assert!(way.finish(Duration::from_secs(2)), "{mtu}");
        way.victim.end();
    }
}

#[test]
fn a_way_that_has_become_wider_is_found_after_a_while() {
    let mut way = Way::open(1100);
    way.stream(40);
    let before = (way.mss(), way.probes());
    way.mtu = 1500;
    way.stream(40);
    assert_eq!((way.mss(), way.probes()), before, "too early");
    assert!(way.finish(Duration::from_secs(600)));
    way.stream(40);
    let mss = way.mss();
    assert!((1452..=1460).contains(&mss), "{mss}");
    way.victim.end();
}

#[test]
fn a_way_that_swallows_long_packets_is_found_by_time_outs() {
    for (probing, passes) in [(0, false), (1, true)] {
        let mut way = Way::accept(probing, 600);
        way.write(8000);
        assert_eq!(way.finish(Duration::from_secs(60)), passes, "{probing}");
        let mss = way.mss();
        assert!(if passes { (500..=560).contains(&mss) } else { mss == 1460 }, "{mss}");
        way.victim.end();
    }
}

#[test]
fn segments_become_no_shorter_than_is_set() {
    for (floor, shortest) in [(48, 48), (200, 200)] {
        let mut way = Way::accept(1, 0);
        way.victim.set(|sysctls| sysctls.tcp.mtu.mtu_probe_floor = floor);
        way.write(8000);
        assert!(!way.finish(Duration::from_secs(600)));
        assert_eq!(way.latest, shortest);
        assert_eq!(way.mss(), shortest as usize);
        way.victim.end();
    }
}
