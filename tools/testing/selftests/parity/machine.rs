//! The stack: a machine of a stepped world or on threads, with the same devices and addresses as the
//! kernel's namespace.

use crate::calls::{Calls, Got, Outgoing, Placed, PollFd, Ret, Room, Sets};
use crate::{Check, Report};
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use host::{Runtime, block_on};
use hw::wire::Wire;
use sim::{LinkSpec, MachineSpec, World};
use stack::fs;
use stack::fs::eventpoll::EpollEvent;
use stack::fs::select::FdSets;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::sched::Operation;
use stack::net::core::dev::{dev_close, dev_open};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::sysctl::names::sysctl_write;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{self as net, MsgRecv, MsgSend, Received};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::{AF_INET, SOCK_DGRAM, Sockaddr};

/// What a call that would wait for ever returns here; no errno.
const FOR_EVER: i32 = -1;

/// How a machine is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Step by step, under a virtual clock.
    Stepped,
    /// On threads of the operating system: time is real.
    Threads,
}

/// Who runs the machine's CPUs while a call waits.
enum Run {
    Stepped(Box<World>),
    Threads(Runtime),
}

/// A machine with `lo` and `eth0`, and a task on it.
pub struct Machine {
    cx: TaskCx,
    run: Run,
    /// The other end of `eth0`.
    peer: Arc<dyn WirePort>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({:?})", self.cx)
    }
}

/// Frames that the link of a machine on threads holds.
const LINK: usize = 1024;

impl Machine {
    /// A machine with that many CPUs; the task is on the last.
    ///
    /// # Panics
    /// When it does not boot.
    pub fn new(engine: Engine, cpus: u8) -> Self {
        let cpu = CpuId(cpus - 1);
        let (run, cx, port, peer) = match engine {
            Engine::Stepped => {
                let mut world = Box::new(World::new(u64::from(cpus)));
                let machine = world.machine(&MachineSpec { cpus, ..MachineSpec::default() });
                let [port, peer] = world.link(LinkSpec::Wire);
                let cx = world.task_cx(&machine, cpu);
                (Run::Stepped(world), cx, port, peer)
            }
            Engine::Threads => {
                let runtime = Runtime::builder().cpus(cpus).boot().expect("boots");
                let mut cx = runtime.task("parity");
                cx.set_cpu(cpu).expect("it has that one");
                let (port, peer) = Wire::pair(LINK);
                let [port, peer] = [port, peer].map(|end| Arc::new(end) as Arc<dyn WirePort>);
                (Run::Threads(runtime), cx, port, peer)
            }
        };
        let mut machine = Self { cx, run, peer };
        machine.set_up(port);
        machine.settle();
        machine
    }

