//! `stations`: each point of the walk that code records stands in a golden walk, or in the list of
//! those that none shows, which may only shrink.

use super::{Finding, points};
use crate::source::names;
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};

const RULE: &str = "stations";
const WALKS: &str = "tools/testing/selftests/walks/";
/// `POINT<TAB>why no golden walk shows it`, a line.
const UNSHOWN: &str = "tools/testing/selftests/unshown.txt";

/// Records against golden walks.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources();
    let Some(list) = sources.iter().find(|source| source.path == points::LIST) else {
        return Vec::new();
    };
    let points: BTreeSet<&str> = points::listed(list).into_iter().map(|(_, name)| name).collect();
    let mut recorded: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for source in sources.iter().filter(|source| points::records(source)) {
        for (at, name) in points::collect(&source.code_outside_tests()) {
            if let Some(point) = points.get(name.as_str()) {
                recorded.entry(point).or_insert((&source.path, source.line(at)));
            }
        }
    }
    let walks = tree.texts().filter(|(path, _)| path.starts_with(WALKS) && path.ends_with(".txt"));
    let shown: BTreeSet<&str> = walks.flat_map(|(_, text)| names(text)).collect();
    compare(&recorded, &shown, tree.text(UNSHOWN).unwrap_or_default())
}

fn compare(
    recorded: &BTreeMap<&str, (&str, usize)>,
    shown: &BTreeSet<&str>,
    list: &str,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut listed = BTreeSet::new();
    for (at, line) in list.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let (point, why) = line.split_once('\t').unwrap_or((line, ""));
        listed.insert(point);
        let what = if !recorded.contains_key(point) {
            format!("{point} is recorded nowhere: take the line out")
        } else if shown.contains(point) {
            format!("a golden walk shows {point}: take the line out")
        } else if why.trim().is_empty() {
            format!("{point}: no reason, behind a tab, why no golden walk can show it")
        } else {
            continue;
        };
        found.push(Finding::new(RULE, UNSHOWN, at + 1, what));
    }
    for (point, (file, line)) in recorded {
        if !shown.contains(point) && !listed.contains(point) {
            let what = format!("no golden walk under {WALKS} shows {point}: add one that does");
            found.push(Finding::new(RULE, file, *line, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: (&str, &str) = (
        points::LIST,
        "macro_rules! points { () => {} }\n\npoints! {\n \"a.c\" { one two three }\n}\n",
    );

    fn found(code: &str, walk: &str, list: &str) -> Vec<String> {
        let tree = Tree::of(&[
            POINTS,
            ("net/a.rs", code),
            ("tools/testing/selftests/walks/w.txt", walk),
            (UNSHOWN, list),
        ]);
        run(&tree).into_iter().map(|f| format!("{}:{}", f.file, f.line)).collect()
    }

    #[test]
    fn what_is_recorded_is_shown() {
        let code = "fn f() { walk!(cx, skb, one => f(a, b)); }\nfn g() { m.boot_log(Point::two) }";
        assert_eq!(found(code, "A0 softirq s1 one\nboot two\n", ""), [""; 0]);
        assert_eq!(found(code, "A0 softirq s1 one_more\n", ""), ["net/a.rs:1", "net/a.rs:2"]);
        assert_eq!(found(&code.replace("two", "no_point"), "one", ""), [""; 0]);
    }

    #[test]
    fn tests_and_comments_record_nothing() {
        assert_eq!(
            found(
                "// walk!(cx, one)\n#[cfg(test)] mod tests { fn f() { walk!(cx, two); } }",
                "",
                ""
            ),
            [""; 0]
        );
    }

    #[test]
    fn the_list_of_exceptions_only_shrinks() {
        let code = "fn f() { walk!(cx, one); }";
        assert_eq!(found(code, "", "# why\none\tno way there\n"), [""; 0]);
        assert_eq!(found(code, "", "one\n"), [format!("{UNSHOWN}:1")], "without a reason");
        assert_eq!(found(code, "one", "one\tno way there\n"), [format!("{UNSHOWN}:1")]);
        assert_eq!(found(code, "one", "two\tgone\n"), [format!("{UNSHOWN}:1")]);
    }
}
