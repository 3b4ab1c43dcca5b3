//! The link goes and comes; the device goes down and up.

use super::*;
use hw::wire::Carrier;
use stack::net::core::dev::device::{dev_set_mac_address, dev_set_promiscuity};

stepped!(the_carrier_follows_the_cable_and_traffic_resumes);
fn the_carrier_follows_the_cable_and_traffic_resumes() -> u64 {
    let mut pair = Pair::new(cpus(2), cpus(2));
    pair.acquaint();
    let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
    for round in 0..3_u8 {
        pair.wire.set_carrier(Carrier::Down);
        pair.settle();
        assert!(!pair.a.dev.carrier() && !pair.b.dev.carrier());
        assert!(pair.a.dev.tx_queues.iter().all(|queue| queue.stopped()));
        for n in 0..10 {
            send(&mut pair.a.cx, a, (B, 7), &[round, n]).expect("queued");
        }
        pair.settle();
        assert!(recv_all(&mut pair.b.cx, b).is_empty());
        pair.wire.set_carrier(Carrier::Up);
        pair.settle();
        assert!(pair.a.dev.carrier() && pair.b.dev.carrier());
        let queued: Vec<Vec<u8>> = (0..10).map(|n| vec![round, n]).collect();
        assert_eq!(recv_all(&mut pair.b.cx, b), queued, "what waited in the qdisc goes");
    }
    pair.end()
}

stepped!(a_device_that_opens_without_a_partner_gets_its_carrier_later);
fn a_device_that_opens_without_a_partner_gets_its_carrier_later() -> u64 {
    let mut pair = Pair::cold(ONE(), ONE());
    pair.wire.set_carrier(Carrier::Down);
    pair.a.up(A);
    pair.b.up(B);
    pair.settle();
    assert!(!pair.a.dev.carrier());
    pair.wire.set_carrier(Carrier::Up);
    pair.settle();
    pair.acquaint();
    pair.end()
}

stepped!(closing_under_traffic_leaves_nothing_and_opening_goes_on);
fn closing_under_traffic_leaves_nothing_and_opening_goes_on() -> u64 {
    let mut pair = Pair::new(cpus(2), cpus(2));
    pair.acquaint();
    let a = bound(&mut pair.a.cx, 1000);
    let b = bound(&mut pair.b.cx, 7);
    for held in [false, true, false, true] {
        if held {
            pair.a.bus.hold_doorbells();
        }
        for n in 0..60_u8 {
            send(&mut pair.a.cx, a, (B, 7), &[n]).expect("sent");
        }
        // Packets in the rings of both, interrupts pending.
        dev_close(&mut pair.a.cx, &pair.a.dev);
        dev_close(&mut pair.b.cx, &pair.b.dev);
        pair.a.bus.drop_doorbells();
        pair.settle();
        recv_all(&mut pair.b.cx, b);
        pair.a.cx.flush();
        pair.b.cx.flush();
        assert_eq!((pair.a.m.live_skbs(), pair.b.m.live_skbs()), (0, 0));
        dev_open(&mut pair.a.cx, &pair.a.dev).expect("opens again");
        dev_open(&mut pair.b.cx, &pair.b.dev).expect("opens again");
        pair.settle();
        send(&mut pair.a.cx, a, (B, 7), b"reopened").expect("sent");
        pair.settle();
        assert_eq!(recv_all(&mut pair.b.cx, b), [b"reopened"]);
    }
    pair.end()
}

stepped!(a_closed_device_holds_no_dma_memory);
fn a_closed_device_holds_no_dma_memory() -> u64 {
    let mut pair = Pair::new(cpus(2), ONE());
    pair.a.bus.memory.lock().unwrap().clear();
    assert_ne!(pair.a.nic.space().used(), 0);
    dev_close(&mut pair.a.cx, &pair.a.dev);
    assert_eq!(pair.a.nic.space().used(), 0);
    pair.end()
}

#[test]
fn a_device_without_memory_does_not_open_and_leaves_nothing() {
    let world = Arc::new(World { now: AtomicU64::new(1), ..World::default() });
    let (end, _outside) = WireEnd::open(16);
    let nic = I82576::new([2, 0, 0, 0, 0, 1], Arc::new(end), DmaSpace::new(1 << 20));
    let init = igb_init_module(vec![Arc::clone(&nic) as Arc<dyn PciDev>], IgbOptions::default());
    let platform = Box::new(TestPlatform(world));
    let m = Machine::builder().module_init(init).boot(platform).expect("boots");
    let mut cx = TaskCx::new(&m, TaskStruct::new("test", CpuId(0)));
    let dev = m.tables().net.dev_by_name("eth0").cloned().expect("registered");
    assert_eq!(dev_open(&mut cx, &dev), Err(Errno::ENOMEM));
    assert!(!dev.up());
    assert_eq!(nic.space().used(), 0);
    assert_eq!(m.tables().irqs.iter().flatten().count(), 0);
}

#[test]
fn a_machine_that_goes_away_takes_its_device_down() {
    let mut pair = Pair::new(cpus(2), ONE());
    pair.acquaint();
    pair.a.bus.hold_doorbells();
    let fd = bound(&mut pair.a.cx, 1000);
    send(&mut pair.a.cx, fd, (B, 7), b"never sent").expect("sent");
    let Pair { a: Host { m, cx, dev, nic, bus, .. }, b, .. } = pair;
    bus.memory.lock().unwrap().clear();
    drop((cx, dev));
    drop(m);
    assert_eq!(nic.space().used(), 0, "its memory is unmapped");
    assert!(bus.lines.lock().unwrap().is_empty(), "and its interrupts are off");
    assert_eq!(Arc::strong_count(&bus), 1, "no handler keeps it");
    drop(b);
}

stepped!(another_address_is_answered_and_promiscuity_shows_others_frames);
fn another_address_is_answered_and_promiscuity_shows_others_frames() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    dev_set_mac_address(&mut pair.b.cx, &pair.b.dev, [2, 0, 0, 0, 0, 0x77]).expect("unicast");
    pair.acquaint();
    let fd = bound(&mut pair.a.cx, 1000);
    let tap = pair.b.tap();
    // A keeps sending to the address B has left.
    dev_set_mac_address(&mut pair.b.cx, &pair.b.dev, [2, 0, 0, 0, 0, 0x78]).expect("unicast");
    let before = pair.b.stat("rx_packets");
    send(&mut pair.a.cx, fd, (B, 7), b"filtered").expect("sent");
    pair.settle();
    assert_eq!(pair.b.stat("rx_packets"), before);
    dev_set_promiscuity(&mut pair.b.cx, &pair.b.dev, 1);
    send(&mut pair.a.cx, fd, (B, 7), b"overheard").expect("sent");
    pair.settle();
    assert_eq!(tap.seen().len(), 1);
    dev_set_promiscuity(&mut pair.b.cx, &pair.b.dev, -1);
    send(&mut pair.a.cx, fd, (B, 7), b"filtered").expect("sent");
    pair.settle();
    assert!(tap.seen().is_empty());
    pair.end()
}
