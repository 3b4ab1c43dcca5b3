//! What was measured, as a table or an object.

use super::row::{Beside, Unit, Work};
use crate::bench::figure::{Host, Sample, Spread};
use serde::Serialize;
use std::fmt::Write;

/// One row's runs: ours, and those beside it.
pub(super) struct Row {
    pub(super) work: Work,
    pub(super) others: Vec<&'static Beside>,
    ours: Vec<Sample>,
    theirs: Vec<Vec<Sample>>,
}

impl Row {
    pub(super) fn new(work: Work, others: Vec<&'static Beside>) -> Self {
        Self { work, others, ours: Vec::new(), theirs: Vec::new() }
    }

    /// A run: ours, and one of each other.
    pub(super) fn add(&mut self, ours: Sample, theirs: Vec<Sample>) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    fn figure(&self) -> Spread {
        Spread::of(self.ours.iter().map(|sample| sample.value))
    }

    fn other(&self, nth: usize) -> Spread {
        Spread::of(self.theirs.iter().filter_map(|run| run.get(nth)).map(|sample| sample.value))
    }

    /// Ours to that other's, of the same runs.
    fn compared(&self, nth: usize) -> Spread {
        let goal = self.others[nth].goal;
        let pairs = self.ours.iter().zip(&self.theirs);
        Spread::of(pairs.filter_map(|(ours, run)| Some(goal.of(ours.value, run.get(nth)?.value))))
    }

    fn cell(&self, value: f64) -> String {
        self.work.unit().told(value)
    }

    fn lines(&self, out: &mut String) {
        let mut name = self.work.name();
        let mut ours = self.cell(self.figure().median);
        for (nth, other) in self.others.iter().enumerate() {
            let spread = self.compared(nth);
            let told = |figure| other.goal.told(figure);
            let range = format!("({}..{})", told(spread.least), told(spread.most));
            let met = if other.goal.met(spread.median) { "met" } else { "missed" };
            // Writing to a string can't fail.
            let _ = writeln!(
                out,
                "{name:<NAME$} {ours:>8}   {:<12} {:>8}   {:>6} {range:<18} {}, {met}",
                other.who.name(),
                self.cell(self.other(nth).median),
                told(spread.median),
                other.goal,
            );
            (name, ours) = (String::new(), String::new());
        }
        if self.others.is_empty() {
            let rival = if self.work.has_rival() { NO_RIVAL } else { "" };
            let _ = writeln!(out, "{}", format!("{name:<NAME$} {ours:>8}   {rival}").trim_end());
        }
    }
}

/// Octets of a row's name.
const NAME: usize = 38;

/// What a row in memory makes sure of.
const NOTHING_KEPT: &str =
    "\nof SYNs and guesses in memory nothing was kept: no socket, request, timer or octet\n";

/// What stands where another stack is measured beside ours, in a program that has none.
const NO_RIVAL: &str = "smoltcp: cargo bench -p netkeel --bench tcp";

pub(super) struct Report {
    pub(super) host: Host,
    pub(super) runs: u16,
    pub(super) rows: Vec<Row>,
}

/// The object that `--format json` prints.
#[derive(Serialize)]
struct Object<'a> {
    version: u32,
    kernel: &'a str,
    processors: usize,
    governor: &'a str,
    congestion_control: &'static str,
    runs: u16,
    rows: Vec<RowObject>,
}

#[derive(Serialize)]
struct RowObject {
    name: String,
    unit: &'static str,
    netkeel: Spread,
    beside: Vec<OtherObject>,
}

#[derive(Serialize)]
struct OtherObject {
    who: &'static str,
    figure: Spread,
    /// Ours to theirs: a quotient, or a difference in nanoseconds.
    compared: Spread,
    goal: String,
    met: bool,
}

/// Both sides of every stream have it.
const CONGESTION_CONTROL: &str = "cubic";

