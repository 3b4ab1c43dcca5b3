//! What is found, where, and what is not.

use super::*;

fn found(path: &str, text: &str) -> Vec<String> {
    let tree = Tree::of(&[(path, text)]);
    let names = run(&tree)
        .into_iter()
        .map(|finding| finding.what.split('`').nth(1).unwrap_or_default().to_owned());
    names.collect()
}

#[test]
fn clocks_chance_and_threads_are_the_hosts() {
    let text = "fn f() { Instant::now(); rand::random::<u8>(); std::thread::spawn(g); }";
    assert_eq!(found("net/a.rs", text), ["Instant::now", "rand::random", "std::thread"]);
    assert!(found("host/a.rs", text).is_empty());
    assert!(found("net/a/tests.rs", text).is_empty());
    assert!(found("lib/benches/a.rs", text).is_empty());
    assert!(found("net/a.rs", "// Instant::now\nfn f() { \"Instant::now\"; }").is_empty());
}

#[test]
fn threads_by_any_import() {
    assert_eq!(found("net/a.rs", "use std::thread;").len(), 1);
    assert_eq!(found("net/a.rs", "use std::{fmt, thread};").len(), 1);
    assert!(found("net/a.rs", "if std::thread::panicking() {}").is_empty());
}

#[test]
fn statics_that_change() {
    assert_eq!(found("net/a.rs", "static A: AtomicU64 = x;"), ["static A"]);
    assert_eq!(found("net/a.rs", "static A: std::sync::Mutex<u8> = x;"), ["static A"]);
    assert_eq!(found("net/a.rs", "static mut A: u8 = 0;"), ["static mut"]);
    assert!(found("net/a.rs", "static A: &[u8] = &[]; fn f(x: &'static Mutex<u8>) {}").is_empty());
}

#[test]
fn unsafe_by_name() {
    let text = "fn f() { unsafe { g() } }";
    assert_eq!(found("net/a.rs", text), ["unsafe"]);
    assert_eq!(found("drivers/pci/dma_map.rs", text), ["unsafe"]);
    for path in ["host/a.rs", "drivers/pci/dma.rs", "drivers/pci/dma/x.rs", "benches/a.rs"] {
        assert!(found(path, text).is_empty(), "{path}");
    }
    assert!(found("net/a.rs", "#![deny(unsafe_code)]").is_empty());
}

#[test]
fn unwrap_outside_tests_only() {
    assert_eq!(found("host/a.rs", "fn f() { x.unwrap() }"), [".unwrap()"]);
    assert!(found("net/a.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }").is_empty());
    assert!(found("net/a.rs", "fn f() { x.unwrap_or(1); y.expect(\"why\") }").is_empty());
}

#[test]
fn unfinished_and_ignored_nowhere() {
    assert_eq!(found("net/a/tests.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["#[ignore"]);
    assert_eq!(found("host/a.rs", "fn f() { todo!() }"), ["todo!"]);
}

#[test]
fn modules_of_tests_in_other_files() {
    let tree = Tree::of(&[
        ("net/mod.rs", "#[cfg(test)]\nmod testing;"),
        ("net/testing.rs", "fn f() { Instant::now(); }"),
        ("net/testing/b.rs", "fn f() { Instant::now(); }"),
        ("net/testing2.rs", "fn f() { Instant::now(); }"),
    ]);
    let files: Vec<_> = run(&tree).into_iter().map(|finding| finding.file).collect();
    assert_eq!(files, ["net/testing2.rs"]);
}

#[test]
fn the_lock_checker_has_its_exception() {
    let text = "thread_local! { static HELD: RefCell<u8> = x; }";
    assert!(found("kernel/locking/lockdep.rs", text).is_empty());
    assert_eq!(found("kernel/cpu.rs", text), ["thread_local!", "static HELD"]);
}
