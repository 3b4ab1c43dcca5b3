//! What the tasks of each scene do.

pub(super) mod kinds;
mod tcp;

use self::kinds::{Whom, enter};
use super::capture::Capture;
use super::{A, B, Host, MAX_SIZE, ScenarioError, Scene, Setup, Subject, TcpScenario};
use klib::checksum::{csum_fold, csum_partial, ip_fast_csum};
use sim::{Task, World};
use stack::fs::{exit_files, sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::nsproxy::NetId;
use stack::net::core::dev::{PacketFunc, PacketType, dev_add_pack, dev_queue_xmit_one};
use stack::net::core::skbuff::{consume_skb, netdev_alloc_skb};
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_listen, sys_recvfrom, sys_send, sys_sendto, sys_socket,
};
use std::cell::RefCell;
use std::future::Future;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::icmp::{ICMP_ECHO, ICMP_HDR_LEN, IcmpHdr};
use uapi::if_ether::{ETH_P_ALL, ETH_P_IP, EthHdr};
use uapi::in_::SockaddrIn;
use uapi::ip::{IPPROTO_ICMP, IpHdr};
use uapi::socket::{AF_INET, SOCK_DGRAM, SOCK_STREAM};
use zerocopy::{FromZeros, IntoBytes};

/// Where the client's socket is bound, so that a reader meets the same number in every run.
const CLIENT: u16 = 40_000;
/// The server's port: RFC 862's echo.
const SERVER: u16 = 7;
/// A port nobody listens at.
const CLOSED: u16 = 9;
/// What the client sends.
const MESSAGE: &[u8] = b"hello";
/// What the client sends, as long as is asked for.
fn message(size: Option<u16>) -> Vec<u8> {
    let len = size.map_or(MESSAGE.len(), usize::from);
    MESSAGE.iter().copied().cycle().take(len).collect()
}

/// No scene takes as long, in virtual time.
const LIMIT: Duration = Duration::from_secs(10);
/// A network card holds an interrupt back no longer than this: by then it has told of all it sent.
const INTERRUPTS_SETTLE: Duration = Duration::from_millis(1);
/// After this the last FIN over a link that takes time is acknowledged.
const STREAMS_SETTLE: Duration = Duration::from_secs(1);
/// After this, `delay_probe_time` and the probe it leads to are over: neighbours are REACHABLE.
const NEIGHBOURS_SETTLE: Duration = Duration::from_secs(6);

type Outcome = Result<(), ScenarioError>;

