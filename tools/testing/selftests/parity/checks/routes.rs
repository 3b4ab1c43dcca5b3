//! Source addresses, loopback's net, and the card, as sockets see them.

use super::checks;
use crate::Probe;
use crate::probe::{ANY, BROADCAST, ETH, GROUP, LO, NET};
use uapi::in_::{IP_MULTICAST_LOOP, IP_PKTINFO};
use uapi::socket::{SO_BINDTODEVICE, SO_BROADCAST, SO_DONTROUTE, SOL_IP, SOL_SOCKET};

checks! {
    the_source_a_route_suggests
    all_of_loopbacks_net
    from_one_of_ours_to_another
    a_limited_broadcast
    all_hosts
    sent_by_the_wrong_device
    not_through_routers
}

fn the_source_a_route_suggests(p: &mut Probe<'_>) {
    let receiver = p.bound(ANY, 4001);
    p.with(receiver, (SOL_IP, IP_PKTINFO), 1);
    for ip in [LO, [127, 8, 8, 8], NET, [192, 0, 2, 9], ETH, ANY] {
        let fd = p.udp();
        let _ = p.sendto(&format!("to {ip:?}"), fd, b"x", ip, 4001);
        p.recvmsg("from", receiver, (8, 64), 0);
        let _ = p.connect("connect", fd, ip, 4001);
        p.names("names", fd);
        let _ = p.send("sent", fd, b"y", 0);
        p.recvmsg("from", receiver, (8, 64), 0);
    }
}

fn all_of_loopbacks_net(p: &mut Probe<'_>) {
    for ip in [[127, 0, 0, 2], [127, 200, 1, 1], [127, 255, 255, 254], [192, 0, 2, 200]] {
        let receiver = p.bound(ip, 4001);
        let fd = p.udp();
        let _ = p.sendto(&format!("to {ip:?}"), fd, b"x", ip, 4001);
        p.recvfrom("arrived", receiver, 8, 0);
        let _ = p.connect("connect", fd, ip, 4001);
        p.names("names", fd);
        let _ = p.send("sent", fd, b"y", 0);
        p.recvfrom("arrived", receiver, 8, 0);
        let _ = p.sendto("to itself", receiver, b"z", ip, 4001);
        p.recvfrom("arrived", receiver, 8, 0);
    }
}

fn from_one_of_ours_to_another(p: &mut Probe<'_>) {
    let all = [LO, NET, ETH].map(|ip| p.bound(ip, 4000));
    for (from, _) in all.iter().zip(0..) {
        for (ip, to) in [LO, NET, ETH].into_iter().zip(all) {
            let _ = p.sendto(&format!("to {ip:?}"), *from, b"x", ip, 4000);
            p.recvfrom("arrived", to, 8, 0);
        }
    }
}

fn a_limited_broadcast(p: &mut Probe<'_>) {
    for device in ["eth0", "lo"] {
        let receiver = p.bound(ANY, 4001);
        p.with(receiver, (SOL_IP, IP_PKTINFO), 1);
        let fd = p.udp();
        p.with(fd, (SOL_SOCKET, SO_BROADCAST), 1);
        let option = (SOL_SOCKET, SO_BINDTODEVICE);
        let _ = p.set_bytes(device, fd, option, device.as_bytes());
        let _ = p.sendto("to all", fd, b"x", BROADCAST, 4001);
        p.recvmsg("arrived", receiver, (8, 64), 0);
        let _ = p.close("closed", receiver);
    }
    let fd = p.bound(ETH, 4002);
    p.with(fd, (SOL_SOCKET, SO_BROADCAST), 1);
    let receiver = p.bound(ANY, 4001);
    let _ = p.sendto("from the card's address", fd, b"x", BROADCAST, 4001);
    p.recvmsg("arrived", receiver, (8, 64), 0);
}

fn all_hosts(p: &mut Probe<'_>) {
    let receiver = p.bound(ANY, 4001);
    p.with(receiver, (SOL_IP, IP_PKTINFO), 1);
    let fd = p.bound(ETH, 4000);
    let _ = p.sendto("to all hosts", fd, b"x", GROUP, 4001);
    p.recvmsg("looped back", receiver, (8, 64), 0);
    p.with(fd, (SOL_IP, IP_MULTICAST_LOOP), 0);
    let _ = p.sendto("without loop", fd, b"y", GROUP, 4001);
    p.recvmsg("not looped back", receiver, (8, 64), 0);
}

fn sent_by_the_wrong_device(p: &mut Probe<'_>) {
    let receiver = p.bound(ANY, 4001);
    for (device, ip) in [("lo", LO), ("lo", ETH), ("eth0", LO), ("eth0", ETH), ("lo", BROADCAST)] {
        let fd = p.udp();
        let option = (SOL_SOCKET, SO_BINDTODEVICE);
        let _ = p.set_bytes(&format!("by {device} to {ip:?}"), fd, option, device.as_bytes());
        let _ = p.sendto("sent", fd, b"x", ip, 4001);
        p.recvfrom("arrived", receiver, 8, 0);
    }
}

fn not_through_routers(p: &mut Probe<'_>) {
    let receiver = p.bound(LO, 4001);
    let fd = p.bound(ANY, 4000);
    p.with(fd, (SOL_SOCKET, SO_DONTROUTE), 1);
    let _ = p.sendto("on this host", fd, b"x", LO, 4001);
    p.recvfrom("arrived", receiver, 8, 0);
    let _ = p.sendto("on the link", fd, b"x", [198, 51, 100, 2], 4001);
    let _ = p.sendto("beyond", fd, b"x", [203, 0, 113, 1], 4001);
}
