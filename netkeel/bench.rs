//! `netkeel bench udp`: where the stack stands beside the host's kernel, measured on this machine.
//!
//! Key types: [`BenchArgs`], [`BenchError`]; [`run`] is the command. Parts: `place` (the namespaces and
//! devices of a measurement), `kernel` (the host's programs), `tap` (a bare loop on the TAP), `stack` (ours),
//! `report` (the table). Contexts: threads of its own, in network namespaces of its own.
//! Invariants: nothing of the host is changed; what is compared is measured in turn in one run, so that a
//! machine whose clock moves shows in the spread and not in the ratio.

mod kernel;
mod place;
mod report;
mod stack;
mod tap;

use clap::{Args, Subcommand};
use host::netns;
use host::tap::TapError;
use host::{RuntimeError, netns::in_own_netns};
use place::Place;
use report::{Report, Row};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use uapi::errno::Errno;

const EXAMPLES: &str = "\
Examples:
  sudo netkeel bench udp
  sudo netkeel bench udp --size 64 --runs 9 --time 1000
  sudo netkeel bench udp --format json > bench.json

Each row is measured in turn by the stack, by a bare read or write loop on the same TAP, and by the
host's kernel over a veth pair. Ratios are of the runs they were measured in; the last column is their
least and greatest.";

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
}

/// Datagrams between the host's kernel and a socket of the stack, over a TAP; takes root
///
/// Namespaces and devices are made for it and go with it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct UdpArgs {
    /// Octets of data in a datagram; may be given several times
    #[arg(long, value_name = "N", default_values_t = [64, 1472], value_parser = clap::value_parser!(u16).range(8..=1472))]
    size: Vec<u16>,
    /// Runs, of which the medians are told
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
    runs: u16,
    /// Milliseconds that datagrams are counted for, in each run
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    time: u64,
    /// Round trips of a run
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    trips: u32,
    /// Microseconds that a waiting task spins at most, in the rows that spin
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    busy_poll: u64,
    /// Only rows whose names contain this, such as `sent` or `spinning`
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
    /// How to write it down
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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
    /// A filter that nothing passes.
    #[error(
        "no row's name contains {0:?}: try received, sent, one processor, sleeping or spinning"
    )]
    NoRow(String),
    /// Standard output failed.
    #[error("writing the output: {0}")]
    Output(#[source] io::Error),
}

impl BenchError {
    /// The exit code of a command that ends so: 2 for a mistake in its arguments, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::NoRow(_)) { 2 } else { 1 }
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
    let What::Udp(args) = &args.what;
    let works = works(args)?;
    let measured = in_own_netns(|ns| measure(args, &works, ns));
    let report = measured.map_err(system("a network namespace"))??;
    let text = match args.format {
        Format::Text => report.text(),
        Format::Json => report.json(),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if !host::signal::is_closed_pipe(&e) => Err(BenchError::Output(e)),
        _ => Ok(()),
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// A socket of ours.
    Netkeel,
    /// Frames read and written, nothing else.
    Tap,
    /// A socket of the host's, over veth.
    Kernel,
}

const SUBJECTS: [Subject; 3] = [Subject::Netkeel, Subject::Tap, Subject::Kernel];

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

/// What a row measures.
#[derive(Clone, Copy, Debug)]
enum Work {
    Receive,
    Send,
    RoundTrip(Placement),
}

/// What is asked for and can be measured here.
fn works(args: &UdpArgs) -> Result<Vec<Work>, BenchError> {
    let mut works = vec![Work::Receive, Work::Send];
    works.push(Work::RoundTrip(Placement::OneSleeping));
    if netns::processors().len() > 1 {
        works.push(Work::RoundTrip(Placement::TwoSleeping));
        works.push(Work::RoundTrip(Placement::TwoSpinning));
    }
    works.retain(|work| work.name().contains(&args.only));
    if works.is_empty() { Err(BenchError::NoRow(args.only.clone())) } else { Ok(works) }
}

fn measure(args: &UdpArgs, works: &[Work], ns: &netns::NetNs) -> Result<Report, BenchError> {
    let host = report::Host::read();
    let place = Place::make(ns, args)?;
    let mut rows = Vec::new();
    let progress = Progress { of: works.len() * args.size.len() * usize::from(args.runs) };
    let mut done = 0;
    for work in works {
        for size in &args.size {
            let mut row = Row::new(*work, *size);
            for _ in 0..args.runs {
                progress.show(done, *work, *size);
                done += 1;
                row.add(SUBJECTS.map(|subject| place.measure(subject, *work, *size)))?;
            }
            rows.push(row);
        }
    }
    Ok(Report { host, runs: args.runs, rows })
}

/// How far it is, on a terminal; the line goes with it, also before an error is told.
struct Progress {
    of: usize,
}

impl Progress {
    fn show(&self, done: usize, work: Work, size: u16) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            // Nobody has to see it.
            let _ =
                write!(err, "\r{:3} %  {}, {size} octets\x1b[K", done * 100 / self.of, work.name());
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

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Receive => "received",
            Self::Send => "sent",
            Self::RoundTrip(Placement::OneSleeping) => "round trip, one processor, sleeping",
            Self::RoundTrip(Placement::TwoSleeping) => "round trip, two processors, sleeping",
            Self::RoundTrip(Placement::TwoSpinning) => "round trip, two processors, spinning",
        }
    }
}

/// What a run of a row measured.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Datagrams a second, or nanoseconds of the median round trip.
    value: f64,
    /// Nanoseconds within which 99 of 100 round trips were over.
    p99: f64,
}

impl Sample {
    fn rate(count: u64, time: Duration) -> Self {
        Self { value: count as f64 / time.as_secs_f64(), p99: 0.0 }
    }

    fn trips(mut ns: Vec<u64>) -> Self {
        ns.sort_unstable();
        let at = |part: f64| ns[((ns.len() - 1) as f64 * part) as usize] as f64;
        Self { value: at(0.5), p99: at(0.99) }
    }
}
