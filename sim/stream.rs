//! Two machines joined by a wire in memory, the phases of a stream between them, and connections.
//!
//! The phases are functions of their own that are never inlined: an instrument outside switches on at their
//! entry and off at their exit, and finds them by name. Key type: [`Pair`]. Contexts: the calling thread. A step
//! that does not succeed panics: it is there to be measured.

use crate::bare::{Device, Host, ready};
use drivers::net::wire_port::WirePort;
use hw::wire::Wire;
use stack::fs::sys_close;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::NetdevFeatures;
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_listen, sys_recvfrom, sys_sendto, sys_socket,
};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_NONBLOCK, SOCK_STREAM};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Octets of a full segment with timestamps.
pub const SEGMENT: usize = 1448;
/// Octets of a write.
pub const WRITE: usize = 44 * SEGMENT;

/// Two machines and what is between them.
#[derive(Debug)]
pub struct Pair {
    a: Host,
    b: Host,
    listener: i32,
    buffer: Vec<u8>,
    /// The models' clock.
    now: u64,
}

fn switch(host: &Host, features: impl FnOnce(NetdevFeatures) -> NetdevFeatures) {
    let tables = host.machine.tables();
    let dev = tables.net.dev_by_name("eth0").expect("its device");
    dev.set_features(features(dev.features()));
}

impl Pair {
    /// Booted, and the second listens.
    #[must_use]
    pub fn new(device: Device) -> Self {
        let (wire_a, wire_b) = Wire::pair(1024);
        let (wire_a, wire_b): (Arc<dyn WirePort>, Arc<dyn WirePort>) =
            (Arc::new(wire_a), Arc::new(wire_b));
        let a = Host::new(0, device, wire_a, [A, B]);
        let mut b = Host::new(1, device, wire_b, [B, A]);
        let cx = &mut b.task;
        let listener = sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
        sys_bind(cx, listener, &SockaddrIn::new(B.into(), 80).to_bytes()).expect("a free port");
        sys_listen(cx, listener, 128).expect("it listens");
        let mut pair = Self { a, b, listener, buffer: vec![0x55; WRITE], now: 0 };
        // The link of a NIC comes up by interrupts.
        for _ in 0..16 {
            pair.run_b();
            pair.run_a();
        }
        pair
    }

    /// Interrupt throttling is over: what comes next is told at once.
    fn time_passes(&mut self) {
        self.now += 1_000_000;
        self.a.advance(self.now);
        self.b.advance(self.now);
    }

    fn run_a(&mut self) {
        self.time_passes();
        black_box(self.a.machine.run_cpu(CpuId(0)));
    }

    fn run_b(&mut self) {
        self.time_passes();
        black_box(self.b.machine.run_cpu(CpuId(0)));
    }

    /// GRO is off where the stream arrives, as by `ethtool -K eth0 gro off`.
    #[must_use]
    pub fn without_gro(self) -> Self {
        switch(&self.b, |features| features - NetdevFeatures::GRO);
        self
    }

    /// Packets of many segments go over the wire as they are, as by `ethtool -K eth0 tso on` on both.
    #[must_use]
    pub fn with_tso(self) -> Self {
        [&self.a, &self.b].iter().for_each(|host| switch(host, |on| on | NetdevFeatures::TSO));
        self
    }

    /// Nothing is left to a device, as by `ethtool -K eth0 tx off rx off tso off gro off` on both: sums are made
    /// and tested, and each segment is a packet.
    #[must_use]
    pub fn without_offloads(self) -> Self {
        let off = NetdevFeatures::GRO
            | NetdevFeatures::TSO
            | NetdevFeatures::HW_CSUM
            | NetdevFeatures::RXCSUM;
        [&self.a, &self.b].iter().for_each(|host| switch(host, |on| on - off));
        self
    }

