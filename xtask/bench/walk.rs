//! `bench walk`: what the stations cost while nobody watches, against a build without them.

use super::measure::{Meter, Setting};
use super::table::{Row, Table};
use super::tools;
use super::{Options, UDP};
use std::path::Path;
use std::process::Command;

/// The most instructions a station may cost.
const BUDGET: f64 = 2.0;
/// Pairs of timed runs: many short ones, so that what else the machine does falls on few.
const PAIRS: usize = 101;
/// Datagrams of a timed run.
const DATAGRAMS: usize = 100_000;

/// Prints instructions for each station, then times of both builds in turn.
pub fn run(root: &Path, options: &Options, table: &Table) -> Result<(), String> {
    tools::need("valgrind")?;
    let (with, without) = (tools::build(root, UDP, true)?, tools::build(root, UDP, false)?);
    let mut meters = [&with, &without].map(|exe| Meter::new(exe.to_path_buf(), options.rounds));
    table.title("Instructions for each station, against a build without stations");
    for setting in options.datagrams(&[32]) {
        instructions(&with, &mut meters, setting, table)?;
    }
    table.title("Nanoseconds for each datagram, with and without stations");
    for setting in options.datagrams(&[32]) {
        times([&with, &without], options, setting, table)?;
    }
    Ok(())
}

fn instructions(
    exe: &Path,
    [with, without]: &mut [Meter; 2],
    setting: Setting,
    table: &Table,
) -> Result<(), String> {
    let (mut all, mut passed) = (0.0, 0.0);
    for phase in setting.phases() {
        let stations = stations(exe, setting, phase)?;
        let (on, off) =
            (with.phase(setting, phase)?.total(), without.phase(setting, phase)?.total());
        (all, passed) = (all + on - off, passed + stations);
        let name = format!("walk/{}/{phase}/station", setting.name());
        table.row(&Row::new(name, (on - off) / stations.max(1.0), None));
        table.detail(&format!("{on:.1} - {off:.1} instructions, {stations:.1} stations"));
    }
    let name = format!("walk/{}/all/station", setting.name());
    table.row(&Row::new(name, all / passed.max(1.0), Some(BUDGET)));
    table.detail(&format!("{all:.1} instructions, {passed:.1} stations"));
    Ok(())
}

/// The stations of a phase for each datagram, from the records of a watched batch.
fn stations(exe: &Path, setting: Setting, phase: &str) -> Result<f64, String> {
    let (device, batch) = (setting.device, setting.batch());
    let mut command = Command::new(exe);
    let listing = tools::output(command.args(["stations", device, &batch.to_string()]))?;
    let count = listing.lines().find_map(|line| line.strip_prefix(phase)?.trim().parse().ok());
    let count: f64 = count.ok_or_else(|| format!("the bench counts no stations of {phase}"))?;
    Ok(count / batch as f64)
}

fn times(
    exes: [&Path; 2],
    options: &Options,
    setting: Setting,
    table: &Table,
) -> Result<(), String> {
    let (device, batch) = (setting.device, setting.batch());
    let rounds = options.rounds.unwrap_or(DATAGRAMS / batch).to_string();
    let (mut on, mut off, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..PAIRS {
        let mut pair = [0.0; 2];
        // Whoever runs first in a pair runs second in the next.
        for which in [n % 2, 1 - n % 2] {
            let (exe, ns) = (exes[which], &mut pair[which]);
            let mut command = Command::new(exe);
            let text = tools::output(command.args(["time", device, &rounds, &batch.to_string()]))?;
            *ns = text.trim().parse::<f64>().map_err(|_| format!("the bench says {text}"))?;
        }
        on.push(pair[0]);
        off.push(pair[1]);
        more.push(100.0 * (pair[0] / pair[1] - 1.0));
    }
    more.sort_by(f64::total_cmp);
    let name = |what: &str| format!("walk/{}/{what}", setting.name());
    table.row(&Row::new(name("with-ns"), median(&mut on), None));
    table.row(&Row::new(name("without-ns"), median(&mut off), None));
    table.row(&Row::new(name("percent-more"), more[PAIRS / 2], None));
    table.detail(&format!(
        "{PAIRS} pairs in turn, half of them from {:.1} % to {:.1} %",
        more[PAIRS / 4],
        more[3 * PAIRS / 4]
    ));
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
