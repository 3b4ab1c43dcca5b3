use super::*;
use host::testing::{Need, need};
use hw::capture::{CaptureWriter, Direction, Packet};
use std::process::Command;

/// An Ethernet frame.
fn link(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(kind.to_be_bytes());
    frame.extend(body);
    frame
}

fn ip_with(
    proto: u8,
    (turned, offset, tos): (bool, u16, u8),
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut ip = vec![0x45 + options.len() as u8 / 4, tos];
    ip.extend((20 + options.len() as u16 + data.len() as u16).to_be_bytes());
    ip.extend([0x12, 0x34]);
    ip.extend(offset.to_be_bytes());
    ip.extend([64, proto, 0, 0]);
    let ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
    ip.extend(ends[usize::from(turned)]);
    ip.extend(ends[usize::from(!turned)]);
    ip.extend(options);
    let sum = klib::checksum::ip_fast_csum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    link(0x0800, &[&ip, data].concat())
}

fn ip(proto: u8, data: &[u8]) -> Vec<u8> {
    ip_with(proto, (false, 0x4000, 0), &[], data)
}

fn tcp_header((turned, flags): (bool, u8), seq: u32, ack: u32, options: &[u8]) -> Vec<u8> {
    let ports: [u16; 2] = if turned { [7777, 40_000] } else { [40_000, 7777] };
    let mut tcp: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    tcp.extend([seq, ack].iter().flat_map(|n| n.to_be_bytes()));
    tcp.extend([((20 + options.len() as u8) / 4) << 4, flags, 1, 0, 0, 0, 0, 5]);
    tcp.extend(options);
    tcp
}

fn conversation() -> Vec<Vec<u8>> {
    let send = |turned, flags, seq, ack, options: &[u8], data: &[u8]| {
        let segment = [&tcp_header((turned, flags), seq, ack, options)[..], data].concat();
        ip_with(6, (turned, 0x4000, if flags & 0x40 != 0 { 3 } else { 0 }), &[], &segment)
    };
    let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let times = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 1];
    let sack = [1, 1, 5, 18, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0, 0, 0x40, 0];
    vec![
        send(false, 0x02, 100, 0, &syn, b""),
        send(true, 0x12, 900, 101, &syn, b""),
        send(false, 0x10, 101, 901, &times, b""),
        send(false, 0x18, 101, 901, &times, b"hello"),
        send(true, 0x10, 901, 106, &sack, b""),
        send(true, 0x50, 901, 106, &[], b"world!"),
        send(false, 0x30, 106, 907, &[], b"x"),
        send(false, 0x11, 107, 907, &[], b""),
        send(true, 0x14, 907, 108, &[], b""),
        send(true, 0x04, 907, 0, &[], b""),
        send(false, 0x00, 5, 6, &[], b""),
        send(false, 0xc2, 1, 0, &[2, 4, 2, 0, 34, 2, 1, 1], b""),
        send(false, 0x02, 1, 0, &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1], b"early"),
        send(false, 0x10, 7, 7, &[99, 4, 1, 2], b""),
        send(false, 0x10, 7, 7, &[0, 0, 0, 0], b""),
        send(false, 0x10, 7, 7, &[2, 9, 1, 2], b""),
        // A conversation of which the beginning was not seen.
        ip(
            6,
            &[
                &[0x11, 0x11, 0x22, 0x22, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, 0x10, 0, 9, 0, 0, 0, 0][..],
                b"abc",
            ]
            .concat(),
        ),
        ip(
            6,
            &[
                &[0x11, 0x11, 0x22, 0x22, 0, 0, 1, 3, 0, 0, 2, 0, 0x50, 0x18, 0, 9, 0, 0, 0, 0][..],
                b"abc",
            ]
            .concat(),
        ),
        ip(6, &[0x11, 0x11, 0x22, 0x22, 0, 0, 1, 0, 0, 0, 2, 0, 0x40, 0x10, 0, 9, 0, 0, 0, 0]),
        ip(6, &[0x11, 0x11, 0x22, 0x22, 0, 0, 1, 0, 0, 0, 2, 0, 0xf0, 0x10, 0, 9, 0, 0, 0, 0]),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let quoted = |proto| {
        ip_with(proto, (true, 0, 0), &[], &[0x9c, 0x40, 0x1e, 0x61, 0, 8, 0, 0])[14..].to_vec()
    };
    let icmp = |kind, code, rest: [u8; 4], data: &[u8]| {
        ip(1, &[&[kind, code, 0, 0][..], &rest, data].concat())
    };
    let mut frames = vec![
        icmp(8, 0, [0, 7, 0, 1], &[9; 56]),
        icmp(0, 0, [0, 7, 0, 1], &[9; 56]),
        icmp(4, 0, [0; 4], &quoted(17)),
        icmp(12, 0, [20, 0, 0, 0], &quoted(17)),
        icmp(42, 0, [0; 4], &[]),
    ];
    frames.extend((0..14).map(|code| icmp(3, code, [0, 0, 5, 0x14], &quoted(17))));
    frames.push(icmp(3, 3, [0; 4], &quoted(6)));
    frames.push(icmp(3, 3, [0; 4], &quoted(50)));
    frames.push(icmp(3, 4, [0; 4], &quoted(6)));
    frames.extend((0..4).map(|code| icmp(5, code, [10, 0, 0, 9], &quoted(17))));
    frames.extend((0..2).map(|code| icmp(11, code, [0; 4], &quoted(17))));
    let igmp = |data: &[u8]| ip_with(2, (false, 0, 0xc0), &[0x94, 4, 0, 0], data);
    frames.extend([
        igmp(&[0x11, 0, 0, 0, 0, 0, 0, 0]),
        igmp(&[0x11, 100, 0, 0, 0, 0, 0, 0]),
        igmp(&[0x11, 10, 0, 0, 224, 1, 2, 3]),
        igmp(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]),
        igmp(&[0x11, 10, 0, 0, 224, 1, 2, 3, 2, 125, 0, 0]),
        igmp(&[0x12, 0, 0, 0, 224, 1, 2, 3]),
        igmp(&[0x16, 0, 0, 0, 224, 1, 2, 3]),
        igmp(&[0x17, 0, 0, 0, 224, 1, 2, 3]),
        igmp(&[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 224, 1, 2, 3]),
    ]);
    let udp = |len: u16, data: &[u8]| {
        ip(17, &[&[0x9c, 0x40, 0x1e, 0x61][..], &len.to_be_bytes(), &[0, 0], data].concat())
    };
    frames.extend([udp(13, b"hello"), udp(8, b""), udp(5, b""), ip(17, &[0x9c, 0x40, 0x1e, 0x61])]);
    frames.extend(
        [17, 6, 1, 50, 132, 200].map(|proto| ip_with(proto, (false, 0x2010, 0), &[], &[7; 40])),
    );
    frames.push(ip_with(
        17,
        (false, 0x2000, 0x10),
        &[],
        &[0x9c, 0x40, 0x1e, 0x61, 0, 48, 0, 0, 1, 2, 3],
    ));
    let arp = |op, target: [u8; 6]| {
        let ends = [&[2, 0, 0, 0, 0, 1, 10, 0, 0, 1][..], &target, &[10, 0, 0, 2]].concat();
        link(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, op][..], &ends, &[0; 18]].concat())
    };
    frames.extend([arp(1, [0; 6]), arp(1, [2, 0, 0, 0, 0, 9]), arp(2, [2, 0, 0, 0, 0, 2])]);
    frames.push(link(0x88b5, &[0x42; 46]));
    frames.push(link(0x88b5, b"short"));
    frames
}

