//! Messages that are cut into datagrams on their way, and datagrams that are merged on theirs.

use crate::golden;
use crate::util::{A, B, Ends, Pair, addr, send, udp};
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::net::core::dev::{NetDevice, NetdevFeatures};
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{sys_recvmsg, sys_setsockopt};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::snmp::UdpMib;
use uapi::socket::{MSG_DONTWAIT, SO_RCVBUF, SOL_SOCKET, SOL_UDP, cmsgs};
use uapi::udp::{UDP_GRO, UDP_SEGMENT};

fn set(cx: &mut TaskCx, fd: i32, (level, name): (i32, i32), value: i32) {
    sys_setsockopt(cx, fd, level, name, &value.to_ne_bytes()).expect("an option");
}

fn octets(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// What a reader gets: the data and the length of each datagram that it was.
fn recv_told(pair: &mut Pair, cx: &mut TaskCx, fd: i32) -> Option<(Vec<u8>, Option<i32>)> {
    let (mut data, mut told) = (vec![0; 65_536], [0; 64]);
    let mut into: [&mut [u8]; 1] = [&mut data];
    let received = pair.run(cx, sys_recvmsg(fd, &mut into, &mut told, MSG_DONTWAIT)).ok()?;
    let mut told = cmsgs(&told[..received.controllen as usize]).map(|cmsg| cmsg.expect("whole"));
    let size = told.find(|cmsg| (cmsg.level, cmsg.type_) == (SOL_UDP, UDP_GRO));
    let size = size.map(|cmsg| i32::from_ne_bytes(cmsg.data.try_into().expect("a number")));
    data.truncate(received.len);
    Some((data, size))
}

/// All that waits: how long it is, and what it is made of.
fn all_told(pair: &mut Pair, cx: &mut TaskCx, fd: i32) -> (Vec<(usize, Option<i32>)>, Vec<u8>) {
    let (mut lens, mut all) = (Vec::new(), Vec::new());
    while let Some((data, size)) = recv_told(pair, cx, fd) {
        lens.push((data.len(), size));
        all.extend(data);
    }
    (lens, all)
}

fn finish(mut pair: Pair, mut ends: Ends) -> Digest {
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.world.run_for(Duration::from_secs(1));
    pair.end()
}

/// A message in three segments to B, for which they are merged.
fn a_message_over(mut pair: Pair, walk: &str) -> Digest {
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    set(&mut ends.b, server, (SOL_UDP, UDP_GRO), 1);
    send(&mut pair, &mut ends.a, client, b"warm", addr(B, 7));
    pair.world.run_for(Duration::from_secs(1));
    assert_eq!(all_told(&mut pair, &mut ends.b, server), (vec![(4, None)], b"warm".to_vec()));
    set(&mut ends.a, client, (SOL_UDP, UDP_SEGMENT), 1000);
    let data = octets(2500);
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, &data, addr(B, 7));
    pair.world.run_for(Duration::from_millis(10));
    let came = all_told(&mut pair, &mut ends.b, server);
    golden::check(&pair.world, walk);
    assert_eq!(came, (vec![(2500, Some(1000))], data));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    let (a, b) = (pair.a.mib(), pair.b.mib());
    assert_eq!((a.get(UdpMib::OutDatagrams), b.get(UdpMib::InDatagrams)), (2, 2), "one each");
    finish(pair, ends)
}

stepped!(a_message_is_cut_before_a_wire_and_merged_behind_it);
fn a_message_is_cut_before_a_wire_and_merged_behind_it() -> Digest {
    a_message_over(Pair::new(131), "udp-segments")
}

stepped!(a_message_is_cut_before_a_card_and_summed_by_it);
fn a_message_is_cut_before_a_card_and_summed_by_it() -> Digest {
    a_message_over(Pair::igb(132, LinkSpec::Wire, 1), "udp-segments-igb")
}

