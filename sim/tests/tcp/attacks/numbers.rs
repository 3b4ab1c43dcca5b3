//! What nobody may foretell: sequence numbers (RFC 6528), ports (RFC 6056), timestamps (RFC 7323).

use super::peer::{OPTIONS, Said, Victim, timestamps};
use crate::hostile::{PEER, Segment};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::tcp::TCPHDR_RST;

const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The answer to a SYN from this port of a host; the request is taken back.
fn answer(victim: &mut Victim, from: Ipv4Addr, port: u16) -> Said {
    let options = [&OPTIONS[..], &timestamps((1, 0))].concat();
    let syn = Victim::syn(port, &options);
    let said = victim.tell_from(from, &syn).pop().expect("a SYN-ACK");
    victim.tell_from(from, &Segment { flags: TCPHDR_RST, seq: 1001, ..syn });
    said
}

/// Steps between numbers that follow one another.
fn steps(numbers: &[u32]) -> Vec<u32> {
    numbers.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect()
}

#[test]
fn attack_sequence_number_prediction() {
    let mut victim = Victim::new();
    // Of one tuple they rise with time: 15,625 in a millisecond.
    let mut of_one = Vec::new();
    for _ in 0..10 {
        of_one.push(answer(&mut victim, PEER, 9001).seq());
        victim.wait(Duration::from_millis(1));
    }
    assert!(steps(&of_one).iter().all(|step| (15_000..40_000).contains(step)), "{of_one:?}");
    // Of tuples side by side they have nothing to do with each other.
    let of_many: Vec<u32> = (0..500).map(|n| answer(&mut victim, PEER, 9100 + n).seq()).collect();
    let all: BTreeSet<u32> = steps(&of_many).into_iter().map(|step| step >> 20).collect();
    assert!(all.len() > 400, "{} different steps of 500", all.len());
    let high: BTreeSet<u32> = of_many.iter().map(|isn| isn >> 28).collect();
    assert_eq!(high.len(), 16, "they are everywhere");
    victim.end();
    // Another machine has another secret; the same has the same.
    let first = |seed| {
        let mut victim = Victim::with_seed(seed);
        let said = answer(&mut victim, PEER, 9001);
        victim.end();
        (said.seq(), said.flow.ts)
    };
    assert_eq!(first(1), first(1));
    let (a, b) = (first(1), first(2));
    assert!(a.0.wrapping_sub(b.0) > 1 << 16 && b.0.wrapping_sub(a.0) > 1 << 16, "{a:?} {b:?}");
    assert_ne!(a.1, b.1);
}

#[test]
fn attack_port_prediction() {
    let ports = |seed: u64, to: &[(Ipv4Addr, u16)]| -> Vec<u16> {
        let mut victim = Victim::with_seed(seed);
        victim.neighbour(OTHER);
        let ports: Vec<u16> =
            to.iter().map(|(ip, port)| victim.begin_to(*ip, *port).1.flow.ports.0).collect();
        victim.end();
        ports
    };
    // To one destination: they don't come one after the other.
    let to_one = ports(1, &[(PEER, 9001); 40]);
    let distinct: BTreeSet<u16> = to_one.iter().copied().collect();
    assert_eq!(distinct.len(), 40);
    let steps: BTreeSet<u16> = to_one.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
    assert!(steps.len() >= 4, "{steps:?}");
    // What one destination sees says nothing of another, nor of another port of the same host.
    let both = [(PEER, 9001), (OTHER, 9001), (PEER, 9002), (OTHER, 9002)].repeat(10);
    let seen = ports(1, &both);
    let apart = |a: usize, b: usize| -> BTreeSet<u16> {
        (0..10).map(|n| seen[4 * n + a].abs_diff(seen[4 * n + b])).collect()
    };
    for (a, b) in [(0, 1), (0, 2), (1, 3)] {
        let apart = apart(a, b);
        assert!(apart.len() >= 3 && apart.iter().all(|far| *far > 64), "{apart:?}");
    }
    assert_ne!(ports(2, &[(PEER, 9001); 3]), to_one[..3], "another machine's are others");
}

#[test]
fn attack_uptime_by_timestamps() {
    let mut victim = Victim::new();
    victim.neighbour(OTHER);
    victim.wait(Duration::from_secs(1));
    let mut ts = |from, port| answer(&mut victim, from, port).flow.ts.expect("asked for");
    let (one, same, other) = (ts(PEER, 9001), ts(PEER, 9002), ts(OTHER, 9001));
    // For one host they rise, from one connection to the next; for two they have nothing to do with each other.
    assert!(same.wrapping_sub(one) < 10, "{one} {same}");
    assert!(other.wrapping_sub(one).min(one.wrapping_sub(other)) > 1 << 16, "{one} {other}");
    assert!(one > 1 << 16, "{one} is not the time since it began");
    victim.set(|sysctl| sysctl.tcp.timestamps = 2);
    let plain = answer(&mut victim, PEER, 9003).flow.ts.expect("asked for");
    assert!(plain < 20_000, "without the offset it would be {plain}");
    victim.end();
}
