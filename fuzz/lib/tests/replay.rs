//! Every input that a fuzzer kept, and every one that found something, once more.

use std::fs;
use std::path::{Path, PathBuf};
use targets::TARGETS;

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in fuzz/");
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let mut replayed = 0;
    for folder in ["corpus", "regressions"] {
        for file in files(&fuzz.join(folder).join(name)) {
            let input = fs::read(&file).expect("readable");
            let run = std::panic::catch_unwind(|| target(&input));
            assert!(run.is_ok(), "{} brings it to fail", file.display());
            replayed += 1;
        }
    }
    assert!(replayed > 10, "{replayed} inputs of {name}: the corpus is not there");
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn each_target_is_replayed_and_has_its_file() {
            let replayed = [$(stringify!($name)),*];
            let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(targets, replayed);
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in fuzz/");
            for name in targets {
                let file = fuzz.join("fuzz_targets").join(name).with_extension("rs");
                let text = fs::read_to_string(file).expect("its file");
                assert!(text.contains(&format!("targets::{name}(")), "{name} runs another target");
            }
        }
    };
}

replays! { frame_in fragments igmp_icmp_in calls cbpf filter_expr pcapng_in }
