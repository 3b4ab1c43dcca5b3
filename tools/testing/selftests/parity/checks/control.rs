//! Control data, both ways.

use super::checks;
use crate::probe::{ANY, ETH, FOREIGN, LO, NET, control, int, sa};
use crate::{Outgoing, Probe};
use uapi::in_::{
    IP_PKTINFO, IP_RECVORIGDSTADDR, IP_RECVTOS, IP_RECVTTL, IP_TOS, IP_TTL, InPktinfo,
};
use uapi::socket::{
    MSG_MORE, MSG_PEEK, SO_BINDTODEVICE, SO_MARK, SO_PRIORITY, SO_RXQ_OVFL, SOL_IP, SOL_SOCKET,
};

checks! {
    where_a_packet_came_to
    time_to_live_and_type_of_service
    time_to_live_by_message
    type_of_service_by_message
    a_mark_by_message
    too_much_control_data
    source_by_message
    malformed_control_data
    unknown_control_data
    truncated_control_data
    control_data_when_peeking
    nothing_asked_nothing_told
    type_of_service_values
}

fn info(ifindex: i32, spec: [u8; 4], addr: [u8; 4]) -> Vec<u8> {
    let (spec_dst, addr) = (u32::from_be_bytes(spec), u32::from_be_bytes(addr));
    InPktinfo { ifindex, spec_dst, addr }.to_bytes().to_vec()
}

fn message(to: [u8; 4], port: u16, control: Vec<u8>) -> Outgoing {
    Outgoing { name: Some(sa(to, port)), parts: vec![b"data".to_vec()], control }
}

fn where_a_packet_came_to(p: &mut Probe<'_>) {
    let receiver = p.bound(ANY, 4001);
    p.with(receiver, (SOL_IP, IP_PKTINFO), 1);
    p.with(receiver, (SOL_IP, IP_RECVORIGDSTADDR), 1);
    let fd = p.bound(ANY, 4000);
    for ip in [LO, [127, 3, 3, 3], NET, [192, 0, 2, 77], ETH] {
        let _ = p.sendto(&format!("to {ip:?}"), fd, b"x", ip, 4001);
        p.recvmsg("told", receiver, (8, 128), 0);
    }
    p.with(fd, (SOL_SOCKET, 6), 1);
    for ip in [[198, 51, 100, 255], [192, 0, 2, 255]] {
        let _ = p.sendto(&format!("to {ip:?}"), fd, b"x", ip, 4001);
        p.recvmsg("told", receiver, (8, 128), 0);
    }
}

fn time_to_live_and_type_of_service(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, (SOL_IP, IP_RECVTTL), 1);
    p.with(receiver, (SOL_IP, IP_RECVTOS), 1);
    let fd = p.joined(4000, 4001);
    let _ = p.send("by default", fd, b"x", 0);
    p.recvmsg("told", receiver, (8, 128), 0);
    let _ = p.set("ttl", fd, (SOL_IP, IP_TTL), 33);
    for tos in [0x10, 0x04, 0xb8, 0xff] {
        let _ = p.set("tos", fd, (SOL_IP, IP_TOS), tos);
        p.get("tos", fd, (SOL_IP, IP_TOS));
        p.get("priority", fd, (SOL_SOCKET, SO_PRIORITY));
        let _ = p.send("sent", fd, b"x", 0);
        p.recvmsg("told", receiver, (8, 128), 0);
    }
}