fn tcpdump(frames: &[Vec<u8>], flags: &[&str]) -> Vec<String> {
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    let interface = writer.interface("eth0").unwrap();
    for (nth, frame) in frames.iter().enumerate() {
        let time = Duration::new(1_700_000_000 + nth as u64, 123_456_000);
        let packet = Packet {
            interface,
            time,
            direction: Direction::In,
            bytes: frame,
            len: frame.len(),
            comment: None,
        };
        writer.packet(&packet).unwrap();
    }
    let path = std::env::temp_dir().join(format!(
        "netkeel-dump-{}{}.pcapng",
        std::process::id(),
        flags.concat()
    ));
    std::fs::write(&path, writer.into_inner()).unwrap();
    let out = Command::new("tcpdump")
        .env("TZ", "UTC")
        .arg("-n")
        .args(flags)
        .arg("-r")
        .arg(&path)
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    // A line begins without a blank; what follows it belongs to it.
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => *last += &format!("\n{line}"),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn ours(frames: &[Vec<u8>], style: Style) -> Vec<String> {
    let mut printer = Printer::new(style);
    let at = |nth| Duration::new(1_700_000_000 + nth as u64, 123_456_000);
    frames
        .iter()
        .enumerate()
        .map(|(nth, frame)| printer.line(at(nth), frame, frame.len()))
        .collect()
}

#[test]
fn lines_are_those_of_tcpdump() {
    if !need(Need::Tool("tcpdump")) {
        return;
    }
    let frames = [conversation(), messages()].concat();
    let plain = Style::default();
    for (flags, style) in [
        (&[][..], plain),
        (&["-e"], Style { link: true, ..plain }),
        (&["-S"], Style { absolute: true, ..plain }),
        (&["-t"], Style { time: TimeStyle::None, ..plain }),
        (&["-tt"], Style { time: TimeStyle::Epoch, ..plain }),
    ] {
        let (theirs, ours) = (tcpdump(&frames, flags), ours(&frames, style));
        let both = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours);
        let wrong: Vec<String> = both.map(|(t, o)| format!("tcpdump {t}\nours    {o}")).collect();
        assert!(wrong.is_empty(), "{flags:?}: {} differ\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(theirs.len(), ours.len(), "{flags:?}");
    }
}

/// Cut anywhere, there is a line.
#[test]
fn frames_that_are_cut_short_have_a_line_too() {
    for frame in [conversation(), messages()].concat() {
        for len in 0..frame.len() {
            let style = Style { link: true, verbose: true, ..Style::default() };
            let line = Printer::new(style).line(Duration::ZERO, &frame[..len], frame.len());
            assert!(line.len() > 15, "{line}");
        }
    }
}

#[test]
fn conversations_are_bounded() {
    let mut printer = Printer::new(Style::default());
    let mut frame = conversation().swap_remove(2);
    for port in 0..20_000_u16 {
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        let _ = printer.line(Duration::ZERO, &frame, frame.len());
    }
    assert!(format!("{:?}", printer.conversations).matches("Base").count() <= 4096);
}
