//! bind(2): addresses, ports, sharing.

use super::checks;
use crate::Probe;
use crate::probe::{ANY, BROADCAST, ETH, FOREIGN, GROUP, Ip, LO, NET, int, sa};
use uapi::in_::{IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND};
use uapi::socket::{
    AF_INET6, AF_UNIX, AF_UNSPEC, SO_BINDTODEVICE, SO_REUSEADDR, SO_REUSEPORT, SOL_IP, SOL_SOCKET,
};

checks! {
    addresses_to_bind
    a_socket_binds_once
    port_zero_is_any_port
    short_and_foreign_names
    ports_shared_by_reuseaddr
    ports_shared_by_reuseport
    sharing_needs_both
    a_port_on_two_addresses
    a_port_on_two_devices
    sharing_changed_after_bind
    a_failed_bind_leaves_no_trace
    freebind_takes_any_address
    bound_without_a_port
    chosen_ports_differ
    privileged_ports
}

fn addresses_to_bind(p: &mut Probe<'_>) {
    for ip in [
        ANY,
        LO,
        [127, 9, 8, 7],
        [127, 255, 255, 255],
        [127, 0, 0, 0],
        NET,
        [192, 0, 2, 77],
        [192, 0, 2, 255],
        [192, 0, 2, 0],
        ETH,
        [198, 51, 100, 2],
        [198, 51, 100, 255],
        [198, 51, 100, 0],
        BROADCAST,
        GROUP,
        [239, 1, 2, 3],
        FOREIGN,
        [0, 1, 2, 3],
        [240, 0, 0, 1],
    ] {
        let fd = p.udp();
        let _ = p.bind(&format!("bind {ip:?}"), fd, ip, 4000);
        p.names("names", fd);
        let _ = p.close("closed", fd);
    }
}

fn a_socket_binds_once(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    let _ = p.bind("the same", fd, LO, 4000);
    let _ = p.bind("another port", fd, LO, 4001);
    let _ = p.bind("another address", fd, NET, 4000);
    let _ = p.bind("not ours", fd, FOREIGN, 4000);
    let ret = p.calls.bind(fd, &sa(LO, 4000)[..8]);
    let _ = p.ret("a short name", ret);
    p.names("names", fd);
    let sent = p.udp();
    let _ = p.sendto("sending binds", sent, b"", LO, 4000);
    let _ = p.bind("too late", sent, LO, 4005);
}

fn port_zero_is_any_port(p: &mut Probe<'_>) {
    for ip in [ANY, LO, NET] {
        let fd = p.udp();
        let _ = p.bind("bind", fd, ip, 0);
        p.names("names", fd);
    }
    let fd = p.udp();
    p.names("unbound", fd);
}

fn short_and_foreign_names(p: &mut Probe<'_>) {
    let full = sa(LO, 4000);
    let long = [&full[..], &[0; 20]].concat();
    let of = |family: i32, ip: Ip| {
        let mut name = sa(ip, 4000);
        name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name
    };
    let large = [&full[..], &[0; 200]].concat();
    for (label, name) in [
        ("nothing", &[][..]),
        ("a byte", &full[..1]),
        ("the family", &full[..2]),
        ("half", &full[..8]),
        ("one less", &full[..15]),
        ("longer", &long),
        ("larger than any", &large),
        ("no family, any address", &of(AF_UNSPEC, ANY)),
        ("no family, an address", &of(AF_UNSPEC, LO)),
        ("a path", &of(AF_UNIX, LO)),
        ("IPv6", &of(AF_INET6, LO)),
        ("family 77", &of(77, LO)),
        ("short no family", &of(AF_UNSPEC, ANY)[..8]),
        ("short IPv6", &of(AF_INET6, LO)[..8]),
    ] {
        let fd = p.udp();
        let ret = p.calls.bind(fd, name);
        let _ = p.ret(label, ret);
        p.names("names", fd);
        p.drop_all(&[fd]);
    }
}

/// Two sockets with these options at these addresses, on one port.
fn pair(p: &mut Probe<'_>, option: i32, set: [bool; 2], at: [Ip; 2]) {
    let label = format!("{set:?} {at:?}");
    let fds = [0, 1].map(|which| {
        let fd = p.udp();
        if set[which] {
            p.with(fd, (SOL_SOCKET, option), 1);
        }
        let _ = p.bind(&label, fd, at[which], 4000);
        fd
    });
    p.drop_all(&fds);
}

const PLACES: [[Ip; 2]; 7] =
    [[ANY, ANY], [ANY, LO], [LO, ANY], [LO, LO], [LO, NET], [GROUP, GROUP], [ANY, GROUP]];

fn matrix(p: &mut Probe<'_>, option: i32) {
    for at in PLACES {
        for set in [[false, false], [true, false], [false, true], [true, true]] {
            pair(p, option, set, at);
        }
    }
}

fn ports_shared_by_reuseaddr(p: &mut Probe<'_>) {
    matrix(p, SO_REUSEADDR);
}

fn ports_shared_by_reuseport(p: &mut Probe<'_>) {
    matrix(p, SO_REUSEPORT);
}

