//! What a replay found, for people and for programs.

use super::fate::{Fate, What};
use super::frame::{Frame, Kind};
use crate::walk::json::{Number, Text};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// The version of the JSON lines.
const VERSION: u32 = 1;

/// Rows of the table at most; what is of no row any more is counted together.
const MAX_ROWS: usize = 1000;

/// A frame and what became of it.
pub(super) struct Played {
    /// Its place in the file, from 1 on.
    pub(super) number: u64,
    /// Since the file's first frame, as played.
    pub(super) time: Duration,
    pub(super) len: usize,
    pub(super) frame: Frame,
    pub(super) fate: Fate,
    /// What the machine sent because of it.
    pub(super) answers: Vec<Kind>,
}

impl Played {
    /// The port of the socket that has it.
    fn port(&self) -> Option<u16> {
        self.frame.ports.filter(|_| self.fate.what == What::Delivered).map(|(_, dest)| dest)
    }

    fn answer(&self) -> String {
        self.answers.iter().map(Kind::to_string).collect::<Vec<_>>().join(", ")
    }

    fn became(&self) -> String {
        match self.port() {
            Some(port) => format!("delivered to UDP port {port}"),
            None => self.fate.to_string(),
        }
    }

    /// As a line for people.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "#{} {:.6} {}, {} octets: ",
            self.number,
            self.time.as_secs_f64(),
            self.frame,
            self.len
        );
        line.push_str(&self.became());
        if !self.answers.is_empty() {
            let _infallible = write!(line, "; answered with {}", self.answer());
        }
        line
    }

    /// As a line of JSON: `v`, `frame`, `ns`, `len`, `kind`, `fate`, `point`, `file`, `drop`, `port`, `answers`.
    pub(super) fn json(&self) -> String {
        let answers: Vec<_> = self.answers.iter().map(|kind| format!("\"{kind}\"")).collect();
        format!(
            concat!(
                r#"{{"v":{},"frame":{},"ns":{},"len":{},"kind":"{}","fate":"{}","#,
                r#""point":{},"file":{},"drop":{},"port":{},"answers":[{}]}}"#
            ),
            VERSION,
            self.number,
            self.time.as_nanos(),
            self.len,
            self.frame.kind,
            self.fate.what.name(),
            Text(self.fate.at.map(|point| point.name())),
            Text(self.fate.at.map(|point| point.file())),
            Text(self.fate.what.reason().map(|reason| reason.name())),
            Number(self.port().map(u64::from)),
            answers.join(","),
        )
    }
}

/// All of a file.
#[derive(Default)]
pub(super) struct Report {
    /// By kind, fate and answer: how many.
    rows: BTreeMap<(Kind, String, String), u64>,
    /// Frames that found the table full.
    others: u64,
    pub(super) frames: u64,
    pub(super) answers: u64,
    /// Packets of the file that were passed over.
    pub(super) skipped: u64,
    /// Frames that the machine itself had sent.
    pub(super) own: u64,
    /// Frames that the machine sent without being asked, between two of the file's.
    pub(super) unasked: u64,
    /// From the first frame to the last, as played.
    pub(super) time: Duration,
}

impl Report {
    pub(super) fn add(&mut self, played: &Played) {
        let row = (played.frame.kind, played.became(), played.answer());
        if self.rows.len() < MAX_ROWS || self.rows.contains_key(&row) {
            *self.rows.entry(row).or_default() += 1;
        } else {
            self.others += 1;
        }
        self.frames += 1;
        self.answers += played.answers.len() as u64;
        self.time = played.time;
    }

    /// Writes the table, the most frequent first.
    ///
    /// # Errors
    /// Those of `out`.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<_> = rows.iter().map(|((kind, ..), _)| kind.to_string()).collect();
        let width = |texts: &mut dyn Iterator<Item = &str>| texts.map(str::len).max().unwrap_or(0);
        let kind_width = width(&mut kinds.iter().map(String::as_str)).max("frame".len());
        let became_width = width(&mut rows.iter().map(|((_, became, _), _)| became.as_str()));
        if !rows.is_empty() {
            let head = format!(
                "{:>8}  {:<kind_width$}  {:<became_width$}  {}",
                "frames", "kind", "became", "answer"
            );
            writeln!(out, "{}", head.trim_end())?;
        }
        for (((_, became, answer), count), kind) in rows.iter().zip(&kinds) {
            let line =
                format!("{count:>8}  {kind:<kind_width$}  {became:<became_width$}  {answer}");
            writeln!(out, "{}", line.trim_end())?;
        }
        let Self { others, frames, answers, own, skipped, unasked, time, .. } = self;
        if *others != 0 {
            writeln!(out, "{others:>8}  of further kinds and fates")?;
        }
        writeln!(
            out,
            "{frames} frames in {:.6} s, {answers} answered with; {unasked} sent unasked",
            time.as_secs_f64()
        )?;
        if *own != 0 {
            writeln!(out, "{own} of the machine's own, not played")?;
        }
        if *skipped != 0 {
            writeln!(
                out,
                "{skipped} not of Ethernet, or cut short by who captured them, not played"
            )?;
        }
        Ok(())
    }

    /// The last line of JSON: `v` and `total`.
    pub(super) fn json(&self) -> String {
        let Self { frames, answers, own, skipped, unasked, time, .. } = self;
        format!(
            concat!(
                r#"{{"v":{},"total":{{"frames":{},"answers":{},"unasked":{},"#,
                r#""own":{},"unfit":{},"ns":{}}}}}"#
            ),
            VERSION,
            frames,
            answers,
            unasked,
            own,
            skipped,
            time.as_nanos()
        )
    }
}
