//! A listener in SYN-cookie mode under a flood: ours over a TAP, the host's behind it, a bare loop that answers each
//! SYN with a frame of 64 octets, and ours in memory.
//!
//! The host floods ours and the bare loop from the other processor, by raw frames, as fast as it can; what finds no
//! room in the TAP's queue is lost. Behind the TAP the host's listener is flooded by the measured end itself, which
//! writes a SYN and reads its answer: that a write does all the host's work has the same processor do it.

use super::row::Asked;
use super::{HOST, OUR_MAC, OURS, PORT, Run};
use crate::bench::figure::{SILENCE, Sample, flow};
use crate::bench::ours::on_machine;
use crate::bench::place::{Place, TAP};
use crate::bench::{BenchError, refused, system};
use host::clock::monotonic_ns;
use host::netns::{Beside, bind_thread};
use host::packet::FrameSender;
use host::tap::{Tap, VNET_HDR_LEN};
use host::wait::{Token, Trigger, Waiter};
use host::{block_on, tap::MAX_READ};
use klib::checksum::ip_fast_csum;
use sim::flood::{BATCH, Flooded, SYN_LEN, Syns, ack_of, listen_by_cookies};
use stack::kernel::context::TaskCx;
use stack::net::core::dev::NetdevFeatures;
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{sys_accept4, sys_setsockopt};
use std::io::IoSlice;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::ip::IPPROTO_TCP;
use uapi::snmp::LinuxMib;
use uapi::socket::{SO_RCVTIMEO, SOL_SOCKET};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_SYN};

/// Octets of what the bare loop answers with.
const SMALLEST: usize = 64;
/// Where its sum and addresses are.
const SUM: usize = VNET_HDR_LEN + 24;
const ADDRS: usize = VNET_HDR_LEN + 26;
/// Microseconds between two looks at what was answered.
const LOOK: u64 = 1000;
/// Looks without an answer after which something is wrong.
const MOST_LOOKS: u32 = 5_000;

/// The host's flood of the measured end, until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    _thread: Beside,
}

