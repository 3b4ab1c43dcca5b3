//! What is known of the MTU of ways.

use super::{pattern, resum, seen, with_socket};
use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use crate::util::{addr, connect};
use sim::Digest;
use stack::net::ipv4::fib::{FibInfo, fib_del_route, fib_new_route};
use stack::net::socket::{sys_getsockopt, sys_setsockopt};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::*;
use uapi::socket::{SO_ERROR, SOL_IP, SOL_SOCKET};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// A router says that a packet which was sent is too long.
pub fn too_long(lone: &mut Lone, frame: &[u8], mtu: u16) {
    let [m0, m1] = mtu.to_be_bytes();
    let quote = &frame[14..frame.len().min(14 + 28)];
    let icmp = frame::icmp(3, 4, [0, 0, m0, m1], quote);
    lone.take_ip(&frame::ip(1, ROUTER, LOCAL, &icmp));
}

pub fn discover(lone: &mut Lone, fd: i32, mode: i32) {
    let set = sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_MTU_DISCOVER, &mode.to_ne_bytes());
    assert_eq!(set, Ok(()));
}

fn option(lone: &mut Lone, fd: i32, (level, name): (i32, i32)) -> i32 {
    let value = sys_getsockopt(&mut lone.cx, fd, level, name).expect("an option");
    i32::from_ne_bytes(value.try_into().expect("a number"))
}

/// The MTU of a socket's way.
pub fn mtu(lone: &mut Lone, fd: i32) -> i32 {
    option(lone, fd, (SOL_IP, IP_MTU))
}

/// A machine with a socket that is connected to the peer.
pub fn connected() -> (Lone, i32) {
    let (mut lone, fd) = with_socket();
    connect(&mut lone.cx, fd, &addr(frame::PEER, 9)).expect("a way");
    (lone, fd)
}

/// Sends a datagram; the frames that leave.
pub fn sent(lone: &mut Lone, fd: i32, len: usize) -> Result<Vec<Vec<u8>>, Errno> {
    lone.send(fd, &pattern(len), (frame::PEER, 9))?;
    Ok(lone.dev.sent())
}

stepped!(a_router_makes_the_way_narrower_for_a_while);
fn a_router_makes_the_way_narrower_for_a_while() -> Digest {
    let (mut lone, fd) = connected();
    assert_eq!(mtu(&mut lone, fd), 1500);
    let frames = sent(&mut lone, fd, 1472).expect("fits");
    too_long(&mut lone, &frames[0], 1000);
    assert_eq!(mtu(&mut lone, fd), 1000);
    assert_eq!(option(&mut lone, fd, (SOL_SOCKET, SO_ERROR)), Errno::EMSGSIZE.0);
    // Cut from now on, as it may be; what fits still must not be cut on the way.
    let frames = sent(&mut lone, fd, 1472).expect("cut");
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].len(), 14 + 20 + 976);
    let frames = sent(&mut lone, fd, 972).expect("fits");
    assert!(frames.len() == 1 && seen(&frames[0]).df);
    // A wider one is not believed, a narrower one is.
    too_long(&mut lone, &frames[0], 1200);
    assert_eq!(mtu(&mut lone, fd), 1000);
    too_long(&mut lone, &frames[0], 900);
    assert_eq!(mtu(&mut lone, fd), 900);
    // Other destinations have their own.
    let other = crate::util::udp(&mut lone.cx, LOCAL, 8);
    connect(&mut lone.cx, other, &addr(Ipv4Addr::new(192, 0, 2, 8), 9)).expect("a way");
    assert_eq!(mtu(&mut lone, other), 1500);
    lone.world.run_for(Duration::from_secs(599));
    assert_eq!(mtu(&mut lone, fd), 900);
    lone.world.run_for(Duration::from_secs(2));
    assert_eq!(mtu(&mut lone, fd), 1500, "mtu_expires");
    option(&mut lone, fd, (SOL_SOCKET, SO_ERROR));
    assert_eq!(sent(&mut lone, fd, 1472).expect("fits").len(), 1);
    lone.end()
}

