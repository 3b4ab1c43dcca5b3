//! What every test of TCP needs: two machines that know each other, and what must be left at the end.

use sim::{Digest, Impairment, LinkSpec, MachineSpec, Task, World};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::Operation;
use stack::net::core::dev::NetDevice;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_getsockopt, sys_listen, sys_socket,
};
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SOCK_STREAM, SOL_TCP, Sockaddr};
use uapi::tcp::{TCP_INFO, TcpInfo};

/// The addresses of the two machines of a pair.
pub const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The second one's.
pub const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Octets for packets on a machine, if nothing else is said.
const MEMORY: usize = 256 << 20;

/// A `sockaddr_in`.
pub fn addr(ip: Ipv4Addr, port: u16) -> [u8; 16] {
    SockaddrIn::new(ip.into(), port).to_bytes()
}

/// How many seeds a test takes.
pub fn seeds(default: u64) -> u64 {
    let Ok(asked) = std::env::var("NETKEEL_SEEDS") else { return default };
    asked.parse().unwrap_or_else(|_| panic!("NETKEEL_SEEDS is to be a number, not {asked:?}"))
}

/// Two machines on a link. Each knows the other's link address: ARP has no second chance to speak of, and is
/// not what is looked at.
pub struct Pair {
    pub world: World,
    pub a: Arc<Machine>,
    pub b: Arc<Machine>,
    /// Timers of the machines at rest.
    idle: [usize; 2],
}

impl Pair {
    pub fn new(seed: u64, weather: Impairment) -> Self {
        Self::of(World::new(seed), weather, MEMORY)
    }

    /// The same with so many octets for packets on each machine.
    pub fn with_memory(seed: u64, weather: Impairment, memory: usize) -> Self {
        Self::of(World::new(seed), weather, memory)
    }

    /// The same with a [`Digest`] of all that it does.
    pub fn recorded(seed: u64, weather: Impairment) -> Self {
        Self::of(World::recorded(seed), weather, MEMORY)
    }

    fn of(mut world: World, weather: Impairment, memory: usize) -> Self {
        let spec = MachineSpec { memory, ..MachineSpec::default() };
        let (a, b) = (world.machine(&spec), world.machine(&spec));
        let link = LinkSpec::Impaired(weather);
        let devs = world.wire(link, [(&a, A), (&b, B)]).expect("fresh machines take a device each");
        introduce(&mut world.task_cx(&a, CpuId(0)), &devs[0], (B, &devs[1]));
        introduce(&mut world.task_cx(&b, CpuId(0)), &devs[1], (A, &devs[0]));
        world.settle();
        let idle = [a.timers(), b.timers()];
        Self { world, a, b, idle }
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
        self.world.block_on(cx, &mut op, Duration::from_secs(4000)).expect("the call ends")
    }

    /// Every connection is as it must be. In a release build nobody looks.
    pub fn check(&self) {
        check(&self.a);
        check(&self.b);
    }

    /// The end, after `rest`: nothing is left of any connection.
    pub fn end(mut self, rest: Duration) -> Digest {
        self.world.run_for(rest);
        for (machine, idle) in [(&self.a, self.idle[0]), (&self.b, self.idle[1])] {
            nothing_left(machine);
            assert!(machine.timers() <= idle, "{} timers, {idle} at rest", machine.timers());
        }
        self.world.end()
    }
}

/// Every connection of a machine is as it must be.
pub fn check(machine: &Machine) {
    assert_eq!(machine.contained_panics(), 0, "something panicked");
    #[cfg(debug_assertions)]
    stack::net::ipv4::tcp::tcp_check_all(machine);
}

/// No socket, no request, no TIME_WAIT, no port, no memory.
pub fn nothing_left(machine: &Machine) {
    assert_eq!(machine.contained_panics(), 0, "something panicked");
    let tables = &machine.net().tcp.hashinfo;
    let stat = sockstat_seq_show(machine);
    let tcp = stat.lines().next().expect("a line of TCP");
    assert_eq!(tcp, "TCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0", "{tables:?}");
    assert!(tables.is_empty(), "{tables:?}");
    assert_eq!(machine.live_skbs(), 0, "packets left");
}

fn introduce(cx: &mut TaskCx, own: &NetDevice, (ip, peer): (Ipv4Addr, &NetDevice)) {
    let key = NeighKey { dev: own.ifindex, addr: ip.into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(cx, key, peer.dev_addr(), state).expect("room for one");
}

/// A stream socket.
pub fn stream(cx: &mut TaskCx) -> i32 {
    sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket")
}

/// A listener.
pub fn listener(cx: &mut TaskCx, ip: Ipv4Addr, port: u16, backlog: i32) -> i32 {
    let fd = stream(cx);
    sys_bind(cx, fd, &addr(ip, port)).expect("a free port");
    sys_listen(cx, fd, backlog).expect("it listens");
    fd
}

/// A connection from the first machine to a listener of the second one: both ends.
pub fn connected(pair: &mut Pair, a: &mut TaskCx, b: &mut TaskCx, listening: i32) -> (i32, i32) {
    let port = stack::net::socket::sys_getsockname(b, listening)
        .ok()
        .and_then(Sockaddr::inet)
        .expect("bound")
        .port;
    let near = stream(a);
    assert_eq!(pair.run(a, sys_connect(near, &addr(B, port))), Ok(()));
    let (far, _) = pair.run(b, sys_accept4(listening, 0)).expect("it is there");
    (near, far)
}

/// What the stack tells of a connection.
pub fn info(cx: &mut TaskCx, fd: i32) -> TcpInfo {
    let bytes = sys_getsockopt(cx, fd, SOL_TCP, TCP_INFO).expect("a stream socket");
    let mut whole = [0; size_of::<TcpInfo>()];
    let len = bytes.len().min(whole.len());
    whole[..len].copy_from_slice(&bytes[..len]);
    zerocopy::FromBytes::read_from_bytes(&whole[..]).expect("as long as it is")
}

/// Runs two parts of a task side by side.
pub async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let mut done = [false; 2];
    std::future::poll_fn(|cx| {
        done[0] = done[0] || one.as_mut().poll(cx).is_ready();
        done[1] = done[1] || other.as_mut().poll(cx).is_ready();
        if done == [true; 2] { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The same for a task's own calls.
pub fn info_of(task: &Task, fd: i32) -> TcpInfo {
    task.now(|cx| info(cx, fd))
}
