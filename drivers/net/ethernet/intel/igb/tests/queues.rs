//! Several queues on several CPUs.

use super::*;
use klib::bitmap::CpuMask;
use stack::kernel::softirq::Softirq;
use std::collections::{BTreeMap, BTreeSet};

stepped!(rss_keeps_each_flow_on_one_cpu_and_uses_several);
fn rss_keeps_each_flow_on_one_cpu_and_uses_several() -> u64 {
    let mut pair = Pair::new(ONE(), cpus(4));
    let channels = pair.b.dev.ethtool.as_ref().expect("has ethtool").get_channels();
    assert_eq!(channels.expect("has queues").combined, (4, 4));
    pair.acquaint();
    let tap = pair.b.tap();
    let addrs: Vec<_> = (0..24).map(|n| Ipv4Addr::new(192, 0, 2, 20 + n)).collect();
    for addr in &addrs {
        let ifa = IfAddr::new(*addr, 24).expect("a host's");
        inet_insert_ifa(&mut pair.a.cx, &pair.a.dev, ifa).expect("new");
    }
    for addr in &addrs {
        for port in [1000, 1001, 1002] {
            let fd = bound_at(&mut pair.a.cx, *addr, port);
            send(&mut pair.a.cx, fd, (B, 7), b"flow").expect("sent");
        }
        pair.settle();
    }
    let mut cpus: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
    let seen: Vec<_> = tap.seen().into_iter().filter(|seen| seen.proto == 17).collect();
    assert_eq!(seen.len(), 72);
    for packet in &seen {
        assert_eq!(u16::from(packet.cpu) + 1, packet.queue, "the queue's vector, the vector's CPU");
        assert_ne!(packet.hash, 0);
        cpus.entry(packet.src).or_default().insert(packet.cpu);
    }
    assert!(cpus.values().all(|cpus| cpus.len() == 1), "ports are not hashed: {cpus:?}");
    let used: BTreeSet<u8> = cpus.into_values().flatten().collect();
    assert_eq!(used.len(), 4, "24 hosts spread over all CPUs");
    pair.end()
}

stepped!(a_completion_raises_net_rx_on_its_vectors_cpu);
fn a_completion_raises_net_rx_on_its_vectors_cpu() -> u64 {
    let mut pair = Pair::new(cpus(4), ONE());
    pair.acquaint();
    let mut task = pair.a.task(2);
    let fd = bound(&mut task, 1000);
    for (cpu, name) in [(2, "the queue's own CPU"), (3, "where the affinity says")] {
        let line = pair.a.bus.line(3);
        let desc = line.desc().expect("the machine's");
        assert_eq!(desc.name, "eth0-TxRx-2");
        desc.set_affinity(CpuMask::from_bits(1 << cpu)).expect("there is such a CPU");
        let before = pair.a.m.softirq_runs();
        send(&mut task, fd, (B, 7), b"one").expect("sent");
        pair.settle();
        let after = pair.a.m.softirq_runs();
        let ran: Vec<usize> = (0..4)
            .filter(|n| after[*n][Softirq::NetRx as usize] != before[*n][Softirq::NetRx as usize])
            .collect();
        // The port unreachable that answers goes by RSS, to any CPU.
        assert!(ran.contains(&cpu), "{name}: {ran:?}");
    }
    assert_eq!(pair.a.stat("tx_queue_2_packets"), 2);
    exit_files(&mut task);
    drop(task);
    pair.end()
}

#[test]
fn queues_follow_cpus_up_to_eight_and_options_are_checked() {
    let world = Arc::new(World { now: AtomicU64::new(1), ..World::default() });
    let (end, _outside) = WireEnd::open(16);
    let host = Host::new(&world, 1, end, cpus(12));
    assert_eq!(host.dev.tx_queues.len(), 8);
    let bad = [
        IgbOptions { queues: Some(0), ..IgbOptions::default() },
        IgbOptions { queues: Some(9), ..IgbOptions::default() },
        IgbOptions { rx_ring: 72, ..IgbOptions::default() },
        IgbOptions { tx_ring: 4104, ..IgbOptions::default() },
        IgbOptions { rx_ring: 84, ..IgbOptions::default() },
        IgbOptions { itr: 2, ..IgbOptions::default() },
        IgbOptions { tx_queue_len: 0, ..IgbOptions::default() },
    ];
    for options in bad {
        let (end, _outside) = WireEnd::open(16);
        let nic = I82576::new([2, 0, 0, 0, 0, 1], Arc::new(end), DmaSpace::new(1 << 20));
        let init = igb_init_module(vec![nic as Arc<dyn PciDev>], options);
        let platform = Box::new(TestPlatform(Arc::clone(&world)));
        let booted = Machine::builder().module_init(init).boot(platform);
        assert_eq!(booted.map(|_| ()), Err(Errno::EINVAL), "{options:?}");
    }
}
