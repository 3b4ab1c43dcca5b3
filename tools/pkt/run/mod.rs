//! Runs a script against a backend.
//!
//! Key types: [`Failure`], [`Report`]; [`run`] does it. Parts: `flow` (sockets and mapped numbers),
//! `packet` (packets in and out), `check` (what went out against what the script says), `call` (system
//! calls), `args` (their arguments), `message` (headers of messages), `output` (what they give back),
//! `options` (the script's own), `time` (when).
//! Contexts: the thread that drives the backend.
//! Invariants: events happen in the script's order; every packet that leaves is looked at, in order.

mod args;
mod call;
mod check;
mod flow;
mod message;
mod options;
mod output;
mod packet;
mod time;

pub use options::configure;

use crate::backend::{Backend, Call, Config};
use crate::code::{Env, Program, Value};
use crate::parse::Pos;
use crate::parse::script::{Action, CallSpec, Dir, Event, Script, Time, Us};
use crate::symbols::{SK_MEMINFO, STATES, TCP_INFO, tcp_info};
use flow::{Flow, Sock};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use time::Due;

/// Why a script failed, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The script.
    pub path: String,
    /// Where in it.
    pub pos: Pos,
    /// What happened, perhaps with packets on lines of their own.
    pub what: String,
    /// Only the time of something was not as expected.
    pub timing: bool,
    /// What happened before, each event on a line.
    pub lines: Vec<String>,
}

impl Failure {
    /// A failure of a script as a whole.
    pub(crate) fn of(path: &Path, what: String) -> Self {
        let (path, pos) = (path.display().to_string(), Pos::default());
        Self { path, pos, what, timing: false, lines: Vec::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pos.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each event on a line, with the time of the script.
    pub lines: Vec<String>,
    /// Each packet that went out: its time since the beginning, its bytes.
    pub sent: Vec<(Us, Vec<u8>)>,
}

/// Something that went wrong in an event.
#[derive(Debug)]
struct Wrong {
    what: String,
    timing: bool,
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self { what, timing: false }
    }
}

type Went<T> = Result<T, Wrong>;

/// Which socket or flow packets without ports belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    None,
    Sock(usize),
    Flow(usize),
}

/// A descriptor of the script.
#[derive(Clone, Copy, Debug)]
struct Fd {
    live: i32,
    sock: usize,
}

/// A call that has not ended.
struct Pending {
    spec: CallSpec,
    call: Call,
    pos: Pos,
    /// When it is to end.
    due: Due,
}

/// A run.
struct Runner<'a> {
    backend: &'a mut dyn Backend,
    config: &'a Config,
    dir: &'a Path,
    /// The backend's time at the script's beginning.
    start: Us,
    socks: Vec<Sock>,
    fds: BTreeMap<i32, Fd>,
    flows: Vec<Flow>,
    subject: Subject,
    pending: Option<Pending>,
    env: Env,
    ip_id: u16,
    next_port: u16,
    /// The last event's time, and whether the next may be anchored to it.
    last: Option<(Us, bool)>,
    report: Report,
}

/// Runs a script; its folder is where commands are run.
///
/// # Errors
/// The first thing that is not as the script says.
pub fn run(
    (script, path): (&Script, &Path),
    config: &Config,
    backend: &mut dyn Backend,
) -> Result<Report, Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut runner = Runner {
        backend,
        config,
        dir,
        start: 0,
        socks: Vec::new(),
        fds: BTreeMap::new(),
        flows: Vec::new(),
        subject: Subject::None,
        pending: None,
        env: Env::new(),
        ip_id: 0,
        next_port: packet::FIRST_PORT,
        last: None,
        report: Report::default(),
    };
    match runner.script(script) {
        Ok(()) => Ok(runner.report),
        Err((pos, wrong)) => Err(Failure {
            pos,
            timing: wrong.timing,
            lines: runner.report.lines,
            ..Failure::of(path, wrong.what)
        }),
    }
}

fn at<T>(pos: Pos, went: Went<T>) -> Result<T, (Pos, Wrong)> {
    went.map_err(|wrong| (pos, wrong))
}

/// Seconds, as scripts write times.
fn secs(time: Us) -> f64 {
    time as f64 / 1e6
}

