//! The statements that this project began with, each a test.

use crate::golden::{self, assert_order, drops};
use crate::testdev::{TestDev, frame, ran_on};
use crate::util::{A, B, Pair, addr, connect, recv, send, udp};
use sim::clock::Costs;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::softirq::Softirq;
use stack::kernel::trace::Record;
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::net::core::dev::{NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack};
use stack::net::core::skbuff::{Skb, consume_skb};
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::UdpMib;

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn one(cpus: u8) -> (World, Arc<Machine>) {
    let mut world = World::recorded(7);
    let machine = world.machine(&MachineSpec { cpus, ..MachineSpec::default() });
    (world, machine)
}

fn datagram(port: u16, data: &[u8]) -> Vec<u8> {
    let ip = frame::udp((frame::PEER, 5000), (LOCAL, port), data);
    frame::ether(TestDev::MAC, 0x0800, &ip)
}

stepped!(a_softirq_runs_on_the_cpu_of_its_interrupt);
fn a_softirq_runs_on_the_cpu_of_its_interrupt() -> Digest {
    let (mut world, machine) = one(4);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    world.settle();
    for cpu in [2, 0, 3] {
        let before = ran_on(&machine, Softirq::NetRx as usize);
        dev.irq_affinity(cpu);
        world.watch(None);
        dev.deliver([datagram(9, b"x")]);
        world.settle();
        let walk = world.take_walk();
        assert!(walk.iter().all(|(_, r)| r.cpu == cpu), "{}", golden::render(&walk));
        assert_order(&walk, &[Point::irq_enter, Point::__do_softirq, Point::net_rx_action]);
        assert!(!before.contains(&cpu));
    }
    assert_eq!(ran_on(&machine, Softirq::NetRx as usize), [0, 2, 3]);
    dev.irq_affinity(1);
    dev.deliver([datagram(9, b"x")]);
    world.settle();
    golden::check(&world, "softirq-on-its-cpu");
    drop(cx);
    // The answers (port unreachable) wait for a peer that never answers ARP.
    world.run_for(Duration::from_secs(10));
    world.end()
}

stepped!(n_cpus_have_n_ksoftirqd);
fn n_cpus_have_n_ksoftirqd() -> Digest {
    [1, 3, 7].into_iter().map(ksoftirqd_on_each_of).collect()
}

fn ksoftirqd_on_each_of(cpus: u8) -> Digest {
    let (mut world, machine) = one(cpus);
    let names: Vec<String> = machine.threads().into_iter().flatten().collect();
    let wanted: Vec<String> = (0..cpus).map(|cpu| format!("ksoftirqd/{cpu}")).collect();
    assert_eq!(names, wanted);
    let stages: Vec<Point> = machine.boot_stages().iter().map(|(_, point)| *point).collect();
    // Each runs on its CPU: the interrupts there bring more than a softirq may do at a time.
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    world.clock().set_costs(Costs { call_ns: 0, poll_ns: 1_500_000 });
    let mut walk = Vec::new();
    for cpu in 0..cpus {
        dev.irq_affinity(cpu);
        world.watch(pcap_filter::compile("port 1").ok());
        dev.deliver((0..200).map(|_| datagram(9, b"x")));
        world.settle();
        let seen = world.take_walk();
        let woken = [Point::wakeup_softirqd, Point::run_ksoftirqd, Point::__do_softirq];
        assert_order(&seen, &woken);
        assert!(seen.iter().all(|(_, r)| r.cpu == cpu), "{}", golden::render(&seen));
        // What the stack does with the packets is of other walks.
        let of_ksoftirqd = |r: &Record| r.point.file() == "kernel/softirq.c";
        walk.extend(seen.into_iter().filter(|(_, r)| of_ksoftirqd(r)));
    }
    assert_eq!(machine.ksoftirqd_wakeups(), vec![1; usize::from(cpus)]);
    if cpus == 3 {
        let boot = stages.iter().map(|point| format!("boot {}\n", point.name()));
        let threads = names.iter().map(|name| format!("thread {name}\n"));
        let text: String = boot.chain(threads).collect();
        golden::check_text(&(text + &golden::render(&walk)), "n-ksoftirqd");
    }
    drop(cx);
    world.run_for(Duration::from_secs(10));
    world.end()
}

