//! Acknowledgements that lie: SACK panic and its relatives, optimistic ones, divided ones, reneging.

use super::peer::{Conn, OPTIONS, Victim};
use crate::hostile::Segment;
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::socket::{SO_SNDBUF, SOL_SOCKET};
use uapi::tcp::*;

/// An acknowledgement of `acked` octets with blocks, counted from the first octet.
fn sack(conn: &Conn, acked: u32, blocks: &[(u32, u32)]) -> Segment {
    let mut options = vec![1, 1, TCPOPT_SACK, 2 + 8 * blocks.len() as u8];
    for edge in blocks.iter().flat_map(|(start, end)| [start, end]) {
        options.extend(conn.first.wrapping_add(*edge).to_be_bytes());
    }
    Segment { options, ..conn.ack(acked) }
}

/// A SYN's options that offer this segment size, and SACK.
fn offers(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![TCPOPT_MSS, 4, high, low, TCPOPT_SACK_PERM, 2, 1, 1, TCPOPT_WINDOW, 3, 7, 1]
}

/// Tiny segments: what a segment carries has a floor (CVE-2019-11479).
#[test]
fn attack_tiny_segment_size() {
    for mss in [0, 1, 8, 12, 47, 48] {
        let mut victim = Victim::new();
        let conn = victim.connect_with(9001, &offers(mss));
        let (_, said) = victim.write(&conn, &[1; 2000]);
        let sizes: Vec<u32> = said.iter().map(|said| said.flow.len).collect();
        assert!(!sizes.is_empty() && sizes.iter().all(|size| *size >= 48), "{mss}: {sizes:?}");
        victim.end();
    }
    let mut victim = Victim::new();
    victim.set(|sysctl| sysctl.tcp.min_snd_mss = 200);
    let conn = victim.connect_with(9001, &offers(48));
    let (_, said) = victim.write(&conn, &[1; 2000]);
    assert!(said.iter().all(|said| said.flow.len >= 200), "{said:?}");
    victim.end();
}

/// A connection whose peer took everything so far: its window of congestion is wide. Octets so far.
fn grown(victim: &mut Victim, conn: &Conn, most: u32) -> u32 {
    let (mut sent, mut written) = (0, 0);
    while written < most {
        let (wrote, said) = victim.write(conn, &vec![7; 65_536]);
        written += wrote as u32;
        sent += said.iter().map(|said| said.flow.len).sum::<u32>();
        while sent != 0 {
            let una = written - victim.info(conn).tcpi_notsent_bytes;
            sent = victim.tell(&conn.ack(una)).iter().map(|said| said.flow.len).sum();
        }
    }
    written
}

/// Every second octet is reported, one block at a time (CVE-2019-11477, CVE-2019-11478).
#[test]
fn attack_sack_panic() {
    let mut victim = Victim::new();
    let conn = victim.connect_with(9001, &offers(48));
    let from = grown(&mut victim, &conn, 400_000);
    let (mut sent, mut written) = (0, from);
    for _ in 0..40 {
        let (wrote, said) = victim.write(&conn, &[7; 65_536]);
        written += wrote as u32;
        sent += said.iter().map(|said| said.flow.len).sum::<u32>();
    }
    assert!(sent > 100_000, "{sent}");
    // The buffer shrinks under what is under way.
    victim.option(&conn, (SOL_SOCKET, SO_SNDBUF), 4096);
    let before = victim.memory();
    // Every second segment, from behind: each block cuts what lies in one piece.
    for at in (1..sent / 96).rev() {
        let at = from + 96 * at;
        victim.tell(&sack(&conn, from, &[(at, at + 48)]));
    }
    assert!(victim.memory() <= before + (1 << 20), "{} from {before}", victim.memory());
    let (queued, refused) =
        (victim.abuse.machine.live_skbs(), victim.count(LinuxMib::TCPWqueueTooBig));
    println!("{sent} octets in {queued} pieces, {refused} cuts refused");
    assert!(queued < 1500 && refused > 1000, "{queued} pieces, {refused} cuts refused");
    assert!(victim.is_established(&conn));
    // It goes on all the same.
    for _ in 0..200 {
        victim.wait(Duration::from_secs(1));
        let una = written - victim.info(&conn).tcpi_notsent_bytes;
        victim.tell(&conn.ack(una));
    }
    assert_eq!(victim.info(&conn).tcpi_unacked, 0);
    victim.end();
}

