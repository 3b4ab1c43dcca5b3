//! Who does not see the connection and guesses: RFC 5961, RFC 1337, timestamps, urgent pointers.

use super::peer::{Conn, OPTIONS, PORT, Said, Victim, timestamps};
use crate::hostile::{PEER, Segment};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use stack::net::ipv4::proc::sockstat_seq_show;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::LinuxMib;
use uapi::tcp::*;

/// The window that the machine offers a fresh connection, at the least.
const WINDOW: u32 = 60_000;

/// A connection's next segment with other flags, so far from where it must stand.
fn forged(conn: &Conn, flags: u8, at: u32) -> Segment {
    Segment { flags, ..conn.data(at, 0) }
}

#[test]
fn attack_blind_reset() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    // Off the window: nothing at all.
    for at in [1 << 20, 1 << 31, u32::MAX, u32::MAX - 70_000] {
        assert_eq!(victim.tell(&forged(&conn, TCPHDR_RST, at)).len(), 0, "{at}");
    }
    // Somewhere in it: the peer is asked, twice a second.
    let guesses: Vec<_> = (1..WINDOW).step_by(500).collect();
    let segments: Vec<_> = guesses.iter().map(|at| forged(&conn, TCPHDR_RST, *at)).collect();
    let said = victim.tell_all(&segments);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((said[0].flow.ack, said[0].is_reset()), (conn.seq, false));
    assert!(victim.is_established(&conn));
    assert_eq!(victim.count(LinuxMib::TCPChallengeACK), 1);
    assert_eq!(victim.count(LinuxMib::TCPACKSkippedChallenge), guesses.len() as i128 - 1);
    victim.wait(Duration::from_millis(501));
    assert_eq!(victim.tell(&segments[0]).len(), 1);
    // The peer, which answers the challenge.
    victim.tell(&forged(&conn, TCPHDR_RST, 0));
    assert_eq!(victim.info(&conn).tcpi_state, TCP_CLOSE);
    assert_eq!(victim.read(&conn, &mut [0; 8]), Err(Errno::ECONNRESET));
    victim.end();
}

#[test]
fn attack_blind_syn() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    for at in [0, 1, 1000, 1 << 20, 1 << 31, u32::MAX] {
        for flags in [TCPHDR_SYN, TCPHDR_SYN | TCPHDR_ACK] {
            let said = victim.tell(&forged(&conn, flags, at));
            assert_eq!(said.len(), 1, "challenged");
            assert_eq!((said[0].flow.ack, said[0].flow.flags), (conn.seq, TCPHDR_ACK));
            victim.wait(Duration::from_millis(501));
        }
        // A SYN that says RST, too, is a reset where one can't stand.
        victim.tell(&forged(&conn, TCPHDR_SYN | TCPHDR_RST, at.max(1)));
        assert!(victim.is_established(&conn), "{at}");
        victim.wait(Duration::from_millis(501));
    }
    assert!(victim.count(LinuxMib::TCPSYNChallenge) >= 12);
    victim.end();
}

#[test]
fn attack_blind_data() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    let (wrote, said) = victim.write(&conn, &[1; 1000]);
    assert_eq!((wrote, said.len()), (1000, 1));
    victim.tell(&conn.ack(1000));
    let mut rng = Pcg64::seed_from_u64(7);
    // The place in the window is guessed, what it acknowledges is not.
    let segments: Vec<_> = (0..2000)
        .map(|n| Segment { ack: rng.next_u32(), ..conn.data(n % 50 * 1000, 100) })
        .collect();
    let said = victim.tell_all(&segments);
    assert_eq!(victim.count(LinuxMib::TCPOFOQueue), 0, "nothing was taken");
    assert_eq!(victim.read(&conn, &mut [0; 100]), Err(Errno::EAGAIN));
    assert!(said.len() <= 2, "{} answers", said.len());
    // Acknowledgements of what was acknowledged long ago, and of what was not sent.
    for ack in [1001, 2000, 1 << 30, 1 << 31, 0_u32.wrapping_sub(2000)] {
        victim.tell(&Segment { len: 100, ..conn.ack(ack) });
        assert_eq!(victim.read(&conn, &mut [0; 100]), Err(Errno::EAGAIN), "{ack}");
    }
    // Off the window, with the right acknowledgement.
    for at in [1 << 20, 1 << 31, 0_u32.wrapping_sub(5000)] {
        victim.tell(&Segment { ack: conn.first.wrapping_add(1000), ..conn.data(at, 100) });
    }
    assert_eq!(victim.read(&conn, &mut [0; 100]), Err(Errno::EAGAIN));
    assert_eq!(victim.count(LinuxMib::TCPOFOQueue), 0);
    victim.tell(&Segment { len: 100, ..conn.ack(1000) });
    assert_eq!(victim.read(&conn, &mut [0; 200]), Ok(100), "the peer's own");
    victim.end();
}

