//! `lengths`: a file is read in one sitting, a function on one screen.

use super::{Finding, is_test_path};
use crate::source::{Source, find_word, is_ident, item_after, names};
use crate::tree::Tree;

const RULE: &str = "lengths";
const GOOD: usize = 600;
const MOST: usize = 1000;
/// Lines of a function, from its head to its closing brace.
const FUNCTION: usize = 70;

/// Files over 600 lines without a stated reason, and all over 1,000, and functions over 70; tests
/// and tables excepted.
pub fn run(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources().iter();
    sources.flat_map(|source| of(source).into_iter().chain(functions(source))).collect()
}

fn functions(source: &Source) -> Vec<Finding> {
    if is_test_path(&source.path) || source.is_test_file() {
        return Vec::new();
    }
    let code = source.code_outside_tests();
    let long = find_word(&code, "fn").filter_map(|at| {
        // Not the type of a pointer to one.
        let named = code[at + 2..].trim_start().starts_with(is_ident);
        let item = item_after(&code, at);
        item.body.filter(|_| named)?;
        let (first, last) = (source.line(at), source.line(item.end.saturating_sub(1)));
        let length = last + 1 - first;
        let name = names(&code[at + 2..]).next().unwrap_or_default();
        let what = format!("{name}: {length} lines, more than {FUNCTION}: cut it into steps");
        (length > FUNCTION).then(|| Finding::new(RULE, &source.path, first, what))
    });
    long.collect()
}

fn of(source: &Source) -> Option<Finding> {
    let length = source.len();
    let head =
        |mark: &str| source.docs.iter().any(|doc| doc.inner && source.doc(doc).starts_with(mark));
    if length <= GOOD || is_test_path(&source.path) || head("TABLE") {
        return None;
    }
    let what = if length > MOST {
        format!(
            "{length} lines, more than {MOST}: cut it into a folder of the same name \
             (a table or register list says `//! TABLE` in its head)"
        )
    } else if !head("LENGTH:") {
        format!(
            "{length} lines, more than {GOOD}: cut it into a folder of the same name, or give \
             the reason in its head: `//! LENGTH: …`"
        )
    } else {
        return None;
    };
    Some(Finding::new(RULE, &source.path, 1, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, head: &str, lines: usize) -> bool {
        of(&Source::new(path, &(head.to_owned() + &"\n".repeat(lines)))).is_some()
    }

    #[test]
    fn functions_are_counted_from_head_to_brace() {
        let of = |lines: usize| {
            let body = "    step();\n".repeat(lines - 2);
            let text = format!("type F = fn(u8);\n\nfn long(\n) {{\n{}}}\n", &body[12..]);
            functions(&Source::new("a.rs", &text)).len()
        };
        assert_eq!((of(70), of(71)), (0, 1));
        let test = format!("#[cfg(test)]\nmod tests {{ fn f() {{\n{}}} }}\n", "\n".repeat(90));
        assert!(functions(&Source::new("a.rs", &test)).is_empty());
    }

    #[test]
    fn lengths() {
        assert!(!found("a.rs", "", 600));
        assert!(found("a.rs", "", 601));
        assert!(!found("a.rs", "//! LENGTH: one state machine.", 900));
        assert!(found("a.rs", "//! LENGTH: one state machine.", 1001));
        assert!(!found("a.rs", "//! TABLE", 5000));
        assert!(!found("a/tests.rs", "", 5000));
        assert!(!found("a/tests/b.rs", "", 5000));
    }
}
