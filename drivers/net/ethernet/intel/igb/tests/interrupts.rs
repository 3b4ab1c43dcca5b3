//! MSI-X and what it falls back to; interrupts during polls.

use super::*;
use klib::bitmap::CpuMask;
use stack::kernel::trace::events::Point;
use stack::net::core::ethtool::Coalesce;
use std::sync::atomic::AtomicBool;

fn names(host: &Host) -> Vec<String> {
    host.m.tables().irqs.iter().flatten().map(|desc| desc.name.clone()).collect()
}

stepped!(one_vector_a_queue_pair_and_one_for_the_link);
fn one_vector_a_queue_pair_and_one_for_the_link() -> u64 {
    let mut pair = Pair::new(cpus(2), ONE());
    assert_eq!(names(&pair.a), ["eth0", "eth0-TxRx-0", "eth0-TxRx-1"]);
    for n in 0..2 {
        let line = pair.a.bus.line(n + 1);
        assert_eq!(line.desc().expect("the machine's").affinity().bits(), 1 << n);
    }
    pair.acquaint();
    dev_close(&mut pair.a.cx, &pair.a.dev);
    assert!(names(&pair.a).is_empty());
    assert!(pair.a.bus.lines.lock().unwrap().is_empty());
    pair.end()
}

stepped!(without_msix_one_message_serves_and_without_that_the_pin);
fn without_msix_one_message_serves_and_without_that_the_pin() -> Vec<u64> {
    let mut digests = Vec::new();
    for refuse_msi in [false, true] {
        let plain = Setup { refuse_msix: true, refuse_msi, ..cpus(4) };
        let mut pair = Pair::new(plain, plain);
        assert_eq!(pair.a.dev.tx_queues.len(), 1);
        assert_eq!(names(&pair.a), ["eth0"]);
        pair.a.m.tracer.start(None);
        pair.acquaint();
        pair.a.m.tracer.stop();
        let (records, _) = pair.a.m.tracer.take();
        let handler = if refuse_msi { Point::igb_intr } else { Point::igb_intr_msi };
        assert!(records.iter().any(|record| record.point == handler));
        let (a, b) = (bound(&mut pair.a.cx, 1000), bound(&mut pair.b.cx, 7));
        for n in 0..50_u8 {
            send(&mut pair.a.cx, a, (B, 7), &[n]).expect("sent");
            pair.settle();
            assert_eq!(recv_all(&mut pair.b.cx, b), [[n]]);
        }
        // The link's changes come the same way.
        pair.wire.set_carrier(hw::wire::Carrier::Down);
        pair.settle();
        assert!(!pair.a.dev.carrier());
        pair.wire.set_carrier(hw::wire::Carrier::Up);
        pair.settle();
        assert!(pair.a.dev.carrier());
        digests.push(pair.end());
    }
    digests
}

stepped!(a_bus_that_refuses_msix_only_when_it_matters_leaves_one_queue);
fn a_bus_that_refuses_msix_only_when_it_matters_leaves_one_queue() -> u64 {
    let mut pair = Pair::cold(cpus(4), ONE());
    assert_eq!(pair.a.dev.tx_queues.len(), 4);
    pair.a.bus.refuse_msix.store(true, Ordering::SeqCst);
    pair.a.up(A);
    pair.b.up(B);
    pair.settle();
    assert_eq!(names(&pair.a), ["eth0"]);
    pair.acquaint();
    let mut task = pair.a.task(3);
    let fd = bound(&mut task, 1000);
    let b = bound(&mut pair.b.cx, 7);
    send(&mut task, fd, (B, 7), b"from CPU 3").expect("sent");
    pair.settle();
    assert_eq!(recv_all(&mut pair.b.cx, b), [b"from CPU 3"]);
    exit_files(&mut task);
    drop(task);
    pair.end()
}

/// On the first packet, an interrupt of the polled vector is taken on the other CPU.
struct Interrupter {
    line: stack::kernel::irq::IrqLine,
    done: AtomicBool,
}

impl PacketTap for Interrupter {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _dev: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        consume_skb(cx, skb);
        if !self.done.swap(true, Ordering::SeqCst) {
            let desc = self.line.desc().expect("the machine's");
            desc.set_affinity(CpuMask::from_bits(2)).expect("there are two");
            self.line.raise();
            let m = cx.machine();
            std::thread::scope(|scope| {
                scope.spawn(|| m.run_cpu(CpuId(1)));
            });
        }
    }
}

stepped!(an_interrupt_during_a_poll_makes_it_poll_again);
fn an_interrupt_during_a_poll_makes_it_poll_again() -> u64 {
    let one_queue = IgbOptions { queues: Some(1), itr: 0, ..IgbOptions::default() };
    let mut pair = Pair::new(ONE(), Setup { options: one_queue, ..cpus(2) });
    pair.acquaint();
    let a = bound(&mut pair.a.cx, 1000);
    let b = bound(&mut pair.b.cx, 7);
    let tap = Arc::new(Interrupter { line: pair.b.bus.line(1), done: AtomicBool::new(false) });
    let func = PacketFunc::Tap(tap as Arc<dyn PacketTap>);
    let kind = uapi::if_ether::ETH_P_ALL;
    dev_add_pack(&mut pair.b.cx, PacketType { kind, dev: None, func });
    let _so_far = pair.b.m.tracer.take();
    pair.b.m.tracer.start(None);
    send(&mut pair.a.cx, a, (B, 7), b"one").expect("sent");
    pair.settle();
    pair.b.m.tracer.stop();
    let (records, _) = pair.b.m.tracer.take();
    let count = |point| records.iter().filter(|record| record.point == point).count();
    assert_eq!(count(Point::igb_msix_ring), 2);
    assert_eq!(count(Point::igb_poll), 2, "the second interrupt was missed, and made up for");
    let polls: Vec<u8> =
        records.iter().filter(|r| r.point == Point::igb_poll).map(|r| r.cpu).collect();
    assert_eq!(polls, [0, 0], "the one who polls goes on");
    assert_eq!(recv_all(&mut pair.b.cx, b), [b"one"]);
    pair.one_more(4000);
    pair.end()
}

stepped!(coalescing_is_set_within_bounds);
fn coalescing_is_set_within_bounds() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    let ethtool = pair.a.dev.ethtool.clone().expect("has ethtool");
    for (rx_usecs, tx_usecs) in [(2, 0), (5, 0), (10_001, 0), (100, 100)] {
        let set = ethtool.set_coalesce(&mut pair.a.cx, Coalesce { rx_usecs, tx_usecs });
        assert_eq!(set, Err(Errno::EINVAL), "{rx_usecs} {tx_usecs}");
    }
    for rx_usecs in [0, 1, 3, 10, 10_000, 0] {
        let coalesce = Coalesce { rx_usecs, tx_usecs: 0 };
        ethtool.set_coalesce(&mut pair.a.cx, coalesce).expect("within bounds");
        assert_eq!(ethtool.get_coalesce(), Ok(coalesce));
    }
    assert_eq!(ethtool.get_drvinfo().driver, "igb");
    assert_eq!(ethtool.get_link_settings().speed, Some(1000));
    pair.acquaint();
    pair.end()
}
