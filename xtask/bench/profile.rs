//! What callgrind counted, by instruction.
//!
//! The parser reads files written with `--dump-instr=yes --dump-line=no --compress-strings=no
//! --compress-pos=no` ([`FLAGS`]): absolute addresses within the object, names in full.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What makes callgrind write the form that is read here.
pub const FLAGS: &[&str] =
    &["--dump-instr=yes", "--dump-line=no", "--compress-strings=no", "--compress-pos=no"];

/// An instruction: the object file it is in, and its address there.
pub type Place = (Arc<str>, u64);

/// How often an instruction ran. Not whole where runs were combined.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The function, as its symbol says; what was inlined belongs to whom it was inlined into.
    pub function: Arc<str>,
    /// Executions.
    pub count: f64,
}

/// Executions of every instruction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub costs: BTreeMap<Place, Cost>,
}

impl Profile {
    /// Reads a callgrind file; the error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut profile = Self::default();
        let (mut object, mut function) = (Arc::<str>::from(""), Arc::<str>::from(""));
        let mut of_call = false;
        for (at, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("ob=") {
                object = name.into();
            } else if let Some(name) = line.strip_prefix("fn=") {
                function = name.into();
            } else if line.starts_with("calls=") {
                // The line after it is what the callee cost, which stands under its own name.
                of_call = true;
            } else if line.starts_with("0x") {
                if std::mem::take(&mut of_call) {
                    continue;
                }
                let (address, count) = cost_line(line)
                    .ok_or_else(|| format!("callgrind's line {}: {line}", at + 1))?;
                profile.add_one((object.clone(), address), &function, count);
            } else if line.starts_with(['+', '-', '*']) {
                return Err(format!("callgrind's line {}: compressed positions", at + 1));
            }
        }
        Ok(profile)
    }

    fn add_one(&mut self, place: Place, function: &Arc<str>, count: f64) {
        let cost = self.costs.entry(place);
        cost.or_insert_with(|| Cost { function: function.clone(), count: 0.0 }).count += count;
    }

    /// Adds `factor` times another profile.
    pub fn add(&mut self, other: &Self, factor: f64) {
        for (place, cost) in &other.costs {
            self.add_one(place.clone(), &cost.function, factor * cost.count);
        }
    }

    /// All executions.
    pub fn total(&self) -> f64 {
        self.costs.values().map(|cost| cost.count).sum()
    }

    /// Executions by function, most first.
    pub fn by_function(&self) -> Vec<(Arc<str>, f64)> {
        let mut sums = BTreeMap::<Arc<str>, f64>::new();
        for cost in self.costs.values() {
            *sums.entry(cost.function.clone()).or_default() += cost.count;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by(|a, b| b.1.total_cmp(&a.1));
        sums
    }
}

fn cost_line(line: &str) -> Option<(u64, f64)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    // An event that did not occur may be left out at the end of a line.
    let count = words.next().map_or(Ok(0.0), str::parse).ok()?;
    Some((address, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# callgrind format
version: 1
positions: instr
events: Ir
summary: 31

ob=/t/bench
fl=/t/a.rs
fn=stack::send
0x10 5
fi=/t/b.rs
0x14 5
cob=/usr/lib/libc.so.6
cfi=???
cfn=memcpy
calls=5 0x900
0x18 10
fe=/t/a.rs
0x18 5

fn=stack::recv
0x20 6

ob=/usr/lib/libc.so.6
fl=???
fn=memcpy
0x900 10

totals: 31
";

    #[test]
    fn what_a_callee_costs_counts_once() {
        let profile = Profile::parse(FILE).expect("well formed");
        assert_eq!(profile.total(), 31.0);
        let functions = profile.by_function();
        let functions: Vec<_> = functions.iter().map(|(name, sum)| (&**name, *sum)).collect();
        assert_eq!(functions, [("stack::send", 15.0), ("memcpy", 10.0), ("stack::recv", 6.0)]);
        assert_eq!(profile.costs[&("/usr/lib/libc.so.6".into(), 0x900)].count, 10.0);
    }

    #[test]
    fn profiles_add_by_instruction() {
        let mut profile = Profile::parse(FILE).expect("well formed");
        let once = profile.clone();
        profile.add(&once, -0.5);
        assert_eq!(profile.costs[&("/t/bench".into(), 0x20)].count, 3.0);
        assert_eq!(profile.total(), 15.5);
    }

    #[test]
    fn other_forms_are_refused() {
        assert!(Profile::parse("fn=a\n+3 1\n").is_err());
        assert!(Profile::parse("fn=a\n0xzz 1\n").is_err());
        assert!(Profile::parse("fn=a\n0x10 many\n").is_err());
    }
}
