//! Golden walks of what no statement is about: each station stands in one.

use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::{A, B, Pair, addr, connect, udp};
use sim::Digest;
use stack::fs::eventpoll::EpollEvent;
use stack::fs::{exit_files, sys_close, sys_epoll_create1, sys_epoll_ctl, sys_epoll_wait};
use stack::kernel::bpf::BpfProg;
use stack::kernel::context::BhCx;
use stack::net::core::dev::{NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack};
use stack::net::core::skbuff::{Skb, consume_skb};
use stack::net::netfilter::{NfHook, NfHookState, NfInetHook, Verdict, nf_register_hook};
use stack::net::socket::{
    MsgSend, sys_bind, sys_getpeername, sys_getsockname, sys_getsockopt, sys_recvmsg, sys_send,
    sys_sendmsg, sys_setsockopt, sys_shutdown, sys_socket,
};
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::poll::{EPOLL_CTL_ADD, EPOLLIN};
use uapi::socket::{AF_INET, SHUT_RDWR, SO_PRIORITY, SOCK_DGRAM, SOL_SOCKET};

/// Spans, and no packet.
fn spans_only() -> Option<BpfProg> {
    pcap_filter::compile("port 1").ok()
}

stepped!(a_sockets_life_from_call_to_call);
fn a_sockets_life_from_call_to_call() -> Digest {
    let pair = Pair::new(101);
    let mut ends = pair.ends();
    pair.world.watch(spans_only());
    let cx = &mut ends.a;
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_PRIORITY, &1_i32.to_ne_bytes()).expect("allowed");
    sys_getsockopt(cx, fd, SOL_SOCKET, SO_PRIORITY).expect("known");
    sys_bind(cx, fd, &addr(A, 4000)).expect("a free port");
    connect(cx, fd, &addr(B, 7)).expect("a route");
    sys_getsockname(cx, fd).expect("bound");
    sys_getpeername(cx, fd).expect("connected");
    sys_shutdown(cx, fd, SHUT_RDWR).expect("connected");
    sys_close(cx, fd).expect("open");
    golden::check(&pair.world, "socket-calls");
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(messages_and_an_epoll_that_waits_for_one);
fn messages_and_an_epoll_that_waits_for_one() -> Digest {
    let mut pair = Pair::new(102);
    let mut ends = pair.ends();
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    connect(&mut ends.a, client, &addr(B, 7)).expect("a route");
    let epoll = sys_epoll_create1(&mut ends.b, 0).expect("made");
    let event = EpollEvent { events: EPOLLIN, data: 7 };
    sys_epoll_ctl(&mut ends.b, epoll, EPOLL_CTL_ADD, server, event).expect("added");
    assert_eq!(pair.run(&mut ends.a, sys_send(client, b"warm", 0)), Ok(4));
    pair.world.settle();
    let receive = |pair: &mut Pair, ends: &mut crate::util::Ends| {
        let (mut data, mut told) = ([0; 32], [0; 64]);
        let mut into: [&mut [u8]; 1] = [&mut data];
        let got = pair.run(&mut ends.b, sys_recvmsg(server, &mut into, &mut told, 0));
        got.expect("there").len
    };
    assert_eq!(receive(&mut pair, &mut ends), 4);
    pair.world.watch(None);
    let iov = [IoSlice::new(b"in "), IoSlice::new(b"parts")];
    let msg = MsgSend { iov: &iov, name: None, control: &[], flags: 0 };
    assert_eq!(pair.run(&mut ends.a, sys_sendmsg(client, msg)), Ok(8));
    let ready = pair.run(&mut ends.b, sys_epoll_wait(epoll, 8, None));
    assert_eq!(ready, Ok(vec![event]));
    assert_eq!(receive(&mut pair, &mut ends), 8);
    golden::check(&pair.world, "messages");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

struct Pass;

impl NfHook for Pass {
    fn hook(&self, _: &mut BhCx<'_>, _: &NfHookState, skb: Skb) -> Verdict {
        Verdict::Accept(skb)
    }
}

stepped!(a_packet_passes_a_registered_hook);
fn a_packet_passes_a_registered_hook() -> Digest {
    let mut lone = Lone::new();
    udp(&mut lone.cx, LOCAL, 7);
    nf_register_hook(&mut lone.cx, NfInetHook::PreRouting, 0, Arc::new(Pass));
    lone.world.watch(None);
    let datagram = frame::udp((frame::PEER, 5000), (LOCAL, 7), b"x");
    lone.dev.deliver([frame::ether(TestDev::MAC, 0x0800, &datagram)]);
    lone.world.settle();
    golden::check(&lone.world, "hook");
    lone.end()
}

struct Tap;

impl PacketTap for Tap {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        consume_skb(cx, skb);
    }
}

stepped!(a_tap_sees_what_is_sent_and_a_driver_frees_it_later);
fn a_tap_sees_what_is_sent_and_a_driver_frees_it_later() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    let func = PacketFunc::Tap(Arc::new(Tap));
    dev_add_pack(&mut lone.cx, PacketType { kind: uapi::if_ether::ETH_P_ALL, dev: None, func });
    lone.dev.free_by_softirq.store(true, Ordering::Relaxed);
    lone.world.watch(None);
    assert_eq!(lone.send(fd, b"seen", (frame::PEER, 9)), Ok(4));
    golden::check(&lone.world, "tap-on-the-way-out");
    lone.end()
}

stepped!(a_broadcast_needs_nobodys_address);
fn a_broadcast_needs_nobodys_address() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, LOCAL, 4000);
    let on = 1_i32.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, fd, SOL_SOCKET, uapi::socket::SO_BROADCAST, &on).expect("allowed");
    lone.world.watch(None);
    assert_eq!(lone.send(fd, b"all", (Ipv4Addr::new(192, 0, 2, 255), 9)), Ok(3));
    lone.world.settle();
    golden::check(&lone.world, "broadcast-out");
    let sent = lone.dev.sent();
    assert_eq!((sent.len(), &sent[0][..6]), (1, &[0xff; 6][..]), "and no question before it");
    lone.world.run_for(Duration::from_secs(1));
    lone.end()
}
