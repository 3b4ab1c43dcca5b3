//! `forbidden`: what must come through a context, and what must not be written at all.
//!
//! A machine is a value and a run under virtual time has one answer: so clocks, threads, chance
//! and globals belong to `host/` alone. `unsafe` is allowed by name.

use super::{Finding, is_test_path};
use crate::source::{Source, find_word, is_ident, names};
use crate::tree::Tree;

#[cfg(test)]
mod tests;

const RULE: &str = "forbidden";

/// Nowhere, not even in tests.
const NOWHERE: &[(&str, &str)] = &[
    ("todo!", "finish it or leave it out"),
    ("unimplemented!", "finish it, or fail with Linux's errno"),
    ("#[ignore", "a test that needs more than the machine has calls `need(…)` and skips"),
];

/// Not outside tests.
const NOT_IN_CODE: &[(&str, &str)] =
    &[(".unwrap()", "handle it, or `expect` with the reason why it can't fail")];

/// Not outside tests and `host/`.
const ONLY_HOST: &[(&str, &str)] = &[
    ("thread_local!", "per-CPU data is in `CpuLocal`, a task's in `TaskStruct`"),
    ("Instant::now", "take `now` from the context"),
    ("SystemTime::now", "take the wall clock from the platform"),
    ("rand::random", "use the machine's generator"),
    ("rand::rng", "use the machine's generator"),
    ("thread_rng", "use the machine's generator"),
    ("ThreadRng", "use the machine's generator"),
    ("OsRng", "`host` seeds the machine's generator"),
    ("SysRng", "`host` seeds the machine's generator"),
    ("lazy_static", "put it in the machine or the context"),
];

/// Types that make a `static` a global variable.
const MUTABLE: &[&str] = &[
    "Mutex",
    "RwLock",
    "Condvar",
    "Once",
    "OnceLock",
    "LazyLock",
    "OnceCell",
    "LazyCell",
    "RefCell",
    "Cell",
    "UnsafeCell",
    "SpinLock",
    "ArcSwap",
];

/// Where `unsafe` is allowed: `NAME.rs` and what lies in `NAME/`. In tests the compiler's own
/// `deny` is enough.
const UNSAFE: &[&str] = &[
    "host",
    "kernel/locking/cpu_cell",
    "kernel/locking/raw",
    "net/core/skbuff/memory",
    "drivers/pci/dma",
];

/// What one file may use all the same, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "kernel/locking/lockdep.rs",
        "thread_local!",
        "the ranks a thread holds belong to the thread; debug builds only, and only the assertion \
         reads them",
    ),
    (
        "kernel/locking/raw.rs",
        "std::thread",
        "a waiter yields to a holder that lost its processor; a stepped run never waits",
    ),
];

/// All of it.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let tests = test_files(tree);
    let is_test = |path: &str| {
        is_test_path(path)
            || ["xtask/", "tools/"].iter().any(|folder| path.starts_with(folder))
            || tests.iter().any(|module| within(path, module))
    };
    tree.sources().iter().flat_map(|source| of(source, is_test(&source.path))).collect()
}

/// Modules in files of their own that only tests see, without `.rs`.
fn test_files(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.sources() {
        let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
        let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let folder = if ["mod", "lib", "main"].contains(&name) { folder } else { stem };
        for module in source.test_modules() {
            found.push(format!("{folder}/{module}").trim_start_matches('/').to_owned());
        }
    }
    found
}

/// `path` is `module.rs` or lies in `module/`.
fn within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn of(source: &Source, test: bool) -> Vec<Finding> {
    let test = test || source.is_test_file();
    let mut found = Vec::new();
    let mut report = |offset: usize, name: &str, out: &str| {
        let what = format!("`{name}`: {out}");
        found.push(Finding::new(RULE, &source.path, source.line(offset), what));
    };
    let excepted =
        |name: &str| EXCEPTIONS.iter().any(|(path, what, _)| *path == source.path && *what == name);
    for (name, out) in NOWHERE {
        find_word(&source.code, name).for_each(|at| report(at, name, out));
    }
    if test {
        return found;
    }
    let code = source.code_outside_tests();
    for (name, out) in NOT_IN_CODE {
        find_word(&code, name).for_each(|at| report(at, name, out));
    }
    if !UNSAFE.iter().any(|module| within(&source.path, module)) {
        let out = "allowed by name only (see UNSAFE in xtask/checks/forbidden.rs)";
        find_word(&code, "unsafe").for_each(|at| report(at, "unsafe", out));
    }
    if source.path.starts_with("host/") {
        return found;
    }
    for (name, out) in ONLY_HOST.iter().filter(|(name, _)| !excepted(name)) {
        find_word(&code, name).for_each(|at| report(at, name, out));
    }
    for at in threads(&code).into_iter().filter(|_| !excepted("std::thread")) {
        report(at, "std::thread", "threads are `host`'s; a machine is driven by its platform");
    }
    for (at, name) in statics(&code) {
        if !(name != "static mut" && excepted("thread_local!")) {
            report(at, &name, "no globals: put it in the machine, the net or the context");
        }
    }
    found
}

/// Uses of the thread module; whether this thread is panicking may be asked anywhere.
fn threads(code: &str) -> Vec<usize> {
    let uses = find_word(code, "thread").filter(|&at| {
        let rest = &code[at + "thread".len()..];
        let path = code[..at].ends_with("std::") || rest.starts_with("::");
        path && !rest.starts_with("::panicking")
    });
    let mut found: Vec<usize> = uses.collect();
    // `use std::{…, thread}`.
    for at in find_word(code, "use std::{") {
        let end = code[at..].find(';').map_or(code.len(), |len| at + len);
        found.extend(find_word(&code[at..end], "thread").map(|offset| at + offset));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Statics that can change.
fn statics(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in find_word(code, "static").filter(|&at| !code[..at].ends_with('\'')) {
        let rest = code[at + "static".len()..].trim_start();
        if find_word(rest, "mut").next() == Some(0) {
            found.push((at, "static mut".to_owned()));
            continue;
        }
        let declaration = &rest[..rest.find(['=', ';', '{']).unwrap_or(rest.len())];
        let Some((name, kind)) = declaration.split_once(':') else { continue };
        let changes = names(kind).any(|name| MUTABLE.contains(&name) || name.starts_with("Atomic"));
        if changes && name.trim().chars().all(is_ident) {
            found.push((at, format!("static {}", name.trim())));
        }
    }
    found
}
