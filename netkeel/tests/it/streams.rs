//! The small services on TCP, judged by the host's kernel and its own programs.

use crate::control::ask;
use crate::up::{HANG, US, counter, tool, with_up, with_up_of};
use host::testing::{Need, need};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// A connection of the host's to this port of ours.
pub fn stream_to(port: u16) -> TcpStream {
    let stream =
        TcpStream::connect_timeout(&SocketAddr::from((US, port)), HANG).expect("it listens");
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.set_write_timeout(Some(HANG)).unwrap();
    stream
}

/// Octets that show when they are out of their order.
fn octets(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_mebibyte_comes_back_from_echo_and_the_end_after_it() {
    let output = with_up(|_, _| {
        let (mut stream, data) = (stream_to(7), octets(1 << 20));
        let mut writer = stream.try_clone().unwrap();
        let sent = data.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            // Ours is closed; theirs still brings what is on its way.
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == data, "{} octets of {}", got.len(), data.len());
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "PassiveOpens"), 1, "{output}");
}

#[test]
fn discard_takes_ten_mebibytes_and_says_nothing() {
    with_up(|_, _| {
        let mut stream = stream_to(9);
        stream.write_all(&octets(10 << 20)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"");
    });
}

/// Whether these are RFC 864's lines, from the first on.
fn assert_is_pattern(text: &[u8]) {
    for (n, line) in text.chunks(74).enumerate() {
        let expected: Vec<u8> = (0..72).map(|at| b' ' + ((n + at) % 95) as u8).collect();
        let expected = [&expected[..], b"\r\n"].concat();
        assert_eq!(line, &expected[..line.len()], "line {n}");
    }
}

#[test]
fn chargen_sends_lines_until_it_is_left() {
    with_up(|_, _| {
        for _ in 0..2 {
            let mut stream = stream_to(19);
            // What is said to it is thrown away.
            stream.write_all(b"stop").unwrap();
            let mut got = vec![0; 1 << 20];
            stream.read_exact(&mut got).unwrap();
            assert_is_pattern(&got);
        }
        // Half-closed: it ends as well, with whole words.
        let mut stream = stream_to(19);
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_is_pattern(&got);
    });
}

/// BBR on the system's clock: at a pace that TCP keeps itself, and at one that the device's discipline keeps.
#[test]
fn lines_come_at_a_pace() {
    for (qdisc, options) in [("pfifo_fast", ""), ("fq", " flow_limit 50 quantum 6000")] {
        let output = with_up_of(
            |args| args.qdisc = Some(format!("{qdisc}{options}")),
            |_, _| {
                assert!(ask("link").contains(&format!("qdisc {qdisc} ")), "{}", ask("link"));
                ask("sysctl net.ipv4.tcp_congestion_control=bbr");
                let mut stream = stream_to(19);
                let mut got = vec![0; 4 << 20];
                stream.read_exact(&mut got).unwrap();
                assert_is_pattern(&got);
                let told = ask("ss -tin");
                for part in [" bbr ", " bbr:(bw:", " pacing_rate "] {
                    assert!(told.contains(part), "{part}: {told}");
                }
            },
        );
        let Some(output) = output else { return };
        assert_eq!(counter(&output, "TCPTimeouts"), 0, "{output}");
    }
}

#[test]
fn curl_reads_the_lines() {
    if !need(Need::Tool("curl")) {
        return;
    }
    with_up(|_, _| {
        let got = tool(&["sh", "-c", "curl -sN telnet://192.0.2.2:19 </dev/null | head -c 74000"]);
        assert_eq!(got.len(), 74_000);
        assert_is_pattern(got.as_bytes());
        let got = tool(&["sh", "-c", "echo hello | curl -sN -m 2 telnet://192.0.2.2:7 || true"]);
        assert_eq!(got, "hello\n");
    });
}

#[test]
fn where_nobody_listens_the_connection_is_refused() {
    let output = with_up(|_, _| {
        let refused = TcpStream::connect((US, 8)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "OutRsts"), 1, "{output}");
}

/// Clients at the same time: all have connected before one says a word.
const CLIENTS: usize = 200;

#[test]
fn two_hundred_at_once_are_all_answered() {
    let output = with_up(|_, _| {
        let all_there = Barrier::new(CLIENTS);
        let client = |number: usize| {
            let mut stream = stream_to(7);
            all_there.wait();
            let sent: Vec<u8> =
                octets(10 << 10).into_iter().map(|octet| octet ^ number as u8).collect();
            for piece in sent.chunks(1000) {
                stream.write_all(piece).unwrap();
                thread::yield_now();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == sent, "client {number}: {} octets", got.len());
        };
        thread::scope(|scope| {
            let client = &client;
            (0..CLIENTS).for_each(|number| {
                scope.spawn(move || client(number));
            });
        });
    });
    let Some(output) = output else { return };
    assert_eq!(counter(&output, "PassiveOpens"), CLIENTS as u64, "{output}");
    // What comes for a connection that is over is answered by a RST (a FIN that was probed for comes twice).
    assert_eq!(counter(&output, "EstabResets"), 0, "{output}");
}

/// Connections of a service.
pub const MOST: usize = 1024;

/// Who has said nothing for the longest time goes.
#[test]
fn one_more_connection_than_a_service_has_takes_the_place_of_the_idlest() {
    if !need(Need::OpenFiles) {
        return;
    }
    with_up(|_, _| {
        let says = |stream: &mut TcpStream| {
            stream.write_all(b"hello").unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
        };
        let mut streams: Vec<TcpStream> = (0..MOST).map(|_| stream_to(7)).collect();
        for stream in &mut streams {
            says(stream);
        }
        // The first has something to say again: the second is the idlest.
        says(&mut streams[0]);
        let mut more = stream_to(7);
        says(&mut more);
        assert_eq!(streams[1].read(&mut [0; 8]).unwrap(), 0, "it was ended in good order");
        for (n, stream) in streams.iter_mut().enumerate().filter(|(n, _)| *n != 1) {
            stream.set_nonblocking(true).unwrap();
            let waits = stream.read(&mut [0; 8]).unwrap_err();
            assert_eq!(waits.kind(), ErrorKind::WouldBlock, "connection {n}");
        }
    });
}

/// Who sends and reads nothing holds up nobody, and gets all that it sent once it reads.
#[test]
fn who_does_not_read_has_its_echo_kept() {
    with_up(|_, _| {
        let mut slow = stream_to(7);
        slow.set_nonblocking(true).unwrap();
        let (data, mut sent, mut since) = (octets(64 << 20), 0, Instant::now());
        // Until nothing goes any more: all buffers on the way are full.
        while since.elapsed() < Duration::from_millis(300) {
            match slow.write(&data[sent..]) {
                Ok(len) => (sent, since) = (sent + len, Instant::now()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(sent < data.len(), "it is bounded");
        }
        let mut other = stream_to(7);
        other.write_all(b"hello").unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        other.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"hello");
        slow.set_nonblocking(false).unwrap();
        slow.shutdown(Shutdown::Write).unwrap();
        got.clear();
        slow.read_to_end(&mut got).unwrap();
        assert!(got == data[..sent], "{} octets of {sent}", got.len());
    });
}
