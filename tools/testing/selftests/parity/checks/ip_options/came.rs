//! Options of packets that came: what they are answered, where they go on, what readers are told.

use super::*;
use crate::checks::checks;
use crate::probe::{LO, NET};
use crate::wire::{octets, tcp, udp};
use uapi::ip::{IP_MF, IPPROTO_UDP};
use uapi::socket::{MSG_ERRQUEUE, SO_TIMESTAMP, SO_TIMESTAMPNS, SOCK_NONBLOCK, SOL_TCP};
use uapi::tcp::{TCP_MAXSEG, TCPHDR_ACK, TCPHDR_PSH, TCPHDR_SYN};

checks! {
    wire_options_of_a_syn_are_echoed
    wire_options_of_resets
    wire_routes_recorded
    wire_times_stamped
    wire_times_that_do_not_fit
    wire_options_malformed
    wire_options_that_say_nothing
    wire_source_routes_refused
    wire_source_routes_that_end_here
    wire_source_routes_that_lead_on
    wire_options_sent_on
    wire_options_told
    wire_options_told_into_little_room
    wire_options_and_raw_readers
    wire_options_of_errors
    wire_options_of_errors_that_came
    wire_options_put_together
    wire_options_with_times_and_tos
}

/// A segment from the peer with IP options.
fn segment(options: &[u8], numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
    frame([PEER, ETH], options, (IPPROTO_TCP, &tcp(numbers, flags, data)))
}

fn wire_options_of_a_syn_are_echoed(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
    for (label, options) in [
        ("none", vec![]),
        ("route", empty(IPOPT_RR, 15, 4)),
        ("times", times(20, 5, 1, &[])),
        ("alert", vec![IPOPT_RA, 4, 0, 0]),
        ("came by the peer", route(IPOPT_LSRR, 2, &[HOP, PEER])),
    ] {
        p.within(label);
        let listener = p.calls.socket(AF_INET, SOCK_STREAM, 0).unwrap_or(-1) as i32;
        let _ = p.set_bytes("the listener's", listener, OPTIONS, &[IPOPT_NOOP; 4]);
        let _ = p.bind("bound", listener, ETH, 4000);
        let ret = p.calls.listen(listener, 5);
        let _ = p.ret("listens", ret);
        let options = padded(options);
        p.calls.wire_send(&segment(&options, (1000, 0), TCPHDR_SYN, b""));
        let synack = note(p, "answer");
        let Some(frame) = synack.first() else { continue };
        let ihl = usize::from(frame[14] & 15) * 4;
        let seq = frame[14 + ihl + 4..].first_chunk().map_or(0, |seq| u32::from_be_bytes(*seq));
        let ack = seq.wrapping_add(1);
        p.calls.wire_send(&segment(&[], (1001, ack), TCPHDR_ACK, b""));
        let child = p.calls.accept4(listener, SOCK_NONBLOCK);
        let child = child.unwrap_or(-1) as i32;
        let got = p.calls.getsockopt(child, SOL_IP, IP_OPTIONS, 40);
        p.note("its options", got.map_or_else(|error| error.to_string(), |got| shown(&got)));
        p.get("segments", child, (SOL_TCP, TCP_MAXSEG));
        let _ = p.send("data", child, b"hello", 0);
        note(p, "data");
        p.calls.wire_send(&segment(&[], (1001, ack + 5), TCPHDR_ACK | TCPHDR_PSH, b"hello"));
        let _ = p.send("much data", child, &octets(5000), 0);
        let frames = p.calls.wire_take();
        // Into how many packets it is cut here is the device's affair.
        let (mut data, mut all) = (0, Vec::new());
        for frame in &frames {
            let ihl = usize::from(frame[14] & 15) * 4;
            data += frame.len() - 14 - ihl - 20;
            all.push(shown(&frame[34..14 + ihl]));
        }
        all.dedup();
        p.note("much data", format!("{data} {all:?}"));
        p.drop_all(&[child, listener]);
        p.calls.wire_take();
    }
}

