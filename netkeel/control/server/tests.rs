//! The server without a machine: every request is answered by what it asked.

use super::super::wire::Op;
use super::*;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// Answers with a text of the length that is asked for as a setting's name.
#[derive(Default)]
struct Desk {
    gone: Vec<usize>,
}

impl Served for Desk {
    fn serve(&mut self, _client: usize, request: Request) -> Result<Value, Refusal> {
        match request.op {
            Op::SysctlGet { name: Some(length) } => Ok("x".repeat(length.parse().unwrap()).into()),
            other => Ok(json!(other)),
        }
    }

    fn gone(&mut self, client: usize) {
        self.gone.push(client);
    }
}

struct Bed {
    server: Server,
    waiter: Arc<Waiter>,
    desk: Desk,
    path: PathBuf,
}

impl Bed {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nk-srv-{}-{name}", std::process::id()));
        let waiter = Arc::new(Waiter::new().unwrap());
        let server = Server::start(&path, "nk0", &waiter).unwrap();
        Self { server, waiter, desk: Desk::default(), path }
    }

    /// Serves until nothing is left to do.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for token in self.waiter.wait(Some(Duration::ZERO)).unwrap() {
                idle = false;
                assert!(self.server.reported(token, &mut self.desk));
            }
            if idle {
                return;
            }
        }
    }

    /// A client that has been greeted. What it does never waits.
    fn client(&mut self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut client = BufReader::new(stream);
        self.settle();
        assert!(line(&mut client).unwrap().starts_with("{\"netkeel\":1,"));
        client
    }
}

/// The next line; `None`: nothing came, or the end.
fn line(client: &mut BufReader<UnixStream>) -> Option<String> {
    let mut text = String::new();
    match client.read_line(&mut text) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(text),
    }
}

fn is_closed(client: &mut BufReader<UnixStream>) -> bool {
    matches!(client.read(&mut [0; 1]), Ok(0))
}

#[test]
fn pieces_of_lines_are_put_together_and_answered_in_order() {
    let mut bed = Bed::new("pieces");
    let mut client = bed.client();
    for piece in
        ["{\"id\":1,\"op\":\"cpu.", "show\"}\n \n{\"id\":2,\"op\":\"irq.show\"}\n{\"id\"", ":3"]
    {
        client.get_mut().write_all(piece.as_bytes()).unwrap();
        bed.settle();
    }
    assert_eq!(line(&mut client).as_deref(), Some("{\"id\":1,\"ok\":{\"op\":\"cpu.show\"}}\n"));
    assert_eq!(line(&mut client).as_deref(), Some("{\"id\":2,\"ok\":{\"op\":\"irq.show\"}}\n"));
    assert_eq!(line(&mut client), None);
    drop(client);
    bed.settle();
    assert_eq!(bed.desk.gone, [0]);
    assert_eq!(bed.server.counts(), Counts::default());
}

#[test]
fn who_has_gone_unnoticed_leaves_his_place_to_the_next() {
    let mut bed = Bed::new("gone");
    let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| bed.client()).collect();
    let mut late = BufReader::new(UnixStream::connect(&bed.path).unwrap());
    bed.settle();
    assert!(line(&mut late).is_some() && line(&mut late).unwrap().contains("\"EBUSY\""));
    // The listener is looked at before the one who has gone.
    drop(clients.swap_remove(5));
    let stream = UnixStream::connect(&bed.path).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut next = BufReader::new(stream);
    assert!(bed.server.reported(LISTENER, &mut bed.desk));
    assert!(line(&mut next).unwrap().starts_with("{\"netkeel\":1,"));
    assert_eq!(line(&mut next), None);
    assert_eq!((bed.desk.gone, bed.server.counts().refused), (vec![5], 1));
}

#[test]
fn a_line_that_does_not_end_is_refused_and_the_client_with_it() {
    let mut bed = Bed::new("long");
    let mut client = bed.client();
    let mut sent = 0;
    while bed.desk.gone.is_empty() {
        sent += client.get_mut().write(&[b'x'; 10_000]).unwrap_or(0);
        bed.settle();
        assert!(sent < 2 * MAX_LINE);
    }
    assert!(line(&mut client).unwrap().contains("\"EMSGSIZE\""));
    // The longest that is allowed.
    let mut client = bed.client();
    let mut request = b"{\"op\":\"sockets\"}".to_vec();
    request.resize(MAX_LINE - 1, b' ');
    request.push(b'\n');
    for piece in request.chunks(10_000) {
        client.get_mut().write_all(piece).unwrap();
        bed.settle();
    }
    assert!(line(&mut client).unwrap().contains("\"ok\""));
}

#[test]
fn who_does_not_read_is_cut_off_at_the_bound_and_counted() {
    let mut bed = Bed::new("greedy");
    let mut client = bed.client();
    let mut asked = 0;
    while bed.desk.gone.is_empty() {
        client.get_mut().write_all(b"{\"op\":\"sysctl.get\",\"name\":\"100000\"}\n").unwrap();
        asked += 1;
        bed.settle();
        assert!(asked < 100, "it buffers for ever");
    }
    assert!(asked > 10, "what fits waits: {asked}");
    assert_eq!(bed.server.counts(), Counts { cut_off: 1, refused: 0 });
}

#[test]
fn who_reads_late_gets_everything() {
    let mut bed = Bed::new("late");
    let mut client = bed.client();
    for _ in 0..8 {
        client.get_mut().write_all(b"{\"op\":\"sysctl.get\",\"name\":\"100000\"}\n").unwrap();
    }
    bed.settle();
    assert!(bed.server.pace().is_some(), "it is looked after");
    let mut got = 0;
    while got < 8 * 100_000 {
        let mut chunk = [0; 10_000];
        got += client.read(&mut chunk).unwrap_or(0);
        bed.settle();
    }
    assert_eq!(bed.server.pace(), None);
    assert!(bed.desk.gone.is_empty());
}

#[test]
fn the_thirty_third_is_turned_away_until_one_leaves() {
    let mut bed = Bed::new("many");
    let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| bed.client()).collect();
    let mut late = bed.client();
    assert!(line(&mut late).unwrap().contains("\"EBUSY\""));
    assert!(is_closed(&mut late));
    clients.pop();
    bed.settle();
    let mut next = bed.client();
    next.get_mut().write_all(b"{\"op\":\"sockets\"}\n").unwrap();
    bed.settle();
    assert!(line(&mut next).unwrap().contains("\"ok\""));
    assert_eq!(bed.server.counts(), Counts { cut_off: 0, refused: 1 });
}

#[test]
fn events_leave_room_for_answers() {
    let mut bed = Bed::new("events");
    let mut client = bed.client();
    let event = [&vec![b'e'; 10_000][..], b"\n"].concat();
    let mut told = 0;
    while bed.server.tell(0, &event) {
        told += 1;
        bed.server.send(0, &mut bed.desk);
        assert!(told < 1000, "events pile up");
    }
    client.get_mut().write_all(b"{\"id\":9,\"op\":\"sockets\"}\n").unwrap();
    bed.settle();
    let (mut text, mut chunk) = (Vec::new(), [0; 50_000]);
    let ends = |text: &[u8]| text.iter().filter(|octet| **octet == b'\n').count();
    while ends(&text) <= told {
        let read = client.read(&mut chunk).unwrap_or(0);
        text.extend_from_slice(&chunk[..read]);
        bed.settle();
    }
    let answer = &text[told * event.len()..];
    assert!(answer.starts_with(b"{\"id\":9,"), "behind the events, and none of them is lost");
    assert!(bed.desk.gone.is_empty());
}
