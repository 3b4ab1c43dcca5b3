//! Capture files: what is written of a wire or a device, and a wire end joined to a file.
//!
//! Key types: [`CaptureFile`] joins a wire's outside end to a file, as [`Recorder`] or [`Replayer`];
//! [`CaptureWriter`] writes pcapng and is the only code of the project that does.
//! Contexts: any thread. Locks: none of its own.
//! Invariants: no clock and no thread: frames move in `step()`, at the time it is given. Memory is bounded whatever a
//! file says: one frame is held, and what a file describes is refused beyond fixed limits.

mod replay;
mod source;
mod write;

pub use replay::Replayer;
pub use source::ReplayError;
pub use write::{CaptureWriter, Direction, LONGEST_COMMENT, Packet, Statistics, fill_checksum};

use crate::wire::Outside;
use drivers::net::wire_port::FrameBatch;
use stack::kernel::time::Ktime;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// Frames taken off the wire at a time.
const BATCH: usize = 64;

/// Joins a wire to capture files. An [`Outside`] that is cloned may do both: play one file to a device, and record what
/// it answers.
#[derive(Debug)]
pub struct CaptureFile;

impl CaptureFile {
    /// Writes what the device at the other end sends, as pcapng, its interface called `name`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn record<W: Write>(end: Outside, name: &str, out: W) -> io::Result<Recorder<W>> {
        let mut writer = CaptureWriter::new(out)?;
        let interface = writer.interface(name)?;
        let (batch, recorded) = (FrameBatch::new(), 0);
        Ok(Recorder { end, writer, interface, batch, recorded, started: None, broken: None })
    }

    /// Sends the frames of a pcap or pcapng file to the device at the other end: the first one at `start`, each later
    /// one as long after it as the file says.
    ///
    /// # Errors
    /// [`ReplayError`] when the file does not begin as one of the two.
    pub fn replay<R: Read>(
        end: Outside,
        reader: R,
        start: Ktime,
    ) -> Result<Replayer<R>, ReplayError> {
        Replayer::new(end, reader, start)
    }
}

/// Writes what a device sends into a wire.
pub struct Recorder<W: Write> {
    end: Outside,
    writer: CaptureWriter<W>,
    interface: u32,
    batch: FrameBatch,
    recorded: u64,
    started: Option<Duration>,
    broken: Option<ErrorKind>,
}

impl<W: Write> Recorder<W> {
    /// Writes the frames sent since the last step, all with the time `now` since 1970; returns how many.
    ///
    /// # Errors
    /// Those of the file. From the first on nothing more is written, frames are still taken off the wire, and every
    /// step says so again.
    pub fn step(&mut self, now: Duration) -> io::Result<usize> {
        self.started.get_or_insert(now);
        let mut count = 0;
        loop {
            self.batch.clear();
            if self.end.drain(BATCH, &mut self.batch) == 0 {
                break;
            }
            count += self.batch.len();
            if self.broken.is_none()
                && let Err(error) = self.write_batch(now)
            {
                self.broken = Some(error.kind());
                return Err(error);
            }
        }
        match self.broken {
            Some(kind) => Err(kind.into()),
            None => Ok(count),
        }
    }

    fn write_batch(&mut self, time: Duration) -> io::Result<()> {
        for (bytes, meta) in self.batch.iter() {
            let mut frame = Packet {
                interface: self.interface,
                time,
                direction: Direction::Out,
                bytes,
                len: bytes.len(),
                comment: None,
            };
            let filled = meta.vnet.and_then(|vnet| {
                let mut bytes = bytes.to_vec();
                let start = usize::from(vnet.csum_start?);
                fill_checksum(&mut bytes, start, usize::from(vnet.csum_offset)).then_some(bytes)
            });
            if let Some(filled) = &filled {
                frame.bytes = filled;
            }
            self.writer.packet(&frame)?;
            self.recorded += 1;
        }
        Ok(())
    }

    /// Ends the file with a statistics block, whose drop count is of the frames that the wire had no room for; gives
    /// the file back.
    ///
    /// # Errors
    /// Those of the file; what was not taken by a last [`Recorder::step`] is not in it.
    pub fn finish(mut self, now: Duration) -> io::Result<W> {
        if let Some(kind) = self.broken {
            return Err(kind.into());
        }
        let dropped = self.end.end().dropped();
        let statistics = Statistics {
            start: self.started.unwrap_or(now),
            end: now,
            received: self.recorded + dropped,
            dropped,
        };
        self.writer.statistics(self.interface, &statistics)?;
        let mut out = self.writer.into_inner();
        out.flush()?;
        Ok(out)
    }

    /// Frames written so far.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.recorded
    }
}

impl<W: Write> fmt::Debug for Recorder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("end", &self.end)
            .field("recorded", &self.recorded)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
