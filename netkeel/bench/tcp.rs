//! `netkeel bench tcp`: streams and round trips of TCP, beside the host's kernel, a bare TAP and another stack.
//!
//! Key types: [`TcpArgs`], [`Rival`]; [`run`] is the command. Parts: `row` (what there is to measure, beside whom,
//! and what is wanted), `kernel` (the host's programs), `stack` (ours over a TAP), `tap` (a bare loop on it),
//! `bare_stream` (the least that sends a stream to the host's TCP), `flood` (SYNs),
//! `report` (the table). In memory two machines of ours are measured, on one thread.

mod bare_stream;
mod flood;
mod kernel;
mod report;
mod row;
mod stack;
mod tap;

use super::figure::{Host, Sample, flow, round_trips};
use super::place::{HOST, NEAR, OUR_MAC, OURS, PORT, Place, Seats};
use super::{BenchError, EXAMPLES, Format, Placement, Progress, RunArgs, measured, udp};
use clap::Args;
use host::netns;
use host::tap::Tap;
use report::{Report, Row};
use row::{Offloads, Other, Work};
use sim::bare::Device;
use sim::stream::{Pair, WRITE};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::if_tun::{TUN_F_CSUM, TUN_F_TSO4, TUN_F_USO4, TUN_F_USO6};

/// Streams, round trips and a flood of SYNs between the host's kernel and a socket of the stack, over a TAP, and
/// between two machines in memory; takes root
///
/// Namespaces and devices are made for it and go with it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TcpArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Where octets go, seen from the measured end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The host's peer sends.
    In,
    /// The measured end does.
    Out,
}

/// The two ends of a stream over a TAP. Where the peer listens, the measured end connects to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The measured end's link address.
    pub mac: [u8; 6],
    /// Its IP address, in a network of 24 bits.
    pub ours: Ipv4Addr,
    /// The peer's.
    pub host: Ipv4Addr,
    /// Where it listens.
    pub port: u16,
}

/// Moves some octets; how many.
///
/// # Errors
/// Why that is over.
pub type Moves<'a> = Box<dyn FnMut() -> Result<usize, BenchError> + 'a>;

/// Another stack in user space, measured where a row is for one.
pub trait Rival: Sync {
    /// A stream over the TAP, connected; sums and segments are its own affair.
    ///
    /// # Errors
    /// Why there is none.
    fn over_tap<'a>(&self, tap: &'a Tap, ends: Ends, way: Way) -> Result<Moves<'a>, BenchError>;

    /// A stream between two machines of its own in memory, on the calling thread.
    fn in_memory(&self) -> Moves<'static>;

    /// An octet there and back between two such machines.
    fn round_trips_in_memory(&self) -> Box<dyn FnMut()>;
}

/// One run of one row.
#[derive(Clone, Copy, Debug)]
struct Run {
    work: Work,
    time: Duration,
    trips: u32,
    busy_poll: Duration,
    seats: Seats,
}

impl Run {
    fn spins(&self) -> bool {
        self.work == Work::Trip(Placement::TwoSpinning)
    }

    /// So long a task that waits spins.
    fn busy_poll(&self) -> Duration {
        if self.spins() { self.busy_poll } else { Duration::ZERO }
    }
}

/// Measures; the text to print.
///
/// # Errors
/// [`BenchError`].
pub(super) fn run(args: &TcpArgs, rival: Option<&dyn Rival>) -> Result<String, BenchError> {
    let works = args.run.pick(Work::here(), |work| work.name())?;
    let report = measured(|ns| measure(args, &works, ns, rival))?;
    Ok(match args.run.format {
        Format::Text => report.text(),
        Format::Json => report.json(),
    })
}

fn measure(
    args: &TcpArgs,
    works: &[Work],
    ns: &netns::NetNs,
    rival: Option<&dyn Rival>,
) -> Result<Report, BenchError> {
    // First: whoever measures is bound to one processor.
    let host = Host::read();
    let bed = Bed { place: Place::make(ns)?, rival };
    let progress = Progress { of: works.len() * usize::from(args.run.runs) };
    let mut rows = Vec::new();
    for (number, work) in works.iter().enumerate() {
        let others = work.beside().iter().filter(|other| bed.has(other.who)).collect();
        let mut row = Row::new(*work, others);
        for nth in 0..usize::from(args.run.runs) {
            progress.show(number * usize::from(args.run.runs) + nth, work.name());
            let run = bed.run_of(&args.run, *work);
            let ours = bed.ours(&run)?;
            let theirs: Result<_, _> =
                row.others.iter().map(|other| bed.theirs(other.who, &run)).collect();
            row.add(ours, theirs?);
        }
        rows.push(row);
    }
    Ok(Report { host, runs: args.run.runs, rows })
}

/// Where all is measured, and by whom.
struct Bed<'a> {
    place: Place<'a>,
    rival: Option<&'a dyn Rival>,
}

