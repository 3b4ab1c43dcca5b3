//! The repository's own checks: what the compiler and clippy cannot know about Netkeel.
//!
//! `cargo xtask check` runs all of them; each is one module of [`checks`], or [`map`] for the map
//! of Linux's stations. Everything works on plain text with comments and strings told apart
//! ([`source`]), so the checks need nothing but the standard library and take a second. [`mod@bench`]
//! is beside them: it builds, runs and counts.

mod bench;
mod checks;
mod manifest;
mod map;
mod source;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;
use tree::Tree;

const HELP: &str = "\
The repository's own checks.

Usage:
  cargo xtask check [NAME] [--root DIR]      run all checks, or one; exit 1 on any finding
  cargo xtask map [--root DIR]               print Documentation/networking/linux-map.md
  cargo xtask map --write [--root DIR]       write it
  cargo xtask map --missing [--write]        print (write) the list of missing stations
  cargo xtask map --help                     how a station is marked in the code
  cargo xtask bench [WHAT]                   what a datagram costs; `bench --help` has the rest

--root DIR: another checkout; without it the workspace around the current directory.

Checks:
";

/// Why the command line or the tree could not be used; exit code 2.
type Usage = String;

struct Args {
    words: Vec<String>,
    root: Option<PathBuf>,
    write: bool,
    missing: bool,
    help: bool,
}

fn parse(args: impl Iterator<Item = String>) -> Result<Args, Usage> {
    let mut parsed =
        Args { words: Vec::new(), root: None, write: false, missing: false, help: false };
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--root" => {
                let dir = args.next().ok_or("--root wants a directory")?;
                parsed.root = Some(dir.into());
            }
            "--write" => parsed.write = true,
            "--missing" => parsed.missing = true,
            "--help" | "-h" | "help" => parsed.help = true,
            flag if flag.starts_with('-') => return Err(format!("{flag}: unknown option")),
            _ => parsed.words.push(arg),
        }
    }
    Ok(parsed)
}

fn help() -> String {
    let mut text = HELP.to_owned();
    for check in checks::ALL {
        text.push_str(&format!("  {:12} {}\n", check.name, check.what));
    }
    text
}

fn root(given: Option<PathBuf>) -> Result<PathBuf, Usage> {
    if let Some(dir) = given {
        return Ok(dir);
    }
    let here = std::env::current_dir().map_err(|e| format!("current directory: {e}"))?;
    here.ancestors()
        .find(|dir| {
            std::fs::read_to_string(dir.join("Cargo.toml"))
                .is_ok_and(|text| text.contains("[workspace]"))
        })
        .map(PathBuf::from)
        .ok_or_else(|| "no workspace around the current directory; use --root DIR".to_owned())
}

fn check(tree: &Tree, name: Option<&str>) -> Result<ExitCode, Usage> {
    if let Some(name) = name
        && !checks::ALL.iter().any(|check| check.name == name)
    {
        return Err(format!("{name}: no such check; `cargo xtask --help` lists them"));
    }
    let mut count = 0;
    for check in checks::ALL.iter().filter(|check| name.is_none_or(|name| name == check.name)) {
        let mut findings = (check.run)(tree);
        findings.sort();
        count += findings.len();
        for finding in findings {
            println!("{finding}");
        }
    }
    if count == 0 {
        println!("xtask check: {} files, nothing found", tree.files().len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("xtask check: {count} found");
    Ok(ExitCode::FAILURE)
}

fn write(tree: &Tree, path: &str, text: &str) -> Result<(), Usage> {
    tree.write(path, text).map_err(|e| format!("{path}: {e}"))?;
    println!("{path} written");
    Ok(())
}

fn run(args: Args) -> Result<ExitCode, Usage> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    if args.help || words.is_empty() {
        let of_map = words.first() == Some(&"map");
        print!("{}", if of_map { map::HELP.to_owned() } else { help() });
        return Ok(ExitCode::SUCCESS);
    }
    let root = root(args.root)?;
    let tree = Tree::open(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    match words[..] {
        ["check"] => return check(&tree, None),
        ["check", name] => return check(&tree, Some(name)),
        ["map"] => {}
        _ => return Err(format!("{}: unknown command", words.join(" "))),
    }
    let map = map::Map::read(&tree).map_err(|finding| finding.to_string())?;
    match (args.missing, args.write) {
        (true, true) => write(&tree, map::MISSING, &map.missing_list())?,
        (true, false) => print!("{}", map.missing_with_reasons()),
        (false, true) => write(&tree, map::DOCUMENT, &map.document())?,
        (false, false) => print!("{}", map.document()),
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    // It has options of its own.
    let done = match args.next_if(|arg| arg == "bench") {
        Some(_) => bench::run(args),
        None => parse(args).and_then(run),
    };
    match done {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::from(2)
        }
    }
}
