//! What a check saw, and how two reports differ.

use crate::{Calls, Probe};
use std::fmt;

/// Labelled values, in the order they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<(String, String)>);

impl Report {
    /// Adds a value.
    pub fn note(&mut self, label: &str, value: impl fmt::Display) {
        self.0.push((label.to_owned(), value.to_string()));
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(label, value)| writeln!(f, "    {label}: {value}"))
    }
}

/// The lines in which two reports differ, by label; `None`: they are the same.
pub fn diff(kernel: &Report, stack: &Report) -> Option<String> {
    let mut out = String::new();
    for at in 0..kernel.len().max(stack.len()) {
        let (here, there) = (kernel.0.get(at), stack.0.get(at));
        if here == there {
            continue;
        }
        let label = here.or(there).map_or("", |(label, _)| label);
        let value = |side: Option<&(String, String)>| match side {
            Some((other, value)) if other != label => format!("({other}) {value}"),
            Some((_, value)) => value.clone(),
            None => "nothing".to_owned(),
        };
        out += &format!("    {label}\n        kernel {}\n", value(here));
        out += &format!("        stack  {}\n", value(there));
    }
    (!out.is_empty()).then_some(out)
}

/// A check.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// Its code.
    pub code: fn(&mut Probe<'_>),
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({})", self.name)
    }
}

impl Check {
    /// Runs it on a fresh host.
    pub fn run(&self, calls: &mut dyn Calls) -> Report {
        let mut probe = Probe::new(calls);
        (self.code)(&mut probe);
        probe.into_report()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_differ_by_label() {
        let (mut one, mut other) = (Report::default(), Report::default());
        one.note("bind", 0);
        other.note("bind", 0);
        assert_eq!(diff(&one, &other), None);
        one.note("send", "EINVAL");
        let said = diff(&one, &other).expect("a line more");
        assert!(said.contains("send") && said.contains("stack  nothing"), "{said}");
    }
}
