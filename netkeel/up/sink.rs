//! Where a capture goes: a file, or standard output.
//!
//! Key type: [`Sink`]. Contexts: the command's thread.
//! Invariants: a pipe whose reader is slow never holds up that thread: what does not go now stays
//! in the buffer, which is not filled further. A file that can't be written to its end is cut to
//! its last whole block, so what is there can be read.

use super::UpError;
use host::wait::{Interest, Token, Trigger, Waiter};
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// Octets collected before they are written.
const BUFFER: usize = 64 << 10;
/// Linux's PIPE_BUF: a pipe that is ready for writing takes so many octets without waiting.
const PIPE_BUF: usize = 4096;
/// At the stop, a reader who takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(2);
const ROOM: Token = Token(0);

/// How far the buffer was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// To its end.
    Done,
    /// The pipe has no room at present.
    Stalled,
}

/// A capture's file.
#[derive(Debug)]
pub(super) struct Sink {
    name: String,
    file: File,
    stdout: bool,
    /// Of a pipe: tells when there is room.
    pipe: Option<Waiter>,
    /// It is a file that may be cut.
    regular: bool,
    buf: Vec<u8>,
    /// So much of `buf` is written.
    done: usize,
    /// Where blocks end in `buf`.
    ends: Vec<usize>,
    /// Octets written before `buf`.
    before: u64,
    /// A pipe's reader is gone.
    closed: bool,
}

impl Sink {
    /// Creates the file; `-` is standard output.
    ///
    /// # Errors
    /// A terminal; what the system says, with the file's name.
    pub(super) fn open(path: &Path) -> Result<Self, UpError> {
        let name =
            if is_stdout(path) { "standard output".into() } else { path.display().to_string() };
        Self::open_as(path, name.clone()).map_err(|source| UpError::Capture { file: name, source })
    }

    fn open_as(path: &Path, name: String) -> io::Result<Self> {
        let stdout = is_stdout(path);
        let file = match stdout {
            true => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            false => File::create(path)?,
        };
        let kind = file.metadata()?.file_type();
        let pipe = kind.is_fifo().then(Waiter::new).transpose()?;
        if let Some(pipe) = &pipe {
            pipe.add(&file, ROOM, Trigger::OneShot)?;
        }
        let (buf, ends) = (Vec::new(), Vec::new());
        // Standard output may have been written to before, by somebody else.
        let regular = kind.is_file() && !stdout;
        Ok(Self { name, file, stdout, pipe, regular, buf, done: 0, ends, before: 0, closed: false })
    }

