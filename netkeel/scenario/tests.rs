use super::*;
use crate::walk::{self, Format, text};
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
fn a_long_datagram_goes_in_fragments_both_ways() {
    let scene = run(&Setup { size: Some(4000), ..wire() }).expect("the scene plays");
    let count = |point| scene.records.iter().filter(|(_, r)| r.point == point).count();
    assert_eq!((count(Point::ip_fragment), count(Point::link_clone)), (2, 4));
    assert_eq!((count(Point::ip_defrag), count(Point::ip_frag_reasm)), (6, 2));
    let longest = run(&Setup { size: Some(super::MAX_SIZE), ..wire() }).expect("the scene plays");
    let defrag = longest.records.iter().filter(|(_, r)| r.point == Point::ip_defrag).count();
    assert_eq!(defrag, 90);
    let stream = run(&Setup { subject: Subject::Tcp, size: Some(9), ..wire() });
    assert_eq!(stream.expect_err("no datagram"), ScenarioError::NotUdp);
}

#[test]
fn what_a_card_cannot_do_is_said() {
    let queues = run(&Setup { queues: 2, ..wire() }).expect_err("a wire has one queue");
    assert_eq!(queues, ScenarioError::Queues(Nic::Wire, 2));
    assert!(queues.to_string().contains("--queues"));
}

#[test]
fn each_kind_of_packet_passes_its_own_stations() {
    use Point as P;
    let passed = |subject, machine, wanted: &[Point]| {
        let seen = stations(&play(subject), machine);
        for point in wanted {
            assert!(seen.contains(point), "{subject:?}: {point:?} on machine {machine}");
        }
    };
    passed(Subject::Multicast, 0, &[P::ip_mc_output]);
    passed(Subject::Multicast, 1, &[P::ip_route_input_mc, P::udp_rcv]);
    passed(Subject::Igmp, 1, &[P::igmp_rcv, P::igmp_timer_expire, P::igmp_send_report]);
    passed(Subject::Ping, 0, &[P::ping_sendmsg, P::ping_rcv]);
    passed(Subject::Ping, 1, &[P::icmp_echo, P::icmp_reply]);
    passed(Subject::Raw, 0, &[P::raw_sendmsg, P::raw_rcv]);
    passed(Subject::Packet, 0, &[P::packet_sendmsg, P::packet_snd]);
    passed(Subject::Packet, 1, &[P::packet_rcv, P::packet_recvmsg]);
    passed(Subject::Forward, 1, &[P::ip_forward, P::ip_forward_finish]);
    passed(Subject::Forward, 2, &[P::udp_rcv, P::udp_sendmsg]);
    passed(Subject::Veth, 0, &[P::veth_xmit, P::process_backlog, P::udp_rcv]);
    let hosts = |subject| play(subject).hosts.into_iter().map(|host| host.name).collect::<Vec<_>>();
    assert_eq!(hosts(Subject::Forward), ["A", "R", "B"]);
    assert_eq!(hosts(Subject::Veth), ["A"]);
}

fn play_scenario(scenario: TcpScenario) -> Scene {
    let setup = Setup { subject: Subject::Tcp, scenario: Some(scenario), ..wire() };
    run(&setup).expect("the scene plays")
}

/// The walk as it is printed, without times.
fn timeless(scene: &Scene) -> String {
    let mut bytes = Vec::new();
    let options = text::Options { files: false, width: 0 };
    walk::write(&mut bytes, scene, Format::Text, options).expect("memory takes all");
    let printed = String::from_utf8(bytes).expect("UTF-8");
    let mut rendered = String::new();
    // Behind the walk each packet is summed up, with its time.
    for line in printed.lines().take_while(|line| !line.starts_with('#')) {
        match line.trim_start().split_once(' ') {
            Some((time, _)) if time.parse::<f64>().is_ok() && line.len() > 11 => {
                let behind = line.find(time).expect("it is there") + time.len();
                rendered +=
                    &format!("{:11}{}", "", line[behind..].strip_prefix("  ").unwrap_or(""));
            }
            _ => rendered += line,
        }
        rendered.push('\n');
    }
    rendered
}

