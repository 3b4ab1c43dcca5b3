//! What sockets count, drop and mark.

use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::{Digest, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::Operation;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::dev_queue_xmit_one;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::skbuff::{Skb, alloc_skb};
use stack::net::core::snmp::Mib;
use stack::net::core::sysctl::update_sysctls;
use stack::net::netfilter::{NfHook, NfHookState, NfInetHook, Verdict, nf_register_hook};
use stack::net::socket::{
    MsgSend, sys_bind, sys_getsockname, sys_getsockopt, sys_recvfrom, sys_sendmmsg, sys_sendmsg,
    sys_sendto, sys_setsockopt, sys_socket,
};
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::{IP_RECVERR, IP_TOS};
use uapi::pkt_sched::{TC_PRIO_BESTEFFORT, TC_PRIO_BULK, TC_PRIO_INTERACTIVE};
use uapi::snmp::UdpMib;
use uapi::socket::{
    AF_INET, CmsgWriter, MSG_DONTWAIT, MSG_MORE, SO_MARK, SO_PRIORITY, SO_RCVBUF, SO_RCVBUFFORCE,
    SO_SNDBUF, SO_SNDBUFFORCE, SOCK_DGRAM, SOL_IP, SOL_SOCKET, SOL_UDP,
};

fn int(value: i32) -> [u8; 4] {
    value.to_ne_bytes()
}

/// Priority and mark of each packet that leaves; or nothing leaves.
#[derive(Default)]
struct Leaving {
    seen: Mutex<Vec<(u32, u32)>>,
    wall: bool,
}

impl NfHook for Leaving {
    fn hook(&self, _: &mut BhCx<'_>, _: &NfHookState, skb: Skb) -> Verdict {
        self.seen.lock().expect("free").push((skb.priority, skb.mark));
        if self.wall { Verdict::Drop(skb) } else { Verdict::Accept(skb) }
    }
}

stepped!(control_messages_set_priority_and_mark_of_their_packet);
fn control_messages_set_priority_and_mark_of_their_packet() -> Digest {
    let mut pair = Pair::new(70);
    let mut ends = pair.ends();
    let seen = Arc::new(Leaving::default());
    let hook = Arc::clone(&seen) as Arc<dyn NfHook>;
    nf_register_hook(&mut ends.a, NfInetHook::PostRouting, 0, hook);
    let fd = udp(&mut ends.a, A, 4000);
    sys_setsockopt(&mut ends.a, fd, SOL_IP, IP_TOS, &int(0x10)).expect("set");
    sys_setsockopt(&mut ends.a, fd, SOL_SOCKET, SO_MARK, &int(7)).expect("set");
    let iov = [IoSlice::new(b"x")];
    let to = addr(B, 7);
    let mut told = |messages: &[(i32, i32, i32)]| {
        let mut control = [0_u8; 128];
        let mut writer = CmsgWriter::new(&mut control);
        messages.iter().for_each(|(level, kind, value)| writer.put(*level, *kind, &int(*value)));
        let used = writer.used();
        let msg = MsgSend { iov: &iov, name: Some(&to), control: &control[..used], flags: 0 };
        assert_eq!(pair.run(&mut ends.a, sys_sendmsg(fd, msg)), Ok(1));
        pair.world.settle();
        seen.seen.lock().expect("free").pop().expect("it left")
    };
    assert_eq!(told(&[]), (TC_PRIO_INTERACTIVE, 7), "as the socket says");
    assert_eq!(told(&[(SOL_IP, IP_TOS, 8)]), (TC_PRIO_BULK, 7));
    assert_eq!(told(&[(SOL_IP, IP_TOS, 0), (SOL_SOCKET, SO_MARK, 9)]), (TC_PRIO_BESTEFFORT, 9));
    let both = [(SOL_IP, IP_TOS, 8), (SOL_SOCKET, SO_PRIORITY, 5)];
    assert_eq!(told(&both), (5, 7), "the last one counts");
    assert_eq!(told(&[both[1], both[0]]), (TC_PRIO_BULK, 7));
    assert_eq!(told(&[(SOL_SOCKET, SO_MARK, 0)]), (TC_PRIO_INTERACTIVE, 0));
    exit_files(&mut ends.a);
    drop(ends);
    pair.end()
}

stepped!(a_full_backlog_drops);
fn a_full_backlog_drops() -> Digest {
    let mut pair = Pair::new(71);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    sys_setsockopt(&mut ends.b, server, SOL_SOCKET, SO_RCVBUF, &int(2304)).expect("set");
    let sk = pair.b.net().udp_table.dump().remove(0);
    {
        let guard = sk.lock_sock(&mut ends.b);
        for n in 0..5_u8 {
            send(&mut pair, &mut ends.a, client, &[n; 600], addr(B, 7));
            pair.world.settle();
        }
        assert_eq!(guard.state().receive_queue.len(), 0, "all wait in the backlog");
    }
    let mib = pair.b.mib();
    assert_eq!(mib.drops(DropReason::SocketBacklog), 2);
    assert_eq!(mib.drops(DropReason::SocketRcvbuff), 0);
    assert_eq!((mib.get(UdpMib::RcvbufErrors), mib.get(UdpMib::InErrors)), (2, 2));
    assert_eq!(sk.state().drops, 2);
    for n in 0..3 {
        assert_eq!(recv(&mut pair, &mut ends.b, server).expect("came out").0[0], n);
    }
    send(&mut pair, &mut ends.a, client, b"room", addr(B, 7));
    assert_eq!(recv(&mut pair, &mut ends.b, server).expect("taken").0, b"room");
    drop(sk);
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

/// A machine whose card takes nothing, and whose queue holds two packets and the one tried first.
struct Stopped {
    world: World,
    machine: Arc<Machine>,
    cx: TaskCx,
    dev: Arc<TestDev>,
    fd: i32,
}

impl Stopped {
    fn new() -> Self {
        let mut world = World::recorded(7);
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = TestDev::add(&mut cx, A, 2);
        let key = NeighKey { dev: dev.dev().ifindex, addr: frame::PEER.into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(&mut cx, key, frame::PEER_MAC, state).expect("room for one");
        world.settle();
        let fd = udp(&mut cx, A, 4000);
        dev.dev().netif_stop_subqueue(0);
        Self { world, machine, cx, dev, fd }
    }

    fn run<O: Operation>(&mut self, mut op: O) -> O::Output {
        self.world.block_on(&mut self.cx, &mut op, Duration::from_secs(1)).expect("at once")
    }

    fn send(&mut self, data: &[u8], flags: i32) -> Result<usize, Errno> {
        let to = addr(frame::PEER, 9);
        self.run(sys_sendto(self.fd, data, flags | MSG_DONTWAIT, Some(&to)))
    }

    fn set(&mut self, (level, name): (i32, i32), value: i32) -> Result<(), Errno> {
        sys_setsockopt(&mut self.cx, self.fd, level, name, &int(value))
    }

    fn counts(&mut self) -> (u64, u64) {
        self.cx.flush();
        let mib = self.machine.mib();
        (mib.get(UdpMib::OutDatagrams), mib.get(UdpMib::SndbufErrors))
    }

    fn finish(mut self) -> Digest {
        self.cx.enter_call();
        let dev = self.dev.dev();
        self.cx.local_bh_disable(|bh| dev.netif_wake_subqueue(bh, 0));
        self.world.settle();
        exit_files(&mut self.cx);
        let Self { world, cx, .. } = self;
        drop(cx);
        world.end()
    }
}

stepped!(a_drop_by_the_queue_is_told_to_who_asks_for_errors);
fn a_drop_by_the_queue_is_told_to_who_asks_for_errors() -> Digest {
    let mut one = Stopped::new();
    for _ in 0..3 {
        assert_eq!(one.send(b"queued", 0), Ok(6));
    }
    assert_eq!(one.counts(), (3, 0));
    assert_eq!(one.send(b"dropped", 0), Ok(7), "RFC 768 knows no such error");
    assert_eq!(one.counts(), (3, 1));
    // Corked data likewise.
    assert_eq!(one.send(b"dropped ", MSG_MORE), Ok(8));
    assert_eq!(one.send(b"too", 0), Ok(3));
    assert_eq!(one.counts(), (3, 2));
    one.set((SOL_IP, IP_RECVERR), 1).expect("set");
    assert_eq!(one.send(b"dropped", 0), Err(Errno::ENOBUFS));
    assert_eq!(one.send(b"dropped ", MSG_MORE), Ok(8));
    assert_eq!(one.send(b"too", 0), Err(Errno::ENOBUFS));
    assert_eq!(one.counts(), (3, 4));
    one.set((SOL_UDP, uapi::udp::UDP_CORK), 1).expect("set");
    assert_eq!(one.send(b"dropped", 0), Ok(7));
    assert_eq!(
        one.set((SOL_UDP, uapi::udp::UDP_CORK), 0),
        Ok(()),
        "the option is set all the same"
    );
    assert_eq!(one.counts(), (3, 5));
    one.finish()
}

stepped!(only_want_of_room_counts_as_a_send_buffer_error);
fn only_want_of_room_counts_as_a_send_buffer_error() -> Digest {
    let mut one = Stopped::new();
    one.set((SOL_SOCKET, SO_SNDBUF), 1).expect("set");
    let mut sent = 0;
    while one.send(&[0; 1400], 0).is_ok() {
        sent += 1;
        assert!(sent < 100, "a small buffer is full some time");
    }
    let (out, errors) = one.counts();
    assert_eq!(errors, sent - out + 1, "those the queue dropped, and the one without room");
    let wall = Arc::new(Leaving { wall: true, ..Leaving::default() });
    nf_register_hook(&mut one.cx, NfInetHook::LocalOut, 0, wall);
    one.set((SOL_SOCKET, SO_SNDBUF), 1 << 20).expect("set");
    assert_eq!(one.send(b"x", 0), Err(Errno::EPERM));
    assert_eq!(one.counts(), (out, errors));
    one.finish()
}

stepped!(settings_bound_the_buffers);
fn settings_bound_the_buffers() -> Digest {
    let mut pair = Pair::new(72);
    let mut cx = pair.on_a();
    update_sysctls(&mut cx, |sysctl| {
        (sysctl.rmem_default, sysctl.rmem_max) = (50_000, 60_000);
        (sysctl.wmem_default, sysctl.wmem_max) = (70_000, 80_000);
    });
    let fd = udp(&mut cx, A, 4000);
    let option = |cx: &mut TaskCx, name, value: Option<i32>| {
        if let Some(value) = value {
            sys_setsockopt(cx, fd, SOL_SOCKET, name, &int(value)).expect("set");
        }
        let told = sys_getsockopt(cx, fd, SOL_SOCKET, name).expect("there");
        i32::from_ne_bytes(told.try_into().expect("a number"))
    };
    assert_eq!(option(&mut cx, SO_RCVBUF, None), 50_000);
    assert_eq!(option(&mut cx, SO_SNDBUF, None), 70_000);
    assert_eq!(option(&mut cx, SO_RCVBUF, Some(59_999)), 2 * 59_999);
    assert_eq!(option(&mut cx, SO_RCVBUF, Some(1 << 30)), 2 * 60_000, "rmem_max");
    assert_eq!(option(&mut cx, SO_SNDBUF, Some(1 << 30)), 2 * 80_000, "wmem_max");
    for (force, name) in [(SO_RCVBUFFORCE, SO_RCVBUF), (SO_SNDBUFFORCE, SO_SNDBUF)] {
        sys_setsockopt(&mut cx, fd, SOL_SOCKET, force, &int(100_000)).expect("set");
        assert_eq!(option(&mut cx, name, None), 200_000, "beyond it by force");
    }
    // And what a message's control data may take.
    update_sysctls(&mut cx, |sysctl| sysctl.optmem_max = 64);
    let (iov, to) = ([IoSlice::new(b"x")], addr(B, 7));
    for (len, done) in [(63, Err(Errno::EINVAL)), (64, Err(Errno::ENOBUFS))] {
        let control = vec![0; len];
        let msg = MsgSend { iov: &iov, name: Some(&to), control: &control, flags: 0 };
        assert_eq!(pair.run(&mut cx, sys_sendmsg(fd, msg)), done, "{len}");
    }
    exit_files(&mut cx);
    drop(cx);
    pair.end()
}

stepped!(the_port_range_is_what_bind_chooses_from);
fn the_port_range_is_what_bind_chooses_from() -> Digest {
    let pair = Pair::new(75);
    let mut cx = pair.on_a();
    update_sysctls(&mut cx, |sysctl| sysctl.ip_local_port_range = (40_000, 40_002));
    let mut bind = || {
        let fd = sys_socket(&mut cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        sys_bind(&mut cx, fd, &addr(A, 0))?;
        sys_getsockname(&mut cx, fd).map(|name| name.inet().map_or(0, |name| name.port))
    };
    let mut ports = [bind(), bind(), bind()].map(|port| port.expect("one is free"));
    ports.sort_unstable();
    assert_eq!(ports, [40_000, 40_001, 40_002]);
    assert_eq!(bind(), Err(Errno::EADDRINUSE), "all taken");
    exit_files(&mut cx);
    drop(cx);
    pair.end()
}

stepped!(a_full_cpu_backlog_drops);
fn a_full_cpu_backlog_drops() -> Digest {
    let mut pair = Pair::new(76);
    let mut cx = pair.on_a();
    update_sysctls(&mut cx, |sysctl| sysctl.netdev_max_backlog = 2);
    let lo = Ipv4Addr::LOCALHOST;
    let (client, server) = (udp(&mut cx, lo, 4000), udp(&mut cx, lo, 7));
    let name = addr(lo, 7);
    let iov = [IoSlice::new(b"x")];
    let msg = MsgSend { iov: &iov, name: Some(&name), control: &[], flags: 0 };
    // In one section the backlog is not worked off between them.
    assert_eq!(pair.run(&mut cx, sys_sendmmsg(client, &[msg; 8], 0)), Ok(8));
    pair.world.settle();
    let mut heard = 0;
    let mut data = [0; 8];
    while pair.run(&mut cx, sys_recvfrom(server, &mut data, MSG_DONTWAIT)).is_ok() {
        heard += 1;
    }
    let dropped = pair.a.mib().drops(DropReason::CpuBacklog);
    assert_eq!((heard, dropped), (3, 5), "one more than the limit, as Linux counts");
    exit_files(&mut cx);
    drop(cx);
    pair.end()
}

stepped!(unknown_options_are_counted);
fn unknown_options_are_counted() -> Digest {
    let pair = Pair::new(73);
    let mut cx = pair.on_a();
    let fd = udp(&mut cx, A, 4000);
    let count = || pair.a.mib().get(Mib::UnknownOptions);
    assert_eq!(sys_setsockopt(&mut cx, fd, SOL_IP, 999, &int(1)), Err(Errno::ENOPROTOOPT));
    assert_eq!(count(), 1);
    assert_eq!(sys_getsockopt(&mut cx, fd, SOL_SOCKET, 999), Err(Errno::ENOPROTOOPT));
    assert_eq!(sys_getsockopt(&mut cx, fd, 999, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(count(), 3);
    assert_eq!(sys_setsockopt(&mut cx, fd, SOL_SOCKET, SO_MARK, &[]), Err(Errno::EINVAL));
    assert_eq!(count(), 3, "known, but not so");
    exit_files(&mut cx);
    drop(cx);
    pair.end()
}

stepped!(fragments_that_timed_out_elsewhere_are_no_error);
fn fragments_that_timed_out_elsewhere_are_no_error() -> Digest {
    let mut pair = Pair::new(74);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    sys_setsockopt(&mut ends.a, client, SOL_IP, IP_RECVERR, &int(1)).expect("set");
    let sk = pair.a.net().udp_table.dump().remove(0);
    let quote = frame::udp((A, 4000), (B, 9), b"lost");
    let dev = Arc::clone(pair.b.tables().net.dev_by_name("eth0").expect("there"));
    let to_a = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there")).dev_addr();
    let mut reports = Vec::new();
    for code in [0, 1] {
        let packet = frame::ip(1, B, A, &frame::icmp(11, code, [0; 4], &quote));
        ends.b.enter_call();
        ends.b.local_bh_disable(|bh| {
            let frame = frame::ether(to_a, 0x0800, &packet);
            let mut skb = alloc_skb(bh, frame.len()).expect("room");
            skb.skb_put(frame.len()).expect("room").copy_from_slice(&frame);
            skb.dev = Some(dev.ifindex);
            dev_queue_xmit_one(bh, skb, &dev);
        });
        pair.world.settle();
        reports.push(sk.state().errors());
    }
    assert_eq!(reports, [1, 1], "time to live is, reassembly time is not");
    assert_eq!(pair.a.mib().get(uapi::snmp::IcmpMib::InTimeExcds), 2);
    drop(sk);
    exit_files(&mut ends.a);
    drop(ends);
    pair.end()
}
