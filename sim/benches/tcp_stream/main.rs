//! What a stream costs by segment of 1,448 octets, and a connection from SYN to TIME_WAIT, between two machines on
//! a wire in memory.
//!
//! `cargo bench -p netkeel-sim --bench tcp_stream` prints the stream beside smoltcp's and the connections beside the
//! host kernel's, each in the same run. The other commands are what `cargo xtask bench` runs under its instruments,
//! which count in the functions `phase_…`; `Documentation/networking/benches.md` says how each figure comes about.

mod kernel;
#[path = "../processor.rs"]
mod processor;
#[path = "../smoltcp_host.rs"]
mod smoltcp_host;
mod smoltcp_pair;

use host::netns::{bind_thread, processors};
use kernel::Kernel;
use processor::processor_time;
use sim::bare::Device;
use sim::flood::Flooded;
use sim::stream::{Pair, WRITE};
use smoltcp_pair::SmoltcpPair;
use std::process::ExitCode;

const HELP: &str = "\
What a stream costs by segment of 1,448 octets, and a connection.

Usage:
  tcp_stream rate [--tsv]               megabytes and round trips a second beside smoltcp's, connections
                                        a second beside the host's
  tcp_stream count DEVICE ROUNDS [gro]  that many writes of 44 segments, for an instrument; GRO is off where they
                                        arrive, unless the word is there
  tcp_stream connections ROUNDS         that many connections, for an instrument
  tcp_stream trips ROUNDS               that many octets there and back, for an instrument
  tcp_stream cookies ROUNDS             that many rounds of 64 SYNs answered by cookies, of 64 acknowledgements with
                                        a cookie and of 64 without, for an instrument

DEVICE: wire or igb.
";

/// Timed runs of each side; their median is what counts.
const RUNS: usize = 5;
/// Octets of a run.
const BYTES: usize = 256 << 20;
/// Round trips of a run.
const TRIPS: usize = 100_000;
/// Connections of a run, and before it to warm up: fewer than may be in TIME_WAIT at a time.
const CONNECTIONS: usize = 5_000;
const WARM_UP: usize = 1_000;
/// Fewer: each of the host's keeps a port for a minute.
const HOST_CONNECTIONS: usize = 1_000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// So many in a second that this thread has a processor.
fn rate(count: usize, mut f: impl FnMut()) -> f64 {
    let start = processor_time();
    (0..count).for_each(|_| f());
    count as f64 / (processor_time() - start)
}

/// What was measured, ours and the other's, in turn, so that what disturbs the machine disturbs both.
struct Beside {
    name: &'static str,
    unit: &'static str,
    other: &'static str,
    /// What is wanted of ours, of its ratio to the other.
    budgets: [&'static str; 2],
    rates: Vec<[f64; 2]>,
}

impl Beside {
    fn print(self, tsv: bool) {
        let Self { name, unit, other, budgets: [budget, wanted], rates } = self;
        let ratio = median(rates.iter().map(|[ours, theirs]| ours / theirs).collect());
        let [ours, theirs] =
            [0, 1].map(|side| median(rates.iter().map(|pair| pair[side]).collect()));
        if tsv {
            println!("rate/{name}/{unit}\t{ours:.0}\t{budget}");
            println!("rate/{name}/{other}-{unit}\t{theirs:.0}\t");
            println!("rate/{name}/ratio\t{ratio:.2}\t{wanted}");
        } else {
            println!(
                "{name:12} {ours:9.0} {unit}  {other:8} {theirs:9.0} {unit}  ratio {ratio:6.2}  {budget}"
            );
        }
    }
}

fn stream() -> Beside {
    let mut pair = Pair::new(Device::Wire).with_tso();
    let ends = pair.connected();
    let mut other = SmoltcpPair::new();
    let rounds = BYTES / WRITE;
    (0..rounds / 10).for_each(|_| pair.round(ends));
    (0..rounds / 10).for_each(|_| other.round());
    let megabytes = |rounds: f64| rounds * WRITE as f64 / 1e6;
    let mut run = || [rate(rounds, || pair.round(ends)), rate(rounds, || other.round())];
    let rates = (0..RUNS).map(|_| run().map(megabytes)).collect();
    Beside { name: "stream", unit: "MB/s", other: "smoltcp", budgets: ["", ">=1"], rates }
}

fn round_trips() -> Beside {
    let mut pair = Pair::new(Device::Wire);
    let ends = pair.connected();
    let mut other = SmoltcpPair::new();
    let mut run = || [rate(TRIPS, || pair.round_trip(ends)), rate(TRIPS, || other.round_trip())];
    run();
    let rates = (0..RUNS).map(|_| run()).collect();
    Beside { name: "round-trips", unit: "per-s", other: "smoltcp", budgets: ["", ">=0.5"], rates }
}

fn connections() -> Beside {
    let kernel = Kernel::new();
    (0..WARM_UP / 10).for_each(|_| kernel.connection());
    let run = || {
        // New ones, on which nothing is in TIME_WAIT yet.
        let mut pair = Pair::new(Device::Wire);
        (0..WARM_UP).for_each(|_| pair.connection());
        let ours = rate(CONNECTIONS, || pair.connection());
        [ours, rate(HOST_CONNECTIONS, || kernel.connection())]
    };
    let rates = (0..RUNS).map(|_| run()).collect();
    let budgets = [">=150000", ""];
    Beside { name: "connections", unit: "per-s", other: "host", budgets, rates }
}

fn rates(tsv: bool) -> ExitCode {
    // Loopback's softirq runs where its packets come from: with the program on one processor all is on that.
    let bound = processors().first().map(|first| bind_thread(*first));
    if let Some(Err(error)) = bound {
        eprintln!(
            "tcp_stream: not bound to one processor, so the host's connections may use more: {error}"
        );
    }
    stream().print(tsv);
    round_trips().print(tsv);
    connections().print(tsv);
    ExitCode::SUCCESS
}

fn count(device: &str, rounds: &str, gro: bool) -> Option<()> {
    let (device, rounds) = (Device::named(device)?, rounds.parse().ok()?);
    let mut pair = Pair::new(device);
    if !gro {
        pair = pair.without_gro();
    }
    let ends = pair.connected();
    (0_usize..rounds).for_each(|_| pair.round(ends));
    Some(())
}

fn opened(rounds: &str) -> Option<()> {
    let (rounds, mut pair) = (rounds.parse().ok()?, Pair::new(Device::Wire));
    (0_usize..rounds).for_each(|_| pair.connection());
    Some(())
}

fn tripped(rounds: &str) -> Option<()> {
    let (rounds, mut pair) = (rounds.parse().ok()?, Pair::new(Device::Wire));
    let ends = pair.connected();
    (0_usize..rounds).for_each(|_| pair.round_trip(ends));
    Some(())
}

fn flooded(rounds: &str) -> Option<()> {
    let (rounds, mut flooded) = (rounds.parse().ok()?, Flooded::new());
    for _ in 0_usize..rounds {
        flooded.syns(|_, phase| phase());
        flooded.connections(|_, phase| phase());
        flooded.guesses(|_, phase| phase());
    }
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
        ["count", device, rounds] => count(device, rounds, false),
        ["count", device, rounds, "gro"] => count(device, rounds, true),
        ["connections", rounds] => opened(rounds),
        ["trips", rounds] => tripped(rounds),
        ["cookies", rounds] => flooded(rounds),
        [] | ["--help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => None,
    };
    if done.is_some() {
        return ExitCode::SUCCESS;
    }
    eprint!("tcp_stream: not understood: {}\n\n{HELP}", words.join(" "));
    ExitCode::from(2)
}
