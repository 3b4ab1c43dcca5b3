//! ioctl(2) about devices.

use super::checks;
use crate::Probe;
use crate::probe::{ANY, ETH, FOREIGN, Ip, LO, NET, sa};
use uapi::if_::IFF_RUNNING;
use uapi::sockios::{
    FIOASYNC, FIOGETOWN, SIOCDEVPRIVATE, SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFCONF, SIOCGIFDSTADDR,
    SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFNAME,
    SIOCGIFNETMASK, SIOCGIFPFLAGS, SIOCGIFSLAVE, SIOCGIFTXQLEN, SIOCGSTAMP, SIOCGSTAMPNS,
    SIOCPROTOPRIVATE, SIOCRTMSG,
};

checks! {
    what_devices_say
    names_of_devices
    names_by_index
    addresses_of_devices
    an_address_among_several
    hardware_addresses
    all_addresses
    all_addresses_with_little_room
    requests_that_there_are_not
    the_time_of_the_last_packet
    no_time_where_it_is_told
    nobody_to_signal
}

/// A `struct ifreq` of a device, its union filled with ones to show what is written.
fn ifreq(name: &str) -> Vec<u8> {
    let mut ifr = vec![1; 40];
    ifr[..16].fill(0);
    ifr[..name.len()].copy_from_slice(name.as_bytes());
    ifr
}

fn ifreq_with(name: &str, union: &[u8]) -> Vec<u8> {
    let mut ifr = ifreq(name);
    ifr[16..16 + union.len()].copy_from_slice(union);
    ifr
}

fn what_devices_say(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in ["lo", "eth0"] {
        for (label, request) in [
            ("metric", SIOCGIFMETRIC),
            ("MTU", SIOCGIFMTU),
            ("index", SIOCGIFINDEX),
            ("slave", SIOCGIFSLAVE),
        ] {
            p.ioctl_bytes(&format!("{label} of {name}"), fd, request, &ifreq(name));
        }
    }
    p.ioctl_bytes("queue of eth0", fd, SIOCGIFTXQLEN, &ifreq("eth0"));
    p.ioctl_bytes("flags of lo", fd, SIOCGIFFLAGS, &ifreq("lo"));
    let mut ifr = ifreq("eth0");
    let ret = p.calls.ioctl(fd, SIOCGIFFLAGS, &mut ifr);
    let _ = p.ret("flags of eth0", ret);
    // The host says that a link runs some time after it does.
    ifr[16] |= IFF_RUNNING as u8;
    p.note("flags of eth0", format!("{ifr:?}"));
}

fn names_of_devices(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in ["", "eth9", "lo:", "lo:1", ":lo", "LO", "lo ", "a/b", "abcdefghijklmnop"] {
        p.ioctl_bytes(&format!("index of {name:?}"), fd, SIOCGIFINDEX, &ifreq(name));
        p.ioctl_bytes(&format!("address of {name:?}"), fd, SIOCGIFADDR, &ifreq(name));
    }
    let mut not_text = ifreq("");
    not_text[..2].copy_from_slice(&[0xff, 0xfe]);
    p.ioctl_bytes("not text", fd, SIOCGIFINDEX, &not_text);
}

fn names_by_index(p: &mut Probe<'_>) {
    let fd = p.udp();
    for index in [1_i32, 2, 0, -1, 77, 65_537, i32::MAX] {
        let ifr = ifreq_with("before", &index.to_ne_bytes());
        p.ioctl_bytes(&format!("name of {index}"), fd, SIOCGIFNAME, &ifr);
    }
}

const ADDRESSES: [(&str, u32); 4] = [
    ("address", SIOCGIFADDR),
    ("broadcast", SIOCGIFBRDADDR),
    ("netmask", SIOCGIFNETMASK),
    ("peer", SIOCGIFDSTADDR),
];

fn addresses_of_devices(p: &mut Probe<'_>) {
    let fd = p.udp();
    for (label, request) in ADDRESSES {
        p.ioctl_bytes(&format!("{label} of eth0"), fd, request, &ifreq("eth0"));
        p.ioctl_bytes(&format!("{label} of lo"), fd, request, &ifreq("lo"));
        p.ioctl_bytes(&format!("{label} of none"), fd, request, &ifreq("eth9"));
    }
    p.ioctl_bytes("extended flags", fd, SIOCGIFPFLAGS, &ifreq("lo"));
    p.ioctl_bytes("extended flags of none", fd, SIOCGIFPFLAGS, &ifreq("eth9"));
}

fn an_address_among_several(p: &mut Probe<'_>) {
    let fd = p.udp();
    for ip in [LO, NET, ETH, FOREIGN, ANY] as [Ip; 5] {
        for (label, request) in ADDRESSES {
            let ifr = ifreq_with("lo", &sa(ip, 7));
            p.ioctl_bytes(&format!("{label} of lo, {ip:?}"), fd, request, &ifr);
        }
    }
}

