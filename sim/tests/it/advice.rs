//! What `netkeel explain` advises for a drop helps: the packet is dropped, the advice is taken, the same packet
//! passes. Reasons whose advice is to send something else, or nothing, are `drops`' and `bad_input`'s.

use crate::ip_options::{route, with_options};
use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::udp;
use frame::PEER;
use sim::{Digest, MachineSpec};
use stack::kernel::context::BhCx;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::skbuff::Skb;
use stack::net::core::sysctl::names::sysctl_write;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::netfilter::{
    NfHook, NfHookState, NfInetHook, Verdict, nf_hooks_seq_show, nf_register_hook,
    nf_unregister_hook,
};
use stack::net::socket::sys_setsockopt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::filter::{BPF_K, BPF_RET, SockFilter};
use uapi::ip::IPOPT_LSRR;
use uapi::socket::{SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_RCVBUF, SOL_SOCKET};
use zerocopy::IntoBytes;

const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const ABSENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn datagram(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    frame::udp((from, 5000), (to, 7), b"hello")
}

impl Lone {
    /// An IP packet is dropped for `reason`; then `advice` is taken, and it arrives at a socket.
    fn helps(
        &mut self,
        fd: i32,
        packet: &[u8],
        reason: DropReason,
        advice: impl FnOnce(&mut Self),
    ) {
        assert_eq!(self.take_ip(packet), [reason]);
        assert!(self.recv_all(fd).is_empty());
        advice(self);
        assert_eq!(self.take_ip(packet), []);
        assert_eq!(self.recv_all(fd), [b"hello"], "{reason}");
    }

    /// A frame for another place is dropped for `reason`; then `advice` is taken, and something leaves.
    fn helps_out(&mut self, frame: &[u8], reason: DropReason, advice: impl FnOnce(&mut Self)) {
        self.dev.sent();
        assert_eq!(self.take(frame.to_vec()), [reason]);
        self.dev.sent();
        advice(self);
        assert_eq!(self.take(frame.to_vec()), []);
        assert_eq!(self.dev.sent().len(), 1, "{reason}");
    }
}

stepped!(advice_about_sockets_helps);
fn advice_about_sockets_helps() -> Digest {
    let mut lone = Lone::new();
    let hello = datagram(PEER, LOCAL);
    assert_eq!(lone.take_ip(&hello), [DropReason::NoSocket]);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    assert_eq!(lone.take_ip(&hello), []);
    assert_eq!(lone.recv_all(fd), [b"hello"]);

    let nothing = [SockFilter::stmt(BPF_RET | BPF_K, 0)];
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_ATTACH_FILTER, nothing.as_bytes())
        .expect("a program");
    lone.helps(fd, &hello, DropReason::SocketFilter, |lone| {
        sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_DETACH_FILTER, &[0; 4]).expect("attached");
    });

    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVBUF, &1_i32.to_ne_bytes()).expect("a size");
    while lone.take_ip(&hello).is_empty() {}
    let full = lone.drops(DropReason::SocketRcvbuff);
    assert_eq!(lone.take_ip(&hello), [DropReason::SocketRcvbuff]);
    assert_eq!(lone.drops(DropReason::SocketRcvbuff), full + 1);
    lone.set("net.core.rmem_max", "100000");
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, SO_RCVBUF, &100_000_i32.to_ne_bytes())
        .expect("a size");
    assert_eq!(lone.take_ip(&hello), []);
    lone.end()
}

stepped!(advice_about_addresses_helps);
fn advice_about_addresses_helps() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7);
    lone.set("net.ipv4.conf.DEV.rp_filter", "1");
    lone.helps(fd, &datagram(STRANGER, LOCAL), DropReason::IpRpFilter, |lone| {
        lone.set("net.ipv4.conf.DEV.rp_filter", "0");
    });
    lone.set("net.ipv4.conf.DEV.rp_filter", "1");
    lone.helps(fd, &datagram(FAR, LOCAL), DropReason::IpRpFilter, |lone| {
        let dev = lone.dev.dev().ifindex;
        let info = FibInfo { gateway: PEER.into(), dev, ..FibInfo::default() };
        fib_new_route(&mut lone.cx, u32::from(FAR) & !0xff, 24, info)
            .expect("a route to its source");
    });
    lone.set("net.ipv4.conf.DEV.rp_filter", "0");
    // The greater of the device's and that of all holds.
    lone.set("net.ipv4.conf.all.rp_filter", "1");
    lone.helps(fd, &datagram(STRANGER, LOCAL), DropReason::IpRpFilter, |lone| {
        lone.set("net.ipv4.conf.DEV.rp_filter", "2");
        lone.set("net.ipv4.conf.all.rp_filter", "0");
        lone.set("net.ipv4.conf.DEV.rp_filter", "0");
    });
    let dev = lone.dev.dev();
    lone.helps(fd, &datagram(PEER, STRANGER), DropReason::IpInAddrErrors, |lone| {
        let ours = IfAddr::new(STRANGER, 32).expect("an address");
        inet_insert_ifa(&mut lone.cx, &dev, ours).expect("new");
    });
    lone.helps(fd, &datagram(PEER, Ipv4Addr::LOCALHOST), DropReason::IpLocalnet, |lone| {
        lone.set("net.ipv4.conf.DEV.route_localnet", "1");
    });
    lone.helps(fd, &datagram(LOCAL, LOCAL), DropReason::IpLocalSource, |lone| {
        lone.set("net.ipv4.conf.DEV.accept_local", "1");
    });
    lone.end()
}

