//! What a device does for the stack, switched under traffic.

use crate::control::ask;
use crate::streams::stream_to;
use crate::up::{tool, with_up};
use std::io::Read;
use std::net::TcpStream;

/// Packets and octets that the host has received from us.
fn received() -> (u64, u64) {
    let told = tool(&["ip", "-s", "-json", "link", "show", "dev", "nk0"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let rx = &told[0]["stats64"]["rx"];
    (rx["packets"].as_u64().unwrap(), rx["bytes"].as_u64().unwrap())
}

/// Octets of a frame of ours on the average, while so many are read; more, as long as all of them had come before.
fn frame_of(stream: &mut TcpStream, octets: usize) -> u64 {
    let before = received();
    let mut got = vec![0; octets];
    loop {
        stream.read_exact(&mut got).unwrap();
        let after = received();
        if let Some(size) = (after.1 - before.1).checked_div(after.0 - before.0) {
            return size;
        }
    }
}

#[test]
fn a_running_stream_follows_what_is_switched() {
    const MUCH: usize = 4 << 20;
    with_up(|_, _| {
        let mut stream = stream_to(19);
        assert!(frame_of(&mut stream, MUCH) > 3000, "several segments in one");
        assert_eq!(ask("features tso off"), "");
        // What was made before may still be on its way.
        frame_of(&mut stream, MUCH);
        assert!(frame_of(&mut stream, MUCH) <= 1514);
        ask("features tso on");
        frame_of(&mut stream, MUCH);
        assert!(frame_of(&mut stream, MUCH) > 3000);
        let told = ask("features tx off");
        let gone = "Actual changes:\ntx-checksum-ip-generic: off\ntx-tcp-segmentation: off [not requested]\n";
        assert!(told.starts_with(gone), "{told}");
        frame_of(&mut stream, MUCH);
        assert!(frame_of(&mut stream, MUCH) <= 1514);
        let shown = ask("features");
        for line in [
            "Features for nk0:",
            "rx-checksumming: on [fixed]",
            "tx-checksumming: off",
            "\ttx-tcp-segmentation: off [requested on]",
            "scatter-gather: on",
            "generic-receive-offload: on",
            "rx-udp-gro-forwarding: off",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        ask("features sg off gro off tx on");
        frame_of(&mut stream, MUCH);
        assert!(frame_of(&mut stream, MUCH) <= 1514, "no segments without fragments");
        assert!(ask("features").contains("\ttx-tcp-segmentation: off [requested on]\n"));
        ask("features sg on gro on");
        frame_of(&mut stream, MUCH);
        assert!(frame_of(&mut stream, MUCH) > 3000);
        assert!(!ask("features").contains("requested"));
    });
}
