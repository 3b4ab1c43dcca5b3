//! `netkeel bench`: where the stack stands beside the host's kernel and others, measured on this machine.
//!
//! Key types: [`BenchArgs`], [`BenchError`], [`Rival`]; [`run`] is the command. Parts: `place` (the namespaces and
//! devices of a measurement), `figure` (counting and medians), `ours` (a machine of
//! the stack), `udp` and `tcp` (what is measured: by the host's
//! programs, by a bare loop on the TAP, by ours, and the table). Contexts: threads of its own, in network
//! namespaces of its own.
//! Invariants: nothing of the host is changed; what is compared is measured in turn in one run, so that a
//! machine whose clock moves shows in the spread and not in the ratio.

mod figure;
mod ours;
mod place;
mod tcp;
mod udp;

use clap::{Args, Subcommand};
use host::netns;
use host::tap::TapError;
use host::{RuntimeError, netns::in_own_netns};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use uapi::errno::Errno;

pub use tcp::{Ends, Moves, Rival, TcpArgs, Way};
pub use udp::UdpArgs;

const EXAMPLES: &str = "\
Examples:
  sudo netkeel bench udp
  sudo netkeel bench tcp
  sudo netkeel bench tcp --only bulk --runs 9 --time 1000
  sudo netkeel bench udp --format json > bench.json

Each row is measured in turn by the stack and by what it is compared with: a bare read or write
loop on the same TAP, the host's kernel over a veth pair. Ratios are of the runs they were
measured in.";

/// Measure the stack beside the host's kernel
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    Udp(UdpArgs),
    Tcp(TcpArgs),
}

/// How often and how long.
#[derive(Args, Clone, Debug)]
struct RunArgs {
    /// Runs, of which the medians are told
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
    runs: u16,
    /// Milliseconds that is counted for, in each run
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    time: u64,
    /// Round trips of a run
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    trips: u32,
    /// Microseconds that a waiting task spins at most, in the rows that spin
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    busy_poll: u64,
    /// Only rows whose names contain this, such as `sent`, `bulk` or `spinning`
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
    /// How to write it down
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl RunArgs {
    fn time(&self) -> Duration {
        Duration::from_millis(self.time)
    }

    fn busy_poll(&self) -> Duration {
        Duration::from_micros(self.busy_poll)
    }

    fn pick<T>(&self, rows: Vec<T>, name: impl Fn(&T) -> String) -> Result<Vec<T>, BenchError> {
        let (picked, others): (Vec<T>, Vec<T>) =
            rows.into_iter().partition(|row| name(row).contains(&self.only));
        if picked.is_empty() {
            let names: Vec<String> = others.iter().map(|row| format!("{:?}", name(row))).collect();
            let names = names.join(", ");
            return Err(BenchError::NoRow { asked: self.only.clone(), names });
        }
        Ok(picked)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table
    #[default]
    Text,
    /// An object
    Json,
}

/// Why there is nothing to tell. The text names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No rights.
    #[error("measuring makes network namespaces and devices, which takes root: run it with sudo")]
    Rights,
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The TAP could not be opened.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The machine could not be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The stack refused something.
    #[error("{what}: {errno}")]
    Stack {
        /// What was being done.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// Nothing arrived where everything should.
    #[error("{0}: nothing arrived within 5 seconds; is the machine under heavy load?")]
    Silence(&'static str),
    /// SYNs left something behind.
    #[error("SYNs that were answered by cookies left something behind, which is a bug: {0}")]
    Kept(String),
    /// A filter that nothing passes.
    #[error("no row's name contains {asked:?}: try a part of {names}")]
    NoRow {
        /// What was asked for.
        asked: String,
        /// Those there are.
        names: String,
    },
    /// Standard output failed.
    #[error("writing the output: {0}")]
    Output(#[source] io::Error),
}

impl BenchError {
    /// The exit code of a command that ends so: 2 for a mistake in its arguments, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::NoRow { .. }) { 2 } else { 1 }
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> BenchError {
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied => BenchError::Rights,
        _ => BenchError::System { what, source },
    }
}

fn refused(what: &'static str) -> impl Fn(Errno) -> BenchError {
    move |errno| BenchError::Stack { what, errno }
}

/// Measures, and prints to standard output.
///
/// # Errors
/// [`BenchError`].
pub fn run(args: &BenchArgs) -> Result<(), BenchError> {
    run_beside(args, None)
}

/// The same, with another stack beside ours in the rows of TCP that are for one.
///
/// # Errors
/// [`BenchError`].
pub fn run_beside(args: &BenchArgs, rival: Option<&dyn Rival>) -> Result<(), BenchError> {
    let text = match &args.what {
        What::Udp(args) => udp::run(args)?,
        What::Tcp(args) => tcp::run(args, rival)?,
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if !host::signal::is_closed_pipe(&e) => Err(BenchError::Output(e)),
        _ => Ok(()),
    }
}

/// Does it in a network namespace of its own.
fn measured<R: Send>(
    f: impl FnOnce(&netns::NetNs) -> Result<R, BenchError> + Send,
) -> Result<R, BenchError> {
    in_own_netns(f).map_err(system("a network namespace"))?
}

/// Where the two ends of a round trip are, and how they wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    /// Both on one processor, asleep.
    OneSleeping,
    /// On two, asleep.
    TwoSleeping,
    /// On two, spinning.
    TwoSpinning,
}

impl Placement {
    /// Those that can be measured here.
    fn here() -> Vec<Self> {
        match netns::processors().len() {
            0 | 1 => vec![Self::OneSleeping],
            _ => vec![Self::OneSleeping, Self::TwoSleeping, Self::TwoSpinning],
        }
    }

    fn round_trip(self) -> &'static str {
        match self {
            Self::OneSleeping => "round trip, one processor, sleeping",
            Self::TwoSleeping => "round trip, two processors, sleeping",
            Self::TwoSpinning => "round trip, two processors, spinning",
        }
    }
}

/// How far it is, on a terminal; the line goes with it, also before an error is told.
struct Progress {
    of: usize,
}

impl Progress {
    fn show(&self, done: usize, what: impl std::fmt::Display) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            // Nobody has to see it.
            let _ = write!(err, "\r{:3} %  {what}\x1b[K", done * 100 / self.of);
            let _ = err.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            let _ = write!(err, "\r\x1b[K");
        }
    }
}
