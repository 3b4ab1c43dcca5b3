//! `netkeel dump`: frames of a running machine, told over its socket, printed and written.

use crate::control::{Client, netkeel, refusal};
use crate::pcap::Scratch;
use crate::up::{HANG, socket_to, tool, with_up};
use host::testing::{Need, need, recv};
use std::process::{Child, Output, Stdio};
use std::time::Instant;

/// A datagram to the echo service and back.
fn echo(text: &[u8]) {
    let socket = socket_to(7);
    socket.send(text).unwrap();
    recv(&socket, &mut [0; 64]).unwrap();
}

/// Sends datagrams until the command has ended by itself.
fn fed(mut command: Child) -> Output {
    let start = Instant::now();
    while command.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < HANG, "it did not end");
        echo(b"hello");
    }
    command.wait_with_output().unwrap()
}

fn start(words: &[&str]) -> Child {
    let mut command = netkeel("dump");
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn frames_come_over_the_socket_as_they_pass() {
    with_up(|_, _| {
        let mut client = Client::new();
        client.say(b"{\"op\":\"dump.attach\",\"filter\":\"udp port 7\",\"snaplen\":46}\n");
        assert!(client.line()["error"].is_null());
        echo(b"hello");
        for out in [false, true] {
            let frame = client.line();
            assert_eq!(
                (&frame["event"], &frame["dev"]),
                (&"frame".into(), &"nk0".into()),
                "{frame}"
            );
            assert_eq!((&frame["out"], &frame["len"]), (&out.into(), &47.into()), "{frame}");
            let octets = frame["octets"].as_str().unwrap();
            assert!(octets.len() == 92 && octets.ends_with("68656c6c"), "cut: {frame}");
        }
        client.say(b"{\"id\":1,\"op\":\"dump.detach\"}\n");
        let said = client.line();
        assert_eq!(
            (&said["ok"]["received"], &said["ok"]["dropped"]),
            (&2.into(), &0.into()),
            "{said}"
        );
        echo(b"nobody looks");
        client.say(b"{\"id\":2,\"op\":\"dump.detach\"}\n");
        assert_eq!(client.line()["ok"]["received"], 0);
    });
}

#[test]
fn lines_and_files_are_those_of_tcpdump() {
    if !need(Need::Tool("tcpdump")) {
        return;
    }
    with_up(|_, _| {
        let out = fed(start(&["-t", "-c", "4", "-i", "nk0", "udp", "port", "7"]));
        let text = String::from_utf8(out.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for line in lines {
            let there = line.starts_with("IP 192.0.2.1.")
                && line.ends_with(" > 192.0.2.2.7: UDP, length 5");
            let back = line.starts_with("IP 192.0.2.2.7 > 192.0.2.1.")
                && line.ends_with(": UDP, length 5");
            assert!(there || back, "{line}");
        }
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(
            said.contains("4 packets captured") && said.contains("0 packets dropped"),
            "{said}"
        );

        let file = Scratch::new("dump.pcapng");
        let out = fed(start(&["-w", file.path(), "-c", "2", "udp[4:2] = 13"]));
        assert!(out.status.success() && out.stdout.is_empty());
        let text = tool(&["tcpdump", "-n", "-t", "-r", file.path()]);
        assert_eq!(text.matches("UDP, length 5").count(), 2, "{text}");
    });
}

#[test]
fn mistakes_are_told_in_a_line() {
    with_up(|_, _| {
        for (words, code, said) in [
            ("dump tcp prot 7", 2, "expression \"tcp prot 7\", column 5: "),
            ("dump -i nk9", 1, "device \"nk9\" does not exist: there are lo, nk0"),
            ("dump -c 0", 2, "0 is not in 1.."),
            ("dump -w /nowhere/at/all.pcapng", 1, "can't write /nowhere/at/all.pcapng: "),
        ] {
            let (had, text) = refusal(words);
            assert!(had == code && text.contains(said), "{words}: {had} {text}");
        }
        let mut client = Client::new();
        assert_eq!(client.refused(b"{\"op\":\"dump.attach\",\"filter\":\"tcp[\"}\n"), "EINVAL");
        // Who looks on costs a place until he goes; a place is free at once.
        let mut others: Vec<Client> = (0..8).map(|_| Client::new()).collect();
        for other in &mut others {
            other.say(b"{\"op\":\"dump.attach\"}\n");
            assert!(other.line()["error"].is_null());
        }
        assert_eq!(client.refused(b"{\"op\":\"dump.attach\"}\n"), "EBUSY");
        others[3].say(b"{\"id\":9,\"op\":\"dump.detach\"}\n");
        while others[3].line()["id"] != 9 {}
        client.say(b"{\"op\":\"dump.attach\",\"filter\":\"igmp\"}\n");
        assert!(client.line()["error"].is_null());
    });
}

/// Who does not read loses frames, which are counted, is let go in the end, and costs the others nothing.
#[test]
fn attack_a_dump_that_is_not_read() {
    with_up(|_, up| {
        let mut client = Client::new();
        client.say(b"{\"op\":\"dump.attach\"}\n");
        client.line();
        let start = Instant::now();
        // Five seconds and the buffers of the connection.
        while start.elapsed().as_secs() < 7 {
            echo(&[7; 60]);
        }
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut client.0, &mut rest).unwrap();
        assert!(rest.len() < 4 << 20, "bounded: {}", rest.len());
        assert!(!up.is_finished());
    });
}
