//! What SACK blocks mean to a sender, segment by segment.

use crate::hostile::{Abuse, Flow, LOCAL, PEER, Segment};

use crate::util::{check, info, listener};
use drivers::net::wire_port::{FrameBatch, FrameMeta};
use stack::fs::sys_write;
use stack::net::core::snmp::Mib;
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::{sys_accept4, sys_setsockopt};
use std::time::Duration;
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::socket::{SOCK_NONBLOCK, SOL_TCP};
use uapi::tcp::*;

const MSS: u32 = 1460;

/// A connection of the lone machine with a peer that the test plays.
struct Sender {
    abuse: Abuse,
    fd: i32,
    /// Where the machine's octets begin.
    first: u32,
    /// The next octet of the peer.
    seq: u32,
}

impl Sender {
    /// It has sent so many full segments.
    fn with(segments: usize) -> Self {
        let mut abuse = Abuse::new(1);
        let listening = listener(&mut abuse.cx, LOCAL, 80, 5);
        abuse.fds.push(listening);
        let options = vec![TCPOPT_MSS, 4, 5, 180, TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK_PERM, 2];
        let ports = (80, 9001);
        let syn = Segment {
            ports,
            seq: 1000,
            flags: TCPHDR_SYN,
            window: 65_535,
            options,
            ..Segment::default()
        };
        abuse.send(syn);
        abuse.world.settle();
        abuse.listen_to();
        let Flow { end: first, .. } = abuse.flows[0];
        let mut sender = Self { abuse, fd: -1, first, seq: 1001 };
        sender.ack(0, &[]);
        let accepted = sender.abuse.call(sys_accept4(listening, SOCK_NONBLOCK));
        sender.fd = accepted.expect("at once").expect("there").0;
        sender.abuse.fds.push(sender.fd);
        let data = vec![7; segments * MSS as usize];
        let (fd, len) = (sender.fd, data.len());
        assert_eq!(sender.abuse.call(sys_write(fd, &data)), Some(Ok(len)));
        sender.abuse.world.settle();
        sender
    }

    /// The peer acknowledges so many octets and reports blocks, counted from the first one.
    fn ack(&mut self, octets: u32, blocks: &[(u32, u32)]) {
        let mut options = Vec::new();
        if !blocks.is_empty() {
            options.extend([TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK, 2 + 8 * blocks.len() as u8]);
            for edge in blocks.iter().flat_map(|(start, end)| [start, end]) {
                options.extend(self.first.wrapping_add(*edge).to_be_bytes());
            }
        }
        self.abuse.send(Segment {
            ports: (80, 9001),
            seq: self.seq,
            ack: self.first.wrapping_add(octets),
            flags: TCPHDR_ACK,
            window: 65_535,
            options,
            ..Segment::default()
        });
        self.abuse.world.settle();
        check(&self.abuse.machine);
    }

    /// The peer sends segments of 100 octets at once, at so many segments from the next in order.
    fn send(&mut self, places: &[u32]) {
        let mut batch = FrameBatch::new();
        for place in places {
            let segment = Segment {
                ports: (80, 9001),
                seq: self.seq + 100 * place,
                ack: self.first,
                flags: TCPHDR_ACK,
                window: 65_535,
                len: 100,
                ..Segment::default()
            };
            batch.push(&segment.frame(PEER, &[7; 100]), FrameMeta::default());
        }
        self.abuse.port.transmit(&mut batch);
    }

    /// The same; how many answers there are.
    fn early(&mut self, places: &[u32]) -> i128 {
        let before = self.count(TcpMib::OutSegs);
        self.send(places);
        self.abuse.world.settle();
        // So late a timer may be (`tcp_comp_sack_slack_ns`).
        self.abuse.world.run_for(Duration::from_micros(150));
        check(&self.abuse.machine);
        self.count(TcpMib::OutSegs) - before
    }

    fn info(&mut self) -> TcpInfo {
        info(&mut self.abuse.cx, self.fd)
    }

    fn count(&self, mib: impl Into<Mib>) -> i128 {
        self.abuse.machine.mib().get(mib).into()
    }
}

