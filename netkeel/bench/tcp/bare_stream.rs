//! The measured end as the least that can send a stream to the host's TCP: it connects, writes the same segment
//! under ever new numbers as far as the window lets it, and reads acknowledgements when that is full. It keeps
//! nothing, copies nothing, sums up nothing but the numbers, and has no second stream, so no stack can send more
//! over this TAP.

use super::row::{Offloads, Work};
use super::tap::{PAYLOAD, SEGMENT, TCP_AT, frame};
use super::{HOST, Run, Way};
use crate::bench::figure::{SILENCE, Sample, flow};
use crate::bench::tcp::kernel::Peer;
use crate::bench::{BenchError, refused, system};
use host::tap::{MAX_READ, Tap};
use host::wait::{Token, Trigger, Waiter};
use klib::checksum::{csum_fold, csum_partial};
use std::io::IoSlice;
use uapi::errno::Errno;
use uapi::ip::IPPROTO_TCP;

/// What we offer to scale our window by; the host offers its own only then (RFC 7323 §2.2).
const SYN_OPTIONS: [u8; 8] = [2, 4, 0x05, 0xb4, 1, 3, 3, 0];
/// From the TCP header.
const SEQ: usize = 4;
const ACK: usize = 8;
const FLAGS: usize = 13;
const CHECK: usize = 16;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

struct Sender<'a> {
    tap: &'a Tap,
    waiter: Waiter,
    frame: Vec<u8>,
    /// Octets of payload in it.
    payload: u32,
    /// Of all of the segment but its number, where the host is to find the sum complete.
    sum: Option<u32>,
    buf: Vec<u8>,
    /// Next to send, first not acknowledged, and what may be in between.
    nxt: u32,
    una: u32,
    window: u32,
    scale: u8,
}

pub(super) fn measure(run: &Run, tap: &Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    let _peer = Peer::start(run, HOST)?;
    let whole = run.work == Work::Bulk(Way::Out, Offloads::Off);
    let mut sender = Sender::connect(tap, whole)?;
    flow(run.time, || sender.send())
}

impl<'a> Sender<'a> {
    fn connect(tap: &'a Tap, whole: bool) -> Result<Self, BenchError> {
        let waiter = Waiter::new().map_err(system("a place to wait"))?;
        waiter.add(tap, Token(0), Trigger::Level).map_err(system("waiting for the TAP"))?;
        let mac = tap.mac().map_err(system("the TAP's link address"))?;
        let payload = if whole { SEGMENT } else { PAYLOAD };
        let frame = frame(mac, HOST, payload, &[]);
        let (sum, buf) = (None, vec![0; MAX_READ]);
        let (nxt, una, window, scale) = (1, 0, 0, 0);
        let payload = payload as u32;
        let mut this = Self { tap, waiter, frame, payload, sum, buf, nxt, una, window, scale };
        let mut syn = super::tap::frame(mac, HOST, 0, &SYN_OPTIONS);
        syn[TCP_AT + SEQ..][..4].fill(0);
        syn[TCP_AT + ACK..][..4].fill(0);
        syn[TCP_AT + FLAGS] = SYN;
        this.write(&syn)?;
        while this.window == 0 {
            this.answer()?;
        }
        if whole {
            this.frame[TCP_AT + SEQ..][..4].fill(0);
            this.sum = Some(csum_partial(&this.frame[TCP_AT..], 0));
            // The header before the frame asks for nothing.
            this.frame[0] = 0;
        }
        Ok(this)
    }

    fn write(&self, frame: &[u8]) -> Result<(), BenchError> {
        self.tap.write_frame(&[IoSlice::new(frame)]).map_err(system("writing to the TAP"))
    }

    /// A segment of the window's, or else whatever makes it larger.
    fn send(&mut self) -> Result<usize, BenchError> {
        let flight = self.nxt.wrapping_sub(self.una);
        if flight + self.payload > self.window {
            return self.answer().map(|()| 0);
        }
        let number = self.nxt.to_be_bytes();
        self.frame[TCP_AT + SEQ..][..4].copy_from_slice(&number);
        if let Some(sum) = self.sum {
            let check = csum_fold(csum_partial(&number, sum)).to_be_bytes();
            self.frame[TCP_AT + CHECK..][..2].copy_from_slice(&check);
        }
        self.write(&self.frame)?;
        self.nxt = self.nxt.wrapping_add(self.payload);
        Ok(self.payload as usize)
    }

    /// Takes all answers that are there, and waits for one first if there is none.
    fn answer(&mut self) -> Result<(), BenchError> {
        let read = system("reading the TAP");
        let mut came = false;
        while let Some(len) = self.tap.read_frame(&mut self.buf).map_err(&read)? {
            came |= self.take(len)?;
        }
        if came {
            return Ok(());
        }
        let waited = self.waiter.wait(Some(SILENCE)).map_err(system("waiting for the TAP"))?;
        if waited.is_empty() { Err(BenchError::Silence("the host")) } else { Ok(()) }
    }

    /// Whether it is an answer of the stream's.
    fn take(&mut self, len: usize) -> Result<bool, BenchError> {
        let Some(tcp) = self.buf[..len].get(TCP_AT..).filter(|tcp| tcp.len() >= 20) else {
            return Ok(false);
        };
        if self.buf[TCP_AT - 11] != IPPROTO_TCP {
            return Ok(false);
        }
        let u32_at = |at: usize| tcp[at..at + 4].iter().fold(0, |n, &b| n << 8 | u32::from(b));
        let window = u32::from(tcp[14]) << 8 | u32::from(tcp[15]);
        if tcp[FLAGS] & SYN != 0 {
            self.scale = scale_of(&tcp[20..]).ok_or(refused("scaled windows")(Errno::EPROTO))?;
            let ack = u32_at(SEQ).wrapping_add(1).to_be_bytes();
            self.frame[TCP_AT + ACK..][..4].copy_from_slice(&ack);
        }
        self.una = u32_at(ACK);
        self.window = if tcp[FLAGS] & SYN != 0 { window } else { window << self.scale };
        Ok(true)
    }
}

impl Drop for Sender<'_> {
    /// The host's end need not wait for more.
    fn drop(&mut self) {
        self.frame[TCP_AT + SEQ..][..4].copy_from_slice(&self.nxt.to_be_bytes());
        self.frame[TCP_AT + FLAGS] = RST;
        // If it is refused, the host's end waits a little longer.
        let _ = self.write(&self.frame);
    }
}

/// Of a SYN-ACK's options.
fn scale_of(mut options: &[u8]) -> Option<u8> {
    loop {
        match *options {
            [1, ..] => options = &options[1..],
            [3, 3, scale, ..] => return Some(scale),
            [kind, len, ..] if kind != 0 && len >= 2 => options = options.get(len.into()..)?,
            _ => return None,
        }
    }
}