stepped!(the_tenth_restart_wakes_ksoftirqd);
fn the_tenth_restart_wakes_ksoftirqd() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    // So cheap that neither two jiffies nor 2 ms pass in ten rounds of 300 packets.
    world.clock().set_costs(Costs { call_ns: 0, poll_ns: 0 });
    *dev.endless.lock().expect("free") = Some(datagram(9, b"x"));
    world.watch(pcap_filter::compile("port 1").ok());
    dev.interrupt();
    let next = machine.run_cpu(CpuId(0));
    assert!(next.ksoftirqd, "it was woken");
    assert!(!next.pending, "what is left is ksoftirqd's alone");
    assert_eq!(machine.ksoftirqd_wakeups(), [1]);
    let runs = machine.softirq_runs()[0][Softirq::NetRx as usize];
    assert_eq!(runs, 10, "the first run and nine restarts; the tenth goes to ksoftirqd");
    // 300 packets a run: five polls of 64 pass the budget.
    assert_eq!(machine.softnet_stat()[0].processed, 10 * 5 * 64);
    *dev.endless.lock().expect("free") = None;
    world.settle();
    golden::check(&world, "tenth-restart");
    world.run_for(Duration::from_secs(10));
    world.end()
}

stepped!(the_budget_ends_net_rx_action_with_a_squeeze);
fn the_budget_ends_net_rx_action_with_a_squeeze() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    world.clock().set_costs(Costs { call_ns: 0, poll_ns: 0 });
    world.watch(pcap_filter::compile("port 1").ok());
    dev.deliver((0..400).map(|_| datagram(9, b"x")));
    world.settle();
    assert_eq!(machine.softnet_stat()[0].time_squeeze, 1);
    assert_eq!(machine.softnet_stat()[0].processed, 400);
    golden::check(&world, "netdev-budget");
    drop(cx);
    world.run_for(Duration::from_secs(10));
    world.end()
}

stepped!(two_jiffies_end_net_rx_action_with_a_squeeze);
fn two_jiffies_end_net_rx_action_with_a_squeeze() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    // Each poll takes 1.5 ms: the second ends past two jiffies, 128 packets short of the budget.
    world.clock().set_costs(Costs { call_ns: 0, poll_ns: 1_500_000 });
    world.watch(pcap_filter::compile("port 1").ok());
    dev.deliver((0..200).map(|_| datagram(9, b"x")));
    machine.run_cpu(CpuId(0));
    assert_eq!(machine.softnet_stat()[0].processed, 128);
    assert_eq!(machine.softnet_stat()[0].time_squeeze, 1);
    assert_eq!(machine.ksoftirqd_wakeups(), [1], "past 2 ms the rest is ksoftirqd's");
    world.settle();
    assert_eq!(machine.softnet_stat()[0].processed, 200);
    golden::check(&world, "two-jiffies");
    world.run_for(Duration::from_secs(10));
    world.end()
}

stepped!(an_interrupt_during_a_poll_sets_missed_and_the_napi_runs_again);
fn an_interrupt_during_a_poll_sets_missed_and_the_napi_runs_again() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    dev.irq_in_poll.store(true, std::sync::atomic::Ordering::Relaxed);
    world.watch(None);
    dev.deliver([datagram(9, b"x")]);
    world.settle();
    assert_eq!(dev.polls.load(std::sync::atomic::Ordering::Relaxed), 2);
    golden::check(&world, "napi-missed");
    drop(cx);
    world.run_for(Duration::from_secs(10));
    world.end()
}

struct Tap(Mutex<Vec<(u16, usize)>>);

impl PacketTap for Tap {
    fn packet_rcv(&self, cx: &mut stack::kernel::context::BhCx<'_>, skb: Skb, _: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        self.0.lock().expect("free").push((skb.protocol, skb.len()));
        consume_skb(cx, skb);
    }
}

