//! Scripts from anywhere: whatever the text, there is a result or an error that names a place, and no
//! panic. Our own scripts, changed at random but the same way each time, are read and run on the stack.

use pkt::{Target, load, run_script};
use std::path::{Path, PathBuf};

/// A generator good enough to choose what to break; the same numbers each time.
struct Choice(u64);

impl Choice {
    fn below(&mut self, most: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % most.max(1)
    }
}

fn texts() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "pkt")).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Words and signs that mean something, to be put where they do not belong.
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "...",
    ",",
    "=",
    "*",
    "+",
    "~",
    "0",
    "-1",
    "1",
    "65536",
    "4294967295",
    "9223372036854775807",
    "0x",
    ".",
    "S.",
    "udp",
    "icmp",
    "ack",
    "win",
    "`",
    "%{",
    "}%",
    "\"",
    "//",
    "/*",
    "MSG_PEEK",
    "NULL",
    "3",
    "+86400",
    "mss",
    "sack",
    "{..., 9}",
    "\u{e9}",
    "\0",
    "\\",
];

fn changed(text: &str, choice: &mut Choice) -> String {
    let mut tokens: Vec<String> =
        text.split_inclusive([' ', ',', '(', ')', '\n']).map(str::to_owned).collect();
    for _ in 0..=choice.below(3) {
        let (at, other) = (choice.below(tokens.len()), choice.below(tokens.len()));
        match choice.below(5) {
            0 => drop(tokens.remove(at)),
            1 => tokens.swap(at, other),
            2 => tokens.insert(at, tokens[other].clone()),
            3 => tokens.insert(at, PIECES[choice.below(PIECES.len())].to_owned()),
            _ => tokens[at] = PIECES[choice.below(PIECES.len())].to_owned(),
        }
        if tokens.is_empty() {
            break;
        }
    }
    tokens.concat()
}

#[test]
fn changed_scripts_end_in_a_result_or_an_error_with_a_place() {
    let mut choice = Choice(1);
    let (mut read, mut held) = (0, 0);
    for (path, text) in texts() {
        for _ in 0..40 {
            let text = changed(&text, &mut choice);
            let (script, config) = match load(&path, &text, &[]) {
                Ok(loaded) => loaded,
                Err(failure) => {
                    assert!(failure.pos.line > 0 && !failure.what.is_empty(), "{failure}");
                    continue;
                }
            };
            read += 1;
            held += usize::from(run_script(Target::Stack, (&script, &path), &config).is_ok());
        }
    }
    // Many changes leave a script, some even one that holds: what runs is not just the parser.
    assert!(read > 500 && held > 20, "{read} read, {held} held");
}

#[test]
fn no_text_is_too_strange() {
    let mut choice = Choice(2);
    for len in 0..2_000 {
        let text: String = (0..len % 60).map(|_| PIECES[choice.below(PIECES.len())]).collect();
        let _either = load(Path::new("strange.pkt"), &text, &[]);
        let _either = load(Path::new("strange.pkt"), &format!("0 {text}"), &[]);
        let _either = load(Path::new("strange.pkt"), &format!("0 %{{ {text} }}%"), &[]);
    }
}