fn wire_options_of_resets(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
    let listener = p.calls.socket(AF_INET, SOCK_STREAM, 0).unwrap_or(-1) as i32;
    p.with(listener, (SOL_IP, IP_TOS), 0x20);
    let _ = p.bind("bound", listener, NET, 4000);
    let ret = p.calls.listen(listener, 5);
    let _ = p.ret("listens", ret);
    for (label, options) in [
        ("route", empty(IPOPT_RR, 15, 4)),
        ("full", empty(IPOPT_RR, 7, 4)),
        ("times", times(20, 5, 0, &[])),
        ("alert", vec![IPOPT_RA, 4, 0, 0]),
        ("came by the peer", route(IPOPT_LSRR, 2, &[HOP, PEER])),
    ] {
        let mut reset = segment(&padded(options), (1000, 7), TCPHDR_ACK, b"");
        p.calls.wire_send(&reset);
        note(p, label);
        reset[15] = 0x13;
        let ihl = usize::from(reset[14] & 15) * 4;
        reset[24..26].fill(0);
        let check = ip_fast_csum(&reset[14..14 + ihl]);
        reset[24..26].copy_from_slice(&check.to_be_bytes());
        p.calls.wire_send(&reset);
        note(p, label);
    }
}

fn wire_routes_recorded(p: &mut Probe<'_>) {
    open(p);
    for len in [3, 7, 11, 15, 39] {
        for pointer in [4, 8, 12, 36, 40, 44, 255] {
            echo(p, &format!("{len} at {pointer}"), empty(IPOPT_RR, len, pointer));
        }
    }
    echo(p, "behind nothing", [vec![IPOPT_NOOP], empty(IPOPT_RR, 11, 4)].concat());
    echo(p, "before the end", [empty(IPOPT_RR, 11, 4), vec![IPOPT_END, 9, 9, 9, 9]].concat());
}

fn wire_times_stamped(p: &mut Probe<'_>) {
    open(p);
    for len in [4, 8, 12, 20, 36] {
        for pointer in [5, 9, 13, 17, 21, 37] {
            echo(p, &format!("times, {len} at {pointer}"), times(len, pointer, 0, &[]));
            if usize::from(pointer) + 7 <= len && pointer % 8 == 5 {
                let label = format!("times and addresses, {len} at {pointer}");
                echo(p, &label, times(len, pointer, 1, &[]));
            }
        }
    }
    for (label, list) in [
        ("ours", &[ETH][..]),
        ("another of ours", &[NET]),
        ("not ours", &[PEER]),
        ("ours, then not", &[ETH, PEER]),
        ("ours twice", &[ETH, ETH]),
        ("ours and another of ours", &[ETH, NET]),
        ("ours thrice", &[ETH, NET, LO]),
        ("not ours, then ours", &[PEER, ETH]),
        ("all", &[[255; 4], ETH]),
        ("a group", &[[224, 0, 0, 1], ETH]),
        ("none", &[[0; 4]]),
    ] {
        echo(p, label, times(4 + 8 * list.len(), 5, 3, list));
    }
}

fn wire_times_that_do_not_fit(p: &mut Probe<'_>) {
    open(p);
    for kind in [0, 1, 2, 3, 9] {
        for overflow in [0, 1, 14, 15] {
            let label = format!("kind {kind}, overflow {overflow}");
            echo(p, &label, times(4, 5, overflow << 4 | kind, &[]));
            echo(p, &label, times(12, 13, overflow << 4 | kind, &[]));
        }
    }
}

fn wire_options_malformed(p: &mut Probe<'_>) {
    open(p);
    for (label, options) in bad() {
        echo(p, label, options);
    }
    let closed = udp(4000, 10);
    for (label, options) in bad().into_iter().take(4) {
        let frame = frame([PEER, ETH], &padded(options), (IPPROTO_UDP, &closed));
        p.calls.wire_send(&frame);
        note(p, label);
    }
    // Errors, groups and later fragments are not answered.
    let bad = padded(vec![IPOPT_RR, 2]);
    let error = icmp(3, 3, [0; 4], &frame([ETH, PEER], &[], (17, &closed))[14..]);
    p.calls.wire_send(&frame([PEER, ETH], &bad, (IPPROTO_ICMP, &error)));
    note(p, "an error");
    p.calls.wire_send(&frame([PEER, [198, 51, 100, 255]], &bad, (IPPROTO_UDP, &closed)));
    note(p, "to all");
    p.calls.wire_send(&frame_at([PEER, ETH], &bad, (IPPROTO_UDP, &octets(16)), 3));
    note(p, "a later fragment");
    p.calls.wire_send(&frame([PEER, FOREIGN], &bad, (IPPROTO_UDP, &closed)));
    note(p, "to another");
}

