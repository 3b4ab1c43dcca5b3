//! Runner of the packetdrill language: scripts of packets and system calls, run against the host
//! kernel and against the stack.
//!
//! Key types: [`parse::script::Script`], [`Backend`] with [`kernel`] and [`Stack`], [`run::Report`].
//! [`run_file`] does it all for one file. The language is described in `Documentation/pkt.md`.
//! Invariant: nothing of a script is skipped; what is not known is an error that names it.

pub mod backend;
pub mod code;
pub mod kernel;
pub mod parse;
pub mod run;
mod show;
pub mod stack;
mod symbols;
pub mod wire;

pub use backend::{Backend, Config};
pub use run::{Failure, Report};
pub use stack::Stack;

use parse::ParseError;
use parse::script::Script;
use std::path::Path;

/// What a script is run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The stack, in process, under a virtual clock.
    Stack,
    /// The host kernel, in a namespace of its own; needs root.
    Kernel,
}

/// Options as `name`, `value`, from outside the script.
pub type Options = [(String, Option<String>)];

/// Bytes of a script at most.
const LARGEST: u64 = 4 << 20;

/// Reads a script's text.
///
/// # Errors
/// That it can't be read, or is too large.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |what: String| Failure::of(path, what);
    let len =
        std::fs::metadata(path).map_err(|error| failed(format!("can't be read: {error}")))?.len();
    if len > LARGEST {
        return Err(failed(format!("{len} bytes: a script has at most {LARGEST}")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(format!("can't be read: {error}")))
}

/// Reads a script's text into its events and configuration.
///
/// # Errors
/// What is not of the language, with its place.
pub fn load(path: &Path, text: &str, options: &Options) -> Result<(Script, Config), Failure> {
    let failed = |error: ParseError| {
        let what = match error.pos.column {
            0 => error.what,
            column => format!("parse error at column {column}: {}", error.what),
        };
        Failure { pos: error.pos, ..Failure::of(path, what) }
    };
    let script = parse::parse(text).map_err(failed)?;
    let config = run::configure(options, &script).map_err(failed)?;
    Ok((script, config))
}

/// Runs a script against a target; `path` says where it lies.
///
/// # Errors
/// The first thing that is not as the script says.
pub fn run_script(
    target: Target,
    (script, path): (&Script, &Path),
    config: &Config,
) -> Result<Report, Failure> {
    let failed = |what: String| Failure::of(path, what);
    match target {
        Target::Stack => {
            let mut stack = Stack::new(config).map_err(failed)?;
            run::run((script, path), config, &mut stack)
        }
        Target::Kernel => {
            let run = |kernel: &mut kernel::Kernel| run::run((script, path), config, kernel);
            kernel::on_kernel(config, run).map_err(failed)?
        }
    }
}

/// Runs the script in a file.
///
/// # Errors
/// The first thing that is not as the script says.
pub fn run_file(target: Target, path: &Path, options: &Options) -> Result<Report, Failure> {
    let text = read_text(path)?;
    let (script, config) = load(path, &text, options)?;
    run_script(target, (&script, path), &config)
}
