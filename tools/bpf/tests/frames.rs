//! Frames of every kind that the language can tell apart, whole and cut short.

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 2], [1, 0, 0x5e, 0, 0, 1], [0xff; 6]];

fn link(to: [u8; 6], tag: Option<u16>, kind: u16) -> Vec<u8> {
    let mut frame = [to, OURS].concat();
    if let Some(tag) = tag {
        frame.extend([0x81, 0]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    frame
}

fn transport(proto: u8, ports: [u16; 2]) -> Vec<u8> {
    let mut data: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    let flags = if ports[0] == 80 { 0x12 } else { 0x02 };
    data.extend([0, 20, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    data.extend(b"GET / HTTP/1.1\r\n");
    if proto == 1 || proto == 58 {
        data[0] = if ports[0] == 80 { 8 } else { 3 };
        data[1] = 4;
    }
    data
}

fn ip4(
    tos: u8,
    flags_and_offset: u16,
    options: usize,
    proto: u8,
    ends: [[u8; 4]; 2],
    data: &[u8],
) -> Vec<u8> {
    let mut header = vec![0x45 + (options / 4) as u8, tos];
    header.extend(((20 + options + data.len()) as u16).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(flags_and_offset.to_be_bytes());
    header.extend([64, proto, 0, 0]);
    header.extend(ends.concat());
    header.resize(20 + options, 1);
    [&header, data].concat()
}

fn ip6(next: u8, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, data.len() as u8, next, 64];
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    [&header, data].concat()
}

pub(super) fn all() -> Vec<Vec<u8>> {
    let mut frames = vec![Vec::new(), vec![0; 10]];
    for tag in [None, Some(100), Some(0x60c8)] {
        for to in TO {
            let mut add =
                |kind: u16, body: &[u8]| frames.push([&link(to, tag, kind), body].concat());
            for proto in [1, 2, 6, 17, 47, 50, 132] {
                for (fragment, options) in [(0, 0), (0x2000, 0), (0x0010, 0), (0, 4), (0x4000, 40)]
                {
                    for ends in [
                        [[10, 0, 0, 1], [10, 0, 0, 2]],
                        [[192, 168, 1, 5], [224, 0, 0, 1]],
                        [[10, 0, 0, 2], [10, 0, 0, 255]],
                    ] {
                        for ports in [[80, 1000], [53, 53], [1000, 22]] {
                            let data = transport(proto, ports);
                            let tos = if ports[0] == 53 { 0x10 } else { 0 };
                            for len in [0, 3, 20, data.len()] {
                                add(
                                    0x0800,
                                    &ip4(tos, fragment, options, proto, ends, &data[..len]),
                                );
                            }
                        }
                    }
                }
            }
            for op in [1, 2] {
                let ends = [2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
                let arp = [&[0, 1, 8, 0, 6, 4, 0, op][..], &ends].concat();
                add(0x0806, &arp);
                add(0x8035, &arp);
            }
            for next in [6, 17, 58, 44] {
                let mut data = transport(next, [80, 1000]);
                if next == 44 {
                    data.splice(..0, [6, 0, 0, 0, 0, 0, 0, 1]);
                }
                add(0x86dd, &ip6(next, &data));
                add(0x86dd, &ip6(next, &data[..4]));
            }
            add(46, &[0x42; 46]);
            add(46, &[0; 46]);
        }
    }
    frames
}
