use super::super::wire::{Cpu, Feature, Features, Link, Neigh, Queue, Route, Stat};
use super::*;
use serde::de::DeserializeOwned;

/// A machine without a TAP: loopback stands for its device.
fn with_machine(test: impl FnOnce(&Target<'_>)) {
    let runtime = Runtime::builder().cpus(2).boot().unwrap();
    let lo = Arc::clone(runtime.machine().tables().net.dev_by_name("lo").unwrap());
    let names = Names::default();
    test(&Target { runtime: &runtime, dev: &lo, names: &names, net: NetId::INIT });
    runtime.shutdown().unwrap();
}

fn op(json: &str) -> Op {
    serde_json::from_str(json).unwrap()
}

fn ok<T: DeserializeOwned>(target: &Target<'_>, json: &str) -> T {
    serde_json::from_value(target.serve(op(json)).unwrap()).unwrap()
}

fn refusal(target: &Target<'_>, json: &str) -> (&'static str, String) {
    let refusal = target.serve(op(json)).unwrap_err();
    assert!(!refusal.message.contains('\n'), "{refusal:?}");
    (refusal.errno.symbol().unwrap(), refusal.message)
}

#[test]
fn addresses_come_and_go_with_their_routes() {
    with_machine(|target| {
        let lo = |target: &Target<'_>| {
            let links: Vec<Link> = ok(target, r#"{"op":"addr.show","dev":"lo"}"#);
            links[0].addr_info.clone().unwrap().into_iter().map(|a| a.local).collect::<Vec<_>>()
        };
        assert_eq!(lo(target), ["127.0.0.1"]);
        ok::<Value>(target, r#"{"op":"addr.add","addr":"192.0.2.9/32"}"#);
        assert_eq!(lo(target), ["127.0.0.1", "192.0.2.9"]);
        let routes: Vec<Route> = ok(target, r#"{"op":"route.show","table":"local"}"#);
        assert!(routes.iter().any(|route| route.dst == "192.0.2.9"));
        let (errno, text) = refusal(target, r#"{"op":"addr.add","addr":"192.0.2.9/32"}"#);
        assert_eq!((errno, text.as_str()), ("EEXIST", "lo has 192.0.2.9/32 already"));
        let (errno, _) = refusal(target, r#"{"op":"addr.del","addr":"192.0.2.9/24"}"#);
        assert_eq!(errno, "EADDRNOTAVAIL");
        ok::<Value>(target, r#"{"op":"addr.del","addr":"192.0.2.9/32"}"#);
        assert_eq!(lo(target), ["127.0.0.1"]);
        ok::<Value>(target, r#"{"op":"addr.add","addr":"127.0.0.2/8"}"#);
        let links = target.serve(op(r#"{"op":"addr.show","dev":"lo"}"#)).unwrap();
        let infos = &links[0]["addr_info"];
        assert_eq!((&infos[0]["secondary"], &infos[1]["secondary"]), (&Value::Null, &true.into()));
    });
}

#[test]
fn routes_are_found_added_and_refused() {
    with_machine(|target| {
        let way: Route = ok(target, r#"{"op":"route.get","dst":"127.0.0.1"}"#);
        assert_eq!((way.kind.as_deref(), way.dev.as_deref()), (Some("local"), Some("lo")));
        assert_eq!(refusal(target, r#"{"op":"route.get","dst":"198.51.100.1"}"#).0, "ENETUNREACH");
        ok::<Value>(target, r#"{"op":"route.add","dst":"198.51.100.0/24","dev":"lo","metric":7}"#);
        let routes: Vec<Route> = ok(target, r#"{"op":"route.show"}"#);
        assert_eq!(routes.len(), 1);
        assert_eq!((routes[0].dst.as_str(), routes[0].metric), ("198.51.100.0/24", Some(7)));
        for (json, errno, part) in [
            (r#"{"op":"route.add","dst":"198.51.100.0/24","dev":"lo","metric":7}"#, "EEXIST", ""),
            (r#"{"op":"route.add","dst":"198.51.100.1/24","dev":"lo"}"#, "EINVAL", "198.51.100.0"),
            (r#"{"op":"route.add","dst":"default"}"#, "EINVAL", "name the way"),
            (r#"{"op":"route.add","dst":"default","via":"1.1.1.1"}"#, "ENETUNREACH", "no link"),
            (r#"{"op":"route.del","dst":"default"}"#, "ESRCH", "no such route"),
            (r#"{"op":"route.show","table":"x"}"#, "EINVAL", "main, local, default"),
        ] {
            let (found, text) = refusal(target, json);
            assert_eq!(found, errno, "{json}");
            assert!(text.contains(part), "{text}");
        }
        ok::<Value>(target, r#"{"op":"route.del","dst":"198.51.100.0/24","metric":7}"#);
        assert!(ok::<Vec<Route>>(target, r#"{"op":"route.show"}"#).is_empty());
    });
}

#[test]
fn neighbours_are_added_replaced_and_taken_away() {
    with_machine(|target| {
        let add = r#"{"op":"neigh.add","addr":"192.0.2.7","lladdr":"02:00:00:00:00:07"}"#;
        ok::<Value>(target, add);
        let show = r#"{"op":"neigh.show"}"#;
        let there: Vec<Neigh> = ok(target, show);
        assert_eq!(there[0].lladdr.as_deref(), Some("02:00:00:00:00:07"));
        assert_eq!(there[0].state, ["PERMANENT"]);
        assert_eq!(refusal(target, add).0, "EEXIST");
        assert_eq!(ok::<usize>(target, r#"{"op":"neigh.flush"}"#), 0, "it was not learnt");
        for wrong in ["", "02:00", "02:00:00:00:00:00:01", "03:00:00:00:00:01", "0x:0:0:0:0:1"] {
            let json = format!(r#"{{"op":"neigh.add","addr":"192.0.2.8","lladdr":"{wrong}"}}"#);
            assert_eq!(refusal(target, &json).0, "EINVAL", "{wrong}");
        }
        let del = r#"{"op":"neigh.del","addr":"192.0.2.7"}"#;
        ok::<Value>(target, del);
        assert_eq!(refusal(target, del).0, "ENOENT");
    });
}

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    with_machine(|target| {
        let (errno, text) = refusal(target, r#"{"op":"link.set","dev":"nk9","up":true}"#);
        assert_eq!(errno, "ENODEV");
        assert_eq!(text, "device \"nk9\" does not exist: there are lo");
    });
}

#[test]
fn interrupts_keep_to_cpus_that_there_are() {
    with_machine(|target| {
        let (errno, _) = refusal(target, r#"{"op":"irq.set","irq":9,"affinity":"1"}"#);
        assert_eq!(errno, "ENOENT");
        assert_eq!(ok::<Vec<Value>>(target, r#"{"op":"irq.show"}"#).len(), 0, "lo has none");
    });
}

#[test]
fn cpus_go_down_and_come_up_but_the_last_stays() {
    with_machine(|target| {
        let set = |cpu, online| format!(r#"{{"op":"cpu.set","cpu":{cpu},"online":{online}}}"#);
        let online = || {
            let all: Vec<Cpu> = ok(target, r#"{"op":"cpu.show"}"#);
            all.into_iter().map(|cpu| cpu.online).collect::<Vec<_>>()
        };
        assert_eq!(online(), [true, true]);
        assert_eq!(ok::<Cpu>(target, &set(0, false)), Cpu { cpu: 0, online: false });
        assert_eq!(ok::<Cpu>(target, &set(0, false)), Cpu { cpu: 0, online: false }, "no error");
        assert_eq!(online(), [false, true]);
        let (errno, text) = refusal(target, &set(1, false));
        let last = "CPU 1: it is the last that is online: bring another online first";
        assert_eq!((errno, text.as_str()), ("EBUSY", last));
        let (errno, text) = refusal(target, &set(2, false));
        assert_eq!((errno, text.as_str()), ("EINVAL", "there is no CPU 2: there are 0 to 1"));
        assert_eq!(refusal(target, &set(255, true)).0, "EINVAL");
        ok::<Cpu>(target, &set(0, true));
        assert_eq!(online(), [true, true]);
    });
}

#[test]
fn queues_are_shown_set_and_refused() {
    with_machine(|target| {
        let all: Vec<Queue> = ok(target, r#"{"op":"queue.show"}"#);
        assert_eq!(all.iter().map(|q| q.queue.as_str()).collect::<Vec<_>>(), ["rx-0", "tx-0"]);
        assert_eq!(all[0].get("rps_cpus").as_deref(), Some("0"));
        assert_eq!(all[0].get("rps_flow_cnt").as_deref(), Some("0"));
        assert_eq!((all[0].get("xps_cpus"), all[1].get("xps_cpus")), (None, Some("0".to_owned())));
        let set = |queue: &str, name: &str, value: &str| {
            format!(r#"{{"op":"queue.set","queue":"{queue}","name":"{name}","value":"{value}"}}"#)
        };
        let queue: Queue = ok(target, &set("tx-0", "xps_cpus", "fe"));
        assert_eq!(queue.xps_cpus.as_deref(), Some("2"), "those that the machine has");
        for (queue, name, value, errno, part) in [
            ("rx-0", "rps_cpus", "3", "EOPNOTSUPP", "packets of lo are not steered"),
            ("rx-0", "rps_flow_cnt", "65537", "EINVAL", "write 0 to 65536"),
            ("rx-0", "rps_flow_cnt", "-1", "EINVAL", "write 0 to 65536"),
            ("rx-0", "rps_cpus", "x", "EINVAL", "is not a group"),
            ("rx-0", "xps_cpus", "1", "ENOENT", "it has rps_cpus and rps_flow_cnt"),
            ("rx-1", "rps_cpus", "1", "ENOENT", "it has rx-0 to rx-0, tx-0 to tx-0"),
            ("rx-65536", "rps_cpus", "1", "ENOENT", "no queue"),
            ("rx", "rps_cpus", "1", "ENOENT", "no queue"),
        ] {
            let (found, text) = refusal(target, &set(queue, name, value));
            assert_eq!(found, errno, "{text}");
            assert!(text.contains(part), "{text}");
        }
    });
}

#[test]
fn features_are_shown_switched_and_refused() {
    with_machine(|target| {
        let shown: Features = ok(target, r#"{"op":"features.show"}"#);
        assert_eq!(shown.ifname, "lo");
        let feature = |of: &Features, name: &str| of.features[name];
        let sums = feature(&shown, "tx-checksum-ip-generic");
        assert_eq!(sums, Feature { active: true, fixed: true, requested: true });
        let set = |features: &str| format!(r#"{{"op":"features.set","features":{{{features}}}}}"#);
        let off: Features = ok(target, &set(r#""tso":false,"tx-udp-segmentation":false"#));
        let told = Feature { active: false, fixed: false, requested: false };
        assert_eq!(feature(&off, "tx-tcp-segmentation"), told);
        assert_eq!(feature(&off, "tx-udp-segmentation"), told);
        assert_eq!(ok::<Features>(target, &set("")), off, "nothing asked, nothing done");
        ok::<Features>(target, &set(r#""sg":true"#));
        let on: Features = ok(target, &set(r#""tso":true,"tx-udp-segmentation":true"#));
        assert_eq!(on, shown);
        for (features, errno, part) in [
            (r#""sg":false"#, "EOPNOTSUPP", "lo can't switch sg: `netkeel features dev lo`"),
            (r#""lro":true"#, "EINVAL", "no feature \"lro\": write rx, tx, sg, tso, gso, gro"),
            (r#""tso":true,"tx-tcp-segmentation":false"#, "EINVAL", "on and off"),
        ] {
            let (found, text) = refusal(target, &set(features));
            assert_eq!(found, errno, "{text}");
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(ok::<Features>(target, r#"{"op":"features.show","dev":"lo"}"#), shown);
    });
}

#[test]
fn the_table_of_readers_is_a_setting() {
    with_machine(|target| {
        let name = "net.core.rps_sock_flow_entries";
        let set = |value| format!(r#"{{"op":"sysctl.set","name":"{name}","value":"{value}"}}"#);
        let rounded: Vec<Value> = ok(target, &set("1000"));
        assert_eq!(rounded[0]["value"], "1024");
        assert_eq!(target.m().net().rps_sock_flow_table.entries(), 1024);
        let text = refusal(target, &set("99999")).1;
        assert_eq!(text, format!("{name} can't be \"99999\": write 0 to 65536"));
        ok::<Value>(target, &set("0"));
        assert!(!target.m().net().rps_sock_flow_table.on());
    });
}

#[test]
fn settings_are_listed_read_and_set() {
    with_machine(|target| {
        let ttl = "net.ipv4.ip_default_ttl";
        let set = |value| format!(r#"{{"op":"sysctl.set","name":"{ttl}","value":"{value}"}}"#);
        ok::<Value>(target, &set("9"));
        assert_eq!(target.m().tables().net.sysctl.ip_default_ttl, 9);
        assert_eq!(refusal(target, &set("0")).1, format!("{ttl} can't be \"0\": write 1 to 255"));
        let below: Vec<Value> = ok(target, r#"{"op":"sysctl.get","name":"net.ipv4.neigh"}"#);
        assert_eq!(below.len(), 11);
        assert_eq!(refusal(target, r#"{"op":"sysctl.get","name":"net.ipv4.ne"}"#).0, "ENOENT");
        let conf = r#"{"op":"sysctl.set","name":"net.ipv4.conf.lo.rp_filter","value":"2"}"#;
        ok::<Value>(target, conf);
    });
}

#[test]
fn every_file_of_statistics_has_lines() {
    with_machine(|target| {
        for (name, ..) in look::FILES {
            let stat: Stat = ok(target, &format!(r#"{{"op":"stat","file":"{name}"}}"#));
            // A list without headings, of servers that nobody has met here.
            if *name == "tcp_metrics" {
                assert_eq!(stat.text, "");
                continue;
            }
            assert!(stat.text.ends_with('\n') && stat.text.len() > 10, "{name}: {}", stat.text);
        }
        let (errno, text) = refusal(target, r#"{"op":"stat","file":"nothing"}"#);
        assert_eq!(errno, "ENOENT");
        assert!(text.contains("interrupts, softirqs, dev, snmp"), "{text}");
    });
}

#[test]
fn namespaces_are_made_named_and_taken_away() {
    with_machine(|target| {
        for (name, errno) in [("", "EINVAL"), ("a b", "EINVAL"), ("a/b", "EINVAL"), (".", "EINVAL")]
        {
            let add = format!(r#"{{"op":"netns.add","name":"{name}"}}"#);
            assert_eq!(refusal(target, &add).0, errno, "{name:?}");
        }
        assert_eq!(refusal(target, r#"{"op":"netns.del","name":"blue"}"#).0, "ENOENT");
        ok::<Value>(target, r#"{"op":"netns.add","name":"blue"}"#);
        let pair = r#"{"op":"link.add","dev":"veth%d","peer":"eth%d","peer_netns":"blue"}"#;
        assert_eq!(ok::<[String; 2]>(target, pair), ["veth0", "eth0"]);
        let long = r#"{"op":"link.add","dev":"sixteen-or-longer","peer":"p"}"#;
        assert_eq!(refusal(target, long).0, "EINVAL");
        let same = r#"{"op":"link.add","dev":"p","peer":"p"}"#;
        assert_eq!(refusal(target, same).0, "EINVAL");
        let both = r#"{"op":"link.set","dev":"veth0","netns":"blue","up":true}"#;
        assert_eq!(refusal(target, both).0, "EINVAL", "one thing at a time");
        let Target { runtime, dev, names, net } = *target;
        let there = Target { runtime, dev, names, net }.in_netns(Some("blue")).unwrap();
        let links: Vec<Link> = ok(&there, r#"{"op":"link.show"}"#);
        assert_eq!(links.iter().map(|link| &*link.ifname).collect::<Vec<_>>(), ["lo", "eth0"]);
        ok::<Value>(&there, r#"{"op":"sysctl.set","name":"net.ipv4.ip_default_ttl","value":"7"}"#);
        let ttl = r#"{"op":"sysctl.get","name":"net.ipv4.ip_default_ttl"}"#;
        assert_eq!(there.serve(op(ttl)).unwrap()[0]["value"], "7");
        assert_eq!(target.serve(op(ttl)).unwrap()[0]["value"], "64");
        ok::<Value>(&there, r#"{"op":"link.set","dev":"eth0","netns":""}"#);
        let links: Vec<Link> = ok(target, r#"{"op":"link.show"}"#);
        let names: Vec<&str> = links.iter().map(|link| &*link.ifname).collect();
        assert_eq!(names, ["lo", "veth0", "eth0"], "it came to the first namespace");
        ok::<Value>(target, r#"{"op":"link.del","dev":"veth0"}"#);
        let links: Vec<Link> = ok(target, r#"{"op":"link.show"}"#);
        assert_eq!(links.len(), 1, "its peer went along");
        ok::<Value>(target, r#"{"op":"netns.del","name":"blue"}"#);
    });
}
