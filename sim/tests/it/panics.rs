//! Panics where code holds something: each is counted, what was held is put right, and service goes
//! on.

use crate::testdev::{TestDev, frame};
use crate::util::{addr, udp};
use sim::{Digest, MachineSpec, World};
use stack::fs::{PollFd, exit_files, sys_close, sys_poll};
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::Operation;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::skbuff::{Skb, SkbList};
use stack::net::core::sock::Sock;
use stack::net::ipv4::protocol::{NetProtocol, inet_add_protocol};
use stack::net::netfilter::{NfHook, NfHookState, NfInetHook, Verdict, nf_register_hook};
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLHUP, POLLIN};
use uapi::snmp::{IpMib, UdpMib};
use uapi::socket::{MSG_DONTWAIT, MSG_MORE};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// RFC 3692: for experiments.
const PROTOCOL: u8 = 253;

/// A protocol that panics over a packet that says so.
fn protocol(m: &mut Machine) {
    let handler = |cx: &mut BhCx<'_>, list: &mut SkbList| {
        for skb in list.iter() {
            assert_ne!(skb.data().get(20..), Some(&b"panic"[..]), "told to panic");
        }
        list.consume(cx);
    };
    inet_add_protocol(m, PROTOCOL, NetProtocol::new(handler, |_, _| ()));
}

struct Host {
    world: World,
    machine: Arc<Machine>,
    cx: TaskCx,
    dev: Arc<TestDev>,
}

impl Host {
    fn new() -> Self {
        let mut world = World::recorded(29);
        let spec = MachineSpec { initcalls: vec![protocol], ..MachineSpec::default() };
        let machine = world.machine(&spec);
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = TestDev::add(&mut cx, LOCAL, 100);
        world.settle();
        Self { world, machine, cx, dev }
    }

    fn deliver(&mut self, packets: &[Vec<u8>]) {
        let frames = packets.iter().map(|packet| frame::ether(TestDev::MAC, 0x0800, packet));
        self.dev.deliver(frames.collect::<Vec<_>>());
        self.world.settle();
    }

    fn send(&mut self, fd: i32, flags: i32) -> Result<usize, Errno> {
        let to = addr(frame::PEER, 9);
        let mut op = sys_sendto(fd, b"x", flags, Some(&to));
        self.world.block_on(&mut self.cx, &mut op, Duration::from_secs(1)).expect("it ends")
    }

    fn poll(&mut self, fd: i32) -> i16 {
        let mut fds = [PollFd { fd, events: POLLIN, revents: 0 }];
        let mut op = sys_poll(&mut fds, Some(Duration::ZERO));
        self.world
            .block_on(&mut self.cx, &mut op, Duration::from_secs(1))
            .expect("it ends")
            .expect("polls");
        drop(op);
        fds[0].revents
    }

    fn recv(&mut self, fd: i32, flags: i32) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0; 64];
        let mut op = sys_recvfrom(fd, &mut data, flags);
        let ended = self.world.block_on(&mut self.cx, &mut op, Duration::from_secs(1));
        drop(op);
        let (len, _) = ended.expect("it does not wait for ever")?;
        data.truncate(len);
        Ok(data)
    }

    fn end(mut self) -> Digest {
        exit_files(&mut self.cx);
        drop(self.cx);
        self.world.run_for(Duration::from_secs(10));
        self.world.end()
    }
}

fn datagram(port: u16, data: &[u8]) -> Vec<u8> {
    frame::udp((frame::PEER, 5000), (LOCAL, port), data)
}

stepped!(a_panic_over_a_packet_costs_that_packet_alone);
fn a_panic_over_a_packet_costs_that_packet_alone() -> Digest {
    let mut host = Host::new();
    let socket = udp(&mut host.cx, LOCAL, 7);
    let bad = frame::ip(PROTOCOL, frame::PEER, LOCAL, b"panic");
    host.deliver(&[datagram(7, b"before"), bad, datagram(7, b"after")]);
    assert_eq!(host.machine.contained_panics(), 1);
    assert_eq!(host.machine.live_skbs(), 2, "those in the socket's queue");
    assert_eq!(host.recv(socket, 0), Ok(b"before".to_vec()));
    assert_eq!(host.recv(socket, 0), Ok(b"after".to_vec()), "the NAPI was polled again");
    assert_eq!(host.machine.mib().get(IpMib::InDelivers), 3, "the packet got as far as that");
    host.end()
}

/// Panics once, holding a socket's lock and a packet.
struct UnderLock(Mutex<Option<Arc<Sock>>>);

impl NfHook for UnderLock {
    fn hook(&self, _: &mut BhCx<'_>, _: &NfHookState, skb: Skb) -> Verdict {
        let told = self.0.lock().expect("free").take();
        if let Some(sk) = told {
            let mut state = sk.state();
            state.rmem_alloc += skb.len();
            panic!("told to panic");
        }
        Verdict::Accept(skb)
    }
}

impl Host {
    /// The socket at `port`, and the next packet panics under its lock.
    fn panic_under(&mut self, port: u16) -> Arc<Sock> {
        let socks = self.machine.net().udp_table.dump();
        let sk = socks.into_iter().find(|sk| sk.inet_num() == port).expect("bound");
        let hook = Arc::new(UnderLock(Mutex::new(Some(Arc::clone(&sk)))));
        nf_register_hook(&mut self.cx, NfInetHook::LocalIn, 0, hook);
        sk
    }
}

