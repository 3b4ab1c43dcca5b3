//! The programs that build the bench and watch it run.

use super::profile::{FLAGS, Profile};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What takes the stations out; see `kernel::trace::COMPILED`.
const NO_WALK: &str = "netkeel_no_walk";

/// The package that has a program; both are Debian's names.
fn package(program: &str) -> &str {
    match program {
        "objdump" | "addr2line" => "binutils",
        name => name,
    }
}

fn missing(program: &str) -> String {
    let package = package(program);
    format!("{program} is missing: install the package {package} (apt-get install {package})")
}

/// Fails with the remedy when a program is not there.
pub fn need(program: &str) -> Result<(), String> {
    output(Command::new(program).arg("--version")).map(|_| ())
}

/// Runs a command to its end; its output when it succeeded.
pub fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(&program),
            _ => format!("{program}: {error}"),
        })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    let reason = stderr.lines().rev().find(|line| !line.trim().is_empty());
    Err(format!("{program}: {status}: {}", reason.unwrap_or("it said nothing")))
}

/// Builds a bench; its executable. Without stations, in a folder of its own, so that the two
/// builds do not undo each other.
pub fn build(root: &Path, bench: &str, stations: bool) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).stderr(Stdio::inherit());
    command.args(["bench", "--locked", "-p", "netkeel-sim", "--bench", bench, "--no-run"]);
    command.args(["--message-format", "json"]);
    if !stations {
        command.arg("--target-dir").arg(root.join("target/no-walk"));
        // The variable would hide the setting: whichever is in force is added to.
        match std::env::var("RUSTFLAGS") {
            Ok(flags) => command.env("RUSTFLAGS", format!("{flags} --cfg {NO_WALK}")),
            Err(_) => {
                command.arg("--config").arg(format!("build.rustflags=[\"--cfg\", \"{NO_WALK}\"]"))
            }
        };
    }
    let done = command.output().map_err(|error| format!("cargo: {error}"))?;
    let messages = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        return Err(format!("the bench {bench} does not build"));
    }
    executable(&messages, bench).ok_or_else(|| format!("cargo names no executable of {bench}"))
}

/// A bench's executable in cargo's messages, a JSON object a line.
fn executable(messages: &str, bench: &str) -> Option<PathBuf> {
    const KEY: &str = "\"executable\":\"";
    let name = format!("\"name\":\"{bench}\"");
    let line = messages.lines().find(|line| {
        line.contains("\"reason\":\"compiler-artifact\"")
            && line.contains(&name)
            && line.contains(KEY)
    })?;
    let text = &line[line.find(KEY)? + KEY.len()..];
    let mut path = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some(path.into()),
            '\\' => path.push(chars.next()?),
            char => path.push(char),
        }
    }
}

/// Runs the bench under callgrind, which counts between entry and exit of functions of these names,
/// or, where one is called within another, stops counting there.
pub fn callgrind(exe: &Path, args: &[String], toggles: &[&str]) -> Result<Profile, String> {
    let file = std::env::temp_dir().join(format!("netkeel-bench-{}.callgrind", std::process::id()));
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").args(FLAGS);
    command.args(toggles.iter().map(|name| format!("--toggle-collect={name}")));
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(exe).args(args);
    // Or a long copy is one instruction that is counted once for each of its octets.
    command.env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=100000000");
    output(&mut command)?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("callgrind: {error}"))?;
    // A file left in the folder for temporary ones does no harm.
    let _ = std::fs::remove_file(&file);
    Profile::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_the_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"stack"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"udp_walk"},"executable":"/t/a \"b\"/udp_walk-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "udp_walk"), Some("/t/a \"b\"/udp_walk-1".into()));
        assert_eq!(executable(messages, "tcp_stream"), None);
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let missing = output(&mut Command::new("netkeel-has-no-such-program"));
        assert!(missing.is_err_and(|error| error.contains("apt-get install")));
        assert!(super::missing("objdump").contains("install binutils"));
    }
}
