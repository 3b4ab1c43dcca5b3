//! Packets steered to other CPUs by software: by hash, and to where their reader is.

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::{addr, connect, udp};
use klib::bitmap::CpuMask;
use sim::{Digest, MachineSpec};
use stack::fs::exit_files;
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::sched::TaskStruct;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{
    flush_all_backlogs, rps_sock_flow_sysctl, show_rps_dev_flow_table_cnt, show_rps_map,
    store_rps_dev_flow_table_cnt, store_rps_map,
};
use stack::net::core::skbuff::Skb;
use stack::net::core::sock::MIN_NAPI_ID;
use stack::net::netfilter::{NfHook, NfHookState, NfInetHook, Verdict, nf_register_hook};
use stack::net::socket::{
    sys_bind, sys_getsockopt, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::{
    AF_INET, MSG_DONTWAIT, SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_REUSEPORT, SOCK_DGRAM,
    SOL_SOCKET,
};

fn lone(cpus: u8) -> Lone {
    let lone = Lone::with(MachineSpec { cpus, ..MachineSpec::default() }, 1000);
    lone.dev.together.store(true, Ordering::Relaxed);
    lone.dev.irq_affinity(0);
    lone
}

/// Datagrams of a flow, by its port, that carry numbers.
fn datagrams(port: u16, numbers: impl IntoIterator<Item = u8>) -> impl Iterator<Item = Vec<u8>> {
    numbers.into_iter().map(move |number| {
        let datagram = frame::udp((frame::PEER, port), (LOCAL, 7), &[number]);
        frame::ether(TestDev::MAC, 0x0800, &datagram)
    })
}

impl Lone {
    fn rps(&mut self, cpus: u64) {
        let dev = self.dev.dev();
        store_rps_map(&mut self.cx, &dev, 0, CpuMask::from_bits(cpus)).expect("a queue");
    }

    /// Runs the CPU that takes the interrupts, and no other.
    fn first_cpu(&self) {
        self.machine.run_cpu(CpuId(0));
    }

    fn numbers(&mut self, fd: i32) -> Vec<u8> {
        self.recv_all(fd).into_iter().map(|data| data[0]).collect()
    }
}

stepped!(a_packet_is_handed_to_the_cpu_that_the_map_names);
fn a_packet_is_handed_to_the_cpu_that_the_map_names() -> Digest {
    let mut lone = lone(2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.rps(0b10);
    lone.world.watch(None);
    lone.dev.deliver(datagrams(5000, [1]));
    lone.world.settle();
    golden::check(&lone.world, "rps");
    assert_eq!(lone.numbers(fd), [1]);
    let stat = lone.machine.softnet_stat();
    assert_eq!((stat[0].processed, stat[1].processed), (0, 1));
    assert_eq!((stat[0].received_rps, stat[1].received_rps), (0, 1));
    lone.end()
}

stepped!(a_batch_for_a_cpu_costs_one_interrupt);
fn a_batch_for_a_cpu_costs_one_interrupt() -> Digest {
    let mut lone = lone(4);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.rps(0b1110);
    lone.dev.deliver((0..48).flat_map(|flow| datagrams(5000 + flow, [flow as u8])));
    lone.world.settle();
    let stat = lone.machine.softnet_stat();
    assert!(stat[1..].iter().all(|cpu| cpu.processed > 4), "spread by hash: {stat:?}");
    assert_eq!(stat.iter().map(|cpu| cpu.processed).sum::<u64>(), 48);
    assert!(stat[1..].iter().all(|cpu| cpu.received_rps == 1), "{stat:?}");
    assert_eq!(lone.numbers(fd).len(), 48);
    // A CPU that is named itself queues to itself, without an interrupt.
    lone.rps(0b1);
    lone.dev.deliver(datagrams(5000, [1]));
    lone.world.settle();
    let after = lone.machine.softnet_stat();
    assert_eq!((after[0].processed, after[0].received_rps), (1, 0));
    assert_eq!(lone.numbers(fd), [1]);
    lone.end()
}

stepped!(a_full_backlog_drops_and_counts_it_where_it_is_full);
fn a_full_backlog_drops_and_counts_it_where_it_is_full() -> Digest {
    let mut lone = lone(2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.sysctl(|sysctl| sysctl.netdev_max_backlog = 3);
    lone.rps(0b10);
    lone.dev.deliver(datagrams(5000, 0..10));
    lone.world.settle();
    assert_eq!(lone.numbers(fd), [0, 1, 2, 3], "one more than the limit, as Linux counts");
    let stat = lone.machine.softnet_stat();
    assert_eq!((stat[0].dropped, stat[1].dropped), (0, 6));
    assert_eq!(lone.drops(DropReason::CpuBacklog), 6);
    lone.end()
}

stepped!(a_flow_keeps_its_order_through_every_change_of_the_map);
fn a_flow_keeps_its_order_through_every_change_of_the_map() -> Digest {
    let mut lone = lone(4);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let mut next = 0;
    // Each time more packets come while those before still wait at another CPU.
    for map in [0b0010, 0b0000, 0b1000, 0b0001, 0b0100, 0b0000] {
        lone.rps(map);
        lone.dev.deliver(datagrams(5000, next..next + 3));
        lone.first_cpu();
        next += 3;
    }
    // Linux would have handled some on the first CPU at once.
    assert_eq!(lone.numbers(fd), [], "all wait behind the first");
    lone.world.settle();
    assert_eq!(lone.numbers(fd), (0..next).collect::<Vec<_>>());
    assert_eq!(lone.machine.softnet_stat()[1].processed, u64::from(next));
    // Those have ended: the next go where the map says.
    lone.dev.deliver(datagrams(5000, [100]));
    lone.first_cpu();
    assert_eq!(lone.numbers(fd), [100], "nowhere else");
    lone.rps(0b1000);
    lone.dev.deliver(datagrams(5000, [101]));
    lone.world.settle();
    assert_eq!(lone.numbers(fd), [101]);
    assert_eq!(lone.machine.softnet_stat()[3].processed, 1);
    lone.end()
}

stepped!(a_table_of_another_size_keeps_the_order_too);
fn a_table_of_another_size_keeps_the_order_too() -> Digest {
    let mut lone = lone(2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let dev = lone.dev.dev();
    lone.rps(0b10);
    lone.dev.deliver(datagrams(5000, 0..3));
    lone.first_cpu();
    // Returns when what the old table says has ended.
    store_rps_dev_flow_table_cnt(&mut lone.cx, &dev, 0, 1000).expect("a queue");
    assert_eq!(show_rps_dev_flow_table_cnt(&lone.cx, &dev, 0), 1024);
    lone.rps(0);
    lone.dev.deliver(datagrams(5000, 3..6));
    lone.first_cpu();
    assert_eq!(lone.numbers(fd), [0, 1, 2, 3, 4, 5]);
    lone.end()
}

stepped!(settings_are_checked);
fn settings_are_checked() -> Digest {
    let mut lone = lone(2);
    let dev = lone.dev.dev();
    assert_eq!(show_rps_map(&lone.cx, &dev, 0), CpuMask::from_bits(0));
    lone.rps(0xff);
    assert_eq!(show_rps_map(&lone.cx, &dev, 0), CpuMask::from_bits(0b11), "those that there are");
    let cx = &mut lone.cx;
    let all = CpuMask::from_bits(1);
    assert_eq!(store_rps_map(cx, &dev, 1, all), Err(Errno::ENOENT));
    assert_eq!(store_rps_dev_flow_table_cnt(cx, &dev, 0, 65_537), Err(Errno::EINVAL));
    assert_eq!(rps_sock_flow_sysctl(cx, 65_537), Err(Errno::EINVAL));
    let lo = lone.machine.tables().net.dev_by_name("lo").cloned().expect("always there");
    assert_eq!(store_rps_map(cx, &lo, 0, all), Err(Errno::EOPNOTSUPP));
    lone.dev.deliver(datagrams(5000, [1]));
    lone.world.settle();
    lone.end()
}

stepped!(a_flow_follows_its_reader_when_nothing_of_it_is_left_elsewhere);
fn a_flow_follows_its_reader_when_nothing_of_it_is_left_elsewhere() -> Digest {
    let mut lone = lone(4);
    let dev = lone.dev.dev();
    rps_sock_flow_sysctl(&lone.cx, 1000).expect("so many");
    store_rps_dev_flow_table_cnt(&mut lone.cx, &dev, 0, 512).expect("a queue");
    lone.rps(0b0001);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    connect(&mut lone.cx, fd, &addr(frame::PEER, 5000)).expect("a route");
    lone.dev.deliver(datagrams(5000, [0]));
    lone.world.settle();
    assert_eq!(lone.machine.softnet_stat()[0].processed, 1, "by the map: nobody has read");
    let files = Arc::clone(lone.cx.task().files());
    let read = |lone: &mut Lone, cpu: u8| {
        let task = TaskStruct::with_files("reader", CpuId(cpu), Arc::clone(&files));
        let mut cx = TaskCx::new(&lone.machine, task);
        let mut data = [0; 8];
        let mut op = sys_recvfrom(fd, &mut data, MSG_DONTWAIT);
        let got = lone.world.block_on(&mut cx, &mut op, Duration::from_secs(1));
        let got = got.expect("does not wait").map(|(len, _)| len);
        drop(op);
        (got, data[0])
    };
    assert_eq!(read(&mut lone, 2), (Ok(1), 0));
    // The next go to the reader's CPU, and those behind them too while they wait there, wherever the
    // reader has gone.
    lone.dev.deliver(datagrams(5000, [1]));
    lone.first_cpu();
    assert_eq!(read(&mut lone, 3).0, Err(Errno::EAGAIN));
    lone.dev.deliver(datagrams(5000, [2]));
    lone.first_cpu();
    lone.world.settle();
    let stat = lone.machine.softnet_stat();
    assert_eq!((stat[2].processed, stat[3].processed), (2, 0));
    assert_eq!((read(&mut lone, 3).1, read(&mut lone, 3).1), (1, 2));
    lone.dev.deliver(datagrams(5000, [3]));
    lone.world.settle();
    assert_eq!(lone.machine.softnet_stat()[3].processed, 1);
    assert_eq!(read(&mut lone, 3), (Ok(1), 3));
    lone.end()
}

stepped!(what_other_cpus_left_and_what_was_looped_share_a_poll);
fn what_other_cpus_left_and_what_was_looped_share_a_poll() -> Digest {
    let mut lone = lone(2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.rps(0b10);
    lone.dev.deliver(datagrams(5000, 0..100));
    lone.first_cpu();
    let mut there = lone.world.task_cx(&lone.machine, CpuId(1));
    let local = udp(&mut there, LOCAL, 8);
    let to = addr(LOCAL, 8);
    let mut op = sys_sendto(local, b"l", 0, Some(&to));
    let sent = lone.world.block_on(&mut there, &mut op, Duration::from_secs(1));
    assert_eq!(sent, Some(Ok(1)));
    flush_all_backlogs(&mut lone.cx);
    lone.world.settle();
    assert_eq!(lone.numbers(fd), (0..100).collect::<Vec<_>>());
    assert_eq!(lone.machine.softnet_stat()[1].processed, 101);
    exit_files(&mut there);
    drop(there);
    lone.end()
}

fn int_option(lone: &mut Lone, fd: i32, name: i32) -> i32 {
    let value = sys_getsockopt(&mut lone.cx, fd, SOL_SOCKET, name).expect("known");
    i32::from_ne_bytes(value.try_into().expect("an int"))
}

stepped!(a_socket_can_ask_for_what_its_cpu_handles);
fn a_socket_can_ask_for_what_its_cpu_handles() -> Digest {
    let mut lone = lone(2);
    let socket = |lone: &mut Lone, cpu: Option<i32>| {
        let fd = sys_socket(&mut lone.cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
        let on = 1_i32.to_ne_bytes();
        sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_REUSEPORT, &on).expect("allowed");
        sys_bind(&mut lone.cx, fd, &addr(LOCAL, 7)).expect("shared");
        assert_eq!(int_option(lone, fd, SO_INCOMING_CPU), -1);
        if let Some(cpu) = cpu {
            let cpu = cpu.to_ne_bytes();
            sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu).expect("allowed");
        }
        fd
    };
    let fds = [socket(&mut lone, Some(0)), socket(&mut lone, Some(1)), socket(&mut lone, None)];
    assert_eq!(int_option(&mut lone, fds[1], SO_INCOMING_CPU), 1);
    for cpu in [0, 1] {
        lone.dev.irq_affinity(cpu);
        lone.dev.deliver((0..8).flat_map(|flow| datagrams(5000 + flow, [cpu])));
        lone.world.settle();
        let got = fds.map(|fd| lone.numbers(fd).len());
        let mut wanted = [0; 3];
        wanted[usize::from(cpu)] = 8;
        assert_eq!(got, wanted, "by the CPU, not by the flow's hash");
    }
    lone.end()
}

stepped!(a_connected_socket_knows_where_its_packets_come_from);
fn a_connected_socket_knows_where_its_packets_come_from() -> Digest {
    let mut lone = lone(2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.dev.deliver(datagrams(5000, [0]));
    lone.world.settle();
    assert_eq!(int_option(&mut lone, fd, SO_INCOMING_CPU), -1, "of many, it does not say");
    connect(&mut lone.cx, fd, &addr(frame::PEER, 5000)).expect("a route");
    assert_eq!(int_option(&mut lone, fd, SO_INCOMING_NAPI_ID), 0);
    lone.dev.irq_affinity(1);
    lone.dev.deliver(datagrams(5000, [1]));
    lone.world.settle();
    assert_eq!(int_option(&mut lone, fd, SO_INCOMING_CPU), 1);
    assert!(int_option(&mut lone, fd, SO_INCOMING_NAPI_ID) >= MIN_NAPI_ID as i32);
    let set =
        sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, &1_i32.to_ne_bytes());
    assert_eq!(set, Err(Errno::ENOPROTOOPT), "it can only be read");
    assert_eq!(lone.numbers(fd), [0, 1]);
    lone.end()
}

stepped!(what_a_panic_took_away_holds_no_flow_where_it_was);
fn what_a_panic_took_away_holds_no_flow_where_it_was() -> Digest {
    let mut lone = lone(2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.rps(0b10);
    let hook = Arc::new(PanicOnce(AtomicBool::new(true)));
    nf_register_hook(&mut lone.cx, NfInetHook::PreRouting, 0, hook);
    lone.dev.deliver(datagrams(5000, [0]));
    lone.world.settle();
    assert_eq!((lone.machine.contained_panics(), lone.numbers(fd).len()), (1, 0));
    lone.rps(0);
    lone.dev.deliver(datagrams(5000, [1]));
    lone.first_cpu();
    assert_eq!(lone.numbers(fd), [1], "it waits for nobody");
    lone.end()
}

struct PanicOnce(AtomicBool);

impl NfHook for PanicOnce {
    fn hook(&self, _: &mut BhCx<'_>, _: &NfHookState, skb: Skb) -> Verdict {
        assert!(!self.0.swap(false, Ordering::Relaxed), "told to panic");
        Verdict::Accept(skb)
    }
}
