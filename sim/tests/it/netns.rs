//! Namespaces of one machine, and what leads from one to another.

use crate::golden;
use crate::tcp::listener_at;
use crate::util::{A, B, Pair, addr, udp};
use drivers::net::veth::{VethEnd, veth_newlink};
use sim::{Digest, MachineSpec, World};
use stack::fs::{exit_files, sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::nsproxy::{setns, sys_unshare};
use stack::kernel::sched::Operation;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::core::dev::{NetDevice, dev_change_net_namespace, dev_close, dev_open};
use stack::net::core::sysctl::names::{sysctl_all, sysctl_write};
use stack::net::ipv4::arp::arp_seq_show;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::ipv4::udp::udp4_seq_show;
use stack::net::net_namespace::{NETS_MAX, NetId, NetView, copy_net_ns, put_net};
use stack::net::socket::{sys_accept4, sys_connect, sys_recvfrom, sys_sendto, sys_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::{IpMib, UdpMib};
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_STREAM};

const LIMIT: Duration = Duration::from_secs(600);
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A machine, and a task in its first namespace.
struct One {
    world: World,
    machine: Arc<Machine>,
    cx: TaskCx,
}

impl One {
    fn new(seed: u64, cpus: u8) -> Self {
        let mut world = World::recorded(seed);
        let machine = world.machine(&MachineSpec { cpus, ..MachineSpec::default() });
        let cx = world.task_cx(&machine, CpuId(0));
        Self { world, machine, cx }
    }

    /// A task in a namespace.
    fn task(&self, net: NetId, cpu: u8) -> TaskCx {
        let mut cx = self.world.task_cx(&self.machine, CpuId(cpu));
        setns(&mut cx, net).expect("there");
        cx
    }

    /// Two namespaces with a pair of devices between them, up and with addresses.
    fn two(&mut self) -> [NetId; 2] {
        let nets = [(); 2].map(|()| copy_net_ns(&mut self.cx).expect("room"));
        self.joined([(nets[0], "eth0", LEFT), (nets[1], "eth0", RIGHT)]);
        nets
    }

    fn joined(&mut self, ends: [(NetId, &str, Ipv4Addr); 2]) -> [Arc<NetDevice>; 2] {
        let devs = veth_newlink(&mut self.cx, ends.map(|(net, name, _)| VethEnd { net, name }))
            .expect("both namespaces");
        for ((net, _, ip), dev) in ends.iter().zip(&devs) {
            self.up(*net, dev, *ip);
        }
        devs
    }

    fn up(&mut self, net: NetId, dev: &Arc<NetDevice>, ip: Ipv4Addr) {
        let done = self.cx.with_net(net, |cx| {
            inet_insert_ifa(cx, dev, IfAddr::new(ip, 24)?)?;
            dev_open(cx, dev)
        });
        assert_eq!(done, Ok(Ok(())));
    }

    fn run<O: Operation>(&mut self, cx: &mut TaskCx, mut op: O) -> O::Output {
        self.world.block_on(cx, &mut op, LIMIT).expect("the call ends")
    }

    fn send(&mut self, cx: &mut TaskCx, fd: i32, data: &[u8], to: [u8; 16]) {
        assert_eq!(self.run(cx, sys_sendto(fd, data, 0, Some(&to))), Ok(data.len()));
    }

    fn recv(&mut self, cx: &mut TaskCx, fd: i32) -> (Vec<u8>, Vec<u8>) {
        let mut data = vec![0; 2048];
        let (len, from) = self.run(cx, sys_recvfrom(fd, &mut data, 0)).expect("a datagram");
        data.truncate(len);
        (data, from.expect("a sender").to_bytes().to_vec())
    }

    fn mib(&self, net: NetId, of: UdpMib) -> u64 {
        NetView::new(&self.machine, net).expect("there").mib().get(of)
    }

    fn end(mut self, tasks: impl IntoIterator<Item = TaskCx>) -> Digest {
        for mut cx in tasks {
            exit_files(&mut cx);
        }
        exit_files(&mut self.cx);
        drop(self.cx);
        self.world.run_for(Duration::from_secs(1));
        self.world.end()
    }
}

stepped!(a_datagram_goes_from_one_namespace_to_another_and_back);
fn a_datagram_goes_from_one_namespace_to_another_and_back() -> Digest {
    let mut one = One::new(901, 1);
    let [left, right] = one.two();
    let (mut l, mut r) = (one.task(left, 0), one.task(right, 0));
    // The same port, and any address: neither knows of the other.
    let sockets = [udp(&mut l, Ipv4Addr::UNSPECIFIED, 7), udp(&mut r, Ipv4Addr::UNSPECIFIED, 7)];
    let cx = &mut one.cx;
    let first = udp(cx, Ipv4Addr::UNSPECIFIED, 7);
    one.send(&mut l, sockets[0], b"warm", addr(RIGHT, 7));
    assert_eq!(one.recv(&mut r, sockets[1]).0, b"warm");
    one.world.settle();
    one.world.watch(None);
    one.send(&mut l, sockets[0], b"over", addr(RIGHT, 7));
    assert_eq!(one.recv(&mut r, sockets[1]), (b"over".to_vec(), addr(LEFT, 7).to_vec()));
    golden::check(&one.world, "udp-veth");
    one.send(&mut r, sockets[1], b"back", addr(LEFT, 7));
    assert_eq!(one.recv(&mut l, sockets[0]), (b"back".to_vec(), addr(RIGHT, 7).to_vec()));
    // Each counts for itself, and has its own files.
    l.flush();
    r.flush();
    let sent_and_got =
        |net| (one.mib(net, UdpMib::OutDatagrams), one.mib(net, UdpMib::InDatagrams));
    assert_eq!(sent_and_got(left), (2, 1));
    assert_eq!(sent_and_got(right), (1, 2));
    assert_eq!(sent_and_got(NetId::INIT), (0, 0));
    let of = |net| NetView::new(&one.machine, net).expect("there");
    assert_eq!(udp4_seq_show(of(left)).lines().count(), 2);
    assert!(arp_seq_show(of(left)).contains("10.0.0.2 "));
    assert!(arp_seq_show(of(right)).contains("10.0.0.1 "));
    assert_eq!(arp_seq_show(&one.machine).lines().count(), 1, "its heading");
    sys_close(&mut one.cx, first).expect("open");
    one.end([l, r])
}

/// A stream between two tasks: what one writes the other reads.
fn streams(one: &mut One, (l, r): (&mut TaskCx, &mut TaskCx), bytes: usize) -> i32 {
    let listener = listener_at(r, RIGHT, 80, 1);
    let client = sys_socket(l, AF_INET, SOCK_STREAM, 0).expect("a socket");
    let to = addr(RIGHT, 80);
    assert_eq!(one.run(l, sys_connect(client, &to)), Ok(()));
    let (server, _) = one.run(r, sys_accept4(listener, 0)).expect("it came");
    let data: Vec<u8> = (0..bytes).map(|n| (n * 7 / 3) as u8).collect();
    let mut got = Vec::new();
    for part in data.chunks(20_000) {
        assert_eq!(one.run(l, sys_write(client, part)), Ok(part.len()));
        while got.len() < data.len().min(got.len() + part.len()) {
            let mut buf = vec![0; 65_536];
            let len = one.run(r, sys_read(server, &mut buf)).expect("more");
            got.extend_from_slice(&buf[..len]);
            if got.len() % 20_000 == 0 {
                break;
            }
        }
    }
    assert!(got == data, "as it was written");
    sys_close(r, listener).expect("open");
    sys_close(r, server).expect("open");
    client
}

stepped!(a_stream_goes_between_namespaces_in_large_segments);
fn a_stream_goes_between_namespaces_in_large_segments() -> Digest {
    let mut one = One::new(902, 2);
    let [left, right] = one.two();
    let (mut l, mut r) = (one.task(left, 0), one.task(right, 1));
    let client = streams(&mut one, (&mut l, &mut r), 400_000);
    let out = NetView::new(&one.machine, left).expect("there").mib().get(IpMib::OutRequests);
    assert!(out < 200, "{out} packets for 400,000 octets: veth takes large ones");
    sys_close(&mut l, client).expect("open");
    one.world.run_for(Duration::from_secs(120));
    one.end([l, r])
}

stepped!(a_namespace_routes_between_others_if_it_is_told_to);
fn a_namespace_routes_between_others_if_it_is_told_to() -> Digest {
    const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 9);
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    let mut one = One::new(903, 1);
    let [left, router, right] = [(); 3].map(|()| copy_net_ns(&mut one.cx).expect("room"));
    one.joined([(left, "eth0", LEFT), (router, "eth0", NEAR)]);
    one.joined([(router, "eth1", FAR), (right, "eth0", THERE)]);
    let (mut l, mut r) = (one.task(left, 0), one.task(right, 0));
    let via = |gateway: Ipv4Addr| FibInfo { gateway: gateway.into(), ..FibInfo::default() };
    fib_new_route(&mut l, 0, 0, via(NEAR)).expect("a default route");
    fib_new_route(&mut r, 0, 0, via(FAR)).expect("a default route");
    let (from, to) = (udp(&mut l, LEFT, 4000), udp(&mut r, THERE, 7));
    one.send(&mut l, from, b"too early", addr(THERE, 7));
    one.world.settle();
    let mut on_router = one.task(router, 0);
    sysctl_write(&mut on_router, "net.ipv4.ip_forward", "1").expect("a setting");
    one.send(&mut l, from, b"now", addr(THERE, 7));
    assert_eq!(one.recv(&mut r, to), (b"now".to_vec(), addr(LEFT, 4000).to_vec()));
    let settings = |net| sysctl_all(NetView::new(&one.machine, net).expect("there"));
    let forward = |net| {
        let (_, value) =
            settings(net).into_iter().find(|(name, _)| name == "net.ipv4.ip_forward")?;
        Some(value)
    };
    assert_eq!(forward(router).as_deref(), Some("1"));
    assert_eq!(forward(left).as_deref(), Some("0"));
    assert_eq!(forward(NetId::INIT).as_deref(), Some("0"));
    one.end([l, r, on_router])
}

