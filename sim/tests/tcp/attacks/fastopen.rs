//! Data in SYNs, by who has no cookie or forges addresses; marks without end.

use super::peer::{OPTIONS, PORT, Said, Victim};
use crate::hostile::Segment;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use stack::net::socket::sys_setsockopt;
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::socket::SOL_TCP;
use uapi::tcp::*;

/// Connections by fast open that the listener lets wait.
const QUEUE: i32 = 5;

/// A listener that takes data of SYNs; `tcp_fastopen` as given.
fn fast(sysctl: u32) -> Victim {
    let mut victim = Victim::new();
    victim.set(|settings| settings.tcp.fastopen = sysctl);
    let (cx, fd) = (&mut victim.abuse.cx, victim.listening);
    sys_setsockopt(cx, fd, SOL_TCP, TCP_FASTOPEN, &QUEUE.to_ne_bytes()).expect("a listener");
    victim
}

fn syn_with_data(port: u16, cookie: &[u8]) -> Segment {
    let option = [&[TCPOPT_FASTOPEN, 2 + cookie.len() as u8][..], cookie].concat();
    let mut options = OPTIONS.to_vec();
    options.extend(if cookie.is_empty() { Vec::new() } else { option });
    options.resize(options.len().next_multiple_of(4), TCPOPT_NOP);
    Segment { len: 100, ..Victim::syn(port, &options) }
}

/// It acknowledges the SYN's data.
fn takes_data(said: &Said) -> bool {
    said.is_syn_ack() && said.flow.ack == 1101
}

/// Where no cookie is asked for: so many connections as the listener lets wait, and requests like others.
#[test]
fn attack_fastopen_flood() {
    let mut victim = fast(2 | 0x200);
    let (mut early, mut memory) = (0, 0);
    for round in 0..4_u16 {
        let syns: Vec<_> = (0..2500).map(|n| syn_with_data(1024 + round * 2500 + n, &[])).collect();
        early += victim.tell_all(&syns).iter().filter(|said| takes_data(said)).count();
        let held = victim.memory();
        assert!(round == 0 || held <= memory, "{held} octets, {memory} before");
        memory = held;
    }
    assert_eq!(early, QUEUE as usize);
    assert_eq!(victim.count(LinuxMib::TCPFastOpenPassive), QUEUE.into());
    assert!(victim.count(LinuxMib::TCPFastOpenListenOverflow) > 100);
    // Nobody ends their handshakes: they are given up.
    victim.wait(Duration::from_secs(200));
    for _ in 0..QUEUE {
        victim.accept().expect("it waits, with its data");
    }
    victim.end();
}

/// No cookie is guessed, and no length of one does harm.
#[test]
fn attack_fastopen_forged_cookies() {
    let mut victim = fast(2);
    let mut rng = Pcg64::seed_from_u64(7);
    for n in 0..2000_u16 {
        let len = [4, 6, 8, 16][usize::from(n) % 4];
        let cookie: Vec<u8> = (0..len).map(|_| rng.next_u32() as u8).collect();
        let syn = syn_with_data(2000 + n, &cookie);
        let said = victim.tell(&syn);
        assert!(said.len() == 1 && said[0].is_syn_ack() && said[0].flow.ack == 1001, "{said:?}");
        // The request goes, so that it is no cookie of the other kind that answers the next.
        victim.tell(&Segment { seq: 1001, flags: TCPHDR_RST, len: 0, options: Vec::new(), ..syn });
    }
    assert_eq!(victim.count(LinuxMib::TCPFastOpenPassiveFail), 2000);
    assert_eq!(victim.count(LinuxMib::TCPFastOpenPassive), 0);
    victim.end();
}

/// RFC 7413 section 5.1: who forges addresses has the connections reset by those whom they belong to: these go on
/// to count for a minute, so that there are no more of them for it.
#[test]
fn attack_fastopen_resets() {
    let mut victim = fast(2 | 0x200);
    let reset = |port| Segment {
        seq: 1101,
        flags: TCPHDR_RST,
        len: 0,
        options: Vec::new(),
        ..syn_with_data(port, &[])
    };
    let mut early = 0;
    for port in 3000..3100_u16 {
        let said = victim.tell(&syn_with_data(port, &[]));
        if said.iter().any(takes_data) {
            early += 1;
            victim.accept().expect("it is there at once");
        }
        victim.tell(&Segment { seq: if early > QUEUE { 1001 } else { 1101 }, ..reset(port) });
    }
    assert_eq!(early, QUEUE);
    victim.wait(Duration::from_secs(61));
    assert!(victim.tell(&syn_with_data(4000, &[])).iter().any(takes_data));
    victim.end();
}

/// The same SYN over and over: its data counts once, and it is answered twice a second at the most.
#[test]
fn attack_fastopen_replayed_syn() {
    let mut victim = fast(2 | 0x200);
    let syn = syn_with_data(5000, &[]);
    let said = victim.tell_all(&vec![syn; 1000]);
    assert!(said.iter().all(takes_data) && said.len() <= 2, "{} answers", said.len());
    let fd = victim.accept().expect("one");
    let conn = super::peer::Conn { fd, ports: (PORT, 5000), seq: 1101, first: 0, ts: None };
    assert_eq!(victim.read(&conn, &mut [0; 4096]), Ok(100));
    assert!(victim.accept().is_none(), "there is one connection");
    victim.end();
}

/// A peer that tells of marks in every acknowledgement: the window shrinks once for each, and never to nothing.
#[test]
fn attack_ecn_echo_without_end() {
    let mut victim = Victim::new();
    let asks =
        Segment { flags: TCPHDR_SYN | TCPHDR_ECE | TCPHDR_CWR, ..Victim::syn(6000, &OPTIONS) };
    let said = victim.tell(&asks).pop().expect("an answer");
    assert_eq!(said.flow.flags & (TCPHDR_ECE | TCPHDR_CWR), TCPHDR_ECE, "granted");
    let mut conn = super::peer::Conn {
        fd: -1,
        ports: (PORT, 6000),
        seq: 1001,
        first: said.flow.end,
        ts: None,
    };
    victim.tell(&conn.ack(0));
    conn.fd = victim.accept().expect("it is there");
    let (mut acked, mut sent) = (0, 0);
    for _ in 0..200 {
        sent += victim.write(&conn, &[1; 2000]).0 as u32;
        acked = (acked + 1460).min(sent);
        let told = conn.ack(acked);
        victim.tell(&Segment { flags: TCPHDR_ACK | TCPHDR_ECE, ..told });
        let info = victim.info(&conn);
        assert!(info.tcpi_snd_cwnd >= 1 && info.tcpi_snd_ssthresh >= 2, "{info:?}");
    }
    victim.wait(Duration::from_secs(2));
    victim.tell(&conn.ack(sent));
    assert!(victim.is_established(&conn) && sent > 100_000, "{sent} octets went");
    assert!(victim.info(&conn).tcpi_delivered_ce > 0);
    victim.end();
}
