//! `--pcap`: every frame that passes the TAP, as pcapng.
//!
//! Key type: [`Capture`] writes what a [`FrameTap`] has queued, on the command's own thread. A frame that the TAP had
//! no room for passes once more when it is sent again, as with taps in Linux.

use super::frame_tap::{Frame, FrameTap, Registered, Wanted};
use super::sink::{Progress, Sink};
use super::walk::WalkPrinter;
use host::wait::Waiter;
use hw::capture::{CaptureWriter, Packet, Statistics};
use stack::kernel::context::TaskCx;
use stack::kernel::machine::Machine;
use stack::net::core::dev::NetDevice;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// A capture being written.
pub(super) struct Capture {
    tap: Arc<FrameTap>,
    registered: Registered,
    writer: CaptureWriter<Sink>,
    interface: u32,
    /// Taken out of the queue and not yet in the sink's buffer.
    taken: VecDeque<Frame>,
    start: Duration,
}

impl Capture {
    /// Begins the file, then looks at every frame of `dev`.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) fn start(
        cx: &mut TaskCx,
        dev: &NetDevice,
        sink: Sink,
        waiter: &Arc<Waiter>,
    ) -> io::Result<Self> {
        let start = now(cx.machine());
        let mut writer = CaptureWriter::new(sink)?;
        let interface = writer.interface(&dev.name)?;
        writer.get_mut().end_block();
        let wanted = Wanted { dev: Some(dev.ifindex), filter: None, snaplen: usize::MAX };
        let tap = FrameTap::new(waiter, wanted);
        let registered = tap.register(cx);
        Ok(Self { tap, registered, writer, interface, taken: VecDeque::new(), start })
    }

    /// No more frames from here on; those queued are still to be written.
    pub(super) fn stop(&self, cx: &mut TaskCx) {
        self.registered.remove(cx);
    }

    /// Where it is written to.
    pub(super) fn sink(&mut self) -> &mut Sink {
        self.writer.get_mut()
    }

    /// Takes the frames that are to be written next. What led to a frame is recorded before the
    /// frame is queued: with the walk's records taken after this, each is found.
    pub(super) fn take(&mut self) {
        // Else the file is behind, and what comes has to find its place in the queue, or none.
        if self.taken.is_empty() {
            self.taken = self.tap.take();
        }
    }

    /// Writes what was taken, as far as the file takes it.
    ///
    /// # Errors
    /// Those of the file; then it is over.
    pub(super) fn write(&mut self, walk: Option<&WalkPrinter>) -> io::Result<()> {
        while self.sink().flow()? == Progress::Done {
            if self.taken.is_empty() {
                break;
            }
            while !self.sink().is_full()
                && let Some(frame) = self.taken.pop_front()
            {
                let comment = walk.and_then(|walk| walk.comment(&frame));
                self.writer.packet(&Packet {
                    interface: self.interface,
                    time: frame.real,
                    direction: frame.direction,
                    bytes: &frame.bytes,
                    len: frame.len,
                    comment: comment.as_ref().map(|comment| comment.text()),
                })?;
                self.writer.get_mut().end_block();
            }
        }
        Ok(())
    }

    /// Writes all that is left, and the statistics; `(frames, dropped)`.
    ///
    /// # Errors
    /// Those of the file; a pipe that nobody reads.
    pub(super) fn finish(
        &mut self,
        m: &Machine,
        walk: Option<&WalkPrinter>,
    ) -> io::Result<(u64, u64)> {
        loop {
            self.take();
            self.write(walk)?;
            if self.taken.is_empty() && self.sink().is_empty() {
                break;
            }
            self.sink().wait_for_room()?;
        }
        let (received, dropped) = self.tap.counts();
        let statistics = Statistics { start: self.start, end: now(m), received, dropped };
        self.writer.statistics(self.interface, &statistics)?;
        self.sink().end_block();
        while self.sink().flow()? == Progress::Stalled {
            self.sink().wait_for_room()?;
        }
        Ok((received - dropped, dropped))
    }

    /// The error is the end of a reader that has seen enough.
    pub(super) fn is_quiet(&mut self, error: &io::Error) -> bool {
        self.sink().is_stdout() && error.kind() == ErrorKind::BrokenPipe
    }
}

fn now(m: &Machine) -> Duration {
    Duration::from_nanos(m.ktime_get_real())
}
