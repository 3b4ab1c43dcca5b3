//! The command line: what may be asked, and how it is answered.
//!
//! Key types: [`Cli`], [`Failure`]. Contexts: the program's main thread.
//! Invariants: what is wrong is said in one line on standard error; usage is exit code 2, anything
//! else 1; a reader that closes its pipe is no failure.

use crate::ask::{self, Asking, walk::Shape};
use crate::scenario::{self, Nic, ScenarioError, Setup, Subject, TcpScenario};
use crate::walk::{self, Format, all, stations, text};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  netkeel walk                    a UDP datagram and its answer, station by station
  netkeel walk tcp                a connection, from connect to close
  netkeel walk tcp --scenario tlp what happens to one: loss, reorder, tlp, fastopen, bbr
  netkeel walk udp --size 4000    a datagram in fragments
  netkeel walk icmp               port unreachable, and an echo
  netkeel walk forward            by a router; multicast, ping, raw, packet, veth, arp, loopback
  netkeel walk --stations         every station with its Linux file
  netkeel up --tap nk0 --addr 192.0.2.2/24 --echo
                                  the stack on a TAP device, for the host to talk to
  netkeel replay day.pcapng --addr 192.0.2.2/24
                                  what would become of each frame of a capture
  sudo netkeel bench udp          where it stands beside the host's kernel
  netkeel addr, link, netns, route, neigh, ss, irq, cpu, queue, features, stat, sysctl
                                  ask a machine that runs, and change it
  netkeel walk --attach           the packets of a machine that runs
  netkeel dump 'tcp port 80'      its frames, as tcpdump prints them
  netkeel explain --attach        why it drops packets, and what would let them pass
  netkeel completions bash        a completion script for the shell

`netkeel COMMAND --help` has more.";

const WALK_EXAMPLES: &str = "\
Examples:
  netkeel walk                                     UDP between two machines, as a tree
  netkeel walk arp --files                         with the Linux file of every station
  netkeel walk tcp --scenario loss                 SACK, RACK, fast retransmission, PRR
  netkeel walk --cpus 2                            interrupt and reader on different CPUs
  netkeel walk --format json | jq .point           one object a line
  netkeel walk --format pcapng --out walk.pcapng   for Wireshark: the walk is the comment
  netkeel walk --format perfetto --out walk.pftrace   for ui.perfetto.dev
  netkeel walk --attach 'udp port 7'               the packets of a machine that runs
  netkeel walk --attach --format json --machine nk0 | jq -c '[.point, .drop]'
  netkeel walk --all | less                        all of it, one after the other
  netkeel walk --stations                          every station with its Linux file";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(netkeel completions bash)
  netkeel completions zsh > ~/.zfunc/_netkeel
  netkeel completions fish > ~/.config/fish/completions/netkeel.fish";

/// Linux's network stack as a program: run it and see through it.
#[derive(Debug, Parser)]
#[command(name = "netkeel", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the way of a packet through two machines, station by station.
    Walk(WalkArgs),
    Up(crate::up::UpArgs),
    Replay(crate::replay::ReplayArgs),
    Bench(crate::bench::BenchArgs),
    Pkt(crate::pkt::PktArgs),
    #[command(alias = "address")]
    Addr(ask::ip::AddrArgs),
    Link(ask::ip::LinkArgs),
    Netns(ask::netns::NetnsArgs),
    Route(ask::ip::RouteArgs),
    #[command(aliases = ["neighbour", "neighbor"])]
    Neigh(ask::ip::NeighArgs),
    Ss(ask::ss::SsArgs),
    Irq(ask::irq::IrqArgs),
    Cpu(ask::cpu::CpuArgs),
    Queue(ask::queue::QueueArgs),
    Features(ask::features::FeaturesArgs),
    Stat(ask::stat::StatArgs),
    Sysctl(ask::sysctl::SysctlArgs),
    Dump(ask::dump::DumpArgs),
    Explain(crate::explain::ExplainArgs),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What `netkeel walk` takes.