fn wire_options_that_say_nothing(p: &mut Probe<'_>) {
    open(p);
    for (label, options) in [
        ("alert", vec![IPOPT_RA, 4, 0, 0]),
        ("alert of a kind", vec![IPOPT_RA, 4, 1, 2]),
        ("security", vec![IPOPT_SEC, 4, 1, 2]),
        ("stream", vec![136, 4, 0, 1]),
        ("unknown", vec![222, 6, 1, 2, 3, 4]),
        ("nothing", vec![IPOPT_NOOP; 40]),
        ("the end", vec![IPOPT_END; 4]),
        ("behind the end", vec![IPOPT_END, 7, 255, 9]),
        ("many", mixed()),
    ] {
        echo(p, label, options);
    }
}

fn wire_source_routes_refused(p: &mut Probe<'_>) {
    open(p);
    for kind in [IPOPT_LSRR, IPOPT_SSRR] {
        for at in 0..3 {
            echo(p, &format!("{kind} at {at}"), route(kind, at, &[PEER, ETH]));
        }
    }
    for (label, all, dev) in [("of all", "1", "0"), ("of the device", "0", "1"), ("both", "1", "1")]
    {
        p.calls.sysctl("net.ipv4.conf.all.accept_source_route", all);
        p.calls.sysctl("net.ipv4.conf.eth0.accept_source_route", dev);
        echo(p, label, route(IPOPT_LSRR, 1, &[PEER]));
    }
}

fn wire_source_routes_that_end_here(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
    for kind in [IPOPT_LSRR, IPOPT_SSRR] {
        p.within(&format!("{kind}"));
        for (label, at, hops) in [
            ("no hop", 0, &[][..]),
            ("by the peer", 1, &[PEER]),
            ("by another, then the peer", 2, &[HOP, PEER]),
            ("three", 3, &[FOREIGN, HOP, PEER]),
            ("begins with the sender", 2, &[PEER, HOP]),
            ("only the sender, twice", 2, &[PEER, PEER]),
            ("on to us", 1, &[PEER, ETH]),
            ("on to another of ours", 1, &[PEER, NET]),
            ("on to loopback", 1, &[PEER, LO]),
            ("on to two of ours", 1, &[PEER, NET, ETH]),
            ("from us to us", 0, &[ETH, NET]),
            ("beyond the end", 9, &[PEER, HOP]),
        ] {
            echo(p, label, route(kind, at, hops));
        }
        let mut between = route(kind, 1, &[PEER, HOP]);
        between[2] = 10;
        echo(p, "pointer between", between);
        let mut short = route(kind, 2, &[PEER, HOP]);
        short[1] = 10;
        echo(p, "half a hop", short);
        echo(p, "with a record", [route(kind, 1, &[PEER]), empty(IPOPT_RR, 11, 4)].concat());
    }
}

/// Lets the host send on what it gets.
fn forwards(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.ip_forward", "1");
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
}

fn wire_source_routes_that_lead_on(p: &mut Probe<'_>) {
    forwards(p);
    for kind in [IPOPT_LSRR, IPOPT_SSRR] {
        p.within(&format!("{kind}"));
        for (label, at, hops) in [
            ("to the peer", 0, &[PEER][..]),
            ("to the peer and on", 0, &[PEER, FOREIGN]),
            ("by the first, to the peer", 1, &[HOP, PEER, FOREIGN]),
            ("by us, to the peer", 0, &[NET, PEER, FOREIGN]),
            ("without a way", 0, &[FOREIGN]),
            ("to a group", 0, &[[224, 0, 0, 1]]),
            ("to all", 0, &[[255; 4]]),
        ] {
            echo(p, label, route(kind, at, hops));
        }
        let both = [route(kind, 0, &[PEER]), empty(IPOPT_RR, 11, 4), times(12, 5, 1, &[])].concat();
        echo(p, "recorded and stamped", both);
        // Not at one of its hops yet.
        let ping = icmp(8, 0, [0, 7, 0, 1], b"ping");
        let passing = padded(route(kind, 0, &[HOP]));
        p.calls.wire_send(&frame([FOREIGN, PEER], &passing, (IPPROTO_ICMP, &ping)));
        note(p, "through here");
        p.calls.wire_send(&frame([PEER, PEER], &passing, (IPPROTO_ICMP, &ping)));
        note(p, "through here, back");
    }
}

