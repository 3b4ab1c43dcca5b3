//! Scripts that are wrong in one place: each must fail, with the words that say where. What a runner does
//! not notice it does not test.

use host::testing::{Need, need};
use pkt::{Target, load, run_script};
use std::path::Path;

fn failure(target: Target, text: &str) -> String {
    let path = Path::new("broken.pkt");
    let options = [("tolerance_usecs".to_owned(), Some("14000".to_owned()))];
    let options = if target == Target::Kernel { &options[..] } else { &[] };
    let (script, config) = match load(path, text, options) {
        Ok(loaded) => loaded,
        Err(failure) => return failure.to_string(),
    };
    match run_script(target, (&script, path), &config) {
        Ok(report) => panic!("it passes:\n{text}\n{:#?}", report.lines),
        Err(failure) => failure.to_string(),
    }
}

const OPEN: &str = "0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3\n+0 connect(3, ..., ...) = 0\n";
const BOUND: &str = "0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3\n+0 bind(3, ..., ...) = 0\n";

/// What stands behind a beginning, and what the failure says.
const DATAGRAMS: &[(&str, &str, &str)] = &[
    (
        OPEN,
        "+0 send(3, ..., 10, 0) = 10\n+0 > udp (11)",
        "udp_len: expected: 19 (0x13) vs actual: 18",
    ),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > (tos 0x10) udp (10)", "field tos"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > [ect0] udp (10)", "field ip_ecn"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > [ttl 63] udp (10)", "field ttl"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > udp (10) nosum", "nosum"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > udp 1 > 8080 (10)", "src_port"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > . 1:1(0) ack 1", "TCP header"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+0 > icmp echo_reply", "ICMP header"),
    (
        OPEN,
        "+0 send(3, ..., 10, 0) = 10\n+.1 > udp (10)",
        "timing error: expected outbound packet at 0.1",
    ),
    (OPEN, "+0 send(3, ..., 10, 0) = 10\n+.1~+.2 > udp (10)", "relative time range"),
    (OPEN, "+0 send(3, ..., 10, 0) = 10", "nobody expects"),
    (OPEN, "+0 > udp (10)", "none came"),
    (OPEN, "+0 send(3, ..., 10, 0) = 11\n+0 > udp (10)", "Expected result 11 but got 10"),
    (OPEN, "+0 send(3, ..., 10, 0) = -1 EAGAIN (x)", "Expected -1 with errno 11"),
    (OPEN, "+0 recv(3, ..., 10, MSG_DONTWAIT) = 0", "but got -1 with errno 11"),
    (OPEN, "+0 recv(3, ..., 10, 0) = 0", "sleeps"),
    (
        OPEN,
        "+0...0.1 recv(3, ..., 10, 0) = 4\n+.05 < udp (4)\n+.2 close(3) = 0",
        "system call return",
    ),
    (OPEN, "+0...0.1 recv(3, ..., 10, 0) = 4\n+.3 close(3) = 0", "still sleeps"),
    (OPEN, "+0...0.1 recv(3, ..., 10, 0) = 4", "still sleeps"),
    (OPEN, "+0 close(4) = 0", "errno 9"),
    (OPEN, "+0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3", "a descriptor 3 already"),
    (BOUND, "+0 < udp (4)\n+0 recv(3, ..., 10, 0) = 5", "Expected result 5 but got 4"),
    (BOUND, "+0 < udp (4)\n+0 recv(3, \"abcd\", 10, 0) = 4", "Expected data"),
    (
        BOUND,
        "+0 < udp (4)\n+0 recvmsg(3, {msg_name(...)=..., msg_iov(1)=[{..., 2}], msg_flags=0}, 0) = 2",
        "msg_flags",
    ),
    (
        BOUND,
        "+0 setsockopt(3, SOL_IP, IP_RECVTTL, [1], 4) = 0\n+0 < [ttl 3] udp (4)\n+0 recvmsg(3, \
         {msg_name(...)=..., msg_iov(1)=[{..., 9}], msg_flags=0, msg_control=[{cmsg_level=SOL_IP, \
         cmsg_type=IP_TTL, cmsg_data=4}]}, 0) = 4",
        "cmsg_data: expected: 4 actual: 3",
    ),
    (
        BOUND,
        "+0 setsockopt(3, SOL_IP, IP_RECVTTL, [1], 4) = 0\n+0 < [ttl 3] udp (4)\n+0 recvmsg(3, \
         {msg_name(...)=..., msg_iov(1)=[{..., 9}], msg_flags=0, msg_control=[]}, 0) = 4",
        "expected 0 messages, 1 came",
    ),
    (BOUND, "+0 < udp (4)\n+0 ioctl(3, SIOCINQ, [5]) = 0", "expected: 5 actual: 4"),
    (BOUND, "+0 getsockopt(3, SOL_SOCKET, SO_ERROR, [5], [4]) = 0", "expected: 5 actual: 0"),
    (BOUND, "+0 getsockopt(3, SOL_SOCKET, SO_ERROR, [0], [8]) = 0", "bad length"),
    (BOUND, "+0 poll([{fd=3, events=POLLIN|POLLOUT, revents=POLLIN}], 1, 0) = 1", "bad revents"),
    (
        BOUND,
        "+0 epoll_create(1) = 4\n+0 epoll_ctl(4, EPOLL_CTL_ADD, 3, {events=EPOLLOUT, fd=3}) = 0\n\
         +0 epoll_wait(4, {events=EPOLLIN, fd=3}, 1, 0) = 1",
        "bad events",
    ),
    (
        BOUND,
        "+0 epoll_create(1) = 4\n+0 epoll_ctl(4, EPOLL_CTL_ADD, 3, {events=EPOLLOUT, fd=3}) = 0\n\
         +0 epoll_wait(4, {events=EPOLLOUT, fd=9}, 1, 0) = 1",
        "bad data of the event",
    ),
    (
        BOUND,
        "+0 getsockname(3, {sa_family=AF_INET, sin_port=htons(1), sin_addr=inet_addr(\"0.0.0.0\")}, [16]) = 0",
        "bad address",
    ),
    ("", "0 < udp (4)\n+0 > icmp unreachable host_unreachable [udp (4)]", "icmp_code"),
    ("", "0 < udp (4)\n+0 > icmp unreachable port_unreachable [udp (5)]", "icmp_echoed_udp_len"),
    ("", "0 < udp (4)\n+0 > icmp unreachable port_unreachable [1:2(1)]", "icmp_echoed_protocol"),
    ("", "0 < icmp echo_request id 7 seq 1 (8)\n+0 > icmp echo_reply id 8 seq 1 (8)", "icmp_id"),
    ("", "0 < icmp echo_request id 7 seq 1 (8)\n+0 > icmp echo_reply id 7 seq 2 (8)", "icmp_seq"),
    ("", "0 < icmp echo_request id 7 seq 1 (8)\n+0 > icmp echo_reply id 7 seq 1 (9)", "icmp_len"),
    ("", "1 close(3) = 0", "first event is at time 0"),
    (BOUND, "0.2 close(3) = 0\n0.1 close(3) = 0", "time goes backward"),
    (BOUND, "+0 frobnicate(3) = 0", "'frobnicate'"),
    (BOUND, "+0 setsockopt(3, SOL_SOCKET, SO_FROB, [1], 4) = 0", "'SO_FROB'"),
    (BOUND, "+0 close(3) = -1 EFROB (x)", "'EFROB'"),
    (BOUND, "+0 `sysctl -q net.ipv4.frob=1`", "frob"),
    (BOUND, "+0 `frobnicate`", "frobnicate"),
    (BOUND, "+0 %{ assert 1 == 2, 'so' }%", "assertion does not hold: 1 == 2, 'so': so"),
    (BOUND, "+0 %{ assert tcpi_state == 1 }%", "getsockopt"),
    (BOUND, "+0 < . 1:1(0) ack 1", "no matching socket"),
    ("--frob\n", "0 close(3) = 0", "--frob"),
];