#[derive(Debug, Args)]
#[command(after_help = WALK_EXAMPLES)]
pub struct WalkArgs {
    /// What to watch.
    #[arg(value_enum, default_value_t)]
    subject: Subject,
    /// What happens to the connection of `walk tcp`.
    #[arg(long, value_enum, value_name = "NAME")]
    scenario: Option<TcpScenario>,
    /// Octets of the datagram of `walk udp` and `walk loopback`: more than 1,472 become fragments on a wire.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=i64::from(scenario::MAX_SIZE)))]
    size: Option<u16>,
    /// How to write it down.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Virtual CPUs of each machine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(64))]
    cpus: u8,
    /// Queues of each network card: the 82576 has eight.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(8))]
    queues: u8,
    /// The network cards.
    #[arg(long, value_enum, default_value_t)]
    nic: Nic,
    /// Write to this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The seed of every chance: the same seed gives the same walk.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// In text: name the Linux file of every station, however long the line gets.
    #[arg(long)]
    files: bool,
    /// Watch a machine that runs, until Ctrl-C: the packets of FILTER, in tcpdump's language, as
    /// 'tcp port 80'. One can watch a machine at a time.
    #[arg(
        long,
        value_name = "FILTER",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["subject", "scenario", "size", "cpus", "queues", "nic", "seed", "files", "out", "stations"]
    )]
    attach: Option<String>,
    /// The machine to watch: its TAP's name, or the path of its control socket.
    #[arg(long, value_name = "NAME|PATH", requires = "attach")]
    machine: Option<String>,
    /// Walk all that can be walked, one after the other, and say which stations are not among it. Text alone.
    #[arg(long, conflicts_with_all = ["subject", "scenario", "size", "attach", "stations"])]
    all: bool,
    /// List every station with its Linux file, and walk nowhere.
    #[arg(long, conflicts_with_all = ["subject", "scenario", "size", "format", "cpus", "queues", "nic", "seed", "files"])]
    stations: bool,
}

/// A number from 1 to `most`.
fn count(most: i64) -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=most)
}

/// Why the command ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for what can't be done.
    Usage(String),
    /// It did not work.
    Other(String),
}

impl Failure {
    /// A failure whose exit code is known.
    pub fn with_code(code: u8, why: String) -> Self {
        if code == 2 { Self::Usage(why) } else { Self::Other(why) }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Other(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(why) | Self::Other(why)) = self;
        f.write_str(why)
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        match error {
            ScenarioError::Queues(..) | ScenarioError::NotTcp | ScenarioError::NotUdp => {
                Self::Usage(error.to_string())
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Does what the command line says.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => ended(cli.run()),
        Err(error) if error.use_stderr() => ended(Err(Failure::Usage(one_line(&error)))),
        // Help and version are what was asked for.
        Err(error) => ended(print(error.render().to_string().as_bytes())),
    }
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    // Nobody may read standard error; there is nowhere else to say so.
    let _unheard = writeln!(io::stderr(), "netkeel: {failure}");
    ExitCode::from(failure.exit_code())
}

/// The parser's complaint without its layout: cause, then remedy.
fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> = lines.filter(|line| !line.starts_with("Usage:")).collect();
    // What a line announces with a colon follows it in the next.
    let line = kept.join("; ").replace(":; ", ": ");
    line.trim_start_matches("error: ").trim_end_matches('.').to_owned()
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// With what to tell the user, and the exit code that goes with it.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            None => print(Self::command().render_help().to_string().as_bytes()),
            Some(Command::Walk(args)) => args.run(),
            Some(Command::Completions { shell }) => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "netkeel", &mut script);
                print(&script)
            }
            Some(Command::Up(args)) => crate::up::run(args)
                .map_err(|error| Failure::with_code(error.exit_code(), error.to_string())),
            Some(Command::Replay(args)) => crate::replay::run(&args),
            Some(Command::Pkt(args)) => crate::pkt::run(&args),
            Some(Command::Bench(args)) => crate::bench::run(&args)
                .map_err(|error| Failure::with_code(error.exit_code(), error.to_string())),
            Some(Command::Addr(args)) => args.run(),
            Some(Command::Link(args)) => args.run(),
            Some(Command::Netns(args)) => args.run(),
            Some(Command::Route(args)) => args.run(),
            Some(Command::Neigh(args)) => args.run(),
            Some(Command::Ss(args)) => args.run(),
            Some(Command::Irq(args)) => args.run(),
            Some(Command::Cpu(args)) => args.run(),
            Some(Command::Queue(args)) => args.run(),
            Some(Command::Features(args)) => args.run(),
            Some(Command::Stat(args)) => args.run(),
            Some(Command::Sysctl(args)) => args.run(),
            Some(Command::Dump(args)) => args.run(),
            Some(Command::Explain(args)) => args.run(),
        }
    }
}

