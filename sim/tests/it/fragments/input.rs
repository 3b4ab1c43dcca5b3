//! Fragments that come in.

use super::{Piece, datagram, pattern, piece, pieces, resum, with_socket};
use crate::golden;
use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use crate::util::{addr, connect};
use sim::Digest;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::socket::{sys_getsockopt, sys_recvmsg, sys_setsockopt};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::IP_RECVFRAGSIZE;
use uapi::snmp::IpMib;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_STREAM, SOL_IP, cmsgs};

const DUP: DropReason = DropReason::DupFrag;
const BAD: DropReason = DropReason::IpFragment;

/// The datagrams that are there to read.
fn lengths(lone: &mut Lone, fd: i32) -> Vec<usize> {
    lone.recv_all(fd).iter().map(Vec::len).collect()
}

stepped!(fragments_make_a_datagram_in_whatever_order);
fn fragments_make_a_datagram_in_whatever_order() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(1200);
    let all = pieces(&whole, 1, 400);
    assert_eq!(all.len(), 4);
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
    for (id, order) in orders.iter().enumerate() {
        let all = pieces(&whole, id as u16, 400);
        for at in order {
            assert_eq!(lone.take_ip(&all[*at]), []);
        }
        assert_eq!(lone.recv_all(fd), [pattern(1200)]);
    }
    let mib = lone.machine.mib();
    assert_eq!((mib.get(IpMib::ReasmReqds), mib.get(IpMib::ReasmOKs)), (16, 4));
    assert_eq!(mib.get(IpMib::InDelivers), 4, "datagrams, not fragments");
    lone.end()
}

stepped!(datagrams_of_one_source_do_not_mix);
fn datagrams_of_one_source_do_not_mix() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(800);
    let others = [
        pieces(&whole, 1, 400),
        pieces(&whole, 2, 400),
        pieces(&super::datagram_from(std::net::Ipv4Addr::new(192, 0, 2, 8), 800), 1, 400),
    ];
    for at in 0..others[0].len() {
        for all in &others {
            assert_eq!(lone.take_ip(&all[at]), []);
        }
        if at == 0 {
            assert!(sockstat_seq_show(&lone.machine).contains("FRAG: inuse 3 memory"));
        }
    }
    assert_eq!(lone.recv_all(fd), [pattern(800), pattern(800), pattern(800)]);
    assert!(sockstat_seq_show(&lone.machine).ends_with("FRAG: inuse 0 memory 0\n"));
    lone.end()
}

stepped!(copies_do_no_harm_and_overlaps_end_a_datagram);
fn copies_do_no_harm_and_overlaps_end_a_datagram() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(1192);
    let part = |id, from, to, more| piece(&whole, Piece { id, from, to, more });
    let (first, second, last) = (
        |id| part(id, 0, 400, true),
        |id| part(id, 400, 800, true),
        |id| part(id, 800, 1200, false),
    );
    // Copies, of one and of a part of what is there.
    assert_eq!(lone.take_ip(&first(1)), []);
    assert_eq!(lone.take_ip(&first(1)), [DUP]);
    assert_eq!(lone.take_ip(&part(1, 80, 160, true)), [DUP]);
    assert_eq!(lone.take_ip(&last(1)), []);
    assert_eq!(lone.take_ip(&last(1)), [DUP]);
    assert_eq!(lone.take_ip(&second(1)), []);
    assert_eq!(lengths(&mut lone, fd), [1192]);
    // An overlap takes what is there with it; what comes then begins another.
    assert_eq!(lone.take_ip(&first(2)), []);
    assert_eq!(lone.take_ip(&part(2, 392, 800, true)), [BAD, BAD]);
    assert_eq!(lone.take_ip(&second(2)), []);
    assert_eq!(lone.take_ip(&last(2)), []);
    assert_eq!(lengths(&mut lone, fd), [0; 0]);
    assert_eq!(lone.take_ip(&first(2)), []);
    assert_eq!(lengths(&mut lone, fd), [1192], "three that fit");
    let mib = lone.machine.mib();
    assert_eq!((mib.get(IpMib::ReasmFails), mib.get(IpMib::ReasmOKs)), (1, 2));
    lone.end()
}

stepped!(the_end_of_a_datagram_is_where_it_was);
fn the_end_of_a_datagram_is_where_it_was() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(1192);
    let part = |id, from, to, more| piece(&whole, Piece { id, from, to, more });
    // Another end; something behind the end; an end before what is there; nothing.
    assert_eq!(lone.take_ip(&part(1, 400, 800, false)), []);
    assert_eq!(lone.take_ip(&part(1, 800, 1000, false)), [BAD, BAD]);
    assert_eq!(lone.take_ip(&part(2, 400, 800, false)), []);
    assert_eq!(lone.take_ip(&part(2, 800, 1000, true)), [BAD, BAD]);
    assert_eq!(lone.take_ip(&part(3, 400, 800, true)), []);
    assert_eq!(lone.take_ip(&part(3, 8, 392, false)), [BAD, BAD]);
    assert_eq!(lone.take_ip(&part(4, 0, 400, true)), []);
    assert_eq!(lone.take_ip(&part(4, 400, 400, true)), [BAD, BAD]);
    // What is more than a multiple of eight does not count but in the last.
    assert_eq!(lone.take_ip(&part(5, 0, 407, true)), []);
    assert_eq!(lone.take_ip(&part(5, 400, 1200, false)), []);
    assert_eq!(lengths(&mut lone, fd), [1192]);
    assert_eq!(lone.take_ip(&part(6, 0, 7, true)), [BAD]);
    assert_eq!(lone.machine.mib().get(IpMib::ReasmFails), 5);
    lone.end()
}

