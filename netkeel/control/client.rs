//! The end of the commands.
//!
//! Key type: [`Connection`]. Contexts: the program's main thread; it waits for answers.

use super::VERSION;
use super::wire::{Hello, IN, Op, parse_answer, to_line};
use crate::cli::Failure;
use host::private_socket::{Peer, ROOT_FOLDER, runtime_folder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Octets of a line at most: an answer is not longer, and a stranger shall not fill the memory.
const MAX_ANSWER: u64 = 8 << 20;

/// So long a machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a machine.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    /// The namespace that is asked about.
    netns: Option<String>,
}

fn other(text: String) -> Failure {
    Failure::Other(text)
}

impl Connection {
    /// Connects to the machine of that name, or at that path; to the only one that runs when none is
    /// named.
    ///
    /// # Errors
    /// With the cause and the way out: none runs, several do, it is another's.
    pub fn open(machine: Option<&str>) -> Result<Self, Failure> {
        let path = match machine {
            Some(path) if path.contains('/') => PathBuf::from(path),
            Some(name) => runtime_folder().join(format!("{name}.sock")),
            None => only_machine()?,
        };
        let unconnected = |e| unconnected(&path, machine, &e);
        let stream = UnixStream::connect(&path).map_err(unconnected)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(unconnected)?;
        let named = machine.is_some_and(|machine| machine.contains('/'));
        // Where the system's folder for all is searched, anybody may have put something.
        if !named && !Peer::of(&stream).map_err(unconnected)?.is_trusted() {
            return Err(other(format!("{} is another user's: not asked", path.display())));
        }
        let mut connection = Self { stream: BufReader::new(stream), path, netns: None };
        connection.greet()?;
        Ok(connection)
    }

    /// From now on the namespace of that name is asked about.
    pub fn set_netns(&mut self, name: Option<&str>) {
        self.netns = name.map(str::to_owned);
    }

    fn greet(&mut self) -> Result<(), Failure> {
        let strange = |path: &Path| {
            other(format!("{} is not the control socket of a machine of ours", path.display()))
        };
        let line = self.line()?.ok_or_else(|| strange(&self.path))?;
        let hello: Hello = serde_json::from_str(&line).map_err(|_| strange(&self.path))?;
        if hello.netkeel != VERSION {
            return Err(other(format!(
                "machine {} (netkeel {}) speaks protocol {}, this program {VERSION}: use the \
                 program of that version",
                hello.machine, hello.version, hello.netkeel
            )));
        }
        Ok(())
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the machine says, or that it has ended.
    pub fn ask<T: DeserializeOwned>(&mut self, op: &Op) -> Result<T, Failure> {
        let gone = |path: &Path| other(format!("the machine at {} has ended", path.display()));
        let mut request = serde_json::to_value(op).map_err(|e| other(e.to_string()))?;
        request["id"] = Value::from(1);
        if let Some(netns) = &self.netns {
            request[IN] = Value::from(netns.as_str());
        }
        // Who was turned away is told so: the answer is there, though nothing can be written.
        let _unsent = self.stream.get_mut().write_all(&to_line(&request));
        let line = self.line()?.ok_or_else(|| gone(&self.path))?;
        parse_answer(&line).map_err(other)
    }

    /// Asks, and does not wait for the answer.
    ///
    /// # Errors
    /// What the system says.
    pub fn say(&mut self, op: &Op) -> Result<(), Failure> {
        self.stream.get_mut().write_all(&to_line(op)).map_err(|e| other(e.to_string()))
    }

    /// Waits for lines however long they take.
    ///
    /// # Errors
    /// What the system says.
    pub fn be_patient(&mut self) -> Result<(), Failure> {
        self.stream.get_mut().set_read_timeout(None).map_err(|e| other(e.to_string()))
    }

    /// The next line; `None`: the machine has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = Vec::new();
        match (&mut self.stream).take(MAX_ANSWER).read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(None),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(other(format!(
                "the machine at {} does not answer: is it stopped, or its output held up?",
                self.path.display()
            ))),
            Err(e) => Err(other(format!("reading from {}: {e}", self.path.display()))),
        }
    }
}

const START: &str = "start one with netkeel up --tap nk0 --addr 192.0.2.2/24";

/// The socket of the only machine that runs.
fn only_machine() -> Result<PathBuf, Failure> {
    let folder = runtime_folder();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(other(format!("{}: {e}", folder.display()))),
    };
    let is_socket = |path: &PathBuf| path.extension().is_some_and(|end| end == "sock");
    let mut live: Vec<PathBuf> =
        entries.into_iter().filter(is_socket).filter(|p| answers(p)).collect();
    live.sort();
    match &live[..] {
        [only] => Ok(only.clone()),
        [] => {
            let roots = Path::new(ROOT_FOLDER);
            let hint =
                if roots != folder && roots.exists() { "; root may have one: sudo" } else { "" };
            Err(other(format!(
                "no machine of yours runs (none in {}): {START}, or name its socket with --machine \
                 PATH{hint}",
                folder.display()
            )))
        }
        several => {
            let names = several
                .iter()
                .filter_map(|path| path.file_stem())
                .map(|name| name.to_string_lossy());
            let names: Vec<_> = names.collect();
            Err(other(format!(
                "several machines run ({}): name one with --machine",
                names.join(", ")
            )))
        }
    }
}

fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

fn unconnected(path: &Path, machine: Option<&str>, error: &io::Error) -> Failure {
    let shown = path.display();
    let name = machine.filter(|name| !name.contains('/'));
    other(match (error.kind(), name) {
        (ErrorKind::NotFound | ErrorKind::ConnectionRefused, Some(name)) => {
            format!("no machine {name} runs (nobody at {shown}): {}", START.replace("nk0", name))
        }
        (ErrorKind::NotFound | ErrorKind::ConnectionRefused, None) => {
            format!("no machine runs at {shown}: {START} --control {shown}")
        }
        (ErrorKind::PermissionDenied, _) => {
            let owner = fs::symlink_metadata(path).map(|there| there.uid());
            let owner = owner.map_or("another user".to_owned(), |uid| format!("user {uid}"));
            format!("no right to ask {shown}: it belongs to {owner}; ask as that user, or as root")
        }
        _ => format!("{shown}: {error}"),
    })
}