impl WalkArgs {
    fn run(self) -> Result<(), Failure> {
        if let Some(filter) = &self.attach {
            return self.attach(filter);
        }
        let mut bytes = Vec::new();
        let unwritten = |error| Failure::Other(format!("the walk can't be written: {error}"));
        let file = file_of(self.out.as_deref());
        if self.stations {
            stations::write(&mut bytes).map_err(unwritten)?;
            return put(file, &bytes);
        }
        if file.is_none() && self.format.is_binary() && io::stdout().is_terminal() {
            let what = "this format is not for a terminal; write it to a file with --out FILE";
            return Err(Failure::Usage(what.to_owned()));
        }
        let setup = Setup {
            subject: self.subject,
            scenario: self.scenario,
            nic: self.nic,
            size: self.size,
            cpus: self.cpus,
            queues: self.queues,
            seed: self.seed,
            frames: self.format.needs_frames(),
        };
        if self.all {
            if self.format != Format::Text {
                let what = "--all writes text: leave --format out, or walk one thing at a time";
                return Err(Failure::Usage(what.to_owned()));
            }
            all::write(&mut bytes, &setup, self.text_options())?;
            return put(file, &bytes);
        }
        let scene = scenario::run(&setup)?;
        walk::write(&mut bytes, &scene, self.format, self.text_options()).map_err(unwritten)?;
        put(file, &bytes)
    }
}

impl WalkArgs {
    fn attach(&self, filter: &str) -> Result<(), Failure> {
        let shape = match self.format {
            Format::Text => Shape::Text,
            Format::Json => Shape::Json,
            _ => {
                let what = "--attach writes text or json: leave --format out, or name one of them";
                return Err(Failure::Usage(what.to_owned()));
            }
        };
        let asking = Asking { machine: self.machine.clone(), ..Asking::default() };
        ask::walk::attach(&asking, filter, shape)
    }

    /// Shells tell the width of the terminal by `COLUMNS`, to those they export it to.
    fn text_options(&self) -> text::Options {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = columns.unwrap_or(text::Options::default().width);
        text::Options { files: self.files, width }
    }
}

/// The file that `--out` names; `None`: standard output.
pub(crate) fn file_of(out: Option<&Path>) -> Option<&Path> {
    out.filter(|path| *path != Path::new("-"))
}

/// Writes to a file, or to standard output.
fn put(file: Option<&Path>, bytes: &[u8]) -> Result<(), Failure> {
    let mut out = open_output(file)?;
    end_output(file, out.write_all(bytes).and_then(|()| out.flush()))
}

/// Writes to standard output.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    put(None, bytes)
}

/// A file, emptied, or standard output.
///
/// # Errors
/// With the cause and the way out.
pub(crate) fn open_output(file: Option<&Path>) -> Result<Box<dyn Write>, Failure> {
    let Some(path) = file else { return Ok(Box::new(io::stdout().lock())) };
    match File::create(path) {
        Ok(opened) => Ok(Box::new(opened)),
        Err(error) => end_output(file, Err(error)).map(|()| Box::new(io::sink()) as _),
    }
}

/// How writing ended. A reader that has seen enough is no error.
///
/// # Errors
/// With the cause and the way out.
pub(crate) fn end_output(file: Option<&Path>, result: io::Result<()>) -> Result<(), Failure> {
    let Err(error) = result else { return Ok(()) };
    if error.kind() == ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::Other(match file.map(Path::display) {
        None => format!("can't write to standard output: {error}; redirect it elsewhere"),
        Some(path) => format!("can't write {path}: {error}; name another file with --out"),
    }))
}

#[cfg(test)]
mod tests;