stepped!(a_datagram_that_stays_incomplete_ends_and_its_sender_is_told);
fn a_datagram_that_stays_incomplete_ends_and_its_sender_is_told() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(1200);
    let all = pieces(&whole, 1, 400);
    lone.take_ip(&all[0]);
    lone.take_ip(&all[2]);
    // Without the first fragment nobody is told.
    lone.take_ip(&pieces(&whole, 2, 400)[1]);
    lone.world.run_for(Duration::from_secs(29));
    assert_eq!(lone.machine.mib().get(IpMib::ReasmTimeout), 0);
    lone.world.watch(None);
    lone.world.run_for(Duration::from_secs(2));
    golden::check_walk(&lone.world.take_walk(), "reassembly-timeout");
    let mib = lone.machine.mib();
    assert_eq!((mib.get(IpMib::ReasmTimeout), mib.get(IpMib::ReasmFails)), (2, 2));
    assert_eq!(lone.drops(DropReason::FragReasmTimeout), 3);
    let sent = lone.dev.sent();
    assert_eq!(sent.len(), 1);
    let icmp = &sent[0][34..];
    assert_eq!(icmp[..2], [11, 1], "time exceeded: reassembly");
    assert_eq!(icmp[8..8 + all[0].len()], all[0], "the first fragment, as it came");
    assert_eq!(lone.recv_all(fd), [[0; 0]; 0]);
    // What comes late begins anew.
    lone.take_ip(&all[1]);
    assert!(sockstat_seq_show(&lone.machine).contains("FRAG: inuse 1"));
    lone.sysctl(|sysctl| sysctl.ipfrag.timeout = Duration::from_secs(1));
    lone.take_ip(&pieces(&whole, 3, 400)[0]);
    lone.world.run_for(Duration::from_secs(2));
    assert!(sockstat_seq_show(&lone.machine).contains("FRAG: inuse 1"), "the later one went first");
    lone.world.run_for(Duration::from_secs(30));
    assert!(sockstat_seq_show(&lone.machine).ends_with("FRAG: inuse 0 memory 0\n"));
    lone.end()
}

stepped!(too_many_fragments_of_others_begin_a_datagram_anew);
fn too_many_fragments_of_others_begin_a_datagram_anew() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(800);
    let part = |id, at: usize| pieces(&whole, id, 400)[at].clone();
    lone.sysctl(|sysctl| sysctl.ipfrag.max_dist = 4);
    lone.take_ip(&part(1, 0));
    for id in 10..13 {
        assert_eq!(lone.take_ip(&part(id, 0)), []);
    }
    assert_eq!(lone.take_ip(&part(1, 1)), [], "four later: near enough");
    assert_eq!(lone.take_ip(&part(1, 2)), []);
    assert_eq!(lengths(&mut lone, fd), [800]);
    lone.take_ip(&part(2, 0));
    for id in 20..25 {
        lone.take_ip(&part(id, 0));
    }
    assert_eq!(lone.take_ip(&part(2, 1)), [DropReason::FragTooFar]);
    lone.take_ip(&part(2, 2));
    assert_eq!(lengths(&mut lone, fd), [0; 0]);
    lone.take_ip(&part(2, 0));
    assert_eq!(lengths(&mut lone, fd), [800]);
    assert_eq!(lone.machine.mib().get(IpMib::ReasmFails), 1);
    lone.sysctl(|sysctl| sysctl.ipfrag.max_dist = 0);
    lone.take_ip(&part(3, 0));
    for id in 30..60 {
        lone.take_ip(&part(id, 0));
    }
    lone.take_ip(&part(3, 1));
    lone.take_ip(&part(3, 2));
    assert_eq!(lengths(&mut lone, fd), [800], "any number");
    lone.world.run_for(Duration::from_secs(31));
    lone.end()
}

stepped!(ecn_of_fragments_is_theirs_together);
fn ecn_of_fragments_is_theirs_together() -> Digest {
    let (mut lone, fd) = with_socket();
    let whole = datagram(800);
    let on = 1_i32.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, uapi::in_::IP_RECVTOS, &on).expect("taken");
    let cases = [
        ([0, 0], Some(0)),
        ([2, 2], Some(2)),
        ([2, 3], Some(3)),
        ([3, 1], Some(3)),
        ([0, 2], None),
    ];
    for (id, (ecns, told)) in cases.into_iter().enumerate() {
        for (mut part, ecn) in pieces(&whole, id as u16, 408).into_iter().zip(ecns) {
            part[1] = ecn;
            lone.take_ip(&resum(part));
        }
        let seen = told_of(&mut lone, fd).map(|all| all[0].1);
        assert_eq!(seen, told, "{ecns:?}");
    }
    lone.end()
}

