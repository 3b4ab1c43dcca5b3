//! Fragments over links that lose, double, turn round and spoil them.

use crate::links::introduce;
use crate::util::{A, B, Pair, addr, udp};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use sim::{Digest, Impairment, LinkSpec};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uapi::snmp::{IpMib, UdpMib};
use uapi::socket::MSG_DONTWAIT;

/// Datagrams each way.
const COUNT: u16 = 60;

/// A datagram that tells which it is.
fn datagram(number: u16, len: usize) -> Vec<u8> {
    let octet = |at: usize| (at.wrapping_mul(usize::from(number) | 1) >> 3) as u8;
    let rest = (2..len.max(2)).map(octet);
    number.to_be_bytes().into_iter().chain(rest).collect()
}

/// Reads what is there: each must be what was sent under its number.
fn read(pair: &mut Pair, (cx, fd): (&mut TaskCx, i32), lens: &[usize]) -> BTreeSet<u16> {
    let mut came = BTreeSet::new();
    let mut room = vec![0; 65_536];
    while let Ok((len, _)) = pair.run(cx, sys_recvfrom(fd, &mut room, MSG_DONTWAIT)) {
        let number = u16::from_be_bytes([room[0], room[1]]);
        assert!(room[..len] == datagram(number, lens[usize::from(number)]), "datagram {number}");
        came.insert(number);
    }
    came
}

/// What came each way of the datagrams of a seed.
fn play(seed: u64, weather: Impairment) -> ([usize; 2], Pair) {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut pair = Pair::with(seed, LinkSpec::Impaired(weather), 1);
    let mut ends = pair.ends();
    introduce(&mut ends.a, (&pair.b, B));
    introduce(&mut ends.b, (&pair.a, A));
    for (cx, machine) in [(&mut ends.a, &pair.a), (&mut ends.b, &pair.b)] {
        let eth = Arc::clone(machine.tables().net.dev_by_name("eth0").expect("there"));
        dev_set_mtu(cx, &eth, rng.random_range(300..=1500)).expect("allowed");
    }
    let fds = [udp(&mut ends.a, A, 7), udp(&mut ends.b, B, 7)];
    let lens: Vec<usize> = (0..COUNT).map(|_| rng.random_range(2..12_000)).collect();
    let mut came = [BTreeSet::new(), BTreeSet::new()];
    for number in 0..COUNT + 20 {
        if number < COUNT {
            let data = datagram(number, lens[usize::from(number)]);
            let (to_a, to_b) = (addr(A, 7), addr(B, 7));
            pair.run(&mut ends.a, sys_sendto(fds[0], &data, 0, Some(&to_b))).expect("sent");
            pair.run(&mut ends.b, sys_sendto(fds[1], &data, 0, Some(&to_a))).expect("sent");
        }
        pair.world.run_for(Duration::from_millis(5));
        came[0].append(&mut read(&mut pair, (&mut ends.a, fds[0]), &lens));
        came[1].append(&mut read(&mut pair, (&mut ends.b, fds[1]), &lens));
    }
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.world.run_for(Duration::from_secs(31));
    for machine in [&pair.a, &pair.b] {
        assert!(sockstat_seq_show(machine).ends_with("FRAG: inuse 0 memory 0\n"));
    }
    (came.map(|all| all.len()), pair)
}

stepped!(whatever_arrives_is_what_was_sent);
fn whatever_arrives_is_what_was_sent() -> Digest {
    let weather = Impairment {
        delay: Duration::from_millis(1),
        jitter: Duration::from_millis(1),
        loss: 0.01,
        duplicate: 0.05,
        reorder: 0.1,
        corrupt: 0.005,
        ..Impairment::default()
    };
    let mut spoilt = 0;
    let play = |seed| {
        let (came, pair) = play(seed, weather);
        assert!(came.iter().all(|count| *count > 20), "seed {seed}: {came:?}");
        for machine in [&pair.a, &pair.b] {
            let mib = machine.mib();
            spoilt += mib.get(UdpMib::InCsumErrors);
            assert!(mib.get(IpMib::ReasmTimeout) > 0, "some fragments were lost");
        }
        pair.end()
    };
    let digest = (500..508).map(play).collect();
    assert!(spoilt > 0, "sums over several fragments show what was turned in one");
    digest
}

stepped!(what_is_only_doubled_and_turned_round_all_arrives);
fn what_is_only_doubled_and_turned_round_all_arrives() -> Digest {
    let weather = Impairment {
        delay: Duration::from_micros(100),
        jitter: Duration::from_micros(50),
        duplicate: 0.2,
        reorder: 0.2,
        ..Impairment::default()
    };
    let play = |seed| {
        let (came, pair) = play(seed, weather);
        assert_eq!(came, [usize::from(COUNT); 2], "seed {seed}");
        pair.end()
    };
    (600..604).map(play).collect()
}
