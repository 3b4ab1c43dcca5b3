//! Connections chosen so that all of them would lie at one place of the table, if its hash had no key.

use super::peer::{OPTIONS, PORT, Victim};
use crate::hostile::{LOCAL, Segment};
use crate::util::listener;
use klib::siphash::SipKey;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::tcp::TCPHDR_ACK;

/// Requests at a time, in a table that has 64 parts.
const REQUESTS: usize = 256;
/// What an attacker without the key can know of the table: its hash with the key that says nothing.
const NO_KEY: SipKey = SipKey([0, 0]);
/// Bits of the hash that say where an entry lies: the part, and the place in it when all are in one.
const BITS: u64 = 63 << 32 | 511;

/// Ends of connections to a port whose hashes agree in those bits.
fn chosen(port: u16) -> Vec<(Ipv4Addr, u16)> {
    let sources = (0..=255).map(|host| Ipv4Addr::new(198, 51, 100, host));
    let ends = sources.flat_map(|from| (1024..=u16::MAX).map(move |port| (from, port)));
    let alike = ends.filter(|(from, sport)| {
        let ports = u32::from(port) << 16 | u32::from(*sport);
        NO_KEY.siphash_3u32(LOCAL.into(), (*from).into(), ports) & BITS == 0
    });
    alike.take(REQUESTS).collect()
}

/// So many connections of anybody.
fn any() -> Vec<(Ipv4Addr, u16)> {
    (0..REQUESTS as u16).map(|n| (Ipv4Addr::new(198, 51, 100, 1), 5000 + n)).collect()
}

fn ports(sport: u16) -> (u16, u16) {
    (PORT + 1, sport)
}

/// A victim with a SYN of each, and the answers' sequence numbers.
fn with_requests(ends: &[(Ipv4Addr, u16)]) -> (Victim, Vec<Segment>) {
    let mut victim = Victim::new();
    victim.set(|sysctl| {
        sysctl.somaxconn = 4096;
        sysctl.tcp.max_syn_backlog = 4096;
    });
    let fd = listener(&mut victim.abuse.cx, LOCAL, PORT + 1, 4096);
    victim.abuse.fds.push(fd);
    victim.route_back();
    let answers = ends.iter().map(|(from, sport)| {
        let syn = Segment { ports: ports(*sport), ..Victim::syn(*sport, &OPTIONS) };
        let said = victim.tell_from(*from, &syn);
        assert!(said.len() == 1 && said[0].is_syn_ack(), "{said:?}");
        let ack = said[0].flow.end;
        Segment { seq: 1001, ack, flags: TCPHDR_ACK, options: Vec::new(), ..syn }
    });
    let answers = answers.collect();
    (victim, answers)
}

/// Without the key nobody can fill one chain: chosen connections lie as those of anybody do, as requests and
/// as sockets.
#[test]
fn attack_hash_flooding() {
    let ends = chosen(PORT + 1);
    assert_eq!(ends.len(), REQUESTS, "there are as many");
    let [any, chosen] = [any(), ends].map(|ends| {
        let (mut victim, acks) = with_requests(&ends);
        let tables = |victim: &Victim| victim.abuse.machine.net().tcp.hashinfo.longest_chain();
        let requests = tables(&victim);
        for ((from, _), ack) in ends.iter().zip(&acks) {
            victim.tell_from(*from, ack);
        }
        assert_eq!(victim.abuse.machine.net().tcp.hashinfo.sockets(), REQUESTS + 2);
        let sockets = tables(&victim);
        victim.wait(Duration::from_secs(1));
        victim.end();
        [requests, sockets]
    });
    println!("the longest chain of any: {any:?}, of chosen: {chosen:?}");
    assert!(any.iter().chain(&chosen).all(|chain| (1..=6).contains(chain)), "{any:?}, {chosen:?}");
}