/// Challenges of a connection that is attacked while `others` are, too.
fn challenges_beside(others: u16) -> usize {
    let mut victim = Victim::new();
    let conns: Vec<Conn> = (0..=others).map(|n| victim.connect(9000 + n)).collect();
    for conn in &conns[1..] {
        victim.tell_all(&(1..20).map(|at| forged(conn, TCPHDR_RST, at)).collect::<Vec<_>>());
    }
    let segments: Vec<_> = (1..20).map(|at| forged(&conns[0], TCPHDR_RST, at)).collect();
    let said = victim.tell_all(&segments).len();
    assert_eq!(victim.count(LinuxMib::TCPChallengeACK), i128::from(others) + 1);
    victim.end();
    said
}

/// What one connection is answered says nothing of another (CVE-2016-5696).
#[test]
fn attack_challenge_acks_as_an_oracle() {
    for others in [0, 1, 100] {
        assert_eq!(challenges_beside(others), 1, "beside {others}");
    }
}

/// Challenges in one second of as many connections as there are, each attacked once.
fn challenges_of_many(seed: u64, limit: u32) -> usize {
    let mut victim = Victim::with_seed(seed);
    victim.set(|sysctl| sysctl.tcp.challenge_ack_limit = limit);
    let conns: Vec<Conn> = (0..120).map(|n| victim.connect(9000 + n)).collect();
    let segments: Vec<_> = conns.iter().map(|conn| forged(conn, TCPHDR_RST, 1)).collect();
    let said = victim.tell_all(&segments).len();
    victim.wait(Duration::from_secs(1));
    let again = victim.tell_all(&segments).len();
    assert_eq!(again == 0, limit == 0, "the next second has its own");
    victim.end();
    said
}

/// `tcp_challenge_ack_limit`: where it is set, what goes in a second is a matter of chance around it.
#[test]
fn attack_challenge_acks_are_limited_by_the_machine() {
    assert_eq!(challenges_of_many(1, i32::MAX as u32), 120);
    assert_eq!(challenges_of_many(1, 0), 0);
    let counts: Vec<usize> = (1..=6).map(|seed| challenges_of_many(seed, 40)).collect();
    assert!(counts.iter().all(|count| (20..60).contains(count)), "{counts:?}");
    assert!(counts.iter().any(|count| *count != counts[0]), "{counts:?}");
}

#[test]
fn attack_blind_segments_while_connecting() {
    let mut victim = Victim::new();
    let (fd, syn) = victim.begin_to(PEER, 9001);
    let ports = syn.flow.ports;
    let base = Segment { ports, seq: 5000, window: 65_535, ..Segment::default() };
    let state = |victim: &mut Victim| crate::util::info(&mut victim.abuse.cx, fd).tcpi_state;
    for ack in [0, syn.flow.end.wrapping_sub(1), syn.flow.end.wrapping_add(1), 77] {
        for flags in [TCPHDR_RST | TCPHDR_ACK, TCPHDR_SYN | TCPHDR_ACK, TCPHDR_ACK] {
            victim.tell(&Segment { ack, flags, ..base.clone() });
            assert_eq!(state(&mut victim), TCP_SYN_SENT, "{ack} {flags}");
        }
    }
    victim.tell(&Segment { flags: TCPHDR_RST, ..base.clone() });
    victim.tell(&Segment { flags: TCPHDR_ACK, ack: syn.flow.end, ..base.clone() });
    victim.icmp_error(3, 0, (ports, syn.seq().wrapping_add(5)));
    assert_eq!(state(&mut victim), TCP_SYN_SENT);
    assert_eq!(victim.count(LinuxMib::OutOfWindowIcmps), 1);
    let flags = TCPHDR_SYN | TCPHDR_ACK;
    victim.tell(&Segment { ack: syn.flow.end, flags, ..base });
    assert_eq!(state(&mut victim), TCP_ESTABLISHED);
    victim.end();
}

/// A connection in TIME_WAIT; the peer's next number is behind its FIN.
fn in_time_wait(victim: &mut Victim) -> Conn {
    let conn = victim.connect(9001);
    assert_eq!(victim.close(&conn).len(), 1, "a FIN");
    victim.tell(&Segment { flags: TCPHDR_ACK | TCPHDR_FIN, ..conn.ack(1) });
    assert_eq!(time_waits(victim), 1);
    Conn { seq: conn.seq.wrapping_add(1), ..conn }
}

fn time_waits(victim: &Victim) -> u32 {
    let stat = sockstat_seq_show(&victim.abuse.machine);
    let words: Vec<&str> = stat.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "tw").expect("TCP's line");
    words[at + 1].parse().expect("a number")
}

