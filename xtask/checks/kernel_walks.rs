//! `kernel-walks`: our golden walks pass the stations of the kernel's own, in the kernel's order.
//!
//! A pair of [`PAIRS`] is a flat walk, one line a function as a 6.12 kernel's function tracer wrote
//! it, and a golden walk of ours. [`NAMES`] says which station of ours a kernel function is. A
//! station that is passed again is compared as its second visit, written `station#2`. What differs
//! must stand in [`DOCUMENT`] as a table row, `| udp-in | station | order | why |`, with `missing`
//! instead of `order` where ours has no such visit; a row that nothing needs is found too.

#[cfg(test)]
mod tests;

use super::Finding;
use crate::source::is_ident;
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

const RULE: &str = "kernel-walks";
const NAMES: &str = "tools/testing/selftests/kernel-walks/names.tsv";
const KERNEL: &str = "tools/testing/selftests/kernel-walks/6.12/";
const GOLDEN: &str = "tools/testing/selftests/walks/";
const DOCUMENT: &str = "Documentation/networking/divergences.md";
const POINTS: &str = "kernel/trace/events.rs";

/// A way that was walked in both.
struct Pair {
    /// Its name in the document.
    name: &'static str,
    /// The flat walk, in [`KERNEL`].
    kernel: &'static str,
    /// The golden walk, in [`GOLDEN`].
    golden: &'static str,
    /// The first machine to pass this station is the one the flat walk was taken on.
    anchor: &'static str,
    /// From here on, behind the anchor, that machine does something else.
    end: &'static str,
    /// Stations that are not compared: [`DRIVER`]'s, where another pair does.
    beside: &'static [&'static str],
}

/// What the interrupts of a card pass; how many fall into a trace is the device's affair.
const DRIVER: &[&str] = &[
    "igb_msix_ring",
    "____napi_schedule",
    "igb_poll",
    "igb_alloc_rx_buffers",
    "napi_complete",
    "consume_skb",
];

const PAIRS: &[Pair] = &[
    Pair {
        name: "udp-in",
        kernel: "udp-rx.flat.txt",
        golden: "udp-in-igb.txt",
        anchor: "udp_rcv",
        end: "udp_sendmsg",
        beside: &[],
    },
    Pair {
        name: "udp-out",
        kernel: "udp-tx.flat.txt",
        golden: "udp-out-igb.txt",
        anchor: "udp_sendmsg",
        end: "napi_gro_receive",
        beside: &[],
    },
    Pair {
        name: "tcp-connect",
        kernel: "tcp-connect.flat.txt",
        golden: "tcp-connect-igb.txt",
        anchor: "tcp_v4_connect",
        end: "udp_sendmsg",
        beside: DRIVER,
    },
    Pair {
        name: "tcp-accept",
        kernel: "tcp-accept.flat.txt",
        golden: "tcp-accept-igb.txt",
        anchor: "sys_accept4",
        end: "udp_sendmsg",
        beside: DRIVER,
    },
    Pair {
        name: "tcp-out",
        kernel: "tcp-tx.flat.txt",
        golden: "tcp-out-igb.txt",
        anchor: "tcp_sendmsg",
        end: "udp_sendmsg",
        beside: DRIVER,
    },
    Pair {
        name: "tcp-in",
        kernel: "tcp-rx.flat.txt",
        golden: "tcp-in-igb.txt",
        anchor: "tcp_v4_rcv",
        end: "udp_sendmsg",
        beside: DRIVER,
    },
    Pair {
        name: "tcp-close",
        kernel: "tcp-close.flat.txt",
        golden: "tcp-close-igb.txt",
        anchor: "tcp_close",
        end: "udp_sendmsg",
        beside: DRIVER,
    },
];

/// The n-th time that a station is passed, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Visit(String, usize);

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(station, 1) => f.write_str(station),
            Self(station, n) => write!(f, "{station}#{n}"),
        }
    }
}

/// How a visit differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Ours passes it elsewhere.
    Order,
    /// Ours does not pass it so often, or at all.
    Missing,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Order => "order",
            Self::Missing => "missing",
        })
    }
}

/// A row of the document.
struct Listed<'a> {
    line: usize,
    pair: &'a str,
    visit: &'a str,
    kind: &'a str,
    why: &'a str,
}

/// A row of [`NAMES`]; no station: the second field is the reason.
#[derive(Clone, Copy)]
struct Name<'a> {
    line: usize,
    station: Option<&'a str>,
}

