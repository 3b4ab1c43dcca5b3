//! A device with several transmit queues: `mq`, its classes, and which queue a packet takes.

use crate::lone::LOCAL;
use crate::testdev::{TestDev, frame};
use crate::util::{Pair, addr, connect, udp};
use klib::bitmap::CpuMask;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::sched::TaskStruct;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{NetDevice, netif_set_xps_queue, xps_cpus_show};
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::sched::sch_generic::qdisc_run;
use stack::net::socket::sys_sendto;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::errno::Errno;

fn send(world: &mut World, cx: &mut TaskCx, fd: i32) {
    let to = addr(frame::PEER, 9);
    let mut op = sys_sendto(fd, b"x", 0, Some(&to));
    let sent = world.block_on(cx, &mut op, Duration::from_secs(1));
    assert_eq!(sent, Some(Ok(1)));
}

stepped!(mq_sums_what_its_classes_count);
fn mq_sums_what_its_classes_count() -> Digest {
    let mut world = World::recorded(131);
    let machine = world.machine(&MachineSpec { cpus: 2, ..MachineSpec::default() });
    let mut cx = world.task_cx(&machine, CpuId(0));
    let test = TestDev::with_queues(&mut cx, LOCAL, 3, 2);
    let dev = test.dev();
    let key = NeighKey { dev: dev.ifindex, addr: frame::PEER.into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(&mut cx, key, frame::PEER_MAC, state).expect("room for one");
    let root = dev.root_qdisc();
    assert_eq!(root.id(), "mq");
    assert_eq!(
        root.classes().iter().map(|class| class.id()).collect::<Vec<_>>(),
        ["pfifo_fast"; 2]
    );
    for (class, queue) in root.classes().iter().zip(&dev.tx_queues) {
        assert!(Arc::ptr_eq(class, queue.qdisc()), "a class is a queue's own discipline");
    }
    (0..2).for_each(|queue| dev.netif_stop_subqueue(queue));
    // Each CPU has its queue: two packets by one, six by the other, which holds three and the one
    // that it was given back.
    let mut tasks: Vec<TaskCx> =
        machine.cpu_ids().map(|cpu| world.task_cx(&machine, cpu)).collect();
    for (task, count) in tasks.iter_mut().zip([2, 6]) {
        let fd = udp(task, LOCAL, 0);
        (0..count).for_each(|_| send(&mut world, task, fd));
    }
    let lens: Vec<u32> = root.classes().iter().map(|class| class.qlen()).collect();
    assert_eq!((lens.as_slice(), root.qlen()), (&[2, 4][..], 6));
    let drops: Vec<u64> = root.classes().iter().map(|class| class.drops()).collect();
    assert_eq!((drops.as_slice(), root.drops()), (&[0, 2][..], 2));
    assert_eq!(machine.mib().drops(DropReason::QdiscDrop), 2);
    assert_eq!(root.requeues(), 2, "the first on each");
    test.busy.store(1, Ordering::Relaxed);
    cx.enter_call();
    cx.local_bh_disable(|bh| (0..2).for_each(|queue| dev.netif_wake_subqueue(bh, queue)));
    world.settle();
    assert_eq!(test.sent().len(), 6);
    assert_eq!((root.qlen(), root.requeues()), (0, 3));
    for task in tasks.iter_mut().chain([&mut cx]) {
        exit_files(task);
    }
    drop((tasks, cx));
    world.end()
}

stepped!(a_device_has_mq_when_it_has_queues_to_choose_from);
fn a_device_has_mq_when_it_has_queues_to_choose_from() -> Digest {
    let ids = |pair: &Pair| {
        let tables = pair.a.tables();
        let devs = tables.net.devs.iter().flatten();
        devs.map(|dev| (dev.root_qdisc().id(), dev.root_qdisc().classes().len()))
            .collect::<Vec<_>>()
    };
    let several = Pair::igb(132, LinkSpec::Wire, 4);
    assert_eq!(ids(&several), [("noqueue", 0), ("mq", 4)]);
    let one = Pair::igb(133, LinkSpec::Wire, 1);
    assert_eq!(ids(&one), [("noqueue", 0), ("pfifo_fast", 0)]);
    let mut bare = World::recorded(134);
    let machine = bare.machine(&MachineSpec::default());
    let mut cx = bare.task_cx(&machine, CpuId(0));
    let queueless = TestDev::with_queues(&mut cx, LOCAL, 0, 4).dev();
    assert_eq!((queueless.root_qdisc().id(), queueless.tx_queues.len()), ("noqueue", 4));
    drop((cx, queueless));
    [several.end(), one.end(), bare.end()].into_iter().collect()
}

/// A device of four queues on two CPUs, whose packets stay in the queues; how many each has.
fn stopped(world: &mut World, machine: &Arc<stack::kernel::machine::Machine>) -> Arc<NetDevice> {
    let mut cx = world.task_cx(machine, CpuId(0));
    let dev = TestDev::with_queues(&mut cx, LOCAL, 100, 4).dev();
    let key = NeighKey { dev: dev.ifindex, addr: frame::PEER.into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(&mut cx, key, frame::PEER_MAC, state).expect("room for one");
    (0..4).for_each(|queue| dev.netif_stop_subqueue(queue));
    dev
}

fn lens(dev: &NetDevice) -> Vec<u32> {
    dev.root_qdisc().classes().iter().map(|class| class.qlen()).collect()
}

stepped!(xps_names_the_queues_of_a_cpu);
fn xps_names_the_queues_of_a_cpu() -> Digest {
    let mut world = World::recorded(135);
    let machine = world.machine(&MachineSpec { cpus: 2, ..MachineSpec::default() });
    let dev = stopped(&mut world, &machine);
    let mut tasks: Vec<TaskCx> =
        machine.cpu_ids().map(|cpu| world.task_cx(&machine, cpu)).collect();
    let cx = &mut tasks[0];
    let mask = CpuMask::from_bits;
    assert_eq!(netif_set_xps_queue(cx, &dev, mask(1), 4), Err(Errno::ENOENT));
    netif_set_xps_queue(cx, &dev, mask(0b1101), 3).expect("a queue");
    assert_eq!(xps_cpus_show(cx, &dev, 3), Ok(mask(0b01)), "the CPUs that there are");
    netif_set_xps_queue(cx, &dev, mask(0b10), 1).expect("a queue");
    netif_set_xps_queue(cx, &dev, mask(0b10), 2).expect("a queue");
    for (task, count) in tasks.iter_mut().zip([1, 40]) {
        for _ in 0..count {
            // A flow each.
            let fd = udp(task, LOCAL, 0);
            send(&mut world, task, fd);
        }
    }
    let now = lens(&dev);
    assert_eq!((now[0], now[3], now[1] + now[2]), (0, 1, 40));
    assert!(now[1] > 8 && now[2] > 8, "several queues share a CPU's flows: {now:?}");
    (0..4).for_each(|queue| dev.netif_start_subqueue(queue));
    tasks[0].enter_call();
    tasks[0].local_bh_disable(|bh| dev.tx_queues.iter().for_each(|txq| qdisc_run(bh, txq.qdisc())));
    tasks.iter_mut().for_each(exit_files);
    drop(tasks);
    world.end()
}

stepped!(a_connected_socket_stays_with_its_queue);
fn a_connected_socket_stays_with_its_queue() -> Digest {
    let mut world = World::recorded(136);
    let machine = world.machine(&MachineSpec { cpus: 2, ..MachineSpec::default() });
    let dev = stopped(&mut world, &machine);
    let mut first = world.task_cx(&machine, CpuId(0));
    let files = Arc::clone(first.task().files());
    let mut second =
        TaskCx::new(&machine, TaskStruct::with_files("second", CpuId(1), Arc::clone(&files)));
    let (free, bound) = (udp(&mut first, LOCAL, 0), udp(&mut first, LOCAL, 0));
    connect(&mut first, bound, &addr(frame::PEER, 9)).expect("a route");
    for fd in [free, bound] {
        send(&mut world, &mut first, fd);
        send(&mut world, &mut second, fd);
    }
    // The free one's go by the CPU they are sent from.
    assert_eq!(lens(&dev), [3, 1, 0, 0]);
    // Connected anew it chooses again.
    connect(&mut second, bound, &addr(frame::PEER, 10)).expect("a route");
    send(&mut world, &mut second, bound);
    send(&mut world, &mut first, bound);
    assert_eq!(lens(&dev), [3, 3, 0, 0]);
    (0..4).for_each(|queue| dev.netif_start_subqueue(queue));
    first.enter_call();
    first.local_bh_disable(|bh| dev.tx_queues.iter().for_each(|txq| qdisc_run(bh, txq.qdisc())));
    exit_files(&mut first);
    drop((first, second, files));
    world.end()
}
