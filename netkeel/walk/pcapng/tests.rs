use super::*;
use crate::scenario::Subject;
use crate::walk::tests::scene;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};

/// Decimal digits of a second in times.
const NANOSECONDS: u8 = 9;

fn capture(subject: Subject) -> Vec<u8> {
    let scene = scene(subject, true);
    let mut out = Vec::new();
    write(&mut out, &Story::new(&scene)).expect("a vector takes all");
    out
}

/// Interface, comment and bytes of a frame.
type Commented = (usize, String, Vec<u8>);

/// Names of the interfaces, and interface and comment of each frame.
fn read(bytes: &[u8]) -> (Vec<String>, Vec<Commented>) {
    let mut reader = PcapNgReader::new(bytes).expect("a section header");
    let (mut names, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a sound block") {
            Block::InterfaceDescription(interface) => {
                let resolution = InterfaceDescriptionOption::IfTsResol(NANOSECONDS);
                assert!(interface.options.contains(&resolution));
                for option in interface.options {
                    if let InterfaceDescriptionOption::IfName(name) = option {
                        names.push(name.into_owned());
                    }
                }
            }
            Block::EnhancedPacket(packet) => {
                let comments = packet.options.iter().filter_map(|option| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                let comment = comments.collect::<String>();
                frames.push((packet.interface_id as usize, comment, packet.data.to_vec()));
            }
            _ => (),
        }
    }
    (names, frames)
}

#[test]
fn each_device_is_an_interface_and_each_frame_has_its_walk() {
    let (names, frames) = read(&capture(Subject::Udp));
    assert_eq!(names, ["A:lo", "A:eth0", "B:lo", "B:eth0"]);
    let at: Vec<&str> = frames.iter().map(|(id, ..)| names[*id].as_str()).collect();
    assert_eq!(at, ["A:eth0", "B:eth0", "B:eth0", "A:eth0"]);
    let [(_, left, _), (_, arrived, _), ..] = frames.as_slice() else { panic!("two frames") };
    assert!(left.starts_with("#1\n0.007 A cpu0 task sys_sendto\n"), "{left}");
    assert!(!left.contains("wire_start_xmit"), "that is after the tap:\n{left}");
    assert!(arrived.contains("B cpu0 hardirq irq_enter") && !arrived.contains("ip_rcv"));
}

#[test]
fn times_are_this_century() {
    let bytes = capture(Subject::Loopback);
    let mut reader = PcapNgReader::new(bytes.as_slice()).expect("a section header");
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a sound block") {
            seen.push(packet.timestamp);
        }
    }
    assert_eq!(seen.len(), 2, "out and in");
    assert!(seen.is_sorted() && seen[0] > Duration::from_nanos(sim::clock::REAL_EPOCH));
}