fn all_fail(target: Target, cases: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (begin, end, words) in cases {
        let said = failure(target, &format!("{begin}{end}\n"));
        if !said.contains(words) {
            wrong += &format!("{end}\n    expected: {words}\n    said: {said}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn datagrams_on_the_stack() {
    all_fail(Target::Stack, DATAGRAMS);
}

#[test]
fn datagrams_on_the_kernel() {
    if need(Need::Root) && need(Need::DevNetTun) {
        all_fail(Target::Kernel, DATAGRAMS);
    }
}

const LISTEN: &str = "`sysctl -q net.ipv4.tcp_ecn=0 net.ipv4.tcp_rmem='4096 540000 15728640'`\n0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n\
    +0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n\
    +0 < S 0:0(0) win 32792 <mss 1000,sackOK,TS val 700 ecr 0,nop,wscale 7>\n";
const ANSWER: &str = "+0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 700,nop,wscale 8>\n";
const ACCEPT: &str = "+.01 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 710 ecr 100>\n\
    +0 accept(3, ..., ...) = 4\n+0 write(4, ..., 100) = 100\n";

/// A segment that is not as it goes out, and what the failure says.
const SEGMENTS: &[(&str, &str)] = &[
    ("P. 2:102(100) ack 1 <...>", "tcp_seq: expected: 2 (0x2) vs actual: 1 (0x1)"),
    ("P. 1:102(101) ack 1 <...>", "none came|expected 101 bytes vs actual 100"),
    ("P. 1:100(99) ack 1 <...>", "expected 99 bytes vs actual 100"),
    ("P. 1:101(100) ack 2 <...>", "tcp_ack_seq"),
    (". 1:101(100) ack 1 <...>", "tcp_psh"),
    ("FP. 1:101(100) ack 1 <...>", "tcp_fin"),
    ("PE. 1:101(100) ack 1 <...>", "tcp_ece"),
    ("PW. 1:101(100) ack 1 <...>", "tcp_cwr"),
    ("PU. 1:101(100) ack 1 <...>", "tcp_urg"),
    ("P 1:101(100) <...>", "tcp_ack"),
    ("PR. 1:101(100) ack 1 <...>", "tcp_rst"),
    ("P. 1:101(100) ack 1 win 9 <...>", "tcp_window: expected: 9"),
    ("P. 1:101(100) ack 1", "tcp_data_offset"),
    ("P. 1:101(100) ack 1 <TS val 1 ecr 710,nop,nop>", "bad outbound TCP options"),
    ("P. 1:101(100) ack 1 <nop,nop,TS val 1 ecr 700>", "bad outbound TCP options"),
    (
        "P. 1:101(100) ack 1 <nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop>",
        "bad outbound TCP options",
    ),
    ("[ect0] P. 1:101(100) ack 1 <...>", "ip_ecn"),
    ("8080 > 9 P. 1:101(100) ack 1 <...>", "not for expected socket"),
    ("udp (100)", "UDP header"),
];

/// A SYN-ACK that is not as it goes out.
const ANSWERS: &[(&str, &str)] = &[
    ("S. 0:0(0) ack 1 <mss 1461,sackOK,TS val 100 ecr 700,nop,wscale 8>", "Mss(1461)"),
    (
        "S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 701,nop,wscale 8>",
        "bad outbound TCP options",
    ),
    ("S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 700,nop,wscale 9>", "Wscale(9)"),
    ("S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 8>", "tcp_data_offset"),
    ("S. 0:0(0) ack 2 <...>", "tcp_ack_seq"),
    ("S 0:0(0) <...>", "tcp_ack"),
    (". 0:0(0) ack 1 <...>", "tcp_syn"),
];

#[test]
fn segments_on_the_kernel() {
    if !need(Need::Root) || !need(Need::DevNetTun) {
        return;
    }
    let mut wrong = String::new();
    let mut check = |text: String, line: &str, words: &str| {
        let said = failure(Target::Kernel, &text);
        if !words.split('|').any(|words| said.contains(words)) {
            wrong += &format!("{line}\n    expected: {words}\n    said: {said}\n");
        }
    };
    for (line, words) in SEGMENTS {
        check(format!("{LISTEN}{ANSWER}{ACCEPT}+0 > {line}\n"), line, words);
    }
    for (line, words) in ANSWERS {
        check(format!("{LISTEN}+0 > {line}\n"), line, words);
    }
    // A timestamp is held to its clock where the script says how fast it ticks.
    let ticking = format!("--tcp_ts_tick_usecs=1000\n{LISTEN}{ANSWER}{ACCEPT}");
    let line = "+0 > P. 1:101(100) ack 1 <nop,nop,TS val 500 ecr 710>\n";
    check(format!("{ticking}{line}"), line, "timestamp value");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_failure_is_told_as_the_original_tells_it() {
    let said = failure(
        Target::Stack,
        &format!("{OPEN}+0 send(3, ..., 10, 0) = 10\n+0 > [ttl 63] udp (10)\n"),
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        "broken.pkt:4: error handling packet: live packet field ttl: expected: 63 (0x3f) vs actual: 64 (0x40)"
    );
    assert!(
        lines[1].starts_with("script packet:  0.0000") && lines[1].ends_with("> [ttl 63] udp (10)")
    );
    assert!(
        lines[2].starts_with("actual packet:  0.0000")
            && lines[2].contains("> 192.0.2.1:8080: udp (10)")
    );
}