fn wire_options_sent_on(p: &mut Probe<'_>) {
    forwards(p);
    for (label, options) in [
        ("none", vec![]),
        ("record", empty(IPOPT_RR, 11, 4)),
        ("record that is full", empty(IPOPT_RR, 7, 8)),
        ("times", times(12, 5, 0, &[])),
        ("times and addresses", times(20, 5, 1, &[])),
        ("times of those listed", times(20, 5, 3, &[ETH, NET])),
        ("times that do not fit", times(4, 5, 0x20, &[])),
        ("alert", vec![IPOPT_RA, 4, 0, 0]),
        ("unknown", vec![222, 4, 9, 9]),
        ("behind the end", vec![IPOPT_END, 7, 7, 7]),
        ("many", mixed()),
        ("bad", vec![IPOPT_RR, 2, 4, 0]),
    ] {
        let data = udp(4000, 10);
        let options = padded(options);
        p.calls.wire_send(&frame([FOREIGN, PEER], &options, (IPPROTO_UDP, &data)));
        note(p, label);
        let mut old = frame([PEER, [198, 51, 100, 200]], &options, (IPPROTO_UDP, &data));
        old[14 + 8] = 1;
        let ihl = 20 + options.len();
        old[14 + 10..14 + 12].fill(0);
        let check = ip_fast_csum(&old[14..14 + ihl]);
        old[14 + 10..14 + 12].copy_from_slice(&check.to_be_bytes());
        p.calls.wire_send(&old);
        note(p, &format!("{label}, its time is over"));
    }
}

/// Every kind of options that may come.
fn coming() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("none", vec![]),
        ("record", empty(IPOPT_RR, 11, 4)),
        ("record that is full", empty(IPOPT_RR, 7, 8)),
        ("times", times(16, 5, 0, &[])),
        ("times and addresses", times(28, 5, 1, &[])),
        ("times of those listed", times(20, 5, 3, &[ETH, NET])),
        ("times of others", times(20, 5, 3, &[PEER, ETH])),
        ("times that do not fit", times(4, 5, 0, &[])),
        ("times, room for half an answer", times(16, 5, 1, &[])),
        ("came by others", route(IPOPT_LSRR, 2, &[HOP, PEER])),
        ("came by one", route(IPOPT_SSRR, 1, &[HOP])),
        ("alert", vec![IPOPT_RA, 4, 0, 0]),
        ("nothing", vec![IPOPT_NOOP; 3]),
        ("many", mixed()),
    ]
}

fn wire_options_told(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
    for (kind, asks) in [
        ("both", [IP_RECVOPTS, IP_RETOPTS]),
        ("as they came", [IP_RECVOPTS; 2]),
        ("back", [IP_RETOPTS; 2]),
    ] {
        p.within(kind);
        let fd = p.bound(ETH, 4000);
        for option in asks {
            p.with(fd, (SOL_IP, option), 1);
        }
        p.with(fd, (SOL_IP, IP_RECVTTL), 1);
        for (label, options) in coming() {
            let data = udp(4000, 10);
            p.calls.wire_send(&frame([PEER, ETH], &padded(options), (IPPROTO_UDP, &data)));
            told(p, label, fd, 300);
        }
        p.drop_all(&[fd]);
    }
}

fn wire_options_told_into_little_room(p: &mut Probe<'_>) {
    open(p);
    let fd = p.bound(ETH, 4000);
    tell(p, fd);
    for room in [0, 8, 16, 20, 24, 31, 32, 40, 55, 56, 64] {
        let options = padded(empty(IPOPT_RR, 15, 4));
        p.calls.wire_send(&frame([PEER, ETH], &options, (IPPROTO_UDP, &udp(4000, 10))));
        told(p, &format!("{room}"), fd, room);
    }
}

fn wire_options_and_raw_readers(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
    let fds = [1, 17].map(|of| p.calls.socket(AF_INET, SOCK_RAW, of).unwrap_or(-1) as i32);
    tell(p, fds[1]);
    for (label, options) in coming() {
        if label.contains("times") || label == "many" {
            continue;
        }
        let options = padded(options);
        let ping = icmp(0, 0, [0, 7, 0, 1], b"pong");
        p.calls.wire_send(&frame([PEER, ETH], &options, (IPPROTO_ICMP, &ping)));
        let got = p.calls.recvfrom(fds[0], 200, MSG_DONTWAIT);
        p.note(label, format!("{:?} {:?}", got.ret, got.data));
        p.calls.wire_send(&frame([PEER, ETH], &options, (IPPROTO_UDP, &udp(4000, 4))));
        told(p, label, fds[1], 300);
    }
}

