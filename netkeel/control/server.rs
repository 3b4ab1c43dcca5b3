//! The connections of the control socket, served on the event loop of `netkeel up`.
//!
//! Key types: [`Server`], [`Served`]. Contexts: the thread of that loop; nothing here waits.
//! Invariants: a turn reads at most [`TURN`] octets of one client; what waits for a client that does
//! not read is bounded, then the client is cut off, which is counted.

use super::wire::{Hello, Refusal, Request, answer, parse_request, to_line};
use super::{MAX_CLIENTS, MAX_LINE, MAX_OUTPUT, VERSION};
use host::clock::monotonic_ns;
use host::private_socket::{Peer, PrivateListener, SocketError};
use host::wait::{Interest, Token, Trigger, Waiter};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;

/// The listener's token; a client's is so many plus its number.
pub(crate) const LISTENER: Token = Token(16);
const CLIENTS: u64 = LISTENER.0 + 1;
/// Octets read of one client before others have their turn.
const TURN: usize = 16 << 10;
/// Connections accepted before others have their turn.
const ACCEPTS: usize = 64;
/// A watcher that takes nothing for so long is cut off.
const STALL_NS: u64 = 5_000_000_000;
/// So long after one could not be accepted the next is tried.
const RETRY: Duration = Duration::from_millis(100);
/// Room that answers need beside events.
const FOR_ANSWERS: usize = MAX_OUTPUT / 2;

/// What requests are answered by.
pub(crate) trait Served {
    /// Does what a client asks for.
    fn serve(&mut self, client: usize, request: Request) -> Result<Value, Refusal>;
    /// A client is gone.
    fn gone(&mut self, client: usize);
}

/// How it has gone, for the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Clients that were cut off because they did not read.
    pub(crate) cut_off: u64,
    /// Connections turned away: too many at a time, or another user's.
    pub(crate) refused: u64,
}

/// The socket and who is connected.
#[derive(Debug)]
pub(crate) struct Server {
    listener: PrivateListener,
    waiter: Arc<Waiter>,
    hello: Vec<u8>,
    clients: Vec<Option<Client>>,
    counts: Counts,
    /// Accepting failed; it is to be tried again.
    retry: bool,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// So much of the output is written.
    written: usize,
    /// When it last took something, or had nothing to take.
    took: u64,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Closed,
    /// It does not read.
    CutOff,
}

impl Server {
    /// Listens at `path` for who wants to ask the machine of this name.
    ///
    /// # Errors
    /// [`SocketError`].
    pub(crate) fn start(path: &Path, machine: &str, w: &Arc<Waiter>) -> Result<Self, SocketError> {
        let listener = PrivateListener::bind(path)?;
        let hello = to_line(&Hello {
            netkeel: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: machine.to_owned(),
            pid: std::process::id(),
        });
        let refused = |source| SocketError::System { path: path.to_owned(), source };
        w.add(&listener, LISTENER, Trigger::OneShot).map_err(refused)?;
        let clients = (0..MAX_CLIENTS).map(|_| None).collect();
        let (waiter, counts) = (Arc::clone(w), Counts::default());
        Ok(Self { listener, waiter, hello, clients, counts, retry: false })
    }