    fn set_up(&mut self, port: Arc<dyn WirePort>) {
        let cx = &mut self.cx;
        let lo = cx.machine().tables().net.dev_by_name("lo").map(Arc::clone).expect("lo");
        let addr = |addr: Ipv4Addr| IfAddr::new(addr, 24).expect("a host's address");
        inet_insert_ifa(cx, &lo, addr(Ipv4Addr::new(192, 0, 2, 1))).expect("on lo");
        let eth = wire_probe(cx, "eth%d", [2, 0, 0, 0, 0, 1], port).expect("eth0");
        inet_insert_ifa(cx, &eth, addr(Ipv4Addr::new(198, 51, 100, 1))).expect("on eth0");
        dev_open(cx, &eth).expect("eth0 up");
        let key = NeighKey { dev: eth.ifindex, addr: Ipv4Addr::new(198, 51, 100, 9).into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(cx, key, [2, 0, 0, 0, 0, 9], state).expect("room for one");
        // Descriptors 0 to 2 are taken in any process.
        for _ in 0..3 {
            net::sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        }
    }

    /// Runs a check on a machine of its own.
    ///
    /// # Panics
    /// When packets are left at the end, or a thread of the machine panicked.
    pub fn run_check(engine: Engine, cpus: u8, check: &Check) -> Report {
        let mut machine = Self::new(engine, cpus);
        let report = check.run(&mut machine);
        machine.end(check);
        report
    }

    fn end(self, check: &Check) {
        let Self { mut cx, run, peer: _peer } = self;
        fs::exit_files(&mut cx);
        let m = Arc::clone(cx.machine());
        match run {
            Run::Stepped(mut world) => {
                // What waits for ARP on eth0, or for other fragments, is given up.
                world.run_for(Duration::from_secs(31));
                assert_eq!(world.live_skbs(), 0, "{}: packets left", check.name);
            }
            Run::Threads(runtime) => {
                // Nobody waits those seconds: the card goes down, and what waits at it ends.
                let eth = m.tables().net.dev_by_name("eth0").map(Arc::clone).expect("eth0");
                dev_close(&mut cx, &eth);
                drop(cx);
                runtime.shutdown().expect("no thread panicked");
                assert_eq!(
                    (m.live_skbs(), m.contained_panics()),
                    (0, 0),
                    "{}: packets left",
                    check.name
                );
            }
        }
    }

    fn run<T>(&mut self, mut op: impl Operation<Output = Result<T, Errno>>) -> Result<T, i32> {
        let done = match &mut self.run {
            Run::Stepped(world) => {
                let limit = Duration::from_secs(100);
                world.block_on(&mut self.cx, &mut op, limit).ok_or(FOR_EVER)?
            }
            Run::Threads(_) => block_on(&mut self.cx, &mut op),
        };
        done.map_err(|errno| errno.0)
    }

    fn size(&mut self, op: impl Operation<Output = Result<usize, Errno>>) -> Ret {
        self.run(op).map(|done| done as i64)
    }
}

fn done(result: Result<(), Errno>) -> Ret {
    result.map(|()| 0).map_err(|errno| errno.0)
}

fn number(result: Result<i32, Errno>) -> Ret {
    result.map(i64::from).map_err(|errno| errno.0)
}

fn name(result: Result<Sockaddr, Errno>) -> Result<Vec<u8>, i32> {
    result.map(|name| name.to_name()).map_err(|errno| errno.0)
}

fn got(received: Received, parts: Vec<Vec<u8>>, mut control: Vec<u8>) -> Got {
    let mut data = parts.concat();
    data.truncate(received.len);
    control.truncate(received.controllen as usize);
    let name = received.name.sockaddr().map_or(Vec::new(), |name| name.to_bytes());
    Got { ret: Ok(received.len as i64), data, name, control, flags: received.flags }
}

fn slices(parts: &[Vec<u8>]) -> Vec<IoSlice<'_>> {
    parts.iter().map(|part| IoSlice::new(part)).collect()
}

fn ms(timeout_ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(timeout_ms))
}

impl Calls for Machine {
    fn settle(&mut self) {
        match &mut self.run {
            Run::Stepped(world) => world.settle(),
            // The machine's threads may be at it, too: whoever comes first.
            Run::Threads(_) => assert!(self.cx.machine().run_until_idle(1000), "it comes to rest"),
        }
    }

    fn allow_ping(&mut self) {
        update_sysctls(&mut self.cx, |sysctl| sysctl.ping_group_range = (0, i32::MAX as u32));
    }

    fn forbid_ping(&mut self) {
        update_sysctls(&mut self.cx, |sysctl| sysctl.ping_group_range = (1, 0));
    }

    fn socket(&mut self, family: i32, kind: i32, protocol: i32) -> Ret {
        number(net::sys_socket(&mut self.cx, family, kind, protocol))
    }

    fn bind(&mut self, fd: i32, name: &[u8]) -> Ret {
        done(net::sys_bind(&mut self.cx, fd, name))
    }

    fn connect(&mut self, fd: i32, name: &[u8]) -> Ret {
        self.run(net::sys_connect(fd, name)).map(|()| 0)
    }

