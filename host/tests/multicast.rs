//! Groups between the stack and the host's kernel over a TAP: each a member of its own, the host the querier, too.

#![cfg(feature = "testing")]
#![allow(
    unsafe_code,
    reason = "the host's sockets: the options of groups, and a raw one that asks"
)]

use host::tap::{Tap, TapOptions};
use host::testing::{Need, in_fresh_netns, need, recv_from};
use host::{Runtime, TapSpec, block_on};
use klib::checksum::{csum_fold, csum_partial};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};
use std::io::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uapi::igmp::{IGMPV2_HOST_MEMBERSHIP_REPORT, IGMPV3_HOST_MEMBERSHIP_REPORT};
use uapi::in_::{
    IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, IP_MULTICAST_IF, IP_MULTICAST_LOOP, IpMreqn, SockaddrIn,
};
use uapi::socket::{AF_INET, SO_RCVTIMEO, SOCK_DGRAM, SOL_IP, SOL_SOCKET};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

fn mreqn(address: Ipv4Addr) -> [u8; 12] {
    IpMreqn { multiaddr: GROUP.into(), address: address.into(), ifindex: 0 }.to_bytes()
}

/// A socket of ours that waits ten seconds at most.
fn ours(cx: &mut TaskCx) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_bind(cx, fd, &SockaddrIn::new(0, 7).to_bytes()).expect("free");
    let seconds = [10i64, 0].map(i64::to_ne_bytes).concat();
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_RCVTIMEO, &seconds).expect("known");
    sys_setsockopt(cx, fd, SOL_IP, IP_MULTICAST_IF, &US.octets()).expect("our device");
    fd
}

fn our_recv(cx: &mut TaskCx, fd: i32) -> (Vec<u8>, SockaddrIn) {
    let mut data = [0; 64];
    let (len, from) = block_on(cx, &mut sys_recvfrom(fd, &mut data, 0)).expect("it arrives");
    (data[..len].to_vec(), from.and_then(uapi::socket::Sockaddr::inet).expect("a sender"))
}

/// The host's querier: a raw socket of IGMP.
struct Querier(OwnedFd);

impl Querier {
    fn new(address: Ipv4Addr) -> Self {
        // SAFETY: no pointers; nobody else has the descriptor.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_IGMP) };
        assert!(fd >= 0, "{}", Error::last_os_error());
        // SAFETY: it was made just now.
        let querier = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        querier.option(SOL_IP, IP_MULTICAST_IF, &address.octets());
        // The host would answer, too, and of version 2 the first answer makes others needless.
        querier.option(SOL_IP, IP_MULTICAST_LOOP, &[0; 4]);
        // All routers of version 3 hear reports there; those of version 2 go to their group.
        for group in [Ipv4Addr::new(224, 0, 0, 22), GROUP] {
            let mreq = [group.octets(), address.octets()].concat();
            querier.option(SOL_IP, IP_ADD_MEMBERSHIP, &mreq);
        }
        let wait = [0i64, 50_000].map(i64::to_ne_bytes).concat();
        querier.option(SOL_SOCKET, libc::SO_RCVTIMEO, &wait);
        querier
    }

    fn option(&self, level: i32, name: i32, value: &[u8]) {
        let (place, len) = (value.as_ptr().cast(), value.len() as u32);
        // SAFETY: the value is read for its length, during the call.
        let set = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, place, len) };
        assert_eq!(set, 0, "{level}/{name}: {}", Error::last_os_error());
    }

    /// Asks all hosts.
    fn ask(&self, tail: &[u8]) {
        let mut query = [&[0x11, 1, 0, 0][..], tail].concat();
        let sum = csum_fold(csum_partial(&query, 0));
        query[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = SockaddrIn::new(ALL_HOSTS.into(), 0).to_bytes();
        let (data, len) = (query.as_ptr().cast(), query.len());
        // SAFETY: message and address are read for their lengths, during the call.
        let sent = unsafe {
            libc::sendto(self.0.as_raw_fd(), data, len, 0, to.as_ptr().cast(), to.len() as u32)
        };
        assert_eq!(sent, query.len() as isize, "{}", Error::last_os_error());
    }

    /// Waits for a message of ours of this type: from its IGMP header on.
    fn hear(&self, kind: u8) -> Vec<u8> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let mut packet = [0u8; 1500];
            let (room, len) = (packet.as_mut_ptr().cast(), packet.len());
            // SAFETY: the room is written for its length at most, during the call.
            let got = unsafe { libc::recv(self.0.as_raw_fd(), room, len, 0) };
            let Ok(got) = usize::try_from(got) else { continue };
            let ihl = usize::from(packet[0] & 15) * 4;
            if packet[12..16] == US.octets() && packet[ihl] == kind {
                assert_eq!((ihl, packet[8], packet[1]), (24, 1, 0xc0), "router alert, TTL, TOS");
                return packet[ihl..got].to_vec();
            }
        }
        panic!("nothing of type {kind:#x} came");
    }
}

