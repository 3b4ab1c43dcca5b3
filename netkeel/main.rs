//! The `netkeel` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    netkeel::cli::main(std::env::args_os())
}