    fn listen(&mut self, fd: i32, backlog: i32) -> Ret {
        done(net::sys_listen(&mut self.cx, fd, backlog))
    }

    fn accept4(&mut self, fd: i32, flags: i32) -> Ret {
        self.run(net::sys_accept4(fd, flags)).map(|(fd, _)| fd.into())
    }

    fn getsockname(&mut self, fd: i32) -> Result<Vec<u8>, i32> {
        name(net::sys_getsockname(&mut self.cx, fd))
    }

    fn getpeername(&mut self, fd: i32) -> Result<Vec<u8>, i32> {
        name(net::sys_getpeername(&mut self.cx, fd))
    }

    fn sendto(&mut self, fd: i32, data: &[u8], flags: i32, name: Option<&[u8]>) -> Ret {
        self.size(net::sys_sendto(fd, data, flags, name))
    }

    fn sendmsg(&mut self, fd: i32, msg: &Outgoing, flags: i32) -> Ret {
        let iov = slices(&msg.parts);
        let (name, control) = (msg.name.as_deref(), &msg.control[..]);
        self.size(net::sys_sendmsg(fd, MsgSend { iov: &iov, name, control, flags }))
    }

    fn sendmmsg(&mut self, fd: i32, msgs: &[Outgoing], flags: i32) -> Ret {
        let iovs: Vec<Vec<IoSlice<'_>>> = msgs.iter().map(|msg| slices(&msg.parts)).collect();
        let all = msgs.iter().zip(&iovs);
        let all: Vec<MsgSend<'_>> = all
            .map(|(msg, iov)| {
                let (name, control) = (msg.name.as_deref(), &msg.control[..]);
                MsgSend { iov, name, control, flags: 0 }
            })
            .collect();
        self.size(net::sys_sendmmsg(fd, &all, flags))
    }

    fn recvfrom(&mut self, fd: i32, len: usize, flags: i32) -> Got {
        let mut data = vec![0; len];
        match self.run(net::sys_recvfrom(fd, &mut data, flags)) {
            Ok((len, name)) => {
                data.truncate(len);
                let name = name.map_or(Vec::new(), |name| name.to_bytes());
                Got { ret: Ok(len as i64), data, name, control: Vec::new(), flags: 0 }
            }
            Err(errno) => Got::failed(errno),
        }
    }

    fn recvmsg(&mut self, fd: i32, room: &Room, flags: i32) -> Got {
        let mut parts: Vec<Vec<u8>> = room.parts.iter().map(|len| vec![0; *len]).collect();
        let mut control = vec![0; room.control];
        let mut iov: Vec<&mut [u8]> = parts.iter_mut().map(|part| &mut part[..]).collect();
        match self.run(net::sys_recvmsg(fd, &mut iov, &mut control, flags)) {
            Ok(received) => got(received, parts, control),
            Err(errno) => Got::failed(errno),
        }
    }

    fn recvmmsg(
        &mut self,
        fd: i32,
        rooms: &[Room],
        flags: i32,
        timeout_ms: Option<u64>,
    ) -> Result<Vec<Got>, i32> {
        let parts = |room: &Room| room.parts.iter().map(|len| vec![0; *len]).collect();
        let mut all: Vec<Vec<Vec<u8>>> = rooms.iter().map(parts).collect();
        let mut controls: Vec<Vec<u8>> = rooms.iter().map(|room| vec![0; room.control]).collect();
        let mut iovs: Vec<Vec<IoSliceMut<'_>>> = all
            .iter_mut()
            .map(|parts| parts.iter_mut().map(|part| IoSliceMut::new(part)).collect())
            .collect();
        let mut into: Vec<MsgRecv<'_>> = iovs
            .iter_mut()
            .zip(&mut controls)
            .map(|(iov, control)| MsgRecv::new(iov, control))
            .collect();
        let timeout = timeout_ms.map(Duration::from_millis);
        let came = self.run(net::sys_recvmmsg(fd, &mut into, flags, timeout))?;
        let done: Vec<Received> = into[..came].iter().map(|msg| msg.received).collect();
        let filled = all.into_iter().zip(controls);
        let each = done.into_iter().zip(filled);
        Ok(each.map(|(received, (parts, control))| got(received, parts, control)).collect())
    }

