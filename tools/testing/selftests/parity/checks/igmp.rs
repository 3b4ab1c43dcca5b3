//! IGMP: what a host tells routers of its groups, read at the other end of the link, where the querier stands.

use super::checks;
use super::multicast::{SITE, heard, join, mreqn, sender, sharing};
use crate::Probe;
use crate::probe::{ANY, ETH, Ip};
use crate::wire::{PEER, Wire, igmp, octets, to_group};
use uapi::igmp::*;
use uapi::in_::*;
use uapi::ip::{IPPROTO_IGMP, IPPROTO_UDP};
use uapi::socket::SOL_IP;

checks! {
    igmp_report_of_a_group
    igmp_report_of_groups_of_the_link
    igmp_report_of_sources
    igmp_report_of_a_filter_that_changes
    igmp_report_of_more_sources_than_fit
    igmp_answers_a_general_query
    igmp_answers_a_query_of_a_group
    igmp_answers_a_query_of_sources
    igmp_answers_a_query_of_sources_that_are_excluded
    igmp_answers_no_bad_query
    igmp_speaks_version_2_to_its_querier
    igmp_speaks_version_1_to_its_querier
    igmp_speaks_the_version_it_is_told
    igmp_says_nothing_twice
    igmp_leaves_as_the_last_who_reported
    igmp_joins_again_before_all_is_told
    igmp_ignores_others_of_version_3
    wire_group_datagrams
    wire_group_datagrams_of_sources
    wire_group_datagrams_sent
    wire_group_ttl
}

const OTHER: Ip = [239, 9, 8, 7];
const ALL_HOSTS: Ip = [224, 0, 0, 1];
const S1: Ip = [203, 0, 113, 1];
const S2: Ip = [203, 0, 113, 2];
const S3: Ip = [203, 0, 113, 3];

fn wait(p: &mut Probe<'_>, ms: u64) {
    let _nothing = p.calls.poll(&mut [], ms);
}

/// A query of version 3, to be answered at once, by a querier that wants to be told once.
fn query(group: Ip, sources: &[Ip]) -> Vec<u8> {
    let count = (sources.len() as u16).to_be_bytes();
    let tail = [&group[..], &[1, 125], &count].concat();
    igmp(IGMP_HOST_MEMBERSHIP_QUERY, 0, &[tail, sources.concat()].concat())
}

fn old_query(code: u8, group: Ip) -> Vec<u8> {
    igmp(IGMP_HOST_MEMBERSHIP_QUERY, code, &group)
}

fn ask(p: &mut Probe<'_>, to: Ip, message: &[u8]) {
    p.calls.wire_send(&to_group(PEER, to, IPPROTO_IGMP, message));
}

/// The wire, with a querier on it that wants to be told once.
fn querier(p: &mut Probe<'_>) -> Wire {
    p.calls.sysctl("net.ipv4.igmp_qrv", "1");
    let mut wire = Wire::open(p);
    ask(p, ALL_HOSTS, &query(ANY, &[]));
    told(p, &mut wire, "at first");
    wire
}

fn told(p: &mut Probe<'_>, wire: &mut Wire, label: &str) {
    wait(p, 60);
    let frames = wire.note(p, label);
    for frame in frames {
        p.note("to", format!("{:x?}", &frame[..6]));
    }
}

fn source(p: &mut Probe<'_>, fd: i32, name: i32, source: Ip) {
    let value = [SITE, ETH, source].concat();
    let _ = p.set_bytes(&format!("{name} of {source:?}"), fd, (SOL_IP, name), &value);
}

fn leave(p: &mut Probe<'_>, fd: i32, group: Ip) {
    let _ = p.set_bytes("leave", fd, (SOL_IP, IP_DROP_MEMBERSHIP), &mreqn(group, ANY, 2));
}

fn igmp_report_of_a_group(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let (fd, other) = (p.udp(), p.udp());
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    join(p, other, SITE, 2);
    told(p, &mut wire, "joined by another, too");
    leave(p, fd, SITE);
    told(p, &mut wire, "left by one");
    p.drop_all(&[other]);
    told(p, &mut wire, "closed");
}

