//! The same stream through smoltcp, between two of its hosts in memory.
//!
//! Its buffers are as large as it takes; the writes are the same, on the same thread.

use crate::smoltcp_host::{Host, addr};
use sim::stream::WRITE;
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;

/// Frames of a direction: more than a window.
const QUEUE: usize = 256;
const BUFFER: usize = 256 << 10;

/// The pair, connected.
pub struct SmoltcpPair {
    a: Host,
    b: Host,
    buffer: Vec<u8>,
    micros: i64,
}

impl SmoltcpPair {
    /// Two interfaces with a connection.
    pub fn new() -> Self {
        let (mut a, mut b) = Host::pair(QUEUE, || {
            let buffer = || SocketBuffer::new(vec![0; BUFFER]);
            let mut socket = Socket::new(buffer(), buffer());
            // Else the end of each write waits until all before it is acknowledged, and that is delayed.
            socket.set_nagle_enabled(false);
            socket
        });
        b.socket::<Socket<'_>>().listen(80).expect("a free port");
        let (cx, socket) = (a.iface.context(), a.sockets.get_mut::<Socket<'_>>(a.handle));
        socket.connect(cx, (addr(2), 80), 4000).expect("it may");
        let mut pair = Self { a, b, buffer: vec![0x55; WRITE], micros: 0 };
        while !pair.b.socket::<Socket<'_>>().may_recv() {
            pair.poll();
        }
        pair
    }

    fn poll(&mut self) {
        self.micros += 1;
        let now = Instant::from_micros(self.micros);
        self.a.poll(now);
        self.b.poll(now);
    }

    /// An octet there, and one back.
    pub fn round_trip(&mut self) {
        self.a.socket::<Socket<'_>>().send_slice(&[0x55]).expect("open");
        while self.b.socket::<Socket<'_>>().recv_slice(&mut self.buffer[..1]).expect("open") == 0 {
            self.poll();
        }
        self.b.socket::<Socket<'_>>().send_slice(&[0x55]).expect("open");
        while self.a.socket::<Socket<'_>>().recv_slice(&mut self.buffer[..1]).expect("open") == 0 {
            self.poll();
        }
    }

    /// One write, all the way.
    pub fn round(&mut self) {
        let sent = self.a.socket::<Socket<'_>>().send_slice(&self.buffer).expect("open");
        let mut got = 0;
        while got < sent {
            self.poll();
            got += self.b.socket::<Socket<'_>>().recv_slice(&mut self.buffer).expect("open");
        }
    }
}
