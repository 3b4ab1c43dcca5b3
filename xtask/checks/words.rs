//! `words`: nothing of a developer's own machine gets into the tree, and every package says what
//! it is.

use super::Finding;
use crate::source::is_ident;
use crate::tree::Tree;

const RULE: &str = "words";

/// What must not stand in a file, and the way out. In two halves each, so that this file passes.
const WORDS: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "a path of one machine: write it relative to the repository"),
    ("/ro", "ot/", "a path of one machine: write it relative to the repository"),
    ("crates", ".io", "no links to package registries: name the package"),
    ("py", "pi.org", "no links to package registries: name the package"),
    ("npm", "js.com", "no links to package registries: name the package"),
    ("npm", "js.org", "no links to package registries: name the package"),
    ("proxy.go", "lang.org", "no links to package registries: name the package"),
];

/// Words in all text files, and descriptions in all manifests.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    // Cargo writes the registry's address into its lock file.
    for (path, text) in tree.texts().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (at, line) in text.lines().enumerate() {
            found.extend(in_line(line).map(|what| Finding::new(RULE, path, at + 1, what)));
        }
    }
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let public = crate::manifest::package(text, "name").is_some()
            && crate::manifest::package(text, "publish") != Some("false");
        if public && crate::manifest::package(text, "description").is_none_or(str::is_empty) {
            let what = "no `description`: say in a line what the package is";
            found.push(Finding::new(RULE, path, 1, what));
        }
    }
    found
}

fn in_line(line: &str) -> impl Iterator<Item = String> {
    WORDS.iter().filter_map(move |(first, second, out)| {
        let word = format!("{first}{second}");
        let absolute = |(at, _): (usize, &str)| {
            // A path begins here only if nothing that belongs to a path stands before it.
            let before = line[..at].chars().next_back();
            !word.starts_with('/') || !before.is_some_and(|c| is_ident(c) || "./-*}~".contains(c))
        };
        line.match_indices(&word).any(absolute).then(|| format!("`{word}`: {out}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        run(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn paths_of_a_machine() {
        assert_eq!(count("a.md", concat!("see `/wo", "rk/x`")), 1);
        assert_eq!(count("a.md", concat!("see net/wo", "rk/x and /pro", "c/net")), 0);
    }

    #[test]
    fn registries() {
        let text = concat!("https://crates", ".io/crates/x");
        assert_eq!(count("README.md", text), 1);
        assert_eq!(count("Cargo.lock", text), 0);
    }

    #[test]
    fn descriptions() {
        assert_eq!(count("a/Cargo.toml", "[package]\nname = \"a\"\n"), 1);
        assert_eq!(count("a/Cargo.toml", "[package]\nname = \"a\"\npublish = false\n"), 0);
        assert_eq!(count("a/Cargo.toml", "[package]\nname = \"a\"\ndescription = \"b\"\n"), 0);
        assert_eq!(count("Cargo.toml", "[workspace]\n"), 0);
    }
}
