use super::script::{Body, Expr, Quoted, TcpOption, TosSpec, flag};
use super::*;

fn one(text: &str) -> Event {
    let mut script = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(script.events.len(), 1, "{text}");
    script.events.remove(0)
}

fn packet(text: &str) -> script::PacketSpec {
    match one(&format!("0 {text}")).action {
        Action::Packet(packet) => packet,
        other => panic!("{text}: {other:?}"),
    }
}

fn tcp(text: &str) -> script::TcpSpec {
    match packet(text).body {
        Body::Tcp(tcp) => tcp,
        other => panic!("{text}: {other:?}"),
    }
}

fn call(text: &str) -> script::CallSpec {
    match one(&format!("0 {text}")).action {
        Action::Call(call) => call,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> String {
    parse(text).map(|script| panic!("{text}: {script:?}")).unwrap_err().what
}

#[test]
fn times() {
    let time = |text: &str| one(&format!("{text} > . 1:1(0) ack 1")).time;
    assert_eq!(time("0.1"), Time::Absolute(100_000));
    assert_eq!(time("+.1"), Time::Relative(100_000));
    assert_eq!(time("*"), Time::Any);
    assert_eq!(time("+.3~+.310"), Time::RelativeRange(300_000, 310_000));
    assert_eq!(time("1~2"), Time::AbsoluteRange(1_000_000, 2_000_000));
    let script = parse("+.5...+.7 read(4, ..., 100) = 100").unwrap();
    assert_eq!(script.events[0].time, Time::Relative(500_000));
    assert!(matches!(&script.events[0].action, Action::Call(call) if call.end == Some(700_000)));
    assert!(error("* close(3) = 0").contains("go out"));
    assert!(error("2~1 > . 1:1(0) ack 1").contains("before it begins"));
    assert!(error("1e9 > . 1:1(0) ack 1").contains("time in seconds"));
    assert!(error("99999999 > . 1:1(0) ack 1").contains("86400"));
}

#[test]
fn segments() {
    let syn = tcp("< SEW 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>");
    assert_eq!(syn.flags, flag::SYN | flag::ECE | flag::CWR);
    assert_eq!((syn.seq, syn.len, syn.ack, syn.win), (0, 0, 0, Some(32792)));
    assert_eq!(syn.options.unwrap().len(), 6);
    let data = tcp("> P. 1:1001(1000) ack 1 urg 3 <...>");
    assert_eq!(data.flags, flag::PSH | flag::ACK | flag::URG);
    assert_eq!((data.win, data.urg, data.options), (None, 3, None));
    let options = tcp("> . 1:1(0) ack 1 <nop,nop,sack 1:2 5:6,TS val 1 ecr 2,FO abcd,FO,md5 0001>");
    assert_eq!(
        options.options.unwrap()[2..],
        [
            TcpOption::Sack(vec![(1, 2), (5, 6)]),
            TcpOption::Ts(1, 2),
            TcpOption::FastOpen(vec![0xab, 0xcd]),
            TcpOption::FastOpen(vec![]),
            TcpOption::Md5(vec![0, 1])
        ]
    );
    assert_eq!(tcp("> - 0:0(0)").flags, 0);
    assert_eq!(packet("> [ect0] . 1:1(0) ack 1").ip.tos, TosSpec::Ecn(2));
    assert_eq!(packet("> (tos 0x10, ttl 9) . 1:1(0) ack 1").ip.ttl, Some(9));
    assert_eq!(packet("< 5000 > 8080 S 0:0(0)").ports, Some((5000, 8080)));
}

#[test]
fn datagrams_and_icmp() {
    assert!(matches!(packet("> udp (1000)").body, Body::Udp(udp) if udp.len == 1000));
    let icmp = |text: &str| match packet(text).body {
        Body::Icmp(icmp) => icmp,
        other => panic!("{other:?}"),
    };
    for text in [
        "< [1:1461(1460)] icmp unreachable frag_needed mtu 1200",
        "< icmp unreachable frag_needed mtu 1200 [1:1461(1460)]",
    ] {
        let spec = icmp(text);
        assert_eq!((spec.kind, spec.code, spec.mtu), (3, 4, Some(1200)));
        assert_eq!(spec.quoted, Quoted::Tcp(1, 1460));
    }
    assert_eq!(icmp("> icmp unreachable port_unreachable [udp (4)]").quoted, Quoted::Udp(4));
    let echo = icmp("< icmp echo_request id 7 seq 2 (56)");
    assert_eq!((echo.kind, echo.id, echo.seq, echo.len), (8, 7, 2, 56));
    assert_eq!(icmp("< icmp type_99 code_3").kind, 99);
}

#[test]
fn calls() {
    let socket = call("socket(..., SOCK_STREAM, IPPROTO_TCP) = 3");
    assert_eq!((socket.name.as_str(), socket.args.len()), ("socket", 3));
    let failed = call("read(4, ..., 1) = -1 EAGAIN (Resource temporarily unavailable)");
    assert_eq!(failed.errno.as_deref(), Some("EAGAIN"));
    let noted = call("fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)");
    assert_eq!((noted.ret, noted.errno), (Expr::Int(2), None));
    let message = call(
        "recvmsg(3, {msg_name(...)=..., msg_iov(1)=[{..., 1000}], msg_flags=0, \
         msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=9000}]}, 0) = 1000",
    );
    assert!(message.args[1].field("msg_control").is_some());
    let addr = call(
        "connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\"1.2.3.4\")}, 16) = 0",
    );
    assert!(matches!(addr.args[1].field("sin_port"), Some(Expr::Apply(..))));
}

#[test]
fn what_is_not_of_the_language_is_named() {
    for (text, names) in [
        ("", "at least one event"),
        ("0 > . 1:2(0) ack 1", "another length"),
        ("0 > X 1:1(0)", "no TCP flag"),
        ("0 > . 1:1(0) ack 1 <mss 99999>", "65535"),
        ("0 > . 1:1(0) ack 1 <foo>", "`foo` is no TCP option"),
        ("0 < . 1:1(0) ack 1 <...>", "go out"),
        ("0 < icmp foo", "`foo` is no type"),
        ("0 < icmp unreachable foo", "`foo` is no code"),
        ("0 < [foo] . 1:1(0)", "`foo` is nothing of an IPv4 header"),
        ("0 > ipv6 foo", "tunnels"),
        ("0 read(1", "`,` or `)`"),
        ("0 close(3) = 0 --mtu=3", "options come first"),
        ("0 > badsum", "no TCP flag"),
        ("0 > udp (1) badsum", "come in"),
        ("0 %{ asert 1 }%", "asert"),
        ("0 close(3)", "`=`"),
    ] {
        let what = error(text);
        assert!(what.contains(names), "{text}: {what}");
    }
    let deep = format!("0 f({}", "[".repeat(100_000));
    assert!(error(&deep).contains("64"));
}

#[test]
fn definitions_stand_for_words_strings_and_commands() {
    let text = "--define=P=IPPROTO_TCP\n--define=CC=\"reno\"\n--define=SET=`true`\nSET\n\
                0 f(P, CC) = 0\n+0 SET";
    let script = parse(text).unwrap();
    assert_eq!(script.init[0].0, "true");
    let Action::Call(call) = &script.events[0].action else { panic!("a call") };
    assert_eq!(call.args, [Expr::Word("IPPROTO_TCP".into()), Expr::Str(b"reno".to_vec())]);
    assert!(matches!(&script.events[1].action, Action::Command(command) if command == "true"));
    assert!(error("--define=P\n0 close(3) = 0").contains("NAME=VALUE"));
    assert!(error("--define=P=a,b\n0 close(3) = 0").contains("one word"));
}

#[test]
fn init_events_and_cleanup() {
    let script = parse("--mtu=1400\n`a`\n0 close(3) = 0\n+0 `b`\n`c`").unwrap();
    assert_eq!((script.init.len(), script.events.len(), script.cleanup.len()), (1, 2, 1));
    assert_eq!(script.options[0].1.as_deref(), Some("1400"));
    assert!(error("0 close(3) = 0 `c` +0 close(3) = 0").contains("ends the script"));
}
