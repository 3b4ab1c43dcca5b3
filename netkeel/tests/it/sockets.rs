//! A machine's sockets, as `netkeel ss` and `netkeel stat` tell of them, beside what the host's kernel and `ss` tell
//! of the other ends.

use crate::control::{ask, refusal};
use crate::streams::{MOST, stream_to};
use crate::up::{HANG, HOST, US, tool, with_up};
use host::testing::{Need, need};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Waits until something is so.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < HANG, "{what} never happened");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A connection to echo that has been used, and its port at the host.
fn used() -> (TcpStream, u16) {
    let mut stream = stream_to(7);
    for _ in 0..4 {
        stream.write_all(&[7; 10_000]).unwrap();
        stream.read_exact(&mut [0; 10_000]).unwrap();
    }
    let port = stream.local_addr().unwrap().port();
    // The last segment's acknowledgement may be delayed.
    wait_until("the last acknowledgement", || {
        let text = ask(&format!("ss -t dport = :{port}"));
        text.lines().nth(1).is_some_and(|line| words(line)[2] == "0")
    });
    (stream, port)
}

#[test]
fn listeners_and_connections_are_in_the_columns_of_ss() {
    if !need(Need::Tool("ss")) {
        return;
    }
    with_up(|_, _| {
        let (_stream, port) = used();
        let listening = ask("ss -tln");
        let heading = words(listening.lines().next().unwrap());
        let theirs = tool(&["ss", "-tln"]);
        let theirs = theirs.lines().next().unwrap().trim_end().trim_end_matches("Process");
        assert_eq!(heading, words(theirs));
        let rows: Vec<_> = listening.lines().skip(1).map(words).collect();
        let row = |port: u16| {
            ["LISTEN", "0", &MOST.to_string(), &format!("0.0.0.0:{port}"), "0.0.0.0:*"]
                .map(str::to_owned)
        };
        assert_eq!(rows, [7, 9, 19].map(row));
        // Both kinds, and those with a peer alone.
        let all = ask("ss");
        let lines: Vec<_> = all.lines().map(words).collect();
        assert_eq!(lines[0][..2], ["Netid", "State"]);
        let peer = format!("{HOST}:{port}");
        assert_eq!(
            lines[1..],
            [["tcp", "ESTAB", "0", "0", "192.0.2.2:7", &peer].map(str::to_owned)]
        );
        assert_eq!(ask("ss -a").lines().count(), 1 + 3 + 3 + 1);
        // Filters.
        assert_eq!(ask(&format!("ss -ta dport = :{port}")).lines().count(), 2);
        assert_eq!(ask("ss -ta sport = :9").lines().count(), 2);
        assert_eq!(ask("ss -t state established").lines().next().unwrap().find("State"), None);
        assert_eq!(ask("ss -t state time-wait").lines().count(), 1);
        let (code, said) = refusal("ss state open");
        assert_eq!(code, 2);
        assert!(
            said.starts_with("ss: state \"open\" is not known: there are established"),
            "{said}"
        );
    });
}

/// The names of what stands below a connection, in their order.
fn names(details: &str) -> Vec<String> {
    let name = |word: &str| word.split_once(':').map(|(name, _)| name.to_owned());
    details.split_whitespace().filter_map(name).collect()
}

