//! Two machines joined by a wire in memory, and the phases of a datagram's way between them.
//!
//! The phases are functions of their own that are never inlined: an instrument outside switches on
//! at their entry and off at their exit, and finds them by name.

use hw::wire::Wire;
use sim::bare::{Device, Host, ready};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::sched::Operation;
use stack::net::socket::{
    MsgRecv, MsgSend, sys_bind, sys_recvfrom, sys_recvmmsg, sys_sendmmsg, sys_socket,
};
use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::Poll;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};

/// The most datagrams of one `sendmmsg`.
pub const MAX_BATCH: usize = 64;
/// Bytes of a datagram.
pub const PAYLOAD: usize = 64;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Frames of a direction of the wire.
const WIRE: usize = 1024;
/// More than any interrupt throttling holds an interrupt back.
const MODEL_STEP: u64 = 1_000_000;

/// A UDP socket, bound.
pub fn udp_socket(cx: &mut TaskCx, addr: Ipv4Addr, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_bind(cx, fd, &SockaddrIn::new(addr.into(), port).to_bytes()).expect("bound");
    fd
}

/// A full batch of equal messages, kept for good: a few are made in a run.
pub fn messages(to: [u8; 16]) -> &'static [MsgSend<'static>] {
    let iov = Box::leak(Box::new([IoSlice::new(&[0x55; PAYLOAD])]));
    let to = Box::leak(Box::new(to));
    let message = MsgSend { iov, name: Some(to), control: &[], flags: 0 };
    Vec::leak(vec![message; MAX_BATCH])
}

/// Room for a full batch, kept for good likewise.
pub fn rooms() -> Vec<MsgRecv<'static>> {
    let buffers: &'static mut [[u8; 2 * PAYLOAD]] = Vec::leak(vec![[0; _]; MAX_BATCH]);
    let room = |buffer: &'static mut [u8; _]| {
        MsgRecv::new(Box::leak(Box::new([IoSliceMut::new(buffer)])), &mut [])
    };
    buffers.iter_mut().map(room).collect()
}

/// A machine whose CPU is entered and left, and nothing else.
pub struct Entering(Host);

impl Entering {
    /// One with one CPU.
    pub fn new() -> Self {
        let (wire, _) = Wire::pair(1);
        Self(Host::new(0, Device::Wire, Arc::new(wire), [A, B]))
    }

    /// Entries of a call of [`phase_enter`](Self::phase_enter).
    pub const ENTRIES: usize = 64;

    /// A task enters its CPU and leaves it, time and again: as a part of a call that does more, an entry
    /// has no frame of its own to make.
    #[inline(never)]
    pub fn phase_enter(&mut self) {
        for _ in 0..Self::ENTRIES {
            self.0.task.local_bh_disable(|_| ());
        }
    }
}

/// The pair, with a socket on each.
pub struct Pair {
    a: Host,
    b: Host,
    client: i32,
    server: i32,
    /// Made once, as a program does that sends as fast as it can: what the phases cost is the
    /// stack's.
    messages: &'static [MsgSend<'static>],
    rooms: Vec<MsgRecv<'static>>,
    buffer: Box<[u8; 2048]>,
    /// The models' clock.
    now: u64,
}

/// The phases' names, in the order in which a round passes them.
pub const PHASES: [&str; 4] = ["send", "softirq", "recv", "complete"];

impl Pair {
    /// Two machines with one CPU each, up, their neighbours known.
    pub fn new(device: Device) -> Self {
        let (wire_a, wire_b) = Wire::pair(WIRE);
        let mut a = Host::new(0, device, Arc::new(wire_a), [A, B]);
        let mut b = Host::new(1, device, Arc::new(wire_b), [B, A]);
        let client = udp_socket(&mut a.task, A, 4000);
        let server = udp_socket(&mut b.task, B, 7);
        let to = SockaddrIn::new(B.into(), 7).to_bytes();
        let (messages, buffer) = (messages(to), Box::new([0; 2048]));
        let mut pair = Self { a, b, client, server, messages, rooms: rooms(), buffer, now: 0 };
        // The link of a NIC comes up by interrupts.
        for _ in 0..16 {
            pair.time_passes();
            pair.phase_softirq();
            pair.phase_complete();
        }
        pair
    }

    /// Interrupt throttling is over: what comes next is told at once.
    pub fn time_passes(&mut self) {
        self.now += MODEL_STEP;
        self.a.advance(self.now);
        self.b.advance(self.now);
    }

    /// The sender's call.
    #[inline(never)]
    pub fn phase_send(&mut self, batch: usize) {
        let messages = &self.messages[..batch];
        let sent = ready(&mut self.a.task, sys_sendmmsg(self.client, messages, 0));
        assert_eq!(sent, Ok(batch));
    }

    /// The receiver's interrupt and softirq.
    #[inline(never)]
    pub fn phase_softirq(&mut self) {
        black_box(self.b.machine.run_cpu(CpuId(0)));
    }

    /// The receiver's call, as of a program that receives as fast as it can.
    #[inline(never)]
    pub fn phase_recvmmsg(&mut self, batch: usize) {
        let rooms = &mut self.rooms[..batch];
        let came = ready(&mut self.b.task, sys_recvmmsg(self.server, rooms, MSG_DONTWAIT, None));
        assert_eq!(came, Ok(batch), "a datagram for each sent");
        assert!(self.rooms[..batch].iter().all(|room| room.received.len == PAYLOAD), "whole");
    }

    /// The receiver's calls, one for each datagram.
    #[inline(never)]
    pub fn phase_recv(&mut self, batch: usize) {
        for _ in 0..batch {
            let mut op = sys_recvfrom(self.server, &mut self.buffer[..], MSG_DONTWAIT);
            let received = op.poll(&mut self.b.task);
            assert!(matches!(received, Poll::Ready(Ok((PAYLOAD, _)))), "a datagram for each sent");
        }
    }

    /// The sender's interrupt and softirq after the frames are gone, where a device tells of it: a
    /// wire does not, and its sender's CPU has nothing to run.
    #[inline(never)]
    pub fn phase_complete(&mut self) {
        if self.a.model.is_none() {
            return;
        }
        black_box(self.a.machine.run_cpu(CpuId(0)));
    }

    /// One batch, all the way, received as it was sent: by one call.
    pub fn round(&mut self, batch: usize) {
        self.time_passes();
        self.phase_send(batch);
        self.phase_softirq();
        self.phase_recvmmsg(batch);
        self.phase_complete();
    }

    /// One batch, all the way, each datagram received by a call of its own.
    pub fn round_each(&mut self, batch: usize) {
        self.time_passes();
        self.phase_send(batch);
        self.phase_softirq();
        self.phase_recv(batch);
        self.phase_complete();
    }

    /// The stations each phase of one batch passes, counted by recording them. Links between
    /// packets and spans are records of their own, made by nothing that a station runs.
    pub fn stations(&mut self, batch: usize) -> [usize; 4] {
        for host in [&self.a, &self.b] {
            host.machine.tracer.start(Default::default());
        }
        let take = |pair: &Self| {
            let of = |host: &Host| {
                let (records, lost) = host.machine.tracer.take();
                assert_eq!(lost, 0, "one batch fits the ring");
                records.iter().filter(|record| record.link().is_none()).count()
            };
            of(&pair.a) + of(&pair.b)
        };
        self.time_passes();
        take(self);
        self.phase_send(batch);
        let send = take(self);
        self.phase_softirq();
        let softirq = take(self);
        self.phase_recv(batch);
        let recv = take(self);
        self.phase_complete();
        [send, softirq, recv, take(self)]
    }
}
