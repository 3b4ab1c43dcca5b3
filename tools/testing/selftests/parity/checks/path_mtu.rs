//! What routers tell of the MTU of ways, and what sockets make of it.

use super::checks;
use crate::Probe;
use crate::probe::{ETH, sa};
use crate::wire::{PEER, Packet, Wire, icmp, octets};
use uapi::in_::*;
use uapi::ip::IPPROTO_ICMP;
use uapi::socket::{MSG_ERRQUEUE, SO_ERROR, SOL_IP, SOL_SOCKET};

checks! {
    path_mtu_told
    path_mtu_in_the_error_queue
    path_mtu_by_mode
    path_mtu_for_who_does_not_listen
    path_mtu_below_the_least
    path_mtu_and_its_least
    path_mtu_that_grows
    path_mtu_that_expires
    path_mtu_discovery_switched_off
    path_mtu_of_others
    path_mtu_by_an_answer_to_an_echo_request
    path_mtu_of_an_unconnected_socket
}

const MTU: (i32, i32) = (SOL_IP, IP_MTU);
const ERROR: (i32, i32) = (SOL_SOCKET, SO_ERROR);

/// A socket that is connected to the peer.
fn begin(p: &mut Probe<'_>) -> (Wire, i32) {
    let wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    let _ = p.connect("the peer", fd, PEER, 4001);
    (wire, fd)
}

fn mode(p: &mut Probe<'_>, fd: i32, mode: i32) {
    p.with(fd, (SOL_IP, IP_MTU_DISCOVER), mode);
}

/// Sends a datagram; its frame.
fn sample(p: &mut Probe<'_>, wire: &mut Wire, fd: i32) -> Vec<u8> {
    let _ = p.send("a sample", fd, &octets(500), 0);
    wire.take(p, "a sample").pop().unwrap_or_default()
}

fn path_mtu_told(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    p.get("before", fd, MTU);
    wire.too_long(p, &frame, 1000);
    p.get("after", fd, MTU);
    p.mask("ready", fd);
    p.get("error", fd, ERROR);
    p.get("error", fd, ERROR);
    for len in [972, 973, 1472, 3000] {
        let _ = p.send(&format!("{len}"), fd, &octets(len), 0);
        wire.note(p, &format!("{len}"));
    }
    mode(p, fd, IP_PMTUDISC_DO);
    for len in [972, 973] {
        let _ = p.send(&format!("{len}, not cut"), fd, &octets(len), 0);
    }
}

fn path_mtu_in_the_error_queue(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    mode(p, fd, IP_PMTUDISC_DO);
    let frame = sample(p, &mut wire, fd);
    wire.too_long(p, &frame, 1000);
    p.recvmsg("a router's", fd, (100, 256), MSG_ERRQUEUE);
    p.get("error", fd, ERROR);
    let _ = p.send("too long", fd, &octets(973), 0);
    p.recvmsg("our own", fd, (100, 256), MSG_ERRQUEUE);
    p.recvmsg("nothing", fd, (100, 256), MSG_ERRQUEUE);
}

fn path_mtu_by_mode(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    wire.too_long(p, &frame, 1000);
    p.get("error", fd, ERROR);
    for value in IP_PMTUDISC_DONT..=IP_PMTUDISC_OMIT {
        mode(p, fd, value);
        p.get(&format!("mode {value}"), fd, MTU);
        for len in [900, 1100, 1472, 1473] {
            let label = format!("mode {value}, {len}");
            let _ = p.send(&label, fd, &octets(len), 0);
            wire.note(p, &label);
        }
    }
}

fn path_mtu_for_who_does_not_listen(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    for (value, mtu) in [
        (IP_PMTUDISC_INTERFACE, 1200),
        (IP_PMTUDISC_OMIT, 1200),
        (IP_PMTUDISC_PROBE, 1300),
        (IP_PMTUDISC_DONT, 1100),
        (IP_PMTUDISC_DO, 1000),
    ] {
        mode(p, fd, value);
        wire.too_long(p, &frame, mtu);
        p.get(&format!("mode {value}"), fd, MTU);
        p.get(&format!("mode {value}: error"), fd, ERROR);
    }
}

fn path_mtu_below_the_least(p: &mut Probe<'_>) {
    for told in [551, 300, 68, 67, 1, 0] {
        p.within(&format!("{told}"));
        let (mut wire, fd) = begin(p);
        let frame = sample(p, &mut wire, fd);
        wire.too_long(p, &frame, told);
        p.get("known", fd, MTU);
        p.get("error", fd, ERROR);
        for value in [IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_DONT] {
            mode(p, fd, value);
            for len in [524, 525] {
                let label = format!("mode {value}, {len}");
                let _ = p.send(&label, fd, &octets(len), 0);
                wire.note(p, &label);
            }
        }
        p.drop_all(&[fd]);
    }
}

