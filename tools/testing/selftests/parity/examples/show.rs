//! What checks say on the host kernel and where the stack says otherwise, by parts of their names:
//! `cargo run -p netkeel-parity --example show -- [--stack] stream_refused …`. Needs root.
//! Without `--stack` only the kernel is asked.

use parity::checks::{all, groups, options, streams, wire};
use parity::{Check, Engine, Machine, diff, each_on_kernel};

fn main() {
    let (flags, parts): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|flag| *flag != "--stack") {
        eprintln!("{unknown} is not known: write --stack, or parts of the names of checks");
        std::process::exit(2);
    }
    let wanted = |check: &Check| parts.iter().any(|part| check.name.contains(part.as_str()));
    let mut checks = [all(), streams(), wire(), groups(), options()].concat();
    checks.retain(wanted);
    if checks.is_empty() {
        eprintln!("no check has such a name: write parts of names, as stream_refused");
        std::process::exit(2);
    }
    for (check, kernel) in checks.iter().zip(each_on_kernel(&checks)) {
        println!("{}\n{kernel}", check.name);
        if !flags.is_empty() {
            let stack = Machine::run_check(Engine::Stepped, 1, check);
            println!(
                "{}",
                diff(&kernel, &stack).unwrap_or_else(|| "    the stack, too\n".to_owned())
            );
        }
    }
}
