use crate::up::{HOST, US, Up, args, counter, socket_to, tool, with_up};
use host::testing::{Need, NetNs, in_fresh_netns, need, recv};
use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn the_host_pings_a_hundred_times_without_loss() {
    if !need(Need::Tool("ping")) {
        return;
    }
    let output = with_up(|_, _| {
        let text = tool(&["ping", "-n", "-q", "-c", "100", "-i", "0.01", "192.0.2.2"]);
        assert!(text.contains(" 0% packet loss"), "{text}");
        let rtt = text.lines().find(|line| line.starts_with("rtt")).unwrap_or_default();
        println!("{rtt}");
        let largest = ["ping", "-n", "-c", "5", "-i", "0.01", "-M", "do", "-s", "1472"];
        let text = tool(&[&largest[..], &["192.0.2.2"]].concat());
        assert!(text.contains(" 0% packet loss"), "{text}");
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "InEchos"), 105);
    assert_eq!(counter(&output, "OutEchoReps"), 105);
}

#[test]
fn datagrams_of_every_size_come_back() {
    let output = with_up(|_, _| {
        let socket = socket_to(7);
        let data: Vec<u8> = (0..1472u32).map(|n| (n * 31) as u8).collect();
        for size in 0..=1472 {
            socket.send(&data[..size]).unwrap();
            let mut buf = [0; 2048];
            let got = recv(&socket, &mut buf).unwrap();
            assert_eq!(buf[..got], data[..size]);
        }
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "InDatagrams"), counter(&output, "OutDatagrams"));
    assert_eq!(counter(&output, "InErrors"), 0);
}

/// In 45 fragments each way.
#[test]
fn the_host_pings_with_the_largest_packets() {
    if !need(Need::Tool("ping")) {
        return;
    }
    let output = with_up(|_, _| {
        for size in ["1473", "8000", "65507"] {
            let text = tool(&["ping", "-n", "-c", "5", "-i", "0.01", "-s", size, "192.0.2.2"]);
            assert!(text.contains(" 0% packet loss"), "{text}");
        }
    });
    let Some(output) = output else { return };
    assert_eq!((counter(&output, "InEchos"), counter(&output, "OutEchoReps")), (15, 15));
    assert_eq!((counter(&output, "ReasmOKs"), counter(&output, "FragOKs")), (15, 15));
    assert_eq!(counter(&output, "ReasmReqds"), 5 * (2 + 6 + 45));
    assert_eq!(counter(&output, "FragCreates"), counter(&output, "ReasmReqds"));
}

