use super::*;
use clap::ValueEnum;
use stack::kernel::trace::{Context, events::Point};

/// Wire devices, whatever the default is.
fn wire() -> Setup {
    Setup { nic: Nic::Wire, ..Setup::default() }
}

fn stations(scene: &Scene, machine: u16) -> Vec<Point> {
    let own = scene.records.iter().filter(|(of, _)| *of == machine);
    own.map(|(_, record)| record.point).collect()
}

fn play(subject: Subject) -> Scene {
    run(&Setup { subject, ..wire() }).expect("the scene plays")
}

#[test]
fn the_same_setup_gives_the_same_scene() {
    for subject in Subject::value_variants() {
        let setup = Setup { subject: *subject, frames: true, ..wire() };
        let [first, second] = [(); 2].map(|()| run(&setup).expect("the scene plays"));
        assert_eq!(first.records, second.records, "{subject:?}");
        assert_eq!(first.frames, second.frames, "{subject:?}");
    }
}

#[test]
fn udp_walks_from_call_to_call_without_arp() {
    let scene = play(Subject::Udp);
    let (a, b) = (stations(&scene, 0), stations(&scene, 1));
    assert_eq!(a.first(), Some(&Point::sys_sendto));
    assert_eq!(a.last(), Some(&Point::consume_skb));
    for point in [Point::sys_recvfrom, Point::udp_rcv, Point::sys_sendto] {
        assert!(b.contains(&point), "{point:?}");
    }
    assert!(!a.contains(&Point::arp_send) && !b.contains(&Point::arp_send));
}

#[test]
fn tcp_connects_converses_and_closes_on_both_sides() {
    let scene = play(Subject::Tcp);
    let (a, b) = (stations(&scene, 0), stations(&scene, 1));
    assert_eq!((a.first(), b.first()), (Some(&Point::sys_connect), Some(&Point::sys_accept4)));
    let count = |of: &[Point], point| of.iter().filter(|other| **other == point).count();
    for point in [Point::tcp_sendmsg, Point::tcp_send_fin, Point::tcp_close] {
        assert_eq!((count(&a, point), count(&b, point)), (1, 1), "{point:?}");
    }
    // Who closes first waits for strays.
    assert_eq!(count(&a, Point::tcp_time_wait), 1);
    assert_eq!(count(&b, Point::tcp_time_wait), 0);
    assert!(!a.contains(&Point::arp_send) && !b.contains(&Point::arp_send));
    assert!(!a.contains(&Point::tcp_retransmit_timer) && !b.contains(&Point::tcp_v4_send_reset));
}

#[test]
fn arp_asks_before_it_sends() {
    let scene = play(Subject::Arp);
    let a = stations(&scene, 0);
    let at = |point| a.iter().position(|other| *other == point).expect("a station of A");
    assert!(at(Point::neigh_event_send) < at(Point::arp_send));
    assert!(at(Point::arp_send) < at(Point::neigh_update));
    assert!(stations(&scene, 1).contains(&Point::sock_queue_rcv_skb));
}

#[test]
fn icmp_brings_the_error_and_the_echo() {
    let scene = play(Subject::Icmp);
    let (a, b) = (stations(&scene, 0), stations(&scene, 1));
    assert!(a.contains(&Point::udp_err));
    assert!(b.contains(&Point::icmp_send) && b.contains(&Point::icmp_echo));
}

#[test]
fn loopback_has_one_machine_and_no_queue() {
    let scene = play(Subject::Loopback);
    assert_eq!(scene.hosts.len(), 1);
    let a = stations(&scene, 0);
    assert!(a.contains(&Point::loopback_xmit) && a.contains(&Point::process_backlog));
    assert!(!a.contains(&Point::__dev_xmit_skb));
}

#[test]
fn with_two_cpus_interrupt_and_reader_differ() {
    let scene = run(&Setup { cpus: 2, ..wire() }).expect("the scene plays");
    let on_b = |wanted: fn(&Record) -> bool| {
        let mut own = scene.records.iter().filter(|(machine, _)| *machine == 1);
        own.find(|(_, record)| wanted(record)).map(|(_, record)| record.cpu)
    };
    let interrupt = on_b(|record| record.context == Context::Hardirq);
    let reader = on_b(|record| record.point == Point::sys_recvfrom);
    assert_eq!((interrupt, reader), (Some(0), Some(1)));
}

#[test]
fn taps_see_each_frame_leave_and_arrive() {
    let setup = Setup { frames: true, ..wire() };
    let scene = run(&setup).expect("the scene plays");
    let seen: Vec<_> = scene.frames.iter().map(|frame| (frame.machine, frame.outgoing)).collect();
    assert_eq!(seen, [(0, true), (1, false), (1, true), (0, false)]);
    let bytes = |at: usize| scene.frames[at].bytes.as_slice();
    assert_eq!(bytes(0), bytes(1), "the Ethernet header is there on both sides");
    assert!(bytes(0).ends_with(b"hello"));
}

#[test]
fn what_a_card_cannot_do_is_said() {
    let queues = run(&Setup { queues: 2, ..wire() }).expect_err("a wire has one queue");
    assert_eq!(queues, ScenarioError::Queues(Nic::Wire, 2));
    assert!(queues.to_string().contains("--queues"));
}
