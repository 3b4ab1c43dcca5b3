//! `bench enter` and `bench cpus`: a CPU entered and left; two CPUs beside one.

use super::UDP;
use super::table::{Row, Table};
use super::tools;
use std::path::Path;
use std::process::Command;

/// What entering and leaving may cost, uncontended.
const ENTER: f64 = 70.0;
/// Entries of the shorter run under callgrind.
const ENTRIES: usize = 12_800;

/// Instructions of an entry with its leaving, and how long one takes that has to wait.
pub fn enter(root: &Path, rounds: Option<usize>, table: &Table) -> Result<(), String> {
    tools::need("valgrind")?;
    let exe = tools::build(root, UDP, true)?;
    table.title("Entering a CPU and leaving it");
    let entries = rounds.unwrap_or(ENTRIES);
    let count = |entries: usize| -> Result<f64, String> {
        let args = ["entries".to_owned(), entries.to_string()];
        Ok(tools::callgrind(&exe, &args, &["*Entering*::phase_enter"])?.total())
    };
    let each = (count(2 * entries)? - count(entries)?) / entries as f64;
    if each == 0.0 {
        return Err("callgrind did not see phase_enter; was it inlined?".to_owned());
    }
    table.row(&Row::new("enter/instructions".to_owned(), each, Some(ENTER)));
    itself(&exe, "enter", table)
}

/// Two queues on two CPUs beside one.
pub fn cpus(root: &Path, table: &Table) -> Result<(), String> {
    let exe = tools::build(root, UDP, true)?;
    table.title("Two queues on two CPUs, two threads");
    itself(&exe, "cpus", table)
}

/// The bench prints for itself.
fn itself(exe: &Path, bench: &str, table: &Table) -> Result<(), String> {
    let mut command = Command::new(exe);
    command.arg(bench).args(table.tsv.then_some("--tsv"));
    let status = command.status().map_err(|error| format!("{}: {error}", exe.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{bench}: {status}")) }
}