impl Flood {
    fn start(run: &Run, mut syns: Syns) -> Result<Self, BenchError> {
        let sender = FrameSender::open(TAP).map_err(system("raw frames"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, there) = (Arc::clone(&stop), run.seats.there);
        let thread = Beside::start(move || {
            // Where it is refused the numbers tell.
            let _ = bind_thread(there);
            while !flag.load(Ordering::Relaxed) {
                let frames: [[u8; SYN_LEN]; BATCH] = std::array::from_fn(|_| *syns.next_frame());
                if sender.send(&frames).is_err() {
                    Beside::make_way();
                }
            }
        });
        Ok(Self { stop, _thread: thread.map_err(system("the host's end"))? })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn mac(tap: &Tap) -> Result<[u8; 6], BenchError> {
    tap.mac().map_err(system("the TAP's link address"))
}

/// SYNs for ours, by the host.
fn for_ours(tap: &Tap) -> Result<Syns, BenchError> {
    Ok(Syns::new([mac(tap)?, OUR_MAC], (OURS, PORT)))
}

/// SYNs a second that a machine of ours over the TAP answers.
pub(super) fn ours(run: &Run, tap: Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let syns = for_ours(&tap)?;
    on_machine(tap, Duration::ZERO, NetdevFeatures::empty(), |cx| {
        let way_back = FibInfo { gateway: HOST.into(), ..FibInfo::default() };
        fib_new_route(cx, 0, 0, way_back).map_err(refused("the way back"))?;
        let fd = listen_by_cookies(cx, OURS, PORT);
        let timeval = [0, LOOK].map(u64::to_ne_bytes).concat();
        sys_setsockopt(cx, fd, SOL_SOCKET, SO_RCVTIMEO, &timeval)
            .map_err(refused("its time-out"))?;
        let flood = Flood::start(run, syns)?;
        let mut before = sent(cx);
        let sample = flow(run.time, || answered(cx, fd, &mut before));
        drop(flood);
        sample
    })
}

fn sent(cx: &TaskCx) -> u64 {
    cx.machine().mib().get(LinuxMib::SyncookiesSent)
}

/// Waits for a connection, which never comes; how many SYNs were answered meanwhile.
fn answered(cx: &mut TaskCx, fd: i32, before: &mut u64) -> Result<usize, BenchError> {
    for _ in 0..MOST_LOOKS {
        match block_on(cx, &mut sys_accept4(fd, 0)) {
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(refused("accepting")(errno)),
            Ok(_) => return Err(refused("a connection that nobody asked for")(Errno::EISCONN)),
        }
        let now = sent(cx);
        let came = now - std::mem::replace(before, now);
        if came != 0 {
            return Ok(came as usize);
        }
    }
    Err(BenchError::Silence("the stack"))
}

/// A frame to the host with a TCP header, without a sum: the host, which does not forward, looks for a way to
/// where it goes and drops it, as it does with an answer to a SYN.
fn smallest(host: [u8; 6]) -> [u8; VNET_HDR_LEN + SMALLEST] {
    let mut frame = [0; VNET_HDR_LEN + SMALLEST];
    let mut put = |at: usize, octets: &[u8]| {
        frame[VNET_HDR_LEN + at..][..octets.len()].copy_from_slice(octets);
    };
    put(0, &host);
    put(6, &OUR_MAC);
    // Don't fragment; 64 hops.
    put(12, &[8, 0, 0x45, 0, 0, SMALLEST as u8 - 14, 0, 0, 0x40, 0, 64, IPPROTO_TCP]);
    put(26, &OURS.octets());
    put(34, &PORT.to_be_bytes());
    put(36, &PORT.to_be_bytes());
    put(46, &[0x50, TCPHDR_SYN | TCPHDR_ACK]);
    frame
}

/// SYNs a second that a bare loop reads, writing the smallest frame for each.
pub(super) fn bare(run: &Run, tap: &Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let mut frame = smallest(mac(tap)?);
    let waiter = Waiter::new().map_err(system("a place to wait"))?;
    waiter.add(tap, Token(0), Trigger::Level).map_err(system("waiting for the TAP"))?;
    let _flood = Flood::start(run, for_ours(tap)?)?;
    let mut buf = vec![0; MAX_READ];
    flow(run.time, || {
        let mut came = 0;
        while came < BATCH
            && let Some(len) = tap.read_frame(&mut buf).map_err(system("reading the TAP"))?
        {
            let Some(syn) = buf[..len].get(VNET_HDR_LEN..VNET_HDR_LEN + SYN_LEN) else { continue };
            // Back to whom it says it came from.
            frame[ADDRS + 4..ADDRS + 8].copy_from_slice(&syn[26..30]);
            frame[SUM..SUM + 2].fill(0);
            let sum = ip_fast_csum(&frame[VNET_HDR_LEN + 14..VNET_HDR_LEN + 34]);
            frame[SUM..SUM + 2].copy_from_slice(&sum.to_be_bytes());
            tap.write_frame(&[IoSlice::new(&frame)]).map_err(system("writing to the TAP"))?;
            came += 1;
        }
        if came == 0 {
            let mut events = waiter.wait(Some(SILENCE)).map_err(system("waiting for the TAP"))?;
            events.next().ok_or(BenchError::Silence("the TAP"))?;
        }
        Ok(came)
    })
}

/// SYNs a second that the host answers behind the TAP.
pub(super) fn kernel(run: &Run, place: &Place<'_>) -> Result<Sample, BenchError> {
    let tap = place.open_tap(0)?;
    place.cookies_by_tap()?;
    run.seats.settle()?;
    let _listener = TcpListener::bind((HOST, PORT)).map_err(system("the host's socket"))?;
    let mut syns = Syns::new([OUR_MAC, mac(&tap)?], (HOST, PORT));
    let mut buf = vec![0; MAX_READ];
    flow(run.time, || {
        let mut answers = 0;
        for _ in 0..BATCH {
            let parts = [&[0; VNET_HDR_LEN][..], syns.next_frame()].map(IoSlice::new);
            tap.write_frame(&parts).map_err(system("writing to the TAP"))?;
            while let Some(len) = tap.read_frame(&mut buf).map_err(system("reading the TAP"))? {
                answers += usize::from(ack_of(&buf[VNET_HDR_LEN..len], 0).is_some());
            }
        }
        match answers {
            0 => Err(BenchError::Silence("the host")),
            answers => Ok(answers),
        }
    })
}

/// What a machine in memory does in a second of what it is asked; only that is timed.
pub(super) fn in_memory(time: Duration, asked: Asked) -> Result<Sample, BenchError> {
    let mut flooded = Flooded::new();
    let kept = flooded.kept();
    let (mut spent, mut rounds) = (0, 0);
    while Duration::from_nanos(spent) < time {
        let timed = |_: &Flooded, phase: &dyn Fn()| {
            let began = monotonic_ns();
            phase();
            spent += monotonic_ns() - began;
        };
        match asked {
            Asked::Syn => flooded.syns(timed),
            Asked::Cookie => flooded.connections(timed),
            Asked::Guess => flooded.guesses(timed),
        }
        rounds += 1;
    }
    // Of connections that were, the table keeps its size.
    if asked != Asked::Cookie && flooded.kept() != kept {
        return Err(BenchError::Kept(format!("{kept:?} became {:?}", flooded.kept())));
    }
    Ok(Sample::rate(rounds * BATCH as u64, Duration::from_nanos(spent)))
}
