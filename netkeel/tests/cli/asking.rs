//! Commands that ask a running machine, when there is none, several, or something else.

use super::netkeel;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

/// A user's runtime folder of this test's own; short, for a socket's path is.
struct Runtime(PathBuf);

impl Runtime {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nk-{}-{name}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        fs::DirBuilder::new().mode(0o700).create(path.join("netkeel")).unwrap();
        Self(path)
    }

    fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.0.join("netkeel").join(name)).unwrap()
    }

    fn command(&self, words: &str) -> Command {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut command = netkeel(&words);
        command.env("XDG_RUNTIME_DIR", &self.0);
        command
    }

    /// Exit code and what was said, in one line.
    fn refusal(&self, words: &str) -> (i32, String) {
        let output = self.command(words).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty() && said.lines().count() == 1, "{words}: {said}");
        (output.status.code().unwrap(), said)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn without_a_machine_every_command_says_how_to_start_one() {
    let runtime = Runtime::new("none");
    for command in
        ["addr", "link", "route", "neigh", "ss", "irq", "cpu", "queue", "stat snmp", "sysctl"]
    {
        let (code, said) = runtime.refusal(command);
        assert_eq!(code, 1, "{command}");
        assert!(said.starts_with("netkeel: no machine of yours runs (none in "), "{said}");
        assert!(said.contains("start one with netkeel up --tap nk0"), "{said}");
    }
    assert_eq!(runtime.refusal("walk --attach").0, 1);
    let (_, said) = runtime.refusal("addr --machine nk3");
    assert!(said.starts_with("netkeel: no machine nk3 runs (nobody at "), "{said}");
    // One that is stale is none.
    drop(runtime.listen("nk0.sock"));
    assert!(runtime.refusal("addr").1.contains("no machine of yours runs"));
}

#[test]
fn several_machines_are_listed() {
    let runtime = Runtime::new("several");
    let _listening = [runtime.listen("nk0.sock"), runtime.listen("nk1.sock")];
    let (code, said) = runtime.refusal("addr");
    assert_eq!(code, 1);
    assert_eq!(said, "netkeel: several machines run (nk0, nk1): name one with --machine\n");
}

#[test]
fn another_protocol_and_another_program_are_told_apart() {
    let runtime = Runtime::new("strange");
    let listener = runtime.listen("nk0.sock");
    for (greeting, part) in [
        (
            "{\"netkeel\":2,\"version\":\"9.0\",\"machine\":\"nk0\",\"pid\":1}\n",
            "speaks protocol 2, this program 1",
        ),
        ("220 mail.example\n", "is not the control socket of a machine of ours"),
        ("", "is not the control socket of a machine of ours"),
    ] {
        let said = std::thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap().0.write_all(greeting.as_bytes()).unwrap());
            runtime.refusal("addr --machine nk0")
        });
        assert_eq!(said.0, 1);
        assert!(said.1.contains(part), "{}", said.1);
    }
}

#[test]
fn a_machine_that_does_not_answer_is_not_waited_for() {
    let runtime = Runtime::new("silent");
    let _listening = runtime.listen("nk0.sock");
    let (code, said) = runtime.refusal("addr");
    assert_eq!(code, 1);
    assert!(said.contains("does not answer: is it stopped, or its output held up?"), "{said}");
}

#[test]
fn mistakes_of_usage_are_seen_without_a_machine() {
    let runtime = Runtime::new("usage");
    for (words, part) in [
        ("addr add 192.0.2.9/33", "has no prefix length from 0 to 32: write 192.0.2.9/24"),
        ("addr add nonsense", "is no IPv4 address: write 192.0.2.1"),
        ("addr fly", "addr: \"fly\" is not understood here: write show or add or del"),
        ("route get", "route: the address is missing"),
        ("route add 10.0.0.0/8 via x", "\"x\" is no IPv4 address"),
        ("neigh add 192.0.2.1 lladdr zz", "is no link address of a host"),
        ("irq 1 smp_affinity 0-", "is not a group of 1 to 8 hexadecimal digits"),
        ("irq 1 smp_affinity_list 3-1", "ends before it starts"),
        ("cpu one", "cpu: \"one\" is not understood here: write show or a CPU's number"),
        ("cpu 1 offline", "cpu: \"offline\" is not understood here: write online"),
        ("cpu 1 online 2", "cpu 1 online \"2\": write 0 or 1"),
        ("queue x-0", "queue: \"x-0\" is not understood here: write dev or show or rx-N or tx-N"),
        ("queue dev", "queue: the device is missing"),
        ("queue rx-0 cpus", "write rps_cpus or rps_flow_cnt or xps_cpus"),
        ("queue rx-0 rps_cpus 0x3", "is not a group of 1 to 8 hexadecimal digits"),
        ("queue rx-0 rps_flow_cnt x", "rps_flow_cnt \"x\" is no number: write rps_flow_cnt 4096"),
        ("up --tap nk0 --addr 192.0.2.2/24 --queues 33", "33 is not in 1..=32"),
        ("up --tap nk0 --addr 192.0.2.2/24 --busy-poll 1000001", "1000001 is not in 0..=1000000"),
        ("stat nothing", "no statistics \"nothing\": there are interrupts, softirqs"),
        ("sysctl -w net.ipv4.ip_forward", "a value is missing: write net.ipv4.ip_forward=1"),
        ("walk --attach --cpus 2", "cannot be used with"),
        ("walk --attach --format pcapng", "--attach writes text or json"),
        ("walk --machine nk0", "not provided: --attach"),
        ("up --tap nk0 --addr 192.0.2.2/24 --cpus 65", "65 is not in 1..=64"),
    ] {
        let (code, said) = runtime.refusal(words);
        assert_eq!(code, 2, "{words}: {said}");
        assert!(said.contains(part), "{words}: {said}");
    }
}

#[test]
fn what_there_is_to_ask_is_told_without_a_machine() {
    let runtime = Runtime::new("help");
    let output = runtime.command("stat").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("softnet_stat  /proc/net/softnet_stat\n"), "{text}");
    for command in ["addr", "link", "route", "neigh", "ss", "irq", "cpu", "queue", "stat", "sysctl"]
    {
        let help = runtime.command(&format!("{command} --help")).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(&format!("Examples:\n  netkeel {command}")), "{help}");
        assert!(help.contains("--json") && help.contains("--machine"), "{help}");
    }
}
