//! Settings and options that change what is sent or taken, each with and without.

use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::{Digest, LinkSpec, MachineSpec};
use stack::fs::exit_files;
use stack::kernel::irq::IrqLine;
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::net::core::sysctl::names::{sysctl_all, sysctl_write};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::ipv4::tcp_cong::tcp_assign_congestion_control;
use stack::net::socket::{MsgSend, sys_sendmmsg, sys_setsockopt};
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::IP_TOS;
use uapi::socket::{SO_NO_CHECK, SO_PRIORITY, SOL_IP, SOL_SOCKET};

fn option(lone: &mut Lone, fd: i32, level: i32, name: i32, value: i32) {
    sys_setsockopt(&mut lone.cx, fd, level, name, &value.to_ne_bytes()).expect("allowed");
}

fn wake_queue(lone: &mut Lone) {
    let dev = lone.dev.dev();
    lone.cx.enter_call();
    lone.cx.local_bh_disable(|bh| dev.netif_wake_subqueue(bh, 0));
    lone.world.settle();
}

stepped!(pfifo_fast_sends_by_bands);
fn pfifo_fast_sends_by_bands() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    lone.dev.dev().netif_stop_subqueue(0);
    // The first finds the qdisc empty and is given back to it: it goes first, whatever its band.
    lone.send(fd, b"first", (frame::PEER, 9)).expect("queued");
    for (priority, data) in [(2, b"bulk"), (0, b"best"), (6, b"talk"), (1, b"fill"), (7, b"ctrl")] {
        option(&mut lone, fd, SOL_SOCKET, SO_PRIORITY, priority);
        lone.send(fd, data, (frame::PEER, 9)).expect("queued");
    }
    // A type of service is a priority too: low delay.
    option(&mut lone, fd, SOL_IP, IP_TOS, 0x10);
    lone.send(fd, b"fast", (frame::PEER, 9)).expect("queued");
    wake_queue(&mut lone);
    let sent = lone.dev.sent();
    let order: Vec<&[u8]> = sent.iter().map(|frame| &frame[42..]).collect();
    let wanted: [&[u8]; 7] = [b"first", b"talk", b"ctrl", b"fast", b"best", b"bulk", b"fill"];
    assert_eq!(order, wanted);
    assert_eq!(sent[3][15], 0x10, "and it stands in the header");
    lone.end()
}

stepped!(few_neighbours_stay_and_many_are_collected);
fn few_neighbours_stay_and_many_are_collected() -> Digest {
    let mut lone = Lone::new();
    lone.sysctl(|sysctl| sysctl.neigh.gc_thresh1 = 5);
    let asks = |lone: &mut Lone, n| {
        let asker = Ipv4Addr::new(192, 0, 2, n);
        let arp = frame::arp(1, asker, LOCAL, [0; 6]);
        lone.take(frame::ether([0xff; 6], 0x0806, &arp));
    };
    let len = |lone: &Lone| lone.machine.net().arp_tbl.len();
    (100..103).for_each(|n| asks(&mut lone, n));
    lone.world.run_for(Duration::from_secs(200));
    assert_eq!(len(&lone), 4, "below gc_thresh1 nothing goes");
    (103..106).for_each(|n| asks(&mut lone, n));
    assert_eq!(len(&lone), 7);
    lone.world.run_for(Duration::from_secs(50));
    assert_eq!(len(&lone), 4, "those not used for gc_stale_time go");
    lone.world.run_for(Duration::from_secs(100));
    assert_eq!(len(&lone), 4, "until they are few");
    lone.end()
}

stepped!(a_crowded_neighbour_table_is_swept_at_once);
fn a_crowded_neighbour_table_is_swept_at_once() -> Digest {
    let mut lone = Lone::new();
    lone.sysctl(|sysctl| sysctl.neigh.gc_thresh2 = 8);
    let mut most = 0;
    for n in 100..120 {
        let arp = frame::arp(1, Ipv4Addr::new(192, 0, 2, n), LOCAL, [0; 6]);
        lone.world.run_for(Duration::from_secs(6));
        lone.take(frame::ether([0xff; 6], 0x0806, &arp));
        most = most.max(lone.machine.net().arp_tbl.len());
    }
    assert_eq!(most, 8, "at gc_thresh2 what may go goes");
    for n in 120..150 {
        let arp = frame::arp(1, Ipv4Addr::new(192, 0, 2, n), LOCAL, [0; 6]);
        lone.take(frame::ether([0xff; 6], 0x0806, &arp));
    }
    assert!(lone.machine.net().arp_tbl.len() > 20, "not more often than every five seconds");
    lone.end()
}