stepped!(a_tap_sees_the_packet_before_ip_does);
fn a_tap_sees_the_packet_before_ip_does() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    let tap = Arc::new(Tap(Mutex::default()));
    let func = PacketFunc::Tap(Arc::clone(&tap) as Arc<dyn PacketTap>);
    dev_add_pack(&mut cx, PacketType { kind: uapi::if_ether::ETH_P_ALL, dev: None, func });
    let socket = udp(&mut cx, LOCAL, 9);
    world.watch(None);
    dev.deliver([datagram(9, b"seen twice")]);
    world.settle();
    let walk = world.take_walk();
    assert_order(&walk, &[Point::packet_rcv, Point::ip_rcv, Point::sock_queue_rcv_skb]);
    assert_eq!(*tap.0.lock().expect("free"), [(0x0800, 38)]);
    let mut data = [0; 64];
    let mut op = sys_recvfrom(socket, &mut data, 0);
    let received = world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("at once");
    drop(op);
    assert_eq!(received.map(|(len, _)| len), Ok(10));
    assert_eq!(&data[..10], b"seen twice", "the clone's end took nothing from the packet");
    dev.deliver([datagram(9, b"seen twice")]);
    world.settle();
    golden::check(&world, "tap-before-ip");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

stepped!(a_datagram_for_an_owned_socket_takes_the_backlog);
fn a_datagram_for_an_owned_socket_takes_the_backlog() -> Digest {
    let mut pair = Pair::new(3);
    let (mut on_a, mut on_b) = (pair.on_a(), pair.on_b());
    let client = udp(&mut on_a, A, 4000);
    let server = udp(&mut on_b, B, 7);
    // The way is known, so that the walk is the datagram's alone.
    send(&mut pair, &mut on_a, client, b"first", addr(B, 7));
    recv(&mut pair, &mut on_b, server).expect("the first");
    let sk = pair.b.net().udp_table.dump().remove(0);
    pair.world.watch(None);
    {
        on_b.enter_call();
        let guard = sk.lock_sock(&mut on_b);
        send(&mut pair, &mut on_a, client, b"second", addr(B, 7));
        pair.world.settle();
        assert_eq!(guard.state().receive_queue.len(), 0, "it waits in the backlog");
    }
    assert_eq!(sk.state().receive_queue.len(), 1, "release_sock brought it out");
    let (data, _) = recv(&mut pair, &mut on_b, server).expect("the second");
    assert_eq!(data, b"second");
    golden::check(&pair.world, "udp-backlog");
    drop(sk);
    exit_files(&mut on_a);
    exit_files(&mut on_b);
    drop((on_a, on_b));
    pair.end()
}

stepped!(a_full_receive_queue_drops);
fn a_full_receive_queue_drops() -> Digest {
    let mut pair = Pair::new(4);
    let (mut on_a, mut on_b) = (pair.on_a(), pair.on_b());
    let client = udp(&mut on_a, A, 4000);
    let server = udp(&mut on_b, B, 7);
    let small = 2304_i32.to_ne_bytes();
    let (level, name) = (uapi::socket::SOL_SOCKET, uapi::socket::SO_RCVBUF);
    stack::net::socket::sys_setsockopt(&mut on_b, server, level, name, &small).expect("set");
    pair.world.watch(pcap_filter::compile("port 7").ok());
    for _ in 0..5 {
        send(&mut pair, &mut on_a, client, &[0; 600], addr(B, 7));
        pair.world.settle();
    }
    let mib = pair.b.mib();
    let (queued, errors) = (3, 2);
    assert_eq!(mib.get(UdpMib::RcvbufErrors), errors);
    assert_eq!(mib.get(UdpMib::InErrors), errors);
    assert_eq!(mib.drops(DropReason::SocketRcvbuff), errors);
    for _ in 0..queued {
        recv(&mut pair, &mut on_b, server).expect("queued");
    }
    // Room again: the next one is taken.
    send(&mut pair, &mut on_a, client, b"room", addr(B, 7));
    assert_eq!(recv(&mut pair, &mut on_b, server).expect("taken").0, b"room");
    golden::check(&pair.world, "rcvbuf-full");
    exit_files(&mut on_a);
    exit_files(&mut on_b);
    drop((on_a, on_b));
    pair.end()
}