fn sharing_needs_both(p: &mut Probe<'_>) {
    for (first, second) in [
        (&[SO_REUSEADDR][..], &[SO_REUSEPORT][..]),
        (&[SO_REUSEPORT], &[SO_REUSEADDR]),
        (&[SO_REUSEADDR, SO_REUSEPORT], &[SO_REUSEADDR]),
        (&[SO_REUSEADDR, SO_REUSEPORT], &[SO_REUSEPORT]),
        (&[SO_REUSEPORT], &[SO_REUSEADDR, SO_REUSEPORT]),
    ] {
        let fds = [first, second].map(|options| {
            let fd = p.udp();
            options.iter().for_each(|option| p.with(fd, (SOL_SOCKET, *option), 1));
            let _ = p.bind(&format!("with {options:?}"), fd, LO, 4000);
            fd
        });
        p.drop_all(&fds);
    }
}

fn a_port_on_two_addresses(p: &mut Probe<'_>) {
    let _one = p.bound(LO, 4000);
    let two = p.udp();
    let _ = p.bind("another address", two, NET, 4000);
    let three = p.udp();
    let _ = p.bind("another of the same net", three, [127, 0, 0, 2], 4000);
    let four = p.udp();
    let _ = p.bind("any", four, ANY, 4000);
    let five = p.udp();
    let _ = p.bind("broadcast", five, BROADCAST, 4000);
    p.names("broadcast", five);
    let six = p.udp();
    let _ = p.bind("any, another port", six, ANY, 4001);
}

fn a_port_on_two_devices(p: &mut Probe<'_>) {
    for (one, two) in [("lo", "eth0"), ("lo", "lo"), ("lo", ""), ("", "eth0")] {
        let fds = [one, two].map(|name| {
            let fd = p.udp();
            let label = format!("device {name:?}");
            let _ = p.set_bytes(&label, fd, (SOL_SOCKET, SO_BINDTODEVICE), name.as_bytes());
            let _ = p.bind("bind", fd, ANY, 4000);
            fd
        });
        p.drop_all(&fds);
    }
}

fn sharing_changed_after_bind(p: &mut Probe<'_>) {
    let one = p.bound(LO, 4000);
    let _ = p.set("reuseaddr after bind", one, (SOL_SOCKET, SO_REUSEADDR), 1);
    let two = p.udp();
    p.with(two, (SOL_SOCKET, SO_REUSEADDR), 1);
    let _ = p.bind("shared", two, LO, 4000);
    let _ = p.set("reuseport after bind", one, (SOL_SOCKET, SO_REUSEPORT), 1);
    p.get("reuseport", one, (SOL_SOCKET, SO_REUSEPORT));
    let _ = p.set("reuseaddr off", one, (SOL_SOCKET, SO_REUSEADDR), 0);
    let three = p.udp();
    p.with(three, (SOL_SOCKET, SO_REUSEADDR), 1);
    let _ = p.bind("no more", three, LO, 4000);
}

fn a_failed_bind_leaves_no_trace(p: &mut Probe<'_>) {
    let _one = p.bound(LO, 4000);
    let fd = p.udp();
    let _ = p.bind("taken", fd, LO, 4000);
    p.names("names", fd);
    let _ = p.bind("not ours", fd, FOREIGN, 4001);
    p.names("names", fd);
    let _ = p.bind("at last", fd, LO, 4001);
    p.names("names", fd);
}

fn freebind_takes_any_address(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.set("freebind", fd, (SOL_IP, IP_FREEBIND), 1);
    p.get("freebind", fd, (SOL_IP, IP_FREEBIND));
    let _ = p.bind("not ours", fd, FOREIGN, 4000);
    p.names("names", fd);
    let _ = p.sendto("sent from it", fd, b"x", LO, 4001);
    let _ = p.sendto("sent to itself", fd, b"x", FOREIGN, 4000);
}

fn bound_without_a_port(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.set("no port yet", fd, (SOL_IP, IP_BIND_ADDRESS_NO_PORT), 1);
    let _ = p.bind("address only", fd, LO, 0);
    p.names("names", fd);
    let _ = p.bind("again", fd, NET, 0);
    p.names("names", fd);
    let _ = p.connect("connected", fd, LO, 9);
    p.names("names", fd);
    let fd = p.udp();
    let _ = p.set("no port yet", fd, (SOL_IP, IP_BIND_ADDRESS_NO_PORT), 1);
    let _ = p.bind("with a port", fd, LO, 4000);
    p.names("names", fd);
}

fn chosen_ports_differ(p: &mut Probe<'_>) {
    for _ in 0..8 {
        let fd = p.udp();
        let _ = p.bind("bind", fd, LO, 0);
        p.names("names", fd);
    }
    let fd = p.udp();
    let ret = p.calls.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &int(1));
    let _ = p.ret("reuseaddr", ret);
    let _ = p.bind("bind", fd, LO, 0);
    p.names("names", fd);
}

fn privileged_ports(p: &mut Probe<'_>) {
    for port in [1, 1023, 1024] {
        let fd = p.udp();
        let _ = p.bind(&format!("port {port}"), fd, LO, port);
    }
}