impl Report {
    pub(super) fn text(&self) -> String {
        let host = &self.host;
        let mut out = format!(
            "host: Linux {}, {} processors, governor {}; {CONGESTION_CONTROL} on both sides\n\
             medians of {} run{}; in brackets the least and the greatest\n",
            host.kernel,
            host.processors,
            host.governor,
            self.runs,
            if self.runs == 1 { "" } else { "s" }
        );
        for unit in Unit::ALL {
            let mut rows = self.rows.iter().filter(|row| row.work.unit() == unit).peekable();
            if rows.peek().is_some() {
                let [title, how] = unit.title();
                let _ = writeln!(
                    out,
                    "\n{title:<NAME$} {:>8}   {:<21}   {how:<25} goal",
                    "netkeel", "beside it"
                );
                rows.for_each(|row| row.lines(&mut out));
            }
        }
        if self.rows.iter().any(|row| matches!(row.work, Work::FloodInMemory(_))) {
            out.push_str(NOTHING_KEPT);
        }
        if host.processors < 2 {
            out.push_str("\none processor: the rows for two are left out\n");
        }
        out
    }

    pub(super) fn json(&self) -> String {
        let rows = self.rows.iter().map(Row::object).collect();
        let object = Object {
            version: 1,
            kernel: &self.host.kernel,
            processors: self.host.processors,
            governor: &self.host.governor,
            congestion_control: CONGESTION_CONTROL,
            runs: self.runs,
            rows,
        };
        // Strings and numbers: nothing in it that JSON does not have.
        serde_json::to_string(&object).map_or_else(|e| e.to_string(), |text| text + "\n")
    }
}

impl Row {
    fn object(&self) -> RowObject {
        let beside = self.others.iter().enumerate().map(|(nth, other)| OtherObject {
            who: other.who.name(),
            figure: self.other(nth),
            compared: self.compared(nth),
            goal: other.goal.to_string(),
            met: other.goal.met(self.compared(nth).median),
        });
        RowObject {
            name: self.work.name(),
            unit: self.work.unit().name(),
            netkeel: self.figure(),
            beside: beside.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Placement;
    use crate::bench::tcp::row::Asked;
    use crate::bench::tcp::{Offloads, Way};

    fn sample(value: f64) -> Sample {
        Sample { value, p99: 0.0 }
    }

    fn report() -> Report {
        let bulk = Work::Bulk(Way::In, Offloads::On);
        let mut rate = Row::new(bulk, bulk.beside().iter().collect());
        let trip = Work::Trip(Placement::OneSleeping);
        let mut time = Row::new(trip, trip.beside().iter().collect());
        for n in [3.0, 1.0, 2.0] {
            rate.add(sample(n * 1.25e9), vec![sample(2.5e9), sample(n * 1.25e9)]);
            time.add(sample(9000.0 + n), vec![sample(4000.0)]);
        }
        let memory = Row::new(Work::BulkInMemory(Offloads::On), Vec::new());
        let mut flood = Row::new(Work::Flood, Work::Flood.beside().iter().collect());
        flood.add(sample(400_000.0), vec![sample(500_000.0), sample(800_000.0)]);
        let mut guesses = Row::new(Work::FloodInMemory(Asked::Guess), Vec::new());
        guesses.add(sample(1_234_567.0), Vec::new());
        let host = Host {
            kernel: "6.18".to_owned(),
            congestion_control: "bbr".to_owned(),
            governor: "unknown".to_owned(),
            processors: 2,
        };
        Report { host, runs: 3, rows: vec![rate, memory, time, flood, guesses] }
    }

    #[test]
    fn each_figure_stands_beside_its_goal() {
        let text = report().text();
        let lines: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "bulk in over a TAP, offloads on 20.0 kernel, veth 20.0 1.00 (0.50..1.50) >= 0.70, met",
            "bare TAP 20.0 1.00 (1.00..1.00) >= 0.70, met",
            "round trip, one processor, sleeping 9.0 bare TAP 4.0 +5.0 (+5.0..+5.0) <= +4.0, missed",
            "SYN flood over a TAP 400 kernel, TAP 500 0.80 (0.80..0.80) >= 1.00, missed",
            "bare TAP 800 0.50 (0.50..0.50) >= 0.50, met",
            "SYN flood in memory, cookies guessed 1235",
        ] {
            assert!(lines.iter().any(|have| have == line), "{line}\n{text}");
        }
        assert!(text.ends_with(NOTHING_KEPT), "{text}");
        assert!(text.contains("smoltcp: cargo bench"), "{text}");
    }

    #[test]
    fn the_object_can_be_read() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["rows"][0]["beside"][0]["compared"]["median"], 1.0);
        assert_eq!(json["rows"][2]["beside"][0]["compared"]["most"], 5003.0);
        assert_eq!(json["rows"][2]["beside"][0]["met"], false);
        assert_eq!(json["rows"][4]["unit"], "segments_per_second");
    }
}