stepped!(who_did_not_ask_gets_each_by_itself_and_nothing_is_merged_for_it);
fn who_did_not_ask_gets_each_by_itself_and_nothing_is_merged_for_it() -> Digest {
    let mut pair = Pair::new(133);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    let asks = udp(&mut ends.b, B, 8);
    set(&mut ends.a, client, (SOL_UDP, UDP_SEGMENT), 1000);
    send(&mut pair, &mut ends.a, client, b"warm", addr(B, 7));
    pair.world.run_for(Duration::from_secs(1));
    let data = octets(2500);
    let apart = vec![(1000, None), (1000, None), (500, None)];
    let together = vec![(2500, Some(1000))];
    let _warm = all_told(&mut pair, &mut ends.b, server);
    pair.world.watch(None);
    // Before any asks, beside one that asks, and when that one does no more.
    for (gro, to_other) in [(0, &apart), (1, &together), (0, &apart)] {
        set(&mut ends.b, asks, (SOL_UDP, UDP_GRO), gro);
        for (fd, port, expected) in [(server, 7, &apart), (asks, 8, to_other)] {
            send(&mut pair, &mut ends.a, client, &data, addr(B, port));
            pair.world.settle();
            let (lens, came) = all_told(&mut pair, &mut ends.b, fd);
            assert_eq!((&lens, &came), (expected, &data), "gro {gro}, port {port}");
        }
    }
    let merged = golden::points(&pair.world.take_walk());
    let merged = merged.iter().filter(|point| **point == Point::link_merge).count();
    assert_eq!(merged, 2, "of one message alone");
    finish(pair, ends)
}

stepped!(loopback_carries_a_message_whole_and_cuts_it_for_who_did_not_ask);
fn loopback_carries_a_message_whole_and_cuts_it_for_who_did_not_ask() -> Digest {
    const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;
    let mut pair = Pair::new(134);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, LO, 4000), udp(&mut ends.a, LO, 7));
    set(&mut ends.a, client, (SOL_UDP, UDP_SEGMENT), 1000);
    let data = octets(2500);
    let cuts = |pair: &Pair, name: &str| {
        let walk = pair.world.take_walk();
        golden::check_walk(&walk, name);
        golden::points(&walk).contains(&Point::skb_gso_segment)
    };
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, &data, addr(LO, 7));
    pair.world.settle();
    let apart = all_told(&mut pair, &mut ends.a, server);
    assert_eq!(apart, (vec![(1000, None), (1000, None), (500, None)], data.clone()));
    assert!(cuts(&pair, "udp-segments-loopback"));
    set(&mut ends.a, server, (SOL_UDP, UDP_GRO), 1);
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, &data, addr(LO, 7));
    pair.world.settle();
    assert_eq!(all_told(&mut pair, &mut ends.a, server), (vec![(2500, Some(1000))], data));
    assert!(!cuts(&pair, "udp-whole-loopback"));
    finish(pair, ends)
}

stepped!(a_full_buffer_takes_what_fits_of_a_message);
fn a_full_buffer_takes_what_fits_of_a_message() -> Digest {
    let mut pair = Pair::new(135);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    set(&mut ends.a, client, (SOL_UDP, UDP_SEGMENT), 1000);
    set(&mut ends.b, server, (SOL_SOCKET, SO_RCVBUF), 4000);
    send(&mut pair, &mut ends.a, client, &octets(20_000), addr(B, 7));
    pair.world.run_for(Duration::from_secs(1));
    let (lens, came) = all_told(&mut pair, &mut ends.b, server);
    let lost = pair.b.mib().get(UdpMib::RcvbufErrors);
    assert!(lost > 10 && lens.len() as u64 + lost == 20, "{lens:?} and {lost} lost");
    assert_eq!(came, octets(came.len()), "the first of them");
    finish(pair, ends)
}

