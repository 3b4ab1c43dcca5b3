//! A running machine, asked and changed over its control socket; the host's kernel and tools judge.

use crate::up::{CONTROL, HANG, Up, args, socket_to, tool, with_up};
use host::testing::{Need, NetNs, need, recv};
use netkeel::control::client::Connection;
use netkeel::control::wire::Op;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A command that asks the machine of this namespace.
pub fn netkeel(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netkeel"));
    command.args(words.split_whitespace()).args(["--machine", CONTROL]);
    command
}

/// What a command printed, which must have succeeded.
pub fn ask(words: &str) -> String {
    let output = netkeel(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and the one line that was said.
pub fn refusal(words: &str) -> (i32, String) {
    let Output { status, stdout, stderr } = netkeel(words).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(stdout.is_empty() && said.lines().count() == 1, "{words}: {said}");
    (status.code().unwrap(), said.trim_start_matches("netkeel: ").trim_end().to_owned())
}

/// A client that speaks the protocol itself.
pub struct Client(pub BufReader<UnixStream>);

impl Client {
    /// Connects and takes the greeting.
    pub fn new() -> Self {
        let stream = UnixStream::connect(CONTROL).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        let mut client = Self(BufReader::new(stream));
        let hello = client.line();
        assert_eq!((&hello["netkeel"], &hello["machine"]), (&1.into(), &"nk0".into()));
        client
    }

    pub fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    pub fn say(&mut self, line: &[u8]) {
        self.0.get_mut().write_all(line).unwrap();
    }

    /// The errno of what is refused.
    pub fn refused(&mut self, line: &[u8]) -> String {
        self.say(line);
        self.line()["error"]["errno"].as_str().unwrap().to_owned()
    }
}

fn pings(addr: &str) -> bool {
    let words = ["-n", "-q", "-c", "1", "-W", "1", addr];
    Command::new("ping").args(words).stdout(Stdio::null()).status().unwrap().success()
}

#[test]
fn addresses_routes_and_settings_change_what_the_host_sees() {
    if !need(Need::Tool("ping")) {
        return;
    }
    with_up(|_, _| {
        assert!(pings("192.0.2.2") && !pings("192.0.2.9"));
        ask("addr add 192.0.2.9/24");
        assert!(pings("192.0.2.9"));
        assert!(
            ask("addr")
                .contains("    inet 192.0.2.9/24 brd 192.0.2.255 scope global secondary nk0\n")
        );
        ask("addr del 192.0.2.9/24 dev nk0");
        // Its own route is gone at once, whatever the host's neighbour table still says.
        assert!(!pings("192.0.2.9"));
        ask("sysctl -w net.ipv4.icmp_echo_ignore_all=1");
        assert!(!pings("192.0.2.2"));
        ask("sysctl -w net.ipv4.icmp_echo_ignore_all=0");
        assert!(pings("192.0.2.2"));
        // Without a way back there is no answer.
        tool(&["ip", "addr", "add", "198.51.100.1/32", "dev", "nk0"]);
        let from = || {
            let words = ["-n", "-q", "-c", "1", "-W", "1", "-I", "198.51.100.1", "192.0.2.2"];
            Command::new("ping").args(words).stdout(Stdio::null()).status().unwrap().success()
        };
        assert!(!from());
        ask("route add 198.51.100.0/24 via 192.0.2.1");
        assert!(from());
        let way = ask("route get 198.51.100.1");
        assert_eq!(way, "198.51.100.1 via 192.0.2.1 dev nk0 src 192.0.2.2\n    cache\n");
        ask("route del 198.51.100.0/24");
        assert!(!from());
        ask("link set nk0 down");
        assert!(!pings("192.0.2.2"));
        ask("link set nk0 up");
        assert!(pings("192.0.2.2"));
    });
}

#[test]
fn no_line_ends_in_a_blank() {
    with_up(|_, _| {
        ask("neigh add 192.0.2.7 lladdr 02:00:00:00:00:07");
        ask("addr add 192.0.2.9/24");
        let shown = [
            "addr",
            "link",
            "route",
            "route show table all",
            "route get 192.0.2.1",
            "neigh",
            "irq",
            "ss -a",
            "cpu",
            "queue",
            "features",
            "sysctl",
        ];
        for words in shown {
            let said = ask(words);
            let ends = said.lines().find(|line| line.ends_with(char::is_whitespace));
            assert_eq!(ends, None, "{words}");
            assert!(said.ends_with('\n'), "{words} says something");
        }
    });
}

#[test]
fn neighbours_are_seen_set_and_forgotten() {
    with_up(|_, _| {
        let host = std::fs::read_to_string("/sys/class/net/nk0/address").unwrap();
        let socket = socket_to(7);
        socket.send(b"x").unwrap();
        recv(&socket, &mut [0; 8]).unwrap();
        let neigh = ask("neigh");
        assert!(neigh.contains(&format!("192.0.2.1 dev nk0 lladdr {}", host.trim())), "{neigh}");
        assert_eq!(ask("neigh flush"), "1 forgotten\n");
        assert_eq!(ask("neigh"), "");
        ask("neigh add 192.0.2.1 lladdr 02:00:00:00:00:01");
        socket.send(b"x").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(recv(&socket, &mut [0; 8]).is_err(), "the answer went to nobody");
        ask(&format!("neigh replace 192.0.2.1 lladdr {}", host.trim()));
        socket.set_read_timeout(Some(HANG)).unwrap();
        socket.send(b"y").unwrap();
        recv(&socket, &mut [0; 8]).unwrap();
    });
}

#[test]
fn sockets_are_listed_as_ss_lists_them() {
    if !need(Need::Tool("ss")) {
        return;
    }
    with_up(|_, _| {
        let ours = ask("ss -una");
        let theirs = tool(&["ss", "-una"]);
        // `ss` has a column more, for the process, which may touch the one before.
        let heading = theirs.lines().next().unwrap().trim_end().trim_end_matches("Process");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(ours.lines().next().unwrap()), words(heading));
        let rows: Vec<_> = ours.lines().skip(1).map(words).collect();
        for (row, port) in rows.iter().zip([7, 9, 19]) {
            assert_eq!(*row, ["UNCONN", "0", "0", &format!("0.0.0.0:{port}"), "0.0.0.0:*"]);
        }
        assert_eq!(rows.len(), 3);
        assert!(ask("ss -uanm").contains("\t skmem:(r0,rb212992,t0,tb212992,f0,w0,o0,bl0,d0)\n"));
        let json: serde_json::Value = serde_json::from_str(&ask("ss -a -j")).unwrap();
        assert_eq!(json[0]["local_port"], 7);
    });
}

#[test]
fn json_has_the_names_of_ip() {
    with_up(|_, _| {
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        for command in ["addr show dev nk0", "link show dev nk0"] {
            let ours = parse(&ask(&format!("{command} --json")));
            let mut words = vec!["ip", "-json"];
            words.extend(command.split_whitespace());
            let theirs = parse(&tool(&words));
            // Newer ones say more.
            for key in keys(&ours[0]) {
                assert!(!theirs[0][&key].is_null(), "{command}: {key}");
            }
            let (ours, theirs) = (&ours[0]["addr_info"][0], &theirs[0]["addr_info"][0]);
            if let Some(ours) = ours.as_object() {
                // The host's address was given no broadcast address.
                let known = |key: &String| key == "broadcast" || !theirs[key].is_null();
                assert!(ours.keys().all(known), "{ours:?}");
            }
        }
        let ours = parse(&ask("route -j"));
        let theirs = parse(&tool(&["ip", "-json", "route"]));
        assert_eq!(keys(&ours[0]), keys(&theirs[0]));
        let irq = parse(&ask("irq -j"));
        assert_eq!((&irq[0]["name"], &irq[0]["smp_affinity"]), (&"nk0".into(), &"1".into()));
    });
}

#[test]
fn mistakes_are_told_with_the_way_out() {
    with_up(|_, _| {
        for (words, code, said) in [
            (
                "addr add 192.0.2.9/24 dev nk7",
                1,
                "device \"nk7\" does not exist: there are lo, nk0",
            ),
            ("addr add 192.0.2.2/24", 1, "nk0 has 192.0.2.2/24 already"),
            ("addr del 192.0.2.2/25", 1, "nk0 has no address 192.0.2.2/25"),
            (
                "addr add 192.0.2.9/33",
                2,
                "\"192.0.2.9/33\" has no prefix length from 0 to 32: write 192.0.2.9/24",
            ),
            ("addr add", 2, "addr: the address, as 192.0.2.9/24, is missing"),
            ("addr add 192.0.2.9/24 eth nk0", 2, "addr: \"eth\" is not understood here: write dev"),
            (
                "route add 10.0.0.1/8 via 192.0.2.1",
                2,
                "10.0.0.1/8 has bits behind its prefix: write 10.0.0.0/8",
            ),
            (
                "route add default via 198.51.100.1",
                1,
                "route to default: the gateway is on no link of ours",
            ),
            (
                "route add default",
                2,
                "route add default: name the way behind it, as via 192.0.2.1 or dev nk0",
            ),
            ("route get 8.8.8.8", 1, "no way to 8.8.8.8: Network is unreachable"),
            (
                "neigh add 192.0.2.7",
                2,
                "neigh add 192.0.2.7: write lladdr 02:00:00:00:00:01 behind it",
            ),
            ("neigh del 192.0.2.7", 1, "there is no neighbour 192.0.2.7"),
            ("link set nk0 mtu 65522", 1, "nk0 can't have an MTU of 65522: Invalid argument"),
            (
                "features lro on",
                2,
                "no feature \"lro\": write rx, tx, sg, tso, gso, gro, rxhash, \
              rx-checksum, tx-checksum-ipv4, tx-checksum-ip-generic, tx-scatter-gather, \
              tx-tcp-segmentation, tx-generic-segmentation, rx-gro, rx-hashing, tx-udp-segmentation, \
              rx-udp-gro-forwarding, loopback",
            ),
            ("features tso", 2, "features: on or off behind tso is missing"),
            ("features tso maybe", 2, "features tso \"maybe\": write on or off"),
            ("features tso on tso off", 2, "features: tso is there twice"),
            (
                "features rx off",
                1,
                "nk0 can't switch rx: `netkeel features dev nk0` shows what is fixed",
            ),
            ("features dev nk7", 1, "device \"nk7\" does not exist: there are lo, nk0"),
            ("link set nk0", 2, "link set nk0: write up, down, mtu N or netns NAME behind it"),
            (
                "irq 0 smp_affinity 2",
                1,
                "interrupt 0, 2: the mask names no CPU of this machine: it has CPUs 0 to 0",
            ),
            ("irq 9 smp_affinity", 1, "there is no interrupt 9: `netkeel irq` lists them"),
            ("sysctl net.ipv4.ip_forward=2", 1, "net.ipv4.ip_forward can't be \"2\": write 0 or 1"),
            (
                "sysctl net.ipv4.tcp_congestion_control=none",
                1,
                "net.ipv4.tcp_congestion_control can't be \"none\": write one of reno cubic bbr",
            ),
            (
                "sysctl net.ipv4.tcp_available_congestion_control=reno",
                1,
                "net.ipv4.tcp_available_congestion_control can only be read",
            ),
            (
                "sysctl net.ipv4.tcp_none",
                1,
                "there is no setting \"net.ipv4.tcp_none\": `netkeel sysctl` lists them",
            ),
        ] {
            assert_eq!(refusal(words), (code, said.to_owned()), "{words}");
        }
        let (code, said) = refusal("walk --attach tpc");
        assert_eq!(code, 2);
        assert!(
            said.contains("--attach \"tpc\", column 1: \"tpc\" is no word of the language"),
            "{said}"
        );
    });
}

/// A watcher, and what it has printed so far.
struct Watcher(Child, BufReader<std::process::ChildStdout>);

impl Watcher {
    fn start(words: &str) -> Self {
        let mut command = netkeel(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    /// Reads on to a line with this text.
    fn sees(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "ended before {text}");
        }
        line
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Sends datagrams to the echo service until `done` says so.
fn traffic_until(mut done: impl FnMut() -> bool) {
    let (socket, start) = (socket_to(7), Instant::now());
    while !done() {
        assert!(start.elapsed() < HANG);
        socket.send(&[7; 100]).unwrap();
        recv(&socket, &mut [0; 128]).unwrap();
    }
}

/// Somebody is watching: another is told so.
fn is_watched() -> bool {
    let mut client = Client::new();
    client.say(b"{\"op\":\"walk.attach\"}\n");
    if client.line()["error"]["errno"] == "EBUSY" {
        return true;
    }
    // Not before this is answered is the place free again.
    client.say(b"{\"op\":\"walk.detach\"}\n");
    client.line();
    false
}

#[test]
fn walks_are_watched_by_one_at_a_time_and_a_killed_watcher_is_detached() {
    with_up(|_, up| {
        for (words, text) in [
            ("walk --attach udp", " udp_rcv "),
            ("walk --attach udp --format json", "\"point\":\"udp_rcv\""),
        ] {
            let mut watcher = Watcher::start(words);
            let seen = AtomicBool::new(false);
            let line = thread::scope(|scope| {
                scope.spawn(|| traffic_until(|| seen.load(Ordering::SeqCst)));
                let line = watcher.sees(text);
                seen.store(true, Ordering::SeqCst);
                line
            });
            assert!(line.contains("nk0"), "{line}");
            let (code, said) = refusal("walk --attach");
            assert_eq!(
                (code, said.as_str()),
                (1, "somebody watches this machine already: one at a time can")
            );
            watcher.kill();
            traffic_until(|| !is_watched());
        }
        assert!(!up.is_finished());
    });
}

#[test]
fn a_watcher_that_stalls_loses_walks_is_cut_off_and_the_traffic_goes_on() {
    let output = with_up(|_, _| {
        let mut watcher = Client::new();
        watcher.say(b"{\"op\":\"walk.attach\"}\n");
        assert!(watcher.line()["ok"]["start"].is_u64());
        // It reads no more; what is told to it fills up, then it is let go.
        traffic_until(|| !is_watched());
        let mut rest = Vec::new();
        watcher.0.read_to_end(&mut rest).unwrap();
        assert!(rest.len() < 4 << 20, "bounded: {}", rest.len());
    });
    if let Some(output) = output {
        assert!(
            output.contains("control socket: 1 cut off for not reading, 0 turned away"),
            "{output}"
        );
    }
}

#[test]
fn lost_walks_are_counted_and_told() {
    with_up(|_, _| {
        let mut watcher = Client::new();
        watcher.say(b"{\"op\":\"walk.attach\"}\n");
        watcher.line();
        // It reads, but slower than walks are made.
        let (mut sent, mut lost) = (0, 0);
        traffic_until(|| {
            sent += 1;
            if sent % 20 == 0 {
                let event = watcher.line();
                lost = event["walks"].as_u64().unwrap_or(0);
            }
            lost != 0
        });
        assert_ne!(lost, 0);
        watcher.say(b"{\"id\":5,\"op\":\"walk.detach\"}\n");
        while watcher.line()["id"] != 5 {}
        assert!(!is_watched());
    });
}

/// A machine in a process of its own.
fn program() -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netkeel"));
    command.args(["up", "--tap", "nk0", "--addr", "192.0.2.2/24", "--control", CONTROL]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.as_mut().unwrap());
    let mut lines = out.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("Ctrl-C stops")), "it did not start");
    child
}