stepped!(nobody_listening_sends_port_unreachable);
fn nobody_listening_sends_port_unreachable() -> Digest {
    let mut pair = Pair::new(5);
    let mut on_a = pair.on_a();
    let client = udp(&mut on_a, A, 4000);
    connect(&mut on_a, client, &addr(B, 9)).expect("connected");
    pair.world.watch(None);
    let sent = pair.run(&mut on_a, sys_sendto(client, b"anybody?", 0, None));
    assert_eq!(sent, Ok(8));
    let got = recv(&mut pair, &mut on_a, client).map(|_| ());
    assert_eq!(got, Err(Errno::ECONNREFUSED));
    assert_eq!(pair.b.mib().get(UdpMib::NoPorts), 1);
    golden::check(&pair.world, "port-unreachable");
    exit_files(&mut on_a);
    drop(on_a);
    pair.end()
}

stepped!(an_exhausted_quota_goes_on_by_net_tx_action);
fn an_exhausted_quota_goes_on_by_net_tx_action() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 1000);
    resolve_peer(&mut world, &mut cx, &dev);
    let socket = udp(&mut cx, LOCAL, 4000);
    // A closed queue lets the qdisc fill; opening it runs 80 packets against a quota of 64.
    dev.dev().netif_stop_subqueue(0);
    for _ in 0..80 {
        let to = addr(frame::PEER, 9);
        let mut op = sys_sendto(socket, b"queued", 0, Some(&to));
        world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("queued").expect("sent");
    }
    assert_eq!(dev.sent().len(), 0);
    world.watch(pcap_filter::compile("port 1").ok());
    cx.enter_call();
    cx.local_bh_disable(|bh| dev.dev().netif_wake_subqueue(bh, 0));
    world.settle();
    assert_eq!(dev.sent().len(), 80);
    let walk = world.take_walk();
    assert_order(
        &walk,
        &[
            Point::__netif_schedule,
            Point::__netif_reschedule,
            Point::net_tx_action,
            Point::__qdisc_run,
            Point::__netif_schedule,
            Point::__netif_reschedule,
            Point::net_tx_action,
            Point::__qdisc_run,
        ],
    );
    // Eighty packets pass alike: the walk is that of the runs.
    let a_packets = [Point::qdisc_restart, Point::dequeue_skb];
    let stations =
        walk.iter().filter(|(_, r)| !golden::is_packet(r) && !a_packets.contains(&r.point));
    golden::check_walk(&stations.copied().collect::<Vec<_>>(), "qdisc-quota");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

