//! The same exchange through smoltcp, between two of its hosts in memory.
//!
//! It gets what the machines get: the neighbour known after the first exchange, buffers allocated
//! beforehand, the same batches on the same thread.

use crate::machines::{MAX_BATCH, PAYLOAD};
use crate::smoltcp_host::{Host, addr};
use smoltcp::iface::PollResult;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::IpEndpoint;

const PORT: u16 = 7;

/// One packet goes at each call.
fn poll_egress(host: &mut Host) {
    let mut more = PollResult::SocketStateChanged;
    while more == PollResult::SocketStateChanged {
        more = host.iface.poll_egress(Instant::ZERO, &mut host.device, &mut host.sockets);
    }
}

/// Two interfaces, a socket on each.
pub struct SmoltcpPair {
    a: Host,
    b: Host,
    to: IpEndpoint,
}

impl SmoltcpPair {
    /// The pair, its neighbours known.
    pub fn new() -> Self {
        let buffer = || {
            let metadata = vec![PacketMetadata::EMPTY; 2 * MAX_BATCH];
            PacketBuffer::new(metadata, vec![0; 4 * MAX_BATCH * PAYLOAD])
        };
        let (a, b) = Host::pair(2 * MAX_BATCH, || {
            let mut socket = Socket::new(buffer(), buffer());
            socket.bind(PORT).expect("a free port");
            socket
        });
        let mut pair = Self { a, b, to: IpEndpoint::new(addr(2), PORT) };
        // The first datagram waits for the address to be asked for and answered.
        pair.send(1);
        for _ in 0..8 {
            pair.a.poll(Instant::ZERO);
            pair.b.poll(Instant::ZERO);
        }
        pair.receive(1);
        pair
    }

    fn send(&mut self, batch: usize) {
        let data = [0x55; PAYLOAD];
        let to = self.to;
        let socket = self.a.socket::<Socket<'_>>();
        for _ in 0..batch {
            socket.send_slice(&data, to).expect("room for a batch");
        }
    }

    fn receive(&mut self, batch: usize) {
        let mut data = [0_u8; 2048];
        let socket = self.b.socket::<Socket<'_>>();
        for _ in 0..batch {
            let (len, _) = socket.recv_slice(&mut data).expect("a datagram for each sent");
            assert_eq!(len, PAYLOAD);
        }
    }

    /// One batch, all the way.
    pub fn round(&mut self, batch: usize) {
        self.send(batch);
        poll_egress(&mut self.a);
        self.b.poll(Instant::ZERO);
        self.receive(batch);
    }
}
