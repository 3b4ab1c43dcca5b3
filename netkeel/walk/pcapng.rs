//! The walk as a capture: an interface for each device of each machine, each frame with its
//! packet's walk up to there as a comment.
//!
//! Times are wall-clock times of the virtual world, in nanoseconds.

use super::{Story, is_link};
use crate::scenario::Frame;
use hw::capture::{CaptureWriter, Direction, LONGEST_COMMENT, Packet};
use stack::kernel::trace::{Record, WalkId, events::Point};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

/// Writes the capture.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, story: &Story<'_>) -> io::Result<()> {
    let mut writer = CaptureWriter::new(out)?;
    let mut interfaces = Vec::new();
    for (machine, host) in story.scene.hosts.iter().enumerate() {
        for (dev, name) in &host.devs {
            let number = writer.interface(&format!("{}:{name}", host.name))?;
            interfaces.push(((machine as u16, *dev), number));
        }
    }
    for frame in &story.scene.frames {
        let at = interfaces.iter().find(|(at, _)| *at == (frame.machine, frame.dev));
        let Some(&(_, interface)) = at else { continue };
        writer.packet(&Packet {
            interface,
            time: Duration::from_nanos(sim::clock::REAL_EPOCH + frame.time.0),
            direction: if frame.outgoing { Direction::Out } else { Direction::In },
            bytes: &frame.bytes,
            len: frame.bytes.len(),
            comment: Some(comment(story, frame).text()),
        })?;
    }
    Ok(())
}

/// A frame's comment: its packet's name, then a line for each station.
pub(crate) struct Comment(String);

impl Comment {
    /// Begins with the packet's name.
    pub(crate) fn new(packet: &str) -> Self {
        Self(packet.to_owned())
    }

    /// Adds a station; false when there is room for no more.
    pub(crate) fn station(&mut self, when_and_where: &str, record: &Record) -> bool {
        let (context, point) = (record.context.name(), record.point.name());
        let line = format!("\n{when_and_where} cpu{} {context} {point}", record.cpu);
        let fits = self.0.len() + line.len() + MORE.len() <= LONGEST_COMMENT;
        self.0.push_str(if fits { &line } else { MORE });
        fits
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Stands for the stations that had no room.
const MORE: &str = "\n...";

/// The packet's walk, and that of the calls and interrupts it was handled in, up to the frame.
fn comment(story: &Story<'_>, frame: &Frame) -> Comment {
    let past = || story.steps.iter().take_while(|step| step.record.time <= frame.time);
    // The tap has a clone: the walk is the original's.
    let clone_of = |id: WalkId| {
        let mut links = past().filter(|s| s.record.id == id && s.record.point == Point::link_clone);
        links.find_map(|step| step.record.link())
    };
    let packet = clone_of(frame.packet).unwrap_or(frame.packet);
    let spans: BTreeSet<WalkId> =
        past().filter(|step| step.record.id == packet).map(|step| step.span).collect();
    let mut comment = Comment::new(&story.name(packet));
    for step in past() {
        let record = &step.record;
        let own = record.id == packet || spans.contains(&record.id);
        if !own || is_link(record.point) {
            continue;
        }
        let ns = record.time.0 - story.start();
        let at = format!("{}.{:03} {}", ns / 1000, ns % 1000, story.host(step.machine));
        if !comment.station(&at, record) {
            break;
        }
    }
    comment
}

#[cfg(test)]
mod tests;