/// Compares with the committed walk; `NETKEEL_BLESS=1` writes it anew.
fn golden(scenario: TcpScenario) {
    let name = scenario.to_possible_value().expect("it has one").get_name().to_owned();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tools/testing/selftests/walks")
        .join(format!("tcp-scenario-{name}.txt"));
    let seen = timeless(&play_scenario(scenario));
    if std::env::var_os("NETKEEL_BLESS").is_some() {
        std::fs::write(&file, &seen).expect("the golden walk is written");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = golden.lines().zip(seen.lines()).position(|(golden, seen)| golden != seen);
    assert!(
        golden == seen,
        "{name}: line {} differs from the golden walk; NETKEEL_BLESS=1 writes it anew:\n{}",
        differs.map_or(0, |at| at + 1),
        differs.and_then(|at| seen.lines().nth(at)).unwrap_or("(the end)")
    );
}

/// A's stations that are among these, each as often as it comes, but once in a row.
fn in_turn(scene: &Scene, of: &[Point]) -> Vec<Point> {
    let mut found: Vec<Point> =
        stations(scene, 0).into_iter().filter(|point| of.contains(point)).collect();
    found.dedup();
    found
}

#[test]
fn a_loss_is_told_marked_sent_again_and_recovered_from() {
    use Point as P;
    golden(TcpScenario::Loss);
    let scene = play_scenario(TcpScenario::Loss);
    let of = [
        P::tcp_enter_recovery,
        P::tcp_retransmit_skb,
        P::tcp_try_undo_recovery,
        P::tcp_end_cwnd_reduction,
    ];
    assert_eq!(in_turn(&scene, &of), of);
    let a = stations(&scene, 0);
    let at = |point| a.iter().position(|other| *other == point);
    assert!(at(P::tcp_sacktag_write_queue) < at(P::tcp_rack_mark_lost), "SACK first");
    assert!(at(P::tcp_rack_mark_lost) < at(P::tcp_enter_recovery));
    let sent_again = a.iter().filter(|p| **p == P::tcp_retransmit_skb).count();
    assert_eq!(sent_again, 1, "both that were lost, in one piece, and no other");
    assert!(!a.contains(&P::tcp_undo_cwnd_reduction), "it was no mistake");
}

#[test]
fn what_is_late_is_waited_for_or_sent_again_and_that_undone() {
    use Point as P;
    golden(TcpScenario::Reorder);
    let of = [
        P::tcp_rack_mark_lost,
        P::tcp_rack_reo_timeout,
        P::tcp_retransmit_skb,
        P::tcp_check_dsack,
        P::tcp_undo_cwnd_reduction,
        P::tcp_rack_update_reo_wnd,
    ];
    let seen = in_turn(&play_scenario(TcpScenario::Reorder), &of);
    // In doubt twice; the second time for nothing; in doubt the third time, with more time.
    assert_eq!(seen, [&of[..], &of[..1]].concat());
}

#[test]
fn a_lost_tail_is_probed_for() {
    use Point as P;
    golden(TcpScenario::Tlp);
    let of = [P::tcp_send_loss_probe, P::tcp_process_tlp_ack, P::tcp_end_cwnd_reduction];
    assert_eq!(in_turn(&play_scenario(TcpScenario::Tlp), &of), of);
}

#[test]
fn a_cookie_is_asked_for_and_the_next_syn_has_data() {
    use Point as P;
    golden(TcpScenario::Fastopen);
    let scene = play_scenario(TcpScenario::Fastopen);
    let of = [P::tcp_fastopen_cookie_check, P::tcp_rcv_fastopen_synack];
    assert_eq!(in_turn(&scene, &of), [of, of].concat());
    let b: Vec<Point> = stations(&scene, 1)
        .into_iter()
        .filter(|point| [P::tcp_try_fastopen, P::tcp_fastopen_create_child].contains(point))
        .collect();
    assert_eq!(b, [P::tcp_try_fastopen, P::tcp_try_fastopen, P::tcp_fastopen_create_child]);
}

#[test]
fn bbr_goes_from_state_to_state_at_its_pace() {
    use Point as P;
    golden(TcpScenario::Bbr);
    let scene = play_scenario(TcpScenario::Bbr);
    let states: Vec<u64> = scene
        .records
        .iter()
        .filter(|(_, record)| record.point == P::bbr_main)
        .map(|(_, record)| record.arg)
        .collect();
    assert_eq!(states, [1, 2], "DRAIN, then PROBE_BW");
    let of = [P::tcp_pacing_check, P::tcp_pace_kick];
    assert!(in_turn(&scene, &of).len() > 100, "one segment after the other");
}

#[test]
fn scenarios_are_the_same_each_time_and_of_tcp_alone() {
    for scenario in TcpScenario::value_variants() {
        let [first, second] = [(); 2].map(|()| play_scenario(*scenario));
        assert_eq!(first.records, second.records, "{scenario:?}");
        let setup = Setup { scenario: Some(*scenario), ..wire() };
        assert_eq!(run(&setup).err(), Some(ScenarioError::NotTcp));
    }
}
