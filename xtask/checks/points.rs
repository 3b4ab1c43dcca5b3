//! `points`: every station of the walk is recorded somewhere.
//!
//! A station that nothing records would be shown by `netkeel walk --stations` and never be passed.

use super::{Finding, is_test_path};
use crate::source::{Source, closing, find_word, names};
use crate::tree::Tree;
use std::collections::BTreeSet;

const RULE: &str = "points";
pub(super) const LIST: &str = "kernel/trace/events.rs";
/// Where stations are recorded.
const CODE: &[&str] = &["kernel/", "net/", "fs/", "drivers/", "hw/", "host/"];

/// Points of the list that no `walk!`, `boot_log` or other code names.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources();
    let Some(list) = sources.iter().find(|source| source.path == LIST) else { return Vec::new() };
    let mut recorded = BTreeSet::new();
    for source in sources.iter().filter(|source| records(source)) {
        recorded.extend(collect(&source.code_outside_tests()).into_iter().map(|(_, name)| name));
    }
    let silent = listed(list).into_iter().filter(|(_, name)| !recorded.contains(*name));
    let found = silent.map(|(at, name)| {
        let what = format!("{name}: no `walk!` records it: record it or take it out");
        Finding::new(RULE, LIST, list.line(at), what)
    });
    found.collect()
}

/// The file records stations.
pub(super) fn records(source: &Source) -> bool {
    let path = &source.path;
    // The tracer's own code names points only to tell links from stations.
    CODE.iter().any(|folder| path.starts_with(folder))
        && !path.starts_with("kernel/trace/")
        && !is_test_path(path)
        && !source.is_test_file()
}

/// The names of the list, with where they stand.
pub(super) fn listed(list: &Source) -> Vec<(usize, &str)> {
    let Some(at) = list.code.find("\npoints! {") else { return Vec::new() };
    let open = at + "\npoints! ".len();
    let end = closing(&list.code, open).unwrap_or(list.code.len());
    let block = &list.code[open..end];
    names(block).map(|name| (open + name.as_ptr().addr() - block.as_ptr().addr(), name)).collect()
}

/// What stands in a `walk!(…)`, and every `Point::name`, with where.
pub(super) fn collect(code: &str) -> Vec<(usize, String)> {
    let mut recorded = Vec::new();
    for at in find_word(code, "walk") {
        let open = at + "walk!".len();
        if !code[at..].starts_with("walk!(") {
            continue;
        }
        let end = closing(code, open).unwrap_or(code.len());
        recorded.extend(names(&code[open..end]).map(|name| (at, name.to_owned())));
    }
    for at in find_word(code, "Point") {
        if let Some(rest) = code[at..].strip_prefix("Point::") {
            recorded.extend(names(rest).next().map(|name| (at, name.to_owned())));
        }
    }
    recorded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let list = "\npoints! {\n    \"net/a.c\" { one two }\n}\n";
        let mut files = files.to_vec();
        files.push((LIST, list));
        run(&Tree::of(&files)).into_iter().map(|found| found.what).collect()
    }

    #[test]
    fn a_point_is_recorded_or_found() {
        let walks = "fn f() { walk!(cx, skb, one => 1); m.boot_log(Point::two); }";
        assert!(found(&[("net/a.rs", walks)]).is_empty());
        let one = "fn f() { walk!(cx, one); }\n#[cfg(test)]\nmod t { fn g() { walk!(cx, two); } }";
        assert_eq!(found(&[("net/a.rs", one)]).len(), 1);
        assert_eq!(found(&[("net/tests/a.rs", walks), ("sim/a.rs", walks)]).len(), 2);
    }
}
