//! Packet memory under a flood on every queue: the cap is hard, what is lost is counted, and service
//! returns at once.

use crate::util::{A, B, Pair, addr, recv, send, udp};
use drivers::net::ethernet::intel::igb::IgbOptions;
use klib::bitmap::CpuMask;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{NetDevice, store_rps_map};
use stack::net::core::ethtool::{RxfhFields, ethtool_set_rxfh_fields};
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::sys_recvfrom;
use std::sync::Arc;
use uapi::socket::MSG_DONTWAIT;

/// The cap.
const MEMORY: usize = 32 << 20;
const QUEUES: u16 = 4;
/// Sockets that nobody reads: together their buffers hold more than the cap.
const SOCKETS: u16 = 200;
const SENDERS: u16 = 16;
/// Datagrams to each of them, more than one holds.
const BURSTS: usize = 3;
const BURST: u16 = 64;

/// Frames that the driver had no memory for.
fn card_lost(dev: &NetDevice) -> u64 {
    let stats = dev.ethtool.as_ref().expect("igb has it").get_ethtool_stats();
    stats.iter().filter(|(name, _)| name.ends_with("alloc_failed")).map(|(_, count)| count).sum()
}

stepped!(a_flood_on_every_queue_stays_below_the_cap);
fn a_flood_on_every_queue_stays_below_the_cap() -> Digest {
    let mut world = World::recorded(73);
    let a = world.machine(&MachineSpec::default());
    let b = world.machine(&MachineSpec { cpus: 2, memory: MEMORY, ..MachineSpec::default() });
    let options = IgbOptions { queues: Some(QUEUES as u8), itr: 0, ..IgbOptions::default() };
    let [_, dev] = world.igb(LinkSpec::Wire, options, [(&a, A), (&b, B)]).expect("two cards");
    let mut pair = Pair { world, a, b: Arc::clone(&b) };
    let mut ends = pair.ends();
    ethtool_set_rxfh_fields(&mut ends.b, &dev, RxfhFields { udp4_ports: true }).expect("igb can");
    update_sysctls(&mut ends.b, |sysctl| sysctl.netdev_max_backlog = 40);
    for queue in 0..QUEUES {
        store_rps_map(&mut ends.b, &dev, queue, CpuMask::from_bits(0b10)).expect("a queue");
    }
    let clients: Vec<i32> = (0..SENDERS).map(|n| udp(&mut ends.a, A, 4000 + n)).collect();
    let servers: Vec<i32> = (0..SOCKETS).map(|n| udp(&mut ends.b, B, 6000 + n)).collect();
    let (mut sent, mut most) = (0, 0);
    for port in (0..SOCKETS).flat_map(|n| [6000 + n; BURSTS]) {
        for client in clients.iter().cycle().take(usize::from(BURST)) {
            send(&mut pair, &mut ends.a, *client, &[7; 1400], addr(B, port));
            sent += 1;
        }
        pair.world.settle();
        most = most.max(b.packet_memory());
        assert!(most <= MEMORY, "the cap is hard: {most}");
    }
    assert!(most > MEMORY - (1 << 20), "used up: {most}");
    let reasons = [DropReason::SocketRcvbuff, DropReason::CpuBacklog].map(|of| b.mib().drops(of));
    let lost = card_lost(&dev);
    assert!(
        lost > 1000 && reasons.iter().all(|drops| *drops > 1000),
        "{lost} of {sent}, {reasons:?}, {most}"
    );
    let mut queued = 0;
    for server in &servers {
        let mut data = [0; 1500];
        while let Ok((len, _)) =
            pair.run(&mut ends.b, sys_recvfrom(*server, &mut data, MSG_DONTWAIT))
        {
            assert!(len == 1400 && data[..len].iter().all(|byte| *byte == 7), "whole");
            queued += 1;
        }
        stack::fs::sys_close(&mut ends.b, *server).expect("open");
    }
    assert_eq!(queued + lost + reasons.iter().sum::<u64>(), sent, "all are accounted for");
    let server = udp(&mut ends.b, B, 7);
    send(&mut pair, &mut ends.a, clients[0], b"room again", addr(B, 7));
    assert_eq!(recv(&mut pair, &mut ends.b, server).expect("arrives").0, b"room again");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}
