//! Three machines in a row, the middle one a router.

use crate::tcp::listener_at;
use crate::util::{A, addr, udp};
use drivers::net::ethernet::intel::igb::IgbOptions;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::{exit_files, sys_read, sys_write};
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{sys_accept4, sys_connect, sys_recvfrom, sys_sendto, sys_socket};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::snmp::{IpMib, UdpMib};
use uapi::socket::{AF_INET, SOCK_STREAM};

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const C: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// A datagram whose sum the sender left to its wire leaves the router with the sum in order,
/// whether the next card fills it in or hands it on.
fn through_a_router(igb: bool) -> Digest {
    let mut world = World::recorded(61);
    let spec = MachineSpec::default();
    let [a, router, c] = [world.machine(&spec), world.machine(&spec), world.machine(&spec)];
    world.wire(LinkSpec::Wire, [(&a, A), (&router, NEAR)]).expect("the first wire");
    let ends = [(&router, FAR), (&c, C)];
    if igb {
        world.igb(LinkSpec::Wire, IgbOptions::default(), ends).expect("the cards");
    } else {
        world.wire(LinkSpec::Wire, ends).expect("the second wire");
    }
    let limit = Duration::from_secs(60);
    let mut on_a = world.task_cx(&a, CpuId(0));
    let mut on_c = world.task_cx(&c, CpuId(0));
    let mut on_router = world.task_cx(&router, CpuId(0));
    update_sysctls(&mut on_router, |sysctl| sysctl.ip_forward = true);
    let via = FibInfo { gateway: NEAR.into(), ..FibInfo::default() };
    fib_new_route(&mut on_a, 0, 0, via).expect("a default route");
    let (client, server) = (udp(&mut on_a, A, 4000), udp(&mut on_c, C, 7));
    let to = addr(C, 7);
    let mut sending = sys_sendto(client, b"through", 0, Some(&to));
    let sent = world.block_on(&mut on_a, &mut sending, limit);
    assert_eq!(sent.expect("it ends"), Ok(7));
    let mut buffer = [0; 16];
    let mut receiving = sys_recvfrom(server, &mut buffer, 0);
    let got = world.block_on(&mut on_c, &mut receiving, limit).expect("it arrives");
    drop(receiving);
    let (len, from) = got.expect("a datagram");
    assert_eq!(
        (&buffer[..len], from.map(|from| from.to_bytes())),
        (&b"through"[..], Some(addr(A, 4000).to_vec()))
    );
    assert_eq!(c.mib().get(UdpMib::InCsumErrors), 0);
    for mut cx in [on_a, on_router, on_c] {
        exit_files(&mut cx);
    }
    // A card tells that it has sent when its interrupt is due.
    world.run_for(Duration::from_secs(1));
    world.end()
}

stepped!(a_sum_left_open_goes_on_over_a_second_wire);
fn a_sum_left_open_goes_on_over_a_second_wire() -> Digest {
    through_a_router(false)
}

stepped!(a_sum_left_open_is_filled_in_by_the_routers_card);
fn a_sum_left_open_is_filled_in_by_the_routers_card() -> Digest {
    through_a_router(true)
}

/// What the router merges it cuts again, into segments that the next link takes; for a link that takes only
/// shorter ones, it tells the sender, as if it had merged nothing.
fn a_stream_through_a_router(igb: bool) -> Digest {
    let mut world = World::recorded(62);
    let spec = MachineSpec::default();
    let [a, router, c] = [world.machine(&spec), world.machine(&spec), world.machine(&spec)];
    world.wire(LinkSpec::Wire, [(&a, A), (&router, NEAR)]).expect("the first wire");
    let ends = [(&router, FAR), (&c, C)];
    let [out, _] = if igb {
        world.igb(LinkSpec::Wire, IgbOptions::default(), ends).expect("the cards")
    } else {
        world.wire(LinkSpec::Wire, ends).expect("the second wire")
    };
    let limit = Duration::from_secs(60);
    let [mut on_a, mut on_router, mut on_c] =
        [&a, &router, &c].map(|machine| world.task_cx(machine, CpuId(0)));
    update_sysctls(&mut on_router, |sysctl| sysctl.ip_forward = true);
    for (cx, gateway) in [(&mut on_a, NEAR), (&mut on_c, FAR)] {
        let via = FibInfo { gateway: gateway.into(), ..FibInfo::default() };
        fib_new_route(cx, 0, 0, via).expect("a default route");
    }
    let listening = listener_at(&mut on_c, C, 80, 5);
    let near = sys_socket(&mut on_a, AF_INET, SOCK_STREAM, 0).expect("a socket");
    let connected = world.block_on(&mut on_a, &mut sys_connect(near, &addr(C, 80)), limit);
    assert_eq!(connected.expect("it ends"), Ok(()));
    let accepted = world.block_on(&mut on_c, &mut sys_accept4(listening, 0), limit);
    let (far, _) = accepted.expect("it ends").expect("it is there");
    let data: Vec<u8> =
        (0..150_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut buffer = vec![0; 65_536];
    let mut fails = Vec::new();
    for mtu in [1500, 1300] {
        dev_set_mtu(&mut on_router, &out, mtu).expect("a link may be narrow");
        let before = router.mib().get(IpMib::FragFails);
        let (mut sent, mut got) = (0, Vec::new());
        while got.len() < data.len() {
            if sent < data.len() {
                let end = (sent + 30_000).min(data.len());
                let wrote =
                    world.block_on(&mut on_a, &mut sys_write(near, &data[sent..end]), limit);
                sent += wrote.expect("it ends").expect("connected");
            }
            let read = world.block_on(&mut on_c, &mut sys_read(far, &mut buffer), limit);
            let read = read.expect("it ends").expect("connected");
            got.extend_from_slice(&buffer[..read]);
        }
        assert!(got == data, "over a link of {mtu}");
        fails.push(router.mib().get(IpMib::FragFails) - before);
    }
    assert!(fails[0] == 0 && fails[1] != 0, "{fails:?}");
    for mut cx in [on_a, on_router, on_c] {
        exit_files(&mut cx);
    }
    world.run_for(Duration::from_secs(70));
    world.end()
}

stepped!(a_stream_goes_on_over_a_second_wire);
fn a_stream_goes_on_over_a_second_wire() -> Digest {
    a_stream_through_a_router(false)
}

stepped!(a_stream_goes_on_by_the_routers_card);
fn a_stream_goes_on_by_the_routers_card() -> Digest {
    a_stream_through_a_router(true)
}
