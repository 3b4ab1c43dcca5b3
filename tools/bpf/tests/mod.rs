//! tcpdump's language: what we compile, beside what tcpdump does.

use super::*;
use host::testing::{Need, need};
use stack::net::core::filter::BpfSource;
use std::process::Command;
use uapi::filter::SockFilter;

mod frames;

/// Expressions, one a line.
const EXPRESSIONS: &str = include_str!("expressions.txt");
/// Those that are refused, each with the column and a word of what is said of it.
const REFUSED: &str = include_str!("refused.txt");

/// What libpcap makes of it for Ethernet; why not, if it refuses.
fn theirs(text: &str) -> Result<Vec<SockFilter>, String> {
    let out = Command::new("tcpdump").args(["-y", "EN10MB", "-ddd", "--", text]).output().unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let number = |word: &str| word.parse::<u32>().unwrap();
    let insn = |line: &str| {
        let words: Vec<u32> = line.split_whitespace().map(number).collect();
        SockFilter { code: words[0] as u16, jt: words[1] as u8, jf: words[2] as u8, k: words[3] }
    };
    Ok(String::from_utf8(out.stdout).unwrap().lines().skip(1).map(insn).collect())
}

/// Lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn an_empty_expression_is_every_packet() {
    assert_eq!(compile(" ").unwrap().bpf_prog_run(&[0_u8; 4][..]), SNAPLEN);
}

/// tcpdump's program and ours say the same of every frame, and ours is not much longer.
#[test]
fn tcpdump_agrees_about_every_frame() {
    if !need(Need::Tool("tcpdump")) {
        return;
    }
    let frames = frames::all();
    let (mut ours_len, mut theirs_len) = (0, 0);
    let mut wrong = Vec::new();
    for text in lines(EXPRESSIONS) {
        let (theirs, ours) = match (theirs(text), compile(text)) {
            (Ok(theirs), Ok(ours)) => (bpf_check_classic(&theirs).unwrap(), ours),
            (theirs, ours) => {
                wrong.push(format!("{text}: tcpdump {:?}, ours {:?}", theirs.err(), ours.err()));
                continue;
            }
        };
        ours_len += ours.instructions().len();
        theirs_len += theirs.instructions().len();
        let differs =
            |frame: &&Vec<u8>| theirs.bpf_prog_run(&frame[..]) != ours.bpf_prog_run(&frame[..]);
        let differ: Vec<_> = frames.iter().filter(differs).collect();
        if let Some(first) = differ.first() {
            wrong.push(format!("{text}: {} frames, first {first:02x?}", differ.len()));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ours_len * 5 <= theirs_len * 6, "{ours_len} instructions, tcpdump's {theirs_len}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for line in lines(REFUSED) {
        let (text, said) = line.split_once(" => ").unwrap();
        let text = text.trim_start_matches("! ");
        let error = compile(text).expect_err(text).to_string();
        assert!(error.starts_with("column ") && error.contains(said), "{text}: {error}");
    }
}

/// Lines with a `!` in front tcpdump takes: it knows more protocols, and compares with what can't be.
#[test]
fn tcpdump_refuses_the_same() {
    if !need(Need::Tool("tcpdump")) {
        return;
    }
    for line in lines(REFUSED) {
        let text = line.split(" => ").next().unwrap();
        match text.strip_prefix("! ") {
            Some(text) => assert!(theirs(text).is_ok(), "{text}"),
            None => assert!(theirs(text).is_err(), "{text}"),
        }
    }
}

/// An address by itself is a host's: tcpdump wants the word.
#[test]
fn an_address_alone_is_a_host() {
    assert_eq!(compile("10.0.0.1").unwrap(), compile("host 10.0.0.1").unwrap());
    assert_eq!(compile("tcp and 10.0.0.1").unwrap(), compile("tcp and host 10.0.0.1").unwrap());
}

#[test]
fn nothing_that_is_written_takes_long_or_panics() {
    let deep = |open: &str, n: usize| open.repeat(n) + "tcp" + &")".repeat(n);
    let long = |word: &str, n| vec![word; n].join(" or ");
    assert!(compile(&deep("(", 60)).is_ok());
    for text in [
        deep("(", 5000),
        "not ".repeat(5000) + "tcp",
        "len = ".to_owned() + &"-".repeat(5000) + "1",
        "ip[".repeat(5000),
        long("host 10.0.0.1", 3000),
        "len".to_owned() + &"+1".repeat(20_000) + " > 5",
        "1-".repeat(30_000) + "1 = 1",
        "\\".to_owned(),
        "port".to_owned(),
        "é".to_owned(),
        "0x".to_owned(),
        "ip[0:2".to_owned(),
        "len = (".to_owned(),
    ] {
        assert!(compile(&text).is_err(), "{}", &text[..text.len().min(40)]);
    }
    let ports: Vec<String> = (0..1000).map(|n| format!("port {n}")).collect();
    let _ = compile(&ports.join(" or "));
    let hosts: Vec<String> =
        (0..1000).map(|n| format!("host 10.0.{}.{}", n / 250, n % 250)).collect();
    let program = compile(&hosts.join(" or "));
    let said = program.map(|program| program.instructions().len());
    assert!(said.as_ref().is_ok_and(|len| *len <= 4096) || said.is_err(), "{said:?}");
}

/// Jumps of more than 255 instructions go by way of a long one.
#[test]
fn far_jumps_arrive() {
    let ports: Vec<String> = (1..=300).map(|port| format!("tcp dst port {port}")).collect();
    let program = compile(&ports.join(" or ")).unwrap();
    let frame = |port: u16| {
        let mut frame = vec![0; 54];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[23] = 6;
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        frame
    };
    for (port, matches) in [(1, true), (150, true), (300, true), (301, false)] {
        assert_eq!(program.bpf_prog_run(&frame(port)[..]) != 0, matches, "{port}");
    }
}

/// A packet on its way, of which more is known than its octets.
struct OnItsWay(u8);

impl BpfSource for OnItsWay {
    fn len(&self) -> u32 {
        60
    }

    fn octets<const N: usize>(&self, at: i32) -> Option<[u8; N]> {
        (at >= 0).then_some([0; N])
    }

    fn about(&self, what: i32, _: u32, _: u32) -> Option<u32> {
        (what == uapi::filter::SKF_AD_PKTTYPE).then_some(self.0.into())
    }
}

#[test]
fn directions_are_told_apart() {
    for (text, outgoing) in [("outbound", true), ("inbound", false)] {
        let program = compile(text).unwrap();
        assert_eq!(program.bpf_prog_run(&OnItsWay(4)) != 0, outgoing, "{text}");
        assert_eq!(program.bpf_prog_run(&OnItsWay(0)) != 0, !outgoing, "{text}");
    }
}
