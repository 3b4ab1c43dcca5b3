//! The map of Linux's stations: which of them the tree has, where, and what shows them.
//!
//! The rows are `tools/testing/selftests/linux-map.tsv`; the stations are found by the tags in the
//! code ([`tags`]); what is missing is committed in a list that may only shrink.

mod render;
mod rows;
mod tags;
#[cfg(test)]
mod tests;

use crate::checks::Finding;
use crate::source::is_ident;
use crate::tree::Tree;
use rows::Row;
use std::collections::{BTreeMap, BTreeSet};
use tags::Tag;

const RULE: &str = "map";
const ROWS: &str = "tools/testing/selftests/linux-map.tsv";
const WALKS: &str = "tools/testing/selftests/walks/";
/// The committed list of what is missing.
pub const MISSING: &str = "tools/testing/selftests/missing.txt";
/// The parts whose rows may still be missing.
const MAY_BE_MISSING: &[&str] = &["tcp", "map"];
/// The generated document.
pub const DOCUMENT: &str = "Documentation/networking/linux-map.md";

/// How to mark a station.
pub const HELP: &str = "\
How a row of tools/testing/selftests/linux-map.tsv becomes present.

The item carries a doc line of its own:

    /// linux: FILE:NAME

FILE   the row's place without `:line`, e.g. net/ipv4/ip_input.c; for a knob what stands there,
       e.g. net.core.rmem_default or /proc/irq/N/smp_affinity. A file of the same stem counts
       too (include/uapi/linux/x.h for include/linux/x.h).
NAME   the row's station, exactly, leading underscores too. A phrase (`softirq numbers`) is
       written whole, or its first word. A station with commas or of kind `members` is one entry
       per name, and each needs its tag; a member's FILE is free, because the row's place is that
       of the table. `#[doc(alias = \"NAME\")]` on the tagged item counts as NAME.
A line may name several: `linux: FILE:NAME, FILE2:NAME2`, and `linux: FILE:NAME, NAME2`; words
after `. ` or ` (` are not read.

A row of kind `fn` wants more, in the function that follows its `///` tag:
- its first statement is `walk!(…, NAME)` or `walk!(…, NAME => …)`; only what decides who is
  watched may stand before it: `cx.watch(…);`, `cx.enter_call();`, `cx.context = …;`; in a
  resumable call it is the first statement of the step, `SockCall::new(move |cx, wait| {…`
- NAME occurs in a golden walk, tools/testing/selftests/walks/**/*.txt.
Accessors and boot stages want the tag only, on any item (TAG_ONLY in xtask/map.rs).
Another tagged item of the same name may stand in the tree; one that has all of it is enough.

tools/testing/selftests/missing.txt lists what is missing, `FILE:NAME<TAB>part` a line. The check
fails on a station that is missing and not listed, on one that is listed and present, and on one
whose part is complete: only rows of `tcp` and `map` may be missing.

  cargo xtask map --missing            prints what is missing and why
  cargo xtask map --missing --write    writes missing.txt
  cargo xtask map --write              writes Documentation/networking/linux-map.md
";

/// Stations that only need their tag: they run at boot, where no packet and no span exists, or
/// they read a field, where a record would say nothing.
const TAG_ONLY: &[&str] = &[
    "spawn_ksoftirqd",
    "smpboot_register_percpu_thread",
    "open_softirq",
    "local_softirq_pending",
    "net_dev_init",
    "inet_init",
    "inet_add_protocol",
    "dev_add_pack",
    "netif_napi_add",
    "igb_init_module",
    "igb_probe",
    "igb_alloc_q_vector",
    "igb_open",
    "__igb_open",
    "igb_setup_all_rx_resources",
    "igb_request_irq",
    "igb_request_msix",
    "sock_owned_by_user",
    "sk_rcvqueues_full",
    "skb_rtable",
    "skb_dst",
    "skb_dst_set_noref",
    "tcp_write_queue_tail",
    "tcp_send_head",
    "forced_push",
];

/// How far a station is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Present(Tag),
    /// Why not, in words.
    Missing(String),
}

/// One name of a row.
struct Entry<'a> {
    row: &'a Row,
    file: &'a str,
    name: &'a str,
    state: State,
}

impl Entry<'_> {
    fn key(&self) -> String {
        format!("{}:{}", self.file, self.name)
    }
}

/// The map against a tree.
pub struct Map<'a> {
    rows: Vec<Row>,
    tags: Vec<Tag>,
    walks: Vec<(&'a str, BTreeSet<&'a str>)>,
}

impl<'a> Map<'a> {
    /// Reads rows, tags and golden walks.
    pub fn read(tree: &'a Tree) -> Result<Self, Finding> {
        let text = tree
            .text(ROWS)
            .ok_or_else(|| Finding::new(RULE, ROWS, 1, "missing: the map of Linux's stations"))?;
        let rows =
            rows::parse(text).map_err(|(line, what)| Finding::new(RULE, ROWS, line, what))?;
        let golden = |(path, text): (&'a str, &'a str)| {
            let here = path.starts_with(WALKS) && path.ends_with(".txt");
            here.then(|| (path, text.split(|c| !is_ident(c)).collect()))
        };
        let walks = tree.texts().filter_map(golden).collect();
        Ok(Self { rows, tags: tree.sources().iter().flat_map(tags::of).collect(), walks })
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries = Vec::new();
        for row in &self.rows {
            for (file, name) in row.names() {
                entries.push(Entry { row, file, name, state: self.state(row, file, name) });
            }
        }
        entries
    }

