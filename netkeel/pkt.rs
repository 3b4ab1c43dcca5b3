//! `netkeel pkt`: runs scripts of the packetdrill language.
//!
//! Key type: [`PktArgs`]; `run` is the command. Contexts: the caller's thread. The language is
//! described in `Documentation/pkt.md`.

use crate::cli::{self, Failure};
use clap::{Args, ValueEnum};
use pkt::{Target, run_file};
use std::fmt::Write;
use std::path::PathBuf;

/// Shown below the options.
const EXAMPLES: &str = "\
Examples:
  netkeel pkt script.pkt                         against the stack, in virtual time, without root
  sudo netkeel pkt --backend kernel script.pkt   against the host kernel, in a namespace of its own
  netkeel pkt --verbose script.pkt               with every packet and call, and when it was
  netkeel pkt --option tolerance_usecs=14000 *.pkt
                                                 with an option, as a script's first lines have it";

/// Run scripts of packets and system calls, in the packetdrill language
///
/// A script says which calls a program makes, which packets come in and which must go out, and when.
/// The first thing that is not so is told, with the packet expected and the one that came.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PktArgs {
    /// The scripts
    #[arg(value_name = "SCRIPT", required = true)]
    scripts: Vec<PathBuf>,

    /// What they are run against
    #[arg(long, value_enum, default_value_t)]
    backend: BackendName,

    /// Print each packet, call and command with the script's time
    #[arg(long, short)]
    verbose: bool,

    /// An option of scripts, before the script's own; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    option: Vec<String>,
}

/// What scripts are run against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// The stack, in this process, under a virtual clock.
    #[default]
    Stack,
    /// The host's kernel; needs root.
    Kernel,
}

/// Runs the scripts, one after the other.
///
/// # Errors
/// How many failed; each was told.
pub(crate) fn run(args: &PktArgs) -> Result<(), Failure> {
    let target = match args.backend {
        BackendName::Stack => Target::Stack,
        BackendName::Kernel => Target::Kernel,
    };
    let split = |option: &String| match option.trim_start_matches("--").split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (option.trim_start_matches("--").to_owned(), None),
    };
    let options: Vec<_> = args.option.iter().map(split).collect();
    let mut failed = 0;
    for path in &args.scripts {
        let mut text = String::new();
        match run_file(target, path, &options) {
            Ok(report) => {
                if args.verbose {
                    report.lines.iter().for_each(|line| text += &format!("{line}\n"));
                }
                let _infallible = writeln!(text, "{}: OK", path.display());
            }
            Err(failure) => {
                failed += 1;
                if args.verbose {
                    failure.lines.iter().for_each(|line| text += &format!("{line}\n"));
                }
                let _infallible = writeln!(text, "{failure}");
            }
        }
        cli::print(text.as_bytes())?;
    }
    match (failed, args.scripts.len()) {
        (0, _) => Ok(()),
        (failed, all) => Err(Failure::Other(format!("{failed} of {all} scripts failed"))),
    }
}
