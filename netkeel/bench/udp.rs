//! `netkeel bench udp`: datagrams between the host's kernel and a socket of the stack.
//!
//! Key type: [`UdpArgs`]; [`run`] is the command. Each row is measured by the stack, by a bare loop on the TAP,
//! and by the host's kernel over veth.

mod kernel;
mod report;
mod stack;
mod tap;

use super::figure::{Host, Sample};
use super::place::{FAR, NEAR, Place, Seats};
use super::{BenchError, EXAMPLES, Format, Placement, Progress, RunArgs, Way, measured};
use clap::Args;
use host::netns;
use host::tap::Tap;
use report::{Report, Row};
use std::time::Duration;
use uapi::if_tun::TUN_F_CSUM;

/// Octets of data in a full frame.
const FULL: usize = 1472;

/// Datagrams between the host's kernel and a socket of the stack, over a TAP; takes root
///
/// Namespaces and devices are made for it and go with it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct UdpArgs {
    /// Octets of data in a datagram; may be given several times
    #[arg(long, value_name = "N", default_values_t = [64, 1472], value_parser = clap::value_parser!(u16).range(8..=1472))]
    size: Vec<u16>,
    #[command(flatten)]
    run: RunArgs,
}

/// Measures; the text to print.
///
/// # Errors
/// [`BenchError`].
pub(super) fn run(args: &UdpArgs) -> Result<String, BenchError> {
    let works = works(args)?;
    let report = measured(|ns| measure(args, &works, ns))?;
    Ok(match args.run.format {
        Format::Text => report.text(),
        Format::Json => report.json(),
    })
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

/// What a row measures.
#[derive(Clone, Copy, Debug)]
enum Work {
    Receive,
    Send,
    RoundTrip(Placement),
}

/// One run of one row.
#[derive(Clone, Copy, Debug)]
struct Run {
    work: Work,
    size: usize,
    time: Duration,
    trips: u32,
    busy_poll: Duration,
    seats: Seats,
}

impl Run {
    fn spins(&self) -> bool {
        matches!(self.work, Work::RoundTrip(Placement::TwoSpinning))
    }

    /// So long a task that waits spins.
    fn busy_poll(&self) -> Duration {
        if self.spins() { self.busy_poll } else { Duration::ZERO }
    }
}

/// What is asked for and can be measured here.
fn works(args: &UdpArgs) -> Result<Vec<Work>, BenchError> {
    let mut works = vec![Work::Receive, Work::Send];
    works.extend(Placement::here().into_iter().map(Work::RoundTrip));
    args.run.pick(works, |work| work.name().to_owned())
}

fn measure(args: &UdpArgs, works: &[Work], ns: &netns::NetNs) -> Result<Report, BenchError> {
    let host = Host::read();
    let place = Place::make(ns)?;
    let mut rows = Vec::new();
    let progress = Progress { of: works.len() * args.size.len() * usize::from(args.run.runs) };
    let mut done = 0;
    for work in works {
        for size in &args.size {
            let mut row = Row::new(*work, *size);
            for _ in 0..args.run.runs {
                progress.show(done, format_args!("{}, {size} octets", work.name()));
                done += 1;
                let run = args.run_of(*work, *size, &place);
                row.add(SUBJECTS.map(|subject| by(subject, &place, run)))?;
            }
            rows.push(row);
        }
    }
    Ok(Report { host, runs: args.run.runs, rows })
}

/// One run of one row by one of the three.
fn by(subject: Subject, place: &Place<'_>, run: Run) -> Result<Sample, BenchError> {
    match subject {
        Subject::Netkeel => stack::measure(&run, place.open_tap(TUN_F_CSUM)?),
        Subject::Tap => tap::measure(&run, &place.open_tap(TUN_F_CSUM)?),
        Subject::Kernel => {
            let _peer = kernel::Peer::start(&run, NEAR, FAR)?;
            place.far(Box::new(move || kernel::measure(&run)))
        }
    }
}

/// Octets a second of full frames that a bare loop on the TAP reads or writes, sums made and tested by the host.
pub(super) fn bare_stream(
    tap: &Tap,
    way: Way,
    seats: Seats,
    time: Duration,
) -> Result<Sample, BenchError> {
    let work = match way {
        Way::In => Work::Receive,
        Way::Out => Work::Send,
    };
    let run = Run { work, size: FULL, time, trips: 0, busy_poll: Duration::ZERO, seats };
    let frames = tap::measure(&run, tap)?;
    Ok(Sample { value: frames.value * FULL as f64, ..frames })
}

/// Round trips of the smallest datagram that a bare loop on the TAP makes.
pub(super) fn bare_trips(
    tap: &Tap,
    placement: Placement,
    seats: Seats,
    trips: u32,
) -> Result<Sample, BenchError> {
    let (work, time) = (Work::RoundTrip(placement), Duration::ZERO);
    tap::measure(&Run { work, size: 1, time, trips, busy_poll: time, seats }, tap)
}

impl UdpArgs {
    fn run_of(&self, work: Work, size: u16, place: &Place<'_>) -> Run {
        let one = matches!(work, Work::RoundTrip(Placement::OneSleeping));
        Run {
            work,
            size: usize::from(size),
            time: self.run.time(),
            trips: self.run.trips,
            busy_poll: self.run.busy_poll(),
            seats: if one { place.one_seat() } else { place.two_seats() },
        }
    }
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Receive => "received",
            Self::Send => "sent",
            Self::RoundTrip(placement) => placement.round_trip(),
        }
    }
}
