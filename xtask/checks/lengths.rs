//! `lengths`: a file is read in one sitting.

use super::{Finding, is_test_path};
use crate::source::Source;
use crate::tree::Tree;

const RULE: &str = "lengths";
const GOOD: usize = 600;
const MOST: usize = 1000;

/// Files over 600 lines without a stated reason, and all over 1,000; tests and tables excepted.
pub fn run(tree: &Tree) -> Vec<Finding> {
    tree.sources().iter().filter_map(of).collect()
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