fn igmp_report_of_groups_of_the_link(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    for (group, told_of) in [([224, 0, 0, 9], "1"), ([224, 0, 0, 10], "0"), (ALL_HOSTS, "1")] {
        p.calls.sysctl("net.ipv4.igmp_link_local_mcast_reports", told_of);
        join(p, fd, group, 2);
        told(p, &mut wire, &format!("{group:?} {told_of}"));
        leave(p, fd, group);
        told(p, &mut wire, "left");
    }
}

fn igmp_report_of_sources(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let (fd, other) = (p.udp(), p.udp());
    for (fd, name, addr) in [
        (fd, IP_ADD_SOURCE_MEMBERSHIP, S1),
        (fd, IP_ADD_SOURCE_MEMBERSHIP, S2),
        (other, IP_ADD_SOURCE_MEMBERSHIP, S2),
        (fd, IP_DROP_SOURCE_MEMBERSHIP, S1),
        (fd, IP_DROP_SOURCE_MEMBERSHIP, S2),
        (other, IP_DROP_SOURCE_MEMBERSHIP, S2),
    ] {
        source(p, fd, name, addr);
        told(p, &mut wire, "told");
    }
}

fn igmp_report_of_a_filter_that_changes(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let (fd, other) = (p.udp(), p.udp());
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    for (fd, name, addr) in [
        (fd, IP_BLOCK_SOURCE, S1),
        (fd, IP_BLOCK_SOURCE, S2),
        (other, IP_ADD_SOURCE_MEMBERSHIP, S1),
        (other, IP_ADD_SOURCE_MEMBERSHIP, S3),
        (fd, IP_UNBLOCK_SOURCE, S2),
    ] {
        source(p, fd, name, addr);
        told(p, &mut wire, "told");
    }
    leave(p, fd, SITE);
    told(p, &mut wire, "only who includes is left");
    let filter = [&SITE[..], &ETH, &0_i32.to_ne_bytes(), &2_i32.to_ne_bytes(), &S1, &S2].concat();
    let _ = p.set_bytes("a filter", other, (SOL_IP, IP_MSFILTER), &filter);
    told(p, &mut wire, "excludes");
}

fn igmp_report_of_more_sources_than_fit(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    p.calls.sysctl("net.ipv4.igmp_max_msf", "1000");
    let fd = p.udp();
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    for mode in [MCAST_EXCLUDE, MCAST_INCLUDE] {
        let sources: Vec<u8> =
            (0..500_u16).flat_map(|n| [10, 0, (n >> 8) as u8, n as u8]).collect();
        let head = [&SITE[..], &ETH, &mode.to_ne_bytes(), &500_u32.to_ne_bytes()].concat();
        let _ = p.set_bytes("many", fd, (SOL_IP, IP_MSFILTER), &[head, sources].concat());
        told(p, &mut wire, "many");
        ask(p, ALL_HOSTS, &query(ANY, &[]));
        told(p, &mut wire, "asked");
    }
}

fn igmp_answers_a_general_query(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    for group in [SITE, OTHER, [224, 0, 0, 9]] {
        join(p, fd, group, 2);
        told(p, &mut wire, "joined");
    }
    source(p, fd, IP_BLOCK_SOURCE, S1);
    told(p, &mut wire, "blocked");
    ask(p, ALL_HOSTS, &query(ANY, &[]));
    told(p, &mut wire, "asked");
}

fn igmp_answers_a_query_of_a_group(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    join(p, fd, SITE, 2);
    source(p, fd, IP_BLOCK_SOURCE, S1);
    told(p, &mut wire, "joined");
    for group in [SITE, OTHER, [224, 0, 0, 1]] {
        ask(p, group, &query(group, &[]));
        told(p, &mut wire, &format!("asked of {group:?}"));
    }
    ask(p, ALL_HOSTS, &query(SITE, &[]));
    told(p, &mut wire, "asked of all hosts");
}