    pub(crate) fn path(&self) -> &Path {
        self.listener.path()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How long a wait may last at most on its account.
    pub(crate) fn pace(&self) -> Option<Duration> {
        let waits = |client: &Client| !client.output.is_empty();
        let behind = self.clients.iter().flatten().any(waits);
        if self.retry { Some(RETRY) } else { behind.then_some(Duration::from_secs(1)) }
    }

    /// A client has not taken all that it was sent.
    pub(crate) fn is_behind(&self, number: usize) -> bool {
        self.clients[number].as_ref().is_some_and(|client| !client.output.is_empty())
    }

    /// Something was reported for a token of its own; false: it is none.
    pub(crate) fn reported(&mut self, token: Token, by: &mut dyn Served) -> bool {
        if token == LISTENER {
            self.accept(by);
            return true;
        }
        let client = token.0.wrapping_sub(CLIENTS) as usize;
        if client >= MAX_CLIENTS {
            return false;
        }
        self.turn(client, by);
        true
    }

    /// To be called now and then: accepts what could not be accepted, sees who has stalled.
    pub(crate) fn tick(&mut self, by: &mut dyn Served) {
        if std::mem::take(&mut self.retry) {
            self.accept(by);
        }
        let now = monotonic_ns();
        let stalled = |client: &Client| !client.output.is_empty() && now > client.took + STALL_NS;
        for number in 0..self.clients.len() {
            if self.clients[number].as_ref().is_some_and(stalled) {
                self.end(number, Fate::CutOff, by);
            }
        }
    }

    fn accept(&mut self, by: &mut dyn Served) {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok(Some((stream, peer))) => self.welcome(stream, peer, by),
                Ok(None) => break,
                Err(_) => {
                    self.retry = true;
                    return;
                }
            }
        }
        // Fails only for a descriptor that was not added.
        let _ = self.waiter.rearm(&self.listener, LISTENER);
    }

    fn welcome(&mut self, mut stream: UnixStream, peer: Peer, by: &mut dyn Served) {
        let mut free = self.clients.iter().position(Option::is_none);
        if free.is_none() {
            // Some may be gone, and it has not been reported yet.
            (0..MAX_CLIENTS).for_each(|number| self.turn(number, by));
            free = self.clients.iter().position(Option::is_none);
        }
        let refusal = match free {
            _ if !peer.is_trusted() => Refusal::new(
                Errno::EPERM,
                "this machine is another user's: ask as that user, or as root",
            ),
            None => Refusal::new(
                Errno::EBUSY,
                format!("{MAX_CLIENTS} connections are open, and no more may be: close one"),
            ),
            Some(number) => {
                let token = Token(CLIENTS + number as u64);
                if self.waiter.add(&stream, token, Trigger::OneShot).is_ok() {
                    let mut client = Client::new(stream);
                    client.output.extend_from_slice(&self.hello);
                    client.flush();
                    self.clients[number] = Some(client);
                }
                return;
            }
        };
        self.counts.refused += 1;
        // A new connection has room for two lines; one that is gone needs none.
        let _ = stream.write_all(&[&self.hello[..], &answer(None, &Err(refusal))].concat());
    }

    /// Reads and answers what a client asks.
    fn turn(&mut self, number: usize, by: &mut dyn Served) {
        let Some(client) = &mut self.clients[number] else { return };
        let mut fate = client.read();
        let lines = client.take_lines();
        // Blank lines are nothing to answer.
        let blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
        for line in lines.split(|octet| *octet == b'\n').filter(|line| !blank(line)) {
            let (id, request) = parse_request(line);
            client.put(&answer(id, &request.and_then(|request| by.serve(number, request))));
            if client.flush() == Fate::Closed {
                fate = Fate::Closed;
                break;
            }
            if client.waiting() > MAX_OUTPUT {
                fate = Fate::CutOff;
                break;
            }
        }
        if client.input.len() >= MAX_LINE {
            let why = format!("a request of more than {MAX_LINE} bytes without a newline");
            client.put(&answer(None, &Err(Refusal::new(Errno::EMSGSIZE, why))));
            fate = Fate::Closed;
        }
        if client.flush() == Fate::Closed {
            fate = Fate::Closed;
        }
        match fate {
            Fate::Open => self.rearm(number),
            ended => self.end(number, ended, by),
        }
    }

    /// Tells a client something unasked; false: there is no room for it now.
    pub(crate) fn tell(&mut self, number: usize, line: &[u8]) -> bool {
        let Some(client) = &mut self.clients[number] else { return false };
        if client.waiting() + line.len() > FOR_ANSWERS {
            return false;
        }
        client.put(line);
        true
    }

    /// Sends what was told.
    pub(crate) fn send(&mut self, number: usize, by: &mut dyn Served) {
        let Some(client) = &mut self.clients[number] else { return };
        match client.flush() {
            Fate::Open => self.rearm(number),
            ended => self.end(number, ended, by),
        }
    }

    fn rearm(&self, number: usize) {
        let Some(client) = &self.clients[number] else { return };
        let more = !client.output.is_empty();
        let interest = if more { Interest::ReadOrWrite } else { Interest::Read };
        let token = Token(CLIENTS + number as u64);
        // Fails only for a descriptor that was not added.
        let _ = self.waiter.rearm_for(&client.stream, token, interest);
    }

    fn end(&mut self, number: usize, fate: Fate, by: &mut dyn Served) {
        self.counts.cut_off += u64::from(fate == Fate::CutOff);
        self.clients[number] = None;
        by.gone(number);
    }
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, input, output, written: 0, took: monotonic_ns() }
    }

    fn waiting(&self) -> usize {
        self.output.len() - self.written
    }

    fn put(&mut self, line: &[u8]) {
        if self.output.is_empty() {
            self.took = monotonic_ns();
        }
        self.output.extend_from_slice(line);
    }

    /// Reads a turn's worth.
    fn read(&mut self) -> Fate {
        let room = TURN.min(MAX_LINE - self.input.len());
        let before = self.input.len();
        self.input.resize(before + room, 0);
        let read = self.stream.read(&mut self.input[before..]);
        self.input.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Fate::Closed,
            Err(e) if !is_later(&e) => Fate::Closed,
            _ => Fate::Open,
        }
    }

    /// Takes the lines that are whole.
    fn take_lines(&mut self) -> Vec<u8> {
        let end = self.input.iter().rposition(|octet| *octet == b'\n');
        end.map(|end| self.input.drain(..=end).collect()).unwrap_or_default()
    }

    /// Writes as much as goes.
    fn flush(&mut self) -> Fate {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.took = monotonic_ns();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) if is_later(&e) => return Fate::Open,
                Err(_) => return Fate::Closed,
            }
        }
        self.output.clear();
        self.written = 0;
        // A long answer's memory is not kept for the next.
        self.output.shrink_to(MAX_LINE);
        Fate::Open
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
