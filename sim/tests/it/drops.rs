//! Reasons to drop that a well-formed packet meets: what is full, used up, gone or set so.
//! Malformed ones are `bad_input`'s.

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::BhCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::rx::dev_remove_pack;
use stack::net::core::dev::{
    NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack, dev_close, dev_open,
};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::skbuff::{Skb, consume_skb};
use stack::net::ipv4::devinet::update_devconf;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uapi::errno::Errno;

stepped!(a_full_qdisc_refuses_and_a_closing_device_empties_it);
fn a_full_qdisc_refuses_and_a_closing_device_empties_it() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 3);
    let dev = lone.dev.dev();
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    dev.netif_stop_subqueue(0);
    lone.world.watch(None);
    for _ in 0..5 {
        assert_eq!(lone.send(socket, b"x", (frame::PEER, 9)), Ok(1), "a drop is not its error");
    }
    golden::check(&lone.world, "qdisc-full");
    assert_eq!(lone.drops(DropReason::QdiscDrop), 1, "three, and the one given back");
    assert_eq!((dev.tx_queues[0].qdisc().qlen(), dev.tx_queues[0].qdisc().drops()), (4, 1));
    dev_close(&mut lone.cx, &dev);
    assert_eq!(lone.drops(DropReason::QdiscReset), 4);
    assert_eq!(lone.machine.live_skbs(), 0);
    lone.end()
}

stepped!(a_device_without_a_queue_drops_what_finds_no_room);
fn a_device_without_a_queue_drops_what_finds_no_room() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 0);
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    assert_eq!(lone.dev.dev().tx_queues[0].qdisc().id(), "noqueue");
    lone.dev.busy.store(1, Ordering::Relaxed);
    for data in [b"a", b"b"] {
        lone.send(socket, data, (frame::PEER, 9)).expect("a drop is not its error");
    }
    assert_eq!(lone.drops(DropReason::FullRing), 1);
    assert_eq!(lone.dev.sent().len(), 1, "nothing is kept and sent later");
    lone.dev.dev().netif_stop_subqueue(0);
    lone.send(socket, b"c", (frame::PEER, 9)).expect("a drop is not its error");
    assert_eq!(lone.drops(DropReason::DevReady), 1, "a stopped queue");
    lone.end()
}

stepped!(a_full_neighbour_table_makes_no_entry);
fn a_full_neighbour_table_makes_no_entry() -> Digest {
    let mut lone = Lone::new();
    // The peer's is one; those that are asked for can't be collected.
    lone.sysctl(|sysctl| sysctl.neigh.gc_thresh3 = 3);
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    for n in 20..24 {
        lone.send(socket, b"x", (Ipv4Addr::new(192, 0, 2, n), 9)).expect("a drop is not its error");
    }
    assert_eq!(lone.drops(DropReason::NeighCreateFail), 2);
    assert_eq!(lone.machine.net().arp_tbl.overflows(), 2);
    lone.world.run_for(Duration::from_secs(4));
    assert_eq!(lone.drops(DropReason::NeighFailed), 2, "the two that had a place");
    lone.end()
}

stepped!(a_device_that_goes_down_forgets_its_neighbours);
fn a_device_that_goes_down_forgets_its_neighbours() -> Digest {
    let mut lone = Lone::new();
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    lone.send(socket, b"x", (Ipv4Addr::new(192, 0, 2, 20), 9)).expect("it waits for the answer");
    assert_eq!(lone.machine.live_skbs(), 1);
    lone.world.watch(pcap_filter::compile("port 1").ok());
    let dev = lone.dev.dev();
    dev_close(&mut lone.cx, &dev);
    golden::check(&lone.world, "neighbour-gone");
    assert_eq!(lone.drops(DropReason::NeighDead), 1);
    assert!(lone.machine.net().arp_tbl.is_empty());
    assert_eq!(lone.send(socket, b"x", (frame::PEER, 9)), Err(Errno::ENETUNREACH));
    dev_open(&mut lone.cx, &dev).expect("opens");
    lone.end()
}