/// Machines, and the tasks that play on them.
pub(super) struct Stage {
    world: World,
    machines: Vec<(&'static str, Arc<Machine>)>,
    /// Kept after their code ended: their sockets are closed when the walk is over.
    tasks: Vec<Task>,
    failed: Rc<RefCell<Option<ScenarioError>>>,
}

impl Stage {
    pub(super) fn new(world: World, machines: Vec<(&'static str, Arc<Machine>)>) -> Self {
        Self { world, machines, tasks: Vec::new(), failed: Rc::default() }
    }

    /// Sets the scene, watches it and takes down what was seen.
    pub(super) fn play(mut self, setup: &Setup) -> Result<Scene, ScenarioError> {
        match setup.subject {
            Subject::Arp | Subject::Loopback | Subject::Veth => (),
            Subject::Forward => {
                self.route()?;
                self.resolve_neighbours(2, kinds::FAR_B)?;
            }
            _ => self.resolve_neighbours(1, B)?,
        }
        let capture = setup.frames.then(|| self.tap());
        let title = self.cast(setup)?;
        if !setup.scenario.is_some_and(TcpScenario::begins_connected) {
            self.world.watch(None);
        }
        self.run()?;
        for (_, machine) in &self.machines {
            machine.tracer.stop();
        }
        let mut records = self.world.take_walk();
        if let Some(scenario) = setup.scenario {
            scenario.pick(&mut records);
        }
        self.close();
        // A card that held its interrupt back still has what it sent.
        let settles = if setup.scenario.is_some() { STREAMS_SETTLE } else { INTERRUPTS_SETTLE };
        self.world.run_for(settles);
        debug_assert_eq!(self.world.live_skbs(), 0, "the scene left packets behind");
        let hosts = self.machines.iter().map(|(name, machine)| Host::of(name, machine)).collect();
        let frames = capture.map(|capture| capture.take()).unwrap_or_default();
        Ok(Scene { title, hosts, records, frames })
    }

    /// Puts the tasks of the scene on; one sentence on what they will do.
    fn cast(&mut self, setup: &Setup) -> Result<String, ScenarioError> {
        // The receiver on the last CPU: with several, the interrupt's and the reader's differ.
        let last = CpuId(setup.cpus.saturating_sub(1));
        let message = message(setup.size);
        let size = message.len();
        if let Some(scenario) = setup.scenario {
            self.cast_tcp(scenario, last)?;
            return Ok(scenario.title());
        }
        Ok(match setup.subject {
            Subject::Udp => {
                self.serve((1, NetId::INIT), last, Answer::Yes)?;
                self.ask((0, CpuId(0)), Whom { net: NetId::INIT, at: B }, message)?;
                format!(
                    "UDP: A ({A}) sends {size} bytes to port {SERVER} of B ({B}), which answers"
                )
            }
            Subject::Arp => {
                self.serve((1, NetId::INIT), last, Answer::No)?;
                self.tell(0, CpuId(0), (B, message))?;
                format!(
                    "ARP: A ({A}) sends {size} bytes to B ({B}), whose link address it must ask for"
                )
            }
            Subject::Loopback => {
                self.serve((0, NetId::INIT), last, Answer::No)?;
                self.tell(0, CpuId(0), (Ipv4Addr::LOCALHOST, message))?;
                format!(
                    "Loopback: A sends {size} bytes to port {SERVER} of {}",
                    Ipv4Addr::LOCALHOST
                )
            }
            Subject::Tcp => {
                self.accept(1, last)?;
                self.converse(0, CpuId(0), B)?;
                format!(
                    "TCP: A ({A}) connects to port {SERVER} of B ({B}), sends {size} bytes, which come back, and \
                     closes"
                )
            }
            Subject::Icmp => {
                self.provoke()?;
                format!(
                    "ICMP: A ({A}) sends to B's closed port {CLOSED} and gets ECONNREFUSED; then an echo"
                )
            }
            other => self.cast_kind(other, last)?,
        })
    }

    /// Starts a task; its code's failure is the scene's.
    fn spawn<F: Future<Output = Outcome> + 'static>(
        &mut self,
        machine: usize,
        cpu: CpuId,
        code: impl FnOnce(Task) -> Result<F, ScenarioError>,
    ) -> Outcome {
        let failed = Rc::clone(&self.failed);
        let machine = Arc::clone(&self.machines[machine].1);
        let tasks = &mut self.tasks;
        let mut refused = None;
        self.world.spawn(&machine, cpu, |task| {
            tasks.push(task.clone());
            let body = code(task).map_err(|error| refused = Some(error)).ok();
            async move {
                let Some(body) = body else { return };
                if let Err(error) = body.await {
                    failed.borrow_mut().get_or_insert(error);
                }
            }
        });
        refused.map_or(Ok(()), Err)
    }

    /// Runs the tasks to their end, and what they left behind.
    fn run(&mut self) -> Outcome {
        let ended = self.world.run_tasks(LIMIT);
        self.world.settle();
        match self.failed.borrow_mut().take() {
            Some(error) => Err(error),
            None if !ended => Err(ScenarioError::Unfinished("the end of the scene")),
            None => Ok(()),
        }
    }

    fn close(&mut self) {
        for task in self.tasks.drain(..) {
            task.now(exit_files);
        }
    }

    /// A server that takes one datagram, and answers it or not.
    fn serve(&mut self, (machine, net): (usize, NetId), cpu: CpuId, answer: Answer) -> Outcome {
        self.spawn(machine, cpu, |task| {
            task.now(|cx| enter(cx, net))?;
            let fd = task.now(|cx| udp(cx, SERVER))?;
            Ok(async move {
                let mut buffer = vec![0; usize::from(MAX_SIZE)];
                let received = task.call(sys_recvfrom(fd, &mut buffer, 0)).await;
                let (len, from) = called("recvfrom", received)?;
                let from = from.ok_or(ScenarioError::Unfinished("the sender's address"))?;
                if answer == Answer::Yes {
                    let to = from.to_bytes();
                    let sent = task.call(sys_sendto(fd, &buffer[..len], 0, Some(&to))).await;
                    called("sendto", sent)?;
                }
                Ok(())
            })
        })
    }