    /// What a user calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.stdout
    }

    /// Nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// It is time to write.
    pub(super) fn is_full(&self) -> bool {
        self.buf.len() >= BUFFER
    }

    /// A block has been written whole.
    pub(super) fn end_block(&mut self) {
        self.ends.push(self.buf.len());
    }

    /// Has a pipe's reader watched by `waiter`, as `token`.
    ///
    /// # Errors
    /// Those of the waiter.
    pub(super) fn watch(&self, waiter: &Waiter, token: Token) -> io::Result<()> {
        match &self.pipe {
            Some(_) => waiter.add(self, token, Trigger::OneShot),
            None => Ok(()),
        }
    }

    /// The watch has reported: room, or, where that was not asked for, the reader's end.
    pub(super) fn reported(&mut self) {
        self.closed |= self.is_empty();
    }

    /// Watches on: for room if there is something to write.
    ///
    /// # Errors
    /// Those of the waiter.
    pub(super) fn watch_on(&self, waiter: &Waiter, token: Token) -> io::Result<()> {
        let interest = if self.is_empty() { Interest::Read } else { Interest::ReadOrWrite };
        match &self.pipe {
            Some(_) => waiter.rearm_for(self, token, interest),
            None => Ok(()),
        }
    }

    /// Writes what is in the buffer, as far as that is possible at once.
    ///
    /// # Errors
    /// What the system says; then the file is cut to its last whole block.
    pub(super) fn flow(&mut self) -> io::Result<Progress> {
        if self.closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        while self.done < self.buf.len() {
            let mut next = &self.buf[self.done..];
            if let Some(pipe) = &self.pipe {
                if !has_room(pipe, &self.file, Duration::ZERO)? {
                    return Ok(Progress::Stalled);
                }
                next = &next[..next.len().min(PIPE_BUF)];
            }
            match self.file.write(next) {
                Ok(0) => return Err(self.cut(ErrorKind::WriteZero.into())),
                Ok(len) => self.done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cut(error)),
            }
        }
        self.before += self.buf.len() as u64;
        self.buf.clear();
        self.ends.clear();
        self.done = 0;
        Ok(Progress::Done)
    }

    fn cut(&self, error: io::Error) -> io::Error {
        if self.regular {
            let whole = self.ends.iter().rev().find(|end| **end <= self.done);
            // If this fails as well, the file ends in the middle of a block; the error told is the
            // one that led here.
            let _cut = self.file.set_len(self.before + whole.map_or(0, |end| *end as u64));
        }
        error
    }

    /// Waits until a pipe has room.
    ///
    /// # Errors
    /// When its reader takes nothing.
    pub(super) fn wait_for_room(&self) -> io::Result<()> {
        match &self.pipe {
            Some(pipe) if !has_room(pipe, &self.file, PATIENCE)? => {
                Err(io::Error::new(ErrorKind::TimedOut, "nobody reads the pipe"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `path` means standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// A capture's octets are not for a terminal.
pub(super) fn refuse_terminal(path: &Path) -> Result<(), UpError> {
    if is_stdout(path) && io::stdout().is_terminal() {
        let what = "--pcap -: a capture is not for a terminal; name a file, or pipe it on";
        return Err(UpError::Usage(what.to_owned()));
    }
    Ok(())
}

/// Also true when the reader is gone: the write then says so.
fn has_room(pipe: &Waiter, file: &File, within: Duration) -> io::Result<bool> {
    pipe.rearm_for(file, ROOM, Interest::ReadOrWrite)?;
    Ok(pipe.wait(Some(within))?.next().is_some())
}

impl Write for Sink {
    /// Into the buffer.
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.buf.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn over(file: File, regular: bool) -> Sink {
        let pipe = (!regular).then(|| Waiter::new().unwrap());
        if let Some(pipe) = &pipe {
            pipe.add(&file, ROOM, Trigger::OneShot).unwrap();
        }
        let (name, stdout, buf, ends) = (String::new(), false, Vec::new(), Vec::new());
        Sink { name, file, stdout, pipe, regular, buf, done: 0, ends, before: 0, closed: false }
    }

    #[test]
    fn a_slow_reader_of_a_pipe_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut sink = over(File::from(std::os::fd::OwnedFd::from(writer)), false);
        let data: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        sink.write_all(&data).unwrap();
        sink.end_block();
        assert_eq!(sink.flow().unwrap(), Progress::Stalled);
        let mut got = vec![0; data.len()];
        let mut len = 0;
        while sink.flow().unwrap() == Progress::Stalled {
            len += reader.read(&mut got[len..]).unwrap();
        }
        drop(sink);
        reader.read_exact(&mut got[len..]).unwrap();
        assert_eq!(got, data);
    }

    #[test]
    fn the_end_of_a_pipes_reader_is_seen_without_writing() {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = over(File::from(std::os::fd::OwnedFd::from(writer)), false);
        let (waiter, token) = (Waiter::new().unwrap(), Token(7));
        sink.watch(&waiter, token).unwrap();
        assert_eq!(waiter.wait(Some(Duration::ZERO)).unwrap().next(), None);
        drop(reader);
        assert_eq!(waiter.wait(Some(PATIENCE)).unwrap().next(), Some(token));
        sink.reported();
        assert_eq!(sink.flow().unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_file_that_fails_is_cut_to_its_last_whole_block() {
        let folder = std::env::temp_dir().join(format!("netkeel-sink-{}", std::process::id()));
        std::fs::write(&folder, [7; 100]).unwrap();
        let file = File::options().write(true).open(&folder).unwrap();
        let mut sink = over(file, true);
        for len in [30, 40, 30] {
            sink.write_all(&vec![7; len]).unwrap();
            sink.end_block();
        }
        // As after a write that took 80 octets and no more.
        sink.done = 80;
        sink.cut(ErrorKind::StorageFull.into());
        assert_eq!(std::fs::metadata(&folder).unwrap().len(), 70);
        std::fs::remove_file(&folder).unwrap();
    }
}