/// Much is queued, then the buffer shrinks: what was written goes out all the same, cut as it must be.
#[test]
fn attack_fragment_limit_does_not_stop_the_connection() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    let from = grown(&mut victim, &conn, 2 << 20);
    // A closed window: everything stays here.
    victim.tell(&Segment { window: 0, ..conn.ack(from) });
    let (mut queued, mut wrote) = (0_u32, 1);
    while wrote != 0 {
        wrote = victim.write(&conn, &vec![7; 65_536]).0;
        queued += wrote as u32;
    }
    assert!(queued > 400_000, "{queued} octets queued");
    victim.option(&conn, (SOL_SOCKET, SO_SNDBUF), 1);
    // A narrow one: every packet is to be cut.
    let (mut acked, mut rounds) = (0, 0);
    while acked < queued.min(100_000) {
        let narrow = Segment { window: 12, ..conn.ack(from.wrapping_add(acked)) };
        let mut said = victim.tell(&narrow);
        if said.is_empty() {
            said = victim.wait(Duration::from_secs(2));
        }
        acked += said.iter().map(|said| said.flow.len).sum::<u32>().min(1536);
        rounds += 1;
        assert!(rounds < 1000, "{acked} of {queued} after {rounds} rounds");
    }
    victim.end();
}

/// Acknowledgements of what was not sent, ever farther: nothing is sent because of them.
#[test]
fn attack_optimistic_acks() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    let (_, said) = victim.write(&conn, &[7; 65_536]);
    let sent: u32 = said.iter().map(|said| said.flow.len).sum();
    let window = victim.info(&conn).tcpi_snd_cwnd;
    for ahead in (1..100_000).step_by(1000) {
        let said = victim.tell(&conn.ack(sent + ahead));
        assert!(said.iter().all(|said| said.flow.len == 0), "{said:?}");
    }
    let info = victim.info(&conn);
    assert_eq!((info.tcpi_snd_cwnd, info.tcpi_bytes_acked), (window, 0));
    assert_eq!(victim.count(LinuxMib::TCPChallengeACK), 1, "and that once");
    victim.end();
}

/// One segment acknowledged octet by octet opens the window by one segment (RFC 3465).
#[test]
fn attack_ack_division() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    let (_, said) = victim.write(&conn, &[7; 65_536]);
    assert_eq!(said.len(), 10);
    let before = victim.info(&conn).tcpi_snd_cwnd;
    for octets in 1..=1460 {
        victim.tell(&conn.ack(octets));
    }
    let after = victim.info(&conn).tcpi_snd_cwnd;
    assert!(after <= before + 1, "{before} and then {after}");
    // The same acknowledgement many times is loss, and opens nothing.
    for _ in 0..500 {
        victim.tell(&conn.ack(1460));
    }
    assert!(victim.info(&conn).tcpi_snd_cwnd <= after);
    victim.end();
}

/// What was reported is taken back: after a time-out it goes again.
#[test]
fn attack_sack_reneging() {
    let mut victim = Victim::new();
    let conn = victim.connect_with(9001, &OPTIONS);
    let (_, said) = victim.write(&conn, &[7; 14_600]);
    assert_eq!(said.len(), 10);
    victim.tell(&sack(&conn, 0, &[(1460, 14_600)]));
    // The hole is filled, and of the rest nothing is known any more.
    victim.tell(&conn.ack(1460));
    let again = victim.wait(Duration::from_secs(3));
    assert!(again.iter().any(|said| said.flow.len == 1460), "{again:?}");
    assert!(victim.count(LinuxMib::TCPSACKReneging) > 0);
    victim.tell(&conn.ack(14_600));
    assert_eq!(victim.info(&conn).tcpi_unacked, 0);
    victim.end();
}

/// Blocks of anything: only those that lie in what was sent mean something.
#[test]
fn attack_blocks_of_nothing() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    victim.write(&conn, &[7; 14_600]);
    let edges = [0, 1, 1460, 14_600, 14_601, 1 << 20, 1 << 31, u32::MAX, 0_u32.wrapping_sub(1460)];
    for start in edges {
        for end in edges {
            let blocks = [(start, end), (end, start), (start, start)];
            victim.tell(&sack(&conn, 0, &blocks));
        }
    }
    let info = victim.info(&conn);
    assert!(info.tcpi_sacked <= 10 && info.tcpi_unacked == 10, "{info:?}");
    assert!(victim.is_established(&conn));
    victim.end();
}