/// What comes out of order in a rush is reported now and then: three at once, then one for all that come within a
/// twentieth of a round trip, which here is no time at all.
#[test]
fn selective_acknowledgements_are_held_back_in_a_rush() {
    let mut sender = Sender::with(0);
    // The first ones of a connection would all go at once.
    let off = 0_i32.to_ne_bytes();
    let fd = sender.fd;
    sys_setsockopt(&mut sender.abuse.cx, fd, SOL_TCP, TCP_QUICKACK, &off).expect("a switch");
    // In one block: three at once, one for the seven others.
    assert_eq!(sender.early(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 4);
    assert_eq!(sender.count(LinuxMib::TCPAckCompressed), 6);
    let before = sender.count(TcpMib::OutSegs);
    sender.abuse.world.run_for(Duration::from_secs(1));
    assert_eq!(sender.count(TcpMib::OutSegs), before, "and no more");
    assert_eq!(sender.early(&[11, 12, 13]), 1);
    // A block beyond two is not to push out what nobody was told of: that is reported first. As in Linux this
    // answers the segment, too, so that its own block is told of with the next one.
    assert_eq!(sender.early(&[15, 17, 19]), 2);
    // What fills the hole is answered at once, for all that was held back.
    assert_eq!(sender.early(&[20, 0]), 1);
    assert_eq!(sender.count(LinuxMib::TCPAckCompressed), 9);
    // Switched off, each has its answer.
    update_sysctls(&mut sender.abuse.cx, |sysctl| sysctl.tcp.comp_sack_nr = 0);
    assert_eq!(sender.early(&[22, 23, 24, 25, 26]), 5);
    let _seen = sender.abuse.end();
}

#[test]
fn what_is_held_back_ends_with_the_connection() {
    let mut sender = Sender::with(0);
    let off = 0_i32.to_ne_bytes();
    let fd = sender.fd;
    sys_setsockopt(&mut sender.abuse.cx, fd, SOL_TCP, TCP_QUICKACK, &off).expect("a switch");
    let before = sender.count(TcpMib::OutSegs);
    // The reset comes in the same rush: nothing is sent any more.
    sender.send(&[1, 2, 3, 4, 5, 6]);
    sender.abuse.send(Segment {
        ports: (80, 9001),
        seq: sender.seq,
        flags: TCPHDR_RST,
        ..Segment::default()
    });
    sender.abuse.world.run_for(Duration::from_secs(1));
    assert_eq!(sender.count(TcpMib::OutSegs) - before, 3, "three at once");
    assert_eq!(sender.count(LinuxMib::TCPAckCompressed), 0);
    let _seen = sender.abuse.end();
}

#[test]
fn a_segment_reported_in_two_halves_has_arrived() {
    let mut sender = Sender::with(4);
    sender.ack(0, &[(MSS, MSS + 700)]);
    assert_eq!(sender.info().tcpi_sacked, 0);
    sender.ack(0, &[(MSS, 2 * MSS)]);
    assert_eq!(sender.info().tcpi_sacked, 1);
    // And the other way round.
    sender.ack(0, &[(2 * MSS + 500, 3 * MSS), (MSS, 2 * MSS)]);
    assert_eq!(sender.info().tcpi_sacked, 1);
    sender.ack(0, &[(2 * MSS, 3 * MSS), (MSS, 2 * MSS)]);
    assert_eq!(sender.info().tcpi_sacked, 2);
    sender.ack(4 * MSS, &[]);
    let _seen = sender.abuse.end();
}

#[test]
fn a_duplicate_that_is_acknowledged_is_taken_for_one() {
    let mut sender = Sender::with(3);
    sender.abuse.world.run_for(Duration::from_millis(1100));
    assert!(sender.info().tcpi_total_retrans > 0, "the first one went again");
    // It had arrived before: the copy came twice.
    sender.ack(MSS, &[(0, MSS)]);
    assert_eq!(sender.count(LinuxMib::TCPDSACKRecv), 1);
    assert_eq!(sender.count(LinuxMib::TCPDSACKIgnoredOld), 0);
    // One that is said to reach beyond what is acknowledged is none.
    sender.ack(MSS, &[(MSS / 2, 2 * MSS)]);
    assert_eq!(sender.count(LinuxMib::TCPDSACKIgnoredOld), 1);
    sender.ack(3 * MSS, &[]);
    let _seen = sender.abuse.end();
}
