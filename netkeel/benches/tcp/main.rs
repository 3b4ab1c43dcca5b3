//! `netkeel bench tcp` with smoltcp beside it: `cargo bench -p netkeel --bench tcp`, with the command's options behind
//! `--`.

#[path = "../../../sim/benches/smoltcp_host.rs"]
mod smoltcp_host;
#[path = "../../../sim/benches/tcp_stream/smoltcp_pair.rs"]
mod smoltcp_pair;
mod smoltcp_tap;

use clap::Parser;
use netkeel::bench::{BenchArgs, BenchError, Ends, Moves, Rival, Way, run_beside};
use sim::stream::WRITE;
use smoltcp_pair::SmoltcpPair;
use smoltcp_tap::SmoltcpTap;
use std::process::ExitCode;

/// Beside smoltcp
#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    args: BenchArgs,
}

struct Smoltcp;

impl Rival for Smoltcp {
    fn over_tap<'a>(
        &self,
        tap: &'a host::tap::Tap,
        ends: Ends,
        way: Way,
    ) -> Result<Moves<'a>, BenchError> {
        let mut stream = SmoltcpTap::connected(tap, ends)?;
        Ok(match way {
            Way::In => Box::new(move || stream.receive()),
            Way::Out => Box::new(move || stream.send()),
        })
    }

    fn in_memory(&self) -> Moves<'static> {
        let mut pair = SmoltcpPair::new();
        Box::new(move || {
            pair.round();
            Ok(WRITE)
        })
    }

    fn round_trips_in_memory(&self) -> Box<dyn FnMut()> {
        let mut pair = SmoltcpPair::new();
        Box::new(move || pair.round_trip())
    }
}

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`; `cargo test --benches` does not, and wants no measurement.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    let words = words.into_iter().filter(|word| word != "--bench");
    let bench = Bench::parse_from(["bench".to_owned(), "tcp".to_owned()].into_iter().chain(words));
    match run_beside(&bench.args, Some(&Smoltcp)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
