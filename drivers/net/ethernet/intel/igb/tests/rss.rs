//! The indirection table, changed under traffic.

use super::*;
use klib::bitmap::CpuMask;
use stack::net::core::dev::store_rps_map;
use stack::net::core::ethtool::{
    RxfhFields, RxfhIndir, ethtool_get_rxfh, ethtool_set_rxfh, ethtool_set_rxfh_fields,
};

fn set(host: &mut Host, indir: RxfhIndir) -> Result<(), Errno> {
    let dev = Arc::clone(&host.dev);
    ethtool_set_rxfh(&mut host.cx, &dev, indir, None)
}

fn packets(host: &Host, queues: usize) -> Vec<u64> {
    (0..queues).map(|queue| host.stat(&format!("rx_queue_{queue}_packets"))).collect()
}

stepped!(the_table_is_read_and_set_as_ethtool_does);
fn the_table_is_read_and_set_as_ethtool_does() -> u64 {
    let mut pair = Pair::new(ONE(), cpus(4));
    pair.acquaint();
    let indir = |pair: &Pair| ethtool_get_rxfh(&pair.b.dev).expect("it has one").indir;
    let even: Vec<u32> = (0..128).map(|n| n / 32).collect();
    assert_eq!(indir(&pair), even, "as the driver spreads at first");
    for (of, wanted) in [
        (RxfhIndir::Default, (0..128).map(|n| n % 4).collect::<Vec<u32>>()),
        (RxfhIndir::Equal(1), vec![0; 128]),
        (RxfhIndir::Weights(vec![0, 0, 1]), vec![2; 128]),
    ] {
        set(&mut pair.b, of.clone()).expect("queues that there are");
        assert_eq!(indir(&pair), wanted, "{of:?}");
    }
    let before = packets(&pair.b, 4);
    pair.one_more(77);
    let after = packets(&pair.b, 4);
    assert_eq!(after[2] - before[2], 1, "{before:?} {after:?}");
    assert_eq!(set(&mut pair.b, RxfhIndir::Equal(5)), Err(Errno::EINVAL), "there are four");
    let short = ethtool_set_rxfh(
        &mut pair.b.cx,
        &Arc::clone(&pair.b.dev),
        RxfhIndir::Keep,
        Some(vec![1; 39]),
    );
    assert_eq!(short, Err(Errno::EINVAL));
    // It outlives the device's way down and up.
    let dev = Arc::clone(&pair.b.dev);
    dev_close(&mut pair.b.cx, &dev);
    set(&mut pair.b, RxfhIndir::Weights(vec![0, 1])).expect("for when it is up");
    dev_open(&mut pair.b.cx, &dev).expect("opens");
    pair.settle();
    let before = packets(&pair.b, 4);
    pair.one_more(78);
    let after = packets(&pair.b, 4);
    assert_eq!(after[1] - before[1], 1, "{before:?} {after:?}");
    pair.end()
}

/// Sends numbers without letting the other side run; those of a flow that is always the same.
fn numbers(pair: &mut Pair, fd: i32, numbers: std::ops::Range<u8>) {
    for number in numbers {
        send(&mut pair.a.cx, fd, (B, 7), &[number]).expect("sent");
    }
    pair.a.run_out();
}

/// Runs CPUs in the worst order: those whose packets came last first.
fn run_backwards(host: &Host) {
    let cpus: Vec<_> = host.m.cpu_ids().collect();
    for cpu in cpus.into_iter().rev() {
        while host.m.run_cpu(cpu).pending {}
    }
}

stepped!(flows_that_move_to_another_queue_stay_in_order);
fn flows_that_move_to_another_queue_stay_in_order() -> u64 {
    let mut pair = Pair::new(ONE(), cpus(4));
    pair.acquaint();
    let (from, to) = (bound(&mut pair.a.cx, 5000), bound(&mut pair.b.cx, 7));
    let dev = Arc::clone(&pair.b.dev);
    let mut next = 0;
    for round in 0..12_u32 {
        // Now and then packets wait in another CPU's backlog, too.
        let map = CpuMask::from_bits(u64::from(round % 3 == 0) * 0b1000);
        (0..4).for_each(|queue| {
            store_rps_map(&mut pair.b.cx, &dev, queue, map).expect("a queue");
        });
        set(&mut pair.b, RxfhIndir::Table(vec![round % 4; 128])).expect("a queue");
        numbers(&mut pair, from, next..next + 3);
        if round % 2 == 0 {
            pair.b.m.run_cpu(CpuId((round % 4) as u8));
        }
        next += 3;
    }
    run_backwards(&pair.b);
    pair.settle();
    let got: Vec<u8> = recv_all(&mut pair.b.cx, to).into_iter().map(|data| data[0]).collect();
    assert_eq!(got, (0..next).collect::<Vec<_>>());
    pair.end()
}

stepped!(another_key_and_other_fields_keep_the_order_too);
fn another_key_and_other_fields_keep_the_order_too() -> u64 {
    let mut pair = Pair::new(ONE(), cpus(4));
    pair.acquaint();
    let to = bound(&mut pair.b.cx, 7);
    let flows: Vec<i32> = (0..24).map(|n| bound(&mut pair.a.cx, 5000 + n)).collect();
    let dev = Arc::clone(&pair.b.dev);
    (0..4).for_each(|queue| {
        store_rps_map(&mut pair.b.cx, &dev, queue, CpuMask::from_bits(0b1111)).expect("a queue");
    });
    let spread = |pair: &Pair| packets(&pair.b, 4).iter().filter(|count| **count > 2).count();
    let mut next = [0; 24];
    for round in 0..10_u8 {
        read_in_order(&mut pair.b.cx, to, &mut next);
        if round % 2 == 0 {
            let fields = RxfhFields { udp4_ports: round % 4 == 0 };
            ethtool_set_rxfh_fields(&mut pair.b.cx, &dev, fields).expect("igb can");
        } else {
            let key = (0..40_u8).map(|n| n.wrapping_mul(37) ^ round).collect();
            let indir = if round % 4 == 1 { RxfhIndir::Equal(1) } else { RxfhIndir::Default };
            ethtool_set_rxfh(&mut pair.b.cx, &dev, indir, Some(key)).expect("a key");
        }
        for number in 0..2 {
            flows
                .iter()
                .for_each(|fd| numbers(&mut pair, *fd, 2 * round + number..2 * round + number + 1));
        }
    }
    run_backwards(&pair.b);
    pair.settle();
    assert!(spread(&pair) >= 3, "ports spread one host's flows: {:?}", packets(&pair.b, 4));
    read_in_order(&mut pair.b.cx, to, &mut next);
    assert_eq!(next, [20; 24]);
    pair.end()
}

/// Reads what is there: the numbers of each flow come in order.
fn read_in_order(cx: &mut TaskCx, fd: i32, next: &mut [u8]) {
    while let Some((data, sender)) = recv(cx, fd) {
        let flow = usize::from(sender.port - 5000);
        assert_eq!(data[0], next[flow], "flow {flow}");
        next[flow] += 1;
    }
}