stepped!(advice_about_source_routes_helps);
fn advice_about_source_routes_helps() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let hello = datagram(PEER, LOCAL);
    let came = with_options(&hello, &route(IPOPT_LSRR, 1, &[PEER]));
    lone.helps(fd, &came, DropReason::IpSourceRoute, |lone| {
        lone.set("net.ipv4.conf.DEV.accept_source_route", "1");
        lone.set("net.ipv4.conf.all.accept_source_route", "1");
    });
    // Or without one.
    lone.set("net.ipv4.conf.DEV.accept_source_route", "0");
    assert_eq!(lone.take_ip(&came), [DropReason::IpSourceRoute]);
    assert_eq!(lone.take_ip(&hello), []);
    assert_eq!(lone.recv_all(fd), [b"hello"]);

    // No way leads to its next hop.
    lone.set("net.ipv4.conf.DEV.accept_source_route", "1");
    lone.set("net.ipv4.conf.DEV.forwarding", "1");
    let on = with_options(&hello, &route(IPOPT_LSRR, 0, &[STRANGER]));
    lone.helps_out(&frame::ether(TestDev::MAC, 0x0800, &on), DropReason::IpSourceRoute, |lone| {
        let dev = lone.dev.dev().ifindex;
        let info = FibInfo { gateway: PEER.into(), dev, ..FibInfo::default() };
        fib_new_route(&mut lone.cx, STRANGER.into(), 32, info).expect("a route to its hop");
    });
    lone.end()
}

stepped!(advice_about_link_addresses_helps);
fn advice_about_link_addresses_helps() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let hello = datagram(PEER, LOCAL);
    let to_others = frame::ether([2, 0, 0, 0, 7, 7], 0x0800, &hello);
    assert_eq!(lone.take(to_others), [DropReason::OtherHost]);
    assert_eq!(lone.take_ip(&hello), []);
    assert_eq!(lone.recv_all(fd), [b"hello"]);
    lone.end()
}

