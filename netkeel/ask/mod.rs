//! The commands that ask a running machine: `addr`, `link`, `route`, `neigh`, `ss`, `irq`, `cpu`,
//! `queue`, `features`, `stat`, `sysctl`, `walk --attach`, `dump`.
//!
//! Key types: [`Asking`] (what they all take), `Words` (the words behind a command, as `ip` takes
//! them). Contexts: the program's main thread. What they print looks as the tools people know.

mod balance;
pub mod cpu;
pub mod dump;
pub mod features;
pub mod ip;
pub mod irq;
pub mod netns;
pub mod procfs;
pub mod queue;
pub mod ss;
pub mod stat;
pub mod sysctl;
pub mod walk;

use crate::cli::{Failure, print};
use crate::control::client::Connection;
use crate::control::wire::{Op, Refusal};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What every asking command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Asking {
    /// Print JSON
    #[arg(long, short)]
    pub json: bool,

    /// The machine: its TAP's name, or the path of its control socket; the only one that runs if
    /// none is named
    #[arg(long, value_name = "NAME|PATH")]
    pub machine: Option<String>,

    /// The namespace of the machine; the one it booted with if none is named
    #[arg(long, short = 'N', value_name = "NAME")]
    pub netns: Option<String>,
}

impl Asking {
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        let mut connection = Connection::open(self.machine.as_deref())?;
        connection.set_netns(self.netns.as_deref());
        Ok(connection)
    }

    fn ask<T: DeserializeOwned>(&self, op: &Op) -> Result<T, Failure> {
        self.connect()?.ask(op)
    }

    /// Prints what was answered; its text without the blanks at the ends of lines, which its makers need not think
    /// of.
    fn show<T: Serialize>(
        &self,
        answer: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let shown = match self.json {
            true => {
                serde_json::to_string(answer).map_err(|e| Failure::Other(e.to_string()))? + "\n"
            }
            false => text(answer).lines().flat_map(|line| [line.trim_end(), "\n"]).collect(),
        };
        print(shown.as_bytes())
    }

    /// Has something done, whose answer says nothing.
    fn order(&self, op: &Op) -> Result<(), Failure> {
        self.ask::<serde_json::Value>(op).map(|_| ())
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(text)
}

/// What is wrong with a word is a mistake of usage, seen before anybody is asked.
fn checked<T>(parsed: Result<T, Refusal>) -> Result<T, Failure> {
    parsed.map_err(|refusal| usage(refusal.message))
}

/// The words behind a command: a verb, perhaps a subject, then names with values.
struct Words<'a> {
    command: &'static str,
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Words<'a> {
    fn new(command: &'static str, words: &'a [String]) -> Self {
        Self { command, rest: words.iter() }
    }

    /// The verb; `show` if there is none.
    fn verb(&mut self) -> &'a str {
        match self.rest.next().map_or("show", String::as_str) {
            "list" | "ls" | "lst" => "show",
            "delete" => "del",
            verb => verb,
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        self.rest.next().map(String::as_str)
    }

    /// The device, if `dev D` stands first, and the verb.
    fn dev_and_verb(&mut self) -> Result<(Option<&'a str>, &'a str), Failure> {
        match self.verb() {
            "dev" => Ok((Some(self.need("the device")?), self.verb())),
            verb => Ok((None, verb)),
        }
    }

    /// The next word, which must be there.
    fn need(&mut self, what: &str) -> Result<&'a str, Failure> {
        self.next().ok_or_else(|| usage(format!("{}: {what} is missing", self.command)))
    }

    /// The values of these names, as many as are there; nothing else may be.
    fn values<const N: usize>(mut self, names: [&str; N]) -> Result<[Option<&'a str>; N], Failure> {
        let mut values = [None; N];
        while let Some(name) = self.next() {
            let Some(at) = names.iter().position(|known| *known == name) else {
                return Err(self.unknown(name, &names));
            };
            let value = self.need(&format!("what follows {name}"))?;
            if values[at].replace(value).is_some() {
                return Err(usage(format!("{}: {name} is there twice", self.command)));
            }
        }
        Ok(values)
    }

    fn unknown(&self, word: &str, known: &[&str]) -> Failure {
        usage(format!(
            "{}: {word:?} is not understood here: write {}",
            self.command,
            known.join(" or ")
        ))
    }
}

/// A number behind a name.
fn number(name: &str, text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| usage(format!("{name} {text:?} is no number: write {name} 100")))
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

/// Columns as wide as their widest cell; the last is as wide as it is.
fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = widths[at];
            line += &match right.contains(&at) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            };
            // An address ends in its colon, behind which the port follows at once.
            if !cell.ends_with(':') {
                line.push(' ');
            }
        }
        text += &line;
        text.push('\n');
    }
    text
}
