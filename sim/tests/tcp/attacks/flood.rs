//! SYNs without end, cookies that nobody baked, connections that nobody accepts.

use super::peer::{OPTIONS, PORT, Victim};
use crate::hostile::{PEER, Segment};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::tcp::*;

/// SYNs of a flood.
const SYNS: u32 = 100_000;
/// Where they come from.
const SOURCES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 20), Ipv4Addr::new(192, 0, 2, 21), Ipv4Addr::new(192, 0, 2, 22)];

/// The SYNs of a flood from the `from`th on; the number of answers.
fn flood(victim: &mut Victim, from: u32, count: u32) -> usize {
    let mut answers = 0;
    for begin in (from..from + count).step_by(64) {
        let frames: Vec<Vec<u8>> = (begin..(begin + 64).min(from + count))
            .map(|n| {
                let (source, port) = (SOURCES[n as usize % 3], 1024 + (n / 3 % 60_000) as u16);
                let seq = n.wrapping_mul(2_654_435_761);
                Segment { seq, ..Victim::syn(port, &OPTIONS) }.frame(source, &[])
            })
            .collect();
        answers += victim.frames(&frames).len();
    }
    answers
}

fn flooded() -> Victim {
    let mut victim = Victim::new();
    for source in SOURCES {
        victim.neighbour(source);
    }
    victim
}

#[test]
fn attack_syn_flood() {
    let mut victim = flooded();
    let timers = victim.abuse.machine.timers();
    let quarter = SYNS / 4;
    let mut answers = flood(&mut victim, 0, quarter);
    let memory = victim.memory();
    let requests = victim.abuse.machine.timers() - timers;
    for n in 1..4 {
        answers += flood(&mut victim, n * quarter, quarter);
    }
    assert_eq!(answers, SYNS as usize, "each is answered, most by a cookie");
    assert!(victim.memory() <= memory, "{} octets, {memory} after a quarter", victim.memory());
    assert!(victim.memory() < 2 << 20, "{} octets", victim.memory());
    assert!(victim.abuse.machine.timers() <= timers + requests, "no more requests");
    assert!(requests <= 512, "{requests} requests");
    let sent = victim.count(LinuxMib::SyncookiesSent);
    assert!(sent >= i128::from(SYNS - 512), "{sent} cookies");
    // Who means it gets in: by a cookie.
    let conn = victim.connect(9001);
    assert_eq!(victim.count(LinuxMib::SyncookiesRecv), 1);
    victim.tell(&conn.data(0, 100));
    assert_eq!(victim.read(&conn, &mut [0; 200]), Ok(100));
    victim.end();
}

#[test]
fn attack_syn_flood_without_cookies() {
    let mut victim = flooded();
    victim.set(|sysctl| sysctl.tcp.syncookies = 0);
    let timers = victim.abuse.machine.timers();
    let answers = flood(&mut victim, 0, 10_000);
    let memory = victim.memory();
    let requests = victim.abuse.machine.timers() - timers;
    assert!(answers <= 512 && requests <= 512, "{answers} answers, {requests} requests");
    flood(&mut victim, 10_000, 10_000);
    assert!(victim.memory() <= memory, "{} octets, then {memory}", victim.memory());
    assert_eq!(victim.count(LinuxMib::SyncookiesSent), 0);
    // Five times more, then they are forgotten.
    let again = victim.wait(Duration::from_secs(70)).len();
    assert!(again <= 5 * requests, "{again} more SYN-ACKs to {requests} requests");
    assert!(victim.abuse.machine.timers() <= timers, "all requests are gone");
    victim.connect(9001);
    victim.end();
}

/// Cookies that were guessed, that are another's, or that are too old, are none.
#[test]
fn attack_forged_cookies() {
    let mut victim = flooded();
    let ack = |seq, ack| Segment { seq, ack, flags: TCPHDR_ACK, ..Victim::syn(9001, &[]) };
    victim.tell(&ack(1001, 1));
    assert_eq!(
        victim.count(LinuxMib::SyncookiesFailed),
        0,
        "none was given out: none is looked at"
    );
    flood(&mut victim, 0, 1000);
    let mut rng = Pcg64::seed_from_u64(5);
    let guesses: Vec<_> = (0..5000).map(|_| ack(1001, rng.next_u32())).collect();
    let said = victim.tell_all(&guesses);
    assert!(said.iter().all(|said| said.is_reset()), "each is refused");
    assert_eq!(victim.count(LinuxMib::SyncookiesFailed), 5000);
    // A good one holds for its tuple and its number alone (but for the three next to it: the segment size is
    // what is left of the difference).
    let syn = Victim::syn(9001, &OPTIONS);
    let cookie = victim.tell(&syn).pop().expect("a cookie").flow.end;
    for (port, seq) in [(9002, 1001), (9001, 1010), (9001, 1 << 20)] {
        victim.tell(&Segment { ports: (PORT, port), ..ack(seq, cookie) });
    }
    victim.tell_from(SOURCES[0], &ack(1001, cookie));
    assert_eq!(victim.accept(), None);
    victim.wait(Duration::from_secs(300));
    // Cookies are good again, this one is not.
    flood(&mut victim, 2000, 1000);
    victim.tell(&ack(1001, cookie));
    assert_eq!(victim.accept(), None);
    assert_eq!(victim.count(LinuxMib::SyncookiesRecv), 0);
    let cookie = victim.tell(&syn).pop().expect("a cookie").flow.end;
    victim.tell(&ack(1001, cookie));
    assert!(victim.accept().is_some());
    victim.end();
}

/// Connections that stand, and that nobody accepts: as many as the backlog, and data within its bounds.
#[test]
fn attack_connections_that_nobody_accepts() {
    let mut victim = Victim::new();
    for port in 0..1000 {
        let said = victim.tell(&Victim::syn(9000 + port, &OPTIONS));
        let Some(answer) = said.iter().find(|said| said.is_syn_ack()) else { continue };
        let end = answer.flow.end;
        let ack = Segment { seq: 1001, ack: end, flags: TCPHDR_ACK, window: 1, ..answer_to(port) };
        victim.tell(&ack);
        victim.tell(&Segment { len: 1000, ..ack });
    }
    let sockets = victim.abuse.machine.net().tcp.hashinfo.sockets();
    assert!((100..=131).contains(&sockets), "{sockets} sockets of a backlog of 128");
    assert!(victim.count(LinuxMib::ListenOverflows) > 0);
    assert!(victim.memory() < 4 << 20, "{} octets", victim.memory());
    victim.end();
}

fn answer_to(port: u16) -> Segment {
    Segment { ports: (PORT, 9000 + port), ..Segment::default() }
}

/// SYNs with source and destination the same, and such with data and FIN.
#[test]
fn attack_land_and_odd_syns() {
    let mut victim = Victim::new();
    let land = Victim::syn(PORT, &OPTIONS);
    assert_eq!(victim.tell_from(crate::hostile::LOCAL, &land).len(), 0);
    for flags in [TCPHDR_SYN | TCPHDR_FIN, TCPHDR_SYN | TCPHDR_RST] {
        let odd = Segment { flags, ..Victim::syn(9001, &OPTIONS) };
        assert_eq!(victim.tell_from(PEER, &odd).len(), 0);
    }
    // Options of every kind and length.
    for kind in 0..=255 {
        for len in [0, 1, 2, 3, 40, 255] {
            let options = [kind, len, 1, 1, kind, len, 0, len];
            victim.tell(&Segment { flags: TCPHDR_SYN, ..Victim::syn(9002, &options) });
        }
    }
    assert!(victim.memory() < 1 << 20);
    victim.end();
}