fn igmp_answers_a_query_of_sources(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, S1);
    source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, S2);
    told(p, &mut wire, "joined");
    for sources in [&[S1][..], &[S3], &[S3, S2], &[S1, S2, S3], &[S1, S1], &[]] {
        ask(p, SITE, &query(SITE, sources));
        told(p, &mut wire, &format!("asked of {sources:?}"));
    }
    ask(p, ALL_HOSTS, &query(ANY, &[S1]));
    told(p, &mut wire, "asked of sources of no group");
}

fn igmp_answers_a_query_of_sources_that_are_excluded(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    join(p, fd, SITE, 2);
    source(p, fd, IP_BLOCK_SOURCE, S1);
    source(p, fd, IP_BLOCK_SOURCE, S2);
    told(p, &mut wire, "joined");
    for sources in [&[S1][..], &[S1, S2], &[S3], &[S1, S3], &[S1, S1]] {
        ask(p, SITE, &query(SITE, sources));
        told(p, &mut wire, &format!("asked of {sources:?}"));
    }
}

fn igmp_answers_no_bad_query(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    let whole = query(SITE, &[S1, S2]);
    for len in [0, 1, 7, 9, 11, 12, 16, 19] {
        // The sum is right for what there is, if it is all there.
        let mut cut = whole[..len].to_vec();
        if len >= 8 {
            cut = igmp(cut[0], cut[1], &cut[4..]);
        }
        ask(p, ALL_HOSTS, &cut);
        told(p, &mut wire, &format!("{len} octets"));
    }
    let mut wrong = query(ANY, &[]);
    wrong[2] ^= 1;
    ask(p, ALL_HOSTS, &wrong);
    told(p, &mut wire, "a wrong sum");
    for kind in [0, 0x13, 0x14, 0x15, 0x16, 0x17, 0x1e, 0x1f, 0x22, 0x30, 0xff] {
        ask(p, ALL_HOSTS, &igmp(kind, 0, &SITE));
    }
    told(p, &mut wire, "other types");
}

fn igmp_speaks_version_2_to_its_querier(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    ask(p, ALL_HOSTS, &old_query(1, ANY));
    told(p, &mut wire, "nothing is joined");
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    join(p, fd, [224, 0, 0, 9], 2);
    told(p, &mut wire, "joined another");
    ask(p, SITE, &old_query(1, SITE));
    wait(p, 100);
    told(p, &mut wire, "asked");
    ask(p, ALL_HOSTS, &query(SITE, &[]));
    told(p, &mut wire, "asked in version 3");
    source(p, fd, IP_BLOCK_SOURCE, S1);
    told(p, &mut wire, "of sources nothing");
    leave(p, fd, SITE);
    told(p, &mut wire, "left");
}

fn igmp_speaks_version_1_to_its_querier(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    ask(p, ALL_HOSTS, &old_query(0, ANY));
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    leave(p, fd, SITE);
    told(p, &mut wire, "left");
}

fn igmp_speaks_the_version_it_is_told(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    for version in ["1", "2", "3", "0"] {
        p.calls.sysctl("net.ipv4.conf.eth0.force_igmp_version", version);
        join(p, fd, SITE, 2);
        told(p, &mut wire, &format!("version {version}"));
        leave(p, fd, SITE);
        told(p, &mut wire, "left");
    }
}

fn igmp_says_nothing_twice(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    ask(p, ALL_HOSTS, &old_query(10, ANY));
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    // Another member is faster: nothing is left to be said, at its leaving neither.
    for (kind, to) in [(IGMPV2_HOST_MEMBERSHIP_REPORT, SITE), (IGMP_HOST_MEMBERSHIP_REPORT, SITE)] {
        ask(p, SITE, &old_query(1, SITE));
        ask(p, to, &igmp(kind, 0, &SITE));
        wait(p, 150);
        told(p, &mut wire, "another has said it");
    }
    leave(p, fd, SITE);
    told(p, &mut wire, "left");
}

fn igmp_leaves_as_the_last_who_reported(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    ask(p, ALL_HOSTS, &old_query(10, ANY));
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    ask(p, OTHER, &igmp(IGMPV2_HOST_MEMBERSHIP_REPORT, 0, &OTHER));
    leave(p, fd, SITE);
    told(p, &mut wire, "left");
}