stepped!(used_up_memory_is_an_error_and_comes_back);
fn used_up_memory_is_an_error_and_comes_back() -> Digest {
    let mut world = World::recorded(71);
    let small = MachineSpec { memory: 256 << 10, ..MachineSpec::default() };
    let (a, b) = (world.machine(&MachineSpec::default()), world.machine(&small));
    let [_, eth] = world.wire(LinkSpec::Wire, [(&a, A), (&b, B)]).expect("a wire");
    let mut pair = Pair { world, a, b };
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    // One socket's receive buffer would stop it earlier.
    let servers: Vec<i32> = (7..11).map(|port| udp(&mut ends.b, B, port)).collect();
    for round in 0..100_u8 {
        for port in 7..11 {
            send(&mut pair, &mut ends.a, client, &[round; 1400], addr(B, port));
        }
        pair.world.settle();
    }
    assert!(pair.b.packet_memory() <= 256 << 10, "the cap is hard");
    let lost = eth.ops.ndo_get_stats64().rx_dropped;
    assert!(lost > 100, "the card found no memory: {lost}");
    for server in &servers {
        let (data, _) = recv(&mut pair, &mut ends.b, *server).expect("queued");
        assert!(data.iter().all(|byte| *byte == data[0]) && data.len() == 1400);
        stack::fs::sys_close(&mut ends.b, *server).expect("open");
    }
    let server = udp(&mut ends.b, B, 7);
    send(&mut pair, &mut ends.a, client, b"room again", addr(B, 7));
    assert_eq!(recv(&mut pair, &mut ends.b, server).expect("arrives").0, b"room again");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

/// A tap that keeps what it is shown.
#[derive(Default)]
struct Keeper(Mutex<Vec<Skb>>);

impl PacketTap for Keeper {
    fn packet_rcv(&self, _: &mut BhCx<'_>, skb: Skb, _: &Arc<NetDevice>) {
        self.0.lock().expect("free").push(skb);
    }
}

stepped!(a_router_without_memory_for_its_own_header_drops);
fn a_router_without_memory_for_its_own_header_drops() -> Digest {
    let mut lone = Lone::with(MachineSpec { memory: 384 << 10, ..MachineSpec::default() }, 100);
    let far = far_device(&mut lone);
    let keeper = Arc::<Keeper>::default();
    let func = PacketFunc::Tap(Arc::clone(&keeper) as Arc<dyn PacketTap>);
    let near = Some(lone.dev.dev().ifindex);
    dev_add_pack(&mut lone.cx, PacketType { kind: uapi::if_ether::ETH_P_ALL, dev: near, func });
    let through = frame::udp((frame::PEER, 5000), (FAR, 7), &[0; 1000]);
    for _ in 0..1000 {
        lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &through)]);
        lone.world.settle();
        if lone.drops(DropReason::NoMem) != 0 {
            break;
        }
    }
    // The tap's clone shares the head, so that the router needs one of its own.
    assert_eq!(lone.drops(DropReason::NoMem), 1);
    far.sent();
    let kept = std::mem::take(&mut *keeper.0.lock().expect("free"));
    lone.cx.enter_call();
    lone.cx.local_bh_disable(|bh| kept.into_iter().for_each(|skb| consume_skb(bh, skb)));
    let tap: Arc<dyn PacketTap> = keeper;
    dev_remove_pack(&mut lone.cx, &tap);
    assert_eq!(lone.take_ip(&through), []);
    assert_eq!(far.sent().len(), 1, "memory again");
    lone.end()
}

/// A router to 198.51.100.0/24, with a neighbour there.
fn router() -> (Lone, Arc<TestDev>) {
    let mut lone = Lone::new();
    let far = far_device(&mut lone);
    (lone, far)
}