    fn state(&self, row: &Row, file: &str, name: &str) -> State {
        let mut reason = None;
        for tag in self.tags.iter().filter(|tag| tag.names(row, file, name)) {
            match self.lacks(row, tag, name) {
                None => return State::Present(tag.clone()),
                Some(lack) => {
                    let at = format!("{}:{}: {lack}", tag.path, tag.line);
                    reason.get_or_insert(at);
                }
            }
        }
        State::Missing(reason.unwrap_or_else(|| format!("no item says `linux: {file}:{name}`")))
    }

    /// What a tagged item of the row still wants.
    fn lacks(&self, row: &Row, tag: &Tag, name: &str) -> Option<String> {
        if row.kind != "fn" || TAG_ONLY.contains(&name) {
            return None;
        }
        if tag.item.is_none() {
            return Some("the tag is on no function (write `///` on it)".to_owned());
        }
        if tag.walk.as_deref() != Some(name) {
            return Some(format!("the first statement is not `walk!(…, {name})`"));
        }
        let shown = self.walks.iter().any(|(_, names)| names.contains(name));
        (!shown).then(|| format!("no golden walk under {WALKS} shows {name}"))
    }

    /// The golden walks that show a station.
    fn shown(&self, name: &str) -> impl Iterator<Item = &str> {
        self.walks.iter().filter(move |(_, names)| names.contains(name)).map(|(path, _)| *path)
    }

    /// Keys of what is missing, each with its part and why; in the map's order.
    fn missing(&self) -> Vec<(String, String, String)> {
        let mut seen = BTreeSet::new();
        let mut missing = Vec::new();
        for entry in self.entries() {
            if let State::Missing(reason) = &entry.state
                && seen.insert(entry.key())
            {
                missing.push((entry.key(), entry.row.part.clone(), reason.clone()));
            }
        }
        missing
    }

    /// What `missing.txt` must hold.
    pub fn missing_list(&self) -> String {
        let lines = self.missing().into_iter().map(|(key, part, _)| format!("{key}\t{part}\n"));
        lines.collect()
    }

    /// The same for people, with reasons and a count per part.
    pub fn missing_with_reasons(&self) -> String {
        let mut parts: BTreeMap<String, usize> = BTreeMap::new();
        let mut text = String::new();
        for (key, part, reason) in self.missing() {
            text.push_str(&format!("{part}\t{key}\t{reason}\n"));
            *parts.entry(part).or_default() += 1;
        }
        for (part, count) in parts {
            text.push_str(&format!("{count} missing of part {part}\n"));
        }
        text
    }

    /// The document.
    pub fn document(&self) -> String {
        render::document(self)
    }
}

/// The map is kept: nothing newly missing, nothing listed that is present, document up to date.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let map = match Map::read(tree) {
        Ok(map) => map,
        Err(finding) => return vec![finding],
    };
    let mut found = Vec::new();
    let listed = tree.text(MISSING).unwrap_or_default();
    let listed: Vec<(usize, &str)> = listed
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| (at + 1, line))
        .collect();
    let missing: BTreeMap<String, String> =
        map.missing().into_iter().map(|(key, part, why)| (format!("{key}\t{part}"), why)).collect();
    for (key, why) in &missing {
        if !listed.iter().any(|(_, line)| line == key) {
            let key = key.replace('\t', ", part ");
            let what = format!("{key} is missing: {why} (see `cargo xtask map --help`)");
            found.push(Finding::new(RULE, MISSING, 1, what));
        }
    }
    for (line, key) in listed.iter().filter(|(_, key)| !missing.contains_key(*key)) {
        let key = key.replace('\t', ", part ");
        let what = format!(
            "{key} is not missing: take the line out (`cargo xtask map --missing --write`)"
        );
        found.push(Finding::new(RULE, MISSING, *line, what));
    }
    found.extend(listed.iter().filter_map(|(line, key)| {
        let (name, part) = key.split_once('\t').unwrap_or((key, ""));
        (!MAY_BE_MISSING.contains(&part)).then(|| {
            let parts = MAY_BE_MISSING.join(" or ");
            let what = format!("{name} is of part {part:?}: only rows of {parts} may be missing");
            Finding::new(RULE, MISSING, *line, what)
        })
    }));
    // Before there is a README there is nothing to link the document from.
    let wanted = tree.text(DOCUMENT).is_some() || tree.text("README.md").is_some();
    if wanted && tree.text(DOCUMENT) != Some(map.document().as_str()) {
        let what = "not what the code says: `cargo xtask map --write`";
        found.push(Finding::new(RULE, DOCUMENT, 1, what));
    }
    found
}