stepped!(a_panic_under_a_sockets_lock_kills_that_socket_alone);
fn a_panic_under_a_sockets_lock_kills_that_socket_alone() -> Digest {
    let mut host = Host::new();
    let (killed, other) = (udp(&mut host.cx, LOCAL, 7), udp(&mut host.cx, LOCAL, 8));
    host.deliver(&[datagram(7, b"before")]);
    let sk = host.panic_under(7);
    host.deliver(&[datagram(7, b"lost"), datagram(7, b"refused"), datagram(8, b"fine")]);
    assert_eq!(host.machine.contained_panics(), 1);
    assert!(sk.state().dead);
    drop(sk);
    assert_eq!(host.machine.mib().drops(DropReason::SocketClose), 1, "what came later for it");
    assert_eq!(host.machine.mib().get(UdpMib::InErrors), 1);
    assert_eq!(host.recv(other, 0), Ok(b"fine".to_vec()), "another socket knows nothing of it");
    assert_eq!(host.recv(killed, 0), Err(Errno::EIO));
    assert_eq!(host.recv(killed, 0), Ok(b"before".to_vec()), "what was queued is whole");
    assert_eq!(host.recv(killed, 0), Err(Errno::EIO), "nothing will come: nobody waits for it");
    assert_eq!(host.recv(killed, MSG_DONTWAIT), Err(Errno::EIO));
    for flags in [0, MSG_MORE] {
        assert_eq!(host.send(killed, flags), Err(Errno::EIO), "it does not send either");
    }
    let events = host.poll(killed);
    assert_eq!(events & (POLLERR | POLLHUP), POLLERR | POLLHUP);
    sys_close(&mut host.cx, killed).expect("open");
    let anew = udp(&mut host.cx, LOCAL, 7);
    host.deliver(&[datagram(7, b"anew")]);
    assert_eq!(host.recv(anew, 0), Ok(b"anew".to_vec()), "its port is free");
    host.end()
}

stepped!(who_waits_at_a_socket_that_a_panic_kills_is_told);
fn who_waits_at_a_socket_that_a_panic_kills_is_told() -> Digest {
    let mut host = Host::new();
    host.world.spawn(&host.machine, CpuId(0), |task| async move {
        let socket = task.now(|cx| udp(cx, LOCAL, 7));
        let mut data = [0; 64];
        let waited = task.call(sys_recvfrom(socket, &mut data, 0)).await;
        assert_eq!(waited.map(|_| ()), Err(Errno::EIO));
        task.now(exit_files);
    });
    host.world.settle();
    drop(host.panic_under(7));
    host.deliver(&[datagram(7, b"lost")]);
    assert_eq!(host.world.running_tasks(), 0, "it was woken");
    host.end()
}

stepped!(a_panic_under_the_lock_of_an_owned_socket_is_the_owners_to_find);
fn a_panic_under_the_lock_of_an_owned_socket_is_the_owners_to_find() -> Digest {
    let mut host = Host::new();
    let killed = udp(&mut host.cx, LOCAL, 7);
    let mut owner = host.world.task_cx(&host.machine, CpuId(0));
    let sk = host.panic_under(7);
    {
        owner.enter_call();
        let guard = sk.lock_sock(&mut owner);
        host.deliver(&[datagram(7, b"lost"), datagram(7, b"refused")]);
        assert_eq!(host.machine.contained_panics(), 1);
        assert!(guard.state().dead);
    }
    drop((sk, owner));
    assert_eq!(host.recv(killed, 0), Err(Errno::EIO));
    host.end()
}

stepped!(a_panic_in_a_timer_leaves_the_others_of_its_tick);
fn a_panic_in_a_timer_leaves_the_others_of_its_tick() -> Digest {
    let mut host = Host::new();
    let socket = udp(&mut host.cx, LOCAL, 4000);
    for n in 20..23 {
        let to = addr(Ipv4Addr::new(192, 0, 2, n), 9);
        let mut op = sys_sendto(socket, b"x", 0, Some(&to));
        let sent = host.world.block_on(&mut host.cx, &mut op, Duration::from_millis(1));
        assert_eq!(sent, Some(Ok(1)));
    }
    assert_eq!(host.dev.sent().len(), 3, "a question each");
    // The second question of the first is what a timer sends.
    host.dev.panic_in_xmit.store(1, std::sync::atomic::Ordering::Relaxed);
    host.world.run_for(Duration::from_millis(1_100));
    assert_eq!(host.machine.contained_panics(), 1);
    assert_eq!(host.dev.sent().len(), 2, "the others asked again");
    host.world.run_for(Duration::from_millis(1_000));
    assert_eq!(host.dev.sent().len(), 3, "and the first one's next question went out");
    host.world.run_for(Duration::from_secs(5));
    assert_eq!(host.machine.mib().drops(DropReason::NeighFailed), 3, "all were given up in time");
    host.end()
}

stepped!(a_program_that_panics_in_a_call_leaves_its_sockets_alive);
fn a_program_that_panics_in_a_call_leaves_its_sockets_alive() -> Digest {
    let mut host = Host::new();
    let socket = udp(&mut host.cx, LOCAL, 7);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut data = [0; 64];
        let mut fds = [PollFd { fd: socket, events: POLLIN, revents: 0 }];
        let mut receive = sys_recvfrom(socket, &mut data, 0);
        let mut poll = sys_poll(&mut fds, None);
        assert!(receive.poll(&mut host.cx).is_pending());
        assert!(poll.poll(&mut host.cx).is_pending());
        panic!("the program's own");
    }));
    let told = panicked.expect_err("it did");
    assert_eq!(told.downcast_ref(), Some(&"the program's own"));
    host.deliver(&[datagram(7, b"alive")]);
    assert_eq!(host.recv(socket, 0), Ok(b"alive".to_vec()));
    host.end()
}