fn hardware_addresses(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.ioctl_bytes("of lo", fd, SIOCGIFHWADDR, &ifreq("lo"));
    p.ioctl_bytes("of none", fd, SIOCGIFHWADDR, &ifreq("eth9"));
    // The card's address is the host's choice.
    let mut ifr = ifreq("eth0");
    let ret = p.calls.ioctl(fd, SIOCGIFHWADDR, &mut ifr);
    let _ = p.ret("of eth0", ret);
    ifr[18..24].fill(0);
    p.note("of eth0", format!("{ifr:?}"));
}

/// A `struct ifconf` for a list in as many bytes; `None`: nowhere.
fn ifconf(len: i32, room: Option<usize>) -> Vec<u8> {
    let mut ifc = vec![0; 16 + room.unwrap_or(0)];
    ifc[..4].copy_from_slice(&len.to_ne_bytes());
    ifc[8] = room.is_some().into();
    ifc
}

fn all_addresses(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.ioctl_bytes("room wanted", fd, SIOCGIFCONF, &ifconf(0, None));
    p.ioctl_bytes("nowhere", fd, SIOCGIFCONF, &ifconf(400, None));
    p.ioctl_bytes("all", fd, SIOCGIFCONF, &ifconf(400, Some(400)));
}

fn all_addresses_with_little_room(p: &mut Probe<'_>) {
    let fd = p.udp();
    for len in [-1, 0, 39, 40, 79, 80, 119, 120] {
        p.ioctl_bytes(&format!("{len} bytes"), fd, SIOCGIFCONF, &ifconf(len, Some(240)));
    }
}

fn requests_that_there_are_not(p: &mut Probe<'_>) {
    let fd = p.udp();
    for request in [
        0,
        SIOCRTMSG,
        SIOCPROTOPRIVATE,
        SIOCDEVPRIVATE + 16,
        0x8999,
        0x1234,
        0x5413,
        0x4004_8913,
        u32::MAX,
    ] {
        let _ = p.ioctl(&format!("{request:#x}"), fd, request, 0);
    }
    let ep = p.calls.epoll_create1(0);
    let ep = p.ret("epoll", ep).unwrap_or(-1) as i32;
    p.ioctl_bytes("of an epoll", ep, SIOCGIFINDEX, &ifreq("lo"));
    p.ioctl_bytes("of a closed one", 50, SIOCGIFINDEX, &ifreq("lo"));
}

/// Asks for the time of the last packet; what it is, is not noted.
fn stamp(p: &mut Probe<'_>, label: &str, fd: i32) {
    for request in [SIOCGSTAMP, SIOCGSTAMPNS] {
        let mut times = [0; 16];
        let ret = p.calls.ioctl(fd, request, &mut times);
        let _ = p.ret(label, ret);
        let seconds = times.first_chunk::<8>().map_or(0, |s| i64::from_ne_bytes(*s));
        p.note("a time of ours", seconds > 1_000_000_000);
    }
}

fn the_time_of_the_last_packet(p: &mut Probe<'_>) {
    let asks_first = p.bound(LO, 4000);
    let asks_later = p.bound(LO, 4001);
    let from = p.bound(LO, 4002);
    stamp(p, "before any", asks_first);
    for port in [4000, 4001] {
        let _ = p.sendto("sent", from, b"x", LO, port);
    }
    stamp(p, "not read yet", asks_first);
    p.recvfrom("read", asks_first, 8, 0);
    p.recvfrom("read", asks_later, 8, 0);
    stamp(p, "read", asks_first);
    stamp(p, "read before it was asked", asks_later);
}

fn no_time_where_it_is_told(p: &mut Probe<'_>) {
    use uapi::socket::{MSG_PEEK, SO_RXQ_OVFL, SO_TIMESTAMP, SOL_SOCKET};
    for (label, option, flags) in [
        ("told", SO_TIMESTAMP, 0),
        ("lost ones told", SO_RXQ_OVFL, 0),
        ("peeked", SO_RXQ_OVFL, MSG_PEEK),
    ] {
        let fd = p.bound(LO, 4000);
        p.with(fd, (SOL_SOCKET, option), 1);
        let _ = p.sendto("to itself", fd, b"x", LO, 4000);
        p.recvfrom("read", fd, 8, flags);
        stamp(p, label, fd);
        p.drop_all(&[fd]);
    }
}

fn nobody_to_signal(p: &mut Probe<'_>) {
    let fd = p.udp();
    let _ = p.ioctl("no signals", fd, FIOASYNC, 0);
    let _ = p.ioctl("nobody", fd, FIOGETOWN, 5);
}
