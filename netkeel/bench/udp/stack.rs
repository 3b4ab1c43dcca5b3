//! The measured end as a socket of the stack, on a machine of one CPU.

use super::kernel::Peer;
use super::{Run, Work};
use crate::bench::figure::{SILENCE, Sample, count, round_trips};
use crate::bench::ours::on_machine;
use crate::bench::place::{HOST, OURS, PORT};
use crate::bench::{BenchError, refused};
use host::block_on;
use host::tap::Tap;
use stack::kernel::context::TaskCx;
use stack::net::core::dev::NetdevFeatures;
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SO_RCVTIMEO, SOCK_DGRAM, SOL_SOCKET};

pub(super) fn measure(run: &Run, tap: Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    on_machine(tap, run.busy_poll(), NetdevFeatures::empty(), |cx| on_socket(cx, run))
}

fn on_socket(cx: &mut TaskCx, run: &Run) -> Result<Sample, BenchError> {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).map_err(refused("a socket"))?;
    sys_bind(cx, fd, &SockaddrIn::new(0, PORT).to_bytes()).map_err(refused("its port"))?;
    let timeval = [SILENCE.as_secs(), 0].map(u64::to_ne_bytes).concat();
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_RCVTIMEO, &timeval).map_err(refused("its time-out"))?;
    let peer = Peer::start(run, HOST, OURS)?;
    let to = SockaddrIn::new(HOST.into(), PORT).to_bytes();
    let (data, mut buf) = (vec![0; run.size], [0; 2048]);
    let receive =
        |cx: &mut TaskCx, buf: &mut [u8]| match block_on(cx, &mut sys_recvfrom(fd, buf, 0)) {
            Ok(_) => Ok(()),
            Err(Errno::EAGAIN) => Err(BenchError::Silence("the stack")),
            Err(errno) => Err(refused("receiving")(errno)),
        };
    let send = |cx: &mut TaskCx| {
        block_on(cx, &mut sys_sendto(fd, &data, 0, Some(&to))).map(drop).map_err(refused("sending"))
    };
    let sample = match run.work {
        Work::Receive => count(run.time, || receive(cx, &mut buf)),
        Work::Send => count(run.time, || send(cx)),
        Work::RoundTrip(_) => round_trips(run.trips, || {
            send(cx)?;
            receive(cx, &mut buf)
        }),
    };
    drop(peer);
    sample
}
