//! What every test of a world needs.

use drivers::net::ethernet::intel::igb::IgbOptions;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::{Operation, poll_operation};
use stack::net::socket::{sys_bind, sys_connect, sys_recvfrom, sys_sendto, sys_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SOCK_DGRAM, Sockaddr};

/// The addresses of the two machines of a pair.
pub const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The second one's.
pub const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A `sockaddr_in`.
pub fn addr(ip: Ipv4Addr, port: u16) -> [u8; 16] {
    SockaddrIn::new(ip.into(), port).to_bytes()
}

/// Two machines on a link.
pub struct Pair {
    pub world: World,
    pub a: Arc<Machine>,
    pub b: Arc<Machine>,
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, LinkSpec::Wire, 1)
    }

    pub fn with(seed: u64, link: LinkSpec, cpus: u8) -> Self {
        let mut world = World::recorded(seed);
        let spec = MachineSpec { cpus, ..MachineSpec::default() };
        let (a, b) = (world.machine(&spec), world.machine(&spec));
        world.wire(link, [(&a, A), (&b, B)]).expect("fresh machines take a device each");
        Self { world, a, b }
    }

    /// Two machines with an igb card each, as many queues as CPUs.
    pub fn igb(seed: u64, link: LinkSpec, cpus: u8) -> Self {
        let mut world = World::recorded(seed);
        let spec = MachineSpec { cpus, ..MachineSpec::default() };
        let (a, b) = (world.machine(&spec), world.machine(&spec));
        let options = IgbOptions::default();
        world.igb(link, options, [(&a, A), (&b, B)]).expect("fresh machines take a card each");
        Self { world, a, b }
    }

    /// A task's context on the first machine.
    pub fn on_a(&self) -> TaskCx {
        self.world.task_cx(&self.a, CpuId(0))
    }

    /// A task's context on the second machine.
    pub fn on_b(&self) -> TaskCx {
        self.world.task_cx(&self.b, CpuId(0))
    }

    /// Runs a call to its end.
    pub fn run<O: Operation>(&mut self, cx: &mut TaskCx, mut op: O) -> O::Output {
        self.world.block_on(cx, &mut op, Duration::from_secs(600)).expect("the call ends")
    }

    /// The end: nothing is left on either machine.
    pub fn end(self) -> Digest {
        self.world.end()
    }
}

/// Fixes a datagram socket's peer: a call that never waits.
pub fn connect(cx: &mut TaskCx, fd: i32, name: &[u8]) -> Result<(), Errno> {
    let connected = poll_operation(cx, Waker::noop(), &mut sys_connect(fd, name));
    assert!(connected.is_ready(), "no datagram socket waits to be connected");
    if let Poll::Ready(connected) = connected { connected } else { Err(Errno::EAGAIN) }
}

/// A bound UDP socket.
pub fn udp(cx: &mut TaskCx, ip: Ipv4Addr, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_bind(cx, fd, &addr(ip, port)).expect("a free port");
    fd
}

/// Sends without waiting.
pub fn send(pair: &mut Pair, cx: &mut TaskCx, fd: i32, data: &[u8], to: [u8; 16]) {
    let sent = pair.run(cx, sys_sendto(fd, data, 0, Some(&to)));
    assert_eq!(sent, Ok(data.len()));
}

/// Receives, waiting if need be.
pub fn recv(pair: &mut Pair, cx: &mut TaskCx, fd: i32) -> Result<(Vec<u8>, SockaddrIn), Errno> {
    let mut buffer = vec![0; 65_536];
    let (len, from) = pair.run(cx, sys_recvfrom(fd, &mut buffer, 0))?;
    buffer.truncate(len);
    Ok((buffer, from.and_then(Sockaddr::inet).expect("a datagram has a sender")))
}

/// A task's context on each machine of a pair.
pub struct Ends {
    pub a: TaskCx,
    pub b: TaskCx,
}

impl Pair {
    pub fn ends(&self) -> Ends {
        Ends { a: self.on_a(), b: self.on_b() }
    }
}
