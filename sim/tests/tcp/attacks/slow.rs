//! Peers that take nothing and never go: closed windows, slow readers, orphans.

use super::peer::{Conn, Said, Victim};
use crate::hostile::Segment;
use stack::net::ipv4::proc::sockstat_seq_show;
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::tcp::*;

/// Orphans and TIME_WAITs of the machine.
fn orphans(victim: &Victim) -> u32 {
    let stat = sockstat_seq_show(&victim.abuse.machine);
    let words: Vec<&str> = stat.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "orphan").expect("TCP's line");
    words[at + 1].parse().expect("a number")
}

/// A connection whose peer has closed its window, with data that waits.
fn closed_window(victim: &mut Victim, port: u16) -> Conn {
    let conn = victim.connect(port);
    victim.tell(&Segment { window: 0, ..conn.ack(0) });
    let (wrote, said) = victim.write(&conn, &[7; 8000]);
    assert_eq!((wrote, said.len()), (8000, 0));
    conn
}

/// Lets seconds pass in which the peer answers everything with a closed window; true when it was reset.
fn stays_closed(victim: &mut Victim, conn: &Conn, seconds: u32) -> bool {
    let mut reset = false;
    for _ in 0..seconds {
        let said: Vec<Said> = victim.wait(Duration::from_secs(1));
        reset |= said.iter().any(Said::is_reset);
        if said.iter().any(|said| !said.is_reset()) {
            victim.tell(&Segment { window: 0, ..conn.ack(0) });
        }
    }
    reset
}

/// While a program has it, it waits for ever, ever more rarely; when nobody has, it ends.
#[test]
fn attack_window_closed_for_ever() {
    let mut victim = Victim::new();
    let conn = closed_window(&mut victim, 9001);
    stays_closed(&mut victim, &conn, 1800);
    assert!(victim.is_established(&conn));
    let probes = victim.count(LinuxMib::TCPWinProbe);
    assert!((15..40).contains(&probes), "{probes} probes in half an hour");
    victim.close(&conn);
    assert_eq!(orphans(&victim), 1);
    stays_closed(&mut victim, &conn, 900);
    assert_eq!(orphans(&victim), 0, "nobody has it: it ends, though the peer answers");
    victim.end();
}

/// `tcp_orphan_retries`.
#[test]
fn attack_window_closed_after_close() {
    for (retries, most) in [(0, 400), (2, 10)] {
        let mut victim = Victim::new();
        victim.set(|sysctl| sysctl.tcp.orphan_retries = retries);
        let conn = closed_window(&mut victim, 9001);
        victim.close(&conn);
        // A peer that answers nothing.
        victim.wait(Duration::from_secs(most));
        assert_eq!(orphans(&victim), 0, "{retries}");
        victim.end();
    }
}

/// More orphans than `tcp_max_orphans`: they end at once, with a reset.
#[test]
fn attack_orphans_without_end() {
    let mut victim = Victim::new();
    victim.set(|sysctl| sysctl.tcp.max_orphans = 10);
    let conns: Vec<Conn> = (0..100).map(|n| closed_window(&mut victim, 9000 + n)).collect();
    let mut resets = 0;
    for conn in &conns {
        resets += victim.close(conn).iter().filter(|said| said.is_reset()).count();
    }
    assert!(orphans(&victim) <= 10, "{} orphans", orphans(&victim));
    assert!(resets >= 90, "{resets} resets");
    assert!(victim.count(LinuxMib::TCPAbortOnMemory) >= 90);
    victim.end();
}

/// TIME_WAITs above `tcp_max_tw_buckets` are none.
#[test]
fn attack_time_waits_without_end() {
    let mut victim = Victim::new();
    victim.set(|sysctl| sysctl.tcp.max_tw_buckets = 20);
    for n in 0..100 {
        let conn = victim.connect(9000 + n);
        victim.close(&conn);
        victim.tell(&Segment { flags: TCPHDR_ACK | TCPHDR_FIN, ..conn.ack(1) });
    }
    let stat = sockstat_seq_show(&victim.abuse.machine);
    assert!(stat.contains(" tw 20 "), "{stat}");
    assert_eq!(victim.count(LinuxMib::TCPTimeWaitOverflow), 80);
    victim.end();
}

/// A peer that takes an octet at a time is sent no segments of an octet (RFC 9293 section 3.8.6.2.1).
#[test]
fn attack_slow_reader() {
    let mut victim = Victim::new();
    let conn = victim.connect(9001);
    victim.tell(&Segment { window: 0, ..conn.ack(0) });
    let (wrote, _) = victim.write(&conn, &[7; 8000]);
    assert_eq!(wrote, 8000);
    let memory = victim.memory();
    let (mut acked, mut segments) = (0, 0);
    for _ in 0..1000 {
        // Unscaled windows of 128 octets.
        let said = victim.tell(&Segment { window: 1, ..conn.ack(acked) });
        segments += said.len();
        acked += said.iter().map(|said| said.flow.len).sum::<u32>().min(128);
    }
    assert!(segments < 200, "{segments} segments of 8000 octets");
    assert!(victim.memory() <= memory + 65_536);
    victim.end();
}

/// The FIN never comes: who has closed does not wait for ever.
#[test]
fn attack_half_closed_for_ever() {
    let mut victim = Victim::new();
    let conns: Vec<Conn> = (0..50).map(|n| victim.connect(9000 + n)).collect();
    for conn in &conns {
        victim.close(conn);
        victim.tell(&conn.ack(1));
    }
    assert_eq!(orphans(&victim), 0, "little is left of them");
    victim.wait(Duration::from_secs(61));
    let stat = sockstat_seq_show(&victim.abuse.machine);
    assert!(stat.contains(" orphan 0 tw 0 "), "{stat}");
    victim.end();
}
