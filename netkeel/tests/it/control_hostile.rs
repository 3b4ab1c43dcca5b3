//! Clients of the control socket that send rubbish, too much or nothing, stall or vanish: the machine
//! and its traffic go on.

use crate::control::{Client, ask};
use crate::up::{CONTROL, socket_to, with_up};
use host::testing::recv;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Traffic goes on while `hostile` does what it does.
fn traffic_goes_on(hostile: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let echoes = scope.spawn(|| {
            let (socket, mut count) = (socket_to(7), 0u64);
            // At least once after it was done, too.
            loop {
                let last = done.load(Ordering::SeqCst);
                socket.send(&count.to_be_bytes()).unwrap();
                let mut buf = [0; 16];
                assert_eq!(recv(&socket, &mut buf).unwrap(), 8);
                assert_eq!(buf[..8], count.to_be_bytes());
                count += 1;
                if last {
                    return;
                }
            }
        });
        hostile();
        done.store(true, Ordering::SeqCst);
        echoes.join().unwrap();
    });
    assert!(ask("addr").contains("192.0.2.2/24"), "and it still answers");
}

#[test]
fn rubbish_is_named_and_the_connection_goes_on() {
    with_up(|_, _| {
        traffic_goes_on(|| {
            let mut client = Client::new();
            assert_eq!(client.refused(b"\x00\xff\xfe\x80 rubbish\n"), "EINVAL");
            assert_eq!(client.refused(b"{\"id\":1}\n"), "EINVAL");
            assert_eq!(client.refused(b"{\"netkeel\":99,\"op\":\"sockets\"}\n"), "EPROTONOSUPPORT");
            let deep = ["{\"a\":".repeat(10_000).as_bytes(), b"\n"].concat();
            assert_eq!(client.refused(&deep), "EINVAL");
            client.say(b"\n\n{\"id\":4,\"op\":\"sockets\"}\n");
            let answer = client.line();
            assert_eq!((&answer["id"], answer["ok"].as_array().unwrap().len()), (&4.into(), 6));
            // In pieces, and several in one.
            for octet in b"{\"id\":5,\"op\":\"sockets\"}\n{\"id\":6,\"op\":\"irq.show\"}\n{\"id\"" {
                client.say(&[*octet]);
            }
            assert_eq!(
                (client.line()["id"].as_u64(), client.line()["id"].as_u64()),
                (Some(5), Some(6))
            );
        });
    });
}

#[test]
fn random_octets_do_no_harm() {
    with_up(|_, _| {
        traffic_goes_on(|| {
            // A generator of no quality at all will do.
            let mut state = 1u32;
            let mut octets = [0u8; 4096];
            for _ in 0..64 {
                for octet in &mut octets {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *octet = (state >> 24) as u8;
                }
                let mut stream = UnixStream::connect(CONTROL).unwrap();
                let _cut =
                    stream.write_all(&octets).and_then(|()| stream.shutdown(Shutdown::Write));
                // Until it has been let go: too many at a time would be turned away, and who asks next.
                let _reset = stream.read_to_end(&mut Vec::new());
            }
        });
    });
}

#[test]
fn a_request_without_end_is_cut_off_at_its_bound() {
    with_up(|_, _| {
        traffic_goes_on(|| {
            let mut client = Client::new();
            let chunk = vec![b'x'; 1 << 20];
            let mut sent = 0u64;
            let error = loop {
                match client.0.get_mut().write(&chunk) {
                    Ok(count) => sent += count as u64,
                    Err(e) => break e.kind(),
                }
                assert!(sent < 1 << 30, "it reads for ever");
            };
            assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
            assert!(sent < 2 << 20, "{sent} octets taken");
        });
    });
}

#[test]
fn thousands_who_connect_are_served_or_turned_away() {
    let output = with_up(|_, _| {
        traffic_goes_on(|| {
            let mut kept: Vec<Client> = (0..32).map(|_| Client::new()).collect();
            for _ in 0..1000 {
                let mut stream = UnixStream::connect(CONTROL).unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).unwrap();
                assert!(said.contains("\"EBUSY\"") && said.contains("close one"), "{said}");
            }
            let (code, said) = crate::control::refusal("addr");
            assert_eq!(
                (code, said.as_str()),
                (1, "32 connections are open, and no more may be: close one")
            );
            for client in &mut kept {
                client.say(b"{\"id\":1,\"op\":\"sockets\"}\n");
                assert_eq!(client.line()["id"], 1);
            }
            drop(kept);
            for _ in 0..1000 {
                // The places of those that left may not be free yet.
                let mut stream = UnixStream::connect(CONTROL).unwrap();
                assert_ne!(stream.read(&mut [0; 100]).unwrap(), 0);
            }
        });
    });
    if let Some(output) = output {
        let line = output.lines().find(|line| line.starts_with("control socket: ")).unwrap();
        assert!(line.contains("0 cut off for not reading, 1"), "{line}");
    }
}

#[test]
fn who_does_not_read_or_vanishes_costs_nothing_but_its_connection() {
    let output = with_up(|_, _| {
        traffic_goes_on(|| {
            // Asks for much, and reads nothing of it.
            let mut greedy = Client::new();
            let ask = b"{\"op\":\"stat\",\"file\":\"snmp\"}\n".repeat(100);
            let error = loop {
                if let Err(e) = greedy.0.get_mut().write_all(&ask) {
                    break e.kind();
                }
            };
            assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
            // Vanish in the middle of an answer, some in the middle of a question.
            for n in 0..200 {
                let mut client = Client::new();
                client.say(&ask[..ask.len() - n % 40]);
                let _ = client.0.get_mut().read(&mut [0; 100]);
            }
        });
    });
    if let Some(output) = output {
        assert!(output.contains("control socket: 1 cut off for not reading"), "{output}");
    }
}
