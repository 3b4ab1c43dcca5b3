//! Sources that sockets want of groups, or refuse, by each of the ways to say so.

use super::checks;
use super::multicast::{OTHER, SITE, heard, join, leave, mreqn, sharing};
use crate::Probe;
use crate::probe::{ANY, ETH, FOREIGN, Ip, LO, NET, sa};
use uapi::in_::*;
use uapi::socket::SOL_IP;

checks! {
    group_sources_included
    group_sources_excluded
    group_sources_wrongly
    group_sources_and_modes
    group_sources_too_many
    group_filters_set_and_read
    group_filters_wrongly
    group_requests
    group_requests_wrongly
    group_requests_of_sources
    group_request_filters
    group_request_filters_wrongly
}

fn one(group: Ip, device: Ip, source: Ip) -> Vec<u8> {
    [group, device, source].concat()
}

fn set_source(p: &mut Probe<'_>, fd: i32, name: i32, source: Ip) {
    let label = format!("{name} of {source:?}");
    let _ = p.set_bytes(&label, fd, (SOL_IP, name), &one(SITE, LO, source));
}

/// From each of the addresses of loopback.
fn send_from_each(p: &mut Probe<'_>, to: &[i32]) {
    for ip in [LO, NET] {
        let fd = p.bound(ip, 4000);
        let _ = p.calls.setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &LO);
        let _ = p.sendto(&format!("from {ip:?}"), fd, &ip, SITE, 4001);
        heard(p, &format!("from {ip:?}"), to);
        p.drop_all(&[fd]);
    }
}

fn group_sources_included(p: &mut Probe<'_>) {
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    set_source(p, both[0], IP_ADD_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &both);
    set_source(p, both[0], IP_ADD_SOURCE_MEMBERSHIP, NET);
    set_source(p, both[0], IP_ADD_SOURCE_MEMBERSHIP, NET);
    send_from_each(p, &both);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, LO);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, FOREIGN);
    send_from_each(p, &both);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, NET);
    set_source(p, both[0], IP_DROP_SOURCE_MEMBERSHIP, NET);
    send_from_each(p, &both);
}

fn group_sources_excluded(p: &mut Probe<'_>) {
    let both = [sharing(p, ANY, 4001), sharing(p, ANY, 4001)];
    join(p, both[0], SITE, 1);
    set_source(p, both[0], IP_BLOCK_SOURCE, LO);
    set_source(p, both[0], IP_BLOCK_SOURCE, LO);
    send_from_each(p, &both);
    join(p, both[1], SITE, 1);
    send_from_each(p, &both);
    set_source(p, both[1], IP_BLOCK_SOURCE, LO);
    send_from_each(p, &both);
    set_source(p, both[0], IP_UNBLOCK_SOURCE, NET);
    set_source(p, both[0], IP_UNBLOCK_SOURCE, LO);
    send_from_each(p, &both);
    leave(p, both[0], SITE, 1);
    leave(p, both[1], SITE, 1);
    send_from_each(p, &both);
}

fn group_sources_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    for name in
        [IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE, IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP]
    {
        for (label, value) in [
            ("short", vec![239; 11]),
            ("long", vec![239; 13]),
            ("no group", one(ETH, LO, NET)),
            ("no device", one(OTHER, FOREIGN, NET)),
            ("by the route", one(OTHER, ANY, NET)),
            ("not joined", one(OTHER, LO, NET)),
            ("from nobody", one(OTHER, LO, ANY)),
        ] {
            let _ = p.set_bytes(&format!("{name} {label}"), fd, (SOL_IP, name), &value);
        }
    }
}

fn group_sources_and_modes(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    join(p, fd, SITE, 1);
    set_source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
    set_source(p, fd, IP_BLOCK_SOURCE, NET);
    set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
    set_source(p, fd, IP_UNBLOCK_SOURCE, NET);
    set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
    set_source(p, fd, IP_UNBLOCK_SOURCE, LO);
    set_source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, LO);
    send_from_each(p, &[fd]);
}

