//! The other end of connections: what a fuzzer could not guess of a segment is filled in from what the machine sent.

use crate::frame::{Ip, LOCAL, PEER, sound};
use crate::input::Input;
use uapi::ip::IPPROTO_TCP;
use uapi::tcp::*;

/// What the machine's last segment of a connection says.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// The machine's port and the peer's.
    ports: (u16, u16),
    /// Behind the last octet that the machine sent.
    end: u32,
    /// What it acknowledges.
    ack: u32,
    window: u16,
    ts: Option<u32>,
}

/// Connections that are remembered.
const FLOWS: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct Peer(Vec<Flow>);

impl Peer {
    /// Reads a frame of the machine.
    pub fn see(&mut self, frame: &[u8]) {
        let Some(flow) = parse(frame) else { return };
        match self.0.iter().position(|known| known.ports == flow.ports) {
            Some(known) => self.0[known] = flow,
            None if self.0.len() < FLOWS => self.0.push(flow),
            None => {}
        }
    }

    /// A segment of a connection, or of none: each number is near what it should be, by the input.
    pub fn segment(&self, input: &mut Input<'_>) -> Vec<u8> {
        let (flags, which) = (input.u8(), usize::from(input.u8()));
        let new = Flow {
            ports: (input.pick(&[80, 80, 7, 81]), 9000 + u16::from(input.u8() % 4)),
            end: 0,
            ack: 0x1000,
            window: 0,
            ts: None,
        };
        let flow = self.0.get(which % (self.0.len() + 1)).copied().unwrap_or(new);
        let window = u32::from(flow.window);
        let (mut options, len) = (Vec::new(), input.below(3000));
        let seq = near(input, flow.ack, window);
        let ack = near(input, flow.end, 1448);
        let wide = input.pick(&[65_535_u16, 65_535, 0, 1, 500]);
        let urgent = if flags & TCPHDR_URG != 0 { input.u16() } else { 0 };
        let kinds = input.u8();
        if kinds & 1 != 0 {
            options.extend([TCPOPT_TIMESTAMP, 10]);
            options.extend((input.u32() & 0xffff).to_be_bytes());
            options.extend(flow.ts.unwrap_or(0).to_be_bytes());
        }
        if kinds & 2 != 0 {
            let mss = input.pick(&[1460_u16, 536, 88, 1, 0, 65_535]);
            options.extend([TCPOPT_MSS, 4]);
            options.extend(mss.to_be_bytes());
            options.extend([TCPOPT_SACK_PERM, 2, TCPOPT_WINDOW, 3, input.u8() & 15]);
        }
        if kinds & 4 != 0 {
            let blocks = usize::from(input.u8() % 4);
            options.extend([TCPOPT_SACK, 2 + 8 * blocks as u8]);
            for _ in 0..2 * blocks {
                options.extend(near(input, flow.end, 1448).to_be_bytes());
            }
        }
        if kinds & 8 != 0 {
            options.extend(input.string(40));
        }
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), TCPOPT_NOP);
        let mut tcp = [flow.ports.1.to_be_bytes(), flow.ports.0.to_be_bytes()].concat();
        tcp.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
        tcp.extend([((20 + options.len()) as u8 / 4) << 4, flags]);
        tcp.extend([wide.to_be_bytes(), [0; 2], urgent.to_be_bytes()].concat());
        tcp.extend(options);
        tcp.extend(std::iter::repeat_n(b'.', len));
        sound(Ip::new(IPPROTO_TCP, PEER, LOCAL), &tcp)
    }
}

/// A number near another, or near one that lies so far from it.
fn near(input: &mut Input<'_>, base: u32, far: u32) -> u32 {
    let how = input.u8();
    let step = i32::from(how >> 3) - 15;
    let base = match how & 7 {
        0..=3 => return base,
        4 => base,
        5 => base.wrapping_add(far),
        6 => base.wrapping_sub(far),
        _ => base.wrapping_add(input.u32()),
    };
    base.wrapping_add_signed(step)
}

fn parse(frame: &[u8]) -> Option<Flow> {
    if frame.get(12..14)? != [8, 0] || *frame.get(23)? != IPPROTO_TCP {
        return None;
    }
    let tcp = frame.get(34..)?;
    let two = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let four = |at: usize| Some(u32::from(two(at)?) << 16 | u32::from(two(at + 2)?));
    let (doff, flags) = (usize::from(tcp.get(12)? >> 4) * 4, *tcp.get(13)?);
    let len = tcp.len().checked_sub(doff)? as u32;
    let numbers = len + u32::from(flags & TCPHDR_SYN != 0) + u32::from(flags & TCPHDR_FIN != 0);
    let options = tcp.get(20..doff)?;
    let at = options.windows(2).position(|pair| pair == [TCPOPT_TIMESTAMP, 10]);
    Some(Flow {
        ports: (two(0)?, two(2)?),
        end: four(4)?.wrapping_add(numbers),
        ack: four(8)?,
        window: two(14)?,
        ts: at.and_then(|at| four(20 + at + 2)),
    })
}