stepped!(advice_about_ways_helps);
fn advice_about_ways_helps() -> Digest {
    let mut lone = Lone::new();
    let far = TestDev::add(&mut lone.cx, Ipv4Addr::new(198, 51, 100, 1), 100);
    let dev = far.dev();
    for dev in [lone.dev.dev().name.clone(), dev.name.clone()] {
        sysctl_write(&mut lone.cx, &format!("net.ipv4.conf.{dev}.forwarding"), "1")
            .expect("a setting");
    }
    let key = NeighKey { dev: dev.ifindex, addr: FAR.into() };
    let permanent = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(&mut lone.cx, key, [2, 0, 0, 0, 7, 7], permanent).expect("room");
    let through = |to| frame::udp((PEER, 5000), (to, 7), &[0; 800]);

    // No route to it.
    let nowhere = frame::ether(TestDev::MAC, 0x0800, &through(STRANGER));
    assert_eq!(lone.take(nowhere.clone()), [DropReason::IpInNoRoutes]);
    let info = FibInfo { gateway: FAR.into(), dev: dev.ifindex, ..FibInfo::default() };
    fib_new_route(&mut lone.cx, u32::from(STRANGER), 32, info).expect("a route");
    assert_eq!(lone.take(nowhere), []);
    assert_eq!(far.sent().len(), 1);

    // Its time to live is over, or it is too long.
    let patched = |mut packet: Vec<u8>, at: usize, octet: u8| {
        packet[at] = octet;
        packet[10..12].fill(0);
        let sum = klib::checksum::ip_fast_csum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    assert_eq!(lone.take_ip(&patched(through(FAR), 8, 1)), [DropReason::TtlExpired]);
    assert_eq!(lone.take_ip(&patched(through(FAR), 8, 2)), []);
    dev_set_mtu(&mut lone.cx, &dev, 600).expect("allowed");
    let whole = patched(through(FAR), 6, 0x40);
    assert_eq!(lone.take_ip(&whole), [DropReason::PktTooBig]);
    dev_set_mtu(&mut lone.cx, &dev, 1500).expect("allowed");
    far.sent();
    assert_eq!(lone.take_ip(&whole), []);
    assert_eq!(far.sent().len(), 1);
    lone.end()
}

stepped!(advice_about_questions_helps);
fn advice_about_questions_helps() -> Digest {
    let mut lone = Lone::new();
    let ping = frame::ip(1, PEER, LOCAL, &frame::icmp(8, 0, [0; 4], b"ping"));
    let ping = frame::ether(TestDev::MAC, 0x0800, &ping);
    lone.set("net.ipv4.icmp_echo_ignore_all", "1");
    lone.helps_out(&ping, DropReason::EchoIgnored, |lone| {
        lone.set("net.ipv4.icmp_echo_ignore_all", "0")
    });

    let asked = frame::ether(
        [0xff; 6],
        0x0806,
        &frame::arp(1, Ipv4Addr::new(192, 0, 2, 66), ABSENT, [0; 6]),
    );
    lone.helps_out(&asked, DropReason::ArpIgnore, |lone| {
        let dev = lone.dev.dev();
        let ours = IfAddr::new(ABSENT, 24).expect("an address");
        inet_insert_ifa(&mut lone.cx, &dev, ours).expect("new");
        lone.dev.sent();
    });

    // An answer that is due and held back: here it is the answer that is dropped.
    let closed = frame::ether(TestDev::MAC, 0x0800, &datagram(PEER, LOCAL));
    while lone.drops(DropReason::RateLimited) == 0 {
        lone.take(closed.clone());
    }
    lone.dev.sent();
    lone.set("net.ipv4.icmp_ratelimit", "0");
    assert_eq!(lone.take(closed), [DropReason::NoSocket]);
    assert_eq!(lone.dev.sent().len(), 1, "answered");
    lone.end()
}

/// Drops all.
struct Wall;

impl NfHook for Wall {
    fn hook(&self, _: &mut BhCx<'_>, _: &NfHookState, skb: Skb) -> Verdict {
        Verdict::Drop(skb)
    }

    fn name(&self) -> &str {
        "wall"
    }
}

stepped!(advice_about_hooks_helps);
fn advice_about_hooks_helps() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 7);
    let wall: Arc<dyn NfHook> = Arc::new(Wall);
    nf_register_hook(&mut lone.cx, NfInetHook::LocalIn, -5, Arc::clone(&wall));
    let shown = nf_hooks_seq_show(lone.cx.machine());
    assert_eq!(shown.lines().nth(1), Some("LOCAL_IN              -5  wall"));
    lone.helps(fd, &datagram(PEER, LOCAL), DropReason::NetfilterDrop, |lone| {
        nf_unregister_hook(&mut lone.cx, &wall);
    });
    lone.end()
}

stepped!(advice_about_neighbours_helps);
fn advice_about_neighbours_helps() -> Digest {
    let mut lone = Lone::new();
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    let permanent = uapi::neighbour::NUD_PERMANENT as u8;
    let enter = |lone: &mut Lone| {
        let key = NeighKey { dev: lone.dev.dev().ifindex, addr: ABSENT.into() };
        neigh_add(&mut lone.cx, key, [2, 0, 0, 0, 7, 7], permanent).expect("room");
        lone.world.settle();
        lone.dev.sent();
    };
    // It does not answer.
    lone.send(socket, b"x", (ABSENT, 9)).expect("it waits");
    lone.world.run_for(Duration::from_secs(4));
    assert_eq!(lone.drops(DropReason::NeighFailed), 1);
    enter(&mut lone);
    lone.send(socket, b"x", (ABSENT, 9)).expect("sent");
    assert_eq!(lone.dev.sent().len(), 1);
    lone.end()
}