    /// A connection: the client's descriptor and the server's.
    pub fn connected(&mut self) -> (i32, i32) {
        let near = sys_socket(&mut self.a.task, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
            .expect("a socket");
        let to = SockaddrIn::new(B.into(), 80).to_bytes();
        assert_eq!(ready(&mut self.a.task, sys_connect(near, &to)), Err(Errno::EINPROGRESS));
        // SYN; SYN and ACK; ACK.
        self.run_b();
        self.run_a();
        self.run_b();
        let (far, _) = ready(&mut self.b.task, sys_accept4(self.listener, SOCK_NONBLOCK))
            .expect("it is there");
        (near, far)
    }

    /// The sender's call; how much it took.
    #[inline(never)]
    fn phase_send(&mut self, fd: i32) -> usize {
        match ready(&mut self.a.task, sys_sendto(fd, &self.buffer, MSG_DONTWAIT, None)) {
            Ok(sent) => sent,
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                0
            }
        }
    }

    /// The receiver's softirq, with its acknowledgements.
    #[inline(never)]
    fn phase_softirq(&self) {
        // Unlike the other phase, so that the two stay two functions.
        black_box((self.b.machine.run_cpu(CpuId(0)), "softirq"));
    }

    /// The receiver's call; how much it got.
    #[inline(never)]
    fn phase_recv(&mut self, fd: i32) -> usize {
        match ready(&mut self.b.task, sys_recvfrom(fd, &mut self.buffer, MSG_DONTWAIT)) {
            Ok((got, _)) => got,
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                0
            }
        }
    }

    /// The sender's softirq: acknowledgements, and what they let go.
    #[inline(never)]
    fn phase_acked(&self) {
        black_box(self.a.machine.run_cpu(CpuId(0)));
    }

    /// One write, all the way.
    pub fn round(&mut self, (near, far): (i32, i32)) {
        let sent = self.phase_send(near);
        let mut got = 0;
        while got < sent {
            self.time_passes();
            self.phase_softirq();
            loop {
                let more = self.phase_recv(far);
                got += more;
                if more < WRITE {
                    break;
                }
            }
            self.time_passes();
            self.phase_acked();
        }
    }

    /// An octet there, and one back.
    #[inline(never)]
    pub fn round_trip(&mut self, (near, far): (i32, i32)) {
        let octet = &mut [0x55];
        let (a, b) = (&mut self.a.task, &mut self.b.task);
        assert_eq!(ready(a, sys_sendto(near, octet, MSG_DONTWAIT, None)), Ok(1));
        black_box(self.b.machine.run_cpu(CpuId(0)));
        ready(b, sys_recvfrom(far, octet, MSG_DONTWAIT)).expect("it came");
        assert_eq!(ready(b, sys_sendto(far, octet, MSG_DONTWAIT, None)), Ok(1));
        black_box(self.a.machine.run_cpu(CpuId(0)));
        ready(a, sys_recvfrom(near, octet, MSG_DONTWAIT)).expect("the answer came");
    }

    /// A connection from SYN to TIME_WAIT: opened, accepted, an octet there and one back, closed by the client
    /// and then by the server. It waits for nothing: what a call needs is there.
    #[inline(never)]
    pub fn connection(&mut self) {
        let (near, far) = self.connected();
        let octet = &mut [0x55];
        let one = Ok(octet.len());
        let received = |came: Result<(usize, _), Errno>| came.map(|(len, _)| len);
        let (a, b) = (&mut self.a.task, &mut self.b.task);
        assert_eq!(ready(a, sys_sendto(near, octet, MSG_DONTWAIT, None)), one);
        black_box(self.b.machine.run_cpu(CpuId(0)));
        assert_eq!(received(ready(b, sys_recvfrom(far, octet, MSG_DONTWAIT))), one);
        assert_eq!(ready(b, sys_sendto(far, octet, MSG_DONTWAIT, None)), one);
        black_box(self.a.machine.run_cpu(CpuId(0)));
        assert_eq!(received(ready(a, sys_recvfrom(near, octet, MSG_DONTWAIT))), one);
        sys_close(a, near).expect("open");
        self.run_b();
        sys_close(&mut self.b.task, far).expect("open");
        self.run_a();
        self.run_b();
    }
}
