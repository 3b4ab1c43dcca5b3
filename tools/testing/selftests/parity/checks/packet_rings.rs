//! Receive rings: what can be made, what is counted; what is in them a process maps, which is not compared here.

use super::checks;
use super::packet::{OURS, frame, on_lo, packet, received, send_to};
use crate::probe::Probe;
use uapi::if_packet::*;
use uapi::socket::*;

checks! {
    packet_rings_that_can_be_made
    packet_rings_take_what_they_have_room_for
    packet_rings_of_blocks_that_can_be_made
    packet_blocks_take_what_they_have_room_for
}

/// A `tpacket_req`.
fn req(block_size: u32, block_nr: u32, frame_size: u32, frame_nr: u32) -> Vec<u8> {
    [block_size, block_nr, frame_size, frame_nr]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

const RX_RING: (i32, i32) = (SOL_PACKET, PACKET_RX_RING);

fn packet_rings_that_can_be_made(p: &mut Probe<'_>) {
    for (version, reserve) in [(TPACKET_V1, 0), (TPACKET_V2, 0), (TPACKET_V2, 100)] {
        p.within(&format!("version {version}, {reserve} reserved"));
        let fd = packet(p, SOCK_RAW, OURS);
        p.with(fd, (SOL_PACKET, PACKET_VERSION), version);
        p.with(fd, (SOL_PACKET, PACKET_RESERVE), reserve);
        for (label, value) in [
            ("none", req(0, 0, 0, 0)),
            ("no blocks, and frames", req(4096, 0, 2048, 2)),
            ("blocks of nothing", req(0, 1, 2048, 2)),
            ("no whole pages", req(2048, 1, 2048, 1)),
            ("negative", req(1 << 31, 1, 2048, 1 << 20)),
            ("frames of nothing", req(4096, 1, 0, 0)),
            ("frames for less than a header", req(4096, 1, 48, 85)),
            ("frames for less than what is reserved", req(4096, 1, 144, 28)),
            ("frames between alignments", req(4096, 1, 2040, 2)),
            ("frames longer than blocks", req(4096, 1, 8192, 1)),
            ("another number of frames", req(4096, 2, 2048, 5)),
            ("short", req(4096, 2, 2048, 4)[..15].to_vec()),
            ("a ring", req(4096, 2, 2048, 4)),
            ("another", req(4096, 1, 2048, 2)),
        ] {
            let _ = p.set_bytes(label, fd, RX_RING, &value);
        }
        let _ = p.set("version", fd, (SOL_PACKET, PACKET_VERSION), TPACKET_V1);
        let _ = p.set("reserve", fd, (SOL_PACKET, PACKET_RESERVE), 0);
        let _ = p.set("loss", fd, (SOL_PACKET, PACKET_LOSS), 1);
        let _ = p.set_bytes("taken away", fd, RX_RING, &req(0, 0, 0, 0));
        let _ = p.set("version", fd, (SOL_PACKET, PACKET_VERSION), TPACKET_V1);
        p.drop_all(&[fd]);
    }
}

/// A `tpacket_req3`.
fn req3(first: &[u8], tov: u32, sizeof_priv: u32, features: u32) -> Vec<u8> {
    let rest = [tov, sizeof_priv, features];
    first.iter().copied().chain(rest.iter().flat_map(|word| word.to_ne_bytes())).collect()
}

fn packet_rings_of_blocks_that_can_be_made(p: &mut Probe<'_>) {
    for reserve in [0, 100] {
        p.within(&format!("{reserve} reserved"));
        let fd = packet(p, SOCK_RAW, OURS);
        p.with(fd, (SOL_PACKET, PACKET_VERSION), TPACKET_V3);
        p.with(fd, (SOL_PACKET, PACKET_RESERVE), reserve);
        for (label, value) in [
            ("none", req3(&req(0, 0, 0, 0), 0, 0, 0)),
            ("of an older version", req(4096, 2, 2048, 4)),
            ("short", req3(&req(4096, 2, 2048, 4), 0, 0, 0)[..27].to_vec()),
            ("no blocks, and frames", req3(&req(4096, 0, 2048, 2), 0, 0, 0)),
            ("no whole pages", req3(&req(2048, 1, 2048, 1), 0, 0, 0)),
            ("frames of nothing", req3(&req(4096, 1, 0, 0), 0, 0, 0)),
            ("frames for less than a header", req3(&req(4096, 1, 64, 64), 0, 0, 0)),
            ("frames for less than what is reserved", req3(&req(4096, 1, 160, 25), 0, 0, 0)),
            ("frames between alignments", req3(&req(4096, 1, 2040, 2), 0, 0, 0)),
            ("frames longer than blocks", req3(&req(4096, 1, 8192, 1), 0, 0, 0)),
            ("another number of frames", req3(&req(4096, 2, 2048, 5), 0, 0, 0)),
            ("all of a block reserved", req3(&req(4096, 1, 2048, 2), 0, 4096, 0)),
            ("too much of a block reserved", req3(&req(4096, 1, 2048, 2), 0, 4096 - 48 - 64, 0)),
            ("more than there can be", req3(&req(4096, 1, 2048, 2), 0, u32::MAX, 0)),
            ("a ring", req3(&req(4096, 2, 2048, 4), 5000, 100, 1)),
            ("another", req3(&req(4096, 1, 2048, 2), 0, 0, 0)),
        ] {
            let _ = p.set_bytes(label, fd, RX_RING, &value);
        }
        p.get_bytes("nothing came", fd, (SOL_PACKET, PACKET_STATISTICS), 12);
        let _ = p.set("version", fd, (SOL_PACKET, PACKET_VERSION), TPACKET_V2);
        let _ = p.set_bytes("taken away", fd, RX_RING, &req3(&req(0, 0, 0, 0), 0, 0, 0));
        let _ = p.set("version", fd, (SOL_PACKET, PACKET_VERSION), TPACKET_V2);
        p.drop_all(&[fd]);
    }
}

fn packet_blocks_take_what_they_have_room_for(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = on_lo(p, SOCK_RAW, 0);
    p.with(reader, (SOL_PACKET, PACKET_VERSION), TPACKET_V3);
    let minutes = req3(&req(4096, 2, 2048, 4), 600_000, 0, 0);
    let _ = p.set_bytes("a ring", reader, RX_RING, &minutes);
    p.mask("idle", reader);
    send_to(p, "one", fd, &frame(OURS, &[b'1'; 1200]), &[]);
    p.mask("a block that is not full", reader);
    received(p, "not in the queue", reader);
    send_to(p, "two", fd, &frame(OURS, &[b'2'; 1200]), &[]);
    send_to(p, "three", fd, &frame(OURS, &[b'3'; 1200]), &[]);
    p.mask("still not", reader);
    send_to(p, "four", fd, &frame(OURS, &[b'4'; 1200]), &[]);
    p.mask("full", reader);
    let counts = (SOL_PACKET, PACKET_STATISTICS);
    p.get_bytes("all have room", reader, counts, 12);
    for _ in 0..5 {
        send_to(p, "more", fd, &frame(OURS, &[b'm'; 1200]), &[]);
    }
    p.mask("both are full", reader);
    p.get_bytes("two came, three were lost, and it was frozen", reader, counts, 12);
    p.get_bytes("into less room", reader, counts, 8);
    let _ = p.set_bytes("taken away", reader, RX_RING, &req3(&req(0, 0, 0, 0), 0, 0, 0));
    p.mask("idle", reader);
    send_to(p, "after", fd, &frame(OURS, b"queued again"), &[]);
    received(p, "queued again", reader);
}

fn packet_rings_take_what_they_have_room_for(p: &mut Probe<'_>) {
    let reader = packet(p, SOCK_RAW, OURS);
    let fd = on_lo(p, SOCK_RAW, 0);
    send_to(p, "before", fd, &frame(OURS, b"queued"), &[]);
    let _ = p.set_bytes("a ring", reader, RX_RING, &req(4096, 2, 2048, 4));
    received(p, "what was queued is gone", reader);
    p.mask("idle", reader);
    send_to(p, "one", fd, &frame(OURS, b"one"), &[]);
    p.mask("readable", reader);
    received(p, "not in the queue", reader);
    for _ in 0..5 {
        send_to(p, "more", fd, &frame(OURS, b"more"), &[]);
    }
    p.get_bytes("four came, two were lost", reader, (SOL_PACKET, PACKET_STATISTICS), 8);
    let _ = p.set_bytes("taken away", reader, RX_RING, &req(0, 0, 0, 0));
    p.mask("idle", reader);
    send_to(p, "after", fd, &frame(OURS, b"queued again"), &[]);
    received(p, "queued again", reader);
}