fn path_mtu_and_its_least(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    p.calls.sysctl("net.ipv4.route.min_pmtu", "1280");
    wire.too_long(p, &frame, 1300);
    p.get("above", fd, MTU);
    wire.too_long(p, &frame, 1000);
    p.get("below", fd, MTU);
    p.calls.sysctl("net.ipv4.route.min_pmtu", "68");
    wire.too_long(p, &frame, 100);
    p.get("locked", fd, MTU);
}

fn path_mtu_that_grows(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    for told in [1400, 1500, 1600, 65_535, 1399, 1400, 1000, 1001] {
        wire.too_long(p, &frame, told);
        p.get(&format!("{told}"), fd, MTU);
        p.get(&format!("{told}: error"), fd, ERROR);
    }
}

fn path_mtu_that_expires(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    p.calls.sysctl("net.ipv4.route.mtu_expires", "1");
    wire.too_long(p, &frame, 1000);
    p.get("known", fd, MTU);
    p.get("error", fd, ERROR);
    let _none_is_ready = p.calls.poll(&mut [], 1500);
    p.get("forgotten", fd, MTU);
    let _ = p.send("1472", fd, &octets(1472), 0);
    wire.note(p, "1472");
}

fn path_mtu_discovery_switched_off(p: &mut Probe<'_>) {
    for value in 0..4 {
        p.within(&format!("ip_no_pmtu_disc {value}"));
        p.calls.sysctl("net.ipv4.ip_no_pmtu_disc", &value.to_string());
        // Each to a destination of its own: what is known of a way stays.
        let mut wire = Wire::open(p);
        let fd = p.bound(ETH, 4000);
        p.get("discovery", fd, (SOL_IP, IP_MTU_DISCOVER));
        let _ = p.connect("the peer", fd, PEER, 4001);
        p.get("known", fd, MTU);
        let frame = sample(p, &mut wire, fd);
        if value != 0 {
            wire.too_long(p, &frame, 1000);
            p.get("told", fd, MTU);
            p.get("error", fd, ERROR);
        }
        p.drop_all(&[fd]);
    }
}

fn path_mtu_of_others(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let frame = sample(p, &mut wire, fd);
    // Another source, another destination, other ports, another protocol; then what is right.
    for at in [14 + 15, 14 + 19, 14 + 21, 14 + 23, 14 + 9] {
        let mut forged = frame.clone();
        forged[at] ^= 0x40;
        wire.too_long(p, &forged, 1000);
        p.get(&format!("octet {}", at - 14), fd, MTU);
        p.get("error", fd, ERROR);
    }
    wire.too_long(p, &frame[..14 + 24], 1000);
    p.get("cut off", fd, MTU);
    let other = p.bound(ETH, 4002);
    let _ = p.connect("another", other, [198, 51, 100, 8], 4001);
    wire.too_long(p, &frame, 1000);
    p.get("of this way", fd, MTU);
    p.get("of another", other, MTU);
}

fn path_mtu_by_an_answer_to_an_echo_request(p: &mut Probe<'_>) {
    let (mut wire, fd) = begin(p);
    let echo = Packet::of(IPPROTO_ICMP, 1, icmp(8, 0, [0, 7, 0, 9], &octets(1200)));
    wire.send(p, std::slice::from_ref(&echo));
    let answer = wire.note(p, "an answer").pop().unwrap_or_default();
    wire.too_long(p, &answer, 1000);
    // Linux's socket hears of it when it sends.
    sample(p, &mut wire, fd);
    p.get("known", fd, MTU);
    wire.send(p, &[echo]);
    wire.note(p, "another answer");
    // A request that nobody here sent tells nothing.
    let mut forged = answer;
    forged[14 + 20] = 8;
    wire.too_long(p, &forged, 900);
    sample(p, &mut wire, fd);
    p.get("still", fd, MTU);
}

fn path_mtu_of_an_unconnected_socket(p: &mut Probe<'_>) {
    let mut wire = Wire::open(p);
    let fd = p.bound(ETH, 4000);
    let _ = p.sendto("a sample", fd, &octets(500), PEER, 4001);
    let frame = wire.take(p, "a sample").pop().unwrap_or_default();
    wire.too_long(p, &frame, 1000);
    p.get("error", fd, ERROR);
    p.get("no peer", fd, MTU);
    mode(p, fd, IP_PMTUDISC_DO);
    for len in [972, 973] {
        let sent = p.calls.sendto(fd, &octets(len), 0, Some(&sa(PEER, 4001)));
        let _ = p.ret(&format!("{len}"), sent);
    }
    p.get("error", fd, ERROR);
}
