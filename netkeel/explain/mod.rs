//! `netkeel explain`: of each packet that ended before a socket or the wire, where, why, what decided, and what would
//! let it pass.
//!
//! Parts: [`advice`] (what there is to say of each reason), `story` (packets from events or lines), `state` (what a
//! running machine says of what decided). Contexts: the program's main thread.

pub mod advice;
mod state;
mod story;

use crate::ask::Asking;
use crate::cli::{Failure, end_output};
use crate::control::client::Connection;
use crate::control::wire::{Event, Op, parse_answer};
use crate::up::plan::parse_filter;
use clap::Args;
use stack::kernel::bpf::BpfProg;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use story::{Lines, Story};

const EXAMPLES: &str = "\
Examples:
  netkeel explain --attach                  what a running machine drops, as it drops it
  netkeel explain --attach 'udp port 53'    of these packets only
  netkeel walk --attach --format json > day.jsonl
  netkeel explain day.jsonl                 what it dropped then
  netkeel up --tap nk0 ... ; netkeel explain --attach --machine nk0 host 192.0.2.7

Expressions are tcpdump's. With --attach the state that decided is asked for when the packet has ended;
a file says what happened, not what was set.";

/// Say of each packet that was dropped which station, rule or setting decided, and what would let it pass.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// Ask a machine that runs, until Ctrl-C. One can watch a machine at a time
    #[arg(long)]
    attach: bool,
    /// The machine: its TAP's name, or the path of its control socket; the only one that runs if none is named
    #[arg(long, value_name = "NAME|PATH", requires = "attach")]
    machine: Option<String>,
    /// End after so many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// A file of walks in lines of JSON (`-`: standard input) unless --attach; then which packets, in tcpdump's
    /// language
    #[arg(value_name = "FILE.jsonl] [EXPRESSION", num_args = 0..)]
    words: Vec<String>,
}

impl ExplainArgs {
    /// Explains until there is no more, nobody reads, or the count is reached.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let (file, expression) = match (self.attach, self.words.split_first()) {
            (true, _) => (None, self.words.join(" ")),
            (false, Some((file, rest))) => (Some(Path::new(file)), rest.join(" ")),
            (false, None) => {
                let what = "name a file of walks (netkeel walk --attach --format json > FILE), or ask a machine \
                            that runs with --attach";
                return Err(Failure::Usage(what.to_owned()));
            }
        };
        let filter =
            parse_filter("expression", &expression).map_err(|e| Failure::Usage(e.to_string()))?;
        match file {
            Some(path) => self.of_file(path, filter.as_ref(), &mut out),
            None => self.of_machine(expression, &mut out),
        }
    }

    fn of_file(
        &self,
        path: &Path,
        filter: Option<&BpfProg>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let unread = |e: io::Error| Failure::Other(format!("can't read {}: {e}", path.display()));
        let input: Box<dyn BufRead> = match path == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => Box::new(BufReader::new(File::open(path).map_err(unread)?)),
        };
        let mut told = 0;
        for story in Lines::new(input) {
            let story = story.map_err(|e| Failure::Other(format!("{}: {e}", path.display())))?;
            if !story.is_wanted(filter) {
                continue;
            }
            let written = story.write(out, None);
            if written.is_err() {
                return end_output(None, written);
            }
            told += 1;
            if self.count == Some(told) {
                break;
            }
        }
        if told == 0 {
            // Nobody may read standard error; there is nowhere else to say so.
            let _unheard =
                writeln!(io::stderr(), "explain: no packet in {} was dropped", path.display());
        }
        Ok(())
    }

    fn of_machine(&self, filter: String, out: &mut dyn Write) -> Result<(), Failure> {
        let asking = Asking { machine: self.machine.clone(), ..Asking::default() };
        let mut watching = asking.connect()?;
        // What decided is asked for beside what is told.
        let mut asked = asking.connect()?;
        watching.ask::<serde_json::Value>(&Op::WalkAttach { filter: Some(filter) })?;
        watching.be_patient()?;
        let mut told = 0;
        while self.count.is_none_or(|count| told < count) {
            let Some(line) = watching.line()? else {
                let _unheard = writeln!(
                    io::stderr(),
                    "explain: the machine has ended, or let go of us: too slow"
                );
                return Ok(());
            };
            let story = match serde_json::from_str(&line) {
                Ok(Event::Walk { packet, head, stations }) => Story::of(packet, head, stations),
                Ok(Event::Lost { .. }) => {
                    let _unheard = writeln!(
                        io::stderr(),
                        "explain: packets were lost: watch less with an expression"
                    );
                    continue;
                }
                Ok(Event::Frame { .. }) => continue,
                // Not an event, so a refusal: say what it says.
                Err(_) => {
                    return parse_answer::<serde_json::Value>(&line)
                        .map(|_| ())
                        .map_err(Failure::Other);
                }
            };
            let Some(story) = story else { continue };
            let written = story.write(out, Some(&mut asked)).and_then(|()| out.flush());
            if written.is_err() {
                return end_output(None, written);
            }
            told += 1;
        }
        Ok(())
    }
}

/// A machine that can be asked.
type Asked<'a> = Option<&'a mut Connection>;

#[cfg(test)]
mod tests;