stepped!(a_socket_stays_in_its_namespace_when_its_task_goes_elsewhere);
fn a_socket_stays_in_its_namespace_when_its_task_goes_elsewhere() -> Digest {
    let mut one = One::new(904, 1);
    let [left, right] = one.two();
    let (mut l, mut r) = (one.task(left, 0), one.task(right, 0));
    let server = udp(&mut r, RIGHT, 7);
    let before = udp(&mut l, LEFT, 4000);
    setns(&mut l, right).expect("there");
    let after = udp(&mut l, RIGHT, 4000);
    one.send(&mut l, before, b"from the left", addr(RIGHT, 7));
    assert_eq!(one.recv(&mut r, server).1, addr(LEFT, 4000));
    one.send(&mut l, after, b"from the right", addr(RIGHT, 7));
    // Loopback is down there: even to itself nothing goes without it.
    let mut data = [0; 32];
    let got = one.run(&mut r, sys_recvfrom(server, &mut data, MSG_DONTWAIT));
    assert_eq!(got.map(|_| ()), Err(Errno::EAGAIN));
    let lo = r.tables().net.dev_by_name("lo").cloned().expect("each has one");
    dev_open(&mut r, &lo).expect("up");
    one.send(&mut l, after, b"from the right", addr(RIGHT, 7));
    assert_eq!(one.recv(&mut r, server).1, addr(RIGHT, 4000));
    assert_eq!(one.machine.tables().net.dev_by_name("lo").map(|lo| lo.ifindex.0), Some(1));
    assert_ne!(lo.ifindex.0, 1, "no two devices have one index");
    sys_close(&mut l, before).expect("open");
    one.end([l, r])
}

