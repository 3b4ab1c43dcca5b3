//! What was measured, as a table or an object.

use super::Work;
use crate::bench::figure::{Host, Sample, Spread};
use crate::bench::{BenchError, Placement};
use crate::walk::json::Text;
use std::fmt::Write;

/// One row's runs: of the stack, the bare loop and the kernel.
pub(super) struct Row {
    work: Work,
    size: u16,
    runs: Vec<[Sample; 3]>,
}

impl Row {
    pub(super) fn new(work: Work, size: u16) -> Self {
        Self { work, size, runs: Vec::new() }
    }

    pub(super) fn add(&mut self, run: [Result<Sample, BenchError>; 3]) -> Result<(), BenchError> {
        let [a, b, c] = run;
        self.runs.push([a?, b?, c?]);
        Ok(())
    }

    fn values(&self, subject: usize) -> Spread {
        Spread::of(self.runs.iter().map(|run| run[subject].value))
    }

    fn p99(&self, subject: usize) -> f64 {
        Spread::of(self.runs.iter().map(|run| run[subject].p99)).median
    }

    /// The stack's figure to another's of the same run: a quotient of rates, a difference of times.
    fn beside(&self, subject: usize) -> Spread {
        Spread::of(self.runs.iter().map(|run| {
            let (ours, theirs) = (run[0].value, run[subject].value);
            if self.is_rate() { ours / theirs } else { ours - theirs }
        }))
    }

    fn is_rate(&self) -> bool {
        !matches!(self.work, Work::RoundTrip(_))
    }
}

pub(super) struct Report {
    pub(super) host: Host,
    pub(super) runs: u16,
    pub(super) rows: Vec<Row>,
}

/// Checksums are left to the other side everywhere; nothing else is.
const OFFLOADS: &str = "checksums; no segmentation, no GRO";

impl Report {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let host = &self.host;
        // Writing to a string can't fail.
        let _ = writeln!(
            out,
            "host: Linux {}, {} processors, governor {}, congestion control {}\noffloads: {OFFLOADS}\n\
             medians of {} run{}; in brackets the least and the greatest\n",
            host.kernel,
            host.processors,
            host.governor,
            host.congestion_control,
            self.runs,
            if self.runs == 1 { "" } else { "s" }
        );
        for (title, rates) in
            [("datagrams a second, in thousands", true), ("round trip, microseconds (p99)", false)]
        {
            let _ = writeln!(
                out,
                "{:<49} {:>14} {:>14} {:>14}   {:<22} {}",
                title,
                "netkeel",
                "bare TAP",
                "kernel, veth",
                if rates { "to the bare TAP" } else { "over the bare TAP" },
                if rates { "to the kernel" } else { "over the kernel" },
            );
            for row in self.rows.iter().filter(|row| row.is_rate() == rates) {
                row.line(&mut out);
            }
            out.push('\n');
        }
        if host.processors < 2 {
            out.push_str("one processor: the rows for two are left out\n");
        }
        out
    }

    pub(super) fn json(&self) -> String {
        let host = &self.host;
        let rows: Vec<String> = self.rows.iter().map(Row::json).collect();
        format!(
            "{{\"version\":1,\"kernel\":{},\"processors\":{},\"governor\":{},\"congestion_control\":{},\
             \"offloads\":{},\"runs\":{},\"rows\":[{}]}}\n",
            Text(Some(&host.kernel)),
            host.processors,
            Text(Some(&host.governor)),
            Text(Some(&host.congestion_control)),
            Text(Some(OFFLOADS)),
            self.runs,
            rows.join(",")
        )
    }
}

impl Row {
    fn line(&self, out: &mut String) {
        let name = format!("{}, {} octets", self.work.name(), self.size);
        let cell = |subject| match self.is_rate() {
            true => format!("{:.0}", self.values(subject).median / 1e3),
            false => {
                format!("{:.1} ({:.0})", self.values(subject).median / 1e3, self.p99(subject) / 1e3)
            }
        };
        let beside = |subject| {
            let spread = self.beside(subject);
            match self.is_rate() {
                true => format!("{:.2} ({:.2}..{:.2})", spread.median, spread.least, spread.most),
                false => format!(
                    "{:+.1} ({:+.1}..{:+.1})",
                    spread.median / 1e3,
                    spread.least / 1e3,
                    spread.most / 1e3
                ),
            }
        };
        let _ = writeln!(
            out,
            "{name:<49} {:>14} {:>14} {:>14}   {:<22} {}",
            cell(0),
            cell(1),
            cell(2),
            beside(1),
            beside(2)
        );
    }

    fn json(&self) -> String {
        let (work, placement) = match self.work {
            Work::Receive => ("receive", "two_processors"),
            Work::Send => ("send", "two_processors"),
            Work::RoundTrip(Placement::OneSleeping) => ("round_trip", "one_processor_sleeping"),
            Work::RoundTrip(Placement::TwoSleeping) => ("round_trip", "two_processors_sleeping"),
            Work::RoundTrip(Placement::TwoSpinning) => ("round_trip", "two_processors_spinning"),
        };
        let unit = if self.is_rate() { "datagrams_per_second" } else { "nanoseconds" };
        let spread = |s: Spread| {
            format!(
                "{{\"least\":{:.3},\"median\":{:.3},\"most\":{:.3}}}",
                s.least, s.median, s.most
            )
        };
        let mut text = format!(
            "{{\"work\":{},\"placement\":{},\"size\":{},\"unit\":{}",
            Text(Some(work)),
            Text(Some(placement)),
            self.size,
            Text(Some(unit))
        );
        for (name, subject) in [("netkeel", 0), ("tap", 1), ("kernel", 2)] {
            let _ = write!(text, ",\"{name}\":{}", spread(self.values(subject)));
            if !self.is_rate() {
                let _ = write!(text, ",\"{name}_p99\":{:.3}", self.p99(subject));
            }
        }
        let how = if self.is_rate() { "to" } else { "over" };
        let _ = write!(text, ",\"{how}_tap\":{}", spread(self.beside(1)));
        let _ = write!(text, ",\"{how}_kernel\":{}}}", spread(self.beside(2)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let sample = |value| Sample { value, p99: 2.0 * value };
        let mut rate = Row::new(Work::Receive, 64);
        let mut trip = Row::new(Work::RoundTrip(Placement::OneSleeping), 64);
        for n in [3.0, 1.0, 2.0] {
            let run = [1e6 * n, 1e6, 2e6 * n];
            rate.add(run.map(|value| Ok(sample(value)))).unwrap();
            trip.add([5000.0 + n, 4000.0, 6000.0].map(|value| Ok(sample(value)))).unwrap();
        }
        let host = Host {
            kernel: "6.18".to_owned(),
            congestion_control: "bbr".to_owned(),
            governor: "unknown".to_owned(),
            processors: 2,
        };
        Report { host, runs: 3, rows: vec![rate, trip] }
    }

    #[test]
    fn ratios_are_of_one_run_and_figures_are_medians() {
        let text = report().text();
        let line = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).expect(start);
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line("received"),
            "received, 64 octets 2000 1000 4000 2.00 (1.00..3.00) 0.50 (0.50..0.50)"
        );
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
        assert!(line("round trip, one").contains("5.0 (10) 4.0 (8) 6.0 (12) +1.0"), "{text}");
    }

    #[test]
    fn the_object_can_be_read() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["rows"][0]["to_tap"]["median"], 2.0);
        assert_eq!(json["rows"][1]["over_kernel"]["most"], -997.0);
        assert_eq!(json["rows"][1]["placement"], "one_processor_sleeping");
    }
}
