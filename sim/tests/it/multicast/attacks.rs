//! Messages and calls that nobody honest sends or makes.

use super::{
    ALL_HOSTS, GROUP, datagram, ifindex, igmp, join, mac, mreqn, query, sharing, to_group, told,
};
use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use crate::util::udp;
use sim::Digest;
use stack::fs::sys_close;
use stack::net::ipv4::igmp::{igmp_mc_seq_show, igmp_mcf_seq_show};
use stack::net::socket::sys_setsockopt;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::igmp::{
    IGMP_HOST_MEMBERSHIP_QUERY, IGMP_HOST_MEMBERSHIP_REPORT, IGMPV2_HOST_MEMBERSHIP_REPORT,
};
use uapi::in_::{IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP};
use uapi::ip::IPPROTO_IGMP;
use uapi::socket::SOL_IP;

/// A query after all is still answered, of so many groups.
fn still_answers(lone: &mut Lone, groups: usize) {
    lone.world.run_for(Duration::from_secs(60));
    told(lone);
    lone.dev.deliver([query(1, Ipv4Addr::UNSPECIFIED, [2, 125])]);
    lone.world.run_for(Duration::from_secs(2));
    let records: usize = told(lone).iter().map(|answer| records(answer)).sum();
    assert_eq!(records, groups, "one of each group");
}

/// The records of a report of version 3.
fn records(report: &[u8]) -> usize {
    assert_eq!(report[0], 0x22);
    usize::from(report[6]) << 8 | usize::from(report[7])
}

stepped!(attack_igmp_report_storm);
fn attack_igmp_report_storm() -> Digest {
    let mut lone = Lone::new();
    let (dev, fd) = (ifindex(&lone), sharing(&mut lone.cx, 7));
    join(&mut lone.cx, fd, GROUP, dev);
    lone.world.run_for(Duration::from_secs(5));
    told(&lone);
    let before = igmp_mc_seq_show(&lone.machine);
    // Reports of every group there could be, of ours among them, of all versions, and some that are none.
    for n in 0..5000_u32 {
        let group = Ipv4Addr::from(0xef01_0000 + n);
        let kind = [IGMP_HOST_MEMBERSHIP_REPORT, IGMPV2_HOST_MEMBERSHIP_REPORT, 0x22, 0xff]
            [n as usize % 4];
        let message = igmp(kind, n as u8, &group.octets());
        lone.dev.deliver([
            to_group(IPPROTO_IGMP, ALL_HOSTS, &message),
            to_group(IPPROTO_IGMP, GROUP, &message),
        ]);
        if n % 64 == 0 {
            lone.world.settle();
        }
    }
    lone.world.settle();
    assert_eq!(igmp_mc_seq_show(&lone.machine), before, "nothing is kept of them");
    assert_eq!(told(&lone), [[0; 0]; 0], "nor answered");
    assert_eq!(lone.take(datagram(GROUP, b"x")), []);
    assert_eq!(lone.recv_all(fd), [b"x"]);
    still_answers(&mut lone, 1);
    lone.end()
}

stepped!(attack_igmp_query_flood);
fn attack_igmp_query_flood() -> Digest {
    let mut lone = Lone::new();
    let dev = ifindex(&lone);
    for port in 1..11 {
        let fd = sharing(&mut lone.cx, port);
        (0..20).for_each(|n| join(&mut lone.cx, fd, Ipv4Addr::new(239, 9, port as u8, n), dev));
    }
    lone.world.run_for(Duration::from_secs(5));
    told(&lone);
    // Every time that can be asked for, of all groups and of each, in all three versions.
    let start = lone.machine.ktime_get();
    for n in 0..4000_u32 {
        let (code, group) = (n as u8, Ipv4Addr::new(239, 9, (n % 12) as u8, (n % 20) as u8));
        let asked = [Ipv4Addr::UNSPECIFIED, group][n as usize % 2];
        let old = igmp(IGMP_HOST_MEMBERSHIP_QUERY, code, &asked.octets());
        lone.dev.deliver([match n % 3 {
            0 => to_group(IPPROTO_IGMP, ALL_HOSTS, &old),
            _ => query(code, asked, [7, code]),
        }]);
        if n % 64 == 0 {
            lone.world.settle();
        }
    }
    lone.world.settle();
    assert!(lone.machine.ktime_get() - start < Duration::from_secs(1), "they came at once");
    // 200 groups: each is told of once in answer to them all, or twice where one was due meanwhile.
    lone.world.run_for(Duration::from_secs(3600));
    let answers = told(&lone).len();
    assert!((1..=800).contains(&answers), "{answers} answers to 4000 queries");
    // The oldest version that was heard counts for days, as long as the querier's interval says at the most.
    lone.world.run_for(Duration::from_secs(300_000));
    still_answers(&mut lone, 200);
    lone.end()
}

