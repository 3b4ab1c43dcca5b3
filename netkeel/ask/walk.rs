//! `netkeel walk --attach`: the walks of a running machine's packets, as they end.

use super::Asking;
use crate::cli::{Failure, end_output};
use crate::control::wire::{Event, Head, Op, Station, parse_answer};
use crate::up::plan::parse_filter;
use crate::walk::json::{Number, Text, VERSION};
use serde::Deserialize;
use std::io::{self, Write};

/// How walks are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As `netkeel up --walk` prints them.
    Text,
    /// As `netkeel walk --format json`: an object a line.
    Json,
}

#[derive(Deserialize)]
struct Attached {
    start: u64,
}

/// Prints walks until the machine ends, or nobody reads.
///
/// # Errors
/// With the cause and the way out.
pub fn attach(asking: &Asking, filter: &str, shape: Shape) -> Result<(), Failure> {
    parse_filter("--attach", filter).map_err(|e| Failure::Usage(e.to_string()))?;
    let mut connection = asking.connect()?;
    let Attached { start } = connection.ask(&Op::WalkAttach { filter: Some(filter.to_owned()) })?;
    connection.be_patient()?;
    let mut out = io::stdout().lock();
    while let Some(line) = connection.line()? {
        let Ok(event) = serde_json::from_str(&line) else {
            // Not an event, so a refusal: say what it says.
            return parse_answer::<serde_json::Value>(&line).map(|_| ()).map_err(Failure::Other);
        };
        let written = write_event(&mut out, &event, start, shape).and_then(|()| out.flush());
        if written.is_err() {
            return end_output(None, written);
        }
    }
    // Nobody may read standard error; there is nowhere else to say so.
    let _unheard = writeln!(io::stderr(), "walk: the machine has ended, or let go of us: too slow");
    Ok(())
}

fn write_event(out: &mut dyn Write, event: &Event, start: u64, shape: Shape) -> io::Result<()> {
    match event {
        Event::Walk { packet, head, stations } => {
            if shape == Shape::Text {
                writeln!(out, "packet {packet}")?;
            }
            stations.iter().try_for_each(|station| match shape {
                Shape::Text if station.joins_span() => Ok(()),
                Shape::Text => writeln!(out, "{}", station.line(start)),
                Shape::Json => {
                    let own = head.as_ref().filter(|_| station.packet == Some(*packet));
                    json_line(out, station, own)
                }
            })
        }
        // Nobody asked for those.
        Event::Frame { .. } => Ok(()),
        Event::Lost { records, walks } => {
            let text = format!("{records} records and {walks} packets were lost");
            // Among lines of JSON it would be none.
            writeln!(io::stderr(), "walk: {text}: watch less with a filter")
        }
    }
}

/// The format of `netkeel walk --format json`.
fn json_line(out: &mut dyn Write, s: &Station, head: Option<&Head>) -> io::Result<()> {
    write!(
        out,
        concat!(
            r#"{{"v":{},"packet":{},"span":{},"point":{},"file":{},"cpu":{},"context":{},"#,
            r#""ns":{},"dev":{},"len":{},"link":{},"drop":{}"#
        ),
        VERSION,
        Number(s.packet),
        Number(s.span),
        Text(Some(&s.point)),
        Text(Some(&s.file)),
        s.cpu,
        Text(Some(&s.context)),
        s.ns,
        Text(s.dev.as_deref()),
        Number(s.packet.map(|_| u64::from(s.len))),
        Number(s.link),
        Text(s.drop.as_deref()),
    )?;
    // Which packet it is, as far as it is known.
    if let Some(Head { len, octets }) = head {
        write!(out, r#","frame":{len},"head":"{octets}""#)?;
    }
    writeln!(out, "}}")
}
