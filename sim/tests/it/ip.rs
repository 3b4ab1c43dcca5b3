//! Routing, forwarding, hooks, and what is known of neighbours.

use crate::golden::{self, assert_order};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, connect, recv, send, udp};
use sim::{Digest, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::skbuff::Skb;
use stack::net::ipv4::devinet::{IfAddr, inet_del_ifa, inet_insert_ifa, update_devconf};
use stack::net::ipv4::fib::{FibInfo, fib_del_route, fib_new_route};
use stack::net::netfilter::{
    NfHook, NfHookState, NfInetHook, Verdict, nf_register_hook, nf_unregister_hook,
};
use stack::net::socket::{sys_getsockname, sys_sendto};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::snmp::{IcmpMib, IpMib};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A host behind the router, and the router's address there.
pub const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub const FAR_LOCAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 7, 7];

/// A router between 192.0.2.0/24 and 198.51.100.0/24.
pub struct Router {
    pub world: World,
    pub machine: Arc<Machine>,
    pub cx: TaskCx,
    pub near: Arc<TestDev>,
    pub far: Arc<TestDev>,
}

impl Router {
    pub fn new() -> Self {
        let mut world = World::recorded(5);
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let near = TestDev::add(&mut cx, LOCAL, 100);
        let far = TestDev::add(&mut cx, FAR_LOCAL, 100);
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        for (dev, ip, mac) in [(&near, frame::PEER, frame::PEER_MAC), (&far, FAR, FAR_MAC)] {
            let id = dev.dev().ifindex;
            update_devconf(&mut cx, id, |cnf| cnf.forwarding = true).expect("there");
            let key = NeighKey { dev: id, addr: ip.into() };
            neigh_add(&mut cx, key, mac, state).expect("room");
        }
        Self { world, machine, cx, near, far }
    }

    pub fn forward(&mut self, packet: &[u8]) {
        self.near.deliver([frame::ether(TestDev::MAC, 0x0800, packet)]);
        self.world.settle();
    }
}

stepped!(a_router_takes_one_from_the_time_to_live);
fn a_router_takes_one_from_the_time_to_live() -> Digest {
    let mut router = Router::new();
    let packet = frame::udp((frame::PEER, 5000), (FAR, 7), b"through");
    router.world.watch(None);
    router.forward(&packet);
    let sent = router.far.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][..6], FAR_MAC);
    assert_eq!(sent[0][14 + 8], 63, "one less");
    assert_eq!(klib::checksum::ip_fast_csum(&sent[0][14..34]), 0, "and summed anew");
    assert_eq!(sent[0][34..], packet[20..], "nothing else changed");
    golden::check(&router.world, "forward");
    let mib = router.machine.mib();
    assert_eq!(mib.get(IpMib::ForwDatagrams), 1);
    assert_eq!(mib.get(IpMib::OutRequests), 0, "this machine asked for nothing to be sent");
    drop(router.cx);
    router.world.end()
}

stepped!(a_router_tells_the_sender_what_did_not_get_through);
fn a_router_tells_the_sender_what_did_not_get_through() -> Digest {
    let mut router = Router::new();
    let error = |frames: Vec<Vec<u8>>| {
        assert_eq!(frames.len(), 1, "one error");
        let icmp = frames[0][34..].to_vec();
        assert_eq!(frames[0][26..30], LOCAL.octets(), "from the router");
        (icmp[0], icmp[1], u16::from_be_bytes([icmp[6], icmp[7]]))
    };
    let mut old = frame::udp((frame::PEER, 5000), (FAR, 7), b"");
    old[8] = 1;
    old[10..12].fill(0);
    let check = klib::checksum::ip_fast_csum(&old[..20]);
    old[10..12].copy_from_slice(&check.to_be_bytes());
    router.forward(&old);
    assert_eq!(error(router.near.sent()), (11, 0, 0), "time exceeded");
    router.world.run_for(Duration::from_secs(2));
    let nowhere = frame::udp((frame::PEER, 5000), (Ipv4Addr::new(203, 0, 113, 1), 7), b"");
    router.forward(&nowhere);
    assert_eq!(error(router.near.sent()), (3, 0, 0), "network unreachable");
    router.world.run_for(Duration::from_secs(2));
    let dev = router.far.dev();
    stack::net::core::dev::device::dev_set_mtu(&mut router.cx, &dev, 600).expect("allowed");
    let mut big = frame::udp((frame::PEER, 5000), (FAR, 7), &[0; 800]);
    big[6] = 0x40;
    big[10..12].fill(0);
    let check = klib::checksum::ip_fast_csum(&big[..20]);
    big[10..12].copy_from_slice(&check.to_be_bytes());
    router.forward(&big);
    assert_eq!(error(router.near.sent()), (3, 4, 600), "fragmentation needed, and the MTU");
    assert_eq!(router.far.sent().len(), 0);
    drop(router.cx);
    router.world.end()
}

