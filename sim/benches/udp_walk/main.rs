//! What a 64-byte UDP datagram costs through every station, two machines on a wire in memory.
//!
//! `cargo bench -p netkeel-sim --bench udp_walk` prints the rate beside smoltcp's in the same run
//! and fails if a packet allocates. The other commands are what `cargo xtask bench` runs under its
//! instruments; `Documentation/networking/benches.md` says how each figure comes about.

mod allocations;
mod machines;
#[path = "../processor.rs"]
mod processor;
#[path = "../smoltcp_host.rs"]
mod smoltcp_host;
mod smoltcp_pair;
mod threads;

use machines::{Entering, MAX_BATCH, PHASES, Pair};
use sim::bare::Device;
use smoltcp_pair::SmoltcpPair;
use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
What a 64-byte UDP datagram costs through every station.

Usage:
  udp_walk rate [--tsv]                   rate beside smoltcp's; fails if a packet allocates
  udp_walk count DEVICE ROUNDS BATCH      that many batches and nothing else, for an instrument
  udp_walk time DEVICE ROUNDS BATCH       nanoseconds a datagram, after as many rounds of warm-up
  udp_walk phases DEVICE ROUNDS BATCH     the same by phase, the median of the rounds
  udp_walk stations DEVICE BATCH          stations that each phase of one batch passes
  udp_walk entries ROUNDS                 a CPU entered and left so often, for an instrument
  udp_walk enter [--tsv]                  time to enter a CPU that another thread runs flat out
  udp_walk cpus [--tsv]                   two queues on two CPUs beside one

DEVICE: wire or igb. BATCH: 1 to 64.
";

const BATCHES: [usize; 3] = [64, 32, 1];
/// Timed runs of each side; their median is what counts.
const RUNS: usize = 5;
const DATAGRAMS: usize = 400_000;
const WARM_UP: usize = 20_000;

/// Nanoseconds a datagram.
fn time(rounds: usize, batch: usize, mut round: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        round(batch);
    }
    start.elapsed().as_nanos() as f64 / (rounds * batch) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Rate {
    device: &'static str,
    batch: usize,
    ours: f64,
    smoltcp: f64,
    allocations: u64,
}

/// Both sides in turn, so that what disturbs the machine disturbs both.
fn rate(device: &'static str, batch: usize) -> Rate {
    let mut pair = Pair::new(Device::named(device).expect("one of ours"));
    let mut other = SmoltcpPair::new();
    time(WARM_UP / batch, batch, |batch| pair.round(batch));
    time(WARM_UP / batch, batch, |batch| other.round(batch));
    let (mut ours, mut smoltcp, mut allocations) = (Vec::new(), Vec::new(), 0);
    let rounds = DATAGRAMS / batch;
    // Room beforehand: what is counted below is the packets' alone.
    ours.reserve(RUNS);
    for _ in 0..RUNS {
        let before = allocations::so_far();
        let ns = time(rounds, batch, |batch| pair.round(batch));
        allocations += allocations::so_far() - before;
        ours.push(ns);
        smoltcp.push(time(rounds, batch, |batch| other.round(batch)));
    }
    Rate { device, batch, ours: median(ours), smoltcp: median(smoltcp), allocations }
}

fn mpps(ns: f64) -> f64 {
    1e3 / ns
}

fn rates(tsv: bool) -> ExitCode {
    let mut allocations = 0;
    if !tsv {
        println!("device batch   ns/datagram   Mpps   smoltcp ns   Mpps   ratio  allocations");
    }
    for device in ["wire", "igb"] {
        for batch in BATCHES {
            let rate = rate(device, batch);
            allocations += rate.allocations;
            let ratio = rate.smoltcp / rate.ours;
            let Rate { device, batch, ours, smoltcp, allocations } = rate;
            if tsv {
                let name = format!("rate/{device}/{batch}");
                // Only the wire is the same way as smoltcp's: behind igb is a model of a NIC.
                let budget = if device == "wire" { ">=1" } else { "" };
                println!("{name}/mpps\t{:.2}\t", mpps(ours));
                println!("{name}/smoltcp-mpps\t{:.2}\t", mpps(smoltcp));
                println!("{name}/ratio\t{ratio:.2}\t{budget}");
                println!("{name}/allocations\t{allocations}\t<=0");
            } else {
                println!(
                    "{device:6} {batch:5} {ours:13.1} {:6.2} {smoltcp:12.1} {:6.2} {ratio:7.2} \
                     {allocations:12}",
                    mpps(ours),
                    mpps(smoltcp)
                );
            }
        }
    }
    if allocations == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("udp_walk: {allocations} allocations after warm-up, where none is allowed");
    ExitCode::FAILURE
}

