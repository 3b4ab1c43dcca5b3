//! Datagrams across and back; offloads; rings that wrap, fill and overrun.

use super::*;
use drivers::net::wire_port::{FrameBatch, FrameMeta};
use hw::wire::Outside;
use stack::kernel::trace::events::Point;
use stack::net::core::dev::NetdevFeatures;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::core::ethtool::RingParam;
use uapi::snmp::UdpMib;

stepped!(a_datagram_crosses_and_comes_back_after_arp);
fn a_datagram_crosses_and_comes_back_after_arp() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    assert!(pair.a.dev.carrier() && pair.b.dev.carrier());
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    for len in [0, 1, 17, 18, 1000, 1472] {
        let data = vec![len as u8; len];
        send(&mut pair.a.cx, a, (B, 7), &data).expect("sent");
        pair.settle();
        let (got, from) = recv(&mut pair.b.cx, b).expect("arrived");
        assert_eq!((got, from.addr), (data.clone(), u32::from(A)));
        send(&mut pair.b.cx, b, (A, from.port), &data).expect("sent");
        pair.settle();
        assert_eq!(recv(&mut pair.a.cx, a).expect("came back").0, data);
    }
    assert_eq!(pair.a.stat("tx_queue_0_packets"), pair.a.stat("tx_packets"));
    assert_eq!(pair.b.stat("rx_queue_0_packets"), pair.a.stat("tx_packets"));
    pair.end()
}

stepped!(adaptive_throttling_delays_nothing_for_good);
fn adaptive_throttling_delays_nothing_for_good() -> u64 {
    let setup = Setup { options: IgbOptions::default(), ..ONE() };
    let mut pair = Pair::new(setup, setup);
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    for n in 0..200_u8 {
        send(&mut pair.a.cx, a, (B, 7), &[n]).expect("sent");
        pair.settle();
        assert_eq!(recv_all(&mut pair.b.cx, b), [[n]]);
    }
    pair.end()
}

stepped!(rings_wrap);
fn rings_wrap() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    for n in 0..3 * 256_u32 {
        send(&mut pair.a.cx, a, (B, 7), &n.to_be_bytes()).expect("sent");
        if n % 24 == 23 {
            pair.settle();
            let got = recv_all(&mut pair.b.cx, b);
            let sent = (n - 23..=n).map(|n| n.to_be_bytes().to_vec());
            assert!(got.iter().cloned().eq(sent), "in order, none missing: {got:?}");
        }
    }
    pair.end()
}

/// A host whose other end the test holds.
fn with_outside(setup: Setup) -> (Host, Outside) {
    let world = Arc::new(World { now: AtomicU64::new(1_000_000), ..World::default() });
    let (end, outside) = WireEnd::open(1024);
    let mut host = Host::new(&world, 1, end, setup);
    host.up(A);
    host.run_out();
    (host, outside)
}

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut total: u32 = words.sum();
    while total >> 16 != 0 {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total
}

