//! The checks by name, and what they report.

mod divergences;
mod forbidden;
mod kernel_walks;
mod layers;
mod lengths;
mod links;
mod locks;
mod points;
mod stations;
mod words;

use crate::tree::Tree;
use std::fmt;

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative path.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The check's name.
    pub rule: &'static str,
    /// What is wrong, and the way out.
    pub what: String,
}

impl Finding {
    /// A finding of `rule`.
    pub fn new(rule: &'static str, file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// A check.
pub struct Check {
    /// Its name on the command line and in findings.
    pub name: &'static str,
    /// One line for `--help`.
    pub what: &'static str,
    /// Does it.
    pub run: fn(&Tree) -> Vec<Finding>,
}

/// All checks, in the order they run.
pub const ALL: &[Check] = &[
    Check { name: "lengths", what: "files and functions of a readable length", run: lengths::run },
    Check {
        name: "forbidden",
        what: "clocks, threads, randomness, globals, unsafe outside their places",
        run: forbidden::run,
    },
    Check { name: "layers", what: "who may use whom", run: layers::run },
    Check { name: "locks", what: "the lock table in code and document", run: locks::run },
    Check { name: "points", what: "stations of the walk are recorded", run: points::run },
    Check { name: "links", what: "links of the documentation", run: links::run },
    Check { name: "map", what: "the map of Linux's stations", run: crate::map::check },
    Check { name: "stations", what: "each recorded station in a golden walk", run: stations::run },
    Check {
        name: "kernel-walks",
        what: "the walks against a kernel's own",
        run: kernel_walks::run,
    },
    Check {
        name: "divergences",
        what: "declared differences from Linux and their document",
        run: divergences::run,
    },
    Check { name: "words", what: "what must not be in a public tree", run: words::run },
];

/// The file holds nothing but tests, or what is built for them.
pub fn is_test_path(path: &str) -> bool {
    let folders = ["tests", "benches", "examples", "fuzz"];
    path.ends_with("/tests.rs")
        || path.split('/').rev().skip(1).any(|folder| folders.contains(&folder))
}