/// Every pair, the table of names, and the rows of the document.
pub fn run(tree: &Tree) -> Vec<Finding> {
    run_pairs(tree, PAIRS)
}

fn run_pairs(tree: &Tree, pairs: &[Pair]) -> Vec<Finding> {
    let Some(text) = tree.text(NAMES) else {
        return vec![Finding::new(RULE, NAMES, 1, "missing: which station a kernel function is")];
    };
    let mut found = Vec::new();
    let names = names(text, &mut found);
    check_names(tree, pairs, &names, &mut found);
    let listed = listed(tree.text(DOCUMENT).unwrap_or_default(), pairs);
    for row in listed.iter().filter(|row| row.why.is_empty()) {
        found.push(Finding::new(RULE, DOCUMENT, row.line, "the last cell says why"));
    }
    for pair in pairs {
        compare(tree, pair, &names, &listed, &mut found);
    }
    found
}

fn compare(
    tree: &Tree,
    pair: &Pair,
    names: &BTreeMap<&str, Name<'_>>,
    listed: &[Listed<'_>],
    found: &mut Vec<Finding>,
) {
    let (kernel, golden) = (format!("{KERNEL}{}", pair.kernel), format!("{GOLDEN}{}", pair.golden));
    let Some(text) = tree.text(&kernel) else {
        return found.push(Finding::new(RULE, &kernel, 1, "missing: the kernel's walk"));
    };
    let Some(ours) = tree.text(&golden) else {
        let what = format!("golden missing: {} can't be compared with {kernel}", pair.name);
        return found.push(Finding::new(RULE, &golden, 1, what));
    };
    let (functions, _) = traced(&kernel, text, found);
    // What the table does not name is found there.
    let stations = functions.into_iter().filter_map(|function| names.get(function)?.station);
    let Some(ours) = leg(ours, pair) else {
        let what = format!("no machine passes {}", pair.anchor);
        return found.push(Finding::new(RULE, &golden, 1, what));
    };
    let compared = |station: &&str| !pair.beside.contains(station);
    let kernel_visits = visits(stations.filter(compared));
    let differing = differences(&kernel_visits, &visits(ours.into_iter().filter(compared)));
    let rows = || listed.iter().filter(|row| row.pair == pair.name);
    for (visit, kind) in &differing {
        let (name, visit, kind) = (pair.name, visit.to_string(), kind.to_string());
        if !rows().any(|row| row.visit == visit && row.kind == kind) {
            let what =
                format!("differs from {kernel}: change it, or list | {name} | {visit} | {kind} |");
            found.push(Finding::new(RULE, &golden, 1, what));
        }
    }
    let mut seen = BTreeSet::new();
    for row in rows() {
        let needed = |(visit, kind): &(Visit, Kind)| {
            row.visit == visit.to_string() && row.kind == kind.to_string()
        };
        if !differing.iter().any(needed) || !seen.insert(row.visit) {
            let what = format!("{} no longer differs so: take the row out", row.visit);
            found.push(Finding::new(RULE, DOCUMENT, row.line, what));
        }
    }
}

/// `kernel function<TAB>station`, or `-<TAB>reason`; `#` begins a comment.
fn names<'a>(text: &'a str, found: &mut Vec<Finding>) -> BTreeMap<&'a str, Name<'a>> {
    let mut names = BTreeMap::new();
    for (at, row) in text.lines().enumerate() {
        if row.is_empty() || row.starts_with('#') {
            continue;
        }
        let line = at + 1;
        let cells: Vec<&str> = row.split('\t').collect();
        let (function, station) = match cells[..] {
            [function, "-", reason] if !reason.is_empty() => (function, None),
            [function, station] if station != "-" && !station.is_empty() => {
                (function, Some(station))
            }
            _ => {
                let what = "a row is FUNCTION<TAB>STATION, or FUNCTION<TAB>-<TAB>REASON";
                found.push(Finding::new(RULE, NAMES, line, what));
                continue;
            }
        };
        if names.insert(function, Name { line, station }).is_some() {
            found.push(Finding::new(RULE, NAMES, line, format!("{function} stands here twice")));
        }
    }
    names
}

