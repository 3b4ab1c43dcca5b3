//! What a batch of packets shares: the sender's half of the ring, the byte limit, the doorbell.

use super::*;
use stack::net::core::dev::{dev_queue_xmit_one, tx::NetXmit};
use stack::net::core::skbuff::netdev_alloc_skb;

/// A broadcast frame of `len` bytes.
fn frame(bh: &mut BhCx<'_>, dev: &NetDevice, len: usize) -> Skb {
    let mut skb = netdev_alloc_skb(bh, dev.ifindex, len).expect("memory");
    let frame = skb.skb_put(len).expect("room");
    frame.fill(0xFF);
    frame[12..14].copy_from_slice(&0x88B5_u16.to_be_bytes());
    skb
}

/// Gives the driver a frame; false when the ring is full.
fn xmit(bh: &mut BhCx<'_>, dev: &Arc<NetDevice>, queue: u16, len: usize) -> bool {
    let skb = frame(bh, dev, len);
    match dev.ops.ndo_start_xmit(bh, dev, queue, skb) {
        Ok(()) => true,
        Err(skb) => {
            consume_skb(bh, skb);
            false
        }
    }
}

stepped!(two_queues_in_one_batch_lose_nothing);
fn two_queues_in_one_batch_lose_nothing() -> u64 {
    let mut pair = Pair::new(cpus(2), ONE());
    let before = pair.b.stat("rx_packets");
    let dev = Arc::clone(&pair.a.dev);
    for round in 0..20 {
        pair.a.cx.local_bh_disable(|bh| {
            // Each packet finds the other queue's sender where it looks for its own.
            assert!((0..40).all(|n| xmit(bh, &dev, n % 2, 100)));
            for queue in [round % 2, 1 - round % 2] {
                dev.ops.ndo_xmit_flush(bh, &dev, queue);
                dev.ops.ndo_xmit_flush(bh, &dev, queue);
            }
        });
        pair.settle();
    }
    assert_eq!(pair.b.stat("rx_packets") - before, 800);
    assert_eq!(pair.a.m.live_skbs(), 0, "all have ended");
    pair.end()
}

stepped!(a_ring_that_a_batch_fills_opens_again);
fn a_ring_that_a_batch_fills_opens_again() -> u64 {
    let small = IgbOptions { tx_ring: 80, itr: 0, ..IgbOptions::default() };
    let mut pair = Pair::new(Setup { options: small, ..ONE() }, ONE());
    let before = pair.b.stat("rx_packets");
    let dev = Arc::clone(&pair.a.dev);
    let mut sent = 0;
    for _ in 0..10 {
        pair.a.cx.local_bh_disable(|bh| {
            let fit = (0..200).take_while(|_| xmit(bh, &dev, 0, 60)).count();
            // All but what a packet may need at most, and the gap.
            assert!((70..80).contains(&fit), "{fit}");
            assert!(dev.tx_queues[0].stopped());
            sent += fit as u64;
            dev.ops.ndo_xmit_flush(bh, &dev, 0);
        });
        pair.settle();
        assert!(!dev.tx_queues[0].stopped());
    }
    assert_eq!(pair.b.stat("rx_packets") - before, sent);
    pair.end()
}

stepped!(the_byte_limit_closes_a_queue_within_a_frame);
fn the_byte_limit_closes_a_queue_within_a_frame() -> u64 {
    let mut pair = Pair::new(ONE(), ONE());
    pair.a.bus.hold_doorbells();
    let dev = Arc::clone(&pair.a.dev);
    let limit = dev.tx_queues[0].bql.limit() as usize;
    let last = pair.a.cx.local_bh_disable(|bh| {
        let open = |_: &usize| !dev.tx_queues[0].stopped();
        let fit = (0..250).take_while(open).filter(|_| xmit(bh, &dev, 0, 200)).count();
        dev.ops.ndo_xmit_flush(bh, &dev, 0);
        fit * 200
    });
    assert!((limit..limit + 1514 + 200).contains(&last), "{last} bytes, and the limit is {limit}");
    pair.a.bus.release_doorbells();
    pair.settle();
    assert!(!dev.tx_queues[0].stopped(), "what was sent is known to have been queued");
    pair.end()
}

// Threads are as they are: not twice.
#[test]
fn senders_and_cleaner_on_two_threads_do_not_miss_each_other() {
    // One queue, cleaned on CPU 0 and filled from both, in a ring that is full most of the time.
    let small = IgbOptions { tx_ring: 80, queues: Some(1), itr: 0, ..IgbOptions::default() };
    let mut pair = Pair::new(Setup { options: small, ..cpus(2) }, ONE());
    let before = pair.a.stat("tx_queue_0_packets");
    let dev = Arc::clone(&pair.a.dev);
    let mut task = pair.a.task(1);
    let machine = Arc::clone(&pair.a.m);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            for _ in 0..2000 {
                sent += task.local_bh_disable(|bh| {
                    let all = 0..40;
                    let sent = all.filter(|_| {
                        let skb = frame(bh, &dev, 60);
                        dev_queue_xmit_one(bh, skb, &dev) == NetXmit::Success
                    });
                    sent.count() as u64
                });
            }
            sent
        });
        while !sender.is_finished() {
            machine.run_cpu(CpuId(0));
        }
        sender.join().expect("the sender ends")
    });
    pair.settle();
    let queue = &dev.tx_queues[0];
    assert!(!queue.stopped() && queue.qdisc().qlen() == 0, "stopped for good");
    assert!(sent > 1000, "{sent}");
    assert_eq!(pair.a.stat("tx_queue_0_packets") - before, sent);
    let _as_it_came = pair.end();
}