stepped!(a_namespace_goes_when_nobody_is_in_it);
fn a_namespace_goes_when_nobody_is_in_it() -> Digest {
    let mut one = One::new(905, 1);
    assert_eq!(put_net(&mut one.cx, NetId::INIT), Err(Errno::EPERM));
    assert_eq!(put_net(&mut one.cx, NetId(1)), Err(Errno::ESRCH));
    let [left, right] = one.two();
    let (mut l, mut r) = (one.task(left, 0), one.task(right, 0));
    assert_eq!(put_net(&mut one.cx, left), Err(Errno::EBUSY), "a task is in it");
    let client = streams(&mut one, (&mut l, &mut r), 40_000);
    setns(&mut l, NetId::INIT).expect("there");
    assert_eq!(put_net(&mut one.cx, left), Err(Errno::EBUSY), "a socket is in it");
    sys_close(&mut l, client).expect("open");
    one.world.settle();
    // What is left is a connection in TIME_WAIT, an ARP entry, a device and its timers.
    assert_eq!(put_net(&mut one.cx, left), Ok(()));
    assert_eq!(put_net(&mut one.cx, left), Err(Errno::ESRCH));
    assert!(NetView::new(&one.machine, left).is_none());
    assert!(r.tables().net.dev_by_name("eth0").is_none(), "its peer went along");
    assert_eq!(setns(&mut l, left), Err(Errno::ESRCH));
    // Its number is free again, and nothing of it is found there.
    let again = sys_unshare(&mut l).expect("room");
    assert_eq!(again, left);
    assert_eq!(one.mib(again, UdpMib::OutDatagrams), 0);
    assert_eq!(arp_seq_show(NetView::new(&one.machine, again).expect("there")).lines().count(), 1);
    one.world.run_for(Duration::from_secs(120));
    one.end([l, r])
}