/// Notes where it was called; drops where told.
struct Probe {
    name: &'static str,
    seen: Arc<Mutex<Vec<(&'static str, NfInetHook)>>>,
    drop_at: Option<NfInetHook>,
}

impl NfHook for Probe {
    fn hook(&self, _cx: &mut BhCx<'_>, state: &NfHookState, skb: Skb) -> Verdict {
        self.seen.lock().expect("free").push((self.name, state.hook));
        if self.drop_at == Some(state.hook) { Verdict::Drop(skb) } else { Verdict::Accept(skb) }
    }
}

stepped!(hooks_run_by_priority_at_all_five_points);
fn hooks_run_by_priority_at_all_five_points() -> Digest {
    use NfInetHook::{Forward, LocalIn, LocalOut, PostRouting, PreRouting};
    let mut router = Router::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let probe = |name, drop_at| -> Arc<dyn NfHook> {
        Arc::new(Probe { name, seen: Arc::clone(&seen), drop_at })
    };
    let (late, early) = (probe("late", None), probe("early", None));
    let all = [PreRouting, LocalIn, Forward, LocalOut, PostRouting];
    for at in all {
        nf_register_hook(&mut router.cx, at, 100, Arc::clone(&late));
        nf_register_hook(&mut router.cx, at, -100, Arc::clone(&early));
    }
    let take = || std::mem::take(&mut *seen.lock().expect("free"));
    let both = |points: &[NfInetHook]| {
        points.iter().flat_map(|at| [("early", *at), ("late", *at)]).collect::<Vec<_>>()
    };
    router.forward(&frame::udp((frame::PEER, 5000), (FAR, 7), b"through"));
    assert_eq!(take(), both(&[PreRouting, Forward, PostRouting]));
    // To a closed port: in, and the error out.
    router.forward(&frame::udp((frame::PEER, 5000), (LOCAL, 99), b"in"));
    assert_eq!(take(), both(&[PreRouting, LocalIn, LocalOut, PostRouting]));
    router.near.sent();
    router.far.sent();
    let wall = probe("wall", Some(Forward));
    nf_register_hook(&mut router.cx, Forward, 0, Arc::clone(&wall));
    router.forward(&frame::udp((frame::PEER, 5000), (FAR, 7), b"stopped"));
    assert_eq!(
        take(),
        [("early", PreRouting), ("late", PreRouting), ("early", Forward), ("wall", Forward)]
    );
    assert_eq!(router.machine.mib().drops(DropReason::NetfilterDrop), 1);
    for hook in [&late, &early, &wall] {
        nf_unregister_hook(&mut router.cx, hook);
    }
    router.forward(&frame::udp((frame::PEER, 5000), (FAR, 7), b"free"));
    assert_eq!(take(), []);
    assert_eq!(router.far.sent().len(), 1);
    drop(router.cx);
    router.world.end()
}

stepped!(a_sender_hears_of_a_hook_that_drops);
fn a_sender_hears_of_a_hook_that_drops() -> Digest {
    let mut pair = Pair::new(51);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let seen = Arc::default();
    let wall: Arc<dyn NfHook> =
        Arc::new(Probe { name: "wall", seen, drop_at: Some(NfInetHook::LocalOut) });
    nf_register_hook(&mut ends.a, NfInetHook::LocalOut, 0, wall);
    let to = addr(B, 7);
    let sent = pair.run(&mut ends.a, sys_sendto(client, b"x", 0, Some(&to)));
    assert_eq!(sent, Err(Errno::EPERM), "as Linux says of LOCAL_OUT");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(routes_by_prefix_metric_and_gateway);
fn routes_by_prefix_metric_and_gateway() -> Digest {
    let mut router = Router::new();
    let cx = &mut router.cx;
    let net = |a, b, c, d| u32::from(Ipv4Addr::new(a, b, c, d));
    let via = |gateway: Ipv4Addr| FibInfo { gateway: gateway.into(), ..FibInfo::default() };
    fib_new_route(cx, 0, 0, via(FAR)).expect("a default route");
    fib_new_route(cx, net(203, 0, 113, 0), 24, via(frame::PEER)).expect("a longer one");
    assert_eq!(fib_new_route(cx, 0, 0, via(FAR)), Err(Errno::EEXIST));
    router.forward(&frame::udp((frame::PEER, 1), (Ipv4Addr::new(8, 8, 8, 8), 7), b""));
    assert_eq!(router.far.sent()[0][..6], FAR_MAC, "by the default gateway");
    let cx = &mut router.cx;
    let closed = FibInfo { kind: uapi::rtnetlink::RTN_UNREACHABLE, ..FibInfo::default() };
    fib_new_route(cx, net(8, 0, 0, 0), 8, closed).expect("a closed one");
    router.forward(&frame::udp((frame::PEER, 1), (Ipv4Addr::new(8, 8, 8, 8), 7), b""));
    assert_eq!(router.far.sent().len(), 0);
    assert_eq!(router.near.sent()[0][34..36], [3, 1], "host unreachable");
    let cx = &mut router.cx;
    fib_del_route(cx, net(8, 0, 0, 0), 8, |_| true).expect("there");
    let preferred = FibInfo { metric: 5, ..via(FAR) };
    fib_new_route(cx, net(9, 0, 0, 0), 8, FibInfo { metric: 10, ..via(frame::PEER) }).expect("new");
    fib_new_route(cx, net(9, 0, 0, 0), 8, preferred).expect("beside it");
    router.forward(&frame::udp((frame::PEER, 1), (Ipv4Addr::new(9, 9, 9, 9), 7), b""));
    assert_eq!(router.far.sent().len(), 1, "the lower metric wins");
    drop(router.cx);
    router.world.end()
}

stepped!(the_source_is_chosen_by_route_and_subnet);
fn the_source_is_chosen_by_route_and_subnet() -> Digest {
    let pair = Pair::new(52);
    let mut ends = pair.ends();
    let dev = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
    let second = Ipv4Addr::new(192, 0, 2, 50);
    inet_insert_ifa(&mut ends.a, &dev, IfAddr::new(second, 24).expect("a host")).expect("new");
    let other = Ipv4Addr::new(10, 1, 1, 1);
    inet_insert_ifa(&mut ends.a, &dev, IfAddr::new(other, 8).expect("a host")).expect("new");
    let mut source_to = |to: Ipv4Addr| {
        let fd = udp(&mut ends.a, Ipv4Addr::UNSPECIFIED, 0);
        connect(&mut ends.a, fd, &addr(to, 7)).expect("a route");
        Ipv4Addr::from(
            sys_getsockname(&mut ends.a, fd)
                .ok()
                .and_then(uapi::socket::Sockaddr::inet)
                .expect("bound")
                .addr,
        )
    };
    assert_eq!(source_to(B), A, "the first of the subnet");
    assert_eq!(source_to(Ipv4Addr::new(10, 2, 3, 4)), other);
    assert_eq!(source_to(Ipv4Addr::LOCALHOST), Ipv4Addr::LOCALHOST);
    assert_eq!(source_to(Ipv4Addr::new(127, 9, 9, 9)), Ipv4Addr::new(127, 0, 0, 1));
    assert_eq!(source_to(A), A, "to itself by loopback");
    update_devconf(&mut ends.a, dev.ifindex, |cnf| cnf.promote_secondaries = true).expect("there");
    inet_del_ifa(&mut ends.a, &dev, (A, 24)).expect("there");
    let fd = udp(&mut ends.a, Ipv4Addr::UNSPECIFIED, 0);
    connect(&mut ends.a, fd, &addr(B, 7)).expect("still a route");
    let source = sys_getsockname(&mut ends.a, fd)
        .ok()
        .and_then(uapi::socket::Sockaddr::inet)
        .expect("bound")
        .addr;
    assert_eq!(Ipv4Addr::from(source), second, "the next of the subnet");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_neighbour_is_reachable_then_stale_then_probed_then_forgotten);
/// RFC 4861 section 7.3.2, at Linux's times.
fn a_neighbour_is_reachable_then_stale_then_probed_then_forgotten() -> Digest {
    let mut world = World::recorded(8);
    let machine = world.machine(&MachineSpec::default());
    let mut cx = world.task_cx(&machine, CpuId(0));
    let dev = TestDev::add(&mut cx, LOCAL, 100);
    let socket = udp(&mut cx, LOCAL, 4000);
    let state = |machine: &Machine| {
        machine
            .net()
            .arp_tbl
            .dump()
            .iter()
            .find(|n| n.key.addr == u32::from(frame::PEER))
            .map(|n| n.state)
    };
    let mut send_one = |world: &mut World| {
        let to = addr(frame::PEER, 9);
        let mut op = sys_sendto(socket, b"x", 0, Some(&to));
        let sent = world.block_on(&mut cx, &mut op, Duration::from_millis(1));
        world.settle();
        sent
    };
    let answer = || {
        let arp = frame::arp(2, frame::PEER, LOCAL, TestDev::MAC);
        frame::ether(TestDev::MAC, 0x0806, &arp)
    };
    let is_arp = |frame: &Vec<u8>| frame[12..14] == [8, 6];
    send_one(&mut world);
    assert_eq!(state(&machine), Some("INCOMPLETE"));
    dev.sent();
    dev.deliver([answer()]);
    world.settle();
    assert_eq!(state(&machine), Some("REACHABLE"));
    world.run_for(Duration::from_secs(50));
    assert_eq!(state(&machine), Some("STALE"), "half to one and a half times 30 s");
    dev.sent();
    send_one(&mut world);
    assert_eq!(state(&machine), Some("DELAY"), "used: its answer is waited for");
    assert!(!dev.sent().iter().any(is_arp), "and nothing asked yet");
    world.run_for(Duration::from_millis(5_100));
    assert_eq!(state(&machine), Some("PROBE"));
    let asked = dev.sent();
    assert_eq!(asked.iter().filter(|f| is_arp(f)).count(), 1);
    assert_eq!(asked[0][..6], frame::PEER_MAC, "it is asked itself");
    dev.deliver([answer()]);
    world.settle();
    assert_eq!(state(&machine), Some("REACHABLE"));
    world.run_for(Duration::from_secs(50));
    send_one(&mut world);
    world.run_for(Duration::from_secs(10));
    assert_eq!(dev.sent().iter().filter(|f| is_arp(f)).count(), 3, "three unicast probes");
    assert_eq!(state(&machine), Some("FAILED"));
    // Now it is unknown: three broadcasts, then the sender hears of it.
    send_one(&mut world);
    world.run_for(Duration::from_secs(5));
    assert_eq!(dev.sent().iter().filter(|f| is_arp(f) && f[..6] == [0xff; 6]).count(), 3);
    assert_eq!(machine.mib().get(IcmpMib::InDestUnreachs), 1, "by ICMP, to itself");
    exit_files(&mut cx);
    drop(cx);
    world.end()
}

stepped!(a_connected_sender_gets_ehostunreach_for_a_silent_neighbour);
fn a_connected_sender_gets_ehostunreach_for_a_silent_neighbour() -> Digest {
    let mut pair = Pair::new(53);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let silent = Ipv4Addr::new(192, 0, 2, 99);
    connect(&mut ends.a, client, &addr(silent, 7)).expect("a route");
    let on = 1_i32.to_ne_bytes();
    let (level, name) = (uapi::socket::SOL_IP, uapi::in_::IP_RECVERR);
    stack::net::socket::sys_setsockopt(&mut ends.a, client, level, name, &on).expect("set");
    let before = pair.world.clock().peek();
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"x", 0, None)), Ok(1));
    let got = recv(&mut pair, &mut ends.a, client).map(|_| ());
    assert_eq!(got, Err(Errno::EHOSTUNREACH));
    let waited = pair.world.clock().peek() - before;
    assert!((2_990..3_100).contains(&waited.as_millis()), "three seconds: {waited:?}");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_changed_address_is_learnt_from_gratuitous_arp);
