//! The walk as a capture: an interface for each device of each machine, each frame with its
//! packet's walk up to there as a comment.
//!
//! Times are wall-clock times of the virtual world, in nanoseconds.

use super::{Story, is_link};
use crate::scenario::Frame;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use stack::kernel::trace::{WalkId, events::Point};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// The format's measure of an option is 16 bits.
const LONGEST_COMMENT: usize = 60_000;
/// Decimal digits of a second: nanoseconds.
const NANOSECONDS: u8 = 9;
/// `epb_flags`: the frame came in.
const INBOUND: u32 = 1;
/// `epb_flags`: the frame went out.
const OUTBOUND: u32 = 2;

/// Writes the capture.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, story: &Story<'_>) -> io::Result<()> {
    let mut writer = PcapNgWriter::new(out).map_err(plain)?;
    let mut interfaces = Vec::new();
    for (machine, host) in story.scene.hosts.iter().enumerate() {
        for (dev, name) in &host.devs {
            interfaces.push((machine as u16, *dev));
            let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
            block.options = vec![
                InterfaceDescriptionOption::IfName(format!("{}:{name}", host.name).into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ];
            writer.write_pcapng_block(block).map_err(plain)?;
        }
    }
    for frame in &story.scene.frames {
        let at = interfaces.iter().position(|at| *at == (frame.machine, frame.dev));
        let Some(at) = at else { continue };
        let block = EnhancedPacketBlock {
            interface_id: at as u32,
            timestamp: Duration::from_nanos(sim::clock::REAL_EPOCH + frame.time.0),
            original_len: frame.bytes.len() as u32,
            data: frame.bytes.as_slice().into(),
            options: vec![
                EnhancedPacketOption::Comment(comment(story, frame).into()),
                EnhancedPacketOption::Flags(if frame.outgoing { OUTBOUND } else { INBOUND }),
            ],
        };
        writer.write_pcapng_block(block).map_err(plain)?;
    }
    Ok(())
}

fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// The packet's walk, and that of the calls and interrupts it was handled in, up to the frame.
fn comment(story: &Story<'_>, frame: &Frame) -> String {
    let past = || story.steps.iter().take_while(|step| step.record.time <= frame.time);
    // The tap has a clone: the walk is the original's.
    let clone_of = |id: WalkId| {
        let mut links = past().filter(|s| s.record.id == id && s.record.point == Point::link_clone);
        links.find_map(|step| step.record.link())
    };
    let packet = clone_of(frame.packet).unwrap_or(frame.packet);
    let spans: BTreeSet<WalkId> =
        past().filter(|step| step.record.id == packet).map(|step| step.span).collect();
    let mut text = format!("{}\n", story.name(packet));
    for step in past() {
        let record = &step.record;
        let own = record.id == packet || spans.contains(&record.id);
        if !own || is_link(record.point) {
            continue;
        }
        let ns = record.time.0 - story.start();
        let line = format!(
            "{}.{:03} {} cpu{} {} {}\n",
            ns / 1000,
            ns % 1000,
            story.host(step.machine),
            record.cpu,
            record.context.name(),
            record.point.name(),
        );
        if text.len() + line.len() > LONGEST_COMMENT {
            let _fits = write!(text, "...");
            break;
        }
        text.push_str(&line);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests;