#[test]
fn what_tcp_knows_is_told_in_the_words_and_the_order_of_ss() {
    if !need(Need::Tool("ss")) {
        return;
    }
    with_up(|_, _| {
        let (_stream, port) = used();
        let ours = ask("ss -tinmoe");
        let theirs = tool(&["ss", "-tinmoe", "dst", &US.to_string()]);
        let below = |text: &str| text.lines().nth(2).unwrap().to_owned();
        let (below_ours, below_theirs) = (below(&ours), below(&theirs));
        assert!(below_ours.starts_with("\t skmem:(r0,rb"), "{ours}");
        assert!(below_ours.contains(") ts sack cubic wscale:"), "{ours}");
        // What one of them has nothing to say of is left out: the other's order is the same.
        let (ours_named, theirs_named) = (names(&below_ours), names(&below_theirs));
        let shared: Vec<_> = ours_named.iter().filter(|n| theirs_named.contains(n)).collect();
        let in_order: Vec<_> = theirs_named.iter().filter(|n| ours_named.contains(n)).collect();
        assert_eq!(shared, in_order, "{below_ours}{below_theirs}");
        for name in ["rto", "rtt", "mss", "pmtu", "rcvmss", "advmss", "cwnd", "minrtt", "snd_wnd"] {
            assert!(ours_named.contains(&name.to_owned()), "{name}: {below_ours}");
        }
        let value = |text: &str, name: &str| -> String {
            let name = format!(" {name}:");
            let at = text.find(&name).unwrap_or_else(|| panic!("{name} in {text}")) + name.len();
            text[at..].split_whitespace().next().unwrap().to_owned()
        };
        // The two ends agree.
        assert_eq!(value(&below_ours, "bytes_received"), "40000");
        // A busy machine may answer so late that the end was probed.
        let octets = |name: &str| -> u64 {
            let named = ours_named.contains(&name.to_owned());
            if named { value(&below_ours, name).parse().unwrap() } else { 0 }
        };
        assert_eq!(octets("bytes_sent") - octets("bytes_retrans"), 40000, "{below_ours}");
        assert_eq!(value(&below_ours, "mss"), value(&below_theirs, "mss"));
        let scales = |text: &str| {
            let value = value(text, "wscale");
            let (snd, rcv) = value.split_once(',').unwrap();
            (snd.to_owned(), rcv.to_owned())
        };
        let (snd, rcv) = scales(&below_ours);
        assert_eq!((rcv, snd), scales(&below_theirs));
        // Behind the columns, the socket's number and both ways.
        let line = ours.lines().nth(1).unwrap();
        assert!(line.contains(&format!("{HOST}:{port}")) && line.ends_with(" <->"), "{line}");
        assert!(line.contains(" ino:"), "{line}");
        let json: serde_json::Value = serde_json::from_str(&ask("ss -ti --json")).unwrap();
        assert_eq!(json[0]["tcp_info"]["bytes_received"], 40_000);
        assert_eq!((&json[0]["cong"], &json[0]["peer_port"]), (&"cubic".into(), &port.into()));
        let json: serde_json::Value = serde_json::from_str(&ask("ss -t --json")).unwrap();
        assert!(json[0]["tcp_info"].is_null(), "only when it is asked for");
    });
}

#[test]
fn what_is_left_of_connections_is_shown_with_its_timer() {
    if !need(Need::OpenFiles) {
        return;
    }
    with_up(|_, _| {
        // Chargen's side closes after ours: ours, at the host, is the one that waits. So the machine is to close
        // first: the idlest of its connections makes room.
        let mut streams: Vec<TcpStream> = (0..=MOST).map(|_| stream_to(7)).collect();
        assert_eq!(streams[0].read(&mut [0; 8]).unwrap(), 0);
        wait_until("FIN-WAIT-2", || ask("ss -ta state fin-wait-2").lines().count() == 2);
        drop(streams.remove(0));
        wait_until("TIME-WAIT", || ask("ss -ta state time-wait").lines().count() == 2);
        let line = ask("ss -taoe state time-wait");
        let line = line.lines().nth(1).unwrap();
        assert!(line.contains(" timer:(timewait,5") && line.contains("sec,0) ino:0 sk:"), "{line}");
        let counts = format!("TCP: inuse {0} orphan 0 tw 1 alloc {0} mem ", 3 + MOST);
        assert!(ask("stat sockstat").starts_with(&counts));
        // The listing comes in portions; all is there.
        assert_eq!(ask("ss -ta").lines().count(), 1 + 3 + MOST + 1);
    });
}

#[test]
fn the_file_of_tcp_has_the_kernels_lines() {
    with_up(|_, _| {
        let (_stream, port) = used();
        let ours = ask("stat tcp");
        let theirs = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        assert_eq!(ours.lines().next(), theirs.lines().next());
        assert!(ours.lines().all(|line| line.len() == 149), "{ours}");
        let line = |text: &str, end: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.contains(end));
            words(line.unwrap_or_else(|| panic!("{end} in {text}")))
        };
        let (at_host, at_us) = (format!("010200C0:{port:04X}"), "020200C0:0007");
        let (ours_connection, theirs_connection) = (line(&ours, at_us), line(&theirs, at_us));
        assert_eq!(ours_connection[1..4], [at_us, &at_host, "01"]);
        assert_eq!(theirs_connection[1..4], [&at_host, at_us, "01"]);
        assert_eq!(ours_connection.len(), theirs_connection.len(), "{ours}{theirs}");
        let listener = line(&ours, "00000000:0013 00000000:0000 0A");
        assert_eq!(listener[4..9], ["00000000:00000000", "00:00000000", "00000000", "0", "0"]);
        assert_eq!(listener[12..], ["100", "0", "0", "10", "0"]);
        let json: serde_json::Value = serde_json::from_str(&ask("stat tcp --json")).unwrap();
        assert_eq!((&json[0]["st"], &json[0]["rto"]), (&"0A".into(), &"100".into()));
    });
}
