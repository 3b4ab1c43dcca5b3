//! Several CPUs and queues of `netkeel up`, steered and taken down under traffic.

use crate::control::{ask, refusal};
use crate::up::{HOST, US, Up, args, socket_to};
use host::testing::{Need, NetNs, in_fresh_netns, need, recv_from};
use netkeel::up::{UpArgs, UpError};
use serde_json::Value;
use std::net::UdpSocket;

/// A namespace with a machine of two CPUs that echoes, joined.
fn with_two(more: impl FnOnce(&mut UpArgs) + Send, f: impl FnOnce(&NetNs, &Up) + Send) {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let up = Up::start(args(|args| {
            (args.echo, args.cpus) = (true, 2);
            more(args);
        }));
        up.join(ns);
        f(ns, &up);
        up.stop().unwrap();
    });
}

/// Packets that each CPU has received from a device or another CPU, and calls it got for the latter.
fn softnet() -> Vec<(u64, u64)> {
    let columns: Value = serde_json::from_str(&ask("stat softnet_stat -j")).unwrap();
    let row =
        |row: &Value| (row["processed"].as_u64().unwrap(), row["received_rps"].as_u64().unwrap());
    columns.as_array().unwrap().iter().map(row).collect()
}

/// Each of many flows is echoed, again and again.
fn flows(count: usize) {
    let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind((HOST, 0)).unwrap()).collect();
    for round in 0..20u8 {
        for socket in &sockets {
            socket.send_to(&[round; 64], (US, 7)).unwrap();
        }
        for socket in &sockets {
            let mut data = [0; 128];
            let (len, _) = recv_from(socket, &mut data).unwrap();
            assert_eq!(data[..len], [round; 64]);
        }
    }
}

#[test]
fn several_cpus_share_the_services() {
    with_two(
        |args| args.cpus = 3,
        |_, _| {
            let socket = socket_to(7);
            for n in 0..100u8 {
                socket.send(&[n; 64]).unwrap();
                assert_eq!(host::testing::recv(&socket, &mut [0; 128]).unwrap(), 64);
            }
            let softnet = softnet();
            assert_eq!(softnet.len(), 3);
            assert!(softnet[0].0 >= 100);
            let echoes = ask("ss -ua").lines().filter(|line| line.contains(":7 ")).count();
            assert_eq!(echoes, 3, "one on every CPU");
        },
    );
}

#[test]
fn queues_bring_their_flows_to_their_cpus() {
    with_two(
        |args| args.queues = 2,
        |_, up| {
            assert!(up.out.text().contains("\n2 CPUs, 2 queues; the TAP must be multi_queue"));
            let before = softnet();
            // So many that both queues get some.
            flows(64);
            let after = softnet();
            for cpu in 0..2 {
                assert!(after[cpu].0 > before[cpu].0 + 20, "CPU {cpu}: {before:?} {after:?}");
            }
            assert_eq!((after[0].1, after[1].1), (0, 0), "nothing went from one to the other");
            let queues = ask("queue");
            let line = |start: &str| {
                let line = queues.lines().find(|line| line.starts_with(start)).expect(start);
                line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(line("nk0 rx-1"), "rps_cpus 0 rps_flow_cnt 0");
            assert_eq!(
                (line("nk0 tx-0").as_str(), line("nk0 tx-1").as_str()),
                ("xps_cpus 1", "xps_cpus 2")
            );
        },
    );
}

#[test]
fn a_tap_of_one_queue_is_named_with_the_way_out_and_several_are_told_in_the_greeting() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        ns.ip("tuntap add dev nk0 mode tap");
        let error = Up::try_start(args(|args| args.queues = 2)).err().unwrap();
        assert!(matches!(error, UpError::Tap(_)) && error.exit_code() == 1);
        let text = error.to_string();
        assert!(text.starts_with("TAP nk0 was created without multi_queue: ask for one"), "{text}");
        assert!(text.contains("add dev nk0 mode tap multi_queue user $USER"), "{text}");
        ns.ip("tuntap del dev nk0 mode tap");
        ns.ip("tuntap add dev nk0 mode tap multi_queue");
        let error = Up::try_start(args(|_| ())).err().unwrap().to_string();
        assert!(error.contains("with multi_queue: ask for several queues"), "{error}");
        Up::start_anew(&args(|args| args.queues = 2)).stop().unwrap();
    });
}

#[test]
fn steering_is_set_under_traffic_and_moves_it() {
    with_two(
        |_| (),
        |_, _| {
            flows(8);
            let before = softnet();
            assert_eq!(before[1], (0, 0), "one queue, one CPU");
            assert_eq!(ask("queue rx-0 rps_cpus"), "0\n");
            ask("queue dev nk0 rx-0 rps_cpus 2");
            assert_eq!(ask("queue rx-0 rps_cpus"), "2\n");
            flows(8);
            let after = softnet();
            assert!(after[1].0 >= 160 && after[1].1 > 0, "{after:?}");
            ask("queue rx-0 rps_cpus 0");
            ask("queue rx-0 rps_flow_cnt 1000");
            assert_eq!(ask("queue rx-0 rps_flow_cnt"), "1024\n");
            assert_eq!(
                ask("sysctl -w net.core.rps_sock_flow_entries=4096"),
                "net.core.rps_sock_flow_entries = 4096\n"
            );
            flows(8);
            let (code, said) = refusal("queue rx-7 rps_cpus 1");
            assert_eq!(
                (code, said.as_str()),
                (1, "nk0 has no queue \"rx-7\": it has rx-0 to rx-0, tx-0 to tx-0")
            );
            let lo: Value = serde_json::from_str(&ask("queue dev lo -j")).unwrap();
            assert_eq!(lo[0]["rps_cpus"], "0");
        },
    );
}

#[test]
fn cpus_are_taken_down_and_up_under_traffic() {
    with_two(
        |args| (args.queues, args.busy_poll) = (2, 50),
        |_, _| {
            assert_eq!(ask("cpu"), "online 0-1\ncpu0 1\ncpu1 1\n");
            for cpu in [0, 1, 0, 1] {
                flows(8);
                ask(&format!("cpu {cpu} online 0"));
                assert_eq!(ask(&format!("cpu {cpu} online")), "0\n");
                assert_eq!(ask("cpu").lines().next(), Some(["online 1", "online 0"][cpu]));
                let before = softnet();
                flows(8);
                let after = softnet();
                assert!(after[1 - cpu].0 >= before[1 - cpu].0 + 160, "{before:?} {after:?}");
                let other = 1 - cpu;
                let (code, said) = refusal(&format!("cpu {other} online 0"));
                assert_eq!(code, 1);
                assert!(said.starts_with(&format!("CPU {other}: it is the last")), "{said}");
                ask(&format!("cpu {cpu} online 1"));
            }
            flows(8);
            assert_eq!(refusal("cpu 2").1, "cpu: online is missing");
            assert_eq!(refusal("cpu 2 online").1, "there is no CPU 2: `netkeel cpu` lists them");
            assert_eq!(refusal("cpu 2 online 1").1, "there is no CPU 2: there are 0 to 1");
        },
    );
}

#[test]
fn a_tap_of_several_queues_deleted_under_traffic_ends_it_with_its_name() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let up = Up::start(args(|args| (args.echo, args.cpus, args.queues) = (true, 2, 4)));
        up.join(ns);
        flows(16);
        ns.ip("link del nk0");
        let out = up.out.clone();
        out.wait_for("nk0: deleted\nnk0: rx_packets");
        let error = up.stop().unwrap_err();
        assert!(matches!(error, UpError::Gone(_)), "{error:?}");
    });
}