/// A UDP frame from B to A, its checksum off by `error`.
fn udp_frame(dst: [u8; 6], payload: &[u8], error: u16) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut udp = [7_u16, 1000, len, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    let pseudo = [&B.octets()[..], &A.octets(), &[0, 17], &len.to_be_bytes()].concat();
    let check = !(sum(&[pseudo, udp.clone()].concat()) as u16);
    udp[6..8].copy_from_slice(&check.wrapping_add(error).to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    ip.extend([B.octets(), A.octets()].concat());
    let check = !(sum(&ip) as u16);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    [&dst[..], &PEER_MAC, &[8, 0], &ip, &udp].concat()
}

stepped!(the_device_fills_in_and_checks_checksums);
fn the_device_fills_in_and_checks_checksums() -> u64 {
    let (mut host, outside) = with_outside(ONE());
    let mac = host.dev.dev_addr();
    let tap = host.tap();
    let fd = bound(&mut host.cx, 1000);
    // In: a good one is believed, a bad one looked at and dropped, without the feature both are looked at.
    assert!(outside.inject(&udp_frame(mac, b"good", 0), FrameMeta::default()));
    host.run_out();
    assert_eq!(tap.seen()[0].ip_summed, IpSummed::Unnecessary);
    assert!(outside.inject(&udp_frame(mac, b"bad!", 1), FrameMeta::default()));
    host.run_out();
    assert_eq!(tap.seen()[0].ip_summed, IpSummed::None);
    assert_eq!(host.stat("rx_queue_0_csum_err"), 1);
    host.dev.set_features(host.dev.features() - NetdevFeatures::RXCSUM);
    assert!(outside.inject(&udp_frame(mac, b"sure", 0), FrameMeta::default()));
    host.run_out();
    assert_eq!(tap.seen()[0].ip_summed, IpSummed::None);
    assert_eq!(recv_all(&mut host.cx, fd), [b"good", b"sure"]);
    assert_eq!(host.m.mib().get(UdpMib::InCsumErrors), 1);
    // Out, after answering ARP: complete with the offload and without.
    for features in [host.dev.features(), host.dev.features() - NetdevFeatures::IP_CSUM] {
        host.dev.set_features(features);
        send(&mut host.cx, fd, (B, 7), b"odd").expect("sent");
        host.run_out();
        answer_arp(&outside, mac);
        host.run_out();
        let frame = drain(&outside).pop().expect("the datagram");
        let udp = &frame[34..34 + 11];
        let pseudo = [&A.octets()[..], &B.octets(), &[0, 17, 0, 11]].concat();
        assert_ne!(&udp[6..8], [0, 0]);
        assert_eq!(sum(&[&pseudo, udp].concat()), 0xFFFF, "{features:?}");
    }
    host.end();
    let mut hasher = DefaultHasher::new();
    host.digest(&mut hasher);
    hasher.finish()
}

fn drain(outside: &Outside) -> Vec<Vec<u8>> {
    let mut batch = FrameBatch::new();
    outside.drain(usize::MAX, &mut batch);
    batch.iter().map(|(frame, _)| frame.to_vec()).collect()
}

fn answer_arp(outside: &Outside, mac: [u8; 6]) {
    let head = [&mac[..], &PEER_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    let body = [&PEER_MAC[..], &B.octets(), &mac, &A.octets()].concat();
    assert!(outside.inject(&[head, body].concat(), FrameMeta::default()));
}

stepped!(a_full_ring_stops_its_queue_and_nothing_is_lost);
fn a_full_ring_stops_its_queue_and_nothing_is_lost() -> u64 {
    let small = IgbOptions { tx_ring: 80, queues: Some(1), itr: 0, ..IgbOptions::default() };
    let mut pair = Pair::new(Setup { options: small, ..ONE() }, ONE());
    pair.acquaint();
    let before = pair.b.stat("rx_packets");
    pair.a.bus.hold_doorbells();
    let fds: Vec<i32> = (0..5).map(|n| bound(&mut pair.a.cx, 2000 + n)).collect();
    for n in 0..200_u8 {
        let fd = fds[usize::from(n) % fds.len()];
        send(&mut pair.a.cx, fd, (B, 7), &[n]).expect("queued");
    }
    let queue = &pair.a.dev.tx_queues[0];
    assert!(queue.stopped());
    let held = queue.qdisc().qlen();
    assert!((100..200).contains(&held), "{held} wait in the qdisc");
    pair.a.bus.release_doorbells();
    pair.settle();
    let queue = &pair.a.dev.tx_queues[0];
    assert!(!queue.stopped());
    assert_eq!((queue.qdisc().qlen(), queue.qdisc().drops()), (0, 0));
    assert_eq!(pair.b.stat("rx_packets") - before, 200);
    assert!(pair.a.stat("tx_queue_0_restart") >= 1);
    pair.end()
}

/// Sends `count` datagrams of `len` bytes while B does not look.
fn flood(pair: &mut Pair, count: usize, len: usize) {
    let a = bound(&mut pair.a.cx, 1000);
    for n in 0..count {
        send(&mut pair.a.cx, a, (B, 7), &vec![n as u8; len]).expect("sent");
        pair.a.run_out();
    }
}

stepped!(an_overrun_is_counted_by_the_queue_or_by_the_device);
fn an_overrun_is_counted_by_the_queue_or_by_the_device() -> Vec<u64> {
    let mut digests = Vec::new();
    let small = IgbOptions { rx_ring: 80, itr: 0, ..IgbOptions::default() };
    for queues in [1, 2] {
        let options = IgbOptions { queues: Some(queues), ..small };
        let mut pair = Pair::new(ONE(), Setup { options, ..ONE() });
        pair.acquaint();
        let before = pair.b.dev.ops.ndo_get_stats64();
        flood(&mut pair, 200, 1400);
        pair.settle();
        let after = pair.b.dev.ops.ndo_get_stats64();
        let (got, missed) = (after.rx_packets - before.rx_packets, after.rx_missed);
        assert!(missed > 0 && got >= 79, "{queues} queues: {got} got, {missed} missed");
        assert_eq!(got + missed, 200, "{queues} queues");
        let by_queue = pair.b.stat("rx_fifo_errors");
        assert_eq!(by_queue != 0, queues == 2, "drop-enable goes with several queues");
        // And it goes on.
        pair.one_more(3000);
        digests.push(pair.end());
    }
    digests
}

stepped!(jumbo_frames_take_several_descriptors_each_way);
fn jumbo_frames_take_several_descriptors_each_way() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    let too_long = dev_set_mtu(&mut pair.a.cx, &pair.a.dev, 9217);
    assert_eq!(too_long, Err(Errno::EINVAL));
    for host in [&mut pair.a, &mut pair.b] {
        dev_set_mtu(&mut host.cx, &host.dev, 9000).expect("within bounds");
    }
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    let data: Vec<u8> = (0..8972).map(|n| (n % 251) as u8).collect();
    for len in [2006, 2007, 4054, 8972] {
        send(&mut pair.a.cx, a, (B, 7), &data[..len]).expect("sent");
        pair.settle();
        assert!(recv_all(&mut pair.b.cx, b) == [&data[..len]], "{len} bytes");
    }
    // A receiver with a shorter limit counts what is too long for it.
    dev_set_mtu(&mut pair.b.cx, &pair.b.dev, 1500).expect("within bounds");
    send(&mut pair.a.cx, a, (B, 7), &data).expect("sent");
    pair.settle();
    assert!(recv_all(&mut pair.b.cx, b).is_empty());
    assert_eq!(pair.b.dev.ops.ndo_get_stats64().rx_length_errors, 1);
    pair.end()
}

stepped!(rings_are_resized_under_traffic);
fn rings_are_resized_under_traffic() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    let ethtool = pair.a.dev.ethtool.clone().expect("has ethtool");
    for (wanted, got) in [(4096, 4096), (1, 80), (100, 104), (256, 256)] {
        pair.a.bus.hold_doorbells();
        for n in 0..10 {
            send(&mut pair.a.cx, a, (B, 7), &[n]).expect("sent");
        }
        let ring = RingParam { rx: (0, wanted), tx: (0, wanted) };
        ethtool.set_ringparam(&mut pair.a.cx, ring).expect("there is memory");
        pair.a.bus.drop_doorbells();
        let ring = ethtool.get_ringparam().expect("has rings");
        assert_eq!((ring.rx, ring.tx), ((4096, got), (4096, got)));
        pair.settle();
        let _old = recv_all(&mut pair.b.cx, b);
        send(&mut pair.a.cx, a, (B, 7), b"after").expect("sent");
        pair.settle();
        assert_eq!(recv_all(&mut pair.b.cx, b), [b"after"]);
    }
    pair.end()
}