fn time_to_live_by_message(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, (SOL_IP, IP_RECVTTL), 1);
    let fd = p.bound(LO, 4000);
    for ttl in [1, 44, 255, 256, 0, -1] {
        let msg = message(LO, 4001, control(&[(SOL_IP, IP_TTL, &int(ttl))]));
        let _ = p.sendmsg(&format!("ttl {ttl}"), fd, &msg, 0);
        p.recvmsg("told", receiver, (8, 128), 0);
    }
    let short = message(LO, 4001, control(&[(SOL_IP, IP_TTL, &[44])]));
    let _ = p.sendmsg("a byte", fd, &short, 0);
    let long = message(LO, 4001, control(&[(SOL_IP, IP_TTL, &[44, 0, 0, 0, 0, 0, 0, 0])]));
    let _ = p.sendmsg("eight bytes", fd, &long, 0);
    let two = [(SOL_IP, IP_TTL, &int(5)[..]), (SOL_IP, IP_TTL, &int(6))];
    let _ = p.sendmsg("twice", fd, &message(LO, 4001, control(&two)), 0);
    p.recvmsg("the last one counts", receiver, (8, 128), 0);
}

fn type_of_service_by_message(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    p.with(receiver, (SOL_IP, IP_RECVTOS), 1);
    let fd = p.bound(LO, 4000);
    p.with(fd, (SOL_IP, IP_TOS), 0x08);
    for tos in [0, 0x10, 0xb8, 0xff, 0x100, -1] {
        let msg = message(LO, 4001, control(&[(SOL_IP, IP_TOS, &int(tos))]));
        let _ = p.sendmsg(&format!("tos {tos:#x}"), fd, &msg, 0);
        p.recvmsg("told", receiver, (8, 128), 0);
    }
    for (label, data) in [("a byte", &[0x20][..]), ("two bytes", &[0x20, 0]), ("none", &[])] {
        let msg = message(LO, 4001, control(&[(SOL_IP, IP_TOS, data)]));
        let _ = p.sendmsg(label, fd, &msg, 0);
        p.recvmsg("told", receiver, (8, 128), 0);
    }
    let msg = message(LO, 4001, control(&[(SOL_SOCKET, SO_PRIORITY, &int(5))]));
    let _ = p.sendmsg("priority", fd, &msg, 0);
    p.recvmsg("told", receiver, (8, 128), 0);
}

fn a_mark_by_message(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    for (label, data) in [
        ("a mark", &[5, 0, 0, 0][..]),
        ("short", &[5, 0, 0]),
        ("long", &[5, 0, 0, 0, 0]),
        ("none", &[]),
    ] {
        let msg = message(LO, 4001, control(&[(SOL_SOCKET, SO_MARK, data)]));
        let _ = p.sendmsg(label, fd, &msg, 0);
        p.recvfrom("arrived", receiver, 8, 0);
    }
}

fn too_much_control_data(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let large = message(LO, 4001, vec![0; 140_000]);
    let _ = p.sendmsg("too much", fd, &large, 0);
    let _ = p.sendmsg("corked", fd, &large, MSG_MORE);
    let small = message(LO, 4001, vec![0; 1000]);
    let _ = p.sendmsg("malformed", fd, &small, 0);
}

fn source_by_message(p: &mut Probe<'_>) {
    let receiver = p.bound(ANY, 4001);
    let fd = p.bound(ANY, 4000);
    for (label, data) in [
        ("from loopback", info(0, LO, LO)),
        ("from the second", info(0, NET, ANY)),
        ("from the card", info(0, ETH, ANY)),
        ("not ours", info(0, FOREIGN, ANY)),
        ("the other field is ignored", info(0, ANY, NET)),
        ("by loopback", info(1, ANY, ANY)),
        ("by the card", info(2, ANY, ANY)),
        ("by the card, its address", info(2, ETH, ANY)),
        ("by no device", info(77, ANY, ANY)),
        ("by a negative device", info(-1, ANY, ANY)),
        ("short", vec![0; 11]),
        ("long", vec![0; 13]),
    ] {
        let msg = message(LO, 4001, control(&[(SOL_IP, IP_PKTINFO, &data)]));
        let _ = p.sendmsg(label, fd, &msg, 0);
        p.recvfrom("arrived", receiver, 8, 0);
    }
    let option = (SOL_SOCKET, SO_BINDTODEVICE);
    let _ = p.set_bytes("by lo", fd, option, b"lo");
    for device in [1, 2] {
        let msg = message(LO, 4001, control(&[(SOL_IP, IP_PKTINFO, &info(device, ANY, ANY))]));
        let _ = p.sendmsg("another device", fd, &msg, 0);
        p.recvfrom("arrived", receiver, 8, 0);
    }
}