    fn setsockopt(&mut self, fd: i32, level: i32, name: i32, value: &[u8]) -> Ret {
        done(net::sys_setsockopt(&mut self.cx, fd, level, name, value))
    }

    fn getsockopt(&mut self, fd: i32, level: i32, name: i32, len: i32) -> Result<Vec<u8>, i32> {
        net::__sys_getsockopt(&mut self.cx, fd, level, name, len).map_err(|errno| errno.0)
    }

    fn getsockopt_by(&mut self, fd: i32, option: (i32, i32), value: &[u8]) -> Result<Vec<u8>, i32> {
        net::sys_getsockopt_by(&mut self.cx, fd, option.0, option.1, value).map_err(|errno| errno.0)
    }

    fn shutdown(&mut self, fd: i32, how: i32) -> Ret {
        done(net::sys_shutdown(&mut self.cx, fd, how))
    }

    fn ioctl(&mut self, fd: i32, request: u32, arg: &mut [u8]) -> Ret {
        number(fs::sys_ioctl(&mut self.cx, fd, request, arg))
    }

    fn fcntl(&mut self, fd: i32, cmd: i32, arg: i32) -> Ret {
        number(fs::sys_fcntl(&mut self.cx, fd, cmd, arg))
    }

    fn dup(&mut self, fd: i32) -> Ret {
        number(fs::sys_dup(&mut self.cx, fd))
    }

    fn dup2(&mut self, fd: i32, new: i32) -> Ret {
        number(fs::sys_dup2(&mut self.cx, fd, new))
    }

    fn dup3(&mut self, fd: i32, new: i32, flags: i32) -> Ret {
        number(fs::sys_dup3(&mut self.cx, fd, new, flags))
    }

    fn close(&mut self, fd: i32) -> Ret {
        self.run(fs::sys_close_linger(fd)).map(|()| 0)
    }

    fn poll(&mut self, fds: &mut [PollFd], timeout_ms: u64) -> Ret {
        let of = |fd: &PollFd| fs::PollFd { fd: fd.fd, events: fd.events, revents: fd.revents };
        let mut all: Vec<fs::PollFd> = fds.iter().map(of).collect();
        let done = self.size(fs::sys_poll(&mut all, ms(timeout_ms)));
        fds.iter_mut().zip(&all).for_each(|(fd, there)| fd.revents = there.revents);
        done
    }

    fn select(&mut self, sets: &mut Sets, timeout_ms: u64) -> Ret {
        let [read, write, except] = sets.clone();
        let mut all = FdSets { read, write, except };
        let done = self.size(fs::sys_select(&mut all, ms(timeout_ms)));
        *sets = [all.read, all.write, all.except];
        done
    }

    fn epoll_create(&mut self, size: i32) -> Ret {
        number(fs::sys_epoll_create(&mut self.cx, size))
    }

    fn epoll_create1(&mut self, flags: i32) -> Ret {
        number(fs::sys_epoll_create1(&mut self.cx, flags))
    }

    fn epoll_ctl(&mut self, ep: i32, op: i32, fd: i32, (events, data): (u32, u64)) -> Ret {
        done(fs::sys_epoll_ctl(&mut self.cx, ep, op, fd, EpollEvent { events, data }))
    }

    fn epoll_wait(&mut self, ep: i32, max: i32, timeout_ms: u64) -> Result<Vec<(u32, u64)>, i32> {
        let max = usize::try_from(max).unwrap_or(0);
        let events = self.run(fs::sys_epoll_wait(ep, max, ms(timeout_ms)))?;
        Ok(events.iter().map(|event| (event.events, event.data)).collect())
    }