stepped!(without_memory_a_message_is_lost_whole);
fn without_memory_a_message_is_lost_whole() -> Digest {
    let mut world = World::recorded(136);
    let a = world.machine(&MachineSpec { memory: 120 << 10, ..MachineSpec::default() });
    let b = world.machine(&MachineSpec::default());
    world.wire(LinkSpec::Wire, [(&a, A), (&b, B)]).expect("fresh machines take a device each");
    let mut pair = Pair { world, a, b };
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    set(&mut ends.b, server, (SOL_SOCKET, SO_RCVBUF), 1 << 20);
    set(&mut ends.a, client, (SOL_UDP, UDP_SEGMENT), 600);
    send(&mut pair, &mut ends.a, client, b"warm", addr(B, 7));
    pair.world.run_for(Duration::from_secs(1));
    let _warm = all_told(&mut pair, &mut ends.b, server);
    // A hundred segments need more memory than there is; ten do not.
    for (len, segments) in [(60_000, 0), (6_000, 10), (60_000, 0), (400, 1)] {
        send(&mut pair, &mut ends.a, client, &octets(len), addr(B, 7));
        pair.world.run_for(Duration::from_millis(10));
        let (lens, came) = all_told(&mut pair, &mut ends.b, server);
        assert_eq!(lens.len(), segments, "of {len} octets");
        assert_eq!(came, octets(came.len()));
    }
    assert_eq!(pair.a.mib().drops(DropReason::SkbGsoSeg), 2);
    finish(pair, ends)
}

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const C: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// A router merges datagrams where its device says so, and cuts them again for the next link.
fn through_a_router(forwards: bool) -> Digest {
    let mut world = World::recorded(137);
    let spec = MachineSpec::default();
    let [a, router, c] = [world.machine(&spec), world.machine(&spec), world.machine(&spec)];
    let devs = world.wire(LinkSpec::Wire, [(&a, A), (&router, NEAR)]).expect("the first wire");
    world.wire(LinkSpec::Wire, [(&router, FAR), (&c, C)]).expect("the second wire");
    let near: &Arc<NetDevice> = &devs[1];
    if forwards {
        near.set_features(near.features() | NetdevFeatures::GRO_UDP_FWD);
    }
    let mut on_router = world.task_cx(&router, CpuId(0));
    update_sysctls(&mut on_router, |sysctl| sysctl.ip_forward = true);
    let mut pair = Pair { world, a, b: c };
    let mut ends = pair.ends();
    let via = FibInfo { gateway: NEAR.into(), ..FibInfo::default() };
    fib_new_route(&mut ends.a, 0, 0, via).expect("a default route");
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, C, 7));
    set(&mut ends.a, client, (SOL_UDP, UDP_SEGMENT), 1000);
    send(&mut pair, &mut ends.a, client, b"warm", addr(C, 7));
    pair.world.run_for(Duration::from_secs(1));
    let _warm = all_told(&mut pair, &mut ends.b, server);
    pair.world.watch(None);
    let data = octets(2500);
    send(&mut pair, &mut ends.a, client, &data, addr(C, 7));
    pair.world.run_for(Duration::from_millis(10));
    let walk = pair.world.take_walk();
    let on_router: Vec<Point> =
        walk.iter().filter(|(m, _)| *m == 1).map(|(_, record)| record.point).collect();
    let count = |point: Point| on_router.iter().filter(|seen| **seen == point).count();
    let seen = [Point::ip_forward_finish, Point::skb_gso_segment].map(count);
    assert_eq!(seen, if forwards { [1, 1] } else { [3, 0] });
    let (lens, came) = all_told(&mut pair, &mut ends.b, server);
    assert_eq!((lens, came), (vec![(1000, None), (1000, None), (500, None)], data));
    finish(pair, ends)
}

stepped!(a_router_sends_on_one_by_one);
fn a_router_sends_on_one_by_one() -> Digest {
    through_a_router(false)
}

stepped!(a_router_merges_and_cuts_where_its_device_says_so);
fn a_router_merges_and_cuts_where_its_device_says_so() -> Digest {
    through_a_router(true)
}
