//! `links`: the documentation's links lead somewhere, and the documentation can be found.

mod markdown;

use super::Finding;
use crate::tree::Tree;
use std::collections::BTreeSet;

const RULE: &str = "links";
const STARTS: &[&str] = &["README.md", "README.zh-CN.md"];
const FOLDER: &str = "Documentation/networking/";

/// Every relative link of every `*.md`, and that each document can be reached from a README.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in documents(tree) {
        for link in markdown::links(text) {
            if let Err(what) = resolve(tree, path, &link.target) {
                let what = format!("{}: {what}", link.target);
                found.push(Finding::new(RULE, path, link.line, what));
            }
        }
    }
    if tree.text(STARTS[0]).is_some() {
        let reached = reachable(tree);
        let lost = documents(tree)
            .map(|(path, _)| path)
            .filter(|path| path.starts_with(FOLDER) && !reached.contains(*path));
        let what = "no way here from README.md or README.zh-CN.md: link it";
        found.extend(lost.map(|path| Finding::new(RULE, path, 1, what)));
    }
    found
}

fn documents(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.texts().filter(|(path, _)| path.ends_with(".md"))
}

/// The file a link names; `None` for one out of the tree. `Err`: what is wrong with it.
fn resolve(tree: &Tree, from: &str, target: &str) -> Result<Option<String>, String> {
    if target.starts_with('/') || target.starts_with("file:") {
        return Err("an absolute path: make it relative to this file".to_owned());
    }
    let scheme = target.split_once(':').is_some_and(|(scheme, _)| {
        scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    if scheme {
        return Ok(None);
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { Some(from.to_owned()) } else { join(from, path) };
    let Some(path) = path.filter(|path| tree.exists(path)) else {
        return Err("no such file in the repository".to_owned());
    };
    if !anchor.is_empty() {
        let text = tree.text(&path).ok_or("an anchor into something that is no text")?;
        if path.ends_with(".md") && !markdown::anchors(text).iter().any(|have| have == anchor) {
            return Err(format!("{path} has no heading for #{anchor}"));
        }
        let line = anchor.strip_prefix('L').and_then(|line| line.parse::<usize>().ok());
        if line.is_some_and(|line| line > text.lines().count()) {
            return Err(format!("{path} has no line {anchor}"));
        }
    }
    Ok(Some(path))
}

/// `target` as seen from the folder of `from`; `None` when it leaves the tree.
fn join(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn reachable(tree: &Tree) -> BTreeSet<String> {
    let mut todo: Vec<String> = STARTS.iter().map(|path| (*path).to_owned()).collect();
    let mut reached = BTreeSet::new();
    while let Some(path) = todo.pop() {
        let Some(text) = tree.text(&path) else { continue };
        if !path.ends_with(".md") || !reached.insert(path.clone()) {
            continue;
        }
        let links = markdown::links(text).into_iter();
        todo.extend(links.filter_map(|link| resolve(tree, &path, &link.target).ok()?));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        run(&Tree::of(files)).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn links_resolve() {
        let guide =
            ("Documentation/networking/a.md", "# Two words\n[b](../../lib.rs) [c](#two-words)");
        let readme =
            ("README.md", "[a](Documentation/networking/a.md#two-words) [x](https://x.y/z)");
        assert!(found(&[guide, readme, ("lib.rs", "")]).is_empty());
        assert_eq!(found(&[guide, readme]).len(), 1);
    }

    #[test]
    fn wrong_links() {
        for link in ["[a](b.md)", "[a](/etc/x)", "[a](../x)", "[a](#none)", "[a]: gone.md"] {
            assert_eq!(found(&[("A.md", link)]).len(), 1, "{link}");
        }
        assert!(found(&[("A.md", "`[a](b.md)`\n```\n[a](b.md)\n```\n")]).is_empty());
    }

    #[test]
    fn documents_can_be_found() {
        let lost = ("Documentation/networking/a.md", "");
        assert!(found(&[lost]).is_empty());
        assert_eq!(found(&[lost, ("README.md", "")]).len(), 1);
        let zh = ("README.zh-CN.md", "[a](Documentation/networking/a.md)");
        assert!(found(&[lost, ("README.md", ""), zh]).is_empty());
    }
}