stepped!(the_walk_passes_the_drivers_stations_and_crosses_the_wire);
fn the_walk_passes_the_drivers_stations_and_crosses_the_wire() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    pair.acquaint();
    let a = bound(&mut pair.a.cx, 1000);
    let _b = bound(&mut pair.b.cx, 7);
    for host in [&pair.a, &pair.b] {
        let _so_far = host.m.tracer.take();
        host.m.tracer.start(pcap_filter::compile("udp").ok());
    }
    send(&mut pair.a.cx, a, (B, 7), b"watched").expect("sent");
    pair.settle();
    let (sent, _) = pair.a.m.tracer.take();
    let (got, _) = pair.b.m.tracer.take();
    let xmit = sent.iter().find(|r| r.point == Point::igb_xmit_frame).expect("watched");
    let points = |records: &[stack::kernel::trace::Record], packet: bool| -> Vec<&str> {
        let of = records.iter().filter(|r| packet == (r.id == xmit.id));
        of.map(|r| r.point.name()).collect()
    };
    let order = |points: &[&str], wanted: &[&str]| {
        let mut rest = points.iter();
        for point in wanted {
            assert!(rest.any(|p| p == point), "{point} is not in its place: {points:?}");
        }
    };
    let on_packet =
        ["igb_xmit_frame", "igb_xmit_frame_ring", "igb_tx_csum", "igb_tx_map", "consume_skb"];
    order(&points(&sent, true), &on_packet);
    let completion =
        ["igb_msix_ring", "igb_write_itr", "napi_schedule", "igb_poll", "igb_clean_tx_irq"];
    order(&points(&sent, false), &completion);
    let poll = ["igb_msix_ring", "igb_poll", "igb_clean_tx_irq", "igb_clean_rx_irq"];
    order(&points(&got, false), &poll);
    // The same id: it came along beside the frame.
    order(&points(&got, true), &["link_span", "eth_type_trans", "napi_gro_receive", "ip_rcv"]);
    for host in [&pair.a, &pair.b] {
        host.m.tracer.stop();
    }
    pair.end()
}
