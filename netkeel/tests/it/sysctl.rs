//! Files of settings: all of a file or nothing.

use crate::control::{ask, refusal};
use crate::pcap::Scratch;
use crate::up::{Up, args, with_up, with_up_of};
use netkeel::up::UpError;

fn file(name: &str, text: &str) -> Scratch {
    let file = Scratch::new(name);
    std::fs::write(&file.0, text).unwrap();
    file
}

#[test]
fn a_file_is_set_whole_or_not_at_all() {
    with_up(|_, _| {
        let good = file(
            "good.conf",
            "# a router\nnet.ipv4.conf.nk0.forwarding = 1\nnet/ipv4/tcp_rmem = 4096 65536 1000000\n-net.none = 1\n",
        );
        let said = ask(&format!("sysctl -p {}", good.path()));
        assert_eq!(
            said,
            "net.ipv4.conf.nk0.forwarding = 1\nnet.ipv4.tcp_rmem = 4096\t65536\t1000000\n"
        );
        ask("sysctl net.ipv4.ip_forward=0");
        ask("sysctl net.ipv4.conf.nk0.forwarding=1");
        let before = ask("sysctl");
        for (bad, place, what) in [
            ("net.ipv4.ip_forward = 1\nnet.none = 1\n", ":2:1: ", "there is no setting"),
            (
                "net.ipv4.conf.all.forwarding = 1\nnet.ipv4.conf.default.rp_filter = 1\nnet.none = 1\n",
                ":3:1: ",
                "there is no setting",
            ),
            (
                "net.ipv4.conf.nk0.forwarding = 0\nnet.ipv4.ip_default_ttl = 0\n",
                ":2:1: ",
                "ip_default_ttl can't be \"0\"",
            ),
            (
                "net.ipv4.conf.nk0.forwarding = 0\n  net.none = 1\n",
                ":2:3: ",
                "there is no setting \"net.none\"",
            ),
            (
                "net.ipv4.tcp_rmem = 1 2\nnet.ipv4.tcp_available_congestion_control = x\n",
                ":2:1: ",
                "can only be read",
            ),
        ] {
            let bad = file("bad.conf", bad);
            let (code, said) = refusal(&format!("sysctl -p {}", bad.path()));
            assert!(code == 1 && said.contains(&format!("{}{place}", bad.path())), "{said}");
            assert!(said.contains(what) && said.ends_with("; nothing was changed"), "{said}");
            assert_eq!(ask("sysctl"), before, "{said}");
        }
        let bad = file("none.conf", "net.ipv4.ip_default_ttl\n");
        let (code, said) = refusal(&format!("sysctl -p {}", bad.path()));
        assert!(code == 2 && said.contains(":1:1: a value is missing"), "{said}");
        let (code, said) = refusal("sysctl -p /nowhere.conf");
        assert!(code == 2 && said.contains("can't read /nowhere.conf"), "{said}");
        assert_eq!(ask("sysctl"), before);
    });
}

/// Whatever can be read back can be written back.
#[test]
fn every_setting_takes_what_it_says() {
    with_up(|_, _| {
        let before = ask("sysctl");
        let all =
            file("all.conf", &before.lines().map(|line| format!("-{line}\n")).collect::<String>());
        let set = ask(&format!("sysctl -p {}", all.path()));
        let refused: Vec<&str> = before.lines().filter(|line| !set.contains(line)).collect();
        // Those that can only be read.
        assert!(
            refused.iter().all(|line| line.contains("available") || line.contains("rps_")),
            "{refused:?}"
        );
        assert_eq!(ask("sysctl"), before);
    });
}

#[test]
fn a_machine_begins_with_the_settings_of_a_file() {
    let good = file("up.conf", "net.ipv4.ip_default_ttl = 77\nnet.ipv4.conf.nk0.rp_filter = 2\n");
    let path = good.0.clone();
    with_up_of(
        |args| args.sysctl = Some(path),
        |_, _| {
            assert_eq!(ask("sysctl net.ipv4.ip_default_ttl"), "net.ipv4.ip_default_ttl = 77\n");
            assert_eq!(
                ask("sysctl net.ipv4.conf.nk0.rp_filter"),
                "net.ipv4.conf.nk0.rp_filter = 2\n"
            );
            let bad = file("up-bad.conf", "net.ipv4.ip_default_ttl = 64\nnet.none = 1\n");
            let error = Up::try_start(args(|args| {
                args.tap = "nk1".to_owned();
                args.control = None;
                args.sysctl = Some(bad.0.clone());
            }));
            let Err(UpError::Usage(said)) = error else { panic!("it started") };
            assert!(said.contains(":2:1: there is no setting \"net.none\""), "{said}");
        },
    );
}

const OF_DEVICES: [&str; 9] = [
    "accept_local",
    "accept_source_route",
    "arp_accept",
    "arp_ignore",
    "arp_notify",
    "forwarding",
    "promote_secondaries",
    "route_localnet",
    "rp_filter",
];

/// `all`, `default` and a device's own: written alike on the host's kernel and here, they read alike.
#[test]
fn settings_of_all_and_default_are_the_kernels() {
    with_up(|_, _| {
        let kernel = |whose: &str, name: &str| format!("/proc/sys/net/ipv4/conf/{whose}/{name}");
        let write = |whose: &str, name: &str, value: &str| {
            std::fs::write(kernel(whose, name), value).unwrap();
            ask(&format!("sysctl net.ipv4.conf.{whose}.{name}={value}"));
        };
        let same = |what: &str| {
            for whose in ["all", "default", "nk0", "lo"] {
                for name in OF_DEVICES {
                    let theirs = std::fs::read_to_string(kernel(whose, name)).unwrap();
                    let ours = ask(&format!("sysctl net.ipv4.conf.{whose}.{name}"));
                    let ours = ours.split(" = ").nth(1).unwrap();
                    assert_eq!(ours, theirs, "{whose}.{name}, {what}");
                }
            }
            let theirs = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            assert_eq!(
                ask("sysctl net.ipv4.ip_forward"),
                format!("net.ipv4.ip_forward = {theirs}"),
                "{what}"
            );
        };
        for whose in ["all", "default", "nk0", "lo"] {
            OF_DEVICES.iter().for_each(|name| write(whose, name, "0"));
        }
        same("all of them off");
        for (whose, name, value) in [
            ("all", "forwarding", "1"),
            ("nk0", "forwarding", "0"),
            ("all", "forwarding", "1"),
            ("all", "forwarding", "0"),
            ("default", "forwarding", "1"),
            ("all", "rp_filter", "2"),
            ("nk0", "rp_filter", "1"),
            ("default", "rp_filter", "1"),
            ("all", "arp_ignore", "8"),
            ("lo", "accept_local", "1"),
            ("default", "accept_local", "1"),
            ("all", "route_localnet", "1"),
            ("all", "accept_source_route", "1"),
            ("nk0", "accept_source_route", "1"),
        ] {
            write(whose, name, value);
            same(&format!("{whose}.{name} = {value}"));
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        ask("sysctl net.ipv4.ip_forward=1");
        same("ip_forward = 1");
    });
}
