//! Addresses of a device and their routes: the same orders to the host's kernel and to a machine, and the same
//! answers of both.

use crate::control::{ask, netkeel};
use crate::up::with_up;
use host::testing::{Need, need};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Orders of `ip` about a device; `promote 1` sets `promote_secondaries`.
const ORDERS: &[&str] = &[
    "addr add 10.0.0.1/24",
    "addr add 10.0.0.2/24",
    "addr add 10.0.0.2/24",
    "addr add 10.0.0.3/25",
    "addr add 10.0.0.1/25",
    "addr add 10.0.0.200/24",
    "addr add 10.3.0.1/16",
    "route add 198.51.100.0/24 via 10.0.0.77",
    "addr del 10.0.0.200/25",
    "addr del 10.0.0.200/24",
    "addr del 10.0.0.1/24",
    "addr add 10.0.0.1/24",
    "addr add 10.0.0.2/24",
    "addr add 10.0.0.9/24",
    "addr add 10.4.0.1/31",
    "addr add 10.4.0.0/31",
    "addr add 10.5.0.1/32",
    "addr add 10.5.0.2/32",
    "addr add 127.5.5.5/8",
    "addr add 127.5.5.6/8",
    "link down",
    "addr add 10.0.0.10/24",
    "link up",
    "promote 1",
    "addr del 10.0.0.1/24",
    "addr del 10.4.0.1/31",
    "addr del 10.0.0.10/24",
    "addr del 127.5.5.5/8",
    "addr add 10.0.0.1/24",
    "addr del 10.0.0.2/24",
    "promote 0",
    "addr del 10.0.0.9/24",
    "addr del 10.3.0.1/16",
    "addr del 10.0.0.3/25",
    "addr del 10.0.0.1/25",
    "addr del 10.4.0.0/31",
    "addr del 10.5.0.1/32",
    "addr del 10.5.0.2/32",
    "route add 203.0.113.0/24 via 192.0.2.77",
    "addr del 127.5.5.6/8",
    "addr del 192.0.2.2/24",
];

/// Does it on the host; whether it could be done.
fn on_host(order: &str) -> bool {
    let words: Vec<&str> = order.split(' ').collect();
    let ip = |words: &[&str]| Command::new("ip").args(words).output().unwrap().status.success();
    match words[..] {
        ["promote", value] => {
            for dev in ["all", "v0"] {
                let file = format!("/proc/sys/net/ipv4/conf/{dev}/promote_secondaries");
                std::fs::write(file, if dev == "all" { "0" } else { value }).unwrap();
            }
            true
        }
        ["link", state] => ip(&["link", "set", "v0", state]),
        ["addr", "add", addr] if !addr.ends_with("/31") && !addr.ends_with("/32") => {
            ip(&["addr", "add", addr, "brd", "+", "dev", "v0"])
        }
        _ => ip(&[&words[..], &["dev", "v0"]].concat()),
    }
}

/// Does it on the machine.
fn on_ours(order: &str) -> bool {
    let order = match order.split_once(' ') {
        Some(("promote", value)) => {
            format!("sysctl -w net.ipv4.conf.nk0.promote_secondaries={value}")
        }
        Some(("link", state)) => format!("link set nk0 {state}"),
        _ => format!("{order} dev nk0"),
    };
    netkeel(&order).output().unwrap().status.success()
}

/// Addresses in their order: address, prefix, broadcast, scope, and whether it is secondary.
fn addrs(text: &str) -> Vec<String> {
    let links: Value = serde_json::from_str(text).unwrap();
    let of = |info: &Value| {
        ["local", "prefixlen", "broadcast", "scope", "secondary"].map(|key| info[key].to_string())
    };
    // Of a device without addresses `ip` says nothing.
    let infos = links[0]["addr_info"].as_array();
    infos.into_iter().flatten().map(|info| of(info).join(" ")).collect()
}

/// Routes: kind, destination, gateway, table, scope, source; whether the device has a carrier at the moment is not
/// asked.
fn routes(text: &str, dev: &str) -> BTreeSet<String> {
    let routes: Value = serde_json::from_str(text).unwrap();
    let keys = ["type", "dst", "gateway", "table", "scope", "prefsrc"];
    let routes = routes.as_array().unwrap().iter();
    routes
        .filter(|route| route["dev"] == *dev)
        .map(|route| keys.map(|key| route[key].to_string()).join(" "))
        .collect()
}

/// Orders as if drawn by lot, about few addresses in networks that lie in each other.
fn drawn(count: usize) -> Vec<String> {
    let mut state = 2_463_534_242_u32;
    let mut below = |most: u32| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % most
    };
    let order = |_| match below(16) {
        0 => format!("promote {}", below(2)),
        1 => format!("link {}", ["up", "down"][below(2) as usize]),
        2 => format!("route add 198.51.{}.0/24 via 10.0.0.77", below(100)),
        what => {
            let net = ["10.0.0", "10.0.1", "127.5.5"][below(3) as usize];
            let len = [8, 16, 24, 25, 31, 32][below(6) as usize];
            let verb = if what < 9 { "del" } else { "add" };
            format!("addr {verb} {net}.{}/{len}", [1, 2, 3, 130][below(4) as usize])
        }
    };
    (0..count).map(order).collect()
}

#[test]
fn addresses_and_their_routes_are_as_the_kernel_has_them() {
    if !need(Need::Tool("ip")) {
        return;
    }
    with_up(|ns, _| {
        ns.ip("link add v0 type veth peer name v1");
        ns.ip("link set v1 up");
        assert!(on_host("link up") && on_host("promote 0") && on_host("addr add 192.0.2.2/24"));
        let (mut done, mut went) = (Vec::new(), 0);
        let orders = ORDERS.iter().map(|order| (*order).to_owned()).chain(drawn(150));
        for order in orders {
            let order = order.as_str();
            let (host, ours) = (on_host(order), on_ours(order));
            done.push(order.to_owned());
            assert_eq!(ours, host, "{order} goes, after {done:?}");
            went += u32::from(ours);
            let ip = |words: &[&str]| {
                String::from_utf8(Command::new("ip").args(words).output().unwrap().stdout).unwrap()
            };
            let (host, ours) =
                (ip(&["-4", "-j", "addr", "show", "dev", "v0"]), ask("addr show dev nk0 --json"));
            assert_eq!(addrs(&ours), addrs(&host), "after {done:?}");
            let (host, ours) = (
                ip(&["-4", "-j", "route", "show", "table", "all"]),
                ask("route show table all --json"),
            );
            assert_eq!(routes(&ours, "nk0"), routes(&host, "v0"), "after {done:?}");
        }
        println!("{went} of {} orders changed something", done.len());
        assert!(went > 80, "{went} of {} changed something", done.len());
    });
}
