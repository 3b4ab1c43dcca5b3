//! `--pcap` beside the host's own tcpdump, and read by tshark.

use crate::up::{HANG, OUR_MAC, Up, args, socket_to, tool};
use host::testing::{Need, NetNs, in_fresh_netns, need, recv};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file or empty folder of this test's own, gone when the test is.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id())))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir(&self.0));
    }
}

/// What a capture of ours holds.
#[derive(Default)]
pub struct Ours {
    /// Outgoing, octets, comment.
    pub frames: Vec<(bool, Vec<u8>, String)>,
    /// Received and dropped.
    pub statistics: Option<(u64, u64)>,
}

pub fn read_ours(path: &Path) -> Ours {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut ours = Ours::default();
    let mut last = std::time::Duration::ZERO;
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::EnhancedPacket(packet) => {
                assert!(packet.timestamp >= last, "in the order in which they passed");
                last = packet.timestamp;
                let (mut outgoing, mut comment) = (None, String::new());
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => outgoing = Some(flags & 3 == 2),
                        EnhancedPacketOption::Comment(text) => comment = text.to_string(),
                        _ => {}
                    }
                }
                let outgoing = outgoing.expect("every frame has its direction");
                ours.frames.push((outgoing, packet.data.to_vec(), comment));
            }
            Block::InterfaceStatistics(statistics) => {
                let mut counts = (0, 0);
                for option in statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(count) => counts.0 = count,
                        InterfaceStatisticsOption::IsbIfDrop(count) => counts.1 = count,
                        _ => {}
                    }
                }
                // Two halves, the high one first, that the library reads as one number.
                let end = std::time::Duration::from_nanos(statistics.timestamp.rotate_left(32));
                assert!(end >= last && end < last + HANG, "{end:?} {last:?}");
                assert!(ours.statistics.replace(counts).is_none(), "once");
            }
            _ => {}
        }
    }
    ours
}

/// tcpdump at nk0, from when it listens to when it is ended.
struct Tcpdump {
    child: Child,
    file: Scratch,
}

impl Tcpdump {
    fn start() -> Self {
        let file = Scratch::new("tcpdump.pcap");
        let mut child = Command::new("tcpdump")
            .args(["-i", "nk0", "-n", "-U", "--immediate-mode", "-Z", "root", "-w", file.path()])
            // Room for all of it: else a tcpdump that is not run for a moment loses frames.
            .args(["-s", "2048", "-B", "16384"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "tcpdump ended");
        }
        // What else it says must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, file }
    }

