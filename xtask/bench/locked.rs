//! `bench locked`: executed instructions that lock, for each datagram and phase.

use super::disassembly::{Locked, locked};
use super::measure::{Meter, Setting};
use super::profile::{Place, Profile};
use super::table::{Row, Table};
use super::tools;
use super::{Options, UDP};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// What the locked instructions of each object are; an object is disassembled once.
#[derive(Default)]
struct Listings {
    objects: HashMap<Arc<str>, BTreeMap<u64, (Locked, String)>>,
}

impl Listings {
    fn kind(&mut self, (object, address): &Place) -> Result<Option<(Locked, String)>, String> {
        if !self.objects.contains_key(object) {
            let listing = match Path::new(&**object).is_file() {
                true => tools::output(Command::new("objdump").args([
                    "-d",
                    "--no-show-raw-insn",
                    object,
                ]))?,
                // What the kernel maps into a process is no file.
                false => String::new(),
            };
            self.objects.insert(object.clone(), locked(&listing));
        }
        Ok(self.objects[object].get(address).cloned())
    }
}

struct Found {
    place: Place,
    function: Arc<str>,
    count: f64,
    kind: Locked,
    text: String,
}

fn find(profile: &Profile, listings: &mut Listings) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for (place, cost) in &profile.costs {
        if let Some((kind, text)) = listings.kind(place)? {
            let (function, count) = (cost.function.clone(), cost.count);
            found.push(Found { place: place.clone(), function, count, kind, text });
        }
    }
    found.sort_by(|a, b| b.count.total_cmp(&a.count));
    Ok(found)
}

fn budget(phase: &str) -> Option<f64> {
    match phase {
        "send" => Some(4.0),
        "softirq" => Some(3.0),
        "recv" => Some(2.0),
        _ => None,
    }
}

/// Prints the table, and under each phase where its locked instructions are.
pub fn run(root: &Path, options: &Options, table: &Table) -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("locked: x86-64 only; other processors lock by other instructions".to_owned());
    }
    tools::need("valgrind")?;
    tools::need("objdump")?;
    let mut meter = Meter::new(tools::build(root, UDP, true)?, options.rounds);
    let mut listings = Listings::default();
    table.title("Locked instructions for each datagram");
    for setting in options.datagrams(&[32]) {
        for phase in setting.phases() {
            let found = find(&meter.phase(setting, phase)?, &mut listings)?;
            report(root, setting, phase, &found, table);
        }
    }
    Ok(())
}

fn report(root: &Path, setting: Setting, phase: &str, found: &[Found], table: &Table) {
    let sum = |fence: bool| -> f64 {
        let counted = found.iter().filter(|one| (one.kind == Locked::Fence) == fence);
        counted.map(|one| one.count).sum()
    };
    let name = format!("locked/{}/{phase}", setting.name());
    table.row(&Row::new(name, sum(false), budget(phase)));
    if table.tsv {
        return;
    }
    if sum(true) > 0.0 {
        table.detail(&format!("{:6.2}  mfence, beside the count", sum(true)));
    }
    for one in found {
        let line = source(root, &one.place).map_or_else(String::new, |at| format!("  {at}"));
        table.detail(&format!("{:6.2}  {}: {}{line}", one.count, one.function, one.text));
    }
}

/// The innermost line of this repository at an address, as the debug information has it.
fn source(root: &Path, (object, address): &Place) -> Option<String> {
    let mut command = Command::new("addr2line");
    command.args(["-i", "-e", object, &format!("{address:#x}")]);
    // Nice to have: without it the function must do.
    let frames = tools::output(&mut command).ok()?;
    let root = format!("{}/", root.canonicalize().ok()?.display());
    let line = frames.lines().find_map(|line| line.strip_prefix(&root))?;
    Some(line.split(' ').next().unwrap_or(line).to_owned())
}
