use crate::up::{Up, args, counter, socket_to, tool, with_up};
use host::testing::{Need, in_fresh_netns, need, recv};
use netkeel::up::serve;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn a_clean_stop_prints_the_counters_under_linuxs_names() {
    let output = with_up(|_, up| {
        let greeting = up.out.text();
        assert!(
            greeting.starts_with("nk0: address 192.0.2.2/24, MAC 02:4b:c0:00:02:02, MTU 1500,"),
            "{greeting}"
        );
        assert!(greeting.contains("services on UDP and TCP: echo 7, discard 9, chargen 19"));
        let socket = socket_to(7);
        socket.send(b"x").unwrap();
        recv(&socket, &mut [0; 8]).unwrap();
    });
    let Some(output) = output else { return };
    for group in ["Ip:", "Udp:"] {
        assert!(output.lines().any(|line| line == group), "{output}");
    }
    assert!(counter(&output, "rx_packets") >= 2, "{output}");
    assert!(counter(&output, "tx_packets") >= 2, "{output}");
    assert_eq!((counter(&output, "InDatagrams"), counter(&output, "OutDatagrams")), (1, 1));
}

#[test]
fn the_walk_of_a_ping_is_printed_and_of_nothing_else() {
    if !(need(Need::Root)
        && need(Need::DevNetTun)
        && need(Need::Tool("ip"))
        && need(Need::Tool("ping")))
    {
        return;
    }
    in_fresh_netns(|ns| {
        let up = Up::start(args(|args| args.walk = Some("icmp and host 192.0.2.1".to_owned())));
        up.join(ns);
        tool(&["ping", "-n", "-c", "1", "192.0.2.2"]);
        up.out.wait_for(" tun_net_xmit ");
        let output = up.stop().unwrap();
        let stations: Vec<&str> = output
            .lines()
            .filter(|line| line.contains(" cpu0 "))
            .filter_map(|line| line.split_whitespace().nth(3))
            .collect();
        let at = |name| stations.iter().position(|station| *station == name);
        // On a busy host the ARP before it can have the poll handed to ksoftirqd, which needs no interrupt then.
        let begin = at("tun_interrupt").or(at("run_ksoftirqd"));
        let [poll, rcv, icmp, echo] = ["tun_poll", "ip_rcv", "icmp_rcv", "icmp_echo"].map(at);
        let order = [begin, poll, rcv, icmp, echo];
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{output}");
        assert_eq!(at("arp_rcv"), None, "{output}");
        assert_eq!(at("udp_rcv"), None, "{output}");
    });
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    if !(need(Need::Root) && need(Need::DevNetTun)) {
        return;
    }
    in_fresh_netns(|_| {
        let (end, _stop) = std::io::pipe().unwrap();
        let (reader, mut out) = std::io::pipe().unwrap();
        drop(reader);
        assert!(out.write_all(b"x").is_err());
        serve(&args(|_| ()), &mut out, &end).unwrap();
    });
}

/// The program itself, stopped as Ctrl-C does.
#[test]
fn a_signal_stops_the_command_cleanly() {
    if !(need(Need::Root) && need(Need::DevNetTun)) {
        return;
    }
    in_fresh_netns(|_| {
        for signal in ["INT", "TERM"] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_netkeel"))
                .args(["up", "--tap", "nk0", "--addr", "192.0.2.2/24", "--echo"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            // Signals are caught from before the first line on.
            assert!(lines.next().unwrap().unwrap().starts_with("nk0: address"));
            tool(&["sh", "-c", &format!("kill -{signal} {}", child.id())]);
            let rest: Vec<String> = lines.map(Result::unwrap).collect();
            assert!(rest.iter().any(|line| line.starts_with("nk0: rx_packets")), "{rest:?}");
            assert!(child.wait().unwrap().success());
        }
    });
}