impl Bed<'_> {
    fn has(&self, other: Other) -> bool {
        other != Other::Smoltcp || self.rival.is_some()
    }

    fn run_of(&self, args: &RunArgs, work: Work) -> Run {
        let one = work == Work::Trip(Placement::OneSleeping);
        Run {
            work,
            time: args.time(),
            trips: args.trips,
            busy_poll: args.busy_poll(),
            seats: if one { self.place.one_seat() } else { self.place.two_seats() },
        }
    }

    fn ours(&self, run: &Run) -> Result<Sample, BenchError> {
        match run.work {
            Work::Bulk(_, Offloads::On) | Work::BytesOut => {
                stack::measure(run, self.place.open_tap(TUN_F_CSUM | TUN_F_TSO4)?)
            }
            Work::Bulk(_, Offloads::Off) => stack::measure(run, self.place.open_tap(0)?),
            Work::Trip(_) => stack::measure(run, self.place.open_tap(TUN_F_CSUM)?),
            Work::BulkInMemory(offloads) => {
                run.seats.settle()?;
                let pair = Pair::new(Device::Wire);
                let mut pair = match offloads {
                    Offloads::On => pair.with_tso(),
                    Offloads::Off => pair.without_offloads(),
                };
                let ends = pair.connected();
                flow(run.time, || {
                    pair.round(ends);
                    Ok(WRITE)
                })
            }
            Work::TripInMemory => {
                run.seats.settle()?;
                let mut pair = Pair::new(Device::Wire);
                let ends = pair.connected();
                round_trips(run.trips, || {
                    pair.round_trip(ends);
                    Ok(())
                })
            }
            Work::Flood => flood::ours(run, self.place.open_tap(TUN_F_CSUM)?),
            Work::FloodInMemory(asked) => {
                run.seats.settle()?;
                flood::in_memory(run.time, asked)
            }
        }
    }

    fn theirs(&self, other: Other, run: &Run) -> Result<Sample, BenchError> {
        match other {
            Other::Kernel => self.kernel(run),
            Other::KernelOnTap => flood::kernel(run, &self.place),
            Other::Tap => self.bare_tap(run),
            Other::TapStream => {
                let tap = match run.work {
                    Work::Bulk(_, Offloads::Off) => self.place.open_tap(0)?,
                    _ => self.place.open_tap(TUN_F_CSUM | TUN_F_TSO4)?,
                };
                bare_stream::measure(run, &tap)
            }
            // A row of it is left out where there is none.
            Other::Smoltcp => self.rival.map_or(Ok(Sample::NONE), |rival| self.rival(run, rival)),
        }
    }

    /// Two of the host's programs over veth; in memory there is no direction, so the stream goes in.
    fn kernel(&self, run: &Run) -> Result<Sample, BenchError> {
        let run = match run.work {
            Work::BulkInMemory(offloads) => Run { work: Work::Bulk(Way::In, offloads), ..*run },
            _ => *run,
        };
        let on = !matches!(run.work, Work::Bulk(_, Offloads::Off));
        self.place.veth_offloads(on)?;
        let _peer = kernel::Peer::start(&run, NEAR)?;
        self.place.far(Box::new(move || kernel::measure(&run)))
    }

    fn bare_tap(&self, run: &Run) -> Result<Sample, BenchError> {
        match run.work {
            Work::Bulk(_, Offloads::On) | Work::BytesOut => {
                let large = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_USO4 | TUN_F_USO6;
                tap::measure(run, run.work.way(), &self.place.open_tap(large)?)
            }
            Work::Bulk(way, Offloads::Off) => {
                let tap = self.place.open_tap(0)?;
                udp::bare_stream(&tap, way, run.seats, run.time)
            }
            Work::Trip(placement) => {
                let tap = self.place.open_tap(TUN_F_CSUM)?;
                udp::bare_trips(&tap, placement, run.seats, run.trips)
            }
            Work::Flood => flood::bare(run, &self.place.open_tap(TUN_F_CSUM)?),
            // No such row.
            Work::BulkInMemory(_) | Work::TripInMemory | Work::FloodInMemory(_) => Ok(Sample::NONE),
        }
    }

    fn rival(&self, run: &Run, rival: &dyn Rival) -> Result<Sample, BenchError> {
        run.seats.settle()?;
        match run.work {
            Work::TripInMemory => {
                let mut once = rival.round_trips_in_memory();
                round_trips(run.trips, || {
                    once();
                    Ok(())
                })
            }
            Work::Bulk(way, _) => {
                let tap = self.place.open_tap(0)?;
                let _peer = kernel::Peer::start(run, HOST)?;
                let ends = Ends { mac: OUR_MAC, ours: OURS, host: HOST, port: PORT };
                flow(run.time, rival.over_tap(&tap, ends, way)?)
            }
            Work::BulkInMemory(_) => flow(run.time, rival.in_memory()),
            // No such row.
            Work::Trip(_) | Work::BytesOut | Work::Flood | Work::FloodInMemory(_) => {
                Ok(Sample::NONE)
            }
        }
    }
}
