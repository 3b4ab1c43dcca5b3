//! `layers`: dependencies run one way.

use super::Finding;
use crate::source::{Source, find_word};
use crate::tree::Tree;

const RULE: &str = "layers";

/// Files of `kernel/` that may name `net`, with what they may name ("" is anything): per-CPU data
/// holds the network's part of it, and boot and panic call into it.
const KERNEL_NAMES_NET: &[(&str, &str)] = &[
    ("kernel/cpu.rs", ""),
    ("kernel/rcupdate.rs", ""),
    ("kernel/machine.rs", ""),
    ("kernel/context.rs", ""),
    ("kernel/initcall.rs", ""),
    ("kernel/nsproxy.rs", "net_namespace"),
    ("kernel/softirq.rs", "core::dev::contain_panic"),
];

/// The project's crates and which of them each may be built on.
const CRATES: &[(&str, &[&str])] = &[
    ("uapi", &[]),
    ("klib", &[]),
    ("stack", &["uapi", "klib"]),
    ("drivers", &["uapi", "klib", "stack"]),
    ("hw", &["uapi", "klib", "stack", "drivers"]),
    ("host", &["uapi", "klib", "stack", "drivers"]),
    ("sim", &["uapi", "klib", "stack", "drivers", "hw"]),
    ("pkt", &["uapi", "klib", "stack", "drivers", "hw", "host", "sim"]),
    ("netkeel", &["uapi", "klib", "stack", "drivers", "hw", "host", "sim", "pkt"]),
];

/// Both: modules inside the stack, and crates.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let modules = tree.sources().iter().filter(|source| source.path.starts_with("kernel/"));
    let mut found: Vec<Finding> = modules.flat_map(kernel_names_net).collect();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        found.extend(crates(path, text));
    }
    found
}

fn kernel_names_net(source: &Source) -> Vec<Finding> {
    let allowed = KERNEL_NAMES_NET.iter().find(|(path, _)| *path == source.path);
    let code = source.code_outside_tests();
    let uses = find_word(&code, "crate::net").filter(|at| {
        let rest = code[at + "crate::net".len()..].trim_start_matches("::");
        !allowed.is_some_and(|(_, what)| rest.starts_with(what))
    });
    let report = |at| {
        let what = match allowed {
            Some((_, what)) => format!("this file may use `crate::net::{what}` only"),
            None => "kernel/ does not use net/: pass what is needed, or a fn pointer registered \
                     at boot"
                .to_owned(),
        };
        Finding::new(RULE, &source.path, source.line(at), what)
    };
    uses.map(report).collect()
}

/// The short name the workspace gives a package of the project.
fn short(package: &str) -> &str {
    match package.strip_prefix("netkeel-").unwrap_or(package) {
        "lib" => "klib",
        name => name,
    }
}

fn crates(path: &str, text: &str) -> Vec<Finding> {
    let Some(package) = crate::manifest::package(text, "name").map(short) else {
        return Vec::new();
    };
    let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == package) else {
        return Vec::new();
    };
    let ours = |name: &&str| CRATES.iter().any(|(ours, _)| ours == name);
    let dependencies = crate::manifest::dependencies(text).into_iter();
    let wrong = dependencies.filter(|(_, name)| {
        let name = short(name);
        ours(&name) && !allowed.contains(&name)
    });
    let report = |(line, name): (usize, &str)| {
        let what = format!(
            "{package} must not be built on {}: dependencies run uapi, klib ← stack ← drivers ← \
             hw, host, sim, netkeel; turn it round with a trait (a test may, as dev-dependency)",
            short(name)
        );
        Finding::new(RULE, path, line, what)
    };
    wrong.map(report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        run(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn kernel_does_not_name_net() {
        assert_eq!(count("kernel/timer.rs", "use crate::net::core::dev::X;"), 1);
        assert_eq!(count("kernel/timer.rs", "// crate::net\nuse crate::network::X;"), 0);
        assert_eq!(count("kernel/cpu.rs", "use crate::net::core::dev::X;"), 0);
        assert_eq!(count("kernel/softirq.rs", "crate::net::core::dev::contain_panic(cx);"), 0);
        assert_eq!(count("kernel/softirq.rs", "use crate::net::core::dev::X;"), 1);
        assert_eq!(count("kernel/timer.rs", "#[cfg(test)] mod t { use crate::net::X; }"), 0);
    }

    #[test]
    fn crates_run_one_way() {
        let manifest = |name: &str, dep: &str| {
            format!(
                "[package]\nname = \"netkeel-{name}\"\n[dependencies]\n{dep}.workspace = true\n"
            )
        };
        assert_eq!(count("Cargo.toml", &manifest("stack", "drivers")), 1);
        assert_eq!(count("Cargo.toml", &manifest("stack", "klib")), 0);
        assert_eq!(count("drivers/Cargo.toml", &manifest("drivers", "hw")), 1);
        assert_eq!(count("hw/Cargo.toml", &manifest("hw", "drivers")), 0);
        assert_eq!(count("lib/Cargo.toml", &manifest("lib", "stack")), 1);
        assert_eq!(count("sim/Cargo.toml", &manifest("sim", "rand")), 0);
    }
}