#[test]
fn attack_time_wait_assassination() {
    for protected in [true, false] {
        let mut victim = Victim::new();
        victim.set(|sysctl| sysctl.tcp.rfc1337 = protected);
        let conn = in_time_wait(&mut victim);
        for at in [1, 1000, 0_u32.wrapping_sub(1), 1 << 31] {
            victim.tell(&Segment { flags: TCPHDR_RST, ..conn.data(at, 0) });
            // An old duplicate is answered with what makes its sender send a reset: RFC 1337's hazard.
            let said = victim.tell(&Segment { len: 10, ..conn.data(0_u32.wrapping_sub(500), 0) });
            assert!(said.iter().all(|said| !said.is_reset()), "{said:?}");
            // An old SYN.
            victim.tell(&Segment { flags: TCPHDR_SYN, ..conn.data(0_u32.wrapping_sub(500), 0) });
            assert_eq!(time_waits(&victim), 1, "{at}");
            victim.wait(Duration::from_millis(501));
        }
        victim.tell(&Segment { flags: TCPHDR_RST, ..conn.data(0, 0) });
        assert_eq!(time_waits(&victim), u32::from(protected));
        victim.end();
    }
}

/// A timestamp far in the future, in a segment that is none of the connection's, must not make the peer's own
/// look old.
#[test]
fn attack_paws_poisoning() {
    let mut victim = Victim::new();
    let options = [&OPTIONS[..], &timestamps((1000, 0))].concat();
    let conn = victim.connect_with(9001, &options);
    let (_, ecr) = conn.ts.expect("agreed");
    let future = |segment: Segment| Segment { options: timestamps((1 << 30, ecr)), ..segment };
    let forgeries = [
        // Off the window, old, early, or with an acknowledgement of nothing.
        future(conn.data(1 << 20, 10)),
        future(conn.data(0_u32.wrapping_sub(1000), 10)),
        future(conn.data(2000, 0)),
        future(conn.data(2000, 10)),
        future(Segment { len: 10, ..conn.ack(5000) }),
        future(Segment { len: 10, ..conn.ack(1 << 31) }),
        future(forged(&conn, TCPHDR_SYN, 0)),
        future(forged(&conn, TCPHDR_RST, 5)),
        future(forged(&conn, 0, 0)),
    ];
    for forgery in forgeries {
        victim.tell(&forgery);
        victim.wait(Duration::from_millis(501));
    }
    let own = Segment { options: timestamps((1001, ecr)), ..conn.data(0, 100) };
    victim.tell(&own);
    assert_eq!(victim.read(&conn, &mut [0; 200]), Ok(100), "the peer is heard");
    assert_eq!(victim.count(LinuxMib::PAWSEstab), 0);
    // What is old indeed is not.
    victim.tell(&Segment { options: timestamps((500, ecr)), ..conn.data(100, 100) });
    assert_eq!(victim.count(LinuxMib::PAWSEstab), 1);
    victim.end();
}

/// Urgent pointers to anywhere, in every segment: the stream is what it was, less the octets that were urgent.
#[test]
fn attack_urgent_pointers() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    let (mut rng, mut got, mut sent) = (Pcg64::seed_from_u64(3), 0, 0_u32);
    for round in 0..2000 {
        let urgent = [0, 1, 2, 100, 65_535, rng.next_u32() as u16][round % 6];
        let len = [0, 1, 100][round % 3];
        let flags = TCPHDR_ACK | TCPHDR_URG;
        let ahead = if round % 5 == 0 { 50 } else { 0 };
        let next = conn.data(sent, len);
        victim.tell(&Segment { flags, urgent, seq: next.seq.wrapping_add(ahead), ..next });
        if ahead == 0 {
            sent += len as u32;
        }
        if round % 7 == 0 {
            got += victim.read(&conn, &mut [0; 4096]).unwrap_or(0);
        }
    }
    while let Ok(len @ 1..) = victim.read(&conn, &mut [0; 4096]) {
        got += len;
    }
    assert!(got <= sent as usize + 100 && got + 2000 >= sent as usize, "{got} of {sent}");
    assert!(victim.is_established(&conn));
    assert!(victim.memory() < 4 << 20, "{}", victim.memory());
    victim.end();
}

/// Segments that nobody has a connection for are answered by a reset each, and never resets.
#[test]
fn attack_segments_for_nobody() {
    let mut victim = Victim::new();
    let stray = |flags, port| Segment { ports: (port, 9001), flags, ..Segment::default() };
    let before = victim.memory();
    for port in [PORT, 4000] {
        for flags in 0..=255 {
            let said: Vec<Said> = victim.tell(&stray(flags, port));
            assert!(said.len() <= 1, "{said:?}");
            assert!(flags & TCPHDR_RST == 0 || said.is_empty(), "a reset for a reset");
        }
    }
    assert!(victim.memory() <= before + (1 << 20));
    victim.end();
}
