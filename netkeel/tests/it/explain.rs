//! `netkeel explain`: what it says of a running machine's drops is so, and what it advises helps.

use crate::control::{ask, netkeel, refusal};
use crate::pcap::Scratch;
use crate::up::{HANG, with_up};
use host::testing::{Need, need};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A command that explains one packet.
struct Explainer(Child, BufReader<std::process::ChildStdout>);

impl Explainer {
    fn start(filter: &str) -> Self {
        let mut command = netkeel("explain --attach -c 1");
        let mut child = command.args(filter.split(' ')).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    /// What it said of a packet that `provoke` sends, again until one is seen.
    fn of(mut self, provoke: impl Fn()) -> String {
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < HANG, "nothing was explained");
            provoke();
        }
        assert!(self.0.wait().unwrap().success());
        self.1.lines().map(|line| line.unwrap() + "\n").collect()
    }
}

fn pings(addr: &str) -> bool {
    let ping =
        Command::new("ping").args(["-c", "1", "-W", "1", addr]).stdout(Stdio::null()).status();
    ping.unwrap().success()
}

#[test]
fn what_is_said_of_a_drop_is_so_and_the_advice_helps() {
    if !need(Need::Tool("ping")) {
        return;
    }
    with_up(|ns, _| {
        let datagram = || {
            let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
            let _ = socket.send_to(b"hello", "192.0.2.2:77");
        };
        let said = Explainer::start("udp port 77").of(datagram);
        for part in [
            "> 192.0.2.2.77: UDP, length 5\n",
            "in __udp4_lib_lookup_skb (net/ipv4/udp.c), NO_SOCKET",
            "state:  no udp socket has port 77\n",
            "change: bind a socket",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }

        ask("sysctl net.ipv4.icmp_echo_ignore_all=1");
        let said = Explainer::start("icmp").of(|| assert!(!pings("192.0.2.2")));
        assert!(said.contains("state:  net.ipv4.icmp_echo_ignore_all = 1\n"), "{said}");
        assert!(said.contains("change: set net.ipv4.icmp_echo_ignore_all"), "{said}");
        ask("sysctl net.ipv4.icmp_echo_ignore_all=0");
        assert!(pings("192.0.2.2"));

        ns.ip("route add 198.51.100.0/24 via 192.0.2.2");
        let said = Explainer::start("dst host 198.51.100.9").of(|| assert!(!pings("198.51.100.9")));
        for part in [
            "IP_INADDRERRORS",
            "nk0: 192.0.2.2/24",
            "forwarding = 0",
            "add its destination to the machine's addresses",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        ask("addr add 198.51.100.9/32 dev nk0");
        assert!(pings("198.51.100.9"));
    });
}

#[test]
fn a_file_of_walks_is_explained_and_rubbish_refused() {
    if !need(Need::Tool("ping")) {
        return;
    }
    with_up(|_, _| {
        let file = Scratch::new("walks.jsonl");
        let out = std::fs::File::create(&file.0).unwrap();
        let mut command = netkeel("walk --format json --attach=icmp");
        let mut watcher = command.stdout(out).spawn().unwrap();
        ask("sysctl net.ipv4.icmp_echo_ignore_all=1");
        let start = Instant::now();
        while !std::fs::read_to_string(&file.0).unwrap().contains("ICMP_ECHO_IGNORE") {
            assert!(start.elapsed() < HANG);
            pings("192.0.2.2");
        }
        watcher.kill().unwrap();
        watcher.wait().unwrap();
        let explain = |words: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_netkeel"));
            let out = command.arg("explain").args(words).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        let said = explain(&[file.path(), "icmp[icmptype]", "=", "icmp-echo"]);
        assert!(
            said.contains("ICMP echo request")
                && said.contains("ask: netkeel sysctl net.ipv4.icmp_echo"),
            "{said}"
        );
        assert_eq!(explain(&[file.path(), "tcp"]), "");
        let (code, said) = refusal("explain --attach tpc");
        assert!(code == 2 && said.contains("column 1: \"tpc\""), "{said}");
    });
}
