//! `netkeel bench`: what it measures, what it says, and that nothing is left of it.

use crate::up::{HANG, tool};
use clap::Parser;
use host::testing::{Need, in_fresh_netns, need};
use netkeel::cli::Cli;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn can_measure() -> bool {
    need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))
}

fn bench(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netkeel"));
    command.arg("bench").args(words.split_whitespace());
    command
}

/// What it printed. Nothing else is said where nobody looks on.
fn measured(words: &str) -> String {
    let Output { status, stdout, stderr } = bench(words).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.is_empty(), "{said}");
    String::from_utf8(stdout).unwrap()
}

/// The names of devices here.
fn devices() -> Vec<String> {
    let all = fs::read_dir("/sys/class/net").unwrap();
    all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_row_is_measured_by_everybody_and_nothing_is_left() {
    if !can_measure() {
        return;
    }
    in_fresh_netns(|_| {
        let text = measured("udp --runs 1 --time 20 --trips 50 --size 64 --format json");
        let json: Value = serde_json::from_str(&text).unwrap();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!((&json["version"], &json["runs"]), (&1.into(), &1.into()));
        assert_eq!(json["kernel"], kernel.trim());
        for member in ["governor", "congestion_control", "offloads"] {
            assert!(json[member].as_str().is_some_and(|said| !said.is_empty()), "{member}: {text}");
        }
        let rows = json["rows"].as_array().unwrap();
        let of = |row: &Value| {
            [&row["work"], &row["placement"]]
                .map(|name| name.as_str().unwrap().to_owned())
                .join(" ")
        };
        let mut expected = vec![
            "receive two_processors",
            "send two_processors",
            "round_trip one_processor_sleeping",
        ];
        if json["processors"].as_u64().unwrap() > 1 {
            expected.push("round_trip two_processors_sleeping");
            expected.push("round_trip two_processors_spinning");
        }
        assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), expected);
        for row in rows {
            assert_eq!(row["size"], 64);
            let (beside, p99) = match row["unit"].as_str().unwrap() {
                "datagrams_per_second" => ("to", false),
                unit => ("over", unit == "nanoseconds"),
            };
            for subject in ["netkeel", "tap", "kernel"] {
                let of = |what: &str| row[subject][what].as_f64().unwrap();
                let (least, median, most) = (of("least"), of("median"), of("most"));
                assert!(0.0 < least && least == median && median == most, "one run: {row}");
                let last = &row[format!("{subject}_p99")];
                assert_eq!(last.as_f64().is_some_and(|p99| p99 >= median), p99, "{row}");
            }
            for other in ["tap", "kernel"] {
                let how = row[format!("{beside}_{other}")]["median"].as_f64().unwrap();
                let [ours, theirs] =
                    ["netkeel", other].map(|name| row[name]["median"].as_f64().unwrap());
                let expected = if beside == "to" { ours / theirs } else { ours - theirs };
                assert!((how - expected).abs() < 0.01, "{row}");
            }
        }
        assert_eq!(devices(), ["lo"]);
    });
}

#[test]
fn every_row_of_tcp_is_measured_and_stands_beside_its_goal() {
    if !can_measure() {
        return;
    }
    in_fresh_netns(|_| {
        let text = measured("tcp --runs 1 --time 20 --trips 50 --format json");
        let json: Value = serde_json::from_str(&text).unwrap();
        let rows = json["rows"].as_array().unwrap();
        let mut names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        names.retain(|name| !name.contains("two processors"));
        assert_eq!(
            names,
            [
                "bulk in over a TAP, offloads on",
                "bulk out over a TAP, offloads on",
                "bulk out over a TAP, not copied",
                "bulk in over a TAP, offloads off",
                "bulk out over a TAP, offloads off",
                "bulk in memory, offloads on",
                "bulk in memory, offloads off",
                "round trip, one processor, sleeping",
                "round trip in memory",
                "SYN flood over a TAP",
                "SYN flood in memory",
                "SYN flood in memory, cookies redeemed",
                "SYN flood in memory, cookies guessed",
            ]
        );
        for row in rows {
            let median = |of: &Value| of["median"].as_f64().unwrap();
            let ours = median(&row["netkeel"]);
            assert!(ours > 0.0, "{row}");
            for other in row["beside"].as_array().unwrap() {
                assert_ne!(other["who"], "smoltcp", "a program has none: {row}");
                let (theirs, compared) = (median(&other["figure"]), median(&other["compared"]));
                let expected = match row["unit"].as_str() {
                    Some("octets_per_second" | "segments_per_second") => ours / theirs,
                    _ => ours - theirs,
                };
                assert!(theirs > 0.0 && (compared - expected).abs() < 0.01, "{row}");
                let goal = other["goal"].as_str().unwrap();
                assert!(goal.starts_with(">= ") || goal.starts_with("<= "), "{row}");
            }
        }
        assert_eq!(devices(), ["lo"]);
    });
}