fn end_of(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

fn in_netns(f: impl FnOnce(&NetNs) + Send) {
    if need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip")) {
        host::testing::in_fresh_netns(f);
    }
}

#[test]
fn the_socket_is_private_goes_with_the_machine_and_what_a_killed_one_leaves_is_replaced() {
    in_netns(|ns| {
        let child = program();
        let inode = std::fs::metadata(CONTROL).unwrap();
        assert_eq!(inode.mode() & 0o7777, 0o600);
        tool(&["sh", "-c", &format!("kill -KILL {}", child.id())]);
        assert_eq!(end_of(child).0, None);
        assert!(Path::new(CONTROL).exists(), "nobody was there to remove it");
        let (code, said) = refusal("addr");
        assert_eq!(code, 1);
        assert!(said.starts_with("no machine runs at /run/nk0.sock: start one with"), "{said}");
        let child = program();
        assert_ne!(std::fs::metadata(CONTROL).unwrap().ino(), inode.ino());
        assert!(ask("addr").contains("192.0.2.2/24"));
        tool(&["sh", "-c", &format!("kill -INT {}", child.id())]);
        assert_eq!(end_of(child).0, Some(0));
        assert!(!Path::new(CONTROL).exists());
        // The TAP is deleted under it.
        let child = program();
        ns.ip("link del nk0");
        let (code, said) = end_of(child);
        assert_eq!(
            (code, said.as_str()),
            (Some(1), "netkeel: TAP nk0 was deleted: create it again, then start anew\n")
        );
        assert!(!Path::new(CONTROL).exists());
    });
}