stepped!(attack_source_lists);
fn attack_source_lists() -> Digest {
    let mut lone = Lone::new();
    let (dev, fd) = (ifindex(&lone), sharing(&mut lone.cx, 7));
    join(&mut lone.cx, fd, GROUP, dev);
    lone.world.run_for(Duration::from_secs(5));
    told(&lone);
    let before = igmp_mcf_seq_show(&lone.machine);
    for (count, there) in [(365_u16, 365), (u16::MAX, 365), (400, 3), (1, 0), (0, 365)] {
        let sources: Vec<u8> =
            (0..there).flat_map(|n: u32| (0x0a00_0000 + n).to_be_bytes()).collect();
        let tail = [&GROUP.octets()[..], &[0xff, 0xff], &count.to_be_bytes(), &sources].concat();
        let message = igmp(IGMP_HOST_MEMBERSHIP_QUERY, 0xff, &tail);
        (0..200).for_each(|_| lone.dev.deliver([to_group(IPPROTO_IGMP, GROUP, &message)]));
        lone.world.settle();
    }
    assert_eq!(igmp_mcf_seq_show(&lone.machine), before, "nothing is kept of them");
    lone.world.run_for(Duration::from_secs(7200));
    let answers = told(&lone);
    assert!((1..=2).contains(&answers.len()), "one for all of them: {answers:?}");
    // A socket's own lists are bounded, and charged.
    let add = |lone: &mut Lone, n: u32| {
        let value = [GROUP.octets(), LOCAL.octets(), (0x0a00_0000 + n).to_be_bytes()].concat();
        let other = sharing(&mut lone.cx, 7);
        let all = (0..30).map(|m| {
            let mut value = value.clone();
            value[11] = m;
            sys_setsockopt(&mut lone.cx, other, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &value)
        });
        let done: Vec<_> = all.collect();
        sys_close(&mut lone.cx, other).expect("open");
        done
    };
    for n in 0..20 {
        let done = add(&mut lone, n << 8);
        assert!(done[..10].iter().all(Result::is_ok), "{done:?}");
        assert!(done[10..].iter().all(|done| *done == Err(Errno::ENOBUFS)), "{done:?}");
    }
    assert_eq!(igmp_mcf_seq_show(&lone.machine), before, "closed sockets leave nothing");
    still_answers(&mut lone, 1);
    lone.end()
}

stepped!(attack_membership_exhaustion);
fn attack_membership_exhaustion() -> Digest {
    let mut lone = Lone::new();
    let dev = ifindex(&lone);
    let before = igmp_mc_seq_show(&lone.machine);
    // A program that joins whatever it can, and leaves it: only so much of it is told of.
    for round in 0..150_u32 {
        let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7);
        for n in 0..22 {
            let group = Ipv4Addr::from(0xef10_0000 + round * 32 + n);
            let value = mreqn(group, dev);
            let joined = sys_setsockopt(&mut lone.cx, fd, SOL_IP, IP_ADD_MEMBERSHIP, &value);
            let expected = if n < 20 { Ok(()) } else { Err(Errno::ENOBUFS) };
            assert_eq!(joined, expected, "group {n} of a socket");
        }
        sys_close(&mut lone.cx, fd).expect("open");
    }
    assert_eq!(igmp_mc_seq_show(&lone.machine), before, "closed sockets leave nothing");
    assert_eq!(lone.dev.dev().mc_list(), [mac(ALL_HOSTS)], "nor in the device's filters");
    lone.world.run_for(Duration::from_secs(10));
    let records: usize = told(&lone).iter().map(|report| records(report)).sum();
    assert!((2..=2 * 1024 + 8).contains(&records), "{records} records of 3000 groups");
    let fd = udp(&mut lone.cx, LOCAL, 7);
    join(&mut lone.cx, fd, GROUP, dev);
    still_answers(&mut lone, 1);
    lone.end()
}

stepped!(attack_group_datagrams_from_anybody);
fn attack_group_datagrams_from_anybody() -> Digest {
    let mut lone = Lone::new();
    let fd = udp(&mut lone.cx, Ipv4Addr::UNSPECIFIED, 7);
    // Frames to groups nobody joined, by a card that filters nothing: each costs a look.
    for n in 0..5000_u32 {
        let group = Ipv4Addr::from(0xe000_0100 + n * 7919);
        let packet = frame::udp((Ipv4Addr::from(0xc633_6400 + n % 250), 1), (group, 7), b"x");
        lone.dev.deliver([frame::ether(mac(group), 0x0800, &packet)]);
        if n % 64 == 0 {
            lone.world.settle();
        }
    }
    lone.world.settle();
    assert_eq!(lone.recv_all(fd), [[0; 0]; 0]);
    assert_eq!(lone.dev.sent(), [[0; 0]; 0], "and no error is sent to a group's sender");
    lone.end()
}
