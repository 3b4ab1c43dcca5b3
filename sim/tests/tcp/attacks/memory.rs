//! Segments that cost more than they carry (CVE-2018-5390).

use super::peer::{Conn, Victim};
use crate::hostile::Segment;
use uapi::errno::Errno;
use uapi::snmp::LinuxMib;
use uapi::socket::{SO_RCVBUF, SOL_SOCKET};

/// What a connection may hold: its buffer, and what lies between the wire and it.
const BOUND: usize = 2 << 20;

fn with_buffer(victim: &mut Victim) -> Conn {
    let conn = victim.connect(9001);
    victim.option(&conn, (SOL_SOCKET, SO_RCVBUF), 65_536);
    conn
}

/// Octets one by one, each second one: from the front, from behind, and in no order.
#[test]
fn attack_segment_smack() {
    for order in 0..3 {
        let mut victim = Victim::new();
        let conn = with_buffer(&mut victim);
        let places: Vec<u32> = match order {
            0 => (0..12_000).map(|n| 1 + 2 * n).collect(),
            1 => (0..12_000).rev().map(|n| 1 + 2 * n).collect(),
            _ => (0..12_000).map(|n| 1 + 2 * (n * 7919 % 12_000)).collect(),
        };
        let mut most = 0;
        for some in places.chunks(500) {
            let segments: Vec<_> = some.iter().map(|at| conn.data(*at, 1)).collect();
            victim.tell_all(&segments);
            most = most.max(victim.memory());
        }
        assert!(most < BOUND, "{most} octets");
        let live = victim.abuse.machine.live_skbs();
        assert!(live < 1000, "{live} segments in a buffer of 128 KiB");
        // What is thrown away goes at once by the eighth of a buffer: not a segment for each that comes.
        let pruned = victim.count(LinuxMib::OfoPruned);
        assert!((1..12_000 / 20).contains(&pruned), "{pruned} prunings");
        assert_eq!(victim.count(LinuxMib::TCPRcvCollapsed), 0, "nothing is in order");
        fill(&mut victim, &conn, 24_000);
        victim.end();
    }
}

/// The peer sends it all in order, and the program gets it.
fn fill(victim: &mut Victim, conn: &Conn, len: u32) {
    let mut got = 0;
    while got < len {
        victim.tell(&conn.data(got, 1000));
        got += victim.read(conn, &mut [0; 4096]).expect("in order") as u32;
    }
}

/// Octets in order, that nobody reads: packed together, and never more than the buffer.
#[test]
fn attack_tiny_segments_in_order() {
    let mut victim = Victim::new();
    let conn = with_buffer(&mut victim);
    let mut most = 0;
    for n in 0..40 {
        let segments: Vec<_> = (0..500).map(|at| conn.data(n * 500 + at, 1)).collect();
        victim.tell_all(&segments);
        most = most.max(victim.memory());
    }
    assert!(most < BOUND, "{most} octets");
    let merged = victim.count(LinuxMib::TCPRcvCoalesce) + victim.count(LinuxMib::TCPRcvCollapsed);
    assert!(merged >= 19_000, "{merged} of 20000");
    assert!(merged <= 40_000, "each octet is moved a few times: {merged}");
    let mut got = 0;
    while let Ok(len @ 1..) = victim.read(&conn, &mut [0; 4096]) {
        got += len;
    }
    assert_eq!(got, 20_000);
    victim.end();
}

/// Segments that overlap in all ways, with other octets: what came first stays, in bounds.
#[test]
fn attack_overlapping_segments() {
    let mut victim = Victim::new();
    let conn = with_buffer(&mut victim);
    let mut seed = 1_u32;
    for _ in 0..40 {
        let segments: Vec<Segment> = (0..250)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                conn.data(1 + (seed >> 8) % 30_000, 1 + (seed >> 24) as usize * 5)
            })
            .collect();
        victim.tell_all(&segments);
        assert!(victim.memory() < BOUND, "{} octets", victim.memory());
    }
    assert_eq!(victim.read(&conn, &mut [0; 8]), Err(Errno::EAGAIN), "the first octet is missing");
    fill(&mut victim, &conn, 40_000);
    victim.end();
}

/// More than the window, again and again: nothing of it is kept.
#[test]
fn attack_data_beyond_the_window() {
    let mut victim = Victim::new();
    let conn = with_buffer(&mut victim);
    let mut sent = 0;
    for _ in 0..200 {
        victim.tell(&conn.data(sent, 1400));
        sent += 1400;
    }
    let memory = victim.memory();
    for n in 0..2000 {
        victim.tell(&conn.data(sent + n * 1400, 1400));
    }
    assert!(victim.memory() <= memory.max(BOUND / 4), "{} from {memory}", victim.memory());
    assert!(victim.is_established(&conn));
    victim.end();
}

/// Many connections with a full buffer each: together they have what TCP may have.
#[test]
fn attack_many_full_buffers() {
    let mut victim = Victim::new();
    // 4 MiB.
    victim.set(|sysctl| sysctl.tcp.mem = [512, 768, 1024]);
    let conns: Vec<Conn> = (0..100).map(|n| victim.connect(9000 + n)).collect();
    for round in 0..60 {
        let segments: Vec<_> = conns.iter().map(|conn| conn.data(1400 * round, 1400)).collect();
        victim.tell_all(&segments);
        // Each of them may hold one segment all the same.
        assert!(victim.memory() < 6 << 20, "{} octets", victim.memory());
    }
    assert!(conns.iter().all(|conn| victim.is_established(conn)));
    victim.end();
}
