//! Namespaces of a running machine, as a user makes and joins them.

use crate::control::{ask, refusal};
use crate::up::{HOST, US, tool, with_up};
use host::testing::{Need, need};

#[test]
fn a_namespace_behind_a_machine_answers_the_host_and_has_settings_of_its_own() {
    if !need(Need::Tool("ping")) {
        return;
    }
    with_up(|ns, _| {
        for order in [
            "netns add blue",
            "link add veth0 type veth peer name eth0 netns blue",
            "addr add 10.0.0.1/24 dev veth0",
            "link set veth0 up",
            "addr -N blue add 10.0.0.2/24 dev eth0",
            "link -N blue set eth0 up",
            "route -N blue add default via 10.0.0.1",
            "sysctl net.ipv4.ip_forward=1",
        ] {
            ask(order);
        }
        ns.ip(&format!("route add 10.0.0.0/24 via {US}"));
        tool(&["ping", "-c", "2", "-W", "5", "10.0.0.2"]);
        assert_eq!(ask("netns"), "blue (id: 1)\n");
        // Each has its own of everything.
        assert!(ask("neigh -N blue").starts_with("10.0.0.1 dev eth0 lladdr "));
        assert!(!ask("neigh -N blue").contains(&HOST.to_string()));
        let echoes = |of: &str| {
            ask(of)
                .lines()
                .filter(|line| line.starts_with("Icmp:"))
                .nth(1)
                .and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
        };
        assert_eq!((echoes("stat -N blue snmp"), echoes("stat snmp")), (Some(2), Some(0)));
        assert!(ask("sysctl -N blue net.ipv4.ip_forward").ends_with("= 0\n"));
        ask("sysctl -N blue net.ipv4.icmp_echo_ignore_all=1");
        assert!(ask("sysctl net.ipv4.icmp_echo_ignore_all").ends_with("= 0\n"));
        tool(&["ping", "-c", "1", "-W", "5", &US.to_string()]);
        // What people get wrong is said with the way out.
        for (order, part) in [
            ("netns add blue", "there is a namespace \"blue\" already"),
            ("addr -N green", "no namespace \"green\": there are blue"),
            ("addr -N blue add 10.0.0.3/24", "which device of the namespace?"),
            ("link add veth0 type veth peer x", "there is a device veth0 or x already"),
            ("link del nk0", "nk0 is no device that can be taken away"),
            ("link set lo netns blue", "lo stays"),
            ("link set veth0 netns green", "no namespace \"green\""),
        ] {
            let (_, said) = refusal(order);
            assert!(said.contains(part), "{order}: {said}");
        }
        // The pair goes with one of its ends.
        ask("netns add green");
        ask("link set veth0 netns green");
        assert!(!ask("link").contains("veth0"));
        assert!(ask("link -N green").contains("veth0"));
        ask("netns del green");
        assert!(!ask("link -N blue").contains("eth0"));
        ask("netns del blue");
        assert_eq!(ask("netns"), "");
    });
}
