//! The binary, run as a user runs it.

mod asking;
mod pkt;
mod replay;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn netkeel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netkeel"));
    command.args(args).env_remove("COLUMNS");
    command
}

fn run(args: &[&str]) -> Output {
    netkeel(args).output().expect("the binary starts")
}

fn stdout(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Exit code and the one line that was said.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty());
    (output.status.code(), said)
}

/// A file of this test's own.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The program is there. If not, the test passes and says so, unless everything must be there.
fn need(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return true;
    }
    let required = std::env::var_os("NETKEEL_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "{program} is missing");
    println!("skipped: needs {program}");
    false
}

#[test]
fn the_same_seed_prints_the_same_walk() {
    let args = ["walk", "udp", "--nic", "wire", "--seed", "7"];
    let text = stdout(&args);
    assert_eq!(text, stdout(&args));
    assert!(text.contains("sys_sendto") && text.contains("wire_start_xmit"));
}

#[test]
fn every_subject_is_shown() {
    for subject in ["udp", "icmp", "arp", "loopback", "tcp"] {
        for format in ["text", "json", "pcapng", "perfetto"] {
            let output = run(&["walk", subject, "--nic", "wire", "--format", format]);
            assert!(output.status.success() && !output.stdout.is_empty(), "{subject} {format}");
        }
    }
}