#[test]
fn a_machine_that_runs_keeps_its_socket() {
    in_netns(|_| {
        let child = program();
        let other = args(|args| args.tap = "nk1".to_owned());
        let Err(error) = Up::try_start(other) else { panic!("it has the socket of another") };
        assert_eq!(error.exit_code(), 1);
        let text = "control socket: /run/nk0.sock is the socket of a machine that runs: stop that \
                    one, or name another path with --control";
        assert_eq!(error.to_string(), text);
        assert!(ask("addr").contains("192.0.2.2/24"), "the other goes on");
        tool(&["sh", "-c", &format!("kill -TERM {}", child.id())]);
        assert_eq!(end_of(child).0, Some(0));
    });
}

#[test]
fn another_user_is_kept_out_by_the_file_and_by_the_machine() {
    in_netns(|ns| {
        let up = Up::start(args(|_| ()));
        let asked = || {
            ns.as_nobody(|| {
                let asked = Connection::open(Some(CONTROL))
                    .and_then(|mut machine| machine.ask::<serde_json::Value>(&Op::IrqShow {}));
                asked.unwrap_err().to_string()
            })
        };
        let kept_out =
            "no right to ask /run/nk0.sock: it belongs to user 0; ask as that user, or as root";
        assert_eq!(asked(), kept_out);
        std::fs::set_permissions(CONTROL, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = "this machine is another user's: ask as that user, or as root";
        assert_eq!(asked(), refused);
        assert!(
            up.stop().unwrap().contains("control socket: 0 cut off for not reading, 1 turned away")
        );
    });
}

#[test]
fn a_machine_that_prints_walks_itself_is_not_attached_to() {
    in_netns(|_| {
        let up = Up::start(args(|args| args.walk = Some(String::new())));
        let (code, said) = refusal("walk --attach");
        let text = "this machine prints walks itself: start it without --walk to attach";
        assert_eq!((code, said.as_str()), (1, text));
        up.stop().unwrap();
    });
}

#[test]
fn where_no_socket_can_be_the_machine_runs_without_and_says_so() {
    in_netns(|_| {
        // In the place of the user's folder there is something else.
        std::fs::write(host::private_socket::ROOT_FOLDER, "").unwrap();
        if host::private_socket::runtime_folder().as_os_str() != host::private_socket::ROOT_FOLDER {
            // The tester has a runtime folder, which other tests share.
            return;
        }
        let up = Up::start(args(|args| args.control = None));
        let text = up.stop().unwrap();
        assert!(text.contains("no control socket: /run/netkeel is no folder: remove it"), "{text}");
    });
}
