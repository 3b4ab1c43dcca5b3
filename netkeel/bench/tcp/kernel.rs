//! The host's programs: the peer of every stream over a TAP, and the measured end over veth.

use super::{NEAR, PORT, Run, Way};
use crate::bench::figure::{Patience, SILENCE, Sample, flow, round_trips};
use crate::bench::tcp::row::Work;
use crate::bench::{BenchError, system};
use host::netns::{Beside, bind_thread};
use host::socket::congestion_control;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Octets of a call.
pub(super) const CALL: usize = 256 << 10;

/// The host's end: it sends to the measured end, swallows what comes, or echoes it.
pub(super) struct Peer {
    stop: Arc<AtomicBool>,
    addr: SocketAddr,
    _thread: Beside,
}

impl Peer {
    /// Listens in the calling thread's namespace, at `addr`, for the measured end.
    pub(super) fn start(run: &Run, addr: Ipv4Addr) -> Result<Self, BenchError> {
        let failed = system("the host's socket");
        let listener = TcpListener::bind((addr, PORT)).map_err(&failed)?;
        let addr = listener.local_addr().map_err(&failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, run) = (Arc::clone(&stop), *run);
        let thread = Beside::start(move || {
            // Where it is refused the numbers tell, and the measured end says why.
            let _ = bind_thread(run.seats.there);
            let Ok((stream, _)) = listener.accept() else { return };
            if flag.load(Ordering::Relaxed) || prepare(&stream).is_err() {
                return;
            }
            match run.work {
                Work::Bulk(Way::In, _) => flood(stream, &flag),
                Work::Bulk(Way::Out, _) | Work::BytesOut => swallow(stream),
                _ => echo(stream, run.spins(), &flag),
            }
        });
        Ok(Self { stop, addr, _thread: thread.map_err(system("the host's end"))? })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Out of its accept call, if the measured end never came.
        let _ = TcpStream::connect_timeout(&self.addr, SILENCE);
    }
}

/// Cubic as ours has it, and no waiting for a full segment.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    congestion_control(stream, "cubic")?;
    // Whoever no longer answers does not keep it.
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    stream.set_nodelay(true)
}

fn flood(mut stream: TcpStream, stop: &AtomicBool) {
    let data = vec![0; CALL];
    while !stop.load(Ordering::Relaxed) && stream.write(&data).is_ok_and(|sent| sent != 0) {}
}

fn swallow(mut stream: TcpStream) {
    let mut data = vec![0; CALL];
    while stream.read(&mut data).is_ok_and(|came| came != 0) {}
}

fn echo(mut stream: TcpStream, spins: bool, stop: &AtomicBool) {
    let mut data = [0; 64];
    let _ = stream.set_nonblocking(spins);
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut data) {
            Ok(0) => return,
            Ok(len) => {
                let _ = stream.write(&data[..len]);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && spins => std::hint::spin_loop(),
            Err(_) => return,
        }
    }
}

/// The measured end as a program of the host, at the far end of the veth pair.
pub(super) fn measure(run: &Run) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let failed = system("the host's socket");
    let mut stream = TcpStream::connect((NEAR, PORT)).map_err(&failed)?;
    prepare(&stream).map_err(&failed)?;
    match run.work {
        Work::Bulk(Way::Out, _) | Work::BytesOut => {
            let data = vec![0; CALL];
            flow(run.time, || stream.write(&data).map_err(&failed))
        }
        Work::Bulk(Way::In, _) | Work::BulkInMemory(_) => {
            let mut data = vec![0; CALL];
            flow(run.time, || match stream.read(&mut data) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    Err(BenchError::Silence("the veth pair"))
                }
                other => other.map_err(&failed),
            })
        }
        _ => {
            stream.set_nonblocking(run.spins()).map_err(&failed)?;
            round_trips(run.trips, || trip(&mut stream, run.spins()))
        }
    }
}

fn trip(stream: &mut TcpStream, spins: bool) -> Result<(), BenchError> {
    let failed = system("the host's socket");
    let mut octet = [0x55];
    stream.write_all(&octet).map_err(&failed)?;
    let mut patience = Patience::new(spins);
    loop {
        match stream.read(&mut octet) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(failed(e)),
            Err(_) if patience.ended() => return Err(BenchError::Silence("the veth pair")),
            Err(_) => std::hint::spin_loop(),
        }
    }
}