/// The table names every function of the walks, nothing that no walk has, and only stations
/// that there are.
fn check_names(
    tree: &Tree,
    pairs: &[Pair],
    names: &BTreeMap<&str, Name<'_>>,
    found: &mut Vec<Finding>,
) {
    let mut used = BTreeSet::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.starts_with(KERNEL)) {
        // A line that can't be read is found where the walk is compared.
        let (functions, callers) = traced(path, text, &mut Vec::new());
        if pairs.iter().any(|pair| path.strip_prefix(KERNEL) == Some(pair.kernel)) {
            let unnamed: BTreeSet<&str> =
                functions.iter().copied().filter(|f| !names.contains_key(f)).collect();
            found.extend(unnamed.into_iter().map(|function| {
                let what = format!("{function} of {path} is not here");
                Finding::new(RULE, NAMES, 1, what)
            }));
        }
        used.extend(functions.into_iter().chain(callers));
    }
    let points: BTreeSet<&str> =
        tree.text(POINTS).unwrap_or_default().split(|c| !is_ident(c)).collect();
    for (function, name) in names {
        if !used.contains(function) {
            let what = format!("{function} is in no walk of {KERNEL}");
            found.push(Finding::new(RULE, NAMES, name.line, what));
        }
        if let Some(station) = name.station.filter(|station| !points.contains(station)) {
            let what = format!("{station} is no station of {POINTS}");
            found.push(Finding::new(RULE, NAMES, name.line, what));
        }
    }
}

/// The traced functions of a flat walk in order, `… TIME: FUNCTION <-CALLER` a line, and who called
/// them.
fn traced<'a>(path: &str, text: &'a str, found: &mut Vec<Finding>) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut traced = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let call = line.rsplit_once(": ").and_then(|(_, call)| call.split_once(" <-"));
        match call {
            Some((function, caller)) => {
                traced.0.push(function);
                traced.1.push(caller.trim());
            }
            None => {
                let what = "a line is `… TIME: FUNCTION <-CALLER`";
                found.push(Finding::new(RULE, path, at + 1, what));
            }
        }
    }
    traced
}

/// The stations of the machine that the pair speaks of, until it does something else.
fn leg<'a>(golden: &'a str, pair: &Pair) -> Option<Vec<&'a str>> {
    let record = |line: &'a str| {
        let mut words = line.split_whitespace();
        let machine = words.next()?.trim_end_matches(|c: char| c.is_ascii_digit());
        Some((machine, words.nth(2)?))
    };
    let records: Vec<(&str, &str)> = golden.lines().filter_map(record).collect();
    let (machine, _) = *records.iter().find(|(_, station)| *station == pair.anchor)?;
    let mut stations = Vec::new();
    let mut anchored = false;
    for (_, station) in records.into_iter().filter(|(at, _)| *at == machine) {
        anchored |= station == pair.anchor;
        if anchored && station == pair.end {
            break;
        }
        stations.push(station);
    }
    Some(stations)
}

fn visits<'a>(stations: impl Iterator<Item = &'a str>) -> Vec<Visit> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let visit = |station: &'a str| {
        let n = count.entry(station).or_default();
        *n += 1;
        Visit(station.to_owned(), *n)
    };
    stations.map(visit).collect()
}

/// What ours lacks, and the fewest visits without which the rest goes in the kernel's order. Of
/// several such choices the kernel's earlier visits are kept.
fn differences(kernel: &[Visit], ours: &[Visit]) -> Vec<(Visit, Kind)> {
    let place = |visit: &Visit| ours.iter().position(|have| have == visit);
    let (common, missing): (Vec<_>, Vec<_>) =
        kernel.iter().map(|visit| (visit, place(visit))).partition(|(_, place)| place.is_some());
    // The longest run that ascends from each on.
    let mut run = vec![1; common.len()];
    for from in (0..common.len()).rev() {
        let later = (from + 1..common.len()).filter(|to| common[*to].1 > common[from].1);
        run[from] = 1 + later.map(|to| run[to]).max().unwrap_or(0);
    }
    let mut left = run.iter().copied().max().unwrap_or(0);
    let mut last = None;
    let mut found: Vec<_> =
        missing.into_iter().map(|(visit, _)| (visit.clone(), Kind::Missing)).collect();
    for ((visit, place), run) in common.into_iter().zip(run) {
        if run == left && place > last {
            (left, last) = (left - 1, place);
        } else {
            found.push((visit.clone(), Kind::Order));
        }
    }
    found
}

/// The rows that list an exception.
fn listed<'a>(text: &'a str, pairs: &[Pair]) -> Vec<Listed<'a>> {
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(line) = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'))
        else {
            continue;
        };
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let [pair, visit, kind, why] = cells[..]
            && pairs.iter().any(|known| known.name == pair)
        {
            rows.push(Listed { line: at + 1, pair, visit, kind, why });
        }
    }
    rows
}