fn wire_options_of_errors(p: &mut Probe<'_>) {
    open(p);
    p.calls.sysctl("net.ipv4.conf.all.accept_source_route", "1");
    for (label, options) in coming() {
        let options = padded(options);
        p.calls.wire_send(&frame([PEER, ETH], &options, (IPPROTO_UDP, &udp(4999, 600))));
        note(p, label);
        p.calls.wire_send(&frame([PEER, ETH], &options, (253, b"hello")));
        note(p, label);
    }
}

fn wire_options_of_errors_that_came(p: &mut Probe<'_>) {
    open(p);
    let fd = p.bound(ETH, 4000);
    p.with(fd, (SOL_IP, IP_RECVERR), 1);
    tell(p, fd);
    let _ = p.set_bytes("options", fd, OPTIONS, &empty(IPOPT_RR, 11, 4));
    for (label, options) in
        [("none", vec![]), ("record", empty(IPOPT_RR, 11, 4)), ("alert", vec![IPOPT_RA, 4, 0, 0])]
    {
        let _ = p.sendto("sent", fd, b"hello", PEER, 4001);
        let sent = p.calls.wire_take();
        let Some(sent) = sent.first() else { continue };
        for error in [icmp(12, 0, [20, 0, 0, 0], &sent[14..]), icmp(3, 5, [0; 4], &sent[14..])] {
            p.calls.wire_send(&frame(
                [PEER, ETH],
                &padded(options.clone()),
                (IPPROTO_ICMP, &error),
            ));
            let room = Room { parts: vec![200], control: 300 };
            let got = p.calls.recvmsg(fd, &room, MSG_ERRQUEUE | MSG_DONTWAIT);
            p.note(label, format!("{:?} {:?} {:?}", got.ret, got.data, got.control));
            p.recvfrom("told", fd, 99, 0);
        }
    }
}

fn wire_options_put_together(p: &mut Probe<'_>) {
    open(p);
    let fd = p.bound(ETH, 4000);
    tell(p, fd);
    let data = udp(4000, 100);
    for (label, first, second) in [
        ("in the first", empty(IPOPT_RR, 11, 4), vec![]),
        ("in the second", vec![], vec![IPOPT_RA, 4, 0, 0]),
        ("in both", mixed(), vec![IPOPT_SEC, 5, 1, 2, 3]),
        ("a bad one in the second", vec![IPOPT_RA, 4, 0, 0], vec![IPOPT_RA, 3, 0]),
    ] {
        let [first, second] = [first, second].map(padded);
        let ends = [PEER, ETH];
        p.calls.wire_send(&frame_at(ends, &second, (IPPROTO_UDP, &data[64..]), 8));
        p.calls.wire_send(&frame_at(ends, &first, (IPPROTO_UDP, &data[..64]), IP_MF));
        told(p, label, fd, 300);
        note(p, label);
    }
}

fn wire_options_with_times_and_tos(p: &mut Probe<'_>) {
    open(p);
    let fd = p.bound(ETH, 4000);
    tell(p, fd);
    for option in [IP_RECVTOS, IP_RECVTTL, IP_PKTINFO, IP_RECVORIGDSTADDR, IP_RECVFRAGSIZE] {
        p.with(fd, (SOL_IP, option), 1);
    }
    for stamp in [SO_TIMESTAMP, SO_TIMESTAMPNS] {
        p.with(fd, (SOL_SOCKET, stamp), 1);
        for options in [vec![], empty(IPOPT_RR, 7, 4)] {
            let options = padded(options);
            p.calls.wire_send(&frame([PEER, ETH], &options, (IPPROTO_UDP, &udp(4000, 10))));
            told(p, &format!("{stamp}, {}", options.len()), fd, 400);
        }
    }
    // Numbers of the newer kind and sizes of fragments have nothing to do with one another.
    for (stamp, size) in [(1, 0), (0, 1), (1, 1), (0, 0)] {
        let fd = p.udp();
        p.with(fd, (SOL_IP, IP_RECVFRAGSIZE), size);
        p.with(fd, (SOL_SOCKET, uapi::socket::SO_TIMESTAMP_NEW), stamp);
        p.get("size", fd, (SOL_IP, IP_RECVFRAGSIZE));
        p.get("newer", fd, (SOL_SOCKET, uapi::socket::SO_TIMESTAMP_NEW));
        p.get("older", fd, (SOL_SOCKET, SO_TIMESTAMP));
    }
}