stepped!(advice_about_many_neighbours_helps);
fn advice_about_many_neighbours_helps() -> Digest {
    let mut lone = Lone::new();
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    // The peer's is one; those that are asked for can't be collected.
    lone.set("net.ipv4.neigh.default.gc_thresh3", "2");
    for n in 20..22 {
        lone.send(socket, b"x", (Ipv4Addr::new(192, 0, 2, n), 9)).expect("a drop is not its error");
    }
    assert_eq!(lone.drops(DropReason::NeighCreateFail), 1);
    lone.set("net.ipv4.neigh.default.gc_thresh3", "100");
    lone.dev.sent();
    lone.send(socket, b"x", (Ipv4Addr::new(192, 0, 2, 21), 9)).expect("it waits");
    assert_eq!(lone.dev.sent().len(), 1, "asked for");
    assert_eq!(lone.drops(DropReason::NeighCreateFail), 1);

    // More wait than may.
    let dev = lone.dev.dev().name.clone();
    let name = ["DEV", "default"].map(|who| format!("net.ipv4.neigh.{who}.unres_qlen_bytes"));
    let name = name.map(|name| name.replace("DEV", &dev));
    let known = |lone: &mut Lone, value: &str| {
        name.iter().any(|name| sysctl_write(&mut lone.cx, name, value).is_ok())
    };
    assert!(known(&mut lone, "1"));
    for _ in 0..5 {
        lone.send(socket, &[0; 100], (ABSENT, 9)).expect("a drop is not its error");
    }
    let full = lone.drops(DropReason::NeighQueueFull);
    assert!(full > 0);
    assert!(known(&mut lone, "1000000"));
    for _ in 0..5 {
        lone.send(socket, &[0; 100], (ABSENT, 9)).expect("it waits");
    }
    assert_eq!(lone.drops(DropReason::NeighQueueFull), full);
    lone.end()
}

stepped!(advice_about_queues_helps);
fn advice_about_queues_helps() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 1);
    let dev = lone.dev.dev();
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    dev.netif_stop_subqueue(0);
    for _ in 0..4 {
        lone.send(socket, b"x", (PEER, 9)).expect("a drop is not its error");
    }
    let full = lone.drops(DropReason::QdiscDrop);
    assert!(full > 0);
    lone.cx.local_bh_disable(|bh| dev.netif_wake_subqueue(bh, 0));
    lone.world.settle();
    lone.dev.sent();
    lone.send(socket, b"x", (PEER, 9)).expect("sent");
    assert_eq!((lone.dev.sent().len(), lone.drops(DropReason::QdiscDrop)), (1, full));
    lone.end()
}

stepped!(advice_about_devices_without_queues_helps);
fn advice_about_devices_without_queues_helps() -> Digest {
    let mut lone = Lone::with(MachineSpec::default(), 0);
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    lone.dev.busy.store(1, Ordering::Relaxed);
    lone.send(socket, b"x", (PEER, 9)).expect("a drop is not its error");
    assert_eq!(lone.drops(DropReason::FullRing), 1);
    lone.send(socket, b"x", (PEER, 9)).expect("sent, slower");
    assert_eq!(lone.dev.sent().len(), 1);
    lone.end()
}

stepped!(advice_about_fragments_helps);
fn advice_about_fragments_helps() -> Digest {
    let (mut lone, fd) = crate::fragments::with_socket();
    let pieces = |id| crate::fragments::pieces(&crate::fragments::datagram(1200), id, 400);
    let whole = |lone: &mut Lone, id| -> Vec<DropReason> {
        pieces(id).iter().flat_map(|piece| lone.take_ip(piece)).collect()
    };
    lone.set("net.ipv4.ipfrag_low_thresh", "0");
    lone.set("net.ipv4.ipfrag_high_thresh", "0");
    assert!(whole(&mut lone, 1).iter().all(|reason| *reason == DropReason::FragMem));
    lone.set("net.ipv4.ipfrag_high_thresh", "4194304");
    assert_eq!(whole(&mut lone, 2), []);
    assert_eq!(lone.recv_all(fd).len(), 1);

    // The rest comes later than it may.
    let late = |lone: &mut Lone, id| {
        let all = pieces(id);
        assert_eq!(lone.take_ip(&all[0]), []);
        lone.world.run_for(Duration::from_secs(5));
        all[1..].iter().for_each(|piece| drop(lone.take_ip(piece)));
        lone.recv_all(fd).len()
    };
    lone.set("net.ipv4.ipfrag_time", "2");
    assert_eq!((late(&mut lone, 3), lone.drops(DropReason::FragReasmTimeout)), (0, 1));
    lone.set("net.ipv4.ipfrag_time", "30");
    assert_eq!(late(&mut lone, 4), 1);
    lone.end()
}
