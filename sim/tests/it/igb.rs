//! Walks over the igb driver and the 82576's model.

use crate::golden::{self, assert_order};
use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::{Digest, LinkSpec};
use stack::fs::exit_files;
use stack::kernel::softirq::Softirq;
use stack::kernel::trace::events::Point;

fn finish(mut pair: Pair, mut ends: crate::util::Ends) -> Digest {
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    // Sent packets are held until their completion is cleaned.
    pair.world.run_for(std::time::Duration::from_secs(1));
    pair.end()
}

/// The way is known on both sides and the cards have throttled down.
fn warm(pair: &mut Pair) -> (crate::util::Ends, i32, i32) {
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    send(pair, &mut ends.a, client, b"warm", addr(B, 7));
    let (data, from) = recv(pair, &mut ends.b, server).expect("arrives");
    send(pair, &mut ends.b, server, &data, from.to_bytes());
    recv(pair, &mut ends.a, client).expect("comes back");
    pair.world.run_for(std::time::Duration::from_secs(1));
    (ends, client, server)
}

stepped!(a_datagram_out_and_in_over_igb);
fn a_datagram_out_and_in_over_igb() -> Digest {
    let mut pair = Pair::igb(41, LinkSpec::Wire, 1);
    let (mut ends, client, server) = warm(&mut pair);
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, b"walk", addr(B, 7));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    pair.world.settle();
    let walk = pair.world.take_walk();
    let of = |machine| walk.iter().filter(|(m, _)| *m == machine).copied().collect::<Vec<_>>();
    golden::check_walk(&of(0), "udp-out-igb");
    golden::check_walk(&of(1), "udp-in-igb");
    finish(pair, ends)
}

stepped!(echo_over_igb);
fn echo_over_igb() -> Digest {
    let mut pair = Pair::igb(42, LinkSpec::Wire, 1);
    let (mut ends, client, server) = warm(&mut pair);
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, b"echo", addr(B, 7));
    let (data, from) = recv(&mut pair, &mut ends.b, server).expect("arrives");
    send(&mut pair, &mut ends.b, server, &data, from.to_bytes());
    assert_eq!(recv(&mut pair, &mut ends.a, client).expect("comes back").0, b"echo");
    pair.world.run_for(std::time::Duration::from_millis(1));
    golden::check(&pair.world, "echo-igb");
    finish(pair, ends)
}

stepped!(arp_over_igb);
fn arp_over_igb() -> Digest {
    let mut pair = Pair::igb(43, LinkSpec::Wire, 1);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, b"first", addr(B, 7));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    pair.world.run_for(std::time::Duration::from_millis(1));
    golden::check(&pair.world, "arp-igb");
    finish(pair, ends)
}

stepped!(a_transmit_completion_raises_net_rx_and_frees_what_was_sent);
fn a_transmit_completion_raises_net_rx_and_frees_what_was_sent() -> Digest {
    let mut pair = Pair::igb(44, LinkSpec::Wire, 1);
    let (mut ends, client, _server) = warm(&mut pair);
    let before = pair.a.softirq_runs()[0];
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, b"completed", addr(B, 7));
    pair.world.settle();
    let walk: Vec<_> = pair.world.take_walk().into_iter().filter(|(m, _)| *m == 0).collect();
    assert_order(
        &walk,
        &[
            Point::igb_tx_map,
            Point::igb_msix_ring,
            Point::napi_schedule,
            Point::__raise_softirq_irqoff,
            Point::net_rx_action,
            Point::igb_poll,
            Point::igb_clean_tx_irq,
            Point::consume_skb,
        ],
    );
    let after = pair.a.softirq_runs()[0];
    let (rx, tx) = (Softirq::NetRx as usize, Softirq::NetTx as usize);
    assert_eq!(after[rx], before[rx] + 1, "the completion is NET_RX's work");
    assert_eq!(after[tx], before[tx]);
    golden::check_walk(&walk, "tx-completion-igb");
    finish(pair, ends)
}

stepped!(flows_spread_over_queues_and_each_stays_on_its_cpu);
fn flows_spread_over_queues_and_each_stays_on_its_cpu() -> Digest {
    let mut pair = Pair::igb(45, LinkSpec::Wire, 4);
    let mut ends = pair.ends();
    let server = udp(&mut ends.b, B, 7);
    // UDP is spread by addresses alone, as in Linux; so the senders have addresses of their own.
    let dev = std::sync::Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
    let mut seen = Vec::new();
    for n in 10..40_u8 {
        let source = std::net::Ipv4Addr::new(192, 0, 2, n);
        let ifa = stack::net::ipv4::devinet::IfAddr::new(source, 24).expect("a host");
        stack::net::ipv4::devinet::inet_insert_ifa(&mut ends.a, &dev, ifa).expect("new");
        let client = udp(&mut ends.a, source, 4000);
        let mut cpus = Vec::new();
        for _ in 0..3 {
            pair.world.watch(pcap_filter::compile("port 4000").ok());
            send(&mut pair, &mut ends.a, client, &[n], addr(B, 7));
            recv(&mut pair, &mut ends.b, server).expect("arrives");
            let walk = pair.world.take_walk();
            let cpu = walk.iter().find(|(m, r)| *m == 1 && r.point == Point::udp_rcv);
            cpus.push(cpu.expect("it passed").1.cpu);
        }
        cpus.dedup();
        assert_eq!(cpus.len(), 1, "a flow changed its CPU");
        seen.extend(cpus);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3], "every queue has its share");
    finish(pair, ends)
}

stepped!(no_traffic_is_lost_on_a_bad_link_that_was_not_lost_there);
fn no_traffic_is_lost_on_a_bad_link_that_was_not_lost_there() -> Digest {
    (0..20).map(a_bad_link).collect()
}

fn a_bad_link(seed: u64) -> Digest {
    let weather = sim::Impairment {
        delay: std::time::Duration::from_micros(500),
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.1,
        ..sim::Impairment::default()
    };
    let mut pair = Pair::igb(seed, LinkSpec::Impaired(weather), 2);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    for n in 0..100_u8 {
        send(&mut pair, &mut ends.a, client, &[n; 64], addr(B, 7));
        pair.world.run_for(std::time::Duration::from_micros(300));
    }
    pair.world.run_for(std::time::Duration::from_secs(5));
    let mut got = 0;
    loop {
        let mut data = [0; 64];
        let flags = uapi::socket::MSG_DONTWAIT;
        let op = stack::net::socket::sys_recvfrom(server, &mut data, flags);
        match pair.run(&mut ends.b, op) {
            Ok((len, _)) => {
                assert_eq!(len, 64);
                assert!(data.iter().all(|byte| *byte == data[0]), "data damaged");
                got += 1;
            }
            Err(error) => break assert_eq!(error, uapi::errno::Errno::EAGAIN),
        }
    }
    assert!((70..=120).contains(&got), "seed {seed}: {got} of 100");
    finish(pair, ends)
}
