//! What is longer than the MTU on its way out, and through.

use super::{joined, pattern, resum, seen, with_socket};
use crate::golden::{self, assert_order};
use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use crate::util::{A, B, Pair, addr, connect, recv, send, udp};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold};
use sim::{Digest, LinkSpec};
use stack::fs::exit_files;
use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::socket::{MsgSend, sys_sendmsg, sys_setsockopt};
use std::io::IoSlice;
use uapi::errno::Errno;
use uapi::in_::{
    IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT,
    IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT,
};
use uapi::snmp::{IpMib, UdpMib};
use uapi::socket::{MSG_MORE, SOL_IP};

fn discover(lone: &mut Lone, fd: i32, mode: i32) {
    let set = sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_MTU_DISCOVER, &mode.to_ne_bytes());
    assert_eq!(set, Ok(()));
}

/// The sum over a UDP datagram from the machine to its peer is good.
fn sum_is_good(udp: &[u8]) -> bool {
    let pseudo = csum_tcpudp_nofold(LOCAL.into(), frame::PEER.into(), udp.len() as u32, 17, 0);
    csum_fold(csum_partial(udp, pseudo)) == 0
}

stepped!(datagrams_of_all_lengths_pass_between_two_machines);
fn datagrams_of_all_lengths_pass_between_two_machines() -> Digest {
    let mut pair = Pair::new(71);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    for len in [1472, 1473, 2944, 2960, 9000, 65_000, 65_506, 65_507] {
        let data = pattern(len);
        send(&mut pair, &mut ends.a, client, &data, addr(B, 7));
        assert_eq!(recv(&mut pair, &mut ends.b, server).expect("whole").0, data);
        send(&mut pair, &mut ends.b, server, &data, addr(A, 4000));
        assert_eq!(recv(&mut pair, &mut ends.a, client).expect("whole").0, data);
    }
    let (a, b) = (pair.a.mib(), pair.b.mib());
    assert_eq!(a.get(IpMib::FragOKs), 7, "all but the first, which fits");
    assert_eq!(a.get(IpMib::FragCreates), b.get(IpMib::ReasmReqds));
    assert_eq!(b.get(IpMib::ReasmOKs), 7);
    assert_eq!((a.get(IpMib::FragFails), b.get(IpMib::ReasmFails)), (0, 0));
    assert_eq!((a.get(UdpMib::OutDatagrams), b.get(UdpMib::InDatagrams)), (8, 8));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(the_walk_of_a_datagram_in_fragments);
fn the_walk_of_a_datagram_in_fragments() -> Digest {
    let mut pair = Pair::new(72);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    // Their addresses are known by then.
    send(&mut pair, &mut ends.a, client, b"first", addr(B, 7));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    pair.world.watch(None);
    send(&mut pair, &mut ends.a, client, &pattern(4000), addr(B, 7));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    let walk = pair.world.take_walk();
    golden::check_walk(&walk, "udp-fragments");
    assert_order(
        &walk,
        &[
            Point::udp_sendmsg,
            Point::ip_make_skb,
            Point::udp_send_skb,
            Point::ip_send_skb,
            Point::ip_local_out,
            Point::ip_output,
            Point::ip_finish_output,
            Point::ip_fragment,
            Point::link_clone,
            Point::ip_finish_output2,
            Point::dev_queue_xmit,
            Point::ip_rcv,
            Point::ip_local_deliver,
            Point::ip_defrag,
            Point::ip_frag_queue,
            Point::ip_frag_reasm,
            Point::link_merge,
            Point::ip_local_deliver_finish,
            Point::udp_rcv,
        ],
    );
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(fragments_are_as_long_as_the_mtu_allows_and_summed_as_one);
fn fragments_are_as_long_as_the_mtu_allows_and_summed_as_one() -> Digest {
    let (mut lone, fd) = with_socket();
    for len in [1473, 2953, 5000] {
        let data = pattern(len);
        assert_eq!(lone.send(fd, &data, (frame::PEER, 9)), Ok(len));
        let sent = lone.dev.sent();
        assert_eq!(sent.len(), (len + 8).div_ceil(1480));
        for frame in &sent[..sent.len() - 1] {
            assert_eq!(frame.len(), 1514);
            assert!(!seen(frame).df);
        }
        let udp = joined(&sent);
        assert_eq!(udp[8..], data);
        assert!(sum_is_good(&udp), "{len}");
    }
    // An MTU that is no multiple of eight octets and a header.
    let dev = lone.dev.dev();
    dev_set_mtu(&mut lone.cx, &dev, 1003).expect("allowed");
    assert_eq!(lone.send(fd, &pattern(3000), (frame::PEER, 9)), Ok(3000));
    let sent = lone.dev.sent();
    assert_eq!(sent[0].len(), 14 + 20 + 976);
    assert!(sum_is_good(&joined(&sent)));
    // More fragments than a list takes.
    dev_set_mtu(&mut lone.cx, &dev, 68).expect("allowed");
    lone.sysctl(|sysctl| sysctl.netdev_max_backlog = 10_000);
    assert_eq!(lone.send(fd, &pattern(20_000), (frame::PEER, 9)), Ok(20_000));
    let sent = lone.dev.sent();
    assert_eq!(sent.len(), 20_008_usize.div_ceil(48));
    assert!(sum_is_good(&joined(&sent)));
    lone.end()
}

stepped!(each_mode_cuts_forbids_to_cut_or_refuses);
fn each_mode_cuts_forbids_to_cut_or_refuses() -> Digest {
    let (mut lone, fd) = with_socket();
    // Mode, whether a datagram that fits has DF, whether one that does not is cut.
    let modes = [
        (IP_PMTUDISC_DONT, false, true),
        (IP_PMTUDISC_WANT, true, true),
        (IP_PMTUDISC_DO, true, false),
        (IP_PMTUDISC_PROBE, true, false),
        (IP_PMTUDISC_INTERFACE, false, false),
        (IP_PMTUDISC_OMIT, false, true),
    ];
    for (mode, df, cuts) in modes {
        discover(&mut lone, fd, mode);
        assert_eq!(lone.send(fd, &pattern(1472), (frame::PEER, 9)), Ok(1472));
        let fits = lone.dev.sent();
        assert_eq!((fits.len(), seen(&fits[0]).df), (1, df), "mode {mode}");
        let sent = lone.send(fd, &pattern(1473), (frame::PEER, 9));
        assert_eq!(sent, if cuts { Ok(1473) } else { Err(Errno::EMSGSIZE) }, "mode {mode}");
        let frames = lone.dev.sent();
        assert_eq!(frames.len(), if cuts { 2 } else { 0 });
        assert!(frames.iter().all(|frame| !seen(frame).df));
    }
    lone.end()
}

stepped!(corked_datagrams_are_cut_too);
fn corked_datagrams_are_cut_too() -> Digest {
    let (mut lone, fd) = with_socket();
    connect(&mut lone.cx, fd, &addr(frame::PEER, 9)).expect("a way");
    let data = pattern(4000);
    for (part, more) in [(&data[..1000], true), (&data[1000..3500], true), (&data[3500..], false)] {
        let flags = if more { MSG_MORE } else { 0 };
        let iov = [IoSlice::new(part)];
        let msg = MsgSend { name: None, iov: &iov, control: &[], flags };
        assert_eq!(lone.run(sys_sendmsg(fd, msg)), Ok(part.len()));
    }
    let sent = lone.dev.sent();
    assert_eq!(sent.len(), 3);
    let udp = joined(&sent);
    assert_eq!(udp[8..], data);
    assert!(sum_is_good(&udp));
    lone.end()
}

stepped!(echo_answers_are_cut_as_well);
fn echo_answers_are_cut_as_well() -> Digest {
    let mut lone = Lone::new();
    let data = pattern(4000);
    let echo = frame::ip(1, frame::PEER, LOCAL, &frame::icmp(8, 0, [0, 1, 0, 2], &data));
    for piece in super::pieces(&echo, 77, 1480) {
        assert_eq!(lone.take_ip(&piece), []);
    }
    let sent = lone.dev.sent();
    assert_eq!(sent.len(), 3);
    assert!(!seen(&sent[0]).df);
    let icmp = joined(&sent);
    assert_eq!((icmp[0], &icmp[4..8], &icmp[8..]), (0, &[0, 1, 0, 2][..], &data[..]));
    assert_eq!(csum_fold(csum_partial(&icmp, 0)), 0);
    lone.end()
}

stepped!(what_a_full_queue_loses_of_a_datagram_fails_it_once);
fn what_a_full_queue_loses_of_a_datagram_fails_it_once() -> Digest {
    let mut lone = Lone::with(sim::MachineSpec::default(), 2);
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.dev.busy.store(1000, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        let sent = lone.send(fd, &pattern(20_000), (frame::PEER, 9));
        assert_eq!(sent, Ok(20_000), "nobody asked for errors");
    }
    let mib = lone.machine.mib();
    assert_eq!((mib.get(IpMib::FragOKs), mib.get(IpMib::FragFails)), (0, 3));
    assert_eq!((mib.get(UdpMib::SndbufErrors), mib.get(UdpMib::OutDatagrams)), (3, 0));
    assert_eq!(mib.get(IpMib::OutDiscards), 3);
    assert!(lone.drops(DropReason::QdiscDrop) > 3);
    lone.dev.busy.store(0, std::sync::atomic::Ordering::Relaxed);
    lone.world.run_for(std::time::Duration::from_secs(1));
    lone.end()
}

stepped!(a_router_cuts_what_may_be_cut);
fn a_router_cuts_what_may_be_cut() -> Digest {
    let mut router = crate::ip::Router::new();
    let dev = router.far.dev();
    dev_set_mtu(&mut router.cx, &dev, 600).expect("allowed");
    // Options: record route, which only the first has, and router alert, which all have.
    let mut whole = frame::udp((frame::PEER, 5000), (crate::ip::FAR, 7), &pattern(1200));
    whole.splice(20..20, [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0]);
    whole[0] = 0x48;
    let len = whole.len() as u16;
    whole[2..4].copy_from_slice(&len.to_be_bytes());
    let whole = resum(whole);
    router.world.watch(None);
    router.forward(&whole);
    let walk = router.world.take_walk();
    golden::check_walk(&walk, "forward-fragments");
    let sent = router.far.sent();
    assert_eq!(sent.len(), 3);
    assert_eq!(joined(&sent), whole[32..]);
    let [a, b, c, d] = crate::ip::FAR_LOCAL.octets();
    assert_eq!(sent[0][34..46], [7, 7, 8, a, b, c, d, 1, 148, 4, 0, 0]);
    for later in &sent[1..] {
        assert_eq!(later[34..46], [1, 1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0]);
    }
    assert_eq!(sent[0].len(), 14 + 32 + 568);
    assert!(sent.iter().all(|frame| frame[14 + 8] == 63), "one less to live");
    // A fragment is cut further, and stays one.
    let fragment = super::piece(
        &datagram_to_far(1400),
        super::Piece { id: 9, from: 16, to: 1000, more: true },
    );
    router.forward(&fragment);
    let sent = router.far.sent();
    assert_eq!(sent.len(), 2);
    let (first, second) = (seen(&sent[0]), seen(&sent[1]));
    assert_eq!((first.from, first.more, first.payload.len()), (16, true, 576));
    assert_eq!((second.from, second.more, second.payload.len()), (592, true, 408));
    let mib = router.machine.mib();
    assert_eq!((mib.get(IpMib::FragOKs), mib.get(IpMib::FragCreates)), (2, 5));
    assert_eq!(router.near.sent().len(), 0, "nobody is told");
    drop(router.cx);
    router.world.end()
}

fn datagram_to_far(len: usize) -> Vec<u8> {
    frame::udp((frame::PEER, 5000), (crate::ip::FAR, 7), &pattern(len))
}

stepped!(a_card_that_sums_gets_fragments_that_are_summed);
fn a_card_that_sums_gets_fragments_that_are_summed() -> Digest {
    let mut pair = Pair::igb(73, LinkSpec::Wire, 1);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    for len in [100, 1473, 30_000] {
        let data = pattern(len);
        send(&mut pair, &mut ends.a, client, &data, addr(B, 7));
        assert_eq!(recv(&mut pair, &mut ends.b, server).expect("whole").0, data);
    }
    assert_eq!(pair.b.mib().get(UdpMib::InCsumErrors), 0);
    pair.world.run_for(std::time::Duration::from_secs(1));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.end()
}

stepped!(a_broadcast_in_fragments_comes_back_too);
fn a_broadcast_in_fragments_comes_back_too() -> Digest {
    let (mut lone, fd) = with_socket();
    let on = 1_i32.to_ne_bytes();
    let sol = (uapi::socket::SOL_SOCKET, uapi::socket::SO_BROADCAST);
    sys_setsockopt(&mut lone.cx, fd, sol.0, sol.1, &on).expect("taken");
    let all = udp(&mut lone.cx, std::net::Ipv4Addr::UNSPECIFIED, 9);
    let data = pattern(3000);
    assert_eq!(lone.send(fd, &data, (std::net::Ipv4Addr::new(192, 0, 2, 255), 9)), Ok(3000));
    lone.world.settle();
    let sent = lone.dev.sent();
    assert_eq!((sent.len(), &joined(&sent)[8..]), (3, &data[..]));
    let mut buffer = vec![0; 4000];
    let call = stack::net::socket::sys_recvfrom(all, &mut buffer, uapi::socket::MSG_DONTWAIT);
    let received = lone.run(call);
    assert_eq!(received.map(|(len, _)| len), Ok(3000));
    assert_eq!(buffer[..3000], data);
    lone.end()
}

/// A segment that may be cut, from the peer to the host behind the router.
fn segment(id: u16, seq: u32, data: &[u8]) -> Vec<u8> {
    let far = crate::ip::FAR;
    let mut segment = [&5000_u16.to_be_bytes()[..], &80_u16.to_be_bytes()].concat();
    segment.extend([seq.to_be_bytes(), 1_u32.to_be_bytes()].concat());
    segment.extend([5 << 4, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(data);
    let pseudo = csum_tcpudp_nofold(frame::PEER.into(), far.into(), segment.len() as u32, 6, 0);
    let check = csum_fold(csum_partial(&segment, pseudo));
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    let mut packet = frame::ip(6, frame::PEER, far, &segment);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    resum(packet)
}

stepped!(segments_that_came_merged_are_cut_apart_and_then_into_fragments);
fn segments_that_came_merged_are_cut_apart_and_then_into_fragments() -> Digest {
    let mut router = crate::ip::Router::new();
    let dev = router.far.dev();
    dev_set_mtu(&mut router.cx, &dev, 600).expect("allowed");
    router.near.together.store(true, std::sync::atomic::Ordering::Relaxed);
    let segments: Vec<Vec<u8>> =
        (0..3_u16).map(|n| segment(100 + n, 1 + u32::from(n) * 1000, &pattern(1000))).collect();
    let to_us = |packet: &Vec<u8>| frame::ether(crate::testdev::TestDev::MAC, 0x0800, packet);
    router.world.watch(None);
    router.near.deliver(segments.iter().map(to_us));
    router.world.settle();
    let walk = router.world.take_walk();
    assert_order(
        &walk,
        &[
            Point::link_merge,
            Point::ip_forward,
            Point::ip_finish_output,
            Point::skb_gso_segment,
            Point::ip_fragment,
            Point::ip_finish_output2,
        ],
    );
    let sent = router.far.sent();
    assert_eq!(sent.len(), 6, "two of each");
    for (fragments, whole) in sent.chunks(2).zip(&segments) {
        assert_eq!(seen(&fragments[0]).id, u16::from_be_bytes([whole[4], whole[5]]));
        assert_eq!(joined(fragments), whole[20..], "with its sum");
    }
    assert_eq!(router.machine.mib().get(IpMib::FragOKs), 3);
    drop(router.cx);
    router.world.end()
}