fn batch(text: &str) -> Option<usize> {
    text.parse().ok().filter(|batch| (1..=MAX_BATCH).contains(batch))
}

fn count(device: &str, rounds: &str, size: &str) -> Option<()> {
    let (device, rounds) = (Device::named(device)?, rounds.parse().ok()?);
    let (size, mut pair) = (batch(size)?, Pair::new(device));
    for _ in 0_usize..rounds {
        pair.round_each(size);
    }
    Some(())
}

fn timed(device: &str, rounds: &str, size: &str) -> Option<()> {
    let (device, rounds) = (Device::named(device)?, rounds.parse().ok().filter(|&n| n > 0)?);
    let (size, mut pair) = (batch(size)?, Pair::new(device));
    time(rounds, size, |size| pair.round(size));
    println!("{:.2}", time(rounds, size, |size| pair.round(size)));
    Some(())
}

/// Nanoseconds a datagram of each phase: medians, so that what disturbs the machine is left out.
fn phases(device: &str, rounds: &str, size: &str) -> Option<()> {
    let (device, rounds) = (Device::named(device)?, rounds.parse().ok().filter(|&n| n > 0)?);
    let (size, mut pair) = (batch(size)?, Pair::new(device));
    time(rounds, size, |size| pair.round(size));
    let mut all: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        pair.time_passes();
        let runs: [fn(&mut Pair, usize); 4] = [
            Pair::phase_send,
            |pair, _| pair.phase_softirq(),
            Pair::phase_recvmmsg,
            |pair, _| pair.phase_complete(),
        ];
        for (run, all) in runs.iter().zip(&mut all) {
            all.push(time(1, size, |size| run(&mut pair, size)));
        }
    }
    for (phase, all) in PHASES.iter().zip(all) {
        println!("{phase}\t{:.1}", median(all));
    }
    Some(())
}

fn stations(device: &str, size: &str) -> Option<()> {
    let (size, mut pair) = (batch(size)?, Pair::new(Device::named(device)?));
    for _ in 0..WARM_UP / size {
        pair.round(size);
    }
    for (phase, stations) in PHASES.iter().zip(pair.stations(size)) {
        println!("{phase}\t{stations}");
    }
    Some(())
}

fn entries(rounds: &str) -> Option<()> {
    let (rounds, mut entering) = (rounds.parse::<usize>().ok()?, Entering::new());
    (0..rounds / Entering::ENTRIES).for_each(|_| entering.phase_enter());
    Some(())
}

/// What runs on threads; the second word is `--tsv` or there is none.
fn threaded(bench: fn(bool), words: &[&str]) -> Option<()> {
    let tsv = match words {
        [] => false,
        ["--tsv"] => true,
        _ => return None,
    };
    bench(tsv);
    Some(())
}

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`; `cargo test --benches` does not, and wants no measurement.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let bench = args.iter().any(|arg| arg == "--bench");
    let words: Vec<&str> =
        args.iter().map(String::as_str).filter(|&arg| arg != "--bench").collect();
    let done = match words[..] {
        [] if bench => return rates(false),
        ["rate"] => return rates(false),
        ["rate", "--tsv"] | ["--tsv"] => return rates(true),
        ["count", device, rounds, size] => count(device, rounds, size),
        ["time", device, rounds, size] => timed(device, rounds, size),
        ["phases", device, rounds, size] => phases(device, rounds, size),
        ["stations", device, size] => stations(device, size),
        ["entries", rounds] => entries(rounds),
        ["enter", ref rest @ ..] => threaded(threads::enter, rest),
        ["cpus", ref rest @ ..] => threaded(threads::cpus, rest),
        [] | ["--help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => None,
    };
    if done.is_some() {
        return ExitCode::SUCCESS;
    }
    eprint!("udp_walk: not understood: {}\n\n{HELP}", words.join(" "));
    ExitCode::from(2)
}