fn group_sources_too_many(p: &mut Probe<'_>) {
    let fd = p.udp();
    for n in 1..13 {
        set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, [192, 0, 2, n]);
    }
    set_source(p, fd, IP_DROP_SOURCE_MEMBERSHIP, [192, 0, 2, 3]);
    set_source(p, fd, IP_ADD_SOURCE_MEMBERSHIP, [192, 0, 2, 99]);
    let many: Vec<Ip> = (0..11).map(|n| [192, 0, 2, n]).collect();
    for count in [10, 11] {
        let filter = filter(SITE, MCAST_INCLUDE, &many[..count]);
        let _ = p.set_bytes(&format!("{count} at once"), fd, (SOL_IP, IP_MSFILTER), &filter);
    }
}

fn filter(group: Ip, mode: i32, sources: &[Ip]) -> Vec<u8> {
    let head = [&group[..], &LO, &mode.to_ne_bytes(), &(sources.len() as u32).to_ne_bytes()];
    [head.concat(), sources.concat()].concat()
}

fn read_filter(p: &mut Probe<'_>, fd: i32, label: &str, name: i32, asked: &[u8]) {
    let got = p.calls.getsockopt_by(fd, (SOL_IP, name), asked);
    p.note(label, format!("{got:?}"));
}

fn group_filters_set_and_read(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    join(p, fd, SITE, 1);
    let room = filter(SITE, 0, &[ANY; 4]);
    read_filter(p, fd, "at first", IP_MSFILTER, &room);
    for (mode, sources) in [
        (MCAST_INCLUDE, &[LO, FOREIGN][..]),
        (MCAST_INCLUDE, &[NET][..]),
        (MCAST_EXCLUDE, &[NET, ETH, FOREIGN][..]),
        (MCAST_EXCLUDE, &[][..]),
        (MCAST_INCLUDE, &[LO, LO][..]),
        (MCAST_INCLUDE, &[][..]),
        (MCAST_EXCLUDE, &[][..]),
    ] {
        let label = format!("{mode} {sources:?}");
        let _ = p.set_bytes(&label, fd, (SOL_IP, IP_MSFILTER), &filter(SITE, mode, sources));
        read_filter(p, fd, &label, IP_MSFILTER, &room);
        read_filter(p, fd, "one", IP_MSFILTER, &filter(SITE, 0, &[ANY]));
        read_filter(p, fd, "none", IP_MSFILTER, &filter(SITE, 0, &[]));
        send_from_each(p, &[fd]);
    }
}

fn group_filters_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    join(p, fd, SITE, 1);
    for (label, value) in [
        ("short", vec![239; 15]),
        ("not all there", filter(SITE, MCAST_INCLUDE, &[LO, NET])[..20].to_vec()),
        ("no group", filter(LO, MCAST_INCLUDE, &[LO])),
        ("no mode", filter(SITE, 2, &[LO])),
        ("not joined", filter(OTHER, MCAST_INCLUDE, &[LO])),
        ("not joined, nobody", filter(OTHER, MCAST_INCLUDE, &[])),
        ("too many", [&filter(SITE, 1, &[])[..12], &[0xff; 4]].concat()),
        ("longer", [filter(SITE, MCAST_EXCLUDE, &[LO]), vec![0; 9]].concat()),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, IP_MSFILTER), &value);
        read_filter(p, fd, label, IP_MSFILTER, &value);
    }
}

fn storage(ip: Ip) -> Vec<u8> {
    let mut storage = sa(ip, 0);
    storage.resize(128, 0);
    storage
}

pub(super) fn request(index: u32, group: Ip) -> Vec<u8> {
    [&index.to_ne_bytes()[..], &[0; 4], &storage(group)].concat()
}

fn source_request(index: u32, group: Ip, source: Ip) -> Vec<u8> {
    [request(index, group), storage(source)].concat()
}

fn group_filter(index: u32, group: Ip, mode: i32, sources: &[Ip]) -> Vec<u8> {
    let count = (sources.len() as u32).to_ne_bytes();
    let head = [&request(index, group)[..], &mode.to_ne_bytes(), &count].concat();
    let sources: Vec<u8> = sources.iter().flat_map(|ip| storage(*ip)).collect();
    [head, sources].concat()
}

