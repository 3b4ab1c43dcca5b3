//! The host's programs: the peer of every measurement, and the measured end over veth.

use super::{Run, Work};
use crate::bench::figure::{Patience, SILENCE, Sample, count, round_trips};
use crate::bench::place::{NEAR, PORT};
use crate::bench::{BenchError, system};
use host::batch::send_batch;
use host::netns::{Beside, bind_thread};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Datagrams that the flooding peer hands in together.
const BATCH: usize = 32;

/// The host's end: floods the measured end, swallows what it sends, or echoes it.
pub(super) struct Peer {
    stop: Arc<AtomicBool>,
    addr: SocketAddr,
    _thread: Beside,
}

impl Peer {
    /// In the calling thread's namespace, at `addr`, for the measured end at `to`.
    pub(super) fn start(run: &Run, addr: Ipv4Addr, to: Ipv4Addr) -> Result<Self, BenchError> {
        let socket = UdpSocket::bind((addr, PORT)).map_err(system("the host's socket"))?;
        let addr = socket.local_addr().map_err(system("the host's socket"))?;
        // A call that is lost does not keep it for ever.
        socket.set_read_timeout(Some(SILENCE)).map_err(system("the host's socket"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, run) = (Arc::clone(&stop), *run);
        let thread = Beside::start(move || {
            // Where it is refused the numbers tell, and the measured end says why.
            let _ = bind_thread(run.seats.there);
            match run.work {
                Work::Receive => flood(&socket, (to, PORT).into(), run.size, &flag),
                Work::Send => swallow(&socket, &flag),
                Work::RoundTrip(_) => echo(&socket, run.spins(), &flag),
            }
        });
        Ok(Self { stop, addr, _thread: thread.map_err(system("the host's end"))? })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Out of its receive call.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) {
            let _ = socket.send_to(&[], self.addr);
        }
    }
}

fn flood(socket: &UdpSocket, to: SocketAddr, size: usize, stop: &AtomicBool) {
    let data = vec![0; size];
    if socket.connect(to).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        // Refused while nobody listens yet, or for want of room: the next may pass.
        if send_batch(socket, &data, BATCH).is_err() {
            Beside::make_way();
        }
    }
}

fn swallow(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buf = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let _ = socket.recv(&mut buf);
    }
}

fn echo(socket: &UdpSocket, spins: bool, stop: &AtomicBool) {
    let mut buf = [0; 2048];
    let _ = socket.set_nonblocking(spins);
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buf) {
            Ok((len, from)) => {
                let _ = socket.send_to(&buf[..len], from);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(_) => {}
        }
    }
}

/// The measured end as a program of the host, at the far end of the veth pair.
pub(super) fn measure(run: &Run) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let any = (Ipv4Addr::UNSPECIFIED, PORT);
    let socket = UdpSocket::bind(any).map_err(system("the host's socket"))?;
    let failed = system("the host's socket");
    match run.work {
        Work::Receive => {
            socket.set_read_timeout(Some(SILENCE)).map_err(&failed)?;
            let mut buf = [0; 2048];
            count(run.time, || match socket.recv(&mut buf) {
                Ok(_) => Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    Err(BenchError::Silence("the veth pair"))
                }
                Err(e) => Err(failed(e)),
            })
        }
        Work::Send => {
            let data = vec![0; run.size];
            count(run.time, || socket.send_to(&data, (NEAR, PORT)).map(drop).map_err(&failed))
        }
        Work::RoundTrip(_) => {
            socket.set_nonblocking(run.spins()).map_err(&failed)?;
            socket.set_read_timeout(Some(SILENCE)).map_err(&failed)?;
            let (data, mut buf) = (vec![0; run.size], [0; 2048]);
            round_trips(run.trips, || {
                socket.send_to(&data, (NEAR, PORT)).map_err(&failed)?;
                let mut patience = Patience::new(run.spins());
                loop {
                    match socket.recv(&mut buf) {
                        Ok(_) => return Ok(()),
                        Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(failed(e)),
                        Err(_) if patience.ended() => {
                            return Err(BenchError::Silence("the veth pair"));
                        }
                        Err(_) => std::hint::spin_loop(),
                    }
                }
            })
        }
    }
}