impl Runner<'_> {
    fn script(&mut self, script: &Script) -> Result<(), (Pos, Wrong)> {
        for (command, pos) in &script.init {
            at(*pos, self.backend.command(command, self.dir).map_err(Wrong::from))?;
        }
        let first = &script.events[0];
        if !matches!(first.time, Time::Absolute(0) | Time::Relative(0)) {
            let what = "the first event is at time 0: write 0 before it".to_owned();
            return Err((first.pos, what.into()));
        }
        self.start = self.backend.now();
        for event in &script.events {
            at(event.pos, self.event(event))?;
            self.reap(None)?;
        }
        let last = script.events.last().map_or(Pos::default(), |event| event.pos);
        self.reap(Some(last))?;
        at(last, self.nothing_left())?;
        for (command, pos) in &script.cleanup {
            at(*pos, self.backend.command(command, self.dir).map_err(Wrong::from))?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Went<()> {
        let inbound = matches!(&event.action, Action::Packet(packet) if packet.dir == Dir::In);
        if matches!(event.action, Action::Call(_)) {
            self.before_call()?;
        }
        let due = self.due(event.time, inbound)?;
        match &event.action {
            Action::Packet(packet) if packet.dir == Dir::Out => self.outbound(packet, &due)?,
            Action::Packet(packet) => {
                self.wait(&due, "inbound packet")?;
                self.inbound(packet)?;
            }
            Action::Call(spec) => {
                self.wait(&due, "system call start")?;
                self.call(spec, event.pos, &due)?;
            }
            Action::Command(command) => {
                self.wait(&due, "command")?;
                self.note(&format!("`{command}`"));
                self.backend.command(command, self.dir)?;
            }
            Action::Code(program) => {
                self.wait(&due, "data collection for code")?;
                self.code(program)?;
            }
        }
        self.last = Some((due.begin, inbound));
        Ok(())
    }

    /// A line of the report, at the present time.
    fn note(&mut self, line: &str) {
        let now = self.now();
        self.note_at(now, line);
    }

    fn note_at(&mut self, at: Us, line: &str) {
        self.report.lines.push(format!("{:9.6} {line}", secs(at)));
    }

    /// Runs code; it sees the socket that the script is about.
    fn code(&mut self, program: &Program) -> Went<()> {
        let names = program.names();
        let wants = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        self.env.retain(|name, _| !name.starts_with("tcpi_") && !name.starts_with("SK_MEMINFO_"));
        if wants("tcpi_") {
            let info = self.option_of_subject(libc::SOL_TCP, libc::TCP_INFO, 256)?;
            for (name, offset, len) in TCP_INFO {
                if let Some(value) = tcp_info(&info, (*offset, *len)) {
                    self.env.insert((*name).to_owned(), Value::Int(value));
                }
            }
            // Fields of bits.
            let bits = |at: usize| info.get(at).copied().map_or(0, i128::from);
            for (name, value) in [
                ("tcpi_snd_wscale", bits(6) & 15),
                ("tcpi_rcv_wscale", bits(6) >> 4),
                ("tcpi_delivery_rate_app_limited", bits(7) & 1),
                ("tcpi_fastopen_client_fail", bits(7) >> 1 & 3),
            ] {
                self.env.insert(name.to_owned(), Value::Int(value));
            }
        }
        if wants("SK_MEMINFO_") {
            let info = self.option_of_subject(libc::SOL_SOCKET, libc::SO_MEMINFO, 36)?;
            for (name, word) in SK_MEMINFO.iter().zip(info.chunks_exact(4)) {
                let value = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
                self.env.insert((*name).to_owned(), Value::Int(value.into()));
            }
        }
        for (name, value) in STATES {
            self.env.insert((*name).to_owned(), Value::Int((*value).into()));
        }
        program.run(&mut self.env).map_err(|what| format!("error in %{{ }}%: {what}").into())
    }

    /// An option of the socket that the script is about.
    fn option_of_subject(&mut self, level: i32, name: i32, room: i32) -> Went<Vec<u8>> {
        let sock = match self.subject {
            Subject::None => None,
            Subject::Sock(sock) => Some(sock),
            Subject::Flow(flow) => self.flows[flow].sock,
        };
        let fd = self.fds.values().find(|fd| Some(fd.sock) == sock).map(|fd| fd.live);
        let none = "%{ }% asks about a socket, and none with a descriptor is under test".to_owned();
        let done = self.backend.option(fd.ok_or(none)?, (level, name), room)?;
        if done.errno != 0 {
            let errno = uapi::errno::Errno(done.errno);
            return Err(
                format!("%{{ }}%: getsockopt of level {level}, option {name}: {errno}").into()
            );
        }
        Ok(done.data)
    }
}
