//! `divergences`: each file that declares how it differs from Linux (`//! DIVERGES:`) has its row in
//! the document, and the document's first table names no other file.

use super::Finding;
use crate::tree::Tree;

const RULE: &str = "divergences";
const DOCUMENT: &str = "Documentation/networking/divergences.md";
const HEADING: &str = "## Declared in the code";

/// Declarations against rows.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let declaring: Vec<(&str, usize)> = tree
        .texts()
        .filter(|(path, _)| path.ends_with(".rs") && !path.starts_with("xtask/"))
        .filter_map(|(path, text)| {
            let at = text.lines().position(|line| line.starts_with("//! DIVERGES:"))?;
            Some((path, at + 1))
        })
        .collect();
    let Some(document) = tree.text(DOCUMENT) else {
        return declaring
            .iter()
            .map(|(path, line)| Finding::new(RULE, path, *line, format!("{DOCUMENT} is missing")))
            .collect();
    };
    let rows = rows(document);
    let without = declaring.iter().filter(|(path, _)| !rows.iter().any(|(row, _)| row == path));
    let undeclared = rows.iter().filter(|(row, _)| !declaring.iter().any(|(path, _)| path == row));
    let missing_row = without.map(|(path, line)| {
        let what = format!("declares a difference that {DOCUMENT} does not list: add its row");
        Finding::new(RULE, path, *line, what)
    });
    let missing_line = undeclared.map(|(row, line)| {
        let what = format!("{row} declares no difference: take the row out, or move it down");
        Finding::new(RULE, DOCUMENT, *line, what)
    });
    missing_row.chain(missing_line).collect()
}

/// The files linked in the first cells of the first table, with their lines.
fn rows(document: &str) -> Vec<(String, usize)> {
    let lines = document.lines().enumerate().skip_while(|(_, line)| *line != HEADING).skip(1);
    lines
        .take_while(|(_, line)| !line.starts_with("## "))
        .filter_map(|(at, line)| {
            let (_, link) = line.strip_prefix("| [")?.split_once("](../../")?;
            Some((link.split_once(')')?.0.to_owned(), at + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: (&str, &str) = ("net/a.rs", "//! A.\n//! DIVERGES: no b.\n");

    fn found(document: &str) -> Vec<String> {
        let tree = Tree::of(&[CODE, (DOCUMENT, document)]);
        run(&tree).into_iter().map(|f| format!("{}:{}", f.file, f.line)).collect()
    }

    #[test]
    fn declarations_and_rows_belong_together() {
        let table = "# D\n\n## Declared in the code\n\n| [a](../../net/a.rs) | no b | |\n";
        assert_eq!(found(table), [""; 0]);
        assert_eq!(found("# D\n\n## Declared in the code\n"), ["net/a.rs:2"]);
        let other = format!("{table}| [c](../../net/c.rs) | no d | |\n");
        assert_eq!(found(&other), [format!("{DOCUMENT}:6")]);
        let later = format!("{table}\n## Seen\n\n| [c](../../net/c.rs) | no d | |\n");
        assert_eq!(found(&later), [""; 0]);
    }

    #[test]
    fn without_the_document_every_declaration_is_found() {
        assert_eq!(run(&Tree::of(&[CODE])).len(), 1);
    }
}
