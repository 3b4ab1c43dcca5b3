//! `netkeel replay`: what it says of captures, good and bad.

use crate::{netkeel, refusal, run, scratch, stdout};
use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ADDR: &str = "192.0.2.2/24";

/// A capture of frames, each a second behind the one before.
fn capture(name: &str, frames: &[Vec<u8>]) -> String {
    let second = |n: usize| Duration::from_secs(1_700_000_000 + n as u64);
    timed(name, frames.iter().enumerate().map(|(n, frame)| (second(n), frame.clone())))
}

fn timed(name: &str, frames: impl IntoIterator<Item = (Duration, Vec<u8>)>) -> String {
    let path = scratch(&format!("{name}.pcap"));
    let file = File::create(&path).unwrap();
    let mut writer = PcapWriter::with_header(file, PcapHeader::default()).unwrap();
    for (time, frame) in frames {
        let packet = PcapPacket::new(time, frame.len() as u32, &frame);
        writer.write_packet(&packet).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

fn udp_from(from: ([u8; 4], u16), port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(THEIRS, OURS).ipv4(from.0, [192, 0, 2, 2], 64);
    builder.udp(from.1, port).write(&mut frame, b"twelve bytes").unwrap();
    frame
}

fn udp(port: u16) -> Vec<u8> {
    udp_from(([192, 0, 2, 1], 5000), port)
}

fn all_kinds() -> Vec<Vec<u8>> {
    let ip = || PacketBuilder::ethernet2(THEIRS, OURS).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    let (mut echo, mut tcp) = (Vec::new(), Vec::new());
    ip().icmpv4_echo_request(1, 2).write(&mut echo, b"abc").unwrap();
    ip().tcp(1, 2, 3, 4).write(&mut tcp, b"").unwrap();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1].into_iter().chain(THEIRS).chain([192, 0, 2, 1]);
    let arp: Vec<u8> = arp.chain([0; 6]).chain([192, 0, 2, 2]).collect();
    let ether = |to: [u8; 6], from: [u8; 6], kind: [u8; 2], payload: &[u8]| {
        [&to[..], &from, &kind, payload].concat()
    };
    let mut spoilt = udp(7);
    *spoilt.last_mut().unwrap() ^= 1;
    let mut other = udp(7);
    other[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    vec![
        udp(7),
        udp(9),
        echo,
        ether([0xff; 6], THEIRS, [8, 6], &arp),
        tcp,
        ether(OURS, THEIRS, [0x86, 0xdd], &[0x60; 40]),
        spoilt,
        other,
        ether(THEIRS, OURS, [8, 0], &udp(7)[14..]),
        vec![1, 2, 3],
    ]
}

fn objects(args: &[&str]) -> Vec<Value> {
    let text = stdout(&[args, &["--format", "json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_frame_has_its_fate_and_its_answers() {
    let path = capture("kinds", &all_kinds());
    let all = objects(&["replay", &path, "--addr", ADDR, "--listen", "7"]);
    let told: Vec<_> = all[..9]
        .iter()
        .map(|frame| {
            let text = |key: &str| frame[key].as_str().unwrap_or("-").to_owned();
            let answers = frame["answers"].as_array().unwrap().len();
            (frame["frame"].as_u64().unwrap(), text("fate"), text("drop"), text("point"), answers)
        })
        .collect();
    let expected = [
        (1, "delivered", "-", "sock_queue_rcv_skb", 0),
        (2, "dropped", "NO_SOCKET", "__udp4_lib_lookup_skb", 2),
        (3, "taken", "-", "icmp_echo", 1),
        (4, "taken", "-", "arp_process", 1),
        (5, "dropped", "NO_SOCKET", "tcp_v4_send_reset", 1),
        (6, "dropped", "UNHANDLED_PROTO", "__netif_receive_skb_core", 0),
        (7, "dropped", "UDP_CSUM", "udp_rcv", 0),
        (8, "dropped", "OTHERHOST", "ip_rcv", 0),
        (10, "dropped", "UNHANDLED_PROTO", "__netif_receive_skb_core", 0),
    ];
    let expected = expected.map(|(number, fate, drop, point, answers)| {
        (number, fate.to_owned(), drop.to_owned(), point.to_owned(), answers)
    });
    assert_eq!(told, expected);
    assert_eq!((&all[0]["v"], &all[0]["port"], &all[0]["len"]), (&1.into(), &7.into(), &54.into()));
    assert_eq!(all[0]["file"], "net/core/sock.c");
    assert_eq!(all[1]["answers"][0], "ARP request", "to whom it sends, the machine asks first");
    assert_eq!(all[1]["answers"][1], "ICMP port unreachable");
    let total = &all.last().unwrap()["total"];
    assert_eq!(
        (&total["frames"], &total["answers"], &total["own"]),
        (&9.into(), &5.into(), &1.into())
    );
    assert_eq!(total["ns"], 9_000_000_000_u64, "in the capture's time");
}

#[test]
fn people_get_a_table_and_a_line_for_each_frame() {
    let path = capture("table", &[udp(7), udp(9), udp(7), udp(7)]);
    let table = stdout(&["replay", &path, "--addr", ADDR, "--listen", "7"]);
    let lines: Vec<_> =
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "frames kind became answer");
    assert_eq!(lines[1], "3 UDP delivered to UDP port 7");
    assert!(
        lines[2].starts_with("1 UDP dropped, NO_SOCKET, at __udp4_lib_lookup_skb (net/ipv4/udp.c)")
    );
    assert!(lines[3].starts_with("4 frames in 3.000000 s, 2 answered with;"), "{table}");
    let text = stdout(&["replay", &path, "--addr", ADDR, "--frames", "--fast"]);
    assert!(text.starts_with("#1 0.000000 UDP 192.0.2.1:5000 > 192.0.2.2:7, 54 octets: dropped"));
    assert!(text.contains("\n4 frames in 0.000000 s"), "{text}");
    assert_eq!(text, stdout(&["replay", &path, "--addr", ADDR, "--frames", "--fast"]));
}

#[test]
fn a_walk_of_ours_plays() {
    let path = scratch("walk.pcapng");
    let path = path.to_str().unwrap();
    stdout(&["walk", "icmp", "--nic", "wire", "--format", "pcapng", "--out", path]);
    let all = objects(&["replay", path, "--addr", ADDR]);
    assert!(all.iter().any(|frame| frame["answers"][0] == "ICMP echo reply"), "{all:?}");
}

/// Who is behind the gateway has its link address; without a gateway there is no way back.
#[test]
fn answers_go_by_the_gateway() {
    let path = capture("gateway", &[udp_from(([203, 0, 113, 9], 5000), 9)]);
    let by_gw = objects(&["replay", &path, "--addr", ADDR, "--gw", "192.0.2.1"]);
    assert_eq!(by_gw[0]["answers"][1], "ICMP port unreachable");
    let without = objects(&["replay", &path, "--addr", ADDR]);
    assert_eq!(without[0]["answers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_machine_has_the_link_address_that_frames_are_sent_to() {
    let path = capture("mac", &[udp(7)]);
    let other = objects(&["replay", &path, "--addr", ADDR, "--mac", "02:00:00:00:00:77"]);
    assert_eq!(other[0]["drop"], "OTHERHOST");
    let found = objects(&["replay", &path, "--addr", ADDR]);
    assert_eq!(found[0]["drop"], "NO_SOCKET");
}

#[test]
fn a_pause_of_years_is_cut_short() {
    let years = Duration::from_secs(20 * 365 * 86_400);
    let path =
        timed("pause", [(Duration::ZERO, udp(7)), (years, udp(7)), (Duration::ZERO, udp(7))]);
    let all = objects(&["replay", &path, "--addr", ADDR]);
    let times: Vec<_> = all[..3].iter().map(|frame| frame["ns"].as_u64().unwrap()).collect();
    assert_eq!(times, [0, 60_000_000_000, 60_000_000_000], "and time does not run back");
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    let path = capture("mistakes", &[udp(7)]);
    for (args, code, said) in [
        (&["replay", "/nowhere.pcap", "--addr", ADDR][..], 1, "can't read /nowhere.pcap"),
        (&["replay", env!("CARGO_MANIFEST_PATH"), "--addr", ADDR], 1, "neither a pcap nor"),
        (&["replay", &path, "--addr", "192.0.2.2"], 2, "no IPv4 address with a prefix"),
        (&["replay", &path], 2, "--addr"),
        (&["replay", &path, "--addr", ADDR, "--gw", "10.0.0.1"], 2, "not on the link"),
        (&["replay", &path, "--addr", ADDR, "--mac", "ff:ff:ff:ff:ff:ff"], 2, "a host's link"),
        (&["replay", &path, "--addr", ADDR, "--listen", "0"], 2, "0"),
        (&["replay", &path, "--addr", ADDR, "--listen", "7", "--listen", "7"], 2, "once"),
        (&["replay", &path, "--addr", ADDR, "--out", "/nowhere/x"], 1, "/nowhere/x"),
    ] {
        let (exit, line) = refusal(args);
        assert_eq!(exit, Some(code), "{line}");
        assert!(line.contains(said), "{line}");
    }
}

/// What was played before the place where a file is broken is told; then why it ends.
#[test]
fn a_broken_file_is_played_up_to_where_it_is_broken() {
    let path = capture("broken", &[udp(7), udp(7)]);
    let mut octets = std::fs::read(&path).unwrap();
    octets.truncate(octets.len() - 10);
    std::fs::write(&path, octets).unwrap();
    let output = run(&["replay", &path, "--addr", ADDR, "--frames"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("#1 "));
    let table = run(&["replay", &path, "--addr", ADDR]);
    assert_eq!(table.status.code(), Some(1));
    assert!(String::from_utf8(table.stdout).unwrap().contains("\n1 frames in "));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("at octet") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let path = capture("pipe", &vec![udp(7); 3000]);
    let args = ["replay", path.as_str(), "--addr", ADDR, "--frames", "--fast"];
    let mut child = netkeel(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(Path::new(&path).exists());
}