/// The peer's address is known, so that nothing waits for it.
fn resolve_peer(world: &mut World, cx: &mut stack::kernel::context::TaskCx, dev: &TestDev) {
    use stack::net::core::neighbour::{NeighKey, neigh_add};
    let key = NeighKey { dev: dev.dev().ifindex, addr: frame::PEER.into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(cx, key, frame::PEER_MAC, state).expect("room for one");
    world.settle();
}

stepped!(a_busy_driver_requeues);
fn a_busy_driver_requeues() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    resolve_peer(&mut world, &mut cx, &dev);
    let socket = udp(&mut cx, LOCAL, 4000);
    dev.busy.store(2, std::sync::atomic::Ordering::Relaxed);
    world.watch(None);
    let to = addr(frame::PEER, 9);
    let mut op = sys_sendto(socket, b"twice", 0, Some(&to));
    world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("queued").expect("sent");
    drop(op);
    world.settle();
    assert_eq!(dev.sent().len(), 1);
    assert_eq!(dev.dev().tx_queues[0].qdisc().requeues(), 2);
    golden::check(&world, "busy-driver");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

stepped!(loopback_has_no_queue);
fn loopback_has_no_queue() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let lo = Arc::clone(machine.tables().net.dev_by_name("lo").expect("booted with one"));
    assert_eq!(lo.tx_queues[0].qdisc().id(), "noqueue");
    let socket = udp(&mut cx, Ipv4Addr::LOCALHOST, 7);
    world.watch(None);
    let to = addr(Ipv4Addr::LOCALHOST, 7);
    let mut op = sys_sendto(socket, b"to myself", 0, Some(&to));
    world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("at once").expect("sent");
    drop(op);
    let mut data = [0; 64];
    let mut op = sys_recvfrom(socket, &mut data, 0);
    let got = world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("at once");
    drop(op);
    assert_eq!(got.map(|(len, _)| len), Ok(9));
    golden::check(&world, "loopback");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

stepped!(an_unresolved_neighbour_queues_asks_and_sends_on_the_answer);
fn an_unresolved_neighbour_queues_asks_and_sends_on_the_answer() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    let socket = udp(&mut cx, LOCAL, 4000);
    world.watch(None);
    for data in [&b"one"[..], b"two"] {
        let to = addr(frame::PEER, 9);
        let mut op = sys_sendto(socket, data, 0, Some(&to));
        world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("at once").expect("sent");
    }
    let sent = dev.sent();
    assert_eq!(sent.len(), 1, "one question for both");
    assert_eq!(sent[0][..6], [0xff; 6]);
    assert_eq!(sent[0][12..14], [0x08, 0x06]);
    let answer = frame::arp(2, frame::PEER, LOCAL, TestDev::MAC);
    dev.deliver([frame::ether(TestDev::MAC, 0x0806, &answer)]);
    world.settle();
    let sent = dev.sent();
    assert_eq!(sent.len(), 2, "both went when the answer came");
    assert!(sent.iter().all(|frame| frame[..6] == frame::PEER_MAC));
    assert_eq!((&sent[0][42..], &sent[1][42..]), (&b"one"[..], &b"two"[..]), "in order");
    golden::check(&world, "neighbour-resolution");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

stepped!(a_panic_in_a_poll_is_contained);
fn a_panic_in_a_poll_is_contained() -> Digest {
    let (mut world, machine) = one(1);
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    let socket = udp(&mut cx, LOCAL, 9);
    dev.panic_in_poll.store(true, std::sync::atomic::Ordering::Relaxed);
    dev.deliver([datagram(9, b"survives")]);
    world.settle();
    assert_eq!(machine.contained_panics(), 1);
    let mut data = [0; 64];
    let mut op = sys_recvfrom(socket, &mut data, 0);
    let got = world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("delivered");
    drop(op);
    assert_eq!(got.map(|(len, _)| len), Ok(8), "the NAPI was polled again");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

#[test]
/// Loss, delay, duplicates, damage: the same seed gives the same walk, another seed another one.
fn the_same_seed_gives_the_same_walk() {
    let run = |seed| {
        let weather = sim::Impairment {
            delay: Duration::from_millis(3),
            jitter: Duration::from_millis(2),
            loss: 0.1,
            duplicate: 0.1,
            reorder: 0.1,
            corrupt: 0.1,
            losses: None,
            bottleneck: None,
            fates: &[],
        };
        let mut pair = Pair::with(seed, LinkSpec::Impaired(weather), 2);
        pair.world.watch(None);
        let (mut on_a, mut on_b) = (pair.on_a(), pair.on_b());
        let client = udp(&mut on_a, A, 4000);
        let server = udp(&mut on_b, B, 7);
        for n in 0..50_u8 {
            send(&mut pair, &mut on_a, client, &[n; 200], addr(B, 7));
            pair.world.run_for(Duration::from_millis(1));
        }
        pair.world.run_for(Duration::from_secs(10));
        let walk = pair.world.take_walk();
        assert!(drops(&walk, DropReason::NotSpecified) == 0);
        let _ = server;
        exit_files(&mut on_a);
        exit_files(&mut on_b);
        drop((on_a, on_b));
        pair.end()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

stepped!(a_machine_goes_away_with_packets_under_way);
fn a_machine_goes_away_with_packets_under_way() -> Digest {
    let mut world = World::recorded(9);
    let machine = world.machine(&MachineSpec::default());
    let mut cx = world.task_cx(&machine, CpuId(0));
    let _dev = TestDev::add(&mut cx, LOCAL, 100);
    let socket = udp(&mut cx, LOCAL, 4000);
    // In a neighbour's queue, in a socket's, and on the way through loopback.
    for to in [addr(frame::PEER, 9), addr(LOCAL, 4000)] {
        let mut op = sys_sendto(socket, b"left", 0, Some(&to));
        world.block_on(&mut cx, &mut op, Duration::from_millis(1)).expect("at once").expect("sent");
    }
    assert!(machine.live_skbs() >= 2);
    drop((cx, machine));
    world.abandon()
}