stepped!(namespaces_are_bounded_and_leave_nothing);
fn namespaces_are_bounded_and_leave_nothing() -> Digest {
    let mut one = One::new(906, 1);
    let mut made = Vec::new();
    let last = loop {
        match copy_net_ns(&mut one.cx) {
            Ok(net) => made.push(net),
            Err(errno) => break errno,
        }
    };
    assert_eq!((last, made.len()), (Errno::ENOSPC, NETS_MAX - 1));
    for net in made {
        assert_eq!(put_net(&mut one.cx, net), Ok(()));
    }
    let timers = one.machine.timers();
    for _ in 0..50 {
        let [left, right] = one.two();
        let (mut l, mut r) = (one.task(left, 0), one.task(right, 0));
        let (from, to) = (udp(&mut l, LEFT, 4000), udp(&mut r, RIGHT, 7));
        one.send(&mut l, from, b"hello", addr(RIGHT, 7));
        one.recv(&mut r, to);
        // And one that waits for an address that nobody has.
        one.send(&mut l, from, b"hello", addr(Ipv4Addr::new(10, 0, 0, 77), 7));
        for mut cx in [l, r] {
            exit_files(&mut cx);
        }
        assert_eq!(put_net(&mut one.cx, left), Ok(()));
        assert_eq!(put_net(&mut one.cx, right), Ok(()));
    }
    one.world.run_for(Duration::from_secs(120));
    assert_eq!(one.machine.timers(), timers);
    one.end([])
}

stepped!(a_device_moves_to_a_namespace_and_returns);
fn a_device_moves_to_a_namespace_and_returns() -> Digest {
    let mut pair = Pair::new(907);
    let mut ends = pair.ends();
    let net = copy_net_ns(&mut ends.b).expect("room");
    let eth0 = ends.b.tables().net.dev_by_name("eth0").cloned().expect("there");
    let lo = ends.b.tables().net.dev_by_name("lo").cloned().expect("there");
    assert_eq!(dev_change_net_namespace(&mut ends.b, &lo, net), Err(Errno::EINVAL));
    assert_eq!(dev_change_net_namespace(&mut ends.b, &eth0, NetId(9)), Err(Errno::ESRCH));
    pair.world.watch(None);
    ends.b.enter_call();
    assert_eq!(dev_change_net_namespace(&mut ends.b, &eth0, net), Ok(()));
    golden::check(&pair.world, "device-to-netns");
    assert!(ends.b.tables().net.dev_by_name("eth0").is_none());
    assert!(!eth0.up(), "down, and without its address");
    let mut inside = pair.on_b();
    setns(&mut inside, net).expect("there");
    inet_insert_ifa(&mut inside, &eth0, IfAddr::new(B, 24).expect("one")).expect("it had none");
    dev_open(&mut ends.b, &eth0).expect("up, by a task elsewhere");
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut inside, B, 7));
    crate::util::send(&mut pair, &mut ends.a, client, b"hello", addr(B, 7));
    assert_eq!(
        crate::util::recv(&mut pair, &mut inside, server).map(|(data, _)| data).as_deref(),
        Ok(&b"hello"[..])
    );
    crate::util::send(&mut pair, &mut inside, server, b"back", addr(A, 4000));
    assert_eq!(
        crate::util::recv(&mut pair, &mut ends.a, client).map(|(data, _)| data).as_deref(),
        Ok(&b"back"[..])
    );
    exit_files(&mut inside);
    drop(inside);
    assert_eq!(put_net(&mut ends.b, net), Ok(()));
    let back = ends.b.tables().net.dev_by_name("eth0").cloned().expect("hardware returns");
    assert!(Arc::ptr_eq(&back, &eth0) && !back.up());
    for cx in [&mut ends.a, &mut ends.b] {
        exit_files(cx);
    }
    drop(ends);
    pair.world.run_for(Duration::from_secs(1));
    pair.end()
}

