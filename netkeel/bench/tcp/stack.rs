//! The measured end as a socket of the stack, on a machine of one CPU over a TAP.

use super::kernel::{CALL, Peer};
use super::row::{Offloads, Work};
use super::{HOST, PORT, Run, Way};
use crate::bench::figure::{SILENCE, Sample, flow, round_trips};
use crate::bench::ours::on_machine;
use crate::bench::{BenchError, refused};
use bytes::Bytes;
use host::block_on;
use host::tap::Tap;
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::net::core::dev::NetdevFeatures;
use stack::net::socket::{
    sys_connect, sys_recvfrom, sys_send_bytes, sys_sendto, sys_setsockopt, sys_socket,
};
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::ip::IPPROTO_TCP;
use uapi::socket::{AF_INET, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET};
use uapi::tcp::TCP_NODELAY;

pub(super) fn measure(run: &Run, tap: Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let off = match run.work {
        Work::Bulk(_, Offloads::Off) => {
            NetdevFeatures::HW_CSUM
                | NetdevFeatures::RXCSUM
                | NetdevFeatures::TSO
                | NetdevFeatures::GRO
        }
        _ => NetdevFeatures::empty(),
    };
    on_machine(tap, run.busy_poll(), off, |cx| on_socket(cx, run))
}

fn on_socket(cx: &mut TaskCx, run: &Run) -> Result<Sample, BenchError> {
    let fd = sys_socket(cx, AF_INET, SOCK_STREAM, 0).map_err(refused("a socket"))?;
    let timeval = [SILENCE.as_secs(), 0].map(u64::to_ne_bytes).concat();
    for name in [SO_RCVTIMEO, SO_SNDTIMEO] {
        sys_setsockopt(cx, fd, SOL_SOCKET, name, &timeval).map_err(refused("its time-out"))?;
    }
    sys_setsockopt(cx, fd, i32::from(IPPROTO_TCP), TCP_NODELAY, &1_i32.to_ne_bytes())
        .map_err(refused("its option"))?;
    // Held until the end of the measuring.
    let peer = Peer::start(run, HOST)?;
    let to = SockaddrIn::new(HOST.into(), PORT).to_bytes();
    block_on(cx, &mut sys_connect(fd, &to)).map_err(refused("connecting"))?;
    let mut buf = vec![0; CALL];
    let sample = match run.work {
        Work::BytesOut => {
            let data = [Bytes::from(buf)];
            flow(run.time, || block_on(cx, &mut sys_send_bytes(fd, &data, 0)).map_err(not_sent))
        }
        Work::Bulk(Way::Out, _) => flow(run.time, || send(cx, fd, &buf)),
        Work::Bulk(Way::In, _) | Work::BulkInMemory(_) => {
            flow(run.time, || receive(cx, fd, &mut buf))
        }
        _ => round_trips(run.trips, || {
            send(cx, fd, &[0x55])?;
            receive(cx, fd, &mut buf).map(drop)
        }),
    };
    // Our end goes first: the peer may be in the middle of a call.
    exit_files(cx);
    drop(peer);
    sample
}

fn send(cx: &mut TaskCx, fd: i32, data: &[u8]) -> Result<usize, BenchError> {
    block_on(cx, &mut sys_sendto(fd, data, 0, None)).map_err(not_sent)
}

fn not_sent(errno: Errno) -> BenchError {
    match errno {
        Errno::EAGAIN => BenchError::Silence("the host"),
        errno => refused("sending")(errno),
    }
}

fn receive(cx: &mut TaskCx, fd: i32, buf: &mut [u8]) -> Result<usize, BenchError> {
    match block_on(cx, &mut sys_recvfrom(fd, buf, 0)) {
        Ok((len, _)) => Ok(len),
        Err(Errno::EAGAIN) => Err(BenchError::Silence("the stack")),
        Err(errno) => Err(refused("receiving")(errno)),
    }
}