#[test]
fn every_scenario_of_tcp_is_shown_and_no_other() {
    for scenario in ["loss", "reorder", "tlp", "fastopen", "bbr"] {
        for format in ["text", "json", "pcapng", "perfetto"] {
            let output = run(&["walk", "tcp", "--scenario", scenario, "--format", format]);
            assert!(output.status.success() && !output.stdout.is_empty(), "{scenario} {format}");
        }
    }
    let (code, said) = refusal(&["walk", "tcp", "--scenario", "none"]);
    assert_eq!(code, Some(2));
    let known = "[possible values: loss, reorder, tlp, fastopen, bbr]";
    assert!(said.contains("'none'") && said.contains(known), "{said}");
    let (code, said) = refusal(&["walk", "udp", "--scenario", "loss"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("write walk tcp --scenario, or leave it out"), "{said}");
}

#[test]
fn several_cpus_are_shown() {
    assert!(stdout(&["walk", "--nic", "wire", "--cpus", "3"]).contains("B · CPU 2"));
}

/// Everything the machines have by default: the cards with their driver, several queues.
#[test]
fn the_network_cards_of_the_default_are_shown() {
    for subject in ["udp", "icmp", "arp", "loopback", "tcp"] {
        let text = stdout(&["walk", subject]);
        assert!(subject == "loopback" || text.contains("igb_xmit_frame_ring"), "{text}");
    }
    let text = stdout(&["walk", "--cpus", "2", "--queues", "4"]);
    assert!(text.contains("igb_poll") && text.contains("recvfrom"), "{text}");
    for format in ["json", "pcapng", "perfetto"] {
        assert!(!run(&["walk", "--queues", "8", "--format", format]).stdout.is_empty(), "{format}");
    }
}

#[test]
fn a_missing_argument_is_named_in_one_line() {
    let output = run(&["up"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("not provided: --tap <NAME>; --addr <A/P>"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn alone_it_helps() {
    let help = stdout(&[]);
    assert_eq!(help, stdout(&["-h"]));
    assert!(help.contains("Examples:\n  netkeel walk"));
}

#[test]
fn each_command_helps_with_an_example() {
    for command in ["walk", "completions"] {
        let help = stdout(&[command, "--help"]);
        let (_, examples) = help.split_once("Examples:").expect("examples");
        assert!(examples.contains(&format!("netkeel {command}")), "{help}");
    }
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completions", shell]).contains("netkeel"));
    }
}

#[test]
fn stations_can_be_saved() {
    let file = scratch("stations.txt");
    let path = file.to_str().expect("a plain path");
    assert!(stdout(&["walk", "--stations", "--out", path]).is_empty());
    let saved = fs::read_to_string(&file).expect("the file is there");
    assert_eq!(saved, stdout(&["walk", "--stations", "--out", "-"]));
    assert!(saved.contains("ip_rcv") && saved.contains("net/ipv4/ip_input.c"));
}

#[test]
fn bad_usage_is_one_line_and_code_two() {
    let (code, said) = refusal(&["walk", "--format", "xml"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("'xml'") && said.contains("pcapng"), "{said}");
    let (code, said) = refusal(&["walk", "--nic", "wire", "--queues", "2"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--queues"), "{said}");
    let (code, said) = refusal(&["run"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("'run'"), "{said}");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let (code, said) = refusal(&["walk", "--nic", "wire", "--out", "/no/such/folder/walk"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/no/such/folder/walk") && said.contains("No such file"), "{said}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for args in [
        &["walk", "--nic", "wire"][..],
        &["walk", "--stations"],
        &["--help"],
        &["completions", "bash"],
    ] {
        let mut child = netkeel(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // Closed before the first byte is written, or soon after.
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn tshark_reads_the_capture() {
    if !need("tshark") {
        return;
    }
    let file = scratch("walk.pcapng");
    let path = file.to_str().expect("a plain path");
    stdout(&["walk", "icmp", "--nic", "wire", "--format", "pcapng", "--out", path]);
    let fields = ["-e", "frame.interface_name", "-e", "_ws.malformed", "-e", "frame.comment"];
    let output = Command::new("tshark")
        .args(["-r", path, "-T", "fields"])
        .args(fields)
        .output()
        .expect("tshark starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints: Vec<&str> =
        said.lines().filter(|line| !line.starts_with("Running as user")).collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:?}");
    let lines: Vec<String> =
        BufReader::new(output.stdout.as_slice()).lines().map_while(Result::ok).collect();
    assert_eq!(lines.len(), 8, "four frames, each leaving and arriving");
    for line in lines {
        let mut parts = line.split('\t');
        let interface = parts.next().unwrap_or_default();
        assert!(["A:eth0", "B:eth0"].contains(&interface), "{line}");
        assert_eq!(parts.next(), Some(""), "malformed: {line}");
        assert!(parts.next().is_some_and(|comment| comment.contains("dev_queue_xmit")), "{line}");
    }
}

#[test]
fn what_bench_is_asked_for_is_seen_without_measuring() {
    for (words, part) in [
        ("bench", "requires a subcommand"),
        ("bench sctp", "unrecognized subcommand 'sctp'"),
        ("bench udp --size 7", "7 is not in 8..=1472"),
        ("bench udp --size 1473", "1473 is not in 8..=1472"),
        ("bench udp --runs 0", "0 is not in 1..=99"),
        ("bench udp --time 9", "9 is not in 10..=60000"),
        ("bench udp --trips 1", "1 is not in 10..=1000000"),
        ("bench udp --busy-poll 0", "0 is not in 1..=10000"),
        ("bench udp --format xml", "[possible values: text, json]"),
        (
            "bench udp --only tcp",
            "no row's name contains \"tcp\": try a part of \"received\", \"sent\"",
        ),
        ("bench tcp --only sent", "try a part of \"bulk in over a TAP, offloads on\""),
        ("bench tcp --size 64", "unexpected argument '--size'"),
    ] {
        let words: Vec<&str> = words.split_whitespace().collect();
        let (code, said) = refusal(&words);
        assert_eq!(code, Some(2), "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {said}");
    }
    for words in
        [&["bench", "--help"][..], &["bench", "udp", "--help"], &["bench", "tcp", "--help"]]
    {
        let help = stdout(words);
        assert!(help.contains("Examples:\n  sudo netkeel bench udp\n"), "{help}");
        assert!(help.contains("host's kernel over a veth pair"), "{help}");
    }
}

#[test]
fn a_discipline_and_its_options_are_seen_before_anything_is_opened() {
    for (qdisc, part) in [
        ("sfq", "there is no queueing discipline \"sfq\": name one of pfifo_fast, fq"),
        ("fq quantum 0", "quantum \"0\" can't be: write a number from 1 to 1048576"),
        ("fq horizon", "horizon has no value: write a time such as 5ms"),
        ("fq buckets 1024", "fq has no option \"buckets\": it has limit, flow_limit, "),
    ] {
        let (code, said) =
            refusal(&["up", "--tap", "nk-no", "--addr", "192.0.2.2/24", "--qdisc", qdisc]);
        assert_eq!(code, Some(2), "{qdisc}: {said}");
        assert!(said.contains(part), "{qdisc}: {said}");
    }
}
