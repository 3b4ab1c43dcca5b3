//! `results.tsv`: what each script gave, by backend.

use pkt::{Failure, Report};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What became of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    NotApplicable,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotApplicable => "not-applicable",
        }
    }
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    pub script: String,
    pub backend: String,
    pub verdict: Verdict,
    pub why: String,
}

/// The file.
pub struct Results {
    head: Vec<String>,
    rows: BTreeMap<(String, String), Row>,
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results.tsv")
}

impl Results {
    pub fn read() -> Self {
        let text = std::fs::read_to_string(place()).expect("results.tsv");
        let mut results = Self { head: Vec::new(), rows: BTreeMap::new() };
        for line in text.lines() {
            if line.starts_with('#') {
                results.head.push(line.to_owned());
                continue;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            let [script, backend, verdict, why] = fields[..] else {
                panic!("results.tsv: four fields, with tabs between: {line}")
            };
            let all = [Verdict::Pass, Verdict::Fail, Verdict::NotApplicable];
            let verdict = all.into_iter().find(|known| known.name() == verdict);
            let verdict = verdict.unwrap_or_else(|| panic!("results.tsv: pass, fail …: {line}"));
            let [script, backend, why] = [script, backend, why].map(str::to_owned);
            let row = Row { script: script.clone(), backend: backend.clone(), verdict, why };
            let before = results.rows.insert((script, backend), row);
            assert!(before.is_none(), "results.tsv: twice: {line}");
        }
        results
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub fn of(&self, script: &str, backend: &str) -> Option<Row> {
        self.rows.get(&(script.to_owned(), backend.to_owned())).cloned()
    }

    /// Rows are to be written, not compared.
    pub fn updating(&self) -> bool {
        std::env::var_os("NETKEEL_PKT_UPDATE").is_some_and(|update| update == "1")
    }

    /// What a run gave against its row; a line if it is not so.
    pub fn compare(
        &mut self,
        (script, backend): (&str, &str),
        went: &Result<Report, Failure>,
    ) -> Option<String> {
        let row = self.of(script, backend);
        if self.updating() {
            self.note(script, backend, (row, went));
            return None;
        }
        match (row.map(|row| row.verdict), went) {
            (Some(Verdict::Pass), Ok(_)) | (Some(Verdict::Fail), Err(_)) => None,
            (Some(_), Ok(_)) => Some(format!("{script} passes on the {backend}: change its row")),
            (Some(_), Err(failure)) => Some(format!("on the {backend}: {failure}")),
            (None, Ok(_)) => Some(format!("{script} has no row of the {backend}: it passes")),
            (None, Err(failure)) => Some(format!("no row of the {backend}: {failure}")),
        }
    }

    /// The row as it is now; a reason written by hand (`waits for …`) stays.
    fn note(
        &mut self,
        script: &str,
        backend: &str,
        (row, went): (Option<Row>, &Result<Report, Failure>),
    ) {
        let (verdict, why) = match went {
            Ok(_) => (Verdict::Pass, String::new()),
            Err(failure) => {
                let before = row.filter(|row| row.verdict == Verdict::Fail).map(|row| row.why);
                let before = before.filter(|why| why.starts_with("waits for"));
                let line = failure.what.lines().next().unwrap_or_default().to_owned();
                (Verdict::Fail, before.unwrap_or(line))
            }
        };
        let key = (script.to_owned(), backend.to_owned());
        let (script, backend) = key.clone();
        self.rows.insert(key, Row { script, backend, verdict, why });
    }

    pub fn write(&self) {
        let mut text: String = self.head.iter().map(|line| format!("{line}\n")).collect();
        for Row { script, backend, verdict, why } in self.rows.values() {
            text += &format!("{script}\t{backend}\t{}\t{why}\n", verdict.name());
        }
        std::fs::write(place(), text).expect("results.tsv can be written");
    }
}
