//! Playing a capture file to the device at a wire's other end.

use super::source::{Entry, ReplayError, Source};
use crate::wire::Outside;
use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use stack::kernel::time::Ktime;
use std::fmt;
use std::io::Read;
use std::time::Duration;

/// Sends a file's frames into a wire, each in its time.
pub struct Replayer<R> {
    end: Outside,
    source: Source<R>,
    start: Ktime,
    /// The time of the file's first frame that has one.
    first: Option<Duration>,
    /// When the frame in `held` is to go.
    due: Ktime,
    /// The next frame, or none.
    held: FrameBatch,
    over: bool,
    sent: u64,
    skipped: u64,
}

impl<R: Read> Replayer<R> {
    pub(super) fn new(end: Outside, reader: R, start: Ktime) -> Result<Self, ReplayError> {
        let (source, held) = (Source::new(reader)?, FrameBatch::new());
        let (first, due, over) = (None, start, false);
        Ok(Self { end, source, start, first, due, held, over, sent: 0, skipped: 0 })
    }

    /// Sends every frame that is due at `now`; returns how many went. A frame that the wire does not take (its queue
    /// is full, or its carrier down) waits for the next step, and all others behind it.
    ///
    /// # Errors
    /// [`ReplayError`], once; the frames before it have gone, and nothing comes after it.
    pub fn step(&mut self, now: Ktime) -> Result<usize, ReplayError> {
        let mut count = 0;
        while self.next_at()?.is_some_and(|due| due <= now) {
            if self.end.end().transmit(&mut self.held) == 0 {
                break;
            }
            self.sent += 1;
            count += 1;
        }
        Ok(count)
    }

    /// Takes the next frame out of the file, whatever its time, for the caller to do with as he likes; `None` when all
    /// are out.
    ///
    /// # Errors
    /// As [`Replayer::step`].
    pub fn take_next(&mut self) -> Result<Option<Vec<u8>>, ReplayError> {
        self.next_at()?;
        let frame = self.held.get(0).map(|(frame, _)| frame.to_vec());
        self.held.clear();
        Ok(frame)
    }

    /// When the next frame is due; `None` when all have gone.
    ///
    /// # Errors
    /// As [`Replayer::step`].
    pub fn next_at(&mut self) -> Result<Option<Ktime>, ReplayError> {
        while self.held.is_empty() && !self.over {
            match self.source.next() {
                Ok(Some(Entry::Frame(frame, time))) => {
                    if let Some(time) = time {
                        let first = *self.first.get_or_insert(time);
                        // A file's times may go back; its order is that of the wire.
                        self.due = self.due.max(self.start + time.saturating_sub(first));
                    }
                    self.held.clear();
                    let _fits = self.held.push(frame, FrameMeta::default());
                }
                Ok(Some(Entry::Unfit)) => self.skipped += 1,
                Ok(None) => self.over = true,
                Err(error) => {
                    self.over = true;
                    return Err(error);
                }
            }
        }
        Ok((!self.held.is_empty()).then_some(self.due))
    }

    /// Frames sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Packets passed over so far: of links that are not Ethernet, or cut short when they were captured.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl<R> fmt::Debug for Replayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replayer")
            .field("end", &self.end)
            .field("sent", &self.sent)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}