stepped!(arp_accept_learns_from_who_was_not_asked);
fn arp_accept_learns_from_who_was_not_asked() -> Digest {
    let mut lone = Lone::new();
    let stranger = Ipv4Addr::new(192, 0, 2, 77);
    let gratuitous = || {
        let arp = frame::arp(1, stranger, stranger, [0; 6]);
        frame::ether([0xff; 6], 0x0806, &arp)
    };
    assert_eq!(lone.take(gratuitous()), [DropReason::ArpIgnore]);
    lone.devconf(|cnf| cnf.arp_accept = true);
    assert_eq!(lone.take(gratuitous()), []);
    let known = lone.machine.net().arp_tbl.dump();
    let entry = known.iter().find(|n| n.key.addr == u32::from(stranger)).expect("learnt");
    assert_eq!((entry.lladdr, entry.state), (Some(frame::PEER_MAC), "STALE"));
    lone.end()
}

stepped!(arp_ignore_answers_less_and_less);
fn arp_ignore_answers_less_and_less() -> Digest {
    let mut lone = Lone::new();
    let other = Ipv4Addr::new(198, 51, 100, 1);
    let _other_dev = TestDev::add(&mut lone.cx, other, 100);
    let outside = Ipv4Addr::new(203, 0, 113, 5);
    // A way back, so that who asks from outside is no martian.
    let via = FibInfo { gateway: frame::PEER.into(), ..FibInfo::default() };
    fib_new_route(&mut lone.cx, 0, 0, via).expect("a default route");
    let mut answered = |ignore: u8, sip: Ipv4Addr, tip: Ipv4Addr| {
        lone.devconf(|cnf| cnf.arp_ignore = ignore);
        let arp = frame::arp(1, sip, tip, [0; 6]);
        lone.take(frame::ether([0xff; 6], 0x0806, &arp));
        lone.dev.sent().iter().any(|frame| frame[20..22] == [0, 2])
    };
    let by_level = [(0, [true, true, true]), (1, [true, true, false]), (2, [true, false, false])];
    for (level, wanted) in by_level.into_iter().chain([(8, [false; 3])]) {
        let here = answered(level, frame::PEER, LOCAL);
        let from_outside = answered(level, outside, LOCAL);
        let of_the_other_device = answered(level, frame::PEER, other);
        assert_eq!([here, from_outside, of_the_other_device], wanted, "arp_ignore {level}");
    }
    lone.end()
}

stepped!(what_may_come_in_is_set_by_device);
fn what_may_come_in_is_set_by_device() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7);
    let from_to = |from: Ipv4Addr, to: Ipv4Addr| frame::udp((from, 5000), (to, 7), b"x");
    let own = from_to(LOCAL, LOCAL);
    assert_eq!(lone.take_ip(&own), [DropReason::IpLocalSource]);
    lone.devconf(|cnf| cnf.accept_local = true);
    assert_eq!(lone.take_ip(&own), []);
    let localnet = from_to(frame::PEER, Ipv4Addr::LOCALHOST);
    assert_eq!(lone.take_ip(&localnet), [DropReason::IpLocalnet]);
    lone.devconf(|cnf| cnf.route_localnet = true);
    assert_eq!(lone.take_ip(&localnet), []);
    assert_eq!(lone.recv_all(fd).len(), 2);
    lone.end()
}

stepped!(a_loose_rp_filter_wants_any_way_back);
fn a_loose_rp_filter_wants_any_way_back() -> Digest {
    let mut lone = Lone::new();
    let _other = TestDev::add(&mut lone.cx, Ipv4Addr::new(198, 51, 100, 1), 100);
    udp(&mut lone.cx, LOCAL, 7);
    let mut take = |filter: u8, from: [u8; 4]| {
        lone.devconf(|cnf| cnf.rp_filter = filter);
        lone.take_ip(&frame::udp((from.into(), 5000), (LOCAL, 7), b"x"))
    };
    let (elsewhere, nowhere) = ([198, 51, 100, 9], [203, 0, 113, 9]);
    let refused = [DropReason::IpRpFilter];
    assert_eq!(take(1, elsewhere), refused, "the way back is another device");
    assert_eq!(take(2, elsewhere), []);
    assert_eq!(take(2, nowhere), refused, "there is no way back");
    assert_eq!(take(0, nowhere), []);
    lone.end()
}

stepped!(a_sum_is_left_out_or_written_as_all_ones);
fn a_sum_is_left_out_or_written_as_all_ones() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    let check = |lone: &mut Lone, data: [u8; 2]| {
        lone.send(fd, &data, (frame::PEER, 9)).expect("sent");
        let sent = lone.dev.sent();
        [sent[0][40], sent[0][41]]
    };
    // The complement of the sum over zeros is what makes the sum all ones, and its complement zero.
    let rest = check(&mut lone, [0, 0]);
    assert_ne!(rest, [0, 0]);
    assert_eq!(check(&mut lone, rest), [0xff, 0xff], "zero would say that there is no sum");
    option(&mut lone, fd, SOL_SOCKET, SO_NO_CHECK, 1);
    assert_eq!(check(&mut lone, [0, 0]), [0, 0]);
    option(&mut lone, fd, SOL_SOCKET, SO_NO_CHECK, 0);
    assert_eq!(check(&mut lone, [0, 0]), rest);
    lone.end()
}