#[test]
fn datagrams_longer_than_the_mtu_come_back() {
    let output = with_up(|_, _| {
        let socket = socket_to(7);
        let data: Vec<u8> = (0..65_507u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let sizes = (1473..65_507).step_by(3001).chain([65_506, 65_507]);
        for size in sizes {
            socket.send(&data[..size]).unwrap();
            let mut buf = vec![0; 70_000];
            let got = recv(&socket, &mut buf).unwrap();
            assert_eq!(got, size);
            assert!(buf[..got] == data[..size], "{size}");
        }
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "InDatagrams"), counter(&output, "OutDatagrams"));
    assert_eq!(counter(&output, "ReasmOKs"), counter(&output, "FragOKs"));
    assert_eq!((counter(&output, "InErrors"), counter(&output, "ReasmFails")), (0, 0));
}

/// What is not on the link goes to the gateway: here to the host, which has the address.
#[test]
fn the_gateway_takes_what_is_not_on_the_link() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    let ping = |ns: &NetNs, with_gateway: bool| {
        let up = Up::start_anew(&args(|args| {
            args.echo = true;
            args.gw = with_gateway.then(|| HOST.to_string());
        }));
        up.join(ns);
        let socket = UdpSocket::bind(("198.51.100.7", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(b"from afar", (US, 7)).unwrap();
        let answered = recv(&socket, &mut [0; 16]);
        up.stop().unwrap();
        answered.map_err(|error| error.kind())
    };
    in_fresh_netns(|ns| {
        ns.ip("link set lo up");
        ns.ip("addr add 198.51.100.7/32 dev lo");
        assert_eq!(ping(ns, true), Ok(9));
        assert_eq!(ping(ns, false), Err(ErrorKind::WouldBlock), "no way back");
    });
}

#[test]
fn many_datagrams_in_flight_come_back() {
    with_up(|_, _| {
        let socket = socket_to(7);
        let start = std::time::Instant::now();
        const ROUNDS: u32 = 500;
        for round in 0..ROUNDS {
            for n in 0..16 {
                socket.send(&(round * 16 + n).to_be_bytes()).unwrap();
            }
            for n in 0..16 {
                let mut buf = [0; 16];
                assert_eq!(recv(&socket, &mut buf).unwrap(), 4);
                assert_eq!(buf[..4], (round * 16 + n).to_be_bytes(), "in order");
            }
        }
        let rate = f64::from(ROUNDS * 16) / start.elapsed().as_secs_f64();
        println!("{rate:.0} datagrams echoed a second, 16 in flight");
    });
}

#[test]
fn a_closed_port_is_refused() {
    let output = with_up(|_, _| {
        let socket = socket_to(4);
        socket.send(b"anybody there?").unwrap();
        let error = recv(&socket, &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "NoPorts"), 1);
    assert_eq!(counter(&output, "OutDestUnreachs"), 1);
    assert_eq!(counter(&output, "NO_SOCKET"), 1);
}

#[test]
fn chargen_answers_and_discard_does_not() {
    with_up(|_, _| {
        let discard = socket_to(9);
        discard.send(b"into the void").unwrap();
        let chargen = socket_to(19);
        for _ in 0..50 {
            chargen.send(b"").unwrap();
            let mut buf = [0; 1024];
            let len = recv(&chargen, &mut buf).unwrap();
            assert!(len <= 512);
            let printing = |c: &u8| matches!(c, b' '..=b'~' | b'\r' | b'\n');
            assert!(buf[..len].iter().all(printing));
        }
        discard.set_nonblocking(true).unwrap();
        assert_eq!(recv(&discard, &mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// Two such services would keep each other talking for ever.
#[test]
fn another_service_is_not_answered() {
    with_up(|_, _| {
        let service = UdpSocket::bind((HOST, 19)).unwrap();
        service.send_to(b"x", (US, 7)).unwrap();
        // The socket's queue is in order: had there been an answer, it would be here now.
        let other = socket_to(7);
        other.send(b"y").unwrap();
        assert_eq!(recv(&other, &mut [0; 16]).unwrap(), 1);
        service.set_nonblocking(true).unwrap();
        assert_eq!(recv(&service, &mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn arping_is_answered() {
    if !need(Need::Tool("arping")) {
        return;
    }
    with_up(|_, _| {
        let text = tool(&["arping", "-c", "3", "-I", "nk0", "192.0.2.2"]);
        assert!(text.to_lowercase().contains("02:4b:c0:00:02:02"), "{text}");
    });
}

#[test]
fn traceroute_finds_one_hop() {
    if !need(Need::Tool("traceroute")) {
        return;
    }
    with_up(|_, _| {
        let text = tool(&["traceroute", "-n", "-q", "3", "192.0.2.2"]);
        let hops: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(hops.len(), 1, "{text}");
        assert!(hops[0].contains("192.0.2.2") && hops[0].contains("ms"), "{text}");
    });
}

#[test]
fn nc_talks_to_the_echo_service() {
    if !need(Need::Tool("nc")) {
        return;
    }
    with_up(|_, _| {
        let mut nc = Command::new("nc")
            .args(["-u", "-w", "1", "192.0.2.2", "7"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        nc.stdin.take().unwrap().write_all(b"hello, world\n").unwrap();
        let output = nc.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"hello, world\n");
    });
}
