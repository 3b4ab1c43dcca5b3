//! The walk as JSON, one object a line.
//!
//! Every line has these keys, in this order; what does not apply is `null`:
//!
//! | key | type | meaning |
//! |---|---|---|
//! | `v` | number | version of this format: 1; a key is only added or changed with a new one |
//! | `packet` | number | the packet's id, the same on every machine; or |
//! | `span` | number | the id of the call or interrupt: exactly one of the two is set |
//! | `point` | string | the station, by Linux's name; `link_…` joins two ids |
//! | `file` | string | where the station stands in Linux 3.10 |
//! | `cpu` | number | the virtual CPU |
//! | `context` | string | `task`, `bh`, `softirq`, `ksoftirqd`, `hardirq` |
//! | `ns` | number | nanoseconds of the machine's clock |
//! | `dev` | string | the packet's device, behind the name of its machine and a colon; the machine alone for a span or before a device is known |
//! | `len` | number | the packet's length in bytes, at most 65535 |
//! | `link` | number | the id that a `link_…` record leads to |
//! | `drop` | string | why the packet was dropped: Linux's name without `SKB_DROP_REASON_` |
//!
//! Lines are ordered by time. Ids are below 2^53 with up to 31 machines.

use super::{Step, Story};
use std::fmt;
use std::io::{self, Write};

/// The version of the format.
pub const VERSION: u32 = 1;

/// Writes a line for each record.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, story: &Story<'_>) -> io::Result<()> {
    for step in &story.steps {
        writeln!(out, "{}", Line { story, step })?;
    }
    Ok(())
}

struct Line<'a> {
    story: &'a Story<'a>,
    step: &'a Step,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (story, record) = (self.story, &self.step.record);
        let is_packet = story.is_packet(record.id);
        let machine = story.host(self.step.machine);
        let place = match story.dev(self.step) {
            Some(dev) => format!("{machine}:{dev}"),
            None => machine.to_owned(),
        };
        write!(
            f,
            concat!(
                r#"{{"v":{},"packet":{},"span":{},"point":{},"file":{},"cpu":{},"context":{},"#,
                r#""ns":{},"dev":{},"len":{},"link":{},"drop":{}}}"#
            ),
            VERSION,
            Number(is_packet.then_some(record.id.0)),
            Number((!is_packet).then_some(record.id.0)),
            Text(Some(record.point.name())),
            Text(Some(record.point.file())),
            record.cpu,
            Text(Some(record.context.name())),
            record.time.0,
            Text(Some(&place)),
            Number(is_packet.then_some(u64::from(record.len))),
            Number(record.link().map(|id| id.0)),
            Text(record.drop_reason().map(|reason| reason.name())),
        )
    }
}

/// A JSON number.
pub(crate) struct Number(pub(crate) Option<u64>);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("null"),
        }
    }
}

/// A JSON string. Names of devices come from whoever made the device, so they are escaped.
pub(crate) struct Text<'a>(pub(crate) Option<&'a str>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.0 else { return f.write_str("null") };
        f.write_str("\"")?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests;