fn igmp_joins_again_before_all_is_told(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    for _ in 0..3 {
        join(p, fd, SITE, 2);
        leave(p, fd, SITE);
    }
    told(p, &mut wire, "left at last");
    join(p, fd, SITE, 2);
    told(p, &mut wire, "joined");
    leave(p, fd, SITE);
    join(p, fd, SITE, 2);
    told(p, &mut wire, "never gone");
    for name in [IP_DROP_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP] {
        source(p, fd, name, S1);
    }
    source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, S1);
    source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, S2);
    told(p, &mut wire, "of another source");
}

fn igmp_ignores_others_of_version_3(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = p.udp();
    join(p, fd, SITE, 2);
    ask(
        p,
        [224, 0, 0, 22],
        &igmp(IGMPV3_HOST_MEMBERSHIP_REPORT, 0, &[0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3]),
    );
    told(p, &mut wire, "joined");
}

/// A datagram without a checksum from a port of somebody's.
fn datagram(len: usize) -> Vec<u8> {
    let head = [4009_u16, 4001, (8 + len) as u16, 0].map(u16::to_be_bytes).concat();
    [head, octets(len)].concat()
}

fn wire_group_datagrams(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let all = [sharing(p, ANY, 4001), sharing(p, ANY, 4001), sharing(p, OTHER, 4001)];
    join(p, all[0], SITE, 2);
    join(p, all[2], SITE, 2);
    told(p, &mut wire, "joined");
    for (from, group) in [
        (PEER, SITE),
        (PEER, OTHER),
        (PEER, [224, 0, 0, 1]),
        (PEER, [224, 0, 0, 2]),
        (S1, SITE),
        (ETH, SITE),
        (ANY, SITE),
        (ANY, [224, 0, 0, 1]),
        ([127, 0, 0, 1], SITE),
        ([224, 9, 9, 9], SITE),
        ([255; 4], SITE),
    ] {
        p.calls.wire_send(&to_group(from, group, IPPROTO_UDP, &datagram(3)));
        heard(p, &format!("{from:?} to {group:?}"), &all);
    }
}

fn wire_group_datagrams_of_sources(p: &mut Probe<'_>) {
    let _wire = querier(p);
    let all = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    source(p, all[0], IP_ADD_SOURCE_MEMBERSHIP, S1);
    let each = |p: &mut Probe<'_>, label: &str| {
        for from in [S1, S2, PEER] {
            p.calls.wire_send(&to_group(from, SITE, IPPROTO_UDP, &datagram(2)));
            heard(p, &format!("{label} {from:?}"), &all);
        }
    };
    each(p, "one");
    source(p, all[1], IP_ADD_SOURCE_MEMBERSHIP, S2);
    each(p, "two");
    source(p, all[0], IP_DROP_SOURCE_MEMBERSHIP, S1);
    each(p, "the other");
    source(p, all[1], IP_DROP_SOURCE_MEMBERSHIP, S2);
    each(p, "none");
}

fn wire_group_datagrams_sent(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = sender(p, 2);
    let to = p.bound(ANY, 4001);
    for joined in [false, true] {
        if joined {
            join(p, to, SITE, 2);
            told(p, &mut wire, "joined");
        }
        for (group, len) in [(SITE, 5), ([224, 129, 3, 4], 5), ([224, 0, 0, 251], 5), (SITE, 2000)]
        {
            let _ = p.sendto(&format!("{len} to {group:?}"), fd, &octets(len), group, 4001);
            told(p, &mut wire, "sent");
            p.recvfrom("our own", to, 3000, 0);
        }
    }
}

fn wire_group_ttl(p: &mut Probe<'_>) {
    let mut wire = querier(p);
    let fd = sender(p, 2);
    let to = p.bound(ANY, 4001);
    join(p, to, SITE, 2);
    told(p, &mut wire, "joined");
    for group in [SITE, OTHER] {
        for ttl in [0, 1, 64] {
            p.with(fd, (SOL_IP, IP_MULTICAST_TTL), ttl);
            let _ = p.sendto(&format!("ttl {ttl} to {group:?}"), fd, b"x", group, 4001);
            told(p, &mut wire, "sent");
        }
    }
}