    /// A client that sends one datagram.
    fn tell(&mut self, machine: usize, cpu: CpuId, (to, data): (Ipv4Addr, Vec<u8>)) -> Outcome {
        self.spawn(machine, cpu, |task| {
            let fd = task.now(|cx| udp(cx, CLIENT))?;
            Ok(async move {
                let to = address(to, SERVER);
                called("sendto", task.call(sys_sendto(fd, &data, 0, Some(&to))).await)?;
                Ok(())
            })
        })
    }

    /// A client that sends one datagram and waits for the answer.
    fn ask(&mut self, (machine, cpu): (usize, CpuId), whom: Whom, data: Vec<u8>) -> Outcome {
        self.spawn(machine, cpu, |task| {
            task.now(|cx| enter(cx, whom.net))?;
            let fd = task.now(|cx| udp(cx, CLIENT))?;
            Ok(async move {
                let to = address(whom.at, SERVER);
                called("sendto", task.call(sys_sendto(fd, &data, 0, Some(&to))).await)?;
                let mut buffer = vec![0; data.len()];
                called("recvfrom", task.call(sys_recvfrom(fd, &mut buffer, 0)).await)?;
                Ok(())
            })
        })
    }

    /// A server that takes one connection and sends back what comes, until the client closes.
    fn accept(&mut self, machine: usize, cpu: CpuId) -> Outcome {
        self.spawn(machine, cpu, |task| {
            let listener = task.now(listener)?;
            Ok(async move {
                let (fd, _) = called("accept4", task.call(sys_accept4(listener, 0)).await)?;
                let mut buffer = [0; 64];
                loop {
                    let len = called("read", task.call(sys_read(fd, &mut buffer)).await)?;
                    if len == 0 {
                        return called("close", task.now(|cx| sys_close(cx, fd)));
                    }
                    called("write", task.call(sys_write(fd, &buffer[..len])).await)?;
                }
            })
        })
    }

    /// A client that connects, sends a message, waits for the answer and closes.
    fn converse(&mut self, machine: usize, cpu: CpuId, to: Ipv4Addr) -> Outcome {
        self.spawn(machine, cpu, |task| {
            let fd = task.now(|cx| bound(cx, SOCK_STREAM, CLIENT))?;
            Ok(async move {
                called("connect", task.call(sys_connect(fd, &address(to, SERVER))).await)?;
                called("write", task.call(sys_write(fd, MESSAGE)).await)?;
                called("read", task.call(sys_read(fd, &mut [0; 64])).await)?;
                called("close", task.now(|cx| sys_close(cx, fd)))
            })
        })
    }

    /// A client that sends to a closed port, meets the error, and then sends an echo request.
    fn provoke(&mut self) -> Outcome {
        let echo = self.echo_request()?;
        self.spawn(0, CpuId(0), |task| {
            let fd = task.now(|cx| udp(cx, CLIENT))?;
            Ok(async move {
                called("connect", task.call(sys_connect(fd, &address(B, CLOSED))).await)?;
                called("send", task.call(sys_send(fd, MESSAGE, 0)).await)?;
                match task.call(sys_recvfrom(fd, &mut [0; 64], 0)).await {
                    Err(Errno::ECONNREFUSED) => task.now(|cx| packet_send(cx, &echo)),
                    Err(errno) => Err(ScenarioError::Call("recvfrom", errno)),
                    Ok(_) => Err(ScenarioError::Unfinished("port unreachable")),
                }
            })
        })
    }

    /// Lets the first machine and this one learn and confirm each other's link address, unwatched.
    fn resolve_neighbours(&mut self, machine: usize, at: Ipv4Addr) -> Outcome {
        self.serve((machine, NetId::INIT), CpuId(0), Answer::Yes)?;
        self.ask((0, CpuId(0)), Whom { net: NetId::INIT, at }, message(None))?;
        self.run()?;
        self.close();
        self.world.run_for(NEIGHBOURS_SETTLE);
        Ok(())
    }