/// The control data of the next datagram: types and first octets.
fn told_of(lone: &mut Lone, fd: i32) -> Option<Vec<(i32, i32)>> {
    let (mut data, mut control) = (vec![0; 65_536], [0; 256]);
    let mut parts = [&mut data[..]];
    let received = lone.run(sys_recvmsg(fd, &mut parts, &mut control, MSG_DONTWAIT));
    if received == Err(Errno::EAGAIN) {
        return None;
    }
    let len = received.expect("a datagram").controllen;
    let all = cmsgs(&control[..len as usize]).map(|cmsg| {
        let cmsg = cmsg.expect("well formed");
        let mut value = [0; 4];
        value[..cmsg.data.len().min(4)].copy_from_slice(&cmsg.data[..cmsg.data.len().min(4)]);
        (cmsg.type_, i32::from_ne_bytes(value))
    });
    Some(all.collect())
}

stepped!(a_reader_is_told_how_large_the_fragments_were);
fn a_reader_is_told_how_large_the_fragments_were() -> Digest {
    let (mut lone, fd) = with_socket();
    let on = 1_i32.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_RECVFRAGSIZE, &on).expect("taken");
    let got = sys_getsockopt(&mut lone.cx, fd, SOL_IP, IP_RECVFRAGSIZE);
    assert_eq!(got, Ok(on.to_vec()));
    let whole = datagram(1000);
    for part in pieces(&whole, 1, 400) {
        lone.take_ip(&part);
    }
    assert_eq!(told_of(&mut lone, fd), Some(vec![(IP_RECVFRAGSIZE, 420)]));
    lone.take_ip(&whole);
    assert_eq!(told_of(&mut lone, fd), Some(vec![]), "nothing of one that came whole");
    let stream =
        stack::net::socket::sys_socket(&mut lone.cx, AF_INET, SOCK_STREAM, 0).expect("one");
    let set = sys_setsockopt(&mut lone.cx, stream, SOL_IP, IP_RECVFRAGSIZE, &on);
    assert_eq!(set, Err(Errno::EINVAL));
    lone.end()
}

stepped!(headers_in_several_fragments_are_read);
fn headers_in_several_fragments_are_read() -> Digest {
    let (mut lone, fd) = with_socket();
    // Eight octets each: a UDP header and nothing.
    for part in pieces(&datagram(100), 1, 8) {
        assert_eq!(lone.take_ip(&part), []);
    }
    assert_eq!(lone.recv_all(fd), [pattern(100)]);
    // A SYN to a closed port, whose header is in three fragments: it is answered.
    let syn = frame::tcp((1, 0), uapi::tcp::TCPHDR_SYN, &[]);
    for part in pieces(&syn, 2, 8) {
        lone.take_ip(&part);
    }
    let sent = lone.dev.sent();
    assert_eq!((sent.len(), sent[0][23], sent[0][47] & 4), (1, 6, 4), "a reset");
    lone.end()
}

stepped!(a_datagram_over_loopback_in_fragments);
fn a_datagram_over_loopback_in_fragments() -> Digest {
    let (mut lone, fd) = with_socket();
    let lo = {
        let t = lone.machine.tables();
        t.net.devs.iter().flatten().find(|dev| dev.is_loopback()).cloned().expect("loopback")
    };
    stack::net::core::dev::device::dev_set_mtu(&mut lone.cx, &lo, 1500).expect("allowed");
    connect(&mut lone.cx, fd, &addr(LOCAL, 7)).expect("itself");
    let data = pattern(10_000);
    assert_eq!(lone.send(fd, &data, (LOCAL, 7)), Ok(data.len()));
    lone.world.settle();
    let mut buffer = vec![0; 20_000];
    let call = stack::net::socket::sys_recvfrom(fd, &mut buffer, 0);
    assert_eq!(lone.run(call).map(|(len, _)| len), Ok(10_000));
    assert_eq!(buffer[..10_000], data);
    assert_eq!(lone.machine.mib().get(IpMib::ReasmReqds), 7);
    lone.end()
}

stepped!(who_takes_no_fragments_takes_none);
fn who_takes_no_fragments_takes_none() -> Digest {
    let (mut lone, fd) = with_socket();
    lone.sysctl(|sysctl| (sysctl.ipfrag.low_thresh, sysctl.ipfrag.high_thresh) = (0, 0));
    for part in pieces(&datagram(800), 1, 400) {
        assert_eq!(lone.take_ip(&part), [DropReason::FragMem]);
    }
    assert_eq!(lone.recv_all(fd), [[0; 0]; 0]);
    assert_eq!(lone.machine.mib().get(IpMib::ReasmFails), 3);
    lone.end()
}