fn group_requests(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    let _ = p.set_bytes("join", fd, (SOL_IP, MCAST_JOIN_GROUP), &request(1, SITE));
    let _ = p.set_bytes("again", fd, (SOL_IP, MCAST_JOIN_GROUP), &request(1, SITE));
    send_from_each(p, &[fd]);
    let _ = p.set_bytes("other way", fd, (SOL_IP, IP_ADD_MEMBERSHIP), &mreqn(SITE, LO, 0));
    let _ = p.set_bytes("leave", fd, (SOL_IP, MCAST_LEAVE_GROUP), &request(1, SITE));
    let _ = p.set_bytes("again", fd, (SOL_IP, MCAST_LEAVE_GROUP), &request(1, SITE));
    send_from_each(p, &[fd]);
}

fn group_requests_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    let mut v6 = request(1, SITE);
    v6[8] = 10;
    for name in [MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP] {
        for (label, value) in [
            ("short", request(1, SITE)[..135].to_vec()),
            ("another family", v6.clone()),
            ("no group", request(1, LO)),
            ("no device", request(77, SITE)),
            ("by the route", request(0, SITE)),
        ] {
            let _ = p.set_bytes(&format!("{name} {label}"), fd, (SOL_IP, name), &value);
        }
    }
}

fn group_requests_of_sources(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    for (name, source) in [
        (MCAST_BLOCK_SOURCE, LO),
        (MCAST_LEAVE_SOURCE_GROUP, LO),
        (MCAST_JOIN_SOURCE_GROUP, LO),
        (MCAST_JOIN_SOURCE_GROUP, LO),
        (MCAST_JOIN_SOURCE_GROUP, NET),
        (MCAST_UNBLOCK_SOURCE, LO),
        (MCAST_LEAVE_SOURCE_GROUP, LO),
        (MCAST_LEAVE_SOURCE_GROUP, NET),
        (MCAST_LEAVE_SOURCE_GROUP, NET),
    ] {
        let label = format!("{name} {source:?}");
        let value = source_request(1, SITE, source);
        let _ = p.set_bytes(&label, fd, (SOL_IP, name), &value);
        send_from_each(p, &[fd]);
    }
    let mut v6 = source_request(1, SITE, LO);
    v6[136] = 10;
    let _ = p.set_bytes("another family", fd, (SOL_IP, MCAST_JOIN_SOURCE_GROUP), &v6);
    let _ = p.set_bytes("short", fd, (SOL_IP, MCAST_JOIN_SOURCE_GROUP), &v6[..263]);
}

fn group_request_filters(p: &mut Probe<'_>) {
    let fd = p.bound(ANY, 4001);
    join(p, fd, SITE, 1);
    let room = group_filter(1, SITE, 0, &[ANY; 3]);
    for (mode, sources) in [
        (MCAST_INCLUDE, &[LO, FOREIGN][..]),
        (MCAST_EXCLUDE, &[NET][..]),
        (MCAST_EXCLUDE, &[][..]),
        (MCAST_INCLUDE, &[][..]),
    ] {
        let (label, value) = (format!("{mode} {sources:?}"), group_filter(1, SITE, mode, sources));
        let _ = p.set_bytes(&label, fd, (SOL_IP, MCAST_MSFILTER), &value);
        read_filter(p, fd, &label, MCAST_MSFILTER, &room);
        read_filter(p, fd, "one", MCAST_MSFILTER, &group_filter(1, SITE, 0, &[ANY]));
        read_filter(p, fd, "the other way", IP_MSFILTER, &filter(SITE, 0, &[ANY; 3]));
        send_from_each(p, &[fd]);
    }
}

fn group_request_filters_wrongly(p: &mut Probe<'_>) {
    let fd = p.udp();
    join(p, fd, SITE, 1);
    let right = group_filter(1, SITE, MCAST_INCLUDE, &[LO, NET]);
    let changed = |at: usize, octet: u8| {
        let mut value = right.clone();
        value[at] = octet;
        value
    };
    for (label, value) in [
        ("short", right[..143].to_vec()),
        ("not all there", right[..300].to_vec()),
        ("another family", changed(8, 10)),
        ("a source of another family", changed(144, 10)),
        ("no group", changed(12, 10)),
        ("no mode", changed(136, 7)),
        ("too many", changed(140, 11)),
        ("far too many", changed(143, 1)),
        ("no device", changed(0, 77)),
        ("another device", changed(0, 2)),
    ] {
        let _ = p.set_bytes(label, fd, (SOL_IP, MCAST_MSFILTER), &value);
        read_filter(p, fd, label, MCAST_MSFILTER, &value);
    }
}
