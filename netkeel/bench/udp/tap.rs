//! The measured end as a bare loop on the TAP: it reads and writes the same frames, and does nothing
//! else. No stack over a TAP can do better.

use super::kernel::Peer;
use super::{Run, Work};
use crate::bench::figure::{Patience, SILENCE, Sample, count, round_trips};
use crate::bench::place::{HOST, OUR_MAC, OURS, PORT};
use crate::bench::{BenchError, system};
use host::tap::{Tap, VNET_HDR_LEN};
use host::wait::{Token, Trigger, Waiter};
use klib::checksum::ip_fast_csum;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use uapi::if_ether::{ETH_HLEN, ETH_P_IP};

const HEADERS: usize = VNET_HDR_LEN + ETH_HLEN + 20 + 8;

pub(super) fn measure(run: &Run, tap: &Tap) -> Result<Sample, BenchError> {
    let peer = Peer::start(run, HOST, OURS)?;
    run.seats.settle()?;
    let frame = frame(tap.mac().map_err(system("the TAP's link address"))?, run.size);
    let waiter = Waiter::new().map_err(system("a place to wait"))?;
    waiter.add(tap, Token(0), Trigger::Level).map_err(system("waiting for the TAP"))?;
    let bare = Bare { tap, waiter, spins: run.spins() };
    let sample = match run.work {
        Work::Receive => count(run.time, || bare.receive(run.size)),
        Work::Send => count(run.time, || bare.send(&frame)),
        Work::RoundTrip(_) => round_trips(run.trips, || {
            bare.send(&frame)?;
            bare.receive(run.size)
        }),
    };
    drop(peer);
    sample
}

struct Bare<'a> {
    tap: &'a Tap,
    waiter: Waiter,
    spins: bool,
}

impl Bare<'_> {
    fn send(&self, frame: &[u8]) -> Result<(), BenchError> {
        self.tap.write_frame(&[IoSlice::new(frame)]).map_err(system("writing to the TAP"))
    }

    /// A frame of the size wanted; others are the host's own affairs.
    fn receive(&self, size: usize) -> Result<(), BenchError> {
        let (mut buf, mut patience) = ([0; 2048], Patience::new(self.spins));
        loop {
            match self.tap.read_frame(&mut buf).map_err(system("reading the TAP"))? {
                Some(len) if len == HEADERS + size => return Ok(()),
                Some(_) => {}
                None if self.spins && patience.ended() => {
                    return Err(BenchError::Silence("the TAP"));
                }
                None if self.spins => std::hint::spin_loop(),
                None => {
                    let mut events =
                        self.waiter.wait(Some(SILENCE)).map_err(system("waiting for the TAP"))?;
                    if events.next().is_none() {
                        return Err(BenchError::Silence("the TAP"));
                    }
                }
            }
        }
    }
}

/// A datagram from us to the host's peer, complete.
fn frame(host: [u8; 6], size: usize) -> Vec<u8> {
    let mut frame = vec![0; VNET_HDR_LEN];
    frame.extend(host);
    frame.extend(OUR_MAC);
    frame.extend(ETH_P_IP.to_be_bytes());
    let ip = frame.len();
    let total = 20 + 8 + size as u16;
    frame.extend([0x45, 0]);
    frame.extend(total.to_be_bytes());
    // No identification, don't fragment; UDP lives for 64 hops.
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(Ipv4Addr::octets(&OURS));
    frame.extend(HOST.octets());
    let sum = ip_fast_csum(&frame[ip..]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend((8 + size as u16).to_be_bytes());
    // No checksum: the kernel may not have to do more than for ours, which it need not check either.
    frame.extend([0, 0]);
    frame.resize(frame.len() + size, 0);
    frame
}