    /// A tap on every machine.
    fn tap(&self) -> Arc<Capture> {
        let capture = Arc::new(Capture::default());
        for (_, machine) in &self.machines {
            let mut cx = self.world.task_cx(machine, CpuId(0));
            let func = PacketFunc::Tap(Arc::clone(&capture) as _);
            dev_add_pack(&mut cx, PacketType { kind: ETH_P_ALL, dev: None, func });
        }
        capture
    }

    /// The frame of an echo request from A to B.
    fn echo_request(&self) -> Result<Vec<u8>, ScenarioError> {
        let mac = |machine: usize| {
            let tables = self.machines[machine].1.tables();
            let dev = tables.net.devs.iter().flatten().find(|dev| !dev.is_loopback());
            dev.map(|dev| dev.dev_addr()).ok_or(ScenarioError::Unfinished("a device"))
        };
        let ethernet = EthHdr { h_dest: mac(1)?, h_source: mac(0)?, h_proto: ETH_P_IP.into() };
        let payload: [u8; 56] = std::array::from_fn(|at| at as u8);
        let mut icmp = IcmpHdr::new_zeroed();
        icmp.type_ = ICMP_ECHO;
        icmp.set_id(1);
        icmp.set_sequence(1);
        let sum = csum_partial(icmp.as_bytes(), 0);
        icmp.checksum = csum_fold(csum_partial(&payload, sum)).into();
        let mut ip = IpHdr::new_zeroed();
        ip.version_ihl = 4 << 4;
        ip.set_ihl(size_of::<IpHdr>());
        ip.tot_len = ((size_of::<IpHdr>() + ICMP_HDR_LEN + payload.len()) as u16).into();
        ip.ttl = 64;
        ip.protocol = IPPROTO_ICMP;
        ip.saddr = u32::from(A).into();
        ip.daddr = u32::from(B).into();
        ip.check = ip_fast_csum(ip.as_bytes()).into();
        Ok([ethernet.as_bytes(), ip.as_bytes(), icmp.as_bytes(), &payload].concat())
    }
}

/// What a server does with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

fn called<T>(call: &'static str, result: Result<T, Errno>) -> Result<T, ScenarioError> {
    result.map_err(|errno| ScenarioError::Call(call, errno))
}

fn address(ip: Ipv4Addr, port: u16) -> [u8; 16] {
    SockaddrIn::new(ip.into(), port).to_bytes()
}

/// A UDP socket bound to `port` of every address.
fn udp(cx: &mut TaskCx, port: u16) -> Result<i32, ScenarioError> {
    bound(cx, SOCK_DGRAM, port)
}

/// A TCP socket that listens at the server's port.
fn listener(cx: &mut TaskCx) -> Result<i32, ScenarioError> {
    let fd = bound(cx, SOCK_STREAM, SERVER)?;
    called("listen", sys_listen(cx, fd, 1))?;
    Ok(fd)
}

/// A socket of this kind bound to `port` of every address.
fn bound(cx: &mut TaskCx, kind: i32, port: u16) -> Result<i32, ScenarioError> {
    let fd = called("socket", sys_socket(cx, AF_INET, kind, 0))?;
    called("bind", sys_bind(cx, fd, &address(Ipv4Addr::UNSPECIFIED, port)))?;
    Ok(fd)
}

/// Sends a whole frame by the first device that is not loopback, as a packet socket would: its
/// walk begins at the device.
fn packet_send(cx: &mut TaskCx, frame: &[u8]) -> Outcome {
    const FAILED: ScenarioError = ScenarioError::Unfinished("the echo request");
    cx.enter_call();
    cx.local_bh_disable(|cx| {
        let t = cx.tables();
        let dev = t.net.devs.iter().flatten().find(|dev| !dev.is_loopback()).ok_or(FAILED)?;
        let mut skb = netdev_alloc_skb(cx, dev.ifindex, frame.len()).ok_or(FAILED)?;
        let Some(room) = skb.skb_put(frame.len()) else {
            consume_skb(cx, skb);
            return Err(FAILED);
        };
        room.copy_from_slice(frame);
        skb.protocol = ETH_P_IP;
        cx.watch(&mut skb);
        dev_queue_xmit_one(cx, skb, dev).errno().map_err(|errno| ScenarioError::Call("send", errno))
    })
}