stepped!(modes_go_by_the_way_or_by_the_device);
fn modes_go_by_the_way_or_by_the_device() -> Digest {
    let (mut lone, fd) = connected();
    let frames = sent(&mut lone, fd, 1472).expect("fits");
    too_long(&mut lone, &frames[0], 1000);
    option(&mut lone, fd, (SOL_SOCKET, SO_ERROR));
    // Mode, how many packets 1,000 octets become, whether with DF.
    let modes = [
        (IP_PMTUDISC_DONT, Some((2, false))),
        (IP_PMTUDISC_WANT, Some((2, false))),
        (IP_PMTUDISC_DO, None),
        (IP_PMTUDISC_PROBE, Some((1, true))),
        (IP_PMTUDISC_INTERFACE, Some((1, false))),
        (IP_PMTUDISC_OMIT, Some((1, false))),
    ];
    for (mode, becomes) in modes {
        discover(&mut lone, fd, mode);
        let frames = sent(&mut lone, fd, 1000);
        match becomes {
            None => assert_eq!(frames, Err(Errno::EMSGSIZE)),
            Some((count, df)) => {
                let frames = frames.expect("sent");
                assert_eq!((frames.len(), seen(&frames[0]).df), (count, df), "mode {mode}");
            }
        }
        assert_eq!(mtu(&mut lone, fd), 1000, "whoever asks");
    }
    lone.end()
}

stepped!(who_takes_no_routers_word_keeps_the_mtu);
fn who_takes_no_routers_word_keeps_the_mtu() -> Digest {
    let (mut lone, fd) = connected();
    let frames = sent(&mut lone, fd, 1472).expect("fits");
    for mode in [IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT] {
        discover(&mut lone, fd, mode);
        too_long(&mut lone, &frames[0], 1000);
        assert_eq!(mtu(&mut lone, fd), 1500);
        assert_eq!(option(&mut lone, fd, (SOL_SOCKET, SO_ERROR)), Errno::EMSGSIZE.0);
    }
    discover(&mut lone, fd, IP_PMTUDISC_DONT);
    too_long(&mut lone, &frames[0], 1000);
    assert_eq!(mtu(&mut lone, fd), 1000);
    assert_eq!(option(&mut lone, fd, (SOL_SOCKET, SO_ERROR)), 0, "it cuts, and needs not know");
    lone.end()
}

stepped!(below_the_least_mtu_packets_may_be_cut_on_the_way);
fn below_the_least_mtu_packets_may_be_cut_on_the_way() -> Digest {
    let (mut lone, fd) = connected();
    let frames = sent(&mut lone, fd, 1472).expect("fits");
    too_long(&mut lone, &frames[0], 300);
    assert_eq!(mtu(&mut lone, fd), 552);
    option(&mut lone, fd, (SOL_SOCKET, SO_ERROR));
    let frames = sent(&mut lone, fd, 524).expect("fits");
    assert_eq!((frames.len(), seen(&frames[0]).df), (1, false), "locked: no DF");
    // Nothing makes it another while it lasts.
    too_long(&mut lone, &frames[0], 200);
    too_long(&mut lone, &frames[0], 540);
    assert_eq!(mtu(&mut lone, fd), 552);
    lone.sysctl(|sysctl| (sysctl.min_pmtu, sysctl.mtu_expires) = (68, Duration::from_secs(5)));
    lone.world.run_for(Duration::from_secs(601));
    assert_eq!(mtu(&mut lone, fd), 1500);
    too_long(&mut lone, &frames[0], 300);
    assert_eq!(mtu(&mut lone, fd), 300);
    lone.world.run_for(Duration::from_secs(6));
    assert_eq!(mtu(&mut lone, fd), 1500);
    lone.end()
}