#[test]
fn the_table_of_tcp_says_who_stands_beside_it() {
    if !can_measure() {
        return;
    }
    in_fresh_netns(|_| {
        let text = measured("tcp --only bulk --runs 1 --time 20");
        assert!(text.contains("; cubic on both sides\n"), "{text}");
        for part in ["kernel, veth", "bare TAP", "smoltcp: cargo bench -p netkeel --bench tcp"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("round trip"), "{text}");
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    });
}

#[test]
fn the_table_says_where_it_was_measured() {
    if !can_measure() {
        return;
    }
    in_fresh_netns(|_| {
        let text = measured("udp --only received --runs 3 --time 10 --size 64 --size 8");
        let mut lines = text.lines();
        let first = lines.next().unwrap();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(first.starts_with(&format!("host: Linux {}, ", kernel.trim())), "{text}");
        assert!(first.contains(", governor ") && first.contains(", congestion control "), "{text}");
        assert_eq!(lines.next(), Some("offloads: checksums; no segmentation, no GRO"));
        assert_eq!(lines.next(), Some("medians of 3 runs; in brackets the least and the greatest"));
        for size in [64, 8] {
            let row = text.lines().find(|l| l.starts_with(&format!("received, {size} octets")));
            let row = row.unwrap_or_else(|| panic!("{size}: {text}"));
            assert_eq!(row.matches("..").count(), 2, "{row}");
        }
        assert!(!text.contains("sent,"), "{text}");
    });
}

#[test]
fn without_rights_the_remedy_is_told() {
    let failure = || {
        let cli = Cli::try_parse_from(["netkeel", "bench", "udp"]).unwrap();
        let failure = cli.run().unwrap_err();
        (failure.exit_code(), failure.to_string())
    };
    let told = match fs::metadata("/proc/self").unwrap().uid() == 0 {
        true => in_fresh_netns(|ns| ns.as_nobody(failure)),
        false => failure(),
    };
    let text = "measuring makes network namespaces and devices, which takes root: run it with sudo";
    assert_eq!(told, (1, text.to_owned()));
}

/// The network namespaces that the threads of this process live in.
fn namespaces(pid: u32) -> BTreeSet<PathBuf> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeSet::new() };
    let of = |entry: std::io::Result<fs::DirEntry>| {
        fs::read_link(entry.ok()?.path().join("ns/net")).ok()
    };
    threads.filter_map(of).collect()
}

/// Whether some thread of any process lives in one of these.
fn lived_in(those: &BTreeSet<PathBuf>) -> bool {
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().any(|pid| !namespaces(pid).is_disjoint(those))
}

#[test]
fn an_interrupt_in_the_middle_leaves_no_device_and_no_namespace() {
    if !can_measure() {
        return;
    }
    in_fresh_netns(|_| {
        let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
        for signal in ["INT", "TERM"] {
            let mut command = bench("udp --runs 99 --time 60000");
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let start = Instant::now();
            let made = loop {
                let mut made = namespaces(child.id());
                made.remove(&here);
                // Its own and that of the far end.
                if made.len() == 2 {
                    break made;
                }
                assert!(start.elapsed() < HANG && child.try_wait().unwrap().is_none(), "{made:?}");
                thread::sleep(Duration::from_millis(1));
            };
            tool(&["kill", &format!("-{signal}"), &child.id().to_string()]);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), None, "by the signal: {output:?}");
            // An `ip` that it had just started ends by itself.
            while lived_in(&made) {
                assert!(start.elapsed() < HANG, "somebody lives on in {made:?}");
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(devices(), ["lo"]);
            let named = fs::read_dir("/run/netns").map_or(0, Iterator::count);
            assert_eq!(named, 0, "nothing keeps them");
        }
    });
}
