use crate::up::{OUR_MAC, counter, socket_to, with_up};
use host::testing::{NetNs, recv};

fn frame(to: [u8; 6], proto: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(proto.to_be_bytes());
    frame.extend(payload);
    frame
}

fn echoes() {
    let socket = socket_to(7);
    socket.send(b"still there?").unwrap();
    assert_eq!(recv(&socket, &mut [0; 16]).unwrap(), 12);
}

/// Numbers that are the same in every run.
fn noise(seed: &mut u32) -> u8 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 24) as u8
}

fn flood(ns: &NetNs) {
    // A whole ping, cut and bent.
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    packet.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let mut seed = 1;
    for round in 0..400usize {
        let mut bent = packet.clone();
        bent.truncate(round % (packet.len() + 1));
        if let Some(at) = bent.get_mut(round / 3 % 28) {
            *at ^= noise(&mut seed);
        }
        let proto = [0x0800, 0x0806, 0x0800, 0x86dd][round % 4];
        ns.send_frame("nk0", &frame(OUR_MAC, proto, &bent));
    }
}

#[test]
fn foreign_and_broken_frames_do_no_harm_and_are_counted() {
    let output = with_up(|ns, _| {
        echoes();
        for _ in 0..3 {
            ns.send_frame("nk0", &frame(OUR_MAC, 0x88b5, b"an ethertype nobody has"));
        }
        ns.send_frame("nk0", &frame([2, 0, 0, 0, 0, 7], 0x0800, &[0x45; 40]));
        ns.send_frame("nk0", &frame(OUR_MAC, 0x0800, b""));
        ns.send_frame("nk0", &frame(OUR_MAC, 0x0806, &[0; 27]));
        ns.send_frame("nk0", &frame(OUR_MAC, 0x0100, &[0; 40]));
        flood(ns);
        echoes();
    });
    let Some(output) = output else { return };
    assert!(counter(&output, "UNHANDLED_PROTO") >= 4, "{output}");
    assert!(counter(&output, "OTHERHOST") >= 1, "{output}");
    assert!(counter(&output, "HDR_TRUNC") + counter(&output, "PKT_TOO_SMALL") >= 1, "{output}");
    assert!(counter(&output, "InHdrErrors") >= 1, "{output}");
    assert_eq!(counter(&output, "PANIC"), 0, "{output}");
}