#[test]
fn discovery_can_be_switched_off_for_all() {
    for (mode, known) in [(0, 1000), (1, 552), (2, 1500), (3, 1500)] {
        let mut lone = Lone::new();
        lone.sysctl(|sysctl| sysctl.ip_no_pmtu_disc = mode);
        let fd = crate::util::udp(&mut lone.cx, LOCAL, 7);
        let begins = option(&mut lone, fd, (SOL_IP, IP_MTU_DISCOVER));
        assert_eq!(begins, if mode == 0 { IP_PMTUDISC_WANT } else { IP_PMTUDISC_DONT });
        connect(&mut lone.cx, fd, &addr(frame::PEER, 9)).expect("a way");
        let frames = sent(&mut lone, fd, 1472).expect("fits");
        too_long(&mut lone, &frames[0], 1000);
        assert_eq!(mtu(&mut lone, fd), known, "ip_no_pmtu_disc {mode}");
        let _once = lone.end();
    }
}

stepped!(what_is_known_goes_with_its_route);
fn what_is_known_goes_with_its_route() -> Digest {
    let (mut lone, fd) = with_socket();
    let far = Ipv4Addr::new(198, 51, 100, 0);
    let via = FibInfo { gateway: frame::PEER.into(), ..FibInfo::default() };
    fib_new_route(&mut lone.cx, far.into(), 24, via).expect("a route");
    let to = Ipv4Addr::new(198, 51, 100, 7);
    connect(&mut lone.cx, fd, &addr(to, 9)).expect("a way");
    lone.send(fd, &pattern(1472), (to, 9)).expect("sent");
    let frames = lone.dev.sent();
    too_long(&mut lone, &frames[0], 1000);
    assert_eq!(mtu(&mut lone, fd), 1000);
    fib_del_route(&mut lone.cx, far.into(), 24, |_| true).expect("there");
    let narrow = FibInfo { mtu: 1300, ..via };
    fib_new_route(&mut lone.cx, far.into(), 24, narrow).expect("another");
    assert_eq!(mtu(&mut lone, fd), 1300, "the route's own");
    lone.end()
}

stepped!(what_is_forwarded_is_held_against_the_route_unless_told);
fn what_is_forwarded_is_held_against_the_route_unless_told() -> Digest {
    let mut router = crate::ip::Router::new();
    let fd = crate::util::udp(&mut router.cx, crate::ip::FAR_LOCAL, 7);
    connect(&mut router.cx, fd, &addr(crate::ip::FAR, 9)).expect("a way");
    let mut call = stack::net::socket::sys_sendto(fd, &[1; 1472], 0, None);
    router
        .world
        .block_on(&mut router.cx, &mut call, Duration::from_secs(1))
        .expect("no wait")
        .expect("sent");
    let out = router.far.sent();
    let icmp = frame::icmp(3, 4, [0, 0, 3, 232], &out[0][14..42]);
    let told = frame::ip(1, crate::ip::FAR, crate::ip::FAR_LOCAL, &icmp);
    router.far.deliver([frame::ether(crate::testdev::TestDev::MAC, 0x0800, &told)]);
    router.world.settle();
    let mut big = frame::udp((frame::PEER, 5000), (crate::ip::FAR, 7), &pattern(1200));
    big[6] = 0x40;
    let big = resum(big);
    router.forward(&big);
    assert_eq!(router.far.sent().len(), 1, "the device's MTU");
    stack::net::core::sysctl::update_sysctls(&mut router.cx, |sysctl| {
        sysctl.ip_forward_use_pmtu = true;
    });
    router.forward(&big);
    assert_eq!(router.far.sent().len(), 0);
    let errors = router.near.sent();
    assert_eq!((errors.len(), &errors[0][34..36]), (1, &[3, 4][..]));
    assert_eq!(errors[0][40..42], 1000_u16.to_be_bytes());
    stack::fs::exit_files(&mut router.cx);
    drop(router.cx);
    router.world.end()
}

stepped!(answers_to_echo_requests_find_the_way_narrower);
fn answers_to_echo_requests_find_the_way_narrower() -> Digest {
    let (mut lone, fd) = connected();
    let echo = frame::ip(1, frame::PEER, LOCAL, &frame::icmp(8, 0, [0, 1, 0, 2], &pattern(1200)));
    lone.take_ip(&echo);
    let frames = lone.dev.sent();
    too_long(&mut lone, &frames[0], 1000);
    lone.take_ip(&echo);
    assert_eq!(lone.dev.sent().len(), 2);
    assert_eq!(mtu(&mut lone, fd), 1000);
    lone.end()
}
