//! `locks`: the lock table is the same in code and document, and its ranks ascend.

use super::Finding;
use crate::tree::Tree;

const RULE: &str = "locks";
const CODE: &str = "kernel/locking/lockdep.rs";
const DOCUMENT: &str = "Documentation/networking/locking.md";

/// A row of either table.
#[derive(Debug, PartialEq, Eq)]
struct Class {
    line: usize,
    rank: u8,
    name: String,
    what: String,
}

impl Class {
    fn same(&self, other: &Self) -> bool {
        (self.rank, &self.name, &self.what) == (other.rank, &other.name, &other.what)
    }
}

/// The comparison, once there is a lock table.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let Some(code) = tree.text(CODE) else { return Vec::new() };
    let classes = in_code(code);
    let mut found = Vec::new();
    if classes.is_empty() {
        let what = "no rows found in `lock_classes! { … }`; a row is `RANK Name \"what\";`";
        found.push(Finding::new(RULE, CODE, 1, what));
    }
    for pair in classes.windows(2).filter(|pair| pair[0].rank >= pair[1].rank) {
        let what = format!("{}: rank {} does not ascend", pair[1].name, pair[1].rank);
        found.push(Finding::new(RULE, CODE, pair[1].line, what));
    }
    let Some(text) = tree.text(DOCUMENT) else {
        found.push(Finding::new(RULE, DOCUMENT, 1, "missing: it documents the lock table"));
        return found;
    };
    let rows = in_document(text);
    for class in classes.iter().filter(|class| !rows.iter().any(|row| row.same(class))) {
        let (rank, name, what) = (class.rank, &class.name, &class.what);
        let line = rows.iter().find(|row| row.name == *name).map_or(1, |row| row.line);
        let what = format!("{CODE} has this row: | {rank} | {name} | {what} |");
        found.push(Finding::new(RULE, DOCUMENT, line, what));
    }
    for row in rows.iter().filter(|row| !classes.iter().any(|class| class.name == row.name)) {
        let what = format!("{} is no lock class of {CODE}: take the row out", row.name);
        found.push(Finding::new(RULE, DOCUMENT, row.line, what));
    }
    for pair in rows.windows(2).filter(|pair| pair[0].rank >= pair[1].rank) {
        let what = format!("{}: the rows go by rank, lowest first", pair[1].name);
        found.push(Finding::new(RULE, DOCUMENT, pair[1].line, what));
    }
    found
}

fn in_code(text: &str) -> Vec<Class> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let table = lines
        .skip_while(|(_, line)| !line.starts_with("lock_classes! {"))
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('}'));
    let class = |(line, text): (usize, &str)| {
        let (rank, rest) = text.split_once(' ')?;
        let (name, rest) = rest.split_once(' ')?;
        let what = rest.strip_prefix('"')?.strip_suffix("\";")?.replace("\\\"", "\"");
        Some(Class { line, rank: rank.parse().ok()?, name: name.to_owned(), what })
    };
    table.filter_map(class).collect()
}

fn in_document(text: &str) -> Vec<Class> {
    let class = |(at, text): (usize, &str)| {
        let mut cells = text.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
        let rank = cells.next()?.parse().ok()?;
        let name = cells.next()?.trim_matches('`').to_owned();
        Some(Class { line: at + 1, rank, name, what: cells.next()?.to_owned() })
    };
    text.lines().enumerate().filter_map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "lock_classes! {\n    5 Rtnl \"One writer.\";\n    10 Sock \"A `sock`.\";\n}\n";

    fn found(code: &str, document: &str) -> Vec<(usize, String)> {
        let tree = Tree::of(&[(CODE, code), (DOCUMENT, document)]);
        run(&tree).into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    #[test]
    fn the_same_table() {
        let text = "| rank | class | what |\n|---|---|---|\n| 5 | Rtnl | One writer. |\n| 10 | `Sock` | A `sock`. |\n";
        assert!(found(TABLE, text).is_empty());
    }

    #[test]
    fn a_row_differs_lacks_or_is_too_much() {
        let text = "| 5 | Rtnl | One. |\n| 7 | Old | Gone. |\n";
        let lines: Vec<usize> = found(TABLE, text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 1, 2]);
    }

    #[test]
    fn ranks_ascend() {
        let code = "lock_classes! {\n 5 A \"a\";\n 5 B \"b\";\n}";
        let text = "| 5 | A | a |\n| 5 | B | b |\n";
        assert_eq!(found(code, text).len(), 2);
    }

    #[test]
    fn no_document() {
        assert_eq!(run(&Tree::of(&[(CODE, TABLE)])).len(), 1);
    }
}