fn a_changed_address_is_learnt_from_gratuitous_arp() -> Digest {
    let mut pair = Pair::new(54);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    send(&mut pair, &mut ends.a, client, b"x", addr(B, 7));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    let dev = Arc::clone(pair.b.tables().net.dev_by_name("eth0").expect("there"));
    let moved = [2, 0, 0, 0, 0xaa, 0xbb];
    stack::net::core::dev::device::dev_set_mac_address(&mut ends.b, &dev, moved).expect("valid");
    update_devconf(&mut ends.b, dev.ifindex, |cnf| cnf.arp_notify = true).expect("there");
    stack::net::core::dev::dev_close(&mut ends.b, &dev);
    stack::net::core::dev::dev_open(&mut ends.b, &dev).expect("opens");
    pair.world.settle();
    let table = pair.a.net().arp_tbl.dump();
    let entry = table.iter().find(|n| n.key.addr == u32::from(B)).expect("known");
    assert_eq!(entry.lladdr, Some(moved));
    send(&mut pair, &mut ends.a, client, b"still here", addr(B, 7));
    assert_eq!(recv(&mut pair, &mut ends.b, server).expect("arrives").0, b"still here");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(ping_is_answered_and_timestamps_too);
fn ping_is_answered_and_timestamps_too() -> Digest {
    let mut router = Router::new();
    let ping = frame::icmp(8, 0, [0x12, 0x34, 0, 7], b"abcdefgh");
    router.world.watch(None);
    router.forward(&frame::ip(1, frame::PEER, LOCAL, &ping));
    let sent = router.near.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][34], 0, "an echo reply");
    assert_eq!(sent[0][38..], ping[4..], "with the same id, sequence and data");
    let walk = router.world.take_walk();
    assert_order(
        &walk,
        &[Point::icmp_rcv, Point::icmp_echo, Point::icmp_reply, Point::icmp_push_reply],
    );
    golden::check_walk(&walk, "icmp-echo");
    let ask = frame::icmp(13, 0, [1, 2, 3, 4], &[9; 12]);
    router.forward(&frame::ip(1, frame::PEER, LOCAL, &ask));
    let sent = router.near.sent();
    assert_eq!((sent[0][34], &sent[0][42..46]), (14, &[9; 4][..]), "its own time comes back");
    drop(router.cx);
    router.world.end()
}

