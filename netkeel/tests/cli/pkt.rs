//! `netkeel pkt`, run as a user runs it.

use crate::{netkeel, refusal, scratch};
use std::fs;

const GOOD: &str = "\
0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3
+0 connect(3, ..., ...) = 0
+0 send(3, ..., 10, 0) = 10
+0 > udp (10)
";

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = netkeel(args).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_script_that_holds_is_ok_and_verbose_tells_its_events() {
    let path = scratch("good.pkt");
    fs::write(&path, GOOD).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(run(&["pkt", path]), (Some(0), format!("{path}: OK\n"), String::new()));
    let (code, said, _) = run(&["pkt", "--verbose", path]);
    assert_eq!(code, Some(0));
    assert!(said.contains("send()") && said.contains("> 192.0.2.1:8080: udp (10)"), "{said}");
    assert_eq!(said, run(&["pkt", "-v", path]).1, "virtual time is the same each time");
}

#[test]
fn a_script_that_does_not_hold_says_where_and_ends_with_one() {
    let (good, bad) = (scratch("holds.pkt"), scratch("bad.pkt"));
    fs::write(&good, GOOD).unwrap();
    fs::write(&bad, GOOD.replace("udp (10)", "udp (11)")).unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let (code, out, err) = run(&["pkt", bad, good]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with(&format!("{bad}:4: error handling packet: live packet field udp_len")));
    assert!(out.contains("\nscript packet:") && out.contains("\nactual packet:"), "{out}");
    assert!(out.ends_with(&format!("{good}: OK\n")), "the next one is run all the same");
    assert_eq!(err, "netkeel: 1 of 2 scripts failed\n");
}

#[test]
fn what_cannot_be_read_or_is_not_of_the_language_is_told() {
    let (_, out, _) = run(&["pkt", "no-such-script.pkt"]);
    assert!(out.contains("no-such-script.pkt: can't be read"), "{out}");
    let path = scratch("syntax.pkt");
    fs::write(&path, "0 socket(\n").unwrap();
    let (code, out, _) = run(&["pkt", path.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(out.contains("syntax.pkt:2: parse error at column 1: expected an expression"), "{out}");
    let (_, out, _) = run(&["pkt", "--option", "frob=1", path.to_str().unwrap()]);
    assert!(out.contains("parse error") || out.contains("--frob"), "{out}");
}

#[test]
fn wrong_options_are_usage() {
    for args in [&["pkt"][..], &["pkt", "--frob", "a.pkt"], &["pkt", "--backend", "bsd", "a.pkt"]] {
        assert_eq!(refusal(args).0, Some(2), "{args:?}");
    }
}