stepped!(interrupts_are_counted_by_cpu);
fn interrupts_are_counted_by_cpu() -> Digest {
    let mut lone = Lone::with(MachineSpec { cpus: 3, ..MachineSpec::default() }, 100);
    let desc = {
        let line = lone.dev.line.lock().expect("free");
        Arc::clone(line.as_ref().and_then(IrqLine::desc).expect("requested"))
    };
    assert_eq!((desc.name.as_str(), desc.counts()), ("test", vec![0, 0, 0]));
    for cpu in [0, 2, 2] {
        lone.dev.irq_affinity(cpu);
        lone.take_ip(&frame::udp((frame::PEER, 5000), (LOCAL, 99), b"x"));
    }
    assert_eq!(desc.counts(), [1, 0, 2]);
    lone.end()
}

stepped!(a_cards_ring_holds_no_more_bytes_than_its_limit);
fn a_cards_ring_holds_no_more_bytes_than_its_limit() -> Digest {
    let mut pair = Pair::igb(91, LinkSpec::Wire, 1);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    send(&mut pair, &mut ends.a, client, b"warm", addr(B, 7));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    pair.world.run_for(Duration::from_secs(1));
    let dev = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
    let txq = &dev.tx_queues[0];
    let before = txq.bql.limit();
    let to = addr(B, 7);
    let data = [7; 1400];
    let iov = [IoSlice::new(&data)];
    let count = 2 * before as usize / data.len();
    let msgs = vec![MsgSend { iov: &iov, name: Some(&to), control: &[], flags: 0 }; count];
    pair.world.watch(pcap_filter::compile("port 7").ok());
    assert_eq!(pair.run(&mut ends.a, sys_sendmmsg(client, &msgs, 0)), Ok(count));
    let walk = pair.world.take_walk();
    let passed = |point| walk.iter().filter(|(m, r)| *m == 0 && r.point == point).count();
    // The card does not tell what it has sent before the call has queued all.
    let given_back = passed(Point::dev_requeue_skb);
    let in_ring = count - passed(Point::pfifo_fast_enqueue) - given_back;
    let frames = (before as usize).div_ceil(data.len() + 42);
    // It is told of two frames at a time.
    assert!((frames..=frames + 1).contains(&in_ring), "{in_ring} frames in {before} bytes");
    assert_eq!(given_back, 1, "that which found the queue closed");
    assert!(passed(Point::__netif_schedule) >= 1, "and went on when the card had sent some");
    pair.world.run_for(Duration::from_secs(1));
    assert!(!txq.stopped() && txq.qdisc().qlen() == 0);
    assert!(txq.bql.limit() > before, "it ran empty with more to send: the limit grows");
    let mut got = 0;
    while got < count {
        assert_eq!(recv(&mut pair, &mut ends.b, server).expect("arrives").0, data);
        got += 1;
    }
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.world.run_for(Duration::from_secs(1));
    pair.end()
}

#[test]
fn congestion_control_is_chosen_among_what_is_registered() {
    let mut lone = Lone::new();
    let read = |lone: &Lone| {
        let all = sysctl_all(&lone.machine);
        let value = |name: &str| {
            let name = format!("net.ipv4.tcp_{name}congestion_control");
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()).unwrap()
        };
        ["", "available_", "allowed_"].map(value)
    };
    let write = |lone: &mut Lone, name: &str, value: &str| {
        sysctl_write(&mut lone.cx, &format!("net.ipv4.tcp_{name}congestion_control"), value)
    };
    assert_eq!(read(&lone), ["cubic", "reno cubic bbr", "reno cubic bbr"]);
    assert_eq!(write(&mut lone, "allowed_", "reno"), Ok(()));
    assert_eq!(read(&lone), ["cubic", "reno cubic bbr", "reno"]);
    assert_eq!(write(&mut lone, "", "none"), Err(Errno::ENOENT));
    assert_eq!(write(&mut lone, "allowed_", "reno none"), Err(Errno::ENOENT));
    assert_eq!(write(&mut lone, "available_", "reno"), Err(Errno::EACCES));
    assert_eq!(read(&lone), ["cubic", "reno cubic bbr", "reno"], "what is refused changes nothing");
    assert_eq!(write(&mut lone, "", "reno\n"), Ok(()));
    assert_eq!(tcp_assign_congestion_control(&lone.machine.tables().net).name(), "reno");
    // The default may be chosen by everybody.
    assert_eq!(write(&mut lone, "allowed_", ""), Ok(()));
    assert_eq!(write(&mut lone, "", "cubic"), Ok(()));
    assert_eq!(read(&lone), ["cubic", "reno cubic bbr", "cubic"]);
    assert_eq!(tcp_assign_congestion_control(&lone.machine.tables().net).name(), "cubic");
    let _ = lone.end();
}

#[test]
fn tcp_may_take_half_of_the_machines_memory() {
    let mut world = sim::World::new(1);
    let machine = world.machine(&MachineSpec { memory: 64 << 20, ..MachineSpec::default() });
    assert_eq!(machine.tables().net.sysctl.tcp.mem, [4096, 5460, 8192], "pages");
}
