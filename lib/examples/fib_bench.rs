//! Loads a routing table of a million prefixes and times what the stack does with it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use klib::lc_trie::LcTrie;
use klib::random::Csprng;

/// Shares of prefix lengths 8 to 24 per thousand, roughly those of the Internet's table.
const LENGTHS: [(u8, u32); 10] = [
    (24, 600),
    (23, 100),
    (22, 110),
    (21, 50),
    (20, 45),
    (19, 30),
    (18, 15),
    (17, 10),
    (16, 30),
    (12, 10),
];

fn length(rng: &mut Csprng) -> u8 {
    let mut rest = rng.below(1000);
    for (plen, share) in LENGTHS {
        if rest < share {
            return plen;
        }
        rest -= share;
    }
    8
}

/// Distinct prefixes below 224.0.0.0; neighbours are often announced together.
fn prefixes(rng: &mut Csprng, count: usize) -> Vec<(u32, u8)> {
    let mut all = std::collections::HashSet::new();
    while all.len() < count {
        let plen = length(rng);
        let mut key = rng.below(0xe000_0000) >> (32 - plen) << (32 - plen);
        for _ in 0..=rng.below(8) {
            if all.len() < count {
                all.insert((key, plen));
            }
            key = key.wrapping_add(1 << (32 - plen));
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable();
    for last in (1..all.len()).rev() {
        all.swap(last, rng.below(last as u32 + 1) as usize);
    }
    all
}

/// The memory of this process in bytes, where the system tells.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// The time for one of `addrs`: each measured group of 64 look-ups gives one average.
fn time_lookups(trie: &LcTrie<u32>, addrs: &[u32]) -> (f64, f64, f64) {
    let mut groups: Vec<_> = addrs
        .chunks_exact(64)
        .map(|group| {
            let start = Instant::now();
            for &addr in group {
                black_box(trie.lookup(addr, |_, &alias| Some(alias)));
            }
            start.elapsed().as_nanos() as f64 / 64.0
        })
        .collect();
    groups.sort_by(f64::total_cmp);
    let mean = groups.iter().sum::<f64>() / groups.len().max(1) as f64;
    let at = |share: usize| groups.get(groups.len() * share / 100).copied().unwrap_or(0.0);
    (at(50), at(99), mean)
}

/// The time of one change when every change is published as a clone.
fn time_published(trie: &mut LcTrie<u32>, prefixes: &[(u32, u8)]) -> Duration {
    let mut published = Vec::from([trie.clone()]);
    let start = Instant::now();
    for &(key, plen) in prefixes {
        trie.remove(key, plen);
        published.fill(trie.clone());
        trie.insert(key, plen, 1);
        published.fill(trie.clone());
    }
    start.elapsed() / (2 * prefixes.len().max(1)) as u32
}

fn main() {
    let count = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let mut rng = Csprng::from_seed([42; 32]);
    let prefixes = prefixes(&mut rng, count);
    let before = resident();
    let start = Instant::now();
    let mut trie = LcTrie::new();
    for (&(key, plen), alias) in prefixes.iter().zip(0u32..) {
        trie.insert(key, plen, alias);
    }
    let took = start.elapsed();
    let bytes = resident().saturating_sub(before) as f64 / count.max(1) as f64;
    println!("load      {count} prefixes in {took:.2?}, {bytes:.1} bytes each (resident)");

    let random: Vec<u32> = (0..2_000_000).map(|_| rng.below(0xe000_0000)).collect();
    let pick = |rng: &mut Csprng| {
        let at = rng.below(prefixes.len() as u32) as usize;
        let (key, plen) = prefixes.get(at).copied().unwrap_or_default();
        key | (rng.next_u32() & ((1u64 << (32 - plen)) - 1) as u32)
    };
    let routed: Vec<u32> = (0..2_000_000).map(|_| pick(&mut rng)).collect();
    let few: Vec<u32> = (0..2_000_000).map(|n| routed[n % 1024]).collect();
    for (name, addrs) in [("random", random), ("routed", routed), ("1024 flows", few)] {
        let (median, p99, mean) = time_lookups(&trie, &addrs);
        println!("lookup    {name}: median {median:.1} ns, p99 {p99:.1} ns, mean {mean:.1} ns");
    }

    let changed = time_published(&mut trie, prefixes.get(..2000).unwrap_or(&prefixes));
    println!("change    {changed:.2?} when each is published");

    let start = Instant::now();
    for &(key, plen) in &prefixes {
        trie.remove(key, plen);
    }
    println!("remove    all in {:.2?}, {} left", start.elapsed(), trie.len());
}
