//! Filters that somebody typed.

use crate::frame::{GROUP, Ip, LOCAL, PEER, ether, sound};
use pcap_filter::{SNAPLEN, compile};
use stack::net::core::filter::bpf_check_classic;
use uapi::ip::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};

/// Compiles a text: it is refused with a place in it, or is a program that the verifier takes, that says all or
/// nothing of a frame. No frame is wanted by its opposite too; by neither is one that is too short to tell.
pub fn filter_expr(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let program = match compile(text) {
        Ok(program) => program,
        Err(error) => {
            assert!((1..=text.len() + 1).contains(&error.column), "{error}");
            assert!(!error.what.is_empty());
            return;
        }
    };
    assert_eq!(compile(text).as_ref(), Ok(&program), "one text, one program");
    bpf_check_classic(program.instructions()).expect("the verifier takes it");
    let udp = [&[0x13, 0x88, 0, 53, 0, 0, 0, 0][..], b"question"].concat();
    let tcp =
        [&[0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 1, 0, 0, 0, 0, 0][..], b"GET"]
            .concat();
    let frames = [
        Vec::new(),
        vec![0xff; 13],
        ether([0xff; 6], 0x0806, &[0; 28]),
        ether([0x33; 6], 0x86dd, &[0x60; 60]),
        ether([1, 0, 0x5e, 1, 2, 3], 0x8100, &[0; 40]),
        sound(Ip::new(IPPROTO_UDP, PEER, LOCAL), &udp),
        sound(Ip::new(IPPROTO_UDP, PEER, GROUP), &udp),
        sound(Ip::new(IPPROTO_TCP, LOCAL, PEER), &tcp),
        sound(Ip { word: 0x2010, ..Ip::new(IPPROTO_TCP, LOCAL, PEER) }, &tcp),
        sound(Ip::new(IPPROTO_ICMP, PEER, LOCAL), &[8, 0, 0, 0, 0, 1, 0, 1]),
    ];
    let says: Vec<u32> = frames.iter().map(|frame| program.bpf_prog_run(&frame[..])).collect();
    assert!(says.iter().all(|says| [0, SNAPLEN].contains(says)), "{says:?}");
    let Ok(opposite) = compile(&format!("not ({text})")) else { return };
    for (frame, says) in frames.iter().zip(says) {
        let both = says != 0 && opposite.bpf_prog_run(&frame[..]) != 0;
        assert!(!both, "{text:?} and its opposite want {frame:02x?}");
    }
}