stepped!(a_pair_carries_what_both_ends_take);
fn a_pair_carries_what_both_ends_take() -> Digest {
    let mut one = One::new(908, 1);
    let nets = [(); 2].map(|()| copy_net_ns(&mut one.cx).expect("room"));
    let devs = one.joined([(nets[0], "veth%d", LEFT), (nets[1], "veth%d", RIGHT)]);
    assert_eq!([&devs[0], &devs[1]].map(|dev| &*dev.name), ["veth0", "veth0"]);
    let gone = VethEnd { net: NetId(9), name: "x" };
    let there = VethEnd { net: nets[0], name: "y" };
    assert_eq!(veth_newlink(&mut one.cx, [there, gone]).map(|_| ()), Err(Errno::ESRCH));
    for name in ["", "..", "a/b", "a b", "a:b", "sixteen-or-more."] {
        let bad = VethEnd { net: nets[1], name };
        let made = veth_newlink(&mut one.cx, [there, bad]).map(|_| ());
        assert_eq!(made, Err(Errno::EINVAL), "{name:?}");
    }
    let taken = VethEnd { net: nets[1], name: "veth0" };
    assert_eq!(veth_newlink(&mut one.cx, [there, taken]).map(|_| ()), Err(Errno::EEXIST));
    let (mut l, mut r) = (one.task(nets[0], 0), one.task(nets[1], 0));
    assert!(l.tables().net.dev_by_name("y").is_none(), "neither or both");
    let (from, to) = (udp(&mut l, LEFT, 4000), udp(&mut r, RIGHT, 7));
    // The sender's side is wider than the other: what is too long is lost.
    dev_set_mtu(&mut one.cx, &devs[0], 9_000).expect("wider");
    one.send(&mut l, from, &[1; 1_600], addr(RIGHT, 7));
    one.send(&mut l, from, &[2; 1_400], addr(RIGHT, 7));
    assert_eq!(one.recv(&mut r, to).0, [2; 1_400]);
    assert_eq!(devs[0].ops.ndo_get_stats64().tx_dropped, 1);
    assert_eq!(devs[1].ops.ndo_get_stats64().rx_packets, devs[0].ops.ndo_get_stats64().tx_packets);
    // One end down takes the link from the other.
    assert!(devs[0].carrier() && devs[1].carrier());
    dev_close(&mut one.cx, &devs[1]);
    assert!(!devs[0].carrier());
    dev_open(&mut one.cx, &devs[1]).expect("up again");
    assert!(devs[0].carrier() && devs[1].carrier());
    one.end([l, r])
}

stepped!(a_cpu_takes_no_socket_of_another_namespace_for_this_ones);
fn a_cpu_takes_no_socket_of_another_namespace_for_this_ones() -> Digest {
    let mut one = One::new(909, 1);
    let mut tasks = Vec::new();
    // Each has one socket of the same port, on a device of the same index, after the same number of changes.
    for _ in 0..3 {
        let net = sys_unshare(&mut one.cx).expect("room");
        let mut cx = one.task(net, 0);
        let lo = cx.tables().net.dev_by_name("lo").cloned().expect("each has one");
        dev_open(&mut cx, &lo).expect("up");
        let fd = udp(&mut cx, Ipv4Addr::LOCALHOST, 7);
        one.send(&mut cx, fd, &net.0.to_be_bytes(), addr(Ipv4Addr::LOCALHOST, 7));
        assert_eq!(one.recv(&mut cx, fd).0, net.0.to_be_bytes());
        setns(&mut one.cx, NetId::INIT).expect("there");
        if net.0 == 1 {
            exit_files(&mut cx);
            drop(cx);
            assert_eq!(put_net(&mut one.cx, net), Ok(()));
        } else {
            tasks.push(cx);
        }
    }
    one.end(tasks)
}

stepped!(what_is_changed_in_a_namespace_that_is_gone_is_changed_nowhere);
fn what_is_changed_in_a_namespace_that_is_gone_is_changed_nowhere() -> Digest {
    let mut one = One::new(910, 1);
    let [left, right] = one.two();
    let mut l = one.task(left, 0);
    let eth0 = l.tables().net.dev_by_name("eth0").cloned().expect("there");
    let fd = udp(&mut l, LEFT, 4000);
    one.send(&mut l, fd, b"hello", addr(RIGHT, 7));
    one.world.settle();
    // A task that does something there keeps it.
    let busy = one.cx.with_net(right, |cx| put_net(cx, right));
    assert_eq!(busy, Ok(Err(Errno::EBUSY)));
    assert_eq!(put_net(&mut one.cx, right), Ok(()));
    assert!(l.tables().net.dev_by_name("eth0").is_none(), "its peer went along");
    let before = one.machine.tables().net.devs.len();
    let added = inet_insert_ifa(&mut l, &eth0, IfAddr::new(LEFT, 24).expect("one"));
    assert!(added.is_err(), "it is in no namespace: {added:?}");
    assert_eq!(one.cx.with_net(right, |_| ()), Err(Errno::ESRCH));
    assert_eq!(dev_change_net_namespace(&mut one.cx, &eth0, right), Err(Errno::ESRCH));
    assert_eq!(dev_change_net_namespace(&mut one.cx, &eth0, left), Err(Errno::ENODEV));
    assert_eq!(one.machine.tables().net.devs.len(), before);
    one.end([l])
}