#[test]
fn the_host_and_the_stack_are_members_of_a_group() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let tap = Tap::open("nk0", TapOptions::default()).expect("created");
        ns.ip(&format!("addr add {HOST}/24 dev nk0"));
        ns.ip("link set nk0 up");
        let mut runtime = Runtime::builder().boot().expect("boots");
        let spec = TapSpec { addr: OUR_MAC, mtu: 1500, cpu: CpuId(0) };
        let dev = runtime.add_tap(tap, spec).expect("added");
        let mut cx = runtime.task("test");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(US, 24).expect("a host's")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");
        let querier = Querier::new(HOST);
        let theirs = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).expect("free");
        theirs.join_multicast_v4(&GROUP, &HOST).expect("joined");
        let by = UdpSocket::bind((HOST, 0)).expect("free");
        let fd = ours(&mut cx);
        sys_setsockopt(&mut cx, fd, SOL_IP, IP_ADD_MEMBERSHIP, &mreqn(US)).expect("joined");
        let change = querier.hear(IGMPV3_HOST_MEMBERSHIP_REPORT);
        assert_eq!(change[6..], [0, 1, 4, 0, 0, 0, 239, 1, 2, 3], "told of when it was joined");
        // The host knows of its own members alone: itself, by the programs' sockets.
        let igmp = std::fs::read_to_string("/proc/thread-self/net/igmp").expect("there");
        assert!(igmp.contains("030201EF"), "{igmp}");

        // Theirs goes out by the route of the device: multicast has its own.
        by.set_multicast_loop_v4(false).expect("known");
        ns.ip("route add 224.0.0.0/4 dev nk0");
        by.send_to(b"from the host", (GROUP, 7)).expect("sent");
        let (data, from) = our_recv(&mut cx, fd);
        assert_eq!((&data[..], Ipv4Addr::from(from.addr)), (&b"from the host"[..], HOST));
        let to = SockaddrIn::new(GROUP.into(), 7).to_bytes();
        block_on(&mut cx, &mut sys_sendto(fd, b"from us", 0, Some(&to))).expect("sent");
        let mut room = [0; 64];
        let (len, from) = recv_from(&theirs, &mut room).expect("it arrives");
        assert_eq!((&room[..len], from.ip()), (&b"from us"[..], US.into()));
        assert_eq!(our_recv(&mut cx, fd).0, b"from us", "and to ourselves");

        querier.ask(&[0, 0, 0, 0, 2, 125, 0, 0]);
        loop {
            // The change is told of twice, the answer once.
            let report = querier.hear(IGMPV3_HOST_MEMBERSHIP_REPORT);
            if report[8] == 2 {
                assert_eq!(report[6..], [0, 1, 2, 0, 0, 0, 239, 1, 2, 3]);
                break;
            }
        }
        querier.ask(&[0, 0, 0, 0]);
        let report = querier.hear(IGMPV2_HOST_MEMBERSHIP_REPORT);
        assert_eq!(report[4..], GROUP.octets());
        sys_setsockopt(&mut cx, fd, SOL_IP, IP_DROP_MEMBERSHIP, &mreqn(US)).expect("left");
        exit_files(&mut cx);
        drop((cx, dev));
        let m = Arc::clone(runtime.machine());
        runtime.shutdown().expect("nothing panicked");
        assert_eq!(m.live_skbs(), 0);
    });
}