fn malformed_control_data(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let good = control(&[(SOL_IP, IP_TTL, &int(9))]);
    let with_len = |len: u64| {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&len.to_ne_bytes());
        bytes
    };
    for (label, bytes) in [
        ("good", good.clone()),
        ("no padding", good[..20].to_vec()),
        ("cut off", good[..18].to_vec()),
        ("a header only", good[..16].to_vec()),
        ("half a header", good[..8].to_vec()),
        ("a byte", vec![1]),
        ("length zero", with_len(0)),
        ("length of a header", with_len(16)),
        ("length less than a header", with_len(15)),
        ("length over the end", with_len(25)),
        ("a huge length", with_len(u64::MAX)),
        ("rubbish behind", [&good[..], &[0xff; 7]].concat()),
        ("a bad one behind", [&good[..], &[0xff; 16]].concat()),
    ] {
        let _ = p.sendmsg(label, fd, &message(LO, 4001, bytes), 0);
        p.recvfrom("arrived", receiver, 8, 0);
    }
}

fn unknown_control_data(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    for (label, level, kind) in [
        ("unknown to IP", SOL_IP, 99),
        ("an option, but no message", SOL_IP, 14),
        ("unknown to sockets", SOL_SOCKET, 99),
        ("UDP's", 17, 99),
        ("TCP's", 6, 1),
        ("nobody's", 99, 1),
        ("SCM_RIGHTS", SOL_SOCKET, 1),
        ("SCM_CREDENTIALS", SOL_SOCKET, 2),
    ] {
        let msg = message(LO, 4001, control(&[(level, kind, &int(1))]));
        let _ = p.sendmsg(label, fd, &msg, 0);
        p.recvfrom("arrived", receiver, 8, 0);
    }
}

fn truncated_control_data(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    for option in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        p.with(receiver, (SOL_IP, option), 1);
    }
    for room in [0, 1, 15, 16, 17, 24, 28, 32, 40, 48, 52, 56, 72, 73, 80, 200] {
        let _ = p.sendto("sent", fd, b"x", LO, 4001);
        p.recvmsg(&format!("room for {room}"), receiver, (8, room), 0);
    }
}

fn control_data_when_peeking(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    p.with(receiver, (SOL_IP, IP_RECVTTL), 1);
    let _ = p.sendto("sent", fd, b"x", LO, 4001);
    p.recvmsg("peek", receiver, (8, 64), MSG_PEEK);
    p.with(receiver, (SOL_IP, IP_RECVTTL), 0);
    p.with(receiver, (SOL_IP, IP_PKTINFO), 1);
    p.recvmsg("asked for after it came", receiver, (8, 64), 0);
}

fn nothing_asked_nothing_told(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(LO, 4000);
    let _ = p.sendto("sent", fd, b"x", LO, 4001);
    p.recvmsg("nothing", receiver, (8, 64), 0);
    p.with(receiver, (SOL_SOCKET, SO_RXQ_OVFL), 1);
    let _ = p.sendto("sent", fd, b"x", LO, 4001);
    p.recvmsg("nothing lost yet", receiver, (8, 64), 0);
}

fn type_of_service_values(p: &mut Probe<'_>) {
    let fd = p.udp();
    for tos in [0, 1, 2, 3, 4, 0x08, 0x10, 0x18, 0x1e, 0xfc, 0xff, 0x100, -1] {
        let _ = p.set(&format!("tos {tos:#x}"), fd, (SOL_IP, IP_TOS), tos);
        p.get("tos", fd, (SOL_IP, IP_TOS));
        p.get("priority", fd, (SOL_SOCKET, SO_PRIORITY));
    }
}
