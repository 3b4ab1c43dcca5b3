//! A connection with a peer that is the test: it takes segments of 536 octets and sends nothing of its own accord.

use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use crate::util::addr;
use sim::MachineSpec;
use stack::fs::sys_close;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::NetdevFeatures;
use stack::net::socket::{sys_accept4, sys_bind, sys_listen, sys_socket};
use uapi::socket::{AF_INET, SOCK_STREAM};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_RST, TCPHDR_SYN};

/// The peer's first number.
pub const PEER_SEQ: u32 = 1000;
/// Octets of a segment to a peer that has said nothing of it.
pub const MSS: usize = 536;

/// A connection of a machine's with a scripted peer.
pub struct Conn {
    pub lone: Lone,
    pub fd: i32,
    pub listener: i32,
    /// The machine's first octet.
    pub first: u32,
}

impl Conn {
    pub fn new() -> Self {
        Self::with(|_, _| ())
    }

    /// The same with a machine and a listener that were prepared.
    pub fn with(prepare: impl FnOnce(&mut Lone, i32)) -> Self {
        let mut lone = Lone::with(MachineSpec::default(), 1000);
        // Without it what is in several pieces is copied into one before the driver sees it.
        let dev = lone.dev.dev();
        dev.set_features(dev.features() | NetdevFeatures::SG | NetdevFeatures::HW_CSUM);
        let listener = sys_socket(&mut lone.cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
        sys_bind(&mut lone.cx, listener, &addr(LOCAL, 80)).expect("a free port");
        prepare(&mut lone, listener);
        sys_listen(&mut lone.cx, listener, 5).expect("it listens");
        lone.take_ip(&frame::tcp((PEER_SEQ, 0), TCPHDR_SYN, &[]));
        let sent = lone.dev.sent();
        let seq = sent.last().and_then(|frame| frame.get(38..42)).expect("a SYN-ACK");
        let first = u32::from_be_bytes(seq.try_into().expect("four octets")).wrapping_add(1);
        lone.take_ip(&frame::tcp((PEER_SEQ + 1, first), TCPHDR_ACK, &[]));
        let (fd, _) = lone.run(sys_accept4(listener, 0)).expect("it is there");
        Self { lone, fd, listener, first }
    }

    /// The peer sends octets that begin behind so many others; why what came was dropped.
    pub fn data(&mut self, at: u32, data: &[u8]) -> Vec<DropReason> {
        self.segment((PEER_SEQ + 1 + at, self.first), TCPHDR_ACK, data)
    }

    /// The peer sends a segment; why it was dropped.
    pub fn segment(&mut self, numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<DropReason> {
        self.lone.take_ip(&frame::tcp(numbers, flags, data))
    }

    /// The peer acknowledges so many octets in all.
    pub fn ack(&mut self, octets: usize) {
        let ack = self.first.wrapping_add(octets as u32);
        self.lone.take_ip(&frame::tcp((PEER_SEQ + 1, ack), TCPHDR_ACK, &[]));
    }

    /// The peer ends the connection.
    pub fn reset(&mut self) {
        self.lone.take_ip(&frame::tcp((PEER_SEQ + 1, 0), TCPHDR_RST, &[]));
    }

    /// What the driver was given since it was asked last.
    pub fn pieces(&mut self) -> Vec<(usize, usize)> {
        std::mem::take(&mut *self.lone.dev.pieces.lock().expect("no panic under it"))
    }

    /// The end: nothing is left.
    pub fn end(mut self) {
        self.reset();
        for fd in [self.fd, self.listener] {
            let _closed_before = sys_close(&mut self.lone.cx, fd);
        }
        let _digest = self.lone.end();
    }
}
