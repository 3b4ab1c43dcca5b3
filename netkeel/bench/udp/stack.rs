//! The measured end as a socket of the stack, on a machine of one CPU.

use super::kernel::Peer;
use super::{Run, Work};
use crate::bench::figure::{SILENCE, Sample, count, round_trips};
use crate::bench::place::{HOST, OUR_MAC, OURS, PORT};
use crate::bench::{BenchError, refused};
use host::tap::Tap;
use host::{Runtime, TapSpec, block_on};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::if_ether::ETH_DATA_LEN;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SO_RCVTIMEO, SOCK_DGRAM, SOL_SOCKET};

pub(super) fn measure(run: &Run, tap: Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let busy_poll = if run.spins() { run.busy_poll } else { Duration::ZERO };
    let mut runtime = Runtime::builder().busy_poll(busy_poll).boot()?;
    let spec = TapSpec { addr: OUR_MAC, mtu: ETH_DATA_LEN as u32, cpu: CpuId(0) };
    let dev = runtime.add_tap(tap, spec)?;
    let mut cx = runtime.task("bench");
    dev_open(&mut cx, &dev).map_err(refused("bringing the device up"))?;
    let addr = IfAddr::new(OURS, 24).map_err(refused("our address"))?;
    inet_insert_ifa(&mut cx, &dev, addr).map_err(refused("adding the address"))?;
    let sample = on_socket(&mut cx, run);
    exit_files(&mut cx);
    drop(cx);
    runtime.shutdown()?;
    sample
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
