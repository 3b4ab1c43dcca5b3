//! The files of statistics beside the host kernel's own, read by the same rules: whoever reads the
//! kernel's reads ours.

use host::Runtime;
use netkeel::ask::procfs::parse;
use serde_json::Value;
use stack::fs::proc::show_softirqs;
use stack::kernel::irq::proc::show_interrupts;
use stack::kernel::machine::Machine;
use stack::net::core::net_procfs::{dev_seq_show, softnet_seq_show};
use stack::net::ipv4::arp::arp_seq_show;
use stack::net::ipv4::fib::fib_route_seq_show;
use stack::net::ipv4::igmp::{igmp_mc_seq_show, igmp_mcf_seq_show};
use stack::net::ipv4::ping::ping_v4_seq_show;
use stack::net::ipv4::proc::{netstat_seq_show, snmp_seq_show, sockstat_seq_show};
use stack::net::ipv4::raw::raw_seq_show;
use stack::net::ipv4::tcp::tcp4_seq_show;
use stack::net::ipv4::udp::udp4_seq_show;
use stack::net::packet::af_packet::packet_seq_show;

/// Our text of a file and the kernel's.
fn both(path: &str, show: fn(&Machine) -> String) -> (String, String) {
    (show_of(show), std::fs::read_to_string(path).unwrap())
}

fn show_of(show: fn(&Machine) -> String) -> String {
    let runtime = Runtime::builder().cpus(2).boot().unwrap();
    let ours = show(runtime.machine());
    runtime.shutdown().unwrap();
    ours
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The names of each group, in order: from its first line.
fn names(text: &str) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (group, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let words = rest.split_whitespace().filter(|word| word.parse::<i64>().is_err());
        if !groups.iter().any(|(known, _)| known == group) {
            groups.push((group.to_owned(), words.map(str::to_owned).collect()));
        }
    }
    groups
}

/// Kernels have come to count more over time, and older ones lack some that we have.
#[test]
fn counters_have_the_kernels_names_in_the_kernels_order() {
    for (file, show) in [
        ("snmp", (|of| snmp_seq_show(of)) as fn(&Machine) -> String),
        ("netstat", |of| netstat_seq_show(of)),
        ("sockstat", |of| sockstat_seq_show(of)),
    ] {
        let (ours, theirs) = both(&format!("/proc/net/{file}"), show);
        let theirs = names(&theirs);
        for (group, ours) in names(&ours) {
            let Some((_, theirs)) = theirs.iter().find(|(known, _)| *known == group) else {
                assert_eq!(group, "UDPLITE", "only this one may be gone");
                continue;
            };
            let shared: Vec<_> = ours.iter().filter(|name| theirs.contains(name)).collect();
            let in_order: Vec<_> = theirs.iter().filter(|name| ours.contains(name)).collect();
            assert_eq!(shared, in_order, "{file} {group}");
            assert!(shared.len() * 10 >= ours.len() * 9, "{file} {group}: {shared:?}");
        }
        let parsed = parse(file, &show_of(show));
        assert!(parsed.as_object().unwrap().values().all(|group| group.is_object()), "{parsed}");
    }
}

#[test]
fn headings_are_the_kernels() {
    for (path, show) in [
        ("/proc/net/arp", (|of| arp_seq_show(of)) as fn(&Machine) -> String),
        ("/proc/net/route", |of| fib_route_seq_show(of)),
        ("/proc/net/tcp", |of| tcp4_seq_show(of)),
        ("/proc/net/udp", |of| udp4_seq_show(of)),
        ("/proc/net/raw", |of| raw_seq_show(of)),
        ("/proc/net/icmp", |of| ping_v4_seq_show(of)),
        ("/proc/net/packet", |of| packet_seq_show(of)),
        ("/proc/net/igmp", |of| igmp_mc_seq_show(of)),
        ("/proc/net/mcfilter", |of| igmp_mcf_seq_show(of)),
    ] {
        let (ours, theirs) = both(path, show);
        assert_eq!(ours.lines().next(), theirs.lines().next(), "{path}");
    }
    // Every host is in this group at lo.
    let (ours, theirs) = both("/proc/net/igmp", |of| igmp_mc_seq_show(of));
    let lo = |text: &str| text.lines().skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lo(&ours), lo(&theirs));
    let (ours, theirs) = both("/proc/net/dev", |of| dev_seq_show(of));
    let two = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(two(&ours), two(&theirs));
    let lo = |text: &str| parse("dev", text)["lo"].clone();
    assert_eq!(keys(&lo(&ours)), keys(&lo(&theirs)));
    // Columns end at the same place, as long as numbers fit them.
    let width = |text: &str| text.lines().find(|l| l.trim_start().starts_with("lo:")).map(str::len);
    assert!(width(&ours) <= width(&theirs));
}

#[test]
fn softirqs_and_interrupts_are_laid_out_as_the_kernels() {
    let (ours, theirs) = both("/proc/softirqs", show_softirqs);
    assert_eq!(keys(&parse("softirqs", &ours)), keys(&parse("softirqs", &theirs)));
    let starts = |text: &str| text.lines().nth(1).and_then(|line| line.find(':'));
    assert_eq!(starts(&ours), starts(&theirs));
    let (ours, theirs) = both("/proc/softirqs", show_softirqs);
    assert_eq!(ours.find("CPU0"), theirs.find("CPU0"));
    let (ours, theirs) = both("/proc/interrupts", show_interrupts);
    assert_eq!(ours.find("CPU1"), theirs.find("CPU0").map(|at| at + "CPU0".len() + 7));
    let (ours, theirs) = both("/proc/net/softnet_stat", softnet_seq_show);
    let columns = |text: &str| text.lines().next().map(|line| line.split(' ').count());
    assert!(columns(&ours) <= columns(&theirs), "{ours}{theirs}");
    let rows = parse("softnet_stat", &ours);
    assert_eq!((&rows[0]["cpu"], &rows[1]["cpu"]), (&0.into(), &1.into()));
}