    /// Its frames, when it has written the last: what it has not read by its end it forgets.
    fn stop(mut self) -> Vec<Vec<u8>> {
        let last = b"this is the last one";
        let socket = socket_to(7);
        socket.send(last).unwrap();
        recv(&socket, &mut [0; 64]).unwrap();
        let start = std::time::Instant::now();
        let there = |file: &[u8]| file.windows(last.len()).filter(|seen| seen == last).count() == 2;
        while !there(&std::fs::read(&self.file.0).unwrap()) {
            assert!(start.elapsed() < HANG, "tcpdump did not see the last datagram");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        tool(&["sh", "-c", &format!("kill -INT {}", self.child.id())]);
        assert!(self.child.wait().unwrap().success());
        let mut reader = PcapReader::new(File::open(&self.file.0).unwrap()).unwrap();
        let mut frames = Vec::new();
        while let Some(packet) = reader.next_raw_packet() {
            frames.push(packet.unwrap().data.to_vec());
        }
        frames
    }
}

fn be16(octets: &[u8]) -> u16 {
    u16::from_be_bytes([octets[0], octets[1]])
}

/// The frame with the checksum that its UDP datagram should have, computed anew.
fn summed(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let udp = frame.len() >= 42 && be16(&frame[12..]) == 0x0800 && frame[23] == 17;
    if !udp || be16(&frame[40..]) == 0 {
        return frame;
    }
    let start = 14 + usize::from(frame[14] & 15) * 4;
    let len = usize::from(be16(&frame[start + 4..]));
    frame[start + 6..start + 8].fill(0);
    let mut words = frame[26..34].to_vec();
    words.extend([0, 17]);
    words.extend((len as u16).to_be_bytes());
    words.extend(&frame[start..start + len]);
    words.resize(words.len().next_multiple_of(2), 0);
    let mut sum: u32 = words.chunks(2).map(|word| u32::from(be16(word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
    frame[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Frames at the beginning or end that one of the two may have seen alone.
const EDGE: usize = 12;

/// The frames that both saw, when they agree on all of them but a few at the edges.
fn common<'a>(ours: &'a [Vec<u8>], theirs: &[Vec<u8>]) -> Option<&'a [Vec<u8>]> {
    let shifts = (0..=EDGE).flat_map(|shift| [(shift, 0), (0, shift)]);
    for (a, b) in shifts {
        let (Some(one), Some(other)) = (ours.get(a..), theirs.get(b..)) else { continue };
        let len = one.len().min(other.len());
        let rest = one.len().max(other.len()) - len;
        if rest <= EDGE && one[..len] == other[..len] {
            return Some(&one[..len]);
        }
    }
    None
}

/// A line for each frame: length, and what tells it from others.
fn described(frames: &[Vec<u8>]) -> String {
    let line = |frame: &Vec<u8>| format!("{} {:02x?}\n", frame.len(), frame.get(12..44));
    frames.iter().map(line).collect()
}

fn count(frames: &[Vec<u8>], is: impl Fn(&[u8]) -> bool) -> usize {
    frames.iter().filter(|frame| is(frame)).count()
}

fn is_icmp(frame: &[u8], kind: u8) -> bool {
    frame.len() > 34 && be16(&frame[12..]) == 0x0800 && frame[23] == 1 && frame[34] == kind
}

fn is_udp(frame: &[u8]) -> bool {
    frame.len() >= 42 && be16(&frame[12..]) == 0x0800 && frame[23] == 17
}

fn is_arp(frame: &[u8], kind: u16) -> bool {
    frame.len() >= 42 && be16(&frame[12..]) == 0x0806 && be16(&frame[20..]) == kind
}

/// Something of every kind.
fn traffic() {
    tool(&["ping", "-n", "-q", "-c", "20", "-i", "0.01", "192.0.2.2"]);
    tool(&["arping", "-c", "2", "-I", "nk0", "192.0.2.2"]);
    let socket = socket_to(7);
    let data: Vec<u8> = (0..1472u32).map(|n| (n * 31) as u8).collect();
    for size in (0..20).chain([63, 64, 65, 511, 1000, 1471, 1472]) {
        socket.send(&data[..size]).unwrap();
        assert_eq!(recv(&socket, &mut [0; 2048]).unwrap(), size);
    }
    let refused = socket_to(4);
    refused.send(b"anybody there?").unwrap();
    let error = recv(&refused, &mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    tool(&["ping", "-n", "-q", "-c", "5", "-i", "0.01", "-s", "1472", "192.0.2.2"]);
}

fn in_netns(f: impl FnOnce(&NetNs) + Send) {
    let tools = ["ip", "ping", "arping", "tcpdump", "tshark"].map(Need::Tool);
    if tools.into_iter().all(need) && need(Need::Root) && need(Need::DevNetTun) {
        in_fresh_netns(f);
    }
}

#[test]
fn tcpdump_on_the_host_and_our_capture_agree_frame_by_frame() {
    in_netns(|ns| {
        let file = Scratch::new("agree.pcapng");
        let up = Up::start(args(|args| {
            args.echo = true;
            args.pcap = Some(file.0.clone());
        }));
        up.join(ns);
        let tcpdump = Tcpdump::start();
        traffic();
        let theirs = tcpdump.stop();
        let output = up.stop().unwrap();
        let ours = read_ours(&file.0);
        let frames = ours.frames.len();
        assert_eq!(ours.statistics, Some((frames as u64, 0)));
        let line = format!("capture: {frames} frames in {}, 0 dropped\n", file.path());
        assert!(output.contains(&line), "{output}");
        for (outgoing, bytes, comment) in &ours.frames {
            assert_eq!(*outgoing, bytes[6..12] == OUR_MAC, "{bytes:02x?}");
            assert_eq!(*bytes, summed(bytes), "checksums are as on a wire");
            assert_eq!(comment, "");
        }
        for outgoing in [false, true] {
            let side = |frames: &mut dyn Iterator<Item = &Vec<u8>>| -> Vec<Vec<u8>> {
                let of_side = frames.filter(|frame| (frame[6..12] == OUR_MAC) == outgoing);
                of_side.map(|frame| summed(frame)).collect()
            };
            let ours = side(&mut ours.frames.iter().map(|(_, bytes, _)| bytes));
            let theirs = side(&mut theirs.iter());
            let both = common(&ours, &theirs);
            let both = both.unwrap_or_else(|| {
                let (ours, theirs) = (described(&ours), described(&theirs));
                panic!("outgoing: {outgoing}\nours\n{ours}\ntheirs\n{theirs}")
            });
            let (echo, arp) = if outgoing { (0, 2) } else { (8, 1) };
            assert!(count(both, |frame| is_icmp(frame, echo)) >= 25);
            assert!(count(both, |frame| is_arp(frame, arp)) >= 2);
            assert!(count(both, is_udp) >= 27);
            assert!(count(both, |frame| is_icmp(frame, 3)) >= usize::from(outgoing));
        }
    });
}

/// What tshark prints of a file, which it must read without complaint.
fn tshark(file: &Scratch, more: &[&str]) -> String {
    let checks = ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
    let output = Command::new("tshark")
        .args(["-n", "-r", file.path()])
        .args(checks)
        .args(more)
        .output()
        .unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    let complaints = complaints.lines().filter(|line| !line.contains("Running as user \"root\""));
    let complaints: Vec<&str> = complaints.filter(|line| !line.is_empty()).collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tshark_reads_our_capture_with_each_frames_walk() {
    in_netns(|ns| {
        let file = Scratch::new("tshark.pcapng");
        let up = Up::start(args(|args| {
            args.echo = true;
            args.walk = Some("192.0.2.1".to_owned());
            args.pcap = Some(file.0.clone());
        }));
        up.join(ns);
        traffic();
        up.stop().unwrap();

        let text = tshark(&file, &[]);
        assert!(!text.to_lowercase().contains("malformed"), "{text}");
        // An ICMP error quotes what came, whose checksum the host had left to be filled in.
        let bad = "ip.checksum.status == 0 || icmp.checksum.status == 0 || \
                   (udp.checksum.status == 0 && !icmp)";
        assert_eq!(tshark(&file, &["-Y", bad]), "");
        let protocols = tshark(&file, &["-T", "fields", "-e", "frame.protocols"]);
        for (protocol, least) in [
            ("eth:ethertype:arp", 4),
            ("eth:ethertype:ip:icmp:data", 50),
            ("eth:ethertype:ip:udp:echo", 52),
            ("eth:ethertype:ip:icmp:ip:udp:data", 1),
        ] {
            let found = protocols.lines().filter(|line| *line == protocol).count();
            assert!(found >= least, "{protocol} {found}: {protocols}");
        }
        let times = tshark(&file, &["-T", "fields", "-e", "frame.time_epoch"]);
        let first: f64 = times.lines().next().unwrap().parse().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((first..first + 600.0).contains(&now), "{first} {now}");

        // The walk is only as far as the frame.
        for (outgoing, bytes, comment) in read_ours(&file.0).frames {
            if !is_udp(&bytes) && !is_icmp(&bytes, 0) && !is_icmp(&bytes, 8) {
                continue;
            }
            let stations: Vec<&str> =
                comment.lines().filter_map(|line| line.split(' ').next_back()).collect();
            let has = |station| stations.contains(&station);
            assert!(comment.starts_with("packet "), "{comment}");
            if outgoing {
                assert!(has("dev_queue_xmit") && has("dev_queue_xmit_nit"), "{comment}");
                assert!(!has("tun_net_xmit"), "{comment}");
            } else {
                assert!(has("net_rx_action") && has("netif_receive_skb"), "{comment}");
                assert!(!has("ip_rcv"), "{comment}");
            }
        }
    });
}