stepped!(a_failed_change_of_routes_changes_nothing);
fn a_failed_change_of_routes_changes_nothing() -> Digest {
    let mut router = Router::new();
    let before = router.machine.tables().net.fib.dump();
    let cx = &mut router.cx;
    let bad = FibInfo { gateway: u32::from(Ipv4Addr::new(10, 9, 9, 9)), ..FibInfo::default() };
    assert_eq!(fib_new_route(cx, 0, 0, bad), Err(Errno::ENETUNREACH));
    assert_eq!(fib_new_route(cx, 1, 24, FibInfo::default()), Err(Errno::EINVAL));
    assert_eq!(fib_del_route(cx, 0, 0, |_| true), Err(Errno::ESRCH));
    assert_eq!(router.machine.tables().net.fib.dump(), before);
    router.forward(&frame::udp((frame::PEER, 5000), (FAR, 7), b"as before"));
    assert_eq!(router.far.sent().len(), 1);
    drop(router.cx);
    router.world.end()
}

stepped!(dont_route_keeps_to_the_link);
fn dont_route_keeps_to_the_link() -> Digest {
    let mut pair = Pair::new(55);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let gateway = FibInfo { gateway: B.into(), ..FibInfo::default() };
    fib_new_route(&mut ends.a, 0, 0, gateway).expect("a default route");
    let (far, near) = (addr(FAR, 7), addr(B, 7));
    let dont = uapi::socket::MSG_DONTROUTE;
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"x", 0, Some(&far))), Ok(1));
    let refused = pair.run(&mut ends.a, sys_sendto(client, b"x", dont, Some(&far)));
    assert_eq!(refused, Err(Errno::ENETUNREACH));
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"x", dont, Some(&near))), Ok(1));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}