    fn read(&mut self, fd: i32, len: usize) -> Got {
        let mut data = vec![0; len];
        let ret = self.size(fs::sys_read(fd, &mut data));
        data.truncate(ret.unwrap_or(0) as usize);
        Got { ret, data, ..Got::failed(0) }
    }

    fn write(&mut self, fd: i32, data: &[u8]) -> Ret {
        self.size(fs::sys_write(fd, data))
    }

    fn readv(&mut self, fd: i32, parts: &[usize]) -> Got {
        let mut all: Vec<Vec<u8>> = parts.iter().map(|len| vec![0; *len]).collect();
        let mut into: Vec<&mut [u8]> = all.iter_mut().map(|part| &mut part[..]).collect();
        let ret = self.size(fs::sys_readv(fd, &mut into));
        let mut data = all.concat();
        data.truncate(ret.unwrap_or(0) as usize);
        Got { ret, data, ..Got::failed(0) }
    }

    fn writev(&mut self, fd: i32, parts: &[Vec<u8>]) -> Ret {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        self.size(fs::sys_writev(fd, &parts))
    }

    fn pipe2(&mut self, flags: i32) -> Result<[i32; 2], i32> {
        fs::sys_pipe2(&mut self.cx, flags).map_err(|errno| errno.0)
    }

    fn splice(&mut self, from: Placed<'_>, to: Placed<'_>, len: usize, flags: u32) -> Ret {
        self.size(fs::sys_splice(from, to, len, flags))
    }

    fn sendfile(&mut self, out: i32, (from, off): Placed<'_>, count: usize) -> Ret {
        self.size(fs::sys_sendfile(out, from, off, count))
    }

    fn memfd_create(&mut self, name: &str, flags: i32) -> Ret {
        number(fs::sys_memfd_create(&mut self.cx, name, flags))
    }

    fn lseek(&mut self, fd: i32, offset: i64, whence: i32) -> Ret {
        let moved = fs::sys_lseek(&mut self.cx, fd, offset, whence);
        moved.map(|pos| pos as i64).map_err(|errno| errno.0)
    }

    fn pread(&mut self, fd: i32, len: usize, pos: i64) -> Got {
        let mut data = vec![0; len];
        let read = fs::sys_pread64(&mut self.cx, fd, &mut data, pos);
        data.truncate(read.unwrap_or(0));
        let ret = read.map(|len| len as i64).map_err(|errno| errno.0);
        Got { ret, data, ..Got::failed(0) }
    }

    fn pwrite(&mut self, fd: i32, data: &[u8], pos: i64) -> Ret {
        let written = fs::sys_pwrite64(&mut self.cx, fd, data, pos);
        written.map(|len| len as i64).map_err(|errno| errno.0)
    }

    fn ftruncate(&mut self, fd: i32, length: i64) -> Ret {
        done(fs::sys_ftruncate(&mut self.cx, fd, length))
    }

    fn wire_open(&mut self) {
        self.wire_take();
    }

    fn wire_send(&mut self, frame: &[u8]) {
        let mut batch = FrameBatch::new();
        batch.push(frame, FrameMeta::default());
        assert_eq!(self.peer.transmit(&mut batch), 1, "the link has room");
        self.settle();
    }

    fn wire_take(&mut self) -> Vec<Vec<u8>> {
        self.settle();
        let mut batch = FrameBatch::new();
        self.peer.receive(usize::MAX, &mut batch);
        let ip = |frame: &&[u8]| frame.get(12..14) == Some(&[8, 0]);
        batch.iter().map(|(frame, _)| frame).filter(ip).map(<[u8]>::to_vec).collect()
    }

    fn sysctl(&mut self, name: &str, value: &str) {
        sysctl_write(&mut self.cx, name, value).expect("a setting");
    }
}