fn far_device(lone: &mut Lone) -> Arc<TestDev> {
    let far = TestDev::add(&mut lone.cx, Ipv4Addr::new(198, 51, 100, 1), 100);
    lone.devconf(|cnf| cnf.forwarding = true);
    let id = far.dev().ifindex;
    update_devconf(&mut lone.cx, id, |cnf| cnf.forwarding = true).expect("there");
    let key = NeighKey { dev: id, addr: FAR.into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(&mut lone.cx, key, [2, 0, 0, 0, 7, 7], state).expect("room");
    far
}

const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

stepped!(a_router_drops_for_its_reasons);
fn a_router_drops_for_its_reasons() -> Digest {
    let (mut lone, far) = router();
    let patched = |mut packet: Vec<u8>, at: usize, byte: u8| {
        packet[at] = byte;
        packet[10..12].fill(0);
        let check = klib::checksum::ip_fast_csum(&packet[..20]);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
        packet
    };
    let through = |data: &[u8]| frame::udp((frame::PEER, 5000), (FAR, 7), data);
    assert_eq!(lone.take_ip(&through(b"")), []);
    assert_eq!(far.sent().len(), 1);
    let everybody = frame::ether([0xff; 6], 0x0800, &through(b""));
    assert_eq!(lone.take(everybody), [DropReason::UnicastInL2Multicast]);
    assert_eq!(lone.take_ip(&patched(through(b""), 8, 1)), [DropReason::TtlExpired]);
    let dev = far.dev();
    stack::net::core::dev::device::dev_set_mtu(&mut lone.cx, &dev, 600).expect("allowed");
    let big = through(&[0; 800]);
    assert_eq!(lone.take_ip(&patched(big.clone(), 6, 0x40)), [DropReason::PktTooBig]);
    assert_eq!(lone.take_ip(&big), []);
    assert_eq!(far.sent().len(), 2, "it may be cut");
    let nowhere = frame::udp((frame::PEER, 5000), ([203, 0, 113, 1].into(), 7), b"");
    lone.world.watch(None);
    lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &nowhere)]);
    lone.world.settle();
    golden::check(&lone.world, "no-route");
    assert_eq!(lone.drops(DropReason::IpInNoRoutes), 1);
    assert!(far.sent().is_empty());
    lone.end()
}

stepped!(echo_is_ignored_as_it_is_set);
fn echo_is_ignored_as_it_is_set() -> Digest {
    let mut lone = Lone::new();
    let ping = |to: Ipv4Addr| frame::ip(1, frame::PEER, to, &frame::icmp(8, 0, [0; 4], b"ping"));
    let all = |packet: &[u8]| frame::ether([0xff; 6], 0x0800, packet);
    let broadcast = Ipv4Addr::new(192, 0, 2, 255);
    let ignored = [DropReason::EchoIgnored];
    assert_eq!(lone.take(all(&ping(broadcast))), ignored, "by default");
    assert_eq!(lone.take_ip(&ping(LOCAL)), []);
    assert_eq!(lone.dev.sent().len(), 1);
    lone.sysctl(|sysctl| sysctl.icmp_echo_ignore_broadcasts = false);
    assert_eq!(lone.take(all(&ping(broadcast))), []);
    let answer = lone.dev.sent();
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0][26..30], LOCAL.octets(), "not from the broadcast address");
    lone.sysctl(|sysctl| sysctl.icmp_echo_ignore_all = true);
    assert_eq!(lone.take_ip(&ping(LOCAL)), ignored);
    assert_eq!(lone.take(all(&ping(broadcast))), ignored);
    assert_eq!(lone.dev.sent().len(), 0);
    lone.end()
}

stepped!(what_a_socket_had_to_read_ends_with_it);
fn what_a_socket_had_to_read_ends_with_it() -> Digest {
    let mut world = World::recorded(72);
    let machine = world.machine(&MachineSpec::default());
    let mut cx = world.task_cx(&machine, CpuId(0));
    let socket = udp(&mut cx, Ipv4Addr::LOCALHOST, 7);
    let to = addr(Ipv4Addr::LOCALHOST, 7);
    let mut op = stack::net::socket::sys_sendto(socket, b"left", 0, Some(&to));
    world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("at once").expect("sent");
    world.settle();
    assert_eq!(machine.live_skbs(), 1);
    exit_files(&mut cx);
    assert_eq!(machine.mib().drops(DropReason::SocketClose), 1);
    drop(cx);
    world.end()
}
